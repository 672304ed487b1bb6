//! A local directory tree as a source: the embedded default for trying out, tests without a server and single machines.
//!
//! `DIR/a/b` is znode `/a/b`. A file's bytes are its data; a directory's entries are its children, and its data is empty.
//!
//! - **Names** that begin with `.` or end with `~` are no znodes, nor are names that are not UTF-8 or that ZooKeeper would
//!   refuse, nor FIFOs, sockets and devices.
//! - **Versions.** `mzxid` is derived from the time of modification and the contents: it is the same after a restart, and
//!   differs when either does. `touch` is a change, as setting the same data is in ZooKeeper. `version` is the
//!   lower bits of `mzxid`, so that a file can be set on the condition that it is still what it was. `czxid` is 0: a file that an
//!   editor replaces is the same node with other data, not another node. A directory has 0 for all of them.
//! - **Half-written files.** A change is looked at when its path has been quiet for [`TreeOptions::quiet`]; a file that is being
//!   written, when it is closed (or after [`TreeOptions::writing`]).
//! - **Finished files.** A watch of a node's data need not wait for the quiet: a file that was closed after it was written, or renamed
//!   to its path, is looked at at once (see `first_look`). What goes, what is empty, and children and subtrees, wait for it: an editor's
//!   exchange of a file, a file that is emptied to be filled, and many files that are written together are one change.
//! - **Links** are followed if they stay below the directory and are relative; others are errors. A change to what a link leads
//!   to is noticed by the sweep, or at once when the link itself, or one like `..data`, is replaced.
//! - **Requests** replace a file as a whole, with the owner and permissions it had, and make and remove files and empty directories;
//!   they make no children of a file.
//! - **The directory itself** may be absent, come later, and be replaced, and so may every directory and link on the way to it.
//! - **Losing nothing.** Directories are watched before they are read; when the kernel drops events everything is read again;
//!   and a sweep every [`TreeOptions::sweep`] finds what was missed all the same.

mod first_look;
mod node;
mod requests;
mod subtree;
mod watched;

use std::collections::{HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tracing::{error, info, warn};

use self::first_look::Looked;
pub(super) use self::requests::TreeRequests;
use self::watched::View;
use super::{Change, Requests, Source, SourceConnection, SourceReport, Znodes};
use twitcher_files::directory_watch::settling::SettleTimes;
use twitcher_files::directory_watch::{self, DirectoryEvents, SettledChanges};
use twitcher_model::WatchId;

/// Reports that wait for the daemon. Few, because each may carry 1 MiB.
const REPORTS: usize = 64;

/// A directory that stands for a tree of znodes, and how long its changes are held back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeOptions {
    /// The directory that stands for the root znode. It need not exist.
    pub root: PathBuf,
    /// A path is looked at when nothing happened to it for so long, or 5 times as long if things keep happening. Default 20 ms.
    pub quiet: Duration,
    /// A file that is written and not closed is looked at after so long all the same. Default 5 s.
    pub writing: Duration,
    /// Time between two sweeps over all watched nodes. Default 60 s.
    pub sweep: Duration,
    /// Most bytes of a file that are read; a larger one is reported as one that cannot be read. Default 1 MiB.
    pub max_data: u64,
}

impl TreeOptions {
    /// The default options for a directory.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self {
            root: root.into(),
            quiet: Duration::from_millis(20),
            writing: Duration::from_secs(5),
            sweep: Duration::from_secs(60),
            max_data: node::MOST_DATA,
        }
    }
}

/// Starts watching. To be called within a tokio runtime; reading the directory happens on its threads for blocking work.
///
/// # Errors
/// If a relative root cannot be made absolute.
pub fn spawn(options: TreeOptions) -> io::Result<Source> {
    let root = std::path::absolute(&options.root)?;
    let times = SettleTimes {
        quiet: options.quiet,
        busy: options.quiet.saturating_mul(5),
        writing: options.writing,
        finished: true,
    };
    let way = Way::default();
    let (below, on_the_way) = (root.clone(), Arc::clone(&way));
    let wanted = move |path: &Path, what| {
        let on_the_way = || on_the_way.read().unwrap_or_else(PoisonError::into_inner).contains(path);
        (path.starts_with(&below) || on_the_way()).then_some(what)
    };
    let (watcher, events) = directory_watch::open("tree", times, wanted);
    match root.is_dir() {
        true => info!(directory = %root.display(), "watching directory"),
        false => warn!(
            directory = %root.display(),
            "there is no such directory: every znode is absent until it is made"
        ),
    }
    let (changes, changes_in) = mpsc::unbounded_channel();
    let (reports_out, reports) = mpsc::channel(REPORTS);
    let task = Task {
        changes: changes_in,
        reports: reports_out,
        events,
        todo: VecDeque::new(),
        arming: None,
    };
    let znodes = Znodes::tree(TreeRequests::new(root.clone(), node::MOST_DATA));
    let sweep = options.sweep.max(Duration::from_millis(1));
    let view = View::new(root, watcher, way, sweep, options.max_data);
    tokio::spawn(task.run(view, sweep));
    Ok(Source {
        changes,
        reports,
        znodes,
        connection: watch::Sender::new(SourceConnection::always()).subscribe(),
    })
}

