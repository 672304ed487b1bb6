//! What the tasks of one source have in common: the options, the ledger, and the way out for reports.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::{Notify, mpsc};
use tracing::{debug, warn};

use super::connect::OutageLog;
use super::ledger::{Handle, Ledger};
use super::options::ZooKeeperOptions;
use super::reads::ReadFailure;
use super::unreadable::{UnreadableZnodes, Words};
use crate::SourceReport;
use twitcher_model::{Observation, Unreadable, Version, WatchType};

/// Reports that may wait for the consumer.
const REPORTS: usize = 1024;

/// Data of this many bytes and more only goes out when the consumer has taken everything else: a thousand reports of a megabyte
/// each must not pile up, and what is not yet read from the server can still be overtaken by something newer.
const LARGE: usize = 16 * 1024;

/// The consumer of the reports is gone, so there is nothing left to do.
#[derive(Debug)]
pub(super) struct Closed;

/// What the tasks of one source share.
#[derive(Debug)]
pub(super) struct Context {
    pub options: Arc<ZooKeeperOptions>,
    /// Woken when the last unsettled watch settles.
    pub settled: Notify,
    /// Woken when the strategy must be chosen again.
    pub replan: Notify,
    /// Woken when a worker has ended by a defect: what it watched nobody watches.
    pub broken: Notify,
    pub outage: Arc<OutageLog>,
    pub unreadable: UnreadableZnodes,
    ledger: Mutex<Ledger>,
    reports: mpsc::Sender<SourceReport>,
    one_by_one: AtomicBool,
}

impl Context {
    pub fn new(options: ZooKeeperOptions) -> (Arc<Self>, mpsc::Receiver<SourceReport>) {
        let (reports, receiver) = mpsc::channel(REPORTS);
        let context = Self {
            options: Arc::new(options),
            settled: Notify::new(),
            replan: Notify::new(),
            broken: Notify::new(),
            outage: Arc::default(),
            unreadable: UnreadableZnodes::default(),
            ledger: Mutex::default(),
            reports,
            one_by_one: AtomicBool::new(false),
        };
        (Arc::new(context), receiver)
    }

    /// The ledger. Never held over an await.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells a watch its state, if that is news, and notes that it is armed.
    pub async fn tell(&self, handle: Handle, observation: Observation) -> Result<(), Closed> {
        if self.ledger().wants(handle, &observation.version) {
            let is_small = observation.stdin.len() < LARGE && observation.nodes.is_none();
            let places = if is_small { 1 } else { REPORTS };
            let mut places = self.reports.reserve_many(places).await.map_err(|_| Closed)?;
            // The assignment may have ended while we waited.
            let still_ours = self.ledger().tell(handle, observation.version);
            if let Some(place) = places.next().filter(|_| still_ours) {
                place.send(SourceReport::Observed(handle.watch, observation));
            }
        }
        self.settle(handle);
        Ok(())
    }

    /// Tells watches that their znode, or a part of their subtree, cannot be read, and notes that they are armed all the same: it is
    /// tried again.
    pub async fn tell_unreadable(&self, handles: &[Handle], unreadable: Unreadable) -> Result<(), Closed> {
        let unreadable = Arc::new(unreadable);
        for handle in handles {
            let place = self.reports.reserve().await.map_err(|_| Closed)?;
            if self.ledger().tell_unreadable(*handle, true) {
                place.send(SourceReport::Unreadable(handle.watch, Arc::clone(&unreadable)));
            }
            self.settle(*handle);
        }
        Ok(())
    }

    /// Tells a watch that was told otherwise that everything can be read again. Said after what was read.
    pub async fn tell_readable(&self, handle: Handle) -> Result<(), Closed> {
        if self.ledger().tell_unreadable(handle, false) {
            let place = self.reports.reserve().await.map_err(|_| Closed)?;
            place.send(SourceReport::Readable(handle.watch));
        }
        Ok(())
    }

    /// Says of the znode that watches are for that it cannot be read: to the log if that is news, and to the watches.
    pub async fn cannot_read(
        &self,
        handles: &[Handle],
        (znode, kind): (&Arc<str>, WatchType),
        failure: &ReadFailure,
        bytes: Option<usize>,
        next_attempt: SystemTime,
    ) -> Result<(), Closed> {
        let (since, news) = self.unreadable.note(znode, kind, failure);
        let words = Words::new(&self.options, znode, failure, bytes);
        if news {
            let name = handles.first().and_then(|handle| self.ledger().name(*handle));
            words.log(name.as_deref(), handles.len(), znode);
        }
        self.tell_unreadable(handles, words.unreadable(None, since, next_attempt))
            .await
    }

    /// Notes that a watch is armed and knows what there is to know.
    pub fn settle(&self, handle: Handle) {
        let Some(settled) = self.ledger().settle(handle) else {
            return;
        };
        if let Some(armed) = settled.first {
            let (watch, znode) = (&*armed.name, armed.znode.as_str());
            match armed.told {
                Some(Version::Absent) => debug!(watch, znode, "watch armed, znode absent"),
                Some(version) => debug!(watch, znode, version = %LoggedVersion(version), "watch armed"),
                None => {}
            }
        }
        if settled.last {
            self.settled.notify_one();
        }
    }

    /// Reports that every watch is armed.
    pub async fn say_armed(&self) -> Result<(), Closed> {
        self.reports.send(SourceReport::Armed).await.map_err(|_| Closed)
    }

    /// Waits until the consumer of the reports is gone.
    pub async fn closed(&self) {
        self.reports.closed().await;
    }

    /// Whether the consumer is behind: then what the ledger says was told lags what was read.
    pub fn congested(&self) -> bool {
        self.reports.capacity() == 0
    }

    /// Gives up persistent watches: the server has none.
    pub fn watch_one_by_one(&self) {
        if !self.one_by_one.swap(true, Ordering::Relaxed) {
            warn!(
                "the server has no persistent watches (ZooKeeper 3.6 and later do): setting one-shot watches again and again"
            );
            self.replan.notify_one();
        }
    }

    /// Whether persistent watches were given up.
    pub fn one_by_one(&self) -> bool {
        self.one_by_one.load(Ordering::Relaxed)
    }
}

/// A version for the log.
struct LoggedVersion(Version);

impl std::fmt::Display for LoggedVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Version::Absent => f.write_str("absent"),
            Version::Data { mzxid, .. } => write!(f, "{mzxid:#x}"),
            Version::Children { pzxid, .. } => write!(f, "{pzxid:#x}"),
            Version::Tree { digest, .. } => write!(f, "{digest:016x}"),
        }
    }
}
