//! What is seen when all goes well.

use twitcher_model::Stat;
use twitcher_model::WatchType::{Children, Data, Tree};

use super::*;
use crate::support::zookeeper::{ZooKeeperServer, unique_path};

#[tokio::test]
async fn data_is_seen_with_its_stat() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    let path = unique_path("data");
    create(&client, &path, "one").await;

    let mut observer = Observer::new(options(&server.address()));
    observer.watch(&[(1, &path, Data)]).await;
    observer.until_text(1, "one").await;
    assert_eq!(observer.armed, 1, "armed comes after the first report, once");

    let stat = client.set_data(&path, b"two", None).await.unwrap();
    observer.until_text(1, "two").await;
    let last = observer.last(1).unwrap();
    assert_eq!(
        last.stat,
        Some(Stat {
            czxid: stat.czxid,
            mzxid: stat.mzxid,
            version: 1
        })
    );
    assert_eq!(last.version.parts(), (1, stat.czxid, stat.mzxid));
}

#[tokio::test]
async fn a_node_may_come_go_and_come_again() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    let parent = unique_path("comes");
    let path = format!("{parent}/node");

    let mut observer = Observer::new(options(&server.address()));
    observer
        .watch(&[(1, &path, Data), (2, &path, Children), (3, &path, Tree)])
        .await;
    for id in 1..=3 {
        observer.until_absent(id).await;
    }
    for round in 0..3 {
        create(&client, &parent, "").await;
        create(&client, &path, &format!("round {round}")).await;
        create(&client, &format!("{path}/child"), "").await;
        observer.until_text(1, &format!("round {round}")).await;
        observer.until_text(2, "child\n").await;
        observer
            .until("the subtree", |o| o.last(3).is_some_and(|last| last.exists()))
            .await;
        client.delete(&format!("{path}/child"), None).await.unwrap();
        client.delete(&path, None).await.unwrap();
        client.delete(&parent, None).await.unwrap();
        for id in 1..=3 {
            observer.until_absent(id).await;
        }
    }
}

#[tokio::test]
async fn children_are_sorted_names_whatever_happens_to_data() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    let path = unique_path("children");
    create(&client, &path, "data").await;

    let mut observer = Observer::new(options(&server.address()));
    observer.watch(&[(1, &path, Children)]).await;
    assert_eq!(observer.last(1).unwrap().stdin.len(), 0);
    for name in ["b", "a", "c"] {
        create(&client, &format!("{path}/{name}"), "").await;
    }
    observer.until_text(1, "a\nb\nc\n").await;
    let before = observer.count(1);
    set(&client, &path, "other data").await;
    set(&client, &format!("{path}/a"), "other data").await;
    client.delete(&format!("{path}/b"), None).await.unwrap();
    observer.until_text(1, "a\nc\n").await;
    assert_eq!(observer.count(1), before + 1, "data is none of its business");
}

#[tokio::test]
async fn a_subtree_tells_the_paths_that_changed() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    let root = unique_path("tree");
    let path = |rest: &str| format!("{root}{rest}");
    for rest in ["", "/a", "/a/deep", "/b"] {
        create(&client, &path(rest), "").await;
    }

    let mut observer = Observer::new(options(&server.address()));
    observer.watch(&[(1, &root, Tree)]).await;
    observer
        .until_text(1, &format!("{root}\n{root}/a\n{root}/a/deep\n{root}/b\n"))
        .await;

    set(&client, &path("/a/deep"), "x").await;
    observer.until_text(1, &format!("{root}/a/deep\n")).await;
    create(&client, &path("/c"), "").await;
    observer.until_text(1, &format!("{root}/c\n")).await;
    client.delete(&path("/b"), None).await.unwrap();
    observer.until_text(1, &format!("{root}/b\n")).await;

    // Several changes at once may be told in one go or in several, but each is told.
    let before = observer.count(1);
    let mut writer = client.new_multi_writer();
    for rest in ["/a", "/c", ""] {
        writer.add_set_data(&path(rest), b"y", None).unwrap();
    }
    writer.commit().await.unwrap();
    let told = |o: &Observer| {
        let all = o.seen[&WatchId(1)][before..]
            .iter()
            .flat_map(|seen| seen.stdin.to_vec())
            .collect();
        let text = String::from_utf8(all).unwrap();
        let mut lines: Vec<String> = text.lines().map(String::from).collect();
        lines.sort();
        lines
    };
    observer.until("three paths", |o| told(o).len() >= 3).await;
    assert_eq!(told(&observer), [root.clone(), path("/a"), path("/c")]);

    // Another process sees the same state: the digest depends on nothing else.
    let mut other = Observer::new(options(&server.address()));
    other.watch(&[(1, &root, Tree)]).await;
    assert_eq!(other.last(1).unwrap().version, observer.last(1).unwrap().version);
    assert_eq!(
        &*other.last(1).unwrap().stdin,
        format!("{root}\n{root}/a\n{root}/a/deep\n{root}/c\n").as_bytes()
    );
}

