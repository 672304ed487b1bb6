//! Directories watched by inotify, through the notify library: each once, and told of under every path that it is known by.
//!
//! The library knows a directory by one path, and never looks which directory that is. So who watches one says which is meant, and
//! the table here says what is told of it, and whether the watch may have ended. It must not know why a directory is watched, nor what
//! is done where inotify cannot be had.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use nix::errno::Errno;
use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Config, Event, EventHandler, EventKind, INotifyWatcher, RecursiveMode, Watcher as _};

use super::inbox::Inbox;
use super::polling::{Identity, Interest};
use super::settling::PathEvent;

/// Why inotify does not watch a directory.
#[derive(Debug, thiserror::Error)]
pub(super) enum WatchError {
    /// The path does not lead to the directory that is meant, or not any more.
    #[error("there is no such directory")]
    Gone,
    /// The kernel gives this user no more of them.
    #[error(
        "no inotify {what} is left for this user (fs.inotify.{name} is {most}; see `sysctl fs.inotify`, and raise it)"
    )]
    NoneLeft {
        what: &'static str,
        name: &'static str,
        most: String,
    },
    /// The library's thread has ended.
    #[error("its events cannot be read")]
    Closed,
    /// The library's thread could not be started.
    #[error("no thread can be started to read its events: {0}")]
    NoThread(io::Error),
    /// A system call failed for another reason.
    #[error(transparent)]
    System(io::Error),
    /// The library has a reason of its own.
    #[error(transparent)]
    Library(notify::Error),
}

/// The choosing side's end of it. Its calls wait for the library's thread, and look at file systems.
#[derive(Debug)]
pub(super) struct Inotify {
    /// None only while it is dropped.
    library: Option<INotifyWatcher>,
    watches: Arc<Watches>,
}

/// What the choosing side and the library's thread share.
#[derive(Debug)]
struct Watches {
    inbox: Arc<Inbox>,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    watches: HashMap<Identity, Watch>,
    /// The paths by which the library may know them: there before the library is asked to watch one, and until it has forgotten it.
    by_path: BTreeMap<PathBuf, Identity>,
    closed: bool,
}

#[derive(Debug)]
struct Watch {
    /// By which path the library knows it; none if it does not.
    by: Option<PathBuf>,
    /// It may have ended: that it is known to the library says nothing.
    ended: bool,
    /// The paths under which it is told of, and what of it matters there.
    paths: BTreeMap<PathBuf, Interest>,
}

