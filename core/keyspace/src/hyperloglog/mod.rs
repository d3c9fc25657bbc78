//! HyperLogLog counters inside string values, byte for byte as Redis lays them out: `HYLL`, an encoding, a cached count, then
//! 16,384 registers of 6 bits (dense) or runs of equal ones (sparse).
//!
//! The format is described in the head of Redis's `hyperloglog.c`; the hash is Austin Appleby's MurmurHash64A; the estimate
//! is Otmar Ertl's ("New cardinality estimation algorithms for HyperLogLog sketches", 2017). Owns no keys.

mod sparse;

/// Registers of a counter.
const REGISTERS: usize = 1 << INDEX_BITS;
/// Bits of the hash that choose the register.
const INDEX_BITS: u32 = 14;
/// Bits of the hash that are counted.
const COUNTED_BITS: u32 = 64 - INDEX_BITS;
const REGISTER_BITS: usize = 6;
const HASH_SEED: u64 = 0xadc8_3b19;

const MAGIC: &[u8; 4] = b"HYLL";
const HEADER_BYTES: usize = 16;
const DENSE_BYTES: usize = HEADER_BYTES + REGISTERS * REGISTER_BITS / 8;
const ENCODING_AT: usize = 4;
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
/// The cached count: 64 bits, little end first; the highest bit says that it is out of date.
const CACHE_AT: usize = 8;
const STALE_AT: usize = 15;
const STALE: u8 = 0x80;

/// The registers' values, by register.
pub type Registers = [u8; REGISTERS];

/// A sparse counter whose runs do not cover the registers exactly.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Corrupted;

/// An empty counter.
pub fn empty() -> Vec<u8> {
    let mut bytes = vec![0; HEADER_BYTES];
    bytes[..MAGIC.len()].copy_from_slice(MAGIC);
    bytes[ENCODING_AT] = SPARSE;
    sparse::put_zeros(&mut bytes, REGISTERS);
    bytes
}

/// No registers set.
pub fn no_registers() -> Box<Registers> {
    vec![0; REGISTERS].try_into().expect("made with that many registers")
}

/// True if `bytes` look like a counter: head, encoding, and the length if it is dense.
pub fn is_counter(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER_BYTES
        && bytes.starts_with(MAGIC)
        && match bytes[ENCODING_AT] {
            DENSE => bytes.len() == DENSE_BYTES,
            encoding => encoding == SPARSE,
        }
}

pub fn is_dense(bytes: &[u8]) -> bool {
    bytes[ENCODING_AT] == DENSE
}

/// Marks the cached count as out of date.
pub fn make_stale(bytes: &mut [u8]) {
    bytes[STALE_AT] |= STALE;
}

/// Adds an element to a counter. True if that changed it. The counter must have passed [`check`].
pub fn add(bytes: &mut Vec<u8>, element: &[u8]) -> bool {
    let (register, value) = register_of(element);
    raise(bytes, register, value)
}

/// Raises a register to `value` if it is lower. True if it was. The counter must have passed [`check`].
pub fn raise(bytes: &mut Vec<u8>, register: usize, value: u8) -> bool {
    if !is_dense(bytes) {
        match sparse::raise(bytes, register, value) {
            sparse::Outcome::Unchanged => return false,
            sparse::Outcome::Raised => return true,
            sparse::Outcome::TooSmall => make_dense(bytes).expect("the counter was checked before"),
        }
    }
    raise_dense(&mut bytes[HEADER_BYTES..], register, value)
}

/// Makes a sparse counter dense; a dense one stays.
pub fn make_dense(bytes: &mut Vec<u8>) -> Result<(), Corrupted> {
    if is_dense(bytes) {
        return Ok(());
    }
    let mut registers = no_registers();
    merge(&mut registers, bytes)?;
    bytes.resize(HEADER_BYTES, 0);
    bytes[ENCODING_AT] = DENSE;
    bytes.resize(DENSE_BYTES, 0);
    for (register, value) in registers.iter().enumerate().filter(|(_, value)| **value > 0) {
        raise_dense(&mut bytes[HEADER_BYTES..], register, *value);
    }
    Ok(())
}

