//! Makes a bundle of a component: has it compiled for each target, and signs what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, BufWriter, Seek};
use std::path::{Path, PathBuf};

use semver::Version;
use wasmparser::{Parser, Payload};

use super::compatibility::EngineFacts;
use super::manifest::{COMPONENT, FORMAT, FileFacts, Manifest, ManifestError, NativeFacts, World};
use super::requested_grants::Requests;
use super::signature::{KeyError, SecretKey};
use super::trust;
use super::writer::{WriteError, pack};
use twitcher_files::regular;
use twitcher_files::replace::replace;
use twitcher_model::{Compiled, Target, WASM_MAX};

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The component cannot be read.
    #[error("cannot read {}: {error}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// The error of the system call.
        error: io::Error,
    },
    /// The component is refused, or does not compile.
    #[error("{}: {error}", file.display())]
    Compile {
        /// The file.
        file: PathBuf,
        /// What the compiler says of it.
        error: CompileFailure,
    },
    /// WebAssembly does not work on this machine.
    #[error("cannot start the compiler: {0}")]
    Engine(String),
    /// What was given makes no manifest.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// It cannot be signed.
    #[error(transparent)]
    Sign(#[from] KeyError),
    /// It cannot be packed.
    #[error("{}: {error}", file.display())]
    Pack {
        /// The bundle.
        file: PathBuf,
        /// What kept the bundle from being written.
        error: WriteError,
    },
    /// The directory cannot be made.
    #[error("cannot write {}: {error}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// The error of the system call.
        error: io::Error,
    },
}

/// What a bundle is made of.
#[derive(Debug)]
pub struct Build {
    /// The component, or core module.
    pub file: PathBuf,
    /// Name of the bundle.
    pub name: String,
    /// Its version.
    pub version: Version,
    /// The machines to compile for.
    pub targets: BTreeSet<Target>,
    /// What the component needs to be granted.
    pub requests: Requests,
    /// The keys of its configuration.
    pub config: Vec<String>,
}

/// A bundle that was made.
#[derive(Debug)]
pub struct Built {
    /// Where it is.
    pub file: PathBuf,
    /// What it says of itself.
    pub manifest: Manifest,
    /// Its size, in bytes.
    pub size: u64,
}

/// What compiles: this crate holds no compiler, and what is compiled is hostile.
pub struct Compiler<'a> {
    /// Compiles a component, or a core module, for all machines of a target, or for this machine.
    pub compile: &'a dyn Fn(Vec<u8>, Option<Target>) -> Result<Compiled, CompileFailure>,
    /// What its code for a target depends on; an error is in words.
    pub facts: &'a dyn Fn(Target) -> Result<EngineFacts, String>,
}

/// Why something does not compile.
pub type CompileFailure = Box<dyn std::error::Error + Send + Sync>;

/// Makes a bundle and writes it into a directory, under its own name.
pub fn build(compiler: &Compiler, build: &Build, key: Option<&SecretKey>, out: &Path) -> Result<Built, BuildError> {
    let wasm = regular::read(&build.file, WASM_MAX).map_err(|error| BuildError::Read {
        file: build.file.clone(),
        error,
    })?;
    let compile = |target| {
        (compiler.compile)(wasm.clone(), target).map_err(|error| BuildError::Compile {
            file: build.file.clone(),
            error,
        })
    };
    let mut world = None;
    let mut natives = Vec::new();
    for target in &build.targets {
        let compiled = compile(Some(*target))?;
        world = Some(World::of(compiled.entry, compiled.checked));
        let engine = (compiler.facts)(*target).map_err(BuildError::Engine)?;
        natives.push((native_facts(engine, &compiled.native), compiled.native));
    }
    let world = match world {
        Some(world) => world,
        // Also to be sure that it is one that runs.
        None => {
            let compiled = compile(None)?;
            World::of(compiled.entry, compiled.checked)
        }
    };
    natives.sort_by_key(|(facts, _)| facts.path());
    let manifest = Manifest {
        format: FORMAT,
        name: build.name.clone(),
        version: build.version.clone(),
        world,
        sdk: sdk_version(&wasm),
        config: build.config.clone(),
        requests: build.requests.clone(),
        component: FileFacts::of(&wasm),
        native: natives.iter().map(|(facts, _)| facts.clone()).collect(),
    };
    let bytes = manifest.to_bytes()?;
    let signature = key
        .map(|key| key.sign(&bytes, &trust::comment(&manifest)))
        .transpose()?;
    let mut content: BTreeMap<String, &[u8]> = natives.iter().map(|(facts, code)| (facts.path(), &code[..])).collect();
    content.insert(COMPONENT.to_owned(), &wasm);
    let file = out.join(manifest.file_name());
    fs::create_dir_all(out).map_err(|error| BuildError::Write {
        file: out.to_owned(),
        error,
    })?;
    let size = replace(&file, 0o644, |to| {
        let content = |name: &str| content.get(name).copied();
        let mut packed = pack(&manifest, &bytes, signature.as_ref(), content, BufWriter::new(to))?;
        Ok(packed.stream_position()?)
    })
    .map_err(|error| BuildError::Pack {
        file: file.clone(),
        error,
    })?;
    Ok(Built { file, manifest, size })
}

fn native_facts(engine: EngineFacts, code: &[u8]) -> NativeFacts {
    let FileFacts { size, sha256 } = FileFacts::of(code);
    let EngineFacts {
        target,
        profile,
        wasmtime,
        settings,
    } = engine;
    NativeFacts {
        target,
        profile,
        wasmtime,
        settings,
        size,
        sha256,
    }
}

/// What the SDK has left in the component.
fn sdk_version(wasm: &[u8]) -> Option<String> {
    Parser::new(0).parse_all(wasm).map_while(Result::ok).find_map(|part| {
        let Payload::CustomSection(section) = part else {
            return None;
        };
        let text = || std::str::from_utf8(section.data()).ok();
        let version = (section.name() == "twitcher-sdk").then(text)??;
        // Whatever else stands there is not worth a refusal.
        Version::parse(version).ok().map(|version| version.to_string())
    })
}