/// Requests for single znodes, and no watches. To be called within a tokio runtime.
///
/// # Errors
/// If a relative root cannot be made absolute.
pub fn requests(options: &TreeOptions) -> io::Result<Requests> {
    let root = std::path::absolute(&options.root)?;
    Ok(Requests {
        znodes: Znodes::tree(TreeRequests::new(root, options.max_data)),
        connection: watch::Sender::new(SourceConnection::always()).subscribe(),
        closing: None,
    })
}

/// The paths of the directories and links on the way to the root.
type Way = Arc<RwLock<HashSet<PathBuf>>>;

struct Task {
    changes: mpsc::UnboundedReceiver<Change>,
    reports: mpsc::Sender<SourceReport>,
    events: DirectoryEvents,
    /// The watches whose znodes are to be read, in this order.
    todo: VecDeque<WatchId>,
    /// How many of `todo`, from the front, must be read until every watch subscribed so far is armed.
    arming: Option<usize>,
}

enum Wake {
    Change(Change),
    Settled(SettledChanges),
    Sweep,
}

impl Task {
    /// Runs until the daemon drops its end.
    async fn run(mut self, mut view: View, sweep: Duration) {
        let mut sweeps = interval_at(Instant::now() + sweep, sweep);
        sweeps.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // While there is something to read, only what is there already is taken in between.
            let wake = if self.todo.is_empty() {
                tokio::select! {
                    change = self.changes.recv() => match change {
                        Some(change) => Some(Wake::Change(change)),
                        None => return,
                    },
                    batch = self.events.settled() => Some(Wake::Settled(batch)),
                    _ = sweeps.tick() => Some(Wake::Sweep),
                }
            } else {
                match self.changes.try_recv() {
                    Ok(change) => Some(Wake::Change(change)),
                    Err(mpsc::error::TryRecvError::Empty) => None,
                    Err(mpsc::error::TryRecvError::Disconnected) => return,
                }
            };
            let wake = match wake {
                Some(Wake::Settled(mut batch)) => {
                    view.keep_concerned(&mut batch.finished);
                    if batch == SettledChanges::default() {
                        continue;
                    }
                    Some(Wake::Settled(batch))
                }
                wake => wake,
            };
            let in_between = self.events.in_between();
            let mut todo = std::mem::take(&mut self.todo);
            let arms = matches!(wake, Some(Wake::Change(_)));
            let read = spawn_blocking(move || {
                let mut looked = Looked::default();
                let mut has_settled = true;
                match wake {
                    Some(Wake::Change(change)) => todo.extend(view.change(change)),
                    Some(Wake::Settled(batch)) => {
                        looked = view.first_look(&batch.finished, &in_between);
                        has_settled = batch.lost || !batch.paths.is_empty();
                        todo.extend(view.affected(&batch));
                    }
                    Some(Wake::Sweep) => todo.extend(view.all()),
                    None => {}
                }
                let all = todo.len();
                let mut new = std::mem::take(&mut looked.reports);
                if has_settled {
                    new.extend(view.read(&mut todo, &in_between));
                }
                (view, all, todo, new, looked.overtaken)
            });
            let all;
            let new;
            let overtaken;
            (view, all, self.todo, new, overtaken) = match read.await {
                Ok(read) => read,
                Err(error) => {
                    error!(%error, "reading the directory failed: it is watched no longer");
                    return;
                }
            };
            self.events.be_patient(&overtaken);
            if arms {
                self.arming = Some(all);
            }
            for report in new {
                if self.reports.send(report).await.is_err() {
                    return;
                }
            }
            if let Some(left) = self.arming.take() {
                match left.saturating_sub(all - self.todo.len()) {
                    0 => {
                        if self.reports.send(SourceReport::Armed).await.is_err() {
                            return;
                        }
                    }
                    left => self.arming = Some(left),
                }
            }
        }
    }
}
