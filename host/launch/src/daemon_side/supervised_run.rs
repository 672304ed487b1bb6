//! One run of an action, from the moment its process exists until it has been waited for; of a component, until its call has ended.
//!
//! A task a run: it logs what the process writes, passes signals on, and ends the process when its time is up. It must not know
//! the launcher, nor why the action runs.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use nix::errno::Errno;
use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{spawn_blocking, yield_now};
use tokio::time::{Instant, sleep_until};
use tracing::{debug, error, info, trace, warn};

use crate::daemon_side::component_channel::ComponentChannel;
use crate::daemon_side::invocation::{AnswerTo, Asker, Captured, ComponentQuestion, Control, Invocation, RunReport};
use crate::daemon_side::last_rites::{Due, LastRites};
use crate::daemon_side::leaving::Leaving;
use crate::daemon_side::output::{self, Logging, Output};
use crate::daemon_side::output_stream::{OutputStream, log_line};
use crate::daemon_side::polled::polled;
use crate::daemon_side::queue::RunEvent;
use crate::journal::EndingMark;
use crate::protocol::Task;
use twitcher_model::{ComponentFailure, Outcome};
use twitcher_process::cgroup::RunCgroup;
use twitcher_process::usage::{Usage, cpu_time_of};
use twitcher_process::{RunProcesses, pidfd_signal};
use twitcher_sandbox::channel::{CallEnd, CommandFailure, FromAction, Held, Level, Reason, ToAction, ZnodeFailure};

/// Why a run is ended before it ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum StopReason {
    /// Its timeout passed.
    Timeout,
    /// A newer update, or the daemon stops.
    Requested(Reason),
}

impl StopReason {
    fn told(self) -> Reason {
        match self {
            StopReason::Timeout => Reason::Timeout,
            StopReason::Requested(reason) => reason,
        }
    }
}

/// How long the output of a run is left alone between two reads, once it is too much to be logged.
const FLOOD_PAUSE: Duration = Duration::from_millis(2);

/// More memory, in KiB, than any machine has: nobody who says so of himself is believed.
const MOST_HELD: u64 = 1 << 40;

/// How often a terminated run's leftovers are looked for.
pub(crate) const FAMILY_POLL: Duration = Duration::from_millis(25);
/// Most runs whose output is read after they have ended, because a process they left behind holds it open.
pub(crate) const MAX_LINGERING: usize = 256;

/// The daemon's ends of a process's streams, and of its channel if it is a component's.
pub(crate) struct Ends {
    pub(crate) output: [OwnedFd; 2],
    pub(crate) channel: Option<OwnedFd>,
    pub(crate) cgroup: Option<Arc<RunCgroup>>,
}

/// A started process.
pub(crate) struct SupervisedRun {
    invocation: Invocation,
    pid: Pid,
    pidfd: AsyncFd<OwnedFd>,
    streams: [OutputStream; 2],
    output: Output,
    control: mpsc::UnboundedReceiver<Control>,
    talk: Option<ComponentChannel>,
    events: mpsc::UnboundedSender<RunEvent>,
    /// Weak, so that the run still notices when the daemon lets go of it.
    answers: mpsc::WeakUnboundedSender<Control>,
    started: Instant,
    /// What the process had used before the run was handed to it; none if it was made for the run.
    waited: Option<Usage>,
    stopping: Option<Stopping>,
    /// The output is a flood and is not read until then.
    paused_until: Option<Instant>,
    mark: Option<EndingMark>,
    /// Where its processes are. Shared with a thread that looks for them.
    family: Arc<Mutex<RunProcesses>>,
    /// Removed with this, if nobody is in it any more.
    cgroup: Option<Arc<RunCgroup>>,
}

struct Stopping {
    reason: StopReason,
    /// A component is interrupted then, if it has not stopped by itself.
    term_at: Option<Instant>,
    kill_at: Instant,
    killed: bool,
}

impl Stopping {
    /// Of what has ended already.
    fn at_once(reason: Reason) -> Self {
        Self {
            reason: StopReason::Requested(reason),
            term_at: None,
            kill_at: Instant::now(),
            killed: true,
        }
    }
}

/// A run that is over.
pub(crate) struct Over {
    pub(crate) invocation: Invocation,
    /// None if the process had waited and was on its way out when the run was handed to it: nothing of the run has been carried out.
    pub(crate) report: Option<RunReport>,
    /// Its process, if that is still to be waited for. It runs nothing any more.
    pub(crate) leaving: Option<Leaving>,
}

