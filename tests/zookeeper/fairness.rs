//! What is busy holds back nothing else: every watch of a session is told what lasts, however much the others see.

use std::convert::Infallible;

use twitcher_model::WatchType::{Data, Tree};

use super::*;
use crate::support::zookeeper::{ZooKeeperServer, unique_path};

/// Sets these znodes without pause, many at once, for as long as it is polled.
async fn set_without_pause(client: &Client, paths: &[String]) -> Infallible {
    let mut round: u64 = 0;
    loop {
        for chunk in paths.chunks(500) {
            let data = round.to_string();
            let mut writer = client.new_multi_writer();
            for path in chunk {
                writer.add_set_data(path, data.as_bytes(), None).unwrap();
            }
            writer.commit().await.unwrap();
        }
        round += 1;
    }
}

/// A subtree of a root and `count` znodes below it; returns those.
async fn subtree(client: &Client, root: &str, count: usize) -> Vec<String> {
    create(client, root, "").await;
    let paths: Vec<String> = (0..count).map(|i| format!("{root}/n{i}")).collect();
    for chunk in paths.chunks(500) {
        let mut writer = client.new_multi_writer();
        for path in chunk {
            writer.add_create(path, b"", &OPEN).unwrap();
        }
        writer.commit().await.unwrap();
    }
    paths
}

#[tokio::test]
async fn a_subtree_is_listed_while_another_is_written_to_without_pause() {
    let server = ZooKeeperServer::start();
    let client = writer(&server.address()).await;
    let (busy, late) = (unique_path("busy"), unique_path("late"));
    let paths = subtree(&client, &busy, 2000).await;
    subtree(&client, &late, 10).await;
    let mut observer = Observer::new(options(&server.address()));
    observer.watch(&[(1, &busy, Tree)]).await;

    let late_is_watched = async {
        let before = observer.count(1);
        observer
            .until("the busy subtree is seen to be", |o| o.count(1) > before)
            .await;
        observer.watch(&[(2, &late, Tree)]).await;
        assert_eq!(observer.count(2), 1);
    };
    tokio::select! {
        never = set_without_pause(&client, &paths) => match never {},
        () = late_is_watched => {}
    }
}

#[tokio::test]
async fn every_subtree_is_told_while_one_is_written_to_without_pause() {
    let server = ZooKeeperServer::start();
    let client = writer(&server.address()).await;
    let busy = unique_path("busy");
    let paths = subtree(&client, &busy, 2000).await;
    let quiet: Vec<String> = (0..20).map(|_| unique_path("quiet")).collect();
    let mut add = vec![(100, busy.as_str(), Tree)];
    for (id, path) in quiet.iter().enumerate() {
        create(&client, path, "").await;
        add.push((id as u32, path, Tree));
    }
    let mut observer = Observer::new(options(&server.address()));
    observer.watch(&add).await;

    let all_are_told = async {
        for round in 0..3 {
            let before = observer.count(100);
            for path in &quiet {
                set(&client, path, &round.to_string()).await;
            }
            for id in 0..quiet.len() as u32 {
                observer.until("a quiet subtree", |o| o.count(id) > round + 1).await;
            }
            observer.until("the busy subtree", |o| o.count(100) > before).await;
        }
    };
    tokio::select! {
        never = set_without_pause(&client, &paths) => match never {},
        () = all_are_told => {}
    }
}

#[tokio::test]
async fn a_large_znode_is_read_while_its_siblings_are_written_to_without_pause() {
    let server = ZooKeeperServer::start();
    let client = writer(&server.address()).await;
    let parent = unique_path("busy");
    let paths = subtree(&client, &parent, 2000).await;
    let large = format!("{parent}/large");
    create(&client, &large, "").await;
    let mut add = data_watches(&paths);
    add.push((5000, &large, Data));
    let mut observer = Observer::new(options(&server.address()));
    observer.watch(&add).await;

    let large_is_read = async {
        for round in 0..3 {
            let data = format!("{round} {}", "x".repeat(200_000));
            set(&client, &large, &data).await;
            observer.until_text(5000, &data).await;
        }
    };
    tokio::select! {
        never = set_without_pause(&client, &paths) => match never {},
        () = large_is_read => {}
    }
}
