//! What the control interface says: the types of its JSON, the same for the daemon that answers and for the commands that ask.
//!
//! ```text
//! GET  /v1/status                      Status
//! GET  /v1/overview                    Overview      the status with all watches, as of the same moment
//! GET  /v1/states                      States        what is said of each state of a watch
//! GET  /v1/watches[?state=&search=]    Watches
//! GET  /v1/watches/{name}              WatchDetail
//! GET  /v1/runs[?watch=&outcome=&limit=&before=]   Runs; outcome=running are those that go on
//! GET  /v1/runs/{id}                   RunDetail
//! GET  /v1/fleet[?watches=&max_age=]   Fleet         where every host of the fleet stands
//! GET  /v1/fleet/laggards[?of=]        Laggards      of a watch or a znode, or of all
//! GET  /v1/fleet/rollouts[?max_age=]   Rollouts
//! GET  /v1/fleet/rollouts/{name}[?max_age=]        RolloutStatus
//! GET  /v1/events[?watch=]             server-sent events, each an Event; Last-Event-ID goes on where it was left
//! POST /v1/watches/{name}/run          Started       these six on the Unix socket only
//! POST /v1/watches/{name}/pause[?reason=]   WatchSummary
//! POST /v1/watches/{name}/resume       WatchSummary
//! POST /v1/fleet/hosts/{name}/forget   Forgotten     of a host that is not there any more
//! POST /v1/fleet/rollouts/{name}/…     RolloutStatus pause, resume, promote, abort, retry, rollback; release?host=
//! POST /v1/reload                      Reloaded
//! POST /v1/drain                       Status        answered at once; the daemon ends when what runs has
//! GET  /v1/openapi.json, /metrics, /healthz, /readyz, /
//! ```
//!
//! What the TCP port tells of the fleet may be some seconds old: all who look share one reading. And unless the daemon was given
//! `--http-details`, answers there have `withheld` set and lack definitions and output.
//!
//! `{name}` is a watch's name or a host's, percent-encoded. An answer of status 4xx or 5xx is a [`Problem`]. A member that is missing has the value
//! null or does not apply; members may be added, never taken away or changed, as long as the path says `v1`. All that comes from znodes,
//! actions and configuration files is untrusted text.
//!
//! Plain data: it must not know how any of it comes about, nor how it is shown.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use super::fleet::{
    BrokenRollout, Fleet, FleetHost, FleetMembership, FleetResult, FleetRun, Forgotten, Laggard, Laggards,
    RolloutFigures, RolloutHost, RolloutPart, RolloutStatus, RolloutWave, Rollouts, UnknownHost,
};
pub use super::states::{STATES, StateInfo, StateTone, States, WatchState};
pub use twitcher_model::{EventKind, Phase};
use twitcher_model::{RunMode, WatchType};

/// The daemon as a whole.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Version of the program.
    pub version: String,
    /// Name of the machine that it runs on.
    #[serde(default)]
    pub host: String,
    /// Its process.
    pub pid: i32,
    /// When it started.
    pub started: Timestamp,
    /// What it is doing.
    pub phase: Phase,
    /// How long what runs still has, if it is draining.
    pub drain: Option<Drain>,
    /// Why it is not ready, in the words of `/readyz`; none if it is.
    pub unready: Option<String>,
    /// What it watches.
    pub source: SourceStatus,
    /// What it was told.
    pub config: ConfigStatus,
    /// Why what it knows cannot be written to the state directory, if so; it goes on from memory.
    pub state_problem: Option<String>,
    /// How many watches are in each state; states without any are left out.
    pub watches: Vec<StateCount>,
    /// Actions that run now.
    pub running: u64,
    /// Updates that wait for a place among `max_running`.
    pub waiting: u64,
    /// Most actions that may run at once.
    pub max_running: u64,
    /// Processes of components that wait for their next runs.
    #[serde(default)]
    pub warm: WarmStatus,
    /// How often the process that starts actions had to be replaced.
    pub launcher_restarts: u64,
    /// How it stands with its fleet; none if it is to be in none.
    #[serde(default)]
    pub fleet: Option<FleetMembership>,
    /// Whether this way in shows an outline only, as the TCP port does without `--http-details`: what watches run, what runs wrote, and
    /// what a configuration, an action or an operator says is then left out of every answer.
    #[serde(default)]
    pub withheld: bool,
}

/// Processes of components that wait for their next runs, with all done that there is to do before the call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WarmStatus {
    /// Processes that wait.
    pub waiting: u64,
    /// The memory that they have to themselves, in bytes.
    pub held: u64,
    /// Most that they may have, in bytes; with 0 there are none.
    pub most: u64,
    /// Runs for which one was ready.
    pub ready: u64,
    /// Runs for which there was to be one, and was none.
    pub unready: u64,
    /// Processes that ended by themselves while they waited.
    pub ended: u64,
}