enum Wake {
    Exited,
    Stream(usize),
    Channel,
    Control(Option<Control>),
    Deadline,
    Resume,
}

impl SupervisedRun {
    pub(crate) fn new(
        invocation: Invocation,
        pid: Pid,
        pidfd: OwnedFd,
        ends: Ends,
        (answers, control): (mpsc::UnboundedSender<Control>, mpsc::UnboundedReceiver<Control>),
        events: mpsc::UnboundedSender<RunEvent>,
        mark: Option<EndingMark>,
    ) -> io::Result<Self> {
        let [stdout, stderr] = ends.output;
        let family = RunProcesses::new(pid, &invocation.mark(), ends.cgroup.clone());
        let mut output = Output::default();
        output.captured = invocation.capture.then(Captured::default);
        Ok(Self {
            invocation,
            pid,
            pidfd: polled(pidfd, Interest::READABLE)?,
            streams: [
                OutputStream::new("stdout", stdout)?,
                OutputStream::new("stderr", stderr)?,
            ],
            output,
            talk: ends.channel.map(ComponentChannel::new).transpose()?,
            events,
            answers: answers.downgrade(),
            control,
            started: Instant::now(),
            waited: None,
            stopping: None,
            paused_until: None,
            mark,
            family: Arc::new(Mutex::new(family)),
            cgroup: ends.cgroup,
        })
    }

    /// Of a process that waited for the run, if it did, and had used so much before.
    pub(crate) fn had_waited(self, waited: Option<Usage>) -> Self {
        Self { waited, ..self }
    }

    /// Follows the process until the run is over.
    pub(crate) async fn supervise(mut self, lingering: &Arc<Semaphore>) -> Over {
        loop {
            match self.wake().await {
                Wake::Exited => break,
                Wake::Stream(index) => {
                    self.log_stream(index);
                    // A flood is always ready: without this, its task would be the only one to make progress.
                    yield_now().await;
                    self.slow_down_flood();
                }
                Wake::Channel => {
                    self.listen();
                    if self.talk.as_ref().is_some_and(ComponentChannel::has_ended) {
                        // Its process ends, which closes one after the other. Of that the end alone is to wake anybody.
                        self.streams.iter_mut().for_each(OutputStream::hush);
                        if self.stopping.is_none() && self.runs_no_more() {
                            return self.over_before_its_process();
                        }
                    }
                    yield_now().await;
                    self.slow_down_flood();
                }
                Wake::Control(Some(Control::Notify(signal))) => match &mut self.talk {
                    Some(talk) => talk.tell(&ToAction::Cancel(Reason::Superseded)),
                    None => drop(pidfd_signal(self.pidfd.as_fd(), signal)),
                },
                // Its file is written by then: see the supervisor.
                Wake::Control(Some(Control::Renew(_))) => {}
                Wake::Control(Some(Control::Tell(answer))) => {
                    if let Some(why) = denial(&answer) {
                        self.log_denied(why);
                    }
                    if let Some(talk) = &mut self.talk {
                        talk.tell(&answer);
                    }
                }
                Wake::Control(Some(Control::Show(reply))) => {
                    // Whoever asked may have gone.
                    let _ = reply.send(self.output.written());
                }
                Wake::Control(Some(Control::Terminate(reason))) => self.stop(StopReason::Requested(reason)).await,
                Wake::Resume => self.paused_until = None,
                // The daemon has let go of this run; it goes on by itself.
                Wake::Control(None) => {}
                // Its end and its time came while this daemon was stopped, or its machine suspended. Which came first nobody knows, and it is over.
                Wake::Deadline if self.has_ended() => break,
                Wake::Deadline => match &mut self.stopping {
                    None => {
                        self.say_overdue();
                        self.stop(StopReason::Timeout).await;
                    }
                    Some(stopping) => {
                        let signal = match stopping.term_at.take() {
                            Some(_) => Signal::SIGTERM,
                            None => Signal::SIGKILL,
                        };
                        stopping.killed = signal == Signal::SIGKILL;
                        self.signal_family(signal).await;
                    }
                },
            }
        }
        if self.stopping.is_some() {
            self.end_family().await;
            if let Some(mark) = &self.mark {
                mark.set(false);
            }
        }
        let (status, usage) = wait4(self.pid);
        for index in 0..self.streams.len() {
            self.log_stream(index);
        }
        // What it said last is there after its end like its output.
        self.listen();
        if self.waited.is_some() && self.talk.as_ref().is_some_and(ComponentChannel::was_not_taken) {
            match self.told_to_end() {
                None => {
                    return Over {
                        invocation: self.invocation,
                        report: None,
                        leaving: None,
                    };
                }
                Some(reason) => self.stopping = Some(Stopping::at_once(reason)),
            }
        }
        self.let_streams_linger(lingering);
        let ended = self.talk.as_mut().and_then(ComponentChannel::take_ended);
        let (ended, timing) = ended.map_or((None, None), |(ended, timing, _)| (Some(ended), Some(timing)));
        let outcome = self.outcome(status, ended);
        if !outcome.is_success() && self.cgroup.as_ref().is_some_and(|cgroup| cgroup.ran_out_of_memory()) {
            let limit = self.invocation.process.run_limits.memory;
            warn!(watch = &*self.invocation.watch, run_id = %self.invocation.run, limit, "the kernel killed the run: it needed more memory than limits={{\"memory\": ...}} gives it");
        }
        let captured = self.output.captured.take();
        let used = self.waited.unwrap_or_default();
        let report = RunReport {
            outcome,
            captured,
            timing,
            elapsed: self.started.elapsed(),
            max_rss_kib: usage.ru_maxrss.max(0) as u64,
            cpu: (duration(usage.ru_utime) + duration(usage.ru_stime)).saturating_sub(used.cpu),
            minor_faults: (usage.ru_minflt.max(0) as u64).saturating_sub(used.minor_faults),
            output_bytes: self.output.total(),
            log_ended: self.output.is_flood(),
            output_tail: self.output.into_tail(),
        };
        Over {
            invocation: self.invocation,
            report: Some(report),
            leaving: None,
        }
    }

