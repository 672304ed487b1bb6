//! The daemon: wires source, scheduler, launcher and configuration together, and lives until a signal ends it.
//!
//! One thread and one loop own all state, so nothing is locked and every decision sees the whole. What may take long is done
//! elsewhere and comes back as an event: the configuration is loaded on a thread of its own, processes are followed by tasks.
//!
//! ```text
//! source (tasks) ── reports ──▶ ┌──────────────────┐ ── launches ──▶ launcher (process), supervised by a task
//! loader (thread) ── loads ───▶ │ loop: one thread │ ── notes ─────▶ state (thread that has the database)
//! runs (tasks) ──── ends ─────▶ │ owns everything  │ ── facts ─────▶ control (thread that answers operators)
//! signals, timers, operators ─▶ └──────────────────┘
//! ```
//!
//! No other crate but the program may use this one.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod apply_config;
mod decision_log;
mod fleet;
mod loader;
mod notify;
mod once;
mod operators;
mod probes;
mod rollouts;
mod runs;
mod service_manager;
mod services;
mod several;
mod stopping;
mod survivors;
mod trouble;
mod watches;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::task::yield_now;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{error, info, warn};

use twitcher_actions::Broker;
use twitcher_actions::environment::Deployer;
use twitcher_components::{BundleLocations, ComponentFinder};
use twitcher_config::change_watcher::Watcher;
use twitcher_control::daemon_requests::{self, RequestQueue};
use twitcher_control::facts::LastRunFacts;
use twitcher_control::listeners::Listeners;
use twitcher_control::{App, EventRing, Server, ServerLimits};
use twitcher_fleet::{Fleet, FleetOptions};
use twitcher_launch::{
    Control, JournalError, Launcher, Launches, RunEvent, RunReport, SurvivingRun, release_free_memory,
};
use twitcher_model::{EventKind, Observation, Outcome, Phase, Position, RunId, Seen, Version, WatchId};
use twitcher_observe::Log;
use twitcher_observe::metrics::Metrics;
use twitcher_process::cgroup::CgroupError;
use twitcher_sandbox::channel::Reason;
use twitcher_sandbox::code_cache::CacheUse;
use twitcher_scheduler::{Admission, Cause, Decision, Effect, Ending, Input, MachineState, RunIds};
use twitcher_source::{Change, Source, SourceReport, tree, zookeeper};
use twitcher_state::{self as state, Parked, StateStore};

use apply_config::LastLoad;
use decision_log::{FirstLooks, is_change, log_decision, log_end, log_would_run, paused_words};
use loader::Loader;
use operators::{Answer, WaitingOperators};
use probes::Probes;
use rollouts::Turns;
use runs::{ActiveRun, definition, invocation};
use service_manager::ServiceManager;
use services::ServicePart;
use several::Parts;
use stopping::Draining;
use survivors::Survivors;
use watches::ActiveWatches;

/// How long files must be quiet before the configuration is loaded again.
const SETTLE: Duration = Duration::from_millis(200);
/// How long a source that ended is left alone.
const SOURCE_RESTART: Duration = Duration::from_secs(1);
/// How long after SIGKILL a run may take to be gone before the daemon stops without it.
const LAST_GRACE: Duration = Duration::from_secs(3);
/// What a process of a component that waits holds at least, in bytes.
const ONE_WARM: u64 = 2 << 20;
/// How long the source is given at the end to close its session.
const GOODBYE: Duration = Duration::from_millis(100);

