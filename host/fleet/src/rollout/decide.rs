//! What the steward of a rollout does next. Pure: no clock of its own, no ZooKeeper.
//!
//! All is decided from what the znodes say; a steward knows nothing else but since when it has seen a host away, and since when the
//! wave is being watched. So the next steward goes on where the last one was, and only such times begin anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::after_wave::{Timers, go_on};
use super::records::{Gate, GateState, Goal, Grant, Plan, PlanWave, SlotId, policy_digest};
use super::world::{HostState, World};
use crate::record::FormatVersion;
use twitcher_model::{Lost, OnNewer, Rollout, Wave};

/// Most slots that are granted, or taken back, in one transaction.
const BATCH: usize = 50;

/// What is to be done in one transaction.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Decision {
    /// The gate is to be this.
    Set(Box<Gate>),
    /// These slots are granted, and those taken back.
    Slots(Slots),
    /// The check of this wave of this change is to be run.
    Check((u64, usize)),
    /// Nothing, before so long if nothing else happens.
    Wait(Option<Duration>),
}

/// Slots that change hands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Slots {
    pub grants: Vec<(String, Grant)>,
    /// The host's result is not there any more, so that the grant need not be either.
    pub deletes: Vec<String>,
    /// How many slots were granted, with these.
    pub granted: u64,
}

/// Who decides, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment<'a> {
    /// On a clock that never goes back.
    pub now: Duration,
    /// For people.
    pub at: Timestamp,
    /// The steward.
    pub by: &'a str,
}

/// What is to be done, where the watched znode is in the state `goal` now, and `policy` is the steward's own.
pub(crate) fn decide(
    world: &World,
    goal: &Goal,
    policy: &Rollout,
    timers: &mut Timers,
    moment: Moment<'_>,
) -> Decision {
    let gate = &world.gate;
    let lost = see_who_is_lost(world, timers, moment.now);
    let mut states = BTreeMap::new();
    for host in world.hosts.keys() {
        if let Some(state) = world.host_state(host, |host| lost.contains(host)) {
            states.insert(host.as_str(), state);
        }
    }
    if gate.state == GateState::Unknown {
        return Decision::Wait(None);
    }
    if gate.goal.as_ref() != Some(goal) {
        return Decision::Set(Box::new(open(world, goal, policy, &states, moment)));
    }
    let failures = world.failures(&states);
    if gate.state.is_open() && failures > gate.max_failures as usize {
        let hosts = if failures == 1 { "host" } else { "hosts" };
        return set(gate, moment, |gate| {
            gate.state = GateState::Halted;
            gate.before = None;
            gate.why = Some(format!("{failures} {hosts} failed, {} allowed", gate.max_failures));
        });
    }
    let slots = slots(world, &states, moment);
    if slots != Slots::default() {
        return Decision::Slots(slots);
    }
    let baking = match go_on(world, &states, timers, moment) {
        Some(Decision::Wait(baking)) => baking,
        Some(next) => return next,
        None => None,
    };
    let away = timers
        .away
        .values()
        .map(|since| since.saturating_add(gate.plan.lost_after));
    let left = away.filter_map(|at| at.checked_sub(moment.now).filter(|left| !left.is_zero()));
    Decision::Wait(left.chain(baking).min())
}

/// The gate after a change.
pub(super) fn set(gate: &Gate, moment: Moment<'_>, change: impl FnOnce(&mut Gate)) -> Decision {
    let mut gate = gate.clone();
    change(&mut gate);
    (gate.since, gate.by) = (moment.at, moment.by.to_owned());
    Decision::Set(Box::new(gate))
}

fn see_who_is_lost(world: &World, timers: &mut Timers, now: Duration) -> BTreeSet<String> {
    let is_away = |host: &&String| world.held(host).is_some() && !world.hosts.get(*host).is_some_and(|view| view.live);
    let away: BTreeSet<&String> = world.grants.keys().filter(is_away).collect();
    timers.away.retain(|host, _| away.contains(host));
    let mut lost = BTreeSet::new();
    for host in away {
        let since = *timers.away.entry(host.clone()).or_insert(now);
        if now.saturating_sub(since) >= world.gate.plan.lost_after {
            lost.insert(host.clone());
        }
    }
    lost
}

