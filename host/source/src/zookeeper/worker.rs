//! What the two kinds of workers have in common: a worker keeps one session and watches what it is told to.

use std::sync::Arc;

use tokio::sync::mpsc;
use zookeeper_client::AddWatchMode;

use super::context::Closed;
use super::ledger::Handle;
use super::reads::ReadFailure;
use twitcher_model::WatchType;

/// What a worker is told. When its channel closes it ends.
#[derive(Debug)]
pub(super) enum Command {
    Add(Vec<Target>),
    Remove(Vec<Target>),
}

pub(super) type Commands = mpsc::UnboundedReceiver<Command>;

/// A znode to watch for one watch.
#[derive(Debug, Clone)]
pub(super) struct Target {
    pub path: Arc<str>,
    pub kind: WatchType,
    /// The znode with the watch that covers it: an ancestor with a recursive one, or itself.
    pub root: Arc<str>,
    /// How far that watch reaches.
    pub mode: AddWatchMode,
    pub handle: Handle,
}

/// Why a worker stopped using a session, or stopped in the middle of a step.
#[derive(Debug)]
pub(super) enum Stop {
    /// The worker is not needed any more.
    Closed,
    /// The session is over.
    Session,
    /// It failed on the way, mostly by a lost connection; what was to be done still is.
    Interrupted(ReadFailure),
}

impl From<Closed> for Stop {
    fn from(_: Closed) -> Self {
        Stop::Closed
    }
}

impl From<ReadFailure> for Stop {
    fn from(failure: ReadFailure) -> Self {
        match failure {
            ReadFailure::Session(_) => Stop::Session,
            failure => Stop::Interrupted(failure),
        }
    }
}

impl ReadFailure {
    /// Splits what concerns one znode from what concerns everything.
    pub fn of_one(self) -> Result<ReadFailure, Stop> {
        match self {
            ReadFailure::Connection(_) | ReadFailure::Session(_) => Err(self.into()),
            failure => Ok(failure),
        }
    }
}
