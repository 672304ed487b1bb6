//! What becomes of rollouts when somebody else has been at their znodes, when the fleet cannot be asked, and when nothing goes out.

use super::rollouts::{Fleet, states};
use super::{Host, Stage};
use crate::support::daemon::Site;
use crate::support::zookeeper::ZooKeeperServer;
use crate::support::{http, until};

const HOSTS: [&str; 2] = ["web-1", "web-2"];

async fn two(test: &str, rollout: &str) -> Fleet {
    let fleet = Fleet::new(test, rollout).await.of(&HOSTS);
    until("both have the first state", || fleet.started("1").len() == 2);
    fleet.until_state("done");
    fleet
}

async fn set(fleet: &Fleet, path: &str, data: &str) {
    let path = format!("{}{path}", fleet.stage.root);
    fleet.stage.client.set_data(&path, data.as_bytes(), None).await.unwrap();
}

async fn delete(fleet: &Fleet, path: &str) {
    let path = format!("{}{path}", fleet.stage.root);
    fleet.stage.client.delete(&path, None).await.unwrap();
}

/// One host has started for the second state, and is held there.
async fn one_acts(fleet: &Fleet) -> String {
    for host in HOSTS {
        fleet.mark(&format!("hold-{host}"));
    }
    fleet.stage.change("2").await;
    until("one has started", || fleet.started("2").len() == 1);
    fleet.started("2").remove(0)
}

