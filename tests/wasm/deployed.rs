//! Bundles under the daemon: named by configurations, exchanged while it runs, refused when they should be.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use super::plugins::plugin;
use super::{loaded, message, open_out, outcome};
use crate::support::daemon::{Daemon, Site};
use crate::support::guests::{guest, text_guest};

fn twitcher(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_twitcher"))
        .args(arguments)
        .output()
        .unwrap()
}

/// Runs a command that must succeed; gives what it printed.
fn done(arguments: &[&str]) -> String {
    let output = twitcher(arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    text(&output.stdout) + &text(&output.stderr)
}

/// A site with a store, a key that may sign native code, and one that nobody trusts.
struct Deployed {
    site: Site,
}

impl Deployed {
    fn new() -> Self {
        let deployed = Self { site: Site::new() };
        open_out(&deployed.site);
        for name in ["ours", "other"] {
            done(&["key", "generate", &deployed.path(name)]);
        }
        deployed.trust("ours", &["--native"]);
        deployed
    }

    fn path(&self, name: &str) -> String {
        self.site.path(name).display().to_string()
    }

    fn trust(&self, key: &str, more: &[&str]) {
        let file = self.path(&format!("{key}.pub"));
        done(&[&["key", "trust", &file, "--keys", &self.path("keys")], more].concat());
    }

    /// Builds the plugin `hello` as a version of the bundle `hello`.
    fn build(&self, version: &str, more: &[&str]) -> String {
        self.build_of(&plugin("hello"), version, more)
    }

    fn build_of(&self, component: &Path, version: &str, more: &[&str]) -> String {
        let component = component.display().to_string();
        let out = self.path("dist");
        fs::create_dir_all(&out).unwrap();
        let given = [
            "bundle",
            "build",
            &component,
            "--name",
            "hello",
            "--version",
            version,
            "--out",
            &out,
        ];
        done(&[&given[..], &["--target", "x86_64-linux"], more].concat());
        format!("{out}/hello-{version}.twb")
    }

    fn signed(&self, version: &str) -> String {
        self.build(version, &["--key", &self.path("ours")])
    }

    fn install(&self, file: &str, keys: &str) -> String {
        let (store, keys) = (self.path("store"), self.path(keys));
        // Also in place of a newer version.
        done(&[
            "bundle",
            "install",
            file,
            "--store",
            &store,
            "--keys",
            &keys,
            "--allow-downgrade",
        ])
    }

    /// The watch `w` of `/x` with this action, and a daemon.
    fn start(&self, action: &str, more: &[&str]) -> Daemon {
        self.site.config(
            "w.twc",
            &format!("RegisterWatch(znode='/x', name='w', uid='nobody', action={action})\n"),
        );
        self.site.set("/x", "one");
        let tree = self.path("tree");
        let own = [
            "--tree",
            &tree,
            "--bundles",
            &self.path("store"),
            "--keys",
            &self.path("keys"),
        ];
        self.site.start_with(&[&own[..], more].concat())
    }

    fn versions(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.site.path("store/hello")).unwrap();
        entries
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir() && !path.is_symlink())
            .collect()
    }
}

fn uses(version: &str) -> impl Fn(&Value) -> bool + '_ {
    move |line| message(line) == "native code of the bundle is used" && line["version"] == version
}

fn compiled(daemon: &Daemon) -> usize {
    daemon.count(|line| message(line) == "component compiled")
}

#[test]
fn another_version_runs_without_a_restart_and_without_compiling_and_so_does_the_old_one_again() {
    let deployed = Deployed::new();
    deployed.install(&deployed.signed("1.0.0"), "keys");
    let daemon = deployed.start("Wasm('hello')", &[]);
    daemon.wait("1.0.0 is used", uses("1.0.0"));
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");

    deployed.install(&deployed.signed("1.1.0"), "keys");
    daemon.wait("1.1.0 is used", uses("1.1.0"));
    assert_eq!(outcome(&daemon.wait_runs("w", 2)[1]), "success");

    done(&["bundle", "use", "hello@1.0.0", "--store", &deployed.path("store")]);
    daemon.wait_for(2, "1.0.0 is used again", uses("1.0.0"));
    assert_eq!(outcome(&daemon.wait_runs("w", 3)[2]), "success");
    assert_eq!(compiled(&daemon), 0, "{}", daemon.text());
}

#[test]
fn a_core_module_runs_as_its_bundle_s_native_code_too() {
    let deployed = Deployed::new();
    let key = deployed.path("ours");
    let bundle = deployed.build_of(&text_guest("core_exits_7"), "1.0.0", &["--key", &key]);
    deployed.install(&bundle, "keys");
    let daemon = deployed.start("Wasm('hello')", &[]);
    daemon.wait("1.0.0 is used", uses("1.0.0"));
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "exit code 7");
    assert_eq!(compiled(&daemon), 0, "{}", daemon.text());
}

