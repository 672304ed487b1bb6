//! A component in the sandbox beside `std::process::Command`, and what the launcher pays for having it loaded.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use twitcher_launch::RunReport;
use twitcher_launch::protocol::{Task, WasmTask};
use twitcher_model::{
    ChangeFacts, Component, Grants, Identity, Payload, ProcessSettings, RunId, Stat, Trigger, WasmAction, WatchType,
    ZnodePath,
};
use twitcher_sandbox::Reach;
use twitcher_sandbox::code_cache::CodeCache;

use crate::launching::{Spawner, command_true};
use crate::machine::fork_exit;
use crate::program;
use crate::table::Table;
use crate::{before, median, ms, ratio};

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
    let components = CodeCache::new(program::ours().into(), dir.path().join("cache"));
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

    before::measure(table, &file);
    let floor = median((0..ROUNDS).map(|_| fork_exit()).collect());
    let (mut spawner, process) = (Spawner::new(), process());
    let (mut ours, mut theirs, mut faults) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS + WARM_UP {
        let (time, report) = run(&mut spawner, &process, &component).await;
        let command = command_true();
        if round >= WARM_UP {
            ours.push(time);
            theirs.push(command);
            faults.push(report.minor_faults);
        }
    }
    faults.sort_unstable();
    let (samples, ours, theirs) = (ours.clone(), median(ours), median(theirs));
    table.row(
        "fork + _exit + wait, the floor",
        ms(floor),
        format!("{} of `Command`", ratio(floor, theirs)),
    );
    table.beside(
        format!(
            "component `hello` in the sandbox, {} page faults",
            faults[faults.len() / 2]
        ),
        samples,
        format!(
            "{} of `Command`, {} of the floor",
            ratio(ours, theirs),
            ratio(ours, floor)
        ),
    );

    for number in 0..LOADED {
        let copy = dir.path().join(format!("{number}.wasm"));
        fs::write(&copy, [fs::read(&file).unwrap(), custom_section(number as u8)].concat()).unwrap();
        run(&mut spawner, &process, &resolve(&components, &copy)).await;
    }
    let loaded = launcher_kib(&spawner);
    table.row(
        format!("launcher with {LOADED} components, resident"),
        format!("{:.1} MiB", loaded as f64 / 1024.0),
        "",
    );
    for _ in 0..MANY {
        run(&mut spawner, &process, &component).await;
    }
    let grown = launcher_kib(&spawner) as i64 - loaded as i64;
    table.row(
        format!("growth of the launcher over {MANY} runs"),
        format!("{grown} KiB"),
        "",
    );
}

fn resolve(components: &CodeCache, file: &Path) -> Component {
    let grants = Grants::default();
    components
        .resolve(file, &grants)
        .unwrap_or_else(|errors| panic!("{}", errors[0]))
}

/// A custom section, which makes another component of one without changing what it does.
fn custom_section(tag: u8) -> Vec<u8> {
    vec![0, 3, 1, b'n', tag]
}

/// As what components run here.
fn process() -> Arc<ProcessSettings> {
    Arc::new(ProcessSettings {
        identity: Identity {
            uid: Some(NOBODY),
            gid: Some(NOBODY),
            groups: Some(vec![]),
            ..Identity::default()
        },
        timeout: Some(Duration::from_secs(60)),
        ..ProcessSettings::default()
    })
}

/// From the request until the process has been waited for and all that it said was read.
async fn run(spawner: &mut Spawner, process: &Arc<ProcessSettings>, component: &Component) -> (Duration, RunReport) {
    let action = WasmAction {
        component: component.clone(),
        grants: Grants {
            memory: 64 << 20,
            ..Grants::default()
        },
    };
    let change = ChangeFacts {
        run: RunId(0),
        watch: "bench".into(),
        path: ZnodePath::root(),
        watch_type: WatchType::Data,
        payload: Payload::Data,
        event: Trigger::Data,
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
    spawner.launch(task, Arc::clone(process), b"data");
    let report = spawner.ended().await;
    assert!(report.outcome.is_success(), "{}", report.outcome);
    (begin.elapsed(), report)
}

fn launcher_kib(spawner: &Spawner) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", spawner.launcher)).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
