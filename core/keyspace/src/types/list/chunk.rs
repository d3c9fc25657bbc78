//! A run of list elements packed into one buffer, readable from both ends.
//!
//! An element lies there as its length (LEB128), its bytes, and the size of these two (LEB128 backwards), so that a walk
//! goes either way. The used part may lie anywhere in the buffer: queues push at one end and pop at the other.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;

/// The size up to which elements share a chunk; a longer element has one for itself. Small enough that moving bytes within a
/// chunk costs less than a microsecond, large enough that its bookkeeping is under 1 % of it.
pub(super) const CHUNK_BYTES: usize = 4096;

#[derive(Clone, Default)]
pub(super) struct Chunk {
    buffer: Buffer,
    /// The used part is `start..end`.
    start: u32,
    end: u32,
    count: u32,
}

const _: () = assert!(size_of::<Chunk>() == 32);

/// The bytes of a chunk. Copies of a shared buffer are the same bytes, until one of them is changed.
#[derive(Clone)]
enum Buffer {
    Own(Box<[u8]>),
    Shared(Arc<Box<[u8]>>),
}

impl Default for Buffer {
    fn default() -> Buffer {
        Buffer::Own(Box::default())
    }
}

impl Deref for Buffer {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Buffer::Own(bytes) => bytes,
            Buffer::Shared(bytes) => bytes,
        }
    }
}

impl DerefMut for Buffer {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        if let Buffer::Shared(bytes) = self {
            let bytes = std::mem::take(bytes);
            *self = Buffer::Own(Arc::try_unwrap(bytes).unwrap_or_else(|shared| (*shared).clone()));
        }
        match self {
            Buffer::Own(bytes) => bytes,
            Buffer::Shared(_) => unreachable!("made its own above"),
        }
    }
}

impl Chunk {
    /// A chunk with room for `bytes` of entries.
    pub fn with_room(bytes: usize) -> Chunk {
        Chunk { buffer: Buffer::Own(vec![0; bytes].into()), ..Chunk::default() }
    }

    /// Makes clones of this chunk share its bytes.
    pub fn share(&mut self) {
        if let Buffer::Own(bytes) = &mut self.buffer {
            self.buffer = Buffer::Shared(Arc::new(std::mem::take(bytes)));
        }
    }

    pub fn count(&self) -> usize {
        self.count as usize
    }

    /// Bytes that the elements take.
    pub fn used(&self) -> usize {
        (self.end - self.start) as usize
    }

    /// Bytes of the buffer.
    pub fn heap_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// True if an element of `len` bytes may join: always if there is none yet.
    pub fn takes(&self, len: usize) -> bool {
        self.count == 0 || self.used() + entry_bytes(len) <= CHUNK_BYTES
    }

