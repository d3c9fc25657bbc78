//! One numbered database: 16,384 slot tables, counts, and the expiry index.

use std::collections::BTreeSet;

use skep_base::{Millis, SLOT_COUNT};

use crate::access::Access;
use crate::dense::{DenseMap, Keyed};
use crate::expiry::ExpiryIndex;
use crate::small::SmallBytes;
use crate::value::Value;
use crate::versions::Version;

/// The deadline of what has none.
pub const NEVER: Millis = Millis(u64::MAX);

/// Slots are counted in blocks of this many, so that the n-th key is found without a walk over all slots.
const BLOCK_SLOTS: usize = 128;

/// A key with its value.
#[derive(Clone)]
pub struct Entry {
    pub key: SmallBytes,
    pub value: Value,
    /// The instant after which the key is gone; [`NEVER`] if it stays.
    pub deadline: Millis,
    /// For eviction only; see [`crate::AccessClock`].
    pub access: Access,
    /// The number of the entry's last change; see [`crate::Keyspace::version`].
    pub(crate) version: Version,
}

const _: () = assert!(size_of::<Entry>() == 56);

impl Entry {
    /// True while the key may be seen: up to and including its deadline, as in Redis, and while a hash has a field that
    /// may be seen.
    #[inline]
    pub fn is_live(&self, now: Millis) -> bool {
        now <= self.deadline && !self.value.is_spent(now)
    }

    /// True if the key or something inside its value is past its deadline.
    #[inline]
    pub fn holds_due(&self, now: Millis) -> bool {
        now > self.deadline || self.value.holds_due(now)
    }
}

impl Entry {
    /// Memory of the key and its value in bytes, with its share of the slot's index; a collection is judged by a sample.
    pub fn bytes(&self) -> usize {
        const INDEX_BYTES: usize = 2 * size_of::<u32>();
        size_of::<Entry>() + INDEX_BYTES + self.key.heap_bytes() + self.value.heap_bytes()
    }
}

impl Keyed for Entry {
    fn key(&self) -> &[u8] {
        &self.key
    }
}

/// The keys of one slot of one database: the unit of checkpoint, split and move, and small enough to grow at once.
#[derive(Default)]
pub(crate) struct SlotTable {
    pub entries: DenseMap<Entry>,
    /// The number of the last cut that holds this table's state, or of the cut during which the table was made.
    pub cut: u32,
}

pub(crate) struct Db {
    /// Empty until the first key.
    slots: Vec<SlotTable>,
    block_keys: Vec<u32>,
    pub keys: usize,
    /// Keys that have a deadline.
    pub volatile: usize,
    /// Deadlines of keys.
    pub expiry: ExpiryIndex,
    /// The earliest deadline of each hash and queue that has any inside.
    pub field_expiry: ExpiryIndex,
    /// Keys of queues with schedules whose next tick the leader is to say.
    pub ticks_wanted: BTreeSet<SmallBytes>,
    /// The number that this database had when the current cut was made (`SWAPDB` moves it along).
    pub cut_label: u8,
}

impl Db {
    pub fn new(cut_label: u8) -> Db {
        Db {
            slots: Vec::new(),
            block_keys: vec![0; usize::from(SLOT_COUNT) / BLOCK_SLOTS],
            keys: 0,
            volatile: 0,
            expiry: ExpiryIndex::default(),
            field_expiry: ExpiryIndex::default(),
            ticks_wanted: BTreeSet::new(),
            cut_label,
        }
    }

    #[inline]
    pub fn slot(&self, slot: u16) -> Option<&SlotTable> {
        self.slots.get(usize::from(slot))
    }

    /// The table to change; made if there is none, as part of cut `cut`.
    #[inline]
    pub fn slot_mut(&mut self, slot: u16, cut: u32) -> &mut SlotTable {
        if self.slots.is_empty() {
            self.slots.resize_with(usize::from(SLOT_COUNT), || SlotTable { cut, ..SlotTable::default() });
        }
        &mut self.slots[usize::from(slot)]
    }

    /// Adjusts the counts after keys were added to or removed from `slot`.
    pub fn count_keys(&mut self, slot: u16, change: i32) {
        let block = &mut self.block_keys[usize::from(slot) / BLOCK_SLOTS];
        *block = block.checked_add_signed(change).expect("no block holds fewer than no keys");
        self.keys =
            self.keys.checked_add_signed(change as isize).expect("no database holds fewer than no keys");
    }

