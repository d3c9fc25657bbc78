//! A run of stream entries packed into one buffer.
//!
//! The names of the first entry's fields stand in front; an entry with the same names holds its values only. An entry lies
//! there as its length (LEB128), its body, and the size of these two (LEB128 backwards), so that a walk goes either way. The
//! body: milliseconds since the block's first id, number of the id (since the first id's within the same millisecond), 0 for
//! the names in front or else the number of fields and one, and then the values, each behind its length and with its name in
//! front if it has names of its own.
//!
//! Deleted entries are taken out at once and counted; from the front of the block by moving a mark only.
//!
//! Where blocks end can be observed (`XTRIM ~` removes whole ones), so blocks end where Redis's listpacks do with its default
//! settings, and what this hangs on (`deleted`, `weight`, `last`) is part of the state.

use skep_base::varint::{self, Malformed, Reader};

use super::StreamId;
use crate::listpack;

/// Entries in a block, deleted ones included: Redis's `stream-node-max-entries`.
const BLOCK_ENTRIES: u32 = 100;
/// Bytes of a block as a listpack: Redis's `stream-node-max-bytes`.
const BLOCK_WEIGHT: usize = 4096;
/// Fixed parts of a listpack's entry: flags, milliseconds, number.
const FIXED_PARTS: i64 = 3;

#[derive(Clone)]
pub(crate) struct Block {
    /// The id of the first entry it ever had.
    first: StreamId,
    /// The id of the last entry put into it, deleted or not.
    last: StreamId,
    live: u32,
    deleted: u32,
    /// Bytes that the block would take as a listpack with its deleted entries, as they are in Redis.
    weight: u32,
    /// Where the names end.
    names: u32,
    /// Where the first entry starts.
    start: u32,
    bytes: Vec<u8>,
}

/// What is known of a block beside its entries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Head {
    pub first: StreamId,
    pub last: StreamId,
    pub deleted: u32,
    pub weight: u32,
}

/// An entry where it lies.
#[derive(Clone, Copy)]
pub struct Record<'a> {
    pub id: StreamId,
    /// The names in front of the block, with their count.
    names: &'a [u8],
    /// The fields' count, then the fields.
    fields: &'a [u8],
}

/// Fields of an entry with their values.
#[derive(Clone)]
pub struct Fields<'a> {
    /// The shared names that are left; `None` if names stand with the values.
    names: Option<&'a [u8]>,
    values: &'a [u8],
    left: usize,
}

