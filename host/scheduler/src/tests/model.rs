//! The machine without gates, compared step by step with a model that keeps the whole history and is slow and obvious.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::super::{Admission, Cause, Effect, Ending, Input, Machine, RunIds};
use super::data;
use twitcher_model::{Observation, OnFailure, Policy, Retry, RunId, RunMode, RunOnLoad, Trigger, WatchId};

/// A state of a node: none if absent, else who created it, when it was set last, and whether it is empty.
type Node = Option<(i64, i64, bool)>;

#[derive(Debug, Clone, Copy)]
enum Op {
    Set {
        empty: bool,
    },
    Delete,
    Recreate,
    /// The source sends the state again.
    Again,
    Exit {
        which: prop::sample::Index,
        ending: Ending,
    },
    Resume,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let asks = |after| Ending::Failed(Cause::AsksForRetry { after });
    let ending = prop_oneof![
        8 => Just(Ending::Succeeded),
        4 => (1..4).prop_map(|code| Ending::Failed(Cause::Code(code))),
        1 => prop::sample::select(vec![
            Ending::Failed(Cause::Permanent),
            Ending::Superseded,
            asks(None),
            asks(Some(Duration::from_secs(7))),
        ]),
    ];
    let op = prop_oneof![
        6 => prop::bool::weighted(0.2).prop_map(|empty| Op::Set { empty }),
        2 => Just(Op::Delete),
        1 => Just(Op::Recreate),
        3 => Just(Op::Again),
        6 => (any::<prop::sample::Index>(), ending).prop_map(|(which, ending)| Op::Exit { which, ending }),
        1 => Just(Op::Resume),
    ];
    prop::collection::vec(op, 0..60)
}

/// Retries whose times can be reckoned in the head: no jitter, and the time doubles.
fn retry() -> impl Strategy<Value = Option<Retry>> {
    let codes = prop_oneof![2 => Just(vec![]), 1 => Just(vec![2, 3])];
    let retry = |(times, initial, max_delay, codes)| Retry {
        times,
        initial: Duration::from_secs(initial),
        max_delay: Duration::from_secs(max_delay),
        jitter: 0,
        codes,
        ..Retry::default()
    };
    prop::option::of((1..4u32, 0..4u64, 1..10u64, codes).prop_map(retry))
}

pub fn run_mode() -> impl Strategy<Value = RunMode> {
    prop::sample::select(vec![
        RunMode::Queue,
        RunMode::Discard,
        RunMode::Parallel,
        RunMode::Restart,
    ])
}

pub fn ungated() -> impl Strategy<Value = Policy> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>());
    (run_mode(), 1..4u32, flags).prop_map(
        |(run_mode, max_parallel, (run_on_load, on_delete, refuse_empty, stop))| Policy {
            run_mode,
            max_parallel,
            // Without a success, IF_CHANGED is as good as True.
            run_on_load: if run_on_load {
                RunOnLoad::IfChanged
            } else {
                RunOnLoad::Never
            },
            on_delete,
            refuse_empty,
            on_failure: if stop { OnFailure::Stop } else { OnFailure::Keep },
            ..Policy::default()
        },
    )
}

/// What a machine is expected to do at a step, apart from what it records.
#[derive(Debug, PartialEq)]
enum Does {
    Start(Trigger, Node, u32),
    Terminate(RunId),
    Park(RunId),
}

/// The model: every update there ever was, each retry as one more, and what became of it. Times are in seconds.
struct Model {
    policy: Policy,
    now: u64,
    last: Option<Node>,
    /// Whether the node existed, and by which creation, when last run for or ignored for good; none before the load.
    handled: Option<Option<i64>>,
    updates: Vec<Update>,
    running: Vec<Run>,
    next_run: u64,
    parked: bool,
}

#[derive(Clone, Copy)]
struct Update {
    event: Trigger,
    node: Node,
    fate: Fate,
    attempt: u32,
    due: u64,
}

#[derive(Clone, Copy)]
struct Run {
    id: RunId,
    terminated: bool,
    update: usize,
    deleted_since: bool,
}

#[derive(PartialEq, Clone, Copy)]
enum Fate {
    Open,
    Started,
    Lost,
}

impl Model {
    fn new(policy: Policy) -> Self {
        Self {
            policy,
            now: 0,
            last: None,
            handled: None,
            updates: vec![],
            running: vec![],
            next_run: 0,
            parked: false,
        }
    }

