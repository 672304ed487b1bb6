//! The sweep: compares what every watch was last told with what the server says, to find watches that went deaf.
//!
//! It reads and compares only; healing is for who owns the watch.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{debug, warn};
use zookeeper_client::Client;

use super::context::Context;
use super::ledger::{Handle, Ledger};
use super::listing;
use super::reads::{self, PIPELINE, ReadFailure, Reply, SMALL};
use super::subtree_state::Subtree;
use super::worker::Stop;
use twitcher_model::{Version, WatchType};

/// Time for an event that is on its way, and the read it leads to. A difference that lasts longer was not announced.
const GRACE: Duration = Duration::from_secs(1);

/// Lists of children asked for at once, each of some kilobytes.
const LISTS: usize = 50;

/// A watch to check.
#[derive(Debug, Clone)]
pub(super) struct CheckedWatch {
    pub path: Arc<str>,
    pub kind: WatchType,
    pub handle: Handle,
    /// Bytes of data when last read, if known.
    pub size: Option<usize>,
}

/// What a sweep found.
#[derive(Debug, Default)]
pub(super) struct Swept {
    /// The watches that were not told what lasts.
    deaf: Vec<CheckedWatch>,
    /// Those whose znode we have lost the permission to read, of which no event tells.
    denied: Vec<CheckedWatch>,
}

/// The sweep of one session: due from time to time, and then running beside everything else.
#[derive(Debug)]
pub(super) struct Sweep {
    /// When; none is never, unless somebody asks for one.
    pub due: Option<Instant>,
    pub running: Option<JoinHandle<Reply<Swept>>>,
}

impl Sweep {
    pub fn new(context: &Context) -> Self {
        Self {
            due: next_sweep(context),
            running: None,
        }
    }

    pub fn start(&mut self, context: &Arc<Context>, client: &Client, watches: Vec<CheckedWatch>) {
        let (context, client) = (context.clone(), client.clone());
        self.running = Some(tokio::spawn(async move { deaf(&context, &client, watches).await }));
    }

    /// What it found, once it ended. Safe to be dropped while waiting.
    pub async fn found(&mut self) -> Reply<Swept> {
        match &mut self.running {
            Some(task) => task.await.unwrap_or_else(|_| Ok(Swept::default())),
            None => std::future::pending().await,
        }
    }

    /// Logs and counts what it found, and hands on what is to be watched and read anew. An error when it found that the session is over.
    pub fn ended(&mut self, context: &Context, found: Reply<Swept>) -> Result<Vec<CheckedWatch>, Stop> {
        self.running = None;
        self.due = next_sweep(context);
        let Swept { mut deaf, denied } = match found {
            Ok(swept) => swept,
            Err(ReadFailure::Session(_)) => return Err(Stop::Session),
            // Interrupted by a lost connection: what is in doubt is read again then anyway.
            Err(_) => return Ok(Vec::new()),
        };
        let counters = &context.options.stats;
        counters.count_sweep();
        for watch in &deaf {
            counters.count_stuck();
            let (name, znode) = (context.ledger().name(watch.handle), &*watch.path);
            warn!(
                watch = name.as_deref(),
                znode, "a change was not announced; setting the watch again"
            );
        }
        debug!(
            sweeps = counters.sweeps(),
            stuck = counters.stuck(),
            "compared what is known with the server"
        );
        deaf.extend(denied);
        Ok(deaf)
    }
}

impl Drop for Sweep {
    fn drop(&mut self) {
        self.running.iter().for_each(JoinHandle::abort);
    }
}

fn next_sweep(context: &Context) -> Option<Instant> {
    let interval = context.options.sweep_interval;
    (!interval.is_zero()).then(|| Instant::now() + interval.mul_f64(0.9 + fastrand::f64() / 5.0))
}

/// Waits until something is due; for ever if it is not.
pub(super) async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The watches that were not told what lasts.
async fn deaf(context: &Context, client: &Client, watches: Vec<CheckedWatch>) -> Reply<Swept> {
    let (suspects, denied) = differing(context, client, watches).await?;
    if suspects.is_empty() {
        return Ok(Swept {
            deaf: Vec::new(),
            denied,
        });
    }
    sleep(GRACE).await;
    let (watches, versions): (Vec<_>, Vec<_>) = suspects.into_iter().unzip();
    let before: HashMap<Handle, Version> = watches.iter().map(|watch| watch.handle).zip(versions).collect();
    let (mut lasting, _) = differing(context, client, watches).await?;
    // A consumer that is behind makes the ledger lag: no proof of anything.
    if context.congested() {
        lasting.clear();
    }
    lasting.retain(|(watch, version)| before.get(&watch.handle) == Some(version));
    let deaf = lasting.into_iter().map(|(watch, _)| watch).collect();
    Ok(Swept { deaf, denied })
}

