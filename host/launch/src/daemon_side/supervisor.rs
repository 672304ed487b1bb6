//! The task that owns all launches: it sends requests, follows the processes, reaps orphans, and replaces a launcher that dies.
//!
//! It must not know when or why an action runs.

mod ending;
mod launcher;
mod sending;
mod warm;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tracing::error;

use self::launcher::Sharing;
use crate::daemon_side::data_files::{self, DataFiles, FileWrite, Then};
use crate::daemon_side::granted_dirs::{GrantedDirs, Identities};
use crate::daemon_side::invocation::{Control, Invocation, RunReport};
use crate::daemon_side::launcher_process::{LauncherLink, Sending};
use crate::daemon_side::liveness::Liveness;
use crate::daemon_side::native_code::NativeCode;
use crate::daemon_side::queue::{Command, RunEvent};
use crate::daemon_side::resolver::NameResolver;
use crate::daemon_side::secrets::{SecretReader, SecretValues};
use crate::daemon_side::supervised_run::{Ends, MAX_LINGERING, Over, SupervisedRun};
use crate::daemon_side::warm_pool::WarmPool;
use crate::daemon_side::warm_process::{Birth, Seen, WarmProcess};
use crate::journal::JournalSlots;
use crate::protocol::{Step, Task};
use twitcher_model::{Outcome, RunId};
use twitcher_process::usage::Usage;
use twitcher_process::{Progress, pidfd_open};
use twitcher_sandbox::channel::Reason;

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

/// What comes of a process that was followed.
enum Reaped {
    /// Its run is over.
    Run(Box<ReapedRun>),
    /// It has been waited for.
    Process(Pid),
}

struct ReapedRun {
    seq: u64,
    pid: Pid,
    invocation: Invocation,
    /// None if the run is still to be started.
    report: Option<RunReport>,
    /// Whether the process has been waited for, too.
    is_gone: bool,
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
    /// Processes whose runs are over, and that are still to be waited for.
    leaving: usize,
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
    /// Before then none is made.
    quiet_until: Option<Instant>,
    births: HashMap<u64, Birth>,
    /// Also those that are ending.
    warm_processes: HashMap<RunId, WarmProcess>,
    seen_waiting: mpsc::UnboundedSender<(RunId, Seen)>,
    seen_waiting_end: mpsc::UnboundedReceiver<(RunId, Seen)>,
    next_waiting: u32,
    dirs: GrantedDirs,
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
            leaving: 0,
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
            quiet_until: None,
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
            let Over {
                invocation,
                report,
                leaving,
            } = process.supervise(&lingering).await;
            let run = ReapedRun {
                seq,
                pid,
                invocation,
                report,
                is_gone: leaving.is_none(),
            };
            let _ = reaped.send(Reaped::Run(Box::new(run)));
            if let Some(process) = leaving {
                process.gone().await;
                let _ = reaped.send(Reaped::Process(pid));
            }
        });
    }
}
