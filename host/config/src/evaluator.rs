//! The daemon's side of the helper process that evaluates `.twc` files.
//!
//! Evaluating a file always ends, within a bounded time and with bounded memory, whatever the file does to the helper. This module
//! must not know what a watch is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use twitcher_ipc::helper::{Death, ExchangeError, Helper};

use super::error::{ConfigError, SourceText};
use super::evaluator_helper::MEMORY_MAX;
use super::evaluator_protocol::{REPLIES, REQUESTS, Reply, Request};
use super::json::WATCHES_MAX;
use super::validate::Parsed;
use twitcher_model::sanitize;

/// Longest line that a file can print, in characters.
pub(super) const PRINT_MAX: usize = 2000;
/// Most lines of one file that are kept.
const PRINTS_MAX: usize = 1000;
/// Most bytes that one file can make the helper say.
const REPLIES_MAX: usize = 48 << 20;
/// How much later than the helper itself the daemon loses patience: the helper knows the line of the endless loop.
const GRACE: Duration = Duration::from_millis(500);

/// A line that a file printed while it was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Print {
    /// The file with the `print`.
    pub file: Arc<Path>,
    /// Its line, from 1, where known.
    pub line: Option<u32>,
    /// What it printed: one line, without control characters.
    pub text: String,
}

/// What became of a file in the helper.
#[derive(Debug)]
pub(super) struct Evaluation {
    pub(super) parsed: Result<Parsed, Vec<ConfigError>>,
    pub(super) prints: Vec<Print>,
}

/// Why the helper gave no result.
#[derive(Debug, thiserror::Error)]
enum HelperError {
    #[error("cannot start the process that evaluates .twc files: {0}")]
    Start(io::Error),
    #[error("the process that evaluates .twc files could not give up its rights: {0}")]
    Refused(String),
    #[error("evaluation took more than {} s", .0.as_secs_f64())]
    TimedOut(Duration),
    #[error("evaluation used more than {} MiB of memory", MEMORY_MAX >> 20)]
    Memory,
    #[error("expressions or values are nested too deeply")]
    Nesting,
    #[error("evaluation printed or registered more than {} MiB", REPLIES_MAX >> 20)]
    TooMuch,
    #[error("more than {WATCHES_MAX} watches in one file")]
    TooManyWatches,
    #[error("the process that evaluates .twc files has gone")]
    Gone,
    #[error("the process that evaluates .twc files broke down: {0}")]
    Broken(Death),
    #[error("the process that evaluates .twc files sent nonsense: {0}")]
    Nonsense(io::Error),
}

/// Evaluates `.twc` files in a helper process. The process is started when it is first needed, and serves until
/// `Evaluator::rest`, or until a file breaks it.
#[derive(Debug)]
pub struct Evaluator {
    program: PathBuf,
    budget: Duration,
    helper: Option<Helper>,
}

impl Evaluator {
    /// An evaluator whose helper is `program evaluate`; for the daemon, `program` is `/proc/self/exe`. Each file has 5 s.
    pub fn new(program: PathBuf) -> Self {
        Self {
            program,
            budget: Duration::from_secs(5),
            helper: None,
        }
    }

    /// The same evaluator with another time for each file.
    pub fn with_budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// Ends the helper process, if there is one. Its parent-death signal follows the thread that started it, so it must not outlive
    /// one piece of work on a pool's thread.
    pub(super) fn rest(&mut self) {
        self.helper = None;
    }

    /// Evaluates one file. `load` gives the files that it loads.
    pub(super) fn evaluate(
        &mut self,
        source: &SourceText,
        load: &mut dyn FnMut(&Path) -> Result<SourceText, ConfigError>,
    ) -> Evaluation {
        let mut work = Work {
            budget: self.budget,
            deadline: Instant::now() + self.budget + GRACE,
            parsed: Parsed {
                source: source.clone(),
                loads: Vec::new(),
                registrations: Vec::new(),
                errors: Vec::new(),
            },
            prints: Vec::new(),
            received_before: 0,
        };
        let result = match self.helper() {
            Ok(helper) => work.run(helper, load),
            Err(error) => Err(error),
        };
        let parsed = match result {
            Ok(Ok(())) => Ok(work.parsed),
            // What it registers all the same may have mistakes of its own, which are told together with these.
            Ok(Err(errors)) => Ok(Parsed { errors, ..work.parsed }),
            Err(error) => {
                let error = self.autopsy(error);
                Err(vec![ConfigError::of_file(&*source.file, error)])
            }
        };
        Evaluation {
            parsed,
            prints: work.prints,
        }
    }

    fn helper(&mut self) -> Result<&mut Helper, HelperError> {
        if self.helper.is_none() {
            let helper = Helper::start(&self.program, "evaluate", REQUESTS, REPLIES);
            self.helper = Some(helper.map_err(HelperError::Start)?);
        }
        match &mut self.helper {
            Some(helper) => Ok(helper),
            None => Err(HelperError::Start(io::ErrorKind::NotFound.into())),
        }
    }

