//! A slot is held until the host that has acted is well, and a wave until its check lets the next one go.

use std::fs;

use nix::unistd::Pid;

use super::Host;
use super::rollouts::{Fleet, states};
use crate::support::daemon::alive;
use crate::support::{http, until};

/// It says no where a host is marked as unwell, and takes as long as the host is marked as slow.
const VERIFY: &str = r#"verify = Exec("echo HOST $TWITCHER_EVENT >> SHARED/looks; while test -e SHARED/slow-HOST; do sleep 0.02; done; test ! -e SHARED/unwell-HOST || { echo HOST is not well; exit 4; }")"#;

const HOSTS: [&str; 3] = ["web-1", "web-2", "web-3"];

/// A fleet whose hosts all have the first state.
async fn fleet(test: &str, more: &str) -> Fleet {
    let fleet = Fleet::new(test, &format!("at_once = 1, {VERIFY}, {more}")).await;
    let fleet = fleet.of(&HOSTS);
    until("all have the first state", || fleet.started("1").len() == 3);
    fleet.until_state("done");
    fleet
}

fn mark_all(fleet: &Fleet, what: &str) {
    for host in HOSTS {
        fleet.mark(&format!("{what}-{host}"));
    }
}

fn unmark_all(fleet: &Fleet, what: &str) {
    for host in HOSTS {
        fleet.unmark(&format!("{what}-{host}"));
    }
}

/// How often hosts were looked at.
fn looks(fleet: &Fleet) -> usize {
    let text = fs::read_to_string(fleet.shared.path().join("looks")).unwrap_or_default();
    text.lines().filter(|line| line.ends_with(" verify")).count()
}

/// Waits until a host has acted and is not well yet.
fn until_verifying(fleet: &Fleet) -> String {
    let mut found = None;
    until("a host is being verified", || {
        let states = states(&fleet.status());
        found = states
            .into_iter()
            .find(|(_, state)| state == "verifying")
            .map(|(host, _)| host);
        found.is_some()
    });
    found.unwrap()
}

