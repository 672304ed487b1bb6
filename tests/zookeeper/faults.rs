//! What is seen when servers and connections fail: always the state that lasts, whatever happened in between.

use std::time::Duration;

use twitcher_model::WatchType::{Children, Data, Tree};

use super::*;
use crate::support::proxy::{Proxy, op};
use crate::support::zookeeper::{ZooKeeperServer, free_port, unique_path};

/// A node of each kind and strategy: watch 1 is data and 2 children, watched one by one; 3 is a subtree; 100.. are siblings.
struct Fixture {
    root: String,
    siblings: Vec<String>,
    round: u32,
}

impl Fixture {
    async fn create(client: &Client) -> Self {
        let root = unique_path("faults");
        for rest in ["", "/one", "/list", "/tree", "/many"] {
            create(client, &format!("{root}{rest}"), "").await;
        }
        let siblings: Vec<String> = (0..70).map(|i| format!("{root}/many/n{i}")).collect();
        for path in &siblings {
            create(client, path, "").await;
        }
        Self {
            root,
            siblings,
            round: 0,
        }
    }

    fn path(&self, rest: &str) -> String {
        format!("{}{rest}", self.root)
    }

    async fn observe(&self, observer: &mut Observer) {
        let (one, list, tree) = (self.path("/one"), self.path("/list"), self.path("/tree"));
        let mut add = vec![
            (1, one.as_str(), Data),
            (2, list.as_str(), Children),
            (3, tree.as_str(), Tree),
        ];
        add.extend(
            self.siblings
                .iter()
                .enumerate()
                .map(|(i, path)| (100 + i as u32, path.as_str(), Data)),
        );
        observer.watch(&add).await;
    }

    /// Changes everything.
    async fn change(&mut self, client: &Client) {
        self.round += 1;
        let round = self.round.to_string();
        set_stubbornly(client, &self.path("/one"), &round).await;
        create(client, &self.path(&format!("/list/{round}")), "").await;
        create(client, &self.path(&format!("/tree/{round}")), "").await;
        for path in &self.siblings {
            set(client, path, &round).await;
        }
        // And a node of which every trace changes.
        client.delete(&self.siblings[0], None).await.unwrap();
        create(client, &self.siblings[0], &round).await;
    }

    /// Waits until every watch has seen the last change.
    async fn seen(&self, observer: &mut Observer) {
        let round = self.round.to_string();
        observer.until_text(1, &round).await;
        let mut names: Vec<String> = (1..=self.round).map(|round| format!("{round}\n")).collect();
        names.sort();
        observer.until_text(2, &names.concat()).await;
        // Where the subtree is polled, a new session tells all of it.
        let newest = format!("{}/tree/{round}\n", self.root);
        let is_told = |o: &Observer| o.last(3).is_some_and(|last| last.stdin.ends_with(newest.as_bytes()));
        observer.until("the subtree", is_told).await;
        for id in 100..170 {
            observer.until_text(id, &round).await;
        }
    }
}

#[tokio::test]
async fn changes_during_a_disconnection_are_seen() {
    disconnected_from(Vec::new()).await;
    disconnected_from(vec![op::ADD_WATCH]).await;
}

async fn disconnected_from(missing: Vec<i32>) {
    let server = ZooKeeperServer::shared();
    let proxy = Proxy::to(server.port());
    proxy.rules(|rules| rules.unimplemented = missing);
    let client = writer(&server.address()).await;
    let mut fixture = Fixture::create(&client).await;
    let mut polling = options(&proxy.address());
    polling.tree_poll_interval = Duration::from_millis(100);
    let mut observer = Observer::new(polling);
    fixture.observe(&mut observer).await;
    let sessions = observer.stats.sessions();

    for _ in 0..3 {
        proxy.rules(|rules| rules.refuse = true);
        proxy.sever();
        fixture.change(&client).await;
        proxy.rules(|rules| rules.refuse = false);
        fixture.seen(&mut observer).await;
    }
    assert_eq!(observer.stats.sessions(), sessions, "the sessions were kept");
    assert!(observer.stats.lost() >= 3);
    // And what changes after it.
    fixture.change(&client).await;
    fixture.seen(&mut observer).await;
}

#[tokio::test]
async fn changes_during_the_expiry_of_the_session_are_seen() {
    expired_at(Vec::new()).await;
    expired_at(vec![op::ADD_WATCH]).await;
}

async fn expired_at(missing: Vec<i32>) {
    let server = ZooKeeperServer::shared();
    let proxy = Proxy::to(server.port());
    proxy.rules(|rules| rules.unimplemented = missing);
    let client = writer(&server.address()).await;
    let mut fixture = Fixture::create(&client).await;
    let mut short = options(&proxy.address());
    short.session_timeout = Duration::from_secs(1);
    short.tree_poll_interval = Duration::from_millis(100);
    let mut observer = Observer::new(short);
    fixture.observe(&mut observer).await;

    proxy.rules(|rules| rules.blackhole = true);
    eventually("the session is over", || observer.stats.ended() >= 1).await;
    fixture.change(&client).await;
    proxy.rules(|rules| rules.blackhole = false);
    proxy.sever();
    fixture.seen(&mut observer).await;
    fixture.change(&client).await;
    fixture.seen(&mut observer).await;
}

