//! When an action runs: run modes, nodes that come and go, failures.

use std::fs;

use nix::sys::signal::Signal;
use nix::unistd::Pid;

use super::{GATED, go, message, seen};
use crate::support::daemon::{Site, alive};
use crate::support::until;

#[test]
fn queue_remembers_only_the_newest() {
    let site = Site::new();
    site.set("/n", "1");
    site.config("a.twc", &format!("RegisterWatch('/n', {GATED}, name='q')"));
    let daemon = site.start();
    until("the first runs", || site.read("out/log") == "start 1\n");
    for data in ["2", "3", "4"] {
        seen(&daemon, &site, "q", "/n", data);
    }
    daemon.wait_for(3, "queued lines", message("q", "update queued"));
    go(&site, "1");
    go(&site, "4");
    daemon.wait_runs("q", 2);
    assert_eq!(site.lines("out/log"), ["start 1", "end 1", "start 4", "end 4"]);
    // Nothing is left over that would run later.
    seen(&daemon, &site, "q", "/n", "5");
    go(&site, "5");
    daemon.wait_runs("q", 3);
    assert_eq!(site.lines("out/log")[4..], ["start 5", "end 5"]);
}

#[test]
fn discard_ignores_for_good() {
    let site = Site::new();
    site.set("/n", "1");
    site.config(
        "a.twc",
        &format!("RegisterWatch('/n', {GATED}, run_mode=DISCARD, name='d')"),
    );
    let daemon = site.start();
    until("the first runs", || site.read("out/log") == "start 1\n");
    seen(&daemon, &site, "d", "/n", "2");
    daemon.wait("ignored", message("d", "update ignored"));
    go(&site, "1");
    daemon.wait_runs("d", 1);
    seen(&daemon, &site, "d", "/n", "3");
    go(&site, "3");
    daemon.wait_runs("d", 2);
    assert_eq!(site.lines("out/log"), ["start 1", "end 1", "start 3", "end 3"]);
}

#[test]
fn parallel_runs_at_once_up_to_its_cap() {
    let site = Site::new();
    site.set("/n", "1");
    site.config(
        "a.twc",
        &format!("RegisterWatch('/n', {GATED}, run_mode=PARALLEL, max_parallel=2, name='p')"),
    );
    let daemon = site.start();
    until("the first runs", || site.lines("out/log").len() == 1);
    seen(&daemon, &site, "p", "/n", "2");
    until("the second runs beside it", || {
        site.lines("out/log") == ["start 1", "start 2"]
    });
    seen(&daemon, &site, "p", "/n", "3");
    daemon.wait("the third waits", message("p", "update queued"));
    assert_eq!(site.lines("out/log").len(), 2);
    go(&site, "2");
    until("the third took its place", || {
        site.lines("out/log") == ["start 1", "start 2", "end 2", "start 3"]
    });
    go(&site, "1");
    go(&site, "3");
    daemon.wait_runs("p", 3);
}

#[test]
fn restart_terminates_and_runs_the_newest_never_two_at_once() {
    let site = Site::new();
    site.set("/n", "1");
    // The action cleans up for a while when it is terminated: the next one must wait for that.
    let action = "trap 'sleep 0.2; echo end >> OUT/log; exit' TERM; echo \"start $(cat)\" >> OUT/log; while :; do sleep 0.01; done";
    site.config(
        "a.twc",
        &format!("RegisterWatch('/n', Exec({action:?}), run_mode=RESTART, name='r')"),
    );
    let daemon = site.start();
    until("the first runs", || site.lines("out/log").len() == 1);
    seen(&daemon, &site, "r", "/n", "2");
    seen(&daemon, &site, "r", "/n", "3");
    until("the newest runs", || site.read("out/log").contains("start 3"));
    assert_eq!(site.lines("out/log"), ["start 1", "end", "start 3"]);
    assert_eq!(daemon.wait_runs("r", 1)[0]["outcome"], "terminated");
}

#[test]
fn notify_signal_is_sent_at_every_update() {
    let site = Site::new();
    site.set("/n", "1");
    let action = "trap 'echo told >> OUT/log' USR1; echo ready >> OUT/log; while [ ! -e OUT/go ]; do sleep 0.01; done";
    site.config(
        "a.twc",
        &format!("RegisterWatch('/n', Exec({action:?}), notify_signal=SIGUSR1, name='n')"),
    );
    let daemon = site.start();
    until("it is ready", || site.lines("out/log").len() == 1);
    for (count, data) in ["2", "3", "4"].iter().enumerate() {
        site.set("/n", data);
        until("the action was told", || site.lines("out/log").len() == 2 + count);
    }
    site.write("out/go", "");
    daemon.wait_runs("n", 2);
}

