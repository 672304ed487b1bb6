//! What became of an update, in words: the log has a line for each update that did not simply start a run.

use std::fmt;
use std::time::Duration;

use super::admission::Full;
use super::ending::Cause;
use super::retrying::NotRetried;
use twitcher_model::{Shrinkage, Trigger};

/// What became of an update. Its [`fmt::Display`] is the log message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It waits.
    Waits {
        /// What happened to the node.
        event: Trigger,
        /// What it waits for.
        why: Wait,
        /// Whether an older update waited and is replaced by it.
        replaced: bool,
    },
    /// It is not run for.
    Ignored(Ignored),
    /// An update that waited will not be run for.
    Dropped {
        /// What had happened to the node.
        event: Trigger,
        /// The reason that it is dropped.
        why: Dropped,
    },
    /// A run failed, and its update waits for another.
    Retries {
        /// Which retry it will be, from 1.
        number: u32,
        /// The most there can be.
        of: u32,
        /// After how long.
        after: Duration,
        /// Why the run failed.
        cause: Cause,
    },
    /// A run failed, and its update is not run for again.
    NotRetried {
        /// Why the run failed.
        cause: Cause,
        /// Why there is no retry.
        why: NotRetried,
    },
    /// An operator holds the watch.
    Paused,
    /// An operator ended that, or parking.
    Resumed,
}

/// What an update waits for. Durations are what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// That no newer change comes.
    Settle(Duration),
    /// This host's share of `splay`.
    Splay(Duration),
    /// `min_interval` since the last start.
    MinInterval(Duration),
    /// The running action.
    Running,
    /// The running action, which is being terminated (RESTART).
    Terminating,
    /// One of the `max_parallel` places.
    Place,
    /// Its turn in the watch's rollout.
    Rollout,
    /// That it is admitted: the daemon or its group runs as many actions as it may.
    Turn(Full),
    /// A reload or an operator.
    Parked,
    /// An operator, who holds the watch.
    Paused,
}

/// Why an update is not run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ignored {
    /// The node does not exist at load.
    Absent,
    /// `run_on_load` is False.
    NotOnLoad,
    /// `run_on_load` is IF_CHANGED, and the last run that succeeded was for this state.
    Unchanged,
    /// The node went away and `on_delete` is False.
    Deleted,
    /// `refuse_empty`.
    Empty,
    /// `refuse_shrink`.
    Shrunk(Shrinkage),
    /// The program that the last daemon left behind is for it.
    Up,
    /// The action runs (DISCARD).
    Running,
    /// The watch was removed.
    Retired,
}

/// Why an update that waited will not be run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dropped {
    /// The node went away and `on_delete` is False.
    Deleted,
    /// Newer ones wait and there is no room for it.
    Superseded,
    /// The watch was removed.
    Retired,
    /// The watch looks at another node now.
    OtherNode,
    /// A retry, and the node went away.
    Gone,
    /// A retry, and there is newer state to run for.
    Newer,
    /// A retry, and the watch has none any more.
    NoRetry,
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Decision::Waits { event, why, replaced } => {
                let older = if *replaced { ", replacing an older one" } else { "" };
                write!(f, "update queued ({event}): {why}{older}")
            }
            Decision::Ignored(why) => write!(f, "update ignored: {why}"),
            Decision::Dropped {
                event: Trigger::Retry,
                why,
            } => write!(f, "pending retry dropped: {why}"),
            Decision::Dropped { event, why } => write!(f, "queued update dropped ({event}): {why}"),
            Decision::Retries {
                number,
                of,
                after,
                cause,
            } => write!(f, "retry {number} of {of} in {}: {cause}", Seconds(*after)),
            Decision::NotRetried { cause, why } => write!(f, "no retry, {why}: {cause}"),
            Decision::Paused => f.write_str("watch paused"),
            Decision::Resumed => f.write_str("watch resumed"),
        }
    }
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Wait::Settle(left) => write!(f, "settle, at least {left:?} more"),
            Wait::Splay(left) => write!(f, "splay, {left:?} more"),
            Wait::MinInterval(left) => write!(f, "min_interval, {left:?} more"),
            Wait::Running => f.write_str("the action is running"),
            Wait::Terminating => f.write_str("the running action is being terminated"),
            Wait::Rollout => f.write_str("its turn in the rollout"),
            Wait::Place => f.write_str("max_parallel actions are running"),
            Wait::Turn(Full::All) => f.write_str("--max-running actions are running"),
            Wait::Turn(Full::Group) => f.write_str("its group runs as many actions as it may"),
            Wait::Parked => f.write_str("the watch is parked"),
            Wait::Paused => f.write_str("the watch is paused"),
        }
    }
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Ignored::Shrunk(shrinkage) => return write!(f, "{shrinkage}"),
            Ignored::Absent => "the node does not exist",
            Ignored::NotOnLoad => "run_on_load is False",
            Ignored::Unchanged => "it has not changed since the last success and run_on_load is IF_CHANGED",
            Ignored::Deleted => "the node was deleted and on_delete is False",
            Ignored::Empty => "the node is empty and refuse_empty is True",
            Ignored::Up => "the service runs for it already",
            Ignored::Running => "the action is running and run_mode is DISCARD",
            Ignored::Retired => "the watch was removed, or the daemon stops",
        })
    }
}

impl fmt::Display for Dropped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dropped::Deleted => "the node was deleted and on_delete is False",
            Dropped::Superseded => "newer ones wait and there is no room for it",
            Dropped::Retired => "the watch was removed, or the daemon stops",
            Dropped::OtherNode => "the watch looks at another node now",
            Dropped::Gone => "the node was deleted",
            Dropped::Newer => "there is a newer update",
            Dropped::NoRetry => "on_failure is not Retry any more",
        })
    }
}

impl fmt::Display for NotRetried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotRetried::NotConfigured => f.write_str("on_failure is not Retry"),
            NotRetried::Codes => f.write_str("codes does not have it"),
            NotRetried::Exhausted(times) => write!(f, "{times} failed already"),
            NotRetried::Final => f.write_str("only another state can help"),
            NotRetried::Superseded => f.write_str("a newer update waits"),
            NotRetried::Deleted => f.write_str("the node was deleted"),
        }
    }
}

/// A duration as people say it.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_millis() {
            millis @ ..1000 => write!(f, "{millis} ms"),
            _ => write!(f, "{:.1} s", self.0.as_secs_f64()),
        }
    }
}
