//! What the fleet knows of its hosts.

use std::os::unix::fs::PermissionsExt as _;

use super::{Stage, WATCH};
use crate::support::zookeeper::ZooKeeperServer;
use crate::support::{http, until};

#[tokio::test(flavor = "multi_thread")]
async fn any_host_knows_who_has_handled_the_last_change() {
    let stage = Stage::new(&ZooKeeperServer::shared().address(), "fleet-laggards").await;
    let first = stage.host_with("web-1", WATCH, &["--label", "canary=yes,rack=r7"]);
    let (second, third) = (stage.host("web-2"), stage.host("web-3"));
    let all = first.until_laggards("repo", 0, &["3 hosts: nobody lags"]);
    assert_eq!(second.operate(&["fleet", "laggards"]), (0, all));

    third.site.write("out/bad", "");
    stage.change("2").await;
    let said = second.until_laggards(&stage.znode, 1, &["1 lagging", "exit code 3"]);
    assert!(said.contains("3 hosts: 1 lagging") && said.contains("web-3"), "{said}");
    assert!(said.contains("twitcher logs ") && !said.contains("web-1"), "{said}");

    // What a host has handled is known when it is not there any more, and that it has not handled what came since.
    std::fs::remove_file(third.site.path("out/bad")).unwrap();
    second.until_published();
    second.daemon.stop();
    first.until_laggards("repo", 1, &["web-3"]);
    stage.change("3").await;
    let said = first.until_laggards("repo", 1, &["1 lagging"]);
    assert!(said.contains("web-2") && said.contains("absent"), "{said}");
    let (code, said) = first.operate(&["fleet", "status"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("3 hosts: 1 absent, 1 lagging"), "{said}");
    let row = said.lines().find(|line| line.starts_with("repo ")).unwrap_or_default();
    let cells: Vec<&str> = row.split_whitespace().skip(2).collect();
    assert_eq!(cells, ["3", "2", "1", "0", "web-2"], "{said}");
    let (code, said) = first.operate(&["fleet", "hosts"]);
    assert_eq!(code, 0, "{said}");
    assert!(said.contains("canary=yes,rack=r7"), "{said}");
    let (code, json) = first.operate(&["fleet", "laggards", "--json"]);
    assert_eq!(code, 1);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["laggards"][0]["host"], "web-2");
    assert_eq!(json["laggards"][0]["live"], serde_json::Value::Null);
    let (code, said) = first.operate(&["fleet", "laggards", "repos"]);
    assert_eq!(code, 5, "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_writes_what_the_layout_says_and_only_below_its_own_znode() {
    let stage = Stage::new(&ZooKeeperServer::shared().address(), "fleet-layout").await;
    let config =
        format!("{WATCH}\nRegisterWatch(znode = \"ZNODE\", name = \"a b\", action = Exec(\"true\"), publish = False)");
    let first = stage.host_with("web-1", &config, &["--label", "rack=r7"]);
    let second = stage.host("web-2");
    first.until_laggards("repo", 0, &["2 hosts"]);
    assert_eq!(stage.record("").await, serde_json::json!({"v": 1}));
    assert_eq!(stage.children("").await, ["hosts"]);
    assert_eq!(stage.children("/hosts").await, ["web-1", "web-2"]);
    assert_eq!(stage.children("/hosts/web-1").await, ["live", "w.repo"]);
    let host = stage.record("/hosts/web-1").await;
    assert_eq!(host["labels"]["rack"], "r7");
    assert_eq!(stage.record("/hosts/web-1/live").await["id"], host["id"]);
    let result = stage.record("/hosts/web-1/w.repo").await;
    assert_eq!(
        (&result["state"], &result["last"]["outcome"]),
        (&"current".into(), &"success".into())
    );
    assert_eq!(result["at"], result["good"]);
    let live = stage
        .client
        .check_stat(&format!("{}/hosts/web-1/live", stage.root))
        .await;
    assert_ne!(live.unwrap().unwrap().ephemeral_owner, 0);

    // A watch that is gone, and one that is not published any more.
    first.site.config(
        "a.twc",
        &config.replace("ZNODE", &stage.znode).replace("\"repo\"", "\"other\""),
    );
    until("the results are those of the watches there are", || {
        let names =
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(stage.children("/hosts/web-1")));
        names == ["live", "w.other"]
    });
    assert!(
        second
            .operate(&["status"])
            .1
            .contains(&format!("{} as web-2, joined", stage.root))
    );
    first.daemon.stop();
    assert_eq!(stage.children("/hosts/web-1").await, ["w.other"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_result_waits_for_the_fleet_also_over_a_restart() {
    let mut server = ZooKeeperServer::start();
    let stage = Stage::new(&server.address(), "fleet-waits").await;
    let config = r#"RegisterWatch(znode = "ZNODE", name = "repo", run_on_load = IF_CHANGED,
        action = Exec("echo >> OUT/began; while test ! -e OUT/go; do sleep 0.05; done; cat >> OUT/ran; exit $(cat OUT/go)"))"#;
    let host = stage.host_with("web-1", config, &[]);
    host.site.write("out/go", "0");
    host.until_laggards("repo", 0, &["1 host"]);
    std::fs::remove_file(host.site.path("out/go")).unwrap();
    stage.change("2").await;
    until("it runs for the change", || host.site.lines("out/began").len() == 2);
    server.kill();
    host.site.write("out/go", "0");
    host.daemon.wait_runs("repo", 2);
    until("the result waits", || {
        let fleet = host.membership();
        fleet["since"].is_null() && fleet["unpublished"] == 1 && !fleet["problem"].is_null()
    });
    let said = host.operate(&["status"]).1;
    assert!(said.contains("1 result not published yet"), "{said}");
    let metrics = http::operate(&host.socket, "GET", "/metrics").body;
    for line in ["twitcher_fleet_connected 0", "twitcher_fleet_unpublished 1"] {
        assert!(metrics.lines().any(|has| has == line), "{line}\n{metrics}");
    }
    let lag = metrics
        .lines()
        .find_map(|line| line.strip_prefix("twitcher_fleet_publish_lag_seconds "));
    assert!(lag.is_some_and(|lag| lag.parse::<f64>().unwrap() > 0.0), "{metrics}");
    // The history waits until all that has ended is on the disk.
    host.operate(&["history", "repo"]);
    let super::Host { daemon, site, .. } = host;
    daemon.crash();
    server.restart();
    let host = stage.start("web-1", site, &[]);
    host.until_laggards("repo", 0, &["1 host"]);
    let metrics = http::operate(&host.socket, "GET", "/metrics").body;
    let alerts = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../package/alerts.yml")).unwrap();
    let words = alerts.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    for metric in words.filter(|word| word.starts_with("twitcher_fleet_")) {
        assert!(
            metrics.contains(&format!("# TYPE {metric} gauge")),
            "{metric}\n{metrics}"
        );
    }
    for line in ["twitcher_fleet_connected 1", "twitcher_fleet_unpublished 0"] {
        assert!(metrics.lines().any(|has| has == line), "{line}\n{metrics}");
    }
    assert_eq!(
        host.site.lines("out/began").len(),
        2,
        "it need not run again to be known"
    );
    let client = zookeeper_client::Client::connect(&server.address()).await.unwrap();
    let (data, _) = client
        .get_data(&format!("{}/hosts/web-1/w.repo", stage.root))
        .await
        .unwrap();
    let result: serde_json::Value = serde_json::from_slice(&data).unwrap();
    assert_eq!(result["last"]["outcome"], "success", "{result}");
    assert_eq!(result["at"], result["good"], "{result}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clone_is_refused_until_the_first_has_gone_and_a_reinstalled_host_is_new() {
    let stage = Stage::new(&ZooKeeperServer::shared().address(), "fleet-clone").await;
    let first = stage.host("web-1");
    first.until_laggards("repo", 0, &["1 host"]);
    let id = stage.record("/hosts/web-1").await["id"].clone();
    let config = WATCH.replace("\"repo\"", "\"mine\"");
    let clone = stage.host_with("web-1", &config, &[]);
    clone.until_problem("a host called web-1 is in the fleet already");
    assert!(clone.operate(&["status"]).1.contains("not joined: a host called web-1"));
    // It does its work all the same.
    clone.daemon.wait_runs("mine", 1);
    assert_eq!(stage.children("/hosts/web-1").await, ["live", "w.repo"]);
    assert_eq!(stage.record("/hosts/web-1").await["id"], id);
    assert!(first.membership()["problem"].is_null());

    first.daemon.stop();
    clone.until_published();
    assert_ne!(stage.record("/hosts/web-1").await["id"], id);
    assert_eq!(
        stage.children("/hosts/web-1").await,
        ["live", "w.mine"],
        "what the former host had handled is forgotten"
    );
    let mode = std::fs::metadata(clone.site.path("state/fleet-id"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_directory_that_was_copied_is_a_clone_too() {
    let stage = Stage::new(&ZooKeeperServer::shared().address(), "fleet-copied").await;
    let first = stage.host("web-1");
    first.until_published();
    let copy = crate::support::daemon::Site::new();
    copy.config("a.twc", &WATCH.replace("ZNODE", &stage.znode));
    std::fs::create_dir(copy.path("state")).unwrap();
    std::fs::copy(first.site.path("state/fleet-id"), copy.path("state/fleet-id")).unwrap();
    let clone = stage.start("web-1", copy, &[]);
    clone.until_problem("with the id of this one");
    clone.daemon.wait_runs("repo", 1);
    assert!(!first.membership()["since"].is_null());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_up_does_not_lag_and_who_refuses_a_state_does() {
    let stage = Stage::new(&ZooKeeperServer::shared().address(), "fleet-services").await;
    stage.change("0123456789").await;
    let watch = |name: &str, action: &str, more: &str| {
        format!("RegisterWatch(znode = \"ZNODE\", name = \"{name}\", action = Exec(\"{action}\"), {more})\n")
    };
    let stays = "exec sleep 1000";
    let config = watch(
        "restarted",
        stays,
        "service = True, ready_after = 0.2, run_mode = RESTART",
    ) + &watch(
        "told",
        "trap : HUP; while :; do sleep 0.01; done",
        "service = True, ready_after = 0.2, notify_signal = SIGHUP",
    );
    let host = stage.host_with("web-1", &config, &[]);
    let guarded = stage.host_with("web-2", &watch("guarded", "true", "refuse_shrink = 0.5"), &[]);
    for name in ["restarted", "told", "guarded"] {
        host.until_laggards(name, 0, &["nobody lags"]);
    }
    stage.change("012345678").await;
    for name in ["restarted", "told", "guarded"] {
        host.until_laggards(name, 0, &["nobody lags"]);
    }
    stage.change("0").await;
    host.until_laggards("guarded", 1, &["web-2"]);
    for name in ["restarted", "told"] {
        host.until_laggards(name, 0, &["nobody lags"]);
    }
    let (code, said) = guarded.operate(&["run-now", "guarded"]);
    assert_eq!(code, 0, "{said}");
    host.until_laggards("guarded", 0, &["nobody lags"]);
}