/// The end of a daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drain {
    /// What still runs then is terminated; or, if that has begun, the daemon ends without it.
    pub deadline: Timestamp,
    /// Whether what still runs is being terminated.
    pub terminating: bool,
}

/// The source of changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SourceStatus {
    /// `zookeeper` or `tree`.
    pub kind: String,
    /// The servers with the chroot, or the directory.
    pub target: String,
    /// Whether there is a connection now.
    pub connected: bool,
    /// Since when that is so; none if it never was connected.
    pub since: Option<Timestamp>,
    /// What is wrong, if something is.
    pub problem: Option<String>,
}

/// The configuration in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ConfigStatus {
    /// Files and directories that are read.
    pub paths: Vec<String>,
    /// When it was last loaded; none if that has not happened yet.
    pub loaded: Option<Timestamp>,
    /// What the last load refused. Watches of such a file are as they were before.
    pub errors: Vec<String>,
    /// What it merely noted.
    pub notes: Vec<String>,
}

/// A number of watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StateCount {
    /// Their state.
    pub state: WatchState,
    /// How many.
    pub count: u64,
}

/// All watches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Watches {
    /// By name.
    pub watches: Vec<WatchSummary>,
}

/// The daemon as a whole with all its watches, as they were at the same time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Overview {
    /// The daemon.
    pub status: Status,
    /// By name.
    pub watches: Vec<WatchSummary>,
}

/// What the watches are defined as, to be compared with other definitions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Definitions {
    /// The daemon's version: only one of the same makes the same digests.
    pub version: String,
    /// By name.
    pub watches: Vec<Definition>,
}

/// What a watch is defined as.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Definition {
    /// The watch's name.
    pub name: String,
    /// A digest of all that it is defined by, but for where it stands.
    pub digest: String,
}

/// A watch. Of a hundred thousand most say of most that there is none, so that is left out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WatchSummary {
    /// Its name.
    pub name: String,
    /// The node; of several the first.
    pub znode: String,
    /// Each node with the newest state that was read of it, if the watch looks at several. What is said of "the node" then is of all of
    /// them together: `digest` tells its states apart.
    #[serde(default)]
    pub znodes: Vec<WatchedZnode>,
    /// What of the node is watched.
    pub watch_type: WatchType,
    /// What happens to an update while the action runs.
    pub run_mode: RunMode,
    /// What runs: `shell`, `exec`, `function`, `wasm` or `deploy`.
    pub action: String,
    /// Where it is defined, as `FILE:LINE`.
    pub origin: String,
    /// What it is doing.
    pub state: WatchState,
    /// The same in words, where there is more to say than of every watch in this state: what is waited for, for how long, how the last
    /// run failed, why the node cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The newest state of the node that was read; none before the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seen: Option<NodeState>,
    /// The state that an action last succeeded for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub handled: Option<NodeState>,
    /// Since when there is a state that no action has succeeded for, though one is to: how far it lags behind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub behind_since: Option<Timestamp>,
    /// Since when its program runs, if the watch is a service and the program has stayed for ready_after with the newest state.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up_since: Option<Timestamp>,
    /// When an update that waits may start at the earliest, if a time is what it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<Timestamp>,
    /// Its runs that go on, oldest first.
    pub running: Vec<String>,
    /// The last run that ended since the daemon started.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_run: Option<LastRun>,
    /// Who holds it, if an operator does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// What cannot be read of the node; none if all of it can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unreadable: Option<UnreadableNode>,
    /// Since when the source is not connected, if it is not: all of this is as of then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub as_of: Option<Timestamp>,
}

/// One of the nodes of a watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct WatchedZnode {
    /// Its path.
    pub znode: String,
    /// The newest state of it that was read; none before the first.
    pub seen: Option<NodeState>,
}

/// An operator holds a watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Pause {
    /// Since when.
    pub since: Timestamp,
    /// The user; with two names, who logged in and whose rights were used. None if that was not noted.
    pub by: Option<String>,
    /// Why, in the operator's own words.
    pub reason: Option<String>,
}

/// A node, or a part of a subtree, that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UnreadableNode {
    /// What is the matter.
    pub why: String,
    /// What somebody can do about it.
    pub remedy: String,
    /// How many nodes of the subtree cannot be read, while the others are watched; none if it is the node itself, and nothing is seen.
    pub parts: Option<u64>,
    /// Since when that is so.
    pub since: Timestamp,
    /// When it is tried again, should nothing happen before.
    pub next_attempt: Timestamp,
}

