//! The choosing side: which directories are watched, each by inotify or by being polled.
//!
//! Directories are watched one by one, never recursively: a directory is watched *before* it is listed, so nothing that is put
//! into a new one can be missed. All of it blocks.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use inotify::{Inotify, WatchDescriptor, WatchMask, Watches};
use nix::errno::Errno;
use tracing::{info, warn};

use super::inbox::{DirectoryEvents, Inbox, POLL};
use super::polling::{Identity, Interest, Snapshot};
use super::settling::{PathEvent, SettleTimes};

/// A directory that is exchanged all the time is left to later events after so many attempts.
const ATTEMPTS: u32 = 5;

/// Chooses the directories that are watched. Its calls look at file systems: not for async code.
#[derive(Debug)]
pub struct DirectoryWatcher {
    directories: Arc<Mutex<Directories>>,
}

/// Begins to tell what happens to paths where it is `wanted`, and as what; asked for each event, so it must be quick. `what` is what the
/// log calls all that is watched. Without inotify it polls.
pub fn open(
    what: &'static str,
    times: SettleTimes,
    wanted: impl Fn(&Path, PathEvent) -> Option<PathEvent> + Send + Sync + 'static,
) -> (DirectoryWatcher, DirectoryEvents) {
    let inbox = Arc::new(Inbox::new(wanted));
    let mut directories = Directories::new(what, Arc::clone(&inbox), None);
    directories.open();
    let directories = Arc::new(Mutex::new(directories));
    let events = DirectoryEvents::new(inbox, Arc::clone(&directories), times);
    (DirectoryWatcher { directories }, events)
}

impl DirectoryWatcher {
    /// Watches a directory and what is in it. A symbolic link at the end is followed. False if there is no such directory.
    ///
    /// One that is watched already is looked at again: another directory that has come to its path without an event is watched in its
    /// place.
    pub fn watch(&mut self, directory: &Path) -> bool {
        self.lock().watch(directory, &Interest::Contents)
    }

    /// Watches what a name in a directory means, not what is in it. False if there is no such directory.
    pub fn watch_name(&mut self, directory: &Path, name: &OsStr) -> bool {
        self.lock().watch(directory, &Interest::Names([name.to_owned()].into()))
    }

    /// Whether this directory is watched.
    pub fn is_watched(&self, directory: &Path) -> bool {
        self.lock().known.contains_key(directory)
    }

    /// To be called for each path that may be another directory than before: it and what is below must be watched again.
    pub fn forget(&mut self, path: &Path) {
        let mut directories = self.lock();
        let below = (Bound::Included(path), Bound::Unbounded);
        let below = directories.known.range::<Path, _>(below);
        let gone: Vec<PathBuf> = below
            .take_while(|(known, _)| known.starts_with(path))
            .map(|(known, _)| known.clone())
            .collect();
        for path in gone {
            directories.forget(&path);
        }
    }

    /// Watches no directory any more.
    pub fn forget_all(&mut self) {
        self.forget(Path::new("/"));
    }

    fn lock(&self) -> MutexGuard<'_, Directories> {
        self.directories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every directory that is watched.
#[derive(Debug)]
pub(super) struct Directories {
    what: &'static str,
    inbox: Arc<Inbox>,
    inotify: Option<Watches>,
    known: BTreeMap<PathBuf, Directory>,
    /// It was said that something is polled.
    said: bool,
}

#[derive(Debug)]
struct Directory {
    identity: Identity,
    interest: Interest,
    how: How,
}

#[derive(Debug)]
enum How {
    Inotify(WatchDescriptor),
    Polled(Snapshot),
}

impl Directory {
    fn is_polled(&self) -> bool {
        matches!(self.how, How::Polled(_))
    }
}

impl Directories {
    pub(super) fn new(what: &'static str, inbox: Arc<Inbox>, inotify: Option<Watches>) -> Self {
        Self {
            what,
            inbox,
            inotify,
            known: BTreeMap::new(),
            said: false,
        }
    }

