//! Whether a host that has acted for a rollout is well: its `verify`, run again and again until it has said so for long enough.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tracing::{info, warn};

use super::{RunningProbe, What};
use crate::Daemon;
use crate::fleet::state_id;
use twitcher_fleet::rollout::{After, SlotId, Streak, Verification};
use twitcher_fleet::{LastRun, StateId, outcome};
use twitcher_launch::RunReport;
use twitcher_model::{Outcome, Phase, RunId, Verify, Watch, WatchId, timestamp};
use twitcher_sandbox::channel::Reason;

/// Whether a host that has acted is well.
#[derive(Debug)]
pub(super) struct Verifying {
    pub(super) slot: SlotId,
    /// The state that it has acted for.
    of: StateId,
    pub(super) since: SystemTime,
    streak: Streak,
    /// Whether it was well when it was last looked at.
    was_well: Option<bool>,
    /// The last run that said by itself that it was not.
    pub(super) failure: Option<LastRun>,
    /// The same for the fleet: it is told another one only when that says something else.
    pub(super) told: Option<LastRun>,
    pub(super) phase: VerifyPhase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum VerifyPhase {
    /// Nothing was run yet, because a former one still runs.
    Waiting,
    Running(RunId),
    Pausing(Duration),
    Over(Verification),
}

impl Daemon {
    /// Finds out whether the host is well that has acted for a state with this slot, unless it is at that already.
    pub(crate) fn begin_verify(&mut self, id: WatchId, slot: SlotId, of: StateId) {
        let known = self.probes.verifying.get(&id);
        if known.is_some_and(|known| known.slot == slot) || self.phase == Phase::Draining {
            return;
        }
        self.end_verify(id);
        let Some(entry) = self.registry.get(id) else { return };
        let is_newest = entry.facts.seen.as_ref().map(state_id) == Some(of);
        if !is_newest || entry.machine.is_acting() || verify_of(&entry.watch).is_none() {
            return;
        }
        info!(watch = &*entry.watch.name, %slot, "the action has succeeded; its rollout's verify says whether the host is well");
        let verifying = Verifying {
            slot,
            of,
            since: SystemTime::now(),
            streak: Streak::begin(self.now()),
            was_well: None,
            failure: None,
            told: None,
            phase: VerifyPhase::Waiting,
        };
        self.probes.verifying.insert(id, verifying);
        self.note_unverified(id, true);
        self.run_due_probes();
    }

    /// What was found out of a watch's host counts no more: its action runs, or what it has acted for is not the newest.
    pub(crate) fn end_verify(&mut self, id: WatchId) {
        if let Some(Verifying {
            phase: VerifyPhase::Running(run),
            ..
        }) = self.probes.verifying.remove(&id)
        {
            self.terminate_probe(run, Reason::Superseded);
        }
    }

    /// The watch has seen a state.
    pub(crate) fn end_verify_of_older(&mut self, id: WatchId) {
        let seen = self
            .registry
            .get(id)
            .and_then(|entry| entry.facts.seen.as_ref().map(state_id));
        let verifying = self.probes.verifying.get(&id);
        if verifying.is_some_and(|verifying| Some(verifying.of) != seen) {
            self.end_verify(id);
        }
    }

    /// Runs what is due.
    pub(super) fn run_due_verifies(&mut self) {
        let now = self.now();
        let is_due = |verifying: &Verifying| match verifying.phase {
            VerifyPhase::Waiting => true,
            VerifyPhase::Pausing(until) => until <= now,
            VerifyPhase::Running(_) | VerifyPhase::Over(_) => false,
        };
        let due: Vec<WatchId> = self
            .probes
            .verifying
            .iter()
            .filter_map(|(id, verifying)| is_due(verifying).then_some(*id))
            .collect();
        for id in due {
            self.run_verify(id, now);
        }
    }

