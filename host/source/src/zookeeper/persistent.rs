//! A worker that watches znodes through persistent watches: many through a few recursive ones, others each through one of its own.
//!
//! They stay set when a server has used them, also for a change that it does not tell of because we may not read the znode: a
//! one-shot watch is used up by that, and nobody learns of it (see `tests/zookeeper/permissions.rs`).
//!
//! A session has no one-shot watches beside them: one on a path that a persistent one covers would kill the latter (ZOOKEEPER-4466). Of a
//! recursive watch and another on the same path the server keeps one, the last that was set. So a path has one at a time, and where the
//! plan wants the other, all that it covers is read again after that has been set.
//!
//! It goes on in turns. A turn takes one thing that has come in: the session's state before all, then commands, then what a sweep
//! or a listing found. Then it takes in all events and does one small step of work: some single znodes, and some of one subtree. So
//! work does not hold back what was found, however busy a subtree is, and what is found does not hold back work. The subtrees are
//! served one after the other, and so are small znodes and large ones.

use std::collections::HashMap;
use std::future::ready;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, warn};
use zookeeper_client::{AddWatchMode, Client, EventType, PersistentWatcher, SessionState};

use super::connect::{Backoff, SessionOpener, note_end, note_state};
use super::context::Context;
use super::nodes::{News, WatchedZnodes};
use super::plan::ancestors;
use super::reads::{self, PIPELINE, ReadFailure, Reply};
use super::subtree_watch::{Listed, WatchedSubtrees};
use super::sweep::{CheckedWatch, Sweep, Swept, due};
use super::worker::{Command, Commands, Stop, Target};
use twitcher_model::WatchType;

/// Longest pause after a request that failed though the session lives.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Most bytes that paths named by events may need until they are looked at: more than the largest subtree has. Only a server that makes
/// up paths gets there.
const INBOX_BYTES: usize = 128 << 20;

/// Paths that events named since they were last looked at, and what they said. Takes no more room than the znodes under the watches,
/// however long nobody looks.
#[derive(Debug, Default)]
struct Inbox {
    paths: Mutex<Named>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Named {
    paths: HashMap<String, News>,
    bytes: usize,
    /// There were more than are kept.
    flooded: bool,
}

impl Inbox {
    fn put(&self, path: String, news: News) {
        let mut named = self.named();
        let Named { paths, bytes, flooded } = &mut *named;
        match paths.get_mut(&path) {
            Some(known) => *known = news.max(*known),
            None if *bytes > INBOX_BYTES => *flooded = true,
            None => {
                *bytes += path.len() + size_of::<(String, News)>();
                paths.insert(path, news);
            }
        }
        self.arrived.notify_one();
    }

    fn take(&self) -> Named {
        std::mem::take(&mut *self.named())
    }

    fn named(&self) -> MutexGuard<'_, Named> {
        self.paths.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place for a persistent watch.
#[derive(Debug)]
struct Root {
    /// How many watches of the configuration it serves.
    users: usize,
    /// How far it reaches.
    mode: AddWatchMode,
    /// Whether the watch is set in the present connection.
    armed: bool,
    /// Passes its events on; ends with the watch.
    relay: Option<Relay>,
}

#[derive(Debug)]
struct Relay(AbortHandle);

impl Drop for Relay {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[derive(Debug)]
struct Worker {
    context: Arc<Context>,
    roots: HashMap<Arc<str>, Root>,
    nodes: WatchedZnodes,
    trees: WatchedSubtrees,
    inbox: Arc<Inbox>,
    backoff: Backoff,
    /// When work may go on after a failure; none when it may at any time.
    pause: Option<Instant>,
}

/// Watches what it is told to until nobody tells it any more.
pub(super) async fn run(context: Arc<Context>, mut commands: Commands) {
    let mut opener = SessionOpener::for_watches(&context);
    let mut worker = Worker {
        context,
        roots: HashMap::new(),
        nodes: WatchedZnodes::default(),
        trees: WatchedSubtrees::default(),
        inbox: Arc::default(),
        backoff: Backoff::up_to(LONGEST_PAUSE),
        pause: None,
    };
    loop {
        let client = {
            let mut opening = std::pin::pin!(opener.open());
            loop {
                tokio::select! {
                    client = &mut opening => break client,
                    command = commands.recv() => match command {
                        Some(command) => worker.apply(command),
                        None => return,
                    },
                }
            }
        };
        match worker.serve(&client, &mut commands).await {
            Stop::Closed => return,
            Stop::Session | Stop::Interrupted(_) => {}
        }
    }
}

enum Wake {
    State(SessionState),
    Command(Option<Command>),
    Work,
    Retry,
    Sweep,
    Swept(Reply<Swept>),
    Listed(Listed),
}

impl Worker {
    fn apply(&mut self, command: Command) {
        match command {
            Command::Add(targets) => targets.into_iter().for_each(|target| self.add(target)),
            Command::Remove(targets) => targets.into_iter().for_each(|target| self.remove(target)),
        }
    }

