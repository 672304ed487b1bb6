//! What a rollout asks of this host beside the action: whether the host is well once it has acted (`verify`), and, of the host of the
//! rollout's steward, whether the next wave may go (`check`).
//!
//! What is run is always what this host's own configuration says. Each is a run of its own, with the user, the limits and the environment of
//! its watch; it is no run of the watch's action, and nothing here starts or signals one. Of those that say that all is well nothing is
//! kept.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tracing::{info, warn};

use super::Daemon;
use super::fleet::state_id;
use twitcher_actions::environment;
use twitcher_fleet::rollout::{After, CheckEnd, SlotId, Streak, Verification};
use twitcher_fleet::{LastRun, StateId, outcome};
use twitcher_launch::protocol::Task;
use twitcher_launch::{Control, Invocation, Purpose, RunReport, SecretValues};
use twitcher_model::{Outcome, Phase, Probe, ProcessSettings, RunId, Verify, Watch, WatchId, timestamp};
use twitcher_sandbox::channel::Reason;
use twitcher_state::{EndedRun, StartedRun};

/// How long one run may take whose watch has no timeout.
const TIME: Duration = Duration::from_secs(300);
/// With this exit code a check is asked again.
const NOT_YET: i32 = 75;

/// The runs of `verify` and `check`, and what has come of them.
#[derive(Debug, Default)]
pub(super) struct Probes {
    running: HashMap<RunId, RunningProbe>,
    verifying: HashMap<WatchId, Verifying>,
    checks: HashMap<WatchId, Check>,
}

#[derive(Debug)]
struct RunningProbe {
    id: WatchId,
    watch: Arc<str>,
    started: SystemTime,
    kill_after: Duration,
    what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Verify(SlotId),
    /// The number of the event that asked for it, and of which wave it is.
    Check(u64, usize),
}

impl What {
    /// `TWITCHER_EVENT` of its runs.
    fn as_str(self) -> &'static str {
        match self {
            Self::Verify(_) => "verify",
            Self::Check(..) => "check",
        }
    }
}

/// Whether a host that has acted is well.
#[derive(Debug)]
struct Verifying {
    slot: SlotId,
    /// The state that it has acted for.
    of: StateId,
    since: SystemTime,
    streak: Streak,
    /// Whether it was well when it was last looked at.
    was_well: Option<bool>,
    /// The last run that said by itself that it was not.
    failure: Option<LastRun>,
    phase: VerifyPhase,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum VerifyPhase {
    Running(RunId),
    Pausing(Duration),
    Over(Verification),
}

/// The check that was asked for last.
#[derive(Debug)]
struct Check {
    number: u64,
    run: Option<RunId>,
    end: Option<CheckEnd>,
}

impl Probes {
    /// Whether none runs, nor will one by itself.
    pub(super) fn is_idle(&self) -> bool {
        let is_over = |verifying: &Verifying| matches!(verifying.phase, VerifyPhase::Over(_));
        self.running.is_empty() && self.verifying.values().all(is_over)
    }

    /// How long each that runs may take to end once it is told to.
    pub(super) fn kill_after(&self) -> impl Iterator<Item = Duration> {
        self.running.values().map(|probe| probe.kill_after)
    }

    /// When the next run is due.
    pub(super) fn next_due(&self) -> Option<Duration> {
        let due = |verifying: &Verifying| match verifying.phase {
            VerifyPhase::Pausing(until) => Some(until),
            VerifyPhase::Running(_) | VerifyPhase::Over(_) => None,
        };
        self.verifying.values().filter_map(due).min()
    }

    /// How far it is known whether the host is well.
    pub(super) fn verification(&self, id: WatchId) -> Option<(SlotId, Verification)> {
        let verifying = self.verifying.get(&id)?;
        let how = match verifying.phase {
            VerifyPhase::Over(how) => how,
            VerifyPhase::Running(_) | VerifyPhase::Pausing(_) => Verification::Running,
        };
        Some((verifying.slot, how))
    }

    /// Since when it is being found out whether the host is well.
    pub(super) fn verifying_since(&self, id: WatchId) -> Option<SystemTime> {
        let verifying = self.verifying.get(&id)?;
        (!matches!(verifying.phase, VerifyPhase::Over(_))).then_some(verifying.since)
    }

