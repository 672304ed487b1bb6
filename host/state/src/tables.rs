//! The tables, and how those of an older version become those of this one.

use rusqlite::{Connection, TransactionBehavior};

/// What makes each version from the one before; the first from nothing. What has been released is never changed.
pub(super) const STEPS: [&str; 8] = [
    VERSION_1, VERSION_2, VERSION_3, VERSION_4, VERSION_5, VERSION_6, VERSION_7, VERSION_8,
];

/// Runs have their ids as keys, which sort by age. A position is `Version::parts` (kind, a, b) and the digest of the contents; czxid,
/// mzxid and version repeat it for people. Times are milliseconds since 1970. What is 64 bits wide without a sign is stored with one.
const VERSION_1: &str = "
CREATE TABLE watch (
  name TEXT PRIMARY KEY, znode TEXT NOT NULL, watch_type TEXT NOT NULL,
  kind INTEGER, a INTEGER, b INTEGER, digest INTEGER,
  czxid INTEGER, mzxid INTEGER, version INTEGER, run INTEGER, handled_at INTEGER,
  parked_at INTEGER, parked_why TEXT, parked_definition INTEGER
) STRICT, WITHOUT ROWID;

CREATE TABLE running (
  run INTEGER PRIMARY KEY, watch TEXT NOT NULL,
  pid INTEGER NOT NULL, seen INTEGER NOT NULL, boot BLOB NOT NULL,
  started_at INTEGER NOT NULL, attempt INTEGER NOT NULL, event TEXT,
  kind INTEGER, a INTEGER, b INTEGER
) STRICT;

CREATE TABLE run (
  run INTEGER PRIMARY KEY, watch TEXT NOT NULL, event TEXT, attempt INTEGER NOT NULL,
  outcome TEXT NOT NULL, words TEXT NOT NULL, exit_code INTEGER, signal INTEGER,
  started_at INTEGER NOT NULL, ended_at INTEGER NOT NULL, duration_us INTEGER NOT NULL,
  max_rss_kib INTEGER NOT NULL, output_bytes INTEGER NOT NULL,
  bytes INTEGER NOT NULL
) STRICT;
CREATE INDEX run_of_watch ON run (watch, run, bytes);

CREATE TABLE output (run INTEGER PRIMARY KEY, tail BLOB NOT NULL) STRICT;
CREATE TRIGGER run_forgotten AFTER DELETE ON run BEGIN DELETE FROM output WHERE run = OLD.run; END;
";

/// Watches that an operator holds.
const VERSION_2: &str = "ALTER TABLE watch ADD COLUMN paused_at INTEGER";

/// Which processes the runs have, and for which state they are, is for the journal of runs alone to say; here only what it does not know
/// and the history will tell.
const VERSION_3: &str = "
CREATE TABLE running_3 (
  run INTEGER PRIMARY KEY, watch TEXT NOT NULL, started_at INTEGER NOT NULL, attempt INTEGER NOT NULL, event TEXT
) STRICT;
INSERT INTO running_3 SELECT run, watch, started_at, attempt, event FROM running;
DROP TABLE running;
ALTER TABLE running_3 RENAME TO running;
";

/// Who holds a watch and why; whether the log has all that a run wrote, of which it takes 1 MiB; and the names that each configuration
/// file has, as a JSON list.
const VERSION_4: &str = "
ALTER TABLE watch ADD COLUMN paused_by TEXT;
ALTER TABLE watch ADD COLUMN paused_reason TEXT;
ALTER TABLE run ADD COLUMN log_ended INTEGER NOT NULL DEFAULT 0;
UPDATE run SET log_ended = 1 WHERE output_bytes >= 1048576;
CREATE TABLE file (path BLOB PRIMARY KEY, names TEXT NOT NULL) STRICT;
";

/// What tells apart two states of the same transactions (`Stamp::to_bits`); none in what was handled before.
const VERSION_5: &str = "ALTER TABLE watch ADD COLUMN stamp INTEGER";

/// What the fleet is told of the last run that ended, as JSON.
const VERSION_6: &str = "ALTER TABLE watch ADD COLUMN result TEXT";

/// How much of the node there was in what was handled; and since when it has lost more than it may.
const VERSION_7: &str = "
ALTER TABLE watch ADD COLUMN size INTEGER;
ALTER TABLE watch ADD COLUMN refused_at INTEGER;
";

/// The znodes of a watch of several but the first, as a JSON list; none of a watch of one.
const VERSION_8: &str = "ALTER TABLE watch ADD COLUMN more TEXT";

/// The version of a database: how many steps it has been through.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<usize> {
    connection.pragma_query_value(None, "user_version", |row| {
        row.get::<_, u32>(0).map(|version| version as usize)
    })
}

/// Takes the steps that a database lacks, all or none.
pub(super) fn migrate(connection: &mut Connection, steps: &[&str]) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let from = version(&transaction)?;
    for step in steps.iter().skip(from) {
        transaction.execute_batch(step)?;
    }
    if from < steps.len() {
        transaction.pragma_update(None, "user_version", steps.len() as u32)?;
    }
    transaction.commit()
}
