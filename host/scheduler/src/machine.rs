//! The machine: see the module's documentation for the rules it follows.

mod failing;
mod observing;
mod operator;
mod run;
mod service;
mod standing;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use self::run::{Run, Update};
use self::service::Stage;
use super::admission::{Admission, Full};
use super::{Decision, Dropped, Effect, Ending, FoundFor, Input, MachineState, RunIds, Start, Wait};
pub use standing::Standing;

use twitcher_model::{Fingerprint, Observation, OnFailure, Policy, RunId, RunMode, Shrinkage, Version, WatchId};

/// Decides when the action of one watch runs. Small, because a daemon has tens of thousands; an idle one owns no heap memory.
#[derive(Debug)]
pub struct Machine {
    id: WatchId,
    policy: Arc<Policy>,
    /// The last version observed.
    seen: Option<Version>,
    /// The last state that was run for or ignored for good.
    handled: Handled,
    /// The state that the last run which succeeded was for, by this daemon or a former one.
    done: Option<Fingerprint>,
    /// How much of the node there was then.
    done_size: Option<u32>,
    /// Oldest first.
    running: Vec<Run>,
    /// Updates to run for, oldest first, and failed ones to be retried: at most one, in PARALLEL at most `max_parallel`.
    waiting: VecDeque<Update>,
    last_start: Option<Duration>,
    /// What the daemon's timer is set to.
    timer: Option<Duration>,
    /// What is through its gates waits for admission, because so much is full.
    asking: Option<Full>,
    /// Since when there is a state that is to be run for and that no run has succeeded for.
    behind: Option<Duration>,
    /// The next observation is the load; nothing starts before it.
    loading: bool,
    /// An operator wants a run for the next observation.
    asked: bool,
    /// That run does not wait for its turn.
    ungoverned: bool,
    /// The state whose turn has come. Boxed, because that is rare.
    turn: Option<Box<Version>>,
    /// The last state was ignored for `refuse_empty`.
    empty: bool,
    /// What the last state lost, if it was ignored for `refuse_shrink`. Boxed, because that is rare.
    shrunk: Option<Box<Shrinkage>>,
    parked: bool,
    paused: bool,
    retired: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Handled {
    Nothing,
    Absent,
    Present { czxid: i64 },
}

impl Machine {
    /// A machine whose first observation is still to come.
    pub fn new(id: WatchId, policy: Arc<Policy>) -> Self {
        Self {
            id,
            policy,
            seen: None,
            handled: Handled::Nothing,
            done: None,
            done_size: None,
            running: Vec::new(),
            waiting: VecDeque::new(),
            last_start: None,
            timer: None,
            asking: None,
            behind: None,
            loading: true,
            asked: false,
            ungoverned: false,
            turn: None,
            empty: false,
            shrunk: None,
            parked: false,
            paused: false,
            retired: false,
        }
    }

    /// Takes over what the last daemon knew of the watch: the state that it last succeeded for, and whether it was parked. Before the
    /// first step.
    pub fn restore(&mut self, done: Option<Fingerprint>, parked: bool) {
        self.done = done;
        self.parked = parked;
    }

    /// Takes over how much of the node there was in the state that the last daemon succeeded for. Before the first step.
    pub fn restore_size(&mut self, size: Option<u32>) {
        self.done_size = size;
    }

    /// Takes over a run of the last daemon that still goes on; `found_for` is what it is for, if that is known, and if the watch was then what it
    /// is now. Its end is told
    /// like that of any other; how it ends says nothing about the watch. Before the first step.
    pub fn adopt(&mut self, run: RunId, found_for: Option<FoundFor>, admission: &mut Admission) {
        admission.count(&self.policy.group);
        self.running.push(Run {
            id: run,
            attempt: 1,
            since: Duration::ZERO,
            group: self.policy.group.clone(),
            placed: true,
            stage: self.first_stage(),
            terminated: false,
            former: true,
            outdated: false,
            found_for,
            kept: None,
        });
    }

    /// Says which state a run that succeeded was for, and how much of the node there was. Said before [`Input::Exited`] of that run.
    pub fn succeeded(&mut self, state: Fingerprint, size: Option<u32>) {
        self.done = Some(state);
        self.done_size = size;
    }

