//! What the machines of the watches decide, carried out.

use std::time::SystemTime;

use nix::sys::signal::Signal;
use tracing::{error, info, warn};

use super::Daemon;
use super::decision_log::{log_decision, log_would_run, paused_words};
use super::runs::{ActiveRun, definition, invocation};
use twitcher_launch::{Control, RunReport};
use twitcher_model::{EventKind, Position, WatchId};
use twitcher_sandbox::channel::Reason;
use twitcher_scheduler::{Cause, Decision, Effect, Ending, Input, MachineState};
use twitcher_state::Parked;

impl Daemon {
    pub(super) fn on_timers(&mut self) {
        for id in self.registry.take_due(self.now()) {
            self.advance(id, Input::Timer);
        }
    }

    pub(super) fn advance(&mut self, id: WatchId, input: Input) {
        let effects = self.step(id, input);
        self.carry_out(id, effects);
        self.admit();
        self.report(id);
    }

    /// Starts what waited for a place that there is now.
    pub(super) fn admit(&mut self) {
        while let Some(id) = self.admission.admit() {
            let effects = self.step(id, Input::Admitted);
            self.carry_out(id, effects);
        }
    }

    pub(super) fn step(&mut self, id: WatchId, input: Input) -> Vec<Effect> {
        let now = self.now();
        let mut effects = Vec::new();
        if let Some(entry) = self.registry.get_mut(id) {
            entry
                .machine
                .step(now, input, &mut self.ids, &mut self.admission, &mut effects);
        }
        effects
    }

    pub(super) fn carry_out(&mut self, id: WatchId, effects: Vec<Effect>) {
        if effects.iter().any(|effect| matches!(effect, Effect::Start(_))) {
            self.end_verify(id);
        }
        let mut pretended = Vec::new();
        let mut refused = Vec::new();
        let mut answers = Vec::new();
        for effect in effects {
            let Some(entry) = self.registry.get(id) else { break };
            let watch = &entry.watch;
            match effect {
                Effect::Start(start) if self.options.dry_run => {
                    log_would_run(watch, &start);
                    let (position, size) = (Position::of(&start.observation), start.observation.size());
                    pretended.push((start.run, position, size));
                }
                Effect::Start(start) => {
                    let run = start.run;
                    let mut running = ActiveRun::new(id, watch, &start);
                    running.ungoverned = self.turns.take_ungoverned(id);
                    match invocation(watch, start, &self.deployer, entry.told.as_deref()) {
                        Ok((invocation, told)) => {
                            running.tells(told);
                            self.launches.launch(invocation);
                        }
                        Err(too_large) => refused.push((run, too_large.outcome())),
                    }
                    self.runs.insert(run, running);
                }
                Effect::Notify { start, signal } => match Signal::try_from(signal) {
                    Ok(signal) => answers.extend(self.tell(id, start, signal)),
                    Err(_) => error!(watch = &*watch.name, signal, "no such signal"),
                },
                Effect::Up { run, state } => self.on_up(id, run, state),
                Effect::Terminate { run } => {
                    let why = match entry.machine.state() {
                        MachineState::Retired => "terminating the service: its watch was removed, or the daemon stops",
                        _ => "terminating the run for a newer update",
                    };
                    info!(watch = &*watch.name, run_id = %run, "{why}");
                    if self.options.dry_run {
                        let ending = Ending::Failed(Cause::Terminated);
                        answers.push(Input::Exited { run, ending });
                    } else if !self.survivors.terminate(run) {
                        self.launches.control(run, Control::Terminate(Reason::Superseded));
                    }
                }
                Effect::ArmTimer { at } => self.registry.set_timer(id, Some(at)),
                Effect::DisarmTimer => self.registry.set_timer(id, None),
                Effect::Park { run } => {
                    warn!(watch = &*watch.name, run_id = %run,
                        "watch parked: its action failed and on_failure is STOP; resume it, change its file or send SIGHUP to go on");
                    let failure = entry.facts.last_run.as_ref().and_then(|last| last.failure.as_deref());
                    let why = format!("{} (run {run}); on_failure is STOP", failure.unwrap_or("a run failed"));
                    let (definition, at) = (definition(watch), SystemTime::now());
                    self.state.parked(watch, Some(Parked { definition, why, at }));
                    self.metrics.parked.inc();
                    self.happened(EventKind::Held, id, None, || {
                        "watch parked: a run failed and on_failure is STOP".to_owned()
                    });
                }
                Effect::Record(decision) => {
                    log_decision(entry, decision);
                    let kind = match decision {
                        Decision::Resumed => {
                            self.state.parked(watch, None);
                            if !entry.machine.is_paused() {
                                self.state.paused(watch, None);
                            }
                            EventKind::Held
                        }
                        Decision::Paused => EventKind::Held,
                        Decision::Retries { .. } => {
                            self.metrics.retries.inc();
                            EventKind::Decided
                        }
                        _ => EventKind::Decided,
                    };
                    self.happened(kind, id, None, || match decision {
                        Decision::Paused => paused_words(self.registry.get(id)),
                        _ => decision.to_string(),
                    });
                    if decision == Decision::Resumed
                        && let Some(entry) = self.registry.get_mut(id)
                        && !entry.machine.is_paused()
                    {
                        entry.paused = None;
                    }
                }
            }
        }
        // What is not started counts as done at once: the next change is to be decided on as after a run.
        for (run, position, size) in pretended {
            if let Some(entry) = self.registry.get_mut(id) {
                entry.machine.succeeded(position.fingerprint(), size);
            }
            let is_service = self.registry.get(id).is_some_and(|entry| entry.machine.is_service(run));
            let ending = Ending::Succeeded;
            self.advance(
                id,
                match is_service {
                    true => Input::Started { run },
                    false => Input::Exited { run, ending },
                },
            );
        }
        for (run, outcome) in refused {
            self.on_ended(run, RunReport::of(outcome));
        }
        for answer in answers {
            self.advance(id, answer);
        }
    }
}
