//! A hundred thousand watches: what they take, and what one change and one look at all of them cost beside ten.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use zookeeper_client::{Acls, Client, CreateMode};

use crate::many::{TRUE, config, create_nodes};
use crate::peer::{Log, Peer};
use crate::reacting::Actions;
use crate::support::zookeeper::ZooKeeperServer;
use crate::table::Table;
use crate::{before, median, ms, ratio};

const WATCHES: usize = 100_000;
const FEW: usize = 10;
const ROUNDS: usize = 300;
const WARM_UP: usize = 30;
const LOOKS: usize = 5;

/// A daemon with so many watches of one action, and one more whose action tells when it was run.
struct Watching {
    peer: Peer,
    actions: Actions,
    log: Log,
    znode: String,
    dir: TempDir,
}

impl Watching {
    async fn start(program: &Path, servers: &str, writer: &Client, count: usize, znode: &str) -> Self {
        let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
        writer.create(znode, b"start", &options).await.unwrap();
        let (dir, config) = (tempfile::tempdir().unwrap(), config(count, TRUE));
        let mut actions = Actions::new(dir.path().join("by-ours"));
        let watch = format!("RegisterWatch({znode:?}, Exec({:?}), name = 'ours')\n", actions.program);
        fs::write(config.path().join("ours.twc"), watch).unwrap();
        let socket = dir.path().join("control");
        let mut log = Log::new(dir.path().join("log"));
        let more = ["--control", socket.to_str().unwrap()];
        let peer = Peer::daemon_of(program, servers, config.path(), &log.path, &more);
        log.until("all watches are armed", 1).await;
        actions.end_of(b"start").await;
        Self {
            peer,
            actions,
            log,
            znode: znode.to_owned(),
            dir,
        }
    }

    /// How long after it had connected all watches were armed, the last time: by the log's own times.
    fn armed_after(&self) -> Duration {
        let text = fs::read_to_string(&self.log.path).unwrap();
        let last = |sign: &str| {
            let line = text.lines().rfind(|line| line.contains(sign)).unwrap();
            line.split_whitespace()
                .next()
                .unwrap()
                .parse::<jiff::Timestamp>()
                .unwrap()
        };
        last("all watches are armed")
            .duration_since(last(" connected session="))
            .unsigned_abs()
    }

    async fn reaction(&mut self, writer: &Client, round: usize) -> Duration {
        let data = round.to_string().into_bytes();
        let begin = Instant::now();
        writer.set_data(&self.znode, &data, None).await.unwrap();
        self.actions.end_of(&data).await - begin
    }

    fn status(&self, program: &Path) -> Duration {
        let mut command = Command::new(program);
        command
            .args(["status", "--control"])
            .arg(self.dir.path().join("control"));
        let begin = Instant::now();
        let output = command
            .env_remove("LD_LIBRARY_PATH")
            .stderr(Stdio::inherit())
            .output()
            .unwrap();
        let taken = begin.elapsed();
        assert!(output.status.success());
        assert!(output.stdout.iter().filter(|byte| **byte == b'\n').count() > FEW);
        taken
    }
}

/// What was measured of one program.
#[derive(Default)]
struct Measured {
    armed: Duration,
    again: Duration,
    each: f64,
    idle: u64,
    one: Vec<Duration>,
    beside_few: Vec<Duration>,
    status: Vec<Duration>,
}

pub async fn measure(table: &mut Table) {
    let mut all: Vec<Measured> = Vec::new();
    for program in before::programs() {
        all.push(of(&program).await);
    }
    let mut all = all.into_iter();
    let (ours, before) = (all.next().unwrap_or_default(), all.next());
    let of_before = |of: &dyn Fn(&Measured) -> f64| {
        before.as_ref().map_or_else(String::new, |before| {
            format!("{:.2} of the build before", of(&ours) / of(before))
        })
    };
    table.row(
        format!("{WATCHES} watches under one parent: connected → armed"),
        ms(ours.armed),
        of_before(&|it| it.armed.as_secs_f64()),
    );
    table.row(
        "the same after the server was started again",
        ms(ours.again),
        of_before(&|it| it.again.as_secs_f64()),
    );
    table.row(
        "resident memory for each watch of them",
        format!("{:.0} bytes", ours.each),
        of_before(&|it| it.each),
    );
    table.row(
        "CPU time of them in 10 s without changes",
        format!("{} ms", ours.idle),
        "",
    );
    let [one, few] = [ours.one.clone(), ours.beside_few].map(median);
    let then = before.as_ref().map(|before| before.one.clone());
    table.row(
        format!("`set_data` → the action has exited, {FEW} watches"),
        ms(few),
        "1",
    );
    table.judged(format!("the same, {WATCHES} watches"), ours.one, then, ratio(one, few));
    let then = before.as_ref().map(|before| before.status.clone());
    table.judged(
        format!("`twitcher status` of {WATCHES} watches, to a pipe"),
        ours.status,
        then,
        "",
    );
}

async fn of(program: &Path) -> Measured {
    let mut server = ZooKeeperServer::start();
    let servers = server.address();
    let writer = Client::connect(&servers).await.unwrap();
    create_nodes(&writer, WATCHES).await;
    let mut few = Watching::start(program, &servers, &writer, FEW, "/few").await;
    let mut all = Watching::start(program, &servers, &writer, WATCHES, "/ours").await;
    let armed = all.armed_after();
    // What is still busy with the start would count as idle.
    tokio::time::sleep(Duration::from_secs(3)).await;
    let each = (all.peer.rss() - few.peer.rss()) as f64 * 1024.0 / (WATCHES - FEW) as f64;
    let before = all.peer.cpu_ticks();
    tokio::time::sleep(Duration::from_secs(10)).await;
    let idle = (all.peer.cpu_ticks() - before) * 10;
    let (mut one, mut beside_few) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS + WARM_UP {
        let (ours, theirs) = (all.reaction(&writer, round).await, few.reaction(&writer, round).await);
        if round >= WARM_UP {
            one.push(ours);
            beside_few.push(theirs);
        }
    }
    let status = (0..LOOKS).map(|_| {
        // As those do who look again: what is saved is for one of them.
        std::thread::sleep(Duration::from_secs(1));
        all.status(program)
    });
    let status = status.collect();
    server.restart();
    all.log.until("all watches are armed", 1).await;
    Measured {
        armed,
        again: all.armed_after(),
        each,
        idle,
        one,
        beside_few,
        status,
    }
}
