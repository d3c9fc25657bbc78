//! One buffer for each core, into which is read what is written on at once: who waits for bytes holds no room for them.

use std::cell::RefCell;

/// The largest datagram, and as much as is read of a stream at once.
pub(crate) const SCRATCH_BYTES: usize = 64 << 10;

thread_local! {
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH_BYTES].into_boxed_slice());
}

/// Gives `with` the core's buffer, with anything in it. Panics if that is in use already.
pub(crate) fn scratch<T>(with: impl FnOnce(&mut [u8]) -> T) -> T {
    SCRATCH.with_borrow_mut(|buffer| with(buffer))
}