/// Checks that a counter's registers can be read. Cost: O(bytes of a sparse one).
pub fn check(bytes: &[u8]) -> Result<(), Corrupted> {
    if is_dense(bytes) { Ok(()) } else { sparse::each_run(&bytes[HEADER_BYTES..], |_, _| ()) }
}

/// Raises each of `registers` to its value in the counter.
pub fn merge(registers: &mut Registers, bytes: &[u8]) -> Result<(), Corrupted> {
    let body = &bytes[HEADER_BYTES..];
    if !is_dense(bytes) {
        return sparse::each_run(body, |run, value| {
            if value > 0 {
                registers[run].iter_mut().for_each(|register| *register = value.max(*register));
            }
        });
    }
    // Three bytes hold four registers, the first in the lowest bits.
    for (four, packed) in registers.chunks_exact_mut(4).zip(body.chunks_exact(3)) {
        let packed = u32::from_le_bytes([packed[0], packed[1], packed[2], 0]);
        for (at, register) in four.iter_mut().enumerate() {
            *register = (*register).max((packed >> (REGISTER_BITS * at)) as u8 & 0x3f);
        }
    }
    Ok(())
}

/// The estimated number of different elements; the cached one if it is up to date.
pub fn count(bytes: &[u8]) -> Result<u64, Corrupted> {
    if bytes[STALE_AT] & STALE == 0 {
        let cached = bytes[CACHE_AT..HEADER_BYTES].try_into().expect("the cache has eight bytes");
        return Ok(u64::from_le_bytes(cached));
    }
    let mut registers = no_registers();
    merge(&mut registers, bytes)?;
    Ok(estimate(&registers))
}

/// The estimated number of different elements behind `registers`.
pub fn estimate(registers: &Registers) -> u64 {
    // A corrupt dense counter may hold values up to 63; they are counted nowhere, as in Redis.
    let mut with_value = [0u32; 64];
    registers.iter().for_each(|value| with_value[usize::from(value & 0x3f)] += 1);
    let share = |value: u32| f64::from(with_value[value as usize]) / REGISTERS as f64;
    let all = REGISTERS as f64;
    let mut sum = all * tau((all - f64::from(with_value[COUNTED_BITS as usize + 1])) / all);
    for value in (1..=COUNTED_BITS).rev() {
        sum = (sum + f64::from(with_value[value as usize])) * 0.5;
    }
    sum += all * sigma(share(0));
    /// 1 / (2 ln 2)
    const ALPHA: f64 = 0.721_347_520_444_481_7;
    (ALPHA * all * all / sum).round() as u64
}

fn sigma(mut x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut y, mut sum) = (1.0, x);
    loop {
        x *= x;
        let before = sum;
        sum += x * y;
        y += y;
        if sum == before {
            return sum;
        }
    }
}

fn tau(mut x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut y, mut sum) = (1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        let before = sum;
        y *= 0.5;
        sum -= (1.0 - x) * (1.0 - x) * y;
        if sum == before {
            return sum / 3.0;
        }
    }
}

/// The register of an element, and one more than the zeros that its hash shows there.
fn register_of(element: &[u8]) -> (usize, u8) {
    let hash = murmur_64a(element, HASH_SEED);
    let rest = hash >> INDEX_BITS | 1 << COUNTED_BITS;
    (hash as usize % REGISTERS, rest.trailing_zeros() as u8 + 1)
}

fn raise_dense(body: &mut [u8], register: usize, value: u8) -> bool {
    let bit = register * REGISTER_BITS;
    let (at, shift) = (bit / 8, bit % 8);
    let high = body.get(at + 1).copied().unwrap_or(0);
    let mut pair = u16::from_le_bytes([body[at], high]);
    if (pair >> shift) as u8 & 0x3f >= value {
        return false;
    }
    pair = pair & !(0x3f << shift) | u16::from(value) << shift;
    let [low, high] = pair.to_le_bytes();
    body[at] = low;
    if let Some(byte) = body.get_mut(at + 1) {
        *byte = high;
    }
    true
}

