//! The single znodes under persistent watches: which of them must be read, and reading them many at a time.
//!
//! It must not know how it is learnt that a znode changed.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::SystemTime;

use smallvec::SmallVec;
use zookeeper_client::Client;

use super::context::Context;
use super::ledger::Handle;
use super::plan::ancestors;
use super::reads::{self, GUESS, LARGE, PIPELINE, ReadFailure, SMALL};
use super::sweep::CheckedWatch;
use super::worker::Stop;
use twitcher_model::{Observation, WatchType};

/// Connections a large znode may lose us, one after the other, before it is left alone for a while.
const STRIKES: u8 = 3;

/// Lists of children asked for at once: each may be long.
const LISTS: usize = 8;

/// What events said of a znode; of several, what tells most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum News {
    /// Only its children changed.
    Children,
    /// Its data was set.
    Data,
    /// It came into being, or went away.
    CameOrWent,
}

#[derive(Debug)]
struct Node {
    /// Mostly one, which takes no allocation.
    subs: SmallVec<[(WatchType, Handle); 1]>,
    /// Bytes of data when last read, or what it is taken to have: only a guess of how many there are now.
    size: u32,
    /// Whether the znode waits in the queue.
    queued: bool,
    /// Whether perhaps nothing happened: looking at the stat first may save reading much data.
    doubt: bool,
    /// Whether the last attempt failed, perhaps because the reply was larger than expected.
    careful: bool,
}

/// Znodes watched for their data or their children.
#[derive(Debug)]
pub(super) struct WatchedZnodes {
    nodes: HashMap<Arc<str>, Node>,
    queue: VecDeque<Arc<str>>,
    large: VecDeque<Arc<str>>,
    /// How many znodes of the queue are read before the next large one. It lets those pass that waited already, for it may lose
    /// us the connection, but does not wait until the queue is empty: that may never be.
    before_large: usize,
    /// How many connections each has lost us. From [`STRIKES`] on it is left alone, until forgiven.
    strikes: HashMap<Arc<str>, u8>,
    /// When those that could not be read are tried again.
    next_retry: SystemTime,
}

impl Default for WatchedZnodes {
    fn default() -> Self {
        Self {
            nodes: HashMap::new(),
            queue: VecDeque::new(),
            large: VecDeque::new(),
            before_large: 0,
            strikes: HashMap::new(),
            next_retry: SystemTime::UNIX_EPOCH,
        }
    }
}

impl WatchedZnodes {
    /// Says when those that cannot be read will be tried again.
    pub fn retried_at(&mut self, at: SystemTime) {
        self.next_retry = at;
    }

    pub fn add(&mut self, path: &Arc<str>, kind: WatchType, handle: Handle) {
        let fresh = || Node {
            subs: SmallVec::new(),
            size: GUESS as u32,
            queued: false,
            doubt: true,
            careful: false,
        };
        self.nodes
            .entry(path.clone())
            .or_insert_with(fresh)
            .subs
            .push((kind, handle));
        self.mark(path, true);
    }

    pub fn remove(&mut self, context: &Context, path: &Arc<str>, kind: WatchType, handle: Handle) {
        let Some(node) = self.nodes.get_mut(path) else {
            return;
        };
        node.subs.retain(|(_, sub)| *sub != handle);
        if !node.subs.iter().any(|(other, _)| *other == kind) {
            context.unreadable.forget(path, kind);
        }
        if node.subs.is_empty() {
            self.nodes.remove(path);
            self.strikes.remove(path);
        }
    }

    /// Puts a znode in the queue, to be read; with `doubt` unless its data is known to have changed.
    pub fn mark(&mut self, path: &str, doubt: bool) {
        let Some((path, _)) = self.nodes.get_key_value(path) else {
            return;
        };
        let path = path.clone();
        if let Some(node) = self.nodes.get_mut(&path) {
            node.doubt |= doubt;
            if !std::mem::replace(&mut node.queued, true) {
                self.queue.push_back(path);
            }
        }
    }

    /// An event about `path` arrived. A znode that comes or goes also changes its parent's children, and a recursive watch does
    /// not say so separately.
    pub fn event(&mut self, path: &str, news: News) {
        if news == News::Children && !self.nodes.get(path).is_some_and(|node| node.wants(WatchType::Children)) {
            return;
        }
        self.mark(path, news != News::Data);
        let parent = ancestors(path).next().filter(|_| news == News::CameOrWent);
        if let Some(parent) = parent
            && self
                .nodes
                .get(parent)
                .is_some_and(|node| node.wants(WatchType::Children))
        {
            self.mark(parent, true);
        }
    }

    /// Puts every znode in the queue, to be read.
    pub fn mark_all(&mut self) {
        for (path, node) in &mut self.nodes {
            node.doubt = true;
            if !std::mem::replace(&mut node.queued, true) {
                self.queue.push_back(path.clone());
            }
        }
    }

    /// Puts a znode that could not be read in the queue, to be tried again.
    pub fn forgive(&mut self, path: &str) {
        self.strikes.remove(path);
        self.mark(path, true);
    }

    pub fn has_work(&self) -> bool {
        !self.queue.is_empty() || !self.large.is_empty()
    }