    fn see(&mut self, node: Node) -> Vec<Does> {
        let first = self.last.is_none();
        let before = self.last.replace(node);
        if before == Some(node) {
            return vec![];
        }
        let creation = node.map(|(czxid, _, _)| czxid);
        let event = match (node, self.handled) {
            (None, _) => Trigger::Deleted,
            (Some(_), None) => Trigger::Load,
            (Some(_), Some(handled)) if handled != creation => Trigger::Created,
            (Some(_), Some(_)) => Trigger::Data,
        };
        if node.is_none() {
            self.handled = Some(None);
            // Nothing is retried of what was there before.
            self.running.iter_mut().for_each(|run| run.deleted_since = true);
            for at in self.open() {
                if self.updates[at].event == Trigger::Retry {
                    self.updates[at].fate = Fate::Lost;
                }
            }
        }
        let empty = node.is_some_and(|(_, _, empty)| empty);
        let discarded = self.policy.run_mode == RunMode::Discard && !self.running.is_empty();
        match node {
            None if first => {}
            None if !self.policy.on_delete => {
                self.lose_open_but(if self.is(RunMode::Parallel) { usize::MAX } else { 0 })
            }
            Some(_) if first && self.policy.run_on_load == RunOnLoad::Never => self.handled = Some(creation),
            Some(_) if empty && self.policy.refuse_empty => {}
            _ if discarded => self.handled = Some(creation),
            _ => {
                let (fate, attempt, due) = (Fate::Open, 1, self.now);
                self.updates.push(Update {
                    event,
                    node,
                    fate,
                    attempt,
                    due,
                });
                let mut does = self.go_on();
                self.lose_open_but(self.room());
                does.extend(self.go_on());
                return does;
            }
        }
        vec![]
    }

    fn exit(&mut self, at: usize, ending: Ending) -> Vec<Does> {
        let run = self.running.remove(at);
        let newer = !self.open().is_empty();
        let failed = match ending {
            Ending::Succeeded => false,
            Ending::Superseded => !newer && !run.deleted_since,
            Ending::Failed(_) => true,
        };
        let mut does = vec![];
        if failed && !run.terminated {
            let Update { node, attempt, .. } = self.updates[run.update];
            match self.wait_for_retry(ending, attempt) {
                Some(_) if run.deleted_since || (newer && !self.is(RunMode::Parallel)) => {}
                Some(wait) => {
                    let (event, fate, due) = (Trigger::Retry, Fate::Open, self.now + wait);
                    self.updates.push(Update {
                        event,
                        node,
                        fate,
                        attempt: attempt + 1,
                        due,
                    });
                    self.lose_open_but(self.room());
                }
                None if ending == Ending::Superseded && self.policy.retry.is_none() => {}
                None if self.policy.on_failure == OnFailure::Stop => {
                    if !std::mem::replace(&mut self.parked, true) {
                        does.push(Does::Park(run.id));
                    }
                    // Unless something newer is to be run for, this still is.
                    if !run.deleted_since && (!newer || self.is(RunMode::Parallel)) {
                        self.updates.push(Update {
                            event: Trigger::Retry,
                            node,
                            fate: Fate::Open,
                            attempt: 1,
                            due: self.now,
                        });
                        self.lose_open_but(self.room());
                    }
                }
                None => {}
            }
        }
        does.extend(self.go_on());
        does
    }

    /// How long a failure waits for its retry, if there is to be one.
    fn wait_for_retry(&self, ending: Ending, attempt: u32) -> Option<u64> {
        let retry = self.policy.retry.as_ref().filter(|retry| attempt <= retry.times)?;
        let doubled = (retry.initial.as_secs() << (attempt - 1)).min(retry.max_delay.as_secs());
        match ending {
            Ending::Failed(Cause::AsksForRetry { after }) => Some(after.map_or(doubled, |after| after.as_secs())),
            Ending::Failed(Cause::Code(code)) if retry.codes.contains(&(code as u8)) => Some(doubled),
            Ending::Failed(Cause::Code(_)) | Ending::Superseded if retry.codes.is_empty() => Some(doubled),
            _ => None,
        }
    }

    fn is(&self, mode: RunMode) -> bool {
        self.policy.run_mode == mode
    }

    /// How many may run, and as many may wait.
    fn room(&self) -> usize {
        match self.policy.run_mode {
            RunMode::Parallel => self.policy.max_parallel as usize,
            _ => 1,
        }
    }

    fn open(&self) -> Vec<usize> {
        let open = |at: &usize| self.updates[*at].fate == Fate::Open;
        (0..self.updates.len()).filter(open).collect()
    }

    /// The oldest go first, and retries before what has had no run.
    fn lose_open_but(&mut self, most: usize) {
        let mut open = self.open();
        open.sort_by_key(|at| self.updates[*at].event != Trigger::Retry);
        for at in &open[..open.len().saturating_sub(most)] {
            self.updates[*at].fate = Fate::Lost;
        }
    }

    /// When time alone makes a difference.
    fn next_due(&self) -> Option<u64> {
        let idle = !self.parked && self.running.len() < self.room();
        self.open()
            .iter()
            .map(|at| self.updates[*at].due)
            .filter(|_| idle)
            .min()
    }

