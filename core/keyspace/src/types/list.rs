//! List values: a deque of chunks, in which elements lie packed.
//!
//! A list of any length grows by chunks of a few KiB, so that no push ever copies it; an 8-byte element takes 10 bytes.
//! Walks to an index skip whole chunks. Owns no knowledge of commands.

mod chunk;

use std::collections::VecDeque;

use skep_base::varint::{self, Malformed, Reader};

use crate::keyspace::Encodings;
use crate::listpack;
use crate::pieces::{Elements, Frozen, encode_some};
use crate::value::{Typed, Value, typed_access};
use chunk::{CHUNK_BYTES, Chunk};

/// An end of a list.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    Left,
    Right,
}

/// Elements in order. No chunk is empty.
#[derive(Clone, Default)]
pub struct List {
    chunks: VecDeque<Chunk>,
    len: usize,
}

#[allow(clippy::len_without_is_empty)] // Typed has it
impl List {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &[u8]> + Clone {
        self.chunks.iter().flat_map(Chunk::elements)
    }

    /// The elements from `index` on. Cost: O(chunks to the nearer end) before the first.
    pub fn iter_from(&self, index: usize) -> impl Iterator<Item = &[u8]> {
        let (first, within) = self.locate(index);
        let head = self.chunks.get(first).map(|chunk| chunk.elements_from(chunk.offset_of(within)));
        head.into_iter()
            .flatten()
            .chain(self.chunks.range((first + 1).min(self.chunks.len())..).flat_map(Chunk::elements))
    }

    /// The element at `index`, or `None` past the end. Cost: O(chunks to the nearer end).
    pub fn get(&self, index: usize) -> Option<&[u8]> {
        self.iter_from(index).next()
    }

    /// The outermost element of `end`.
    pub fn peek(&self, end: End) -> Option<&[u8]> {
        match end {
            End::Left => self.chunks.front()?.elements().next(),
            End::Right => self.chunks.back()?.elements().next_back(),
        }
    }

    /// Adds an element at `end`. Cost: O(1).
    pub fn push(&mut self, end: End, element: &[u8]) {
        let outer = match end {
            End::Left => self.chunks.front_mut(),
            End::Right => self.chunks.back_mut(),
        };
        let chunk = match outer {
            Some(chunk) if chunk.takes(element.len()) => chunk,
            outer => {
                if let Some(full) = outer {
                    full.seal();
                }
                self.add_chunk(end)
            }
        };
        match end {
            End::Left => chunk.push_front(element),
            End::Right => chunk.push_back(element),
        }
        self.len += 1;
    }

    /// Drops up to `count` elements at `end`. Cost: O(chunks dropped).
    pub fn drop(&mut self, end: End, count: usize) {
        let mut left = count.min(self.len);
        self.len -= left;
        while left > 0 {
            let outer = match end {
                End::Left => self.chunks.front_mut(),
                End::Right => self.chunks.back_mut(),
            };
            let chunk = outer.expect("chunks hold as many elements as the list has");
            if chunk.count() > left {
                match end {
                    End::Left => chunk.drop_front(left),
                    End::Right => chunk.drop_back(left),
                }
                break;
            }
            left -= chunk.count();
            match end {
                End::Left => self.chunks.pop_front(),
                End::Right => self.chunks.pop_back(),
            };
        }
        if self.chunks.capacity() > 16 && self.chunks.len() < self.chunks.capacity() / 4 {
            self.chunks.shrink_to(self.chunks.len() * 2);
        }
    }

    /// Puts `element` in the place of the one at `index`, which must be there.
    pub fn set(&mut self, index: usize, element: &[u8]) {
        assert!(index < self.len, "element {index} of {} set", self.len);
        let (at, within) = self.locate(index);
        let chunk = &mut self.chunks[at];
        chunk.replace(chunk.offset_of(within), element);
        self.settle(at);
    }

    /// Puts `element` before the one at `index`; at the end if `index` is the length.
    pub fn insert(&mut self, index: usize, element: &[u8]) {
        assert!(index <= self.len, "element inserted at {index} of {}", self.len);
        if index == self.len {
            return self.push(End::Right, element);
        }
        let (at, within) = self.locate(index);
        let chunk = &mut self.chunks[at];
        chunk.insert(chunk.offset_of(within), element);
        self.len += 1;
        self.settle(at);
    }

    /// Removes up to `limit` elements equal to `element`, the nearest to `end` first, and gives their number.
    pub fn remove(&mut self, element: &[u8], limit: usize, end: End) -> usize {
        let mut removed = 0;
        let mut changed = 0;
        let mut last_changed = 0;
        for step in 0..self.chunks.len() {
            if removed == limit {
                break;
            }
            let at = if end == End::Left { step } else { self.chunks.len() - 1 - step };
            let count = self.chunks[at].remove_equal(element, limit - removed, end == End::Right);
            if count > 0 {
                removed += count;
                changed += 1;
                last_changed = at;
            }
        }
        self.len -= removed;
        match changed {
            0 => {}
            1 => self.settle(last_changed),
            _ => self.merge_all(),
        }
        removed
    }

