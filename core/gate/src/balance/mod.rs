//! Which upstream of a pool gets a request.
//!
//! Owns the ways to choose. Does not own who may be chosen: health, ejection and breakers say that, as the list of open
//! upstreams, and a caller's own reasons (tried already, full) as a test of each.
//!
//! INV-GATE-3: what is chosen is open and passes the caller's test.

mod cost;
mod hashing;
pub mod sticky;
#[cfg(test)]
mod tests;
mod ties;
pub mod zones;

use skep_base::rng::mix;
use skep_base::{Micros, Rng};

pub use cost::{Cost, FAILURE};
use hashing::Table;
pub use ties::Ties;

use crate::config::pool::Balance;

/// Random tries before all are looked at in turn: enough for weights and tests that refuse most.
const TRIES: usize = 12;
/// What of its traffic an upstream gets at the beginning of its slow start (Envoy's least weight).
const SLOW_START_LEAST: f64 = 0.1;

/// What balancing knows of one upstream.
#[derive(Clone, Debug)]
pub struct Load {
    pub weight: u32,
    /// Requests under way from this core.
    pub in_flight: u32,
    pub cost: Cost,
    /// When it came or came back; `None` if it has been there from the start.
    pub since: Option<Micros>,
}

/// Chooses among the upstreams of one pool.
#[derive(Clone, Debug)]
pub struct Balancer {
    kind: Balance,
    slow_start: Micros,
    /// The greatest weight of all.
    heaviest: f64,
    /// How much above the average a consistent hash loads one upstream.
    load_max: f64,
    table: Option<Table>,
    /// Round robin's last choice.
    turn: u32,
    /// Smooth round robin's credits, by upstream.
    credits: Vec<f64>,
}

/// Who may be chosen, in order and without repetition, and what is known of all.
#[derive(Clone, Copy)]
pub struct Choice<'a> {
    pub loads: &'a [Load],
    pub open: &'a [u32],
    /// What the request is hashed by, where that counts.
    pub key: Option<u64>,
}

impl Balancer {
    /// For upstreams given as address and weight. Cost: the tables, about a millisecond for maglev.
    pub fn new(kind: Balance, upstreams: &[(&str, u32)], slow_start: Micros, load_max: f64) -> Balancer {
        let table = match kind {
            Balance::Ring => Some(Table::ring(upstreams)),
            Balance::Maglev => Some(Table::maglev(upstreams)),
            _ => None,
        };
        let kind = match kind {
            // Turns of different length are those of the smooth algorithm.
            Balance::RoundRobin if upstreams.iter().any(|(_, weight)| *weight != upstreams[0].1) => {
                Balance::SmoothRoundRobin
            }
            kind => kind,
        };
        let heaviest = upstreams.iter().map(|(_, weight)| *weight).max().map_or(1.0, f64::from);
        Balancer {
            kind,
            slow_start,
            heaviest,
            load_max,
            table,
            turn: u32::MAX,
            credits: vec![0.0; upstreams.len()],
        }
    }

    /// One that chooses among none, to stand in for one that is lent out.
    pub fn empty() -> Balancer {
        Balancer::new(Balance::Random, &[], Micros(0), 1.0)
    }

    /// An open upstream that `usable` takes, or `None` if there is none.
    ///
    /// Cost: O(1) for random and the two-choice kinds while `usable` takes most; O(n) for least requests and smooth round
    /// robin; O(log n) for consistent hashing while the key's own upstream is usable.
    pub fn pick(
        &mut self,
        now: Micros,
        choice: Choice<'_>,
        rng: &mut Rng,
        usable: &dyn Fn(u32) -> bool,
    ) -> Option<u32> {
        if choice.open.is_empty() {
            return None;
        }
        let at = match self.kind {
            Balance::Random => self.sample(now, choice, rng, usable),
            Balance::RoundRobin => self.in_turn(now, choice, rng, usable),
            Balance::SmoothRoundRobin => self.smoothly(now, choice, usable),
            Balance::LeastRequests => self.least(now, choice, rng, usable),
            Balance::TwoChoices => self.better_of_two(now, choice, rng, usable, |_| 1.0),
            Balance::Ewma => self.better_of_two(now, choice, rng, usable, |load| load.cost.get(now)),
            Balance::Ring | Balance::Maglev => self.by_key(now, choice, rng, usable),
        };
        if let Some(at) = at {
            assert!(choice.open.contains(&at) && usable(at), "INV-GATE-3: upstream {at} is not to be chosen");
        }
        at
    }

    /// The part of its weight that an upstream has by its slow start.
    fn weight(&self, now: Micros, load: &Load) -> f64 {
        let full = f64::from(load.weight);
        match load.since {
            Some(since) if now.since(since) < self.slow_start => {
                let part = now.since(since).0 as f64 / self.slow_start.0 as f64;
                full * part.max(SLOW_START_LEAST)
            }
            _ => full,
        }
    }

