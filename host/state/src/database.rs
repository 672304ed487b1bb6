//! The database: opening it, whatever state it is in, and writing batches to it. One thread has it.

use std::collections::{BTreeMap, HashMap};
use std::fs::{DirBuilder, OpenOptions};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::memory::Batch;
use super::{FormerRun, HistoryLimits, StartedRun, WatchNames, WatchRecord, rows, tables};
use twitcher_model::RunId;

/// Name of the database in the state directory.
pub(super) const FILE: &str = "state.db";
/// How long another process that reads or writes it is waited for.
const BUSY: Duration = Duration::from_secs(2);
/// Most runs that are forgotten in one go, so that no batch takes long.
const MOST_FORGOTTEN: u64 = 4096;
/// Largest database that is looked over as a whole, in bytes.
const MOST_CHECKED: u64 = 64 << 20;

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum DatabaseError {
    /// What it says makes no sense.
    #[error("{} is damaged: {why}", path.display())]
    Damaged { path: PathBuf, why: String },
    /// It was made by a newer version of Twitcher.
    #[error("{} has version {found}, which is newer than this program's {}", path.display(), tables::STEPS.len())]
    Newer { path: PathBuf, found: usize },
    /// It was removed or replaced.
    #[error("{} was removed or replaced", path.display())]
    Replaced { path: PathBuf },
    /// The directory or the file cannot be used.
    #[error("cannot use {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    /// SQLite cannot do what it is asked for: the disk is full, the file read-only, locked by others ...
    #[error("cannot use {}: {source}", path.display())]
    Sqlite { path: PathBuf, source: rusqlite::Error },
}

/// What a database has for a daemon that starts.
#[derive(Debug, Default)]
pub(super) struct Stored {
    pub(super) watches: HashMap<Arc<str>, WatchRecord>,
    pub(super) names: BTreeMap<PathBuf, WatchNames>,
    pub(super) running: Vec<StartedRun>,
    pub(super) newest: Option<RunId>,
    /// The last run of each watch that has one in the history.
    pub(super) former: HashMap<Arc<str>, FormerRun>,
}

/// An open database.
#[derive(Debug)]
pub(super) struct Database {
    connection: Connection,
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
    limits: HistoryLimits,
    /// How much history there is; counted before the first batch.
    kept: Option<Kept>,
}

#[derive(Debug, Default)]
struct Kept {
    runs: u64,
    bytes: u64,
    of: HashMap<String, u64>,
}

