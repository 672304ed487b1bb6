//! Listing a whole subtree, and how much of it is kept at most.
//!
//! It must not know who wants the listing, nor what is in the znodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use zookeeper_client::Client;

use super::reads::{Excess, MAX_CHILDREN, PIPELINE, ReadFailure, Reply, ZkStat, below, children, mark_of, stat_of};
use super::subtree_state::Mark;
use twitcher_model::Stat;

/// Most znodes that a watched subtree may have; a larger one is left alone.
pub(super) const MAX_ZNODES: usize = 500_000;

/// Most bytes that the paths of a subtree may have together: a long chain of long names has more than its servers hold data.
pub(super) const MAX_PATHS: usize = 128 << 20;

/// What a subtree may still have.
#[derive(Debug, Clone, Copy)]
struct Room {
    znodes: usize,
    path_bytes: usize,
}

impl Room {
    const ALL: Self = Self {
        // Beside its root.
        znodes: MAX_ZNODES - 1,
        path_bytes: MAX_PATHS,
    };

    /// Takes the room of a znode's children, before their paths are made: each is as long as all that is above it.
    fn take(&mut self, parent: &Arc<str>, names: &[String]) -> Result<(), Excess> {
        if names.len() > MAX_CHILDREN {
            return Err(Excess::ChildrenOf(parent.clone(), names.len()));
        }
        self.znodes = self.znodes.checked_sub(names.len()).ok_or(Excess::Tree)?;
        let bytes = names.iter().map(|name| parent.len() + 1 + name.len()).sum();
        self.path_bytes = self.path_bytes.checked_sub(bytes).ok_or(Excess::TreePaths)?;
        Ok(())
    }
}

/// A whole subtree: every znode's mark, the root's stat, and the znodes whose children we may not see.
#[derive(Debug, Default)]
pub(super) struct Listing {
    pub marks: BTreeMap<Box<str>, Mark>,
    pub root: Option<Stat>,
    pub denied: Vec<Arc<str>>,
    /// Every znode's stat, if they are wanted.
    pub stats: Vec<(Arc<str>, ZkStat)>,
}

/// Reads a whole subtree, level by level.
pub(super) async fn subtree(client: &Client, root: &str, with_stats: bool) -> Reply<Listing> {
    let mut listing = Listing::default();
    let mut level: Vec<Arc<str>> = vec![root.into()];
    let mut room = Room::ALL;
    while !level.is_empty() {
        let mut next = Vec::new();
        for chunk in level.chunks(PIPELINE) {
            let sent: Vec<_> = chunk.iter().map(|path| children(client, path)).collect();
            for (path, reply) in chunk.iter().zip(sent) {
                let stat = match reply.await {
                    Ok(Some((names, stat))) => {
                        room.take(path, &names).map_err(ReadFailure::TooLarge)?;
                        next.extend(names.iter().map(|name| below(path, name)));
                        Some(stat)
                    }
                    Ok(None) => None,
                    // That it exists may be seen without permission.
                    Err(ReadFailure::Denied) => {
                        listing.denied.push(path.clone());
                        client.check_stat(path).await?
                    }
                    Err(failure) => return Err(failure),
                };
                let Some(stat) = stat else { continue };
                listing.marks.insert((&**path).into(), mark_of(&stat));
                if with_stats {
                    listing.stats.push((path.clone(), stat));
                }
                if &**path == root {
                    listing.root = Some(stat_of(&stat));
                }
            }
        }
        level = next;
    }
    Ok(listing)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn the_paths_of_a_subtree_are_counted_in_full() {
        // A chain of names of 10 bytes: 11, 22, 33 bytes, so that the fourth is one too many for 109.
        let mut room = Room {
            path_bytes: 109,
            ..Room::ALL
        };
        let name = "n".repeat(10);
        let mut path: Arc<str> = "".into();
        for _ in 0..3 {
            room.take(&path, &names(&[&name])).unwrap();
            path = below(&path, &name);
        }
        assert_eq!(room.path_bytes, 43);
        assert_eq!(room.take(&path, &names(&[&name])), Err(Excess::TreePaths));
        // Many names of one long path are as much.
        let mut room = Room {
            path_bytes: 1000,
            ..Room::ALL
        };
        let long: Arc<str> = "/".repeat(300).into();
        assert_eq!(room.take(&long, &names(&["a", "b", "c", "d"])), Err(Excess::TreePaths));
        room.take(&long, &names(&["a", "b", "c"])).unwrap();
    }

    #[test]
    fn the_znodes_of_a_subtree_are_counted() {
        let mut room = Room { znodes: 3, ..Room::ALL };
        let root: Arc<str> = "/".into();
        room.take(&root, &names(&["a", "b"])).unwrap();
        assert_eq!(room.take(&root, &names(&["c", "d"])), Err(Excess::Tree));
        let many = vec![String::new(); MAX_CHILDREN + 1];
        let excess = { Room::ALL }.take(&root, &many).unwrap_err();
        assert_eq!(excess, Excess::ChildrenOf(root, MAX_CHILDREN + 1));
    }
}
