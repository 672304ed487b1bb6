//! Processes of components that wait for a run: made when there is nothing else to do, handed a run when there is one.
//!
//! One process a run stays true: each is handed one at most. Where none is ready, or what it was made with is not what a process would be made with
//! now, the run starts as any other.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::Duration;

use bytes::Bytes;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::Instant;
use tracing::{debug, warn};

use super::{Pending, Supervisor};
use crate::daemon_side::granted_dirs::Identities;
use crate::daemon_side::invocation::Invocation;
use crate::daemon_side::launcher_process::Sending;
use crate::daemon_side::polled::forget_readiness;
use crate::daemon_side::request::{launch_failed, own_cpu_limit};
use crate::daemon_side::secrets::SecretValues;
use crate::daemon_side::supervised_run::wait4;
use crate::daemon_side::warm_pool::{Next, WarmSpec};
use crate::daemon_side::warm_process::{Birth, Seen, WarmProcess, file_id};
use crate::journal::Purpose;
use crate::protocol::{Step, Task};
use tokio::io::Interest;
use twitcher_ipc::helper::is_shortage;
use twitcher_ipc::memfd;
use twitcher_model::RunId;
use twitcher_process::usage::private_memory;

/// How long after a run has ended no process is made: whoever waits for that end comes first, and making one takes the processor from it.
const AFTER_AN_END: Duration = Duration::from_millis(1);

/// What sets the numbers of processes that wait apart from those of runs.
const WAITS: u64 = 1 << 63;

impl Supervisor {
    /// A run has ended. The time goes on that began with another one: where one ends after the other some must be made, too.
    pub(super) fn keep_quiet(&mut self) {
        let now = Instant::now();
        if self.quiet_until.is_none_or(|until| now >= until) {
            self.quiet_until = Some(now + AFTER_AN_END);
        }
    }

    /// Makes the next process that is to wait, if there is nothing else to do.
    pub(super) fn keep_ready(&mut self) {
        self.warm_at = self.quiet_until.filter(|until| Instant::now() < *until);
        if self.warm_at.is_some() {
            return;
        }
        loop {
            let is_busy = !self.waiting.is_empty() || !self.in_flight.is_empty() || !self.births.is_empty();
            let is_stuck = self.no_room_until.is_some() || self.link.sending != Sending::Ready || self.link.closed;
            if is_busy || is_stuck || self.running.len() + self.leaving + self.warm.len() >= self.max_running {
                // This is asked again when that has changed.
                return;
            }
            match self.warm.next(Instant::now(), self.running.is_empty()) {
                Next::Wait(at) => {
                    self.warm_at = at;
                    return;
                }
                Next::End(number) => {
                    self.warm.leaves(number);
                    self.end_waiting(&[number]);
                }
                Next::Make(spec) => self.make(spec),
            }
        }
    }

