//! The watches now in force, each with its machine, and what a new configuration changes. Pure: no clock, no I/O.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::fleet::EndedFor;
use twitcher_actions::payload::Told;
use twitcher_control::facts::LastRunFacts;
use twitcher_model::{Observation, Payload, Seen, Unreadable, Watch, WatchId, WatchType};
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
    /// The last run that ended.
    pub last_run: Option<LastRunFacts>,
    /// The last one that a former daemon saw the end of.
    pub former_run: Option<LastRunFacts>,
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

    /// What the source is told to watch.
    pub fn subscription(&self, id: WatchId) -> Subscription {
        subscription(id, &self.watch)
    }
}

/// All watches, by id and by name.
#[derive(Debug, Default)]
pub struct ActiveWatches {
    /// Boxed, because a map has room to spare.
    entries: HashMap<WatchId, Box<ActiveWatch>>,
    names: HashMap<Arc<str>, WatchId>,
    /// Removed watches that still run: should one come back, its runs are its own to wait for.
    leaving: HashMap<Arc<str>, WatchId>,
    timers: BTreeSet<(Duration, WatchId)>,
    /// Those that have a rollout.
    by_turns: BTreeSet<WatchId>,
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
        let needs = |entry: &ActiveWatch| entry.subscription(id).with_nodes;
        observation.exists() && observation.nodes.is_none() && self.get(id).is_some_and(needs)
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

    /// Takes over the watches of a new configuration. A watch is known by its name; one that means the same is left alone.
    pub fn plan(&mut self, watches: Vec<Arc<Watch>>) -> WatchChanges {
        let mut plan = WatchChanges::default();
        let mut gone = std::mem::take(&mut self.names);
        for watch in watches {
            let known = gone.remove(&watch.name).or_else(|| self.leaving.remove(&watch.name));
            let id = known.unwrap_or_else(|| self.allot());
            self.names.insert(watch.name.clone(), id);
            match watch.rollout {
                Some(_) => self.by_turns.insert(id),
                None => self.by_turns.remove(&id),
            };
            match self.entries.get_mut(&id) {
                None => {
                    plan.summary.added += 1;
                    plan.added.push(id);
                    plan.change.add.push(subscription(id, &watch));
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
                        plan.change.remove.push(id);
                    }
                    plan.change.add.push(subscription(id, &watch));
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
            plan.change.remove.push(id);
            plan.inputs.push((id, Input::Retire));
            self.unreadable.remove(&id);
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.retired = true;
            }
        }
        plan
    }

    /// What a source must be told that knows nothing.
    pub fn everything(&self) -> Change {
        let live = self.entries.iter().filter(|(_, entry)| !entry.retired);
        Change {
            remove: Vec::new(),
            add: live.map(|(id, entry)| subscription(*id, &entry.watch)).collect(),
        }
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

fn subscription(watch: WatchId, of: &Watch) -> Subscription {
    Subscription {
        watch,
        name: of.name.clone(),
        znode: of.znode.clone(),
        watch_type: of.watch_type,
        with_nodes: of.payload == Payload::Json && of.watch_type == WatchType::Tree,
    }
}
