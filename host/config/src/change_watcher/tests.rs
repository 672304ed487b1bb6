//! Real directories, real inotify.

use std::future::Future;
use std::io::Write;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);
const QUICK: Duration = Duration::from_millis(20);

fn run<F: Future>(test: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.unwrap().block_on(test)
}

struct Config {
    dir: TempDir,
    watcher: Watcher,
}

impl Config {
    /// Prepares a directory, then watches a path in it.
    fn new(watched: &str, prepare: impl FnOnce(&Path)) -> Self {
        let dir = TempDir::new().unwrap();
        prepare(dir.path());
        let watcher = Watcher::new(&[dir.path().join(watched)], QUICK).unwrap();
        Self { dir, watcher }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn component(&self, path: &str, changes: Changes) -> Watched {
        let path = self.path(path).into();
        Watched { path, changes }
    }

    fn write(&self, path: &str) {
        fs::write(self.path(path), "text").unwrap();
    }

    /// Waits for changes until one of them is of the path named last; tells the names of all.
    async fn changes(&mut self, last: &str) -> Vec<String> {
        let mut names = HashSet::new();
        let last = self.path(last);
        let last = fs::canonicalize(&last).unwrap_or(last);
        while !names.contains(&last) {
            let next = tokio::time::timeout(DEADLINE, self.watcher.next()).await;
            names.extend(next.unwrap_or_else(|_| panic!("nothing but {names:?}")));
        }
        let root = fs::canonicalize(self.dir.path()).unwrap();
        let below = |path: PathBuf| path.strip_prefix(&root).unwrap().display().to_string();
        let mut names: Vec<_> = names.into_iter().map(below).collect();
        names.sort();
        names
    }
}

fn directory(root: &Path) {
    fs::create_dir(root.join("conf")).unwrap();
    fs::write(root.join("conf/a.twc"), "text").unwrap();
}

#[test]
fn files_that_are_written_replaced_and_deleted() {
    run(async {
        let mut config = Config::new("conf", directory);
        config.write("conf/a.twc");
        assert_eq!(config.changes("conf/a.twc").await, ["conf/a.twc"]);
        config.write("conf/.a.twc.swp");
        fs::rename(config.path("conf/.a.twc.swp"), config.path("conf/a.twc")).unwrap();
        assert_eq!(config.changes("conf/a.twc").await, ["conf/a.twc"]);
        fs::remove_file(config.path("conf/a.twc")).unwrap();
        assert_eq!(config.changes("conf/a.twc").await, ["conf/a.twc"]);
    });
}

#[test]
fn droppings_are_no_change() {
    run(async {
        let mut config = Config::new("conf", directory);
        for dropping in [
            "conf/.a.twc.swp",
            "conf/a.twc~",
            "conf/4913",
            "conf/README",
            "other.twc",
        ] {
            config.write(dropping);
        }
        fs::remove_file(config.path("conf/4913")).unwrap();
        // Whatever was told of them is told before or with this.
        config.write("conf/b.json");
        assert_eq!(config.changes("conf/b.json").await, ["conf/b.json"]);
    });
}

#[test]
fn sub_directories_that_come_and_go() {
    run(async {
        let mut config = Config::new("conf", directory);
        fs::create_dir_all(config.path("conf/sub/deep")).unwrap();
        config.changes("conf/sub").await;
        config.write("conf/sub/deep/b.twc");
        config.changes("conf/sub/deep/b.twc").await;
        for _ in 0..20 {
            fs::remove_dir_all(config.path("conf/sub")).unwrap();
            fs::create_dir_all(config.path("conf/sub/deep")).unwrap();
            config.changes("conf/sub").await;
            config.write("conf/sub/deep/b.twc");
            config.changes("conf/sub/deep/b.twc").await;
        }
        fs::remove_dir_all(config.path("conf/sub")).unwrap();
        config.changes("conf/sub").await;
    });
}

#[test]
fn a_single_file_whatever_it_is_called() {
    run(async {
        let mut config = Config::new("watches", |root| fs::write(root.join("watches"), "text").unwrap());
        config.write("neighbour.twc");
        config.write("new");
        fs::rename(config.path("new"), config.path("watches")).unwrap();
        assert_eq!(config.changes("watches").await, ["watches"]);
        config.write("watches");
        assert_eq!(config.changes("watches").await, ["watches"]);
    });
}

#[test]
fn a_path_that_comes_later_and_is_replaced() {
    run(async {
        let mut config = Config::new("above/conf", |_| {});
        fs::create_dir_all(config.path("above")).unwrap();
        config.changes("above").await;
        fs::create_dir_all(config.path("above/conf")).unwrap();
        config.changes("above/conf").await;
        config.write("above/conf/a.twc");
        config.changes("above/conf/a.twc").await;
        fs::rename(config.path("above/conf"), config.path("old")).unwrap();
        config.changes("above/conf").await;
        fs::create_dir(config.path("above/conf")).unwrap();
        config.changes("above/conf").await;
        config.write("old/a.twc");
        config.write("above/conf/b.twc");
        assert_eq!(config.changes("above/conf/b.twc").await, ["above/conf/b.twc"]);
        fs::remove_dir_all(config.path("above")).unwrap();
        config.changes("above").await;
        fs::create_dir_all(config.path("above/conf")).unwrap();
        config.changes("above").await;
        config.write("above/conf/a.twc");
        config.changes("above/conf/a.twc").await;
    });
}

#[test]
fn links_to_directories_and_files() {
    run(async {
        let mut config = Config::new("conf", |root| {
            for version in ["v1", "v2", "elsewhere"] {
                fs::create_dir(root.join(version)).unwrap();
            }
            fs::write(root.join("elsewhere/f.twc"), "text").unwrap();
            symlink("v1", root.join("conf")).unwrap();
            symlink("../elsewhere/f.twc", root.join("v1/f.twc")).unwrap();
            symlink(".", root.join("v1/loop")).unwrap();
        });
        config.write("v1/a.twc");
        assert_eq!(config.changes("v1/a.twc").await, ["v1/a.twc"]);
        config.write("elsewhere/f.twc");
        assert_eq!(config.changes("elsewhere/f.twc").await, ["elsewhere/f.twc"]);
        symlink("v2", config.path("new")).unwrap();
        fs::rename(config.path("new"), config.path("conf")).unwrap();
        // The link itself, not what it leads to.
        let next = tokio::time::timeout(DEADLINE, config.watcher.next()).await.unwrap();
        let link = fs::canonicalize(config.dir.path()).unwrap().join("conf");
        assert_eq!(next, HashSet::from([link]));
        config.write("v1/a.twc");
        config.write("v2/a.twc");
        assert_eq!(config.changes("v2/a.twc").await, ["v2/a.twc"]);
    });
}

#[test]
fn a_volume_that_is_swapped_as_a_whole() {
    run(async {
        let volume = |root: &Path, name: &str| {
            fs::create_dir(root.join(name)).unwrap();
            fs::write(root.join(name).join("a.twc"), name).unwrap();
            symlink(name, root.join("..new")).unwrap();
            fs::rename(root.join("..new"), root.join("..data")).unwrap();
        };
        let mut config = Config::new("conf", |root| {
            fs::create_dir(root.join("conf")).unwrap();
            volume(&root.join("conf"), "..1");
            symlink("..data/a.twc", root.join("conf/a.twc")).unwrap();
        });
        volume(&config.path("conf"), "..2");
        let next = tokio::time::timeout(DEADLINE, config.watcher.next()).await.unwrap();
        let data = fs::canonicalize(config.dir.path()).unwrap().join("conf/..data");
        assert!(next.contains(&data), "{next:?}");
    });
}

#[test]
fn half_written_files_hold_the_batch_back() {
    run(async {
        let mut config = Config::new("conf", directory);
        let mut file = fs::File::create(config.path("conf/b.twc")).unwrap();
        file.write_all(b"half").unwrap();
        config.write("conf/a.twc");
        // Without the hold this is over after a tenth of the time; with it, slowness of the machine cannot end it.
        let early = tokio::time::timeout(QUICK * 10, config.watcher.changed()).await;
        assert!(early.is_err(), "told while a file is half written");
        file.write_all(b"done").unwrap();
        drop(file);
        let names = config.changes("conf/b.twc").await;
        assert_eq!(names, ["conf/a.twc", "conf/b.twc"]);
    });
}

#[test]
fn a_cancelled_wait_loses_nothing() {
    run(async {
        let mut config = Config::new("conf", directory);
        config.write("conf/a.twc");
        // Dropped again and again while it waits.
        for _ in 0..50 {
            let step = tokio::time::timeout(Duration::from_millis(1), config.watcher.next()).await;
            if let Ok(changed) = step {
                assert_eq!(changed.len(), 1);
                return;
            }
        }
        config.changes("conf/a.twc").await;
    });
}

#[test]
fn files_of_components_that_are_written_replaced_and_come_later() {
    run(async {
        let mut config = Config::new("conf", |root| {
            directory(root);
            fs::create_dir(root.join("plugins")).unwrap();
            fs::write(root.join("plugins/x.wasm"), "text").unwrap();
        });
        let files = ["conf/y.wasm", "plugins/x.wasm", "later/z.wasm"];
        let files: BTreeSet<Watched> = files
            .iter()
            .map(|file| config.component(file, Changes::Written))
            .collect();
        let components = config.watcher.components();
        assert!(components.watch(files.clone()), "they may have changed before");
        assert!(!components.watch(files));
        config.write("plugins/other.wasm");
        config.write("plugins/x.wasm");
        assert_eq!(config.changes("plugins/x.wasm").await, ["plugins/x.wasm"]);
        config.write("plugins/.new");
        fs::rename(config.path("plugins/.new"), config.path("plugins/x.wasm")).unwrap();
        assert_eq!(config.changes("plugins/x.wasm").await, ["plugins/x.wasm"]);
        config.write("conf/y.wasm");
        assert_eq!(config.changes("conf/y.wasm").await, ["conf/y.wasm"]);
        fs::create_dir(config.path("later")).unwrap();
        config.changes("later").await;
        config.write("later/z.wasm");
        config.changes("later/z.wasm").await;

        assert!(!components.watch(BTreeSet::new()), "fewer are nothing to look at again");
        config.write("plugins/x.wasm");
        config.write("conf/a.twc");
        assert_eq!(config.changes("conf/a.twc").await, ["conf/a.twc"]);
    });
}

#[test]
fn entries_of_a_directory_that_components_depend_on() {
    run(async {
        let mut config = Config::new("conf", |root| {
            directory(root);
            fs::create_dir(root.join("keys")).unwrap();
            fs::write(root.join("keys/a.pub"), "text").unwrap();
            fs::create_dir(root.join("busy")).unwrap();
        });
        let directories = ["keys", "later"].map(|name| config.component(name, Changes::Entries));
        // Who names a directory where a file is meant has mistaken it, and gets no load for each of its files.
        let mistaken = config.component("busy", Changes::Written);
        let watched = directories.into_iter().chain([mistaken]);
        config.watcher.components().watch(watched.collect());
        config.write("busy/x");
        fs::remove_file(config.path("keys/a.pub")).unwrap();
        assert_eq!(config.changes("keys/a.pub").await, ["keys/a.pub"]);
        config.write("keys/b.rights");
        assert_eq!(config.changes("keys/b.rights").await, ["keys/b.rights"]);
        fs::create_dir(config.path("later")).unwrap();
        config.changes("later").await;
        config.write("later/c.pub");
        assert_eq!(config.changes("later/c.pub").await, ["later/c.pub"]);
    });
}

#[test]
fn links_on_the_way_to_a_component() {
    run(async {
        let mut config = Config::new("conf", |root| {
            directory(root);
            for release in ["releases/1", "releases/2"] {
                fs::create_dir_all(root.join(release)).unwrap();
                fs::write(root.join(release).join("x.wasm"), release).unwrap();
            }
            fs::create_dir(root.join("links")).unwrap();
            symlink("../releases/1", root.join("links/current")).unwrap();
            symlink("links/current", root.join("app")).unwrap();
        });
        config
            .watcher
            .components()
            .watch(BTreeSet::from([config.component("app/x.wasm", Changes::Written)]));
        let exchange = |config: &Config, release: &str| {
            symlink(release, config.path("links/new")).unwrap();
            fs::rename(config.path("links/new"), config.path("links/current")).unwrap();
        };
        for release in ["../releases/2", "../releases/1"] {
            exchange(&config, release);
            let next = tokio::time::timeout(DEADLINE, config.watcher.next()).await.unwrap();
            let link = fs::canonicalize(config.dir.path()).unwrap().join("links/current");
            assert_eq!(next, HashSet::from([link]));
        }
        config.write("releases/1/x.wasm");
        assert_eq!(config.changes("releases/1/x.wasm").await, ["releases/1/x.wasm"]);
    });
}

impl Config {
    /// Waits for any change.
    async fn change(&mut self) {
        let next = tokio::time::timeout(DEADLINE, self.watcher.next()).await;
        next.expect("a change");
    }

