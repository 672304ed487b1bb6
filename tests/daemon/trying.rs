//! Trying before trusting: `run --once`, `run --dry-run`, `check --against`.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::daemon::{Daemon, PROGRAM, Site};
use crate::support::guests::guest;
use crate::support::until;
use crate::support::zookeeper::{ZooKeeperServer, unique_path};

/// A daemon on the tree, with these arguments, of which only the end is of interest.
fn spawn(site: &Site, arguments: &[&str]) -> Daemon {
    let (tree, state) = (site.path("tree"), site.path("state"));
    let own = ["--tree", tree.to_str().unwrap(), "--state-dir", state.to_str().unwrap()];
    Daemon::spawn(Path::new(PROGRAM), &site.path("conf"), &[&own, arguments].concat(), &[])
}

fn once(site: &Site) -> (Option<i32>, Daemon) {
    let mut daemon = spawn(site, &["--once"]);
    (daemon.ended().code(), daemon)
}

#[test]
fn once_runs_for_the_state_now_and_ends() {
    let site = Site::new();
    site.set("/a", "1");
    site.set("/b", "1");
    site.config(
        "a.twc",
        "RegisterWatch('/a', Exec('cat >> OUT/a'), name='a')\n\
         RegisterWatch('/b', Exec('cat >> OUT/b'), name='b', run_on_load=IF_CHANGED)\n\
         RegisterWatch('/none', Exec('echo >> OUT/none'), name='none')\n\
         def f():\n  open('OUT/f', 'w').write(stdin())\n\
         RegisterWatch('/a', f, name='f')\n",
    );
    let (code, daemon) = once(&site);
    assert_eq!(code, Some(0), "{}", daemon.text());
    assert_eq!(
        (site.read("out/a"), site.read("out/b"), site.read("out/f")),
        ("1".into(), "1".into(), "1".into())
    );
    assert!(!site.path("out/none").exists());
    // What IF_CHANGED remembers is remembered.
    assert_eq!(once(&site).0, Some(0));
    assert_eq!((site.read("out/a"), site.read("out/b")), ("11".into(), "1".into()));
    site.set("/b", "2");
    assert_eq!(once(&site).0, Some(0));
    assert_eq!(site.read("out/b"), "12");
}

#[test]
fn once_tries_again_and_tells_the_worst_outcome() {
    let site = Site::new();
    site.set("/a", "x");
    site.config(
        "a.twc",
        "RegisterWatch('/a', Exec('echo >> OUT/tries; test $(wc -l < OUT/tries) = 3'), name='third', \
         on_failure=Retry(times=5, initial=0.01))\n",
    );
    let (code, daemon) = once(&site);
    assert_eq!((code, site.lines("out/tries").len()), (Some(0), 3), "{}", daemon.text());
    site.config(
        "b.twc",
        "RegisterWatch('/a', Exec('exit 7'), name='never', on_failure=Retry(times=2, initial=0.01))\n",
    );
    site.config("c.twc", "RegisterWatch('/a', Exec('touch OUT/c'), name='fine')\n");
    let (code, daemon) = once(&site);
    assert_eq!(code, Some(1), "{}", daemon.text());
    assert_eq!(
        daemon.count(|line| line["message"] == "run ended" && line["watch"] == "never"),
        3
    );
    daemon.wait("which it was", |line| {
        line["message"] == "its action has not succeeded" && line["watch"] == "never"
    });
    assert!(
        site.path("out/c").exists(),
        "one that fails keeps no other from running"
    );
}

#[test]
fn once_is_no_success_with_a_file_refused_a_znode_unread_or_a_signal() {
    let site = Site::new();
    site.set("/a", "x");
    site.config("a.twc", "RegisterWatch('/a', Exec('touch OUT/a'))\n");
    site.config("b.twc", "RegisterWatch('/a', Exek('true'))\n");
    let (code, daemon) = once(&site);
    assert_eq!(code, Some(1), "{}", daemon.text());
    assert!(site.path("out/a").exists());
    fs::remove_file(site.path("conf/b.twc")).unwrap();

    let server = ZooKeeperServer::shared();
    let digest = site.path("digest");
    fs::write(&digest, "owner:secret\n").unwrap();
    let path = unique_path("unread");
    let created = Command::new(PROGRAM)
        .args([
            "znode",
            "create",
            &path,
            "x",
            "--zk",
            &server.address(),
            "--zk-digest-file",
        ])
        .arg(&digest)
        .status();
    assert!(created.unwrap().success());
    site.config(
        "a.twc",
        &format!("RegisterWatch('{path}', Exec('touch OUT/never'), name='closed')\n"),
    );
    let (address, state) = (server.address(), site.path("state"));
    let arguments = ["--once", "--zk", &address, "--state-dir", state.to_str().unwrap()];
    let mut daemon = Daemon::spawn(Path::new(PROGRAM), &site.path("conf"), &arguments, &[]);
    assert_eq!(daemon.ended().code(), Some(1), "{}", daemon.text());
    daemon.wait("which it was", |line| {
        line["watch"] == "closed" && line["message"] == "the znode could not be read, so its action has not run"
    });

    site.config(
        "a.twc",
        "RegisterWatch('/a', Exec('echo started; exec sleep 1000'), name='long', kill_after=1)\n",
    );
    let mut daemon = spawn(&site, &["--once", "--drain-timeout", "0.1"]);
    daemon.wait("it runs", |line| line["message"] == "started");
    daemon.signal(Signal::SIGTERM);
    assert_eq!(daemon.ended().code(), Some(4), "{}", daemon.text());
    daemon.wait("that it was not through", |line| {
        line["message"] == "stopped before every watch was handled"
    });
}

