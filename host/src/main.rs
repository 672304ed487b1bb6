//! The `twitcher` program: which command, and the order in which `run` starts.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{CommandFactory, Parser};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use twitcher::cli::{self, Cli, Command, exit};
use twitcher::config::{Config, Evaluator, report};
use twitcher::control::listen::{self, ListenError, Listeners};
use twitcher::daemon::{self, Ended, Options, SourceOptions};
use twitcher::launch::{self, Bodies, Journal, Launcher};
use twitcher::observe::{Destination, Format, Log, Verbosity};
use twitcher::pidfile::Pidfile;
use twitcher::progress::Spinner;
use twitcher::source::{tree, zookeeper};
use twitcher::supply::{Sources, Supply};
use twitcher::{bundle, config, demo, help, operate, plugin, sandbox, state};

/// This program, also after it was replaced on disk: helpers must be of the same build.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// What the launcher lets an action's process run besides programs.
const BODIES: Bodies = Bodies {
    function: config::function::run,
};
/// Descriptors that the daemon needs for itself, and those of one run.
const OWN_DESCRIPTORS: u64 = 512;
const RUN_DESCRIPTORS: u64 = 4;
/// Debian's bundle of certificate authorities.
const SYSTEM_CA: &str = "/etc/ssl/certs/ca-certificates.crt";

fn main() -> ExitCode {
    let code = match Cli::parse().command {
        Command::Run(arguments) => run(*arguments),
        Command::Check(arguments) => check(&arguments),
        Command::Operate(command) => return ExitCode::from(operate::run(&command)),
        Command::Schema => print(&format!("{:#}\n", config::schema())),
        Command::Plugin(command) => plugin(command),
        Command::Bundle(command) => bundle::command::bundle(Path::new(THIS_PROGRAM), command)
            .map_err(Into::into)
            .and_then(|text| print(&text)),
        Command::Key(command) => bundle::command::key(command)
            .map_err(Into::into)
            .and_then(|text| print(&text)),
        Command::Demo { component } => demo::run(Path::new(THIS_PROGRAM), component.as_deref()).map(|()| exit::SUCCESS),
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "twitcher", &mut std::io::stdout());
            Ok(exit::SUCCESS)
        }
        Command::Help { words } => help(&words),
        Command::Man { dir } => help::write(Cli::command(), &dir)
            .with_context(|| format!("cannot write manual pages to {}", dir.display()))
            .map(|()| exit::SUCCESS),
        Command::Launcher => launch::launcher_main(&BODIES)
            .context("launcher")
            .map(|()| exit::SUCCESS),
        Command::Compile => return ExitCode::from(sandbox::helper::serve() as u8),
        Command::Evaluate => return ExitCode::from(config::helper::serve() as u8),
    };
    code.map_or_else(
        |error| {
            eprintln!("twitcher: {error:#}");
            ExitCode::from(exit::FAILURE)
        },
        ExitCode::from,
    )
}

/// Prints a page, or the help of a command.
fn help(words: &[String]) -> Result<u8> {
    match help::answer(&mut Cli::command(), words) {
        Ok(text) => print(&text),
        Err(unknown) => {
            eprintln!("twitcher: {unknown}");
            Ok(exit::USAGE)
        }
    }
}

/// The start of a daemon. What can fail does so first, in the foreground; threads come last.
fn run(arguments: cli::Run) -> Result<u8> {
    match start(arguments) {
        Ok(Ended::Drained) => Ok(exit::SUCCESS),
        Ok(Ended::Terminated) => Ok(exit::TERMINATED_RUNS),
        Err(error) => {
            eprintln!("twitcher: cannot start: {error:#}");
            Ok(exit::CANNOT_START)
        }
    }
}