#[tokio::test]
async fn a_subtree_may_change_while_it_is_listed() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    let root = unique_path("busy-tree");
    let path = |i: usize| format!("{root}/{}/{i}", i % 20);
    let mut writer = client.new_multi_writer();
    writer.add_create(&root, b"", &OPEN).unwrap();
    (0..20).for_each(|i| writer.add_create(&format!("{root}/{i}"), b"", &OPEN).unwrap());
    (0..2000).for_each(|i| writer.add_create(&path(i), b"", &OPEN).unwrap());
    writer.commit().await.unwrap();

    let mut observer = Observer::new(options(&server.address()));
    let changes = async {
        for i in 0..500 {
            let (set, delete) = (path(i), path(1000 + i));
            let (set, delete) = (client.set_data(&set, b"x", None), client.delete(&delete, None));
            set.await.unwrap();
            delete.await.unwrap();
            create(&client, &path(2000 + i), "").await;
        }
    };
    let tree = [(1, root.as_str(), Tree)];
    tokio::join!(changes, observer.watch(&tree));
    let mut fresh = Observer::new(options(&server.address()));
    fresh.watch(&[(1, &root, Tree)]).await;
    let now = fresh.last(1).unwrap().version;
    observer
        .until("the same state", |o| o.last(1).unwrap().version == now)
        .await;
}

#[tokio::test]
async fn subscriptions_change_while_it_runs() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    let root = unique_path("change");
    for path in [root.clone(), format!("{root}/a"), format!("{root}/b")] {
        create(&client, &path, "0").await;
    }
    let (a, b) = (format!("{root}/a"), format!("{root}/b"));

    let mut observer = Observer::new(options(&server.address()));
    observer.watch(&[(1, &a, Data)]).await;
    observer.watch(&[(2, &b, Data), (3, &a, Data)]).await;
    assert_eq!((observer.count(1), observer.count(2), observer.count(3)), (1, 1, 1));

    observer.change(&[1], &[]);
    observer.until("armed without it", |o| o.armed == 3).await;
    set(&client, &a, "1").await;
    observer.until_text(3, "1").await;
    assert_eq!(observer.count(1), 1, "a removed watch is told nothing");

    // Removed and added in one change: read afresh, though nothing changed.
    observer.seen.remove(&WatchId(2));
    observer.change(&[2], &[(2, &b, Data)]);
    observer.until_text(2, "0").await;
    observer.until("armed again", |o| o.armed == 4).await;

    // Everything at once: the strategy changes from one-shot watches to a recursive one and back.
    let many: Vec<(u32, String)> = (100..200).map(|id| (id, format!("{root}/many{id}"))).collect();
    let add: Vec<_> = many.iter().map(|(id, path)| (*id, path.as_str(), Data)).collect();
    observer.watch(&add).await;
    create(&client, &many[50].1, "late").await;
    set(&client, &b, "2").await;
    observer.until_text(150, "late").await;
    observer.until_text(2, "2").await;
    assert_eq!(observer.count(3), 2, "what did not change is not told again");

    let armed = observer.armed;
    observer.change(&(100..200).collect::<Vec<_>>(), &[]);
    observer.until("armed once more", |o| o.armed > armed).await;
    set(&client, &a, "3").await;
    set(&client, &b, "3").await;
    observer.until_text(3, "3").await;
    observer.until_text(2, "3").await;
}

#[tokio::test]
async fn several_watches_share_a_node() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    let path = unique_path("shared");
    create(&client, &path, "0").await;
    let mut observer = Observer::new(options(&server.address()));
    observer
        .watch(&[(1, &path, Data), (2, &path, Data), (3, &path, Children)])
        .await;
    set(&client, &path, "1").await;
    create(&client, &format!("{path}/x"), "").await;
    observer.until_text(1, "1").await;
    observer.until_text(2, "1").await;
    observer.until_text(3, "x\n").await;
    // One goes, the other stays.
    observer.change(&[1], &[]);
    observer.until("armed", |o| o.armed == 2).await;
    set(&client, &path, "2").await;
    observer.until_text(2, "2").await;
}

#[tokio::test]
async fn paths_are_relative_to_the_chroot_which_may_not_exist() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    let chroot = unique_path("chroot");
    let servers = format!("{}{chroot}", server.address());

    let mut observer = Observer::new(options(&servers));
    observer
        .watch(&[(1, "/a", Data), (2, "/", Children), (3, "/a", Tree), (4, "/", Data)])
        .await;
    for id in 1..=4 {
        observer.until_absent(id).await;
    }
    create(&client, &chroot, "root").await;
    observer.until_text(4, "root").await;
    create(&client, &format!("{chroot}/a"), "data").await;
    create(&client, &format!("{chroot}/a/b"), "").await;
    observer.until_text(1, "data").await;
    observer.until_text(2, "a\n").await;
    observer
        .until("the subtree", |o| {
            o.last(3).is_some_and(|last| last.stdin.ends_with(b"/a/b\n"))
        })
        .await;

    client.delete(&format!("{chroot}/a/b"), None).await.unwrap();
    client.delete(&format!("{chroot}/a"), None).await.unwrap();
    client.delete(&chroot, None).await.unwrap();
    for id in 1..=4 {
        observer.until_absent(id).await;
    }
}

#[tokio::test]
async fn dropping_the_source_closes_its_sessions() {
    let server = ZooKeeperServer::start();
    let sessions = || {
        server
            .four_letters("mntr")
            .unwrap()
            .lines()
            .any(|l| l == "zk_global_sessions\t0")
    };
    let mut observer = Observer::new(options(&server.address()));
    observer.watch(&[(1, "/a", Data), (2, "/b", Tree)]).await;
    assert!(!sessions());
    drop(observer);
    // Without the closing, the sessions would only expire after 4 s.
    let start = Instant::now();
    eventually("no session is left", sessions).await;
    assert!(start.elapsed() < Duration::from_secs(3));
}
