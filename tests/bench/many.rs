//! Ten thousand watches under one parent.

use std::fs;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::task::JoinSet;
use zookeeper_client::{Acls, Client, CreateMode};

use crate::ms;
use crate::peer::Peer;
use crate::support::zookeeper::ZooKeeperServer;
use crate::table::Table;

pub const MANY: usize = 10_000;
const BATCH: usize = 500;

pub async fn measure(table: &mut Table) {
    let server = ZooKeeperServer::start();
    let servers = server.address();
    let writer = Client::connect(&servers).await.unwrap();
    create_nodes(&writer, MANY).await;
    let (one, all) = (config(1, TRUE), config(MANY, TRUE));
    let single = Peer::twitcher(&servers, one.path());
    single.line("all watches are armed");
    let daemon = Peer::twitcher(&servers, all.path());
    let connected = daemon.line(" connected");
    let armed = daemon.line("all watches are armed");
    table.row(
        format!("{MANY} watches under one parent: connected → armed"),
        ms(armed - connected),
        "",
    );
    // What is still busy with the start would count as idle.
    std::thread::sleep(Duration::from_secs(2));
    let each = (daemon.rss() - single.rss()) as f64 * 1024.0 / (MANY - 1) as f64;
    table.row("resident memory for each watch", format!("{each:.0} bytes"), "");
    let before = daemon.cpu_ticks();
    std::thread::sleep(Duration::from_secs(5));
    table.row(
        "CPU time in 5 s without changes",
        format!("{} ms", (daemon.cpu_ticks() - before) * 10),
        "",
    );

    // The session of the first has expired meanwhile: this thread slept.
    let writer = Client::connect(&servers).await.unwrap();
    let begin = Instant::now();
    let mut writes = JoinSet::new();
    for index in 0..MANY {
        let writer = writer.clone();
        writes.spawn(async move { writer.set_data(&node(index), b"1", None).await.map(drop) });
    }
    while let Some(done) = writes.join_next().await {
        done.unwrap().unwrap();
    }
    let written = begin.elapsed();
    for _ in 0..MANY {
        daemon.line("run ended");
    }
    let all = begin.elapsed();
    table.row(format!("all {MANY} changed at once: written"), ms(written), "");
    table.row(
        "every change seen, its action run to the end",
        ms(all),
        format!("{} each", ms(all / MANY as u32)),
    );
}

/// The action that does nothing.
pub const TRUE: &str = "Exec(['/bin/true'])";

pub async fn create_nodes(writer: &Client, count: usize) {
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    writer.create("/many", b"", &options).await.unwrap();
    for batch in 0..count / BATCH {
        let mut transaction = writer.new_multi_writer();
        for index in batch * BATCH..(batch + 1) * BATCH {
            transaction.add_create(&node(index), b"0", &options).unwrap();
        }
        transaction.commit().await.unwrap();
    }
}

pub fn node(index: usize) -> String {
    format!("/many/node-{index:05}")
}

/// Watches of the first so many nodes, with one action for all.
pub fn config(count: usize, action: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "for i in range({count}):\n    n = '0000' + str(i)\n    \
         RegisterWatch('/many/node-' + n[len(n) - 5:], {action}, run_on_load = False)\n"
    );
    fs::write(dir.path().join("a.twc"), text).unwrap();
    dir
}
