//! Rollouts: a change goes to so many hosts at once, wave by wave, and no further when hosts fail.
//!
//! # Who decides what
//!
//! One znode, the *gate*, says what state of the watched znode goes out and whether it may go on. Beside it a *counter* numbers the
//! slots. A host starts only when it holds a slot: a grant, which is a znode of its name below the counter. Any host with the rollout
//! can be its *steward*, who opens the gate and grants slots, and one is elected; but nothing depends on there being only one:
//!
//! - Every grant is made in a transaction that also takes the next number from the counter, and fails if anybody else has taken one
//!   meanwhile, or has changed the gate. Who grants has read all grants since: so two stewards, lost replies and old views cannot grant
//!   more slots than there are.
//! - Every start is written down in a transaction that fails if the gate or the host's grant is not what the host has just read. So in
//!   the order that ZooKeeper gives to all writes no host starts after a halt, a pause or an abort.
//! - A slot is given back by its host's own result, or taken back by an operator, never by time alone nor by a lost session. A host
//!   that takes no part any more has deleted its result; whoever takes its slot back then deletes the grant in the same transaction,
//!   so that it cannot come back to it.
//!
//! ```text
//! /twitcher/rollouts/repo           the gate            steward, operators
//!   /grants                         the counter         steward
//!     /web-01                       a slot              steward
//!   /steward                        ephemeral           steward
//!   /good, /good-before             data to go back to  steward
//! /twitcher/hosts/web-01/r.repo     where it stands     the host
//! ```
//!
//! It must not know what a watch runs.

mod after_wave;
mod context;
mod decide;
mod enact;
mod holder;
mod host;
#[cfg(test)]
mod model;
mod orders;
mod reading;
mod records;
mod rollback;
mod steward;
mod streak;
mod verbs;
mod waves;
mod world;

use std::time::Duration;

use tokio::time::timeout;

use crate::FleetRoot;
use crate::record::StateId;
use crate::requests::RequestError;
use crate::survey::SurveyError;
use twitcher_model::RolloutName;
use twitcher_source::zookeeper::KeptSession;

pub use context::{CheckEnd, Doing, Figures, LocalRollout, RolloutEvent, Said, Verification, Wanted};
pub(crate) use context::{Parts, RolloutContext, RolloutPart};
pub(crate) use orders::holds_slot;
pub use orders::{BrokenRollout, OrderError, RolloutSurvey, RolloutsFound};
pub use records::{Gate, GateState, Goal, Part, PartState, Plan, PlanWave, SlotId};
pub(crate) use steward::resign;
pub use streak::{After, Streak};
pub use verbs::{Verb, VerbError};
pub use world::{HostState, HostView, Standing, World};

/// How long an operator waits.
const PATIENCE: Duration = Duration::from_secs(20);

/// Takes part in a rollout, and is its steward when there is no other; until the session is over, or it is dropped.
pub(crate) async fn take_part(context: RolloutContext, local: tokio::sync::watch::Receiver<LocalRollout>) {
    tokio::join!(host::run(context.clone(), local.clone()), steward::run(context, local));
}

/// Looks at one rollout.
pub(crate) async fn survey(
    session: &KeptSession,
    root: &FleetRoot,
    rollout: RolloutName,
) -> Result<Vec<RolloutSurvey>, SurveyError> {
    let look = async {
        let client = session.connected().await.client.clone();
        let looked = orders::look(&client, root, &rollout).await;
        let found = looked.map_err(|trouble| match trouble.is_spoilt() {
            true => SurveyError::Spoilt {
                why: trouble.to_string(),
                gate: root.gate(&rollout),
            },
            false => SurveyError::Unreadable(trouble.to_string()),
        })?;
        Ok(found.into_iter().collect())
    };
    timeout(PATIENCE, look).await.unwrap_or(Err(SurveyError::Late))
}

/// Looks at all rollouts. What is wrong with one hides no other.
pub(crate) async fn survey_all(session: &KeptSession, root: &FleetRoot) -> Result<RolloutsFound, SurveyError> {
    let look = async {
        let client = session.connected().await.client.clone();
        let unreadable = |trouble: context::Trouble| SurveyError::Unreadable(trouble.to_string());
        let mut found = RolloutsFound::default();
        for name in orders::names(&client, root).await.map_err(unreadable)? {
            match orders::look(&client, root, &name).await {
                Ok(looked) => found.rollouts.extend(looked),
                Err(trouble @ context::Trouble::Request(RequestError::Disconnected)) => {
                    return Err(unreadable(trouble));
                }
                Err(trouble) => found.broken.push(BrokenRollout {
                    why: trouble.to_string(),
                    spoilt: trouble.is_spoilt().then(|| root.gate(&name)),
                    name,
                }),
            }
        }
        Ok(found)
    };
    timeout(PATIENCE, look).await.unwrap_or(Err(SurveyError::Late))
}

/// Does what an operator wants of a rollout.
pub(crate) async fn order(
    session: &KeptSession,
    root: &FleetRoot,
    rollout: &RolloutName,
    verb: Verb,
    by: &str,
) -> Result<(), OrderError> {
    let done = async {
        let session = session.connected().await;
        orders::order(&session.client, root, rollout, verb, by)
            .await
            .map(drop)
            .map_err(|error| error.of(root.gate(rollout)))
    };
    timeout(PATIENCE, done)
        .await
        .unwrap_or_else(|_| Err(RequestError::Disconnected.into()))
}

/// Sets the znode to what all hosts had before.
pub(crate) async fn roll_back(
    session: &KeptSession,
    root: &FleetRoot,
    rollout: &RolloutName,
    seen: Option<(String, StateId)>,
    by: &str,
) -> Result<(), OrderError> {
    let done = async {
        let session = session.connected().await;
        rollback::roll_back(&session.client, root, rollout, seen, by)
            .await
            .map_err(|error| error.of(root.gate(rollout)))
    };
    timeout(PATIENCE, done)
        .await
        .unwrap_or_else(|_| Err(RequestError::Disconnected.into()))
}

/// Takes back the slot of a host.
pub(crate) async fn release(
    session: &KeptSession,
    root: &FleetRoot,
    rollout: &RolloutName,
    host: &str,
    by: &str,
) -> Result<(), OrderError> {
    let done = async {
        let session = session.connected().await;
        orders::release(&session.client, root, rollout, host, by)
            .await
            .map_err(|error| error.of(root.gate(rollout)))
    };
    timeout(PATIENCE, done)
        .await
        .unwrap_or_else(|_| Err(RequestError::Disconnected.into()))
}
