//! Reading the history: from any thread or process, while the daemon writes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rusqlite::{Connection, OptionalExtension, Params, Row};

use super::database::{FILE, read_only};
use super::memory::SharedMemory;
use super::rows::time;
use twitcher_model::RunId;

/// Why the history cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the history in {}: {source}", path.display())]
pub struct HistoryError {
    path: PathBuf,
    source: rusqlite::Error,
}

/// The runs that have ended, as far as they are kept. Each question opens the database anew: it may have been moved aside since.
#[derive(Debug, Clone)]
pub struct History {
    path: PathBuf,
    /// What this daemon has not written yet, if it is the one that asks.
    shared: Option<Arc<SharedMemory>>,
}

/// A run that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunRecord {
    /// The run.
    pub run: RunId,
    /// Name of its watch.
    pub watch: String,
    /// Why it ran, as in `TWITCHER_EVENT`; none if nobody knows any more.
    pub event: Option<String>,
    /// Counted from 1.
    pub attempt: u32,
    /// How it ended, in one word: `success`, `exited`, `signaled`, `timed_out`, `terminated`, `failed`, `launch_failed`, or `unknown` if
    /// its daemon was killed before.
    pub outcome: String,
    /// The same in words.
    pub words: String,
    /// Its exit code, if it had one.
    pub exit_code: Option<i32>,
    /// The signal that it died of, if it did.
    pub signal: Option<i32>,
    /// When it started.
    pub started: SystemTime,
    /// When it had ended.
    pub ended: SystemTime,
    /// How long it ran.
    pub elapsed: Duration,
    /// Its largest resident set, in KiB.
    pub max_rss_kib: u64,
    /// How much it wrote, in bytes.
    pub output_bytes: u64,
    /// Whether it wrote more than the log takes of a run.
    pub log_ended: bool,
}

/// A selection of runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunQuery {
    /// Only those of this watch.
    pub watch: Option<String>,
    /// Only those that ended so, in the word of [`RunRecord::outcome`].
    pub outcome: Option<String>,
    /// Only older ones than this.
    pub before: Option<RunId>,
    /// Most of them.
    pub limit: u32,
}

/// How long [`History::catch_up`] waits.
const CATCH_UP: Duration = Duration::from_millis(500);

const COLUMNS: &str =
    "SELECT run, watch, event, attempt, outcome, words, exit_code, signal, started_at, ended_at, duration_us,
  max_rss_kib, output_bytes, log_ended FROM run";

impl History {
    /// Of a state directory.
    pub fn in_dir(dir: &Path) -> Self {
        Self {
            path: dir.join(FILE),
            shared: None,
        }
    }

    pub(super) fn of_this(dir: &Path, shared: &Arc<SharedMemory>) -> Self {
        Self {
            shared: Some(Arc::clone(shared)),
            ..Self::in_dir(dir)
        }
    }

    /// Waits until everything that has ended so far is written, or for half a second at most. Only in the daemon itself; elsewhere there is
    /// nothing to wait for.
    pub fn catch_up(&self) {
        if let Some(shared) = &self.shared {
            shared.wait_written(CATCH_UP);
        }
    }

    /// Some runs, the newest first.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub fn find(&self, query: &RunQuery) -> Result<Vec<RunRecord>, HistoryError> {
        let before = query.before.map_or(i64::MAX, |before| before.0.cast_signed());
        let which =
            "WHERE (?1 IS NULL OR watch = ?1) AND (?2 IS NULL OR outcome = ?2) AND run < ?3 ORDER BY run DESC LIMIT ?4";
        let of_watch = "WHERE watch = ?1 AND (?2 IS NULL OR outcome = ?2) AND run < ?3 ORDER BY run DESC LIMIT ?4";
        // Said apart, so that each is answered from an index.
        let which = if query.watch.is_some() { of_watch } else { which };
        self.ask(|connection| list(connection, which, (&query.watch, &query.outcome, before, query.limit)))
    }

    /// The newest `most` runs of all watches, the newest first.
    pub fn newest(&self, most: u32) -> Result<Vec<RunRecord>, HistoryError> {
        self.ask(|connection| list(connection, "ORDER BY run DESC LIMIT ?", [most]))
    }

    /// The newest `most` runs of a watch, the newest first.
    pub fn of_watch(&self, watch: &str, most: u32) -> Result<Vec<RunRecord>, HistoryError> {
        self.ask(|connection| list(connection, "WHERE watch = ? ORDER BY run DESC LIMIT ?", (watch, most)))
    }

    /// One run.
    pub fn run(&self, run: RunId) -> Result<Option<RunRecord>, HistoryError> {
        let found = self.ask(|connection| list(connection, "WHERE run = ?", [run.0.cast_signed()]))?;
        Ok(found.into_iter().next())
    }

    /// The last 64 KiB of what a run wrote; empty if it wrote nothing or is not known.
    pub fn output(&self, run: RunId) -> Result<Vec<u8>, HistoryError> {
        let output = self.ask(|connection| {
            let tail = "SELECT tail FROM output WHERE run = ?";
            connection
                .query_row(tail, [run.0.cast_signed()], |row| row.get(0))
                .optional()
        })?;
        Ok(output.unwrap_or_default())
    }

    fn ask<T>(&self, question: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, HistoryError> {
        let answer = read_only(&self.path).and_then(|connection| question(&connection));
        answer.map_err(|source| HistoryError {
            path: self.path.clone(),
            source,
        })
    }
}

fn list(connection: &Connection, which: &str, values: impl Params) -> rusqlite::Result<Vec<RunRecord>> {
    let mut statement = connection.prepare(&format!("{COLUMNS} {which}"))?;
    statement.query_map(values, record)?.collect()
}

fn record(row: &Row<'_>) -> rusqlite::Result<RunRecord> {
    Ok(RunRecord {
        run: RunId(row.get::<_, i64>(0)?.cast_unsigned()),
        watch: row.get(1)?,
        event: row.get(2)?,
        attempt: row.get(3)?,
        outcome: row.get(4)?,
        words: row.get(5)?,
        exit_code: row.get(6)?,
        signal: row.get(7)?,
        started: time(row.get(8)?),
        ended: time(row.get(9)?),
        elapsed: Duration::from_micros(row.get::<_, i64>(10)?.cast_unsigned()),
        max_rss_kib: row.get::<_, i64>(11)?.cast_unsigned(),
        output_bytes: row.get::<_, i64>(12)?.cast_unsigned(),
        log_ended: row.get(13)?,
    })
}
