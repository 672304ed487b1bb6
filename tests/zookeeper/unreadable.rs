//! Znodes that cannot be read: too large, hidden by their access control list, in part; and that they can be again.

use zookeeper_client::{Acl, AuthId, Permission};

use super::*;
use crate::support::zookeeper::{ZooKeeperServer, unique_path};
use twitcher_model::WatchType::{Children, Data, Tree};

/// Lets nobody read a znode, or everybody.
async fn let_read(client: &Client, path: &str, readable: bool) {
    let others = Permission::WRITE | Permission::CREATE | Permission::DELETE | Permission::ADMIN;
    let permission = if readable { Permission::ALL } else { others };
    let acl = [Acl::new(permission, AuthId::anyone())];
    client.set_acl(path, &acl, None).await.unwrap();
}

/// What is said of a watch that cannot be read.
fn said(observer: &Observer, id: u32) -> Option<&Unreadable> {
    observer.unreadable.get(&WatchId(id))
}

/// What the tests are about once with a recursive watch, and once with a watch for each znode.
async fn places(client: &Client, test: &str) -> Vec<(Vec<String>, String)> {
    let many = unique_path(test);
    let paths = siblings(client, &many).await;
    let one = unique_path(test);
    create(client, &one, "0").await;
    vec![(paths, format!("{many}/n7")), (vec![one.clone()], one)]
}

#[tokio::test]
async fn a_znode_that_grows_too_large_is_reported_until_it_is_small_again() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    for (paths, path) in places(&client, "grows").await {
        let id = paths.iter().position(|one| *one == path).unwrap() as u32;
        let mut strict = options(&server.address());
        strict.max_data = 4999;
        let mut observer = Observer::new(strict);
        observer.watch(&data_watches(&paths)).await;
        assert!(observer.unreadable.is_empty());

        client.set_data(&path, "x".repeat(5000).as_bytes(), None).await.unwrap();
        observer
            .until("it cannot be read", |observer| said(observer, id).is_some())
            .await;
        let first = said(&observer, id).unwrap().clone();
        assert!(
            first.why.contains("5000 bytes") && first.why.contains("4999"),
            "{first:?}"
        );
        assert!(first.remedy.contains("--max-znode-size"), "{first:?}");
        assert!(first.parts.is_none() && first.next_attempt > first.since, "{first:?}");
        // It is tried again, and since when stays what it was.
        observer
            .until("another attempt", |observer| {
                said(observer, id).is_some_and(|said| said.next_attempt > first.next_attempt)
            })
            .await;
        assert_eq!(said(&observer, id).unwrap().since, first.since);
        assert_eq!(observer.count(id), 1, "nothing was told of what could not be read");

        set(&client, &path, "small").await;
        observer.until_text(id, "small").await;
        observer
            .until("it can be read", |observer| said(observer, id).is_none())
            .await;
        assert!(observer.unreadable.is_empty());
    }
}

#[tokio::test]
async fn a_permission_that_is_taken_away_is_noticed_and_also_that_it_is_given_back() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    for (paths, path) in places(&client, "permitted").await {
        let id = paths.iter().position(|one| *one == path).unwrap() as u32;
        let mut often = options(&server.address());
        often.sweep_interval = Duration::from_millis(500);
        let mut observer = Observer::new(often);
        observer.watch(&data_watches(&paths)).await;

        // Nothing else happens to the znode, and no event tells of it.
        let_read(&client, &path, false).await;
        observer
            .until("it cannot be read", |observer| said(observer, id).is_some())
            .await;
        assert!(said(&observer, id).unwrap().why.contains("NoAuth"));
        let_read(&client, &path, true).await;
        observer
            .until("it can be read", |observer| said(observer, id).is_none())
            .await;
        assert_eq!(observer.count(id), 1, "it is what it was");

        let_read(&client, &path, false).await;
        set(&client, &path, "unseen").await;
        observer
            .until("it cannot be read", |observer| said(observer, id).is_some())
            .await;
        let_read(&client, &path, true).await;
        observer.until_text(id, "unseen").await;
        observer
            .until("it can be read", |observer| said(observer, id).is_none())
            .await;
    }
}

