//! `twitcher run`: the order in which a daemon starts.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::prctl::set_dumpable;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use twitcher_confine::{LANDLOCK_WITH_PORTS, landlock_version};
use twitcher_control::Shown;
use twitcher_control::listeners::{self, ListenError, Listeners};
use twitcher_daemon::{self as daemon, DaemonEnd, DaemonOptions, SourceOptions};
use twitcher_files::pid_file::Pidfile;
use twitcher_fleet::{FleetOptions, HostName, identity};
use twitcher_launch::{Journal, Launcher, keep_inherited_descriptors};
use twitcher_observe::{Log, LogDestination, LogFile, Verbosity};
use twitcher_process::cgroup::CgroupTree;
use twitcher_process::threads::{FOR_EVER, can_start, fill_pool};
use twitcher_state as state;

use super::{THIS_PROGRAM, source_options, sources};
use crate::args::{self, exit};

/// Descriptors that the daemon needs for itself, and those of one run.
const OWN_DESCRIPTORS: u64 = 512;
const RUN_DESCRIPTORS: u64 = 4;
/// Threads for what blocks: looking for a run's processes, reading configurations, names that a name server is asked for. Some exist from the
/// start, so that an action that uses up all processes does not keep the daemon from ending it; those that come later stay.
const BLOCKING_THREADS: usize = 64;
const RESERVED_THREADS: usize = 8;
/// The threads of state, control interface, sources and file watching, which are started next.
const OTHER_THREADS: usize = 12;

/// The start of a daemon. What can fail does so first, in the foreground; threads come last.
pub fn run(arguments: args::RunArguments) -> Result<u8> {
    match start(arguments) {
        Ok(DaemonEnd::Drained) => Ok(exit::SUCCESS),
        Ok(DaemonEnd::Terminated) => Ok(exit::TERMINATED_RUNS),
        Ok(DaemonEnd::Unsuccessful) => Ok(exit::FAILURE),
        Err(error) => {
            eprintln!("twitcher: cannot start: {error:#}");
            Ok(exit::CANNOT_START)
        }
    }
}

