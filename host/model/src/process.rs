//! How an action's process is set up.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{Hardening, Secret};

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

/// What a whole run may use, all its processes together. Unlike a [`Limit`], each needs a cgroup controller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RunLimits {
    /// Memory, in bytes. A run that needs more is killed, the whole of it.
    pub memory: Option<u64>,
    /// Processes and threads.
    pub tasks: Option<u64>,
    /// Processor time, in hundredths of one processor.
    pub cpu_percent: Option<u64>,
    /// Whether those that cannot be had are left out. Otherwise the configuration is refused.
    pub optional: bool,
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
    /// More of it, whose values are read when a run starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<Secret>,
    /// Whether the daemon's environment is passed on. Default false.
    pub inherit_env: bool,
    /// Resource limits of each process.
    pub limits: Vec<Limit>,
    /// Limits of the run as a whole.
    pub run_limits: RunLimits,
    /// What a command is kept from besides.
    pub hardening: Hardening,
    /// Whether the update's data is on stdin; else `/dev/null`. Default true.
    pub pipe_stdin: bool,
    /// A file that has the update's data before the run starts and before it gets a signal for a newer one. Default none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_file: Option<Arc<Path>>,
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
            secrets: Vec::new(),
            inherit_env: false,
            limits: Vec::new(),
            run_limits: RunLimits::default(),
            hardening: Hardening::default(),
            pipe_stdin: true,
            data_file: None,
            timeout: None,
            kill_after: Duration::from_secs(5),
        }
    }
}
