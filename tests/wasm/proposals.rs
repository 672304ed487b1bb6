//! Components for other hosts, which import WASI's proposals and nothing of ours: they have them, within the same grants.

use std::process::Command;

use serde_json::Value;

use super::{message, outcome, said, watch};
use crate::support::daemon::{Daemon, Site};
use crate::support::guests::guest;
use crate::support::writer::Writer;
use crate::support::zookeeper::{ZooKeeperServer, unique_path};

fn started(site: &Site, name: &str, grants: &str) -> Daemon {
    watch(site, &guest(name), grants, "");
    site.set("/x", "data");
    site.start()
}

/// What the guest said of each of its steps.
fn steps(daemon: &Daemon) -> Vec<String> {
    daemon.wait_runs("w", 1);
    let text = daemon.text();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines
        .filter(|line| line["stream"] == "stdout")
        .map(|line| message(&line).to_owned())
        .collect()
}

#[test]
fn the_configuration_and_the_log_are_those_of_every_component() {
    let site = Site::new();
    let daemon = started(&site, "proposals", "config={'greeting': 'hello', 'b': '2'}");
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
    let line = said(&daemon, "greeting");
    assert_eq!(
        message(&line),
        r#"greeting Some("hello"), missing None, all [("b", "2"), ("greeting", "hello")] context=setup"#
    );
    assert_eq!(line["level"], "INFO");
    let line = said(&daemon, "a critical message critical=true");
    assert_eq!(line["level"], "ERROR");

    let site = Site::new();
    let daemon = started(&site, "proposals", "");
    said(&daemon, "greeting None, missing None, all []");
}

/// All that can be done in a bucket, and what it gives.
const STEPS: [(&str, &str); 19] = [
    ("keys", "Ok(([], None))"),
    ("get a", "Ok(None)"),
    ("delete a", "Ok(())"),
    ("set a 1", "Ok(())"),
    ("get a", "Ok(Some(\"1\"))"),
    ("set a/b~ 2", "Ok(())"),
    ("set .. 3", "Ok(())"),
    ("exists a", "Ok(true)"),
    ("exists b", "Ok(false)"),
    ("keys", "Ok(([\"..\", \"a\", \"a/b~\"], None))"),
    ("add n 5", "Ok(5)"),
    ("add n -7", "Ok(-2)"),
    ("add n 9223372036854775807", "Ok(9223372036854775805)"),
    (
        "add n 3",
        "Err(Error::Other(\"the key \\\"n\\\" would be 9223372036854775808, out of range\"))",
    ),
    ("race c mine", "None Some(\"others\") true Some(\"mine\")"),
    ("race c yours", "Some(\"mine\") Some(\"others\") true Some(\"yours\")"),
    ("many m 4", "Ok(()) Ok([true, false]) Ok(())"),
    ("delete a", "Ok(())"),
    ("keys", "Ok(([\"..\", \"a/b~\", \"c\", \"n\"], None))"),
];

fn arguments(bucket: &str, steps: &[&str]) -> String {
    let mut arguments = vec![bucket];
    arguments.extend(steps);
    format!("args={arguments:?}")
}

fn all_steps(bucket: &str) -> String {
    arguments(bucket, &STEPS.map(|(step, _)| step))
}

fn expected() -> Vec<String> {
    STEPS.iter().map(|(step, gives)| format!("{step}: {gives}")).collect()
}

#[test]
fn a_bucket_is_a_granted_subtree_by_its_path_or_by_its_last_name() {
    for identifier in ["/app/state", "state"] {
        let site = Site::new();
        site.set("/app/other", "");
        let grants = format!("znodes={{'/app/state/**': 'rw'}}, {}", all_steps(identifier));
        let daemon = started(&site, "proposals", &grants);
        assert_eq!(steps(&daemon), expected());
        assert_eq!(site.read("tree/app/state/a%2Fb%7E"), "2");
    }
}

#[test]
fn a_swap_is_held_against_the_version_in_zookeeper() {
    let server = ZooKeeperServer::shared();
    let writer = Writer::new(server);
    let root = unique_path("bucket");
    writer.create(&root, "");
    let site = Site::new();
    let grants = format!("znodes={{'{root}/state/**': 'rw'}}, {}", all_steps("state"));
    let action = super::wasm(&guest("proposals"), &grants);
    site.config(
        "w.twc",
        &format!("RegisterWatch(znode='{root}', name='w', action={action})\n"),
    );
    let daemon = Daemon::start(&site.path("conf"), &["--zk", &server.address()]);
    assert_eq!(steps(&daemon), expected());
}

