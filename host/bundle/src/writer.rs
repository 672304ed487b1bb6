//! Packs a bundle. The same manifest, signature and files give the same bytes, on every machine.

use std::io::{self, Read, Write};

use super::archive::{self, BLOCK, END};
use super::manifest::{FileFacts, Manifest};
use super::reader::{BundleReader, ReadError};
use super::signature::Signature;
use super::{MANIFEST, SIGNATURE};

/// Why a bundle cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// It cannot be written.
    #[error("cannot write the bundle: {0}")]
    Io(#[from] io::Error),
    /// A file is not as long as the manifest says.
    #[error("{0} is not as long as the manifest says")]
    Length(String),
    /// The bundle that it is made from is refused.
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// A bundle that is being packed.
#[derive(Debug)]
pub struct Writer<W> {
    to: W,
}

impl<W: Write> Writer<W> {
    /// Begins with the manifest, as it was signed, and its signature. The files follow in the order of [`Manifest::files`].
    pub fn new(to: W, manifest: &[u8], signature: Option<&Signature>) -> Result<Self, WriteError> {
        let mut writer = Self { to };
        writer.file(MANIFEST, manifest.len() as u64, &mut &*manifest)?;
        if let Some(signature) = signature {
            let bytes = signature.to_bytes();
            writer.file(SIGNATURE, bytes.len() as u64, &mut bytes.as_slice())?;
        }
        Ok(writer)
    }

    /// Adds a file.
    pub fn file(&mut self, name: &str, size: u64, content: &mut impl Read) -> Result<(), WriteError> {
        self.to.write_all(&archive::header(name, size))?;
        if io::copy(&mut content.take(size), &mut self.to)? != size {
            return Err(WriteError::Length(name.to_owned()));
        }
        self.pad(size)
    }

    fn pad(&mut self, size: u64) -> Result<(), WriteError> {
        let zeros = [0; BLOCK];
        Ok(self.to.write_all(&zeros[..archive::padding(size)])?)
    }

    /// Ends the bundle.
    pub fn finish(mut self) -> Result<W, WriteError> {
        self.to.write_all(&END)?;
        Ok(self.to)
    }
}

/// Packs a bundle again with another signature, or none. Everything is checked on the way.
pub fn sign_again<R: Read, W: Write>(
    mut from: BundleReader<R>,
    signature: Option<&Signature>,
    to: W,
) -> Result<W, WriteError> {
    let mut writer = Writer::new(to, from.manifest_bytes(), signature)?;
    while let Some((name, FileFacts { size, .. })) = from.next_file()? {
        writer.to.write_all(&archive::header(&name, size))?;
        loop {
            let chunk = from.chunk()?;
            if chunk.is_empty() {
                break;
            }
            writer.to.write_all(chunk)?;
        }
        writer.pad(size)?;
    }
    writer.finish()
}

/// Packs a bundle of files that are in memory. `content` gives the one at a path of the manifest.
pub fn pack<'a, W: Write>(
    manifest: &Manifest,
    manifest_bytes: &[u8],
    signature: Option<&Signature>,
    content: impl Fn(&str) -> Option<&'a [u8]>,
    to: W,
) -> Result<W, WriteError> {
    let mut writer = Writer::new(to, manifest_bytes, signature)?;
    for (name, facts) in manifest.files() {
        let mut bytes = content(&name).unwrap_or_default();
        if bytes.len() as u64 != facts.size {
            return Err(WriteError::Length(name));
        }
        writer.file(&name, facts.size, &mut bytes)?;
    }
    writer.finish()
}
