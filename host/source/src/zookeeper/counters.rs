//! What the source counts. Plain numbers: who reads them, and when, is not this module's business.

use std::sync::atomic::{AtomicU64, Ordering};

use zookeeper_client::SessionId;

use crate::connection::Lines;

/// Counters of a ZooKeeper source, all from its start.
#[derive(Debug, Default)]
pub struct Stats {
    /// The sessions that watch something.
    pub(super) lines: Lines<SessionId>,
    sessions: AtomicU64,
    lost: AtomicU64,
    ended: AtomicU64,
    stuck: AtomicU64,
    sweeps: AtomicU64,
}

impl Stats {
    /// Sessions that were established.
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// Times that a session lost its connection.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Sessions that ended without our wish, mostly by expiry.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// Differences that a sweep found and no event had announced. Should stay 0.
    pub fn stuck(&self) -> u64 {
        self.stuck.load(Ordering::Relaxed)
    }

    /// Sweeps that were finished.
    pub fn sweeps(&self) -> u64 {
        self.sweeps.load(Ordering::Relaxed)
    }

    pub(super) fn count_session(&self) {
        self.sessions.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_lost(&self) {
        self.lost.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_ended(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_stuck(&self) {
        self.stuck.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_sweep(&self) {
        self.sweeps.fetch_add(1, Ordering::Relaxed);
    }
}
