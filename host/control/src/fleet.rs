//! What the interface says of a fleet. Part of [`super::api`], and as plain: it must not know how any of it is found out.

use std::collections::BTreeMap;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use twitcher_model::WatchType;

/// How a daemon stands with its fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FleetMembership {
    /// The znode below which the fleet has everything.
    pub root: String,
    /// What this host is called there.
    pub host: String,
    /// Since when it is in the fleet; none if it is not.
    pub since: Option<Timestamp>,
    /// Why it is not, or why it cannot publish.
    pub problem: Option<String>,
    /// Results that the fleet does not know as they are.
    pub unpublished: u64,
    /// For how many seconds the one of them that has waited longest has waited.
    pub lag: f64,
    /// The rollouts that this host takes part in.
    pub rollouts: Vec<RolloutPart>,
}

/// A host's part in a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RolloutPart {
    /// The rollout.
    pub name: String,
    /// What is wrong with it on this host, if something is.
    pub problem: Option<String>,
    /// What the rollout's steward knows of it; none on other hosts.
    pub figures: Option<RolloutFigures>,
}

/// How a rollout stands, in figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RolloutFigures {
    /// As [`RolloutStatus`] has it.
    pub state: String,
    /// How many hosts are in each state, as [`RolloutHost`] has it.
    pub hosts: BTreeMap<String, u64>,
    /// How many slots are held.
    pub slots: u64,
    /// How many there are.
    pub at_once: u64,
    /// For how many seconds nothing of this has changed.
    pub unchanged: f64,
}

/// A fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Fleet {
    /// The znode below which it has everything.
    pub root: String,
    /// What the host of the daemon that was asked is called there.
    pub host: String,
    /// Why that host is not in the fleet, or cannot publish.
    #[serde(default)]
    pub problem: Option<String>,
    /// When it was read.
    pub at: Timestamp,
    /// Its hosts, by name.
    pub hosts: Vec<FleetHost>,
}

/// A host of a fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FleetHost {
    /// Its name.
    pub name: String,
    /// What tells it from another one of its name.
    pub id: Option<String>,
    /// Since when its daemon is there; none if the host is absent.
    pub live: Option<Timestamp>,
    /// What else it is called.
    pub labels: BTreeMap<String, String>,
    /// Version of its program.
    pub version: String,
    /// What is wrong with its znodes, if something is.
    pub problem: Option<String>,
    /// With how many watches it lags.
    pub lagging: u64,
    /// Where it stands with its watches.
    pub watches: Vec<FleetResult>,
}

/// Where a host stands with a watch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FleetResult {
    /// Name of the watch.
    pub watch: String,
    /// Its znode.
    pub znode: String,
    /// What of it is watched.
    pub watch_type: WatchType,
    /// `current`, `behind`, `failed`, `held`, `unreadable`, or `unknown` if a newer version says something else.
    pub state: String,
    /// Whether it has not handled what the znode is now.
    pub lags: bool,
    /// The state that the last run was for: `absent`, a zxid in hexadecimal, or the digest of a subtree.
    pub at: Option<String>,
    /// The newest state that nothing is left to be done for.
    pub good: Option<String>,
    /// The state that the znode is in now, where that is known.
    pub newest: Option<String>,
    /// The last run that ended.
    pub last_run: Option<FleetRun>,
}

/// A run on a host of a fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FleetRun {
    /// Its id: on the host, `twitcher logs ID` shows what it wrote.
    pub run: String,
    /// How it ended, in words.
    pub outcome: String,
    /// Counted from 1.
    pub attempt: u32,
    /// When it started, by the host's clock.
    pub started: Timestamp,
    /// How long it ran, in seconds.
    pub duration: f64,
    /// Whether its watch has a rollout, and it did not wait for its turn.
    #[serde(default)]
    pub ungoverned: bool,
}

