//! What becomes of a run whose process has ended, or that has none; and of processes that are nobody's.

use nix::errno::Errno;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getsid};
use tracing::debug;

use super::{InFlight, Pending, Reaped, ReapedRun, Supervisor};
use crate::daemon_side::invocation::{Invocation, RunReport};
use crate::daemon_side::queue::RunEvent;
use crate::daemon_side::request::launch_failed;
use crate::protocol::{SETUP_FAILED, Step, Task};
use twitcher_ipc::helper::is_shortage;
use twitcher_model::{Outcome, RunId};

impl Supervisor {
    pub(super) fn on_failed(&mut self, seq: u64, step: Step, errno: Errno) {
        if self.waiting_not_made(seq, step, errno) {
            return;
        }
        match self.in_flight.remove(&seq) {
            Some(InFlight {
                pending,
                terminate: None,
                ..
            }) if step == Step::Clone && is_shortage(&errno.into()) && self.may_wait(&pending) => {
                self.wait_for_room(pending, &errno.into());
            }
            // It never became a process.
            Some(InFlight {
                pending: Pending { invocation, .. },
                ..
            }) => {
                self.ended(&invocation, RunReport::of(launch_failed(&invocation, step, errno)));
            }
            None => {
                self.failed.insert(seq, (step, errno));
            }
        }
    }

    pub(super) fn on_reaped(&mut self, reaped: Reaped) {
        let run = match reaped {
            Reaped::Process(pid) => {
                self.leaving -= 1;
                self.pids.remove(&pid);
                return self.reap_orphans();
            }
            Reaped::Run(run) => *run,
        };
        let ReapedRun {
            seq,
            pid,
            invocation,
            report,
            is_gone,
        } = run;
        match is_gone {
            true => drop(self.pids.remove(&pid)),
            false => self.leaving += 1,
        }
        if !invocation.is_writer() {
            self.running.remove(&invocation.run);
        }
        let Some(mut report) = report else {
            debug!(watch = &*invocation.watch, run_id = %invocation.run, %pid,
                "the process that waited had just gone when the run was handed to it; it starts as any other");
            self.slots.leave(invocation.run);
            return match self.told_too_late.remove(&invocation.run) {
                true => self.end(invocation.run, RunReport::of(Outcome::Terminated)),
                false => self.wait([invocation]),
            };
        };
        self.told_too_late.remove(&invocation.run);
        if report.outcome == Outcome::Exited(SETUP_FAILED) {
            self.read_replies();
        }
        if let Some((step, errno)) = self.failed.remove(&seq) {
            report.outcome = launch_failed(&invocation, step, errno);
        }
        self.ended(&invocation, report);
        self.reap_orphans();
    }

    /// A process has ended, or there will be none.
    pub(super) fn ended(&mut self, invocation: &Invocation, report: RunReport) {
        match &invocation.task {
            Task::Write(path) => self.on_written(path, report.outcome),
            Task::Exec(_) | Task::Function(_) | Task::Wasm(_) | Task::Wait(_) => self.end(invocation.run, report),
        }
    }

    pub(super) fn end(&mut self, run: RunId, report: RunReport) {
        self.slots.leave(run);
        self.keep_quiet();
        let _ = self.events.send(RunEvent::Ended { run, report });
    }

    /// Waits for processes that actions left behind and that ended since: the daemon is their reaper. A process is taken for such an
    /// orphan only when it cannot be anything else: not of the daemon's own session, as its helpers are, not a run's main process,
    /// and not perhaps one whose start has not been heard of yet.
    pub(super) fn reap_orphans(&mut self) {
        let our_session = getsid(None).ok();
        let launcher = Pid::from_raw(self.link.launcher.pid() as i32);
        while self.in_flight.is_empty() && self.births.is_empty() {
            let peek = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            let Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) = waitid(Id::All, peek) else {
                return;
            };
            if pid == launcher || self.pids.contains(&pid) || getsid(Some(pid)).ok() == our_session {
                return;
            }
            let _ = waitpid(pid, Some(WaitPidFlag::WNOHANG));
        }
    }
}
