//! The one hash of table keys. No table order ever reaches a reply, the log or a checkpoint, so the seed is free: the
//! shell sets a secret one at start ([`set_process_seed`]) against clients that choose colliding keys; simulations leave
//! it alone.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::rng::mix;

static PROCESS_SEED: AtomicU64 = AtomicU64::new(0x0005_6b65_7000);

/// Sets the seed of [`of`]. To be called before the first table is made: a table does not survive a change.
pub fn set_process_seed(seed: u64) {
    PROCESS_SEED.store(seed, Ordering::Relaxed);
}

/// The hash of a table key under the process's seed.
#[inline]
pub fn of(bytes: &[u8]) -> u64 {
    seeded(PROCESS_SEED.load(Ordering::Relaxed), bytes)
}

const K: u64 = 0x9e37_79b9_7f4a_7c15;

/// A 64-bit hash of `bytes` under `seed`: a folded 64x64 multiply over words (as in wyhash and foldhash).
#[inline]
pub fn seeded(seed: u64, bytes: &[u8]) -> u64 {
    let mut h = seed ^ (bytes.len() as u64).wrapping_mul(K);
    let mut chunks = bytes.chunks_exact(16);
    for c in &mut chunks {
        h = fold(word(&c[..8]) ^ h, word(&c[8..]) ^ K);
    }
    let rest = chunks.remainder();
    let (a, b) = match rest.len() {
        0 => (0, 0),
        n @ 1..=3 => {
            (u64::from(rest[0]) | u64::from(rest[n / 2]) << 8 | u64::from(rest[n - 1]) << 16, n as u64)
        }
        n @ 4..=7 => (half(&rest[..4]), half(&rest[n - 4..])),
        n => (word(&rest[..8]), word(&rest[n - 8..])),
    };
    mix(fold(a ^ h, b ^ K ^ seed.rotate_left(32)))
}

#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

#[inline]
fn word(b: &[u8]) -> u64 {
    u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]])
}

#[inline]
fn half(b: &[u8]) -> u64 {
    u64::from(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn short_and_long_keys_spread() {
        let hashes: BTreeSet<u64> =
            (0..100_000u32).map(|i| seeded(7, format!("key:{i}").as_bytes()) >> 32).collect();
        assert!(hashes.len() > 99_990, "{} of 100000 distinct in the high half", hashes.len());
        assert_ne!(seeded(1, b""), seeded(2, b""));
        assert_ne!(seeded(1, b"a\0"), seeded(1, b"a"));
    }
}