    /// Sees to it that the process of a component whose call has ended runs nothing any more, should it not be on its way out as it says: one
    /// that is killed executes no further instruction of its own once the signal is there, though the kernel may take as long as the whole call
    /// to take its memory apart. It has no threads and no children: the sandbox lets it make none. What is open it has closed. One that lies may
    /// still be in the midst of a system call, on what it was granted.
    fn runs_no_more(&self) -> bool {
        matches!(
            pidfd_signal(self.pidfd.as_fd(), Signal::SIGKILL),
            Ok(()) | Err(Errno::ESRCH)
        )
    }

    /// The end of a run whose process is still being taken apart. All that it wrote was written before it said that its call had ended.
    fn over_before_its_process(mut self) -> Over {
        for stream in &mut self.streams {
            stream.log_last(&mut self.output, &self.invocation);
        }
        let used = self.waited.unwrap_or_default();
        let cpu = cpu_time_of(self.pid).unwrap_or_default().saturating_sub(used.cpu);
        let ended = self.talk.as_mut().and_then(ComponentChannel::take_ended);
        let (ended, timing, held) = ended.map_or((None, None, Held::default()), |(ended, timing, held)| {
            (Some(ended), Some(timing), held)
        });
        let outcome = self.outcome(0, ended);
        let report = RunReport {
            outcome,
            captured: self.output.captured.take(),
            timing,
            elapsed: self.started.elapsed(),
            max_rss_kib: held.max_rss_kib.min(MOST_HELD),
            cpu,
            minor_faults: held.minor_faults.saturating_sub(used.minor_faults),
            output_bytes: self.output.total(),
            log_ended: self.output.is_flood(),
            output_tail: self.output.into_tail(),
        };
        let leaving = Leaving {
            pid: self.pid,
            pidfd: self.pidfd,
            run: self.invocation.run,
            watch: Arc::clone(&self.invocation.watch),
            said: held.max_rss_kib,
            _cgroup: self.cgroup,
        };
        Over {
            invocation: self.invocation,
            report: Some(report),
            leaving: Some(leaving),
        }
    }

    /// The reason, if the run is to end by what it was told last. It is told no more afterwards.
    fn told_to_end(&mut self) -> Option<Reason> {
        self.control.close();
        std::iter::from_fn(|| self.control.try_recv().ok()).find_map(|control| match control {
            Control::Terminate(reason) => Some(reason),
            _ => None,
        })
    }

