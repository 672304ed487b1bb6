//! The Debian package, made of the program under test: what is in it, and its life on a machine. And the service's unit.

mod others;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::support::daemon::PROGRAM;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");

pub fn repository(path: &str) -> PathBuf {
    Path::new(ROOT).join(path)
}

/// What the command says; it must succeed.
pub fn said(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}\n{}", text(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn text(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The package, built once for a run of the tests.
pub fn package() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join("package");
        let _ = fs::remove_dir_all(&output);
        // `make cargo-deb` puts it there, beside the directories of the profiles.
        let target = Path::new(PROGRAM).ancestors().nth(2).unwrap();
        said(
            Command::new(repository("host/package/build.sh"))
                .args([PROGRAM.as_ref(), output.as_path()])
                .args(["--fast", "--compress-system", "-Z", "gz"])
                .env("CARGO_DEB", target.join("tools/bin/cargo-deb")),
        );
        let packages: Vec<PathBuf> = fs::read_dir(&output)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        let [package] = packages.as_slice() else {
            panic!("{packages:?}")
        };
        package.clone()
    })
}

/// The same as a later version, with other contents of its configuration files.
pub fn successor(dir: &Path) -> PathBuf {
    let unpacked = dir.join("unpacked");
    said(
        Command::new("dpkg-deb")
            .arg("--raw-extract")
            .arg(package())
            .arg(&unpacked),
    );
    let edit = |name: &str, edit: &dyn Fn(&str) -> String| {
        let path = unpacked.join(name);
        let text = fs::read_to_string(&path).unwrap();
        fs::write(path, edit(&text)).unwrap();
    };
    edit("DEBIAN/control", &|text| text.replace("-1\n", "-2\n"));
    for file in ["etc/default/twitcher", "etc/twitcher/example.twc"] {
        edit(file, &|text| format!("{text}# the second version\n"));
    }
    let built = dir.join("second.deb");
    said(
        Command::new("dpkg-deb")
            .args(["-Zgzip", "-z1", "--root-owner-group", "--build"])
            .args([&unpacked, &built]),
    );
    built
}

#[test]
fn the_package_lives_as_packages_do() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("left out: only root can mount what this needs");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let scratch = dir.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    let second = successor(dir.path());
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "--"])
        .arg(repository("tests/package/lifecycle.sh"))
        .args([package(), &second, &scratch]);
    assert!(said(&mut command).ends_with("done\n"));
}

#[test]
fn the_package_has_what_belongs_into_it() {
    let contents = said(Command::new("dpkg-deb").arg("--contents").arg(package()));
    for file in [
        "rwxr-xr-x ./usr/bin/twitcher",
        "rw-r--r-- ./usr/lib/systemd/system/twitcher.service",
        "rw-r--r-- ./etc/default/twitcher",
        "rw-r--r-- ./etc/twitcher/example.twc",
        "rw-r--r-- ./usr/share/man/man1/twitcher-run.1.gz",
        "rw-r--r-- ./usr/share/man/man7/twitcher-troubleshooting.7.gz",
        "rw-r--r-- ./usr/share/bash-completion/completions/twitcher",
        "rw-r--r-- ./usr/share/zsh/vendor-completions/_twitcher",
        "rw-r--r-- ./usr/share/fish/vendor_completions.d/twitcher.fish",
        "rw-r--r-- ./usr/share/doc/twitcher/copyright",
        "rw-r--r-- ./usr/share/doc/twitcher/changelog.gz",
        "rw-r--r-- ./usr/share/doc/twitcher/third-party.gz",
        "rw-r--r-- ./usr/share/doc/twitcher/manual.html",
        "rw-r--r-- ./usr/share/doc/twitcher/examples/confined.conf",
    ] {
        let (mode, path) = file.split_once(" ./").unwrap();
        let line = contents.lines().find(|line| line.ends_with(&format!(" ./{path}")));
        assert!(
            line.is_some_and(|line| line[1..].starts_with(mode)),
            "{file} is not in\n{contents}"
        );
    }
    let control = said(Command::new("dpkg-deb").arg("--field").arg(package()));
    assert!(
        control.contains("Package: twitcher\n") && control.contains("libc6 (>= "),
        "{control}"
    );
    let scripts = said(
        Command::new("dpkg-deb")
            .arg("--info")
            .arg(package())
            .args(["postinst", "prerm", "postrm"]),
    );
    assert!(!scripts.contains("#DEBHELPER#"), "{scripts}");
    // The user that helpers become is one that nobody else is.
    assert!(
        scripts.contains("twitcher-helper") && scripts.contains("adduser"),
        "{scripts}"
    );
}

