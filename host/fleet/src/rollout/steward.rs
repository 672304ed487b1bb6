//! The steward of a rollout: elected among the hosts that have it, sees all of them, and does what is decided.
//!
//! That there is one matters for going on, and for nothing else: see the module above.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tracing::{info, warn};
use zookeeper_client::{CreateMode, EventType, PersistentWatcher, WatchedEvent};

use super::after_wave::{CheckAnswer, Timers};
use super::context::{CheckEnd, Figures, LocalRollout, RolloutContext, RolloutEvent, Trouble, Wanted};
use super::decide::{Decision, Moment, decide};
use super::enact::{Versions, change_slots, set_gate};
use super::reading::{read_hosts, read_slots, state_of};
use super::records::{Counter, Gate, GateState, Goal, Plan, StewardRecord};
use super::rollback;
use super::world::{HostState, World};
use crate::layout::{LIVE, rollout_znode};
use crate::record::{self, FormatVersion};
use crate::requests::{self, Owner, RequestError, Step};
use twitcher_model::{RolloutName, ZnodePath};
use zookeeper_client::Client;

/// What goes wrong here.
const PART: &str = "its part as the steward of the rollout";

/// How long an election takes at most where hosts are few, and how often it is looked whether this host may stand for it.
const ELECTION: Duration = Duration::from_secs(5);

/// Becomes the steward whenever there is none.
pub(crate) async fn run(context: RolloutContext, local: watch::Receiver<LocalRollout>) {
    let part = |is_steward: bool| {
        if let Some(part) = context.shared.state().parts.all.get_mut(&context.rollout) {
            part.said.is_steward = is_steward;
            part.said.figures = None;
        }
    };
    let candidate = async || {
        loop {
            match be_elected(&context).await {
                Ok(()) => break,
                Err(Trouble::NotSteward(znode)) => stand_by(&context, &znode).await?,
                Err(trouble) => return Err(trouble),
            }
        }
        part(true);
        let Err(trouble) = Steward::new(&context, local.clone()).serve().await;
        part(false);
        // Somebody else may be able to.
        resign(&context.client, &context.shared.options.root.steward(&context.rollout)).await;
        Err(trouble)
    };
    context.keep(PART, candidate).await;
    part(false);
}

/// Gives up the office, if it is this session's.
pub(crate) async fn resign(client: &Client, path: &str) {
    if let Ok(Some(stat)) = requests::stat(client, path).await
        && stat.ephemeral_owner == client.session_id().0
        && let Err(error) = requests::delete(client, path).await
    {
        info!("the office of a rollout's steward is free only when the session ends: {error}");
    }
}

/// Waits until there is no steward, and becomes it.
async fn be_elected(context: &RolloutContext) -> Result<(), Trouble> {
    make_rollout(context).await?;
    let (client, path) = (&context.client, context.shared.options.root.steward(&context.rollout));
    let ours = StewardRecord {
        v: FormatVersion,
        host: context.host().to_owned(),
    };
    loop {
        let (stat, watcher) = requests::stat_and_watch(client, &path).await?;
        match stat {
            Some(stat) if stat.ephemeral_owner == client.session_id().0 => return Ok(()),
            Some(stat) if stat.ephemeral_owner == 0 => {
                warn!(znode = %path, "the office of the rollout's steward is not ephemeral, so somebody else has made it: deleting it");
                requests::delete(client, &path).await?;
            }
            Some(_) => {
                if watcher.changed().await.event_type == EventType::Session {
                    return Err(RequestError::Disconnected.into());
                }
            }
            None => {
                // One at a time, so that the others need not even try.
                sleep(context.turn.mul_f64(fastrand::f64())).await;
                if requests::stat(client, &path).await?.is_some() {
                    continue;
                }
                let (mode, like) = (
                    CreateMode::Ephemeral,
                    Owner::Like(context.shared.options.root.rollouts()),
                );
                match requests::create(client, &path, &record::write(&ours), mode, &like).await {
                    Ok(()) | Err(RequestError::NodeExists(_)) => {}
                    Err(error) => return Err(not_steward(error)),
                }
            }
        }
    }
}