    async fn wake(&mut self) -> Wake {
        let deadline = match &self.stopping {
            Some(stopping) if stopping.killed => None,
            Some(stopping) => Some(stopping.term_at.unwrap_or(stopping.kill_at)),
            None => self
                .invocation
                .process
                .timeout
                .and_then(|timeout| self.started.checked_add(timeout)),
        };
        let [stdout, stderr] = &self.streams;
        let talk = async {
            match &self.talk {
                Some(talk) => talk.ready().await,
                None => std::future::pending().await,
            }
        };
        let reading = self.paused_until.is_none();
        let connected = !self.control.is_closed() || !self.control.is_empty();
        tokio::select! {
            _ = self.pidfd.readable() => Wake::Exited,
            () = stdout.readable(), if stdout.pipe.is_some() && reading => Wake::Stream(0),
            () = stderr.readable(), if stderr.pipe.is_some() && reading => Wake::Stream(1),
            () = talk, if reading => Wake::Channel,
            () = sleep_until(self.paused_until.unwrap_or(self.started)), if !reading => Wake::Resume,
            control = self.control.recv(), if connected => Wake::Control(control),
            () = sleep_until(deadline.unwrap_or(self.started)), if deadline.is_some() => Wake::Deadline,
        }
    }

    /// Whether the process has ended, also if tokio has not been told yet.
    fn has_ended(&self) -> bool {
        let mut pidfd = [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)];
        poll(&mut pidfd, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Its time is up: tells the log which run that is and what comes next, and the daemon.
    fn say_overdue(&self) {
        let Invocation {
            run, watch, process, ..
        } = &self.invocation;
        let (timeout, kill_after) = (process.timeout.unwrap_or_default(), process.kill_after);
        let next = match &self.talk {
            Some(_) => "asking it to stop, with SIGTERM at half of kill_after and SIGKILL at its end",
            None => "sending SIGTERM, and SIGKILL after kill_after",
        };
        let (timeout_s, kill_after_s) = (timeout.as_secs_f64(), kill_after.as_secs_f64());
        warn!(watch = &**watch, run_id = %run, pid = self.pid.as_raw(), timeout = timeout_s, kill_after = kill_after_s,
            "the run is past its timeout of {timeout_s} s: {next} ({kill_after_s} s)");
        // The daemon may have let go of it.
        let run = *run;
        let _ = self.events.send(RunEvent::Overdue {
            run,
            timeout,
            kill_after,
        });
    }

    async fn stop(&mut self, reason: StopReason) {
        if self.stopping.is_some() {
            return;
        }
        if let Some(mark) = &self.mark {
            mark.set(true);
        }
        let (now, kill_after) = (Instant::now(), self.invocation.process.kill_after);
        // A component is asked; a signal would be its end.
        let term_at = self.talk.as_mut().map(|talk| {
            talk.tell(&ToAction::Cancel(reason.told()));
            now + kill_after / 2
        });
        self.stopping = Some(Stopping {
            reason,
            term_at,
            kill_at: now + kill_after,
            killed: false,
        });
        if term_at.is_none() {
            self.signal_family(Signal::SIGTERM).await;
        }
    }

    /// Output beyond what is logged is of little worth: it is read in bursts, so that the writer waits for the daemon rather than
    /// other watches for the writer.
    fn slow_down_flood(&mut self) {
        if !self.output.is_flood() {
            return;
        }
        self.paused_until = Some(Instant::now() + FLOOD_PAUSE);
        for stream in &mut self.streams {
            stream.widen();
        }
    }

    /// Signals the whole run. Those who left the group must first be found, and reading /proc takes its time.
    async fn signal_family(&self, signal: Signal) {
        let family = Arc::clone(&self.family);
        if spawn_blocking(move || lock(&family).signal(signal)).await.is_err() {
            warn!(watch = &*self.invocation.watch, run_id = %self.invocation.run, "could not signal the processes of the run");
        }
    }

    /// The main process has ended after SIGTERM; the others get the rest of their time, then SIGKILL. Until it is waited for, the
    /// main process keeps the group's id from being given away.
    async fn end_family(&mut self) {
        let Some(Stopping { kill_at, .. }) = self.stopping else {
            return;
        };
        let mut rites = LastRites::new(kill_at);
        loop {
            for index in 0..self.streams.len() {
                self.log_stream(index);
            }
            let family = Arc::clone(&self.family);
            if spawn_blocking(move || lock(&family).others()).await.unwrap_or(0) == 0 {
                return;
            }
            let now = Instant::now();
            match rites.due(now) {
                Due::Wait => {}
                // Again each time: some may have been made by one that was on its way out.
                Due::Kill => self.signal_family(Signal::SIGKILL).await,
                Due::GiveUp => {
                    warn!(watch = &*self.invocation.watch, run_id = %self.invocation.run, "processes of the run survive SIGKILL");
                    return;
                }
            }
            sleep_until(now + FAMILY_POLL).await;
        }
    }

    /// Takes in what a component says.
    fn listen(&mut self) {
        let Some(mut talk) = self.talk.take() else { return };
        talk.write();
        talk.read(|message| self.heard(message));
        if talk.is_closed() && self.stopping.is_none() {
            // It may be on its way out. If it is not, it broke the rules, and nobody will answer it.
            trace!(run_id = %self.invocation.run, "the component's channel is closed");
        }
        self.talk = Some(talk);
    }

    fn heard(&mut self, message: FromAction) {
        let question = match message {
            FromAction::Log { level, message, fields } => return self.log_record(level, &message, fields),
            FromAction::Denied(denied) => {
                let advice = match &self.invocation.task {
                    Task::Wasm(task) => denied
                        .missing(&task.action.grants)
                        .map(|missing| missing.to_allow(&task.action.component)),
                    _ => None,
                };
                let advice = advice.as_deref().unwrap_or("nothing allows it");
                return self.log_denied(&format!("{}; {advice}", denied.what()));
            }
            FromAction::Command { name, args, stdin } => ComponentQuestion::Command { name, args, stdin },
            FromAction::Znode(request) => ComponentQuestion::Znode(request),
            FromAction::CallEnd(..) | FromAction::Waits(_) => return,
        };
        let logged = match &question {
            // It is told of twice: when it starts, and when it has ended.
            ComponentQuestion::Command { name, .. } => self.may_log(name) && self.may_log(name),
            ComponentQuestion::Znode(_) => false,
        };
        // Without a daemon to ask there is no answer; the run's timeout ends it.
        let run = &self.invocation;
        if let (Some(answers), Task::Wasm(task)) = (self.answers.upgrade(), &run.task) {
            let _ = self.events.send(RunEvent::Asked {
                asker: Asker {
                    run: run.run,
                    watch: Arc::clone(&run.watch),
                    action: Arc::clone(&task.action),
                    process: Arc::clone(&run.process),
                    env: run.env.clone(),
                    logged,
                },
                question,
                answer: AnswerTo(answers),
            });
        }
    }

    /// Whether a line may be logged. Should it be the first that may not, that is said.
    fn may_log(&mut self, line: &str) -> bool {
        match self.output.log(line.as_bytes()) {
            Logging::On => true,
            Logging::EndsHere => {
                output::log_end(&self.invocation);
                false
            }
            Logging::Off => false,
        }
    }

    fn log_record(&mut self, level: Level, message: &str, fields: Vec<(String, String)>) {
        let fields: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let text = [message, &*fields.join(" ")].join(if fields.is_empty() { "" } else { " " });
        let may_log = self.may_log(&text);
        let text = output::printable(text.as_bytes());
        self.output.note_record(level_name(level), &text);
        if !may_log {
            return;
        }
        let (watch, run_id, stream) = (&*self.invocation.watch, self.invocation.run, "log");
        match level {
            Level::Trace => trace!(target: "twitcher::action", watch, %run_id, stream, "{text}"),
            Level::Debug => debug!(target: "twitcher::action", watch, %run_id, stream, "{text}"),
            Level::Info => info!(target: "twitcher::action", watch, %run_id, stream, "{text}"),
            Level::Warn => warn!(target: "twitcher::action", watch, %run_id, stream, "{text}"),
            Level::Error => error!(target: "twitcher::action", watch, %run_id, stream, "{text}"),
        }
    }

    /// Something that is not granted.
    fn log_denied(&mut self, what: &str) {
        let line = format!("denied: {what}");
        let may_log = self.may_log(&line);
        let line = output::printable(line.as_bytes());
        self.output.note_record(level_name(Level::Warn), &line);
        if may_log {
            let (watch, run_id) = (&*self.invocation.watch, self.invocation.run);
            warn!(target: "twitcher::action", watch, %run_id, stream = "sandbox", "{line}");
        }
    }

    /// How it ended: what the kernel says of the process, and what the component says of itself.
    fn outcome(&mut self, status: i32, ended: Option<CallEnd>) -> Outcome {
        if let Some(CallEnd::Failed(_, message)) = &ended {
            // Where a component trapped is worth many lines.
            for line in message.lines().skip(1) {
                log_line(line.as_bytes(), "trap", &mut self.output, &self.invocation);
                self.output.note_record("TRAP", &output::printable(line.as_bytes()));
            }
        }
        match (self.stopping.as_ref().map(|stopping| stopping.reason), outcome(status)) {
            (Some(StopReason::Timeout), _) => Outcome::TimedOut,
            (Some(StopReason::Requested(_)), _) => Outcome::Terminated,
            (None, exited @ Outcome::Exited(_)) if self.talk.is_some() => said(ended, exited),
            (None, exited) => exited,
        }
    }

    fn log_stream(&mut self, index: usize) {
        self.streams[index].log(&mut self.output, &self.invocation);
    }

    /// A process that the action left behind may still write: reading on keeps it from dying of SIGPIPE.
    fn let_streams_linger(&mut self, lingering: &Arc<Semaphore>) {
        for stream in &mut self.streams {
            if stream.pipe.is_none() {
                continue;
            }
            let Ok(permit) = lingering.clone().try_acquire_owned() else {
                warn!(watch = &*self.invocation.watch, run_id = %self.invocation.run, output = stream.name,
                    "too many runs left processes behind that hold their output open; closing this one");
                continue;
            };
            let label = Invocation {
                stdin: Bytes::new(),
                env: Vec::new(),
                ..self.invocation.clone()
            };
            tokio::spawn(stream.take().linger(label, permit));
        }
    }
}

/// A thread that panicked has left what was found as it was.
pub(crate) fn lock(family: &Mutex<RunProcesses>) -> MutexGuard<'_, RunProcesses> {
    family.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How a level is written in a run's output.
fn level_name(level: Level) -> &'static str {
    match level {
        Level::Trace => "TRACE",
        Level::Debug => "DEBUG",
        Level::Info => "INFO",
        Level::Warn => "WARN",
        Level::Error => "ERROR",
    }
}

