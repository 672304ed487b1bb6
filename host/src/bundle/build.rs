//! Makes a bundle of a component: compiles it for each target, in the helper process, and signs what came of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use semver::Version;
use wasmparser::{Parser, Payload};

use super::manifest::{COMPONENT, FORMAT, FileFacts, Manifest, ManifestError, NativeFacts, World};
use super::requested::Requested;
use super::signature::{KeyError, SecretKey};
use super::trust;
use super::write::{WriteError, pack};
use crate::sandbox::helper::{self, HelperError, WASM_MAX};
use crate::sandbox::{self, Target};

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The component cannot be read.
    #[error("cannot read {}: {error}", file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The component is refused, or does not compile.
    #[error("{}: {error}", file.display())]
    Compile {
        /// The file.
        file: PathBuf,
        /// Why.
        error: HelperError,
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
        /// Why.
        error: WriteError,
    },
    /// The directory cannot be made.
    #[error("cannot write {}: {error}", file.display())]
    Write {
        /// The file.
        file: PathBuf,
        /// Why.
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
    pub requests: Requested,
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

/// Makes a bundle and writes it into a directory, under its own name. Compiles with `program compile`.
pub fn build(program: &Path, build: &Build, key: Option<&SecretKey>, out: &Path) -> Result<Built, BuildError> {
    let wasm = read(&build.file)?;
    let compile = |target| {
        helper::compile(program, wasm.clone(), target).map_err(|error| BuildError::Compile {
            file: build.file.clone(),
            error,
        })
    };
    let mut world = None;
    let mut natives = Vec::new();
    for target in &build.targets {
        let compiled = compile(Some(*target))?;
        world = Some(World::of(compiled.entry, compiled.checked));
        natives.push((native_facts(*target, &compiled.native)?, compiled.native));
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
    let size = replace(&file, |to| {
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

fn native_facts(target: Target, code: &[u8]) -> Result<NativeFacts, BuildError> {
    let FileFacts { size, sha256 } = FileFacts::of(code);
    Ok(NativeFacts {
        target: target.to_string(),
        profile: sandbox::PROFILE.to_owned(),
        wasmtime: sandbox::WASMTIME.to_owned(),
        settings: sandbox::settings(target).map_err(|error| BuildError::Engine(format!("{error:#}")))?,
        cpu_features: Vec::new(),
        size,
        sha256,
    })
}

fn read(file: &Path) -> Result<Vec<u8>, BuildError> {
    let failed = |error| BuildError::Read {
        file: file.to_owned(),
        error,
    };
    let opened = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(file);
    let opened = opened.map_err(failed)?;
    if !opened.metadata().map_err(failed)?.is_file() {
        return Err(failed(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is not a regular file",
        )));
    }
    let mut wasm = Vec::new();
    opened
        .take(WASM_MAX as u64 + 1)
        .read_to_end(&mut wasm)
        .map_err(failed)?;
    match wasm.len() <= WASM_MAX {
        true => Ok(wasm),
        false => Err(failed(io::Error::new(
            io::ErrorKind::FileTooLarge,
            format!("it is larger than {} MiB", WASM_MAX >> 20),
        ))),
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

/// Writes a file whole or not at all.
pub(super) fn replace<T, E: From<io::Error>>(
    file: &Path,
    write: impl FnOnce(&mut File) -> Result<T, E>,
) -> Result<T, E> {
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty());
    let mut draft = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(dir.unwrap_or(Path::new(".")))?;
    let result = write(draft.as_file_mut())?;
    draft.persist(file).map_err(|error| error.error)?;
    Ok(result)
}
