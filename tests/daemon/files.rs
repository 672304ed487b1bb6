//! Directories that are exchanged under the daemon, and a machine on which none can be watched.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use nix::sys::signal::Signal;

use crate::support::daemon::{Daemon, Site};

/// A watch of `/n` whose runs are of this name.
fn watch(site: &Site, file: &str, name: &str) {
    site.write(file, &format!("RegisterWatch('/n', Exec('true'), name='{name}')"));
}

fn loads(daemon: &Daemon) -> usize {
    daemon.count(|line| line["message"] == "configuration loaded")
}

#[test]
fn configuration_behind_directories_that_are_exchanged_is_followed() {
    let site = Site::new();
    site.set("/n", "1");
    watch(&site, "releases/1/conf/a.twc", "first");
    symlink("releases/1/conf", site.path("link")).unwrap();
    let tree = site.path("tree");
    let daemon = Daemon::start(
        &site.path("link"),
        &[
            "--tree",
            &tree.to_string_lossy(),
            "--state-dir",
            &site.path("state").to_string_lossy(),
        ],
    );
    daemon.wait_runs("first", 1);
    // The directory that the link leads into is moved away, and made again.
    fs::rename(site.path("releases"), site.path("old")).unwrap();
    watch(&site, "releases/1/conf/a.twc", "second");
    daemon.wait_runs("second", 1);
    // The target is removed and made again; and what is edited there later is noticed.
    fs::remove_dir_all(site.path("releases/1/conf")).unwrap();
    watch(&site, "releases/1/conf/a.twc", "third");
    daemon.wait_runs("third", 1);
    watch(&site, "releases/1/conf/a.twc", "fourth");
    daemon.wait_runs("fourth", 1);
    let before = loads(&daemon);
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for(before + 1, "a load", |line| line["message"] == "configuration loaded");
    watch(&site, "releases/1/conf/a.twc", "fifth");
    daemon.wait_runs("fifth", 1);
}

#[test]
fn a_tree_whose_grandparent_is_exchanged_is_followed() {
    let site = Site::new();
    site.config(
        "a.twc",
        "RegisterWatch('/n', Exec('cat >> OUT/log; echo >> OUT/log'), name='n')",
    );
    for (parent, data) in [("above", "1"), ("new", "2")] {
        site.write(&format!("{parent}/b/tree/n"), data);
    }
    symlink("above/b/tree", site.path("way")).unwrap();
    let daemon = site.start_with(&["--tree", &site.path("way").to_string_lossy()]);
    daemon.wait_runs("n", 1);
    fs::rename(site.path("above"), site.path("old")).unwrap();
    fs::rename(site.path("new"), site.path("above")).unwrap();
    daemon.wait_runs("n", 2);
    site.write("above/b/tree/n", "3");
    daemon.wait_runs("n", 3);
    assert_eq!(site.lines("out/log"), ["1", "2", "3"]);
}

#[test]
fn a_tree_that_is_not_there_is_said_and_followed_once_it_is() {
    let site = Site::new();
    site.config("a.twc", "RegisterWatch('/n', Exec('cat >> OUT/log'), name='n')");
    let tree = site.path("later");
    let daemon = site.start_with(&["--tree", &tree.to_string_lossy()]);
    daemon.wait("it is said", |line| {
        line["level"] == "WARN"
            && line["message"]
                .as_str()
                .is_some_and(|said| said.contains("no such directory"))
    });
    site.write("draft/n", "1");
    fs::rename(site.path("draft"), tree).unwrap();
    daemon.wait_runs("n", 1);
    assert_eq!(site.lines("out/log"), ["1"]);
}

/// In a user namespace of its own, where the limit can be taken to nothing without anybody else noticing. The process that evaluates
/// `.twc` files could not give up its rights there.
#[test]
fn without_any_inotify_instance_directories_are_polled() {
    let site = Site::new();
    let program = site.path("starved");
    let script = format!(
        "#!/bin/sh\nexec unshare --user --map-root-user sh -c \
         'echo 0 > /proc/sys/user/max_inotify_instances && exec \"$0\" \"$@\"' {:?} \"$@\"\n",
        env!("CARGO_BIN_EXE_twitcher")
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    site.set("/n", "1");
    let watch = |file: &str, name: &str| {
        let text = format!(r#"[{{"znode": "/n", "name": "{name}", "action": {{"exec": "true"}}}}]"#);
        site.write(file, &text);
    };
    watch("conf/a.json", "first");
    let daemon = site.start_program(Path::new(&program));
    for what in ["configuration", "tree"] {
        daemon.wait(what, |line| {
            let text = line["message"].as_str().unwrap_or_default();
            line["level"] == "WARN" && text.contains(what) && text.contains("fs.inotify.max_user_instances")
        });
    }
    daemon.wait_runs("first", 1);
    site.set("/n", "2");
    daemon.wait_runs("first", 2);
    watch("conf/b.json", "second");
    daemon.wait_runs("second", 1);
    let before = loads(&daemon);
    daemon.signal(Signal::SIGHUP);
    daemon.wait_for(before + 1, "a load", |line| line["message"] == "configuration loaded");
    assert!(daemon.stop().success());
}
