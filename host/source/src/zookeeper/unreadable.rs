//! Znodes that cannot be read for reasons of their own, each said once.
//!
//! It must not know how they are read, nor when they are tried again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::{error, info, warn};

use super::reads::ReadFailure;
use twitcher_model::WatchType;

type Key = (Arc<str>, WatchType);

/// The znodes of a source that could not be read when that was last tried, and why.
#[derive(Debug, Default)]
pub(super) struct UnreadableZnodes {
    known: Mutex<HashMap<Key, ReadFailure>>,
}

impl UnreadableZnodes {
    fn known(&self) -> MutexGuard<'_, HashMap<Key, ReadFailure>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a failure, and logs it unless it is the one already noted.
    pub fn note(
        &self,
        znode: &Arc<str>,
        kind: WatchType,
        failure: &ReadFailure,
        bytes: Option<usize>,
        retry: Duration,
    ) {
        if self.known().insert((znode.clone(), kind), failure.clone()).as_ref() == Some(failure) {
            return;
        }
        let (znode, retry) = (&**znode, retry.as_secs_f64());
        match failure {
            ReadFailure::Denied => warn!(
                znode,
                retry, "no permission to read the znode; trying again from time to time"
            ),
            ReadFailure::Connection(_) => {
                error!(
                    znode,
                    bytes, retry, "reading the znode loses the connection each time; leaving it alone for a while"
                )
            }
            ReadFailure::TooLarge(excess) => error!(znode, retry, "the znode is left alone: {excess}"),
            failure => error!(znode, retry, "cannot read the znode: {failure}"),
        }
    }

    /// Forgets that a znode could not be read, and logs that it was.
    pub fn note_readable(&self, znode: &Arc<str>, kind: WatchType) {
        let mut known = self.known();
        if !known.is_empty() && known.remove(&(znode.clone(), kind)).is_some() {
            info!(znode = &**znode, "the znode can be read again");
        }
    }

    /// Forgets a znode that nobody watches any more.
    pub fn forget(&self, znode: &Arc<str>, kind: WatchType) {
        self.known().remove(&(znode.clone(), kind));
    }

    /// Whether the last attempt to read the znode failed.
    pub fn has(&self, znode: &Arc<str>, kind: WatchType) -> bool {
        let known = self.known();
        !known.is_empty() && known.contains_key(&(znode.clone(), kind))
    }

    /// Every znode whose last reading failed.
    pub fn all(&self) -> Vec<Key> {
        self.known().keys().cloned().collect()
    }
}
