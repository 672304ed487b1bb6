//! What operators do.

use super::*;
use crate::support::http::Events;

#[test]
fn a_run_on_request_is_for_what_the_node_is_now() {
    let site = Site::new();
    site.set("/a", "now");
    site.config(
        "a.twc",
        r#"
RegisterWatch(znode = "/a", action = Exec("cat; echo $TWITCHER_EVENT"), name = "queue", run_on_load = False)
RegisterWatch(znode = "/a", action = Exec("sleep 60"), name = "discard", run_mode = DISCARD)
RegisterWatch(znode = "/a", action = Exec("sleep 60"), name = "parallel", run_mode = PARALLEL)
RegisterWatch(znode = "/a", action = Exec("sleep 60"), name = "restart", run_mode = RESTART)
RegisterWatch(znode = "/none", action = Exec("true"), name = "none")
"#,
    );
    let daemon = Controlled::start(&site);
    daemon.until_state("queue", "armed");
    let mut events = Events::follow(&daemon.socket);
    let started = daemon.post("/v1/watches/queue/run").json();
    let run = started["run"].as_str().unwrap();
    events.until(|event| event["kind"] == "ended" && event["run"]["run"] == run);
    assert_eq!(daemon.get(&format!("/v1/runs/{run}")).json()["output"], "nowmanual\n");

    daemon.until_state("discard", "running");
    let refused = daemon.post("/v1/watches/discard/run");
    assert_eq!(refused.status, 409, "{refused:?}");

    daemon.until_state("parallel", "running");
    let second = daemon.post("/v1/watches/parallel/run").json();
    assert_eq!(second["watch"]["running"].as_array().unwrap().len(), 2, "{second}");

    let before = daemon.until_state("restart", "running");
    let waits = daemon.post("/v1/watches/restart/run").json();
    assert!(waits["run"].is_null() && waits["watch"]["state"] == "queued", "{waits}");
    let terminated = events.until(|event| event["kind"] == "ended" && event["watch"]["name"] == "restart");
    assert_eq!(
        (&terminated["run"]["run"], &terminated["run"]["outcome"]),
        (&before["running"][0], &"terminated".into())
    );
    events.until(|event| {
        event["kind"] == "started" && event["run"]["event"] == "manual" && event["watch"]["name"] == "restart"
    });

    daemon.until_state("none", "absent");
    let refused = daemon.post("/v1/watches/none/run");
    assert_eq!(refused.status, 409);
    assert!(refused.body.contains("does not exist"), "{refused:?}");
}

#[test]
fn a_paused_watch_waits_and_then_runs_once_for_the_newest() {
    let site = Site::new();
    site.set("/a", "1");
    site.config(
        "a.twc",
        r#"RegisterWatch(znode = "/a", action = Exec("cat >> OUT/a; echo >> OUT/a"), name = "a")"#,
    );
    let daemon = Controlled::start(&site);
    daemon.daemon.wait_runs("a", 1);
    let paused = daemon.post("/v1/watches/a/pause").json();
    assert_eq!(paused["state"], "paused");
    for value in ["2", "3", "4"] {
        site.set("/a", value);
        until("it was seen", || {
            daemon.watch("a")["seen"]["at"].as_str() > paused["seen"]["at"].as_str()
        });
    }
    // A file of the configuration that has nothing to do with it changes nothing.
    site.config(
        "b.twc",
        r#"RegisterWatch(znode = "/b", action = Exec("true"), name = "b")"#,
    );
    assert_eq!(daemon.post("/v1/reload").status, 200);
    assert_eq!(daemon.watch("a")["state"], "paused");
    let refused = daemon.post("/v1/watches/a/run");
    assert!(refused.status == 409 && refused.body.contains("paused"), "{refused:?}");
    daemon.daemon.wait("the last change was seen", |line| {
        line["message"] == "change seen" && line["watch"] == "a" && site.read("tree/a") == "4"
    });
    let resumed = daemon.post("/v1/watches/a/resume").json();
    assert_ne!(resumed["state"], "paused");
    until("it ran for the newest", || {
        site.lines("out/a").last().is_some_and(|line| line == "4")
    });
    assert!(site.lines("out/a").len() <= 3, "{:?}", site.lines("out/a"));
}

#[test]
fn resuming_ends_parking() {
    let site = Site::new();
    site.set("/a", "1");
    site.config(
        "a.twc",
        r#"RegisterWatch(znode = "/a", action = Exec("test -e OUT/fixed"), name = "a", on_failure = STOP)"#,
    );
    let daemon = Controlled::start(&site);
    daemon.until_state("a", "parked");
    let refused = daemon.post("/v1/watches/a/run");
    assert!(refused.status == 409 && refused.body.contains("parked"), "{refused:?}");
    site.write("out/fixed", "");
    // What failed is unhandled, and nothing else would run for it.
    assert_eq!(daemon.post("/v1/watches/a/resume").json()["state"], "running");
    until("it succeeded", || daemon.watch("a")["last_run"]["success"] == true);
    assert!(daemon.watch("a")["behind_since"].is_null());
    let runs = daemon.get("/v1/runs?watch=a").json();
    assert_eq!(runs["runs"][0]["event"], "retry", "{runs}");
}

