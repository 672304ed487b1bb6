//! The truth in memory, and what of it the database does not have yet. No I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, SystemTime};

use super::{EndedRun, StartedRun, WatchNames, WatchRecord, lock};
use twitcher_model::{RunId, Watch};

/// Most runs whose history waits to be written.
const MOST_WAITING: usize = 4096;
/// Most bytes of their output.
const MOST_BYTES: usize = 16 << 20;

/// A book between two threads.
#[derive(Debug)]
pub(super) struct SharedMemory {
    pub(super) book: Mutex<Memory>,
    /// There is something to write.
    pub(super) news: Condvar,
    /// Something was written, or could not be.
    pub(super) written: Condvar,
}

impl SharedMemory {
    pub(super) fn new(book: Memory) -> Self {
        Self {
            book: Mutex::new(book),
            news: Condvar::new(),
            written: Condvar::new(),
        }
    }

    /// Waits until the runs that have ended so far are written, as long as that is possible and `most` lasts.
    pub(super) fn wait_written(&self, most: Duration) {
        let book = lock(&self.book);
        let noted = book.noted;
        let waited = self
            .written
            .wait_timeout_while(book, most, |book| book.written < noted && !book.closing);
        // Who cannot wait reads what there is.
        drop(waited);
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(super) struct Memory {
    pub(super) watches: HashMap<Arc<str>, WatchRecord>,
    pub(super) names: BTreeMap<PathBuf, WatchNames>,
    running: HashMap<RunId, StartedRun>,
    /// Watches of which the database has something else.
    dirty: HashSet<Arc<str>>,
    /// Configuration files of which it has other names.
    dirty_names: BTreeSet<PathBuf>,
    /// Runs that go on and that the database does not know of.
    fresh: HashSet<RunId>,
    /// Runs that the database wrongly takes for running.
    gone: Vec<RunId>,
    history: VecDeque<EndedRun>,
    history_bytes: usize,
    /// How many runs have ended, and of how many of them the writer has seen the last.
    noted: u64,
    pub(super) written: u64,
    /// Runs that fell out of `history`, since it was last asked.
    dropped: u64,
    /// Why the database cannot be used, if so.
    pub(super) trouble: Option<String>,
    pub(super) closing: bool,
}

/// What is to be written at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// What the database has of running actions is wrong: these are all.
    pub(super) anew: bool,
    pub(super) watches: Vec<(Arc<str>, WatchRecord)>,
    /// Watches that are not worth remembering any more.
    pub(super) forgotten: Vec<Arc<str>>,
    pub(super) started: Vec<StartedRun>,
    pub(super) gone: Vec<RunId>,
    pub(super) ended: Vec<EndedRun>,
    /// Configuration files with the names that they have now; none of those that are gone.
    pub(super) names: Vec<(PathBuf, Option<WatchNames>)>,
    /// Runs whose history was lost before.
    pub(super) dropped: u64,
}

impl Memory {
    pub(super) fn new(watches: HashMap<Arc<str>, WatchRecord>, names: BTreeMap<PathBuf, WatchNames>) -> Self {
        Self {
            watches,
            names,
            ..Self::default()
        }
    }

    /// Sorts out what the last daemon left behind: of the runs that its database tells of, those that the journal of runs says nothing of
    /// have ended, and become history.
    pub(super) fn take_over(&mut self, stored: Vec<StartedRun>, alive: Vec<StartedRun>) {
        for running in stored {
            let run = running.run;
            self.running.insert(run, running);
            if !alive.iter().any(|alive| alive.run == run) {
                self.vanished(run);
            }
        }
        for running in alive {
            // One that the daemon had not heard of when it was killed.
            if !self.running.contains_key(&running.run) {
                self.started(running);
            }
        }
    }

    pub(super) fn change(&mut self, watch: &Watch, change: impl FnOnce(&mut WatchRecord)) {
        let fresh = || WatchRecord {
            znode: watch.znode.clone(),
            more: Arc::clone(&watch.more),
            watch_type: watch.watch_type,
            handled: None,
            parked: None,
            paused: None,
            result: None,
            refused: None,
        };
        let known = self.watches.entry(Arc::clone(&watch.name)).or_insert_with(fresh);
        if !known.is_of_same(watch) {
            *known = fresh();
        }
        change(known);
        self.dirty.insert(Arc::clone(&watch.name));
    }

