//! The task that owns all launches: it sends requests, follows the processes, reaps orphans, and replaces a launcher that dies.
//!
//! It must not know when or why an action runs.

mod warm;

use std::borrow::Cow;
use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::{Pid, getsid, pipe2};
use tokio::io::Interest;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::{debug, error, info, warn};

use crate::daemon_side::component_channel;
use crate::daemon_side::data_files::{self, DataFiles, FileWrite, Then};
use crate::daemon_side::granted_dirs::{GrantedDirs, Identities};
use crate::daemon_side::invocation::{Control, Invocation, RunReport};
use crate::daemon_side::launcher_process::{LauncherLink, Sending};
use crate::daemon_side::liveness::{Liveness, Look};
use crate::daemon_side::native_code::{NativeCode, Restored};
use crate::daemon_side::polled::forget_readiness;
use crate::daemon_side::queue::{Command, RunEvent};
use crate::daemon_side::request::{cgroup_limits, launch_failed, request};
use crate::daemon_side::resolver::NameResolver;
use crate::daemon_side::secrets::{SecretReader, SecretValues};
use crate::daemon_side::supervised_run::{Ends, MAX_LINGERING, SupervisedRun};
use crate::daemon_side::warm_pool::WarmPool;
use crate::daemon_side::warm_process::{Birth, Seen, WarmProcess};
use crate::journal::{self, JournalEntry, JournalSlots};
use crate::launcher::LAUNCHER_NAME;
use crate::protocol::{Reply, SETUP_FAILED, Step, Task, send_request};
use twitcher_ipc::helper::is_shortage;
use twitcher_ipc::memfd;
use twitcher_model::{Outcome, RunId};
use twitcher_process::cgroup::{CgroupLimits, RunCgroup};
use twitcher_process::usage::Usage;
use twitcher_process::{Progress, pidfd_open};
use twitcher_sandbox::channel::Reason;

/// Requests that may be with the launcher and unanswered. More would only hold more descriptors: it serves them one by one.
const MAX_IN_FLIGHT: usize = 32;
/// How long the first attempt to replace a launcher waits; doubled each time one dies within a minute, up to 64 times as long.
const RESPAWN_DELAY: Duration = Duration::from_millis(50);
/// How long a run waits for a system that has no room for a process, and the time between two attempts.
const SHORTAGE_PATIENCE: Duration = Duration::from_secs(300);
const SHORTAGE_PAUSE: Duration = Duration::from_millis(200);
/// How many launchers may die with a request unanswered before it is given up.
const MAX_DEATHS: u32 = 5;

/// A run that has no process yet.
struct Pending {
    invocation: Invocation,
    /// How many launchers died with it unanswered.
    deaths: u32,
    /// Since when it could not be started because the system had no room for a process.
    short_since: Option<Instant>,
    /// Its native code was found damaged or gone, and was made again.
    restored: bool,
    /// The directories that its grants lead to, if that was looked at.
    dirs: Identities,
}

/// A request that the launcher has, or had when it died.
struct InFlight {
    pending: Pending,
    ends: Ends,
    /// Its process shares the launcher's memory.
    shares: bool,
    /// It is to be terminated as soon as it has started.
    terminate: Option<Reason>,
}

