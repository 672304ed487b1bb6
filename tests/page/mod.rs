//! The status page in a browser: Debian's Chromium, headless, driven by `check.mjs`.
//!
//! What the page must do is checked on a made-up daemon, which can be in any trouble at will; that it and the real daemon understand each
//! other is checked on the real one.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use twitcher_control::api::{STATES, States};

use crate::support::daemon::{PROGRAM, Site};

/// A name that would be markup if anything could be.
const NAME: &str = "<img src=x onerror=alert(1)> & co";

/// Runs the checks. What they say is the failure's message.
pub(crate) fn check(arguments: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/page/check.mjs");
    let output = Command::new("node").arg(script).args(arguments).output().unwrap();
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{}", said.concat());
    // What was measured is worth seeing also when all is well.
    println!("{}", said[0]);
}

#[test]
fn the_page_shows_what_a_daemon_says() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("states.json");
    let states = States { states: &STATES };
    std::fs::write(&file, serde_json::to_vec(&states).unwrap()).unwrap();
    check(&["--states", &file.to_string_lossy()]);
}

#[test]
fn the_page_shows_a_real_daemon() {
    let site = Site::new();
    site.set("/n", "one");
    site.config(
        "a.twc",
        &format!("RegisterWatch('/n', Exec(['echo', '<b>it ran</b>']), name='{NAME}')"),
    );
    // The kernel does not give a port away again so soon.
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap().to_string();
    drop(free);
    let tree = site.path("tree").to_string_lossy().into_owned();
    let url = format!("http://{address}/");
    for (more, told) in [
        (&["--http-details"][..], ["--output", "<b>it ran</b>"]),
        (&[], ["--note", "This port shows no details"]),
    ] {
        let arguments = [&["--tree", &*tree, "--http", &address], more].concat();
        let daemon = site.start_with(&arguments);
        daemon.wait_runs(NAME, 1);
        check(&[&["--url", &url, "--watch", NAME], &told[..]].concat());
        daemon.stop();
    }
}

#[test]
fn the_manual_is_one_page() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("manual.html");
    let output = Command::new(PROGRAM).args(["help", "--html"]).output().unwrap();
    assert!(output.status.success());
    std::fs::write(&file, output.stdout).unwrap();
    check(&["--manual", &file.to_string_lossy()]);
}
