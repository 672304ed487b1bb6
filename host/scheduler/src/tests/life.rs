//! Random lives with every policy, gates and reloads included: what must hold at each step, and once all has come to rest.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::super::{
    Admission, Cause, Decision, Dropped, Effect, Ending, Ignored, Input, Machine, MachineState, RunIds, Start,
};
use super::model::ungated;
use super::{data, tree};
use twitcher_model::{Observation, OnFailure, Policy, Retry, RunId, RunMode, RunOnLoad, Trigger, Version, WatchId};

#[derive(Debug, Clone, Copy)]
enum Op {
    Set { empty: bool },
    Delete,
    Again,
    Exit { which: prop::sample::Index, success: bool },
    Pass { seconds: u64 },
    Reload,
    Resume,
}

fn ops(reloads: u32) -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => prop::bool::weighted(0.1).prop_map(|empty| Op::Set { empty }),
        1 => Just(Op::Delete),
        1 => Just(Op::Again),
        4 => (any::<prop::sample::Index>(), prop::bool::weighted(0.8))
            .prop_map(|(which, success)| Op::Exit { which, success }),
        6 => (1..8u64).prop_map(|seconds| Op::Pass { seconds }),
        reloads => Just(Op::Reload),
        1 => Just(Op::Resume),
    ];
    prop::collection::vec(op, 0..60)
}

fn policy() -> impl Strategy<Value = Policy> {
    let gate = || prop_oneof![1 => Just(0), 1 => 1..6u64].prop_map(Duration::from_secs);
    let retry = |(times, initial, jitter)| Retry {
        times,
        initial,
        jitter,
        max_delay: Duration::from_secs(20),
        ..Retry::default()
    };
    let retry = prop::option::of((1..4u32, gate(), 0..=1000u32).prop_map(retry));
    (ungated(), (gate(), gate(), gate(), gate()), any::<bool>(), retry).prop_map(
        |(policy, (settle, settle_max, delay, min_interval), notify, retry)| Policy {
            retry,
            settle,
            settle_max,
            delay,
            min_interval,
            notify_signal: notify.then_some(10),
            ..policy
        },
    )
}

/// A daemon, a node and a clock around one machine.
struct Life {
    policy: Arc<Policy>,
    machine: Machine,
    ids: RunIds,
    admission: Admission,
    now: Duration,
    timer: Option<Duration>,
    node: Observation,
    /// Counts changes: data is its number, so that what was started can be put in order.
    changes: i64,
    parked: bool,
    reloaded: bool,
    /// When each change was seen first, and whether it passes the gates by itself.
    seen: HashMap<i64, (Duration, bool)>,
    seen_while_running: HashSet<i64>,
    /// Newest change that the machine said it would not run for at load.
    not_on_load: i64,
    starts: Vec<(Duration, Start)>,
    dropped: usize,
    running: Vec<RunId>,
    terminated: HashSet<RunId>,
    succeeded: HashSet<RunId>,
}

impl Life {
    fn new(policy: Policy) -> Self {
        let policy = Arc::new(policy);
        Self {
            machine: Machine::new(WatchId(1), policy.clone()),
            admission: Admission::new(usize::MAX),
            policy,
            ids: RunIds::new(0),
            now: Duration::from_secs(100),
            timer: None,
            node: Observation::absent(),
            changes: 0,
            parked: false,
            reloaded: false,
            seen: HashMap::new(),
            seen_while_running: HashSet::new(),
            not_on_load: -1,
            starts: vec![],
            dropped: 0,
            running: vec![],
            terminated: HashSet::new(),
            succeeded: HashSet::new(),
        }
    }

    fn play(&mut self, op: Op) {
        match op {
            Op::Set { empty } => {
                self.changes += 1;
                let czxid = if self.node.exists() {
                    self.node.stat.unwrap().czxid
                } else {
                    self.changes
                };
                let text = if empty { String::new() } else { self.changes.to_string() };
                self.observe(data(czxid, self.changes, text));
            }
            Op::Delete => self.observe(Observation::absent()),
            Op::Again => self.observe(self.node.clone()),
            Op::Exit { which, success } => {
                if !self.running.is_empty() {
                    let run = self.running.remove(which.index(self.running.len()));
                    self.end(run, success);
                }
            }
            Op::Pass { seconds } => self.pass(Duration::from_secs(seconds)),
            Op::Reload => {
                self.parked = false;
                self.reloaded = true;
                let (policy, same_node) = (self.policy.clone(), true);
                self.step(Input::Reload { policy, same_node });
                self.observe(self.node.clone());
            }
            Op::Resume => {
                self.parked = false;
                self.step(Input::Resume);
            }
        }
    }

    fn end(&mut self, run: RunId, success: bool) {
        let ending = match success {
            true => Ending::Succeeded,
            false => Ending::Failed(Cause::Code(1)),
        };
        if success {
            self.succeeded.insert(run);
        }
        self.step(Input::Exited { run, ending });
    }