    /// Waits until this file's changes are noticed; it may take another change before.
    async fn noticed(&mut self, file: &str) {
        self.write(file);
        let changed = fs::canonicalize(self.path(file)).unwrap();
        let seen = async { while !self.watcher.next().await.contains(&changed) {} };
        let seen = tokio::time::timeout(DEADLINE, seen).await;
        seen.unwrap_or_else(|_| panic!("nothing of {file}"));
    }
}

#[test]
fn a_link_whose_target_is_removed_and_made_again() {
    run(async {
        let mut config = Config::new("conf", |root| {
            fs::create_dir_all(root.join("elsewhere/real")).unwrap();
            symlink("elsewhere/real", root.join("conf")).unwrap();
        });
        for _ in 0..3 {
            config.noticed("conf/a.twc").await;
            fs::remove_dir_all(config.path("elsewhere/real")).unwrap();
            config.change().await;
            fs::create_dir(config.path("elsewhere/real")).unwrap();
            config.change().await;
            config.noticed("conf/b.twc").await;
        }
    });
}

#[test]
fn a_link_into_a_directory_that_is_moved_and_put_anew() {
    run(async {
        let mut config = Config::new("conf", |root| {
            fs::create_dir_all(root.join("releases/1/conf")).unwrap();
            symlink("releases/1/conf", root.join("conf")).unwrap();
        });
        for away in ["old", "older"] {
            config.noticed("conf/a.twc").await;
            fs::rename(config.path("releases"), config.path(away)).unwrap();
            config.change().await;
            fs::create_dir_all(config.path("releases/1/conf")).unwrap();
            config.change().await;
            config.noticed("conf/b.twc").await;
        }
    });
}

#[test]
fn a_path_whose_grandparent_is_exchanged() {
    run(async {
        let mut config = Config::new("a/b/conf", |root| {
            fs::create_dir_all(root.join("a/b/conf")).unwrap();
            fs::create_dir_all(root.join("new/b/conf")).unwrap();
        });
        fs::rename(config.path("a"), config.path("old")).unwrap();
        fs::rename(config.path("new"), config.path("a")).unwrap();
        config.change().await;
        config.noticed("a/b/conf/a.twc").await;
    });
}

/// As when a file system is mounted there: inotify tells nothing of it.
#[test]
fn a_load_watches_what_has_come_unseen() {
    run(async {
        let mut config = Config::new("conf", directory);
        let watched = config.watcher.components();
        {
            // While nothing is looked at, no event is.
            fs::rename(config.path("conf"), config.path("old")).unwrap();
            fs::create_dir(config.path("conf")).unwrap();
            watched.look_again();
        }
        config.noticed("conf/b.twc").await;
    });
}

#[test]
fn a_link_that_is_only_ever_exchanged() {
    run(async {
        let mut config = Config::new("conf", |root| {
            directory(root);
            fs::create_dir_all(root.join("store/hello")).unwrap();
            symlink("v1", root.join("store/hello/current")).unwrap();
        });
        let link = config.component("store/hello/current", Changes::Exchanged);
        config.watcher.components().watch(BTreeSet::from([link]));
        symlink("v2", config.path("store/hello/new")).unwrap();
        fs::rename(config.path("store/hello/new"), config.path("store/hello/current")).unwrap();
        let next = tokio::time::timeout(DEADLINE, config.watcher.next()).await.unwrap();
        let link = fs::canonicalize(config.dir.path()).unwrap().join("store/hello/current");
        assert_eq!(next, HashSet::from([link]));
    });
}