#[tokio::test]
async fn what_is_hidden_from_the_start_is_said_before_all_are_armed() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    let root = unique_path("hidden");
    create(&client, &root, "").await;
    let mut paths = Vec::new();
    for name in ["data", "children", "tree"] {
        let path = format!("{root}/{name}");
        create(&client, &path, "").await;
        let_read(&client, &path, false).await;
        paths.push(path);
    }
    // That a hidden znode was created, servers tell nobody who may not read it: the sweep finds it.
    let mut often = options(&server.address());
    often.sweep_interval = Duration::from_millis(500);
    let mut observer = Observer::new(often);
    let kinds = [Data, Children, Tree];
    let watches: Vec<_> = (1..)
        .zip(&paths)
        .zip(kinds)
        .map(|((id, path), kind)| (id, path.as_str(), kind))
        .collect();
    observer.watch(&watches).await;
    for (id, path, kind) in watches {
        let unreadable = said(&observer, id).unwrap_or_else(|| panic!("{kind:?} is not reported"));
        assert!(
            unreadable.why.contains("NoAuth") && unreadable.parts.is_none(),
            "{unreadable:?}"
        );
        assert!(unreadable.remedy.contains(path), "{unreadable:?}");
        assert_eq!(observer.count(id), 0, "{kind:?}");
    }
    // One that was absent, and is then made hidden, is not absent any more.
    let late = format!("{root}/late");
    observer.watch(&[(9, &late, Data)]).await;
    observer.until_absent(9).await;
    let acl = [Acl::new(Permission::ADMIN, AuthId::anyone())];
    let hidden = CreateMode::Persistent.with_acls(Acls::new(&acl));
    client.create(&late, b"", &hidden).await.unwrap();
    observer
        .until("it cannot be read", |observer| said(observer, 9).is_some())
        .await;
    for (id, path) in (1..).zip(&paths).chain([(9, &late)]) {
        let_read(&client, path, true).await;
        observer
            .until("it can be read", |observer| said(observer, id).is_none())
            .await;
        assert!(observer.last(id).is_some_and(Observation::exists), "{id}");
    }
}

#[tokio::test]
async fn a_hidden_part_of_a_subtree_is_said_and_what_is_below_it_is_not_taken_to_be_gone() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    let root = unique_path("parts");
    let below = |name: &str| format!("{root}{name}");
    for name in ["", "/open", "/shut", "/shut/in"] {
        create(&client, &below(name), "").await;
    }
    let_read(&client, &below("/shut"), false).await;
    let mut often = options(&server.address());
    often.sweep_interval = Duration::from_millis(500);
    let mut observer = Observer::new(often);
    observer.watch(&[(1, &root, Tree)]).await;
    let unreadable = said(&observer, 1).unwrap();
    assert!(
        unreadable.parts == Some(1) && unreadable.why.contains(&below("/shut")),
        "{unreadable:?}"
    );

    // The others are watched, and the part still cannot be read.
    set(&client, &below("/open"), "1").await;
    observer.until_text(1, &format!("{}\n", below("/open"))).await;
    observer.settle(Duration::from_millis(700)).await;
    assert_eq!(said(&observer, 1).and_then(|said| said.parts), Some(1));
    let_read(&client, &below("/shut"), true).await;
    observer.until_text(1, &format!("{}\n", below("/shut/in"))).await;
    observer
        .until("it can be read", |observer| said(observer, 1).is_none())
        .await;

    // Hidden again, it is what it was.
    let told = observer.count(1);
    let_read(&client, &below("/shut"), false).await;
    observer
        .until("it cannot be read", |observer| said(observer, 1).is_some())
        .await;
    let_read(&client, &below("/shut"), true).await;
    observer
        .until("it can be read", |observer| said(observer, 1).is_none())
        .await;
    assert_eq!(observer.count(1), told, "{:?}", observer.latest());
}

/// Of a watch that is told what the znodes hold nothing runs as long as that is too much: a hidden part is not the reason.
#[tokio::test]
async fn that_nothing_is_told_is_not_put_down_to_a_hidden_part() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    let root = unique_path("two-reasons");
    let below = |name: &str| format!("{root}{name}");
    for name in ["", "/large", "/shut"] {
        create(&client, &below(name), "").await;
    }
    set(&client, &below("/large"), &"x".repeat(3000)).await;
    let_read(&client, &below("/shut"), false).await;
    let mut often = options(&server.address());
    often.sweep_interval = Duration::from_millis(500);
    often.max_data = 2000;
    let mut observer = Observer::new(often);
    observer.add_with_nodes(1, &root);
    observer
        .until("what is too large is said", |observer| {
            said(observer, 1).is_some_and(|said| said.parts.is_none() && said.why.contains("/large has 3000 bytes"))
        })
        .await;
    // It does not become another reason, nor one of a part.
    observer.settle(Duration::from_millis(700)).await;
    let unreadable = said(&observer, 1).unwrap();
    assert!(
        unreadable.parts.is_none() && unreadable.why.contains("/large"),
        "{unreadable:?}"
    );
    assert_eq!(observer.count(1), 0);
    // With the one gone it is the other.
    set(&client, &below("/large"), "x").await;
    observer
        .until("the rest is watched", |observer| {
            observer.count(1) == 1 && said(observer, 1).is_some_and(|said| said.parts == Some(1))
        })
        .await;
}
