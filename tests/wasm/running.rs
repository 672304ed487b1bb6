//! Starting and ending: what a component is told, how it is stopped, what is made of its end.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::{message, open_out, outcome, said, watch};
use crate::support::daemon::{Daemon, Site, alive, children};
use crate::support::guests::{guest, text_guest};
use crate::support::until;

/// A site with a component watching `/x`, which exists, and its daemon.
fn started(name: &str, grants: &str, fields: &str) -> (Site, Daemon) {
    let site = Site::new();
    open_out(&site);
    watch(&site, &guest(name), grants, fields);
    site.set("/x", "first");
    let daemon = site.start();
    (site, daemon)
}

fn seconds(run: &Value) -> f64 {
    run["seconds"].as_f64().unwrap()
}

/// Each process is a copy of one and the same.
#[test]
fn no_two_runs_draw_the_same_random_numbers() {
    let (site, daemon) = started("draws", "dirs={'/out': 'OUT:rw'}", "");
    for runs in 1..=3 {
        let run = daemon.wait_runs("w", runs).pop().unwrap();
        assert_eq!(outcome(&run), "success", "{run}");
        site.set("/x", &runs.to_string());
    }
    let mut drawn = site.lines("out/drawn");
    drawn.sort_unstable();
    drawn.dedup();
    assert_eq!(drawn.len(), site.lines("out/drawn").len(), "{drawn:?}");
}

#[test]
fn a_component_is_told_of_the_change_and_gets_its_grants() {
    let grants = "config={'b': '2', 'a': '1'}, args=['x', 'y z'], env={'K': 'V'}, dirs={'/out': 'OUT:rw'}";
    let (site, daemon) = started("echo", grants, "uid='nobody', timeout=60");
    let runs = daemon.wait_runs("w", 1);
    assert_eq!(outcome(&runs[0]), "success");
    let facts = site.read("out/echo");
    for fact in [
        "data: first",
        "path: /x",
        "event: EventKind::Load",
        "attempt: 1",
        "watch: w",
        "deadline: true",
        "cancel: None",
        "children: None",
        "changed: None",
        r#"config: [("a", "1"), ("b", "2")]"#,
        r#"args: ["x", "y z"]"#,
        r#"env: [("K", "V")]"#,
        "stdin: first",
    ] {
        assert!(facts.lines().any(|line| line == fact), "no {fact:?} in\n{facts}");
    }
    let run = runs[0]["run_id"].as_str().unwrap();
    assert!(facts.contains(&format!("run: {run}")), "{facts}");
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(site.path("out/echo")).unwrap());
    assert_eq!(owner, 65534);
    site.set("/x", "second");
    daemon.wait_runs("w", 2);
    let facts = site.read("out/echo");
    assert!(
        facts.contains("data: second") && facts.contains("EventKind::Data"),
        "{facts}"
    );
}

#[test]
fn children_and_changed_paths_are_lists() {
    let site = Site::new();
    open_out(&site);
    watch(
        &site,
        &guest("echo"),
        "dirs={'/out': 'OUT:rw'}",
        "watch_type=WATCH_CHILDREN",
    );
    site.set("/x/b", "1");
    site.set("/x/a", "1");
    let daemon = site.start();
    daemon.wait_runs("w", 1);
    assert!(
        site.read("out/echo").contains(r#"children: Some(["a", "b"])"#),
        "{}",
        site.read("out/echo")
    );
    watch(
        &site,
        &guest("echo"),
        "dirs={'/out': 'OUT:rw'}",
        "watch_type=WATCH_TREE",
    );
    daemon.wait_runs("w", 2);
    site.set("/x/b", "22");
    daemon.wait_runs("w", 3);
    assert!(
        site.read("out/echo").contains(r#"changed: Some(["/x/b"])"#),
        "{}",
        site.read("out/echo")
    );
}

#[test]
fn without_pipe_stdin_there_is_no_data() {
    let (site, daemon) = started("echo", "dirs={'/out': 'OUT:rw'}", "pipe_stdin=False");
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
    let facts = site.read("out/echo");
    assert!(
        facts.lines().any(|line| line == "data: ") && facts.lines().any(|line| line == "stdin: "),
        "{facts}"
    );
}

#[test]
fn programs_and_core_modules_run_and_their_exit_code_counts() {
    for (file, ends, says) in [
        (guest("program"), "success", "stdin: first"),
        (guest("exits_3"), "exit code 3", ""),
        (text_guest("core_program"), "success", "from a core module"),
        (text_guest("core_exits_7"), "exit code 7", ""),
    ] {
        let site = Site::new();
        watch(&site, &file, "args=['a b']", "");
        site.set("/x", "first");
        let daemon = site.start();
        assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), ends, "{}", file.display());
        said(&daemon, says);
    }
}

