//! What operators and their tools cost a daemon with ten thousand watches: an answer's time, and what reactions lose while everything
//! that can be looked at is asked for without pause.

use std::fs::{self, File};
use std::io;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::pty::{Winsize, openpty};
use tempfile::TempDir;
use zookeeper_client::{Acls, Client, CreateMode};

use crate::many::{self, MANY};
use crate::peer::Peer;
use crate::program;
use crate::reacting::Actions;
use crate::support::http::browse;
use crate::support::until;
use crate::support::zookeeper::{ZooKeeperServer, free_port};
use crate::table::Table;
use crate::{median, ms, ratio};

const ASKED: usize = 30;
/// Quiet and hammered by turns; hammered for a minute in all.
const TURNS: usize = 6;
const TURN: Duration = Duration::from_secs(10);

/// All that may be looked at on the port, in the order in which wrk asks.
const LOOKS: &str = r#"
local paths = { "/", "/healthz", "/readyz", "/metrics", "/v1/openapi.json", "/v1/status", "/v1/watches", "/v1/watches?search=9999",
  "/v1/watches/ours", "/v1/runs", "/v1/runs?watch=ours", "/v1/nothing" }
local at = 0
request = function()
  at = at % #paths + 1
  return wrk.format("GET", paths[at])
end
"#;

pub async fn measure(table: &mut Table) {
    let server = ZooKeeperServer::start();
    let servers = server.address();
    let writer = Client::connect(&servers).await.unwrap();
    many::create_nodes(&writer, MANY).await;
    let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
    writer.create("/ours", b"start", &options).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let mut actions = Actions::new(dir.path().join("by-ours"));
    let config = many::config(MANY, many::TRUE);
    let watch = format!("RegisterWatch('/ours', Exec({:?}), name = 'ours')\n", actions.program);
    fs::write(config.path().join("ours.twc"), watch).unwrap();
    let (log, socket) = (dir.path().join("log"), dir.path().join("control"));
    let address = format!("127.0.0.1:{}", free_port());
    let mut command = Command::new(program::ours());
    command.args(["run", "--zk", &servers, "--http", &address, "--config"]);
    command.arg(config.path()).arg("--control").arg(&socket);
    command
        .arg("--state-dir")
        .arg(dir.path().join("state"))
        .arg("--logfile")
        .arg(&log);
    let _daemon = Peer::of(&mut command, TempDir::new().unwrap());
    actions.end_of(b"start").await;
    until("the daemon is ready", || {
        browse(&address, "GET", "/readyz").status == 200
    });

    let metrics = || {
        let begin = Instant::now();
        let answer = browse(&address, "GET", "/metrics");
        assert!(answer.body.contains("twitcher_watches"), "{answer:?}");
        begin.elapsed()
    };
    let control = socket.to_str().unwrap();
    let (mut version, mut shown, mut all) = (Vec::new(), Vec::new(), Vec::new());
    let (mut one, mut scraped) = (Vec::new(), Vec::new());
    for _ in 0..ASKED {
        // As those do who look again: what is saved is for one of them.
        std::thread::sleep(Duration::from_secs(1));
        version.push(timed(&["--version"]));
        shown.push(terminal(control));
        all.push(timed(&["status", "--control", control]));
        one.push(timed(&["status", "ours", "--control", control]));
        scraped.push(metrics());
    }
    let [version, shown, all, one, scraped] = [version, shown, all, one, scraped].map(median);
    table.row("`twitcher --version`", ms(version), "1");
    table.row(
        format!("`twitcher status` of {MANY} watches, on a terminal"),
        ms(shown),
        ratio(shown, version),
    );
    table.row("the same to a pipe, each of them listed", ms(all), ratio(all, version));
    table.row("`twitcher status` of one of them", ms(one), ratio(one, version));
    table.row("`/metrics` of them", ms(scraped), "");

    // The session has expired meanwhile: this thread was busy.
    let writer = Client::connect(&servers).await.unwrap();
    let script = dir.path().join("looks.lua");
    fs::write(&script, LOOKS).unwrap();
    let mut round = 0;
    let (mut quiet, mut hammered, mut answers) = (Vec::new(), Vec::new(), 0);
    for _ in 0..TURNS {
        let begin = Instant::now();
        while begin.elapsed() < TURN {
            quiet.push(reaction(&writer, &mut actions, &mut round).await);
        }
        let mut wrk = Command::new("wrk");
        wrk.args([
            "--threads=1",
            "--connections=16",
            &format!("--duration={}s", TURN.as_secs()),
            "--script",
        ]);
        wrk.arg(&script).arg(format!("http://{address}"));
        let mut wrk = wrk
            .env_remove("LD_LIBRARY_PATH")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        while wrk.try_wait().unwrap().is_none() {
            hammered.push(reaction(&writer, &mut actions, &mut round).await);
        }
        answers += requests(&io::read_to_string(wrk.stdout.take().unwrap()).unwrap());
    }
    let (quiet, hammered) = (median(quiet), median(hammered));
    table.row("`set_data` → the action has exited, nobody asking", ms(quiet), "1");
    table.row(
        format!(
            "the same while 16 connections ask without pause, {answers} answers in {} s",
            TURN.as_secs() * TURNS as u64
        ),
        ms(hammered),
        ratio(hammered, quiet),
    );
}

async fn reaction(writer: &Client, actions: &mut Actions, round: &mut usize) -> Duration {
    *round += 1;
    let data = round.to_string().into_bytes();
    let begin = Instant::now();
    writer.set_data("/ours", &data, None).await.unwrap();
    actions.end_of(&data).await - begin
}

/// What wrk counted.
fn requests(report: &str) -> usize {
    let line = report.lines().find(|line| line.contains(" requests in ")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

fn timed(arguments: &[&str]) -> Duration {
    let mut command = Command::new(program::ours());
    command
        .args(arguments)
        .env_remove("LD_LIBRARY_PATH")
        .stdout(Stdio::null());
    let begin = Instant::now();
    assert!(command.status().unwrap().success());
    begin.elapsed()
}

/// `twitcher status` on a terminal of 100 columns.
fn terminal(control: &str) -> Duration {
    let size = Winsize {
        ws_row: 40,
        ws_col: 100,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    let terminal = openpty(Some(&size), None).unwrap();
    let mut reader = File::from(terminal.master);
    // What is not read holds up whoever writes. An error is its end.
    let reader = std::thread::spawn(move || io::copy(&mut reader, &mut io::sink()).map(drop));
    let mut command = Command::new(program::ours());
    command.args(["status", "--control", control]);
    command.env_remove("LD_LIBRARY_PATH").stdout(terminal.slave);
    let begin = Instant::now();
    let status = command.status().unwrap();
    let taken = begin.elapsed();
    assert!(status.success());
    drop(command);
    let _ = reader.join().unwrap();
    taken
}
