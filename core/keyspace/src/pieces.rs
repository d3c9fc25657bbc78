//! The checkpoint form of values, whole or in pieces.
//!
//! A value of thousands of elements would stall the loop if it were written at once. So a cut takes hold of it as it is,
//! which costs a pointer for each chunk, and writes some elements of it in each step, while commands change the value.

use skep_base::varint::{self, Malformed, Reader};

use crate::segments::{SHORT_MAX, Segments};
use crate::types::{Hash, List, Queue, Set, Str, Stream, ZSet};
use crate::value::{Kind, Typed, Value, each};

/// A collection of more elements is written in pieces. Part of what digests depend on. Above what arrays keep in one piece, so
/// that taking hold of it copies no elements.
pub(crate) const LARGE_ELEMENTS: usize = SHORT_MAX;

/// Bytes in a piece of a large value, but for the element that passes the limit. Part of what digests depend on.
const PIECE_BYTES: usize = 64 << 10;

/// What a value is written as: its elements one behind the other. Those of a string are its bytes.
pub trait Elements {
    fn count(&self) -> usize;

    /// Appends the elements from position `from` on until `bytes` are written or none is left, and gives the position of the
    /// next. Writes one at least if there is one.
    fn encode_from(&self, from: usize, bytes: usize, out: &mut Vec<u8>) -> usize;
}

/// A large value held as it was.
pub type Frozen = Box<dyn Elements + Send>;

/// An element of a collection without anything beside it.
pub(crate) trait Element {
    fn encode(&self, out: &mut Vec<u8>);
}

impl<T: Element> Elements for Segments<T> {
    fn count(&self) -> usize {
        self.len()
    }

    fn encode_from(&self, from: usize, bytes: usize, out: &mut Vec<u8>) -> usize {
        from + encode_some(self.range(from..self.len()), bytes, out, |element, out| element.encode(out))
    }
}

/// Appends elements until `bytes` are written, and gives their number.
pub(crate) fn encode_some<T>(
    elements: impl Iterator<Item = T>,
    bytes: usize,
    out: &mut Vec<u8>,
    mut encode: impl FnMut(T, &mut Vec<u8>),
) -> usize {
    let start = out.len();
    let mut count = 0;
    for element in elements {
        encode(element, out);
        count += 1;
        if out.len() - start >= bytes {
            break;
        }
    }
    count
}

impl Kind {
    /// Part of the checkpoint format.
    fn tag(self) -> u8 {
        match self {
            Kind::Str => 0,
            Kind::List => 1,
            Kind::Hash => 2,
            Kind::Set => 3,
            Kind::ZSet => 4,
            Kind::Queue => 5,
            Kind::Stream => 6,
        }
    }
}

impl Value {
    /// Appends the value's checkpoint form: a type tag, the number of elements, the elements.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.kind().tag());
        each!(self, v => v.encode(out));
    }

    /// Reads what [`Value::encode`] and [`Value::encode_first`] write.
    pub fn decode(input: &mut Reader<'_>) -> Result<Value, Malformed> {
        Ok(match input.u8()? {
            0 => Str::decode(input)?.into_value(),
            1 => List::decode(input)?.into_value(),
            2 => Hash::decode(input)?.into_value(),
            3 => Set::decode(input)?.into_value(),
            4 => ZSet::decode(input)?.into_value(),
            5 => Queue::decode(input)?.into_value(),
            6 => Stream::decode(input)?.into_value(),
            _ => return input.malformed("a value type of 0 to 6"),
        })
    }

    /// True if the value is written in pieces. Follows from its content alone.
    #[inline]
    pub(crate) fn is_large(&self) -> bool {
        each!(self, v => v.is_large())
    }

    /// Holds a large value as it is. Cost: O(chunks).
    pub(crate) fn freeze(&mut self) -> Frozen {
        each!(self, v => v.freeze())
    }

    pub(crate) fn elements(&self) -> &dyn Elements {
        each!(self, v => v.elements())
    }

    /// Appends the checkpoint form of a value that consists of the first element of this one, which is large. The others
    /// follow in pieces from position 1 on.
    pub(crate) fn encode_first(&self, out: &mut Vec<u8>) {
        out.push(self.kind().tag());
        varint::put(out, 1);
        self.elements().encode_from(0, 1, out);
    }

    /// Adds the elements of a piece that [`encode_piece`] wrote.
    pub(crate) fn decode_piece(&mut self, input: &mut Reader<'_>) -> Result<(), Malformed> {
        if input.u8()? != self.kind().tag() {
            return input.malformed("a piece of the same type as the value");
        }
        let count = input.u32()? as usize;
        each!(self, v => v.decode_elements(count, input))
    }
}

/// Appends a piece of a large value: type tag, number of elements as u32, the elements from `from` on. Gives the position
/// behind them.
pub(crate) fn encode_piece(kind: Kind, elements: &dyn Elements, from: usize, out: &mut Vec<u8>) -> usize {
    out.push(kind.tag());
    let count_at = out.len();
    out.extend_from_slice(&[0; 4]);
    let next = elements.encode_from(from, PIECE_BYTES, out);
    let count = u32::try_from(next - from).expect("a piece has fewer elements than a map");
    out[count_at..count_at + 4].copy_from_slice(&count.to_le_bytes());
    next
}
