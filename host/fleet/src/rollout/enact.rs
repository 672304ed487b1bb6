//! How what was decided becomes a transaction. Pure.
//!
//! Each fails as a whole if the gate or, where slots change hands, the counter is not what it was when the decision was made.

use super::decide::Slots;
use super::records::{Counter, Gate};
use super::world::World;
use crate::layout::FleetRoot;
use crate::record::{self, FormatVersion};
use crate::requests::{Owner, Step};
use twitcher_model::RolloutName;

/// The versions of the znodes that a decision was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Versions {
    pub gate: i32,
    pub counter: i32,
}

/// The steps that set the gate.
pub(crate) fn set_gate(root: &FleetRoot, rollout: &RolloutName, gate: &Gate, versions: Versions) -> Vec<Step> {
    vec![Step::Set(root.gate(rollout), record::write(gate), Some(versions.gate))]
}

/// The steps by which slots change hands.
pub(crate) fn change_slots(
    root: &FleetRoot,
    rollout: &RolloutName,
    world: &World,
    slots: &Slots,
    versions: Versions,
) -> Vec<Step> {
    let counter = Counter {
        v: FormatVersion,
        granted: slots.granted,
    };
    let mut steps = vec![
        Step::Check(root.gate(rollout), versions.gate),
        Step::Set(root.grants(rollout), record::write(&counter), Some(versions.counter)),
    ];
    steps.extend(slots.deletes.iter().map(|host| Step::Delete(root.grant(rollout, host))));
    steps.extend(slots.grants.iter().map(|(host, grant)| {
        let (path, data) = (root.grant(rollout, host), record::write(grant));
        match world.grants.contains_key(host) {
            true => Step::Set(path, data, None),
            false => Step::Create(path, data, Owner::Like(root.rollouts())),
        }
    }));
    steps
}
