//! Plain types that every module shares: what a watch is, what was observed, how a run ended.
//!
//! This module must not know how any of it comes about: no I/O, no clock, no async, no other module of this crate.

mod component;
mod grants;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use component::{
    Bundle, CommandGrant, Component, Digest, DirGrant, Entry, Grants, HostPort, HttpOrigin, Keep, WasmAction,
    ZnodeGrant,
};

/// Identifies a watch for as long as the daemon lives. Stable over reloads: a watch keeps its id while its name stays.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WatchId(pub u32);

/// Identifies one run of an action, also across restarts of the daemon: milliseconds since 1970 at the daemon's start in the
/// upper 44 bits, a counter in the lower 20. Shown as 13 characters of Crockford's base 32, which sort by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RunId(pub u64);

impl RunId {
    const ALPHABET: &'static [u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
    const LEN: usize = 13;
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0u8; Self::LEN];
        let mut rest = self.0;
        for byte in text.iter_mut().rev() {
            *byte = Self::ALPHABET[(rest & 31) as usize];
            rest >>= 5;
        }
        f.write_str(std::str::from_utf8(&text).unwrap_or_default())
    }
}

/// The absolute path of a znode, checked by ZooKeeper's own rules.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Arc<str>", into = "Arc<str>")]
pub struct ZnodePath(Arc<str>);

/// Why a text is not the path of a znode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZnodePathError {
    /// The path does not begin with `/`.
    #[error("znode path {0:?} is not absolute: it must begin with \"/\"")]
    Relative(String),
    /// The path ends with `/` but is not the root.
    #[error("znode path {0:?} must not end with \"/\"")]
    TrailingSlash(String),
    /// Two slashes in a row.
    #[error("znode path {0:?} has an empty name between two slashes")]
    EmptyName(String),
    /// A name that is `.` or `..`.
    #[error("znode path {0:?} must not have {1:?} as a name: ZooKeeper has no relative paths")]
    Dots(String, String),
    /// A character that ZooKeeper refuses.
    #[error("znode path {0:?} has the character {1:?}, which ZooKeeper does not allow")]
    Character(String, char),
}

impl ZnodePath {
    /// Checks `path` by the rules of ZooKeeper's `PathUtils.validatePath`.
    pub fn new(path: impl Into<Arc<str>>) -> Result<Self, ZnodePathError> {
        let path = path.into();
        let owned = || path.to_string();
        let Some(names) = path.strip_prefix('/') else {
            return Err(ZnodePathError::Relative(owned()));
        };
        if names.is_empty() {
            return Ok(Self(path));
        }
        if names.ends_with('/') {
            return Err(ZnodePathError::TrailingSlash(owned()));
        }
        for name in names.split('/') {
            match name {
                "" => return Err(ZnodePathError::EmptyName(owned())),
                "." | ".." => return Err(ZnodePathError::Dots(owned(), name.to_owned())),
                _ => {}
            }
        }
        let refused = |c: &char| matches!(*c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{ffff}');
        if let Some(c) = path.chars().find(refused) {
            return Err(ZnodePathError::Character(owned(), c));
        }
        Ok(Self(path))
    }

    /// The path of the root.
    pub fn root() -> Self {
        Self("/".into())
    }

    /// The path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The path one level up; none for the root.
    pub fn parent(&self) -> Option<ZnodePath> {
        match self.0.rfind('/')? {
            0 if self.0.len() == 1 => None,
            0 => Some(Self("/".into())),
            at => Some(Self(self.0[..at].into())),
        }
    }

    /// Whether `self` is `ancestor` or lies below it.
    pub fn is_within(&self, ancestor: &ZnodePath) -> bool {
        match self.0.strip_prefix(&*ancestor.0) {
            Some(rest) => rest.is_empty() || rest.starts_with('/') || &*ancestor.0 == "/",
            None => false,
        }
    }
}

impl fmt::Display for ZnodePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<Arc<str>> for ZnodePath {
    type Error = ZnodePathError;
    fn try_from(path: Arc<str>) -> Result<Self, Self::Error> {
        Self::new(path)
    }
}

impl From<ZnodePath> for Arc<str> {
    fn from(path: ZnodePath) -> Self {
        path.0
    }
}

/// What of a znode is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WatchType {
    /// The node's data.
    #[default]
    Data,
    /// The names of the node's children.
    Children,
    /// The data of the node and of everything below it.
    Tree,
}

