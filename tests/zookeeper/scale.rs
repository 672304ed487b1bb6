//! Many znodes at once.

use super::*;
use crate::support::proxy::{Proxy, op};
use crate::support::zookeeper::ZooKeeperServer;

const MANY: usize = 10_000;

async fn set_all(client: &Client, paths: &[String], text: &str) {
    for chunk in paths.chunks(1000) {
        let mut writer = client.new_multi_writer();
        for path in chunk {
            writer.add_set_data(path, text.as_bytes(), None).unwrap();
        }
        writer.commit().await.unwrap();
    }
}

#[tokio::test]
async fn a_burst_over_ten_thousand_nodes_is_seen_whole() {
    let server = ZooKeeperServer::start();
    let proxy = Proxy::to(server.port());
    let client = writer(&server.address()).await;
    create(&client, "/many", "").await;
    let paths: Vec<String> = (0..MANY).map(|i| format!("/many/n{i}")).collect();
    for chunk in paths.chunks(1000) {
        let mut writer = client.new_multi_writer();
        for path in chunk {
            writer.add_create(path, b"0", &OPEN).unwrap();
        }
        writer.commit().await.unwrap();
    }
    let mut observer = Observer::new(options(&proxy.address()));
    observer.watch(&data_watches(&paths)).await;
    until_all(&mut observer, "0").await;
    assert_eq!(proxy.requests(op::ADD_WATCH), 1, "one watch for all of them");

    for round in ["1", "2"] {
        set_all(&client, &paths, round).await;
        until_all(&mut observer, round).await;
    }
    // And when the connection breaks in the middle of it.
    tokio::join!(set_all(&client, &paths, "3"), async { proxy.sever() });
    until_all(&mut observer, "3").await;
}

async fn until_all(observer: &mut Observer, text: &str) {
    // One after the other: looking at all of them for every report would take longer than the burst.
    for id in 0..MANY as u32 {
        observer.until_text(id, text).await;
    }
}
