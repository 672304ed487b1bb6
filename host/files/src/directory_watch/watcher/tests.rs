//! Real directories; with inotify, and as if there were none.

use std::fs;
use std::time::Duration;

use super::*;
use crate::directory_watch::SettledChanges;

const DEADLINE: Duration = Duration::from_secs(30);

/// A watcher that wants everything.
fn watch(inotify: bool) -> (DirectoryWatcher, DirectoryEvents) {
    watch_wanting(inotify, |_, event| Some(event))
}

fn watch_wanting(
    inotify: bool,
    wanted: impl Fn(&Path, PathEvent) -> Option<PathEvent> + Send + Sync + 'static,
) -> (DirectoryWatcher, DirectoryEvents) {
    let times = SettleTimes {
        quiet: Duration::from_millis(1),
        busy: Duration::from_millis(10),
        writing: DEADLINE,
        finished: false,
    };
    let inbox = Arc::new(Inbox::new(wanted));
    let mut directories = Directories::new("files", Arc::clone(&inbox), None);
    match inotify {
        true => directories.open(),
        false => inbox.set_polls(true),
    }
    let directories = Arc::new(Mutex::new(directories));
    let events = DirectoryEvents::new(Arc::clone(&inbox), Arc::clone(&directories), times);
    (DirectoryWatcher { directories, inbox }, events)
}

/// Waits until something is told of a path.
async fn told(events: &mut DirectoryEvents, path: &Path) {
    let mut all = Vec::new();
    let wait = async {
        loop {
            let SettledChanges { paths, .. } = events.settled().await;
            all.extend(paths.into_iter().map(|settled| settled.path));
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

#[test]
fn a_directory_whose_first_path_is_forgotten_is_told_under_the_other() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir(path("d")).unwrap();
        std::os::unix::fs::symlink("d", path("link")).unwrap();
        let (mut watcher, mut events) = watch(true);
        assert!(watcher.watch(&path("link")) && watcher.watch(&path("d")));
        watcher.forget(&path("link"));
        // Something may have happened while it was watched by neither.
        told(&mut events, &path("d")).await;
        fs::write(path("d/file"), "1").unwrap();
        told(&mut events, &path("d/file")).await;
    });
}

/// The library forgets whatever it knows by the path of an event that it comes to read.
#[test]
fn a_directory_that_is_watched_before_the_end_of_the_last_one_is_read() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::create_dir_all(path("d/below")).unwrap();
        let (mut watcher, mut events) = watch(true);
        assert!(watcher.watch_name(dir.path(), OsStr::new("d")));
        for _ in 0..50 {
            assert!(watcher.watch(&path("d")) && watcher.watch(&path("d/below")));
            fs::remove_dir_all(path("d")).unwrap();
            fs::create_dir_all(path("d/below")).unwrap();
            // As all do who ask: what may be another directory is watched again.
            let wait = async {
                loop {
                    assert!(watcher.watch(&path("d")) && watcher.watch(&path("d/below")));
                    fs::write(path("d/below/file"), "1").unwrap();
                    let SettledChanges { paths, .. } = events.settled().await;
                    if paths.iter().any(|told| told.path == path("d/below/file")) {
                        return;
                    }
                }
            };
            tokio::time::timeout(DEADLINE, wait).await.unwrap();
        }
    });
}

#[test]
fn of_a_directory_on_the_way_only_the_name_is_told() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        fs::write(path("name"), "1").unwrap();
        let (mut watcher, mut events) = watch(true);
        assert!(watcher.watch_name(dir.path(), OsStr::new("name")));
        fs::write(path("name"), "2").unwrap();
        fs::write(path("other"), "1").unwrap();
        fs::rename(path("other"), path("name")).unwrap();
        let SettledChanges { paths, .. } = tokio::time::timeout(DEADLINE, events.settled()).await.unwrap();
        assert_eq!(paths.len(), 1);
        assert!(paths[0].path == path("name") && paths[0].entry);
    });
}

/// Of what is watched then, nothing would be told any more.
#[test]
fn when_the_thread_that_reads_the_events_ends_everything_is_looked_at_again() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        let (mut watcher, mut events) = watch_wanting(true, |path, event| {
            assert!(!path.ends_with("poison"), "to end the thread");
            Some(event)
        });
        assert!(watcher.watch(dir.path()));
        fs::write(path("poison"), "").unwrap();
        let lost = async { while !events.settled().await.lost {} };
        tokio::time::timeout(DEADLINE, lost).await.unwrap();
        assert!(watcher.lock().polls() && !watcher.is_watched(dir.path()));
        watcher.lock().look(true);
        assert!(!watcher.lock().polls() && watcher.watch(dir.path()));
        fs::write(path("after"), "1").unwrap();
        told(&mut events, &path("after")).await;
    });
}
