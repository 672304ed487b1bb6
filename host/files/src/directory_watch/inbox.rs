//! The waiting side: takes in what inotify and the poller tell, and hands it on once it has settled.
//!
//! Nothing here blocks. It must not know which directories are watched, nor why.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use super::settling::{PathEvent, SettleTimes, SettledPath, UnsettledPaths};
use super::watcher::Directories;

/// Events held for a reader that is busy, and unsettled paths: beyond so many, single paths are given up for "anything".
const MOST_PATHS: usize = 32 * 1024;
/// Most files that are told as finished at once: the first of many need not wait for the last.
const MOST_FINISHED: usize = 256;
/// How often events are taken in while something settles: not for each event of a burst, and before there are too many of the same
/// path.
const DRAIN: Duration = Duration::from_millis(50);
/// How long after one look at the polled directories the next one begins.
pub(super) const POLL: Duration = Duration::from_secs(2);
/// A look that takes long is followed by so many times as long without one.
const REST: u32 = 20;
/// How often inotify is tried again for what is polled, and it is made sure that what is watched is still what it was: of what is
/// mounted over a directory inotify tells nothing.
const RETRY: Duration = Duration::from_secs(60);

/// As what something that happened to a path counts; none if it does not matter.
type Wanted = Box<dyn Fn(&Path, PathEvent) -> Option<PathEvent> + Send + Sync>;

/// What connects the two sides.
pub(super) struct Inbox {
    wanted: Wanted,
    state: Mutex<State>,
    arrived: Notify,
    /// Something arrived by which a file may be finished.
    may_finish: Notify,
}

#[derive(Default)]
struct State {
    news: Vec<(Instant, PathBuf, PathEvent)>,
    polls: bool,
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox").finish_non_exhaustive()
    }
}

/// Stands for any path at all among those that settle.
const ANYTHING: &str = "";

impl Inbox {
    pub(super) fn new(wanted: impl Fn(&Path, PathEvent) -> Option<PathEvent> + Send + Sync + 'static) -> Self {
        Self {
            wanted: Box::new(wanted),
            state: Mutex::default(),
            arrived: Notify::new(),
            may_finish: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there are directories that are polled.
    pub(super) fn set_polls(&self, polls: bool) {
        let mut state = self.lock();
        if std::mem::replace(&mut state.polls, polls) != polls {
            self.arrived.notify_one();
        }
    }

    /// Takes in what was told or found.
    pub(super) fn put(&self, events: impl IntoIterator<Item = (PathBuf, PathEvent)>) {
        let mut state = self.lock();
        for (path, event) in events {
            self.note(&mut state, path, event);
        }
    }

    /// Anything may have happened.
    pub(super) fn put_anything(&self) {
        self.push(&mut self.lock(), ANYTHING.into(), PathEvent::Entry);
    }

    /// Those of the paths that something happened to which was not taken in yet.
    pub(super) fn news_of<'a>(&self, paths: &BTreeSet<&'a Path>) -> BTreeSet<&'a Path> {
        let state = self.lock();
        let news = state.news.iter().filter_map(|(_, path, _)| paths.get(path.as_path()));
        news.copied().collect()
    }

    fn note(&self, state: &mut State, path: PathBuf, event: PathEvent) {
        if let Some(event) = (self.wanted)(&path, event) {
            self.push(state, path, event);
        }
    }

    fn push(&self, state: &mut State, path: PathBuf, event: PathEvent) {
        let now = Instant::now();
        if event.may_finish() {
            self.may_finish.notify_one();
        }
        state.news.push((now, path, event));
        if state.news.len() > MOST_PATHS {
            state.news = vec![(now, ANYTHING.into(), PathEvent::Entry)];
        }
        self.arrived.notify_one();
    }
}

/// The changes that have settled since they were last asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SettledChanges {
    /// Paths that are finished: what is there can be looked at. With each, whether it may be another file or directory now. They are told
    /// once more when they have settled.
    pub finished: Vec<(PathBuf, bool)>,
    /// Paths that have settled.
    pub paths: Vec<SettledPath>,
    /// Events were lost: anything may have changed, and every directory must be watched again.
    pub lost: bool,
}

/// Tells which paths changed, once they have settled.
#[derive(Debug)]
pub struct DirectoryEvents {
    inbox: Arc<Inbox>,
    directories: Arc<Mutex<Directories>>,
    settling: UnsettledPaths,
    times: SettleTimes,
    /// A look at the directories that is under way, on a thread that may block.
    look: Option<JoinHandle<Duration>>,
    /// When the last one ended, and how long it took.
    looked: (Instant, Duration),
    retried: Instant,
}

impl DirectoryEvents {
    pub(super) fn new(inbox: Arc<Inbox>, directories: Arc<Mutex<Directories>>, times: SettleTimes) -> Self {
        let now = Instant::now();
        Self {
            inbox,
            directories,
            settling: UnsettledPaths::new(times),
            times,
            look: None,
            looked: (now, Duration::ZERO),
            retried: now,
        }
    }

    /// Waits until one or more paths have settled or are finished, and tells them. Cancel-safe.
    pub async fn settled(&mut self) -> SettledChanges {
        self.wait(UnsettledPaths::first_due).await
    }

