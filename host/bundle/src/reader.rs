//! Reads a bundle as it comes, and believes nothing of it: each file is exactly what the manifest says, or there is an error.
//!
//! It is one pass with bounded memory, also over a pipe. Only what [`BundleReader::chunk`] has returned an empty chunk after is whole: what
//! came before must not be used. Whether whoever signed the manifest is trusted is for [`super::trust`] to say.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use super::archive::{self, BLOCK, Block, END};
use super::manifest::{FileFacts, MANIFEST_MAX, Manifest, ManifestError};
use super::signature::{SIGNATURE_MAX, Signature, SignatureError};
use super::{MANIFEST, SIGNATURE};
use twitcher_model::Digest;

/// Most that is read at once, in bytes: it fits into the processor's cache, where it is hashed.
const CHUNK: usize = 128 << 10;

/// How WebAssembly begins.
const WASM: &[u8] = b"\0asm";

/// Why a bundle is refused.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read.
    #[error("cannot read the bundle: {0}")]
    Io(#[from] io::Error),
    /// It is a component.
    #[error(
        "it is WebAssembly, not a bundle of it: `twitcher bundle build FILE --name NAME --version VERSION` makes one, and Wasm(\"./FILE\") \
         runs it as it is"
    )]
    Component,
    /// It is cut off.
    #[error("the bundle is cut off in {0}")]
    Truncated(String),
    /// Something else is where this should be.
    #[error("expected {expected}: {found}")]
    Unexpected {
        /// What should be there.
        expected: String,
        /// What is.
        found: String,
    },
    /// A file is too large.
    #[error("{name} claims {size} bytes, and at most {most} are allowed")]
    TooLarge {
        /// Name of the file in the bundle.
        name: &'static str,
        /// What its header claims.
        size: u64,
        /// What is allowed.
        most: usize,
    },
    /// The manifest is refused.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The signature is not one.
    #[error(transparent)]
    Signature(#[from] SignatureError),
    /// A file is not the one that the manifest speaks of.
    #[error("{file} is damaged: its SHA-256 is {found}, and the manifest says {expected}")]
    Digest {
        /// Name of the file in the bundle.
        file: String,
        /// The SHA-256 of what is there.
        found: Digest,
        /// The SHA-256 in the manifest.
        expected: Digest,
    },
    /// What fills the last block is not zeros.
    #[error("there is something between the end of {0} and the next entry")]
    Padding(String),
    /// The bundle goes on after its end.
    #[error("there is something after the end of the bundle")]
    Trailing,
}

/// A bundle that is being read.
#[derive(Debug)]
pub struct BundleReader<R> {
    source: R,
    manifest: Manifest,
    manifest_bytes: Vec<u8>,
    signature: Option<Signature>,
    /// The header that was read to find out whether there is a signature.
    ahead: Option<Block>,
    /// The files that were begun.
    seen: Vec<String>,
    current: Option<Current>,
    ended: bool,
    buffer: Vec<u8>,
}

/// The file that is being read.
#[derive(Debug)]
struct Current {
    name: String,
    facts: FileFacts,
    left: u64,
    hasher: Sha256,
}

impl<R: Read> BundleReader<R> {
    /// Reads the manifest and the signature. `source` should not be buffered: it is read in large pieces.
    pub fn open(mut source: R) -> Result<Self, ReadError> {
        let first = first_block(&mut source)?;
        let manifest_bytes = small(&mut source, &first, MANIFEST, MANIFEST_MAX)?;
        let manifest = Manifest::parse(&manifest_bytes)?;
        let mut ahead = Some(block(&mut source, "the header after manifest.json")?);
        let mut seen = vec![MANIFEST.to_owned()];
        let mut signature = None;
        if let Some(header) = ahead.take_if(|header| archive::is_named(header, SIGNATURE)) {
            let bytes = small(&mut source, &header, SIGNATURE, SIGNATURE_MAX)?;
            signature = Some(Signature::of_bundle(&bytes)?);
            seen.push(SIGNATURE.to_owned());
        }
        Ok(Self {
            source,
            manifest,
            manifest_bytes,
            signature,
            ahead,
            seen,
            current: None,
            ended: false,
            buffer: vec![0; CHUNK],
        })
    }

