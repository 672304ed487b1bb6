//! inotify for directories: which paths below them changed and have settled.
//!
//! Directories are watched one by one, never recursively: a directory is watched *before* it is listed, so nothing that is put
//! into a new one can be missed. It must not know what is in the files.

use std::collections::{BTreeSet, HashSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use notify::event::{AccessKind, AccessMode, EventKind, Flag, ModifyKind};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::settling::{PathEvent, SettleTimes, UnsettledPaths};

/// Events held for a reader that is busy, and unsettled paths: beyond so many, single paths are given up for "anything".
const MOST_PATHS: usize = 32 * 1024;

/// Chooses the directories that are watched. Its calls wait for a thread of the library: not for async code.
#[derive(Debug)]
pub struct DirectoryWatcher {
    watcher: RecommendedWatcher,
    watched: BTreeSet<PathBuf>,
}

/// Tells which paths changed, once they have settled.
#[derive(Debug)]
pub struct DirectoryEvents {
    inbox: Arc<Inbox>,
    settling: UnsettledPaths,
    times: SettleTimes,
}

/// The changes that have settled since they were last asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettledChanges {
    /// Paths that changed; with each, whether it may be another file or directory now, or have other permissions.
    pub paths: Vec<(PathBuf, bool)>,
    /// Events were lost: anything may have changed, and every directory must be watched again.
    pub lost: bool,
}

/// Stands for any path at all among those that settle.
const ANYTHING: &str = "";

#[derive(Debug, Default)]
struct Inbox {
    news: Mutex<Vec<(Instant, PathBuf, PathEvent)>>,
    arrived: Notify,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, Vec<(Instant, PathBuf, PathEvent)>> {
        self.news.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn put(&self, event: notify::Result<notify::Event>, wanted: &impl Fn(&Path, PathEvent) -> Option<PathEvent>) {
        let now = Instant::now();
        let lost = (now, PathBuf::from(ANYTHING), PathEvent::Entry);
        let mut news = self.lock();
        match event {
            Ok(event) if event.flag() != Some(Flag::Rescan) => {
                let Some(what) = path_event(&event.kind) else {
                    return;
                };
                let paths = event.paths.into_iter();
                news.extend(paths.filter_map(|path| wanted(&path, what).map(|what| (now, path, what))));
            }
            Ok(_) | Err(_) => news.push(lost.clone()),
        }
        if news.len() > MOST_PATHS {
            *news = vec![lost];
        }
        if !news.is_empty() {
            self.arrived.notify_one();
        }
    }
}

/// What an event means; none for one that changes nothing, such as our own reading.
fn path_event(kind: &EventKind) -> Option<PathEvent> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(PathEvent::Closed),
        EventKind::Access(_) => None,
        EventKind::Modify(ModifyKind::Data(_)) => Some(PathEvent::Written),
        EventKind::Any | EventKind::Create(_) | EventKind::Modify(_) | EventKind::Remove(_) | EventKind::Other => {
            Some(PathEvent::Entry)
        }
    }
}

/// Begins to tell what happens to paths where it is `wanted`, and as what; asked on the library's thread, so it must be quick.
pub fn open(
    times: SettleTimes,
    wanted: impl Fn(&Path, PathEvent) -> Option<PathEvent> + Send + 'static,
) -> Result<(DirectoryWatcher, DirectoryEvents), notify::Error> {
    let inbox = Arc::new(Inbox::default());
    let events = DirectoryEvents {
        inbox: Arc::clone(&inbox),
        settling: UnsettledPaths::new(times),
        times,
    };
    let watcher = notify::recommended_watcher(move |event| inbox.put(event, &wanted))?;
    let watched = BTreeSet::new();
    Ok((DirectoryWatcher { watcher, watched }, events))
}

impl DirectoryWatcher {
    /// Watches a directory, if it is not watched yet. False if there is no such directory. A symbolic link is followed; the same
    /// directory under two paths tells its events for one of them only.
    pub fn watch(&mut self, directory: &Path) -> Result<bool, notify::Error> {
        if self.watched.contains(directory) {
            return Ok(true);
        }
        if !directory.is_dir() {
            return Ok(false);
        }
        match self.watcher.watch(directory, RecursiveMode::NonRecursive) {
            Ok(()) => {
                self.watched.insert(directory.to_owned());
                Ok(true)
            }
            Err(error) => match error.kind {
                notify::ErrorKind::PathNotFound => Ok(false),
                notify::ErrorKind::Io(ref io) if io.kind() == std::io::ErrorKind::NotFound => Ok(false),
                _ => Err(error),
            },
        }
    }

    /// Whether this directory is watched.
    pub fn is_watched(&self, directory: &Path) -> bool {
        self.watched.contains(directory)
    }