#[test]
fn a_grant_that_the_bundle_does_not_request_is_told_as_that() {
    let deployed = Deployed::new();
    let key = deployed.path("ours");
    let bundle = deployed.build_of(&guest("requests"), "1.0.0", &["--key", &key]);
    deployed.install(&bundle, "keys");
    let grants = "config={'scheme': 'http', 'authority': 'localhost:1'}, http=['http://localhost:1']";
    let daemon = deployed.start(&format!("Wasm('hello', {grants})"), &[]);
    daemon.wait("what is missing", |line| {
        let text = message(line);
        text.starts_with("denied: a request to http://localhost:1; ")
            && text.contains(
                "the bundle hello 1.0.0 must request it: `twitcher bundle build` has --http http://localhost:1",
            )
    });
}

#[test]
fn what_is_used_is_not_removed() {
    let deployed = Deployed::new();
    for version in ["1.0.0", "1.1.0", "1.2.0"] {
        deployed.install(&deployed.signed(version), "keys");
    }
    let daemon = deployed.start("Wasm('hello@1.0')", &[]);
    daemon.wait("1.0.0 is used", uses("1.0.0"));
    let store = deployed.path("store");
    assert_eq!(deployed.versions().len(), 3);
    done(&["bundle", "gc", "--keep", "0", "--store", &store]);
    assert_eq!(
        deployed.versions().len(),
        2,
        "the current one and the one in use are left"
    );
    let removed = twitcher(&["bundle", "remove", "hello@1.0.0", "--store", &store]);
    assert!(
        String::from_utf8_lossy(&removed.stderr).contains("in use"),
        "{removed:?}"
    );

    // No longer meant, it can go.
    deployed.site.config(
        "w.twc",
        "RegisterWatch(znode='/x', name='w', uid='nobody', action=Wasm('hello'))\n",
    );
    daemon.wait("1.2.0 is used", uses("1.2.0"));
    daemon.wait_runs("w", 2);
    crate::support::until("1.0.0 can be removed", || {
        done(&["bundle", "gc", "--keep", "0", "--store", &store]);
        deployed.versions().len() == 1
    });
}

#[test]
fn a_series_means_its_newest_version_whatever_is_current() {
    let deployed = Deployed::new();
    deployed.install(&deployed.signed("1.0.0"), "keys");
    deployed.install(&deployed.signed("2.0.0"), "keys");
    let daemon = deployed.start("Wasm('hello@1')", &[]);
    daemon.wait("1.0.0 is used", uses("1.0.0"));
    deployed.install(&deployed.signed("1.0.1"), "keys");
    daemon.wait("1.0.1 is used", uses("1.0.1"));
    assert_eq!(daemon.count(uses("2.0.0")), 0);
}

#[test]
fn what_does_not_verify_never_replaces_what_works() {
    let deployed = Deployed::new();
    deployed.install(&deployed.signed("1.0.0"), "keys");
    let daemon = deployed.start("Wasm('hello')", &[]);
    daemon.wait_runs("w", 1);

    // Signed by a key that is trusted elsewhere.
    fs::create_dir(deployed.site.path("elsewhere")).unwrap();
    done(&[
        "key",
        "trust",
        &deployed.path("other.pub"),
        "--keys",
        &deployed.path("elsewhere"),
    ]);
    let foreign = deployed.build("1.1.0", &["--key", &deployed.path("other")]);
    deployed.install(&foreign, "elsewhere");
    daemon.wait("the key is not trusted", |line| {
        message(line).contains("is not trusted here")
    });
    daemon.wait("the old watches stay", |line| {
        message(line).contains("its previous watches stay")
    });
    deployed.site.set("/x", "two");
    assert_eq!(outcome(&daemon.wait_runs("w", 2)[1]), "success");

    // A byte that was changed after it was installed.
    deployed.install(&deployed.signed("1.2.0"), "keys");
    daemon.wait("1.2.0 is used", uses("1.2.0"));
    daemon.wait_runs("w", 3);
    done(&["bundle", "use", "hello@1.0.0", "--store", &deployed.path("store")]);
    daemon.wait_for(2, "1.0.0 is used", uses("1.0.0"));
    let runs = daemon.wait_runs("w", 4).len();
    let of_12 = deployed.versions().into_iter().find(|dir| {
        fs::read_to_string(dir.join("manifest.json"))
            .unwrap()
            .contains("\"1.2.0\"")
    });
    let of_12 = of_12.unwrap();
    let native = walk(&of_12)
        .into_iter()
        .find(|file| file.extension().is_some_and(|e| e == "cwasm"))
        .unwrap();
    let mut code = fs::read(&native).unwrap();
    let middle = code.len() / 2;
    code[middle] ^= 1;
    fs::write(&native, code).unwrap();
    let link = deployed.site.path("store/hello/current");
    let draft = deployed.site.path("store/hello/.draft");
    std::os::unix::fs::symlink(of_12.file_name().unwrap(), &draft).unwrap();
    fs::rename(&draft, &link).unwrap();
    daemon.wait("it is damaged", |line| message(line).contains("is damaged"));
    deployed.site.set("/x", "three");
    assert_eq!(outcome(&daemon.wait_runs("w", runs + 1)[runs]), "success");
}

