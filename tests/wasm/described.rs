//! Components in watches with `payload = JSON`, and those that were built before there was such a thing.

use std::process::Command;

use super::{message, open_out, outcome, watch};
use crate::support::daemon::{Daemon, PROGRAM, Site};
use crate::support::guests::{guest, guest_of_1_0_0};
use crate::support::until;

const OUT: &str = "dirs={'/out': 'OUT:rw'}";

/// Whether the facts that `echo` has written have these lines.
#[track_caller]
fn has(site: &Site, lines: &[&str]) {
    let facts = site.read("out/echo");
    for line in lines {
        assert!(facts.lines().any(|fact| fact == *line), "no {line:?} in\n{facts}");
    }
}

#[test]
fn a_component_is_told_of_a_change_in_types_and_as_the_document() {
    let site = Site::new();
    open_out(&site);
    site.set("/x", "first");
    watch(&site, &guest("echo"), OUT, "payload=JSON, on_delete=True");
    let daemon = site.start();
    daemon.wait_runs("w", 1);
    has(
        &site,
        &[
            r#"content: Some(Ok("first"))"#,
            "nodes: None",
            "fates: None",
            "difference: None",
            "children: None",
            "changed: None",
            "since: None",
        ],
    );
    let facts = site.read("out/echo");
    let document = facts.lines().find_map(|line| line.strip_prefix("data: ")).unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(document).unwrap()["data"],
        "first"
    );
    assert!(facts.contains(&format!("stdin: {document}")), "{facts}");
    drop(daemon);

    let site = Site::new();
    open_out(&site);
    site.set("/x/a", "1");
    watch(&site, &guest("echo"), OUT, "payload=JSON, watch_type=WATCH_CHILDREN");
    let daemon = site.start();
    daemon.wait_runs("w", 1);
    has(
        &site,
        &[
            r#"children: Some(["a"])"#,
            r#"difference: Some((["a"], []))"#,
            "content: None",
        ],
    );
    std::fs::rename(site.path("tree/x/a"), site.path("tree/x/b")).unwrap();
    until("the children", || {
        site.read("out/echo").contains(r#"children: Some(["b"])"#)
    });
    has(&site, &[r#"difference: Some((["b"], ["a"]))"#]);
    drop(daemon);

    let site = Site::new();
    open_out(&site);
    site.set("/x/a", "1");
    watch(&site, &guest("echo"), OUT, "payload=JSON, watch_type=WATCH_TREE");
    let daemon = site.start();
    daemon.wait_runs("w", 1);
    has(
        &site,
        &[
            r#"nodes: Some([("/x", Some([])), ("/x/a", Some([49]))])"#,
            r#"fates: Some([("/x", Fate::Created), ("/x/a", Fate::Created)])"#,
            r#"changed: Some(["/x", "/x/a"])"#,
        ],
    );
}

#[test]
fn the_sdk_gives_the_subtree() {
    let site = Site::new();
    open_out(&site);
    site.set("/x/db/host", "one");
    site.set("/x/port", "80");
    watch(&site, &guest("tree_by_sdk"), OUT, "payload=JSON, watch_type=WATCH_TREE");
    let daemon = site.start();
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
    assert_eq!(
        site.lines("out/tree"),
        [
            r#"/x Some("")"#,
            r#"/x/db Some("")"#,
            r#"/x/db/host Some("one")"#,
            r#"/x/port Some("80")"#
        ]
    );
    site.set("/x/db/host", "two");
    daemon.wait_runs("w", 2);
    assert_eq!(
        site.lines("out/changed"),
        ["/x/db/host Set", r#"version 0 host Some("two") since true"#]
    );
    // Without the payload it says what it lacks.
    watch(&site, &guest("tree_by_sdk"), OUT, "watch_type=WATCH_TREE");
    let failed = daemon.wait_runs("w", 3).remove(2);
    assert!(
        outcome(&failed).contains("watch_type = WATCH_TREE, payload = JSON"),
        "{failed}"
    );
}

/// What the old component has logged under a name.
fn told(daemon: &Daemon, name: &str) -> String {
    let begin = format!("{name} value=");
    let line = daemon.wait(name, |line| line["watch"] == "w" && message(line).starts_with(&begin));
    message(&line)[begin.len()..].to_owned()
}

#[test]
fn what_was_built_against_an_older_version_runs_as_ever() {
    let site = Site::new();
    site.set("/x", "first");
    site.set("/other", "there");
    let grants = |ok: &str| {
        format!("config={{'ok': '{ok}'}}, commands={{'greet': ['/bin/echo', 'hello']}}, znodes={{'/other': 'r'}}")
    };
    watch(&site, &guest_of_1_0_0(), &grants("no"), "");
    let check = Command::new(PROGRAM)
        .arg("check")
        .arg(site.path("conf"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&check.stderr).into_owned() + &String::from_utf8_lossy(&check.stdout);
    assert!(!check.status.success() && said.contains("ok is \"no\""), "{said}");

    watch(&site, &guest_of_1_0_0(), &grants("yes"), "timeout=60");
    let daemon = site.start();
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
    for (name, value) in [
        ("data", "first"),
        ("path", "/x"),
        ("event", "EventKind::Load"),
        ("children", "None"),
        ("changed", "None"),
        ("attempt", "1"),
        ("watch", "w"),
        ("deadline", "true"),
        ("cancel", "None"),
        ("config", r#"[("ok", "yes")]"#),
        ("command", r"hello\n"),
        ("znode", "there"),
    ] {
        assert_eq!(told(&daemon, name), value, "{name}");
    }
    drop(daemon);

    // With a payload that it knows nothing of, too: it finds the document where it looks for data.
    let site = Site::new();
    site.set("/x/a", "1");
    site.set("/other", "there");
    watch(
        &site,
        &guest_of_1_0_0(),
        &grants("yes"),
        "watch_type=WATCH_TREE, payload=JSON",
    );
    let daemon = site.start();
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
    assert_eq!(told(&daemon, "changed"), r#"Some(["/x", "/x/a"])"#);
    let document: serde_json::Value = serde_json::from_str(&told(&daemon, "data")).unwrap();
    assert_eq!(document["nodes"]["/x/a"]["data"], "1");
}

#[test]
fn a_document_can_be_tried_and_what_needs_it_is_told() {
    let site = Site::new();
    open_out(&site);
    let stat = r#"{"czxid": 1, "mzxid": 1, "version": 7}"#;
    let document = format!(
        r#"{{"version": 1, "run": "1m8bsqv640000", "watch": "a", "znode": "/app", "watch_type": "tree", "event": "tree",
            "attempt": 1, "stat": {stat}, "since": "1m8bsqv640000",
            "nodes": {{"/app": {{"stat": {stat}, "data": "x"}}}}, "changed": {{"/app": "set"}}}}"#
    );
    site.write("document.json", &document);
    let component = guest("tree_by_sdk");
    let out = format!("/out={}:rw", site.path("out").display());
    let run = |payload: &str| {
        let mut command = Command::new(PROGRAM);
        command.args(["plugin", "run"]).arg(&component);
        let file = site.path(payload);
        let output = command
            .args(["--dir", &out, "--payload"])
            .arg(file)
            .env("XDG_CACHE_HOME", site.path("cache"))
            .output()
            .unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&text).into_owned())
    };
    let (succeeded, said) = run("document.json");
    assert!(succeeded, "{said}");
    assert_eq!(site.lines("out/tree"), [r#"/app Some("x")"#]);
    assert_eq!(
        site.lines("out/changed"),
        ["/app Set", "version 7 host None since true"]
    );
    site.write("other.json", "[]");
    let (succeeded, said) = run("other.json");
    assert!(
        !succeeded && said.contains("is no description of a change (`twitcher schema --payload`"),
        "{said}"
    );

    let inspected = Command::new(PROGRAM)
        .args(["plugin", "inspect"])
        .arg(&component)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&inspected.stdout).into_owned();
    assert!(said.contains("  twitcher:action/change@1.1.0\n"), "{said}");
    assert!(said.contains("        payload = JSON, "), "{said}");
    assert!(said.contains("twitcher-sdk 1.1.0"), "{said}");
}
