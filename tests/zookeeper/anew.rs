//! Servers that were wiped and set up anew by the same steps: the same transactions made other data.

use std::time::Duration;

use twitcher_model::WatchType::{Children, Data, Tree};
use zookeeper_client::Stat;

use super::*;
use crate::support::proxy::{Proxy, op};
use crate::support::zookeeper::{ZooKeeperServer, unique_path};

/// A znode of each kind and strategy, made by steps of which `text` and `name` are all that differs.
async fn set_up(servers: &str, text: &str, name: &str) -> Stat {
    let client = writer(servers).await;
    siblings(&client, "/many").await;
    for path in ["/one", "/large", "/list", "/tree", "/tree/node"] {
        create(&client, path, "").await;
    }
    set(&client, "/one", text).await;
    set(&client, "/large", &text.repeat(10_000)).await;
    set(&client, "/many/n7", text).await;
    set(&client, "/tree/node", text).await;
    create(&client, &format!("/list/{name}"), "").await;
    create(&client, &format!("/{name}"), "").await;
    client.check_stat("/one").await.unwrap().unwrap()
}

#[tokio::test]
async fn other_data_of_the_same_transactions_is_seen() {
    for missing in [vec![], vec![op::ADD_WATCH]] {
        let mut server = ZooKeeperServer::start();
        let proxy = Proxy::to(server.port());
        proxy.rules(|rules| rules.unimplemented = missing);
        let before = set_up(&server.address(), "abc", "first").await;
        let mut quick = options(&proxy.address());
        quick.session_timeout = Duration::from_secs(1);
        quick.sweep_interval = Duration::from_millis(300);
        let mut observer = Observer::new(quick);
        let many: Vec<String> = (0..70).map(|i| format!("/many/n{i}")).collect();
        let mut add = data_watches(&many);
        add.extend([
            (100, "/one", Data),
            (101, "/large", Data),
            (102, "/list", Children),
            (103, "/", Children),
            (104, "/tree", Tree),
        ]);
        observer.watch(&add).await;
        let large = "abc".repeat(10_000);
        for (id, text) in [
            (7, "abc"),
            (100, "abc"),
            (101, &large),
            (102, "first\n"),
            (103, "first\nlarge\nlist\nmany\none\ntree\nzookeeper\n"),
            (104, "/tree\n/tree/node\n"),
        ] {
            observer.until_text(id, text).await;
        }

        proxy.rules(|rules| rules.refuse = true);
        proxy.sever();
        server.wipe();
        server.restart();
        let after = set_up(&server.address(), "xyz", "other").await;
        assert_eq!(
            (before.czxid, before.mzxid),
            (after.czxid, after.mzxid),
            "the same steps"
        );
        proxy.rules(|rules| rules.refuse = false);
        let large = "xyz".repeat(10_000);
        for (id, text) in [
            (7, "xyz"),
            (100, "xyz"),
            (101, &large),
            (102, "other\n"),
            (103, "large\nlist\nmany\none\nother\ntree\nzookeeper\n"),
        ] {
            observer.until_text(id, text).await;
        }
        observer.until("the subtree", |o| o.count(104) > 1).await;
    }
}

/// Should even the times be the same, what is small enough to be read by a sweep tells by itself.
#[tokio::test]
async fn other_data_of_the_same_stat_is_found_by_the_sweep() {
    for missing in [vec![], vec![op::ADD_WATCH]] {
        let server = ZooKeeperServer::shared();
        let proxy = Proxy::to(server.port());
        proxy.rules(|rules| rules.unimplemented = missing);
        let client = writer(&server.address()).await;
        let root = unique_path("same-stat");
        let paths = siblings(&client, &root).await;
        let alone = unique_path("same-stat");
        create(&client, &alone, "original").await;
        set(&client, &paths[7], "original").await;
        let mut sweeping = options(&proxy.address());
        sweeping.sweep_interval = Duration::from_millis(200);
        let mut observer = Observer::new(sweeping);
        let mut add = data_watches(&paths);
        add.push((100, &alone, Data));
        observer.watch(&add).await;
        observer.until_text(7, "original").await;
        observer.until_text(100, "original").await;

        proxy.rules(|rules| rules.replace = Some((b"original".to_vec(), b"replaced".to_vec())));
        observer.until_text(7, "replaced").await;
        observer.until_text(100, "replaced").await;
        assert_eq!(observer.count(8), 1, "what is the same is not told again");
    }
}
