//! What the machine makes of a state of the node: nothing, or an update that waits.

use std::time::Duration;

use super::{Handled, Machine, Update};
use crate::admission::Admission;
use crate::gate::Gate;
use crate::{Decision, Dropped, Effect, Ignored, Start};
use twitcher_model::{Observation, Position, RunMode, RunOnLoad, Shrinkage, Trigger, Version, WatchType};

impl Machine {
    /// Looks at a state of the node. If it is to be run for, it waits now: returns its event and whether it replaced another.
    pub(super) fn observe(
        &mut self,
        now: Duration,
        observation: Observation,
        admission: &mut Admission,
        effects: &mut Vec<Effect>,
    ) -> Option<(Trigger, bool)> {
        let ignore = |effects: &mut Vec<Effect>, why| effects.push(Effect::Record(Decision::Ignored(why)));
        if self.retired {
            ignore(effects, Ignored::Retired);
            return None;
        }
        if self.loading && !self.asked && self.takes_over(&observation, admission, effects) {
            self.loading = false;
            self.seen = Some(observation.version);
            return None;
        }
        let load = std::mem::take(&mut self.loading) && self.runs_at_load(&observation);
        let asked = std::mem::take(&mut self.asked);
        let manual = asked && !load;
        let before = self.seen.replace(observation.version);
        let known = before == Some(observation.version);
        if known && !load && !manual {
            return None;
        }
        self.empty = self.policy.refuse_empty && is_empty(&observation);
        self.shrunk = None;
        if !observation.exists() {
            self.handled = Handled::Absent;
            if (before.is_none() && !load && !(manual && self.policy.on_delete)) || (known && !self.policy.on_delete) {
                ignore(effects, Ignored::Absent);
                return None;
            }
            if !self.policy.on_delete {
                ignore(effects, Ignored::Deleted);
            }
            self.withdraw_retries(effects);
            if !self.policy.on_delete {
                if let Some(update) = self.take_replaceable(now) {
                    let (event, why) = (update.event, Dropped::Deleted);
                    effects.push(Effect::Record(Decision::Dropped { event, why }));
                }
                self.catch_up();
                return None;
            }
        } else if before.is_none() && !load && !manual {
            self.handled = Handled::of(&observation);
            let why = match self.policy.run_on_load {
                RunOnLoad::IfChanged => Ignored::Unchanged,
                RunOnLoad::Always | RunOnLoad::Never => Ignored::NotOnLoad,
            };
            ignore(effects, why);
            return None;
        } else if self.empty {
            ignore(effects, Ignored::Empty);
            return None;
        } else if let Some(shrinkage) = self.shrinkage(&observation).filter(|_| !asked) {
            self.shrunk = Some(Box::new(shrinkage));
            ignore(effects, Ignored::Shrunk(shrinkage));
            return None;
        }
        if self.policy.run_mode == RunMode::Discard && !load && !self.running.is_empty() && self.waiting.is_empty() {
            self.handled = Handled::of(&observation);
            ignore(effects, Ignored::Running);
            return None;
        }
        let event = if load && observation.exists() {
            Trigger::Load
        } else if manual && (known || observation.exists()) {
            Trigger::Manual
        } else {
            self.event(before, &observation)
        };
        if load || !known {
            self.behind.get_or_insert(now);
        }
        self.notify(event, &observation, effects);
        Some((event, self.hold(now, load, event, observation, effects)))
    }

    /// Whether the state found at load is run for. That a node is absent is news only if its presence was the last that was handled.
    fn runs_at_load(&self, observation: &Observation) -> bool {
        let is_new = || self.done.is_none_or(|done| !Position::of(observation).is(done));
        match (self.policy.run_on_load, observation.exists()) {
            // A parked watch has a state before it that was not handled, whatever is said of new ones.
            (RunOnLoad::Never, exists) => self.parked && exists && is_new(),
            (RunOnLoad::Always, true) => true,
            // What is to stay ended with the last daemon, whatever it was for.
            (RunOnLoad::IfChanged, true) => self.policy.service.is_some() || is_new(),
            (RunOnLoad::Always | RunOnLoad::IfChanged, false) => {
                self.policy.on_delete && self.done.is_some() && is_new()
            }
        }
    }

