//! The memory of this program's heap.
//!
//! A clone of the launcher has a copy of its heap, in which free blocks lie scattered: whatever it allocates there has the kernel copy one page
//! more. So a process that is about to call a component takes what it allocates from memory of its own, a few pages that are there already.
//! It must not know what is allocated.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use nix::libc;

/// Gives memory that is allocated but free back to the kernel; glibc does so by itself only at the end of its heap.
pub fn release_free_memory() {
    // SAFETY: the call takes no memory that is in use, and locks what it looks at.
    #[allow(unsafe_code)]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// The program's allocator: the system's, but for processes that are about to call a component, which have a region of their own.
#[derive(Debug)]
pub struct Allocator;

/// Blocks one after the other in memory of its own. Only the last of them is ever freed: a process that makes a single call ends before that
/// matters, and what does not fit any more comes from the system's allocator.
struct Region {
    begin: AtomicUsize,
    end: AtomicUsize,
    /// Where the next block may begin; 0 while there is no region.
    free: AtomicUsize,
}

static REGION: Region = Region {
    begin: AtomicUsize::new(0),
    end: AtomicUsize::new(0),
    free: AtomicUsize::new(0),
};

/// The size of the region.
const SIZE: usize = 1 << 20;
/// So much of it is made available at once, in bytes: what the host allocates for a call of a small component. The kernel counts these pages
/// among the faults of the process, though none of them interrupts it.
const POPULATED: usize = 96 << 10;

/// Has this process allocate from a region of its own from now on. Without room for one all stays as it is.
pub(crate) fn allocate_afresh() {
    if REGION.free.load(Relaxed) != 0 {
        return;
    }
    // SAFETY: a new mapping overlaps no other, and populating it changes nothing of what is in it.
    #[allow(unsafe_code)]
    let begin = unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let begin = libc::mmap(ptr::null_mut(), SIZE, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        if begin == libc::MAP_FAILED {
            return;
        }
        // A kernel before 5.14 has each page come when it is touched.
        libc::madvise(begin, POPULATED, libc::MADV_POPULATE_WRITE);
        begin as usize
    };
    REGION.begin.store(begin, Relaxed);
    REGION.end.store(begin + SIZE, Relaxed);
    REGION.free.store(begin, Relaxed);
}

impl Region {
    fn has(&self, block: usize) -> bool {
        (self.begin.load(Relaxed)..self.end.load(Relaxed)).contains(&block)
    }

    /// Where a new block begins, if there is a region and room in it.
    fn take(&self, layout: Layout) -> Option<usize> {
        let mut free = self.free.load(Relaxed);
        while free != 0 {
            let block = free.checked_next_multiple_of(layout.align())?;
            let next = block
                .checked_add(layout.size())
                .filter(|next| *next <= self.end.load(Relaxed))?;
            match self.free.compare_exchange(free, next, Relaxed, Relaxed) {
                Ok(_) => return Some(block),
                Err(other) => free = other,
            }
        }
        None
    }

    /// Has the last block be as long as this. False if it is another, or has no room.
    fn resize(&self, block: usize, size: usize, new_size: usize) -> bool {
        match block.checked_add(new_size) {
            Some(next) if next <= self.end.load(Relaxed) => {
                self.free.compare_exchange(block + size, next, Relaxed, Relaxed).is_ok()
            }
            _ => false,
        }
    }
}

// SAFETY: a block of the region is aligned as asked, lies within the mapping, and is handed out once: `free` only ever moves from the end of the
// last block, by an exchange that fails if another was made meanwhile. All else is the system's allocator, which is told only of its own blocks.
#[allow(unsafe_code)]
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match REGION.take(layout) {
            Some(block) => block as *mut u8,
            // SAFETY: the caller's promise.
            None => unsafe { System.alloc(layout) },
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if REGION.has(block as usize) {
            REGION.resize(block as usize, layout.size(), 0);
            return;
        }
        // SAFETY: the caller's promise; it is not of the region.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        let Some(block) = REGION.take(layout) else {
            // SAFETY: the caller's promise. Large blocks of the system's are zero as they come.
            return unsafe { System.alloc_zeroed(layout) };
        };
        // SAFETY: the block is as long. It may have been used before.
        unsafe { ptr::write_bytes(block as *mut u8, 0, layout.size()) };
        block as *mut u8
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        if !REGION.has(block as usize) {
            // SAFETY: the caller's promise; it is not of the region.
            return unsafe { System.realloc(block, layout, new_size) };
        }
        if REGION.resize(block as usize, layout.size(), new_size) {
            return block;
        }
        // SAFETY: the caller promises that the size is valid for this alignment; both blocks are as long as what is copied, and not the same.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(new_size, layout.align()));
            if !new.is_null() {
                ptr::copy_nonoverlapping(block, new, layout.size().min(new_size));
                self.dealloc(block, layout);
            }
            new
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(size: usize) -> Region {
        Region {
            begin: AtomicUsize::new(4096),
            end: AtomicUsize::new(4096 + size),
            free: AtomicUsize::new(4096),
        }
    }

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn blocks_follow_each_other_aligned_until_there_is_no_room() {
        let region = region(64);
        assert_eq!(region.take(layout(3, 1)), Some(4096));
        assert_eq!(region.take(layout(8, 8)), Some(4104));
        assert_eq!(region.take(layout(16, 32)), Some(4128));
        assert_eq!(region.take(layout(17, 1)), None);
        assert_eq!(region.take(layout(16, 1)), Some(4144));
        assert_eq!(region.take(layout(1, 1)), None);
        assert!(region.has(4096) && region.has(4159) && !region.has(4160) && !region.has(4095));
    }

    #[test]
    fn only_the_last_block_changes_its_length() {
        let region = region(64);
        let (first, second) = (region.take(layout(8, 8)).unwrap(), region.take(layout(8, 8)).unwrap());
        assert!(!region.resize(first, 8, 0));
        assert!(region.resize(second, 8, 56));
        assert!(!region.resize(second, 56, 57));
        assert!(region.resize(second, 56, 0));
        assert_eq!(region.take(layout(8, 8)), Some(second));
    }

    #[test]
    fn without_a_region_nothing_is_taken_from_one() {
        let none = Region {
            begin: AtomicUsize::new(0),
            end: AtomicUsize::new(0),
            free: AtomicUsize::new(0),
        };
        assert_eq!(none.take(layout(1, 1)), None);
        assert!(!none.has(0));
    }
}
