//! What every watch was last told, and which watches still wait for their first report.
//!
//! Bookkeeping without I/O. Work for a watch moves between sessions when the strategy changes, and a read may still be under way
//! in the old one: a [`Handle`] is only good for the assignment it was made for, so what comes late is ignored.

use std::collections::HashMap;
use std::sync::Arc;

use crate::Subscription;
use twitcher_model::{Version, WatchId, WatchType, ZnodePath};

/// A watch as assigned to one worker. Outlived by the watch itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Handle {
    pub watch: WatchId,
    epoch: u32,
}

/// What followed from settling a watch: what to log, and whether all are settled.
#[derive(Debug)]
pub(super) struct Settled {
    /// The first time for a subscription: what to log.
    pub first: Option<Armed>,
    /// Whether no other watch is left to settle.
    pub last: bool,
}

/// A watch that is armed for the first time.
#[derive(Debug)]
pub(super) struct Armed {
    pub name: Arc<str>,
    pub znode: ZnodePath,
    /// None when the znode cannot be read.
    pub told: Option<Version>,
}

/// A watch that was taken away from its worker.
#[derive(Debug)]
pub(super) struct Released {
    pub worker: u32,
    pub handle: Handle,
    pub znode: ZnodePath,
    pub watch_type: WatchType,
}

#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    znode: ZnodePath,
    told: Option<Version>,
    epoch: u32,
    worker: u32,
    watch_type: WatchType,
    settled: bool,
    logged: bool,
    /// It was told that its znode, or a part of its subtree, cannot be read.
    unreadable: bool,
    /// It is told what the znodes of its subtree hold.
    with_nodes: bool,
}

/// Every watch, and what it was last told.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: HashMap<WatchId, Entry>,
    unsettled: usize,
    next_epoch: u32,
}

impl Ledger {
    /// Adds a watch; it belongs to no worker yet. One that is there already is replaced and told afresh.
    pub fn subscribe(&mut self, subscription: Subscription) {
        self.unsubscribe(subscription.watch);
        self.unsettled += 1;
        self.entries.insert(
            subscription.watch,
            Entry {
                name: subscription.name,
                znode: subscription.znode,
                told: None,
                epoch: 0,
                worker: NOBODY,
                watch_type: subscription.watch_type,
                settled: false,
                logged: false,
                unreadable: false,
                with_nodes: subscription.with_nodes,
            },
        );
    }

    /// Removes a watch; nothing happens if there is no such watch.
    pub fn unsubscribe(&mut self, watch: WatchId) {
        if let Some(entry) = self.entries.remove(&watch) {
            self.unsettled -= usize::from(!entry.settled);
        }
    }

    /// Takes a watch away from its worker; none if it has none.
    pub fn release(&mut self, watch: WatchId) -> Option<Released> {
        let entry = self.entries.get_mut(&watch)?;
        let worker = std::mem::replace(&mut entry.worker, NOBODY);
        (worker != NOBODY).then(|| Released {
            worker,
            handle: Handle {
                watch,
                epoch: entry.epoch,
            },
            znode: entry.znode.clone(),
            watch_type: entry.watch_type,
        })
    }

    /// Makes `worker` the only one that can report the watch.
    pub fn assign(&mut self, watch: WatchId, worker: u32) -> Option<(Handle, ZnodePath, WatchType)> {
        self.next_epoch = self.next_epoch.wrapping_add(1);
        let epoch = self.next_epoch;
        let entry = self.entries.get_mut(&watch)?;
        self.unsettled += usize::from(entry.settled);
        entry.settled = false;
        entry.epoch = epoch;
        entry.worker = worker;
        Some((Handle { watch, epoch }, entry.znode.clone(), entry.watch_type))
    }

    /// Whether this state is news for the watch.
    pub fn wants(&self, handle: Handle, version: &Version) -> bool {
        self.valid(handle)
            .is_some_and(|entry| entry.told.as_ref() != Some(version))
    }

    /// Whether a state is news of which nothing but the stat was read.
    pub fn wants_by_stat(&self, handle: Handle, version: &Version) -> bool {
        self.valid(handle)
            .is_some_and(|entry| entry.told.map(Version::by_stat) != Some(version.by_stat()))
    }

    /// Whether the contents of what the watch was told are small enough to be part of its version.
    pub fn knows_contents(&self, handle: Handle) -> bool {
        self.valid(handle)
            .and_then(|entry| entry.told)
            .is_some_and(|told| told.stamp().contents != 0)
    }

    /// Whether the watch is told what the znodes of its subtree hold.
    pub fn wants_nodes(&self, handle: Handle) -> bool {
        self.valid(handle).is_some_and(|entry| entry.with_nodes)
    }

    /// Whether the watch was never told anything.
    pub fn is_new(&self, handle: Handle) -> bool {
        self.valid(handle).is_some_and(|entry| entry.told.is_none())
    }

    /// Notes that the watch is told this state. Must be asked right before telling; false means don't.
    pub fn tell(&mut self, handle: Handle, version: Version) -> bool {
        match self.entries.get_mut(&handle.watch) {
            Some(entry) if entry.epoch == handle.epoch => {
                entry.told = Some(version);
                true
            }
            _ => false,
        }
    }

    /// Notes that the watch is told that something of it cannot be read, or that it can. Whether it is to be told: of what cannot be
    /// read each time, of what can be read only if it was told otherwise before.
    pub fn tell_unreadable(&mut self, handle: Handle, unreadable: bool) -> bool {
        match self.entries.get_mut(&handle.watch) {
            Some(entry) if entry.epoch == handle.epoch => {
                std::mem::replace(&mut entry.unreadable, unreadable) || unreadable
            }
            _ => false,
        }
    }

