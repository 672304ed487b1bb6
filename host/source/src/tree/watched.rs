//! The watched znodes: which directories must be watched for them, which of them an event may have changed, and what they are.
//!
//! All of it blocks. It must not know about tasks and channels.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::path::PathBuf;
use std::sync::PoisonError;

use bytes::Bytes;
use tracing::{debug, warn};

use super::Way;
use super::node::{Fingerprint, Node, NodeError, Root, StableHash, mzxid, stat, znode_name};
use super::subtree::Subtree;
use crate::{Change, Subscription};
use twitcher_files::directory_watch::{DirectoryWatcher, SettledChanges, way};
use twitcher_model::{Observation, Stamp, Version, WatchId, WatchType};

/// Most observations and, but for the last one, most bytes that are read before they are handed on: bounds memory.
const MOST_READ: usize = 256;
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// The watched znodes of one directory.
#[derive(Debug)]
pub(super) struct View {
    root: PathBuf,
    watcher: DirectoryWatcher,
    way: Way,
    watched: HashMap<WatchId, Watched>,
    /// By path without the leading slash, so that all below a path are neighbours.
    by_path: BTreeMap<String, Vec<WatchId>>,
}

#[derive(Debug)]
struct Watched {
    subscription: Subscription,
    sent: Option<Version>,
    /// The file as it was last read; none if it must be read again whatever its times say.
    fingerprint: Option<Fingerprint>,
    subtree: Subtree,
    unreadable: Option<NodeError>,
}

impl Watched {
    fn path(&self) -> &str {
        &self.subscription.znode.as_str()[1..]
    }
}

impl View {
    /// Nothing is watched yet. `root` is absolute.
    pub(super) fn new(root: PathBuf, watcher: DirectoryWatcher, way: Way) -> Self {
        Self {
            root,
            watcher,
            way,
            watched: HashMap::new(),
            by_path: BTreeMap::new(),
        }
    }

    /// Applies a change; returns the watches to be read.
    pub(super) fn change(&mut self, change: Change) -> Vec<WatchId> {
        for watch in change.remove {
            if let Some(watched) = self.watched.remove(&watch)
                && let Some(watches) = self.by_path.get_mut(watched.path())
            {
                watches.retain(|other| *other != watch);
                if watches.is_empty() {
                    self.by_path.remove(watched.path());
                }
            }
        }
        let mut added = Vec::with_capacity(change.add.len());
        for subscription in change.add {
            let watch = subscription.watch;
            let watched = Watched {
                subscription,
                sent: None,
                fingerprint: None,
                subtree: Subtree::default(),
                unreadable: None,
            };
            self.by_path.entry(watched.path().to_owned()).or_default().push(watch);
            self.watched.insert(watch, watched);
            added.push(watch);
        }
        added
    }

    /// All watches, to be read, and every directory to be watched anew: for when anything may have been missed.
    pub(super) fn all(&mut self) -> Vec<WatchId> {
        self.watcher.forget_all();
        self.watched.keys().copied().collect()
    }

    /// The watches that may see something new after these events.
    pub(super) fn affected(&mut self, batch: &SettledChanges) -> Vec<WatchId> {
        if batch.lost {
            return self.all();
        }
        let mut affected = BTreeSet::new();
        for (path, entry) in &batch.paths {
            if *entry {
                self.watcher.forget(path);
            }
            let Ok(below) = path.strip_prefix(&self.root) else {
                // A directory or a link on the way to the root.
                if *entry {
                    return self.all();
                }
                continue;
            };
            let mut names = Vec::new();
            let mut skipped = None;
            for name in below.iter() {
                match znode_name(name) {
                    Some(name) => names.push(name),
                    None => {
                        skipped = Some(name);
                        break;
                    }
                }
            }
            match skipped {
                None => self.affected_by(&names, *entry, &mut affected),
                // Volumes of container managers are links through one such as `..data`, which is swapped as a whole.
                Some(name) if *entry && name.to_string_lossy().starts_with("..") => {
                    self.affected_by(&names, true, &mut affected);
                }
                Some(_) => {}
            }
        }
        affected.into_iter().collect()
    }

    fn affected_by(&mut self, names: &[&str], entry: bool, affected: &mut BTreeSet<WatchId>) {
        let path = names.join("/");
        for depth in 0..=names.len() {
            let ancestor = names[..depth].join("/");
            for watch in self.by_path.get(&ancestor).into_iter().flatten() {
                let Some(watched) = self.watched.get_mut(watch) else {
                    continue;
                };
                let concerned = match watched.subscription.watch_type {
                    WatchType::Data => depth == names.len(),
                    WatchType::Children => entry && depth + 1 >= names.len(),
                    WatchType::Tree => true,
                };
                if concerned {
                    watched.fingerprint = None;
                    watched.subtree.touch(&path);
                    affected.insert(*watch);
                }
            }
        }
        if entry {
            let prefix = if path.is_empty() { String::new() } else { path + "/" };
            let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
            let below = self.by_path.range::<str, _>(from);
            for (_, watches) in below.take_while(|(path, _)| path.starts_with(&prefix)) {
                affected.extend(watches);
            }
        }
    }

    /// Reads watches from the front of `todo` until enough is read. Returns what is new. Files in `writing` are left for later.
    pub(super) fn read(
        &mut self,
        todo: &mut VecDeque<WatchId>,
        writing: &HashSet<PathBuf>,
    ) -> Vec<(WatchId, Observation)> {
        // Watched before it is opened, or a change in between would be missed.
        self.watch_root();
        let root = Root::open(&self.root);
        let mut new = Vec::new();
        let mut bytes = 0;
        for _ in 0..MOST_READ {
            if bytes >= MOST_BYTES {
                break;
            }
            let Some(watch) = todo.pop_front() else {
                break;
            };
            if let Some(observation) = self.read_one(watch, root.as_ref(), writing) {
                bytes += observation.stdin.len();
                new.push((watch, observation));
            }
        }
        new
    }

