//! Programs that stay (`service = True`), and data in a file (`data_file`).

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde_json::Value;

use super::message;
use crate::control::Controlled;
use crate::support::daemon::{Daemon, PROGRAM, Site, alive};
use crate::support::until;

/// Says which data it has been started with, and its process id, and stays.
const STAYS: &str = r#"Exec("echo $$ > OUT/pid; echo \"$(cat) $TWITCHER_EVENT\" >> OUT/log; exec sleep 1000")"#;

fn pid(site: &Site) -> Pid {
    Pid::from_raw(site.read("out/pid").trim().parse().unwrap())
}

fn started(watch: &str) -> impl Fn(&Value) -> bool + '_ {
    message(watch, "run started")
}

#[test]
fn a_service_is_up_once_it_has_stayed_and_its_replacement_is_no_failure() {
    let site = Site::new();
    site.set("/n", "1");
    site.config(
        "a.twc",
        &format!(
            "RegisterWatch('/n', {STAYS}, name='s', run_mode=RESTART, service=True, ready_after=0.2, kill_after=5)"
        ),
    );
    let daemon = Controlled::start(&site);
    let up = daemon.until_state("s", "up");
    assert!(up["why"].as_str().unwrap().starts_with("up "), "{up}");
    assert!(!up["up_since"].is_null() && up["behind_since"].is_null(), "{up}");
    assert_eq!(up["handled"]["zxid"], up["seen"]["zxid"]);
    let first = pid(&site);
    site.set("/n", "2");
    let ended = daemon.daemon.wait_runs("s", 1).remove(0);
    assert_eq!(
        (&ended["outcome"], &ended["level"]),
        (&"terminated".into(), &"INFO".into())
    );
    daemon.daemon.wait_for(2, "up again", message("s", "the service is up"));
    let up = daemon.until_state("s", "up");
    assert_eq!(up["last_run"]["success"], true, "{up}");
    assert!(!alive(first));
    assert_eq!(site.lines("out/log"), ["1 load", "2 data"]);
    let metrics = daemon.get("/metrics").body;
    assert!(metrics.contains("twitcher_watches{state=\"up\"} 1"), "{metrics}");
    assert!(metrics.contains("twitcher_watches_behind 0"), "{metrics}");

    // Its own end is a failure, after which it is started again.
    kill(pid(&site), Signal::SIGTERM).unwrap();
    daemon.daemon.wait("retry", message("s", "retry 1 of 1000000"));
    daemon.daemon.wait_for(3, "up again", message("s", "the service is up"));
    assert_eq!(site.lines("out/log").last().unwrap(), "2 retry");

    // Whose watch is gone is not wanted any more.
    let last = pid(&site);
    site.config("a.twc", "");
    until("it was terminated", || !alive(last));
}

#[test]
fn a_daemon_that_stops_does_not_wait_for_what_stays() {
    let site = Site::new();
    site.set("/n", "1");
    site.config(
        "a.twc",
        &format!("RegisterWatch('/n', {STAYS}, name='s', run_mode=RESTART, service=True, ready_after=0)"),
    );
    let daemon = site.start();
    daemon.wait("up", message("s", "the service is up"));
    let begin = Instant::now();
    assert_eq!(daemon.stop().code(), Some(0));
    assert!(begin.elapsed() < Duration::from_secs(25), "less than --drain-timeout");
    assert!(!alive(pid(&site)));
}

#[test]
fn the_service_of_a_killed_daemon_goes_on() {
    let site = Site::new();
    site.set("/n", "1");
    let config = format!(
        "RegisterWatch('/n', {STAYS}, name='s', run_mode=RESTART, service=True, ready_after=0.1, run_on_load=IF_CHANGED)"
    );
    site.config("a.twc", &config);
    let daemon = site.start();
    daemon.wait("up", message("s", "the service is up"));
    let first = pid(&site);
    daemon.crash();
    let daemon = Controlled::start(&site);
    let up = daemon.until_state("s", "up");
    assert!(alive(first), "{up}");
    assert_eq!(daemon.daemon.count(started("s")), 0);
    kill(first, Signal::SIGKILL).unwrap();
    daemon.daemon.wait("started again", started("s"));
    daemon.until_state("s", "up");
    assert_eq!(site.lines("out/log"), ["1 load", "1 retry"]);
}

