//! What the znodes of a watched subtree hold, for watches that are told: read once for each time that a znode is set.
//!
//! It must not know how it is learnt that a znode changed, nor who is told.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use zookeeper_client::{Client, Stat};

use super::listing::Listing;
use super::plan::ancestors;
use super::reads::{self, Excess, ReadFailure, Reply};
use super::subtree_state::{Mark, Subtree};
use twitcher_model::{PAYLOAD_MAX, TreeNode, TreeNodes};

/// What is known of the znodes of a subtree.
#[derive(Debug, Clone, Default)]
pub(super) struct Contents {
    held: HashMap<Arc<str>, Held>,
    /// Bytes of all that is held, paths included.
    size: usize,
}

#[derive(Debug, Clone)]
struct Held {
    mark: Mark,
    node: TreeNode,
}

impl Held {
    fn size(&self, path: &str) -> usize {
        path.len() + self.node.data.as_ref().map_or(0, Bytes::len)
    }
}

/// A znode that was found to be another than its stat had said, or to be gone, when its data was read.
pub(super) type Newer = (Arc<str>, Option<Stat>);

impl Contents {
    /// Reads what the znodes of a listing hold, and corrects the listing by what changed in the meantime.
    pub async fn complete(&mut self, client: &Client, max_data: usize, listing: &mut Listing, root: &str) -> Reply<()> {
        let hidden = |path: &str| ancestors(path).any(|above| listing.denied.iter().any(|denied| **denied == *above));
        self.retain(|path| listing.marks.contains_key(path) || hidden(path));
        let stats = std::mem::take(&mut listing.stats);
        for (path, stat) in self.read(client, max_data, stats).await? {
            match stat {
                Some(stat) => listing.marks.insert((&*path).into(), reads::mark_of(&stat)),
                None => listing.marks.remove(&*path),
            };
            if *path == *root {
                listing.root = stat.as_ref().map(reads::stat_of);
            }
        }
        Ok(())
    }

    /// Reads the data of those of these znodes of which another state is known.
    ///
    /// # Errors
    /// [`ReadFailure::TooLarge`], before anything is read, if one of them or all together hold too much.
    pub async fn read(&mut self, client: &Client, max_data: usize, found: Vec<(Arc<str>, Stat)>) -> Reply<Vec<Newer>> {
        let is_known = |(path, stat): &(Arc<str>, Stat)| {
            let held = self.held.get(path);
            // What could not be read may be readable now: nothing tells of another access control list.
            held.is_some_and(|held| held.mark == reads::mark_of(stat) && held.node.data.is_some())
        };
        let mut wanted: Vec<(Arc<str>, Stat)> = found.into_iter().filter(|found| !is_known(found)).collect();
        for (path, stat) in &wanted {
            self.forget(path);
            if let Err(ReadFailure::TooLarge(_)) = reads::check_data(stat, max_data) {
                let excess = Excess::DataOf(path.clone(), reads::length_of(stat));
                return Err(ReadFailure::TooLarge(excess));
            }
        }
        let sizes = wanted.iter().map(|(path, stat)| path.len() + reads::length_of(stat));
        if self.size + sizes.sum::<usize>() > PAYLOAD_MAX {
            return Err(ReadFailure::TooLarge(Excess::TreeData));
        }
        let mut newer = Vec::new();
        while !wanted.is_empty() {
            let count = reads::batch(wanted.iter().map(|(_, stat)| reads::length_of(stat)));
            let batch: Vec<(Arc<str>, Stat)> = wanted.drain(..count).collect();
            let paths: Vec<Arc<str>> = batch.iter().map(|(path, _)| path.clone()).collect();
            for ((path, seen), reply) in batch.into_iter().zip(reads::many(client, &paths).await?) {
                match reply {
                    Ok(Some((data, stat))) => {
                        if reads::mark_of(&stat) != reads::mark_of(&seen) {
                            newer.push((path.clone(), Some(stat)));
                        }
                        self.hold(path, &stat, Some(data.into()));
                    }
                    Ok(None) => newer.push((path, None)),
                    Err(ReadFailure::Denied) => self.hold(path, &seen, None),
                    Err(failure) => return Err(failure),
                }
            }
            // What was read may have grown since its stat was seen, or a server says one length and sends another.
            if self.size > PAYLOAD_MAX {
                return Err(ReadFailure::TooLarge(Excess::TreeData));
            }
        }
        Ok(newer)
    }

    fn hold(&mut self, path: Arc<str>, stat: &Stat, data: Option<Bytes>) {
        let held = Held {
            mark: reads::mark_of(stat),
            node: TreeNode {
                stat: reads::stat_of(stat),
                data,
            },
        };
        self.forget(&path);
        self.size += held.size(&path);
        self.held.insert(path, held);
    }

    fn forget(&mut self, path: &str) {
        if let Some(held) = self.held.remove(path) {
            self.size -= held.size(path);
        }
    }

    fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.held.retain(|path, held| {
            let kept = keep(path);
            if !kept {
                self.size -= held.size(path);
            }
            kept
        });
    }

    /// Forgets the znodes that the subtree does not have.
    pub fn keep_only(&mut self, subtree: &Subtree) {
        self.retain(|path| subtree.get(path).is_some());
    }

    /// Every znode of the subtree with what it holds.
    pub fn of(&self, subtree: &Subtree) -> Arc<TreeNodes> {
        let one = |path: &str| match self.held.get_key_value(path) {
            Some((path, held)) => (path.clone(), held.node.clone()),
            // Below a znode that hides its children there may be some that were never seen but by their events.
            None => {
                let stat = subtree.get(path).map(|mark| twitcher_model::Stat {
                    czxid: mark.czxid,
                    mzxid: mark.mzxid,
                    version: 0,
                });
                let (stat, data) = (stat.unwrap_or_default(), None);
                (path.into(), TreeNode { stat, data })
            }
        };
        Arc::new(subtree.paths().map(one).collect())
    }
}
