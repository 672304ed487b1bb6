//! What other compilers made: components of `make python-plugin js-plugin`, programs for preview 1 of `make go-plugin c-plugin`.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{message, outcome, said, watch};
use crate::support::daemon::Site;

/// Built before the tests; one that is not there is a failure, for `make test` builds it.
fn built(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let file = target.join("guests").join(name);
    assert!(
        file.is_file(),
        "{} is missing: make python-plugin js-plugin go-plugin c-plugin",
        file.display()
    );
    file
}

fn reacts(name: &str) {
    let site = Site::new();
    let component = built(name);
    // Megabytes of interpreter take longer to compile than a test waits for a daemon. What an author tries is kept where this daemon
    // looks.
    let output = Command::new(env!("CARGO_BIN_EXE_twitcher"))
        .args(["plugin", "run", "--data", r#"{"a": 1}"#, "--config", "greeting=hello"])
        .arg(&component)
        .env("XDG_CACHE_HOME", site.path("cache"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    watch(
        &site,
        &component,
        "config={'greeting': 'good morning'}",
        "uid='nobody', timeout=60",
    );
    site.set("/x", "first");
    let (tree, state) = (site.path("tree"), site.path("cache/twitcher"));
    let daemon = site.start_with(&[
        "--tree",
        &tree.to_string_lossy(),
        "--state-dir",
        &state.to_string_lossy(),
    ]);
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
    said(&daemon, "good morning");
    site.set("/x", "second");
    assert_eq!(outcome(&daemon.wait_runs("w", 2)[1]), "success");
    assert_eq!(daemon.count(|line| message(line) == "component compiled"), 0);
}

#[test]
fn an_action_in_python_reacts() {
    reacts("python-hello.wasm");
}

#[test]
fn an_action_in_javascript_reacts() {
    reacts("js-hello.wasm");
}

/// A program: its greeting is an argument, the data its input, its exit code the outcome.
fn runs(name: &str, bad_data: &str) {
    let site = Site::new();
    let program = built(name);
    watch(&site, &program, "args=['good morning']", "uid='nobody', timeout=60");
    site.set("/x", "first");
    let daemon = site.start();
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
    said(&daemon, "good morning bytes=5");
    site.set("/x", bad_data);
    assert_eq!(outcome(&daemon.wait_runs("w", 2)[1]), "exit code 65");
    said(&daemon, "the znode's data: ");

    let out = site.path("out");
    let output = Command::new(env!("CARGO_BIN_EXE_twitcher"))
        .args([
            "bundle",
            "build",
            "--args",
            "--name",
            "hello",
            "--version",
            "1.0.0",
            "--out",
        ])
        .args([&out, &program])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(out.join("hello-1.0.0.twb").is_file());
}

#[test]
fn a_program_in_go_runs() {
    runs("go-hello.wasm", r#"{"a": "#);
}

#[test]
fn a_program_in_c_runs() {
    runs("c-hello.wasm", "a\0b");
}
