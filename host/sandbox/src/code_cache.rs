//! The daemon's components: each compiled once, in a helper process, and kept as native code in a cache.
//!
//! An entry of the cache is named after everything that its code depends on. It is written under another name and renamed, and
//! never changed: processes map it.

use std::cell::OnceCell;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use tracing::{info, warn};

use super::compile_helper::{self, HelperError};
use super::{confine, engine};
use twitcher_files::regular;
use twitcher_files::replace::replace_with;
use twitcher_model::{Component, Digest, EntryPoint, Grants, Keep, WASM_MAX};

/// Why a component cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ComponentError {
    /// The file cannot be read.
    #[error("cannot read it: {error}")]
    Read {
        /// The error of the system call.
        error: io::Error,
    },
    /// It is not a file.
    #[error("it is not a regular file")]
    NotAFile,
    /// It is too large.
    #[error("it is larger than {} MiB, the most that a component may be", WASM_MAX >> 20)]
    TooLarge,
    /// It is refused, or compiling it failed.
    #[error("{error}")]
    Compile {
        /// What the process that compiles says of it.
        error: HelperError,
    },
    /// Its `check` found something.
    #[error("{text}")]
    Check {
        /// What it found.
        text: String,
    },
    /// WebAssembly does not work on this machine.
    #[error("cannot start WebAssembly: {0}")]
    Engine(String),
    /// The cache cannot be written.
    #[error("cannot keep native code in {}: {error}", .dir.display())]
    Cache {
        /// The directory.
        dir: PathBuf,
        /// The error of the system call.
        error: io::Error,
    },
}

/// What of a component is kept beside its native code.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Facts {
    entry: EntryPoint,
    checked: bool,
}

/// Native code that was compiled elsewhere, by somebody whom the operator trusts with it.
#[derive(Debug)]
pub struct Native {
    /// Its file, which only root can write to. It was found to be the very code that was signed, for this machine and this engine.
    pub path: PathBuf,
    /// SHA-256 of the component that it was compiled from.
    pub component: Digest,
    /// How it is entered.
    pub entry: EntryPoint,
    /// Whether it exports `check`.
    pub checked: bool,
}

/// How often a component was in the cache, and how often it was not.
#[derive(Debug, Default)]
pub struct CacheUse {
    hits: AtomicU64,
    misses: AtomicU64,
}

impl CacheUse {
    /// Times that it was.
    pub fn hits(&self) -> u64 {
        self.hits.load(Ordering::Relaxed)
    }

    /// Times that it was not, and was compiled.
    pub fn misses(&self) -> u64 {
        self.misses.load(Ordering::Relaxed)
    }
}

/// Finds and compiles components.
#[derive(Debug)]
pub struct CodeCache {
    program: PathBuf,
    cache: PathBuf,
    used: Arc<CacheUse>,
    profile: OnceCell<String>,
    /// Set once it is known whether the kernel can guard components' files.
    guarded: OnceCell<()>,
}

impl CodeCache {
    /// Compiles with `program compile`, and keeps what comes out in `cache`, a directory that is made when it is first needed.
    pub fn new(program: PathBuf, cache: PathBuf) -> Self {
        Self {
            program,
            cache,
            used: Arc::default(),
            profile: OnceCell::new(),
            guarded: OnceCell::new(),
        }
    }

    /// Counts on.
    pub fn cache_use(&self) -> Arc<CacheUse> {
        Arc::clone(&self.used)
    }

    /// The component in `file`, compiled, after its own `check` has seen its configuration.
    pub fn resolve(&self, file: &Path, grants: &Grants) -> Result<Component, Vec<ComponentError>> {
        let wasm = read(file).map_err(|error| vec![error])?;
        self.compiled(file, wasm, grants)
    }

    /// The same for a component that was read already, from `file`.
    pub fn compiled(&self, file: &Path, wasm: Vec<u8>, grants: &Grants) -> Result<Component, Vec<ComponentError>> {
        let digest = Digest(Sha256::digest(&wasm).into());
        let of_file = |error| vec![ComponentError::Compile { error }];
        let of_cache = |error| {
            vec![ComponentError::Cache {
                dir: self.cache.clone(),
                error,
            }]
        };
        self.own_cache().map_err(of_cache)?;
        let native = self.cache.join(self.entry_name(digest).map_err(|error| vec![error])?);
        let facts = match cached(&native) {
            Some(facts) => {
                self.used.hits.fetch_add(1, Ordering::Relaxed);
                facts
            }
            None => {
                self.used.misses.fetch_add(1, Ordering::Relaxed);
                let since = Instant::now();
                let size = wasm.len();
                let compiled = compile_helper::compile(&self.program, wasm, None).map_err(of_file)?;
                let facts = Facts {
                    entry: compiled.entry,
                    checked: compiled.checked,
                };
                keep(&native, &compiled.native, facts).map_err(of_cache)?;
                let seconds = rounded(since.elapsed());
                info!(component = %file.display(), %digest, size, native = compiled.native.len(), seconds, "component compiled");
                facts
            }
        };
        self.ready(file, digest, native, facts, grants)
    }

