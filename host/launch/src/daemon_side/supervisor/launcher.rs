//! What the launcher says, whether it still does something, and the next one where it does not.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::Pid;
use tokio::time::{Instant, sleep_until};
use tracing::{error, info, warn};

use super::{InFlight, Pending, Supervisor};
use crate::daemon_side::invocation::RunReport;
use crate::daemon_side::launcher_process::LauncherLink;
use crate::daemon_side::liveness::Look;
use crate::daemon_side::queue::RunEvent;
use crate::daemon_side::request::launch_failed;
use crate::launcher::LAUNCHER_NAME;
use crate::protocol::{Reply, Step};
use twitcher_model::{Outcome, RunId};
use twitcher_process::Progress;

/// How long the first attempt to replace a launcher waits; doubled each time one dies within a minute, up to 64 times as long.
const RESPAWN_DELAY: Duration = Duration::from_millis(50);
/// How many launchers may die with a request unanswered before it is given up.
const MAX_DEATHS: u32 = 5;

/// A process that its launcher waits for until it has executed its program.
pub(super) struct Sharing {
    pub(super) run: RunId,
    pub(super) watch: Arc<str>,
    pub(super) pid: Pid,
}

impl Sharing {
    /// Whether it is still the program that it was cloned from: then its launcher waits for it.
    #[allow(
        clippy::disallowed_methods,
        reason = "this very program's file, which runs and so is in memory, and a file of the kernel's"
    )]
    fn has_not_executed(&self) -> bool {
        let program = |pid: &str| std::fs::metadata(format!("/proc/{pid}/exe")).map(|file| (file.dev(), file.ino()));
        match (program(&self.pid.to_string()), program("self")) {
            (Ok(its), Ok(ours)) => its == ours,
            // As long as it shares the launcher's memory, it takes a capability to see its program, but not to see its name.
            (Err(error), _) if error.kind() == io::ErrorKind::PermissionDenied => {
                let name = std::fs::read_to_string(format!("/proc/{}/comm", self.pid));
                name.is_ok_and(|name| name.trim_end().as_bytes() == LAUNCHER_NAME.to_bytes())
            }
            _ => false,
        }
    }
}

impl Supervisor {
    pub(super) fn read_replies(&mut self) {
        loop {
            let reply = self.link.reply();
            // A process says that it has started before anything else, and perhaps on the other socket.
            while let Some(Reply::Started { seq, pid }) = self.link.birth() {
                self.on_started(seq, Pid::from_raw(pid));
            }
            match reply {
                Ok(Some(Reply::Started { seq, pid })) => self.on_started(seq, Pid::from_raw(pid)),
                Ok(Some(Reply::Failed { seq, step, errno })) => self.on_failed(seq, step, Errno::from_raw(errno)),
                Ok(Some(Reply::Executed)) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // The end of the stream. A launcher that lives on without it is of no use; its pidfd says when it is gone.
                Ok(None) | Err(_) => {
                    self.link.closed = true;
                    let _ = self.link.launcher.child.kill();
                    return;
                }
            }
            let unanswered = !self.in_flight.is_empty() || !self.births.is_empty();
            self.liveness.answered(Instant::now(), unanswered);
            self.seen = None;
        }
    }

    /// The launcher has not answered for long. If neither it nor the process that it waits for gets on, it is replaced; that process goes on
    /// by itself.
    pub(super) fn look_at_launcher(&mut self) {
        // It may be this task that was held up.
        self.read_replies();
        let now = Instant::now();
        if self.liveness.look_at().is_none_or(|at| now < at) {
            return;
        }
        let waited_for = self.sharing.as_ref().filter(|sharing| sharing.has_not_executed());
        let launcher = Pid::from_raw(self.link.launcher.pid() as i32);
        let program = waited_for.map(|sharing| sharing.pid);
        let found = [Some(launcher), program].map(|pid| pid.and_then(Progress::of));
        let before = self.seen.replace(found.clone());
        let moved = before.is_none_or(|before| {
            let pairs = found.iter().zip(&before);
            pairs.into_iter().any(|pair| match pair {
                (Some(now), Some(before)) => now.is_alive_since(before),
                (now, before) => now.is_some() != before.is_some(),
            })
        });
        let look = Look {
            moved,
            waits_for_program: program.is_some(),
        };
        if !self.liveness.looked(now, look) {
            return;
        }
        let unanswered = self.in_flight.len();
        match waited_for {
            Some(Sharing { run, watch, pid }) => warn!(
                watch = &**watch, run_id = %run, %pid, unanswered,
                "the program of this run cannot be loaded: the kernel has got no further with it, as when a file server does not answer; \
                 starting another launcher for the others"
            ),
            None => warn!(unanswered, "the launcher has done nothing for long; replacing it"),
        }
        let _ = self.link.launcher.child.kill();
    }

    /// The launcher died. Runs in flight are the daemon's own children and go on; requests that no process has answered for are
    /// sent to the next launcher.
    pub(super) async fn replace_launcher(&mut self) {
        let status = self.link.launcher.child.wait();
        let status = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        error!(%status, running = self.running.len(), "the launcher died; starting another");
        // Its children may still speak: those that have done so count, the others will find that they cannot, and end.
        if let Err(error) = self.link.hang_up() {
            error!(%error, "cannot hang up on the children of the former launcher");
        }
        self.read_replies();
        self.liveness.renew();
        self.sharing = None;
        self.seen = None;
        let deaths = if self.link.since.elapsed() < Duration::from_secs(60) {
            self.link.deaths + 1
        } else {
            0
        };
        self.forget_births();
        let mut unanswered: Vec<_> = self.in_flight.drain().collect();
        unanswered.sort_by_key(|(seq, _)| *seq);
        for (_, launch) in &unanswered {
            if !launch.pending.invocation.is_writer() {
                self.slots.abandon(launch.pending.invocation.run);
            }
        }
        let mut delay = RESPAWN_DELAY * (1 << deaths.min(6));
        loop {
            if deaths > 0 {
                sleep_until(Instant::now() + delay).await;
            }
            let launcher = &self.link.launcher;
            match launcher.again().and_then(LauncherLink::new) {
                Ok(link) => {
                    self.link = LauncherLink { deaths, ..link };
                    break;
                }
                Err(error) => {
                    error!(%error, "cannot start the launcher; trying again");
                    sleep_until(Instant::now() + delay).await;
                    delay = (delay * 2).min(Duration::from_secs(5));
                }
            }
        }
        let pid = self.link.launcher.pid();
        info!(pid, sent_again = unanswered.len(), "launcher started");
        let _ = self.events.send(RunEvent::LauncherReplaced { pid });
        for (
            _,
            InFlight {
                pending:
                    Pending {
                        invocation,
                        deaths,
                        short_since,
                        restored,
                        dirs,
                    },
                terminate,
                ..
            },
        ) in unanswered.into_iter().rev()
        {
            if terminate.is_some() {
                self.ended(&invocation, RunReport::of(Outcome::Terminated));
            } else if deaths + 1 >= MAX_DEATHS {
                // Perhaps it is this very request that no launcher survives.
                self.ended(
                    &invocation,
                    RunReport::of(launch_failed(&invocation, Step::Clone, Errno::EIO)),
                );
            } else {
                self.waiting.push_front(Pending {
                    invocation,
                    deaths: deaths + 1,
                    short_since,
                    restored,
                    dirs,
                });
            }
        }
    }
}
