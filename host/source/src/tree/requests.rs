//! Requests for single znodes, as the files that stand for them: read, replaced and made, each in one step for whoever looks.
//!
//! A version is derived from a file's contents and time. That the file still has the expected one when it is replaced is certain
//! among all who ask here, one at a time; another process may set the file between the look and the replacement. It must not know
//! what is watched.

use std::fs::{File, Metadata, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, linkat, unlinkat};
use tokio::task::spawn_blocking;
use tracing::debug;

use super::node::{MOST_NAMES, Node, NodeError, Root, fingerprint, mzxid, stat, znode_name};
use crate::{Denial, ZnodeError, ZnodeRefusal, ZnodeStat};
use twitcher_model::{Stat, ZnodePath};

/// Attempts at a temporary name that nobody has.
const ATTEMPTS: u32 = 16;

/// The permissions of a new file, before the umask.
const NEW: Mode = Mode::from_bits_truncate(0o644);

/// Those of a new directory.
const NEW_DIRECTORY: Mode = Mode::from_bits_truncate(0o755);

type Answer<T> = Result<T, ZnodeError>;

/// Requests by way of the file system, on the threads for blocking work.
#[derive(Debug, Clone)]
pub(crate) struct TreeRequests {
    root: Arc<PathBuf>,
    /// Held while a file is compared and replaced.
    writing: Arc<Mutex<()>>,
    /// Most bytes of a file.
    max_data: u64,
}

impl TreeRequests {
    /// Requests below a directory, whose path is absolute.
    pub fn new(root: PathBuf, max_data: u64) -> Self {
        Self {
            max_data,
            root: Arc::new(root),
            writing: Arc::default(),
        }
    }

    pub async fn get(&self, path: &ZnodePath) -> Answer<(Bytes, Stat)> {
        let lost = ZnodeError::SessionLost(path.clone());
        self.blocking(path, lost, |_, znode| znode.get()).await
    }

    pub async fn children(&self, path: &ZnodePath) -> Answer<Vec<String>> {
        let lost = ZnodeError::SessionLost(path.clone());
        self.blocking(path, lost, |_, znode| znode.children()).await
    }

    pub async fn set(&self, path: &ZnodePath, data: Bytes, expect_version: Option<i32>) -> Answer<Stat> {
        let unknown = ZnodeError::UnknownOutcome(path.clone());
        let set = move |writing: &Mutex<()>, znode: Znode| {
            let _one = writing.lock().unwrap_or_else(PoisonError::into_inner);
            znode.set(&data, expect_version)
        };
        self.blocking(path, unknown, set).await
    }

    pub async fn stat(&self, path: &ZnodePath) -> Answer<ZnodeStat> {
        let lost = ZnodeError::SessionLost(path.clone());
        self.blocking(path, lost, |_, znode| znode.stat()).await
    }

    pub async fn create(&self, path: &ZnodePath, data: Bytes) -> Answer<Stat> {
        let unknown = ZnodeError::UnknownOutcome(path.clone());
        self.blocking(path, unknown, move |_, znode| znode.create(&data)).await
    }

    pub async fn create_parent(&self, path: &ZnodePath) -> Answer<()> {
        let unknown = ZnodeError::UnknownOutcome(path.clone());
        self.blocking(path, unknown, |_, znode| znode.create_directory()).await
    }

    pub async fn delete(&self, path: &ZnodePath, expect_version: Option<i32>) -> Answer<()> {
        let unknown = ZnodeError::UnknownOutcome(path.clone());
        let delete = move |writing: &Mutex<()>, znode: Znode| {
            let _one = writing.lock().unwrap_or_else(PoisonError::into_inner);
            znode.delete(expect_version)
        };
        self.blocking(path, unknown, delete).await
    }

