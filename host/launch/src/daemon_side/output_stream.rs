//! One of a process's output streams: read as it comes, logged line by line, bounded.
//!
//! It must not know when the process ends: what is there after that is read like everything before.

use std::os::fd::OwnedFd;
use std::{io, mem};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::read;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::yield_now;
use tracing::info;

use crate::daemon_side::invocation::Invocation;
use crate::daemon_side::output::{self, Lines, Logging, Output};
use crate::daemon_side::polled::{forget_readiness, polled};

/// Size of a flooded pipe, in bytes: with the pause between two reads it bounds what is read to 500 MB a second.
const FLOOD_PIPE: i32 = 1024 * 1024;

/// Where a process's output comes from.
pub(crate) struct OutputStream {
    pub(crate) name: &'static str,
    pub(crate) pipe: Option<AsyncFd<OwnedFd>>,
    /// In place of `pipe`, once nobody is to be woken for it.
    quiet: Option<OwnedFd>,
    lines: Lines,
    wide: bool,
}

impl OutputStream {
    pub(crate) fn new(name: &'static str, fd: OwnedFd) -> io::Result<Self> {
        fcntl(&fd, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let pipe = polled(fd, Interest::READABLE)?;
        Ok(Self {
            name,
            pipe: Some(pipe),
            quiet: None,
            lines: Lines::default(),
            wide: false,
        })
    }

    pub(crate) fn take(&mut self) -> Self {
        Self {
            name: self.name,
            pipe: self.pipe.take(),
            quiet: self.quiet.take(),
            lines: mem::take(&mut self.lines),
            wide: self.wide,
        }
    }

    pub(crate) fn widen(&mut self) {
        if let Some(pipe) = self.pipe.as_ref().filter(|_| !self.wide) {
            // Refused when the user has too many large pipes: then it stays slow.
            let _ = fcntl(pipe, FcntlArg::F_SETPIPE_SZ(FLOOD_PIPE));
            self.wide = true;
        }
    }

    /// Has nobody be woken any more when something is there or the other end is closed: the end of the process is to come, and what is there is
    /// read then.
    pub(crate) fn hush(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            self.quiet = Some(pipe.into_inner());
        }
    }

    pub(crate) async fn readable(&self) {
        if let Some(pipe) = &self.pipe {
            let _ = pipe.readable().await;
        }
    }

    pub(crate) async fn linger(mut self, run: Invocation, _permit: OwnedSemaphorePermit) {
        let mut output = Output::default();
        while self.pipe.is_some() {
            self.readable().await;
            self.log(&mut output, &run);
            yield_now().await;
        }
    }

    /// Reads what is there, up to what a pipe holds so that a flood does not hold up other watches, and logs it. It does not ask tokio whether
    /// there is anything: after the process has ended, its last words are there even if the poller has not been told yet.
    pub(crate) fn log(&mut self, output: &mut Output, run: &Invocation) {
        let mut buffer = [0u8; 16 * 1024];
        let reads = if self.wide {
            FLOOD_PIPE as usize / buffer.len()
        } else {
            4
        };
        for _ in 0..reads {
            let Some(pipe) = self.pipe.as_ref().map(AsyncFd::get_ref).or(self.quiet.as_ref()) else {
                return;
            };
            match read(pipe, &mut buffer) {
                Ok(length) if length > 0 => self.log_bytes(&buffer[..length], output, run),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => {
                    // Tokio is to forget its readiness, so that the next wait is for something new.
                    if let Some(pipe) = &self.pipe {
                        forget_readiness(pipe, Interest::READABLE);
                    }
                    return;
                }
                Ok(_) | Err(_) => {
                    (self.pipe, self.quiet) = (None, None);
                    self.lines.finish(|line| log_line(line, self.name, output, run));
                }
            }
        }
    }

    /// The same for the last time: nobody writes any more, though the other end may not be closed yet.
    pub(crate) fn log_last(&mut self, output: &mut Output, run: &Invocation) {
        self.log(output, run);
        (self.pipe, self.quiet) = (None, None);
        self.lines.finish(|line| log_line(line, self.name, output, run));
    }

    fn log_bytes(&mut self, bytes: &[u8], output: &mut Output, run: &Invocation) {
        output.note(bytes);
        if let Some(captured) = &mut output.captured {
            return captured.push(self.name, bytes);
        }
        if !output.is_flood() {
            let name = self.name;
            self.lines.push(bytes, |line| log_line(line, name, output, run));
        }
    }
}

/// Logs a line of a run, unless there were too many.
pub(crate) fn log_line(line: &[u8], stream: &'static str, output: &mut Output, run: &Invocation) {
    match output.log(line) {
        Logging::On => {
            let text = output::printable(line);
            info!(target: "twitcher::output", watch = &*run.watch, run_id = %run.run, stream, "{text}");
        }
        Logging::EndsHere => output::log_end(run),
        Logging::Off => {}
    }
}
