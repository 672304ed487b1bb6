//! What the steward of a rollout does next. Pure: no clock of its own, no ZooKeeper.
//!
//! All is decided from what the znodes say; a steward knows nothing else but since when it has seen a host away, and since when the
//! wave is being watched. So the next steward goes on where the last one was, and only such times begin anew.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use super::records::{Gate, GateState, Goal, Grant, Part, PartState, Plan, PlanWave, SlotId, policy_digest};
use crate::identity::Labels;
use crate::record::{FormatVersion, LastRun, ResultState, StateId, WatchResult};
use twitcher_model::{Lost, OnNewer, Rollout, WatchType, Wave};

/// Most slots that are granted, or taken back, in one transaction.
const BATCH: usize = 50;

/// A rollout, as its znodes were at about the same time. The grants are at least as new as the counter.
#[derive(Debug, Clone)]
pub struct World {
    /// What goes out, and whether it may.
    pub gate: Gate,
    /// How many slots were granted.
    pub(crate) granted: u64,
    pub(crate) grants: BTreeMap<String, Grant>,
    /// The hosts of the fleet, by name.
    pub hosts: BTreeMap<String, HostView>,
}

/// What a host says of itself.
#[derive(Debug, Clone, PartialEq)]
pub struct HostView {
    /// Whether its daemon is in the fleet.
    pub live: bool,
    /// What it is called besides.
    pub labels: Labels,
    /// Its part in the rollout, with where its watch stands; none if it takes no part.
    pub part: Option<(Part, Standing)>,
    /// Why it cannot be known whether it takes part.
    pub garbled: bool,
}

/// Where the watch of a host stands.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    pub(crate) state: ResultState,
    pub(crate) good: Option<StateId>,
    pub(crate) znode: String,
    pub(crate) kind: WatchType,
    /// The last run that ended.
    pub last: Option<LastRun>,
}

impl From<&WatchResult> for Standing {
    fn from(result: &WatchResult) -> Self {
        Self {
            state: result.state,
            good: result.good,
            znode: result.znode.clone(),
            kind: result.kind,
            last: result.last.clone(),
        }
    }
}

impl HostView {
    /// A host whose znodes have these records.
    pub(crate) fn of(live: bool, labels: Labels, result: Option<WatchResult>, garbled: bool) -> Self {
        let part = result.and_then(|result| {
            let standing = Standing::from(&result);
            Some((result.part?, standing))
        });
        Self {
            live,
            labels,
            garbled,
            part,
        }
    }
}

/// Where a host stands with a rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum HostState {
    /// It has what goes out.
    Current,
    /// It has started.
    Acting,
    /// Its action has succeeded, and whether it is well is found out.
    Verifying,
    /// It may start.
    Granted,
    /// It waits for its turn.
    Waiting,
    /// Its action failed for what goes out.
    Failed,
    /// It went away while it held a slot.
    Lost,
    /// It is not there.
    Absent,
    /// It cannot: it is held, or cannot read the znode.
    Declined,
    /// Its watch of that rollout watches another znode.
    Other,
}

impl HostState {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Acting => "acting",
            Self::Verifying => "verifying",
            Self::Granted => "granted",
            Self::Waiting => "waiting",
            Self::Failed => "failed",
            Self::Lost => "lost",
            Self::Absent => "absent",
            Self::Declined => "declined",
            Self::Other => "other",
        }
    }
}

/// What a steward remembers.
#[derive(Debug, Default, Clone)]
pub(crate) struct Timers {
    /// Since when it has seen holders of slots away.
    away: BTreeMap<String, Duration>,
    /// Since when it has watched a wave of a change.
    bake: Option<((u64, usize), Duration)>,
    /// Since when there is this steward, where that may matter.
    begun: Option<Duration>,
    /// What is known of that wave's check.
    check: Option<((u64, usize), CheckAnswer)>,
}

/// How long after it has begun a steward waits for hosts that are not there. What has made the former one go, such as a server that was
/// away, may have made them go, too, and they are about to come back.
const REJOIN: Duration = Duration::from_secs(20);

/// How long a check that has no answer yet is left alone before it is asked again.
const CHECK_PAUSE: Duration = Duration::from_secs(10);

/// What is known of a wave's check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CheckAnswer {
    /// It runs.
    Asked,
    /// The next wave may go.
    Good,
    /// It has no answer, since then.
    NotYet(Duration),
    /// The next wave must not go, for this reason.
    Bad(String),
}

impl Timers {
    /// Whether a holder of a slot counts as lost.
    pub fn is_lost(&self, host: &str, now: Duration, world: &World) -> bool {
        let since = self.away.get(host);
        since.is_some_and(|since| now.saturating_sub(*since) >= world.gate.plan.lost_after)
    }

    /// Those of a steward that begins now.
    pub fn begin(now: Duration) -> Self {
        Self {
            begun: Some(now),
            ..Self::default()
        }
    }

