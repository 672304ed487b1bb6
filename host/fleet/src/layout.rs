//! Where in ZooKeeper what of a fleet is, and what may be a name there. Pure.
//!
//! ```text
//! /twitcher                       the root
//!   /hosts/web-01                 a host
//!     /live                       ephemeral, while its daemon is connected
//!     /w.repo                     the newest result of the watch `repo`
//!     /r.repo                     the same of a rollout
//!   /rollouts/repo                what rolls out: see `rollout`
//! ```
//!
//! It must not know what the znodes hold.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use twitcher_model::{RolloutName, ZnodePath, ZnodePathError, is_fleet_name};

/// Longest name of a host, in bytes.
const HOST_MAX: usize = 64;
/// Longest znode name that is made of the name of a watch, without its prefix; a longer one is cut, and told apart by a digest.
const WATCH_MAX: usize = 100;
const WATCH_PREFIX: &str = "w.";
const ROLLOUT_PREFIX: &str = "r.";
/// The presence of a host.
pub(crate) const LIVE: &str = "live";

/// The name by which a fleet knows a host: the name of a znode.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostName(String);

/// Why a text is not the name of a host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name for a host in a fleet: expected 1 to {HOST_MAX} letters, digits, dots, hyphens and underscores, and not only dots"
)]
pub struct HostNameError(String);

impl FromStr for HostName {
    type Err = HostNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match is_fleet_name(text, HOST_MAX) {
            true => Ok(Self(text.to_owned())),
            false => Err(HostNameError(text.to_owned())),
        }
    }
}

impl HostName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The znode below which a fleet has everything; never that of all znodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetRoot(ZnodePath);

/// Why a text is not the root of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FleetRootError {
    /// It is no path.
    #[error(transparent)]
    Path(#[from] ZnodePathError),
    /// It is `/`.
    #[error("a fleet needs a znode of its own, such as /twitcher, not /")]
    Root,
}

impl FromStr for FleetRoot {
    type Err = FleetRootError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let path = ZnodePath::new(text)?;
        match path.parent() {
            Some(_) => Ok(Self(path)),
            None => Err(FleetRootError::Root),
        }
    }
}

impl fmt::Display for FleetRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

impl FleetRoot {
    /// The root and those above it, from the top.
    pub(crate) fn and_ancestors(&self) -> Vec<ZnodePath> {
        let mut all: Vec<ZnodePath> = std::iter::successors(Some(self.0.clone()), ZnodePath::parent)
            .filter(|path| path.parent().is_some())
            .collect();
        all.reverse();
        all
    }

    pub(crate) fn path(&self) -> &str {
        self.0.as_str()
    }

    pub(crate) fn hosts(&self) -> String {
        format!("{}/hosts", self.0)
    }

    pub(crate) fn host(&self, host: &str) -> String {
        format!("{}/hosts/{host}", self.0)
    }

    pub(crate) fn rollouts(&self) -> String {
        format!("{}/rollouts", self.0)
    }

    /// What goes out, and whether it may.
    pub(crate) fn gate(&self, rollout: &RolloutName) -> String {
        format!("{}/rollouts/{rollout}", self.0)
    }

    /// The counter of the slots of a rollout, which has their grants below it.
    pub(crate) fn grants(&self, rollout: &RolloutName) -> String {
        format!("{}/rollouts/{rollout}/grants", self.0)
    }

    pub(crate) fn grant(&self, rollout: &RolloutName, host: &str) -> String {
        format!("{}/rollouts/{rollout}/grants/{host}", self.0)
    }

    /// The data of the last change that all hosts have got.
    pub(crate) fn good(&self, rollout: &RolloutName) -> String {
        format!("{}/rollouts/{rollout}/good", self.0)
    }

    /// The same of the one before.
    pub(crate) fn good_before(&self, rollout: &RolloutName) -> String {
        format!("{}/rollouts/{rollout}/good-before", self.0)
    }

    pub(crate) fn steward(&self, rollout: &RolloutName) -> String {
        format!("{}/rollouts/{rollout}/steward", self.0)
    }
}

/// The name of the znode that has a watch's result. Of most names it can be read; of all it tells one from the others.
pub(crate) fn watch_znode(watch: &str) -> String {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let mut name = String::with_capacity(WATCH_PREFIX.len() + watch.len());
    name.push_str(WATCH_PREFIX);
    for byte in watch.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.') {
            name.push(byte.into());
        } else {
            name.push('%');
            name.push(HEX[usize::from(byte >> 4)].into());
            name.push(HEX[usize::from(byte & 15)].into());
        }
        if name.len() > WATCH_PREFIX.len() + WATCH_MAX {
            let hash: [u8; 32] = Sha256::digest(watch.as_bytes()).into();
            let hash = hash.first_chunk().map_or(0, |first| u64::from_be_bytes(*first));
            name.truncate(WATCH_PREFIX.len() + WATCH_MAX);
            name.push_str(&format!("~{hash:016x}"));
            break;
        }
    }
    name
}

/// Whether a znode below a host's has the result of a watch without a rollout.
pub(crate) fn is_watch_znode(name: &str) -> bool {
    name.starts_with(WATCH_PREFIX)
}

/// The name of the znode below a host's that has the result of a watch with this rollout.
pub(crate) fn rollout_znode(rollout: &RolloutName) -> String {
    format!("{ROLLOUT_PREFIX}{rollout}")
}

/// Whether a znode below a host's has the result of a watch with a rollout.
pub(crate) fn is_rollout_znode(name: &str) -> bool {
    name.starts_with(ROLLOUT_PREFIX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_of_hosts_are_names_of_znodes() {
        for good in ["web-01", "a", "10.0.0.1", "web_1.example.org", &"x".repeat(64)] {
            assert_eq!(good.parse::<HostName>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "a b", "ü", "a\n", &"x".repeat(65)] {
            assert!(bad.parse::<HostName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_fleet_has_a_znode_of_its_own() {
        assert_eq!("/".parse::<FleetRoot>(), Err(FleetRootError::Root));
        assert!("twitcher".parse::<FleetRoot>().is_err());
        let root: FleetRoot = "/a/b".parse().unwrap();
        let above: Vec<String> = root.and_ancestors().iter().map(ToString::to_string).collect();
        assert_eq!(above, ["/a", "/a/b"]);
        assert_eq!(root.host("web"), "/a/b/hosts/web");
    }

    #[test]
    fn a_watch_is_found_by_its_name() {
        assert_eq!(watch_znode("repo"), "w.repo");
        assert_eq!(watch_znode("pull the repo"), "w.pull%20the%20repo");
        assert_eq!(watch_znode("a/b"), "w.a%2Fb");
        assert_ne!(watch_znode(&"x".repeat(200)), watch_znode(&"x".repeat(201)));
    }

    proptest! {
        #[test]
        fn every_watch_has_a_znode_of_its_own(a in ".{0,150}", b in ".{0,150}") {
            let (of_a, of_b) = (watch_znode(&a), watch_znode(&b));
            let path = ZnodePath::new(format!("/{of_a}"));
            prop_assert!(path.is_ok());
            prop_assert!(of_a.len() <= 120);
            prop_assert_eq!(a == b, of_a == of_b);
        }
    }
}
