//! A rollout as its znodes say that it is. Pure.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use super::records::{Gate, GateState, Grant, Part, PartState, PlanWave, SlotId};
use crate::identity::Labels;
use crate::record::{LastRun, ResultState, StateId, WatchResult};
use twitcher_model::{WatchType, Wave};

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
        } else if goal.is_some() && standing.good == goal.map(|goal| goal.state) && !part.state.is_unproven() {
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
    pub(super) fn failures(&self, states: &BTreeMap<&str, HostState>) -> usize {
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
    pub(super) fn candidates<'a>(&self, states: &BTreeMap<&'a str, HostState>) -> Vec<&'a str> {
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
