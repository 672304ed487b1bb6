//! What a daemon knows of its watches and runs, for those who ask: plain, and cheap to copy.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Outcome, RunId, Stat, Trigger, Version};

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
    /// Whether it exists.
    pub exists: bool,
    /// Version of its data; none in WATCH_CHILDREN and WATCH_TREE.
    pub version: Option<i32>,
    /// mzxid or pzxid; none in WATCH_TREE.
    pub zxid: Option<i64>,
    /// When it was read, or handled.
    pub at: SystemTime,
}

impl Seen {
    /// A state with this version and stat.
    pub fn new(version: Version, stat: Option<Stat>, at: SystemTime) -> Self {
        let (number, zxid) = match version {
            Version::Data { mzxid, .. } => (stat.map(|stat| stat.version), Some(mzxid)),
            Version::Children { pzxid, .. } => (None, Some(pzxid)),
            Version::Absent | Version::Tree { .. } => (None, None),
        };
        Self {
            exists: version != Version::Absent,
            version: number,
            zxid,
            at,
        }
    }
}

/// A run.
#[derive(Debug, Clone)]
pub struct RunFacts {
    /// Its id.
    pub run: RunId,
    /// Name of its watch.
    pub watch: Arc<str>,
    /// Why it runs; none if nobody knows any more.
    pub event: Option<Trigger>,
    /// Counted from 1.
    pub attempt: u32,
    /// When it started.
    pub started: SystemTime,
    /// Its main process, once there is one.
    pub pid: Option<i32>,
    /// How it ended; none while it runs.
    pub end: Option<RunEnd>,
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