    fn observe(&mut self, node: Observation) {
        let zxid = zxid(&node);
        let alone = matches!(self.machine.state(), MachineState::Idle | MachineState::Running);
        self.seen.entry(zxid).or_insert((self.now, alone));
        self.node = node.clone();
        let running = !self.running.is_empty();
        let starts = self.starts.len();
        self.step(Input::Observed(node));
        // A late timer cannot happen here, so what started in this step is this state.
        if running && self.starts.len() == starts {
            self.seen_while_running.insert(zxid);
        }
    }

    /// Lets time pass, stopping at every timer.
    fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(at) = self.timer.filter(|at| *at <= until) {
            assert!(at >= self.now, "a timer in the past");
            self.now = at;
            self.timer = None;
            self.step(Input::Timer);
            assert!(self.timer.is_none_or(|next| next > at), "a timer that does nothing");
        }
        self.now = until;
    }

    fn step(&mut self, input: Input) {
        let mut effects = vec![];
        self.machine
            .step(self.now, input, &mut self.ids, &mut self.admission, &mut effects);
        for effect in effects {
            match effect {
                Effect::Start(start) => self.start(start),
                Effect::Notify {
                    start: Start { run, .. },
                    signal,
                } => {
                    assert_eq!(
                        (self.policy.run_mode, self.policy.notify_signal),
                        (RunMode::Queue, Some(signal))
                    );
                    assert!(self.running.contains(&run));
                }
                Effect::Terminate { run } => {
                    assert_eq!(self.policy.run_mode, RunMode::Restart);
                    assert!(self.running.contains(&run));
                    assert!(self.terminated.insert(run), "terminated twice");
                }
                Effect::ArmTimer { at } => self.timer = Some(at),
                Effect::DisarmTimer => assert!(self.timer.take().is_some(), "disarmed what is not armed"),
                Effect::Up { .. } => panic!("nothing stays"),
                Effect::Park { .. } => self.parked = true,
                Effect::Record(Decision::Ignored(Ignored::NotOnLoad)) => self.not_on_load = self.changes,
                Effect::Record(Decision::Dropped {
                    event: Trigger::Retry, ..
                }) => {}
                Effect::Record(Decision::Dropped { why, .. }) => {
                    self.dropped += 1;
                    assert!(matches!(why, Dropped::Deleted | Dropped::Superseded));
                }
                Effect::Record(_) => {}
            }
        }
        let waiting = if self.policy.run_mode == RunMode::Parallel {
            self.policy.max_parallel as usize
        } else {
            1
        };
        assert!(self.machine.waiting() <= waiting, "memory is not bounded");
        assert_eq!(self.machine.running().collect::<Vec<_>>(), self.running);
        assert_eq!(self.admission.running(), self.running.len());
        if self.machine.state() == MachineState::BackingOff {
            assert!(self.timer.is_some(), "a retry that nothing will start");
        }
    }

    fn start(&mut self, start: Start) {
        let policy = &self.policy;
        let zxid = zxid(&start.observation);
        let load = start.event == Trigger::Load;
        let places = if policy.run_mode == RunMode::Parallel {
            policy.max_parallel as usize
        } else {
            1
        };
        assert!(self.running.len() < places, "more at once than may");
        assert!(!self.parked, "started while parked");
        if let Some((at, last)) = self.starts.last() {
            assert!(self.now >= *at + policy.min_interval, "min_interval");
            let last = self::zxid(&last.observation);
            let absent = !start.observation.exists() || last == 0;
            assert!(
                match start.event {
                    Trigger::Retry => zxid == last || policy.run_mode == RunMode::Parallel,
                    _ => absent || zxid > last || (zxid == last && self.reloaded),
                },
                "older than what was started"
            );
        }
        if policy.on_failure == OnFailure::Stop {
            // What a parked watch goes on with has failed, and its attempts are counted anew.
            assert!(start.attempt == 1 || start.event == Trigger::Retry);
        } else {
            assert_eq!(start.attempt > 1, start.event == Trigger::Retry);
        }
        if let Some(retry) = &policy.retry {
            assert!(start.attempt <= retry.times.saturating_add(1), "more often than may be");
        } else {
            assert_eq!(start.attempt, 1);
        }
        if let Some((at, alone)) = self.seen.get(&zxid).filter(|_| zxid != 0 && !self.reloaded) {
            let settle = if load || !policy.settle_max.is_zero() {
                Duration::ZERO
            } else {
                policy.settle
            };
            assert!(self.now >= *at + settle, "not settled");
            assert!(!alone || self.now >= *at + settle + policy.delay, "not delayed");
            let first = start.event != Trigger::Retry && policy.run_mode == RunMode::Discard;
            let discard = first && self.seen_while_running.contains(&zxid);
            assert!(!discard, "started what DISCARD ignores");
        }
        self.running.push(start.run);
        self.starts.push((self.now, start));
    }

    /// Lives with a subtree in place of a node, and comes to rest.
    fn change_subtree(&mut self, ops: Vec<Op>) {
        for op in ops {
            match op {
                Op::Set { .. } | Op::Delete => {
                    self.changes += 1;
                    let changed = self.changes;
                    self.observe(tree(
                        changed as u64,
                        [format!("/{}", changed % 7), format!("/{changed}")],
                    ));
                }
                Op::Again | Op::Reload if !self.node.exists() => {}
                op => self.play(op),
            }
        }
        self.rest();
    }

    /// The paths that such runs were told of.
    fn told(&self, which: impl Fn(RunId) -> bool) -> BTreeSet<String> {
        let starts = self.starts.iter().filter(|(_, start)| which(start.run));
        let text = |stdin: &[u8]| String::from_utf8_lossy(stdin).into_owned();
        let lines = starts.flat_map(|(_, start)| start.observation.stdin.split(|byte| *byte == b'\n'));
        lines.filter(|path| !path.is_empty()).map(text).collect()
    }

    /// The paths that changed.
    fn changed(&self) -> BTreeSet<String> {
        (1..=self.changes)
            .flat_map(|n| [format!("/{}", n % 7), format!("/{n}")])
            .collect()
    }

    /// Nothing changes any more; everything that runs ends.
    fn rest(&mut self) {
        self.parked = false;
        self.step(Input::Resume);
        for _ in 0..100 {
            while !self.running.is_empty() {
                let run = self.running.remove(0);
                let success = !self.terminated.contains(&run);
                self.end(run, success);
            }
            self.pass(Duration::from_secs(60));
        }
        assert_eq!(self.machine.state(), MachineState::Idle, "something waits for ever");
        assert_eq!(self.timer, None);
    }
}

