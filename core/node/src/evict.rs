//! `maxmemory`: refusing writes that grow, and choosing keys to go. Eviction is a logged write like any other.

use std::collections::BTreeSet;

use skep_base::Args;
use skep_base::args::OwnedArgs;
use skep_keyspace::EvictionPolicy;

use crate::Node;

/// Keys chosen per turn at the most, so that a lowered limit does not stall the node.
const EVICTIONS_PER_TURN_MAX: usize = 512;

/// Memory as the node sees it. The figure is the leader's own; what follows from it is logged.
#[derive(Default)]
pub(crate) struct Memory {
    /// Bytes allocated by the process, as the shell counted them at the last turn.
    pub used: u64,
    pub peak: u64,
    /// 0 for no limit.
    pub limit: u64,
    pub policy: EvictionPolicy,
    pub samples: usize,
    /// Bytes of writes admitted and keys chosen in this turn, which `used` does not show yet.
    admitted: u64,
    /// True if the last search for a key to evict found none.
    exhausted: bool,
    pub evicted_keys: u64,
}

impl Memory {
    /// True if a write that may grow the state by `bytes` can be admitted.
    pub fn admits_growth(&mut self, bytes: usize) -> bool {
        if self.limit == 0 {
            return true;
        }
        let fits = self.used + self.admitted <= self.limit
            || self.policy != EvictionPolicy::NoEviction && !self.exhausted;
        if fits {
            self.admitted += bytes as u64;
        }
        fits
    }
}

impl Node {
    /// Puts keys to be evicted into the batch while memory is above the limit.
    pub(crate) fn evict_if_short(&mut self) {
        self.memory.peak = self.memory.peak.max(self.memory.used);
        self.memory.admitted = 0;
        let (policy, limit) = (self.memory.policy, self.memory.limit);
        if policy == EvictionPolicy::NoEviction
            || limit == 0
            || self.memory.used <= limit
            || !self.ready
            || self.disk_full
        {
            return;
        }
        // What is in flight has not freed its memory yet; choosing again now would take too many.
        if !self.shard.in_flight.is_empty() {
            return;
        }
        let excess = self.memory.used - limit;
        let mut freed = 0;
        let mut chosen = BTreeSet::new();
        for _ in 0..EVICTIONS_PER_TURN_MAX {
            if freed >= excess {
                return;
            }
            let samples = self.memory.samples;
            let Some((db, key)) = self.shard.keyspace.eviction_candidate(policy, samples, &mut self.rng)
            else {
                self.memory.exhausted = freed == 0;
                return;
            };
            if !chosen.insert((db, key.to_vec())) {
                return; // the choice repeats itself; what is chosen goes first
            }
            let bytes = self.shard.keyspace.entry_bytes(db, key).unwrap_or(0);
            freed += bytes as u64;
            let key = OwnedArgs::collect([key]);
            self.shard.batch.push_evict(db, key.args());
        }
    }

    /// Carries out a logged eviction.
    pub(crate) fn evict(&mut self, db: u8, keys: Args<'_>) {
        for key in keys.iter() {
            if self.shard.keyspace.remove(db, key) {
                self.memory.evicted_keys += 1;
            }
        }
    }
}