/// Has its data as [`TELLS`], and is told by SIGHUP.
fn told_service(more: &str) -> String {
    format!(
        "RegisterWatch('/n', {TELLS}, name='s', notify_signal=SIGHUP, service=True, ready_after=0.1, data_file='OUT/dir/config'{more})"
    )
}

#[test]
fn what_a_killed_daemon_left_is_told_of_newer_data_and_goes_on_for_what_it_was_told_of() {
    let site = Site::new();
    site.set("/n", "one");
    fs::create_dir(site.path("out/dir")).unwrap();
    site.config("a.twc", &told_service(""));
    let daemon = site.start();
    daemon.wait("up", message("s", "the service is up"));
    daemon.crash();
    let daemon = Controlled::start(&site);
    daemon.until_state("s", "up");
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    site.set("/n", "two");
    until("it was told", || site.lines("out/log") == ["one", "two"]);
    daemon.daemon.wait_for(2, "up again", message("s", "the service is up"));
    crate::state::until_stored(&site, &format!("SELECT handled_at > {before} FROM watch"));
    daemon.daemon.crash();
    // Once more: what it was told of by the last daemon is what it is for.
    let daemon = Controlled::start(&site);
    daemon.until_state("s", "up");
    site.set("/n", "three");
    until("it was told", || site.lines("out/log") == ["one", "two", "three"]);
    assert_eq!(daemon.daemon.count(started("s")), 0, "it was never replaced");
}

#[test]
fn what_a_killed_daemon_left_is_replaced_if_its_watch_is_defined_anew_and_ended_if_that_is_gone() {
    let site = Site::new();
    site.set("/n", "1");
    let config = |value| {
        format!(
            "RegisterWatch('/n', {STAYS}, name='s', run_mode=RESTART, service=True, ready_after=0.1, env={{'V': '{value}'}})"
        )
    };
    site.config("a.twc", &config("old"));
    let daemon = site.start();
    daemon.wait("up", message("s", "the service is up"));
    let first = pid(&site);
    daemon.crash();
    site.config("a.twc", &config("new"));
    let daemon = Controlled::start(&site);
    daemon.until_state("s", "up");
    assert!(!alive(first));
    let second = pid(&site);
    assert!(alive(second));
    daemon.daemon.crash();
    // In a file that cannot be loaded it may still be there.
    site.config("a.twc", "RegisterWatch(");
    let daemon = site.start();
    daemon.wait("it is left alone", |line| {
        line["message"]
            .as_str()
            .is_some_and(|text| text.contains("its watch is not in the configuration"))
    });
    assert!(alive(second));
    site.config("a.twc", "");
    until("it is terminated", || !alive(second));
    drop(daemon);
}

#[test]
fn once_a_service_is_through_when_it_is_up() {
    let site = Site::new();
    site.set("/n", "1");
    site.config(
        "a.twc",
        &format!("RegisterWatch('/n', {STAYS}, name='s', run_mode=RESTART, service=True, ready_after=0.1)"),
    );
    let (tree, state) = (site.path("tree"), site.path("state"));
    let arguments = [
        "--tree",
        tree.to_str().unwrap(),
        "--state-dir",
        state.to_str().unwrap(),
        "--once",
    ];
    let mut daemon = Daemon::spawn(std::path::Path::new(PROGRAM), &site.path("conf"), &arguments, &[]);
    assert_eq!(daemon.ended().code(), Some(0), "{}", daemon.text());
    assert_eq!(site.lines("out/log"), ["1 load"]);
    assert!(!alive(pid(&site)));
}

/// Says what its file has at its start and at each SIGHUP.
const TELLS: &str = r#"Exec("trap 'cat OUT/dir/config >> OUT/log; echo >> OUT/log' HUP; cat OUT/dir/config >> OUT/log; echo >> OUT/log; while :; do sleep 0.01; done")"#;

