//! Stream values: a log of entries with ascending ids, and the groups that read it.
//!
//! Entries lie packed in blocks of up to a hundred ([`block`]), blocks in a sorted map by their first id, so that a range
//! starts at the cost of a binary search and the scan of one block. Blocks, the leaves of the map and groups are shared by
//! copies, so that a cut holds a stream of any length at once. A stream may be empty: its key stays until it is deleted, as
//! in Redis. Owns no knowledge of commands.

mod block;
mod elements;
mod group;
mod id;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use skep_base::Millis;

use crate::small::SmallBytes;
use crate::sorted::Sorted;
pub use block::Record;
pub(crate) use block::{Block, Head};
pub use group::{Consumer, ConsumerName, Delivery, Group};
pub use id::{ID_TEXT_MAX, StreamId};

/// Entries in the order of their ids, and consumer groups by name.
#[derive(Clone, Default)]
pub struct Stream {
    /// By the first id of each. None is empty.
    blocks: Sorted<StreamId, Arc<Block>>,
    len: usize,
    last_id: StreamId,
    max_deleted_id: StreamId,
    entries_added: u64,
    groups: Sorted<SmallBytes, Arc<Group>>,
    /// Bytes allocated by blocks.
    block_bytes: usize,
    /// Bytes of the blocks as listpacks.
    weight: usize,
}

/// How far a stream is to be cut down.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Trim {
    /// To so many entries.
    Len(u64),
    /// To entries of this id and above.
    Id(StreamId),
}

#[allow(clippy::len_without_is_empty)] // Typed has it, and means another thing
impl Stream {
    pub fn len(&self) -> usize {
        self.len
    }

    /// The last id that an entry ever had, or that was set.
    pub fn last_id(&self) -> StreamId {
        self.last_id
    }

    /// The highest id that was deleted, but for trimming.
    pub fn max_deleted_id(&self) -> StreamId {
        self.max_deleted_id
    }

    /// Entries ever added, or what was set.
    pub fn entries_added(&self) -> u64 {
        self.entries_added
    }

    /// Blocks of entries: what Redis counts as keys of its radix tree.
    pub fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// Bytes that Redis would take for the blocks. Part of the state.
    pub(crate) fn weight(&self) -> usize {
        self.weight
    }

