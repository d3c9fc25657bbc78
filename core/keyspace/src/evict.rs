//! Which key should go when memory is short. Looks only; the node logs the removal of what is chosen, so that replicas
//! remove the same, although each has its own idea of what is used.

use skep_base::{Millis, Rng};

use crate::access::AccessMode;
use crate::db::{Db, Entry, NEVER};
use crate::dense::Keyed;
use crate::keyspace::{DB_COUNT, Keyspace};

/// What `maxmemory-policy` allows.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum EvictionPolicy {
    /// Nothing goes; writes that need memory are refused.
    #[default]
    NoEviction,
    AllKeysLru,
    AllKeysLfu,
    AllKeysRandom,
    VolatileLru,
    VolatileLfu,
    VolatileRandom,
    VolatileTtl,
}

impl EvictionPolicy {
    pub const ALL: [EvictionPolicy; 8] = [
        EvictionPolicy::NoEviction,
        EvictionPolicy::AllKeysLru,
        EvictionPolicy::AllKeysLfu,
        EvictionPolicy::AllKeysRandom,
        EvictionPolicy::VolatileLru,
        EvictionPolicy::VolatileLfu,
        EvictionPolicy::VolatileRandom,
        EvictionPolicy::VolatileTtl,
    ];

    /// The policy of this name, in any case.
    pub fn parse(name: &[u8]) -> Option<EvictionPolicy> {
        EvictionPolicy::ALL.into_iter().find(|p| name.eq_ignore_ascii_case(p.name().as_bytes()))
    }

    pub fn name(self) -> &'static str {
        match self {
            EvictionPolicy::NoEviction => "noeviction",
            EvictionPolicy::AllKeysLru => "allkeys-lru",
            EvictionPolicy::AllKeysLfu => "allkeys-lfu",
            EvictionPolicy::AllKeysRandom => "allkeys-random",
            EvictionPolicy::VolatileLru => "volatile-lru",
            EvictionPolicy::VolatileLfu => "volatile-lfu",
            EvictionPolicy::VolatileRandom => "volatile-random",
            EvictionPolicy::VolatileTtl => "volatile-ttl",
        }
    }

    /// True if only keys with a deadline may go.
    pub fn is_volatile(self) -> bool {
        matches!(
            self,
            EvictionPolicy::VolatileLru
                | EvictionPolicy::VolatileLfu
                | EvictionPolicy::VolatileRandom
                | EvictionPolicy::VolatileTtl
        )
    }

    /// What has to be recorded of each use for this policy.
    pub fn access_mode(self) -> AccessMode {
        match self {
            EvictionPolicy::AllKeysLfu | EvictionPolicy::VolatileLfu => AccessMode::Lfu,
            _ => AccessMode::Lru,
        }
    }
}

/// Walks that look for a volatile key near a random one, and entries seen in each, before the expiry index is asked.
const VOLATILE_WALKS: usize = 4;
const VOLATILE_WALK_ENTRIES: usize = 64;

impl Keyspace {
    /// The key that `policy` would remove next, and its database: the worst of `samples` drawn from all databases
    /// (`maxmemory-samples`), for `volatile-ttl` exactly the one with the earliest deadline. `None` if no key may go.
    ///
    /// `rng` is the leader's own. Cost: O(256) for each sample.
    pub fn eviction_candidate(
        &self,
        policy: EvictionPolicy,
        samples: usize,
        rng: &mut Rng,
    ) -> Option<(u8, &[u8])> {
        let idle = |entry: &Entry| u64::from(self.access.idle_seconds(entry.access.get()));
        let rarity = |entry: &Entry| u64::from(u8::MAX - self.access.frequency(entry.access.get()));
        let volatile = policy.is_volatile();
        let (db, entry) = match policy {
            EvictionPolicy::NoEviction => return None,
            EvictionPolicy::VolatileTtl => self.earliest()?,
            EvictionPolicy::AllKeysRandom | EvictionPolicy::VolatileRandom => self.draw(volatile, rng)?,
            EvictionPolicy::AllKeysLru | EvictionPolicy::VolatileLru => {
                self.worst(volatile, samples, rng, idle)?
            }
            EvictionPolicy::AllKeysLfu | EvictionPolicy::VolatileLfu => {
                self.worst(volatile, samples, rng, rarity)?
            }
        };
        Some((db, entry.key()))
    }