#[test]
fn a_service_finds_the_newest_data_in_its_file_when_it_is_told() {
    let site = Site::new();
    site.set("/n", "one");
    fs::create_dir(site.path("out/dir")).unwrap();
    let is_root = geteuid().is_root();
    let user = if is_root { ", uid='nobody'" } else { "" };
    if is_root {
        for dir in ["", "out"] {
            fs::set_permissions(site.path(dir), fs::Permissions::from_mode(0o777)).unwrap();
        }
        chown(site.path("out/dir"), Some(65534), None).unwrap();
    }
    site.config(
        "a.twc",
        &format!(
            "RegisterWatch('/n', {TELLS}, name='s', notify_signal=SIGHUP, service=True, ready_after=0.2, data_file='OUT/dir/config', umask='027', pipe_stdin=False, on_failure=Retry(times=1000, initial=0.1, max_delay=0.1){user})"
        ),
    );
    let daemon = Controlled::start(&site);
    daemon.until_state("s", "up");
    site.set("/n", "two");
    until("it was told", || site.lines("out/log") == ["one", "two"]);
    daemon.daemon.wait_for(2, "up again", message("s", "the service is up"));
    let file = fs::metadata(site.path("out/dir/config")).unwrap();
    assert_eq!(file.mode() & 0o777, 0o640);
    assert_eq!(file.uid(), if is_root { 65534 } else { geteuid().as_raw() });
    assert_eq!(
        fs::read_dir(site.path("out/dir")).unwrap().count(),
        1,
        "no draft is left"
    );
    assert_eq!(daemon.daemon.count(started("s")), 1);

    // Where the file cannot be written it is not told, goes on as it was, and is told as soon as that is possible.
    fs::rename(site.path("out/dir"), site.path("out/gone")).unwrap();
    site.set("/n", "three");
    daemon.daemon.wait(
        "not told",
        message(
            "s",
            "the running action is not told of a newer update: cannot write the data file",
        ),
    );
    let behind = daemon.until_state("s", "backing_off");
    assert!(
        behind["why"].as_str().unwrap().contains("cannot write the data file"),
        "{behind}"
    );
    assert_eq!(site.lines("out/log"), ["one", "two"]);
    fs::rename(site.path("out/gone"), site.path("out/dir")).unwrap();
    until("it was told", || site.lines("out/log") == ["one", "two", "three"]);
    daemon.until_state("s", "up");
    assert_eq!(daemon.daemon.count(started("s")), 1, "it was never started anew");
}

#[test]
fn any_action_finds_its_data_in_the_file_and_fails_where_that_cannot_be_written() {
    let site = Site::new();
    site.set("/n", "one");
    fs::create_dir(site.path("out/ours")).unwrap();
    site.config(
        "a.twc",
        r#"
def function():
    open("OUT/function", "w").write(open("OUT/ours/f").read())

RegisterWatch("/n", Exec("cat OUT/ours/e > OUT/exec; cat > OUT/stdin"), name="exec", data_file="OUT/ours/e")
RegisterWatch("/n", function, name="function", data_file="OUT/ours/f", payload=JSON)
RegisterWatch("/n", Exec("true"), name="nowhere", data_file="OUT/none/x")
RegisterWatch("/n", Exec("true"), name="theirs", data_file="OUT/theirs/link/x")
"#,
    );
    if geteuid().is_root() {
        fs::create_dir(site.path("out/theirs")).unwrap();
        symlink(site.path("out/ours"), site.path("out/theirs/link")).unwrap();
        chown(site.path("out/theirs"), Some(4711), None).unwrap();
    }
    let daemon = site.start();
    for name in ["exec", "function", "nowhere", "theirs"] {
        daemon.wait_runs(name, 1);
    }
    assert_eq!(
        (site.read("out/exec"), site.read("out/stdin")),
        ("one".into(), "one".into())
    );
    let told: Value = serde_json::from_str(&site.read("out/function")).unwrap();
    assert_eq!(told["data"], "one");
    let outcome = |name| daemon.wait_runs(name, 1)[0]["outcome"].as_str().unwrap().to_owned();
    let nowhere = outcome("nowhere");
    assert!(
        nowhere.starts_with("cannot write the data file ")
            && nowhere.ends_with("none/x: No such file or directory (os error 2)"),
        "{nowhere}"
    );
    if geteuid().is_root() {
        let theirs = outcome("theirs");
        assert!(
            theirs.ends_with("theirs/link/x: Operation not permitted (os error 1)"),
            "{theirs}"
        );
        daemon.wait("which link", |line| {
            line["watch"] == "theirs"
                && line["message"]
                    .as_str()
                    .is_some_and(|text| text.contains("is a link that user 4711 can replace"))
        });
        assert!(!site.path("out/ours/x").exists());
    }
}