fn at(fleet: &Fleet, host: &str) -> usize {
    let is_it = |one: &Host| one.membership()["host"] == host;
    fleet.hosts.iter().position(is_it).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_is_held_until_the_host_is_well() {
    let fleet = fleet("verify-held", "verify_for = 0").await;
    assert!(looks(&fleet) >= 3);
    mark_all(&fleet, "unwell");
    fleet.stage.change("2").await;
    let host = until_verifying(&fleet);
    let before = looks(&fleet);
    until("it is looked at again and again", || looks(&fleet) > before + 1);
    assert_eq!(fleet.started("2"), std::slice::from_ref(&host));
    let (code, said) = fleet.hosts[at(&fleet, &host)].operate(&["status", "repo"]);
    assert!(code == 0 && said.contains("verify of its rollout"), "{said}");
    let metrics = fleet
        .hosts
        .iter()
        .map(|host| http::operate(&host.socket, "GET", "/metrics").body);
    let line = "twitcher_rollout_hosts{rollout=\"repo\",state=\"verifying\"} 1";
    assert_eq!(metrics.filter(|text| text.contains(line)).count(), 1);
    let (code, said) = fleet.hosts[0].operate(&["fleet", "wait", "repo", "--timeout", "0.5"]);
    assert!(code == 1 && said.contains("verifying"), "{said}");
    // What a pause holds is starts: who is being verified gets well, and gives its slot back.
    fleet.operate(&["fleet", "pause", "repo"]);
    unmark_all(&fleet, "unwell");
    until("it is current", || {
        states(&fleet.status()).contains(&(host.clone(), "current".to_owned()))
    });
    assert_eq!(
        (fleet.started("2").len(), fleet.status()["slots"].as_u64()),
        (1, Some(0))
    );
    fleet.operate(&["fleet", "resume", "repo"]);
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!(fleet.started("2").len(), 3);
    assert_eq!(fleet.most_at_once(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_does_not_get_well_in_time_has_failed_and_can_try_again() {
    let fleet = fleet("verify-unwell", "verify_for = 0, verify_deadline = 2").await;
    mark_all(&fleet, "unwell");
    fleet.stage.change("2").await;
    assert_eq!(fleet.until_state("halted")["why"], "1 host failed, 0 allowed");
    let failed = fleet.started("2");
    assert_eq!(failed.len(), 1);
    let said = fleet.operate(&["fleet", "status", "repo"]);
    assert!(said.contains("verify: exit code 4"), "{said}");
    let run = said
        .split("twitcher logs ")
        .nth(1)
        .unwrap()
        .split_whitespace()
        .next()
        .unwrap();
    let (code, output) = fleet.hosts[at(&fleet, &failed[0])].operate(&["logs", run]);
    assert!(
        code == 0 && output.contains(&format!("{} is not well", failed[0])),
        "{output}"
    );
    unmark_all(&fleet, "unwell");
    fleet.operate(&["fleet", "retry", "repo"]);
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    let started = fleet.started("2");
    assert_eq!(
        (started.len(), &started[1]),
        (4, &failed[0]),
        "who has failed comes first, and acts again"
    );
    assert_eq!(fleet.most_at_once(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_killed_while_it_verifies_begins_anew_with_that_and_keeps_its_slot() {
    let mut fleet = fleet("verify-killed", "verify_for = 0").await;
    mark_all(&fleet, "slow");
    fleet.stage.change("2").await;
    let host = until_verifying(&fleet);
    until("verify runs", || looks(&fleet) == 4);
    let index = at(&fleet, &host);
    // Who asks for what ran has it written down first.
    http::operate(&fleet.hosts[index].socket, "GET", "/v1/runs").json();
    let Host { daemon, site, .. } = fleet.hosts.remove(index);
    daemon.crash();
    let daemon = fleet.stage.start(&host, site, &[]);
    daemon.daemon.wait("what became of the run that was left", |line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("verify or check of the last daemon"))
    });
    fleet.hosts.push(daemon);
    until("it is looked at again", || looks(&fleet) == 5);
    assert_eq!(fleet.started("2"), std::slice::from_ref(&host), "{:?}", fleet.status());
    unmark_all(&fleet, "slow");
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    let started = fleet.started("2");
    assert_eq!(started.iter().filter(|one| **one == host).count(), 1, "{started:?}");
    assert_eq!(started.len(), 3);
}

/// Whoever does not listen has the time that its watch gives it, then SIGKILL: also where that is longer than the daemon waits for runs.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_stops_leaves_no_verify_behind() {
    const DEAF: &str =
        r#"at_once = 1, verify = Exec("trap '' TERM; echo $$ > SHARED/deaf; while :; do sleep 0.02; done")"#;
    let mut fleet = Fleet::new("verify-stopped", DEAF).await;
    fleet.join("web-1", &["--drain-timeout", "0.2"]);
    let path = fleet.shared.path().join("deaf");
    let pid = || fs::read_to_string(&path).ok()?.trim().parse().ok().map(Pid::from_raw);
    until("verify runs", || pid().is_some());
    let Host {
        daemon, site: _site, ..
    } = fleet.hosts.remove(0);
    assert_eq!(daemon.stop().code(), Some(4), "it was terminated");
    assert!(!alive(pid().unwrap()), "verify is still there");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_change_ends_verify_and_goes_out() {
    let fleet = fleet("verify-newer", "verify_for = 0").await;
    mark_all(&fleet, "slow");
    fleet.stage.change("2").await;
    let host = until_verifying(&fleet);
    fleet.stage.change("3").await;
    until("the newer change starts", || fleet.started("3").len() == 1);
    unmark_all(&fleet, "slow");
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!((fleet.started("2"), fleet.started("3").len()), (vec![host], 3));
    assert_eq!(fleet.most_at_once(), 1);
}

/// A check that ends as it is told, once it is no longer held up.
const CHECK: &str = r#"at_once = 3, waves = [Wave(labels = {"canary": "yes"}, check = Exec("echo HOST $TWITCHER_EVENT >> SHARED/checks; while test -e SHARED/slow; do sleep 0.02; done; exit $(cat SHARED/says)")), Wave()]"#;

async fn checked(test: &str) -> Fleet {
    let mut fleet = Fleet::new(test, CHECK).await;
    says(&fleet, "0");
    fleet.join("web-1", &["--label", "canary=yes"]);
    fleet.join("web-2", &[]);
    fleet.join("web-3", &[]);
    until("all have the first state", || fleet.started("1").len() == 3);
    fleet.until_state("done");
    fs::remove_file(fleet.shared.path().join("checks")).unwrap();
    fleet
}

fn says(fleet: &Fleet, code: &str) {
    fs::write(fleet.shared.path().join("says"), code).unwrap();
}

/// The hosts on which the check has run.
fn checks(fleet: &Fleet) -> Vec<String> {
    let text = fs::read_to_string(fleet.shared.path().join("checks")).unwrap_or_default();
    text.lines()
        .map(|line| line.strip_suffix(" check").unwrap().to_owned())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_wave_goes_when_the_check_says_so() {
    let fleet = checked("check-says").await;
    says(&fleet, "75");
    fleet.stage.change("2").await;
    fleet.until_state("checking");
    until("it is asked again", || checks(&fleet).len() == 2);
    assert_eq!(fleet.started("2"), ["web-1"]);
    says(&fleet, "0");
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!(fleet.started("2").len(), 3);
    says(&fleet, "3");
    fleet.stage.change("3").await;
    let status = fleet.until_state("halted");
    let (why, steward) = (status["why"].as_str().unwrap(), status["steward"].as_str().unwrap());
    let words = format!("the check of wave 1 says no, exit code 3: on {steward}, twitcher logs ");
    let run = why.strip_prefix(&words).unwrap_or_else(|| panic!("{why}"));
    let (code, said) = fleet.hosts[at(&fleet, steward)].operate(&["logs", run]);
    assert_eq!(code, 0, "{said}");
    let said = fleet.operate(&["fleet", "status", "repo"]);
    assert!(said.contains("twitcher fleet retry repo asks again"), "{said}");
    assert_eq!(fleet.started("3"), ["web-1"]);
    // It is asked again when an operator says so, and passed by when he says that.
    let before = checks(&fleet).len();
    fleet.operate(&["fleet", "retry", "repo"]);
    until("it is asked again", || checks(&fleet).len() == before + 1);
    fleet.until_state("halted");
    fleet.operate(&["fleet", "resume", "repo"]);
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!((fleet.started("3").len(), checks(&fleet).len()), (3, before + 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_steward_asks_the_check_again() {
    let mut fleet = checked("check-steward").await;
    fleet.mark("slow");
    fleet.stage.change("2").await;
    until("the check runs", || checks(&fleet).len() == 1);
    let steward = checks(&fleet).remove(0);
    let index = at(&fleet, &steward);
    let Host { daemon, site, .. } = fleet.hosts.remove(index);
    daemon.crash();
    until("another host asks", || checks(&fleet).len() == 2);
    assert_ne!(checks(&fleet)[1], steward);
    assert_eq!(fleet.started("2"), ["web-1"]);
    fleet.unmark("slow");
    fleet.hosts.push(fleet.stage.start(&steward, site, &[]));
    until("all have it", || fleet.started("2").len() == 3);
    fleet.until_state("done");
}
