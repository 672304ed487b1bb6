//! What a crate says of the bundle that it is to become: `[package.metadata.twitcher]` in its `Cargo.toml`.
//!
//! ```toml
//! [package.metadata.twitcher]
//! name = "render"                      # else the package's name
//! config = ["dest", "template"]
//! requests = { dirs = { "/out" = "rw" }, commands = ["reload"] }
//! ```
//!
//! Cargo itself is asked, for a version can be a workspace's; and it builds the component, for what lies there may be of other sources.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::SystemTime;

use semver::Version;
use serde::Deserialize;

use twitcher_bundle::Requests;

/// How a component is made.
const BUILD: [&str; 5] = ["cargo", "build", "--release", "--target", "wasm32-wasip2"];

/// Why a crate says nothing of use.
#[derive(Debug, thiserror::Error)]
pub enum CargoError {
    /// Cargo does not run.
    #[error("cannot run cargo, which knows what {} is: {error}", manifest.display())]
    Run {
        /// The `Cargo.toml`.
        manifest: PathBuf,
        /// The error of the system call.
        error: io::Error,
    },
    /// Cargo refuses the crate.
    #[error("cargo does not understand {}:\n{said}", manifest.display())]
    Refused {
        /// The `Cargo.toml`.
        manifest: PathBuf,
        /// What it says.
        said: String,
    },
    /// What cargo prints is not what it printed so far.
    #[error("cannot read what cargo says of {}: {why}", manifest.display())]
    Answer {
        /// The `Cargo.toml`.
        manifest: PathBuf,
        /// What is wrong, in words.
        why: String,
    },
    /// The component cannot be built.
    #[error("cargo cannot build {}: {} (above, it says why)", manifest.display(), BUILD.join(" "))]
    Build {
        /// The `Cargo.toml`.
        manifest: PathBuf,
    },
    /// The crate is no component.
    #[error("{} builds no component: it needs a program, or a library with crate-type = [\"cdylib\"]", manifest.display())]
    Nothing {
        /// The `Cargo.toml`.
        manifest: PathBuf,
    },
    /// `[package.metadata.twitcher]` is wrong.
    #[error("{}: [package.metadata.twitcher]: {why}", manifest.display())]
    Metadata {
        /// The `Cargo.toml`.
        manifest: PathBuf,
        /// What is wrong, in words.
        why: String,
    },
}

/// What a crate says.
#[derive(Debug)]
pub struct Crate {
    /// Name of the bundle.
    pub name: String,
    /// The package's version.
    pub version: Version,
    /// Keys of the configuration.
    pub config: Vec<String>,
    /// What it needs.
    pub requests: Requests,
    manifest: PathBuf,
    /// What the component's file is called.
    component: String,
}

#[derive(Deserialize)]
struct Answer {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    version: Version,
    manifest_path: PathBuf,
    metadata: serde_json::Value,
    targets: Vec<Built>,
}

#[derive(Deserialize)]
struct Built {
    name: String,
    crate_types: Vec<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Said {
    name: Option<String>,
    config: Vec<String>,
    requests: Requests,
}

impl Crate {
    /// The crate of a `Cargo.toml`.
    pub fn of(manifest: &Path) -> Result<Self, CargoError> {
        let refused = |why: String| CargoError::Answer {
            manifest: manifest.to_owned(),
            why,
        };
        let absolute = manifest.canonicalize();
        let output = cargo()
            .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
            .arg(manifest)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| CargoError::Run {
                manifest: manifest.to_owned(),
                error,
            })?;
        if !output.status.success() {
            return Err(CargoError::Refused {
                manifest: manifest.to_owned(),
                said: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            });
        }
        let answer: Answer = serde_json::from_slice(&output.stdout).map_err(|error| refused(error.to_string()))?;
        let is_it = |package: &&Package| absolute.as_ref().is_ok_and(|path| package.manifest_path == *path);
        let package = answer
            .packages
            .iter()
            .find(is_it)
            .ok_or_else(|| refused("it is not a package: name one of its members".to_owned()))?;
        let said = match package.metadata.get("twitcher") {
            None => Said::default(),
            Some(said) => Said::deserialize(said).map_err(|error| CargoError::Metadata {
                manifest: manifest.to_owned(),
                why: error.to_string(),
            })?,
        };
        Ok(Self {
            name: said.name.unwrap_or_else(|| package.name.clone()),
            version: package.version.clone(),
            config: said.config,
            requests: said.requests,
            manifest: package.manifest_path.clone(),
            component: component(package),
        })
    }

    /// Builds the component; what cargo has to say goes to standard error.
    pub fn build(&self) -> Result<PathBuf, CargoError> {
        let manifest = || self.manifest.clone();
        let output = cargo()
            .args(&BUILD[1..])
            .args(["--message-format", "json-render-diagnostics", "--manifest-path"])
            .arg(&self.manifest)
            .stdin(Stdio::null())
            .stderr(Stdio::inherit())
            .output()
            .map_err(|error| CargoError::Run {
                manifest: manifest(),
                error,
            })?;
        if !output.status.success() {
            return Err(CargoError::Build { manifest: manifest() });
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let artifacts = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Artifact>(line).ok());
        artifacts
            .filter(|artifact| artifact.manifest_path == self.manifest)
            .flat_map(|artifact| artifact.filenames)
            .find(|file| file.file_name().is_some_and(|name| name == &*self.component))
            .ok_or_else(|| CargoError::Nothing { manifest: manifest() })
    }
}

/// A line of what `cargo build` prints that tells of files.
#[derive(Deserialize)]
struct Artifact {
    manifest_path: PathBuf,
    filenames: Vec<PathBuf>,
}

fn cargo() -> Command {
    Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// A source of a component that was changed after it was built; known of one that cargo left beside its list of sources.
pub fn newer_source(component: &Path) -> Option<PathBuf> {
    let time = |path: &Path| -> Option<SystemTime> { fs::metadata(path).ok()?.modified().ok() };
    let built = time(component)?;
    let list = fs::read_to_string(component.with_extension("d")).ok()?;
    sources(&list)
        .into_iter()
        .find(|source| time(source).is_some_and(|changed| changed > built))
}

/// The sources in a file in the manner of `make`, where a blank within a path has a backslash before it.
fn sources(list: &str) -> Vec<PathBuf> {
    let Some((_, sources)) = list.lines().next().unwrap_or_default().split_once(": ") else {
        return Vec::new();
    };
    let sources = sources.replace("\\ ", "\0");
    sources
        .split(' ')
        .map(|source| source.replace('\0', " ").into())
        .collect()
}

/// The library's file has underscores in its name, a program's has not.
fn component(package: &Package) -> String {
    let library = |built: &&Built| built.crate_types.iter().any(|kind| kind == "cdylib");
    let name = match package.targets.iter().find(library) {
        Some(library) => library.name.replace('-', "_"),
        None => package.name.clone(),
    };
    format!("{name}.wasm")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blank_within_a_path_is_part_of_it() {
        let list = "/t/my\\ action.wasm: /my\\ action/src/lib.rs /my\\ action/src/a.rs\n\n/other: /x\n";
        let expected = ["/my action/src/lib.rs", "/my action/src/a.rs"].map(PathBuf::from);
        assert_eq!(sources(list), expected);
        assert!(sources("").is_empty());
    }
}
