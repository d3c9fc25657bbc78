//! When a set of keys is fetched from its URL.
//!
//! Invariant: two fetches begin at least the shortest back-off apart, whatever tokens come; one is under way at a time. The
//! last good set is used for as long as no better one comes.

use skep_base::{Micros, Rng};

/// After a fetch that failed, the next is tried after this, doubled each time.
const BACK_OFF: Micros = Micros::from_secs(1);
const BACK_OFF_MAX: Micros = Micros::from_secs(60);

/// What happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Input {
    /// A token names a key that the set has not, or there is no set.
    Unknown,
    Fetched {
        good: bool,
    },
    Tick,
}

/// What to do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    Nothing,
    Fetch,
    /// Said to [`Input::Unknown`]: one is under way.
    Wait,
}

/// One URL.
#[derive(Debug)]
pub struct Refresh {
    every: Micros,
    least: Micros,
    /// A fetch is under way.
    fetching: bool,
    has_set: bool,
    began: Option<Micros>,
    next: Micros,
    failures: u32,
    rng: Rng,
}

impl Refresh {
    /// Fetches at once, then each `every`, and for unknown keys each `least` at most.
    pub fn new(now: Micros, every: Micros, least: Micros, seed: u64) -> Refresh {
        let rng = Rng::new(seed);
        Refresh { every, least, fetching: false, has_set: false, began: None, next: now, failures: 0, rng }
    }

    pub fn handle(&mut self, now: Micros, input: Input) -> Output {
        match input {
            Input::Unknown if self.fetching => Output::Wait,
            Input::Unknown => {
                // Without any set nothing can be judged: it is tried as often as a failing URL may be.
                let least = if self.has_set { self.least } else { BACK_OFF.min(self.least) };
                match self.began.is_none_or(|began| now.since(began) >= least) {
                    true => self.fetch(now),
                    false => Output::Nothing,
                }
            }
            Input::Fetched { good } => {
                self.fetching = false;
                self.has_set |= good;
                self.failures = if good { 0 } else { self.failures.saturating_add(1) };
                let wait = match good {
                    true => self.every,
                    false => {
                        let doubled = BACK_OFF.0.saturating_mul(1 << (self.failures - 1).min(10));
                        Micros(doubled).min(BACK_OFF_MAX).min(self.every.max(BACK_OFF))
                    }
                };
                // Nodes that began together do not stay in step.
                let less = self.rng.below(wait.0 / 10 + 1);
                self.next = now.plus(Micros(wait.0 - less));
                Output::Nothing
            }
            Input::Tick if !self.fetching && now >= self.next => self.fetch(now),
            Input::Tick => Output::Nothing,
        }
    }

    /// When [`Input::Tick`] has something to do.
    pub fn next_wakeup(&self) -> Option<Micros> {
        (!self.fetching).then_some(self.next)
    }

    fn fetch(&mut self, now: Micros) -> Output {
        (self.fetching, self.began) = (true, Some(now));
        Output::Fetch
    }
}
