//! The daemon on a directory tree: run modes, reload, shutdown, and what it says about them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::daemon::{Daemon, Site, alive, children};
use crate::support::until;

/// An action that notes its data, then waits for `OUT/go-DATA`.
const GATED: &str = r#"Exec('d=$(cat); echo "start $d" >> OUT/log; while [ ! -e OUT/go-$d ]; do sleep 0.01; done; echo "end $d" >> OUT/log')"#;

fn message<'a>(watch: &'a str, text: &'a str) -> impl Fn(&Value) -> bool + 'a {
    move |line| line["watch"] == watch && line["message"].as_str().is_some_and(|m| m.starts_with(text))
}

fn seen(daemon: &Daemon, site: &Site, watch: &str, znode: &str, data: &str) {
    let before = daemon.count(message(watch, "change seen"));
    site.set(znode, data);
    daemon.wait_for(before + 1, "the change is seen", message(watch, "change seen"));
}

fn go(site: &Site, data: &str) {
    site.write(&format!("out/go-{data}"), "");
}

#[test]
fn runs_at_load_and_at_every_change_and_says_so() {
    let site = Site::new();
    site.set("/a/b", "one");
    site.config("a.twc", r#"RegisterWatch("/a/b", Exec("cat >> OUT/log; echo >> OUT/log; echo to the log; env > OUT/env"), description="my watch")"#);
    let daemon = site.start();
    daemon.wait_runs("my watch", 1);
    site.set("/a/b", "two");
    let ended = daemon.wait_runs("my watch", 2).pop().unwrap();
    assert_eq!(site.read("out/log"), "one\ntwo\n");
    assert_eq!(ended["outcome"], "success");
    assert!(
        ended["seconds"].as_f64().unwrap() > 0.0 && ended["max_rss_kib"].as_u64().unwrap() > 100,
        "{ended}"
    );
    assert!(ended["timestamp"].is_string() && ended["level"] == "INFO", "{ended}");
    let run = ended["run_id"].as_str().unwrap();
    let output = daemon.wait("output", |line| {
        line["message"] == "to the log" && line["run_id"] == run
    });
    assert_eq!(
        (&output["watch"], &output["stream"]),
        (&"my watch".into(), &"stdout".into())
    );
    let started = daemon.wait("started", |line| {
        line["message"] == "run started" && line["run_id"] == run
    });
    assert_eq!(started["event"], "data");
    daemon.wait("armed", message("my watch", "watch armed"));
    let env = site.lines("out/env");
    for expected in [
        "TWITCHER_ZNODE=/a/b",
        "TWITCHER_EVENT=data",
        "TWITCHER_NAME=my watch",
        "TWITCHER_ATTEMPT=1",
        "HOME=/root",
        "USER=root",
    ] {
        assert!(
            env.iter().any(|line| line == expected),
            "{expected} is missing in {env:?}"
        );
    }
    assert!(env.contains(&format!("TWITCHER_RUN_ID={run}")));
    assert!(
        !env.iter().any(|line| line.starts_with("CARGO")),
        "the daemon's environment leaks: {env:?}"
    );
    assert_eq!(daemon.stop().code(), Some(0));
}

#[test]
fn the_originals_configurations_run_unchanged() {
    let site = Site::new();
    for (znode, data) in [("/brady/test", "x"), ("/f", "x"), ("/l", "x"), ("/p", "x")] {
        site.set(znode, data);
    }
    site.config(
        "original.twc",
        r#"
RegisterWatch(znode='/brady/test',
              action=Exec('\n'.join([
                  'date >> OUT/date',
                  'echo "more" >> OUT/date',
              ])))

def example2():
    open('OUT/example2', 'w').write('testing')

RegisterWatch(znode='/f', action=example2)
RegisterWatch(znode='/l', action=lambda: open('OUT/lambda', 'w').write(stdin()))
RegisterWatch('/p', Exec(['/bin/sh', '-c', 'cat > OUT/positional']), False, True, DISCARD, 'nobody', 'nogroup', None, 30, 'positional')
"#,
    );
    fs::set_permissions(site.path("out"), fs::Permissions::from_mode(0o777)).unwrap();
    let daemon = site.start();
    daemon.wait_for(4, "runs", |line| {
        line["message"] == "run ended" && line["outcome"] == "success"
    });
    assert_eq!(site.lines("out/date").len(), 2);
    assert_eq!(site.read("out/example2"), "testing");
    assert_eq!(site.read("out/lambda"), "x");
    assert_eq!(site.read("out/positional"), "", "pipe_stdin is False");
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(site.path("out/positional")).unwrap());
    assert_eq!(owner, 65534, "ran as nobody");
}

