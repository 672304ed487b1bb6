//! Takes the changes of the set of watches, chooses the strategy, and hands every watch to a worker.
//!
//! It must not know how a worker watches.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::debug;
use zookeeper_client::AddWatchMode;

use super::context::{Closed, Context};
use super::ledger::Handle;
use super::plan::Plan;
use super::worker::{Command, Target};
use super::{one_shot, persistent};
use crate::Change;
use twitcher_model::{WatchId, WatchType, ZnodePath};

/// Most bytes of watched paths in one session. Above about 128 KiB the crate cannot set its watches again after a reconnect: the
/// session fails until it expires.
const SESSION_BYTES: usize = 100 * 1024;

/// How a worker watches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Strategy {
    /// Persistent watches, recursive where the plan wants them, else for each znode.
    Persistent,
    /// One-shot watches, for servers that have no other.
    OneShot,
}

#[derive(Debug)]
struct Worker {
    strategy: Strategy,
    commands: mpsc::UnboundedSender<Command>,
    task: JoinHandle<()>,
    /// How many watches the worker serves.
    watches: usize,
    /// Bytes of the paths that the worker sets watches on.
    bytes: usize,
}

#[derive(Debug)]
struct Coordinator {
    context: Arc<Context>,
    plan: Plan,
    workers: Vec<Option<Worker>>,
    /// The worker of each recursive watch, by the path that it is set on.
    roots: HashMap<Arc<str>, u32>,
    /// Length of the chroot: the crate counts it as part of every path.
    prefix: usize,
    armed_due: bool,
    removals: HashMap<u32, Vec<Target>>,
}

/// Serves one source until nobody listens to it or tells it anything any more.
pub(super) async fn run(context: Arc<Context>, mut changes: mpsc::UnboundedReceiver<Change>) {
    let prefix = context
        .options
        .servers
        .chroot()
        .map_or(0, |chroot| chroot.as_str().len());
    let mut coordinator = Coordinator {
        context,
        plan: Plan::default(),
        workers: Vec::new(),
        roots: HashMap::new(),
        prefix,
        armed_due: false,
        removals: HashMap::new(),
    };
    let context = coordinator.context.clone();
    loop {
        tokio::select! {
            change = changes.recv() => {
                let Some(change) = change else { break };
                coordinator.change(change);
                // What has come together is planned together.
                while let Ok(change) = changes.try_recv() {
                    coordinator.change(change);
                }
                coordinator.armed_due = true;
                coordinator.assign().await;
            }
            () = context.replan.notified() => coordinator.assign().await,
            () = context.settled.notified() => {}
            () = context.closed() => break,
            // The source ends, and the daemon, which sees that, starts another.
            () = context.broken.notified() => break,
        }
        if coordinator.armed_due && context.ledger().all_settled() {
            coordinator.armed_due = false;
            if let Err(Closed) = context.say_armed().await {
                break;
            }
        }
    }
    // The workers end as their channels close. Each drops its client, which closes the session with the server.
    let tasks: Vec<_> = coordinator
        .workers
        .drain(..)
        .flatten()
        .map(|worker| worker.task)
        .collect();
    for task in tasks {
        let _ = task.await;
    }
}

impl Coordinator {
    fn change(&mut self, change: Change) {
        for watch in change.remove {
            self.unassign(watch);
            self.context.ledger().unsubscribe(watch);
        }
        for subscription in change.add {
            self.unassign(subscription.watch);
            self.context.ledger().subscribe(subscription);
        }
    }

    /// Takes a watch away from its worker, if it has one.
    fn unassign(&mut self, watch: WatchId) {
        let Some(released) = self.context.ledger().release(watch) else {
            return;
        };
        let target = self.target(released.znode, released.watch_type, released.handle);
        // A recursive watch takes room by itself, however many watches it serves.
        let bytes = match target.mode {
            AddWatchMode::Persistent => self.bytes(&target.path),
            AddWatchMode::PersistentRecursive => 0,
        };
        if let Some(worker) = self.worker(released.worker) {
            worker.watches -= 1;
            worker.bytes -= bytes;
        }
        self.removals.entry(released.worker).or_default().push(target);
    }

    /// Chooses the strategy, and gives every watch that has no worker, or the wrong one, a worker.
    async fn assign(&mut self) {
        let plan = self.choose().await;
        let misplaced = self.misplaced(&plan);
        misplaced.iter().for_each(|watch| self.unassign(*watch));
        self.plan = plan;
        self.place_roots();

        let mut additions: HashMap<u32, Vec<Target>> = HashMap::new();
        for watch in misplaced {
            self.give(watch, &mut additions);
        }
        // Additions first: a root or a session that changes its users must not be given up in between.
        for (index, targets) in additions {
            self.send(index, Command::Add(targets));
        }
        for (index, targets) in std::mem::take(&mut self.removals) {
            self.send(index, Command::Remove(targets));
        }
        self.retire();
        let (roots, sessions) = (self.roots.len(), self.workers.iter().flatten().count());
        debug!(roots, sessions, "strategy chosen");
    }

    /// Beside the runtime: with a hundred thousand watches it takes long enough to be felt.
    async fn choose(&self) -> Plan {
        if self.context.one_by_one() {
            return Plan::default();
        }
        let watches: Vec<(ZnodePath, WatchType)> = self
            .context
            .ledger()
            .iter()
            .map(|(_, _, znode, kind)| (znode.clone(), kind))
            .collect();
        let ours = self.context.options.servers.chroot().is_some();
        let choose = move || Plan::choose(watches.iter().map(|(znode, kind)| (znode.as_str(), *kind)), ours);
        // It only fails when the runtime ends.
        tokio::task::spawn_blocking(choose).await.unwrap_or_default()
    }