    /// Says what happened at `now`, on any clock that does not go back. Appends what is to be done to `effects`.
    pub fn step(
        &mut self,
        now: Duration,
        input: Input,
        ids: &mut RunIds,
        admission: &mut Admission,
        effects: &mut Vec<Effect>,
    ) {
        self.look_at_services(now, admission, effects);
        match input {
            Input::Observed(observation) => {
                // A timer that comes late changes nothing: what was due has started when a newer state is looked at.
                self.start_due(now, ids, admission, effects);
                if let Some((event, replaced)) = self.observe(now, observation, admission, effects) {
                    self.start_due(now, ids, admission, effects);
                    self.supersede(effects);
                    if self.waiting.back().is_some_and(|newest| !newest.is_retry()) {
                        let why = self.newest_waits_for(now);
                        effects.push(Effect::Record(Decision::Waits { event, why, replaced }));
                    }
                } else {
                    self.start_due(now, ids, admission, effects);
                }
            }
            Input::Exited { run, ending } => {
                if let Some(run) = self.take_run(run) {
                    if run.placed {
                        admission.leave(&run.group);
                    }
                    if ending == Ending::Succeeded && run.stage == Stage::Job {
                        self.catch_up();
                    }
                    self.exited(now, run, ending, ids, effects);
                }
                self.start_due(now, ids, admission, effects);
            }
            Input::Started { run } => self.started(now, run),
            Input::Told { run, failed } => {
                self.told(now, run, failed, ids, effects);
                self.start_due(now, ids, admission, effects);
            }
            Input::Timer => {
                self.timer = None;
                self.start_due(now, ids, admission, effects);
            }
            Input::Admitted => self.admitted(now, ids, admission, effects),
            Input::Reload { policy, same_node } => self.reload(policy, same_node, effects),
            Input::Retire => {
                self.forget(Dropped::Retired, effects);
                self.stop_services(effects);
                self.retired = true;
                self.parked = false;
                self.paused = false;
            }
            Input::Pause => self.pause(effects),
            Input::Resume | Input::Unpark => {
                if self.resume(matches!(input, Input::Resume), effects) {
                    self.start_due(now, ids, admission, effects);
                }
            }
            Input::RunNow { ungoverned } => {
                self.asked = !self.retired;
                self.ungoverned = ungoverned;
            }
            Input::ForgoRun => self.asked = false,
            Input::Turn { version } => {
                self.turn = Some(Box::new(version));
                self.start_due(now, ids, admission, effects);
                // What is terminated for it is waited for; other reasons not to start may last.
                if !self.running.iter().any(|run| run.terminated) {
                    self.turn = None;
                }
            }
        }
        if self.asking.is_some() && !self.wants_to_start(now) {
            admission.withdraw(self.id);
            self.asking = None;
        }
        self.set_timer(now, effects);
    }

    /// The runs that have not ended, oldest first.
    pub fn running(&self) -> impl Iterator<Item = RunId> {
        self.running.iter().map(|run| run.id)
    }

    /// What the watch is doing.
    pub fn state(&self) -> MachineState {
        match (self.running.is_empty(), self.waiting.is_empty()) {
            _ if self.retired => MachineState::Retired,
            _ if self.parked => MachineState::Parked,
            _ if self.paused => MachineState::Paused,
            (true, true) => MachineState::Idle,
            (true, false) if self.asking.is_some() => MachineState::Waiting,
            (true, false) if !self.loading && self.waiting.iter().all(Update::is_retry) => MachineState::BackingOff,
            (true, false) => MachineState::Held,
            (false, true) => MachineState::Running,
            (false, false) if self.up().is_some() && self.waiting.iter().all(Update::is_retry) => {
                MachineState::BackingOff
            }
            (false, false) => MachineState::Queued,
        }
    }

    /// Whether the watch was removed and nothing of it runs any more: the machine can be dropped.
    pub fn is_finished(&self) -> bool {
        self.retired && self.running.is_empty()
    }

    #[cfg(test)]
    pub(super) fn placed(&self) -> usize {
        self.running.iter().filter(|run| run.placed).count()
    }

    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Drops the oldest waiting updates where more wait than may: first those that have had a run.
    fn supersede(&mut self, effects: &mut Vec<Effect>) {
        while self.waiting.len() > self.most_waiting() {
            let at = self.waiting.iter().position(Update::is_retry).unwrap_or(0);
            let Some(oldest) = self.waiting.remove(at) else { return };
            let last = self.waiting.len().saturating_sub(1);
            if let Some(next) = self.waiting.get_mut(at.min(last)) {
                next.take_over(oldest.observation.version, &oldest.observation.stdin);
            }
            let (event, why) = (oldest.event, Dropped::Superseded);
            effects.push(Effect::Record(Decision::Dropped { event, why }));
        }
    }

    /// Removes the newest waiting update if a newer state takes its place.
    fn take_replaceable(&mut self, now: Duration) -> Option<Update> {
        match self.policy.run_mode {
            RunMode::Parallel => {
                let newest = self.waiting.iter().rposition(|update| !update.is_retry())?;
                let settles = self.waiting.get(newest).is_some_and(|update| now < update.gate.quiet);
                if settles { self.waiting.remove(newest) } else { None }
            }
            RunMode::Queue | RunMode::Discard | RunMode::Restart => self.waiting.pop_back(),
        }
    }

