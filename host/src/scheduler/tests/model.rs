//! The machine without gates, compared step by step with a model that keeps the whole history and is slow and obvious.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::super::{Effect, Input, Machine, RunIds, Start};
use super::data;
use crate::model::{Event, Observation, OnFailure, Policy, RunId, RunMode, RunOnLoad};

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
        success: bool,
    },
    Resume,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => prop::bool::weighted(0.2).prop_map(|empty| Op::Set { empty }),
        2 => Just(Op::Delete),
        1 => Just(Op::Recreate),
        1 => Just(Op::Again),
        6 => (any::<prop::sample::Index>(), prop::bool::weighted(0.8))
            .prop_map(|(which, success)| Op::Exit { which, success }),
        1 => Just(Op::Resume),
    ];
    prop::collection::vec(op, 0..60)
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
    Start(Event, Node),
    Terminate(RunId),
    Park(RunId),
}

/// The model: every update there ever was, and what became of it.
struct Model {
    policy: Policy,
    last: Option<Node>,
    /// Whether the node existed, and by which creation, when last run for or ignored for good; none before the load.
    handled: Option<Option<i64>>,
    updates: Vec<(Event, Node, Fate)>,
    running: Vec<(RunId, bool)>,
    next_run: u64,
    parked: bool,
}

#[derive(PartialEq, Clone, Copy)]
enum Fate {
    Open,
    Started,
    Lost,
}

impl Model {
    fn see(&mut self, node: Node) -> Vec<Does> {
        let first = self.last.is_none();
        let before = self.last.replace(node);
        if before == Some(node) {
            return vec![];
        }
        let creation = node.map(|(czxid, _, _)| czxid);
        let event = match (node, self.handled) {
            (None, _) => Event::Deleted,
            (Some(_), None) => Event::Load,
            (Some(_), Some(handled)) if handled != creation => Event::Created,
            (Some(_), Some(_)) => Event::Data,
        };
        if node.is_none() {
            self.handled = Some(None);
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
                self.updates.push((event, node, Fate::Open));
                let cap = self.policy.max_parallel as usize;
                let mut does = self.go_on();
                self.lose_open_but(if self.is(RunMode::Parallel) { cap } else { 1 });
                does.extend(self.go_on());
                return does;
            }
        }
        vec![]
    }

    fn exit(&mut self, at: usize, success: bool) -> Vec<Does> {
        let (run, terminated) = self.running.remove(at);
        let mut does = vec![];
        if !success && !terminated && self.policy.on_failure == OnFailure::Stop && !self.parked {
            self.parked = true;
            does.push(Does::Park(run));
        }
        does.extend(self.go_on());
        does
    }

    fn is(&self, mode: RunMode) -> bool {
        self.policy.run_mode == mode
    }

    fn open(&self) -> Vec<usize> {
        let open = |at: &usize| self.updates[*at].2 == Fate::Open;
        (0..self.updates.len()).filter(open).collect()
    }

    fn lose_open_but(&mut self, newest: usize) {
        let open = self.open();
        for &at in open.iter().rev().skip(newest) {
            self.updates[at].2 = Fate::Lost;
        }
    }

    /// Starts and terminates what can be.
    fn go_on(&mut self) -> Vec<Does> {
        let mut does = vec![];
        let cap = if self.is(RunMode::Parallel) {
            self.policy.max_parallel as usize
        } else {
            1
        };
        if !self.is(RunMode::Parallel) {
            self.lose_open_but(1);
        }
        for at in self.open() {
            if self.parked {
                break;
            }
            if self.running.len() < cap {
                let (event, node, fate) = &mut self.updates[at];
                *fate = Fate::Started;
                self.handled = Some(node.map(|(czxid, _, _)| czxid));
                does.push(Does::Start(*event, *node));
                self.running.push((RunId(self.next_run), false));
                self.next_run += 1;
            } else if self.is(RunMode::Restart) {
                for (run, terminated) in self.running.iter_mut().filter(|(_, terminated)| !terminated) {
                    *terminated = true;
                    does.push(Does::Terminate(*run));
                }
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
    fn does_what_the_model_does(policy in ungated(), ops in ops()) {
        let mut ids = RunIds::new(0);
        let mut machine = Machine::new(Arc::new(policy.clone()));
        let mut model = Model {
            policy, last: None, handled: None, updates: vec![], running: vec![], next_run: 0, parked: false,
        };
        let mut node: Node = None;
        for (zxid, op) in (1i64..).zip(ops) {
            node = match (op, node) {
                (Op::Set { empty }, Some((czxid, _, _))) => Some((czxid, zxid, empty)),
                (Op::Set { empty }, None) => Some((zxid, zxid, empty)),
                (Op::Delete, _) => None,
                (Op::Recreate, _) => Some((zxid, zxid, false)),
                (_, node) => node,
            };
            let (input, expected) = match op {
                Op::Exit { .. } if model.running.is_empty() => continue,
                Op::Exit { which, success } => {
                    let at = which.index(model.running.len());
                    (Input::Exited { run: model.running[at].0, success }, model.exit(at, success))
                }
                Op::Resume => {
                    model.parked = false;
                    (Input::Resume, model.go_on())
                }
                _ => (Input::Observed(observation(node)), model.see(node)),
            };
            let mut effects = vec![];
            machine.step(Duration::from_secs(zxid as u64), input, &mut ids, &mut effects);
            let mut actual = vec![];
            for effect in effects {
                match effect {
                    Effect::Start(Start { event, observation: seen, .. }) => {
                        let started = model.updates.iter().find(|(_, node, _)| observation(*node) == seen);
                        prop_assert!(started.is_some(), "{seen:?} was never seen");
                        actual.push(Does::Start(event, started.and_then(|(_, node, _)| *node)));
                    }
                    Effect::Terminate { run } => actual.push(Does::Terminate(run)),
                    Effect::Park { run } => actual.push(Does::Park(run)),
                    Effect::Record(_) | Effect::Notify { .. } => {}
                    Effect::ArmTimer { .. } | Effect::DisarmTimer => prop_assert!(false, "a timer without gates"),
                }
            }
            prop_assert_eq!(actual, expected, "at step {} {:?}", zxid, op);
            let running: Vec<_> = model.running.iter().map(|(run, _)| *run).collect();
            prop_assert_eq!(machine.running().collect::<Vec<_>>(), running);
        }
    }
}