    pub fn elements(&self) -> Elements<'_> {
        Elements { entries: self.entries() }
    }

    /// The elements from the one at `offset` on.
    pub fn elements_from(&self, offset: usize) -> Elements<'_> {
        Elements { entries: &self.entries()[offset..] }
    }

    pub fn push_back(&mut self, element: &[u8]) {
        let size = entry_bytes(element.len());
        self.make_room(0, size);
        let at = self.end as usize;
        write_entry(&mut self.buffer[at..at + size], element);
        self.end += size as u32;
        self.count += 1;
    }

    pub fn push_front(&mut self, element: &[u8]) {
        let size = entry_bytes(element.len());
        self.make_room(size, 0);
        let at = self.start as usize;
        write_entry(&mut self.buffer[at - size..at], element);
        self.start -= size as u32;
        self.count += 1;
    }

    /// Drops the first `count` elements, which must be there.
    pub fn drop_front(&mut self, count: usize) {
        let mut elements = self.elements();
        elements.by_ref().take(count).for_each(drop);
        let left = elements.entries.len();
        self.start = self.end - left as u32;
        self.count -= count as u32;
        self.give_back_memory();
    }

    /// Drops the last `count` elements, which must be there.
    pub fn drop_back(&mut self, count: usize) {
        let mut elements = self.elements();
        elements.by_ref().rev().take(count).for_each(drop);
        let left = elements.entries.len();
        self.end = self.start + left as u32;
        self.count -= count as u32;
        self.give_back_memory();
    }

    /// Where the element at `index` starts; `index` may be the count. Cost: O(elements to the nearer end).
    pub fn offset_of(&self, index: usize) -> usize {
        let mut elements = self.elements();
        if index <= self.count() / 2 {
            elements.by_ref().take(index).for_each(drop);
            self.used() - elements.entries.len()
        } else {
            elements.by_ref().rev().take(self.count() - index).for_each(drop);
            elements.entries.len()
        }
    }

    /// Puts `element` before the one at `offset`. The chunk may grow past [`CHUNK_BYTES`]; see [`Chunk::split`].
    pub fn insert(&mut self, offset: usize, element: &[u8]) {
        self.splice(offset, 0, element);
        self.count += 1;
    }

    /// Puts `element` in the place of the one at `offset`. The chunk may grow past [`CHUNK_BYTES`].
    pub fn replace(&mut self, offset: usize, element: &[u8]) {
        let old = self.elements_from(offset).next().expect("an element starts at the offset");
        self.splice(offset, entry_bytes(old.len()), element);
    }

    /// True if the chunk holds too much and can be divided.
    pub fn is_oversized(&self) -> bool {
        self.count > 1 && self.used() > CHUNK_BYTES
    }

    /// The elements in chunks of a bit more than half the size, or one element.
    pub fn split(&self) -> Vec<Chunk> {
        let limit = (self.used() / 8 * 5).min(CHUNK_BYTES);
        let mut parts: Vec<Chunk> = Vec::new();
        for element in self.elements() {
            match parts.last_mut() {
                Some(part) if part.used() + entry_bytes(element.len()) <= limit => part.push_back(element),
                _ => {
                    let mut part = Chunk::default();
                    part.push_back(element);
                    parts.push(part);
                }
            }
        }
        parts
    }

    /// Appends the elements of `next`.
    pub fn append(&mut self, next: &Chunk) {
        self.make_room(0, next.used());
        let at = self.end as usize;
        self.buffer[at..at + next.used()].copy_from_slice(next.entries());
        self.end += next.used() as u32;
        self.count += next.count;
    }

    /// Removes up to `limit` elements equal to `element`, the last ones if `from_back`, and gives their number.
    pub fn remove_equal(&mut self, element: &[u8], limit: usize, from_back: bool) -> usize {
        let matches = self.elements().filter(|e| *e == element).count();
        let removed = matches.min(limit);
        if removed == 0 {
            return 0;
        }
        let kept_first = if from_back { matches - removed } else { 0 };
        let mut kept = Chunk::with_room(self.used() - removed * entry_bytes(element.len()));
        let mut seen = 0;
        for other in self.elements() {
            if other == element {
                seen += 1;
                if seen > kept_first && seen <= kept_first + removed {
                    continue;
                }
            }
            kept.push_back(other);
        }
        *self = kept;
        removed
    }

    /// Gives back room that a chunk in the middle of a list will not use.
    pub fn seal(&mut self) {
        if self.heap_bytes() - self.used() > self.used() / 8 {
            self.move_to(self.used(), 0);
        }
    }

    fn entries(&self) -> &[u8] {
        &self.buffer[self.start as usize..self.end as usize]
    }

    /// Replaces `old` bytes at `offset` by the entry of `element`.
    fn splice(&mut self, offset: usize, old: usize, element: &[u8]) {
        let new = entry_bytes(element.len());
        self.make_room(0, new.saturating_sub(old));
        let at = self.start as usize + offset;
        self.buffer.copy_within(at + old..self.end as usize, at + new);
        write_entry(&mut self.buffer[at..at + new], element);
        self.end = self.end - old as u32 + new as u32;
    }

    /// Makes room for `front` bytes before the used part and `back` behind it; one of them is 0.
    fn make_room(&mut self, front: usize, back: usize) {
        if front <= self.start as usize && back <= self.buffer.len() - self.end as usize {
            return;
        }
        let needed = self.used() + front + back;
        let size = if needed * 2 <= self.buffer.len() {
            self.buffer.len()
        } else if self.count == 0 {
            needed
        } else {
            needed.max((needed + needed / 2).min(CHUNK_BYTES))
        };
        // The spare room goes to the side that grows.
        let start = if front > 0 { size - self.used() } else { 0 };
        self.move_to(size, start);
    }

    /// Puts the used part at `start` of a buffer of `size` bytes.
    fn move_to(&mut self, size: usize, start: usize) {
        let used = self.used();
        if size == self.buffer.len() {
            self.buffer.copy_within(self.start as usize..self.end as usize, start);
        } else {
            let mut buffer = vec![0; size].into_boxed_slice();
            buffer[start..start + used].copy_from_slice(self.entries());
            self.buffer = Buffer::Own(buffer);
        }
        self.start = start as u32;
        self.end = (start + used) as u32;
    }

    fn give_back_memory(&mut self) {
        const NOT_WORTH_IT: usize = 256;
        if self.buffer.len() > NOT_WORTH_IT && self.used() < self.buffer.len() / 4 {
            self.move_to(self.used(), 0);
        }
    }
}

