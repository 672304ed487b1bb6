//! What a watch is: where it looks, when its action runs, and what that is.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Deployment, OnFailure, ProcessSettings, Retry, Rollout, Share, WasmAction, ZnodePath};

/// What of a znode is watched.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize, schemars::JsonSchema,
)]
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

/// What an action finds on stdin.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Payload {
    /// The data as it is, or names or paths, one a line.
    #[default]
    Data,
    /// A JSON document that describes the change.
    Json,
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
    /// The state is run for.
    #[default]
    Always,
    /// The state only counts as seen.
    Never,
    /// The state is run for, unless the last run that succeeded on this host was for that very state.
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
    /// It is a program that stays: a run has handled its state once it has stayed for so long. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Duration>,
    /// An empty node is not ready: it is logged, not run for. Default false.
    pub refuse_empty: bool,
    /// A state that lost more than this share since the last success is not run for until an operator accepts it. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refuse_shrink: Option<Share>,
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
    /// Whether an update starts only once it is told that its turn has come: the watch has a rollout. Default false.
    pub by_turns: bool,
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
            service: None,
            refuse_empty: false,
            refuse_shrink: None,
            notify_signal: None,
            settle: Duration::ZERO,
            settle_max: Duration::ZERO,
            delay: Duration::ZERO,
            min_interval: Duration::ZERO,
            by_turns: false,
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
    /// The installation of the bundle that the znode's data names.
    Deploy(Arc<Deployment>),
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
    /// More znodes, if it looks at several.
    pub more: Arc<[ZnodePath]>,
    /// What of it is watched.
    pub watch_type: WatchType,
    /// What the action finds on stdin.
    pub payload: Payload,
    /// What runs.
    pub action: Action,
    /// When it runs.
    pub policy: Arc<Policy>,
    /// How its process is set up.
    pub process: Arc<ProcessSettings>,
    /// Whether its results are published in the fleet, if the daemon is in one.
    pub publish: bool,
    /// How its changes go out to the fleet; none where each host acts at once.
    pub rollout: Option<Arc<Rollout>>,
    /// Where it was registered.
    pub origin: Origin,
}

impl Watch {
    /// All znodes that it looks at.
    pub fn znodes(&self) -> impl Iterator<Item = &ZnodePath> {
        std::iter::once(&self.znode).chain(&*self.more)
    }

    /// Whether it looks at several.
    pub fn is_of_several(&self) -> bool {
        !self.more.is_empty()
    }

    /// Whether the watch means the same as `other`, wherever in the file it stands.
    pub fn same_as(&self, other: &Watch) -> bool {
        self.name == other.name
            && self.description == other.description
            && self.znode == other.znode
            && self.more == other.more
            && self.watch_type == other.watch_type
            && self.payload == other.payload
            && self.action == other.action
            && self.policy == other.policy
            && self.process == other.process
            && self.publish == other.publish
            && self.rollout == other.rollout
    }

    /// Whether it watches the same of the same node as `other`. For a payload in JSON more is read of it.
    pub fn looks_at_same(&self, other: &Watch) -> bool {
        self.znode == other.znode
            && self.more == other.more
            && self.watch_type == other.watch_type
            && self.payload == other.payload
    }
}
