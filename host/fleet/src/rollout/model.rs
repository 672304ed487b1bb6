//! All that can happen in a small fleet, tried: two stewards who know nothing of each other, hosts that crash between any two writes,
//! answers that are lost, a newer change in the middle, an operator, hosts that do not get well, checks that say no. ZooKeeper is what it
//! promises to be: one transaction after another.
//!
//! [`search`] tries all of it in small worlds, [`schedules`] plays long random schedules in larger ones.

mod happens;
mod schedules;
mod search;

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;

use super::after_wave::{CheckAnswer, Timers};
use super::context::{Doing, Local, Verification};
use super::decide::{Decision, Moment, decide};
use super::holder::without_slot;
use super::records::{Gate, GateState, Goal, Grant, Part, PartState, Plan, SlotId};
use super::verbs::{self, Verb};
use super::world::{HostState, HostView, Standing, World};
use crate::record::{FormatVersion, ResultState, StateId};
use twitcher_model::{AtOnce, Hardening, Lost, OnNewer, Probe, Rollout, Verify, WatchType, Wave};

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

pub(crate) fn policy(at_once: u32) -> Rollout {
    Rollout {
        name: "repo".parse().unwrap(),
        at_once: AtOnce::Hosts(at_once),
        max_failures: 0,
        waves: vec![Wave::default()],
        lost_after: Duration::MAX,
        lost: Lost::Hold,
        on_newer: OnNewer::Restart,
        verify: None,
        unavailable: None,
    }
}

pub(crate) fn probe() -> Probe {
    Probe {
        argv: ["healthy".into()].into(),
        hardening: Hardening::default(),
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
    /// A host that has left the rollout and comes back does not know that it was not found well.
    UnverifiedForgotten,
    /// A slot is given back as soon as the action has succeeded, whatever verify says.
    UnverifiedFrees,
    /// The next wave goes without its check.
    CheckIgnored,
}

/// What kind of world it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Kind {
    /// A host must be well before it gives its slot back.
    verifies: bool,
    /// There are two waves, and a check between them.
    checks: bool,
    /// A running action is ended for a newer change, as in RESTART.
    restarts: bool,
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
    retries: u8,
}

const NOTHING: Budget = Budget {
    newer: 0,
    failures: 0,
    pauses: 0,
    leaves: 0,
    losses: 0,
    crashes: 0,
    retries: 0,
};

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
    /// It is to run for what it has seen, though it has handled that.
    reruns: bool,
    verification: Option<(SlotId, Verification)>,
    /// It has acted for this state, and whether it is well nobody has found out.
    unproven: Option<i64>,
    /// It has acted for this state, and was not found well since.
    unverified: Option<i64>,
    /// Whether it remembers that when it has left the rollout and comes back.
    remembers: bool,
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
    /// The last change whose check has said yes.
    checked: u64,
    left: Budget,
}

/// A world that things happen in.
struct Search {
    policy: Rollout,
    kind: Kind,
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
    fn local(&self, kind: Kind) -> Local {
        let wants = self.reruns || (self.seen != self.good && self.given_up != Some(self.seen));
        let zxid = |state: Option<i64>| state.map(StateId::Zxid);
        let doing = match self.acting {
            None if wants => Doing::Wants(StateId::Zxid(self.seen)),
            Some(acting) if wants && kind.restarts && acting != self.seen => Doing::Wants(StateId::Zxid(self.seen)),
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
            verifies: kind.verifies,
            verification: self.verification,
            unverified: self.remembers && self.unverified == Some(self.good),
        }
    }

    /// It has seen what the znode is now, and what was found out of what it was counts no more.
    fn see(&mut self, state: i64) {
        self.seen = state;
        self.verification = None;
    }

    /// Its action starts.
    fn start(&mut self, state: i64) {
        (self.acting, self.reruns) = (Some(state), false);
        (self.verification, self.unproven) = (None, None);
    }

    /// Its action has ended.
    fn end(&mut self, state: i64, succeeded: bool, kind: Kind) {
        (self.acting, self.at) = (None, Some(state));
        match succeeded {
            true => {
                self.good = state;
                self.unproven = kind.verifies.then_some(state);
                self.unverified = self.unproven;
            }
            false => self.given_up = Some(state),
        }
    }

    fn grant(&self) -> Option<&Grant> {
        self.grant.as_ref().map(|(grant, _)| grant)
    }
}

