//! Steady load for a long time on one daemon: memory, descriptors and threads of the daemon and its launcher must not grow under it.
//!
//! The samples go to `soak.csv`, and a plot of them to `soak.svg`.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::unistd::Pid;
use zookeeper_client::{Acls, Client, CreateMode};

use crate::support::until;
use crate::support::zookeeper::ZooKeeperServer;

use super::snapshot::{launcher, open_descriptors, status};
use super::trend::{Point, grows, slope, svg};

/// Watches, and as many znodes.
const WATCHES: usize = 200;
/// Writes a second, each of another znode, in turns.
const RATE: f64 = 20.0;
/// Most samples there are, and the longest time between two.
const SAMPLES: f64 = 400.0;
const LONGEST: f64 = 10.0;

/// What is sampled, and by how much it may grow in an hour.
///
/// An allocator's pages come and go: a daemon that leaks 100 bytes a run would grow by 7 MiB an hour under this load.
const SERIES: [(&str, f64); 6] = [
    ("daemon: resident KiB", 4096.0),
    ("launcher: resident KiB", 1024.0),
    ("daemon: descriptors", 4.0),
    ("launcher: descriptors", 2.0),
    ("daemon: threads", 4.0),
    ("launcher: threads", 1.0),
];

/// Runs it below `root`; says whether nothing grew.
pub fn soak(root: &Path, minutes: f64, output: &Path) -> bool {
    println!("{WATCHES} watches, {RATE} writes a second, for {minutes} minutes");
    let server = ZooKeeperServer::start();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let client = runtime.block_on(prepare(&server.address()));
    let daemon = Daemon::start(root, &server.address());
    let pid = daemon.pid();
    until("the daemon has a launcher", || launcher(pid).is_some());

    let (samples, writes) = runtime.block_on(load(&client, pid, Duration::from_secs_f64(minutes * 60.0)));
    fs::create_dir_all(output).unwrap();
    fs::write(output.join("soak.csv"), csv(&samples)).unwrap();
    let named: Vec<(&str, &[Point])> = SERIES
        .iter()
        .zip(&samples)
        .map(|((name, _), it)| (*name, &**it))
        .collect();
    let title = format!("{writes} writes, {WATCHES} watches, {minutes} minutes");
    fs::write(output.join("soak.svg"), svg(&title, &named)).unwrap();
    println!(
        "{writes} writes; samples and plot: {}/soak.csv, soak.svg",
        output.display()
    );
    verdict(&samples)
}

fn verdict(samples: &[Vec<Point>]) -> bool {
    println!("\n| | first | last | an hour, of the second half | may grow by |\n| --- | ---: | ---: | ---: | ---: |");
    let mut passed = true;
    for ((name, bound), samples) in SERIES.iter().zip(samples) {
        let value = |point: Option<&Point>| point.map_or(0.0, |point| point.1);
        let slope = slope(samples).map_or("too short".to_owned(), |slope| {
            format!("{:+.0} ± {:.0}", slope.per_hour, slope.error)
        });
        let grew = grows(samples, *bound);
        passed &= !grew;
        println!(
            "| {name} | {} | {} | {slope} | {bound} |{}",
            value(samples.first()),
            value(samples.last()),
            if grew { " GROWS" } else { "" }
        );
    }
    passed
}

async fn prepare(address: &str) -> Client {
    let client = Client::connect(address).await.unwrap();
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    client.create("/soak", b"", &options).await.unwrap();
    for i in 0..WATCHES {
        client.create(&znode(i), b"first", &options).await.unwrap();
    }
    client
}

fn znode(i: usize) -> String {
    format!("/soak/n{i}")
}

/// Writes steadily and samples meanwhile.
async fn load(client: &Client, daemon: Pid, time: Duration) -> (Vec<Vec<Point>>, usize) {
    let start = Instant::now();
    let mut samples = vec![Vec::new(); SERIES.len()];
    let between = Duration::from_secs_f64((time.as_secs_f64() / SAMPLES).clamp(0.5, LONGEST));
    let mut due = between;
    let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / RATE));
    let mut writes = 0;
    while start.elapsed() < time {
        pace.tick().await;
        let data = format!("write {writes}");
        client
            .set_data(&znode(writes % WATCHES), data.as_bytes(), None)
            .await
            .unwrap();
        writes += 1;
        if start.elapsed() >= due {
            due += between;
            let at = start.elapsed().as_secs_f64();
            for (series, value) in samples.iter_mut().zip(sample(daemon)) {
                series.push((at, value as f64));
            }
        }
    }
    (samples, writes)
}

fn sample(daemon: Pid) -> [u64; SERIES.len()] {
    let launcher = launcher(daemon).expect("the launcher is gone");
    [
        status(daemon, "VmRSS:"),
        status(launcher, "VmRSS:"),
        open_descriptors(daemon),
        open_descriptors(launcher),
        status(daemon, "Threads:"),
        status(launcher, "Threads:"),
    ]
}

fn csv(samples: &[Vec<Point>]) -> String {
    let names: Vec<&str> = SERIES.iter().map(|(name, _)| *name).collect();
    let mut csv = format!("seconds,{}\n", names.join(","));
    for row in 0..samples[0].len() {
        let values: Vec<String> = samples.iter().map(|series| series[row].1.to_string()).collect();
        let _ = writeln!(csv, "{:.1},{}", samples[0][row].0, values.join(","));
    }
    csv
}

struct Daemon(Child);

impl Daemon {
    fn start(root: &Path, servers: &str) -> Self {
        fs::create_dir_all(root.join("conf")).unwrap();
        let mut config = String::new();
        for i in 0..WATCHES {
            let action = if i % 4 == 0 {
                "Exec('cat')"
            } else {
                "Exec(['/bin/true'])"
            };
            let _ = writeln!(
                config,
                "RegisterWatch(znode={:?}, name='n{i}', action={action})",
                znode(i)
            );
        }
        fs::write(root.join("conf/soak.twc"), config).unwrap();
        let log = File::create(root.join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_twitcher"))
            .args(["run", "--zk", servers, "--config"])
            .arg(root.join("conf"))
            .arg("--state-dir")
            .arg(root.join("state"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        Self(child.unwrap())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.0.id() as i32)
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
