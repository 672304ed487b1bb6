//! Paths that lead through directories of other users, opened so that no link of theirs is followed.
//!
//! Whoever owns a directory decides what is found in it: a link there, and root opens with its own rights what that user has no right to.
//! So a path is walked name by name, each looked up in the directory that is open by then, and a link is followed only if nobody but root
//! and one other user can have put it there: it belongs to one of them, and so does the directory that holds it, where others cannot
//! replace it. This is `RESOLVE_NO_SYMLINKS` of openat2(2) with leave for the links of a sane system, such as /var/run.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, open, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat};
use nix::sys::statfs::{PROC_SUPER_MAGIC, fstatfs};
use nix::unistd::Uid;

use crate::regular::Links;

/// Most links on the way, as in the kernel.
const MOST_LINKS: usize = 40;
/// To look something up in it, whatever it is.
const LOOK: OFlag = OFlag::O_PATH.union(OFlag::O_CLOEXEC);

/// Why a path was not opened.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// A link is on the way that leads wherever somebody else wants.
    #[error("{} is a link that {} can replace: name what it leads to, or let the link and its directory belong to root", link.display(), who(*by))]
    Link {
        /// The link.
        link: PathBuf,
        /// Who put it there or can replace it; none if a group or all can.
        by: Option<u32>,
    },
    /// What is at the end of it was put there by somebody else, or can have been.
    #[error(
        "{} is {what}, and {} can put what they like into {}: remove it, so that it is made anew, or name a path in a directory of root's",
        file.display(), who(*by), dir.display()
    )]
    Planted {
        /// What was found.
        file: PathBuf,
        /// What it is and whose.
        what: String,
        /// The first directory on the way that others hold.
        dir: PathBuf,
        /// Who holds it; none if a group or all do.
        by: Option<u32>,
    },
    /// A FIFO or a device with nothing behind it.
    #[error("it is {0}, and nothing reads from there: start what reads first")]
    NoReader(&'static str),
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl From<Errno> for PathError {
    fn from(errno: Errno) -> Self {
        Self::Io(errno.into())
    }
}

impl From<PathError> for io::Error {
    fn from(error: PathError) -> Self {
        match error {
            PathError::Link { .. } | PathError::Planted { .. } => {
                Self::new(io::ErrorKind::PermissionDenied, error.to_string())
            }
            PathError::NoReader(_) => Self::new(io::ErrorKind::NotConnected, error.to_string()),
            PathError::Io(error) => error,
        }
    }
}

fn who(by: Option<u32>) -> String {
    by.map_or_else(|| "others".to_owned(), |user| format!("user {user}"))
}

/// Opens a directory, to use it as a place (`O_PATH`). Links of `user` and of root are followed, also the last.
pub fn open_dir(path: &Path, user: Uid) -> Result<OwnedFd, PathError> {
    let found = walk(path, user, Links::Follow)?;
    Ok(openat(
        &found.dir,
        found.last(),
        LOOK | OFlag::O_DIRECTORY | found.no_link(),
        Mode::empty(),
    )?)
}

/// Opens a file to write to it or to lock it, with these flags, and this mode if it is made. Of a link at the end of the path `last` says
/// whether it may be followed, if it is one of `user` or of root. Nothing is waited for, and where others can make names, only a file of
/// `user` or of root that has no other name is opened: what else is there was put there for us to find.
pub fn open_file(path: &Path, user: Uid, flags: OFlag, mode: Mode, last: Links) -> Result<File, PathError> {
    let found = walk(path, user, last)?;
    let flags = flags | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | found.no_link();
    let opened = openat(&found.dir, found.last(), flags, mode);
    let stat = match &opened {
        Ok(opened) => fstat(opened),
        // A FIFO that nobody reads, a socket, a directory.
        Err(_) if found.magic => fstatat(&found.dir, found.last(), AtFlags::empty()),
        Err(_) => fstatat(&found.dir, found.last(), AtFlags::AT_SYMLINK_NOFOLLOW),
    };
    // What a link of /proc leads to is open already, by whoever started this process.
    if let Some((dir, by)) = found.exposed.filter(|_| !found.magic)
        && let Some(what) = stat.ok().and_then(|stat| planted(&stat, user))
    {
        let file = path.to_owned();
        return Err(PathError::Planted { file, what, dir, by });
    }
    match (opened, stat) {
        (Err(Errno::ENXIO), Ok(stat)) => Err(PathError::NoReader(kind(&stat))),
        (Ok(opened), Ok(_)) => Ok(opened.into()),
        (Err(errno), _) | (_, Err(errno)) => Err(errno.into()),
    }
}

/// What is not as root or `user` would have made it, and whose it is.
fn planted(stat: &FileStat, user: Uid) -> Option<String> {
    let kind = kind(stat);
    match (kind, stat.st_nlink) {
        (REGULAR, 0 | 1) if is_trusted(stat, user) => None,
        (REGULAR, names) if is_trusted(stat, user) => Some(format!("{kind} that has {names} names")),
        _ => Some(format!("{kind} of user {}", stat.st_uid)),
    }
}

const REGULAR: &str = "a file";

fn kind(stat: &FileStat) -> &'static str {
    match SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT {
        SFlag::S_IFREG => REGULAR,
        SFlag::S_IFDIR => "a directory",
        SFlag::S_IFIFO => "a FIFO",
        SFlag::S_IFSOCK => "a socket",
        SFlag::S_IFLNK => "a link",
        _ => "a device",
    }
}

