//! Hosts that are gone for good.

use zookeeper_client::{Acls, CreateMode};

use super::Stage;
use crate::support::until;
use crate::support::zookeeper::ZooKeeperServer;

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_gone_is_forgotten_and_may_come_back_as_a_new_one() {
    let stage = Stage::new(&ZooKeeperServer::shared().address(), "fleet-forget").await;
    let first = stage.host("web-1");
    let super::Host { daemon, site, .. } = stage.host("web-2");
    first.until_laggards("repo", 0, &["2 hosts: nobody lags"]);
    let (code, said) = first.operate(&["fleet", "forget", "web-2"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("its daemon is connected"), "{said}");

    daemon.stop();
    stage.change("2").await;
    let said = first.until_laggards("repo", 1, &["1 lagging"]);
    assert!(said.contains("web-2") && said.contains("absent"), "{said}");
    let (code, said) = first.operate(&["fleet", "forget", "web-2"]);
    assert_eq!((code, &*said), (0, "web-2: forgotten, with 1 znode that it had left\n"));
    first.until_laggards("repo", 0, &["1 host: nobody lags"]);
    assert_eq!(stage.children("/hosts").await, ["web-1"]);
    assert!(first.daemon.text().contains("the fleet has forgotten a host"));

    let second = stage.start("web-2", site, &[]);
    first.until_laggards("repo", 0, &["2 hosts: nobody lags"]);
    let (code, said) = second.operate(&["fleet", "forget", "web-2"]);
    assert_eq!(code, 1, "not itself either: {said}");
    for nobody in ["web-3", "..", "a/b", "", "\u{1b}"] {
        let (code, said) = first.operate(&["fleet", "forget", nobody]);
        assert_ne!(code, 0, "{nobody:?}: {said}");
    }
    assert_eq!(stage.children("/hosts").await, ["web-1", "web-2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_in_a_hosts_place_is_forgotten_and_a_failure_leaves_the_name_free() {
    let stage = Stage::new(&ZooKeeperServer::shared().address(), "fleet-forget-odd").await;
    let host = stage.host("web-1");
    host.until_published();
    let odd = format!("{}/hosts/a bü", stage.root);
    stage.create(&odd, "{").await;
    for child in ["live", "w.repo", "something else"] {
        stage.create(&format!("{odd}/{child}"), "{").await;
    }
    let (code, said) = host.operate(&["fleet", "forget", "a bü"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("2 znodes"), "{said}");

    // What has children of its own was made by nobody who is of the fleet.
    let deep = format!("{}/hosts/web-2", stage.root);
    stage.create(&deep, "{").await;
    stage.create(&format!("{deep}/mine"), "").await;
    stage.create(&format!("{deep}/mine/own"), "").await;
    let (code, said) = host.operate(&["fleet", "forget", "web-2"]);
    assert_eq!(code, 1, "{said}");
    assert_eq!(stage.children("/hosts/web-2").await, ["mine"], "the name is free");

    // Somebody else's ephemeral may be a daemon.
    stage.client.delete(&format!("{deep}/mine/own"), None).await.unwrap();
    let options = CreateMode::Ephemeral.with_acls(Acls::anyone_all());
    let live = format!("{deep}/live");
    stage.client.create(&live, b"garbage", &options).await.unwrap();
    let (code, said) = host.operate(&["fleet", "forget", "web-2"]);
    assert_eq!(code, 1, "{said}");
    assert!(said.contains("its daemon is connected"), "{said}");
    stage.client.delete(&live, None).await.unwrap();
    until("it is forgotten", || host.operate(&["fleet", "forget", "web-2"]).0 == 0);
    assert_eq!(stage.children("/hosts").await, ["web-1"]);
}

/// A reboot that was planned is no reason to look at a host.
#[tokio::test(flavor = "multi_thread")]
async fn that_a_daemon_stops_changes_nothing_of_where_its_host_stands() {
    let stage = Stage::new(&ZooKeeperServer::shared().address(), "fleet-stop").await;
    let first = stage.host("web-1");
    let watches = r#"
RegisterWatch(znode = "ZNODE", name = "quiet", action = Exec("true"), run_on_load = False)
RegisterWatch(znode = "ZNODE", name = "broken", action = Exec("exit 3"))
"#;
    let super::Host { daemon, site, socket } = stage.host_with("web-2", watches, &[]);
    first.until_laggards("quiet", 0, &["nobody lags"]);
    first.until_laggards("broken", 1, &["exit code 3"]);
    let host = super::Host { daemon, site, socket };
    host.until_published();
    let before = [
        stage.record("/hosts/web-2/w.quiet").await,
        stage.record("/hosts/web-2/w.broken").await,
    ];
    host.daemon.stop();
    until("it is absent", || {
        first.operate(&["fleet", "hosts"]).1.contains("absent")
    });
    let after = [
        stage.record("/hosts/web-2/w.quiet").await,
        stage.record("/hosts/web-2/w.broken").await,
    ];
    assert_eq!(before, after);
    first.until_laggards("quiet", 0, &["nobody lags"]);
}