impl Watches {
    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inotify {
    /// Begins to read what the kernel tells, on a thread of the library, and to put it into the inbox.
    pub(super) fn open(inbox: &Arc<Inbox>) -> Result<Self, WatchError> {
        // The library does not tell if it cannot start its thread, and panics when it is asked for anything then.
        let thread = thread::Builder::new().spawn(|| {}).map_err(WatchError::NoThread)?;
        let _ = thread.join();
        let watches = Arc::new(Watches {
            inbox: Arc::clone(inbox),
            table: Mutex::default(),
        });
        let library = INotifyWatcher::new(Handler(Arc::clone(&watches)), Config::default()).map_err(opening)?;
        let inotify = Self {
            library: Some(library),
            watches,
        };
        match inotify.is_closed() {
            true => Err(WatchError::Closed),
            false => Ok(inotify),
        }
    }

    /// Whether nothing will be told any more.
    pub(super) fn is_closed(&self) -> bool {
        self.watches.lock().closed
    }

    /// Watches the directory that a path leads to, or what else of it matters under this path.
    pub(super) fn watch(&mut self, path: &Path, identity: Identity, interest: &Interest) -> Result<(), WatchError> {
        let stale = {
            let mut table = self.watches.lock();
            if let Some(watch) = table.watches.get_mut(&identity)
                && !watch.ended
            {
                watch.paths.insert(path.to_owned(), interest.clone());
                return Ok(());
            }
            let by = table.watches.get(&identity).and_then(|watch| watch.by.clone());
            let other = table.by_path.contains_key(path).then(|| path.to_owned());
            [by, other]
        };
        // What has ended for us the library may still have, and would have it twice.
        for path in stale.iter().flatten() {
            self.unwatch(path);
        }
        self.watches.lock().begin(path, identity, interest);
        let added = self.add(path, identity);
        if added.is_err() {
            self.watches.lock().leave(path, identity);
        }
        added
    }

    /// Forgets that a directory is known by this path. Tells the other paths of one that is not watched any more because of that.
    pub(super) fn forget(&mut self, path: &Path, identity: Identity) -> Vec<PathBuf> {
        let (by, others) = self.watches.lock().leave(path, identity);
        match by {
            Some(by) => {
                self.unwatch(&by);
                others
            }
            None => Vec::new(),
        }
    }

    /// Whether a directory is watched, as far as that was told.
    pub(super) fn is_alive(&self, identity: Identity) -> bool {
        let table = self.watches.lock();
        !table.closed && table.watches.get(&identity).is_some_and(|watch| !watch.ended)
    }

    /// Has the kernel watch a directory again in case it does not: the watches of a file system end when it is unmounted, and the
    /// library does not tell. Otherwise this changes nothing.
    pub(super) fn renew(&mut self, path: &Path, identity: Identity) {
        let is_by = |watch: &Watch| !watch.ended && watch.by.as_deref() == Some(path);
        if self.watches.lock().watches.get(&identity).is_some_and(is_by) {
            // If that fails it has ended, as one can see.
            let _ = self.add(path, identity);
        }
    }

    /// Has the library watch what is at a path; fails if that is not this directory.
    fn add(&mut self, path: &Path, identity: Identity) -> Result<(), WatchError> {
        let added = self.ask(|library| library.watch(path, RecursiveMode::NonRecursive));
        // The library does not tell what it has got.
        let now = Identity::of_directory(path);
        if added.is_ok() && now == Some(identity) {
            return Ok(());
        }
        self.unwatch(path);
        if added.is_ok()
            && let Some(other) = now
        {
            // Perhaps it was watched by another path: then this was its watch, and has ended.
            let told = self.watches.lock().end(other);
            self.watches.inbox.put(told);
        }
        Err(added.err().unwrap_or(WatchError::Gone))
    }

    fn unwatch(&mut self, path: &Path) {
        // Most often the library has dropped it by itself.
        let _ = self.ask(|library| library.unwatch(path));
        let mut table = self.watches.lock();
        if let Some(identity) = table.by_path.remove(path)
            && let Some(watch) = table.watches.get_mut(&identity)
        {
            (watch.by, watch.ended) = (None, true);
        }
    }

    /// The library panics instead of saying that its thread has ended.
    fn ask(&mut self, call: impl FnOnce(&mut INotifyWatcher) -> notify::Result<()>) -> Result<(), WatchError> {
        if self.is_closed() {
            return Err(WatchError::Closed);
        }
        let library = self.library.as_mut().ok_or(WatchError::Closed)?;
        let answer = catch_unwind(AssertUnwindSafe(|| call(library)));
        answer.map_err(|_| WatchError::Closed)?.map_err(adding)
    }
}

impl Drop for Inotify {
    fn drop(&mut self) {
        // Likewise: rather than to panic, the descriptor through which the thread was woken is left open.
        if self.is_closed() {
            std::mem::forget(self.library.take());
        }
    }
}

impl Table {
    /// A directory will be watched by this path. To be said before: what is told between could be that this has ended.
    fn begin(&mut self, path: &Path, identity: Identity, interest: &Interest) {
        let watch = self.watches.entry(identity).or_insert_with(|| Watch {
            by: None,
            ended: false,
            paths: BTreeMap::new(),
        });
        (watch.by, watch.ended) = (Some(path.to_owned()), false);
        watch.paths.insert(path.to_owned(), interest.clone());
        self.by_path.insert(path.to_owned(), identity);
    }

    /// A directory is not known by this path any more. Tells what the library must be asked to forget, and the paths that are left.
    fn leave(&mut self, path: &Path, identity: Identity) -> (Option<PathBuf>, Vec<PathBuf>) {
        let Some(watch) = self.watches.get_mut(&identity) else {
            return (None, Vec::new());
        };
        watch.paths.remove(path);
        let is_last = watch.paths.is_empty();
        let by = watch.by.clone().filter(|by| is_last || by == path);
        let left = watch.paths.keys().cloned().collect();
        if is_last {
            self.watches.remove(&identity);
        }
        (by, left)
    }

    /// The watch of a directory may have ended: tells that anything may have happened there.
    fn end(&mut self, identity: Identity) -> Vec<(PathBuf, PathEvent)> {
        let Some(watch) = self.watches.get_mut(&identity) else {
            return Vec::new();
        };
        watch.ended = true;
        watch.told()
    }