    /// The watches that are not where `plan` wants them.
    fn misplaced(&self, plan: &Plan) -> Vec<WatchId> {
        let unchanged = *plan == self.plan;
        let one_shot = self.context.one_by_one();
        let is_persistent = |worker: u32| {
            let worker = self.workers.get(worker as usize).and_then(Option::as_ref);
            worker.is_some_and(|worker| worker.strategy == Strategy::Persistent)
        };
        let ledger = self.context.ledger();
        let misplaced = ledger.iter().filter(|(_, worker, znode, _)| match worker {
            None => true,
            Some(worker) if one_shot && is_persistent(*worker) => true,
            Some(_) if unchanged => false,
            Some(_) => plan.root_of(znode.as_str()) != self.plan.root_of(znode.as_str()),
        });
        misplaced.map(|(watch, ..)| watch).collect()
    }

    /// Gives each recursive watch of the plan to a worker.
    fn place_roots(&mut self) {
        let gone: Vec<Arc<str>> = self
            .roots
            .keys()
            .filter(|root| !self.plan.has_root(root))
            .cloned()
            .collect();
        for root in gone {
            if let Some(index) = self.roots.remove(&root) {
                let bytes = self.bytes(&root);
                if let Some(worker) = self.worker(index) {
                    worker.bytes -= bytes;
                }
            }
        }
        let new: Vec<Arc<str>> = self
            .plan
            .roots()
            .filter(|root| !self.roots.contains_key(*root))
            .cloned()
            .collect();
        for root in new {
            let index = self.place(Strategy::Persistent, self.bytes(&root));
            self.roots.insert(root, index);
        }
    }

    fn give(&mut self, watch: WatchId, additions: &mut HashMap<u32, Vec<Target>>) {
        let Some(znode) = self.context.ledger().znode(watch) else {
            return;
        };
        let root = self.plan.root_of(znode.as_str()).cloned();
        let index = match root.as_ref().and_then(|root| self.roots.get(root)) {
            Some(index) => *index,
            None => {
                let strategy = match self.context.one_by_one() {
                    true => Strategy::OneShot,
                    false => Strategy::Persistent,
                };
                self.place(strategy, self.bytes(znode.as_str()))
            }
        };
        let Some((handle, znode, kind)) = self.context.ledger().assign(watch, index) else {
            return;
        };
        if let Some(worker) = self.worker(index) {
            worker.watches += 1;
        }
        let target = self.target(znode, kind, handle);
        additions.entry(index).or_default().push(target);
    }

    fn target(&self, znode: ZnodePath, kind: WatchType, handle: Handle) -> Target {
        let path: Arc<str> = znode.into();
        let (root, mode) = match self.plan.root_of(&path) {
            Some(root) => (root.clone(), AddWatchMode::PersistentRecursive),
            None => (path.clone(), AddWatchMode::Persistent),
        };
        Target {
            path,
            kind,
            root,
            mode,
            handle,
        }
    }

    /// A worker with room for so many bytes of paths; a new one when there is none.
    fn place(&mut self, strategy: Strategy, bytes: usize) -> u32 {
        let fits = |worker: &Worker| worker.strategy == strategy && worker.bytes + bytes <= SESSION_BYTES;
        let index = match self.workers.iter().position(|worker| worker.as_ref().is_some_and(fits)) {
            Some(index) => index,
            None => {
                let free = self.workers.iter().position(Option::is_none);
                let index = free.unwrap_or(self.workers.len());
                if free.is_none() {
                    self.workers.push(None);
                }
                self.workers[index] = Some(Worker::start(&self.context, strategy));
                index
            }
        };
        if let Some(worker) = &mut self.workers[index] {
            worker.bytes += bytes;
        }
        index as u32
    }

    /// Lets go of the workers that have nothing to do.
    fn retire(&mut self) {
        for slot in &mut self.workers {
            if slot.as_ref().is_some_and(|worker| worker.watches == 0) {
                *slot = None;
            }
        }
    }

    fn send(&mut self, index: u32, command: Command) {
        if let Some(worker) = self.worker(index) {
            // It only ends before us when nobody listens any more, and then so do we.
            let _ = worker.commands.send(command);
        }
    }

    fn worker(&mut self, index: u32) -> Option<&mut Worker> {
        self.workers.get_mut(index as usize)?.as_mut()
    }

    /// What watching a path takes of the room in a session. The crate counts the chroot with every path.
    fn bytes(&self, path: &str) -> usize {
        self.prefix + path.len()
    }
}

impl Worker {
    fn start(context: &Arc<Context>, strategy: Strategy) -> Self {
        let (commands, receiver) = mpsc::unbounded_channel();
        let work = match strategy {
            Strategy::Persistent => tokio::spawn(persistent::run(context.clone(), receiver)),
            Strategy::OneShot => tokio::spawn(one_shot::run(context.clone(), receiver)),
        };
        let context = context.clone();
        let task = tokio::spawn(async move {
            if work.await.is_err() {
                context.broken.notify_one();
            }
        });
        Self {
            strategy,
            commands,
            task,
            watches: 0,
            bytes: 0,
        }
    }
}
