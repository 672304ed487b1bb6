//! Of which components processes are kept that only wait for a call, how many, and which have to go.
//!
//! Bookkeeping without I/O, and without a clock of its own. It must not know how a process is made, nor why a component runs.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::daemon_side::invocation::Invocation;
use crate::protocol::Task;
use twitcher_model::{ProcessSettings, RunId, WasmAction};

/// How long a component that ran counts as one that soon runs again.
const RECENT: Duration = Duration::from_secs(600);
/// How long the last run of a component must have been ago for its process to give way to that of another.
const GIVES_WAY: Duration = Duration::from_secs(60);
/// How long a process is not made after one that ended while it waited; doubled each time, up to [`RECENT`].
const BACKOFF: Duration = Duration::from_secs(1);
/// How long after a run began no process is made, unless nothing runs: the run comes first.
const QUIET: Duration = Duration::from_millis(50);
/// How long none is made once the system had no room for a process.
const SHORTAGE: Duration = Duration::from_secs(60);
/// What a process is thought to hold before one of its kind was looked at, in bytes.
const USUAL: u64 = 2 << 20;
/// Most processes that wait.
const MOST: usize = 64;
/// Most components that are remembered because they ran.
const REMEMBERED: usize = 256;

/// What a process that waits was made for. It is handed no call of anything else.
#[derive(Debug, Clone)]
pub struct WarmSpec {
    /// Name of the watch.
    pub watch: Arc<str>,
    /// The component and its grants.
    pub action: Arc<WasmAction>,
    /// How the process is set up.
    pub process: Arc<ProcessSettings>,
}

impl WarmSpec {
    /// That of a run; none unless it is one of a component that can be called later than its process is made.
    pub(crate) fn of(invocation: &Invocation) -> Option<Self> {
        match &invocation.task {
            Task::Wasm(task) if can_wait(&task.action) => Some(Self {
                watch: Arc::clone(&invocation.watch),
                action: Arc::clone(&task.action),
                process: Arc::clone(&invocation.process),
            }),
            _ => None,
        }
    }

    /// Whether a process can wait for it at all.
    pub fn can_wait(&self) -> bool {
        can_wait(&self.action) && self.action.grants.warm != Some(0)
    }

    fn is_same(&self, other: &Self) -> bool {
        fn same<T: PartialEq>(a: &Arc<T>, b: &Arc<T>) -> bool {
            Arc::ptr_eq(a, b) || a == b
        }
        self.watch == other.watch && same(&self.action, &other.action) && same(&self.process, &other.process)
    }
}

/// Whether nothing that the process is made with could be old by the time of the call. Addresses and certificates are found out for each run; and
/// an environment is the process's from the start, which a secret must not be.
pub(crate) fn can_wait(action: &WasmAction) -> bool {
    let grants = &action.grants;
    grants.net.is_empty()
        && grants.http.is_empty()
        && grants.secrets_in(twitcher_model::SecretPlace::Env).next().is_none()
        && grants.warm != Some(0)
}

/// What is told of the processes that wait.
#[derive(Debug, Default)]
pub struct WarmFigures {
    waiting: AtomicU64,
    held: AtomicU64,
    ready: AtomicU64,
    unready: AtomicU64,
    ended: AtomicU64,
}

impl WarmFigures {
    /// Processes that wait.
    pub fn waiting(&self) -> u64 {
        self.waiting.load(Ordering::Relaxed)
    }

    /// The memory that they have to themselves, in bytes.
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Runs for which one was ready.
    pub fn ready(&self) -> u64 {
        self.ready.load(Ordering::Relaxed)
    }

    /// Runs for which there was to be one, and was none.
    pub fn unready(&self) -> u64 {
        self.unready.load(Ordering::Relaxed)
    }

    /// Processes that ended by themselves while they waited.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }
}

/// A component whose processes are kept, or soon will be.
#[derive(Debug)]
struct Kept {
    spec: WarmSpec,
    last_run: Option<Instant>,
    /// How many ended by themselves since one was of use.
    failures: u32,
    not_before: Option<Instant>,
    /// What the last one held, in bytes.
    size: u64,
}

impl Kept {
    fn new(spec: WarmSpec) -> Self {
        Self {
            spec,
            last_run: None,
            failures: 0,
            not_before: None,
            size: USUAL,
        }
    }

    fn wanted(&self, now: Instant) -> usize {
        let recent = self.last_run.is_some_and(|last| now < last + RECENT);
        self.spec.action.grants.warm.map_or(usize::from(recent), usize::from)
    }
}

/// A process, from when it is asked for until it is handed a call or is to end.
#[derive(Debug)]
struct Member {
    watch: Arc<str>,
    held: u64,
    /// It waits; else it is still being made.
    is_ready: bool,
}

