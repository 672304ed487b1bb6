//! Reading one znode from the directory: a file's bytes, a directory's entries.
//!
//! Nothing outside the root is ever read: every path is resolved by the kernel with `RESOLVE_BENEATH`, so a symbolic link that
//! leads out, or is absolute, fails whoever changes it when. It must not know who watches what.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::SystemTime;

use bytes::Bytes;
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use twitcher_model::Stat;

/// Most bytes of a file in a request, and by default of one that is watched: what a znode can hold by default.
pub(super) const MOST_DATA: u64 = 1024 * 1024;

/// Most bytes of a listing: about a million names.
pub(super) const MOST_NAMES: usize = 16 * 1024 * 1024;

/// A file that changes while it is read is read again so many times; a later event tells how it ended.
const ATTEMPTS: u32 = 3;

/// What tells whether a file is still what it was without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

/// What a path below the root leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Absent,
    File { fingerprint: Fingerprint },
    Directory,
}

/// Why a node could not be read. Its state is unknown then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum NodeError {
    #[error("cannot {step}: {errno}")]
    Io { step: &'static str, errno: Errno },
    #[error("the file has {length} bytes, and at most {most} are read (--max-znode-size)")]
    TooLarge { length: u64, most: u64 },
    #[error("the names in the directory have more than {MOST_NAMES} bytes together")]
    TooMany,
    #[error("a symbolic link on the way is absolute or leads out of the root directory")]
    Outside,
    #[error("the subtree has more than {0} nodes")]
    TooManyNodes(usize),
    #[error("the nodes of the subtree hold more than {} MiB together, the most that payload = JSON takes", .0 >> 20)]
    TooMuchData(usize),
}

impl NodeError {
    /// What somebody can do about it.
    pub(super) fn remedy(&self, path: &Path) -> String {
        let path = path.display();
        match self {
            NodeError::Io {
                errno: Errno::EACCES | Errno::EPERM,
                ..
            } => format!("let the daemon's user read it: `ls -ld {path}` shows who may"),
            NodeError::Io { .. } => format!("look at it: `stat {path}`, and the file system's messages in `dmesg`"),
            NodeError::TooLarge { .. } => {
                "make it smaller, or give `twitcher run` a larger --max-znode-size".to_owned()
            }
            NodeError::TooMany => "spread what is in it over several directories".to_owned(),
            NodeError::Outside => {
                format!("let the link stay below the root directory and be relative: `namei -l {path}`")
            }
            NodeError::TooMuchData(_) => {
                "watch smaller subtrees of it, or leave payload out and read what is needed by the paths on stdin"
                    .to_owned()
            }
            NodeError::TooManyNodes(_) => "watch smaller subtrees of it, or remove what is not needed".to_owned(),
        }
    }
}

fn failed(step: &'static str) -> impl Fn(std::io::Error) -> NodeError {
    move |error| NodeError::Io {
        step,
        errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)),
    }
}

/// The directory that stands for the root znode, held open so that all of one reading comes from the same.
#[derive(Debug)]
pub(super) struct Root(Option<File>);

impl Root {
    /// Opens it; an absent one is a tree without any node.
    pub(super) fn open(path: &Path) -> Result<Self, NodeError> {
        match File::open(path) {
            Ok(root) if root.metadata().map_err(failed("stat the root"))?.is_dir() => Ok(Self(Some(root))),
            Ok(_) => Ok(Self(None)),
            Err(error) if is_absence(error.raw_os_error()) => Ok(Self(None)),
            Err(error) => Err(failed("open the root")(error)),
        }
    }

    /// What is at a path below the root, given without a leading slash; "" is the root itself.
    pub(super) fn look(&self, path: &str) -> Result<Node, NodeError> {
        match self.open_at(path, OFlag::O_PATH)? {
            None => Ok(Node::Absent),
            Some(file) => node(&file),
        }
    }

    /// Whether a path is a directory itself, not a link to one.
    pub(super) fn is_own_directory(&self, path: &str) -> Result<bool, NodeError> {
        match self.open_at(path, OFlag::O_PATH | OFlag::O_NOFOLLOW)? {
            None => Ok(false),
            Some(file) => Ok(node(&file)? == Node::Directory),
        }
    }

