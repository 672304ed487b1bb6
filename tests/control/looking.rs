//! What a daemon says of itself.

use super::*;
use crate::support::http::Events;

#[test]
fn why_it_ran_and_why_not() {
    let site = Site::new();
    site.set("/good", "1");
    site.set("/bad", "1");
    site.set("/slow", "1");
    site.set("/empty", "");
    site.config(
        "a.twc",
        r#"
RegisterWatch(znode = "/good", action = Exec("echo fine; echo worse >&2"), name = "good")
RegisterWatch(znode = "/bad", action = Exec("exit 3"), name = "bad", on_failure = STOP)
RegisterWatch(znode = "/slow", action = Exec("echo begun; sleep 60"), name = "slow", run_mode = QUEUE)
RegisterWatch(znode = "/none", action = Exec("true"), name = "none")
RegisterWatch(znode = "/empty", action = Exec("true"), name = "empty", refuse_empty = True)
RegisterWatch(znode = "/good", action = Exec("true"), name = "later", settle = 600, run_on_load = False)
"#,
    );
    let daemon = Controlled::start(&site);
    daemon.daemon.wait_runs("good", 1);
    daemon.daemon.wait_runs("bad", 1);

    let good = daemon.until_state("good", "armed");
    assert_eq!(good["seen"]["zxid"], good["handled"]["zxid"], "{good}");
    assert_eq!(
        (&good["behind_since"], &good["last_run"]["success"]),
        (&Value::Null, &true.into())
    );
    assert_eq!(good["origin"].as_str().unwrap().rsplit_once(':').unwrap().1, "2");
    assert_eq!(
        (&good["command"], &good["action"]),
        (&"echo fine; echo worse >&2".into(), &"shell".into())
    );
    let run = &good["runs"][0];
    assert_eq!(
        (&run["outcome"], &run["event"], &run["exit_code"]),
        (&"success".into(), &"load".into(), &0.into())
    );
    let detail = daemon.get(&format!("/v1/runs/{}", run["run"].as_str().unwrap())).json();
    assert!(detail["output"].as_str().unwrap().contains("fine\n"), "{detail}");
    assert_eq!(
        (&detail["truncated"], &detail["output_bytes"]),
        (&false.into(), &11.into())
    );

    let bad = daemon.until_state("bad", "parked");
    assert!(bad["why"].as_str().unwrap().contains("; on_failure is STOP"), "{bad}");
    assert!(bad["handled"].is_null() && !bad["behind_since"].is_null(), "{bad}");
    assert_eq!(
        bad["settings"],
        serde_json::json!([{"key": "on_failure", "value": "STOP"}])
    );

    let slow = daemon.until_state("slow", "running");
    site.set("/slow", "2");
    let queued = daemon.until_state("slow", "queued");
    assert!(
        queued["why"].as_str().unwrap().contains("running action to end"),
        "{queued}"
    );
    assert_eq!(slow["running"], queued["running"]);
    let id = slow["running"][0].as_str().unwrap().to_owned();
    until("its output is there while it runs", || {
        daemon.get(&format!("/v1/runs/{id}")).json()["output"] == "begun\n"
    });
    let running = daemon.get("/v1/runs?outcome=running").json();
    assert_eq!(
        (&running["runs"][0]["run"], running["runs"].as_array().unwrap().len()),
        (&id.as_str().into(), 1)
    );
    assert!(running["runs"][0]["pid"].as_i64().unwrap() > 1);

    daemon.until_state("none", "absent");
    daemon.until_state("empty", "refused_empty");
    site.set("/good", "2");
    let later = daemon.until_state("later", "settling");
    assert!(!later["next_attempt"].is_null(), "{later}");

    let status = daemon.get("/v1/status").json();
    assert_eq!(
        (&status["phase"], &status["source"]["connected"]),
        (&"ready".into(), &true.into())
    );
    assert_eq!(status["pid"], daemon.daemon.pid().as_raw());
    let all: u64 = status["watches"]
        .as_array()
        .unwrap()
        .iter()
        .map(|count| count["count"].as_u64().unwrap())
        .sum();
    assert_eq!(all, 6);
    assert_eq!(daemon.get("/readyz").body, "ready\n");

    let failed = daemon.get("/v1/runs?outcome=exited&watch=bad&limit=5").json();
    assert_eq!(failed["runs"][0]["exit_code"], 3);
    assert!(failed["before"].is_null());
    let first = daemon.get("/v1/runs?limit=1").json();
    let before = first["before"].as_str().unwrap();
    let second = daemon.get(&format!("/v1/runs?limit=1&before={before}")).json();
    assert!(second["runs"][0]["run"].as_str().unwrap() < before);
}

#[test]
fn events_tell_what_happens_as_it_does() {
    let site = Site::new();
    site.set("/a", "1");
    site.config(
        "a.twc",
        r#"RegisterWatch(znode = "/a", action = Exec("echo out"), name = "a", run_on_load = False)"#,
    );
    let daemon = Controlled::start(&site);
    daemon.until_state("a", "armed");
    let mut events = Events::follow(&daemon.socket);
    site.set("/a", "2");
    let changed = events.until(|event| event["kind"] == "changed");
    assert_eq!(
        (&changed["watch"]["name"], &changed["message"]),
        (&"a".into(), &"/a changed".into())
    );
    let started = events.until(|event| event["kind"] == "started");
    assert_eq!(
        (&started["run"]["event"], &started["watch"]["state"]),
        (&"data".into(), &"running".into())
    );
    let ended = events.until(|event| event["kind"] == "ended");
    assert_eq!(
        (&ended["run"]["outcome"], &ended["watch"]["state"]),
        (&"success".into(), &"armed".into())
    );
    // What an event tells of can be asked for at once, though it is written to the disk only a little later.
    let detail = daemon
        .get(&format!("/v1/runs/{}", ended["run"]["run"].as_str().unwrap()))
        .json();
    assert_eq!(detail["output"], "out\n");
}

/// What has been read and what has been handled survives the daemon, and so does what it says of it.
#[test]
fn what_was_handled_is_known_after_a_restart() {
    let site = Site::new();
    site.set("/a", "1");
    site.config(
        "a.twc",
        r#"RegisterWatch(znode = "/a", action = Exec("true"), name = "a", run_on_load = IF_CHANGED)"#,
    );
    let first = Controlled::start(&site);
    first.daemon.wait_runs("a", 1);
    let before = first.watch("a");
    first.daemon.stop();
    let second = Controlled::start(&site);
    let after = second.until_state("a", "armed");
    assert_eq!(before["handled"]["zxid"], after["handled"]["zxid"]);
    assert_eq!(after["runs"].as_array().unwrap().len(), 1);
}
