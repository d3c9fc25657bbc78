//! `maxmemory`: refusing writes that grow, and choosing keys to go. Eviction is a logged write like any other.

use std::collections::BTreeMap;

use skep_base::Args;
use skep_base::args::OwnedArgs;
use skep_keyspace::EvictionPolicy;

use crate::Node;
use crate::shard::{IN_FLIGHT_BYTES_MAX, Shard};

/// Keys chosen per turn at the least, so that a lowered limit is reached soon, but does not stall the node.
const EVICTIONS_PER_TURN: usize = 512;
/// Keys chosen per turn for each operation of the turn: more than one, or growth would outrun eviction.
const EVICTIONS_PER_OP: usize = 2;
/// How far a policy that evicts may let memory grow above its limit while evictions are on their way: what may be in
/// flight, twice, and an eighth of the limit. Past it writes are refused as without a policy.
const OVERSHOOT_BYTES: u64 = 2 * IN_FLIGHT_BYTES_MAX;
const OVERSHOOT_SHARE: u64 = 8;
/// With a limit, the share of it that may wait for the disk, but enough for a batch at any rate.
const IN_FLIGHT_SHARE: u64 = 16;
const IN_FLIGHT_BYTES_MIN: u64 = 1 << 20;

/// Memory as the node sees it. The figure is the leader's own; what follows from it is logged.
#[derive(Default)]
pub(crate) struct Memory {
    /// Bytes allocated by the process, as the shell counted them at the last turn.
    pub used: u64,
    pub peak: u64,
    /// Of these, bytes of the log that are applied and wait for the disk: they go by themselves, and no eviction hastens it.
    log_bytes: u64,
    /// 0 for no limit.
    pub limit: u64,
    pub policy: EvictionPolicy,
    pub samples: usize,
    /// Bytes of writes admitted in this turn, which `used` does not show yet.
    admitted: u64,
    /// A script was let into this turn's batches for which there was no room: their entries are to say so.
    overdrawn: bool,
    /// Keys whose eviction is logged and not applied, with about how many bytes each frees.
    chosen: BTreeMap<(u8, Vec<u8>), u64>,
    /// Sum of the bytes in `chosen`.
    chosen_bytes: u64,
    /// True if the last search for a key to evict found none.
    exhausted: bool,
    /// Other cells have keys that could be evicted.
    pub others_evict: bool,
    pub evicted_keys: u64,
}

impl Memory {
    /// How much may wait for the disk: under a small limit little, or what waits would push out what is kept.
    /// It is for one of `cells`.
    pub fn in_flight_bytes_max(&self, cells: u64) -> u64 {
        let max = IN_FLIGHT_BYTES_MAX / cells;
        match self.limit {
            0 => max,
            limit => (limit / IN_FLIGHT_SHARE / cells).clamp(IN_FLIGHT_BYTES_MIN.min(max), max),
        }
    }

    /// What the limit is about: the bytes that only eviction or the clients' writes make fewer.
    fn held(&self) -> u64 {
        self.used.saturating_sub(self.log_bytes)
    }

    /// True if a write that may grow the state by `bytes` can be admitted.
    pub fn admits_growth(&mut self, bytes: usize) -> bool {
        let fits = self.has_room_for(self.admitted);
        if fits {
            self.admitted += bytes as u64;
        }
        fits
    }

    /// A script for which there is no room goes into an entry, which refuses it what needs memory.
    pub fn note_overdrawn(&mut self) {
        self.overdrawn = true;
    }

    /// True if scripts of an entry that is about to be proposed are to be refused what needs memory. What was admitted is
    /// in that entry, and had room.
    pub fn is_full(&self) -> bool {
        self.overdrawn || !self.has_room_for(0)
    }

    /// True if with so many bytes more no more is held than may be.
    fn has_room_for(&self, bytes: u64) -> bool {
        if self.limit == 0 {
            return true;
        }
        let wanted = self.held().saturating_add(bytes);
        let overshoot = OVERSHOOT_BYTES + self.limit / OVERSHOOT_SHARE;
        let evicts = self.evicts() || self.policy != EvictionPolicy::NoEviction && self.others_evict;
        wanted <= self.limit || evicts && wanted - self.limit <= overshoot
    }

    /// True if more is held than should be, and a policy could help.
    pub fn is_short(&self) -> bool {
        self.policy != EvictionPolicy::NoEviction && self.limit > 0 && self.held() > self.limit
    }

    /// True if there are keys here that could be evicted, as far as is known.
    pub fn evicts(&self) -> bool {
        self.policy != EvictionPolicy::NoEviction && self.limit > 0 && !self.exhausted
    }

    /// Forgets what the last search found; another policy may find more.
    pub fn search_again(&mut self) {
        self.exhausted = false;
    }

