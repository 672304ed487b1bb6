//! Znodes of a directory.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::json;
use tempfile::TempDir;

use super::{At, exit};

struct Tree {
    dir: TempDir,
    at: At,
}

impl Tree {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = At::new(&["--tree", dir.path().to_str().unwrap()]);
        Self { dir, at }
    }

    fn read(&self, path: &str) -> String {
        fs::read_to_string(self.dir.path().join(path)).unwrap()
    }
}

#[test]
fn files_are_set_read_listed_and_deleted() {
    let tree = Tree::new();
    let at = &tree.at;
    let error = at.fails(exit::NO_NODE, &["set", "/git/head", "1"]);
    assert_eq!(
        error,
        "twitcher: znode /git/head does not exist\n  hint: `set -p` and `create -p` create what is missing\n"
    );
    let first = at.ok(&["set", "-p", "/git/head", "1"]);
    assert_eq!(tree.read("git/head"), "1");
    let first = first.trim();
    let set = at.json(&["set", "/git/head", "2", "--if-version", first]);
    assert_eq!(set["znode"], "/git/head");
    let error = at.fails(exit::CONFLICT, &["set", "/git/head", "3", "--if-version", first]);
    let now = set["version"].to_string();
    assert!(error.contains(&format!("has version {now}, not {first}")), "{error}");
    assert_eq!(at.ok(&["get", "/git/head"]), "2");
    assert_eq!(at.json(&["get", "/git/head"])["data"], "2");
    let stat = at.json(&["stat", "/git/head"]);
    assert_eq!((&stat["version"], &stat["data_length"]), (&set["version"], &json!(1)));
    assert!(stat.get("cversion").is_none(), "a directory cannot tell: {stat}");

    at.ok(&["create", "-p", "/app/db/host", "h"]);
    at.ok(&["create", "/app/db/port"]);
    assert_eq!(at.ok(&["ls", "/app/db"]), "host\nport\n");
    assert_eq!(at.json(&["ls", "/app"]), json!({"znode": "/app", "children": ["db"]}));
    assert_eq!(at.ok(&["ls", "/app", "-r"]), "/app/db\n/app/db/host\n/app/db/port\n");
    at.fails(exit::CONFLICT, &["create", "/app/db/port"]);
    at.fails(exit::NO_NODE, &["create", "/none/port"]);

    let error = at.fails(exit::FAILURE, &["delete", "/app"]);
    assert!(
        error.contains("it has children") && error.contains("--recursive"),
        "{error}"
    );
    at.fails(exit::CONFLICT, &["delete", "/git/head", "--if-version", first]);
    at.ok(&["delete", "/git/head", "--if-version", &now]);
    at.ok(&["delete", "/git"]);
    assert_eq!(
        at.json(&["delete", "-r", "/app"]),
        json!({"znode": "/app", "deleted": 4})
    );
    at.fails(exit::NO_NODE, &["delete", "/app"]);
    at.fails(exit::NO_NODE, &["delete", "-r", "/app"]);
    let left = fs::read_dir(tree.dir.path()).unwrap().count();
    assert_eq!(left, 0);
}

#[test]
fn what_a_directory_cannot_hold_is_said() {
    let tree = Tree::new();
    let at = &tree.at;
    at.ok(&["create", "/file", "x"]);
    let error = at.fails(exit::FAILURE, &["set", "-p", "/file/below", "x"]);
    assert!(
        error.contains("a file, which cannot have children") && error.contains("hint: in a directory"),
        "{error}"
    );
    at.ok(&["create", "-p", "/dir/a"]);
    let error = at.fails(exit::FAILURE, &["set", "/dir", "x"]);
    assert!(error.contains("is a directory"), "{error}");
    let error = at.fails(exit::FAILURE, &["create", "/.hidden", "x"]);
    assert!(error.contains("begins with"), "{error}");
    for root in [&["delete", "/"][..], &["delete", "-r", "/"]] {
        at.fails(exit::FAILURE, root);
    }
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("kept"), "k").unwrap();
    symlink(outside.path(), tree.dir.path().join("out")).unwrap();
    at.fails(exit::DENIED, &["get", "/out/kept"]);
    at.fails(exit::DENIED, &["delete", "/out/kept"]);
    at.fails(exit::DENIED, &["create", "-p", "/out/new/a"]);
    // A link to a directory inside goes itself; what it leads to stays.
    symlink("dir", tree.dir.path().join("link")).unwrap();
    at.ok(&["delete", "/link"]);
    assert_eq!(tree.read("dir/a"), "");
    assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);

    let absent = At::new(&["--tree", "/nonexistent/tree"]);
    let error = absent.fails(exit::FAILURE, &["get", "/a"]);
    assert_eq!(
        error,
        "twitcher: --tree /nonexistent/tree: there is no such directory\n"
    );
}

#[test]
fn data_comes_from_arguments_files_and_standard_input_as_it_is() {
    let tree = Tree::new();
    let at = &tree.at;
    let bytes: Vec<u8> = (0..=255).collect();
    assert!(at.given(&["create", "/a", "-"], &bytes).status.success());
    assert_eq!(at.run(&["get", "/a"]).stdout, bytes);
    let json = at.json(&["get", "/a"]);
    assert!(
        json["data_base64"].as_str().unwrap().starts_with("AAECAwQ") && json.get("data").is_none(),
        "{json}"
    );
    let file = tree.dir.path().join(".input");
    fs::write(&file, "from a file\n").unwrap();
    at.ok(&["set", "/a", "--file", file.to_str().unwrap()]);
    assert_eq!(at.ok(&["get", "/a"]), "from a file\n");
    at.ok(&["set", "/a", ""]);
    assert_eq!(at.ok(&["get", "/a"]), "");

    at.fails(exit::USAGE, &["set", "/a"]);
    at.fails(exit::USAGE, &["set", "/a", "x", "--file", "f"]);
    at.fails(exit::USAGE, &["set", "a", "x"]);
    let error = at.fails(exit::FAILURE, &["set", "/a", "--file", "/nonexistent"]);
    assert!(error.contains("cannot read /nonexistent"), "{error}");
    let large = at.given(&["set", "/a", "-"], &vec![b'x'; (1 << 20) + 1]);
    let error = String::from_utf8(large.stderr).unwrap();
    assert!(error.contains("standard input has more than 1048576 bytes"), "{error}");
    assert_eq!(at.ok(&["get", "/a"]), "");
}

#[test]
fn a_place_must_be_named_and_a_reader_may_leave() {
    let error = At::new(&[]).fails(exit::USAGE, &["get", "/a"]);
    assert!(
        error.contains("give --zk HOST:PORT,... (or set TWITCHER_ZK), or --tree DIR"),
        "{error}"
    );
    let error = At::new(&["--zk", "user:secret@h:1"]).fails(exit::USAGE, &["get", "/a"]);
    assert!(
        error.contains("--zk-digest-file") && !error.contains("secret"),
        "{error}"
    );
    let tree = Tree::new();
    tree.at.ok(&["create", "/a", "x"]);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = tree.at.command(&["get", "/a"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(exit::FAILURE));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert!(
        tree.at
            .command(&["get", "/a"])
            .stdout(writer)
            .status()
            .unwrap()
            .success()
    );
}