fn start(arguments: args::RunArguments) -> Result<DaemonEnd> {
    // Passwords of ZooKeeper and of configurations will be in this memory: nobody is to follow this process, nor to find it in a core dump.
    set_dumpable(false).context("cannot make the process undumpable")?;
    keep_inherited_descriptors().context("cannot keep inherited descriptors from other processes")?;
    if arguments.require_landlock {
        require_landlock(landlock_version())?;
    }
    let mut source = source_options::read(&arguments.source, "nothing to watch")?;
    if let SourceOptions::ZooKeeper(options) = &mut source {
        options.sweep_interval = arguments.resync;
    }
    for path in &arguments.config {
        if let Err(error) = std::fs::metadata(path) {
            bail!(
                "configuration path {}: {error}; name another with --config",
                path.display()
            );
        }
    }
    let places = Places::new(arguments.max_running)?;
    let mut pidfile = arguments.pidfile.as_deref().map(Pidfile::lock).transpose()?;
    // The paths stay valid when --daemonize changes the directory.
    let config = arguments
        .config
        .iter()
        .map(std::path::absolute)
        .collect::<Result<Vec<PathBuf>, _>>()?;
    let destination = destination(&arguments)?;
    let state_dir = std::path::absolute(&arguments.state_dir)?;
    let dry_run = arguments.dry_run;
    let claimed = match dry_run {
        true => {
            Journal::check_dir(&state_dir)?;
            None
        }
        false => Some(Journal::claim(&state_dir)),
    };
    let (mut journal, found) = match claimed.transpose() {
        Ok(None) => (None, Ok(Vec::new())),
        Ok(Some((journal, found))) => (Some(journal), Ok(found)),
        Err(error) if error.is_in_use() || error.is_untrusted() => return Err(error.into()),
        // What cannot be remembered must not keep actions from running; the daemon says so once it has a log.
        Err(error) => (None, Err(error)),
    };
    // What tries only tells nobody.
    let fleet = match dry_run {
        true => None,
        false => fleet(&arguments, &state_dir)?,
    };
    let (mut listeners, no_control) = listeners(&arguments)?;
    if arguments.daemonize {
        nix::unistd::daemon(false, false).context("cannot go into the background")?;
        listeners.moved();
    }
    if let Some(pidfile) = &mut pidfile {
        pidfile.write()?;
    }
    if let Some(journal) = journal.as_ref().filter(|_| arguments.daemonize) {
        // Without it a second daemon is refused all the same, only without the name of this one.
        let _ = journal.sign();
    }
    // Before the launcher, which is where this process is.
    let former = journal.as_ref().and_then(Journal::former_cgroups);
    let (cgroups, no_cgroups) = match (!dry_run).then(|| CgroupTree::claim(former)).transpose() {
        Ok(cgroups) => (cgroups, None),
        Err(error) => (None, Some(error)),
    };
    if let (Some(journal), Some(cgroups)) = (&mut journal, &cgroups) {
        // Without it the next daemon finds the same runs, but not all that they have left the group and environment of.
        let _ = journal.sign_cgroups(cgroups.path());
    }
    // Before any thread, and before the limits are raised, which actions would inherit.
    let launcher = Launcher::spawn_with(Path::new(THIS_PROGRAM), &["launcher"], journal, cgroups)?;
    raise_descriptor_limit()?;
    make_no_core_dump()?;

    let log = Log::start(&destination, arguments.log.log_format, verbosity(&arguments.log))?;
    if let Some(error) = no_control {
        tracing::warn!("no control interface: {error}");
    }
    // Events are looked for after every few tasks: with tokio's default of 61, tasks that are busy would delay them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(7)
        .thread_name("twitcher-blocking")
        .max_blocking_threads(BLOCKING_THREADS)
        .thread_keep_alive(FOR_EVER)
        .build()?;
    fill_pool(RESERVED_THREADS, |job| drop(runtime.spawn_blocking(job)))
        .and_then(|()| can_start(OTHER_THREADS))
        .context("cannot start the threads of the daemon; more processes have to be allowed (ulimit -u, TasksMax= of systemd)")?;
    // Beside a daemon that runs its cache is not ours to write to.
    let scratch = dry_run.then(tempfile::tempdir).transpose();
    let scratch = scratch.context("cannot make a temporary directory for native code")?;
    let code_dir = scratch
        .as_ref()
        .map_or_else(|| state_dir.clone(), |scratch| scratch.path().to_owned());
    let options = DaemonOptions {
        config,
        program: THIS_PROGRAM.into(),
        source,
        state_dir,
        code_dir,
        once: arguments.once,
        dry_run,
        history: state::HistoryLimits {
            runs: arguments.history_runs,
            runs_per_watch: arguments.history_runs_per_watch,
            bytes: arguments.history_size << 20,
        },
        found,
        no_cgroups,
        sources: sources(&arguments.bundles)?,
        fleet,
        listeners,
        drain_timeout: arguments.drain_timeout,
        max_running: places.actions,
        max_processes: places.processes,
        warm_memory: arguments.warm_memory << 20,
    };
    let local = tokio::task::LocalSet::new();
    let ended = runtime.block_on(local.run_until(daemon::run(options, launcher, log)));
    // A thread that still loads the configuration is not worth waiting for.
    runtime.shutdown_timeout(Duration::from_millis(200));
    ended
}

/// Which fleet the daemon is in. That the host's id cannot be kept is no reason not to run: it is said by the daemon.
fn fleet(arguments: &args::RunArguments, state_dir: &Path) -> Result<Option<FleetOptions>> {
    let given = &arguments.fleet;
    let Some(root) = &given.fleet else { return Ok(None) };
    let name = match &given.fleet_name {
        Some(name) => name.parse::<HostName>().context("--fleet-name")?,
        None => {
            let name = identity::host_name()
                .context("cannot find out the name of this host; give it one with --fleet-name")?;
            let name = name.parse::<HostName>();
            name.context("the name of this host cannot be its name in a fleet; give it another with --fleet-name")?
        }
    };
    Ok(Some(FleetOptions {
        root: root.parse().context("--fleet")?,
        name,
        labels: identity::labels(given.label.iter().map(String::as_str)).context("--label")?,
        id: identity::HostId::of(state_dir).map_err(Arc::new),
        boot: identity::boot(),
        version: env!("CARGO_PKG_VERSION"),
    }))
}