    /// Up to `count` keys with the earliest deadlines, in order, and their databases: what `volatile-ttl` removes.
    ///
    /// Cost: O(count) looks at the keys of a slot.
    pub fn soonest(&self, count: usize) -> Vec<(u8, &[u8])> {
        let mut rows: Vec<(Millis, u8, u16)> = Vec::new();
        for (number, db) in (0..DB_COUNT).zip(&self.dbs) {
            rows.extend(db.expiry.rows().take(count).map(|(deadline, slot)| (deadline, number, slot)));
        }
        rows.sort_unstable();
        let keys_of = |(deadline, db, slot): (Millis, u8, u16)| {
            self.slot_entries(db, slot).filter(move |e| e.deadline == deadline).map(move |e| (db, e.key()))
        };
        rows.into_iter().flat_map(keys_of).take(count).collect()
    }

    /// About how many bytes a key with its value takes.
    pub fn entry_bytes(&self, db: u8, key: &[u8]) -> Option<usize> {
        // At the beginning of time every deadline is ahead, so that this sees every key.
        self.peek(db, key, Millis(0)).map(Entry::bytes)
    }

    /// The first drawn of those with the highest score.
    fn worst(
        &self,
        volatile: bool,
        samples: usize,
        rng: &mut Rng,
        score: impl Fn(&Entry) -> u64,
    ) -> Option<(u8, &Entry)> {
        let (mut db, mut worst) = self.draw(volatile, rng)?;
        for _ in 1..samples {
            let (other_db, other) = self.draw(volatile, rng)?;
            if score(other) > score(worst) {
                (db, worst) = (other_db, other);
            }
        }
        Some((db, worst))
    }

    /// A random key of any database, with a deadline if `volatile`.
    fn draw(&self, volatile: bool, rng: &mut Rng) -> Option<(u8, &Entry)> {
        let keys = |db: &Db| if volatile { db.volatile } else { db.keys };
        let total: usize = self.dbs.iter().map(keys).sum();
        if total == 0 {
            return None;
        }
        let mut rank = rng.below(total as u64) as usize;
        for (number, db) in (0..DB_COUNT).zip(&self.dbs) {
            if rank >= keys(db) {
                rank -= keys(db);
                continue;
            }
            let entry = if volatile { db.random_volatile(rng) } else { db.nth(rank) };
            return Some((number, entry.expect("the database has that many keys")));
        }
        unreachable!("{rank} is below the number of all keys")
    }

    fn earliest(&self) -> Option<(u8, &Entry)> {
        let first_of =
            |(number, db): (u8, &Db)| db.expiry.first().map(|(deadline, slot)| (deadline, number, slot));
        let (deadline, number, slot) = (0..DB_COUNT).zip(&self.dbs).filter_map(first_of).min()?;
        Some((number, self.db(number).due_at(deadline, slot)))
    }
}

impl Db {
    /// A key with a deadline; `None` if there is none. Even where such keys are not rare; where they are, one that is due
    /// after a longer pause is likelier.
    fn random_volatile(&self, rng: &mut Rng) -> Option<&Entry> {
        if self.volatile == 0 {
            return None;
        }
        for _ in 0..VOLATILE_WALKS {
            let from = rng.below(self.keys as u64) as usize;
            let found =
                self.entries_from(from).take(VOLATILE_WALK_ENTRIES).find(|entry| entry.deadline != NEVER);
            if found.is_some() {
                return found;
            }
        }
        let (first, _) = self.expiry.first()?;
        let (last, _) = self.expiry.last()?;
        let instant = first.plus(rng.below(last.since(first).saturating_add(1)));
        let (deadline, slot) = self.expiry.next_from(instant)?;
        Some(self.due_at(deadline, slot))
    }

