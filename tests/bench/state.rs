//! What keeping state costs: on the way from a change to the end of its action, in a history of a million runs, and at a start.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use twitcher_launch::Journal;
use twitcher_model::{
    Action, Origin, Payload, Policy, Position, ProcessSettings, RunId, Stamp, Stat, Trigger, Version, Watch, WatchType,
    ZnodePath,
};
use twitcher_state::{EndedRun, Handled, History, HistoryLimits, StartedRun, StateStore};
use zookeeper_client::{Acls, Client, CreateMode};

use crate::peer::Peer;
use crate::program;
use crate::reacting::Actions;
use crate::support::zookeeper::ZooKeeperServer;
use crate::table::Table;
use crate::{median, ms, ratio};

const ROUNDS: usize = 600;
const WARM_UP: usize = 50;
const HISTORY: u64 = 1_000_000;
const WATCHES: usize = 10_000;
const RUNNING: usize = 100;

pub async fn measure(table: &mut Table) {
    latency(table).await;
    history(table);
    recovery(table);
}

/// Two daemons in turns. One of them cannot use its state directory.
async fn latency(table: &mut Table) {
    let server = ZooKeeperServer::start();
    let servers = server.address();
    let writer = Client::connect(&servers).await.unwrap();
    let dir = tempfile::tempdir().unwrap();
    let refused = dir.path().join("refused");
    fs::write(&refused, "not a directory").unwrap();
    let kept = dir.path().join("kept");
    let mut daemons = Vec::new();
    for (name, state) in [("with", &kept), ("without", &refused)] {
        let path = format!("/{name}");
        let options = CreateMode::Persistent.with_acls(Acls::anyone_all());
        writer.create(&path, b"start", &options).await.unwrap();
        let mut actions = Actions::new(dir.path().join(format!("by-{name}")));
        let conf = dir.path().join(format!("conf-{name}"));
        fs::create_dir(&conf).unwrap();
        fs::write(
            conf.join("a.twc"),
            format!("RegisterWatch({path:?}, Exec({:?}))\n", actions.program),
        )
        .unwrap();
        let log = dir.path().join(format!("log-{name}"));
        let daemon = Peer::quiet_twitcher_in(&servers, &conf, &log, state);
        actions.end_of(b"start").await;
        daemons.push((path, actions, Vec::new(), daemon));
    }
    for round in 0..ROUNDS + WARM_UP {
        // Whoever comes first finds the processor as the other has left it.
        daemons.reverse();
        for (path, actions, times, _) in &mut daemons {
            let data = round.to_string().into_bytes();
            let begin = Instant::now();
            writer.set_data(path, &data, None).await.unwrap();
            times.push(actions.end_of(&data).await - begin);
        }
    }
    daemons.sort_by(|a, b| a.0.cmp(&b.0));
    let runs = History::in_dir(&kept).newest(10_000).unwrap().len();
    assert!(runs > ROUNDS / 2, "only {runs} runs were kept");
    let [kept, lost] = [&daemons[0], &daemons[1]].map(|(_, _, times, _)| median(times[WARM_UP..].to_vec()));
    table.row("`set_data` → the action has exited, without state", ms(lost), "1");
    table.row("the same with state", ms(kept), ratio(kept, lost));
}

fn daemon(tree: &Path, conf: &Path, state: &Path) -> Command {
    let mut command = Command::new(program::ours());
    command.args(["run", "--tree"]).arg(tree).arg("--config").arg(conf);
    command.arg("--state-dir").arg(state).stderr(Stdio::null());
    command
}

/// What `status` and `history` ask for, while a million runs are kept.
fn history(table: &mut Table) {
    let dir = tempfile::tempdir().unwrap();
    let limits = HistoryLimits {
        runs: 2 * HISTORY,
        runs_per_watch: 2 * HISTORY,
        bytes: u64::MAX,
    };
    let (state, _) = StateStore::open(dir.path(), limits, Vec::new());
    let begin = Instant::now();
    let mut kept = 0;
    for run in 1..=HISTORY {
        state.ended(ended(run));
        // It drops what it cannot write in time.
        if run % 4000 == 0 || run == HISTORY {
            while kept < run {
                std::thread::sleep(Duration::from_millis(5));
                kept = state
                    .history()
                    .newest(1)
                    .ok()
                    .and_then(|runs| Some(runs.first()?.run.0))
                    .unwrap_or(0);
            }
        }
    }
    table.row(format!("writing a history of {HISTORY} runs"), ms(begin.elapsed()), "");
    let history = state.history();
    let asked = |question: &dyn Fn()| {
        let times = (0..50).map(|_| {
            let begin = Instant::now();
            question();
            begin.elapsed()
        });
        ms(median(times.collect()))
    };
    table.row(
        "the newest 50 of them",
        asked(&|| assert_eq!(history.newest(50).unwrap().len(), 50)),
        "",
    );
    let of_watch = || assert_eq!(history.of_watch("watch-77", 50).unwrap().len(), 50);
    table.row("the newest 50 of one watch", asked(&of_watch), "");
    let one = || drop(history.run(RunId(HISTORY / 2)).unwrap().unwrap());
    table.row("one run by its id", asked(&one), "");
    state.close();
    let begin = Instant::now();
    let (state, _) = StateStore::open(dir.path(), limits, Vec::new());
    table.row("opening it again", ms(begin.elapsed()), "");
    state.close();
}

