//! A host's place in a fleet: it says that it is there, publishes what is new, and begins again after whatever goes wrong.
//!
//! All it writes, but the root on the first day, is below the host's own znode. Each transaction checks that this znode is still as it
//! was when the host joined: should another host come to have its name, nothing of two hosts is mixed. A write whose answer is lost is
//! harmless, because after it everything is read again and compared.

mod joining;
mod trouble;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until};
use tracing::{info, warn};
use zookeeper_client::{Client, CreateMode, SessionState};

use super::Shared;
use super::layout::{LIVE, is_rollout_znode, rollout_znode};
use super::pacing::{Pacer, turn};
use super::requests::{self, ANY, Owner, Reply, RequestError, Step};
use super::rollout::{self, RolloutContext, RolloutEvent};
use super::unpublished::Write;
use trouble::Trouble;
use twitcher_model::RolloutName;
use twitcher_source::zookeeper::KeptSession;

/// Most writes in one transaction.
const BATCH: usize = 50;
/// First and longest pause before it is tried again; half of it is random.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));
/// The longest where this host may not write: transactions that fail cost the servers as much as others.
const DENIED_PAUSE: Duration = Duration::from_secs(60);
/// How often it is looked whether it was enrolled meanwhile.
const ENROLLED: Duration = Duration::from_secs(5);
/// How long slots may take to be given back when the host leaves.
const GOODBYE: Duration = Duration::from_secs(1);
/// How often it is looked whether the place is still there, and how many hosts there are.
const LOOK: Duration = Duration::from_secs(60);

/// Keeps the host in the fleet until it leaves.
pub(crate) async fn run(
    shared: Arc<Shared>,
    mut sessions: watch::Receiver<KeptSession>,
    events: mpsc::UnboundedSender<RolloutEvent>,
) {
    loop {
        let session = sessions.borrow_and_update().clone();
        let member = Member {
            shared: &shared,
            session: &session,
            events: &events,
            nobody: AtomicI64::new(0),
            is_denied: AtomicBool::new(false),
        };
        tokio::select! {
            () = member.serve() => return,
            changed = sessions.changed() => if changed.is_err() { return },
        }
    }
}

struct Member<'a> {
    shared: &'a Arc<Shared>,
    session: &'a KeptSession,
    events: &'a mpsc::UnboundedSender<RolloutEvent>,
    /// The session for which the servers do not take the host's certificate.
    nobody: AtomicI64,
    /// Whether the host was last stopped because it may not write.
    is_denied: AtomicBool,
}

/// The tasks of the rollouts that the host takes part in. They end when this is dropped.
#[derive(Debug, Default)]
struct Rollouts {
    tasks: JoinSet<()>,
    running: BTreeMap<RolloutName, AbortHandle>,
}

/// A place that is held.
struct Place {
    /// Version of the host's znode.
    version: i32,
    /// How many hosts there are.
    hosts: u32,
}