#[test]
fn a_timeout_is_an_outcome_and_the_next_change_runs() {
    let site = Site::new();
    site.set("/n", "hang");
    let action = "trap '' TERM; if [ $(cat) = hang ]; then echo $$ > OUT/pid; sleep 1000; sleep 1000; fi";
    site.config(
        "a.twc",
        &format!("RegisterWatch('/n', Exec({action:?}), timeout=0.3, kill_after=0.2, name='t')"),
    );
    let daemon = site.start();
    let ended = daemon.wait_runs("t", 1).remove(0);
    assert_eq!(
        (&ended["outcome"], &ended["level"]),
        (&"timed out".into(), &"WARN".into())
    );
    assert!(!alive(Pid::from_raw(site.read("out/pid").trim().parse().unwrap())));
    site.set("/n", "fine");
    assert_eq!(daemon.wait_runs("t", 2)[1]["outcome"], "success");
}

#[test]
fn nodes_that_come_go_and_come_again() {
    let site = Site::new();
    site.config(
        "a.twc",
        r#"RegisterWatch("/late/node", Exec("echo $TWITCHER_EVENT $(cat) >> OUT/log"), on_delete=True, name="n")"#,
    );
    let daemon = site.start();
    daemon.wait("armed though absent", |line| {
        line["watch"] == "n" && line["message"].as_str().is_some_and(|m| m.contains("absent"))
    });
    site.set("/late/node", "a");
    daemon.wait_runs("n", 1);
    fs::remove_file(site.path("tree/late/node")).unwrap();
    daemon.wait_runs("n", 2);
    site.set("/late/node", "b");
    daemon.wait_runs("n", 3);
    assert_eq!(site.lines("out/log"), ["created a", "deleted", "created b"]);
}

#[test]
fn children_and_trees_are_watched() {
    let site = Site::new();
    site.set("/hosts/b", "1");
    site.config(
        "a.twc",
        r#"
RegisterWatch("/hosts", Exec("tr '\n' ' ' >> OUT/children; echo >> OUT/children"), watch_type=WATCH_CHILDREN, name="c")
RegisterWatch("/hosts", Exec("tr '\n' ' ' >> OUT/tree; echo >> OUT/tree"), watch_type=WATCH_TREE, run_on_load=False, name="t")
"#,
    );
    let daemon = site.start();
    daemon.wait_runs("c", 1);
    daemon.wait("armed", message("t", "watch armed"));
    site.set("/hosts/a", "1");
    daemon.wait_runs("c", 2);
    daemon.wait_runs("t", 1);
    site.set("/hosts/b", "2");
    daemon.wait_runs("t", 2);
    assert_eq!(
        site.lines("out/children"),
        ["b ", "a b "],
        "a changed child's data is no change of the children"
    );
    assert_eq!(site.lines("out/tree").last().unwrap(), "/hosts/b ");
}

#[test]
fn stop_parks_the_watch_until_its_file_changes() {
    let site = Site::new();
    site.set("/n", "bad");
    let config = |comment: &str| {
        format!(
            "RegisterWatch('/n', Exec('read d; echo $d >> OUT/log; [ $d = good ]'), on_failure=STOP, name='s', description='{comment}')"
        )
    };
    site.config("a.twc", &config("one"));
    let daemon = site.start();
    assert_eq!(daemon.wait_runs("s", 1)[0]["outcome"], "exit code 1");
    daemon.wait("parked", message("s", "watch parked"));
    seen(&daemon, &site, "s", "/n", "good\n");
    assert_eq!(site.lines("out/log"), ["bad"]);
    site.config("a.twc", &config("two"));
    daemon.wait_runs("s", 2);
    assert_eq!(site.lines("out/log"), ["bad", "good"]);
}

#[test]
fn sighup_brings_a_parked_watch_back_with_the_latest_state() {
    let site = Site::new();
    site.set("/n", "bad");
    let action = "read d; echo $d >> OUT/log; [ $d = good ]";
    site.config(
        "a.twc",
        &format!("RegisterWatch('/n', Exec({action:?}), on_failure=STOP, name='s')"),
    );
    let daemon = site.start();
    daemon.wait("parked", message("s", "watch parked"));
    seen(&daemon, &site, "s", "/n", "good\n");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_runs("s", 2);
    assert_eq!(site.lines("out/log"), ["bad", "good"]);
}

#[test]
fn a_launch_error_is_told_from_an_exit_code() {
    let site = Site::new();
    site.set("/n", "x");
    site.config("a.twc", r#"RegisterWatch("/n", Exec(["/no/such/program"]), name="n")"#);
    let daemon = site.start();
    let outcome = daemon.wait_runs("n", 1)[0]["outcome"].clone();
    assert_eq!(
        outcome,
        "cannot execute \"/no/such/program\": No such file or directory (os error 2)"
    );
}