    /// Whether an answer to the check of a wave is of use: the wave has been through since it was asked for.
    pub fn waits_for_check(&self, of: (u64, usize)) -> bool {
        self.check == Some((of, CheckAnswer::Asked))
    }

    /// Notes what is known of the check of a wave.
    pub fn note_check(&mut self, of: (u64, usize), answer: CheckAnswer) {
        self.check = Some((of, answer));
    }
}

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

impl World {
    /// The slot of a host, if it has one.
    pub(crate) fn held(&self, host: &str) -> Option<&Grant> {
        let grant = self.grants.get(host).filter(|grant| grant.taken_back.is_none())?;
        let part = self.hosts.get(host).and_then(|view| view.part.as_ref());
        let is_over = part.is_some_and(|(part, _)| part.slot == Some(grant.slot) && part.state.is_over());
        (!is_over).then_some(grant)
    }

    /// Where a host stands; none if it takes no part.
    pub fn host_state(&self, host: &str, is_lost: impl Fn(&str) -> bool) -> Option<HostState> {
        let view = self.hosts.get(host)?;
        let held = self.held(host);
        let Some((part, standing)) = &view.part else {
            return held.map(|_| {
                if is_lost(host) {
                    HostState::Lost
                } else {
                    HostState::Granted
                }
            });
        };
        if held.is_some() && is_lost(host) {
            return Some(HostState::Lost);
        }
        // A slot of an older change: what counts is whether the host has this one.
        if let Some(held) = held.filter(|held| held.serial == self.gate.serial) {
            return Some(match part.slot == Some(held.slot) {
                true if part.state == PartState::Verifying => HostState::Verifying,
                true => HostState::Acting,
                false => HostState::Granted,
            });
        }
        let goal = self.gate.goal.as_ref();
        if goal.is_some_and(|goal| goal.znode != standing.znode || goal.kind != standing.kind) {
            Some(HostState::Other)
        } else if goal.is_some() && standing.good == goal.map(|goal| goal.state) && !self.is_unwell(part) {
            Some(HostState::Current)
        } else if self.has_failed(part) {
            Some(HostState::Failed)
        } else if !view.live {
            Some(HostState::Absent)
        } else if matches!(standing.state, ResultState::Held | ResultState::Unreadable) && !self.tries_again(part) {
            Some(HostState::Declined)
        } else {
            Some(HostState::Waiting)
        }
    }

    /// Whether its action has succeeded for this change, and it has not got well since.
    fn is_unwell(&self, part: &Part) -> bool {
        let is_ours = part.slot.is_some_and(|slot| slot.epoch == self.gate.epoch);
        part.state == PartState::Unwell && part.serial == self.gate.serial && is_ours
    }

    /// Whether it failed for this change, and is not to try again.
    fn has_failed(&self, part: &Part) -> bool {
        let is_ours = |slot: SlotId| slot.epoch == self.gate.epoch && slot.number > self.gate.retried;
        part.state.has_failed() && part.serial == self.gate.serial && part.slot.is_some_and(is_ours)
    }

    /// Whether a host has a slot.
    pub fn holds_slot(&self, host: &str) -> bool {
        self.held(host).is_some()
    }

    /// Whether it failed for this change and is to try again: with `on_failure` STOP its watch is held until then.
    fn tries_again(&self, part: &Part) -> bool {
        let is_retried = |slot: SlotId| slot.epoch == self.gate.epoch && slot.number <= self.gate.retried;
        part.state.has_failed() && part.serial == self.gate.serial && part.slot.is_some_and(is_retried)
    }

    /// How many slots are held.
    pub fn occupied(&self) -> usize {
        self.grants.keys().filter(|host| self.held(host).is_some()).count()
    }

    /// How many hosts count as failed, of all that were not forgiven.
    fn failures(&self, states: &BTreeMap<&str, HostState>) -> usize {
        let counts = |host: &str, state: HostState| {
            let slot = match state {
                HostState::Failed => self.hosts.get(host).and_then(|view| view.part.as_ref()?.0.slot),
                HostState::Lost => self.grants.get(host).map(|grant| grant.slot),
                _ => None,
            };
            slot.is_some_and(|slot| slot.number > self.gate.forgiven)
        };
        states.iter().filter(|(host, state)| counts(host, **state)).count()
    }