    fn add(
        &mut self,
        Target {
            path,
            kind,
            root,
            mode,
            handle,
        }: Target,
    ) {
        let root = self.roots.entry(root).or_insert_with(|| Root::new(mode));
        root.users += 1;
        if root.mode != mode {
            // Whoever it serves is told of it anew, so nothing is missed between the one watch and the other.
            root.mode = mode;
            root.armed = false;
        }
        match kind {
            WatchType::Tree => self.trees.add(&path, handle),
            kind => self.nodes.add(&path, kind, handle),
        }
    }

    fn remove(
        &mut self,
        Target {
            path,
            kind,
            root,
            handle,
            ..
        }: Target,
    ) {
        // A root without users goes when the next ones are armed: it may get new users in the same breath.
        if let Some(root) = self.roots.get_mut(&root) {
            root.users = root.users.saturating_sub(1);
        }
        match kind {
            WatchType::Tree => self.trees.remove(&self.context, &path, handle),
            kind => self.nodes.remove(&self.context, &path, kind, handle),
        }
    }

    /// Watches by way of one session until that ends, and says why it ended.
    async fn serve(&mut self, client: &Client, commands: &mut Commands) -> Stop {
        let mut states = client.state_watcher();
        let mut sweep = Sweep::new(&self.context);
        let mut retry = self.next_retry();
        self.doubt_everything();
        loop {
            let next_sweep = sweep.due.filter(|_| sweep.running.is_none());
            let ready_for_work = self.pause.is_none() && self.has_work();
            // What is at hand all the time while a subtree is busy, events and work, comes last. Nothing waits for it: a step of
            // work follows whatever is taken here.
            let wake = tokio::select! {
                biased;
                state = states.changed() => Wake::State(state),
                command = commands.recv() => Wake::Command(command),
                found = sweep.found() => Wake::Swept(found),
                Some(listed) = self.trees.listed() => Wake::Listed(listed),
                () = due(next_sweep) => Wake::Sweep,
                () = sleep_until(retry) => Wake::Retry,
                () = due(self.pause) => { self.pause = None; Wake::Work }
                () = self.inbox.arrived.notified() => Wake::Work,
                () = ready(()), if ready_for_work => Wake::Work,
            };
            match wake {
                Wake::State(SessionState::SyncConnected) => {
                    note_state(&self.context.options.stats, client, SessionState::SyncConnected);
                    // The crate does not set persistent watches again after a reconnect, and the server does not tell what they
                    // missed.
                    self.doubt_everything();
                }
                Wake::State(state) => {
                    if note_state(&self.context.options.stats, client, state) {
                        return Stop::Session;
                    }
                }
                Wake::Command(None) => return Stop::Closed,
                Wake::Command(Some(command)) => self.apply(command),
                Wake::Work => {}
                Wake::Listed(listed) => {
                    let taken = self.trees.take(&self.context, listed).await;
                    if let Err(stop) = self.went(client, taken) {
                        return stop;
                    }
                }
                Wake::Retry => {
                    retry = self.next_retry();
                    self.trees.forgive();
                    for (path, kind) in self.context.unreadable.all() {
                        match kind {
                            WatchType::Tree => self.trees.mark(&path),
                            _ => self.nodes.forgive(&path),
                        }
                    }
                }
                Wake::Sweep => {
                    let watches = self.nodes.watches().chain(self.trees.watches()).collect();
                    sweep.start(&self.context, client, watches);
                }
                Wake::Swept(found) => match sweep.ended(&self.context, found) {
                    Ok(deaf) => self.heal(&deaf),
                    Err(stop) => {
                        note_end(&self.context.options.stats, client);
                        return stop;
                    }
                },
            }
            if self.pause.is_none() {
                let worked = self.work(client).await;
                if let Err(stop) = self.went(client, worked) {
                    return stop;
                }
            }
        }
    }

    /// Makes of an interruption a pause, and of everything worse the end of this session.
    fn went(&mut self, client: &Client, result: Result<(), Stop>) -> Result<(), Stop> {
        match result {
            Err(Stop::Interrupted(failure)) => {
                debug!(%failure, "interrupted");
                self.pause = Some(Instant::now() + self.backoff.next());
                Ok(())
            }
            Err(Stop::Session) => {
                note_end(&self.context.options.stats, client);
                Err(Stop::Session)
            }
            result => result,
        }
    }

