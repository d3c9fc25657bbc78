//! Active checks of one upstream: when to probe, and what the answers make of it.

use skep_base::{Micros, Rng};

use crate::config::pool::Health;

/// The checks of one upstream.
#[derive(Clone, Debug)]
pub struct Checks {
    interval: Micros,
    jitter: f64,
    timeout: Micros,
    rise: u32,
    fall: u32,
    up: bool,
    /// Answers in a row that speak against `up`.
    against: u32,
    /// No answer has come yet; the first counts for all that are asked for.
    unknown: bool,
    /// When to probe next, or when the one under way is too late.
    due: Micros,
    /// The number of the probe under way.
    asked: Option<u64>,
    next: u64,
}

impl Checks {
    /// Checks that begin at a random time within the first interval, so that those of many upstreams are spread. Up until
    /// an answer says otherwise: a gateway that starts must serve at once.
    pub fn new(now: Micros, health: &Health, rng: &mut Rng) -> Checks {
        Checks {
            interval: health.interval,
            jitter: health.jitter.fraction(),
            timeout: health.timeout,
            rise: health.rise,
            fall: health.fall,
            up: true,
            against: 0,
            unknown: true,
            due: now.plus(Micros(rng.below(health.interval.0.max(1)))),
            asked: None,
            next: 0,
        }
    }

    /// The rule has changed: what is known stays, and the next probe is not later than the new interval says.
    pub fn set_rule(&mut self, now: Micros, health: &Health) {
        (self.interval, self.jitter, self.timeout) =
            (health.interval, health.jitter.fraction(), health.timeout);
        (self.rise, self.fall) = (health.rise, health.fall);
        self.due = self.due.min(now.plus(health.interval));
    }

    pub fn is_up(&self) -> bool {
        self.up
    }

    /// When [`Checks::tick`] wants to be called.
    pub fn next_wakeup(&self) -> Micros {
        self.due
    }

    /// Begins a probe if one is due, and returns its number; a probe without an answer by now has failed. True beside it
    /// if `is_up` changed.
    pub fn tick(&mut self, now: Micros, rng: &mut Rng) -> (Option<u64>, bool) {
        if now < self.due {
            return (None, false);
        }
        if self.asked.is_some() {
            let changed = self.judge(now, false, rng);
            return (None, changed);
        }
        let number = self.next;
        self.next += 1;
        self.asked = Some(number);
        self.due = now.plus(self.timeout);
        (Some(number), false)
    }

    /// The answer of a probe. One that comes too late, or twice, changes nothing. True if `is_up` changed.
    pub fn on_answer(&mut self, now: Micros, number: u64, well: bool, rng: &mut Rng) -> bool {
        self.asked == Some(number) && self.judge(now, well, rng)
    }

    /// A probe was left out, which says nothing of the upstream: the next follows in its time.
    pub fn leave_out(&mut self, now: Micros, number: u64, rng: &mut Rng) {
        if self.asked == Some(number) {
            self.ask_later(now, rng);
        }
    }

    /// What another core or node found out; as good as an own row of answers. True if `is_up` changed.
    pub fn on_word(&mut self, up: bool) -> bool {
        self.against = 0;
        self.unknown = false;
        std::mem::replace(&mut self.up, up) != up
    }

    fn ask_later(&mut self, now: Micros, rng: &mut Rng) {
        self.asked = None;
        let spread = 1.0 + self.jitter * (2.0 * rng.unit() - 1.0);
        self.due = now.plus(Micros((self.interval.0 as f64 * spread) as u64));
    }

    fn judge(&mut self, now: Micros, well: bool, rng: &mut Rng) -> bool {
        self.ask_later(now, rng);
        let needed = if self.unknown {
            1
        } else if self.up {
            self.fall
        } else {
            self.rise
        };
        self.unknown = false;
        if well == self.up {
            self.against = 0;
            return false;
        }
        self.against += 1;
        if self.against < needed {
            return false;
        }
        self.against = 0;
        self.up = well;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(text: &str) -> String {
        let (mut rng, mut now) = (Rng::new(1), Micros(0));
        let mut checks = Checks::new(now, &Health::default(), &mut rng);
        let mut seen = String::new();
        for answer in text.chars() {
            now = checks.next_wakeup();
            let (number, _) = checks.tick(now, &mut rng);
            let number = number.expect("a probe is due");
            match answer {
                '+' | '-' => _ = checks.on_answer(now, number, answer == '+', &mut rng),
                '0' => {
                    checks.leave_out(now, number, &mut rng);
                    assert!(!checks.on_answer(now, number, false, &mut rng), "it is over");
                    assert!(
                        checks.next_wakeup() > now.plus(Health::default().timeout),
                        "the next is a new one"
                    );
                }
                _ => {
                    now = checks.next_wakeup();
                    assert_eq!(checks.tick(now, &mut rng).0, None, "the late one is given up first");
                    assert!(!checks.on_answer(now, number, true, &mut rng), "and its answer is too late");
                }
            }
            seen.push(if checks.is_up() { 'u' } else { 'd' });
        }
        seen
    }

    #[test]
    fn thresholds_make_up_and_down_and_the_first_answer_counts_at_once() {
        for (given, expected) in [
            ("+--+---", "uuuuuud"),
            ("-++", "ddu"),
            ("+---+-++", "uuuddddu"),
            ("+...", "uuud"),
            (".", "d"),
            ("+-.-", "uuud"),
            ("0-", "ud"),
            ("+-0-0-", "uuuuud"),
            ("-0+0+", "ddddu"),
        ] {
            assert_eq!(answers(given), expected, "{given}");
        }
    }

    #[test]
    fn intervals_are_spread_and_bounded() {
        let mut rng = Rng::new(2);
        let mut starts = Vec::new();
        for _ in 0..100 {
            starts.push(Checks::new(Micros(0), &Health::default(), &mut rng).next_wakeup().0);
        }
        assert!(starts.iter().max() > Some(&4_500_000) && starts.iter().min() < Some(&500_000));
        let mut checks = Checks::new(Micros(0), &Health::default(), &mut rng);
        for _ in 0..1_000 {
            let now = checks.next_wakeup();
            let number = checks.tick(now, &mut rng).0.unwrap();
            checks.on_answer(now, number, true, &mut rng);
            let gap = checks.next_wakeup().since(now);
            assert!((4_500_000..=5_500_000).contains(&gap.0), "{gap:?}");
        }
    }

    #[test]
    fn word_from_elsewhere_counts() {
        let mut rng = Rng::new(3);
        let mut checks = Checks::new(Micros(0), &Health::default(), &mut rng);
        assert!(checks.on_word(false) && !checks.is_up() && !checks.on_word(false));
        assert!(checks.on_word(true) && checks.is_up());
    }
}
