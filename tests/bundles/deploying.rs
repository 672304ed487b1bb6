//! Bundles that a znode chooses: installed by an action of the daemon, whatever the znode says.

use std::fs;
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::support::daemon::{Daemon, PROGRAM, Site};
use crate::support::guests::guest;
use crate::support::registry::Registry;

/// Runs `twitcher LINE` in a site, and gives what it prints; words have no spaces.
pub fn ok(site: &Site, line: &str) -> String {
    let mut command = Command::new(PROGRAM);
    let output = command
        .current_dir(site.path("."))
        .args(line.split_whitespace())
        .output()
        .unwrap();
    assert!(output.status.success(), "{line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Which version of `render` is current in a site, if any is.
pub fn current(site: &Site) -> Option<String> {
    let list = ok(site, "bundle list --bundles store --keys keys");
    let mut lines = list
        .lines()
        .filter(|line| line.starts_with("render ") && line.contains("current"));
    let version = lines.next()?.split_whitespace().nth(1)?;
    Some(version.to_owned())
}

/// A site with a key that is trusted and one that is not, and bundles in `dist`.
pub struct Scene {
    pub site: Site,
}

impl Scene {
    pub fn new() -> Self {
        let scene = Self { site: Site::new() };
        for key in ["ours", "other"] {
            scene.ok(&format!("key generate {key}"));
        }
        scene.ok("key trust ours.pub --keys keys");
        scene
    }

    fn ok(&self, line: &str) -> String {
        ok(&self.site, line)
    }

    /// Builds a bundle; gives its file.
    pub fn build(&self, name: &str, version: &str, more: &str) -> PathBuf {
        let component = guest("logs");
        let component = component.display();
        self.ok(&format!(
            "bundle build {component} --name {name} --version {version} --portable --out dist {more}"
        ));
        self.site.path(&format!("dist/{name}-{version}.twb"))
    }

    pub fn signed(&self, version: &str) -> PathBuf {
        self.build("render", version, "--key ours")
    }

    /// The watch `w` of a znode that chooses, and a daemon.
    fn start(&self, action: &str, data: &str) -> Deploying<'_> {
        self.start_within(60, action, data)
    }

    /// The same, whose runs have so many seconds.
    fn start_within(&self, timeout: u32, action: &str, data: &str) -> Deploying<'_> {
        self.site.config(
            "w.twc",
            &format!("RegisterWatch('/plugins/render', {action}, name='w', timeout={timeout})\n"),
        );
        self.site.set("/plugins/render", data);
        let path = |name: &str| self.site.path(name).display().to_string();
        let (tree, store, keys) = (path("tree"), path("store"), path("keys"));
        Deploying {
            scene: self,
            daemon: self
                .site
                .start_with(&["--tree", &tree, "--bundles", &store, "--keys", &keys]),
            runs: 0,
        }
    }
}

struct Deploying<'a> {
    scene: &'a Scene,
    daemon: Daemon,
    runs: usize,
}

impl Deploying<'_> {
    /// Waits for the next run, which has succeeded or not, said this, and left this version.
    fn ends(&mut self, succeeds: bool, says: &[&str], current: Option<&str>) {
        self.runs += 1;
        let runs = self.daemon.wait_runs("w", self.runs);
        let outcome = if succeeds { "success" } else { "exit code 1" };
        assert_eq!(runs[self.runs - 1]["outcome"], outcome, "{}", self.daemon.text());
        let run = &runs[self.runs - 1]["run_id"];
        let of_run = |line: &Value| line["run_id"] == *run;
        self.daemon.wait(&format!("{run} says {says:?}"), |line| {
            let message = line["message"].as_str().unwrap_or_default();
            of_run(line) && says.iter().all(|part| message.contains(part))
        });
        assert_eq!(self::current(&self.scene.site).as_deref(), current);
    }

    fn chooses(&self, data: &str) {
        self.scene.site.set("/plugins/render", data);
    }

    fn deploys(&mut self, data: &str, says: &str, current: &str) {
        self.chooses(data);
        self.ends(true, &[says], Some(current));
    }

    fn refuses(&mut self, data: &str, says: &[&str], current: &str) {
        self.chooses(data);
        // A message has the beginning of it.
        let shown: String = data.trim().chars().take(50).collect();
        let named = format!("/plugins/render says \"{shown}");
        self.ends(false, &[&[&*named], says].concat(), Some(current));
    }
}