/// The number of the change that made this state; 0 for an absent node.
fn zxid(node: &Observation) -> i64 {
    match node.version {
        Version::Data { mzxid, .. } => mzxid,
        _ => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn latest_state_is_always_handled(policy in policy(), ops in ops(1)) {
        let mut life = Life::new(policy);
        life.observe(Observation::absent());
        let mut ready = 0;
        for op in ops {
            life.play(op);
            let refused = life.policy.refuse_empty && life.node.exists() && life.node.stdin.is_empty();
            if !refused {
                ready = zxid(&life.node);
            }
        }
        life.rest();
        if matches!(life.policy.run_mode, RunMode::Queue | RunMode::Restart) {
            let last = life.starts.last().map(|(_, start)| zxid(&start.observation));
            if ready != 0 {
                prop_assert!(last == Some(ready) || life.not_on_load >= ready);
            } else if life.policy.on_delete && !life.seen.is_empty() && last.is_some() {
                prop_assert_eq!(last, Some(0));
            }
        }
    }

    #[test]
    fn parallel_and_discard_account_for_every_update(policy in policy(), discard in any::<bool>(), ops in ops(0)) {
        let run_mode = if discard { RunMode::Discard } else { RunMode::Parallel };
        let keep = OnFailure::Keep;
        let zero = Duration::ZERO;
        let mut life = Life::new(Policy { run_mode, settle: zero, delay: zero, min_interval: zero, on_failure: keep,
            refuse_empty: false, ..policy });
        life.observe(Observation::absent());
        let (mut updates, mut before) = (0, life.node.version);
        for op in ops {
            let ignored = discard && !life.running.is_empty();
            life.play(op);
            let deleted = !life.node.exists() && !life.policy.on_delete;
            if std::mem::replace(&mut before, life.node.version) != life.node.version && !deleted && !ignored {
                updates += 1;
            }
        }
        life.rest();
        let first = life.starts.iter().filter(|(_, start)| start.attempt == 1).count();
        prop_assert_eq!(first + life.dropped, updates);
    }

    #[test]
    fn no_changed_path_is_lost(policy in policy(), ops in ops(1)) {
        let run_mode = match policy.run_mode {
            RunMode::Discard => RunMode::Queue,
            other => other,
        };
        let mut life = Life::new(Policy { run_mode, run_on_load: RunOnLoad::Always, ..policy });
        life.change_subtree(ops);
        let told = life.told(|run| !life.terminated.contains(&run));
        prop_assert_eq!(told, life.changed());
    }

    #[test]
    fn with_retries_every_changed_path_is_handled_by_a_run_that_succeeds(policy in policy(), ops in ops(0)) {
        let run_mode = if policy.run_mode == RunMode::Restart { RunMode::Restart } else { RunMode::Queue };
        let retry = Some(Retry { times: u32::MAX, max_delay: Duration::from_secs(5), ..Retry::default() });
        let mut life = Life::new(Policy { run_mode, run_on_load: RunOnLoad::Always, retry, ..policy });
        life.change_subtree(ops);
        prop_assert_eq!(life.told(|run| life.succeeded.contains(&run)), life.changed());
    }
}
