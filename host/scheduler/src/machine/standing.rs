//! What a machine is doing and why, for those who ask. Looks only.

use std::time::Duration;

use super::Machine;
use crate::{MachineState, Wait};
use twitcher_model::Shrinkage;

/// What a watch is doing, and what its newest update waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// In one word.
    pub state: MachineState,
    /// What the newest update waits for, if one waits.
    pub wait: Option<Wait>,
    /// When an update that waits may start at the earliest, if a time is what it waits for. On the clock of [`Machine::step`].
    pub next: Option<Duration>,
    /// Since when there is a state that no run has succeeded for, though one is to.
    pub behind: Option<Duration>,
    /// Whether it is a service whose program has stayed, for the newest state that was to be run for.
    pub up: bool,
    /// The node is being read: for the first time, or after a reload.
    pub loading: bool,
    /// The node is being read because an operator wants a run.
    pub asked: bool,
    /// The node is empty, and `refuse_empty` says that this is not ready.
    pub empty: bool,
    /// What the node lost, if `refuse_shrink` says that this is too much to run for.
    pub shrunk: Option<Shrinkage>,
}

impl Machine {
    /// What the watch is doing at `now`.
    pub fn standing(&self, now: Duration) -> Standing {
        let state = self.state();
        Standing {
            state,
            wait: (!self.waiting.is_empty()).then(|| self.newest_waits_for(now)),
            next: self
                .next_start()
                .filter(|at| *at > now && self.running.len() < self.places()),
            behind: self.behind,
            up: self.up().is_some() && self.behind.is_none(),
            loading: self.loading,
            asked: self.asked,
            empty: self.empty,
            shrunk: self.shrunk(),
        }
    }

    /// What the node lost, if `refuse_shrink` says that this is too much to run for.
    pub fn shrunk(&self) -> Option<Shrinkage> {
        self.shrunk.as_deref().copied()
    }

    /// Since when there is a state that no run has succeeded for, though one is to. On the clock of [`Machine::step`].
    pub fn behind(&self) -> Option<Duration> {
        self.behind
    }
}