    pub fn watches(&self) -> impl Iterator<Item = CheckedWatch> {
        self.nodes.iter().flat_map(|(path, node)| {
            let size = Some(node.size as usize);
            let checked = move |(kind, handle): &(WatchType, Handle)| CheckedWatch {
                path: path.clone(),
                kind: *kind,
                handle: *handle,
                size,
            };
            node.subs.iter().map(checked)
        })
    }

    /// Reads some of what must be read. What a lost connection interrupts is kept for the next time.
    pub async fn work(&mut self, context: &Context, client: &Client) -> Result<(), Stop> {
        if self.queue.is_empty() || (self.before_large == 0 && !self.large.is_empty()) {
            return self.work_large(context, client).await;
        }
        let count = self.queue.len().min(PIPELINE);
        let batch: Vec<Arc<str>> = self.queue.drain(..count).collect();
        self.before_large = self.before_large.saturating_sub(count);
        if self.queue.is_empty() {
            self.queue.shrink_to(PIPELINE);
        }
        for path in &batch {
            if let Some(node) = self.nodes.get_mut(path) {
                node.queued = false;
            }
        }
        let done = self.read(context, client, &batch).await;
        if done.is_err() {
            // Whatever of it was told already is not told again: the ledger knows.
            for path in &batch {
                self.mark(path, true);
                if let Some(node) = self.nodes.get_mut(path) {
                    node.careful = true;
                }
            }
        }
        done
    }

    async fn read(&mut self, context: &Context, client: &Client, batch: &[Arc<str>]) -> Result<(), Stop> {
        let (survey, known): (Vec<_>, Vec<_>) = batch
            .iter()
            .filter_map(|path| self.nodes.get(path).map(|node| (path, node)))
            .partition(|(_, node)| node.needs_survey());
        let mut data: Vec<(Arc<str>, usize)> = known
            .into_iter()
            .map(|(path, node)| (path.clone(), node.size as usize))
            .collect();
        let survey: Vec<Arc<str>> = survey.into_iter().map(|(path, _)| path.clone()).collect();
        let mut lists = Vec::new();
        self.survey(context, client, &survey, &mut data, &mut lists).await?;

        while !data.is_empty() {
            let count = reads::batch(data.iter().map(|(_, size)| *size));
            let paths: Vec<Arc<str>> = data.drain(..count).map(|(path, _)| path).collect();
            let replies = reads::many(client, &paths).await?;
            for (path, reply) in paths.iter().zip(replies) {
                self.take_data(context, path, reply).await?;
            }
        }
        for chunk in lists.chunks(LISTS) {
            let sent: Vec<_> = chunk.iter().map(|path| reads::children(client, path)).collect();
            for (path, reply) in chunk.iter().zip(sent) {
                match reply.await {
                    Ok(Some((names, stat))) => {
                        let observation = reads::children_observation(names, &stat);
                        self.tell(context, path, WatchType::Children, observation).await?;
                    }
                    Ok(None) => {
                        self.tell(context, path, WatchType::Children, Observation::absent())
                            .await?
                    }
                    Err(failure) => {
                        self.cannot_read(context, path, WatchType::Children, failure.of_one()?)
                            .await?
                    }
                }
            }
        }
        Ok(())
    }

    /// Compares stats with what was told: what is old news is not read.
    async fn survey(
        &mut self,
        context: &Context,
        client: &Client,
        paths: &[Arc<str>],
        data: &mut Vec<(Arc<str>, usize)>,
        lists: &mut Vec<Arc<str>>,
    ) -> Result<(), Stop> {
        let stats = reads::stats(client, paths).await?;
        for (path, stat) in paths.iter().zip(stats) {
            let Some(node) = self.nodes.get_mut(path) else {
                continue;
            };
            let doubt = std::mem::replace(&mut node.doubt, false);
            node.careful = false;
            let Some(stat) = stat else {
                node.size = 0;
                self.tell(context, path, WatchType::Data, Observation::absent()).await?;
                self.tell(context, path, WatchType::Children, Observation::absent())
                    .await?;
                continue;
            };
            node.size = u32::try_from(stat.data_length).unwrap_or(0);
            // Of what is small, more than the stat tells counts; and of what could not be read, the stat does not tell whether it can be now.
            let unsure = |node: &Node, kind| doubt && node.knows_contents(context, kind);
            let unread = context.unreadable.has(path, WatchType::Data);
            if node.news(context, WatchType::Data, &reads::data_version(&stat))
                || unread
                || unsure(node, WatchType::Data)
            {
                match reads::check_data(&stat, context.options.max_data) {
                    Err(failure) => self.cannot_read(context, path, WatchType::Data, failure).await?,
                    Ok(()) if node.size as usize <= LARGE => data.push((path.clone(), node.size as usize)),
                    Ok(()) if resting(&self.strikes, path) => {
                        if let Some(failure) = context.unreadable.failure(path, WatchType::Data) {
                            self.cannot_read(context, path, WatchType::Data, failure).await?;
                        }
                    }
                    Ok(()) if self.large.contains(path) => {}
                    Ok(()) => {
                        if self.large.is_empty() {
                            self.before_large = self.queue.len();
                        }
                        self.large.push_back(path.clone());
                    }
                }
            }
            let Some(node) = self.nodes.get_mut(path) else {
                continue;
            };
            let unread = context.unreadable.has(path, WatchType::Children);
            if node.news(context, WatchType::Children, &reads::children_version(&stat))
                || unread
                || unsure(node, WatchType::Children)
            {
                match reads::check_children(&stat) {
                    Err(failure) => self.cannot_read(context, path, WatchType::Children, failure).await?,
                    Ok(()) => lists.push(path.clone()),
                }
            }
        }
        Ok(())
    }

