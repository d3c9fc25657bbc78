//! Peak EWMA: what an upstream costs at present, as latency.
//!
//! After Finagle's `PeakEwma`: a slower reply than the mean is believed at once, a faster one little by little, and
//! without replies the cost fades, so that an upstream that was bad is tried again. A failure counts as a reply of
//! [`FAILURE`], whatever it took: without that an upstream that fails fast looks best (linkerd2 #11669).

use skep_base::Micros;

/// In which an old cost loses 63 % of its weight (Finagle's default).
const DECAY: Micros = Micros::from_secs(10);
/// What a failure counts as. With a request of 10 ms elsewhere, the loser must be a hundred requests deep before the one
/// that fails is chosen, and its cost takes about 45 s to fade to that.
pub const FAILURE: Micros = Micros::from_secs(1);
/// No cost is below this: differences of less are noise of the network.
const LEAST: f64 = 50.0;
/// The cost of an upstream of which nothing is known (Linkerd's floor).
const UNKNOWN: f64 = 1_000.0;

/// The cost of one upstream.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    micros: f64,
    at: Micros,
}

impl Cost {
    /// The cost of an upstream that is new at `now`, in a pool where replies take `mean` if that is known.
    pub fn new(now: Micros, mean: Option<f64>) -> Cost {
        Cost { micros: mean.unwrap_or(UNKNOWN).max(LEAST), at: now }
    }

    /// Takes in a reply.
    pub fn observe(&mut self, now: Micros, latency: Micros) {
        let (sample, faded) = (latency.0 as f64, self.faded(now));
        self.micros = match sample > faded.0 {
            true => sample,
            false => self.micros * faded.1 + sample * (1.0 - faded.1),
        };
        self.at = self.at.max(now);
    }

    /// Takes in a failure that took `latency`.
    pub fn fail(&mut self, now: Micros, latency: Micros) {
        self.observe(now, latency.max(FAILURE));
    }

    /// The cost at `now`, in microseconds.
    pub fn get(&self, now: Micros) -> f64 {
        self.faded(now).0.max(LEAST)
    }

    /// The cost that is left, and the weight of what is old.
    fn faded(&self, now: Micros) -> (f64, f64) {
        let weight = libm::exp(-(now.since(self.at).0 as f64) / DECAY.0 as f64);
        (self.micros * weight, weight)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peak_counts_at_once_and_fades() {
        let at = |ms| Micros::from_millis(ms);
        let mut cost = Cost::new(at(0), None);
        cost.observe(at(1), at(10));
        assert_eq!(cost.get(at(1)), 10_000.0);
        cost.observe(at(2), at(1));
        assert!(cost.get(at(2)) > 9_900.0, "a fast reply counts for little");
        for ms in 3..60_000 {
            cost.observe(at(ms), at(1));
        }
        assert!((900.0..1_100.0).contains(&cost.get(at(60_000))), "{cost:?}");
        cost.fail(at(60_000), at(0));
        assert_eq!(cost.get(at(60_000)), FAILURE.0 as f64);
        assert!(cost.get(at(70_000)) < 0.37 * FAILURE.0 as f64);
        assert_eq!(cost.get(at(1_000_000_000)), LEAST);
    }

    #[test]
    fn a_clock_that_goes_back_changes_nothing() {
        let mut cost = Cost::new(Micros::from_secs(100), None);
        cost.observe(Micros::from_secs(5), Micros::from_millis(3));
        assert_eq!(cost.get(Micros::from_secs(1)), 3_000.0);
        assert_eq!(cost.at, Micros::from_secs(100));
    }
}
