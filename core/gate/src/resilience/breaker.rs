//! A circuit breaker: closed, open, half-open.
//!
//! Opens at failures in a row, which is fast when nothing works, or at a share of failures or of slow attempts over a window
//! of time with enough of them, which finds what works now and then; lets nothing through for
//! a cool-down; then a few trials at once. All of them well closes it, one that is not opens it for twice as long.
//!
//! INV-GATE-6: an open breaker lets nothing through, a half-open one never more than `trials` at once.

use skep_base::{Micros, Rng};

use crate::config::resilience as config;
use crate::window::{Counts, Window};

/// What a breaker does with the next attempt.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Closed,
    /// Nothing passes until then.
    Open {
        until: Micros,
    },
    /// Trials: those under way, and those in a row that were well.
    HalfOpen {
        under_way: u32,
        well: u32,
    },
}

/// One breaker.
#[derive(Clone, Debug)]
pub struct Breaker {
    state: State,
    window: Window,
    /// Failures in a row while closed.
    failures: u32,
    /// Openings in a row, each of which doubles the cool-down.
    times: u32,
    /// Counts changes of state, so that the end of an attempt from before one says nothing about after it.
    epoch: u64,
    /// Counts what was well while closed.
    well: u64,
}

/// What an attempt was let through as; to be given back at its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pass {
    epoch: u64,
}

/// As what an attempt that was well is counted, to be put right if its reply breaks off.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Counted {
    epoch: u64,
    step: u64,
    /// The failures in a row that it ends, and which of all that were well it is.
    before: u32,
    well: u64,
}

/// How an attempt ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    Well(Micros),
    Failed,
    /// Given up by the client or by us, which says nothing.
    Unknown,
}

impl Breaker {
    pub fn new(rule: &config::Breaker) -> Breaker {
        let window = Window::new(rule.window);
        Breaker { state: State::Closed, window, failures: 0, times: 0, epoch: 0, well: 0 }
    }

    pub fn state(&self) -> State {
        self.state
    }

