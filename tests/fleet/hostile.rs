//! Whatever is below the root of a fleet, watches run as ever, and what is wrong is said.

use zookeeper_client::{Acl, Acls, AuthId, CreateMode, Permission};

use super::Stage;
use crate::support::until;
use crate::support::zookeeper::{Setup, ZooKeeperServer};

/// A daemon that cannot join runs its action for the load and for a change, says why, and joins when it can.
async fn runs_all_the_same(stage: &Stage, problem: &str) -> super::Host {
    let host = stage.host("web-1");
    host.daemon.wait_runs("repo", 1);
    stage.change("2").await;
    host.daemon.wait_runs("repo", 2);
    host.until_problem(problem);
    host
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_is_of_another_version_or_garbage_or_hidden_stops_no_watch() {
    let server = ZooKeeperServer::shared();
    for (test, data, problem) in [
        ("fleet-newer", r#"{"v":99,"hosts":7}"#, "of version 99"),
        ("fleet-garbage", "\u{0}\u{1b}[31m{", "it makes no sense"),
    ] {
        let stage = Stage::new(&server.address(), test).await;
        stage.create(&stage.root, data).await;
        let host = runs_all_the_same(&stage, problem).await;
        stage.client.set_data(&stage.root, br#"{"v":1}"#, None).await.unwrap();
        host.until_published();
    }
    let stage = Stage::new(&server.address(), "fleet-hidden").await;
    let nobody = [Acl::new(Permission::ADMIN, AuthId::anyone())];
    let options = CreateMode::Persistent.with_acls(Acls::new(&nobody));
    stage.client.create(&stage.root, b"{\"v\":1}", &options).await.unwrap();
    let host = runs_all_the_same(&stage, "no permission for znode").await;
    stage
        .client
        .set_acl(&stage.root, &[Acl::new(Permission::ALL, AuthId::anyone())], None)
        .await
        .unwrap();
    host.until_published();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_hosts_garbage_hides_no_other() {
    let server = ZooKeeperServer::start_with(Setup {
        max_buffer: Some(4 << 20),
        ..Setup::default()
    });
    let stage = Stage::new(&server.address(), "fleet-one").await;
    let host = stage.host("web-1");
    host.until_laggards("repo", 0, &["1 host"]);
    let hosts = format!("{}/hosts", stage.root);
    stage.create(&format!("{hosts}/web-2"), "{").await;
    stage.create(&format!("{hosts}/web-3"), &"x".repeat(2 << 20)).await;
    stage.create(&format!("{hosts}/web-4"), r#"{"v":99}"#).await;
    stage.create(&format!("{hosts}/web-5"), r#"{"v":1,"id":"x"}"#).await;
    stage
        .create(
            &format!("{hosts}/web-5/live"),
            r#"{"v":1,"id":"x","since":"2026-01-01T00:00:00Z"}"#,
        )
        .await;
    stage.create(&format!("{hosts}/web-6"), r#"{"v":1,"id":"x"}"#).await;
    stage
        .create(
            &format!("{hosts}/web-6/w.other"),
            r#"{"v":1,"watch":"repo","znode":"/x","kind":"data","state":"current"}"#,
        )
        .await;
    host.until_laggards("repo", 1, &["0 lagging, 5 not to be read"]);
    let (_, said) = host.operate(&["fleet", "status"]);
    for part in [
        "it makes no sense",
        "more than the",
        "of version 99",
        "not ephemeral",
        "another watch",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(
        said.lines()
            .any(|line| line.starts_with("web-1") && line.contains("current")),
        "{said}"
    );

    // The host's own: what others put there is put right, and the presence comes back.
    let own = format!("{hosts}/web-1");
    stage
        .client
        .set_data(&format!("{own}/w.repo"), b"garbage", None)
        .await
        .unwrap();
    stage.client.delete(&format!("{own}/live"), None).await.unwrap();
    stage.change("2").await;
    host.daemon.wait_runs("repo", 2);
    until("the result is right again", || {
        host.operate(&["fleet", "status", "--json"])
            .1
            .contains("\"name\":\"web-1\"")
            && {
                let json: serde_json::Value =
                    serde_json::from_str(&host.operate(&["fleet", "status", "--json"]).1).unwrap();
                json["hosts"][0]["problem"].is_null() && json["hosts"][0]["lagging"] == 0
            }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fleets_znodes_may_be_deleted_under_it() {
    let stage = Stage::new(&ZooKeeperServer::shared().address(), "fleet-deleted").await;
    let host = stage.host("web-1");
    host.until_laggards("repo", 0, &["1 host"]);
    for path in ["/hosts/web-1/live", "/hosts/web-1/w.repo", "/hosts/web-1", "/hosts", ""] {
        stage
            .client
            .delete(&format!("{}{path}", stage.root), None)
            .await
            .unwrap();
    }
    stage.change("2").await;
    host.daemon.wait_runs("repo", 2);
    host.until_laggards("repo", 0, &["1 host"]);
    assert_eq!(stage.children("/hosts/web-1").await, ["live", "w.repo"]);
}
