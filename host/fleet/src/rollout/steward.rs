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

use super::decide::{Decision, HostState, HostView, Moment, Timers, World, decide};
use super::enact::{Versions, change_slots, set_gate};
use super::host::{Desk, Figures, LocalRollout, Trouble, parse};
use super::records::{Counter, Gate, GateState, Goal, Grant, Plan, StewardRecord};
use super::rollback;
use super::verbs::{self, Verb, VerbError};
use crate::layout::{LIVE, rollout_znode};
use crate::record::{self, FormatVersion, HostRecord, LiveRecord, StateId, WatchResult};
use crate::requests::{self, Owner, Reply, RequestError, Step, Znode};
use twitcher_model::{RolloutName, WatchType, ZnodePath};
use zookeeper_client::Client;

/// Hosts that are read at once.
const AT_ONCE: usize = 60;

/// Becomes the steward whenever there is none.
pub(crate) async fn run(desk: Desk, local: watch::Receiver<LocalRollout>) {
    let part = |is_steward: bool| {
        if let Some(part) = desk.shared.state().parts.all.get_mut(&desk.rollout) {
            part.said.is_steward = is_steward;
            part.said.figures = None;
        }
    };
    let candidate = async || {
        be_elected(&desk).await?;
        part(true);
        let Err(trouble) = Steward::new(&desk, local.clone()).serve().await;
        part(false);
        // Somebody else may be able to.
        resign(&desk.client, &desk.shared.options.root.steward(&desk.rollout)).await;
        Err(trouble)
    };
    desk.keep("its part as the steward of the rollout", candidate).await;
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
async fn be_elected(desk: &Desk) -> Result<(), Trouble> {
    make_rollout(desk).await?;
    let (client, path) = (&desk.client, desk.shared.options.root.steward(&desk.rollout));
    let ours = StewardRecord {
        v: FormatVersion,
        host: desk.host().to_owned(),
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
                sleep(desk.turn.mul_f64(fastrand::f64())).await;
                if requests::stat(client, &path).await?.is_some() {
                    continue;
                }
                let create = Owner::All.options(CreateMode::Ephemeral);
                match requests::create(client, &path, &record::write(&ours), &create).await {
                    Ok(()) | Err(RequestError::NodeExists(_)) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
}

/// Makes the znodes of the rollout, where they are not there yet.
async fn make_rollout(desk: &Desk) -> Result<(), Trouble> {
    let (client, root) = (&desk.client, &desk.shared.options.root);
    let (gate, grants) = (desk.gate_path(), desk.grants_path());
    if requests::stat(client, &root.rollouts()).await?.is_none() {
        let create = Owner::All.options(CreateMode::Persistent);
        match requests::create(client, &root.rollouts(), &[], &create).await {
            Ok(()) | Err(RequestError::NodeExists(_)) => {}
            Err(error) => return Err(error.into()),
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
        by: desk.host().to_owned(),
    };
    let counter = Counter {
        v: FormatVersion,
        granted: 0,
    };
    let steps = [
        Step::Create(gate.clone(), record::write(&first), Owner::All),
        Step::Create(grants, record::write(&counter), Owner::All),
    ];
    match requests::transact(client, &gate, &steps).await {
        Ok(()) | Err(RequestError::NodeExists(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Gate, counter and grants of a rollout; the grants are read last, so that any that is missing has changed the counter.
pub(super) async fn read_slots(
    client: &Client,
    root: &crate::FleetRoot,
    rollout: &RolloutName,
) -> Result<(World, Versions), Trouble> {
    let (gate_path, grants_path) = (root.gate(rollout), root.grants(rollout));
    let mut read = requests::read_all(client, &[grants_path.clone(), gate_path.clone()])
        .await
        .into_iter();
    let mut take = |path: &str| -> Result<Znode, Trouble> {
        let znode = read.next().unwrap_or(Ok(None))?;
        znode.ok_or_else(|| RequestError::NoNode(path.to_owned()).into())
    };
    let (counter, counter_version) = parse::<Counter>(&grants_path, take(&grants_path)?)?;
    let (gate, gate_version) = parse::<Gate>(&gate_path, take(&gate_path)?)?;
    let names = requests::children(client, &grants_path).await?;
    let paths: Vec<String> = names.iter().map(|name| root.grant(rollout, name)).collect();
    let mut grants = BTreeMap::new();
    for ((name, path), read) in names
        .into_iter()
        .zip(&paths)
        .zip(requests::read_all(client, &paths).await)
    {
        if let Some(znode) = read? {
            let (grant, _) = parse::<Grant>(path, znode)?;
            grants.insert(name, grant);
        }
    }
    let world = World {
        gate,
        granted: counter.granted,
        grants,
        hosts: BTreeMap::new(),
    };
    let versions = Versions {
        gate: gate_version,
        counter: counter_version,
    };
    Ok((world, versions))
}

/// Hosts as they are seen by a rollout.
async fn read_hosts(
    client: &Client,
    root: &crate::FleetRoot,
    rollout: &RolloutName,
    names: &[String],
) -> Reply<Vec<(String, Option<HostView>)>> {
    let mut hosts = Vec::with_capacity(names.len());
    for some in names.chunks(AT_ONCE) {
        let of = |name: &String| {
            let host = root.host(name);
            [
                host.clone(),
                format!("{host}/{LIVE}"),
                format!("{host}/{}", rollout_znode(rollout)),
            ]
        };
        let paths: Vec<String> = some.iter().flat_map(of).collect();
        let mut read = requests::read_all(client, &paths).await.into_iter();
        for name in some {
            let mut take = || read.next().unwrap_or(Ok(None));
            let (record, live, result) = (take(), take(), take());
            hosts.push((name.clone(), view(record, live, result)?));
        }
    }
    Ok(hosts)
}

/// What cannot be read frees no slot.
fn view(
    record: Reply<Option<Znode>>,
    live: Reply<Option<Znode>>,
    result: Reply<Option<Znode>>,
) -> Reply<Option<HostView>> {
    let mut garbled = false;
    let mut take = |reply: Reply<Option<Znode>>| match reply {
        Err(RequestError::Disconnected) => Err(RequestError::Disconnected),
        Ok(znode) => Ok(znode),
        Err(_) => {
            garbled = true;
            Ok(None)
        }
    };
    let (record, live, result) = (take(record)?, take(live)?, take(result)?);
    if record.is_none() && !garbled {
        return Ok(None);
    }
    let mut text = |znode: Option<Znode>| {
        znode.and_then(|znode| {
            garbled |= znode.data.is_none();
            znode.data
        })
    };
    let labels = text(record)
        .and_then(|data| record::read::<HostRecord>(&data).ok())
        .map(|record| record.labels);
    let is_live = live.as_ref().is_some_and(|znode| znode.stat.ephemeral_owner != 0);
    let is_live = is_live && text(live).is_some_and(|data| record::read::<LiveRecord>(&data).is_ok());
    let result = text(result).map(|data| record::read::<WatchResult>(&data));
    let result = match result {
        Some(Ok(result)) if result.part.is_some() => Some(result),
        Some(_) => {
            garbled = true;
            None
        }
        None => None,
    };
    Ok(Some(HostView::of(is_live, labels.unwrap_or_default(), result, garbled)))
}

struct Steward<'a> {
    desk: &'a Desk,
    local: watch::Receiver<LocalRollout>,
    clock: Instant,
    timers: Timers,
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
}

impl<'a> Steward<'a> {
    fn new(desk: &'a Desk, local: watch::Receiver<LocalRollout>) -> Self {
        Self {
            desk,
            local,
            clock: Instant::now(),
            timers: Timers::default(),
        }
    }

    async fn serve(mut self) -> Result<Infallible, Trouble> {
        let (client, root, rollout) = (&self.desk.client, &self.desk.shared.options.root, &self.desk.rollout);
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
        };
        info!(%rollout, hosts = known.world.hosts.len(), "this host is the steward of the rollout");
        loop {
            self.desk.say(None, "its part as the steward of the rollout");
            self.catch_up(&mut known).await?;
            let policy = std::sync::Arc::clone(&self.local.borrow().policy);
            let moment = Moment {
                now: self.clock.elapsed(),
                at: Timestamp::now(),
                by: self.desk.host(),
            };
            let decision = decide(&known.world, &known.goal, &policy, &mut self.timers, moment);
            let wait = match decision {
                Decision::Wait(wait) => wait,
                decision => {
                    self.enact(&mut known, decision).await?;
                    continue;
                }
            };
            self.desk.note_figures(self.figures(&known.world));
            let wake = wait.map(|wait| Instant::now() + wait);
            tokio::select! {
                event = of_hosts.changed() => self.note(&mut known, event)?,
                event = of_slots.changed() => self.note(&mut known, event)?,
                changed = self.local.changed() => {
                    changed.map_err(|_| Trouble::Over)?;
                    known.znode |= self.local.borrow().seen != Some(known.goal.state);
                }
                () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            }
            for events in [&mut of_hosts, &mut of_slots] {
                while let Some(event) = at_once(events).await {
                    self.note(&mut known, event)?;
                }
            }
        }
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
        requests::catch_up(&self.desk.client).await?;
        let state = state_of(&self.desk.client, &znode, kind).await?;
        Ok(Goal { znode, kind, state })
    }

    fn note(&self, known: &mut Known, event: WatchedEvent) -> Result<(), Trouble> {
        if event.event_type == EventType::Session {
            return Err(RequestError::Disconnected.into());
        }
        let root = &self.desk.shared.options.root;
        let below = event.path.strip_prefix(root.hosts().as_str());
        let Some(below) = below.and_then(|below| below.strip_prefix('/')) else {
            known.slots |= event.path.starts_with(root.gate(&self.desk.rollout).as_str());
            return Ok(());
        };
        let (host, what) = below.split_once('/').unwrap_or((below, ""));
        if what.is_empty() || what == LIVE || what == rollout_znode(&self.desk.rollout) {
            known.hosts.insert(host.to_owned());
        }
        Ok(())
    }

    /// Reads again what may have changed.
    async fn catch_up(&self, known: &mut Known) -> Result<(), Trouble> {
        let (client, root, rollout) = (&self.desk.client, &self.desk.shared.options.root, &self.desk.rollout);
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
            if now != known.versions {
                let (world, versions) = read_slots(client, root, rollout).await?;
                let hosts = std::mem::take(&mut known.world.hosts);
                (known.world, known.versions) = (World { hosts, ..world }, versions);
            }
        }
        Ok(())
    }

    /// Does what was decided, if nobody was faster.
    async fn enact(&self, known: &mut Known, decision: Decision) -> Result<(), Trouble> {
        let (client, root, rollout) = (&self.desk.client, &self.desk.shared.options.root, &self.desk.rollout);
        let steps = match &decision {
            Decision::Set(gate) => set_gate(root, rollout, gate, known.versions),
            Decision::Slots(slots) => change_slots(root, rollout, &known.world, slots, known.versions),
            Decision::Wait(_) => return Ok(()),
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
            Decision::Wait(_) => {}
        }
        Ok(())
    }
}

/// The state that a znode is in.
async fn state_of(client: &Client, znode: &str, kind: WatchType) -> Reply<StateId> {
    let stat = requests::stat(client, znode).await?;
    Ok(match (stat, kind) {
        (None, _) => StateId::Absent,
        (Some(stat), WatchType::Children) => StateId::Zxid(stat.pzxid),
        (Some(stat), _) => StateId::Zxid(stat.mzxid),
    })
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

/// What there is to be known of a rollout.
#[derive(Debug, Clone)]
pub struct RolloutSurvey {
    /// Its name.
    pub name: RolloutName,
    /// What goes out, the slots and the hosts.
    pub world: World,
    /// The steward, if there is one.
    pub steward: Option<String>,
    /// The state that the znode is in whose changes go out, where that is known.
    pub newest: Option<StateId>,
    /// Each host that takes part, with where it stands and since when it is there.
    pub hosts: Vec<(String, HostState)>,
}

/// Looks at a rollout; none if there is no such.
pub(crate) async fn look(
    client: &Client,
    root: &crate::FleetRoot,
    rollout: &RolloutName,
) -> Result<Option<RolloutSurvey>, Trouble> {
    requests::catch_up(client).await?;
    if requests::stat(client, &root.gate(rollout)).await?.is_none() {
        return Ok(None);
    }
    let names = requests::children(client, &root.hosts()).await?;
    let hosts = read_hosts(client, root, rollout, &names).await?;
    let (mut world, _) = read_slots(client, root, rollout).await?;
    world.hosts = hosts
        .into_iter()
        .filter_map(|(name, view)| Some((name, view?)))
        .collect();
    let steward = requests::read(client, &root.steward(rollout)).await?;
    let steward = steward.and_then(|znode| record::read::<StewardRecord>(&znode.data?).ok());
    // Whoever looks once has not seen for how long somebody is away.
    let is_away = |host: &str| !world.hosts.get(host).is_some_and(|view| view.live);
    let hosts = world
        .hosts
        .keys()
        .filter_map(|host| Some((host.clone(), world.host_state(host, is_away)?)));
    let hosts = hosts.collect();
    let newest = match &world.gate.goal {
        Some(goal) if ZnodePath::new(goal.znode.as_str()).is_ok() => {
            state_of(client, &goal.znode, goal.kind).await.ok()
        }
        _ => None,
    };
    Ok(Some(RolloutSurvey {
        name: rollout.clone(),
        newest,
        steward: steward.map(|steward| steward.host),
        world,
        hosts,
    }))
}

/// The rollouts of a fleet, by name.
pub(crate) async fn names(client: &Client, root: &crate::FleetRoot) -> Result<Vec<RolloutName>, Trouble> {
    match requests::children(client, &root.rollouts()).await {
        Ok(names) => Ok(names.iter().filter_map(|name| name.parse().ok()).collect()),
        Err(RequestError::NoNode(_)) => Ok(Vec::new()),
        Err(error) => Err(error.into()),
    }
}

/// Why an operator's word was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// There is no such rollout.
    #[error("there is no such rollout in the fleet")]
    Unknown,
    /// It cannot be done now.
    #[error(transparent)]
    Verb(#[from] VerbError),
    /// The host has no slot.
    #[error("that host holds no slot")]
    NoSlot,
    /// There is nothing to go back to.
    #[error(
        "the last two changes that all hosts have got are kept, up to 64 KiB each, and there is none but what the znode is now: set it yourself"
    )]
    NothingKept,
    /// ZooKeeper does not answer, or says no.
    #[error("{0}")]
    Refused(String),
}

impl From<Trouble> for OrderError {
    fn from(trouble: Trouble) -> Self {
        Self::Refused(trouble.to_string())
    }
}

impl From<RequestError> for OrderError {
    fn from(error: RequestError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// How often it is tried where others change the rollout at the same time.
const TRIES: u32 = 20;

/// Does what an operator wants of a rollout.
pub(crate) async fn order(
    client: &Client,
    root: &crate::FleetRoot,
    rollout: &RolloutName,
    verb: Verb,
    by: &str,
) -> Result<Gate, OrderError> {
    for _ in 0..TRIES {
        let Some(survey) = look(client, root, rollout).await? else {
            return Err(OrderError::Unknown);
        };
        let (world, versions) = read_slots(client, root, rollout).await?;
        let failed = survey
            .hosts
            .iter()
            .any(|(_, state)| matches!(state, HostState::Failed | HostState::Lost));
        let gate = verbs::apply(&world.gate, verb, (world.granted, failed), (Timestamp::now(), by))?;
        let steps = set_gate(root, rollout, &gate, versions);
        match requests::transact(client, &root.gate(rollout), &steps).await {
            Ok(()) => return Ok(gate),
            Err(RequestError::BadVersion(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(RequestError::BadVersion(root.gate(rollout)).into())
}

/// Takes back the slot of a host.
pub(crate) async fn release(
    client: &Client,
    root: &crate::FleetRoot,
    rollout: &RolloutName,
    host: &str,
    by: &str,
) -> Result<(), OrderError> {
    for _ in 0..TRIES {
        let Some(survey) = look(client, root, rollout).await? else {
            return Err(OrderError::Unknown);
        };
        let Some(held) = survey.world.held(host) else {
            return Err(OrderError::NoSlot);
        };
        let (world, versions) = read_slots(client, root, rollout).await?;
        if world.grants.get(host) != Some(held) {
            continue;
        }
        let slots = super::decide::Slots {
            grants: vec![(
                host.to_owned(),
                Grant {
                    taken_back: Some(by.to_owned()),
                    ..held.clone()
                },
            )],
            deletes: Vec::new(),
            granted: world.granted,
        };
        let steps = change_slots(root, rollout, &world, &slots, versions);
        match requests::transact(client, &root.gate(rollout), &steps).await {
            Ok(()) => return Ok(()),
            Err(RequestError::BadVersion(_)) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(RequestError::BadVersion(root.grants(rollout)).into())
}
