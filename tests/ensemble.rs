//! The daemon on a real ZooKeeper, with faults between them: after whatever happened, the last state is run for, once.

use nix::sys::signal::Signal;

use crate::support::daemon::{Daemon, Site};
use crate::support::proxy::Proxy;
use crate::support::until;
use crate::support::writer::Writer;
use crate::support::zookeeper::{ZooKeeperServer, free_port};

const LOG: &str = "RegisterWatch('/git/head', Exec('echo $TWITCHER_EVENT $(cat) >> OUT/log'), name='head')";

fn start(site: &Site, address: &str) -> Daemon {
    site.start_with(&["--zk", address, "--zk-session-timeout", "4"])
}

#[test]
fn changes_of_a_real_znode_run_the_action() {
    let server = ZooKeeperServer::start();
    let writer = Writer::new(&server);
    let site = Site::new();
    site.config("a.twc", LOG);
    let daemon = start(&site, &server.address());
    daemon.wait("connected", |line| {
        line["message"].as_str().is_some_and(|m| m.starts_with("connected"))
    });
    daemon.wait("armed", |line| {
        line["watch"] == "head" && line["message"].as_str().is_some_and(|m| m.contains("absent"))
    });
    writer.create("/git", "");
    writer.create("/git/head", "one");
    daemon.wait_runs("head", 1);
    writer.set("/git/head", "two");
    daemon.wait_runs("head", 2);
    // Setting the same data is a change, too: that is how a post-commit hook pokes.
    writer.set("/git/head", "two");
    daemon.wait_runs("head", 3);
    writer.delete("/git/head");
    writer.create("/git/head", "three");
    until("the last state is run for", || {
        site.lines("out/log").last().is_some_and(|line| line.ends_with("three"))
    });
    assert_eq!(
        site.lines("out/log"),
        ["created one", "data two", "data two", "created three"]
    );
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn the_flags_of_the_original_work() {
    let server = ZooKeeperServer::start();
    let writer = Writer::new(&server);
    writer.create("/n", "x");
    let site = Site::new();
    site.config("a.twc", "RegisterWatch('/n', Exec('cat > OUT/log'))");
    let child = std::process::Command::new(env!("CARGO_BIN_EXE_twitcher"))
        .args([
            "run",
            "--zkservers",
            &server.address(),
            "--log_to_stdout",
            "-v",
            "--config_path",
        ])
        .arg(site.path("conf"))
        .arg("--state-dir")
        .arg(site.path("state"))
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    until("it ran", || site.read("out/log") == "x");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&output.stdout).contains("run ended"));
}

#[test]
fn a_server_that_comes_late_and_restarts_is_waited_for() {
    let mut server = ZooKeeperServer::start();
    let writer = Writer::new(&server);
    writer.create("/git", "");
    writer.create("/git/head", "one");
    let site = Site::new();
    site.config("a.twc", LOG);
    let proxy = Proxy::to(server.port());
    proxy.rules(|rules| rules.refuse = true);
    let daemon = start(&site, &proxy.address());
    daemon.wait("it says that there is no server", |line| {
        line["level"] == "WARN" || line["level"] == "ERROR"
    });
    proxy.rules(|rules| rules.refuse = false);
    daemon.wait_runs("head", 1);
    server.kill();
    daemon.wait_for(2, "it says that the server is gone", |line| {
        line["level"] == "WARN" || line["level"] == "ERROR"
    });
    server.restart();
    writer.set("/git/head", "two");
    daemon.wait_runs("head", 2);
    assert_eq!(site.lines("out/log"), ["load one", "data two"], "run for once each");
}

#[test]
fn a_change_while_the_session_is_lost_or_expires_is_run_for_once() {
    let server = ZooKeeperServer::start();
    let writer = Writer::new(&server);
    writer.create("/git", "");
    writer.create("/git/head", "one");
    let site = Site::new();
    site.config("a.twc", LOG);
    let proxy = Proxy::to(server.port());
    let daemon = start(&site, &proxy.address());
    daemon.wait_runs("head", 1);
    // Lost and found again within the session.
    proxy.rules(|rules| rules.refuse = true);
    proxy.sever();
    writer.set("/git/head", "two");
    proxy.rules(|rules| rules.refuse = false);
    daemon.wait_runs("head", 2);
    // Silent for longer than the session lives.
    proxy.rules(|rules| rules.blackhole = true);
    writer.set("/git/head", "three");
    daemon.wait("expired", |line| {
        line["message"].as_str().is_some_and(|m| m.contains("expired"))
    });
    proxy.rules(|rules| rules.blackhole = false);
    proxy.sever();
    daemon.wait_runs("head", 3);
    assert_eq!(site.lines("out/log"), ["load one", "data two", "data three"]);
    // Armed again, not just read once.
    writer.set("/git/head", "four");
    daemon.wait_runs("head", 4);
}

/// The original registered what it had loaded twice when it connected only afterwards: every change then ran twice.
#[test]
fn nobody_listens_at_the_server_yet_the_daemon_starts_and_stops() {
    let site = Site::new();
    site.config("a.twc", LOG);
    let daemon = start(&site, &format!("127.0.0.1:{}", free_port()));
    daemon.wait("it says so", |line| line["level"] == "WARN" || line["level"] == "ERROR");
    assert_eq!(daemon.stop().code(), Some(0));
}

/// Wiped servers that are set up anew by the same steps count to the same transactions, of which other data is made.
#[test]
fn other_data_of_the_same_transactions_is_run_for() {
    let mut server = ZooKeeperServer::start();
    let set_up = |server: &ZooKeeperServer, data: &str| {
        let writer = Writer::new(server);
        writer.create("/git", "");
        writer.create("/git/head", data);
    };
    set_up(&server, "one");
    let site = Site::new();
    let tree =
        "RegisterWatch('/git', Exec('cat >> OUT/tree'), watch_type=WATCH_TREE, run_on_load=IF_CHANGED, name='tree')";
    site.config("a.twc", &format!("{LOG}\n{tree}"));
    let proxy = Proxy::to(server.port());
    let daemon = start(&site, &proxy.address());
    daemon.wait_runs("head", 1);
    daemon.wait_runs("tree", 1);
    // While the daemon runs.
    proxy.rules(|rules| rules.refuse = true);
    proxy.sever();
    server.wipe();
    server.restart();
    set_up(&server, "two");
    proxy.rules(|rules| rules.refuse = false);
    daemon.wait_runs("head", 2);
    daemon.wait_runs("tree", 2);
    assert_eq!(site.lines("out/log"), ["load one", "data two"]);
    assert_eq!(daemon.stop().code(), Some(0));
    // While it does not.
    server.wipe();
    server.restart();
    set_up(&server, "six");
    let daemon = start(&site, &proxy.address());
    daemon.wait_runs("head", 1);
    daemon.wait_runs("tree", 1);
    assert_eq!(site.lines("out/tree").len(), 3 * 2, "{:?}", site.lines("out/tree"));
    assert_eq!(daemon.stop().code(), Some(0));
    let daemon = start(&site, &proxy.address());
    daemon.wait_runs("head", 1);
    assert_eq!(site.lines("out/tree").len(), 3 * 2, "unchanged since");
}
