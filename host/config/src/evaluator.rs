//! The daemon's side of the helper process that evaluates `.twc` files.
//!
//! Evaluating a file always ends, within a bounded time and with bounded memory, whatever the file does to the helper. This module
//! must not know what a watch is.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

use super::error::{ConfigError, Source};
use super::evaluator_helper::MEMORY_MAX;
use super::evaluator_protocol::{REPLY_MAX, Reply, Request, announced, frame, parse};
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
    #[error("the process that evaluates .twc files broke down: {0}")]
    Broken(String),
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
        source: &Source,
        load: &mut dyn FnMut(&Path) -> Result<Source, ConfigError>,
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
            received: 0,
        };
        let result = match self.helper() {
            Ok(helper) => work.run(helper, load),
            Err(error) => Err(error),
        };
        let parsed = match result {
            Ok(Ok(())) => Ok(work.parsed),
            Ok(Err(errors)) => Err(errors),
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
            self.helper = Some(Helper::start(&self.program)?);
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
            HelperError::Broken(_) => helper.cause_of_death(self.budget),
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
    received: usize,
}

impl Work {
    fn run(
        &mut self,
        helper: &mut Helper,
        load: &mut dyn FnMut(&Path) -> Result<Source, ConfigError>,
    ) -> Result<Result<(), Vec<ConfigError>>, HelperError> {
        if !helper.ready {
            match self.receive(helper)? {
                Reply::Ready => helper.ready = true,
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
        load: &mut dyn FnMut(&Path) -> Result<Source, ConfigError>,
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
                    text: text.chars().take(PRINT_MAX).map(sanitize::or_blank).collect(),
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
        let frame = frame(request).map_err(HelperError::Nonsense)?;
        helper.write(&frame, self.deadline, self.budget)
    }

    fn receive(&mut self, helper: &mut Helper) -> Result<Reply, HelperError> {
        let mut length = [0; 4];
        helper.read(&mut length, self.deadline, self.budget)?;
        let length = announced(length, REPLY_MAX).map_err(HelperError::Nonsense)?;
        self.received += length;
        if self.received > REPLIES_MAX {
            return Err(HelperError::TooMuch);
        }
        let mut bytes = vec![0; length];
        helper.read(&mut bytes, self.deadline, self.budget)?;
        parse(&bytes).map_err(HelperError::Nonsense)
    }
}

fn nonsense() -> HelperError {
    HelperError::Nonsense(io::ErrorKind::InvalidData.into())
}

/// A running helper process, killed when dropped.
#[derive(Debug)]
struct Helper {
    child: Child,
    /// Its stdin and stdout. They don't block: every wait is a poll with a deadline.
    requests: File,
    replies: File,
    /// Its stderr, which says what ended it.
    complaints: File,
    /// Bytes that were read from `replies` and not used yet, from `used` on.
    buffer: Vec<u8>,
    used: usize,
    /// Whether it has said that it is ready.
    ready: bool,
}

impl Helper {
    fn start(program: &Path) -> Result<Self, HelperError> {
        let mut child = Command::new(program)
            .arg("evaluate")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(HelperError::Start)?;
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else {
            return Err(HelperError::Start(io::ErrorKind::BrokenPipe.into()));
        };
        let pipe = |fd: OwnedFd| {
            fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|errno| HelperError::Start(errno.into()))?;
            Ok(File::from(fd))
        };
        Ok(Self {
            requests: pipe(stdin.into())?,
            replies: pipe(stdout.into())?,
            complaints: pipe(stderr.into())?,
            child,
            buffer: Vec::new(),
            used: 0,
            ready: false,
        })
    }

    /// Fills `bytes`.
    fn read(&mut self, mut bytes: &mut [u8], deadline: Instant, budget: Duration) -> Result<(), HelperError> {
        while !bytes.is_empty() {
            if self.used == self.buffer.len() {
                self.refill(deadline, budget)?;
            }
            let ready = &self.buffer[self.used..];
            let count = ready.len().min(bytes.len());
            let (now, later) = bytes.split_at_mut(count);
            now.copy_from_slice(&ready[..count]);
            self.used += count;
            bytes = later;
        }
        Ok(())
    }

    fn refill(&mut self, deadline: Instant, budget: Duration) -> Result<(), HelperError> {
        self.buffer.resize(65_536, 0);
        self.used = self.buffer.len();
        loop {
            match self.replies.read(&mut self.buffer) {
                Ok(0) => return Err(HelperError::Broken(String::new())),
                Ok(count) => {
                    self.buffer.truncate(count);
                    self.used = 0;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait(&self.replies, PollFlags::POLLIN, deadline, budget)?
                }
                Err(error) => return Err(HelperError::Nonsense(error)),
            }
        }
    }

    fn write(&mut self, mut bytes: &[u8], deadline: Instant, budget: Duration) -> Result<(), HelperError> {
        while !bytes.is_empty() {
            match self.requests.write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    wait(&self.requests, PollFlags::POLLOUT, deadline, budget)?
                }
                Err(_) => return Err(HelperError::Broken(String::new())),
            }
        }
        Ok(())
    }

    /// Why a helper that has closed its end did so.
    fn cause_of_death(mut self, budget: Duration) -> HelperError {
        let mut said = vec![0; 4096];
        let length = self.complaints.read(&mut said).unwrap_or(0);
        let said = String::from_utf8_lossy(&said[..length]).into_owned();
        // It is on its way out already, which no signal changes; but it must not be waited for if it only closed its stdout.
        let _ = self.child.kill();
        match self.child.wait() {
            Ok(status) => verdict(status, &said, budget),
            Err(error) => HelperError::Broken(error.to_string()),
        }
    }
}

/// What is said when memory runs out: by Rust's runtime, by its collections, and by Starlark about a list of billions.
const MEMORY_WORDS: [&str; 3] = [
    "memory allocation of",
    "capacity overflow",
    "AlignedSize must not exceed",
];

/// Rust's runtime ends a process by the same signal when memory runs out and when the stack does; what it says differs.
fn verdict(status: ExitStatus, said: &str, budget: Duration) -> HelperError {
    let signal = status.signal().and_then(|signal| Signal::try_from(signal).ok());
    if MEMORY_WORDS.iter().any(|words| said.contains(words)) {
        return HelperError::Memory;
    }
    if said.contains("overflowed its stack") {
        return HelperError::Nesting;
    }
    match signal {
        Some(Signal::SIGSEGV) => HelperError::Nesting,
        Some(Signal::SIGXCPU) => HelperError::TimedOut(budget),
        _ => {
            // A panic says where it was on its first line and why on the next.
            let why: Vec<&str> = said
                .lines()
                .map(str::trim)
                .filter(|line| !line.is_empty())
                .take(2)
                .collect();
            HelperError::Broken(format!("{status}: {}", why.join(" ")))
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Both fail only if it has been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn wait(file: &File, flags: PollFlags, deadline: Instant, budget: Duration) -> Result<(), HelperError> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(HelperError::TimedOut(budget));
    }
    // Rounded up, or the last millisecond would be spent spinning.
    let milliseconds = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
    let timeout = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
    match poll(&mut [PollFd::new(file.as_fd(), flags)], timeout) {
        Ok(_) | Err(nix::errno::Errno::EINTR) => Ok(()),
        Err(errno) => Err(HelperError::Nonsense(errno.into())),
    }
}