/// What happens to an update that arrives while the action runs for an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RunMode {
    /// Only the newest is remembered; one run follows.
    #[default]
    Queue,
    /// It is ignored, for good.
    Discard,
    /// It runs at once, beside the others.
    Parallel,
    /// The running action is terminated, then the newest runs.
    Restart,
}

impl fmt::Display for RunMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RunMode::Queue => "QUEUE",
            RunMode::Discard => "DISCARD",
            RunMode::Parallel => "PARALLEL",
            RunMode::Restart => "RESTART",
        })
    }
}

/// What happens when an action fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum OnFailure {
    /// It is logged; the watch waits for the next change.
    #[default]
    Keep,
    /// The watch is parked until its file is loaded again.
    Stop,
}

/// When and how often a watch's action runs: all that the scheduler knows of a watch.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Policy {
    /// What happens to updates while the action runs.
    pub run_mode: RunMode,
    /// Most runs at once in PARALLEL; further updates wait for a place, the newest last. Default 16.
    pub max_parallel: u32,
    /// Whether the state found when the watch is first read is run for. Default true.
    pub run_on_load: bool,
    /// Whether the action also runs when the node goes away. Default false.
    pub on_delete: bool,
    /// What a failed run leads to. Default [`OnFailure::Keep`].
    pub on_failure: OnFailure,
    /// An empty node is not ready: it is logged, not run for. Default false.
    pub refuse_empty: bool,
    /// Signal number for the running action's main process at every newer update, in QUEUE. Default none.
    pub notify_signal: Option<i32>,
    /// No newer change for so long before a run starts. Default zero.
    pub settle: Duration,
    /// Most time that `settle` may hold an update back, counted from the first held one. Default zero, meaning no bound.
    pub settle_max: Duration,
    /// This host's share of the watch's `splay`: each change is delayed by so much. Default zero.
    pub delay: Duration,
    /// Least time between two starts. Default zero.
    pub min_interval: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            run_mode: RunMode::Queue,
            max_parallel: 16,
            run_on_load: true,
            on_delete: false,
            on_failure: OnFailure::Keep,
            refuse_empty: false,
            notify_signal: None,
            settle: Duration::ZERO,
            settle_max: Duration::ZERO,
            delay: Duration::ZERO,
            min_interval: Duration::ZERO,
        }
    }
}

/// What a watch runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// A command line for `/bin/sh -c`.
    Shell(Arc<str>),
    /// A program and its arguments, executed as they are.
    Argv(Arc<[Arc<str>]>),
    /// A function of a configuration file.
    Function(FunctionAction),
    /// A component in the sandbox.
    Wasm(Arc<WasmAction>),
}

/// A function of a `.twc` file. It is found again by evaluating the sources that were loaded: Starlark is deterministic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FunctionAction {
    /// The sources as they were when the file was loaded.
    pub program: Arc<Program>,
    /// Which `RegisterWatch` call of the program, counted from 0, has the function as its action.
    pub call: u32,
}

/// A `.twc` file with everything it loads, as text: enough to evaluate it without reading any file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The file that registers the watches.
    pub file: Arc<Path>,
    /// Its text.
    pub source: Arc<str>,
    /// Every file reached by `load()`, with its text.
    pub loads: Vec<(Arc<Path>, Arc<str>)>,
}

/// Who an action runs as. Resolved when the configuration is loaded: the user database may be slow or remote.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Identity {
    /// User id to change to; none keeps the daemon's.
    pub uid: Option<u32>,
    /// Group id to change to; none keeps the daemon's.
    pub gid: Option<u32>,
    /// Supplementary groups to set; none keeps the daemon's.
    pub groups: Option<Vec<u32>>,
    /// Name for USER and LOGNAME.
    pub user: String,
    /// HOME.
    pub home: String,
    /// SHELL.
    pub shell: String,
}

/// A resource limit of the action's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limit {
    /// Which resource.
    pub resource: Resource,
    /// Soft limit; `u64::MAX` is unlimited. In the unit of setrlimit(2).
    pub soft: u64,
    /// Hard limit; `u64::MAX` is unlimited.
    pub hard: u64,
}

/// The resources that can be limited, by the names of setrlimit(2) in lower case without `RLIMIT_`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs, reason = "each is the constant of setrlimit(2) of the same name")]
pub enum Resource {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Memlock,
    Nofile,
    Nproc,
    Stack,
}

