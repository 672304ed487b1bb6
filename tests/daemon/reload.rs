//! Configuration that changes under a running daemon.

use std::fs;

use nix::sys::signal::Signal;

use super::{GATED, go, message};
use crate::support::daemon::Site;
use crate::support::until;

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