/// What a daemon needs to know.
#[derive(Debug)]
pub struct DaemonOptions {
    /// Configuration files and directories.
    pub config: Vec<PathBuf>,
    /// The program that evaluates `.twc` files when called with `evaluate`: this one.
    pub program: PathBuf,
    /// What is watched.
    pub source: SourceOptions,
    /// Where it is kept what the next daemon must know.
    pub state_dir: PathBuf,
    /// Where native code is kept.
    pub code_dir: PathBuf,
    /// Whether each watch's action runs for what its znode is now, and the daemon ends then.
    pub once: bool,
    /// Whether everything is decided and nothing started, nor written down.
    pub dry_run: bool,
    /// How much of what ran is kept there.
    pub history: state::HistoryLimits,
    /// The runs of the last daemon that the journal has; or why there is no journal.
    pub found: Result<Vec<SurvivingRun>, JournalError>,
    /// Why runs have no cgroups of their own, if they have none.
    pub no_cgroups: Option<CgroupError>,
    /// Where bundles come from, and whose.
    pub sources: BundleLocations,
    /// Which fleet it is in, if it is to be in one.
    pub fleet: Option<FleetOptions>,
    /// Where operators find the control interface.
    pub listeners: Listeners,
    /// How long running actions may take to end once the daemon stops.
    pub drain_timeout: Duration,
    /// Most actions that may run at once. Commands that components have run come on top, at most one for each action.
    pub max_running: usize,
    /// Most processes that may run at once, of actions and of commands.
    pub max_processes: usize,
    /// Most memory that processes of components may hold which wait for their next runs, in bytes; with 0 there are none.
    pub warm_memory: u64,
}

/// Where observations come from.
#[derive(Debug, Clone)]
pub enum SourceOptions {
    /// A ZooKeeper ensemble.
    ZooKeeper(Box<zookeeper::ZooKeeperOptions>),
    /// A local directory.
    Tree(tree::TreeOptions),
}

impl SourceOptions {
    /// Starts it. To be called within a tokio runtime.
    pub fn spawn(&self) -> anyhow::Result<Source> {
        match self {
            SourceOptions::ZooKeeper(options) => Ok(zookeeper::spawn((**options).clone())),
            SourceOptions::Tree(options) => tree::spawn(options.clone()).context("cannot watch the tree"),
        }
    }

    /// What it is and where.
    fn name(&self) -> (&'static str, String) {
        match self {
            SourceOptions::ZooKeeper(options) => ("zookeeper", options.servers.to_string()),
            SourceOptions::Tree(options) => ("tree", options.root.display().to_string()),
        }
    }
}

/// How a daemon ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DaemonEnd {
    /// Every run had ended.
    Drained,
    /// Some runs were terminated.
    Terminated,
    /// It was to run once, and not all of it succeeded.
    Unsuccessful,
}

