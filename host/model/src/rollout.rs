//! How a change goes out to a fleet: what a watch's `rollout` says.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Hardening;

/// Longest name of a rollout, in bytes.
const NAME_MAX: usize = 64;

/// The name by which a fleet knows a rollout: the name of a znode.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RolloutName(Arc<str>);

/// Why a text is not the name of a rollout.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no name for a rollout: expected 1 to {NAME_MAX} letters, digits, dots, hyphens and underscores, and not only dots"
)]
pub struct RolloutNameError(String);

impl FromStr for RolloutName {
    type Err = RolloutNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match is_fleet_name(text, NAME_MAX) {
            true => Ok(Self(text.into())),
            false => Err(RolloutNameError(text.to_owned())),
        }
    }
}

/// Whether a text may be the name of a znode that a fleet names itself: letters, digits, dots, hyphens and underscores, so many at most.
pub fn is_fleet_name(text: &str, most: usize) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    (1..=most).contains(&text.len()) && text.chars().all(allowed) && text.chars().any(|c| c != '.')
}

impl TryFrom<String> for RolloutName {
    type Error = RolloutNameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<RolloutName> for String {
    fn from(name: RolloutName) -> Self {
        (*name.0).to_owned()
    }
}

impl RolloutName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RolloutName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How a watch's changes go out to the hosts of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Rollout {
    /// The rollout: hosts whose watches have the same one share its slots.
    pub name: RolloutName,
    /// Most hosts that act at once.
    pub at_once: AtOnce,
    /// So many hosts of the whole fleet may fail; one more halts the rollout. Default 0.
    pub max_failures: u32,
    /// Which hosts come when; the last wave has all of them. Default: one wave with all.
    pub waves: Vec<Wave>,
    /// How long a host that holds a slot may be away before it counts as lost, and so as failed. Default 120 s.
    pub lost_after: Duration,
    /// What becomes of the slot of a lost host. Default [`Lost::Hold`].
    pub lost: Lost,
    /// What becomes of a rollout in progress when the znode changes again. Default [`OnNewer::Restart`].
    pub on_newer: OnNewer,
    /// What says whether a host that has acted is well. Default none: that its action has succeeded is enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Verify>,
    /// After so long without a fleet that can be asked the host acts all the same. Default none: it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<Duration>,
}

/// What says whether a host that has acted is well, and for how long it must say so.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Verify {
    /// It is run again and again: the host is well if it succeeds.
    pub probe: Probe,
    /// So long the host must be well without a break. Default 10 s.
    pub steady: Duration,
    /// After so long the host has failed. Default 300 s.
    pub deadline: Duration,
}

/// A command that says by its exit code how something stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Probe {
    /// The program and its arguments.
    pub argv: Arc<[Arc<str>]>,
    /// What it is kept from.
    #[serde(default)]
    pub hardening: Hardening,
}

/// Most hosts that act at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AtOnce {
    /// So many, at least 1.
    Hosts(u32),
    /// So many of a hundred hosts that take part when the rollout begins, 1 to 100; at least one host.
    Percent(u32),
}

impl AtOnce {
    /// As a number of hosts, of a fleet of this size.
    pub fn of(self, hosts: usize) -> u32 {
        let hosts = u32::try_from(hosts).unwrap_or(u32::MAX);
        match self {
            Self::Hosts(hosts) => hosts.max(1),
            Self::Percent(percent) => {
                u32::try_from(u64::from(hosts) * u64::from(percent) / 100).map_or(u32::MAX, |hosts| hosts.max(1))
            }
        }
    }
}

impl fmt::Display for AtOnce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hosts(hosts) => write!(f, "{hosts}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// Some of the hosts that a change goes to, and what comes after them.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Wave {
    /// Only hosts with these labels. Default: all.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// So many of a hundred of them, 1 to 100; those that have the change already count. Default 100.
    pub percent: u32,
    /// How long to wait after the wave before the next one. Default 0.
    #[serde(default)]
    pub bake: Duration,
    /// Whether an operator must let the next wave go (`twitcher fleet promote`). Default false.
    #[serde(default)]
    pub manual: bool,
    /// What says, on the steward's host, whether the next wave may go: it may if it succeeds. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub check: Option<Probe>,
}

impl Default for Wave {
    fn default() -> Self {
        Self {
            labels: BTreeMap::new(),
            percent: 100,
            bake: Duration::ZERO,
            manual: false,
            check: None,
        }
    }
}

impl Wave {
    /// Whether it has every host.
    pub fn has_all(&self) -> bool {
        self.labels.is_empty() && self.percent >= 100
    }
}

/// What becomes of the slot of a host that went away while it held it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum Lost {
    /// It is held until the host comes back, or an operator releases it.
    #[default]
    Hold,
    /// It is free again, though the host's action may still run: more hosts than `at_once` can then act at once.
    Release,
}

/// What becomes of a rollout in progress when the znode changes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum OnNewer {
    /// The newer change begins at the first wave.
    #[default]
    Restart,
    /// It goes on in the wave that the older one has reached.
    Carry,
}
