//! What a watch deploys: bundles of one name, of which the data of its znode chooses one by version or digest. And how such names are
//! spelled, for all who read some: configurations, command lines, bundles.
//!
//! This module must not know whether there is such a bundle or registry, nor what a version is.

use std::fmt;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What a bundle's place in a registry begins with.
const OCI: &str = "oci://";
/// What stands in a path for what the znode says.
const VERSION: &str = "{version}";
/// Longest name of a repository, in bytes; registries allow no more.
const REPOSITORY_MAX: usize = 255;
/// Longest name of a bundle, in bytes.
pub const BUNDLE_NAME_MAX: usize = 64;

/// The bundles that a watch's znode chooses from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// Where they are.
    pub source: BundleSource,
    /// What they must be called.
    pub name: Arc<str>,
}

impl fmt::Display for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} from {}", self.name, self.source)
    }
}

/// Where the versions of a bundle are: a repository of a registry, or a directory with a file for each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum BundleSource {
    /// `oci://REGISTRY/REPOSITORY`.
    Repository(Arc<str>),
    /// An absolute path whose last part has `{version}` once.
    Files(Arc<str>),
}

/// A text that says no such place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BundleSourceError {
    /// It is neither.
    #[error("is neither oci://REGISTRY/REPOSITORY nor an absolute path with {VERSION} in the name of its file")]
    Neither,
    /// The registry cannot be.
    #[error("has {0:?}, which is not a registry: expected HOST or HOST:PORT")]
    Registry(String),
    /// The repository cannot be.
    #[error(
        "has {0:?}, which is not the name of a repository: lower-case letters and digits, with . _ or - between them, in parts separated by /"
    )]
    Repository(String),
    /// It says which version, and that is for the znode to say.
    #[error("has a tag or a digest, {0:?}: the znode's data says which version, so leave it out")]
    Chosen(String),
    /// A path does not say where the version comes.
    #[error("has no {VERSION} in the name of its file, as /srv/bundles/render-{VERSION}.twb has")]
    NoVersion,
    /// A path says it where it does not belong.
    #[error("has {VERSION} more than once, or in the name of a directory: it belongs into the name of the file, once")]
    Elsewhere,
    /// A path leads through other directories than it seems.
    #[error("has . or .. or a NUL character: write the path without")]
    Dots,
}

impl FromStr for BundleSource {
    type Err = BundleSourceError;

    fn from_str(text: &str) -> Result<Self, BundleSourceError> {
        if let Some(place) = text.strip_prefix(OCI) {
            let (registry, repository) = place.split_once('/').unwrap_or((place, ""));
            if !is_registry(registry) {
                return Err(BundleSourceError::Registry(registry.to_owned()));
            }
            if let Some(at) = repository.find(['@', ':']) {
                return Err(BundleSourceError::Chosen(repository[at..].to_owned()));
            }
            return match is_repository(repository) {
                true => Ok(Self::Repository(text.into())),
                false => Err(BundleSourceError::Repository(repository.to_owned())),
            };
        }
        if !text.starts_with('/') {
            return Err(BundleSourceError::Neither);
        }
        let (dir, file) = text.rsplit_once('/').unwrap_or_default();
        match (file.matches(VERSION).count(), dir.contains(VERSION)) {
            (0, false) => return Err(BundleSourceError::NoVersion),
            (1, false) => {}
            _ => return Err(BundleSourceError::Elsewhere),
        }
        match dir.split('/').any(|part| matches!(part, "." | "..")) || text.contains('\0') {
            true => Err(BundleSourceError::Dots),
            false => Ok(Self::Files(text.into())),
        }
    }
}

impl BundleSource {
    /// What the bundles are called, as far as the place says: as the last part of the repository, or what stands before the version in
    /// the name of the file.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Repository(place) => place.rsplit('/').next(),
            Self::Files(path) => {
                let file = path.rsplit('/').next()?;
                let before = &file[..file.find(VERSION)?];
                let name = before.trim_end_matches(['-', '_', '.']);
                (!name.is_empty()).then_some(name)
            }
        }
    }

    /// The file of a version, or none of a repository. It is always one of the directory: none if `version` could lead elsewhere.
    pub fn file(&self, version: &str) -> Option<PathBuf> {
        let Self::Files(path) = self else { return None };
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+');
        let (dir, file) = path.rsplit_once('/')?;
        let file = file.replace(VERSION, version);
        let is_inside = version.chars().all(plain) && !version.is_empty() && !matches!(&*file, "." | "..");
        is_inside.then(|| Path::new("/").join(dir).join(file))
    }
}

