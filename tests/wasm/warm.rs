//! Processes that wait for the next run of a component: they are handed it whole, are never stale, and are nobody's trouble.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{message, open_out, outcome, watch};
use crate::support::daemon::{Daemon, Site, alive, children};
use crate::support::guests::{guest, text_guest};
use crate::support::http::operate;
use crate::support::until;

const OUT: &str = "dirs={'/out': 'OUT:rw'}";

/// A site with a component watching `/x`, which exists.
fn site(name: &str, grants: &str, fields: &str) -> Site {
    let site = Site::new();
    open_out(&site);
    watch(&site, &guest(name), grants, fields);
    site.set("/x", "first");
    site
}

/// A daemon that says what it does.
fn start(site: &Site) -> Daemon {
    let (tree, control) = (site.path("tree"), site.path("control"));
    let arguments = [
        "--debug",
        "--tree",
        &tree.to_string_lossy(),
        "--control",
        &control.to_string_lossy(),
    ];
    let daemon = site.start_with(&arguments);
    // What is set before would be found, not changed.
    daemon.wait("all are armed", |line| message(line) == "all watches are armed");
    daemon
}

/// The process that was the `nth` to wait for a run of `w`.
fn waiting(daemon: &Daemon, nth: usize) -> Pid {
    let lines = daemon.wait_for(nth, "a process waits", |line| {
        message(line) == "a process of the component waits for its next run" && line["watch"] == "w"
    });
    pid_in(&lines[nth - 1])
}

fn pid_in(line: &Value) -> Pid {
    let pid = &line["pid"];
    let number = pid.as_i64().or_else(|| pid.as_str()?.parse().ok());
    Pid::from_raw(number.unwrap_or_else(|| panic!("{line}")) as i32)
}

/// The process of the `nth` run.
fn process(daemon: &Daemon, nth: usize) -> Pid {
    let lines = daemon.wait_for(nth, "a run", |line| {
        message(line) == "run started" && line["watch"] == "w"
    });
    pid_in(&lines[nth - 1])
}

fn gone(pid: Pid) {
    until("the process that waited has ended", || !alive(pid));
}

fn warm(site: &Site) -> Value {
    operate(&site.path("control"), "GET", "/v1/status").json()["warm"].clone()
}

fn fact(site: &Site, wanted: &str) {
    let facts = site.read("out/echo");
    assert!(facts.lines().any(|line| line == wanted), "no {wanted:?} in\n{facts}");
}

