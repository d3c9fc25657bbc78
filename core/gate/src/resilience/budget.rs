//! How many retries a route may send: a part of its requests, and a few a second.
//!
//! After Finagle's retry budget, with two differences. What a request earns can be saved for a second only, so that ten
//! quiet seconds do not pay for a storm. And the free retries are those of the whole cluster, of which each gateway has its
//! part, so that gateways do not add up.
//!
//! INV-GATE-5: within any time T, a budget lets through at most `share x requests in T + min x T` retries, and beyond that
//! at most what one second may save up and one.

use skep_base::Micros;

use crate::config::scalar::Share;
use crate::window::{Counts, Window};

/// In which a request's part must be spent.
const SAVED: Micros = Micros::from_secs(1);

/// The budget of a route on one core.
#[derive(Clone, Debug)]
pub struct Budget {
    share: f64,
    /// Free retries a second, of this core.
    rate: f64,
    recent: Window,
    earned: f64,
    free: f64,
    at: Micros,
}

impl Budget {
    /// A budget of `share` of the requests, and this gateway's part, one of `gateways`, of `min_per_second`.
    pub fn new(now: Micros, share: Share, min_per_second: u32, gateways: u32) -> Budget {
        let rate = f64::from(min_per_second) / f64::from(gateways.max(1));
        let free = if rate > 0.0 { rate.max(1.0) } else { 0.0 };
        Budget { share: share.fraction(), rate, recent: Window::new(SAVED), earned: 0.0, free, at: now }
    }

    /// The number of gateways has changed.
    pub fn set_gateways(&mut self, now: Micros, min_per_second: u32, gateways: u32) {
        self.refill(now);
        self.rate = f64::from(min_per_second) / f64::from(gateways.max(1));
        self.free = self.free.min(self.free_max());
    }

    /// A request has come, which is no retry of another gateway.
    pub fn earn(&mut self, now: Micros) {
        self.recent.add(now, Counts { total: 1, ..Counts::default() });
        self.earned += self.share;
        self.forget(now);
    }

    /// Takes a retry, if there is one.
    pub fn spend(&mut self, now: Micros) -> bool {
        self.refill(now);
        self.forget(now);
        for pot in [&mut self.earned, &mut self.free] {
            if *pot >= 1.0 {
                *pot -= 1.0;
                return true;
            }
        }
        false
    }

    fn free_max(&self) -> f64 {
        if self.rate > 0.0 { self.rate.max(1.0) } else { 0.0 }
    }

    fn refill(&mut self, now: Micros) {
        self.free = (self.free + now.since(self.at).secs() * self.rate).min(self.free_max());
        self.at = self.at.max(now);
    }

    /// Keeps what the requests of the last second earned, and one, so that a quiet route can save up for one.
    fn forget(&mut self, now: Micros) {
        let recent = self.recent.counts(now).total as f64 * self.share;
        self.earned = self.earned.min(recent.max(1.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Retries let through when `per_second` requests come and each wants one.
    fn spent(budget: &mut Budget, from: Micros, seconds: u64, per_second: u64) -> u64 {
        (0..seconds * per_second)
            .filter(|n| {
                let now = from.plus(Micros(n * 1_000_000 / per_second));
                budget.earn(now);
                budget.spend(now)
            })
            .count() as u64
    }

    #[test]
    fn retries_are_a_share_of_requests_and_a_few_a_second() {
        let mut budget = Budget::new(Micros(0), Share::percent(20), 10, 1);
        let retries = spent(&mut budget, Micros(0), 10, 1_000);
        assert!((2_050..=2_120).contains(&retries), "{retries}: 2,000 and 100, and 10 saved");
        let mut three: Vec<Budget> =
            (0..3).map(|_| Budget::new(Micros(0), Share::percent(0), 10, 3)).collect();
        let retries: u64 = three.iter_mut().map(|b| spent(b, Micros(0), 10, 1_000)).sum();
        assert!((95..=113).contains(&retries), "{retries}: three gateways share ten a second");
        let mut none = Budget::new(Micros(0), Share(0), 0, 1);
        assert_eq!(spent(&mut none, Micros(0), 10, 100), 0);
    }

    #[test]
    fn quiet_times_do_not_pay_for_a_storm() {
        let mut budget = Budget::new(Micros(0), Share::percent(20), 10, 1);
        for n in 0..10_000u64 {
            budget.earn(Micros::from_millis(n));
        }
        let storm = (0..10_000).filter(|_| budget.spend(Micros::from_secs(10))).count();
        assert!(storm <= 211, "{storm}: a second of 1,000 earned 200, and 10 are free");
        let later = (0..10_000).filter(|_| budget.spend(Micros::from_secs(100))).count();
        assert!(later <= 11, "{later}");
    }

    #[test]
    fn a_clock_that_goes_back_or_far_ahead_gives_nothing_extra() {
        let mut budget = Budget::new(Micros::from_secs(100), Share(0), 10, 1);
        let all = |budget: &mut Budget, now| (0..1_000).filter(|_| budget.spend(now)).count();
        assert_eq!(all(&mut budget, Micros::from_secs(100)), 10);
        assert_eq!(all(&mut budget, Micros::from_secs(50)), 0);
        assert_eq!(all(&mut budget, Micros::from_secs(100)), 0, "time that was counted already");
        assert_eq!(all(&mut budget, Micros::NEVER), 10);
    }
}
