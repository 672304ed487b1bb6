//! What is tried where all that was not granted is hidden.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;

use super::{Attempt, attempt, c_path, call, pointer};
use crate::Expected::{Fails, Works};
use crate::NOT_THERE;
use crate::scene::Here;

/// What statx(2) tells, following links.
fn facts(dir: RawFd, path: &CStr) -> Result<(), Errno> {
    // SAFETY: all of it are numbers.
    let found: libc::statx = unsafe { std::mem::zeroed() };
    let mask = libc::STATX_BASIC_STATS as usize;
    let path = path.as_ptr() as usize;
    call(libc::SYS_statx, [dir as usize, path, 0, mask, pointer(&found)])
}

fn opened(here: &Here, path: &CStr, flags: i32) -> Result<(), Errno> {
    call(
        libc::SYS_openat,
        [here.rw.as_raw_fd() as usize, path.as_ptr() as usize, flags as usize],
    )
}

pub const ATTEMPTS: &[Attempt] = &[
    attempt("hidden", "the facts of a file outside", NOT_THERE, |here| {
        facts(libc::AT_FDCWD, &c_path(here.path("outside/file")))
    }),
    attempt("hidden", "the facts of the users", NOT_THERE, |_| {
        facts(libc::AT_FDCWD, c"/etc/passwd")
    }),
    attempt("hidden", "the facts of itself", NOT_THERE, |_| {
        facts(libc::AT_FDCWD, c"/proc/self/maps")
    }),
    attempt("hidden", "the facts of what is above a grant", NOT_THERE, |here| {
        facts(here.rw.as_raw_fd(), c"../outside/file")
    }),
    attempt("hidden", "the facts of where a link leads", NOT_THERE, |here| {
        facts(here.rw.as_raw_fd(), c"link")
    }),
    attempt("hidden", "opening where a link leads", NOT_THERE, |here| {
        opened(here, c"link", libc::O_RDONLY)
    }),
    attempt("hidden", "opening what is above a grant", NOT_THERE, |here| {
        opened(here, c"../outside/file", libc::O_WRONLY)
    }),
    attempt("hidden", "the facts of a granted file", Works, |here| {
        facts(here.rw.as_raw_fd(), c"file")
    }),
    attempt("hidden", "opening a granted file", Works, |here| {
        opened(here, c"file", libc::O_WRONLY)
    }),
    attempt("hidden", "a new file", Works, |here| {
        opened(here, c"new", libc::O_WRONLY | libc::O_CREAT)
    }),
    attempt("hidden", "a new file outside", Fails(Errno::EROFS), |_| {
        call(
            libc::SYS_openat,
            [
                libc::AT_FDCWD as usize,
                c"new".as_ptr() as usize,
                (libc::O_WRONLY | libc::O_CREAT) as usize,
                0o600,
            ],
        )
    }),
];
