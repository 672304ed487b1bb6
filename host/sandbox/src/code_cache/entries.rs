//! The files of the cache: native code, each with a file of facts beside it, among them its digest.
//!
//! A file is written under another name and renamed, and never changed: processes map it. What is found is believed only if its
//! digest is right; that is looked at once, and after that whether the file is still the same. It must not know how code is made.

use std::collections::{HashMap, HashSet};
use std::fs::{self, DirEntry, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use twitcher_files::private;
use twitcher_files::regular::{self, Links};
use twitcher_files::replace::replace_with;
use twitcher_model::{Compiled, Digest, EntryPoint};

/// Most bytes of code that nobody uses and that is kept all the same: who goes back to what ran before need not wait.
pub const UNUSED_MAX: u64 = 256 << 20;
/// What the name of native code ends with.
pub(super) const EXTENSION: &str = "cwasm";
/// What is neither code nor facts, such as a half-written file, is removed when it is so old.
const LITTER: Duration = Duration::from_secs(3600);
/// Bytes of code that are read at a time.
const BLOCK: usize = 128 << 10;
/// Most bytes of a file of facts.
const FACTS_MAX: usize = 4096;

/// What of a component is kept beside its native code.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Facts {
    pub(super) entry: EntryPoint,
    pub(super) checked: bool,
    /// Of the native code.
    sha256: Digest,
}

/// What tells that a file is not what it was, without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn new(metadata: &Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// Lasts as long as somebody uses an entry.
#[derive(Debug)]
pub(super) struct Used;

/// An entry that was found right, or made, by this process.
#[derive(Debug)]
struct Known {
    facts: Facts,
    stamp: Stamp,
    users: Weak<Used>,
}

/// The directory.
#[derive(Debug)]
pub(super) struct Entries {
    dir: PathBuf,
    known: Mutex<HashMap<PathBuf, Known>>,
}

