//! Bundles in a registry: pushed to and pulled from Debian's docker-registry, and by and from another client.

mod access;
mod asked;
mod fake;
mod hostile;
mod origins;
mod peer;
mod vendors;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::support::guests::guest;
use crate::support::registry::Registry;

/// A bundle with native code for two kinds of machines, signed; the keys; and its parts, unpacked.
struct Sample {
    dir: PathBuf,
}

impl Sample {
    /// Made once for a run of the tests.
    fn get() -> &'static Self {
        static SAMPLE: OnceLock<Sample> = OnceLock::new();
        SAMPLE.get_or_init(|| {
            let all = Path::new(env!("CARGO_TARGET_TMPDIR"));
            // What is made once for a process is never dropped: earlier ones have left theirs.
            for left in fs::read_dir(all).unwrap().flatten() {
                let name = left.file_name().into_string().unwrap();
                let process = name.strip_prefix("registry-").map(|pid| Path::new("/proc").join(pid));
                if process.is_some_and(|process| !process.exists()) {
                    let _ = fs::remove_dir_all(left.path());
                }
            }
            let dir = all.join(format!("registry-{}", std::process::id()));
            let _ = fs::remove_dir_all(&dir);
            fs::create_dir_all(dir.join("parts")).unwrap();
            let scene = Scene::new();
            let (guest, dir_shown) = (guest("logs"), dir.display());
            scene.ok(&format!("key generate {dir_shown}/k"));
            scene.ok(&format!(
                "bundle build {} --name hello --version 1.0.0 --key {dir_shown}/k --out {dir_shown}",
                guest.display()
            ));
            let tar = Command::new("tar")
                .args(["-xf", "../hello-1.0.0.twb"])
                .current_dir(dir.join("parts"))
                .status();
            assert!(tar.unwrap().success());
            Self { dir }
        })
    }

    fn bundle(&self) -> PathBuf {
        self.dir.join("hello-1.0.0.twb")
    }

    fn part(&self, path: &str) -> Vec<u8> {
        fs::read(self.dir.join("parts").join(path)).unwrap()
    }

    fn public_key(&self) -> PathBuf {
        self.dir.join("k.pub")
    }
}

/// A directory to run `twitcher` in, with nobody's credentials.
struct Scene {
    dir: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("docker")).unwrap();
        Self { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `twitcher LINE`; words have no spaces.
    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twitcher"));
        command
            .current_dir(self.dir.path())
            .env("DOCKER_CONFIG", self.path("docker"))
            .env("HOME", self.path("home"))
            .env("XDG_RUNTIME_DIR", self.path("run"))
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("REGISTRY_AUTH_FILE")
            .args(line.split_whitespace());
        command
    }

    /// What it prints; it must succeed.
    fn ok(&self, line: &str) -> String {
        let output = self.command(line).output().unwrap();
        printed(line, output)
    }

    /// What it complains about; it must fail.
    fn fails(&self, line: &str) -> String {
        complaint(line, self.command(line).output().unwrap())
    }

    fn push(&self, remote: &str) -> String {
        self.ok(&format!("bundle push {} {remote}", Sample::get().bundle().display()))
    }

    /// Pulls into `out`, with no key trusted; gives the bundle.
    fn pull(&self, remote: &str) -> Vec<u8> {
        self.ok(&format!("bundle pull {remote} --out out --keys none"));
        fs::read(self.path("out/hello-1.0.0.twb")).unwrap()
    }
}

fn printed(line: &str, output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{line}: {errors}");
    assert_eq!(errors, "", "{line}: there is no terminal to show progress on");
    String::from_utf8(output.stdout).unwrap()
}

fn complaint(line: &str, output: Output) -> String {
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{line}: {errors}");
    assert!(errors.starts_with("twitcher: "), "{errors}");
    errors
}

/// The last line of what `push` prints: the place by digest.
fn by_digest(pushed: &str) -> &str {
    let last = pushed.lines().last().unwrap();
    assert!(last.starts_with("oci://") && last.contains("@sha256:"), "{pushed}");
    last
}

