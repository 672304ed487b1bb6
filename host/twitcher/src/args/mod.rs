//! The command line. It must not do anything: types and texts only.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::ArgPredicate;
use clap::{Args, Parser, Subcommand};

use twitcher_observe::LogFormat;

mod bundle;
mod fleet;
mod operate;
mod source;
mod znode;

pub use bundle::{
    BundleBuildArguments, BundleCommand, BundlePullArguments, BundleStoreArguments, KeyCommand, RequestArguments,
    TrustedKeysArguments,
};
pub use fleet::{
    EnrollArguments, FleetCommand, FleetCommands, ForgetArguments, LaggardsArguments, ReleaseArguments, WaitArguments,
};
pub use operate::{
    CONTROL_VARIABLE, DrainArguments, EventsArguments, HistoryArguments, LogsArguments, OperateCommand, PauseArguments,
    ResumeArguments, RunNowArguments, StatusArguments, TimeStyle,
};

pub use source::SourceArguments;
pub use znode::{
    ChangesArguments, DataArguments, ListArguments, RequestArguments as ZnodeRequestArguments, SetArguments,
    ZnodeCommand,
};

/// Exit codes, as `--help` and the manual page give them.
pub mod exit {
    /// Everything went well; for `run`: stopped by a signal, every action had ended.
    pub const SUCCESS: u8 = 0;
    /// `check` found errors; `run --once` did not succeed for every watch; `demo` did not see what it expected; what `plugin run` ran did not succeed; a bundle is refused; a running
    /// daemon does not do what it was told, or found errors.
    pub const FAILURE: u8 = 1;
    /// The command line cannot be understood.
    pub const USAGE: u8 = 2;
    /// `run` cannot start: the message says why.
    pub const CANNOT_START: u8 = 3;
    /// `run` stopped, but had to terminate actions that took longer than the drain timeout.
    pub const TERMINATED_RUNS: u8 = 4;
    /// A command on a running daemon reached none, or got no answer that makes sense; `znode` had no session with ZooKeeper.
    pub const UNREACHABLE: u8 = 5;
    /// `znode`: the znode, or the parent of what is to be created, does not exist.
    pub const NO_NODE: u8 = 6;
    /// `znode`: it exists already, or has another version than the expected one.
    pub const CONFLICT: u8 = 7;
    /// `znode`, `fleet enroll`: an access control list, or the file system, does not permit it.
    pub const DENIED: u8 = 8;
    /// `znode`: the connection broke before the answer came; the write may have been carried out or not.
    pub const UNKNOWN_OUTCOME: u8 = 9;
}

const EXIT_CODES: &str = "\
Exit codes:
  0  success; for `run`: stopped by SIGTERM or SIGINT with every action ended
  1  `check` found errors; `run --once` did not succeed for every watch; `demo` did not see what it
     expected; what `plugin run` ran did not succeed; a bundle is refused; a running daemon refuses (no such watch, for example); `reload` found errors;
     what `run-now --wait` ran did not succeed; `drain --timeout` was not enough; `fleet laggards` found some; `fleet wait` ended without it
  2  the command line cannot be understood
  3  `run` cannot start: no such configuration path, pid file locked, state directory in use, log file not writable, ...
  4  `run` stopped, but terminated actions that took longer than --drain-timeout
  5  a command on a running daemon: none listens on --control, access is denied, or no answer makes sense;
     `fleet laggards`, `fleet wait`, whose 1 is an answer: the daemon has none, as there is no such watch or rollout;
     `znode`, `fleet enroll`: no session with ZooKeeper within --timeout; nothing was changed
  6  `znode`: the znode, or the parent of what is to be created, does not exist
  7  `znode`: it exists already, or has another version than --if-version says
  8  `znode`, `fleet enroll`: an access control list, or the file system, does not permit it
  9  `znode`: the connection broke before the answer came; the write may have been carried out or not

`twitcher help topics` lists pages about configuration, actions, guarantees, troubleshooting and more.";