impl Entries {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            known: Mutex::default(),
        }
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<PathBuf, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the directory. One that others can write to is not used, neither way: they could put native code of their own there.
    pub(super) fn own(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        private::check_dir(&self.dir).map_err(|error| {
            io::Error::new(
                error.kind(),
                format!("it must be a directory that only its owner, this user, can write to, and {error}"),
            )
        })
    }

    /// What is known of native code, if it is there and undamaged.
    pub(super) fn find(&self, native: &Path) -> Option<Facts> {
        if let Some(known) = self.lock().get(native)
            && fs::symlink_metadata(native).is_ok_and(|metadata| Stamp::new(&metadata) == known.stamp)
        {
            return Some(known.facts);
        }
        let facts: Facts = serde_json::from_slice(&private::read(&facts_of(native), FACTS_MAX).ok()?).ok()?;
        let mut code = private::open(native).ok()?;
        // Before it is read: what changes meanwhile is seen later.
        let stamp = Stamp::new(&code.metadata().ok()?);
        if digest(&mut code).ok()? != facts.sha256 {
            return None;
        }
        // So that it is seen when it was last of use. If that fails, it is seen when it was made.
        let _ = private::open(&facts_of(native)).and_then(|facts| facts.set_modified(SystemTime::now()));
        self.know(native, facts, stamp);
        Some(facts)
    }

    /// Writes an entry. The facts come last: what has them is complete.
    pub(super) fn keep(&self, native: &Path, compiled: &Compiled) -> io::Result<Facts> {
        let facts = Facts {
            entry: compiled.entry,
            checked: compiled.checked,
            sha256: Digest(Sha256::digest(&compiled.native).into()),
        };
        replace_with(native, 0o600, &compiled.native)?;
        let stamp = Stamp::new(&fs::symlink_metadata(native)?);
        replace_with(&facts_of(native), 0o600, &serde_json::to_vec(&facts)?)?;
        self.know(native, facts, stamp);
        Ok(facts)
    }

    fn know(&self, native: &Path, facts: Facts, stamp: Stamp) {
        let mut all = self.lock();
        let users = all.remove(native).map(|known| known.users).unwrap_or_default();
        all.insert(native.to_owned(), Known { facts, stamp, users });
    }

    /// Keeps an entry that was found or made from being removed for as long as somebody has this.
    pub(super) fn hold(&self, native: &Path) -> Arc<Used> {
        let mut all = self.lock();
        let known = all.get_mut(native);
        let used = known.as_ref().and_then(|known| known.users.upgrade());
        let used = used.unwrap_or_else(|| Arc::new(Used));
        if let Some(known) = known {
            known.users = Arc::downgrade(&used);
        }
        used
    }

    /// Whether native code is of this cache and was in use since this process began.
    pub(super) fn holds(&self, native: &Path) -> bool {
        self.lock().contains_key(native)
    }

    /// Opens native code, if it is still what it was found or made to be. What is not of this cache is opened as it is.
    pub(super) fn open(&self, native: &Path) -> io::Result<File> {
        let file = regular::open(native, Links::Refuse)?;
        let stamp = Stamp::new(&file.metadata()?);
        match self.lock().get(native) {
            Some(known) if known.stamp != stamp => {
                Err(io::Error::new(io::ErrorKind::InvalidData, "it is not what was written"))
            }
            Some(_) | None => Ok(file),
        }
    }

    /// Whether there is anything in the directory.
    pub(super) fn has_any(&self) -> bool {
        fs::read_dir(&self.dir).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// Removes what nobody uses: what is not of this profile, and of the rest what was not used for longest, beyond [`UNUSED_MAX`] bytes.
    /// Returns how many bytes were removed.
    pub(super) fn tidy(&self, profile: &str) -> io::Result<u64> {
        self.own()?;
        let mut removed = 0;
        let mut unused = Vec::new();
        // Not held while files are removed: runs look here. Whoever begins to use an entry does so on the thread that is here now.
        let used: HashSet<PathBuf> = {
            let mut all = self.lock();
            all.retain(|_, known| known.users.strong_count() > 0);
            all.keys().cloned().collect()
        };
        for entry in fs::read_dir(&self.dir)?.flatten() {
            let path = entry.path();
            let Ok(metadata) = entry.metadata() else {
                continue;
            };
            let extension = path.extension().and_then(|extension| extension.to_str());
            let native = match extension {
                Some(EXTENSION) => path.clone(),
                Some("json") => path.with_extension(EXTENSION),
                _ => {
                    if is_old(&metadata) {
                        removed += remove(&entry, &metadata);
                    }
                    continue;
                }
            };
            if used.contains(&native) {
                continue;
            }
            let name = native.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let is_of_another = !name.ends_with(profile);
            let is_half = extension == Some("json") && !native.exists();
            if is_of_another || is_half && is_old(&metadata) {
                removed += remove(&entry, &metadata);
            } else if extension == Some(EXTENSION) {
                let last = fs::metadata(facts_of(&path)).and_then(|facts| facts.modified());
                unused.push((last.unwrap_or(SystemTime::UNIX_EPOCH), metadata.len(), path));
            }
        }
        unused.sort_unstable();
        let mut kept = 0;
        for (_, size, path) in unused.into_iter().rev() {
            kept += size;
            if kept > UNUSED_MAX {
                // The facts first: what has them is complete.
                let _ = fs::remove_file(facts_of(&path));
                if fs::remove_file(&path).is_ok() {
                    removed += size;
                }
            }
        }
        Ok(removed)
    }
}

fn remove(entry: &DirEntry, metadata: &Metadata) -> u64 {
    let is_removed = metadata.is_file() && fs::remove_file(entry.path()).is_ok();
    if is_removed { metadata.len() } else { 0 }
}

fn is_old(metadata: &Metadata) -> bool {
    let age = metadata.modified().ok().and_then(|modified| modified.elapsed().ok());
    age.is_some_and(|age| age > LITTER)
}

fn facts_of(native: &Path) -> PathBuf {
    native.with_extension("json")
}

fn digest(code: &mut File) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut block = vec![0; BLOCK];
    loop {
        match code.read(&mut block)? {
            0 => return Ok(Digest(hash.finalize().into())),
            read => hash.update(&block[..read]),
        }
    }
}

#[cfg(test)]
mod tests;
