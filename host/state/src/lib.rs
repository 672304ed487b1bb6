//! What outlives the daemon: how far each watch was handled, which watches are parked or held and why, which file has which of their
//! names, and how runs ended.
//!
//! ```text
//! daemon ──notes──▶ Memory (the whole truth) ──batches──▶ writer thread ──▶ state.db (SQLite, WAL)
//!    ▲                                                                                   │
//!    └───────────── known, found: once, at the start ◀───────────────────────────────────┘
//! ```
//!
//! The daemon only ever touches memory: a note costs a lock that nobody holds for long. One thread has the database, so neither a slow
//! disk nor an fsync (SQLite makes one at checkpoints) is on the way from a change to its action. The price: what was handled within
//! the last 50 ms or so before `kill -9` is not known to the next daemon, which runs for it again.
//!
//! # What counts as handled
//!
//! The state that a run was for, once that run has *succeeded*. A failure is no success even under KEEP, which only says that nothing
//! more is done about it until the next change; `run_on_load=IF_CHANGED` tries it again at the next start. Nor is the end of a
//! run that nobody watched: its exit status went to no one. So an action runs at least once for the last state, and may run twice.
//!
//! In PARALLEL the run that ends last counts, as it is the one whose effects are left.
//!
//! # When it cannot be kept
//!
//! Nothing here stops the daemon. What cannot be written (a full disk, a read-only directory) stays in memory, said once; every few
//! seconds it is tried again, and then everything is written anew. A database that is damaged is moved aside (`state.db.corrupt-TIME`,
//! the last three are kept) and begun anew from memory; at the start that means empty. One of a newer version is not touched. Memory is
//! bounded: there is one position a watch and one row a run that runs, and of history that waits the oldest is dropped.
//!
//! It must not know when an action runs, nor what a source is.

#![forbid(unsafe_code)]

mod database;
mod history;
mod memory;
mod quarantine;
mod rows;
mod tables;
mod writer_thread;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tracing::{info, warn};

use twitcher_model::{Occasion, Outcome, Position, RunId, Stat, Watch, WatchType, ZnodePath};

pub use history::{History, HistoryError, RunQuery, RunRecord};

use database::Stored;
use memory::{Memory, SharedMemory};
use writer_thread::Writer;

/// Of how many watches that are not in the configuration any more something is remembered: they may come back.
const MOST_REMOVED: usize = 10_000;
/// How long [`StateStore::close`] waits for the disk.
const GOODBYE: Duration = Duration::from_secs(2);

/// How much history is kept. Each bound may be exceeded by an eighth, because many runs are cheaper to forget at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HistoryLimits {
    /// Most runs. Default 100,000.
    pub runs: u64,
    /// Most runs of one watch. Default 1,000.
    pub runs_per_watch: u64,
    /// Most bytes of them, output included. Default 256 MiB.
    pub bytes: u64,
}

impl Default for HistoryLimits {
    fn default() -> Self {
        Self {
            runs: 100_000,
            runs_per_watch: 1000,
            bytes: 256 << 20,
        }
    }
}

/// What is known of a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WatchRecord {
    /// The node that it watched then.
    pub znode: ZnodePath,
    /// More of them, if it watched several.
    pub more: Arc<[ZnodePath]>,
    /// What of the node it watched.
    pub watch_type: WatchType,
    /// The state that was last succeeded for.
    pub handled: Option<Handled>,
    /// Why it is parked, if it is.
    pub parked: Option<Parked>,
    /// Who holds it, if an operator does.
    pub paused: Option<Paused>,
    /// What the fleet is told of the last run that ended, in words of its own.
    pub result: Option<Arc<str>>,
    /// Since when its node has lost more than `refuse_shrink` lets it, if it has.
    pub refused: Option<SystemTime>,
}

impl WatchRecord {
    /// Whether it is of what the watch looks at.
    fn is_of_same(&self, watch: &Watch) -> bool {
        self.znode == watch.znode && self.more == watch.more && self.watch_type == watch.watch_type
    }

    /// When something last happened to it that is worth remembering.
    fn last_change(&self) -> Option<SystemTime> {
        let handled = self.handled.map(|handled| handled.at);
        let parked = self.parked.as_ref().map(|parked| parked.at);
        let paused = self.paused.as_ref().map(|paused| paused.at);
        handled.max(parked).max(paused).max(self.refused)
    }
}

