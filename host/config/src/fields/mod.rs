//! The fields of a watch: their names, what they mean to a reader, and their defaults.
//!
//! Both file formats come here, so that a field means the same in both, and the published JSON Schema is made from the same
//! declaration. This module must not know where a value stands in a file, nor look anything up: no users, no files.

mod arguments;
pub(crate) mod calls;
mod collections;
pub(crate) mod commands;
pub(crate) mod component;
pub(crate) mod declaration;
pub(crate) mod deployment;
pub(crate) mod forms;
pub(crate) mod grants;
pub(crate) mod group;
pub(crate) mod hardening;
pub(crate) mod mismatch;
pub(crate) mod network;
mod probe;
pub(crate) mod process;
pub(crate) mod retry;
pub(crate) mod rollout;
pub(crate) mod secret;
#[cfg(test)]
mod tests;
pub(crate) mod types;

use std::path::Path;
use std::sync::Arc;

use self::calls::{ActionSpec, FailureSpec};
use self::declaration::fields;
use self::process::{Account, DataFile, Environment, Limits, Umask, WorkingDir};
use self::rollout::RolloutSpec;
use self::types::{MaxParallel, Seconds, ShrinkShare, SignalNumber, Timeout, Znodes};
use twitcher_model::{OnFailure, Payload, RunMode, RunOnLoad, WatchType};

/// How many fields can also be given by position, in the order that the first Twitcher had them in.
const POSITIONAL: usize = 10;

/// The fields that can be given by position.
pub(crate) fn positional() -> &'static [&'static str] {
    &NAMES[..POSITIONAL]
}

fields! {
    /// A watch as it is written in a configuration file.
    struct Fields, published as "Watch", required ["znode", "action"];

    /// Path of the znode to watch, or a list of several: a change of any is a change of the watch, and one run is for all that change
    /// together.
    znode: Option<Znodes> = None,

    /// What to run.
    action: Option<ActionSpec> = None,

    /// Whether the update's data is on stdin; else stdin is /dev/null.
    pipe_stdin: bool = true,

    /// Whether the state that is found at the start counts as a change. IF_CHANGED: unless it is the one that the last run which
    /// succeeded on this host was for.
    run_on_load: RunOnLoad = RunOnLoad::Always,

    /// What happens to updates that arrive while the action runs. QUEUE: the newest is remembered, one run follows. DISCARD: they
    /// are ignored. PARALLEL: each runs at once. RESTART: the running action is terminated, then the newest runs.
    run_mode: RunMode = RunMode::Queue,

    /// User to run as, by name or number. Default: the daemon's.
    uid: Option<Account> = None,

    /// Group to run as, by name or number. Default: the user's, if one is given, else the daemon's.
    gid: Option<Account> = None,

    /// In QUEUE: signal for the running action's main process at every new update, by name or number.
    notify_signal: Option<SignalNumber> = None,

    /// Seconds until a run gets SIGTERM. Default: none.
    timeout: Option<Timeout> = None,

    /// Text for logs. Default: the name.
    description: Option<Arc<str>> = None,

    /// Stable identity of the watch, in state, status and logs; unique. Default: the description, else the file's name without its
    /// ending, "-" and the watch's number in the file.
    name: Option<Arc<str>> = None,

    /// What of the node is watched: its data, the names of its children (sorted on stdin, one a line), or the whole subtree (on
    /// stdin the paths that changed).
    watch_type: WatchType = WatchType::Data,

    /// What is on stdin. DATA: what watch_type says. JSON: a document of at most 16 MiB that describes the change, with the stat, the
    /// data, what was added, removed or changed, and of WATCH_TREE every node below; `twitcher schema --payload` has all of it.
    payload: Payload = Payload::Data,

    /// Most runs at once in PARALLEL; further updates wait.
    max_parallel: MaxParallel = MaxParallel(16),

    /// Seconds from SIGTERM until SIGKILL.
    kill_after: Seconds = Seconds::new(5),

    /// What a failed run leads to. KEEP: it is logged, the watch waits for the next change. STOP: the watch is parked until it
    /// is resumed, the configuration is loaded on request (SIGHUP), or it is defined anew. Retry(…): it is run again, unless a newer update comes first.
    on_failure: FailureSpec = FailureSpec::Plain(OnFailure::Keep),

    /// Also run when the node goes away, with empty stdin.
    on_delete: bool = false,

    /// Seconds without a newer change before a run starts.
    settle: Seconds = Seconds::new(0),

    /// Most seconds that settle may hold an update back; 0 means no bound.
    settle_max: Seconds = Seconds::new(0),

    /// Each change is delayed by this host's and this watch's own share of so many seconds.
    splay: Seconds = Seconds::new(0),

    /// Least seconds between two starts; defers updates, never drops them.
    min_interval: Seconds = Seconds::new(0),

    /// Treat an empty node as not ready: log it, don't run.
    refuse_empty: bool = false,

    /// Share of what there was at the last success, such as 0.5: a state that has lost more than that, of data bytes, of children or of
    /// the subtree's znodes, is not run for until `twitcher run-now` accepts it. Default: any state is.
    refuse_shrink: Option<ShrinkShare> = None,

    /// Group of watches that together run no more actions at once than the group's limit: 1, unless RegisterGroup, or an object with
    /// "group" and "limit" among the watches, says otherwise.
    group: Option<Arc<str>> = None,

    /// Working directory.
    cwd: WorkingDir = WorkingDir(Path::new("/").into()),

    /// File mode creation mask, as octal digits in a string. A number counts as it is written, so 18 is "022".
    umask: Umask = Umask(0o022),

    /// Extra environment variables. Secret("/file"), in JSON {"secret": "/file"}, is a value that is read from a file when a run starts.
    env: Environment = Environment::default(),

    /// Whether the daemon's own environment is passed on.
    inherit_env: bool = false,

    /// Resource limits. Of each process, by the names of setrlimit(2): a number for both the soft and the hard limit, a pair of them, or
    /// "unlimited". Of the run as a whole, where the daemon has the cgroup controllers: "memory" (a size such as "512MiB", or bytes; a run that
    /// needs more is killed, the whole of it), "tasks" (processes and threads), and "cpu" as a percentage of one processor, such as "50%".
    /// A limit that cannot be had is an error, or left out with "optional": True.
    limits: Limits = Limits::default(),

    /// The action is a program that stays: a run has handled its state once it has stayed for ready_after, being replaced by a newer change
    /// is no failure, and when it ends by itself it is started again by on_failure, by default ever later and for ever. For RESTART, or QUEUE
    /// with notify_signal.
    service: bool = false,

    /// Seconds that a service has to stay to have handled its state, after its start and after each notify_signal.
    ready_after: Seconds = Seconds::new(1),

    /// File that has what is on stdin before a run starts and before it gets notify_signal: replaced as a whole, by the watch's user and
    /// umask. Default: none.
    data_file: Option<DataFile> = None,

    /// Whether results are published where the daemon is in a fleet (twitcher help fleet).
    publish: bool = true,

    /// How changes go out to a fleet: Rollout(…) lets so many hosts act at once, wave by wave, and none more once too many have failed.
    /// Default: each host acts at once.
    rollout: Option<RolloutSpec> = None,
}
