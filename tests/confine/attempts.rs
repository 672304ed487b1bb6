//! What is tried, and what it must come to: by theme below, and here what the themes share.

mod files;
mod hidden;
mod kernel;
mod needed;
mod network;
mod processes;

use std::ffi::CString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, renameat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::Expected;
use crate::scene::Here;

/// One thing to try.
pub struct Attempt {
    pub group: &'static str,
    pub name: &'static str,
    pub expected: Expected,
    pub run: fn(&Here) -> Result<(), Errno>,
}

const fn attempt(
    group: &'static str,
    name: &'static str,
    expected: Expected,
    run: fn(&Here) -> Result<(), Errno>,
) -> Attempt {
    Attempt {
        group,
        name,
        expected,
        run,
    }
}

/// Makes a system call with these arguments and zeros.
fn call<const N: usize>(number: libc::c_long, arguments: [usize; N]) -> Result<(), Errno> {
    let mut all = [0_usize; 6];
    all[..N].copy_from_slice(&arguments);
    let [a, b, c, d, e, f] = all;
    // SAFETY: pointers among the arguments are null or to memory that outlives the call; a new process does nothing but end.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    match Errno::result(result) {
        Ok(0) if [libc::SYS_clone, libc::SYS_clone3].contains(&number) => std::process::exit(0),
        result => result.map(drop),
    }
}

fn io<T>(result: io::Result<T>) -> Result<(), Errno> {
    result.map(drop).map_err(errno)
}

fn errno(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap())
}

fn c_path(path: impl AsRef<Path>) -> CString {
    CString::new(path.as_ref().as_os_str().as_bytes()).unwrap()
}

fn pointer<T>(to: &T) -> usize {
    std::ptr::from_ref(to) as usize
}

fn socket(family: i32, kind: i32, protocol: i32) -> Result<(), Errno> {
    call(libc::SYS_socket, [family as usize, kind as usize, protocol as usize])
}

fn map(protection: i32) -> Result<*mut libc::c_void, Errno> {
    // SAFETY: a new mapping wherever the kernel likes.
    let at = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            4096,
            protection,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if at == libc::MAP_FAILED {
        Err(Errno::last())
    } else {
        Ok(at)
    }
}

fn protect(at: *mut libc::c_void, protection: i32) -> Result<(), Errno> {
    // SAFETY: nothing else is in this mapping.
    Errno::result(unsafe { libc::mprotect(at, 4096, protection) }).map(drop)
}

// As cap-std does it, from a directory's descriptor; the standard library's older system calls are not needed and not allowed.
fn rename(from: &Path, to: &Path) -> Result<(), Errno> {
    renameat(AT_FDCWD, from, AT_FDCWD, to)
}

fn remove(file: &Path) -> Result<(), Errno> {
    unlinkat(AT_FDCWD, file, UnlinkatFlags::NoRemoveDir)
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn send_to(socket: RawFd, flags: i32, to: SocketAddr) -> Result<(), Errno> {
    let SocketAddr::V4(to) = to else {
        return Err(Errno::EAFNOSUPPORT);
    };
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as u16,
        sin_port: to.port().to_be(),
        sin_addr: libc::in_addr {
            s_addr: u32::from(*to.ip()).to_be(),
        },
        sin_zero: [0; 8],
    };
    let data = [0_u8; 1];
    call(
        libc::SYS_sendto,
        [
            socket as usize,
            data.as_ptr() as usize,
            1,
            flags as usize,
            pointer(&address),
            size_of_val(&address),
        ],
    )
}

fn tcp_socket() -> Result<RawFd, Errno> {
    // SAFETY: plain numbers.
    Errno::result(unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) })
}

/// All of them.
pub fn all() -> impl Iterator<Item = &'static Attempt> {
    [
        processes::ATTEMPTS,
        files::ATTEMPTS,
        hidden::ATTEMPTS,
        network::ATTEMPTS,
        kernel::ATTEMPTS,
        needed::ATTEMPTS,
    ]
    .into_iter()
    .flatten()
}
