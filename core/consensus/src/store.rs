//! The group's log in memory, as the library reads it. Whether an entry is durable is the library's own affair
//! (`persisted`); this keeps what was handed to the disk since the last checkpoint, and a margin behind it.
//!
//! Invariant: the indexes are consecutive from `start.index + 1`.

use raft::eraftpb::{ConfState, Entry, HardState, Snapshot, SnapshotMetadata};
use raft::{Error, GetEntriesContext, RaftState, Storage, StorageError};
use skep_base::{LogId, LogIndex, Term};
use std::cell::Cell;
use std::collections::VecDeque;

pub(crate) struct Store {
    /// What [`Storage::initial_state`] answers, once.
    initial: RaftState,
    /// The entry before the first one held.
    start: LogId,
    entries: VecDeque<Entry>,
    payload_bytes: u64,
    /// The newest durable checkpoint, for followers that need what the log does not hold any more.
    checkpoint: SnapshotMetadata,
    /// A follower needs a newer one.
    wanted: Cell<bool>,
}

impl Store {
    pub fn new(hard_state: HardState, conf_state: ConfState, start: LogId, entries: Vec<Entry>) -> Store {
        let checkpoint = metadata(start, conf_state.clone());
        let mut store = Store {
            initial: RaftState::new(hard_state, conf_state),
            checkpoint,
            wanted: Cell::new(false),
            start,
            entries: VecDeque::with_capacity(entries.len()),
            payload_bytes: 0,
        };
        store.append(&entries);
        store
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn payload_bytes(&self) -> u64 {
        self.payload_bytes
    }

    pub fn last(&self) -> LogIndex {
        LogIndex(self.start.index.0 + self.entries.len() as u64)
    }

    /// Adds entries; one at or before the last replaces it and all behind it.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(
            first.index > self.start.index.0 && first.index <= self.last().0 + 1,
            "entry {} does not follow a log from {} to {}",
            first.index,
            self.start.index,
            self.last()
        );
        while self.last().0 >= first.index {
            let cut =
                self.entries.pop_back().expect("the last index is behind the start, so an entry is held");
            self.payload_bytes -= cut.data.len() as u64;
        }
        let mut before = self.entries.back().map_or(self.start, position);
        for entry in entries {
            let this = position(entry);
            assert!(
                this.index == before.index.next() && this.term >= before.term,
                "INV-CONSENSUS-5: {this:?} follows {before:?}"
            );
            before = this;
            self.payload_bytes += entry.data.len() as u64;
            self.entries.push_back(entry.clone());
        }
    }

    /// Forgets entries up to `at`, but keeps the newest of them up to `kept_bytes_max` of payload.
    pub fn truncate_front(&mut self, at: LogIndex, kept_bytes_max: u64) {
        let mut cut = at.0.saturating_sub(self.start.index.0) as usize;
        let mut kept = 0;
        while cut > 0 {
            kept += self.entries[cut - 1].data.len() as u64 + ENTRY_OVERHEAD_BYTES;
            if kept > kept_bytes_max {
                break;
            }
            cut -= 1;
        }
        for _ in 0..cut {
            let entry = self.entries.pop_front().expect("no more are cut than are held");
            self.payload_bytes -= entry.data.len() as u64;
            self.start = position(&entry);
        }
        if self.entries.capacity() > 4 * self.entries.len() + ENTRIES_SPARE {
            self.entries.shrink_to(2 * self.entries.len() + ENTRIES_SPARE);
        }
    }

    /// The state machine up to `at` is durable by other means, with this membership.
    pub fn set_checkpoint(&mut self, at: LogId, membership: ConfState) {
        self.checkpoint = metadata(at, membership);
    }

    /// Replaces the whole log by the checkpoint at `at`, which it does not hold.
    pub fn install(&mut self, at: LogId, membership: ConfState) {
        self.entries.clear();
        self.payload_bytes = 0;
        self.start = at;
        self.set_checkpoint(at, membership);
    }

    /// Whether a follower asked in vain for a checkpoint since the last call.
    pub fn take_wanted(&self) -> bool {
        self.wanted.take()
    }

    /// Entries behind `from`.
    ///
    /// # Panics
    /// If the first of them is not held.
    pub fn behind(&self, from: LogIndex) -> impl Iterator<Item = &Entry> {
        let start = self.start.index;
        assert!(from >= start, "entries behind {from} in a log that begins behind {start}");
        self.entries.iter().skip((from.0 - start.0) as usize)
    }

    pub fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.start.index {
            return Some(self.start.term);
        }
        let position = index.0.checked_sub(self.start.index.0 + 1)?;
        self.entries.get(position as usize).map(|entry| Term(entry.term))
    }

    /// Both ends only, since it is called after each event; each entry is checked as it is added.
    pub fn assert_bounds(&self) {
        for entry in self.entries.front().into_iter().chain(self.entries.back()) {
            assert!(
                entry.term >= self.start.term.0,
                "INV-CONSENSUS-5: {entry:?} is older than {:?}",
                self.start
            );
        }
        let first = self.entries.front().map_or(self.start.index.0 + 1, |entry| entry.index);
        assert_eq!(first, self.start.index.0 + 1, "INV-CONSENSUS-5: a gap behind {:?}", self.start);
        let last = self.entries.back().map_or(self.start.index.0, |entry| entry.index);
        assert_eq!(last, self.last().0, "INV-CONSENSUS-5: a gap before {last}");
    }
}

fn is_member(members: &ConfState, node: u64) -> bool {
    members.voters.contains(&node)
        || members.learners.contains(&node)
        || members.voters_outgoing.contains(&node)
}

fn metadata(at: LogId, conf_state: ConfState) -> SnapshotMetadata {
    SnapshotMetadata { conf_state, index: at.index.0, term: at.term.0 }
}

fn position(entry: &Entry) -> LogId {
    LogId { term: Term(entry.term), index: LogIndex(entry.index) }
}

/// Counted for each kept entry beside its payload, so that empty ones are bounded too.
const ENTRY_OVERHEAD_BYTES: u64 = 96;
/// Places that an empty log keeps, so that a small one never reallocates.
const ENTRIES_SPARE: usize = 64;

impl Storage for Store {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(self.initial.clone())
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low <= self.start.index.0 {
            return Err(Error::Store(StorageError::Compacted));
        }
        let bytes_max = max_size.into().unwrap_or(u64::MAX);
        let low = (low - self.start.index.0 - 1) as usize;
        let high = (high - self.start.index.0 - 1) as usize;
        let mut taken = Vec::with_capacity((high - low).min(ENTRIES_SPARE));
        let mut bytes = 0u64;
        for entry in self.entries.range(low..high) {
            bytes = bytes.saturating_add(entry.data.len() as u64 + ENTRY_OVERHEAD_BYTES);
            if !taken.is_empty() && bytes > bytes_max {
                break;
            }
            taken.push(entry.clone());
        }
        Ok(taken)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        match self.term_at(LogIndex(index)) {
            Some(term) => Ok(term.0),
            None if index < self.start.index.0 => Err(Error::Store(StorageError::Compacted)),
            None => Err(Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.start.index.0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.last().0)
    }

    /// Where the newest checkpoint is; its bytes travel by themselves.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        // The library's follower silently ignores a checkpoint whose membership is without it.
        // One that ends before the log in memory begins would leave a gap.
        let needed = request_index.max(self.start.index.0).max(1);
        if self.checkpoint.index < needed || !is_member(&self.checkpoint.conf_state, to) {
            self.wanted.set(true);
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(Snapshot { metadata: self.checkpoint.clone(), ..Snapshot::default() })
    }
}
