//! One watch of several znodes.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::message;
use crate::control::Controlled;
use crate::support::daemon::{Daemon, PROGRAM, Site};
use crate::support::schema::is_payload;
use crate::support::until;

#[test]
fn one_run_for_what_changes_together_and_it_is_told_what_did() {
    let site = Site::new();
    site.set("/app/db", "1");
    site.set("/app/cache", "1");
    site.config(
        "a.twc",
        r#"RegisterWatch(["/app/db", "/app/cache", "/app/none"], Exec("echo $TWITCHER_EVENT $TWITCHER_ZNODE: $(cat) >> OUT/log"), name="s", settle=0.3)"#,
    );
    let daemon = Controlled::start(&site);
    until("it runs once all are read", || {
        site.lines("out/log") == ["load /app/db: /app/cache /app/db"]
    });
    site.set("/app/cache", "2");
    until("for the one", || site.lines("out/log").len() == 2);
    site.set("/app/none", "1");
    site.set("/app/db", "2");
    until("for both at once", || site.lines("out/log").len() == 3);
    fs::remove_file(site.path("tree/app/none")).unwrap();
    until("also when one goes away", || site.lines("out/log").len() == 4);
    assert_eq!(
        site.lines("out/log")[1..],
        [
            "data /app/cache: /app/cache",
            "data /app/db: /app/db /app/none",
            "data /app/none: /app/none"
        ]
    );
    let watch = daemon.until_state("s", "armed");
    assert_eq!(watch["seen"]["digest"], watch["handled"]["digest"]);
    let znodes = watch["znodes"].as_array().unwrap();
    let seen: Vec<_> = znodes
        .iter()
        .map(|one| (one["znode"].as_str().unwrap(), one["seen"]["exists"].as_bool()))
        .collect();
    assert_eq!(
        seen,
        [
            ("/app/db", Some(true)),
            ("/app/cache", Some(true)),
            ("/app/none", Some(false))
        ]
    );

    // The whole of it goes away, and one comes again.
    fs::remove_dir_all(site.path("tree/app")).unwrap();
    daemon.until_state("s", "absent");
    site.set("/app/cache", "3");
    until("it came again", || site.lines("out/log").len() == 5);
    assert_eq!(site.lines("out/log")[4], "created /app/cache: /app/cache");

    // A run on request is for all.
    let answer = daemon.post("/v1/watches/s/run");
    assert!((200..300).contains(&answer.status), "{answer:?}");
    until("the run on request", || site.lines("out/log").len() == 6);
    assert_eq!(site.lines("out/log")[5], "manual /app/cache: /app/cache");

    let control = daemon.socket.display().to_string();
    let output = Command::new(PROGRAM)
        .args(["status", "s", "--control", &control])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    for part in ["/app/db: ", "/app/cache: ", "/app/none: "] {
        assert!(text.contains(part), "{text}");
    }
    let output = Command::new(PROGRAM)
        .args(["status", "/app/cache", "--control", &control])
        .output()
        .unwrap();
    assert!(output.status.success(), "it is found by any of them: {output:?}");
}

#[test]
fn what_was_handled_of_several_outlives_the_daemon() {
    let site = Site::new();
    site.set("/a", "1");
    site.set("/b", "1");
    let config =
        |znodes: &str| format!("RegisterWatch({znodes}, Exec('cat >> OUT/log'), name='s', run_on_load=IF_CHANGED)");
    site.config("a.twc", &config("['/a', '/b']"));
    let daemon = site.start();
    daemon.wait_runs("s", 1);
    crate::state::until_stored(
        &site,
        "SELECT kind = 3 AND more = '[\"/b\"]' FROM watch WHERE name = 's'",
    );
    daemon.crash();
    let daemon = site.start();
    daemon.wait("unchanged", message("s", "update ignored: it has not changed"));
    daemon.crash();
    site.set("/b", "2");
    let daemon = site.start();
    daemon.wait_runs("s", 1);
    crate::state::until_stored(&site, "SELECT run IS NOT NULL FROM watch WHERE name = 's'");
    // Another znode more or less is another state.
    site.config("a.twc", &config("['/a', '/b', '/c']"));
    daemon.wait_runs("s", 2);
    site.config("a.twc", &config("'/a'"));
    daemon.wait_runs("s", 3);
    assert_eq!(site.read("out/log"), "/a\n/b\n/a\n/b\n/a\n/b\n1");
}

