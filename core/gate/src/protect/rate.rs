//! Rates: a token bucket per caller, kept as one instant (GCRA), in bounded memory.
//!
//! GCRA (ITU-T I.371) keeps the *theoretical arrival time*: the instant at which the bucket is full again. A request moves
//! it by one interval, and may not move it further than the burst ahead of the present.
//!
//! INV-GATE-10: in any time T at most `burst + T / interval` requests of a caller pass.

use std::fmt::Debug;

use hashbrown::HashTable;
use skep_base::Micros;
use skep_base::rng::mix;

/// Callers of one limit that a core remembers; further ones take the place of one that has been quiet the longest of a few.
/// 24 bytes each.
pub const CALLERS_MAX: usize = 100_000;
/// How many are looked at to find one to forget.
const LOOKED_AT: usize = 16;
/// Cores may read the clock so far apart, in nanoseconds: one may be stopped between that and the judging.
const CLOCKS_APART: u64 = 1_000_000_000;

/// A rate as GCRA needs it, in nanoseconds, so that millions a second are exact.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// Nanoseconds between two requests in the long run.
    interval: u64,
    /// How far the arrival time may be ahead of the present before a request.
    slack: u64,
    burst: u32,
}

/// What a limit says to a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Verdict {
    pub passes: bool,
    /// Requests that would pass at once after this one.
    pub remaining: u32,
    /// Until one more request would pass, if none would; else 0.
    pub wait: Micros,
    /// Until the whole burst would pass.
    pub reset: Micros,
}

impl Rate {
    /// `requests` in each `per`, and `burst` at once.
    pub fn new(requests: f64, per: Micros, burst: u32) -> Rate {
        let interval = ((per.0 as f64 * 1_000.0 / requests.max(1e-6)) as u64).max(1);
        Rate { interval, slack: interval.saturating_mul(u64::from(burst.max(1) - 1)), burst: burst.max(1) }
    }

    /// As [`Rate::judge`] by an arrival time that cores share: the verdict, and what the time becomes unless it stays. Whoever
    /// keeps it writes that only in place of `tat`, and asks again if another core was faster; so it is as if one core judged all.
    pub fn judge_shared(&self, tat: u64, now: Micros) -> (Verdict, Option<u64>) {
        let mut moved = tat;
        let verdict = self.judge(&mut moved, now);
        // By a clock that was read a moment before another core's, the time looks too far ahead. To set it back would give away what
        // the other core took; but what no clock explains was made by another rate, and would lock the caller out.
        let writes = verdict.passes || tat.saturating_sub(moved) > CLOCKS_APART;
        (verdict, writes.then_some(moved))
    }

    /// Judges a request at `now` by the arrival time `tat` (in nanoseconds; 0 for a new caller), and moves it if the
    /// request passes.
    pub fn judge(&self, tat: &mut u64, now: Micros) -> Verdict {
        let now = now.0.saturating_mul(1_000);
        let from = (*tat).max(now);
        let passes = from - now <= self.slack;
        if passes {
            *tat = from.saturating_add(self.interval);
        }
        // As a clock that went back leaves them, arrival times are never further ahead than a whole burst.
        *tat = (*tat).min(now.saturating_add(self.slack).saturating_add(self.interval));
        let ahead = tat.saturating_sub(now);
        let room = (self.slack + self.interval).saturating_sub(ahead);
        let remaining = (room / self.interval).min(u64::from(self.burst)) as u32;
        let wait = if remaining == 0 { ahead - self.slack } else { 0 };
        Verdict {
            passes,
            remaining,
            wait: Micros(wait.div_ceil(1_000)),
            reset: Micros(ahead.div_ceil(1_000)),
        }
    }
}

/// The callers of one limit, which the cores of a node share.
pub trait Shared: Debug {
    /// Judges a request of the caller with this hash by [`Rate::judge_shared`].
    fn judge(&self, rate: Rate, caller: u64, now: Micros) -> Verdict;
}

/// What a node's cores share of its limits.
pub trait OfNode: Debug {
    /// The callers of the limit with this name. What they used up is known as long as anybody holds them.
    fn callers(&self, limit: &str) -> Box<dyn Shared>;
}

/// The callers of one limit on one thread, by a hash of what tells them apart.
#[derive(Clone, Debug, Default)]
pub struct Callers {
    table: HashTable<(u64, u64)>,
    hand: usize,
}

