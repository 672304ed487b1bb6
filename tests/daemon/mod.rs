//! The daemon on a directory tree: run modes, reload, shutdown, and what it says about them.

mod files;
mod hardening;
mod life;
mod payload;
mod reload;
mod run_modes;
mod services;
mod several;
mod shortage;
mod trying;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::daemon::{Daemon, Site, children};
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
