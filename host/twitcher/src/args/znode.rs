//! The commands on single znodes.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Subcommand};
use twitcher_model::{ZnodePath, ZnodePathError};

use super::{SourceArguments, seconds};

pub(super) const HELP: &str = "\
The servers are those of --zk or TWITCHER_ZK; with --tree it is a local directory instead. `twitcher help znodes` is the page about \
all of this, exit codes for scripts included.

Examples:
  twitcher znode set --zk zk1:2181 -p /git/head \"$(git rev-parse HEAD)\"
  twitcher znode get --zk zk1:2181 /git/head
  twitcher znode watch --zk zk1:2181 /app --recursive --json";

const SET_HELP: &str = "\
Prints the new version. It is a change for everybody who watches, also if the data stays the same.

Examples:
  twitcher znode set /git/head \"$(git rev-parse HEAD)\"
  twitcher znode set -p /app/config --file config.json      # creates what is missing
  render | twitcher znode set /app/config - --if-version 7  # unless somebody has set it since";

const WATCH_HELP: &str = "\
Prints the state now, then one line a change, until it is interrupted. As for the daemon what counts is the state: of changes that \
come together only the last may be seen, and none is missed over a lost connection or session. What is wrong on the way is told on \
standard error.

Examples:
  twitcher znode watch /git/head
  twitcher znode watch /app --recursive --json | jq -r '.changed[]?'
  twitcher znode watch /deploy/done --changes 1             # waits for a change";

/// What is done with a znode.
#[derive(Debug, Subcommand)]
pub enum ZnodeCommand {
    /// Write a znode's data to standard output, as it is
    Get(ReadArguments),
    /// Set a znode's data, and print its new version
    #[command(after_help = SET_HELP, override_usage = "twitcher znode set [OPTIONS] <PATH> <DATA|-|--file FILE>")]
    Set(SetArguments),
    /// List the names of a znode's children
    Ls(ListArguments),
    /// Show what is known of a znode besides its data
    Stat(StatArguments),
    /// Create a znode
    Create(CreateArguments),
    /// Delete a znode
    Delete(DeleteArguments),
    /// Show a znode's state, and each change of it
    #[command(after_help = WATCH_HELP)]
    Watch(ChangesArguments),
}

/// What all of them have.
#[derive(Debug, Args)]
pub struct Common {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub source: SourceArguments,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// What all have that end with an answer.
#[derive(Debug, Args)]
pub struct RequestArguments {
    /// The znode
    #[arg(value_name = "PATH", value_parser = znode_path)]
    pub path: ZnodePath,
    /// How long to wait for a session, and then for an answer, in seconds
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub timeout: Duration,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

/// Arguments of `get`.
#[derive(Debug, Args)]
pub struct ReadArguments {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub request: RequestArguments,
}

/// Arguments of `stat`.
#[derive(Debug, Args)]
pub struct StatArguments {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub request: RequestArguments,
    /// Also show who may do what with it
    #[arg(long)]
    pub acl: bool,
}

/// Arguments of `ls`.
#[derive(Debug, Args)]
pub struct ListArguments {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub request: RequestArguments,
    /// List everything below, as whole paths
    #[arg(long, short)]
    pub recursive: bool,
}

/// Where a znode's new data comes from.
#[derive(Debug, Args)]
pub struct DataArguments {
    /// The data; - reads it from standard input
    #[arg(value_name = "DATA")]
    pub data: Option<String>,
    /// A file with the data
    #[arg(long, value_name = "FILE", conflicts_with = "data")]
    pub file: Option<PathBuf>,
}

/// What is created on the way.
#[derive(Debug, Args)]
pub struct NewArguments {
    /// Create what is missing above it, too
    #[arg(long, short)]
    pub parents: bool,
    /// Let everybody read what is created with credentials, which otherwise is for their owner alone
    #[arg(long)]
    pub world_readable: bool,
}

/// Arguments of `set`.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("contents").args(["data", "file"]).required(true)))]
pub struct SetArguments {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub request: RequestArguments,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub data: DataArguments,
    /// Create the znode if it does not exist, and what is missing above it
    #[arg(long, short)]
    pub parents: bool,
    /// Let everybody read what is created with credentials, which otherwise is for their owner alone
    #[arg(long)]
    pub world_readable: bool,
    /// Set it only if it has this version now
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(i32).range(0..))]
    pub if_version: Option<i32>,
}

/// Arguments of `create`.
#[derive(Debug, Args)]
pub struct CreateArguments {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub request: RequestArguments,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub data: DataArguments,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub new: NewArguments,
}

/// Arguments of `delete`.
#[derive(Debug, Args)]
pub struct DeleteArguments {
    #[command(flatten)]
    #[allow(missing_docs)]
    pub request: RequestArguments,
    /// Delete everything below it, too
    #[arg(long, short)]
    pub recursive: bool,
    /// Delete it only if it has this version now
    #[arg(long, value_name = "N", conflicts_with = "recursive", value_parser = clap::value_parser!(i32).range(0..))]
    pub if_version: Option<i32>,
}

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub struct ChangesArguments {
    /// The znode
    #[arg(value_name = "PATH", value_parser = znode_path)]
    pub path: ZnodePath,
    /// Watch the names of its children instead of its data
    #[arg(long, conflicts_with = "recursive")]
    pub children: bool,
    /// Watch it and everything below it
    #[arg(long, short)]
    pub recursive: bool,
    /// End after so many changes; the state at the start is none
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub changes: Option<u64>,
    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

fn znode_path(text: &str) -> Result<ZnodePath, ZnodePathError> {
    ZnodePath::new(text)
}
