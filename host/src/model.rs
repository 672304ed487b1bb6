//! Plain types that every module shares: what a watch is, what was observed, how a run ended.
//!
//! This module must not know how any of it comes about: no I/O, no clock, no async, no other module of this crate.

mod component;
mod failure;
mod grants;
mod outcome;
mod path;
mod position;
mod process;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use component::{
    Bundle, CommandGrant, Component, Digest, DirGrant, Entry, Grants, HostPort, HttpOrigin, Keep, WasmAction,
    ZnodeGrant,
};
pub use failure::{OnFailure, Retry};
pub use outcome::{Failure, Outcome};
pub use path::{ZnodePath, ZnodePathError};
pub use position::{Fingerprint, Position};
pub use process::{Identity, Limit, ProcessSettings, Resource};

/// Identifies a watch for as long as the daemon lives. Stable over reloads: a watch keeps its id while its name stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchId(pub u32);

/// Identifies one run of an action, also across restarts of the daemon: milliseconds since 1970 at the daemon's start in the
/// upper 44 bits, a counter in the lower 20. Shown as 13 characters of Crockford's base 32, which sort by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunId(pub u64);

impl RunId {
    const ALPHABET: &'static [u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    const LEN: usize = 13;
}

/// A text is no id of a run.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no id of a run: that is 13 characters, such as 0mz5d1e0g0000")]
pub struct RunIdError {
    text: String,
}

impl std::str::FromStr for RunId {
    type Err = RunIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || RunIdError {
            text: text.chars().take(40).collect(),
        };
        if text.len() != Self::LEN {
            return Err(error());
        }
        text.bytes()
            .try_fold(0_u64, |id, byte| {
                let digit = Self::ALPHABET.iter().position(|letter| *letter == byte)?;
                // The first character has room for more than an id.
                id.checked_mul(32)?.checked_add(digit as u64)
            })
            .map(RunId)
            .ok_or_else(error)
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; Self::LEN];
        let mut rest = self.0;
        for byte in text.iter_mut().rev() {
            *byte = Self::ALPHABET[(rest & 31) as usize];
            rest >>= 5;
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// What of a znode is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WatchType {
    /// The node's data.
    #[default]
    Data,
    /// The names of the node's children.
    Children,
    /// The data of the node and of everything below it.
    Tree,
}

/// What happens to an update that arrives while the action runs for an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum RunMode {
    /// Only the newest is remembered; one run follows.
    #[default]
    Queue,
    /// It is ignored, for good.
    Discard,
    /// It runs at once, beside the others.
    Parallel,
    /// The running action is terminated, then the newest runs.
    Restart,
}

impl fmt::Display for RunMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RunMode::Queue => "QUEUE",
            RunMode::Discard => "DISCARD",
            RunMode::Parallel => "PARALLEL",
            RunMode::Restart => "RESTART",
        })
    }
}

/// Whether the state found when the watch is first read is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RunOnLoad {
    /// It is.
    #[default]
    Always,
    /// It only counts as seen.
    Never,
    /// It is, unless the last run that succeeded on this host was for that very state.
    IfChanged,
}

/// When and how often a watch's action runs: all that the scheduler knows of a watch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Policy {
    /// What happens to updates while the action runs.
    pub run_mode: RunMode,
    /// Most runs at once in PARALLEL; further updates wait for a place, the newest last. Default 16.
    pub max_parallel: u32,
    /// Whether the state found when the watch is first read is run for. Default [`RunOnLoad::Always`].
    pub run_on_load: RunOnLoad,
    /// Whether the action also runs when the node goes away. Default false.
    pub on_delete: bool,
    /// How failed runs are retried. Default none.
    pub retry: Option<Retry>,
    /// What a failed run leads to that is not, or no longer, retried. Default [`OnFailure::Keep`].
    pub on_failure: OnFailure,
    /// The group that the watch's runs share a limit with. Default none.
    pub group: Option<Arc<str>>,
    /// An empty node is not ready: it is logged, not run for. Default false.
    pub refuse_empty: bool,
    /// Signal number for the running action's main process at every newer update, in QUEUE. Default none.
    pub notify_signal: Option<i32>,
    /// No newer change for so long before a run starts. Default zero.
    pub settle: Duration,
    /// Most time that `settle` may hold an update back, counted from the first held one. Default zero, meaning no bound.
    pub settle_max: Duration,
    /// This host's share of the watch's `splay`: each change is delayed by so much. Default zero.
    pub delay: Duration,
    /// Least time between two starts. Default zero.
    pub min_interval: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            run_mode: RunMode::Queue,
            max_parallel: 16,
            run_on_load: RunOnLoad::Always,
            on_delete: false,
            retry: None,
            on_failure: OnFailure::Keep,
            group: None,
            refuse_empty: false,
            notify_signal: None,
            settle: Duration::ZERO,
            settle_max: Duration::ZERO,
            delay: Duration::ZERO,
            min_interval: Duration::ZERO,
        }
    }
}

/// What a watch runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A command line for `/bin/sh -c`.
    Shell(Arc<str>),
    /// A program and its arguments, executed as they are.
    Argv(Arc<[Arc<str>]>),
    /// A function of a configuration file.
    Function(FunctionAction),
    /// A component in the sandbox.
    Wasm(Arc<WasmAction>),
}

/// A function of a `.twc` file. It is found again by evaluating the sources that were loaded: Starlark is deterministic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionAction {
    /// The sources as they were when the file was loaded.
    pub program: Arc<Program>,
    /// Which `RegisterWatch` call of the program, counted from 0, has the function as its action.
    pub call: u32,
}

