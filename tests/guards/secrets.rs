//! `Secret("/file")`: the value is where it belongs when a run starts, and nowhere else.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::unistd::geteuid;

use crate::control::Controlled;
use crate::support::daemon::{PROGRAM, Site};
use crate::support::guests::guest;
use crate::support::http;
use crate::wasm::found_in_memory;

const VALUE: &str = "planted-value-4711";

/// Every file below a directory that holds the value.
fn holders(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holders(&path));
        } else if fs::read(&path).is_ok_and(|bytes| bytes.windows(VALUE.len()).any(|part| part == VALUE.as_bytes())) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn a_secret_is_where_it_belongs_and_nowhere_else() {
    let site = Site::new();
    site.set("/n", "1");
    site.write("token", &format!("{VALUE}\n"));
    site.write(&format!("out/data/{VALUE}"), "there it is");
    let token = site.path("token").display().to_string();
    let reads = guest("reads").display().to_string();
    site.write("path", &format!("/data/{VALUE}"));
    let path = site.path("path").display().to_string();
    site.config(
        "a.twc",
        &format!(
            r#"
def function():
    open("OUT/function", "w").write(env["TOKEN"])

RegisterWatch("/n", Exec("printf %s \"$TOKEN\" > OUT/exec"), name="exec", env={{"TOKEN": Secret("{token}")}}, payload=JSON)
RegisterWatch("/n", Exec("exit 3"), name="fails", env={{"TOKEN": Secret("{token}")}}, on_failure=STOP)
RegisterWatch("/n", function, name="function", env={{"PLAIN": "x", "TOKEN": Secret("{token}")}})
RegisterWatch("/n", Wasm("{reads}", config={{"path": Secret("{path}")}}, dirs={{"/data": "OUT/data"}}), name="wasm")
"#
        ),
    );
    site.config(
        "b.json",
        &format!(
            r#"[{{"znode": "/n", "name": "json", "action": {{"exec": "printf %s $TOKEN > OUT/json"}}, "env": {{"TOKEN": {{"secret": "{token}"}}}}}}]"#
        ),
    );
    let daemon = Controlled::start_with(&site, &["--debug", "--http-details"], &[]);
    for name in ["exec", "fails", "function", "wasm", "json"] {
        daemon.daemon.wait_runs(name, 1);
    }
    for name in ["exec", "function", "json"] {
        assert_eq!(site.read(&format!("out/{name}")), VALUE, "{name}");
    }
    daemon.daemon.wait("the component found it", |line| {
        line["watch"] == "wasm"
            && line["message"]
                .as_str()
                .is_some_and(|text| text.contains("there it is"))
    });
    assert_eq!(daemon.until_state("wasm", "armed")["last_run"]["success"], true);

    // A newer value is read for the next run.
    site.write("token", "another");
    site.set("/n", "2");
    daemon.daemon.wait_runs("exec", 2);
    assert_eq!(site.read("out/exec"), "another");
    site.write("token", &format!("{VALUE}\n"));
    site.set("/n", "3");
    daemon.daemon.wait_runs("exec", 3);

    let mut told = vec![daemon.daemon.text()];
    let mut paths: Vec<String> = [
        "/v1/status",
        "/v1/overview",
        "/v1/watches",
        "/v1/runs?limit=100",
        "/metrics",
        "/",
    ]
    .map(str::to_owned)
    .into();
    let runs = daemon.get("/v1/runs?limit=100").json();
    let runs = runs["runs"].as_array().unwrap().iter();
    paths.extend(runs.map(|run| format!("/v1/runs/{}", run["run"].as_str().unwrap())));
    paths.extend(["exec", "fails", "function", "wasm", "json"].map(|name| format!("/v1/watches/{name}")));
    for path in paths {
        told.push(daemon.get(&path).body);
        told.push(http::browse(&daemon.http, "GET", &path).body);
    }
    let control = daemon.socket.display().to_string();
    let conf = site.path("conf").display().to_string();
    for line in [
        &["check", &conf][..],
        &["check", &conf, "--json"],
        &["check", &conf, "--against", &control],
        &["status", "exec", "--control", &control],
        &["status", "wasm", "--control", &control, "--json"],
        &["history", "--control", &control],
        &["logs", "--last", "exec", "--control", &control],
    ] {
        let output = Command::new(PROGRAM).args(line).output().unwrap();
        told.push(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr));
    }
    assert!(
        told.iter().any(|text| text.contains(&format!("TOKEN from {token}"))),
        "where it comes from is told"
    );
    assert!(
        told.iter().any(|text| text.contains(r#""secret""#)),
        "check --json shows it as it is written"
    );
    for text in &told {
        assert!(!text.contains(VALUE), "{text}");
    }
    if geteuid().is_root() {
        for pid in crate::support::daemon::children(daemon.daemon.pid()) {
            assert_eq!(found_in_memory(pid, VALUE), None, "of the launcher");
        }
    }
    let (state, pid) = (site.path("state"), daemon.daemon.pid());
    daemon.daemon.stop();
    assert_eq!(holders(&state), [""; 0], "of daemon {pid}");
}

#[test]
fn a_secret_that_cannot_be_read_fails_the_run_which_is_tried_again() {
    let site = Site::new();
    site.set("/n", "1");
    let token = site.path("token").display().to_string();
    site.config(
        "a.twc",
        &format!(
            r#"RegisterWatch("/n", Exec("printf %s \"$TOKEN\" > OUT/log"), name="w", env={{"TOKEN": Secret("{token}")}},
    on_failure=Retry(times=1000, initial=0.05, max_delay=0.05, jitter=0))"#
        ),
    );
    let daemon = site.start();
    let ended = daemon.wait_runs("w", 1).remove(0);
    assert_eq!(
        ended["outcome"],
        format!("cannot read the secret {token} for env \"TOKEN\": No such file or directory (os error 2)")
    );
    site.write("token", "late\n");
    crate::support::until("it runs once it is there", || site.read("out/log") == "late");
}
