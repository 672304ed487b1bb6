//! Puts a bundle into a registry: first all that belongs to it, the tag last.

use std::fs::File;
use std::io::{self, Cursor, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use super::address::{Remote, Selector};
use super::auth::Access;
use super::client::{Client, DOCUMENT_MAX, referrers_tags};
use super::documents::{Descriptor, Document, EMPTY_CONTENT, IMAGE_INDEX, IMAGE_MANIFEST, Layout, with_referrer};
use super::error::{OciError, RegistryProblem};
use super::tag::check_pushed;
use twitcher_bundle::BundleReader;
use twitcher_bundle::InstallError;
use twitcher_bundle::Signature;
use twitcher_bundle::open_file;
use twitcher_bundle::{BLOCK, MANIFEST, SIGNATURE, padding};
use twitcher_bundle::{COMPONENT, FileFacts, Manifest, digest};
use twitcher_model::Digest;

/// How often an entry is made in an index that somebody else puts anew meanwhile.
const ATTEMPTS_MAX: usize = 3;

/// What is in the registry now.
#[derive(Debug)]
pub struct Pushed {
    /// What the bundle says of itself.
    pub manifest: Manifest,
    /// What names this version for ever.
    pub digest: Digest,
    /// Files that were sent, and those that were there.
    pub sent: usize,
    /// See `sent`.
    pub present: usize,
}

/// Pushes a bundle, of which every byte is checked first. Without `plain_http` only registries on loopback are spoken to without TLS.
pub fn push(file: &Path, remote: &Remote, plain_http: bool) -> Result<Pushed, OciError> {
    let attempt = || {
        if let Selector::Digest(_) = remote.selector {
            return Err(RegistryProblem::NoTag(format!(
                "{}/{}",
                remote.registry, remote.repository
            )));
        }
        let bundle = Bundle::open(file)?;
        check_pushed(remote, &bundle.manifest)?;
        let client = Client::new(remote, Access::Push, plain_http)?;
        send(client, bundle, &remote.selector)
    };
    attempt().map_err(|problem| problem.at(remote))
}

/// A bundle, checked.
struct Bundle {
    file: Arc<File>,
    manifest: Manifest,
    manifest_bytes: Vec<u8>,
    signature: Option<Vec<u8>>,
}

impl Bundle {
    fn open(path: &Path) -> Result<Self, RegistryProblem> {
        let wrong = |error| InstallError::Read {
            file: path.to_owned(),
            error,
        };
        let file = open_file(path)?;
        let reader = BundleReader::open(file.try_clone()?).map_err(wrong)?;
        let (manifest_bytes, signature) = (
            reader.manifest_bytes().to_owned(),
            reader.signature().map(Signature::to_bytes),
        );
        Ok(Self {
            manifest: reader.check().map_err(wrong)?,
            file: Arc::new(file),
            manifest_bytes,
            signature,
        })
    }

    /// Every file beside the manifest and its signature, in the form in which a bundle is always packed.
    fn sections(&self) -> Vec<(String, FileFacts, Section)> {
        let mut at = 0;
        let mut entry = |size: u64| {
            let content = at + BLOCK as u64;
            at = content + size + padding(size) as u64;
            Section {
                file: self.file.clone(),
                at: content,
                left: size,
            }
        };
        entry(self.manifest_bytes.len() as u64);
        if let Some(signature) = &self.signature {
            entry(signature.len() as u64);
        }
        let files = self.manifest.files();
        files.map(|(name, facts)| (name, facts, entry(facts.size))).collect()
    }
}

/// Part of a file, read from wherever the file's own position is.
#[derive(Clone)]
struct Section {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.file.read_at(&mut buffer[..most], self.at)?;
        self.at += length as u64;
        self.left -= length as u64;
        Ok(length)
    }
}

