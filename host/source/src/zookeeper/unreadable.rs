//! Znodes that cannot be read for reasons of their own, each said once.
//!
//! It must not know how they are read, nor when they are tried again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{error, info, warn};

use super::reads::Failure;
use twitcher_model::WatchType;

type Key = (Arc<str>, WatchType);

/// The troubled znodes of a source.
#[derive(Debug, Default)]
pub(super) struct Troubles {
    known: Mutex<HashMap<Key, Failure>>,
}

impl Troubles {
    fn known(&self) -> MutexGuard<'_, HashMap<Key, Failure>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a failure, and logs it unless it is the one already noted.
    pub fn note(&self, znode: &Arc<str>, kind: WatchType, failure: &Failure, bytes: Option<usize>, retry: Duration) {
        if self.known().insert((znode.clone(), kind), failure.clone()).as_ref() == Some(failure) {
            return;
        }
        let (znode, retry) = (&**znode, retry.as_secs_f64());
        match failure {
            Failure::Denied => warn!(
                znode,
                retry, "no permission to read the znode; trying again from time to time"
            ),
            Failure::Connection(_) => {
                error!(
                    znode,
                    bytes, retry, "reading the znode loses the connection each time; leaving it alone for a while"
                )
            }
            Failure::TooLarge(excess) => error!(znode, retry, "the znode is left alone: {excess}"),
            failure => error!(znode, retry, "cannot read the znode: {failure}"),
        }
    }

    /// The znode was read.
    pub fn over(&self, znode: &Arc<str>, kind: WatchType) {
        let mut known = self.known();
        if !known.is_empty() && known.remove(&(znode.clone(), kind)).is_some() {
            info!(znode = &**znode, "the znode can be read again");
        }
    }

    /// Nobody watches the znode any more.
    pub fn forget(&self, znode: &Arc<str>, kind: WatchType) {
        self.known().remove(&(znode.clone(), kind));
    }

    /// Whether the znode is in trouble.
    pub fn has(&self, znode: &Arc<str>, kind: WatchType) -> bool {
        let known = self.known();
        !known.is_empty() && known.contains_key(&(znode.clone(), kind))
    }

    /// Every znode in trouble.
    pub fn all(&self) -> Vec<Key> {
        self.known().keys().cloned().collect()
    }
}
