//! A local directory as the source: what is seen of it, through the real kernel.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

mod finished;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tempfile::TempDir;
use twitcher_model::{Observation, Unreadable, WatchId, WatchType, ZnodePath};
use twitcher_source::tree::{TreeOptions, spawn};
use twitcher_source::{Change, Source, SourceReport, Subscription};

/// Nothing here takes long: what has not come by then does not come.
const DEADLINE: Duration = Duration::from_secs(20);

/// A directory, and a source that looks at it.
struct Tree {
    dir: TempDir,
    source: Source,
    /// What cannot be read, as was last said.
    unreadable: HashMap<WatchId, Unreadable>,
    watches: u32,
}

impl Tree {
    /// Looks at `tree` in a new directory. The sweep is too slow to hide that an event was missed.
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        let options = TreeOptions {
            sweep: DEADLINE * 10,
            ..TreeOptions::new(dir.path().join("tree"))
        };
        Self::with(dir, options)
    }

    fn with(dir: TempDir, options: TreeOptions) -> Self {
        let source = spawn(options).unwrap();
        Self {
            dir,
            source,
            unreadable: HashMap::new(),
            watches: 0,
        }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("tree").join(path)
    }

    fn write(&self, path: &str, text: &str) {
        fs::write(self.path(path), text).unwrap();
    }

    fn subscribe(&mut self, znode: &str, watch_type: WatchType) -> WatchId {
        let subscription = self.subscription(znode, watch_type);
        let watch = subscription.watch;
        let add = vec![subscription];
        self.source.changes.send(Change { remove: vec![], add }).unwrap();
        watch
    }

    fn subscription(&mut self, znode: &str, watch_type: WatchType) -> Subscription {
        self.watches += 1;
        Subscription {
            watch: WatchId(self.watches),
            name: znode.into(),
            znode: ZnodePath::new(znode).unwrap(),
            watch_type,
            with_nodes: false,
        }
    }

    async fn report(&mut self) -> SourceReport {
        let report = tokio::time::timeout(DEADLINE, self.source.reports.recv());
        let report = report.await.expect("a report").expect("the source lives");
        match &report {
            SourceReport::Unreadable(watch, unreadable) => drop(self.unreadable.insert(*watch, (**unreadable).clone())),
            SourceReport::Readable(watch) => drop(self.unreadable.remove(watch)),
            SourceReport::Observed(..) | SourceReport::Armed => {}
        }
        report
    }

    /// The next observation, of whatever watch.
    async fn next(&mut self) -> (WatchId, Observation) {
        loop {
            if let SourceReport::Observed(watch, observation) = self.report().await {
                return (watch, observation);
            }
        }
    }

    /// The next observation as text; "-" for an absent node.
    async fn text(&mut self) -> String {
        let (_, observation) = self.next().await;
        text(&observation)
    }

    /// Subscribes and returns the first observation as text.
    async fn first(&mut self, znode: &str, watch_type: WatchType) -> String {
        let watch = self.subscribe(znode, watch_type);
        let (of, observation) = self.next().await;
        assert_eq!(of, watch);
        while !matches!(self.report().await, SourceReport::Armed) {}
        text(&observation)
    }

    /// Makes a node of its own, and waits until that is seen: everything before it was seen by then, too. Returns what else was.
    async fn fence(&mut self) -> Vec<String> {
        self.fence_by(|path| fs::create_dir(path).unwrap()).await
    }

    async fn fence_by(&mut self, make: impl Fn(&Path)) -> Vec<String> {
        let name = format!("fence{}", self.watches);
        let fence = self.subscribe(&format!("/{name}"), WatchType::Data);
        let mut seen = vec![];
        loop {
            let (watch, observation) = self.next().await;
            match (watch == fence, observation.exists()) {
                (true, false) => make(&self.path(&name)),
                (true, true) => return seen,
                (false, _) => seen.push(text(&observation)),
            }
        }
    }
}

fn text(observation: &Observation) -> String {
    if observation.exists() {
        String::from_utf8(observation.stdin.to_vec()).unwrap()
    } else {
        "-".to_owned()
    }
}

/// Runs as the daemon does: on one thread.
fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(test)
}

#[test]
fn data() {
    run(async {
        let mut tree = Tree::new();
        tree.write("f", "one");
        assert_eq!(tree.first("/f", WatchType::Data).await, "one");
        tree.write("f", "two");
        assert_eq!(tree.text().await, "two");
        tree.write("f", "");
        assert_eq!(tree.text().await, "");
        fs::remove_file(tree.path("f")).unwrap();
        assert_eq!(tree.text().await, "-");
        tree.write("f", "two");
        assert_eq!(tree.text().await, "two");
    });
}

