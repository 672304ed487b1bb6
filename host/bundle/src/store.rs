//! The bundles on this host.
//!
//! ```text
//! STORE/NAME/DIGEST/      a version: what was in the bundle. Appears by a rename when it is whole, is never changed after
//!            manifest.json   its time is when the version was last installed or chosen
//! STORE/NAME/current      a link to a DIGEST, replaced by a rename
//!            .hold           locked by who uses the version. Only root can open it, so nobody else can be in the way
//! STORE/.lock             held while a version appears, becomes current or goes
//! STORE/.install-*        a version that is being unpacked, locked by who does it
//! STORE/.trash-*          a version that is being removed
//! ```
//!
//! So at any moment, also that of a crash, each name stands for the old version or the new one. What crashed leaves behind under
//! a name with a dot is removed by the next change. It must not know whose bundles are trusted.

use std::cmp::Reverse;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use semver::Version;

use super::MANIFEST;
use super::install::InstallError;
use super::installed::{Hold, Installed, InstalledError};
use super::manifest::{Reference, check_name, parse_digest};
use super::trust::Trust;
use twitcher_files::private;
use twitcher_files::regular::{self, Links};
use twitcher_files::replace::sync_dir;
use twitcher_model::Digest;

/// Where bundles are, unless something else is said.
pub const STORE: &str = "/var/lib/twitcher/bundles";
const LOCK: &str = ".lock";
const CURRENT: &str = "current";
const HOLD: &str = ".hold";
pub(super) const DRAFT: &str = ".install-";
const TRASH: &str = ".trash-";

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory cannot be used.
    #[error("cannot {action} {}: {error}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the system call.
        error: io::Error,
    },
    /// There is no such bundle.
    #[error("no bundle {reference} is installed in {}{found}", dir.display())]
    Missing {
        /// What was asked for.
        reference: Reference,
        /// The store.
        dir: PathBuf,
        /// What is there of this name, with its own punctuation.
        found: String,
    },
    /// A version is damaged.
    #[error("{reference}: {error}")]
    Installed {
        /// What was asked for.
        reference: String,
        /// What is wrong with the installed version.
        error: InstalledError,
    },
    /// It runs, or is about to.
    #[error("{0} {1} is in use")]
    InUse(String, Version),
    /// It is what the name stands for.
    #[error("{0} {1} is the current version: choose another with `twitcher bundle use` first, or remove all of {0}")]
    Current(String, Version),
    /// It could not be installed.
    #[error(transparent)]
    Install(#[from] InstallError),
}

/// A directory of bundles.
#[derive(Debug, Clone)]
pub struct Store {
    pub(super) dir: PathBuf,
}

/// What became current, and what was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Switch {
    /// The name.
    pub name: String,
    /// What was current: its version, and its digest.
    pub from: Option<(Version, Digest)>,
    /// What is.
    pub to: (Version, Digest),
}

impl Switch {
    /// Whether it goes back to an older version. What follows a `+` says nothing of age.
    pub fn is_downgrade(&self) -> bool {
        let from = self.from.as_ref();
        from.is_some_and(|(from, _)| from.cmp_precedence(&self.to.0).is_gt())
    }
}

/// Whether an installation may replace the current version by an older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Downgrade {
    /// It may.
    Allow,
    /// It must not.
    Refuse,
}

/// A version in a list.
#[derive(Debug)]
pub struct Listed {
    /// The version.
    pub installed: Installed,
    /// Whether its name alone means it.
    pub current: bool,
    /// Whether something holds it, as far as this user may know.
    pub in_use: bool,
}

/// What a list found.
#[derive(Debug, Default)]
pub struct Listing {
    /// Each version, by name, newest installation first.
    pub versions: Vec<Listed>,
    /// What cannot be read, and why.
    pub broken: Vec<(PathBuf, String)>,
}

pub(super) fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |error| StoreError::Io { action, path, error }
}

