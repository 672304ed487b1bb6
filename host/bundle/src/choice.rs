//! Which bundle is to be deployed, as somebody says who is not trusted: a version or a digest, and nothing that could mean more.
//!
//! What is said only chooses. That the bundle is signed, and is the one that was chosen, is found out here all the same.

use std::cmp::Reverse;
use std::fmt;

use semver::Version;

use super::install::InstallError;
use super::installed::Installed;
use super::manifest::{Manifest, parse_digest};
use super::store::{Store, StoreError, Switch};
use super::trust::Trust;
use twitcher_model::Digest;
use twitcher_model::deployment::BUNDLE_NAME_MAX;
use twitcher_model::grant_syntax::quoted;

/// Longest text that chooses, in bytes: a version or a digest is shorter.
pub const CHOICE_MAX: usize = 256;

/// One of the bundles of a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The one that has this version.
    Version(Version),
    /// The one with this digest.
    Digest(Digest),
}

/// A text that chooses nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// There is none.
    #[error("it is empty: expected a version, such as 1.2.0, or a digest, sha256:...")]
    Empty,
    /// It is something else.
    #[error("it is neither a version, such as 1.2.0, nor a digest, sha256: and 64 lower-case hexadecimal digits")]
    Neither,
}

impl Choice {
    /// Reads what somebody said, with white space around it.
    pub fn of_data(data: &[u8]) -> Result<Self, ChoiceError> {
        let text = std::str::from_utf8(data.trim_ascii()).map_err(|_| ChoiceError::Neither)?;
        if text.is_empty() {
            return Err(ChoiceError::Empty);
        }
        if let Some(digest) = text.strip_prefix("sha256:") {
            return parse_digest(digest).map(Self::Digest).ok_or(ChoiceError::Neither);
        }
        match Version::parse(text) {
            Ok(version) if text.len() <= BUNDLE_NAME_MAX => Ok(Self::Version(version)),
            _ => Err(ChoiceError::Neither),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(version) => version.fmt(f),
            Self::Digest(digest) => write!(f, "sha256:{digest}"),
        }
    }
}

/// What somebody said, for a message: a part of it, on one line.
pub fn shown(data: &[u8]) -> String {
    quoted(String::from_utf8_lossy(data).trim_matches(|c: char| c.is_ascii_whitespace()))
}

/// What a bundle must be to be installed.
#[derive(Debug, Clone)]
pub struct Expected<'a> {
    /// What it must be called.
    pub name: &'a str,
    /// Which one of that name it must be. A digest is that of its manifest.
    pub choice: Choice,
}

impl Expected<'_> {
    /// Whether it is the one; if not, what is expected and what it is.
    pub(super) fn check(&self, manifest: &Manifest, digest: Digest) -> Result<(), InstallError> {
        if manifest.name != self.name {
            return Err(InstallError::OtherName {
                expected: self.name.to_owned(),
                found: manifest.name.clone(),
            });
        }
        let is_chosen = match &self.choice {
            Choice::Version(version) => manifest.version == *version,
            Choice::Digest(chosen) => digest == *chosen,
        };
        match is_chosen {
            true => Ok(()),
            false => Err(InstallError::OtherVersion {
                expected: self.choice.clone(),
                found: match self.choice {
                    Choice::Version(_) => Choice::Version(manifest.version.clone()),
                    Choice::Digest(_) => Choice::Digest(digest),
                },
            }),
        }
    }
}

impl Store {
    /// Makes the one that is expected the current version if it is installed, trusted and whole; older or newer. None if it is not: then
    /// it has to be installed.
    pub fn choose_expected(&self, expected: &Expected<'_>, trust: &Trust) -> Result<Option<Switch>, StoreError> {
        let _lock = self.lock()?;
        let mut versions = self.versions(expected.name)?;
        versions.sort_by_key(|installed| Reverse(installed.installed));
        let fits = |installed: &Installed| {
            expected.check(&installed.manifest, installed.digest).is_ok()
                && installed.judge(trust).is_ok()
                && installed.verify().is_ok()
        };
        let found = versions.iter().find(|installed| fits(installed));
        found.map(|installed| self.switch(installed)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_or_a_digest_chooses() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        for text in ["1.2.0", "1.2.0-rc.1+b7", &digest] {
            let choice = Choice::of_data(format!(" {text}\r\n").as_bytes()).unwrap();
            assert_eq!(choice.to_string(), text);
        }
    }

    #[test]
    fn nothing_else_does() {
        assert_eq!(Choice::of_data(b" \n"), Err(ChoiceError::Empty));
        for data in [
            &b"latest"[..],
            b"1",
            b"1.2",
            b"v1.2.0",
            b"../../x",
            b"1.0.0/../..",
            b"1.0.0\n1.0.1",
            b"1.0.0\0",
            b"sha256:",
            b"sha256:00",
            b"sha512:00",
            b"\xff\xfe",
            "١.٠.٠".as_bytes(),
        ] {
            assert_eq!(Choice::of_data(data), Err(ChoiceError::Neither), "{}", shown(data));
        }
        let long = format!("1.0.0-{}", "a".repeat(BUNDLE_NAME_MAX));
        assert_eq!(Choice::of_data(long.as_bytes()), Err(ChoiceError::Neither));
        let upper = format!("sha256:{}", "0A".repeat(32));
        assert_eq!(Choice::of_data(upper.as_bytes()), Err(ChoiceError::Neither));
        assert_eq!(shown(b" a\nb\n"), "\"a\\nb\"");
    }
}
