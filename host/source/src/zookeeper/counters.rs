//! What the source counts. Plain numbers: who reads them, and when, is not this module's business.

use std::sync::atomic::{AtomicU64, Ordering};

use zookeeper_client::SessionId;

use crate::connection::Connections;

/// What a ZooKeeper source has counted since its start.
#[derive(Debug, Default)]
pub struct Counters {
    /// The sessions that watch something.
    pub(super) connections: Connections<SessionId>,
    sessions: AtomicU64,
    lost: AtomicU64,
    ended: AtomicU64,
    stuck: AtomicU64,
    sweeps: AtomicU64,
}

impl Counters {
    /// How many sessions were established.
    pub fn sessions(&self) -> u64 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// How many times a session lost its connection.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// How many sessions ended without our wish, mostly by expiry.
    pub fn ended(&self) -> u64 {
        self.ended.load(Ordering::Relaxed)
    }

    /// How many differences a sweep found that no event had announced. The number should stay 0.
    pub fn stuck(&self) -> u64 {
        self.stuck.load(Ordering::Relaxed)
    }

    /// How many sweeps were finished.
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
