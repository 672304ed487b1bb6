//! One verify of a watch at a time, none that nobody waits for, and no host that is taken for well because nobody looked.

use std::fs;

use nix::unistd::Pid;

use super::rollouts::{Fleet, states};
use crate::support::daemon::alive;
use crate::support::{http, until};

/// It writes down who it is, and when another is still there; then it waits for as long as it is told to, and does not listen meanwhile.
const DEAF: &str = r#"verify = Exec("trap '' TERM; test ! -e SHARED/pid || ! kill -0 $(cat SHARED/pid) 2>/dev/null || echo two >> SHARED/two; echo $$ > SHARED/pid; echo >> SHARED/looks; while test -e SHARED/deaf; do sleep 0.02; done"), verify_for = 0, at_once = 1"#;

/// It says no where the host is marked as unwell, and takes as long as it is marked as slow.
const VERIFY: &str = r#"verify = Exec("echo >> SHARED/looks; while test -e SHARED/slow; do sleep 0.02; done; test ! -e SHARED/unwell || exit 4"), verify_for = 0, at_once = 1"#;

/// A check that takes as long as it is marked as slow.
const CHECK: &str = r#"at_once = 1, waves = [Wave(check = Exec("test ! -e SHARED/slow || { echo $$ > SHARED/pid; exec sleep 1000; }"))]"#;

async fn alone(test: &str, rollout: &str) -> Fleet {
    let mut fleet = Fleet::new(test, rollout).await;
    fleet.watch = "timeout = 60, kill_after = 1.5";
    fleet.join("web-1", &[]);
    until("it has the first state", || fleet.started("1").len() == 1);
    fleet.until_state("done");
    fleet
}

fn state(fleet: &Fleet) -> String {
    states(&fleet.status())
        .pop()
        .map(|(_, state)| state)
        .unwrap_or_default()
}

fn looks(fleet: &Fleet) -> usize {
    let text = fs::read_to_string(fleet.shared.path().join("looks")).unwrap_or_default();
    text.lines().count()
}

fn pid(fleet: &Fleet) -> Option<Pid> {
    let text = fs::read_to_string(fleet.shared.path().join("pid")).ok()?;
    text.trim().parse().ok().map(Pid::from_raw)
}

/// Waits until something runs that it has written its pid for, other than this.
fn until_runs(fleet: &Fleet, before: Option<Pid>) -> Pid {
    let mut found = None;
    until("it runs", || {
        found = pid(fleet).filter(|pid| Some(*pid) != before && alive(*pid));
        found.is_some()
    });
    found.unwrap()
}

fn until_gone(pid: Pid) {
    until("it is gone", || !alive(pid));
}

/// The watch goes out of the configuration.
fn remove_watch(fleet: &Fleet) {
    fs::remove_file(fleet.hosts[0].site.path("conf/a.twc")).unwrap();
    until("the watch is gone", || {
        http::operate(&fleet.hosts[0].socket, "GET", "/v1/watches/repo").status == 404
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_verify_that_does_not_listen_is_seen_and_holds_up_the_next_one_and_the_action() {
    let fleet = alone("verify-deaf", DEAF).await;
    fleet.mark("deaf");
    fleet.stage.change("2").await;
    let first = until_runs(&fleet, pid(&fleet));
    let running = http::operate(&fleet.hosts[0].socket, "GET", "/v1/runs?outcome=running").json();
    assert_eq!(
        (&running["runs"][0]["event"], &running["runs"][0]["pid"]),
        (&"verify".into(), &first.as_raw().into()),
        "{running}"
    );
    fleet.stage.change("3").await;
    until("it is told what is waited for", || {
        let (_, said) = fleet.hosts[0].operate(&["status", "repo"]);
        said.contains("that was ended still runs")
    });
    until("the newer change starts", || fleet.started("3").len() == 1);
    assert!(!alive(first), "it runs beside the action");
    let second = until_runs(&fleet, Some(first));
    fleet.stage.change("4").await;
    until("the newest change starts", || fleet.started("4").len() == 1);
    assert!(!alive(second), "it runs beside the action");
    until_runs(&fleet, Some(second));
    // Somebody does not wait for his turn: the action starts, and the next verify waits for the end of the former.
    let (code, said) = fleet.hosts[0].operate(&["run-now", "repo", "--ungoverned"]);
    assert_eq!(code, 0, "{said}");
    until("it acts again", || fleet.started("4").len() == 2);
    let before = looks(&fleet);
    until("it is looked at again", || looks(&fleet) > before);
    fleet.unmark("deaf");
    fleet.until_state("done");
    assert!(!fleet.shared.path().join("two").exists(), "two have run at once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_comes_back_is_not_current_before_it_was_verified() {
    let fleet = alone("verify-back", VERIFY).await;
    fleet.mark("slow");
    fleet.stage.change("2").await;
    until("it is being verified", || state(&fleet) == "verifying");
    until("verify runs", || looks(&fleet) == 2);
    remove_watch(&fleet);
    until("verify is ended", || {
        let running = http::operate(&fleet.hosts[0].socket, "GET", "/v1/runs?outcome=running").json();
        running["runs"].as_array().is_some_and(Vec::is_empty)
    });
    let config = fleet.site("web-1");
    fs::copy(config.path("conf/a.twc"), fleet.hosts[0].site.path("conf/a.twc")).unwrap();
    until("it is being verified again", || {
        let state = state(&fleet);
        assert_ne!(state, "current", "nobody has looked");
        state == "verifying" && looks(&fleet) == 3
    });
    fleet.unmark("slow");
    fleet.until_state("done");
    assert_eq!((state(&fleet), fleet.started("2").len()), ("current".to_owned(), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_released_is_verified_with_its_next_slot_and_not_before() {
    let fleet = alone("verify-released", VERIFY).await;
    fleet.mark("unwell");
    fleet.stage.change("2").await;
    until("it is being verified", || {
        state(&fleet) == "verifying" && looks(&fleet) > 1
    });
    let said = fleet.operate(&["fleet", "status", "repo"]);
    until("the fleet is told what it answers", || {
        fleet
            .operate(&["fleet", "status", "repo"])
            .contains("verify: exit code 4")
    });
    assert!(said.contains("verifying"), "{said}");
    fleet.operate(&["fleet", "pause", "repo"]);
    fleet.operate(&["fleet", "release", "web-1", "repo"]);
    assert_eq!(state(&fleet), "waiting");
    until("nobody looks any more", || {
        let (_, said) = fleet.hosts[0].operate(&["status", "repo"]);
        !said.contains("verify of its rollout")
    });
    fleet.unmark("unwell");
    let before = looks(&fleet);
    fleet.operate(&["fleet", "resume", "repo"]);
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!((looks(&fleet), state(&fleet)), (before + 1, "current".to_owned()));
    assert_eq!(fleet.started("2").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_nobody_waits_for_any_more_is_ended() {
    let fleet = alone("check-ended", CHECK).await;
    fleet.mark("slow");
    fleet.stage.change("2").await;
    let first = until_runs(&fleet, None);
    fleet.operate(&["fleet", "pause", "repo"]);
    until_gone(first);
    fleet.operate(&["fleet", "resume", "repo"]);
    let second = until_runs(&fleet, Some(first));
    fleet.operate(&["fleet", "abort", "repo"]);
    until_gone(second);
    fleet.stage.change("3").await;
    let third = until_runs(&fleet, Some(second));
    remove_watch(&fleet);
    until_gone(third);
}
