//! Failed commands that are retried, and watches that wait for their turn: on the real daemon.

use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::support::daemon::{Daemon, Site, alive, children};
use crate::support::until;

/// Notes its attempt, event and data, and fails until there is `OUT/well`.
const FAILING: &str =
    r#"Exec('echo "$TWITCHER_ATTEMPT $TWITCHER_EVENT $(cat)" >> OUT/log; [ -e OUT/well ] || exit 3')"#;

fn message<'a>(watch: &'a str, text: &'a str) -> impl Fn(&Value) -> bool + 'a {
    move |line| line["watch"] == watch && line["message"].as_str().is_some_and(|m| m.contains(text))
}

/// A daemon whose one watch, of `/n`, fails under this policy.
fn failing(on_failure: &str) -> (Site, Daemon) {
    let site = Site::new();
    site.set("/n", "one");
    site.config(
        "a.twc",
        &format!("RegisterWatch('/n', {FAILING}, name='w', on_failure={on_failure})"),
    );
    let daemon = site.start();
    (site, daemon)
}

#[test]
fn a_failed_command_is_retried_with_the_same_data_until_it_succeeds() {
    let (site, daemon) = failing("Retry(times=1000, initial=0.05, max_delay=0.05)");
    daemon.wait_runs("w", 3);
    daemon.wait("the decision", message("w", "retry 2 of 1000 in"));
    site.write("out/well", "");
    daemon.wait("success", |line| {
        line["watch"] == "w" && line["message"] == "run ended" && line["outcome"] == "success"
    });
    let log = site.lines("out/log");
    assert_eq!(log[..3], ["1 load one", "2 retry one", "3 retry one"]);
    // Success starts the count anew.
    site.set("/n", "two");
    until("the next change", || {
        site.lines("out/log").last().unwrap() == "1 data two"
    });
}

#[test]
fn retries_end_and_then_the_watch_is_parked() {
    let (site, daemon) = failing("Retry(2, initial=0.01, then=STOP)");
    daemon.wait("parked", message("w", "watch parked"));
    assert_eq!(site.lines("out/log"), ["1 load one", "2 retry one", "3 retry one"]);
    daemon.wait("the reason", message("w", "no retry, 2 failed already: exit code 3"));
    site.set("/n", "two");
    daemon.wait("it waits", message("w", "the watch is parked"));
    site.write("out/well", "");
    daemon.signal(Signal::SIGHUP);
    until("the next change", || {
        site.lines("out/log").last().unwrap() == "1 data two"
    });
}

