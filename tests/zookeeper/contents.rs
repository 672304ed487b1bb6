//! Subtrees with what their znodes hold.

use super::*;
use crate::support::proxy::{Proxy, op};
use crate::support::zookeeper::{ZooKeeperServer, unique_path};
use twitcher_model::WatchType::Tree;

/// What a watch was last told that the znodes of its subtree hold; none of one that cannot be read.
fn held(observer: &Observer, id: u32) -> Vec<(String, Option<String>)> {
    let nodes = observer
        .last(id)
        .and_then(|last| last.nodes.clone())
        .unwrap_or_default();
    let text = |data: &[u8]| String::from_utf8(data.to_vec()).unwrap();
    let one = nodes
        .iter()
        .map(|(path, node)| (path.to_string(), node.data.as_deref().map(text)));
    one.collect()
}

async fn until_held(observer: &mut Observer, id: u32, root: &str, expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(path, data)| (format!("{root}{path}"), Some((*data).to_owned())))
        .collect();
    observer
        .until(&format!("{expected:?}"), |observer| held(observer, id) == expected)
        .await;
}

/// With recursive watches, and on servers that have neither these nor multi-reads.
#[tokio::test]
async fn what_nodes_hold_is_told_by_old_servers_and_after_a_lost_connection() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    for missing in [vec![], vec![op::ADD_WATCH, op::MULTI_READ], vec![op::MULTI_READ]] {
        let proxy = Proxy::to(server.port());
        proxy.rules(|rules| rules.unimplemented = missing);
        let root = unique_path("contents");
        let below = |name: &str| format!("{root}{name}");
        create(&client, &root, "top").await;
        create(&client, &below("/a"), "1").await;
        create(&client, &below("/a/b"), "2").await;
        let mut polling = options(&proxy.address());
        polling.tree_poll_interval = Duration::from_millis(100);
        let mut observer = Observer::new(polling);
        observer.add_with_nodes(1, &root);
        until_held(&mut observer, 1, &root, &[("", "top"), ("/a", "1"), ("/a/b", "2")]).await;
        set(&client, &below("/a"), "3").await;
        until_held(&mut observer, 1, &root, &[("", "top"), ("/a", "3"), ("/a/b", "2")]).await;
        proxy.rules(|rules| rules.refuse = true);
        proxy.sever();
        client.delete(&below("/a/b"), None).await.unwrap();
        create(&client, &below("/c"), "4").await;
        proxy.rules(|rules| rules.refuse = false);
        until_held(&mut observer, 1, &root, &[("", "top"), ("/a", "3"), ("/c", "4")]).await;
        observer.change(&[1], &[]);
    }
}

/// A listing that had begun for a watch which is not told what the znodes hold is none for one that is.
#[tokio::test]
async fn a_watch_that_comes_while_a_subtree_is_listed_gets_what_the_nodes_hold() {
    let server = ZooKeeperServer::shared();
    let client = writer(&server.address()).await;
    let root = unique_path("contents-late");
    create(&client, &root, "top").await;
    create(&client, &format!("{root}/a"), "1").await;
    let proxy = Proxy::to(server.port());
    let mut observer = Observer::new(options(&proxy.address()));
    let other = unique_path("contents-other");
    create(&client, &other, "").await;
    observer.watch(&[(0, &other, Tree)]).await;
    let before = proxy.requests(op::GET_CHILDREN);
    proxy.rules(|rules| rules.delay = Duration::from_millis(300));
    observer.change(&[], &[(1, &root, Tree)]);
    eventually("it is listed", || proxy.requests(op::GET_CHILDREN) > before).await;
    observer.add_with_nodes(2, &root);
    observer
        .until("both are told", |observer| {
            observer.last(1).is_some() && observer.last(2).is_some()
        })
        .await;
    proxy.rules(|rules| rules.delay = Duration::ZERO);
    let expected = [
        (root.clone(), Some("top".to_owned())),
        (format!("{root}/a"), Some("1".to_owned())),
    ];
    assert_eq!(held(&observer, 2), expected, "from the first time on");
    assert!(held(&observer, 1).is_empty());
    assert_eq!(observer.count(2), 1);
}
