//! Whatever is done to the znodes of a rollout while it is under way, nobody starts who may not, and it goes on when it is mended.

use zookeeper_client::{Acls, Client, CreateMode};

use super::rollouts::Fleet;
use super::{Host, Stage};
use crate::support::until;
use crate::support::zookeeper::{Setup, ZooKeeperServer};

/// Deletes a rollout with all that is below it, at once.
async fn delete_rollout(stage: &Stage) {
    let gate = format!("{}/rollouts/repo", stage.root);
    loop {
        let mut transaction = stage.client.new_multi_writer();
        for grant in stage.children("/rollouts/repo/grants").await {
            transaction.add_delete(&format!("{gate}/grants/{grant}"), None).unwrap();
        }
        for child in stage.children("/rollouts/repo").await {
            transaction.add_delete(&format!("{gate}/{child}"), None).unwrap();
        }
        transaction.add_delete(&gate, None).unwrap();
        // A steward that is elected meanwhile is one more below it.
        if transaction.commit().await.is_ok() {
            return;
        }
    }
}

/// Two hosts that are done with the first state, one of which has begun with the second and is held.
async fn in_the_middle(address: &str, test: &str) -> (Fleet, String) {
    let mut fleet = Fleet::new(test, "at_once = 1").await;
    fleet.stage = Stage::new(address, test).await;
    let fleet = fleet.of(&["web-1", "web-2"]);
    until("both have the first state", || fleet.started("1").len() == 2);
    fleet.until_state("done");
    fleet.mark("hold-web-1");
    fleet.mark("hold-web-2");
    fleet.stage.change("2").await;
    until("one has started", || fleet.started("2").len() == 1);
    let first = fleet.started("2").remove(0);
    (fleet, first)
}

async fn garbage_starts_nobody(test: &str, data: &str, words: &str) {
    let server = ZooKeeperServer::start_with(Setup {
        max_buffer: Some(4 << 20),
        ..Setup::default()
    });
    for at in 0..3 {
        let (fleet, first) = in_the_middle(&server.address(), test).await;
        let other = if first == "web-1" { "web-2" } else { "web-1" };
        let place = [
            "/rollouts/repo".to_owned(),
            "/rollouts/repo/grants".to_owned(),
            format!("/rollouts/repo/grants/{other}"),
        ];
        let path = format!("{}{}", fleet.stage.root, place[at]);
        fleet.stage.client.set_data(&path, data.as_bytes(), None).await.unwrap();
        if at == 2 {
            // Whatever changes slots at the same time says so in the counter.
            let counter = format!("{}/rollouts/repo/grants", fleet.stage.root);
            let (known, _) = fleet.stage.client.get_data(&counter).await.unwrap();
            fleet.stage.client.set_data(&counter, &known, None).await.unwrap();
        }
        fleet.unmark("hold-web-1");
        fleet.unmark("hold-web-2");
        until("the first has ended", || {
            fleet.journal().contains(&(false, first.clone(), "2".to_owned()))
        });
        until("somebody says why it does not go on", || {
            fleet.hosts.iter().any(|host| {
                let problem = host.membership()["rollouts"][0]["problem"].clone();
                problem.as_str().is_some_and(|problem| problem.contains(words))
            })
        });
        assert_eq!(fleet.started("2"), [first], "{}", place[at]);
        delete_rollout(&fleet.stage).await;
        until("the other has it, too", || {
            fleet.started("2").contains(&other.to_owned())
        });
        fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_in_the_middle_starts_nobody() {
    garbage_starts_nobody("middle-garbage", "\u{0}\u{1b}[31m{", "it makes no sense").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_later_version_says_starts_nobody() {
    garbage_starts_nobody("middle-newer", r#"{"v":99,"serial":2}"#, "of version 99").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_starts_nobody() {
    garbage_starts_nobody("middle-large", &"x".repeat(2 << 20), "more than the").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_that_is_deleted_in_the_middle_begins_anew() {
    let (fleet, first) = in_the_middle(&ZooKeeperServer::shared().address(), "middle-deleted").await;
    delete_rollout(&fleet.stage).await;
    fleet.unmark("hold-web-1");
    fleet.unmark("hold-web-2");
    let other = if first == "web-1" { "web-2" } else { "web-1" };
    until("the other has it, too", || {
        fleet.started("2").contains(&other.to_owned())
    });
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    fleet.stage.change("3").await;
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!(fleet.started("3").len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_in_the_office_holds_the_rollout_up_and_nothing_else() {
    let mut fleet = Fleet::new("middle-office", "at_once = 1").await.of(&["web-1", "web-2"]);
    until("both have the first state", || fleet.started("1").len() == 2);
    fleet.until_state("done");
    let sites = fleet.hosts.drain(..).map(|Host { daemon, site, .. }| {
        daemon.stop();
        site
    });
    let sites: Vec<_> = sites.collect();
    let office = format!("{}/rollouts/repo/steward", fleet.stage.root);
    let stranger = Client::connect(&fleet.stage.address).await.unwrap();
    let options = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
    stranger.create(&office, b"\x1b[31m{", &options).await.unwrap();
    for (name, site) in ["web-1", "web-2"].into_iter().zip(sites) {
        let host = fleet.stage.start(name, site, &[]);
        host.until_published();
        fleet.hosts.push(host);
    }
    fleet.stage.change("2").await;
    until("the change is known, and nobody sends it out", || {
        let status = fleet.status();
        status["goal"] != status["newest"] && status["steward"].is_null()
    });
    assert_eq!(fleet.started("2").len(), 0);
    assert!(!fleet.operate(&["fleet", "status", "repo"]).contains('\u{1b}'));
    drop(stranger);
    until("both have it", || fleet.started("2").len() == 2);
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);

    // What does not go away with a session is nobody's office.
    let steward = fleet.status()["steward"].as_str().unwrap().to_owned();
    let at = usize::from(steward == "web-2");
    let Host { daemon, site, .. } = fleet.hosts.remove(at);
    daemon.crash();
    until("it is vacant", || fleet.status()["steward"] != steward.as_str());
    let stage = &fleet.stage;
    // The other one may be faster.
    let _ = stage.client.delete(&office, None).await;
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    let _ = stage.client.create(&office, b"{", &options).await;
    fleet.hosts.push(stage.start(&steward, site, &[]));
    stage.change("3").await;
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!(fleet.started("3").len(), 2);
    assert_eq!(fleet.most_at_once(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_hosts_of_one_name_only_one_has_turns() {
    let mut fleet = Fleet::new("middle-clone", "at_once = 2").await.of(&["web-1"]);
    until("it has the first state", || fleet.started("1").len() == 1);
    fleet.join("web-1", &[]);
    fleet.hosts[1].until_problem("a host called web-1 is in the fleet already");
    fleet.stage.change("2").await;
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!(fleet.started("2"), ["web-1"]);
    let Host { daemon, .. } = fleet.hosts.remove(0);
    daemon.stop();
    fleet.hosts[0].until_published();
    fleet.stage.change("3").await;
    fleet.operate(&["fleet", "wait", "repo", "--timeout", "60"]);
    assert_eq!(fleet.started("3"), ["web-1"]);
    assert_eq!(fleet.most_at_once(), 1);
}
