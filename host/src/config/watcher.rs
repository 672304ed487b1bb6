//! Notices that something changed below the configuration paths, once it is no longer being changed.
//!
//! It must not know what is in the files. What it watches: every directory that is loaded, the directory that a path itself is
//! in (editors replace files, and a path may come later), and what symbolic links lead to. Directories are always watched under
//! their real path, because inotify knows a directory only once.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::task::spawn_blocking;
use tracing::warn;

// The part of the tree source that knows inotify, not what is watched for.
use crate::source::tree::fs_events::{self, Batch, FsEvents, FsWatcher};
use crate::source::tree::settling::{Patience, Touch};

/// How long nothing must change before a change is told, unless the caller wishes otherwise.
pub const SETTLE: Duration = Duration::from_millis(200);

/// How long a file that is being written, or one change after the other, holds a batch back at most.
const PATIENCE: Duration = Duration::from_secs(5);

/// Most directories that are watched; configuration has a handful.
const MOST_DIRECTORIES: usize = 10_000;

/// Tells that configuration changed.
#[derive(Debug)]
pub struct Watcher {
    events: FsEvents,
    directories: Arc<Mutex<Directories>>,
    /// A batch that is being looked at: kept until that is done, so that a cancelled wait loses nothing.
    batch: Option<Batch>,
}

