//! Single znodes of a directory, read and written on request.

#![allow(clippy::unwrap_used, reason = "a failed helper is a failed test")]

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use twitcher_model::{WatchId, WatchType, ZnodePath};
use twitcher_source::tree::{TreeOptions, spawn};
use twitcher_source::{Change, Denial, Source, SourceReport, Subscription, ZnodeError, ZnodeRefusal, Znodes};

use crate::support::DEADLINE;

/// `tree` in a directory of its own, and its source.
struct Tree {
    dir: TempDir,
    source: Source,
}

impl Tree {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        fs::create_dir(dir.path().join("tree")).unwrap();
        let source = spawn(TreeOptions::new(dir.path().join("tree"))).unwrap();
        Self { dir, source }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join("tree").join(path)
    }

    fn znodes(&self) -> &Znodes {
        &self.source.znodes
    }

    /// Every name in the root, also those that are no znodes.
    fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("")).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn path(path: &str) -> ZnodePath {
    ZnodePath::new(path).unwrap()
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn failed<T>(znode: &str, why: ZnodeRefusal) -> Result<T, ZnodeError> {
    Err(ZnodeError::Failed {
        znode: path(znode),
        why,
    })
}

fn denied<T>(znode: &str, why: Denial) -> Result<T, ZnodeError> {
    Err(ZnodeError::Denied {
        znode: path(znode),
        why,
    })
}

fn absent<T>(znode: &str) -> Result<T, ZnodeError> {
    Err(ZnodeError::NoNode(path(znode)))
}

#[tokio::test]
async fn files_are_read_and_written() {
    let tree = Tree::new();
    let znodes = tree.znodes();
    assert_eq!(znodes.get(&path("/a")).await, absent("/a"));
    assert_eq!(znodes.children(&path("/a")).await, absent("/a"));
    assert_eq!(znodes.set(&path("/a"), bytes("x"), None).await, absent("/a"));
    assert_eq!(znodes.create(&path("/d/a"), bytes("x")).await, absent("/d"));

    znodes.create(&path("/a"), bytes("1")).await.unwrap();
    assert_eq!(fs::read_to_string(tree.path("a")).unwrap(), "1");
    let exists = Err(ZnodeError::NodeExists(path("/a")));
    assert_eq!(znodes.create(&path("/a"), bytes("2")).await, exists);
    assert_eq!(fs::read_to_string(tree.path("a")).unwrap(), "1");

    fs::create_dir(tree.path("d")).unwrap();
    znodes.create(&path("/d/z"), bytes("")).await.unwrap();
    znodes.create(&path("/d/b"), bytes("")).await.unwrap();
    assert_eq!(znodes.children(&path("/d")).await.unwrap(), ["b", "z"]);
    assert_eq!(znodes.children(&path("/")).await.unwrap(), ["a", "d"]);
    assert_eq!(znodes.children(&path("/a")).await.unwrap(), [""; 0]);
    assert_eq!(tree.entries(), ["a", "d"], "nothing temporary is left");

    // What a directory tree has not.
    assert_eq!(znodes.get(&path("/d")).await.unwrap().0, bytes(""));
    let directory = znodes.set(&path("/d"), bytes("x"), None).await;
    assert_eq!(directory, failed("/d", ZnodeRefusal::Directory));
    let below = znodes.create(&path("/a/b"), bytes("x")).await;
    assert_eq!(below, failed("/a/b", ZnodeRefusal::BelowFile));
}

#[tokio::test]
async fn a_file_is_set_if_it_still_is_what_it_was() {
    let tree = Tree::new();
    let znodes = tree.znodes();
    fs::write(tree.path("a"), "1").unwrap();
    let (data, first) = znodes.get(&path("/a")).await.unwrap();
    assert_eq!(data, bytes("1"));
    let second = znodes.set(&path("/a"), bytes("2"), Some(first.version)).await.unwrap();
    assert_ne!(second.version, first.version);
    assert_eq!(znodes.get(&path("/a")).await.unwrap(), (bytes("2"), second));
    for old in [first.version, 0, -1] {
        let set = znodes.set(&path("/a"), bytes("3"), Some(old)).await;
        assert_eq!(set, Err(ZnodeError::BadVersion(path("/a"))));
    }
    // By another hand.
    fs::write(tree.path("a"), "4").unwrap();
    let set = znodes.set(&path("/a"), bytes("5"), Some(second.version)).await;
    assert_eq!(set, Err(ZnodeError::BadVersion(path("/a"))));
    assert_eq!(fs::read_to_string(tree.path("a")).unwrap(), "4");
    znodes.set(&path("/a"), bytes("6"), None).await.unwrap();
    assert_eq!(fs::read_to_string(tree.path("a")).unwrap(), "6");
}

#[tokio::test]
async fn of_many_that_expect_the_same_version_one_succeeds() {
    let tree = Tree::new();
    fs::write(tree.path("a"), "0").unwrap();
    let (_, stat) = tree.znodes().get(&path("/a")).await.unwrap();
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..20 {
        let znodes = tree.znodes().clone();
        let data = bytes(&format!("by {i}"));
        tasks.spawn(async move { znodes.set(&path("/a"), data, Some(stat.version)).await.is_ok() });
    }
    let set = tasks.join_all().await;
    assert_eq!(set.iter().filter(|set| **set).count(), 1, "{set:?}");
}

#[tokio::test]
async fn a_watch_and_a_request_tell_the_same_version() {
    let mut tree = Tree::new();
    fs::write(tree.path("a"), "1").unwrap();
    let add = vec![Subscription {
        watch: WatchId(1),
        name: "a".into(),
        znode: path("/a"),
        watch_type: WatchType::Data,
        with_nodes: false,
    }];
    tree.source.changes.send(Change { remove: vec![], add }).unwrap();
    let mut expected = tree.znodes().get(&path("/a")).await.unwrap();
    for round in 2..5 {
        let seen = loop {
            let report = tokio::time::timeout(DEADLINE, tree.source.reports.recv()).await;
            if let SourceReport::Observed(_, observation) = report.unwrap().unwrap() {
                break observation;
            }
        };
        assert_eq!((seen.stdin, seen.stat.unwrap()), expected);
        let data = bytes(&round.to_string());
        let stat = tree.znodes().set(&path("/a"), data.clone(), None).await.unwrap();
        expected = (data, stat);
    }
}

#[tokio::test]
async fn nothing_outside_the_directory_is_touched() {
    let tree = Tree::new();
    let znodes = tree.znodes();
    let outside = tree.dir.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "s").unwrap();
    symlink("../outside", tree.path("up")).unwrap();
    symlink(&outside, tree.path("absolute")).unwrap();
    symlink("../outside/secret", tree.path("file")).unwrap();
    for znode in ["/up/secret", "/absolute/secret", "/file"] {
        let denial = Denial::Outside;
        assert_eq!(znodes.get(&path(znode)).await, denied(znode, denial));
        assert_eq!(znodes.children(&path(znode)).await, denied(znode, denial));
        assert_eq!(znodes.set(&path(znode), bytes("x"), None).await, denied(znode, denial));
    }
    for znode in ["/up/new", "/absolute/new"] {
        let created = znodes.create(&path(znode), bytes("x")).await;
        assert_eq!(created, denied(znode, Denial::Outside));
    }
    // A link that leads nowhere is not a way to create what it leads to.
    symlink("../outside/new", tree.path("dangling")).unwrap();
    let created = znodes.create(&path("/dangling"), bytes("x")).await;
    assert_eq!(created, Err(ZnodeError::NodeExists(path("/dangling"))));
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "s");
}