impl Callers {
    /// Judges a request of the caller with this hash.
    ///
    /// Cost: O(1). A caller that was forgotten for want of room begins with a full burst again.
    pub fn judge(&mut self, rate: Rate, caller: u64, now: Micros) -> Verdict {
        let hash = mix(caller);
        if self.table.len() >= CALLERS_MAX && self.table.find(hash, |(c, _)| *c == caller).is_none() {
            self.forget_one();
        }
        let entry = self.table.entry(hash, |(c, _)| *c == caller, |(c, _)| mix(*c));
        rate.judge(&mut entry.or_insert((caller, 0)).into_mut().1, now)
    }

    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    fn forget_one(&mut self) {
        let buckets = self.table.num_buckets();
        let mut oldest: Option<(u64, u64)> = None;
        let mut seen = 0;
        for _ in 0..buckets {
            self.hand = (self.hand + 1) % buckets;
            if let Some(&(caller, tat)) = self.table.get_bucket(self.hand) {
                if oldest.is_none_or(|(_, other)| tat < other) {
                    oldest = Some((caller, tat));
                }
                seen += 1;
                if seen == LOOKED_AT {
                    break;
                }
            }
        }
        if let Some((caller, _)) = oldest
            && let Ok(entry) = self.table.find_entry(mix(caller), |(c, _)| *c == caller)
        {
            entry.remove();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_base::Rng;

    #[test]
    fn in_any_time_no_more_than_the_burst_and_the_rate_pass() {
        let mut rng = Rng::new(5);
        for (requests, per, burst) in
            [(100.0, 1, 10), (1.0, 1, 1), (5_000.0, 60, 100), (1_000_000.0, 1, 1_000)]
        {
            let rate = Rate::new(requests, Micros::from_secs(per), burst);
            let (mut tat, mut now) = (0, Micros::from_secs(1_000));
            let mut passed: Vec<u64> = Vec::new();
            for _ in 0..20_000 {
                now = now.plus(Micros(rng.below(2 * per * 1_000_000 / (requests as u64 * 40) + 2)));
                if rate.judge(&mut tat, now).passes {
                    passed.push(now.0);
                }
            }
            for span in [1, 10, 1_000] {
                for pair in passed.windows(span + 1) {
                    let time = (pair[span] - pair[0]) as f64 / 1e6;
                    let allowed = f64::from(burst) + time * requests / per as f64 + 0.01;
                    assert!((span + 1) as f64 <= allowed, "INV-GATE-10: {} in {time} s, {allowed}", span + 1);
                }
            }
            let time = (passed[passed.len() - 1] - passed[0]) as f64 / 1e6;
            let rate = passed.len() as f64 / (f64::from(burst) + time * requests / per as f64);
            assert!(rate > 0.95, "only {rate} of what is allowed passed");
        }
    }

    #[test]
    fn cores_whose_clocks_differ_let_no_more_through_than_one() {
        let mut rng = Rng::new(6);
        let (requests, burst) = (100_000, 50);
        let rate = Rate::new(f64::from(requests), Micros::from_secs(1), burst);
        let (mut tat, start, mut passed) = (0, Micros::from_secs(1_000), 0);
        for n in 0..1_000_000 {
            // One comes each microsecond, at a core that read the clock up to half a millisecond ago.
            let now = Micros(start.0 + n - rng.below(500).min(n));
            let (verdict, moved) = rate.judge_shared(tat, now);
            passed += u32::from(verdict.passes);
            tat = moved.unwrap_or(tat);
        }
        assert!(passed <= burst + requests, "INV-GATE-10: {passed}");
        assert!(passed >= requests - 100, "{passed}");
    }

    #[test]
    fn what_another_rate_made_of_a_time_that_is_shared_locks_nobody_out() {
        let (slow, fast) =
            (Rate::new(1.0, Micros::from_secs(3_600), 10), Rate::new(10.0, Micros::from_secs(1), 10));
        let (mut tat, mut now) = (0, Micros::from_secs(10));
        let mut judge = |rate: Rate, now| {
            let (verdict, moved) = rate.judge_shared(tat, now);
            tat = moved.unwrap_or(tat);
            verdict.passes
        };
        assert_eq!((0..12).filter(|_| judge(slow, now)).count(), 10);
        assert!(!judge(fast, now));
        now = now.plus(Micros::from_millis(1_000));
        assert_eq!((0..12).filter(|_| judge(fast, now)).count(), 10);
    }

    #[test]
    fn what_is_left_and_how_long_to_wait_are_true() {
        let rate = Rate::new(2.0, Micros::from_secs(1), 3);
        let (mut tat, now) = (0, Micros::from_secs(7));
        let ms = Micros::from_millis;
        for (passes, remaining, wait, reset) in
            [(true, 2, 0, 500), (true, 1, 0, 1_000), (true, 0, 500, 1_500), (false, 0, 500, 1_500)]
        {
            let expected = Verdict { passes, remaining, wait: ms(wait), reset: ms(reset) };
            assert_eq!(rate.judge(&mut tat, now), expected);
        }
        assert!(!rate.judge(&mut tat, now.plus(ms(499))).passes);
        assert!(rate.judge(&mut tat, now.plus(ms(500))).passes);
        assert!(rate.judge(&mut tat, Micros(0)).wait <= ms(500), "a clock that goes back locks nobody out");
    }

    #[test]
    fn memory_is_bounded_and_the_busy_are_remembered() {
        let rate = Rate::new(1.0, Micros::from_secs(10), 1);
        let mut callers = Callers::default();
        let mut blocked = 0;
        for n in 0..3 * CALLERS_MAX as u64 {
            let now = Micros(n * 10);
            callers.judge(rate, n + 10, now);
            if n % 1_000 == 0 {
                blocked += u64::from(!callers.judge(rate, 1, now).passes);
            }
        }
        assert_eq!(callers.len(), CALLERS_MAX);
        assert!(blocked >= 290, "{blocked} of 300: a caller that keeps coming is not forgotten");
    }
}
