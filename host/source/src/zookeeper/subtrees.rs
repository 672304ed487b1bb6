//! The watched subtrees: kept up to date znode by znode from events, or listed anew when there is doubt.
//!
//! It must not know how it is learnt that a znode changed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use zookeeper_client::Client;

use super::context::Shared;
use super::ledger::Handle;
use super::plan::ancestors;
use super::reads::{self, Excess, Failure, Listing, MAX_TREE, PIPELINE, Reply};
use super::subtree::Subtree;
use super::sweep::Checked;
use super::worker::Stop;
use twitcher_model::WatchType;

/// Subtrees of a session that are listed at once.
const LISTINGS: usize = 16;

#[derive(Debug, Default)]
struct Tree {
    subs: Vec<Handle>,
    subtree: Subtree,
    /// Paths that events named and that were not looked at yet.
    dirty: HashSet<Arc<str>>,
    /// Must be listed anew.
    doubt: bool,
    /// Is being listed.
    listing: Option<Task>,
    /// Cannot be read as a whole, so what is known of it is not its state.
    given_up: bool,
    /// The znodes in it whose children we may not see.
    denied: Vec<Arc<str>>,
}

/// A listing under way; given up when dropped.
#[derive(Debug)]
struct Task {
    number: u64,
    handle: AbortHandle,
}

impl Drop for Task {
    fn drop(&mut self) {
        self.handle.abort();
    }
}

/// A listing that ended.
#[derive(Debug)]
pub(super) struct Listed {
    root: Arc<str>,
    number: u64,
    result: Reply<Listing>,
}

/// All watched subtrees of a session.
#[derive(Debug)]
pub(super) struct Trees {
    trees: HashMap<Arc<str>, Tree>,
    listings: u64,
    ended: mpsc::UnboundedSender<Listed>,
    listed: mpsc::UnboundedReceiver<Listed>,
}

impl Default for Trees {
    fn default() -> Self {
        let (ended, listed) = mpsc::unbounded_channel();
        Self {
            trees: HashMap::new(),
            listings: 0,
            ended,
            listed,
        }
    }
}

impl Trees {
    pub fn add(&mut self, root: &Arc<str>, handle: Handle) {
        let tree = self.trees.entry(root.clone()).or_default();
        tree.subs.push(handle);
        tree.doubt = true;
    }

    pub fn remove(&mut self, shared: &Shared, root: &Arc<str>, handle: Handle) {
        let Some(tree) = self.trees.get_mut(root) else {
            return;
        };
        tree.subs.retain(|sub| *sub != handle);
        if tree.subs.is_empty() {
            let denied = self.trees.remove(root).map(|tree| tree.denied).unwrap_or_default();
            denied
                .iter()
                .chain([root])
                .for_each(|path| shared.troubles.forget(path, WatchType::Tree));
        }
    }

    /// An event about `path` arrived.
    pub fn event(&mut self, path: &str) {
        if !self.trees.is_empty() {
            self.each_containing(path, |tree| {
                tree.dirty.insert(path.into());
            });
        }
    }

    /// Has the subtrees listed anew that this znode is in.
    pub fn mark(&mut self, path: &str) {
        self.each_containing(path, |tree| tree.doubt = true);
    }

    /// Has every subtree listed anew; what is under way belongs to a connection that is gone.
    pub fn mark_all(&mut self) {
        for tree in self.trees.values_mut() {
            tree.listing = None;
            tree.doubt = true;
        }
    }

    pub fn has_work(&self) -> bool {
        self.can_list() || self.trees.values().any(Tree::can_update)
    }

    fn can_list(&self) -> bool {
        let waits = |tree: &Tree| tree.doubt && tree.listing.is_none();
        self.trees.values().any(waits) && self.running() < LISTINGS
    }

    fn running(&self) -> usize {
        self.trees.values().filter(|tree| tree.listing.is_some()).count()
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

    fn each_containing(&mut self, path: &str, mut act: impl FnMut(&mut Tree)) {
        for root in std::iter::once(path).chain(ancestors(path)) {
            self.trees.get_mut(root).into_iter().for_each(&mut act);
        }
    }

    /// Does some of what must be done. What a lost connection interrupts is kept for the next time.
    pub async fn work(&mut self, shared: &Shared, client: &Client) -> Result<(), Stop> {
        if self.can_list() {
            self.list(client);
        }
        let Some((root, tree)) = self.trees.iter_mut().find(|(_, tree)| tree.can_update()) else {
            return Ok(());
        };
        let paths: Vec<Arc<str>> = tree.dirty.iter().take(PIPELINE).cloned().collect();
        let stats = reads::stats(client, &paths).await?;
        for (path, stat) in paths.iter().zip(stats) {
            tree.dirty.remove(path);
            tree.subtree.set(path, stat.as_ref().map(reads::mark_of));
            if path == root {
                tree.subtree.set_root(stat.as_ref().map(reads::stat_of));
            }
        }
        if tree.dirty.is_empty() {
            tree.tell(shared, root).await?;
        }
        Ok(())
    }

    /// Starts listings, beside everything else: a large subtree takes seconds.
    fn list(&mut self, client: &Client) {
        let free = LISTINGS - self.running();
        let waiting = self
            .trees
            .iter_mut()
            .filter(|(_, tree)| tree.doubt && tree.listing.is_none());
        for (root, tree) in waiting.take(free) {
            tree.doubt = false;
            // The listing is younger than these.
            tree.dirty.clear();
            self.listings += 1;
            let (client, root, number, ended) = (client.clone(), root.clone(), self.listings, self.ended.clone());
            let task = tokio::spawn(async move {
                let result = reads::subtree(&client, &root).await;
                // Nobody waits for it any more when the worker is gone.
                let _ = ended.send(Listed { root, number, result });
            });
            tree.listing = Some(Task {
                number,
                handle: task.abort_handle(),
            });
        }
    }

    /// The next listing that ends. Safe to be dropped while waiting.
    pub async fn listed(&mut self) -> Option<Listed> {
        self.listed.recv().await
    }

    /// Takes over what a listing found.
    pub async fn take(&mut self, shared: &Shared, listed: Listed) -> Result<(), Stop> {
        let Listed { root, number, result } = listed;
        let current = |tree: &&mut Tree| tree.listing.as_ref().is_some_and(|task| task.number == number);
        let Some(tree) = self.trees.get_mut(&root).filter(current) else {
            return Ok(());
        };
        tree.listing = None;
        match result {
            Ok(listing) => {
                tree.take(shared, &root, listing);
                tree.tell(shared, &root).await
            }
            Err(failure) => {
                tree.doubt = true;
                let failure = failure.of_one()?;
                tree.doubt = false;
                tree.give_up(shared, &root, failure);
                Ok(())
            }
        }
    }
}

impl Tree {
    fn can_update(&self) -> bool {
        !self.dirty.is_empty() && !self.given_up && self.listing.is_none() && !self.doubt
    }

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

    /// What happened while it was listed is still to be looked at, and will be told next.
    async fn tell(&mut self, shared: &Shared, root: &Arc<str>) -> Result<(), Stop> {
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
        self.dirty.clear();
        shared
            .troubles
            .note(root, WatchType::Tree, &failure, None, shared.options.retry_interval);
        self.subs.iter().for_each(|handle| shared.settle(*handle));
    }
}
