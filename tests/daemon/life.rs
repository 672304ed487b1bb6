//! How a daemon starts, goes into the background, ends and is killed.

use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{GATED, go, message};
use crate::support::daemon::{Site, alive};
use crate::support::until;

#[test]
fn a_killed_daemons_run_is_found_and_waited_for() {
    let site = Site::new();
    site.set("/n", "1");
    site.config("a.twc", &format!("RegisterWatch('/n', {GATED}, name='n')"));
    let daemon = site.start();
    daemon.wait("started", message("n", "run started"));
    until("it runs", || site.lines("out/log").len() == 1);
    daemon.crash();
    site.set("/n", "2");
    let daemon = site.start();
    daemon.wait("found", message("n", "a run of the last daemon still runs"));
    daemon.wait("loaded", |line| line["message"] == "configuration loaded");
    assert_eq!(site.lines("out/log"), ["start 1"], "two at once");
    go(&site, "1");
    go(&site, "2");
    daemon.wait_runs("n", 1);
    assert_eq!(site.lines("out/log"), ["start 1", "end 1", "start 2", "end 2"]);
}

/// Found by the chaos suite: only the main process was waited for, and what it had started lived on.
#[test]
fn a_killed_daemons_run_is_ended_as_a_whole() {
    let site = Site::new();
    site.set("/n", "1");
    // Two that ignore SIGTERM, one of them in a session of its own; their parent does not ignore it.
    site.write("out/stubborn", "trap '' TERM; echo $$ >> $1; while :; do sleep 1; done");
    let stubborn = "sh OUT/stubborn OUT/log &";
    let action = format!("Exec('{stubborn} setsid {stubborn} sleep 1000')");
    site.config(
        "a.twc",
        &format!("RegisterWatch('/n', {action}, name='n', timeout=1, kill_after=1)"),
    );
    let daemon = site.start();
    daemon.wait("started", message("n", "run started"));
    until("it runs", || site.lines("out/log").len() == 2);
    daemon.crash();
    let left: Vec<Pid> = site
        .lines("out/log")
        .iter()
        .map(|pid| Pid::from_raw(pid.parse().unwrap()))
        .collect();
    assert!(left.iter().all(|pid| alive(*pid)));
    site.config(
        "a.twc",
        "RegisterWatch('/n', Exec('true'), name='n', timeout=1, kill_after=1)",
    );
    let daemon = site.start();
    daemon.wait_runs("n", 1);
    assert!(!left.iter().any(|pid| alive(*pid)), "left behind");
}

#[test]
fn shutdown_lets_runs_end() {
    let site = Site::new();
    site.set("/n", "1");
    site.config("a.twc", &format!("RegisterWatch('/n', {GATED}, name='n')"));
    let mut daemon = site.start();
    until("it runs", || site.lines("out/log").len() == 1);
    site.set("/n", "2");
    daemon.signal(Signal::SIGTERM);
    daemon.wait("stopping", |line| line["message"] == "stopping");
    go(&site, "1");
    assert_eq!(daemon.ended().code(), Some(0));
    assert_eq!(site.lines("out/log"), ["start 1", "end 1"]);
}

#[test]
fn shutdown_terminates_what_takes_too_long() {
    let site = Site::new();
    site.set("/n", "1");
    site.config(
        "a.twc",
        "RegisterWatch('/n', Exec('echo $$ > OUT/pid; exec sleep 1000'), name='n')",
    );
    let tree = site.path("tree");
    let mut daemon = site.start_with(&["--tree", &tree.to_string_lossy(), "--drain-timeout", "0.3"]);
    until("it runs", || site.read("out/pid").ends_with('\n'));
    daemon.signal(Signal::SIGINT);
    assert_eq!(daemon.ended().code(), Some(4));
    assert!(!alive(Pid::from_raw(site.read("out/pid").trim().parse().unwrap())));
}

#[test]
fn it_goes_into_the_background_with_a_locked_pid_file() {
    let site = Site::new();
    site.set("/n", "1");
    site.config("a.twc", "RegisterWatch('/n', Exec('cat > OUT/log'), name='n')");
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twitcher"));
        // The daemon goes to another directory.
        command
            .current_dir(site.path(""))
            .args(["run", "--daemonize", "--tree"])
            .arg(site.path("tree"))
            .arg("--config")
            .arg(site.path("conf"));
        command
            .args(["--pidfile", "pid"])
            .arg("--state-dir")
            .arg(site.path("state"))
            .arg("--logfile")
            .arg(site.path("log"));
        command.output().unwrap()
    };
    assert_eq!(run().status.code(), Some(0));
    until("it runs", || {
        site.read("out/log") == "1" && site.read("pid").ends_with('\n')
    });
    let pid: i32 = site.read("pid").trim().parse().unwrap();
    let second = run();
    assert_eq!(second.status.code(), Some(3));
    assert!(
        String::from_utf8_lossy(&second.stderr).contains(&format!("(pid {pid})")),
        "{second:?}"
    );
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    until("it is gone and its pid file with it", || {
        !alive(Pid::from_raw(pid)) && !site.path("pid").exists()
    });
}

#[test]
fn what_cannot_start_says_why_and_with_which_code() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_twitcher"))
            .args(arguments)
            .env_remove("TWITCHER_ZK")
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    assert_eq!(run(&["run", "--no-such-flag"]).0, Some(2));
    let (code, text) = run(&["run", "--config", "/"]);
    assert!(code == Some(3) && text.contains("--zk"), "{text}");
    let (code, text) = run(&["run", "--tree", "/", "--config", "/no/such/path"]);
    assert!(code == Some(3) && text.contains("/no/such/path"), "{text}");
    let (code, text) = run(&["run", "--zk", "host:port", "--config", "/"]);
    assert!(code == Some(3) && text.contains("port"), "{text}");
    let (code, text) = run(&["run", "--tree", "/", "--config", "/", "--logfile", "/no/such/dir/log"]);
    assert!(code == Some(3) && text.contains("/no/such/dir/log"), "{text}");
}