#[tokio::test]
async fn a_request_that_gets_no_answer_is_made_again() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    for watch_type in [Data, Children, Tree] {
        let proxy = Proxy::to(server.port());
        let (first, second) = (unique_path("unanswered"), unique_path("unanswered"));
        create(&client, &first, "").await;
        create(&client, &second, "").await;
        let mut stubborn = options(&proxy.address());
        // Trying again is not for the timer that is meant for znodes in trouble.
        stubborn.retry_interval = Duration::from_secs(3600);
        let mut observer = Observer::new(stubborn);
        observer.watch(&[(1, &first, watch_type)]).await;

        proxy.rules(|rules| rules.blackhole = true);
        observer.change(&[], &[(2, &second, watch_type)]);
        let lost = observer.stats.lost();
        eventually("the connection is given up", || observer.stats.lost() > lost).await;
        proxy.rules(|rules| rules.blackhole = false);
        proxy.sever();
        observer.until("the second", |o| o.count(2) == 1).await;
    }
}

#[tokio::test]
async fn a_restarted_server_changes_nothing() {
    let mut server = ZooKeeperServer::start();
    let client = writer(&server.address()).await;
    let mut fixture = Fixture::create(&client).await;
    let mut observer = Observer::new(options(&server.address()));
    fixture.observe(&mut observer).await;

    server.restart();
    fixture.change(&client).await;
    fixture.seen(&mut observer).await;
}

#[tokio::test]
async fn a_frozen_server_is_waited_for() {
    let server = ZooKeeperServer::start();
    let client = writer(&server.address()).await;
    let mut fixture = Fixture::create(&client).await;
    let mut short = options(&server.address());
    short.session_timeout = Duration::from_secs(1);
    let mut observer = Observer::new(short);
    fixture.observe(&mut observer).await;

    server.pause(true);
    eventually("the session is given up", || observer.stats.ended() >= 1).await;
    server.pause(false);
    fixture.change(&client).await;
    fixture.seen(&mut observer).await;
}

#[tokio::test]
async fn wiped_data_is_seen_as_it_is() {
    let mut server = ZooKeeperServer::start();
    let client = writer(&server.address()).await;
    // So many transactions that the new server is far behind the old one.
    let fixture = Fixture::create(&client).await;
    let mut quick = options(&server.address());
    quick.session_timeout = Duration::from_secs(1);
    let mut observer = Observer::new(quick);
    fixture.observe(&mut observer).await;
    drop(client);

    server.wipe();
    server.restart();
    for id in [1, 2, 3, 100, 169] {
        observer.until_absent(id).await;
    }
    let client = writer(&server.address()).await;
    for path in [fixture.root.clone(), fixture.path("/one"), fixture.path("/tree")] {
        create(&client, &path, "new").await;
    }
    observer.until_text(1, "new").await;
    observer
        .until("the subtree", |o| o.last(3).is_some_and(|last| last.exists()))
        .await;
}

#[tokio::test]
async fn a_server_may_come_up_late() {
    let mut server = ZooKeeperServer::start();
    server.kill();
    let mut observer = Observer::new(options(&server.address()));
    observer.change(&[], &[(1, "/late", Data), (2, "/", Children)]);
    observer.settle(Duration::from_millis(500)).await;
    assert_eq!((observer.count(1), observer.armed), (0, 0));

    server.restart();
    observer.until("armed", |o| o.armed == 1).await;
    observer.until_absent(1).await;
    create(&writer(&server.address()).await, "/late", "here").await;
    observer.until_text(1, "here").await;
}

#[tokio::test]
async fn nobody_is_hammered_when_there_is_nobody_to_talk_to() {
    // A port that accepts and closes, and one where nobody listens.
    let proxy = Proxy::to(free_port());
    proxy.rules(|rules| rules.refuse = true);
    let mut observer = Observer::new(options(&format!("{},127.0.0.1:{}", proxy.address(), free_port())));
    observer.change(&[], &[(1, "/a", Data)]);
    observer.settle(Duration::from_secs(3)).await;
    // Doubling from 0.1 s there is room for five or six attempts in 3 s; the source also asks the port why, once an attempt.
    let attempts = proxy.connections();
    assert!((2..=20).contains(&attempts), "{attempts} connections in 3 s");
}

#[tokio::test]
async fn a_slow_network_only_delays() {
    let server = ZooKeeperServer::shared();
    let proxy = Proxy::to(server.port());
    proxy.rules(|rules| rules.delay = Duration::from_millis(20));
    let client = writer(&server.address()).await;
    let path = unique_path("slow");
    create(&client, &path, "0").await;
    let mut observer = Observer::new(options(&proxy.address()));
    observer.watch(&[(1, &path, Data)]).await;
    for i in 1..=50 {
        set(&client, &path, &i.to_string()).await;
    }
    observer.until_text(1, "50").await;
    assert!(observer.count(1) < 50, "states that did not last are skipped");
}

