//! What is for machines without dpkg: the RPM and the tarball.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{repository, said, text};
use crate::support::daemon::PROGRAM;

/// The only file that the script leaves in a directory of this name.
fn built(script: &str, name: &str, arguments: &[&str]) -> PathBuf {
    let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&output);
    // `make cargo-generate-rpm` puts it there, beside the directories of the profiles.
    let target = Path::new(PROGRAM).ancestors().nth(2).unwrap();
    said(
        Command::new(repository(script))
            .args([PROGRAM.as_ref(), output.as_path()])
            .args(arguments)
            .env("LEVEL", "1")
            .env("CARGO_GENERATE_RPM", target.join("tools/bin/cargo-generate-rpm")),
    );
    let files: Vec<PathBuf> = fs::read_dir(&output)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    let [file] = files.as_slice() else { panic!("{files:?}") };
    file.clone()
}

#[test]
fn the_rpm_and_the_tarball_live_as_such_do() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("left out: only root can mount what this needs");
        return;
    }
    let rpm = "host/package/build-rpm.sh";
    let first = built(rpm, "rpm", &["--payload-compress", "none"]);
    let later = ["--payload-compress", "none", "--set-metadata", "release = \"2\""];
    let second = built(rpm, "rpm-later", &later);
    let tarball = built("host/package/build-tarball.sh", "tarball", &[]);

    let output = Command::new("rpmlint")
        .arg("--config")
        .arg(repository("host/package/rpmlint.toml"))
        .arg(&first)
        .output()
        .unwrap();
    assert!(
        output.status.success() && text(&output).contains(" 0 errors, 0 warnings"),
        "{}",
        text(&output)
    );
    let requires = said(Command::new("rpm").args(["-qpR"]).arg(&first));
    assert!(
        requires.contains("libc.so.6(GLIBC_2.34)") && requires.contains("useradd"),
        "{requires}"
    );

    let dir = tempfile::tempdir().unwrap();
    let scratch = dir.path().join("scratch");
    fs::create_dir(&scratch).unwrap();
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "--"])
        .arg(repository("tests/package/lifecycle-rpm.sh"))
        .args([&first, &second, &tarball, &scratch]);
    assert!(said(&mut command).ends_with("done\n"));
}
