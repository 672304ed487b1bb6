//! Znodes that cannot be read, or only at a price: they wait by themselves, the others are served.

use std::time::Duration;

use twitcher_model::WatchType::{Children, Data, Tree};

use super::*;
use crate::support::proxy::{Proxy, op};
use crate::support::zookeeper::{Setup, ZooKeeperServer, unique_path};

/// Runs a test once with watches one by one and once with a recursive watch: `names` below a parent are watched, with 70 more
/// siblings in the second case. Watch `i` is the i-th name.
async fn neighbours(client: &Client, recursive: bool) -> (String, Vec<(u32, String)>) {
    let parent = unique_path("hostile");
    create(client, &parent, "").await;
    let others = if recursive { 70 } else { 1 };
    let mut paths = Vec::new();
    for i in 0..others {
        let path = format!("{parent}/n{i}");
        create(client, &path, "0").await;
        paths.push((100 + i, path));
    }
    (parent, paths)
}

async fn still_served(client: &Client, observer: &mut Observer, others: &[(u32, String)], text: &str) {
    for (_, path) in others {
        set(client, path, text).await;
    }
    for (id, _) in others {
        observer.until_text(*id, text).await;
    }
}

fn with_data<'a>(others: &'a [(u32, String)], extra: &[(u32, &'a str, WatchType)]) -> Vec<(u32, &'a str, WatchType)> {
    others
        .iter()
        .map(|(id, path)| (*id, path.as_str(), Data))
        .chain(extra.iter().copied())
        .collect()
}

#[tokio::test]
async fn a_node_we_may_not_read_waits_until_we_may() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    client.auth("digest", b"owner:secret").await.unwrap();
    let private = Acls::creator_all();
    for recursive in [false, true] {
        let (parent, others) = neighbours(&client, recursive).await;
        let hidden = format!("{parent}/hidden");
        client
            .create(&hidden, b"secret", &CreateMode::Persistent.with_acls(private))
            .await
            .unwrap();
        let mut observer = Observer::new(options(&server.address()));
        // It does not hold up the others, nor that all is said to be armed.
        observer
            .watch(&with_data(&others, &[(1, &hidden, Data), (2, &hidden, Children)]))
            .await;
        assert_eq!((observer.count(1), observer.count(2)), (0, 0), "unknown is not absent");
        set(&client, &hidden, "more secret").await;
        still_served(&client, &mut observer, &others, "1").await;
        assert_eq!(observer.count(1), 0);

        let acls = Acls::anyone_all();
        client.set_acl(&hidden, &acls, None).await.unwrap();
        observer.until_text(1, "more secret").await;
        observer.until("the children", |o| o.count(2) == 1).await;
        set(&client, &hidden, "public").await;
        observer.until_text(1, "public").await;
    }
}

#[tokio::test]
async fn digest_credentials_open_what_they_should() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    client.auth("digest", b"owner:secret").await.unwrap();
    let path = unique_path("digest");
    client
        .create(
            &path,
            b"private",
            &CreateMode::Persistent.with_acls(Acls::creator_all()),
        )
        .await
        .unwrap();
    let mut with = options(&server.address());
    with.auth = vec!["digest:owner:secret".parse().unwrap()];
    let mut observer = Observer::new(with);
    observer.watch(&[(1, &path, Data)]).await;
    observer.until_text(1, "private").await;
    let mut wrong = options(&server.address());
    wrong.auth = vec!["digest:owner:guess".parse().unwrap()];
    let mut stranger = Observer::new(wrong);
    stranger.watch(&[(1, &path, Data)]).await;
    assert_eq!(stranger.count(1), 0);
}

#[tokio::test]
async fn a_subtree_with_a_hidden_part_is_watched_as_far_as_it_can_be_seen() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    client.auth("digest", b"owner:secret").await.unwrap();
    let root = unique_path("partly");
    create(&client, &root, "").await;
    create(&client, &format!("{root}/open"), "").await;
    let hidden = format!("{root}/hidden");
    client
        .create(&hidden, b"", &CreateMode::Persistent.with_acls(Acls::creator_all()))
        .await
        .unwrap();
    create(&client, &format!("{hidden}/below"), "").await;
    let mut observer = Observer::new(options(&server.address()));
    observer.watch(&[(1, &root, Tree)]).await;
    observer
        .until_text(1, &format!("{root}\n{root}/hidden\n{root}/open\n"))
        .await;
    set(&client, &format!("{root}/open"), "1").await;
    observer.until_text(1, &format!("{root}/open\n")).await;
    client.set_acl(&hidden, &Acls::anyone_all(), None).await.unwrap();
    observer.until_text(1, &format!("{hidden}/below\n")).await;
}

