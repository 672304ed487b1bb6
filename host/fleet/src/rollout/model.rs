//! All that can happen in a small fleet, tried: two stewards who know nothing of each other, hosts that crash between any two writes,
//! answers that are lost, a newer change in the middle, an operator. ZooKeeper is what it promises to be: one transaction after another.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashSet};
use std::hash::{Hash, Hasher};
use std::time::Duration;

use jiff::Timestamp;

use super::context::{Doing, Local};
use super::decide::{Decision, HostView, Moment, Slots, Standing, Timers, World, decide};
use super::holder::{Act, may_start, next};
use super::records::{Gate, GateState, Goal, Grant, Part, PartState, Plan, SlotId};
use crate::record::{FormatVersion, ResultState, StateId};
use twitcher_model::{AtOnce, Lost, OnNewer, Rollout, WatchType, Wave};

/// A gate that rolls.
pub(crate) fn gate() -> Gate {
    Gate {
        v: FormatVersion,
        epoch: 1,
        serial: 0,
        goal: None,
        state: GateState::Rolling,
        before: None,
        wave: 0,
        why: None,
        at_once: 1,
        max_failures: 0,
        plan: Plan::of(&policy(1)),
        policy: String::new(),
        forgiven: 0,
        retried: 0,
        revert: None,
        since: Timestamp::UNIX_EPOCH,
        by: String::new(),
    }
}

fn policy(at_once: u32) -> Rollout {
    Rollout {
        name: "repo".parse().unwrap(),
        at_once: AtOnce::Hosts(at_once),
        max_failures: 0,
        waves: vec![Wave::default()],
        lost_after: Duration::MAX,
        lost: Lost::Hold,
        on_newer: OnNewer::Restart,
    }
}

/// What is left out, or done though it must not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Defect {
    None,
    /// Slots are granted without looking whether somebody else has granted any.
    NoVersionCheck,
    /// A slot is free when its host's session is lost.
    LostFrees,
    /// Hosts start without looking whether the gate is still as it was.
    NoGateCheck,
    /// A host that comes back takes up the slot that it had before it left.
    OldSlotUsed,
}

