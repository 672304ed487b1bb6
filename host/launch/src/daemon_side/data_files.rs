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
use crate::journal::Purpose;
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
    /// What is to be written for a run before it starts.
    pub(crate) fn for_start(path: &Arc<Path>, invocation: Invocation) -> FileWrite {
        let writer = writer(
            &invocation.watch,
            invocation.run,
            &invocation.process,
            path,
            invocation.stdin.clone(),
        );
        let then = Then::Start(Box::new(invocation));
        FileWrite { writer, then }
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
        purpose: Purpose::default(),
        secrets: SecretValues::default(),
        capture: false,
        aside: false,
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

#[cfg(test)]
mod tests {
    use super::*;

    fn write(files: &mut DataFiles, run: u64, path: &str) -> Option<RunId> {
        let path: Arc<Path> = Path::new(path).into();
        let process = ProcessSettings::default();
        let invocation = writer(&"w".into(), RunId(run), &process, &path, Bytes::new());
        let write = DataFiles::for_start(&path, invocation);
        files.add(path, write).map(|writer| writer.run)
    }

    fn written(files: &mut DataFiles, path: &str) -> (String, Option<RunId>) {
        let (then, next) = files.written(&Path::new(path).into());
        let then = match then {
            Some(Then::Start(invocation)) => format!("start {}", invocation.run.0),
            Some(Then::Forgo(run)) => format!("forgo {}", run.0),
            Some(Then::Signal(run, _)) => format!("signal {}", run.0),
            None => "nothing".to_owned(),
        };
        (then, next.map(|writer| writer.run))
    }

    #[test]
    fn of_one_file_one_is_written_after_the_other() {
        let mut files = DataFiles::default();
        assert_eq!(write(&mut files, 1, "/a"), Some(RunId(1)));
        assert_eq!(write(&mut files, 2, "/a"), None);
        assert_eq!(write(&mut files, 3, "/b"), Some(RunId(3)));
        assert_eq!(write(&mut files, 4, "/a"), None);
        assert!(files.forgo(RunId(1)) && !files.forgo(RunId(1)) && !files.forgo(RunId(9)));
        assert_eq!(written(&mut files, "/a"), ("forgo 1".to_owned(), Some(RunId(2))));
        assert_eq!(written(&mut files, "/a"), ("start 2".to_owned(), Some(RunId(4))));
        assert_eq!(written(&mut files, "/b"), ("start 3".to_owned(), None));
        assert_eq!(written(&mut files, "/a"), ("start 4".to_owned(), None));
        assert_eq!(written(&mut files, "/a"), ("nothing".to_owned(), None));
        assert_eq!(write(&mut files, 5, "/a"), Some(RunId(5)));
    }

    #[test]
    fn how_a_writer_ends_is_told_in_words() {
        let said = |outcome| failure(Path::new("/run/x"), outcome).map(|failed| failed.to_string());
        assert_eq!(said(Outcome::Exited(0)), None);
        let words = |outcome| said(outcome).unwrap();
        assert_eq!(
            words(Outcome::Exited(28)),
            "cannot write the data file /run/x: No space left on device (os error 28)"
        );
        let failed = Outcome::LaunchFailed {
            step: "change to user x (uid 7)".to_owned(),
            errno: 1,
        };
        assert_eq!(
            words(failed),
            "cannot write the data file /run/x: cannot change to user x (uid 7): Operation not permitted (os error 1)"
        );
        assert!(words(Outcome::TimedOut).starts_with("cannot write the data file /run/x (timed out)"));
    }
}
