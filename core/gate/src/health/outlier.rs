//! Passive ejection: an upstream that is worse than the rest of its pool gets nothing for a while.
//!
//! Judged at each reply rather than in sweeps, and beside the rest of the pool by a test that two upstreams suffice for
//! (Envoy's needs five). An upstream that comes back begins with a slow start, which is the balancer's.

use skep_base::{Micros, Rng};

use crate::config::pool::Eject;
use crate::window::{Counts, Window};

/// Standard deviations between two failure rates that cannot be chance: once in 30,000 judgements, and judgements of
/// one upstream overlap.
const DEVIATIONS: f64 = 4.0;
/// Rates that differ by less are not worth an upstream, however certain the difference.
const RATE_GAP_LEAST: f64 = 0.05;
/// The span of the two comparisons.
const SPAN: Micros = Micros::from_secs(10);

/// The record of one upstream.
#[derive(Clone, Debug)]
pub struct Record {
    window: Window,
    in_a_row: u32,
    /// Ejections in a row, each of which makes the next one longer.
    times: u32,
    /// Ejected until then.
    until: Option<Micros>,
    /// When the last one ended.
    back: Micros,
    /// All ejections, each of which begins the record anew.
    ejections: u32,
    /// All attempts that were well.
    well: u64,
}

/// As what an attempt that was well has been counted, to be put right if its reply breaks off.
#[derive(Clone, Copy, Debug)]
pub struct Counted {
    ejections: u32,
    step: u64,
    latency: u64,
    /// The failures in a row that it has ended, and which of all that were well it was.
    before: u32,
    well: u64,
}

/// Why an upstream is ejected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reason {
    /// So many failures in a row.
    Consecutive,
    /// It fails more often than the rest.
    FailureRate,
    /// It is slower than the rest.
    Latency,
}

impl Default for Record {
    fn default() -> Record {
        Record {
            window: Window::new(SPAN),
            in_a_row: 0,
            times: 0,
            until: None,
            back: Micros(0),
            ejections: 0,
            well: 0,
        }
    }
}

impl Record {
    pub fn is_out(&self) -> bool {
        self.until.is_some()
    }

    /// When it comes back, if it is out.
    pub fn until(&self) -> Option<Micros> {
        self.until
    }

    /// Takes in the end of an attempt.
    pub fn add(&mut self, now: Micros, failed: bool, latency: Micros) -> Counted {
        let before = self.in_a_row;
        self.well = self.well.wrapping_add(u64::from(!failed));
        self.in_a_row = if failed { self.in_a_row.saturating_add(1) } else { 0 };
        let latency = if failed { 0 } else { latency.0 };
        let step = self.window.add(now, Counts { total: 1, failed: u64::from(failed), slow: 0, latency });
        Counted { ejections: self.ejections, step, latency, before, well: self.well }
    }

    /// A reply broke off whose head was added as well. One from before an ejection says nothing of what is since; the failures that
    /// it ended are in a row again only if nothing else has been well since.
    pub fn break_off(&mut self, now: Micros, head: Counted) {
        if head.ejections == self.ejections {
            let before = if head.well == self.well { head.before } else { 0 };
            self.in_a_row = self.in_a_row.max(before).saturating_add(1);
            self.window.fail_later(now, head.step, head.latency);
        }
    }

    /// The counts of the last ten seconds.
    pub fn counts(&mut self, now: Micros) -> Counts {
        self.window.counts(now)
    }

    /// Why it should be out by its own record and `rest`, that of the others that are in.
    pub fn judge(&mut self, now: Micros, rule: &Eject, rest: Counts) -> Option<Reason> {
        if rule.consecutive > 0 && self.in_a_row >= rule.consecutive {
            return Some(Reason::Consecutive);
        }
        let own = self.window.counts(now);
        let enough = u64::from(rule.requests);
        if own.total < enough || rest.total < enough {
            return None;
        }
        if rule.failure_rate && fails_more(own, rest) {
            return Some(Reason::FailureRate);
        }
        let slower = match (own.mean_latency(), rest.mean_latency()) {
            (Some(own), Some(rest)) => own > rest * f64::from(rule.latency_factor),
            _ => false,
        };
        (rule.latency_factor > 0 && slower).then_some(Reason::Latency)
    }