#[test]
fn the_document_has_each_znode_with_what_changed_since_the_last_success() {
    let site = Site::new();
    site.set("/a", "1");
    site.set("/b", "2");
    site.set("/t/x", "1");
    site.set("/u/y", "1");
    site.config(
        "a.twc",
        r#"
def one():
    document = change()
    print([(z["znode"], z["has_changed"]) for z in document["znodes"]])

RegisterWatch(["/a", "/b"], Exec("cat > OUT/data"), name="data", payload=JSON)
RegisterWatch(["/a", "/b"], one, name="function", payload=JSON)
RegisterWatch(["/t", "/u"], Exec("cat > OUT/tree"), name="tree", payload=JSON, watch_type=WATCH_TREE)
RegisterWatch(["/t", "/u"], Exec("cat > OUT/children"), name="children", payload=JSON, watch_type=WATCH_CHILDREN)
RegisterWatch(["/t", "/u"], Exec("cat >> OUT/paths"), name="paths", watch_type=WATCH_TREE)
"#,
    );
    let daemon = site.start();
    for name in ["data", "function", "tree", "children", "paths"] {
        daemon.wait_runs(name, 1);
    }
    let document = |name: &str| -> Value {
        let text = site.read(&format!("out/{name}"));
        let document = serde_json::from_str(&text).unwrap();
        is_payload(&document).unwrap_or_else(|error| panic!("{error:#}\n{document:#}"));
        document
    };
    let data = document("data");
    assert_eq!(
        (&data["znode"], &data["data"], &data["since"]),
        (&json!("/a"), &Value::Null, &Value::Null)
    );
    assert_eq!(data["znodes"][1]["data"], "2");
    assert_eq!(data["znodes"][1]["has_changed"], true);
    let tree = document("tree");
    assert_eq!(tree["znodes"][0]["nodes"]["/t/x"]["data"], "1");
    assert_eq!(
        tree["znodes"][1]["changed"],
        json!({"/u": "created", "/u/y": "created"})
    );
    assert_eq!(document("children")["znodes"][1]["children"]["names"], json!(["y"]));
    assert_eq!(site.lines("out/paths"), ["/t", "/t/x", "/u", "/u/y"]);

    site.set("/b", "3");
    site.set("/u/y", "2");
    daemon.wait_runs("data", 2);
    daemon.wait_runs("function", 2);
    daemon.wait_runs("tree", 2);
    daemon.wait_runs("paths", 2);
    let data = document("data");
    assert_eq!(data["znode"], "/b");
    let changed = |data: &Value| -> Vec<bool> {
        data["znodes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["has_changed"].as_bool().unwrap())
            .collect()
    };
    assert_eq!(changed(&data), [false, true]);
    let tree = document("tree");
    assert_eq!(changed(&tree), [false, true]);
    assert_eq!(tree["znodes"][1]["changed"], json!({"/u/y": "set"}));
    assert_eq!(site.lines("out/paths").last().unwrap(), "/u/y");
    daemon.wait("the function was told", |line| {
        line["watch"] == "function"
            && line["message"]
                .as_str()
                .is_some_and(|text| text.contains("(\"/b\", True)") && text.contains("(\"/a\", False)"))
    });
}

#[test]
fn guards_look_at_all_of_them() {
    let site = Site::new();
    site.set("/a", "0123456789");
    site.set("/b", "0123456789");
    site.config(
        "a.twc",
        "RegisterWatch(['/a', '/b'], Exec('cat >> OUT/log'), name='s', refuse_shrink=0.4)\n\
         RegisterWatch(['/a', '/b'], Exec('cat > /dev/null'), name='e', refuse_empty=True)",
    );
    let daemon = Controlled::start(&site);
    daemon.daemon.wait_runs("s", 1);
    site.set("/a", "");
    let why = daemon.until_state("s", "refused_shrink")["why"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(why.contains("from 20 to 10 bytes"), "{why}");
    daemon.until_state("e", "refused_empty");
    site.set("/a", "012345");
    daemon.daemon.wait_runs("s", 2);
}

#[test]
fn check_says_what_is_wrong_with_several() {
    let site = Site::new();
    let check = |config: &str| {
        site.config("a.twc", config);
        let output = Command::new(PROGRAM)
            .arg("check")
            .arg(site.path("conf"))
            .output()
            .unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
    };
    let shown = check("RegisterWatch(['/a', '/b'], Exec('true'))");
    assert!(shown.contains("/a, /b"), "{shown}");
    for (config, said) in [
        ("RegisterWatch(['/a', '/a'], Exec('true'))", "znode has /a twice"),
        (
            "RegisterWatch([], Exec('true'))",
            "znode must be a string or a list of strings",
        ),
        ("RegisterWatch(['/a', 'b'], Exec('true'))", "znode path"),
        (
            "RegisterWatch(['/a', '/a/b'], Exec('true'), watch_type=WATCH_TREE)",
            "znode has /a/b and /a, which is all of that already",
        ),
        (
            "RegisterWatch(['/a', '/b'], Exec('true'), publish=True)",
            "publish is for watches of one znode",
        ),
    ] {
        let shown = check(config);
        assert!(shown.contains(said), "{config}: {shown}");
    }
    assert!(check("RegisterWatch(['/a', '/a/b'], Exec('true'))").contains("/a, /a/b"));
}

#[test]
fn once_and_a_generated_configuration_know_several() {
    let site = Site::new();
    site.set("/a", "1");
    site.set("/b", "1");
    site.config(
        "a.json",
        r#"[{"znode": ["/a", "/b"], "name": "s", "action": {"exec": "cat >> OUT/log"}}]"#,
    );
    let (tree, state) = (site.path("tree"), site.path("state"));
    let once = |more: &[&str]| {
        let own = ["--tree", tree.to_str().unwrap(), "--state-dir", state.to_str().unwrap()];
        let mut daemon = Daemon::spawn(Path::new(PROGRAM), &site.path("conf"), &[&own[..], more].concat(), &[]);
        assert_eq!(daemon.ended().code(), Some(0), "{}", daemon.text());
        daemon
    };
    let dry = once(&["--once", "--dry-run"]);
    dry.wait("would run", message("s", "would run"));
    assert!(!site.path("out/log").exists());
    once(&["--once"]);
    assert_eq!(site.read("out/log"), "/a\n/b\n");
}

#[test]
fn a_reload_that_takes_one_away_looks_at_the_rest() {
    let site = Site::new();
    for znode in ["/a", "/b", "/c"] {
        site.set(znode, "1");
    }
    let config =
        |znodes: &str, mode: &str| format!("RegisterWatch({znodes}, Exec('echo $(cat) >> OUT/log'), name='s'{mode})");
    site.config("a.twc", &config("['/a', '/b', '/c']", ""));
    let daemon = Controlled::start(&site);
    daemon.daemon.wait_runs("s", 1);
    site.config("a.twc", &config("['/a', '/b']", ""));
    daemon.daemon.wait_runs("s", 2);
    site.set("/c", "2");
    site.set("/b", "2");
    daemon.daemon.wait_runs("s", 3);
    // The same znodes under another policy: it is read afresh, and each change is still seen once.
    site.config("a.twc", &config("['/a', '/b']", ", run_on_load=False"));
    daemon
        .daemon
        .wait_for(3, "loaded", |line| line["message"] == "configuration loaded");
    until("it is armed again", || {
        daemon.watch("s")["state"] == "armed" && !daemon.watch("s")["seen"].is_null()
    });
    site.set("/a", "2");
    daemon.daemon.wait_runs("s", 4);
    assert_eq!(site.lines("out/log"), ["/a /b /c", "/a /b", "/b", "/a"]);
    site.config("a.twc", "");
    until("it is gone", || daemon.get("/v1/watches/s").status == 404);
}