#[test]
fn queue_remembers_only_the_newest() {
    let site = Site::new();
    site.set("/n", "1");
    site.config("a.twc", &format!("RegisterWatch('/n', {GATED}, name='q')"));
    let daemon = site.start();
    until("the first runs", || site.read("out/log") == "start 1\n");
    for data in ["2", "3", "4"] {
        seen(&daemon, &site, "q", "/n", data);
    }
    daemon.wait_for(3, "queued lines", message("q", "update queued"));
    go(&site, "1");
    go(&site, "4");
    daemon.wait_runs("q", 2);
    assert_eq!(site.lines("out/log"), ["start 1", "end 1", "start 4", "end 4"]);
    // Nothing is left over that would run later.
    seen(&daemon, &site, "q", "/n", "5");
    go(&site, "5");
    daemon.wait_runs("q", 3);
    assert_eq!(site.lines("out/log")[4..], ["start 5", "end 5"]);
}

#[test]
fn discard_ignores_for_good() {
    let site = Site::new();
    site.set("/n", "1");
    site.config(
        "a.twc",
        &format!("RegisterWatch('/n', {GATED}, run_mode=DISCARD, name='d')"),
    );
    let daemon = site.start();
    until("the first runs", || site.read("out/log") == "start 1\n");
    seen(&daemon, &site, "d", "/n", "2");
    daemon.wait("ignored", message("d", "update ignored"));
    go(&site, "1");
    daemon.wait_runs("d", 1);
    seen(&daemon, &site, "d", "/n", "3");
    go(&site, "3");
    daemon.wait_runs("d", 2);
    assert_eq!(site.lines("out/log"), ["start 1", "end 1", "start 3", "end 3"]);
}

#[test]
fn parallel_runs_at_once_up_to_its_cap() {
    let site = Site::new();
    site.set("/n", "1");
    site.config(
        "a.twc",
        &format!("RegisterWatch('/n', {GATED}, run_mode=PARALLEL, max_parallel=2, name='p')"),
    );
    let daemon = site.start();
    until("the first runs", || site.lines("out/log").len() == 1);
    seen(&daemon, &site, "p", "/n", "2");
    until("the second runs beside it", || {
        site.lines("out/log") == ["start 1", "start 2"]
    });
    seen(&daemon, &site, "p", "/n", "3");
    daemon.wait("the third waits", message("p", "update queued"));
    assert_eq!(site.lines("out/log").len(), 2);
    go(&site, "2");
    until("the third took its place", || {
        site.lines("out/log") == ["start 1", "start 2", "end 2", "start 3"]
    });
    go(&site, "1");
    go(&site, "3");
    daemon.wait_runs("p", 3);
}

#[test]
fn restart_terminates_and_runs_the_newest_never_two_at_once() {
    let site = Site::new();
    site.set("/n", "1");
    // The action cleans up for a while when it is terminated: the next one must wait for that.
    let action = "trap 'sleep 0.2; echo end >> OUT/log; exit' TERM; echo \"start $(cat)\" >> OUT/log; while :; do sleep 0.01; done";
    site.config(
        "a.twc",
        &format!("RegisterWatch('/n', Exec({action:?}), run_mode=RESTART, name='r')"),
    );
    let daemon = site.start();
    until("the first runs", || site.lines("out/log").len() == 1);
    seen(&daemon, &site, "r", "/n", "2");
    seen(&daemon, &site, "r", "/n", "3");
    until("the newest runs", || site.read("out/log").contains("start 3"));
    assert_eq!(site.lines("out/log"), ["start 1", "end", "start 3"]);
    assert_eq!(daemon.wait_runs("r", 1)[0]["outcome"], "terminated");
}

