//! Checkpoints without fork: a consistent cut that is written out while commands go on.
//!
//! A cut freezes nothing. It numbers itself; tables are serialised one after another, and a table about to change that the
//! cut has not reached is serialised first. Tables thrown away by a flush are kept until they are written. The same cut
//! serves log truncation, the catch-up of a learner, a backup and a split; made without keeping its records it gives the
//! digest by which replicas find out whether they are equal.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use skep_base::varint::{self, Malformed, Reader};
use skep_base::{Millis, SLOT_COUNT, hash, slot_of};

use crate::db::{Entry, NEVER, SlotTable};
use crate::keyspace::{DB_COUNT, Keyspace};
use crate::once::{self, OnceRecord};
use crate::pieces::{Elements, Frozen, encode_piece};
use crate::scripts::{Place, Scripts};
use crate::small::SmallBytes;
use crate::types::queue::Numbers;
use crate::value::{Kind, Value};
use crate::versions::{Changes, Removals, Version};

/// Kinds of records in a checkpoint. Part of the format.
const RECORD_STATE: u8 = 0;
/// A key as versions without `WATCH` wrote it.
const RECORD_ENTRY_UNNUMBERED: u8 = 1;
const RECORD_END: u8 = 2;
const RECORD_ONCE: u8 = 3;
/// More elements of a value that came before.
const RECORD_PIECE: u8 = 4;
const RECORD_ENTRY: u8 = 5;
const RECORD_SCRIPT: u8 = 6;
const RECORD_REMOVALS: u8 = 7;

/// Bytes of the length in front of each record.
const LENGTH_BYTES: usize = 8;

/// The longest record that a restore accepts: a value of 512 MiB is the largest that commands admit per element, and a
/// collection may hold many; 1 TiB only stops nonsense from being waited for.
const RECORD_BYTES_MAX: u64 = 1 << 40;

/// The progress of the current cut.
#[derive(Default)]
pub(crate) struct Cut {
    number: u32,
    active: bool,
    /// False if only the digest is wanted.
    keeps_records: bool,
    /// The next table to visit: database as labelled when the cut was made, and slot.
    next: (u8, u16),
    /// Serialised, not handed out yet.
    saved: Vec<u8>,
    /// Large values of which the first element is saved.
    large: VecDeque<Large>,
    /// Tables of flushed databases that the cut still needs.
    adopted: Vec<(u8, SlotTable)>,
    /// Records of `ONCE` before this place are written.
    once_next: once::Place,
    /// Records of `ONCE` from this number on came after the cut was begun.
    once_end: u64,
    /// Records written, but for the first and the last.
    entries: u64,
    stamp: Millis,
    numbers: Numbers,
    changes: Changes,
    /// As they were when the cut was begun; `None` once they are written.
    scripts: Option<Arc<Scripts>>,
    scripts_place: Place,
    /// As they were when the cut was begun.
    removals: Removals,
    /// What is written of them.
    removals_next: usize,
    digest: DigestSum,
    /// Bytes of records made since the end of the last step.
    step_bytes: usize,
    /// The digest of the last cut that came to its end.
    finished: Option<u64>,
}

/// A large value as it was when the cut was begun.
struct Large {
    label: u8,
    key: SmallBytes,
    kind: Kind,
    value: Frozen,
    /// The position of the first element that is not saved.
    next: usize,
}

/// The sum of hashes of records, which is the same in whatever order a cut comes to them.
#[derive(Clone, Copy, Default)]
struct DigestSum(u64);

impl DigestSum {
    /// Adds a record; `place` is what replicas must agree on and the record does not say.
    fn add(&mut self, place: u64, record: &[u8]) {
        self.0 = self.0.wrapping_add(hash::seeded(place, record));
    }

    fn finish(self, stamp: Millis, numbers: Numbers, changes: Changes) -> u64 {
        let counts = [stamp.0, numbers.newest(), changes.count()];
        counts.iter().fold(self.0, |sum, count| hash::seeded(sum, &count.to_le_bytes()))
    }
}

impl Cut {
    #[inline]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// Saves `table` if the current cut has not.
    #[inline]
    pub fn before_change(&mut self, label: u8, table: &mut SlotTable) {
        if self.active && table.cut != self.number {
            self.save(label, table);
        }
    }

