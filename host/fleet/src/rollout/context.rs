//! What the tasks of a rollout have in common: what the daemon says of its watch and is told to do, the session, and how trouble is told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep};
use tracing::{info, warn};
use zookeeper_client::Client;

use super::records::{Gate, GateState, SlotId};
use super::world::HostState;
use crate::Shared;
use crate::record::{self, RecordError, ResultState, StateId, WatchResult};
use crate::requests::{self, Owner, RequestError, Znode};
use twitcher_model::{Rollout, RolloutName};

/// First and longest pause after something has gone wrong.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));

/// What a watch with a rollout would do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Doing {
    /// Its znode is being read.
    Unsure,
    /// Something is to be run for, but not yet, for reasons of this host's own.
    Waiting,
    /// Nothing.
    Nothing,
    /// It would start for this state, if it might.
    Wants(StateId),
}

/// How a watch with a rollout stands on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// What it would do.
    pub doing: Doing,
    /// Whether its action runs, or is to be tried again.
    pub acting: bool,
    /// In a word.
    pub state: ResultState,
    /// What it has seen last.
    pub seen: Option<StateId>,
    /// What the last run was for.
    pub at: Option<StateId>,
    /// What nothing is left to be done for.
    pub good: Option<StateId>,
    /// The digest of its policy.
    pub policy: String,
    /// What tells the host from another one of its name.
    pub host: String,
    /// Whether a host that has acted must get well before it gives its slot back.
    pub verifies: bool,
    /// How far that is, and under which slot.
    pub verification: Option<(SlotId, Verification)>,
    /// Whether that is still to be found out of what it has last succeeded for.
    pub unverified: bool,
}

/// How far it is found out whether a host that has acted is well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verification {
    /// It is being found out.
    Running,
    /// It is well, and has been for long enough.
    Well,
    /// It has not got well in time.
    Unwell,
}

/// What the check of a wave has come to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CheckEnd {
    /// The next wave may go.
    Good,
    /// It is to be asked again.
    NotYet,
    /// The next wave must not go, for this reason.
    Bad(String),
}

/// A watch with a rollout, on this host.
#[derive(Debug, Clone, PartialEq)]
pub struct LocalRollout {
    /// How it goes out.
    pub policy: Arc<Rollout>,
    /// Where the watch stands.
    pub result: WatchResult,
    /// What it has seen last.
    pub seen: Option<StateId>,
    /// What it would do.
    pub doing: Doing,
    /// Whether its action runs, or is to be tried again.
    pub acting: bool,
    /// The last [`RolloutEvent`] that was dealt with.
    pub answered: u64,
    /// How far [`Wanted::Verify`] is.
    pub verification: Option<(SlotId, Verification)>,
    /// Whether what it has last succeeded for in its turn was not found well yet, also where it was a watch that is here again now.
    pub unverified: bool,
    /// What the [`Wanted::Check`] of the event with this number has come to.
    pub check: Option<(u64, CheckEnd)>,
}

impl LocalRollout {
    pub(crate) fn local(&self, host: &str) -> Local {
        Local {
            doing: self.doing,
            acting: self.acting,
            state: self.result.state,
            seen: self.seen,
            at: self.result.at,
            good: self.result.good,
            policy: super::records::policy_digest(&self.policy),
            host: host.to_owned(),
            verifies: self.policy.verify.is_some(),
            verification: self.verification,
            unverified: self.unverified,
        }
    }
}

/// What the daemon is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RolloutEvent {
    /// Counts them.
    pub number: u64,
    /// The watch.
    pub watch: String,
    /// What of it.
    pub wanted: Wanted,
}

/// What a rollout wants of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// It is to start for this state at once, or not at all.
    Start(StateId),
    /// It has failed for what it has seen last, and is to want to start once more.
    Again,
    /// It has acted for this state with this slot, and whether it is well is to be found out.
    Verify(SlotId, StateId),
    /// Whether it is well nobody wants to know any more: the slot is not its own.
    EndVerify,
    /// The check of this wave, counted from 0, is to be run.
    Check(usize),
    /// What the check says nobody waits for any more.
    EndCheck,
}

/// What is to be known of a rollout on this host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Why it does not go on, if something is wrong.
    pub problem: Option<String>,
    /// Whether this host is its steward.
    pub is_steward: bool,
    /// Whether this host has a slot.
    pub has_slot: bool,
    /// What its steward knows of it; none on other hosts.
    pub figures: Option<Figures>,
}

/// How a rollout stands, in figures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Figures {
    /// How far it is.
    pub state: GateState,
    /// How many hosts stand so.
    pub hosts: BTreeMap<HostState, usize>,
    /// How many slots are held.
    pub slots: usize,
    /// How many there are.
    pub at_once: u32,
    /// When this was last otherwise.
    pub since: Instant,
}

/// The rollouts of a host.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub all: BTreeMap<RolloutName, RolloutPart>,
    /// Numbers what the daemon is told.
    pub events: u64,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct RolloutPart {
    pub local: watch::Sender<LocalRollout>,
    pub said: Said,
}

