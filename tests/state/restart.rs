//! Runs that outlive their daemon: found, waited for, counted or terminated, as the run mode says. Upgrades, and a second daemon.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{kill_9, launcher, message, said};
use crate::support::daemon::{Daemon, Site, alive};
use crate::support::guests::guest;
use crate::support::until;

const FOUND: &str = "a run of the last daemon still runs";
/// An action that notes its data, then waits for `OUT/go-DATA`.
const GATED: &str = r#"Exec('d=$(cat); echo "start $d" >> OUT/log; while [ ! -e OUT/go-$d ]; do sleep 0.01; done; echo "end $d" >> OUT/log')"#;

fn go(site: &Site, data: &str) {
    site.write(&format!("out/go-{data}"), "");
}

fn seen(daemon: &Daemon, watch: &str) {
    daemon.wait("it waits", message(watch, "update queued"));
}

/// A daemon that was killed while it ran the action for "1".
fn killed_while_running(site: &Site, fields: &str) {
    site.config("a.twc", &format!("RegisterWatch('/n', {GATED}, name='n', {fields})"));
    let daemon = site.start();
    // Not at load, because not every watch runs then.
    daemon.wait("all watches are armed", |line| {
        line["message"] == "all watches are armed"
    });
    site.set("/n", "1");
    until("it runs", || site.lines("out/log") == ["start 1"]);
    daemon.crash();
}

#[test]
fn queue_and_discard_wait_for_a_found_run_and_then_look() {
    for run_mode in ["QUEUE", "DISCARD"] {
        let site = Site::new();
        killed_while_running(&site, &format!("run_mode={run_mode}"));
        site.set("/n", "2");
        let daemon = site.start();
        daemon.wait("found", message("n", FOUND));
        seen(&daemon, "n");
        assert_eq!(site.lines("out/log"), ["start 1"], "two at once");
        go(&site, "1");
        go(&site, "2");
        daemon.wait_runs("n", 1);
        assert_eq!(site.lines("out/log"), ["start 1", "end 1", "start 2", "end 2"]);
    }
}

/// Nobody knows how the found run ended, so it is run for again.
#[test]
fn a_state_whose_run_nobody_watched_is_run_for_again() {
    for run_on_load in ["True", "IF_CHANGED"] {
        let site = Site::new();
        killed_while_running(&site, &format!("run_on_load={run_on_load}"));
        let daemon = site.start();
        seen(&daemon, "n");
        go(&site, "1");
        daemon.wait_runs("n", 1);
        assert_eq!(site.lines("out/log"), ["start 1", "end 1", "start 1", "end 1"]);
    }
}

#[test]
fn a_change_during_a_found_run_is_not_lost_even_without_run_on_load() {
    let site = Site::new();
    killed_while_running(&site, "run_on_load=False");
    let daemon = site.start();
    daemon.wait("armed", message("n", "watch armed"));
    site.set("/n", "2");
    seen(&daemon, "n");
    go(&site, "1");
    go(&site, "2");
    daemon.wait_runs("n", 1);
    assert_eq!(site.lines("out/log"), ["start 1", "end 1", "start 2", "end 2"]);
}

#[test]
fn restart_terminates_a_found_run_if_its_state_is_outdated() {
    let site = Site::new();
    killed_while_running(&site, "run_mode=RESTART, kill_after=1");
    let daemon = site.start();
    // For the same state there is no reason to.
    daemon.wait("it waits", message("n", "update queued (load): the action is running"));
    assert_eq!(daemon.count(message("n", "terminating")), 0);
    site.set("/n", "2");
    daemon.wait("terminated", message("n", "terminating the run for a newer update"));
    go(&site, "2");
    daemon.wait_runs("n", 1);
    assert_eq!(site.lines("out/log"), ["start 1", "start 2", "end 2"]);
}

#[test]
fn parallel_counts_found_runs() {
    let site = Site::new();
    killed_while_running(&site, "run_mode=PARALLEL, max_parallel=2");
    let daemon = site.start();
    until("one more", || site.lines("out/log") == ["start 1", "start 1"]);
    site.set("/n", "2");
    daemon.wait(
        "no place",
        message("n", "update queued (data): max_parallel actions are running"),
    );
    go(&site, "1");
    go(&site, "2");
    daemon.wait_runs("n", 2);
}

#[test]
fn a_found_run_has_the_time_that_its_watch_gives_it() {
    let site = Site::new();
    killed_while_running(&site, "timeout=1, kill_after=1");
    go(&site, "2");
    site.set("/n", "2");
    let daemon = site.start();
    daemon.wait_runs("n", 1);
    assert_eq!(site.lines("out/log"), ["start 1", "start 2", "end 2"]);
}

#[test]
fn a_found_run_is_waited_for_at_shutdown_and_terminated_at_its_end() {
    let site = Site::new();
    killed_while_running(&site, "run_on_load=False");
    let tree = site.path("tree");
    let mut daemon = site.start_with(&["--tree", &tree.to_string_lossy(), "--drain-timeout", "0.3"]);
    daemon.wait("found", message("n", FOUND));
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().code(), Some(4));
    assert_eq!(site.lines("out/log"), ["start 1"]);
}

