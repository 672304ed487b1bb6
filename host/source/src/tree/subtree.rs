//! The nodes of one watched subtree, and which of them changed.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

use super::node::{Fingerprint, Node, NodeError, Root, StableHash, mzxid, stat};
use twitcher_model::{PAYLOAD_MAX, TreeNode, TreeNodes};

/// Most nodes of a watched subtree: bounds memory and the time of a walk.
const MOST_NODES: usize = 200_000;

/// What a subtree was when it was last walked. Paths are below the root directory, without a leading slash.
#[derive(Debug, Default)]
pub(super) struct Subtree {
    nodes: BTreeMap<String, Known>,
    /// What could not be read, and why.
    unread: BTreeMap<String, NodeError>,
    /// Whether the data of files is kept.
    keeps_data: bool,
}

#[derive(Debug, Clone)]
struct Known {
    /// None for a directory, and for a file that must be read again.
    fingerprint: Option<Fingerprint>,
    mzxid: i64,
    /// What the file holds, if that is kept.
    data: Option<Bytes>,
}

impl Subtree {
    /// Nothing is known yet.
    pub(super) fn new(keeps_data: bool) -> Self {
        Self {
            keeps_data,
            ..Self::default()
        }
    }

    /// Every node with what it holds, if that is kept.
    pub(super) fn contents(&self) -> Option<Arc<TreeNodes>> {
        let contents = |(path, known): (&String, &Known)| {
            let is_unread = self.unread.contains_key(path);
            let data = known.data.clone().filter(|_| !is_unread);
            let stat = stat(known.mzxid);
            (format!("/{path}").into(), TreeNode { stat, data })
        };
        self.keeps_data
            .then(|| Arc::new(self.nodes.iter().map(contents).collect()))
    }

    /// How many nodes there are.
    pub(super) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Something happened to a path: it is not trusted to be unchanged only because its times are.
    pub(super) fn touch(&mut self, path: &str) {
        if let Some(known) = self.nodes.get_mut(path) {
            known.fingerprint = None;
        }
    }

    /// What could not be read when it was last walked, and why.
    pub(super) fn unread(&self) -> &BTreeMap<String, NodeError> {
        &self.unread
    }

    /// Walks the subtree at `top`. `enter` is called for each directory before it is listed. Files in `in_between` stay what they
    /// were, as does what cannot be read. Returns the paths that changed.
    pub(super) fn walk(
        &mut self,
        root: &Root,
        top: &str,
        (directory, most): (&Path, u64),
        in_between: &HashSet<PathBuf>,
        mut enter: impl FnMut(&Path),
    ) -> Result<Vec<String>, NodeError> {
        let mut found = BTreeMap::new();
        let mut unread = BTreeMap::new();
        let mut kept = 0;
        let mut stack = vec![top.to_owned()];
        while let Some(path) = stack.pop() {
            let known = self.nodes.get(&path).cloned();
            let full = directory.join(&path);
            let now = if in_between.contains(&full) {
                known
            } else {
                look(root, &path, known.as_ref(), most, self.keeps_data).unwrap_or_else(|error| {
                    unread.insert(path.clone(), error);
                    known
                })
            };
            let Some(now) = now else {
                continue;
            };
            // A link to a directory is a node without children here: links could make the walk endless.
            if now.fingerprint.is_none() && root.is_own_directory(&path).unwrap_or_default() {
                enter(&full);
                match root.names(&path) {
                    Ok(names) => stack.extend(names.iter().map(|name| join(&path, name))),
                    Err(error) if path == top => return Err(error),
                    // That what is below cannot be seen does not mean that it is gone.
                    Err(error) => {
                        let below = join(&path, "");
                        let range = self.nodes.range(below.clone()..);
                        let kept = range.take_while(|(path, _)| path.starts_with(&below));
                        found.extend(kept.map(|(path, known)| (path.clone(), known.clone())));
                        unread.insert(path.clone(), error);
                    }
                }
            }
            if let Some(data) = &now.data {
                kept += data.len() + path.len() + 1;
                if kept > PAYLOAD_MAX {
                    return Err(NodeError::TooMuchData(PAYLOAD_MAX));
                }
            }
            found.insert(path, now);
            if found.len() + stack.len() > MOST_NODES {
                return Err(NodeError::TooManyNodes(MOST_NODES));
            }
        }
        self.unread = unread;
        let old = std::mem::replace(&mut self.nodes, found);
        let differs = |path: &String| old.get(path).map(|old| old.mzxid) != self.nodes.get(path).map(|new| new.mzxid);
        let mut changed: Vec<String> = self.nodes.keys().filter(|path| differs(path)).cloned().collect();
        changed.extend(old.keys().filter(|path| !self.nodes.contains_key(*path)).cloned());
        changed.sort_unstable();
        Ok(changed)
    }

    /// A digest over every node's path, creation and modification.
    pub(super) fn digest(&self) -> u64 {
        let one = |(path, known): (&String, &Known)| {
            let mut hash = StableHash::default();
            hash.add(path.as_bytes());
            hash.add(&[0]);
            hash.add(&known.mzxid.to_le_bytes());
            hash.value()
        };
        self.nodes.iter().map(one).fold(0, |digest, one| digest ^ one)
    }
}

/// What is at a path now; a file is read only if it is not the one that is known.
fn look(root: &Root, path: &str, known: Option<&Known>, most: u64, keep: bool) -> Result<Option<Known>, NodeError> {
    match root.look(path)? {
        Node::Absent => Ok(None),
        Node::Directory => Ok(Some(Known {
            fingerprint: None,
            mzxid: 0,
            data: keep.then(Bytes::new),
        })),
        Node::File { fingerprint } if known.is_some_and(|known| known.fingerprint == Some(fingerprint)) => {
            Ok(known.cloned())
        }
        Node::File { .. } => {
            let data: Option<(Bytes, Fingerprint)> = root.data(path, most)?;
            Ok(data.map(|(data, fingerprint)| Known {
                fingerprint: Some(fingerprint),
                mzxid: mzxid(&data, &fingerprint),
                data: keep.then_some(data),
            }))
        }
    }
}

/// A path one level down.
pub(super) fn join(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}/{name}")
    }
}