    fn most_waiting(&self) -> usize {
        match self.policy.run_mode {
            RunMode::Parallel => self.places(),
            RunMode::Queue | RunMode::Discard | RunMode::Restart => 1,
        }
    }

    /// How many may run at once.
    fn places(&self) -> usize {
        match self.policy.run_mode {
            RunMode::Parallel => usize::try_from(self.policy.max_parallel).unwrap_or(usize::MAX).max(1),
            RunMode::Queue | RunMode::Discard | RunMode::Restart => 1,
        }
    }

    /// Which waiting update is the first to be through its gates: the oldest, but for retries.
    fn next_waiting(&self) -> Option<usize> {
        (0..self.waiting.len()).min_by_key(|at| self.waiting[*at].gate.due)
    }

    /// When a waiting update is through its gates; none if none waits or nothing may start.
    fn next_start(&self) -> Option<Duration> {
        if self.loading || self.parked || self.paused || self.retired {
            return None;
        }
        let due = self.waiting.get(self.next_waiting()?)?.gate.due;
        let interval = self
            .last_start
            .map_or(Duration::ZERO, |last| last.saturating_add(self.policy.min_interval));
        Some(due.max(interval))
    }

    /// Whether something is through its gates, and its turn has come.
    fn is_due(&self, now: Duration) -> bool {
        self.next_start().is_some_and(|at| at <= now) && !self.waits_for_turn()
    }

    /// Whether something is due and has a place of this watch.
    fn wants_to_start(&self, now: Duration) -> bool {
        self.is_due(now) && self.running.len() < self.places()
    }

    /// Whether the update that is next waits for its turn in a rollout.
    fn waits_for_turn(&self) -> bool {
        let next = self.next_waiting().and_then(|at| self.waiting.get(at));
        let is_own = |update: &Update| {
            update.ungoverned || update.attempt > 1 || self.turn.as_deref() == Some(&update.observation.version)
        };
        self.policy.by_turns && next.is_some_and(|next| !is_own(next))
    }

    /// The state whose turn in its rollout the watch waits for, if it would start now.
    pub fn wants_turn(&self, now: Duration, admission: &Admission) -> Option<Version> {
        let is_free = match self.policy.run_mode {
            // It would be terminated.
            RunMode::Restart => true,
            // What stays is told, and needs no place.
            _ if self.can_tell() => true,
            _ => self.running.len() < self.places() && admission.has_room(&self.policy.group),
        };
        let waits = self.waits_for_turn() && self.next_start().is_some_and(|at| at <= now);
        let next = self.next_waiting().and_then(|at| self.waiting.get(at));
        next.filter(|_| waits && is_free).map(|next| next.observation.version)
    }

    /// Whether something runs, or a run that failed is to be tried again.
    pub fn is_acting(&self) -> bool {
        let acts = |run: &Run| run.stage != Stage::Up || run.terminated;
        self.running.iter().any(acts) || self.waiting.iter().any(|update| update.attempt > 1)
    }

    /// Starts what is through its gates, has a place and is admitted; in RESTART, makes place.
    fn start_due(&mut self, now: Duration, ids: &mut RunIds, admission: &mut Admission, effects: &mut Vec<Effect>) {
        while self.wants_to_start(now) {
            match admission.ask(self.id, &self.policy.group) {
                Ok(()) => self.start(now, ids, effects),
                Err(full) => {
                    self.asking = Some(full);
                    return;
                }
            }
        }
        if self.is_due(now) {
            if self.policy.run_mode == RunMode::Restart {
                self.terminate(effects);
            }
            self.tell_services(now, effects);
        }
    }

    /// It is this watch's turn.
    fn admitted(&mut self, now: Duration, ids: &mut RunIds, admission: &mut Admission, effects: &mut Vec<Effect>) {
        self.asking = None;
        if self.wants_to_start(now) {
            self.start(now, ids, effects);
        } else {
            admission.leave(&self.policy.group);
        }
        self.start_due(now, ids, admission, effects);
    }

    /// Starts the update that is next.
    fn start(&mut self, now: Duration, ids: &mut RunIds, effects: &mut Vec<Effect>) {
        let next = self.next_waiting().and_then(|at| self.waiting.remove(at));
        let Some(Update {
            event,
            attempt,
            since,
            observation,
            ..
        }) = next
        else {
            return;
        };
        self.last_start = Some(now);
        self.turn = None;
        if attempt == 1 {
            self.handled = Handled::of(&observation);
        }
        let (run, stays) = (ids.allot(), self.policy.service.is_some());
        let hands_on = self.policy.run_mode == RunMode::Restart && matches!(observation.version, Version::Tree { .. });
        self.running.push(Run {
            id: run,
            attempt,
            since,
            group: self.policy.group.clone(),
            placed: true,
            stage: self.first_stage(),
            terminated: false,
            former: false,
            outdated: false,
            found_for: None,
            kept: (hands_on || self.policy.retry.is_some() || self.policy.on_failure == OnFailure::Stop || stays)
                .then(|| observation.clone()),
        });
        effects.push(Effect::Start(Start {
            run,
            event,
            attempt,
            observation,
        }));
    }