#[test]
fn runs_of_every_kind_are_found() {
    let site = Site::new();
    for znode in ["/program", "/shell", "/function", "/component"] {
        site.set(znode, "x");
    }
    let component = guest("sleeps");
    site.config(
        "a.twc",
        &format!(
            r#"
def waits():
    run(["/bin/sleep", "1000"])

RegisterWatch("/program", Exec(["/bin/sleep", "1000"]), name="program")
RegisterWatch("/shell", Exec("sleep 1000; true"), name="shell", uid="nobody")
RegisterWatch("/function", waits, name="function")
RegisterWatch("/component", Wasm({:?}), name="component")
"#,
            component.display().to_string()
        ),
    );
    let names = ["program", "shell", "function", "component"];
    let daemon = site.start();
    let pids = names.map(|name| {
        let started = daemon.wait("started", message(name, "run started"));
        started["pid"].as_i64().unwrap()
    });
    kill_9(launcher(daemon.pid()).unwrap());
    daemon.crash();
    // Found by the next daemon, and by the one after that.
    for _ in 0..2 {
        let daemon = site.start();
        for (name, pid) in names.iter().zip(pids) {
            let found = daemon.wait("found", message(name, FOUND));
            assert_eq!(found["pid"], pid, "{name}");
        }
        daemon.crash();
    }
    for pid in pids {
        let _ = nix::sys::signal::killpg(Pid::from_raw(pid as i32), Signal::SIGKILL);
    }
}

#[test]
fn a_run_of_a_watch_that_comes_later_waits_for_it() {
    let site = Site::new();
    killed_while_running(&site, "");
    let config = fs::read_to_string(site.path("conf/a.twc")).unwrap();
    site.config("a.twc", "nonsense(");
    let daemon = site.start();
    daemon.wait("found", |line| {
        line["message"]
            .as_str()
            .is_some_and(|m| m.contains("is not in the configuration"))
    });
    site.config("a.twc", &config);
    seen(&daemon, "n");
    assert_eq!(site.lines("out/log"), ["start 1"], "two at once");
    go(&site, "1");
    daemon.wait_runs("n", 1);
}

/// The daemon raises its own limit of open files, and a launcher that it starts later must not inherit that.
#[test]
fn actions_of_every_launcher_start_with_the_same_limits() {
    let site = Site::new();
    site.set("/n", "1");
    site.config(
        "a.twc",
        "RegisterWatch('/n', Exec('ulimit -Sn >> OUT/log; ulimit -Hn >> OUT/log'), name='n')",
    );
    let limited = site.path("limited");
    let script = format!(
        "#!/bin/sh\nulimit -Sn 1000\nexec {} \"$@\"\n",
        env!("CARGO_BIN_EXE_twitcher")
    );
    fs::write(&limited, script).unwrap();
    fs::set_permissions(&limited, fs::Permissions::from_mode(0o755)).unwrap();
    let daemon = site.start_program(&limited);
    daemon.wait_runs("n", 1);
    kill_9(launcher(daemon.pid()).unwrap());
    said(&daemon, "launcher started");
    site.set("/n", "2");
    daemon.wait_runs("n", 2);
    let limits = site.lines("out/log");
    assert_eq!(limits[0], "1000");
    assert_eq!(
        limits[..2],
        limits[2..],
        "soft and hard, of the first launcher and of the second"
    );
}

#[test]
fn the_program_is_replaced_and_restarted_while_actions_run() {
    let site = Site::new();
    site.set("/n", "1");
    site.config("a.twc", &format!("RegisterWatch('/n', {GATED}, name='n')"));
    // A copy of its own, as a package has it.
    let program = site.path("twitcher");
    let install = || {
        let draft = site.path("twitcher.new");
        fs::copy(env!("CARGO_BIN_EXE_twitcher"), &draft).unwrap();
        fs::rename(&draft, &program).unwrap();
    };
    install();
    let daemon = site.start_program(&program);
    until("it runs", || site.lines("out/log") == ["start 1"]);
    install();
    // The old one goes on with what it is: also when it has to start another launcher.
    kill_9(launcher(daemon.pid()).unwrap());
    said(&daemon, "launcher started");
    site.set("/n", "2");
    seen(&daemon, "n");
    daemon.crash();
    let daemon = site.start_program(&program);
    daemon.wait("found", message("n", FOUND));
    seen(&daemon, "n");
    go(&site, "1");
    go(&site, "2");
    daemon.wait_runs("n", 1);
    assert_eq!(site.lines("out/log"), ["start 1", "end 1", "start 2", "end 2"]);
}

#[test]
fn a_second_daemon_is_refused_and_told_of_the_first() {
    let site = Site::new();
    let first = site.start();
    let second = || {
        Command::new(env!("CARGO_BIN_EXE_twitcher"))
            .args(["run", "--tree"])
            .arg(site.path("tree"))
            .arg("--config")
            .arg(site.path("conf"))
            .arg("--state-dir")
            .arg(site.path("state"))
            .output()
            .unwrap()
    };
    let output = second();
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(&format!("(pid {})", first.pid())), "{text}");
    assert!(alive(first.pid()));
    first.stop();
}

