//! The daemon's side of launching: what it can ask for, and what it is told.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::daemon_side::invocation::{AnswerTo, Asker, ComponentQuestion, Control, Invocation, RunReport};
use crate::daemon_side::launcher_process::{Launcher, LauncherLink};
use crate::daemon_side::native_code::NativeCode;
use crate::daemon_side::supervisor::Supervisor;
use crate::daemon_side::warm_pool::{WarmFigures, WarmPool, WarmSpec};
use twitcher_model::{Outcome, RunId};
use twitcher_sandbox::code_cache::CodeCache;

/// Why the launcher cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// A system call failed.
    #[error("cannot start the launcher: {step}: {source}")]
    Start {
        /// What was attempted.
        step: &'static str,
        /// The error of the system call.
        source: io::Error,
    },
}

/// What happens to runs.
#[derive(Debug)]
pub enum RunEvent {
    /// The process of a run exists.
    Started {
        /// The run.
        run: RunId,
        /// Its process id.
        pid: i32,
    },
    /// A component asks for something, and waits for the answer.
    Asked {
        /// Who asks.
        asker: Asker,
        /// What it asks for; untrusted.
        question: ComponentQuestion,
        /// To be given exactly once.
        answer: AnswerTo,
    },
    /// The time of a run is up: it is being ended.
    Overdue {
        /// The run.
        run: RunId,
        /// How long it might have run.
        timeout: Duration,
        /// How long after this SIGKILL follows.
        kill_after: Duration,
    },
    /// A run was given newer data and a signal ([`Control::Renew`]), or could not be, and why.
    Told {
        /// The run.
        run: RunId,
        /// What became of writing its data file, if that failed.
        failed: Option<Outcome>,
    },
    /// A run has ended: its process has been waited for, or could not be started; or it was a component's, which runs nothing any more.
    Ended {
        /// The run.
        run: RunId,
        /// How it ended, and what it used.
        report: RunReport,
    },
    /// The launcher died and another took its place. Runs are not affected.
    LauncherReplaced {
        /// Its process id.
        pid: u32,
    },
}

/// Starts and stops runs. Dropping it lets the runs go on and ends the launcher.
#[derive(Debug)]
pub struct Launches {
    commands: mpsc::UnboundedSender<Command>,
    warm: Arc<WarmFigures>,
}

/// What the service is asked for.
#[derive(Debug)]
pub(crate) enum Command {
    Launch(Invocation),
    Control(RunId, Control),
    KeepWarm(u64),
    Reloaded(Vec<WarmSpec>),
}

impl Launches {
    /// Takes a launcher into service, on the current tokio runtime. At most `max_running` runs have a process at once. Native code that is
    /// damaged or gone when a run needs it is made again by `code`.
    pub fn start(
        launcher: Launcher,
        max_running: usize,
        code: Option<Arc<CodeCache>>,
    ) -> Result<(Self, mpsc::UnboundedReceiver<RunEvent>), LaunchError> {
        let at = |step| move |source: io::Error| LaunchError::Start { step, source };
        let (commands, commands_end) = mpsc::unbounded_channel();
        let (events, events_end) = mpsc::unbounded_channel();
        #[allow(clippy::disallowed_methods, reason = "no disk is asked, and it is before the start")]
        let null = std::fs::File::open("/dev/null").map_err(at("open /dev/null"))?.into();
        let link = LauncherLink::new(launcher).map_err(at("watch the launcher"))?;
        let warm = Arc::<WarmFigures>::default();
        let pool = WarmPool::new(Arc::clone(&warm));
        let code = NativeCode::new(code);
        let service = Supervisor::new(link, null, commands_end, events, max_running, code, pool);
        let children = signal(SignalKind::child()).map_err(at("listen for SIGCHLD"))?;
        tokio::spawn(service.serve(children));
        Ok((Self { commands, warm }, events_end))
    }

    /// Starts a run. It is answered by [`RunEvent::Started`] and [`RunEvent::Ended`], or by the latter alone.
    pub fn launch(&self, invocation: Invocation) {
        // The service ends only with the runtime.
        let _ = self.commands.send(Command::Launch(invocation));
    }

    /// From now on processes of components may wait for their next runs, as long as they have no more memory to themselves than this, in bytes.
    /// With 0, which is the start, there are none.
    pub fn keep_warm(&self, bytes: u64) {
        let _ = self.commands.send(Command::KeepWarm(bytes));
    }

    /// The configuration was loaded: these are its components. Processes that wait are those of before, and end.
    pub fn reloaded(&self, components: Vec<WarmSpec>) {
        let _ = self.commands.send(Command::Reloaded(components));
    }

    /// What is told of the processes that wait.
    pub fn warm(&self) -> Arc<WarmFigures> {
        Arc::clone(&self.warm)
    }

    /// Does something to a run. Without effect on one that has ended.
    pub fn control(&self, run: RunId, control: Control) {
        let _ = self.commands.send(Command::Control(run, control));
    }
}
