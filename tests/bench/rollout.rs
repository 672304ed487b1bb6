//! A rollout to many hosts whose actions do nothing: what it costs beside the writes alone that it is made of. The hosts are members of
//! the fleet as daemons have them, each with a session of its own, in this one process. In the end the oracle reads the servers' own logs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use zookeeper_client::{Acls, Client, CreateMode};

use crate::support::ensemble::Ensemble;
use crate::support::members::{self, GATE, Members, ROOT, Setting};
use crate::support::rollout_oracle::Oracle;
use crate::support::txnlog;
use crate::support::zookeeper::ZooKeeperServer;
use crate::table::Table;
use crate::{ms, ratio};

const PROBE: &str = "/probe";
/// How often a change goes out.
const CHANGES: usize = 3;
/// How long nothing changes.
const IDLE: Duration = Duration::from_secs(60);
/// Most transactions for a host and a change where hosts are many: its grant, its start, its result, and its share of the steward's.
const TRANSACTIONS: f64 = 3.1;
/// Most that a host which is not the steward is told of a change by the fleet: its grant.
const EVENTS: f64 = 1.0;

/// `hosts` are how many there are; more than one figure, and each is a measurement of its own.
pub async fn measure(table: &mut Table, hosts: &[usize]) {
    for hosts in hosts {
        one(table, *hosts, &Servers::One(ZooKeeperServer::start())).await;
    }
}

/// The same with an ensemble of three.
pub async fn measure_ensemble(table: &mut Table, hosts: &[usize]) {
    for hosts in hosts {
        one(table, *hosts, &Servers::Three(Ensemble::start())).await;
    }
}

enum Servers {
    One(ZooKeeperServer),
    Three(Ensemble),
}

impl Servers {
    fn all(&self) -> Vec<&ZooKeeperServer> {
        match self {
            Self::One(server) => vec![server],
            Self::Three(ensemble) => (0..3).map(|index| ensemble.server(index)).collect(),
        }
    }

    fn addresses(&self) -> String {
        let addresses: Vec<String> = self.all().iter().map(|server| server.address()).collect();
        addresses.join(",")
    }

    fn data(&self) -> Vec<PathBuf> {
        self.all().iter().map(|server| server.data()).collect()
    }

    /// What has passed over the connection of each session.
    fn traffic(&self) -> BTreeMap<i64, Traffic> {
        self.all().into_iter().flat_map(traffic).collect()
    }
}

/// What a server has received and sent over a connection.
#[derive(Debug, Clone, Copy, Default)]
struct Traffic {
    requests: i64,
    replies_and_events: i64,
    /// None where nobody counts them.
    bytes: Option<i64>,
}

/// What the server itself says of its connections, and of their bytes the kernel.
fn traffic(server: &ZooKeeperServer) -> Vec<(i64, Traffic)> {
    let bytes = bytes_sent(server.port());
    let connections = server.four_letters("cons").unwrap();
    let connection = |line: &str| {
        let field = |name: &str| {
            let rest = line.split_once(&format!("{name}="))?.1;
            rest.split([',', ')']).next()
        };
        let session = i64::from_str_radix(field("sid")?.strip_prefix("0x")?, 16).ok()?;
        let peer = line.trim().strip_prefix('/')?.split('[').next()?;
        Some((
            session,
            Traffic {
                requests: field("recved")?.parse().ok()?,
                replies_and_events: field("sent")?.parse().ok()?,
                bytes: bytes.get(peer).copied(),
            },
        ))
    };
    connections.lines().filter_map(connection).collect()
}

/// How much the kernel has sent from a port, by who is at the other end. Nothing where it cannot be asked.
fn bytes_sent(port: u16) -> BTreeMap<String, i64> {
    let filter = format!("sport = :{port}");
    let output = Command::new("ss")
        .args(["-tinHO", "state", "established", &filter])
        .output();
    let text = output
        .map(|output| String::from_utf8_lossy(&output.stdout).into_owned())
        .unwrap_or_default();
    let connection = |line: &str| {
        let peer = line.split_whitespace().nth(3)?;
        let peer = peer
            .strip_prefix("[::ffff:")
            .map_or(peer.to_owned(), |peer| peer.replacen(']', "", 1));
        let sent = line.split_once("bytes_sent:")?.1;
        Some((peer, sent.split_whitespace().next()?.parse().ok()?))
    };
    text.lines().filter_map(connection).collect()
}

