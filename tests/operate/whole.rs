//! The commands on a real daemon.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::{command, printed, refused, run, told};
use crate::support::daemon::{Daemon, Site};
use crate::support::{DEADLINE, until};

const CONFIG: &str = r#"
RegisterWatch(znode = "/a", action = Exec("echo seen; cat"), name = "a b", timeout = 60)
RegisterWatch(znode = "/b", action = Exec("exit 3"), name = "stops", on_failure = STOP)
RegisterWatch(znode = "/c", action = Exec("exit 4"), name = "fails")
RegisterWatch(znode = "/none", action = Exec("true"), name = "none")
"#;

fn daemon(site: &Site) -> (Daemon, PathBuf) {
    site.set("/a", "1");
    site.set("/b", "1");
    site.set("/c", "1");
    site.config("a.twc", CONFIG);
    let socket = site.path("s");
    let (tree, control) = (site.path("tree"), socket.clone());
    let daemon = site.start_with(&[
        "--tree",
        &tree.to_string_lossy(),
        "--control",
        &control.to_string_lossy(),
    ]);
    for watch in ["a b", "stops", "fails"] {
        daemon.wait_runs(watch, 1);
    }
    (daemon, socket)
}

#[test]
fn the_last_run_of_a_former_daemon_is_told_after_a_restart() {
    let site = Site::new();
    let (first, socket) = daemon(&site);
    let last = || {
        let watches: Value = serde_json::from_str(&printed(&socket, &["status", "--json"])).unwrap();
        let watches = watches["watches"].as_array().cloned().unwrap_or_default();
        let stops = watches.into_iter().find(|watch| watch["name"] == "stops");
        stops.map(|stops| stops["last_run"].clone()).unwrap_or_default()
    };
    until("it is told", || last()["run"].is_string());
    let before = last();
    assert_eq!(
        (&before["success"], &before["words"]),
        (&false.into(), &"exit code 3".into())
    );
    assert!(first.stop().success());
    let (tree, control) = (site.path("tree"), socket.clone());
    let _second = site.start_with(&[
        "--tree",
        &tree.to_string_lossy(),
        "--control",
        &control.to_string_lossy(),
    ]);
    for field in ["run", "success", "words"] {
        assert_eq!(last()[field], before[field]);
    }
}

