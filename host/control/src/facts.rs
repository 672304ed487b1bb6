//! What the daemon's loop says of itself: plain and cheap to copy, so that nobody who looks holds it up.
//!
//! It must not know how any of it is shown: [`super::view`] does.

use std::sync::Arc;
use std::time::SystemTime;

use super::api::{ConfigStatus, FleetMembership, Phase, SourceStatus, WarmStatus};
use twitcher_model::{Moment, Overdue, RunId, Seen, Unreadable, Watch, ZnodePath};
use twitcher_scheduler::Standing;
use twitcher_state::Paused;

/// The daemon as a whole.
#[derive(Debug, Clone)]
pub struct Overview {
    /// When it started.
    pub started: SystemTime,
    /// What it is doing.
    pub phase: Phase,
    /// By when what runs has to have ended, and whether it is being terminated, if the daemon drains.
    pub drain: Option<(SystemTime, bool)>,
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
    /// Processes of components that wait for their next runs.
    pub warm: WarmStatus,
    /// Watches of whose nodes something cannot be read.
    pub unreadable: usize,
    /// How it stands with its fleet, if it is to be in one.
    pub fleet: Option<FleetMembership>,
}

/// A watch, as it was at a moment.
#[derive(Debug, Clone)]
pub struct WatchFacts {
    /// The watch as it is defined.
    pub watch: Arc<Watch>,
    /// What it is doing.
    pub standing: Standing,
    /// When that was.
    pub clock: Moment,
    /// The newest state that was read.
    pub seen: Option<Seen>,
    /// Each znode with the newest state that was read of it, if the watch looks at several.
    pub znodes: Vec<(ZnodePath, Option<Seen>)>,
    /// The state that was last succeeded for.
    pub handled: Option<Seen>,
    /// Since when the node has lost more than `refuse_shrink` lets it, if it has.
    pub refused: Option<SystemTime>,
    /// What `verify` of its rollout does, if it does something. Boxed, because that is rare.
    pub verify: Option<Box<VerifyFacts>>,
    /// Since when its program runs, if it is one that stays and has handled the newest state.
    pub up: Option<SystemTime>,
    /// Its runs that go on, oldest first.
    pub running: Vec<RunId>,
    /// The last run that ended.
    pub last_run: Option<LastRunFacts>,
    /// Why it is parked, if it is.
    pub parked: Option<String>,
    /// Who holds it, if an operator does.
    pub paused: Option<Box<Paused>>,
    /// What cannot be read of its node, if something cannot.
    pub unreadable: Option<Arc<Unreadable>>,
    /// Its oldest run whose time is up.
    pub overdue: Option<(RunId, Overdue)>,
    /// Since when the source is not connected, if it is not.
    pub as_of: Option<SystemTime>,
}

/// What `verify` of a watch's rollout does.
#[derive(Debug, Clone)]
pub struct VerifyFacts {
    /// Since when it is being found out whether the host is well, if it is.
    pub since: Option<SystemTime>,
    /// The run that is at it just now.
    pub run: Option<RunId>,
    /// What the last run has said that did not find the host well.
    pub said: Option<String>,
    /// A run whose answer is not wanted any more, and when SIGKILL ends it: what is next waits for that.
    pub ending: Option<(RunId, SystemTime)>,
}

/// The last run of a watch that ended.
#[derive(Debug, Clone)]
pub struct LastRunFacts {
    /// Its id.
    pub run: RunId,
    /// When it ended.
    pub ended: SystemTime,
    /// How it ended, in one word: [`twitcher_model::Outcome::code`].
    pub outcome: &'static str,
    /// How it failed; none if it succeeded.
    pub failure: Option<Arc<str>>,
}
