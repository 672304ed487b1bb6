//! The fleet: what the daemons of many hosts tell each other through ZooKeeper, with no server of their own.
//!
//! Every host writes below its own znode only: that it is there, and where it stands with each of its watches. Nobody waits for any of
//! it: a watch starts its action as fast with a fleet as without, whatever is below the fleet's root.
//!
//! ```text
//!  daemon ── results ──▶ board ── what the fleet does not know yet ──▶ member   one task: joins, publishes, and again
//!                        (pure)                     pacing (pure) ──▶    │      after whatever went wrong
//!         ◀─ it is your turn ────── rollout: host, steward (tasks of it) ─┤
//!                                                                        ▼
//!  operators ◀── laggards (pure) ◀── survey ◀───── layout, record ──── ZooKeeper, on the session that is there for requests
//!            ── forget, enroll (access: pure) ──────────────────────▶
//! ```
//!
//! Where access is strict ZooKeeper itself keeps every host to that: what is made has the access control list that says so.
//!
//! It must not know what a watch runs, nor when.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod access;
pub mod enroll;
pub mod forget;
#[allow(
    clippy::disallowed_methods,
    reason = "it all happens before there is anything to hold up"
)]
pub mod identity;
pub mod laggards;
mod layout;
mod member;
mod pacing;
mod record;
mod requests;
pub mod rollout;
pub mod survey;
mod unpublished;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use twitcher_source::zookeeper::KeptSession;

pub use access::{Identity, IdentityError};
use forget::{ForgetError, Forgotten};
pub use layout::{FleetRoot, FleetRootError, HostName, HostNameError};
pub use record::{FormatVersion, LastRun, RecordError, ResultState, StateId, WatchResult, outcome};
use rollout::{LocalRollout, OrderError, Parts, RolloutEvent, RolloutPart, RolloutSurvey, RolloutsFound, Said, Verb};
use survey::{Survey, SurveyError, Surveyor};
use twitcher_model::RolloutName;
use unpublished::Board;

/// How long [`Fleet::leave`] takes at most.
const GOODBYE: Duration = Duration::from_secs(2);

/// Which fleet a host is in, and as which host.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    /// Where the fleet has its znodes.
    pub root: FleetRoot,
    /// What the host is called there.
    pub name: HostName,
    /// What else is said of it.
    pub labels: identity::Labels,
    /// What tells it from another one of its name; none if it cannot be remembered, and then it does not join.
    pub id: Result<identity::HostId, Arc<identity::HostIdError>>,
    /// The boot of its machine.
    pub boot: String,
    /// The version of the program.
    pub version: &'static str,
}

/// How a host stands with its fleet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Membership {
    /// Since when it is in it; none if it is not.
    pub since: Option<SystemTime>,
    /// Why it is not, or why it cannot publish.
    pub problem: Option<String>,
    /// Results that the fleet does not know as they are.
    pub unpublished: usize,
    /// How long the one that has waited longest waits to be published.
    pub lag: Duration,
}

/// A host's place in a fleet. Dropping it gives the place up at once; [`Fleet::leave`] says what is left to be said before.
#[derive(Debug)]
pub struct Fleet {
    shared: Arc<Shared>,
    session: watch::Sender<KeptSession>,
    surveyor: Arc<Surveyor>,
    task: JoinHandle<()>,
    events: mpsc::UnboundedReceiver<RolloutEvent>,
}

#[derive(Debug)]
struct Shared {
    options: FleetOptions,
    /// What times are counted from.
    clock: Instant,
    state: Mutex<State>,
    /// There is something to write, or the host leaves.
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    board: Board,
    since: Option<SystemTime>,
    problem: Option<String>,
    leaving: bool,
    parts: Parts,
}

impl Shared {
    /// Never held over an await.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.clock.elapsed()
    }
}

impl Fleet {
    /// Joins, now or when it can be done; never gives up. Must be called in a tokio runtime.
    pub fn join(options: FleetOptions, session: KeptSession) -> Self {
        let surveyor = Surveyor::new(options.root.clone(), session.clone());
        let shared = Arc::new(Shared {
            options,
            clock: Instant::now(),
            state: Mutex::default(),
            news: Notify::new(),
        });
        let (session, sessions) = watch::channel(session);
        let (wanted, events) = mpsc::unbounded_channel();
        let task = tokio::spawn(member::run(Arc::clone(&shared), sessions, wanted));
        Self {
            shared,
            session,
            surveyor: Arc::new(surveyor),
            task,
            events,
        }
    }

    /// What the daemon is to do next for a rollout. Nothing is lost if it is not polled to its end.
    pub async fn next_event(&mut self) -> RolloutEvent {
        match self.events.recv().await {
            Some(event) => event,
            // The task that sends them has ended: it has left the fleet.
            None => std::future::pending().await,
        }
    }

    /// The watches that have a rollout are these, and stand so.
    pub fn roll_out(&self, watches: Vec<LocalRollout>) {
        let mut state = self.shared.state();
        let names: BTreeSet<RolloutName> = watches.iter().map(|watch| watch.policy.name.clone()).collect();
        let known = state.parts.all.len();
        state.parts.all.retain(|name, _| names.contains(name));
        let mut is_news = state.parts.all.len() != known;
        for watch in watches {
            match state.parts.all.get(&watch.policy.name) {
                Some(part) => drop(part.local.send_if_modified(|local| {
                    let differs = *local != watch;
                    if differs {
                        *local = watch;
                    }
                    differs
                })),
                None => {
                    let name = watch.policy.name.clone();
                    let (local, _) = watch::channel(watch);
                    state.parts.all.insert(
                        name,
                        RolloutPart {
                            local,
                            said: Said::default(),
                        },
                    );
                    is_news = true;
                }
            }
        }
        drop(state);
        if is_news {
            self.shared.news.notify_one();
        }
    }