    /// Keeps those of a flushed database's tables that the cut still needs; gives back the others.
    pub fn adopt(&mut self, label: u8, tables: Vec<SlotTable>) -> Vec<SlotTable> {
        if !self.active {
            return tables;
        }
        let number = self.number;
        let (pending, done) =
            tables.into_iter().partition(|t: &SlotTable| t.cut != number && !t.entries.is_empty());
        let pending: Vec<SlotTable> = pending;
        self.adopted.extend(pending.into_iter().map(|t| (label, t)));
        done
    }

    /// Saves a record of `ONCE` that has been taken out, if the current cut needs it and has not come to it. No record ever
    /// changes.
    pub fn before_once_removal(&mut self, place: once::Place, record: &OnceRecord) {
        if self.active && place >= self.once_next && place.1 < self.once_end {
            self.save_once(place, record);
        }
    }

    /// Saves the next script or library; false if there is none left.
    fn save_script(&mut self) -> bool {
        let Some(scripts) = self.scripts.take() else { return false };
        let mut bytes = vec![RECORD_SCRIPT];
        let Some(place) = scripts.put_record(&self.scripts_place, &mut bytes) else { return false };
        self.record(place.seed(), |out| out.extend_from_slice(&bytes));
        self.entries += 1;
        (self.scripts, self.scripts_place) = (Some(scripts), place);
        true
    }

    /// Saves the next counts of removed keys; false if there are none left.
    fn save_removals(&mut self) -> bool {
        let mut bytes = vec![RECORD_REMOVALS];
        let Some(next) = self.removals.put_record(self.removals_next, &mut bytes) else { return false };
        self.record(0, |out| out.extend_from_slice(&bytes));
        self.entries += 1;
        self.removals_next = next;
        true
    }

    fn save_once(&mut self, place: once::Place, record: &OnceRecord) {
        self.record(0, |out| encode_once(out, place.0, record));
        self.entries += 1;
    }

    fn save(&mut self, label: u8, table: &mut SlotTable) {
        table.cut = self.number;
        for place in 0..table.entries.len() {
            let entry = table.entries.at(place).expect("below the length");
            self.record(place as u64, |out| encode_entry(out, label, entry));
            self.entries += 1;
            if entry.value.is_large() {
                let (key, kind) = (entry.key.clone(), entry.value.kind());
                let value = table.entries.at_mut(place).expect("below the length").value.freeze();
                self.large.push_back(Large { label, key, kind, value, next: 1 });
            }
        }
    }

    /// Saves the next piece of a large value, and gives back what was held of it after the last one. Panics if there is
    /// no large value.
    fn save_piece(&mut self) -> Option<Frozen> {
        let mut large = self.large.pop_front().expect("the caller saw a large value");
        let from = large.next;
        self.record(from as u64, |out| {
            large.next = put_piece(out, large.label, &large.key, large.kind, &*large.value, from);
        });
        self.entries += 1;
        if large.next == large.value.count() {
            return Some(large.value);
        }
        self.large.push_front(large);
        None
    }

    fn record(&mut self, place: u64, write: impl FnOnce(&mut Vec<u8>)) {
        let start = self.saved.len();
        put_record(&mut self.saved, write);
        self.digest.add(place, &self.saved[start + LENGTH_BYTES..]);
        self.step_bytes += self.saved.len() - start;
        if !self.keeps_records {
            self.saved.truncate(start);
        }
    }
}

impl Keyspace {
    /// Begins a cut at the present state. Panics if one is in progress.
    pub fn begin_cut(&mut self) {
        self.begin(true);
        let (stamp, numbers, changes) = (self.cut.stamp, self.cut.numbers, self.cut.changes);
        put_record(&mut self.cut.saved, |out| {
            out.push(RECORD_STATE);
            varint::put(out, stamp.0);
            varint::put(out, numbers.newest());
            varint::put(out, changes.count());
        });
    }

    /// Begins a cut that keeps no records: its steps give no bytes and at its end there is [`Keyspace::cut_digest`]. Panics
    /// if a cut is in progress.
    pub fn begin_digest(&mut self) {
        self.begin(false);
    }

    fn begin(&mut self, keeps_records: bool) {
        assert!(!self.cut.active, "cut {} is still in progress", self.cut.number);
        for (label, db) in self.dbs.iter_mut().enumerate() {
            db.cut_label = label as u8;
        }
        let number = self.cut.number + 1;
        let (stamp, numbers, changes) = (self.stamp, self.numbers, self.changes);
        let once_end = self.once.next_number();
        self.cut = Cut {
            number,
            active: true,
            keeps_records,
            stamp,
            numbers,
            changes,
            once_end,
            scripts: Some(self.scripts.clone()),
            removals: self.removals.clone(),
            ..Cut::default()
        };
    }

