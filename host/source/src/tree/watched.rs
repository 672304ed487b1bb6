//! The watched znodes: which directories must be watched for them, which of them an event may have changed, and what they are.
//!
//! All of it blocks. It must not know about tasks and channels.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use tracing::{debug, info, warn};

use super::Way;
use super::node::{Fingerprint, Node, NodeError, Root, StableHash, mzxid, stat, znode_name};
use super::subtree::Subtree;
use crate::{Change, SourceReport, Subscription};
use twitcher_files::directory_watch::settling::SettledPath;
use twitcher_files::directory_watch::{DirectoryWatcher, SettledChanges, way};
use twitcher_model::{Observation, Stamp, Unreadable, Version, WatchId, WatchType};

/// Most observations and, but for the last one, most bytes that are read before they are handed on: bounds memory.
pub(super) const MOST_READ: usize = 256;
pub(super) const MOST_BYTES: usize = 4 * 1024 * 1024;

/// The watched znodes of one directory.
#[derive(Debug)]
pub(super) struct View {
    pub(super) root: PathBuf,
    pub(super) watcher: DirectoryWatcher,
    way: Way,
    pub(super) watched: HashMap<WatchId, Watched>,
    /// By path without the leading slash, so that all below a path are neighbours.
    pub(super) by_path: BTreeMap<String, Vec<WatchId>>,
    /// Time until everything is read again.
    sweep: Duration,
    /// Most bytes of a file.
    pub(super) most: u64,
}

#[derive(Debug)]
pub(super) struct Watched {
    pub(super) subscription: Subscription,
    pub(super) sent: Option<Version>,
    /// The file as it was last read; none if it must be read again whatever its times say.
    pub(super) fingerprint: Option<Fingerprint>,
    subtree: Subtree,
    pub(super) unreadable: Option<Trouble>,
}

/// What cannot be read of a watch's node.
#[derive(Debug)]
pub(super) struct Trouble {
    since: SystemTime,
    /// In the words of the log.
    why: String,
}

impl Watched {
    pub(super) fn path(&self) -> &str {
        &self.subscription.znode.as_str()[1..]
    }
}

