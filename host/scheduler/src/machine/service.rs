//! Programs that stay ([`Policy::service`](twitcher_model::Policy::service)): when such a run has handled its state, and how it is told of
//! a newer one.

use std::time::Duration;

use super::{Handled, Machine, Run, Update};
use crate::admission::Admission;
use crate::{Cause, Decision, Effect, Ending, FoundFor, Ignored, RunIds, Start};
use twitcher_model::{Observation, Position, RunId, RunMode};

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It does not stay: how it ends says whether it has handled its state.
    Job,
    /// It stays, and has not started yet, or has not been told of its newest state.
    Coming,
    /// It has handled its state if it is still there at this time.
    Staying(Duration),
    /// It has handled its state.
    Up,
}

impl Machine {
    /// The stage of a run that starts now.
    pub(super) fn first_stage(&self) -> Stage {
        match self.policy.service {
            Some(_) => Stage::Coming,
            None => Stage::Job,
        }
    }

    /// Whether a run is of a program that stays.
    pub fn is_service(&self, run: RunId) -> bool {
        self.running
            .iter()
            .any(|known| known.id == run && known.stage != Stage::Job)
    }

    /// Whether a program that stays is terminated, for a newer state or because it is not wanted any more: that is no failure.
    pub fn is_replaced(&self, run: RunId) -> bool {
        self.is_service(run) && self.running.iter().any(|known| known.id == run && known.terminated)
    }

    /// The run that stays and has handled its state. There may be a newer one.
    pub fn up(&self) -> Option<RunId> {
        let is_up = |run: &&Run| run.stage == Stage::Up && !run.terminated;
        self.running.iter().find(is_up).map(|run| run.id)
    }

    /// When a run that stays has stayed long enough.
    pub(super) fn next_up(&self) -> Option<Duration> {
        let times = self.running.iter().filter_map(|run| match run.stage {
            Stage::Staying(until) if !run.terminated => Some(until),
            _ => None,
        });
        times.min()
    }

    /// The process of a run exists.
    pub(super) fn started(&mut self, now: Duration, run: RunId) {
        let ready_after = self.policy.service.unwrap_or_default();
        if let Some(run) = self.running.iter_mut().find(|known| known.id == run)
            && run.stage == Stage::Coming
        {
            run.stage = Stage::Staying(now.saturating_add(ready_after));
        }
    }

    /// What has stayed long enough is up: it has handled its state, and gives its place to others.
    pub(super) fn look_at_services(&mut self, now: Duration, admission: &mut Admission, effects: &mut Vec<Effect>) {
        let mut any = false;
        for run in &mut self.running {
            if matches!(run.stage, Stage::Staying(until) if until <= now) && !run.terminated {
                run.come_up(None, admission, effects);
                any = true;
            }
        }
        if any {
            self.catch_up();
        }
    }

    /// Takes over a program that the last daemon left behind, if it is for this state. Whether it is.
    pub(super) fn takes_over(
        &mut self,
        observation: &Observation,
        admission: &mut Admission,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let is_of = |found_for: FoundFor| match found_for {
            FoundFor::Version(version) => version.parts() == observation.version.parts(),
            FoundFor::State(state) => Position::of(observation).is(state),
        };
        let is_for_it = |run: &&mut Run| {
            run.stage == Stage::Coming && run.former && !run.terminated && run.found_for.is_some_and(is_of)
        };
        let Some(run) = self.running.iter_mut().find(is_for_it) else {
            return false;
        };
        run.former = false;
        run.found_for = None;
        run.kept = Some(observation.clone());
        run.come_up(Some(observation.clone()), admission, effects);
        self.handled = Handled::of(observation);
        effects.push(Effect::Record(Decision::Ignored(Ignored::Up)));
        true
    }

    /// Whether the newest update can be given to what runs.
    pub(super) fn can_tell(&self) -> bool {
        self.running
            .iter()
            .any(|run| self.is_tellable(run) || self.is_in_the_way(run))
    }

    fn is_tellable(&self, run: &Run) -> bool {
        let by_signal = self.policy.run_mode == RunMode::Queue && self.policy.notify_signal.is_some();
        self.policy.service.is_some() && by_signal && run.stage == Stage::Up && !run.former && !run.terminated
    }

