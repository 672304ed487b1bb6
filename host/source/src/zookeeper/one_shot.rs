//! A worker that watches each znode by itself, with one-shot watches: for servers before ZooKeeper 3.6, which have no other, and tell of
//! a change also who may not read it.
//!
//! One task a znode: read and watch in one round trip, wait, again. The crate sets one-shot watches again after a reconnect and
//! the server tells what they missed; only the end of the session needs care.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tracing::debug;
use zookeeper_client::{Client, Error, EventType, OneshotWatcher, SessionState, Stat};

use super::connect::{Backoff, SessionOpener, note_end, note_state};
use super::contents::Contents;
use super::context::{Closed, Context};
use super::ledger::Handle;
use super::listing::{self, Listing};
use super::reads::{self, LARGE, ReadFailure, Reply};
use super::subtree_state::Subtree;
use super::sweep::{CheckedWatch, Sweep, due};
use super::unreadable::Words;
use super::worker::{Command, Commands, Stop};
use twitcher_model::{Observation, WatchType};

/// Longest pause of a znode after a request that failed though the session lives.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Connections a large znode may lose us, one after the other, before it is left alone for a while.
const STRIKES: u32 = 3;

/// Znodes of one session that are read at once.
const READERS: usize = 256;

type Key = (Arc<str>, WatchType);

#[derive(Debug, Default)]
struct Watched {
    subs: Vec<Handle>,
    task: Option<WatcherTask>,
}

#[derive(Debug)]
struct WatcherTask(JoinHandle<()>);

impl Drop for WatcherTask {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug)]
struct Worker {
    context: Arc<Context>,
    watched: HashMap<Key, Watched>,
    /// Bounds how many znodes are read at once.
    places: Arc<Semaphore>,
    /// Woken by who finds that the session is over.
    broken: Arc<Notify>,
}

/// Watches what it is told to until nobody tells it any more.
pub(super) async fn run(context: Arc<Context>, mut commands: Commands) {
    let mut opener = SessionOpener::for_watches(&context);
    let mut worker = Worker {
        context,
        watched: HashMap::new(),
        places: Arc::new(Semaphore::new(READERS)),
        broken: Arc::default(),
    };
    loop {
        let client = {
            let mut opening = std::pin::pin!(opener.open());
            loop {
                tokio::select! {
                    client = &mut opening => break client,
                    command = commands.recv() => match command {
                        Some(command) => worker.apply(command, None),
                        None => return,
                    },
                }
            }
        };
        worker.broken = Arc::default();
        worker.start_all(&client);
        let stop = worker.serve(&client, &mut commands).await;
        worker.watched.values_mut().for_each(|watched| watched.task = None);
        if matches!(stop, Stop::Closed) {
            return;
        }
    }
}

impl Worker {
    fn apply(&mut self, command: Command, client: Option<&Client>) {
        match command {
            Command::Add(targets) => {
                for target in targets {
                    let key = (target.path, target.kind);
                    self.watched.entry(key.clone()).or_default().subs.push(target.handle);
                    if let Some(client) = client {
                        self.start(&key, client);
                    }
                }
            }
            Command::Remove(targets) => {
                for target in targets {
                    let key = (target.path, target.kind);
                    let Some(watched) = self.watched.get_mut(&key) else {
                        continue;
                    };
                    watched.subs.retain(|sub| *sub != target.handle);
                    if watched.subs.is_empty() {
                        self.watched.remove(&key);
                        self.context.unreadable.forget(&key.0, key.1);
                    } else if let Some(client) = client {
                        self.start(&key, client);
                    }
                }
            }
        }
    }

    fn start_all(&mut self, client: &Client) {
        let keys: Vec<Key> = self.watched.keys().cloned().collect();
        keys.iter().for_each(|key| self.start(key, client));
    }

