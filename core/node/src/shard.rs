//! A data shard on this node: its Raft group, its state machine, and the operations on their way through the log.

use std::collections::VecDeque;

use bytes::Bytes;
use skep_base::{LogId, Millis};
use skep_consensus::Group;
use skep_keyspace::Keyspace;

use crate::batch::{Batch, InFlight};

/// Proposed bytes not yet applied above which clients are not read: some tens of milliseconds of a good disk.
pub const IN_FLIGHT_BYTES_MAX: u64 = 32 << 20;

/// Bytes proposed at once; below the group's own limit on what is uncommitted. One larger entry goes alone.
const PROPOSED_BYTES_MAX: usize = 48 << 20;

pub(crate) struct Shard {
    pub group: Group,
    pub keyspace: Keyspace,
    /// What this turn has collected.
    pub batch: Batch,
    /// Batches that wait for those before them to be applied.
    sealed: VecDeque<(Bytes, InFlight)>,
    /// Batches proposed by this node as leader, by the position of their entries.
    pub in_flight: VecDeque<Proposed>,
    pub applied: LogId,
    /// The position of the newest checkpoint.
    pub saved: LogId,
    /// The latest time by which this node has judged a deadline. Stamps are never older, so that what was seen to be
    /// expired stays expired.
    pub clock: Millis,
}

pub(crate) struct Proposed {
    pub at: LogId,
    pub bytes: usize,
    pub batch: InFlight,
}

impl Shard {
    /// A shard whose state is that at `applied`.
    pub fn new(group: Group, keyspace: Keyspace, applied: LogId) -> Shard {
        Shard {
            group,
            keyspace,
            batch: Batch::default(),
            sealed: VecDeque::new(),
            in_flight: VecDeque::new(),
            applied,
            saved: applied,
            clock: Millis(0),
        }
    }

    /// The time for a read or a stamp: the node's wall clock, but never behind what was used before.
    #[inline]
    pub fn time(&mut self, wall: Millis) -> Millis {
        self.clock = self.clock.max(wall).max(self.keyspace.stamp());
        self.clock
    }

    /// Closes the batch collected; the next operation begins another.
    pub fn seal_batch(&mut self, stamp: Millis, seed: u64) {
        let sealed = self.batch.seal(stamp, seed);
        self.sealed.push_back(sealed);
    }

    /// The next closed batch, if it can be proposed beside what is in flight.
    pub fn next_to_propose(&mut self) -> Option<(Bytes, InFlight)> {
        let next = self.sealed.front()?.0.len();
        if self.in_flight.is_empty() || self.proposed_bytes() + next <= PROPOSED_BYTES_MAX {
            self.sealed.pop_front()
        } else {
            None
        }
    }

    /// True if nothing is collected, waits or is in flight.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.sealed.is_empty() && self.batch.is_empty()
    }

    /// Bytes of operations that are not applied yet.
    pub fn bytes_waiting(&self) -> usize {
        self.proposed_bytes()
            + self.sealed.iter().map(|(payload, _)| payload.len()).sum::<usize>()
            + self.batch.bytes()
    }

    /// Operations that are not applied yet, whose clients wait.
    pub fn ops_waiting(&self) -> usize {
        let sealed = self.sealed.iter().map(|(_, batch)| batch);
        let batches = self.in_flight.iter().map(|p| &p.batch).chain(sealed);
        batches.map(|batch| batch.ops.len()).sum::<usize>() + self.batch.len()
    }

    fn proposed_bytes(&self) -> usize {
        self.in_flight.iter().map(|p| p.bytes).sum()
    }
}
