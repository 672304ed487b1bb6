//! The fields of a watch: their names, what they mean to a reader, and their defaults.
//!
//! Both file formats come here, so that a field means the same in both, and the published JSON Schema is made from the same
//! struct. This module must not know where a value stands in a file, nor look anything up: no users, no files.

pub(crate) mod component;
pub(crate) mod grants;
pub(crate) mod group;
pub(crate) mod network;
pub(crate) mod process;
pub(crate) mod retry;
pub(crate) mod types;

use std::path::Path;
use std::sync::Arc;

use schemars::JsonSchema;

use self::process::{Account, Environment, Limits, Umask, WorkingDir};
use self::types::{ActionSpec, FailureSpec, FromValue, MaxParallel, Mismatch, Seconds, SignalNumber, Znode};
use crate::value::Value;
use twitcher_model::{OnFailure, RunMode, RunOnLoad, WatchType};

/// Every field. The first ten can also be given by position, in the order that the first Twitcher had them in.
pub(crate) const NAMES: [&str; 27] = [
    "znode",
    "action",
    "pipe_stdin",
    "run_on_load",
    "run_mode",
    "uid",
    "gid",
    "notify_signal",
    "timeout",
    "description",
    "name",
    "watch_type",
    "max_parallel",
    "kill_after",
    "on_failure",
    "on_delete",
    "settle",
    "settle_max",
    "splay",
    "min_interval",
    "refuse_empty",
    "group",
    "cwd",
    "umask",
    "env",
    "inherit_env",
    "limits",
];

/// The fields that can be given by position.
pub(crate) fn positional() -> &'static [&'static str] {
    &NAMES[..10]
}

/// A watch as it is written in a configuration file.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(rename = "Watch", default, deny_unknown_fields, extend("required" = ["znode", "action"]))]
pub(crate) struct Fields {
    /// Path of the znode to watch.
    #[schemars(with = "Znode")]
    pub(crate) znode: Option<Znode>,
    /// What to run.
    #[schemars(with = "ActionSpec")]
    pub(crate) action: Option<ActionSpec>,
    /// Stable identity of the watch, in state, status and logs; unique. Default: the description, else the file's name without its
    /// ending, "-" and the watch's number in the file.
    #[schemars(skip_serializing_if = "Option::is_none", length(min = 1, max = 255))]
    pub(crate) name: Option<Arc<str>>,
    /// Text for logs. Default: the name.
    #[schemars(skip_serializing_if = "Option::is_none", length(min = 1, max = 255))]
    pub(crate) description: Option<Arc<str>>,
    /// What of the node is watched: its data, the names of its children (sorted on stdin, one a line), or the whole subtree (on
    /// stdin the paths that changed).
    #[schemars(schema_with = "self::types::watch_type_schema", extend("default" = "WATCH_DATA"))]
    pub(crate) watch_type: WatchType,
    /// Whether the update's data is on stdin; else stdin is /dev/null.
    pub(crate) pipe_stdin: bool,
    /// Whether the state that is found at the start counts as a change. IF_CHANGED: unless it is the one that the last run which
    /// succeeded on this host was for.
    #[schemars(schema_with = "self::types::run_on_load_schema", extend("default" = true))]
    pub(crate) run_on_load: RunOnLoad,
    /// What happens to updates that arrive while the action runs. QUEUE: the newest is remembered, one run follows. DISCARD: they
    /// are ignored. PARALLEL: each runs at once. RESTART: the running action is terminated, then the newest runs.
    #[schemars(schema_with = "self::types::run_mode_schema")]
    pub(crate) run_mode: RunMode,
    /// Most runs at once in PARALLEL; further updates wait.
    pub(crate) max_parallel: MaxParallel,
    /// User to run as, by name or number. Default: the daemon's.
    #[schemars(skip_serializing_if = "Option::is_none")]
    pub(crate) uid: Option<Account>,
    /// Group to run as, by name or number. Default: the user's, if one is given, else the daemon's.
    #[schemars(skip_serializing_if = "Option::is_none")]
    pub(crate) gid: Option<Account>,
    /// Seconds until a run gets SIGTERM. Default: none.
    #[schemars(skip_serializing_if = "Option::is_none", extend("exclusiveMinimum" = 0))]
    pub(crate) timeout: Option<Seconds>,
    /// Seconds from SIGTERM until SIGKILL.
    pub(crate) kill_after: Seconds,
    /// In QUEUE: signal for the running action's main process at every new update, by name or number.
    #[schemars(skip_serializing_if = "Option::is_none")]
    pub(crate) notify_signal: Option<SignalNumber>,
    /// What a failed run leads to. KEEP: it is logged, the watch waits for the next change. STOP: the watch is parked until its file
    /// is loaded again. Retry(…): it is run again, unless a newer update comes first.
    #[schemars(schema_with = "self::types::on_failure_schema")]
    pub(crate) on_failure: FailureSpec,
    /// Also run when the node goes away, with empty stdin.
    pub(crate) on_delete: bool,
    /// Seconds without a newer change before a run starts.
    pub(crate) settle: Seconds,
    /// Most seconds that settle may hold an update back; 0 means no bound.
    pub(crate) settle_max: Seconds,
    /// Each change is delayed by this host's and this watch's own share of so many seconds.
    pub(crate) splay: Seconds,
    /// Least seconds between two starts; defers updates, never drops them.
    pub(crate) min_interval: Seconds,
    /// Treat an empty node as not ready: log it, don't run.
    pub(crate) refuse_empty: bool,
    /// Group of watches that together run no more actions at once than the group's limit: 1, unless RegisterGroup, or an object with
    /// "group" and "limit" among the watches, says otherwise.
    #[schemars(skip_serializing_if = "Option::is_none", length(min = 1, max = 255))]
    pub(crate) group: Option<Arc<str>>,
    /// Working directory.
    pub(crate) cwd: WorkingDir,
    /// File mode creation mask, as octal digits in a string. A number counts as it is written, so 18 is "022".
    pub(crate) umask: Umask,
    /// Extra environment variables.
    pub(crate) env: Environment,
    /// Whether the daemon's own environment is passed on.
    pub(crate) inherit_env: bool,
    /// Resource limits by the names of setrlimit(2): a number for both the soft and the hard limit, a pair of them, or "unlimited".
    pub(crate) limits: Limits,
}