    fn run_verify(&mut self, id: WatchId, now: Duration) {
        let watch = self.registry.get(id).map(|entry| Arc::clone(&entry.watch));
        // A new configuration may want none.
        let Some((watch, verify)) = watch.and_then(|watch| Some((watch.clone(), verify_of(&watch)?.clone()))) else {
            return self.end_verify(id);
        };
        if self.has_stale_verify(&watch.name) {
            return;
        }
        let Some(verifying) = self.probes.verifying.get_mut(&id) else {
            return;
        };
        if verifying.phase == VerifyPhase::Waiting {
            // How long the former one took to end is not this host's fault.
            verifying.streak = Streak::begin(now);
        }
        let (slot, left) = (verifying.slot, verifying.streak.left(verify.deadline, now));
        if left.is_zero() {
            return self.is_unwell(id, &verify);
        }
        let run = self.launch_probe(id, &watch, &verify.probe, What::Verify(slot), left);
        if let Some(verifying) = self.probes.verifying.get_mut(&id) {
            verifying.phase = VerifyPhase::Running(run);
        }
    }

    /// What follows on a run of `verify`. Whether somebody may ask for the run.
    pub(super) fn verify_ended(&mut self, run: RunId, probe: &RunningProbe, slot: SlotId, report: &RunReport) -> bool {
        let (id, now) = (probe.id, self.now());
        let verify = self.registry.get(id).and_then(|entry| verify_of(&entry.watch).cloned());
        let is_it = |verifying: &&mut Verifying| verifying.slot == slot && verifying.phase == VerifyPhase::Running(run);
        let Some(verifying) = self.probes.verifying.get_mut(&id).filter(is_it) else {
            // It was ended for something newer.
            return false;
        };
        let Some(verify) = verify else {
            self.end_verify(id);
            return false;
        };
        let is_well = report.outcome.is_success();
        let words = Outcome::words(Some(&report.outcome));
        let was_well = verifying.was_well.replace(is_well);
        let watch = &*probe.watch;
        if was_well != Some(is_well) {
            match is_well {
                true => {
                    info!(watch, run_id = %run, "verify says that the host is well; it must be so for {} s", verify.steady.as_secs_f64())
                }
                false => warn!(watch, run_id = %run, "verify says that the host is not well: {words}"),
            }
        }
        let is_cut_short = report.outcome == Outcome::TimedOut && verifying.streak.left(verify.deadline, now).is_zero();
        let after = verifying.streak.look(is_well, verify.steady, verify.deadline, now);
        let is_too_late = is_well && after == After::Unwell;
        let is_why = is_too_late || (!is_well && !is_cut_short);
        if is_why || (!is_well && verifying.failure.is_none()) {
            let said = if is_too_late { "well too late" } else { &words };
            let failure = LastRun {
                run: run.to_string(),
                outcome: outcome(&format!("verify: {said}")),
                attempt: 1,
                started: timestamp(probe.started),
                seconds: (report.elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
                ungoverned: false,
            };
            if verifying.told.as_ref().map(|told| &told.outcome) != Some(&failure.outcome) {
                verifying.told = Some(failure.clone());
            }
            verifying.failure = Some(failure);
        }
        match after {
            After::Pause(pause) => verifying.phase = VerifyPhase::Pausing(now + pause),
            After::Well => {
                verifying.phase = VerifyPhase::Over(Verification::Well);
                info!(watch, "the host is well");
                self.note_unverified(id, false);
            }
            After::Unwell => self.is_unwell(id, &verify),
        }
        !is_well || is_too_late
    }

    /// The host has not got well in time.
    fn is_unwell(&mut self, id: WatchId, verify: &Verify) {
        let Some(verifying) = self.probes.verifying.get_mut(&id) else {
            return;
        };
        verifying.phase = VerifyPhase::Over(Verification::Unwell);
        let failure = verifying.failure.take();
        let (steady, deadline) = (verify.steady.as_secs_f64(), verify.deadline.as_secs_f64());
        if let Some(entry) = self.registry.get(id) {
            let (watch, run) = (&*entry.watch.name, failure.as_ref().map(|last| &*last.run));
            warn!(
                watch,
                run_id = run,
                "the host has not been well for {steady} s within {deadline} s: it has failed for its rollout"
            );
        }
        if let Some(last) = failure {
            self.note_last(id, last);
        }
    }
}

pub(crate) fn verify_of(watch: &Watch) -> Option<&Verify> {
    watch.rollout.as_ref()?.verify.as_ref()
}