/// Makes the znodes of the rollout, where they are not there yet.
async fn make_rollout(context: &RolloutContext) -> Result<(), Trouble> {
    let (client, root) = (&context.client, &context.shared.options.root);
    let (gate, grants) = (context.gate_path(), context.grants_path());
    if requests::stat(client, &root.rollouts()).await?.is_none() {
        let (mode, like) = (CreateMode::Persistent, Owner::Like(root.path().to_owned()));
        match requests::create(client, &root.rollouts(), &[], mode, &like).await {
            Ok(()) | Err(RequestError::NodeExists(_)) => {}
            Err(error) => return Err(not_steward(error)),
        }
    }
    if requests::stat(client, &gate).await?.is_some() {
        return Ok(());
    }
    let first = Gate {
        v: FormatVersion,
        // No slot of a gate that somebody has deleted can be taken for one of this.
        epoch: fastrand::u64(..),
        serial: 0,
        goal: None,
        state: GateState::Done,
        before: None,
        wave: 0,
        why: None,
        at_once: 1,
        max_failures: 0,
        plan: Plan {
            waves: Vec::new(),
            lost_after: Duration::from_secs(120),
            lost: Default::default(),
            on_newer: Default::default(),
        },
        policy: String::new(),
        forgiven: 0,
        retried: 0,
        revert: None,
        since: Timestamp::now(),
        by: context.host().to_owned(),
    };
    let counter = Counter {
        v: FormatVersion,
        granted: 0,
    };
    let steps = [
        Step::Create(gate.clone(), record::write(&first), Owner::Like(root.rollouts())),
        Step::Create(grants, record::write(&counter), Owner::Like(root.rollouts())),
    ];
    match requests::transact(client, &gate, &steps).await {
        Ok(()) | Err(RequestError::NodeExists(_)) => Ok(()),
        Err(error) => Err(not_steward(error)),
    }
}

/// What it means that something of a rollout cannot be made.
fn not_steward(error: RequestError) -> Trouble {
    match error {
        RequestError::Denied(znode) | RequestError::Masked(znode) => Trouble::NotSteward(znode),
        error => error.into(),
    }
}

/// Waits until somebody may have changed who may be the steward. Nothing is tried meanwhile: writes that fail cost the servers as much
/// as others. What is wrong is said only if nobody else is the steward.
async fn stand_by(context: &RolloutContext, znode: &str) -> Result<(), Trouble> {
    let (client, office) = (&context.client, context.shared.options.root.steward(&context.rollout));
    let above: Vec<String> = std::iter::successors(ZnodePath::new(znode).ok(), ZnodePath::parent)
        .skip(1)
        .take(2)
        .map(|path| path.to_string())
        .collect();
    let before = requests::acl_versions(client, &above).await?;
    info!(rollout = %context.rollout, znode, "this host cannot be the steward of the rollout: its credential may not make the znode");
    let (mut since, mut was_vacant) = (Instant::now(), true);
    loop {
        let (stat, watcher) = requests::stat_and_watch(client, &office).await?;
        let is_vacant = stat.is_none();
        if std::mem::replace(&mut was_vacant, is_vacant) != is_vacant {
            since = Instant::now();
        }
        let trouble = Trouble::NoSteward(znode.to_owned());
        // Who may be elected takes some time.
        let is_wrong = is_vacant && since.elapsed() > ELECTION + context.turn;
        context.say(is_wrong.then_some(&trouble), PART);
        tokio::select! {
            event = watcher.changed() => if event.event_type == EventType::Session {
                return Err(RequestError::Disconnected.into());
            },
            // While somebody else does the work this host has nothing to ask.
            () = sleep(ELECTION + context.turn), if is_vacant => if requests::acl_versions(client, &above).await? != before {
                return Ok(());
            },
        }
    }
}

/// How long nothing may happen to a change that goes out before the steward looks for itself whether nothing has. Nothing but a watch says that it
/// is there still: if a server has lost it, on a connection that is well, every host waits for a steward that waits for them.
/// As long as it finds nothing it looks ever more rarely: what waits for an operator may wait for days, and each look reads every host.
const SWEEP: (Duration, Duration) = (Duration::from_secs(15), Duration::from_secs(600));

/// What is waited for more to happen before a decision, for each host of many: deciding looks at all of them, and would else take all the time
/// that there is when thousands say that they have acted.
const DECIDING: Duration = Duration::from_micros(1);
/// How many are many.
const MANY: usize = 1000;

