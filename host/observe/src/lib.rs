//! What the daemon tells about itself: the log, and what it counts.
//!
//! Nothing here may make the daemon wait: lines go through a thread, and are counted and dropped when their reader has stopped
//! reading; counting is an atomic increment. It must not know what is logged or counted, nor why.
//!
//! ```text
//!  any thread ── line ──▶ queue of bounded length ──▶ thread twitcher-log ──▶ stderr, stdout or file
//!             └── line ──▶ journal or syslog, at once
//!             └── count ──▶ Metrics ──▶ text for Prometheus, when asked for
//! ```

#![forbid(unsafe_code)]

mod log_file;
pub mod metrics;

use std::io::{self, IsTerminal};
use std::path::PathBuf;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

pub use log_file::LogFile;

/// Lines that may wait for a slow reader: some megabytes.
const BUFFERED_LINES: usize = 32_768;

/// The format of the lines of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people to read.
    #[default]
    Text,
    /// One JSON object a line: timestamp (RFC 3339, UTC), level, message, target, and the fields of the event beside them.
    Json,
}

/// Where the log goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogDestination {
    /// Standard error; the journal itself when that is what standard error is connected to.
    Stderr,
    /// The standard output of the daemon.
    Stdout,
    /// A file that lines are appended to.
    File(PathBuf),
    /// The syslog, with the facility daemon.
    Syslog,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verbosity {
    /// What an operator wants to know is logged.
    #[default]
    Normal,
    /// Also logged is why Twitcher does what it does.
    Verbose,
    /// Everything is logged, also by the libraries it uses.
    Debug,
}

/// Why the log cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The log file cannot be opened.
    #[error("cannot open the log file {}: {source}", path.display())]
    File {
        /// The path of the log file.
        path: PathBuf,
        /// The error of opening it.
        source: io::Error,
    },
    /// The journal does not answer.
    #[error("cannot log to the journal: {0}")]
    Journal(io::Error),
    /// syslog is in use in this process already.
    #[error("cannot log to syslog: it is in use already")]
    Syslog,
    /// The log of this process was set up before.
    #[error("the log is set up already")]
    Twice,
}

/// Keeps the log going; what still waits is written when it is dropped.
#[derive(Debug)]
pub struct Log {
    file: Option<LogFile>,
    dropped: Option<ErrorCounter>,
    reported: usize,
    _worker: Option<WorkerGuard>,
}

impl Log {
    /// Starts logging for the whole process. Starts a thread.
    pub fn start(destination: &LogDestination, format: LogFormat, verbosity: Verbosity) -> Result<Self, LogError> {
        let mut log = Self {
            file: None,
            dropped: None,
            reported: 0,
            _worker: None,
        };
        let layer: Box<dyn Layer<Registry> + Send + Sync> = match destination {
            LogDestination::Syslog => {
                let (options, facility) = (syslog_tracing::Options::LOG_PID, syslog_tracing::Facility::Daemon);
                let syslog = syslog_tracing::Syslog::new(c"twitcher", options, facility).ok_or(LogError::Syslog)?;
                // syslog has a time and a level of its own.
                let text = tracing_subscriber::fmt::layer()
                    .with_writer(syslog)
                    .without_time()
                    .with_level(false);
                Box::new(text.with_ansi(false).with_target(false))
            }
            LogDestination::Stderr if format == LogFormat::Text && stderr_is_journal() => Box::new(
                tracing_journald::layer()
                    .map_err(LogError::Journal)?
                    .with_field_prefix(None),
            ),
            LogDestination::Stderr => log.lines(io::stderr(), format, io::stderr().is_terminal()),
            LogDestination::Stdout => log.lines(io::stdout(), format, io::stdout().is_terminal()),
            LogDestination::File(path) => {
                let at = |source| LogError::File {
                    path: path.clone(),
                    source,
                };
                let file = LogFile::open(path.clone()).map_err(at)?;
                log.file = Some(file.clone());
                log.lines(file, format, false)
            }
        };
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter(verbosity)));
        subscriber.try_init().map_err(|_| LogError::Twice)?;
        Ok(log)
    }

    fn lines<W>(&mut self, writer: W, format: LogFormat, colour: bool) -> Box<dyn Layer<Registry> + Send + Sync>
    where
        W: io::Write + Send + 'static,
    {
        let builder = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(BUFFERED_LINES);
        let (writer, worker) = builder.thread_name("twitcher-log").finish(writer);
        self.dropped = Some(writer.error_counter());
        self._worker = Some(worker);
        let layer = tracing_subscriber::fmt::layer().with_writer(writer);
        match format {
            LogFormat::Json => Box::new(
                layer
                    .json()
                    .flatten_event(true)
                    .with_current_span(false)
                    .with_span_list(false),
            ),
            LogFormat::Text => Box::new(layer.with_ansi(colour).with_target(false)),
        }
    }

    /// Opens the log file anew, for logrotate. The old one stays in use if that fails.
    pub fn reopen(&self) -> Result<(), LogError> {
        match &self.file {
            Some(file) => file.reopen().map_err(|source| LogError::File {
                path: file.path().to_owned(),
                source,
            }),
            None => Ok(()),
        }
    }

    /// How many lines were dropped so far because nobody read them.
    pub fn dropped(&self) -> usize {
        self.dropped.as_ref().map_or(0, ErrorCounter::dropped_lines)
    }

    /// How many lines were dropped since the last call because nobody read them.
    pub fn newly_dropped(&mut self) -> usize {
        let dropped = self.dropped.as_ref().map_or(0, ErrorCounter::dropped_lines);
        let new = dropped.saturating_sub(self.reported);
        self.reported = dropped;
        new
    }
}

fn filter(verbosity: Verbosity) -> Targets {
    match verbosity {
        // What the ZooKeeper client says of its connection attempts is said better by our own source.
        Verbosity::Normal => Targets::new()
            .with_target("twitcher", Level::INFO)
            .with_default(LevelFilter::OFF),
        Verbosity::Verbose => Targets::new()
            .with_target("twitcher", Level::DEBUG)
            .with_default(Level::WARN),
        // At debug level the ZooKeeper client prints the password of its session.
        Verbosity::Debug => Targets::new()
            .with_target("zookeeper_client", Level::INFO)
            .with_default(Level::DEBUG),
    }
}

/// systemd tells in JOURNAL_STREAM which stream goes to the journal, as device:inode: a child whose stderr was redirected since
/// still has the variable.
fn stderr_is_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else {
        return false;
    };
    let Ok(stat) = nix::sys::stat::fstat(io::stderr()) else {
        return false;
    };
    stream == format!("{}:{}", stat.st_dev, stat.st_ino)
}