    /// True between [`Keyspace::begin_cut`] and the step that ended it.
    pub fn is_cutting(&self) -> bool {
        self.cut.active
    }

    /// Appends the next part of the cut to `out`: at least `bytes_min` unless the cut ends, and everything that writes
    /// have forced out since the last step. True when the cut is complete. Cost: O(bytes).
    ///
    /// Of a cut begun by [`Keyspace::begin_digest`] the bytes are counted, and thrown away.
    pub fn cut_step(&mut self, out: &mut Vec<u8>, bytes_min: usize) -> bool {
        assert!(self.cut.active, "no cut in progress");
        loop {
            if self.cut.step_bytes >= bytes_min {
                self.cut.step_bytes = 0;
                out.append(&mut self.cut.saved);
                return false;
            }
            if !self.cut.large.is_empty() {
                self.garbage.frozen.extend(self.cut.save_piece());
            } else if let Some((label, mut table)) = self.cut.adopted.pop() {
                self.cut.save(label, &mut table);
                self.garbage.tables.push(vec![table]);
            } else if self.cut.next.0 < DB_COUNT {
                self.cut_next_slot();
            } else if !self.cut.save_script() && !self.cut.save_removals() && !self.cut_next_once() {
                break;
            }
        }
        let Cut { number, entries, digest, stamp, numbers, changes, .. } = self.cut;
        if self.cut.keeps_records {
            put_record(&mut self.cut.saved, |record| {
                record.push(RECORD_END);
                varint::put(record, entries);
            });
            out.append(&mut self.cut.saved);
        }
        self.cut = Cut { number, finished: Some(digest.finish(stamp, numbers, changes)), ..Cut::default() };
        true
    }

    /// What [`Keyspace::digest`] was where the last cut was begun; `None` if none came to its end, or while one is in
    /// progress.
    pub fn cut_digest(&self) -> Option<u64> {
        self.cut.finished
    }

    /// Abandons the cut in progress, if there is one.
    pub fn abandon_cut(&mut self) {
        let number = self.cut.number;
        let Cut { large, adopted, .. } = std::mem::replace(&mut self.cut, Cut { number, ..Cut::default() });
        self.garbage.frozen.extend(large.into_iter().map(|large| large.value));
        self.garbage.tables.extend(adopted.into_iter().map(|(_, table)| vec![table]));
    }

    /// A digest of everything that replicas must agree on: keys in order, values with the order of their elements,
    /// deadlines, the clock. Cost: O(state).
    pub fn digest(&self) -> u64 {
        let mut record = Vec::new();
        let mut digest = DigestSum::default();
        for (label, db) in self.dbs.iter().enumerate() {
            for table in db.slots() {
                for (place, entry) in (0..).zip(table.entries.iter()) {
                    record.clear();
                    encode_entry(&mut record, label as u8, entry);
                    digest.add(place, &record);
                    add_pieces(&mut digest, label as u8, entry);
                }
            }
        }
        let mut place = Place::Start;
        loop {
            record.clear();
            record.push(RECORD_SCRIPT);
            let Some(next) = self.scripts.put_record(&place, &mut record) else { break };
            digest.add(next.seed(), &record);
            place = next;
        }
        let mut place = 0;
        loop {
            record.clear();
            record.push(RECORD_REMOVALS);
            let Some(next) = self.removals.put_record(place, &mut record) else { break };
            digest.add(0, &record);
            place = next;
        }
        for ((deadline, _), once) in self.once.from(once::Place::default()) {
            record.clear();
            encode_once(&mut record, deadline, once);
            digest.add(0, &record);
        }
        digest.finish(self.stamp, self.numbers, self.changes)
    }

    /// Saves the next record of `ONCE`; false if there is none left.
    fn cut_next_once(&mut self) -> bool {
        let end = self.cut.once_end;
        let Some((place, record)) = self.once.from(self.cut.once_next).find(|(place, _)| place.1 < end)
        else {
            return false;
        };
        self.cut.once_next = (place.0, place.1 + 1);
        self.cut.save_once(place, record);
        true
    }