/// MurmurHash64A, with words read little end first on every machine.
fn murmur_64a(bytes: &[u8], seed: u64) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    let mut hash = seed ^ (bytes.len() as u64).wrapping_mul(M);
    let words = bytes.chunks_exact(8);
    let rest = words.remainder();
    for word in words {
        let mut k = u64::from_le_bytes(word.try_into().expect("chunks of eight")).wrapping_mul(M);
        k = (k ^ k >> 47).wrapping_mul(M);
        hash = (hash ^ k).wrapping_mul(M);
    }
    if !rest.is_empty() {
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        hash = (hash ^ u64::from_le_bytes(last)).wrapping_mul(M);
    }
    hash = (hash ^ hash >> 47).wrapping_mul(M);
    hash ^ hash >> 47
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_base::{Rng, slot};

    /// Elements added, count, length and CRC16 of the value with an empty cache: as redis-server 7.0.15 gives them.
    const REDIS: [(usize, u64, usize, u16); 12] = [
        (0, 0, 18, 3440),
        (1, 1, 21, 63_746),
        (2, 2, 24, 21_650),
        (10, 10, 48, 4412),
        (100, 100, 287, 8324),
        (500, 499, 1031, 37_740),
        (1000, 1003, 1910, 23_922),
        (1500, 1499, 2709, 48_033),
        (2000, 1988, 12_304, 21_892),
        (5000, 4980, 12_304, 29_285),
        (20_000, 19_988, 12_304, 18_510),
        (100_000, 99_652, 12_304, 58_852),
    ];

    #[test]
    fn bytes_and_counts_are_those_of_redis() {
        let mut bytes = empty();
        let mut added = 0;
        for (elements, expected, len, crc) in REDIS {
            while added < elements {
                add(&mut bytes, format!("element {added}").as_bytes());
                added += 1;
            }
            assert_eq!((bytes.len(), slot::crc16(&bytes)), (len, crc), "after {elements} elements");
            make_stale(&mut bytes);
            assert_eq!(count(&bytes), Ok(expected), "after {elements} elements");
            bytes[STALE_AT] = 0;
        }
    }

    #[test]
    fn a_cached_count_is_believed() {
        let mut bytes = empty();
        bytes[CACHE_AT] = 7;
        assert_eq!(count(&bytes), Ok(7));
        make_stale(&mut bytes);
        assert_eq!(count(&bytes), Ok(0));
    }

    #[test]
    fn sparse_and_dense_hold_the_same_registers() {
        for seed in 0..20 {
            let mut rng = Rng::new(seed);
            let (mut sparse, mut dense) = (empty(), empty());
            make_dense(&mut dense).unwrap();
            let (mut from_sparse, mut from_dense) = (no_registers(), no_registers());
            let neighbourhood = 1 + rng.below(REGISTERS as u64);
            for _ in 0..rng.below(1500) {
                let (register, value) = (rng.below(neighbourhood) as usize, 1 + rng.below(33) as u8);
                assert_eq!(raise(&mut sparse, register, value), raise(&mut dense, register, value));
                check(&sparse).unwrap();
            }
            merge(&mut from_sparse, &sparse).unwrap();
            merge(&mut from_dense, &dense).unwrap();
            assert!(from_sparse == from_dense);
            make_dense(&mut sparse).unwrap();
            assert!(sparse == dense);
        }
    }

    #[test]
    fn damaged_runs_are_noticed() {
        let mut whole = empty();
        for n in 0..50u8 {
            add(&mut whole, &[n]);
        }
        for at in HEADER_BYTES..whole.len() {
            assert_eq!(check(&whole[..at]), Err(Corrupted), "cut at {at}");
        }
        let mut longer = whole.clone();
        longer.push(0);
        assert_eq!(check(&longer), Err(Corrupted));
        assert!(!is_counter(&whole[..HEADER_BYTES - 1]));
        let mut odd = whole.clone();
        odd[ENCODING_AT] = DENSE;
        assert!(!is_counter(&odd));
        odd[ENCODING_AT] = 2;
        assert!(!is_counter(&odd));
        odd[0] = b'h';
        assert!(!is_counter(&odd));
    }
}