/// A `.twc` file with everything it loads, as text: enough to evaluate it without reading any file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The file that registers the watches.
    pub file: Arc<Path>,
    /// Its text.
    pub source: Arc<str>,
    /// Every file reached by `load()`, with its text.
    pub loads: Vec<(Arc<Path>, Arc<str>)>,
}

/// Where a watch was registered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The configuration file.
    pub file: Arc<Path>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// A registered watch. Two are the same watch, unchanged, when all but [`Watch::origin`] is equal.
#[derive(Debug, Clone)]
pub struct Watch {
    /// Stable identity in state, status and logs.
    pub name: Arc<str>,
    /// Text for logs.
    pub description: Arc<str>,
    /// The znode.
    pub znode: ZnodePath,
    /// What of it is watched.
    pub watch_type: WatchType,
    /// What runs.
    pub action: Action,
    /// When it runs.
    pub policy: Arc<Policy>,
    /// How its process is set up.
    pub process: Arc<ProcessSettings>,
    /// Where it was registered.
    pub origin: Origin,
}

impl Watch {
    /// Whether the watch means the same as `other`, wherever in the file it stands.
    pub fn same_as(&self, other: &Watch) -> bool {
        self.name == other.name
            && self.description == other.description
            && self.znode == other.znode
            && self.watch_type == other.watch_type
            && self.action == other.action
            && self.policy == other.policy
            && self.process == other.process
    }

    /// Whether it watches the same of the same node as `other`.
    pub fn looks_at_same(&self, other: &Watch) -> bool {
        self.znode == other.znode && self.watch_type == other.watch_type
    }
}

/// What tells one state of a watched node from another. Compared for equality only: after a server lost its data, or a node was
/// re-created, the newer state can have the smaller numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Version {
    /// The node does not exist.
    Absent,
    /// The node's data, by the transactions that created the node and last set its data.
    Data {
        /// Transaction that created the node.
        czxid: i64,
        /// Transaction that last set its data.
        mzxid: i64,
    },
    /// The node's children, by the transactions that created the node and last changed its children.
    Children {
        /// Transaction that created the node.
        czxid: i64,
        /// Transaction that last added or removed a child.
        pzxid: i64,
    },
    /// A subtree, by a digest over every node's path, creation and modification.
    Tree {
        /// The digest.
        digest: u64,
    },
}

/// The facts of a node's stat that an action may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stat {
    /// Transaction that created the node.
    pub czxid: i64,
    /// Transaction that last set its data.
    pub mzxid: i64,
    /// Number of times the data was set since the node was created.
    pub version: i32,
}

/// The state of a watched node, as a source has just read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Tells this state from others.
    pub version: Version,
    /// The node's stat; none while it is absent.
    pub stat: Option<Stat>,
    /// What an action gets on stdin: the data; sorted child names, one a line; or the paths in a subtree that changed since the last
    /// observation of this watch, sorted, one a line.
    pub stdin: Bytes,
}

impl Observation {
    /// The state of a node that does not exist.
    pub fn absent() -> Self {
        Self {
            version: Version::Absent,
            stat: None,
            stdin: Bytes::new(),
        }
    }

    /// Whether the node exists.
    pub fn exists(&self) -> bool {
        self.version != Version::Absent
    }
}

/// Why a run happens; `TWITCHER_EVENT` of the action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The watch was loaded and the node exists.
    Load,
    /// The node came into being.
    Created,
    /// The node's data was set.
    Data,
    /// A child was added or removed.
    Children,
    /// Something in the subtree changed.
    Tree,
    /// The node went away.
    Deleted,
    /// An operator asked for a run.
    Manual,
    /// The run for this state failed.
    Retry,
}

impl Event {
    /// The name that actions and logs get.
    pub fn as_str(self) -> &'static str {
        match self {
            Event::Load => "load",
            Event::Created => "created",
            Event::Data => "data",
            Event::Children => "children",
            Event::Tree => "tree",
            Event::Deleted => "deleted",
            Event::Manual => "manual",
            Event::Retry => "retry",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a component is told of the change that it runs for, besides the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeFacts {
    /// The run.
    pub run: RunId,
    /// Name of the watch.
    pub watch: Arc<str>,
    /// The watched node.
    pub path: ZnodePath,
    /// What of it is watched: tells what the data is.
    pub watch_type: WatchType,
    /// Why it runs.
    pub event: Event,
    /// The node's stat; none while it is absent.
    pub stat: Option<Stat>,
    /// Counted from 1.
    pub attempt: u32,
    /// Time until the run is ended; none is for ever.
    pub timeout: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_ids_sort_by_age_as_text() {
        let (a, b) = (RunId(5 << 20), RunId(5 << 20 | 77));
        assert!(a.to_string() < b.to_string());
        assert_eq!(a.to_string().len(), 13);
    }

    #[test]
    fn run_ids_are_read_as_they_are_written() {
        for id in [0, 1, 5 << 20 | 77, u64::MAX] {
            assert_eq!(RunId(id).to_string().parse(), Ok(RunId(id)));
        }
        for odd in [
            "",
            "0",
            "gzzzzzzzzzzzz",
            "000000000000u",
            "00000000000000",
            "00000000000é",
            "FZZZZZZZZZZZZ",
        ] {
            assert!(odd.parse::<RunId>().is_err(), "{odd}");
        }
    }
}