/// What may happen besides, each so many times.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Budget {
    newer: u8,
    failures: u8,
    pauses: u8,
    leaves: u8,
    losses: u8,
    crashes: u8,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Host {
    live: bool,
    seen: i64,
    /// The state that its action runs for.
    acting: Option<i64>,
    at: Option<i64>,
    good: i64,
    /// It is done with this state, though it has failed.
    given_up: Option<i64>,
    part: Option<(Part, ResultState, Option<StateId>)>,
    grant: Option<(Grant, u32)>,
    /// What it has read, and is about to write: the versions of the gate and of the grant.
    starting: Option<(SlotId, i64, u32, u32)>,
    again: Option<SlotId>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct State {
    znode: i64,
    gate: Gate,
    gate_version: u32,
    granted: u64,
    counter_version: u32,
    hosts: Vec<Host>,
    stewards: [Option<(Decision, u32, u32)>; 2],
    left: Budget,
}

struct Search {
    policy: Rollout,
    defect: Defect,
    budget: Budget,
    hosts: usize,
}

fn name(host: usize) -> String {
    format!("h{host}")
}

fn goal(state: i64) -> Goal {
    Goal {
        znode: "/git/head".to_owned(),
        kind: WatchType::Data,
        state: StateId::Zxid(state),
    }
}

impl Host {
    fn local(&self) -> Local {
        let wants = self.seen != self.good && self.given_up != Some(self.seen);
        let zxid = |state: Option<i64>| state.map(StateId::Zxid);
        let doing = match self.acting {
            None if wants => Doing::Wants(StateId::Zxid(self.seen)),
            _ => Doing::Nothing,
        };
        let state = match (self.acting, wants) {
            (None, false) if self.seen == self.good => ResultState::Current,
            (None, false) => ResultState::Failed,
            _ => ResultState::Behind,
        };
        Local {
            doing,
            acting: self.acting.is_some(),
            state,
            seen: zxid(Some(self.seen)),
            at: zxid(self.at),
            good: zxid(Some(self.good)),
            policy: String::new(),
            host: String::new(),
        }
    }

    fn grant(&self) -> Option<&Grant> {
        self.grant.as_ref().map(|(grant, _)| grant)
    }
}

impl Search {
    fn first(&self) -> State {
        let part = Part {
            rollout: self.policy.name.clone(),
            serial: 0,
            slot: None,
            state: PartState::None,
            policy: String::new(),
            host: String::new(),
        };
        let host = Host {
            live: true,
            seen: 0,
            acting: None,
            at: None,
            good: 0,
            given_up: None,
            part: Some((part, ResultState::Current, Some(StateId::Zxid(0)))),
            grant: None,
            starting: None,
            again: None,
        };
        State {
            znode: 1,
            gate: gate(),
            gate_version: 0,
            granted: 0,
            counter_version: 0,
            hosts: vec![host; self.hosts],
            stewards: [None, None],
            left: self.budget,
        }
    }

    fn world(state: &State) -> World {
        let grants = state.hosts.iter().enumerate();
        let grants = grants.filter_map(|(at, host)| Some((name(at), host.grant()?.clone())));
        let hosts = state.hosts.iter().enumerate().map(|(at, host)| {
            let part = host.part.as_ref().map(|(part, result, good)| {
                let standing = Standing {
                    state: *result,
                    good: *good,
                    znode: "/git/head".to_owned(),
                    kind: WatchType::Data,
                    last: None,
                };
                (part.clone(), standing)
            });
            let view = HostView {
                live: host.live,
                labels: BTreeMap::new(),
                part,
                garbled: false,
            };
            (name(at), view)
        });
        World {
            gate: state.gate.clone(),
            granted: state.granted,
            grants: grants.collect(),
            hosts: hosts.collect(),
        }
    }

    /// All that can happen next.
    fn steps(&self, state: &State) -> Vec<State> {
        let mut after = Vec::new();
        let mut step = |change: &dyn Fn(&mut State)| {
            let mut next = state.clone();
            change(&mut next);
            after.push(next);
        };
        for steward in 0..2 {
            match &state.stewards[steward] {
                None => {
                    let world = Self::world(state);
                    let moment = Moment {
                        now: Duration::from_secs(1),
                        at: Timestamp::UNIX_EPOCH,
                        by: "",
                    };
                    let decision = decide(&world, &goal(state.znode), &self.policy, &mut Timers::default(), moment);
                    if !matches!(decision, Decision::Wait(_)) {
                        let read = (decision, state.gate_version, state.counter_version);
                        step(&|next| next.stewards[steward] = Some(read.clone()));
                    }
                }
                Some((decision, gate, counter)) => {
                    step(&|next| {
                        next.stewards[steward] = None;
                        self.commit(next, decision, *gate, *counter);
                    });
                    if state.left.crashes > 0 {
                        step(&|next| {
                            next.stewards[steward] = None;
                            next.left.crashes -= 1;
                        });
                    }
                }
            }
        }
        if state.left.newer > 0 {
            step(&|next| {
                next.znode += 1;
                next.left.newer -= 1;
            });
        }
        if state.left.pauses > 0 && state.gate.state.is_open() && state.gate.state != GateState::Done {
            step(&|next| {
                next.gate.state = GateState::Paused;
                next.gate_version += 1;
                next.left.pauses -= 1;
            });
        }
        for (at, host) in state.hosts.iter().enumerate() {
            if host.seen != state.znode && host.live {
                step(&|next| next.hosts[at].seen = next.znode);
            }
            if let Some(running) = host.acting {
                step(&|next| {
                    let host = &mut next.hosts[at];
                    (host.acting, host.at, host.good) = (None, Some(running), running);
                });
                if state.left.failures > 0 {
                    step(&|next| {
                        let host = &mut next.hosts[at];
                        (host.acting, host.at, host.given_up) = (None, Some(running), Some(running));
                        next.left.failures -= 1;
                    });
                }
            }
            if host.live && state.left.losses > 0 && host.acting.is_some() {
                step(&|next| {
                    next.hosts[at].live = false;
                    next.left.losses -= 1;
                });
            }
            if !host.live {
                step(&|next| next.hosts[at].live = true);
                continue;
            }
            if state.left.leaves > 0 && host.acting.is_none() && host.starting.is_none() && host.part.is_some() {
                step(&|next| {
                    (next.hosts[at].part, next.hosts[at].again) = (None, None);
                    next.left.leaves -= 1;
                });
            }
            if let Some((slot, running, gate, grant)) = host.starting {
                let is_as_read = (state.gate_version == gate || self.defect == Defect::NoGateCheck)
                    && host.grant.as_ref().is_some_and(|(_, version)| *version == grant);
                step(&|next| {
                    let serial = next.gate.serial;
                    let host = &mut next.hosts[at];
                    host.starting = None;
                    if is_as_read {
                        host.write(slot, serial, PartState::Acting);
                        host.acting = Some(running);
                    }
                });
                if is_as_read && state.left.crashes > 0 {
                    step(&|next| {
                        let serial = next.gate.serial;
                        let host = &mut next.hosts[at];
                        host.starting = None;
                        host.write(slot, serial, PartState::Acting);
                        next.left.crashes -= 1;
                    });
                }
                continue;
            }
            let part = host.part.as_ref().map(|(part, result, good)| (part, *result, *good));
            let mut act = next(
                Some(&state.gate),
                host.grant(),
                part,
                &host.local(),
                Duration::ZERO,
                host.again,
            );
            if self.defect == Defect::OldSlotUsed && part.is_none() {
                act = Act::Tell;
            }
            match act {
                Act::Start(slot) => {
                    let version = host.grant.as_ref().map_or(0, |(_, version)| *version);
                    if may_start(&state.gate, host.grant(), slot, StateId::Zxid(host.seen)).is_ok() {
                        let read = (slot, host.seen, state.gate_version, version);
                        step(&|next| next.hosts[at].starting = Some(read));
                    }
                }
                Act::Again(slot) => step(&|next| {
                    next.hosts[at].again = Some(slot);
                    next.hosts[at].given_up = None;
                }),
                Act::GiveBack(slot, how) => {
                    let serial = host.grant().map_or(0, |grant| grant.serial);
                    step(&|next| next.hosts[at].write(slot, serial, how));
                }
                Act::Tell => step(&|next| next.hosts[at].tell()),
                Act::LookAgain | Act::Wait => {}
            }
        }
        after
    }

    fn commit(&self, state: &mut State, decision: &Decision, gate: u32, counter: u32) {
        let is_as_read = |now: u32, read: u32| now == read || self.defect == Defect::NoVersionCheck;
        match decision {
            Decision::Set(next) if is_as_read(state.gate_version, gate) => {
                state.gate = (**next).clone();
                state.gate_version += 1;
            }
            Decision::Slots(Slots {
                grants,
                deletes,
                granted,
            }) if is_as_read(state.gate_version, gate) && is_as_read(state.counter_version, counter) => {
                state.granted = *granted;
                state.counter_version += 1;
                for (at, host) in state.hosts.iter_mut().enumerate() {
                    if deletes.contains(&name(at)) {
                        host.grant = None;
                    }
                    if let Some((_, grant)) = grants.iter().find(|(host, _)| *host == name(at)) {
                        host.grant = Some((grant.clone(), state.counter_version));
                    }
                }
            }
            _ => {}
        }
    }

    /// Looks at all states that can come about. An error is how one of them breaks what is promised.
    fn run(&self) -> Result<usize, String> {
        let digest = |state: &State| {
            let (mut one, mut two) = (DefaultHasher::new(), DefaultHasher::new());
            state.hash(&mut one);
            (state, 1).hash(&mut two);
            (one.finish(), two.finish())
        };
        let first = self.first();
        let mut known = HashSet::from([digest(&first)]);
        let mut open = vec![first];
        while let Some(state) = open.pop() {
            let acting = state.hosts.iter().filter(|host| host.acting.is_some()).count();
            if acting > state.gate.at_once as usize {
                return Err(format!("{acting} hosts act at once: {state:#?}"));
            }
            let steps = self.steps(&state);
            let starts = |next: &State| {
                let mut hosts = next.hosts.iter().zip(&state.hosts);
                hosts.any(|(after, before)| after.acting.is_some() && before.acting.is_none())
            };
            if !state.gate.state.is_open() && steps.iter().any(starts) {
                return Err(format!("a host starts though the gate is closed: {state:#?}"));
            }
            if steps.is_empty() {
                let is_through = |host: &Host| host.good == state.znode || host.given_up == Some(state.znode);
                let is_stopped = !state.gate.state.is_open();
                if !is_stopped && !state.hosts.iter().all(|host| is_through(host) || host.part.is_none()) {
                    return Err(format!("nothing happens any more: {state:#?}"));
                }
            }
            open.extend(steps.into_iter().filter(|next| known.insert(digest(next))));
        }
        Ok(known.len())
    }
}

impl Host {
    fn write(&mut self, slot: SlotId, serial: u64, how: PartState) {
        self.tell();
        if let Some((part, ..)) = &mut self.part {
            (part.slot, part.serial, part.state) = (Some(slot), serial, how);
        }
    }

    fn tell(&mut self) {
        let local = self.local();
        let before = self.part.take().map(|(part, ..)| part);
        let part = before.unwrap_or_else(|| Part {
            rollout: "repo".parse().unwrap(),
            serial: 0,
            slot: None,
            state: PartState::None,
            policy: String::new(),
            host: String::new(),
        });
        self.part = Some((part, local.state, local.good));
    }
}

const NOTHING: Budget = Budget {
    newer: 0,
    failures: 0,
    pauses: 0,
    leaves: 0,
    losses: 0,
    crashes: 0,
};

fn search(hosts: usize, slots: u32, budget: Budget, defect: Defect) -> Result<usize, String> {
    let mut policy = policy(slots);
    if defect == Defect::LostFrees {
        (policy.lost, policy.lost_after, policy.max_failures) = (Lost::Release, Duration::ZERO, 9);
    }
    Search {
        policy,
        defect,
        budget,
        hosts,
    }
    .run()
}

#[test]
fn whatever_happens_no_more_act_than_may_and_none_starts_when_it_is_closed() {
    for (hosts, slots, budget) in [
        (4, 2, NOTHING),
        (4, 2, Budget { failures: 1, ..NOTHING }),
        (4, 2, Budget { pauses: 1, ..NOTHING }),
        (
            3,
            2,
            Budget {
                leaves: 1,
                losses: 1,
                ..NOTHING
            },
        ),
        (
            3,
            2,
            Budget {
                failures: 1,
                crashes: 2,
                ..NOTHING
            },
        ),
        (
            2,
            1,
            Budget {
                newer: 1,
                failures: 1,
                ..NOTHING
            },
        ),
        (
            2,
            1,
            Budget {
                newer: 1,
                pauses: 1,
                ..NOTHING
            },
        ),
        (
            2,
            1,
            Budget {
                newer: 1,
                crashes: 1,
                ..NOTHING
            },
        ),
        (
            2,
            1,
            Budget {
                newer: 1,
                leaves: 1,
                ..NOTHING
            },
        ),
        (3, 2, Budget { newer: 1, ..NOTHING }),
    ] {
        let states = search(hosts, slots, budget, Defect::None);
        let states = states.unwrap_or_else(|error| panic!("{budget:?}: {error}"));
        println!("{hosts} hosts, {slots} slots, {budget:?}: {states} states");
        assert!(states > 500, "{states} states are no search");
    }
}

#[test]
fn the_search_finds_what_is_wrong() {
    for (defect, budget) in [
        (Defect::NoVersionCheck, Budget { newer: 1, ..NOTHING }),
        (Defect::LostFrees, Budget { losses: 1, ..NOTHING }),
        (Defect::NoGateCheck, Budget { pauses: 1, ..NOTHING }),
        (
            Defect::OldSlotUsed,
            Budget {
                newer: 1,
                leaves: 1,
                ..NOTHING
            },
        ),
    ] {
        assert!(search(3, 1, budget, defect).is_err(), "{defect:?} is not found");
    }
}
