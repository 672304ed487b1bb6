//! Single znodes read and written on request, beside what is watched: what a sandboxed component asks the daemon for.
//!
//! The rules that hold for every source are here: how many requests are under way, what a failure is called, and what its caller
//! may conclude. It must not know who asks, nor what they were granted.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use nix::errno::Errno;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::SourceConnection;
use super::tree::TreeRequests;
use super::zookeeper::{KeptSession, ZooKeeperRequests};
use twitcher_model::{Stat, ZnodePath};

/// Requests under way at once. Each may hold a megabyte; more wait.
const PLACES: usize = 64;

/// Time that a request waits for others to end.
const QUEUE: Duration = Duration::from_secs(10);

/// Why a request for a znode failed.
///
/// What a writer needs to know is which of them leave the znode as it was: all but [`ZnodeError::UnknownOutcome`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZnodeError {
    /// The znode is not there; for a creation, its parent.
    #[error("znode {0} does not exist")]
    NoNode(ZnodePath),
    /// There is something to be created that is there already.
    #[error("znode {0} exists already")]
    NodeExists(ZnodePath),
    /// It has another version than the expected one.
    #[error("znode {0} has another version than expected: it was set in the meantime")]
    BadVersion(ZnodePath),
    /// Its data, or the names of its children, are more than is passed on, or than a server takes.
    #[error("znode {znode}: data, or names of children, of more than {most} bytes are not passed on")]
    TooLarge {
        /// The znode whose data or names are too large.
        znode: ZnodePath,
        /// The most bytes that are passed on.
        most: usize,
    },
    /// The daemon itself may not do it.
    #[error("znode {znode}: {why}")]
    Denied {
        /// The znode that may not be read or changed.
        znode: ZnodePath,
        /// Who denies it.
        why: Denial,
    },
    /// There was no session with the servers for so long that the request was given up. It was not carried out.
    #[error("znode {0}: no session with ZooKeeper; the request was not carried out")]
    SessionLost(ZnodePath),
    /// A write was on its way when the connection broke or the answer stayed out. It may have been carried out, or still be.
    #[error("znode {0}: the connection broke before the answer came; the write may have been carried out or not")]
    UnknownOutcome(ZnodePath),
    /// It cannot be done, for another reason. It was not carried out.
    #[error("znode {znode}: {why}")]
    Failed {
        /// The znode that the request was for.
        znode: ZnodePath,
        /// The reason why it cannot be carried out.
        why: ZnodeRefusal,
    },
}

/// Who denies the daemon what it was asked to do with a znode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// The znode's access control list.
    #[error("its access control list does not permit this to the daemon's session")]
    Acl,
    /// The permissions of the files that stand for znodes.
    #[error("the file system does not permit it: {0}")]
    Permission(Errno),
    /// A link in the directory that stands for the tree of znodes.
    #[error("a symbolic link on the way is absolute or leads out of the root directory")]
    Outside,
}

/// Why a request for a znode cannot be carried out, though it is permitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ZnodeRefusal {
    /// The server, or the library that talks with it, says so.
    #[error("{0}")]
    ZooKeeper(zookeeper_client::Error),
    /// What is to be deleted has children.
    #[error("it has children")]
    NotEmpty,
    /// The root, or the chroot, cannot be deleted.
    #[error("the root cannot be deleted")]
    Root,
    /// A directory's data is always empty.
    #[error("it is a directory, which has no data of its own")]
    Directory,
    /// A file cannot have children.
    #[error("its parent is a file, which cannot have children")]
    BelowFile,
    /// A link is not replaced by a file.
    #[error("it is a symbolic link: only what it leads to can be set")]
    Link,
    /// A name that the directory does not show as a znode.
    #[error("a name that begins with \".\" or ends with \"~\" is no znode in a directory tree")]
    HiddenName,
    /// A system call failed.
    #[error("cannot {step}: {errno}")]
    Io {
        /// What was attempted, as in "cannot …".
        step: &'static str,
        /// The error of the system call.
        errno: Errno,
    },
}

/// All that is known of a znode besides its data. What a directory cannot tell is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZnodeStat {
    /// What actions are told as well.
    pub stat: Stat,
    /// Bytes of its data.
    pub data_length: u64,
    /// How many children it has.
    pub num_children: u64,
    /// When its data was last set; of a directory, when an entry last came or went.
    pub mtime: Option<SystemTime>,
    /// When it was created.
    pub ctime: Option<SystemTime>,
    /// Transaction that last added or removed a child.
    pub pzxid: Option<i64>,
    /// How often a child was added or removed.
    pub cversion: Option<i32>,
    /// How often its access control list was set.
    pub aversion: Option<i32>,
    /// The session that it ends with; 0 if it stays.
    pub ephemeral_owner: Option<i64>,
}

