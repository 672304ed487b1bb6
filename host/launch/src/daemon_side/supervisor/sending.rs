//! From a run that waits to a request that the launcher has.
//!
//! It must not know what becomes of the request.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::yield_now;
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::unistd::pipe2;
use tokio::io::Interest;
use tokio::time::Instant;
use tracing::warn;

use super::{InFlight, Pending, Supervisor};
use crate::daemon_side::component_channel;
use crate::daemon_side::invocation::{Invocation, RunReport};
use crate::daemon_side::launcher_process::Sending;
use crate::daemon_side::native_code::Restored;
use crate::daemon_side::polled::forget_readiness;
use crate::daemon_side::request::{cgroup_limits, request};
use crate::daemon_side::supervised_run::Ends;
use crate::journal::{self, JournalEntry};
use crate::protocol::{Task, send_request};
use twitcher_ipc::helper::is_shortage;
use twitcher_ipc::memfd;
use twitcher_model::Outcome;
use twitcher_process::cgroup::{CgroupLimits, RunCgroup};

/// Requests that may be with the launcher and unanswered. More would only hold more descriptors: it serves them one by one.
const MAX_IN_FLIGHT: usize = 32;
/// How long a run waits for a system that has no room for a process, and the time between two attempts.
const SHORTAGE_PATIENCE: Duration = Duration::from_secs(300);
const SHORTAGE_PAUSE: Duration = Duration::from_millis(200);

impl Supervisor {
    /// Sends what can be sent.
    pub(super) fn flush(&mut self) {
        if self.no_room_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.no_room_until = None;
        let mut sent = 0;
        while self.link.sending == Sending::Ready
            && self.no_room_until.is_none()
            && self.in_flight.len() < MAX_IN_FLIGHT
            && self.has_room()
        {
            let Some(pending) = self.waiting.pop_front() else {
                break;
            };
            self.send(pending);
            sent += 1;
        }
        if sent == 1 && self.waiting.is_empty() {
            // The kernel takes whoever writes to a socket to be about to sleep, and wakes the reader on the same processor, where it would
            // wait for all that this daemon does before it sleeps, though another processor be idle. Of many it has the next to do anyway.
            yield_now();
        }
    }

    pub(super) fn has_room(&mut self) -> bool {
        let busy = self.running.len() + self.leaving + self.in_flight.len();
        let room = busy < self.max_running;
        if room && busy + self.warm.len() >= self.max_running {
            self.make_room();
        }
        if !room && !self.waiting.is_empty() && !self.saturated {
            warn!(
                running = self.running.len(),
                leaving = self.leaving,
                "as many actions run as the limit of open files allows; further ones wait"
            );
        }
        self.saturated = !room;
        room
    }

