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
    sealed: VecDeque<Sealed>,
    /// Batches proposed by this node as leader, by the position of their entries.
    pub in_flight: VecDeque<Proposed>,
    pub applied: LogId,
    /// The position of the newest checkpoint.
    pub saved: LogId,
    /// The latest time by which this node has judged a deadline. Stamps are never older, so that what was seen to be
    /// expired stays expired.
    pub clock: Millis,
}

/// A closed batch that is not proposed yet.
pub(crate) struct Sealed {
    pub payload: Bytes,
    pub batch: InFlight,
    /// When it was closed, monotonic.
    pub since: Millis,
}

/// A batch in the log.
pub(crate) struct Proposed {
    pub at: LogId,
    pub bytes: usize,
    pub since: Millis,
    /// `None` once its clients have been told that it takes too long.
    pub batch: Option<InFlight>,
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
    pub fn seal_batch(&mut self, stamp: Millis, seed: u64, mono: Millis) {
        let (payload, batch) = self.batch.seal(stamp, seed);
        self.sealed.push_back(Sealed { payload, batch, since: mono });
    }

    /// Takes out what waits since before `limit`: batches that were not proposed, which are dropped, and those that were,
    /// which stay in the log. In the order in which their clients asked.
    pub fn take_overdue(&mut self, limit: Millis) -> (Vec<InFlight>, Vec<InFlight>) {
        let proposed = self.in_flight.iter_mut().take_while(|p| p.since < limit);
        let proposed = proposed.filter_map(|p| p.batch.take()).collect();
        // Nobody waits for evictions, and the node counts on them.
        let overdue = |s: &Sealed| s.since < limit && s.batch.evictions == 0;
        let (dropped, kept) = std::mem::take(&mut self.sealed).into_iter().partition::<Vec<_>, _>(overdue);
        self.sealed = kept.into();
        (proposed, dropped.into_iter().map(|s| s.batch).collect())
    }

    /// Since when the oldest batch waits whose clients have not been told.
    pub fn waits_since(&self) -> Option<Millis> {
        let proposed = self.in_flight.iter().find(|p| p.batch.is_some()).map(|p| p.since);
        proposed.or_else(|| self.sealed.iter().find(|s| s.batch.evictions == 0).map(|s| s.since))
    }

    /// The next closed batch, if it can be proposed beside what is in flight.
    pub fn next_to_propose(&mut self) -> Option<Sealed> {
        let next = self.sealed.front()?.payload.len();
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
            + self.sealed.iter().map(|s| s.payload.len()).sum::<usize>()
            + self.batch.bytes()
    }

    /// Operations that are not applied yet, whose clients wait.
    pub fn ops_waiting(&self) -> usize {
        let sealed = self.sealed.iter().map(|s| &s.batch);
        let batches = self.in_flight.iter().filter_map(|p| p.batch.as_ref()).chain(sealed);
        batches.map(|batch| batch.ops.len()).sum::<usize>() + self.batch.len()
    }

    fn proposed_bytes(&self) -> usize {
        self.in_flight.iter().map(|p| p.bytes).sum()
    }
}
