//! Sharing equal values between watches.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;

use super::accounts::Who;
use twitcher_model::{Policy, ProcessSettings};

/// Equal values as one shared one. Ten thousand watches rarely differ in more than their znode.
#[derive(Debug, Default)]
pub(super) struct Interner {
    pub(super) policies: HashSet<Arc<Policy>>,
    processes: HashSet<Arc<ProcessSettings>>,
    pub(super) whos: HashSet<Arc<Who>>,
    pub(super) shells: HashSet<Arc<str>>,
    pub(super) argvs: HashSet<Arc<[Arc<str>]>>,
}

impl Interner {
    pub(super) fn process(&mut self, process: ProcessSettings) -> Arc<ProcessSettings> {
        intern(&mut self.processes, process)
    }

    /// Forgets what no watch uses any more.
    pub(super) fn trim(&mut self) {
        self.policies.retain(|shared| Arc::strong_count(shared) > 1);
        self.processes.retain(|shared| Arc::strong_count(shared) > 1);
        self.whos.retain(|shared| Arc::strong_count(shared) > 1);
        self.shells.retain(|shared| Arc::strong_count(shared) > 1);
        self.argvs.retain(|shared| Arc::strong_count(shared) > 1);
    }
}

/// The shared value that equals this one.
pub(super) fn intern<T: Eq + Hash + ?Sized>(set: &mut HashSet<Arc<T>>, value: impl Into<Arc<T>>) -> Arc<T> {
    let value = value.into();
    if let Some(shared) = set.get(&value) {
        return shared.clone();
    }
    set.insert(value.clone());
    value
}