    /// What a state has lost since the last success, if that is too much. Once the node was away there is nothing to compare with but what
    /// was there before.
    fn shrinkage(&self, observation: &Observation) -> Option<Shrinkage> {
        let (most, before, now) = (self.policy.refuse_shrink?, self.done_size?, observation.size()?);
        let counted = match observation.version {
            Version::Absent => return None,
            Version::Data { .. } => WatchType::Data,
            Version::Children { .. } => WatchType::Children,
            Version::Tree { .. } => of_several(observation).unwrap_or(WatchType::Tree),
        };
        most.is_exceeded(before, now).then_some(Shrinkage {
            counted,
            before,
            now,
            most,
        })
    }

    /// What happened to the node since it was last handled.
    fn event(&self, before: Option<Version>, observation: &Observation) -> Trigger {
        match (observation.version, self.handled) {
            (Version::Absent, _) => Trigger::Deleted,
            (_, Handled::Nothing) => Trigger::Load,
            (_, Handled::Absent) => Trigger::Created,
            // Where a re-created node has the czxid of the former, having seen it absent is the only sign.
            _ if before == Some(Version::Absent) => Trigger::Created,
            (_, handled) if handled != Handled::of(observation) => Trigger::Created,
            (Version::Data { .. }, _) => Trigger::Data,
            (Version::Children { .. }, _) => Trigger::Children,
            (Version::Tree { .. }, _) => match of_several(observation) {
                Some(WatchType::Data) => Trigger::Data,
                Some(WatchType::Children) => Trigger::Children,
                Some(WatchType::Tree) | None => Trigger::Tree,
            },
        }
    }

    /// Tells what runs at once; a program that stays is told when the update is through its gates.
    fn notify(&self, event: Trigger, observation: &Observation, effects: &mut Vec<Effect>) {
        if let (RunMode::Queue, Some(signal), None) =
            (self.policy.run_mode, self.policy.notify_signal, self.policy.service)
        {
            let runs = self.running.iter().filter(|run| !run.former);
            let start = |run| Start {
                run,
                event,
                attempt: 1,
                observation: observation.clone(),
            };
            effects.extend(runs.map(|run| Effect::Notify {
                start: start(run.id),
                signal,
            }));
        }
    }

    /// Makes an update wait. Returns whether it replaced another.
    fn hold(
        &mut self,
        now: Duration,
        load: bool,
        event: Trigger,
        observation: Observation,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let older = self.take_replaceable(now);
        // The time of a retry says nothing about when a change may start.
        let gate = older.as_ref().filter(|older| !older.is_retry()).map(|older| older.gate);
        let mut update = Update {
            event,
            attempt: 1,
            since: older.as_ref().map_or(now, |older| older.since),
            gate: match event {
                Trigger::Manual => Gate::at(now, now),
                _ => Gate::new(now, &self.policy, load, gate),
            },
            ungoverned: event == Trigger::Manual && self.ungoverned,
            observation,
        };
        if let Some(older) = &older {
            update.take_over(older.observation.version, &older.observation.stdin);
        }
        if older.as_ref().is_some_and(Update::is_retry) {
            let (event, why) = (Trigger::Retry, Dropped::Newer);
            effects.push(Effect::Record(Decision::Dropped { event, why }));
        }
        self.waiting.push_back(update);
        older.is_some_and(|older| !older.is_retry())
    }
}

/// Whether the node exists but has nothing in it yet.
fn is_empty(observation: &Observation) -> bool {
    match observation.version {
        Version::Data { .. } | Version::Children { .. } => observation.stdin.is_empty(),
        // Of several it is enough that one is not ready.
        Version::Tree { .. } => observation.several.as_ref().is_some_and(|several| {
            let mut states = several.states.iter();
            states.any(|state| is_empty(&state.observation))
        }),
        Version::Absent => false,
    }
}

/// What of each is watched, if it is the state of several znodes.
fn of_several(observation: &Observation) -> Option<WatchType> {
    observation.several.as_ref().map(|several| several.watch_type)
}