/// What the tasks of a rollout work with, as long as a session is connected.
#[derive(Debug, Clone)]
pub(crate) struct RolloutContext {
    pub shared: Arc<Shared>,
    pub client: Client,
    pub rollout: RolloutName,
    /// The version of the host's znode.
    pub version: i32,
    /// In which all hosts together may write once each.
    pub turn: Duration,
    /// Whose the host's znodes are.
    pub own: Owner,
    pub events: mpsc::UnboundedSender<RolloutEvent>,
}

/// Why a rollout does not go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error("znode {0}: {1}")]
    Record(String, RecordError),
    /// The host may not be the steward.
    #[error("no permission for znode {0} (NoAuth)")]
    NotSteward(String),
    /// Nor is anybody else.
    #[error(
        "there is no steward, and this host cannot be it: no permission for znode {0} (NoAuth). \
         `twitcher fleet enroll --steward ID` says whose daemons may be"
    )]
    NoSteward(String),
    /// The rollout is not this host's any more.
    #[error("the watch is gone")]
    Over,
}

impl Trouble {
    /// Whether somebody else has written, or deleted, what belongs to the rollout.
    pub(crate) fn is_spoilt(&self) -> bool {
        matches!(self, Self::Record(..) | Self::Request(RequestError::NoNode(_)))
    }

    /// Whether others were faster, or the connection is gone: not worth a word.
    fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Over
                | Self::Request(RequestError::Disconnected | RequestError::BadVersion(_) | RequestError::NodeExists(_))
        )
    }
}

impl RolloutContext {
    pub fn host(&self) -> &str {
        self.shared.options.name.as_str()
    }

    pub fn gate_path(&self) -> String {
        self.shared.options.root.gate(&self.rollout)
    }

    pub fn grants_path(&self) -> String {
        self.shared.options.root.grants(&self.rollout)
    }

    pub fn grant_path(&self, host: &str) -> String {
        self.shared.options.root.grant(&self.rollout, host)
    }

    /// Reads the gate, with its version; none if there is none.
    pub async fn gate(&self) -> Result<Option<(Gate, i32)>, Trouble> {
        let path = self.gate_path();
        let znode = requests::read(&self.client, &path).await?;
        znode.map(|znode| parse(&path, znode)).transpose()
    }

    /// Does it again and again, until the session is over.
    pub async fn keep<F: Future<Output = Result<std::convert::Infallible, Trouble>>>(
        &self,
        what: &'static str,
        again: impl Fn() -> F,
    ) {
        let mut pause = PAUSE.0;
        loop {
            let begun = Instant::now();
            let Err(trouble) = again().await;
            if trouble == Trouble::Over || self.client.state().is_terminated() {
                return;
            }
            self.say(Some(&trouble), what);
            if begun.elapsed() > PAUSE.1 {
                pause = PAUSE.0;
            }
            sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(PAUSE.1);
        }
    }

    /// Notes what the trouble is, or that there is none, and says so if it is news.
    pub fn say(&self, trouble: Option<&Trouble>, what: &'static str) {
        let problem = trouble
            .filter(|trouble| !trouble.is_passing())
            .map(|trouble| format!("{what}: {trouble}"));
        let mut state = self.shared.state();
        let Some(part) = state.parts.all.get_mut(&self.rollout) else {
            return;
        };
        let is_ours = part.said.problem.as_ref().is_none_or(|said| said.starts_with(what));
        if part.said.problem == problem || !is_ours || (problem.is_none() && trouble.is_some()) {
            return;
        }
        part.said.problem.clone_from(&problem);
        drop(state);
        let rollout = &self.rollout;
        match problem {
            None => info!(%rollout, "the rollout goes on"),
            Some(problem) => warn!(%rollout, "{problem}; trying again"),
        }
    }

    /// Notes whether the host has a slot, for who waits to leave.
    pub(super) fn note_slot(&self, has_slot: bool) {
        let mut state = self.shared.state();
        if let Some(part) = state.parts.all.get_mut(&self.rollout)
            && std::mem::replace(&mut part.said.has_slot, has_slot) != has_slot
            && state.leaving
        {
            self.shared.news.notify_one();
        }
    }

    /// Notes how the rollout stands, as its steward sees it.
    pub fn note_figures(&self, mut figures: Figures) {
        let mut state = self.shared.state();
        let Some(part) = state.parts.all.get_mut(&self.rollout) else {
            return;
        };
        if let Some(before) = &part.said.figures {
            let now = std::mem::replace(&mut figures.since, before.since);
            if figures != *before {
                figures.since = now;
            }
        }
        part.said.figures = Some(figures);
    }

    pub(super) fn number(&self) -> u64 {
        let mut state = self.shared.state();
        state.parts.events += 1;
        state.parts.events
    }
}

/// A record of a znode, with its version.
pub(crate) fn parse<T: serde::de::DeserializeOwned>(path: &str, znode: Znode) -> Result<(T, i32), Trouble> {
    let too_large = RecordError::TooLarge(znode.stat.data_length as usize);
    let read = znode.data.ok_or(too_large).and_then(|data| record::read(&data));
    let read = read.map_err(|error| Trouble::Record(path.to_owned(), error))?;
    Ok((read, znode.stat.version))
}
