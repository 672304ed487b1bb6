//! Data files: written before a run starts and before it is told of newer data, each by a process with the rights of the watch's user.
//!
//! Of one file nothing is written before what was to be written earlier is done, so that what is in it in the end is the newest. It must not
//! know how a process is started.

use std::collections::{HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nix::sys::signal::Signal;

use crate::daemon_side::invocation::{Invocation, Renewal};
use crate::daemon_side::secrets::SecretValues;
use crate::protocol::Task;
use twitcher_model::{Outcome, ProcessSettings, RunId};

/// How long a file may take to be written.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is done once a file is written.
#[derive(Debug)]
pub(crate) enum Then {
    /// The run starts.
    Start(Box<Invocation>),
    /// The run has been terminated meanwhile.
    Forgo(RunId),
    /// The run gets a signal.
    Signal(RunId, Signal),
}

/// A file that is to be written.
#[derive(Debug)]
pub(crate) struct FileWrite {
    /// Who writes it.
    writer: Invocation,
    then: Then,
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct DataFiles {
    /// The first of each is being written.
    waiting: HashMap<Arc<Path>, VecDeque<FileWrite>>,
}

impl DataFiles {
    /// Takes a run that has a data file; gives back all others.
    pub(crate) fn for_start(invocation: Invocation) -> Result<(Arc<Path>, FileWrite), Invocation> {
        let Some(path) = invocation.process.data_file.clone() else {
            return Err(invocation);
        };
        let writer = writer(
            &invocation.watch,
            invocation.run,
            &invocation.process,
            &path,
            invocation.stdin.clone(),
        );
        let then = Then::Start(Box::new(invocation));
        Ok((path, FileWrite { writer, then }))
    }

    /// What is to be written for a run that goes on; none if it has no data file.
    pub(crate) fn for_renewal(run: RunId, renewal: Renewal) -> Option<(Arc<Path>, FileWrite)> {
        let Renewal {
            watch,
            process,
            data,
            signal,
        } = renewal;
        let path = process.data_file.clone()?;
        let writer = writer(&watch, run, &process, &path, data);
        let then = Then::Signal(run, signal);
        Some((path, FileWrite { writer, then }))
    }

    /// Has a file written when it is its turn. Gives who writes it if that is now.
    pub(crate) fn add(&mut self, path: Arc<Path>, write: FileWrite) -> Option<Invocation> {
        let waiting = self.waiting.entry(path).or_default();
        let is_first = waiting.is_empty();
        let writer = is_first.then(|| write.writer.clone());
        waiting.push_back(write);
        writer
    }

    /// Whoever wrote a file has ended. Gives what is to be done then, and who writes next.
    pub(crate) fn written(&mut self, path: &Arc<Path>) -> (Option<Then>, Option<Invocation>) {
        let Some(waiting) = self.waiting.get_mut(path) else {
            return (None, None);
        };
        let done = waiting.pop_front().map(|write| write.then);
        let next = waiting.front().map(|write| write.writer.clone());
        if next.is_none() {
            self.waiting.remove(path);
        }
        (done, next)
    }

    /// Does not start a run once its file is written. Whether it was to start.
    pub(crate) fn forgo(&mut self, run: RunId) -> bool {
        let mut writes = self.waiting.values_mut().flatten();
        let starts = writes.find(|write| matches!(&write.then, Then::Start(invocation) if invocation.run == run));
        starts.map(|write| write.then = Then::Forgo(run)).is_some()
    }
}

fn writer(watch: &Arc<str>, run: RunId, of: &ProcessSettings, path: &Arc<Path>, data: Bytes) -> Invocation {
    let process = ProcessSettings {
        identity: of.identity.clone(),
        umask: of.umask,
        timeout: Some(PATIENCE),
        ..ProcessSettings::default()
    };
    Invocation {
        run,
        watch: Arc::clone(watch),
        task: Task::Write(Arc::clone(path)),
        env: Vec::new(),
        process: Arc::new(process),
        stdin: data,
        version: None,
        secrets: SecretValues::default(),
        capture: false,
    }
}

/// Why a file could not be written, in place of how its writer ended; none if it was.
pub(crate) fn failure(path: &Path, writer: Outcome) -> Option<Outcome> {
    let step = format!("write the data file {}", path.display());
    match writer {
        Outcome::Exited(0) => None,
        Outcome::Exited(errno) => Some(Outcome::LaunchFailed { step, errno }),
        // It could not be set up.
        Outcome::LaunchFailed { step: why, errno } => Some(Outcome::LaunchFailed {
            step: format!("{step}: cannot {why}"),
            errno,
        }),
        other => Some(Outcome::LaunchFailed {
            step: format!("{step} ({other})"),
            errno: libc::EIO,
        }),
    }
}
