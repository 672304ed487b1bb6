//! Defects of the client crate and of ZooKeeper itself, each with a test that fails when its workaround is taken out.

use std::time::Duration;

use twitcher_model::WatchType::{Children, Data, Tree};

use super::*;
use crate::support::proxy::{Proxy, op};
use crate::support::zookeeper::{ZooKeeperServer, unique_path};

/// 1: the crate does not set persistent watches again after a reconnect.
#[tokio::test]
async fn persistent_watches_hear_again_after_a_reconnect() {
    let server = ZooKeeperServer::shared();
    let proxy = Proxy::to(server.port());
    let client = writer(&server.address()).await;
    let paths = siblings(&client, &unique_path("rearm")).await;
    let mut observer = Observer::new(options(&proxy.address()));
    observer.watch(&data_watches(&paths)).await;
    assert_eq!(proxy.requests(op::ADD_WATCH), 1);

    let lost = observer.stats.lost();
    proxy.sever();
    eventually("the loss was noticed", || observer.stats.lost() > lost).await;
    for path in &paths {
        set(&client, path, "1").await;
    }
    for id in 0..70 {
        observer.until_text(id, "1").await;
    }
    eventually("the watch was set again", || proxy.requests(op::ADD_WATCH) >= 2).await;
    for path in &paths {
        set(&client, path, "2").await;
    }
    for id in 0..70 {
        observer.until_text(id, "2").await;
    }
}

/// 2: with more than 128 KiB of watched paths in a session, every reconnect fails.
#[tokio::test]
async fn many_scattered_paths_survive_a_reconnect() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    // 240 KB of paths, no two with the same parent, and too few in all for a watch on what they have in common.
    let root = unique_path("scattered");
    let long = "x".repeat(240);
    let paths: Vec<String> = (0..990).map(|i| format!("{root}/{i}/{long}")).collect();
    create(&client, &root, "").await;
    for i in [0, 400, 989] {
        create(&client, &format!("{root}/{i}"), "").await;
        create(&client, &paths[i], "0").await;
    }
    for old in [false, true] {
        let proxy = Proxy::to(server.port());
        if old {
            proxy.rules(|rules| rules.unimplemented = vec![op::ADD_WATCH]);
        }
        let mut observer = Observer::new(options(&proxy.address()));
        observer.watch(&data_watches(&paths)).await;
        let (sessions, watches) = (observer.stats.sessions(), proxy.requests(op::ADD_WATCH));
        assert!(watches == 990 || old, "{watches} for 990 znodes");

        proxy.sever();
        for i in [0, 400, 989] {
            set(&client, &paths[i], "1").await;
        }
        for i in [0, 400, 989] {
            observer.until_text(i, "1").await;
        }
        // The watches themselves survived, or were set again: a change after the reconnect is heard too.
        match old {
            true => eventually("watches are set again", || proxy.requests(op::SET_WATCHES) >= 3).await,
            false => eventually("watches are set again", || proxy.requests(op::ADD_WATCH) >= 2 * watches).await,
        }
        for i in [0, 400, 989] {
            set(&client, &paths[i as usize], "2").await;
        }
        for i in [0, 400, 989] {
            observer.until_text(i, "2").await;
        }
        assert_eq!(observer.stats.sessions(), sessions, "no session was lost");
        assert!(
            sessions == 3 || old,
            "{sessions} sessions: because no session has too much"
        );
        for i in [0, 400, 989] {
            set(&client, &paths[i as usize], "0").await;
        }
    }
}

/// 4: the crate panics when a recursive watch is polled after the end of its session.
#[tokio::test]
async fn the_end_of_a_session_is_not_polled_again() {
    let server = ZooKeeperServer::shared();
    let proxy = Proxy::to(server.port());
    let client = writer(&server.address()).await;
    let root = unique_path("terminal");
    create(&client, &root, "").await;
    let mut short = options(&proxy.address());
    short.session_timeout = Duration::from_secs(1);
    let mut observer = Observer::new(short);
    observer.watch(&[(1, &root, Tree)]).await;
    let panics = panics_counted();
    for round in 0..2 {
        let ended = observer.stats.ended();
        proxy.rules(|rules| rules.blackhole = true);
        eventually("the session ends", || observer.stats.ended() > ended).await;
        proxy.rules(|rules| rules.blackhole = false);
        proxy.sever();
        create(&client, &format!("{root}/{round}"), "").await;
        observer.until_text(1, &format!("{root}/{round}\n")).await;
    }
    assert_eq!(panics(), 0);
}

