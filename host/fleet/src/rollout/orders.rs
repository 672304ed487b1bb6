//! What operators ask of a rollout and do to it. Whoever does it need not be its steward: the gate's version keeps them apart.

use jiff::Timestamp;
use zookeeper_client::Client;

use super::context::Trouble;
use super::decide::Slots;
use super::enact::{change_slots, set_gate};
use super::reading::{read_hosts, read_slots, state_of};
use super::records::{Gate, Grant, StewardRecord};
use super::verbs::{self, Verb, VerbError};
use super::world::{HostState, World};
use crate::record::{self, StateId};
use crate::requests::{self, RequestError, STEWARDS_ONLY};
use twitcher_model::{RolloutName, ZnodePath};

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

/// A rollout of which nothing can be said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenRollout {
    /// Its name.
    pub name: RolloutName,
    /// What is wrong with its znodes.
    pub why: String,
    /// The znode of the rollout, if it makes no sense: it has to go.
    pub spoilt: Option<String>,
}

/// The rollouts of a fleet.
#[derive(Debug, Clone, Default)]
pub struct RolloutsFound {
    /// Those that can be read.
    pub rollouts: Vec<RolloutSurvey>,
    /// The others.
    pub broken: Vec<BrokenRollout>,
}

impl From<Vec<RolloutSurvey>> for RolloutsFound {
    fn from(rollouts: Vec<RolloutSurvey>) -> Self {
        Self {
            rollouts,
            broken: Vec::new(),
        }
    }
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
    /// There is a newer change, which would go out all the same.
    #[error(
        "znode {0} has changed since, and no steward has taken that up yet: it would go out all the same. Say it again in a moment, or pause, \
         which holds the next change as well"
    )]
    NotTakenUp(String),
    /// What there is to go back from is not what the operator can have seen here.
    #[error("znode {0} is not what this host has seen last: look at what goes out now, and say it again")]
    Newer(String),
    /// Somebody else has written, or deleted, what belongs to the rollout.
    #[error("the rollout cannot be read: {why}")]
    Spoilt {
        /// What there is.
        why: String,
        /// The znode of the rollout.
        gate: String,
    },
    /// ZooKeeper does not answer, or says no.
    #[error("{0}")]
    Refused(String),
}

impl From<Trouble> for OrderError {
    fn from(trouble: Trouble) -> Self {
        match &trouble {
            Trouble::Request(RequestError::Denied(_)) => Self::Refused(format!("{trouble}: {STEWARDS_ONLY}")),
            _ if trouble.is_spoilt() => Self::Spoilt {
                why: trouble.to_string(),
                gate: String::new(),
            },
            _ => Self::Refused(trouble.to_string()),
        }
    }
}

impl From<RequestError> for OrderError {
    fn from(error: RequestError) -> Self {
        Trouble::from(error).into()
    }
}

impl OrderError {
    /// The same of a rollout with this gate.
    pub(crate) fn of(self, gate: String) -> Self {
        match self {
            Self::Spoilt { why, .. } => Self::Spoilt { why, gate },
            other => other,
        }
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
        if let (Verb::Abort, Some(goal), Some(newest)) = (verb, &world.gate.goal, survey.newest)
            && goal.state != newest
        {
            return Err(OrderError::NotTakenUp(goal.znode.clone()));
        }
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
        let slots = Slots {
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

/// A rollout of which a host holds a slot, if there is one.
pub(crate) async fn holds_slot(
    client: &Client,
    root: &crate::FleetRoot,
    host: &str,
) -> Result<Option<RolloutName>, String> {
    let held = async {
        for rollout in names(client, root).await? {
            let path = root.grant(&rollout, host);
            if requests::stat(client, &path).await?.is_none() {
                continue;
            }
            let hosts = read_hosts(client, root, &rollout, &[host.to_owned()]).await?;
            let (mut world, _) = read_slots(client, root, &rollout).await?;
            world.hosts = hosts
                .into_iter()
                .filter_map(|(name, view)| Some((name, view?)))
                .collect();
            // Without a result of its own it has left the rollout.
            let takes_part = world.hosts.get(host).is_some_and(|view| view.part.is_some());
            if takes_part && world.held(host).is_some() {
                return Ok(Some(rollout));
            }
        }
        Ok(None)
    };
    held.await.map_err(|trouble: Trouble| trouble.to_string())
}
