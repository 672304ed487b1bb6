//! Rows of the database from and to what they mean.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::types::Type;
use rusqlite::{Row, named_params, params};

use super::{EndedRun, FormerRun, Handled, Parked, Paused, StartedRun, WatchNames, WatchRecord};
use twitcher_model::{Occasion, Outcome, Position, RunId, Stamp, Stat, Version, WatchType, ZnodePath};

/// What a run costs in the database besides its texts, about.
const ROW: usize = 200;

pub(super) fn watch(row: &Row<'_>) -> rusqlite::Result<(Arc<str>, WatchRecord)> {
    let name: String = row.get("name")?;
    let znode: String = row.get("znode")?;
    let handled = version(row)?.map(|version| {
        let stat = match version {
            Version::Absent => None,
            _ => Some(Stat {
                czxid: row.get("czxid")?,
                mzxid: row.get("mzxid")?,
                version: row.get("version")?,
            }),
        };
        Ok::<_, rusqlite::Error>(Handled {
            position: Position {
                version,
                digest: row.get::<_, i64>("digest")?.cast_unsigned(),
            },
            stat,
            size: row.get("size")?,
            run: RunId(row.get::<_, i64>("run")?.cast_unsigned()),
            at: time(row.get("handled_at")?),
        })
    });
    let parked = row.get::<_, Option<i64>>("parked_at")?.map(|at| {
        Ok::<_, rusqlite::Error>(Parked {
            definition: row.get::<_, i64>("parked_definition")?.cast_unsigned(),
            why: row.get("parked_why")?,
            at: time(at),
        })
    });
    let paused = row.get::<_, Option<i64>>("paused_at")?.map(|at| {
        Ok::<_, rusqlite::Error>(Paused {
            at: time(at),
            by: row.get("paused_by")?,
            reason: row.get("paused_reason")?,
        })
    });
    let state = WatchRecord {
        znode: ZnodePath::new(znode).map_err(|_| odd("znode"))?,
        more: more(row)?,
        watch_type: word(row, "watch_type")?.ok_or_else(|| odd("watch_type"))?,
        handled: handled.transpose()?,
        parked: parked.transpose()?,
        paused: paused.transpose()?,
        result: row.get::<_, Option<String>>("result")?.map(Arc::from),
        refused: row.get::<_, Option<i64>>("refused_at")?.map(time),
    };
    Ok((name.into(), state))
}

pub(super) const PUT_WATCH: &str =
    "INSERT OR REPLACE INTO watch VALUES (:name, :znode, :watch_type, :kind, :a, :b, :digest,
  :czxid, :mzxid, :version, :run, :handled_at, :parked_at, :parked_why, :parked_definition, :paused_at, :paused_by, :paused_reason,
  :stamp, :result, :size, :refused_at, :more)";

pub(super) fn put_watch(
    statement: &mut rusqlite::CachedStatement<'_>,
    name: &str,
    known: &WatchRecord,
) -> rusqlite::Result<()> {
    let handled = known.handled.as_ref();
    let parts = handled.map(|handled| handled.position.version.parts());
    let stat = handled.map(|handled| handled.stat.unwrap_or_default());
    let parked = known.parked.as_ref();
    let paused = known.paused.as_ref();
    statement.execute(named_params! {
        ":name": name,
        ":znode": known.znode.as_str(),
        ":more": (!known.more.is_empty()).then(|| serde_json::to_string(&known.more).unwrap_or_default()),
        ":watch_type": as_word(&known.watch_type),
        ":kind": parts.map(|(kind, _, _)| kind),
        ":a": parts.map(|(_, a, _)| a),
        ":b": parts.map(|(_, _, b)| b),
        ":digest": handled.map(|handled| handled.position.digest.cast_signed()),
        ":stamp": handled.map(|handled| handled.position.version.stamp().to_bits().cast_signed()),
        ":czxid": stat.map(|stat| stat.czxid),
        ":mzxid": stat.map(|stat| stat.mzxid),
        ":version": stat.map(|stat| stat.version),
        ":run": handled.map(|handled| handled.run.0.cast_signed()),
        ":handled_at": handled.map(|handled| millis(handled.at)),
        ":parked_at": parked.map(|parked| millis(parked.at)),
        ":parked_why": parked.map(|parked| &*parked.why),
        ":paused_at": paused.map(|paused| millis(paused.at)),
        ":paused_by": paused.and_then(|paused| paused.by.as_deref()),
        ":paused_reason": paused.and_then(|paused| paused.reason.as_deref()),
        ":result": known.result.as_deref(),
        ":size": handled.and_then(|handled| handled.size),
        ":refused_at": known.refused.map(millis),
        ":parked_definition": parked.map(|parked| parked.definition.cast_signed()),
    })?;
    Ok(())
}

pub(super) fn running(row: &Row<'_>) -> rusqlite::Result<StartedRun> {
    Ok(StartedRun {
        run: RunId(row.get::<_, i64>("run")?.cast_unsigned()),
        watch: row.get::<_, String>("watch")?.into(),
        started: time(row.get("started_at")?),
        attempt: row.get("attempt")?,
        event: word(row, "event")?,
    })
}

pub(super) const PUT_RUNNING: &str = "INSERT OR REPLACE INTO running VALUES (?, ?, ?, ?, ?)";