    /// What `OBJECT ENCODING` says: `listpack` while one would hold all elements. Redis goes back from `quicklist` only at
    /// half the limit; here the content alone decides. Cost: O(the limit), at most 64 KiB.
    pub fn encoding(&self, limits: &Encodings) -> &'static str {
        /// Redis's limit on bytes where elements are counted.
        const SAFETY_LIMIT: usize = 8192;
        let (bytes_max, count_max) = match limits.list_max_listpack_size {
            n if n >= 0 => (SAFETY_LIMIT, n as usize),
            n => (4096 << (n.unsigned_abs() - 1).min(4), usize::MAX),
        };
        if self.len > count_max {
            return "quicklist";
        }
        let mut bytes = listpack::FRAME_BYTES;
        for element in self.iter() {
            bytes += listpack::element_bytes(element);
            if bytes > bytes_max {
                return "quicklist";
            }
        }
        "listpack"
    }

    /// Panics if counts and chunks disagree.
    pub fn assert_invariants(&self) {
        let counted: usize = self.chunks.iter().map(Chunk::count).sum();
        assert_eq!(counted, self.len, "elements counted by chunk");
        for chunk in &self.chunks {
            assert!(chunk.count() > 0, "an empty chunk");
            assert!(!chunk.is_oversized(), "{} elements in {} bytes", chunk.count(), chunk.used());
            assert_eq!(chunk.elements().count(), chunk.count(), "elements in a chunk");
        }
    }

    /// The chunk of the element at `index` and the index within it; past the last chunk if there is none.
    fn locate(&self, index: usize) -> (usize, usize) {
        if index >= self.len {
            return (self.chunks.len(), 0);
        }
        if index <= self.len / 2 {
            let mut before = 0;
            for (at, chunk) in self.chunks.iter().enumerate() {
                if index < before + chunk.count() {
                    return (at, index - before);
                }
                before += chunk.count();
            }
        } else {
            let mut start = self.len;
            for (at, chunk) in self.chunks.iter().enumerate().rev() {
                start -= chunk.count();
                if index >= start {
                    return (at, index - start);
                }
            }
        }
        panic!("chunks hold fewer than {} elements", self.len);
    }

    /// A new chunk at `end`.
    fn add_chunk(&mut self, end: End) -> &mut Chunk {
        // The first chunk fits what comes; further ones will be filled.
        let chunk = if self.chunks.is_empty() {
            self.chunks.reserve_exact(1);
            Chunk::default()
        } else {
            Chunk::with_room(CHUNK_BYTES / 4)
        };
        match end {
            End::Left => {
                self.chunks.push_front(chunk);
                &mut self.chunks[0]
            }
            End::Right => {
                self.chunks.push_back(chunk);
                self.chunks.back_mut().expect("pushed above")
            }
        }
    }

    /// After a change in the middle: divides the chunk at `at` if it is too large, joins it with a neighbour if both are
    /// small, drops it if it is empty.
    fn settle(&mut self, at: usize) {
        let chunk = &self.chunks[at];
        if chunk.is_oversized() {
            let parts = chunk.split();
            self.chunks.remove(at);
            for part in parts.into_iter().rev() {
                self.chunks.insert(at, part);
            }
        } else if chunk.count() == 0 {
            self.chunks.remove(at);
        } else if at > 0 && self.fit_together(at - 1) {
            self.merge_at(at - 1);
        } else if self.fit_together(at) {
            self.merge_at(at);
        }
    }

    /// True if the chunks at `at` and behind it fill at most half of one.
    fn fit_together(&self, at: usize) -> bool {
        self.chunks.get(at + 1).is_some_and(|next| self.chunks[at].used() + next.used() <= CHUNK_BYTES / 2)
    }

    fn merge_at(&mut self, at: usize) {
        let next = self.chunks.remove(at + 1).expect("fit_together found it");
        self.chunks[at].append(&next);
    }

    /// Drops empty chunks and joins small neighbours.
    fn merge_all(&mut self) {
        let chunks = std::mem::take(&mut self.chunks);
        for chunk in chunks.into_iter().filter(|c| c.count() > 0) {
            match self.chunks.back_mut() {
                Some(last) if last.used() + chunk.used() <= CHUNK_BYTES / 2 => last.append(&chunk),
                _ => self.chunks.push_back(chunk),
            }
        }
    }
}

impl Elements for List {
    fn count(&self) -> usize {
        self.len
    }

    /// Cost: O(chunks to the nearer end) before the first.
    fn encode_from(&self, from: usize, bytes: usize, out: &mut Vec<u8>) -> usize {
        let put = |element: &[u8], out: &mut Vec<u8>| varint::put_bytes(out, element);
        match from {
            0 => encode_some(self.iter(), bytes, out, put),
            _ => from + encode_some(self.iter_from(from), bytes, out, put),
        }
    }
}

impl Typed for List {
    typed_access!(List, boxed);

    fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn elements(&self) -> &dyn Elements {
        self
    }