/// Runs until SIGTERM or SIGINT. Must be called in a `LocalSet` on a current-thread runtime.
pub async fn run(mut options: DaemonOptions, launcher: Launcher, log: Log) -> anyhow::Result<DaemonEnd> {
    let found = std::mem::replace(&mut options.found, Ok(Vec::new())).unwrap_or_else(|error| {
        error!("{error}; the daemon goes on, but neither is a second one kept out, nor does the next one find every running action");
        Vec::new()
    });
    let alive = found.iter().map(runs::alive).collect();
    let (state, newest) = match options.dry_run {
        true => StateStore::look(&options.state_dir),
        false => StateStore::open(&options.state_dir, options.history, alive),
    };
    if options.dry_run {
        info!("a dry run: everything is decided as ever, nothing is started and nothing written down");
    }
    let controllers = launcher.controllers();
    if let Some(error) = &options.no_cgroups {
        info!("{error}: runs have no cgroups of their own; they are followed by their sessions and parents instead");
    }
    let started = SystemTime::now();
    let since_epoch = started.duration_since(UNIX_EPOCH).unwrap_or_default();
    let watcher = Watcher::new(&options.config, SETTLE).context("cannot watch the configuration")?;
    let supply = ComponentFinder::new(options.program.clone(), &options.code_dir, options.sources.clone());
    let cache = supply.cache_use();
    let deployer = Deployer {
        program: options.program.clone(),
        store: options.sources.store.clone(),
        keys: options.sources.keys.clone(),
    };
    let (launches, runs) = Launches::start(launcher, options.max_processes, Some(supply.code()))?;
    // What runs once has no next run, and what is only tried starts nothing.
    launches.keep_warm(if options.once || options.dry_run {
        0
    } else {
        options.warm_memory
    });
    if (1..ONE_WARM).contains(&options.warm_memory) {
        warn!(
            "--warm-memory is {} MiB, and a process that waits for the next run of its component holds {} MiB at least: none waits",
            options.warm_memory >> 20,
            ONE_WARM >> 20
        );
    }
    let loader = Loader::new(
        &options.config,
        &options.program,
        supply,
        watcher.components(),
        &controllers,
        state.names(),
    );
    let loader = match options.once {
        true => loader.without_retries(),
        false => loader,
    };
    let source = options.source.spawn()?;
    let fleet = fleet::join(options.fleet.take(), &source);
    let metrics = Arc::new(Metrics::new()?);
    let events = Arc::new(EventRing::default());
    let (requests, questions) = daemon_requests::channel();
    let app = App::new(requests, state.history(), Arc::clone(&events), Arc::clone(&metrics));
    let listeners = std::mem::replace(&mut options.listeners, Listeners::none());
    let server = Server::start(listeners, Arc::new(app), ServerLimits::default())
        .context("cannot start the control interface")?;
    let daemon = Daemon {
        clock: Instant::now(),
        ids: RunIds::after(newest, since_epoch.as_millis() as u64).seeded(fastrand::u64(..)),
        admission: Admission::new(options.max_running),
        registry: ActiveWatches::default(),
        runs: HashMap::new(),
        launches,
        deployer,
        source,
        fleet,
        turns: Turns::default(),
        probes: Probes::default(),
        log,
        loader,
        survivors: Survivors::new(found),
        state,
        broker: Broker::default(),
        phase: Phase::Starting,
        draining: None,
        armed: false,
        first_looks: FirstLooks::default(),
        started,
        last_load: LastLoad::default(),
        waiting: WaitingOperators::default(),
        told_reload: None,
        looked: false,
        service: ServiceManager::new(),
        cache,
        events,
        metrics,
        options,
    };
    let ended = daemon.serve(runs, watcher, questions).await;
    server.stop();
    ended
}

struct Daemon {
    clock: Instant,
    ids: RunIds,
    /// Who may start.
    admission: Admission,
    registry: ActiveWatches,
    runs: HashMap<RunId, ActiveRun>,
    launches: Launches,
    /// What installs bundles.
    deployer: Deployer,
    source: Source,
    fleet: Option<Fleet>,
    /// What watches with rollouts were told last.
    turns: Turns,
    /// What rollouts ask of this host beside the actions.
    probes: Probes,
    log: Log,
    loader: Loader,
    survivors: Survivors,
    state: StateStore,
    broker: Broker,
    phase: Phase,
    /// How long what runs still has, once the daemon drains.
    draining: Option<Draining>,
    /// Whether every watch is.
    armed: bool,
    /// What was found at those that were not.
    first_looks: FirstLooks,
    started: SystemTime,
    last_load: LastLoad,
    /// Operators who wait.
    waiting: WaitingOperators,
    /// The load that the service manager waits for.
    told_reload: Option<u64>,
    /// With [`DaemonOptions::once`]: every watch has been read, and no more is looked at.
    looked: bool,
    service: ServiceManager,
    cache: Arc<CacheUse>,
    events: Arc<EventRing>,
    metrics: Arc<Metrics>,
    options: DaemonOptions,
}