    /// A random one by weight: a random place, taken with the probability of its weight beside the heaviest.
    fn sample(
        &self,
        now: Micros,
        choice: Choice<'_>,
        rng: &mut Rng,
        usable: &dyn Fn(u32) -> bool,
    ) -> Option<u32> {
        let Choice { loads, open, .. } = choice;
        let heaviest = self.heaviest;
        for _ in 0..TRIES {
            let at = open[rng.below(open.len() as u64) as usize];
            let weight = self.weight(now, &loads[at as usize]);
            if (weight >= heaviest || rng.unit() * heaviest < weight) && usable(at) {
                return Some(at);
            }
        }
        // A few heavy ones among many, or most refused: one pass by weight.
        let weights =
            || open.iter().filter(|at| usable(**at)).map(|at| (*at, self.weight(now, &loads[*at as usize])));
        let mut left = rng.unit() * weights().map(|(_, weight)| weight).sum::<f64>();
        let mut last = None;
        for (at, weight) in weights() {
            last = Some(at);
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
        last
    }

    fn better_of_two(
        &self,
        now: Micros,
        choice: Choice<'_>,
        rng: &mut Rng,
        usable: &dyn Fn(u32) -> bool,
        cost: impl Fn(&Load) -> f64,
    ) -> Option<u32> {
        let one = self.sample(now, choice, rng, usable)?;
        if choice.open.len() == 1 {
            return Some(one);
        }
        let other = self.sample(now, choice, rng, &|at| at != one && usable(at));
        let load = |at: u32| {
            let load = &choice.loads[at as usize];
            // Weights already say how often it is looked at, but two heavy ones may both be full.
            cost(load) * f64::from(load.in_flight + 1) / self.weight(now, load)
        };
        Some(other.filter(|other| load(*other) < load(one)).unwrap_or(one))
    }

    fn least(
        &self,
        now: Micros,
        choice: Choice<'_>,
        rng: &mut Rng,
        usable: &dyn Fn(u32) -> bool,
    ) -> Option<u32> {
        let mut best: Option<(f64, u32)> = None;
        let mut equals = 0;
        for at in choice.open.iter().copied().filter(|at| usable(*at)) {
            let load = &choice.loads[at as usize];
            let value = f64::from(load.in_flight + 1) / self.weight(now, load);
            match best {
                Some((least, _)) if value > least => {}
                Some((least, _)) if value == least => {
                    // One of several equals, each with the same probability.
                    equals += 1;
                    if rng.below(equals) == 0 {
                        best = Some((value, at));
                    }
                }
                _ => {
                    best = Some((value, at));
                    equals = 1;
                }
            }
        }
        best.map(|(_, at)| at)
    }

    fn in_turn(
        &mut self,
        now: Micros,
        choice: Choice<'_>,
        rng: &mut Rng,
        usable: &dyn Fn(u32) -> bool,
    ) -> Option<u32> {
        let Choice { loads, open, .. } = choice;
        let start = open.partition_point(|at| *at <= self.turn) % open.len();
        let mut passed_over = None;
        for step in 0..open.len() {
            let at = open[(start + step) % open.len()];
            if self.turn == u32::MAX && step == 0 {
                // Gateways that start together do not all begin with the first.
                self.turn = open[rng.below(open.len() as u64) as usize];
                return self.in_turn(now, choice, rng, usable);
            }
            if !usable(at) {
                continue;
            }
            let load = &loads[at as usize];
            if rng.unit() * f64::from(load.weight) >= self.weight(now, load) {
                passed_over = passed_over.or(Some(at));
                continue;
            }
            self.turn = at;
            return Some(at);
        }
        self.turn = passed_over.unwrap_or(self.turn);
        passed_over
    }

    /// nginx's smooth weighted round robin: all earn their weight, the richest is taken and pays the sum.
    fn smoothly(&mut self, now: Micros, choice: Choice<'_>, usable: &dyn Fn(u32) -> bool) -> Option<u32> {
        let (mut total, mut best) = (0.0, None::<(f64, u32)>);
        for at in choice.open.iter().copied().filter(|at| usable(*at)) {
            let weight = self.weight(now, &choice.loads[at as usize]);
            total += weight;
            self.credits[at as usize] += weight;
            let credit = self.credits[at as usize];
            if best.is_none_or(|(most, _)| credit > most) {
                best = Some((credit, at));
            }
        }
        let (_, at) = best?;
        self.credits[at as usize] -= total;
        Some(at)
    }

    /// Consistent hashing with bounded loads (Mirrokni and others, 2018).
    fn by_key(
        &self,
        now: Micros,
        choice: Choice<'_>,
        rng: &mut Rng,
        usable: &dyn Fn(u32) -> bool,
    ) -> Option<u32> {
        let Choice { loads, open, key } = choice;
        let table = self.table.as_ref().expect("hashing kinds have a table");
        let key = key.unwrap_or_else(|| rng.next_u64());
        let (mut in_flight, mut weights) = (1.0, 0.0);
        for at in open {
            in_flight += f64::from(loads[*at as usize].in_flight);
            weights += self.weight(now, &loads[*at as usize]);
        }
        let takes = |at: u32| open.binary_search(&at).is_ok() && usable(at);
        let has_room = |at: u32| {
            let load = &loads[at as usize];
            let fair = in_flight * self.weight(now, load) / weights;
            f64::from(load.in_flight) < (fair * self.load_max).ceil()
        };
        // In its slow start an upstream has a part of its keys, and always more of the same.
        let part_of_key = (mix(key) >> 11) as f64 / (1u64 << 53) as f64;
        let has_come = |at: u32| {
            let load = &loads[at as usize];
            part_of_key * f64::from(load.weight) < self.weight(now, load)
        };
        let found = table.find(key, |at| takes(at) && has_come(at) && has_room(at));
        // Where all start slowly none has come for most keys.
        let found = found.or_else(|| table.find(key, |at| takes(at) && has_room(at)));
        found.or_else(|| table.find(key, takes))
    }
}