/// The gate for a change that nobody has opened it for yet.
fn open(world: &World, goal: &Goal, policy: &Rollout, states: &BTreeMap<&str, HostState>, moment: Moment<'_>) -> Gate {
    let before = &world.gate;
    let there = states.iter().filter(|(host, state)| {
        !matches!(state, HostState::Other) && world.hosts.get(**host).is_some_and(|view| view.live)
    });
    let is_under_way = before.state.is_open() && before.state != GateState::Done;
    let carries = is_under_way && policy.on_newer == OnNewer::Carry;
    let is_paused = before.state == GateState::Paused;
    let serial = before.serial + 1;
    let mut plan = Plan::of(policy);
    if before.revert == Some(serial) {
        plan.waves = vec![PlanWave::from(&Wave::default())];
    }
    Gate {
        v: FormatVersion,
        epoch: before.epoch,
        serial,
        goal: Some(goal.clone()),
        state: if is_paused {
            GateState::Paused
        } else {
            GateState::Rolling
        },
        before: is_paused.then_some(GateState::Rolling),
        wave: if carries {
            before.wave.min(policy.waves.len().saturating_sub(1))
        } else {
            0
        },
        why: before.why.clone().filter(|_| is_paused),
        at_once: policy.at_once.of(there.count()),
        max_failures: policy.max_failures,
        plan,
        policy: policy_digest(policy),
        // Who was lost with an older change says nothing of this one.
        forgiven: world.granted,
        retried: world.granted,
        revert: before.revert.filter(|revert| *revert == serial),
        since: moment.at,
        by: moment.by.to_owned(),
    }
}

/// Slots that are to be taken back, and granted.
fn slots(world: &World, states: &BTreeMap<&str, HostState>, moment: Moment<'_>) -> Slots {
    let gate = &world.gate;
    let mut slots = Slots {
        granted: world.granted,
        ..Slots::default()
    };
    // A host that has deleted its result uses no slot; its grant goes, or it would be the host's again when it comes back.
    let has_left = |host: &&String| {
        world
            .hosts
            .get(*host)
            .is_none_or(|view| view.part.is_none() && !view.garbled)
    };
    slots
        .deletes
        .extend(world.grants.keys().filter(has_left).take(BATCH).cloned());
    if gate.plan.lost == Lost::Release {
        let lost = states.iter().filter(|(_, state)| **state == HostState::Lost);
        for (host, _) in lost.take(BATCH) {
            if let Some(grant) = world.held(host) {
                let taken_back = Some(format!("lost, by {}", moment.by));
                slots.grants.push((
                    (*host).to_owned(),
                    Grant {
                        taken_back,
                        ..grant.clone()
                    },
                ));
            }
        }
    }
    // Somebody has deleted the slot of a host that uses it.
    let lost = world.hosts.iter().filter(|(host, _)| !world.grants.contains_key(*host));
    let lost = lost.filter_map(|(host, view)| Some((host, &view.part.as_ref()?.0)));
    for (host, part) in lost.filter(|(_, part)| part.state.is_in_use()).take(BATCH) {
        if let (Some(slot), Some(goal)) = (part.slot.filter(|slot| slot.epoch == gate.epoch), &gate.goal) {
            let grant = Grant {
                v: FormatVersion,
                slot,
                serial: part.serial,
                state: goal.state,
                taken_back: None,
            };
            slots.grants.push((host.clone(), grant));
        }
    }
    if !slots.deletes.is_empty() || !slots.grants.is_empty() {
        return slots;
    }
    let Some(goal) = gate.goal.as_ref().filter(|_| gate.state.is_open()) else {
        return Slots::default();
    };
    let mut free = (gate.at_once as usize).saturating_sub(world.occupied());
    for host in world.candidates(states) {
        // Who holds the slot of an older change needs no other.
        let holds = world.held(host).is_some();
        if !holds && free == 0 {
            continue;
        }
        free -= usize::from(!holds);
        slots.granted += 1;
        let grant = Grant {
            v: FormatVersion,
            slot: SlotId {
                epoch: gate.epoch,
                number: slots.granted,
            },
            serial: gate.serial,
            state: goal.state,
            taken_back: None,
        };
        slots.grants.push((host.to_owned(), grant));
        if slots.grants.len() == BATCH {
            break;
        }
    }
    match slots.grants.is_empty() {
        true => Slots::default(),
        false => slots,
    }
}
