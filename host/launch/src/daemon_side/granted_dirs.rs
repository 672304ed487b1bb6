//! Looks at which directories the names in a component's grants lead to now, before a run is handed to a process that has opened them earlier.
//!
//! A file system may not answer, so it is looked at elsewhere and not waited for long: a run that cannot be told gets a process of its own.

use std::collections::HashMap;
use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::fstat;
use nix::unistd::{Uid, geteuid};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use crate::daemon_side::invocation::Invocation;
use crate::protocol::Task;
use twitcher_files::links;
use twitcher_model::{DirGrant, RunId};

/// How long a run waits for that.
const PATIENCE: Duration = Duration::from_millis(50);
/// Most that are looked for at once: each takes a thread, and one that a file system holds is not given back.
const LOOKERS: usize = 4;

/// Device and inode of each granted directory; none if that could not be found out.
pub(crate) type Identities = Option<Vec<(u64, u64)>>;

/// See the module's documentation.
pub(crate) struct GrantedDirs {
    waiting: HashMap<RunId, Invocation>,
    lookers: Arc<Semaphore>,
    /// The mounts that there are, if that can be told: what was mounted since is not in a mount that was copied before.
    mounts: Option<File>,
    done: mpsc::UnboundedSender<(RunId, Identities)>,
    done_end: mpsc::UnboundedReceiver<(RunId, Identities)>,
}

impl GrantedDirs {
    pub(crate) fn new() -> Self {
        let (done, done_end) = mpsc::unbounded_channel();
        #[allow(clippy::disallowed_methods, reason = "a file of the kernel's")]
        let mounts = File::open("/proc/self/mountinfo").ok();
        Self {
            waiting: HashMap::new(),
            lookers: Arc::new(Semaphore::new(LOOKERS)),
            mounts,
            done,
            done_end,
        }
    }

    /// Keeps a run until it is known which directories are granted to it; it must be one of a component.
    pub(crate) fn keep(&mut self, invocation: Invocation) {
        let run = invocation.run;
        let dirs = match &invocation.task {
            Task::Wasm(task) => task.action.grants.dirs.clone(),
            _ => Vec::new(),
        };
        let user = invocation.process.identity.uid.map_or_else(geteuid, Uid::from_raw);
        self.waiting.insert(run, invocation);
        let (lookers, done) = (Arc::clone(&self.lookers), self.done.clone());
        tokio::spawn(async move {
            let found = match lookers.try_acquire_owned() {
                Ok(looker) => {
                    let looking = spawn_blocking(move || {
                        let _looker = looker;
                        look(&dirs, user)
                    });
                    timeout(PATIENCE, looking).await.ok().and_then(Result::ok).flatten()
                }
                Err(_) => None,
            };
            // The service may have ended.
            let _ = done.send((run, found));
        });
    }

    /// The next run of which it is known, or known that it cannot be. Can be dropped at any time.
    pub(crate) async fn found(&mut self) -> (Invocation, Identities) {
        loop {
            // This keeps a sender itself, so there is always a next one.
            let Some((run, found)) = self.done_end.recv().await else {
                std::future::pending().await
            };
            // It may have been terminated meanwhile.
            if let Some(invocation) = self.waiting.remove(&run) {
                return (invocation, found);
            }
        }
    }

    /// Lets go of a run. Whether it waited.
    pub(crate) fn remove(&mut self, run: RunId) -> bool {
        self.waiting.remove(&run).is_some()
    }

    /// Whether anything was mounted or unmounted since this was last asked, or may have been.
    pub(crate) fn mounts_changed(&self) -> bool {
        let Some(mounts) = &self.mounts else { return true };
        let mut changed = [PollFd::new(mounts.as_fd(), PollFlags::POLLPRI)];
        let polled = poll(&mut changed, PollTimeout::ZERO);
        polled.is_err() || changed[0].revents().is_none_or(|events| !events.is_empty())
    }
}

/// By no links but those that the process itself would follow.
fn look(dirs: &[DirGrant], user: Uid) -> Identities {
    let identity = |dir: &DirGrant| {
        let stat = fstat(links::open_dir(&dir.host, user).ok()?).ok()?;
        Some((stat.st_dev, stat.st_ino))
    };
    dirs.iter().map(identity).collect()
}
