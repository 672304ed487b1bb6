//! What outlives the daemon: which actions run, so that the next daemon finds those that were running when this one was killed.
//!
//! A file for each run, named by its id. It is written when the run's process is known and removed when the run has ended; there is no
//! fsync, because after a crash of the machine no action runs. Losing the state never stops the daemon: it says so and goes on.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use crate::launch::ProcessName;
use crate::model::RunId;

/// Larger than any record; a longer file is not ours.
const MAX_RECORD: u64 = 64 * 1024;

/// A run as it is remembered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Name of the watch.
    pub watch: String,
    /// Id of the run, as in its environment.
    pub run: String,
    /// Its main process.
    pub process: ProcessName,
}

/// Why runs cannot be remembered.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The directory cannot be used.
    #[error("cannot use the state directory {}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another daemon uses it.
    #[error("another daemon uses the state directory {}", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// A record cannot be written.
    #[error("cannot remember run {run}: {source}")]
    Record {
        /// The run.
        run: RunId,
        /// Why.
        source: io::Error,
    },
}

/// The runs that are remembered.
#[derive(Debug)]
pub struct Runs {
    dir: PathBuf,
    _lock: Flock<File>,
}

impl Runs {
    /// Opens `STATE_DIR/running`, making it if need be (mode 0700), and locks it. Gives the runs of the last daemon that still exist and
    /// forgets the others.
    pub fn open(state_dir: &Path) -> Result<(Self, Vec<Record>), StateError> {
        let dir = state_dir.join("running");
        let at = |source| StateError::Directory {
            path: dir.clone(),
            source,
        };
        DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(at)?;
        let handle = File::open(&dir).map_err(at)?;
        let lock = Flock::lock(handle, FlockArg::LockExclusiveNonblock);
        let lock = lock.map_err(|(_, _)| StateError::InUse {
            path: state_dir.to_owned(),
        })?;
        let mut records = Vec::new();
        for entry in fs::read_dir(&dir).map_err(at)?.flatten() {
            match read(&entry.path()).filter(|record| record.process.exists()) {
                Some(record) => records.push(record),
                // Best effort: what cannot be removed is looked at again next time.
                None => drop(fs::remove_file(entry.path())),
            }
        }
        Ok((Self { dir, _lock: lock }, records))
    }

    /// Remembers a run whose process has just started.
    pub fn started(&self, run: RunId, watch: &str, pid: i32) -> Result<(), StateError> {
        let at = |source| StateError::Record { run, source };
        // A process that is gone already need not be found.
        let Ok(process) = ProcessName::of(pid) else {
            return Ok(());
        };
        let record = Record {
            watch: watch.to_owned(),
            run: run.to_string(),
            process,
        };
        let bytes = serde_json::to_vec(&record).map_err(|error| at(error.into()))?;
        fs::write(self.dir.join(&record.run), bytes).map_err(at)
    }

    /// Forgets a run that has ended.
    pub fn ended(&self, run: &str) {
        // Perhaps it was never remembered.
        let _ = fs::remove_file(self.dir.join(run));
    }
}

fn read(path: &Path) -> Option<Record> {
    if fs::symlink_metadata(path).ok()?.len() > MAX_RECORD {
        return None;
    }
    let record: Record = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
    (path.file_name()?.to_str()? == record.run).then_some(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_daemon_finds_what_still_runs_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let (runs, found) = Runs::open(dir.path()).unwrap();
        assert_eq!(found, []);
        runs.started(RunId(1), "a", std::process::id() as i32).unwrap();
        runs.started(RunId(2), "ended", std::process::id() as i32).unwrap();
        runs.ended(&RunId(2).to_string());
        fs::write(dir.path().join("running/garbage"), "not a record").unwrap();
        assert!(matches!(Runs::open(dir.path()), Err(StateError::InUse { .. })));
        drop(runs);
        let (_, found) = Runs::open(dir.path()).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].watch.as_str(), found[0].process.pid()),
            ("a", std::process::id() as i32)
        );
        assert!(!dir.path().join("running/garbage").exists());
    }
}