    /// What the check that was asked for last has come to.
    pub(super) fn check(&self, id: WatchId) -> Option<(u64, CheckEnd)> {
        let check = self.checks.get(&id)?;
        Some((check.number, check.end.clone()?))
    }
}

impl Daemon {
    /// Finds out whether the host is well that has acted for a state with this slot, unless it is at that already.
    pub(super) fn begin_verify(&mut self, id: WatchId, slot: SlotId, of: StateId) {
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
        let now = self.now();
        let verifying = Verifying {
            slot,
            of,
            since: SystemTime::now(),
            streak: Streak::begin(now),
            was_well: None,
            failure: None,
            phase: VerifyPhase::Pausing(now),
        };
        self.probes.verifying.insert(id, verifying);
        self.run_due_probes();
    }

    /// What was found out of a watch's host counts no more: its action runs, or what it has acted for is not the newest.
    pub(super) fn end_verify(&mut self, id: WatchId) {
        if let Some(Verifying {
            phase: VerifyPhase::Running(run),
            ..
        }) = self.probes.verifying.remove(&id)
        {
            self.launches.control(run, Control::Terminate(Reason::Superseded));
        }
    }

    /// The watch has seen a state.
    pub(super) fn end_verify_of_older(&mut self, id: WatchId) {
        let seen = self
            .registry
            .get(id)
            .and_then(|entry| entry.facts.seen.as_ref().map(state_id));
        let verifying = self.probes.verifying.get(&id);
        if verifying.is_some_and(|verifying| Some(verifying.of) != seen) {
            self.end_verify(id);
        }
    }

    /// The daemon stops: the next one begins anew with what is not known yet.
    pub(super) fn end_probes(&mut self) {
        self.probes.verifying.clear();
        self.probes.checks.clear();
        for run in self.probes.running.keys() {
            self.launches.control(*run, Control::Terminate(Reason::Shutdown));
        }
    }

    /// Runs the check of a wave.
    pub(super) fn begin_check(&mut self, id: WatchId, number: u64, wave: usize) {
        if let Some(Check { run: Some(run), .. }) = self.probes.checks.remove(&id) {
            self.launches.control(run, Control::Terminate(Reason::Superseded));
        }
        let Some(entry) = self.registry.get(id).filter(|_| self.phase != Phase::Draining) else {
            return;
        };
        let watch = Arc::clone(&entry.watch);
        let of_wave = watch
            .rollout
            .as_ref()
            .and_then(|rollout| rollout.waves.get(wave)?.check.clone());
        let (run, end) = match of_wave {
            Some(probe) => {
                info!(
                    watch = &*watch.name,
                    wave = wave + 1,
                    "asking whether the next wave of the rollout may go"
                );
                (
                    Some(self.launch_probe(id, &watch, &probe, What::Check(number, wave), TIME)),
                    None,
                )
            }
            None => {
                let host = self
                    .fleet
                    .as_ref()
                    .map_or("this host", |fleet| fleet.options().name.as_str());
                let why = format!(
                    "wave {} has a check, and the configuration of {host}, the steward, has none for it",
                    wave + 1
                );
                (None, Some(CheckEnd::Bad(why)))
            }
        };
        self.probes.checks.insert(id, Check { number, run, end });
    }

    /// Runs what is due.
    pub(super) fn run_due_probes(&mut self) {
        let now = self.now();
        let is_due = |verifying: &Verifying| matches!(verifying.phase, VerifyPhase::Pausing(until) if until <= now);
        let due: Vec<WatchId> = self
            .probes
            .verifying
            .iter()
            .filter_map(|(id, verifying)| is_due(verifying).then_some(*id))
            .collect();
        for id in due {
            let watch = self.registry.get(id).map(|entry| Arc::clone(&entry.watch));
            let verifying = self
                .probes
                .verifying
                .get(&id)
                .map(|verifying| (verifying.slot, verifying.streak));
            let (Some(watch), Some((slot, streak))) = (watch, verifying) else {
                self.end_verify(id);
                continue;
            };
            let Some(verify) = verify_of(&watch) else {
                // A new configuration wants none.
                self.end_verify(id);
                continue;
            };
            let left = streak.left(verify.deadline, now);
            if left.is_zero() {
                let verify = verify.clone();
                self.is_unwell(id, &verify);
                continue;
            }
            let run = self.launch_probe(id, &watch, &verify.probe, What::Verify(slot), left);
            if let Some(verifying) = self.probes.verifying.get_mut(&id) {
                verifying.phase = VerifyPhase::Running(run);
            }
        }
    }

