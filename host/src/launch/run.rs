//! One run of an action, from the moment its process exists until it has been waited for.
//!
//! A task a run: it logs what the process writes, passes signals on, and ends the process when its time is up. It must not know
//! the launcher, nor why the action runs.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::{Pid, read};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::{spawn_blocking, yield_now};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::output::{self, Lines, Logging, Output};
use super::polled::{forget_readiness, polled};
use super::process::{Family, pidfd_signal};
use super::wire::Task;
use crate::model::{Outcome, ProcessSettings, RunId};

/// What to run.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Identifies the run.
    pub run: RunId,
    /// Name of the watch, for the log.
    pub watch: Arc<str>,
    /// The program or function.
    pub task: Task,
    /// The whole environment; `TWITCHER_RUN_ID` is added.
    pub env: Vec<(String, String)>,
    /// How the process is set up and how long it may take.
    pub process: Arc<ProcessSettings>,
    /// What the action gets on stdin, unless its settings say otherwise.
    pub stdin: Bytes,
}

/// Why a run is ended before it ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StopReason {
    /// Its timeout passed.
    Timeout,
    /// A newer update, or the daemon stops.
    Requested,
}

/// What can be done to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Sends a signal to the main process.
    Notify(Signal),
    /// SIGTERM to the process group, SIGKILL after the settings' `kill_after`.
    Terminate,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Report {
    /// The outcome.
    pub outcome: Outcome,
    /// From the process's first instant until it was waited for.
    pub elapsed: Duration,
    /// Largest resident set of the process or a child it waited for, in KiB.
    pub max_rss_kib: u64,
    /// User and system time of the process and the children it waited for.
    pub cpu: Duration,
    /// Page faults served without I/O, of the process and the children it waited for.
    pub minor_faults: u64,
    /// The last 64 KiB of what it wrote to stdout and stderr.
    pub output_tail: Vec<u8>,
    /// How much it wrote, in bytes.
    pub output_bytes: usize,
}

impl Report {
    /// Of a run that never had a process.
    pub(super) fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            elapsed: Duration::ZERO,
            max_rss_kib: 0,
            cpu: Duration::ZERO,
            minor_faults: 0,
            output_tail: Vec::new(),
            output_bytes: 0,
        }
    }
}

/// How long the output of a run is left alone between two reads, once it is too much to be logged.
const FLOOD_PAUSE: Duration = Duration::from_millis(2);
/// Size of a flooded pipe, in bytes: with the pause it bounds what is read to 500 MB a second.
const FLOOD_PIPE: i32 = 1024 * 1024;

/// How often a terminated run's leftovers are looked for.
const FAMILY_POLL: Duration = Duration::from_millis(25);
/// How long after SIGKILL a run's leftovers may take to vanish.
const FAMILY_GRACE: Duration = Duration::from_secs(2);
/// Most runs whose output is read after they have ended, because a process they left behind holds it open.
pub(super) const MAX_LINGERING: usize = 256;

/// A started process with the daemon's ends of its streams.
pub(super) struct Run {
    invocation: Invocation,
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
    streams: [Stream; 2],
    output: Output,
    control: mpsc::UnboundedReceiver<Control>,
    started: Instant,
    stopping: Option<Stopping>,
    /// The output is a flood and is not read until then.
    paused_until: Option<Instant>,
}

struct Stopping {
    reason: StopReason,
    kill_at: Instant,
    killed: bool,
}

struct Stream {
    name: &'static str,
    pipe: Option<AsyncFd<OwnedFd>>,
    lines: Lines,
    wide: bool,
}

enum Wake {
    Exited,
    Stream(usize),
    Control(Option<Control>),
    Deadline,
    Resume,
}

impl Run {
    pub(super) fn new(
        invocation: Invocation,
        pid: Pid,
        pidfd: OwnedFd,
        stdio: [OwnedFd; 2],
        control: mpsc::UnboundedReceiver<Control>,
    ) -> io::Result<Self> {
        let [stdout, stderr] = stdio;
        Ok(Self {
            invocation,
            pid,
            pidfd: polled(pidfd, Interest::READABLE)?,
            streams: [Stream::new("stdout", stdout)?, Stream::new("stderr", stderr)?],
            output: Output::default(),
            control,
            started: Instant::now(),
            stopping: None,
            paused_until: None,
        })
    }