/// Should the test fail, the process must not stay.
struct Killed(Pid);

impl Drop for Killed {
    fn drop(&mut self) {
        kill_9(self.0);
    }
}

/// A launcher that cannot go on, because a program is not loaded, must not keep the next daemon from starting, nor may it start anything.
#[test]
fn a_launcher_that_is_stopped_dies_with_its_daemon() {
    let site = Site::new();
    site.set("/n", "1");
    site.config(
        "a.twc",
        "RegisterWatch('/n', Exec('cat >> OUT/log; echo >> OUT/log'), name='n')",
    );
    let daemon = site.start();
    daemon.wait_runs("n", 1);
    let stopped = launcher(daemon.pid()).unwrap();
    kill(stopped, Signal::SIGSTOP).unwrap();
    let _guard = Killed(stopped);
    // This one gets as far as the launcher's socket.
    site.set("/n", "2");
    daemon.wait("seen", message("n", "change seen"));
    daemon.crash();
    site.set("/n", "3");
    let begin = Instant::now();
    let daemon = site.start();
    assert!(begin.elapsed() < Duration::from_secs(8), "{:?}", begin.elapsed());
    until("the launcher is gone", || !alive(stopped));
    daemon.wait_runs("n", 1);
    assert_eq!(
        site.lines("out/log"),
        ["1", "3"],
        "what the dead daemon had asked for is not started"
    );
}

/// Its main process ends at SIGTERM; what it leaves behind ignores that.
const STUBBORN: &str =
    r#"Exec('trap "" TERM; sleep 1000 & echo $! > OUT/child; trap - TERM; echo $$ > OUT/main; cat >> OUT/log; wait')"#;

/// A daemon that was killed between SIGTERM and SIGKILL. Returns the process that is left.
fn killed_while_terminating(site: &Site) -> Pid {
    let fields = "run_mode=RESTART, kill_after=1000";
    site.config("a.twc", &format!("RegisterWatch('/n', {STUBBORN}, name='n', {fields})"));
    site.set("/n", "1");
    let daemon = site.start();
    let pid = |file: &str| site.read(file).trim().parse().ok().map(Pid::from_raw);
    until("it runs", || site.read("out/log") == "1");
    let (main, child) = (pid("out/main").unwrap(), pid("out/child").unwrap());
    site.set("/n", "2");
    until("the main process has ended", || !alive(main));
    daemon.crash();
    assert!(alive(child) && site.read("out/log") == "1");
    child
}

#[test]
fn what_is_left_of_a_run_that_was_being_terminated_is_ended_before_the_next() {
    let site = Site::new();
    let child = killed_while_terminating(&site);
    let fields = "run_mode=RESTART, kill_after=0.1";
    site.config("a.twc", &format!("RegisterWatch('/n', {STUBBORN}, name='n', {fields})"));
    let daemon = site.start();
    daemon.wait("found", message("n", FOUND));
    until("the newest runs", || site.read("out/log") == "12");
    assert!(!alive(child));
    // It is found once.
    daemon.crash();
    let daemon = site.start();
    daemon.wait("found", message("n", FOUND));
    assert_eq!(daemon.count(message("n", FOUND)), 1, "{}", daemon.text());
}

/// What is left has neither session nor environment nor parents of the run, only its cgroup. It says nothing: a shell tells on stderr that the
/// `sleep` it waited for was terminated, and would end by SIGPIPE once nobody reads that.
#[test]
fn what_is_left_of_such_a_run_is_found_by_its_cgroup() {
    const STUBBORN: &str = r#"Exec('setsid -f env -i /bin/sh -c "exec 2>/dev/null; trap : TERM; echo \\$\\$ > OUT/child; while :; do /bin/sleep 0.05; done"; echo $$ > OUT/main; exec sleep 1000')"#;
    let site = Site::new();
    let fields = "run_mode=RESTART, kill_after=1000";
    site.config("a.twc", &format!("RegisterWatch('/n', {STUBBORN}, name='n', {fields})"));
    site.set("/n", "1");
    let daemon = site.start();
    if daemon.text().contains("runs have no cgroups of their own") {
        eprintln!("left out: there is no cgroup v2 hierarchy that can be written to");
        return;
    }
    let pid = |file: &str| site.read(file).trim().parse().ok().map(Pid::from_raw);
    until("both run", || pid("out/main").is_some() && pid("out/child").is_some());
    let (main, child) = (pid("out/main").unwrap(), pid("out/child").unwrap());
    site.set("/n", "2");
    until("the main process has ended", || !alive(main));
    daemon.crash();
    assert!(alive(child));
    site.config("a.twc", "");
    let daemon = site.start();
    said(&daemon, "the last daemon was terminating this run");
    until("it is killed", || !alive(child));
}

#[test]
fn what_is_left_of_such_a_run_is_ended_without_its_watch_too() {
    let site = Site::new();
    let child = killed_while_terminating(&site);
    site.config("a.twc", "");
    let daemon = site.start();
    said(&daemon, "the last daemon was terminating this run");
    until("it is killed", || !alive(child));
}