    fn decode_elements(&mut self, count: usize, input: &mut Reader<'_>) -> Result<(), Malformed> {
        for _ in 0..count {
            self.push(End::Right, input.bytes()?);
        }
        Ok(())
    }

    fn freeze(&mut self) -> Frozen {
        self.chunks.iter_mut().for_each(Chunk::share);
        Box::new(self.clone())
    }

    /// The inner chunks are taken to be as full as the last but one. Cost: O(1).
    fn heap_bytes(&self) -> usize {
        let bytes = |at: usize| self.chunks.get(at).map_or(0, Chunk::heap_bytes);
        let last = self.chunks.len().saturating_sub(1);
        let inner = last.saturating_sub(1) * bytes(last.saturating_sub(1));
        let outer = bytes(0) + if last > 0 { bytes(last) } else { 0 };
        size_of::<List>() + self.chunks.capacity() * size_of::<Chunk>() + inner + outer
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_base::Rng;

    fn element(rng: &mut Rng) -> Vec<u8> {
        let len = match rng.below(20) {
            0 => rng.below(6000),
            1..4 => rng.below(300),
            _ => rng.below(12),
        };
        vec![b'a' + rng.below(4) as u8; len as usize]
    }

    fn end(rng: &mut Rng) -> End {
        if rng.one_in(2) { End::Left } else { End::Right }
    }

    #[test]
    fn behaves_as_a_deque_under_random_operations() {
        for seed in 0..40 {
            let mut rng = Rng::new(seed);
            let mut list = List::default();
            let mut model: VecDeque<Vec<u8>> = VecDeque::new();
            for step in 0..1500 {
                let value = element(&mut rng);
                let index = rng.below(model.len() as u64 + 1) as usize;
                match rng.below(if step % 500 < 300 { 8 } else { 12 }) {
                    0..3 => {
                        list.push(End::Right, &value);
                        model.push_back(value);
                    }
                    3..5 => {
                        list.push(End::Left, &value);
                        model.push_front(value);
                    }
                    5 => {
                        list.insert(index, &value);
                        model.insert(index, value);
                    }
                    6 if index < model.len() => {
                        list.set(index, &value);
                        model[index] = value;
                    }
                    7 => assert_eq!(list.get(index), model.get(index).map(|v| &v[..])),
                    8 => {
                        let limit = 1 + rng.below(4) as usize;
                        let end = end(&mut rng);
                        let removed = list.remove(&value, limit, end);
                        let mut expected = 0;
                        let mut keep = |v: &Vec<u8>| {
                            let goes = *v == value && expected < limit;
                            expected += usize::from(goes);
                            !goes
                        };
                        model = match end {
                            End::Left => model.iter().filter(|v| keep(v)).cloned().collect(),
                            End::Right => model.iter().rev().filter(|v| keep(v)).cloned().collect(),
                        };
                        if end == End::Right {
                            model.make_contiguous().reverse();
                        }
                        assert_eq!(removed, expected);
                    }
                    9..11 => {
                        let count = rng.below(20) as usize;
                        let end = end(&mut rng);
                        list.drop(end, count);
                        let left = model.len() - count.min(model.len());
                        if end == End::Left {
                            model = model.split_off(model.len() - left);
                        } else {
                            model.truncate(left);
                        }
                    }
                    _ => assert!(list.iter_from(index).eq(model.range(index..).map(|v| &v[..]))),
                }
                list.assert_invariants();
                assert_eq!(list.len(), model.len());
            }
            assert!(list.iter().eq(model.iter().map(|v| &v[..])));
            assert!(list.iter().rev().eq(model.iter().rev().map(|v| &v[..])));
            let mut bytes = Vec::new();
            list.encode(&mut bytes);
            let copy = List::decode(&mut Reader::new(&bytes)).unwrap();
            copy.assert_invariants();
            assert!(copy.iter().eq(list.iter()));
        }
    }

    #[test]
    fn a_small_element_takes_few_bytes() {
        for end in [End::Left, End::Right] {
            let mut list = List::default();
            for n in 0..100_000u64 {
                list.push(end, format!("{n:08}").as_bytes());
            }
            let real: usize = list.chunks.iter().map(Chunk::heap_bytes).sum();
            let said = list.heap_bytes();
            assert!(said <= 11 * list.len(), "{said} bytes for {} elements", list.len());
            assert!(said.abs_diff(real) < real / 50, "{said} bytes said, {real} used");
        }
    }

    #[test]
    fn encoding_follows_the_size_of_a_listpack() {
        let limits = Encodings::default();
        let mut list = List::default();
        list.push(End::Right, &[b'x'; 8182]);
        assert_eq!(list.encoding(&limits), "quicklist"); // 8182 + 5 + 2 + 7
        list.set(0, &[b'x'; 8178]);
        assert_eq!(list.encoding(&limits), "listpack");
        let counted = Encodings { list_max_listpack_size: 2, ..limits };
        list.set(0, b"1");
        list.push(End::Left, b"2");
        assert_eq!(list.encoding(&counted), "listpack");
        list.push(End::Left, b"3");
        assert_eq!(list.encoding(&counted), "quicklist");
    }
}
