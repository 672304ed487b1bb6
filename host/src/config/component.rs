//! The components that files use: has each found and compiled by whoever can, once, and tells later whether it has changed.
//!
//! This module must not know what a component is, nor where in a file it is named.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;

use crate::model::{Component, Grants, WasmAction};

/// Finds, checks and compiles the component at an absolute path for watches that give it these grants, and has the component itself
/// check its configuration. It is called once for each pair of path and grants of the files that are being loaded, on the thread
/// that loads them, and may take long.
///
/// The lines of an error say what is wrong, lower case, without naming a configuration file: each becomes a located error.
pub type Resolver = Box<dyn FnMut(&Path, &Grants) -> Result<Component, Vec<String>> + Send>;

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

/// The component files that one configuration file uses, as they were when it was loaded or failed to be.
pub(super) type Used = BTreeMap<Arc<Path>, Option<Stamp>>;

/// Whether any of these files is another one now, has come or has gone.
pub(super) fn changed(used: &Used) -> bool {
    used.iter().any(|(path, stamp)| Stamp::of(path) != *stamp)
}

/// What a [`Resolver`] said, with the grants that it was asked about.
type Answer = Result<Arc<WasmAction>, Vec<String>>;

/// The answers of a [`Resolver`].
pub(super) struct Components {
    resolver: Resolver,
    /// What was asked during the present load.
    known: HashMap<(Arc<Path>, Grants), Answer>,
    /// The files' stamps from before anything was asked about them during the present load.
    stamps: Used,
    /// What the present file has asked about.
    used: Used,
    /// Equal actions are one: thousands of watches may use one component.
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

    /// The action for the component at a path.
    pub(super) fn resolve(&mut self, path: Arc<Path>, grants: Grants) -> Answer {
        // Before the file is read: should it change meanwhile, the next load sees another stamp.
        let stamp = *self.stamps.entry(path.clone()).or_insert_with(|| Stamp::of(&path));
        self.used.insert(path.clone(), stamp);
        let key = (path, grants);
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let answer = match (self.resolver)(&key.0, &key.1) {
            Ok(component) => Ok(self.share(WasmAction {
                component,
                grants: key.1.clone(),
            })),
            Err(lines) if lines.is_empty() => Err(vec!["it cannot be used".to_owned()]),
            Err(lines) => Err(lines),
        };
        self.known.insert(key, answer.clone());
        answer
    }

    fn share(&mut self, action: WasmAction) -> Arc<WasmAction> {
        if let Some(shared) = self.shared.get(&action) {
            return shared.clone();
        }
        let action = Arc::new(action);
        self.shared.insert(action.clone());
        action
    }

    /// The files that were asked about since this was last called.
    pub(super) fn take_used(&mut self) -> Used {
        std::mem::take(&mut self.used)
    }

    /// Ends a load: forgets its answers, and what no watch uses any more.
    pub(super) fn end_load(&mut self) {
        self.known.clear();
        self.stamps.clear();
        self.shared.retain(|action| Arc::strong_count(action) > 1);
    }
}

impl fmt::Debug for Components {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Components")
            .field("shared", &self.shared.len())
            .finish_non_exhaustive()
    }
}