    fn read_one(
        &mut self,
        watch: WatchId,
        root: Result<&Root, &NodeError>,
        writing: &HashSet<PathBuf>,
    ) -> Option<Observation> {
        let mut watched = self.watched.remove(&watch)?;
        self.watch_way(watched.path(), watched.subscription.watch_type);
        let read = match root {
            Ok(_) if watched.sent.is_some() && writing.contains(&self.root.join(watched.path())) => Ok(None),
            Ok(root) => self.observe(&mut watched, root, writing),
            Err(error) => Err(error.clone()),
        };
        let Subscription { name, znode, .. } = &watched.subscription;
        let observation = match read {
            Ok(observation) => {
                watched.unreadable = None;
                observation.filter(|observation| watched.sent != Some(observation.version))
            }
            Err(error) => {
                if watched.unreadable.as_ref() != Some(&error) {
                    warn!(watch = &**name, %znode, %error, "cannot read znode");
                    watched.unreadable = Some(error);
                }
                None
            }
        };
        if let Some(observation) = &observation {
            match (watched.sent, observation.exists()) {
                (None, true) => debug!(watch = &**name, %znode, "watch armed"),
                (None, false) => debug!(watch = &**name, %znode, "watch armed, node absent"),
                (Some(_), _) => {}
            }
            watched.sent = Some(observation.version);
        }
        self.watched.insert(watch, watched);
        observation
    }

    /// The state of a watched node; none if it is known to be the one that was sent.
    fn observe(
        &mut self,
        watched: &mut Watched,
        root: &Root,
        writing: &HashSet<PathBuf>,
    ) -> Result<Option<Observation>, NodeError> {
        let path = watched.path().to_owned();
        let node = root.look(&path)?;
        if node == Node::Absent {
            watched.fingerprint = None;
            watched.subtree = Subtree::default();
            return Ok(Some(Observation::absent()));
        }
        match watched.subscription.watch_type {
            WatchType::Data => {
                if matches!(node, Node::File { fingerprint } if watched.sent.is_some() && watched.fingerprint == Some(fingerprint))
                {
                    return Ok(None);
                }
                let (data, mzxid) = match root.data(&path)? {
                    Some((data, fingerprint)) => {
                        watched.fingerprint = Some(fingerprint);
                        let mzxid = mzxid(&data, &fingerprint);
                        (data, mzxid)
                    }
                    None => {
                        watched.fingerprint = None;
                        (Bytes::new(), 0)
                    }
                };
                Ok(Some(Observation {
                    version: Version::Data {
                        czxid: 0,
                        mzxid,
                        stamp: Stamp::default(),
                    },
                    stat: Some(stat(mzxid)),
                    stdin: data,
                }))
            }
            WatchType::Children => {
                let names = lines(root.names(&path)?.iter());
                let mut hash = StableHash::default();
                hash.add(&names);
                Ok(Some(Observation {
                    version: Version::Children {
                        czxid: 0,
                        pzxid: hash.positive(),
                        stamp: Stamp::default(),
                    },
                    stat: Some(stat(0)),
                    stdin: names,
                }))
            }
            WatchType::Tree => {
                let Subscription { name, znode, .. } = &watched.subscription;
                let watcher = &mut self.watcher;
                let changed = watched.subtree.walk(
                    root,
                    &path,
                    &self.root,
                    writing,
                    |directory| {
                        watcher.watch(directory);
                    },
                    |path, error| warn!(watch = &**name, %znode, path, %error, "cannot read a node of the subtree"),
                )?;
                let digest = watched.subtree.digest();
                Ok(Some(Observation {
                    version: Version::Tree {
                        digest,
                        stamp: Stamp::default(),
                    },
                    stat: Some(stat(0)),
                    stdin: lines(changed.iter().map(|path| format!("/{path}"))),
                }))
            }
        }
    }

    /// Watches every name on the way to the root, through every link: any of them may come, go and be replaced.
    fn watch_root(&mut self) {
        let mut steps = HashSet::new();
        way::follow(&self.root, |directory, name| {
            self.watcher.watch_name(directory, name);
            steps.insert(directory.join(name));
        });
        if *self.way.read().unwrap_or_else(PoisonError::into_inner) != steps {
            *self.way.write().unwrap_or_else(PoisonError::into_inner) = steps;
        }
    }

    /// Watches the directories on the way to a node, and the node itself if its children matter.
    fn watch_way(&mut self, path: &str, watch_type: WatchType) {
        let mut directory = self.root.clone();
        self.watcher.watch(&directory);
        let mut names = path.split('/').filter(|name| !name.is_empty()).peekable();
        while let Some(name) = names.next() {
            if names.peek().is_none() && watch_type == WatchType::Data {
                break;
            }
            directory.push(name);
            // The library would follow a link, and tell the events of a directory that has two paths for one of them only.
            if !std::fs::symlink_metadata(&directory).is_ok_and(|metadata| metadata.is_dir()) {
                break;
            }
            self.watcher.watch(&directory);
        }
    }
}

fn lines(lines: impl Iterator<Item = impl AsRef<str>>) -> Bytes {
    let mut text = Vec::new();
    for line in lines {
        text.extend_from_slice(line.as_ref().as_bytes());
        text.push(b'\n');
    }
    text.into()
}