/// Who lags.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Laggards {
    /// When that was so.
    pub at: Timestamp,
    /// How many hosts have such a watch.
    pub hosts: u64,
    /// Where they have not handled what the znode is now, by host and watch.
    pub laggards: Vec<Laggard>,
    /// Hosts of which it is not known.
    pub unknown: Vec<UnknownHost>,
}

/// A host that has not handled what a znode is now.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Laggard {
    /// The host.
    pub host: String,
    /// Since when its daemon is there; none if the host is absent.
    pub live: Option<Timestamp>,
    /// Where it stands.
    pub result: FleetResult,
}

/// A host of which nothing certain can be said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnknownHost {
    /// The host.
    pub host: String,
    /// What is wrong with its znodes.
    pub problem: String,
}

/// A host that the fleet does not know any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Forgotten {
    /// Its name.
    pub host: String,
    /// How many znodes it had left below its own.
    pub znodes: u64,
}

/// What rolls out in a fleet.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Rollouts {
    /// When it was read.
    pub at: Timestamp,
    /// By name.
    pub rollouts: Vec<RolloutStatus>,
    /// Those of which nothing can be said.
    #[serde(default)]
    pub broken: Vec<BrokenRollout>,
}

/// A rollout of which nothing can be said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BrokenRollout {
    /// Its name.
    pub name: String,
    /// What is wrong with its znodes.
    pub problem: String,
    /// What somebody can do about it, where that is known.
    pub help: Option<String>,
}

/// How a change goes out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RolloutStatus {
    /// The rollout.
    pub name: String,
    /// The znode whose changes go out; none before the first.
    pub znode: Option<String>,
    /// What of it is watched.
    pub watch_type: Option<WatchType>,
    /// Counts the changes that have gone out.
    pub serial: u64,
    /// The state of the znode that goes out: `absent`, or a zxid in hexadecimal.
    pub goal: Option<String>,
    /// The state that it is in now, where that is known; if it is another one, that is about to go out.
    pub newest: Option<String>,
    /// `rolling`, `baking`, `checking`, `promoting`, `halted`, `paused`, `aborted`, `done`, or `unknown` if a newer version says something else.
    pub state: String,
    /// Since when, by the clock of who changed it.
    pub since: Timestamp,
    /// Why it does not go on, if it does not.
    pub why: Option<String>,
    /// Who changed it last: a host, or an operator.
    pub by: String,
    /// The wave, counted from 1.
    pub wave: u64,
    /// How many there are.
    pub waves: u64,
    /// Who is in which, as the steward's configuration said when the change came.
    #[serde(default)]
    pub plan: Vec<RolloutWave>,
    /// Most hosts that act at once.
    pub at_once: u64,
    /// How many slots are held.
    pub slots: u64,
    /// So many hosts may fail.
    pub max_failures: u64,
    /// The host that does the work of it, if there is one.
    pub steward: Option<String>,
    /// The hosts that take part, by name.
    pub hosts: Vec<RolloutHost>,
}

/// A wave of a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RolloutWave {
    /// Only hosts with all of these labels are in it.
    pub labels: BTreeMap<String, String>,
    /// So many of them.
    pub percent: u32,
    /// For how many seconds it is watched once it is through.
    pub bake: f64,
    /// Whether an operator must let the next one go.
    pub manual: bool,
}

/// A host that takes part in a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RolloutHost {
    /// Its name.
    pub host: String,
    /// `current`, `acting`, `verifying`, `granted`, `waiting`, `failed`, `lost`, `absent`, `declined` or `other`.
    pub state: String,
    /// The wave that it is in, counted from 1; none if it is in none, as it has another znode or is not there. Who waits may still come
    /// in another one, when hosts come and go.
    #[serde(default)]
    pub wave: Option<u64>,
    /// Whether its daemon is there.
    pub live: bool,
    /// Whether it holds a slot.
    pub slot: bool,
    /// The change that it has last had a slot for; 0 if none.
    pub serial: u64,
    /// Whether its configuration says something else of the rollout than the steward's did when the change came.
    pub policy_differs: bool,
    /// The last run that ended.
    pub last_run: Option<FleetRun>,
}
