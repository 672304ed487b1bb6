//! The ZooKeeper source against a real server, with faults injected by a proxy and by `kill -9`.
#![allow(clippy::unwrap_used, reason = "in tests")]

mod anew;
mod basics;
mod bounds;
mod contents;
mod defects;
mod fairness;
mod faults;
mod hostile;
mod permissions;
mod said;
mod scale;
mod secure;
mod shared;
mod unreadable;
mod znodes;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use twitcher_model::{Observation, Unreadable, Version, WatchId, WatchType, ZnodePath};
use twitcher_source::zookeeper::{Counters, ZooKeeperOptions, spawn};
use twitcher_source::{Change, Source, SourceReport, Subscription};
use zookeeper_client::{Acls, Client, CreateMode, CreateOptions, Error};

use crate::support::DEADLINE;

const OPEN: CreateOptions<'static> = CreateMode::Persistent.with_acls(Acls::anyone_all());

/// Options for tests: a server on loopback, a short session.
fn options(servers: &str) -> ZooKeeperOptions {
    let mut options = ZooKeeperOptions::new(servers.parse().unwrap());
    options.session_timeout = Duration::from_secs(4);
    options.retry_interval = Duration::from_millis(300);
    options
}

/// The consumer of a source: keeps everything it says.
struct Observer {
    source: Source,
    seen: HashMap<WatchId, Vec<Observation>>,
    /// What cannot be read, as was last said.
    unreadable: HashMap<WatchId, Unreadable>,
    armed: usize,
    stats: Arc<Counters>,
}

impl Observer {
    fn new(options: ZooKeeperOptions) -> Self {
        let stats = options.stats.clone();
        Self {
            source: spawn(options),
            seen: HashMap::new(),
            unreadable: HashMap::new(),
            armed: 0,
            stats,
        }
    }

    fn change(&self, remove: &[u32], add: &[(u32, &str, WatchType)]) {
        let change = Change {
            remove: remove.iter().map(|id| WatchId(*id)).collect(),
            add: add.iter().map(|watch| subscription(*watch, false)).collect(),
        };
        self.source.changes.send(change).unwrap();
    }

    /// Watches a subtree with what its nodes hold.
    fn add_with_nodes(&self, id: u32, znode: &str) {
        let change = Change {
            remove: vec![],
            add: vec![subscription((id, znode, WatchType::Tree), true)],
        };
        self.source.changes.send(change).unwrap();
    }

    /// Watches these, and waits until each was reported.
    async fn watch(&mut self, add: &[(u32, &str, WatchType)]) {
        let armed = self.armed;
        self.change(&[], add);
        self.until("armed", |observer| observer.armed > armed).await;
    }

    /// Takes reports until `condition` is true.
    async fn until(&mut self, what: &str, condition: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        while !condition(self) {
            match timeout_at(deadline, self.source.reports.recv()).await {
                Ok(Some(report)) => self.take(report),
                Ok(None) => panic!("the source ended while waiting for {what}"),
                Err(_) => panic!("not within {DEADLINE:?}: {what}; last seen: {:?}", self.latest()),
            }
        }
    }

    /// Takes what there is within `time`, for tests that nothing more must come.
    async fn settle(&mut self, time: Duration) {
        let deadline = Instant::now() + time;
        while let Ok(Some(report)) = timeout_at(deadline, self.source.reports.recv()).await {
            self.take(report);
        }
    }

    fn take(&mut self, report: SourceReport) {
        match report {
            SourceReport::Observed(watch, observation) => {
                let seen = self.seen.entry(watch).or_default();
                assert_ne!(
                    seen.last().map(|last| last.version),
                    Some(observation.version),
                    "{watch:?} was told the same state twice"
                );
                seen.push(observation);
            }
            SourceReport::Unreadable(watch, unreadable) => {
                self.unreadable.insert(watch, (*unreadable).clone());
            }
            SourceReport::Readable(watch) => {
                self.unreadable.remove(&watch);
            }
            SourceReport::Armed => self.armed += 1,
        }
    }

    async fn until_data(&mut self, id: u32, data: &[u8]) {
        let what = format!("watch {id} sees {:?}", String::from_utf8_lossy(data));
        self.until(&what, |observer| {
            observer
                .last(id)
                .is_some_and(|last| last.exists() && *last.stdin == *data)
        })
        .await;
    }

    async fn until_absent(&mut self, id: u32) {
        self.until("absent", |observer| {
            observer.last(id).is_some_and(|last| last.version == Version::Absent)
        })
        .await;
    }

    async fn until_text(&mut self, id: u32, text: &str) {
        self.until_data(id, text.as_bytes()).await;
    }

    fn last(&self, id: u32) -> Option<&Observation> {
        self.seen.get(&WatchId(id))?.last()
    }

    fn count(&self, id: u32) -> usize {
        self.seen.get(&WatchId(id)).map_or(0, Vec::len)
    }

    fn latest(&self) -> Vec<(u32, Version, String)> {
        let show = |seen: &Observation| String::from_utf8_lossy(&seen.stdin[..seen.stdin.len().min(40)]).into_owned();
        let last = |(id, seen): (&WatchId, &Vec<Observation>)| seen.last().map(|seen| (id.0, seen.version, show(seen)));
        let mut latest: Vec<_> = self.seen.iter().filter_map(last).collect();
        latest.sort_by_key(|(id, ..)| *id);
        latest.truncate(10);
        latest
    }
}

fn subscription((id, znode, watch_type): (u32, &str, WatchType), with_nodes: bool) -> Subscription {
    Subscription {
        watch: WatchId(id),
        name: format!("watch {id}").into(),
        znode: ZnodePath::new(znode).unwrap(),
        watch_type,
        with_nodes,
    }
}

/// A client that changes things, straight at the server.
async fn writer(servers: &str) -> Client {
    Client::connector()
        .with_session_timeout(Duration::from_secs(60))
        .connect(servers)
        .await
        .unwrap()
}

async fn create(client: &Client, path: &str, data: &str) {
    client.create(path, data.as_bytes(), &OPEN).await.unwrap();
}

async fn set(client: &Client, path: &str, data: &str) {
    client.set_data(path, data.as_bytes(), None).await.unwrap();
}

/// Changes a node through a server that was just restarted.
async fn set_stubbornly(client: &Client, path: &str, data: &str) {
    let deadline = Instant::now() + DEADLINE;
    while let Err(error) = client.set_data(path, data.as_bytes(), None).await {
        assert!(
            Instant::now() < deadline && error != Error::SessionExpired,
            "cannot write: {error}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits for something that is not said by the source.
async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// 70 siblings `n0`, `n1`, … below `parent`: enough to be watched by a recursive watch. Watch `i` is node `ni`.
async fn siblings(client: &Client, parent: &str) -> Vec<String> {
    create(client, parent, "").await;
    let paths: Vec<String> = (0..70).map(|i| format!("{parent}/n{i}")).collect();
    for path in &paths {
        create(client, path, "0").await;
    }
    paths
}

fn data_watches(paths: &[String]) -> Vec<(u32, &str, WatchType)> {
    paths
        .iter()
        .enumerate()
        .map(|(id, path)| (id as u32, path.as_str(), WatchType::Data))
        .collect()
}