#[test]
fn a_znode_chooses_among_what_is_signed_in_a_registry() {
    let (scene, registry) = (Scene::new(), Registry::start());
    let place = format!("oci://{}/tools/render", registry.address());
    let push = |file: PathBuf, tag: &str| scene.ok(&format!("bundle push {} {place}:{tag}", file.display()));
    push(scene.signed("1.0.0"), "1.0.0");
    let pushed = push(scene.signed("1.1.0+b7"), "1.1.0_b7");
    let digest = pushed.trim().rsplit('@').next().unwrap();
    push(scene.build("render", "1.2.0", ""), "1.2.0");
    push(scene.build("render", "1.3.0", "--key other"), "1.3.0");
    push(scene.build("hello", "1.4.0", "--key ours"), "1.4.0");

    let mut w = scene.start(&format!("Deploy('{place}')"), "1.0.0\n");
    w.ends(true, &["render 1.0.0 is installed"], Some("1.0.0"));
    // What runs it takes it, now and later.
    scene
        .site
        .config("r.twc", "RegisterWatch('/x', Wasm('render'), name='r', uid='nobody')\n");
    scene.site.set("/x", "x");
    w.daemon.wait_runs("r", 1);
    w.deploys("1.1.0+b7", "before, it was 1.0.0", "1.1.0+b7");
    w.daemon.wait_runs("r", 2);

    w.refuses(
        "1.2.0",
        &[&place, "it is not signed", "twitcher bundle sign"],
        "1.1.0+b7",
    );
    w.refuses(
        "1.3.0",
        &[&place, "which is not trusted here", "twitcher key trust"],
        "1.1.0+b7",
    );
    let name = ["called hello, and render is expected", "Deploy(..., name = \"hello\")"];
    w.refuses("1.4.0", &name, "1.1.0+b7");
    w.refuses("9.0.0", &["no manifest with the tag 9.0.0"], "1.1.0+b7");
    let nothing = format!("sha256:{}", "0".repeat(64));
    w.refuses(&nothing, &["no manifest with this digest"], "1.1.0+b7");

    w.deploys(" 1.0.0", "a DOWNGRADE from 1.1.0+b7", "1.0.0");
    w.deploys(digest, "before, it was 1.0.0", "1.1.0+b7");
    // What is installed needs no registry.
    drop(registry);
    w.deploys("1.0.0\n", "a DOWNGRADE from 1.1.0+b7", "1.0.0");
    w.deploys("1.0.0", "was the current version already", "1.0.0");
    w.refuses("1.5.0", &["cannot reach the registry"], "1.0.0");
}

