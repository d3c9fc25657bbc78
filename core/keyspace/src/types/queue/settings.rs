//! What a queue is told by QSET, and what it counts.

use skep_base::Millis;
use skep_base::varint::{self, Malformed, Reader};

use super::job::{Backoff, backoff, flag, optional, put_backoff, put_optional, small_number};
use super::rate::Rate;

/// What holds for all jobs of a queue that have nothing of their own.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Settings {
    pub lease_ms: u64,
    /// 0 for no limit.
    pub tries: u32,
    pub backoff: Backoff,
    pub rate: Option<Rate>,
    /// Leases at a time over all workers; 0 for no limit.
    pub limit: u64,
    /// Jobs of one group that may be in work at a time.
    pub group_limit: u64,
    /// See [`super::Job::keep_ms`].
    pub keep_ms: Option<u64>,
    /// How long the dead are kept; 0 for ever.
    pub dead_keep_ms: u64,
    /// Jobs that are ready, delayed or leased; 0 for no limit.
    pub max_len: u64,
    pub paused: bool,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            lease_ms: 30_000,
            tries: 5,
            backoff: Backoff { first_ms: 1_000, max_ms: 3_600_000 },
            rate: None,
            limit: 0,
            group_limit: 1,
            keep_ms: None,
            dead_keep_ms: 0,
            max_len: 0,
            paused: false,
        }
    }
}

impl Settings {
    pub fn encode(&self, out: &mut Vec<u8>) {
        varint::put(out, self.lease_ms);
        varint::put(out, u64::from(self.tries));
        put_backoff(out, self.backoff);
        out.push(u8::from(self.rate.is_some()));
        if let Some(rate) = self.rate {
            varint::put(out, rate.count);
            varint::put(out, rate.per_ms);
        }
        varint::put(out, self.limit);
        varint::put(out, self.group_limit);
        put_optional(out, self.keep_ms);
        varint::put(out, self.dead_keep_ms);
        varint::put(out, self.max_len);
        out.push(u8::from(self.paused));
    }

    pub fn decode(input: &mut Reader<'_>) -> Result<Settings, Malformed> {
        let (lease_ms, tries) = (input.varint()?, small_number(input)?);
        let backoff = backoff(input)?;
        let rate = match flag(input)? {
            true => Some(Rate { count: input.varint()?, per_ms: input.varint()? }),
            false => None,
        };
        let (limit, group_limit) = (input.varint()?, input.varint()?);
        let (keep_ms, dead_keep_ms) = (optional(input)?, input.varint()?);
        let (max_len, paused) = (input.varint()?, flag(input)?);
        if group_limit == 0 || rate.is_some_and(|r| r.per_ms == 0) {
            return input.malformed("limits above zero");
        }
        Ok(Settings {
            lease_ms,
            tries,
            backoff,
            rate,
            limit,
            group_limit,
            keep_ms,
            dead_keep_ms,
            max_len,
            paused,
        })
    }
}

/// What is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Count {
    Added,
    Done,
    /// By QFAIL.
    Failed,
    /// By the end of a lease.
    Lapsed,
    Died,
    /// Dropped since nobody took it in time.
    Expired,
}

const COUNTS: usize = 6;

/// Sums since the queue was made, and those of the last minutes.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Totals {
    all: [u64; COUNTS],
    /// The minute of the epoch that `current` is about.
    minute: u64,
    current: [u64; COUNTS],
    /// Of the minute before.
    previous: [u64; COUNTS],
}

const MINUTE_MS: u64 = 60_000;

impl Totals {
    pub fn note(&mut self, what: Count, now: Millis) {
        let minute = now.0 / MINUTE_MS;
        if minute > self.minute {
            self.previous = if minute == self.minute + 1 { self.current } else { [0; COUNTS] };
            self.current = [0; COUNTS];
            self.minute = minute;
        }
        self.all[what as usize] += 1;
        self.current[what as usize] += 1;
    }

    pub fn sum(&self, what: Count) -> u64 {
        self.all[what as usize]
    }

    /// How many there were in the last whole minute before `now`.
    pub fn last_minute(&self, what: Count, now: Millis) -> u64 {
        match (now.0 / MINUTE_MS).saturating_sub(self.minute) {
            0 => self.previous[what as usize],
            1 => self.current[what as usize],
            _ => 0,
        }
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        varint::put(out, self.minute);
        let rows = [self.all, self.current, self.previous];
        rows.iter().flatten().for_each(|n| varint::put(out, *n));
    }

    pub fn decode(input: &mut Reader<'_>) -> Result<Totals, Malformed> {
        let minute = input.varint()?;
        let mut row = || -> Result<[u64; COUNTS], Malformed> {
            let mut row = [0; COUNTS];
            for n in &mut row {
                // What is counted one by one does not come near the end.
                *n = input.varint()? & (u64::MAX >> 1);
            }
            Ok(row)
        };
        Ok(Totals { minute, all: row()?, current: row()?, previous: row()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_minute_is_the_whole_one_before() {
        let mut totals = Totals::default();
        for (at, count) in [(60_000, 2), (119_999, 1), (120_000, 4)] {
            (0..count).for_each(|_| totals.note(Count::Added, Millis(at)));
        }
        assert_eq!(totals.sum(Count::Added), 7);
        for (at, expected) in [(120_001, 3), (179_999, 3), (180_000, 4), (240_000, 0), (999_999, 0)] {
            assert_eq!(totals.last_minute(Count::Added, Millis(at)), expected, "at {at}");
        }
        assert_eq!(totals.last_minute(Count::Done, Millis(120_001)), 0);
    }

    #[test]
    fn pauses_double_up_to_their_limit() {
        let backoff = Backoff { first_ms: 100, max_ms: 1_000 };
        let pauses: Vec<u64> = [1, 2, 3, 4, 5, 64, u32::MAX].map(|attempt| backoff.after(attempt)).into();
        assert_eq!(pauses, [100, 200, 400, 800, 1_000, 1_000, 1_000]);
        assert_eq!(Backoff { first_ms: 0, max_ms: 1_000 }.after(70), 0);
    }
}
