//! The control interface: what operators see of a daemon and tell it, over HTTP on a Unix socket; and on TCP what only looks.
//!
//! ```text
//!  client ──▶ server ── access control ──▶ routes ──▶ snapshot ──────┐                 ┌── daemon's loop (owns everything)
//!             a thread and                   │    daemon requests ────┴─ bounded queue ─┘        │
//!             a runtime of                   ├──▶ runs ── history (SQLite, read only)            │ facts, cheap to copy
//!             its own                        └──▶ events ◀───────────────────────────────────────┘
//! ```
//!
//! The loop decides when actions run, so nothing here may hold it up: it hands out [`facts`], and [`view`] makes of them what [`api`]
//! promises, on the server's thread. What takes long for 10,000 watches it spends a twentieth of its time on at most, however many ask.
//!
//! It must not know how runs are decided on, nor how they are started.

#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::disallowed_methods))]

mod access_control;
pub mod api;
pub mod daemon_requests;
mod definition;
mod disclosure;
mod events;
pub mod facts;
mod fleet;
mod fleet_cache;
#[allow(
    clippy::disallowed_methods,
    reason = "it all happens before there is anything to hold up"
)]
pub mod listeners;
mod metrics;
mod openapi;
mod page;
mod places;
mod rate_limit;
mod readiness;
mod refusal;
mod routes;
mod runs;
mod server;
mod settings;
mod snapshot;
pub mod states;
#[cfg(test)]
pub mod testing;
#[cfg(test)]
mod tests;
pub mod view;
mod write_timeout;

use std::sync::Arc;

use tokio::sync::{Semaphore, watch};

use api::{StateCount, Status};
use daemon_requests::DaemonRequests;
use facts::Overview;
use fleet_cache::FleetCache;
use runs::RunLookup;
use snapshot::Snapshots;
use twitcher_observe::metrics::Metrics;
use twitcher_state::History;

pub use definition::definition;
pub use disclosure::Shown;
pub use events::{EventRing, Occurrence};
pub use openapi::document as openapi;
pub use readiness::unready;
pub use server::{Server, ServerLimits};

/// Who may follow the events at once.
const STREAMS: usize = 32;

/// What answers have to be made of.
#[derive(Debug)]
pub struct App {
    /// Name of this machine.
    host: String,
    requests: DaemonRequests,
    snapshots: Snapshots,
    fleet: FleetCache,
    runs: RunLookup,
    events: Arc<EventRing>,
    metrics: Arc<Metrics>,
    /// Places for those who follow the events.
    streams: Arc<Semaphore>,
    /// Whether the server ends.
    closing: watch::Sender<bool>,
}

/// This machine's name, if it has one.
#[allow(
    clippy::disallowed_methods,
    reason = "the kernel answers by itself, and it is before the start"
)]
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

impl App {
    /// Asks the loop, reads the history, follows the events, and shows the metrics.
    pub fn new(requests: DaemonRequests, history: History, events: Arc<EventRing>, metrics: Arc<Metrics>) -> Self {
        Self {
            host: host_name(),
            snapshots: Snapshots::new(requests.clone()),
            fleet: FleetCache::default(),
            runs: RunLookup::new(requests.clone(), history),
            requests,
            events,
            metrics,
            streams: Arc::new(Semaphore::new(STREAMS)),
            closing: watch::Sender::new(false),
        }
    }

    fn status(&self, overview: Overview, counts: Vec<StateCount>) -> Status {
        view::status(&self.host, overview, counts, self.metrics.launcher_restarts.get())
    }
}
