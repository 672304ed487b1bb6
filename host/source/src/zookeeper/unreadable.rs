//! Znodes that cannot be read for reasons of their own: since when, each said once to the log, and in words that say what to do.
//!
//! It must not know how they are read, nor when they are tried again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tracing::{error, info, warn};

use super::listing::{MAX_PATHS, MAX_ZNODES};
use super::options::ZooKeeperOptions;
use super::reads::{Excess, MAX_CHILDREN, ReadFailure};
use twitcher_model::{PAYLOAD_MAX, Unreadable, WatchType};

type Key = (Arc<str>, WatchType);

/// The znodes of a source that could not be read when that was last tried, and why.
#[derive(Debug, Default)]
pub(super) struct UnreadableZnodes {
    known: Mutex<HashMap<Key, Noted>>,
}

#[derive(Debug)]
struct Noted {
    failure: ReadFailure,
    since: SystemTime,
}

impl UnreadableZnodes {
    fn known(&self) -> MutexGuard<'_, HashMap<Key, Noted>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes a failure. Since when the znode cannot be read, and whether the failure is another than the one that was noted last.
    pub fn note(&self, znode: &Arc<str>, kind: WatchType, failure: &ReadFailure) -> (SystemTime, bool) {
        let mut known = self.known();
        match known.get_mut(&(znode.clone(), kind)) {
            Some(noted) => {
                let news = noted.failure != *failure;
                noted.failure = failure.clone();
                (noted.since, news)
            }
            None => {
                let since = SystemTime::now();
                let failure = failure.clone();
                known.insert((znode.clone(), kind), Noted { failure, since });
                (since, true)
            }
        }
    }

    /// Forgets that a znode could not be read, and logs that it was.
    pub fn note_readable(&self, znode: &Arc<str>, kind: WatchType) {
        let mut known = self.known();
        if !known.is_empty() && known.remove(&(znode.clone(), kind)).is_some() {
            info!(znode = &**znode, "the znode can be read again");
        }
    }

    /// Forgets a znode that nobody watches any more.
    pub fn forget(&self, znode: &Arc<str>, kind: WatchType) {
        self.known().remove(&(znode.clone(), kind));
    }

    /// Whether the last attempt to read the znode failed.
    pub fn has(&self, znode: &Arc<str>, kind: WatchType) -> bool {
        let known = self.known();
        !known.is_empty() && known.contains_key(&(znode.clone(), kind))
    }

    /// How the last attempt to read the znode failed, if it did.
    pub fn failure(&self, znode: &Arc<str>, kind: WatchType) -> Option<ReadFailure> {
        let known = self.known();
        known.get(&(znode.clone(), kind)).map(|noted| noted.failure.clone())
    }

    /// Every znode whose last reading failed.
    pub fn all(&self) -> Vec<Key> {
        self.known().keys().cloned().collect()
    }
}

/// What is said of a znode that cannot be read, to operators and to the log.
#[derive(Debug)]
pub(super) struct Words {
    why: String,
    remedy: String,
    /// Somebody made it so, and it may be meant.
    denied: bool,
}

impl Words {
    /// The words for a failure of a znode that had so many bytes, if that is known.
    pub fn new(options: &ZooKeeperOptions, znode: &str, failure: &ReadFailure, bytes: Option<usize>) -> Self {
        let full = full_path(options, znode);
        let (why, remedy) = match failure {
            ReadFailure::Denied => ("no permission to read it (NoAuth)".to_owned(), permit(options, &full)),
            ReadFailure::TooLarge(Excess::Data(length)) => (
                format!(
                    "it has {length} bytes, and at most {} are read (--max-znode-size)",
                    options.max_data
                ),
                "make it smaller, or give `twitcher run` a larger --max-znode-size, which the jute.maxbuffer of the servers \
                 need not be larger than"
                    .to_owned(),
            ),
            ReadFailure::TooLarge(Excess::DataOf(path, length)) => (
                format!(
                    "{path} has {length} bytes, and at most {} are read (--max-znode-size)",
                    options.max_data
                ),
                "make it smaller, or give `twitcher run` a larger --max-znode-size".to_owned(),
            ),
            ReadFailure::TooLarge(Excess::TreeData) => (
                format!(
                    "the znodes of the subtree hold more than {} MiB together, the most that payload = JSON takes",
                    PAYLOAD_MAX >> 20
                ),
                "watch smaller subtrees of it, or leave payload out and read what is needed by the paths on stdin"
                    .to_owned(),
            ),
            ReadFailure::TooLarge(Excess::Children(count)) => (
                format!("it has {count} children, and the names of at most {MAX_CHILDREN} are read"),
                "spread them over several znodes, or remove those that are not needed any more".to_owned(),
            ),
            ReadFailure::TooLarge(Excess::ChildrenOf(path, count)) => (
                format!("{path} has {count} children, and the names of at most {MAX_CHILDREN} are read"),
                "spread them over several znodes, or remove those that are not needed any more".to_owned(),
            ),
            ReadFailure::TooLarge(Excess::TreePaths) => (
                format!(
                    "the paths of the subtree have more than {} MiB together, the most that are watched",
                    MAX_PATHS >> 20
                ),
                "watch smaller subtrees of it, or give its znodes shorter names".to_owned(),
            ),
            ReadFailure::TooLarge(Excess::Tree) => (
                format!("the subtree has more than {MAX_ZNODES} znodes, the most that are watched"),
                "watch smaller subtrees of it, or remove what is not needed any more".to_owned(),
            ),
            ReadFailure::Connection(error) => (
                match bytes {
                    Some(bytes) => format!("reading its {bytes} bytes loses the connection each time: {error}"),
                    None => format!("reading it loses the connection each time: {error}"),
                },
                "make it smaller, or look for what ends long answers: a proxy, a slow line (--zk-session-timeout), the server's log"
                    .to_owned(),
            ),
            failure => (
                failure.to_string(),
                format!("see whether a client can: `zkCli.sh get {full}`"),
            ),
        };
        Self {
            why,
            remedy,
            denied: *failure == ReadFailure::Denied,
        }
    }

