//! Thousands of watches that change at once: how long until every action has ended, beside `xargs` with as many programs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use zookeeper_client::Client;

use crate::many::{TRUE, config, create_nodes, node};
use crate::peer::{Log, Peer};
use crate::support::zookeeper::ZooKeeperServer;
use crate::table::Table;
use crate::{before, median};

const WATCHES: usize = 5_000;
/// Storms of each kind, each by daemons of their own.
const TURNS: usize = 5;

pub async fn measure(table: &mut Table) {
    let server = ZooKeeperServer::start();
    let servers = server.address();
    create_nodes(&Client::connect(&servers).await.unwrap(), WATCHES).await;
    let file = std::env::var_os("TWITCHER_BENCH_COMPONENT").map(PathBuf::from);
    let mut actions = vec![("a command", TRUE.to_owned())];
    // Whether processes that wait are made after each first run is part of what a storm costs, and the default.
    actions.extend(file.map(|file| ("a component", format!("Wasm({file:?})"))));
    let programs = before::programs();
    let mut times = vec![vec![Vec::new(); programs.len()]; actions.len()];
    let mut peers = Vec::new();
    for _ in 0..TURNS {
        peers.push(xargs());
        for ((_, action), times) in actions.iter().zip(&mut times) {
            for (program, times) in programs.iter().zip(times) {
                times.push(storm(program, &servers, action).await);
            }
        }
    }
    let peer = median(peers.clone());
    table.beside(
        format!("`xargs -P2 -n1 /bin/true`, {WATCHES} times"),
        peers,
        "throughput 1",
    );
    for ((what, _), mut times) in actions.iter().zip(times) {
        let ours = times.remove(0);
        let throughput = peer.as_secs_f64() / median(ours.clone()).as_secs_f64();
        table.judged(
            format!("{WATCHES} watches of {what} changed at once: first write → last action ended"),
            ours,
            times.pop(),
            format!("throughput {throughput:.2}"),
        );
    }
}

/// From the first write until the last action has ended.
async fn storm(program: &Path, servers: &str, action: &str) -> Duration {
    let (config, dir) = (config(WATCHES, action), tempfile::tempdir().unwrap());
    let mut log = Log::new(dir.path().join("log"));
    let _daemon = Peer::daemon_of(program, servers, config.path(), &log.path, &[]);
    log.until("all watches are armed", 1).await;
    let writer = Client::connect(servers).await.unwrap();
    let begin = Instant::now();
    let mut writes = JoinSet::new();
    for index in 0..WATCHES {
        let writer = writer.clone();
        writes.spawn(async move { writer.set_data(&node(index), b"1", None).await.map(drop) });
    }
    while let Some(done) = writes.join_next().await {
        done.unwrap().unwrap();
    }
    log.until("run ended", WATCHES).await;
    begin.elapsed()
}

/// As many programs that do nothing.
fn xargs() -> Duration {
    let numbers: String = (0..WATCHES).map(|number| format!("{number}\n")).collect();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("numbers"), numbers).unwrap();
    let mut command = Command::new("xargs");
    command.args(["-P2", "-n1", "/bin/true"]).env_remove("LD_LIBRARY_PATH");
    command
        .stdin(fs::File::open(dir.path().join("numbers")).unwrap())
        .stdout(Stdio::null());
    let begin = Instant::now();
    assert!(command.status().unwrap().success());
    begin.elapsed()
}