/// An entry of a znode's access control list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AclEntry {
    /// How it is found out who somebody is, such as `world` or `digest`.
    pub scheme: String,
    /// Who it is, as the scheme writes it. A server shows digests of passwords only to those who may change the list.
    pub id: String,
    /// What they may do, of `cdrwa`: create and delete children, read, write, change this list.
    pub permissions: String,
}

/// Who may read a znode that is created by somebody who has credentials.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Readers {
    /// Nobody but its creator.
    #[default]
    Creator,
    /// Everybody.
    Everybody,
}

/// What reads and writes single znodes where nothing is watched.
#[derive(Debug)]
pub struct Requests {
    /// By which znodes are read and written.
    pub znodes: Znodes,
    /// Whether there is a connection, and why not.
    pub connection: watch::Receiver<SourceConnection>,
    pub(super) closing: Option<JoinHandle<()>>,
}

impl Requests {
    /// Closes the session, if there is one, so that the servers need not wait for it to expire.
    pub async fn close(self) {
        drop(self.znodes);
        if let Some(closing) = self.closing {
            // It cannot fail but by a panic, after which nothing is left to be closed.
            let _ = closing.await;
        }
    }
}

/// Reads and writes single znodes. Cheap to clone; all clones share the [bound](Znodes::get) on what is under way.
///
/// It goes on working when the [`Source`](super::Source) it came from is dropped, so that actions can end in order while the daemon
/// stops; what it needs goes away with its last clone. A call that is dropped may still be carried out.
#[derive(Debug, Clone)]
pub struct Znodes {
    places: Arc<Semaphore>,
    backend: Backend,
}

#[derive(Debug, Clone)]
enum Backend {
    ZooKeeper(ZooKeeperRequests),
    Tree(TreeRequests),
    Ended,
}

impl Znodes {
    pub(super) fn zookeeper(requests: ZooKeeperRequests) -> Self {
        Self::by(Backend::ZooKeeper(requests))
    }

    pub(super) fn tree(files: TreeRequests) -> Self {
        Self::by(Backend::Tree(files))
    }

    /// The znodes of a source that has ended: every request fails with [`ZnodeError::SessionLost`].
    pub fn ended() -> Self {
        Self::by(Backend::Ended)
    }

    fn by(backend: Backend) -> Self {
        Self {
            places: Arc::new(Semaphore::new(PLACES)),
            backend,
        }
    }

    /// The session by which requests are made, for somebody who needs one for good; none where there are no sessions.
    pub fn keep_session(&self) -> Option<KeptSession> {
        match &self.backend {
            Backend::ZooKeeper(requests) => Some(requests.keep_session()),
            Backend::Tree(_) | Backend::Ended => None,
        }
    }

    /// A znode's data and stat, never older than what the source had reported when the call was made.
    ///
    /// This and the other calls wait while 64 requests are under way, and as long as there is no session, until their time is
    /// over (10 s each, by default).
    ///
    /// # Errors
    /// Any but [`ZnodeError::NodeExists`], [`ZnodeError::BadVersion`] and [`ZnodeError::UnknownOutcome`]. A read is made again when
    /// the connection breaks, as long as its time lasts.
    pub async fn get(&self, path: &ZnodePath) -> Result<(Bytes, Stat), ZnodeError> {
        let _place = self.place(path).await?;
        match &self.backend {
            Backend::ZooKeeper(requests) => requests.get(path).await,
            Backend::Tree(files) => files.get(path).await,
            Backend::Ended => Err(ZnodeError::SessionLost(path.clone())),
        }
    }

    /// The sorted names of a znode's children.
    ///
    /// # Errors
    /// The same as those of [`Znodes::get`].
    pub async fn children(&self, path: &ZnodePath) -> Result<Vec<String>, ZnodeError> {
        let _place = self.place(path).await?;
        match &self.backend {
            Backend::ZooKeeper(requests) => requests.children(path).await,
            Backend::Tree(files) => files.children(path).await,
            Backend::Ended => Err(ZnodeError::SessionLost(path.clone())),
        }
    }

    /// What is known of a znode besides its data. ZooKeeper tells it also who may not read the znode.
    ///
    /// # Errors
    /// The same as those of [`Znodes::get`].
    pub async fn stat(&self, path: &ZnodePath) -> Result<ZnodeStat, ZnodeError> {
        let _place = self.place(path).await?;
        match &self.backend {
            Backend::ZooKeeper(requests) => requests.stat(path).await,
            Backend::Tree(files) => files.stat(path).await,
            Backend::Ended => Err(ZnodeError::SessionLost(path.clone())),
        }
    }

