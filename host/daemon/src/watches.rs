//! The watches now in force, each with its machine, and what a new configuration changes. Pure: no clock, no I/O.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::fleet::EndedFor;
use super::several::Parts;
use twitcher_actions::payload::Told;
use twitcher_control::facts::LastRunFacts;
use twitcher_launch::WarmSpec;
use twitcher_model::{Action, Observation, Payload, Seen, Unreadable, Watch, WatchId, WatchType, ZnodePath};
use twitcher_scheduler::{Input, Machine};
use twitcher_source::{Change, Subscription};
use twitcher_state::Paused;

/// A watch with its machine.
#[derive(Debug)]
pub struct ActiveWatch {
    pub watch: Arc<Watch>,
    pub machine: Machine,
    /// What was last heard of it.
    pub facts: SeenFacts,
    /// Who holds it, if an operator does. Boxed, because that is rare.
    pub paused: Option<Box<Paused>>,
    /// What the last run that succeeded was told to be there, if the next one is to be told what changed. Boxed, because that is rare.
    pub told: Option<Box<Told>>,
    timer: Option<Duration>,
    /// Removed from the configuration; here until its runs have ended.
    retired: bool,
}

/// What operators want to know of a watch, and nothing depends on.
#[derive(Debug, Default)]
pub struct SeenFacts {
    /// The newest state that was read.
    pub seen: Option<Seen>,
    /// The state that was last succeeded for.
    pub handled: Option<Seen>,
    /// The last run that ended. Boxed, as the next, because of many watches none has yet.
    pub last_run: Option<Box<LastRunFacts>>,
    /// The last one that a former daemon saw the end of.
    pub former_run: Option<Box<LastRunFacts>>,
    /// What the fleet is told of the last run that ended.
    pub result: Option<Box<EndedFor>>,
    /// Since when the node has lost more than `refuse_shrink` lets it, if it has.
    pub refused: Option<SystemTime>,
}

impl ActiveWatch {
    /// Notes since when the node has lost too much to be run for. Whether that has changed.
    pub fn note_refusal(&mut self) -> bool {
        let is_refused = self.machine.shrunk().is_some();
        let since = is_refused.then(|| self.facts.refused.unwrap_or_else(SystemTime::now));
        std::mem::replace(&mut self.facts.refused, since) != since
    }
}

/// All watches, by id and by name.
#[derive(Debug, Default)]
pub struct ActiveWatches {
    /// Boxed, because a map has room to spare.
    entries: HashMap<WatchId, Box<ActiveWatch>>,
    /// In order, as whoever looks at all wants them.
    names: BTreeMap<Arc<str>, WatchId>,
    /// Removed watches that still run: should one come back, its runs are its own to wait for.
    leaving: HashMap<Arc<str>, WatchId>,
    timers: BTreeSet<(Duration, WatchId)>,
    /// Those that have a rollout.
    by_turns: BTreeSet<WatchId>,
    /// The znodes of those that look at several. Boxed, because that is rare.
    parts: HashMap<WatchId, Box<Parts>>,
    /// Which watch the znodes belong to that have ids of their own.
    owners: HashMap<WatchId, WatchId>,
    /// What cannot be read: of few watches, if any.
    unreadable: HashMap<WatchId, Arc<Unreadable>>,
    last_id: u32,
}

/// What a new configuration asks for.
#[derive(Debug, Default)]
pub struct WatchChanges {
    /// Watches that are new. What is known of them comes before their inputs.
    pub added: Vec<WatchId>,
    /// What the machines are told.
    pub inputs: Vec<(WatchId, Input)>,
    /// What the source is told.
    pub change: Change,
    summary: WatchCounts,
}

/// How many watches a new configuration touched.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct WatchCounts {
    pub added: usize,
    pub changed: usize,
    pub removed: usize,
    pub unchanged: usize,
}

impl WatchChanges {
    pub fn summary(&self) -> WatchCounts {
        self.summary
    }