#[test]
fn a_new_watch_gets_the_same_version_and_a_touch_another() {
    run(async {
        let mut tree = Tree::new();
        tree.write("f", "text");
        tree.subscribe("/f", WatchType::Data);
        let (_, first) = tree.next().await;
        let again = tree.subscribe("/f", WatchType::Data);
        assert_eq!(tree.next().await, (again, first.clone()));
        let file = fs::File::options().write(true).open(tree.path("f")).unwrap();
        file.set_modified(std::time::UNIX_EPOCH).unwrap();
        drop(file);
        let (_, touched) = tree.next().await;
        assert_eq!(touched.stdin, first.stdin);
        assert_ne!(touched.version, first.version);
        // The same contents and time are the same version for a source that never saw the file before.
        let path = tree.dir.path().join("tree");
        let mut other = Tree::with(TempDir::new().unwrap(), TreeOptions::new(path));
        other.subscribe("/f", WatchType::Data);
        assert_eq!(other.next().await.1, touched);
    });
}

#[test]
fn directories_have_empty_data_and_children() {
    run(async {
        let mut tree = Tree::new();
        assert_eq!(tree.first("/", WatchType::Data).await, "");
        assert_eq!(tree.first("/", WatchType::Children).await, "");
        tree.write("b", "x");
        assert_eq!(tree.text().await, "b\n");
        tree.write(".hidden", "x");
        tree.write("backup~", "x");
        tree.write("b", "other data");
        tree.write("a", "x");
        assert_eq!(tree.text().await, "a\nb\n");
        fs::remove_file(tree.path("b")).unwrap();
        assert_eq!(tree.text().await, "a\n");
    });
}

#[test]
fn subtrees_tell_what_changed() {
    run(async {
        let mut tree = Tree::new();
        fs::create_dir_all(tree.path("t/a")).unwrap();
        tree.write("t/a/f", "1");
        tree.write("outside", "1");
        assert_eq!(tree.first("/t", WatchType::Tree).await, "/t\n/t/a\n/t/a/f\n");
        tree.write("outside", "2");
        tree.write("t/a/f", "2");
        assert_eq!(tree.text().await, "/t/a/f\n");
        fs::create_dir_all(tree.path("t/b/c")).unwrap();
        tree.write("t/b/c/f", "1");
        assert_eq!(tree.text().await, "/t/b\n/t/b/c\n/t/b/c/f\n");
        tree.write("t/b/c/f", "2");
        assert_eq!(tree.text().await, "/t/b/c/f\n");
        fs::remove_dir_all(tree.path("t/b")).unwrap();
        assert_eq!(tree.fence().await.concat(), "/t/b\n/t/b/c\n/t/b/c/f\n");
        fs::remove_dir_all(tree.path("t")).unwrap();
        assert_eq!(tree.text().await, "-");
    });
}

#[test]
fn an_absent_node_is_seen_when_it_comes_with_all_its_parents() {
    run(async {
        let mut tree = Tree::new();
        assert_eq!(tree.first("/a/b/c/d", WatchType::Data).await, "-");
        fs::create_dir_all(tree.path("a/b/c")).unwrap();
        tree.write("a/b/c/d", "1");
        assert_eq!(tree.text().await, "1");
        tree.write("a/b/c/d", "2");
        assert_eq!(tree.text().await, "2");
        // Gone with a parent, and back by a rename: no event names the file itself.
        fs::rename(tree.path("a"), tree.dir.path().join("aside")).unwrap();
        assert_eq!(tree.text().await, "-");
        fs::rename(tree.dir.path().join("aside"), tree.path("a")).unwrap();
        assert_eq!(tree.text().await, "2");
        tree.write("a/b/c/d", "3");
        assert_eq!(tree.text().await, "3");
    });
}

#[test]
fn deleted_and_recreated_directories_are_still_watched() {
    run(async {
        let mut tree = Tree::new();
        fs::create_dir(tree.path("a")).unwrap();
        tree.write("a/f", "0");
        assert_eq!(tree.first("/a/f", WatchType::Data).await, "0");
        for round in 1..=30 {
            // Without a pause in between: the events of the old directory come when the new one is there.
            fs::remove_dir_all(tree.path("a")).unwrap();
            fs::create_dir(tree.path("a")).unwrap();
            tree.write("a/f", &format!("new {round}"));
            while tree.text().await != format!("new {round}") {}
            tree.write("a/f", &format!("changed {round}"));
            while tree.text().await != format!("changed {round}") {}
        }
    });
}

#[test]
fn an_atomic_rename_is_one_change() {
    run(async {
        let mut tree = Tree::new();
        tree.write("f", "old");
        assert_eq!(tree.first("/f", WatchType::Data).await, "old");
        assert_eq!(tree.first("/", WatchType::Children).await, "f\n");
        for round in 0..20 {
            // As editors do it: a new file takes the name, the old one stays as a backup.
            let text = format!("text {round}");
            tree.write(".f.swp", &text);
            fs::rename(tree.path("f"), tree.path("f~")).unwrap();
            fs::rename(tree.path(".f.swp"), tree.path("f")).unwrap();
            assert_eq!(tree.text().await, text);
        }
        assert_eq!(tree.fence().await, ["f\nfence2\n"]);
    });
}