#[tokio::test]
async fn a_node_over_a_megabyte_is_left_alone_until_it_shrinks() {
    let server = ZooKeeperServer::start_with(Setup {
        max_buffer: Some(8 << 20),
        ..Setup::default()
    });
    let client = writer(&server.address()).await;
    for recursive in [false, true] {
        let (parent, others) = neighbours(&client, recursive).await;
        let large = format!("{parent}/large");
        create(&client, &large, "small").await;
        let mut observer = Observer::new(options(&server.address()));
        observer.watch(&with_data(&others, &[(1, &large, Data)])).await;
        observer.until_text(1, "small").await;
        client.set_data(&large, &vec![b'x'; 3 << 20], None).await.unwrap();
        still_served(&client, &mut observer, &others, "1").await;
        // Just below the limit is still fine.
        let fits = vec![b'y'; 1 << 20];
        client.set_data(&large, &fits, None).await.unwrap();
        observer.until_data(1, &fits).await;
        client.set_data(&large, &vec![b'x'; (1 << 20) + 1], None).await.unwrap();
        still_served(&client, &mut observer, &others, "2").await;
        set(&client, &large, "small again").await;
        observer.until_text(1, "small again").await;
        assert_eq!(observer.count(1), 3, "what is too large is not told");

        // Too large from the start.
        client.set_data(&large, &vec![b'x'; 3 << 20], None).await.unwrap();
        let mut late = Observer::new(options(&server.address()));
        late.watch(&with_data(&others, &[(1, &large, Data)])).await;
        assert_eq!((late.count(1), late.count(100)), (0, 1));
    }
}

/// 7: reading a node whose reply is more than the peer takes loses the connection each time.
#[tokio::test]
async fn a_node_that_loses_the_connection_is_left_alone_for_a_while() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    for recursive in [false, true] {
        let proxy = Proxy::to(server.port());
        proxy.rules(|rules| rules.cut_replies_over = Some(300 * 1024));
        let (parent, others) = neighbours(&client, recursive).await;
        let poison = format!("{parent}/poison");
        client.create(&poison, &vec![b'x'; 400 * 1024], &OPEN).await.unwrap();
        let mut calm = options(&proxy.address());
        calm.retry_interval = Duration::from_secs(60);
        let mut observer = Observer::new(calm);
        observer.watch(&with_data(&others, &[(1, &poison, Data)])).await;
        // With others in one request the first time, then alone.
        let cut = proxy.cut();
        assert_eq!((cut, observer.count(1)), (4, 0), "and three strikes");
        still_served(&client, &mut observer, &others, "1").await;
        still_served(&client, &mut observer, &others, "2").await;
        assert_eq!(proxy.cut(), cut, "left alone");
        assert!(proxy.connections() <= 8, "{} connections", proxy.connections());
    }
    // What only passes in small pieces is no poison.
    let proxy = Proxy::to(server.port());
    proxy.rules(|rules| rules.cut_replies_over = Some(700 * 1024));
    let (_, others) = neighbours(&client, true).await;
    for (_, path) in &others {
        client.set_data(path, &vec![b'x'; 100 * 1024], None).await.unwrap();
    }
    let mut observer = Observer::new(options(&proxy.address()));
    observer.watch(&with_data(&others, &[])).await;
    assert!(
        proxy.cut() <= 1,
        "after one attempt that took them for small, their sizes are looked at"
    );
    assert!(
        proxy.requests(op::MULTI_READ) >= 14,
        "70 x 100 KiB in pieces of at most 512 KiB"
    );
}

#[tokio::test]
async fn fifty_thousand_children_are_listed() {
    let server = ZooKeeperServer::start();
    let client = writer(&server.address()).await;
    let parent = unique_path("crowded");
    create(&client, &parent, "").await;
    let name = |i: usize| format!("a-name-of-forty-characters-as-are-{i:06}");
    for chunk in 0..50 {
        let mut writer = client.new_multi_writer();
        for i in 0..1000 {
            writer
                .add_create(&format!("{parent}/{}", name(chunk * 1000 + i)), b"", &OPEN)
                .unwrap();
        }
        writer.commit().await.unwrap();
    }
    let mut observer = Observer::new(options(&server.address()));
    observer.watch(&[(1, &parent, Children), (2, &parent, Data)]).await;
    let lines = |o: &Observer| o.last(1).unwrap().stdin.split(|byte| *byte == b'\n').count() - 1;
    assert_eq!(lines(&observer), 50_000, "2 MB of names");
    client.delete(&format!("{parent}/{}", name(7)), None).await.unwrap();
    observer.until("one less", |o| lines(o) == 49_999).await;
    // The same through a recursive watch, and as a subtree.
    observer.watch(&[(3, &parent, Tree), (4, &parent, Children)]).await;
    assert_eq!(observer.last(4).unwrap().stdin, observer.last(1).unwrap().stdin);
    create(&client, &format!("{parent}/zz"), "").await;
    observer.until_text(3, &format!("{parent}/zz\n")).await;
    observer
        .until("one more", |o| o.last(4).unwrap().stdin.ends_with(b"zz\n"))
        .await;
}
