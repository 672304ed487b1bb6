//! What stands in a registry, as JSON: the documents of the OCI image specification as far as bundles need them.
//!
//! This module must not know how they are sent.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use twitcher_bundle::{COMPONENT, Manifest, NativeFacts, digest, parse_digest};
use twitcher_bundle::{MANIFEST, SIGNATURE};
use twitcher_interfaces as interfaces;
use twitcher_model::Digest;

/// An image manifest: of images once, of anything now.
pub(super) const IMAGE_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An index: a list of manifests.
pub(super) const IMAGE_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The configuration of something that has none.
pub(super) const EMPTY: &str = "application/vnd.oci.empty.v1+json";
/// The configuration of a component.
pub(super) const WASM_CONFIG: &str = "application/vnd.wasm.config.v0+json";
/// A component, or a core module.
pub(super) const WASM: &str = "application/wasm";
/// That, and what tools wrote before there was a layout of the CNCF.
pub(super) const WASM_TYPES: [&str; 3] = [
    WASM,
    "application/vnd.wasm.content.layer.v1+wasm",
    "application/vnd.module.wasm.content.layer.v1+wasm",
];
/// The artifact that makes a component a bundle.
pub(super) const BUNDLE: &str = "application/vnd.twitcher.bundle.v1+json";
/// Its layers.
pub(super) const BUNDLE_MANIFEST: &str = "application/vnd.twitcher.bundle.manifest.v1+json";
/// The signature.
pub(super) const BUNDLE_SIGNATURE: &str = "application/vnd.twitcher.bundle.signature.v1";
/// Native code.
pub(super) const BUNDLE_NATIVE: &str = "application/vnd.twitcher.bundle.native.v1";

/// Annotations.
pub(super) const MANIFEST_DIGEST: &str = "vnd.twitcher.bundle.manifest";
/// Of the signature.
pub(super) const SIGNATURE_DIGEST: &str = "vnd.twitcher.bundle.signature";
const TITLE: &str = "org.opencontainers.image.title";
const VERSION: &str = "org.opencontainers.image.version";

/// The content of an empty configuration.
pub(super) const EMPTY_CONTENT: &[u8] = b"{}";

pub(super) type Annotations = BTreeMap<String, String>;

/// Where something is, and what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
}

impl Descriptor {
    fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: named(digest),
            size,
            artifact_type: None,
            annotations: None,
        }
    }

    fn of(media_type: &str, content: &[u8]) -> Self {
        Self::new(media_type, digest(content), content.len() as u64)
    }

    fn titled(mut self, path: &str) -> Self {
        self.annotations
            .get_or_insert_default()
            .insert(TITLE.to_owned(), path.to_owned());
        self
    }

    /// The name of its file.
    pub fn title(&self) -> Option<&str> {
        self.annotations.as_ref()?.get(TITLE).map(String::as_str)
    }

    /// The digest, if it is one that is used here.
    pub fn sha256(&self) -> Option<Digest> {
        parse_named(&self.digest)
    }
}

/// An image manifest.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ImageManifest {
    pub schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
    pub config: Descriptor,
    pub layers: Vec<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<Descriptor>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<Annotations>,
}

/// What refers to a manifest.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Index {
    pub manifests: Vec<Descriptor>,
}

/// An index at a tag, as it came.
#[derive(Debug)]
pub(super) struct TaggedIndex {
    pub bytes: Vec<u8>,
    pub manifests: Vec<Descriptor>,
}

impl TaggedIndex {
    /// Reads one; none if it is something else, such as an image manifest. Entries that make no sense are for others to make sense of.
    pub fn parse(bytes: Vec<u8>) -> Option<Self> {
        let index: Value = serde_json::from_slice(&bytes).ok()?;
        let entries = index.get("manifests")?.as_array()?.iter();
        let manifests = entries
            .filter_map(|entry| Descriptor::deserialize(entry).ok())
            .collect();
        Some(Self { bytes, manifests })
    }

    /// Whether this is one of its entries.
    pub fn lists(&self, entry: &Descriptor) -> bool {
        self.manifests.iter().any(|there| there.digest == entry.digest)
    }
}

/// The configuration of a component. The fields stand in this order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WasmConfig {
    created: &'static str,
    architecture: &'static str,
    os: &'static str,
    layer_digests: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    component: Option<WasmComponent>,
}

#[derive(Debug, Serialize)]
struct WasmComponent {
    exports: Vec<String>,
    imports: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
}

/// A document as it is sent.
#[derive(Debug)]
pub(super) struct Document {
    pub bytes: Vec<u8>,
    pub descriptor: Descriptor,
}

impl Document {
    fn new(media_type: &str, content: &impl Serialize) -> Result<Self, serde_json::Error> {
        let bytes = serde_json::to_vec(content)?;
        let descriptor = Descriptor::of(media_type, &bytes);
        Ok(Self { bytes, descriptor })
    }
}

