//! One rate for all gateways: tokens are taken from the store's bucket in lots, and spent here.
//!
//! The store's bucket ([`Rate::judge`] on one arrival time, carried out by the shard that owns the key) is the only one that
//! makes tokens, so the sum over all gateways cannot exceed the rate. A gateway asks for what it expects to need until the
//! next answer and a bit more; what it has not used after [`LOT_LIFE`] is given back. So a token that lies unused where
//! nobody comes is missing elsewhere for that time only.

use skep_base::Micros;

/// How long a lot may be spent.
pub const LOT_LIFE: Micros = Micros::from_millis(200);
/// The need for which a lot is asked: an answer of the store takes a few milliseconds, one after a fail-over longer.
const AHEAD: Micros = Micros::from_millis(50);
/// After which a question without an answer is asked again.
const ANSWER_TIME: Micros = Micros::from_millis(500);
/// How fast the expected need follows the real one.
const FOLLOWS: Micros = Micros::from_millis(200);
/// A caller whose tokens ran out is not let through before the store was asked; so long are further ones refused unheard.
const EMPTY_PAUSE: Micros = Micros::from_millis(10);

/// What to do with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Take {
    Passes,
    /// Over the rate; try again after this.
    Refused {
        wait: Micros,
    },
    /// Whether a token is there is not known; an answer of the store says it.
    Unknown,
}

/// A gateway's side of one caller's bucket.
#[derive(Clone, Debug)]
pub struct Share {
    tokens: u32,
    /// When the lot ends.
    ends: Micros,
    asked: Option<Micros>,
    /// Expected requests a second.
    need: f64,
    at: Micros,
    /// Nothing is to be had until then.
    empty_until: Micros,
    /// Tokens to be given back with the next question.
    back: u32,
    /// Requests that wait for the answer.
    waiting: u32,
    /// What the store had left at its last answer, if there was one.
    left: Option<u32>,
}

/// The answer of the store's bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Grant {
    pub granted: u32,
    /// Until the next token is made.
    pub next: Micros,
    /// Tokens left for others.
    pub left: u32,
}

/// A question to the store's bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ask {
    /// Tokens wanted, at least 1.
    pub want: u32,
    /// Tokens of an older lot that come back.
    pub back: u32,
}

impl Share {
    pub fn new(now: Micros) -> Share {
        let zero = Micros(0);
        Share {
            tokens: 0,
            ends: zero,
            asked: None,
            need: 0.0,
            at: now,
            empty_until: zero,
            back: 0,
            waiting: 0,
            left: None,
        }
    }

    /// A request comes. Ask the store if [`Share::ask`] says so, after each.
    pub fn take(&mut self, now: Micros) -> Take {
        self.follow(now, 1.0);
        self.expire(now);
        if self.tokens > 0 {
            self.tokens -= 1;
            return Take::Passes;
        }
        if now < self.empty_until {
            return Take::Refused { wait: self.empty_until.since(now) };
        }
        self.waiting += 1;
        Take::Unknown
    }

    /// What is left as far as is known here, and how long nothing is to be had.
    pub fn left(&self, now: Micros) -> (u32, Micros) {
        (self.left.unwrap_or(0).saturating_add(self.tokens), self.empty_until.since(now))
    }

    /// True if nothing is lost by forgetting it: nobody waits, and its lot has ended.
    pub fn is_idle(&self, now: Micros) -> bool {
        self.waiting == 0 && now >= self.ends && now >= self.empty_until
    }

    /// When a request came last, or the store was asked, and what the store had left at its last answer, if there was one.
    pub fn last(&self) -> (Micros, Option<u32>) {
        (self.at, self.left)
    }