/// The first directory on the way to the last name in which somebody else than root and `user` can put what they like; none if there is
/// none, or if the path leads nowhere.
pub fn foreign_dir(path: &Path, user: Uid) -> Option<(PathBuf, Option<u32>)> {
    walk(path, user, Links::Follow).ok()?.foreign
}

/// Where a path leads.
#[derive(Debug)]
struct Found {
    /// The directory that holds the last name.
    dir: OwnedFd,
    /// The last name, which may not be there; none if that is the directory itself.
    name: Option<OsString>,
    /// The last name is a link of /proc, which stands for something open: only the kernel can follow it.
    magic: bool,
    /// The first directory that is not root's or the user's alone.
    foreign: Option<(PathBuf, Option<u32>)>,
    /// The first directory by which others can put something at the end of the path, if only a further name of a file of ours.
    exposed: Option<(PathBuf, Option<u32>)>,
}

impl Found {
    fn last(&self) -> &OsStr {
        self.name.as_deref().unwrap_or(OsStr::new("."))
    }

    /// Should it have become a link meanwhile, it is none that was judged.
    fn no_link(&self) -> OFlag {
        match self.magic {
            true => OFlag::empty(),
            false => OFlag::O_NOFOLLOW,
        }
    }
}

fn walk(path: &Path, user: Uid, last: Links) -> Result<Found, PathError> {
    let mut at = root()?;
    let mut here = PathBuf::from("/");
    let mut names = Vec::new();
    prepend(&mut names, &std::path::absolute(path)?);
    let mut links = 0;
    let mut foreign = None;
    while let Some(name) = names.pop() {
        let is_last = names.is_empty();
        let holder = fstat(&at)?;
        let entry = match openat(&at, &*name, LOOK | OFlag::O_NOFOLLOW, Mode::empty()) {
            Err(Errno::ENOENT) if is_last => None,
            entry => Some(entry?),
        };
        let stat = entry.as_ref().map(fstat).transpose()?;
        let ours = |stat| is_trusted(stat, user) && is_kept(&holder, user);
        let held_by_others =
            (!is_held(&holder, user)).then(|| (here.clone(), (!is_trusted(&holder, user)).then_some(holder.st_uid)));
        if foreign.is_none() && !stat.as_ref().is_some_and(ours) {
            foreign.clone_from(&held_by_others);
        }
        let found = |dir, name, magic| Found {
            dir,
            name: Some(name),
            magic,
            foreign: foreign.clone(),
            exposed: foreign.clone().or(held_by_others.clone()),
        };
        let (Some(entry), Some(stat)) = (entry, stat) else {
            return Ok(found(at, name, false));
        };
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFLNK
            || (is_last && last == Links::Refuse)
        {
            if is_last {
                return Ok(found(at, name, false));
            }
            at = entry;
            here.push(name);
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(Errno::ELOOP.into());
        }
        let whose = [&stat, &holder].into_iter().find(|stat| !is_trusted(stat, user));
        if whose.is_some() || !is_kept(&holder, user) {
            let by = whose.map(|stat| stat.st_uid);
            return Err(PathError::Link {
                link: here.join(name),
                by,
            });
        }
        if fstatfs(&entry)?.filesystem_type() == PROC_SUPER_MAGIC {
            if is_last {
                return Ok(found(at, name, true));
            }
            at = openat(&at, &*name, LOOK, Mode::empty())?;
            here.push(name);
            continue;
        }
        // Of the link that was judged, which the name may not mean any more.
        let target = PathBuf::from(readlinkat(&entry, "")?);
        if target.is_absolute() {
            at = root()?;
            here = PathBuf::from("/");
        }
        prepend(&mut names, &target);
    }
    Ok(Found {
        dir: at,
        name: None,
        magic: false,
        exposed: foreign.clone(),
        foreign,
    })
}

fn root() -> Result<OwnedFd, Errno> {
    open("/", LOOK | OFlag::O_DIRECTORY, Mode::empty())
}