/// How a watch's process is set up. Shared between watches that agree in it: with 10,000 watches it would be most of their size.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProcessSettings {
    /// Who it runs as.
    pub identity: Identity,
    /// Working directory. Default `/`.
    pub cwd: Arc<Path>,
    /// File mode creation mask. Default 0o022.
    pub umask: u32,
    /// Extra environment, in the order given; wins over everything else but `TWITCHER_*`.
    pub env: Vec<(String, String)>,
    /// Whether the daemon's environment is passed on. Default false.
    pub inherit_env: bool,
    /// Resource limits.
    pub limits: Vec<Limit>,
    /// Whether the update's data is on stdin; else `/dev/null`. Default true.
    pub pipe_stdin: bool,
    /// Time until SIGTERM, from the start of the run. Default none.
    pub timeout: Option<Duration>,
    /// Time from SIGTERM until SIGKILL. Default 5 s.
    pub kill_after: Duration,
}

impl Default for ProcessSettings {
    fn default() -> Self {
        Self {
            identity: Identity::default(),
            cwd: Path::new("/").into(),
            umask: 0o022,
            env: Vec::new(),
            inherit_env: false,
            limits: Vec::new(),
            pipe_stdin: true,
            timeout: None,
            kill_after: Duration::from_secs(5),
        }
    }
}

/// Where a watch was registered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Origin {
    /// The configuration file.
    pub file: Arc<Path>,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file.display(), self.line, self.column)
    }
}

/// A registered watch. Two are the same watch, unchanged, when all but [`Watch::origin`] is equal.
#[derive(Debug, Clone)]
pub struct Watch {
    /// Stable identity in state, status and logs.
    pub name: Arc<str>,
    /// Text for logs.
    pub description: Arc<str>,
    /// The znode.
    pub znode: ZnodePath,
    /// What of it is watched.
    pub watch_type: WatchType,
    /// What runs.
    pub action: Action,
    /// When it runs.
    pub policy: Arc<Policy>,
    /// How its process is set up.
    pub process: Arc<ProcessSettings>,
    /// Where it was registered.
    pub origin: Origin,
}

impl Watch {
    /// Whether the watch means the same as `other`, wherever in the file it stands.
    pub fn same_as(&self, other: &Watch) -> bool {
        self.name == other.name
            && self.description == other.description
            && self.znode == other.znode
            && self.watch_type == other.watch_type
            && self.action == other.action
            && self.policy == other.policy
            && self.process == other.process
    }
}

/// What tells one state of a watched node from another. Compared for equality only: after a server lost its data, or a node was
/// re-created, the newer state can have the smaller numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Version {
    /// The node does not exist.
    Absent,
    /// The node's data, by the transactions that created the node and last set its data.
    Data {
        /// Transaction that created the node.
        czxid: i64,
        /// Transaction that last set its data.
        mzxid: i64,
    },
    /// The node's children, by the transactions that created the node and last changed its children.
    Children {
        /// Transaction that created the node.
        czxid: i64,
        /// Transaction that last added or removed a child.
        pzxid: i64,
    },
    /// A subtree, by a digest over every node's path, creation and modification.
    Tree {
        /// The digest.
        digest: u64,
    },
}

/// The facts of a node's stat that an action may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Stat {
    /// Transaction that created the node.
    pub czxid: i64,
    /// Transaction that last set its data.
    pub mzxid: i64,
    /// Number of times the data was set since the node was created.
    pub version: i32,
}

/// The state of a watched node, as a source has just read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observation {
    /// Tells this state from others.
    pub version: Version,
    /// The node's stat; none while it is absent.
    pub stat: Option<Stat>,
    /// What an action gets on stdin: the data; sorted child names, one a line; or the paths in a subtree that changed since the last
    /// observation of this watch, sorted, one a line.
    pub stdin: Bytes,
}

impl Observation {
    /// The state of a node that does not exist.
    pub fn absent() -> Self {
        Self {
            version: Version::Absent,
            stat: None,
            stdin: Bytes::new(),
        }
    }

    /// Whether the node exists.
    pub fn exists(&self) -> bool {
        self.version != Version::Absent
    }
}

/// Why a run happens; `TWITCHER_EVENT` of the action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// The watch was loaded and the node exists.
    Load,
    /// The node came into being.
    Created,
    /// The node's data was set.
    Data,
    /// A child was added or removed.
    Children,
    /// Something in the subtree changed.
    Tree,
    /// The node went away.
    Deleted,
}