    /// Ejects it, for longer the more often in a row, varied by a tenth.
    pub fn eject(&mut self, now: Micros, rule: &Eject, rng: &mut Rng) {
        // Having been well for as long as it was out, it begins anew.
        let last = rule.time.0.saturating_mul(u64::from(self.times)).min(rule.time_max.0);
        if now.since(self.back).0 > last {
            self.times = 0;
        }
        self.times = self.times.saturating_add(1);
        let time = self.time(rule).0;
        self.until = Some(now.plus(Micros((time as f64 * (0.9 + 0.2 * rng.unit())) as u64)));
        self.in_a_row = 0;
        self.ejections = self.ejections.wrapping_add(1);
        self.window.clear();
    }

    /// How long it is out by `rule`, as often as that has been in a row.
    fn time(&self, rule: &Eject) -> Micros {
        Micros(rule.time.0.saturating_mul(u64::from(self.times.max(1))).min(rule.time_max.0))
    }

    /// The rule is another one, or none: nobody is out for longer than it says, nor without one. True if it is back by that.
    pub fn set_rule(&mut self, now: Micros, rule: Option<&Eject>) -> bool {
        match rule {
            Some(rule) => self.until = self.until.map(|until| until.min(now.plus(self.time(rule)))),
            None => self.until = self.until.map(|_| now),
        }
        rule.is_none() && self.readmit(now)
    }

    /// Lets it back in if its time is over; true if it was.
    pub fn readmit(&mut self, now: Micros) -> bool {
        let over = self.until.is_some_and(|until| until <= now);
        if over {
            self.until = None;
            self.back = now;
        }
        over
    }
}

/// The two-proportion z-test.
fn fails_more(own: Counts, rest: Counts) -> bool {
    let (p, q) = (own.failure_rate(), rest.failure_rate());
    let (n, m) = (own.total as f64, rest.total as f64);
    let pooled = (p * n + q * m) / (n + m);
    let deviation = libm::sqrt(pooled * (1.0 - pooled) * (1.0 / n + 1.0 / m));
    p - q > RATE_GAP_LEAST && p - q > DEVIATIONS * deviation
}