struct Reaped {
    seq: u64,
    pid: Pid,
    invocation: Invocation,
    /// None if the run is still to be started.
    report: Option<RunReport>,
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

/// See the module's documentation.
pub(crate) struct Supervisor {
    link: LauncherLink,
    commands: mpsc::UnboundedReceiver<Command>,
    events: mpsc::UnboundedSender<RunEvent>,
    reaped: mpsc::UnboundedSender<Reaped>,
    reaped_end: mpsc::UnboundedReceiver<Reaped>,
    lookups: NameResolver,
    secrets: SecretReader,
    files: DataFiles,
    code: NativeCode,
    slots: JournalSlots,
    waiting: VecDeque<Pending>,
    in_flight: HashMap<u64, InFlight>,
    failed: HashMap<u64, (Step, Errno)>,
    running: HashMap<RunId, mpsc::UnboundedSender<Control>>,
    /// Runs that were to be terminated when their process had ended, of which the supervisor had not heard.
    told_too_late: HashSet<RunId>,
    pids: HashSet<Pid>,
    next_seq: u64,
    max_running: usize,
    lingering: Arc<Semaphore>,
    null: OwnedFd,
    saturated: bool,
    liveness: Liveness,
    /// The last process that started sharing the launcher's memory.
    sharing: Option<Sharing>,
    /// What launcher and that process had done when the launcher was looked at.
    seen: Option<[Option<Progress>; 2]>,
    /// It was said that runs have no cgroups.
    without_cgroup: bool,
    /// The system has no room for a process; the next attempt is then.
    no_room_until: Option<Instant>,
    /// Of which components processes wait.
    warm: WarmPool,
    /// When there may be another one to make.
    warm_at: Option<Instant>,
    births: HashMap<u64, Birth>,
    /// Also those that are ending.
    warm_processes: HashMap<RunId, WarmProcess>,
    seen_waiting: mpsc::UnboundedSender<(RunId, Seen)>,
    seen_waiting_end: mpsc::UnboundedReceiver<(RunId, Seen)>,
    next_waiting: u32,
    dirs: GrantedDirs,
}

/// A process that its launcher waits for until it has executed its program.
struct Sharing {
    run: RunId,
    watch: Arc<str>,
    pid: Pid,
}

impl Supervisor {
    pub(crate) fn new(
        link: LauncherLink,
        null: OwnedFd,
        commands: mpsc::UnboundedReceiver<Command>,
        events: mpsc::UnboundedSender<RunEvent>,
        max_running: usize,
        code: NativeCode,
        warm: WarmPool,
    ) -> Self {
        let (reaped, reaped_end) = mpsc::unbounded_channel();
        let (seen_waiting, seen_waiting_end) = mpsc::unbounded_channel();
        Self {
            slots: JournalSlots::new(link.launcher.journal.as_deref()),
            link,
            commands,
            events,
            reaped,
            reaped_end,
            lookups: NameResolver::new(),
            secrets: SecretReader::new(),
            files: DataFiles::default(),
            code,
            waiting: VecDeque::new(),
            in_flight: HashMap::new(),
            failed: HashMap::new(),
            running: HashMap::new(),
            told_too_late: HashSet::new(),
            pids: HashSet::new(),
            next_seq: 1,
            max_running,
            lingering: Arc::new(Semaphore::new(MAX_LINGERING)),
            null,
            saturated: false,
            liveness: Liveness::default(),
            sharing: None,
            seen: None,
            without_cgroup: false,
            no_room_until: None,
            warm,
            warm_at: None,
            births: HashMap::new(),
            warm_processes: HashMap::new(),
            seen_waiting,
            seen_waiting_end,
            next_waiting: 0,
            dirs: GrantedDirs::new(),
        }
    }