#[tokio::test]
async fn links_inside_the_directory_are_followed_but_not_replaced() {
    let tree = Tree::new();
    let znodes = tree.znodes();
    fs::create_dir(tree.path("d")).unwrap();
    fs::write(tree.path("d/a"), "1").unwrap();
    symlink("d", tree.path("link")).unwrap();
    symlink("d/a", tree.path("file")).unwrap();
    assert_eq!(znodes.get(&path("/file")).await.unwrap().0, bytes("1"));
    let set = znodes.set(&path("/file"), bytes("2"), None).await;
    assert_eq!(set, failed("/file", ZnodeRefusal::Link));
    znodes.set(&path("/link/a"), bytes("2"), None).await.unwrap();
    znodes.create(&path("/link/b"), bytes("3")).await.unwrap();
    assert_eq!(fs::read_to_string(tree.path("d/a")).unwrap(), "2");
    assert_eq!(fs::read_to_string(tree.path("d/b")).unwrap(), "3");
}

#[tokio::test]
async fn names_that_are_no_znodes_are_out_of_reach() {
    let tree = Tree::new();
    fs::write(tree.path(".hidden"), "s").unwrap();
    fs::write(tree.path("backup~"), "s").unwrap();
    for znode in ["/.hidden", "/backup~", "/.d/a"] {
        assert_eq!(tree.znodes().get(&path(znode)).await, absent(znode));
        assert_eq!(tree.znodes().set(&path(znode), bytes("x"), None).await, absent(znode));
        let created = tree.znodes().create(&path(znode), bytes("x")).await;
        assert_eq!(created, failed(znode, ZnodeRefusal::HiddenName));
    }
    assert_eq!(fs::read_to_string(tree.path(".hidden")).unwrap(), "s");
}