#[test]
fn what_is_pushed_comes_back_to_the_byte_by_tag_and_by_digest() {
    let (registry, scene) = (Registry::start(), Scene::new());
    let remote = format!("oci://{}/tools/hello:1.0.0", registry.address());
    let original = fs::read(Sample::get().bundle()).unwrap();
    let pushed = scene.push(&remote);
    assert!(pushed.contains("7 files sent, 0 were there"), "{pushed}");
    assert!(pushed.contains(&remote), "{pushed}");
    assert!(scene.pull(&remote) == original);
    assert!(scene.pull(by_digest(&pushed)) == original);
    // Again: nothing has to be sent, and it is still the same; also under another name.
    let again = scene.push(&remote);
    assert!(again.contains("0 files sent, 7 were there"), "{again}");
    assert_eq!(by_digest(&again), by_digest(&pushed));
    let elsewhere = scene.push(&format!("oci://{}/tools/hello:latest", registry.address()));
    assert_eq!(by_digest(&elsewhere), by_digest(&pushed));
}

#[test]
fn each_signature_is_a_version_of_its_own() {
    let (registry, scene) = (Registry::start(), Scene::new());
    let remote = format!("oci://{}/hello:1", registry.address());
    let first = scene.push(&remote);
    fs::copy(Sample::get().bundle(), scene.path("again.twb")).unwrap();
    scene.ok("key generate other");
    scene.ok("bundle sign again.twb --key other");
    let second = scene.ok(&format!("bundle push again.twb {remote}"));
    assert_ne!(by_digest(&first), by_digest(&second));
    assert!(scene.pull(&remote) == fs::read(scene.path("again.twb")).unwrap());
    assert!(scene.pull(by_digest(&first)) == fs::read(Sample::get().bundle()).unwrap());
}

#[test]
fn a_bundle_without_signature_and_native_code_is_pushed_too() {
    let (registry, scene) = (Registry::start(), Scene::new());
    let remote = format!("oci://{}/hello:1", registry.address());
    let guest = guest("logs");
    scene.ok(&format!(
        "bundle build {} --name hello --version 1.0.0 --portable",
        guest.display()
    ));
    scene.ok(&format!("bundle push hello-1.0.0.twb {remote}"));
    assert!(scene.pull(&remote) == fs::read(scene.path("hello-1.0.0.twb")).unwrap());
    let why = scene.fails(&format!("bundle pull {remote} --out more --require-signed --keys none"));
    assert!(why.contains(&remote) && why.contains("not signed"), "{why}");
    assert!(!scene.path("more").exists());
}

#[test]
fn what_is_pulled_can_be_installed_at_once() {
    let (registry, scene) = (Registry::start(), Scene::new());
    let remote = format!("oci://{}/tools/hello:1.0.0", registry.address());
    scene.push(&remote);
    let key = Sample::get().public_key();
    scene.ok(&format!("key trust {} --native --keys keys", key.display()));
    let said = scene.ok(&format!("bundle pull {remote} --install --store store --keys keys"));
    assert!(
        said.contains("hello 1.0.0 is installed") && said.contains("runs here: native/"),
        "{said}"
    );
    assert!(scene.ok("bundle list --store store --keys keys").contains("hello"));
    // Whose key is not trusted is refused before there is a file.
    scene.ok("key generate other");
    scene.ok("key trust other.pub --native --keys others");
    let why = scene.fails(&format!("bundle pull {remote} --install --store more --keys others"));
    assert!(why.contains(&remote) && why.contains("not trusted"), "{why}");
    assert!(!scene.path("more").exists());
}

#[test]
fn a_damaged_bundle_is_not_pushed() {
    let (registry, scene) = (Registry::start(), Scene::new());
    let mut bytes = fs::read(Sample::get().bundle()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(scene.path("bad.twb"), bytes).unwrap();
    let remote = format!("oci://{}/hello:1", registry.address());
    let why = scene.fails(&format!("bundle push bad.twb {remote}"));
    assert!(why.contains("is damaged"), "{why}");
    assert!(
        scene
            .fails(&format!("bundle pull {remote}"))
            .contains("no manifest with the tag 1")
    );
    let why = scene.fails(&format!("bundle push none.twb {remote}"));
    assert!(why.contains("cannot open none.twb"), "{why}");
    let digest = format!("oci://{}/hello@sha256:{}", registry.address(), "0".repeat(64));
    let why = scene.fails(&format!("bundle push {} {digest}", Sample::get().bundle().display()));
    assert!(
        why.contains("a push needs a tag: oci://") && why.contains("/hello:TAG"),
        "{why}"
    );
}
