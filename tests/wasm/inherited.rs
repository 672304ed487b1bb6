//! What a process has in its memory: what is its own, and nothing of other watches.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};

use nix::sys::signal::Signal;
use nix::unistd::{Pid, geteuid};
use serde_json::Value;

use super::open_out;
use crate::support::daemon::{Daemon, PROGRAM, Site, children};
use crate::support::guests::guest;
use crate::support::until;

const NOBODY: u32 = 65534;
/// What others' watches are told; a generation has its own.
const KINDS: [&str; 8] = [
    "argv",
    "env",
    "large",
    "long-argv",
    "config",
    "guest-env",
    "guest-arg",
    "function",
];
/// The watches that are told it, each of which has to have run.
const VICTIMS: [&str; 4] = ["program", "large", "component", "function"];
const ATTACKERS: [&str; 2] = ["nobody's component", "nobody's function"];

/// How each of them begins.
const SECRET: &str = "planted:secret";

fn secret(kind: &str, generation: usize) -> String {
    format!("{SECRET}-{kind}-{generation}")
}

fn victims(generation: usize) -> String {
    let [argv, env, large, long_argv, config, guest_env, guest_arg, function] =
        KINDS.map(|kind| secret(kind, generation));
    let echo = guest("echo");
    let echo = echo.display();
    format!(
        r#"
def function():
    print("{function}")

RegisterWatch("/v", Exec(["/bin/sh", "-c", "cat > /dev/null", "{argv}"]), name="program", uid="daemon", env={{"TOKEN": "{env}"}})
RegisterWatch("/v", Exec(["/bin/sh", "-c", "cat > /dev/null", "{long_argv}" * 500]), name="large", uid="daemon", env={{"TOKEN": "{large}" * 500}})
RegisterWatch("/v", Wasm("{echo}", config={{"password": "{config}"}}, env={{"TOKEN": "{guest_env}"}}, args=["{guest_arg}"]), name="component", uid="daemon")
RegisterWatch("/v", function, name="function", uid="daemon")
"#
    )
}

fn attackers() -> String {
    let sleeps = guest("sleeps");
    format!(
        r#"
def wait():
    run(["/bin/sleep", "600"])

RegisterWatch("/a", Wasm("{}", config={{"mine": "my-own-value"}}), name="nobody's component", uid="nobody", run_mode=RESTART, kill_after=0.2)
RegisterWatch("/a", wait, name="nobody's function", uid="nobody", env={{"MINE": "my-own-value"}}, run_mode=RESTART, kill_after=0.2)
"#,
        sleeps.display()
    )
}

/// Where this is in the writable memory of a process, with what follows.
fn found(pid: Pid, needle: &str) -> Option<String> {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    for line in maps.lines() {
        let (range, rest) = line.split_once(' ').unwrap();
        if !rest.starts_with("rw") {
            continue;
        }
        let (from, to) = range.split_once('-').unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        let (mut page, mut text) = ([0; 4096], Vec::new());
        for at in (number(from)..number(to)).step_by(page.len()) {
            // What was never touched has nothing to read.
            if memory.read_exact_at(&mut page, at).is_ok() && page != [0; 4096] {
                text.extend_from_slice(&page);
            }
        }
        let mut text = &text[..];
        while let Some(at) = text.iter().position(|byte| *byte == needle.as_bytes()[0]) {
            text = &text[at..];
            if text.starts_with(needle.as_bytes()) {
                let shown = String::from_utf8_lossy(&text[..text.len().min(60)]).into_owned();
                return Some(format!("{shown:?} in {line}"));
            }
            text = &text[1..];
        }
    }
    None
}

fn ended(daemon: &Daemon, watch: &str) -> usize {
    daemon.count(|line| line["message"] == "run ended" && line["watch"] == watch)
}

fn started(watch: &str) -> impl Fn(&Value) -> bool + '_ {
    move |line| line["message"] == "run started" && line["watch"] == watch
}