#[tokio::test]
async fn a_file_keeps_owner_and_permissions() {
    let tree = Tree::new();
    fs::write(tree.path("a"), "1").unwrap();
    fs::set_permissions(tree.path("a"), fs::Permissions::from_mode(0o640)).unwrap();
    let root = nix::unistd::Uid::effective().is_root();
    if root {
        std::os::unix::fs::chown(tree.path("a"), Some(12345), Some(54321)).unwrap();
    }
    let facts = || {
        use std::os::unix::fs::MetadataExt;
        let metadata = fs::metadata(tree.path("a")).unwrap();
        (metadata.uid(), metadata.gid(), metadata.mode())
    };
    let before = facts();
    tree.znodes().set(&path("/a"), bytes("2"), None).await.unwrap();
    assert_eq!(facts(), before);
    assert_eq!(fs::read_to_string(tree.path("a")).unwrap(), "2");
}

#[tokio::test]
async fn what_no_znode_can_hold_is_refused() {
    let tree = Tree::new();
    let most = 1 << 20;
    let data = |len: usize| Bytes::from(vec![b'x'; len]);
    let too_large = |znode: &str| ZnodeError::TooLarge {
        znode: path(znode),
        most,
    };
    let created = tree.znodes().create(&path("/a"), data(most + 1)).await;
    assert_eq!(created, Err(too_large("/a")));
    tree.znodes().create(&path("/a"), data(most)).await.unwrap();
    let set = tree.znodes().set(&path("/a"), data(most + 1), None).await;
    assert_eq!(set, Err(too_large("/a")));
    assert_eq!(tree.znodes().get(&path("/a")).await.unwrap().0.len(), most);
    fs::write(tree.path("b"), data(most + 1)).unwrap();
    assert_eq!(tree.znodes().get(&path("/b")).await, Err(too_large("/b")));
}

/// Readers see the old data or the new, never a part.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_replaced_as_a_whole() {
    let tree = Tree::new();
    let text = |i: u32| i.to_string().repeat(100_000);
    fs::write(tree.path("a"), text(0)).unwrap();
    let znodes = tree.znodes().clone();
    let writer = tokio::spawn(async move {
        for i in 0..50 {
            let data = Bytes::from(text(i % 10));
            znodes.set(&path("/a"), data, None).await.unwrap();
        }
    });
    let mut reads = 0;
    while !writer.is_finished() || reads == 0 {
        let read = fs::read(tree.path("a")).unwrap();
        assert!(
            read.len() == 100_000 && read.iter().all(|byte| *byte == read[0]),
            "{} bytes",
            read.len()
        );
        reads += 1;
        tokio::time::timeout(Duration::ZERO, std::future::ready(()))
            .await
            .unwrap();
    }
    writer.await.unwrap();
    assert_eq!(tree.entries(), ["a"], "nothing temporary is left");
}