    /// Whether every watch is as it was.
    pub fn is_empty(&self) -> bool {
        let WatchCounts {
            added,
            changed,
            removed,
            unchanged: _,
        } = self.summary;
        added + changed + removed == 0
    }
}

impl ActiveWatches {
    pub fn get(&self, id: WatchId) -> Option<&ActiveWatch> {
        self.entries.get(&id).map(Box::as_ref)
    }

    pub fn get_mut(&mut self, id: WatchId) -> Option<&mut ActiveWatch> {
        self.entries.get_mut(&id).map(Box::as_mut)
    }

    /// Whether what an observation says of a subtree is less than the watch needs.
    pub fn lacks_nodes(&self, id: WatchId, observation: &Observation) -> bool {
        let needs = |entry: &ActiveWatch| needs_nodes(&entry.watch);
        observation.exists() && observation.nodes.is_none() && self.get(self.owner(id)).is_some_and(needs)
    }

    /// The watch that the source means by this id.
    fn owner(&self, id: WatchId) -> WatchId {
        self.owners.get(&id).copied().unwrap_or(id)
    }

    /// What is told to the machine of a znode that was read, and of which watch: nothing yet, if that looks at several and others of them
    /// have not been read.
    pub fn take_in(&mut self, id: WatchId, observation: Observation) -> (WatchId, Option<Observation>) {
        let owner = self.owner(id);
        let watch_type = self.get(owner).map(|entry| entry.watch.watch_type);
        match (self.parts.get_mut(&owner), watch_type) {
            (Some(parts), Some(watch_type)) => (owner, parts.read(id, watch_type, observation)),
            _ => (owner, Some(observation)),
        }
    }

    /// Notes what cannot be read of a znode, for one of several. Gives its watch, and what cannot be read of that.
    pub fn note_unreadable(
        &mut self,
        id: WatchId,
        unreadable: Option<Arc<Unreadable>>,
    ) -> (WatchId, Option<Arc<Unreadable>>) {
        let owner = self.owner(id);
        match self.parts.get_mut(&owner) {
            Some(parts) => {
                parts.set_unreadable(id, unreadable);
                (owner, parts.unreadable())
            }
            None => (owner, unreadable),
        }
    }

    /// The znodes of a watch of several; none of another.
    pub fn parts(&self, id: WatchId) -> Option<&Parts> {
        self.parts.get(&id).map(Box::as_ref)
    }

    /// What the source is told to watch for a watch.
    pub fn subscriptions(&self, id: WatchId) -> Vec<Subscription> {
        let Some(entry) = self.get(id) else { return Vec::new() };
        match self.parts.get(&id) {
            Some(parts) => parts
                .znodes()
                .map(|(id, znode)| subscription(id, &entry.watch, znode))
                .collect(),
            None => vec![subscription(id, &entry.watch, &entry.watch.znode)],
        }
    }

    /// By which ids the source knows a watch.
    fn source_ids(&self, id: WatchId) -> Vec<WatchId> {
        match self.parts.get(&id) {
            Some(parts) => parts.znodes().map(|(id, _)| id).collect(),
            None => vec![id],
        }
    }

    /// What the source is told to read a watch afresh.
    pub fn anew(&self, id: WatchId) -> Change {
        Change {
            remove: self.source_ids(id),
            add: self.subscriptions(id),
        }
    }

    /// Gives a watch the ids that the source needs for its znodes.
    fn set_parts(&mut self, id: WatchId, watch: &Watch) {
        self.forget_parts_of(id);
        if !watch.is_of_several() {
            return;
        }
        let last_id = &mut self.last_id;
        let parts = Parts::new(id, watch, || {
            *last_id += 1;
            WatchId(*last_id)
        });
        self.owners.extend(parts.znodes().map(|(part, _)| (part, id)));
        self.parts.insert(id, Box::new(parts));
    }