    /// The key at `rank` in order of slots, then of the slot's array. `None` past the last. Cost: O(256).
    pub fn nth(&self, rank: usize) -> Option<&Entry> {
        let (slot, at) = self.locate(rank)?;
        self.slots[slot].entries.at(at)
    }

    /// The entries from `rank` on, in the order of [`Db::nth`].
    pub fn entries_from(&self, rank: usize) -> impl Iterator<Item = &Entry> {
        let (slot, at) = self.locate(rank).unwrap_or((self.slots.len(), 0));
        let first = self.slots.get(slot).map(|table| table.entries.range(at..table.entries.len()));
        let others = self.slots.iter().skip(slot + 1).flat_map(|table| table.entries.iter());
        first.into_iter().flatten().chain(others)
    }

    /// The slot of the key at `rank`, and its position there.
    fn locate(&self, mut rank: usize) -> Option<(usize, usize)> {
        for (block, keys) in self.block_keys.iter().enumerate() {
            if rank >= *keys as usize {
                rank -= *keys as usize;
                continue;
            }
            for slot in block * BLOCK_SLOTS..(block + 1) * BLOCK_SLOTS {
                let len = self.slots[slot].entries.len();
                if rank < len {
                    return Some((slot, rank));
                }
                rank -= len;
            }
        }
        None
    }

    /// Every entry, in order of slots, expired ones included.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.slots.iter().flat_map(|table| table.entries.iter())
    }

    /// The first slot from `from` on that holds a key. Cost: O(256) at the worst.
    pub fn next_used_slot(&self, from: u16) -> Option<u16> {
        let mut slot = usize::from(from);
        while slot < self.slots.len() {
            if slot.is_multiple_of(BLOCK_SLOTS) && self.block_keys[slot / BLOCK_SLOTS] == 0 {
                slot += BLOCK_SLOTS;
            } else if self.slots[slot].entries.is_empty() {
                slot += 1;
            } else {
                return Some(slot as u16);
            }
        }
        None
    }

    /// Takes note of whether the queue at `key` has a schedule whose next tick the leader is to say.
    #[inline]
    pub fn note_tick_wanted(&mut self, key: &[u8], wants: bool) {
        if wants {
            self.ticks_wanted.insert(SmallBytes::new(key));
        } else if !self.ticks_wanted.is_empty() {
            self.ticks_wanted.remove(&SmallBytes::new(key));
        }
    }

    /// The earliest deadline of a key or field, and its slot.
    pub fn next_due(&self) -> Option<(Millis, u16)> {
        self.expiry.first().into_iter().chain(self.field_expiry.first()).min()
    }

    pub fn slots(&self) -> &[SlotTable] {
        &self.slots
    }

    /// Empties the database and gives the tables back, to be saved by a cut or dropped elsewhere.
    pub fn take_tables(&mut self) -> Vec<SlotTable> {
        let label = self.cut_label;
        std::mem::replace(self, Db::new(label)).slots
    }

    pub fn assert_invariants(&self) {
        let mut volatile = 0;
        let mut fields = 0;
        let mut wanted = 0;
        for table in &self.slots {
            table.entries.assert_invariants();
        }
        for entry in self.entries() {
            assert!(!entry.value.is_empty(), "key {:?} holds an empty collection", entry.key);
            volatile += usize::from(entry.deadline != NEVER);
            fields += u64::from(entry.value.next_deadline().is_some());
            match &entry.value {
                Value::Hash(hash) => hash.assert_invariants(),
                Value::Queue(queue) => {
                    queue.assert_invariants();
                    assert_eq!(
                        queue.wants_tick(),
                        self.ticks_wanted.contains(&entry.key),
                        "a tick is wanted"
                    );
                    wanted += usize::from(queue.wants_tick());
                }
                _ => {}
            }
        }
        assert_eq!(self.keys, self.entries().count(), "keys counted");
        assert_eq!(self.keys, self.block_keys.iter().map(|k| *k as usize).sum::<usize>(), "keys by block");
        assert_eq!(self.volatile, volatile, "keys with a deadline");
        assert_eq!(self.expiry.count(), volatile as u64, "deadlines of keys indexed");
        assert_eq!(self.field_expiry.count(), fields, "deadlines of fields indexed");
        assert_eq!(self.ticks_wanted.len(), wanted, "queues of which a tick is wanted");
    }
}