    /// Whether the fleet can be asked for a turn in a rollout: this host is in it, and nothing keeps its part in the rollout from going on.
    pub fn can_be_asked(&self, rollout: &RolloutName) -> bool {
        let state = self.shared.state();
        let is_well = |part: &RolloutPart| part.said.problem.is_none();
        state.since.is_some() && state.problem.is_none() && state.parts.all.get(rollout).is_none_or(is_well)
    }

    /// What there is to be known on this host of the rollouts that it takes part in.
    pub fn said(&self) -> Vec<(RolloutName, Said)> {
        let state = self.shared.state();
        let parts = state.parts.all.iter();
        parts.map(|(name, part)| (name.clone(), part.said.clone())).collect()
    }

    /// Looks at one rollout.
    pub fn survey_rollout(
        &self,
        rollout: RolloutName,
    ) -> impl Future<Output = Result<Vec<RolloutSurvey>, SurveyError>> + Send + 'static {
        let (shared, session) = (Arc::clone(&self.shared), self.session.borrow().clone());
        async move { rollout::survey(&session, &shared.options.root, rollout).await }
    }

    /// Looks at all rollouts.
    pub fn survey_rollouts(&self) -> impl Future<Output = Result<RolloutsFound, SurveyError>> + Send + 'static {
        let (shared, session) = (Arc::clone(&self.shared), self.session.borrow().clone());
        async move { rollout::survey_all(&session, &shared.options.root).await }
    }

    /// Does what an operator wants of a rollout.
    pub fn order(
        &self,
        rollout: RolloutName,
        verb: Verb,
        by: String,
    ) -> impl Future<Output = Result<(), OrderError>> + Send + 'static {
        let (shared, session) = (Arc::clone(&self.shared), self.session.borrow().clone());
        async move { rollout::order(&session, &shared.options.root, &rollout, verb, &by).await }
    }

    /// Sets the znode of a rollout to what all hosts had before.
    pub fn roll_back(
        &self,
        rollout: RolloutName,
        by: String,
    ) -> impl Future<Output = Result<(), OrderError>> + Send + 'static {
        let (shared, session) = (Arc::clone(&self.shared), self.session.borrow().clone());
        let seen = self.seen(&rollout);
        async move { rollout::roll_back(&session, &shared.options.root, &rollout, seen, &by).await }
    }

    /// The znode of a rollout that this host takes part in, and what it has seen last of it.
    fn seen(&self, rollout: &RolloutName) -> Option<(String, StateId)> {
        let state = self.shared.state();
        let local = state.parts.all.get(rollout)?.local.borrow();
        // What it cannot read any more it will not see, however often it is asked.
        let seen = local.seen.filter(|_| local.result.state != ResultState::Unreadable)?;
        Some((local.result.znode.clone(), seen))
    }

    /// Takes back the slot of a host.
    pub fn release(
        &self,
        rollout: RolloutName,
        host: String,
        by: String,
    ) -> impl Future<Output = Result<(), OrderError>> + Send + 'static {
        let (shared, session) = (Arc::clone(&self.shared), self.session.borrow().clone());
        async move { rollout::release(&session, &shared.options.root, &rollout, &host, &by).await }
    }

    /// There is another session, because what the first one was of has ended.
    pub fn use_session(&mut self, session: KeptSession) {
        self.surveyor = Arc::new(Surveyor::new(self.shared.options.root.clone(), session.clone()));
        self.session.send_replace(session);
    }

    /// Where the fleet has its znodes, and what this host is called there.
    pub fn options(&self) -> &FleetOptions {
        &self.shared.options
    }

    /// Where this host stands with a watch, from now on.
    pub fn publish(&self, result: &WatchResult) {
        let now = self.shared.now();
        if self.shared.state().board.put(now, result) {
            self.shared.news.notify_one();
        }
    }

    /// The watches whose results are published are these, and no others.
    pub fn keep<'a>(&self, watches: impl Iterator<Item = &'a str>) {
        self.shared.state().board.keep(self.shared.now(), watches);
        self.shared.news.notify_one();
    }

    /// How this host stands with the fleet.
    pub fn membership(&self) -> Membership {
        let state = self.shared.state();
        Membership {
            since: state.since,
            problem: state.problem.clone(),
            unpublished: state.board.unpublished(),
            lag: state.board.lag(self.shared.now()),
        }
    }

    /// Looks at the whole fleet.
    pub fn survey(&self) -> impl Future<Output = Result<Arc<Survey>, SurveyError>> + Send + 'static {
        let surveyor = Arc::clone(&self.surveyor);
        async move { surveyor.newest().await }
    }

    /// Forgets a host that is not there any more.
    pub fn forget(&self, host: String) -> impl Future<Output = Result<Forgotten, ForgetError>> + Send + 'static {
        let (shared, session) = (Arc::clone(&self.shared), self.session.borrow().clone());
        async move {
            let FleetOptions { root, id, .. } = &shared.options;
            forget::forget(&session, root, &host, id.as_ref().ok()).await
        }
    }

    /// Publishes what there is, if that takes no longer than two seconds, and goes.
    pub async fn leave(self) {
        self.shared.state().leaving = true;
        self.shared.news.notify_one();
        let mut task = self.task;
        if timeout(GOODBYE, &mut task).await.is_err() {
            task.abort();
        }
    }
}
