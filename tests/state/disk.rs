//! A state directory that is full, read-only, damaged, of a newer version, or slow: the daemon says so, goes on, and repairs.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use rusqlite::Connection;
use serde_json::Value;

use super::{message, said, until_stored};
use crate::support::daemon::{Daemon, Site};
use crate::support::http::operate;
use crate::support::until;

const LOG: &str = "RegisterWatch('/n', Exec('cat >> OUT/log; echo >> OUT/log'), name='n', run_on_load=IF_CHANGED)";
const GOES_ON: &str = "the daemon goes on";
const AGAIN: &str = "the state directory can be written again";

/// A small file system of its own.
struct Disk(PathBuf);

impl Disk {
    fn mount(site: &Site) -> Self {
        let dir = site.path("state");
        fs::create_dir(&dir).unwrap();
        let disk = Self(dir);
        disk.run("mount", &["-t", "tmpfs", "-o", "size=1m,mode=700", "none"]);
        disk
    }

    fn read_only(&self, read_only: bool) {
        self.run("mount", &["-o", if read_only { "remount,ro" } else { "remount,rw" }]);
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let output = Command::new(program).args(arguments).arg(&self.0).output().unwrap();
        assert!(
            output.status.success(),
            "{program}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Writes until nothing more fits.
    fn fill(&self) {
        let mut file = fs::File::create(self.0.join("filler")).unwrap();
        for size in [4096, 1] {
            while file.write_all(&vec![0; size]).is_ok() {}
        }
    }

    fn empty(&self) {
        fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn changes(site: &Site, data: &[&str]) {
    for data in data {
        site.set("/n", data);
        until("it is handled", || {
            site.lines("out/log").last().is_some_and(|line| line == data)
        });
    }
}

/// The next daemon knows what the last one had handled.
fn is_known_to_the_next(site: &Site, daemon: Daemon) {
    until_stored(site, "SELECT count(*) > 0 FROM run");
    let known = site.lines("out/log");
    daemon.stop();
    let daemon = site.start();
    daemon.wait("unchanged", message("n", "update ignored: it has not changed"));
    assert_eq!(site.lines("out/log"), known);
    daemon.stop();
}

fn logging() -> Site {
    let site = Site::new();
    site.set("/n", "0");
    site.config("a.twc", LOG);
    site
}

#[test]
fn a_disk_that_is_full_from_the_start() {
    let site = logging();
    let disk = Disk::mount(&site);
    disk.fill();
    let daemon = site.start();
    assert_eq!(said(&daemon, GOES_ON)["level"], "ERROR");
    changes(&site, &["0", "1", "2"]);
    disk.empty();
    said(&daemon, AGAIN);
    is_known_to_the_next(&site, daemon);
}

#[test]
fn a_disk_that_becomes_full() {
    let site = logging();
    let disk = Disk::mount(&site);
    let control = site.path("control");
    let tree = site.path("tree");
    let places = [&tree, &control].map(|path| path.to_str().unwrap());
    let daemon = site.start_with(&["--tree", places[0], "--control", places[1]]);
    let problem = || operate(&control, "GET", "/v1/status").json()["state_problem"].clone();
    assert_eq!(problem(), Value::Null);
    daemon.wait_runs("n", 1);
    until_stored(&site, "SELECT count(*) = 1 FROM run");
    disk.fill();
    changes(&site, &["1", "2", "3"]);
    said(&daemon, GOES_ON);
    changes(&site, &["4", "5"]);
    let complaints = || daemon.count(|line| line["message"].as_str().is_some_and(|m| m.contains(GOES_ON)));
    assert_eq!(complaints(), 1, "said once");
    assert!(
        problem().as_str().is_some_and(|why| why.contains("full")),
        "{}",
        problem()
    );
    disk.empty();
    said(&daemon, AGAIN);
    until("it is no problem any more", || problem().is_null());
    is_known_to_the_next(&site, daemon);
}

#[test]
fn a_read_only_directory() {
    let site = logging();
    let disk = Disk::mount(&site);
    disk.read_only(true);
    let daemon = site.start();
    said(&daemon, GOES_ON);
    changes(&site, &["0", "1"]);
    disk.read_only(false);
    said(&daemon, AGAIN);
    is_known_to_the_next(&site, daemon);
}

#[test]
fn a_damaged_database_is_moved_aside_loudly() {
    let site = logging();
    fs::create_dir(site.path("state")).unwrap();
    fs::write(site.path("state/state.db"), [0xa5; 9000]).unwrap();
    let daemon = site.start();
    let line = said(&daemon, "is moved to");
    assert_eq!(line["level"], "ERROR");
    assert!(
        line["message"].as_str().unwrap().contains("state.db.corrupt-"),
        "{line}"
    );
    daemon.wait_runs("n", 1);
    is_known_to_the_next(&site, daemon);
}

#[test]
fn a_newer_version_is_left_alone() {
    let site = logging();
    fs::create_dir(site.path("state")).unwrap();
    let path = site.path("state/state.db");
    Connection::open(&path)
        .unwrap()
        .execute_batch("CREATE TABLE future (x); PRAGMA user_version = 1000")
        .unwrap();
    let before = fs::read(&path).unwrap();
    let daemon = site.start();
    said(&daemon, "which is newer than this program's");
    daemon.wait_runs("n", 1);
    changes(&site, &["1"]);
    daemon.stop();
    assert_eq!(fs::read(path).unwrap(), before);
}

#[test]
fn a_directory_that_vanishes_is_made_again() {
    let site = logging();
    let daemon = site.start();
    daemon.wait_runs("n", 1);
    until_stored(&site, "SELECT count(*) = 1 FROM run");
    fs::remove_dir_all(site.path("state")).unwrap();
    changes(&site, &["1"]);
    until_stored(&site, "SELECT count(*) = 1 FROM watch WHERE mzxid IS NOT NULL");
    is_known_to_the_next(&site, daemon);
}

/// Whoever wrote to the database on the way to an action would wait here, each time for as long as SQLite waits.
#[test]
fn a_database_that_does_not_answer_delays_nothing() {
    let site = logging();
    let daemon = site.start();
    daemon.wait_runs("n", 1);
    until_stored(&site, "SELECT count(*) = 1 FROM run");
    let other = Connection::open(site.path("state/state.db")).unwrap();
    other.execute_batch("BEGIN IMMEDIATE; CREATE TABLE held (x)").unwrap();
    let begin = Instant::now();
    let data: Vec<String> = (1..=10).map(|number| number.to_string()).collect();
    changes(&site, &data.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    other.execute_batch("ROLLBACK").unwrap();
    drop(other);
    until_stored(&site, "SELECT count(*) = 11 FROM run");
    is_known_to_the_next(&site, daemon);
}
