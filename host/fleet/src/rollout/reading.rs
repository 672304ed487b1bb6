//! Reading a rollout: its gate, its slots, and what its hosts say.
//!
//! What cannot be read, or makes no sense, frees no slot and starts no host.

use std::collections::BTreeMap;

use zookeeper_client::Client;

use super::context::{Trouble, parse};
use super::enact::Versions;
use super::records::{Counter, Gate, Grant};
use super::world::{HostView, World};
use crate::layout::{LIVE, rollout_znode};
use crate::record::{self, HostRecord, LiveRecord, StateId, WatchResult};
use crate::requests::{self, Reply, RequestError, Znode};
use twitcher_model::{RolloutName, WatchType};

/// Hosts that are read at once.
const AT_ONCE: usize = 60;

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
pub(super) async fn read_hosts(
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

/// The state that a znode is in.
pub(super) async fn state_of(client: &Client, znode: &str, kind: WatchType) -> Reply<StateId> {
    let stat = requests::stat(client, znode).await?;
    Ok(match (stat, kind) {
        (None, _) => StateId::Absent,
        (Some(stat), WatchType::Children) => StateId::Zxid(stat.pzxid),
        (Some(stat), _) => StateId::Zxid(stat.mzxid),
    })
}
