//! What is tried of files.

use std::fs::{self, File, OpenOptions};
use std::io::IoSlice;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::sys::socket::{MsgFlags, sendmsg};
use nix::unistd::symlinkat;

use super::{Attempt, attempt, c_path, call, errno, io, remove, rename};
use crate::Expected::{Fails, Works};
use crate::{DENIED, NO_ACCESS};

pub const ATTEMPTS: &[Attempt] = &[
    attempt("files", "times of a file outside", DENIED, |here| {
        let path = c_path(here.path("outside/file"));
        call(libc::SYS_utimensat, [libc::AT_FDCWD as usize, path.as_ptr() as usize])
    }),
    attempt("files", "reading /etc/passwd", NO_ACCESS, |_| {
        io(File::open("/etc/passwd"))
    }),
    attempt("files", "reading outside", NO_ACCESS, |here| {
        io(File::open(here.path("outside/file")))
    }),
    attempt("files", "writing outside", NO_ACCESS, |here| {
        io(OpenOptions::new().write(true).open(here.path("outside/file")))
    }),
    attempt("files", "creating outside", NO_ACCESS, |here| {
        io(File::create(here.path("outside/new")))
    }),
    attempt("files", "creating in the parent directory", NO_ACCESS, |here| {
        io(File::create(here.path("rw/../new")))
    }),
    attempt("files", "outside by ..", NO_ACCESS, |here| {
        io(OpenOptions::new().write(true).open(here.path("rw/../outside/file")))
    }),
    attempt("files", "outside by a link", NO_ACCESS, |here| {
        io(OpenOptions::new().write(true).open(here.path("rw/link")))
    }),
    attempt("files", "outside by a link to a directory", NO_ACCESS, |here| {
        io(File::create(here.path("rw/dir-link/new")))
    }),
    attempt("files", "outside by a link of its own", NO_ACCESS, |here| {
        symlinkat("/etc/passwd", AT_FDCWD, &here.path("rw/own-link"))?;
        io(File::open(here.path("rw/own-link")))
    }),
    attempt("files", "moving out", NO_ACCESS, |here| {
        fs::write(here.path("rw/moving"), "x").map_err(errno)?;
        rename(&here.path("rw/moving"), &here.path("outside/moved"))
    }),
    attempt("files", "linking in", Fails(Errno::EXDEV), |here| {
        io(fs::hard_link(here.path("outside/file"), here.path("rw/linked")))
    }),
    attempt("files", "listing outside", NO_ACCESS, |here| {
        io(fs::read_dir(here.path("outside")))
    }),
    attempt("files", "listing /", NO_ACCESS, |_| io(fs::read_dir("/"))),
    attempt("files", "removing outside", NO_ACCESS, |here| {
        remove(&here.path("outside/file"))
    }),
    attempt("files", "truncating outside", DENIED, |here| {
        let path = c_path(here.path("outside/file"));
        call(libc::SYS_truncate, [path.as_ptr() as usize, 0])
    }),
    attempt("files", "writing where it may read", NO_ACCESS, |here| {
        io(OpenOptions::new().write(true).open(here.path("ro/file")))
    }),
    attempt("files", "emptying where it may read", NO_ACCESS, |here| {
        io(OpenOptions::new().write(true).truncate(true).open(here.path("ro/file")))
    }),
    attempt("files", "creating where it may read", NO_ACCESS, |here| {
        io(File::create(here.path("ro/new")))
    }),
    attempt("files", "removing where it may read", NO_ACCESS, |here| {
        remove(&here.path("ro/file"))
    }),
    attempt("files", "an unnamed file where it may read", NO_ACCESS, |here| {
        io(OpenOptions::new()
            .write(true)
            .custom_flags(libc::O_TMPFILE)
            .open(here.path("ro")))
    }),
    attempt("files", "outside by a descriptor of a path", NO_ACCESS, |here| {
        let path = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_PATH)
            .open(here.path("outside/file"))
            .map_err(errno)?;
        io(File::open(format!("/proc/self/fd/{}", path.as_raw_fd())))
    }),
    attempt("files", "a named pipe", DENIED, |here| {
        let path = c_path(here.path("rw/pipe"));
        call(
            libc::SYS_mknodat,
            [
                libc::AT_FDCWD as usize,
                path.as_ptr() as usize,
                libc::S_IFIFO as usize | 0o600,
            ],
        )
    }),
    attempt("files", "another owner", DENIED, |here| {
        let path = c_path(here.path("rw/file"));
        call(
            libc::SYS_fchownat,
            [libc::AT_FDCWD as usize, path.as_ptr() as usize, 0, 0, 0],
        )
    }),
    attempt("files", "other permissions", DENIED, |here| {
        let path = c_path(here.path("rw/file"));
        call(
            libc::SYS_fchmodat,
            [libc::AT_FDCWD as usize, path.as_ptr() as usize, 0o4777],
        )
    }),
    attempt("files", "another root", DENIED, |_| {
        let path = c_path("/");
        call(libc::SYS_chroot, [path.as_ptr() as usize])
    }),
    attempt("files", "a handle", DENIED, |_| {
        call(libc::SYS_open_by_handle_at, [0, 0, 0])
    }),
    attempt("files", "notification of others' files", DENIED, |_| {
        call(libc::SYS_inotify_init1, [0])
    }),
    attempt("no grants", "reading what anybody may", NO_ACCESS, |here| {
        io(File::open(here.path("ro/file")))
    }),
    attempt("no grants", "listing what anybody may", NO_ACCESS, |here| {
        io(fs::read_dir(here.path("ro")))
    }),
    attempt("no grants", "writing where anybody may", NO_ACCESS, |here| {
        io(OpenOptions::new().write(true).open(here.path("rw/file")))
    }),
    attempt("no grants", "creating where anybody may", NO_ACCESS, |here| {
        io(File::create(here.path("rw/new")))
    }),
    attempt("no grants", "what it computes, and says on its socket", Works, |here| {
        let ours = here.pair.0.as_raw_fd();
        sendmsg::<()>(ours, &[IoSlice::new(b"said")], &[], MsgFlags::MSG_NOSIGNAL, None)?;
        let computed: Vec<u64> = (0..100_000).map(|n| n * n).collect();
        assert_eq!(computed.len(), 100_000);
        Ok(())
    }),
];
