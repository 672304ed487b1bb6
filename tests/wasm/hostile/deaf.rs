//! Components that do not end when they are told to, and what of a run may stay behind: nothing.

use std::fs;

use nix::sys::stat::Mode;
use nix::unistd::{Pid, mkfifo};
use serde_json::Value;

use super::{Scene, hostile, message, outcome, said, site};
use crate::support::daemon::alive;
use crate::support::guests::{guest, text_guest};
use crate::support::until;

#[test]
fn a_call_that_never_returns_ends_in_time_wherever_it_is() {
    let site = site();
    fs::create_dir(site.path("out/in")).unwrap();
    mkfifo(&site.path("out/in/pipe"), Mode::S_IRWXU).unwrap();
    let fields = "timeout=1, kill_after=1";
    hostile(&site, "w", &guest("ignores_cancel"), "", fields);
    hostile(
        &site,
        "blocked",
        &guest("blocked_read"),
        "dirs={'/in': 'OUT/in'}",
        fields,
    );
    hostile(&site, "sleeps", &guest("sleeps"), "", fields);
    hostile(&site, "start", &text_guest("start_loop"), "", fields);
    let scene = Scene::start(site);
    for name in ["w", "blocked", "sleeps", "start"] {
        scene.runs(name);
    }
    scene.others_react();
    for name in ["w", "blocked", "sleeps", "start"] {
        let run = scene.end(name);
        assert_eq!(outcome(&run), "timed out", "{run}");
        let seconds = run["seconds"].as_f64().unwrap();
        assert!((1.0..10.0).contains(&seconds), "{run}");
    }
    said(&scene.daemon, "told to end: Some(Reason::Timeout)");
    scene.is_unharmed();
}

#[test]
fn one_that_is_deaf_makes_way_for_the_newest_state() {
    let scene = Scene::of("ignores_cancel", "", "run_mode=RESTART, kill_after=1");
    let first = scene.runs("w")["pid"].as_i64().unwrap();
    scene.site.set("/x", "1");
    let run = scene.end("w");
    assert_eq!(outcome(&run), "terminated");
    let started = scene.daemon.wait_for(2, "the second run", |line| {
        line["message"] == "run started" && line["watch"] == "w"
    });
    assert_ne!(started[1]["pid"].as_i64().unwrap(), first);
    scene.others_react();
    assert!(!alive(Pid::from_raw(first as i32)));
}

#[test]
fn those_that_hang_in_parallel_are_as_many_as_allowed() {
    let scene = Scene::of(
        "sleeps",
        "",
        "run_mode=PARALLEL, max_parallel=3, timeout=1, kill_after=0.5",
    );
    for change in 1..=5 {
        scene.site.set("/x", &change.to_string());
        let seen = |line: &Value| line["watch"] == "w" && message(line).starts_with("change seen");
        scene.daemon.wait_for(change, "the change is seen", seen);
    }
    scene.others_react();
    for run in scene.daemon.wait_runs("w", 4) {
        assert_eq!(outcome(&run), "timed out");
    }
    scene.is_unharmed();
    let (mut running, mut most) = (0, 0);
    for line in scene.daemon.wait_for(1, "runs", |line| line["watch"] == "w") {
        match message(&line) {
            "run started" => running += 1,
            "run ended" => running -= 1,
            _ => {}
        }
        most = most.max(running);
    }
    // How many runs there are in all depends on how fast the changes come.
    assert_eq!(most, 3);
}

/// Open descriptors of the daemon and of the launcher.
fn descriptors(scene: &Scene) -> [usize; 2] {
    let of = |pid: Pid| fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    [of(scene.daemon.pid()), of(scene.launcher)]
}

#[test]
fn fifty_runs_leave_nothing_open_and_nobody_behind() {
    let site = site();
    hostile(&site, "traps", &guest("unreachable"), "", "");
    hostile(&site, "ends", &guest("logs"), "", "");
    hostile(
        &site,
        "dies",
        &guest("infinite_loop"),
        "",
        "timeout=0.05, kill_after=0.01",
    );
    let scene = Scene::start(site);
    let all = |count| {
        for name in ["traps", "ends", "dies"] {
            scene.daemon.wait_runs(name, count);
        }
    };
    all(1);
    scene.is_unharmed();
    let before = descriptors(&scene);
    for change in 1..=50 {
        scene.site.set("/x", &change.to_string());
        all(change + 1);
    }
    scene.is_unharmed();
    until("as many descriptors as before", || descriptors(&scene) == before);
}
