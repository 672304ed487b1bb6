//! From another client's `set_data` to the end of the run that it led to, as the daemon's own log says when that was: a command beside the same
//! change for a component, made for the run and by a process that waited for it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;
use zookeeper_client::{Acls, Client, CreateMode};

use crate::peer::{Log, Peer};
use crate::support::zookeeper::ZooKeeperServer;
use crate::table::Table;
use crate::{before, median, ratio};

const ROUNDS: usize = 300;
const WARM_UP: usize = 30;

/// A daemon of one build, whose watches are told from those of another by where their nodes are.
struct Watching {
    log: Log,
    root: String,
    _peer: Peer,
    _dir: TempDir,
}

impl Watching {
    async fn start(program: &Path, servers: &str, root: String, actions: &[(&str, String)], writer: &Client) -> Self {
        let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
        writer.create(&root, b"", &options).await.unwrap();
        let (dir, config) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut text = String::new();
        for (index, (_, action)) in actions.iter().enumerate() {
            let action = match before::has_warm(program) {
                true => action.clone(),
                // Each is made for its run.
                false => action.replace(", warm = 0", "").replace(", warm = 1", ""),
            };
            writer
                .create(&format!("{root}/{index}"), b"start", &options)
                .await
                .unwrap();
            text += &format!("RegisterWatch('{root}/{index}', {action}, name = '{index}')\n");
        }
        fs::write(config.path().join("a.twc"), text).unwrap();
        let mut log = Log::new(dir.path().join("log"));
        let peer = Peer::daemon_of(program, servers, config.path(), &log.path, &["--log-format", "json"]);
        log.until("run ended", actions.len()).await;
        Self {
            log,
            root,
            _peer: peer,
            _dir: dir,
        }
    }

    async fn change(&mut self, action: usize, round: usize, writer: &Client) -> Duration {
        let (path, data) = (format!("{}/{action}", self.root), round.to_string());
        let begin = Timestamp::now();
        writer.set_data(&path, data.as_bytes(), None).await.unwrap();
        let lines = self.log.until("run ended", 1).await;
        let line: Value = serde_json::from_str(&lines[0]).unwrap();
        let end: Timestamp = line["timestamp"].as_str().unwrap().parse().unwrap();
        end.duration_since(begin).unsigned_abs()
    }
}

pub async fn measure(table: &mut Table) {
    let Some(file) = std::env::var_os("TWITCHER_BENCH_COMPONENT").map(PathBuf::from) else {
        return;
    };
    let actions = [
        ("a command, /bin/true", "Exec(['/bin/true'])".to_owned()),
        ("a component, on demand", format!("Wasm({file:?}, warm = 0)")),
        (
            "a component, by a process that waits",
            format!("Wasm({file:?}, warm = 1)"),
        ),
    ];
    let server = ZooKeeperServer::start();
    let servers = server.address();
    let writer = Client::connect(&servers).await.unwrap();
    let mut watching = Vec::new();
    for (number, program) in before::programs().iter().enumerate() {
        watching.push(Watching::start(program, &servers, format!("/build-{number}"), &actions, &writer).await);
    }
    let mut times = vec![vec![Vec::new(); watching.len()]; actions.len()];
    for round in 0..ROUNDS + WARM_UP {
        for (action, times) in times.iter_mut().enumerate() {
            for (daemon, times) in watching.iter_mut().zip(times) {
                let time = daemon.change(action, round, &writer).await;
                if round >= WARM_UP {
                    times.push(time);
                }
            }
        }
    }
    let command = median(times[0][0].clone());
    for ((what, _), mut times) in actions.iter().zip(times) {
        let ours = times.remove(0);
        let beside = ratio(median(ours.clone()), command);
        table.judged(format!("`set_data` → run ended, {what}"), ours, times.pop(), beside);
    }
}
