//! Which znodes are watched through one recursive watch on an ancestor, and which one by one.
//!
//! A pure function of the set of watches: the same set always gets the same plan. It must not know about sessions.
//!
//! A recursive watch costs nothing a znode, but brings the events of everything below it, wanted or not. So it is placed as deep
//! as possible, and only where it carries enough watches.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use twitcher_model::WatchType;

/// So many watched children of one znode are worth a recursive watch on it.
const MANY_SIBLINGS: u32 = 64;

/// So many watched znodes, deeper below a common ancestor, are worth a recursive watch on that. More than for siblings: what lies
/// between is likelier to hold znodes that nobody watches.
const MANY_RELATED: u32 = 1000;

/// The ancestors that get a recursive watch.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    roots: HashSet<Arc<str>>,
}

impl Plan {
    /// Chooses for these watches. `namespace_is_ours` is whether `/` may be chosen though nobody asked for it: with a chroot it is
    /// the operator's own corner, without one it is everybody's.
    pub fn choose<'a>(watches: impl Iterator<Item = (&'a str, WatchType)> + Clone, namespace_is_ours: bool) -> Self {
        let trees: HashSet<&str> = watches
            .clone()
            .filter(|(_, kind)| *kind == WatchType::Tree)
            .map(|(path, _)| path)
            .collect();
        let mut roots: HashSet<&str> = trees
            .iter()
            .copied()
            .filter(|path| !ancestors(path).any(|above| trees.contains(above)))
            .collect();
        let loose = |roots: &HashSet<&str>, path: &str| !covered(roots, path);

        let mut siblings: HashMap<&str, u32> = HashMap::new();
        let mut related: HashMap<&str, u32> = HashMap::new();
        for (path, _) in watches.filter(|(path, _)| loose(&roots, path)) {
            for (level, above) in ancestors(path).enumerate() {
                if above == "/" && !namespace_is_ours {
                    continue;
                }
                if level == 0 {
                    *siblings.entry(above).or_default() += 1;
                }
                *related.entry(above).or_default() += 1;
            }
        }
        // Deepest first: what a deeper watch carries no longer counts for the ancestors above it.
        let mut deepest_first: Vec<&str> = related.keys().copied().collect();
        deepest_first.sort_unstable_by_key(|path| (std::cmp::Reverse(depth(path)), *path));
        let mut carried: HashMap<&str, u32> = HashMap::new();
        for path in deepest_first {
            let below = carried.get(path).copied().unwrap_or(0);
            let count = related[path] - below;
            let enough = siblings.get(path).is_some_and(|count| *count >= MANY_SIBLINGS) || count >= MANY_RELATED;
            let carries = if enough { related[path] } else { below };
            if enough {
                roots.insert(path);
            }
            if let Some(parent) = ancestors(path).next() {
                *carried.entry(parent).or_default() += carries;
            }
        }
        let outermost = roots
            .iter()
            .filter(|path| !ancestors(path).any(|above| roots.contains(above)));
        Self {
            roots: outermost.map(|path| Arc::from(*path)).collect(),
        }
    }

    /// The znode whose recursive watch covers `path`.
    pub fn root_of(&self, path: &str) -> Option<&Arc<str>> {
        self.roots
            .get(path)
            .or_else(|| ancestors(path).find_map(|above| self.roots.get(above)))
    }

    /// Whether there is a recursive watch on `path` itself.
    pub fn has_root(&self, path: &str) -> bool {
        self.roots.contains(path)
    }

    /// All of them.
    pub fn roots(&self) -> impl Iterator<Item = &Arc<str>> {
        self.roots.iter()
    }
}

fn covered(roots: &HashSet<&str>, path: &str) -> bool {
    roots.contains(path) || ancestors(path).any(|above| roots.contains(above))
}

/// The paths above `path`, the nearest first, `/` last.
pub(super) fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    let mut rest = if path == "/" { None } else { Some(path) };
    std::iter::from_fn(move || {
        let at = rest?.rfind('/')?;
        let above = if at == 0 { "/" } else { &path[..at] };
        rest = if at == 0 { None } else { Some(above) };
        Some(above)
    })
}

fn depth(path: &str) -> usize {
    if path == "/" {
        0
    } else {
        path.bytes().filter(|byte| *byte == b'/').count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots(watches: &[(String, WatchType)], ours: bool) -> Vec<String> {
        let plan = Plan::choose(watches.iter().map(|(path, kind)| (path.as_str(), *kind)), ours);
        let mut roots: Vec<String> = plan.roots().map(|root| root.to_string()).collect();
        roots.sort();
        roots
    }

    fn data(paths: impl Iterator<Item = String>) -> Vec<(String, WatchType)> {
        paths.map(|path| (path, WatchType::Data)).collect()
    }

    #[test]
    fn few_are_watched_one_by_one() {
        assert!(roots(&data((0..63).map(|i| format!("/app/n{i}"))), false).is_empty());
    }

    #[test]
    fn many_siblings_share_a_watch_on_their_parent() {
        assert_eq!(roots(&data((0..64).map(|i| format!("/app/n{i}"))), false), ["/app"]);
        let mut two = data((0..64).map(|i| format!("/app/x/n{i}")));
        two.extend(data((0..64).map(|i| format!("/app/y/n{i}"))));
        two.extend(data((0..10).map(|i| format!("/app/z/n{i}"))));
        assert_eq!(roots(&two, false), ["/app/x", "/app/y"]);
    }

    #[test]
    fn very_many_below_a_distant_ancestor_share_a_watch_on_it() {
        assert!(roots(&data((0..999).map(|i| format!("/svc/s{i}/config"))), false).is_empty());
        assert_eq!(
            roots(&data((0..1000).map(|i| format!("/svc/s{i}/config"))), false),
            ["/svc"]
        );
        // What deeper watches carry does not count again.
        let deep = data((0..2000).map(|i| format!("/svc/s{}/n{i}", i % 20)));
        assert_eq!(roots(&deep, false).len(), 20);
    }

    #[test]
    fn the_root_is_chosen_only_when_asked_for_or_ours() {
        let top = data((0..5000).map(|i| format!("/n{i}")));
        assert!(roots(&top, false).is_empty());
        assert_eq!(roots(&top, true), ["/"]);
        assert_eq!(
            roots(&[("/".into(), WatchType::Tree), ("/a".into(), WatchType::Data)], false),
            ["/"]
        );
    }

    #[test]
    fn a_subtree_always_gets_a_recursive_watch_and_carries_what_is_in_it() {
        let mut watches = data((0..100).map(|i| format!("/app/n{i}")));
        watches.push(("/app".into(), WatchType::Tree));
        watches.push(("/app/n1".into(), WatchType::Tree));
        watches.push(("/application".into(), WatchType::Data));
        assert_eq!(roots(&watches, false), ["/app"]);
        let plan = Plan::choose(watches.iter().map(|(path, kind)| (path.as_str(), *kind)), false);
        assert_eq!(plan.root_of("/app/n5").map(|root| &**root), Some("/app"));
        assert_eq!(plan.root_of("/app").map(|root| &**root), Some("/app"));
        assert_eq!(plan.root_of("/application"), None);
    }

    #[test]
    fn ancestors_go_up_to_the_root() {
        assert_eq!(ancestors("/a/b/c").collect::<Vec<_>>(), ["/a/b", "/a", "/"]);
        assert_eq!(ancestors("/a").collect::<Vec<_>>(), ["/"]);
        assert_eq!(ancestors("/").count(), 0);
    }
}
