//! `refuse_shrink`: a state that lost too much is not run for until somebody accepts it.

use std::path::Path;

use serde_json::Value;

use crate::control::Controlled;
use crate::support::daemon::{Daemon, PROGRAM, Site};

fn refused(line: &Value) -> bool {
    line["watch"] == "w"
        && line["message"]
            .as_str()
            .is_some_and(|message| message.starts_with("update ignored: the node shrank from 10 to 4 bytes"))
}

#[test]
fn a_state_that_lost_too_much_waits_for_an_operator_also_across_restarts() {
    let site = Site::new();
    site.set("/n", "0123456789");
    site.config(
        "a.twc",
        "RegisterWatch('/n', Exec('cat >> OUT/log; echo >> OUT/log'), name='w', refuse_shrink=0.5)",
    );
    let daemon = Controlled::start(&site);
    daemon.daemon.wait_runs("w", 1);
    daemon.until_state("w", "armed");
    site.set("/n", "0123");
    let watch = daemon.until_state("w", "refused_shrink");
    let why = watch["why"].as_str().unwrap();
    assert!(
        why.starts_with(
            "the node shrank from 10 to 4 bytes since the last success and refuse_shrink is 0.5, refused since "
        ),
        "{why}"
    );
    daemon.daemon.wait("it is in the log", refused);
    assert_eq!(
        watch["settings"],
        serde_json::json!([{"key": "refuse_shrink", "value": "0.5"}])
    );
    let events = daemon.get("/v1/metrics").body + &daemon.get("/metrics").body;
    assert!(events.contains("refused_shrink"), "{events}");

    // What the last success was for, and since when the node is refused, outlives the daemon; also one that is killed.
    crate::state::until_stored(
        &site,
        "SELECT refused_at IS NOT NULL AND size = 10 FROM watch WHERE name = 'w'",
    );
    daemon.daemon.crash();
    let daemon = Controlled::start(&site);
    let after = daemon.until_state("w", "refused_shrink");
    assert_eq!(after["why"], why, "since the same time");
    assert_eq!(site.lines("out/log"), ["0123456789"], "{after}");

    let answer = daemon.post("/v1/watches/w/run");
    assert!((200..300).contains(&answer.status), "{answer:?}");
    daemon.daemon.wait_runs("w", 1);
    daemon.until_state("w", "armed");
    assert_eq!(site.lines("out/log"), ["0123456789", "0123"]);
    // From now on that is what there was.
    site.set("/n", "01");
    daemon.daemon.wait_runs("w", 2);
    site.set("/n", "");
    daemon.until_state("w", "refused_shrink");
}

#[test]
fn once_says_that_a_refused_state_is_not_handled() {
    let site = Site::new();
    site.set("/n", "0123456789");
    site.config(
        "a.twc",
        "RegisterWatch('/n', Exec('cat >> OUT/log'), name='w', refuse_shrink=0.5)",
    );
    let (tree, state) = (site.path("tree"), site.path("state"));
    let once = || {
        let arguments = [
            "--tree",
            tree.to_str().unwrap(),
            "--state-dir",
            state.to_str().unwrap(),
            "--once",
        ];
        let mut daemon = Daemon::spawn(Path::new(PROGRAM), &site.path("conf"), &arguments, &[]);
        (daemon.ended().code(), daemon.text())
    };
    assert_eq!(once().0, Some(0));
    site.set("/n", "0");
    let (code, log) = once();
    assert_eq!(code, Some(1));
    assert!(
        log.contains("its action has not run: the node shrank from 10 to 1 bytes"),
        "{log}"
    );
    assert_eq!(site.read("out/log"), "0123456789");
}

#[test]
fn children_and_subtrees_are_counted() {
    let site = Site::new();
    for name in ["a", "b", "c", "d"] {
        site.set(&format!("/hosts/{name}"), "1");
    }
    site.config(
        "a.twc",
        r#"
RegisterWatch("/hosts", Exec("true"), watch_type=WATCH_CHILDREN, name="c", refuse_shrink=0.5)
RegisterWatch("/hosts", Exec("true"), watch_type=WATCH_TREE, name="t", refuse_shrink=0.5)
"#,
    );
    let daemon = Controlled::start(&site);
    for name in ["c", "t"] {
        daemon.daemon.wait_runs(name, 1);
        daemon.until_state(name, "armed");
    }
    std::fs::rename(site.path("tree/hosts"), site.path("tree/.gone")).unwrap();
    site.set("/hosts/a", "1");
    let why = |name| daemon.until_state(name, "refused_shrink")["why"].clone();
    assert!(
        why("c").as_str().unwrap().contains("from 4 to 1 children"),
        "{}",
        why("c")
    );
    assert!(
        why("t").as_str().unwrap().contains("from 5 to 2 znodes"),
        "{}",
        why("t")
    );
}