    /// The words for znodes of a subtree that we have no permission to look below.
    pub fn hidden(options: &ZooKeeperOptions, hidden: &[Arc<str>]) -> Self {
        let first = hidden.first().map(|path| full_path(options, path)).unwrap_or_default();
        let more = match hidden.len() {
            0 | 1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        Self {
            why: format!("no permission to read {first}{more} (NoAuth): what is below is not seen"),
            remedy: permit(options, &first),
            denied: true,
        }
    }

    /// The same as a report.
    pub fn unreadable(self, parts: Option<usize>, since: SystemTime, next_attempt: SystemTime) -> Unreadable {
        Unreadable {
            why: self.why,
            remedy: self.remedy,
            parts,
            since,
            next_attempt,
        }
    }

    /// Logs them, for the first of so many watches of the znode.
    pub fn log(&self, watch: Option<&str>, watches: usize, znode: &str) {
        let Self { why, remedy, denied } = self;
        let others = watches.saturating_sub(1);
        match denied {
            true => warn!(watch, others, znode, "cannot read the znode: {why}; {remedy}"),
            false => error!(watch, others, znode, "cannot read the znode: {why}; {remedy}"),
        }
    }
}

/// The path as clients without our chroot know it.
fn full_path(options: &ZooKeeperOptions, znode: &str) -> String {
    match options.servers.chroot() {
        Some(chroot) if znode == "/" => chroot.to_string(),
        Some(chroot) => format!("{chroot}{znode}"),
        None => znode.to_owned(),
    }
}

/// How somebody gives us permission to read a znode.
fn permit(options: &ZooKeeperOptions, full: &str) -> String {
    let digest = options.auth.iter().map(|auth| auth.user().unwrap_or(&auth.scheme));
    let names: Vec<&str> = digest.chain(options.sasl.as_ref().map(|sasl| &*sasl.user)).collect();
    let who = match names.is_empty() {
        true => "this daemon, which has no credentials (--zk-digest-file, --zk-sasl-file)".to_owned(),
        false => format!("this daemon's user, {}", names.join(" or ")),
    };
    format!("`zkCli.sh getAcl {full}`, by who may read or administer it, shows who may: let {who} read it (r)")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(servers: &str) -> ZooKeeperOptions {
        ZooKeeperOptions::new(servers.parse().unwrap())
    }

    #[test]
    fn what_is_said_has_the_limit_and_the_remedy_and_no_secret() {
        let mut options = options("zk1/fleet");
        let words = |options: &ZooKeeperOptions, failure| {
            let Words { why, remedy, .. } = Words::new(options, "/a", &failure, Some(7));
            format!("{why}; {remedy}")
        };
        let none = words(&options, ReadFailure::Denied);
        assert!(
            none.contains("getAcl /fleet/a`") && none.contains("--zk-digest-file"),
            "{none}"
        );
        options.auth.push("digest:app:secret".parse().unwrap());
        let some = words(&options, ReadFailure::Denied);
        assert!(some.contains("user, app read it") && !some.contains("secret"), "{some}");
        options.max_data = 4096;
        let large = words(&options, ReadFailure::TooLarge(Excess::Data(5000)));
        for part in ["5000 bytes", "at most 4096", "--max-znode-size", "jute.maxbuffer"] {
            assert!(large.contains(part), "{part}: {large}");
        }
        let hidden = Words::hidden(&options, &["/a/b".into(), "/a/c".into()]);
        assert!(hidden.why.contains("/fleet/a/b and 1 more"), "{hidden:?}");
        assert_eq!(full_path(&options, "/"), "/fleet");
    }

    #[test]
    fn another_failure_is_news_and_since_when_stays() {
        let (unreadable, znode) = (UnreadableZnodes::default(), Arc::from("/a"));
        let (since, news) = unreadable.note(&znode, WatchType::Data, &ReadFailure::Denied);
        assert!(news);
        let large = ReadFailure::TooLarge(Excess::Data(1));
        assert_eq!(
            unreadable.note(&znode, WatchType::Data, &ReadFailure::Denied),
            (since, false)
        );
        assert_eq!(unreadable.note(&znode, WatchType::Data, &large), (since, true));
        assert_eq!(unreadable.failure(&znode, WatchType::Data), Some(large));
        unreadable.note_readable(&znode, WatchType::Data);
        assert!(!unreadable.has(&znode, WatchType::Data));
    }
}
