//! The process of a run that is over already.
//!
//! It must not know what the run was.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use nix::unistd::Pid;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;
use tracing::warn;

use crate::daemon_side::supervised_run::wait4;
use twitcher_model::RunId;
use twitcher_process::cgroup::RunCgroup;

/// How long a process whose run is over may take to go before that is said.
const LEAVES: Duration = Duration::from_secs(2);

/// A process that runs nothing any more, and whose memory is being taken apart.
pub(crate) struct Leaving {
    pub(crate) pid: Pid,
    pub(crate) pidfd: AsyncFd<OwnedFd>,
    pub(crate) run: RunId,
    pub(crate) watch: Arc<str>,
    /// Its largest resident set, in KiB, as it said itself.
    pub(crate) said: u64,
    /// Removed with this.
    pub(crate) _cgroup: Option<Arc<RunCgroup>>,
}

impl Leaving {
    /// Waits until it is gone.
    pub(crate) async fn gone(self) {
        let (watch, run, said) = (&*self.watch, self.run, self.said);
        if timeout(LEAVES, self.pidfd.readable()).await.is_err() {
            warn!(watch, run_id = %run, pid = %self.pid, "the process of a run that is over does not go: the kernel has something to do for it yet, as \
                when a file server does not answer");
            let _ = self.pidfd.readable().await;
        }
        let (_, usage) = wait4(self.pid);
        let held = usage.ru_maxrss.max(0) as u64;
        // Its way out takes a few pages more.
        if held > said.saturating_add(said / 4).saturating_add(1024) {
            warn!(watch, run_id = %run, said, held, "the process of a component held more memory, in KiB, than it said");
        }
    }
}
