//! The memory that this process has and does not use.

use nix::libc;

/// Gives memory that is allocated but free back to the kernel; glibc does so by itself only at the end of its heap.
pub fn release_free_memory() {
    // SAFETY: the call takes no memory that is in use, and locks what it looks at.
    #[allow(unsafe_code)]
    unsafe {
        libc::malloc_trim(0);
    }
}
