//! What a host has to tell, and what of it the fleet knows already. Pure: no clock of its own, no ZooKeeper.
//!
//! Only the newest counts: what changes again before it was written is written once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::layout::watch_znode;
use super::record::{self, ResultState, WatchResult};

/// That something is under way is only worth a write if it takes longer.
const SETTLE: Duration = Duration::from_secs(1);

/// A write that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Write {
    Create(Vec<u8>),
    Set(Vec<u8>),
    Delete,
}

/// The results of this host, by the names of their znodes.
#[derive(Debug, Default)]
pub(crate) struct Board {
    /// As they are to be.
    wanted: BTreeMap<String, Vec<u8>>,
    /// As they are, once that is known.
    published: Option<BTreeMap<String, Vec<u8>>>,
    /// The watches there are, once that is known: results of others are deleted.
    in_force: Option<BTreeSet<String>>,
    /// What differs.
    dirty: BTreeSet<String>,
    /// Since when the fleet has not known a result that is to be published.
    waiting: BTreeMap<String, Duration>,
    /// Until when what differs is left as it is.
    unripe: BTreeMap<String, Duration>,
}

impl Board {
    /// Where the host stands with a watch now. Whether that is news.
    pub fn put(&mut self, now: Duration, result: &WatchResult) -> bool {
        let node = watch_znode(&result.watch);
        let data = record::write(result);
        match result.state {
            ResultState::Behind => drop(self.unripe.entry(node.clone()).or_insert(now + SETTLE)),
            _ => drop(self.unripe.remove(&node)),
        }
        let is_news = self.wanted.get(&node) != Some(&data);
        self.wanted.insert(node.clone(), data);
        self.compare(now, &node);
        is_news
    }

