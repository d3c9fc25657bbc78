//! Counts the bytes that the process has allocated, for `maxmemory`.
//!
//! Each thread counts for itself and passes on what has come together, so that the counter costs no contention; the total
//! is exact up to [`BYTES_KEPT_MAX`] for each thread.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, Ordering};

use mimalloc::MiMalloc;

/// What a thread keeps to itself at the most.
const BYTES_KEPT_MAX: i64 = 64 << 10;

static TOTAL: AtomicI64 = AtomicI64::new(0);

thread_local! {
    static OWN: Cell<i64> = const { Cell::new(0) };
}

/// mimalloc, with a count of the bytes asked for.
pub struct CountingAllocator;

// SAFETY: every call is passed on as it came; counting allocates nothing (a constant thread-local without destructor).
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { MiMalloc.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        unsafe { MiMalloc.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        count(new_size as i64 - layout.size() as i64);
        unsafe { MiMalloc.realloc(pointer, layout, new_size) }
    }
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
