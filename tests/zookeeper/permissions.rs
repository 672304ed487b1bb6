//! Znodes whose permissions change under their watch.
//!
//! A server that is not open to CVE-2024-23944 (ZooKeeper 3.8.4, Debian's 3.8.0) tells nothing of a change to who may not read the znode
//! at that moment. A one-shot watch is used up all the same, one that only asked whether the znode exists as well; a persistent watch
//! tells of the next change. That permissions change is told by no server.

use std::time::Duration;

use twitcher_model::WatchType::{Children, Data, Tree};

use super::*;
use crate::support::zookeeper::{ZooKeeperServer, unique_path};

/// Options by which nothing but an event tells of a change.
fn by_events_alone(servers: &str) -> ZooKeeperOptions {
    let mut options = options(servers);
    options.sweep_interval = Duration::ZERO;
    options.retry_interval = Duration::from_secs(3600);
    options
}

/// A client that owns what it hides.
async fn owner(servers: &str) -> Client {
    let client = writer(servers).await;
    client.auth("digest", b"owner:secret").await.unwrap();
    client
}

async fn hide(client: &Client, path: &str) {
    client.set_acl(path, &Acls::creator_all(), None).await.unwrap();
}

async fn show(client: &Client, path: &str) {
    client.set_acl(path, &Acls::anyone_all(), None).await.unwrap();
}

/// A znode watched by itself or, with 70 siblings, through a recursive watch; as `watches` adds it to those of the siblings.
async fn watched(client: &Client, observer: &mut Observer, recursive: bool, kinds: &[WatchType]) -> String {
    let parent = unique_path("permissions");
    let siblings = match recursive {
        true => siblings(client, &parent).await,
        false => {
            create(client, &parent, "").await;
            Vec::new()
        }
    };
    let path = format!("{parent}/watched");
    create(client, &path, "one").await;
    let mut add = data_watches(&siblings);
    add.extend((100..).zip(kinds).map(|(id, kind)| (id, path.as_str(), *kind)));
    observer.watch(&add).await;
    path
}

#[tokio::test]
async fn what_is_set_after_permission_was_taken_and_given_back_is_seen_at_once() {
    let server = ZooKeeperServer::shared();
    let client = owner(&server.address()).await;
    for recursive in [false, true] {
        let mut observer = Observer::new(by_events_alone(&server.address()));
        // A subtree has a recursive watch of its own, which would carry the others.
        let kinds: &[WatchType] = if recursive {
            &[Data, Children, Tree]
        } else {
            &[Data, Children]
        };
        let path = watched(&client, &mut observer, recursive, kinds).await;
        observer.until_text(100, "one").await;

        hide(&client, &path).await;
        set(&client, &path, "two").await;
        create(&client, &format!("{path}/two"), "").await;
        show(&client, &path).await;
        set(&client, &path, "three").await;
        create(&client, &format!("{path}/three"), "").await;
        observer.until_text(100, "three").await;
        observer.until_text(101, "three\ntwo\n").await;
        let has_both = |o: &Observer| o.last(102).is_some_and(|last| last.stdin.ends_with(b"/three\n"));
        if recursive {
            observer.until("the subtree", has_both).await;
        }
    }
}

#[tokio::test]
async fn what_is_created_anew_after_it_was_deleted_unseen_is_seen_at_once() {
    let server = ZooKeeperServer::shared();
    let client = owner(&server.address()).await;
    for recursive in [false, true] {
        let mut observer = Observer::new(by_events_alone(&server.address()));
        let path = watched(&client, &mut observer, recursive, &[Data, Children]).await;
        observer.until_text(100, "one").await;

        hide(&client, &path).await;
        client.delete(&path, None).await.unwrap();
        create(&client, &path, "two").await;
        observer.until_text(100, "two").await;
        create(&client, &format!("{path}/child"), "").await;
        observer.until_text(101, "child\n").await;
    }
}

/// What is not set again is for the sweep to find.
#[tokio::test]
async fn what_was_set_unseen_is_found_by_the_sweep_once_it_may_be_read() {
    let server = ZooKeeperServer::shared();
    let client = owner(&server.address()).await;
    for recursive in [false, true] {
        let mut sweeping = options(&server.address());
        sweeping.sweep_interval = Duration::from_millis(200);
        let mut observer = Observer::new(sweeping);
        let path = watched(&client, &mut observer, recursive, &[Data]).await;
        hide(&client, &path).await;
        set(&client, &path, "two").await;
        show(&client, &path).await;
        observer.until_text(100, "two").await;
    }
}