#[test]
fn an_operator_finds_out_what_ran_and_acts() {
    let site = Site::new();
    let (_daemon, socket) = daemon(&site);
    let row = |name: &str| {
        let text = printed(&socket, &["status"]);
        let row = text.lines().find(|line| line.starts_with(name));
        row.map(|row| row.split_whitespace().collect::<Vec<_>>().join(" "))
            .unwrap_or(text)
    };
    // A run has ended a moment before everybody knows.
    for (name, expected) in [
        ("stops", "stops parked"),
        ("fails", "fails failed"),
        ("a b", "a b armed"),
    ] {
        let mut last = String::new();
        let end = Instant::now() + DEADLINE;
        while !last.starts_with(expected) {
            assert!(Instant::now() < end, "not {expected}: {last}");
            last = row(name);
        }
    }
    assert!(row("none").starts_with("none absent"), "{}", row("none"));

    let text = printed(&socket, &["status", "stops"]);
    assert!(
        text.contains("`twitcher resume stops --control /") && text.contains("exit code 3"),
        "{text}"
    );
    let text = printed(&socket, &["status", "a b"]);
    assert!(
        text.contains("Nothing to do: the action has succeeded") && text.contains("timeout = 60"),
        "{text}"
    );

    let text = printed(&socket, &["logs", "--last", "a b"]);
    assert!(
        text.contains(": success after ") && text.ends_with("\nseen\n1\n"),
        "{text}"
    );
    let failed = printed(&socket, &["history", "--failed", "--json"]);
    let failed: Value = serde_json::from_str(&failed).unwrap();
    let mut names: Vec<&str> = failed["runs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|run| run["watch"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["fails", "stops"]);
    let short = failed["runs"][0]["run"].as_str().unwrap();
    let text = printed(&socket, &["logs", &short[8..]]);
    assert!(
        text.starts_with(short) && text.ends_with("it wrote nothing\n"),
        "{text}"
    );

    let (code, text, _) = told(&run(&socket, &["run-now", "fails", "--wait"]));
    assert!(code == 1 && text.contains("exit code 4"), "{text}");
    let (code, said) = refused(&socket, &["run-now", "stops"]);
    assert!(code == 1 && said.contains("parked"), "{said}");
    assert!(printed(&socket, &["pause", "a b"]).starts_with("a b: paused"));
    let text = printed(&socket, &["resume", "--all"]);
    assert!(text.contains("a b: ") && text.contains("stops: "), "{text}");

    site.config("b.twc", "RegisterWatch(\n");
    let (code, text, said) = told(&run(&socket, &["reload"]));
    assert!(
        code == 1 && text.contains("4 watches in force") && said.contains("b.twc:"),
        "{text}{said}"
    );
    assert!(printed(&socket, &["status"]).contains("  refused  "));
}

#[test]
fn events_are_seen_as_they_happen_and_a_drain_to_its_end() {
    let site = Site::new();
    let (mut daemon, socket) = daemon(&site);
    let mut follow = command(&socket, &["events", "-f", "a b", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let mut changes = 2;
    // Those before it follows are not shown.
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let ended = |line: &String| {
            let event: Value = serde_json::from_str(line).unwrap();
            event["kind"] == "ended" && event["run"]["watch"] == "a b"
        };
        let found = lines.by_ref().map_while(Result::ok).find(ended);
        let _ = sender.send(found.is_some());
    });
    until("an end was followed", || {
        site.set("/a", &changes.to_string());
        changes += 1;
        receiver.recv_timeout(Duration::from_millis(200)) == Ok(true)
    });
    follow.kill().unwrap();
    follow.wait().unwrap();

    assert_eq!(printed(&socket, &["drain"]), "the daemon has ended\n");
    assert_eq!(daemon.ended().code(), Some(0));
    assert_eq!(refused(&socket, &["status"]).0, 5);
}

#[test]
fn a_failed_subtree_is_failed_for_all_who_tell_of_it() {
    let site = Site::new();
    site.set("/t/a", "1");
    site.config(
        "a.twc",
        r#"RegisterWatch("/t", Exec("test $(cat OUT/../tree/t/a) = 1"), name = "tree", watch_type = WATCH_TREE)"#,
    );
    let (tree, socket) = (site.path("tree"), site.path("s"));
    let (tree, control) = (tree.to_string_lossy(), socket.to_string_lossy().into_owned());
    let daemon = site.start_with(&["--tree", &tree, "--control", &control]);
    daemon.wait_runs("tree", 1);
    site.set("/t/a", "2");
    daemon.wait_runs("tree", 2);
    until("it has failed", || {
        printed(&socket, &["status", "tree"]).starts_with("tree: failed, behind")
    });
    let text = printed(&socket, &["status", "tree"]);
    assert!(
        text.contains("exit code 1 (run ") && !text.contains(": the same"),
        "{text}"
    );
    assert!(text.contains("`twitcher run-now tree --control /"), "{text}");
    let listed = printed(&socket, &["status", "--state", "failed"]);
    assert!(listed.contains("1 failed") && listed.contains("\ntree "), "{listed}");
    let listed = printed(&socket, &["status", "--state", "armed"]);
    assert!(listed.ends_with("\nno watch is in such a state\n"), "{listed}");
}

#[test]
fn a_run_past_its_timeout_is_told_as_such_while_it_still_runs() {
    let site = Site::new();
    site.set("/a", "1");
    site.config(
        "a.twc",
        r#"RegisterWatch("/a", Exec(["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]), name = "slow", timeout = 1, kill_after = 60)"#,
    );
    let (tree, socket) = (site.path("tree"), site.path("s"));
    let (tree, control) = (tree.to_string_lossy(), socket.to_string_lossy().into_owned());
    let daemon = site.start_with(&["--tree", &tree, "--control", &control]);
    let line = daemon.wait("the timeout is logged", |line| {
        line["message"]
            .as_str()
            .is_some_and(|message| message.starts_with("the run is past its timeout of 1 s"))
    });
    assert!(line["watch"] == "slow" && line["run_id"].is_string(), "{line}");
    assert!(line["message"].as_str().unwrap().contains("SIGKILL"), "{line}");
    until("the watch says so", || {
        printed(&socket, &["status", "slow"]).contains("is past its timeout of 1.0 s")
    });
    let text = printed(&socket, &["history"]);
    assert!(
        text.contains("running, past its timeout of 1.0 s and is being ended; SIGKILL follows in"),
        "{text}"
    );
    assert_eq!(daemon.count(|line| line["message"] == "run ended"), 0);
}