impl Block {
    /// A block for entries from this id on, of which those with these names are to share them. None is there yet.
    pub fn new<'a>(first: StreamId, names: impl ExactSizeIterator<Item = &'a [u8]> + Clone) -> Block {
        let count = names.len();
        let mut bytes = Vec::new();
        varint::put(&mut bytes, count as u64);
        names.clone().for_each(|name| varint::put_bytes(&mut bytes, name));
        let head = [1, 0, count as i64, 0].map(listpack::int_bytes).iter().sum::<usize>();
        let weight = listpack::FRAME_BYTES + head + names.map(listpack::element_bytes).sum::<usize>();
        let (names, weight) = (bytes.len() as u32, weight as u32);
        Block { first, last: first, live: 0, deleted: 0, weight, names, start: names, bytes }
    }

    /// A block that begins with an entry of these fields.
    pub fn begin<'a, F>(id: StreamId, fields: F) -> Block
    where
        F: ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + Clone,
    {
        let mut block = Block::new(id, fields.clone().map(|(name, _)| name));
        block.push(id, fields);
        block
    }

    /// A block to be filled with [`Block::push_body`], without entries yet.
    ///
    /// # Errors
    /// [`Malformed`] if `names` are not.
    pub fn restore(head: Head, names: &[u8]) -> Result<Block, Malformed> {
        let mut input = Reader::new(names);
        for _ in 0..input.count(1)? {
            input.bytes()?;
        }
        input.end()?;
        let Head { first, last, deleted, weight } = head;
        let at = names.len() as u32;
        Ok(Block { first, last, live: 0, deleted, weight, names: at, start: at, bytes: names.to_vec() })
    }

    pub fn first_id(&self) -> StreamId {
        self.first
    }

    /// The id of the last entry put in, deleted or not.
    pub fn last_id(&self) -> StreamId {
        self.last
    }

    pub fn live(&self) -> usize {
        self.live as usize
    }

    pub fn head(&self) -> Head {
        let Block { first, last, deleted, weight, .. } = *self;
        Head { first, last, deleted, weight }
    }

    /// The names that entries may share.
    pub fn shared_names(&self) -> impl Iterator<Item = &[u8]> {
        let (count, at) = read_varint(&self.bytes);
        let mut names = &self.bytes[at..];
        (0..count).map(move |_| take_bytes(&mut names))
    }

    /// These names behind their count, as they lie there.
    pub fn names(&self) -> &[u8] {
        &self.bytes[..self.names as usize]
    }

    pub fn heap_bytes(&self) -> usize {
        self.bytes.capacity()
    }

    /// True if an entry of `bytes` of fields and values begins another block.
    pub fn is_full(&self, bytes: usize) -> bool {
        self.weight as usize + bytes >= BLOCK_WEIGHT || self.live + self.deleted >= BLOCK_ENTRIES
    }

    /// Adds an entry, whose id is above all others.
    pub fn push<'a, F>(&mut self, id: StreamId, fields: F)
    where
        F: ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + Clone,
    {
        let shares_names = self.has_names(fields.clone().map(|(name, _)| name));
        let count = fields.len();
        let mut body = id_bytes(self.first, id) + varint_bytes(if shares_names { 0 } else { count + 1 });
        let ms = id.ms.wrapping_sub(self.first.ms) as i64;
        let seq = id.seq.wrapping_sub(self.first.seq) as i64;
        let mut parts = FIXED_PARTS + count as i64;
        // Flags are below 128.
        let mut weight = listpack::int_bytes(0) + listpack::int_bytes(ms) + listpack::int_bytes(seq);
        if !shares_names {
            parts += count as i64 + 1;
            weight += listpack::int_bytes(count as i64);
        }
        weight += listpack::int_bytes(parts);
        for (name, value) in fields.clone() {
            if !shares_names {
                body += varint_bytes(name.len()) + name.len();
                weight += listpack::element_bytes(name);
            }
            body += varint_bytes(value.len()) + value.len();
            weight += listpack::element_bytes(value);
        }
        let size = varint_bytes(body) + body;
        self.bytes.reserve(size + varint_bytes(size));
        varint::put(&mut self.bytes, body as u64);
        put_id(&mut self.bytes, self.first, id);
        varint::put(&mut self.bytes, if shares_names { 0 } else { count as u64 + 1 });
        for (name, value) in fields {
            if !shares_names {
                varint::put_bytes(&mut self.bytes, name);
            }
            varint::put_bytes(&mut self.bytes, value);
        }
        put_backwards(&mut self.bytes, size);
        self.live += 1;
        self.last = id;
        self.weight = self.weight.saturating_add(weight as u32);
    }

    /// Adds an entry by the body that [`Block::body_at`] gives.
    ///
    /// # Errors
    /// [`Malformed`] if it is no body of an entry behind the others; the block is then as before.
    pub fn push_body(&mut self, body: &[u8]) -> Result<StreamId, Malformed> {
        let previous = self.last_live();
        let mut input = Reader::new(body);
        let ms = input.varint()?;
        let seq = input.varint()?;
        let Some(id) = id_from(self.first, ms, seq) else { return input.malformed("an id of 64 bits each") };
        if id < self.first || id > self.last || previous.is_some_and(|p| p >= id) {
            return input.malformed("ascending ids");
        }
        let own = input.varint()?;
        let strings = match own {
            0 => Reader::new(self.names()).varint()?,
            own => (own - 1).saturating_mul(2),
        };
        for _ in 0..strings {
            input.bytes()?;
        }
        input.end()?;
        let size = varint_bytes(body.len()) + body.len();
        varint::put_bytes(&mut self.bytes, body);
        put_backwards(&mut self.bytes, size);
        self.live += 1;
        Ok(id)
    }

    /// Takes the entry `id` out. False if it is not there. The block may be empty then.
    pub fn remove(&mut self, id: StreamId) -> bool {
        let mut records = self.records();
        let mut from = self.start as usize;
        while let Some(record) = records.next() {
            let to = self.bytes.len() - records.entries.len();
            if record.id == id {
                if from == self.start as usize {
                    self.start = to as u32;
                } else {
                    self.bytes.drain(from..to);
                }
                self.count_removed(1);
                return true;
            }
            if record.id > id {
                return false;
            }
            from = to;
        }
        false
    }

    /// Takes out the first entries, as long as `goes` says so of their ids; gives their number.
    pub fn remove_front(&mut self, mut goes: impl FnMut(StreamId) -> bool) -> usize {
        let mut records = self.records();
        let (mut start, mut removed) = (self.start, 0);
        while let Some(record) = records.next()
            && goes(record.id)
        {
            start = (self.bytes.len() - records.entries.len()) as u32;
            removed += 1;
        }
        self.start = start;
        self.count_removed(removed);
        removed
    }

    /// Gives back memory that a block at the end of a stream keeps for what is to come.
    pub fn seal(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Entries in order.
    pub fn records(&self) -> Records<'_> {
        Records { block: self, entries: &self.bytes[self.start as usize..] }
    }

    /// The body of the entry at `offset` among the entries, and the offset of the next; `None` behind the last.
    pub fn body_at(&self, offset: usize) -> Option<(&[u8], usize)> {
        let entries = &self.bytes[self.start as usize + offset..];
        if entries.is_empty() {
            return None;
        }
        let (len, at) = read_varint(entries);
        let size = at + len as usize;
        Some((&entries[at..size], offset + size + varint_bytes(size)))
    }

    /// The last id that is there.
    pub fn last_live(&self) -> Option<StreamId> {
        self.records().next_back().map(|record| record.id)
    }

    /// Panics if counts, ids and entries disagree.
    pub fn assert_invariants(&self) {
        assert_eq!(self.records().count(), self.live(), "entries in a block");
        let mut previous = None;
        for record in self.records() {
            assert!(previous < Some(record.id), "{previous:?} in front of {}", record.id);
            assert!((self.first..=self.last).contains(&record.id), "{} outside its block", record.id);
            assert_eq!(record.fields().count(), record.len(), "fields of {}", record.id);
            previous = Some(record.id);
        }
        assert!(
            self.records().rev().map(|r| r.id).eq(self
                .records()
                .map(|r| r.id)
                .collect::<Vec<_>>()
                .into_iter()
                .rev())
        );
    }

    fn has_names<'a>(&self, names: impl ExactSizeIterator<Item = &'a [u8]>) -> bool {
        let (count, at) = read_varint(&self.bytes);
        let mut own = &self.bytes[at..self.names as usize];
        count == names.len() as u64 && names.into_iter().all(|name| take_bytes(&mut own) == name)
    }

    fn count_removed(&mut self, count: usize) {
        self.live -= count as u32;
        self.deleted += count as u32;
        let gap = (self.start - self.names) as usize;
        if gap > self.bytes.len() / 2 {
            self.bytes.drain(self.names as usize..self.start as usize);
            self.start = self.names;
        }
        const NOT_WORTH_IT: usize = 256;
        if self.bytes.capacity() > NOT_WORTH_IT && self.bytes.len() < self.bytes.capacity() / 4 {
            self.bytes.shrink_to_fit();
        }
    }

    /// The entry of a body.
    fn record<'a>(&'a self, body: &'a [u8]) -> Record<'a> {
        let (ms, at) = read_varint(body);
        let (seq, len) = read_varint(&body[at..]);
        let id = id_from(self.first, ms, seq).expect("ids are checked when they come in");
        Record { id, names: &self.bytes[..self.names as usize], fields: &body[at + len..] }
    }
}