/// Runs an action when a znode in ZooKeeper changes
#[derive(Debug, Parser)]
#[command(name = "twitcher", version, after_help = EXIT_CODES, max_term_width = 100, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch znodes and run actions, until SIGTERM or SIGINT
    #[command(after_help = RUN_HELP, after_long_help = RUN_HELP)]
    Run(Box<RunArguments>),
    /// Load configuration files and show the watches, or every error
    Check(CheckArguments),
    #[command(flatten)]
    #[allow(missing_docs)]
    Operate(OperateCommand),
    /// Show the fleet: its hosts, and who has handled the last change; act on its rollouts, and say who is in it
    #[command(subcommand, after_help = "`twitcher help fleet` is the manual.")]
    Fleet(FleetCommands),
    /// Read, set and watch single znodes: the other side of a watch
    #[command(subcommand, after_help = znode::HELP)]
    Znode(Box<ZnodeCommand>),
    /// Print the JSON Schema of .json configuration files
    Schema {
        /// That of what an action finds on stdin with payload = JSON instead
        #[arg(long)]
        payload: bool,
    },
    /// Write, look at, try and measure plugins: actions that are WebAssembly components
    #[command(subcommand)]
    Plugin(PluginCommand),
    /// Build, sign, verify and install bundles: plugins as they are deployed
    #[command(subcommand)]
    Bundle(BundleCommand),
    /// Make keys that sign bundles, and say which are trusted
    #[command(subcommand)]
    Key(KeyCommand),
    /// See it work: a few watches on a directory, a few changes, what ran
    Demo {
        /// The plugin `hello`, to be shown beside the others
        #[arg(long, value_name = "FILE")]
        component: Option<PathBuf>,
    },
    /// Show the help of a command, or a page about a topic; `twitcher help topics` lists those
    Help {
        /// Print the whole manual, topics and commands, as one HTML page
        #[arg(long, conflicts_with = "words")]
        html: bool,
        /// The command, or the topic
        #[arg(value_name = "COMMAND|TOPIC")]
        words: Vec<String>,
    },
    /// Print a shell completion script
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the manual pages
    Man {
        /// Directory to write to; it must exist
        dir: PathBuf,
    },
    /// The process that starts actions; `run` starts it
    #[command(hide = true)]
    Launcher,
    /// The process that evaluates .twc files; `run` and `check` start it
    #[command(hide = true)]
    Evaluate,
    /// The process that compiles a component; `run` and `check` start it
    #[command(hide = true)]
    Compile,
    /// The process in which a component judges its configuration; `run` and `check` start it
    #[command(hide = true)]
    Judge,
}

/// What authors of plugins need.
#[derive(Debug, Subcommand)]
pub enum PluginCommand {
    /// Create a plugin in a new directory: a Rust crate that builds and has a test
    New {
        /// Name of the crate and of the directory, such as my-action
        name: String,
    },
    /// Show what a component exports and imports, and the grants to paste into a configuration
    Inspect {
        /// The component
        file: PathBuf,
    },
    /// Run a component once, in the same sandbox as the daemon's; exit code 1 if it does not succeed
    #[command(after_help = PLUGIN_RUN_HELP)]
    Run(Box<PluginRunArguments>),
    /// Measure a component beside /bin/true
    Bench {
        /// How often each is run
        #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..100_000))]
        rounds: u32,
        /// What is run
        #[command(flatten)]
        run: Box<PluginRunArguments>,
    },
}

const PLUGIN_RUN_HELP: &str = "\
Grants are given as in a configuration; without them the component reaches nothing.

Examples:
  twitcher plugin run hello.wasm --data '{\"a\":1}' --path /x
  twitcher plugin run render.wasm --data-file app.json --config template=/t/app.conf \\
      --dir /t=./templates:ro --dir /out=/tmp/out:rw --command 'reload=systemctl reload app'";