#[test]
fn a_file_is_seen_when_it_is_closed() {
    run(async {
        let mut tree = Tree::new();
        tree.write("f", "old");
        assert_eq!(tree.first("/f", WatchType::Data).await, "old");
        let mut file = fs::File::create(tree.path("f")).unwrap();
        file.write_all(b"first half, ").unwrap();
        // Others go on meanwhile.
        assert_eq!(tree.fence().await, [""; 0]);
        file.write_all(b"second half").unwrap();
        drop(file);
        assert_eq!(tree.text().await, "first half, second half");
    });
}

#[test]
fn a_half_written_file_is_left_out_when_others_change() {
    run(async {
        let mut tree = Tree::new();
        tree.write("f", "old");
        assert_eq!(tree.first("/", WatchType::Tree).await, "/\n/f\n");
        let mut file = fs::File::create(tree.path("f")).unwrap();
        file.write_all(b"half").unwrap();
        tree.write("g", "other");
        assert_eq!(tree.text().await, "/g\n");
        drop(file);
        assert_eq!(tree.text().await, "/f\n");
    });
}

#[test]
fn a_file_that_is_never_closed_is_seen_all_the_same() {
    run(async {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        let options = TreeOptions {
            writing: Duration::from_millis(100),
            ..TreeOptions::new(dir.path().join("tree"))
        };
        let mut tree = Tree::with(dir, options);
        assert_eq!(tree.first("/log", WatchType::Data).await, "-");
        let mut file = fs::File::create(tree.path("log")).unwrap();
        file.write_all(b"line").unwrap();
        assert_eq!(tree.text().await, "line");
        drop(file);
    });
}

#[test]
fn a_burst_is_seen_to_the_last_file() {
    const FILES: usize = 2000;
    run(async {
        let mut tree = Tree::new();
        fs::create_dir(tree.path("d")).unwrap();
        let znodes: Vec<String> = (0..FILES).map(|n| format!("/d/{n}")).collect();
        let add: Vec<_> = znodes
            .iter()
            .map(|znode| tree.subscription(znode, WatchType::Data))
            .collect();
        let watches: HashMap<_, _> = add.iter().map(|subscription| subscription.watch).zip(0..).collect();
        tree.source.changes.send(Change { remove: vec![], add }).unwrap();
        let mut absent = 0;
        while let SourceReport::Observed(_, observation) = tree.report().await {
            assert!(!observation.exists());
            absent += 1;
        }
        assert_eq!(absent, FILES, "each is told once before all are armed");
        for round in ["1", "2"] {
            let dir = tree.path("d");
            let writer = std::thread::spawn(move || {
                for n in 0..FILES {
                    fs::write(dir.join(n.to_string()), format!("{n} {round}")).unwrap();
                }
            });
            let mut last: BTreeMap<usize, String> = BTreeMap::new();
            let done = |last: &BTreeMap<usize, String>| last.values().filter(|text| text.ends_with(round)).count();
            while done(&last) < FILES {
                let (watch, observation) = tree.next().await;
                last.insert(watches[&watch], text(&observation));
            }
            writer.join().unwrap();
            assert!(last.iter().all(|(n, text)| *text == format!("{n} {round}")));
        }
    });
}

#[test]
fn the_root_may_come_later_and_be_replaced() {
    run(async {
        let dir = TempDir::new().unwrap();
        let root = dir.path().join("above/tree");
        let mut tree = Tree::with(dir, TreeOptions::new(&root));
        assert_eq!(tree.first("/f", WatchType::Data).await, "-");
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("f"), "first").unwrap();
        assert_eq!(tree.text().await, "first");
        let other = tree.dir.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("f"), "second").unwrap();
        fs::rename(&root, tree.dir.path().join("old")).unwrap();
        fs::rename(&other, &root).unwrap();
        while tree.text().await != "second" {}
        // The old one is not looked at any more, the new one is.
        fs::write(tree.dir.path().join("old/f"), "stale").unwrap();
        fs::write(root.join("f"), "third").unwrap();
        assert_eq!(tree.text().await, "third");
        fs::remove_dir_all(root.parent().unwrap()).unwrap();
        assert_eq!(tree.text().await, "-");
        fs::create_dir_all(&root).unwrap();
        fs::write(root.join("f"), "fourth").unwrap();
        assert_eq!(tree.text().await, "fourth");
    });
}