    /// Starts and terminates what can be.
    fn go_on(&mut self) -> Vec<Does> {
        let mut does = vec![];
        if !self.is(RunMode::Parallel) {
            // A newer update supersedes a retry as well.
            for at in self.open().into_iter().rev().skip(1) {
                self.updates[at].fate = Fate::Lost;
            }
        }
        let mut due = self.open();
        due.retain(|at| self.updates[*at].due <= self.now && !self.parked);
        due.sort_by_key(|at| self.updates[*at].due);
        for at in due {
            if self.running.len() < self.room() {
                let Update {
                    event, node, attempt, ..
                } = self.updates[at];
                self.updates[at].fate = Fate::Started;
                if attempt == 1 {
                    self.handled = Some(node.map(|(czxid, _, _)| czxid));
                }
                does.push(Does::Start(event, node, attempt));
                self.running.push(Run {
                    id: RunId(self.next_run),
                    terminated: false,
                    update: at,
                    deleted_since: false,
                });
                self.next_run += 1;
            } else if self.is(RunMode::Restart) {
                for run in self.running.iter_mut().filter(|run| !run.terminated) {
                    run.terminated = true;
                    does.push(Does::Terminate(run.id));
                }
            }
        }
        does
    }
}

/// The machine, and what is compared of it.
struct Real {
    machine: Machine,
    ids: RunIds,
    admission: Admission,
    timer: Option<Duration>,
}

impl Real {
    fn step(&mut self, now: u64, input: Input, model: &Model) -> Vec<Does> {
        let mut effects = vec![];
        let now = Duration::from_secs(now);
        self.machine
            .step(now, input, &mut self.ids, &mut self.admission, &mut effects);
        let mut does = vec![];
        for effect in effects {
            match effect {
                Effect::Start(start) => {
                    let seen = |update: &&Update| observation(update.node) == start.observation;
                    let node = model.updates.iter().find(seen).expect("it was seen").node;
                    does.push(Does::Start(start.event, node, start.attempt));
                }
                Effect::Terminate { run } => does.push(Does::Terminate(run)),
                Effect::Park { run } => does.push(Does::Park(run)),
                Effect::ArmTimer { at } => self.timer = Some(at),
                Effect::DisarmTimer => self.timer = None,
                Effect::Record(_) | Effect::Notify { .. } | Effect::Up { .. } => {}
            }
        }
        does
    }
}

fn observation(node: Node) -> Observation {
    match node {
        None => Observation::absent(),
        Some((czxid, mzxid, empty)) => data(czxid, mzxid, if empty { "" } else { "x" }),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn does_what_the_model_does(policy in ungated(), retry in retry(), ops in ops()) {
        let policy = Policy { retry, ..policy };
        let mut real = Real {
            machine: Machine::new(WatchId(1), Arc::new(policy.clone())),
            ids: RunIds::new(0),
            admission: Admission::new(usize::MAX),
            timer: None,
        };
        let mut model = Model::new(policy);
        let mut node: Node = None;
        for (zxid, op) in (1i64..).zip(ops) {
            let now = zxid as u64;
            while let Some(due) = model.next_due().filter(|due| *due <= now) {
                prop_assert_eq!(real.timer.take(), Some(Duration::from_secs(due)), "before step {}", zxid);
                model.now = due;
                let expected = model.go_on();
                prop_assert_eq!(real.step(due, Input::Timer, &model), expected, "at {} s", due);
            }
            model.now = now;
            node = match (op, node) {
                (Op::Set { empty }, Some((czxid, _, _))) => Some((czxid, zxid, empty)),
                (Op::Set { empty }, None) => Some((zxid, zxid, empty)),
                (Op::Delete, _) => None,
                (Op::Recreate, _) => Some((zxid, zxid, false)),
                (_, node) => node,
            };
            let (input, expected) = match op {
                Op::Exit { .. } if model.running.is_empty() => continue,
                Op::Exit { which, ending } => {
                    let at = which.index(model.running.len());
                    (Input::Exited { run: model.running[at].id, ending }, model.exit(at, ending))
                }
                Op::Resume => {
                    model.parked = false;
                    (Input::Resume, model.go_on())
                }
                _ => (Input::Observed(observation(node)), model.see(node)),
            };
            prop_assert_eq!(real.step(now, input, &model), expected, "at step {} {:?}", zxid, op);
            let running: Vec<_> = model.running.iter().map(|run| run.id).collect();
            prop_assert_eq!(real.machine.running().collect::<Vec<_>>(), running);
            prop_assert_eq!(real.timer, model.next_due().map(Duration::from_secs), "at step {} {:?}", zxid, op);
        }
    }
}
