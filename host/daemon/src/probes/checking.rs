//! Whether the next wave of a rollout may go: the `check` of a wave, on the host of the rollout's steward.

use std::sync::Arc;

use tracing::{info, warn};

use super::{RunningProbe, TIME, What};
use crate::Daemon;
use twitcher_fleet::rollout::CheckEnd;
use twitcher_launch::RunReport;
use twitcher_model::{Occasion, Outcome, Phase, Probe, RunId, WatchId};
use twitcher_sandbox::channel::Reason;

/// With this exit code a check is asked again.
const NOT_YET: i32 = 75;

/// The check that was asked for last.
#[derive(Debug)]
pub(super) struct Check {
    pub(super) number: u64,
    wave: usize,
    /// None before it could begin, and after its end.
    run: Option<RunId>,
    pub(super) end: Option<CheckEnd>,
}

impl Daemon {
    /// Runs the check of a wave, once a former one is gone.
    pub(crate) fn begin_check(&mut self, id: WatchId, number: u64, wave: usize) {
        self.end_check(id);
        if self.registry.get(id).is_none() || self.phase == Phase::Draining {
            return;
        }
        let has_none = self.check_of(id, wave).is_none();
        let end = has_none.then(|| {
            CheckEnd::Bad(format!(
                "wave {} has a check, and the configuration of {}, the steward, has none for it",
                wave + 1,
                self.host_name()
            ))
        });
        let check = Check {
            number,
            wave,
            run: None,
            end,
        };
        self.probes.checks.insert(id, check);
        self.run_due_probes();
    }

    /// Nobody wants to know any more: the rollout does not wait for it, or this host is not the steward any more.
    pub(crate) fn end_check(&mut self, id: WatchId) {
        if let Some(Check { run: Some(run), .. }) = self.probes.checks.remove(&id) {
            self.terminate_probe(run, Reason::Superseded);
        }
    }

    fn host_name(&self) -> &str {
        let fleet = self.fleet.as_ref();
        fleet.map_or("this host", |fleet| fleet.options().name.as_str())
    }

    fn check_of(&self, id: WatchId, wave: usize) -> Option<&Probe> {
        let rollout = self.registry.get(id)?.watch.rollout.as_ref()?;
        rollout.waves.get(wave)?.check.as_ref()
    }

    /// Runs what waited for a former one to be gone.
    pub(super) fn run_due_checks(&mut self) {
        let waits = |check: &Check| check.run.is_none() && check.end.is_none();
        let waiting: Vec<_> = self
            .probes
            .checks
            .iter()
            .filter(|(_, check)| waits(check))
            .map(|(id, check)| (*id, check.number, check.wave))
            .collect();
        for (id, number, wave) in waiting {
            let watch = self.registry.get(id).map(|entry| Arc::clone(&entry.watch));
            let probe = self.check_of(id, wave).cloned();
            let (Some(watch), Some(probe)) = (watch, probe) else {
                self.probes.checks.remove(&id);
                continue;
            };
            if self.probes.is_ending(&watch.name, Occasion::Check) {
                continue;
            }
            info!(
                watch = &*watch.name,
                wave = wave + 1,
                "asking whether the next wave of the rollout may go"
            );
            let run = self.launch_probe(id, &watch, &probe, What::Check(number, wave), TIME);
            if let Some(check) = self.probes.checks.get_mut(&id) {
                check.run = Some(run);
            }
        }
    }

    /// What follows on a check. Whether somebody may ask for the run.
    pub(super) fn check_ended(
        &mut self,
        run: RunId,
        probe: &RunningProbe,
        (number, wave): (u64, usize),
        report: &RunReport,
    ) -> bool {
        let is_it = |check: &&mut Check| check.number == number && check.run == Some(run);
        if self.probes.checks.get_mut(&probe.id).filter(is_it).is_none() {
            return false;
        }
        let (watch, wave) = (&*probe.watch, wave + 1);
        let (end, is_kept) = match &report.outcome {
            Outcome::Exited(0) => (CheckEnd::Good, false),
            Outcome::Exited(NOT_YET) => (CheckEnd::NotYet, false),
            failed => {
                let (host, words) = (self.host_name(), Outcome::words(Some(failed)));
                let why = format!("the check of wave {wave} says no, {words}: on {host}, twitcher logs {run}");
                (CheckEnd::Bad(why), true)
            }
        };
        match &end {
            CheckEnd::Good => info!(watch, run_id = %run, wave, "the check says that the next wave may go"),
            CheckEnd::NotYet => info!(watch, run_id = %run, wave, "the check has no answer yet; it is asked again"),
            CheckEnd::Bad(why) => warn!(watch, run_id = %run, "{why}"),
        }
        if let Some(check) = self.probes.checks.get_mut(&probe.id) {
            (check.run, check.end) = (None, Some(end));
        }
        is_kept
    }
}
