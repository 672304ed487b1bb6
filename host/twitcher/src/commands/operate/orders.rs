//! The commands that tell the daemon to do something: run-now, pause, resume, reload, drain.

use std::time::{Duration, Instant};

use serde::Deserialize;

use super::Session;
use super::client::{Answer, Events, LONG_PATIENCE, Next, path, query};
use super::error::OperateError;
use super::queries::understood;
use super::view;
use crate::args::{self, exit};
use crate::spinner::Spinner;
use twitcher_control::api::{EventKind, Phase, Reloaded, Run, Runs, Started, Status, WatchState, WatchSummary};
use twitcher_model::sanitize;

/// How often a daemon that drains is asked how far it is.
const EVERY: Duration = Duration::from_millis(200);
/// How long the daemon may take for an order: it only notes it.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
struct Summaries {
    watches: Vec<WatchSummary>,
}

impl Session {
    /// `run-now`
    pub(super) fn run_now(&self, arguments: &args::RunNowArguments) -> Result<u8, OperateError> {
        let name = &arguments.watch;
        // Before anything starts, or its end might be missed.
        let events = match arguments.wait {
            true => Some(
                self.client
                    .follow(&query("/v1/events", &[("watch", Some(name))]), false)?,
            ),
            false => None,
        };
        let how = query("/run", &[("ungoverned", arguments.ungoverned.then_some("true"))]);
        let answer = self.order(name, &how)?;
        let Some(events) = events else {
            match self.out.json {
                true => self.out.json(&answer.bytes)?,
                false => self.out.say(&view::started(&answer.parse::<Started>()?, &self.look))?,
            }
            return Ok(exit::SUCCESS);
        };
        let spinner = Spinner::new(format!("{}: waiting for its end", sanitize::line(name)));
        let run = ended(events, answer.parse::<Started>()?.run)?;
        drop(spinner);
        let answer = self.run_detail(&run)?;
        let detail = answer.run()?;
        match self.out.json {
            true => self.out.json(&answer.bytes)?,
            false => self.out.print(&view::output(&detail, &self.look_now()))?,
        }
        Ok(match detail.run.outcome.as_deref() {
            Some("success") => exit::SUCCESS,
            _ => exit::FAILURE,
        })
    }

    /// `pause`
    pub(super) fn pause(&self, arguments: &args::PauseArguments) -> Result<u8, OperateError> {
        let order = query("/pause", &[("reason", arguments.reason.as_deref())]);
        self.hold(&arguments.watches, &order)
    }

    /// `resume`
    pub(super) fn resume(&self, arguments: &args::ResumeArguments) -> Result<u8, OperateError> {
        if !arguments.all {
            return self.hold(&arguments.watches, "/resume");
        }
        let all: Summaries = self.client.get("/v1/watches")?.parse()?;
        let held = |watch: &WatchSummary| matches!(watch.state, WatchState::Paused | WatchState::Parked);
        let names: Vec<String> = all.watches.into_iter().filter(held).map(|watch| watch.name).collect();
        if names.is_empty() && !self.out.json {
            self.out.print("no watch is paused or parked\n")?;
        }
        self.hold(&names, "/resume")
    }

    /// Gives all the order, also when one of them does not take it.
    fn hold(&self, watches: &[String], order: &str) -> Result<u8, OperateError> {
        let mut failed = None;
        for name in watches {
            match self.order(name, order) {
                Ok(answer) if self.out.json => self.out.json(&answer.bytes)?,
                Ok(answer) => self.out.say(&view::held(&answer.parse()?, &self.look))?,
                Err(error @ OperateError::Refused { .. }) => failed = Some(error),
                Err(error) => return Err(error),
            }
        }
        failed.map_or(Ok(exit::SUCCESS), Err)
    }

    fn order(&self, watch: &str, order: &str) -> Result<Answer, OperateError> {
        self.of_watch(watch, self.client.post(&path("watches", watch, order), PATIENCE))
    }

