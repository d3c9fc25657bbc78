//! Counts the bytes that the process has allocated, for `maxmemory`.
//!
//! Each thread counts for itself and passes on what has come together, so that the counter costs no contention; the total
//! is exact up to [`BYTES_KEPT_MAX`] for each thread.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicI64, Ordering};

use libmimalloc_sys as mi;

/// What a thread keeps to itself at the most.
const BYTES_KEPT_MAX: i64 = 64 << 10;

static TOTAL: AtomicI64 = AtomicI64::new(0);

thread_local! {
    static OWN: Cell<i64> = const { Cell::new(0) };
}

/// Bytes to which mimalloc aligns each block that is no smaller (its `MI_MAX_ALIGN_SIZE`); smaller ones have 8 bytes and are
/// aligned to that.
const BLOCKS_ALIGNED_TO: usize = 16;

/// mimalloc, with a count of the bytes asked for.
///
/// Asks for an alignment only where blocks do not have it anyway. The crate `mimalloc` always does, and its version 3 then takes
/// sizes that are no power of two the long way (`mi_theap_malloc_zero_aligned_at_overalloc`) as often as a page's free list is
/// empty, from larger blocks.
pub struct CountingAllocator;

// SAFETY: every call is passed on with a layout that the block it gets has; counting allocates nothing (a constant thread-local
// without destructor).
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        match is_aligned_anyway(layout.size(), layout.align()) {
            // SAFETY: these two, and those below, may be called with any size and any alignment that is a power of two.
            true => unsafe { mi::mi_malloc(layout.size()) as *mut u8 },
            false => unsafe { mi::mi_malloc_aligned(layout.size(), layout.align()) as *mut u8 },
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: it came from here.
        unsafe { mi::mi_free(pointer as *mut c_void) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        match is_aligned_anyway(layout.size(), layout.align()) {
            true => unsafe { mi::mi_zalloc(layout.size()) as *mut u8 },
            false => unsafe { mi::mi_zalloc_aligned(layout.size(), layout.align()) as *mut u8 },
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size as i64 - layout.size() as i64);
        let pointer = pointer as *mut c_void;
        match is_aligned_anyway(new_size, layout.align()) {
            // SAFETY: it came from here, by either way, and the new block is judged by its own size.
            true => unsafe { mi::mi_realloc(pointer, new_size) as *mut u8 },
            false => unsafe { mi::mi_realloc_aligned(pointer, new_size, layout.align()) as *mut u8 },
        }
    }
}

/// Whether every block of mimalloc for so many bytes has this alignment.
#[inline]
fn is_aligned_anyway(size: usize, align: usize) -> bool {
    align <= 8 || align <= BLOCKS_ALIGNED_TO && size >= BLOCKS_ALIGNED_TO
}

/// Bytes allocated and not freed by the whole process.
pub fn allocated() -> u64 {
    TOTAL.load(Ordering::Relaxed).max(0) as u64
}

#[inline]
fn count(bytes: i64) {
    OWN.with(|own| {
        let sum = own.get() + bytes;
        if sum.abs() < BYTES_KEPT_MAX {
            own.set(sum);
        } else {
            own.set(0);
            TOTAL.fetch_add(sum, Ordering::Relaxed);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of each layout, alive at once.
    const BLOCKS: usize = 64;

    #[test]
    fn blocks_have_the_alignment_that_was_asked_for_and_keep_their_bytes() {
        for align in (0..8).map(|power| 1usize << power) {
            for size in (1..300).chain([511, 1000, 1025, 4097, 70_000]) {
                let layout = Layout::from_size_align(size, align).unwrap();
                let grown = Layout::from_size_align(size + size / 2 + 1, align).unwrap();
                let check = |pointer: *mut u8| {
                    assert_eq!(pointer as usize % align, 0, "{layout:?}");
                    pointer
                };
                // Of a page of blocks the first are aligned by chance.
                let blocks: Vec<_> = (0..BLOCKS)
                    .map(|_| unsafe {
                        let one = check(CountingAllocator.alloc(layout));
                        let zeroed = check(CountingAllocator.alloc_zeroed(layout));
                        assert!((0..size).all(|at| *zeroed.add(at) == 0), "{layout:?}");
                        one.write_bytes(7, size);
                        (one, zeroed)
                    })
                    .collect();
                for (one, zeroed) in blocks {
                    unsafe {
                        let one = check(CountingAllocator.realloc(one, layout, grown.size()));
                        assert!((0..size).all(|at| *one.add(at) == 7), "{layout:?}");
                        let small = check(CountingAllocator.realloc(zeroed, layout, 1));
                        CountingAllocator.dealloc(one, grown);
                        CountingAllocator.dealloc(small, Layout::from_size_align(1, align).unwrap());
                    }
                }
            }
        }
    }
}