    /// A request that waited for an answer waits no more.
    pub fn give_up(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// The question to ask at present, if there is one.
    pub fn ask(&mut self, now: Micros) -> Option<Ask> {
        self.follow(now, 0.0);
        self.expire(now);
        if self.asked.is_some_and(|at| now.since(at) < ANSWER_TIME) || now < self.empty_until {
            return None;
        }
        let ahead = (self.need * AHEAD.secs()).min(f64::from(u32::MAX / 2)) as u32;
        if self.waiting == 0 && (self.tokens > ahead / 2 || ahead == 0) {
            return None;
        }
        self.asked = Some(now);
        let back = std::mem::take(&mut self.back);
        Some(Ask { want: (ahead + self.waiting).saturating_sub(self.tokens).max(1), back })
    }

    /// The store's answer. Returns how many of the waiting requests pass, the first of them, and how many are refused, those
    /// behind them. None is while the bucket has tokens left: who came after the question waits for the next.
    pub fn on_answer(&mut self, now: Micros, grant: Grant) -> (u32, u32) {
        let Grant { granted, next, left } = grant;
        self.expire(now);
        self.asked = None;
        self.left = Some(left);
        self.tokens = self.tokens.saturating_add(granted);
        self.ends = now.plus(LOT_LIFE);
        let passes = self.waiting.min(self.tokens);
        let refused = if left == 0 { self.waiting - passes } else { 0 };
        self.tokens -= passes;
        self.waiting -= passes + refused;
        if refused > 0 || granted == 0 {
            self.empty_until = now.plus(next.max(EMPTY_PAUSE));
        }
        (passes, refused)
    }

    /// When [`Share::ask`] may have something to say without a request.
    pub fn next_wakeup(&self) -> Option<Micros> {
        let next = self.asked.map_or(self.empty_until, |at| at.plus(ANSWER_TIME));
        (self.waiting > 0).then_some(next)
    }

    fn follow(&mut self, now: Micros, requests: f64) {
        let weight = libm::exp(-(now.since(self.at).0 as f64) / FOLLOWS.0 as f64);
        self.need = self.need * weight + requests / FOLLOWS.secs();
        self.at = self.at.max(now);
    }

    fn expire(&mut self, now: Micros) {
        if self.tokens > 0 && now >= self.ends {
            self.back = self.back.saturating_add(self.tokens);
            self.tokens = 0;
        }
    }
}

/// The store's side of a bucket: tokens that are made at a rate, up to a burst. Pure, so that each copy of a shard comes to
/// the same end.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Bucket {
    tokens: f64,
    at: Micros,
}

impl Bucket {
    /// A full bucket.
    pub fn new(now: Micros, burst: u32) -> Bucket {
        Bucket { tokens: f64::from(burst), at: now }
    }