    /// Runs `work`; `broken` is what to say when the runtime ends on the way.
    async fn blocking<T: Send + 'static>(
        &self,
        path: &ZnodePath,
        broken: ZnodeError,
        work: impl FnOnce(&Mutex<()>, Znode) -> Answer<T> + Send + 'static,
    ) -> Answer<T> {
        let (files, path) = (self.clone(), path.clone());
        let work = move || {
            let root = Root::open(&files.root).map_err(|error| read_error(&path, error, files.max_data))?;
            let max_data = files.max_data;
            work(&files.writing, Znode { root, path, max_data })
        };
        spawn_blocking(work).await.unwrap_or(Err(broken))
    }
}

/// One znode, in the root as it was opened for one request.
struct Znode {
    root: Root,
    path: ZnodePath,
    max_data: u64,
}

impl Znode {
    fn get(&self) -> Answer<(Bytes, Stat)> {
        match self.existing()? {
            Node::File { .. } => self.data(),
            _ => Ok((Bytes::new(), stat(0))),
        }
    }

    fn data(&self) -> Answer<(Bytes, Stat)> {
        let read = self
            .root
            .data(self.below(), self.max_data)
            .map_err(|error| self.unread(error))?;
        let (data, fingerprint) = read.ok_or_else(|| self.absent())?;
        let stat = stat(mzxid(&data, &fingerprint));
        Ok((data, stat))
    }

    fn children(&self) -> Answer<Vec<String>> {
        self.existing()?;
        let names = self.root.names(self.below()).map_err(|error| self.unread(error))?;
        match names.iter().map(|name| name.len() + 1).sum::<usize>() > most(self.max_data) {
            true => Err(too_large(&self.path, most(self.max_data))),
            false => Ok(names),
        }
    }

    fn set(&self, data: &[u8], expect_version: Option<i32>) -> Answer<Stat> {
        self.check_size(data)?;
        let Node::File { .. } = self.existing()? else {
            return Err(self.failed(ZnodeRefusal::Directory));
        };
        self.check_version(expect_version)?;
        let place = self.place()?;
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let old = openat(&place.directory, place.name, flags, Mode::empty());
        let old = old.map_err(|errno| self.io("open it", errno))?;
        let old = File::from(old)
            .metadata()
            .map_err(|error| self.io("stat it", errno(&error)))?;
        if old.is_symlink() {
            return Err(self.failed(ZnodeRefusal::Link));
        }
        let new = Temporary::write(&place.directory, data).map_err(|(step, errno)| self.io(step, errno))?;
        new.resemble(&old).map_err(|(step, errno)| self.io(step, errno))?;
        // Of what was written, whatever is there afterwards.
        let metadata = new.metadata().map_err(|(step, errno)| self.io(step, errno))?;
        let stat = stat(mzxid(data, &fingerprint(&metadata)));
        new.rename(place.name)
            .map_err(|errno| self.io("replace the file", errno))?;
        Ok(stat)
    }

    fn create(&self, data: &[u8]) -> Answer<Stat> {
        self.check_size(data)?;
        self.check_names()?;
        let place = self.place()?;
        let new = Temporary::write(&place.directory, data).map_err(|(step, errno)| self.io(step, errno))?;
        let metadata = new.metadata().map_err(|(step, errno)| self.io(step, errno))?;
        let stat = stat(mzxid(data, &fingerprint(&metadata)));
        // Unlike a rename it fails when there is something by this name.
        new.link(place.name).map_err(|errno| match errno {
            Errno::EEXIST => ZnodeError::NodeExists(self.path.clone()),
            errno => self.io("create the file", errno),
        })?;
        Ok(stat)
    }

    fn create_directory(&self) -> Answer<()> {
        self.check_names()?;
        let place = self.place()?;
        mkdirat(&place.directory, place.name, NEW_DIRECTORY).map_err(|errno| match errno {
            Errno::EEXIST => ZnodeError::NodeExists(self.path.clone()),
            errno => self.io("create the directory", errno),
        })
    }