/// Counts panics on this thread, where the tasks of the test's runtime run too: tokio swallows them.
fn panics_counted() -> impl Fn() -> usize {
    use std::sync::atomic::{AtomicUsize, Ordering};
    let count = Arc::new(AtomicUsize::new(0));
    let (counter, thread) = (count.clone(), std::thread::current().id());
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if std::thread::current().id() == thread {
            counter.fetch_add(1, Ordering::SeqCst);
        }
        before(info);
    }));
    move || count.load(Ordering::SeqCst)
}

/// 5: a one-shot watch on a path that a recursive watch covers would kill the latter, were they in one session (ZOOKEEPER-4466).
#[tokio::test]
async fn single_and_recursive_watches_do_not_disturb_each_other() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    let root = unique_path("mixed");
    create(&client, &root, "0").await;
    create(&client, &format!("{root}/a"), "0").await;
    let mut observer = Observer::new(options(&server.address()));
    // First one by one, then the same nodes and their parent as a subtree as well.
    let a = format!("{root}/a");
    observer
        .watch(&[(1, &root, Data), (2, &root, Children), (3, &a, Data)])
        .await;
    observer.watch(&[(4, &root, Tree), (5, &a, Tree)]).await;
    for round in 1..=3 {
        let text = round.to_string();
        set(&client, &root, &text).await;
        set(&client, &a, &text).await;
        create(&client, &format!("{root}/r{round}"), "").await;
        observer.until_text(1, &text).await;
        observer.until_text(3, &text).await;
        observer
            .until("the child", |o| {
                o.last(2).unwrap().stdin.ends_with(format!("r{round}\n").as_bytes())
            })
            .await;
        observer
            .until("the subtree", |o| {
                o.last(4).unwrap().stdin.ends_with(format!("r{round}\n").as_bytes())
            })
            .await;
        observer.until("the inner subtree", |o| o.count(5) == round + 1).await;
    }
}

/// 6: dropping what waits for a one-shot watch removes the watch, so other events must not interrupt the waiting.
#[tokio::test]
async fn waiting_for_one_watch_is_not_interrupted_by_others() {
    waiting_is_not_interrupted(Vec::new()).await;
    waiting_is_not_interrupted(vec![op::ADD_WATCH]).await;
}

async fn waiting_is_not_interrupted(missing: Vec<i32>) {
    let server = ZooKeeperServer::shared();
    let proxy = Proxy::to(server.port());
    proxy.rules(|rules| rules.unimplemented = missing);
    let client = writer(&server.address()).await;
    let (quiet, busy) = (unique_path("quiet"), unique_path("busy"));
    create(&client, &quiet, "0").await;
    create(&client, &busy, "0").await;
    let mut observer = Observer::new(options(&proxy.address()));
    observer.watch(&[(1, &quiet, Data), (2, &busy, Data)]).await;
    let reads = proxy.requests(op::GET_DATA);
    for round in 1..=20 {
        set(&client, &busy, &round.to_string()).await;
        observer.until_text(2, &round.to_string()).await;
    }
    assert!(
        proxy.requests(op::GET_DATA) <= reads + 21,
        "the quiet node is left alone"
    );
    set(&client, &quiet, "1").await;
    observer.until_text(1, "1").await;
}

/// 8: servers before 3.6 have neither recursive watches nor multi-reads.
#[tokio::test]
async fn an_old_server_is_watched_one_by_one() {
    for missing in [vec![op::ADD_WATCH, op::MULTI_READ], vec![op::MULTI_READ]] {
        watched_without(missing).await;
    }
}

async fn watched_without(missing: Vec<i32>) {
    let server = ZooKeeperServer::shared();
    let proxy = Proxy::to(server.port());
    proxy.rules(|rules| rules.unimplemented = missing);
    let client = writer(&server.address()).await;
    let root = unique_path("old");
    let paths = siblings(&client, &root).await;
    let mut polling = options(&proxy.address());
    polling.tree_poll_interval = Duration::from_millis(100);
    let mut observer = Observer::new(polling);
    let mut add = data_watches(&paths);
    add.extend([(1000, root.as_str(), Tree), (1001, root.as_str(), Children)]);
    observer.watch(&add).await;
    for path in &paths {
        set(&client, path, "1").await;
    }
    create(&client, &format!("{root}/z"), "").await;
    for id in 0..70 {
        observer.until_text(id, "1").await;
    }
    observer
        .until("the subtree", |o| {
            o.last(1000).unwrap().stdin.ends_with(format!("{root}/z\n").as_bytes())
        })
        .await;
    observer
        .until("the children", |o| o.last(1001).unwrap().stdin.ends_with(b"z\n"))
        .await;
    assert_eq!(proxy.requests(op::ADD_WATCH), 1, "asked once, then never again");
}
