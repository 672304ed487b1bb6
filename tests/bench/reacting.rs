//! From another client's `set_data` to the end of the action it led to.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use zookeeper_client::{Acls, Client, CreateMode};

use crate::launching::Spawner;
use crate::peer::Peer;
use crate::support::zookeeper::ZooKeeperServer;
use crate::table::Table;
use crate::{median, ms, ratio};

const ROUNDS: usize = 600;
const WARM_UP: usize = 50;

pub async fn measure(table: &mut Table) {
    let server = ZooKeeperServer::start();
    let servers = server.address();
    let writer = Client::connect(&servers).await.unwrap();
    for path in ["/ours", "/kazoo", "/bare"] {
        writer
            .create(path, b"start", &CreateMode::Persistent.with_acls(Acls::anyone_all()))
            .await
            .unwrap();
    }
    let dir = tempfile::tempdir().unwrap();
    let mut by_twitcher = Actions::new(dir.path().join("by-twitcher"));
    let mut by_kazoo = Actions::new(dir.path().join("by-kazoo"));
    let mut by_bench = Actions::new(dir.path().join("by-bench"));
    let mut spawner = Spawner::new();
    let config = tempfile::tempdir().unwrap();
    let watch = format!("RegisterWatch('/ours', Exec({:?}))\n", by_twitcher.program);
    fs::write(config.path().join("a.twc"), watch).unwrap();
    let _ours = Peer::quiet_twitcher(&servers, config.path(), &dir.path().join("log"));
    let _kazoo = Peer::kazoo(&servers, "/kazoo", &by_kazoo.program);
    let reader = Peer::bare(&servers, "/bare");
    reader.line("read start.");
    by_twitcher.end_of(b"start").await;
    by_kazoo.end_of(b"start").await;
    let (mut ours, mut kazoo, mut bare, mut launch) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS + WARM_UP {
        let data = round.to_string().into_bytes();
        let begin = Instant::now();
        writer.set_data("/ours", &data, None).await.unwrap();
        ours.push(by_twitcher.end_of(&data).await - begin);

        let begin = Instant::now();
        writer.set_data("/kazoo", &data, None).await.unwrap();
        kazoo.push(by_kazoo.end_of(&data).await - begin);

        let begin = Instant::now();
        writer.set_data("/bare", &data, None).await.unwrap();
        bare.push(reader.line(&format!("read {round}.")) - begin);

        let begin = Instant::now();
        spawner.start(&by_bench.program, &data);
        launch.push(by_bench.end_of(&data).await - begin);
        spawner.ended().await;
    }
    let all = [ours, kazoo, bare, launch].map(|samples| samples[WARM_UP..].to_vec());
    let [ours, kazoo, bare, launch] = all.clone().map(median);
    let [our_samples, kazoo_samples, bare_samples, launch_samples] = all;
    let allowed = bare.mul_f64(1.3) + launch;
    table.beside(
        "`set_data` → kazoo DataWatch, its subprocess has exited",
        kazoo_samples,
        "1",
    );
    table.beside(
        "`set_data` → Twitcher, its action has exited",
        our_samples,
        ratio(ours, kazoo),
    );
    table.beside(
        "`set_data` → zookeeper-client watch + get, nothing run",
        bare_samples,
        ratio(bare, kazoo),
    );
    table.beside(
        "the same action through the launcher alone",
        launch_samples,
        ratio(launch, kazoo),
    );
    table.row(
        "1.3 x (watch + get) + launch",
        ms(allowed),
        format!("Twitcher: {} of it", ratio(ours, allowed)),
    );
}

/// The least that can be done about a change, in a process of its own like the others: reading the new data, and saying so.
pub async fn bare_peer(servers: &str, path: &str) {
    let client = Client::connect(servers).await.unwrap();
    loop {
        let (data, _, watcher) = client.get_and_watch_data(path).await.unwrap();
        println!("read {}.", String::from_utf8_lossy(&data));
        watcher.changed().await;
    }
}

/// Processes of a program that copies its stdin to a pipe. The pipe tells when such a process is gone, whoever started it: its end is
/// closed then.
pub struct Actions {
    pub program: [String; 3],
    ends: UnboundedReceiver<(Instant, Vec<u8>)>,
}

impl Actions {
    pub fn new(pipe: PathBuf) -> Self {
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        let program = [
            "/bin/dd".to_owned(),
            "status=none".to_owned(),
            format!("of={}", pipe.display()),
        ];
        let (to, ends) = unbounded_channel();
        std::thread::spawn(move || tell_ends(&pipe, |data| to.send((Instant::now(), data)).is_ok()));
        Self { program, ends }
    }

    /// When the process that was given this data ended.
    pub async fn end_of(&mut self, data: &[u8]) -> Instant {
        let (when, seen) = self.ends.recv().await.unwrap();
        assert_eq!(seen, data);
        when
    }
}

fn tell_ends(pipe: &Path, mut tell: impl FnMut(Vec<u8>) -> bool) {
    // Opening waits for the other end, reading for its close.
    while fs::read(pipe).is_ok_and(&mut tell) {}
}
