//! Gets a bundle from a registry, and believes nothing of it: what describes and signs the rest comes first, and what is written is
//! read like any bundle.
//!
//! Whether whoever signed it is trusted is for the caller to ask, before it fetches the rest.

use std::fs::File;
use std::io::{self, BufWriter, Seek, Write};
use std::os::unix::fs::FileExt;

use serde::Deserialize;

use super::address::{Remote, Selector};
use super::auth::Access;
use super::client::{Client, DOCUMENT_MAX, Document, parse, referrers_tags};
use super::documents::{
    BUNDLE, BUNDLE_MANIFEST, BUNDLE_NATIVE, BUNDLE_SIGNATURE, Descriptor, IMAGE_INDEX, IMAGE_MANIFEST, ImageManifest,
    MANIFEST_DIGEST, SIGNATURE_DIGEST, WASM, WASM_CONFIG, WASM_TYPES, parse_named,
};
use super::error::{OciError, RegistryProblem, printable};
use super::tag::check_pulled;
use twitcher_bundle::BundleReader;
use twitcher_bundle::Writer;
use twitcher_bundle::{FileFacts, MANIFEST_MAX, Manifest};
use twitcher_bundle::{MANIFEST, SIGNATURE};
use twitcher_bundle::{SIGNATURE_MAX, Signature};
use twitcher_model::{Digest, WASM_MAX};

/// Most artifacts of our type that are looked at, to find the one that belongs to a component.
const CANDIDATES_MAX: usize = 16;
/// How WebAssembly begins.
const WASM_MAGIC: &[u8; 4] = b"\0asm";

/// A bundle in a registry, of which the manifest and the signature were fetched.
#[derive(Debug)]
pub struct Offer {
    client: Client,
    remote: Remote,
    manifest: Manifest,
    manifest_bytes: Vec<u8>,
    signature: Option<Signature>,
    digest: Digest,
}

