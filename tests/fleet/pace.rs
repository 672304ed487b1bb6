//! No watch waits for the fleet: measured beside a daemon that is in none, and with a fleet whose requests never come through.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use zookeeper_client::{Acls, CreateMode};

use super::{Stage, WATCH};
use crate::support::daemon::Site;
use crate::support::guests::guest;
use crate::support::proxy::Proxy;
use crate::support::until;
use crate::support::zookeeper::ZooKeeperServer;

/// So many hosts make each wait some 4 s before it writes.
const HOSTS: usize = 2000;
const CHANGES: usize = 15;
/// By which the medians may differ. Whoever waited for a write of the fleet would be later by half a turn, which is two seconds.
const SLACK: Duration = Duration::from_millis(500);

/// When each run began, since 1970.
fn begun(host: &super::Host) -> Vec<Duration> {
    let lines = host.site.lines("out/begun");
    lines
        .iter()
        .map(|line| Duration::from_nanos(line.parse().unwrap()))
        .collect()
}

fn median(mut all: Vec<Duration>) -> Duration {
    all.sort();
    all[all.len() / 2]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_starts_as_fast_in_a_large_fleet_as_in_none() {
    let stage = Stage::new(&ZooKeeperServer::shared().address(), "fleet-pace").await;
    let hosts = format!("{}/hosts", stage.root);
    stage.create(&stage.root, r#"{"v":1}"#).await;
    stage.create(&hosts, "").await;
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    let paths: Vec<String> = (0..HOSTS).map(|number| format!("{hosts}/h{number}")).collect();
    for path in paths.chunks(200) {
        let created: Vec<_> = path
            .iter()
            .map(|path| stage.client.create(path, b"{", &options))
            .collect();
        for created in created {
            created.await.unwrap();
        }
    }
    let config = r#"RegisterWatch(znode = "ZNODE", name = "repo", action = Exec("date +%s%N >> OUT/begun"))"#;
    let fleet = stage.host_with("web-1", config, &[]);
    let site = Site::new();
    site.config("a.twc", &config.replace("ZNODE", &stage.znode));
    let alone = stage.start_alone(site, &[]);
    fleet.until_published();
    alone.daemon.wait_runs("repo", 1);

    let mut late = [Vec::new(), Vec::new()];
    for change in 0..CHANGES {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        stage.change(&format!("change {change}")).await;
        for (host, late) in [&fleet, &alone].into_iter().zip(&mut late) {
            until("it runs", || begun(host).len() == change + 2);
            late.push(begun(host)[change + 1].saturating_sub(now));
        }
    }
    let [in_fleet, in_none] = late.map(median);
    assert!(
        in_fleet <= in_none + SLACK,
        "{in_fleet:?} in a fleet, {in_none:?} in none"
    );
    fleet.until_published();
    let stat = stage
        .client
        .check_stat(&format!("{hosts}/web-1/w.repo"))
        .await
        .unwrap()
        .unwrap();
    assert!(
        stat.version < CHANGES as i32,
        "only the newest is written: {CHANGES} changes, {} writes",
        stat.version
    );
    let (code, said) = alone.operate(&["fleet", "laggards"]);
    assert_eq!(code, 5, "{said}");
    assert!(said.contains("in no fleet"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_does_not_wait_for_a_fleet_that_never_answers() {
    let server = ZooKeeperServer::shared();
    let proxy = Proxy::to(server.port());
    let hold_back = |yes: bool| proxy.rules(|rules| rules.hold_back = yes.then(|| b"/hosts".to_vec()));
    let mut stage = Stage::new(&server.address(), "fleet-deaf").await;
    stage.address = proxy.address();
    hold_back(true);
    let begin = Instant::now();
    let host = stage.host_with("web-1", WATCH, &[]);
    host.daemon.wait_runs("repo", 1);
    for change in 2..6 {
        stage.change(&change.to_string()).await;
        host.daemon.wait_runs("repo", change);
    }
    // One request of the fleet alone is given 10 s.
    assert!(begin.elapsed() < Duration::from_secs(9), "{:?}", begin.elapsed());
    assert!(host.membership()["since"].is_null());
    let status = host.operate(&["status"]);
    assert_eq!(status.0, 0, "{}", status.1);

    hold_back(false);
    host.until_published();
    hold_back(true);
    for change in 6..10 {
        stage.change(&change.to_string()).await;
        host.daemon.wait_runs("repo", change);
    }
    // It does not hold up the end of the daemon either.
    let begin = Instant::now();
    host.daemon.stop();
    assert!(begin.elapsed() < Duration::from_secs(9), "{:?}", begin.elapsed());
}

/// Surveys are made one after the other, and whoever waits for them all hears in time what the matter is.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_asks_about_a_fleet_that_does_not_answer_is_told_so() {
    let server = ZooKeeperServer::shared();
    let proxy = Proxy::to(server.port());
    let mut stage = Stage::new(&server.address(), "fleet-hangs").await;
    stage.address = proxy.address();
    let host = stage.host_with("web-1", WATCH, &[]);
    host.until_published();
    proxy.rules(|rules| rules.blackhole = true);
    std::thread::scope(|scope| {
        let asks = [(); 4].map(|()| scope.spawn(|| host.operate(&["fleet", "laggards"])));
        for (code, said) in asks.map(|asks| asks.join().unwrap()) {
            assert!(
                code != 0 && said.contains("the fleet ") && said.contains(" be read"),
                "{said}"
            );
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_takes_two_sessions_whatever_it_watches() {
    let server = ZooKeeperServer::shared();
    let proxy = Proxy::to(server.port());
    let mut stage = Stage::new(&server.address(), "fleet-sessions").await;
    stage.address = proxy.address();
    for child in ["tree", "tree/part", "list", "list/child"] {
        stage.create(&format!("{}/{child}", stage.znode), "1").await;
    }
    let config = r#"
RegisterWatch(znode = "ZNODE", name = "repo", action = Exec("true"))
RegisterWatch(znode = "ZNODE", name = "turns", action = Exec("true"), rollout = Rollout("turns", at_once = 1))
RegisterWatch(znode = "ZNODE", name = "plugin", action = Wasm("GUEST",
    config = {"do": "create", "path": "ZNODE/made"}, znodes = {"ZNODE/**": "rw"}))
RegisterWatch(znode = "ZNODE/tree", name = "tree", watch_type = WATCH_TREE, action = Exec("true"))
RegisterWatch(znode = "ZNODE/list", name = "list", watch_type = WATCH_CHILDREN, action = Exec("true"))
def register(number):
    RegisterWatch(znode = "ZNODE-far/" + str(number) + "/away", name = "far" + str(number), action = Exec("true"))
[register(number) for number in range(100)]
"#;
    let config = config.replace("GUEST", &guest("znodes").display().to_string());
    let host = stage.host_with("web-1", &config, &[]);
    host.until_published();
    for watch in ["repo", "turns", "plugin", "tree", "list"] {
        host.daemon.wait_runs(watch, 1);
    }
    let made = stage.client.check_stat(&format!("{}/made", stage.znode)).await;
    assert!(made.unwrap().is_some(), "the plugin has made a request");
    for (path, watch) in [("", "repo"), ("/tree/part", "tree")] {
        let path = format!("{}{path}", stage.znode);
        stage.client.set_data(&path, b"2", None).await.unwrap();
        host.daemon.wait_runs(watch, 2);
    }
    stage.create(&format!("{}/list/other", stage.znode), "1").await;
    host.daemon.wait_runs("list", 2);
    host.until_laggards("tree", 0, &["1 host: nobody lags"]);
    assert_eq!(proxy.connections(), 2);
}