    /// The bytes of a file, of which there may be `most`, and what they were read from; none if it is no file.
    pub(super) fn data(&self, path: &str, most: u64) -> Result<Option<(Bytes, Fingerprint)>, NodeError> {
        let mut attempts = 0;
        loop {
            // Looked at first: opening a FIFO or a device can do more than open it.
            let Node::File { .. } = self.look(path)? else {
                return Ok(None);
            };
            let Some(mut file) = self.open_at(path, OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY)? else {
                return Ok(None);
            };
            let Node::File { fingerprint } = node(&file)? else {
                return Ok(None);
            };
            let too_large = |length| NodeError::TooLarge { length, most };
            if fingerprint.size > most {
                return Err(too_large(fingerprint.size));
            }
            let mut data = Vec::with_capacity(fingerprint.size as usize + 1);
            file.by_ref()
                .take(most.saturating_add(1))
                .read_to_end(&mut data)
                .map_err(failed("read the file"))?;
            if data.len() as u64 > most {
                return Err(too_large(data.len() as u64));
            }
            attempts += 1;
            if node(&file)? == (Node::File { fingerprint }) || attempts == ATTEMPTS {
                return Ok(Some((data.into(), fingerprint)));
            }
        }
    }

    /// When what a path leads to was last modified; none if it leads nowhere.
    pub(super) fn modified(&self, path: &str) -> Result<Option<SystemTime>, NodeError> {
        let Some(file) = self.open_at(path, OFlag::O_PATH)? else {
            return Ok(None);
        };
        let modified = file.metadata().and_then(|metadata| metadata.modified());
        modified.map(Some).map_err(failed("stat it"))
    }