impl Store {
    /// The store in a directory. Nothing is looked at yet.
    pub fn at(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The bundle that a reference means: the current version of a name, or the newest installed one that fits. Whether it is trusted,
    /// and its files right, is for [`Installed::code`] to say.
    pub fn resolve(&self, reference: &Reference) -> Result<Installed, StoreError> {
        if !self.exists()? {
            return Err(self.missing(reference, &[]));
        }
        let Some(versions) = &reference.versions else {
            return self
                .current(&reference.name)?
                .ok_or_else(|| self.missing(reference, &[]));
        };
        let all = self.versions(&reference.name)?;
        let fitting = all.iter().filter(|installed| versions.include(&installed.version));
        // Of versions that differ in what follows the `+` alone, none is newer by itself.
        let newest = fitting.max_by(|one, other| {
            let versions = one.version.cmp_precedence(&other.version);
            versions.then(one.installed.cmp(&other.installed))
        });
        match newest {
            Some(installed) => Ok(installed.clone()),
            None => Err(self.missing(reference, &all)),
        }
    }

    /// The link that changes when the name stands for another version: what a daemon watches.
    pub fn current_link(&self, name: &str) -> PathBuf {
        self.dir.join(name).join(CURRENT)
    }

    /// Everything that is installed.
    pub fn list(&self) -> Result<Listing, StoreError> {
        let mut listing = Listing::default();
        if !self.exists()? {
            return Ok(listing);
        }
        for name in self.names()? {
            let current = self.current_digest(&name)?;
            let mut versions = Vec::new();
            for dir in self.dirs(&name)? {
                match Installed::open(&dir) {
                    Ok(installed) => versions.push(installed),
                    Err(error) => listing.broken.push((dir, error.to_string())),
                }
            }
            versions.sort_by_key(|installed| Reverse(installed.installed));
            listing.versions.extend(versions.into_iter().map(|installed| Listed {
                current: current == Some(installed.digest),
                in_use: matches!(seize(&installed.dir), Ok(None)),
                installed,
            }));
        }
        Ok(listing)
    }

    /// As [`Store::resolve`], and holds what was found: it stays until the hold is dropped, whatever is removed meanwhile.
    pub fn acquire(&self, reference: &Reference) -> Result<(Installed, Hold), StoreError> {
        loop {
            let installed = self.resolve(reference)?;
            match installed.hold() {
                Ok(hold) => return Ok((installed, hold)),
                // It was removed in between: then it no longer is what the reference means, and this ends.
                Err(InstalledError::Gone(_)) => {}
                Err(error) => return Err(Self::unusable(reference, error)),
            }
        }
    }

    /// Makes an installed version the current one, if it is trusted and whole.
    pub fn choose(&self, reference: &Reference, trust: &Trust) -> Result<Switch, StoreError> {
        let _lock = self.lock()?;
        let installed = self.resolve(reference)?;
        installed
            .judge(trust)
            .map_err(InstalledError::from)
            .and_then(|_| installed.verify())
            .map_err(|error| Self::unusable(reference, error))?;
        self.switch(&installed)
    }

    fn unusable(reference: &Reference, error: InstalledError) -> StoreError {
        StoreError::Installed {
            reference: reference.to_string(),
            error,
        }
    }

    /// Removes a version that is neither current nor in use; or, without a version, the whole bundle. Gives what was removed.
    pub fn remove(&self, reference: &Reference) -> Result<Vec<Version>, StoreError> {
        let _lock = self.lock()?;
        let all = self.versions(&reference.name)?;
        let meant: Vec<&Installed> = match &reference.versions {
            Some(versions) => all.iter().filter(|one| versions.include(&one.version)).collect(),
            None => all.iter().collect(),
        };
        if meant.is_empty() {
            return Err(self.missing(reference, &all));
        }
        let current = self.current_digest(&reference.name)?;
        let mut seized = Vec::new();
        for installed in &meant {
            let (name, version) = (installed.name.clone(), installed.version.clone());
            if reference.versions.is_some() && current == Some(installed.digest) {
                return Err(StoreError::Current(name, version));
            }
            let lock = seize(&installed.dir).map_err(failed("lock", &installed.dir))?;
            seized.push(lock.ok_or(StoreError::InUse(name, version))?);
        }
        if reference.versions.is_none() {
            let link = self.current_link(&reference.name);
            ignore_missing(fs::remove_file(&link)).map_err(failed("remove", &link))?;
        }
        for installed in &meant {
            self.discard(&installed.dir)?;
        }
        drop(seized);
        // Another version may still be there.
        let _ = fs::remove_dir(self.dir.join(&reference.name));
        Ok(meant.iter().map(|installed| installed.version.clone()).collect())
    }

    /// Removes what is not needed: of each name, all but the current version, what is in use, and the `keep` that were installed
    /// last; and what a crash has left behind. Gives what was removed.
    pub fn gc(&self, keep: usize) -> Result<Vec<(String, Version)>, StoreError> {
        let mut removed = Vec::new();
        if !self.exists()? {
            return Ok(removed);
        }
        let _lock = self.lock()?;
        for name in self.names()? {
            let current = self.current_digest(&name)?;
            let mut versions = self.versions(&name)?;
            versions.sort_by_key(|installed| Reverse(installed.installed));
            for installed in versions.into_iter().skip(keep) {
                if current == Some(installed.digest) {
                    continue;
                }
                let seized = seize(&installed.dir).map_err(failed("lock", &installed.dir))?;
                if seized.is_some() {
                    self.discard(&installed.dir)?;
                    removed.push((name.clone(), installed.version));
                }
            }
        }
        Ok(removed)
    }

    fn missing(&self, reference: &Reference, found: &[Installed]) -> StoreError {
        let versions: Vec<String> = found.iter().map(|installed| installed.version.to_string()).collect();
        StoreError::Missing {
            reference: reference.clone(),
            dir: self.dir.clone(),
            found: match versions.is_empty() {
                true => String::new(),
                false => format!("; there is {}", versions.join(", ")),
            },
        }
    }

    /// Whether there is a store. One that others can write to is refused.
    fn exists(&self) -> Result<bool, StoreError> {
        match private::check_dir(&self.dir) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(failed("use the store", &self.dir)(error)),
        }
    }