async fn both_end(fleet: &Fleet) {
    for host in HOSTS {
        fleet.unmark(&format!("hold-{host}"));
    }
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!(fleet.started("2").len(), 2);
    assert_eq!(fleet.most_at_once(), 1, "{:?}", fleet.journal());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_slot_of_a_host_that_acts_is_there_again_when_somebody_has_deleted_it() {
    let fleet = two("heal-grant", "at_once = 1").await;
    let host = one_acts(&fleet).await;
    let before = fleet.stage.record(&format!("/rollouts/repo/grants/{host}")).await;
    delete(&fleet, &format!("/rollouts/repo/grants/{host}")).await;
    let path = format!("{}/rollouts/repo/grants/{host}", fleet.stage.root);
    let mut found = false;
    for _ in 0..300 {
        found = fleet.stage.client.check_stat(&path).await.unwrap().is_some();
        if found {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert!(found, "{:?}", fleet.status());
    let after = fleet.stage.record(&format!("/rollouts/repo/grants/{host}")).await;
    assert_eq!((&after["slot"], &after["serial"]), (&before["slot"], &before["serial"]));
    assert_eq!(fleet.started("2").len(), 1, "nobody else has got it");
    both_end(&fleet).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_somebody_has_written_over_is_written_again_and_frees_no_slot() {
    let fleet = two("heal-result", "at_once = 1").await;
    let host = one_acts(&fleet).await;
    set(&fleet, &format!("/hosts/{host}/r.repo"), "\u{0}{").await;
    until("it is as it was", || {
        states(&fleet.status()).contains(&(host.clone(), "acting".to_owned()))
    });
    assert_eq!(fleet.started("2").len(), 1, "nobody else has its slot");
    // Also where it was deleted, and the steward has taken the slot for one of a host that has left.
    fleet.operate(&["fleet", "pause", "repo"]);
    delete(&fleet, &format!("/hosts/{host}/r.repo")).await;
    until("it is as it was", || {
        states(&fleet.status()).contains(&(host.clone(), "acting".to_owned()))
    });
    fleet.operate(&["fleet", "resume", "repo"]);
    assert_eq!(fleet.started("2").len(), 1, "nobody else has its slot");
    both_end(&fleet).await;
    // Where no slot is held as well.
    set(&fleet, &format!("/hosts/{host}/r.repo"), r#"{"v":1}"#).await;
    until("it is current", || {
        states(&fleet.status()).contains(&(host.clone(), "current".to_owned()))
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_acts_on_garbage_is_told_what_is_there_and_how_to_mend_it() {
    let fleet = two("heal-gate", "at_once = 1").await;
    set(&fleet, "/rollouts/repo", "\u{0}{").await;
    for verb in ["abort", "retry", "pause", "resume", "promote", "status", "rollback"] {
        let (code, said) = fleet.hosts[0].operate(&["fleet", verb, "repo"]);
        let heals = format!("twitcher znode delete -r {}/rollouts/repo", fleet.stage.root);
        assert!(
            code != 0 && said.contains("it makes no sense") && said.contains(&heals),
            "{verb}: {said}"
        );
    }
    let (_, said) = fleet.hosts[0].operate(&["fleet", "release", "web-2", "repo"]);
    assert!(said.contains("it makes no sense"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_makes_no_sense_hides_no_other() {
    let fleet = two("heal-one", "at_once = 1").await;
    fleet
        .stage
        .create(&format!("{}/rollouts/other", fleet.stage.root), "\u{0}{")
        .await;
    let counter = format!("{}/rollouts/other/grants", fleet.stage.root);
    fleet.stage.create(&counter, r#"{"v":1,"granted":0}"#).await;
    let said = fleet.operate(&["fleet", "status"]);
    let heals = format!("twitcher znode delete -r {}/rollouts/other", fleet.stage.root);
    for part in ["repo ", ": done", "other: cannot be read", "it makes no sense", &heals] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let (code, said) = fleet.hosts[0].operate(&["fleet", "wait", "nowhere"]);
    assert_eq!(code, 5, "1 would be an answer: {said}");
    let json = fleet.operate(&["fleet", "status", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["rollouts"][0]["name"], &json["broken"][0]["name"]),
        (&"repo".into(), &"other".into())
    );
    for age in ["0", "2"] {
        let path = format!("/v1/fleet/rollouts/other?max_age={age}");
        let answer = http::operate(&fleet.hosts[0].socket, "GET", &path);
        assert!(
            answer.status == 503 && answer.body.contains("it makes no sense"),
            "{}",
            answer.body
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_goes_out_the_next_change_can_be_held() {
    let fleet = two("pause-next", "at_once = 1").await;
    let said = fleet.operate(&["fleet", "pause", "repo"]);
    assert!(said.contains("paused"), "{said}");
    fleet.stage.change("2").await;
    let status = fleet.until_state("paused");
    assert_eq!((status["serial"].as_u64(), fleet.started("2").len()), (Some(2), 0));
    fleet.operate(&["fleet", "resume", "repo"]);
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!(fleet.started("2").len(), 2);
    // A pause of nothing ends without a trace.
    fleet.operate(&["fleet", "pause", "repo"]);
    let (code, said) = fleet.hosts[0].operate(&["fleet", "abort", "repo"]);
    assert!(code != 0 && said.contains("nothing is going out"), "{said}");
    fleet.operate(&["fleet", "resume", "repo"]);
    fleet.until_state("done");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_after_all_were_away_waits_also_for_hosts_that_are_about_to_come_back() {
    let mut fleet = two("wait-rejoin", "at_once = 1").await;
    let mut sites = Vec::new();
    for Host { daemon, site, .. } in std::mem::take(&mut fleet.hosts) {
        daemon.stop();
        sites.push(site);
    }
    fleet.stage.change("2").await;
    let second = sites.pop().unwrap();
    fleet.hosts.push(fleet.stage.start("web-1", sites.pop().unwrap(), &[]));
    until("the first has the change", || {
        states(&fleet.status()).contains(&("web-1".to_owned(), "current".to_owned())) && fleet.started("2").len() == 1
    });
    std::thread::scope(|scope| {
        let waits = scope.spawn(|| fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]));
        let late = fleet.stage.start("web-2", second, &[]);
        let said = waits.join().unwrap();
        assert!(said.contains("2 hosts: 2 current"), "{said}");
        drop(late);
    });
    assert_eq!(fleet.started("2").len(), 2);
}

/// A rollout that does not wait for ever for a fleet.
const IMPATIENT: &str = r#"RegisterWatch(znode = "ZNODE", name = "repo", timeout = 9, action = Exec("cat >> OUT/ran"), rollout = Rollout("repo", at_once = 1, unavailable = 1))"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_host_acts_without_its_turn_when_the_fleet_cannot_be_asked_for_long() {
    let stage = Stage::new(&ZooKeeperServer::shared().address(), "unavailable").await;
    stage.create(&stage.root, r#"{"v":99}"#).await;
    let host = stage.host_with("web-1", IMPATIENT, &[]);
    host.daemon.wait("that it does not wait any longer", |line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("acting without it"))
    });
    host.daemon.wait_runs("repo", 1);
    stage.change("2").await;
    host.daemon.wait_runs("repo", 2);
    // It is told, and shown, when there is a fleet.
    stage.client.set_data(&stage.root, br#"{"v":1}"#, None).await.unwrap();
    let mut said = String::new();
    until("the fleet knows", || {
        said = host.operate(&["fleet", "status", "repo"]).1;
        said.contains("acted without its turn")
    });
    assert!(said.contains("current"), "{said}");
    let part = stage.record("/hosts/web-1/r.repo").await;
    assert_eq!(part["last"]["ungoverned"], true, "{part}");
    // From now on it has its turns.
    stage.change("3").await;
    host.daemon.wait_runs("repo", 3);
    until("the turn is known", || {
        let status = crate::support::http::operate(&host.socket, "GET", "/v1/fleet/rollouts/repo").json();
        status["state"] == "done" && status["hosts"][0]["last_run"]["ungoverned"] == false
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_in_no_fleet_waits_as_long_as_its_rollout_says() {
    let stage = Stage::new(&ZooKeeperServer::shared().address(), "unavailable-alone").await;
    let site = Site::new();
    site.config("a.twc", &IMPATIENT.replace("ZNODE", &stage.znode));
    let host = stage.start_alone(site, &[]);
    host.daemon.wait_runs("repo", 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_would_wait_for_its_turn() {
    let stage = Stage::new(&ZooKeeperServer::shared().address(), "rollout-dry").await;
    let host = stage.host_with("web-1", &IMPATIENT.replace(", unavailable = 1", ""), &["--dry-run"]);
    host.daemon.wait("that it would wait", |line| {
        line["message"] == "would wait for its turn in the rollout" && line["rollout"] == "repo"
    });
}
