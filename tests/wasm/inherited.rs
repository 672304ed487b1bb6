//! What a process has in its memory: what is its own, and nothing of other watches.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
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
const KINDS: [&str; 10] = [
    "argv",
    "env",
    "large",
    "long-argv",
    "config",
    "guest-env",
    "guest-arg",
    "function",
    "secret-env",
    "secret-config",
];
/// The watches that are told it, each of which has to have run.
const VICTIMS: [&str; 4] = ["program", "large", "component", "function"];
const ATTACKERS: [&str; 2] = ["nobody's component", "nobody's function"];

/// How each of them begins.
const SECRET: &str = "planted:secret";

fn secret(kind: &str, generation: usize) -> String {
    format!("{SECRET}-{kind}-{generation}")
}

fn victims(site: &Site, generation: usize) -> String {
    let [
        argv,
        env,
        large,
        long_argv,
        config,
        guest_env,
        guest_arg,
        function,
        secret_env,
        secret_config,
    ] = KINDS.map(|kind| secret(kind, generation));
    site.write("secret-env", &secret_env);
    site.write("secret-config", &secret_config);
    let [secret_env, secret_config] = ["secret-env", "secret-config"].map(|name| site.path(name).display().to_string());
    let echo = guest("echo");
    let echo = echo.display();
    format!(
        r#"
def function():
    print("{function}")

RegisterWatch("/v", Exec(["/bin/sh", "-c", "cat > /dev/null", "{argv}"]), name="program", uid="daemon", env={{"TOKEN": "{env}", "SECRET": Secret("{secret_env}")}})
RegisterWatch("/v", Exec(["/bin/sh", "-c", "cat > /dev/null", "{long_argv}" * 500]), name="large", uid="daemon", env={{"TOKEN": "{large}" * 500}})
RegisterWatch("/v", Wasm("{echo}", config={{"password": "{config}", "token": Secret("{secret_config}")}}, env={{"TOKEN": "{guest_env}"}}, args=["{guest_arg}"]), name="component", uid="daemon")
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
pub fn found(pid: Pid, needle: &str) -> Option<String> {
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
    site.config("victims.twc", &victims(&site, 0));
    site.config("attackers.twc", &attackers());
    let daemon = site.start();
    for generation in 1..=3 {
        // What is told changes, and is told many times.
        site.config("victims.twc", &victims(&site, generation));
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

/// Whoever starts a daemon from a shell may leave it a descriptor of what only root can open. The file that is evaluated for as long as one
/// may be, and the component that is compiled, are looked at while that is done.
#[test]
fn no_process_inherits_what_the_daemon_was_started_with_open() {
    if !geteuid().is_root() {
        return;
    }
    let site = Site::new();
    open_out(&site);
    site.write("secret", "for root");
    site.set("/n", "1");
    site.config(
        "a.twc",
        "RegisterWatch('/n', Exec('ls -l /proc/self/fd > OUT/exec'), name='exec')",
    );
    let sleeps = guest("sleeps");
    let component = format!(
        "RegisterWatch('/n', Wasm('{}'), name='component', uid='nobody')",
        sleeps.display()
    );
    site.config("b.twc", &component);
    site.config(
        "c.twc",
        "def long():\n    for i in range(1000000000):\n        pass\n\nlong()\n",
    );
    let (secret, opens) = (site.path("secret"), site.path("opens"));
    let shown = secret.display();
    fs::write(
        &opens,
        format!("#!/bin/sh\nexec 7<{shown} 9>>{shown}\nexec {PROGRAM} \"$@\"\n"),
    )
    .unwrap();
    fs::set_permissions(&opens, Permissions::from_mode(0o755)).unwrap();
    let daemon = site.spawn(&opens);
    let leaks = |pid: Pid| {
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        open.filter_map(|fd| fs::read_link(fd.path()).ok())
            .any(|at| at == secret)
    };
    // Until it is the program under test, it is the shell.
    let program = fs::canonicalize(PROGRAM).unwrap();
    until("the daemon has begun", || {
        fs::read_link(format!("/proc/{}/exe", daemon.pid())).is_ok_and(|exe| exe == program)
    });
    assert!(leaks(daemon.pid()), "the daemon itself has it");
    let is_done = |line: &Value| line["message"] == "run started" && line["watch"] == "component";
    let mut seen = BTreeSet::new();
    until("everything has begun", || {
        for pid in descendants(daemon.pid()) {
            let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            // Between fork and exec it is still the daemon.
            let is_daemon = command.contains(" run ");
            assert!(is_daemon || !leaks(pid), "{command}");
            seen.extend(command.split_whitespace().nth(1).map(str::to_owned));
        }
        daemon.count(is_done) > 0
            && ["evaluate", "compile", "launcher"]
                .iter()
                .all(|name| seen.contains(*name))
    });
    daemon.wait_runs("exec", 1);
    assert!(!site.read("out/exec").contains("secret"), "{}", site.read("out/exec"));
}

fn descendants(of: Pid) -> Vec<Pid> {
    let children = children(of);
    let below = children
        .iter()
        .flat_map(|child| descendants(*child))
        .collect::<Vec<_>>();
    [children, below].concat()
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
