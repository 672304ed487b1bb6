//! When the machine has no more processes to give: what the daemon needs for itself it has from the start, and the rest it waits for.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;

use super::message;
use crate::support::daemon::{Daemon, PROGRAM, Site};
use crate::support::until;

/// A user that nobody else is, so that nothing counts against its limit but what is started here.
fn user(which: u32) -> u32 {
    3_000_000 + std::process::id() * 2 + which
}

/// A program that is the daemon as another user, who may have so many processes and threads.
fn program(site: &Site, uid: u32, most: u32) -> PathBuf {
    // The directory of the one under test may be out of that user's reach.
    let copy = site.path("twitcher");
    fs::copy(PROGRAM, &copy).unwrap();
    let wrapper = site.path("as-another");
    let copy = copy.display();
    let script = format!(
        "#!/bin/sh\nexec setpriv --reuid={uid} --regid={uid} --clear-groups prlimit --nproc={most} {copy} \"$@\"\n"
    );
    fs::write(&wrapper, script).unwrap();
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).unwrap();
    give(&site.path(""), uid);
    wrapper
}

fn give(path: &Path, uid: u32) {
    chown(path, Some(uid), Some(uid)).unwrap();
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            give(&entry.path(), uid);
        } else {
            chown(entry.path(), Some(uid), Some(uid)).unwrap();
        }
    }
}

/// Makes processes until there are no more to be had, says so, and goes on; it does not listen to SIGTERM.
const BOMB: &str = r#"Exec(["/usr/bin/perl", "-e", '$SIG{TERM}="IGNORE"; while (1) { my $p = fork(); if (!defined $p) { open(my $f, ">", "OUT/full"); select(undef, undef, undef, 0.01) } elsif (!$p) { sleep 1000; exit } }'])"#;

fn started(site: &Site, most: u32) -> Daemon {
    let program = program(site, user(0), most);
    site.start_program(&program)
}

#[test]
fn an_action_that_takes_every_process_is_ended_and_nothing_else_is_lost() {
    let site = Site::new();
    site.set("/bomb", "0");
    site.set("/other", "0");
    site.config(
        "a.twc",
        &format!(
            "RegisterWatch('/bomb', {BOMB}, name='bomb', timeout=4, kill_after=1, run_on_load=False)\n\
             RegisterWatch('/other', Exec('cat >> OUT/log; echo >> OUT/log'), name='other', run_on_load=False)\n"
        ),
    );
    let mut daemon = started(&site, 60);
    daemon.wait("armed", |line| line["message"] == "all watches are armed");
    site.set("/bomb", "1");
    until("there are no more processes", || site.path("out/full").exists());
    // Whatever comes now finds none.
    site.set("/other", "1");
    daemon.signal(Signal::SIGHUP);
    let text = fs::read_to_string(site.path("conf/a.twc")).unwrap();
    site.config("a.twc", &(text + "# edited\n"));
    let ended = daemon.wait_runs("bomb", 1).pop().unwrap();
    assert_eq!(ended["outcome"], "timed out", "{ended}");
    daemon.wait_runs("other", 1);
    assert_eq!(site.lines("out/log"), ["1"]);
    let loaded = |line: &serde_json::Value| line["message"] == "configuration loaded";
    daemon.wait_for(2, "it is loaded again after all", loaded);
    site.set("/other", "2");
    daemon.wait_runs("other", 2);
    assert!(daemon.runs());
    assert_eq!(daemon.count(message("other", "run failed")), 0, "{}", daemon.text());
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn a_start_without_room_for_threads_is_refused_in_words() {
    let site = Site::new();
    let program = program(&site, user(1), 6);
    let mut daemon = site.spawn(&program);
    assert_eq!(daemon.ended().code(), Some(3), "{}", daemon.text());
    // What it wrote last may be read a moment after its end.
    until("it says why", || daemon.text().contains("ulimit -u"));
}
