//! The launcher beside `std::process::Command`.

use std::hint::black_box;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::sync::mpsc::UnboundedReceiver;
use twitcher_launch::{Invocation, Launcher, Launches, Purpose, RunEvent, RunReport, SecretValues, protocol::Task};
use twitcher_model::{Identity, ProcessSettings, RunId};

use crate::program;
use crate::table::Table;
use crate::{median, ms, ratio};

const ROUNDS: usize = 500;
const WARM_UP: usize = 50;

pub async fn measure(table: &mut Table) {
    let mut spawner = Spawner::new();
    let (through, by_command) = in_turns(&mut spawner).await;
    let (small, command) = (median(through.clone()), median(by_command.clone()));
    table.beside("`std::process::Command` of /bin/true, small process", by_command, "1");
    table.beside(
        "`Exec([\"/bin/true\"])` through the launcher",
        through,
        ratio(small, command),
    );
    let ballast = vec![1u8; 500 << 20];
    let (large, command_large) = in_turns(&mut spawner).await;
    let (large, command_large) = (median(large), median(command_large));
    black_box(&ballast);
    table.row(
        "the same, daemon holding 500 MB",
        ms(large),
        format!("{} of small", ratio(large, small)),
    );
    table.row(
        "`Command`, process holding 500 MB",
        ms(command_large),
        format!("{} of small", ratio(command_large, command)),
    );
}

/// A launcher as the daemon has it.
pub struct Spawner {
    launches: Launches,
    events: UnboundedReceiver<RunEvent>,
    process: Arc<ProcessSettings>,
    pub launcher: u32,
    next: u64,
}

impl Spawner {
    pub fn new() -> Self {
        let launcher = Launcher::spawn(program::ours(), &["launcher"]).unwrap();
        let pid = launcher.pid();
        let (launches, events) = Launches::start(launcher, 100, None).unwrap();
        let process = ProcessSettings {
            identity: Identity {
                user: "root".into(),
                home: "/".into(),
                shell: "/bin/sh".into(),
                ..Identity::default()
            },
            ..ProcessSettings::default()
        };
        Self {
            launches,
            events,
            process: Arc::new(process),
            launcher: pid,
            next: 0,
        }
    }

    /// From the request until the process has been waited for and its output read.
    async fn run_true(&mut self) -> Duration {
        let begin = Instant::now();
        self.start(&["/bin/true".to_owned()], b"data");
        self.ended().await;
        begin.elapsed()
    }

    pub fn start(&mut self, program: &[String], stdin: &[u8]) {
        let process = Arc::clone(&self.process);
        self.launch(Task::Exec(program.to_vec()), process, stdin);
    }

    pub fn launch(&mut self, task: Task, process: Arc<ProcessSettings>, stdin: &[u8]) {
        self.next += 1;
        self.launches.launch(Invocation {
            run: RunId(self.next),
            watch: "bench".into(),
            task,
            env: vec![("PATH".into(), "/bin".into())],
            process,
            stdin: Bytes::copy_from_slice(stdin),
            purpose: Purpose::default(),
            secrets: SecretValues::default(),
            capture: false,
            aside: false,
        });
    }

    pub async fn ended(&mut self) -> RunReport {
        loop {
            if let Some(RunEvent::Ended { report, .. }) = self.events.recv().await {
                return report;
            }
        }
    }
}

pub fn command_true() -> Duration {
    // As actions have it: with cargo's library path the loader would search, and take half as long again.
    let mut command = Command::new("/bin/true");
    command.env_clear();
    let begin = Instant::now();
    assert!(command.status().unwrap().success());
    begin.elapsed()
}

async fn in_turns(spawner: &mut Spawner) -> (Vec<Duration>, Vec<Duration>) {
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS + WARM_UP {
        let pair = (spawner.run_true().await, command_true());
        if round >= WARM_UP {
            ours.push(pair.0);
            theirs.push(pair.1);
        }
    }
    (ours, theirs)
}
