//! Runs of a daemon that was killed: processes that are nobody's children here, but must be waited for all the same.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};

use crate::daemon_side::last_rites::{Due, LastRites};
use crate::daemon_side::polled::polled;
use crate::daemon_side::supervised_run::{FAMILY_POLL, lock};
use crate::journal::SurvivingRun;
use twitcher_process::{pidfd_open, pidfd_signal};

impl SurvivingRun {
    /// Waits until the run's main process has ended. The run is terminated, the whole of it, once it has run for `limit`, when `terminate`
    /// says so, or at once if its daemon was already about to; what is left is killed `kill_after` later.
    pub async fn ended(
        &self,
        limit: Option<Duration>,
        kill_after: Duration,
        terminate: oneshot::Receiver<()>,
    ) -> io::Result<()> {
        let process = &self.process;
        let pidfd = match pidfd_open(Pid::from_raw(process.pid())) {
            // Looked at again: until the pidfd was open, the id could have been given to another.
            Ok(pidfd) if process.exists() => pidfd,
            Ok(_) | Err(Errno::ESRCH) => {
                self.leader_is_gone();
                if self.is_ending {
                    self.end_rest(Instant::now() + kill_after).await;
                }
                return Ok(());
            }
            Err(errno) => return Err(errno.into()),
        };
        let pidfd = polled(pidfd, Interest::READABLE)?;
        let left = limit.map(|limit| limit.saturating_sub(self.age()));
        let told = async {
            if !self.is_ending && terminate.await.is_err() {
                // Nobody will say it any more.
                std::future::pending().await
            }
        };
        tokio::select! {
            ended = pidfd.readable() => drop(ended?),
            () = told => return self.terminate(&pidfd, kill_after).await,
            () = sleep(left.unwrap_or_default()), if left.is_some() => return self.terminate(&pidfd, kill_after).await,
        }
        self.leader_is_gone();
        if self.is_ending {
            self.end_rest(Instant::now() + kill_after).await;
        }
        Ok(())
    }

    /// Sends a signal to the main process.
    ///
    /// # Errors
    /// If it has ended.
    pub fn notify(&self, signal: Signal) -> nix::Result<()> {
        let pidfd = pidfd_open(Pid::from_raw(self.process.pid()))?;
        // Until the pidfd was open, the id could have been given to another.
        match self.process.exists() {
            true => pidfd_signal(pidfd.as_fd(), signal),
            false => Err(Errno::ESRCH),
        }
    }

    async fn terminate(&self, pidfd: &AsyncFd<OwnedFd>, kill_after: Duration) -> io::Result<()> {
        self.mark.set(true);
        let kill_at = Instant::now() + kill_after;
        self.signal(Signal::SIGTERM).await;
        tokio::select! {
            ended = pidfd.readable() => drop(ended?),
            () = sleep_until(kill_at) => {
                self.signal(Signal::SIGKILL).await;
                drop(pidfd.readable().await?);
            }
        }
        self.leader_is_gone();
        self.end_rest(kill_at).await;
        Ok(())
    }

    /// The main process has ended after SIGTERM; the others get the rest of their time, then SIGKILL.
    async fn end_rest(&self, kill_at: Instant) {
        let mut rites = LastRites::new(kill_at);
        loop {
            let due = rites.due(Instant::now());
            let (kill, family) = (due == Due::Kill, Arc::clone(&self.family));
            let left = spawn_blocking(move || {
                let mut family = lock(&family);
                let left = family.others();
                if kill && left > 0 {
                    family.signal(Signal::SIGKILL);
                }
                left
            });
            // A thread that panics has found nobody.
            if left.await.unwrap_or(0) == 0 || due == Due::GiveUp {
                break;
            }
            sleep(FAMILY_POLL).await;
        }
        self.mark.set(false);
    }

    /// Whoever waited for the main process has made its id, and that of its group, free for others.
    fn leader_is_gone(&self) {
        lock(&self.family).leader_is_gone();
    }

    async fn signal(&self, signal: Signal) {
        let family = Arc::clone(&self.family);
        // A thread that panics has found nobody.
        let _ = spawn_blocking(move || lock(&family).signal(signal)).await;
    }
}