/// See the module's documentation.
#[derive(Debug)]
pub(crate) struct WarmPool {
    budget: u64,
    kept: HashMap<Arc<str>, Kept>,
    members: HashMap<RunId, Member>,
    quiet_until: Option<Instant>,
    short_until: Option<Instant>,
    figures: Arc<WarmFigures>,
}

/// What to do next.
#[derive(Debug)]
pub(crate) enum Next {
    /// Make a process.
    Make(WarmSpec),
    /// End this one first, which another is to have the place of.
    End(RunId),
    /// Nothing, until then.
    Wait(Option<Instant>),
}

impl WarmPool {
    pub(crate) fn new(figures: Arc<WarmFigures>) -> Self {
        Self {
            budget: 0,
            kept: HashMap::new(),
            members: HashMap::new(),
            quiet_until: None,
            short_until: None,
            figures,
        }
    }

    /// How much memory all processes together may have to themselves, in bytes. With 0, which is the start, there are none.
    pub(crate) fn set_budget(&mut self, bytes: u64) {
        self.budget = bytes;
    }

    /// How many there are, those that are being made included.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether this one is among them.
    pub(crate) fn has(&self, number: RunId) -> bool {
        self.members.contains_key(&number)
    }

    fn held(&self) -> u64 {
        self.members.values().map(|member| member.held).sum()
    }

    fn tell(&self) {
        let ready = self.members.values().filter(|member| member.is_ready);
        let (count, held) = ready.fold((0, 0), |(count, held), member| (count + 1, held + member.held));
        self.figures.waiting.store(count, Ordering::Relaxed);
        self.figures.held.store(held, Ordering::Relaxed);
    }

    /// The configuration was loaded: these are the components of all watches now. Gives who is to end: all of them.
    pub(crate) fn reloaded(&mut self, all: Vec<WarmSpec>) -> Vec<RunId> {
        let mut before = std::mem::take(&mut self.kept);
        for spec in all.into_iter().filter(|spec| can_wait(&spec.action)) {
            let known = before.remove(&spec.watch);
            if spec.action.grants.warm.is_none() && known.is_none() {
                continue;
            }
            let mut kept = Kept::new(spec);
            kept.last_run = known.and_then(|known| known.last_run);
            self.kept.insert(Arc::clone(&kept.spec.watch), kept);
        }
        self.end_all()
    }

    /// Gives all that wait or are being made, and forgets them.
    pub(crate) fn end_all(&mut self) -> Vec<RunId> {
        let all = self.members.drain().map(|(number, _)| number).collect();
        self.tell();
        all
    }

    /// The system has no room for a process just now.
    pub(crate) fn short(&mut self, now: Instant) -> Vec<RunId> {
        self.short_until = Some(now + SHORTAGE);
        self.end_all()
    }

    /// A component runs. Gives who is to end: processes of a watch that is another by now.
    pub(crate) fn runs(&mut self, spec: &WarmSpec, now: Instant) -> Vec<RunId> {
        if self.budget == 0 {
            return Vec::new();
        }
        self.quiet_until = Some(now + QUIET);
        let stale = match self.kept.get_mut(&spec.watch) {
            Some(kept) if kept.spec.is_same(spec) => {
                kept.last_run = Some(now);
                return Vec::new();
            }
            Some(_) => self.end_of(&Arc::clone(&spec.watch)),
            None => Vec::new(),
        };
        self.forget_longest();
        let mut kept = Kept::new(spec.clone());
        kept.last_run = Some(now);
        self.kept.insert(Arc::clone(&spec.watch), kept);
        stale
    }

    /// Nobody is remembered for ever: of too many, the one that has not run for longest goes, if it has no process.
    fn forget_longest(&mut self) {
        if self.kept.len() < REMEMBERED {
            return;
        }
        let has_none = |kept: &&Kept| !self.members.values().any(|member| member.watch == kept.spec.watch);
        let automatic = self.kept.values().filter(|kept| kept.spec.action.grants.warm.is_none());
        let longest = automatic.filter(has_none).min_by_key(|kept| kept.last_run);
        if let Some(watch) = longest.map(|kept| Arc::clone(&kept.spec.watch)) {
            self.kept.remove(&watch);
        }
    }

    fn end_of(&mut self, watch: &str) -> Vec<RunId> {
        let ended: Vec<_> = self
            .members
            .extract_if(|_, member| &*member.watch == watch)
            .map(|(number, _)| number)
            .collect();
        self.tell();
        ended
    }

    /// One that is ready for a run of this; it is not among them any more.
    pub(crate) fn take(&mut self, spec: &WarmSpec) -> Option<RunId> {
        if !self.kept.get(&spec.watch)?.spec.is_same(spec) {
            return None;
        }
        let ready =
            |(number, member): (&RunId, &Member)| (member.is_ready && member.watch == spec.watch).then_some(*number);
        let number = self.members.iter().find_map(ready)?;
        self.members.remove(&number);
        self.tell();
        Some(number)
    }

