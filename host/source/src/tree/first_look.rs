//! A first look at files that are finished, before their paths are quiet.
//!
//! Whatever there is doubt about is left to the look that follows when the path has settled: nothing depends on this one. It must not
//! know when that is.

use std::collections::{BTreeSet, HashSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};

use super::node::{Fingerprint, Root, mzxid};
use super::watched::{Below, MOST_BYTES, MOST_READ, View, data_observation, names_below};
use crate::SourceReport;
use twitcher_model::{Observation, WatchId, WatchType};

/// What a first look brought.
#[derive(Debug, Default)]
pub(super) struct Looked {
    pub(super) reports: Vec<SourceReport>,
    /// The paths to which something happened while they were looked at.
    pub(super) overtaken: Vec<PathBuf>,
}

/// A file that was read for a watch, because of what happened to a path: the file's, or one above.
struct Read<'a> {
    because: &'a Path,
    watch: WatchId,
    path: PathBuf,
    observation: Observation,
    /// None if it is not certain that nothing was missed since.
    fingerprint: Option<Fingerprint>,
}

impl View {
    /// Keeps those of the finished paths that a first look concerns. Does not block: files may be written all the time that nobody
    /// watches.
    pub(super) fn keep_concerned(&mut self, finished: &mut Vec<(PathBuf, bool)>) {
        for (path, _) in &*finished {
            self.distrust(path);
        }
        finished.retain(|(path, entry)| !self.first_concerned(path, *entry).is_empty());
    }

    /// Looks at the data of nodes whose files are finished, or at the nodes below what was renamed to a path. Whoever watches children or
    /// subtrees is told when all that happens there has settled: files are finished one by one, and a name may be temporary. Where
    /// such a watch is concerned, too, because a name came or means something else, both look when that has settled: whoever acts on
    /// the first look could have the names change under the second.
    ///
    /// Left out are paths in `in_between`, empty files (most often they are about to be filled by a second opening), what is absent or
    /// cannot be read, and files to which something happened meanwhile.
    pub(super) fn first_look(&mut self, finished: &[(PathBuf, bool)], in_between: &HashSet<PathBuf>) -> Looked {
        let read = self.read_finished(finished, in_between);
        let paths: BTreeSet<&Path> = read.iter().flat_map(|read| [read.because, &read.path]).collect();
        let overtaken: BTreeSet<PathBuf> = self.watcher.news_of(&paths).into_iter().map(Path::to_owned).collect();
        let mut looked = Looked::default();
        for read in read {
            let is_overtaken = [read.because, &read.path].iter().any(|path| overtaken.contains(*path));
            let Some(watched) = self.watched.get_mut(&read.watch).filter(|_| !is_overtaken) else {
                continue;
            };
            watched.fingerprint = read.fingerprint;
            if watched.sent != Some(read.observation.version) {
                watched.sent = Some(read.observation.version);
                looked
                    .reports
                    .push(SourceReport::Observed(read.watch, read.observation));
            }
        }
        looked.overtaken = overtaken.into_iter().collect();
        looked
    }

    fn read_finished<'a>(&mut self, finished: &'a [(PathBuf, bool)], in_between: &HashSet<PathBuf>) -> Vec<Read<'a>> {
        let mut read = Vec::new();
        let Ok(root) = Root::open(&self.root) else {
            return read;
        };
        let mut bytes = 0;
        for (path, entry) in finished {
            for watch in self.first_concerned(path, *entry) {
                if bytes >= MOST_BYTES || read.len() >= MOST_READ {
                    return read;
                }
                let new = self.read_first(&root, path, watch, in_between);
                bytes += new.as_ref().map_or(0, |new| new.observation.stdin.len());
                read.extend(new);
            }
        }
        read
    }

    /// What is not looked at now, for whatever reason, must be read when it has settled.
    fn distrust(&mut self, path: &Path) {
        let Below::Node(names) = names_below(&self.root, path) else {
            return;
        };
        for watch in self.by_path.get(&names.join("/")).into_iter().flatten() {
            if let Some(watched) = self.watched.get_mut(watch) {
                watched.fingerprint = None;
            }
        }
    }

    /// The watches of data that a finished path may concern.
    fn first_concerned(&self, path: &Path, entry: bool) -> Vec<WatchId> {
        let (Below::Node(names) | Below::Swapped(names)) = names_below(&self.root, path) else {
            return Vec::new();
        };
        // That the root itself was exchanged, and all the way to it, must be seen to first.
        if path == self.root || entry && self.is_in_a_set(&names) {
            return Vec::new();
        }
        let at = names.join("/");
        let below = if at.is_empty() { String::new() } else { format!("{at}/") };
        let from = (Bound::Included(below.as_str()), Bound::Unbounded);
        let below = self
            .by_path
            .range::<str, _>(from)
            .take_while(|(path, _)| path.starts_with(&below));
        let own = self.by_path.get(&at).filter(|_| !at.is_empty()).into_iter();
        let all = own.chain(below.map(|(_, watches)| watches)).flatten().copied();
        all.filter(|watch| {
            self.watched.get(watch).is_some_and(|watched| {
                let is_known = watched.sent.is_some() && watched.unreadable.is_none();
                is_known && watched.subscription.watch_type == WatchType::Data
            })
        })
        .take(MOST_READ)
        .collect()
    }

    /// Whether somebody watches children or a subtree to which this node belongs.
    fn is_in_a_set(&self, names: &[&str]) -> bool {
        (0..=names.len()).any(|depth| {
            let at = self.by_path.get(&names[..depth].join("/")).into_iter().flatten();
            let mut types = at.filter_map(|watch| Some(self.watched.get(watch)?.subscription.watch_type));
            types.any(|watch_type| match watch_type {
                WatchType::Data => false,
                WatchType::Children => depth + 1 >= names.len(),
                WatchType::Tree => true,
            })
        })
    }

    fn read_first<'a>(
        &mut self,
        root: &Root,
        because: &'a Path,
        watch: WatchId,
        in_between: &HashSet<PathBuf>,
    ) -> Option<Read<'a>> {
        let watched = self.watched.get_mut(&watch)?;
        let path = self.root.join(watched.path());
        watched.fingerprint = None;
        if in_between.contains(&path) {
            return None;
        }
        let (data, fingerprint) = root.data(watched.path(), self.most).ok().flatten()?;
        let mzxid = mzxid(&data, &fingerprint);
        (!data.is_empty()).then(|| Read {
            because,
            watch,
            // Below another directory than before, nothing is told yet.
            fingerprint: (path == because).then_some(fingerprint),
            path,
            observation: data_observation(data, mzxid),
        })
    }
}