/// Where operators find the daemon. Who names no socket gets the usual one if it can be had; actions matter more than it does.
fn listeners(arguments: &args::RunArguments) -> Result<(Listeners, Option<ListenError>)> {
    let mut listeners = Listeners::none();
    if let Some(address) = &arguments.http {
        let shown = match arguments.http_details {
            true => Shown::Everything,
            false => Shown::Outline,
        };
        listeners.add_http(address, shown)?;
    }
    let trouble = match &arguments.control {
        Some(path) => {
            listeners.add_socket(&std::path::absolute(path)?)?;
            None
        }
        // The usual one may be that of the daemon which runs.
        None if arguments.dry_run => None,
        None => listeners.add_socket(Path::new(listeners::SOCKET)).err(),
    };
    Ok((listeners, trouble))
}

fn destination(arguments: &args::RunArguments) -> Result<LogDestination> {
    let log = &arguments.log;
    Ok(match &log.logfile {
        Some(path) => {
            let path = std::path::absolute(path)?;
            // Fails here, where somebody sees it, rather than in the background.
            LogFile::open(path.clone()).with_context(|| format!("cannot open the log file {}", path.display()))?;
            LogDestination::File(path)
        }
        None if log.log_to_stdout || log.devel => LogDestination::Stdout,
        None if arguments.daemonize => LogDestination::Syslog,
        None => LogDestination::Stderr,
    })
}

fn verbosity(log: &args::LogArguments) -> Verbosity {
    match (log.debug || log.devel, log.verbose) {
        (true, _) => Verbosity::Debug,
        (false, true) => Verbosity::Verbose,
        (false, false) => Verbosity::Normal,
    }
}

/// How much may run at once.
struct Places {
    actions: usize,
    processes: usize,
}

impl Places {
    /// As the limit of open files allows. Half of it is for commands: each component has at most one run for it at a time, so a
    /// component never waits for a place that another one holds while it waits itself.
    fn new(wanted: Option<usize>) -> Result<Self> {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let processes = usize::try_from(hard.saturating_sub(OWN_DESCRIPTORS) / RUN_DESCRIPTORS).unwrap_or(usize::MAX);
        let most = processes / 2;
        if most == 0 {
            bail!(
                "the limit of open files, {hard}, is too low: at least {} are needed",
                OWN_DESCRIPTORS + 2 * RUN_DESCRIPTORS
            );
        }
        match wanted {
            Some(wanted) if wanted > most => bail!(
                "--max-running {wanted} is too high: the limit of open files, {hard}, allows {most}; raise it (ulimit -Hn, \
                 LimitNOFILE= of systemd), or ask for less"
            ),
            wanted => Ok(Self {
                actions: wanted.unwrap_or(most),
                processes,
            }),
        }
    }
}

/// Raises the soft limit of open files to the hard one.
fn raise_descriptor_limit() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).context("cannot raise the limit of open files")
}

/// Nor does what this process starts for itself. The hard limit stays: actions inherit what there was, through the launcher.
fn make_no_core_dump() -> Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    setrlimit(Resource::RLIMIT_CORE, 0, hard).context("cannot lower the limit of core dumps")
}

/// The version is that of the running kernel.
fn require_landlock(version: Option<i32>) -> Result<()> {
    let advice =
        "boot Linux 6.7 or later with landlock among its security modules (lsm=), or leave --require-landlock out";
    match version {
        Some(version) if version >= LANDLOCK_WITH_PORTS => Ok(()),
        Some(version) => {
            bail!("--require-landlock: the kernel's Landlock, version {version}, limits files and not ports; {advice}")
        }
        None => bail!("--require-landlock: the kernel has no Landlock, or has it turned off; {advice}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_landlock_that_limits_no_ports_is_not_enough() {
        let refused = |version| require_landlock(version).unwrap_err().to_string();
        assert!(refused(None).contains("no Landlock"));
        assert!(refused(Some(3)).contains("version 3, limits files and not ports"));
        assert!(require_landlock(Some(4)).is_ok());
    }
}