    pub(crate) async fn serve(mut self, mut children: tokio::signal::unix::Signal) {
        // SIGCHLD is only a hint: signals coalesce, and an orphan may have to wait until it is certain that it is one.
        let mut sweep = interval(Duration::from_secs(30));
        sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.flush();
            self.keep_ready();
            let look_at = self.liveness.look_at();
            let (no_room_until, warm_at) = (self.no_room_until, self.warm_at);
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(Command::Launch(invocation)) => {
                        let ready = self.lookups.keep(invocation);
                        self.wait(ready);
                    }
                    Some(Command::Control(run, control)) => self.control(run, control),
                    Some(Command::KeepWarm(bytes)) => self.keep_warm(bytes),
                    Some(Command::Reloaded(components)) => self.reloaded(components),
                    None => return,
                },
                (invocation, dirs) = self.dirs.found() => self.enqueue_with(invocation, dirs),
                Some((number, seen)) = self.seen_waiting_end.recv() => self.on_seen(number, seen),
                () = sleep_until(warm_at.unwrap_or(self.link.since)), if warm_at.is_some() => {}
                ready = self.lookups.ready() => self.wait(ready),
                read = self.secrets.read() => match read {
                    Ok(invocation) => self.enqueue(invocation),
                    Err((run, outcome)) => self.end(run, RunReport::of(outcome)),
                },
                (runs, restored) = self.code.restored() => self.on_restored(runs, restored),
                Some(reaped) = self.reaped_end.recv() => self.on_reaped(reaped),
                _ = self.link.socket.readable(), if !self.link.closed => self.read_replies(),
                _ = self.link.socket.writable(), if self.link.sending == Sending::Full => self.link.sending = Sending::Ready,
                _ = self.link.pidfd.readable() => self.replace_launcher().await,
                () = sleep_until(look_at.unwrap_or(self.link.since)), if look_at.is_some() => self.look_at_launcher(),
                () = sleep_until(no_room_until.unwrap_or(self.link.since)), if no_room_until.is_some() => {}
                _ = children.recv() => self.reap_orphans(),
                _ = sweep.tick() => {
                    self.reap_orphans();
                    if let Some(cgroups) = &self.link.launcher.cgroups {
                        cgroups.sweep();
                    }
                }
            }
        }
    }

    /// Puts runs in the queue for the launcher, as soon as they have their data files and secrets.
    fn wait(&mut self, ready: impl IntoIterator<Item = Invocation>) {
        for invocation in ready {
            match invocation.process.data_file.clone() {
                Some(path) => {
                    let write = DataFiles::for_start(&path, invocation);
                    self.write(path, write);
                }
                None => self.wait_for_secrets(invocation),
            }
        }
    }

    fn wait_for_secrets(&mut self, invocation: Invocation) {
        if let Some(invocation) = self.secrets.keep(invocation) {
            self.enqueue(invocation);
        }
    }

    fn write(&mut self, path: Arc<Path>, write: FileWrite) {
        if let Some(writer) = self.files.add(path, write) {
            self.enqueue(writer);
        }
    }

    /// Whoever wrote a data file has ended, or could not be started.
    fn on_written(&mut self, path: &Arc<Path>, writer: Outcome) {
        let failed = data_files::failure(path, writer);
        let (then, next) = self.files.written(path);
        match (then, failed) {
            (Some(Then::Start(invocation)), None) => self.wait_for_secrets(*invocation),
            (Some(Then::Start(invocation)), Some(failed)) => self.end(invocation.run, RunReport::of(failed)),
            (Some(Then::Forgo(run)), _) => self.end(run, RunReport::of(Outcome::Terminated)),
            (Some(Then::Signal(run, signal)), failed) => self.told(run, signal, failed),
            (None, _) => {}
        }
        if let Some(writer) = next {
            self.enqueue(writer);
        }
    }

    /// Sends the signal that a run is told of newer data by, unless its data file has the older.
    fn told(&mut self, run: RunId, signal: Signal, failed: Option<Outcome>) {
        if failed.is_none()
            && let Some(to) = self.running.get(&run)
        {
            // A run that has just ended hears no more.
            let _ = to.send(Control::Notify(signal));
        }
        let _ = self.events.send(RunEvent::Told { run, failed });
    }

    fn enqueue(&mut self, invocation: Invocation) {
        if self.needs_look(&invocation) {
            return self.dirs.keep(invocation);
        }
        self.enqueue_with(invocation, None);
    }

    fn enqueue_with(&mut self, invocation: Invocation, dirs: Identities) {
        self.waiting.push_back(Pending {
            invocation,
            deaths: 0,
            short_since: None,
            restored: false,
            dirs,
        });
    }

    /// Sends what can be sent.
    fn flush(&mut self) {
        if self.no_room_until.is_some_and(|until| Instant::now() < until) {
            return;
        }
        self.no_room_until = None;
        while self.link.sending == Sending::Ready
            && self.no_room_until.is_none()
            && self.in_flight.len() < MAX_IN_FLIGHT
            && self.has_room()
        {
            let Some(pending) = self.waiting.pop_front() else {
                return;
            };
            self.send(pending);
        }
    }

    fn has_room(&mut self) -> bool {
        let busy = self.running.len() + self.in_flight.len();
        let room = busy < self.max_running;
        if room && busy + self.warm.len() >= self.max_running {
            self.make_room();
        }
        if !room && !self.waiting.is_empty() && !self.saturated {
            warn!(
                running = self.running.len(),
                "as many actions run as the limit of open files allows; further ones wait"
            );
        }
        self.saturated = !room;
        room
    }

    fn send(&mut self, pending: Pending) {
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
    fn may_wait(&self, pending: &Pending) -> bool {
        pending
            .short_since
            .is_none_or(|since| since.elapsed() < SHORTAGE_PATIENCE)
    }

    /// Puts a run back in front of the others. None is started before the next attempt.
    fn wait_for_room(&mut self, mut pending: Pending, error: &io::Error) {
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
    fn on_restored(&mut self, runs: Vec<Invocation>, restored: Restored) {
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
    fn cgroup(&mut self, invocation: &Invocation) -> io::Result<Option<RunCgroup>> {
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
    fn try_send(&mut self, invocation: &Invocation, native: Option<File>) -> io::Result<(u64, Ends, bool)> {
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
        Ok((seq, ends, may_share))
    }

    /// Where the process is to write itself down.
    fn entry(&mut self, invocation: &Invocation) -> Option<JournalEntry> {
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
    fn leave_slot(&mut self, invocation: &Invocation) {
        if !invocation.is_writer() {
            self.slots.leave(invocation.run);
        }
    }

    fn control(&mut self, run: RunId, control: Control) {
        let control = match control {
            Control::Renew(renewal) => {
                let signal = renewal.signal;
                return match DataFiles::for_renewal(run, *renewal) {
                    Some((path, write)) => self.write(path, write),
                    None => self.told(run, signal, None),
                };
            }
            other => other,
        };
        if let Some(to) = self.running.get(&run) {
            let is_end = matches!(control, Control::Terminate(_));
            // A run that has just ended hears no more; it may be one that is to start again.
            if to.send(control).is_err() && is_end {
                self.told_too_late.insert(run);
            }
        } else if let Control::Terminate(reason) = control {
            let is_it = |pending: &Pending| {
                let Pending { invocation, .. } = pending;
                invocation.run == run && !invocation.is_writer()
            };
            if let Some(launch) = self.in_flight.values_mut().find(|launch| is_it(&launch.pending)) {
                launch.terminate = Some(reason);
            } else if self.files.forgo(run) {
                // Its file is being written: it has ended once that is over, so that nothing is written after it.
            } else if let Some(at) = self.waiting.iter().position(is_it) {
                self.waiting.remove(at);
                self.end(run, RunReport::of(Outcome::Terminated));
            } else if self.lookups.remove(run)
                || self.secrets.remove(run)
                || self.code.remove(run)
                || self.dirs.remove(run)
            {
                self.end(run, RunReport::of(Outcome::Terminated));
            }
        }
    }

    fn read_replies(&mut self) {
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
    fn look_at_launcher(&mut self) {
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

    fn on_started(&mut self, seq: u64, pid: Pid) {
        if let Some(birth) = self.births.remove(&seq) {
            return self.on_born(birth, seq, pid);
        }
        let Some(InFlight {
            pending: Pending { invocation, .. },
            ends,
            shares,
            terminate,
        }) = self.in_flight.remove(&seq)
        else {
            error!(seq, "the launcher answered a request that was not made");
            return;
        };
        if shares {
            let (run, watch) = (invocation.run, Arc::clone(&invocation.watch));
            self.sharing = Some(Sharing { run, watch, pid });
        }
        // As our own child it cannot vanish before we wait for it; one that is not ours was never started by our launcher.
        let pidfd = pidfd_open(pid).map_err(io::Error::from);
        self.follow(invocation, (seq, pid), pidfd, ends, None, terminate);
    }

    /// Follows the process of a run, which is there from now on; if it waited for that, it had used so much before.
    fn follow(
        &mut self,
        mut invocation: Invocation,
        (seq, pid): (u64, Pid),
        pidfd: io::Result<OwnedFd>,
        ends: Ends,
        waited: Option<Usage>,
        terminate: Option<Reason>,
    ) {
        let run = invocation.run;
        // Its process has them.
        invocation.secrets = SecretValues::default();
        let (to, control) = mpsc::unbounded_channel();
        if let Some(reason) = terminate {
            let _ = to.send(Control::Terminate(reason));
        }
        let file = match &invocation.task {
            Task::Write(path) => Some(Arc::clone(path)),
            Task::Exec(_) | Task::Function(_) | Task::Wasm(_) | Task::Wait(_) => None,
        };
        let journal = self.link.launcher.journal.as_deref();
        let mark = journal
            .and_then(|journal| self.slots.mark(journal, run))
            .filter(|_| file.is_none());
        let events = match &file {
            None => self.events.clone(),
            // Of this nobody is told.
            Some(_) => mpsc::unbounded_channel().0,
        };
        let control = (to.clone(), control);
        let started = pidfd.and_then(|pidfd| SupervisedRun::new(invocation, pid, pidfd, ends, control, events, mark));
        let process = match started {
            Ok(process) => process.had_waited(waited),
            Err(error) => {
                error!(run_id = %run, %pid, %error, "cannot follow the process of a run; killing it");
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
                let outcome = Outcome::LaunchFailed {
                    step: "follow the process".to_owned(),
                    errno: error.raw_os_error().unwrap_or(libc::EIO),
                };
                match file {
                    Some(path) => self.on_written(&path, outcome),
                    None => self.end(run, RunReport::of(outcome)),
                }
                return;
            }
        };
        self.pids.insert(pid);
        if file.is_none() {
            self.running.insert(run, to);
            let _ = self.events.send(RunEvent::Started { run, pid: pid.as_raw() });
        }
        let (reaped, lingering) = (self.reaped.clone(), self.lingering.clone());
        tokio::spawn(async move {
            let (invocation, report) = process.supervise(&lingering).await;
            let _ = reaped.send(Reaped {
                seq,
                pid,
                invocation,
                report,
            });
        });
    }

    fn on_failed(&mut self, seq: u64, step: Step, errno: Errno) {
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

    fn on_reaped(&mut self, reaped: Reaped) {
        let Reaped {
            seq,
            pid,
            invocation,
            report,
        } = reaped;
        if !invocation.is_writer() {
            self.running.remove(&invocation.run);
        }
        self.pids.remove(&pid);
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
    fn ended(&mut self, invocation: &Invocation, report: RunReport) {
        match &invocation.task {
            Task::Write(path) => self.on_written(path, report.outcome),
            Task::Exec(_) | Task::Function(_) | Task::Wasm(_) | Task::Wait(_) => self.end(invocation.run, report),
        }
    }

    fn end(&mut self, run: RunId, report: RunReport) {
        self.slots.leave(run);
        let _ = self.events.send(RunEvent::Ended { run, report });
    }

    /// Waits for processes that actions left behind and that ended since: the daemon is their reaper. A process is taken for such an
    /// orphan only when it cannot be anything else: not of the daemon's own session, as its helpers are, not a run's main process,
    /// and not perhaps one whose start has not been heard of yet.
    fn reap_orphans(&mut self) {
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

    /// The launcher died. Runs in flight are the daemon's own children and go on; requests that no process has answered for are
    /// sent to the next launcher.
    async fn replace_launcher(&mut self) {
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
