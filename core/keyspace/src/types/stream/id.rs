//! Ids of stream entries: a time in milliseconds and a number among the entries of that time.

use std::fmt;

use skep_base::number;
use skep_base::varint::{self, Malformed, Reader};

/// The id of an entry. Ordered by time, then by number; the entries of a stream have ascending ids.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug)]
pub struct StreamId {
    /// Milliseconds, by the clock of whoever chose the id.
    pub ms: u64,
    pub seq: u64,
}

/// The longest text of an id: two numbers of 20 digits and the `-` between.
pub const ID_TEXT_MAX: usize = 41;

impl StreamId {
    /// `0-0`: no entry has it.
    pub const ZERO: StreamId = StreamId { ms: 0, seq: 0 };
    pub const MAX: StreamId = StreamId { ms: u64::MAX, seq: u64::MAX };

    pub const fn new(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    /// The id behind this one; `None` behind the last.
    pub fn next(self) -> Option<StreamId> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(StreamId { ms: self.ms, seq }),
            None => Some(StreamId { ms: self.ms.checked_add(1)?, seq: 0 }),
        }
    }

    /// The id in front of this one; `None` in front of the first.
    pub fn previous(self) -> Option<StreamId> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(StreamId { ms: self.ms, seq }),
            None => Some(StreamId { ms: self.ms.checked_sub(1)?, seq: u64::MAX }),
        }
    }

    /// The id as text, `ms-seq`, in `room`.
    pub fn text(self, room: &mut [u8; ID_TEXT_MAX]) -> &[u8] {
        let mut len = put_u64(room, 0, self.ms);
        room[len] = b'-';
        len = put_u64(room, len + 1, self.seq);
        &room[..len]
    }

    /// The 16 bytes that sort as the id does.
    pub fn to_be_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.ms.to_be_bytes());
        bytes[8..].copy_from_slice(&self.seq.to_be_bytes());
        bytes
    }

    /// Reads what [`StreamId::to_be_bytes`] makes.
    pub fn from_be_bytes(bytes: [u8; 16]) -> StreamId {
        let both = u128::from_be_bytes(bytes);
        StreamId { ms: (both >> 64) as u64, seq: both as u64 }
    }

    pub(super) fn encode(self, out: &mut Vec<u8>) {
        varint::put(out, self.ms);
        varint::put(out, self.seq);
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<StreamId, Malformed> {
        Ok(StreamId { ms: input.varint()?, seq: input.varint()? })
    }
}

/// Writes `value` at `at` and gives the place behind it.
fn put_u64(room: &mut [u8; ID_TEXT_MAX], at: usize, value: u64) -> usize {
    let mut digits = [0; 20];
    let text = number::format_u64(value, &mut digits);
    room[at..at + text.len()].copy_from_slice(text);
    at + text.len()
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_and_neighbours_of_ids() {
        let table = [
            (StreamId::ZERO, Some(StreamId::new(0, 1)), None),
            (StreamId::new(1, 0), Some(StreamId::new(1, 1)), Some(StreamId::new(0, u64::MAX))),
            (StreamId::new(7, u64::MAX), Some(StreamId::new(8, 0)), Some(StreamId::new(7, u64::MAX - 1))),
            (StreamId::MAX, None, Some(StreamId::new(u64::MAX, u64::MAX - 1))),
        ];
        for (id, next, previous) in table {
            assert_eq!((id.next(), id.previous()), (next, previous), "{id}");
            assert_eq!(id.text(&mut [0; ID_TEXT_MAX]), id.to_string().as_bytes());
            assert_eq!(StreamId::from_be_bytes(id.to_be_bytes()), id);
        }
        let middle = StreamId::new(1 << 63, 10_000_000_000_000_000_000);
        assert_eq!(middle.text(&mut [0; ID_TEXT_MAX]), b"9223372036854775808-10000000000000000000");
    }
}