    fn cut_next_slot(&mut self) {
        let (label, slot) = self.cut.next;
        self.cut.next = if slot + 1 < SLOT_COUNT { (label, slot + 1) } else { (label + 1, 0) };
        let db = self.dbs.iter_mut().find(|db| db.cut_label == label).expect("every label names a database");
        if db.slots().is_empty() {
            self.cut.next = (label + 1, 0);
            return;
        }
        let table = db.slot_mut(slot, self.cut.number);
        self.cut.before_change(label, table);
    }
}

/// Appends a record behind its length.
fn put_record(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; LENGTH_BYTES]);
    write(out);
    let len = (out.len() - start - LENGTH_BYTES) as u64;
    out[start..start + LENGTH_BYTES].copy_from_slice(&len.to_le_bytes());
}

fn encode_entry(out: &mut Vec<u8>, label: u8, entry: &Entry) {
    out.push(RECORD_ENTRY);
    out.push(label);
    varint::put_bytes(out, &entry.key);
    varint::put(out, entry.deadline.0.wrapping_add(1)); // never is one byte
    varint::put(out, u64::from(entry.version.0));
    if entry.value.is_large() {
        entry.value.encode_first(out);
    } else {
        entry.value.encode(out);
    }
}

/// Writes a piece of a large value, and gives the position of the first element behind it.
fn put_piece(
    out: &mut Vec<u8>,
    label: u8,
    key: &[u8],
    kind: Kind,
    elements: &dyn Elements,
    from: usize,
) -> usize {
    out.push(RECORD_PIECE);
    out.push(label);
    varint::put_bytes(out, key);
    encode_piece(kind, elements, from, out)
}

/// Adds to `digest` the pieces that a cut would write of a large value.
fn add_pieces(digest: &mut DigestSum, label: u8, entry: &Entry) {
    if !entry.value.is_large() {
        return;
    }
    let (elements, kind) = (entry.value.elements(), entry.value.kind());
    let mut record = Vec::new();
    let mut from = 1;
    while from < elements.count() {
        record.clear();
        let next = put_piece(&mut record, label, &entry.key, kind, elements, from);
        digest.add(from as u64, &record);
        from = next;
    }
}

fn encode_once(out: &mut Vec<u8>, deadline: Millis, record: &OnceRecord) {
    out.push(RECORD_ONCE);
    record.encode(deadline, out);
}

/// A checkpoint that does not make sense. Its chunks passed their checksums, so this is a newer format or a bug.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RestoreError {
    Record {
        number: u64,
        cause: Malformed,
    },
    /// The stream ended before its end record.
    Incomplete {
        records: u64,
    },
    /// The end record counts other entries than were read.
    Count {
        expected: u64,
        found: u64,
    },
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RestoreError::Record { number, cause } => write!(f, "record {number}: {cause}"),
            RestoreError::Incomplete { records } => {
                write!(f, "the checkpoint ends early, after {records} records")
            }
            RestoreError::Count { expected, found } => {
                write!(f, "the checkpoint holds {found} entries, its end record says {expected}")
            }
        }
    }
}

impl std::error::Error for RestoreError {}

/// Rebuilds a keyspace from the bytes of a cut, given in pieces of any size.
#[derive(Default)]
pub struct Restore {
    keyspace: Keyspace,
    /// The front part of a record whose rest has not been given yet.
    partial: Vec<u8>,
    records: u64,
    entries: u64,
    /// As the state's record says; while keys are put in they count as changes again.
    changes: Option<Changes>,
    ended: bool,
}

impl Restore {
    /// Takes the next bytes of the cut. Memory: the longest record at most.
    pub fn feed(&mut self, mut bytes: &[u8]) -> Result<(), RestoreError> {
        if !self.partial.is_empty() {
            let mut partial = std::mem::take(&mut self.partial);
            partial.extend_from_slice(bytes);
            let used = self.records_of(&partial)?;
            partial.drain(..used);
            self.partial = partial;
            return Ok(());
        }
        let used = self.records_of(bytes)?;
        bytes = &bytes[used..];
        self.partial.extend_from_slice(bytes);
        Ok(())
    }

    /// The rebuilt keyspace, equal in every digest to the one at the cut.
    pub fn finish(mut self) -> Result<Keyspace, RestoreError> {
        if !self.ended || !self.partial.is_empty() {
            return Err(RestoreError::Incomplete { records: self.records });
        }
        if let Some(changes) = self.changes {
            self.keyspace.changes = changes;
        }
        Ok(self.keyspace)
    }