impl View {
    /// Nothing is watched yet. `root` is absolute.
    pub(super) fn new(root: PathBuf, watcher: DirectoryWatcher, way: Way, sweep: Duration, most: u64) -> Self {
        Self {
            root,
            watcher,
            way,
            watched: HashMap::new(),
            by_path: BTreeMap::new(),
            sweep,
            most,
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
                subtree: Subtree::new(subscription.with_nodes),
                subscription,
                sent: None,
                fingerprint: None,
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
        for SettledPath { path, entry, told } in &batch.paths {
            if *entry {
                self.watcher.forget(path);
            }
            match names_below(&self.root, path) {
                Below::Node(names) => self.affected_by(&names, *entry, *told, &mut affected),
                Below::Swapped(names) if *entry => self.affected_by(&names, true, false, &mut affected),
                Below::Swapped(_) | Below::Hidden => {}
                // A directory or a link on the way to the root.
                Below::Outside if *entry => return self.all(),
                Below::Outside => {}
            }
        }
        affected.into_iter().collect()
    }

    /// `told`: nothing happened to it since its [first look](View::first_look).
    fn affected_by(&mut self, names: &[&str], entry: bool, told: bool, affected: &mut BTreeSet<WatchId>) {
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
                // To look again would be to look while the next change is under way, and to see the half of it.
                let is_done =
                    told && watched.subscription.watch_type == WatchType::Data && watched.fingerprint.is_some();
                if concerned && !is_done {
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

    /// Reads watches from the front of `todo` until enough is read. Returns what is to be reported. Paths in `in_between` are left for
    /// later.
    pub(super) fn read(&mut self, todo: &mut VecDeque<WatchId>, in_between: &HashSet<PathBuf>) -> Vec<SourceReport> {
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
            bytes += self.read_one(watch, root.as_ref(), in_between, &mut new);
        }
        new
    }

    /// Reads one watch; gives the bytes of what is new.
    fn read_one(
        &mut self,
        watch: WatchId,
        root: Result<&Root, &NodeError>,
        in_between: &HashSet<PathBuf>,
        reports: &mut Vec<SourceReport>,
    ) -> usize {
        let Some(mut watched) = self.watched.remove(&watch) else {
            return 0;
        };
        self.watch_way(watched.path(), watched.subscription.watch_type);
        let read = match root {
            Ok(_) if watched.sent.is_some() && in_between.contains(&self.root.join(watched.path())) => {
                self.watched.insert(watch, watched);
                return 0;
            }
            Ok(root) => self.observe(&mut watched, root, in_between),
            Err(error) => Err(error.clone()),
        };
        let unread = match &read {
            Err(error) => Some((error.to_string(), error.remedy(&self.root.join(watched.path())), None)),
            Ok(_) => self.unread_parts(&watched),
        };
        let Subscription { name, znode, .. } = &watched.subscription;
        let observation = read.ok().flatten();
        let observation = observation.filter(|observation| watched.sent != Some(observation.version));
        if let Some(observation) = &observation {
            match (watched.sent, observation.exists()) {
                (None, true) => debug!(watch = &**name, %znode, "watch armed"),
                (None, false) => debug!(watch = &**name, %znode, "watch armed, node absent"),
                (Some(_), _) => {}
            }
            watched.sent = Some(observation.version);
        }
        let bytes = observation.as_ref().map_or(0, |observation| observation.stdin.len());
        reports.extend(observation.map(|observation| SourceReport::Observed(watch, observation)));
        match unread {
            Some((why, remedy, parts)) => {
                let before = watched.unreadable.take();
                if before.as_ref().is_none_or(|before| before.why != why) {
                    warn!(watch = &**name, %znode, "cannot read the znode: {why}; {remedy}");
                }
                let since = before.map_or_else(SystemTime::now, |before| before.since);
                watched.unreadable = Some(Trouble {
                    since,
                    why: why.clone(),
                });
                let unreadable = Unreadable {
                    why,
                    remedy,
                    parts,
                    since,
                    next_attempt: SystemTime::now() + self.sweep,
                };
                reports.push(SourceReport::Unreadable(watch, Arc::new(unreadable)));
            }
            None if watched.unreadable.take().is_some() => {
                info!(watch = &**name, %znode, "the znode can be read again");
                reports.push(SourceReport::Readable(watch));
            }
            None => {}
        }
        self.watched.insert(watch, watched);
        bytes
    }

    /// What could not be read of a subtree: why, what to do about the first, and how many.
    fn unread_parts(&self, watched: &Watched) -> Option<(String, String, Option<usize>)> {
        let unread = watched.subtree.unread();
        let (path, error) = unread.first_key_value()?;
        let more = match unread.len() {
            1 => String::new(),
            count => format!(" (and {} more)", count - 1),
        };
        let (why, remedy) = (format!("/{path}{more}: {error}"), error.remedy(&self.root.join(path)));
        Some((why, remedy, Some(unread.len())))
    }

    /// The state of a watched node; none if it is known to be the one that was sent.
    fn observe(
        &mut self,
        watched: &mut Watched,
        root: &Root,
        in_between: &HashSet<PathBuf>,
    ) -> Result<Option<Observation>, NodeError> {
        let path = watched.path().to_owned();
        let node = root.look(&path)?;
        if node == Node::Absent {
            watched.fingerprint = None;
            watched.subtree = Subtree::new(watched.subscription.with_nodes);
            return Ok(Some(Observation::absent()));
        }
        match watched.subscription.watch_type {
            WatchType::Data => {
                if matches!(node, Node::File { fingerprint } if watched.sent.is_some() && watched.fingerprint == Some(fingerprint))
                {
                    return Ok(None);
                }
                let (data, mzxid) = match root.data(&path, self.most)? {
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
                Ok(Some(data_observation(data, mzxid)))
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
                    nodes: None,
                    znodes: 0,
                    several: None,
                }))
            }
            WatchType::Tree => {
                let watcher = &mut self.watcher;
                let changed = watched
                    .subtree
                    .walk(root, &path, (&self.root, self.most), in_between, |directory| {
                        watcher.watch(directory);
                    })?;
                let digest = watched.subtree.digest();
                Ok(Some(Observation {
                    version: Version::Tree {
                        digest,
                        stamp: Stamp::default(),
                    },
                    stat: Some(stat(0)),
                    stdin: lines(changed.iter().map(|path| format!("/{path}"))),
                    nodes: watched.subtree.contents(),
                    znodes: watched.subtree.len() as u32,
                    several: None,
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

/// What a path is to the watched znodes.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Below<'a> {
    /// The names of a node, from the root on.
    Node(Vec<&'a str>),
    /// A name in the directory of these names through which all in it is swapped as a whole: volumes of container managers are links
    /// through one such as `..data`.
    Swapped(Vec<&'a str>),
    /// It has, or is below, a name that is no znode's.
    Hidden,
    /// It is not below the root.
    Outside,
}

pub(super) fn names_below<'a>(root: &Path, path: &'a Path) -> Below<'a> {
    let Ok(below) = path.strip_prefix(root) else {
        return Below::Outside;
    };
    let mut names = Vec::new();
    for name in below.iter() {
        match znode_name(name) {
            Some(name) => names.push(name),
            None if name.to_string_lossy().starts_with("..") => return Below::Swapped(names),
            None => return Below::Hidden,
        }
    }
    Below::Node(names)
}

/// A file's data as an observation.
pub(super) fn data_observation(data: Bytes, mzxid: i64) -> Observation {
    Observation {
        version: Version::Data {
            czxid: 0,
            mzxid,
            stamp: Stamp::default(),
        },
        stat: Some(stat(mzxid)),
        stdin: data,
        nodes: None,
        znodes: 0,
        several: None,
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