pub(super) fn put_running(statement: &mut rusqlite::CachedStatement<'_>, run: &StartedRun) -> rusqlite::Result<()> {
    statement.execute(params![
        run.run.0.cast_signed(),
        &*run.watch,
        millis(run.started),
        run.attempt,
        run.event.map(Occasion::as_str),
    ])?;
    Ok(())
}

pub(super) const PUT_ENDED: &str = "INSERT OR REPLACE INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";
pub(super) const PUT_OUTPUT: &str = "INSERT OR REPLACE INTO output VALUES (?, ?)";

/// Returns what the row counts as, in bytes.
pub(super) fn put_ended(statement: &mut rusqlite::CachedStatement<'_>, ended: &EndedRun) -> rusqlite::Result<u64> {
    let outcome = ended.outcome.as_ref();
    let (exit_code, signal) = match outcome {
        Some(Outcome::Exited(code)) => (Some(*code), None),
        Some(Outcome::Signaled { signal, .. }) => (None, Some(*signal)),
        _ => (None, None),
    };
    let words = Outcome::words(outcome);
    let bytes = (ROW + words.len() + ended.watch.len() + ended.output_tail.len()) as u64;
    statement.execute(params![
        ended.run.0.cast_signed(),
        &*ended.watch,
        ended.event.map(Occasion::as_str),
        ended.attempt,
        Outcome::code(outcome),
        words,
        exit_code,
        signal,
        millis(ended.started),
        millis(ended.ended),
        ended.elapsed.as_micros() as i64,
        ended.max_rss_kib.cast_signed(),
        ended.output_bytes.cast_signed(),
        bytes.cast_signed(),
        ended.log_ended,
    ])?;
    Ok(bytes)
}

pub(super) fn former(row: &Row<'_>) -> rusqlite::Result<(Arc<str>, FormerRun)> {
    let outcome: String = row.get("outcome")?;
    let former = FormerRun {
        run: RunId(row.get::<_, i64>("run")?.cast_unsigned()),
        // Whatever a later version says, this one does not know what it means.
        outcome: Outcome::CODES
            .into_iter()
            .find(|code| *code == outcome)
            .unwrap_or("unknown"),
        words: row.get::<_, String>("words")?.into(),
        ended: time(row.get("ended_at")?),
    };
    Ok((row.get::<_, String>("watch")?.into(), former))
}

pub(super) fn names(row: &Row<'_>) -> rusqlite::Result<(PathBuf, WatchNames)> {
    let path = OsString::from_vec(row.get("path")?);
    let names: String = row.get("names")?;
    let names: Vec<String> = serde_json::from_str(&names).map_err(|_| odd("names"))?;
    Ok((path.into(), names.into_iter().map(Arc::from).collect()))
}

pub(super) const PUT_NAMES: &str = "INSERT OR REPLACE INTO file VALUES (?, ?)";

pub(super) fn put_names(
    statement: &mut rusqlite::CachedStatement<'_>,
    file: &Path,
    names: &WatchNames,
) -> rusqlite::Result<()> {
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    // A list of strings can always be written as JSON.
    let names = serde_json::to_string(&names).unwrap_or_default();
    statement.execute((file.as_os_str().as_bytes(), names))?;
    Ok(())
}

fn more(row: &Row<'_>) -> rusqlite::Result<Arc<[ZnodePath]>> {
    let Some(text) = row.get::<_, Option<String>>("more")? else {
        return Ok(Arc::default());
    };
    let more: Vec<String> = serde_json::from_str(&text).map_err(|_| odd("more"))?;
    let more = more.into_iter().map(ZnodePath::new);
    more.collect::<Result<_, _>>().map_err(|_| odd("more"))
}

fn version(row: &Row<'_>) -> rusqlite::Result<Option<Version>> {
    let Some(kind) = row.get::<_, Option<u8>>("kind")? else {
        return Ok(None);
    };
    let version = Version::from_parts(kind, row.get("a")?, row.get("b")?).ok_or_else(|| odd("kind"))?;
    let stamp: Option<i64> = row.get("stamp")?;
    let stamp = Stamp::from_bits(stamp.unwrap_or_default().cast_unsigned());
    Ok(Some(version.with_stamp(stamp)))
}

/// A column that holds a word which serde knows.
fn word<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: &'static str) -> rusqlite::Result<Option<T>> {
    let text: Option<String> = row.get(column)?;
    let parse = |text| serde_json::from_value(serde_json::Value::String(text)).map_err(|_| odd(column));
    text.map(parse).transpose()
}

fn as_word(watch_type: &WatchType) -> &'static str {
    match watch_type {
        WatchType::Data => "data",
        WatchType::Children => "children",
        WatchType::Tree => "tree",
    }
}

/// A value that no version of the daemon has written.
fn odd(column: &str) -> rusqlite::Error {
    rusqlite::Error::InvalidColumnType(0, column.to_owned(), Type::Text)
}

pub(super) fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

pub(super) fn time(millis: i64) -> SystemTime {
    let since = Duration::from_millis(u64::try_from(millis).unwrap_or_default());
    UNIX_EPOCH.checked_add(since).unwrap_or(UNIX_EPOCH)
}