#[test]
fn a_notify_signal_comes_after_the_newest_data() {
    let site = Site::new();
    site.set("/n", "1");
    fs::create_dir(site.path("out/dir")).unwrap();
    site.config(
        "a.twc",
        r#"RegisterWatch("/n", Exec("trap 'cat OUT/dir/config >> OUT/log; echo >> OUT/log' USR1; echo ready >> OUT/log; while [ ! -e OUT/go ]; do sleep 0.01; done"), notify_signal=SIGUSR1, name="n", data_file="OUT/dir/config")"#,
    );
    let daemon = site.start();
    until("it is ready", || site.lines("out/log").len() == 1);
    for (count, data) in ["2", "3", "4"].iter().enumerate() {
        site.set("/n", data);
        until("the action was told", || site.lines("out/log").len() == 2 + count);
    }
    assert_eq!(site.lines("out/log"), ["ready", "2", "3", "4"]);
    site.write("out/go", "");
    daemon.wait_runs("n", 2);
}

#[test]
fn of_many_changes_the_newest_is_what_is_left() {
    let site = Site::new();
    site.set("/n", "0");
    fs::create_dir(site.path("out/dir")).unwrap();
    // In one write: it may be terminated at any time.
    let action = r#"Exec("echo $(cat OUT/dir/config) >> OUT/log; exec sleep 1000")"#;
    site.config(
        "a.twc",
        &format!("RegisterWatch('/n', {action}, name='s', run_mode=RESTART, service=True, ready_after=0.1, data_file='OUT/dir/config')"),
    );
    let daemon = Controlled::start(&site);
    for round in 1..=60 {
        site.set("/n", &round.to_string());
        if round % 7 == 0 {
            let line = format!("{round}");
            until("it runs for this one", || site.lines("out/log").last() == Some(&line));
        }
    }
    until("it runs for the last", || {
        site.lines("out/log").last().is_some_and(|last| last == "60")
    });
    daemon.until_state("s", "up");
    assert_eq!(site.read("out/dir/config"), "60");
    // No run has found what was written for an earlier one.
    let log: Vec<u32> = site.lines("out/log").iter().map(|line| line.parse().unwrap()).collect();
    assert!(log.is_sorted(), "{log:?}");
}

#[test]
fn a_dry_run_starts_nothing_and_decides_as_if_it_had() {
    let site = Site::new();
    site.set("/n", "1");
    site.config(
        "a.twc",
        &format!(
            "RegisterWatch('/n', {STAYS}, name='r', run_mode=RESTART, service=True, ready_after=0.1)\n\
             RegisterWatch('/n', {STAYS}, name='q', notify_signal=SIGHUP, service=True, ready_after=0, data_file='OUT/file')\n"
        ),
    );
    let tree = site.path("tree");
    let daemon = site.start_with(&["--tree", tree.to_str().unwrap(), "--dry-run"]);
    for name in ["r", "q"] {
        daemon.wait("would run", message(name, "would run"));
    }
    site.set("/n", "2");
    daemon.wait_for(2, "would run again", message("r", "would run"));
    daemon.wait("would tell", message("q", "telling the running action"));
    assert_eq!(daemon.stop().code(), Some(0));
    assert_eq!(fs::read_dir(site.path("out")).unwrap().count(), 0);
}