impl Event {
    /// The name that actions and logs get.
    pub fn as_str(self) -> &'static str {
        match self {
            Event::Load => "load",
            Event::Created => "created",
            Event::Data => "data",
            Event::Children => "children",
            Event::Tree => "tree",
            Event::Deleted => "deleted",
        }
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a component is told of the change that it runs for, besides the data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeFacts {
    /// The run.
    pub run: RunId,
    /// Name of the watch.
    pub watch: Arc<str>,
    /// The watched node.
    pub path: ZnodePath,
    /// What of it is watched: tells what the data is.
    pub watch_type: WatchType,
    /// Why it runs.
    pub event: Event,
    /// The node's stat; none while it is absent.
    pub stat: Option<Stat>,
    /// Counted from 1.
    pub attempt: u32,
    /// Time until the run is ended; none is for ever.
    pub timeout: Option<Duration>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The main process ended by itself with this exit code.
    Exited(i32),
    /// The main process died by a signal that Twitcher did not send.
    Signaled {
        /// Signal number.
        signal: i32,
        /// Whether it dumped core.
        core: bool,
    },
    /// It was terminated because its time was up.
    TimedOut,
    /// It was terminated for a newer update (RESTART) or because the daemon stops.
    Terminated,
    /// A component says that it failed.
    Failed {
        /// What is to follow.
        failure: Failure,
        /// What it says, or what happened to it; untrusted text.
        message: String,
    },
    /// It never ran.
    LaunchFailed {
        /// What was attempted, for example `chdir /srv/app`.
        step: String,
        /// Error number of the system call.
        errno: i32,
    },
}

/// How a component failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// Worth another attempt.
    Retry {
        /// After so many milliseconds; none leaves it to the policy.
        after_ms: Option<u64>,
    },
    /// No attempt with the same state can succeed.
    Permanent,
    /// It stopped because there is newer state.
    Superseded,
    /// It was ended by WebAssembly: out of bounds, unreachable, out of stack or of memory …
    Trap,
}

impl Outcome {
    /// Whether the action did its work.
    pub fn is_success(&self) -> bool {
        matches!(self, Outcome::Exited(0))
    }

    /// Whether the watch's `on_failure` is to decide what follows. Giving up for newer state is neither success nor failure.
    pub fn is_failure(&self) -> bool {
        let superseded = matches!(
            self,
            Outcome::Failed {
                failure: Failure::Superseded,
                ..
            }
        );
        !self.is_success() && !superseded
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Exited(0) => f.write_str("success"),
            Outcome::Exited(code) => write!(f, "exit code {code}"),
            Outcome::Signaled { signal, core } => {
                let dumped = if *core { " (core dumped)" } else { "" };
                match nix::sys::signal::Signal::try_from(*signal) {
                    Ok(name) => write!(f, "killed by {name}{dumped}"),
                    Err(_) => write!(f, "killed by signal {signal}{dumped}"),
                }
            }
            Outcome::TimedOut => f.write_str("timed out"),
            Outcome::Terminated => f.write_str("terminated"),
            Outcome::Failed { failure, message } => {
                let what = match failure {
                    Failure::Retry { .. } => "failed, may be retried",
                    Failure::Permanent => "failed",
                    Failure::Superseded => "gave up for newer state",
                    Failure::Trap => "trapped",
                };
                match message.is_empty() {
                    true => f.write_str(what),
                    false => write!(f, "{what}: {message}"),
                }
            }
            Outcome::LaunchFailed { step, errno } => {
                write!(f, "cannot {step}: {}", std::io::Error::from_raw_os_error(*errno))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn znode_paths_follow_zookeepers_rules() {
        for good in ["/", "/a", "/a/b.c", "/a/...", "/ü", "/a b"] {
            assert!(ZnodePath::new(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "a/b",
            "/a/",
            "//",
            "/a//b",
            "/a/./b",
            "/..",
            "/a\0",
            "/a\n",
            "/\u{e000}",
        ] {
            assert!(ZnodePath::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn ancestors_are_whole_names() {
        let path = |p: &str| ZnodePath::new(p).unwrap();
        assert!(path("/a/b").is_within(&path("/a")));
        assert!(path("/a").is_within(&path("/")));
        assert!(path("/a").is_within(&path("/a")));
        assert!(!path("/ab").is_within(&path("/a")));
        assert_eq!(path("/a/b").parent(), Some(path("/a")));
        assert_eq!(path("/a").parent(), Some(path("/")));
        assert_eq!(path("/").parent(), None);
    }

    #[test]
    fn run_ids_sort_by_age_as_text() {
        let (a, b) = (RunId(5 << 20), RunId(5 << 20 | 77));
        assert!(a.to_string() < b.to_string());
        assert_eq!(a.to_string().len(), 13);
    }
}