impl Database {
    /// Opens `DIR/state.db`, making it if need be (mode 0600), and brings it to this version.
    pub(super) fn open(dir: &Path, limits: HistoryLimits) -> Result<(Self, Stored), DatabaseError> {
        let path = dir.join(FILE);
        let io = |source| DatabaseError::Io {
            path: path.clone(),
            source,
        };
        let sqlite = |error| classify(&path, error);
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(io)?;
        // Made here for its mode, which SQLite gives to the files beside it, too: output of actions may be secret.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(io)?;
        let metadata = file.metadata().map_err(io)?;
        drop(file);
        if metadata.len() > 0 {
            // To open it for writing may change it already.
            let found = read_only(&path)
                .and_then(|connection| tables::version(&connection))
                .map_err(sqlite)?;
            if found > tables::STEPS.len() {
                return Err(DatabaseError::Newer { path, found });
            }
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connect = || {
            let mut connection = Connection::open_with_flags(&path, flags)?;
            connection.busy_timeout(BUSY)?;
            // Of the last moments before a crash of the machine something may be lost, but nothing torn.
            connection.pragma_update(None, "journal_mode", "wal")?;
            connection.pragma_update(None, "synchronous", "normal")?;
            connection.pragma_update(None, "cache_size", -1024)?;
            tables::migrate(&mut connection, &tables::STEPS)?;
            let stored = read(&connection)?;
            Ok((connection, stored))
        };
        let (connection, stored) = connect().map_err(sqlite)?;
        let database = Self {
            connection,
            path,
            identity: (metadata.dev(), metadata.ino()),
            limits,
            kept: None,
        };
        Ok((database, stored))
    }

    /// Looks the whole of it over, if that does not take long. What `open` does not read may be damaged, too.
    pub(super) fn check(&self) -> Result<(), DatabaseError> {
        let damaged = |why: String| DatabaseError::Damaged {
            path: self.path.clone(),
            why,
        };
        let metadata = std::fs::metadata(&self.path).map_err(|source| DatabaseError::Io {
            path: self.path.clone(),
            source,
        })?;
        if metadata.len() > MOST_CHECKED {
            return Ok(());
        }
        let said = self
            .connection
            .pragma_query_value(None, "quick_check", |row| row.get::<_, String>(0));
        match said.map_err(|error| classify(&self.path, error))? {
            said if said == "ok" => Ok(()),
            said => Err(damaged(said)),
        }
    }

    /// Writes a batch, all of it or nothing, and forgets old history.
    pub(super) fn write(&mut self, batch: &Batch) -> Result<(), DatabaseError> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) if (metadata.dev(), metadata.ino()) == self.identity => {}
            _ => {
                return Err(DatabaseError::Replaced {
                    path: self.path.clone(),
                });
            }
        }
        self.try_write(batch).map_err(|error| {
            // Whatever was counted may be wrong now.
            self.kept = None;
            classify(&self.path, error)
        })
    }

    fn try_write(&mut self, batch: &Batch) -> rusqlite::Result<()> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        if batch.anew {
            transaction.execute("DELETE FROM running", [])?;
            transaction.execute("DELETE FROM watch", [])?;
            transaction.execute("DELETE FROM file", [])?;
        }
        {
            let mut put = transaction.prepare_cached(rows::PUT_WATCH)?;
            for (name, known) in &batch.watches {
                rows::put_watch(&mut put, name, known)?;
            }
            let mut delete = transaction.prepare_cached("DELETE FROM watch WHERE name = ?")?;
            for name in &batch.forgotten {
                delete.execute([name])?;
            }
            let mut put = transaction.prepare_cached(rows::PUT_NAMES)?;
            let mut delete = transaction.prepare_cached("DELETE FROM file WHERE path = ?")?;
            for (file, names) in &batch.names {
                match names {
                    Some(names) => rows::put_names(&mut put, file, names)?,
                    None => drop(delete.execute([file.as_os_str().as_bytes()])?),
                }
            }
            let mut put = transaction.prepare_cached(rows::PUT_RUNNING)?;
            for running in &batch.started {
                rows::put_running(&mut put, running)?;
            }
            let mut delete = transaction.prepare_cached("DELETE FROM running WHERE run = ?")?;
            for run in &batch.gone {
                delete.execute([run.0.cast_signed()])?;
            }
        }
        if !batch.ended.is_empty() {
            let mut kept = match self.kept.take() {
                Some(kept) => kept,
                None => count(&transaction)?,
            };
            let mut put = transaction.prepare_cached(rows::PUT_ENDED)?;
            let mut put_output = transaction.prepare_cached(rows::PUT_OUTPUT)?;
            for ended in &batch.ended {
                let bytes = rows::put_ended(&mut put, ended)?;
                if !ended.output_tail.is_empty() {
                    put_output.execute((ended.run.0.cast_signed(), &ended.output_tail))?;
                }
                kept.add(&ended.watch, bytes);
            }
            for ended in &batch.ended {
                forget_of_watch(&transaction, &mut kept, &ended.watch, self.limits.runs_per_watch)?;
            }
            forget_oldest(&transaction, &mut kept, self.limits)?;
            self.kept = Some(kept);
        }
        transaction.commit()
    }
}

/// A connection that only reads.
pub(super) fn read_only(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY)?;
    Ok(connection)
}

/// What a database has, for who must not change it.
pub(super) fn look(path: &Path) -> rusqlite::Result<Stored> {
    read(&read_only(path)?)
}

fn read(connection: &Connection) -> rusqlite::Result<Stored> {
    let mut watches = connection.prepare("SELECT * FROM watch")?;
    let mut running = connection.prepare("SELECT * FROM running")?;
    let mut names = connection.prepare("SELECT * FROM file")?;
    let newest = "SELECT max(coalesce((SELECT max(run) FROM run), 0), coalesce((SELECT max(run) FROM running), 0))";
    let newest: i64 = connection.query_row(newest, [], |row| row.get(0))?;
    let last = "SELECT watch, run, outcome, words, ended_at FROM run
      WHERE run IN (SELECT max(run) FROM run GROUP BY watch)";
    let mut former = connection.prepare(last)?;
    Ok(Stored {
        watches: watches.query_map([], rows::watch)?.collect::<Result<_, _>>()?,
        names: names.query_map([], rows::names)?.collect::<Result<_, _>>()?,
        running: running.query_map([], rows::running)?.collect::<Result<_, _>>()?,
        newest: (newest != 0).then_some(RunId(newest.cast_unsigned())),
        former: former.query_map([], rows::former)?.collect::<Result<_, _>>()?,
    })
}