fn walk(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] })
        .collect()
}

#[test]
fn without_the_right_to_native_code_the_component_is_compiled() {
    let deployed = Deployed::new();
    fs::remove_dir_all(deployed.site.path("keys")).unwrap();
    deployed.trust("ours", &[]);
    deployed.install(&deployed.signed("1.0.0"), "keys");
    let daemon = deployed.start("Wasm('hello')", &[]);
    let line = daemon.wait("why not", |line| {
        message(line).starts_with("no native code of the bundle is used")
    });
    assert!(message(&line).contains("no right to native code"), "{line}");
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
    assert_eq!(compiled(&daemon), 1);
}

#[test]
fn a_key_that_was_removed_stops_the_next_load() {
    let deployed = Deployed::new();
    deployed.trust("other", &[]);
    deployed.install(&deployed.signed("1.0.0"), "keys");
    let daemon = deployed.start("Wasm('hello')", &[]);
    daemon.wait_runs("w", 1);
    // Nobody needs to ask for it: what is refused is said. What is loaded goes on.
    let refused = |line: &Value| message(line).contains("is not trusted here");
    fs::remove_file(deployed.site.path("keys/ours.pub")).unwrap();
    daemon.wait("refused", refused);
    deployed.site.set("/x", "two");
    daemon.wait_runs("w", 2);
    // Nothing of it is loaded any more.
    daemon.stop();
    let daemon = deployed.start("Wasm('hello')", &[]);
    daemon.wait("refused", refused);
    assert_eq!(daemon.count(|line| line["watch"] == "w"), 0);
    let check = twitcher(&[
        "check",
        &deployed.path("conf"),
        "--bundles",
        &deployed.path("store"),
        "--keys",
        &deployed.path("keys"),
    ]);
    assert_eq!(check.status.code(), Some(1), "{check:?}");
    // And once it is trusted again, it is, again without a word.
    deployed.trust("ours", &[]);
    daemon.wait_runs("w", 1);
}

#[test]
fn native_code_that_is_loaded_is_not_used_once_the_right_to_it_is_taken_away() {
    let deployed = Deployed::new();
    deployed.install(&deployed.signed("1.0.0"), "keys");
    let daemon = deployed.start("Wasm('hello')", &[]);
    daemon.wait_runs("w", 1);
    let is_mapped = |path: &str| loaded(&daemon).iter().any(|line| line.contains(&deployed.path(path)));
    assert!(is_mapped("store/hello") && !is_mapped("state/components"));
    deployed.trust("ours", &[]);
    daemon.wait("component compiled", |line| message(line) == "component compiled");
    daemon.wait_for(2, "loaded", |line| message(line) == "configuration loaded");
    deployed.site.set("/x", "two");
    assert_eq!(outcome(daemon.wait_runs("w", 2).last().unwrap()), "success");
    assert!(is_mapped("state/components"));
}

#[test]
fn only_what_is_signed_runs_where_that_is_required() {
    let deployed = Deployed::new();
    let unsigned = deployed.build("1.0.0", &[]);
    deployed.install(&unsigned, "keys");
    let file = plugin("hello").display().to_string();
    deployed.site.config(
        "file.twc",
        &format!("RegisterWatch('/x', Wasm({file:?}), uid='nobody', name='file')\n"),
    );
    deployed.site.config(
        "path.twc",
        &format!("RegisterWatch('/x', Wasm({unsigned:?}), uid='nobody', name='path')\n"),
    );
    let daemon = deployed.start("Wasm('hello')", &["--require-signed"]);
    let refused = |line: &Value| message(line).contains("only signed bundles run here");
    assert_eq!(daemon.wait_for(3, "refused", refused).len(), 3);
    daemon.stop();
    // Where it is not, all three run.
    let daemon = deployed.start("Wasm('hello')", &[]);
    for watch in ["w", "file", "path"] {
        assert_eq!(outcome(&daemon.wait_runs(watch, 1)[0]), "success");
    }
}

