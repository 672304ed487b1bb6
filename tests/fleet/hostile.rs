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
    let (_, said) = host.operate(&["fleet", "hosts"]);
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
        host.operate(&["fleet", "hosts", "--json"])
            .1
            .contains("\"name\":\"web-1\"")
            && {
                let json: serde_json::Value =
                    serde_json::from_str(&host.operate(&["fleet", "hosts", "--json"]).1).unwrap();
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

/// Whatever was put where a host's own znodes are to be.
#[tokio::test(flavor = "multi_thread")]
async fn what_others_have_put_in_a_hosts_place_is_replaced_or_said() {
    let server = ZooKeeperServer::start_with(Setup {
        max_buffer: Some(4 << 20),
        ..Setup::default()
    });
    let large = "x".repeat(2 << 20);
    for (test, own, result) in [
        ("fleet-own-garbage", "\u{0}{", "\u{1b}[31m"),
        ("fleet-own-large", large.as_str(), large.as_str()),
        ("fleet-own-other", r#"{"v":1,"id":"\u001b[31m"}"#, r#"{"v":99}"#),
    ] {
        let stage = Stage::new(&server.address(), test).await;
        let path = format!("{}/hosts/web-1", stage.root);
        stage.create(&stage.root, r#"{"v":1,"later":true}"#).await;
        stage.create(&format!("{}/hosts", stage.root), large.as_str()).await;
        stage.create(&path, own).await;
        stage.create(&format!("{path}/w.repo"), result).await;
        stage.create(&format!("{path}/w.gone"), result).await;
        // It does not go away by itself, so it is nobody's presence.
        stage.create(&format!("{path}/live"), result).await;
        let host = stage.host("web-1");
        host.daemon.wait_runs("repo", 1);
        host.until_laggards("repo", 0, &["1 host: nobody lags"]);
        assert_eq!(stage.children("/hosts/web-1").await, ["live", "w.repo"]);
        assert!(!host.daemon.text().contains('\u{1b}'));
    }

    let stage = Stage::new(&server.address(), "fleet-own-newer").await;
    let path = format!("{}/hosts/web-1", stage.root);
    stage.create(&stage.root, r#"{"v":1}"#).await;
    stage.create(&format!("{}/hosts", stage.root), "").await;
    stage.create(&path, r#"{"v":99,"id":7}"#).await;
    let host = runs_all_the_same(&stage, "of version 99").await;
    assert_eq!(stage.children("/hosts/web-1").await, Vec::<String>::new());
    stage.client.delete(&path, None).await.unwrap();
    host.until_published();
}

#[tokio::test(flavor = "multi_thread")]
async fn znodes_that_may_not_be_written_or_read_stop_no_watch() {
    let server = ZooKeeperServer::shared();
    let read = [Acl::new(Permission::READ | Permission::ADMIN, AuthId::anyone())];
    let nothing = [Acl::new(Permission::ADMIN, AuthId::anyone())];
    let all = [Acl::new(Permission::ALL, AuthId::anyone())];
    for (test, acl) in [("fleet-no-write", &read), ("fleet-no-read", &nothing)] {
        // Where all hosts are, the host's own, and its result.
        for locked in 0..3 {
            let stage = Stage::new(&server.address(), &format!("{test}-{locked}")).await;
            stage.create(&stage.root, r#"{"v":1}"#).await;
            let paths = ["/hosts", "/hosts/web-1", "/hosts/web-1/w.repo"].map(|path| format!("{}{path}", stage.root));
            for path in &paths[..=locked] {
                stage.create(path, "{").await;
            }
            stage.client.set_acl(&paths[locked], acl, None).await.unwrap();
            if locked == 2 {
                // What a former host of the name has left is deleted, for which its own list does not matter.
                let host = stage.host("web-1");
                host.until_laggards("repo", 0, &["1 host: nobody lags"]);
                // Of the host's own result it does: what it cannot write it says, and goes on.
                stage.client.set_acl(&paths[locked], acl, None).await.unwrap();
                stage.change("2").await;
                host.daemon.wait_runs("repo", 2);
                host.until_problem("no permission for znode");
                stage.client.set_acl(&paths[locked], &all, None).await.unwrap();
                host.until_published();
                continue;
            }
            let host = runs_all_the_same(&stage, "no permission for znode").await;
            stage.client.set_acl(&paths[locked], &all, None).await.unwrap();
            host.until_published();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ephemeral_of_somebody_else_keeps_a_host_out_until_it_is_gone() {
    let stage = Stage::new(&ZooKeeperServer::shared().address(), "fleet-foreign").await;
    stage.create(&stage.root, r#"{"v":1}"#).await;
    for path in ["/hosts", "/hosts/web-1"] {
        stage.create(&format!("{}{path}", stage.root), "").await;
    }
    let somebody = zookeeper_client::Client::connect(&stage.address).await.unwrap();
    let live = format!("{}/hosts/web-1/live", stage.root);
    let options = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
    somebody.create(&live, b"\x1b[31m{", &options).await.unwrap();
    let host = runs_all_the_same(&stage, "a host called web-1 is in the fleet already").await;
    assert_eq!(stage.children("/hosts/web-1").await, ["live"]);
    drop(somebody);
    host.until_published();
    assert_eq!(stage.children("/hosts/web-1").await, ["live", "w.repo"]);
}
