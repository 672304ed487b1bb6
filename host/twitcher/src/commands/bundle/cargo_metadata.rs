//! What a crate says of the bundle that it is to become: `[package.metadata.twitcher]` in its `Cargo.toml`.
//!
//! ```toml
//! [package.metadata.twitcher]
//! name = "render"                      # else the package's name
//! config = ["dest", "template"]
//! requests = { dirs = { "/out" = "rw" }, commands = ["reload"] }
//! ```
//!
//! Cargo itself is asked, for a version can be a workspace's.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use semver::Version;
use serde::Deserialize;

use twitcher_bundle::Requests;

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
    /// Where `cargo build --release --target wasm32-wasip2` puts the component.
    pub component: PathBuf,
}

#[derive(Deserialize)]
struct Answer {
    packages: Vec<Package>,
    target_directory: PathBuf,
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
        let output = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
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
            component: component(package, &answer.target_directory),
        })
    }
}

/// The library's file has underscores in its name, a program's has not.
fn component(package: &Package, target_directory: &Path) -> PathBuf {
    let library = |built: &&Built| built.crate_types.iter().any(|kind| kind == "cdylib");
    let name = match package.targets.iter().find(library) {
        Some(library) => library.name.replace('-', "_"),
        None => package.name.clone(),
    };
    target_directory
        .join("wasm32-wasip2/release")
        .join(name)
        .with_extension("wasm")
}
