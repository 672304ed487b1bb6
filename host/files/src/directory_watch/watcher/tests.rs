//! Real directories; with inotify, and as if there were none.

use std::time::Duration;

use super::*;
use crate::directory_watch::SettledChanges;

const DEADLINE: Duration = Duration::from_secs(30);

/// A watcher that wants everything.
fn watch(inotify: bool) -> (DirectoryWatcher, DirectoryEvents) {
    let times = SettleTimes {
        quiet: Duration::from_millis(1),
        busy: Duration::from_millis(10),
        writing: DEADLINE,
    };
    let inbox = Arc::new(Inbox::new(|_, event| Some(event)));
    let mut directories = Directories::new("files", Arc::clone(&inbox), None);
    match inotify {
        true => directories.open(),
        false => inbox.set_polls(true),
    }
    let directories = Arc::new(Mutex::new(directories));
    let events = DirectoryEvents::new(inbox, Arc::clone(&directories), times);
    (DirectoryWatcher { directories }, events)
}

/// Waits until something is told of a path.
async fn told(events: &mut DirectoryEvents, path: &Path) {
    let mut all = Vec::new();
    let wait = async {
        loop {
            let SettledChanges { paths, .. } = events.settled().await;
            all.extend(paths.into_iter().map(|(path, _)| path));
            if all.iter().any(|told| told == path) {
                return;
            }
        }
    };
    let waited = tokio::time::timeout(DEADLINE, wait).await;
    assert!(waited.is_ok(), "nothing of {}, only {all:?}", path.display());
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(test);
}

#[test]
fn what_is_told_with_inotify_and_without() {
    for inotify in [true, false] {
        run(async {
            let dir = tempfile::tempdir().unwrap();
            let path = |name: &str| dir.path().join(name);
            fs::create_dir(path("d")).unwrap();
            let (mut watcher, mut events) = watch(inotify);
            assert!(watcher.watch_name(dir.path(), OsStr::new("d")));
            assert!(watcher.watch(&path("d")));
            assert!(!watcher.watch(&path("none")));
            fs::write(path("d/file"), "1").unwrap();
            told(&mut events, &path("d/file")).await;
            fs::write(path("d/file"), "22").unwrap();
            told(&mut events, &path("d/file")).await;
            fs::rename(path("d"), path("old")).unwrap();
            fs::create_dir(path("d")).unwrap();
            told(&mut events, &path("d")).await;
            watcher.forget(&path("d"));
            assert!(watcher.watch(&path("d")));
            fs::write(path("d/new"), "1").unwrap();
            told(&mut events, &path("d/new")).await;
        });
    }
}

#[test]
fn a_directory_that_was_exchanged_unseen_is_watched_when_it_is_asked_for_again() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("d")).unwrap();
        let (mut watcher, mut events) = watch(true);
        assert!(watcher.watch(&path("d")));
        fs::rename(path("d"), path("old")).unwrap();
        fs::create_dir(path("d")).unwrap();
        assert!(watcher.watch(&path("d")));
        fs::write(path("d/file"), "1").unwrap();
        told(&mut events, &path("d/file")).await;
    });
}

#[test]
fn the_same_directory_under_two_paths_is_told_under_both() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("d")).unwrap();
        std::os::unix::fs::symlink("d", path("link")).unwrap();
        let (mut watcher, mut events) = watch(true);
        assert!(watcher.watch(&path("d")) && watcher.watch(&path("link")));
        fs::write(path("d/file"), "1").unwrap();
        told(&mut events, &path("link/file")).await;
        watcher.forget(&path("link"));
        fs::write(path("d/other"), "1").unwrap();
        told(&mut events, &path("d/other")).await;
    });
}

#[test]
fn what_is_polled_is_watched_once_inotify_can_be_had() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let (mut watcher, mut events) = watch(false);
        assert!(watcher.watch(dir.path()));
        assert!(watcher.lock().polls());
        fs::write(dir.path().join("before"), "1").unwrap();
        watcher.lock().look(true);
        assert!(!watcher.lock().polls());
        told(&mut events, &dir.path().join("before")).await;
        fs::write(dir.path().join("after"), "1").unwrap();
        told(&mut events, &dir.path().join("after")).await;
    });
}
