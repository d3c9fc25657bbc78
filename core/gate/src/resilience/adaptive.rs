//! A limit of requests under way that follows latency: more than an upstream can work at only waits there.
//!
//! Envoy's gradient: each window `limit = limit x gradient + sqrt(limit)`, the gradient being the latency of an unloaded
//! upstream, with tolerance, over that of the window. Envoy learns the first by cutting the limit to 3 each minute, which
//! costs 503s. Here the lowest latencies of ordinary traffic are it, while there is room below the limit; under steady
//! overload, when there is none, the limit is halved for [`DIP`] in each [`DIP_EVERY`], which drains the upstream's queue
//! while requests wait in ours. That converges: with a limit twice too high, half of it is just right.

use skep_base::Micros;

use super::latency::Latencies;
use crate::config::resilience as config;

/// The shortest window between two changes of the limit.
const WINDOW: Micros = Micros::from_millis(100);
/// Replies that a window needs, so that one slow reply is no trend.
const SAMPLES: u32 = 20;
const DIP: Micros = Micros::from_millis(300);
const DIP_EVERY: Micros = Micros::from_secs(10);
/// A window changes the limit by no more.
const GRADIENT_LEAST: f64 = 0.5;

/// The limit of one pool on one core.
#[derive(Clone, Debug)]
pub struct Adaptive {
    /// Among which the rule's bounds, which are those of a node, are divided.
    cores: f64,
    limit: f64,
    /// Latency of an unloaded upstream, in microseconds.
    base: Option<f64>,
    window: Micros,
    sum: f64,
    count: u32,
    /// The most requests under way in this window.
    most: u32,
    /// Latencies of the dip, or of unsaturated traffic.
    low: Latencies,
    /// The end of the dip that is under way.
    dip: Option<Micros>,
    next_dip: Micros,
}

impl Adaptive {
    /// The limit of one of `cores`, each of which has its part of what the rule gives a node.
    pub fn new(now: Micros, rule: &config::Adaptive, cores: u32) -> Adaptive {
        let cores = f64::from(cores.max(1));
        Adaptive {
            cores,
            limit: (f64::from(rule.start) / cores).max(1.0),
            base: None,
            window: now,
            sum: 0.0,
            count: 0,
            most: 0,
            low: Latencies::new(now),
            dip: None,
            next_dip: now.plus(DIP_EVERY),
        }
    }

    /// How many may be under way.
    pub fn limit(&self, now: Micros) -> u32 {
        match self.dip {
            Some(until) if now < until => (self.limit / 2.0).max(1.0) as u32,
            _ => self.limit as u32,
        }
    }

    /// A reply came well after `latency`, with `in_flight` requests under way, itself among them.
    pub fn add(&mut self, now: Micros, rule: &config::Adaptive, latency: Micros, in_flight: u32) {
        self.sum += latency.0 as f64;
        self.count += 1;
        self.most = self.most.max(in_flight);
        let saturated = f64::from(in_flight) >= self.limit * 0.8;
        match self.dip {
            // What began before the dip waited in the old queue.
            Some(until) if until.since(now).0 * 2 <= DIP.0 => self.low.add(now, latency),
            Some(_) => {}
            None if !saturated => self.low.add(now, latency),
            None => {}
        }
        if now.since(self.window) >= WINDOW && self.count >= SAMPLES {
            self.close_window(now, rule);
        }
    }

    /// An attempt failed: it says nothing about latency, and its window must not look quiet.
    pub fn fail(&mut self, in_flight: u32) {
        self.most = self.most.max(in_flight);
    }