#[tokio::test]
async fn a_consumer_that_is_slow_gets_the_newest_state() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    let parent = unique_path("backlog");
    let paths = siblings(&client, &parent).await;
    let single = unique_path("backlog");
    create(&client, &single, "").await;

    let mut observer = Observer::new(options(&server.address()));
    let mut add = data_watches(&paths);
    add.push((1000, &single, Data));
    observer.watch(&add).await;
    // More changes than the source may hold, while nobody listens. Large ones: only one of those may wait.
    for round in 0..30 {
        let data = format!("{round} {}", "x".repeat(20_000));
        for path in paths.iter().chain([&single]) {
            set(&client, path, &data).await;
        }
    }
    for path in paths.iter().chain([&single]) {
        set(&client, path, "last").await;
    }
    for id in (0..paths.len() as u32).chain([1000]) {
        observer.until_text(id, "last").await;
    }
    let told: usize = observer.seen.values().map(Vec::len).sum();
    assert!(
        told < 71 * 10,
        "{told} reports for 71 nodes: states were buffered instead of skipped"
    );
}

#[tokio::test]
async fn a_watch_that_went_deaf_is_found_and_healed() {
    let server = ZooKeeperServer::shared();
    let proxy = Proxy::to(server.port());
    let client = writer(&server.address()).await;
    let mut fixture = Fixture::create(&client).await;
    let mut sweeping = options(&proxy.address());
    sweeping.sweep_interval = Duration::from_millis(200);
    let mut observer = Observer::new(sweeping);
    fixture.observe(&mut observer).await;
    eventually("some sweeps", || observer.stats.sweeps() > 4).await;
    fixture.change(&client).await;
    fixture.seen(&mut observer).await;
    eventually("some more sweeps", || observer.stats.sweeps() > 8).await;
    assert_eq!(observer.stats.stuck(), 0, "what events announce is not stuck");

    proxy.rules(|rules| rules.drop_events = true);
    fixture.change(&client).await;
    fixture.seen(&mut observer).await;
    assert!(observer.stats.stuck() >= 73, "{} found", observer.stats.stuck());
    proxy.rules(|rules| rules.drop_events = false);
    assert!(proxy.requests(op::ADD_WATCH) >= 2);
}

#[tokio::test]
async fn a_change_that_was_not_announced_is_found_once() {
    let server = ZooKeeperServer::shared();
    let proxy = Proxy::to(server.port());
    let client = writer(&server.address()).await;
    // One watched by itself, one under a recursive watch, and their neighbours, which nothing happens to.
    let (alone, quiet) = (unique_path("alone"), unique_path("quiet"));
    create(&client, &alone, "0").await;
    create(&client, &quiet, "0").await;
    let paths = siblings(&client, &unique_path("together")).await;
    let mut sweeping = options(&proxy.address());
    sweeping.sweep_interval = Duration::from_millis(100);
    let mut observer = Observer::new(sweeping);
    let mut add = data_watches(&paths);
    add.extend([(1000, alone.as_str(), Data), (1001, quiet.as_str(), Data)]);
    observer.watch(&add).await;

    proxy.rules(|rules| rules.drop_events = true);
    set(&client, &alone, "1").await;
    set(&client, &paths[7], "1").await;
    observer.until_text(1000, "1").await;
    observer.until_text(7, "1").await;
    proxy.rules(|rules| rules.drop_events = false);
    let sweeps = observer.stats.sweeps();
    eventually("more sweeps", || observer.stats.sweeps() > sweeps + 6).await;
    assert_eq!(observer.stats.stuck(), 2);
    assert_eq!(
        (observer.count(1001), observer.count(8)),
        (1, 1),
        "told once, at the start"
    );

    // Both hear again.
    set(&client, &alone, "2").await;
    set(&client, &paths[7], "2").await;
    observer.until_text(1000, "2").await;
    observer.until_text(7, "2").await;
    let sweeps = observer.stats.sweeps();
    eventually("more sweeps", || observer.stats.sweeps() > sweeps + 6).await;
    assert_eq!(observer.stats.stuck(), 2, "by events, not by a sweep");
}

#[tokio::test]
async fn without_an_interval_there_is_no_sweep() {
    let server = ZooKeeperServer::shared();
    let proxy = Proxy::to(server.port());
    // With persistent watches everything is read again after a reconnect.
    proxy.rules(|rules| rules.unimplemented = vec![op::ADD_WATCH]);
    let client = writer(&server.address()).await;
    let path = unique_path("unswept");
    create(&client, &path, "0").await;
    let mut never = options(&proxy.address());
    never.sweep_interval = Duration::ZERO;
    let mut observer = Observer::new(never);
    observer.watch(&[(1, &path, Data)]).await;
    observer.settle(Duration::from_millis(500)).await;
    assert_eq!(observer.stats.sweeps(), 0);
    // What a reconnect may have lost is looked at all the same.
    proxy.sever();
    eventually("a sweep", || observer.stats.sweeps() == 1).await;
}