    /// What an event is told as: under all paths of the directory that it happened in, and of the one that it happened to. The library
    /// does not tell these two apart.
    fn told(&mut self, event: &Event) -> Vec<(PathBuf, PathEvent)> {
        let Some(what) = path_event(&event.kind) else {
            return Vec::new();
        };
        let mut told = Vec::new();
        for path in &event.paths {
            if let (Some(above), Some(name)) = (path.parent(), path.file_name())
                && let Some(watch) = self.by_path.get(above).and_then(|above| self.watches.get(above))
            {
                let matters =
                    |interest: &Interest| interest.has(name) && (what.is_entry() || *interest == Interest::Contents);
                let paths = watch.paths.iter().filter(|(_, interest)| matters(interest));
                told.extend(paths.map(|(path, _)| (path.join(name), what)));
            }
            if !what.is_entry() || !self.by_path.contains_key(path) {
                continue;
            }
            if !may_end(&event.kind) {
                let watch = self.by_path.get(path).and_then(|own| self.watches.get(own));
                told.extend(watch.into_iter().flat_map(Watch::told));
                continue;
            }
            // The library drops what it knows by this path or one below, also if it is another directory by now.
            let from = (Bound::Included(path.as_path()), Bound::Unbounded);
            let below = self.by_path.range::<Path, _>(from);
            let below = below.take_while(|(known, _)| known.starts_with(path));
            for identity in below.map(|(_, identity)| *identity).collect::<Vec<_>>() {
                told.extend(self.end(identity));
            }
        }
        told
    }
}

impl Watch {
    /// That something happened to the directory, under all its paths.
    fn told(&self) -> Vec<(PathBuf, PathEvent)> {
        self.paths.keys().map(|path| (path.clone(), PathEvent::Entry)).collect()
    }
}

/// Called on the library's thread.
struct Handler(Arc<Watches>);

impl EventHandler for Handler {
    fn handle_event(&mut self, event: notify::Result<Event>) {
        match event {
            // The library has one mask for all, and is told of every file that somebody opens in a watched directory, also in / and /etc on
            // the way: some 2 µs each. Of closing it is told only after writing.
            Ok(event) if matches!(event.kind, EventKind::Access(AccessKind::Open(_))) => {}
            Ok(event) if event.need_rescan() => self.0.inbox.put_anything(),
            Ok(event) => {
                let told = self.0.lock().told(&event);
                self.0.inbox.put(told);
            }
            Err(notify::Error {
                kind: notify::ErrorKind::Io(error),
                ..
            }) if error.kind() == io::ErrorKind::Interrupted => {}
            // The library would read again at once, for ever, and do nothing else: this ends its thread. What drops the handler says so.
            Err(_) => resume_unwind(Box::new("inotify cannot be read")),
        }
    }
}

impl Drop for Handler {
    fn drop(&mut self) {
        self.0.lock().closed = true;
        // The next look begins anew, or polls.
        self.0.inbox.set_polls(true);
    }
}

/// What an event means; none for one that changes nothing, or is told in another way, too.
fn path_event(kind: &EventKind) -> Option<PathEvent> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(PathEvent::Closed),
        EventKind::Access(_) | EventKind::Modify(ModifyKind::Name(RenameMode::Both)) => None,
        EventKind::Modify(ModifyKind::Data(_)) => Some(PathEvent::Written),
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From)) => Some(PathEvent::Gone),
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Some(PathEvent::Placed),
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Other => Some(PathEvent::Entry),
    }
}

/// Whether the library drops its watch of what such an event is about, or it is another directory by now.
fn may_end(kind: &EventKind) -> bool {
    matches!(
        kind,
        EventKind::Remove(_) | EventKind::Modify(ModifyKind::Name(RenameMode::From))
    )
}

fn opening(error: notify::Error) -> WatchError {
    match adding(error) {
        // The kernel says the same if it is descriptors that are not left.
        WatchError::System(error) if is(&error, Errno::EMFILE) && File::open("/dev/null").is_ok() => {
            none_left("instance", "max_user_instances")
        }
        error => error,
    }
}

fn adding(error: notify::Error) -> WatchError {
    match error.kind {
        notify::ErrorKind::MaxFilesWatch => none_left("watch", "max_user_watches"),
        notify::ErrorKind::PathNotFound => WatchError::Gone,
        notify::ErrorKind::Io(error) if is(&error, Errno::ENOENT) || is(&error, Errno::ENOTDIR) => WatchError::Gone,
        notify::ErrorKind::Io(error) => WatchError::System(error),
        _ => WatchError::Library(error),
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno as i32)
}

fn none_left(what: &'static str, name: &'static str) -> WatchError {
    let most = fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).unwrap_or_default();
    let most = most.trim().to_owned();
    WatchError::NoneLeft { what, name, most }
}