    pub(super) fn send(&mut self, pending: Pending) {
        let native = match self.code.open(&pending.invocation) {
            Err(error) if !pending.restored && self.code.can_restore(&error) => {
                return self.code.restore(pending.invocation);
            }
            opened => opened,
        };
        let pending = match &native {
            Ok(Some(native)) => match self.hand_over(pending, native) {
                Some(pending) => pending,
                None => return,
            },
            _ => pending,
        };
        match native.and_then(|native| self.try_send(&pending.invocation, native)) {
            Ok((seq, ends, shares)) => {
                self.in_flight.insert(
                    seq,
                    InFlight {
                        pending,
                        ends,
                        shares,
                        terminate: None,
                    },
                );
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.link.sending = Sending::Full;
                forget_readiness(&self.link.socket, Interest::WRITABLE);
                self.leave_slot(&pending.invocation);
                self.waiting.push_front(pending);
            }
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET)) => {
                self.link.sending = Sending::Broken;
                self.leave_slot(&pending.invocation);
                self.waiting.push_front(pending);
            }
            Err(error) if is_shortage(&error) && self.may_wait(&pending) => self.wait_for_room(pending, &error),
            Err(error) => {
                let errno = error.raw_os_error().unwrap_or(libc::EIO);
                let outcome = Outcome::LaunchFailed {
                    step: "prepare the launch".to_owned(),
                    errno,
                };
                self.ended(&pending.invocation, RunReport::of(outcome));
            }
        }
    }

    /// Whether a run may still wait for a system that has no more processes, memory or descriptors just now.
    pub(super) fn may_wait(&self, pending: &Pending) -> bool {
        pending
            .short_since
            .is_none_or(|since| since.elapsed() < SHORTAGE_PATIENCE)
    }

    /// Puts a run back in front of the others. None is started before the next attempt.
    pub(super) fn wait_for_room(&mut self, mut pending: Pending, error: &io::Error) {
        let now = Instant::now();
        let run = pending.invocation.run;
        if pending.short_since.is_none() {
            warn!(watch = &*pending.invocation.watch, run_id = %run, %error,
                "no process can be made just now: too many run, or too little memory or too few descriptors are left; the run waits");
            pending.short_since = Some(now);
        }
        self.leave_slot(&pending.invocation);
        self.waiting.push_front(pending);
        self.no_room_until = Some(now + SHORTAGE_PAUSE);
        self.give_up_waiting();
    }

    /// The native code of these runs was made again, or could not be.
    pub(super) fn on_restored(&mut self, runs: Vec<Invocation>, restored: Restored) {
        for invocation in runs {
            match &restored {
                Ok(()) => self.waiting.push_back(Pending {
                    invocation,
                    deaths: 0,
                    short_since: None,
                    restored: true,
                    dirs: None,
                }),
                Err(why) => {
                    let outcome = Outcome::LaunchFailed {
                        step: format!("make the native code again, which is damaged or gone ({why})"),
                        errno: libc::ENOENT,
                    };
                    self.end(invocation.run, RunReport::of(outcome));
                }
            }
        }
    }

    /// A cgroup for a run; none where there are none.
    pub(super) fn cgroup(&mut self, invocation: &Invocation) -> io::Result<Option<RunCgroup>> {
        let wanted = &invocation.process.run_limits;
        let limits = cgroup_limits(wanted);
        let Some(tree) = &self.link.launcher.cgroups else {
            return Ok(None);
        };
        let limits = if wanted.optional {
            limits.only(tree.controllers())
        } else {
            limits
        };
        match tree.create(&invocation.run.to_string(), &limits) {
            Ok(cgroup) => {
                self.without_cgroup = false;
                Ok(Some(cgroup))
            }
            // Never without the limits that its operator wants.
            Err(error) if limits != CgroupLimits::default() => Err(error),
            Err(error) => {
                if !std::mem::replace(&mut self.without_cgroup, true) {
                    warn!(directory = %tree.path().display(), %error, "cannot make a cgroup for a run; it is followed by its sessions and parents");
                }
                Ok(None)
            }
        }
    }

    /// Sends a request. Gives its number, the daemon's ends of what came with it, and whether its process shares the launcher's memory.
    pub(super) fn try_send(&mut self, invocation: &Invocation, native: Option<File>) -> io::Result<(u64, Ends, bool)> {
        // Who writes a data file is of the run, beside its process or before there is one.
        let (entry, cgroup) = match &invocation.task {
            Task::Write(_) => (None, None),
            Task::Exec(_) | Task::Function(_) | Task::Wasm(_) | Task::Wait(_) => {
                (self.entry(invocation), self.cgroup(invocation)?)
            }
        };
        let (stdout, stdout_end) = pipe2(OFlag::O_CLOEXEC)?;
        let (stderr, stderr_end) = pipe2(OFlag::O_CLOEXEC)?;
        let data;
        let stdin = if invocation.process.pipe_stdin && !invocation.stdin.is_empty() {
            data = memfd::sealed(c"twitcher-stdin", &invocation.stdin)?;
            data.as_fd()
        } else {
            self.null.as_fd()
        };
        let seq = self.next_seq;
        let stdio = [stdin, stdout_end.as_fd(), stderr_end.as_fd()];
        // Sharing makes a single launch fast. Of many, it would have the launcher wait where it could work.
        let now = Instant::now();
        let may_share = self.in_flight.is_empty() && self.liveness.may_share(now);
        let request = request(seq, invocation, may_share, entry, cgroup.is_some());
        let last = cgroup.as_ref().map(RunCgroup::fd);
        let channel = match native {
            None => {
                send_request(self.link.fd(), &request, &[&stdio, last.as_slice()].concat())?;
                None
            }
            Some(native) => {
                let (ours, theirs) = component_channel::pair()?;
                let own = [native.as_fd(), theirs.as_fd()];
                send_request(self.link.fd(), &request, &[&stdio, &own[..], last.as_slice()].concat())?;
                Some(ours)
            }
        };
        if may_share {
            self.liveness.shared(now);
            self.seen = None;
        }
        self.next_seq += 1;
        let output = [stdout, stderr];
        let cgroup = cgroup.map(Arc::new);
        let ends = Ends {
            output,
            channel,
            cgroup,
        };
        // Whoever runs code of this program has a copy in any case.
        let shares = may_share && matches!(invocation.task, Task::Exec(_));
        Ok((seq, ends, shares))
    }

    /// Where the process is to write itself down.
    pub(super) fn entry(&mut self, invocation: &Invocation) -> Option<JournalEntry> {
        let journal = self.link.launcher.journal.as_deref()?;
        let run = invocation.run;
        let name = match invocation.aside {
            true => journal::aside(&invocation.watch),
            false => Cow::Borrowed(&*invocation.watch),
        };
        let entered = match &invocation.task {
            Task::Wait(_) => self.slots.enter_waiting(journal, run, &name),
            _ => self.slots.enter(journal, run, &name, invocation.purpose),
        };
        match entered {
            Ok(entry) => entry,
            Err(error) => {
                warn!(%error, "no room in the journal of runs; should this daemon be killed, the next one may miss a run that has just started");
                None
            }
        }
    }

    /// It is not sent for now. The slot of its run is not that of whoever writes a file for it.
    pub(super) fn leave_slot(&mut self, invocation: &Invocation) {
        if !invocation.is_writer() {
            self.slots.leave(invocation.run);
        }
    }
}
