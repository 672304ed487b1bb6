//! Namespaces in which there is nothing: no file, no network, no memory that processes share by a name.
//!
//! They are made once, and every component's process enters the same: what is in none of them cannot be shared through them, and to enter costs
//! microseconds where to make one takes milliseconds. What a directory that was granted holds is reached by a mount of its own, whose top has
//! nothing above it.
//!
//! It takes root: the capabilities for it outlive the change of user for as long as that takes, and go before anything of others runs. Who makes
//! the process in which they begin is for the caller to know, since that forks.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{chdir, fchdir, pivot_root};
use rustix::thread::{CapabilitySet, LinkNameSpaceType, move_into_link_name_space, set_keep_capabilities};

use super::privileges::{self, errno};

/// What entering takes, and no more than that.
const NEEDED: CapabilitySet = CapabilitySet::SYS_ADMIN.union(CapabilitySet::SYS_CHROOT);

/// How many there are.
const KINDS: usize = 3;

/// Namespaces, open.
#[derive(Debug)]
pub struct Namespaces {
    /// Of mounts, of the network, and of System V's and POSIX' ways to share, in this order.
    open: [OwnedFd; KINDS],
}

impl Namespaces {
    /// Moves the calling process, which must have one thread, to new ones, and opens them. Its root is a directory that is empty and stays so.
    pub fn make() -> io::Result<[OwnedFd; KINDS]> {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC)?;
        let file = |name: &str| {
            open(
                format!("/proc/self/ns/{name}"),
                OFlags::RDONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )
        };
        // Before there is no /proc any more.
        let open = [file("mnt")?, file("net")?, file("ipc")?];
        let empty = empty_root()?;
        // That it can be done at all is found out here, and not when the first component is to run.
        own_mount(empty.as_fd())?;
        Ok(open)
    }

    /// Those that another process has made and sent here. `None` unless it is as many.
    pub fn received(open: Vec<OwnedFd>) -> Option<Self> {
        let open = <[OwnedFd; KINDS]>::try_from(open).ok()?;
        Some(Self { open })
    }

    /// The same once more: a process that enters them closes what it has of them then.
    pub fn try_clone(&self) -> io::Result<Self> {
        let [mount, network, ipc] = self.open.each_ref().map(OwnedFd::try_clone);
        Ok(Self {
            open: [mount?, network?, ipc?],
        })
    }

    /// Their descriptors, which the process that enters them needs until then.
    pub fn descriptors(&self) -> [RawFd; KINDS] {
        self.open.each_ref().map(AsRawFd::as_raw_fd)
    }

    /// Moves the calling process there, which must have one thread. Without the network's it still reaches hosts.
    pub(super) fn enter(&self, keep_network: bool) -> Result<(), Errno> {
        let [mount, network, ipc] = &self.open;
        privileges::raise(NEEDED)?;
        let enter = |fd: &OwnedFd, kind| move_into_link_name_space(fd.as_fd(), Some(kind)).map_err(errno);
        if !keep_network {
            enter(network, LinkNameSpaceType::Network)?;
        }
        enter(ipc, LinkNameSpaceType::InterProcessCommunication)?;
        // Last: the root and the directory that the process is in are the empty one from here on.
        enter(mount, LinkNameSpaceType::Mount)
    }
}

/// Moves the calling process to mounts of its own, of which there is one: an empty root. For who needs no file, nor anything else that
/// [`Namespaces`] are for.
pub(super) fn leave_all_files() -> io::Result<()> {
    unshare(CloneFlags::CLONE_NEWNS)?;
    empty_root().map(drop)
}

/// Mounts an empty directory as the root of the calling process's mounts, which are its own, and gives up all others.
fn empty_root() -> io::Result<OwnedFd> {
    // What is mounted or unmounted elsewhere must not be so here, nor the other way round.
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    let tmpfs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    for (key, value) in [("size", "4096"), ("nr_inodes", "2"), ("mode", "0555")] {
        fsconfig_set_string(tmpfs.as_fd(), key, value)?;
    }
    fsconfig_create(tmpfs.as_fd())?;
    let flags = MountAttrFlags::MOUNT_ATTR_RDONLY
        | MountAttrFlags::MOUNT_ATTR_NOSUID
        | MountAttrFlags::MOUNT_ATTR_NODEV
        | MountAttrFlags::MOUNT_ATTR_NOEXEC;
    let empty = fsmount(tmpfs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, flags)?;
    let whole = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    move_mount(empty.as_fd(), "", CWD, "/", whole)?;
    fchdir(&empty)?;
    // The old root then lies on the new one, and goes: nothing that is mounted elsewhere is kept busy from here.
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    chdir("/")?;
    Ok(empty)
}

/// Sees to it that a change of user leaves the capabilities that [`Confinement::apply`](super::Confinement::apply) takes to enter namespaces.
/// [`keep_needed`] is to follow the change.
pub fn keep_capabilities() -> Result<(), Errno> {
    set_keep_capabilities(true).map_err(errno)
}

/// Gives up all capabilities but those for namespaces, which are not in force until they are needed.
pub fn keep_needed() -> Result<(), Errno> {
    privileges::keep_for_later(NEEDED)?;
    set_keep_capabilities(false).map_err(errno)
}

/// The same directory, with all that is mounted below it, as a mount of its own: nothing is above its top. The process must not have entered
/// namespaces yet.
pub fn own_mount(dir: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    privileges::raise(NEEDED)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    open_tree(dir, "", flags).map_err(errno)
}
