//! Whose name a name is where two files use it, also over a restart; and whose a rollout is.
//!
//! A name is that of the file that has it in force, then of the one that the last daemon had it from. Where neither says whose it is,
//! both files are refused: which of the two actions runs must not depend on what files are called, nor on when the daemon started.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Candidate, Config, Loaded, Reload, note_limits};
use crate::error::ConfigError;
use crate::fields::group::GroupLimit;
use crate::validate::{ERRORS_MAX, Entry, lost_elsewhere, rollout_elsewhere, taken_elsewhere};
use twitcher_model::{RolloutName, Watch};

/// The names of a file's watches.
pub type WatchNames = Arc<[Arc<str>]>;

/// What is in force, or will be unless it is refused.
#[derive(Default)]
struct Claims<'a> {
    /// In force.
    taken: HashMap<&'a str, &'a Arc<Watch>>,
    limited: HashMap<Arc<str>, GroupLimit>,
    /// Not in force yet, with the file that the last daemon had it from.
    owned: HashMap<&'a str, &'a Path>,
    /// New, by file.
    new: HashMap<&'a str, Vec<(&'a Path, &'a Arc<Watch>)>>,
    /// The rollouts of those in force, and of those that are new.
    rolling_out: HashMap<&'a RolloutName, &'a Arc<Watch>>,
    new_rollouts: HashMap<&'a RolloutName, Vec<(&'a Path, &'a Arc<Watch>)>>,
}

/// A watch by the name of its rollout, if it has one.
fn of_rollout(entry: &Entry) -> Option<(&RolloutName, &Arc<Watch>)> {
    Some((&entry.watch.rollout.as_ref()?.name, &entry.watch))
}

impl Config {
    /// The same configuration for a daemon that follows one which had these names from these files.
    pub fn with_names(mut self, names: BTreeMap<PathBuf, WatchNames>) -> Self {
        self.names = names;
        self
    }

    /// Notes which names a file has now, or that it is gone.
    pub(super) fn note_names(&mut self, file: &Path, entries: Option<&[Entry]>, reload: &mut Reload) {
        let now: Option<WatchNames> =
            entries.map(|entries| entries.iter().map(|entry| Arc::clone(&entry.watch.name)).collect());
        if now.as_ref() == self.names.get(file) {
            return;
        }
        match &now {
            Some(names) => self.names.insert(file.to_owned(), Arc::clone(names)),
            None => self.names.remove(file),
        };
        reload.names.push((file.to_owned(), now));
    }

    /// Forgets the names of files that are gone; those below a path that cannot be read are unknown, not gone.
    pub(super) fn forget_names(&mut self, is_there: impl Fn(&Path) -> bool, reload: &mut Reload) {
        let gone: Vec<PathBuf> = self.names.keys().filter(|file| !is_there(file)).cloned().collect();
        for file in gone {
            self.note_names(&file, None, reload);
        }
    }

    /// Two files must not use one name, nor give one group two limits. A file that is refused goes on with its previous watches, whose
    /// names others may have taken in turn: hence the repetition. It ends because every round refuses a file.
    pub(super) fn refuse_taken_names(&self, candidates: &mut BTreeMap<PathBuf, Candidate>) {
        loop {
            let refused = self.refused(candidates);
            if refused.is_empty() {
                return;
            }
            for (file, errors) in refused {
                candidates.insert(file, Candidate::Failed(errors));
            }
        }
    }

    fn refused(&self, candidates: &BTreeMap<PathBuf, Candidate>) -> Vec<(PathBuf, Vec<ConfigError>)> {
        let mut claims = self.claims(candidates);
        let mut refused = Vec::new();
        for (file, candidate) in candidates {
            let Candidate::Changed(loaded) = candidate else {
                continue;
            };
            let clashes = loaded
                .entries
                .iter()
                .filter_map(|entry| claims.clash(file, loaded, entry));
            let limits = loaded.groups.iter().filter_map(|group| claims.differs(loaded, group));
            let rollouts = loaded
                .entries
                .iter()
                .filter_map(|entry| claims.rollout_clash(file, loaded, entry));
            let errors: Vec<_> = clashes.chain(limits).chain(rollouts).take(ERRORS_MAX).collect();
            match errors.is_empty() {
                true => note_limits(&mut claims.limited, loaded),
                false => refused.push((file.clone(), errors)),
            }
        }
        refused
    }