#[test]
fn the_process_that_waited_is_the_one_that_runs() {
    let grants = format!("config={{'a': '1'}}, args=['x'], env={{'K': 'V'}}, {OUT}");
    let site = site("echo", &grants, "uid='nobody', timeout=60");
    let daemon = start(&site);
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
    for round in 1..=3 {
        let waits = waiting(&daemon, round);
        until("it is told of", || warm(&site)["waiting"] == 1);
        site.set("/x", &format!("round {round}"));
        let run = daemon.wait_runs("w", round + 1).pop().unwrap();
        assert_eq!((outcome(&run), process(&daemon, round + 1)), ("success", waits));
        fact(&site, &format!("data: round {round}"));
        fact(&site, &format!("stdin: round {round}"));
        fact(&site, "event: EventKind::Data");
        fact(&site, r#"config: [("a", "1")]"#);
        fact(&site, r#"args: ["x"]"#);
        fact(&site, r#"env: [("K", "V")]"#);
        fact(&site, &format!("run: {}", run["run_id"].as_str().unwrap()));
        gone(waits);
    }
    let told = warm(&site);
    assert_eq!((&told["ready"], &told["unready"]), (&3.into(), &0.into()), "{told}");
    waiting(&daemon, 4);
    until("what it holds is told", || {
        let told = warm(&site);
        told["held"].as_u64().unwrap() > 0 && told["held"].as_u64() < told["most"].as_u64()
    });
    let metrics = operate(&site.path("control"), "GET", "/metrics").body;
    for line in ["twitcher_warm_processes 1", "twitcher_warm_runs_total{ready=\"yes\"} 3"] {
        assert!(metrics.lines().any(|said| said == line), "no {line} in\n{metrics}");
    }
}

#[test]
fn none_waits_where_the_operator_wants_none_and_more_where_more_are_wanted() {
    let site = site("echo", &format!("{OUT}, warm=0"), "");
    let action = format!("Wasm({:?}, warm=3)", guest("exits_3").display().to_string());
    site.config(
        "v.twc",
        &format!("RegisterWatch(znode='/none', name='v', action={action})\n"),
    );
    let daemon = start(&site);
    daemon.wait_runs("w", 1);
    until("three wait, for a component that never ran", || {
        warm(&site)["waiting"] == 3
    });
    site.set("/x", "second");
    daemon.wait_runs("w", 2);
    assert_eq!(
        daemon.count(|line| line["watch"] == "w" && message(line).contains("waits for its next run")),
        0
    );
    assert_eq!(warm(&site)["unready"], 0);
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn a_load_of_the_configuration_ends_it_and_the_next_is_of_the_new_one() {
    let site = site("echo", &format!("config={{'v': '1'}}, {OUT}"), "");
    let daemon = start(&site);
    let first = waiting(&daemon, 1);
    watch(&site, &guest("echo"), &format!("config={{'v': '2'}}, {OUT}"), "");
    daemon.wait_for(2, "a load", |line| message(line) == "configuration loaded");
    gone(first);
    let second = waiting(&daemon, 2);
    site.set("/x", "second");
    until("the new configuration is used", || {
        site.read("out/echo").contains("data: second")
    });
    fact(&site, r#"config: [("v", "2")]"#);
    daemon.wait("it", |line| message(line) == "run started" && pid_in(line) == second);
    // Also one that changes nothing of this watch.
    let third = waiting(&daemon, 3);
    site.config("other.twc", "RegisterWatch(znode='/other', action=Exec('true'))\n");
    gone(third);
}

#[test]
fn a_directory_that_was_replaced_is_not_the_one_that_it_opened() {
    let site = site("echo", OUT, "");
    let daemon = start(&site);
    let waits = waiting(&daemon, 1);
    fs::rename(site.path("out"), site.path("old")).unwrap();
    fs::create_dir(site.path("out")).unwrap();
    open_out(&site);
    site.set("/x", "second");
    daemon.wait_runs("w", 2);
    fact(&site, "data: second");
    assert!(
        site.read("old/echo").contains("data: first"),
        "{}",
        site.read("old/echo")
    );
    assert_ne!(process(&daemon, 2), waits);
    gone(waits);
    // The next one has opened the new one.
    let waits = waiting(&daemon, 2);
    site.set("/x", "third");
    daemon.wait_runs("w", 3);
    assert_eq!(process(&daemon, 3), waits);
    fact(&site, "data: third");
}

#[test]
fn a_secret_is_what_it_is_when_the_run_starts() {
    let site = Site::new();
    open_out(&site);
    let file = site.path("token");
    fs::write(&file, "one").unwrap();
    let secret = format!("config={{'token': Secret({:?})}}, {OUT}", file.display().to_string());
    watch(&site, &guest("echo"), &secret, "");
    site.set("/x", "first");
    let daemon = start(&site);
    daemon.wait_runs("w", 1);
    fact(&site, r#"config: [("token", "one")]"#);
    let waits = waiting(&daemon, 1);
    // Nothing of a run is in a process that has none yet.
    assert_eq!(super::found_in_memory(waits, "one-and-only-secret"), None);
    fs::write(&file, "one-and-only-secret").unwrap();
    site.set("/x", "second");
    daemon.wait_runs("w", 2);
    assert_eq!(process(&daemon, 2), waits);
    fact(&site, r#"config: [("token", "one-and-only-secret")]"#);
    assert_eq!(super::found_in_memory(waiting(&daemon, 2), "one-and-only-secret"), None);
}

#[test]
fn it_ends_with_a_daemon_that_is_killed_and_the_next_neither_waits_for_it_nor_loses_a_run() {
    let site = site("echo", OUT, "");
    let daemon = start(&site);
    let waits = waiting(&daemon, 1);
    daemon.crash();
    gone(waits);
    site.set("/x", "second");
    let daemon = start(&site);
    daemon.wait_runs("w", 1);
    fact(&site, "data: second");
    assert_eq!(
        daemon.count(|line| message(line).contains("of the last daemon")),
        0,
        "{}",
        daemon.text()
    );
    // One that has a run goes on, and the next daemon knows.
    watch(&site, &guest("sleeps"), "", "");
    daemon.wait("the new watch's run", |line| message(line) == "run started");
    drop(daemon);

    let site = self::site("obeys_cancel", "", "run_on_load=False");
    let daemon = start(&site);
    daemon.wait("it watches", |line| message(line) == "all watches are armed");
    site.set("/x", "now");
    let cold = process(&daemon, 1);
    let waits = waiting(&daemon, 1);
    kill(cold, Signal::SIGKILL).unwrap();
    daemon.wait_runs("w", 1);
    site.set("/x", "then");
    assert_eq!(process(&daemon, 2), waits);
    let run = daemon.wait_for(2, "it", |line| message(line) == "run started")[1]["run_id"].clone();
    daemon.crash();
    assert!(alive(waits), "a run outlives its daemon");
    let daemon = start(&site);
    let found = daemon.wait("the run is found", |line| {
        message(line) == "a run of the last daemon still runs; it belongs to this watch"
    });
    assert_eq!((pid_in(&found), &found["run_id"]), (waits, &run));
    kill(waits, Signal::SIGKILL).unwrap();
    daemon.wait("and waited for", |line| {
        message(line).contains("the run of the last daemon has ended")
    });
}

#[test]
fn time_counts_from_the_hand_over() {
    let site = site("naps", "", "timeout=2, kill_after=1");
    let daemon = start(&site);
    // The first run naps for an hour, and is ended.
    let first = daemon.wait_runs("w", 1).remove(0);
    assert_eq!(outcome(&first), "timed out", "{first}");
    let waits = waiting(&daemon, 1);
    // It has waited for longer than a run may take.
    let since = Instant::now();
    until("it has waited for long", || since.elapsed() > Duration::from_secs(3));
    site.set("/x", "second");
    let began = Instant::now();
    let second = daemon.wait_runs("w", 2).pop().unwrap();
    assert_eq!((outcome(&second), process(&daemon, 2)), ("timed out", waits));
    let seconds = second["seconds"].as_f64().unwrap();
    assert!(seconds >= 2.0 && began.elapsed() >= Duration::from_secs(2), "{second}");
    assert_eq!(
        daemon.count(|line| message(line).contains("slept for a moment")),
        2,
        "{}",
        daemon.text()
    );
}

#[test]
fn processor_time_counts_from_the_hand_over() {
    let site = site(
        "infinite_loop",
        "warm=1",
        "timeout=60, limits={'cpu': 1}, run_on_load=False",
    );
    let daemon = start(&site);
    let waits = waiting(&daemon, 1);
    let limits = fs::read_to_string(format!("/proc/{waits}/limits")).unwrap();
    let cpu = limits.lines().find(|line| line.starts_with("Max cpu time")).unwrap();
    let numbers: Vec<u64> = cpu.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert!(
        numbers == [1, 1] || numbers == [2, 2],
        "as a run has it, but for what was used: {cpu}"
    );
    site.set("/x", "now");
    let run = daemon.wait_runs("w", 1).remove(0);
    assert_eq!(process(&daemon, 1), waits);
    assert!(outcome(&run).starts_with("killed by SIG"), "{run}");
    assert!(run["seconds"].as_f64().unwrap() >= 0.9, "{run}");
}

#[test]
fn one_that_ends_while_it_waits_is_replaced_ever_later_and_the_log_says_so_once() {
    let site = site("echo", &format!("warm=1, {OUT}"), "run_on_load=False");
    let daemon = start(&site);
    for nth in 1..=3 {
        let waits = waiting(&daemon, nth);
        kill(waits, Signal::SIGKILL).unwrap();
        gone(waits);
    }
    waiting(&daemon, 4);
    let said = |line: &Value| message(line).contains("has ended by itself");
    assert_eq!(daemon.count(said), 1, "{}", daemon.text());
    assert!(daemon.wait("why", said)["why"].as_str().unwrap().contains("SIGKILL"));
    assert_eq!(warm(&site)["ended"], 3);
    // A run whose process is just gone starts as any other.
    kill(waiting(&daemon, 4), Signal::SIGKILL).unwrap();
    site.set("/x", "now");
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
    fact(&site, "data: now");
}

#[test]
fn one_that_never_gets_ready_is_ended() {
    let site = Site::new();
    open_out(&site);
    watch(&site, &text_guest("start_loop"), "warm=1", "run_on_load=False");
    let daemon = start(&site);
    let said = daemon.wait("it is given up", |line| message(line).contains("has ended by itself"));
    let why = said["why"].as_str().unwrap();
    assert!(
        why.contains("was not ready after 10 s") || why.contains("SIGPROF"),
        "{said}"
    );
    assert_eq!(warm(&site)["waiting"], 0);
}

/// What the kernel says of the walls around a process.
fn walls(pid: Pid) -> BTreeMap<String, String> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let wanted = [
        "Uid",
        "Gid",
        "Groups",
        "NoNewPrivs",
        "Seccomp",
        "Seccomp_filters",
        "CapInh",
        "CapPrm",
        "CapEff",
        "CapBnd",
        "CapAmb",
        "Threads",
    ];
    let lines = status.lines().filter_map(|line| line.split_once(':'));
    let mut walls: BTreeMap<_, _> = lines
        .filter(|(name, _)| wanted.contains(name))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    for name in ["mnt", "net", "ipc"] {
        let link = fs::read_link(format!("/proc/{pid}/ns/{name}"));
        walls.insert(name.to_owned(), link.unwrap().display().to_string());
    }
    for name in ["root", "cwd"] {
        let link = fs::read_link(format!("/proc/{pid}/{name}"));
        walls.insert(name.to_owned(), link.unwrap().display().to_string());
    }
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    // By the realtime timeout each run is told from all others.
    for line in limits
        .lines()
        .skip(1)
        .filter(|line| !line.starts_with("Max realtime timeout"))
    {
        walls.insert(line[..26].trim().to_owned(), line[26..].to_owned());
    }
    walls
}

fn descriptors(pid: Pid) -> usize {
    fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[test]
fn the_walls_around_it_are_those_of_a_process_that_did_not_wait() {
    let site = site(
        "sleeps",
        &format!("warm=1, {OUT}"),
        "uid='nobody', timeout=600, run_mode=PARALLEL, run_on_load=False",
    );
    let daemon = start(&site);
    let first = waiting(&daemon, 1);
    kill(first, Signal::SIGKILL).unwrap();
    gone(first);
    // The next one that waits takes its time.
    site.set("/x", "first");
    let cold = process(&daemon, 1);
    let waits = waiting(&daemon, 2);
    assert_ne!(cold, waits);
    until("the other is confined, too", || walls(cold)["Seccomp"] == "2");
    assert_eq!(walls(waits), walls(cold));
    assert_eq!(walls(waits)["Seccomp"], "2");
    let before = descriptors(waits);
    site.set("/x", "second");
    assert_eq!(process(&daemon, 2), waits);
    assert_eq!(walls(waits), walls(cold));
    // What it was handed came for its stdin, or is closed.
    until("as many descriptors", || {
        descriptors(waits) == before && before == descriptors(cold)
    });
}

#[test]
fn the_launcher_may_die_meanwhile_and_nothing_is_left_when_the_daemon_stops() {
    let site = site("echo", OUT, "");
    let daemon = start(&site);
    let waits = waiting(&daemon, 1);
    let is_launcher = |pid: &&Pid| **pid != waits;
    let launcher = *children(daemon.pid()).iter().find(is_launcher).unwrap();
    kill(launcher, Signal::SIGKILL).unwrap();
    daemon.wait("another launcher", |line| message(line) == "launcher started");
    site.set("/x", "second");
    daemon.wait_runs("w", 2);
    assert_eq!(process(&daemon, 2), waits);
    let waits = waiting(&daemon, 2);
    assert_eq!(daemon.stop().code(), Some(0));
    assert!(!alive(waits));
}

/// What hostile components reach for is as far away from a process that waited.
#[test]
fn hostile_components_are_refused_as_they_are_in_a_process_that_did_not_wait() {
    let site = Site::new();
    open_out(&site);
    for dir in ["out/rw", "out/outside"] {
        fs::create_dir(site.path(dir)).unwrap();
        fs::set_permissions(site.path(dir), fs::Permissions::from_mode(0o777)).unwrap();
    }
    fs::write(site.path("out/outside/secret"), "secret").unwrap();
    symlink("../outside/secret", site.path("out/rw/link")).unwrap();
    let outside = site.path("out/outside/secret").display().to_string();
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    tcp.set_nonblocking(true).unwrap();
    let to = tcp.local_addr().unwrap();
    let dirs = "dirs={'/out': 'OUT/rw:rw'}, ";
    let attempts = [
        ("reads_passwd", String::new()),
        ("reads", format!("{dirs}config={{'path': '/out/../outside/secret'}}")),
        ("reads", format!("{dirs}config={{'path': '/out/link'}}")),
        ("writes", format!("{dirs}config={{'path': '{outside}'}}")),
        ("writes", format!("{dirs}config={{'path': '/out/link'}}")),
        (
            "writes_by_own_link",
            format!("{dirs}config={{'target': '../outside/secret'}}"),
        ),
        ("connects", format!("config={{'address': '{to}'}}")),
        ("listens", String::new()),
        ("sends_udp", format!("config={{'address': '{to}'}}")),
        ("resolves", "config={'name': 'localhost'}".to_owned()),
    ];
    for (number, (name, grants)) in attempts.iter().enumerate() {
        let action = super::wasm(
            &guest(name),
            &format!("{grants}{}warm=1", if grants.is_empty() { "" } else { ", " }),
        );
        let fields = format!("znode='/x', name='hostile-{number}', run_on_load=False, uid='nobody'");
        site.config(
            &format!("{number}.twc"),
            &format!("RegisterWatch({fields}, action={action})\n"),
        );
    }
    site.set("/x", "first");
    let daemon = start(&site);
    daemon.wait("it watches", |line| message(line) == "all watches are armed");
    until("all wait", || warm(&site)["waiting"] == attempts.len());
    for round in ["second", "third"] {
        let is_ready = |line: &Value| message(line) == "a process of the component waits for its next run";
        let waited: Vec<_> = daemon
            .wait_for(attempts.len(), "all wait", is_ready)
            .iter()
            .map(pid_in)
            .collect();
        site.set("/x", round);
        for (number, attempt) in attempts.iter().enumerate() {
            let name = format!("hostile-{number}");
            let ended = daemon
                .wait_runs(&name, if round == "second" { 1 } else { 2 })
                .pop()
                .unwrap();
            assert!(
                outcome(&ended).starts_with("failed: refused: "),
                "{:?}: {ended}",
                attempt
            );
            let started = |line: &Value| message(line) == "run started" && line["run_id"] == ended["run_id"];
            let pid = pid_in(&daemon.wait("it ran", started));
            assert!(
                round == "third" || waited.contains(&pid),
                "{name} ran in {pid}, not one of {waited:?}"
            );
        }
    }
    assert_eq!(site.read("out/outside/secret"), "secret");
    assert!(tcp.accept().is_err(), "nobody connected");
}