#[test]
fn notify_signal_is_sent_at_every_update() {
    let site = Site::new();
    site.set("/n", "1");
    let action = "trap 'echo told >> OUT/log' USR1; echo ready >> OUT/log; while [ ! -e OUT/go ]; do sleep 0.01; done";
    site.config(
        "a.twc",
        &format!("RegisterWatch('/n', Exec({action:?}), notify_signal=SIGUSR1, name='n')"),
    );
    let daemon = site.start();
    until("it is ready", || site.lines("out/log").len() == 1);
    for (count, data) in ["2", "3", "4"].iter().enumerate() {
        site.set("/n", data);
        until("the action was told", || site.lines("out/log").len() == 2 + count);
    }
    site.write("out/go", "");
    daemon.wait_runs("n", 2);
}

#[test]
fn a_timeout_is_an_outcome_and_the_next_change_runs() {
    let site = Site::new();
    site.set("/n", "hang");
    let action = "trap '' TERM; if [ $(cat) = hang ]; then echo $$ > OUT/pid; sleep 1000; sleep 1000; fi";
    site.config(
        "a.twc",
        &format!("RegisterWatch('/n', Exec({action:?}), timeout=0.3, kill_after=0.2, name='t')"),
    );
    let daemon = site.start();
    let ended = daemon.wait_runs("t", 1).remove(0);
    assert_eq!(
        (&ended["outcome"], &ended["level"]),
        (&"timed out".into(), &"WARN".into())
    );
    assert!(!alive(Pid::from_raw(site.read("out/pid").trim().parse().unwrap())));
    site.set("/n", "fine");
    assert_eq!(daemon.wait_runs("t", 2)[1]["outcome"], "success");
}

#[test]
fn nodes_that_come_go_and_come_again() {
    let site = Site::new();
    site.config(
        "a.twc",
        r#"RegisterWatch("/late/node", Exec("echo $TWITCHER_EVENT $(cat) >> OUT/log"), on_delete=True, name="n")"#,
    );
    let daemon = site.start();
    daemon.wait("armed though absent", |line| {
        line["watch"] == "n" && line["message"].as_str().is_some_and(|m| m.contains("absent"))
    });
    site.set("/late/node", "a");
    daemon.wait_runs("n", 1);
    fs::remove_file(site.path("tree/late/node")).unwrap();
    daemon.wait_runs("n", 2);
    site.set("/late/node", "b");
    daemon.wait_runs("n", 3);
    assert_eq!(site.lines("out/log"), ["created a", "deleted", "created b"]);
}

#[test]
fn children_and_trees_are_watched() {
    let site = Site::new();
    site.set("/hosts/b", "1");
    site.config(
        "a.twc",
        r#"
RegisterWatch("/hosts", Exec("tr '\n' ' ' >> OUT/children; echo >> OUT/children"), watch_type=WATCH_CHILDREN, name="c")
RegisterWatch("/hosts", Exec("tr '\n' ' ' >> OUT/tree; echo >> OUT/tree"), watch_type=WATCH_TREE, run_on_load=False, name="t")
"#,
    );
    let daemon = site.start();
    daemon.wait_runs("c", 1);
    daemon.wait("armed", message("t", "watch armed"));
    site.set("/hosts/a", "1");
    daemon.wait_runs("c", 2);
    daemon.wait_runs("t", 1);
    site.set("/hosts/b", "2");
    daemon.wait_runs("t", 2);
    assert_eq!(
        site.lines("out/children"),
        ["b ", "a b "],
        "a changed child's data is no change of the children"
    );
    assert_eq!(site.lines("out/tree").last().unwrap(), "/hosts/b ");
}

#[test]
fn stop_parks_the_watch_until_its_file_changes() {
    let site = Site::new();
    site.set("/n", "bad");
    let config = |comment: &str| {
        format!(
            "RegisterWatch('/n', Exec('read d; echo $d >> OUT/log; [ $d = good ]'), on_failure=STOP, name='s', description='{comment}')"
        )
    };
    site.config("a.twc", &config("one"));
    let daemon = site.start();
    assert_eq!(daemon.wait_runs("s", 1)[0]["outcome"], "exit code 1");
    daemon.wait("parked", message("s", "watch parked"));
    seen(&daemon, &site, "s", "/n", "good\n");
    assert_eq!(site.lines("out/log"), ["bad"]);
    site.config("a.twc", &config("two"));
    daemon.wait_runs("s", 2);
    assert_eq!(site.lines("out/log"), ["bad", "good"]);
}