#[test]
fn a_volume_that_is_swapped_as_a_whole() {
    run(async {
        let mut tree = Tree::new();
        let volume = |name: &str, text: &str, root: &Path| {
            fs::create_dir(root.join(name)).unwrap();
            fs::write(root.join(name).join("f"), text).unwrap();
            std::os::unix::fs::symlink(name, root.join("..new")).unwrap();
            fs::rename(root.join("..new"), root.join("..data")).unwrap();
        };
        let root = tree.path("");
        volume("..1", "one", &root);
        std::os::unix::fs::symlink("..data/f", root.join("f")).unwrap();
        assert_eq!(tree.first("/f", WatchType::Data).await, "one");
        volume("..2", "two", &root);
        assert_eq!(tree.text().await, "two");
    });
}

#[test]
fn what_cannot_be_read_is_not_told_and_stops_nothing() {
    run(async {
        let mut tree = Tree::new();
        tree.write("large", &"x".repeat(1024 * 1024 + 1));
        fs::write(tree.dir.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink("../secret", tree.path("link")).unwrap();
        tree.write("f", "1");
        let large = tree.subscribe("/large", WatchType::Data);
        let link = tree.subscribe("/link", WatchType::Data);
        let f = tree.subscribe("/f", WatchType::Data);
        assert_eq!(tree.next().await.0, f);
        let why = |tree: &Tree, watch| {
            tree.unreadable
                .get(watch)
                .map(|said| format!("{}; {}", said.why, said.remedy))
        };
        let said = why(&tree, &large).unwrap();
        assert!(
            said.contains("1048577 bytes") && said.contains("--max-znode-size"),
            "{said}"
        );
        let said = why(&tree, &link).unwrap();
        assert!(
            said.contains("leads out of the root") && said.contains("namei -l"),
            "{said}"
        );
        tree.write("large", "small enough");
        assert_eq!(tree.text().await, "small enough");
        // What was known stays when a node becomes unreadable.
        tree.write("large", &"x".repeat(1024 * 1024 + 1));
        tree.write("f", "2");
        assert_eq!(tree.text().await, "2");
        assert_eq!(tree.fence().await, [""; 0]);
        assert_eq!(tree.unreadable.len(), 2, "{:?}", tree.unreadable);
        // Of a subtree it is some parts, and the rest is told.
        assert_eq!(tree.first("/", WatchType::Tree).await, "/\n/f\n/fence3\n");
        let parts = |tree: &Tree| tree.unreadable.values().find_map(|said| said.parts);
        assert_eq!(parts(&tree), Some(2));
        tree.write("large", "small again");
        fs::remove_file(tree.path("link")).unwrap();
        while parts(&tree).is_some() || !tree.unreadable.is_empty() {
            tree.report().await;
        }
    });
}

#[test]
fn a_removed_watch_is_told_no_more() {
    run(async {
        let mut tree = Tree::new();
        tree.write("f", "1");
        let gone = tree.subscribe("/f", WatchType::Data);
        let kept = tree.subscribe("/f", WatchType::Data);
        assert_eq!((tree.next().await.0, tree.next().await.0), (gone, kept));
        // Removed and added in one change: told afresh though nothing changed.
        let again = Subscription {
            watch: kept,
            ..tree.subscription("/f", WatchType::Data)
        };
        let remove = vec![gone, kept];
        let change = Change {
            remove,
            add: vec![again],
        };
        tree.source.changes.send(change).unwrap();
        assert_eq!(tree.next().await.0, kept);
        tree.write("f", "2");
        assert_eq!(tree.next().await.0, kept);
        assert_eq!(tree.fence().await, [""; 0]);
    });
}

#[test]
fn the_sweep_finds_what_no_event_told() {
    run(async {
        let dir = TempDir::new().unwrap();
        fs::create_dir_all(dir.path().join("tree/target")).unwrap();
        std::os::unix::fs::symlink("target/f", dir.path().join("tree/link")).unwrap();
        fs::write(dir.path().join("tree/target/f"), "1").unwrap();
        let options = TreeOptions {
            sweep: Duration::from_millis(50),
            ..TreeOptions::new(dir.path().join("tree"))
        };
        let mut tree = Tree::with(dir, options);
        assert_eq!(tree.first("/link", WatchType::Data).await, "1");
        // A link's target is in a directory that is not watched.
        tree.write("target/f", "2");
        assert_eq!(tree.text().await, "2");
    });
}

#[test]
fn dropping_the_source_ends_it() {
    run(async {
        let tree = Tree::new();
        let Source { changes, reports, .. } = tree.source;
        drop(reports);
        drop(changes);
        // The task holds the only strong handle of the inotify thread: that is gone when the task is.
        let deadline = tokio::time::Instant::now() + DEADLINE;
        while tokio::runtime::Handle::current().metrics().num_alive_tasks() > 0 {
            assert!(tokio::time::Instant::now() < deadline, "the task lives on");
            tokio::task::yield_now().await;
        }
    });
}
