//! `run_on_load=IF_CHANGED`, nodes that went away unseen, and parked watches, over restarts.

use std::fs;

use nix::sys::signal::Signal;

use super::{message, said, until_stored};
use crate::support::daemon::Site;
use crate::support::zookeeper::ZooKeeperServer;

const ARMED: &str = "watch armed";

fn logging(fields: &str) -> String {
    format!(
        "RegisterWatch('/n', Exec('read d; echo $TWITCHER_EVENT $d >> OUT/log; [ \"$d\" != bad ]'), name='n', {fields})"
    )
}

#[test]
fn if_changed_runs_only_what_has_not_succeeded_yet() {
    let site = Site::new();
    site.set("/n", "one\n");
    site.config("a.twc", &logging("run_on_load=IF_CHANGED"));
    let daemon = site.start();
    daemon.wait_runs("n", 1);
    // Gracefully, so that all is written.
    daemon.stop();
    let daemon = site.start();
    daemon.wait(
        "unchanged",
        message("n", "update ignored: it has not changed since the last success"),
    );
    assert_eq!(site.lines("out/log"), ["load one"]);
    daemon.stop();
    // Changed while nobody watched.
    site.set("/n", "bad\n");
    let daemon = site.start();
    daemon.wait_runs("n", 1);
    daemon.stop();
    // A failure under KEEP is no success.
    let daemon = site.start();
    daemon.wait_runs("n", 1);
    site.set("/n", "two\n");
    daemon.wait_runs("n", 2);
    until_stored(&site, "SELECT count(*) = 4 FROM run");
    daemon.crash();
    let daemon = site.start();
    daemon.wait(
        "unchanged",
        message("n", "update ignored: it has not changed since the last success"),
    );
    daemon.stop();
    assert_eq!(site.lines("out/log"), ["load one", "load bad", "load bad", "data two"]);
}

#[test]
fn if_changed_is_for_children_and_subtrees_too() {
    let site = Site::new();
    site.set("/hosts/a", "1");
    site.config(
        "a.twc",
        r#"
for kind in [WATCH_CHILDREN, WATCH_TREE]:
    RegisterWatch("/hosts", Exec("cat > /dev/null; echo $TWITCHER_NAME >> OUT/log"), watch_type=kind, name=kind, run_on_load=IF_CHANGED)
"#,
    );
    let both = ["WATCH_CHILDREN", "WATCH_TREE"];
    let daemon = site.start();
    both.iter().for_each(|name| drop(daemon.wait_runs(name, 1)));
    daemon.stop();
    let daemon = site.start();
    both.iter()
        .for_each(|name| drop(daemon.wait("unchanged", message(name, "update ignored: it has not changed"))));
    daemon.stop();
    assert_eq!(site.lines("out/log").len(), 2);
    // Another child's data is a change of the subtree, but not of the children.
    site.set("/hosts/a", "2");
    let daemon = site.start();
    daemon.wait_runs("WATCH_TREE", 1);
    daemon.wait(
        "unchanged",
        message("WATCH_CHILDREN", "update ignored: it has not changed"),
    );
    daemon.stop();
    site.set("/hosts/b", "1");
    let daemon = site.start();
    both.iter().for_each(|name| drop(daemon.wait_runs(name, 1)));
    daemon.stop();
    assert_eq!(site.lines("out/log").len(), 5);
}

#[test]
fn an_ensemble_that_was_made_anew_is_another_one() {
    let mut server = ZooKeeperServer::start();
    let site = Site::new();
    site.config("a.twc", &logging("run_on_load=IF_CHANGED"));
    // The same sessions, the same transactions, the same numbers: only the contents tell.
    let fill = |server: &ZooKeeperServer, data: &'static str| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let client = zookeeper_client::Client::connect(&server.address()).await.unwrap();
            let options = zookeeper_client::CreateMode::Persistent.with_acls(zookeeper_client::Acls::anyone_all());
            client.create("/n", data.as_bytes(), &options).await.unwrap().0.mzxid
        })
    };
    let first = fill(&server, "one\n");
    let start = |server: &ZooKeeperServer| site.start_with(&["--zk", &server.address(), "--zk-session-timeout", "4"]);
    let daemon = start(&server);
    daemon.wait_runs("n", 1);
    daemon.stop();
    let daemon = start(&server);
    daemon.wait("unchanged", message("n", "update ignored: it has not changed"));
    daemon.stop();
    server.wipe();
    server.restart();
    assert_eq!(
        fill(&server, "two\n"),
        first,
        "the new ensemble is at the same transaction"
    );
    let daemon = start(&server);
    daemon.wait_runs("n", 1);
    daemon.stop();
    assert_eq!(site.lines("out/log"), ["load one", "load two"]);
}

#[test]
fn a_node_that_went_away_unseen_is_deleted() {
    let site = Site::new();
    site.set("/n", "one\n");
    site.config("a.twc", &logging("on_delete=True"));
    let daemon = site.start();
    daemon.wait_runs("n", 1);
    daemon.stop();
    fs::remove_file(site.path("tree/n")).unwrap();
    let daemon = site.start();
    daemon.wait_runs("n", 1);
    daemon.stop();
    let daemon = site.start();
    daemon.wait("armed", message("n", ARMED));
    daemon.wait("armed", |line| line["message"] == "all watches are armed");
    daemon.stop();
    assert_eq!(site.lines("out/log"), ["load one", "deleted"]);
}

#[test]
fn a_removed_watch_that_comes_back_is_known() {
    let site = Site::new();
    site.set("/n", "one\n");
    site.config("a.twc", &logging("run_on_load=IF_CHANGED"));
    let daemon = site.start();
    daemon.wait_runs("n", 1);
    fs::remove_file(site.path("conf/a.twc")).unwrap();
    daemon.wait("removed", |line| {
        line["message"] == "configuration loaded" && line["removed"] == 1
    });
    site.config("a.twc", &logging("run_on_load=IF_CHANGED"));
    daemon.wait("unchanged", message("n", "update ignored: it has not changed"));
}

#[test]
fn a_parked_watch_stays_parked_until_it_is_resumed_or_defined_anew() {
    let site = Site::new();
    site.set("/n", "bad\n");
    site.config("a.twc", &logging("on_failure=STOP"));
    let daemon = site.start();
    daemon.wait("parked", message("n", "watch parked"));
    until_stored(&site, "SELECT count(*) = 1 FROM watch WHERE parked_at IS NOT NULL");
    daemon.crash();
    let daemon = site.start();
    daemon.wait("still parked", message("n", "watch is still parked"));
    daemon.wait("it waits", message("n", "update queued (load): the watch is parked"));
    assert_eq!(site.lines("out/log"), ["load bad"]);
    // Resumed, it is not parked by the next daemon.
    site.set("/n", "good\n");
    daemon.wait(
        "it waits",
        message("n", "update queued (load): the watch is parked, replacing"),
    );
    daemon.signal(Signal::SIGHUP);
    daemon.wait_runs("n", 1);
    site.set("/n", "bad\n");
    daemon.wait_runs("n", 2);
    daemon.stop();
    let daemon = site.start();
    said(&daemon, "watch is still parked");
    daemon.stop();
    site.config("a.twc", &logging("on_failure=STOP, timeout=60"));
    let daemon = site.start();
    said(&daemon, "is defined anew");
    daemon.wait_runs("n", 1);
    daemon.stop();
    assert_eq!(site.lines("out/log"), ["load bad", "load good", "data bad", "load bad"]);
}