    fn open(&mut self) {
        match Inotify::init() {
            Ok(inotify) => {
                self.inotify = Some(inotify.watches());
                self.inbox.read_from(inotify);
            }
            Err(error) => {
                self.inbox.set_polls(true);
                self.say(&in_words_of_opening(&error));
            }
        }
    }

    fn watch(&mut self, path: &Path, interest: &Interest) -> bool {
        for _ in 0..ATTEMPTS {
            let Some(identity) = Identity::of_directory(path) else {
                self.forget(path);
                return false;
            };
            let interest = match self.known.get(path) {
                Some(known) if known.identity == identity && self.is_alive(known) => {
                    if known.interest.covers(interest) {
                        return true;
                    }
                    known.interest.clone().and(interest)
                }
                Some(known) => known.interest.clone().and(interest),
                None => interest.clone(),
            };
            if self.known.get(path).is_some_and(|known| known.identity != identity) {
                self.forget(path);
            }
            let how = match self.add(path, &interest) {
                Ok(watch) => {
                    if self.known.get(path).is_some_and(Directory::is_polled) {
                        let now = self.last_look(path, &interest);
                        self.inbox.put(now.closed(path));
                    }
                    How::Inotify(watch)
                }
                Err(Errno::ENOENT | Errno::ENOTDIR) => continue,
                Err(_) => {
                    self.inbox.set_polls(true);
                    How::Polled(self.last_look(path, &interest))
                }
            };
            let directory = Directory {
                identity,
                interest,
                how,
            };
            self.known.insert(path.to_owned(), directory);
            // Whether it is the directory that was looked at is known only now.
            if Identity::of_directory(path) == Some(identity) {
                return true;
            }
        }
        self.known.contains_key(path)
    }

    /// How a directory is now. If it was polled until now, what changed is told.
    fn last_look(&mut self, path: &Path, interest: &Interest) -> Snapshot {
        let mut now = Snapshot::take(path, interest);
        if let Some(Directory {
            interest: old,
            how: How::Polled(last),
            ..
        }) = self.known.get(path)
        {
            let mut events = now.compare(last, path);
            events.retain(|(of, _)| of == path || of.file_name().is_some_and(|name| old.has(name)));
            self.inbox.put(events);
        }
        now
    }

    fn is_alive(&self, directory: &Directory) -> bool {
        match &directory.how {
            How::Inotify(watch) => self.inbox.is_alive(watch),
            How::Polled(_) => true,
        }
    }

    /// Has inotify watch it. If that cannot be for another reason than that there is no such directory, this is said.
    fn add(&mut self, path: &Path, interest: &Interest) -> Result<WatchDescriptor, Errno> {
        let added = match &mut self.inotify {
            None => return Err(Errno::EMFILE),
            Some(inotify) => {
                self.inbox.adding();
                let added = inotify.add(path, interest.mask() | WatchMask::ONLYDIR | WatchMask::MASK_ADD);
                let watch = added.as_ref().ok().map(|watch| (watch.clone(), path));
                self.inbox.added(watch);
                added
            }
        };
        added.map_err(|error| {
            let errno = Errno::from_raw(error.raw_os_error().unwrap_or_default());
            // To watch a directory takes the right to read it, to look up a name in it does not: it is polled, and nothing is amiss.
            let may_not = errno == Errno::EACCES && *interest != Interest::Contents;
            if !may_not && !matches!(errno, Errno::ENOENT | Errno::ENOTDIR) {
                self.say(&format!("{}: {}", path.display(), in_words_of_adding(&error)));
            }
            errno
        })
    }

    fn forget(&mut self, path: &Path) {
        if let Some(directory) = self.known.remove(path)
            && let How::Inotify(watch) = directory.how
            && self.inbox.removed(&watch, path)
            && let Some(inotify) = &mut self.inotify
        {
            // Of a directory that is gone there is none any more.
            let _ = inotify.remove(watch);
        }
    }