    /// Answers a question.
    pub fn grant(&mut self, now: Micros, per_second: f64, burst: u32, ask: Ask) -> Grant {
        let made = now.since(self.at).secs() * per_second + f64::from(ask.back);
        self.tokens = (self.tokens + made).min(f64::from(burst));
        self.at = self.at.max(now);
        let granted = ask.want.min(self.tokens as u32);
        self.tokens -= f64::from(granted);
        let next = (1.0 - self.tokens.min(1.0)) / per_second * 1e6;
        Grant { granted, next: Micros(next as u64), left: self.tokens as u32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_base::Rng;
    use std::collections::BTreeMap;

    /// Gateways with `demands` requests a second against one bucket, questions and answers each taking 1 to 5 ms. Returns
    /// what passed per second after the first two seconds, by gateway.
    fn run(demands: &[f64], per_second: f64, burst: u32, seconds: u64) -> Vec<f64> {
        run_moving(demands, None, per_second, burst, seconds)
    }

    /// The same where each gateway takes over the demand of the next one after each `moves`.
    fn run_moving(
        demands: &[f64],
        moves: Option<Micros>,
        per_second: f64,
        burst: u32,
        seconds: u64,
    ) -> Vec<f64> {
        let (mut rng, mut bucket) = (Rng::new(9), Bucket::new(Micros(0), burst));
        let mut shares: Vec<Share> = demands.iter().map(|_| Share::new(Micros(0))).collect();
        let mut passed = vec![0.0; demands.len()];
        let most = demands.iter().copied().fold(0.0, f64::max);
        let demand = |gate: usize, now: Micros| {
            let moved = moves.map_or(0, |moves| now.0 / moves.0);
            demands[(gate + moved as usize) % demands.len()]
        };
        // By time and number: a request, a question at the store, an answer at the gateway.
        enum Event {
            Request(usize),
            Ask(usize, Ask),
            Answer(usize, Grant),
        }
        let (mut events, mut number) = (BTreeMap::new(), 0u64);
        let mut at = |events: &mut BTreeMap<(Micros, u64), Event>, when: Micros, event| {
            number += 1;
            events.insert((when, number), event);
        };
        for gate in 0..demands.len() {
            at(&mut events, Micros(1), Event::Request(gate));
        }
        while let Some(((now, _), event)) = events.pop_first() {
            if now >= Micros::from_secs(seconds) {
                break;
            }
            let counts = if now >= Micros::from_secs(2) { 1.0 } else { 0.0 };
            let gate = match event {
                Event::Request(gate) => {
                    let gap = -libm::log(1.0 - rng.unit()) / most * 1e6;
                    at(&mut events, now.plus(Micros(gap as u64 + 1)), Event::Request(gate));
                    // As many of those that the largest demand would have.
                    if rng.unit() >= demand(gate, now) / most {
                        continue;
                    }
                    passed[gate] += if shares[gate].take(now) == Take::Passes { counts } else { 0.0 };
                    gate
                }
                Event::Ask(gate, ask) => {
                    let grant = bucket.grant(now, per_second, burst, ask);
                    let later = now.plus(Micros(1_000 + rng.below(4_000)));
                    at(&mut events, later, Event::Answer(gate, grant));
                    continue;
                }
                Event::Answer(gate, grant) => {
                    passed[gate] += f64::from(shares[gate].on_answer(now, grant).0) * counts;
                    gate
                }
            };
            if let Some(ask) = shares[gate].ask(now) {
                at(&mut events, now.plus(Micros(1_000 + rng.below(4_000))), Event::Ask(gate, ask));
            }
        }
        passed.iter().map(|n| n / (seconds - 2) as f64).collect()
    }

    #[test]
    fn all_gateways_together_keep_a_rate_to_five_percent() {
        for (demands, per_second, burst) in [
            (vec![1_000.0, 1_000.0, 1_000.0], 300.0, 100),
            (vec![2_000.0, 10.0, 10.0, 10.0], 1_000.0, 100),
            (vec![500.0; 12], 3_000.0, 300),
            (vec![50.0, 50.0, 50.0], 100.0, 20),
            (vec![30.0; 6], 20.0, 20),
        ] {
            let passed = run(&demands, per_second, burst, 32);
            let total: f64 = passed.iter().sum();
            let allowed = per_second * 1.05;
            assert!(total <= allowed, "{demands:?} at {per_second}: {passed:?} is {total}");
            assert!(total >= per_second * 0.95, "{demands:?} at {per_second}: {passed:?} is {total}");
        }
    }

    #[test]
    fn a_load_that_is_uneven_and_moves_keeps_the_rate_to_five_percent() {
        for moves in [None, Some(1_000), Some(300), Some(100)] {
            for (per_second, burst) in [(200.0, 20), (200.0, 200), (1_000.0, 100), (20.0, 20)] {
                for shares in [&[0.7, 0.2, 0.1][..], &[1.0, 0.0, 0.0], &[0.94, 0.02, 0.02, 0.02]] {
                    for load in [1.3, 3.0, 20.0] {
                        let demands: Vec<f64> =
                            shares.iter().map(|share| share * load * per_second).collect();
                        let moves = moves.map(Micros::from_millis);
                        let passed = run_moving(&demands, moves, per_second, burst, 32);
                        let part = passed.iter().sum::<f64>() / per_second;
                        let told = format!(
                            "{demands:?} at {per_second}, {moves:?}: {passed:?} is {part} of the rate"
                        );
                        assert!((0.95..=1.05).contains(&part), "{told}");
                    }
                }
            }
        }
    }

    #[test]
    fn below_the_rate_nobody_is_refused() {
        let demands = [100.0, 50.0, 5.0];
        let passed = run(&demands, 1_000.0, 500, 32);
        for (passed, demand) in passed.iter().zip(demands) {
            assert!((0.9..=1.1).contains(&(passed / demand)), "{passed} of {demand}");
        }
    }

    #[test]
    fn who_comes_after_the_question_is_asked_for_by_the_next() {
        let mut share = Share::new(Micros(0));
        assert_eq!(share.take(Micros(0)), Take::Unknown);
        assert_eq!(share.ask(Micros(0)).map(|ask| ask.want), Some(1));
        assert_eq!([share.take(Micros(1)), share.take(Micros(2))], [Take::Unknown; 2]);
        let grant = Grant { granted: 1, next: Micros(0), left: 98 };
        assert_eq!(share.on_answer(Micros(3), grant), (1, 0), "the bucket is not empty");
        assert_eq!(share.ask(Micros(3)).map(|ask| ask.want), Some(2));
        let grant = Grant { granted: 1, next: Micros(9), left: 0 };
        assert_eq!(share.on_answer(Micros(4), grant), (1, 1), "and here it is");
        assert_eq!(share.ask(Micros::from_secs(1)), None);
    }

    #[test]
    fn an_answer_that_never_comes_is_asked_for_again() {
        let mut share = Share::new(Micros(0));
        assert_eq!(share.take(Micros(0)), Take::Unknown);
        assert!(share.ask(Micros(0)).is_some());
        assert!(share.ask(Micros(1)).is_none());
        assert_eq!(share.next_wakeup(), Some(ANSWER_TIME));
        assert!(share.ask(ANSWER_TIME).is_some());
    }
}
