//! The commands on a running daemon.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{ArgGroup, Args, ColorChoice, Subcommand, ValueEnum};

use super::fleet::FleetCommand;
use super::seconds;
use twitcher_control::api::{STATES, WatchState};
use twitcher_model::Outcome;

const STATUS_HELP: &str = "\
Without a name: the daemon, then the watches, those in trouble first. On a terminal long lists are cut; piped or with --all they \
are whole.

With a name: what the watch does, why it ran or did not, what would make it run, and its last runs. With the path of a znode: the \
watches of it, also those of all below a znode that it lies in.

Examples:
  twitcher status                          # anything wrong?
  twitcher status 'pull the repo'          # why did it not run?
  twitcher status /app/config              # who watches it?
  twitcher status --state parked,backing_off
  twitcher status --json | jq '.watches[] | select(.behind_since) | .name'

--json prints {\"status\": …, \"watches\": […]}, as GET /v1/status and GET /v1/watches have them; with a name GET /v1/watches/NAME.";

const HISTORY_HELP: &str = "\
Runs are kept over restarts of the daemon, as many as its --history-runs says.

Examples:
  twitcher history                         # the last 20 runs of all watches
  twitcher history 'pull the repo' -n 100
  twitcher history --failed --since 2h     # what went wrong tonight
  twitcher history --outcome timed_out --json";

const LOGS_HELP: &str = "\
What it wrote to its standard output and error, and what a component logged, with its level and fields. The daemon keeps the last \
64 KiB of each run. Its log has the first 1 MiB of each: journalctl -u twitcher.

RUN is an id as `history` and the log show it, or as much of its end as only one of the last 1000 runs has; or the name of a watch, \
for its newest run.

Examples:
  twitcher logs 1m82xp1tf0001
  twitcher logs 'pull the repo'
  twitcher logs f0001
  twitcher logs --last 'pull the repo'";

const RUN_NOW_HELP: &str = "\
The action runs for the state that its node is in, though it has not changed; TWITCHER_EVENT is `manual`. A watch whose action runs \
already queues it. A parked or paused watch stays so: `resume` it instead. Where the node cannot be read, that is said, and the \
action runs once it can be (--wait waits for that); without a connection, or an answer within a few seconds, nothing runs, also later.

Examples:
  twitcher run-now 'pull the repo'
  twitcher run-now 'pull the repo' --wait  # with its output; exit code 1 if it does not succeed

A watch with a rollout runs when its turn comes. With --ungoverned it does so at once, on this host alone.";

const PAUSE_HELP: &str = "\
Changes are still seen; when the watch is resumed, its action runs once, for the newest. What runs is not touched. The pause \
outlives restarts of the daemon. Who paused it, when, and the reason if one is given, are shown by `twitcher status` until then.

Examples:
  twitcher pause 'pull the repo' --reason 'until the release is out'
  twitcher pause web-1 web-2";

const RESUME_HELP: &str = "\
Brings back paused watches, and those that were parked after a failure (on_failure = STOP). What they missed is run for, once; if that \
is nothing newer, what had failed is run again.

Examples:
  twitcher resume 'pull the repo'
  twitcher resume --all";

const RELOAD_HELP: &str = "\
The same as SIGHUP, and tells what came of it. A file with a mistake keeps its previous watches; then the exit code is 1. \
`twitcher check` finds the same mistakes without a daemon.";

const DRAIN_HELP: &str = "\
The daemon starts nothing more and ends when what runs has ended. What still runs after its --drain-timeout (30 s unless it was \
started with another) is terminated: SIGTERM, then SIGKILL after the watch's kill_after. Waits for the end, and shows what is \
waited for and until when. Interrupting this command does not stop the daemon from draining. To hold a single watch, `pause` it. \
Under systemd use `systemctl stop twitcher`, or it may be started again.

Examples:
  twitcher drain
  twitcher drain --timeout 60 || twitcher status    # exit code 1: runs go on, and the daemon with them";

const EVENTS_HELP: &str = "\
With --follow: all that happens from now on, until interrupted; when the daemon goes away, waits for the next one. Without it: the \
last thousand events, or what happened since the daemon started if that is less; past runs are in `history`.

Examples:
  twitcher events
  twitcher events -f
  twitcher events -f 'pull the repo'
  twitcher events -f --json | jq -r 'select(.kind == \"ended\") | .run.outcome'";

/// What is asked of a running daemon, or told to it.
#[derive(Debug, Subcommand)]
pub enum OperateCommand {
    /// Show what a running daemon does, or one watch: why its action ran or did not
    #[command(after_help = STATUS_HELP, visible_alias = "list")]
    Status(StatusArguments),
    /// Show past runs, the newest first
    #[command(after_help = HISTORY_HELP)]
    History(HistoryArguments),
    /// Show what a run wrote
    #[command(after_help = LOGS_HELP)]
    Logs(LogsArguments),
    /// Run a watch's action now
    #[command(after_help = RUN_NOW_HELP)]
    RunNow(RunNowArguments),
    /// Hold watches: changes wait until they are resumed
    #[command(after_help = PAUSE_HELP)]
    Pause(PauseArguments),
    /// Let paused and parked watches go on
    #[command(after_help = RESUME_HELP)]
    Resume(ResumeArguments),
    /// Have the daemon load its configuration again
    #[command(after_help = RELOAD_HELP)]
    Reload(ReloadArguments),
    /// Stop the daemon when what runs has ended, or after a while without that
    #[command(after_help = DRAIN_HELP, visible_alias = "stop")]
    Drain(DrainArguments),
    /// What is asked about the fleet: on the command line it is beside what is not asked of a daemon
    #[command(skip)]
    Fleet(FleetCommand),
    /// Show what happens: changes, decisions, runs
    #[command(after_help = EVENTS_HELP)]
    Events(EventsArguments),
}

impl OperateCommand {
    /// What all of them have.
    pub fn common(&self) -> &Common {
        match self {
            Self::Status(StatusArguments { common, .. })
            | Self::History(HistoryArguments { common, .. })
            | Self::Logs(LogsArguments { common, .. })
            | Self::RunNow(RunNowArguments { common, .. })
            | Self::Pause(PauseArguments { common, .. })
            | Self::Resume(ResumeArguments { common, .. })
            | Self::Reload(ReloadArguments { common, .. })
            | Self::Drain(DrainArguments { common, .. })
            | Self::Events(EventsArguments { common, .. }) => common,
            Self::Fleet(command) => command.common(),
        }
    }
}

/// The variable that names the socket of the daemon that is asked.
pub const CONTROL_VARIABLE: &str = "TWITCHER_CONTROL";

/// Which daemon, and how its answers are shown.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// The daemon's socket, as its own --control says
    #[arg(
        long,
        value_name = "SOCKET",
        env = CONTROL_VARIABLE,
        default_value = "/run/twitcher/control.sock"
    )]
    pub control: PathBuf,
    /// Print the daemon's own JSON, for programs
    #[arg(long)]
    pub json: bool,
    /// When to use colours; `auto` on a terminal, unless NO_COLOR is set
    #[arg(long, value_name = "WHEN", default_value_t = ColorChoice::Auto)]
    pub color: ColorChoice,
    /// How times are shown
    #[arg(long, value_enum, value_name = "HOW", default_value_t = TimeStyle::Relative)]
    pub time: TimeStyle,
}