    /// Follows the process until it has ended and been waited for; gives the invocation back.
    pub(super) async fn supervise(mut self, lingering: &Arc<Semaphore>) -> (Invocation, Report) {
        loop {
            match self.wake().await {
                Wake::Exited => break,
                Wake::Stream(index) => {
                    self.log_stream(index);
                    // A flood is always ready: without this, its task would be the only one to make progress.
                    yield_now().await;
                    self.slow_down_flood();
                }
                Wake::Control(Some(Control::Notify(signal))) => {
                    let _ = pidfd_signal(self.pidfd.as_fd(), signal);
                }
                Wake::Control(Some(Control::Terminate)) => self.stop(StopReason::Requested).await,
                Wake::Resume => self.paused_until = None,
                // The daemon has let go of this run; it goes on by itself.
                Wake::Control(None) => {}
                Wake::Deadline => match &mut self.stopping {
                    None => self.stop(StopReason::Timeout).await,
                    Some(stopping) => {
                        stopping.killed = true;
                        self.signal_family(Signal::SIGKILL).await;
                    }
                },
            }
        }
        if self.stopping.is_some() {
            self.end_family().await;
        }
        let (status, usage) = wait4(self.pid);
        for index in 0..self.streams.len() {
            self.log_stream(index);
        }
        self.let_streams_linger(lingering);
        let report = Report {
            outcome: outcome(status, self.stopping.as_ref().map(|stopping| stopping.reason)),
            elapsed: self.started.elapsed(),
            max_rss_kib: usage.ru_maxrss.max(0) as u64,
            cpu: duration(usage.ru_utime) + duration(usage.ru_stime),
            minor_faults: usage.ru_minflt.max(0) as u64,
            output_bytes: self.output.total(),
            output_tail: self.output.into_tail(),
        };
        (self.invocation, report)
    }

    async fn wake(&mut self) -> Wake {
        let deadline = match &self.stopping {
            Some(stopping) if stopping.killed => None,
            Some(stopping) => Some(stopping.kill_at),
            None => self
                .invocation
                .process
                .timeout
                .and_then(|timeout| self.started.checked_add(timeout)),
        };
        let [stdout, stderr] = &self.streams;
        let reading = self.paused_until.is_none();
        let connected = !self.control.is_closed() || !self.control.is_empty();
        tokio::select! {
            _ = self.pidfd.readable() => Wake::Exited,
            () = stdout.readable(), if stdout.pipe.is_some() && reading => Wake::Stream(0),
            () = stderr.readable(), if stderr.pipe.is_some() && reading => Wake::Stream(1),
            () = sleep_until(self.paused_until.unwrap_or(self.started)), if !reading => Wake::Resume,
            control = self.control.recv(), if connected => Wake::Control(control),
            () = sleep_until(deadline.unwrap_or(self.started)), if deadline.is_some() => Wake::Deadline,
        }
    }

    async fn stop(&mut self, reason: StopReason) {
        if self.stopping.is_some() {
            return;
        }
        let kill_at = Instant::now() + self.invocation.process.kill_after;
        self.stopping = Some(Stopping {
            reason,
            kill_at,
            killed: false,
        });
        self.signal_family(Signal::SIGTERM).await;
    }

    /// Output beyond what is logged is of little worth: it is read in bursts, so that the writer waits for the daemon rather than
    /// other watches for the writer.
    fn slow_down_flood(&mut self) {
        if !self.output.is_flood() {
            return;
        }
        self.paused_until = Some(Instant::now() + FLOOD_PAUSE);
        for stream in &mut self.streams {
            stream.widen();
        }
    }

    fn family(&self) -> Family {
        Family {
            leader: self.pid,
            run: self.invocation.run.to_string(),
        }
    }

    async fn signal_family(&self, signal: Signal) {
        // The group is signalled at once; those that left it must first be found, and reading /proc takes its time.
        let family = self.family();
        family.signal_group(signal);
        if spawn_blocking(move || family.signal_strays(signal)).await.is_err() {
            warn!(watch = &*self.invocation.watch, run_id = %self.invocation.run, "could not look for processes that left the group");
        }
    }

    /// The main process has ended after SIGTERM; the others get the rest of their time, then SIGKILL. Until it is waited for, the
    /// main process keeps the group's id from being given away.
    async fn end_family(&mut self) {
        let Some(Stopping {
            kill_at, mut killed, ..
        }) = self.stopping
        else {
            return;
        };
        loop {
            for index in 0..self.streams.len() {
                self.log_stream(index);
            }
            let family = self.family();
            if !spawn_blocking(move || family.others_alive()).await.unwrap_or(false) {
                return;
            }
            let now = Instant::now();
            if now >= kill_at && !killed {
                killed = true;
                self.signal_family(Signal::SIGKILL).await;
            } else if now >= kill_at + FAMILY_GRACE {
                warn!(watch = &*self.invocation.watch, run_id = %self.invocation.run, "processes of the run survive SIGKILL");
                return;
            }
            sleep_until(now + FAMILY_POLL).await;
        }
    }

    fn log_stream(&mut self, index: usize) {
        self.streams[index].log(&mut self.output, &self.invocation);
    }