    /// Looks at what is polled, and tells what changed. At times it tries to do without, and looks whether what is watched is still
    /// what it was.
    pub(super) fn look(&mut self, retry: bool) {
        if self.inbox.is_broken() && self.inotify.take().is_some() {
            self.say("its events cannot be read");
            self.known.clear();
            self.inbox.put_anything();
        }
        if retry {
            self.retry();
        }
        let mut events = Vec::new();
        let mut gone = Vec::new();
        for (path, directory) in &mut self.known {
            if let How::Polled(last) = &mut directory.how {
                let mut now = Snapshot::take(path, &directory.interest);
                events.extend(now.compare(last, path));
                if !now.exists() {
                    gone.push(path.clone());
                }
                *last = now;
            }
        }
        for path in gone {
            self.forget(&path);
        }
        self.inbox.put(events);
        let polls = self.polls();
        self.inbox.set_polls(polls);
        if retry && !polls && std::mem::take(&mut self.said) {
            info!("the {} is watched by inotify again", self.what);
        }
    }

    fn retry(&mut self) {
        if self.inotify.is_none() {
            self.open();
        }
        let mut events = Vec::new();
        for (path, directory) in std::mem::take(&mut self.known) {
            if Identity::of_directory(&path) != Some(directory.identity) {
                events.push((path.clone(), PathEvent::Entry));
            }
            let how = match directory.how {
                How::Polled(last) => match self.add(&path, &directory.interest) {
                    Ok(watch) => {
                        let mut now = Snapshot::take(&path, &directory.interest);
                        events.extend(now.compare(&last, &path));
                        events.extend(now.closed(&path));
                        How::Inotify(watch)
                    }
                    Err(_) => How::Polled(last),
                },
                watched @ How::Inotify(_) => watched,
            };
            self.known.insert(path, Directory { how, ..directory });
        }
        self.inbox.put(events);
    }

    fn polls(&self) -> bool {
        self.inotify.is_none() || self.known.values().any(Directory::is_polled)
    }

    fn say(&mut self, why: &str) {
        if !std::mem::replace(&mut self.said, true) {
            warn!(
                "cannot watch the {} by inotify: {why}; until that is mended, changes are looked for every {} s",
                self.what,
                POLL.as_secs()
            );
        }
    }
}

impl Interest {
    fn mask(&self) -> WatchMask {
        let names = WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVED_FROM
            | WatchMask::MOVED_TO
            | WatchMask::ATTRIB
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF;
        match self {
            Interest::Names(_) => names,
            Interest::Contents => names | WatchMask::MODIFY | WatchMask::CLOSE_WRITE,
        }
    }

    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Interest::Contents, _) => true,
            (Interest::Names(_), Interest::Contents) => false,
            (Interest::Names(ours), Interest::Names(theirs)) => ours.is_superset(theirs),
        }
    }

    fn has(&self, name: &OsStr) -> bool {
        match self {
            Interest::Contents => true,
            Interest::Names(names) => names.contains(name),
        }
    }

    fn and(self, other: &Self) -> Self {
        match (self, other) {
            (Interest::Names(ours), Interest::Names(theirs)) => Interest::Names(&ours | theirs),
            (Interest::Contents, _) | (_, Interest::Contents) => Interest::Contents,
        }
    }
}

fn in_words_of_opening(error: &io::Error) -> String {
    match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
        // The kernel says the same of both.
        Errno::EMFILE if File::open("/dev/null").is_ok() => limit("max_user_instances", "instance"),
        _ => error.to_string(),
    }
}

fn in_words_of_adding(error: &io::Error) -> String {
    match Errno::from_raw(error.raw_os_error().unwrap_or_default()) {
        Errno::ENOSPC => limit("max_user_watches", "watch"),
        _ => error.to_string(),
    }
}

fn limit(name: &str, what: &str) -> String {
    let most = fs::read_to_string(format!("/proc/sys/fs/inotify/{name}")).unwrap_or_default();
    format!(
        "no inotify {what} is left for this user (fs.inotify.{name} is {}; see `sysctl fs.inotify`, and raise it)",
        most.trim()
    )
}

#[cfg(test)]
mod tests;