#[test]
fn sighup_brings_a_parked_watch_back_with_the_latest_state() {
    let site = Site::new();
    site.set("/n", "bad");
    let action = "read d; echo $d >> OUT/log; [ $d = good ]";
    site.config(
        "a.twc",
        &format!("RegisterWatch('/n', Exec({action:?}), on_failure=STOP, name='s')"),
    );
    let daemon = site.start();
    daemon.wait("parked", message("s", "watch parked"));
    seen(&daemon, &site, "s", "/n", "good\n");
    daemon.signal(Signal::SIGHUP);
    daemon.wait_runs("s", 2);
    assert_eq!(site.lines("out/log"), ["bad", "good"]);
}

#[test]
fn a_launch_error_is_told_from_an_exit_code() {
    let site = Site::new();
    site.set("/n", "x");
    site.config("a.twc", r#"RegisterWatch("/n", Exec(["/no/such/program"]), name="n")"#);
    let daemon = site.start();
    let outcome = daemon.wait_runs("n", 1)[0]["outcome"].clone();
    assert_eq!(
        outcome,
        "cannot execute \"/no/such/program\": No such file or directory (os error 2)"
    );
}

#[test]
fn a_reload_touches_only_what_changed() {
    let site = Site::new();
    for node in ["/a", "/b", "/c"] {
        site.set(node, "1");
    }
    let watch = |node: &str, extra: &str| {
        format!("RegisterWatch('/{node}', Exec('echo {extra} $(cat) >> OUT/{node}'), name='{node}')\n")
    };
    site.config("one.twc", &(watch("a", "v1") + &watch("b", "v1")));
    site.config("sub/two.twc", &watch("c", "v1"));
    let daemon = site.start();
    for name in ["a", "b", "c"] {
        daemon.wait_runs(name, 1);
    }
    let loads = || daemon.count(|line| line["message"] == "configuration loaded");
    // One watch of a file changes, and moves to another line.
    let before = loads();
    site.config(
        "one.twc",
        &(String::from("\n\n") + &watch("b", "v2") + &watch("a", "v1")),
    );
    daemon.wait_runs("b", 2);
    // A broken file keeps its watches.
    site.config("sub/two.twc", "RegisterWatch('/c', Exec('true'\n");
    let refused = daemon.wait("refused", |line| {
        line["message"].as_str().is_some_and(|m| m.contains("two.twc:"))
    });
    assert_eq!(refused["level"], "ERROR");
    site.set("/c", "2");
    daemon.wait_runs("c", 2);
    // A file that goes away takes its watches with it; a new directory is noticed.
    fs::remove_file(site.path("conf/one.twc")).unwrap();
    site.set("/d", "1");
    site.config("deep/er/three.twc", &watch("d", "v1"));
    daemon.wait_runs("d", 1);
    daemon.wait("removed", |line| {
        line["message"] == "configuration loaded" && line["removed"] == 2
    });
    site.set("/a", "2");
    site.set("/d", "2");
    daemon.wait_runs("d", 2);
    assert!(loads() > before);
    assert_eq!(
        site.lines("out/a"),
        ["v1 1"],
        "unchanged: not run again; removed: not run any more"
    );
    assert_eq!(site.lines("out/b"), ["v1 1", "v2 1"]);
    assert_eq!(site.lines("out/c"), ["v1 1", "v1 2"]);
    assert_eq!(site.lines("out/d"), ["v1 1", "v1 2"]);
}

#[test]
fn many_reloads_lead_to_one_run_per_change() {
    let site = Site::new();
    site.set("/n", "1");
    site.config(
        "a.twc",
        "RegisterWatch('/n', Exec('cat >> OUT/log; echo >> OUT/log'), name='n')",
    );
    let daemon = site.start();
    daemon.wait_runs("n", 1);
    for count in 2..7 {
        daemon.signal(Signal::SIGHUP);
        daemon.wait_for(count, "loads", |line| line["message"] == "configuration loaded");
    }
    site.set("/n", "2");
    daemon.wait_runs("n", 2);
    site.set("/n", "3");
    daemon.wait_runs("n", 3);
    assert_eq!(site.lines("out/log"), ["1", "2", "3"]);
}

#[test]
fn a_running_action_of_a_changed_watch_stays_owned() {
    let site = Site::new();
    site.set("/n", "1");
    site.config("a.twc", &format!("RegisterWatch('/n', {GATED}, name='n')"));
    let daemon = site.start();
    until("it runs", || site.lines("out/log").len() == 1);
    site.config("a.twc", &format!("RegisterWatch('/n', {GATED}, name='n', timeout=100)"));
    daemon.wait("changed", |line| {
        line["message"] == "configuration loaded" && line["changed"] == 1
    });
    daemon.wait("the load waits", message("n", "update queued"));
    assert_eq!(site.lines("out/log"), ["start 1"], "two at once");
    go(&site, "1");
    daemon.wait_runs("n", 2);
    assert_eq!(site.lines("out/log"), ["start 1", "end 1", "start 1", "end 1"]);
}

#[test]
fn half_written_files_are_not_loaded() {
    use std::io::Write;
    let site = Site::new();
    site.set("/n", "1");
    let daemon = site.start();
    let mut file = fs::File::create(site.path("conf/a.twc")).unwrap();
    let text = format!(
        "RegisterWatch('/n', Exec('cat > {}'), name='n')\n",
        site.path("out/log").display()
    );
    let (first, second) = text.split_at(text.len() / 2);
    file.write_all(first.as_bytes()).unwrap();
    file.sync_all().unwrap();
    // Other files go on being loaded meanwhile, at the latest after the time a writer is given.
    file.write_all(second.as_bytes()).unwrap();
    drop(file);
    daemon.wait_runs("n", 1);
    assert_eq!(daemon.count(|line| line["level"] == "ERROR"), 0, "{}", daemon.text());
}

#[test]
fn a_killed_daemons_run_is_found_and_waited_for() {
    let site = Site::new();
    site.set("/n", "1");
    site.config("a.twc", &format!("RegisterWatch('/n', {GATED}, name='n')"));
    let daemon = site.start();
    daemon.wait("started", message("n", "run started"));
    until("it runs", || site.lines("out/log").len() == 1);
    daemon.crash();
    site.set("/n", "2");
    let daemon = site.start();
    daemon.wait("found", message("n", "a run of the last daemon still runs"));
    daemon.wait("loaded", |line| line["message"] == "configuration loaded");
    assert_eq!(site.lines("out/log"), ["start 1"], "two at once");
    go(&site, "1");
    go(&site, "2");
    daemon.wait_runs("n", 1);
    assert_eq!(site.lines("out/log"), ["start 1", "end 1", "start 2", "end 2"]);
}

/// Found by the chaos suite: only the main process was waited for, and what it had started lived on.
#[test]
fn a_killed_daemons_run_is_ended_as_a_whole() {
    let site = Site::new();
    site.set("/n", "1");
    // Two that ignore SIGTERM, one of them in a session of its own; their parent does not ignore it.
    site.write("out/stubborn", "trap '' TERM; echo $$ >> $1; while :; do sleep 1; done");
    let stubborn = "sh OUT/stubborn OUT/log &";
    let action = format!("Exec('{stubborn} setsid {stubborn} sleep 1000')");
    site.config(
        "a.twc",
        &format!("RegisterWatch('/n', {action}, name='n', timeout=1, kill_after=1)"),
    );
    let daemon = site.start();
    daemon.wait("started", message("n", "run started"));
    until("it runs", || site.lines("out/log").len() == 2);
    daemon.crash();
    let left: Vec<Pid> = site
        .lines("out/log")
        .iter()
        .map(|pid| Pid::from_raw(pid.parse().unwrap()))
        .collect();
    assert!(left.iter().all(|pid| alive(*pid)));
    site.config(
        "a.twc",
        "RegisterWatch('/n', Exec('true'), name='n', timeout=1, kill_after=1)",
    );
    let daemon = site.start();
    daemon.wait_runs("n", 1);
    assert!(!left.iter().any(|pid| alive(*pid)), "left behind");
}

#[test]
fn shutdown_lets_runs_end() {
    let site = Site::new();
    site.set("/n", "1");
    site.config("a.twc", &format!("RegisterWatch('/n', {GATED}, name='n')"));
    let mut daemon = site.start();
    until("it runs", || site.lines("out/log").len() == 1);
    site.set("/n", "2");
    daemon.signal(Signal::SIGTERM);
    daemon.wait("stopping", |line| line["message"] == "stopping");
    go(&site, "1");
    assert_eq!(daemon.ended().code(), Some(0));
    assert_eq!(site.lines("out/log"), ["start 1", "end 1"]);
}

#[test]
fn shutdown_terminates_what_takes_too_long() {
    let site = Site::new();
    site.set("/n", "1");
    site.config(
        "a.twc",
        "RegisterWatch('/n', Exec('echo $$ > OUT/pid; exec sleep 1000'), name='n')",
    );
    let tree = site.path("tree");
    let mut daemon = site.start_with(&["--tree", &tree.to_string_lossy(), "--drain-timeout", "0.3"]);
    until("it runs", || site.read("out/pid").ends_with('\n'));
    daemon.signal(Signal::SIGINT);
    assert_eq!(daemon.ended().code(), Some(4));
    assert!(!alive(Pid::from_raw(site.read("out/pid").trim().parse().unwrap())));
}

#[test]
fn no_action_delays_another_watch() {
    let site = Site::new();
    let hostile = [
        "yes",
        "exec cat /dev/zero",
        "while :; do :; done",
        "sleep 1000",
        "kill -STOP $$",
        "exec >&- 2>&- <&-; sleep 1000",
        "while :; do echo x >&2; done",
    ];
    for (index, script) in hostile.iter().enumerate() {
        site.set(&format!("/h/{index}"), &"x".repeat(1_000_000));
        site.config(
            &format!("h{index}.twc"),
            &format!("RegisterWatch('/h/{index}', Exec({script:?}), name='h{index}')"),
        );
    }
    site.set("/n", "0");
    site.config(
        "n.twc",
        "RegisterWatch('/n', Exec('cat >> OUT/log; echo >> OUT/log'), name='n')",
    );
    let daemon = site.start();
    for index in 0..hostile.len() {
        daemon.wait("hostile action runs", message(&format!("h{index}"), "run started"));
    }
    let begin = Instant::now();
    for round in 1..=20 {
        site.set("/n", &round.to_string());
        until("it is handled", || site.lines("out/log").len() == round + 1);
    }
    // Generous, as both cores are kept busy; the point is that none of it waits for the others.
    assert!(
        begin.elapsed() < Duration::from_secs(15),
        "{:?} for 20 changes",
        begin.elapsed()
    );
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.pid())).unwrap();
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kib: u64 = rss.trim().trim_end_matches(" kB").trim().parse().unwrap();
    assert!(kib < 200_000, "{kib} KiB resident");
}