fn ended(run: u64) -> EndedRun {
    EndedRun {
        run: RunId(run),
        watch: format!("watch-{}", run % 1000).into(),
        event: Some(Trigger::Data.into()),
        attempt: 1,
        outcome: Some(twitcher_model::Outcome::Exited(0)),
        started: SystemTime::now(),
        ended: SystemTime::now(),
        elapsed: Duration::from_millis(3),
        max_rss_kib: 3000,
        output_bytes: 30,
        log_ended: false,
        output_tail: b"already up to date, nothing to do\n".to_vec(),
    }
}

/// A daemon is killed that had handled ten thousand watches and runs a hundred actions; the next one starts.
fn recovery(table: &mut Table) {
    let dir = tempfile::tempdir().unwrap();
    let (tree, conf, state_dir) = (
        dir.path().join("tree"),
        dir.path().join("conf"),
        dir.path().join("state"),
    );
    for dir in [&tree, &conf] {
        fs::create_dir(dir).unwrap();
    }
    let text = format!(
        "for i in range({WATCHES}):\n    \
         command = ['/bin/sleep', '1000'] if i < {RUNNING} else ['/bin/true']\n    \
         RegisterWatch('/node-%d' % i, Exec(command), name = 'watch-%d' % i, run_on_load = IF_CHANGED)\n"
    );
    fs::write(conf.join("a.twc"), text).unwrap();
    let (state, _) = StateStore::open(&state_dir, HistoryLimits::default(), Vec::new());
    for number in 0..WATCHES {
        state.handled(&watch(number), handled());
    }
    state.close();
    for number in 0..RUNNING {
        fs::write(tree.join(format!("node-{number}")), "x").unwrap();
    }
    let mut first = daemon(&tree, &conf, &state_dir);
    let mut first = first.args(["--log_to_stdout"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(first.stdout.take().unwrap()));
    let started = lines.map_while(Result::ok).filter(|line| line.contains("run started"));
    assert_eq!(started.take(RUNNING).count(), RUNNING);
    first.kill().unwrap();
    first.wait().unwrap();
    // The first time, it waits for the launcher to be gone.
    let (journal, found) = Journal::claim(&state_dir).unwrap();
    let actions: Vec<Pid> = found.iter().map(|found| Pid::from_raw(found.process.pid())).collect();
    // Both hold the file, and so its lock.
    drop((journal, found));
    assert_eq!(actions.len(), RUNNING);
    let opened = {
        let begin = Instant::now();
        let (journal, found) = Journal::claim(&state_dir).unwrap();
        let alive = found.iter().map(|found| StartedRun {
            run: found.run,
            watch: found.watch.as_str().into(),
            started: SystemTime::now(),
            attempt: 1,
            event: None,
        });
        let (state, _) = StateStore::open(&state_dir, HistoryLimits::default(), alive.collect());
        let opened = begin.elapsed();
        state.close();
        drop((journal, found));
        opened
    };
    let begin = Instant::now();
    let mut daemon = daemon(&tree, &conf, &state_dir);
    let mut daemon = daemon.args(["--log_to_stdout"]).stdout(Stdio::piped()).spawn().unwrap();
    let lines = std::io::BufRead::lines(std::io::BufReader::new(daemon.stdout.take().unwrap()));
    let mut found = 0;
    for line in lines.map_while(Result::ok) {
        found += usize::from(line.contains("a run of the last daemon still runs"));
        if line.contains("all watches are armed") {
            break;
        }
    }
    let armed = begin.elapsed();
    assert_eq!(found, RUNNING);
    daemon.kill().unwrap();
    daemon.wait().unwrap();
    for action in actions {
        let _ = killpg(action, Signal::SIGKILL);
    }
    let what = format!("{WATCHES} positions and {RUNNING} running actions");
    table.row(format!("{what}: read at a start"), ms(opened), "");
    table.row(
        format!("{what}: from the start of the daemon until all watches are armed"),
        ms(armed),
        "",
    );
}

fn watch(number: usize) -> Watch {
    let name: Arc<str> = format!("watch-{number}").into();
    Watch {
        description: Arc::clone(&name),
        name,
        znode: ZnodePath::new(format!("/node-{number}")).unwrap(),
        more: Arc::default(),
        watch_type: WatchType::Data,
        payload: Payload::Data,
        action: Action::Shell("true".into()),
        policy: Arc::new(Policy::default()),
        process: Arc::new(ProcessSettings::default()),
        publish: true,
        rollout: None,
        origin: Origin {
            file: Path::new("a.twc").into(),
            line: 1,
            column: 1,
        },
    }
}

fn handled() -> Handled {
    Handled {
        position: Position {
            version: Version::Data {
                czxid: 1,
                mzxid: 2,
                stamp: Stamp::default(),
            },
            digest: 3,
        },
        stat: Some(Stat::default()),
        size: Some(1),
        run: RunId(1),
        at: SystemTime::now(),
    }
}