#[test]
fn lintian_finds_nothing_wrong() {
    let mut command = Command::new("lintian");
    command
        .args(["--allow-root", "--fail-on", "error,warning"])
        .arg(package());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn manual_pages_are_well_formed() {
    let dir = tempfile::tempdir().unwrap();
    said(Command::new(PROGRAM).arg("man").arg(dir.path()));
    let pages = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
    let pages: Vec<PathBuf> = pages.filter(|path| path.extension().unwrap() == "7").collect();
    assert_eq!(pages.len(), 14);
    for page in pages {
        let output = Command::new("mandoc")
            .args(["-Tlint", "-Wwarning"])
            .arg(&page)
            .output()
            .unwrap();
        // A page is as old as the program, and has no date of its own.
        let findings: Vec<String> = text(&output)
            .lines()
            .filter(|line| !line.contains("missing date"))
            .map(str::to_owned)
            .collect();
        assert_eq!(findings, Vec::<String>::new());
    }
}

/// The unit, with the program under test, and a drop-in of the package if one is named.
fn unit(dir: &Path, drop_in: Option<&str>) -> PathBuf {
    let unit = dir.join("twitcher.service");
    let text = fs::read_to_string(repository("host/package/twitcher.service")).unwrap();
    assert!(text.contains("\nExecStart=/usr/bin/twitcher run "));
    fs::write(&unit, text.replace("/usr/bin/twitcher", PROGRAM)).unwrap();
    if let Some(name) = drop_in {
        fs::create_dir(dir.join("twitcher.service.d")).unwrap();
        let from = repository("host/package/drop-ins").join(name);
        fs::copy(from, dir.join("twitcher.service.d").join(name)).unwrap();
    }
    unit
}

fn systemd_version() -> u32 {
    let said = said(Command::new("systemd-analyze").arg("--version"));
    said.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn systemd_finds_nothing_wrong_with_the_unit() {
    for drop_in in [None, Some("confined.conf"), Some("notify-reload.conf")] {
        if drop_in == Some("notify-reload.conf") && systemd_version() < 253 {
            continue;
        }
        let dir = tempfile::tempdir().unwrap();
        let unit = unit(dir.path(), drop_in);
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no"])
            .arg(&unit)
            .output()
            .unwrap();
        assert!(
            output.status.success() && text(&output).is_empty(),
            "{drop_in:?}: {}",
            text(&output)
        );
    }
}

#[test]
fn the_exposure_is_the_one_that_is_told() {
    let page = said(Command::new(PROGRAM).args(["help", "systemd"]));
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    for (drop_in, words) in [
        (None, "`systemd-analyze security twitcher` says "),
        (Some("confined.conf"), "with it the exposure is "),
    ] {
        let told: f64 = page
            .split(words)
            .nth(1)
            .unwrap()
            .split(',')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let unit = unit(dir.path(), drop_in);
        let said = said(
            Command::new("systemd-analyze")
                .args(["security", "--offline=true"])
                .arg(&unit),
        );
        let computed = said
            .split("Overall exposure level for twitcher.service: ")
            .nth(1)
            .unwrap();
        let computed: f64 = computed.split(' ').next().unwrap().parse().unwrap();
        // Versions of systemd weigh a little differently.
        assert!(
            (told - computed).abs() < 0.25,
            "{drop_in:?}: told {told}, computed {computed}"
        );
    }
}