#[test]
fn once_has_nothing_to_do_without_watches() {
    let site = Site::new();
    let mut daemon = spawn(&site, &["--once"]);
    assert_eq!(daemon.ended().code(), Some(0), "{}", daemon.text());
}

#[test]
fn a_dry_run_decides_and_starts_nothing_beside_the_daemon_that_runs() {
    let site = Site::new();
    site.set("/a", "1");
    site.set("/b", "1");
    let text = "RegisterWatch('/a', Exec('echo >> OUT/a'), name='a')\n\
         RegisterWatch('/b', Exec('echo >> OUT/b'), name='b', run_on_load=IF_CHANGED)\n\
         def f():\n  open('OUT/f', 'w').write('')\n";
    site.config("a.twc", text);
    let daemon = site.start();
    daemon.wait_runs("a", 1);
    daemon.wait_runs("b", 1);
    until("it is written down", || {
        // The database is written a moment after the run.
        let look = Command::new(PROGRAM)
            .args(["run", "--dry-run", "--once", "--tree"])
            .arg(site.path("tree"))
            .arg("--config")
            .arg(site.path("conf"))
            .arg("--state-dir")
            .arg(site.path("state"))
            .output()
            .unwrap();
        String::from_utf8(look.stderr).unwrap().contains("unchanged=1")
    });
    let new = format!(
        "{text}RegisterWatch('/a', f, name='f')\nRegisterWatch('/a', Exec('rm -rf OUT'), settle=0.05, name='rm')\n"
    );
    site.write("staged/a.twc", &new.replace("OUT", site.path("out").to_str().unwrap()));
    let (tree, state) = (site.path("tree"), site.path("state"));
    let arguments = [
        "--dry-run",
        "--tree",
        tree.to_str().unwrap(),
        "--state-dir",
        state.to_str().unwrap(),
    ];
    let dry = Daemon::spawn(Path::new(PROGRAM), &site.path("staged"), &arguments, &[]);
    let would = |name: &str, event: &str| {
        dry.wait("what would run", |line| {
            line["message"] == "would run" && line["watch"] == name && line["event"] == event
        })
    };
    for name in ["a", "f", "rm"] {
        would(name, "load");
    }
    assert!(would("rm", "load")["action"].as_str().unwrap().starts_with("rm -rf "));
    dry.wait("that b is as it was", |line| {
        line["message"] == "all watches are armed" && line["unchanged"] == 1
    });
    site.set("/b", "2");
    would("b", "data");
    daemon.wait_runs("b", 2);
    site.set("/b", "3");
    dry.wait_for(2, "each change is decided on", |line| {
        line["message"] == "would run" && line["watch"] == "b"
    });
    daemon.wait_runs("b", 3);
    assert_eq!(dry.count(|line| line["message"] == "run started"), 0);
    assert!(dry.stop().success());
    assert_eq!(
        (site.lines("out/a").len(), site.lines("out/b").len()),
        (1, 3),
        "by the daemon alone"
    );
    assert!(!site.path("out/f").exists());
    // And where there is no state none is made.
    let output = Command::new(PROGRAM)
        .args(["run", "--dry-run", "--once", "--tree"])
        .arg(site.path("tree"))
        .arg("--config")
        .arg(site.path("staged"))
        .arg("--state-dir")
        .arg(site.path("nothing"))
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(!site.path("nothing").exists());
}

