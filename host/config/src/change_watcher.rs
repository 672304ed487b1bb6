//! Notices that something changed below the configuration paths, once it is no longer being changed.
//!
//! It must not know what is in the files. What it watches: every directory that is loaded, the directory that a path itself is
//! in (editors replace files, and a path may come later), what symbolic links lead to, and every directory and link on the way: any
//! of them may be moved away, and another put in its place. The files of components are paths of the same kind; which ones is known
//! only when the configuration has been loaded. Directories are always watched under their real path.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::task::{JoinHandle, spawn_blocking};

use super::component_resolver::{Changes, Watched};
use twitcher_files::directory_watch::settling::{PathEvent, SettleTimes, SettledPath};
use twitcher_files::directory_watch::{self, DirectoryEvents, DirectoryWatcher, SettledChanges, way};

/// How long nothing must change before a change is told, unless the caller wishes otherwise.
pub const SETTLE: Duration = Duration::from_millis(200);

/// How long a file that is being written, or one change after the other, holds a batch back at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most directories that are watched; configuration has a handful.
const MOST_DIRECTORIES: usize = 10_000;

/// Most files of components that are watched.
const MOST_COMPONENTS: usize = 10_000;

/// Tells that configuration changed.
#[derive(Debug)]
pub struct Watcher {
    events: DirectoryEvents,
    directories: Arc<Mutex<Directories>>,
    /// A batch that is being looked at, and what will be told of it: kept until then, so that a cancelled wait loses nothing. The
    /// waiting side never locks the directories: whoever else looks at some may have to wait for a file system.
    look: Option<JoinHandle<Option<HashSet<PathBuf>>>>,
}

/// Chooses the files of components whose changes count as changes of the configuration.
#[derive(Debug, Clone)]
pub struct ComponentWatch {
    directories: Arc<Mutex<Directories>>,
}

impl ComponentWatch {
    /// Watches these and no others. None needs to exist yet; each may be a symbolic link. True if one of them was not watched
    /// before: it may have changed since it was read. Blocks while it looks at directories.
    pub fn watch(&self, files: BTreeSet<Watched>) -> bool {
        let mut directories = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        if directories.components == files {
            return false;
        }
        let more = !files.is_subset(&directories.components);
        directories.components = files;
        directories.watch();
        more
    }

    /// Watches what is there now, also what has come to its place without an event: of what is mounted there is none. Blocks while it
    /// looks at directories.
    pub fn look_again(&self) {
        self.directories.lock().unwrap_or_else(PoisonError::into_inner).watch();
    }
}

/// Why configuration paths cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatcherError {
    /// A relative path cannot be made absolute.
    #[error("cannot make {path} absolute: {source}", path = path.display())]
    Relative {
        /// The path.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
}

impl Watcher {
    /// Watches files and directories, directories with all below them. None needs to exist yet. A change is told when nothing
    /// changed for `settle`, by default [`SETTLE`]. Blocks while it looks at the directories.
    pub fn new(paths: &[PathBuf], settle: Duration) -> Result<Self, WatcherError> {
        let absolute = |path: &PathBuf| {
            std::path::absolute(path).map_err(|source| WatcherError::Relative {
                path: path.clone(),
                source,
            })
        };
        let paths = paths.iter().map(absolute).collect::<Result<_, _>>()?;
        let scope = Arc::new(RwLock::new(Scope::default()));
        let patience = SettleTimes {
            quiet: settle,
            busy: PATIENCE,
            writing: PATIENCE,
            // What is loaded together is most often written together.
            finished: false,
        };
        let wanted = {
            let scope = Arc::clone(&scope);
            move |path: &Path, touch| scope.read().unwrap_or_else(PoisonError::into_inner).counts(path, touch)
        };
        let (watcher, events) = directory_watch::open("configuration", patience, wanted);
        let mut directories = Directories {
            paths,
            components: BTreeSet::new(),
            watcher,
            scope,
        };
        directories.watch();
        Ok(Self {
            events,
            directories: Arc::new(Mutex::new(directories)),
            look: None,
        })
    }

    /// What tells it which components there are.
    pub fn components(&self) -> ComponentWatch {
        ComponentWatch {
            directories: Arc::clone(&self.directories),
        }
    }

    /// Waits until something changed and all that changed has settled. Cancel-safe: a change is told by the next call then.
    pub async fn changed(&mut self) {
        self.next().await;
    }

    /// What changed; empty if that is not known.
    async fn next(&mut self) -> HashSet<PathBuf> {
        loop {
            let look = match &mut self.look {
                Some(look) => look,
                None => {
                    let batch = self.events.all_settled().await;
                    let directories = Arc::clone(&self.directories);
                    self.look.insert(spawn_blocking(move || {
                        let mut directories = directories.lock().unwrap_or_else(PoisonError::into_inner);
                        directories.look(&batch)
                    }))
                }
            };
            let told = look.await;
            self.look = None;
            match told {
                Ok(Some(changed)) => return changed,
                Ok(None) => {}
                // It can fail only with the runtime or by a panic; then something may have changed.
                Err(_) => return HashSet::new(),
            }
        }
    }
}

/// Which paths matter. Real paths, as directories are watched under these.
#[derive(Debug, Default)]
struct Scope {
    /// Directories that are loaded.
    loaded: HashSet<PathBuf>,
    /// Single paths: those configured, what links lead to, and what must come or stay for them to exist.
    single: HashSet<PathBuf>,
    /// Those of them that are only ever exchanged as a whole.
    exchanged: HashSet<PathBuf>,
    /// Directories of which every entry matters.
    whole: HashSet<PathBuf>,
    /// The sets are being made anew: what matters is not known.
    unknown: bool,
}