impl Member<'_> {
    /// Until the host leaves.
    async fn serve(&self) {
        let mut pause = PAUSE.0;
        loop {
            let session = tokio::select! {
                session = self.session.connected() => session,
                () = self.left() => return,
            };
            let outcome = tokio::select! {
                outcome = self.hold(&session.client) => outcome,
                // What is under way when the host leaves is lost only if it takes too long: see `Fleet::leave`.
                () = self.gone(&session.client) => Err(RequestError::Disconnected.into()),
            };
            let Err(trouble) = outcome else { return };
            let options = &self.shared.options;
            let trouble = trouble.explained(&options.root, &options.name, self.session.credentials());
            if self.shared.state().since.is_some() {
                pause = PAUSE.0;
            }
            let is_denied = trouble.is_denial();
            self.is_denied.store(is_denied, Ordering::Relaxed);
            self.note(Some(&trouble));
            if session.client.state().is_terminated() {
                session.give_up();
            }
            if self.shared.state().leaving {
                return;
            }
            tokio::select! {
                () = self.rest(&session.client, pause.mul_f64(0.5 + fastrand::f64() / 2.0), &trouble) => {}
                () = self.left() => return,
            }
            pause = (pause * 2).min(if is_denied { DENIED_PAUSE } else { PAUSE.1 });
        }
    }

    /// Waits until the host is to leave.
    async fn left(&self) {
        while !self.shared.state().leaving {
            self.shared.news.notified().await;
        }
    }

    /// Waits until a session is over.
    async fn gone(&self, client: &Client) {
        let mut states = client.state_watcher();
        let mut state = states.peek_state();
        while !state.is_terminated() {
            state = states.changed().await;
        }
    }

    /// Joins and publishes. It only returns without an error when the host leaves.
    async fn hold(&self, client: &Client) -> Result<(), Trouble> {
        let mut place = self.join(client).await?;
        // Who could join before, and not write, is not taken for a member until that has been done.
        if !self.is_denied.load(Ordering::Relaxed) {
            self.note(None);
        }
        let mut pacer = Pacer::default();
        let mut look = interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.reset();
        let mut states = client.state_watcher();
        let mut due: Option<(Instant, usize)> = None;
        let mut rollouts = Rollouts::default();
        let mut left = true;
        loop {
            left |= self.take_part(client, &place, &mut rollouts);
            if left && self.leave_rollouts(client, &place).await? {
                left = false;
            }
            let now = self.shared.now();
            if self.is_denied.load(Ordering::Relaxed) && self.shared.state().board.unpublished() == 0 {
                self.is_denied.store(false, Ordering::Relaxed);
                self.note(None);
            }
            let (ripe, next, leaving) = {
                let state = self.shared.state();
                (state.board.ripe(now), state.board.next_ripe(now), state.leaving)
            };
            if leaving {
                self.give_slots_back().await;
                let parts: Vec<RolloutName> = std::mem::take(&mut rollouts).running.into_keys().collect();
                for rollout in parts {
                    rollout::resign(client, &self.shared.options.root.steward(&rollout)).await;
                }
                self.publish(client, &place, None, BATCH).await?;
                return Ok(requests::delete(client, &self.live()).await?);
            }
            if due.is_none() && ripe > 0 {
                let writes = ripe.min(BATCH);
                let at = pacer.take(now, place.hosts, writes as u32, fastrand::f64());
                due = Some((self.shared.clock + at, writes));
            }
            let wake = due.map(|(at, _)| at).or(next.map(|at| self.shared.clock + at));
            tokio::select! {
                () = self.shared.news.notified() => {}
                () = sleep_until(wake.unwrap_or(self.shared.clock)), if wake.is_some() => {
                    if let Some((_, writes)) = due.take() {
                        self.publish(client, &place, Some(self.shared.now()), writes).await?;
                        self.is_denied.store(false, Ordering::Relaxed);
                        self.note(None);
                    }
                }
                state = states.changed() => match state {
                    SessionState::Disconnected => {
                        self.note(Some(&RequestError::Disconnected.into()));
                        rollouts = Rollouts::default();
                        // What is sent now would be sent later, when it is not the newest any more.
                        self.connected_again(client).await;
                    }
                    // Some servers hand out another session in silence: the presence is looked at.
                    _ => {
                        self.look(client, &mut place).await?;
                        self.note(None);
                    }
                },
                _ = look.tick() => self.look(client, &mut place).await?,
            }
        }
    }

    /// Begins to take part in rollouts that are new, and ends it with those that there are no more. Whether there were such.
    fn take_part(&self, client: &Client, place: &Place, rollouts: &mut Rollouts) -> bool {
        while rollouts.tasks.try_join_next().is_some() {}
        let state = self.shared.state();
        let mut left = false;
        rollouts.running.retain(|rollout, task| {
            let stays = state.parts.all.contains_key(rollout);
            if !stays {
                task.abort();
                left = true;
            }
            stays && !task.is_finished()
        });
        for (rollout, part) in &state.parts.all {
            if rollouts.running.contains_key(rollout) {
                continue;
            }
            let context = RolloutContext {
                shared: Arc::clone(self.shared),
                client: client.clone(),
                rollout: rollout.clone(),
                version: place.version,
                turn: turn(place.hosts),
                own: self.own(client),
                events: self.events.clone(),
            };
            let task = rollouts
                .tasks
                .spawn(rollout::take_part(context, part.local.subscribe()));
            rollouts.running.insert(rollout.clone(), task);
        }
        left
    }

    /// Deletes what this host has said of rollouts that it takes no part in any more, once it is known in which it does. Whether it
    /// was.
    async fn leave_rollouts(&self, client: &Client, place: &Place) -> Reply<bool> {
        let path = self.path();
        let stays: Option<BTreeSet<String>> = {
            let state = self.shared.state();
            let known = state.board.knows_watches();
            known.then(|| state.parts.all.keys().map(rollout_znode).collect())
        };
        let Some(stays) = stays else { return Ok(false) };
        for name in requests::children(client, &path).await? {
            if !is_rollout_znode(&name) || stays.contains(&name) {
                continue;
            }
            if let Some(rollout) = name.get(2..).and_then(|name| name.parse().ok()) {
                rollout::resign(client, &self.shared.options.root.steward(&rollout)).await;
            }
            let steps = [
                Step::Check(path.clone(), place.version),
                Step::Delete(format!("{path}/{name}")),
            ];
            requests::transact(client, &path, &steps).await?;
        }
        Ok(true)
    }

    /// Lets the tasks of the rollouts say what is to be said before the host leaves.
    async fn give_slots_back(&self) {
        let until = Instant::now() + GOODBYE;
        let has_slots = || self.shared.state().parts.all.values().any(|part| part.said.has_slot);
        while has_slots() {
            tokio::select! {
                () = self.shared.news.notified() => {}
                () = sleep_until(until) => return,
            }
        }
    }

    async fn connected_again(&self, client: &Client) {
        let mut states = client.state_watcher();
        let mut state = states.peek_state();
        while !matches!(state, SessionState::SyncConnected) && !state.is_terminated() && !self.shared.state().leaving {
            tokio::select! {
                changed = states.changed() => state = changed,
                () = self.shared.news.notified() => {}
            }
        }
    }

    async fn look(&self, client: &Client, place: &mut Place) -> Result<(), Trouble> {
        if !self.check_presence(client).await? {
            return Err(Trouble::PresenceGone);
        }
        place.hosts = self.count_hosts(client).await?;
        Ok(())
    }

    async fn count_hosts(&self, client: &Client) -> Reply<u32> {
        let stat = requests::stat(client, &self.shared.options.root.hosts()).await?;
        Ok(stat.map_or(1, |stat| u32::try_from(stat.num_children).unwrap_or(1)))
    }

    /// Publishes what is due.
    async fn publish(&self, client: &Client, place: &Place, now: Option<Duration>, most: usize) -> Reply<()> {
        let writes = self.shared.state().board.take(now, most);
        if !writes.is_empty() {
            self.write(client, place.version, true, &writes).await?;
            self.shared.state().board.written(self.shared.now(), writes);
        }
        Ok(())
    }

    /// Writes below the host's znode, if that has still this version, and the presence is there where it is to be.
    async fn write(&self, client: &Client, version: i32, present: bool, writes: &[(String, Write)]) -> Reply<()> {
        let path = self.path();
        let mut steps = vec![Step::Check(path.clone(), version)];
        if present {
            steps.push(Step::Check(self.live(), ANY));
        }
        steps.extend(writes.iter().map(|(name, write)| {
            let path = format!("{path}/{name}");
            match write {
                Write::Create(data) => Step::Create(path, data.clone(), self.own(client)),
                Write::Set(data) => Step::Set(path, data.clone(), None),
                Write::Delete => Step::Delete(path),
            }
        }));
        requests::transact(client, &path, &steps).await
    }

    /// Notes what the trouble is, or that there is none, and says so if it is news.
    fn note(&self, trouble: Option<&Trouble>) {
        let options = &self.shared.options;
        let mut state = self.shared.state();
        let problem = trouble.map(ToString::to_string);
        let is_news = state.problem != problem || (trouble.is_none() && state.since.is_none());
        let is_passing = matches!(trouble, Some(Trouble::Request(RequestError::Disconnected)));
        match trouble {
            None => drop(state.since.get_or_insert_with(SystemTime::now)),
            // It is in the fleet until its session expires.
            Some(_) => state.since = None,
        }
        let first = state.problem.is_none();
        state.problem.clone_from(&problem);
        drop(state);
        let (fleet, host) = (&options.root, &options.name);
        match problem {
            _ if !is_news => {}
            None => info!(%fleet, %host, "in the fleet"),
            // The source says so, with reasons.
            Some(problem) if is_passing && first => info!(%fleet, %host, "not in the fleet: {problem}"),
            Some(_) if is_passing => {}
            Some(problem) => warn!(%fleet, %host, "not in the fleet: {problem}; trying again"),
        }
    }

    fn path(&self) -> String {
        let options = &self.shared.options;
        options.root.host(options.name.as_str())
    }

    fn live(&self) -> String {
        format!("{}/{LIVE}", self.path())
    }

    /// Whose is what is made below the host's znode.
    fn own(&self, client: &Client) -> Owner {
        match self.nobody.load(Ordering::Relaxed) == client.session_id().0 {
            true => Owner::All,
            false => Owner::of(self.session),
        }
    }

    async fn create_own(&self, client: &Client, path: &str, data: &[u8], mode: CreateMode) -> Reply<()> {
        let mut own = self.own(client);
        let created = requests::create_own(client, path, data, mode, &mut own).await;
        if own == Owner::All {
            self.nobody.store(client.session_id().0, Ordering::Relaxed);
        }
        created
    }

    /// Waits before it is tried again; where this host may not write, no longer than until somebody has changed that.
    async fn rest(&self, client: &Client, pause: Duration, trouble: &Trouble) {
        let until = Instant::now() + pause;
        let paths = [self.path(), self.shared.options.root.hosts()];
        let before = match trouble {
            Trouble::NotEnrolled { .. } => requests::acl_versions(client, &paths).await.ok(),
            _ => None,
        };
        while before.is_some() && until > Instant::now() + ENROLLED {
            sleep(ENROLLED).await;
            if requests::acl_versions(client, &paths).await.ok() != before {
                return;
            }
        }
        sleep_until(until).await;
    }
}