    /// Of a link it is the link that goes, as in any directory.
    fn delete(&self, expect_version: Option<i32>) -> Answer<()> {
        let is_directory = matches!(self.existing()?, Node::Directory);
        self.check_version(expect_version)?;
        let place = self.place()?;
        let own = self
            .root
            .is_own_directory(self.below())
            .map_err(|error| self.unread(error))?;
        let (flag, step) = match is_directory && own {
            true => (UnlinkatFlags::RemoveDir, "remove the directory"),
            false => (UnlinkatFlags::NoRemoveDir, "remove the file"),
        };
        unlinkat(&place.directory, place.name, flag).map_err(|errno| match errno {
            Errno::ENOTEMPTY => self.failed(ZnodeRefusal::NotEmpty),
            errno => self.io(step, errno),
        })
    }

    fn stat(&self) -> Answer<ZnodeStat> {
        let file = matches!(self.existing()?, Node::File { .. });
        let (data, stat) = self.get()?;
        let modified = self.root.modified(self.below()).map_err(|error| self.unread(error))?;
        Ok(ZnodeStat {
            stat,
            data_length: data.len() as u64,
            num_children: if file { 0 } else { self.children()?.len() as u64 },
            mtime: modified,
            ctime: None,
            pzxid: None,
            cversion: None,
            aversion: None,
            ephemeral_owner: None,
        })
    }

    fn check_version(&self, expected: Option<i32>) -> Answer<()> {
        match expected {
            Some(expected) if self.get()?.1.version != expected => Err(ZnodeError::BadVersion(self.path.clone())),
            _ => Ok(()),
        }
    }

    fn check_names(&self) -> Answer<()> {
        match self.names().all(|name| znode_name(name.as_ref()).is_some()) {
            true => Ok(()),
            false => Err(self.failed(ZnodeRefusal::HiddenName)),
        }
    }

    /// What is there, if it is a znode.
    fn existing(&self) -> Answer<Node> {
        if self.names().any(|name| znode_name(name.as_ref()).is_none()) {
            return Err(self.absent());
        }
        match self.root.look(self.below()).map_err(|error| self.unread(error))? {
            Node::Absent => Err(self.absent()),
            node => Ok(node),
        }
    }

    /// The directory it is in, held open, and its name there.
    fn place(&self) -> Answer<Place<'_>> {
        let (parent, name) = self.below().rsplit_once('/').unwrap_or(("", self.below()));
        let no_parent = || ZnodeError::NoNode(self.path.parent().unwrap_or_else(|| self.path.clone()));
        match self.root.look(parent).map_err(|error| self.unread(error))? {
            Node::Absent => Err(no_parent()),
            Node::File { .. } => Err(self.failed(ZnodeRefusal::BelowFile)),
            Node::Directory => {
                let directory = self.root.directory(parent).map_err(|error| self.unread(error))?;
                let directory = directory.ok_or_else(no_parent)?;
                Ok(Place { directory, name })
            }
        }
    }

    fn below(&self) -> &str {
        &self.path.as_str()[1..]
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        self.below().split('/').filter(|name| !name.is_empty())
    }

    fn check_size(&self, data: &[u8]) -> Answer<()> {
        match data.len() as u64 > self.max_data {
            true => Err(too_large(&self.path, most(self.max_data))),
            false => Ok(()),
        }
    }

    fn absent(&self) -> ZnodeError {
        ZnodeError::NoNode(self.path.clone())
    }

    fn failed(&self, why: ZnodeRefusal) -> ZnodeError {
        ZnodeError::Failed {
            znode: self.path.clone(),
            why,
        }
    }

    fn unread(&self, error: NodeError) -> ZnodeError {
        read_error(&self.path, error, self.max_data)
    }

    fn io(&self, step: &'static str, errno: Errno) -> ZnodeError {
        io_error(&self.path, step, errno)
    }
}

struct Place<'a> {
    directory: File,
    name: &'a str,
}

