//! clone3(2): the kernel makes a process in a cgroup at once, which moving it there afterwards takes milliseconds for.
//!
//! It must not know what the child does. Where clone3 is not to be had (a filter of a container), the child is made without, and has to move.

use std::ffi::{c_int, c_void};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use rustix::fs::{Mode, OFlags, openat};

/// Not in the libc crate as the number it is: flags are wider than a `c_int`.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Where a child finds itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Born {
    /// In the cgroup that was asked for.
    InCgroup,
    /// In that of its parent.
    InParents,
}

/// On which side of a clone the code goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// In the parent.
    Parent,
    /// In the child.
    Child(Born),
}

/// A child like fork(2) makes it, of the caller's own parent.
///
/// # Safety
///
/// The calling process must have one thread. Going around glibc's fork leaves its cached thread id stale in the child, which nothing may ask for.
#[allow(unsafe_code)]
pub unsafe fn copy(cgroup: Option<&OwnedFd>) -> nix::Result<Side> {
    let side = |pid: i64, born| match pid {
        -1 => Err(Errno::last()),
        0 => Ok(Side::Child(born)),
        _ => Ok(Side::Parent),
    };
    if let Some(cgroup) = cgroup {
        let arguments = arguments(0, cgroup);
        // SAFETY: without CLONE_VM the child works on its own copy of memory, and with no stack given it goes on on its copy of this one.
        let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size_of::<libc::clone_args>()) };
        match side(pid, Born::InCgroup) {
            Err(errno) if is_missing(errno) => {}
            done => return done,
        }
    }
    let flags = libc::CLONE_PARENT | libc::SIGCHLD;
    // SAFETY: as above.
    side(
        unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) },
        Born::InParents,
    )
}

/// A child that shares the caller's memory and works on a stack of its own, of which the lower `length` bytes from `stack` on may be used; it
/// calls `enter` with `argument` and ends with what that returns. Comes back once the child has executed a program or ended. `None` if clone3
/// cannot do it here: then there is no child.
///
/// # Safety
///
/// `stack` must be mapped, aligned to 16 bytes at its end, and used by nobody else until this comes back. `enter` must not unwind, and must
/// leave memory as the caller expects it.
#[allow(unsafe_code)]
pub unsafe fn share(
    cgroup: &OwnedFd,
    (stack, length): (*mut c_void, usize),
    enter: extern "C" fn(*mut c_void) -> c_int,
    argument: *mut c_void,
) -> Option<nix::Result<()>> {
    let mut arguments = arguments((libc::CLONE_VM | libc::CLONE_VFORK) as u64, cgroup);
    arguments.stack = stack as u64;
    arguments.stack_size = length as u64;
    // SAFETY: the caller's promise.
    let result = unsafe { clone3_and_enter(&arguments, enter, argument) }?;
    match Errno::result(if result < 0 { -1 } else { 0 }) {
        Ok(_) => Some(Ok(())),
        Err(_) => match Errno::from_raw(-result as i32) {
            errno if is_missing(errno) => None,
            errno => Some(Err(errno)),
        },
    }
}

/// With CLONE_PARENT, the child signals its end as its siblings do, so none must be named here.
fn arguments(flags: u64, cgroup: &OwnedFd) -> libc::clone_args {
    // SAFETY: all of it are numbers, of which zero means that there is none.
    #[allow(unsafe_code)]
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = flags | libc::CLONE_PARENT as u64 | CLONE_INTO_CGROUP;
    arguments.cgroup = cgroup.as_raw_fd() as u64;
    arguments
}

/// Whether the call is not to be had, rather than refused this time.
fn is_missing(errno: Errno) -> bool {
    matches!(errno, Errno::ENOSYS | Errno::EPERM | Errno::EINVAL | Errno::E2BIG)
}

/// The negative error number, or the child's id. `None` on an architecture of which nobody has told how.
///
/// # Safety
///
/// As for [`share`].
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code)]
unsafe fn clone3_and_enter(
    arguments: &libc::clone_args,
    enter: extern "C" fn(*mut c_void) -> c_int,
    argument: *mut c_void,
) -> Option<i64> {
    let result: i64;
    // SAFETY: in the parent it is a system call. The child begins behind it with a stack on which nothing is, whose end is aligned as a call
    // wants it, calls, and never gets behind the block.
    unsafe {
        std::arch::asm!(
            "syscall",
            "test rax, rax",
            "jnz 2f",
            "xor ebp, ebp",
            "mov rdi, r13",
            "call r12",
            "mov edi, eax",
            "mov eax, {exit_group}",
            "syscall",
            "ud2",
            "2:",
            exit_group = const libc::SYS_exit_group,
            inlateout("rax") libc::SYS_clone3 => result,
            in("rdi") arguments,
            in("rsi") size_of::<libc::clone_args>(),
            in("r12") enter,
            in("r13") argument,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    Some(result)
}

/// The same.
///
/// # Safety
///
/// As for [`share`].
#[cfg(target_arch = "aarch64")]
#[allow(unsafe_code)]
unsafe fn clone3_and_enter(
    arguments: &libc::clone_args,
    enter: extern "C" fn(*mut c_void) -> c_int,
    argument: *mut c_void,
) -> Option<i64> {
    let result: i64;
    // SAFETY: as on x86_64.
    unsafe {
        std::arch::asm!(
            "svc #0",
            "cbnz x0, 2f",
            "mov x29, xzr",
            "mov x0, x21",
            "blr x20",
            "mov x8, {exit_group}",
            "svc #0",
            "brk #1",
            "2:",
            exit_group = const libc::SYS_exit_group,
            inlateout("x0") arguments as *const libc::clone_args as i64 => result,
            in("x1") size_of::<libc::clone_args>(),
            in("x8") libc::SYS_clone3,
            in("x20") enter,
            in("x21") argument,
        );
    }
    Some(result)
}

/// Not told yet how.
///
/// # Safety
///
/// None is needed.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
#[allow(unsafe_code)]
unsafe fn clone3_and_enter(
    _: &libc::clone_args,
    _: extern "C" fn(*mut c_void) -> c_int,
    _: *mut c_void,
) -> Option<i64> {
    None
}

/// Moves the calling process into a cgroup. System calls alone: it may share its memory.
pub fn join(cgroup: &OwnedFd) -> nix::Result<()> {
    let errno = |error: rustix::io::Errno| Errno::from_raw(error.raw_os_error());
    let file = openat(
        cgroup.as_fd(),
        c"cgroup.procs",
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(errno)?;
    // No number means the writer.
    rustix::io::write(&file, b"0").map(drop).map_err(errno)
}
