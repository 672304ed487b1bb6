//! Small bundles for tests, of which nothing has to be compiled.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use semver::Version;

use super::compatibility::EngineFacts;
use super::manifest::{COMPONENT, FORMAT, FileFacts, Manifest, NativeFacts, World};
use super::requested_grants::Requests;
use super::signature::{PublicKey, SecretKey, Signature, generate};
use super::trust::{Keys, Trust, TrustedKey, comment};
use super::writer::pack;

/// What this host would run, if it ran components.
pub fn engine() -> EngineFacts {
    EngineFacts {
        target: "x86_64-linux".to_owned(),
        profile: "sandbox".to_owned(),
        wasmtime: "48.0.8".to_owned(),
        settings: "0123456789abcdef".to_owned(),
    }
}

/// A bundle before it is packed.
pub struct Sample {
    /// What it says of itself.
    pub manifest: Manifest,
    /// What is in it, by name.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl Sample {
    /// One with native code for here.
    pub fn new(name: &str, version: &str) -> Self {
        let wasm = format!("component of {name} {version}").into_bytes();
        let manifest = Manifest {
            format: FORMAT,
            name: name.to_owned(),
            version: Version::parse(version).unwrap(),
            world: World::Action,
            sdk: None,
            config: vec![],
            requests: Requests::default(),
            component: FileFacts::of(&wasm),
            native: vec![],
        };
        let files = BTreeMap::from([(COMPONENT.to_owned(), wasm)]);
        Self { manifest, files }.with_native(&engine(), b"native code for here")
    }

    /// Adds what a host would run.
    pub fn with_native(mut self, host: &EngineFacts, code: &[u8]) -> Self {
        let FileFacts { size, sha256 } = FileFacts::of(code);
        let native = NativeFacts {
            target: host.target.clone(),
            profile: host.profile.clone(),
            wasmtime: host.wasmtime.clone(),
            settings: host.settings.clone(),
            size,
            sha256,
        };
        self.files.insert(native.path(), code.to_vec());
        self.manifest.native.push(native);
        self.manifest.native.sort_by_key(NativeFacts::path);
        self
    }

    /// Signs it.
    pub fn sign(&self, key: &SecretKey) -> Signature {
        key.sign(&self.manifest.to_bytes().unwrap(), &comment(&self.manifest))
            .unwrap()
    }

    /// Packs it.
    pub fn pack(&self, signature: Option<&Signature>) -> Vec<u8> {
        let bytes = self.manifest.to_bytes().unwrap();
        let content = |name: &str| self.files.get(name).map(Vec::as_slice);
        pack(&self.manifest, &bytes, signature, content, Vec::new()).unwrap()
    }

    /// Writes it into a directory.
    pub fn save(&self, dir: &Path, signature: Option<&Signature>) -> PathBuf {
        let file = dir.join(self.manifest.file_name());
        fs::write(&file, self.pack(signature)).unwrap();
        file
    }
}

/// A pair of keys.
pub fn keys() -> (SecretKey, PublicKey) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("k");
    let public = generate(&file, None).unwrap();
    let secret = SecretKey::read(&file, || unreachable!()).unwrap();
    (secret, public)
}

/// Trusts these keys, each with the right to native code or not.
pub fn trusting(keys: &[(&PublicKey, bool)]) -> Trust {
    let trusted = |(key, native): &(&PublicKey, bool)| TrustedKey {
        key: (*key).clone(),
        native: *native,
        file: PathBuf::new(),
    };
    Trust {
        keys: Keys {
            configured: true,
            trusted: keys.iter().map(trusted).collect(),
            refused: vec![],
        },
        require_signed: false,
    }
}