/// What looks like a space and is none is seen, and a run whose time is up has said what it was waiting for.
#[test]
fn what_is_odd_or_takes_too_long_is_told() {
    let (scene, deaf) = (Scene::new(), TcpListener::bind("127.0.0.1:0").unwrap());
    let place = format!("oci://{}/tools/render", deaf.local_addr().unwrap());
    let mut w = scene.start_within(2, &format!("Deploy('{place}')"), "1.0.0\u{a0}");
    w.ends(false, &[r#"says "1.0.0\u{a0}", which is not deployed"#], None);
    w.chooses("1.0.0");
    assert_eq!(w.daemon.wait_runs("w", 2)[1]["outcome"], "timed out");
    let pulls = format!("pulling {place}:1.0.0");
    w.daemon.wait(&pulls, |line| {
        line["message"].as_str().is_some_and(|text| text.contains(&pulls))
    });
}

#[test]
fn a_znode_chooses_among_what_is_signed_in_a_directory_and_never_leaves_it() {
    let scene = Scene::new();
    let dist = scene.site.path("dist");
    let place = format!("{}/{{version}}.twb", dist.display());
    for (file, version) in [(scene.signed("1.0.0"), "1.0.0"), (scene.signed("1.1.0"), "1.1.0")] {
        fs::rename(&file, dist.join(format!("{version}.twb"))).unwrap();
    }
    fs::rename(scene.build("render", "1.2.0", ""), dist.join("1.2.0.twb")).unwrap();
    fs::rename(scene.build("render", "1.3.0", "--key other"), dist.join("1.3.0.twb")).unwrap();
    fs::rename(scene.build("hello", "1.4.0", "--key ours"), dist.join("1.4.0.twb")).unwrap();
    fs::copy(dist.join("1.1.0.twb"), dist.join("1.5.0.twb")).unwrap();
    // Where tricks would lead.
    fs::copy(dist.join("1.1.0.twb"), scene.site.path("x.twb")).unwrap();

    let mut w = scene.start(&format!("Deploy('{place}')"), "1.0.0");
    w.ends(true, &["render 1.0.0 is installed"], Some("1.0.0"));
    w.refuses("1.2.0", &["1.2.0.twb", "it is not signed"], "1.0.0");
    w.refuses("1.3.0", &["1.3.0.twb", "which is not trusted here"], "1.0.0");
    w.refuses("1.4.0", &["1.4.0.twb", "called hello, and render is expected"], "1.0.0");
    w.refuses("1.5.0", &["1.5.0.twb", "is 1.1.0, and 1.5.0 is expected"], "1.0.0");
    w.refuses("9.0.0", &["cannot open", "9.0.0.twb"], "1.0.0");
    for data in [
        "../x",
        "../../x",
        "1.0.0/../..",
        "/etc/passwd",
        "latest",
        "1",
        "{version}",
        "sha256:../x",
    ] {
        w.refuses(
            data,
            &["neither a version, such as 1.2.0", "that of a bundle render"],
            "1.0.0",
        );
    }
    w.refuses(&"1".repeat(100_000), &["neither a version"], "1.0.0");
    w.refuses(" \n", &["it is empty"], "1.0.0");

    w.deploys("1.1.0", "before, it was 1.0.0", "1.1.0");
    fs::remove_dir_all(&dist).unwrap();
    w.deploys("1.0.0", "a DOWNGRADE from 1.1.0", "1.0.0");
    // A key that is not trusted any more signs nothing, also of what is installed.
    fs::remove_file(scene.site.path("keys/ours.pub")).unwrap();
    w.refuses("1.1.0", &["cannot open"], "1.0.0");
    fs::remove_dir_all(scene.site.path("keys")).unwrap();
    w.refuses("1.1.0\n", &["no key is trusted here", "twitcher key trust"], "1.0.0");
}

#[test]
fn a_digest_chooses_a_file_by_its_manifest() {
    let scene = Scene::new();
    let dist = scene.site.path("dist");
    let (wanted, other) = (scene.signed("1.0.0"), scene.signed("1.1.0"));
    scene.ok("bundle install dist/render-1.0.0.twb --bundles look --keys keys");
    let digest = fs::read_link(scene.site.path("look/render/current")).unwrap();
    let digest = digest.display().to_string();
    fs::rename(other, dist.join(format!("render-{digest}.twb"))).unwrap();
    let action = format!("Deploy('{}/render-{{version}}.twb')", dist.display());
    let mut w = scene.start(&action, &format!("sha256:{digest}"));
    w.ends(false, &["and sha256:", "is expected"], None);
    fs::rename(wanted, dist.join(format!("render-{digest}.twb"))).unwrap();
    w.deploys(&format!("sha256:{digest}\n"), "render 1.0.0 is installed", "1.0.0");
}
