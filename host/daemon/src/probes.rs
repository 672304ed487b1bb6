//! What a rollout asks of this host beside the action: whether the host is well once it has acted (`verify`), and, of the host of the
//! rollout's steward, whether the next wave may go (`check`).
//!
//! What is run is always what this host's own configuration says. Each is a run of its own, with the user, the limits and the environment of
//! its watch; it is no run of the watch's action, and nothing here starts or signals one. Of those that say that all is well nothing is
//! kept.
//!
//! Of a watch one verify runs at most, and one check. One that is not wanted any more is terminated, and has `kill_after` until SIGKILL as
//! every run has; until it is gone the next one waits, and so does the turn of the watch's action, which would find beside it what still
//! uses the ports and files that the action is about to change.

mod checking;
mod verifying;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::Daemon;
use checking::Check;
use twitcher_actions::environment;
use twitcher_control::facts::VerifyFacts;
use twitcher_fleet::LastRun;
use twitcher_fleet::rollout::{CheckEnd, SlotId, Verification};
use twitcher_launch::protocol::Task;
use twitcher_launch::{Control, Invocation, Purpose, RunReport, SecretValues};
use twitcher_model::{Occasion, Overdue, Phase, Probe, ProcessSettings, RunFacts, RunId, Watch, WatchId};
use twitcher_sandbox::channel::Reason;
use twitcher_scheduler::MachineState;
use twitcher_state::{EndedRun, StartedRun};
pub(super) use verifying::verify_of;
use verifying::{VerifyPhase, Verifying};

/// How long one run may take whose watch has no timeout.
const TIME: Duration = Duration::from_secs(300);

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
    pid: Option<i32>,
    kill_after: Duration,
    what: What,
    /// Its answer is not wanted any more: it was terminated, and SIGKILL follows then.
    ends: Option<SystemTime>,
    /// Its time is up.
    overdue: Option<Overdue>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Verify(SlotId),
    /// The number of the event that asked for it, and of which wave it is.
    Check(u64, usize),
}

impl What {
    /// `TWITCHER_EVENT` of its runs.
    fn occasion(self) -> Occasion {
        match self {
            Self::Verify(_) => Occasion::Verify,
            Self::Check(..) => Occasion::Check,
        }
    }
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
            VerifyPhase::Waiting | VerifyPhase::Running(_) | VerifyPhase::Over(_) => None,
        };
        self.verifying.values().filter_map(due).min()
    }

    /// How far it is known whether the host is well.
    pub(super) fn verification(&self, id: WatchId) -> Option<(SlotId, Verification)> {
        let verifying = self.verifying.get(&id)?;
        let how = match verifying.phase {
            VerifyPhase::Over(how) => how,
            VerifyPhase::Waiting | VerifyPhase::Running(_) | VerifyPhase::Pausing(_) => Verification::Running,
        };
        Some((verifying.slot, how))
    }

    /// What the fleet is told of a host that is not well, while it is being found out whether it gets so.
    pub(super) fn failure(&self, id: WatchId) -> Option<&LastRun> {
        let verifying = self.verifying.get(&id)?;
        let is_over = matches!(verifying.phase, VerifyPhase::Over(_));
        verifying.told.as_ref().filter(|_| !is_over)
    }

    /// What the check that was asked for last has come to.
    pub(super) fn check(&self, id: WatchId) -> Option<(u64, CheckEnd)> {
        let check = self.checks.get(&id)?;
        Some((check.number, check.end.clone()?))
    }

    /// What operators are told of a watch's verify, if it is being found out whether the host is well or one that was ended still runs.
    pub(super) fn verify_facts(&self, id: WatchId, watch: &str) -> Option<VerifyFacts> {
        let verifying = self.verifying.get(&id);
        let verifying = verifying.filter(|verifying| !matches!(verifying.phase, VerifyPhase::Over(_)));
        let ending = self.running.iter().find_map(|(run, probe)| {
            let is_it = &*probe.watch == watch && matches!(probe.what, What::Verify(_));
            Some((*run, probe.ends.filter(|_| is_it)?))
        });
        (verifying.is_some() || ending.is_some()).then(|| VerifyFacts {
            since: verifying.map(|verifying| verifying.since),
            run: verifying.and_then(|verifying| match verifying.phase {
                VerifyPhase::Running(run) => Some(run),
                VerifyPhase::Waiting | VerifyPhase::Pausing(_) | VerifyPhase::Over(_) => None,
            }),
            said: verifying.and_then(|verifying| Some(verifying.failure.as_ref()?.outcome.clone())),
            ending,
        })
    }

    /// Those that run.
    pub(super) fn facts(&self) -> impl Iterator<Item = RunFacts> {
        self.running.iter().map(|(run, probe)| RunFacts {
            run: *run,
            watch: Arc::clone(&probe.watch),
            event: Some(probe.what.occasion()),
            attempt: 1,
            started: probe.started,
            pid: probe.pid,
            overdue: probe.overdue,
            end: None,
        })
    }

    /// Whether one of a watch runs whose answer is not wanted any more.
    fn is_ending(&self, watch: &str, occasion: Occasion) -> bool {
        let mut running = self.running.values();
        running.any(|probe| &*probe.watch == watch && probe.what.occasion() == occasion && probe.ends.is_some())
    }
}