    /// Native code that need not be compiled, after the component's own `check` has seen its configuration.
    pub fn adopt(&self, native: Native, grants: &Grants) -> Result<Component, Vec<ComponentError>> {
        let facts = Facts {
            entry: native.entry,
            checked: native.checked,
        };
        let file = native.path.clone();
        self.ready(&file, native.component, native.path, facts, grants)
    }

    fn ready(
        &self,
        file: &Path,
        digest: Digest,
        native: PathBuf,
        facts: Facts,
        grants: &Grants,
    ) -> Result<Component, Vec<ComponentError>> {
        if facts.checked {
            let code = fs::read(&native).map_err(|error| vec![ComponentError::Read { error }])?;
            let verdict = compile_helper::check(&self.program, code, grants);
            let verdict = verdict.map_err(|error| vec![ComponentError::Compile { error }])?;
            verdict.map_err(|texts| {
                let check = |text| ComponentError::Check { text };
                texts.into_iter().map(check).collect::<Vec<_>>()
            })?;
        }
        self.guarded.get_or_init(|| {
            if !confine::has_landlock() {
                warn!(
                    "the kernel has no Landlock, or has it turned off: should a component break out of WebAssembly, only the rights \
                     of its watch's user guard files"
                );
            }
        });
        Ok(Component {
            file: file.into(),
            bundle: None,
            digest,
            entry: facts.entry,
            native: Arc::from(native),
            keep: Keep::default(),
        })
    }

    /// The name of an entry: the component, and everything else that its native code depends on.
    fn entry_name(&self, digest: Digest) -> Result<String, ComponentError> {
        let profile = match self.profile.get() {
            Some(profile) => profile,
            None => {
                let profile = engine::profile().map_err(|error| ComponentError::Engine(format!("{error:#}")))?;
                self.profile.get_or_init(|| profile)
            }
        };
        Ok(format!("{digest}-{profile}.cwasm"))
    }

    /// Makes the cache. One that others can write to is not used, neither way: they could put native code of their own there.
    fn own_cache(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.cache)?;
        let dir = fs::symlink_metadata(&self.cache)?;
        if !dir.is_dir() || dir.uid() != nix::unistd::geteuid().as_raw() || dir.mode() & 0o022 != 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "it must be a directory that only its owner, this user, can write to",
            ));
        }
        Ok(())
    }
}

fn rounded(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e6
}

fn read(file: &Path) -> Result<Vec<u8>, ComponentError> {
    regular::read(file, WASM_MAX).map_err(|error| match error.kind() {
        io::ErrorKind::InvalidInput => ComponentError::NotAFile,
        io::ErrorKind::FileTooLarge => ComponentError::TooLarge,
        _ => ComponentError::Read { error },
    })
}

fn facts_of(native: &Path) -> PathBuf {
    native.with_extension("json")
}

/// The facts come last: what has them is complete.
fn keep(native: &Path, code: &[u8], facts: Facts) -> io::Result<()> {
    replace_with(native, 0o600, code)?;
    replace_with(&facts_of(native), 0o600, &serde_json::to_vec(&facts)?)
}

fn cached(native: &Path) -> Option<Facts> {
    let facts = serde_json::from_slice(&fs::read(facts_of(native)).ok()?).ok()?;
    native.is_file().then_some(facts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cache_that_others_can_write_to_is_not_even_read() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let dir = tempfile::tempdir().unwrap();
        let own = |name: &str| CodeCache::new("/proc/self/exe".into(), dir.path().join(name)).own_cache();
        own("mine").unwrap();
        own("mine").unwrap();
        fs::set_permissions(dir.path().join("mine"), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(own("mine").unwrap_err().to_string().contains("only its owner"));
        fs::create_dir(dir.path().join("other")).unwrap();
        symlink(dir.path().join("other"), dir.path().join("link")).unwrap();
        assert!(own("link").is_err());
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        assert!(matches!(read(&path("none")), Err(ComponentError::Read { .. })));
        assert!(matches!(read(dir.path()), Err(ComponentError::NotAFile)));
        nix::unistd::mkfifo(&path("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert!(matches!(read(&path("pipe")), Err(ComponentError::NotAFile)));
        let large = fs::File::create(path("large")).unwrap();
        large.set_len(200 << 20).unwrap();
        let error = read(&path("large")).unwrap_err().to_string();
        assert!(error.contains("larger than 64 MiB"), "{error}");
    }
}
