//! What a watched subtree looks like, its digest, and which of its paths changed since they were last told.
//!
//! Pure bookkeeping: it must not know how the znodes are read.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::plan::ancestors;
use twitcher_model::{Observation, Stamp, Stat, Version};

/// The transactions that created a znode and last set its data, and what else its stat tells of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub czxid: i64,
    pub mzxid: i64,
    /// A digest of when that was, and how much.
    pub written: u32,
}

/// The known znodes of a subtree.
#[derive(Debug, Default)]
pub(super) struct Subtree {
    nodes: BTreeMap<Box<str>, Mark>,
    digest: u64,
    /// What the digest does not know: it is what a daemon recorded that did not look at this yet.
    stamp: u32,
    /// What each path that changed was like when the changes were last told.
    before: BTreeMap<Box<str>, Option<Mark>>,
    root: Option<Stat>,
}

impl Subtree {
    /// Says that a znode of the subtree is now like this, or gone together with everything below it.
    pub fn set(&mut self, path: &str, mark: Option<Mark>) {
        match mark {
            Some(mark) => self.replace(path, Some(mark)),
            None => {
                let gone: Vec<Box<str>> = self.within(path).map(|(path, _)| path.into()).collect();
                gone.iter().for_each(|path| self.replace(path, None));
            }
        }
    }

    /// Says what the root of the subtree is like; none when it does not exist.
    pub fn set_root(&mut self, stat: Option<Stat>) {
        self.root = stat;
    }

    /// Says that these are all the znodes that can be seen. What is below the `hidden` ones is taken to be what it was: that it cannot
    /// be seen does not mean that it is gone.
    pub fn set_all(&mut self, all: &BTreeMap<Box<str>, Mark>, hidden: &[Arc<str>]) {
        let hidden: HashSet<&str> = hidden.iter().map(|path| &**path).collect();
        let is_hidden = |path: &str| {
            let mut above = ancestors(path).filter(|_| !hidden.is_empty());
            above.any(|above| hidden.contains(above))
        };
        let gone: Vec<Box<str>> = self
            .nodes
            .keys()
            .filter(|path| !all.contains_key(*path) && !is_hidden(path))
            .cloned()
            .collect();
        gone.iter().for_each(|path| self.replace(path, None));
        all.iter().for_each(|(path, mark)| self.replace(path, Some(*mark)));
    }

    fn replace(&mut self, path: &str, mark: Option<Mark>) {
        let old = match mark {
            Some(mark) => self.nodes.insert(path.into(), mark),
            None => self.nodes.remove(path),
        };
        if old == mark {
            return;
        }
        for mark in [old, mark].into_iter().flatten() {
            let digest = digest(path, mark);
            self.digest ^= digest;
            self.stamp ^= stamp(digest, mark);
        }
        if !self.before.contains_key(path) {
            self.before.insert(path.into(), old);
        }
    }

    fn within<'a>(&'a self, path: &'a str) -> impl Iterator<Item = (&'a str, Mark)> {
        // "/a" , "/a-b" and "/a/b" sort in this order: what is below need not follow at once.
        let below = if path == "/" {
            "/".to_owned()
        } else {
            format!("{path}/")
        };
        let own = self.nodes.get_key_value(path).filter(|_| path != "/");
        let range = self
            .nodes
            .range::<str, _>((Bound::Included(below.as_str()), Bound::Unbounded));
        own.into_iter()
            .chain(range.take_while(move |(path, _)| path.starts_with(&below)))
            .map(|(path, mark)| (&**path, *mark))
    }

    /// The mark of a znode; none when the subtree has no such znode.
    pub fn get(&self, path: &str) -> Option<Mark> {
        self.nodes.get(path).copied()
    }

    /// The paths of all known znodes, sorted.
    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.nodes.keys().map(|path| &**path)
    }

    /// How many znodes are known.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// The version of the subtree: differs when any of its znodes does.
    pub fn version(&self) -> Version {
        match self.root {
            Some(_) => Version::Tree {
                digest: self.digest,
                stamp: Stamp {
                    stat: self.stamp.max(1),
                    contents: 0,
                },
            },
            None => Version::Absent,
        }
    }

    /// The state, for a watch that knows nothing of it yet (`all`) or that was told every change so far.
    pub fn observation(&self, all: bool) -> Observation {
        let Some(root) = self.root else {
            return Observation::absent();
        };
        let stdin = if all {
            lines(self.paths())
        } else {
            lines(self.changed())
        };
        Observation {
            version: self.version(),
            stat: Some(root),
            stdin,
            nodes: None,
            // There are never more than the most that are watched.
            znodes: self.len() as u32,
            several: None,
        }
    }

    fn changed(&self) -> impl Iterator<Item = &str> {
        self.before
            .iter()
            .filter(|(path, before)| self.get(path) != **before)
            .map(|(path, _)| &**path)
    }

    /// Forgets the changes, once the watches were told.
    pub fn told(&mut self) {
        self.before.clear();
    }
}