    /// True if [`Breaker::enter`] would let an attempt through.
    pub fn admits(&self, now: Micros, rule: &config::Breaker) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { until } => until <= now,
            State::HalfOpen { under_way, .. } => under_way < rule.trials,
        }
    }

    /// When an open one becomes half-open.
    pub fn next_change(&self) -> Option<Micros> {
        match self.state {
            State::Open { until } => Some(until),
            _ => None,
        }
    }

    /// Lets an attempt through, or not.
    pub fn enter(&mut self, now: Micros, rule: &config::Breaker) -> Option<Pass> {
        if !self.admits(now, rule) {
            return None;
        }
        if let State::Open { .. } = self.state {
            self.become_(State::HalfOpen { under_way: 0, well: 0 });
        }
        if let State::HalfOpen { under_way, .. } = &mut self.state {
            *under_way += 1;
        }
        Some(Pass { epoch: self.epoch })
    }

    /// As what an attempt counts that leaves at `now` and is well.
    pub fn counted(&mut self, now: Micros, pass: Pass) -> Counted {
        let (step, well) = (self.window.step(now), self.well.wrapping_add(1));
        Counted { epoch: pass.epoch, step, before: self.failures, well }
    }

    /// The end of an attempt. True if the breaker opened or closed by it.
    pub fn leave(
        &mut self,
        now: Micros,
        rule: &config::Breaker,
        pass: Pass,
        outcome: Outcome,
        rng: &mut Rng,
    ) -> bool {
        if pass.epoch != self.epoch {
            return false;
        }
        let slow = matches!(outcome, Outcome::Well(latency) if rule.slow.0 > 0 && latency > rule.slow);
        let failed = outcome == Outcome::Failed;
        match &mut self.state {
            State::Closed => {
                if outcome == Outcome::Unknown {
                    return false;
                }
                let one = Counts { total: 1, failed: u64::from(failed), slow: u64::from(slow), latency: 0 };
                self.window.add(now, one);
                self.well = self.well.wrapping_add(u64::from(!failed));
                self.failures = if failed { self.failures.saturating_add(1) } else { 0 };
                // Only what speaks against it can open it.
                let opens = (failed || slow) && self.should_open(now, rule);
                if opens {
                    self.open(now, rule, rng);
                }
                opens
            }
            State::HalfOpen { under_way, well } => {
                *under_way -= 1;
                match outcome {
                    Outcome::Unknown => return false,
                    _ if failed || slow => self.open(now, rule, rng),
                    _ => {
                        *well += 1;
                        if *well < rule.trials {
                            return false;
                        }
                        self.times = 0;
                        self.window.clear();
                        self.become_(State::Closed);
                    }
                }
                true
            }
            State::Open { .. } => {
                unreachable!("nothing enters an open breaker, and opening changes the epoch")
            }
        }
    }

    /// A reply broke off after its attempt had left as well. It fails in the place of its head, or as an attempt of its own if that is
    /// not in the window any more. The failures that it ended are in a row again only if nothing else has been well since. True if
    /// the breaker opened by it.
    pub fn break_off(&mut self, now: Micros, rule: &config::Breaker, head: Counted, rng: &mut Rng) -> bool {
        // Also of the trial that closed it; but what began before it opened says nothing of what is since.
        if self.epoch.abs_diff(head.epoch) > 1 {
            return false;
        }
        let opens = match self.state {
            State::Closed => {
                if head.epoch == self.epoch {
                    self.window.fail_later(now, head.step, 0);
                } else {
                    // A trial counts in no window.
                    self.window.add(now, Counts { total: 1, failed: 1, ..Counts::default() });
                }
                let is_last = head.epoch == self.epoch && head.well == self.well;
                let before = if is_last { head.before } else { 0 };
                self.failures = self.failures.max(before).saturating_add(1);
                self.should_open(now, rule)
            }
            State::HalfOpen { .. } => true,
            State::Open { .. } => false,
        };
        if opens {
            self.open(now, rule, rng);
        }
        opens
    }

    /// Panics unless the trials under way are those of `passes`, which are all that are out.
    pub fn assert_invariants(&self, passes: impl Iterator<Item = Pass>) {
        if let State::HalfOpen { under_way, .. } = self.state {
            let own = passes.filter(|pass| pass.epoch == self.epoch).count();
            assert_eq!(under_way as usize, own, "INV-GATE-6: trials of {self:?}");
        }
    }

    fn should_open(&mut self, now: Micros, rule: &config::Breaker) -> bool {
        let counts = self.window.counts(now);
        let reached =
            |share: crate::config::scalar::Share, rate: f64| share.0 > 0 && rate >= share.fraction();
        if rule.consecutive > 0 && self.failures >= rule.consecutive {
            return true;
        }
        counts.total >= u64::from(rule.requests)
            && (reached(rule.failures, counts.failure_rate())
                || (rule.slow.0 > 0 && reached(rule.slow_share, counts.slow_rate())))
    }

    fn open(&mut self, now: Micros, rule: &config::Breaker, rng: &mut Rng) {
        let doubled = rule.cool_down.0.saturating_mul(1 << self.times.min(32)).min(rule.cool_down_max.0);
        self.times += 1;
        let time = Micros((doubled as f64 * (0.9 + 0.2 * rng.unit())) as u64);
        self.become_(State::Open { until: now.plus(time) });
    }

    fn become_(&mut self, state: State) {
        self.state = state;
        self.failures = 0;
        self.epoch += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> config::Breaker {
        config::Breaker { slow: Micros::from_millis(100), consecutive: 0, ..config::Breaker::default() }
    }

    struct Run {
        breaker: Breaker,
        rng: Rng,
        now: Micros,
    }

    impl Run {
        fn new() -> Run {
            Run { breaker: Breaker::new(&rule()), rng: Rng::new(1), now: Micros::from_secs(10) }
        }

        fn attempt(&mut self, outcome: Outcome) -> bool {
            match self.breaker.enter(self.now, &rule()) {
                Some(pass) => self.breaker.leave(self.now, &rule(), pass, outcome, &mut self.rng),
                None => panic!("it is open"),
            }
        }

        fn open(&mut self) {
            (0..20).for_each(|_| _ = self.attempt(Outcome::Failed));
            assert!(matches!(self.breaker.state(), State::Open { .. }));
        }
    }

    const WELL: Outcome = Outcome::Well(Micros(10));
    const SLOW: Outcome = Outcome::Well(Micros(100_001));

    #[test]
    fn opens_at_half_failed_or_four_fifths_slow_and_not_before_enough_were_seen() {
        for (outcomes, expected) in [
            (vec![(WELL, 10), (Outcome::Failed, 10)], true),
            (vec![(WELL, 11), (Outcome::Failed, 9)], false),
            (vec![(Outcome::Failed, 19)], false),
            (vec![(Outcome::Failed, 19), (Outcome::Unknown, 50)], false),
            (vec![(WELL, 4), (SLOW, 16)], true),
            (vec![(WELL, 5), (SLOW, 15)], false),
        ] {
            let mut run = Run::new();
            for (outcome, times) in &outcomes {
                (0..*times).for_each(|_| _ = run.attempt(*outcome));
            }
            let open = matches!(run.breaker.state(), State::Open { .. });
            assert_eq!(open, expected, "{outcomes:?}");
        }
    }

    #[test]
    fn opens_at_failures_in_a_row_however_well_it_was_before() {
        let rule = config::Breaker::default();
        let mut run = Run::new();
        (0..100_000).for_each(|_| _ = run.attempt(WELL));
        for (outcomes, opens) in
            [(vec![Outcome::Failed; 9], false), (vec![WELL], false), (vec![Outcome::Failed; 10], true)]
        {
            let mut opened = false;
            for outcome in outcomes {
                let pass = run.breaker.enter(run.now, &rule).expect("it is closed");
                opened |= run.breaker.leave(run.now, &rule, pass, outcome, &mut run.rng);
            }
            assert_eq!(opened, opens);
        }
    }

    #[test]
    fn half_open_lets_few_through_and_closes_or_opens_for_longer() {
        let mut run = Run::new();
        run.open();
        let mut last = 0;
        for _ in 0..8 {
            let until = run.breaker.next_change().unwrap();
            assert_eq!(run.breaker.enter(run.now, &rule()), None, "INV-GATE-6");
            let time = until.since(run.now).0;
            assert!(time as f64 >= last as f64 * 1.5 || time > 27_000_000, "{time} after {last}");
            assert!(time <= 33_000_000);
            last = time;
            run.now = until;
            let passes: Vec<_> = (0..5).map_while(|_| run.breaker.enter(run.now, &rule())).collect();
            assert_eq!(passes.len(), 3, "INV-GATE-6");
            assert!(run.breaker.leave(run.now, &rule(), passes[0], Outcome::Failed, &mut run.rng));
            for late in &passes[1..] {
                assert!(!run.breaker.leave(run.now, &rule(), *late, WELL, &mut run.rng), "of another epoch");
            }
        }
        run.now = run.breaker.next_change().unwrap();
        assert!(!run.attempt(WELL) && !run.attempt(Outcome::Unknown) && !run.attempt(WELL));
        assert!(run.attempt(WELL), "three well in a row close it");
        assert_eq!(run.breaker.state(), State::Closed);
        assert!(!run.attempt(Outcome::Failed), "what was before it opened is forgotten");
    }

    #[test]
    fn streams_that_break_are_one_failure_of_one_each_whether_their_heads_are_remembered_or_not() {
        // Of 40 attempts the heads of 20 are well at `began`, and break off 5 s after the other 20 were well.
        for began in [10, 40] {
            let mut run = Run::new();
            let secs = Micros::from_secs;
            run.now = secs(began);
            let heads: Vec<Counted> = (0..20)
                .map(|_| {
                    let pass = run.breaker.enter(run.now, &rule()).unwrap();
                    let head = run.breaker.counted(run.now, pass);
                    assert!(!run.breaker.leave(run.now, &rule(), pass, WELL, &mut run.rng));
                    head
                })
                .collect();
            run.now = secs(40);
            (0..20).for_each(|_| _ = run.attempt(WELL));
            run.now = secs(45);
            let mut broken =
                heads.iter().map(|head| run.breaker.break_off(run.now, &rule(), *head, &mut run.rng));
            let opened = broken.position(|opens| opens).expect("half of all have failed");
            assert_eq!(opened + 1, 20, "heads of second {began}");
        }
        // All others have left the window: what breaks is all that there is.
        let mut run = Run::new();
        let pass = run.breaker.enter(run.now, &rule()).unwrap();
        let head = run.breaker.counted(run.now, pass);
        run.breaker.leave(run.now, &rule(), pass, WELL, &mut run.rng);
        run.now = Micros::from_secs(60);
        let opened = (0..30).position(|_| run.breaker.break_off(run.now, &rule(), head, &mut run.rng));
        assert_eq!(opened, Some(19), "as many as the rule asks for");
    }

    #[test]
    fn a_stream_that_breaks_brings_back_a_run_of_failures_only_while_nothing_else_was_well() {
        let rule = config::Breaker::default();
        for (well, opens) in [(0, true), (1, false), (1_000, false)] {
            let mut run = Run::new();
            let Run { breaker, rng, now } = &mut run;
            let mut leave = |breaker: &mut Breaker, now: Micros, outcome| {
                let pass = breaker.enter(now, &rule).expect("it is closed");
                let head = breaker.counted(now, pass);
                assert!(!breaker.leave(now, &rule, pass, outcome, rng));
                head
            };
            (1..rule.consecutive).for_each(|_| _ = leave(breaker, *now, Outcome::Failed));
            let head = leave(breaker, *now, WELL);
            let later = now.plus(Micros::from_secs(1_800));
            (0..well).for_each(|_| _ = leave(breaker, later, WELL));
            assert_eq!(breaker.break_off(later, &rule, head, rng), opens, "{well} others were well");
        }
    }

    #[test]
    fn what_breaks_of_the_trial_that_closed_it_is_an_attempt_of_its_own() {
        let mut run = Run::new();
        run.open();
        run.now = run.breaker.next_change().unwrap();
        let passes: Vec<_> = (0..3).map_while(|_| run.breaker.enter(run.now, &rule())).collect();
        let head = run.breaker.counted(run.now, passes[0]);
        passes.iter().for_each(|pass| _ = run.breaker.leave(run.now, &rule(), *pass, WELL, &mut run.rng));
        assert_eq!(run.breaker.state(), State::Closed);
        assert!(!run.breaker.break_off(run.now, &rule(), head, &mut run.rng));
        let counts = run.breaker.window.counts(run.now);
        assert_eq!((counts.total, counts.failed), (1, 1));
    }

    #[test]
    fn clock_jumps_neither_open_it_nor_keep_it_open() {
        let mut run = Run::new();
        (0..15).for_each(|_| _ = run.attempt(Outcome::Failed));
        run.now = Micros::from_secs(1_000_000);
        (0..19).for_each(|_| _ = run.attempt(Outcome::Failed));
        assert_eq!(run.breaker.state(), State::Closed, "the window was empty again");
        run.now = Micros(0);
        run.attempt(Outcome::Failed);
        assert!(matches!(run.breaker.state(), State::Open { until } if until <= Micros::from_secs(3)));
        run.now = Micros::NEVER;
        assert!(run.breaker.enter(run.now, &rule()).is_some());
    }
}
