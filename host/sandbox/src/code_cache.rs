//! The daemon's components: each compiled once, in a helper process, and kept as native code in a cache.
//!
//! An entry of the cache is named after everything that its code depends on. One that is damaged or gone is compiled again, also
//! when that shows only at a run: nothing but time is lost with the cache.

mod entries;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};
use tracing::{info, warn};

use super::compile_helper::{self, HelperError};
use super::engine;
pub use entries::UNUSED_MAX;
use entries::{Entries, Facts};
use twitcher_confine::{LANDLOCK_WITH_PORTS, landlock_version};
use twitcher_files::regular;
use twitcher_model::{Component, Digest, EntryPoint, Grants, Keep, SecretPlace, WASM_MAX};

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
    entries: Entries,
    used: Arc<CacheUse>,
    profile: OnceLock<String>,
    /// Held while something is compiled again for runs: the first of many has it done.
    restoring: Mutex<()>,
    /// Set once it is known whether the kernel can guard components' files.
    guarded: OnceLock<()>,
}

impl CodeCache {
    /// Compiles with `program compile`, and keeps what comes out in `cache`, a directory that is made when it is first needed.
    pub fn new(program: PathBuf, cache: PathBuf) -> Self {
        Self {
            program,
            entries: Entries::new(cache),
            used: Arc::default(),
            profile: OnceLock::new(),
            restoring: Mutex::default(),
            guarded: OnceLock::new(),
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
        self.entries.own().map_err(|error| vec![self.of_cache(error)])?;
        let native = self
            .entries
            .path(&self.entry_name(digest).map_err(|error| vec![error])?);
        let facts = match self.entries.find(&native) {
            Some(facts) => {
                self.used.hits.fetch_add(1, Ordering::Relaxed);
                facts
            }
            None => self.compile(file, digest, wasm, &native).map_err(|error| vec![error])?,
        };
        let keep = Keep::new(self.entries.hold(&native));
        let component = self.ready(file, digest, native, facts.entry, facts.checked, grants)?;
        Ok(Component { keep, ..component })
    }

    fn compile(&self, file: &Path, digest: Digest, wasm: Vec<u8>, native: &Path) -> Result<Facts, ComponentError> {
        self.used.misses.fetch_add(1, Ordering::Relaxed);
        let since = Instant::now();
        let size = wasm.len();
        let compiled = compile_helper::compile(&self.program, wasm, None);
        let compiled = compiled.map_err(|error| ComponentError::Compile { error })?;
        let length = compiled.native.len();
        let facts = self
            .entries
            .keep(native, &compiled)
            .map_err(|error| self.of_cache(error))?;
        let seconds = rounded(since.elapsed());
        info!(component = %file.display(), %digest, size, native = length, seconds, "component compiled");
        Ok(facts)
    }

    fn of_cache(&self, error: io::Error) -> ComponentError {
        ComponentError::Cache {
            dir: self.entries.dir().to_owned(),
            error,
        }
    }

    /// Opens the native code of a component, if it is what it was when the component was resolved.
    pub fn open(&self, component: &Component) -> io::Result<File> {
        self.entries.open(&component.native)
    }

    /// Makes native code that [`CodeCache::open`] found damaged or gone again, from the component's file. Blocks for as long as it takes
    /// to compile it. An error is in words.
    pub fn restore(&self, component: &Component) -> Result<(), String> {
        let _one_by_one = self.restoring.lock().unwrap_or_else(PoisonError::into_inner);
        if self.entries.open(&component.native).is_ok() || self.entries.find(&component.native).is_some() {
            return Ok(());
        }
        if !self.entries.holds(&component.native) {
            return Err("it is of a bundle: install that again with `twitcher bundle install`".to_owned());
        }
        warn!(component = %component, native = %component.native.display(), "native code is damaged or gone; compiling it again");
        self.entries.own().map_err(|error| self.of_cache(error).to_string())?;
        let wasm = read(&component.file).map_err(|error| format!("{}: {error}", component.file.display()))?;
        if Digest(Sha256::digest(&wasm).into()) != component.digest {
            return Err(format!(
                "{} is another component by now: load the configuration again",
                component.file.display()
            ));
        }
        let made = self.compile(&component.file, component.digest, wasm, &component.native);
        made.map(drop).map_err(|error| error.to_string())
    }

    /// Removes what nobody uses: all that another version of this program, or of its engine, has compiled, and of our own what was not
    /// used for longest, beyond [`UNUSED_MAX`] bytes.
    pub fn tidy(&self) {
        if !self.entries.has_any() {
            return;
        }
        let tidied = match self.profile() {
            Ok(profile) => self.entries.tidy(profile),
            Err(error) => Err(io::Error::other(error)),
        };
        match tidied {
            Ok(0) => {}
            Ok(bytes) => info!(bytes, "native code that nothing uses was removed"),
            Err(error) => warn!("cannot remove native code that nothing uses: {}", self.of_cache(error)),
        }
    }

    /// Native code that need not be compiled, after the component's own `check` has seen its configuration.
    pub fn adopt(&self, native: Native, grants: &Grants) -> Result<Component, Vec<ComponentError>> {
        let Native {
            path,
            component,
            entry,
            checked,
        } = native;
        self.ready(&path.clone(), component, path, entry, checked, grants)
    }

    fn ready(
        &self,
        file: &Path,
        digest: Digest,
        native: PathBuf,
        entry: EntryPoint,
        checked: bool,
        grants: &Grants,
    ) -> Result<Component, Vec<ComponentError>> {
        // What is read when a run starts is not there to be checked.
        let is_whole = grants.secrets_in(SecretPlace::Config).next().is_none();
        if checked && is_whole {
            let code = fs::read(&native).map_err(|error| vec![ComponentError::Read { error }])?;
            let verdict = compile_helper::check(&self.program, code, grants);
            let verdict = verdict.map_err(|error| vec![ComponentError::Compile { error }])?;
            verdict.map_err(|texts| {
                let check = |text| ComponentError::Check { text };
                texts.into_iter().map(check).collect::<Vec<_>>()
            })?;
        }
        self.guarded.get_or_init(|| {
            match landlock_version() {
                None => warn!(
                    "the kernel has no Landlock, or has it turned off: should a component break out of WebAssembly, only the rights \
                     of its watch's user guard files and ports"
                ),
                Some(version) if version < LANDLOCK_WITH_PORTS => warn!(
                    version,
                    "the kernel's Landlock limits files, and not ports (Linux 6.7 does): should a component that is granted any of the network \
                     break out of WebAssembly, it reaches all of it"
                ),
                Some(_) => {}
            }
        });
        Ok(Component {
            file: file.into(),
            bundle: None,
            digest,
            entry,
            native: Arc::from(native),
            keep: Keep::default(),
        })
    }

    /// The name of an entry: the component, and everything else that its native code depends on.
    fn entry_name(&self, digest: Digest) -> Result<String, ComponentError> {
        Ok(format!("{digest}-{}.{}", self.profile()?, entries::EXTENSION))
    }

    fn profile(&self) -> Result<&str, ComponentError> {
        if let Some(profile) = self.profile.get() {
            return Ok(profile);
        }
        let profile = engine::profile().map_err(|error| ComponentError::Engine(format!("{error:#}")))?;
        Ok(self.profile.get_or_init(|| profile))
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

#[cfg(test)]
mod tests {
    use super::*;

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
