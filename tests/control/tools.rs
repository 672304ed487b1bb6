//! What other people's tools make of it: promtool and schemathesis.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::*;

/// A tool, or none where it is not installed: `make test` installs it.
fn tool(path: PathBuf, version: &str) -> Option<Command> {
    let found = Command::new(&path)
        .arg(version)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !found.is_ok_and(|status| status.success()) {
        eprintln!("left out: there is no {}", path.display());
        return None;
    }
    Some(Command::new(path))
}

fn package(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../package").join(file)
}

#[test]
fn promtool_has_nothing_to_say() {
    let Some(mut promtool) = tool("promtool".into(), "--version") else {
        return;
    };
    let site = Site::new();
    site.set("/a", "1");
    site.config(
        "a.twc",
        r#"RegisterWatch(znode = "/a", action = Exec("true"), name = "a")"#,
    );
    let daemon = Controlled::start(&site);
    daemon.daemon.wait_runs("a", 1);
    daemon.until_state("a", "armed");
    let metrics = http::browse(&daemon.http, "GET", "/metrics").body;
    for line in [
        "twitcher_watches{state=\"armed\"} 1",
        "twitcher_runs_total{outcome=\"success\"} 1",
        "twitcher_ready 1",
    ] {
        assert!(metrics.lines().any(|has| has == line), "{line}\n{metrics}");
    }
    let mut check = promtool
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    check.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = check.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.is_empty(), "{said}");
}

#[test]
fn the_alerts_are_rules_about_metrics_that_there_are() {
    let rules = std::fs::read_to_string(package("alerts.yml")).unwrap();
    let dashboard = std::fs::read_to_string(package("dashboard.json")).unwrap();
    let _: Value = serde_json::from_str(&dashboard).unwrap();
    let site = Site::new();
    let daemon = Controlled::start(&site);
    let metrics = http::browse(&daemon.http, "GET", "/metrics").body;
    let mut named = 0;
    for text in [&rules, &dashboard] {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| word.starts_with("twitcher_")) {
            let family = word.trim_end_matches("_bucket");
            assert!(
                metrics.contains(&format!("# TYPE {family} "))
                    || family == "twitcher_watches"
                    // Of a daemon that is in a fleet; a test of its own has one.
                    || family.starts_with("twitcher_fleet_")
                    || family.starts_with("twitcher_rollout_"),
                "{word}"
            );
            named += 1;
        }
    }
    assert!(named > 30);
    let Some(mut promtool) = tool("promtool".into(), "--version") else {
        return;
    };
    let output = promtool
        .args(["check", "rules"])
        .arg(package("alerts.yml"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// What a fleet's metrics are called stands in the table that `help metrics` is compared with.
#[test]
fn the_dashboard_asks_for_metrics_that_there_are_and_its_panels_have_places() {
    let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(package("dashboard.json")).unwrap()).unwrap();
    let metrics = include_str!("../../host/observe/src/metrics.rs");
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<i64> = panels.iter().map(|panel| panel["id"].as_i64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len());
    let mut places = BTreeSet::new();
    let mut rules = "groups:\n- name: panels\n  rules:\n".to_owned();
    for panel in panels {
        let at = |key: &str| panel["gridPos"][key].as_i64().unwrap();
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(
                    x < 24 && places.insert((x, y)),
                    "{}: something else is there",
                    panel["title"]
                );
            }
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap();
            let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for word in words.filter(|word| word.starts_with("twitcher_")) {
                let family = word.trim_start_matches("twitcher_").trim_end_matches("_bucket");
                assert!(metrics.contains(&format!("//! | `twitcher_{family}` |")), "{word}");
            }
            let query = query
                .replace("$__rate_interval", "5m")
                .replace("$instance", ".*")
                .replace("$rollout", ".*");
            assert!(!query.contains('$'), "{query}");
            rules += &format!(
                "  - record: panel_{}\n    expr: {}\n",
                target["refId"].as_str().unwrap(),
                Value::from(query)
            );
        }
    }
    let titles: Vec<&str> = panels.iter().filter_map(|panel| panel["title"].as_str()).collect();
    assert!(
        titles.contains(&"Rollouts") && titles.contains(&"Hosts by state"),
        "{titles:?}"
    );
    let Some(mut promtool) = tool("promtool".into(), "--version") else {
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("panels.yml");
    std::fs::write(&file, rules).unwrap();
    let output = promtool
        .args(["check", "rules", "--lint=none"])
        .arg(&file)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Thousands of requests made up from the description, right ones and wrong ones: the answers are as described.
#[test]
fn the_description_is_what_is_served() {
    let venv = Path::new(env!("CARGO_BIN_EXE_twitcher"))
        .ancestors()
        .nth(2)
        .unwrap()
        .join("schemathesis-venv");
    let Some(mut schemathesis) = tool(venv.join("bin/schemathesis"), "--version") else {
        return;
    };
    let site = Site::new();
    site.set("/a", "1");
    site.config(
        "a.twc",
        r#"RegisterWatch(znode = "/a", action = Exec("true"), name = "a")"#,
    );
    let daemon = Controlled::start(&site);
    daemon.daemon.wait_runs("a", 1);
    let output = schemathesis
        .arg("run")
        .arg(format!("http://{}/v1/openapi.json", daemon.http))
        // It never ends; orders are refused on this port, by another status than is described for the socket.
        .args([
            "--exclude-path",
            "/v1/events",
            "--include-method",
            "GET",
            "--max-examples",
            "30",
            "--seed",
            "1",
        ])
        .args(["--no-color", "--workers", "1", "--request-timeout", "10"])
        .current_dir(site.path("out"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