    /// When what cannot be read is tried again, next.
    fn next_retry(&mut self) -> Instant {
        let interval = self.context.options.retry_interval;
        let at = SystemTime::now() + interval;
        self.nodes.retried_at(at);
        self.trees.retried_at(at);
        Instant::now() + interval
    }

    fn doubt_everything(&mut self) {
        self.inbox.take();
        self.roots.values_mut().for_each(|root| root.armed = false);
        self.nodes.mark_all();
        self.trees.mark_all();
    }

    fn has_work(&self) -> bool {
        self.nodes.has_work() || self.trees.has_work() || self.roots.values().any(Root::needs_work)
    }

    /// One small step, so that events and commands are looked at in between.
    async fn work(&mut self, client: &Client) -> Result<(), Stop> {
        if self.context.one_by_one() {
            // What is still here is about to be taken away.
            self.pause = Some(Instant::now() + self.backoff.next());
            return Ok(());
        }
        self.arm(client).await?;
        let named = self.inbox.take();
        if named.flooded {
            // What was left out is not known: all is read again, in a session that begins later.
            warn!("events named more paths than there can be; starting a new session");
            return Err(Stop::Session);
        }
        for (path, news) in named.paths {
            self.nodes.event(&path, news);
            self.trees.event(&path);
        }
        if self.nodes.has_work() {
            self.nodes.work(&self.context, client).await?;
        }
        if self.trees.has_work() {
            self.trees.work(&self.context, client).await?;
        }
        self.backoff.reset();
        Ok(())
    }

    /// Sets the watches that are not set, before anything is read: then whatever the read misses is announced.
    async fn arm(&mut self, client: &Client) -> Result<(), Stop> {
        if !self.roots.values().any(Root::needs_work) {
            return Ok(());
        }
        self.roots.retain(|_, root| root.users > 0);
        let unarmed: Vec<(Arc<str>, AddWatchMode)> = self
            .roots
            .iter()
            .filter(|(_, root)| !root.armed)
            .map(|(path, root)| (path.clone(), root.mode))
            .collect();
        if unarmed.is_empty() {
            return Ok(());
        }
        // The server may lag behind the one that another session read from.
        reads::catch_up(client).await?;
        for chunk in unarmed.chunks(PIPELINE) {
            let sent: Vec<_> = chunk.iter().map(|(path, mode)| client.watch(path, *mode)).collect();
            for ((path, _), reply) in chunk.iter().zip(sent) {
                let watcher = match reply.await.map_err(ReadFailure::from) {
                    Err(ReadFailure::Unimplemented) => {
                        self.context.watch_one_by_one();
                        return Ok(());
                    }
                    reply => reply?,
                };
                if let Some(root) = self.roots.get_mut(path) {
                    // The old relay, if any, goes after the new watch is there: dropping the only watch would remove it from the
                    // server.
                    root.relay = Some(relay(watcher, self.inbox.clone()));
                    root.armed = true;
                }
            }
        }
        Ok(())
    }

    fn heal(&mut self, deaf: &[CheckedWatch]) {
        for CheckedWatch { path, kind, .. } in deaf {
            for covering in std::iter::once(&**path).chain(ancestors(path)) {
                if let Some(root) = self.roots.get_mut(covering) {
                    root.armed = false;
                }
            }
            match kind {
                WatchType::Tree => self.trees.mark(path),
                _ => self.nodes.mark(path, true),
            }
        }
    }
}

impl Root {
    fn new(mode: AddWatchMode) -> Self {
        Self {
            users: 0,
            mode,
            armed: false,
            relay: None,
        }
    }

    fn needs_work(&self) -> bool {
        !self.armed || self.users == 0
    }
}

/// Moves events from the watch to the inbox as they come.
fn relay(mut watcher: PersistentWatcher, inbox: Arc<Inbox>) -> Relay {
    let task = tokio::spawn(async move {
        loop {
            let event = watcher.changed().await;
            match event.event_type {
                EventType::NodeCreated | EventType::NodeDeleted => inbox.put(event.path, News::CameOrWent),
                EventType::NodeDataChanged => inbox.put(event.path, News::Data),
                EventType::NodeChildrenChanged => inbox.put(event.path, News::Children),
                // The crate panics when asked for more after the last event.
                EventType::Session if event.session_state.is_terminated() => return,
                EventType::Session => {}
            }
        }
    });
    Relay(task.abort_handle())
}
