//! The watched subtrees: kept up to date znode by znode from events, or listed anew when there is doubt.
//!
//! It must not know how it is learnt that a znode changed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::SystemTime;

use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::info;
use zookeeper_client::{Client, Stat};

use super::contents::Contents;
use super::context::Context;
use super::ledger::Handle;
use super::listing::{self, Listing, MAX_ZNODES};
use super::plan::ancestors;
use super::reads::{self, Excess, PIPELINE, ReadFailure, Reply};
use super::subtree_state::Subtree;
use super::sweep::CheckedWatch;
use super::unreadable::Words;
use super::worker::Stop;
use twitcher_model::WatchType;

/// Subtrees of a session that are listed at once.
const LISTINGS: usize = 16;

#[derive(Debug, Default)]
struct Tree {
    subs: Vec<Handle>,
    subtree: Subtree,
    /// Paths that events named since the present round began.
    dirty: HashSet<Arc<str>>,
    /// What is still to be looked at in the present round. The watches are told at its end, not when nothing is dirty: that may
    /// never be.
    round: Vec<Arc<str>>,
    /// When it last had its turn, by [`WatchedSubtrees::turns`].
    turn: u64,
    /// Whether the subtree must be listed anew.
    doubt: bool,
    /// The listing under way, if the subtree is being listed.
    listing: Option<Task>,
    /// The number of its last listing: who was listed longest ago is listed next.
    listed: u64,
    /// Whether the subtree cannot be read as a whole, so that what is known of it is not its state.
    given_up: bool,
    /// The znodes in it whose children we may not see, and since when there are any.
    denied: Vec<Arc<str>>,
    denied_since: Option<SystemTime>,
    /// What the znodes hold, once that was read for a watch that is told.
    contents: Option<Contents>,
    /// Why a watch that is to be told what the znodes hold cannot be.
    too_much: Option<ReadFailure>,
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
    /// What the znodes hold, if that was wanted.
    contents: Option<Reply<Contents>>,
}

/// All watched subtrees of a session.
#[derive(Debug)]
pub(super) struct WatchedSubtrees {
    trees: HashMap<Arc<str>, Tree>,
    /// The turns so far. A turn goes to the tree that has waited longest since its last one.
    turns: u64,
    listings: u64,
    /// When those that cannot be read as a whole are tried again.
    next_retry: SystemTime,
    ended: mpsc::UnboundedSender<Listed>,
    listed: mpsc::UnboundedReceiver<Listed>,
}

impl Default for WatchedSubtrees {
    fn default() -> Self {
        let (ended, listed) = mpsc::unbounded_channel();
        Self {
            trees: HashMap::new(),
            turns: 0,
            listings: 0,
            next_retry: SystemTime::UNIX_EPOCH,
            ended,
            listed,
        }
    }
}

impl WatchedSubtrees {
    pub fn add(&mut self, root: &Arc<str>, handle: Handle) {
        let tree = self.trees.entry(root.clone()).or_default();
        tree.subs.push(handle);
        tree.doubt = true;
    }

