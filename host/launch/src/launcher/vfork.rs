//! A child that shares its parent's memory until it executes a program: nothing is copied, so it costs less than a fork and as much
//! whatever the parent's size.
//!
//! It must not know what the child does. The parent waits meanwhile, for as long as the kernel takes to load the program; only
//! SIGKILL ends that wait.

use std::ffi::{c_int, c_void};
use std::io;
use std::os::fd::OwnedFd;
use std::ptr;

use nix::errno::Errno;
use nix::libc;

use crate::launcher::clone::{self, Born};

/// Plenty: the child makes a few system calls. Nothing here is touched but what is used.
const STACK: usize = 128 * 1024;
/// Below the stack, so that an overflow is a fault. At least a page, on every architecture.
const GUARD: usize = 64 * 1024;

/// The stack of such children, of one after the other. Not `Sync`: its owner's thread waits for as long as a child uses it.
#[derive(Debug)]
pub struct ChildStack {
    lowest: *mut c_void,
}

impl ChildStack {
    /// Fails where memory cannot be had.
    pub fn new() -> io::Result<Self> {
        let (writable, nowhere) = (libc::PROT_READ | libc::PROT_WRITE, -1);
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_STACK | libc::MAP_NORESERVE;
        // SAFETY: the kernel chooses where, so nothing that exists is mapped over.
        #[allow(unsafe_code)]
        let lowest = unsafe { libc::mmap(ptr::null_mut(), GUARD + STACK, writable, kind, nowhere, 0) };
        if lowest == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let stack = Self { lowest };
        // SAFETY: the range is the lower part of what was just mapped; nothing refers to it.
        #[allow(unsafe_code)]
        let guarded = unsafe { libc::mprotect(lowest, GUARD, libc::PROT_NONE) };
        Errno::result(guarded)?;
        Ok(stack)
    }

    /// Clones a process of the caller's own parent that calls `child` and ends with the code it returns: in a cgroup, if there is one to be in
    /// and the kernel can do that. Comes back once that process has executed a program or ended.
    ///
    /// # Safety
    ///
    /// The child works on the caller's own memory and sees it as it is. `child` must leave it as the caller expects it, must not unwind,
    /// and must not use this stack for another. No signal handler that touches memory may be set.
    #[allow(unsafe_code)]
    pub unsafe fn clone_sharing<F: Fn(Born) -> c_int>(&self, cgroup: Option<&OwnedFd>, child: F) -> nix::Result<()> {
        extern "C" fn enter<F: Fn(Born) -> c_int>(child: *mut c_void) -> c_int {
            // SAFETY: it is the pointer to the pair below, which is alive as long as the parent waits.
            let (child, born) = unsafe { &*child.cast::<(F, Born)>() };
            child(*born)
        }
        let mut argument = (child, Born::InCgroup);
        // SAFETY: the stack is used by nobody else (see the type), is a number of pages, and like `argument` stays until the child is done with
        // it, since CLONE_VFORK makes the parent wait. The rest is the caller's promise.
        unsafe {
            let stack = (self.lowest.byte_add(GUARD), STACK);
            if let Some(cgroup) = cgroup
                && let Some(done) = clone::share(cgroup, stack, enter::<F>, (&raw mut argument).cast())
            {
                return done;
            }
            argument.1 = Born::InParents;
            let flags = libc::CLONE_PARENT | libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
            let top = self.lowest.byte_add(GUARD + STACK);
            Errno::result(libc::clone(enter::<F>, top, flags, (&raw mut argument).cast())).map(drop)
        }
    }
}

impl Drop for ChildStack {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this size; no child uses it any more (see `clone_sharing`).
        #[allow(unsafe_code)]
        unsafe {
            libc::munmap(self.lowest, GUARD + STACK)
        };
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use nix::unistd::getpid;

    use super::*;

    /// The child is a sibling of this process, and nobody here can wait for it; what it did to memory tells that it was there.
    #[test]
    fn the_child_shares_memory_and_the_parent_waits() {
        let stack = ChildStack::new().unwrap();
        let seen = Cell::new((0, 0));
        for round in 1..=3 {
            let child = |born| {
                assert_eq!(born, Born::InParents);
                seen.set((round, getpid().as_raw()));
                0
            };
            // SAFETY: all that the child does to memory is what is tested.
            #[allow(unsafe_code)]
            unsafe { stack.clone_sharing(None, child) }.unwrap();
            let (at, pid) = seen.get();
            assert_eq!(at, round);
            assert_ne!(pid, getpid().as_raw());
        }
    }
}