    /// Makes the store if need be, locks it, and removes what a crash has left behind.
    pub(super) fn lock(&self) -> Result<Flock<File>, StoreError> {
        make_dir(&self.dir).map_err(failed("use the store", &self.dir))?;
        self.exists()?;
        let path = self.dir.join(LOCK);
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false).mode(0o600);
            regular::open_with(&mut options, &path, Links::Refuse)
        };
        let file = open().map_err(failed("lock", &path))?;
        let lock =
            Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, errno)| failed("lock", &path)(errno.into()))?;
        self.clean()?;
        Ok(lock)
    }

    /// Removes drafts that nobody works on, and what was to be removed.
    fn clean(&self) -> Result<(), StoreError> {
        for entry in fs::read_dir(&self.dir).map_err(failed("read", &self.dir))?.flatten() {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            // While it is locked, its install goes on.
            if name.starts_with(TRASH) || name.starts_with(DRAFT) && !matches!(seize(&entry.path()), Ok(None)) {
                // Best effort: it is tried again at the next change.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        Ok(())
    }

    fn names(&self) -> Result<Vec<String>, StoreError> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(failed("read", &self.dir))? {
            let name = entry.map_err(failed("read", &self.dir))?.file_name();
            names.extend(name.into_string().ok().filter(|name| check_name(name).is_ok()));
        }
        names.sort();
        Ok(names)
    }

    /// The directories of a name's versions.
    fn dirs(&self, name: &str) -> Result<Vec<PathBuf>, StoreError> {
        let dir = self.dir.join(name);
        let entries = match fs::read_dir(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(failed("read", &dir))?,
        };
        let mut dirs = Vec::new();
        for entry in entries {
            let path = entry.map_err(failed("read", &dir))?.path();
            let named = path.file_name().and_then(|name| parse_digest(name.to_str()?));
            dirs.extend(named.map(|_| path));
        }
        Ok(dirs)
    }

    /// The versions of a name that can be read.
    pub(super) fn versions(&self, name: &str) -> Result<Vec<Installed>, StoreError> {
        let opened = self.dirs(name)?.into_iter().map(|dir| Installed::open(&dir));
        Ok(opened
            .filter_map(Result::ok)
            .filter(|installed| installed.name == name)
            .collect())
    }

    fn current_digest(&self, name: &str) -> Result<Option<Digest>, StoreError> {
        let link = self.current_link(name);
        match fs::read_link(&link) {
            Ok(target) => Ok(target.to_str().and_then(parse_digest)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(failed("read", &link)(error)),
        }
    }

    pub(super) fn current(&self, name: &str) -> Result<Option<Installed>, StoreError> {
        let Some(digest) = self.current_digest(name)? else {
            return Ok(None);
        };
        let opened = Installed::open(&self.dir.join(name).join(digest.to_string()));
        opened.map(Some).map_err(|error| StoreError::Installed {
            reference: name.to_owned(),
            error,
        })
    }

    /// Makes a version current. The store must be locked.
    pub(super) fn switch(&self, installed: &Installed) -> Result<Switch, StoreError> {
        let link = self.current_link(&installed.name);
        let dir = self.dir.join(&installed.name);
        // What was current may be damaged: then this is what repairs it.
        let before = self.current(&installed.name).ok().flatten();
        let touch = |path: &Path| File::options().append(true).open(path)?.set_modified(SystemTime::now());
        let manifest = installed.dir.join(MANIFEST);
        touch(&manifest).map_err(failed("write", &manifest))?;
        if before.as_ref().map(|before| before.digest) != Some(installed.digest) {
            let draft = self.dir.join(format!("{TRASH}current"));
            let place = || -> io::Result<()> {
                ignore_missing(fs::remove_file(&draft))?;
                symlink(installed.digest.to_string(), &draft)?;
                fs::rename(&draft, &link)?;
                sync_dir(&dir)
            };
            place().map_err(failed("write", &link))?;
        }
        Ok(Switch {
            name: installed.name.clone(),
            from: before.map(|before| (before.version, before.digest)),
            to: (installed.version.clone(), installed.digest),
        })
    }

    /// Removes a version: at once from where it can be found, then from the disk. The store must be locked.
    pub(super) fn discard(&self, dir: &Path) -> Result<(), StoreError> {
        let name = dir.file_name().unwrap_or_default().to_string_lossy();
        let trash = self.dir.join(format!("{TRASH}{name}"));
        let gone = || -> io::Result<()> {
            ignore_missing(fs::remove_dir_all(&trash))?;
            fs::rename(dir, &trash)?;
            fs::remove_dir_all(&trash)
        };
        gone().map_err(failed("remove", dir))
    }
}

fn ignore_missing(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The file that is locked by who uses a version, or works on a draft.
pub(super) fn open_hold(dir: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    regular::open_with(&mut options, &hold_file(dir), Links::Refuse)
}

pub(super) fn hold_file(dir: &Path) -> PathBuf {
    dir.join(HOLD)
}

/// Locks a version or draft, unless something holds it.
fn seize(dir: &Path) -> io::Result<Option<Flock<File>>> {
    match Flock::lock(open_hold(dir)?, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => Ok(None),
        Err((_, errno)) => Err(errno.into()),
    }
}

/// A directory that everybody may read, and what leads to it.
pub(super) fn make_dir(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o755).create(dir)
}

#[cfg(test)]
mod tests;