    /// Who may do what with a znode; none in a directory, where the permissions of files say so.
    ///
    /// # Errors
    /// The same as those of [`Znodes::get`].
    pub async fn acl(&self, path: &ZnodePath) -> Result<Option<Vec<AclEntry>>, ZnodeError> {
        let _place = self.place(path).await?;
        match &self.backend {
            Backend::ZooKeeper(requests) => requests.acl(path).await.map(Some),
            Backend::Tree(files) => files.stat(path).await.map(|_| None),
            Backend::Ended => Err(ZnodeError::SessionLost(path.clone())),
        }
    }

    /// Sets a znode's data, if it has the expected version or none is expected, and returns its new stat. Never made twice.
    ///
    /// # Errors
    /// Any but [`ZnodeError::NodeExists`].
    pub async fn set(&self, path: &ZnodePath, data: Bytes, expect_version: Option<i32>) -> Result<Stat, ZnodeError> {
        // To ZooKeeper -1 means any version, but who expects a version wants it checked.
        if expect_version == Some(-1) {
            return Err(ZnodeError::BadVersion(path.clone()));
        }
        let _place = self.place(path).await?;
        match &self.backend {
            Backend::ZooKeeper(requests) => requests.set(path, &data, expect_version).await,
            Backend::Tree(files) => files.set(path, data, expect_version).await,
            Backend::Ended => Err(ZnodeError::SessionLost(path.clone())),
        }
    }

    /// Creates a persistent znode below one that exists, and returns its stat. Never made twice.
    ///
    /// In ZooKeeper it belongs to the daemon's credentials alone, if it has any (`auth`, SASL), else to everybody: without
    /// credentials there is nobody to keep it for. In a directory it is a file with mode 0644, as the umask permits.
    ///
    /// # Errors
    /// Any but [`ZnodeError::BadVersion`].
    pub async fn create(&self, path: &ZnodePath, data: Bytes) -> Result<Stat, ZnodeError> {
        self.create_for(path, data, Readers::Creator).await
    }

    /// The same, for these readers. In a directory the umask says who they are.
    ///
    /// # Errors
    /// Any but [`ZnodeError::BadVersion`].
    pub async fn create_for(&self, path: &ZnodePath, data: Bytes, readers: Readers) -> Result<Stat, ZnodeError> {
        if path.parent().is_none() {
            return Err(ZnodeError::NodeExists(path.clone()));
        }
        let _place = self.place(path).await?;
        match &self.backend {
            Backend::ZooKeeper(requests) => requests.create(path, &data, readers).await,
            Backend::Tree(files) => files.create(path, data).await,
            Backend::Ended => Err(ZnodeError::SessionLost(path.clone())),
        }
    }

    /// Creates an empty znode that is to have children: in a directory it is a directory, with mode 0755, as the umask permits.
    ///
    /// # Errors
    /// Any but [`ZnodeError::BadVersion`].
    pub async fn create_parent(&self, path: &ZnodePath, readers: Readers) -> Result<(), ZnodeError> {
        if path.parent().is_none() {
            return Err(ZnodeError::NodeExists(path.clone()));
        }
        let _place = self.place(path).await?;
        match &self.backend {
            Backend::ZooKeeper(requests) => requests.create(path, &[], readers).await.map(drop),
            Backend::Tree(files) => files.create_parent(path).await,
            Backend::Ended => Err(ZnodeError::SessionLost(path.clone())),
        }
    }

    /// Deletes a znode that has no children, if it has the expected version or none is expected. Never made twice.
    ///
    /// # Errors
    /// Any but [`ZnodeError::NodeExists`]; [`ZnodeRefusal::NotEmpty`] if it has children.
    pub async fn delete(&self, path: &ZnodePath, expect_version: Option<i32>) -> Result<(), ZnodeError> {
        if path.parent().is_none() {
            let why = ZnodeRefusal::Root;
            return Err(ZnodeError::Failed {
                znode: path.clone(),
                why,
            });
        }
        if expect_version == Some(-1) {
            return Err(ZnodeError::BadVersion(path.clone()));
        }
        let _place = self.place(path).await?;
        match &self.backend {
            Backend::ZooKeeper(requests) => requests.delete(path, expect_version).await,
            Backend::Tree(files) => files.delete(path, expect_version).await,
            Backend::Ended => Err(ZnodeError::SessionLost(path.clone())),
        }
    }

    async fn place(&self, path: &ZnodePath) -> Result<OwnedSemaphorePermit, ZnodeError> {
        match timeout(QUEUE, self.places.clone().acquire_owned()).await {
            Ok(Ok(place)) => Ok(place),
            // Nothing was sent. The semaphore is never closed.
            _ => Err(ZnodeError::SessionLost(path.clone())),
        }
    }
}