async fn one(table: &mut Table, hosts: usize, servers: &Servers) {
    let client = members::connect(&servers.addresses()).await;
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    client.create(PROBE, b"", &options).await.unwrap();
    let at_once = (hosts / 20).max(1);
    let setting = Setting {
        hosts,
        at_once,
        max_failures: 0,
        takes: Duration::ZERO,
        session_timeout: Duration::from_secs(30),
        servers: vec![servers.addresses()],
    };
    let members = Members::start(setting, client.clone()).await;
    // With the first the sessions are opened and the steward is elected.
    let first = members.change().await;
    members.until_done(first).await;
    let mut times = Vec::new();
    let before = (transaction(&client).await, servers.traffic());
    for _ in 0..CHANGES {
        let begun = Instant::now();
        let state = members.change().await;
        members.until_done(state).await;
        times.push(begun.elapsed());
    }
    // Each change was written, and that is none of the fleet's.
    let transactions = transaction(&client).await - before.0 - CHANGES as i64 - 1;
    let after = servers.traffic();
    let memory: u64 = servers.all().iter().filter_map(|server| server.resident()).sum();
    let time = crate::median(times);
    let floor = writes(&client, hosts * 3).await;
    let steward = client.check_stat(&format!("{GATE}/steward")).await.unwrap();
    let steward = steward.map_or(0, |stat| stat.ephemeral_owner);
    let data = servers.data();
    // The sessions must not be left alone for so long.
    let judged = tokio::task::spawn_blocking(move || {
        let log = txnlog::read_ensemble(&data).unwrap();
        Oracle::judge(ROOT, &log)
    });
    let oracle = judged.await.unwrap();
    assert_eq!(oracle.violations(), []);
    let held = oracle.figures().most_held;
    assert!(held > at_once / 2, "{held} of {at_once} slots were held at once");

    let on = match servers {
        Servers::One(_) => "",
        Servers::Three(_) => " on an ensemble of three",
    };
    let whose = format!("rollout to {hosts} hosts{on}");
    table.row(
        format!(
            "{whose}, {at_once} at once, actions that do nothing; beside {} writes alone",
            hosts * 3
        ),
        ms(time),
        ratio(time, floor),
    );
    let a_host = |count: f64| count / (CHANGES * hosts) as f64;
    let each = a_host(transactions as f64);
    table.row("… transactions for a host", format!("{each:.2}"), "");
    assert!(hosts < 1000 || each <= TRANSACTIONS, "{each} transactions for a host");
    let (mut of_hosts, mut of_steward) = (Vec::new(), Traffic::default());
    for session in oracle.sessions() {
        let (Some(before), Some(after)) = (before.1.get(&session), after.get(&session)) else {
            continue;
        };
        let passed = Traffic {
            requests: after.requests - before.requests,
            replies_and_events: after.replies_and_events - before.replies_and_events,
            bytes: after.bytes.zip(before.bytes).map(|(after, before)| after - before),
        };
        if session == steward {
            of_steward = passed
        } else {
            of_hosts.push(passed)
        }
    }
    let sum = |of: fn(&Traffic) -> i64| of_hosts.iter().map(of).sum::<i64>() as f64;
    let a_session = (CHANGES * of_hosts.len()) as f64;
    let events = sum(|it| it.replies_and_events - it.requests) / a_session;
    table.row("… events that a host is told of", format!("{events:.2}"), "");
    assert!(events <= EVENTS, "{events} events for a host");
    let told = a_host((of_steward.replies_and_events - of_steward.requests) as f64);
    table.row(
        "… events of each host that its steward is told of",
        format!("{told:.2}"),
        "",
    );
    if of_hosts.iter().all(|it| it.bytes.is_some())
        && let Some(steward) = of_steward.bytes
    {
        let bytes = sum(|it| it.bytes.unwrap_or(0)) / a_session;
        table.row("… bytes that a host reads", format!("{bytes:.0}"), "");
        let bytes = a_host(steward as f64);
        table.row("… bytes that its steward reads of each host", format!("{bytes:.0}"), "");
    }
    if let Servers::Three(_) = servers {
        idle(table, servers).await;
    }
    table.row(
        "… memory of the servers afterwards",
        format!("{} MiB", memory >> 10),
        "",
    );
    members.stop().await;
}

/// What the hosts cost the servers while nothing changes.
async fn idle(table: &mut Table, servers: &Servers) {
    let processor_time = || {
        let all = servers.all();
        all.iter()
            .filter_map(|server| server.processor_time())
            .sum::<Duration>()
    };
    let before = (servers.traffic(), processor_time());
    tokio::time::sleep(IDLE).await;
    let (traffic, time) = (servers.traffic(), processor_time() - before.1);
    let sent = traffic
        .iter()
        .filter_map(|(session, now)| Some(now.requests - before.0.get(session)?.requests));
    let each = sent.sum::<i64>() as f64 / traffic.len() as f64;
    table.row(
        "… packets that each sends in a minute without changes",
        format!("{each:.1}"),
        "",
    );
    let share = time.as_secs_f64() / IDLE.as_secs_f64() * 100.0;
    table.row(
        "… and what that takes of one processor, all servers together",
        format!("{share:.1} %"),
        "",
    );
}

/// The number of the newest transaction, which is this.
async fn transaction(client: &Client) -> i64 {
    client.set_data(PROBE, b"", None).await.unwrap().mzxid
}

/// How long so many writes take that wait for nothing.
async fn writes(client: &Client, count: usize) -> Duration {
    let begun = Instant::now();
    let mut writes = JoinSet::new();
    for _ in 0..count {
        let client = client.clone();
        writes.spawn(async move { client.set_data(PROBE, &[b'x'; 300], None).await.map(drop) });
    }
    while let Some(done) = writes.join_next().await {
        done.unwrap().unwrap();
    }
    begun.elapsed()
}
