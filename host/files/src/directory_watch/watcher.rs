//! The choosing side: which directories are watched, each by inotify or by being polled.
//!
//! Directories are watched one by one, never recursively: a directory is watched *before* it is listed, so nothing that is put
//! into a new one can be missed. All of it blocks.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{info, warn};

use super::inbox::{DirectoryEvents, Inbox, POLL};
use super::inotify::{Inotify, WatchError};
use super::polling::{Identity, Interest, Snapshot};
use super::settling::{PathEvent, SettleTimes};

/// A directory that is exchanged all the time is left to later events after so many attempts.
const ATTEMPTS: u32 = 5;

/// Chooses the directories that are watched. Its calls look at file systems: not for async code.
#[derive(Debug)]
pub struct DirectoryWatcher {
    directories: Arc<Mutex<Directories>>,
    inbox: Arc<Inbox>,
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
    let events = DirectoryEvents::new(Arc::clone(&inbox), Arc::clone(&directories), times);
    (DirectoryWatcher { directories, inbox }, events)
}

impl DirectoryWatcher {
    /// Watches a directory and what is in it, by an absolute path. A symbolic link at the end is followed. False if there is no such
    /// directory.
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

    /// Those of the paths that something happened to in this moment: it will be told.
    pub fn news_of<'a>(&self, paths: &BTreeSet<&'a Path>) -> BTreeSet<&'a Path> {
        self.inbox.news_of(paths)
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
        directories.forget(&gone);
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
    inotify: Option<Inotify>,
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
    Inotify,
    Polled(Snapshot),
}

impl Directory {
    fn is_polled(&self) -> bool {
        matches!(self.how, How::Polled(_))
    }
}

impl Directories {
    pub(super) fn new(what: &'static str, inbox: Arc<Inbox>, inotify: Option<Inotify>) -> Self {
        Self {
            what,
            inbox,
            inotify,
            known: BTreeMap::new(),
            said: false,
        }
    }

    fn open(&mut self) {
        match Inotify::open(&self.inbox) {
            Ok(inotify) => self.inotify = Some(inotify),
            Err(error) => {
                self.inbox.set_polls(true);
                self.say(&error.to_string());
            }
        }
    }

    fn watch(&mut self, path: &Path, interest: &Interest) -> bool {
        for _ in 0..ATTEMPTS {
            let Some(identity) = Identity::of_directory(path) else {
                self.forget(&[path.to_owned()]);
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
                self.forget(&[path.to_owned()]);
            }
            let how = match self.add(path, identity, &interest) {
                Ok(()) => {
                    self.end_polling(path, &interest);
                    How::Inotify
                }
                Err(WatchError::Gone) => continue,
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
            let is_alive = self.is_alive(&directory);
            self.known.insert(path.to_owned(), directory);
            // Whether it is the directory that was looked at is known only now.
            if is_alive && Identity::of_directory(path) == Some(identity) {
                return true;
            }
        }
        self.known.contains_key(path)
    }

    /// Tells what changed until now in a directory that was polled until now, if it was.
    fn end_polling(&mut self, path: &Path, interest: &Interest) {
        if self.known.get(path).is_some_and(Directory::is_polled) {
            let now = self.last_look(path, interest);
            self.inbox.put(now.closed(path));
        }
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
            How::Inotify => self
                .inotify
                .as_ref()
                .is_some_and(|inotify| inotify.is_alive(directory.identity)),
            How::Polled(_) => true,
        }
    }

    /// Has inotify watch it. If that cannot be for another reason than that there is no such directory, this is said.
    fn add(&mut self, path: &Path, identity: Identity, interest: &Interest) -> Result<(), WatchError> {
        let inotify = self.inotify.as_mut().ok_or(WatchError::Closed)?;
        inotify.watch(path, identity, interest).inspect_err(|error| {
            // To watch a directory takes the right to read it, to look up a name in it does not: it is polled, and nothing is amiss.
            let may_not = error.is_about_rights() && *interest != Interest::Contents;
            if !may_not && !matches!(error, WatchError::Gone) {
                self.say(&format!("{}: {error}", path.display()));
            }
        })
    }

    fn forget(&mut self, paths: &[PathBuf]) {
        let mut left = Vec::new();
        for path in paths {
            if let Some(directory) = self.known.remove(path)
                && matches!(directory.how, How::Inotify)
                && let Some(inotify) = &mut self.inotify
            {
                left.extend(inotify.forget(path, directory.identity));
            }
        }
        // What was watched by a path that is forgotten, and is known by another, must be watched by that.
        for path in left {
            if let Some(interest) = self.known.get(&path).map(|directory| directory.interest.clone()) {
                self.watch(&path, &interest);
                // Of what happened between nothing was told.
                self.inbox.put([(path, PathEvent::Entry)]);
            }
        }
    }

    /// Looks at what is polled, and tells what changed. At times it tries to do without, and looks whether what is watched is still
    /// what it was.
    pub(super) fn look(&mut self, retry: bool) {
        if self.inotify.as_ref().is_some_and(Inotify::is_closed) {
            self.inotify = None;
            self.say(&WatchError::Closed.to_string());
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
        self.forget(&gone);
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
        for path in self.known.keys().cloned().collect::<Vec<_>>() {
            let Some(Directory { identity, interest, .. }) = self.known.get(&path) else {
                continue;
            };
            let (identity, interest) = (*identity, interest.clone());
            if Identity::of_directory(&path) == Some(identity) {
                self.retry_one(&path, identity, &interest);
            } else {
                self.inbox.put([(path, PathEvent::Entry)]);
            }
        }
    }

    fn retry_one(&mut self, path: &Path, identity: Identity, interest: &Interest) {
        if self.known.get(path).is_some_and(Directory::is_polled) {
            if self.add(path, identity, interest).is_ok() {
                self.end_polling(path, interest);
                if let Some(known) = self.known.get_mut(path) {
                    known.how = How::Inotify;
                }
            }
            return;
        }
        if let Some(inotify) = &mut self.inotify {
            inotify.renew(path, identity);
        }
        if !self.known.get(path).is_some_and(|known| self.is_alive(known)) {
            self.watch(path, interest);
            // What happened since it ended is not known.
            self.inbox.put([(path.to_owned(), PathEvent::Entry)]);
        }
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
    fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Interest::Contents, _) => true,
            (Interest::Names(_), Interest::Contents) => false,
            (Interest::Names(ours), Interest::Names(theirs)) => ours.is_superset(theirs),
        }
    }

    pub(super) fn has(&self, name: &OsStr) -> bool {
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

#[cfg(test)]
mod tests;