    /// Starts the task of a znode; a new one in its place if there is one.
    fn start(&mut self, key: &Key, client: &Client) {
        if let Some(watched) = self.watched.get_mut(key) {
            let watcher = ZnodeWatcher {
                context: self.context.clone(),
                client: client.clone(),
                path: key.0.clone(),
                kind: key.1,
                subs: watched.subs.clone(),
                places: self.places.clone(),
                broken: self.broken.clone(),
                size: None,
            };
            watched.task = Some(WatcherTask(tokio::spawn(watcher.run())));
        }
    }

    /// Watches by way of one session until that ends, and says why it ended.
    async fn serve(&mut self, client: &Client, commands: &mut Commands) -> Stop {
        let mut states = client.state_watcher();
        let mut sweep = Sweep::new(&self.context);
        loop {
            tokio::select! {
                biased;
                state = states.changed() => {
                    if note_state(&self.context.options.stats, client, state) {
                        return Stop::Session;
                    }
                    if state == SessionState::SyncConnected {
                        // The watches should have survived; make sure of it soon.
                        sweep.due = Some(Instant::now());
                    }
                }
                command = commands.recv() => match command {
                    Some(command) => self.apply(command, Some(client)),
                    None => return Stop::Closed,
                },
                () = due(sweep.due), if sweep.running.is_none() => {
                    let checked = |(key, watched): (&Key, &Watched)| {
                        let (path, kind) = key.clone();
                        let checked =
                            move |handle: &Handle| CheckedWatch { path: path.clone(), kind, handle: *handle, size: None };
                        watched.subs.iter().map(checked).collect::<Vec<_>>()
                    };
                    let polled = |(key, _): &(&Key, &Watched)| key.1 != WatchType::Tree;
                    let watches = self.watched.iter().filter(polled).flat_map(checked).collect();
                    sweep.start(&self.context, client, watches);
                }
                () = self.broken.notified() => {
                    note_end(&self.context.options.stats, client);
                    return Stop::Session;
                }
                found = sweep.found() => {
                    match sweep.ended(&self.context, found) {
                        Ok(deaf) => deaf.into_iter().for_each(|watch| self.start(&(watch.path, watch.kind), client)),
                        Err(stop) => {
                            note_end(&self.context.options.stats, client);
                            return stop;
                        }
                    }
                }
            }
        }
    }
}

/// The task of one znode in one session: reads it, waits for its watch, and begins again.
struct ZnodeWatcher {
    context: Arc<Context>,
    client: Client,
    path: Arc<str>,
    kind: WatchType,
    subs: Vec<Handle>,
    places: Arc<Semaphore>,
    broken: Arc<Notify>,
    /// Bytes of data when last seen, if known.
    size: Option<usize>,
}

/// The state of a znode, and what will tell that it changed.
type Armed = (Reply<Observation>, OneshotWatcher);

impl ZnodeWatcher {
    async fn run(mut self) {
        // The worker ends when nobody listens; until then there is nothing a single znode could do about it.
        let Err(Closed) = self.watch().await;
    }

