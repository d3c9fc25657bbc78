//! Callers of the node's limits, which all its cores share.
//!
//! Each caller is one word, the arrival time that `skep_gate::protect::rate` judges by, in a table of a fixed size whose parts are
//! made when they are first used. A caller who has a place costs no lock: a core that is stopped holds nobody up, and a caller whom
//! all cores serve costs them no more than that word. Who is new takes the lock of his set, so that nobody has two places.
//!
//! Invariant (INV-GATE-10): a time is replaced only if it is still the one that was judged, so what passes all cores is what would
//! pass one.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use skep_base::Micros;
use skep_base::rng::mix;
use skep_gate::protect::rate::{OfNode, Rate, Shared, Verdict};

/// Sets of one limit. With their places they hold 131,072 callers in 2 MiB; what they are found by takes 128 KiB from the beginning.
const SETS: u64 = 8192;
/// Places of a set. A caller that finds none free takes that of the one that has been quiet the longest.
const PLACES: usize = 16;

/// The tables of a node's limits, by name. Locked only when a configuration comes into force.
#[derive(Clone, Debug, Default)]
pub(crate) struct NodeLimits(Arc<Mutex<HashMap<String, Weak<Table>>>>);

#[derive(Debug)]
struct Table(Box<[OnceLock<Box<Set>>]>);

/// A core's hold on a table.
#[derive(Debug)]
struct Held(Arc<Table>);

/// Callers, 0 for nobody, and their arrival times.
#[derive(Debug, Default)]
struct Set {
    callers: [AtomicU64; PLACES],
    times: [AtomicU64; PLACES],
    taking: Mutex<()>,
}

impl OfNode for NodeLimits {
    fn callers(&self, limit: &str) -> Box<dyn Shared> {
        let mut tables = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tables.retain(|_, table| table.strong_count() > 0);
        let known = tables.get(limit).and_then(Weak::upgrade);
        let table = known.unwrap_or_else(|| Arc::new(Table((0..SETS).map(|_| OnceLock::new()).collect())));
        tables.insert(limit.to_owned(), Arc::downgrade(&table));
        Box::new(Held(table))
    }
}

impl Shared for Held {
    fn judge(&self, rate: Rate, caller: u64, now: Micros) -> Verdict {
        let caller = caller.max(1);
        let set = self.0.0[(mix(caller) % SETS) as usize].get_or_init(Box::default);
        let place = set.find(caller).unwrap_or_else(|| set.find_or_take(caller));
        set.judge(place, rate, now)
    }
}

impl Set {
    fn find(&self, caller: u64) -> Option<usize> {
        self.callers.iter().position(|own| own.load(Acquire) == caller)
    }

    /// The caller's place, which may be a free one, or that of the one quiet the longest, who is forgotten.
    ///
    /// A request of who is forgotten that another core judges in this very moment may count for the new one, once.
    #[cold]
    fn find_or_take(&self, caller: u64) -> usize {
        let _one_at_a_time = self.taking.lock().unwrap_or_else(PoisonError::into_inner);
        // Another core may have been faster.
        if let Some(place) = self.find(caller) {
            return place;
        }
        let time = |place: &usize| self.times[*place].load(Acquire);
        let free = (0..PLACES).find(|place| self.callers[*place].load(Acquire) == 0);
        let place = free.or_else(|| (0..PLACES).min_by_key(time)).unwrap_or(0);
        // In this order, so that the caller is not found with the time of the one before.
        self.times[place].store(0, Release);
        self.callers[place].store(caller, Release);
        place
    }

    fn judge(&self, place: usize, rate: Rate, now: Micros) -> Verdict {
        let time = &self.times[place];
        let mut found = time.load(Acquire);
        loop {
            let (verdict, moved) = rate.judge_shared(found, now);
            let Some(moved) = moved else { return verdict };
            match time.compare_exchange_weak(found, moved, AcqRel, Acquire) {
                Ok(_) => return verdict,
                Err(other) => found = other,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use super::*;

    const NOW: Micros = Micros::from_secs(10);

    /// So many, and as good as none after them.
    fn once(burst: u32) -> Rate {
        Rate::new(1.0, Micros::from_secs(3_600), burst)
    }

    #[test]
    fn threads_together_let_through_what_one_would() {
        // Callers are new to all at once, each time.
        for (rounds, callers, burst) in [(1, 100, 700), (50, 2_000, 1)] {
            for round in 0..rounds {
                let limits = NodeLimits::default();
                let (_held, begins) = (limits.callers("l"), Barrier::new(4));
                let one = || {
                    let shared = limits.callers("l");
                    begins.wait();
                    let requests = (0..callers * u64::from(burst) * 10 / 7).map(|n| 1 + n % callers);
                    requests.filter(|caller| shared.judge(once(burst), *caller, NOW).passes).count()
                };
                let passed: usize = std::thread::scope(|scope| {
                    let threads: Vec<_> = (0..4).map(|_| scope.spawn(one)).collect();
                    threads.into_iter().map(|thread| thread.join().unwrap()).sum()
                });
                assert_eq!(passed as u64, callers * u64::from(burst), "INV-GATE-10, round {round}");
            }
        }
    }

    #[test]
    fn a_set_that_is_full_forgets_who_has_been_quiet_the_longest() {
        let limits = NodeLimits::default();
        let held = limits.callers("l");
        let of_one_set: Vec<u64> = (1..).filter(|caller| mix(*caller) % SETS == 7).take(PLACES + 1).collect();
        let passes = |at: usize, now: u64| held.judge(once(1), of_one_set[at], Micros::from_secs(now)).passes;
        for at in 0..PLACES {
            assert!(passes(at, 100 + at as u64) && !passes(at, 100 + at as u64));
        }
        assert!(passes(PLACES, 200));
        assert!(!passes(PLACES, 200) && !passes(PLACES - 1, 200), "all others are known");
        assert!(passes(0, 200), "it was forgotten");
        assert!(!passes(2, 200), "in place of the next one");
    }

    #[test]
    fn a_limit_is_known_as_long_as_a_core_holds_it() {
        let limits = NodeLimits::default();
        let (one, other) = (limits.callers("l"), limits.callers("other"));
        assert!(one.judge(once(1), 0, NOW).passes && other.judge(once(1), 0, NOW).passes);
        let again = limits.callers("l");
        drop(one);
        assert!(!again.judge(once(1), 0, NOW).passes);
        drop((again, other));
        assert!(limits.callers("l").judge(once(1), 0, NOW).passes);
        assert_eq!(limits.0.lock().unwrap().len(), 1, "what nobody holds is not kept");
    }
}