    fn make(&mut self, spec: WarmSpec) {
        self.next_waiting += 1;
        let number = RunId(WAITS | u64::from(std::process::id()) << 32 | u64::from(self.next_waiting));
        let invocation = Invocation {
            run: number,
            watch: spec.watch.clone(),
            task: Task::Wait(spec.action.clone()),
            env: Vec::new(),
            process: spec.process.clone(),
            stdin: Bytes::new(),
            purpose: Purpose::default(),
            secrets: SecretValues::default(),
            capture: false,
            aside: false,
        };
        self.warm.made(number, &spec.watch);
        let native = self
            .code
            .open(&invocation)
            .and_then(|native| native.ok_or(Errno::ENOENT.into()));
        let sent = native.and_then(|native| {
            let id = file_id(&native)?;
            let (seq, ends, _) = self.try_send(&invocation, Some(native))?;
            Ok((seq, ends, id))
        });
        match sent {
            Ok((seq, ends, native)) => {
                let cpu = own_cpu_limit(&invocation);
                let birth = Birth {
                    number,
                    spec,
                    ends,
                    native,
                    cpu,
                };
                self.births.insert(seq, birth);
            }
            Err(error) => {
                self.slots.leave(number);
                match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EAGAIN) => {
                        self.link.sending = Sending::Full;
                        forget_readiness(&self.link.socket, Interest::WRITABLE);
                        self.warm.leaves(number);
                    }
                    Some(Errno::EPIPE | Errno::ECONNRESET) => {
                        self.link.sending = Sending::Broken;
                        self.warm.leaves(number);
                    }
                    _ if is_shortage(&error) => self.give_up_waiting(),
                    // A run that needs it says more.
                    _ => self.waiting_failed(number, &spec.watch, &error.to_string()),
                }
            }
        }
    }

    /// The system has no room: those that only wait go first.
    pub(super) fn give_up_waiting(&mut self) {
        let all = self.warm.short(Instant::now());
        self.end_waiting(&all);
    }

    /// Whether another process can be had by ending one that only waits.
    pub(super) fn make_room(&mut self) {
        if let Some(number) = self.warm.give_way() {
            self.end_waiting(&[number]);
        }
    }

    /// How much memory processes that wait may hold, in bytes; with 0 there are none.
    pub(super) fn keep_warm(&mut self, bytes: u64) {
        self.warm.set_budget(bytes);
        if bytes == 0 {
            let all = self.warm.end_all();
            self.end_waiting(&all);
        }
    }

    /// The configuration was loaded, with these components.
    pub(super) fn reloaded(&mut self, all: Vec<WarmSpec>) {
        let ended = self.warm.reloaded(all);
        self.end_waiting(&ended);
    }

    /// Ends those that the pool has let go of. Of one that does not exist yet this is seen once it does.
    fn end_waiting(&mut self, numbers: &[RunId]) {
        for number in numbers {
            if let Some(process) = self.warm_processes.get(number) {
                process.kill();
            }
        }
    }

    /// A process that was asked for exists.
    pub(super) fn on_born(&mut self, birth: Birth, seq: u64, pid: Pid) {
        let (number, watch) = (birth.number, birth.spec.watch.clone());
        match WarmProcess::new(birth, seq, pid, &self.seen_waiting) {
            Ok(process) => {
                if !self.warm.has(number) {
                    process.kill();
                }
                self.pids.insert(pid);
                self.warm_processes.insert(number, process);
            }
            Err(error) => {
                // What nobody follows is waited for as an orphan.
                let _ = kill(pid, Signal::SIGKILL);
                self.slots.leave(number);
                self.waiting_failed(number, &watch, &error.to_string());
            }
        }
    }

    /// One could not be made, or not set up. True if it was one of these.
    pub(super) fn waiting_not_made(&mut self, seq: u64, step: Step, errno: Errno) -> bool {
        if let Some(birth) = self.births.remove(&seq) {
            self.slots.leave(birth.number);
            match step == Step::Clone && is_shortage(&errno.into()) {
                true => self.give_up_waiting(),
                false => self.waiting_failed(birth.number, &birth.spec.watch, &errno.to_string()),
            }
            return true;
        }
        let Some(process) = self.warm_processes.values_mut().find(|process| process.seq == seq) else {
            return false;
        };
        let invocation = Invocation {
            run: RunId(0),
            watch: process.spec.watch.clone(),
            task: Task::Wait(process.spec.action.clone()),
            env: Vec::new(),
            process: process.spec.process.clone(),
            stdin: Bytes::new(),
            purpose: Purpose::default(),
            secrets: SecretValues::default(),
            capture: false,
            aside: false,
        };
        process.cannot(Some(launch_failed(&invocation, step, errno).to_string()));
        true
    }

    /// The launcher died: what it was asked for and did not make is not asked for again.
    pub(super) fn forget_births(&mut self) {
        for (_, birth) in self.births.drain() {
            self.slots.abandon(birth.number);
            self.warm.leaves(birth.number);
        }
    }

    pub(super) fn on_seen(&mut self, number: RunId, seen: Seen) {
        let Some(process) = self.warm_processes.get_mut(&number) else {
            return;
        };
        match seen {
            Seen::Waits(waits) => {
                if let Err(errno) = process.waits(waits) {
                    process.cannot(Some(format!(
                        "its limit of processor time cannot count from its call: {errno}"
                    )));
                    process.kill();
                    return;
                }
                let (pid, held) = (process.pid, private_memory(process.pid));
                if self.warm.waits(number, held, Instant::now()) {
                    let cpu_us = process.used.cpu.as_micros() as u64;
                    debug!(watch = &*process.spec.watch, %pid, held, cpu_us, "a process of the component waits for its next run");
                } else {
                    process.kill();
                }
            }
            Seen::Cannot(why) => {
                process.cannot(why);
                process.kill();
            }
            Seen::Ended => {
                let Some(mut process) = self.warm_processes.remove(&number) else {
                    return;
                };
                let (status, _) = wait4(process.pid);
                self.pids.remove(&process.pid);
                self.slots.leave(number);
                let why = process.take_why().unwrap_or_else(|| how_it_ended(status));
                let watch = process.spec.watch.clone();
                // With it goes its cgroup.
                drop(process);
                self.waiting_failed(number, &watch, &why);
                self.reap_orphans();
            }
        }
    }

    /// Says so once of those that ended by themselves; those that were to end are not among them.
    fn waiting_failed(&mut self, number: RunId, watch: &str, why: &str) {
        if let Some(pause) = self.warm.failed(number, Instant::now()) {
            let pause = Duration::as_secs(&pause);
            warn!(
                watch,
                why,
                "a process of the component that was to wait for its next run has ended by itself; another is made in {pause} s, and ever later \
                 should it end too. Runs start without meanwhile; this is not said again until one was of use"
            );
        }
    }

    /// Whether a run must wait until it is known which directories it is granted.
    pub(super) fn needs_look(&self, invocation: &Invocation) -> bool {
        WarmSpec::of(invocation).is_some_and(|spec| !spec.action.grants.dirs.is_empty() && self.warm.has_ready(&spec))
    }

    /// Hands a run of a component to a process that waits for it. Gives it back if there is none.
    pub(super) fn hand_over(&mut self, pending: Pending, native: &File) -> Option<Pending> {
        let Some(spec) = WarmSpec::of(&pending.invocation) else {
            return Some(pending);
        };
        let now = Instant::now();
        let number = self.fresh(&spec, native, &pending.dirs);
        if number.is_none() {
            self.warm.was_unready(&spec, now);
        }
        let stale = self.warm.runs(&spec, now);
        self.end_waiting(&stale);
        let Some((number, process)) = number.and_then(|number| Some((number, self.warm_processes.remove(&number)?)))
        else {
            return Some(pending);
        };
        let Pending { invocation, .. } = &pending;
        let (run, purpose) = (invocation.run, invocation.purpose);
        // First the journal: whoever is handed a run is in it.
        let journal = self.link.launcher.journal.as_deref();
        let written = journal.map_or(Ok(()), |journal| self.slots.hand_over(journal, number, run, purpose));
        if let Err(error) = written.and_then(|()| self.hand(&process, invocation)) {
            debug!(watch = &*spec.watch, run_id = %run, %error, "cannot hand the run to the process that waits for it; it starts as any other");
            self.slots.leave(run);
            process.kill();
            self.warm_processes.insert(number, process);
            return Some(pending);
        }
        self.warm.was_ready(&spec);
        let WarmProcess {
            seq,
            pid,
            pidfd,
            ends,
            used,
            ..
        } = process;
        self.follow(pending.invocation, (seq, pid), Ok(pidfd), ends, Some(used), None);
        None
    }

    /// One that is ready for this, and was made with what a process would be made with now. Those that were not end.
    fn fresh(&mut self, spec: &WarmSpec, native: &File, dirs: &Identities) -> Option<RunId> {
        let has_dirs = !spec.action.grants.dirs.is_empty();
        if has_dirs && self.warm.has_ready(spec) && self.dirs.mounts_changed() {
            let all = self.warm.end_all();
            self.end_waiting(&all);
        }
        let dirs = match (has_dirs, dirs) {
            (false, _) => &[][..],
            (true, Some(dirs)) => dirs,
            (true, None) => return None,
        };
        let native = file_id(native).ok()?;
        while let Some(number) = self.warm.take(spec) {
            match self.warm_processes.get(&number) {
                Some(process) if process.is_fresh(native, dirs) => return Some(number),
                _ => self.end_waiting(&[number]),
            }
        }
        None
    }

    fn hand(&self, process: &WarmProcess, invocation: &Invocation) -> std::io::Result<()> {
        let mut task = invocation.task.clone();
        invocation.secrets.give(&mut Vec::new(), &mut task);
        let Task::Wasm(task) = task else {
            return Err(Errno::EINVAL.into());
        };
        let data;
        let stdin = if invocation.process.pipe_stdin && !invocation.stdin.is_empty() {
            data = memfd::sealed(c"twitcher-stdin", &invocation.stdin)?;
            data.as_fd()
        } else {
            self.null.as_fd()
        };
        process.hand(&task, stdin)
    }
}

/// What the kernel says of it.
fn how_it_ended(status: i32) -> String {
    use std::os::unix::process::ExitStatusExt;
    std::process::ExitStatus::from_raw(status).to_string()
}