    /// Waits until something happened and everything that something happened to has settled. Cancel-safe.
    pub async fn all_settled(&mut self) -> SettledChanges {
        self.wait(UnsettledPaths::last_due).await
    }

    /// The files that somebody is writing to, and what went just now: perhaps only until something else takes the name. Each will be told.
    pub fn in_between(&mut self) -> Arc<HashSet<PathBuf>> {
        self.take_in();
        self.settling.in_between()
    }

    /// Tells these paths only once they have settled: they change faster than they can be looked at.
    pub fn be_patient<'a>(&mut self, paths: impl IntoIterator<Item = &'a PathBuf>) {
        for path in paths {
            self.settling.be_patient(path);
        }
    }

    async fn wait(&mut self, due: fn(&UnsettledPaths) -> Option<Instant>) -> SettledChanges {
        loop {
            self.take_in();
            let now = Instant::now();
            let finished = self.settling.take_finished(MOST_FINISHED);
            let due = due(&self.settling);
            let is_due = due.is_some_and(|due| due <= now);
            if is_due || !finished.is_empty() {
                let mut paths = match is_due {
                    true => self.settling.take_settled(now),
                    false => Vec::new(),
                };
                let all = paths.len();
                paths.retain(|settled| settled.path != Path::new(ANYTHING));
                let lost = paths.len() < all;
                return SettledChanges { finished, paths, lost };
            }
            // An event can make a file settle sooner (it was closed), but not within the quiet that has to follow it. That it is finished
            // is another thing.
            let pause = due.map(|due| due.min(now + self.times.quiet.min(DRAIN)));
            let next_look = self.next_look();
            tokio::select! {
                () = sleep_until(pause.unwrap_or(now)), if pause.is_some() => {}
                () = self.inbox.arrived.notified(), if pause.is_none() => {}
                () = self.inbox.may_finish.notified(), if pause.is_some() && self.times.finished => {}
                () = sleep_until(next_look), if self.look.is_none() => self.begin_look(),
                took = ended(&mut self.look) => {
                    self.look = None;
                    self.looked = (Instant::now(), took);
                }
            }
        }
    }

    fn next_look(&self) -> Instant {
        let (ended, took) = self.looked;
        match self.inbox.lock().polls {
            true => ended + POLL.max(took * REST),
            false => self.retried.max(ended) + RETRY,
        }
    }

    fn begin_look(&mut self) {
        let now = Instant::now();
        let retry = now >= self.retried + RETRY;
        if retry {
            self.retried = now;
        }
        let directories = Arc::clone(&self.directories);
        self.look = Some(spawn_blocking(move || {
            let begin = Instant::now();
            let mut directories = directories.lock().unwrap_or_else(PoisonError::into_inner);
            directories.look(retry);
            begin.elapsed()
        }));
    }

    /// Moves the events that arrived to the paths that are to settle.
    fn take_in(&mut self) {
        let news = std::mem::take(&mut self.inbox.lock().news);
        for (at, path, what) in news {
            if self.settling.count() >= MOST_PATHS {
                self.settling.clear();
                self.settling.note(at, ANYTHING.into(), PathEvent::Entry);
            }
            self.settling.note(at, path, what);
        }
    }
}

/// How long a look took; never, if there is none.
async fn ended(look: &mut Option<JoinHandle<Duration>>) -> Duration {
    match look {
        // One that failed is followed by the next.
        Some(look) => look.await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events() -> (Arc<Inbox>, DirectoryEvents) {
        let times = SettleTimes {
            quiet: Duration::from_millis(1),
            busy: Duration::from_millis(10),
            writing: Duration::from_secs(1),
            finished: false,
        };
        let inbox = Arc::new(Inbox::new(|path, what| (path != Path::new("/no")).then_some(what)));
        let directories = Arc::new(Mutex::new(Directories::new("files", Arc::clone(&inbox), None)));
        let events = DirectoryEvents::new(Arc::clone(&inbox), directories, times);
        (inbox, events)
    }

    fn settled(mut events: DirectoryEvents) -> SettledChanges {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
        runtime.unwrap().block_on(events.settled())
    }

    #[test]
    fn lost_events_are_told() {
        let (inbox, events) = events();
        inbox.put_anything();
        let told = settled(events);
        assert!(told.lost && told.paths.is_empty());
    }

    #[test]
    fn a_reader_that_does_not_read_costs_no_memory() {
        let (inbox, events) = events();
        for n in 0..MOST_PATHS * 3 {
            inbox.put([(format!("/{n}").into(), PathEvent::Entry)]);
            assert!(inbox.lock().news.len() <= MOST_PATHS);
        }
        assert!(settled(events).lost);
    }

    #[test]
    fn what_is_not_wanted_is_not_told() {
        let (inbox, events) = events();
        inbox.put([("/no".into(), PathEvent::Entry)]);
        assert!(inbox.lock().news.is_empty());
        inbox.put([("/yes".into(), PathEvent::Entry)]);
        let told = settled(events);
        assert!(!told.lost && told.paths.len() == 1 && told.paths[0].path == Path::new("/yes"));
    }
}