    fn claims<'a>(&'a self, candidates: &'a BTreeMap<PathBuf, Candidate>) -> Claims<'a> {
        let mut claims = Claims::default();
        for (file, loaded) in &self.files {
            let entries = match candidates.get(file) {
                Some(Candidate::Changed(_)) => continue,
                Some(Candidate::Unchanged(entries)) => entries,
                Some(Candidate::Failed(_)) | None => &loaded.entries,
            };
            note_limits(&mut claims.limited, loaded);
            claims
                .taken
                .extend(entries.iter().map(|entry| (&*entry.watch.name, &entry.watch)));
            claims.rolling_out.extend(entries.iter().filter_map(of_rollout));
        }
        for (file, candidate) in candidates {
            if let Candidate::Changed(loaded) = candidate {
                for Entry { watch, .. } in &loaded.entries {
                    claims.new.entry(&watch.name).or_default().push((file, watch));
                }
                for (rollout, watch) in loaded.entries.iter().filter_map(of_rollout) {
                    claims.new_rollouts.entry(rollout).or_default().push((file, watch));
                }
            }
        }
        for (file, names) in self.names.iter().filter(|(file, _)| !self.files.contains_key(*file)) {
            // Of a file that failed, or cannot be found now, nobody knows which it still has.
            let still: Option<HashSet<&str>> = match candidates.get(file) {
                Some(Candidate::Changed(loaded)) => {
                    Some(loaded.entries.iter().map(|entry| &*entry.watch.name).collect())
                }
                _ => None,
            };
            let names = names.iter().map(|name| &**name);
            let has = |name: &&str| still.as_ref().is_none_or(|still| still.contains(name));
            claims
                .owned
                .extend(names.filter(has).map(|name| (name, file.as_path())));
        }
        claims
    }
}

impl Claims<'_> {
    /// Why a file may not have the name of one of its watches.
    fn clash(&self, file: &Path, loaded: &Loaded, entry: &Entry) -> Option<ConfigError> {
        let (watch, source) = (&entry.watch, &loaded.source);
        if let Some(first) = self.taken.get(&*watch.name) {
            return Some(taken_elsewhere(source, watch, first));
        }
        let others = self.new.get(&*watch.name).into_iter().flatten();
        let mut others = others.filter(|(other, _)| *other != file);
        match self.owned.get(&*watch.name) {
            Some(owner) if *owner == file => None,
            Some(owner) => Some(match others.find(|(other, _)| other == owner) {
                Some((_, first)) => taken_elsewhere(source, watch, first),
                None => lost_elsewhere(source, watch, owner),
            }),
            None => others.next().map(|(_, other)| taken_elsewhere(source, watch, other)),
        }
    }

    /// Why a file may not have the rollout of one of its watches: of two files that are new it is that of the one whose watch the last
    /// daemon had from it.
    fn rollout_clash(&self, file: &Path, loaded: &Loaded, entry: &Entry) -> Option<ConfigError> {
        let (rollout, watch) = of_rollout(entry)?;
        let told = |first: &Watch| Some(rollout_elsewhere(&loaded.source, watch, rollout, first));
        if let Some(first) = self.rolling_out.get(rollout) {
            return told(first);
        }
        let is_owned = |file: &Path, watch: &Watch| self.owned.get(&*watch.name) == Some(&file);
        let mut others = self.new_rollouts.get(rollout).into_iter().flatten();
        let is_ours = is_owned(file, watch);
        let first = others.find(|(other, first)| *other != file && (!is_ours || is_owned(other, first)));
        first.and_then(|(_, first)| told(first))
    }

    fn differs(&self, loaded: &Loaded, group: &GroupLimit) -> Option<ConfigError> {
        let first = self.limited.get(&group.name)?;
        (first.limit != group.limit).then(|| group.taken_elsewhere(&loaded.source, first))
    }
}