    pub(crate) fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter().map(|(_, block)| &**block)
    }

    /// The id of the first entry; [`StreamId::ZERO`] without entries.
    pub fn first_entry_id(&self) -> StreamId {
        let first = self.blocks.first().and_then(|(_, block)| block.records().next());
        first.map_or(StreamId::ZERO, |record| record.id)
    }

    /// The id of the last entry; `None` without entries.
    pub fn last_entry_id(&self) -> Option<StreamId> {
        self.blocks.last()?.1.last_live()
    }

    /// The id that a new entry gets by itself at `now`: never below one that was given.
    pub fn next_id(&self, now: Millis) -> Option<StreamId> {
        if now.0 > self.last_id.ms { Some(StreamId::new(now.0, 0)) } else { self.last_id.next() }
    }

    /// Adds an entry. False, and nothing is changed, if `id` is not above the last.
    ///
    /// Cost: O(1).
    pub fn append<'a, F>(&mut self, id: StreamId, fields: F) -> bool
    where
        F: ExactSizeIterator<Item = (&'a [u8], &'a [u8])> + Clone,
    {
        if id <= self.last_id {
            return false;
        }
        let bytes: usize = fields.clone().map(|(name, value)| name.len() + value.len()).sum();
        let is_full = self.blocks.last().is_none_or(|(_, block)| block.is_full(bytes));
        if is_full {
            self.change_last_block(Block::seal);
            self.add_block(Block::begin(id, fields));
        } else {
            self.change_last_block(|block| block.push(id, fields));
        }
        self.len += 1;
        self.last_id = id;
        self.entries_added += 1;
        true
    }

    /// Deletes the entry `id`. False if there is none.
    ///
    /// Cost: O(log n), and O(entries of a block).
    pub fn delete(&mut self, id: StreamId) -> bool {
        let Some(place) = self.blocks.floor(&id) else { return false };
        let (_, found) = self.blocks.at(place).expect("found above");
        if !found.records().any(|record| record.id == id) {
            return false;
        }
        let before = found.heap_bytes();
        let block = Arc::make_mut(self.blocks.value_mut(place));
        block.remove(id);
        let (live, after, weight) = (block.live(), block.heap_bytes(), block.head().weight);
        self.block_bytes = self.block_bytes - before + after;
        if live == 0 {
            self.blocks.remove_at(place);
            self.block_bytes -= after;
            self.weight -= weight as usize;
        }
        self.len -= 1;
        self.max_deleted_id = self.max_deleted_id.max(id);
        true
    }

    /// Deletes entries from the front and gives their number: with `approximate` whole blocks only, and blocks only as long
    /// as no more than `limit` entries go.
    ///
    /// Cost: O(blocks deleted).
    pub fn trim(&mut self, to: Trim, approximate: bool, limit: Option<usize>) -> usize {
        let mut deleted = 0;
        while let Some((_, block)) = self.blocks.first() {
            let live = block.live();
            let goes_whole = match to {
                Trim::Len(len) if self.len as u64 <= len => break,
                Trim::Len(len) => (self.len - live) as u64 >= len,
                Trim::Id(id) => block.last_id() < id,
            };
            if limit.is_some_and(|limit| deleted + live > limit) {
                break;
            }
            if goes_whole {
                self.remove_first_block();
                self.len -= live;
                deleted += live;
                continue;
            }
            if !approximate {
                deleted += self.trim_first_block(to);
            }
            break;
        }
        deleted
    }

    /// Trims within the first block, of which something stays.
    fn trim_first_block(&mut self, to: Trim) -> usize {
        let mut left = match to {
            Trim::Len(len) => (self.len as u64).saturating_sub(len),
            Trim::Id(_) => u64::MAX,
        };
        let mut removed = 0;
        let mut is_empty = false;
        self.change_block(Default::default(), |block| {
            removed = block.remove_front(|id| {
                let goes = match to {
                    Trim::Len(_) => left > 0,
                    Trim::Id(first) => id < first,
                };
                left = left.saturating_sub(1);
                goes
            });
            is_empty = block.live() == 0;
        });
        if is_empty {
            self.remove_first_block();
        }
        self.len -= removed;
        removed
    }

    /// The entry `id`.
    pub fn get(&self, id: StreamId) -> Option<Record<'_>> {
        self.range(id, id).next()
    }

    /// Entries from `start` to `end`, both included, upwards. Cost: O(log n) before the first.
    pub fn range(&self, start: StreamId, end: StreamId) -> impl Iterator<Item = Record<'_>> {
        let place = self.blocks.floor(&start).unwrap_or_default();
        let records = self.blocks.from(place).flat_map(|(_, block)| block.records());
        records.skip_while(move |r| r.id < start).take_while(move |r| r.id <= end)
    }

    /// Entries from `end` to `start`, both included, downwards. Cost: O(log n) before the first.
    pub fn range_back(&self, start: StreamId, end: StreamId) -> impl Iterator<Item = Record<'_>> {
        let places = std::iter::successors(self.blocks.floor(&end), |place| self.blocks.before(*place));
        let blocks = places.filter_map(|place| self.blocks.at(place));
        let records = blocks.flat_map(|(_, block)| block.records().rev());
        records.skip_while(move |r| r.id > end).take_while(move |r| r.id >= start)
    }

    /// Sets what `XSETID` sets; the caller has compared it with what is there.
    pub fn set_last_id(
        &mut self,
        last_id: StreamId,
        entries_added: Option<u64>,
        max_deleted: Option<StreamId>,
    ) {
        self.last_id = last_id;
        self.entries_added = entries_added.unwrap_or(self.entries_added);
        self.max_deleted_id = max_deleted.unwrap_or(self.max_deleted_id);
    }

    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// Groups in the order of their names.
    pub fn groups(&self) -> impl Iterator<Item = (&SmallBytes, &Group)> {
        self.groups.iter().map(|(name, group)| (name, &**group))
    }

    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.groups.get(name).map(|group| &**group)
    }

    pub fn group_mut(&mut self, name: &[u8]) -> Option<&mut Group> {
        self.groups.get_mut(name).map(Arc::make_mut)
    }

    /// Adds a group. False if one of that name is there.
    pub fn add_group(&mut self, name: &[u8], group: Group) -> bool {
        let is_new = self.groups.get(name).is_none();
        if is_new {
            self.groups.insert(SmallBytes::new(name), Arc::new(group));
        }
        is_new
    }

    pub fn remove_group(&mut self, name: &[u8]) -> bool {
        self.groups.remove(name).is_some()
    }

    /// Notes that the entries `ids`, ascending, were delivered to a consumer that is there: moves the group on, and keeps them
    /// as not acknowledged if `keeps`.
    pub fn mark_delivered(
        &mut self,
        group: &[u8],
        consumer: &[u8],
        ids: &[StreamId],
        keeps: bool,
        now: Millis,
    ) {
        let found = self.group(group).expect("the caller has found the group");
        let (mut reached, mut read) = (found.last_id, found.entries_read);
        let first = self.first_entry_id();
        for id in ids {
            if *id > reached {
                read = self.entries_read_behind(reached, read, first, *id);
                reached = *id;
            }
        }
        let group = self.group_mut(group).expect("found above");
        (group.last_id, group.entries_read) = (reached, read);
        if keeps && !ids.is_empty() {
            ids.iter().for_each(|id| group.assign(*id, consumer, Delivery { time: now, count: 1 }));
            group.activate(consumer, now);
        }
    }

    /// What the count of entries read of a group that has got `read` entries up to `reached` becomes when it gets the entry
    /// `id` next; `first` is the stream's first.
    fn entries_read_behind(
        &self,
        reached: StreamId,
        read: Option<u64>,
        first: StreamId,
        id: StreamId,
    ) -> Option<u64> {
        match read {
            Some(read) if reached >= first && !self.has_deleted_from(reached) => Some(read.wrapping_add(1)),
            read if self.entries_added == 0 => read,
            _ => self.entries_up_to(id),
        }
    }

    /// Entries that a group has not got yet; `None` if deletions make that unknown.
    pub fn lag(&self, group: &Group) -> Option<i64> {
        let first = self.first_entry_id();
        if self.entries_added == 0 || self.len == 0 {
            return Some(0);
        }
        if group.last_id < first && self.max_deleted_id < first {
            return Some(self.len as i64);
        }
        let read = match group.entries_read {
            Some(read) if !self.has_deleted_from(group.last_id) => Some(read),
            _ => self.entries_up_to(group.last_id),
        };
        read.map(|read| self.entries_added.wrapping_sub(read) as i64)
    }

    /// True if an entry of `start` or above was deleted.
    fn has_deleted_from(&self, start: StreamId) -> bool {
        self.len > 0 && self.max_deleted_id != StreamId::ZERO && start <= self.max_deleted_id
    }

    /// How many entries were ever added up to `id`, if that can be told: at both ends of what is there.
    pub fn entries_up_to(&self, id: StreamId) -> Option<u64> {
        if self.entries_added == 0 {
            return Some(0);
        }
        if self.len == 0 && id <= self.last_id {
            return Some(self.entries_added);
        }
        if id != StreamId::ZERO && id < self.max_deleted_id {
            return None;
        }
        if id >= self.last_id {
            return (id == self.last_id).then_some(self.entries_added);
        }
        let first = self.first_entry_id();
        if self.max_deleted_id != StreamId::ZERO && self.max_deleted_id >= first {
            return None;
        }
        let before = self.entries_added.wrapping_sub(self.len as u64);
        match id.cmp(&first) {
            std::cmp::Ordering::Less => Some(before),
            std::cmp::Ordering::Equal => Some(before.wrapping_add(1)),
            std::cmp::Ordering::Greater => None,
        }
    }

    /// Adds a block behind the others.
    pub(crate) fn add_block(&mut self, block: Block) {
        self.block_bytes += block.heap_bytes();
        self.weight += block.head().weight as usize;
        self.blocks.insert(block.first_id(), Arc::new(block));
    }

    /// A stream of these blocks, the first ids of which ascend.
    pub(crate) fn of_blocks(blocks: Vec<Block>) -> Stream {
        let mut stream = Stream { len: blocks.iter().map(Block::live).sum(), ..Stream::default() };
        blocks.into_iter().for_each(|block| stream.add_block(block));
        stream
    }

    fn remove_first_block(&mut self) {
        let (_, block) = self.blocks.remove_at(Default::default());
        self.block_bytes -= block.heap_bytes();
        self.weight -= block.head().weight as usize;
    }

    fn change_last_block(&mut self, change: impl FnOnce(&mut Block)) {
        if let Some(place) = self.blocks.before(self.blocks.end()) {
            self.change_block(place, change);
        }
    }

    fn change_block(&mut self, place: crate::sorted::Place, change: impl FnOnce(&mut Block)) {
        // Looked at before it is made our own, since a copy has other spare room.
        let (_, block) = self.blocks.at(place).expect("the caller's place is a block's");
        let (bytes, weight) = (block.heap_bytes(), block.head().weight as usize);
        let block = Arc::make_mut(self.blocks.value_mut(place));
        change(block);
        self.block_bytes = self.block_bytes - bytes + block.heap_bytes();
        self.weight = self.weight - weight + block.head().weight as usize;
    }

    /// Panics if counts, blocks and groups disagree.
    pub fn assert_invariants(&self) {
        self.blocks.assert_invariants();
        self.groups.assert_invariants();
        let (mut len, mut bytes, mut weight) = (0, 0, 0);
        for (first, block) in self.blocks.iter() {
            block.assert_invariants();
            assert_eq!(*first, block.first_id(), "the key of a block");
            assert!(block.live() > 0, "an empty block");
            len += block.live();
            bytes += block.heap_bytes();
            weight += block.head().weight as usize;
        }
        assert_eq!((len, bytes, weight), (self.len, self.block_bytes, self.weight), "entries, bytes, weight");
        assert!(self.last_entry_id().is_none_or(|last| last <= self.last_id), "entries behind the last id");
        self.groups.iter().for_each(|(_, group)| group.assert_invariants());
    }
}