impl Default for Fields {
    fn default() -> Self {
        Self {
            znode: None,
            action: None,
            name: None,
            description: None,
            watch_type: WatchType::Data,
            pipe_stdin: true,
            run_on_load: RunOnLoad::Always,
            run_mode: RunMode::Queue,
            max_parallel: MaxParallel(16),
            uid: None,
            gid: None,
            timeout: None,
            kill_after: Seconds::new(5),
            notify_signal: None,
            on_failure: FailureSpec::Plain(OnFailure::Keep),
            on_delete: false,
            settle: Seconds::new(0),
            settle_max: Seconds::new(0),
            splay: Seconds::new(0),
            min_interval: Seconds::new(0),
            refuse_empty: false,
            group: None,
            cwd: WorkingDir(Path::new("/").into()),
            umask: Umask(0o022),
            env: Environment::default(),
            inherit_env: false,
            limits: Limits::default(),
        }
    }
}

impl Fields {
    /// Sets one field. A value of none leaves the default; a name that is not of [`NAMES`] is left to the caller and changes nothing.
    pub(crate) fn set(&mut self, name: &str, value: &Value) -> Result<(), Mismatch> {
        if matches!(value, Value::None) {
            return Ok(());
        }
        match name {
            "znode" => self.znode = Some(read(value)?),
            "action" => self.action = Some(read(value)?),
            "name" => self.name = Some(read(value)?),
            "description" => self.description = Some(read(value)?),
            "watch_type" => self.watch_type = read(value)?,
            "pipe_stdin" => self.pipe_stdin = read(value)?,
            "run_on_load" => self.run_on_load = read(value)?,
            "run_mode" => self.run_mode = read(value)?,
            "max_parallel" => self.max_parallel = read(value)?,
            "uid" => self.uid = Some(read(value)?),
            "gid" => self.gid = Some(read(value)?),
            "timeout" => self.timeout = Some(Seconds::above_zero(value)?),
            "kill_after" => self.kill_after = read(value)?,
            "notify_signal" => self.notify_signal = Some(read(value)?),
            "on_failure" => self.on_failure = read(value)?,
            "on_delete" => self.on_delete = read(value)?,
            "settle" => self.settle = read(value)?,
            "settle_max" => self.settle_max = read(value)?,
            "splay" => self.splay = read(value)?,
            "min_interval" => self.min_interval = read(value)?,
            "refuse_empty" => self.refuse_empty = read(value)?,
            "group" => self.group = Some(read(value)?),
            "cwd" => self.cwd = read(value)?,
            "umask" => self.umask = read(value)?,
            "env" => self.env = read(value)?,
            "inherit_env" => self.inherit_env = read(value)?,
            "limits" => self.limits = read(value)?,
            _ => {}
        }
        Ok(())
    }
}

fn read<T: FromValue>(value: &Value) -> Result<T, Mismatch> {
    T::from_value(value)
}