#[test]
fn nothing_leaks() {
    let site = Site::new();
    site.set("/n", "0");
    site.config(
        "a.twc",
        "RegisterWatch('/n', Exec('cat >> OUT/log; echo >> OUT/log; setsid -f true'), name='n')",
    );
    let daemon = site.start();
    daemon.wait_runs("n", 1);
    let descriptors = || fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count();
    until("it is quiet", || children(daemon.pid()).len() == 1);
    let before = descriptors();
    for round in 1..=100 {
        site.set("/n", &round.to_string());
        daemon.wait_runs("n", round + 1);
    }
    until("no zombie and no child but the launcher is left", || {
        children(daemon.pid()).len() == 1
    });
    until("no descriptor is left", || descriptors() <= before);
}

#[test]
fn data_of_a_znode_is_never_logged() {
    let site = Site::new();
    site.set("/n", "hunter2-secret");
    site.config("a.twc", "RegisterWatch('/n', Exec('cat > OUT/log'), name='n')");
    let tree = site.path("tree");
    let daemon = site.start_with(&["--tree", &tree.to_string_lossy(), "--debug"]);
    daemon.wait_runs("n", 1);
    site.set("/n", "hunter2-other");
    daemon.wait_runs("n", 2);
    assert!(!daemon.text().contains("hunter2"), "{}", daemon.text());
}

