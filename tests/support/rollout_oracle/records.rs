//! Where a znode of a fleet is and what it holds, as far as the oracle looks at it.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::rollout::Rollout;

/// What a znode below the root is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A host, or one of its own.
    Host(String),
    Live(String),
    /// The result of a rollout, of a host.
    Result(String, String),
    /// Something else below a host.
    Below(String),
    /// What a rollout has.
    Gate(String),
    Counter(String),
    Grant(String, String),
    Steward,
    /// Something else.
    Other,
}

impl Place {
    /// None if it is not below the root.
    pub fn of(root: &str, path: &str) -> Option<Self> {
        let below = path.strip_prefix(root)?;
        if !below.is_empty() && !below.starts_with('/') {
            return None;
        }
        let own = str::to_owned;
        let parts: Vec<&str> = below.split('/').skip(1).collect();
        Some(match parts[..] {
            ["hosts", host] => Self::Host(own(host)),
            ["hosts", host, "live"] => Self::Live(own(host)),
            ["hosts", host, name] => match name.strip_prefix("r.") {
                Some(rollout) => Self::Result(own(host), own(rollout)),
                None => Self::Below(own(host)),
            },
            ["hosts", host, ..] => Self::Below(own(host)),
            ["rollouts", rollout] => Self::Gate(own(rollout)),
            ["rollouts", rollout, "grants"] => Self::Counter(own(rollout)),
            ["rollouts", rollout, "grants", host] => Self::Grant(own(rollout), own(host)),
            ["rollouts", _, "steward"] => Self::Steward,
            _ => Self::Other,
        })
    }

    /// The rollout that is judged when it changes.
    pub fn rollout(&self) -> Option<&str> {
        match self {
            Self::Result(_, rollout) | Self::Gate(rollout) | Self::Counter(rollout) | Self::Grant(rollout, _) => {
                Some(rollout)
            }
            _ => None,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Gate {
    pub epoch: u64,
    pub serial: u64,
    pub goal: Option<Goal>,
    pub state: String,
    pub before: Option<String>,
    pub at_once: usize,
    pub max_failures: usize,
    #[serde(default)]
    pub forgiven: u64,
}

impl Gate {
    pub fn is_open(&self) -> bool {
        matches!(&*self.state, "rolling" | "baking" | "checking" | "promoting" | "done")
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Goal {
    pub znode: String,
    pub kind: String,
    pub state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Grant {
    pub slot: String,
    pub serial: u64,
    pub state: String,
    pub taken_back: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Counter {
    granted: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Report {
    good: Option<String>,
    part: Option<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Part {
    pub serial: u64,
    pub slot: Option<String>,
    pub state: String,
    #[serde(skip)]
    pub good: Option<String>,
}

/// The number of a slot.
pub fn number(slot: &str) -> u64 {
    let number = slot.rsplit_once('-').and_then(|(_, number)| number.parse().ok());
    number.unwrap_or(u64::MAX)
}

/// The transaction that made a state, where it was one.
pub fn zxid(state: &str) -> Option<i64> {
    i64::from_str_radix(state.strip_prefix("0x")?, 16).ok()
}

/// What one transaction has changed of a rollout: what there is now, and nothing of what is gone.
#[derive(Debug, Default)]
pub struct Changed {
    pub gate: Option<Option<Gate>>,
    pub granted: Option<u64>,
    pub grants: BTreeMap<String, Option<Grant>>,
    pub parts: BTreeMap<String, Option<Part>>,
}

impl Changed {
    /// Notes a znode that was written.
    pub fn note(&mut self, place: &Place, before: Option<&[u8]>, now: Option<&[u8]>) -> Result<(), String> {
        if before.is_none() && now.is_none() {
            return Ok(());
        }
        match place {
            Place::Gate(_) => self.gate = Some(read(now)?),
            Place::Counter(_) => self.granted = read::<Counter>(now)?.map(|counter| counter.granted),
            Place::Grant(_, host) => drop(self.grants.insert(host.clone(), read(now)?)),
            Place::Result(host, _) => {
                let part = read::<Report>(now)?.and_then(|report| {
                    let Report { good, part } = report;
                    part.map(|part| Part { good, ..part })
                });
                self.parts.insert(host.clone(), part);
            }
            _ => {}
        }
        Ok(())
    }

    /// How many slots are granted that were not there before.
    pub fn new_slots(&self, rollout: &Rollout) -> usize {
        let is_new = |host: &str, grant: &Grant| rollout.slot(host) != Some(&*grant.slot);
        let granted = self
            .grants
            .iter()
            .filter_map(|(host, grant)| Some((host, grant.as_ref()?)));
        granted.filter(|(host, grant)| is_new(host, grant)).count()
    }
}

fn read<T: DeserializeOwned>(data: Option<&[u8]>) -> Result<Option<T>, String> {
    let read = data.map(serde_json::from_slice).transpose();
    read.map_err(|why| format!("makes no sense: {why}"))
}
