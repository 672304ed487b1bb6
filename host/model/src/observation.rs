//! What state a node is in, and what is told of a change.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Payload, RunId, SeveralZnodes, WatchType, ZnodePath, ZnodeState};

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
        /// What else tells.
        stamp: Stamp,
    },
    /// The node's children, by the transactions that created the node and last changed its children.
    Children {
        /// Transaction that created the node.
        czxid: i64,
        /// Transaction that last added or removed a child.
        pzxid: i64,
        /// What else tells.
        stamp: Stamp,
    },
    /// A subtree, by a digest over every node's path, creation and modification; or several znodes, by one over the version of each.
    Tree {
        /// The digest.
        digest: u64,
        /// What else tells, of all nodes together.
        stamp: Stamp,
    },
}

/// What tells apart two states that transactions of the same numbers made: servers whose data was lost count from the start, and by
/// the same steps arrive at the same numbers with other data.
///
/// Zero stands for what is not known: both of a local tree, whose numbers are digests already, and of what a daemon stored that did not
/// look at it yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// A digest of what the stat says besides the transactions: when, and how much.
    pub stat: u32,
    /// A digest of the data, or of the children's names, where they are small.
    pub contents: u32,
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
    /// Every node of a subtree with what it holds; none unless a watch has [`Payload::Json`](crate::Payload::Json).
    pub nodes: Option<Arc<TreeNodes>>,
    /// How many nodes a subtree has; 0 of anything else.
    pub znodes: u32,
    /// The znodes that this is the state of, if they are several: `stdin` then are those that changed, or the paths in them.
    pub several: Option<Arc<SeveralZnodes>>,
}

/// Most bytes of a payload in JSON, and of what the nodes of a subtree hold that one is made of, paths included.
pub const PAYLOAD_MAX: usize = 16 << 20;

/// The nodes of a subtree by their paths, as one reading found them.
pub type TreeNodes = BTreeMap<Arc<str>, TreeNode>;

/// A node of a watched subtree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeNode {
    /// Its stat.
    pub stat: Stat,
    /// Its data; none if it cannot be read.
    pub data: Option<Bytes>,
}

impl Observation {
    /// The state of a node that does not exist.
    pub fn absent() -> Self {
        Self {
            version: Version::Absent,
            stat: None,
            stdin: Bytes::new(),
            nodes: None,
            znodes: 0,
            several: None,
        }
    }

    /// How much there is of it, as `refuse_shrink` counts: bytes of data, children, or nodes of a subtree. None while it is absent.
    pub fn size(&self) -> Option<u32> {
        let size = match self.version {
            Version::Absent => return None,
            Version::Data { .. } => self.stdin.len(),
            Version::Children { .. } => self
                .stdin
                .split(|byte| *byte == b'\n')
                .filter(|name| !name.is_empty())
                .count(),
            Version::Tree { .. } => {
                let Some(several) = &self.several else {
                    return Some(self.znodes);
                };
                let sizes = several.states.iter().filter_map(|state| state.observation.size());
                return Some(sizes.fold(0, u32::saturating_add));
            }
        };
        Some(u32::try_from(size).unwrap_or(u32::MAX))
    }

    /// Of several znodes the one that is named to an action: the first that changed.
    pub fn named(&self) -> Option<&ZnodeState> {
        self.several.as_ref()?.changed(&self.stdin).next()
    }

    /// Whether the node exists.
    pub fn exists(&self) -> bool {
        self.version != Version::Absent
    }
}

/// Why a run happens; `TWITCHER_EVENT` of the action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
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

impl Trigger {
    /// The name that actions and logs get.
    pub fn as_str(self) -> &'static str {
        match self {
            Trigger::Load => "load",
            Trigger::Created => "created",
            Trigger::Data => "data",
            Trigger::Children => "children",
            Trigger::Tree => "tree",
            Trigger::Deleted => "deleted",
            Trigger::Manual => "manual",
            Trigger::Retry => "retry",
        }
    }
}

impl fmt::Display for Trigger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why something runs: its watch's action, or what a rollout asks beside that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Occasion {
    /// Whether the host is well, once it has acted.
    Verify,
    /// Whether the next wave may go.
    Check,
    /// The action runs.
    #[serde(untagged)]
    Action(Trigger),
}

impl Occasion {
    /// The name that processes, logs and the history get.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Check => "check",
            Self::Action(trigger) => trigger.as_str(),
        }
    }
}

impl From<Trigger> for Occasion {
    fn from(trigger: Trigger) -> Self {
        Self::Action(trigger)
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
    /// How the data says it.
    pub payload: Payload,
    /// Why it runs.
    pub event: Trigger,
    /// The node's stat; none while it is absent.
    pub stat: Option<Stat>,
    /// Counted from 1.
    pub attempt: u32,
    /// Time until the run is ended; none is for ever.
    pub timeout: Option<Duration>,
}
