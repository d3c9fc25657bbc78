//! Where jobs get their numbers and leases their tokens.

use skep_base::Millis;

/// The newest number given in a shard. Jobs and leases draw from the same row, over all queues, so that neither a number nor
/// a token comes twice or goes back, whatever becomes of the queue (INV-QUEUE-2).
///
/// Part of the state of the shard, not of a queue: a queue that is deleted and made again, renamed or copied goes on with
/// greater numbers. It follows the clock, so that also a shard that begins anew gives greater tokens than one before it
/// gave, unless that one gave more than one number a millisecond for good; a restored queue lifts it above its own.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Numbers(u64);

/// Above every number that clients of 53-bit integers can read, and that a checkpoint may hold.
pub const NUMBER_MAX: u64 = 1 << 53;

/// Above every number in a queue that a client may restore. Such a number lifts all to come above itself; this leaves enough
/// of them for a million a second through a century. Without a limit below [`NUMBER_MAX`] one forged payload would bring the
/// shard to where its own checkpoints are not read back.
pub const RESTORED_MAX: u64 = 1 << 52;

impl Numbers {
    /// The next number: greater than all before, and not below `now` in milliseconds.
    #[inline]
    pub fn next(&mut self, now: Millis) -> u64 {
        self.0 = (self.0 + 1).max(now.0);
        self.0
    }

    /// Makes all numbers to come greater than `seen`.
    #[inline]
    pub fn raise(&mut self, seen: u64) {
        self.0 = self.0.max(seen);
    }

    /// The newest number given; 0 if there is none.
    #[inline]
    pub fn newest(self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_only_grow_whatever_the_clock_says() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.next(Millis(100)), 100);
        assert_eq!(numbers.next(Millis(100)), 101);
        assert_eq!(numbers.next(Millis(50)), 102);
        numbers.raise(1_000);
        numbers.raise(7);
        assert_eq!(numbers.next(Millis(200)), 1_001);
        assert_eq!(numbers.next(Millis(5_000)), 5_000);
    }
}