    /// These are the watches whose results are published, and no others.
    pub fn keep<'a>(&mut self, now: Duration, watches: impl Iterator<Item = &'a str>) {
        let in_force: BTreeSet<String> = watches.map(watch_znode).collect();
        self.wanted.retain(|node, _| in_force.contains(node));
        self.unripe.retain(|node, _| in_force.contains(node));
        self.waiting.retain(|node, _| in_force.contains(node));
        self.in_force = Some(in_force);
        self.compare_all(now);
    }

    /// Whether it is known which watches there are.
    pub fn knows_watches(&self) -> bool {
        self.in_force.is_some()
    }

    /// This is what the host's znodes have.
    pub fn found(&mut self, now: Duration, published: BTreeMap<String, Vec<u8>>) {
        self.published = Some(published);
        self.compare_all(now);
    }

    /// How many writes there are to be made.
    pub fn ripe(&self, now: Duration) -> usize {
        self.dirty.iter().filter(|node| self.is_ripe(node, now)).count()
    }

    /// When there will be one more.
    pub fn next_ripe(&self, now: Duration) -> Option<Duration> {
        let ripens = |node: &String| self.unripe.get(node).copied().filter(|at| *at > now);
        self.dirty.iter().filter_map(ripens).min()
    }

    /// How many results the fleet does not know as they are.
    pub fn unpublished(&self) -> usize {
        match self.published {
            Some(_) => self.dirty.len(),
            None => self.wanted.len(),
        }
    }

    /// How long the result that has waited longest waits to be published.
    pub fn lag(&self, now: Duration) -> Duration {
        let since = self.waiting.values().min();
        since.map_or(Duration::ZERO, |since| now.saturating_sub(*since))
    }

    /// The writes to be made first; all, ripe or not, if `now` is none.
    pub fn take(&self, now: Option<Duration>, most: usize) -> Vec<(String, Write)> {
        let due = |node: &&String| now.is_none_or(|now| self.is_ripe(node, now));
        let write = |node: &String| {
            let exists = self.is_published(node);
            let write = match self.wanted.get(node) {
                Some(data) if exists => Write::Set(data.clone()),
                Some(data) => Write::Create(data.clone()),
                None => Write::Delete,
            };
            (node.clone(), write)
        };
        self.dirty.iter().filter(due).take(most).map(write).collect()
    }

    /// These writes were made.
    pub fn written(&mut self, now: Duration, writes: Vec<(String, Write)>) {
        for (node, write) in writes {
            if let Some(published) = &mut self.published {
                match write {
                    Write::Create(data) | Write::Set(data) => published.insert(node.clone(), data),
                    Write::Delete => published.remove(&node),
                };
            }
            self.waiting.remove(&node);
            self.compare(now, &node);
        }
    }

    fn is_ripe(&self, node: &str, now: Duration) -> bool {
        self.unripe.get(node).is_none_or(|at| *at <= now)
    }

    fn is_published(&self, node: &str) -> bool {
        self.published
            .as_ref()
            .is_some_and(|published| published.contains_key(node))
    }

    fn compare(&mut self, now: Duration, node: &str) {
        let Some(published) = &self.published else {
            self.waiting.entry(node.to_owned()).or_insert(now);
            return;
        };
        let differs = match (self.wanted.get(node), published.get(node)) {
            (Some(wanted), published) => published != Some(wanted),
            (None, Some(_)) => self.in_force.as_ref().is_some_and(|names| !names.contains(node)),
            (None, None) => false,
        };
        match differs {
            true => {
                self.dirty.insert(node.to_owned());
                self.waiting.entry(node.to_owned()).or_insert(now);
            }
            false => {
                self.dirty.remove(node);
                self.waiting.remove(node);
            }
        }
    }

    fn compare_all(&mut self, now: Duration) {
        self.dirty.clear();
        let known = self.published.iter().flat_map(BTreeMap::keys);
        let all: BTreeSet<String> = self.wanted.keys().chain(known).cloned().collect();
        for node in all {
            self.compare(now, &node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{FormatVersion, StateId};
    use proptest::prelude::*;
    use twitcher_model::WatchType;

    const SECOND: Duration = Duration::from_secs(1);

    fn result(watch: &str, state: ResultState, good: i64) -> WatchResult {
        WatchResult {
            v: FormatVersion,
            watch: watch.to_owned(),
            znode: "/z".to_owned(),
            kind: WatchType::Data,
            state,
            at: None,
            good: Some(StateId::Zxid(good)),
            last: None,
            part: None,
        }
    }

    #[test]
    fn a_short_run_is_written_once_and_a_long_one_twice() {
        let mut board = Board::default();
        board.found(SECOND, BTreeMap::new());
        board.put(SECOND, &result("a", ResultState::Behind, 1));
        assert_eq!((board.ripe(SECOND), board.unpublished()), (0, 1));
        assert_eq!(board.next_ripe(SECOND), Some(SECOND * 2));
        assert_eq!(board.ripe(SECOND * 2), 1);
        board.put(SECOND, &result("a", ResultState::Current, 2));
        assert_eq!(board.ripe(SECOND), 1, "it is over");
        let writes = board.take(Some(SECOND), 10);
        assert!(matches!(&writes[..], [(node, Write::Create(_))] if node == "w.a"));
        board.written(SECOND, writes);
        assert_eq!(board.unpublished(), 0);
    }

    #[test]
    fn what_changes_while_it_is_written_is_written_again() {
        let mut board = Board::default();
        board.found(SECOND, BTreeMap::new());
        board.put(SECOND, &result("a", ResultState::Current, 1));
        let writes = board.take(Some(SECOND), 10);
        board.put(SECOND, &result("a", ResultState::Current, 2));
        board.written(SECOND, writes);
        assert!(matches!(&board.take(Some(SECOND), 10)[..], [(_, Write::Set(_))]));
    }

    #[test]
    fn results_of_others_go_once_it_is_known_which_watches_there_are() {
        let mut board = Board::default();
        let known: BTreeMap<String, Vec<u8>> = [("w.a".to_owned(), vec![1]), ("w.b".to_owned(), vec![2])].into();
        board.found(SECOND, known);
        assert_eq!(board.take(Some(SECOND), 10), [], "no configuration has been loaded");
        board.keep(SECOND, ["a"].into_iter());
        assert_eq!(board.take(Some(SECOND), 10), [("w.b".to_owned(), Write::Delete)]);
    }

    #[test]
    fn what_waits_is_timed_from_the_first_moment_to_the_write() {
        let mut board = Board::default();
        board.put(SECOND, &result("a", ResultState::Current, 1));
        board.put(SECOND * 2, &result("a", ResultState::Current, 2));
        assert_eq!(
            board.lag(SECOND * 3),
            SECOND * 2,
            "also while it is not known what the fleet has"
        );
        board.found(SECOND * 4, BTreeMap::new());
        assert_eq!(board.lag(SECOND * 4), SECOND * 3);
        let writes = board.take(Some(SECOND * 4), 10);
        board.put(SECOND * 5, &result("a", ResultState::Current, 3));
        board.written(SECOND * 6, writes);
        assert_eq!(board.lag(SECOND * 7), SECOND, "something has been published meanwhile");
        board.keep(SECOND * 7, std::iter::empty());
        let writes = board.take(Some(SECOND * 8), 10);
        board.written(SECOND * 8, writes);
        assert_eq!(board.lag(SECOND * 9), Duration::ZERO);
    }

    #[test]
    fn what_is_published_already_is_not_written() {
        let mut board = Board::default();
        let one = result("a", ResultState::Current, 1);
        board.put(SECOND, &one);
        assert_eq!(board.unpublished(), 1, "it is not known yet");
        board.found(SECOND, [("w.a".to_owned(), record::write(&one))].into());
        assert_eq!(board.unpublished(), 0);
    }

    proptest! {
        /// Whatever happens in between, at the end the fleet knows the newest of what there is, and nothing else.
        #[test]
        fn the_newest_arrives(steps in proptest::collection::vec((0u8..5, 0usize..4, 0i64..3), 1..60)) {
            let names = ["a", "b", "c", "d"];
            let mut board = Board::default();
            let mut znodes: BTreeMap<String, Vec<u8>> = [("w.d".to_owned(), b"old".to_vec())].into();
            let apply = |znodes: &mut BTreeMap<String, Vec<u8>>, writes: &[(String, Write)]| {
                for (node, write) in writes {
                    match write {
                        Write::Create(data) => assert!(znodes.insert(node.clone(), data.clone()).is_none()),
                        Write::Set(data) => assert!(znodes.insert(node.clone(), data.clone()).is_some()),
                        Write::Delete => assert!(znodes.remove(node).is_some()),
                    }
                }
            };
            let mut now = SECOND;
            let mut wanted: BTreeMap<&str, i64> = BTreeMap::new();
            for (what, which, good) in steps {
                now += SECOND / 2;
                match what {
                    0 => { board.put(now, &result(names[which], ResultState::Current, good)); wanted.insert(names[which], good); }
                    1 => board.found(now, znodes.clone()),
                    2 => { board.keep(now, names[..which].iter().copied()); wanted.retain(|name, _| names[..which].contains(name)); }
                    3 => { let writes = board.take(Some(now), which); apply(&mut znodes, &writes); board.written(now, writes); }
                    // The reply is lost: what is there is read again.
                    _ => { let writes = board.take(Some(now), which); apply(&mut znodes, &writes); board.found(now, znodes.clone()); }
                }
            }
            board.found(now, znodes.clone());
            board.keep(now, wanted.keys().copied());
            let writes = board.take(None, 100);
            apply(&mut znodes, &writes);
            board.written(now, writes);
            let expected: BTreeMap<String, Vec<u8>> = wanted.iter()
                .map(|(name, good)| (watch_znode(name), record::write(&result(name, ResultState::Current, *good)))).collect();
            prop_assert_eq!(znodes, expected);
            prop_assert_eq!(board.unpublished(), 0);
            prop_assert_eq!(board.lag(now * 2), Duration::ZERO);
        }
    }
}