    /// Whether one is ready for a run of this.
    pub(crate) fn has_ready(&self, spec: &WarmSpec) -> bool {
        self.members
            .values()
            .any(|member| member.is_ready && member.watch == spec.watch)
    }

    /// A run was handed to one that had waited.
    pub(crate) fn was_ready(&mut self, spec: &WarmSpec) {
        self.figures.ready.fetch_add(1, Ordering::Relaxed);
        if let Some(kept) = self.kept.get_mut(&spec.watch) {
            (kept.failures, kept.not_before) = (0, None);
        }
    }

    /// A run that one was to be ready for starts without.
    pub(crate) fn was_unready(&mut self, spec: &WarmSpec, now: Instant) {
        if self.budget > 0 && self.kept.get(&spec.watch).is_some_and(|kept| kept.wanted(now) > 0) {
            self.figures.unready.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What to do now, at the end of which it is asked again.
    pub(crate) fn next(&mut self, now: Instant, idle: bool) -> Next {
        if self.budget == 0 {
            return Next::Wait(None);
        }
        let quiet = self.quiet_until.filter(|until| now < *until && !idle);
        if let Some(until) = quiet.max(self.short_until.filter(|until| now < *until)) {
            return Next::Wait(Some(until));
        }
        let mut counts: HashMap<&str, usize> = HashMap::new();
        for member in self.members.values() {
            *counts.entry(&member.watch).or_default() += 1;
        }
        let has = |kept: &Kept| counts.get(&*kept.spec.watch).copied().unwrap_or_default();
        if let Some(kept) = self.kept.values().find(|kept| has(kept) > kept.wanted(now))
            && let Some((number, _)) = self.members.iter().find(|(_, member)| member.watch == kept.spec.watch)
        {
            return Next::End(*number);
        }
        let lacking = self.kept.values().filter(|kept| has(kept) < kept.wanted(now));
        let (due, later): (Vec<_>, Vec<_>) = lacking.partition(|kept| kept.not_before.is_none_or(|at| at <= now));
        let at = later.iter().filter_map(|kept| kept.not_before).min();
        // Those that the operator asked for come first, then those that ran last.
        let Some(kept) = due
            .into_iter()
            .max_by_key(|kept| (kept.spec.action.grants.warm.is_some(), kept.last_run))
        else {
            return Next::Wait(at);
        };
        if self.members.len() < MOST && self.held() + kept.size <= self.budget {
            return Next::Make(kept.spec.clone());
        }
        let gives_way = |(number, member): (&RunId, &Member)| {
            let other = self.kept.get(&member.watch)?;
            let since = other.last_run.filter(|last| now >= *last + GIVES_WAY)?;
            (other.spec.action.grants.warm.is_none() && Some(since) < kept.last_run).then_some((since, *number))
        };
        match self.members.iter().filter_map(gives_way).min() {
            Some((_, number)) => Next::End(number),
            // Asked again when something ends, or at the next sweep.
            None => Next::Wait(at),
        }
    }

    /// One is being made.
    pub(crate) fn made(&mut self, number: RunId, watch: &Arc<str>) {
        let held = self.kept.get(watch).map_or(USUAL, |kept| kept.size);
        let (watch, is_ready) = (Arc::clone(watch), false);
        self.members.insert(number, Member { watch, held, is_ready });
    }

    /// One waits, and has so much memory to itself. False if that is more than there is: then it is to end.
    pub(crate) fn waits(&mut self, number: RunId, held: u64, now: Instant) -> bool {
        let Some(member) = self.members.get_mut(&number) else {
            return false;
        };
        (member.held, member.is_ready) = (held, true);
        let watch = Arc::clone(&member.watch);
        let fits = self.held() <= self.budget;
        if let Some(kept) = self.kept.get_mut(&watch) {
            kept.size = held;
            if !fits {
                kept.not_before = Some(now + RECENT);
            }
        }
        if !fits {
            self.members.remove(&number);
        }
        self.tell();
        fits
    }

    /// One is no more: it is to end, or its place is needed.
    pub(crate) fn leaves(&mut self, number: RunId) {
        self.members.remove(&number);
        self.tell();
    }

    /// Any that could make room; it is not among them any more.
    pub(crate) fn give_way(&mut self) -> Option<RunId> {
        let number = self.members.keys().next().copied()?;
        self.leaves(number);
        Some(number)
    }

    /// One ended by itself, or could not be made. Gives how long none is made instead, if that is to be said.
    pub(crate) fn failed(&mut self, number: RunId, now: Instant) -> Option<Duration> {
        let member = self.members.remove(&number)?;
        self.tell();
        self.figures.ended.fetch_add(1, Ordering::Relaxed);
        let kept = self.kept.get_mut(&member.watch)?;
        let pause = (BACKOFF * (1 << kept.failures.min(16))).min(RECENT);
        kept.not_before = Some(now + pause);
        kept.failures += 1;
        (kept.failures == 1).then_some(pause)
    }
}

#[cfg(test)]
mod tests;