    /// Hosts that wait and whose turn may come in this wave or was to in one before, first come first.
    fn candidates<'a>(&self, states: &BTreeMap<&'a str, HostState>) -> Vec<&'a str> {
        let all = PlanWave::from(&Wave::default());
        let reached = match self.gate.state {
            // Who comes later comes at once.
            GateState::Done => std::slice::from_ref(&all),
            _ => self
                .gate
                .plan
                .waves
                .get(..=self.gate.wave)
                .unwrap_or(std::slice::from_ref(&all)),
        };
        let mut chosen = BTreeSet::new();
        for wave in reached {
            let in_wave = states.iter().filter(|(host, state)| {
                let counts = !matches!(state, HostState::Absent | HostState::Declined | HostState::Other);
                counts && self.hosts.get(**host).is_some_and(|view| wave.takes(&view.labels))
            });
            let (waiting, others): (Vec<_>, Vec<_>) = in_wave.partition(|(_, state)| **state == HostState::Waiting);
            let quota = wave.quota(waiting.len() + others.len()).saturating_sub(others.len());
            let mut waiting: Vec<_> = waiting.into_iter().map(|(host, _)| (self.turn(host), *host)).collect();
            waiting.sort_unstable();
            chosen.extend(waiting.into_iter().take(quota));
        }
        chosen.into_iter().map(|(_, host)| host).collect()
    }

    /// By what the order of those who wait is made: those that failed before come first, for they are down anyway; the others in an
    /// order that is another one with each change.
    pub(super) fn turn(&self, host: &str) -> (Reverse<bool>, u64) {
        let part = self.hosts.get(host).and_then(|view| view.part.as_ref());
        let failed = part.is_some_and(|(part, _)| part.state.has_failed());
        (Reverse(failed), scatter(self.gate.serial, host))
    }
}

/// A number that is as good as random, and always the same for the same.
fn scatter(serial: u64, host: &str) -> u64 {
    // FNV-1a, and the end of SplitMix64 so that similar names come apart.
    let bytes = serial.to_le_bytes().into_iter().chain(host.bytes());
    let mut hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
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

fn set(gate: &Gate, moment: Moment<'_>, change: impl FnOnce(&mut Gate)) -> Decision {
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

/// What follows on a wave that is through.
fn go_on(
    world: &World,
    states: &BTreeMap<&str, HostState>,
    timers: &mut Timers,
    moment: Moment<'_>,
) -> Option<Decision> {
    let gate = &world.gate;
    let is_in_use = |state: &HostState| matches!(state, HostState::Acting | HostState::Verifying | HostState::Granted);
    let is_busy = states.values().any(is_in_use) || !world.candidates(states).is_empty();
    if is_busy || gate.state != GateState::Checking {
        // What is asked once the wave is through again has an answer of its own.
        timers.check = None;
    }
    if is_busy {
        return None;
    }
    let begun = timers
        .begun
        .map_or(Duration::MAX, |begun| moment.now.saturating_sub(begun));
    let is_awaited = |state: &HostState| *state == HostState::Absent;
    if gate.state == GateState::Rolling && begun < REJOIN && states.values().any(is_awaited) {
        return Some(Decision::Wait(Some(REJOIN.saturating_sub(begun))));
    }
    let wave = gate.reached();
    let checks = wave.is_some_and(PlanWave::check);
    let pass_bake = |gate: &mut Gate| match checks {
        true => gate.state = GateState::Checking,
        false => gate.pass_check(),
    };
    match gate.state {
        GateState::Rolling if wave.is_some_and(|wave| !wave.bake().is_zero()) => {
            Some(set(gate, moment, |gate| gate.state = GateState::Baking))
        }
        GateState::Rolling => Some(set(gate, moment, pass_bake)),
        GateState::Baking => {
            let which = (gate.serial, gate.wave);
            let since = match timers.bake {
                Some((of, since)) if of == which => since,
                _ => moment.now,
            };
            timers.bake = Some((which, since));
            let left = wave
                .map_or(Duration::ZERO, PlanWave::bake)
                .saturating_sub(moment.now.saturating_sub(since));
            match left.is_zero() {
                true => Some(set(gate, moment, pass_bake)),
                false => Some(Decision::Wait(Some(left))),
            }
        }
        GateState::Checking => Some(after_check(gate, timers, moment)),
        _ => None,
    }
}

/// What follows on what is known of a check. Whoever becomes the steward meanwhile knows nothing, and asks again.
fn after_check(gate: &Gate, timers: &Timers, moment: Moment<'_>) -> Decision {
    let which = (gate.serial, gate.wave);
    let known = timers.check.as_ref().filter(|(of, _)| *of == which);
    match known.map(|(_, answer)| answer) {
        None => Decision::Check(which),
        Some(CheckAnswer::Asked) => Decision::Wait(None),
        Some(CheckAnswer::Good) => set(gate, moment, Gate::pass_check),
        Some(CheckAnswer::NotYet(since)) => {
            let left = CHECK_PAUSE.saturating_sub(moment.now.saturating_sub(*since));
            match left.is_zero() {
                true => Decision::Check(which),
                false => Decision::Wait(Some(left)),
            }
        }
        Some(CheckAnswer::Bad(why)) => set(gate, moment, |gate| {
            gate.before = Some(GateState::Checking);
            gate.state = GateState::Halted;
            gate.why = Some(why.clone());
        }),
    }
}