    fn records_of(&mut self, bytes: &[u8]) -> Result<usize, RestoreError> {
        let mut used = 0;
        while let Some(head) = bytes.get(used..used + LENGTH_BYTES) {
            let len = u64::from_le_bytes(head.try_into().expect("eight bytes were taken"));
            let start = used + LENGTH_BYTES;
            let fail = |cause| RestoreError::Record { number: self.records, cause };
            if len > RECORD_BYTES_MAX {
                return Err(fail(Malformed { offset: 0, expected: "a record of at most 1 TiB" }));
            }
            let Some(record) = bytes.get(start..start + len as usize) else { break };
            self.record(record)?;
            self.records += 1;
            used = start + len as usize;
        }
        Ok(used)
    }

    fn record(&mut self, record: &[u8]) -> Result<(), RestoreError> {
        let number = self.records;
        let fail = |cause| RestoreError::Record { number, cause };
        let mut input = Reader::new(record);
        if self.ended {
            return Err(fail(Malformed { offset: 0, expected: "nothing behind the end record" }));
        }
        match input.u8().map_err(fail)? {
            RECORD_STATE => {
                self.keyspace.stamp = Millis(input.varint().map_err(fail)?);
                // Checkpoints of versions without queues end here.
                if input.left() > 0 {
                    self.keyspace.numbers.raise(input.varint().map_err(fail)?);
                }
                // And of those without WATCH here.
                if input.left() > 0 {
                    self.changes = Some(Changes::from_count(input.varint().map_err(fail)?));
                }
            }
            kind @ (RECORD_ENTRY | RECORD_ENTRY_UNNUMBERED) => {
                self.entry(&mut input, kind == RECORD_ENTRY).map_err(fail)?;
                self.entries += 1;
            }
            RECORD_ONCE => {
                self.keyspace.once.restore(&mut input).map_err(fail)?;
                self.entries += 1;
            }
            RECORD_SCRIPT => {
                self.keyspace.scripts_mut().restore(&mut input).map_err(fail)?;
                self.entries += 1;
            }
            RECORD_REMOVALS => {
                self.keyspace.removals.restore(&mut input).map_err(fail)?;
                self.entries += 1;
            }
            RECORD_PIECE => {
                self.piece(&mut input).map_err(fail)?;
                self.entries += 1;
            }
            RECORD_END => {
                let expected = input.varint().map_err(fail)?;
                if expected != self.entries {
                    return Err(RestoreError::Count { expected, found: self.entries });
                }
                self.ended = true;
            }
            _ => return Err(fail(Malformed { offset: 0, expected: "a record of kind 0 to 7" })),
        }
        input.end().map_err(fail)
    }

    fn piece(&mut self, input: &mut Reader<'_>) -> Result<(), Malformed> {
        let db = database(input)?;
        let key = input.bytes()?;
        let Some(entry) = self.keyspace.table_mut(db, slot_of(key)).entries.get_mut(key) else {
            return input.malformed("a key that is in the database already");
        };
        let deadline_before = entry.value.next_deadline();
        entry.value.decode_piece(input)?;
        self.keyspace.reindex(db, key, deadline_before);
        Ok(())
    }

    fn entry(&mut self, input: &mut Reader<'_>, is_numbered: bool) -> Result<(), Malformed> {
        let db = database(input)?;
        let key = input.bytes()?;
        let deadline = Millis(input.varint()?.wrapping_sub(1));
        let version = if is_numbered { Some(Version::read(input)?) } else { None };
        let value = Value::decode(input)?;
        if value.is_empty() {
            return input.malformed("a collection with elements");
        }
        // At the beginning of time every deadline is ahead, so that this sees every key.
        if self.keyspace.peek(db, key, Millis(0)).is_some() {
            return input.malformed("a key that is not in the database yet");
        }
        self.keyspace.put(db, key, value, deadline);
        if let Some(version) = version {
            let entry = self.keyspace.table_mut(db, slot_of(key)).entries.get_mut(key);
            entry.expect("it was put there").version = version;
        }
        Ok(())
    }
}

fn database(input: &mut Reader<'_>) -> Result<u8, Malformed> {
    match input.u8()? {
        db if db < DB_COUNT => Ok(db),
        _ => input.malformed("a database below 16"),
    }
}

const _: () = assert!(NEVER.0 == u64::MAX, "the encoding of deadlines relies on it");
