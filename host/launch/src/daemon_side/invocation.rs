//! What is run, what can be done to it meanwhile, and what is told of it afterwards.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nix::sys::signal::Signal;
use tokio::sync::{mpsc, oneshot};

use crate::daemon_side::secrets::SecretValues;
use crate::journal::Purpose;
use crate::protocol::Task;
use twitcher_model::{Outcome, ProcessSettings, RunId, WasmAction};
use twitcher_process::RunMark;
use twitcher_sandbox::channel::{Reason, Timing, ToAction, ZnodeRequest};

/// What to run.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Identifies the run.
    pub run: RunId,
    /// Name of the watch, for the log.
    pub watch: Arc<str>,
    /// The program or function.
    pub task: Task,
    /// The whole environment; `TWITCHER_RUN_ID` is added.
    pub env: Vec<(String, String)>,
    /// How the process is set up and how long it may take.
    pub process: Arc<ProcessSettings>,
    /// What the action gets on stdin, unless its settings say otherwise.
    pub stdin: Bytes,
    /// What it is for. The next daemon is told, should it find the run.
    pub purpose: Purpose,
    /// What the secrets of its settings and grants are, read by [`super::queue::Launches`] and gone once the run has started.
    pub secrets: SecretValues,
    /// Whether the report is to have its output, up to [`CAPTURED`] bytes a stream; it is not logged then.
    pub capture: bool,
    /// Whether it is no run of the watch's action, though it belongs to the watch: the next daemon ends it, should it find it.
    pub aside: bool,
}

impl Invocation {
    /// Whether it only writes the data file of the run.
    pub(crate) fn is_writer(&self) -> bool {
        matches!(self.task, Task::Write(_))
    }

    /// By what its processes are known. Who writes for a run is none of the run's: the two may be there at once, and are ended by themselves.
    pub(crate) fn mark(&self) -> RunMark {
        match self.is_writer() {
            true => RunMark::of_helper(format!("{}-data-file", self.run), self.run.0),
            false => RunMark::of_run(self.run.to_string(), self.run.0),
        }
    }
}

/// Most of a captured stream, in bytes.
pub const CAPTURED: usize = 1 << 20;

/// What a captured run wrote.
#[derive(Debug, Clone, Default)]
pub struct Captured {
    /// To stdout.
    pub stdout: Vec<u8>,
    /// To stderr.
    pub stderr: Vec<u8>,
    /// Whether there was more.
    pub truncated: bool,
}

impl Captured {
    pub(crate) fn push(&mut self, stream: &str, bytes: &[u8]) {
        let kept = if stream == "stdout" {
            &mut self.stdout
        } else {
            &mut self.stderr
        };
        let room = CAPTURED - kept.len();
        self.truncated |= bytes.len() > room;
        kept.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// What can be done to a run.
#[derive(Debug)]
pub enum Control {
    /// Sends a signal to the main process. A component is told that it is superseded instead.
    Notify(Signal),
    /// Puts data into a file, if there is one, and then sends a signal, as [`Control::Notify`]; answered by
    /// [`super::queue::RunEvent::Told`]. Where the file cannot be written there is no signal either.
    Renew(Box<Renewal>),
    /// Tells a component something.
    Tell(ToAction),
    /// SIGTERM to the process group, SIGKILL after the settings' `kill_after`. A component is asked first: SIGTERM comes after half of
    /// that time, and interrupts it.
    Terminate(Reason),
    /// Asks for the last 64 KiB of what it has written, and how much that is in all, in bytes.
    Show(oneshot::Sender<Written>),
}

/// Newer data for a run that goes on.
#[derive(Debug)]
pub struct Renewal {
    /// Name of the watch, for the log.
    pub watch: Arc<str>,
    /// How the run's process was set up.
    pub process: Arc<ProcessSettings>,
    /// What goes into its data file.
    pub data: Bytes,
    /// What it is told by.
    pub signal: Signal,
}

/// What a run has written so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The last 64 KiB of it.
    pub tail: Vec<u8>,
    /// How much there was in all, in bytes.
    pub total: usize,
    /// Whether it was more than the log takes of a run.
    pub log_ended: bool,
}

/// What a component asks the daemon for.
#[derive(Debug)]
pub enum ComponentQuestion {
    /// To run a command.
    Command {
        /// As the operator named it.
        name: String,
        /// Its own arguments.
        args: Vec<String>,
        /// What the command reads.
        stdin: Vec<u8>,
    },
    /// To use a znode.
    Znode(ZnodeRequest),
}

/// Who asks: a run of a component, with what the daemon launched it with.
#[derive(Debug)]
pub struct Asker {
    /// The run.
    pub run: RunId,
    /// Name of its watch.
    pub watch: Arc<str>,
    /// Its component and grants.
    pub action: Arc<WasmAction>,
    /// How its process was set up.
    pub process: Arc<ProcessSettings>,
    /// The environment that a command gets.
    pub env: Vec<(String, String)>,
    /// Whether the log is to tell of a command: that counts as output of the run, of which there may be too much.
    pub logged: bool,
}

/// The way back for an answer to a [`ComponentQuestion`]. Without effect once the run has ended.
#[derive(Debug, Clone)]
pub struct AnswerTo(pub(crate) mpsc::UnboundedSender<Control>);

impl AnswerTo {
    /// Gives it.
    pub fn give(self, answer: ToAction) {
        let _ = self.0.send(Control::Tell(answer));
    }
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct RunReport {
    /// The outcome.
    pub outcome: Outcome,
    /// From the process's first instant until it was waited for; of a component, until its call had ended.
    pub elapsed: Duration,
    /// Largest resident set of the process or a child it waited for, in KiB; of a component as its process said itself, and where the kernel says
    /// otherwise in the end the log tells.
    pub max_rss_kib: u64,
    /// User and system time of the process and the children it waited for; of a component, until its call had ended, as are its page faults.
    pub cpu: Duration,
    /// Page faults served without I/O, of the process and the children it waited for.
    pub minor_faults: u64,
    /// The last 64 KiB of what it wrote to stdout and stderr, and of what a component logged.
    pub output_tail: Vec<u8>,
    /// How much it wrote, in bytes.
    pub output_bytes: usize,
    /// Whether that was more than the log takes of a run.
    pub log_ended: bool,
    /// What it wrote, if that was asked for.
    pub captured: Option<Captured>,
    /// What it took by its own account, if it was a component that got so far.
    pub timing: Option<Timing>,
}

impl RunReport {
    /// Of a run that never had a process.
    pub fn of(outcome: Outcome) -> Self {
        Self {
            outcome,
            elapsed: Duration::ZERO,
            max_rss_kib: 0,
            cpu: Duration::ZERO,
            minor_faults: 0,
            output_tail: Vec::new(),
            output_bytes: 0,
            log_ended: false,
            captured: None,
            timing: None,
        }
    }
}
