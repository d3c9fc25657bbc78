//! A data shard on this node: its Raft group, its state machine, and the operations on their way through the log.

use std::collections::VecDeque;

use skep_base::{LogId, Millis};
use skep_consensus::Group;
use skep_keyspace::Keyspace;

use crate::batch::{Batch, InFlight};

/// Proposed bytes not yet applied above which clients are not read: some tens of milliseconds of a good disk.
pub const IN_FLIGHT_BYTES_MAX: u64 = 32 << 20;

pub(crate) struct Shard {
    pub group: Group,
    pub keyspace: Keyspace,
    /// What this turn has collected.
    pub batch: Batch,
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
    /// The time for a read or a stamp: the node's wall clock, but never behind what was used before.
    #[inline]
    pub fn time(&mut self, wall: Millis) -> Millis {
        self.clock = self.clock.max(wall).max(self.keyspace.stamp());
        self.clock
    }

    /// True if nothing is proposed or collected.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty() && self.batch.is_empty()
    }

    pub fn in_flight_bytes(&self) -> usize {
        self.in_flight.iter().map(|p| p.bytes).sum::<usize>() + self.batch.bytes()
    }

    /// Operations collected or proposed, whose clients wait.
    pub fn ops_waiting(&self) -> usize {
        self.in_flight.iter().map(|p| p.batch.ops.len()).sum::<usize>() + self.batch.len()
    }
}