/// Why configuration paths cannot be watched.
#[derive(Debug, thiserror::Error)]
pub enum WatcherError {
    /// inotify cannot be set up.
    #[error("cannot set up inotify: {0}")]
    Inotify(#[from] notify::Error),
    /// A relative path cannot be made absolute.
    #[error("cannot make {path} absolute: {source}", path = path.display())]
    Relative {
        /// The path.
        path: PathBuf,
        /// Why not.
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
        let patience = Patience {
            quiet: settle,
            busy: PATIENCE,
            writing: PATIENCE,
        };
        let wanted = {
            let scope = Arc::clone(&scope);
            move |path: &Path, touch| scope.read().unwrap_or_else(PoisonError::into_inner).wants(path, touch)
        };
        let (watcher, events) = fs_events::open(patience, wanted)?;
        let mut directories = Directories {
            paths,
            watcher,
            scope,
            changed: HashSet::new(),
            owed: false,
            unwatchable: false,
        };
        directories.watch();
        Ok(Self {
            events,
            directories: Arc::new(Mutex::new(directories)),
            batch: None,
        })
    }

    /// Waits until something changed and all that changed has settled. Cancel-safe: a change is told by the next call then.
    pub async fn changed(&mut self) {
        self.next().await;
    }

    /// What changed; empty if that is not known.
    async fn next(&mut self) -> HashSet<PathBuf> {
        loop {
            let batch = match &self.batch {
                Some(batch) => batch.clone(),
                None => self.batch.insert(self.events.all_settled().await).clone(),
            };
            let directories = Arc::clone(&self.directories);
            let look = spawn_blocking(move || {
                let mut directories = directories.lock().unwrap_or_else(PoisonError::into_inner);
                directories.look(&batch);
            });
            // It can fail only with the runtime or by a panic; then something may have changed.
            let failed = look.await.is_err();
            self.batch = None;
            let mut directories = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
            if std::mem::take(&mut directories.owed) || failed {
                return std::mem::take(&mut directories.changed);
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
    /// The sets are being made anew: what matters is not known.
    unknown: bool,
}

impl Scope {
    fn wants(&self, path: &Path, touch: Touch) -> bool {
        if self.unknown || self.single.contains(path) {
            return true;
        }
        let below = self.loaded.contains(path) || path.parent().is_some_and(|parent| self.loaded.contains(parent));
        below && (is_configuration(path) || (touch == Touch::Entry && may_be_directory(path)))
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
    watcher: FsWatcher,
    scope: Arc<RwLock<Scope>>,
    /// What changed since it was last told.
    changed: HashSet<PathBuf>,
    /// Something changed since then.
    owed: bool,
    /// A directory could not be watched; said once.
    unwatchable: bool,
}

impl Directories {
    /// Looks at what happened: keeps what matters, and watches what is new.
    fn look(&mut self, batch: &Batch) {
        if batch.lost {
            self.owed = true;
            self.watcher.forget_all();
        }
        for (path, entry) in &batch.paths {
            let scope = self.scope.read().unwrap_or_else(PoisonError::into_inner);
            let matters = scope.single.contains(path)
                || scope.wants(path, Touch::Entry)
                    && (is_configuration(path)
                        || name(path).starts_with(b"..")
                        || self.watcher.is_watched(path)
                        || path.is_dir());
            drop(scope);
            if matters {
                self.owed = true;
                self.changed.insert(path.clone());
            }
            if *entry {
                self.watcher.forget(path);
            }
        }
        self.watch();
    }

    /// Watches everything that is there to be watched.
    fn watch(&mut self) {
        self.scope.write().unwrap_or_else(PoisonError::into_inner).unknown = true;
        let mut scope = Scope::default();
        for path in self.paths.clone() {
            self.watch_above(&path, &mut scope);
            self.watch_at(&path, &mut scope);
        }
        *self.scope.write().unwrap_or_else(PoisonError::into_inner) = scope;
    }

    /// Watches the nearest directory above a path that exists, for what is missing on the way.
    fn watch_above(&mut self, path: &Path, scope: &mut Scope) {
        for missing in path.ancestors() {
            let Some((above, name)) = missing.parent().zip(missing.file_name()) else {
                return;
            };
            if let Ok(above) = fs::canonicalize(above) {
                scope.single.insert(above.join(name));
                self.watch_directory(&above);
                scope.single.insert(above);
                return;
            }
        }
    }

    /// Watches what is at a path: a directory with all below, or a file.
    fn watch_at(&mut self, path: &Path, scope: &mut Scope) {
        let mut stack = vec![path.to_owned()];
        while let Some(path) = stack.pop() {
            let Ok(real) = fs::canonicalize(&path) else {
                continue;
            };
            if real.is_dir() {
                if scope.loaded.len() >= MOST_DIRECTORIES || !scope.loaded.insert(real.clone()) {
                    continue;
                }
                // Watched before it is listed: what comes in between is told.
                self.watch_directory(&real);
                let entries = fs::read_dir(&real).into_iter().flatten().flatten();
                stack.extend(entries.filter(leads_on).map(|entry| entry.path()));
            } else if let Some(above) = real.parent() {
                self.watch_directory(above);
                scope.single.insert(real);
            }
        }
    }

    fn watch_directory(&mut self, directory: &Path) {
        if let Err(error) = self.watcher.watch(directory)
            && !std::mem::replace(&mut self.unwatchable, true)
        {
            let directory = directory.display();
            warn!(%directory, %error, "cannot watch a configuration directory: reload it by SIGHUP");
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
mod tests {
    use std::future::Future;
    use std::io::Write;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    const DEADLINE: Duration = Duration::from_secs(20);
    const QUICK: Duration = Duration::from_millis(20);

    fn run<F: Future>(test: F) -> F::Output {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(test)
    }

    struct Config {
        dir: TempDir,
        watcher: Watcher,
    }

    impl Config {
        /// Prepares a directory, then watches a path in it.
        fn new(watched: &str, prepare: impl FnOnce(&Path)) -> Self {
            let dir = TempDir::new().unwrap();
            prepare(dir.path());
            let watcher = Watcher::new(&[dir.path().join(watched)], QUICK).unwrap();
            Self { dir, watcher }
        }

        fn path(&self, path: &str) -> PathBuf {
            self.dir.path().join(path)
        }

        fn write(&self, path: &str) {
            fs::write(self.path(path), "text").unwrap();
        }

        /// Waits for changes until one of them is of the path named last; tells the names of all.
        async fn changes(&mut self, last: &str) -> Vec<String> {
            let mut names = HashSet::new();
            let last = self.path(last);
            let last = fs::canonicalize(&last).unwrap_or(last);
            while !names.contains(&last) {
                let next = tokio::time::timeout(DEADLINE, self.watcher.next()).await;
                names.extend(next.unwrap_or_else(|_| panic!("nothing but {names:?}")));
            }
            let root = fs::canonicalize(self.dir.path()).unwrap();
            let below = |path: PathBuf| path.strip_prefix(&root).unwrap().display().to_string();
            let mut names: Vec<_> = names.into_iter().map(below).collect();
            names.sort();
            names
        }
    }

    fn directory(root: &Path) {
        fs::create_dir(root.join("conf")).unwrap();
        fs::write(root.join("conf/a.twc"), "text").unwrap();
    }

    #[test]
    fn files_that_are_written_replaced_and_deleted() {
        run(async {
            let mut config = Config::new("conf", directory);
            config.write("conf/a.twc");
            assert_eq!(config.changes("conf/a.twc").await, ["conf/a.twc"]);
            config.write("conf/.a.twc.swp");
            fs::rename(config.path("conf/.a.twc.swp"), config.path("conf/a.twc")).unwrap();
            assert_eq!(config.changes("conf/a.twc").await, ["conf/a.twc"]);
            fs::remove_file(config.path("conf/a.twc")).unwrap();
            assert_eq!(config.changes("conf/a.twc").await, ["conf/a.twc"]);
        });
    }

    #[test]
    fn droppings_are_no_change() {
        run(async {
            let mut config = Config::new("conf", directory);
            for dropping in [
                "conf/.a.twc.swp",
                "conf/a.twc~",
                "conf/4913",
                "conf/README",
                "other.twc",
            ] {
                config.write(dropping);
            }
            fs::remove_file(config.path("conf/4913")).unwrap();
            // Whatever was told of them is told before or with this.
            config.write("conf/b.json");
            assert_eq!(config.changes("conf/b.json").await, ["conf/b.json"]);
        });
    }

    #[test]
    fn sub_directories_that_come_and_go() {
        run(async {
            let mut config = Config::new("conf", directory);
            fs::create_dir_all(config.path("conf/sub/deep")).unwrap();
            config.changes("conf/sub").await;
            config.write("conf/sub/deep/b.twc");
            config.changes("conf/sub/deep/b.twc").await;
            for _ in 0..20 {
                fs::remove_dir_all(config.path("conf/sub")).unwrap();
                fs::create_dir_all(config.path("conf/sub/deep")).unwrap();
                config.changes("conf/sub").await;
                config.write("conf/sub/deep/b.twc");
                config.changes("conf/sub/deep/b.twc").await;
            }
            fs::remove_dir_all(config.path("conf/sub")).unwrap();
            config.changes("conf/sub").await;
        });
    }

    #[test]
    fn a_single_file_whatever_it_is_called() {
        run(async {
            let mut config = Config::new("watches", |root| fs::write(root.join("watches"), "text").unwrap());
            config.write("neighbour.twc");
            config.write("new");
            fs::rename(config.path("new"), config.path("watches")).unwrap();
            assert_eq!(config.changes("watches").await, ["watches"]);
            config.write("watches");
            assert_eq!(config.changes("watches").await, ["watches"]);
        });
    }

    #[test]
    fn a_path_that_comes_later_and_is_replaced() {
        run(async {
            let mut config = Config::new("above/conf", |_| {});
            fs::create_dir_all(config.path("above")).unwrap();
            config.changes("above").await;
            fs::create_dir_all(config.path("above/conf")).unwrap();
            config.changes("above/conf").await;
            config.write("above/conf/a.twc");
            config.changes("above/conf/a.twc").await;
            fs::rename(config.path("above/conf"), config.path("old")).unwrap();
            config.changes("above/conf").await;
            fs::create_dir(config.path("above/conf")).unwrap();
            config.changes("above/conf").await;
            config.write("old/a.twc");
            config.write("above/conf/b.twc");
            assert_eq!(config.changes("above/conf/b.twc").await, ["above/conf/b.twc"]);
            fs::remove_dir_all(config.path("above")).unwrap();
            config.changes("above").await;
            fs::create_dir_all(config.path("above/conf")).unwrap();
            config.changes("above").await;
            config.write("above/conf/a.twc");
            config.changes("above/conf/a.twc").await;
        });
    }

    #[test]
    fn links_to_directories_and_files() {
        run(async {
            let mut config = Config::new("conf", |root| {
                for version in ["v1", "v2", "elsewhere"] {
                    fs::create_dir(root.join(version)).unwrap();
                }
                fs::write(root.join("elsewhere/f.twc"), "text").unwrap();
                symlink("v1", root.join("conf")).unwrap();
                symlink("../elsewhere/f.twc", root.join("v1/f.twc")).unwrap();
                symlink(".", root.join("v1/loop")).unwrap();
            });
            config.write("v1/a.twc");
            assert_eq!(config.changes("v1/a.twc").await, ["v1/a.twc"]);
            config.write("elsewhere/f.twc");
            assert_eq!(config.changes("elsewhere/f.twc").await, ["elsewhere/f.twc"]);
            symlink("v2", config.path("new")).unwrap();
            fs::rename(config.path("new"), config.path("conf")).unwrap();
            // The link itself, not what it leads to.
            let next = tokio::time::timeout(DEADLINE, config.watcher.next()).await.unwrap();
            let link = fs::canonicalize(config.dir.path()).unwrap().join("conf");
            assert_eq!(next, HashSet::from([link]));
            config.write("v1/a.twc");
            config.write("v2/a.twc");
            assert_eq!(config.changes("v2/a.twc").await, ["v2/a.twc"]);
        });
    }

    #[test]
    fn a_volume_that_is_swapped_as_a_whole() {
        run(async {
            let volume = |root: &Path, name: &str| {
                fs::create_dir(root.join(name)).unwrap();
                fs::write(root.join(name).join("a.twc"), name).unwrap();
                symlink(name, root.join("..new")).unwrap();
                fs::rename(root.join("..new"), root.join("..data")).unwrap();
            };
            let mut config = Config::new("conf", |root| {
                fs::create_dir(root.join("conf")).unwrap();
                volume(&root.join("conf"), "..1");
                symlink("..data/a.twc", root.join("conf/a.twc")).unwrap();
            });
            volume(&config.path("conf"), "..2");
            let next = tokio::time::timeout(DEADLINE, config.watcher.next()).await.unwrap();
            let data = fs::canonicalize(config.dir.path()).unwrap().join("conf/..data");
            assert!(next.contains(&data), "{next:?}");
        });
    }

    #[test]
    fn half_written_files_hold_the_batch_back() {
        run(async {
            let mut config = Config::new("conf", directory);
            let mut file = fs::File::create(config.path("conf/b.twc")).unwrap();
            file.write_all(b"half").unwrap();
            config.write("conf/a.twc");
            // Without the hold this is over after a tenth of the time; with it, slowness of the machine cannot end it.
            let early = tokio::time::timeout(QUICK * 10, config.watcher.changed()).await;
            assert!(early.is_err(), "told while a file is half written");
            file.write_all(b"done").unwrap();
            drop(file);
            let names = config.changes("conf/b.twc").await;
            assert_eq!(names, ["conf/a.twc", "conf/b.twc"]);
        });
    }

    #[test]
    fn a_cancelled_wait_loses_nothing() {
        run(async {
            let mut config = Config::new("conf", directory);
            config.write("conf/a.twc");
            // Dropped again and again while it waits.
            for _ in 0..50 {
                let step = tokio::time::timeout(Duration::from_millis(1), config.watcher.next()).await;
                if let Ok(changed) = step {
                    assert_eq!(changed.len(), 1);
                    return;
                }
            }
            config.changes("conf/a.twc").await;
        });
    }
}