/// All documents of a bundle.
#[derive(Debug)]
pub(super) struct Layout {
    /// The component's configuration.
    pub config: Document,
    /// What the tag stands for.
    pub component: Document,
    /// What refers to it.
    pub companion: Document,
}

impl Layout {
    /// The same bundle gives the same bytes.
    pub fn of(
        manifest: &Manifest,
        manifest_bytes: &[u8],
        signature: Option<&[u8]>,
        wasm: &[u8],
    ) -> Result<Self, serde_json::Error> {
        let layer = Descriptor::new(WASM, manifest.component.sha256, manifest.component.size).titled(COMPONENT);
        let config = Document::new(WASM_CONFIG, &wasm_config(manifest, &layer, wasm))?;
        let mut digests = Annotations::from([(MANIFEST_DIGEST.to_owned(), named(digest(manifest_bytes)))]);
        if let Some(signature) = signature {
            digests.insert(SIGNATURE_DIGEST.to_owned(), named(digest(signature)));
        }
        let mut annotations = digests.clone();
        annotations.insert(TITLE.to_owned(), manifest.name.clone());
        annotations.insert(VERSION.to_owned(), manifest.version.to_string());
        let component = Document::new(
            IMAGE_MANIFEST,
            &ImageManifest {
                schema_version: 2,
                media_type: Some(IMAGE_MANIFEST.to_owned()),
                artifact_type: None,
                config: config.descriptor.clone(),
                layers: vec![layer],
                subject: None,
                annotations: Some(annotations),
            },
        )?;
        let mut layers = vec![Descriptor::of(BUNDLE_MANIFEST, manifest_bytes).titled(MANIFEST)];
        layers.extend(signature.map(|signature| Descriptor::of(BUNDLE_SIGNATURE, signature).titled(SIGNATURE)));
        layers.extend(manifest.native.iter().map(native));
        let mut companion = Document::new(
            IMAGE_MANIFEST,
            &ImageManifest {
                schema_version: 2,
                media_type: Some(IMAGE_MANIFEST.to_owned()),
                artifact_type: Some(BUNDLE.to_owned()),
                config: Descriptor::of(EMPTY, EMPTY_CONTENT),
                layers,
                subject: Some(component.descriptor.clone()),
                annotations: Some(digests.clone()),
            },
        )?;
        // As it stands in an index of referrers.
        companion.descriptor.artifact_type = Some(BUNDLE.to_owned());
        companion.descriptor.annotations = Some(digests);
        Ok(Self {
            config,
            component,
            companion,
        })
    }
}

fn native(native: &NativeFacts) -> Descriptor {
    let mut descriptor = Descriptor::new(BUNDLE_NATIVE, native.sha256, native.size).titled(&native.path());
    let annotations = descriptor.annotations.get_or_insert_default();
    for (name, value) in [
        ("target", &native.target),
        ("profile", &native.profile),
        ("wasmtime", &native.wasmtime),
    ] {
        annotations.insert(format!("vnd.twitcher.bundle.{name}"), value.clone());
    }
    descriptor
}

fn wasm_config(manifest: &Manifest, layer: &Descriptor, wasm: &[u8]) -> WasmConfig {
    let component = interfaces::interfaces(wasm).map(|interfaces| {
        let world = manifest.world.to_string();
        let package = world.split_inclusive('/').next().unwrap_or_default();
        let mut own = interfaces.exports.iter().filter(|name| name.starts_with(package));
        let version = own.find_map(|name| name.split_once('@'));
        WasmComponent {
            target: version.map(|(_, version)| format!("{world}@{version}")),
            exports: interfaces.exports.into_iter().collect(),
            imports: interfaces.imports.into_iter().collect(),
        }
    });
    WasmConfig {
        // The time of a push would give each another digest.
        created: "1970-01-01T00:00:00Z",
        architecture: "wasm",
        // What is not a component is a module of WASI's first preview.
        os: component.as_ref().map_or("wasip1", |_| "wasip2"),
        layer_digests: vec![layer.digest.clone()],
        component,
    }
}

/// An index of referrers with one more entry. What others have entered stays as it is.
pub(super) fn with_referrer(index: Option<&[u8]>, entry: &Descriptor) -> Result<Vec<u8>, serde_json::Error> {
    let mut index: Value = match index {
        Some(index) => serde_json::from_slice(index)?,
        None => json!({"schemaVersion": 2, "mediaType": IMAGE_INDEX, "manifests": []}),
    };
    let Some(manifests) = index.get_mut("manifests").and_then(Value::as_array_mut) else {
        return Err(serde::de::Error::custom("it has no list of manifests"));
    };
    manifests.push(serde_json::to_value(entry)?);
    serde_json::to_vec(&index)
}

/// How registries write digests.
pub(super) fn named(digest: Digest) -> String {
    format!("sha256:{digest}")
}