/// Puts a path before what is left, of which the next name is the last.
fn prepend(names: &mut Vec<OsString>, path: &Path) {
    let parts = path.components().rev().filter_map(|part| match part {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    names.extend(parts);
}

fn is_trusted(stat: &FileStat, user: Uid) -> bool {
    stat.st_uid == 0 || stat.st_uid == user.as_raw()
}

/// Whether nobody else can make names in the directory.
fn is_held(dir: &FileStat, user: Uid) -> bool {
    // A group with the number of the user is the user's own, by which a umask of 002 is harmless.
    let own_group = dir.st_gid == 0 || dir.st_gid == user.as_raw();
    let others = if own_group {
        Mode::S_IWOTH
    } else {
        Mode::S_IWOTH | Mode::S_IWGRP
    };
    is_trusted(dir, user) && !Mode::from_bits_truncate(dir.st_mode).intersects(others)
}

/// Whether nobody else can replace in the directory what root or the user put there.
fn is_kept(dir: &FileStat, user: Uid) -> bool {
    is_held(dir, user) || (is_trusted(dir, user) && Mode::from_bits_truncate(dir.st_mode).contains(Mode::S_ISVTX))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, chown, lchown, symlink};

    use super::*;

    const OTHER: u32 = 4711;

    /// A directory of root's with a secret one, and one that is somebody else's.
    fn scene() -> Option<tempfile::TempDir> {
        if !Uid::effective().is_root() {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        for name in ["secret", "theirs", "ours"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join("secret/file"), "secret").unwrap();
        chown(dir.path().join("theirs"), Some(OTHER), None).unwrap();
        Some(dir)
    }

    fn same(opened: &OwnedFd, path: &Path) -> bool {
        let (one, other) = (fstat(opened).unwrap(), nix::sys::stat::stat(path).unwrap());
        (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
    }

    #[test]
    fn links_of_others_are_not_followed() {
        let Some(dir) = scene() else { return };
        let path = |name: &str| dir.path().join(name);
        let root = Uid::from_raw(0);
        symlink(path("secret"), path("theirs/out")).unwrap();
        // In their directory it is theirs to replace, whoever made it.
        for owner in [OTHER, 0] {
            lchown(path("theirs/out"), Some(owner), None).unwrap();
            for through in ["theirs/out", "theirs/out/file", "ours/../theirs/out"] {
                let error = open_dir(&path(through), root).unwrap_err();
                assert!(
                    matches!(&error, PathError::Link { by: Some(OTHER), .. }),
                    "{through}: {error}"
                );
                assert!(
                    error
                        .to_string()
                        .contains("theirs/out is a link that user 4711 can replace"),
                    "{error}"
                );
            }
        }
        lchown(path("theirs/out"), Some(OTHER), None).unwrap();
        assert!(same(
            &open_dir(&path("theirs/out"), Uid::from_raw(OTHER)).unwrap(),
            &path("secret")
        ));
        // A link that root made to theirs, and that goes on from there.
        symlink(path("theirs"), path("ours/link")).unwrap();
        assert!(open_dir(&path("ours/link/out"), root).is_err());
        assert!(same(&open_dir(&path("ours/link"), root).unwrap(), &path("theirs")));
        // One that somebody put into a directory that all may write to, and one of root's in there.
        let shared = path("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
        symlink(path("secret"), shared.join("link")).unwrap();
        assert!(open_dir(&shared.join("link"), root).is_ok());
        lchown(shared.join("link"), Some(OTHER), None).unwrap();
        assert!(open_dir(&shared.join("link"), root).is_err());
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o777)).unwrap();
        lchown(shared.join("link"), Some(0), None).unwrap();
        let error = open_dir(&shared.join("link"), root).unwrap_err().to_string();
        assert!(error.contains("that others can replace"), "{error}");
    }

    #[test]
    fn links_of_the_system_and_of_the_user_lead_where_they_should() {
        let Some(dir) = scene() else { return };
        let path = |name: &str| dir.path().join(name);
        let root = Uid::from_raw(0);
        fs::create_dir_all(path("ours/releases/1")).unwrap();
        symlink("releases/1", path("ours/current")).unwrap();
        symlink("../ours/current/../..", path("ours/again")).unwrap();
        symlink("loop", path("ours/loop")).unwrap();
        assert!(same(
            &open_dir(&path("ours/current"), root).unwrap(),
            &path("ours/releases/1")
        ));
        assert!(open_dir(&path("ours/again/current"), root).is_ok());
        assert!(
            matches!(open_dir(&path("ours/loop"), root), Err(PathError::Io(error)) if error.raw_os_error() == Some(Errno::ELOOP as i32))
        );
        assert!(open_dir(&path("secret/file"), root).is_err(), "it is no directory");
        assert!(open_dir(&path("none"), root).is_err());
        assert!(same(&open_dir(Path::new("/"), root).unwrap(), Path::new("/")));
        assert!(open_dir(Path::new("/proc/self/cwd"), root).is_ok());
    }

    #[test]
    fn files_are_made_and_opened_where_the_path_leads() {
        let Some(dir) = scene() else { return };
        let path = |name: &str| dir.path().join(name);
        let root = Uid::from_raw(0);
        let append = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT;
        let open = |path: &Path, last| open_file(path, root, append, Mode::from_bits_truncate(0o640), last);
        open(&path("theirs/new"), Links::Follow).unwrap();
        assert_eq!(fs::metadata(path("theirs/new")).unwrap().len(), 0);
        symlink(path("secret/file"), path("theirs/log")).unwrap();
        symlink(path("secret/file"), path("ours/log")).unwrap();
        assert!(open(&path("theirs/log"), Links::Follow).is_err());
        assert!(open(&path("ours/log"), Links::Follow).is_ok());
        assert!(open(&path("ours/log"), Links::Refuse).is_err());
        symlink(path("ours/not-yet"), path("ours/log2")).unwrap();
        open(&path("ours/log2"), Links::Follow).unwrap();
        assert!(path("ours/not-yet").exists());
        // What is open already, as /dev/stdout is a link to.
        let (_read, write) = std::io::pipe().unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&write);
        open(Path::new(&format!("/proc/self/fd/{fd}")), Links::Follow).unwrap();
    }

    #[test]
    fn what_others_put_there_is_neither_waited_for_nor_used() {
        let Some(dir) = scene() else { return };
        let path = |name: &str| dir.path().join(name);
        let root = Uid::from_raw(0);
        let open = |path: &Path| {
            let flags = OFlag::O_WRONLY | OFlag::O_APPEND | OFlag::O_CREAT;
            open_file(path, root, flags, Mode::from_bits_truncate(0o640), Links::Follow)
        };
        let shared = path("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o1777)).unwrap();
        for (within, who) in [("theirs", "user 4711"), ("shared", "others")] {
            let at = |name: &str| path(within).join(name);
            for name in ["pipe", "ours-pipe"] {
                nix::unistd::mkfifo(&at(name), Mode::S_IRWXU).unwrap();
            }
            fs::write(at("file"), "").unwrap();
            for name in ["pipe", "file"] {
                chown(at(name), Some(OTHER), None).unwrap();
            }
            fs::hard_link(path("secret/file"), at("name")).unwrap();
            drop(std::os::unix::net::UnixListener::bind(at("socket")).unwrap());
            for (name, what) in [
                ("pipe", "a FIFO of user 4711"),
                ("ours-pipe", "a FIFO of user 0"),
                ("file", "a file of user 4711"),
                ("name", "a file that has 2 names"),
                ("socket", "a socket of user 0"),
            ] {
                let error = open(&at(name)).unwrap_err().to_string();
                let told = format!("{name} is {what}, and {who} can put what they like into ");
                assert!(error.contains(&told) && error.contains("remove it"), "{error}");
            }
            fs::remove_file(at("name")).unwrap();
            // What is ours and nothing else, at the first look and at the next one.
            open(&at("new")).unwrap();
            open(&at("new")).unwrap();
        }
        // Where only root makes names, root knows what is there; but nothing waits.
        nix::unistd::mkfifo(&path("ours/pipe"), Mode::S_IRWXU).unwrap();
        let error = open(&path("ours/pipe")).unwrap_err().to_string();
        assert!(error.contains("a FIFO, and nothing reads"), "{error}");
        let _reader = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(path("ours/pipe"))
            .unwrap();
        open(&path("ours/pipe")).unwrap();
        fs::write(path("ours/log"), "").unwrap();
        fs::hard_link(path("ours/log"), path("ours/backup")).unwrap();
        chown(path("ours/log"), Some(OTHER), None).unwrap();
        open(&path("ours/log")).unwrap();
    }

    #[test]
    fn the_first_directory_that_others_hold_is_told() {
        let Some(dir) = scene() else { return };
        let root = Uid::from_raw(0);
        fs::create_dir(dir.path().join("theirs/dir")).unwrap();
        let told = foreign_dir(&dir.path().join("theirs/dir"), root);
        assert_eq!(told, Some((dir.path().join("theirs"), Some(OTHER))));
        assert_eq!(foreign_dir(&dir.path().join("secret/file"), root), None);
        assert_eq!(foreign_dir(Path::new("/usr/bin"), root), None);
        assert_eq!(foreign_dir(Path::new("/usr/none/none"), root), None);
    }
}