    fn forget_parts_of(&mut self, id: WatchId) {
        if let Some(parts) = self.parts.remove(&id) {
            for (part, _) in parts.znodes() {
                self.owners.remove(&part);
            }
        }
    }

    /// The watch of this name; one that was removed as long as it runs.
    pub fn id(&self, name: &str) -> Option<WatchId> {
        self.names.get(name).or_else(|| self.leaving.get(name)).copied()
    }

    /// Number of watches in the configuration.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether the configuration has a watch of this name.
    pub fn has(&self, name: &str) -> bool {
        self.names.contains_key(name)
    }

    pub fn ids(&self) -> impl Iterator<Item = WatchId> {
        self.entries.keys().copied()
    }

    /// All of them, those of the configuration in the order of their names.
    pub fn ids_by_name(&self) -> impl Iterator<Item = WatchId> {
        self.names.values().chain(self.leaving.values()).copied()
    }

    /// Takes over the watches of a new configuration. A watch is known by its name; one that means the same is left alone.
    pub fn plan(&mut self, watches: Vec<Arc<Watch>>) -> WatchChanges {
        let mut plan = WatchChanges::default();
        let mut gone = std::mem::take(&mut self.names);
        let mut to_read = Vec::new();
        for watch in watches {
            let known = gone.remove(&watch.name).or_else(|| self.leaving.remove(&watch.name));
            let id = known.unwrap_or_else(|| self.allot());
            self.names.insert(watch.name.clone(), id);
            match watch.rollout {
                Some(_) => self.by_turns.insert(id),
                None => self.by_turns.remove(&id),
            };
            let source_ids = self.source_ids(id);
            let is_same = |entry: &ActiveWatch| !entry.retired && entry.watch.same_as(&watch);
            if !self.get(id).is_some_and(is_same) {
                self.set_parts(id, &watch);
            }
            match self.entries.get_mut(&id) {
                None => {
                    plan.summary.added += 1;
                    plan.added.push(id);
                    to_read.push(id);
                    let machine = Machine::new(id, Arc::clone(&watch.policy));
                    self.entries.insert(
                        id,
                        Box::new(ActiveWatch {
                            watch,
                            machine,
                            facts: SeenFacts::default(),
                            paused: None,
                            told: None,
                            timer: None,
                            retired: false,
                        }),
                    );
                }
                Some(entry) if !entry.retired && entry.watch.same_as(&watch) => {
                    plan.summary.unchanged += 1;
                    entry.watch = watch;
                }
                Some(entry) => {
                    let same_node = entry.watch.looks_at_same(&watch);
                    if !same_node {
                        entry.facts = SeenFacts::default();
                        entry.told = None;
                        self.unreadable.remove(&id);
                    }
                    if std::mem::take(&mut entry.retired) {
                        plan.summary.added += 1;
                    } else {
                        plan.summary.changed += 1;
                        plan.change.remove.extend(source_ids);
                    }
                    to_read.push(id);
                    plan.inputs.push((
                        id,
                        Input::Reload {
                            policy: Arc::clone(&watch.policy),
                            same_node,
                        },
                    ));
                    entry.watch = watch;
                }
            }
        }
        for (name, id) in gone {
            self.leaving.insert(name, id);
            plan.summary.removed += 1;
            plan.change.remove.extend(self.source_ids(id));
            plan.inputs.push((id, Input::Retire));
            self.unreadable.remove(&id);
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.retired = true;
            }
        }
        plan.change.add = to_read.into_iter().flat_map(|id| self.subscriptions(id)).collect();
        plan
    }

    /// What a source must be told that knows nothing.
    pub fn everything(&self) -> Change {
        let live = self.entries.iter().filter(|(_, entry)| !entry.retired);
        Change {
            remove: Vec::new(),
            add: live.flat_map(|(id, _)| self.subscriptions(*id)).collect(),
        }
    }

    /// What of components there is.
    pub fn components(&self) -> Vec<WarmSpec> {
        let live = self.entries.values().filter(|entry| !entry.retired);
        let specs = live.filter_map(|entry| match &entry.watch.action {
            Action::Wasm(action) => Some(WarmSpec {
                watch: Arc::clone(&entry.watch.name),
                action: Arc::clone(action),
                process: Arc::clone(&entry.watch.process),
            }),
            Action::Shell(_) | Action::Argv(_) | Action::Function(_) | Action::Deploy(_) => None,
        });
        specs.collect()
    }

    /// Drops a watch that was removed, once its runs have ended.
    pub fn forget_if_finished(&mut self, id: WatchId) {
        if self
            .entries
            .get(&id)
            .is_some_and(|entry| entry.retired && entry.machine.is_finished())
        {
            self.set_timer(id, None);
            self.by_turns.remove(&id);
            self.forget_parts_of(id);
            if let Some(entry) = self.entries.remove(&id) {
                self.leaving.remove(&entry.watch.name);
            }
        }
    }

    /// The watches that have a rollout; one that was removed as long as it runs.
    pub fn by_turns(&self) -> &BTreeSet<WatchId> {
        &self.by_turns
    }

    /// What cannot be read of a watch's node.
    pub fn unreadable(&self, id: WatchId) -> Option<&Arc<Unreadable>> {
        self.unreadable.get(&id)
    }

    /// Of how many watches something cannot be read.
    pub fn count_unreadable(&self) -> usize {
        self.unreadable.len()
    }

    /// Notes what cannot be read of a watch's node, or that all of it can. Gives what was noted before.
    pub fn set_unreadable(&mut self, id: WatchId, unreadable: Option<Arc<Unreadable>>) -> Option<Arc<Unreadable>> {
        let Some(mut unreadable) = unreadable.filter(|_| self.entries.get(&id).is_some_and(|entry| !entry.retired))
        else {
            return self.unreadable.remove(&id);
        };
        // A watch that was taken away from the source for a moment begins anew there.
        if let Some(before) = self.unreadable.get(&id)
            && before.since < unreadable.since
        {
            Arc::make_mut(&mut unreadable).since = before.since;
        }
        self.unreadable.insert(id, unreadable)
    }

    /// The source reads the node as if for the first time: whether parts of its subtree cannot be read is open again.
    pub fn forget_parts(&mut self, id: WatchId) {
        if let Some(parts) = self.parts.get_mut(&id) {
            parts.forget();
        }
        if self
            .unreadable
            .get(&id)
            .is_some_and(|unreadable| unreadable.parts.is_some())
        {
            self.unreadable.remove(&id);
        }
    }

    /// Sets a watch's one timer.
    pub fn set_timer(&mut self, id: WatchId, at: Option<Duration>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if let Some(old) = std::mem::replace(&mut entry.timer, at) {
            self.timers.remove(&(old, id));
        }
        if let Some(at) = at {
            self.timers.insert((at, id));
        }
    }

    /// When the first timer is due.
    pub fn next_timer(&self) -> Option<Duration> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// Takes the timers that are due.
    pub fn take_due(&mut self, now: Duration) -> Vec<WatchId> {
        let due: Vec<_> = self
            .timers
            .iter()
            .take_while(|(at, _)| *at <= now)
            .map(|(_, id)| *id)
            .collect();
        for id in &due {
            self.set_timer(*id, None);
        }
        due
    }

    fn allot(&mut self) -> WatchId {
        self.last_id += 1;
        WatchId(self.last_id)
    }
}

fn needs_nodes(watch: &Watch) -> bool {
    watch.payload == Payload::Json && watch.watch_type == WatchType::Tree
}

fn subscription(watch: WatchId, of: &Watch, znode: &ZnodePath) -> Subscription {
    Subscription {
        watch,
        name: of.name.clone(),
        znode: znode.clone(),
        watch_type: of.watch_type,
        with_nodes: needs_nodes(of),
    }
}