/// A component to run, with what it is told and granted.
#[derive(Debug, Args)]
pub struct PluginRunArguments {
    /// The component
    pub file: PathBuf,
    /// The znode's data
    #[arg(long, value_name = "TEXT", default_value = "", conflicts_with = "data_file")]
    pub data: String,
    /// A file with the znode's data
    #[arg(long, value_name = "FILE")]
    pub data_file: Option<PathBuf>,
    /// A file with what describes the change, as with payload = JSON: `twitcher schema --payload` says how, and "cat" as the action of a
    /// watch shows one. The component is told the znode, the event and what is watched that it names
    #[arg(long, value_name = "FILE", conflicts_with_all = ["data", "data_file", "path", "event", "children", "changed"])]
    pub payload: Option<PathBuf>,
    /// The znode's path
    #[arg(long, value_name = "ZNODE", default_value = "/plugin/run")]
    pub path: String,
    /// Why it runs
    #[arg(
        long,
        default_value = "data",
        default_value_ifs = [("children", ArgPredicate::IsPresent, "children"), ("changed", ArgPredicate::IsPresent, "tree")],
        value_parser = ["load", "created", "data", "children", "tree", "deleted", "manual", "retry"],
    )]
    pub event: String,
    /// A child of the znode, as a watch of its children tells of all of them; can be repeated
    #[arg(long, value_name = "NAME", conflicts_with_all = ["data", "data_file", "changed"])]
    pub children: Vec<String>,
    /// A znode that changed, as a watch of the subtree tells of them; can be repeated
    #[arg(long, value_name = "ZNODE", conflicts_with_all = ["data", "data_file"])]
    pub changed: Vec<String>,
    /// A value of its configuration; can be repeated, as everything that follows
    #[arg(long, value_name = "KEY=VALUE", value_parser = pair)]
    pub config: Vec<(String, String)>,
    /// An argument
    #[arg(long, value_name = "ARG", allow_hyphen_values = true)]
    pub arg: Vec<String>,
    /// A variable of its environment
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    pub env: Vec<(String, String)>,
    /// A directory that it sees
    #[arg(long, value_name = "GUEST=HOST[:rw]", value_parser = pair)]
    pub dir: Vec<(String, String)>,
    /// An address that it may connect to
    #[arg(long, value_name = "HOST:PORT")]
    pub net: Vec<String>,
    /// An origin that it may send requests to
    #[arg(long, value_name = "ORIGIN")]
    pub http: Vec<String>,
    /// A command that it may have run; the line is split at spaces, without a shell
    #[arg(long, value_name = "NAME=COMMAND", value_parser = pair)]
    pub command: Vec<(String, String)>,
    /// A znode that it may use, `r` or `rw`; needs --tree
    #[arg(long, value_name = "PATH=ACCESS", value_parser = pair, requires = "tree")]
    pub znode: Vec<(String, String)>,
    /// A directory that stands for the tree of znodes
    #[arg(long, value_name = "DIR")]
    pub tree: Option<PathBuf>,
    /// Most memory of its own [default: 64MiB]
    #[arg(long, value_name = "SIZE")]
    pub memory: Option<String>,
    /// Seconds after which it is ended
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    pub timeout: f64,
    /// The user it runs as
    #[arg(long, value_name = "USER")]
    pub uid: Option<String>,
}

