//! Redis's packed form of small collections, as far as it is measured and written here: how many bytes an element takes, and
//! packs for `DUMP`. Reading them is the business of `rdb/packs.rs`.
//!
//! Source: the listpack specification (encoding, data, length backwards).

use skep_base::number;

/// Bytes before the first element: the size of the pack and a count.
pub(crate) const HEAD_BYTES: usize = 6;
/// Bytes of an empty pack: its head, and a mark at its end.
pub(crate) const FRAME_BYTES: usize = HEAD_BYTES + 1;

const END: u8 = 0xff;
/// Stands for a count that does not fit 16 bits.
const COUNT_UNKNOWN: u16 = u16::MAX;

/// Bytes that `element` takes.
pub(crate) fn element_bytes(element: &[u8]) -> usize {
    match number::parse_i64(element) {
        Some(value) => int_bytes(value),
        None => {
            let len = element.len();
            with_back_length(
                len + match len {
                    0..=63 => 1,
                    64..=4095 => 2,
                    _ => 5,
                },
            )
        }
    }
}

/// Bytes that an integer takes.
pub(crate) fn int_bytes(value: i64) -> usize {
    with_back_length(match value {
        0..=127 => 1,
        -4096..=4095 => 2,
        -32_768..=32_767 => 3,
        -8_388_608..=8_388_607 => 4,
        -2_147_483_648..=2_147_483_647 => 5,
        _ => 9,
    })
}

fn with_back_length(front: usize) -> usize {
    front + back_length_bytes(front)
}

fn back_length_bytes(front: usize) -> usize {
    match front {
        0..=127 => 1,
        128..=16_382 => 2,
        16_383..=2_097_150 => 3,
        2_097_151..=268_435_454 => 4,
        _ => 5,
    }
}

/// A pack being written.
pub(crate) struct Listpack {
    bytes: Vec<u8>,
    count: usize,
}

impl Listpack {
    pub fn new() -> Listpack {
        Listpack { bytes: vec![0; HEAD_BYTES], count: 0 }
    }

    /// Adds an element, as a number where its text is one.
    pub fn push(&mut self, element: &[u8]) {
        if let Some(value) = number::parse_i64(element) {
            return self.push_int(value);
        }
        let start = self.bytes.len();
        let len = element.len();
        match len {
            0..=63 => self.bytes.push(0x80 | len as u8),
            64..=4095 => self.bytes.extend_from_slice(&[0xe0 | (len >> 8) as u8, len as u8]),
            _ => {
                self.bytes.push(0xf0);
                self.bytes.extend_from_slice(&(len as u32).to_le_bytes());
            }
        }
        self.bytes.extend_from_slice(element);
        self.end_element(start);
    }

    pub fn push_int(&mut self, value: i64) {
        let start = self.bytes.len();
        match value {
            0..=127 => self.bytes.push(value as u8),
            -4096..=4095 => {
                let bits = value as u16 & 0x1fff;
                self.bytes.extend_from_slice(&[0xc0 | (bits >> 8) as u8, bits as u8]);
            }
            -32_768..=32_767 => self.put_int(0xf1, value, 2),
            -8_388_608..=8_388_607 => self.put_int(0xf2, value, 3),
            -2_147_483_648..=2_147_483_647 => self.put_int(0xf3, value, 4),
            _ => self.put_int(0xf4, value, 8),
        }
        self.end_element(start);
    }

    fn put_int(&mut self, first: u8, value: i64, width: usize) {
        self.bytes.push(first);
        self.bytes.extend_from_slice(&value.to_le_bytes()[..width]);
    }

    /// Appends the length of what was written since `start`, in groups of 7 bits to be read backwards.
    fn end_element(&mut self, start: usize) {
        let front = self.bytes.len() - start;
        for group in (0..back_length_bytes(front)).rev() {
            let bits = (front >> (7 * group)) as u8 & 0x7f;
            let more = front >> (7 * (group + 1)) == 0;
            self.bytes.push(if more { bits } else { bits | 0x80 });
        }
        self.count += 1;
    }

    /// The finished pack.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.push(END);
        let size = self.bytes.len() as u32;
        let count = u16::try_from(self.count).unwrap_or(COUNT_UNKNOWN);
        self.bytes[..4].copy_from_slice(&size.to_le_bytes());
        self.bytes[4..HEAD_BYTES].copy_from_slice(&count.to_le_bytes());
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rdb::listpack_elements;

    #[test]
    fn packs_are_read_as_they_were_written_and_have_the_size_foretold() {
        let numbers = [0, 1, 127, 128, -1, 4095, -4096, 4096, 32_767, -32_768, 8_388_607, -8_388_608];
        let wide = [2_147_483_647, -2_147_483_648, 2_147_483_648, i64::MAX, i64::MIN];
        let mut elements: Vec<Vec<u8>> =
            numbers.iter().chain(&wide).map(|n| n.to_string().into_bytes()).collect();
        elements
            .extend([0, 63, 64, 125, 126, 127, 128, 4095, 4096, 16_380, 70_000].map(|len| vec![b'x'; len]));
        let mut all = Listpack::new();
        for element in &elements {
            let mut one = Listpack::new();
            one.push(element);
            assert_eq!(one.finish().len(), FRAME_BYTES + element_bytes(element), "{}", element.len());
            all.push(element);
        }
        let pack = all.finish();
        let read: Result<Vec<_>, _> = listpack_elements(&pack).unwrap().collect();
        assert!(read.unwrap().iter().map(|e| e.to_vec()).eq(elements));
    }
}
