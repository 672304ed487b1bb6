//! What a daemon knows of its watches and runs, for those who ask: plain, and cheap to copy.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Occasion, Outcome, RunId, Stat, Version};

/// What a daemon is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Not every watch has been armed yet since it started.
    Starting,
    /// Every watch was armed.
    Ready,
    /// It starts nothing more, and ends when what runs has ended.
    Draining,
}

/// The kinds of what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// Events were lost, because there were more than the reader could take: what it knows is to be read anew.
    Lost,
    /// A node changed.
    Changed,
    /// What became of an update that did not start at once: it waits, was ignored or dropped, or will be retried.
    Decided,
    /// A run started.
    Started,
    /// A run ended.
    Ended,
    /// A watch was parked, paused or resumed.
    Held,
    /// The configuration was loaded.
    Loaded,
    /// The source was connected or disconnected, or the watches are armed.
    Source,
    /// A node, or a part of a subtree, cannot be read, or can be again.
    Unreadable,
    /// The daemon stops.
    Draining,
}

/// One moment on two clocks: the scheduler's, and the one on the wall.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// On the scheduler's clock.
    pub now: Duration,
    /// On the wall.
    pub wall: SystemTime,
}

impl Moment {
    /// A time of the scheduler's clock on the wall.
    pub fn wall(&self, at: Duration) -> Timestamp {
        let time = match at.checked_sub(self.now) {
            Some(ahead) => self.wall.checked_add(ahead),
            None => self.wall.checked_sub(self.now.saturating_sub(at)),
        };
        timestamp(time.unwrap_or(self.wall))
    }
}

/// A time as the interface gives it. One that no calendar has becomes 1970.
pub fn timestamp(time: SystemTime) -> Timestamp {
    let exact = Timestamp::try_from(time).unwrap_or_default();
    // Microseconds: more digits would say more than the clock knows.
    Timestamp::from_microsecond(exact.as_microsecond()).unwrap_or(exact)
}

/// A state of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    what: SeenState,
    /// When it was read, or handled.
    pub at: SystemTime,
}

/// What of it is told; small, because each watch has two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SeenState {
    Absent,
    Data { version: Option<i32>, mzxid: i64 },
    Children { pzxid: i64 },
    Tree { digest: u64 },
}

impl Seen {
    /// A state with this version and stat.
    pub fn new(version: Version, stat: Option<Stat>, at: SystemTime) -> Self {
        let what = match version {
            Version::Absent => SeenState::Absent,
            Version::Data { mzxid, .. } => SeenState::Data {
                version: stat.map(|stat| stat.version),
                mzxid,
            },
            Version::Children { pzxid, .. } => SeenState::Children { pzxid },
            Version::Tree { digest, .. } => SeenState::Tree { digest },
        };
        Self { what, at }
    }

    /// Whether it exists.
    pub fn exists(&self) -> bool {
        self.what != SeenState::Absent
    }

    /// Version of its data; none in WATCH_CHILDREN and WATCH_TREE.
    pub fn version(&self) -> Option<i32> {
        match self.what {
            SeenState::Data { version, .. } => version,
            SeenState::Absent | SeenState::Children { .. } | SeenState::Tree { .. } => None,
        }
    }

    /// mzxid or pzxid; none in WATCH_TREE.
    pub fn zxid(&self) -> Option<i64> {
        match self.what {
            SeenState::Data { mzxid: zxid, .. } | SeenState::Children { pzxid: zxid } => Some(zxid),
            SeenState::Absent | SeenState::Tree { .. } => None,
        }
    }

    /// What tells one state of a subtree from another; none but in WATCH_TREE.
    pub fn tree(&self) -> Option<u64> {
        match self.what {
            SeenState::Tree { digest } => Some(digest),
            SeenState::Absent | SeenState::Data { .. } | SeenState::Children { .. } => None,
        }
    }
}

/// What keeps a watched node, or a part of a watched subtree, from being read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// What is the matter, as the end of "it cannot be read: ". Untrusted: it may have the names of nodes.
    pub why: String,
    /// What somebody can do about it.
    pub remedy: String,
    /// How many nodes of a subtree cannot be read, while the others are watched; none if it is the watched node itself, and nothing
    /// of it is seen.
    pub parts: Option<usize>,
    /// Since when that is so.
    pub since: SystemTime,
    /// When it is tried again, should nothing happen before.
    pub next_attempt: SystemTime,
}

/// A run.
#[derive(Debug, Clone)]
pub struct RunFacts {
    /// Its id.
    pub run: RunId,
    /// Name of its watch.
    pub watch: Arc<str>,
    /// Why it runs; none if nobody knows any more.
    pub event: Option<Occasion>,
    /// Counted from 1.
    pub attempt: u32,
    /// When it started.
    pub started: SystemTime,
    /// Its main process, once there is one.
    pub pid: Option<i32>,
    /// Its time is up, and it is being ended; none once it has.
    pub overdue: Option<Overdue>,
    /// How it ended; none while it runs.
    pub end: Option<RunEnd>,
}

/// A run whose time is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Overdue {
    /// How long it might have run.
    pub timeout: Duration,
    /// When SIGKILL follows, if it has not ended by then.
    pub kill_at: SystemTime,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct RunEnd {
    /// How; none if nobody watched.
    pub outcome: Option<Outcome>,
    /// The time at which it ended.
    pub at: SystemTime,
    /// How long it ran.
    pub elapsed: Duration,
    /// Its largest resident set, in KiB.
    pub max_rss_kib: u64,
    /// How much it wrote, in bytes.
    pub output_bytes: u64,
    /// Whether that was more than the log takes of a run.
    pub log_ended: bool,
}
