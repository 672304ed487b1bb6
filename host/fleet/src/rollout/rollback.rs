//! Going back: the data of the last change that all hosts have got is kept, and set again when an operator says so.
//!
//! Going back is a change as any other, which goes out by the same slots, but without waves. It never happens by itself.

use jiff::Timestamp;
use zookeeper_client::Client;

use super::context::Trouble;
use super::orders::OrderError;
use super::reading::read_slots;
use super::records::{Gate, GateState};
use crate::FleetRoot;
use crate::record::{self, StateId};
use crate::requests::{self, Owner, RequestError, Step};
use twitcher_model::{RolloutName, WatchType, ZnodePath};

/// Most bytes of a znode's data that are kept.
const DATA_MAX: usize = 64 << 10;

/// Keeps what all hosts have got now, unless it is something that cannot be set again.
pub(super) async fn keep(
    client: &Client,
    root: &FleetRoot,
    rollout: &RolloutName,
    gate: &Gate,
    version: i32,
) -> Result<(), Trouble> {
    let Some(goal) = gate.goal.as_ref().filter(|goal| goal.kind == WatchType::Data) else {
        return Ok(());
    };
    if ZnodePath::new(goal.znode.as_str()).is_err() {
        return Ok(());
    }
    let Some((data, stat)) = requests::data(client, &goal.znode, DATA_MAX).await? else {
        return Ok(());
    };
    let (good, before) = (root.good(rollout), root.good_before(rollout));
    let known = requests::data(client, &good, DATA_MAX).await?;
    let is_known = known.as_ref().is_some_and(|(known, _)| *known == data);
    if StateId::Zxid(stat.mzxid) != goal.state || is_known {
        return Ok(());
    }
    let mut steps = vec![Step::Check(root.gate(rollout), version)];
    let mut put = |path: String, exists: bool, data: Vec<u8>| {
        steps.push(match exists {
            true => Step::Set(path, data, None),
            // It may be a copy of what not everybody may read.
            false => Step::Create(path, data, Owner::PrivateLike(root.rollouts())),
        });
    };
    if let Some((known, _)) = known {
        let exists = requests::stat(client, &before).await?.is_some();
        put(before, exists, known);
        put(good, true, data);
    } else {
        let exists = requests::stat(client, &good).await?.is_some();
        put(good, exists, data);
    }
    requests::transact(client, &root.gate(rollout), &steps).await?;
    Ok(())
}

/// Sets the znode to what all hosts had before what goes out now. `seen` is what this host had seen of it when it was asked: a word that
/// has waited for a session, or for a process that was stopped, must not undo a change that came after it.
pub(crate) async fn roll_back(
    client: &Client,
    root: &FleetRoot,
    rollout: &RolloutName,
    seen: Option<(String, StateId)>,
    by: &str,
) -> Result<(), OrderError> {
    requests::catch_up(client).await?;
    let path = root.gate(rollout);
    if requests::stat(client, &path).await?.is_none() {
        return Err(OrderError::Unknown);
    }
    let (world, versions) = read_slots(client, root, rollout).await?;
    let gate = world.gate;
    let Some(goal) = gate.goal.clone().filter(|goal| goal.kind == WatchType::Data) else {
        return Err(OrderError::NothingKept);
    };
    let Ok(znode) = ZnodePath::new(goal.znode.as_str()) else {
        return Err(OrderError::NothingKept);
    };
    let current = requests::data(client, &goal.znode, usize::MAX).await?;
    let state = current
        .as_ref()
        .map_or(StateId::Absent, |(_, stat)| StateId::Zxid(stat.mzxid));
    if seen.is_some_and(|seen| is_newer(&seen, (&goal.znode, state))) {
        return Err(OrderError::Newer(goal.znode));
    }
    let mut kept = None;
    for path in [root.good(rollout), root.good_before(rollout)] {
        let found = requests::data(client, &path, DATA_MAX).await?;
        // What is there now is what is to be left.
        let differs = |(data, _): &(Vec<u8>, _)| current.as_ref().is_none_or(|(current, _)| current != data);
        if let Some((data, _)) = found.filter(differs) {
            kept = Some(data);
            break;
        }
    }
    let Some(kept) = kept else {
        return Err(OrderError::NothingKept);
    };
    let next = Gate {
        revert: Some(gate.serial + 1),
        // Whoever goes back wants that to go out, also after a halt or while it is paused.
        state: match gate.state {
            GateState::Paused => GateState::Aborted,
            state => state,
        },
        before: None,
        since: Timestamp::now(),
        by: by.to_owned(),
        ..gate
    };
    let set = match current {
        // Whoever has changed it meanwhile has something else in mind.
        Some((_, stat)) => Step::Set(goal.znode.clone(), kept, Some(stat.version)),
        // Whoever may make and delete znodes there could set it, too.
        None => {
            let parent = znode.parent().map(|parent| parent.to_string());
            Step::Create(goal.znode.clone(), kept, Owner::Like(parent.unwrap_or_default()))
        }
    };
    let steps = [Step::Set(path.clone(), record::write(&next), Some(versions.gate)), set];
    match requests::transact(client, &path, &steps).await {
        Err(RequestError::Denied(_)) => Err(RequestError::Denied(goal.znode).into()),
        done => Ok(done?),
    }
}

/// Whether a znode is not what a host has seen of it.
fn is_newer((znode, seen): &(String, StateId), (now_of, now): (&str, StateId)) -> bool {
    znode == now_of && *seen != now
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_another_state_of_the_same_znode_is_newer() {
        let seen = ("/git/head".to_owned(), StateId::Zxid(7));
        assert!(is_newer(&seen, ("/git/head", StateId::Zxid(8))));
        assert!(is_newer(&seen, ("/git/head", StateId::Absent)));
        assert!(!is_newer(&seen, ("/git/head", StateId::Zxid(7))));
        // A host whose watch of the rollout is of another znode has nothing to say of this one.
        assert!(!is_newer(&seen, ("/git/other", StateId::Zxid(8))));
    }
}