#[test]
fn no_process_has_what_other_watches_were_told() {
    if !geteuid().is_root() {
        return;
    }
    let site = Site::new();
    open_out(&site);
    site.config("victims.twc", &victims(0));
    site.config("attackers.twc", &attackers());
    let daemon = site.start();
    for generation in 1..=3 {
        // What is told changes, and is told many times.
        site.config("victims.twc", &victims(generation));
        daemon.signal(Signal::SIGHUP);
        let loads = generation + 1;
        daemon.wait_for(loads, "configuration loaded", |line| {
            line["message"] == "configuration loaded"
        });
        for change in 0..5 {
            let before = VICTIMS.map(|watch| ended(&daemon, watch));
            site.set("/v", &format!("{generation}.{change}"));
            for (watch, before) in VICTIMS.iter().zip(before) {
                daemon.wait_runs(watch, before + 1);
            }
        }
        let before = ATTACKERS.map(|watch| daemon.count(started(watch)));
        site.set("/a", &generation.to_string());
        for (watch, before) in ATTACKERS.into_iter().zip(before) {
            let run = daemon
                .wait_for(before + 1, "the next run", started(watch))
                .pop()
                .unwrap();
            let pid = Pid::from_raw(run["pid"].as_i64().unwrap() as i32);
            until("it has what is its own", || found(pid, "my-own-value").is_some());
            assert_eq!(found(pid, SECRET), None, "{watch}, generation {generation}");
        }
        let launcher = launcher(daemon.pid());
        assert_eq!(found(launcher, SECRET), None, "the launcher, generation {generation}");
    }
}

/// Started as nobody: of a process that cannot be followed, the kernel says so by giving what is in /proc of it to root.
#[test]
fn daemon_and_launcher_can_neither_be_followed_nor_leave_a_core_dump() {
    if !geteuid().is_root() {
        return;
    }
    let site = Site::new();
    open_out(&site);
    site.config("a.twc", r#"RegisterWatch("/a", Exec("grep core /proc/self/limits"))"#);
    site.set("/a", "1");
    let log = site.path("out/log");
    // The directory of the program under test may be out of that user's reach.
    let program = site.path("out/twitcher");
    fs::copy(PROGRAM, &program).unwrap();
    let mut daemon = Command::new(program);
    daemon.args(["run", "--config"]).arg(site.path("conf"));
    daemon.arg("--tree").arg(site.path("tree"));
    daemon.arg("--state-dir").arg(site.path("out/state"));
    daemon.arg("--control").arg(site.path("out/control"));
    let daemon = daemon
        .uid(NOBODY)
        .gid(NOBODY)
        .stderr(File::create(&log).unwrap())
        .spawn();
    let daemon = Killed(daemon.unwrap());
    until("the action has run", || {
        site.read("out/log").contains("Max core file size")
    });
    let pid = Pid::from_raw(daemon.0.id() as i32);
    for process in [pid, launcher(pid)] {
        let of = |name: &str| fs::metadata(format!("/proc/{process}/{name}")).unwrap().uid();
        let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
        assert!(status.contains("\nUid:\t65534\t65534\t"), "{status}");
        assert_eq!((of("mem"), of("environ")), (0, 0), "{process}");
    }
    let core = |limits: &str| {
        let line = limits.lines().find(|line| line.contains("Max core file size")).unwrap();
        let values = line.split("Max core file size").nth(1).unwrap();
        let mut values = values.split_whitespace().map(str::to_owned);
        (values.next().unwrap(), values.next().unwrap())
    };
    let of = |pid: &str| core(&fs::read_to_string(format!("/proc/{pid}/limits")).unwrap());
    assert_eq!(of(&pid.to_string()).0, "0");
    // Actions have what the daemon was started with.
    assert_eq!(core(&site.read("out/log")), of("self"));
}

/// A child that does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The launcher of a daemon.
fn launcher(daemon: Pid) -> Pid {
    let name = |pid: &Pid| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    let mut found = None;
    until("there is a launcher", || {
        found = children(daemon)
            .into_iter()
            .find(|pid| name(pid) == "twitcher-launch\n");
        found.is_some()
    });
    found.unwrap()
}
