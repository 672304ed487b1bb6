//! Who may start when not all may: at most so many runs at once in all, and in each named group.
//!
//! It must not know what runs, nor for how long: no clock, no I/O.
//!
//! A watch has one place in the queue at most, however many of its updates wait, and asks anew for each run. So places go round
//! among the watches that want one, and a busy watch waits as long as a quiet one. Where a watch waits for its group, those behind
//! it that do not are let past; it keeps its place, and is the first to go once its group has room. The order of the queue is the
//! order in which watches asked, across all groups.
//!
//! What runs is counted under the group that it was admitted in, whatever the configuration says since. Of the limits those now in
//! force count: should more run than they allow, nothing starts until enough has ended.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use twitcher_model::WatchId;

/// The group of a run; none runs under the limit for all alone.
pub type Group = Option<Arc<str>>;

/// Runs at once in a group that is nowhere given a limit.
pub const DEFAULT_LIMIT: usize = 1;

/// Why a run must wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// As many runs as may, or somebody else's turn.
    All,
    /// Its group has as many.
    Group,
}

#[derive(Debug, Default)]
struct Queue {
    running: usize,
    /// By ticket: the order in which they asked.
    waiting: BTreeMap<u64, WatchId>,
}

/// The runs of one daemon, and the watches that want to run.
#[derive(Debug)]
pub struct Admission {
    most: usize,
    running: usize,
    limits: HashMap<Arc<str>, usize>,
    /// Only those in which something runs or waits.
    queues: HashMap<Group, Queue>,
    tickets: HashMap<WatchId, (Group, u64)>,
    last_ticket: u64,
}

impl Admission {
    /// Lets at most `most` run at once, and in each group [`DEFAULT_LIMIT`].
    pub fn new(most: usize) -> Self {
        Self {
            most,
            running: 0,
            limits: HashMap::new(),
            queues: HashMap::new(),
            tickets: HashMap::new(),
            last_ticket: 0,
        }
    }

    /// Gives these groups these limits, and all others the default. Afterwards some may have room: see [`Admission::admit`].
    pub fn set_limits(&mut self, limits: HashMap<Arc<str>, usize>) {
        self.limits = limits;
    }

    /// Asks for a place. If there is none the watch is queued, unless it is already; [`Admission::admit`] then says when it has one.
    pub fn ask(&mut self, watch: WatchId, group: &Group) -> Result<(), Full> {
        let room = self.room(group);
        if room.is_ok() && !self.tickets.contains_key(&watch) && self.first().is_none() {
            self.enter(group.clone());
            return Ok(());
        }
        if !self.tickets.contains_key(&watch) {
            self.last_ticket += 1;
            let queue = self.queues.entry(group.clone()).or_default();
            queue.waiting.insert(self.last_ticket, watch);
            self.tickets.insert(watch, (group.clone(), self.last_ticket));
        }
        Err(room.err().unwrap_or(Full::All))
    }

    /// Gives up a place in the queue, if the watch has one.
    pub fn withdraw(&mut self, watch: WatchId) {
        if let Some((group, ticket)) = self.tickets.remove(&watch) {
            if let Some(queue) = self.queues.get_mut(&group) {
                queue.waiting.remove(&ticket);
            }
            self.tidy(&group);
        }
    }

    /// The next watch in the queue for which there is a place now. It has that place, and leaves the queue. To be called until there
    /// is none whenever something may have ended or limits may have changed.
    pub fn admit(&mut self) -> Option<WatchId> {
        let group = self.first()?;
        let (_, watch) = self.queues.get_mut(&group)?.waiting.pop_first()?;
        self.tickets.remove(&watch);
        self.enter(group);
        Some(watch)
    }

    /// Counts a run that goes on already, whether there is a place for it or not.
    pub fn count(&mut self, group: &Group) {
        self.enter(group.clone());
    }

    /// Gives back a place.
    pub fn leave(&mut self, group: &Group) {
        self.running = self.running.saturating_sub(1);
        if let Some(queue) = self.queues.get_mut(group) {
            queue.running = queue.running.saturating_sub(1);
        }
        self.tidy(group);
    }

    /// Whether there is a place now for somebody who asks, and nobody before.
    pub fn has_room(&self, group: &Group) -> bool {
        self.room(group).is_ok() && self.first().is_none()
    }

    /// How many run.
    pub fn running(&self) -> usize {
        self.running
    }

    /// How many watches wait for a place.
    pub fn waiting(&self) -> usize {
        self.tickets.len()
    }

    /// The group whose first in the queue is the first of all that may start.
    fn first(&self) -> Option<Group> {
        if self.tickets.is_empty() || self.running >= self.most {
            return None;
        }
        let fronts = self
            .queues
            .iter()
            .filter_map(|(group, queue)| Some((queue.waiting.first_key_value()?.0, group)));
        let open = fronts.filter(|(_, group)| self.room(group).is_ok());
        open.min_by_key(|(ticket, _)| **ticket).map(|(_, group)| group.clone())
    }

    fn room(&self, group: &Group) -> Result<(), Full> {
        let inside = |name| {
            let limit = self.limits.get(name).copied().unwrap_or(DEFAULT_LIMIT);
            self.queues.get(group).is_none_or(|queue| queue.running < limit)
        };
        if !group.as_ref().is_none_or(inside) {
            Err(Full::Group)
        } else if self.running >= self.most {
            Err(Full::All)
        } else {
            Ok(())
        }
    }

    fn enter(&mut self, group: Group) {
        self.running += 1;
        self.queues.entry(group).or_default().running += 1;
    }

    fn tidy(&mut self, group: &Group) {
        if self
            .queues
            .get(group)
            .is_some_and(|queue| queue.running == 0 && queue.waiting.is_empty())
        {
            self.queues.remove(group);
        }
    }
}
