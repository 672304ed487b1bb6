//! A process that waits for its call: followed until it is handed one, or is to end.
//!
//! It must not know how many there are to be, nor what for.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::socket::{MsgFlags, recv};
use nix::sys::stat::fstat;
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::daemon_side::polled::{forget_readiness, polled};
use crate::daemon_side::supervised_run::Ends;
use crate::daemon_side::warm_pool::WarmSpec;
use twitcher_ipc::datagram;
use twitcher_ipc::frames::Frames;
use twitcher_ipc::memfd;
use twitcher_model::RunId;
use twitcher_process::usage::{Usage, limit_cpu};
use twitcher_process::{pidfd_open, pidfd_signal};
use twitcher_sandbox::WasmTask;
use twitcher_sandbox::channel::{CallEnd, FORMAT, FromAction, Waits};

/// How long a process may take until it waits.
const PATIENCE: Duration = Duration::from_secs(10);

/// Device and inode of a file.
pub(crate) type FileId = (u64, u64);

/// Those of an open file.
pub(crate) fn file_id(file: &File) -> io::Result<FileId> {
    let stat = fstat(file)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// What is asked for, until its process says that it exists.
pub(crate) struct Birth {
    pub(crate) number: RunId,
    pub(crate) spec: WarmSpec,
    pub(crate) ends: Ends,
    /// Its native code.
    pub(crate) native: FileId,
    /// Its limits of processor time, in seconds.
    pub(crate) cpu: (u64, u64),
}

/// See the module's documentation.
pub(crate) struct WarmProcess {
    pub(crate) spec: WarmSpec,
    pub(crate) seq: u64,
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) ends: Ends,
    native: FileId,
    cpu: (u64, u64),
    /// What it had used when it began to wait.
    pub(crate) used: Usage,
    waits: Option<Waits>,
    /// Why it said that it cannot wait.
    why: Option<String>,
    watcher: AbortHandle,
}

/// What is seen of a process that waits.
#[derive(Debug)]
pub(crate) enum Seen {
    /// It waits from now on.
    Waits(Waits),
    /// It cannot, and ends; why, if it said so.
    Cannot(Option<String>),
    /// It has ended.
    Ended,
}

impl WarmProcess {
    /// Follows a process that has just begun.
    pub(crate) fn new(
        birth: Birth,
        seq: u64,
        pid: Pid,
        seen: &mpsc::UnboundedSender<(RunId, Seen)>,
    ) -> io::Result<Self> {
        let pidfd = pidfd_open(pid)?;
        let channel = birth.ends.channel.as_ref().ok_or(Errno::EBADF)?.try_clone()?;
        let watcher = tokio::spawn(watch(birth.number, pidfd.try_clone()?, channel, seen.clone()));
        Ok(Self {
            spec: birth.spec,
            seq,
            pid,
            pidfd,
            ends: birth.ends,
            native: birth.native,
            cpu: birth.cpu,
            used: Usage::default(),
            waits: None,
            why: None,
            watcher: watcher.abort_handle(),
        })
    }

    /// It waits: what it has used so far does not count for its call. Fails if it would, and then it must get none.
    pub(crate) fn waits(&mut self, waits: Waits) -> nix::Result<()> {
        self.used = Usage::of(self.pid);
        self.waits = Some(waits);
        // The kernel counts whole seconds, so what is less than a tenth of one is nothing.
        let used = self.used.cpu.as_secs() + u64::from(self.used.cpu.subsec_millis() >= 100);
        let (soft, hard) = self.cpu;
        match used == 0 || soft == u64::MAX {
            true => Ok(()),
            false => limit_cpu(self.pid, (soft.saturating_add(used), hard.saturating_add(used))),
        }
    }

    /// It says that it cannot wait.
    pub(crate) fn cannot(&mut self, why: Option<String>) {
        self.why = why;
    }

    pub(crate) fn take_why(&mut self) -> Option<String> {
        self.why.take()
    }

    /// Whether all that it opened is what a process would open now.
    pub(crate) fn is_fresh(&self, native: FileId, dirs: &[FileId]) -> bool {
        self.native == native && self.waits.as_ref().is_some_and(|waits| waits.dirs == dirs)
    }

    /// Hands it its call, with the data. It is not followed here any more.
    pub(crate) fn hand(&self, task: &WasmTask, stdin: BorrowedFd<'_>) -> io::Result<()> {
        let text = zeroize::Zeroizing::new(postcard::to_stdvec(task).map_err(|_| Errno::EMSGSIZE)?);
        let text = memfd::sealed(c"twitcher-call", &text)?;
        let channel = self.ends.channel.as_ref().ok_or(Errno::EBADF)?;
        datagram::send(channel.as_fd(), &[0], &[text.as_fd(), stdin])?;
        self.watcher.abort();
        Ok(())
    }

    /// Ends it. That it has ended is seen as ever.
    pub(crate) fn kill(&self) {
        // It has just ended by itself if this fails.
        let _ = pidfd_signal(self.pidfd.as_fd(), Signal::SIGKILL);
    }
}

async fn watch(number: RunId, pidfd: OwnedFd, channel: OwnedFd, seen: mpsc::UnboundedSender<(RunId, Seen)>) {
    let Ok(pidfd) = polled(pidfd, Interest::READABLE) else {
        return;
    };
    let said = async {
        let heard = timeout(PATIENCE, listen(channel)).await;
        let late = |_| Seen::Cannot(Some(format!("it was not ready after {} s", PATIENCE.as_secs())));
        let _ = seen.send((number, heard.unwrap_or_else(late)));
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = pidfd.readable() => {}
        () = said => {}
    }
    let _ = seen.send((number, Seen::Ended));
}

/// The first that it says, and no more.
async fn listen(channel: OwnedFd) -> Seen {
    let Ok(channel) = polled(channel, Interest::READABLE) else {
        return Seen::Cannot(None);
    };
    let mut frames = Frames::new(FORMAT);
    let mut buffer = [0; 4096];
    loop {
        let _ = channel.readable().await;
        match recv(channel.as_raw_fd(), &mut buffer, MsgFlags::empty()) {
            Ok(0) => return Seen::Cannot(None),
            Ok(length) => frames.push(&buffer[..length]),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => forget_readiness(&channel, Interest::READABLE),
            Err(_) => return Seen::Cannot(None),
        }
        match frames.take() {
            Ok(None) => {}
            Ok(Some(FromAction::Waits(waits))) => return Seen::Waits(waits),
            Ok(Some(FromAction::CallEnd(ended, ..))) => return Seen::Cannot(why(ended)),
            Ok(Some(_)) | Err(_) => return Seen::Cannot(None),
        }
    }
}

fn why(ended: CallEnd) -> Option<String> {
    match ended {
        CallEnd::NotCalled { step, errno } => Some(format!("cannot {step}: {}", io::Error::from_raw_os_error(errno))),
        CallEnd::Failed(_, message) => message.lines().next().map(str::to_owned),
        CallEnd::Success | CallEnd::Code(_) => None,
    }
}