/// A state that an action succeeded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handled {
    /// The state.
    pub position: Position,
    /// The node's stat in it; none where it was absent.
    pub stat: Option<Stat>,
    /// How much of the node there was, as `refuse_shrink` counts; none where it was absent, or if a daemon noted it that did not count.
    pub size: Option<u32>,
    /// The run that succeeded.
    pub run: RunId,
    /// When it ended.
    pub at: SystemTime,
}

/// Why a watch is parked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parked {
    /// Digest of the watch as it is defined; with another definition it is not parked.
    pub definition: u64,
    /// For people.
    pub why: String,
    /// Since when.
    pub at: SystemTime,
}

/// An operator holds a watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Paused {
    /// Since when.
    pub at: SystemTime,
    /// Who it was; none if a daemon noted it that did not ask.
    pub by: Option<String>,
    /// Why, in the operator's own words, if there were any.
    pub reason: Option<String>,
}

/// The names of the watches of a configuration file.
pub type WatchNames = Arc<[Arc<str>]>;

/// A run that goes on, as far as its history will tell of it. Whether it does go on, and in which process, is for the journal of runs
/// to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartedRun {
    /// The run.
    pub run: RunId,
    /// Name of its watch.
    pub watch: Arc<str>,
    /// When it started.
    pub started: SystemTime,
    /// Counted from 1.
    pub attempt: u32,
    /// Why it runs; none if nobody knows any more, or if it is a command of a component.
    pub event: Option<Occasion>,
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct EndedRun {
    /// The run.
    pub run: RunId,
    /// Name of its watch.
    pub watch: Arc<str>,
    /// Why it ran; none if nobody knows any more.
    pub event: Option<Occasion>,
    /// Counted from 1.
    pub attempt: u32,
    /// How it ended; none if nobody watched.
    pub outcome: Option<Outcome>,
    /// When it started.
    pub started: SystemTime,
    /// When it had ended.
    pub ended: SystemTime,
    /// How long it ran.
    pub elapsed: Duration,
    /// Its largest resident set, in KiB.
    pub max_rss_kib: u64,
    /// How much it wrote, in bytes.
    pub output_bytes: u64,
    /// Whether it wrote more than the log takes of a run.
    pub log_ended: bool,
    /// The last of what it wrote, 64 KiB at most.
    pub output_tail: Vec<u8>,
}

/// The last run of a watch that a former daemon saw the end of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormerRun {
    /// The run.
    pub run: RunId,
    /// How it ended, in one word: [`Outcome::code`].
    pub outcome: &'static str,
    /// The same in words.
    pub words: Arc<str>,
    /// When it had ended.
    pub ended: SystemTime,
}

/// The state of this daemon. Never fails: see the module's documentation.
#[derive(Debug)]
pub struct StateStore {
    shared: Arc<SharedMemory>,
    ended: Option<mpsc::Receiver<()>>,
    dir: PathBuf,
    former: Mutex<HashMap<Arc<str>, FormerRun>>,
}

impl StateStore {
    /// Opens `DIR/state.db`, making it if need be, and tells the newest run there was. `alive` are the runs of the last daemon that
    /// still go on, by the journal of runs; all others that were started have ended.
    pub fn open(dir: &Path, limits: HistoryLimits, alive: Vec<StartedRun>) -> (Self, Option<RunId>) {
        let (writer, stored) = Writer::open(dir, limits);
        let mut book = Memory::new(stored.watches, stored.names);
        book.take_over(stored.running, alive);
        let shared = Arc::new(SharedMemory::new(book));
        let (said, ended) = mpsc::channel();
        let worker = Arc::clone(&shared);
        let work = move || {
            writer.serve(&worker);
            // Nobody may wait for it.
            let _ = said.send(());
        };
        let thread = std::thread::Builder::new()
            .name("twitcher-state".to_owned())
            .spawn(work);
        if let Err(error) = &thread {
            warn!(%error, "cannot start a thread; the next daemon will not know what this one has handled");
        }
        let state = Self {
            ended: thread.is_ok().then_some(ended),
            dir: dir.to_owned(),
            shared,
            former: Mutex::new(stored.former),
        };
        (state, stored.newest)
    }

    /// What `DIR/state.db` has, without a change to it or to anything else: what is noted stays in memory. An absent one is empty,
    /// and so is one that cannot be read, which is said.
    pub fn look(dir: &Path) -> (Self, Option<RunId>) {
        let path = dir.join(database::FILE);
        let stored = match path.exists() {
            true => database::look(&path).unwrap_or_else(|error| {
                warn!(file = %path.display(), "cannot read what the daemon remembers: {error}");
                Stored::default()
            }),
            false => Stored::default(),
        };
        let mut book = Memory::new(stored.watches, stored.names);
        book.take_over(stored.running, Vec::new());
        let state = Self {
            ended: None,
            dir: dir.to_owned(),
            shared: Arc::new(SharedMemory::new(book)),
            former: Mutex::new(stored.former),
        };
        (state, stored.newest)
    }