impl<'a> Record<'a> {
    /// Number of fields.
    #[allow(clippy::len_without_is_empty)] // an entry without fields is no special case
    pub fn len(&self) -> usize {
        let own = read_varint(self.fields).0;
        let count = if own == 0 { read_varint(self.names).0 } else { own - 1 };
        count as usize
    }

    /// True if its names are those in front of the block.
    pub fn shares_names(&self) -> bool {
        read_varint(self.fields).0 == 0
    }

    /// Fields with their values, in order.
    pub fn fields(&self) -> Fields<'a> {
        let (own, at) = read_varint(self.fields);
        let values = &self.fields[at..];
        if own > 0 {
            return Fields { names: None, values, left: own as usize - 1 };
        }
        let (count, at) = read_varint(self.names);
        Fields { names: Some(&self.names[at..]), values, left: count as usize }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = (&'a [u8], &'a [u8]);

    #[inline]
    fn next(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        self.left = self.left.checked_sub(1)?;
        let name = match &mut self.names {
            Some(names) => take_bytes(names),
            None => take_bytes(&mut self.values),
        };
        Some((name, take_bytes(&mut self.values)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Fields<'_> {}

/// Entries of a block, from either end.
#[derive(Clone)]
pub struct Records<'a> {
    block: &'a Block,
    entries: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = Record<'a>;

    #[inline]
    fn next(&mut self) -> Option<Record<'a>> {
        if self.entries.is_empty() {
            return None;
        }
        let (len, at) = read_varint(self.entries);
        let size = at + len as usize;
        let body = &self.entries[at..size];
        self.entries = &self.entries[size + varint_bytes(size)..];
        Some(self.block.record(body))
    }
}

impl<'a> DoubleEndedIterator for Records<'a> {
    #[inline]
    fn next_back(&mut self) -> Option<Record<'a>> {
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
        let (_, head) = read_varint(entry);
        Some(self.block.record(&entry[head..]))
    }
}

/// Milliseconds since `first`; the number since that of `first` in the same millisecond, else whole.
fn put_id(out: &mut Vec<u8>, first: StreamId, id: StreamId) {
    varint::put(out, id.ms - first.ms);
    varint::put(out, if id.ms == first.ms { id.seq - first.seq } else { id.seq });
}

fn id_bytes(first: StreamId, id: StreamId) -> usize {
    let seq = if id.ms == first.ms { id.seq - first.seq } else { id.seq };
    varint_bytes((id.ms - first.ms) as usize) + varint_bytes(seq as usize)
}

fn id_from(first: StreamId, ms: u64, seq: u64) -> Option<StreamId> {
    if ms == 0 {
        return Some(StreamId { ms: first.ms, seq: first.seq.checked_add(seq)? });
    }
    Some(StreamId { ms: first.ms.checked_add(ms)?, seq })
}

fn varint_bytes(value: usize) -> usize {
    if value < 0x80 { 1 } else { (usize::BITS - value.leading_zeros()).div_ceil(7) as usize }
}

/// A LEB128 number of the block's own making, and its size.
#[inline]
fn read_varint(bytes: &[u8]) -> (u64, usize) {
    let mut value = 0;
    for (at, byte) in bytes.iter().enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            return (value, at + 1);
        }
    }
    panic!("a number of {} bytes has no end", bytes.len());
}

/// Takes a string behind its length off the front.
#[inline]
fn take_bytes<'a>(bytes: &mut &'a [u8]) -> &'a [u8] {
    let (len, at) = read_varint(bytes);
    let (string, rest) = bytes[at..].split_at(len as usize);
    *bytes = rest;
    string
}

/// Appends `value` so that it can be read from its end.
fn put_backwards(out: &mut Vec<u8>, value: usize) {
    let start = out.len();
    varint::put(out, value as u64);
    out[start..].reverse();
}
