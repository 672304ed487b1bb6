//! A znode with everything below it: listed, deleted. It is no snapshot: others may change it meanwhile.

use tokio::task::JoinSet;
use twitcher_model::ZnodePath;
use twitcher_source::{ZnodeError, ZnodeRefusal, Znodes};

use super::error::ZnodeCommandError;

/// Listings under way at once.
const AT_ONCE: usize = 32;

/// Most znodes that are listed.
const MOST: usize = 500_000;

/// How often what was added while a subtree was deleted is deleted, too.
const ATTEMPTS: u32 = 5;

/// Why a subtree was not listed or deleted.
pub(super) enum SubtreeError {
    /// A request failed.
    Request(ZnodeError),
    /// It cannot be done.
    Refused(ZnodeCommandError),
}

impl From<ZnodeError> for SubtreeError {
    fn from(error: ZnodeError) -> Self {
        Self::Request(error)
    }
}

/// The sorted paths of all znodes below one. To be called in a `LocalSet`.
pub(super) async fn list(znodes: &Znodes, top: &ZnodePath) -> Result<Vec<ZnodePath>, SubtreeError> {
    let mut below: Vec<ZnodePath> = Vec::new();
    // Those of `below` from here on have not been listed.
    let mut next = 0;
    let mut listings = JoinSet::new();
    let listing = |znode: ZnodePath| {
        let znodes = znodes.clone();
        async move { (znodes.children(&znode).await, znode) }
    };
    listings.spawn_local(listing(top.clone()));
    while let Some(listed) = listings.join_next().await {
        // A task of ours is neither cancelled nor does it panic.
        let Ok((names, parent)) = listed else { continue };
        let names = match names {
            // It is gone, with all that was below it.
            Err(ZnodeError::NoNode(_)) if parent != *top => continue,
            names => names?,
        };
        let prefix = parent.as_str().trim_end_matches('/');
        below.extend(
            names
                .iter()
                .filter_map(|name| ZnodePath::new(format!("{prefix}/{name}")).ok()),
        );
        if below.len() > MOST {
            let (znode, most) = (top.clone(), MOST);
            return Err(SubtreeError::Refused(ZnodeCommandError::TooMany { znode, most }));
        }
        while listings.len() < AT_ONCE && next < below.len() {
            listings.spawn_local(listing(below[next].clone()));
            next += 1;
        }
    }
    below.sort_unstable();
    Ok(below)
}

/// Deletes a znode with all that is below it, the lowest first, and counts them.
pub(super) async fn delete(znodes: &Znodes, top: &ZnodePath) -> Result<usize, SubtreeError> {
    // ZooKeeper's own are below the root, so that the root holds them.
    let own = ZnodePath::new("/zookeeper").is_ok_and(|own| top.is_within(&own));
    if top.parent().is_none() || own {
        return Err(SubtreeError::Refused(ZnodeCommandError::Protected(top.clone())));
    }
    let mut deleted = 0;
    for _ in 0..ATTEMPTS {
        let below = list(znodes, top).await?;
        let mut grown = false;
        for znode in below.iter().rev().chain([top]) {
            match znodes.delete(znode, None).await {
                Ok(()) => deleted += 1,
                Err(ZnodeError::NoNode(_)) if znode != top || deleted > 0 => {}
                Err(ZnodeError::Failed {
                    why: ZnodeRefusal::NotEmpty,
                    ..
                }) => grown = true,
                Err(error) => return Err(error.into()),
            }
        }
        if !grown {
            return Ok(deleted);
        }
    }
    Err(SubtreeError::Refused(ZnodeCommandError::Contended(top.clone())))
}