#[test]
fn a_bundle_can_be_named_by_its_path_and_is_exchanged_when_the_file_is() {
    let deployed = Deployed::new();
    fs::copy(deployed.signed("1.0.0"), deployed.site.path("hello.twb")).unwrap();
    let daemon = deployed.start(&format!("Wasm({:?})", deployed.path("hello.twb")), &[]);
    daemon.wait("1.0.0 is used", uses("1.0.0"));
    daemon.wait_runs("w", 1);
    fs::copy(deployed.signed("1.1.0"), deployed.site.path("draft")).unwrap();
    fs::rename(deployed.site.path("draft"), deployed.site.path("hello.twb")).unwrap();
    daemon.wait("1.1.0 is used", uses("1.1.0"));
    assert_eq!(outcome(&daemon.wait_runs("w", 2)[1]), "success");
    // Cut off, it is refused and nothing changes.
    let whole = fs::read(deployed.site.path("hello.twb")).unwrap();
    deployed.site.write("hello.twb", "");
    fs::write(deployed.site.path("hello.twb"), &whole[..whole.len() / 2]).unwrap();
    daemon.wait("refused", |line| message(line).contains("cut off"));
    deployed.site.set("/x", "two");
    assert_eq!(outcome(&daemon.wait_runs("w", 3)[2]), "success");
}

#[test]
fn a_run_gets_what_is_both_asked_for_and_granted_and_the_differences_are_named() {
    let deployed = Deployed::new();
    let render = plugin("render");
    let requests = [
        "--dir",
        "/templates=ro",
        "--dir",
        "/out=rw",
        "--config-key",
        "template",
        "--config-key",
        "dest",
    ];
    let file = deployed.build_of(
        &render,
        "1.0.0",
        &[&["--key", &deployed.path("ours")], &requests[..]].concat(),
    );
    deployed.install(&file, "keys");
    deployed.site.write("templates/t", "{{ data }}");
    let action = format!(
        "Wasm('hello', config={{'template': '/templates/t', 'dest': '/out/f', 'perms': '0640'}}, \
         dirs={{'/templates': '{0}:rw', '/secret': '{0}'}}, http=['https://example.org'])",
        deployed.path("templates")
    );
    let daemon = deployed.start(&action, &[]);
    let mut notes = Vec::new();
    for what in [
        "dirs \"/out\", which is not granted",
        "dirs \"/secret\", which it does not ask for",
        "http \"https://example.org\"",
        "dirs \"/templates\" to write",
        "config has \"perms\"",
    ] {
        let line = daemon.wait(what, |line| line["level"] == "WARN" && message(line).contains(what));
        notes.push(message(&line).to_owned());
    }
    assert!(notes.iter().all(|note| note.contains("w.twc:1:")), "{notes:?}");
    // It fails for the directory that it was not granted.
    assert!(outcome(&daemon.wait_runs("w", 1)[0]).starts_with("failed"));
    daemon.stop();

    let check = twitcher(&[
        "check",
        &deployed.path("conf"),
        "--bundles",
        &deployed.path("store"),
        "--keys",
        &deployed.path("keys"),
        "--json",
    ]);
    let json: Value = serde_json::from_slice(&check.stdout).unwrap();
    let watch = &json["watches"][0];
    assert_eq!(watch["component"]["bundle"]["version"], "1.0.0");
    assert_eq!(watch["action"]["wasm"]["component"], "hello");
    assert_eq!(
        watch["action"]["wasm"]["dirs"]
            .as_object()
            .unwrap()
            .keys()
            .collect::<Vec<_>>(),
        ["/templates"]
    );
    assert!(watch["action"]["wasm"]["http"].is_null());
    // The directory is in one where others can write, which is another matter.
    let notes = json["notes"].as_array().unwrap().iter().map(Value::to_string);
    let differences: Vec<String> = notes.filter(|note| !note.contains("decide")).collect();
    assert_eq!(differences.len(), 5, "{differences:?}");
}

#[test]
fn a_bundle_that_is_not_there_is_a_located_error() {
    let deployed = Deployed::new();
    let daemon = deployed.start("Wasm('hello@1')", &[]);
    let line = daemon.wait("error", |line| message(line).contains("no bundle hello@1 is installed"));
    assert!(message(&line).contains("w.twc:1:"), "{line}");
    // And found as soon as it is.
    deployed.install(&deployed.signed("1.0.0"), "keys");
    assert_eq!(outcome(&daemon.wait_runs("w", 1)[0]), "success");
}