    /// A process that the action left behind may still write: reading on keeps it from dying of SIGPIPE.
    fn let_streams_linger(&mut self, lingering: &Arc<Semaphore>) {
        for stream in &mut self.streams {
            if stream.pipe.is_none() {
                continue;
            }
            let Ok(permit) = lingering.clone().try_acquire_owned() else {
                warn!(watch = &*self.invocation.watch, run_id = %self.invocation.run, stream = stream.name,
                    "too many runs left processes behind that hold their output open; closing this one");
                continue;
            };
            let label = Invocation {
                stdin: Bytes::new(),
                env: Vec::new(),
                ..self.invocation.clone()
            };
            tokio::spawn(stream.take().linger(label, permit));
        }
    }
}

impl Stream {
    fn new(name: &'static str, fd: OwnedFd) -> io::Result<Self> {
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let pipe = polled(fd, Interest::READABLE)?;
        Ok(Self {
            name,
            pipe: Some(pipe),
            lines: Lines::default(),
            wide: false,
        })
    }

    fn take(&mut self) -> Self {
        Self {
            name: self.name,
            pipe: self.pipe.take(),
            lines: std::mem::take(&mut self.lines),
            wide: self.wide,
        }
    }

    fn widen(&mut self) {
        if let Some(pipe) = self.pipe.as_ref().filter(|_| !self.wide) {
            // Refused when the user has too many large pipes: then it stays slow.
            let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(FLOOD_PIPE));
            self.wide = true;
        }
    }

    async fn readable(&self) {
        if let Some(pipe) = &self.pipe {
            let _ = pipe.readable().await;
        }
    }

    async fn linger(mut self, run: Invocation, _permit: OwnedSemaphorePermit) {
        let mut output = Output::default();
        while self.pipe.is_some() {
            self.readable().await;
            self.log(&mut output, &run);
            yield_now().await;
        }
    }

    /// Reads what is there, up to what a pipe holds so that a flood does not hold up other watches, and logs it. It does not ask tokio whether
    /// there is anything: after the process has ended, its last words are there even if the poller has not been told yet.
    fn log(&mut self, output: &mut Output, run: &Invocation) {
        let mut buffer = [0u8; 16 * 1024];
        let reads = if self.wide {
            FLOOD_PIPE as usize / buffer.len()
        } else {
            4
        };
        for _ in 0..reads {
            let Some(pipe) = &self.pipe else { return };
            match read(pipe.as_fd(), &mut buffer) {
                Ok(length) if length > 0 => self.log_bytes(&buffer[..length], output, run),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    // Tokio is to forget its readiness, so that the next wait is for something new.
                    forget_readiness(pipe, Interest::READABLE);
                    return;
                }
                Ok(_) | Err(_) => {
                    self.pipe = None;
                    self.lines.finish(|line| log_line(line, self.name, output, run));
                }
            }
        }
    }

    fn log_bytes(&mut self, bytes: &[u8], output: &mut Output, run: &Invocation) {
        output.note(bytes);
        if !output.is_flood() {
            let name = self.name;
            self.lines.push(bytes, |line| log_line(line, name, output, run));
        }
    }
}

fn log_line(line: &[u8], stream: &'static str, output: &mut Output, run: &Invocation) {
    match output.log(line) {
        Logging::On => {
            let text = output::printable(line);
            info!(target: "twitcher::output", watch = &*run.watch, run_id = %run.run, stream, "{text}");
        }
        Logging::EndsHere => warn!(watch = &*run.watch, run_id = %run.run, limit = output::LOGGED,
            "further output of this run is not logged"),
        Logging::Off => {}
    }
}

fn outcome(status: i32, stopped: Option<StopReason>) -> Outcome {
    match stopped {
        Some(StopReason::Timeout) => Outcome::TimedOut,
        Some(StopReason::Requested) => Outcome::Terminated,
        None if libc::WIFSIGNALED(status) => Outcome::Signaled {
            signal: libc::WTERMSIG(status),
            core: libc::WCOREDUMP(status),
        },
        None => Outcome::Exited(libc::WEXITSTATUS(status)),
    }
}

/// Waits for a process that has ended.
fn wait4(pid: Pid) -> (i32, libc::rusage) {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to live variables of the right types; an rusage of zeros is valid should the call not fill it.
    #[allow(unsafe_code)]
    let usage = unsafe {
        while libc::wait4(pid.as_raw(), &mut status, 0, usage.as_mut_ptr()) == -1 && Errno::last() == Errno::EINTR {}
        usage.assume_init()
    };
    (status, usage)
}

fn duration(time: libc::timeval) -> Duration {
    Duration::from_secs(time.tv_sec.max(0) as u64) + Duration::from_micros(time.tv_usec.max(0) as u64)
}