fn start(arguments: cli::Run) -> Result<Ended> {
    let source = source(&arguments)?;
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
    let (journal, found) = match Journal::claim(&state_dir) {
        Ok((journal, found)) => (Some(journal), Ok(found)),
        Err(error) if error.is_in_use() => return Err(error.into()),
        // What cannot be remembered must not keep actions from running; the daemon says so once it has a log.
        Err(error) => (None, Err(error)),
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
    // Before any thread, and before the limits are raised, which actions would inherit.
    let launcher = Launcher::spawn_with(Path::new(THIS_PROGRAM), &["launcher"], journal)?;
    raise_descriptor_limit()?;

    let log = Log::start(&destination, arguments.log.log_format, verbosity(&arguments.log))?;
    if let Some(error) = no_control {
        tracing::warn!("no control interface: {error}");
    }
    // Events are looked for after every few tasks: with tokio's default of 61, tasks that are busy would delay them.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .event_interval(7)
        .build()?;
    let options = Options {
        config,
        program: THIS_PROGRAM.into(),
        source,
        state_dir,
        history: state::Limits {
            runs: arguments.history_runs,
            runs_per_watch: arguments.history_runs_per_watch,
            bytes: arguments.history_size << 20,
        },
        found,
        sources: sources(&arguments.bundles)?,
        listeners,
        drain_timeout: arguments.drain_timeout,
        max_running: places.actions,
        max_processes: places.processes,
    };
    let local = tokio::task::LocalSet::new();
    let ended = runtime.block_on(local.run_until(daemon::run(options, launcher, log)));
    // A thread that still loads the configuration is not worth waiting for.
    runtime.shutdown_timeout(Duration::from_millis(200));
    ended
}

/// Where operators find the daemon. Who names no socket gets the usual one if it can be had; actions matter more than it does.
fn listeners(arguments: &cli::Run) -> Result<(Listeners, Option<ListenError>)> {
    let mut listeners = Listeners::none();
    if let Some(address) = &arguments.http {
        listeners.add_http(address)?;
    }
    let trouble = match &arguments.control {
        Some(path) => {
            listeners.add_socket(&std::path::absolute(path)?)?;
            None
        }
        None => listeners.add_socket(Path::new(listen::SOCKET)).err(),
    };
    Ok((listeners, trouble))
}

fn source(arguments: &cli::Run) -> Result<SourceOptions> {
    if let Some(dir) = &arguments.tree {
        let root = std::path::absolute(dir).with_context(|| format!("--tree {}", dir.display()))?;
        return Ok(SourceOptions::Tree(tree::Options::new(root)));
    }
    let servers = arguments.zk.clone().or_else(|| std::env::var("TWITCHER_ZK").ok());
    let Some(servers) = servers else {
        bail!("nothing to watch: give --zk HOST:PORT,... (or set TWITCHER_ZK), or --tree DIR");
    };
    let servers = servers.parse().with_context(|| format!("--zk {servers}"))?;
    let given = &arguments.zookeeper;
    let mut options = zookeeper::Options::new(servers);
    options.session_timeout = given.zk_session_timeout;
    options.sweep_interval = given.resync;
    if let Some(file) = &given.zk_digest_file {
        let (user, password) = credentials(file)?;
        let credentials = format!("{user}:{password}").into_bytes();
        options.auth.push(zookeeper::Auth {
            scheme: "digest".to_owned(),
            credentials,
        });
    }
    if let Some(file) = &given.zk_sasl_file {
        let (user, password) = credentials(file)?;
        options.sasl = Some(zookeeper::SaslDigest { user, password });
    }
    if given.zk_tls || given.zk_ca.is_some() || given.zk_cert.is_some() {
        let ca = given.zk_ca.clone().unwrap_or_else(|| SYSTEM_CA.into());
        let tls = zookeeper::Tls {
            ca,
            identity: given.zk_cert.clone().zip(given.zk_key.clone()),
        };
        // Read again for each session; now only to refuse early what cannot work.
        tls.load()?;
        options.tls = Some(tls);
    }
    Ok(SourceOptions::ZooKeeper(Box::new(options)))
}

/// The first line of a file, USER:PASSWORD. On the command line everyone could read them.
fn credentials(file: &Path) -> Result<(String, String)> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let pair = text.lines().next().and_then(|line| line.split_once(':'));
    let (user, password) = pair.with_context(|| format!("{}:1: expected USER:PASSWORD", file.display()))?;
    Ok((user.to_owned(), password.to_owned()))
}

fn destination(arguments: &cli::Run) -> Result<Destination> {
    let log = &arguments.log;
    Ok(match &log.logfile {
        Some(path) => {
            let path = std::path::absolute(path)?;
            // Fails here, where somebody sees it, rather than in the background.
            twitcher::observe::LogFile::open(path.clone())
                .with_context(|| format!("cannot open the log file {}", path.display()))?;
            Destination::File(path)
        }
        None if log.log_to_stdout || log.devel => Destination::Stdout,
        None if arguments.daemonize => Destination::Syslog,
        None => Destination::Stderr,
    })
}

