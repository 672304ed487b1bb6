//! `payload = JSON`: what actions find on stdin, and what is refused.

use std::fs;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::daemon::{Daemon, PROGRAM, Site};
use crate::support::schema::{is_payload, printed};
use crate::support::until;
use crate::support::writer::Writer;
use crate::support::zookeeper::{ZooKeeperServer, unique_path};

/// Notes each document as a line.
const NOTE: &str = "Exec('cat >> OUT/log; echo >> OUT/log')";

/// The documents so far, once there are so many. Each is as the schema says that is printed.
fn documents(site: &Site, count: usize) -> Vec<Value> {
    until("the documents", || site.read("out/log").matches('\n').count() >= count);
    let parse = |line: String| serde_json::from_str(&line).unwrap();
    let documents: Vec<Value> = site.lines("out/log").into_iter().map(parse).collect();
    for document in &documents {
        is_payload(document).unwrap_or_else(|error| panic!("{error:#}\n{document:#}"));
    }
    documents
}

/// The keys of an object.
fn keys(object: &Value) -> Vec<&str> {
    object.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn data_and_children_are_described() {
    let site = Site::new();
    site.set("/a", "text");
    site.config(
        "a.twc",
        &format!("RegisterWatch('/a', {NOTE}, name='a', payload=JSON, on_delete=True)\n"),
    );
    let daemon = site.start();
    let first = &documents(&site, 1)[0];
    assert_eq!(
        (
            &first["version"],
            &first["event"],
            &first["znode"],
            &first["watch_type"],
            &first["data"]
        ),
        (&json!(1), &json!("load"), &json!("/a"), &json!("data"), &json!("text"))
    );
    fs::write(site.path("tree/.draft"), b"\xff\x00").unwrap();
    fs::rename(site.path("tree/.draft"), site.path("tree/a")).unwrap();
    let second = &documents(&site, 2)[1];
    assert_eq!((second.get("data"), &second["data_base64"]), (None, &json!("/wA=")));
    assert_eq!(second["since"], first["run"]);
    fs::remove_file(site.path("tree/a")).unwrap();
    let third = &documents(&site, 3)[2];
    assert_eq!(
        (&third["event"], &third["stat"], third.get("data")),
        (&json!("deleted"), &Value::Null, None)
    );
    drop(daemon);

    let site = Site::new();
    site.set("/a/x", "");
    site.config(
        "a.twc",
        &format!("RegisterWatch('/a', {NOTE}, name='a', payload=JSON, watch_type=WATCH_CHILDREN)\n"),
    );
    let _daemon = site.start();
    let first = documents(&site, 1);
    assert_eq!(
        first[0]["children"],
        json!({"names": ["x"], "added": ["x"], "removed": []})
    );
    site.set("/a/y", "");
    let second = documents(&site, 2);
    assert_eq!(
        second[1]["children"],
        json!({"names": ["x", "y"], "added": ["y"], "removed": []})
    );
}

#[test]
fn a_tree_is_whole_and_a_change_is_told_until_a_run_succeeds() {
    let site = Site::new();
    site.set("/app/db/host", "one");
    site.set("/app/port", "80");
    site.config(
        "a.twc",
        "RegisterWatch('/app', Exec('cat >> OUT/log; echo >> OUT/log; [ ! -e OUT/fail ]'), name='a', watch_type=WATCH_TREE, \
         payload=JSON, on_delete=True)\n",
    );
    let daemon = site.start();
    let first = documents(&site, 1).remove(0);
    assert_eq!(keys(&first["nodes"]), ["/app", "/app/db", "/app/db/host", "/app/port"]);
    assert_eq!(first["nodes"]["/app/db/host"]["data"], "one");
    assert_eq!(
        (&first["nodes"]["/app"]["data"], &first["changed"]["/app/port"]),
        (&json!(""), &json!("created"))
    );
    daemon.wait_runs("a", 1);

    site.write("out/fail", "");
    site.set("/app/db/host", "two");
    let second = documents(&site, 2).remove(1);
    assert_eq!(second["nodes"]["/app/db/host"]["data"], "two");
    assert_eq!(second["nodes"]["/app/port"]["data"], "80");
    assert_eq!(second["changed"], json!({"/app/db/host": "set"}));
    daemon.wait_runs("a", 2);

    fs::remove_file(site.path("out/fail")).unwrap();
    fs::remove_file(site.path("tree/app/port")).unwrap();
    let third = documents(&site, 3).remove(2);
    assert_eq!(third["changed"], json!({"/app/db/host": "set", "/app/port": "deleted"}));
    assert_eq!(third["since"], first["run"]);
    daemon.wait_runs("a", 3);

    fs::rename(site.path("tree/app"), site.path("tree/.gone")).unwrap();
    let gone = documents(&site, 4).remove(3);
    assert_eq!((&gone["nodes"], &gone["event"]), (&json!({}), &json!("deleted")));
    assert_eq!(gone["changed"]["/app/db"], "deleted");
}

#[test]
fn a_watch_that_takes_to_json_gets_the_nodes() {
    let site = Site::new();
    site.set("/app/port", "80");
    let text = |payload| format!("RegisterWatch('/app', {NOTE}, name='a', watch_type=WATCH_TREE{payload})\n");
    site.config("a.twc", &text(""));
    let daemon = site.start();
    daemon.wait_runs("a", 1);
    assert_eq!(site.lines("out/log"), ["/app", "/app/port", ""]);
    fs::remove_file(site.path("out/log")).unwrap();
    site.config("a.twc", &text(", payload=JSON"));
    let documents = documents(&site, 1);
    assert_eq!(documents[0]["nodes"]["/app/port"]["data"], "80");
}

#[test]
fn a_function_has_it_as_a_dict() {
    let site = Site::new();
    site.set("/app/db/host", "one");
    site.config(
        "a.twc",
        r#"
def f():
    nodes = change()["nodes"]
    text = "".join(["%s=%s\n" % (path, node["data"]) for path, node in nodes.items() if node["data"]])
    open("OUT/f", "w").write(text + change()["event"] + "\n")
RegisterWatch("/app", f, name="f", watch_type=WATCH_TREE, payload=JSON)
def g():
    change()
RegisterWatch("/app", g, name="g", watch_type=WATCH_TREE)
"#,
    );
    let daemon = site.start();
    daemon.wait_runs("f", 1);
    assert_eq!(site.read("out/f"), "/app/db/host=one\nload\n");
    daemon.wait("what it needs", |line| {
        let message = line["message"].as_str().unwrap_or_default();
        line["watch"] == "g" && message.contains("give the watch payload = JSON")
    });
}

#[test]
fn more_than_is_passed_on_is_refused_with_words() {
    let site = Site::new();
    site.set("/a", &"\u{1}".repeat((16 << 20) / 6));
    for number in 0..17 {
        site.set(&format!("/tree/{number}"), &"x".repeat(1 << 20));
    }
    site.config(
        "a.twc",
        &format!(
            "RegisterWatch('/a', {NOTE}, name='a', payload=JSON)\n\
             RegisterWatch('/tree', {NOTE}, name='t', payload=JSON, watch_type=WATCH_TREE)\n\
             RegisterWatch('/tree', Exec('cat > OUT/paths'), name='p', watch_type=WATCH_TREE)\n"
        ),
    );
    let tree = site.path("tree");
    let daemon = site.start_with(&["--tree", tree.to_str().unwrap(), "--max-znode-size", "4MiB"]);
    let says = |watch: &'static str, words: &'static str| {
        daemon.wait(words, move |line| {
            line["watch"] == watch && line.to_string().contains(words)
        });
    };
    says("a", "of which there may be 16 MiB (leave payload out)");
    says("t", "more than 16 MiB together, the most that payload = JSON takes");
    daemon.wait_runs("p", 1);
    assert_eq!(site.lines("out/paths").len(), 18);
    assert!(!site.path("out/log").exists());
    // Once it is less it is run for.
    fs::remove_file(site.path("tree/tree/0")).unwrap();
    fs::remove_file(site.path("tree/tree/1")).unwrap();
    assert_eq!(keys(&documents(&site, 1)[0]["nodes"]).len(), 16);
}

/// Changes a znode at the server.
fn znode(server: &ZooKeeperServer, arguments: &[&str]) {
    let mut command = Command::new(PROGRAM);
    let (verb, rest) = arguments.split_first().unwrap();
    let status = command
        .args(["znode", verb, "--zk", &server.address()])
        .args(rest)
        .stdout(Stdio::null())
        .status();
    assert!(status.unwrap().success(), "{arguments:?}");
}

#[test]
fn a_subtree_of_zookeeper_is_whole() {
    let (site, server) = (Site::new(), ZooKeeperServer::shared());
    let root = unique_path("payload");
    let below = |name: &str| format!("{root}/{name}");
    znode(server, &["set", "-p", &below("db/host"), "one"]);
    znode(server, &["set", "-p", &below("port"), "80"]);
    site.config(
        "a.twc",
        &format!(
            "RegisterWatch('{root}', {NOTE}, name='a', watch_type=WATCH_TREE, payload=JSON)\n\
             RegisterWatch('{root}', Exec('cat >> OUT/paths'), name='p', watch_type=WATCH_TREE)\n"
        ),
    );
    let daemon: Daemon = site.start_with(&["--zk", &server.address()]);
    let first = documents(&site, 1).remove(0);
    assert_eq!(
        keys(&first["nodes"]),
        [root.clone(), below("db"), below("db/host"), below("port")]
    );
    assert_eq!(first["nodes"][below("db/host")]["data"], "one");
    assert_eq!(first["nodes"][below("port")]["stat"]["version"], 0);
    daemon.wait_runs("a", 1);
    znode(server, &["set", &below("port"), "81"]);
    let second = documents(&site, 2).remove(1);
    assert_eq!(second["changed"], json!({below("port"): "set"}));
    assert_eq!(
        (
            &second["nodes"][below("port")]["data"],
            &second["nodes"][below("db/host")]["data"]
        ),
        (&json!("81"), &json!("one"))
    );
    assert_eq!(second["nodes"][below("port")]["stat"]["version"], 1);
    daemon.wait_runs("a", 2);
    znode(server, &["delete", &below("db/host")]);
    let third = documents(&site, 3).remove(2);
    assert_eq!(third["changed"], json!({below("db/host"): "deleted"}));
    daemon.wait_runs("p", 3);
}

#[test]
fn data_and_children_of_zookeeper_are_described() {
    let (site, server) = (Site::new(), ZooKeeperServer::shared());
    let root = unique_path("payload-plain");
    let below = |name: &str| format!("{root}/{name}");
    fs::write(site.path("binary"), b"\xff\x00").unwrap();
    let binary = site.path("binary");
    znode(server, &["set", "-p", &below("x"), "text"]);
    site.config(
        "a.twc",
        &format!(
            "RegisterWatch('{}', {NOTE}, name='a', payload=JSON, on_delete=True)\n",
            below("x")
        ),
    );
    let daemon = site.start_with(&["--zk", &server.address()]);
    let first = documents(&site, 1).remove(0);
    assert_eq!((&first["data"], &first["stat"]["version"]), (&json!("text"), &json!(0)));
    znode(server, &["set", &below("x"), "--file", binary.to_str().unwrap()]);
    let second = documents(&site, 2).remove(1);
    assert_eq!((second.get("data"), &second["data_base64"]), (None, &json!("/wA=")));
    assert_eq!(
        (&second["event"], &second["stat"]["version"]),
        (&json!("data"), &json!(1))
    );
    znode(server, &["delete", &below("x")]);
    let third = documents(&site, 3).remove(2);
    assert_eq!((&third["event"], &third["stat"]), (&json!("deleted"), &Value::Null));
    drop(daemon);

    let site = Site::new();
    site.config(
        "a.twc",
        &format!("RegisterWatch('{root}', {NOTE}, name='a', payload=JSON, watch_type=WATCH_CHILDREN)\n"),
    );
    let daemon = site.start_with(&["--zk", &server.address()]);
    assert_eq!(documents(&site, 1)[0]["children"]["names"], json!([]));
    daemon.wait_runs("a", 1);
    znode(server, &["create", &below("y"), ""]);
    let second = documents(&site, 2).remove(1);
    assert_eq!(
        second["children"],
        json!({"names": ["y"], "added": ["y"], "removed": []})
    );
    daemon.wait_runs("a", 2);
    znode(server, &["delete", &below("y")]);
    let third = documents(&site, 3).remove(2);
    assert_eq!(third["children"], json!({"names": [], "added": [], "removed": ["y"]}));
}

#[test]
fn a_subtree_of_zookeeper_that_holds_too_much_is_refused_until_it_holds_less() {
    let (site, server) = (Site::new(), ZooKeeperServer::shared());
    let root = unique_path("payload-large");
    let below = |name: &str| format!("{root}/{name}");
    site.write("large", &"x".repeat(1_000_000));
    let large = site.path("large");
    for number in 0..17 {
        let path = below(&number.to_string());
        znode(server, &["set", "-p", &path, "--file", large.to_str().unwrap()]);
    }
    site.config(
        "a.twc",
        &format!(
            "RegisterWatch('{root}', {NOTE}, name='t', payload=JSON, watch_type=WATCH_TREE)\n\
             RegisterWatch('{root}', Exec('cat > OUT/paths'), name='p', watch_type=WATCH_TREE)\n"
        ),
    );
    let daemon = site.start_with(&["--zk", &server.address()]);
    daemon.wait("the refusal", |line| {
        let words = "the znodes of the subtree hold more than 16 MiB together, the most that payload = JSON takes";
        line["watch"] == "t" && line.to_string().contains(words)
    });
    daemon.wait_runs("p", 1);
    assert!(!site.path("out/log").exists());
    znode(server, &["set", &below("0"), "small"]);
    let first = documents(&site, 1).remove(0);
    assert_eq!(first["nodes"][below("0")]["data"], "small");
    assert_eq!(keys(&first["nodes"]).len(), 18);
    // More than fits again: what was told stays what the next change is counted from.
    daemon.wait_runs("t", 1);
    znode(server, &["set", &below("0"), "--file", large.to_str().unwrap()]);
    daemon.wait_for(2, "the second refusal", |line| {
        line["watch"] == "t" && line.to_string().contains("the most that payload = JSON takes")
    });
    znode(server, &["delete", &below("0")]);
    let second = documents(&site, 2).remove(1);
    assert_eq!(second["changed"], json!({below("0"): "deleted"}));
}

#[test]
fn a_znode_that_may_not_be_read_is_said_to_be_so() {
    let (site, server) = (Site::new(), ZooKeeperServer::shared());
    let root = unique_path("payload-hidden");
    let writer = Writer::new(server);
    writer.create(&root, "top");
    writer.create_unreadable(&format!("{root}/secret"), "pin 4711");
    site.config(
        "a.twc",
        &format!("RegisterWatch('{root}', {NOTE}, name='a', payload=JSON, watch_type=WATCH_TREE)\n"),
    );
    let _daemon = site.start_with(&["--zk", &server.address()]);
    let first = documents(&site, 1).remove(0);
    let secret = &first["nodes"][format!("{root}/secret")];
    assert_eq!((&secret["unreadable"], secret.get("data")), (&json!(true), None));
    assert!(!first.to_string().contains("4711"), "{first}");
    assert_eq!(first["nodes"][&root]["data"], "top");
}

#[test]
fn the_schema_is_printed_and_tells_right_from_wrong() {
    let schema = printed(&["--payload"]);
    assert_eq!(
        (&schema["title"], &schema["properties"]["version"]["const"]),
        (&json!("TwitcherPayload"), &json!(1))
    );
    let right = json!({
        "version": 1, "run": "r", "watch": "w", "znode": "/a", "watch_type": "children", "event": "load", "attempt": 1,
        "stat": null, "since": null, "children": {"names": ["a"], "added": ["a"], "removed": []},
    });
    is_payload(&right).unwrap();
    for (field, wrong) in [
        ("version", json!(2)),
        ("event", json!("other")),
        ("watch_type", json!("all")),
        ("attempt", json!("1")),
        ("stat", json!({"czxid": 1})),
        ("children", json!(["a"])),
    ] {
        let mut document = right.clone();
        document[field] = wrong;
        assert!(is_payload(&document).is_err(), "{document}");
    }
}