#[test]
fn configuration_that_others_may_write_is_refused_as_root() {
    let site = Site::new();
    site.set("/n", "1");
    site.config("good.twc", "RegisterWatch('/n', Exec('true'), name='good')");
    site.config("bad.twc", "RegisterWatch('/n', Exec('true'), name='bad')");
    fs::set_permissions(site.path("conf/bad.twc"), fs::Permissions::from_mode(0o666)).unwrap();
    let daemon = site.start();
    daemon.wait("refused", |line| {
        line["level"] == "ERROR"
            && line["message"]
                .as_str()
                .is_some_and(|m| m.contains("0666") || m.contains("666"))
    });
    daemon.wait_runs("good", 1);
    assert_eq!(daemon.count(message("bad", "")), 0);
}

#[test]
fn the_log_file_is_opened_anew_on_sighup() {
    let site = Site::new();
    let (log, old) = (site.path("log"), site.path("log.1"));
    let mut child = Command::new(env!("CARGO_BIN_EXE_twitcher"))
        .args(["run", "--tree"])
        .arg(site.path("tree"))
        .arg("--config")
        .arg(site.path("conf"))
        .arg("--state-dir")
        .arg(site.path("state"))
        .arg("--logfile")
        .arg(&log)
        .spawn()
        .unwrap();
    let loaded = || {
        fs::read_to_string(&log)
            .unwrap_or_default()
            .contains("configuration loaded")
    };
    until("it logs", loaded);
    fs::rename(&log, &old).unwrap();
    kill(Pid::from_raw(child.id() as i32), Signal::SIGHUP).unwrap();
    until("it logs to the new file", loaded);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn it_goes_into_the_background_with_a_locked_pid_file() {
    let site = Site::new();
    site.set("/n", "1");
    site.config("a.twc", "RegisterWatch('/n', Exec('cat > OUT/log'), name='n')");
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twitcher"));
        command
            .args(["run", "--daemonize", "--tree"])
            .arg(site.path("tree"))
            .arg("--config")
            .arg(site.path("conf"));
        command
            .arg("--pidfile")
            .arg(site.path("pid"))
            .arg("--state-dir")
            .arg(site.path("state"))
            .arg("--logfile")
            .arg(site.path("log"));
        command.output().unwrap()
    };
    assert_eq!(run().status.code(), Some(0));
    until("it runs", || {
        site.read("out/log") == "1" && site.read("pid").ends_with('\n')
    });
    let pid: i32 = site.read("pid").trim().parse().unwrap();
    let second = run();
    assert_eq!(second.status.code(), Some(3));
    assert!(
        String::from_utf8_lossy(&second.stderr).contains(&format!("(pid {pid})")),
        "{second:?}"
    );
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    until("it is gone and its pid file with it", || {
        !alive(Pid::from_raw(pid)) && !site.path("pid").exists()
    });
}

#[test]
fn what_cannot_start_says_why_and_with_which_code() {
    let run = |arguments: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_twitcher"))
            .args(arguments)
            .env_remove("TWITCHER_ZK")
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&output.stderr).into_owned(),
        )
    };
    assert_eq!(run(&["run", "--no-such-flag"]).0, Some(2));
    let (code, text) = run(&["run", "--config", "/"]);
    assert!(code == Some(3) && text.contains("--zk"), "{text}");
    let (code, text) = run(&["run", "--tree", "/", "--config", "/no/such/path"]);
    assert!(code == Some(3) && text.contains("/no/such/path"), "{text}");
    let (code, text) = run(&["run", "--zk", "host:port", "--config", "/"]);
    assert!(code == Some(3) && text.contains("port"), "{text}");
    let (code, text) = run(&["run", "--tree", "/", "--config", "/", "--logfile", "/no/such/dir/log"]);
    assert!(code == Some(3) && text.contains("/no/such/dir/log"), "{text}");
}

#[test]
fn the_demo_shows_both_reacting() {
    let output = Command::new(env!("CARGO_BIN_EXE_twitcher"))
        .arg("demo")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        text.contains("pulling 9d03b7e") && text.contains("listen = 8080"),
        "{text}"
    );
}