fn pair(text: &str) -> Result<(String, String), &'static str> {
    let (key, value) = text.split_once('=').ok_or("expected NAME=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

const RUN_HELP: &str = "\
Signals:
  SIGTERM, SIGINT  stop: start nothing more, give running actions --drain-timeout, then terminate them;
                   a second one terminates them at once
  SIGHUP           load the configuration again, bring parked watches back, and open the log file anew

Examples:
  twitcher run --zk zk1:2181,zk2:2181,zk3:2181/fleet --config /etc/twitcher
  twitcher run --tree ./tree --config ./watches        # no server: DIR/a/b is znode /a/b
  twitcher run --dry-run --config ./watches            # what would run, beside the daemon that runs
  timeout 300 twitcher run --once                      # at boot, or in cron

Exit codes: see `twitcher --help`.";

/// Arguments of `run`.
#[derive(Debug, Args)]
pub struct RunArguments {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub source: SourceArguments,
    /// About how often everything watched is compared with the servers, in seconds, in case a change was not announced; 0 does so
    /// only after a reconnect
    #[arg(long, value_name = "SECONDS", default_value = "600", value_parser = seconds_or_never, help_heading = "ZooKeeper")]
    pub resync: Duration,

    /// Configuration file, or directory to read recursively (.twc and .json); may be repeated
    #[arg(
        long,
        short = 'c',
        value_name = "PATH",
        default_value = "/etc/twitcher",
        alias = "config_path",
        help_heading = "Configuration"
    )]
    pub config: Vec<PathBuf>,
    /// Directory for state that outlives the daemon: what was handled, which actions run, how runs ended. One daemon at a time uses it
    #[arg(
        long,
        value_name = "DIR",
        default_value = "/var/lib/twitcher",
        help_heading = "Configuration"
    )]
    pub state_dir: PathBuf,
    /// How many runs the history keeps
    #[arg(long, value_name = "COUNT", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..=100_000_000), help_heading = "Configuration")]
    pub history_runs: u64,
    /// How many runs of one watch the history keeps
    #[arg(long, value_name = "COUNT", default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..=100_000_000), help_heading = "Configuration")]
    pub history_runs_per_watch: u64,
    /// How much space the history may take, output of actions included, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 256, value_parser = clap::value_parser!(u64).range(1..=1_000_000), help_heading = "Configuration")]
    pub history_size: u64,
    /// Unix socket for operators: root, the daemon's own user, and members of the group twitcher
    /// [default: /run/twitcher/control.sock, unless it cannot be had]
    #[arg(long, value_name = "SOCKET", help_heading = "Control")]
    pub control: Option<PathBuf>,
    /// Also serve the status page, metrics and whatever else only looks on a TCP port, to everybody who can reach it: names, states,
    /// times and counts. Nothing can be changed there. A host name given here is one by which browsers may ask for it
    #[arg(long, value_name = "HOST:PORT", help_heading = "Control")]
    pub http: Option<String>,
    /// Show on that port also what watches run, with their settings, and what runs wrote: every local user, and whoever else reaches
    /// the port, reads the passwords in it
    #[arg(long, requires = "http", help_heading = "Control")]
    pub http_details: bool,
    /// How long running actions may take to end after SIGTERM, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds, help_heading = "Configuration")]
    pub drain_timeout: Duration,
    /// Most actions that run at once, of all watches; more wait for their turn. Commands that plugins have run come on top
    /// [default: as many as the limit of open files allows]
    #[arg(long, value_name = "N", value_parser = count, help_heading = "Configuration")]
    pub max_running: Option<usize>,
    /// Most memory that processes of components may hold which wait for their next runs, in MiB; one holds 2 or more. With 0 there are none
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u64).range(0..=65_536), help_heading = "Configuration")]
    pub warm_memory: u64,
    /// Refuse to start where the kernel cannot hold components to their files and ports (Landlock, of Linux 6.7 or later)
    #[arg(long, help_heading = "Configuration")]
    pub require_landlock: bool,

    /// Run each watch's action for what its znode is now, to its end with retries, and exit: 0 if all succeeded. For images, boot
    /// scripts and cron
    #[arg(long, conflicts_with = "daemonize", help_heading = "Trying")]
    pub once: bool,
    /// Decide and log everything, start nothing and write nothing down. Beside a running daemon, too; with --once it ends when
    /// everything has been decided
    #[arg(long, conflicts_with_all = ["daemonize", "pidfile"], help_heading = "Trying")]
    pub dry_run: bool,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub fleet: FleetArguments,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub bundles: BundleStoreArguments,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub log: LogArguments,

    /// Go into the background once everything that can fail early has not
    #[arg(long, help_heading = "Process")]
    pub daemonize: bool,
    /// Write the process id to FILE and keep it locked; refuse to start while another daemon has it locked
    #[arg(long, value_name = "FILE", help_heading = "Process")]
    pub pidfile: Option<PathBuf>,
}

/// Which fleet the daemon is in, and as whom.
#[derive(Debug, Args)]
#[command(next_help_heading = "Fleet")]
pub struct FleetArguments {
    /// Tell the other daemons of a fleet what this one has handled, in znodes below PATH, such as /twitcher; see `twitcher help fleet`
    #[arg(long, value_name = "PATH", conflicts_with = "tree")]
    pub fleet: Option<String>,
    /// What this host is called there [default: its host name]
    #[arg(long, value_name = "NAME", requires = "fleet")]
    pub fleet_name: Option<String>,
    /// What else is said of it there, such as canary=yes,rack=r7; may be repeated
    #[arg(long, value_name = "KEY=VALUE,...", value_delimiter = ',', requires = "fleet")]
    pub label: Vec<String>,
}

/// Where the log goes and how much of it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Log")]
pub struct LogArguments {
    /// How a line looks
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
    /// Append to FILE; opened anew on SIGHUP
    #[arg(long, value_name = "FILE", conflicts_with = "log_to_stdout")]
    pub logfile: Option<PathBuf>,
    /// Log to standard output
    #[arg(long = "log_to_stdout", alias = "log-to-stdout")]
    pub log_to_stdout: bool,
    /// Log more: each watch that is loaded, why updates wait or are ignored, what the source does
    #[arg(long, short)]
    pub verbose: bool,
    /// Log everything, also of libraries
    #[arg(long, short)]
    pub debug: bool,
    /// For trying out: the same as --debug --log_to_stdout
    #[arg(long)]
    pub devel: bool,
}