    /// Why nothing can be written, if so.
    pub fn trouble(&self) -> Option<String> {
        self.book().trouble.clone()
    }

    /// How to read the history.
    pub fn history(&self) -> History {
        History::of_this(&self.dir, &self.shared)
    }

    /// What is known of a watch, as long as it watches the same of the same node.
    pub fn known(&self, watch: &Watch) -> Option<WatchRecord> {
        let book = self.book();
        let known = book.watches.get(&watch.name)?;
        known.is_of_same(watch).then(|| known.clone())
    }

    /// Gives away what the history had of a watch's last run when this daemon started.
    pub fn take_former_run(&self, watch: &str) -> Option<FormerRun> {
        let mut former = self.former.lock().unwrap_or_else(PoisonError::into_inner);
        former.remove(watch)
    }

    /// A run of the watch has succeeded.
    pub fn handled(&self, watch: &Watch, handled: Handled) {
        self.change(watch, |known| known.handled = Some(handled));
    }

    /// The watch was parked, or is not any more.
    pub fn parked(&self, watch: &Watch, parked: Option<Parked>) {
        if parked.is_some() || self.known(watch).is_some_and(|known| known.parked.is_some()) {
            self.change(watch, |known| known.parked = parked);
        }
    }

    /// An operator holds the watch, or does not any more.
    pub fn paused(&self, watch: &Watch, paused: Option<Paused>) {
        if paused != self.known(watch).and_then(|known| known.paused) {
            self.change(watch, |known| known.paused = paused);
        }
    }

    /// A run of the watch has ended, and the fleet is to be told so, now or by the next daemon.
    pub fn result(&self, watch: &Watch, result: Arc<str>) {
        self.change(watch, |known| known.result = Some(result));
    }

    /// The watch's node has lost more than `refuse_shrink` lets it, since then, or has not any more.
    pub fn refused(&self, watch: &Watch, since: Option<SystemTime>) {
        if since != self.known(watch).and_then(|known| known.refused) {
            self.change(watch, |known| known.refused = since);
        }
    }

    /// The names that each configuration file had when it was last in force.
    pub fn names(&self) -> BTreeMap<PathBuf, WatchNames> {
        self.book().names.clone()
    }

    /// A configuration file has these names now, or is gone.
    pub fn took_names(&self, file: PathBuf, names: Option<WatchNames>) {
        self.book().took_names(file, names);
        self.shared.news.notify_one();
    }

    /// The configuration was loaded. Of watches that are not in it, all but the 10,000 that last did something are forgotten.
    pub fn loaded(&self, is_in_force: impl Fn(&str) -> bool) {
        let mut book = self.book();
        book.forget_removed(is_in_force, MOST_REMOVED);
        let has_news = book.has_news();
        drop(book);
        if has_news {
            self.shared.news.notify_one();
        }
    }

    fn change(&self, watch: &Watch, change: impl FnOnce(&mut WatchRecord)) {
        self.book().change(watch, change);
        self.shared.news.notify_one();
    }

    /// The process of a run has started.
    pub fn started(&self, running: StartedRun) {
        self.book().started(running);
        self.shared.news.notify_one();
    }

    /// A run has ended.
    pub fn ended(&self, ended: EndedRun) {
        self.book().ended(ended);
        self.shared.news.notify_one();
    }

    /// A run that nobody will ask for has ended.
    pub fn forget(&self, run: RunId) {
        self.book().forget(run);
        self.shared.news.notify_one();
    }

    /// A run of a former daemon has ended; nobody knows how. False if it is not known.
    pub fn vanished(&self, run: RunId) -> bool {
        let vanished = self.book().vanished(run);
        self.shared.news.notify_one();
        vanished
    }

    /// Writes what is not written yet, for two seconds at most.
    pub fn close(mut self) {
        self.book().closing = true;
        self.shared.news.notify_one();
        if let Some(ended) = self.ended.take()
            && ended.recv_timeout(GOODBYE).is_err()
        {
            info!("the state directory does not answer; stopping without it");
        }
    }

    fn book(&self) -> MutexGuard<'_, Memory> {
        lock(&self.shared.book)
    }
}

/// A book is in order at every point where a thread could panic.
fn lock(book: &Mutex<Memory>) -> MutexGuard<'_, Memory> {
    book.lock().unwrap_or_else(PoisonError::into_inner)
}