impl Offer {
    /// Looks what is there. It must be called `name`, or as the repository is, and be what the tag says. Without `plain_http` only registries on loopback are spoken to without TLS.
    pub fn of(remote: &Remote, name: Option<&str>, plain_http: bool) -> Result<Self, OciError> {
        let attempt = || {
            let mut client = Client::new(remote, Access::Pull, plain_http)?;
            let (component, digest) = resolve(&mut client, remote)?;
            let expected = Expected::of(&component)?;
            let companion = companion(&mut client, digest, &expected)?;
            let manifest_bytes = layer(&mut client, &companion, BUNDLE_MANIFEST, MANIFEST, MANIFEST_MAX)?;
            let manifest = Manifest::parse(&manifest_bytes)?;
            let signature = match expected.signature {
                Some(_) => {
                    let bytes = layer(&mut client, &companion, BUNDLE_SIGNATURE, SIGNATURE, SIGNATURE_MAX)?;
                    Some(Signature::of_bundle(&bytes)?)
                }
                None => None,
            };
            check(&manifest, &component, &companion)?;
            check_pulled(remote, name.unwrap_or(remote.name()), &manifest, &remote.at(digest))?;
            Ok(Self {
                client,
                remote: remote.clone(),
                manifest,
                manifest_bytes,
                signature,
                digest,
            })
        };
        attempt().map_err(|problem: RegistryProblem| problem.at(remote))
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

    /// What names this version for ever.
    pub fn remote(&self) -> Remote {
        self.remote.at(self.digest)
    }

    /// Fetches the rest into an empty file, and reads the whole once more as a bundle.
    pub fn write(&mut self, to: &mut File) -> Result<(), RegistryProblem> {
        let mut writer = Writer::new(BufWriter::new(&mut *to), &self.manifest_bytes, self.signature.as_ref())?;
        for (name, facts) in self.manifest.files() {
            let mut blob = self.client.blob(facts, &name)?;
            let written = writer.file(&name, facts.size, &mut blob);
            // Whatever is wrong with it says more than that it cannot be written.
            blob.finish()?;
            written?;
        }
        writer.finish()?.flush()?;
        to.rewind()?;
        BundleReader::open(&*to)?.check()?;
        Ok(())
    }
}

/// Fetches a component alone into an empty file, also one that is no bundle and that another tool pushed. Returns what names it for ever.
pub fn component(remote: &Remote, plain_http: bool, to: &mut File) -> Result<Remote, RegistryProblem> {
    let mut client = Client::new(remote, Access::Pull, plain_http)?;
    let what = shown(remote);
    let (document, head) = look(&mut client, &remote.selector, &what)?;
    let mut digest = document.digest;
    let mut manifest = document.bytes;
    if head.is_index() {
        let Some([entry]) = head.manifests.as_deref() else {
            return Err(head.several());
        };
        digest = facts(entry, DOCUMENT_MAX as usize)?.sha256;
        let (document, head) = look(&mut client, &Selector::Digest(digest), "manifest that the index names")?;
        if head.is_index() {
            return Err(RegistryProblem::NotComponent("it is an index of an index".to_owned()));
        }
        manifest = document.bytes;
    }
    let manifest: ImageManifest = parse(&manifest, &what)?;
    let mut blob = client.blob(facts(wasm_layer(&manifest)?, WASM_MAX)?, "component")?;
    let copied = io::copy(&mut blob, to);
    blob.finish()?;
    copied?;
    // Of what other tools push, the name of the file may be all that says what it is.
    let mut magic = [0; WASM_MAGIC.len()];
    match to.read_exact_at(&mut magic, 0) {
        Ok(()) if magic == *WASM_MAGIC => Ok(remote.at(digest)),
        _ => Err(RegistryProblem::NotComponent(
            "its layer does not begin as WebAssembly does".to_owned(),
        )),
    }
}

/// The layer that is WebAssembly, by its type; else by the name of its file, which is all that `oras push FILE` says.
fn wasm_layer(manifest: &ImageManifest) -> Result<&Descriptor, RegistryProblem> {
    let by_type = |layer: &&Descriptor| WASM_TYPES.contains(&layer.media_type.as_str());
    let by_name = |layer: &&Descriptor| layer.title().is_some_and(|title| title.ends_with(".wasm"));
    for found in [
        manifest.layers.iter().filter(by_type).collect::<Vec<_>>(),
        manifest.layers.iter().filter(by_name).collect(),
    ] {
        match found.as_slice() {
            [] => {}
            [layer] => return Ok(layer),
            several => {
                let why = format!("{} of its layers are WebAssembly, and one is expected", several.len());
                return Err(RegistryProblem::NotComponent(why));
            }
        }
    }
    let types: Vec<String> = manifest.layers.iter().map(|layer| layer.media_type.clone()).collect();
    Err(RegistryProblem::NotComponent(match manifest.layers.as_slice() {
        [layer] => format!("its layer is of type {}, not {WASM}", printable(&layer.media_type)),
        layers => format!(
            "none of its {} layers is of type {WASM}, or named .wasm: {}",
            layers.len(),
            printable(&types.join(", "))
        ),
    }))
}

/// What a manifest is, before it is read as one.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    media_type: Option<String>,
    manifests: Option<Vec<Descriptor>>,
}

impl Head {
    fn is_index(&self) -> bool {
        self.manifests.is_some() || self.media_type.as_deref() == Some(IMAGE_INDEX)
    }

    fn several(&self) -> RegistryProblem {
        let images = self.manifests.as_ref().map_or(0, Vec::len);
        RegistryProblem::NotComponent(format!(
            "it is an index of {images} images: name one of them by its digest, @sha256:..."
        ))
    }
}

/// What is asked for, in words.
fn shown(remote: &Remote) -> String {
    match &remote.selector {
        Selector::Tag(tag) => format!("manifest with the tag {tag}"),
        Selector::Digest(_) => "manifest with this digest".to_owned(),
    }
}

fn look(client: &mut Client, which: &Selector, what: &str) -> Result<(Document, Head), RegistryProblem> {
    let document = client.document(which, what)?;
    let document = document.ok_or_else(|| RegistryProblem::NotFound(what.to_owned()))?;
    let head = parse(&document.bytes, what)?;
    Ok((document, head))
}

