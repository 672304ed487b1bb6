//! Watches of all kinds share a session, also while it changes how a znode is watched.

use twitcher_model::WatchType::{Children, Data, Tree};

use super::*;
use crate::support::proxy::Proxy;
use crate::support::zookeeper::{ZooKeeperServer, unique_path};

/// A znode that is watched by itself is covered by a subtree's watch, and then by itself again: the server keeps one watch of a session
/// on a path, the last that was set.
#[tokio::test]
async fn nothing_is_missed_where_one_watch_replaces_another_in_the_same_session() {
    let server = ZooKeeperServer::shared();
    let proxy = Proxy::to(server.port());
    let client = writer(&server.address()).await;
    let top = unique_path("shared");
    let (below, aside) = (format!("{top}/x"), unique_path("aside"));
    for path in [&top, &below, &aside] {
        create(&client, path, "0").await;
    }
    let mut observer = Observer::new(options(&proxy.address()));
    observer
        .watch(&[
            (1, &top, Data),
            (2, &top, Children),
            (3, &below, Data),
            (4, &aside, Data),
        ])
        .await;
    assert_eq!(proxy.connections(), 1);

    let mut round = 0;
    for times in 0..4 {
        for covered in [true, false] {
            // What changes meanwhile is seen by whichever watch there is.
            match covered {
                true => observer.change(&[], &[(5, &top, Tree), (6, &below, Tree)]),
                false => observer.change(&[5, 6], &[]),
            }
            for _ in 0..3 {
                round += 1;
                let text = round.to_string();
                for path in [&top, &below, &aside] {
                    client.set_data(path, text.as_bytes(), None).await.unwrap();
                }
                create(&client, &format!("{top}/n{round}"), "").await;
                for id in [1, 3, 4] {
                    observer.until_text(id, &text).await;
                }
                let name = format!("n{round}\n");
                observer
                    .until("the new child is seen", |o| {
                        let list = o.last(2).map(|last| String::from_utf8_lossy(&last.stdin).into_owned());
                        list.is_some_and(|list| list.contains(&name))
                    })
                    .await;
            }
            if times % 2 == 1 {
                proxy.sever();
            } else if times == 0 {
                assert_eq!(proxy.connections(), 1);
            }
        }
    }
    let (sessions, stuck) = (observer.stats.sessions(), observer.stats.stuck());
    assert_eq!((sessions, stuck), (1, 0));
}