fn send(mut client: Client, bundle: Bundle, tag: &Selector) -> Result<Pushed, RegistryProblem> {
    let sections = bundle.sections();
    let mut wasm = Vec::new();
    if let Some((_, _, component)) = sections.iter().find(|(name, ..)| name == COMPONENT) {
        component.clone().read_to_end(&mut wasm)?;
    }
    let signature = bundle.signature.as_deref();
    let layout =
        Layout::of(&bundle.manifest, &bundle.manifest_bytes, signature, &wasm).map_err(RegistryProblem::Describe)?;
    drop(wasm);
    let mut sent = Vec::new();
    for (name, facts, section) in sections {
        sent.push(client.put_blob(facts, &name, || section.clone())?);
    }
    let small = [
        (MANIFEST, Some(bundle.manifest_bytes.as_slice())),
        (SIGNATURE, signature),
        ("configuration", Some(&layout.config.bytes)),
        ("empty configuration", Some(EMPTY_CONTENT)),
    ];
    for (name, bytes) in small {
        if let Some(bytes) = bytes {
            let bytes = bytes.to_vec();
            sent.push(client.put_blob(FileFacts::of(&bytes), name, || Cursor::new(bytes.clone()))?);
        }
    }
    // A subject that is not there yet may be refused, and what the tag leads to must be complete.
    let component = put(&mut client, &layout.component, "manifest of the component")?.0;
    let (_, noted) = put(&mut client, &layout.companion, "manifest of the bundle")?;
    if !noted {
        refer_by_tag(&mut client, component, &layout.companion)?;
    }
    client.put_document(
        tag,
        IMAGE_MANIFEST,
        &layout.component.bytes,
        "manifest of the component",
    )?;
    Ok(Pushed {
        manifest: bundle.manifest,
        digest: component,
        sent: sent.iter().filter(|sent| **sent).count(),
        present: sent.iter().filter(|sent| !**sent).count(),
    })
}

fn put(client: &mut Client, document: &Document, what: &str) -> Result<(Digest, bool), RegistryProblem> {
    let digest = digest(&document.bytes);
    let noted = client.put_document(&Selector::Digest(digest), IMAGE_MANIFEST, &document.bytes, what)?;
    Ok((digest, noted))
}

/// Enters the artifact where it is found in a registry that does not know what a subject is, and looks whether it is found there.
fn refer_by_tag(client: &mut Client, subject: Digest, companion: &Document) -> Result<(), RegistryProblem> {
    let what = "index of referrers";
    let mut problem = RegistryProblem::Malformed {
        what: what.to_owned(),
        why: "what is put there does not come back, so nobody could pull the bundle".to_owned(),
    };
    for tag in referrers_tags(subject) {
        match refer_at(client, &tag, &companion.descriptor, what) {
            Ok(true) => return Ok(()),
            Ok(false) => {}
            Err(unreachable @ RegistryProblem::Unreachable { .. }) => return Err(unreachable),
            Err(other) => problem = other,
        }
    }
    Err(problem)
}

/// Enters the artifact in the index at a tag. False if the registry takes the tag for something else.
fn refer_at(client: &mut Client, tag: &Selector, companion: &Descriptor, what: &str) -> Result<bool, RegistryProblem> {
    let malformed = |why: String| RegistryProblem::Malformed {
        what: what.to_owned(),
        why,
    };
    let mut there = client.index(tag)?;
    // Somebody else may put an index there at the same time, in place of ours.
    for _ in 0..ATTEMPTS_MAX {
        if there.as_ref().is_some_and(|there| there.lists(companion)) {
            return Ok(true);
        }
        let bytes = there.as_ref().map(|there| there.bytes.as_slice());
        let index = with_referrer(bytes, companion).map_err(|error| malformed(error.to_string()))?;
        if index.len() as u64 > DOCUMENT_MAX {
            return Err(malformed("it is full".to_owned()));
        }
        client.put_document(tag, IMAGE_INDEX, &index, what)?;
        there = client.index(tag)?;
        if there.is_none() {
            break;
        }
    }
    Ok(there.is_some_and(|there| there.lists(companion)))
}