/// The manifest of the component.
fn resolve(client: &mut Client, remote: &Remote) -> Result<(ImageManifest, Digest), RegistryProblem> {
    let what = shown(remote);
    let (document, head) = look(client, &remote.selector, &what)?;
    if head.is_index() {
        return Err(head.several());
    }
    let manifest: ImageManifest = parse(&document.bytes, &what)?;
    let media_type = manifest.media_type.as_deref().unwrap_or(IMAGE_MANIFEST);
    if media_type != IMAGE_MANIFEST {
        let why = format!(
            "its manifest is of type {}, not {IMAGE_MANIFEST}",
            printable(media_type)
        );
        return Err(RegistryProblem::NotComponent(why));
    }
    let config = &manifest.config.media_type;
    // What other tools push may be a component all the same.
    if config != WASM_CONFIG {
        return match wasm_layer(&manifest) {
            Ok(_) => Err(RegistryProblem::Plain),
            Err(_) => Err(RegistryProblem::NotComponent(format!(
                "its configuration is of type {}, not {WASM_CONFIG}",
                printable(config)
            ))),
        };
    }
    only_layer(&manifest)?;
    Ok((manifest, document.digest))
}

fn only_layer(manifest: &ImageManifest) -> Result<&Descriptor, RegistryProblem> {
    match manifest.layers.as_slice() {
        [layer] if layer.media_type == WASM => Ok(layer),
        [layer] => Err(RegistryProblem::NotComponent(format!(
            "its layer is of type {}, not {WASM}",
            printable(&layer.media_type)
        ))),
        layers => Err(RegistryProblem::NotComponent(format!(
            "it has {} layers instead of one",
            layers.len()
        ))),
    }
}

/// What belongs to a component, as its manifest says.
#[derive(Debug, PartialEq, Eq)]
struct Expected {
    manifest: Digest,
    signature: Option<Digest>,
}

impl Expected {
    fn of(component: &ImageManifest) -> Result<Self, RegistryProblem> {
        let annotations = component.annotations.as_ref();
        let digest = |name: &str| {
            let text = annotations.and_then(|annotations| annotations.get(name));
            let wrong =
                || RegistryProblem::Inconsistent(format!("the annotation {name} of the component is not a digest"));
            text.map(|text| parse_named(text).ok_or_else(wrong)).transpose()
        };
        Ok(Self {
            manifest: digest(MANIFEST_DIGEST)?.ok_or(RegistryProblem::Plain)?,
            signature: digest(SIGNATURE_DIGEST)?,
        })
    }

    /// Whether an artifact is the one. Others may refer to the component too.
    fn is_of(&self, companion: &ImageManifest) -> bool {
        let digest = |media_type: &str| {
            let mut layers = companion.layers.iter();
            layers.find(|layer| layer.media_type == media_type)?.sha256()
        };
        digest(BUNDLE_MANIFEST) == Some(self.manifest) && digest(BUNDLE_SIGNATURE) == self.signature
    }
}

/// Finds the artifact that makes a component a bundle: by the API for referrers, else at the tags where pushing enters it.
fn companion(client: &mut Client, subject: Digest, expected: &Expected) -> Result<ImageManifest, RegistryProblem> {
    let mut said = Vec::new();
    let mut busy = false;
    match client.referrers(subject, BUNDLE, false)? {
        Ok(entries) => {
            if let Some(found) = fitting(client, subject, expected, &entries)? {
                return Ok(found);
            }
        }
        Err(none) => {
            busy = none.busy;
            said.push(none.said);
        }
    }
    for tag in referrers_tags(subject) {
        match client.index(&tag) {
            Ok(None) => {}
            Ok(Some(index)) => {
                if let Some(found) = fitting(client, subject, expected, &index.manifests)? {
                    return Ok(found);
                }
            }
            Err(unreachable @ RegistryProblem::Unreachable { .. }) => return Err(unreachable),
            Err(problem) => said.push(problem.to_string()),
        }
    }
    // Had it been at a tag, nobody would have had to wait.
    if busy {
        match client.referrers(subject, BUNDLE, true)? {
            Ok(entries) => {
                if let Some(found) = fitting(client, subject, expected, &entries)? {
                    return Ok(found);
                }
            }
            Err(none) => said = vec![none.said],
        }
    }
    let said = said.iter().map(|said| format!("; {said}")).collect();
    Err(RegistryProblem::Incomplete { artifact: BUNDLE, said })
}

