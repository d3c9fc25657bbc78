//! A queue with a limit of leases at a time and one of takes in any span of time (`QSET LIMIT`, `RATE`), which clients set again
//! and again to the same: neither is ever passed.

use skep_base::Rng;

use crate::model::Words;

/// The queue.
pub const LIMITED: &str = "j2";

/// What is set; drawn once.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Leases at a time.
    leases: usize,
    /// Takes in any span of this length.
    rate: usize,
    per_ms: i64,
}

/// A lease that somebody was told of. Times of the queue are in milliseconds, others those of the simulated world.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    pub token: i64,
    /// When the take left its client, and when that heard of it.
    pub asked: u64,
    pub told: u64,
    /// By the time of the queue.
    pub taken: i64,
    pub until: i64,
    /// When somebody first sent what gives it up; `u64::MAX` for never.
    pub given_up: u64,
}

impl Limits {
    pub fn draw(rng: &mut Rng) -> Limits {
        Limits {
            leases: 1 + rng.below(3) as usize,
            rate: 1 + rng.below(4) as usize,
            per_ms: 50 + rng.below(600) as i64,
        }
    }

    /// The command that sets them.
    pub fn words(self) -> Words {
        let Limits { leases, rate, per_ms } = self;
        let line = format!("QSET {LIMITED} LIMIT {leases} RATE {rate} PER {per_ms}");
        line.split(' ').map(|word| word.as_bytes().to_vec()).collect()
    }

    /// For a planted bug: the command that lifts them.
    pub fn lift() -> Words {
        ["QSET", LIMITED, "LIMIT", "0", "RATE", "0"].map(super::text).to_vec()
    }

    /// Looks at all leases, in the order of their tokens, of which those asked for behind `since` were given under the limits.
    ///
    /// # Errors
    /// The limit that was passed, and where.
    pub fn check(self, since: u64, leases: &[Held]) -> Result<(), String> {
        for (at, lease) in leases.iter().enumerate().filter(|(_, lease)| lease.asked > since) {
            let holds = |other: &&Held| other.until >= lease.taken && other.given_up > lease.told;
            let others = leases[..at].iter().filter(holds).count();
            if others >= self.leases {
                return Err(format!(
                    "{} leases at a time are allowed, and {others} held when {} was given",
                    self.leases, lease.token
                ));
            }
        }
        let mut taken: Vec<i64> = leases.iter().filter(|l| l.asked > since).map(|l| l.taken).collect();
        taken.sort_unstable();
        for span in taken.windows(self.rate + 1) {
            if span[self.rate] - span[0] < self.per_ms {
                return Err(format!(
                    "{} takes in {} ms are allowed, and {} are at {span:?}",
                    self.rate,
                    self.per_ms,
                    span.len()
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lease that is asked for and told of in the instant of its token, and given up at another.
    fn held(token: i64, until: i64, given_up: u64) -> Held {
        Held { token, asked: token as u64, told: token as u64, taken: token, until, given_up }
    }

    #[test]
    fn more_leases_than_allowed_are_found_and_those_that_may_be_over_do_not_count() {
        let limits = Limits { leases: 2, rate: 9, per_ms: 1 };
        let check = |first: Held, since| {
            limits.check(since, &[first, held(20, 100, u64::MAX), held(30, 100, u64::MAX)]).is_ok()
        };
        assert!(!check(held(10, 100, u64::MAX), 0));
        assert!(!check(held(10, 100, u64::MAX), 25), "those before the limit count");
        assert!(check(held(10, 100, u64::MAX), 35), "given before the limit");
        assert!(check(held(10, 29, u64::MAX), 0), "it has ended");
        assert!(check(held(10, 100, 30), 0), "it may have been given up");
        assert!(!check(held(10, 100, 31), 0));
    }

    #[test]
    fn more_takes_than_allowed_in_a_span_are_found() {
        let limits = Limits { leases: 9, rate: 2, per_ms: 10 };
        let check = |times: [i64; 3], since| limits.check(since, &times.map(|at| held(at, at, 0))).is_ok();
        assert!(check([10, 11, 20], 0));
        assert!(!check([10, 11, 19], 0));
        assert!(check([10, 11, 19], 10));
    }
}
