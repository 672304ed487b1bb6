//! A helper process: a program started to do what it might not survive, and watched while it does.
//!
//! ```text
//! daemon ── frames ──▶ helper (its stdin is a socket) ── frames ──▶ daemon
//! ```
//!
//! Whatever a helper does, an exchange with it ends by its deadline, what is kept of what it says is bounded, and nothing is left of it
//! once its [`Helper`] has gone. This module must not know what a helper is for.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::frames::{Format, Frames};

/// Most that a helper's complaints are read, in bytes.
const COMPLAINTS_MAX: u64 = 4096;
/// How long a helper waits for a system that has no process to give, and how long between two attempts.
const ROOM_PATIENCE: Duration = Duration::from_secs(60);
const ROOM_PAUSE: Duration = Duration::from_millis(100);
/// Most bytes that are read at once.
const PIECE: usize = 65_536;

/// Why an exchange with a helper failed.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The deadline has passed.
    #[error("it took too long")]
    TimedOut,
    /// It has closed its end: [`Helper::cause_of_death`] tells why.
    #[error("it has gone")]
    Gone,
    /// It sent what is no message, or there is no talking to it.
    #[error(transparent)]
    Channel(io::Error),
}

/// A running helper process, killed when dropped.
#[derive(Debug)]
pub struct Helper {
    child: Child,
    /// The other end of its stdin. It does not block: every wait is a poll with a deadline.
    socket: UnixStream,
    /// Its stderr, which says what ended it. It does not block either: who knows who else has its other end.
    complaints: ChildStderr,
    requests: Format,
    replies: Frames,
    received: usize,
}

impl Helper {
    /// Starts `program subcommand`, which is sent `requests` and answers with `replies`.
    pub fn start(program: &Path, subcommand: &str, requests: Format, replies: Format) -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        socket.set_nonblocking(true)?;
        let mut command = Command::new(program);
        command
            .arg(subcommand)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = once_there_is_room(|| command.spawn())?;
        let complaints = child.stderr.take().ok_or(io::ErrorKind::BrokenPipe)?;
        let helper = Self {
            child,
            socket,
            complaints,
            requests,
            replies: Frames::new(replies),
            received: 0,
        };
        fcntl(&helper.complaints, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        Ok(helper)
    }

    /// Says something to the helper.
    pub fn send(&mut self, request: &impl Serialize, deadline: Instant) -> Result<(), ExchangeError> {
        let frame = self.requests.frame(request).map_err(channel)?;
        let mut rest = &frame[..];
        while !rest.is_empty() {
            let count = self.attempt(PollFlags::POLLOUT, deadline, |mut socket| socket.write(rest))?;
            rest = &rest[count..];
        }
        Ok(())
    }

    /// The next thing that the helper says.
    pub fn receive<T: DeserializeOwned>(&mut self, deadline: Instant) -> Result<T, ExchangeError> {
        let mut piece = [0; PIECE];
        loop {
            if let Some(reply) = self.replies.take().map_err(channel)? {
                return Ok(reply);
            }
            let count = self.attempt(PollFlags::POLLIN, deadline, |mut socket| socket.read(&mut piece))?;
            if count == 0 {
                return Err(ExchangeError::Gone);
            }
            self.received += count;
            self.replies.push(&piece[..count]);
        }
    }

    /// How many bytes the helper has said since it was started.
    pub fn received(&self) -> usize {
        self.received
    }

    /// Ends a helper and tells how it ended: of one that has [gone](ExchangeError::Gone), how it did so by itself.
    pub fn cause_of_death(mut self) -> Death {
        // One that closes its stdin by exiting is on its way out already, which no signal changes.
        let _ = self.child.kill();
        let status = self.child.wait();
        let mut said = Vec::new();
        // What has come so far is all that it said; an error only means that there is no more.
        let _ = (&mut self.complaints).take(COMPLAINTS_MAX).read_to_end(&mut said);
        Death {
            status,
            said: String::from_utf8_lossy(&said).into_owned(),
        }
    }

    /// Reads or writes as soon as the socket is ready for it. The clock is looked at each time: bytes that come one by one are no excuse.
    fn attempt(
        &self,
        ready: PollFlags,
        deadline: Instant,
        mut operation: impl FnMut(&UnixStream) -> io::Result<usize>,
    ) -> Result<usize, ExchangeError> {
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ExchangeError::TimedOut);
            }
            // Rounded up, or the last millisecond would be spent spinning.
            let milliseconds = i32::try_from(left.as_millis() + 1).unwrap_or(i32::MAX);
            let timeout = PollTimeout::try_from(milliseconds).unwrap_or(PollTimeout::MAX);
            match poll(&mut [PollFd::new(self.socket.as_fd(), ready)], timeout) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(channel(errno)),
            }
            match operation(&self.socket).map_err(|error| (error.kind(), error)) {
                Ok(count) => return Ok(count),
                Err((io::ErrorKind::Interrupted | io::ErrorKind::WouldBlock, _)) => {}
                Err((io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset, _)) => {
                    return Err(ExchangeError::Gone);
                }
                Err((_, error)) => return Err(channel(error)),
            }
        }
    }
}

/// Tries again while there are too many processes, or too little memory or too few descriptors: an action that takes them all has a timeout, and
/// what failed only for that would have to be asked for again by somebody. Gives up after a minute.
pub fn once_there_is_room<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let end = Instant::now() + ROOM_PATIENCE;
    loop {
        match attempt() {
            Err(error) if is_shortage(&error) && Instant::now() < end => std::thread::sleep(ROOM_PAUSE),
            result => return result,
        }
    }
}