/// A complete file that nobody sees as a znode, for its name begins with a dot. Removed when dropped.
struct Temporary<'a> {
    directory: &'a File,
    name: String,
    file: File,
}

type Step<T> = Result<T, (&'static str, Errno)>;

impl<'a> Temporary<'a> {
    fn write(directory: &'a File, data: &[u8]) -> Step<Self> {
        let mut new = Self::create(directory).map_err(|errno| ("create a temporary file", errno))?;
        let written = new.file.write_all(data).and_then(|()| new.file.sync_data());
        match written {
            Ok(()) => Ok(new),
            Err(error) => Err(("write a temporary file", errno(&error))),
        }
    }

    fn create(directory: &'a File) -> Result<Self, Errno> {
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut attempts = 0;
        loop {
            attempts += 1;
            let name = format!(".twitcher-{:016x}", fastrand::u64(..));
            match openat(directory, name.as_str(), flags, NEW) {
                Err(Errno::EEXIST | Errno::EINTR) if attempts < ATTEMPTS => {}
                opened => {
                    let file = File::from(opened?);
                    return Ok(Self { directory, name, file });
                }
            }
        }
    }

    /// Gives it owner and permissions of the file that it is to replace. The owner first: the permissions, which may be wider than
    /// those of a new file, are meant for the old one's.
    fn resemble(&self, old: &Metadata) -> Step<()> {
        let new = self.metadata()?;
        if (new.uid(), new.gid()) != (old.uid(), old.gid()) {
            fchown(
                &self.file,
                Some(Uid::from_raw(old.uid())),
                Some(Gid::from_raw(old.gid())),
            )
            .map_err(|errno| ("give the new file the owner of the old one", errno))?;
        }
        let permissions = Permissions::from_mode(old.mode() & 0o777);
        self.file
            .set_permissions(permissions)
            .map_err(|error| ("give the new file the permissions of the old one", errno(&error)))
    }

    fn metadata(&self) -> Step<Metadata> {
        self.file
            .metadata()
            .map_err(|error| ("stat a temporary file", errno(&error)))
    }

    /// Puts it in the place of what has this name.
    fn rename(self, name: &str) -> Result<(), Errno> {
        renameat(self.directory, self.name.as_str(), self.directory, name)
    }

    /// Gives it this name, if nothing has it.
    fn link(self, name: &str) -> Result<(), Errno> {
        linkat(
            self.directory,
            self.name.as_str(),
            self.directory,
            name,
            AtFlags::empty(),
        )
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        match unlinkat(self.directory, self.name.as_str(), UnlinkatFlags::NoRemoveDir) {
            // It was renamed.
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => debug!(file = self.name, %errno, "cannot remove a temporary file"),
        }
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))
}

fn too_large(path: &ZnodePath, most: usize) -> ZnodeError {
    ZnodeError::TooLarge {
        znode: path.clone(),
        most,
    }
}

fn io_error(path: &ZnodePath, step: &'static str, errno: Errno) -> ZnodeError {
    let znode = path.clone();
    match errno {
        Errno::EACCES | Errno::EPERM | Errno::EROFS => ZnodeError::Denied {
            znode,
            why: Denial::Permission(errno),
        },
        Errno::ENOENT => ZnodeError::NoNode(znode),
        errno => ZnodeError::Failed {
            znode,
            why: ZnodeRefusal::Io { step, errno },
        },
    }
}

fn most(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

fn read_error(path: &ZnodePath, error: NodeError, max_data: u64) -> ZnodeError {
    match error {
        NodeError::Io { step, errno } => io_error(path, step, errno),
        NodeError::TooLarge { .. } => too_large(path, most(max_data)),
        NodeError::TooMany | NodeError::TooManyNodes(_) | NodeError::TooMuchData(_) => too_large(path, MOST_NAMES),
        NodeError::Outside => ZnodeError::Denied {
            znode: path.clone(),
            why: Denial::Outside,
        },
    }
}
