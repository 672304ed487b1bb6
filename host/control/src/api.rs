//! What the control interface says: the types of its JSON, the same for the daemon that answers and for the commands that ask.
//!
//! ```text
//! GET  /v1/status                      Status
//! GET  /v1/watches[?state=&search=]    Watches
//! GET  /v1/watches/{name}              WatchDetail
//! GET  /v1/runs[?watch=&outcome=&limit=&before=]   Runs; outcome=running are those that go on
//! GET  /v1/runs/{id}                   RunDetail
//! GET  /v1/events[?watch=]             server-sent events, each an Event; Last-Event-ID goes on where it was left
//! POST /v1/watches/{name}/run          Started       these five on the Unix socket only
//! POST /v1/watches/{name}/pause[?reason=]   WatchSummary
//! POST /v1/watches/{name}/resume       WatchSummary
//! POST /v1/reload                      Reloaded
//! POST /v1/drain                       Status        answered at once; the daemon ends when what runs has
//! GET  /v1/openapi.json, /metrics, /healthz, /readyz, /
//! ```
//!
//! `{name}` is a watch's name, percent-encoded. An answer of status 4xx or 5xx is a [`Problem`]. A member that is missing has the value
//! null or does not apply; members may be added, never taken away or changed, as long as the path says `v1`. All that comes from znodes,
//! actions and configuration files is untrusted text.
//!
//! Plain data: it must not know how any of it comes about, nor how it is shown.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// How often the process that starts actions had to be replaced.
    pub launcher_restarts: u64,
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

/// What a watch is doing, and so why its action runs or does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WatchState {
    /// Its node has not been read yet.
    Unread,
    /// It waits for a change; there is nothing to do.
    Armed,
    /// The same, and its node does not exist.
    Absent,
    /// The node is empty, and `refuse_empty` says that this is not ready.
    RefusedEmpty,
    /// Its action runs for the newest state.
    Running,
    /// Its action runs, and an update waits for its end.
    Queued,
    /// An update waits for the node to be quiet for `settle`.
    Settling,
    /// An update waits for this host's share of `splay`.
    Splaying,
    /// An update waits for `min_interval` to pass since the last start.
    Spaced,
    /// An update waits for a place: as many actions run as may, of all watches or of its group.
    Waiting,
    /// A run failed and will be tried again.
    BackingOff,
    /// An operator holds it: updates wait until it is resumed.
    Paused,
    /// A run failed and `on_failure` is STOP: updates wait until it is resumed or defined anew.
    Parked,
    /// It was removed; its last run goes on.
    Retired,
}

/// Every state, with its name in the interface and for people; those that somebody should look at come first.
pub const STATES: [(WatchState, &str, &str); 14] = [
    (WatchState::Parked, "parked", "parked"),
    (WatchState::BackingOff, "backing_off", "backing off"),
    (WatchState::Paused, "paused", "paused"),
    (WatchState::RefusedEmpty, "refused_empty", "refused empty"),
    (WatchState::Waiting, "waiting", "waiting"),
    (WatchState::Queued, "queued", "queued"),
    (WatchState::Running, "running", "running"),
    (WatchState::Settling, "settling", "settling"),
    (WatchState::Splaying, "splaying", "splaying"),
    (WatchState::Spaced, "spaced", "spaced"),
    (WatchState::Unread, "unread", "unread"),
    (WatchState::Retired, "retired", "retired"),
    (WatchState::Absent, "absent", "absent"),
    (WatchState::Armed, "armed", "armed"),
];

/// All watches.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Watches {
    /// By name.
    pub watches: Vec<WatchSummary>,
}

/// A watch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WatchSummary {
    /// Its name.
    pub name: String,
    /// The node.
    pub znode: String,
    /// What of the node is watched.
    pub watch_type: WatchType,
    /// What happens to an update while the action runs.
    pub run_mode: RunMode,
    /// What runs: `shell`, `exec`, `function` or `wasm`.
    pub action: String,
    /// Where it is defined, as `FILE:LINE`.
    pub origin: String,
    /// What it is doing.
    pub state: WatchState,
    /// The same in words, where there is more to say: what is waited for, for how long, why it is parked.
    pub why: Option<String>,
    /// The newest state of the node that was read; none before the first.
    pub seen: Option<NodeState>,
    /// The state that an action last succeeded for.
    pub handled: Option<NodeState>,
    /// Since when there is a state that no action has succeeded for, though one is to: how far it lags behind.
    pub behind_since: Option<Timestamp>,
    /// When an update that waits may start at the earliest, if a time is what it waits for.
    pub next_attempt: Option<Timestamp>,
    /// Its runs that go on, oldest first.
    pub running: Vec<String>,
    /// The last run that ended since the daemon started.
    pub last_run: Option<LastRun>,
    /// Who holds it, if an operator does.
    pub paused: Option<Pause>,
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

/// A state of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct NodeState {
    /// Whether the node exists.
    pub exists: bool,
    /// Its version: of the data, or in WATCH_CHILDREN of the children.
    pub version: Option<i32>,
    /// The transaction of that version: mzxid, or pzxid.
    pub zxid: Option<i64>,
    /// When it was read, or handled.
    pub at: Timestamp,
}

/// How a watch's last run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LastRun {
    /// Whether it succeeded.
    pub success: bool,
    /// When it ended.
    pub ended: Timestamp,
}

/// A watch with its last runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WatchDetail {
    /// The watch.
    #[serde(flatten)]
    pub watch: WatchSummary,
    /// What runs, as it is written: a command line, a function's file and name, a component with its version.
    pub command: String,
    /// Its settings that are not the default, as they are written in a configuration.
    pub settings: Vec<Setting>,
    /// Runs that go on, and the last ten that have ended; the newest first.
    pub runs: Vec<Run>,
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