    /// To be called for each path that may be another directory than before: it and what is below must be watched again.
    ///
    /// The library drops the watch of a path when the directory that had it goes, even if the path is a new directory by then
    /// and was watched again. It does so before it handles a later request, so asking again after the event is safe.
    pub fn forget(&mut self, path: &Path) {
        let below = (Bound::Included(path), Bound::Unbounded);
        let gone: Vec<PathBuf> = self
            .watched
            .range::<Path, _>(below)
            .take_while(|watched| watched.starts_with(path))
            .cloned()
            .collect();
        for path in gone {
            self.watched.remove(&path);
            // A directory that was moved away keeps its watch until told otherwise. Most often there is none any more.
            let _ = self.watcher.unwatch(&path);
        }
    }

    /// Watches no directory any more.
    pub fn forget_all(&mut self) {
        for path in std::mem::take(&mut self.watched) {
            let _ = self.watcher.unwatch(&path);
        }
    }
}

impl DirectoryEvents {
    /// Waits until one or more paths have settled, and tells them. Cancel-safe.
    pub async fn settled(&mut self) -> SettledChanges {
        self.wait(UnsettledPaths::first_due).await
    }

    /// Waits until something happened and everything that something happened to has settled. Cancel-safe.
    pub async fn all_settled(&mut self) -> SettledChanges {
        self.wait(UnsettledPaths::last_due).await
    }

    /// The files that somebody is writing to. Each will be told.
    pub fn being_written(&mut self) -> HashSet<PathBuf> {
        self.take_in();
        self.settling.being_written().map(Path::to_owned).collect()
    }

    async fn wait(&mut self, due: fn(&UnsettledPaths) -> Option<Instant>) -> SettledChanges {
        loop {
            self.take_in();
            let now = Instant::now();
            match due(&self.settling) {
                None => self.inbox.arrived.notified().await,
                Some(due) if due <= now => {
                    let mut paths = self.settling.take_settled(now);
                    let all = paths.len();
                    paths.retain(|(path, _)| path != Path::new(ANYTHING));
                    let lost = paths.len() < all;
                    return SettledChanges { paths, lost };
                }
                // Not woken by each event of a burst. An event can make a file settle sooner (it was closed), but not within
                // the quiet that has to follow it.
                Some(due) => tokio::time::sleep_until(due.min(now + self.times.quiet)).await,
            }
        }
    }

    /// Moves the events that arrived to the paths that are to settle.
    fn take_in(&mut self) {
        let news = std::mem::take(&mut *self.inbox.lock());
        for (at, path, what) in news {
            if self.settling.count() >= MOST_PATHS {
                self.settling.clear();
                self.settling.note(at, ANYTHING.into(), PathEvent::Entry);
            }
            self.settling.note(at, path, what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use notify::event::{CreateKind, Event};
    use std::time::Duration;

    fn events() -> (Arc<Inbox>, DirectoryEvents) {
        let times = SettleTimes {
            quiet: Duration::from_millis(1),
            busy: Duration::from_millis(10),
            writing: Duration::from_secs(1),
        };
        let inbox = Arc::new(Inbox::default());
        let events = DirectoryEvents {
            inbox: Arc::clone(&inbox),
            settling: UnsettledPaths::new(times),
            times,
        };
        (inbox, events)
    }

    fn created(path: impl Into<PathBuf>) -> notify::Result<Event> {
        Ok(Event::new(EventKind::Create(CreateKind::File)).add_path(path.into()))
    }

    fn settled(mut events: DirectoryEvents) -> SettledChanges {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.unwrap().block_on(events.settled())
    }

    #[test]
    fn lost_events_are_told() {
        for lost in [
            Ok(Event::new(EventKind::Other).set_flag(Flag::Rescan)),
            Err(notify::Error::new(notify::ErrorKind::MaxFilesWatch)),
        ] {
            let (inbox, events) = events();
            inbox.put(lost, &|_, what| Some(what));
            let paths = vec![];
            assert_eq!(settled(events), SettledChanges { paths, lost: true });
        }
    }

    #[test]
    fn a_reader_that_does_not_read_costs_no_memory() {
        let (inbox, events) = events();
        for n in 0..MOST_PATHS * 3 {
            inbox.put(created(format!("/{n}")), &|_, what| Some(what));
            assert!(inbox.lock().len() <= MOST_PATHS);
        }
        assert!(settled(events).lost);
    }

    #[test]
    fn what_is_not_wanted_and_our_own_reading_is_not_told() {
        let (inbox, events) = events();
        let read = Event::new(EventKind::Access(AccessKind::Open(AccessMode::Any))).add_path("/yes".into());
        inbox.put(Ok(read), &|_, what| Some(what));
        inbox.put(created("/no"), &|path, what| {
            ((path, what) != (Path::new("/no"), PathEvent::Entry)).then_some(what)
        });
        assert!(inbox.lock().is_empty());
        inbox.put(created("/yes"), &|_, what| Some(what));
        let paths = vec![("/yes".into(), true)];
        assert_eq!(settled(events), SettledChanges { paths, lost: false });
    }
}