impl Daemon {
    /// Whether a verify of the watch still runs that has nobody to answer to.
    pub(super) fn has_stale_verify(&self, watch: &str) -> bool {
        self.probes.is_ending(watch, Occasion::Verify) || self.survivors.is_probing(watch)
    }

    /// The configuration is another one: of watches that were removed, or have no rollout any more, nobody wants to know anything.
    pub(super) fn end_stray_probes(&mut self) {
        let known: Vec<WatchId> = (self.probes.verifying.keys().chain(self.probes.checks.keys()))
            .copied()
            .collect();
        for id in known {
            let entry = self.registry.get(id);
            if entry.is_none_or(|entry| entry.machine.state() == MachineState::Retired || entry.watch.rollout.is_none())
            {
                self.end_verify(id);
                self.end_check(id);
            }
        }
    }

    /// The daemon stops: the next one begins anew with what is not known yet.
    pub(super) fn end_probes(&mut self) {
        self.probes.verifying.clear();
        self.probes.checks.clear();
        let all: Vec<RunId> = self.probes.running.keys().copied().collect();
        for run in all {
            self.terminate_probe(run, Reason::Shutdown);
        }
    }

    fn terminate_probe(&mut self, run: RunId, why: Reason) {
        if let Some(probe) = self.probes.running.get_mut(&run) {
            let now = SystemTime::now();
            probe
                .ends
                .get_or_insert_with(|| now.checked_add(probe.kill_after).unwrap_or(now));
        }
        self.launches.control(run, Control::Terminate(why));
    }

    /// Runs what is due.
    pub(super) fn run_due_probes(&mut self) {
        if self.phase != Phase::Draining {
            self.run_due_verifies();
            self.run_due_checks();
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
            env: environment::of_probe(watch, what.occasion().as_str(), seen.as_ref()),
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
            pid: None,
            kill_after: watch.process.kill_after,
            what,
            ends: None,
            overdue: None,
        };
        self.probes.running.insert(run, running);
        run
    }

    /// The process of a run exists. False if it is none of these.
    pub(super) fn probe_started(&mut self, run: RunId, pid: i32) -> bool {
        let Some(probe) = self.probes.running.get_mut(&run) else {
            return false;
        };
        (probe.started, probe.pid) = (SystemTime::now(), Some(pid));
        self.state.started(StartedRun {
            run,
            watch: Arc::clone(&probe.watch),
            started: probe.started,
            attempt: 1,
            event: Some(probe.what.occasion()),
        });
        true
    }

    /// The time of a run is up. False if it is none of these.
    pub(super) fn probe_overdue(&mut self, run: RunId, timeout: Duration, kill_after: Duration) -> bool {
        let Some(probe) = self.probes.running.get_mut(&run) else {
            return false;
        };
        let now = SystemTime::now();
        let kill_at = now.checked_add(kill_after).unwrap_or(now);
        probe.overdue = Some(Overdue { timeout, kill_at });
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
        // Another may have waited for that.
        self.run_due_probes();
        true
    }
}

fn ended(run: RunId, probe: &RunningProbe, report: RunReport) -> EndedRun {
    EndedRun {
        run,
        watch: Arc::clone(&probe.watch),
        event: Some(probe.what.occasion()),
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