    fn launch_probe(&mut self, id: WatchId, watch: &Watch, probe: &Probe, what: What, longest: Duration) -> RunId {
        let run = self.ids.allot();
        let seen = self.registry.get(id).and_then(|entry| entry.facts.seen);
        let process = ProcessSettings {
            hardening: probe.hardening.clone(),
            pipe_stdin: false,
            data_file: None,
            timeout: Some(watch.process.timeout.unwrap_or(TIME).min(longest)),
            ..(*watch.process).clone()
        };
        self.launches.launch(Invocation {
            run,
            watch: Arc::clone(&watch.name),
            task: Task::Exec(probe.argv.iter().map(|word| word.to_string()).collect()),
            env: environment::of_probe(watch, what.as_str(), seen.as_ref()),
            process: process.into(),
            stdin: Bytes::new(),
            purpose: Purpose::default(),
            secrets: SecretValues::default(),
            capture: false,
            aside: true,
        });
        let running = RunningProbe {
            id,
            watch: Arc::clone(&watch.name),
            started: SystemTime::now(),
            kill_after: watch.process.kill_after,
            what,
        };
        self.probes.running.insert(run, running);
        run
    }

    /// The process of a run exists. False if it is none of these.
    pub(super) fn probe_started(&mut self, run: RunId) -> bool {
        let Some(probe) = self.probes.running.get_mut(&run) else {
            return false;
        };
        probe.started = SystemTime::now();
        self.state.started(StartedRun {
            run,
            watch: Arc::clone(&probe.watch),
            started: probe.started,
            attempt: 1,
            event: None,
        });
        true
    }

    /// A run has ended. False if it is none of these.
    pub(super) fn probe_ended(&mut self, run: RunId, report: &RunReport) -> bool {
        let Some(probe) = self.probes.running.remove(&run) else {
            return false;
        };
        let is_kept = match probe.what {
            What::Verify(slot) => self.verify_ended(run, &probe, slot, report),
            What::Check(number, wave) => self.check_ended(run, &probe, (number, wave), report),
        };
        match is_kept {
            true => self.state.ended(ended(run, &probe, report.clone())),
            false => self.state.forget(run),
        }
        true
    }

    /// What follows on a run of `verify`. Whether somebody may ask for the run.
    fn verify_ended(&mut self, run: RunId, probe: &RunningProbe, slot: SlotId, report: &RunReport) -> bool {
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
            verifying.failure = Some(LastRun {
                run: run.to_string(),
                outcome: outcome(&format!("verify: {said}")),
                attempt: 1,
                started: timestamp(probe.started),
                seconds: (report.elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
                ungoverned: false,
            });
        }
        match after {
            After::Pause(pause) => verifying.phase = VerifyPhase::Pausing(now + pause),
            After::Well => {
                verifying.phase = VerifyPhase::Over(Verification::Well);
                info!(watch, "the host is well");
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

    /// What follows on a check. Whether somebody may ask for the run.
    fn check_ended(
        &mut self,
        run: RunId,
        probe: &RunningProbe,
        (number, wave): (u64, usize),
        report: &RunReport,
    ) -> bool {
        let is_it = |check: &&mut Check| check.number == number && check.run == Some(run);
        let Some(check) = self.probes.checks.get_mut(&probe.id).filter(is_it) else {
            return false;
        };
        check.run = None;
        let (watch, wave) = (&*probe.watch, wave + 1);
        let (end, is_kept) = match &report.outcome {
            Outcome::Exited(0) => (CheckEnd::Good, false),
            Outcome::Exited(NOT_YET) => (CheckEnd::NotYet, false),
            failed => {
                let host = self
                    .fleet
                    .as_ref()
                    .map_or("this host", |fleet| fleet.options().name.as_str());
                let words = Outcome::words(Some(failed));
                let why = format!("the check of wave {wave} says no, {words}: on {host}, twitcher logs {run}");
                (CheckEnd::Bad(why), true)
            }
        };
        match &end {
            CheckEnd::Good => info!(watch, run_id = %run, wave, "the check says that the next wave may go"),
            CheckEnd::NotYet => info!(watch, run_id = %run, wave, "the check has no answer yet; it is asked again"),
            CheckEnd::Bad(why) => warn!(watch, run_id = %run, "{why}"),
        }
        check.end = Some(end);
        is_kept
    }
}

fn verify_of(watch: &Watch) -> Option<&Verify> {
    watch.rollout.as_ref()?.verify.as_ref()
}

fn ended(run: RunId, probe: &RunningProbe, report: RunReport) -> EndedRun {
    EndedRun {
        run,
        watch: Arc::clone(&probe.watch),
        event: None,
        attempt: 1,
        outcome: Some(report.outcome),
        started: probe.started,
        ended: SystemTime::now(),
        elapsed: report.elapsed,
        max_rss_kib: report.max_rss_kib,
        output_bytes: report.output_bytes as u64,
        log_ended: report.log_ended,
        output_tail: report.output_tail,
    }
}
