//! What the znodes of a rollout hold. Pure.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::record::{FormatVersion, StateId};
use twitcher_model::{Lost, OnNewer, Rollout, RolloutName, WatchType, Wave};

/// What goes out, and whether it may go on.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Gate {
    /// The version of the format.
    pub v: FormatVersion,
    /// Tells this gate from one that somebody has deleted.
    pub epoch: u64,
    /// Counts the changes that have gone out.
    pub serial: u64,
    /// What goes out; none before the first.
    pub goal: Option<Goal>,
    /// How far it is.
    pub state: GateState,
    /// What it was before it was paused; or before it was halted, if a check did that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<GateState>,
    /// The wave, counted from 0.
    pub wave: usize,
    /// Why it does not go on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Most hosts that act at once.
    pub at_once: u32,
    /// So many hosts may fail.
    pub max_failures: u32,
    /// The rest of what the steward's configuration said when this change came.
    pub plan: Plan,
    /// The digest of that configuration.
    #[serde(default)]
    pub policy: String,
    /// Failures under slots up to this number do not count.
    #[serde(default)]
    pub forgiven: u64,
    /// Hosts that failed under slots up to this number may try again.
    #[serde(default)]
    pub retried: u64,
    /// The change with this number takes back one that went out before: it needs no waves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revert: Option<u64>,
    /// Since when it is in this state, by the clock of who changed it.
    pub since: Timestamp,
    /// Who changed it.
    #[serde(default)]
    pub by: String,
}

/// The state of a znode that goes out.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Goal {
    /// The znode.
    pub znode: String,
    /// What of it.
    pub kind: WatchType,
    /// The state that it is in.
    pub state: StateId,
}

/// How far a rollout is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateState {
    /// Hosts of the present wave take their turns.
    Rolling,
    /// The wave is through, and is being watched for a while.
    Baking,
    /// What the wave's `check` says is waited for.
    Checking,
    /// An operator must let the next wave go.
    Promoting,
    /// Too many hosts have failed, or the wave's check has.
    Halted,
    /// An operator holds it.
    Paused,
    /// An operator has ended it.
    Aborted,
    /// All hosts that are there have it.
    Done,
    /// Something that a later version says.
    #[serde(other)]
    Unknown,
}

impl GateState {
    /// In a word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rolling => "rolling",
            Self::Baking => "baking",
            Self::Checking => "checking",
            Self::Promoting => "promoting",
            Self::Halted => "halted",
            Self::Paused => "paused",
            Self::Aborted => "aborted",
            Self::Done => "done",
            Self::Unknown => "unknown",
        }
    }

    /// Whether hosts may start.
    pub fn is_open(self) -> bool {
        matches!(
            self,
            Self::Rolling | Self::Baking | Self::Checking | Self::Promoting | Self::Done
        )
    }
}

impl Gate {
    /// The wave that is reached.
    pub fn reached(&self) -> Option<&PlanWave> {
        self.plan.waves.get(self.wave)
    }

    /// Whether there is none after it.
    fn is_last_wave(&self) -> bool {
        self.wave + 1 >= self.plan.waves.len()
    }

    /// Nothing more is asked of the wave than perhaps an operator's word.
    pub(crate) fn pass_check(&mut self) {
        match self.reached().is_some_and(PlanWave::manual) && !self.is_last_wave() {
            true => self.state = GateState::Promoting,
            false => self.pass_wave(),
        }
    }

    /// The next wave goes.
    pub(crate) fn pass_wave(&mut self) {
        match self.is_last_wave() {
            true => self.state = GateState::Done,
            false => (self.state, self.wave) = (GateState::Rolling, self.wave + 1),
        }
    }

    /// Whether it is halted because a wave's check has failed.
    pub(crate) fn check_has_failed(&self) -> bool {
        self.state == GateState::Halted && self.before == Some(GateState::Checking)
    }
}

/// What is frozen when a change comes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Plan {
    /// Which hosts come when.
    pub waves: Vec<PlanWave>,
    /// Seconds that a host with a slot may be away.
    #[serde(with = "seconds")]
    pub lost_after: Duration,
    /// What becomes of its slot then.
    pub lost: Lost,
    /// What a newer change does.
    pub on_newer: OnNewer,
}

/// A wave, as [`Wave`] has it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PlanWave {
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    labels: std::collections::BTreeMap<String, String>,
    percent: u32,
    #[serde(with = "seconds")]
    bake: Duration,
    #[serde(default)]
    manual: bool,
    /// What is run the steward's own configuration says.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    check: bool,
}

impl From<&Wave> for PlanWave {
    fn from(wave: &Wave) -> Self {
        Self {
            labels: wave.labels.clone(),
            percent: wave.percent,
            bake: wave.bake,
            manual: wave.manual,
            check: wave.check.is_some(),
        }
    }
}

impl PlanWave {
    /// Whether a host with these labels can be in it.
    pub fn takes(&self, labels: &crate::identity::Labels) -> bool {
        self.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
    }

    /// How many of so many hosts are in it.
    pub fn quota(&self, hosts: usize) -> usize {
        (hosts * self.percent.min(100) as usize).div_ceil(100)
    }

    /// The labels that a host must have for it.
    pub fn labels(&self) -> &crate::identity::Labels {
        &self.labels
    }

    /// How many of these hosts are in it, in percent.
    pub fn percent(&self) -> u32 {
        self.percent
    }

    /// How long it is watched once it is through.
    pub fn bake(&self) -> Duration {
        self.bake
    }

    /// Whether an operator must let the next one go.
    pub fn manual(&self) -> bool {
        self.manual
    }

    /// Whether something is asked before the next one may go.
    pub fn check(&self) -> bool {
        self.check
    }
}