#[test]
fn a_reload_is_answered_when_it_is_done_and_says_what_it_came_to() {
    let site = Site::new();
    site.config(
        "a.twc",
        r#"RegisterWatch(znode = "/a", action = Exec("true"), name = "a")"#,
    );
    let daemon = Controlled::start(&site);
    site.config(
        "a.twc",
        r#"RegisterWatch(znode = "/a", action = Exec("false"), name = "a")"#,
    );
    site.config(
        "b.twc",
        r#"RegisterWatch(znode = "/b", action = Exec("true"), name = "b")"#,
    );
    site.config("c.twc", "RegisterWatch(");
    let reloaded = daemon.post("/v1/reload").json();
    assert_eq!(reloaded["watches"], 2, "{reloaded}");
    assert!(
        reloaded["errors"][0].as_str().unwrap().contains("c.twc:1:"),
        "{reloaded}"
    );
    let status = daemon.get("/v1/status").json();
    assert_eq!(status["config"]["errors"], reloaded["errors"]);
    assert_eq!(daemon.watch("a")["command"], "false");
}

#[test]
fn a_drain_waits_for_what_runs_and_is_watched_to_the_end() {
    let site = Site::new();
    site.set("/a", "1");
    site.config(
        "a.twc",
        r#"RegisterWatch(znode = "/a", action = Exec("until test -e OUT/go; do sleep 0.05; done"), name = "a")"#,
    );
    let mut daemon = Controlled::start(&site);
    daemon.until_state("a", "running");
    let mut events = Events::follow(&daemon.socket);
    assert_eq!(daemon.post("/v1/drain").json()["phase"], "draining");
    events.until(|event| event["kind"] == "draining");
    assert_eq!(daemon.get("/readyz").status, 503);
    assert_eq!(daemon.get("/v1/status").json()["running"], 1);
    let refused = daemon.post("/v1/watches/a/run");
    assert_eq!(refused.status, 503, "{refused:?}");
    site.write("out/go", "");
    events.until(|event| event["kind"] == "ended" && event["run"]["outcome"] == "success");
    assert_eq!(daemon.daemon.ended().code(), Some(0));
    assert!(!daemon.socket.exists());
}

/// Whoever asks, and however much, holds nobody up.
#[test]
fn hammering_does_not_stop_actions() {
    let site = Site::new();
    site.set("/a", "1");
    site.config(
        "a.twc",
        r#"RegisterWatch(znode = "/a", action = Exec("true"), name = "a")"#,
    );
    let daemon = Controlled::start(&site);
    daemon.daemon.wait_runs("a", 1);
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        for path in ["/v1/status", "/v1/watches", "/metrics", "/v1/runs"] {
            let (stop, http) = (&stop, &daemon.http);
            scope.spawn(move || {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    assert_eq!(http::browse(http, "GET", path).status, 200);
                }
            });
        }
        for round in 2..12 {
            site.set("/a", &round.to_string());
            daemon.daemon.wait_runs("a", round);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    assert_eq!(daemon.get("/v1/status").status, 200);
}

#[test]
fn a_pause_outlives_the_daemon_but_not_the_watch() {
    let site = Site::new();
    site.set("/a", "1");
    let text = r#"RegisterWatch(znode = "/a", action = Exec("true"), name = "a")"#;
    site.config("a.twc", text);
    let first = Controlled::start(&site);
    first.daemon.wait_runs("a", 1);
    let paused = first.post("/v1/watches/a/pause?reason=until%20the%20release").json();
    let user = nix::unistd::User::from_uid(nix::unistd::geteuid())
        .unwrap()
        .unwrap()
        .name;
    let by = paused["paused"]["by"].as_str().unwrap();
    assert!(by.ends_with(&user), "{paused}");
    // Whoever pauses it again and has nothing to say takes nothing away.
    first.post("/v1/watches/a/pause");
    assert_eq!(first.watch("a")["paused"], paused["paused"]);
    first.daemon.stop();
    let second = Controlled::start(&site);
    until("the node was read, and waits", || {
        let watch = second.watch("a");
        watch["state"] == "paused" && watch["why"].as_str().unwrap().contains("an update waits")
    });
    let still = second.watch("a");
    assert_eq!(
        (&still["paused"]["by"], &still["paused"]["reason"]),
        (&paused["paused"]["by"], &"until the release".into())
    );
    assert!(still["why"].as_str().unwrap().contains("until the release"), "{still}");
    // Also when it watches another node from now on.
    site.config(
        "a.twc",
        r#"RegisterWatch(znode = "/b", action = Exec("true"), name = "a")"#,
    );
    assert_eq!(second.post("/v1/reload").json()["changed"], 1);
    second.daemon.stop();
    let second = Controlled::start(&site);
    assert_eq!(second.watch("a")["paused"]["reason"], "until the release");
    site.config("a.twc", "");
    assert_eq!(second.post("/v1/reload").json()["removed"], 1);
    site.config("a.twc", text);
    second.post("/v1/reload");
    second.daemon.wait_runs("a", 1);
}