    /// `reload`
    pub(super) fn reload(&self) -> Result<u8, OperateError> {
        let spinner = Spinner::new("loading the configuration");
        let answer = self.client.post("/v1/reload", LONG_PATIENCE);
        drop(spinner);
        let answer = answer?;
        let reloaded: Reloaded = answer.parse()?;
        match self.out.json {
            true => self.out.json(&answer.bytes)?,
            false => {
                self.out.say(&view::reloaded(&reloaded, &self.look))?;
                for error in &reloaded.errors {
                    eprintln!("{}", sanitize::lines(error));
                }
            }
        }
        Ok(match reloaded.errors.is_empty() {
            true => exit::SUCCESS,
            false => exit::FAILURE,
        })
    }

    /// `drain`
    pub(super) fn drain(&self, arguments: &args::DrainArguments) -> Result<u8, OperateError> {
        if let Some(name) = arguments.watches.first() {
            return Err(OperateError::NotAWatch(name.clone()));
        }
        let end = arguments.timeout.map(|timeout| Instant::now() + timeout);
        let mut first: Status = self.client.get("/v1/status")?.parse()?;
        let mut refused = match self.client.post("/v1/drain", PATIENCE) {
            Ok(answer) => {
                first = answer.parse()?;
                if self.out.json {
                    self.out.json(&answer.bytes)?;
                }
                None
            }
            // Where nothing runs it may end before it answers.
            Err(error) if error.is_gone() || error.is_passing() => Some(error),
            Err(error) => return Err(error),
        };
        let begun = view::draining(&first, &self.running(&first), &self.look);
        if first.running > 0 {
            // Also where nobody sees the spinner.
            self.said(&format!("{begun}\n"))?;
        }
        let spinner = Spinner::new(begun);
        let mut terminated = Vec::new();
        loop {
            let status: Status = match self.client.get("/v1/status").and_then(|answer| answer.parse()) {
                Ok(status) => status,
                Err(error) if error.is_gone() => break,
                Err(error) if error.is_passing() && end.is_none_or(|end| Instant::now() < end) => {
                    std::thread::sleep(EVERY);
                    continue;
                }
                Err(error) => return Err(error),
            };
            if (status.pid, status.started) != (first.pid, first.started) {
                drop(spinner);
                return self.said(&format!(
                    "the daemon has ended; another one, pid {}, has been started since\n",
                    status.pid
                ));
            }
            if let Some(refused) = refused.take().filter(|_| status.phase != Phase::Draining) {
                return Err(refused);
            }
            let running = self.running(&status);
            if status.drain.is_some_and(|drain| drain.terminating) && terminated.is_empty() {
                terminated.clone_from(&running);
            }
            let text = view::draining(&status, &running, &self.look_now());
            if end.is_some_and(|end| Instant::now() >= end) {
                drop(spinner);
                eprintln!("twitcher: {text}; it goes on draining");
                return Ok(exit::FAILURE);
            }
            spinner.say(text);
            std::thread::sleep(EVERY);
        }
        drop(spinner);
        self.said(&view::drained(&terminated))
    }

    /// What runs. Only for show: without an answer it is nothing.
    fn running(&self, status: &Status) -> Vec<Run> {
        if status.running == 0 {
            return Vec::new();
        }
        let asked = query("/v1/runs", &[("outcome", Some("running")), ("limit", Some("1000"))]);
        let running = self.client.get(&asked).and_then(|answer| answer.parse::<Runs>());
        running.map_or_else(|_| Vec::new(), |all| all.runs)
    }

    fn said(&self, text: &str) -> Result<u8, OperateError> {
        if !self.out.json {
            self.out.print(text)?;
        }
        Ok(exit::SUCCESS)
    }
}

/// Waits for the end of a run: of this one, or of the one that starts next.
fn ended(mut events: Events<'_>, mut wanted: Option<String>) -> Result<String, OperateError> {
    loop {
        let event = match events.next(None)? {
            Next::Event(data) => understood(&data)?,
            Next::Quiet | Next::End => return Err(OperateError::Ended),
        };
        let Some(run) = event.run else {
            if event.kind == EventKind::Lost {
                return Err(OperateError::Events(
                    "some were lost, and with them perhaps the end of the run",
                ));
            }
            continue;
        };
        match event.kind {
            EventKind::Started if wanted.is_none() => wanted = Some(run.run),
            EventKind::Ended if wanted.as_ref() == Some(&run.run) => return Ok(run.run),
            _ => {}
        }
    }
}