    /// Ends a helper that failed, and finds out why it did.
    fn autopsy(&mut self, error: HelperError) -> HelperError {
        let Some(helper) = self.helper.take() else {
            return error;
        };
        match error {
            HelperError::Gone => verdict(helper.cause_of_death(), self.budget),
            other => other,
        }
    }
}

/// One file's evaluation.
struct Work {
    budget: Duration,
    deadline: Instant,
    parsed: Parsed,
    prints: Vec<Print>,
    /// How much the helper had said before it came to this file.
    received_before: usize,
}

impl Work {
    fn run(
        &mut self,
        helper: &mut Helper,
        load: &mut dyn FnMut(&Path) -> Result<SourceText, ConfigError>,
    ) -> Result<Result<(), Vec<ConfigError>>, HelperError> {
        self.received_before = helper.received();
        // A new helper says first whether it has given up its rights.
        if self.received_before == 0 {
            match self.receive(helper)? {
                Reply::Ready => {}
                Reply::Refused(why) => return Err(HelperError::Refused(why)),
                _ => return Err(nonsense()),
            }
        }
        let request = Request::Evaluate {
            file: self.parsed.source.file.to_string_lossy().into_owned(),
            text: self.parsed.source.text.to_string(),
            budget_ms: u64::try_from(self.budget.as_millis()).unwrap_or(u64::MAX),
        };
        self.send(helper, &request)?;
        loop {
            match self.receive(helper)? {
                Reply::Load { path } => {
                    let text = self.load(Path::new(&path), load);
                    self.send(helper, &Request::Text(text))?;
                }
                Reply::Registered(_) if self.parsed.registrations.len() >= WATCHES_MAX => {
                    return Err(HelperError::TooManyWatches);
                }
                Reply::Registered(registration) => self.parsed.registrations.push(registration),
                Reply::Print { at, text } => self.print(at, &text),
                Reply::Done(result) => return Ok(result),
                Reply::Ready | Reply::Refused(_) => return Err(nonsense()),
            }
        }
    }

    fn load(
        &mut self,
        path: &Path,
        load: &mut dyn FnMut(&Path) -> Result<SourceText, ConfigError>,
    ) -> Result<String, String> {
        let source = load(path).map_err(|error| match error.hint {
            Some(hint) => format!("{} (hint: {hint})", error.message),
            None => error.message,
        })?;
        let text = source.text.to_string();
        self.parsed.loads.push(source);
        Ok(text)
    }

    fn print(&mut self, at: Option<(String, u32)>, text: &str) {
        let place = at.as_ref().and_then(|(file, offset)| {
            let mut sources = self.parsed.loads.iter().chain([&self.parsed.source]);
            let source = sources.find(|source| source.file.to_str() == Some(file))?;
            Some((source.file.clone(), source.position(*offset as usize).line))
        });
        let main = || self.parsed.source.file.clone();
        match self.prints.len() {
            0..PRINTS_MAX => {
                self.prints.push(Print {
                    file: place.as_ref().map_or_else(main, |(file, _)| file.clone()),
                    line: place.map(|(_, line)| line),
                    text: sanitize::line(&text.chars().take(PRINT_MAX).collect::<String>()),
                });
            }
            PRINTS_MAX => self.prints.push(Print {
                file: main(),
                line: None,
                text: format!("printed more than {PRINTS_MAX} lines; the rest is not shown"),
            }),
            _ => {}
        }
    }

    fn send(&self, helper: &mut Helper, request: &Request) -> Result<(), HelperError> {
        let sent = helper.send(request, self.deadline);
        sent.map_err(|error| self.failed(error))
    }

    fn receive(&self, helper: &mut Helper) -> Result<Reply, HelperError> {
        let reply = helper.receive(self.deadline);
        if helper.received() - self.received_before > REPLIES_MAX {
            return Err(HelperError::TooMuch);
        }
        reply.map_err(|error| self.failed(error))
    }

    fn failed(&self, error: ExchangeError) -> HelperError {
        match error {
            ExchangeError::TimedOut => HelperError::TimedOut(self.budget),
            ExchangeError::Gone => HelperError::Gone,
            ExchangeError::Channel(error) => HelperError::Nonsense(error),
        }
    }
}

fn nonsense() -> HelperError {
    HelperError::Nonsense(io::ErrorKind::InvalidData.into())
}

/// What is said when memory runs out: by Rust's runtime, by its collections, and by Starlark about a list of billions.
const MEMORY_WORDS: [&str; 3] = [
    "memory allocation of",
    "capacity overflow",
    "AlignedSize must not exceed",
];

/// Why a helper has gone. Rust's runtime ends a process by the same signal when memory runs out and when the stack does; what it says
/// differs.
fn verdict(death: Death, budget: Duration) -> HelperError {
    if MEMORY_WORDS.iter().any(|words| death.said(words)) {
        return HelperError::Memory;
    }
    if death.said("overflowed its stack") {
        return HelperError::Nesting;
    }
    match death.signal() {
        Some(Signal::SIGSEGV) => HelperError::Nesting,
        Some(Signal::SIGXCPU) => HelperError::TimedOut(budget),
        _ => HelperError::Broken(death),
    }
}
