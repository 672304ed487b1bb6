//! What the daemon tells about itself: the log, and what it counts.
//!
//! Nothing here may make the daemon wait: lines go through a thread, and are counted and dropped when their reader has stopped
//! reading; counting is an atomic increment. It must not know what is logged or counted, nor why.
//!
//! ```text
//!  any thread ── line ──▶ queue, bounded in lines and bytes ──▶ thread twitcher-log ──▶ stderr, stdout, file, journal or syslog
//!             └── count ──▶ Metrics ──▶ text for Prometheus, when asked for
//! ```

#![forbid(unsafe_code)]

mod fields;
mod journal;
mod log_file;
pub mod metrics;
mod queue;
mod stream;
mod syslog;

use std::io::{self, IsTerminal};
use std::panic::PanicHookInfo;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use jiff::tz::TimeZone;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, error};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, Registry};

use fields::LogFields;
use journal::{JournalLayer, JournalSocket};
pub use log_file::LogFile;
use queue::{LineQueue, QueueLimits, Sink};
use stream::Stream;
use syslog::SyslogSocket;

/// What may wait for a slow reader.
const LIMITS: QueueLimits = QueueLimits {
    lines: 32_768,
    bytes: 8 << 20,
};
/// How long the end waits for the log.
const LAST_WAIT: Duration = Duration::from_secs(2);

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
    /// Only what is wrong is logged.
    Warnings,
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
    /// There is no descriptor for the log.
    #[error("cannot set up the log: {0}")]
    Descriptor(#[source] io::Error),
    /// There is no thread for the log.
    #[error(
        "cannot start the thread that writes the log: {0}; more processes have to be allowed (ulimit -u, TasksMax= of systemd)"
    )]
    Thread(#[source] io::Error),
    /// The log of this process was set up before.
    #[error("the log is set up already")]
    Twice,
}

/// The log of this process. Once it is dropped, what waited is written, or has had two seconds to be.
#[derive(Debug)]
pub struct Log {
    queue: Arc<LineQueue>,
    reopen: Option<Arc<AtomicBool>>,
}

type BoxedLayer = Box<dyn Layer<Registry> + Send + Sync>;

impl Log {
    /// Starts logging for the whole process. Starts a thread. Whoever is to read the log is not waited for.
    pub fn start(destination: &LogDestination, format: LogFormat, verbosity: Verbosity) -> Result<Self, LogError> {
        let queue = Arc::new(LineQueue::new(LIMITS));
        let lines = |form| LineWriter {
            queue: Arc::clone(&queue),
            form,
        };
        let mut reopen = None;
        let (layer, sink): (BoxedLayer, Box<dyn Sink>) = match destination {
            LogDestination::Syslog => {
                // syslog has a time and a level of its own.
                let text = tracing_subscriber::fmt::layer()
                    .with_writer(lines(LineForm::Syslog(TimeZone::system(), Level::INFO)))
                    .without_time()
                    .with_level(false);
                let layer = Box::new(text.fmt_fields(LogFields).with_ansi(false).with_target(false));
                (layer, Box::new(SyslogSocket::default()))
            }
            LogDestination::Stderr if format == LogFormat::Text && stderr_is_journal() => {
                let socket = JournalSocket::open().map_err(LogError::Descriptor)?;
                (Box::new(JournalLayer::new(Arc::clone(&queue))), Box::new(socket))
            }
            LogDestination::Stderr => {
                let stream = Stream::of(io::stderr()).map_err(LogError::Descriptor)?;
                let layer = stream_layer(lines(LineForm::Plain), format, io::stderr().is_terminal());
                (layer, Box::new(stream))
            }
            LogDestination::Stdout => {
                let stream = Stream::of(io::stdout()).map_err(LogError::Descriptor)?;
                let layer = stream_layer(lines(LineForm::Plain), format, io::stdout().is_terminal());
                (layer, Box::new(stream))
            }
            LogDestination::File(path) => {
                let file = LogFile::open(path.clone()).map_err(|source| LogError::File {
                    path: path.clone(),
                    source,
                })?;
                reopen = Some(file.reopen_flag());
                (stream_layer(lines(LineForm::Plain), format, false), Box::new(file))
            }
        };
        let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter(verbosity)));
        subscriber.try_init().map_err(|_| LogError::Twice)?;
        let serving = Arc::clone(&queue);
        thread::Builder::new()
            .name("twitcher-log".to_owned())
            .spawn(move || serving.serve(sink))
            .map_err(LogError::Thread)?;
        std::panic::set_hook(Box::new(log_panic));
        Ok(Self { queue, reopen })
    }

    /// Has the log file opened anew before the next line is written, for logrotate. The old one stays in use if that fails, and the
    /// log says so.
    pub fn reopen(&self) {
        if let Some(reopen) = &self.reopen {
            reopen.store(true, Ordering::Relaxed);
        }
    }

    /// How many lines were dropped so far because nobody read them. The log tells of them itself.
    pub fn dropped(&self) -> u64 {
        self.queue.dropped()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.queue.finish(LAST_WAIT);
    }
}

/// The standard library would print it: to a standard error that perhaps nobody reads, and not to the log.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let place = panic.location().map(tracing::field::display);
    let why = panic.payload_as_str().unwrap_or("no message");
    error!(thread, place, "panicked, which is a defect of twitcher: {why}");
}

fn stream_layer(writer: LineWriter, format: LogFormat, colour: bool) -> BoxedLayer {
    let layer = tracing_subscriber::fmt::layer().with_writer(writer);
    match format {
        LogFormat::Json => Box::new(
            layer
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_span_list(false),
        ),
        LogFormat::Text => Box::new(layer.fmt_fields(LogFields).with_ansi(colour).with_target(false)),
    }
}

/// Puts lines into the queue.
#[derive(Debug, Clone)]
struct LineWriter {
    queue: Arc<LineQueue>,
    form: LineForm,
}

#[derive(Debug, Clone)]
enum LineForm {
    Plain,
    /// With the time of this zone, and of the level.
    Syslog(TimeZone, Level),
}

impl<'a> MakeWriter<'a> for LineWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }

    fn make_writer_for(&'a self, metadata: &Metadata<'_>) -> Self {
        let mut writer = self.clone();
        if let LineForm::Syslog(_, level) = &mut writer.form {
            *level = *metadata.level();
        }
        writer
    }
}

impl io::Write for LineWriter {
    /// It is given whole lines.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.queue.push(match &self.form {
            LineForm::Plain => line.into(),
            LineForm::Syslog(zone, level) => syslog::line(*level, line, zone),
        });
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn filter(verbosity: Verbosity) -> Targets {
    match verbosity {
        Verbosity::Warnings => Targets::new()
            .with_target("twitcher", Level::WARN)
            .with_default(LevelFilter::OFF),
        // What the ZooKeeper client says of its connection attempts is said better by our own source.
        Verbosity::Normal => Targets::new()
            .with_target("twitcher", Level::INFO)
            .with_default(LevelFilter::OFF),
        // notify warns of every watched directory that is removed: that it cannot forget it twice.
        Verbosity::Verbose => Targets::new()
            .with_target("notify", Level::ERROR)
            .with_target("twitcher", Level::DEBUG)
            .with_default(Level::WARN),
        // At debug level the ZooKeeper client prints the password of its session.
        Verbosity::Debug => Targets::new()
            .with_target("notify", Level::ERROR)
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
