//! Counts of what happened in the last seconds, in ten steps of time.
//!
//! Time rather than requests is the measure, so that a burst counts alike at any rate (linkerd2-proxy #4561). A clock that
//! jumps ahead empties the window; one that goes back counts into the newest step.

use skep_base::Micros;

const STEPS: usize = 10;

/// Sums over a window.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    pub total: u64,
    pub failed: u64,
    pub slow: u64,
    /// Sum of the latencies of what did not fail.
    pub latency: u64,
}

impl Counts {
    /// Adds the counts of another.
    pub fn add(&mut self, other: &Counts) {
        self.total += other.total;
        self.failed += other.failed;
        self.slow += other.slow;
        self.latency += other.latency;
    }

    /// Failures over all; 0 of nothing.
    pub fn failure_rate(&self) -> f64 {
        if self.total == 0 { 0.0 } else { self.failed as f64 / self.total as f64 }
    }

    /// Slow ones over all; 0 of nothing.
    pub fn slow_rate(&self) -> f64 {
        if self.total == 0 { 0.0 } else { self.slow as f64 / self.total as f64 }
    }

    /// Mean latency of what did not fail, in microseconds.
    pub fn mean_latency(&self) -> Option<f64> {
        assert!(self.failed <= self.total, "{self:?}");
        let well = self.total - self.failed;
        (well > 0).then(|| self.latency as f64 / well as f64)
    }
}

/// A sliding window.
#[derive(Clone, Debug)]
pub struct Window {
    step: u64,
    steps: [Counts; STEPS],
    /// The number of the newest step since the beginning of time.
    newest: u64,
    sum: Counts,
}

impl Window {
    pub fn new(length: Micros) -> Window {
        let step = (length.0 / STEPS as u64).max(1);
        Window { step, steps: [Counts::default(); STEPS], newest: 0, sum: Counts::default() }
    }

    /// Counts `what` at `now`. Returns the number of its step.
    pub fn add(&mut self, now: Micros, what: Counts) -> u64 {
        self.advance(now);
        self.steps[(self.newest % STEPS as u64) as usize].add(&what);
        self.sum.add(&what);
        self.newest
    }

    /// The number of the step in which `now` is counted.
    pub fn step(&mut self, now: Micros) -> u64 {
        self.advance(now);
        self.newest
    }

    /// What was counted as well in a step, with this latency, has failed. Where that step has left the window, it counts at `now`.
    ///
    /// # Panics
    /// If that step is there and nothing like it was counted in it since the window was cleared.
    pub fn fail_later(&mut self, now: Micros, step: u64, latency: u64) {
        self.advance(now);
        if self.newest.abs_diff(step) >= STEPS as u64 {
            self.add(now, Counts { total: 1, failed: 1, ..Counts::default() });
            return;
        }
        for counts in [&mut self.steps[(step % STEPS as u64) as usize], &mut self.sum] {
            assert!(
                counts.failed < counts.total && latency <= counts.latency,
                "{counts:?} without {latency}"
            );
            counts.failed += 1;
            counts.latency -= latency;
        }
    }

    /// The sums of the last `length`.
    pub fn counts(&mut self, now: Micros) -> Counts {
        self.advance(now);
        self.sum
    }

    pub fn clear(&mut self) {
        self.steps = [Counts::default(); STEPS];
        self.sum = Counts::default();
    }

    fn advance(&mut self, now: Micros) {
        let target = now.0 / self.step;
        if target <= self.newest {
            return;
        }
        if target - self.newest >= STEPS as u64 {
            self.clear();
        } else {
            for number in self.newest + 1..=target {
                self.steps[(number % STEPS as u64) as usize] = Counts::default();
            }
            self.sum = Counts::default();
            let Window { steps, sum, .. } = self;
            steps.iter().for_each(|step| sum.add(step));
        }
        self.newest = target;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one() -> Counts {
        Counts { total: 1, latency: 10, ..Counts::default() }
    }

    #[test]
    fn counts_leave_after_the_window_and_clock_jumps_are_harmless() {
        let at = Micros::from_millis;
        let mut window = Window::new(at(1_000));
        for ms in 0..1_000 {
            window.add(at(ms), one());
        }
        assert_eq!(window.counts(at(999)).total, 1_000);
        assert_eq!(window.counts(at(1_450)).total, 500);
        assert_eq!(window.counts(at(1_999)).total, 0);
        window.add(at(5_000), one());
        window.add(at(10), one());
        assert_eq!(window.counts(at(0)).total, 2, "going back counts into the newest step");
        assert_eq!(window.counts(Micros(u64::MAX)).total, 0);
        window.add(at(0), one());
        assert_eq!(window.counts(Micros(u64::MAX)), one());
    }

    #[test]
    fn what_fails_later_is_one_failure_of_one_and_no_latency() {
        let at = Micros::from_millis;
        let mut window = Window::new(at(1_000));
        let step = window.add(at(0), one());
        window.add(at(950), one());
        window.fail_later(at(950), step, 10);
        let counts = window.counts(at(950));
        assert_eq!(counts, Counts { total: 2, failed: 1, slow: 0, latency: 10 });
        assert_eq!(counts.mean_latency(), Some(10.0));
        assert_eq!(window.counts(at(1_000)), one(), "both have left together");
        window.fail_later(at(1_000), step, 10);
        assert_eq!(window.counts(at(1_000)), Counts { total: 2, failed: 1, slow: 0, latency: 10 });
        assert_eq!(window.step(at(1_050)), window.step(at(1_000)), "of the same tenth");
        window.clear();
        window.add(at(1_000), Counts { total: 1, failed: 1, ..Counts::default() });
        assert_eq!(window.counts(at(1_000)).mean_latency(), None);
    }
}