/// The artifact among those that are listed. Others may refer to the component too.
fn fitting(
    client: &mut Client,
    subject: Digest,
    expected: &Expected,
    entries: &[Descriptor],
) -> Result<Option<ImageManifest>, RegistryProblem> {
    let what = "manifest of the bundle";
    // A registry need not filter, and a tag has them all.
    let ours = |entry: &&Descriptor| entry.artifact_type.as_deref().is_none_or(|kind| kind == BUNDLE);
    for entry in entries.iter().filter(ours).take(CANDIDATES_MAX) {
        let FileFacts { sha256, .. } = facts(entry, DOCUMENT_MAX as usize)?;
        let Some(document) = client.document(&Selector::Digest(sha256), what)? else {
            continue;
        };
        let artifact: ImageManifest = match parse(&document.bytes, what) {
            Ok(artifact) => artifact,
            Err(_) if entry.artifact_type.is_none() => continue,
            Err(error) => return Err(error),
        };
        let refers = artifact.subject.as_ref().and_then(Descriptor::sha256) == Some(subject);
        if refers && artifact.artifact_type.as_deref() == Some(BUNDLE) && expected.is_of(&artifact) {
            return Ok(Some(artifact));
        }
    }
    Ok(None)
}

/// Whether component, artifact and the bundle's own manifest speak of the same files, and of nothing else.
fn check(manifest: &Manifest, component: &ImageManifest, companion: &ImageManifest) -> Result<(), RegistryProblem> {
    let wrong = |why: String| Err(RegistryProblem::Inconsistent(why));
    if facts(only_layer(component)?, WASM_MAX)? != manifest.component {
        return wrong("its manifest speaks of another component".to_owned());
    }
    let known = [BUNDLE_MANIFEST, BUNDLE_SIGNATURE, BUNDLE_NATIVE];
    if let Some(layer) = companion
        .layers
        .iter()
        .find(|layer| !known.contains(&layer.media_type.as_str()))
    {
        return wrong(format!(
            "it has a layer of an unknown type, {}",
            printable(&layer.media_type)
        ));
    }
    for native in &manifest.native {
        let there = |layer: &&Descriptor| {
            let same = layer.sha256() == Some(native.sha256) && layer.size == native.size;
            same && layer.media_type == BUNDLE_NATIVE
        };
        if !companion.layers.iter().any(|layer| there(&layer)) {
            return wrong(format!("{} is not among its layers", native.path()));
        }
    }
    Ok(())
}

/// What a descriptor says, if it can be.
fn facts(descriptor: &Descriptor, most: usize) -> Result<FileFacts, RegistryProblem> {
    let wrong = |why: String| RegistryProblem::Inconsistent(why);
    let sha256 = descriptor.sha256().ok_or_else(|| {
        let digest = printable(&descriptor.digest);
        wrong(format!(
            "{digest:?} is not a digest: expected sha256: and 64 hexadecimal digits"
        ))
    })?;
    match descriptor.size <= most as u64 {
        true => Ok(FileFacts {
            size: descriptor.size,
            sha256,
        }),
        false => Err(RegistryProblem::TooLarge {
            what: printable(&descriptor.media_type),
            most: most as u64,
        }),
    }
}

fn layer(
    client: &mut Client,
    companion: &ImageManifest,
    media_type: &str,
    name: &str,
    most: usize,
) -> Result<Vec<u8>, RegistryProblem> {
    let mut layers = companion.layers.iter();
    let layer = layers.find(|layer| layer.media_type == media_type);
    let layer = layer.ok_or_else(|| RegistryProblem::Inconsistent(format!("{name} is not among its layers")))?;
    client.small_blob(facts(layer, most)?, name)
}