/// The watches whose znode is in another state than they were told, with that state; and those that were told what is the case, but may
/// not read it any more.
async fn differing(
    context: &Context,
    client: &Client,
    watches: Vec<CheckedWatch>,
) -> Reply<(Vec<(CheckedWatch, Version)>, Vec<CheckedWatch>)> {
    let mut differing = Vec::new();
    let mut denied = Vec::new();
    let is_news = |watch: &CheckedWatch| !context.unreadable.has(&watch.path, watch.kind);
    let (trees, nodes): (Vec<_>, Vec<_>) = watches.into_iter().partition(|watch| watch.kind == WatchType::Tree);
    // Small data is read, for many reads fit in one request; of everything else the stat.
    let small = |watch: &CheckedWatch| match watch.size {
        Some(size) => watch.kind == WatchType::Data && size <= SMALL,
        None => watch.kind == WatchType::Data && context.ledger().knows_contents(watch.handle),
    };
    let (small, others): (Vec<_>, Vec<_>) = nodes.into_iter().partition(small);
    let mut rest = &small[..];
    while !rest.is_empty() {
        let (batch, later) = rest.split_at(reads::batch(rest.iter().map(|watch| watch.size.unwrap_or(SMALL))));
        rest = later;
        let paths: Vec<_> = batch.iter().map(|watch| watch.path.clone()).collect();
        for (watch, reply) in batch.iter().zip(reads::many(client, &paths).await?) {
            match reply {
                Ok(found) => {
                    let version = found.map_or(Version::Absent, |(data, stat)| {
                        reads::data_observation(data, &stat).version
                    });
                    keep_different(context, watch, version, Ledger::wants, &mut differing);
                }
                Err(ReadFailure::Denied) if is_news(watch) => denied.push(watch.clone()),
                Err(_) => {}
            }
        }
    }
    for chunk in others.chunks(PIPELINE) {
        let paths: Vec<_> = chunk.iter().map(|watch| watch.path.clone()).collect();
        let stats = reads::stats(client, &paths).await?;
        for (watch, stat) in chunk.iter().zip(stats) {
            let version = match (&stat, watch.kind) {
                (None, _) => Version::Absent,
                (Some(stat), WatchType::Children) => reads::children_version(stat),
                (Some(stat), _) => reads::data_version(stat),
            };
            let before = differing.len();
            keep_different(context, watch, version, Ledger::wants_by_stat, &mut differing);
            // A stat needs no permission. Where the access control list was ever changed, reading something small tells.
            let changed = stat.filter(|stat| stat.aversion != 0 && differing.len() == before && is_news(watch));
            if let Some(stat) = changed
                && is_denied(client, &watch.path, &stat).await?
            {
                denied.push(watch.clone());
            }
        }
    }
    // A list that is no longer than such data is read, too, unless its stat told all there is to tell.
    let differs: HashSet<Handle> = differing.iter().map(|(watch, _)| watch.handle).collect();
    let listed = |watch: &&CheckedWatch| {
        watch.kind == WatchType::Children
            && context.ledger().knows_contents(watch.handle)
            && !differs.contains(&watch.handle)
    };
    let lists: Vec<_> = others.iter().filter(listed).collect();
    for chunk in lists.chunks(LISTS) {
        let sent: Vec<_> = chunk.iter().map(|watch| reads::children(client, &watch.path)).collect();
        for (watch, reply) in chunk.iter().zip(sent) {
            match reply.await {
                Ok(Some((names, stat))) => {
                    let version = reads::children_observation(names, &stat).version;
                    keep_different(context, watch, version, Ledger::wants, &mut differing);
                }
                Err(failure @ (ReadFailure::Connection(_) | ReadFailure::Session(_))) => return Err(failure),
                Err(ReadFailure::Denied) if is_news(watch) => denied.push((*watch).clone()),
                // It went away since its stat was read, or cannot be read.
                Ok(None) | Err(_) => {}
            }
        }
    }
    for watch in trees {
        let listing = match listing::subtree(client, &watch.path, false).await {
            Err(ReadFailure::TooLarge(_)) => continue,
            listing => listing?,
        };
        if !listing.denied.is_empty() {
            // What is below those is not known; the worker lists it anew from time to time anyway.
            denied.push(watch);
            continue;
        }
        let mut subtree = Subtree::default();
        subtree.set_all(&listing.marks, &[]);
        subtree.set_root(listing.root);
        keep_different(context, &watch, subtree.version(), Ledger::wants, &mut differing);
    }
    Ok((differing, denied))
}

/// Whether we may not read a znode, as far as that can be found out by a short answer.
async fn is_denied(client: &Client, path: &str, stat: &zookeeper_client::Stat) -> Reply<bool> {
    const FEW: i32 = 1000;
    let failure = if usize::try_from(stat.data_length).is_ok_and(|length| length <= SMALL) {
        reads::data(client, path).await.err()
    } else if stat.num_children <= FEW {
        reads::children(client, path).await.err()
    } else {
        None
    };
    match failure {
        Some(failure @ (ReadFailure::Connection(_) | ReadFailure::Session(_))) => Err(failure),
        failure => Ok(failure == Some(ReadFailure::Denied)),
    }
}

fn keep_different(
    context: &Context,
    watch: &CheckedWatch,
    version: Version,
    is_news: impl Fn(&Ledger, Handle, &Version) -> bool,
    differing: &mut Vec<(CheckedWatch, Version)>,
) {
    let ledger = context.ledger();
    if is_news(&ledger, watch.handle, &version)
        && !ledger.is_new(watch.handle)
        && !context.unreadable.has(&watch.path, watch.kind)
    {
        differing.push((watch.clone(), version));
    }
}