/// Whether an error says that the system has no more of something just now.
pub fn is_shortage(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(
        errno,
        Some(Errno::EAGAIN | Errno::ENOMEM | Errno::EMFILE | Errno::ENFILE)
    )
}

impl Drop for Helper {
    fn drop(&mut self) {
        // Both fail only if it has been waited for already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn channel(error: impl Into<io::Error>) -> ExchangeError {
    ExchangeError::Channel(error.into())
}

/// How a helper ended, and what it said of it on stderr. Shown as its status and the first lines it said.
#[derive(Debug)]
pub struct Death {
    status: io::Result<ExitStatus>,
    said: String,
}

impl Death {
    /// Whether the helper said these words.
    pub fn said(&self, words: &str) -> bool {
        self.said.contains(words)
    }

    /// The signal that ended the helper, if one did.
    pub fn signal(&self) -> Option<Signal> {
        let signal = self.status.as_ref().ok()?.signal()?;
        Signal::try_from(signal).ok()
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = match &self.status {
            Ok(status) => status,
            Err(error) => return error.fmt(f),
        };
        // A panic says where it was on its first line and why on the next.
        let lines = self.said.lines().map(str::trim).filter(|line| !line.is_empty());
        let first: Vec<&str> = lines.take(2).collect();
        write!(f, "{status}: {}", first.join(" "))
    }
}

/// The helper's own end of the socket: its stdin.
pub fn socket_of_helper() -> io::Result<UnixStream> {
    Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const FORMAT: Format = Format::json(1 << 20);

    /// A helper that is a shell, which reads these commands from its stdin. It may read ahead: what is to be left to a program that it
    /// executes must not be sent before that is said to run.
    fn shell(commands: &str) -> Helper {
        let helper = Helper::start(Path::new("/bin/sh"), "-s", FORMAT, FORMAT).unwrap();
        (&helper.socket).write_all(commands.as_bytes()).unwrap();
        helper
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(10)
    }

    #[test]
    fn messages_are_exchanged_and_counted() {
        let mut helper = shell("printf '\\7\\0\\0\\0\"ready\"' >&0; exec cat >&0\n");
        assert_eq!(helper.receive::<String>(soon()).unwrap(), "ready");
        let long = "x".repeat(50_000);
        for text in ["ü", &long, ""] {
            helper.send(&text, soon()).unwrap();
            assert_eq!(helper.receive::<String>(soon()).unwrap(), text);
        }
        assert_eq!(helper.received(), 4 * 6 + "ready".len() + "ü".len() + long.len());
    }

    #[test]
    fn silence_deafness_and_dripping_end_at_the_deadline() {
        let wait = Duration::from_millis(300);
        let started = Instant::now();
        let mut silent = shell("exec sleep 60\n");
        let error = silent.receive::<String>(Instant::now() + wait).unwrap_err();
        assert!(matches!(error, ExchangeError::TimedOut), "{error}");
        let mut deaf = shell("exec sleep 60\n");
        let text = "x".repeat(1_000_000);
        let error = deaf.send(&text, Instant::now() + wait).unwrap_err();
        assert!(matches!(error, ExchangeError::TimedOut), "{error}");
        let mut dripping = shell("printf '\\377\\0\\0\\0' >&0; while sleep 0.05; do printf x >&0; done\n");
        let error = dripping.receive::<String>(Instant::now() + wait).unwrap_err();
        assert!(matches!(error, ExchangeError::TimedOut), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn one_that_ends_tells_how() {
        let mut failed = shell("echo ' why' >&2; echo >&2; echo more >&2; echo rest >&2; exit 3\n");
        let error = failed.receive::<String>(soon()).unwrap_err();
        assert!(matches!(error, ExchangeError::Gone), "{error}");
        let death = failed.cause_of_death();
        assert_eq!(death.to_string(), "exit status: 3: why more");
        assert!(death.said("rest") && !death.said("other"));
        assert_eq!(death.signal(), None);

        let mut killed = shell("kill -SEGV $$\n");
        assert!(killed.receive::<String>(soon()).is_err());
        assert_eq!(killed.cause_of_death().signal(), Some(Signal::SIGSEGV));
    }

    #[test]
    fn what_it_leaves_behind_holds_nobody_up() {
        // The sleep has stderr, and the end of the pipe never comes.
        let mut helper = shell("sleep 5 <&- & echo why >&2; exit 3\n");
        let started = Instant::now();
        assert!(helper.receive::<String>(soon()).is_err());
        assert_eq!(helper.cause_of_death().to_string(), "exit status: 3: why");
        assert!(started.elapsed() < Duration::from_secs(4));
    }

    #[test]
    fn nonsense_is_told_from_death() {
        let mut helper = shell("printf '\\377\\377\\377\\377' >&0; exec sleep 60\n");
        let error = helper.receive::<String>(soon()).unwrap_err();
        assert!(matches!(error, ExchangeError::Channel(_)), "{error}");
        assert_eq!(error.to_string(), "a message is too long");
    }

    #[test]
    fn nothing_is_left_of_one_that_is_dropped() {
        let helper = shell("exec sleep 60\n");
        let process = format!("/proc/{}", helper.child.id());
        assert!(Path::new(&process).exists());
        drop(helper);
        assert!(!Path::new(&process).exists());
    }
}