    /// Evictions that were chosen will not be applied: this node does not lead any more.
    pub fn forget_chosen(&mut self) {
        self.chosen.clear();
        self.chosen_bytes = 0;
    }

    fn choose(&mut self, db: u8, key: &[u8], bytes: u64) {
        self.chosen.insert((db, key.to_vec()), bytes);
        self.chosen_bytes += bytes;
    }
}

impl Node {
    /// True if this cell leads shards from which keys could be evicted, as far as is known.
    pub(crate) fn has_keys_to_evict(&self) -> bool {
        self.memory.evicts() && self.shards.iter().any(Shard::leads)
    }

    /// True while another cell's writes may need room that this cell can make; its own wake it anyway.
    pub(crate) fn makes_room(&self) -> bool {
        !self.cells.is_only() && self.memory.is_short() && self.ready && self.has_keys_to_evict()
    }

    /// Brings up to date what [`crate::Load`] said at the beginning of a turn: what the turn freed is room for the next
    /// command.
    pub fn set_memory_used(&mut self, bytes: u64) {
        self.memory.used = bytes;
    }

    /// Puts keys to be evicted into the batches of the shards that this node leads, which must be empty, while memory is
    /// above the limit. `ops` is the number of operations that this turn has proposed.
    pub(crate) fn evict_if_short(&mut self, ops: usize) {
        self.memory.peak = self.memory.peak.max(self.memory.used);
        let waiting: usize = self.shards.iter().map(Shard::bytes_waiting).sum();
        self.memory.log_bytes = self.persist.bytes_waiting.saturating_sub(waiting as u64);
        (self.memory.admitted, self.memory.overdrawn) = (0, false);
        let (policy, limit) = (self.memory.policy, self.memory.limit);
        let evicts = policy != EvictionPolicy::NoEviction && limit > 0;
        if !evicts || self.memory.held() <= limit || !self.ready || self.stopping || self.disk_full {
            return;
        }
        // Each cell evicts a share, until nothing is left to be shared.
        let excess = (self.memory.held() - limit).div_ceil(self.active_cells() as u64);
        let count = EVICTIONS_PER_TURN.max(EVICTIONS_PER_OP * ops);
        let mut found = false;
        for at in 0..self.shards.len() {
            if self.shards[at].leads() && self.shards[at].batch.is_empty() {
                found |= match policy {
                    EvictionPolicy::VolatileTtl => self.evict_soonest(at, excess, count),
                    _ => self.evict_sampled(at, excess, count),
                };
            }
        }
        self.memory.exhausted = !found && self.memory.chosen.is_empty();
    }

    /// Samples do not know what is chosen already: where the choice repeats itself, that goes first. False if nothing was
    /// found.
    fn evict_sampled(&mut self, at: usize, excess: u64, count: usize) -> bool {
        let (policy, samples) = (self.memory.policy, self.memory.samples);
        for _ in 0..count {
            if self.memory.chosen_bytes >= excess {
                break;
            }
            let Some(replica) = &self.shards[at].replica else { return false };
            let found = replica.keyspace.eviction_candidate(policy, samples, &mut self.rng);
            let Some((db, key)) = found.map(|(db, key)| (db, key.to_vec())) else { return false };
            self.choose(at, db, &key);
        }
        true
    }

    fn evict_soonest(&mut self, at: usize, excess: u64, count: usize) -> bool {
        let wanted = self.memory.chosen.len() + count;
        let Some(replica) = &self.shards[at].replica else { return false };
        let soonest = replica.keyspace.soonest(wanted);
        let soonest: Vec<(u8, Vec<u8>)> = soonest.into_iter().map(|(db, key)| (db, key.to_vec())).collect();
        let found = !soonest.is_empty();
        for (db, key) in soonest {
            if self.memory.chosen_bytes >= excess {
                break;
            }
            self.choose(at, db, &key);
        }
        found
    }

    fn choose(&mut self, at: usize, db: u8, key: &[u8]) {
        if self.memory.chosen.contains_key(&(db, key.to_vec())) {
            return;
        }
        let shard = &mut self.shards[at];
        let bytes = shard.replica.as_ref().and_then(|r| r.keyspace.entry_bytes(db, key)).unwrap_or(0);
        self.memory.choose(db, key, bytes as u64);
        let key = OwnedArgs::collect([key]);
        shard.batch.push_evict(db, key.args());
    }

    /// Carries out a logged eviction.
    pub(crate) fn evict(&mut self, at: usize, db: u8, keys: Args<'_>) {
        let Some(replica) = &mut self.shards[at].replica else { return };
        for key in keys.iter() {
            let chosen = self.memory.chosen.remove(&(db, key.to_vec()));
            self.memory.chosen_bytes -= chosen.unwrap_or(0);
            if replica.keyspace.evict(db, key) {
                self.memory.evicted_keys += 1;
            }
        }
    }
}