    async fn watch(&mut self) -> Result<std::convert::Infallible, Closed> {
        if self.kind == WatchType::Tree {
            return self.poll_tree().await;
        }
        let mut backoff = Backoff::up_to(LONGEST_PAUSE);
        let mut strikes = 0;
        loop {
            // Held while there is data in hand: when the consumer is slow, what is not yet read stays on the server.
            let place = self.places.clone().acquire_owned().await.map_err(|_| Closed)?;
            let reply = match self.kind {
                WatchType::Children => self.children().await,
                _ => self.data().await,
            };
            let told = match &reply {
                Ok((Ok(observation), _)) => self.tell(observation).await,
                _ => Ok(()),
            };
            drop(place);
            told?;
            match reply {
                Ok((Ok(_), watcher)) => {
                    strikes = 0;
                    backoff.reset();
                    self.wait(watcher).await;
                }
                // The connection broke between the stat and the data.
                Ok((Err(ReadFailure::Connection(error)), _)) if self.size.is_some_and(|size| size > LARGE) => {
                    strikes += 1;
                    if strikes >= STRIKES {
                        self.cannot_read(&ReadFailure::Connection(error)).await?;
                        sleep(self.context.options.retry_interval).await;
                    } else {
                        sleep(backoff.next()).await;
                    }
                }
                Ok((Err(ReadFailure::Connection(_)), _)) => sleep(backoff.next()).await,
                Ok((Err(ReadFailure::Session(_)), _)) | Err(ReadFailure::Session(_)) => return self.end().await,
                Ok((Err(failure), watcher)) => {
                    self.cannot_read(&failure).await?;
                    // A change of permissions has no event.
                    let retry = sleep(self.context.options.retry_interval);
                    tokio::select! {
                        () = retry => {}
                        () = self.wait(watcher) => {}
                    }
                }
                Err(failure @ ReadFailure::Connection(_)) => {
                    debug!(znode = &*self.path, %failure, "interrupted");
                    sleep(backoff.next()).await;
                }
                Err(failure) => {
                    self.cannot_read(&failure).await?;
                    sleep(self.context.options.retry_interval).await;
                }
            }
        }
    }

    /// Waits for the watch. Dropping a watch removes it from the server, so this is only ever raced with a reason to set it anew.
    async fn wait(&self, watcher: OneshotWatcher) {
        let event = watcher.changed().await;
        if event.event_type == EventType::Session {
            self.end().await
        }
    }

    /// The session is over: the worker starts a new one, with a new task in place of this.
    async fn end<T>(&self) -> T {
        self.broken.notify_one();
        std::future::pending().await
    }

    async fn data(&mut self) -> Reply<Armed> {
        match self.size {
            // It was there and small: one request, which fails and sets no watch if it is not there any more.
            Some(size) if size <= LARGE => match self.client.get_and_watch_data(&self.path).await {
                Ok((data, stat, watcher)) => {
                    self.size = Some(data.len());
                    Ok((self.sized(data, &stat), watcher))
                }
                Err(Error::NoNode | Error::NoAuth) => self.stat_and_data().await,
                Err(error) => Err(error.into()),
            },
            _ => self.stat_and_data().await,
        }
    }

    /// Stat first, with the watch, and the data with it: one round trip, also for a znode that does not exist or may not be read.
    /// Only of a znode that was large is the size looked at before the data is asked for.
    async fn stat_and_data(&mut self) -> Reply<Armed> {
        let careful = self.size.is_some_and(|size| size > LARGE);
        let (client, path) = (&self.client, &*self.path);
        let stat = client.check_and_watch_stat(path);
        let data = (!careful).then(|| reads::data(client, path));
        let (stat, watcher) = stat.await?;
        self.size = stat.map(|stat| usize::try_from(stat.data_length).unwrap_or(0));
        if let Some(Err(failure)) = stat.map(|stat| reads::check_data(&stat, self.context.options.max_data)) {
            return Ok((Err(failure), watcher));
        }
        let data = match (data, stat) {
            (Some(data), _) => data.await,
            (None, Some(_)) => reads::data(client, path).await,
            (None, None) => Ok(None),
        };
        let observation = match data {
            Ok(Some((data, stat))) => self.sized(data, &stat),
            Ok(None) => Ok(Observation::absent()),
            Err(failure) => Err(failure),
        };
        Ok((observation, watcher))
    }

    fn sized(&self, data: Vec<u8>, stat: &Stat) -> Reply<Observation> {
        reads::check_data(stat, self.context.options.max_data).map(|()| reads::data_observation(data, stat))
    }