impl Plan {
    /// The plan of a policy.
    pub fn of(policy: &Rollout) -> Self {
        Self {
            waves: policy.waves.iter().map(PlanWave::from).collect(),
            lost_after: policy.lost_after,
            lost: policy.lost,
            on_newer: policy.on_newer,
        }
    }
}

/// Which slot: no other, of this rollout or of one that had its name, is equal to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId {
    /// That of the gate.
    pub epoch: u64,
    /// Counted from 1.
    pub number: u64,
}

impl fmt::Display for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.epoch, self.number)
    }
}

impl FromStr for SlotId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected a slot: 16 hexadecimal digits, a hyphen and a number";
        let (epoch, number) = text.split_once('-').ok_or(EXPECTED)?;
        Ok(Self {
            epoch: u64::from_str_radix(epoch, 16).map_err(|_| EXPECTED)?,
            number: number.parse().map_err(|_| EXPECTED)?,
        })
    }
}

impl Serialize for SlotId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SlotId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// The counter: how many slots were ever granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counter {
    pub v: FormatVersion,
    pub granted: u64,
}

/// A slot that was granted to the host of its znode's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Grant {
    pub v: FormatVersion,
    pub slot: SlotId,
    /// For which change.
    pub serial: u64,
    /// For which state of the watched znode.
    pub state: StateId,
    /// Who has taken it back, if somebody has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken_back: Option<String>,
}

/// Who does the work of a rollout, until its session ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StewardRecord {
    pub v: FormatVersion,
    pub host: String,
}

/// What a host says of its part in a rollout, with the result of its watch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Part {
    /// The rollout.
    pub rollout: RolloutName,
    /// The change that it has last had a slot for; 0 before the first.
    pub serial: u64,
    /// The last slot that it has used or given back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<SlotId>,
    /// How that went.
    pub state: PartState,
    /// The digest of its own policy.
    pub policy: String,
    /// The id of the host: what had its name before may have left a slot in use.
    #[serde(default)]
    pub host: String,
}

/// How a host's last slot went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PartState {
    /// It has had none.
    None,
    /// It has started, and the slot is its own.
    Acting,
    /// Its action has succeeded, and whether it is well is found out; the slot is its own.
    Verifying,
    /// Its action has succeeded, and it has not got well; the slot is free.
    Unwell,
    /// Its action has succeeded, and whether it is well was not found out; the slot, if it had one, is free.
    Unverified,
    /// Its action has succeeded, or there was nothing to be done; the slot is free.
    Succeeded,
    /// Its action has failed; the slot is free.
    Failed,
    /// It could not use it; the slot is free.
    Declined,
    /// Something that a later version says: the slot is its own.
    #[serde(other)]
    Unknown,
}

impl PartState {
    /// Whether the slot is free again.
    pub fn is_over(self) -> bool {
        matches!(
            self,
            Self::Succeeded | Self::Failed | Self::Unwell | Self::Unverified | Self::Declined
        )
    }

    /// Whether the host has begun to use its slot, and not ended.
    pub fn is_in_use(self) -> bool {
        matches!(self, Self::Acting | Self::Verifying)
    }

    /// Whether its action has succeeded and the host is not known to be well, though it is to be.
    pub fn is_unproven(self) -> bool {
        matches!(self, Self::Verifying | Self::Unwell | Self::Unverified)
    }

    /// Whether the change has failed on the host.
    pub fn has_failed(self) -> bool {
        matches!(self, Self::Failed | Self::Unwell)
    }
}

/// The digest by which hosts tell whether they have the same policy.
pub(crate) fn policy_digest(policy: &Rollout) -> String {
    use sha2::{Digest as _, Sha256};
    let text = serde_json::to_vec(policy).unwrap_or_default();
    let digest: [u8; 32] = Sha256::digest(&text).into();
    digest[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Durations as seconds.
mod seconds {
    use super::*;

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        Duration::try_from_secs_f64(f64::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record;

    /// What another version of the program has written must still mean the same.
    #[test]
    fn records_are_written_so() {
        let gate = r#"{"v":1,"epoch":7,"serial":41,"goal":{"znode":"/git/head","kind":"data","state":"0x7b"},"state":"halted","wave":1,"why":"3 hosts failed, 2 allowed","at_once":5,"max_failures":2,"plan":{"waves":[{"labels":{"canary":"yes"},"percent":100,"bake":5.0,"manual":false},{"percent":100,"bake":0.0,"manual":false}],"lost_after":120.0,"lost":"HOLD","on_newer":"RESTART"},"policy":"9f3c0000","forgiven":0,"retried":0,"since":"2026-07-01T03:00:00Z","by":"web-07"}"#;
        let read: Gate = record::read(gate.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(record::write(&read)).unwrap(), gate);
        let grant = r#"{"v":1,"slot":"0000000000000007-1007","serial":41,"state":"0x7b"}"#;
        let read: Grant = record::read(grant.as_bytes()).unwrap();
        assert_eq!(String::from_utf8(record::write(&read)).unwrap(), grant);
    }

    #[test]
    fn what_a_later_version_says_frees_no_slot_and_starts_nothing() {
        assert!(!serde_json::from_str::<PartState>(r#""thawing""#).unwrap().is_over());
        assert!(!serde_json::from_str::<GateState>(r#""thawing""#).unwrap().is_open());
    }

    #[test]
    fn slots_are_told_apart() {
        let slot = SlotId {
            epoch: u64::MAX,
            number: 12,
        };
        assert_eq!(slot.to_string().parse(), Ok(slot));
        for bad in ["", "-", "zz-1", "1-", "12"] {
            assert!(bad.parse::<SlotId>().is_err(), "{bad}");
        }
    }
}
