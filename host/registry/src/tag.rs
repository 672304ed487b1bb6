//! Whether a bundle is the one that its place in a registry speaks of: its name by the repository, its version by the tag.
//!
//! A tag is a version if it reads as one, `1.2.3` or `v1.2.3`, or as the beginning of one, `1.2` or `1`; the `v` may be a `V`. All others
//! are free, like `latest`. Where a version has `+`, which no tag has, a tag has `_`.

use semver::Version;

use super::address::{Remote, Selector};
use twitcher_bundle::{Manifest, Versions};

/// A bundle that is another one than was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// It is called otherwise.
    #[error("the bundle there is called {found}, not {asked}: if that one is meant, say --name {found}")]
    Name {
        /// What it should be called.
        asked: String,
        /// What it is called.
        found: String,
    },
    /// It is another version than its tag says.
    #[error(
        "the tag says {tag}, and the bundle there is {name} {found}: the tag is mistaken, or was moved. If that version is meant, name it \
         by its digest, {digest}"
    )]
    Version {
        /// The tag.
        tag: String,
        /// The name.
        name: String,
        /// The version of the bundle.
        found: Version,
        /// What names this bundle for ever.
        digest: Box<Remote>,
    },
    /// It would be another version than its tag says.
    #[error(
        "the bundle is {name} {found}, and the tag {tag} would say another version: push it to :{better}, or to a tag that is no version"
    )]
    Pushed {
        /// The tag.
        tag: String,
        /// The name.
        name: String,
        /// The version of the bundle.
        found: Version,
        /// The tag of that version.
        better: String,
    },
}

impl Remote {
    /// The name that a bundle there should have.
    pub fn name(&self) -> &str {
        self.repository.rsplit('/').next().unwrap_or_default()
    }

    /// Whether its tag is a version, and not this one.
    pub(super) fn denies(&self, version: &Version) -> Option<&str> {
        match &self.selector {
            Selector::Tag(tag) => versions(tag)
                .is_some_and(|versions| !versions.include(version))
                .then_some(tag),
            Selector::Digest(_) => None,
        }
    }
}

/// Whether a bundle that was found is the one that was asked for; `name` is what it should be called.
pub(super) fn check_pulled(remote: &Remote, name: &str, manifest: &Manifest, found: &Remote) -> Result<(), Mismatch> {
    if manifest.name != name {
        return Err(Mismatch::Name {
            asked: name.to_owned(),
            found: manifest.name.clone(),
        });
    }
    match remote.denies(&manifest.version) {
        None => Ok(()),
        Some(tag) => Err(Mismatch::Version {
            tag: tag.to_owned(),
            name: manifest.name.clone(),
            found: manifest.version.clone(),
            digest: Box::new(found.clone()),
        }),
    }
}

/// Whether a bundle could be pulled by the tag that it is to be pushed to.
pub(super) fn check_pushed(remote: &Remote, manifest: &Manifest) -> Result<(), Mismatch> {
    match remote.denies(&manifest.version) {
        None => Ok(()),
        Some(tag) => Err(Mismatch::Pushed {
            tag: tag.to_owned(),
            name: manifest.name.clone(),
            found: manifest.version.clone(),
            better: manifest.version.to_string().replace('+', "_"),
        }),
    }
}

/// The versions that a tag says, if it says any.
fn versions(tag: &str) -> Option<Versions> {
    let text = tag.strip_prefix(['v', 'V']).unwrap_or(tag);
    text.replacen('_', "+", 1).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_that_reads_as_a_version_is_one() {
        for (tag, version, denied) in [
            ("1.2.3", "1.2.3", false),
            ("v1.2.3", "1.2.3", false),
            ("1.2", "1.2.9", false),
            ("v1", "1.2.9", false),
            ("1", "1.2.9", false),
            ("V1.2.3", "1.2.3", false),
            ("V1", "1.2.9", false),
            ("1.2.3-rc.1", "1.2.3-rc.1", false),
            ("1.2.3_b10", "1.2.3+b10", false),
            ("1.2.3", "1.2.4", true),
            ("v1.2.3", "1.2.4", true),
            ("3.0.0", "1.0.0", true),
            ("1.2", "1.3.0", true),
            ("v1", "2.0.0", true),
            ("2", "1.0.0", true),
            ("2.1", "2.0.0", true),
            ("V2.0.0", "1.0.0", true),
            ("V2", "1.0.0", true),
            ("57", "1.0.0", true),
            ("1.2.3", "1.2.3-rc.1", true),
            ("1.2.3_b10", "1.2.3+b2", true),
            ("latest", "1.0.0", false),
            ("build-57", "1.0.0", false),
            ("vv1", "2.0.0", false),
            ("main-1a2b3c", "1.0.0", false),
            ("1.2.3.4", "1.0.0", false),
            ("version", "1.0.0", false),
        ] {
            let remote: Remote = format!("oci://r.example/tools/hello:{tag}").parse().unwrap();
            let version = version.parse().unwrap();
            assert_eq!(remote.denies(&version).is_some(), denied, "{tag} {version}");
            assert_eq!(remote.name(), "hello");
        }
    }
}
