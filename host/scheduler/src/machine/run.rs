//! What a machine has in hand: runs that go on, and updates that wait for one.

use std::time::Duration;

use bytes::Bytes;

use super::service::Stage;
use crate::admission::Group;
use crate::gate::Gate;
use crate::{FoundFor, paths};
use twitcher_model::{Observation, RunId, Trigger, Version};

#[derive(Debug)]
pub(super) struct Run {
    pub(super) id: RunId,
    /// Which run for its update this is, from 1.
    pub(super) attempt: u32,
    /// Since when its update, or one that this replaced, is to be run for.
    pub(super) since: Duration,
    /// What it was admitted in.
    pub(super) group: Group,
    /// Whether it has a place of those that are admitted to.
    pub(super) placed: bool,
    /// How far it is, if it stays.
    pub(super) stage: Stage,
    /// [`crate::Effect::Terminate`] was said.
    pub(super) terminated: bool,
    /// Started before the last reload: owned, but its failure says nothing about the watch as it is now.
    pub(super) former: bool,
    /// The node went away since: the state it runs for is withdrawn.
    pub(super) outdated: bool,
    /// What a run of the last daemon is for, as far as that is known.
    pub(super) found_for: Option<FoundFor>,
    /// What it runs for, kept only where somebody may need it: for a retry, for when the watch is parked and goes on, or because a
    /// terminated run of a tree hands on its changed paths (RESTART).
    pub(super) kept: Option<Observation>,
}

impl Run {
    /// Whether RESTART terminates it for an update with this version. A load is an update too, but a found run that is for that very
    /// state need not be interrupted.
    pub(super) fn is_outdated_by(&self, next: Option<Version>) -> bool {
        // What is found has written down its transactions alone; what stays is taken over, or is outdated.
        let is_for_it = match (self.found_for, next) {
            (Some(FoundFor::Version(version)), Some(next)) => version.parts() == next.parts(),
            _ => false,
        };
        !self.terminated && !is_for_it
    }
}

#[derive(Debug)]
pub(super) struct Update {
    pub(super) event: Trigger,
    /// Which run for it will be the next, from 1.
    pub(super) attempt: u32,
    /// When it was seen, or the first of those that it replaced.
    pub(super) since: Duration,
    pub(super) gate: Gate,
    /// It does not wait for its turn.
    pub(super) ungoverned: bool,
    pub(super) observation: Observation,
}

impl Update {
    /// Whether it has had a run, which failed.
    pub(super) fn is_retry(&self) -> bool {
        self.event == Trigger::Retry
    }

    /// Takes over what an older update, or a terminated run, leaves behind.
    pub(super) fn take_over(&mut self, version: Version, older: &Bytes) {
        if let (Version::Tree { .. }, Version::Tree { .. }) = (self.observation.version, version) {
            self.observation.stdin = paths::merge(older, &self.observation.stdin);
        }
    }
}
