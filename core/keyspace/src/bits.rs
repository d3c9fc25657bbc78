//! Byte strings as arrays of bits, the highest bit of a byte first. Beyond the end every bit is 0.

use std::ops::Range;

/// The bit at `offset`.
pub fn get(bytes: &[u8], offset: usize) -> bool {
    bytes.get(offset / 8).is_some_and(|byte| byte & mask(offset) != 0)
}

/// Sets the bit at `offset`, which lies within `bytes`, and gives what it was.
pub fn set(bytes: &mut [u8], offset: usize, bit: bool) -> bool {
    let byte = &mut bytes[offset / 8];
    let before = *byte & mask(offset) != 0;
    if bit {
        *byte |= mask(offset);
    } else {
        *byte &= !mask(offset);
    }
    before
}

/// Bits set in `range`, which lies within `bytes`.
pub fn count(bytes: &[u8], range: Range<usize>) -> usize {
    let Some((first, inner, last)) = cut(bytes, range) else { return 0 };
    let words = inner.chunks_exact(8);
    let rest = words.remainder();
    let in_words: u64 = words.map(|word| u64::from(word_of(word).count_ones())).sum();
    let ends = first.count_ones() + last.count_ones() + rest.iter().map(|b| b.count_ones()).sum::<u32>();
    in_words as usize + ends as usize
}

/// The first bit of `range` that equals `bit`. The range lies within `bytes`.
pub fn position(bytes: &[u8], range: Range<usize>, bit: bool) -> Option<usize> {
    if range.is_empty() {
        return None;
    }
    // The search is for a set bit in bytes turned by this.
    let turn = if bit { 0 } else { 0xff };
    let first_set = |at: usize, byte: u8| {
        let offset = at * 8 + byte.leading_zeros() as usize;
        range.contains(&offset).then_some(offset)
    };
    let (first, last) = (range.start / 8, (range.end - 1) / 8);
    let head = (bytes[first] ^ turn) & (0xff >> (range.start % 8));
    if head != 0 {
        return first_set(first, head);
    }
    let rest = &bytes[first + 1..=last];
    let words =
        rest.chunks_exact(8).take_while(|word| word_of(word) == u64::from_ne_bytes([turn; 8])).count();
    let at = words * 8 + rest[words * 8..].iter().position(|byte| byte ^ turn != 0)?;
    first_set(first + 1 + at, rest[at] ^ turn)
}

/// The unsigned number in `width` bits (1 to 64) from `offset` on.
pub fn field(bytes: &[u8], offset: usize, width: u32) -> u64 {
    let mut window = 0u128; // nine bytes hold any 64 bits
    for at in offset / 8..offset / 8 + 9 {
        window = window << 8 | u128::from(bytes.get(at).copied().unwrap_or(0));
    }
    (window >> (72 - (offset % 8) as u32 - width)) as u64 & (u64::MAX >> (64 - width))
}

/// Writes the low `width` bits (1 to 64) of `value` from `offset` on, all within `bytes`.
pub fn set_field(bytes: &mut [u8], offset: usize, width: u32, value: u64) {
    let shift = 72 - (offset % 8) as u32 - width;
    let ones = u128::from(u64::MAX >> (64 - width)) << shift;
    let value = u128::from(value) << shift & ones;
    for (step, at) in (offset / 8..offset / 8 + 9).enumerate() {
        let down = 64 - 8 * step as u32;
        let (keep, new) = (!(ones >> down) as u8, (value >> down) as u8);
        if keep != 0xff {
            bytes[at] = bytes[at] & keep | new;
        }
    }
}

fn mask(offset: usize) -> u8 {
    0x80 >> (offset % 8)
}

fn word_of(chunk: &[u8]) -> u64 {
    u64::from_ne_bytes(chunk.try_into().expect("chunks of eight"))
}

/// The first byte of a range with the bits before it cleared, the bytes between, the last byte with the bits behind it
/// cleared (0 if it is the first). `None` for an empty range.
fn cut(bytes: &[u8], range: Range<usize>) -> Option<(u8, &[u8], u8)> {
    if range.is_empty() {
        return None;
    }
    let (first, last) = (range.start / 8, (range.end - 1) / 8);
    let head = 0xff >> (range.start % 8);
    let tail = 0xff << (7 - (range.end - 1) % 8);
    if first == last {
        return Some((bytes[first] & head & tail, &[], 0));
    }
    Some((bytes[first] & head, &bytes[first + 1..last], bytes[last] & tail))
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_base::Rng;

    #[test]
    fn whole_words_and_single_bits_agree() {
        for seed in 0..2000 {
            let mut rng = Rng::new(seed);
            let fill = [0, 0xff, rng.below(256) as u8][rng.below(3) as usize];
            let mut bytes = vec![fill; 1 + rng.below(40) as usize];
            for _ in 0..rng.below(4) {
                let at = rng.below(bytes.len() as u64 * 8) as usize;
                let bit = rng.one_in(2);
                let before = get(&bytes, at);
                assert_eq!(set(&mut bytes, at, bit), before);
                assert_eq!(get(&bytes, at), bit);
            }
            let bits = bytes.len() * 8;
            let start = rng.below(bits as u64 + 1) as usize;
            let end = start + rng.below((bits - start) as u64 + 1) as usize;
            let bytes = &bytes[..];
            let slow = |bit: bool| (start..end).filter(move |at| bit == bit_at(bytes, *at));
            assert_eq!(count(bytes, start..end), slow(true).count(), "{bytes:?} {start}..{end}");
            for bit in [false, true] {
                assert_eq!(
                    position(bytes, start..end, bit),
                    slow(bit).next(),
                    "{bytes:?} {start}..{end} {bit}"
                );
            }
        }
    }

    fn bit_at(bytes: &[u8], at: usize) -> bool {
        bytes[at / 8] >> (7 - at % 8) & 1 == 1
    }

    #[test]
    fn fields_change_no_bit_beside_them() {
        for seed in 0..5000 {
            let mut rng = Rng::new(seed);
            let width = 1 + rng.below(64) as u32;
            let offset = rng.below(80) as usize;
            let mut bytes: Vec<u8> = (0..18).map(|_| rng.next_u64() as u8).collect();
            let before = bytes.clone();
            let value = rng.next_u64() & u64::MAX >> (64 - width);
            set_field(&mut bytes, offset, width, value | !(u64::MAX >> (64 - width)));
            assert_eq!(field(&bytes, offset, width), value);
            for at in (0..18 * 8).filter(|at| !(offset..offset + width as usize).contains(at)) {
                assert_eq!(bit_at(&bytes, at), bit_at(&before, at), "bit {at} beside {offset}+{width}");
            }
        }
        assert_eq!(field(&[0xff], 4, 8), 0xf0);
        assert_eq!(field(&[], 4_294_967_295, 64), 0);
    }
}