struct Steward<'a> {
    context: &'a RolloutContext,
    local: watch::Receiver<LocalRollout>,
    clock: Instant,
    timers: Timers,
    /// The check that the daemon was last asked for: the number of the event, and of which wave of which change it is.
    check: Option<(u64, (u64, usize))>,
}

/// What is known, and what of it may have changed.
struct Known {
    world: World,
    versions: Versions,
    goal: Goal,
    /// Somebody else may have changed the gate or the slots.
    slots: bool,
    /// These hosts may have changed.
    hosts: BTreeSet<String>,
    /// The watched znode may have.
    znode: bool,
    /// Somebody has deleted a slot, which no version tells.
    deleted: bool,
}

impl Known {
    /// Whether a change goes out, and may go on.
    fn is_under_way(&self) -> bool {
        let state = self.world.gate.state;
        state.is_open() && state != GateState::Done
    }
}

/// Whoever is the steward next asks anew.
impl Drop for Steward<'_> {
    fn drop(&mut self) {
        self.end_check();
    }
}

impl<'a> Steward<'a> {
    fn new(context: &'a RolloutContext, local: watch::Receiver<LocalRollout>) -> Self {
        Self {
            context,
            local,
            clock: Instant::now(),
            timers: Timers::begin(Duration::ZERO),
            check: None,
        }
    }

    async fn serve(mut self) -> Result<Infallible, Trouble> {
        let (client, root, rollout) = (
            &self.context.client,
            &self.context.shared.options.root,
            &self.context.rollout,
        );
        let mut of_hosts = requests::watch_below(client, &root.hosts()).await?;
        let mut of_slots = requests::watch_below(client, &root.gate(rollout)).await?;
        requests::catch_up(client).await?;
        let names = requests::children(client, &root.hosts()).await?;
        let hosts = read_hosts(client, root, rollout, &names).await?;
        let (mut world, versions) = read_slots(client, root, rollout).await?;
        world.hosts = hosts
            .into_iter()
            .filter_map(|(name, view)| Some((name, view?)))
            .collect();
        self.local.mark_unchanged();
        let mut known = Known {
            world,
            versions,
            goal: self.goal().await?,
            slots: false,
            hosts: BTreeSet::new(),
            znode: false,
            deleted: false,
        };
        let (mut others, mut sweep) = (0, SWEEP.0);
        info!(%rollout, hosts = known.world.hosts.len(), "this host is the steward of the rollout");
        loop {
            self.context.say(None, PART);
            self.catch_up(&mut known).await?;
            self.hear_of_check();
            let policy = std::sync::Arc::clone(&self.local.borrow().policy);
            let moment = Moment {
                now: self.clock.elapsed(),
                at: Timestamp::now(),
                by: self.context.host(),
            };
            let decision = decide(&known.world, &known.goal, &policy, &mut self.timers, moment);
            self.forgo_check(known.world.gate.state);
            let wait = match decision {
                Decision::Wait(wait) => wait,
                Decision::Check(which) => {
                    self.ask_for_check(which);
                    continue;
                }
                decision => {
                    self.enact(&mut known, decision).await?;
                    continue;
                }
            };
            let figures = self.figures(&known.world);
            let count = figures.hosts.get(&HostState::Other).copied().unwrap_or(0);
            if std::mem::replace(&mut others, count) < count {
                let znode = &known.goal.znode;
                warn!(%rollout, hosts = count, znode, "hosts whose watch of the rollout is of another znode take no part");
            }
            self.context.note_figures(figures);
            let wake = wait.map(|wait| Instant::now() + wait);
            tokio::select! {
                event = of_hosts.changed() => self.note(&mut known, event)?,
                event = of_slots.changed() => self.note(&mut known, event)?,
                changed = self.local.changed() => {
                    changed.map_err(|_| Trouble::Over)?;
                    known.znode |= self.local.borrow().seen != Some(known.goal.state);
                }
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
                () = sleep(sweep), if known.is_under_way() => {
                    let names = requests::children(client, &root.hosts()).await?;
                    let now = read_hosts(client, root, rollout, &names).await?;
                    let now: BTreeMap<_, _> = now.into_iter().filter_map(|(name, view)| Some((name, view?))).collect();
                    // What is read is told of before, if it is told of at all.
                    while let Some(event) = at_once(&mut of_hosts).await {
                        self.note(&mut known, event)?;
                    }
                    if known.hosts.is_empty() && now != known.world.hosts {
                        warn!(%rollout, "the servers have not told of what hosts have done; watching them anew");
                        return Err(RequestError::Disconnected.into());
                    }
                    sweep = (sweep * 2).min(SWEEP.1);
                    continue;
                }
            }
            sweep = SWEEP.0;
            if known.world.hosts.len() >= MANY {
                sleep(DECIDING.saturating_mul(known.world.hosts.len() as u32)).await;
            }
            for events in [&mut of_hosts, &mut of_slots] {
                while let Some(event) = at_once(events).await {
                    self.note(&mut known, event)?;
                }
            }
        }
    }