    /// Terminates what runs, for the waiting update; each run once.
    fn terminate(&mut self, effects: &mut Vec<Effect>) {
        let next = self.waiting.front().map(|update| update.observation.version);
        for run in self.running.iter_mut().filter(|run| run.is_outdated_by(next)) {
            run.terminated = true;
            effects.push(Effect::Terminate { run: run.id });
            if let (Some(kept), Some(update)) = (run.kept.take(), self.waiting.front_mut()) {
                update.take_over(kept.version, &kept.stdin);
            }
        }
    }

    fn take_run(&mut self, run: RunId) -> Option<Run> {
        let at = self.running.iter().position(|known| known.id == run)?;
        Some(self.running.remove(at))
    }

    fn reload(&mut self, policy: Arc<Policy>, same_node: bool, effects: &mut Vec<Effect>) {
        if !same_node {
            self.forget(Dropped::OtherNode, effects);
            self.stop_services(effects);
        }
        self.policy = policy;
        if self.policy.retry.is_none() {
            self.drop_retries(effects);
        }
        self.loading = true;
        self.turn = None;
        self.parked = false;
        self.retired = false;
        for run in &mut self.running {
            run.former = true;
        }
        self.supersede(effects);
    }

    /// Forgets all that was seen of the node.
    fn forget(&mut self, why: Dropped, effects: &mut Vec<Effect>) {
        self.seen = None;
        self.handled = Handled::Nothing;
        self.behind = None;
        self.asked = false;
        self.empty = false;
        self.shrunk = None;
        if why == Dropped::OtherNode {
            self.done_size = None;
        }
        for run in &mut self.running {
            run.kept = None;
        }
        let dropped = self.waiting.drain(..).map(|update| update.event);
        effects.extend(dropped.map(|event| Effect::Record(Decision::Dropped { event, why })));
    }

    /// Sets the daemon's timer to when time alone will make a difference, and gives back memory that is not needed now.
    fn set_timer(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        let blocked = self.running.len() >= self.places();
        let next = self.waiting.front().map(|update| update.observation.version);
        let mut running = self.running.iter();
        let restart = self.policy.run_mode == RunMode::Restart && running.any(|run| run.is_outdated_by(next));
        let at = self
            .next_start()
            .filter(|_| self.asking.is_none() && (!blocked || restart || self.can_tell()))
            // Time alone brings no turn.
            .filter(|at| *at > now || !self.waits_for_turn());
        let at = at.into_iter().chain(self.next_up()).min();
        if at != self.timer {
            self.timer = at;
            effects.push(match at {
                Some(at) => Effect::ArmTimer { at },
                None => Effect::DisarmTimer,
            });
        }
        if self.waiting.is_empty() {
            self.waiting = VecDeque::new();
        }
        if self.running.is_empty() {
            self.running = Vec::new();
        }
    }

    /// What the newest waiting update waits for.
    fn newest_waits_for(&self, now: Duration) -> Wait {
        let gate = self.waiting.back().map(|newest| newest.gate);
        let is_after = |at: Duration| at.checked_sub(now).filter(|left| !left.is_zero());
        if self.parked {
            Wait::Parked
        } else if self.paused {
            Wait::Paused
        } else if let Some(left) = gate.and_then(|gate| is_after(gate.quiet)) {
            Wait::Settle(left)
        } else if let Some(left) = gate.and_then(|gate| is_after(gate.due)) {
            Wait::Splay(left)
        } else if self.running.iter().any(|run| run.terminated) {
            Wait::Terminating
        } else if let Some(left) = self.next_start().and_then(is_after) {
            Wait::MinInterval(left)
        } else if let Some(full) = self.asking {
            Wait::Turn(full)
        } else if self.running.is_empty() && self.waits_for_turn() {
            Wait::Rollout
        } else if self.policy.run_mode == RunMode::Parallel {
            Wait::Place
        } else {
            Wait::Running
        }
    }
}

impl Handled {
    fn of(observation: &Observation) -> Self {
        match observation.version {
            Version::Absent => Handled::Absent,
            Version::Data { czxid, .. } | Version::Children { czxid, .. } => Handled::Present { czxid },
            Version::Tree { .. } => Handled::Present {
                czxid: observation.stat.map_or(0, |stat| stat.czxid),
            },
        }
    }
}
