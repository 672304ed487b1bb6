//! Processes, as the kernel tells of them: which one an id means, which belong to a run, and signals that reach no other. It starts
//! none and waits for none. It must not know what a watch is, nor why anything is signalled.

#![forbid(unsafe_code)]

pub mod cgroup;
mod identity;
mod progress;
mod run_processes;
mod stat;
pub mod threads;
pub mod usage;

use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, setpriority_process};

pub use identity::{BootId, ProcessIdentity, is_alive, since_boot};
pub use progress::Progress;
pub use run_processes::{RUN_ID_VARIABLE, RunMark, RunProcesses};

/// Lets the calling thread, and those that it starts, give way to the others.
pub fn lower_priority() {
    // On Linux no process means the calling thread. That it is refused would do no harm.
    let _ = setpriority_process(None, 10);
}

fn errno(error: rustix::io::Errno) -> Errno {
    Errno::from_raw(error.raw_os_error())
}

/// A descriptor for the process; it becomes readable when the process ends.
pub fn pidfd_open(pid: Pid) -> nix::Result<OwnedFd> {
    let pid = rustix::process::Pid::from_raw(pid.as_raw()).ok_or(Errno::EINVAL)?;
    rustix::process::pidfd_open(pid, PidfdFlags::empty()).map_err(errno)
}

/// Sends a signal to the process of a pidfd, and to no other that may have got its id.
pub fn pidfd_signal(pidfd: BorrowedFd<'_>, signal: Signal) -> nix::Result<()> {
    let signal = rustix::process::Signal::from_named_raw(signal as i32).ok_or(Errno::EINVAL)?;
    rustix::process::pidfd_send_signal(pidfd, signal).map_err(errno)
}