fn lines<'a>(paths: impl Iterator<Item = &'a str>) -> Bytes {
    let mut text = String::new();
    for path in paths {
        text.push_str(path);
        text.push('\n');
    }
    text.into()
}

/// FNV-1a over the path, then a finalizer that spreads the transactions over all bits: the digests of all znodes are combined by
/// XOR, so each must look random. Stable: a restarted daemon compares it with a recorded one.
fn digest(path: &str, mark: Mark) -> u64 {
    let start = 0xcbf2_9ce4_8422_2325;
    let hash = path.bytes().fold(start, |hash: u64, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    mix(mix(hash ^ mark.czxid as u64).wrapping_add(mark.mzxid as u64))
}

fn stamp(digest: u64, mark: Mark) -> u32 {
    (mix(digest.wrapping_add(u64::from(mark.written))) >> 32) as u32
}

/// The finalizer of splitmix64.
pub(super) fn mix(mut x: u64) -> u64 {
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mark(n: i64) -> Option<Mark> {
        Some(Mark {
            czxid: 1,
            mzxid: n,
            written: 1,
        })
    }

    fn text(tree: &Subtree, all: bool) -> String {
        String::from_utf8(tree.observation(all).stdin.to_vec()).unwrap()
    }

    fn tree(paths: &[&str]) -> Subtree {
        let mut tree = Subtree::default();
        tree.set_root(Some(Stat::default()));
        paths.iter().for_each(|path| tree.set(path, mark(1)));
        tree
    }

    #[test]
    fn changes_are_told_once_and_only_if_they_last() {
        let mut tree = tree(&["/a", "/a/b", "/a/c"]);
        assert_eq!(text(&tree, true), "/a\n/a/b\n/a/c\n");
        tree.told();
        tree.set("/a/c", mark(2));
        tree.set("/a/d", mark(3));
        tree.set("/a/e", mark(3));
        tree.set("/a/e", None);
        assert_eq!(text(&tree, false), "/a/c\n/a/d\n");
        tree.told();
        assert_eq!(text(&tree, false), "");
    }

    #[test]
    fn what_is_below_goes_away_with_its_parent_and_nothing_else_does() {
        let mut tree = tree(&["/a", "/a/b", "/a/b/c", "/a/b-c", "/a/bc"]);
        tree.told();
        tree.set("/a/b", None);
        assert_eq!(text(&tree, false), "/a/b\n/a/b/c\n");
        assert_eq!(text(&tree, true), "/a\n/a/b-c\n/a/bc\n");
    }

    #[test]
    fn what_is_hidden_is_not_taken_to_be_gone() {
        let mut tree = tree(&["/a", "/a/b", "/a/b/c", "/a/b-c", "/a/d"]);
        tree.told();
        let seen: BTreeMap<Box<str>, Mark> =
            [("/a".into(), mark(1).unwrap()), ("/a/b".into(), mark(2).unwrap())].into();
        tree.set_all(&seen, &["/a/b".into()]);
        assert_eq!(text(&tree, false), "/a/b\n/a/b-c\n/a/d\n");
        tree.told();
        tree.set_all(&seen, &[]);
        assert_eq!(text(&tree, false), "/a/b/c\n");
    }

    #[test]
    fn the_digest_is_the_same_in_another_process() {
        let mark = Mark {
            czxid: 1,
            mzxid: 2,
            written: 3,
        };
        assert_eq!(digest("/a", mark), 0x6dd3_05e1_bda9_c323);
        assert_eq!(stamp(digest("/a", mark), mark), 0x5b76a28a);
    }

    #[test]
    fn what_the_same_transactions_wrote_at_another_time_is_told() {
        let mut tree = tree(&["/a", "/a/b"]);
        tree.told();
        let before = tree.version();
        let later = mark(1).map(|mark| Mark { written: 2, ..mark });
        tree.set("/a/b", later);
        assert_eq!(text(&tree, false), "/a/b\n");
        assert_eq!(tree.version().parts(), before.parts());
        assert_ne!(tree.version(), before);
    }

    #[test]
    fn an_absent_root_is_absent() {
        let mut tree = tree(&["/a"]);
        tree.set("/a", None);
        tree.set_root(None);
        assert_eq!(tree.observation(false), Observation::absent());
    }

    proptest! {
        #[test]
        fn the_digest_depends_on_the_znodes_alone(steps in prop::collection::vec((0..8usize, 0..4i64), 0..40)) {
            let paths = ["/t", "/t/a", "/t/a/x", "/t/a/y", "/t/ab", "/t/b", "/t/b/x", "/t/c"];
            let mut walked = tree(&[]);
            for (path, n) in steps {
                walked.set(paths[path], if n == 0 { None } else { mark(n) });
            }
            let mut fresh = tree(&[]);
            fresh.set_all(&walked.nodes, &[]);
            prop_assert_eq!(fresh.version(), walked.version());
            prop_assert_eq!(text(&fresh, true), text(&walked, true));
        }
    }
}
