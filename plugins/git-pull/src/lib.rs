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
//! )
//! ```
//!
//! | config | meaning | default |
//! | --- | --- | --- |
//! | `repository` | the clone to pull in: an absolute path of the machine | required |
//!
//! `commands` must map `git`; the `"*"` lets the plugin add its arguments. The plugin itself sees no file of the repository. What is
//! pulled is what the clone's branch follows.
//!
//! Only fast-forwards are pulled, so work that was done in the clone is never merged or lost. When the znode's data is the id of the
//! commit that the clone has checked out already, nothing is fetched. A remote that cannot be reached is tried again, as
//! `on_failure` says; a clone that has diverged is not.
//!
//! # One at a time
//!
//! A watch does not overlap itself (in any run mode but PARALLEL), but two watches may name the same clone. Against the other one
//! the plugin holds a lock: the ref `refs/twitcher/lock`, which git creates for one only; it refers to the name of the watch that
//! holds it. The other one fails and is retried. A lock that a watch finds held by itself was left behind when a run of its own was
//! killed, and is taken over. One left behind by a watch that has since been removed must be deleted by hand; the log says how.

use twitcher_sdk::commands::{Command, Error, ErrorKind};
use twitcher_sdk::{Change, Failure, ResultExt, action, cancel, config, log};

/// What a watch holds while it pulls.
const LOCK: &str = "refs/twitcher/lock";

action!(on_change, check = validate);

fn on_change(change: Change) -> Result<(), Failure> {
    let clone = Repository {
        path: config::require("repository")?,
    };
    let head = clone.head()?;
    if change.data().trim_ascii() == head.as_bytes() {
        log::info!("already there", repository = clone.path, commit = head);
        return Ok(());
    }
    clone.lock(change.watch_name())?;
    let pulled = clone.pull();
    clone.unlock();
    pulled
}

fn validate() -> Result<(), Vec<String>> {
    match config::require("repository") {
        Ok(path) if path.starts_with('/') => Ok(()),
        Ok(path) => Err(vec![format!("config \"repository\": {path:?} is not an absolute path")]),
        Err(missing) => Err(vec![missing.to_string()]),
    }
}

/// A clone, as far as `git` may tell of it.
struct Repository {
    path: String,
}

impl Repository {
    fn git(&self, args: &[&str]) -> Command {
        Command::new("git").args(["-C", &self.path]).args(args.iter().copied())
    }

    fn head(&self) -> Result<String, Error> {
        Ok(self.git(&["rev-parse", "--verify", "HEAD"]).run()?.text().into_owned())
    }

    fn lock(&self, watch: &str) -> Result<(), Failure> {
        let owner = self.git(&["hash-object", "-w", "--stdin"]).stdin(watch).run()?;
        // The empty old value: only if there is no such ref.
        let Err(error) = self.git(&["update-ref", LOCK, &owner.text(), ""]).run() else {
            return Ok(());
        };
        if !matches!(error.kind(), ErrorKind::Unsuccessful(_)) {
            return Err(error.into());
        }
        let holder = self.git(&["cat-file", "blob", LOCK]).output()?;
        if !holder.success() {
            // Not held, or not any more: what went wrong, git has said.
            return Err(error).or_retry();
        }
        if holder.stdout == watch.as_bytes() {
            log::warn!("taking over the lock of a run that was killed", repository = self.path);
            return Ok(());
        }
        let (path, holder) = (&self.path, holder.text());
        Err(Failure::retry(format!(
            "watch {holder:?} is pulling {path}; if there is no such watch any more: git -C {path} update-ref -d {LOCK}"
        )))
    }

    fn unlock(&self) {
        if let Err(error) = self.git(&["update-ref", "-d", LOCK]).run() {
            log::warn!("the lock stays: {error}", repository = self.path);
        }
    }

    fn pull(&self) -> Result<(), Failure> {
        let old = self.head()?;
        self.git(&["fetch", "--quiet"]).run().or_retry()?;
        cancel::check()?;
        self.git(&["merge", "--quiet", "--ff-only", "@{upstream}"]).run()?;
        let new = self.head()?;
        if old == new {
            log::info!("nothing new", repository = self.path, commit = new);
            return Ok(());
        }
        // "3 files changed, 10 insertions(+)"; nothing, where no file differs.
        let summary = self.git(&["diff", "--shortstat", &old, &new]).run()?;
        let files = summary
            .text()
            .split(' ')
            .next()
            .and_then(|count| count.parse().ok())
            .unwrap_or(0_u64);
        log::info!(
            "pulled",
            repository = self.path,
            old = old,
            new = new,
            files_changed = files
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests;
