//! Against real repositories: the host's `git` is the machine's.

use std::fs;
use std::path::Path;
use std::process::Command as Process;

use tempfile::TempDir;
use twitcher_sdk::cancel::Reason;
use twitcher_sdk::commands::{ErrorKind, Output};
use twitcher_sdk::testing::{Call, Host};

use super::*;

/// A repository, and a clone of it with the first of its commits.
struct Scene {
    dir: TempDir,
}

impl Scene {
    fn new() -> Self {
        let scene = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        scene.git(".", &["init", "--quiet", "--initial-branch=main", "origin"]);
        scene.commit("origin", "first");
        scene.git(".", &["clone", "--quiet", "origin", "clone"]);
        scene
    }

    fn git(&self, inside: &str, args: &[&str]) -> String {
        let output = git(&self.dir.path().join(inside), args, b"");
        assert!(
            output.success(),
            "git {args:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.text().into_owned()
    }

    fn commit(&self, inside: &str, file: &str) -> String {
        fs::write(self.dir.path().join(inside).join(file), file).unwrap();
        self.git(inside, &["add", file]);
        self.git(inside, &["commit", "--quiet", "-m", file]);
        self.head(inside)
    }

    fn head(&self, inside: &str) -> String {
        self.git(inside, &["rev-parse", "HEAD"])
    }

    fn host(&self) -> Host {
        Host::new()
            .watch_name("pull the repository")
            .config("repository", self.dir.path().join("clone").to_str().unwrap())
            .command("git", |call| Ok(real(call)))
    }

    fn locked(&self) -> bool {
        !self.git("clone", &["for-each-ref", LOCK]).is_empty()
    }

    /// What a run that is in the middle of its pull holds.
    fn lock_for(&self, watch: &str) {
        let owner = git(
            &self.dir.path().join("clone"),
            &["hash-object", "-w", "--stdin"],
            watch.as_bytes(),
        );
        self.git("clone", &["update-ref", LOCK, &owner.text()]);
    }
}

fn real(call: &Call) -> Output {
    let args: Vec<_> = call.args.iter().map(String::as_str).collect();
    git(Path::new("/"), &args, &call.stdin)
}

fn git(dir: &Path, args: &[&str], stdin: &[u8]) -> Output {
    // A file rather than a pipe: nothing to feed while waiting.
    let input = tempfile::NamedTempFile::new().unwrap();
    fs::write(input.path(), stdin).unwrap();
    let output = Process::new("git")
        .args(args)
        .current_dir(dir)
        // Not the settings of whoever runs the tests, nor the repository of a hook that runs them.
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .envs([("GIT_AUTHOR_NAME", "a"), ("GIT_AUTHOR_EMAIL", "a@localhost")])
        .envs([("GIT_COMMITTER_NAME", "a"), ("GIT_COMMITTER_EMAIL", "a@localhost")])
        .stdin(input.reopen().unwrap())
        .output()
        .unwrap();
    Output {
        code: output.status.code(),
        stdout: output.stdout,
        stderr: output.stderr,
        ..Output::default()
    }
}

#[test]
fn pulls_and_says_what() {
    let scene = Scene::new();
    let old = scene.head("clone");
    scene.commit("origin", "second");
    let new = scene.commit("origin", "third");

    let host = scene.host();
    assert_eq!(host.run(on_change, format!("{new}\n")), Ok(()));

    assert_eq!(scene.head("clone"), new);
    assert!(scene.dir.path().join("clone/third").exists());
    let logs = host.logs();
    let record = logs.last().unwrap();
    assert_eq!(record.message, "pulled");
    let fields = ["old", "new", "files_changed"].map(|name| record.field(name).unwrap());
    assert_eq!(fields, [&*old, &*new, "2"]);
    assert!(!scene.locked());
}

#[test]
fn fetches_nothing_when_it_is_there_already() {
    let scene = Scene::new();
    let host = scene.host();
    assert_eq!(host.run(on_change, scene.head("clone")), Ok(()));
    assert_eq!(host.commands().len(), 1, "{:?}", host.commands());

    // Data that is no commit says nothing of what is there.
    assert_eq!(host.run(on_change, "poke"), Ok(()));
    assert_eq!(host.logs().last().unwrap().message, "nothing new");
}

#[test]
fn never_pulls_beside_another_watch() {
    let scene = Scene::new();
    scene.lock_for("another watch");
    let new = scene.commit("origin", "second");

    let failure = scene.host().run(on_change, &*new).unwrap_err();
    assert!(matches!(failure, Failure::Retry { .. }), "{failure:?}");
    assert!(failure.to_string().contains("another watch"), "{failure}");
    assert_ne!(scene.head("clone"), new);
    assert!(scene.locked(), "the other's lock must stay");
}

#[test]
fn takes_over_what_a_killed_run_of_its_own_left() {
    let scene = Scene::new();
    scene.lock_for("pull the repository");
    let new = scene.commit("origin", "second");
    assert_eq!(scene.host().run(on_change, &*new), Ok(()));
    assert_eq!(scene.head("clone"), new);
    assert!(!scene.locked());
}

#[test]
fn a_clone_with_work_of_its_own_is_left_alone() {
    let scene = Scene::new();
    scene.commit("origin", "theirs");
    let ours = scene.commit("clone", "ours");
    let failure = scene.host().run(on_change, "x").unwrap_err();
    assert!(matches!(failure, Failure::Permanent { .. }), "{failure:?}");
    assert_eq!(scene.head("clone"), ours);
    assert!(!scene.locked());
}

#[test]
fn a_remote_that_is_away_is_tried_again() {
    let scene = Scene::new();
    fs::rename(scene.dir.path().join("origin"), scene.dir.path().join("away")).unwrap();
    let failure = scene.host().run(on_change, "x").unwrap_err();
    assert!(matches!(failure, Failure::Retry { .. }), "{failure:?}");
    assert!(!scene.locked());
}

#[test]
fn gives_the_lock_back_when_it_is_superseded() {
    let scene = Scene::new();
    scene.commit("origin", "second");
    let host = scene.host();
    let later = host.clone();
    let host = host.command("git", move |call| {
        if call.args.iter().any(|arg| arg == "fetch") {
            let _ = later.clone().cancelled(Reason::Superseded);
        }
        Ok(real(call))
    });
    assert_eq!(host.run(on_change, "x"), Err(Failure::Superseded));
    assert!(!scene.locked());
}

#[test]
fn without_the_grant_the_failure_says_so() {
    let host = Host::new()
        .config("repository", "/srv/repo")
        .command("git", |_| Err(ErrorKind::Denied("add commands".to_owned())));
    let failure = host.run(on_change, "x").unwrap_err();
    let message = "command git: denied: add commands".to_owned();
    assert_eq!(failure, Failure::Denied { message });
}

#[test]
fn the_check_wants_an_absolute_path() {
    assert!(Host::new().enter(validate).is_err());
    assert!(Host::new().config("repository", "srv/repo").enter(validate).is_err());
    assert_eq!(Host::new().config("repository", "/srv/repo").enter(validate), Ok(()));
}