#[test]
fn a_name_stays_with_its_file_over_a_restart() {
    let site = Site::new();
    let watch = |action: &str| format!(r#"RegisterWatch(znode = "/a", action = Exec("{action}"), name = "x")"#);
    site.config("m.twc", &watch("echo old"));
    let first = Controlled::start(&site);
    site.config("a.twc", &watch("echo new"));
    let reloaded = first.post("/v1/reload").json();
    assert!(
        reloaded["errors"][0].as_str().unwrap().contains("a.twc:1:"),
        "{reloaded}"
    );
    assert_eq!(first.watch("x")["command"], "echo old");
    first.daemon.stop();
    let second = Controlled::start(&site);
    assert_eq!(second.watch("x")["command"], "echo old");
    // Without a state nobody knows whose the name is.
    second.daemon.stop();
    std::fs::remove_dir_all(site.path("state")).unwrap();
    let third = Controlled::start(&site);
    assert_eq!(third.get("/v1/watches/x").status, 404);
    assert_eq!(
        third.get("/v1/status").json()["config"]["errors"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
}

#[test]
fn a_drain_says_until_when_and_terminates_then() {
    let site = Site::new();
    site.set("/a", "1");
    site.config(
        "a.twc",
        r#"RegisterWatch(znode = "/a", action = Exec("trap '' TERM; while :; do sleep 0.1; done"), name = "a", kill_after = 2)"#,
    );
    let socket = site.path("control.sock");
    let (tree, control) = (site.path("tree"), socket.to_string_lossy().into_owned());
    let mut daemon = site.start_with(&[
        "--tree",
        &tree.to_string_lossy(),
        "--control",
        &control,
        "--drain-timeout",
        "1",
    ]);
    until("it runs", || {
        http::operate(&socket, "GET", "/v1/status").json()["running"] == 1
    });
    let mut events = Events::follow(&socket);
    let answer = http::operate(&socket, "POST", "/v1/drain").json();
    assert_eq!(answer["drain"]["terminating"], false, "{answer}");
    let said = events.until(|event| event["kind"] == "draining");
    assert!(
        said["message"].as_str().unwrap().contains("terminated after 1 s"),
        "{said}"
    );
    until("it terminates", || {
        http::operate(&socket, "GET", "/v1/status").json()["drain"]["terminating"] == true
    });
    assert_eq!(daemon.ended().code(), Some(4));
}

#[test]
fn what_happened_is_there_for_whoever_asks_later() {
    let site = Site::new();
    site.set("/a", "1");
    site.config(
        "a.twc",
        r#"RegisterWatch(znode = "/a", action = Exec("true"), name = "a")"#,
    );
    let daemon = Controlled::start(&site);
    daemon.daemon.wait_runs("a", 1);
    until("it is told", || {
        let output = std::process::Command::new(crate::support::daemon::PROGRAM)
            .args(["events", "--control"])
            .arg(&daemon.socket)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        text.contains("configuration loaded") && text.contains("run ended: success")
    });
}

#[test]
fn logs_tells_where_the_log_of_a_run_ends() {
    let site = Site::new();
    site.set("/a", "1");
    site.config(
        "a.twc",
        r#"
RegisterWatch(znode = "/a", action = Exec("head -c 300000 /dev/zero | tr '\\0' x"), name = "some")
RegisterWatch(znode = "/a", action = Exec("head -c 3000000 /dev/zero | tr '\\0' x"), name = "flood")
"#,
    );
    let daemon = Controlled::start(&site);
    for (watch, expected) in [
        ("some", "KiB; the log has all of it\n"),
        ("flood", "MiB; the log has only the first 1 MiB\n"),
    ] {
        daemon.daemon.wait_runs(watch, 1);
        let output = std::process::Command::new(crate::support::daemon::PROGRAM)
            .args(["logs", watch, "--control"])
            .arg(&daemon.socket)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        let note = text.split_inclusive('\n').nth(1).unwrap();
        assert!(note.starts_with("the last 64") && note.ends_with(expected), "{note}");
    }
}