    /// Reads one large znode in a request of its own.
    async fn work_large(&mut self, context: &Context, client: &Client) -> Result<(), Stop> {
        let Some(path) = self.large.pop_front() else {
            return Ok(());
        };
        self.before_large = self.queue.len();
        match reads::data(client, &path).await {
            Err(ReadFailure::Connection(error)) => {
                *self.strikes.entry(path.clone()).or_default() += 1;
                if resting(&self.strikes, &path) {
                    let failure = ReadFailure::Connection(error.clone());
                    self.cannot_read(context, &path, WatchType::Data, failure).await?;
                } else {
                    self.mark(&path, true);
                }
                Err(Stop::Interrupted(ReadFailure::Connection(error)))
            }
            reply => {
                self.strikes.remove(&path);
                self.take_data(context, &path, reply).await
            }
        }
    }

    async fn take_data(
        &mut self,
        context: &Context,
        path: &Arc<str>,
        reply: reads::Reply<Option<(Vec<u8>, zookeeper_client::Stat)>>,
    ) -> Result<(), Stop> {
        match reply {
            Ok(Some((data, stat))) => {
                if let Some(node) = self.nodes.get_mut(path) {
                    node.size = u32::try_from(data.len()).unwrap_or(u32::MAX);
                    node.doubt = false;
                }
                // It may have grown since its stat was read.
                match reads::check_data(&stat, context.options.max_data) {
                    Ok(()) => {
                        self.tell(context, path, WatchType::Data, reads::data_observation(data, &stat))
                            .await?
                    }
                    Err(failure) => self.cannot_read(context, path, WatchType::Data, failure).await?,
                }
            }
            Ok(None) => self.tell(context, path, WatchType::Data, Observation::absent()).await?,
            Err(failure) => {
                self.cannot_read(context, path, WatchType::Data, failure.of_one()?)
                    .await?
            }
        }
        Ok(())
    }

    async fn tell(
        &self,
        context: &Context,
        path: &Arc<str>,
        kind: WatchType,
        observation: Observation,
    ) -> Result<(), Stop> {
        let Some(node) = self.nodes.get(path).filter(|node| node.wants(kind)) else {
            return Ok(());
        };
        context.unreadable.note_readable(path, kind);
        for handle in node.handles(kind) {
            context.tell(handle, observation.clone()).await?;
            context.tell_readable(handle).await?;
        }
        Ok(())
    }

    async fn cannot_read(
        &self,
        context: &Context,
        path: &Arc<str>,
        kind: WatchType,
        failure: ReadFailure,
    ) -> Result<(), Stop> {
        let Some(node) = self.nodes.get(path).filter(|node| node.wants(kind)) else {
            return Ok(());
        };
        let handles: Vec<Handle> = node.handles(kind).collect();
        let (of, bytes, retry) = ((path, kind), Some(node.size as usize), self.next_retry);
        Ok(context.cannot_read(&handles, of, &failure, bytes, retry).await?)
    }
}

fn resting(strikes: &HashMap<Arc<str>, u8>, path: &str) -> bool {
    strikes.get(path).is_some_and(|strikes| *strikes >= STRIKES)
}

impl Node {
    fn wants(&self, kind: WatchType) -> bool {
        self.subs.iter().any(|(sub, _)| *sub == kind)
    }

    fn handles(&self, kind: WatchType) -> impl Iterator<Item = Handle> {
        self.subs
            .iter()
            .filter(move |(sub, _)| *sub == kind)
            .map(|(_, handle)| *handle)
    }

    /// Whether its stat is looked at before anything is read. Small data is read at once: many reads fit in one request, whereas
    /// every stat is a request of its own.
    fn needs_survey(&self) -> bool {
        let size = self.size as usize;
        self.wants(WatchType::Children) || self.careful || size > LARGE || (self.doubt && size > SMALL)
    }

    /// Whether what a watch of this kind was told is small enough for its contents to be part of its version.
    fn knows_contents(&self, context: &Context, kind: WatchType) -> bool {
        self.handles(kind).any(|handle| context.ledger().knows_contents(handle))
    }

    /// Whether a watch of this kind was told something else, by the stat alone; those that were not are settled.
    fn news(&self, context: &Context, kind: WatchType, version: &twitcher_model::Version) -> bool {
        let mut news = false;
        for handle in self.handles(kind) {
            if context.ledger().wants_by_stat(handle, version) {
                news = true;
            } else {
                context.settle(handle);
            }
        }
        news
    }
}
