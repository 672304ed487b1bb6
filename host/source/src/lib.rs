//! Where observations come from: a ZooKeeper ensemble, or a local directory tree that stands for one.
//!
//! A source is told which znodes are watched and reports what state they are in, losing no state that lasts; and it reads and writes
//! single znodes on request. It must not know what is done about it: no actions, no run modes, no configuration files.
//!
//! ```text
//!   daemon                       tasks of the source                  outside
//!  ─────────  Change          ┌─────────────────────────┐
//!            ───────────────▶ │ zookeeper: coordinator, │ ◀──── sessions ────▶ ensemble
//!            ◀─────────────── │   a worker a session    │
//!             SourceReport    ├─────────────────────────┤
//!            ◀─────────────── │ tree: one task, and     │ ◀──── inotify, ────▶ directory
//!             connection      │   threads for reading   │         files
//!             Znodes          ├─────────────────────────┤
//!            ◀──────────────▶ │ requests, on their own  │ ◀──── either ─────▶
//!                             └─────────────────────────┘
//! ```

#![forbid(unsafe_code)]

mod connection;
pub mod tree;
mod znodes;
pub mod zookeeper;

use std::sync::Arc;

use tokio::sync::{mpsc, watch};

pub use self::connection::SourceConnection;
pub use self::znodes::{AclEntry, Denial, Readers, Requests, ZnodeError, ZnodeRefusal, ZnodeStat, Znodes};
use twitcher_model::{Observation, Unreadable, WatchId, WatchType, ZnodePath};

/// A znode to be watched for one watch of the configuration. Several may name the same znode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The watch that wants it; unique among the live subscriptions of a source.
    pub watch: WatchId,
    /// Name of the watch, for the log.
    pub name: Arc<str>,
    /// The znode that is watched.
    pub znode: ZnodePath,
    /// What of the znode is watched.
    pub watch_type: WatchType,
    /// Whether an observation of a subtree is to have every node with its data.
    pub with_nodes: bool,
}

/// What a source is told. Changes travel in batches, so that a source can choose one strategy for the whole set.
#[derive(Debug, Default)]
pub struct Change {
    /// The watches that are gone. They are removed before others are added.
    pub remove: Vec<WatchId>,
    /// Watches to observe from now on. Each is answered by an observation of the present state as soon as there is one. A watch
    /// that is removed and added in one change is read afresh.
    pub add: Vec<Subscription>,
}

/// What a source reports.
#[derive(Debug)]
pub enum SourceReport {
    /// A watched node was read. Sent once after each subscription, and whenever the state differs from the last one sent for the
    /// watch (the scheduler compares again: sending an equal state is allowed, losing a state that lasts is not).
    Observed(WatchId, Observation),
    /// A watched node, or a part of a watched subtree, cannot be read. Sent after every attempt that fails, and of a part after every
    /// observation of the rest; it holds until the next observation, or until [`SourceReport::Readable`].
    Unreadable(WatchId, Arc<Unreadable>),
    /// What could not be read can be read again; if that made a difference, the observation was sent before.
    Readable(WatchId),
    /// Every watch subscribed so far is armed: what can be read of it was reported at least once, and that it cannot be read otherwise.
    /// Sent at the first time after each change.
    Armed,
}

/// The ends by which the daemon talks with a source. Dropping it ends the source's tasks; what serves requests for single znodes
/// ends with the last clone of [`Source::znodes`].
#[derive(Debug)]
pub struct Source {
    /// Tells the source what to watch; unbounded because the daemon must never wait for a source.
    pub changes: mpsc::UnboundedSender<Change>,
    /// What the source reports; bounded: a source that is not listened to waits, and reads the state anew when it can go on.
    pub reports: mpsc::Receiver<SourceReport>,
    /// By which single znodes are read and written.
    pub znodes: Znodes,
    /// Whether the source is connected.
    pub connection: watch::Receiver<SourceConnection>,
}

impl Source {
    /// A source that has nothing to report any more.
    pub fn ended() -> Self {
        Self {
            changes: mpsc::unbounded_channel().0,
            reports: mpsc::channel(1).1,
            znodes: Znodes::ended(),
            connection: watch::Sender::new(SourceConnection {
                connected: false,
                since: None,
                problem: None,
            })
            .subscribe(),
        }
    }
}