impl Daemon {
    async fn serve(
        mut self,
        mut runs: UnboundedReceiver<RunEvent>,
        mut watcher: Watcher,
        mut questions: RequestQueue,
    ) -> anyhow::Result<DaemonEnd> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut upkeep = interval(Duration::from_secs(10));
        upkeep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.loader.request();
        let once = self.options.once;
        while self.phase != Phase::Draining && !(once && self.is_through()) {
            self.tell_rollouts();
            let timer = self.registry.next_timer();
            let probe = [self.probes.next_due(), self.turns.next_due()]
                .into_iter()
                .flatten()
                .min();
            let expiry = self.waiting.next_expiry();
            tokio::select! {
                report = self.source.reports.recv(), if !self.looked => match report {
                    Some(report) => self.on_source(report).await,
                    None => self.restart_source().await,
                },
                Some(event) = runs.recv() => self.on_run(event),
                () = sleep_until(self.clock + timer.unwrap_or_default()), if timer.is_some() => self.on_timers(),
                () = sleep_until(self.clock + probe.unwrap_or_default()), if probe.is_some() => self.run_due_probes(),
                loaded = self.loader.loaded() => self.on_loaded(loaded),
                event = rollouts::next(&mut self.fleet) => self.on_rollout(event),
                run = self.survivors.ended() => self.on_survivor_ended(run),
                () = watcher.changed(), if !once => drop(self.loader.request()),
                Some(ask) = questions.recv() => self.on_ask(ask),
                () = yield_now(), if self.waiting.has_survey() => self.survey_on(),
                Ok(()) = self.source.connection.changed() => self.on_connection(),
                () = sleep_until(expiry.unwrap_or(self.clock)), if expiry.is_some() => self.expire_runs(),
                () = self.service.watchdog() => drop(self.service.alive()),
                _ = hangup.recv() => {
                    self.log.reopen();
                    if once {
                        continue;
                    }
                    info!("SIGHUP: loading the configuration again");
                    self.reload();
                }
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = upkeep.tick() => {
                    self.count_what_others_count();
                    self.say_status();
                }
            }
        }
        let again = async {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        };
        let unsuccessful = once && !self.tell_of_once();
        Ok(match self.drain(&mut runs, &mut questions, again).await {
            DaemonEnd::Drained if unsuccessful => DaemonEnd::Unsuccessful,
            end => end,
        })
    }

    fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    async fn on_source(&mut self, report: SourceReport) {
        match report {
            // It was read for what the watch was before a reload; what was asked for follows.
            SourceReport::Observed(id, observation) if self.registry.lacks_nodes(id, &observation) => {}
            SourceReport::Observed(id, observation) => {
                let (id, whole) = self.registry.take_in(id, observation);
                let unreadable = self.registry.parts(id).map(Parts::unreadable);
                if let Some(observation) = whole {
                    self.on_observation(id, observation).await;
                }
                if let Some(unreadable) = unreadable {
                    self.on_unreadable(id, unreadable);
                }
            }
            SourceReport::Unreadable(id, unreadable) => {
                let (id, unreadable) = self.registry.note_unreadable(id, Some(unreadable));
                self.on_unreadable(id, unreadable);
            }
            SourceReport::Readable(id) => {
                let (id, unreadable) = self.registry.note_unreadable(id, None);
                self.on_unreadable(id, unreadable);
            }
            // Also after a node was read again for a run on request.
            SourceReport::Armed if self.armed => {}
            SourceReport::Armed => {
                self.armed = true;
                if self.phase == Phase::Starting {
                    self.phase = Phase::Ready;
                }
                let (watches, unreadable) = (self.registry.len(), self.registry.count_unreadable());
                let said = self.first_looks.tell(watches, unreadable);
                self.happened_to_all(EventKind::Source, || said.to_owned());
                if !self.service.was_ready() {
                    self.tell_service(ServiceManager::ready);
                }
                self.say_status();
                // What loading took for a while would otherwise stay with the process for good.
                tokio::task::spawn_blocking(release_free_memory);
                if self.options.once {
                    self.look_no_more();
                }
            }
        }
    }

    async fn on_observation(&mut self, id: WatchId, observation: Observation) {
        let (version, bytes) = (observation.version, observation.stdin.len());
        let named = observation.named();
        let named_stat = named.and_then(|named| named.observation.stat);
        let (stat, znode) = (named_stat.or(observation.stat), named.map(|named| named.znode.clone()));
        let mut effects = self.step(id, Input::Observed(observation));
        let is_change = is_change(&effects);
        let answer = Answer::of(&effects);
        if !self.armed {
            self.first_looks.note(&effects);
        }
        let starts = effects.iter().any(|effect| matches!(effect, Effect::Start(_)));
        if starts {
            // The launch goes out before a line about it costs time.
            self.carry_out(id, std::mem::take(&mut effects));
            yield_now().await;
        }
        if let Some(entry) = self.registry.get_mut(id) {
            entry.facts.seen = Some(Seen::new(version, stat, SystemTime::now()));
            if entry.note_refusal() {
                self.state.refused(&entry.watch, entry.facts.refused);
            }
        }
        if let Some(entry) = self.registry.get(id).filter(|_| is_change) {
            self.metrics.changes.inc();
            let (watch, exists) = (&entry.watch, version != Version::Absent);
            let stat = stat.unwrap_or_default();
            let znode = znode.as_ref().unwrap_or(&watch.znode);
            info!(
                watch = &*watch.name,
                znode = znode.as_str(),
                exists,
                version = stat.version,
                mzxid = stat.mzxid,
                bytes,
                "change seen"
            );
            self.happened(EventKind::Changed, id, None, || {
                let what = if exists { "changed" } else { "was deleted" };
                format!("{znode} {what}")
            });
        }
        self.carry_out(id, effects);
        self.end_verify_of_older(id);
        self.answer_runs(id, &answer);
        // What cannot be read of a subtree's parts is not over by that.
        if self
            .registry
            .unreadable(id)
            .is_some_and(|unreadable| unreadable.parts.is_none() && self.registry.parts(id).is_none())
        {
            self.on_unreadable(id, None);
        }
        self.report(id);
    }

    fn on_timers(&mut self) {
        for id in self.registry.take_due(self.now()) {
            self.advance(id, Input::Timer);
        }
    }

    fn on_run(&mut self, event: RunEvent) {
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

    fn on_ended(&mut self, run: RunId, report: RunReport) {
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
            entry.facts.last_run = Some(LastRunFacts {
                run,
                ended: SystemTime::now(),
                outcome,
                failure: part.failure(&report.outcome).map(Arc::from),
            });
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
    fn note_success(&mut self, run: RunId, running: &mut ActiveRun) {
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

    fn advance(&mut self, id: WatchId, input: Input) {
        let effects = self.step(id, input);
        self.carry_out(id, effects);
        self.admit();
        self.report(id);
    }

    /// Starts what waited for a place that there is now.
    fn admit(&mut self) {
        while let Some(id) = self.admission.admit() {
            let effects = self.step(id, Input::Admitted);
            self.carry_out(id, effects);
        }
    }

    fn step(&mut self, id: WatchId, input: Input) -> Vec<Effect> {
        let now = self.now();
        let mut effects = Vec::new();
        if let Some(entry) = self.registry.get_mut(id) {
            entry
                .machine
                .step(now, input, &mut self.ids, &mut self.admission, &mut effects);
        }
        effects
    }

    fn carry_out(&mut self, id: WatchId, effects: Vec<Effect>) {
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

    fn tell_source(&mut self, change: Change) {
        for id in &change.remove {
            self.registry.forget_parts(*id);
        }
        // The source may have ended; it is told everything when it is started anew.
        let _ = self.source.changes.send(change);
    }

    fn on_survivor_ended(&mut self, run: RunId) {
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

    /// A source ends only by a defect. What is watched must not depend on that.
    async fn restart_source(&mut self) {
        error!("the source ended unexpectedly; starting it anew");
        tokio::time::sleep(SOURCE_RESTART).await;
        match self.options.source.spawn() {
            Ok(source) => {
                if let (Some(fleet), Some(session)) = (&mut self.fleet, source.znodes.keep_session()) {
                    fleet.use_session(session);
                }
                self.source = source;
                self.armed = false;
                let everything = self.registry.everything();
                self.tell_source(everything);
            }
            Err(error) => error!("{error:#}"),
        }
    }
}