    /// Has the daemon run the check of a wave, by its own configuration.
    fn ask_for_check(&mut self, which: (u64, usize)) {
        let number = self.context.number();
        self.check = Some((number, which));
        self.timers.note_check(which, CheckAnswer::Asked);
        let watch = self.local.borrow().result.watch.clone();
        // Without a daemon there is nobody to be told.
        let _ = self.context.events.send(RolloutEvent {
            number,
            watch,
            wanted: Wanted::Check(which.1),
        });
    }

    /// Has the check ended that nobody waits for any more: the rollout is held, another change goes out, or hosts of the wave act again.
    fn forgo_check(&mut self, state: GateState) {
        let is_awaited = |of| state == GateState::Checking && self.timers.waits_for_check(of);
        if self.check.is_some_and(|(_, of)| !is_awaited(of)) {
            self.end_check();
        }
    }

    fn end_check(&mut self) {
        if self.check.take().is_some() {
            // Without a daemon there is nobody to be told.
            let _ = self.context.events.send(RolloutEvent {
                number: self.context.number(),
                watch: self.local.borrow().result.watch.clone(),
                wanted: Wanted::EndCheck,
            });
        }
    }

    /// Takes the answer to the check that was asked for last.
    fn hear_of_check(&mut self) {
        let Some((number, which)) = self.check else { return };
        let end = match &self.local.borrow().check {
            Some((of, end)) if *of == number => end.clone(),
            _ => return,
        };
        self.check = None;
        if !self.timers.waits_for_check(which) {
            return;
        }
        let answer = match end {
            CheckEnd::Good => CheckAnswer::Good,
            CheckEnd::NotYet => CheckAnswer::NotYet(self.clock.elapsed()),
            CheckEnd::Bad(why) => CheckAnswer::Bad(why),
        };
        self.timers.note_check(which, answer);
    }

    fn figures(&self, world: &World) -> Figures {
        let mut hosts = BTreeMap::new();
        for host in world.hosts.keys() {
            let is_lost = |host: &str| self.timers.is_lost(host, self.clock.elapsed(), world);
            if let Some(state) = world.host_state(host, is_lost) {
                *hosts.entry(state).or_default() += 1;
            }
        }
        Figures {
            state: world.gate.state,
            hosts,
            slots: world.occupied(),
            at_once: world.gate.at_once,
            since: Instant::now(),
        }
    }

    /// The state that the watched znode is in now.
    async fn goal(&self) -> Result<Goal, Trouble> {
        let (znode, kind) = {
            let local = self.local.borrow();
            (local.result.znode.clone(), local.result.kind)
        };
        if ZnodePath::new(znode.as_str()).is_err() {
            return Err(Trouble::Over);
        }
        requests::catch_up(&self.context.client).await?;
        let state = state_of(&self.context.client, &znode, kind).await?;
        Ok(Goal { znode, kind, state })
    }

    fn note(&self, known: &mut Known, event: WatchedEvent) -> Result<(), Trouble> {
        if event.event_type == EventType::Session {
            return Err(RequestError::Disconnected.into());
        }
        let root = &self.context.shared.options.root;
        let below = event.path.strip_prefix(root.hosts().as_str());
        let Some(below) = below.and_then(|below| below.strip_prefix('/')) else {
            known.slots |= event.path.starts_with(root.gate(&self.context.rollout).as_str());
            let grants = root.grants(&self.context.rollout);
            let is_grant = event
                .path
                .strip_prefix(grants.as_str())
                .is_some_and(|name| name.starts_with('/'));
            known.deleted |= is_grant && event.event_type == EventType::NodeDeleted;
            return Ok(());
        };
        let (host, what) = below.split_once('/').unwrap_or((below, ""));
        if what.is_empty() || what == LIVE || what == rollout_znode(&self.context.rollout) {
            known.hosts.insert(host.to_owned());
        }
        Ok(())
    }