    fn close_window(&mut self, now: Micros, rule: &config::Adaptive) {
        let mean = self.sum / f64::from(self.count);
        let was_full = f64::from(self.most) >= self.limit * 0.8;
        self.window = now;
        (self.sum, self.count, self.most) = (0.0, 0, 0);
        if let Some(until) = self.dip {
            if now < until {
                return;
            }
            self.dip = None;
            self.next_dip = now.plus(DIP_EVERY);
            // The dip's own word replaces what was believed: that is how a faster or slower release is learned.
            self.base = self.low.percentile(now, 0.5, 5).map(|p| p.0 as f64).or(self.base);
            self.low = Latencies::new(now);
            return;
        }
        if let Some(low) = self.low.percentile(now, 0.5, u64::from(SAMPLES)) {
            self.base = Some(low.0 as f64);
        }
        let base = *self.base.get_or_insert(mean);
        let gradient = (base * (1.0 + rule.tolerance.fraction()) / mean.max(1.0)).clamp(GRADIENT_LEAST, 1.0);
        // A limit that is not reached must not grow: nothing says that it could be borne.
        let growth = if was_full || gradient < 1.0 { libm::sqrt(self.limit) } else { 0.0 };
        let limit = self.limit * gradient + growth;
        let part = |bound: u32| (f64::from(bound) / self.cores).max(1.0);
        self.limit = limit.clamp(part(rule.min), part(rule.max));
        if was_full && now >= self.next_dip {
            self.dip = Some(now.plus(DIP));
            self.low = Latencies::new(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An upstream of `workers`, each of which takes `service`, under as much load as the limit lets in. Returns the mean
    /// limit of the second half.
    fn saturated(adaptive: &mut Adaptive, from: Micros, seconds: u64, workers: u32, service: Micros) -> f64 {
        let rule = config::Adaptive::default();
        let (mut sum, mut count) = (0.0, 0.0);
        let mut now = from;
        let step = Micros(service.0 / u64::from(workers));
        let mut queue: std::collections::VecDeque<Micros> = std::collections::VecDeque::new();
        while now < from.plus(Micros::from_secs(seconds)) {
            while (queue.len() as u32) < adaptive.limit(now) {
                queue.push_back(now);
            }
            // One is done each step; with fewer than workers under way each takes its service time.
            now = now.plus(step);
            let in_flight = queue.len() as u32;
            let began = queue.pop_front().unwrap();
            let latency = now.since(began).max(service);
            adaptive.add(now, &rule, latency, in_flight);
            if now.since(from).secs() > seconds as f64 / 2.0 {
                (sum, count) = (sum + f64::from(adaptive.limit(now)), count + 1.0);
            }
        }
        sum / count
    }

    #[test]
    fn the_limit_settles_at_what_an_upstream_can_work_at_also_after_it_changed() {
        let mut adaptive = Adaptive::new(Micros(0), &config::Adaptive::default(), 1);
        let ms = Micros::from_millis;
        let limit = saturated(&mut adaptive, Micros(0), 120, 20, ms(10));
        assert!((20.0..=60.0).contains(&limit), "{limit} for 20 workers");
        let limit = saturated(&mut adaptive, Micros::from_secs(120), 120, 100, ms(10));
        assert!((100.0..=250.0).contains(&limit), "{limit} for 100 workers");
        let limit = saturated(&mut adaptive, Micros::from_secs(240), 240, 10, ms(50));
        assert!((10.0..=35.0).contains(&limit), "{limit} for 10 slow workers");
    }

    #[test]
    fn cores_divide_the_bounds_of_a_node() {
        let rule = config::Adaptive { min: 40, max: 80, start: 60, ..config::Adaptive::default() };
        let mut adaptive = Adaptive::new(Micros(0), &rule, 4);
        assert_eq!(adaptive.limit(Micros(0)), 15);
        let mut now = Micros(0);
        let mut push = |adaptive: &mut Adaptive, latency: u64| {
            for _ in 0..5_000 {
                now = now.plus(Micros::from_millis(1));
                let under_way = adaptive.limit(now);
                adaptive.add(now, &rule, Micros(latency), under_way);
                assert!(
                    (5..=20).contains(&adaptive.limit(now)),
                    "{} of 10 to 20, or half",
                    adaptive.limit(now)
                );
            }
            adaptive.limit(now)
        };
        assert_eq!(push(&mut adaptive, 1_000), 20);
        assert!([5, 10].contains(&push(&mut adaptive, 100_000)), "half of it in a dip");
    }

    #[test]
    fn a_limit_that_is_not_reached_stays() {
        let rule = config::Adaptive::default();
        let mut adaptive = Adaptive::new(Micros(0), &rule, 1);
        for n in 0..100_000u64 {
            adaptive.add(Micros::from_millis(n), &rule, Micros(1_000 + n % 300), 2);
        }
        assert_eq!(adaptive.limit(Micros::from_millis(100_000)), rule.start);
    }
}
