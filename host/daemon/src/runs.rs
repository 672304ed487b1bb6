//! What the daemon knows of the runs that it launches, and what of it is remembered when they end.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use twitcher_actions::environment::{self, Deployer};
use twitcher_actions::payload::{self, Told, TooLarge};
use twitcher_launch::{Invocation, Purpose, RunReport, SecretValues, SurvivingRun};
use twitcher_model::{
    Action, Observation, Occasion, Overdue, Payload, Position, RunEnd, RunFacts, RunId, Seen, Stat, Trigger, Watch,
    WatchId,
};
use twitcher_scheduler::Start;
use twitcher_state::{self as state, EndedRun, Handled};

/// A run that goes on.
#[derive(Debug)]
pub struct ActiveRun {
    /// Which watch it belongs to.
    pub id: WatchId,
    /// The watch as it was when the run was decided on.
    pub watch: Arc<Watch>,
    /// Why it runs; none for one that was found.
    pub event: Option<Trigger>,
    attempt: u32,
    started: SystemTime,
    /// Its main process, once there is one.
    pid: Option<i32>,
    state: RunsFor,
    overdue: Option<Overdue>,
    /// What it is told to be there, if the next one is to be told what changed.
    told: Option<Told>,
    /// Whether its watch has a rollout, and it did not wait for its turn.
    pub ungoverned: bool,
}

/// The state that a run is for.
#[derive(Debug)]
enum RunsFor {
    /// As it was observed: the data is only read once the run has started.
    Observed(Observation),
    /// In the form that is remembered.
    Known(Position, Option<Stat>, Option<u32>),
    /// A found run's. Nobody will learn whether it succeeded.
    SurvivingRun,
}

impl ActiveRun {
    /// One that is about to be launched.
    pub fn new(id: WatchId, watch: &Arc<Watch>, start: &Start) -> Self {
        Self {
            id,
            watch: Arc::clone(watch),
            event: Some(start.event),
            attempt: start.attempt,
            started: SystemTime::now(),
            pid: None,
            state: RunsFor::Observed(start.observation.clone()),
            overdue: None,
            told: None,
            ungoverned: false,
        }
    }

    /// One of the last daemon.
    pub fn found(id: WatchId, watch: &Arc<Watch>, found: &SurvivingRun) -> Self {
        let now = SystemTime::now();
        Self {
            id,
            watch: Arc::clone(watch),
            event: None,
            attempt: 1,
            started: now.checked_sub(found.age()).unwrap_or(now),
            pid: Some(found.process.pid()),
            state: RunsFor::SurvivingRun,
            overdue: None,
            told: None,
            ungoverned: false,
        }
    }

    /// What is told of it while it goes on.
    pub fn facts(&self, run: RunId) -> RunFacts {
        RunFacts {
            run,
            watch: Arc::clone(&self.watch.name),
            event: self.event.map(Occasion::Action),
            attempt: self.attempt,
            started: self.started,
            pid: self.pid,
            overdue: self.overdue,
            end: None,
        }
    }

    /// Its time is up, if it is.
    pub fn overdue(&self) -> Option<Overdue> {
        self.overdue
    }

    /// Its time is up.
    pub fn set_overdue(&mut self, timeout: Duration, kill_after: Duration) {
        let now = SystemTime::now();
        let kill_at = now.checked_add(kill_after).unwrap_or(now);
        self.overdue = Some(Overdue { timeout, kill_at });
    }

    /// What is told of it now that it has ended.
    pub fn end_facts(&self, run: RunId, report: &RunReport) -> RunFacts {
        RunFacts {
            end: Some(RunEnd {
                outcome: Some(report.outcome.clone()),
                at: SystemTime::now(),
                elapsed: report.elapsed,
                max_rss_kib: report.max_rss_kib,
                output_bytes: report.output_bytes as u64,
                log_ended: report.log_ended,
            }),
            ..self.facts(run)
        }
    }

    /// What is told of it when nobody knows how it ended.
    pub fn vanished(&self, run: RunId) -> RunFacts {
        let at = SystemTime::now();
        RunFacts {
            end: Some(RunEnd {
                outcome: None,
                at,
                elapsed: at.duration_since(self.started).unwrap_or_default(),
                max_rss_kib: 0,
                output_bytes: 0,
                log_ended: false,
            }),
            ..self.facts(run)
        }
    }

    /// Its process exists: there is time now to look at the data, which the process has by itself.
    pub fn process_started(&mut self, run: RunId, pid: i32) -> state::StartedRun {
        self.started = SystemTime::now();
        self.pid = Some(pid);
        self.remember_position();
        state::StartedRun {
            run,
            watch: Arc::clone(&self.watch.name),
            started: self.started,
            attempt: self.attempt,
            event: self.event.map(Occasion::Action),
        }
    }

