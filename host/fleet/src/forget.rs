//! Forgetting a host: what it has left in the fleet is deleted, because an operator says that it is gone for good.
//!
//! A host that is there is never forgotten. While it is done the host's presence is taken in its stead, by an ephemeral of this session:
//! the host cannot come back in the middle, and whatever happens to this daemon the name is free again.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;
use zookeeper_client::{Client, CreateMode};

use super::identity::HostId;
use super::layout::{FleetRoot, LIVE};
use super::record::{self, FormatVersion, LiveRecord};
use super::requests::{self, Owner, RequestError, STEWARDS_ONLY};
use super::rollout::holds_slot;
use twitcher_model::ZnodePath;
use twitcher_source::zookeeper::{KeptSession, OpenSession};

/// How long it may take until there is a connection.
const PATIENCE: Duration = Duration::from_secs(10);

/// Most znodes that are deleted in one transaction.
const BATCH: usize = 200;

/// What of a host was there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Forgotten {
    /// So many znodes below that of the host.
    pub znodes: usize,
}

/// Why a host was not forgotten.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ForgetError {
    /// The fleet does not know it.
    #[error("there is no such host in the fleet")]
    Unknown,
    /// It would come back at once.
    #[error("its daemon is in the fleet")]
    Live,
    /// Its action may still run, and its slot would be somebody else's.
    #[error("it holds a slot of the rollout {0}")]
    HoldsSlot(String),
    /// ZooKeeper does not answer, or says no.
    #[error("{0}")]
    Refused(String),
}

impl From<RequestError> for ForgetError {
    fn from(error: RequestError) -> Self {
        Self::Refused(match &error {
            RequestError::Denied(_) => format!("{error}: {STEWARDS_ONLY}"),
            _ => error.to_string(),
        })
    }
}

/// Forgets a host. `id` is that of the host that does it. To be polled to its end, or the name may not be free before the session ends.
pub(crate) async fn forget(
    kept: &KeptSession,
    root: &FleetRoot,
    host: &str,
    id: Option<&HostId>,
) -> Result<Forgotten, ForgetError> {
    let session = timeout(PATIENCE, kept.connected()).await;
    let session = session.map_err(|_| RequestError::Disconnected)?;
    let OpenSession { client, .. } = &session;
    let path = root.host(host);
    if host.contains('/') || ZnodePath::new(path.as_str()).is_err() {
        return Err(ForgetError::Unknown);
    }
    requests::catch_up(client).await?;
    if requests::stat(client, &path).await?.is_none() {
        return Err(ForgetError::Unknown);
    }
    if let Some(rollout) = holds_slot(client, root, host).await.map_err(ForgetError::Refused)? {
        return Err(ForgetError::HoldsSlot(rollout.to_string()));
    }
    let live = format!("{path}/{LIVE}");
    if requests::stat(client, &live)
        .await?
        .is_some_and(|stat| stat.ephemeral_owner == 0)
    {
        // It says nothing about whether the host is there.
        requests::delete(client, &live).await?;
    }
    let presence = LiveRecord {
        v: FormatVersion,
        id: id.map(|id| id.as_str().to_owned()).unwrap_or_default(),
        boot: String::new(),
        since: Timestamp::now(),
        rollouts: Vec::new(),
    };
    let mut own = Owner::of(kept);
    match requests::create_own(
        client,
        &live,
        &record::write(&presence),
        CreateMode::Ephemeral,
        &mut own,
    )
    .await
    {
        Ok(()) => {}
        Err(RequestError::NodeExists(_)) => return Err(ForgetError::Live),
        Err(RequestError::NoNode(_)) => return Err(ForgetError::Unknown),
        Err(error) => return Err(error.into()),
    }
    let deleted = delete(client, &path, &live).await;
    if deleted.is_err()
        && let Err(error) = requests::delete(client, &live).await
        && !matches!(error, RequestError::NoNode(_))
    {
        // It goes with the session then; the host could not come back before.
        session.give_up();
    }
    Ok(deleted?)
}

/// Deletes all that is below a host's znode, and at last that and the presence together.
async fn delete(client: &Client, path: &str, live: &str) -> Result<Forgotten, RequestError> {
    let mut names = requests::children(client, path).await?;
    names.retain(|name| name != LIVE);
    for names in names.chunks(BATCH) {
        let mut transaction = client.new_multi_writer();
        for name in names {
            let child = format!("{path}/{name}");
            let added = transaction.add_delete(&child, None);
            added.map_err(|error| RequestError::Failed(child, error))?;
        }
        requests::commit(path, transaction).await?;
    }
    let mut transaction = client.new_multi_writer();
    let mut add = || {
        transaction.add_delete(live, None)?;
        transaction.add_delete(path, None)
    };
    add().map_err(|error| RequestError::Failed(path.to_owned(), error))?;
    requests::commit(path, transaction).await?;
    Ok(Forgotten { znodes: names.len() })
}
