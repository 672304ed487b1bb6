//! What becomes of runs: that they have started, and how they end.

use std::sync::Arc;
use std::time::SystemTime;

use tracing::info;

use super::decision_log::log_end;
use super::runs::ActiveRun;
use super::services::ServicePart;
use super::{Daemon, runs};
use twitcher_control::facts::LastRunFacts;
use twitcher_launch::{RunEvent, RunReport};
use twitcher_model::{EventKind, Outcome, RunId, Seen};
use twitcher_scheduler::{Cause, Ending, Input};

impl Daemon {
    pub(super) fn on_run(&mut self, event: RunEvent) {
        match event {
            RunEvent::Started { run, pid } => {
                if let Some(watch) = self.broker.watch_of(run) {
                    self.state.started(runs::command(run, watch));
                } else if self.probe_started(run, pid) {
                    // It is no run of an action.
                } else if let Some(running) = self.runs.get_mut(&run) {
                    self.state.started(running.process_started(run, pid));
                    let watch = &running.watch.name;
                    let event = running.event.map(tracing::field::display);
                    info!(watch = &**watch, run_id = %run, event, pid, "run started");
                    self.metrics.started.inc();
                    let (id, facts) = (running.id, running.facts(run));
                    self.happened(EventKind::Started, id, Some(facts), || match event {
                        Some(event) => format!("run started ({event})"),
                        None => "run started".to_owned(),
                    });
                    if self.registry.get(id).is_some_and(|entry| entry.machine.is_service(run)) {
                        self.advance(id, Input::Started { run });
                    }
                }
            }
            RunEvent::Asked {
                asker,
                question,
                answer,
            } => {
                let run = self.ids.allot();
                self.broker
                    .asked(asker, question, answer, run, &self.launches, &self.source.znodes);
            }
            RunEvent::Ended { run, mut report } => {
                if self.broker.ended(run, &mut report) {
                    self.state.forget(run);
                    return;
                }
                if self.probe_ended(run, &report) {
                    return;
                }
                self.broker.parent_ended(run, &self.launches);
                self.on_ended(run, report);
            }
            RunEvent::Overdue {
                run,
                timeout,
                kill_after,
            } => {
                if !self.probe_overdue(run, timeout, kill_after) {
                    self.on_overdue(run, timeout, kill_after);
                }
            }
            RunEvent::Told { run, failed } => self.on_told(run, failed),
            RunEvent::LauncherReplaced { .. } => self.metrics.launcher_restarts.inc(),
        }
    }

    pub(super) fn on_ended(&mut self, run: RunId, report: RunReport) {
        let Some(mut running) = self.runs.remove(&run) else {
            return;
        };
        let ending = Ending::from(&report.outcome);
        let id = running.id;
        let part = ServicePart::of(self.registry.get(id), run);
        log_end(&running.watch, run, &report, part == ServicePart::Replaced);
        let success = report.outcome.is_success() && part == ServicePart::None;
        if success {
            self.note_success(run, &mut running);
        }
        let outcome = Outcome::code(Some(&report.outcome));
        self.metrics
            .ended(outcome, report.elapsed, report.cpu, report.max_rss_kib);
        let facts = running.end_facts(run, &report);
        if part != ServicePart::Replaced {
            self.note_result(run, &mut running, &report);
        }
        if let Some(entry) = self.registry.get_mut(id) {
            entry.facts.last_run = Some(Box::new(LastRunFacts {
                run,
                ended: SystemTime::now(),
                outcome,
                failure: part.failure(&report.outcome).map(Arc::from),
            }));
        }
        let said = Outcome::words(Some(&report.outcome));
        let behind = self.registry.get(id).and_then(|entry| entry.machine.behind());
        self.state.ended(running.ended(run, report));
        self.advance(id, Input::Exited { run, ending });
        if let Some(since) = behind.filter(|_| success) {
            self.metrics.lag.observe(self.now().saturating_sub(since).as_secs_f64());
        }
        self.happened(EventKind::Ended, id, Some(facts), || format!("run ended: {said}"));
        self.registry.forget_if_finished(id);
    }

    /// A run has handled the state that it is for.
    pub(super) fn note_success(&mut self, run: RunId, running: &mut ActiveRun) {
        let Some(handled) = running.handled(run) else { return };
        self.state.handled(&running.watch, handled);
        if let Some(entry) = self.registry.get_mut(running.id)
            && entry.watch.looks_at_same(&running.watch)
        {
            if let Some(told) = running.take_told()
                && entry.told.as_ref().is_none_or(|before| !told.is_older_than(before))
            {
                entry.told = Some(Box::new(told));
            }
            entry.machine.succeeded(handled.position.fingerprint(), handled.size);
            entry.facts.handled = Some(Seen::new(handled.position.version, handled.stat, handled.at));
        }
    }

    pub(super) fn on_survivor_ended(&mut self, run: RunId) {
        self.state.vanished(run);
        let Some(running) = self.runs.remove(&run) else {
            // A verify that was left behind: another may have waited for its end.
            return self.run_due_probes();
        };
        let facts = running.vanished(run);
        let ActiveRun { id, watch, .. } = running;
        self.metrics.runs.with_label_values(&[Outcome::code(None)]).inc();
        info!(watch = &*watch.name, run_id = %run, "the run of the last daemon has ended; how, nobody knows");
        let ending = Ending::Failed(Cause::Terminated);
        self.advance(id, Input::Exited { run, ending });
        self.happened(EventKind::Ended, id, Some(facts), || {
            "run ended; how, nobody knows".to_owned()
        });
        self.registry.forget_if_finished(id);
    }
}