/// The elements of a chunk, from either end.
#[derive(Clone)]
pub(super) struct Elements<'a> {
    entries: &'a [u8],
}

impl<'a> Iterator for Elements<'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        if self.entries.is_empty() {
            return None;
        }
        let mut len = 0;
        let mut header = 0;
        loop {
            let byte = self.entries[header];
            len |= usize::from(byte & 0x7f) << (7 * header);
            header += 1;
            if byte < 0x80 {
                break;
            }
        }
        let element = &self.entries[header..header + len];
        self.entries = &self.entries[header + len + varint_bytes(header + len)..];
        Some(element)
    }
}

impl<'a> DoubleEndedIterator for Elements<'a> {
    #[inline]
    fn next_back(&mut self) -> Option<&'a [u8]> {
        let mut at = self.entries.len();
        if at == 0 {
            return None;
        }
        let mut size = 0;
        for shift in (0..).step_by(7) {
            at -= 1;
            let byte = self.entries[at];
            size |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        let (rest, entry) = self.entries[..at].split_at(at - size);
        self.entries = rest;
        let header = entry.iter().take_while(|b| **b >= 0x80).count() + 1;
        Some(&entry[header..])
    }
}

/// Bytes of an element of `len` bytes in a chunk.
#[inline]
fn entry_bytes(len: usize) -> usize {
    let front = varint_bytes(len) + len;
    front + varint_bytes(front)
}

#[inline]
fn varint_bytes(value: usize) -> usize {
    if value < 0x80 { 1 } else { (usize::BITS - value.leading_zeros()).div_ceil(7) as usize }
}

/// Fills `room`, which has exactly the entry's size.
#[inline]
fn write_entry(room: &mut [u8], element: &[u8]) {
    let header = varint_bytes(element.len());
    let front = header + element.len();
    put_varint(room[..header].iter_mut(), element.len());
    room[header..front].copy_from_slice(element);
    put_varint(room[front..].iter_mut().rev(), front);
}

#[inline]
fn put_varint<'a>(room: impl Iterator<Item = &'a mut u8>, mut value: usize) {
    for byte in room {
        *byte = value as u8 & 0x7f;
        value >>= 7;
        if value > 0 {
            *byte |= 0x80;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_of_every_length_are_read_from_both_ends() {
        let mut chunk = Chunk::default();
        let lens =
            [0, 1, 125, 126, 127, 128, 129, 16_380, 16_381, 16_382, 16_383, 16_384, 2_097_149, 2_097_152];
        for len in lens {
            chunk.push_back(&vec![len as u8; len]);
            chunk.push_front(&vec![!len as u8; len]);
        }
        let forward: Vec<_> = chunk.elements().collect();
        let mut backward: Vec<_> = chunk.elements().rev().collect();
        backward.reverse();
        assert_eq!(forward, backward);
        let expected = lens.iter().rev().chain(&lens);
        assert!(forward.iter().map(|e| e.len()).eq(expected.copied()));
        for index in 0..=forward.len() {
            let rest = chunk.elements_from(chunk.offset_of(index));
            assert!(rest.eq(forward[index..].iter().copied()), "from {index}");
        }
    }
}
