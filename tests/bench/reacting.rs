//! From another client's `set_data` to the end of the action it led to.

use std::fs;
use std::time::{Duration, Instant};

use zookeeper_client::{Acls, Client, CreateMode};

use crate::peer::Peer;
use crate::support::zookeeper::ZooKeeperServer;
use crate::{Table, median, ms, ratio};

const ROUNDS: usize = 400;

pub async fn measure(table: &mut Table, launch: Duration) {
    let server = ZooKeeperServer::start();
    let servers = server.address();
    let writer = Client::connect(&servers).await.unwrap();
    let reader = Client::connect(&servers).await.unwrap();
    for path in ["/ours", "/kazoo", "/bare"] {
        writer
            .create(path, b"0", &CreateMode::Persistent.with_acls(Acls::anyone_all()))
            .await
            .unwrap();
    }
    let config = tempfile::tempdir().unwrap();
    fs::write(
        config.path().join("a.twc"),
        "RegisterWatch('/ours', Exec(['/bin/true']))\n",
    )
    .unwrap();
    let ours = Peer::twitcher(&servers, config.path());
    let kazoo = Peer::kazoo(&servers, "/kazoo");
    ours.line("run ended");
    kazoo.line("ran");
    let (mut of_ours, mut of_kazoo, mut of_bare) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let data = round.to_string().into_bytes();
        let begin = Instant::now();
        writer.set_data("/ours", &data, None).await.unwrap();
        of_ours.push(ours.line("run ended") - begin);

        let begin = Instant::now();
        writer.set_data("/kazoo", &data, None).await.unwrap();
        of_kazoo.push(kazoo.line("ran") - begin);

        let (_, _, watcher) = reader.get_and_watch_data("/bare").await.unwrap();
        let begin = Instant::now();
        let (set, ()) = tokio::join!(writer.set_data("/bare", &data, None), async {
            watcher.changed().await;
            reader.get_data("/bare").await.unwrap();
            of_bare.push(begin.elapsed());
        });
        set.unwrap();
    }
    let (ours, kazoo, bare) = (median(of_ours), median(of_kazoo), median(of_bare));
    let allowed = bare.mul_f64(1.3) + launch;
    table.row(
        "`set_data` → kazoo DataWatch, its subprocess has exited",
        ms(kazoo),
        "1",
    );
    table.row(
        "`set_data` → Twitcher, its action has exited",
        ms(ours),
        ratio(ours, kazoo),
    );
    table.row(
        "`set_data` → zookeeper-client watch + get, nothing run",
        ms(bare),
        ratio(bare, kazoo),
    );
    table.row(
        "1.3 x (watch + get) + launch",
        ms(allowed),
        format!("Twitcher: {} of it", ratio(ours, allowed)),
    );
}
