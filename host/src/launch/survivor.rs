//! Runs of a daemon that was killed: processes that are nobody's children here, but must be waited for all the same.

use std::fs;
use std::io;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::io::Interest;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::polled::polled;
use super::process::{Family, pidfd_open};

/// Names a process for good: a process id alone is given to others after a while, and again after a reboot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessName {
    pid: i32,
    /// In clock ticks since the boot.
    started: u64,
    boot: String,
}

impl ProcessName {
    /// The name of a process that exists.
    pub fn of(pid: i32) -> io::Result<Self> {
        Ok(Self {
            pid,
            started: start_time(pid)?,
            boot: boot_id()?,
        })
    }

    /// The process's id.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether that very process still exists.
    pub fn exists(&self) -> bool {
        boot_id().is_ok_and(|boot| boot == self.boot)
            && start_time(self.pid).is_ok_and(|started| started == self.started)
    }

    /// Waits until the process has ended. It is terminated, with the whole of its run, after `limit`, and killed `kill_after` later.
    pub async fn ended(&self, run: &str, limit: Option<Duration>, kill_after: Duration) -> io::Result<()> {
        let pidfd = match pidfd_open(Pid::from_raw(self.pid)) {
            Ok(pidfd) => pidfd,
            Err(nix::errno::Errno::ESRCH) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        // Looked at again: until the pidfd was open, the id could have been given to another.
        if !self.exists() {
            return Ok(());
        }
        let pidfd = polled(pidfd, Interest::READABLE)?;
        let signals = [(limit, Signal::SIGTERM), (Some(kill_after), Signal::SIGKILL)];
        for (patience, signal) in signals {
            let Some(patience) = patience else { break };
            if timeout(patience, pidfd.readable()).await.is_ok() {
                return Ok(());
            }
            let family = Family {
                leader: Pid::from_raw(self.pid),
                run: run.to_owned(),
            };
            family.signal_group(signal);
            let _ = spawn_blocking(move || family.signal_strays(signal)).await;
        }
        let _ = pidfd.readable().await?;
        Ok(())
    }
}

fn boot_id() -> io::Result<String> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn start_time(pid: i32) -> io::Result<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest).unwrap_or_default();
    let started = fields
        .split_ascii_whitespace()
        .nth(19)
        .and_then(|field| field.parse().ok());
    started.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_process_is_recognised() {
        let mut name = ProcessName::of(std::process::id() as i32).unwrap();
        assert!(name.exists());
        name.started += 1;
        assert!(!name.exists());
    }
}