    /// Reads again what may have changed.
    async fn catch_up(&self, known: &mut Known) -> Result<(), Trouble> {
        let (client, root, rollout) = (
            &self.context.client,
            &self.context.shared.options.root,
            &self.context.rollout,
        );
        if std::mem::take(&mut known.znode) {
            known.goal = self.goal().await?;
        }
        if !known.hosts.is_empty() {
            let names: Vec<String> = std::mem::take(&mut known.hosts).into_iter().collect();
            for (name, view) in read_hosts(client, root, rollout, &names).await? {
                match view {
                    Some(view) => drop(known.world.hosts.insert(name, view)),
                    None => drop(known.world.hosts.remove(&name)),
                }
            }
        }
        if std::mem::take(&mut known.slots) {
            let gate = requests::stat(client, &root.gate(rollout)).await?;
            let counter = requests::stat(client, &root.grants(rollout)).await?;
            let (Some(gate), Some(counter)) = (gate, counter) else {
                // Somebody has deleted it: it begins anew.
                return Err(RequestError::NoNode(root.gate(rollout)).into());
            };
            let now = Versions {
                gate: gate.version,
                counter: counter.version,
            };
            if std::mem::take(&mut known.deleted) || now != known.versions {
                let (world, versions) = read_slots(client, root, rollout).await?;
                let hosts = std::mem::take(&mut known.world.hosts);
                (known.world, known.versions) = (World { hosts, ..world }, versions);
            }
        }
        Ok(())
    }

    /// Does what was decided, if nobody was faster.
    async fn enact(&self, known: &mut Known, decision: Decision) -> Result<(), Trouble> {
        let (client, root, rollout) = (
            &self.context.client,
            &self.context.shared.options.root,
            &self.context.rollout,
        );
        let steps = match &decision {
            Decision::Set(gate) => set_gate(root, rollout, gate, known.versions),
            Decision::Slots(slots) => change_slots(root, rollout, &known.world, slots, known.versions),
            Decision::Wait(_) | Decision::Check(_) => return Ok(()),
        };
        match requests::transact(client, &root.gate(rollout), &steps).await {
            Ok(()) => {}
            Err(RequestError::BadVersion(_)) => {
                known.slots = true;
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        }
        match decision {
            Decision::Set(gate) => {
                say(rollout, &known.world.gate, &gate);
                known.world.gate = *gate;
                known.versions.gate += 1;
                if known.world.gate.state == GateState::Done {
                    let kept = rollback::keep(client, root, rollout, &known.world.gate, known.versions.gate).await;
                    if let Err(Trouble::Request(RequestError::BadVersion(_))) = kept {
                        known.slots = true;
                    } else {
                        kept?;
                    }
                }
            }
            Decision::Slots(slots) => {
                known.world.granted = slots.granted;
                known.versions.counter += 1;
                known.world.grants.retain(|host, _| !slots.deletes.contains(host));
                known.world.grants.extend(slots.grants);
            }
            Decision::Wait(_) | Decision::Check(_) => {}
        }
        Ok(())
    }
}

/// Tells of a gate that has changed.
fn say(rollout: &RolloutName, before: &Gate, gate: &Gate) {
    let (serial, wave, waves) = (gate.serial, gate.wave + 1, gate.plan.waves.len());
    match (gate.state, &gate.why) {
        (GateState::Halted, why) => {
            warn!(%rollout, serial, wave, waves, "the rollout is halted: {}", why.as_deref().unwrap_or("why is not said"));
        }
        _ if gate.serial != before.serial => {
            let state = gate
                .goal
                .as_ref()
                .map(|goal| goal.state.to_string())
                .unwrap_or_default();
            info!(%rollout, serial, %state, at_once = gate.at_once, waves, "a change goes out");
        }
        (state, _) => info!(%rollout, serial, wave, waves, "the rollout is {}", state.as_str()),
    }
}

/// An event that is there already.
async fn at_once(events: &mut PersistentWatcher) -> Option<WatchedEvent> {
    timeout(Duration::ZERO, events.changed()).await.ok()
}
