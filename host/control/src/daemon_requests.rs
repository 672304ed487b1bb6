//! What the server requests the daemon's loop, and the way there: a bounded channel, each question with a way back.
//!
//! The loop owns all state and must never wait for a reader: it answers with [facts](super::facts) that are cheap to copy, and what is
//! made of them is the server's work.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::api::{Fleet, Forgotten, Laggards, Reloaded, Rollouts};
use super::facts::{Overview, WatchFacts};
use twitcher_model::{RunFacts, RunId};

/// Questions that may wait for the loop. It takes them one by one between its other work.
const QUEUE: usize = 64;
/// How long the loop may take to answer. It is stuck if it takes longer.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long loading the configuration may take: components may have to be compiled.
const LOADING: Duration = Duration::from_secs(600);

/// How long looking at a whole fleet may take.
const SURVEYING: Duration = Duration::from_secs(25);

/// A question. Without anybody who waits for the answer it is answered all the same, but for what is wanted of a rollout.
#[derive(Debug)]
pub enum DaemonRequest {
    /// Whether the loop turns.
    Alive(oneshot::Sender<()>),
    /// The daemon as a whole.
    Overview(oneshot::Sender<Overview>),
    /// Every watch. The loop takes its time.
    Snapshot(oneshot::Sender<Vec<WatchFacts>>),
    /// One watch, by its name; none if there is none.
    Watch(String, oneshot::Sender<Option<WatchFacts>>),
    /// The runs that go on, in any order.
    Running(oneshot::Sender<Vec<RunFacts>>),
    /// What a run that goes on has written; none if it does not go on.
    Output(RunId, oneshot::Sender<Option<Written>>),
    /// An operator wants something done to the watch of this name.
    Order(String, Order, oneshot::Sender<Result<Done, Refused>>),
    /// The fleet, as far as ZooKeeper tells it.
    Fleet(oneshot::Sender<Result<Fleet, FleetRefused>>),
    /// The hosts of the fleet that have not handled the last change: of all watches, or of the watch or znode of this name.
    Laggards(Option<String>, oneshot::Sender<Result<Laggards, FleetRefused>>),
    /// Somebody, if it is known who, wants the fleet to forget the host of this name.
    Forget(String, Option<String>, oneshot::Sender<Result<Forgotten, FleetRefused>>),
    /// How rollouts stand: one, or all.
    Rollouts(Option<String>, oneshot::Sender<Result<Rollouts, FleetRefused>>),
    /// Do that to a rollout, for whom.
    RolloutOrder(
        String,
        RolloutOrder,
        Option<String>,
        oneshot::Sender<Result<Rollouts, FleetRefused>>,
    ),
    /// Load the configuration.
    Reload(oneshot::Sender<Reloaded>),
    /// Stop.
    Drain(oneshot::Sender<Overview>),
}

/// What an operator wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Run its action for what the node is now.
    Run {
        /// Whether it passes its rollout by.
        ungoverned: bool,
    },
    /// Start nothing.
    Pause {
        /// Who wants it.
        by: Option<String>,
        /// Why.
        reason: Option<String>,
    },
    /// Go on.
    Resume,
}

/// What an operator wants of a rollout.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolloutOrder {
    /// Start nothing.
    Pause,
    /// Go on.
    Resume,
    /// Let the next wave go.
    Promote,
    /// Go no further with this change.
    Abort,
    /// Go on, and let hosts that failed try again.
    Retry,
    /// Set the znode to what all hosts had before.
    Rollback,
    /// Take back the slot of this host.
    Release(String),
}

/// It was done.
#[derive(Debug)]
pub struct Done {
    /// The run that started for it.
    pub run: Option<RunId>,
    /// The watch afterwards.
    pub watch: WatchFacts,
}

/// It was not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// There is no such watch.
    Unknown,
    /// It was removed from the configuration.
    Retired,
    /// The daemon stops.
    Draining,
    /// It is paused.
    Paused,
    /// It is parked.
    Parked,
    /// Its action runs, and its mode is DISCARD.
    Running,
    /// Its node does not exist.
    Absent,
    /// Its node is empty, and `refuse_empty` says that this is not ready.
    Empty,
    /// There is no connection to what is watched.
    Disconnected,
    /// The node could not be read in time.
    Unread,
    /// It has a rollout, which says when it runs.
    Rollout,
}

/// Nothing can be said of the fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FleetRefused {
    /// The daemon is in none.
    NoFleet,
    /// It cannot be read, for this reason.
    Unreadable(String),
    /// Somebody else has written, or deleted, what belongs to a rollout: what there is, and the znode of the rollout.
    Spoilt(String, String),
    /// No host has published anything about a watch or a znode of this name.
    Unknown(String),
    /// It knows no host of this name.
    NoHost(String),
    /// The host of this name is there.
    Live(String),
    /// The host of this name holds a slot of that rollout.
    HoldsSlot(String, String),
    /// ZooKeeper does not let the host be forgotten, for this reason.
    NotForgotten(String),
    /// It knows no rollout of this name.
    NoRollout(String),
    /// That cannot be done to this rollout now, for this reason.
    NotNow(String, String),
}

impl FleetRefused {
    /// What ends that the znode of a rollout, or what is below it, makes no sense.
    pub fn heals(gate: &str) -> String {
        format!(
            "somebody else has been at it; once no host acts for it any more, `twitcher znode delete -r {}` has it begin anew",
            super::view::quoted(gate)
        )
    }
}

/// The end of what a run wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// The last of it.
    pub tail: Vec<u8>,
    /// How much there was in all, in bytes.
    pub total: usize,
    /// Whether it was more than the log takes of a run.
    pub log_ended: bool,
}

/// There is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// In time.
    #[error("the daemon is busy and did not answer in time")]
    Late,
    /// The daemon has ended.
    #[error("the daemon is ending")]
    Gone,
}

/// The server's end of the channel.
#[derive(Debug, Clone)]
pub struct DaemonRequests {
    sender: mpsc::Sender<DaemonRequest>,
}

/// The loop's end.
pub type RequestQueue = mpsc::Receiver<DaemonRequest>;

/// A channel.
pub fn channel() -> (DaemonRequests, RequestQueue) {
    let (sender, questions) = mpsc::channel(QUEUE);
    (DaemonRequests { sender }, questions)
}

impl DaemonRequests {
    /// Asks, and waits for the answer.
    pub async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> DaemonRequest) -> Result<T, Unanswered> {
        self.ask_within(PATIENCE, question).await
    }

    /// Whether the loop turns: whether it answers within a second.
    pub async fn is_alive(&self) -> bool {
        self.ask_within(Duration::from_secs(1), DaemonRequest::Alive)
            .await
            .is_ok()
    }

    /// Has the configuration loaded.
    pub async fn reload(&self) -> Result<Reloaded, Unanswered> {
        self.ask_within(LOADING, DaemonRequest::Reload).await
    }

    /// Asks about the fleet.
    pub async fn survey<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> DaemonRequest) -> Result<T, Unanswered> {
        self.ask_within(SURVEYING, question).await
    }

    async fn ask_within<T>(
        &self,
        patience: Duration,
        question: impl FnOnce(oneshot::Sender<T>) -> DaemonRequest,
    ) -> Result<T, Unanswered> {
        let answer = async {
            let (reply, answer) = oneshot::channel();
            self.sender.send(question(reply)).await.map_err(|_| Unanswered::Gone)?;
            answer.await.map_err(|_| Unanswered::Gone)
        };
        timeout(patience, answer).await.unwrap_or(Err(Unanswered::Late))
    }
}
