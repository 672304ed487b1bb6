//! Programs that stay: what is told to them, and what it means that they are still there, or not.

use std::time::SystemTime;

use nix::sys::signal::Signal;
use tracing::{info, warn};

use super::Daemon;
use super::watches::ActiveWatch;
use twitcher_actions::payload;
use twitcher_control::facts::LastRunFacts;
use twitcher_launch::{Control, Renewal, RunReport};
use twitcher_model::{EventKind, Observation, Outcome, RunId, WatchId};
use twitcher_scheduler::{Cause, Input, Start};

/// What a run that has ended was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ServicePart {
    /// No program that stays.
    None,
    /// One that has ended by itself.
    Left,
    /// One that was terminated, for a newer state or because it was not wanted any more.
    Replaced,
}

impl ServicePart {
    pub(super) fn of(entry: Option<&ActiveWatch>, run: RunId) -> Self {
        match entry.map(|entry| &entry.machine) {
            Some(machine) if machine.is_replaced(run) => Self::Replaced,
            Some(machine) if machine.is_service(run) => Self::Left,
            _ => Self::None,
        }
    }

    /// How the run failed, if it did.
    pub(super) fn failure(self, outcome: &Outcome) -> Option<String> {
        match self {
            Self::Replaced => None,
            Self::Left if outcome.is_success() => Some("the service has ended (success)".to_owned()),
            Self::None if outcome.is_success() => None,
            Self::None | Self::Left => Some(Outcome::words(Some(outcome))),
        }
    }
}

impl Daemon {
    /// Tells a run of a newer state. What the machine is told at once, if that is known.
    pub(super) fn tell(&mut self, id: WatchId, start: Start, signal: Signal) -> Option<Input> {
        let entry = self.registry.get(id)?;
        let (watch, run) = (&entry.watch, start.run);
        let is_service = entry.machine.is_service(run);
        info!(watch = &*watch.name, run_id = %run, %signal, "telling the running action of a newer update");
        if self.options.dry_run {
            return is_service.then_some(Input::Told { run, failed: None });
        }
        if !is_service && watch.process.data_file.is_none() {
            self.launches.control(run, Control::Notify(signal));
            return None;
        }
        let (data, told) = match payload::stdin(watch, &start, entry.told.as_deref()) {
            Ok(stdin) => stdin,
            Err(too_large) => return self.could_not_tell(run, &too_large.outcome()),
        };
        let renewal = Renewal {
            watch: watch.name.clone(),
            process: watch.process.clone(),
            data,
            signal,
        };
        if is_service && let Some(running) = self.runs.get_mut(&run) {
            running.renewed(start.observation, told);
        }
        self.launches.control(run, Control::Renew(Box::new(renewal)));
        None
    }

    /// A run was told of a newer state, or could not be.
    pub(super) fn on_told(&mut self, run: RunId, failed: Option<Outcome>) {
        let Some(id) = self.runs.get(&run).map(|running| running.id) else {
            return;
        };
        let input = match failed {
            None => {
                // Its file was written. What the last daemon started is none of the launcher's, which sends signals else.
                if let Some(signal) = self.notify_signal(id) {
                    self.survivors.notify(run, signal);
                }
                Some(Input::Told { run, failed: None })
            }
            Some(outcome) => self.could_not_tell(run, &outcome),
        };
        if let Some(input) = input {
            self.advance(id, input);
        }
    }

    fn notify_signal(&self, id: WatchId) -> Option<Signal> {
        let number = self.registry.get(id)?.watch.policy.notify_signal?;
        Signal::try_from(number).ok()
    }

    fn could_not_tell(&mut self, run: RunId, outcome: &Outcome) -> Option<Input> {
        let running = self.runs.get(&run)?;
        let (id, watch) = (running.id, &running.watch.name);
        warn!(watch = &**watch, run_id = %run, "the running action is not told of a newer update: {outcome}");
        let entry = self.registry.get_mut(id)?;
        if !entry.machine.is_service(run) {
            // The update waits, and runs when this one has ended.
            return None;
        }
        entry.facts.last_run = Some(Box::new(LastRunFacts {
            run,
            ended: SystemTime::now(),
            outcome: Outcome::code(Some(outcome)),
            failure: Some(Outcome::words(Some(outcome)).into()),
        }));
        let failed = Some(Cause::Untold);
        Some(Input::Told { run, failed })
    }

    /// A program that stays has handled its state: `state`, if it was found.
    pub(super) fn on_up(&mut self, id: WatchId, run: RunId, state: Option<Observation>) {
        // There is none in a dry run.
        let Some(mut running) = self.runs.remove(&run) else {
            return;
        };
        if let Some(state) = state {
            running.renewed(state, None);
        }
        self.note_success(run, &mut running);
        let report = RunReport {
            elapsed: running.age(),
            ..RunReport::of(Outcome::Exited(0))
        };
        self.note_result(run, &mut running, &report);
        info!(watch = &*running.watch.name, run_id = %run, "the service is up");
        let facts = running.facts(run);
        self.runs.insert(run, running);
        self.happened(EventKind::Decided, id, Some(facts), || "the service is up".to_owned());
    }
}
