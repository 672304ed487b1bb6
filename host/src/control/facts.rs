//! What the daemon's loop says of itself: plain and cheap to copy, so that nobody who looks holds it up.
//!
//! It must not know how any of it is shown: [`super::view`] does.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::api::{ConfigStatus, Phase, SourceStatus};
use crate::model::{Event, Outcome, RunId, Stat, Version, Watch};
use crate::scheduler::Standing;

/// The daemon as a whole.
#[derive(Debug, Clone)]
pub struct Overview {
    /// When it started.
    pub started: SystemTime,
    /// What it is doing.
    pub phase: Phase,
    /// What it watches.
    pub source: SourceStatus,
    /// Whether every watch is armed.
    pub armed: bool,
    /// What it was told.
    pub config: ConfigStatus,
    /// Why what it knows cannot be written down, if so.
    pub state_problem: Option<String>,
    /// Actions that run.
    pub running: usize,
    /// Watches that wait for a place.
    pub waiting: usize,
    /// Most actions that may run at once.
    pub max_running: usize,
}

/// A watch, as it was at a moment.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The watch as it is defined.
    pub watch: Arc<Watch>,
    /// What it is doing.
    pub standing: Standing,
    /// When that was.
    pub clock: Moment,
    /// The newest state that was read.
    pub seen: Option<Seen>,
    /// The state that was last succeeded for.
    pub handled: Option<Seen>,
    /// Its runs that go on, oldest first.
    pub running: Vec<RunId>,
    /// How the last run that ended did, and when.
    pub last_run: Option<(bool, SystemTime)>,
    /// Why it is parked, if it is.
    pub parked: Option<String>,
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
    pub event: Option<Event>,
    /// Counted from 1.
    pub attempt: u32,
    /// When it started.
    pub started: SystemTime,
    /// Its main process, once there is one.
    pub pid: Option<i32>,
    /// How it ended; none while it runs.
    pub end: Option<End>,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct End {
    /// How; none if nobody watched.
    pub outcome: Option<Outcome>,
    /// When.
    pub at: SystemTime,
    /// How long it ran.
    pub elapsed: Duration,
    /// Its largest resident set, in KiB.
    pub max_rss_kib: u64,
    /// How much it wrote, in bytes.
    pub output_bytes: u64,
}
