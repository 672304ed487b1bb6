//! What the machine makes of the end of a run: nothing, a retry, or what `on_failure` says in the end.

use std::time::Duration;

use super::service::Stage;
use super::{Machine, Run, Update};
use crate::ending::{Cause, Ending};
use crate::gate::Gate;
use crate::retrying::{NotRetried, Verdict, verdict};
use crate::{Decision, Dropped, Effect, RunIds};
use twitcher_model::{OnFailure, RunMode, Trigger};

impl Machine {
    pub(super) fn exited(
        &mut self,
        now: Duration,
        mut run: Run,
        ending: Ending,
        ids: &RunIds,
        effects: &mut Vec<Effect>,
    ) {
        let cause = match self.service_ended(now, &mut run, ending) {
            Ending::Failed(cause) => cause,
            Ending::Superseded if self.waiting.is_empty() && !run.outdated => Cause::NothingNewer,
            Ending::Superseded | Ending::Succeeded => return,
        };
        let is_old = run.former && (run.stage == Stage::Job || run.kept.is_none());
        if run.terminated || is_old || self.retired {
            return;
        }
        let chance = ids.chance(run.id);
        let verdict = match &self.policy.retry {
            Some(retry) => verdict(retry, cause, run.attempt, chance),
            None => Verdict::Never(NotRetried::NotConfigured),
        };
        let why = match verdict {
            Verdict::Retry { number, after } => match self.supersedes_retry(&run) {
                None => return self.retry(now, run, cause, (number, after), effects),
                Some(why) => {
                    effects.push(Effect::Record(Decision::NotRetried { cause, why }));
                    // What it was to handle is left to the newer update.
                    if let (Some(kept), Some(update)) = (run.kept, self.waiting.back_mut()) {
                        update.take_over(kept.version, &kept.stdin);
                    }
                    return;
                }
            },
            Verdict::Never(why) => why,
        };
        // Whoever did not ask for retries is not told each time that there is none.
        if self.policy.retry.is_some() || matches!(cause, Cause::AsksForRetry { .. } | Cause::NothingNewer) {
            effects.push(Effect::Record(Decision::NotRetried { cause, why }));
        }
        // Without retries it stays a matter of taste: it did not fail, and it did not succeed.
        let harmless = cause == Cause::NothingNewer && self.policy.retry.is_none();
        if self.policy.on_failure == OnFailure::Stop && !harmless {
            if !std::mem::replace(&mut self.parked, true) {
                effects.push(Effect::Park { run: run.id });
            }
            self.leave_unhandled(now, run, effects);
        }
    }

    /// What a run failed for waits until its parked watch goes on, unless something newer does.
    fn leave_unhandled(&mut self, now: Duration, run: Run, effects: &mut Vec<Effect>) {
        let Some(observation) = run.kept.filter(|_| !run.outdated) else {
            return;
        };
        if self.policy.run_mode != RunMode::Parallel
            && let Some(newer) = self.waiting.back_mut()
        {
            return newer.take_over(observation.version, &observation.stdin);
        }
        self.waiting.push_back(Update {
            event: Trigger::Retry,
            attempt: 1,
            since: run.since,
            gate: Gate::at(now, now),
            ungoverned: false,
            observation,
        });
        self.supersede(effects);
    }

    /// What makes the retry of a run pointless, if anything does.
    fn supersedes_retry(&self, run: &Run) -> Option<NotRetried> {
        if run.outdated {
            Some(NotRetried::Deleted)
        } else if self.policy.run_mode != RunMode::Parallel && !self.waiting.is_empty() {
            Some(NotRetried::Superseded)
        } else {
            None
        }
    }

    /// Makes the update of a failed run wait again.
    fn retry(
        &mut self,
        now: Duration,
        run: Run,
        cause: Cause,
        (number, after): (u32, Duration),
        effects: &mut Vec<Effect>,
    ) {
        let (Some(observation), Some(retry)) = (run.kept, &self.policy.retry) else {
            return;
        };
        effects.push(Effect::Record(Decision::Retries {
            number,
            of: retry.times,
            after,
            cause,
        }));
        self.waiting.push_back(Update {
            event: Trigger::Retry,
            attempt: run.attempt.saturating_add(1),
            since: run.since,
            gate: Gate::at(now, now.saturating_add(after)),
            ungoverned: false,
            observation,
        });
        self.supersede(effects);
    }

    /// The node went away: nothing that came before is to be run for once more.
    pub(super) fn withdraw_retries(&mut self, effects: &mut Vec<Effect>) {
        self.running.iter_mut().for_each(|run| run.outdated = true);
        self.drop_waiting(Dropped::Gone, Update::is_retry, effects);
    }

    /// The policy has no retries any more. What waits for a parked watch to go on is none of its.
    pub(super) fn drop_retries(&mut self, effects: &mut Vec<Effect>) {
        self.drop_waiting(Dropped::NoRetry, |update| update.attempt > 1, effects);
    }

    fn drop_waiting(&mut self, why: Dropped, which: impl Fn(&Update) -> bool, effects: &mut Vec<Effect>) {
        let before = self.waiting.len();
        self.waiting.retain(|update| !which(update));
        let event = Trigger::Retry;
        effects.extend((self.waiting.len()..before).map(|_| Effect::Record(Decision::Dropped { event, why })));
    }
}