    async fn children(&mut self) -> Reply<Armed> {
        let stat = self.client.check_stat(&self.path).await?;
        if let Some(failure) = stat.and_then(|stat| reads::check_children(&stat).err()) {
            let (_, watcher) = self.client.check_and_watch_stat(&self.path).await?;
            return Ok((Err(failure), watcher));
        }
        match self.client.get_and_watch_children(&self.path).await {
            Ok((names, stat, watcher)) => Ok((Ok(reads::children_observation(names, &stat)), watcher)),
            Err(Error::NoNode) => match self.client.check_and_watch_stat(&self.path).await? {
                (None, watcher) => Ok((Ok(Observation::absent()), watcher)),
                // It came into being in between.
                (Some(_), _) => Err(ReadFailure::Connection(Error::RuntimeInconsistent)),
            },
            Err(error) => Err(error.into()),
        }
    }

    /// A server without recursive watches: the subtree is read again and again.
    async fn poll_tree(&mut self) -> Result<std::convert::Infallible, Closed> {
        let mut subtree = Subtree::default();
        let mut contents = Contents::default();
        let mut hidden_since = None;
        loop {
            match self.list(&mut contents).await {
                // Of a root that hides its children, nothing but its own stat would be told.
                Ok(listing) if listing.denied.first() == Some(&self.path) => {
                    self.cannot_read(&ReadFailure::Denied).await?;
                }
                Ok(listing) => {
                    subtree.set_all(&listing.marks, &listing.denied);
                    subtree.set_root(listing.root);
                    self.context.unreadable.note_readable(&self.path, self.kind);
                    for handle in &self.subs {
                        let all = self.context.ledger().is_new(*handle);
                        let mut observation = subtree.observation(all);
                        if observation.exists() && self.context.ledger().wants_nodes(*handle) {
                            observation.nodes = Some(contents.of(&subtree));
                        }
                        self.context.tell(*handle, observation).await?;
                        if listing.denied.is_empty() {
                            self.context.tell_readable(*handle).await?;
                        }
                    }
                    subtree.told();
                    if listing.denied.is_empty() {
                        hidden_since = None;
                    } else {
                        let words = Words::hidden(&self.context.options, &listing.denied);
                        if hidden_since.is_none() {
                            let name = self.subs.first().and_then(|handle| self.context.ledger().name(*handle));
                            words.log(name.as_deref(), self.subs.len(), &self.path);
                        }
                        let since = *hidden_since.get_or_insert_with(SystemTime::now);
                        let next = SystemTime::now() + self.context.options.tree_poll_interval;
                        let unreadable = words.unreadable(Some(listing.denied.len()), since, next);
                        self.context.tell_unreadable(&self.subs, unreadable).await?;
                    }
                }
                Err(ReadFailure::Session(_)) => return self.end().await,
                Err(ReadFailure::Connection(_)) => {}
                Err(failure) => self.cannot_read(&failure).await?,
            }
            sleep(self.context.options.tree_poll_interval).await;
        }
    }

    /// Lists the subtree, with what its znodes hold if a watch is told. All its watches suffer if that is too much.
    async fn list(&self, contents: &mut Contents) -> Reply<Listing> {
        let is_told = |handle: &Handle| self.context.ledger().wants_nodes(*handle);
        let told = self.subs.iter().any(is_told);
        let mut listing = listing::subtree(&self.client, &self.path, told).await?;
        if told {
            let max_data = self.context.options.max_data;
            contents
                .complete(&self.client, max_data, &mut listing, &self.path)
                .await?;
        }
        Ok(listing)
    }

    async fn tell(&self, observation: &Observation) -> Result<(), Closed> {
        self.context.unreadable.note_readable(&self.path, self.kind);
        for handle in &self.subs {
            self.context.tell(*handle, observation.clone()).await?;
            self.context.tell_readable(*handle).await?;
        }
        Ok(())
    }

    async fn cannot_read(&self, failure: &ReadFailure) -> Result<(), Closed> {
        let options = &self.context.options;
        let retry = match self.kind {
            WatchType::Tree => options.tree_poll_interval,
            WatchType::Data | WatchType::Children => options.retry_interval,
        };
        let (of, retry) = ((&self.path, self.kind), SystemTime::now() + retry);
        self.context
            .cannot_read(&self.subs, of, failure, self.size, retry)
            .await
    }
}