    /// The names in a directory that are names of znodes, sorted; none for what is no directory.
    pub(super) fn names(&self, path: &str) -> Result<Vec<String>, NodeError> {
        let Some(directory) = self.directory(path)? else {
            return Ok(Vec::new());
        };
        let step = "list the directory";
        let unread = |errno| NodeError::Io { step, errno };
        let directory = Dir::from_fd(directory.into()).map_err(unread)?;
        let mut names = Vec::new();
        let mut size = 0;
        for entry in directory {
            let entry = entry.map_err(unread)?;
            let special = matches!(
                entry.file_type(),
                Some(Type::Fifo | Type::Socket | Type::CharacterDevice | Type::BlockDevice)
            );
            if let Some(name) = znode_name(OsStr::from_bytes(entry.file_name().to_bytes())).filter(|_| !special) {
                size += name.len() + 1;
                if size > MOST_NAMES {
                    return Err(NodeError::TooMany);
                }
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        Ok(names)
    }

    /// A directory, to work in; none if there is none by this path.
    pub(super) fn directory(&self, path: &str) -> Result<Option<File>, NodeError> {
        self.open_at(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY)
    }

    fn open_at(&self, path: &str, flags: OFlag) -> Result<Option<File>, NodeError> {
        let Some(root) = &self.0 else {
            return Ok(None);
        };
        match open_beneath(root.as_fd(), path, flags) {
            Ok(file) => Ok(Some(file)),
            Err(errno) if is_absence(Some(errno as i32)) => Ok(None),
            Err(Errno::EXDEV | Errno::ELOOP) => Err(NodeError::Outside),
            Err(errno) => Err(NodeError::Io { step: "open it", errno }),
        }
    }
}

fn open_beneath(root: BorrowedFd<'_>, path: &str, flags: OFlag) -> Result<File, Errno> {
    let path = if path.is_empty() { "." } else { path };
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let mut attempts = 0;
    loop {
        attempts += 1;
        match openat2(root, path, how) {
            // EAGAIN: something was renamed while the kernel made sure that the path stays below the root.
            Err(Errno::EAGAIN | Errno::EINTR) if attempts < 100 => {}
            other => return other.map(File::from),
        }
    }
}

fn is_absence(errno: Option<i32>) -> bool {
    // A name too long for the file system cannot be there either.
    matches!(errno, Some(libc::ENOENT | libc::ENOTDIR | libc::ENAMETOOLONG))
}

fn node(file: &File) -> Result<Node, NodeError> {
    let metadata = file.metadata().map_err(failed("stat it"))?;
    let kind = metadata.file_type();
    if kind.is_dir() {
        return Ok(Node::Directory);
    }
    if kind.is_fifo() || kind.is_socket() || kind.is_block_device() || kind.is_char_device() || kind.is_symlink() {
        return Ok(Node::Absent);
    }
    Ok(Node::File {
        fingerprint: fingerprint(&metadata),
    })
}

pub(super) fn fingerprint(metadata: &Metadata) -> Fingerprint {
    Fingerprint {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.size(),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        changed: (metadata.ctime(), metadata.ctime_nsec()),
    }
}

/// The name of a directory entry as a znode's; none for names that are no znodes: hidden ones, editors' backups (`name~`), those
/// that are not UTF-8 or have characters that ZooKeeper refuses.
pub(super) fn znode_name(name: &OsStr) -> Option<&str> {
    let name = name.to_str()?;
    let hidden = name.starts_with('.') || name.ends_with('~');
    let valid = !hidden && twitcher_model::ZnodePath::new(format!("/{name}")).is_ok();
    valid.then_some(name)
}

/// A number for what a file holds: stays when nothing changed, also over restarts, and changes with the contents even if a
/// tool sets back the time. Setting the same contents again is a change, as it is in ZooKeeper.
pub(super) fn mzxid(data: &[u8], fingerprint: &Fingerprint) -> i64 {
    let (seconds, nanoseconds) = fingerprint.modified;
    let mut hash = StableHash::default();
    hash.add(&seconds.to_le_bytes());
    hash.add(&nanoseconds.to_le_bytes());
    hash.add(data);
    hash.positive()
}

/// The stat of a node with such data. The version is not a count: it tells states apart for whoever sets a file only if it is still
/// what it was.
pub(super) fn stat(mzxid: i64) -> Stat {
    Stat {
        czxid: 0,
        mzxid,
        version: (mzxid & i64::from(i32::MAX)) as i32,
    }
}

/// FNV-1a: chosen because it is the same for ever, unlike the hashers of the standard library.
#[derive(Debug)]
pub(super) struct StableHash(u64);

impl Default for StableHash {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl StableHash {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    pub(super) fn value(&self) -> u64 {
        self.0
    }

    /// As a transaction number, which are positive. Never 0, which stands for a directory's data.
    pub(super) fn positive(&self) -> i64 {
        (self.0 >> 1).max(1) as i64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn read(root: &Path, path: &str) -> Result<Option<String>, NodeError> {
        let data = Root::open(root)?.data(path, MOST_DATA)?;
        Ok(data.map(|(bytes, _)| String::from_utf8(bytes.to_vec()).unwrap()))
    }

    #[test]
    fn reads_files_and_lists_directories() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        fs::write(dir.path().join("a/f"), "text").unwrap();
        for skipped in [".hidden", "backup~", "bad\u{1}name"] {
            fs::write(dir.path().join("a").join(skipped), "").unwrap();
        }
        fs::write(dir.path().join("a").join(OsStr::from_bytes(b"\xff")), "").unwrap();
        nix::unistd::mkfifo(&dir.path().join("a/fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let root = Root::open(dir.path()).unwrap();
        assert_eq!(root.names("a").unwrap(), ["b", "f"]);
        assert_eq!(root.names("").unwrap(), ["a"]);
        assert_eq!(root.names("a/f").unwrap(), [""; 0]);
        assert_eq!(read(dir.path(), "a/f"), Ok(Some("text".to_owned())));
        assert_eq!(root.look("a").unwrap(), Node::Directory);
        for absent in ["x", "a/f/x", "a/fifo", &"long".repeat(100)] {
            assert_eq!(root.look(absent).unwrap(), Node::Absent, "{absent}");
            assert_eq!(read(dir.path(), absent), Ok(None), "{absent}");
        }
    }

    #[test]
    fn an_absent_root_has_no_nodes() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::open(&dir.path().join("none")).unwrap();
        assert_eq!(root.look("").unwrap(), Node::Absent);
        assert_eq!(root.data("a", MOST_DATA).unwrap(), None);
    }

    #[test]
    fn links_are_followed_inside_the_root_only() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().join("root");
        fs::create_dir(&root).unwrap();
        fs::write(dir.path().join("secret"), "s").unwrap();
        fs::write(root.join("f"), "text").unwrap();
        symlink("f", root.join("inside")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        symlink("../secret", root.join("out")).unwrap();
        symlink(root.join("f"), root.join("absolute")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("..", root.join("up")).unwrap();
        assert_eq!(read(&root, "inside"), Ok(Some("text".to_owned())));
        assert_eq!(read(&root, "dangling"), Ok(None));
        for outside in ["out", "absolute", "loop", "up/secret"] {
            assert_eq!(read(&root, outside), Err(NodeError::Outside), "{outside}");
        }
    }

    #[test]
    fn a_file_larger_than_a_znode_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let data = vec![b'x'; MOST_DATA as usize + 1];
        fs::write(dir.path().join("f"), &data[1..]).unwrap();
        assert_eq!(
            read(dir.path(), "f").unwrap().map(|data| data.len()),
            Some(data.len() - 1)
        );
        fs::write(dir.path().join("f"), &data).unwrap();
        let (length, most) = (data.len() as u64, MOST_DATA);
        assert_eq!(read(dir.path(), "f"), Err(NodeError::TooLarge { length, most }));
    }

    #[test]
    fn versions_tell_contents_apart_even_at_the_same_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let version = |text: &str, seconds: u64| {
            fs::write(&path, text).unwrap();
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            File::options()
                .write(true)
                .open(&path)
                .unwrap()
                .set_modified(time)
                .unwrap();
            let (data, fingerprint) = Root::open(dir.path()).unwrap().data("f", MOST_DATA).unwrap().unwrap();
            mzxid(&data, &fingerprint)
        };
        let first = version("a", 1);
        assert_eq!(version("a", 1), first);
        assert_ne!(version("b", 1), first);
        assert_ne!(version("a", 2), first);
    }
}