/// Reads such a digest.
pub(super) fn parse_named(text: &str) -> Option<Digest> {
    text.strip_prefix("sha256:").and_then(parse_digest)
}

#[cfg(test)]
mod tests {
    use super::*;
    use twitcher_bundle::testing::{Sample, keys};

    fn layout(sample: &Sample, signature: Option<&[u8]>) -> Layout {
        let bytes = sample.manifest.to_bytes().unwrap();
        Layout::of(&sample.manifest, &bytes, signature, &sample.files[COMPONENT]).unwrap()
    }

    #[test]
    fn one_bundle_has_one_digest_and_another_signature_another() {
        let sample = Sample::new("hello", "1.0.0");
        let (key, _) = keys();
        let signature = sample.sign(&key).to_bytes();
        let once = layout(&sample, Some(&signature));
        let again = layout(&sample, Some(&signature));
        assert_eq!(once.component.bytes, again.component.bytes);
        assert_eq!(once.companion.bytes, again.companion.bytes);
        assert_ne!(once.component.descriptor, layout(&sample, None).component.descriptor);
        assert_ne!(
            once.component.descriptor,
            layout(&Sample::new("hello", "1.0.1"), Some(&signature))
                .component
                .descriptor
        );
    }

    #[test]
    fn the_component_is_laid_out_as_the_cncf_says() {
        let wat = r#"(component
            (import "wasi:cli/environment@0.2.3" (instance))
            (instance $run)
            (export "wasi:cli/run@0.2.3" (instance $run)))"#;
        let mut sample = Sample::new("hello", "1.0.0");
        sample.manifest.world = twitcher_bundle::World::Command;
        sample.files.insert(COMPONENT.to_owned(), wat::parse_str(wat).unwrap());
        let layout = layout(&sample, None);
        let config: Value = serde_json::from_slice(&layout.config.bytes).unwrap();
        assert_eq!(
            config,
            json!({
                "created": "1970-01-01T00:00:00Z",
                "architecture": "wasm",
                "os": "wasip2",
                "layerDigests": [named(sample.manifest.component.sha256)],
                "component": {
                    "exports": ["wasi:cli/run@0.2.3"],
                    "imports": ["wasi:cli/environment@0.2.3"],
                    "target": "wasi:cli/command@0.2.3",
                },
            })
        );
        let manifest: Value = serde_json::from_slice(&layout.component.bytes).unwrap();
        assert_eq!(manifest["config"]["mediaType"], WASM_CONFIG);
        assert_eq!(manifest["layers"].as_array().unwrap().len(), 1);
        assert_eq!(manifest["layers"][0]["mediaType"], WASM);
        assert_eq!(manifest["mediaType"], IMAGE_MANIFEST);
        let companion: Value = serde_json::from_slice(&layout.companion.bytes).unwrap();
        assert_eq!(companion["artifactType"], BUNDLE);
        assert_eq!(companion["subject"]["digest"], layout.component.descriptor.digest);
        assert_eq!(companion["layers"][1]["mediaType"], BUNDLE_NATIVE);
    }

    #[test]
    fn a_module_is_not_said_to_be_a_component() {
        let mut sample = Sample::new("hello", "1.0.0");
        sample
            .files
            .insert(COMPONENT.to_owned(), wat::parse_str("(module)").unwrap());
        let config: Value = serde_json::from_slice(&layout(&sample, None).config.bytes).unwrap();
        assert_eq!(config["os"], "wasip1");
        assert!(config.get("component").is_none());
    }

    #[test]
    fn entries_of_others_stay_in_the_index() {
        let theirs =
            r#"{"schemaVersion":2,"mediaType":"x","more":[1],"manifests":[{"digest":"sha256:a","size":1,"odd":{}}]}"#;
        let entry = Descriptor::of(IMAGE_MANIFEST, b"x");
        let index = with_referrer(Some(theirs.as_bytes()), &entry).unwrap();
        let parsed: Value = serde_json::from_slice(&index).unwrap();
        assert_eq!(parsed["more"], json!([1]));
        assert_eq!(
            parsed["manifests"][0],
            json!({"digest": "sha256:a", "size": 1, "odd": {}})
        );
        assert_eq!(parsed["manifests"][1]["digest"], entry.digest);
        let fresh = with_referrer(None, &entry).unwrap();
        assert_eq!(
            serde_json::from_slice::<Index>(&fresh).unwrap().manifests,
            std::slice::from_ref(&entry)
        );
        let there = TaggedIndex::parse(index).unwrap();
        assert!(there.lists(&entry) && there.manifests.len() == 1);
        for none in ["", "[]", "{}", r#"{"manifests": {}}"#, r#"{"layers": []}"#, "<html>"] {
            assert!(TaggedIndex::parse(none.into()).is_none(), "{none}");
        }
    }
}
