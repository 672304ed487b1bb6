//! What README begins with, as it is written there: a hook that pokes, a watch that pulls.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::daemon::{PROGRAM, Site};
use crate::support::until;
use crate::support::zookeeper::ZooKeeperServer;

const README: &str = include_str!("../../README.md");

fn git(dir: &Path, arguments: &[&str], path: &str) -> String {
    let output = Command::new("git")
        .args(["-c", "user.name=Test", "-c", "user.email=test@example.com"])
        .args(arguments)
        .current_dir(dir)
        .env("PATH", path)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The first line of README that is this command.
fn line(begin: &str) -> &'static str {
    README.lines().find(|line| line.starts_with(begin)).unwrap()
}

#[test]
fn a_push_pokes_and_a_host_pulls() {
    let server = ZooKeeperServer::start();
    let site = Site::new();
    // The hook calls the program by its name.
    let bin = Path::new(PROGRAM).parent().unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let git = |dir: &str, arguments: &[&str]| git(&site.path(dir), arguments, &path);
    git("", &["init", "--quiet", "--bare", "-b", "main", "origin.git"]);
    let hook = line("twitcher znode set").replace("zk1:2181", &server.address());
    let file = site.path("origin.git/hooks/post-receive");
    fs::write(&file, format!("#!/bin/sh\n{hook}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).unwrap();

    git("", &["clone", "--quiet", "origin.git", "work"]);
    let commit = |name: &str| {
        site.write(&format!("work/{name}"), name);
        git("work", &["add", "--all"]);
        git("work", &["commit", "--quiet", "-m", name]);
        git("work", &["push", "--quiet", "origin", "HEAD:main"]);
        git("work", &["rev-parse", "HEAD"])
    };
    commit("first");
    git("", &["clone", "--quiet", "origin.git", "repo"]);

    let watch = README.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let watch = watch.replace("/srv/repo", site.path("repo").to_str().unwrap());
    // There is no such user here.
    let watch = watch.replace("    uid = \"deploy\",\n", "");
    assert!(watch.contains("git pull") && !watch.contains("deploy"), "{watch}");
    site.config("repo.twc", &watch);
    let daemon = site.start_with(&["--zk", &server.address()]);
    daemon.wait_runs("pull the repo", 1);
    for name in ["second", "third"] {
        let pushed = commit(name);
        until("the host has pulled", || git("repo", &["rev-parse", "HEAD"]) == pushed);
    }
}
