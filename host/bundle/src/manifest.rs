//! `manifest.json`: what a bundle is, and the digest of all that is in it. It is what gets signed.
//!
//! Whoever has the manifest can check everything else, so nothing in it is believed before it was checked here. This module must not
//! know how bundles are packed, signed or kept.

use std::fmt;
use std::str::FromStr;

use semver::Version;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::requested_grants::Requests;
use twitcher_model::deployment::{BUNDLE_NAME_MAX, is_bundle_name};
use twitcher_model::grant_syntax::check_name as check_grant_name;
use twitcher_model::{Digest, EntryPoint, NATIVE_MAX, WASM_MAX};

/// The format that this version writes, and the newest that it reads.
pub const FORMAT: u32 = 1;
/// Largest manifest, in bytes.
pub const MANIFEST_MAX: usize = 256 << 10;
/// Most files of native code in one bundle.
pub const NATIVES_MAX: usize = 16;
/// Most keys of a component's configuration that are listed.
const KEYS_MAX: usize = 256;
/// Longest name of a bundle, and longest version, in bytes.
const NAME_MAX: usize = BUNDLE_NAME_MAX;

/// Name of the component in a bundle.
pub const COMPONENT: &str = "component.wasm";

/// Why a manifest is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is longer than any manifest.
    #[error("manifest.json is larger than {} KiB", MANIFEST_MAX >> 10)]
    TooLarge,
    /// It is not JSON of the known shape.
    #[error("manifest.json: {0}")]
    Json(String),
    /// It is of a later format.
    #[error(
        "manifest.json is of format {0}, and this version of twitcher reads up to format {FORMAT}: update twitcher"
    )]
    Newer(u64),
    /// A value cannot be.
    #[error("manifest.json: {field} {why}")]
    Invalid {
        /// The member of the manifest.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

/// What a bundle is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// What configurations call it: lower-case letters, digits, `-` and `_`.
    pub name: String,
    /// By semantic versioning.
    pub version: Version,
    /// How the component is entered.
    pub world: World,
    /// Version of the SDK that it was written with, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sdk: Option<String>,
    /// The keys of its configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub config: Vec<String>,
    /// What it needs to be granted.
    #[serde(default, skip_serializing_if = "Requests::is_empty")]
    pub requests: Requests,
    /// `component.wasm`: the source of truth.
    pub component: FileFacts,
    /// Native code that was compiled from it, in ascending order of their paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub native: Vec<NativeFacts>,
}

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileFacts {
    /// In bytes.
    pub size: u64,
    /// SHA-256, in the manifest as 64 lower-case hexadecimal digits.
    #[serde(serialize_with = "write_digest", deserialize_with = "read_digest")]
    pub sha256: Digest,
}

impl FileFacts {
    /// The facts of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self {
            size: bytes.len() as u64,
            sha256: digest(bytes),
        }
    }
}

/// One file of native code, and all that it depends on besides the component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NativeFacts {
    /// The machines that it is for, such as `x86_64-linux`.
    pub target: String,
    /// The name of the engine's settings that it was compiled with, such as `sandbox`.
    pub profile: String,
    /// Full version of wasmtime, such as `48.0.8`.
    pub wasmtime: String,
    /// Fingerprint of the engine's settings.
    pub settings: String,
    /// In bytes.
    pub size: u64,
    /// SHA-256.
    #[serde(serialize_with = "write_digest", deserialize_with = "read_digest")]
    pub sha256: Digest,
}

impl NativeFacts {
    /// Where it is in a bundle.
    pub fn path(&self) -> String {
        format!(
            "native/{}/{}/wasmtime-{}.cwasm",
            self.target, self.profile, self.wasmtime
        )
    }

    /// The file itself.
    pub fn file(&self) -> FileFacts {
        FileFacts {
            size: self.size,
            sha256: self.sha256,
        }
    }
}

/// How a component is entered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum World {
    /// At each change.
    #[serde(rename = "twitcher:action/action")]
    Action,
    /// At each change, and to judge its configuration.
    #[serde(rename = "twitcher:action/action-checked")]
    ActionChecked,
    /// As a program.
    #[serde(rename = "wasi:cli/command")]
    Command,
    /// As a program that is a core module.
    #[serde(rename = "wasi_snapshot_preview1")]
    Preview1,
}

