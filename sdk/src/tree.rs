//! A watched subtree, as a watch with `payload = JSON` is told of it.

use std::error::Error;
use std::fmt;
use std::str::Utf8Error;

use crate::Stat;

/// A znode and every one below it, with their data, and what became of them since the last run that succeeded.
///
/// ```
/// use twitcher_sdk::{Change, Failure};
///
/// fn on_change(change: Change) -> Result<(), Failure> {
///     let tree = change.tree()?;
///     let host = tree.text("db/host")?.unwrap_or("localhost");
///     for node in tree {
///         twitcher_sdk::log::info!("there is", path = node.path, bytes = node.data.as_ref().map_or(0, Vec::len));
///     }
///     assert_eq!(host, "db1");
///     Ok(())
/// }
/// # twitcher_sdk::testing::Host::new().tree_node("/test/db/host", "db1").run(on_change, "").unwrap();
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tree {
    root: String,
    nodes: Vec<TreeNode>,
    changed: Vec<(String, Fate)>,
}

/// A znode of a subtree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeNode {
    /// Its path, as watches name it.
    pub path: String,
    /// Its stat.
    pub stat: Stat,
    /// Its data; none if it cannot be read.
    pub data: Option<Vec<u8>>,
}

/// What became of a znode of a subtree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It came into being, perhaps in place of another one.
    Created,
    /// Its data was set.
    Set,
    /// It went away.
    Deleted,
}

impl Tree {
    /// Both lists are sorted by path.
    pub(crate) fn new(root: String, nodes: Vec<TreeNode>, changed: Vec<(String, Fate)>) -> Self {
        Self { root, nodes, changed }
    }

    /// A znode: by its path or, without a slash at the beginning, by its path below the watched one. `""` is the watched one itself.
    pub fn get(&self, path: &str) -> Option<&TreeNode> {
        let root = self.root.trim_end_matches('/');
        let whole = match path {
            "" => self.root.clone(),
            _ if path.starts_with('/') => path.to_owned(),
            _ => format!("{root}/{path}"),
        };
        let at = self.nodes.binary_search_by(|node| node.path.as_str().cmp(&whole));
        at.ok().and_then(|at| self.nodes.get(at))
    }

    /// The data of a znode as text; none if there is no such znode, or if it cannot be read. The path is that of [`Tree::get`].
    ///
    /// # Errors
    /// When it is not UTF-8.
    pub fn text(&self, path: &str) -> Result<Option<&str>, Utf8Error> {
        let data = self.get(path).and_then(|node| node.data.as_deref());
        data.map(std::str::from_utf8).transpose()
    }

    /// Every znode, sorted by path. There is none when the watched one is gone.
    pub fn nodes(&self) -> &[TreeNode] {
        &self.nodes
    }

    /// What became of which path since the last run that succeeded, sorted by path. Where there was no such run since the daemon started,
    /// every znode was created.
    pub fn changed(&self) -> impl Iterator<Item = (&str, Fate)> {
        self.changed.iter().map(|(path, fate)| (path.as_str(), *fate))
    }
}

impl<'a> IntoIterator for &'a Tree {
    type Item = &'a TreeNode;
    type IntoIter = std::slice::Iter<'a, TreeNode>;

    fn into_iter(self) -> Self::IntoIter {
        self.nodes.iter()
    }
}

/// There is no subtree to look at: the watch has not asked for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct NoTree;

impl fmt::Display for NoTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the action is not told of a subtree: the watch must have watch_type = WATCH_TREE, payload = JSON")
    }
}

impl Error for NoTree {}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(path: &str, data: Option<&str>) -> TreeNode {
        TreeNode {
            path: path.to_owned(),
            stat: Stat::default(),
            data: data.map(|data| data.as_bytes().to_vec()),
        }
    }

    #[test]
    fn nodes_are_found_by_their_paths_and_by_those_below_the_root() {
        let nodes = vec![node("/a", Some("top")), node("/a/b", Some("1")), node("/a/c", None)];
        let tree = Tree::new("/a".to_owned(), nodes, vec![]);
        assert_eq!(tree.text("b"), Ok(Some("1")));
        assert_eq!(tree.text("/a/b"), Ok(Some("1")));
        assert_eq!(tree.text(""), Ok(Some("top")));
        assert_eq!((tree.text("c"), tree.text("x")), (Ok(None), Ok(None)));
        assert!(tree.get("c").is_some() && tree.get("/b").is_none());
        let root = Tree::new(
            "/".to_owned(),
            vec![node("/", Some("top")), node("/b", Some("1"))],
            vec![],
        );
        assert_eq!((root.text(""), root.text("b")), (Ok(Some("top")), Ok(Some("1"))));
    }
}
