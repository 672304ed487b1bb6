//! Observations from a ZooKeeper ensemble, without losing any.
//!
//! ```text
//!  Change ──▶ coordinator ── plan: which znodes share a recursive watch, which are watched one by one
//!                  │
//!                  ├──▶ persistent worker ──────────────────── one session ── single znodes, subtrees
//!                  ├──▶ one-shot worker, for old servers ────── one session ── a task a znode
//!                  │         …                                  every worker: connect, read, sweep
//!  SourceReport ◀──┴── context: ledger of what every watch was told
//!
//!  Znodes ──▶ requests ──▶ one session more, while there are requests, or while somebody keeps it
//! ```
//!
//! Level-triggered: an event only says what to look at, and whatever is in doubt is read again, above all after a reconnect. The
//! ledger decides whether what was read is news. A watch is always set before the state is read, so what the read misses is
//! announced. A sweep compares everything once in a while, in case an event is lost after all.
//!
//! What `zookeeper-client` and the server do not do is worked around here, each with a test of its own in `tests/zookeeper/`.
//!
//! This module must not know what the observations are for.

mod connect;
mod contents;
mod context;
mod coordinator;
mod counters;
mod kerberos;
mod ledger;
mod listing;
mod nodes;
mod one_shot;
mod options;
mod persistent;
mod plan;
mod reads;
mod request_session;
mod requests;
mod subtree_state;
mod subtree_watch;
mod sweep;
mod unreadable;
mod worker;

use tokio::sync::mpsc;

pub use self::counters::Counters;
pub use self::kerberos::{KERBEROS, Kerberos, TicketError};
pub use self::options::{Auth, AuthError, SaslDigest, Servers, ServersError, Tls, TlsError, ZooKeeperOptions};
pub use self::request_session::{Credentials, KeptSession, OpenSession};
pub(super) use self::requests::ZooKeeperRequests;
use super::{Requests, Source, Znodes};

/// Starts a source. Must be called in a tokio runtime; its tasks run there, take turns often, and end when the source is dropped,
/// closing their sessions.
///
/// It never fails and never gives up: whatever is wrong with the ensemble, the network or a znode is logged, at first at once, and
/// tried again. A znode that cannot be read (no permission, too large) is reported as such until it can, and does not hold up
/// [`SourceReport::Armed`](super::SourceReport::Armed).
pub fn spawn(options: ZooKeeperOptions) -> Source {
    let (context, reports) = context::Context::new(options);
    let connection = context.options.stats.connections.subscribe();
    let (changes, receiver) = mpsc::unbounded_channel();
    let znodes = Znodes::zookeeper(ZooKeeperRequests::start(&context));
    tokio::spawn(coordinator::run(context, receiver));
    Source {
        changes,
        reports,
        znodes,
        connection,
    }
}

/// Requests for single znodes by one session, which is opened by the first of them, and no watches. Must be called in a tokio runtime.
pub fn requests(options: ZooKeeperOptions) -> Requests {
    let (context, _) = context::Context::new(options);
    let connection = context.options.stats.connections.subscribe();
    let (requests, closing) = ZooKeeperRequests::alone(&context);
    Requests {
        znodes: Znodes::zookeeper(requests),
        connection,
        closing: Some(closing),
    }
}