    pub fn remove(&mut self, context: &Context, root: &Arc<str>, handle: Handle) {
        let Some(tree) = self.trees.get_mut(root) else {
            return;
        };
        tree.subs.retain(|sub| *sub != handle);
        if tree.subs.is_empty() {
            self.trees.remove(root);
            context.unreadable.forget(root, WatchType::Tree);
        } else if !tree.wants_nodes(context) {
            (tree.contents, tree.too_much) = (None, None);
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

    /// Marks the subtrees that a znode is in, to be listed anew.
    pub fn mark(&mut self, path: &str) {
        self.each_containing(path, |tree| tree.doubt = true);
    }

    /// Marks the subtrees of which a part could not be read, to be listed anew.
    pub fn forgive(&mut self) {
        for tree in self.trees.values_mut() {
            tree.doubt |= !tree.denied.is_empty();
        }
    }

    /// Says when what cannot be read will be tried again.
    pub fn retried_at(&mut self, at: SystemTime) {
        self.next_retry = at;
    }

    /// Marks every subtree, to be listed anew; what is under way belongs to a connection that is gone.
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

    pub fn watches(&self) -> impl Iterator<Item = CheckedWatch> {
        self.trees.iter().flat_map(|(path, tree)| {
            let checked = |handle: &Handle| CheckedWatch {
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
    pub async fn work(&mut self, context: &Context, client: &Client) -> Result<(), Stop> {
        if self.can_list() {
            self.list(context, client);
        }
        let next_retry = self.next_retry;
        let Some((root, tree)) = self.next_to_update() else {
            return Ok(());
        };
        let rest = tree.begin_round().saturating_sub(PIPELINE);
        let mut stats = reads::stats(client, &tree.round[rest..]).await?;
        if tree.wants_nodes(context) {
            tree.read_contents(context, client, rest, &mut stats).await?;
        }
        for (path, stat) in tree.round.drain(rest..).zip(stats) {
            tree.subtree.set(&path, stat.as_ref().map(reads::mark_of));
            if path == *root {
                tree.subtree.set_root(stat.as_ref().map(reads::stat_of));
            }
        }
        if tree.round.is_empty() {
            tree.tell(context, root, next_retry).await?;
        }
        Ok(())
    }

    /// The tree whose turn it is to be updated: however often one changes, every other has its turn before it has another.
    fn next_to_update(&mut self) -> Option<(&Arc<str>, &mut Tree)> {
        let waiting = self.trees.iter_mut().filter(|(_, tree)| tree.can_update());
        let (root, tree) = waiting.min_by_key(|(_, tree)| tree.turn)?;
        self.turns += 1;
        tree.turn = self.turns;
        Some((root, tree))
    }

    /// Starts listings, beside everything else: a large subtree takes seconds.
    fn list(&mut self, context: &Context, client: &Client) {
        let free = LISTINGS - self.running();
        let mut waiting: Vec<_> = self
            .trees
            .iter_mut()
            .filter(|(_, tree)| tree.doubt && tree.listing.is_none())
            .collect();
        waiting.sort_by_key(|(_, tree)| tree.listed);
        for (root, tree) in waiting.into_iter().take(free) {
            tree.doubt = false;
            // The listing is younger than these.
            tree.forget_events();
            self.listings += 1;
            tree.listed = self.listings;
            let (client, root, number, ended) = (client.clone(), root.clone(), self.listings, self.ended.clone());
            let known = tree
                .wants_nodes(context)
                .then(|| tree.contents.clone().unwrap_or_default());
            let max_data = context.options.max_data;
            let task = tokio::spawn(async move {
                let mut result = listing::subtree(&client, &root, known.is_some()).await;
                let contents = match (&mut result, known) {
                    (Ok(listing), Some(mut contents)) => {
                        let completed = contents.complete(&client, max_data, listing, &root).await;
                        Some(completed.map(|()| contents))
                    }
                    _ => None,
                };
                // Nobody waits for it any more when the worker is gone.
                let _ = ended.send(Listed {
                    root,
                    number,
                    result,
                    contents,
                });
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

    /// Makes what a listing found the state of its subtree, and tells the watches.
    pub async fn take(&mut self, context: &Context, listed: Listed) -> Result<(), Stop> {
        let Listed {
            root,
            number,
            result,
            contents,
        } = listed;
        let next_retry = self.next_retry;
        let current = |tree: &&mut Tree| tree.listing.as_ref().is_some_and(|task| task.number == number);
        let Some(tree) = self.trees.get_mut(&root).filter(current) else {
            return Ok(());
        };
        tree.listing = None;
        match result {
            Ok(listing) if listing.denied.first() == Some(&root) => {
                // Nothing of it can be seen. What it was is kept, to be compared with once it can.
                tree.denied = listing.denied;
                tree.leave_alone(context, &root, ReadFailure::Denied, next_retry).await
            }
            Ok(listing) => {
                if let Some(contents) = contents {
                    tree.take_contents(contents)?;
                }
                tree.take(context, &root, listing);
                tree.tell(context, &root, next_retry).await
            }
            Err(failure) => {
                tree.doubt = true;
                let failure = failure.of_one()?;
                tree.doubt = false;
                tree.give_up(context, &root, failure, next_retry).await
            }
        }
    }
}

impl Tree {
    fn can_update(&self) -> bool {
        let something = !self.dirty.is_empty() || !self.round.is_empty();
        something && !self.given_up && self.listing.is_none() && !self.doubt
    }

    /// Begins a round with all that is dirty, unless one is under way, and says how many paths it has left.
    fn begin_round(&mut self) -> usize {
        if self.round.is_empty() {
            self.round = std::mem::take(&mut self.dirty).into_iter().collect();
        }
        self.round.len()
    }

    /// Whether a watch is told what the znodes hold.
    fn wants_nodes(&self, context: &Context) -> bool {
        let ledger = context.ledger();
        self.subs.iter().any(|handle| ledger.wants_nodes(*handle))
    }

    fn take_contents(&mut self, contents: Reply<Contents>) -> Result<(), Stop> {
        match contents {
            Ok(contents) => (self.contents, self.too_much) = (Some(contents), None),
            Err(failure) => {
                self.doubt = true;
                self.too_much = Some(failure.of_one()?);
                self.doubt = false;
            }
        }
        Ok(())
    }

    /// Reads what those znodes of the round hold whose stats were just read, and corrects the stats by what changed in the meantime.
    async fn read_contents(
        &mut self,
        context: &Context,
        client: &Client,
        first: usize,
        stats: &mut [Option<Stat>],
    ) -> Result<(), Stop> {
        // Whether there is still too much, a listing tells.
        self.doubt |= self.too_much.is_some();
        if self.doubt {
            return Ok(());
        }
        let Some(contents) = &mut self.contents else {
            return Ok(());
        };
        let paths = &self.round[first..];
        let there = paths.iter().zip(&*stats);
        let found = there
            .filter_map(|(path, stat)| Some((path.clone(), (*stat)?)))
            .collect();
        match contents.read(client, context.options.max_data, found).await {
            Ok(newer) => {
                for (path, now) in newer {
                    let known = paths.iter().position(|known| *known == path);
                    if let Some(stat) = known.and_then(|at| stats.get_mut(at)) {
                        *stat = now;
                    }
                }
            }
            Err(failure) => {
                self.too_much = Some(failure.of_one()?);
                // What went away in this round still counts; a listing knows.
                self.doubt = true;
            }
        }
        Ok(())
    }

    /// Makes nothing of the events so far.
    fn forget_events(&mut self) {
        self.dirty.clear();
        self.round.clear();
    }

    fn take(&mut self, context: &Context, root: &Arc<str>, listing: Listing) {
        self.given_up = false;
        self.subtree.set_all(&listing.marks, &listing.denied);
        self.subtree.set_root(listing.root);
        if listing.denied.is_empty() {
            self.denied_since = None;
        } else {
            self.denied_since.get_or_insert_with(SystemTime::now);
        }
        if self.too_much.is_none() {
            context.unreadable.note_readable(root, WatchType::Tree);
        }
        if listing.denied.is_empty() && !self.denied.is_empty() {
            info!(znode = &**root, "all of the subtree can be read again");
        } else if !listing.denied.is_empty() && listing.denied != self.denied {
            let name = self.subs.first().and_then(|handle| context.ledger().name(*handle));
            Words::hidden(&context.options, &listing.denied).log(name.as_deref(), self.subs.len(), root);
        }
        self.denied = listing.denied;
    }

    /// What happened while it was listed is still to be looked at, and will be told next.
    async fn tell(&mut self, context: &Context, root: &Arc<str>, next_retry: SystemTime) -> Result<(), Stop> {
        if self.subtree.len() > MAX_ZNODES {
            return self
                .give_up(context, root, ReadFailure::TooLarge(Excess::Tree), next_retry)
                .await;
        }
        if let Some(contents) = &mut self.contents {
            contents.keep_only(&self.subtree);
        }
        let mut nodes = None;
        // Those that are told more of it than that parts are hidden: nothing of it.
        let mut told_nothing = Vec::new();
        for handle in &self.subs {
            let all = context.ledger().is_new(*handle);
            let mut observation = self.subtree.observation(all);
            if context.ledger().wants_nodes(*handle) && observation.exists() {
                if let Some(failure) = &self.too_much {
                    let of = (root, WatchType::Tree);
                    context.cannot_read(&[*handle], of, failure, None, next_retry).await?;
                    told_nothing.push(*handle);
                    continue;
                }
                // It came while the znodes were listed for others: another listing, which reads them, is to follow.
                let Some(contents) = &self.contents else { continue };
                if context.ledger().wants(*handle, &observation.version) {
                    let nodes = nodes.get_or_insert_with(|| contents.of(&self.subtree));
                    observation.nodes = Some(nodes.clone());
                }
            }
            context.tell(*handle, observation).await?;
            if self.denied.is_empty() {
                context.tell_readable(*handle).await?;
            }
        }
        self.subtree.told();
        if let Some(since) = self.denied_since {
            let words = Words::hidden(&context.options, &self.denied);
            let unreadable = words.unreadable(Some(self.denied.len()), since, next_retry);
            let told = self.subs.iter().filter(|handle| !told_nothing.contains(handle));
            let told: Vec<Handle> = told.copied().collect();
            context.tell_unreadable(&told, unreadable).await?;
        }
        Ok(())
    }

    async fn give_up(
        &mut self,
        context: &Context,
        root: &Arc<str>,
        failure: ReadFailure,
        next_retry: SystemTime,
    ) -> Result<(), Stop> {
        self.subtree = Subtree::default();
        self.contents = None;
        self.leave_alone(context, root, failure, next_retry).await
    }

    /// Tells that it cannot be read as a whole, and forgets what is told of it until it is listed again.
    async fn leave_alone(
        &mut self,
        context: &Context,
        root: &Arc<str>,
        failure: ReadFailure,
        next_retry: SystemTime,
    ) -> Result<(), Stop> {
        self.given_up = true;
        self.denied_since = None;
        self.forget_events();
        let of = (root, WatchType::Tree);
        Ok(context.cannot_read(&self.subs, of, &failure, None, next_retry).await?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Watched subtrees that are up to date.
    fn trees(roots: &[&str]) -> WatchedSubtrees {
        WatchedSubtrees {
            trees: roots.iter().map(|root| ((*root).into(), Tree::default())).collect(),
            ..WatchedSubtrees::default()
        }
    }

    /// Which tree is served next; it then has nothing left to do.
    fn serve(trees: &mut WatchedSubtrees) -> Option<Arc<str>> {
        let (root, tree) = trees.next_to_update()?;
        let root = root.clone();
        tree.forget_events();
        Some(root)
    }

    #[test]
    fn a_busy_tree_has_its_turn_again_when_every_other_has_had_one() {
        let roots = ["/a", "/b", "/busy", "/c", "/d"];
        let mut trees = trees(&roots);
        for root in roots {
            trees.event(root);
        }
        let mut served = Vec::new();
        for _ in 0..roots.len() {
            trees.event("/busy/always");
            served.extend(serve(&mut trees));
        }
        trees.event("/busy/always");
        served.sort();
        assert_eq!(served, roots.map(Arc::from));
        assert_eq!(serve(&mut trees).as_deref(), Some("/busy"));
        assert_eq!(serve(&mut trees), None);
    }

    #[test]
    fn a_round_ends_though_there_are_always_events() {
        let mut trees = trees(&["/busy"]);
        trees.event("/busy/a");
        trees.event("/busy/b");
        let (_, tree) = trees.next_to_update().unwrap();
        assert_eq!(tree.begin_round(), 2);
        trees.event("/busy/a");
        let (_, tree) = trees.next_to_update().unwrap();
        assert_eq!(tree.begin_round(), 2, "what comes later is for the next round");
        tree.round.clear();
        assert!(tree.can_update());
        assert_eq!(tree.begin_round(), 1);
    }
}