impl World {
    /// The world of a component that was compiled.
    pub fn of(entry: EntryPoint, checked: bool) -> Self {
        match (entry, checked) {
            (EntryPoint::Handler, false) => Self::Action,
            (EntryPoint::Handler, true) => Self::ActionChecked,
            (EntryPoint::Command, _) => Self::Command,
            (EntryPoint::Preview1, _) => Self::Preview1,
        }
    }

    /// How it is entered.
    pub fn entry(self) -> EntryPoint {
        match self {
            Self::Action | Self::ActionChecked => EntryPoint::Handler,
            Self::Command => EntryPoint::Command,
            Self::Preview1 => EntryPoint::Preview1,
        }
    }

    /// Whether it exports `check`.
    pub fn checked(self) -> bool {
        self == Self::ActionChecked
    }
}

impl fmt::Display for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Action => "twitcher:action/action",
            Self::ActionChecked => "twitcher:action/action-checked",
            Self::Command => "wasi:cli/command",
            Self::Preview1 => "wasi_snapshot_preview1",
        })
    }
}

impl Manifest {
    /// Reads and checks a manifest.
    pub fn parse(bytes: &[u8]) -> Result<Self, ManifestError> {
        #[derive(Deserialize)]
        struct Head {
            format: u64,
        }
        if bytes.len() > MANIFEST_MAX {
            return Err(ManifestError::TooLarge);
        }
        let json = |error: serde_json::Error| ManifestError::Json(error.to_string());
        // First, for what a later format looks like is not known.
        let Head { format } = serde_json::from_slice(bytes).map_err(json)?;
        if format > u64::from(FORMAT) {
            return Err(ManifestError::Newer(format));
        }
        let manifest: Self = serde_json::from_slice(bytes).map_err(json)?;
        manifest.check()?;
        Ok(manifest)
    }

    /// The manifest as it stands in a bundle. The same manifest gives the same bytes.
    pub fn to_bytes(&self) -> Result<Vec<u8>, ManifestError> {
        self.check()?;
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|error| ManifestError::Json(error.to_string()))?;
        bytes.push(b'\n');
        match bytes.len() > MANIFEST_MAX {
            true => Err(ManifestError::TooLarge),
            false => Ok(bytes),
        }
    }

    /// The name of the bundle's file.
    pub fn file_name(&self) -> String {
        format!("{}-{}.twb", self.name, self.version)
    }

    /// Every file beside the manifest and its signature, in the order in which they are packed.
    pub fn files(&self) -> impl Iterator<Item = (String, FileFacts)> {
        let natives = self.native.iter().map(|native| (native.path(), native.file()));
        std::iter::once((COMPONENT.to_owned(), self.component)).chain(natives)
    }

    fn check(&self) -> Result<(), ManifestError> {
        let invalid = |field| move |why: String| ManifestError::Invalid { field, why };
        if self.format != FORMAT {
            return Err(invalid("format")(format!("cannot be {}", self.format)));
        }
        check_name(&self.name).map_err(invalid("name"))?;
        if self.version.to_string().len() > NAME_MAX {
            return Err(invalid("version")(format!("is longer than {NAME_MAX} bytes")));
        }
        if let Some(sdk) = &self.sdk {
            check_token(sdk).map_err(invalid("sdk"))?;
        }
        if self.config.len() > KEYS_MAX {
            return Err(invalid("config")(format!("lists more than {KEYS_MAX} keys")));
        }
        for key in &self.config {
            check_grant_name(key).map_err(|error| invalid("config")(error.message))?;
        }
        self.requests.check().map_err(invalid("requests"))?;
        check_size(self.component.size, WASM_MAX).map_err(invalid("component"))?;
        if self.native.len() > NATIVES_MAX {
            return Err(invalid("native")(format!("lists more than {NATIVES_MAX} files")));
        }
        for native in &self.native {
            native.check().map_err(invalid("native"))?;
        }
        let paths: Vec<String> = self.native.iter().map(NativeFacts::path).collect();
        if !paths.is_sorted_by(|one, next| one < next) {
            return Err(invalid("native")(
                "must name each file once, in ascending order of the paths".to_owned(),
            ));
        }
        Ok(())
    }
}

