//! Databases of other versions. `version-1.sql` is what version 1 wrote; it is never changed.

use std::fs;

use rusqlite::Connection;

use super::database::FILE;
use super::*;

const VERSION_1: &str = include_str!("version-1.sql");

fn make(dir: &Path, sql: &str) {
    Connection::open(dir.join(FILE)).unwrap().execute_batch(sql).unwrap();
}

#[test]
fn what_version_1_wrote_is_understood() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), VERSION_1);
    let (state, newest) = open(dir.path());
    let known = state.known(&watch("a")).unwrap();
    let written = known.handled.unwrap().position;
    let now = handled(7).position;
    assert_eq!(written.version, now.version.with_stamp(Stamp::default()));
    assert!(now.is(written.fingerprint()), "IF_CHANGED takes it for the same");
    assert_eq!(known.parked.unwrap().definition, u64::MAX);
    let history = state.history();
    state.close();
    let runs = history.newest(10).unwrap();
    assert_eq!(
        (&*runs[0].outcome, &*runs[1].outcome),
        ("unknown", "exited"),
        "what ran then runs no more"
    );
    assert_eq!(history.output(RunId(3)).unwrap(), b"output of 3");
    assert_eq!(newest, Some(RunId(4)));
}

/// A database that goes through every step is the same as one of version 1 that goes through the rest, so no step that was released
/// may be changed.
#[test]
fn a_step_that_was_released_stays_as_it_is() {
    let schema = |connection: &Connection| {
        let mut statement = connection
            .prepare("SELECT sql FROM sqlite_schema ORDER BY name")
            .unwrap();
        let rows = statement.query_map([], |row| row.get::<_, Option<String>>(0)).unwrap();
        rows.map(|sql| {
            sql.unwrap()
                .unwrap_or_default()
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect::<Vec<_>>()
    };
    let mut new = Connection::open_in_memory().unwrap();
    tables::migrate(&mut new, &tables::STEPS).unwrap();
    let mut old = Connection::open_in_memory().unwrap();
    old.execute_batch(VERSION_1).unwrap();
    tables::migrate(&mut old, &tables::STEPS).unwrap();
    assert_eq!(schema(&new), schema(&old));
    assert_eq!(tables::version(&old).unwrap(), tables::STEPS.len());
}

#[test]
fn steps_are_taken_once_and_all_or_none() {
    let mut connection = Connection::open_in_memory().unwrap();
    connection.execute_batch(VERSION_1).unwrap();
    let steps = [
        tables::STEPS[0],
        "ALTER TABLE watch ADD COLUMN note TEXT NOT NULL DEFAULT 'none'",
        "UPDATE watch SET note = name",
    ];
    let note = |connection: &Connection| {
        connection
            .query_row("SELECT note FROM watch WHERE name = 'a'", [], |row| {
                row.get::<_, String>(0)
            })
            .ok()
    };
    let broken = [steps[0], steps[1], "UPDATE nothing SET note = name"];
    assert!(tables::migrate(&mut connection, &broken).is_err());
    assert_eq!((tables::version(&connection).unwrap(), note(&connection)), (1, None));
    tables::migrate(&mut connection, &steps[..2]).unwrap();
    assert_eq!(
        (tables::version(&connection).unwrap(), note(&connection)),
        (2, Some("none".into()))
    );
    tables::migrate(&mut connection, &steps).unwrap();
    tables::migrate(&mut connection, &steps).unwrap();
    assert_eq!(
        (tables::version(&connection).unwrap(), note(&connection)),
        (3, Some("a".into()))
    );
}

#[test]
fn a_newer_version_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    make(dir.path(), VERSION_1);
    make(dir.path(), "PRAGMA user_version = 99; DROP TABLE watch");
    let before = fs::read(dir.path().join(FILE)).unwrap();
    let (state, _) = open(dir.path());
    state.handled(&watch("a"), handled(1));
    state.ended(ended(9, "a"));
    assert!(state.known(&watch("a")).is_some(), "in memory");
    state.close();
    assert_eq!(fs::read(dir.path().join(FILE)).unwrap(), before);
}
