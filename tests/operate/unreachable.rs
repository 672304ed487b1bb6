//! Orders that need ZooKeeper while it cannot be reached.

use std::time::{Duration, Instant};

use serde_json::Value;
use zookeeper_client::{Acls, Client, CreateMode};

use super::{printed, refused};
use crate::support::daemon::{Daemon, Site};
use crate::support::until;
use crate::support::zookeeper::ZooKeeperServer;

fn write(server: &ZooKeeperServer, data: &'static [u8]) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let client = Client::connect(&server.address()).await.unwrap();
        let open = CreateMode::Persistent.with_acls(Acls::anyone_all());
        match client.create("/a", data, &open).await {
            Ok(_) => {}
            Err(zookeeper_client::Error::NodeExists) => drop(client.set_data("/a", data, None).await.unwrap()),
            Err(error) => panic!("{error}"),
        }
    });
}

/// What it has run for so far.
fn events(daemon: &Daemon) -> Vec<String> {
    let lines = daemon.wait_for(0, "runs", |line: &Value| line["message"] == "run started");
    lines
        .iter()
        .map(|line| line["event"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn a_run_on_request_that_cannot_be_is_refused_and_does_not_happen_later_either() {
    let mut server = ZooKeeperServer::start();
    write(&server, b"1");
    let site = Site::new();
    site.config(
        "a.twc",
        r#"RegisterWatch(znode = "/a", action = Exec("true"), name = "a")"#,
    );
    let socket = site.path("s");
    let control = socket.to_string_lossy();
    let daemon = site.start_with(&[
        "--zk",
        &server.address(),
        "--zk-session-timeout",
        "20",
        "--control",
        &control,
    ]);
    daemon.wait_runs("a", 1);

    // It hangs, and the session is not lost yet.
    server.pause(true);
    let asked = Instant::now();
    let (code, said) = refused(&socket, &["run-now", "a"]);
    assert!(
        code == 1 && said.contains("could not be read in time, and nothing is run"),
        "{said}"
    );
    assert!(said.contains("hint: `twitcher status --control /"), "{said}");
    assert!(asked.elapsed() < Duration::from_secs(20), "{:?}", asked.elapsed());
    server.pause(false);
    write(&server, b"2");
    daemon.wait_runs("a", 2);

    server.kill();
    until("it knows", || !printed(&socket, &["status"]).contains(", connected"));
    let (code, said) = refused(&socket, &["run-now", "a"]);
    assert!(
        code == 1 && said.contains("there is no connection to what is watched"),
        "{said}"
    );
    server.restart();
    until("it is back", || printed(&socket, &["status"]).contains(", connected"));
    write(&server, b"3");
    daemon.wait_runs("a", 3);
    assert_eq!(events(&daemon), ["load", "data", "data"]);

    printed(&socket, &["pause", "a"]);
    let (code, said) = refused(&socket, &["run-now", "a"]);
    assert!(
        code == 1 && said.contains("paused") && said.contains("`twitcher resume a --control /"),
        "{said}"
    );
}
