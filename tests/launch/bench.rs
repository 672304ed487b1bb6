//! A launcher to try things on.

use std::collections::HashSet;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use nix::unistd::Pid;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout};
use twitcher_launch::{
    Invocation, Journal, Launcher, Launches, Purpose, RunEvent, RunReport, SecretValues, protocol::Task,
};
use twitcher_model::{Identity, Outcome, ProcessSettings, RunId};
use twitcher_process::cgroup::CgroupTree;

/// Longer than anything here takes unless it hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Runs a test on a runtime of its own while no other does: each reaps every child of this process that it does not know.
pub fn alone(test: impl Future<Output = ()>) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(test);
}

pub struct Bench {
    pub launches: Launches,
    pub events: UnboundedReceiver<RunEvent>,
    pub launcher: u32,
    next: u64,
}

impl Bench {
    pub fn new() -> Self {
        Self::with(None, None)
    }

    pub fn with(journal: Option<Journal>, cgroups: Option<CgroupTree>) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_twitcher"));
        let launcher = Launcher::spawn_with(program, &["launcher"], journal, cgroups).unwrap();
        let pid = launcher.pid();
        let (launches, events) = Launches::start(launcher, 100, None).unwrap();
        Self {
            launches,
            events,
            launcher: pid,
            next: 1,
        }
    }

    pub fn launch(&mut self, task: Task, settings: ProcessSettings, stdin: &'static [u8]) -> RunId {
        let run = RunId(std::process::id() as u64 * 1_000_000 + self.next);
        self.next += 1;
        let env = vec![
            ("PATH".into(), "/usr/bin:/bin".into()),
            ("HOME".into(), settings.identity.home.clone()),
        ];
        let process = Arc::new(settings);
        let stdin = Bytes::from_static(stdin);
        self.launches.launch(Invocation {
            run,
            watch: "test".into(),
            task,
            env,
            process,
            stdin,
            purpose: Purpose::default(),
            secrets: SecretValues::default(),
            capture: false,
            aside: false,
        });
        run
    }

    pub fn sh(&mut self, script: &str) -> RunId {
        self.launch(sh(script), settings(), b"")
    }

    pub async fn started(&mut self, run: RunId) -> Pid {
        loop {
            match timeout(PATIENCE, self.events.recv()).await.unwrap().unwrap() {
                RunEvent::Started { run: r, pid } if r == run => return Pid::from_raw(pid),
                RunEvent::Ended { run: r, report } if r == run => panic!("ended before it was seen: {report:?}"),
                _ => {}
            }
        }
    }

    pub async fn ended(&mut self, run: RunId) -> RunReport {
        loop {
            match timeout(PATIENCE, self.events.recv())
                .await
                .expect("the run hangs")
                .unwrap()
            {
                RunEvent::Ended { run: r, report } if r == run => return report,
                _ => {}
            }
        }
    }

    /// Waits until all these have ended, in whatever order, each once. Returns how many launchers were replaced meanwhile.
    pub async fn all_end(&mut self, mut open: HashSet<RunId>, outcome: Outcome) -> usize {
        let mut replaced = 0;
        while !open.is_empty() {
            match timeout(PATIENCE, self.events.recv()).await.expect("runs hang").unwrap() {
                RunEvent::LauncherReplaced { .. } => replaced += 1,
                RunEvent::Ended { run, report } => {
                    assert_eq!(report.outcome, outcome);
                    assert!(open.remove(&run), "{run} ended twice");
                }
                RunEvent::Started { .. }
                | RunEvent::Asked { .. }
                | RunEvent::Told { .. }
                | RunEvent::Overdue { .. } => {}
            }
        }
        replaced
    }

    /// Runs a script to its end.
    pub async fn run(&mut self, task: Task, settings: ProcessSettings, stdin: &'static [u8]) -> (Outcome, String) {
        let run = self.launch(task, settings, stdin);
        let report = self.ended(run).await;
        (
            report.outcome,
            String::from_utf8_lossy(&report.output_tail).into_owned(),
        )
    }
}

pub fn sh(script: &str) -> Task {
    Task::Exec(vec!["/bin/sh".into(), "-c".into(), script.into()])
}

pub fn argv(words: &[&str]) -> Task {
    Task::Exec(words.iter().map(|word| (*word).to_owned()).collect())
}

pub fn settings() -> ProcessSettings {
    ProcessSettings {
        identity: Identity {
            user: "root".into(),
            home: "/root".into(),
            shell: "/bin/sh".into(),
            ..Identity::default()
        },
        ..ProcessSettings::default()
    }
}

/// Polls a condition that no event announces.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !matches!(
        stat.rsplit_once(") ").map(|(_, rest)| rest.as_bytes()[0]),
        None | Some(b'Z' | b'X')
    )
}

pub fn pids_in(path: &Path) -> Vec<Pid> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace()
        .filter_map(|word| word.parse().ok().map(Pid::from_raw))
        .collect()
}