impl WatchError {
    /// Whether it is the right to read the directory that is missing.
    pub(super) fn is_about_rights(&self) -> bool {
        matches!(self, WatchError::System(error) if is(error, Errno::EACCES))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use notify::event::{CreateKind, DataChange, Flag, RemoveKind};

    use super::*;
    use crate::directory_watch::inbox::{DirectoryEvents, SettledChanges};
    use crate::directory_watch::settling::SettleTimes;
    use crate::directory_watch::watcher::Directories;

    fn event(kind: EventKind, path: &str) -> Event {
        Event::new(kind).add_path(path.into())
    }

    fn paths(told: &[(PathBuf, PathEvent)]) -> Vec<(&str, PathEvent)> {
        let mut told: Vec<_> = told
            .iter()
            .map(|(path, what)| (path.to_str().unwrap(), *what))
            .collect();
        told.sort_by_key(|(path, _)| *path);
        told
    }

    #[test]
    fn events_are_told_under_every_path_where_they_matter() {
        use PathEvent::{Entry, Written};
        let [root, etc] = ["/", "/etc"].map(|path| Identity::of_directory(Path::new(path)).unwrap());
        let mut table = Table::default();
        table.begin(Path::new("/d"), root, &Interest::Contents);
        table.begin(Path::new("/d/sub"), etc, &Interest::Contents);
        let watch = table.watches.get_mut(&root).unwrap();
        watch
            .paths
            .insert("/link".into(), Interest::Names(["sub".into()].into()));
        let created = EventKind::Create(CreateKind::Any);
        let written = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let removed = EventKind::Remove(RemoveKind::Any);
        let told = table.told(&event(created, "/d/f"));
        assert_eq!(paths(&told), [("/d/f", Entry)]);
        let told = table.told(&event(written, "/d/sub"));
        assert_eq!(paths(&told), [("/d/sub", Written)]);
        let told = table.told(&event(created, "/d/sub"));
        assert_eq!(
            paths(&told),
            [("/d/sub", Entry), ("/d/sub", Entry), ("/link/sub", Entry)]
        );
        assert!(table.watches.values().all(|watch| !watch.ended));
        let told = table.told(&event(removed, "/d"));
        assert_eq!(paths(&told), [("/d", Entry), ("/d/sub", Entry), ("/link", Entry)]);
        assert!(table.watches.values().all(|watch| watch.ended));
    }

    fn events_of(inbox: &Arc<Inbox>) -> DirectoryEvents {
        let times = SettleTimes {
            quiet: Duration::from_millis(1),
            busy: Duration::from_millis(10),
            writing: Duration::from_secs(1),
            finished: false,
        };
        let directories = Directories::new("files", Arc::clone(inbox), None);
        DirectoryEvents::new(Arc::clone(inbox), Arc::new(Mutex::new(directories)), times)
    }

    fn settled(events: &mut DirectoryEvents) -> SettledChanges {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        let settled = async { tokio::time::timeout(Duration::from_secs(30), events.settled()).await };
        runtime.unwrap().block_on(settled).expect("an event")
    }

    #[test]
    fn opened_files_are_nothing_and_lost_events_anything() {
        let inbox = Arc::new(Inbox::new(|_, what| Some(what)));
        let mut events = events_of(&inbox);
        let table = Mutex::default();
        let watches = Arc::new(Watches { inbox, table });
        let root = Identity::of_directory(Path::new("/")).unwrap();
        watches.lock().begin(Path::new("/"), root, &Interest::Contents);
        let mut handler = Handler(watches);
        handler.handle_event(Ok(event(EventKind::Access(AccessKind::Open(AccessMode::Any)), "/f")));
        handler.handle_event(Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)));
        let told = settled(&mut events);
        assert!(told.lost && told.paths.is_empty());
    }

    #[test]
    fn a_watch_whose_end_is_not_told_is_renewed() {
        let dir = tempfile::tempdir().unwrap();
        let identity = Identity::of_directory(dir.path()).unwrap();
        let inbox = Arc::new(Inbox::new(|_, what| Some(what)));
        let mut events = events_of(&inbox);
        let mut inotify = Inotify::open(&inbox).unwrap();
        inotify.watch(dir.path(), identity, &Interest::Contents).unwrap();
        // As after a file system was unmounted and mounted again.
        inotify.library.as_mut().unwrap().unwatch(dir.path()).unwrap();
        inotify.renew(dir.path(), identity);
        assert!(inotify.is_alive(identity));
        fs::create_dir(dir.path().join("new")).unwrap();
        let told = settled(&mut events).paths;
        let told: Vec<_> = told.into_iter().map(|told| (told.path, told.entry)).collect();
        assert_eq!(told, [(dir.path().join("new"), true)]);
    }
}
