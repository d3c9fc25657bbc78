//! Percentiles of latency over the last ten to twenty seconds, in fixed memory.

use skep_base::Micros;

/// Steps of a doubling: values are known to 1/8.
const STEPS: usize = 8;
/// Doublings from 1 us to 2^37 us, 38 hours.
const DOUBLINGS: usize = 38;
const HALF: Micros = Micros::from_secs(10);

/// Counts of latencies by size, in two halves of which the older is thrown away.
#[derive(Clone, Debug)]
pub struct Latencies {
    halves: [Box<[u32]>; 2],
    totals: [u64; 2],
    since: Micros,
}

impl Latencies {
    pub fn new(now: Micros) -> Latencies {
        let empty = || vec![0; STEPS * DOUBLINGS].into_boxed_slice();
        Latencies { halves: [empty(), empty()], totals: [0, 0], since: now }
    }

    pub fn add(&mut self, now: Micros, latency: Micros) {
        self.turn(now);
        let at = bucket(latency.0);
        self.halves[0][at] = self.halves[0][at].saturating_add(1);
        self.totals[0] += 1;
    }

    /// How many there are.
    pub fn count(&mut self, now: Micros) -> u64 {
        self.turn(now);
        self.totals[0] + self.totals[1]
    }

    /// The latency that `fraction` of all do not exceed, to 1/8, or `None` of less than `least`.
    pub fn percentile(&mut self, now: Micros, fraction: f64, least: u64) -> Option<Micros> {
        let total = self.count(now);
        if total < least.max(1) {
            return None;
        }
        let mut left = ((total as f64 * fraction) as u64).min(total - 1);
        for at in 0..STEPS * DOUBLINGS {
            let here = u64::from(self.halves[0][at]) + u64::from(self.halves[1][at]);
            if left < here {
                return Some(Micros(upper(at)));
            }
            left -= here;
        }
        None
    }

    fn turn(&mut self, now: Micros) {
        let gone = now.since(self.since);
        if gone < HALF {
            return;
        }
        self.halves.swap(0, 1);
        self.totals.swap(0, 1);
        self.halves[0].fill(0);
        self.totals[0] = 0;
        if gone.0 >= 2 * HALF.0 {
            self.halves[1].fill(0);
            self.totals[1] = 0;
        }
        self.since = now;
    }
}

fn bucket(us: u64) -> usize {
    if us < STEPS as u64 {
        return us as usize;
    }
    let doubling = us.ilog2() as usize - 2;
    let step = (us >> (us.ilog2() - 3)) as usize - STEPS;
    (doubling * STEPS + step).min(STEPS * DOUBLINGS - 1)
}

/// The greatest value of a bucket.
fn upper(at: usize) -> u64 {
    let (doubling, step) = (at / STEPS, at % STEPS);
    match doubling {
        0 => at as u64,
        doubling => ((STEPS + step + 1) as u64) << (doubling - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_right_to_an_eighth_and_old_ones_leave() {
        let at = Micros::from_secs;
        let mut latencies = Latencies::new(at(0));
        for us in 1..=10_000 {
            latencies.add(at(1), Micros(us));
        }
        for (fraction, exact) in [(0.05, 500.0), (0.5, 5_000.0), (0.95, 9_500.0), (1.0, 10_000.0)] {
            let found = latencies.percentile(at(2), fraction, 1).unwrap().0 as f64;
            assert!((0.99..=1.14).contains(&(found / exact)), "{fraction}: {found}");
        }
        assert_eq!(latencies.percentile(at(2), 0.5, 10_001), None);
        assert_eq!(latencies.count(at(12)), 10_000);
        assert_eq!(latencies.count(at(25)), 0);
        latencies.add(at(30), Micros(u64::MAX));
        latencies.add(at(3), Micros(0));
        assert_eq!(latencies.count(at(0)), 2);
        assert_eq!(latencies.count(Micros::NEVER), 0);
    }
}