/// A state of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeState {
    /// Whether the node exists.
    pub exists: bool,
    /// Its version: of the data, or in WATCH_CHILDREN of the children.
    pub version: Option<i32>,
    /// The transaction of that version: mzxid, or pzxid.
    pub zxid: Option<i64>,
    /// What tells one state of a subtree from another, in WATCH_TREE.
    pub digest: Option<String>,
    /// When it was read, or handled.
    pub at: Timestamp,
}

/// How a watch's last run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastRun {
    /// Whether it succeeded.
    pub success: bool,
    /// When it ended.
    pub ended: Timestamp,
    /// Its id.
    pub run: Option<String>,
    /// How it failed, if it did.
    pub words: Option<String>,
}

/// A watch with its last runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WatchDetail {
    /// The watch.
    #[serde(flatten)]
    pub watch: WatchSummary,
    /// What runs, as it is written: a command line, a function's file and name, a component with its version. Empty if `withheld`.
    pub command: String,
    /// Its settings that are not the default, as they are written in a configuration. None if `withheld`.
    pub settings: Vec<Setting>,
    /// Runs that go on, and the last ten that have ended; the newest first.
    pub runs: Vec<Run>,
    /// Whether its definition is not shown here.
    #[serde(default)]
    pub withheld: bool,
}

/// A setting of a watch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Setting {
    /// Such as `run_mode`.
    pub key: String,
    /// Such as `RESTART`.
    pub value: String,
}

/// Some runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Runs {
    /// The newest first.
    pub runs: Vec<Run>,
    /// There are older ones: ask again with `before` set to this.
    pub before: Option<String>,
}

/// A run of an action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Run {
    /// Its id, 13 characters that sort by age.
    pub run: String,
    /// Name of its watch.
    pub watch: String,
    /// Why it runs, as in `TWITCHER_EVENT`; none if nobody knows any more.
    pub event: Option<String>,
    /// Counted from 1.
    pub attempt: u32,
    /// How it ended, in one word: `success`, `exited`, `signaled`, `timed_out`, `terminated`, `failed`, `launch_failed`, or `unknown` if
    /// its daemon was killed before; none while it runs.
    pub outcome: Option<String>,
    /// The same in words.
    pub words: Option<String>,
    /// Its exit code, if it had one.
    pub exit_code: Option<i32>,
    /// The signal that it died of, if it did.
    pub signal: Option<i32>,
    /// Its main process while it runs.
    pub pid: Option<i32>,
    /// What is being done about it while it still runs though its timeout has passed; none if it may run.
    pub overdue: Option<String>,
    /// When it started.
    pub started: Timestamp,
    /// When it had ended.
    pub ended: Option<Timestamp>,
    /// How long it ran, in seconds.
    pub duration: Option<f64>,
    /// Its largest resident set, in KiB.
    pub max_rss_kib: Option<u64>,
    /// How much it has written, in bytes.
    pub output_bytes: Option<u64>,
    /// Whether it has written more than the log takes of a run, which is 1 MiB.
    #[serde(default)]
    pub log_ended: bool,
}

/// A run with what it wrote.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RunDetail {
    /// The run.
    #[serde(flatten)]
    pub run: Run,
    /// The last of what it wrote to its standard output and error, and of what a component logged, each record with its level on a
    /// line; 64 KiB at most. Bytes that are no UTF-8 are replaced.
    pub output: String,
    /// Whether it had written more before.
    pub truncated: bool,
    /// Whether what it wrote is not shown here.
    #[serde(default)]
    pub withheld: bool,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Event {
    /// Counted from the daemon's start; also the id of the server-sent event.
    pub seq: u64,
    /// The time at which it happened.
    pub at: Timestamp,
    /// The kind of event.
    pub kind: EventKind,
    /// For people, on one line.
    pub message: String,
    /// The watch as it is now, where it is about one.
    pub watch: Option<WatchSummary>,
    /// The run, where it is about one.
    pub run: Option<Run>,
}

/// What a run on request led to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Started {
    /// The run, if it started at once.
    pub run: Option<String>,
    /// The watch as it is now: if nothing started, its state says what is waited for.
    pub watch: WatchSummary,
}

/// What loading the configuration led to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Reloaded {
    /// Watches that are in force.
    pub watches: u64,
    /// Those that are new.
    pub added: u64,
    /// Those that mean something else than before.
    pub changed: u64,
    /// Those that are gone.
    pub removed: u64,
    /// What was refused. Watches of such a file are as they were before.
    pub errors: Vec<String>,
}

/// Why a request was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// For people, on one line.
    pub error: String,
    /// What can be done about it.
    pub help: Option<String>,
}