    pub(super) fn took_names(&mut self, file: PathBuf, names: Option<WatchNames>) {
        match names {
            Some(names) => self.names.insert(file.clone(), names),
            None => self.names.remove(&file),
        };
        self.dirty_names.insert(file);
    }

    /// Keeps of the watches that are not in force the `most` that something happened to last.
    pub(super) fn forget_removed(&mut self, is_in_force: impl Fn(&str) -> bool, most: usize) {
        let removed = self.watches.iter().filter(|(name, _)| !is_in_force(name));
        let mut removed: Vec<_> = removed
            .map(|(name, known)| (known.last_change(), Arc::clone(name)))
            .collect();
        removed.sort_unstable_by(|a, b| b.cmp(a));
        for (_, name) in removed.into_iter().skip(most) {
            self.watches.remove(&name);
            self.dirty.insert(name);
        }
    }

    pub(super) fn started(&mut self, running: StartedRun) {
        self.fresh.insert(running.run);
        self.running.insert(running.run, running);
    }

    pub(super) fn ended(&mut self, ended: EndedRun) {
        self.forget(ended.run);
        self.noted += 1;
        self.history_bytes += ended.output_tail.len();
        self.history.push_back(ended);
        while self.history.len() > MOST_WAITING || self.history_bytes > MOST_BYTES {
            let Some(oldest) = self.history.pop_front() else { break };
            self.history_bytes -= oldest.output_tail.len();
            self.dropped += 1;
        }
    }

    pub(super) fn forget(&mut self, run: RunId) -> Option<StartedRun> {
        let running = self.running.remove(&run)?;
        if !self.fresh.remove(&run) {
            self.gone.push(run);
        }
        Some(running)
    }

    /// A run has ended that nobody watched. False if it is not known.
    pub(super) fn vanished(&mut self, run: RunId) -> bool {
        let Some(running) = self.forget(run) else {
            return false;
        };
        // A command of a component leaves no history of its own; without an event it may be one.
        let ended = SystemTime::now();
        self.ended(EndedRun {
            run,
            watch: running.watch,
            event: running.event,
            attempt: running.attempt,
            outcome: None,
            started: running.started,
            ended,
            elapsed: ended.duration_since(running.started).unwrap_or(Duration::ZERO),
            max_rss_kib: 0,
            output_bytes: 0,
            log_ended: false,
            output_tail: Vec::new(),
        });
        true
    }

    /// How many runs have ended so far.
    pub(super) fn noted(&self) -> u64 {
        self.noted
    }

    /// Whether the database lacks something.
    pub(super) fn has_news(&self) -> bool {
        let watches = !self.dirty.is_empty() || !self.dirty_names.is_empty();
        watches || !self.fresh.is_empty() || !self.gone.is_empty() || !self.history.is_empty()
    }

    /// Takes what the database lacks. Should it not be written, [`Memory::give_back`] must be called.
    pub(super) fn take(&mut self, anew: bool) -> Batch {
        if anew {
            self.dirty = self.watches.keys().cloned().collect();
            self.dirty_names = self.names.keys().cloned().collect();
            self.fresh = self.running.keys().copied().collect();
            self.gone.clear();
        }
        self.history_bytes = 0;
        let (dirty, fresh) = (std::mem::take(&mut self.dirty), std::mem::take(&mut self.fresh));
        let (kept, forgotten): (Vec<_>, Vec<_>) = dirty.into_iter().partition(|name| self.watches.contains_key(name));
        let with_state = |name: Arc<str>| Some((Arc::clone(&name), self.watches.get(&name)?.clone()));
        Batch {
            anew,
            watches: kept.into_iter().filter_map(with_state).collect(),
            forgotten,
            started: fresh.iter().filter_map(|run| self.running.get(run).cloned()).collect(),
            gone: std::mem::take(&mut self.gone),
            ended: std::mem::take(&mut self.history).into(),
            names: std::mem::take(&mut self.dirty_names)
                .into_iter()
                .map(|file| {
                    let names = self.names.get(&file).cloned();
                    (file, names)
                })
                .collect(),
            dropped: std::mem::take(&mut self.dropped),
        }
    }

    /// The batch could not be written. The next one must be of everything.
    pub(super) fn give_back(&mut self, batch: Batch) {
        self.dropped += batch.dropped;
        let later = std::mem::take(&mut self.history);
        self.history_bytes = 0;
        for ended in batch.ended.into_iter().chain(later) {
            self.ended(ended);
        }
    }
}