#[test]
fn older_versions_of_the_interfaces_are_there_too() {
    let site = Site::new();
    site.set("/count/n", "4");
    let daemon = started(&site, "proposals_draft", "znodes={'/count/**': 'rw'}, args=['count']");
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
    let line = said(&daemon, "counted 7, keys [\"n\"] context=counter");
    assert_eq!(line["level"], "WARN");
}

#[test]
fn a_bucket_that_is_not_granted_is_denied_and_what_the_log_advises_opens_it() {
    for identifier in ["/app", "default"] {
        let site = Site::new();
        site.set("/app/a", "secret");
        let opened = arguments(identifier, &["get a", "set a b", "delete a", "add a 1"]);
        let daemon = started(&site, "proposals", &format!("znodes={{'/app': 'rw'}}, {opened}"));
        assert_eq!(steps(&daemon), ["open: Error::AccessDenied"]);
        let denied = said(&daemon, "denied: opening the bucket");
        let (_, line) = message(&denied).split_once("add ").unwrap();
        let argument = line.strip_suffix(" to its Wasm(...)").unwrap();

        // It is for reading: nothing is changed by what was not asked to be allowed.
        let site = Site::new();
        site.set("/app/a", "1");
        site.set("/default/a", "1");
        let daemon = started(&site, "proposals", &format!("{argument}, {opened}"));
        assert_eq!(
            steps(&daemon),
            [
                "get a: Ok(Some(\"1\"))",
                "set a b: Err(Error::AccessDenied)",
                "delete a: Err(Error::AccessDenied)",
                "add a 1: Err(Error::AccessDenied)"
            ]
        );
        assert_eq!(
            (site.read("tree/app/a"), site.read("tree/default/a")),
            ("1".to_owned(), "1".to_owned())
        );
        said(&daemon, "\"rw\"} to its Wasm(...)");
    }
}

#[test]
fn a_deletion_needs_a_subtree_to_write_to_as_the_log_advises() {
    let site = Site::new();
    site.set("/app/a", "1");
    let deleted = arguments("/app", &["set a 2", "delete a", "exists a"]);
    // The znode itself may be written, and only read what is beside it.
    let daemon = started(
        &site,
        "proposals",
        &format!("znodes={{'/app/**': 'r', '/app/a': 'rw'}}, {deleted}"),
    );
    assert_eq!(
        steps(&daemon),
        [
            "set a 2: Ok(())",
            "delete a: Err(Error::AccessDenied)",
            "exists a: Ok(true)"
        ]
    );
    let denied = said(&daemon, "denied: deleting /app/a is not granted");
    let (_, line) = message(&denied).split_once("add ").unwrap();
    let argument = line.strip_suffix(" to its Wasm(...)").unwrap();

    let site = Site::new();
    site.set("/app/a", "1");
    let daemon = started(&site, "proposals", &format!("{argument}, {deleted}"));
    assert_eq!(
        steps(&daemon),
        ["set a 2: Ok(())", "delete a: Ok(())", "exists a: Ok(false)"]
    );
    assert!(site.path("tree/app").is_dir(), "the bucket stays");
}

#[test]
fn a_name_that_could_be_two_buckets_is_none() {
    let site = Site::new();
    let opened = arguments("state", &["keys"]);
    let daemon = started(
        &site,
        "proposals",
        &format!("znodes={{'/a/state/**': 'r', '/b/state/**': 'r'}}, {opened}"),
    );
    assert_eq!(steps(&daemon), ["open: Error::NoSuchStore"]);
    said(&daemon, "may be /a/state or /b/state: name it by its path");
}

#[test]
fn a_check_takes_a_component_that_imports_them() {
    for name in ["proposals", "proposals_draft"] {
        let site = Site::new();
        watch(&site, &guest(name), "", "");
        let output = Command::new(env!("CARGO_BIN_EXE_twitcher"))
            .arg("check")
            .arg(site.path("conf"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }
}

#[test]
fn inspect_and_the_notes_of_a_build_know_them() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_twitcher"))
            .args(arguments)
            .arg(guest("proposals"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    let text = run(&["plugin", "inspect"]);
    for says in [
        "config = {\"KEY\": \"VALUE\"}",
        "znodes = {\"/path/**\": \"rw\"}",
        "each bucket",
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
    let site = Site::new();
    let out = site.path("out").display().to_string();
    let text = run(&[
        "bundle",
        "build",
        "--portable",
        "--name",
        "p",
        "--version",
        "1.0.0",
        "--out",
        &out,
    ]);
    assert!(
        text.contains("it imports wasi:keyvalue/store and requests nothing of the kind"),
        "{text}"
    );
}