/// Why an answer denies what was asked for.
fn denial(answer: &ToAction) -> Option<&str> {
    match answer {
        ToAction::Command(Err(CommandFailure::Denied(why))) | ToAction::Znode(Err(ZnodeFailure::Denied(why))) => {
            Some(why)
        }
        _ => None,
    }
}

/// What a component says of its end, if it had one of its own.
fn said(ended: Option<CallEnd>, exited: Outcome) -> Outcome {
    match ended {
        Some(CallEnd::Success) => exited,
        Some(CallEnd::Code(code)) => Outcome::Exited(i32::from(code)),
        Some(CallEnd::Failed(failure, message)) => Outcome::Failed {
            failure,
            message: output::printable(message.lines().next().unwrap_or_default().as_bytes()),
        },
        Some(CallEnd::NotCalled { step, errno }) => Outcome::LaunchFailed { step, errno },
        // Not even a success is one if nobody says so.
        None => Outcome::Failed {
            failure: ComponentFailure::Trap,
            message: "its process ended without a word".to_owned(),
        },
    }
}

fn outcome(status: i32) -> Outcome {
    if libc::WIFSIGNALED(status) {
        return Outcome::Signaled {
            signal: libc::WTERMSIG(status),
            core: libc::WCOREDUMP(status),
        };
    }
    Outcome::Exited(libc::WEXITSTATUS(status))
}

/// Waits for a process that has ended.
pub(crate) fn wait4(pid: Pid) -> (i32, libc::rusage) {
    let mut status = 0;
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: both pointers are to live variables of the right types; an rusage of zeros is valid should the call not fill it.
    #[allow(unsafe_code)]
    let usage = unsafe {
        while libc::wait4(pid.as_raw(), &mut status, 0, usage.as_mut_ptr()) == -1 && Errno::last() == Errno::EINTR {}
        usage.assume_init()
    };
    (status, usage)
}

fn duration(time: libc::timeval) -> Duration {
    Duration::from_secs(time.tv_sec.max(0) as u64) + Duration::from_micros(time.tv_usec.max(0) as u64)
}

#[cfg(test)]
mod tests;