/// How many of `upstreams` may be out at once, for whatever reason: the share, but one if another stays.
pub fn out_max(rule: &Eject, upstreams: usize) -> usize {
    let share = (upstreams as f64 * rule.share_max.fraction() + 1e-9) as usize;
    share.max(usize::from(rule.share_max.0 > 0)).min(upstreams.saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::scalar::Share;

    fn record(now: Micros, total: u32, failing_every: u32, latency: Micros) -> Record {
        let mut record = Record::default();
        for n in 0..total {
            let failed = failing_every > 0 && n % failing_every == 0;
            record.add(now, failed, latency);
        }
        record
    }

    #[test]
    fn what_is_worse_than_the_rest_is_ejected_and_what_is_alike_is_not() {
        let now = Micros::from_secs(50);
        let ms = Micros::from_millis;
        let rule = Eject { latency_factor: 3, ..Eject::default() };
        for (own, rest, expected) in [
            (record(now, 30, 2, ms(5)), record(now, 300, 0, ms(5)), Some(Reason::FailureRate)),
            (record(now, 30, 2, ms(5)), record(now, 30, 0, ms(5)), Some(Reason::FailureRate)),
            (record(now, 300, 2, ms(5)), record(now, 300, 2, ms(5)), None),
            (record(now, 19, 2, ms(5)), record(now, 300, 0, ms(5)), None),
            (record(now, 10_000, 50, ms(5)), record(now, 10_000, 0, ms(5)), None),
            (record(now, 30, 10, ms(5)), record(now, 300, 20, ms(5)), None),
            (record(now, 30, 0, ms(16)), record(now, 300, 0, ms(5)), Some(Reason::Latency)),
            (record(now, 30, 0, ms(14)), record(now, 300, 0, ms(5)), None),
            (record(now, 5, 1, ms(5)), record(now, 0, 0, ms(5)), Some(Reason::Consecutive)),
            (record(now, 4, 1, ms(5)), record(now, 300, 0, ms(5)), None),
        ] {
            let (mut own, mut rest) = (own, rest);
            assert_eq!(
                own.judge(now, &rule, rest.counts(now)),
                expected,
                "{:?} {:?}",
                own.window,
                rest.window
            );
        }
    }

    #[test]
    fn ejections_in_a_row_last_longer_up_to_a_limit_and_are_forgotten() {
        let (rule, mut rng) = (Eject::default(), Rng::new(1));
        let (mut record, mut now) = (Record::default(), Micros::from_secs(1_000));
        for expected in [10, 20, 30, 40] {
            record.eject(now, &rule, &mut rng);
            let time = record.until().unwrap().since(now).secs();
            assert!((0.9..=1.1).contains(&(time / f64::from(expected))), "{time} for {expected}");
            assert!(!record.readmit(now) && record.is_out());
            now = record.until().unwrap();
            assert!(record.readmit(now) && !record.is_out());
        }
        now = now.plus(Micros::from_secs(41));
        record.eject(now, &rule, &mut rng);
        assert!(record.until().unwrap().since(now) <= Micros::from_secs(11), "it was well for long enough");
        for _ in 0..100 {
            record.readmit(Micros::NEVER);
            record.back = now;
            record.eject(now, &rule, &mut rng);
        }
        assert!(record.until().unwrap().since(now) <= Micros::from_secs(330));
    }

    #[test]
    fn streams_that_break_are_one_failure_each_and_those_from_before_an_ejection_none() {
        let (at, ms) = (Micros::from_secs, Micros::from_millis);
        let rule = Eject { latency_factor: 3, consecutive: 0, ..Eject::default() };
        let mut streams = Record::default();
        let heads: Vec<Counted> = (0..100).map(|_| streams.add(at(100), false, ms(5))).collect();
        // All break half a minute later, when their heads are long forgotten; ten more heads have come.
        (0..10).for_each(|_| _ = streams.add(at(130), false, ms(5)));
        heads.iter().for_each(|head| streams.break_off(at(130), *head));
        let counts = streams.counts(at(130));
        assert_eq!((counts.total, counts.failed, counts.mean_latency()), (110, 100, Some(5_000.0)));
        let mut rest = record(at(130), 100, 0, ms(5));
        assert_eq!(streams.judge(at(130), &rule, rest.counts(at(130))), Some(Reason::FailureRate));
        let head = streams.add(at(130), false, ms(5));
        streams.eject(at(130), &rule, &mut Rng::new(1));
        streams.break_off(at(131), head);
        assert_eq!((streams.counts(at(131)), streams.in_a_row), (Counts::default(), 0));
    }

    #[test]
    fn a_stream_that_breaks_brings_back_a_run_of_failures_only_while_nothing_else_was_well() {
        let (at, rule) = (Micros::from_secs(100), Eject::default());
        for (well, out) in [(0, Some(Reason::Consecutive)), (1, None), (1_000, None)] {
            let mut record = record(at, rule.consecutive - 1, 1, Micros(5));
            let head = record.add(at, false, Micros(5));
            let now = at.plus(Micros::from_secs(1_800));
            (0..well).for_each(|_| _ = record.add(now, false, Micros(5)));
            record.break_off(now, head);
            assert_eq!(record.judge(now, &rule, Counts::default()), out, "{well} others were well");
        }
        // Streams under way together that break one after another are in a row.
        let mut record = Record::default();
        let heads: Vec<Counted> = (0..rule.consecutive).map(|_| record.add(at, false, Micros(5))).collect();
        heads.iter().for_each(|head| record.break_off(at, *head));
        assert_eq!(record.judge(at, &rule, Counts::default()), Some(Reason::Consecutive));
    }

    #[test]
    fn the_share_that_may_be_out_leaves_one_in() {
        for (share, upstreams, expected) in
            [(34, 1, 0), (34, 2, 1), (34, 3, 1), (34, 6, 2), (34, 10, 3), (100, 3, 2), (0, 10, 0), (10, 5, 1)]
        {
            let rule = Eject { share_max: Share::percent(share), ..Eject::default() };
            assert_eq!(out_max(&rule, upstreams), expected, "{share} % of {upstreams}");
        }
    }
}
