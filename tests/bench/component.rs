//! A component in the sandbox beside `std::process::Command`, and what the launcher pays for having it loaded.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nix::sys::wait::waitpid;
use nix::unistd::{ForkResult, fork};
use tokio::sync::mpsc::UnboundedReceiver;
use twitcher::launch::wire::{Task, WasmTask};
use twitcher::launch::{Invocation, Launcher, Launches, Report, RunEvent};
use twitcher::model::{
    ChangeFacts, Component, Event, Grants, Identity, ProcessSettings, RunId, Stat, WasmAction, WatchType, ZnodePath,
};
use twitcher::sandbox::Reach;
use twitcher::sandbox::components::Components;

use crate::launching::command_true;
use crate::{Table, median, ms, ratio};

const ROUNDS: usize = 500;
const WARM_UP: usize = 50;
const LOADED: usize = 20;
const MANY: usize = 10_000;
/// The user and group that own nothing.
const NOBODY: u32 = 65534;

pub async fn measure(table: &mut Table) {
    let Some(file) = std::env::var_os("TWITCHER_BENCH_COMPONENT").map(PathBuf::from) else {
        table.row("component: not measured, TWITCHER_BENCH_COMPONENT is not set", "", "");
        return;
    };
    let dir = tempfile::tempdir().unwrap();
    let components = Components::new(env!("CARGO_BIN_EXE_twitcher").into(), dir.path().join("cache"));
    let size = fs::metadata(&file).unwrap().len() / 1024;
    let begin = Instant::now();
    let component = resolve(&components, &file);
    table.row(
        format!("component of {size} KiB compiled, in a helper"),
        ms(begin.elapsed()),
        "",
    );
    let begin = Instant::now();
    resolve(&components, &file);
    table.row("the same from the cache", ms(begin.elapsed()), "");

    let floor = median((0..ROUNDS).map(|_| fork_exit()).collect());
    let mut spawner = Spawner::new();
    let (mut ours, mut theirs, mut faults) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS + WARM_UP {
        let (time, report) = spawner.run(&component).await;
        let command = command_true();
        if round >= WARM_UP {
            ours.push(time);
            theirs.push(command);
            faults.push(report.minor_faults);
        }
    }
    faults.sort_unstable();
    let (ours, theirs) = (median(ours), median(theirs));
    table.row(
        "fork + _exit + wait, the floor",
        ms(floor),
        format!("{} of `Command`", ratio(floor, theirs)),
    );
    table.row(
        format!(
            "component `hello` in the sandbox, {} page faults",
            faults[faults.len() / 2]
        ),
        ms(ours),
        format!(
            "{} of `Command`, {} of the floor",
            ratio(ours, theirs),
            ratio(ours, floor)
        ),
    );

    for number in 0..LOADED {
        let copy = dir.path().join(format!("{number}.wasm"));
        fs::write(&copy, [fs::read(&file).unwrap(), custom_section(number as u8)].concat()).unwrap();
        spawner.run(&resolve(&components, &copy)).await;
    }
    let loaded = spawner.launcher_kib();
    table.row(
        format!("launcher with {LOADED} components, resident"),
        format!("{:.1} MiB", loaded as f64 / 1024.0),
        "",
    );
    for _ in 0..MANY {
        spawner.run(&component).await;
    }
    let grown = spawner.launcher_kib() as i64 - loaded as i64;
    table.row(
        format!("growth of the launcher over {MANY} runs"),
        format!("{grown} KiB"),
        "",
    );
}

fn resolve(components: &Components, file: &Path) -> Component {
    let grants = Grants::default();
    components
        .resolve(file, &grants)
        .unwrap_or_else(|errors| panic!("{}", errors[0]))
}

/// A custom section, which makes another component of one without changing what it does.
fn custom_section(tag: u8) -> Vec<u8> {
    vec![0, 3, 1, b'n', tag]
}

#[allow(unsafe_code)]
fn fork_exit() -> Duration {
    let begin = Instant::now();
    // SAFETY: the child makes one system call, which ends it.
    match unsafe { fork() }.unwrap() {
        // SAFETY: _exit takes any code and does not return.
        ForkResult::Child => unsafe { libc::_exit(0) },
        ForkResult::Parent { child } => waitpid(child, None).unwrap(),
    };
    begin.elapsed()
}

struct Spawner {
    launches: Launches,
    events: UnboundedReceiver<RunEvent>,
    launcher: u32,
    process: Arc<ProcessSettings>,
    next: u64,
}

impl Spawner {
    fn new() -> Self {
        let launcher = Launcher::spawn(Path::new(env!("CARGO_BIN_EXE_twitcher")), &["launcher"]).unwrap();
        let pid = launcher.pid();
        let (launches, events) = Launches::start(launcher, 100).unwrap();
        let process = ProcessSettings {
            identity: Identity {
                uid: Some(NOBODY),
                gid: Some(NOBODY),
                groups: Some(vec![]),
                ..Identity::default()
            },
            cwd: Path::new("/").into(),
            umask: 0o022,
            env: vec![],
            inherit_env: false,
            limits: vec![],
            pipe_stdin: true,
            timeout: Some(Duration::from_secs(60)),
            kill_after: Duration::from_secs(5),
        };
        Self {
            launches,
            events,
            launcher: pid,
            process: Arc::new(process),
            next: 0,
        }
    }

    /// From the request until the process has been waited for and all that it said was read.
    async fn run(&mut self, component: &Component) -> (Duration, Report) {
        self.next += 1;
        let run = RunId(self.next);
        let action = WasmAction {
            component: component.clone(),
            grants: Grants {
                memory: 64 << 20,
                ..Grants::default()
            },
        };
        let change = ChangeFacts {
            run,
            watch: "bench".into(),
            path: ZnodePath::root(),
            watch_type: WatchType::Data,
            event: Event::Data,
            stat: Some(Stat::default()),
            attempt: 1,
            timeout: None,
        };
        let task = Task::Wasm(Box::new(WasmTask {
            reach: Reach::of(&action.grants),
            action: Arc::new(action),
            change,
        }));
        let begin = Instant::now();
        self.launches.launch(Invocation {
            run,
            watch: "bench".into(),
            task,
            env: vec![],
            process: Arc::clone(&self.process),
            stdin: Bytes::from_static(b"data"),
            capture: false,
        });
        loop {
            if let Some(RunEvent::Ended { report, .. }) = self.events.recv().await {
                assert!(report.outcome.is_success(), "{}", report.outcome);
                return (begin.elapsed(), report);
            }
        }
    }

    fn launcher_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.launcher)).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }
}