    /// What the bundle says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The manifest as it was signed.
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.manifest_bytes
    }

    /// The signature of the manifest, which nobody has verified yet.
    pub fn signature(&self) -> Option<&Signature> {
        self.signature.as_ref()
    }

    /// Goes on to the next file, and returns where in the bundle it is. None after the last, once the end was found where it should be.
    pub fn next_file(&mut self) -> Result<Option<(String, FileFacts)>, ReadError> {
        while !self.chunk()?.is_empty() {}
        // The manifest and its signature are not among its own files.
        let done = self.seen.len() - 1 - usize::from(self.signature.is_some());
        let Some((name, facts)) = self.manifest.files().nth(done) else {
            self.end()?;
            return Ok(None);
        };
        let header = match self.ahead.take() {
            Some(header) => header,
            None => block(&mut self.source, &name)?,
        };
        if header != archive::header(&name, facts.size) {
            return Err(ReadError::Unexpected {
                found: archive::why_not(&header, &name, Some(facts.size), &self.seen),
                expected: name,
            });
        }
        self.seen.push(name.clone());
        self.current = Some(Current {
            name: name.clone(),
            facts,
            left: facts.size,
            hasher: Sha256::new(),
        });
        Ok(Some((name, facts)))
    }

    /// The next bytes of the present file. When they are none, the file is whole and is the one that the manifest speaks of.
    pub fn chunk(&mut self) -> Result<&[u8], ReadError> {
        let Some(current) = &mut self.current else {
            return Ok(&[]);
        };
        let most = usize::try_from(current.left)
            .unwrap_or(usize::MAX)
            .min(self.buffer.len());
        if most > 0 {
            let length = match self.source.read(&mut self.buffer[..most]) {
                Ok(0) => return Err(ReadError::Truncated(current.name.clone())),
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => return self.chunk(),
                Err(error) => return Err(error.into()),
            };
            current.left -= length as u64;
            current.hasher.update(&self.buffer[..length]);
            return Ok(&self.buffer[..length]);
        }
        let Some(current) = self.current.take() else {
            return Ok(&[]);
        };
        let found = Digest(current.hasher.finalize().into());
        if found != current.facts.sha256 {
            return Err(ReadError::Digest {
                file: current.name,
                found,
                expected: current.facts.sha256,
            });
        }
        padding(&mut self.source, current.facts.size, &current.name)?;
        Ok(&[])
    }

    /// Reads to the end: whether the bundle is whole and every file the one that the manifest speaks of.
    pub fn check(mut self) -> Result<Manifest, ReadError> {
        while self.next_file()?.is_some() {}
        Ok(self.manifest)
    }

    fn end(&mut self) -> Result<(), ReadError> {
        if self.ended {
            return Ok(());
        }
        let mut end = [1; END.len()];
        fill(&mut self.source, &mut end, "its end")?;
        if end != END {
            let mut header = [0; BLOCK];
            header.copy_from_slice(&end[..BLOCK]);
            return Err(ReadError::Unexpected {
                expected: "the end of the bundle".to_owned(),
                found: archive::why_not(&header, "", None, &self.seen),
            });
        }
        loop {
            match self.source.read(&mut end[..1]) {
                Ok(0) => break,
                Ok(_) => return Err(ReadError::Trailing),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.ended = true;
        Ok(())
    }
}

fn fill(source: &mut impl Read, bytes: &mut [u8], what: &str) -> Result<(), ReadError> {
    source.read_exact(bytes).map_err(|error| match error.kind() {
        io::ErrorKind::UnexpectedEof => ReadError::Truncated(what.to_owned()),
        _ => error.into(),
    })
}

/// The first header, where something else may be that people take for a bundle, and that may be shorter than a header.
fn first_block(source: &mut impl Read) -> Result<Block, ReadError> {
    let mut beginning = Vec::with_capacity(BLOCK);
    source.take(BLOCK as u64).read_to_end(&mut beginning)?;
    if beginning.starts_with(WASM) {
        return Err(ReadError::Component);
    }
    Block::try_from(beginning).map_err(|_| ReadError::Truncated("its first header".to_owned()))
}

fn block(source: &mut impl Read, what: &str) -> Result<Block, ReadError> {
    let mut block = [0; BLOCK];
    fill(source, &mut block, what)?;
    Ok(block)
}

fn padding(source: &mut impl Read, size: u64, name: &str) -> Result<(), ReadError> {
    let mut block = [0; BLOCK];
    let padding = &mut block[..archive::padding(size)];
    fill(source, padding, name)?;
    match padding.iter().all(|byte| *byte == 0) {
        true => Ok(()),
        false => Err(ReadError::Padding(name.to_owned())),
    }
}

/// A file whose size only its header tells.
fn small(source: &mut impl Read, header: &Block, name: &'static str, most: usize) -> Result<Vec<u8>, ReadError> {
    // Without a size no header is the right one.
    let size = archive::size(header).unwrap_or_default();
    if *header != archive::header(name, size) {
        return Err(ReadError::Unexpected {
            expected: name.to_owned(),
            found: archive::why_not(header, name, None, &[]),
        });
    }
    let length = usize::try_from(size).ok().filter(|length| *length <= most);
    let Some(length) = length else {
        return Err(ReadError::TooLarge { name, size, most });
    };
    let mut bytes = vec![0; length];
    fill(source, &mut bytes, name)?;
    padding(source, size, name)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
