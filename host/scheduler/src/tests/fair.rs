//! Who may start when not all may: the queue alone, and machines that share one.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::super::admission::{Full, Group};
use super::super::{Admission, Cause, Effect, Ending, Input, Machine, MachineState, RunIds};
use super::data;
use super::model::{run_mode, ungated};
use twitcher_model::{Policy, Retry, RunId, RunMode, RunOnLoad, WatchId};

fn group(name: &str) -> Group {
    Some(name.into())
}

fn limits(of: &[(&str, usize)]) -> HashMap<Arc<str>, usize> {
    of.iter().map(|(name, limit)| ((*name).into(), *limit)).collect()
}

// ---- the queue alone ----

#[test]
fn places_go_in_the_order_in_which_they_were_asked_for() {
    let mut admission = Admission::new(1);
    assert_eq!(admission.ask(WatchId(1), &None), Ok(()));
    for watch in [2, 3, 4] {
        assert_eq!(admission.ask(WatchId(watch), &None), Err(Full::All));
    }
    assert_eq!(admission.admit(), None);
    admission.withdraw(WatchId(3));
    admission.leave(&None);
    // Whoever has just left may not overtake those that wait.
    assert_eq!(admission.ask(WatchId(1), &None), Err(Full::All));
    assert_eq!((admission.admit(), admission.admit()), (Some(WatchId(2)), None));
    admission.leave(&None);
    assert_eq!(admission.admit(), Some(WatchId(4)));
    admission.leave(&None);
    assert_eq!(admission.admit(), Some(WatchId(1)));
    assert_eq!((admission.running(), admission.waiting()), (1, 0));
}

#[test]
fn asking_again_keeps_the_place_in_the_queue() {
    let mut admission = Admission::new(1);
    assert!(admission.ask(WatchId(1), &None).is_ok());
    for watch in [2, 3, 2, 2] {
        assert!(admission.ask(WatchId(watch), &None).is_err());
    }
    assert_eq!(admission.waiting(), 2);
    admission.leave(&None);
    assert_eq!(admission.admit(), Some(WatchId(2)));
}

#[test]
fn a_full_group_lets_others_past_but_keeps_its_turn() {
    let mut admission = Admission::new(3);
    admission.set_limits(limits(&[("two", 2)]));
    assert!(admission.ask(WatchId(1), &group("one")).is_ok());
    assert_eq!(
        admission.ask(WatchId(2), &group("one")),
        Err(Full::Group),
        "1 is the default"
    );
    assert!(admission.ask(WatchId(3), &group("two")).is_ok());
    assert!(admission.ask(WatchId(4), &group("two")).is_ok());
    assert_eq!(admission.ask(WatchId(5), &None), Err(Full::All));
    admission.leave(&group("two"));
    assert_eq!(admission.admit(), Some(WatchId(5)), "2 waits for its group");
    admission.leave(&group("one"));
    assert_eq!(admission.ask(WatchId(6), &group("one")), Err(Full::All));
    assert_eq!((admission.admit(), admission.admit()), (Some(WatchId(2)), None));
}

#[test]
fn limits_can_change_while_others_wait() {
    let mut admission = Admission::new(10);
    admission.set_limits(limits(&[("g", 2)]));
    for watch in 1..=4 {
        let _ = admission.ask(WatchId(watch), &group("g"));
    }
    admission.set_limits(limits(&[("g", 1)]));
    admission.leave(&group("g"));
    assert_eq!(admission.admit(), None, "one still runs");
    admission.set_limits(limits(&[("g", 3)]));
    assert_eq!(
        (admission.admit(), admission.admit()),
        (Some(WatchId(3)), Some(WatchId(4)))
    );
}

#[derive(Debug, Clone, Copy)]
enum Op {
    Ask(u32),
    Withdraw(u32),
    Leave(prop::sample::Index),
}

