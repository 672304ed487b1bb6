//! Files that are seen before they have settled, because they are finished.

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;

use tempfile::TempDir;
use twitcher_model::WatchType;
use twitcher_source::tree::TreeOptions;

use super::{DEADLINE, Tree, run};

/// A tree in which nothing becomes quiet while a test runs: what is seen is seen without waiting.
fn never_quiet() -> Tree {
    let dir = TempDir::new().unwrap();
    fs::create_dir(dir.path().join("tree")).unwrap();
    let options = TreeOptions {
        sweep: DEADLINE * 10,
        quiet: DEADLINE * 10,
        writing: DEADLINE * 10,
        ..TreeOptions::new(dir.path().join("tree"))
    };
    Tree::with(dir, options)
}

/// What is seen before a file that is finished now.
async fn seen_before_now(tree: &mut Tree) -> Vec<String> {
    tree.fence_by(|path| fs::write(path, "fence").unwrap()).await
}

#[test]
fn what_is_finished_is_seen_at_once() {
    run(async {
        let mut tree = never_quiet();
        assert_eq!(tree.first("/f", WatchType::Data).await, "-");
        tree.write("f", "created");
        assert_eq!(tree.text().await, "created");
        tree.write("f", "written");
        assert_eq!(tree.text().await, "written");
        let appended = fs::File::options().append(true).open(tree.path("f"));
        appended.unwrap().write_all(b" to").unwrap();
        assert_eq!(tree.text().await, "written to");
        tree.write(".draft", "exchanged");
        fs::rename(tree.path(".draft"), tree.path("f")).unwrap();
        assert_eq!(tree.text().await, "exchanged");
        let elsewhere = tree.dir.path().join("elsewhere");
        fs::write(&elsewhere, "from elsewhere").unwrap();
        fs::rename(elsewhere, tree.path("f")).unwrap();
        assert_eq!(tree.text().await, "from elsewhere");
        // The last of those that share an opening, as a shell's `{ …; } > file` and its children do.
        let file = fs::File::create(tree.path("f")).unwrap();
        let mut other = file.try_clone().unwrap();
        drop(file);
        other.write_all(b"shared").unwrap();
        assert_eq!(seen_before_now(&mut tree).await, [""; 0]);
        drop(other);
        assert_eq!(tree.text().await, "shared");
    });
}

#[test]
fn a_directory_that_is_moved_into_place_is_seen_at_once() {
    run(async {
        let mut tree = never_quiet();
        assert_eq!(tree.first("/conf/a/f", WatchType::Data).await, "-");
        let draft = tree.dir.path().join("draft");
        fs::create_dir_all(draft.join("a")).unwrap();
        fs::write(draft.join("a/f"), "moved").unwrap();
        fs::rename(draft, tree.path("conf")).unwrap();
        assert_eq!(tree.text().await, "moved");
        // As container managers swap a volume.
        fs::create_dir_all(tree.path("vol/..1")).unwrap();
        fs::create_dir_all(tree.path("vol/..2")).unwrap();
        tree.write("vol/..1/f", "first");
        tree.write("vol/..2/f", "second");
        symlink("..1", tree.path("vol/..data")).unwrap();
        symlink("..data/f", tree.path("vol/f")).unwrap();
        assert_eq!(tree.first("/vol/f", WatchType::Data).await, "first");
        symlink("..2", tree.path("vol/..data_tmp")).unwrap();
        fs::rename(tree.path("vol/..data_tmp"), tree.path("vol/..data")).unwrap();
        assert_eq!(tree.text().await, "second");
    });
}

#[test]
fn what_may_be_half_of_a_change_is_not_seen_at_once() {
    run(async {
        let mut tree = never_quiet();
        tree.write("f", "old");
        assert_eq!(tree.first("/f", WatchType::Data).await, "old");
        // By an editor that puts another file into the place of the old one.
        fs::remove_file(tree.path("f")).unwrap();
        assert_eq!(seen_before_now(&mut tree).await, [""; 0]);
        tree.write("f", "new");
        assert_eq!(tree.text().await, "new");
        // Emptied first, and filled by a second opening.
        tree.write("f", "");
        assert_eq!(seen_before_now(&mut tree).await, [""; 0]);
        tree.write("f", "filled");
        assert_eq!(tree.text().await, "filled");
        // Renamed by one that still writes to it.
        let mut file = fs::File::create(tree.path(".draft")).unwrap();
        file.write_all(b"first half, ").unwrap();
        fs::rename(tree.path(".draft"), tree.path("f")).unwrap();
        assert_eq!(seen_before_now(&mut tree).await, [""; 0]);
        file.write_all(b"second half").unwrap();
        drop(file);
        assert_eq!(tree.text().await, "first half, second half");
    });
}

#[test]
fn what_happens_to_many_names_is_seen_when_it_has_settled() {
    run(async {
        let mut tree = never_quiet();
        fs::create_dir(tree.path("d")).unwrap();
        tree.write("d/f", "old");
        tree.write("d/g", "old");
        assert_eq!(tree.first("/d", WatchType::Children).await, "f\ng\n");
        assert_eq!(tree.first("/d", WatchType::Tree).await, "/d\n/d/f\n/d/g\n");
        assert_eq!(tree.first("/d/g", WatchType::Data).await, "old");
        // `sed -i` on one, an editor with the other.
        tree.write("d/temporary", "new");
        fs::rename(tree.path("d/temporary"), tree.path("d/g")).unwrap();
        fs::remove_file(tree.path("d/f")).unwrap();
        tree.write("d/f", "new");
        assert_eq!(seen_before_now(&mut tree).await, [""; 0]);
    });
    // A file that is written keeps its name.
    run(async {
        let mut tree = never_quiet();
        tree.write("f", "old");
        assert_eq!(tree.first("/", WatchType::Tree).await, "/\n/f\n");
        assert_eq!(tree.first("/f", WatchType::Data).await, "old");
        tree.write("f", "new");
        assert_eq!(tree.text().await, "new");
    });
}

#[test]
fn a_finished_file_is_one_change() {
    run(async {
        let mut tree = Tree::new();
        assert_eq!(tree.first("/f", WatchType::Data).await, "-");
        assert_eq!(tree.first("/", WatchType::Tree).await, "/\n");
        for round in 0..10 {
            tree.write("f", &format!("data {round}"));
            assert_eq!(tree.text().await, format!("data {round}"));
            // Now it has settled, and is not told again to who has it.
            assert_eq!(tree.text().await, "/f\n");
        }
        let mut seen = tree.fence().await;
        seen.retain(|seen| seen != "/fence2\n");
        assert_eq!(seen, [""; 0]);
    });
}