/// Arguments of `check`.
#[derive(Debug, Args)]
pub struct CheckArguments {
    /// Files or directories
    #[arg(value_name = "PATH", default_value = "/etc/twitcher")]
    pub paths: Vec<PathBuf>,
    /// Show what a reload of the daemon that listens there would add, change, remove and run, if these were its files
    #[arg(long, value_name = "SOCKET")]
    pub against: Option<PathBuf>,
    /// Print one JSON object: watches, errors, notes
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub bundles: BundleStoreArguments,
}

/// Seconds, whole or with a fraction: more than 0, at most a year.
fn seconds(text: &str) -> Result<Duration, String> {
    const YEAR: f64 = 365.0 * 24.0 * 3600.0;
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= YEAR => Ok(Duration::from_secs_f64(seconds)),
        _ => Err("expected a number of seconds, more than 0 and at most a year".to_owned()),
    }
}

/// The same, or 0.
fn seconds_or_never(text: &str) -> Result<Duration, String> {
    match text.parse::<f64>() {
        Ok(0.0) => Ok(Duration::ZERO),
        _ => seconds(text).map_err(|error| format!("{error}; or 0")),
    }
}

/// A number of bytes from 1 KiB to 64 MiB: more than that in one znode is no configuration any more.
fn znode_size(text: &str) -> Result<u64, String> {
    const EXPECTED: &str =
        "expected a size from 1KiB to 64MiB: a whole number of bytes, or one with KiB or MiB right after it";
    let (digits, unit) = match text.strip_suffix("MiB") {
        Some(digits) => (digits, 1 << 20),
        None => text.strip_suffix("KiB").map_or((text, 1), |digits| (digits, 1 << 10)),
    };
    let size = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    size.filter(|size| (1 << 10..=64 << 20).contains(size))
        .ok_or_else(|| EXPECTED.to_owned())
}

/// A number of things of which there must be at least one.
fn count(text: &str) -> Result<usize, String> {
    match text.parse::<usize>() {
        Ok(count) if count > 0 => Ok(count),
        _ => Err("expected a whole number, at least 1".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_originals_flags_are_understood() {
        let line =
            "twitcher run --zkservers h:1 --config_path /c --log_to_stdout -v -d --pidfile /p --daemonize --devel";
        let Command::Run(run) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
            panic!()
        };
        assert_eq!(run.source.zk.as_deref(), Some("h:1"));
        assert_eq!(run.config, [PathBuf::from("/c")]);
        assert!(run.log.log_to_stdout && run.log.verbose && run.log.debug && run.log.devel && run.daemonize);
    }

    #[test]
    fn some_numbers_can_be_zero_and_some_cannot() {
        let parse = |more: &[&str]| Cli::try_parse_from([&["twitcher", "run", "--zk", "h:1"], more].concat());
        for (refused, words) in [("--max-running=0", "at least 1"), ("--resync=-1", "or 0")] {
            let error = parse(&[refused]).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        let Command::Run(run) = parse(&["--resync", "0", "--max-running", "7"]).unwrap().command else {
            panic!()
        };
        assert_eq!((run.resync, run.max_running), (Duration::ZERO, Some(7)));
    }

    #[test]
    fn the_largest_znode_is_a_size() {
        for (text, size) in [("1024", 1024), ("8KiB", 8192), ("64MiB", 64 << 20)] {
            assert_eq!(znode_size(text), Ok(size));
        }
        for text in [
            "",
            "1",
            "MiB",
            "-1MiB",
            "1.5MiB",
            "65MiB",
            "1GiB",
            "99999999999999999999",
            "18014398509481985KiB",
        ] {
            assert!(znode_size(text).unwrap_err().contains("from 1KiB to 64MiB"), "{text}");
        }
    }

    #[test]
    fn a_source_is_needed_and_only_one() {
        assert!(Cli::try_parse_from(["twitcher", "run", "--tree", "/t", "--zk", "h:1"]).is_err());
        assert!(Cli::try_parse_from(["twitcher", "run", "--zk", "h:1", "--zk-session-timeout", "-1"]).is_err());
    }
}