fn count(connection: &Connection) -> rusqlite::Result<Kept> {
    let mut kept = Kept::default();
    let mut statement = connection.prepare("SELECT watch, count(*), sum(bytes) FROM run GROUP BY watch")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        let (watch, runs, bytes): (String, i64, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        kept.runs += runs.cast_unsigned();
        kept.bytes += bytes.cast_unsigned();
        kept.of.insert(watch, runs.cast_unsigned());
    }
    Ok(kept)
}

impl Kept {
    fn add(&mut self, watch: &str, bytes: u64) {
        self.runs += 1;
        self.bytes += bytes;
        match self.of.get_mut(watch) {
            Some(count) => *count += 1,
            None => drop(self.of.insert(watch.to_owned(), 1)),
        }
    }

    fn remove(&mut self, watch: &str, bytes: u64) {
        self.runs = self.runs.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        if let Some(count) = self.of.get_mut(watch) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.of.remove(watch);
            }
        }
    }
}

/// How far a bound may be exceeded before something is done about it.
fn slack(limit: u64) -> u64 {
    limit.saturating_add(limit / 8)
}

fn forget_of_watch(connection: &Connection, kept: &mut Kept, watch: &str, limit: u64) -> rusqlite::Result<()> {
    let count = kept.of.get(watch).copied().unwrap_or_default();
    if count <= slack(limit) {
        return Ok(());
    }
    let excess = (count - limit).min(MOST_FORGOTTEN);
    let mut delete = connection.prepare_cached(
        "DELETE FROM run WHERE run IN (SELECT run FROM run WHERE watch = ? ORDER BY run LIMIT ?) RETURNING watch, bytes",
    )?;
    let forgotten = delete.query_map((watch, excess.cast_signed()), forgotten)?;
    forgotten.collect::<Result<Vec<_>, _>>().map(|all| kept.remove_all(all))
}

fn forget_oldest(connection: &Connection, kept: &mut Kept, limits: HistoryLimits) -> rusqlite::Result<()> {
    let mut delete = connection.prepare_cached(
        "DELETE FROM run WHERE run IN (SELECT run FROM run ORDER BY run LIMIT ?) RETURNING watch, bytes",
    )?;
    if kept.runs > slack(limits.runs) {
        let excess = (kept.runs - limits.runs).min(MOST_FORGOTTEN);
        let all = delete.query_map([excess.cast_signed()], forgotten)?;
        kept.remove_all(all.collect::<Result<Vec<_>, _>>()?);
    }
    if kept.bytes > slack(limits.bytes) {
        // How large the oldest are is known once they are gone: as many as there are to forget on average, again and again.
        for _ in 0..16 {
            let excess = kept.bytes.saturating_sub(limits.bytes);
            let average = (kept.bytes / kept.runs.max(1)).max(1);
            if excess == 0 || kept.runs == 0 {
                break;
            }
            let all = delete.query_map([(excess / average).clamp(1, MOST_FORGOTTEN).cast_signed()], forgotten)?;
            kept.remove_all(all.collect::<Result<Vec<_>, _>>()?);
        }
    }
    Ok(())
}

fn forgotten(row: &rusqlite::Row<'_>) -> rusqlite::Result<(String, u64)> {
    Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()))
}

impl Kept {
    fn remove_all(&mut self, forgotten: Vec<(String, u64)>) {
        for (watch, bytes) in forgotten {
            self.remove(&watch, bytes);
        }
    }
}

/// What an error says about the database: that it is damaged, or only that it cannot be used now.
fn classify(path: &Path, error: rusqlite::Error) -> DatabaseError {
    let damaged = match &error {
        // SQLITE_ERROR: a table or column is not there.
        rusqlite::Error::SqliteFailure(failure, _) => matches!(
            failure.code,
            ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown
        ),
        rusqlite::Error::FromSqlConversionFailure(..)
        | rusqlite::Error::IntegralValueOutOfRange(..)
        | rusqlite::Error::InvalidColumnType(..)
        | rusqlite::Error::InvalidColumnName(..)
        | rusqlite::Error::SqlInputError { .. }
        | rusqlite::Error::Utf8Error(..) => true,
        _ => false,
    };
    let path = path.to_owned();
    if damaged {
        let why = error.to_string();
        DatabaseError::Damaged { path, why }
    } else {
        DatabaseError::Sqlite { path, source: error }
    }
}
