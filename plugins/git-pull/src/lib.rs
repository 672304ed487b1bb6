//! Pulls a git repository when a znode changes: what Twitcher was first made for. One `git push` pokes `/git/head`, and within
//! seconds a hundred machines have the new commit.
//!
//! ```python
//! RegisterWatch(
//!     znode = "/git/head",
//!     action = Wasm("/usr/lib/twitcher/git_pull.wasm",
//!                   config = {"repository": "/srv/repo"},
//!                   commands = {"git": ["/usr/bin/git", "*"]}),
//!     uid = "deploy",
//!     timeout = 60,
//!     on_failure = Retry(times = 5, initial = 1, max_delay = 60),
//! )
//! ```
//!
//! | config | meaning | default |
//! | --- | --- | --- |
//! | `repository` | the clone to pull in: an absolute path of the machine | required |
//! | `remote` | where to pull from | `origin` |
//! | `branch` | what to pull | what the clone's branch follows |
//!
//! `commands` must map `git`; the `"*"` lets the plugin add its arguments. The plugin itself sees no file of the repository.
//!
//! Only fast-forwards are pulled, so work that was done in the clone is never merged or lost. When the znode's data is a commit id,
//! and the clone already has it checked out, nothing is fetched. Whatever can pass (the remote cannot be reached, the lock is held)
//! is retried as `on_failure` says; a clone that has diverged, or is none, is not.
//!
//! Two watches that pull the same clone would spoil each other's work. One watch never overlaps itself (in any run mode but
//! PARALLEL); against all others the plugin holds a lock, the ref `refs/twitcher/pull`, which git creates for one of them only. It
//! names, through the objects that it refers to, nothing: it exists or not. A lock that was left behind by a machine that went down
//! is told in the log, with the command that removes it.

use twitcher_sdk::commands::{Command, Error, ErrorKind, Output};
use twitcher_sdk::{Change, Failure, ResultExt, action, cancel, config, log};

action!(on_change, check = validate);
