//! What bundles cost: from the moment that another version is in force until its first action has ended, at the start of a daemon, and
//! to verify one.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::peer::Peer;
use crate::program;
use crate::table::Table;
use crate::{median, ms, ratio};

const VERSIONS: usize = 30;
const MANY: usize = 20;
const STARTS: usize = 7;
/// What verifying reads: a component with so much in a section that means nothing.
const LARGE: usize = 60 << 20;
const VERIFIED: usize = 7;

pub fn measure(table: &mut Table) {
    let Some(component) = std::env::var_os("TWITCHER_BENCH_COMPONENT").map(PathBuf::from) else {
        table.row("bundles: not measured, TWITCHER_BENCH_COMPONENT is not set", "", "");
        return;
    };
    let place = Place::new();
    rolling(table, &place, &component);
    starting(table, &place, &component);
    verifying(table, &place, &component);
}

/// A key that is trusted with native code, a store, a tree, configurations.
struct Place(TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for dir in ["tree", "keys", "store", "dist", "rolling", "wasm", "exec"] {
            fs::create_dir(place.path(dir)).unwrap();
        }
        place.done(&["key", "generate", &place.text("key")]);
        place.done(&[
            "key",
            "trust",
            &place.text("key.pub"),
            "--keys",
            &place.text("keys"),
            "--native",
        ]);
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn text(&self, name: &str) -> String {
        self.path(name).display().to_string()
    }

    fn done(&self, arguments: &[&str]) {
        let mut command = twitcher();
        let output = command
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    fn build(&self, component: &Path, name: &str, version: &str) -> String {
        let (component, dist, key) = (component.display().to_string(), self.text("dist"), self.text("key"));
        let what = ["--name", name, "--version", version, "--target", "x86_64-linux"];
        self.done(
            &[
                &["bundle", "build", &component, "--key", &key, "--out", &dist],
                &what[..],
            ]
            .concat(),
        );
        format!("{dist}/{name}-{version}.twb")
    }

    fn install(&self, bundle: &str) {
        self.done(&[
            "bundle",
            "install",
            bundle,
            "--store",
            &self.text("store"),
            "--keys",
            &self.text("keys"),
        ]);
    }

    /// A daemon whose log is read.
    fn daemon(&self, config: &str) -> Peer {
        let state = tempfile::tempdir().unwrap();
        let mut command = twitcher();
        command
            .args(["run", "--log_to_stdout", "--tree"])
            .arg(self.path("tree"));
        command
            .arg("--config")
            .arg(self.path(config))
            .arg("--state-dir")
            .arg(state.path());
        command
            .arg("--bundles")
            .arg(self.path("store"))
            .arg("--keys")
            .arg(self.path("keys"));
        Peer::of(&mut command, state)
    }
}

fn twitcher() -> Command {
    Command::new(program::ours())
}

/// Another version is put in force while the daemon runs; its watch acts at once, because it was changed.
fn rolling(table: &mut Table, place: &Place, component: &Path) {
    place.install(&place.build(component, "rolling", "1.0.0"));
    place.install(&place.build(component, "rolling", "1.0.1"));
    fs::write(place.path("tree/rolling"), "0").unwrap();
    fs::write(
        place.path("rolling/a.twc"),
        "RegisterWatch('/rolling', Wasm('rolling'))\n",
    )
    .unwrap();
    let daemon = place.daemon("rolling");
    daemon.line("run ended");
    let (mut until_ended, mut running) = (Vec::new(), Vec::new());
    for version in 0..VERSIONS {
        let which = format!("rolling@1.0.{}", version % 2);
        // The command ends once the version is in force, on the disk too, which the daemon does not wait for.
        let (store, keys) = (place.text("store"), place.text("keys"));
        place.done(&["bundle", "use", &which, "--store", &store, "--keys", &keys]);
        let link = fs::symlink_metadata(place.path("store/rolling/current")).unwrap();
        let in_force = Instant::now() - link.modified().unwrap().elapsed().unwrap();
        let started = daemon.line("run started");
        let ended = daemon.line("run ended");
        running.push(ended - started);
        until_ended.push(ended.saturating_duration_since(in_force));
    }
    let compiled = daemon.lines_so_far("component compiled");
    assert_eq!(compiled, 0, "native code was there");
    let (until_ended, running) = (median(until_ended), median(running));
    table.row(
        format!("another version in force → its first action has exited; {compiled} compiled in {VERSIONS}"),
        ms(until_ended),
        format!("{} of them the action", ms(running)),
    );
}

/// Twenty bundles beside twenty commands, from the daemon's first moment until all watches are armed.
fn starting(table: &mut Table, place: &Place, component: &Path) {
    let (mut wasm, mut exec) = (String::new(), String::new());
    for number in 0..MANY {
        let name = format!("plugin-{number}");
        place.install(&place.build(component, &name, "1.0.0"));
        wasm += &format!("RegisterWatch('/absent-{number}', Wasm('{name}'))\n");
        exec += &format!("RegisterWatch('/absent-{number}', Exec(['/bin/true']))\n");
    }
    fs::write(place.path("wasm/a.twc"), wasm).unwrap();
    fs::write(place.path("exec/a.twc"), exec).unwrap();
    let start = |config: &str| {
        let begin = Instant::now();
        let daemon = place.daemon(config);
        daemon.line("all watches are armed") - begin
    };
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        without.push(start("exec"));
        with.push(start("wasm"));
    }
    let (with, without) = (median(with), median(without));
    table.row(format!("start → {MANY} watches with commands armed"), ms(without), "1");
    table.row(
        format!("start → {MANY} watches with bundles armed"),
        ms(with),
        ratio(with, without),
    );
}

/// Beside the tool that does nothing but the digest.
fn verifying(table: &mut Table, place: &Place, component: &Path) {
    let mut bytes = fs::read(component).unwrap();
    // A custom section: its id, its size, a name of one byte, whatever follows.
    bytes.push(0);
    let mut size = LARGE;
    while size >= 0x80 {
        bytes.push((size & 0x7f) as u8 | 0x80);
        size >>= 7;
    }
    bytes.push(size as u8);
    bytes.extend([1, b'x']);
    bytes.extend((2..LARGE).map(|_| fastrand::u8(..)));
    let large = place.path("large.wasm");
    fs::write(&large, bytes).unwrap();
    let bundle = place.build(&large, "large", "1.0.0");
    let timed = |command: &mut Command| {
        let begin = Instant::now();
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        begin.elapsed()
    };
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..VERIFIED {
        theirs.push(timed(Command::new("sha256sum").arg(&bundle)));
        ours.push(timed(twitcher().args([
            "bundle",
            "verify",
            &bundle,
            "--key",
            &place.text("key.pub"),
        ])));
    }
    let (ours, theirs): (Duration, Duration) = (median(ours), median(theirs));
    let size = fs::metadata(&bundle).unwrap().len() >> 20;
    table.row(format!("`sha256sum` of a bundle of {size} MiB"), ms(theirs), "1");
    table.row(
        "`twitcher bundle verify` of it",
        ms(ours),
        format!("{} of the throughput", ratio(theirs, ours)),
    );
}