impl NativeFacts {
    fn check(&self) -> Result<(), String> {
        for text in [&self.target, &self.profile, &self.wasmtime, &self.settings] {
            check_token(text)?;
        }
        check_size(self.size, NATIVE_MAX)
    }
}

/// Whether a bundle may have this name: a part of paths and references.
pub fn check_name(name: &str) -> Result<(), String> {
    match is_bundle_name(name) {
        true => Ok(()),
        false => Err(format!(
            "cannot be {name:?}: 1 to {NAME_MAX} lower-case letters, digits, - and _, the first a letter or digit"
        )),
    }
}

/// A word that becomes part of a path.
fn check_token(text: &str) -> Result<(), String> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
    match (1..=32).contains(&text.len()) && !text.starts_with('.') && text.chars().all(good) {
        true => Ok(()),
        false => Err(format!(
            "has {text:?}, which is not a word of 1 to 32 letters, digits, - _ . and +"
        )),
    }
}

fn check_size(size: u64, most: usize) -> Result<(), String> {
    match size <= most as u64 {
        true => Ok(()),
        false => Err(format!("claims {size} bytes, and at most {most} are allowed")),
    }
}

/// SHA-256 of these bytes.
pub fn digest(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// Reads 64 lower-case hexadecimal digits.
pub fn parse_digest(text: &str) -> Option<Digest> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let text: &[u8; 64] = text.as_bytes().try_into().ok()?;
    let mut digest = [0; 32];
    for (byte, pair) in digest.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(Digest(digest))
}

fn write_digest<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(digest)
}

fn read_digest<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_digest(&text)
        .ok_or_else(|| serde::de::Error::custom("expected a SHA-256 in 64 lower-case hexadecimal digits"))
}

/// Which bundle is meant: a name, and perhaps the beginning of a version, `render@1.2`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reference {
    /// The name.
    pub name: String,
    /// Which versions; none means the current one.
    pub versions: Option<Versions>,
}

/// Some versions of a bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Versions {
    /// `1` or `1.2`: all releases that begin so.
    Series(u64, Option<u64>),
    /// `1.2.3` or `1.2.3-rc.1`.
    Exactly(Version),
}

/// A text that names no bundle.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// The name cannot be.
    #[error("the name of a bundle {0}")]
    Name(String),
    /// What follows `@` is no version.
    #[error("{0:?} is not a version: after @ comes 1, 1.2 or 1.2.3")]
    Version(String),
}

impl Versions {
    /// Whether this is one of them. Prereleases are meant only when they are spelled out.
    pub fn include(&self, version: &Version) -> bool {
        match self {
            Self::Exactly(exactly) => version == exactly,
            Self::Series(major, minor) => {
                version.pre.is_empty() && version.major == *major && minor.is_none_or(|minor| version.minor == minor)
            }
        }
    }
}

impl FromStr for Versions {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        // The parser would take a sign.
        let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse().ok())?;
        let series = match text.split_once('.') {
            None => number(text).map(|major| Self::Series(major, None)),
            Some((major, minor)) => number(major)
                .zip(number(minor))
                .map(|(major, minor)| Self::Series(major, Some(minor))),
        };
        let exactly = || Version::parse(text).ok().map(Self::Exactly);
        series
            .or_else(exactly)
            .ok_or_else(|| ReferenceError::Version(text.to_owned()))
    }
}

impl fmt::Display for Versions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exactly(version) => version.fmt(f),
            Self::Series(major, None) => major.fmt(f),
            Self::Series(major, Some(minor)) => write!(f, "{major}.{minor}"),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let (name, versions) = match text.split_once('@') {
            Some((name, versions)) => (name, Some(versions.parse()?)),
            None => (text, None),
        };
        check_name(name).map_err(ReferenceError::Name)?;
        Ok(Self {
            name: name.to_owned(),
            versions,
        })
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.versions {
            Some(versions) => write!(f, "{}@{versions}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

#[cfg(test)]
mod tests;
