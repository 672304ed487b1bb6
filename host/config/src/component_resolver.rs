//! The components that files use: has each found by whoever can, once, and tells later whether it has changed.
//!
//! This module must not know what a component or a bundle is, nor where in a file one is named.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::reference::Wanted;
use twitcher_model::{Component, Grants, WasmAction};

/// Finds what is wanted for watches that give it these grants; the lines of an error say what is wrong.
pub type Find = Box<dyn FnMut(&Wanted, &Grants) -> Result<Found, Vec<String>> + Send>;

/// What somebody is who knows components and bundles.
pub struct Resolver {
    /// Finds, checks and compiles what is wanted for watches that give it these grants, and has the component itself check its
    /// configuration. It is called once for each pair of the files that are being loaded, on the thread that loads them, and may take
    /// long.
    ///
    /// The lines of an error say what is wrong, lower case, without naming a configuration file: each becomes a located error.
    pub find: Find,
    /// The path that changes when a bundle's name means another version than before. It is exchanged in one step.
    pub link: Box<dyn Fn(&str) -> PathBuf + Send>,
    /// Called when a load has ended: what no watch uses any more may be removed.
    pub end: Box<dyn Fn() + Send>,
    /// The directory that decides what may run, besides what is wanted itself.
    pub trust: Option<Watched>,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The component.
    pub component: Component,
    /// What it may do: at most what the watch grants.
    pub grants: Grants,
    /// What whoever wrote the watch should know, each in words: becomes a located note.
    pub notes: Vec<String>,
}

impl Resolver {
    /// One that knows no bundles, for components that get what they are granted.
    pub fn of_files(mut find: impl FnMut(&Path, &Grants) -> Result<Component, Vec<String>> + Send + 'static) -> Self {
        Self {
            find: Box::new(move |wanted, grants| match wanted {
                Wanted::File(file) => Ok(Found {
                    component: find(file, grants)?,
                    grants: grants.clone(),
                    notes: Vec::new(),
                }),
                Wanted::Bundle(_) => Err(vec![
                    "bundles are not known here; give the path of a component".to_owned(),
                ]),
            }),
            link: Box::new(|name| PathBuf::from(name)),
            end: Box::new(|| {}),
            trust: None,
        }
    }
}

/// What tells one content of a file from another without reading it. The time of the last change of its inode cannot be set back,
/// not even by the file's owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of what a path leads to now; none if it leads nowhere.
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }
}

/// A path by which a change of what was wanted is noticed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Watched {
    /// The path.
    pub path: Arc<Path>,
    /// How what it leads to changes.
    pub changes: Changes,
}

/// How what a path leads to changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Changes {
    /// It is a file that anybody may write to at any time.
    Written,
    /// It is exchanged in one step, and nobody ever writes to it: a change of it is whole.
    Exchanged,
    /// It is a directory whose entries come and go.
    Entries,
}

/// What one configuration file uses, as it was when it was loaded or failed to be.
pub(super) type Used = BTreeMap<Watched, Option<Stamp>>;

/// Which of these are others now, have come or have gone.
pub(super) fn changed(used: &Used) -> impl Iterator<Item = &Watched> {
    let changed = used
        .iter()
        .filter(|(watched, stamp)| Stamp::of(&watched.path) != **stamp);
    changed.map(|(watched, _)| watched)
}

/// What a [`Resolver`] said, with the grants that it was asked about.
type Answer = Result<(Arc<WasmAction>, Arc<[String]>), Vec<String>>;

/// The answers of a [`Resolver`].
pub(super) struct Components {
    resolver: Resolver,
    /// What was asked during the present load.
    known: HashMap<(Wanted, Grants), Answer>,
    /// Stamps from before anything was asked about what they are of during the present load.
    stamps: Used,
    /// What the present file has asked about.
    used: Used,
    /// Equal actions of the present load are one: thousands of watches may use one component.
    shared: HashSet<Arc<WasmAction>>,
}

impl Components {
    pub(super) fn new(resolver: Resolver) -> Self {
        Self {
            resolver,
            known: HashMap::new(),
            stamps: Used::new(),
            used: Used::new(),
            shared: HashSet::new(),
        }
    }

    /// The action for what is wanted, with notes.
    pub(super) fn resolve(&mut self, wanted: &Wanted, grants: &Grants) -> Answer {
        self.depend_on(match wanted {
            Wanted::File(path) => Watched {
                path: path.clone(),
                changes: Changes::Written,
            },
            Wanted::Bundle(name) => Watched {
                path: (self.resolver.link)(name).into(),
                changes: Changes::Exchanged,
            },
        });
        if let Some(trust) = self.resolver.trust.clone() {
            self.depend_on(trust);
        }
        let key = (wanted.clone(), grants.clone());
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let answer = match (self.resolver.find)(wanted, grants) {
            Ok(Found {
                component,
                grants,
                notes,
            }) => Ok((self.share(WasmAction { component, grants }), notes.into())),
            Err(lines) if lines.is_empty() => Err(vec!["it cannot be used".to_owned()]),
            Err(lines) => Err(lines),
        };
        self.known.insert(key, answer.clone());
        answer
    }

    /// To be called before it is read: should it change meanwhile, the next load sees another stamp.
    fn depend_on(&mut self, watched: Watched) {
        let stamp = *self
            .stamps
            .entry(watched.clone())
            .or_insert_with(|| Stamp::of(&watched.path));
        self.used.insert(watched, stamp);
    }

    fn share(&mut self, action: WasmAction) -> Arc<WasmAction> {
        if let Some(shared) = self.shared.get(&action) {
            return shared.clone();
        }
        let action = Arc::new(action);
        self.shared.insert(action.clone());
        action
    }

    /// What was asked about since this was last called.
    pub(super) fn take_used(&mut self) -> Used {
        std::mem::take(&mut self.used)
    }

    /// Ends a load: forgets its answers, also what it shared, which would keep a bundle in the store that no watch means any more.
    pub(super) fn end_load(&mut self) {
        self.known.clear();
        self.stamps.clear();
        self.shared.clear();
        (self.resolver.end)();
    }
}

impl fmt::Debug for Components {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Components")
            .field("shared", &self.shared.len())
            .finish_non_exhaustive()
    }
}