#[test]
fn a_failure_says_what_is_to_follow_and_stop_parks_the_watch() {
    for (failure, ends, parked) in [
        ("permanent", "failed: as configured", true),
        ("retry", "failed, may be retried: as configured", true),
        ("superseded", "gave up for newer state", false),
    ] {
        let (site, daemon) = started(
            "fails",
            &format!("config={{'failure': '{failure}'}}"),
            "on_failure=STOP",
        );
        assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), ends);
        site.set("/x", "second");
        if parked {
            daemon.wait("the update of a parked watch", |line| message(line).contains("parked"));
            assert_eq!(daemon.count(|line| line["message"] == "run started"), 1);
        } else {
            daemon.wait_runs("w", 2);
        }
    }
}

#[test]
fn a_timeout_is_announced_then_interrupts_and_at_last_kills() {
    // Asked, it ends by itself.
    let (_site, daemon) = started("obeys_cancel", "", "timeout=0.2, kill_after=20");
    let run = daemon.wait_runs("w", 1).remove(0);
    assert_eq!(outcome(&run), "timed out");
    assert!(seconds(&run) < 10.0, "{run}");
    said(&daemon, "told to end: Reason::Timeout");
    // Deaf, but in its own code: it is interrupted, and says where it was.
    let (_site, daemon) = started("infinite_loop", "", "timeout=0.2, kill_after=4");
    let run = daemon.wait_runs("w", 1).remove(0);
    assert_eq!(outcome(&run), "timed out");
    assert!((2.0..4.0).contains(&seconds(&run)), "{run}");
    let trace = daemon.wait("a backtrace", |line| {
        line["stream"] == "trap" && message(line).contains("infinite_loop")
    });
    assert_eq!(trace["run_id"], run["run_id"]);
    // Where the host waits for it, too.
    let (_site, daemon) = started("sleeps", "", "timeout=0.2, kill_after=20");
    let run = daemon.wait_runs("w", 1).remove(0);
    assert_eq!(outcome(&run), "timed out");
    assert!((10.0..20.0).contains(&seconds(&run)), "{run}");
    daemon.wait("where", |line| {
        line["stream"] == "trap" && message(line).contains("while a function of the host waited for it")
    });
    // In a system call that blocks nothing interrupts it: it is killed.
    let site = Site::new();
    open_out(&site);
    nix::unistd::mkfifo(&site.path("out/pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    watch(
        &site,
        &guest("blocked_read"),
        "dirs={'/in': 'OUT'}",
        "timeout=0.2, kill_after=1",
    );
    site.set("/x", "first");
    let daemon = site.start();
    let run = daemon.wait_runs("w", 1).remove(0);
    assert_eq!(outcome(&run), "timed out");
    assert!(seconds(&run) >= 1.2, "{run}");
}

#[test]
fn restart_tells_it_that_it_is_superseded_and_runs_the_newest() {
    let (site, daemon) = started("obeys_cancel", "", "run_mode=RESTART, kill_after=20");
    daemon.wait("the first run", |line| line["message"] == "run started");
    site.set("/x", "second");
    let run = daemon.wait_runs("w", 1).remove(0);
    assert_eq!(outcome(&run), "terminated");
    assert!(seconds(&run) < 10.0, "{run}");
    said(&daemon, "told to end: Reason::Superseded");
    daemon.wait_for(2, "a second run", |line| line["message"] == "run started");
}

#[test]
fn notify_signal_turns_cancel_to_superseded_and_harms_nothing() {
    let (site, daemon) = started("obeys_cancel", "", "notify_signal=SIGHUP, on_failure=STOP");
    daemon.wait("the first run", |line| line["message"] == "run started");
    site.set("/x", "second");
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "gave up for newer state");
    daemon.wait_for(2, "a second run", |line| line["message"] == "run started");
}