/// How times are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum TimeStyle {
    /// 3 min ago
    Relative,
    /// This machine's time zone
    Local,
    /// UTC
    Utc,
}

/// Arguments of `status`.
#[derive(Debug, Args)]
pub struct StatusArguments {
    /// Name of a watch, or path of a znode
    pub watch: Option<String>,
    /// Show every watch, however many there are
    #[arg(long, conflicts_with = "watch")]
    pub all: bool,
    /// Show only watches in these states
    #[arg(long, value_name = "STATE,...", value_delimiter = ',', value_parser = state(), conflicts_with = "watch")]
    pub state: Vec<WatchState>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// Arguments of `history`.
#[derive(Debug, Args)]
pub struct HistoryArguments {
    /// Name of a watch; all without it
    pub watch: Option<String>,
    /// Most runs to show
    #[arg(long, short = 'n', value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    /// Only runs that ended so
    #[arg(long, value_name = "OUTCOME", value_parser = Outcome::ASKED_FOR, conflicts_with = "failed")]
    pub outcome: Option<String>,
    /// Only runs that ended without success
    #[arg(long)]
    pub failed: bool,
    /// Only runs that started then or later: a span such as 90s, 30min, 2h or 7d, or a time such as 2026-07-01T03:00Z
    #[arg(long, value_name = "WHEN", value_parser = since)]
    pub since: Option<Since>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// Arguments of `logs`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["run", "last"])))]
pub struct LogsArguments {
    /// Id of a run, or its end; or name of a watch, for its newest run
    #[arg(value_name = "RUN|WATCH")]
    pub run: Option<String>,
    /// The newest run of this watch, whatever looks like its name
    #[arg(long, value_name = "WATCH")]
    pub last: Option<String>,
    /// Print the output as it is, also what may confuse a terminal, and nothing else
    #[arg(long)]
    pub raw: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// Arguments of `run-now`.
#[derive(Debug, Args)]
pub struct RunNowArguments {
    /// Name of a watch
    pub watch: String,
    /// Wait for the run's end and show its output
    #[arg(long)]
    pub wait: bool,
    /// Pass the watch's rollout by, on this host alone
    #[arg(long)]
    pub ungoverned: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// Arguments of `pause`.
#[derive(Debug, Args)]
pub struct PauseArguments {
    /// Names of watches
    #[arg(value_name = "WATCH", required = true)]
    pub watches: Vec<String>,
    /// Why, for whoever finds them paused
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// Arguments of `resume`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("which").required(true).args(["watches", "all"])))]
pub struct ResumeArguments {
    /// Names of watches
    #[arg(value_name = "WATCH")]
    pub watches: Vec<String>,
    /// Every watch that is paused or parked
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// Arguments of `reload`.
#[derive(Debug, Args)]
pub struct ReloadArguments {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// Arguments of `drain`.
#[derive(Debug, Args)]
pub struct DrainArguments {
    /// Nothing: whoever names a watch wants another command, and is told which
    #[arg(hide = true)]
    pub watches: Vec<String>,
    /// Wait so many seconds at most; the daemon goes on draining
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub timeout: Option<Duration>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// Arguments of `events`.
#[derive(Debug, Args)]
pub struct EventsArguments {
    /// Only events of this watch
    pub watch: Option<String>,
    /// Go on until interrupted
    #[arg(long, short)]
    pub follow: bool,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// A time in the past.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Since {
    /// So long before now.
    Ago(jiff::SignedDuration),
    /// Then.
    At(jiff::Timestamp),
}

impl Since {
    /// As a time.
    pub fn before(self, now: jiff::Timestamp) -> jiff::Timestamp {
        match self {
            Self::Ago(span) => now.saturating_sub(span).unwrap_or(jiff::Timestamp::MIN),
            Self::At(time) => time,
        }
    }
}

fn since(text: &str) -> Result<Since, &'static str> {
    const EXPECTED: &str = "expected a span such as 90s, 30min, 2h or 7d, or a time such as 2026-07-01T03:00Z";
    if let Ok(time) = text.parse() {
        return Ok(Since::At(time));
    }
    if let Ok(local) = text.parse::<jiff::civil::DateTime>() {
        let zoned = local.to_zoned(jiff::tz::TimeZone::system()).map_err(|_| EXPECTED)?;
        return Ok(Since::At(zoned.timestamp()));
    }
    let span: jiff::Span = text.parse().map_err(|_| EXPECTED)?;
    let span = span
        .to_duration(jiff::SpanRelativeTo::days_are_24_hours())
        .map_err(|_| EXPECTED)?;
    Ok(Since::Ago(span.abs()))
}

fn state() -> impl TypedValueParser<Value = WatchState> {
    PossibleValuesParser::new(STATES.map(|info| info.state.name()))
        .try_map(|name| WatchState::named(&name).ok_or("no such state"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Command};
    use clap::Parser;

    fn parse(line: &[&str]) -> Result<OperateCommand, String> {
        match Cli::try_parse_from([&["twitcher"], line].concat()).map(|cli| cli.command) {
            Ok(Command::Operate(command)) => Ok(command),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn times_are_spans_or_instants() {
        for text in ["90s", "30min", "2h", "7d", "1h 30m", "1 day"] {
            let ago = matches!(since(text), Ok(Since::Ago(span)) if span.is_positive());
            assert!(ago, "{text}: {:?}", since(text));
        }
        assert_eq!(since("7d"), since("168h"));
        for text in [
            "2026-07-01T03:00Z",
            "2026-07-01T03:00:01.5+02:00",
            "2026-07-01",
            "2026-07-01 03:00",
        ] {
            assert!(matches!(since(text), Ok(Since::At(_))), "{text}: {:?}", since(text));
        }
        assert!(since("yesterday").is_err() && since("2").is_err());
    }

    #[test]
    fn states_have_the_names_of_the_interface() {
        let Ok(OperateCommand::Status(status)) = parse(&["status", "--state", "parked,backing_off"]) else {
            panic!()
        };
        assert_eq!(status.state, [WatchState::Parked, WatchState::BackingOff]);
        let refused = parse(&["status", "--state", "broken"]).unwrap_err();
        assert!(refused.contains("refused_empty"), "{refused}");
        for info in STATES {
            let Ok(OperateCommand::Status(status)) = parse(&["status", "--state", info.state.name()]) else {
                panic!("{info:?}")
            };
            assert_eq!(status.state, [info.state]);
        }
    }

    #[test]
    fn what_is_meant_must_be_said() {
        for line in [
            &["logs"][..],
            &["resume"],
            &["pause"],
            &["run-now"],
            &["logs", "x", "--last", "y"],
            &["resume", "x", "--all"],
            &["status", "x", "--all"],
        ] {
            assert!(parse(line).is_err(), "{line:?}");
        }
        assert!(parse(&["resume", "--all", "--control", "/s"]).is_ok());
    }
}
