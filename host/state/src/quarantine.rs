//! Moving a damaged database out of the way, so that somebody can look at it and the daemon can begin a new one.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::database::FILE;

/// How many are kept.
const KEPT: usize = 3;
/// The log that SQLite keeps beside a database, which is not what it was without.
const LOG: &str = "-wal";
/// The index of the log, which is made from it.
const INDEX: &str = "-shm";

/// Renames `DIR/state.db` and what belongs to it to `state.db.corrupt-SECONDS`, and removes the oldest of such. Returns the new name.
pub(super) fn move_aside(dir: &Path) -> io::Result<PathBuf> {
    let from = dir.join(FILE);
    let mut old = all(dir)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // By its name each is newer than those before, whatever the clock says.
    let seconds = now.as_secs().max(old.last().map_or(0, |last| last.saturating_add(1)));
    let to = corrupt(dir, seconds);
    fs::rename(&from, &to)?;
    // Often there is neither. What stayed would be taken for the new database's.
    let gone = |result: io::Result<()>| match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    gone(fs::rename(with(&from, LOG), with(&to, LOG)))?;
    gone(fs::remove_file(with(&from, INDEX)))?;
    old.push(seconds);
    for seconds in old.iter().rev().skip(KEPT) {
        let path = corrupt(dir, *seconds);
        for file in [with(&path, LOG), path] {
            // One too many is no reason to stop.
            let _ = fs::remove_file(file);
        }
    }
    Ok(to)
}

/// The times in the names of those that there are, in order.
fn all(dir: &Path) -> io::Result<Vec<u64>> {
    let names = fs::read_dir(dir)?.flatten().map(|entry| entry.file_name());
    let time = |name: &OsString| {
        let time = name.to_str()?.strip_prefix(FILE)?.strip_prefix(".corrupt-")?;
        time.parse().ok()
    };
    let mut all: Vec<u64> = names.filter_map(|name| time(&name)).collect();
    all.sort_unstable();
    Ok(all)
}

fn corrupt(dir: &Path, seconds: u64) -> PathBuf {
    dir.join(format!("{FILE}.corrupt-{seconds}"))
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
