//! Too much of everything: output, log records, commands, questions, open files. All is bounded, and what is too much is said once.

use std::fs;

use serde_json::Value;

use super::{Scene, message, outcome};

/// Largest resident set that the daemon ever had, in KiB.
fn peak(scene: &Scene) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", scene.daemon.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").trim().parse().unwrap()
}

/// What a run may add to the log, in bytes, and what a line of the log is longer than it is counted as.
const LOGGED: usize = 1 << 20;
const JSON: usize = 150;

/// What the run added to the log is about a MiB, a note says once that there was more, and the daemon did not grow.
fn was_bounded(scene: &Scene) {
    let note = |line: &Value| line["watch"] == "w" && message(line) == "further output of this run is not logged";
    scene.daemon.wait("the note", note);
    assert_eq!(scene.daemon.count(note), 1);
    let lines = scene.daemon.wait_for(1, "lines", |line| line["watch"] == "w");
    let logged: usize = lines.iter().map(|line| message(line).len()).sum();
    assert!(logged < LOGGED, "{logged} bytes");
    let whole: usize = lines.iter().map(|line| line.to_string().len()).sum();
    assert!(
        whole < LOGGED + lines.len() * JSON,
        "{whole} bytes in {} lines",
        lines.len()
    );
    let kib = peak(scene);
    assert!(kib < 100_000, "{kib} KiB");
}

/// A flood that is cut off, which takes longer than a test should.
fn goes_on(name: &str, grants: &str) -> Scene {
    let scene = Scene::of(name, grants, "timeout=3, kill_after=1");
    scene.runs("w");
    scene.others_react();
    scene.others_react();
    let run = scene.end("w");
    assert_eq!(outcome(&run), "timed out", "{run}");
    scene.is_unharmed();
    scene
}

#[test]
fn a_gigabyte_of_output_is_read_and_a_mebibyte_logged() {
    let scene = Scene::of("floods_stdout", "", "");
    scene.runs("w");
    scene.others_react();
    let run = scene.end("w");
    assert_eq!(outcome(&run), "success", "{run}");
    was_bounded(&scene);
    scene.is_unharmed();
}

#[test]
fn records_are_logged_up_to_a_mebibyte() {
    was_bounded(&goes_on("floods_log", ""));
}

#[test]
fn denials_are_logged_up_to_a_mebibyte() {
    was_bounded(&goes_on("floods_commands", "config={'name': 'none'}"));
}

#[test]
fn commands_one_after_the_other_hold_nobody_up() {
    let scene = goes_on(
        "floods_commands",
        "config={'name': 'true'}, commands={'true': ['true']}",
    );
    let ended = scene.daemon.count(|line| message(line) == "command ended");
    assert!(ended > 10, "{ended}");
}

#[test]
fn open_files_have_an_end_and_the_daemon_keeps_its_own() {
    let scene = Scene::of("hoards_files", "dirs={'/out': 'OUT:rw'}", "");
    let run = scene.end("w");
    // Of 256 some are its streams, its channel and what the host needs.
    assert!(outcome(&run).starts_with("failed: after 2"), "{run}");
    scene.is_unharmed();
}