impl Scope {
    /// As what something that happened to a path counts.
    fn counts(&self, path: &Path, touch: PathEvent) -> Option<PathEvent> {
        match self.exchanged.contains(path) {
            true => Some(PathEvent::Exchanged),
            false => self.wants(path, touch).then_some(touch),
        }
    }

    /// Whether a path matters whatever it is.
    fn names(&self, path: &Path) -> bool {
        self.single.contains(path) || path.parent().is_some_and(|parent| self.whole.contains(parent))
    }

    fn wants(&self, path: &Path, touch: PathEvent) -> bool {
        if self.unknown || self.names(path) {
            return true;
        }
        let below = self.loaded.contains(path) || path.parent().is_some_and(|parent| self.loaded.contains(parent));
        below && (is_configuration(path) || (touch.is_entry() && may_be_directory(path)))
    }
}

fn name(path: &Path) -> &[u8] {
    path.file_name().map_or(b"", |name| name.as_encoded_bytes())
}

fn is_configuration(path: &Path) -> bool {
    let known = path
        .extension()
        .is_some_and(|extension| extension == "twc" || extension == "json");
    known && !name(path).starts_with(b".")
}

/// Hidden directories are not loaded, but links such as `..data` are how container managers swap a whole volume.
fn may_be_directory(path: &Path) -> bool {
    !name(path).starts_with(b".") || name(path).starts_with(b"..")
}

/// The directories that are watched, and the paths they are watched for. All of it blocks.
#[derive(Debug)]
struct Directories {
    paths: Vec<PathBuf>,
    components: BTreeSet<Watched>,
    watcher: DirectoryWatcher,
    scope: Arc<RwLock<Scope>>,
}

impl Directories {
    /// Looks at what happened, and watches what is new. Tells what matters; none if nothing does, and nothing in particular if
    /// events were lost.
    fn look(&mut self, batch: &SettledChanges) -> Option<HashSet<PathBuf>> {
        let mut changed = HashSet::new();
        if batch.lost {
            self.watcher.forget_all();
        }
        for SettledPath { path, entry, .. } in &batch.paths {
            let scope = self.scope.read().unwrap_or_else(PoisonError::into_inner);
            let matters = scope.names(path)
                || scope.wants(path, PathEvent::Entry)
                    && (is_configuration(path)
                        || name(path).starts_with(b"..")
                        || self.watcher.is_watched(path)
                        || path.is_dir());
            drop(scope);
            if matters {
                changed.insert(path.clone());
            }
            if *entry {
                self.watcher.forget(path);
            }
        }
        self.watch();
        (batch.lost || !changed.is_empty()).then_some(changed)
    }

    /// Watches everything that is there to be watched.
    fn watch(&mut self) {
        self.scope.write().unwrap_or_else(PoisonError::into_inner).unknown = true;
        let mut scope = Scope::default();
        for path in self.paths.clone() {
            if let Some(real) = self.watch_way(&path, &mut scope) {
                self.watch_at(real, &mut scope);
            }
        }
        for Watched { path, changes } in self.components.clone().iter().take(MOST_COMPONENTS) {
            if *changes == Changes::Exchanged {
                self.watch_exchanged(path, &mut scope);
                continue;
            }
            let Some(real) = self.watch_way(path, &mut scope) else {
                continue;
            };
            if *changes == Changes::Entries {
                self.watcher.watch(&real);
                scope.whole.insert(real);
            } else {
                self.watch_file(real, &mut scope);
            }
        }
        *self.scope.write().unwrap_or_else(PoisonError::into_inner) = scope;
    }

    /// Watches every name on the way to a path, up to the first that is missing. Returns the real path of what is there.
    fn watch_way(&mut self, path: &Path, scope: &mut Scope) -> Option<PathBuf> {
        way::follow(path, |directory, name| {
            self.watcher.watch_name(directory, name);
            scope.single.insert(directory.join(name));
        })
    }

    /// Watches a path that is only ever exchanged as a whole, not what it leads to.
    fn watch_exchanged(&mut self, path: &Path, scope: &mut Scope) {
        if let (Some(above), Some(name)) = (path.parent(), path.file_name())
            && let Some(above) = self.watch_way(above, scope)
        {
            self.watcher.watch_name(&above, name);
            scope.single.insert(above.join(name));
            scope.exchanged.insert(above.join(name));
        }
    }

    /// Watches what is at a real path: a directory with all below, or a file.
    fn watch_at(&mut self, real: PathBuf, scope: &mut Scope) {
        let mut stack = vec![real];
        while let Some(real) = stack.pop() {
            if !real.is_dir() {
                self.watch_file(real, scope);
                continue;
            }
            if scope.loaded.len() >= MOST_DIRECTORIES || !scope.loaded.insert(real.clone()) {
                continue;
            }
            // Watched before it is listed: what comes in between is told.
            self.watcher.watch(&real);
            for entry in fs::read_dir(&real).into_iter().flatten().flatten().filter(leads_on) {
                match entry.file_type().is_ok_and(|kind| kind.is_symlink()) {
                    true => stack.extend(self.watch_way(&entry.path(), scope)),
                    false => stack.push(entry.path()),
                }
            }
        }
    }

    /// Watches the file at a real path.
    fn watch_file(&mut self, real: PathBuf, scope: &mut Scope) {
        if let Some(above) = real.parent() {
            self.watcher.watch(above);
            scope.single.insert(real);
        }
    }
}

/// Whether a directory entry is a directory to be loaded, or a link to something that is.
fn leads_on(entry: &fs::DirEntry) -> bool {
    let path = entry.path();
    match entry.file_type() {
        Ok(kind) if kind.is_dir() => !name(&path).starts_with(b"."),
        Ok(kind) if kind.is_symlink() => !name(&path).starts_with(b".") && (is_configuration(&path) || path.is_dir()),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