fn verbosity(log: &cli::Log) -> Verbosity {
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

/// The paths stay valid when --daemonize changes the directory.
fn sources(arguments: &cli::Bundles) -> Result<Sources> {
    Ok(Sources {
        store: std::path::absolute(&arguments.store)?,
        keys: std::path::absolute(&arguments.trust.keys)?,
        require_signed: arguments.trust.require_signed,
    })
}

fn check(arguments: &cli::Check) -> Result<u8> {
    for path in &arguments.paths {
        std::fs::metadata(path).with_context(|| format!("configuration path {}", path.display()))?;
    }
    // Whoever checks may not be allowed to write where the daemon keeps native code.
    let cache = tempfile::tempdir().context("cannot make a temporary directory for native code")?;
    let supply = Supply::new(THIS_PROGRAM.into(), cache.path(), sources(&arguments.bundles)?);
    let spinner = Spinner::new("evaluating files, compiling components");
    let reload = Config::new(arguments.paths.clone(), Evaluator::new(THIS_PROGRAM.into()))
        .with_components(supply.resolver())
        .reload();
    drop(spinner);
    let failed = reload.errors().next().is_some();
    if arguments.json {
        print(&format!("{:#}\n", report::to_json(&reload)))?;
    } else {
        for printed in &reload.prints {
            eprintln!(
                "{}:{}: {}",
                printed.file.display(),
                printed.line.unwrap_or_default(),
                printed.text
            );
        }
        print(&report::render_table(&reload.watches))?;
        eprint!("{}{}", report::render_notes(&reload), report::render_errors(&reload));
    }
    Ok(if failed { exit::FAILURE } else { exit::SUCCESS })
}

fn plugin(command: cli::Plugin) -> Result<u8> {
    match command {
        cli::Plugin::New { name } => {
            let dir = plugin::create(Path::new(""), &name)?;
            print(&format!(
                "created {}; its README.md says how it is tested, built and tried\n",
                dir.display()
            ))
        }
        cli::Plugin::Inspect { file } => print(&plugin::inspect(&file)?),
        cli::Plugin::Run(arguments) => {
            let trial = trial(*arguments)?;
            let (watch, launcher) = prepare(&trial)?;
            // Held until the end: what is still on its way to the terminal is written then.
            let log = Log::start(&Destination::Stderr, Format::Text, Verbosity::Verbose)?;
            let report = locally(plugin::run(&trial, &watch, launcher))?;
            drop(log);
            print(&format!(
                "{}\n{} in its process, {} KiB, {} page faults{}\n",
                report.outcome,
                plugin::shown(report.elapsed),
                report.max_rss_kib,
                report.minor_faults,
                report.timing.map_or_else(String::new, |timing| format!(
                    "; called after {}, for {}",
                    plugin::shown(timing.instantiate),
                    plugin::shown(timing.call)
                )),
            ))?;
            Ok(if report.outcome.is_success() {
                exit::SUCCESS
            } else {
                exit::FAILURE
            })
        }
        cli::Plugin::Bench { rounds, run } => {
            let trial = trial(*run)?;
            let (watch, launcher) = prepare(&trial)?;
            let table = locally(plugin::bench(&trial, &watch, launcher, rounds as usize))?;
            print(&format!("{table}\n"))
        }
    }
}

fn trial(arguments: cli::PluginRun) -> Result<plugin::Trial> {
    let data = match &arguments.data_file {
        Some(file) => std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?,
        None => arguments.data.into_bytes(),
    };
    let event = serde_json::from_value(serde_json::Value::String(arguments.event))?;
    Ok(plugin::Trial {
        file: arguments.file,
        path: arguments.path,
        data,
        event: Some(event),
        config: arguments.config,
        args: arguments.arg,
        env: arguments.env,
        dirs: absolute(arguments.dir)?,
        net: arguments.net,
        http: arguments.http,
        commands: arguments.command,
        znodes: arguments.znode,
        memory: arguments.memory,
        timeout: Some(arguments.timeout),
        uid: arguments.uid,
        tree: arguments.tree.map(std::path::absolute).transpose()?,
    })
}

/// On a command line a directory may be relative to the current one; in a configuration it may not.
fn absolute(dirs: Vec<(String, String)>) -> Result<Vec<(String, String)>> {
    let absolute = |(guest, host): (String, String)| {
        let path = std::path::absolute(&host)?;
        Ok((guest, path.to_string_lossy().into_owned()))
    };
    dirs.into_iter().map(absolute).collect()
}

/// The launcher comes first: it is made before there are threads.
fn prepare(trial: &plugin::Trial) -> Result<(std::sync::Arc<twitcher::model::Watch>, Launcher)> {
    let launcher = Launcher::spawn(Path::new(THIS_PROGRAM), &["launcher"])?;
    let spinner = Spinner::new(format!("compiling {}", trial.file.display()));
    let watch = trial.watch(Path::new(THIS_PROGRAM))?;
    drop(spinner);
    Ok((watch, launcher))
}

/// Runs a future as the daemon's are run.
fn locally<T, E>(work: impl Future<Output = Result<T, E>>) -> Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(tokio::task::LocalSet::new().run_until(work))?)
}

fn print(text: &str) -> Result<u8> {
    match std::io::stdout().write_all(text.as_bytes()) {
        // Whoever read it, `head` for example, has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(exit::SUCCESS),
        written => written
            .context("cannot write to standard output")
            .map(|()| exit::SUCCESS),
    }
}