impl fmt::Display for BundleSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Repository(text) | Self::Files(text) => f.write_str(text),
        }
    }
}

/// Whether a bundle may have this name: a part of paths and references.
pub fn is_bundle_name(name: &str) -> bool {
    let good = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_');
    let begins = name.starts_with(|c| matches!(c, 'a'..='z' | '0'..='9'));
    begins && name.len() <= BUNDLE_NAME_MAX && name.chars().all(good)
}

/// The host of a registry, without the port.
pub fn registry_host(registry: &str) -> &str {
    match registry.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => registry,
    }
}

/// Whether this is a registry: `HOST` or `HOST:PORT`.
pub fn is_registry(registry: &str) -> bool {
    let host = registry_host(registry);
    let port = &registry[host.len()..];
    let good_port = port.is_empty() || port[1..].parse::<u16>().is_ok_and(|port| port > 0);
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good_host = match inner {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => host
            .split('.')
            .all(|label| is_word(label, |byte| byte == b'-') && label.len() < 64),
    };
    good_port && good_host
}

/// Whether a repository of a registry can be called so.
pub fn is_repository(repository: &str) -> bool {
    let lower = repository.bytes().all(|byte| !byte.is_ascii_uppercase());
    let good = |part: &str| is_word(part, |byte| matches!(byte, b'.' | b'_' | b'-'));
    lower && repository.len() <= REPOSITORY_MAX && repository.split('/').all(good)
}

/// Letters and digits, with others between them only.
fn is_word(text: &str, between: impl Fn(u8) -> bool) -> bool {
    let outer = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    outer(bytes.first())
        && outer(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || between(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_say_what_the_bundles_are_called() {
        for (text, name) in [
            ("oci://127.0.0.1:5000/tools/render", Some("render")),
            ("oci://[::1]/render", Some("render")),
            ("/srv/bundles/render-{version}.twb", Some("render")),
            ("/srv/bundles/my-render_{version}", Some("my-render")),
            ("/srv/bundles/{version}.twb", None),
            ("/{version}", None),
        ] {
            let source: BundleSource = text.parse().unwrap();
            assert_eq!(source.name(), name, "{text}");
            assert_eq!(source.to_string(), text);
        }
    }

    #[test]
    fn what_is_no_source_is_refused_in_words() {
        for (text, words) in [
            ("", "neither"),
            ("render", "neither"),
            ("srv/{version}.twb", "neither"),
            ("http://host/render", "neither"),
            ("oci://", "not a registry"),
            ("oci://host", "not the name of a repository"),
            ("oci://host/Render", "not the name of a repository"),
            ("oci://host/../render", "not the name of a repository"),
            ("oci://host/render:1.0.0", "a tag or a digest, \":1.0.0\""),
            ("oci://host/render@sha256:00", "a tag or a digest, \"@sha256:00\""),
            ("/srv/render.twb", "has no {version}"),
            ("/srv/{version}/render.twb", "name of a directory"),
            ("/srv/{version}/{version}.twb", "more than once"),
            ("/srv/{version}-{version}.twb", "more than once"),
            ("/srv/../{version}.twb", ".."),
        ] {
            let why = text.parse::<BundleSource>().unwrap_err().to_string();
            assert!(why.contains(words), "{text}: {why}");
        }
    }

    #[test]
    fn a_version_never_leads_out_of_the_directory() {
        let source: BundleSource = "/srv/{version}".parse().unwrap();
        assert_eq!(source.file("1.2.0-rc.1+b7"), Some("/srv/1.2.0-rc.1+b7".into()));
        for version in ["", ".", "..", "../x", "1.0.0/../..", "/etc/passwd", "1\0", "a b", "ä"] {
            assert_eq!(source.file(version), None, "{version:?}");
        }
        let root: BundleSource = "/{version}.twb".parse().unwrap();
        assert_eq!(root.file("1.0.0"), Some("/1.0.0.twb".into()));
    }
}
