//! A rollout to many hosts whose actions do nothing: what it costs beside the writes alone that it is made of. The hosts are members of
//! the fleet as daemons have them, each with a session of its own, in this one process.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::task::JoinSet;
use twitcher_fleet::rollout::{Doing, LocalRollout, Wanted};
use twitcher_fleet::{Fleet, FleetOptions, FormatVersion, ResultState, StateId, WatchResult, identity::HostId};
use twitcher_model::{AtOnce, Lost, OnNewer, Rollout, WatchType, Wave};
use twitcher_source::zookeeper::{self, ZooKeeperOptions};
use zookeeper_client::{Acls, Client, CreateMode};

use crate::support::zookeeper::ZooKeeperServer;
use crate::{Table, ms, ratio};

const ZNODE: &str = "/head";
const PROBE: &str = "/probe";
const HOSTS: &str = "/twitcher/hosts";
const GATE: &str = "/twitcher/rollouts/bench";
const GRANTS: &str = "/twitcher/rollouts/bench/grants";
/// How often a change goes out.
const CHANGES: usize = 3;

/// `hosts` are how many there are; more than one figure, and each is a measurement of its own.
pub async fn measure(table: &mut Table, hosts: &[usize]) {
    for hosts in hosts {
        one(table, *hosts).await;
    }
}

async fn one(table: &mut Table, hosts: usize) {
    let server = ZooKeeperServer::start();
    let client = Client::connect(&server.address()).await.unwrap();
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    for path in [ZNODE, PROBE] {
        client.create(path, b"", &options).await.unwrap();
    }
    let dir = TempDir::new().unwrap();
    let (goals, _) = watch::channel(None);
    let at_once = (hosts / 20).max(1);
    for number in 0..hosts {
        let state = dir.path().join(number.to_string());
        fs::create_dir(&state).unwrap();
        tokio::spawn(member(server.address(), number, state, at_once, goals.subscribe()));
    }
    let mut times = Vec::new();
    let mut transactions = 0;
    for change in 0..=CHANGES {
        let before = transaction(&client).await;
        let begun = Instant::now();
        let stat = client
            .set_data(ZNODE, change.to_string().as_bytes(), None)
            .await
            .unwrap();
        goals.send_replace(Some(stat.mzxid));
        until_done(&client, stat.mzxid, hosts).await;
        // With the first the sessions are opened and the steward is elected.
        if change > 0 {
            times.push(begun.elapsed());
            transactions += transaction(&client).await - before;
        }
    }
    let time = crate::median(times);
    let floor = writes(&client, hosts * 3).await;
    let each = transactions as f64 / (CHANGES * hosts) as f64;
    table.row(
        format!(
            "rollout to {hosts} hosts, {at_once} at once, actions that do nothing; beside {} writes alone",
            hosts * 3
        ),
        ms(time),
        ratio(time, floor),
    );
    table.row(
        format!("… transactions for each of the {hosts} hosts"),
        format!("{each:.2}"),
        "",
    );
}

/// The number of the newest transaction, which is this.
async fn transaction(client: &Client) -> i64 {
    client.set_data(PROBE, b"", None).await.unwrap().mzxid
}

/// Waits until a state has gone out to so many hosts.
async fn until_done(client: &Client, state: i64, hosts: usize) {
    let goal = format!("{state:#x}");
    loop {
        let watcher = client.check_and_watch_stat(GATE).await.unwrap().1;
        let gate = client.get_data(GATE).await.map(|(data, _)| data).unwrap_or_default();
        let gate: Value = serde_json::from_slice(&gate).unwrap_or_default();
        assert_ne!(gate["state"], "halted", "{gate}");
        let there = client
            .check_stat(HOSTS)
            .await
            .unwrap()
            .map_or(0, |stat| stat.num_children);
        if gate["goal"]["state"] == goal.as_str() && gate["state"] == "done" && there as usize == hosts {
            let grants = client.check_stat(GRANTS).await.unwrap().unwrap().num_children;
            if grants as usize == hosts {
                return;
            }
        }
        // Hosts that join tell nobody who watches the gate.
        let _ = tokio::time::timeout(Duration::from_millis(200), watcher.changed()).await;
    }
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

/// A daemon whose watch has a rollout, as the fleet sees it.
async fn member(
    address: String,
    number: usize,
    state: PathBuf,
    at_once: usize,
    mut goals: watch::Receiver<Option<i64>>,
) {
    let requests = zookeeper::requests(ZooKeeperOptions {
        session_timeout: Duration::from_secs(30),
        ..ZooKeeperOptions::new(address.parse().unwrap())
    });
    let options = FleetOptions {
        root: "/twitcher".parse().unwrap(),
        name: format!("host-{number:05}").parse().unwrap(),
        labels: BTreeMap::new(),
        id: HostId::of(&state).map_err(Arc::new),
        boot: String::new(),
        version: "",
    };
    let mut fleet = Fleet::join(options, requests.znodes.keep_session().unwrap());
    let policy = Arc::new(Rollout {
        name: "bench".parse().unwrap(),
        at_once: AtOnce::Hosts(at_once as u32),
        max_failures: 0,
        waves: vec![Wave::default()],
        lost_after: Duration::from_secs(600),
        lost: Lost::Hold,
        on_newer: OnNewer::Restart,
        verify: None,
        unavailable: None,
    });
    let (mut seen, mut good, mut answered) = (None, None, 0);
    loop {
        let is_current = seen == good;
        fleet.roll_out(vec![LocalRollout {
            policy: Arc::clone(&policy),
            result: WatchResult {
                v: FormatVersion,
                watch: "bench".to_owned(),
                znode: ZNODE.to_owned(),
                kind: WatchType::Data,
                state: if is_current {
                    ResultState::Current
                } else {
                    ResultState::Behind
                },
                at: good,
                good,
                last: None,
                part: None,
            },
            seen,
            doing: match seen {
                None => Doing::Unsure,
                Some(_) if is_current => Doing::Nothing,
                Some(state) => Doing::Wants(state),
            },
            acting: false,
            answered,
            verification: None,
            unverified: false,
            check: None,
        }]);
        fleet.keep(std::iter::empty());
        tokio::select! {
            Ok(()) = goals.changed() => seen = goals.borrow_and_update().map(StateId::Zxid),
            event = fleet.next_event() => {
                answered = event.number;
                if let Wanted::Start(state) = event.wanted {
                    good = Some(state);
                }
            }
        }
    }
}