#[test]
fn a_newer_update_does_not_wait_for_the_retry() {
    let (site, daemon) = failing("Retry(times=5, initial=3600, max_delay=3600)");
    daemon.wait("back-off", message("w", "retry 1 of 5 in"));
    site.write("out/well", "");
    site.set("/n", "two");
    daemon.wait(
        "superseded",
        message("w", "pending retry dropped: there is a newer update"),
    );
    daemon.wait_runs("w", 2);
    assert_eq!(site.lines("out/log"), ["1 load one", "1 data two"]);
    // A pending retry does not hold up the end either.
    std::fs::remove_file(site.path("out/well")).unwrap();
    site.set("/n", "three");
    daemon.wait_for(2, "back-off", message("w", "retry 1 of 5 in"));
    let start = Instant::now();
    assert_eq!(daemon.stop().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
}

#[test]
fn only_these_codes_are_retried() {
    let (site, daemon) = failing("Retry(times=5, initial=0.01, codes=[4, 75])");
    daemon.wait(
        "the reason",
        message("w", "no retry, codes does not have it: exit code 3"),
    );
    site.set("/n", "two");
    daemon.wait_runs("w", 2);
    assert_eq!(site.lines("out/log"), ["1 load one", "1 data two"]);
}

#[test]
fn what_cannot_be_started_and_what_takes_too_long_is_retried_too() {
    let site = Site::new();
    site.set("/n", "one");
    site.config(
        "a.twc",
        r#"
again = Retry(times = 1, initial = 0.01)
RegisterWatch('/n', Exec(['/no/such/program']), name='missing', on_failure=again)
RegisterWatch('/n', Exec('exec sleep 1000'), name='slow', on_failure=again, timeout=0.2)
RegisterWatch('/n', Exec('kill -9 $$'), name='killed', on_failure=again)
"#,
    );
    let daemon = site.start();
    for (watch, why) in [
        ("missing", "it could not be started"),
        ("slow", "timed out"),
        ("killed", "killed by SIGKILL"),
    ] {
        daemon.wait("the retry", |line| {
            let said = line["message"].as_str().unwrap_or_default();
            line["watch"] == watch && said.starts_with("retry 1 of 1 in ") && said.ends_with(why)
        });
        daemon.wait("the end", message(watch, &format!("no retry, 1 failed already: {why}")));
        assert_eq!(daemon.wait_runs(watch, 2).len(), 2);
    }
}

/// Notes its watch, then waits for `OUT/go`.
const GATED: &str = r#"Exec('echo "$TWITCHER_NAME $(cat)" >> OUT/log; while [ ! -e OUT/go ]; do sleep 0.01; done')"#;

/// Watches of `/n/WATCH`, all gated, with these fields.
fn gated(site: &Site, watches: &[(&str, &str)]) {
    let watch =
        |(name, fields): &(&str, &str)| format!("RegisterWatch('/n/{name}', {GATED}, name='{name}', {fields})\n");
    site.config("a.twc", &watches.iter().map(watch).collect::<String>());
}

#[test]
fn no_more_run_than_may_and_each_watch_has_its_turn() {
    let site = Site::new();
    site.set("/n/busy", "0");
    gated(&site, &[("busy", "run_mode=PARALLEL"), ("quiet", ""), ("late", "")]);
    let tree = site.path("tree");
    let daemon = site.start_with(&["--tree", &tree.to_string_lossy(), "--max-running", "2"]);
    until("the first", || site.lines("out/log").len() == 1);
    for data in ["1", "2", "3"] {
        site.set("/n/busy", data);
        daemon.wait_for(data.parse().unwrap(), "seen", message("busy", "change seen"));
    }
    daemon.wait("the limit", message("busy", "--max-running actions are running"));
    for watch in ["quiet", "late"] {
        for data in ["old", "new"] {
            let seen = daemon.count(message(watch, "change seen"));
            site.set(&format!("/n/{watch}"), data);
            daemon.wait_for(seen + 1, "seen", message(watch, "change seen"));
        }
    }
    until("the second", || site.lines("out/log").len() == 2);
    let launcher_and_actions = || children(daemon.pid()).into_iter().filter(|pid| alive(*pid)).count();
    assert!(launcher_and_actions() <= 3, "the launcher and two actions");
    assert_eq!(site.lines("out/log").len(), 2);
    site.write("out/go", "");
    // Two processes that start one after the other may come to speak in any order; ids of runs are given in the order of the starts.
    let newest = |watch, count| {
        let runs = daemon.wait_runs(watch, count).into_iter();
        runs.map(|run| run["run_id"].as_str().unwrap().to_owned())
            .max()
            .unwrap()
    };
    let (busy, quiet, late) = (newest("busy", 4), newest("quiet", 1), newest("late", 1));
    assert!(quiet < busy && late < busy, "{}", daemon.text());
    let mut log = site.lines("out/log");
    log.sort_unstable();
    assert_eq!(log, ["busy 0", "busy 1", "busy 2", "busy 3", "late new", "quiet new"]);
}

#[test]
fn a_group_has_a_limit_of_its_own() {
    let site = Site::new();
    for watch in ["a", "b", "c", "other"] {
        site.set(&format!("/n/{watch}"), "1");
    }
    let group = "group='db'";
    gated(&site, &[("a", group), ("b", group), ("c", group), ("other", "")]);
    let daemon = site.start();
    until("one of the group and the other", || site.lines("out/log").len() == 2);
    daemon.wait_for(2, "the limit", |line| {
        line["message"]
            .as_str()
            .is_some_and(|m| m.contains("its group runs as many actions as it may"))
    });
    assert!(site.lines("out/log").contains(&"other 1".to_owned()));
    // A higher limit takes effect at once, and leaves the watches as they are.
    site.config("limits.json", r#"[{"group": "db", "limit": 2}]"#);
    until("another of the group", || site.lines("out/log").len() == 3);
    site.write("out/go", "");
    for watch in ["a", "b", "c", "other"] {
        assert_eq!(daemon.wait_runs(watch, 1).len(), 1);
    }
}

#[test]
fn a_command_of_a_component_needs_no_place() {
    let site = Site::new();
    site.set("/n", "1");
    let guest = crate::support::guests::guest("commands");
    site.config(
        "a.twc",
        &format!(
            "RegisterWatch('/n', Wasm({:?}, config={{'name': 'c'}}, commands={{'c': ['/bin/true']}}), name='w')",
            guest.display().to_string()
        ),
    );
    let tree = site.path("tree");
    let daemon = site.start_with(&["--tree", &tree.to_string_lossy(), "--max-running", "1"]);
    assert_eq!(daemon.wait_runs("w", 1)[0]["outcome"], "success");
}

#[test]
fn more_than_the_descriptors_allow_is_refused_in_words() {
    let site = Site::new();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_twitcher"))
        .args(["run", "--max-running", "99999999999", "--tree"])
        .arg(site.path("tree"))
        .arg("--config")
        .arg(site.path("conf"))
        .output()
        .unwrap();
    let words = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        words.contains("--max-running 99999999999 is too high") && words.contains("open files"),
        "{words}"
    );
}
