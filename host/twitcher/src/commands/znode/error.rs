//! What can go wrong with a znode, in words that say what to do, and as exit codes for scripts.

use std::fmt;
use std::io;
use std::path::PathBuf;

use twitcher_model::ZnodePath;
use twitcher_source::{ZnodeError, ZnodeRefusal};

use crate::args::exit;

/// Why a command was not carried out.
#[derive(Debug, thiserror::Error)]
pub(super) enum ZnodeCommandError {
    /// The servers, or the files with credentials, as they are given.
    #[error("{0:#}")]
    Arguments(anyhow::Error),
    /// There is no such directory.
    #[error("--tree {}: there is no such directory", .0.display())]
    NoTree(PathBuf),
    /// No session in time.
    #[error("znode {znode}: no session with ZooKeeper at {servers} within {seconds} s{}; nothing was changed", Problem(.problem))]
    NoSession {
        znode: ZnodePath,
        servers: String,
        seconds: f64,
        problem: Option<String>,
    },
    /// It may be reached, but not like this.
    #[error("znode {znode}: its access control list does not permit this to {}", Whom(*.credentials))]
    Denied { znode: ZnodePath, credentials: bool },
    /// The root is not there.
    #[error("{0} does not exist")]
    NoRoot(String),
    /// The version is another one.
    #[error("znode {znode} has version {found}, not {expected}: it was set in the meantime")]
    Version {
        znode: ZnodePath,
        expected: i32,
        found: i32,
    },
    /// It fails for another reason.
    #[error("{0}")]
    Znode(ZnodeError),
    /// The znode to be created was deleted, or the one to be deleted got children, again and again.
    #[error("znode {0}: others change it faster than this can be done")]
    Contended(ZnodePath),
    /// The root, or what ZooKeeper keeps for itself, is not deleted with all that is below.
    #[error("znode {0}: it is not deleted with everything below it")]
    Protected(ZnodePath),
    /// More than can be listed.
    #[error("znode {znode}: more than {most} znodes are below it, which is not listed at once")]
    TooMany { znode: ZnodePath, most: usize },
    /// The new data cannot be read.
    #[error("cannot read {from}: {error}")]
    Input { from: String, error: io::Error },
    /// The new data is more than a znode holds.
    #[error("{from} has more than {most} bytes, the most that --max-znode-size lets a znode hold")]
    InputTooLarge { from: String, most: u64 },
    /// What is watched has ended, which only a defect brings about.
    #[error("watching has ended unexpectedly")]
    Ended,
    /// The log cannot be started.
    #[error("{0}")]
    Log(twitcher_observe::LogError),
    /// A runtime cannot be made.
    #[error("cannot wait for input and output: {0}")]
    Runtime(io::Error),
    /// Standard output does not take what it is given.
    #[error("cannot write to standard output: {0}")]
    Output(io::Error),
}

struct Problem<'a>(&'a Option<String>);

impl fmt::Display for Problem<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|problem| write!(f, " ({problem})"))
    }
}

struct Whom(bool);

impl fmt::Display for Whom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            true => "the credentials that were given",
            false => "a client without credentials",
        })
    }
}

impl ZnodeCommandError {
    /// What may help.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Denied { credentials: false, .. } => {
                "--zk-digest-file or --zk-sasl-file name a file with USER:PASSWORD"
            }
            Self::NoRoot(_) => "create it first, with --zk without the path after the servers, and -p",
            Self::Znode(ZnodeError::NoNode(_)) => "`set -p` and `create -p` create what is missing",
            Self::Znode(ZnodeError::TooLarge { .. }) | Self::InputTooLarge { .. } => {
                "--max-znode-size raises the bound, where the servers hold larger ones (jute.maxbuffer)"
            }
            Self::Znode(ZnodeError::UnknownOutcome(_)) => "`twitcher znode get` and `stat` show which",
            Self::Znode(ZnodeError::Failed {
                why: ZnodeRefusal::NotEmpty,
                ..
            }) => "`delete --recursive` deletes everything below it, too",
            Self::Znode(ZnodeError::Failed {
                why: ZnodeRefusal::BelowFile,
                ..
            }) => "in a directory a znode has data or children, not both; ZooKeeper's may have both",
            _ => return None,
        })
    }

    pub fn exit_code(&self) -> u8 {
        match self {
            Self::NoSession { .. } => exit::UNREACHABLE,
            Self::Denied { .. } | Self::Znode(ZnodeError::Denied { .. }) => exit::DENIED,
            Self::NoRoot(_) | Self::Znode(ZnodeError::NoNode(_)) => exit::NO_NODE,
            Self::Version { .. } | Self::Znode(ZnodeError::NodeExists(_) | ZnodeError::BadVersion(_)) => exit::CONFLICT,
            Self::Znode(ZnodeError::UnknownOutcome(_)) => exit::UNKNOWN_OUTCOME,
            Self::Arguments(_) => exit::USAGE,
            _ => exit::FAILURE,
        }
    }
}