    /// Notes that the watch is armed and was told what there is to tell. None when that was known.
    pub fn settle(&mut self, handle: Handle) -> Option<Settled> {
        let entry = self
            .entries
            .get_mut(&handle.watch)
            .filter(|entry| entry.epoch == handle.epoch)?;
        if std::mem::replace(&mut entry.settled, true) {
            return None;
        }
        self.unsettled -= 1;
        let first = (!std::mem::replace(&mut entry.logged, true)).then(|| Armed {
            name: entry.name.clone(),
            znode: entry.znode.clone(),
            told: entry.told,
        });
        Some(Settled {
            first,
            last: self.unsettled == 0,
        })
    }

    /// Whether every watch has settled.
    pub fn all_settled(&self) -> bool {
        self.unsettled == 0
    }

    /// The znode that the watch is for.
    pub fn znode(&self, watch: WatchId) -> Option<ZnodePath> {
        self.entries.get(&watch).map(|entry| entry.znode.clone())
    }

    /// The name of the watch, for the log.
    pub fn name(&self, handle: Handle) -> Option<Arc<str>> {
        self.valid(handle).map(|entry| entry.name.clone())
    }

    /// Every watch with its worker, if it has one.
    pub fn iter(&self) -> impl Iterator<Item = (WatchId, Option<u32>, &ZnodePath, WatchType)> + Clone {
        self.entries.iter().map(|(watch, entry)| {
            (
                *watch,
                (entry.worker != NOBODY).then_some(entry.worker),
                &entry.znode,
                entry.watch_type,
            )
        })
    }

    fn valid(&self, handle: Handle) -> Option<&Entry> {
        self.entries
            .get(&handle.watch)
            .filter(|entry| entry.epoch == handle.epoch)
    }
}

const NOBODY: u32 = u32::MAX;

#[cfg(test)]
mod tests {
    use super::*;
    use twitcher_model::Stamp;

    fn subscribed(ids: &[u32]) -> Ledger {
        let mut ledger = Ledger::default();
        for id in ids {
            ledger.subscribe(Subscription {
                watch: WatchId(*id),
                name: "w".into(),
                znode: ZnodePath::new("/a").unwrap(),
                watch_type: WatchType::Data,
                with_nodes: false,
            });
        }
        ledger
    }

    #[test]
    fn only_news_is_wanted() {
        let mut ledger = subscribed(&[1]);
        let handle = ledger.assign(WatchId(1), 0).unwrap().0;
        assert!(ledger.is_new(handle) && ledger.wants(handle, &Version::Absent));
        assert!(ledger.tell(handle, Version::Absent));
        assert!(!ledger.wants(handle, &Version::Absent));
        let data = |contents| Version::Data {
            czxid: 1,
            mzxid: 1,
            stamp: Stamp { stat: 2, contents },
        };
        assert!(ledger.wants(handle, &data(3)) && ledger.wants_by_stat(handle, &data(0)));
        assert!(ledger.tell(handle, data(3)) && ledger.knows_contents(handle));
        assert!(!ledger.wants_by_stat(handle, &data(0)) && !ledger.wants(handle, &data(3)));
        assert!(ledger.wants(handle, &data(4)), "other contents of the same stat");
    }

    #[test]
    fn an_older_assignment_has_no_say() {
        let mut ledger = subscribed(&[1]);
        let old = ledger.assign(WatchId(1), 0).unwrap().0;
        let new = ledger.assign(WatchId(1), 1).unwrap().0;
        assert!(!ledger.wants(old, &Version::Absent) && !ledger.tell(old, Version::Absent));
        assert!(ledger.settle(old).is_none() && !ledger.all_settled());
        assert!(ledger.tell(new, Version::Absent));
        ledger.subscribe(Subscription {
            watch: WatchId(1),
            name: "again".into(),
            znode: ZnodePath::new("/a").unwrap(),
            watch_type: WatchType::Data,
            with_nodes: false,
        });
        assert!(!ledger.tell(new, Version::Absent), "a new subscription is read afresh");
    }

    #[test]
    fn that_it_can_be_read_is_only_news_to_who_was_told_that_it_cannot() {
        let mut ledger = subscribed(&[1]);
        let handle = ledger.assign(WatchId(1), 0).unwrap().0;
        assert!(!ledger.tell_unreadable(handle, false));
        assert!(ledger.tell_unreadable(handle, true) && ledger.tell_unreadable(handle, true));
        assert!(ledger.tell_unreadable(handle, false) && !ledger.tell_unreadable(handle, false));
        ledger.assign(WatchId(1), 1).unwrap();
        assert!(!ledger.tell_unreadable(handle, true), "an older assignment");
    }

    #[test]
    fn settling_counts_every_watch_once() {
        let mut ledger = subscribed(&[1, 2]);
        let one = ledger.assign(WatchId(1), 0).unwrap().0;
        let two = ledger.assign(WatchId(2), 0).unwrap().0;
        assert!(!ledger.settle(one).unwrap().last);
        assert!(ledger.settle(one).is_none());
        assert!(ledger.settle(two).unwrap().last);
        let moved = ledger.assign(WatchId(1), 1).unwrap().0;
        assert!(!ledger.all_settled());
        assert!(ledger.settle(moved).unwrap().last);
        ledger.assign(WatchId(2), 1).unwrap();
        ledger.unsubscribe(WatchId(2));
        assert!(ledger.all_settled(), "a watch that is gone is not waited for");
    }
}
