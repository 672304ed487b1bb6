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
mod effects;
mod fleet;
mod loader;
mod notify;
mod observations;
mod once;
mod operators;
mod probes;
mod rollouts;
mod run_events;
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
use twitcher_control::listeners::Listeners;
use twitcher_control::{App, EventRing, Server, ServerLimits};
use twitcher_fleet::{Fleet, FleetOptions};
use twitcher_launch::{JournalError, Launcher, Launches, RunEvent, SurvivingRun};
use twitcher_model::{Phase, RunId};
use twitcher_observe::Log;
use twitcher_observe::metrics::Metrics;
use twitcher_process::cgroup::CgroupError;
use twitcher_sandbox::code_cache::CacheUse;
use twitcher_scheduler::{Admission, RunIds};
use twitcher_source::{Source, tree, zookeeper};
use twitcher_state::{self as state, StateStore};

use apply_config::LastLoad;
use decision_log::FirstLooks;
use loader::Loader;
use operators::WaitingOperators;
use probes::Probes;
use rollouts::Turns;
use runs::ActiveRun;
use service_manager::ServiceManager;
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
}