impl Search {
    fn new(hosts: usize, slots: u32, budget: Budget, kind: Kind, defect: Defect) -> Self {
        let mut policy = policy(slots);
        if defect == Defect::LostFrees {
            (policy.lost, policy.lost_after, policy.max_failures) = (Lost::Release, Duration::ZERO, 9);
        }
        if kind.verifies {
            policy.verify = Some(Verify {
                probe: probe(),
                steady: Duration::ZERO,
                deadline: Duration::MAX,
            });
        }
        if kind.checks {
            let canaries = Wave {
                percent: 50,
                check: (defect != Defect::CheckIgnored).then(probe),
                ..Wave::default()
            };
            policy.waves.insert(0, canaries);
        }
        Self {
            policy,
            kind,
            defect,
            budget,
            hosts,
        }
    }

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
            reruns: false,
            verification: None,
            unproven: None,
            unverified: None,
            remembers: true,
        };
        State {
            znode: 1,
            gate: gate(),
            gate_version: 0,
            granted: 0,
            counter_version: 0,
            hosts: vec![host; self.hosts],
            stewards: [None, None],
            checked: 0,
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

    /// What a steward decides who has just read everything, and knows this of a check.
    fn decided(&self, state: &State, check: Option<CheckAnswer>) -> Decision {
        let mut timers = Timers::default();
        if let Some(answer) = check {
            timers.note_check((state.gate.serial, state.gate.wave), answer);
        }
        let moment = Moment {
            now: Duration::from_secs(1),
            at: Timestamp::UNIX_EPOCH,
            by: "",
        };
        decide(
            &Self::world(state),
            &goal(state.znode),
            &self.policy,
            &mut timers,
            moment,
        )
    }

    /// How a state breaks what is promised, given what can happen next.
    fn judge(&self, state: &State, steps: &[State]) -> Result<(), String> {
        let acting = state.hosts.iter().filter(|host| host.acting.is_some()).count();
        if acting > state.gate.at_once as usize {
            return Err(format!("{acting} hosts act at once: {state:#?}"));
        }
        // What a newer change has overtaken nobody finds out any more.
        let goal = state.gate.goal.as_ref().map(|goal| goal.state);
        let is_unproven = |host: &&Host| host.acting.or(host.unproven).map(StateId::Zxid) == goal;
        let unproven = state.hosts.iter().filter(is_unproven).count();
        if goal.is_some() && unproven > state.gate.at_once as usize {
            return Err(format!(
                "{unproven} hosts act or are not known to be well at once: {state:#?}"
            ));
        }
        let world = Self::world(state);
        for (at, host) in state.hosts.iter().enumerate() {
            let is_current = world.host_state(&name(at), |_| false) == Some(HostState::Current);
            if is_current && goal.is_some() && host.unverified.map(StateId::Zxid) == goal {
                return Err(format!("a host is current that nobody has found well: {state:#?}"));
            }
        }
        if self.kind.checks && state.gate.wave > 0 && state.checked != state.gate.serial {
            return Err(format!("a wave goes that no check has let go: {state:#?}"));
        }
        let starts = |next: &State| {
            let mut hosts = next.hosts.iter().zip(&state.hosts);
            hosts.any(|(after, before)| after.acting.is_some() && before.acting != after.acting)
        };
        if !state.gate.state.is_open() && steps.iter().any(starts) {
            return Err(format!("a host starts though the gate is closed: {state:#?}"));
        }
        if steps.is_empty() && state.gate.state.is_open() {
            let is_through = |host: &Host| {
                let is_proven = host.unproven.is_none() && host.unverified.is_none();
                (host.good == state.znode && is_proven) || host.given_up == Some(state.znode) || host.part.is_none()
            };
            if !state.hosts.iter().all(is_through) || state.gate.state != GateState::Done {
                return Err(format!("nothing happens any more: {state:#?}"));
            }
        }
        Ok(())
    }
}

impl State {
    /// An operator has failed hosts, or the check, tried again.
    fn retry(&mut self) {
        let world = Search::world(self);
        let mut hosts = world.hosts.keys();
        let failed = hosts.any(|host| world.host_state(host, |_| false) == Some(HostState::Failed));
        let by = (Timestamp::UNIX_EPOCH, "");
        if let Ok(gate) = verbs::apply(&self.gate, Verb::Retry, (self.granted, failed), by) {
            self.gate = gate;
            self.gate_version += 1;
        }
    }
}

impl Host {
    fn write(&mut self, slot: SlotId, serial: u64, how: PartState, kind: Kind) {
        self.tell(kind);
        if let Some((part, ..)) = &mut self.part {
            (part.slot, part.serial, part.state) = (Some(slot), serial, how);
        }
    }

    fn tell(&mut self, kind: Kind) {
        let local = self.local(kind);
        let before = self.part.take().map(|(part, ..)| part);
        let part = before.unwrap_or_else(|| Part {
            rollout: "repo".parse().unwrap(),
            serial: 0,
            slot: None,
            state: without_slot(&local, PartState::None),
            policy: String::new(),
            host: String::new(),
        });
        self.part = Some((part, local.state, local.good));
    }
}