    /// A key of `slot` with this deadline, which is in the expiry index.
    fn due_at(&self, deadline: Millis, slot: u16) -> &Entry {
        let mut entries = self.slot(slot).into_iter().flat_map(|table| table.entries.iter());
        entries
            .find(|entry| entry.deadline == deadline)
            .expect("the expiry index holds only deadlines of keys that are there")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Str;
    use crate::value::Typed;

    fn put(keyspace: &mut Keyspace, db: u8, key: &str, deadline: Millis) {
        keyspace.put(db, key.as_bytes(), Str::new(b"v").into_value(), deadline);
    }

    /// How often each key of a thousand draws is chosen.
    fn chosen(keyspace: &Keyspace, policy: EvictionPolicy) -> std::collections::BTreeMap<String, usize> {
        let mut rng = Rng::new(5);
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..1_000 {
            if let Some((db, key)) = keyspace.eviction_candidate(policy, 5, &mut rng) {
                assert!(keyspace.peek(db, key, Millis(0)).is_some());
                *counts.entry(String::from_utf8_lossy(key).into_owned()).or_insert(0) += 1;
            }
        }
        counts
    }

    #[test]
    fn names_are_read_back() {
        for policy in EvictionPolicy::ALL {
            assert_eq!(EvictionPolicy::parse(policy.name().to_uppercase().as_bytes()), Some(policy));
        }
        assert_eq!(EvictionPolicy::parse(b"lru"), None);
    }

    #[test]
    fn volatile_policies_spare_keys_that_stay() {
        let mut keyspace = Keyspace::default();
        for i in 0..2_000 {
            put(&mut keyspace, 0, &format!("stays{i}"), NEVER);
        }
        for policy in EvictionPolicy::ALL.into_iter().filter(|p| p.is_volatile()) {
            assert!(chosen(&keyspace, policy).is_empty(), "{}", policy.name());
        }
        for i in 0..5u64 {
            put(&mut keyspace, 3 + i as u8, &format!("goes{i}"), Millis(1_000 - i));
        }
        put(&mut keyspace, 0, "goes5", Millis(1_000_000));
        for policy in EvictionPolicy::ALL.into_iter().filter(|p| p.is_volatile()) {
            let counts = chosen(&keyspace, policy);
            let expected = if policy == EvictionPolicy::VolatileTtl { 1 } else { 6 };
            assert!(counts.keys().all(|k| k.starts_with("goes")), "{}: {counts:?}", policy.name());
            // Untouched keys are equally old, so that all but the exact policy choose among all.
            assert_eq!(counts.len(), expected, "{}: {counts:?}", policy.name());
        }
        assert_eq!(chosen(&keyspace, EvictionPolicy::VolatileTtl)["goes4"], 1_000);
        let soonest = |count| keyspace.soonest(count).into_iter().map(|(_, key)| key).collect::<Vec<_>>();
        assert_eq!(soonest(3), [b"goes4", b"goes3", b"goes2"]);
        assert_eq!(soonest(100).len(), 6);
        assert!(chosen(&keyspace, EvictionPolicy::NoEviction).is_empty());
    }

    #[test]
    fn keys_not_used_for_long_go_first() {
        let mut keyspace = Keyspace::default();
        for i in 0..100u64 {
            keyspace.access.set_now(Millis(i * 1_000));
            put(&mut keyspace, (i % 4) as u8, &format!("{i:02}"), NEVER);
        }
        let counts = chosen(&keyspace, EvictionPolicy::AllKeysLru);
        let old: usize = counts.iter().filter(|(key, _)| key.as_str() < "50").map(|(_, n)| n).sum();
        assert!(old > 950, "{old} of 1000 choices are of the older half");
        // A single use saves a key.
        keyspace.get(0, b"00", Millis(0)).expect("it was put");
        assert_eq!(chosen(&keyspace, EvictionPolicy::AllKeysLru).get("00"), None);
    }

    #[test]
    fn keys_used_seldom_go_first() {
        let mut keyspace = Keyspace::default();
        keyspace.access.set_mode(AccessMode::Lfu);
        for i in 0..100 {
            put(&mut keyspace, 0, &format!("{i:02}"), NEVER);
        }
        for _ in 0..200 {
            for i in 50..100 {
                keyspace.get(0, format!("{i:02}").as_bytes(), Millis(0)).expect("it was put");
            }
        }
        let counts = chosen(&keyspace, EvictionPolicy::AllKeysLfu);
        let seldom: usize = counts.iter().filter(|(key, _)| key.as_str() < "50").map(|(_, n)| n).sum();
        assert!(seldom > 950, "{seldom} of 1000 choices are of the half used once");
    }
}
