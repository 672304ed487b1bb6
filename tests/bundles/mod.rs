//! Bundles by the commands that make, check, install and remove them.

mod authoring;
pub mod deploying;
mod installing;
mod signing;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::support::guests::guest;

/// A directory in which bundles are made and installed, without a trace elsewhere.
struct Bench {
    dir: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// `twitcher LINE`, in the directory. Words have no spaces.
    fn run(&self, line: &str) -> Output {
        self.command(line).output().unwrap()
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twitcher"));
        command.current_dir(self.dir.path()).args(line.split_whitespace());
        command
    }

    /// What it prints; it must succeed.
    fn ok(&self, line: &str) -> String {
        let output = self.run(line);
        assert!(
            output.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).unwrap()
    }

    /// What it complains about; it must fail with exit code 1.
    fn fails(&self, line: &str) -> String {
        let output = self.run(line);
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{line}: {errors}");
        assert!(errors.starts_with("twitcher: "), "{errors}");
        errors
    }

    /// A bundle of the guest `logs` without native code, so that it is made quickly.
    fn portable(&self, version: &str, more: &str) -> PathBuf {
        self.ok(&format!(
            "bundle build {} --name hello --version {version} --portable --out . {more}",
            guest("logs").display()
        ));
        self.path(&format!("hello-{version}.twb"))
    }

    fn key(&self, name: &str) {
        self.ok(&format!("key generate {name}"));
    }

    /// `--store` and `--keys` of the directory.
    fn install(&self, file: &Path) -> String {
        self.ok(&format!("bundle install {} --store store --keys keys", file.display()))
    }

    /// The same, also in place of a newer version.
    fn install_any(&self, file: &Path) -> String {
        let line = format!(
            "bundle install {} --store store --keys keys --allow-downgrade",
            file.display()
        );
        self.ok(&line)
    }

    fn resolve(&self, reference: &str) -> twitcher_bundle::Installed {
        let store = twitcher_bundle::Store::at(self.path("store"));
        store.resolve(&reference.parse().unwrap()).unwrap()
    }
}

fn flip(file: &Path, at: usize) {
    let mut bytes = fs::read(file).unwrap();
    bytes[at] ^= 0x10;
    fs::write(file, bytes).unwrap();
}