    fn remember_position(&mut self) {
        if let RunsFor::Observed(observation) = &self.state {
            self.state = RunsFor::Known(Position::of(observation), observation.stat, observation.size());
        }
    }

    /// What is handled now that it has succeeded.
    pub fn handled(&mut self, run: RunId) -> Option<Handled> {
        self.remember_position();
        match self.state {
            RunsFor::Known(position, stat, size) => Some(Handled {
                position,
                stat,
                size,
                run,
                at: SystemTime::now(),
            }),
            RunsFor::Observed(_) | RunsFor::SurvivingRun => None,
        }
    }

    /// It is for another state from now on.
    pub fn renewed(&mut self, observation: Observation, told: Option<Told>) {
        self.state = RunsFor::Observed(observation);
        self.told = told;
    }

    /// When it was started.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// How long it has been running.
    pub fn age(&self) -> Duration {
        self.started.elapsed().unwrap_or_default()
    }

    /// Notes what it is told to be there.
    pub fn tells(&mut self, told: Option<Told>) {
        self.told = told;
    }

    /// What it was told to be there.
    pub fn take_told(&mut self) -> Option<Told> {
        self.told.take()
    }

    /// The state that it is for, if that is known.
    pub fn seen(&mut self) -> Option<Seen> {
        self.remember_position();
        match self.state {
            RunsFor::Known(position, stat, _) => Some(Seen::new(position.version, stat, self.started)),
            RunsFor::Observed(_) | RunsFor::SurvivingRun => None,
        }
    }

    /// What becomes history.
    pub fn ended(&self, run: RunId, report: RunReport) -> EndedRun {
        EndedRun {
            run,
            watch: Arc::clone(&self.watch.name),
            event: self.event.map(Occasion::Action),
            attempt: self.attempt,
            outcome: Some(report.outcome),
            started: self.started,
            ended: SystemTime::now(),
            elapsed: report.elapsed,
            max_rss_kib: report.max_rss_kib,
            output_bytes: report.output_bytes as u64,
            log_ended: report.log_ended,
            output_tail: report.output_tail,
        }
    }
}

/// A command that runs for a component.
pub fn command(run: RunId, watch: &Arc<str>) -> state::StartedRun {
    state::StartedRun {
        run,
        watch: Arc::clone(watch),
        started: SystemTime::now(),
        attempt: 1,
        event: None,
    }
}

/// A run of the last daemon, where nothing else is known of it.
pub fn alive(found: &SurvivingRun) -> state::StartedRun {
    let now = SystemTime::now();
    state::StartedRun {
        run: found.run,
        watch: found.watch.as_str().into(),
        started: now.checked_sub(found.age()).unwrap_or(now),
        attempt: 1,
        event: None,
    }
}

/// What is launched for a start, with what it is deployed by, and what the run is told to be there.
///
/// # Errors
/// If what it is to have on stdin is too large.
pub fn invocation(
    watch: &Watch,
    start: Start,
    deployer: &Deployer,
    before: Option<&Told>,
) -> Result<(Invocation, Option<Told>), TooLarge> {
    let (stdin, told) = payload::stdin(watch, &start, before)?;
    let invocation = Invocation {
        run: start.run,
        watch: watch.name.clone(),
        task: environment::task(watch, &start, deployer),
        env: environment::environment(watch, &start),
        process: Arc::clone(&watch.process),
        purpose: Purpose {
            version: Some(start.observation.version),
            definition: definition(watch),
            stays: watch.policy.service.is_some(),
        },
        stdin,
        secrets: SecretValues::default(),
        capture: false,
        aside: false,
    };
    Ok((invocation, told))
}

/// Tells one definition of a watch from another, also for the next daemon: all of it but where it stands.
pub fn definition(watch: &Watch) -> u64 {
    let all = (
        watch.znode.as_str(),
        watch.watch_type,
        &watch.action,
        &*watch.description,
        &*watch.policy,
        &*watch.process,
    );
    // These types have no value that cannot be written as JSON.
    let secrets = match &watch.action {
        Action::Wasm(wasm) => &*wasm.grants.secrets,
        Action::Shell(_) | Action::Argv(_) | Action::Function(_) | Action::Deploy(_) => &[],
    };
    let text = match (watch.payload, secrets, &*watch.more) {
        // What earlier versions knew must mean the same.
        (Payload::Data, [], []) => serde_json::to_vec(&all),
        (payload, [], []) => serde_json::to_vec(&(all, payload)),
        (payload, secrets, []) => serde_json::to_vec(&(all, payload, secrets)),
        (payload, secrets, more) => serde_json::to_vec(&(all, payload, secrets, more)),
    }
    .unwrap_or_default();
    let hash: [u8; 32] = Sha256::digest(text).into();
    hash.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}