#[test]
fn what_a_reload_would_do_is_told_and_not_done() {
    let site = Site::new();
    for znode in ["/a", "/b", "/c", "/p"] {
        site.set(znode, "1");
    }
    // A function is all of its file's text, so it is in one of its own.
    let function = "def f():\n  print('f')\nRegisterWatch('/a', f, name='function')\n";
    let text = "RegisterWatch('/a', Exec('true'), name='kept')\n\
         RegisterWatch('/b', Exec('true'), name='changed')\n\
         RegisterWatch('/c', Exec('true'), name='removed')\n\
         RegisterWatch('/p', Exec('false'), name='parked', on_failure=STOP)\n";
    site.config("f.twc", function);
    site.config("a.twc", text);
    let socket = site.path("control.sock");
    let tree = site.path("tree");
    let daemon = site.start_with(&["--tree", tree.to_str().unwrap(), "--control", socket.to_str().unwrap()]);
    for name in ["kept", "function", "changed", "removed", "parked"] {
        daemon.wait_runs(name, 1);
    }
    let check = |directory: &str, more: &[&str]| {
        let output = Command::new(PROGRAM)
            .arg("check")
            .arg(site.path(directory))
            .arg("--against")
            .arg(&socket)
            .args(more)
            .output();
        output.unwrap()
    };
    let staged = text
        .replace(
            "Exec('true'), name='changed'",
            "Exec('true'), timeout=5, name='changed'",
        )
        .replace(
            "RegisterWatch('/c', Exec('true'), name='removed')\n",
            "RegisterWatch('/new', Exec('true'), name='new')\n",
        );
    site.write(
        "staged/a.twc",
        &format!("# Below another line, in another directory.\n{staged}"),
    );
    site.write("staged/f.twc", function);
    let output = check("staged", &["--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
    let one = |name: &str, znode: &str, runs: &str| json!([{"name": name, "znode": znode, "runs": runs}]);
    assert_eq!(
        plan["against"],
        json!({
            "added": one("new", "/new", "if_exists"),
            "changed": one("changed", "/b", "now"),
            "removed": one("removed", "/c", "never"),
            "resumed": one("parked", "/p", "now"),
            "unchanged": 2,
        })
    );
    let text = String::from_utf8(check("staged", &[]).stdout).unwrap();
    assert_eq!(
        text,
        "a reload would\n  add     new      runs if /new exists\n  change  changed  runs now\n  remove  removed  runs no more\n  \
         resume  parked   runs now\nand leave 2 watches as they are\n"
    );
    assert_eq!(
        daemon.count(|line| line["message"] == "configuration loaded"),
        1,
        "nothing was done"
    );
    // With errors there is nothing to compare.
    site.write("wrong/a.twc", "RegisterWatch('/a')\n");
    let output = check("wrong", &[]);
    assert_eq!(
        (output.status.code(), output.stdout.starts_with(b"a reload")),
        (Some(1), false)
    );
    // Of two files that use one name the daemon knows whose it is, as a reload does.
    site.write("conf/0.twc", "RegisterWatch('/b', Exec('true'), name='changed')\n");
    let output = check("conf", &[]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let at_fault: Vec<&str> = errors
        .lines()
        .filter(|line| line.contains("is already taken by"))
        .collect();
    assert!(
        at_fault.len() == 1 && at_fault[0].contains("conf/0.twc:1:1: "),
        "{errors}"
    );
    assert!(
        String::from_utf8(output.stdout).unwrap().contains("kept"),
        "the other file is in force"
    );
    drop(daemon);
    assert_eq!(check("staged", &[]).status.code(), Some(5));
}

#[test]
fn check_notes_what_is_not_there() {
    let site = Site::new();
    let check = || {
        let output = Command::new(PROGRAM)
            .arg("check")
            .arg(site.path("conf"))
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let told = check();
    assert!(
        told.contains("conf: has no configuration file") && told.contains(".twc or .json"),
        "{told}"
    );
    let component = guest("echo");
    site.config(
        "a.twc",
        &format!(
            "RegisterWatch('/a', Exec('x', read_only=['/none', '/tmp']), name='exec')\n\
             RegisterWatch('/b', Wasm('{}', dirs={{'/out': 'OUT/none:rw', '/there': 'OUT'}}), name='component')\n",
            component.display()
        ),
    );
    let told = check();
    assert!(!told.contains("no configuration file"), "{told}");
    let notes: Vec<&str> = told.lines().filter(|line| line.contains("does not exist")).collect();
    assert_eq!(notes.len(), 2, "{told}");
    assert!(
        notes[0].contains("a.twc:1:1: read_only: /none does not exist"),
        "{told}"
    );
    assert!(
        notes[1].contains("a.twc:2:1: dirs \"/out\": ") && notes[1].contains("out/none does not exist"),
        "{told}"
    );
}
