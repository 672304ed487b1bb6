//! What operators do to a machine: hold it, let go of it.

use super::service::Stage;
use super::{Machine, Run};
use crate::{Decision, Effect};

impl Machine {
    pub(super) fn pause(&mut self, effects: &mut Vec<Effect>) {
        if !self.retired && !std::mem::replace(&mut self.paused, true) {
            effects.push(Effect::Record(Decision::Paused));
        }
    }

    /// Ends parking, and pausing if `paused`. Whether there was something to end.
    pub(super) fn resume(&mut self, paused: bool, effects: &mut Vec<Effect>) -> bool {
        let parked = std::mem::take(&mut self.parked);
        let paused = paused && std::mem::take(&mut self.paused);
        if parked || paused {
            effects.push(Effect::Record(Decision::Resumed));
        }
        parked || paused
    }

    /// Whether an operator holds the watch.
    pub fn is_paused(&self) -> bool {
        self.paused
    }

    /// Says before the first step that an operator held the watch when the last daemon ended.
    pub fn restore_pause(&mut self) {
        self.paused = true;
    }

    /// A run has succeeded, or the node went away: what is left to be run for is what waits, and what else runs.
    pub(super) fn catch_up(&mut self) {
        let is_to_succeed = |run: &&Run| !run.outdated && !run.former && run.stage != Stage::Up;
        let running = self.running.iter().filter(is_to_succeed);
        let waiting = self.waiting.iter().map(|update| update.since);
        self.behind = running.map(|run| run.since).chain(waiting).min();
    }
}