/// Watch n is in this group.
fn group_of(watch: u32) -> Group {
    match watch % 3 {
        0 => None,
        1 => group("one"),
        _ => group("two"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    /// A list of who asked, in order, is all that the model needs: the first that has room is next.
    #[test]
    fn admits_as_a_plain_list_would(most in 1..5usize, ops in prop::collection::vec(prop_oneof![
        4 => (0..9u32).prop_map(Op::Ask),
        1 => (0..9u32).prop_map(Op::Withdraw),
        4 => any::<prop::sample::Index>().prop_map(Op::Leave),
    ], 0..200)) {
        let limit = |group: &Group| match group.as_deref() {
            Some("two") => 2,
            Some(_) => 1,
            None => usize::MAX,
        };
        let mut admission = Admission::new(most);
        admission.set_limits(limits(&[("two", 2)]));
        let mut list: Vec<u32> = vec![];
        let mut running: Vec<Group> = vec![];
        for op in ops {
            match op {
                Op::Ask(watch) => {
                    let asked = admission.ask(WatchId(watch), &group_of(watch));
                    if asked.is_ok() {
                        prop_assert!(!list.contains(&watch), "it is in the queue and does not wait for its turn");
                        running.push(group_of(watch));
                    } else if !list.contains(&watch) {
                        list.push(watch);
                    }
                }
                Op::Withdraw(watch) => {
                    admission.withdraw(WatchId(watch));
                    list.retain(|waiting| *waiting != watch);
                }
                Op::Leave(which) if !running.is_empty() => {
                    admission.leave(&running.swap_remove(which.index(running.len())));
                }
                Op::Leave(_) => {}
            }
            loop {
                let count = |group: &Group| running.iter().filter(|other| *other == group).count();
                let room = |watch: &u32| running.len() < most && count(&group_of(*watch)) < limit(&group_of(*watch));
                let next = list.iter().position(room).map(|at| list.remove(at));
                prop_assert_eq!(admission.admit(), next.map(WatchId));
                let Some(watch) = next else { break };
                running.push(group_of(watch));
            }
            prop_assert!(running.len() <= most);
            for group in [group("one"), group("two")] {
                prop_assert!(running.iter().filter(|other| **other == group).count() <= limit(&group));
            }
            prop_assert_eq!((admission.running(), admission.waiting()), (running.len(), list.len()));
        }
    }
}

// ---- machines that share one ----

/// A daemon's worth of machines, in as little as tells whether places are shared fairly.
struct Floor {
    machines: Vec<Machine>,
    ids: RunIds,
    admission: Admission,
    now: Duration,
    timers: HashMap<usize, Duration>,
    running: VecDeque<(usize, RunId)>,
    starts: Vec<(usize, i64)>,
    terminated: HashSet<RunId>,
}

impl Floor {
    fn new(most: usize, policies: Vec<Policy>) -> Self {
        let machine = |(at, policy)| Machine::new(WatchId(at as u32), Arc::new(policy));
        Self {
            machines: policies.into_iter().enumerate().map(machine).collect(),
            ids: RunIds::new(0),
            admission: Admission::new(most),
            now: Duration::ZERO,
            timers: HashMap::new(),
            running: VecDeque::new(),
            starts: vec![],
            terminated: HashSet::new(),
        }
    }

    fn step(&mut self, at: usize, input: Input) {
        self.step_one(at, input);
        while let Some(WatchId(next)) = self.admission.admit() {
            self.step_one(next as usize, Input::Admitted);
        }
    }

    fn step_one(&mut self, at: usize, input: Input) {
        let mut effects = vec![];
        self.machines[at].step(self.now, input, &mut self.ids, &mut self.admission, &mut effects);
        for effect in effects {
            match effect {
                Effect::Start(start) => {
                    self.running.push_back((at, start.run));
                    let mzxid = start.observation.stat.map_or(0, |stat| stat.mzxid);
                    self.starts.push((at, mzxid));
                }
                Effect::Terminate { run } => drop(self.terminated.insert(run)),
                Effect::ArmTimer { at: when } => drop(self.timers.insert(at, when)),
                Effect::DisarmTimer => drop(self.timers.remove(&at)),
                Effect::Up { .. } | Effect::Notify { .. } | Effect::Park { .. } | Effect::Record(_) => {}
            }
        }
        assert_eq!(
            self.admission.running(),
            self.running.len(),
            "places are lost or doubled"
        );
    }

    /// Ends the run that has run longest, or this one.
    fn end(&mut self, which: usize, success: bool) {
        if let Some((at, run)) = self.running.remove(which) {
            let ending = match success && !self.terminated.contains(&run) {
                true => Ending::Succeeded,
                false => Ending::Failed(Cause::Code(1)),
            };
            self.step(at, Input::Exited { run, ending });
        }
    }

    fn pass(&mut self, seconds: u64) {
        let until = self.now + Duration::from_secs(seconds);
        while let Some((at, when)) = self
            .timers
            .iter()
            .map(|(at, when)| (*at, *when))
            .min_by_key(|(_, when)| *when)
            && when <= until
        {
            self.now = when;
            self.timers.remove(&at);
            self.step(at, Input::Timer);
            assert_ne!(self.timers.get(&at), Some(&when), "a timer that does nothing");
        }
        self.now = until;
    }
}

#[test]
fn what_waits_for_a_place_is_still_replaced_by_what_is_newer() {
    let mut floor = Floor::new(1, vec![Policy::default(); 2]);
    floor.step(0, Input::Observed(data(1, 1, "")));
    for mzxid in 1..=5 {
        floor.step(1, Input::Observed(data(1, mzxid, "")));
    }
    assert_eq!(floor.machines[1].state(), MachineState::Waiting);
    floor.end(0, true);
    assert_eq!(floor.starts, [(0, 1), (1, 5)]);
}

#[test]
fn what_is_dropped_while_it_waits_gives_its_turn_away() {
    let mut floor = Floor::new(1, vec![Policy::default(); 3]);
    for at in 0..3 {
        floor.step(at, Input::Observed(data(1, 1, "")));
    }
    floor.step(1, Input::Observed(twitcher_model::Observation::absent()));
    assert_eq!(
        (floor.machines[1].state(), floor.admission.waiting()),
        (MachineState::Idle, 1)
    );
    floor.step(2, Input::Retire);
    assert_eq!(floor.admission.waiting(), 0);
    floor.end(0, true);
    assert_eq!(floor.starts, [(0, 1)]);
}

#[test]
fn a_place_that_nobody_needs_is_given_back() {
    let mut floor = Floor::new(1, vec![Policy::default()]);
    assert!(floor.admission.ask(WatchId(0), &None).is_ok());
    floor.step_one(0, Input::Admitted);
    assert_eq!(floor.admission.running(), 0);
}

#[test]
fn a_run_leaves_the_group_that_it_was_admitted_in() {
    let mut floor = Floor::new(9, vec![Policy::default(); 2]);
    floor.step(0, Input::Observed(data(1, 1, "")));
    let policy = Arc::new(Policy {
        group: group("one"),
        ..Policy::default()
    });
    for at in 0..2 {
        let policy = policy.clone();
        floor.step(
            at,
            Input::Reload {
                policy,
                same_node: true,
            },
        );
        floor.step(at, Input::Observed(data(1, 1, "")));
    }
    assert_eq!(floor.starts, [(0, 1), (1, 1)]);
    floor.end(0, true);
    assert_eq!(
        floor.machines[0].state(),
        MachineState::Waiting,
        "the other has the group's place"
    );
    floor.end(0, true);
    assert_eq!(floor.starts, [(0, 1), (1, 1), (0, 1)]);
}

#[test]
fn a_busy_watch_waits_its_turn() {
    let busy = Policy {
        run_mode: RunMode::Parallel,
        max_parallel: 100,
        ..Policy::default()
    };
    let mut floor = Floor::new(2, vec![busy, Policy::default(), Policy::default()]);
    for mzxid in 1..=50 {
        floor.step(0, Input::Observed(data(1, mzxid, "")));
    }
    floor.step(1, Input::Observed(data(1, 1, "")));
    floor.step(2, Input::Observed(data(1, 1, "")));
    (0..4).for_each(|_| floor.end(0, true));
    let order: Vec<usize> = floor.starts.iter().map(|(at, _)| *at).collect();
    assert_eq!(order, [0, 0, 0, 1, 2, 0], "it had asked first, and then others had");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens, no more run than may, and in the end every watch has come to its last state.
    #[test]
    fn all_come_to_rest(
        most in 1..4usize,
        policies in prop::collection::vec((ungated(), run_mode(), any::<bool>(), 0..3u32), 1..6),
        ops in prop::collection::vec((0..4u8, any::<prop::sample::Index>(), prop::bool::weighted(0.7)), 0..120),
    ) {
        let policy = |(policy, run_mode, retry, group): (Policy, RunMode, bool, u32)| Policy {
            run_mode,
            run_on_load: RunOnLoad::Always,
            refuse_empty: false,
            retry: retry.then(Retry::default),
            group: group_of(group),
            ..policy
        };
        let policies: Vec<Policy> = policies.into_iter().map(policy).collect();
        let mut floor = Floor::new(most, policies.clone());
        let mut last = vec![0; policies.len()];
        for (mzxid, (what, which, success)) in (1..).zip(ops) {
            let at = which.index(policies.len());
            match what {
                0 | 1 => {
                    last[at] = mzxid;
                    floor.step(at, Input::Observed(data(1, mzxid, "")));
                }
                2 => floor.end(which.index(floor.running.len().max(1)), success),
                _ => floor.pass(1),
            }
            prop_assert!(floor.running.len() <= most);
            for name in ["one", "two"] {
                let inside = floor.running.iter().filter(|(at, _)| policies[*at].group.as_deref() == Some(name));
                prop_assert!(inside.count() <= 1, "group {name}");
            }
        }
        (0..policies.len()).for_each(|at| floor.step(at, Input::Resume));
        for _ in 0..300 {
            floor.end(0, true);
            floor.pass(1);
        }
        for (at, policy) in policies.iter().enumerate() {
            prop_assert_eq!(floor.machines[at].state(), MachineState::Idle, "watch {}", at);
            let newest = floor.starts.iter().rev().find(|(of, _)| *of == at).map_or(0, |(_, mzxid)| *mzxid);
            if matches!(policy.run_mode, RunMode::Queue | RunMode::Restart) {
                prop_assert_eq!(newest, last[at], "watch {}", at);
            }
        }
        prop_assert_eq!((floor.admission.running(), floor.admission.waiting()), (0, 0));
    }
}
