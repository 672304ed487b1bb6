//! The watched subtrees: kept up to date znode by znode from events, or listed anew when there is doubt.
//!
//! It must not know how it is learnt that a znode changed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use zookeeper_client::Client;

use super::audit::Checked;
use super::ledger::Handle;
use super::plan::ancestors;
use super::read::{self, Excess, Failure, Listing, MAX_TREE, PIPELINE};
use super::shared::Shared;
use super::subtree::Subtree;
use super::worker::Stop;
use crate::model::WatchType;

#[derive(Debug, Default)]
pub(super) struct Tree {
    subs: Vec<Handle>,
    subtree: Subtree,
    /// Must be listed anew.
    doubt: bool,
    /// Changed since it was last told.
    touched: bool,
    /// Cannot be read as a whole, so what is known of it is not its state.
    given_up: bool,
    /// The znodes in it whose children we may not see.
    denied: Vec<Arc<str>>,
}

/// All watched subtrees of a session.
#[derive(Debug, Default)]
pub(super) struct Trees {
    trees: HashMap<Arc<str>, Tree>,
    dirty: HashSet<Arc<str>>,
}

impl Trees {
    pub fn add(&mut self, root: &Arc<str>, handle: Handle) {
        let tree = self.trees.entry(root.clone()).or_default();
        tree.subs.push(handle);
        tree.doubt = true;
    }

    pub fn remove(&mut self, shared: &Shared, root: &Arc<str>, handle: Handle) {
        if let Some(tree) = self.trees.get_mut(root) {
            tree.subs.retain(|sub| *sub != handle);
            if tree.subs.is_empty() {
                self.trees.remove(root);
                shared.troubles.forget(root, WatchType::Tree);
            }
        }
    }

    /// An event about `path` arrived.
    pub fn event(&mut self, path: &str) {
        if self.containing(path).next().is_some() {
            self.dirty.insert(path.into());
        }
    }

    /// Has the subtrees listed anew that this znode is in.
    pub fn mark(&mut self, path: &str) {
        let roots: Vec<&str> = self.containing(path).collect();
        for root in roots {
            if let Some(tree) = self.trees.get_mut(root) {
                tree.doubt = true;
            }
        }
    }

    /// Has every subtree listed anew.
    pub fn mark_all(&mut self) {
        self.dirty.clear();
        self.trees.values_mut().for_each(|tree| tree.doubt = true);
    }

    pub fn has_work(&self) -> bool {
        !self.dirty.is_empty() || self.trees.values().any(|tree| tree.doubt || tree.touched)
    }

    pub fn watches(&self) -> impl Iterator<Item = Checked> {
        self.trees.iter().flat_map(|(path, tree)| {
            let checked = |handle: &Handle| Checked {
                path: path.clone(),
                kind: WatchType::Tree,
                handle: *handle,
                size: None,
            };
            tree.subs.iter().map(checked)
        })
    }

    fn containing<'a>(&self, path: &'a str) -> impl Iterator<Item = &'a str> {
        std::iter::once(path)
            .chain(ancestors(path))
            .filter(|above| self.trees.contains_key(*above))
    }

    /// Does some of what must be done. What a lost connection interrupts is kept for the next time.
    pub async fn work(&mut self, shared: &Shared, client: &Client) -> Result<(), Stop> {
        if let Some(root) = self
            .trees
            .iter()
            .find(|(_, tree)| tree.doubt)
            .map(|(root, _)| root.clone())
        {
            return self.list(shared, client, &root).await;
        }
        if !self.dirty.is_empty() {
            let paths: Vec<Arc<str>> = self.dirty.iter().take(PIPELINE).cloned().collect();
            let stats = read::stats(client, &paths).await?;
            for (path, stat) in paths.iter().zip(stats) {
                self.dirty.remove(path);
                let roots: Vec<&str> = self.containing(path).collect();
                for root in roots {
                    let Some(tree) = self.trees.get_mut(root).filter(|tree| !tree.given_up) else {
                        continue;
                    };
                    tree.subtree.set(path, stat.as_ref().map(read::mark_of));
                    if root == &**path {
                        tree.subtree.set_root(stat.as_ref().map(read::stat_of));
                    }
                    tree.touched = true;
                }
            }
        }
        if self.dirty.is_empty() {
            let touched: Vec<Arc<str>> = self
                .trees
                .iter()
                .filter(|(_, tree)| tree.touched)
                .map(|(root, _)| root.clone())
                .collect();
            for root in touched {
                if let Some(tree) = self.trees.get_mut(&root) {
                    tree.tell(shared, &root).await?;
                }
            }
        }
        Ok(())
    }

    async fn list(&mut self, shared: &Shared, client: &Client, root: &Arc<str>) -> Result<(), Stop> {
        let listing = read::subtree(client, root).await;
        let Some(tree) = self.trees.get_mut(root) else {
            return Ok(());
        };
        match listing {
            Ok(listing) => {
                tree.doubt = false;
                tree.take(shared, root, listing);
                tree.tell(shared, root).await
            }
            Err(failure) => {
                let failure = failure.of_one()?;
                tree.doubt = false;
                tree.give_up(shared, root, failure);
                Ok(())
            }
        }
    }
}

impl Tree {
    fn take(&mut self, shared: &Shared, root: &Arc<str>, listing: Listing) {
        self.given_up = false;
        self.subtree.set_all(&listing.marks);
        self.subtree.set_root(listing.root);
        let now_readable = |path: &&Arc<str>| !listing.denied.contains(path);
        for path in self.denied.iter().chain([root]).filter(now_readable) {
            shared.troubles.over(path, WatchType::Tree);
        }
        for path in &listing.denied {
            shared.troubles.note(
                path,
                WatchType::Tree,
                &Failure::Denied,
                None,
                shared.options.retry_interval,
            );
        }
        self.denied = listing.denied;
    }

    async fn tell(&mut self, shared: &Shared, root: &Arc<str>) -> Result<(), Stop> {
        self.touched = false;
        if self.subtree.len() > MAX_TREE {
            self.give_up(shared, root, Failure::TooLarge(Excess::Tree));
            return Ok(());
        }
        for handle in &self.subs {
            let all = shared.ledger().is_new(*handle);
            shared.tell(*handle, self.subtree.observation(all)).await?;
        }
        self.subtree.told();
        Ok(())
    }

    fn give_up(&mut self, shared: &Shared, root: &Arc<str>, failure: Failure) {
        self.subtree = Subtree::default();
        self.given_up = true;
        shared
            .troubles
            .note(root, WatchType::Tree, &failure, None, shared.options.retry_interval);
        self.subs.iter().for_each(|handle| shared.settle(*handle));
    }
}