#[test]
fn a_stopping_daemon_says_so_to_the_component() {
    let site = Site::new();
    watch(&site, &guest("obeys_cancel"), "", "kill_after=20");
    site.set("/x", "first");
    let tree = site.path("tree");
    let mut daemon = site.start_with(&["--drain-timeout", "0.1", "--tree", &tree.to_string_lossy()]);
    daemon.wait("the run", |line| line["message"] == "run started");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().code(), Some(4));
    said(&daemon, "told to end: Reason::Shutdown");
}

/// The one child that stays: that of a run which is over may be there a moment longer.
fn launcher(daemon: &Daemon) -> Pid {
    let mut all = Vec::new();
    until("nothing but the launcher is there", || {
        all = children(daemon.pid());
        all.len() == 1
    });
    all[0]
}

#[test]
fn components_survive_the_launcher() {
    let (site, daemon) = started("echo", "dirs={'/out': 'OUT:rw'}, warm=0", "");
    daemon.wait_runs("w", 1);
    let launcher = launcher(&daemon);
    kill(launcher, Signal::SIGKILL).unwrap();
    until("the launcher is gone", || !alive(launcher));
    site.set("/x", "second");
    daemon.wait_runs("w", 2);
    assert!(site.read("out/echo").contains("data: second"));
}

#[test]
fn no_descriptor_but_its_own_is_open_in_its_process() {
    let (_site, daemon) = started("sleeps", "", "");
    let pid = daemon.wait("the run", |line| line["message"] == "run started")["pid"]
        .as_i64()
        .unwrap();
    let links = || -> Vec<String> {
        let fds = std::fs::read_dir(format!("/proc/{pid}/fd"))
            .into_iter()
            .flatten()
            .flatten();
        let links = fds.filter_map(|fd| std::fs::read_link(fd.path()).ok());
        links.map(|link| link.to_string_lossy().into_owned()).collect()
    };
    // Its streams, its channel, and what its memory begins with. Until it has closed the others they are there, too.
    let own = ["pipe:", "socket:", "memfd:twitcher-stdin", "memfd:wasm", ".cwasm"];
    until("nothing else is open", || {
        let links = links();
        links.len() > 3 && links.iter().all(|link| own.iter().any(|part| link.contains(part)))
    });
}

#[test]
fn what_a_component_logs_and_is_denied_is_what_its_run_wrote() {
    let site = Site::new();
    watch(&site, &guest("logs"), "", "");
    site.set("/x", "first");
    let socket = site.path("s");
    let (tree, control) = (site.path("tree"), socket.to_string_lossy().into_owned());
    let daemon = site.start_with(&["--tree", &tree.to_string_lossy(), "--control", &control]);
    let run = daemon.wait_runs("w", 1)[0]["run_id"].as_str().unwrap().to_owned();
    let detail = crate::support::http::operate(&socket, "GET", &format!("/v1/runs/{run}")).json();
    let output = detail["output"].as_str().unwrap();
    for level in ["TRACE", "DEBUG", "INFO", "WARN", "ERROR"] {
        let record = format!("{level} at this level key=value");
        assert!(output.lines().any(|line| line == record), "no {record:?} in {output}");
    }
    assert_eq!(detail["output_bytes"], output.len(), "{detail}");
}