    /// Whether it is a program that stays as the watch was before a reload, or before the daemon started: it would never make room.
    fn is_in_the_way(&self, run: &Run) -> bool {
        run.stage != Stage::Job && run.former && !run.terminated
    }

    /// Gives the update that is through its gates to the program that stays, or has that make room for another.
    pub(super) fn tell_services(&mut self, now: Duration, effects: &mut Vec<Effect>) {
        for at in 0..self.running.len() {
            if self.is_in_the_way(&self.running[at]) {
                let run = &mut self.running[at];
                run.terminated = true;
                effects.push(Effect::Terminate { run: run.id });
            }
        }
        let Some(at) = self.running.iter().position(|run| self.is_tellable(run)) else {
            return;
        };
        let next = self.next_waiting().and_then(|at| self.waiting.remove(at));
        let (Some(update), Some(signal)) = (next, self.policy.notify_signal) else {
            return;
        };
        let Update {
            event,
            attempt,
            since,
            observation,
            ..
        } = update;
        self.last_start = Some(now);
        self.turn = None;
        self.handled = Handled::of(&observation);
        let run = &mut self.running[at];
        run.stage = Stage::Coming;
        // The node may have been away meanwhile.
        run.outdated = false;
        (run.attempt, run.since) = (attempt, since);
        run.kept = Some(observation.clone());
        effects.push(Effect::Notify {
            start: Start {
                run: run.id,
                event,
                attempt,
                observation,
            },
            signal,
        });
    }

    /// The program that stays was told of a newer state, or could not be.
    pub(super) fn told(
        &mut self,
        now: Duration,
        run: RunId,
        failed: Option<Cause>,
        ids: &RunIds,
        effects: &mut Vec<Effect>,
    ) {
        let Some(run) = self.running.iter_mut().find(|known| known.id == run) else {
            return;
        };
        if run.stage != Stage::Coming || run.former || run.terminated {
            return;
        }
        match failed {
            None => {
                let ready_after = self.policy.service.unwrap_or_default();
                run.stage = Stage::Staying(now.saturating_add(ready_after));
            }
            Some(cause) => {
                // It goes on as it was, and that it was not told has failed as a run does.
                run.stage = Stage::Up;
                let telling = Run {
                    id: run.id,
                    attempt: run.attempt,
                    since: run.since,
                    group: None,
                    placed: false,
                    stage: Stage::Job,
                    terminated: false,
                    former: false,
                    outdated: run.outdated,
                    found_for: None,
                    kept: run.kept.clone(),
                };
                self.exited(now, telling, Ending::Failed(cause), ids, effects);
            }
        }
    }

    /// Nothing of the watch is wanted any more: a program that stays would stay for ever.
    pub(super) fn stop_services(&mut self, effects: &mut Vec<Effect>) {
        let services = self
            .running
            .iter_mut()
            .filter(|run| run.stage != Stage::Job && !run.terminated);
        for run in services {
            run.terminated = true;
            effects.push(Effect::Terminate { run: run.id });
        }
    }

    /// A program that stays has ended by itself, whatever it said: that is a failure.
    pub(super) fn service_ended(&mut self, now: Duration, run: &mut Run, ending: Ending) -> Ending {
        if run.stage == Stage::Job || run.terminated {
            return ending;
        }
        if run.stage == Stage::Up {
            run.since = now;
        }
        if run.kept.is_some() && !run.outdated {
            self.behind.get_or_insert(now);
        }
        match ending {
            Ending::Succeeded | Ending::Superseded | Ending::Failed(Cause::Terminated) => Ending::Failed(Cause::Left),
            failed @ Ending::Failed(_) => failed,
        }
    }
}

impl Run {
    fn come_up(&mut self, state: Option<Observation>, admission: &mut Admission, effects: &mut Vec<Effect>) {
        self.stage = Stage::Up;
        // Should it end, that is the first time again.
        self.attempt = 1;
        if std::mem::take(&mut self.placed) {
            admission.leave(&self.group);
        }
        effects.push(Effect::Up { run: self.id, state });
    }
}
