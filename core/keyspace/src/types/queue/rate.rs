//! How many jobs a queue may hand out in a span of time.

use std::collections::VecDeque;

use skep_base::Millis;
use skep_base::varint::{self, Malformed, Reader};

/// Parts into which the span is divided. What was handed out is remembered by part, so that memory is bounded whatever the
/// rate; a part is forgotten only when all of it is out of the span, so that the limit is never passed.
const PARTS: u64 = 1_000;

/// `count` jobs in any span of `per_ms`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    pub count: u64,
    pub per_ms: u64,
}

/// What was handed out within the last span, by part.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct Window {
    /// The number of the part (instant / its length) and how many.
    parts: VecDeque<(u64, u64)>,
    sum: u64,
}

impl Rate {
    fn part_ms(self) -> u64 {
        self.per_ms.div_ceil(PARTS).max(1)
    }
}

impl Window {
    /// How many more may be handed out at `now`. Cost: O(1) amortized.
    pub fn allowance(&mut self, rate: Rate, now: Millis) -> u64 {
        let length = rate.part_ms();
        while let Some((part, count)) = self.parts.front() {
            // The last instant of the part, and the span that begins there.
            if (part + 1).saturating_mul(length).saturating_add(rate.per_ms) > now.0 + 1 {
                break;
            }
            self.sum -= count;
            self.parts.pop_front();
        }
        rate.count.saturating_sub(self.sum)
    }

    /// From when on one more may be handed out, if nothing else is.
    pub fn free_from(&self, rate: Rate) -> Millis {
        let length = rate.part_ms();
        let mut left = self.sum;
        for (part, count) in &self.parts {
            if left < rate.count {
                break;
            }
            left -= count;
            if left < rate.count {
                return Millis((part + 1).saturating_mul(length).saturating_add(rate.per_ms) - 1);
            }
        }
        Millis(0)
    }

    /// Takes note of one handed out at `now`.
    pub fn note(&mut self, rate: Rate, now: Millis) {
        let part = now.0 / rate.part_ms();
        self.sum += 1;
        match self.parts.back_mut() {
            Some((last, count)) if *last >= part => *count += 1,
            _ => self.parts.push_back((part, 1)),
        }
    }

    /// Forgets everything: another rate begins.
    pub fn clear(&mut self) {
        *self = Window::default();
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        varint::put(out, self.parts.len() as u64);
        for (part, count) in &self.parts {
            varint::put(out, *part);
            varint::put(out, *count);
        }
    }

    pub fn decode(input: &mut Reader<'_>) -> Result<Window, Malformed> {
        let count = input.count(2)?;
        let mut window = Window::default();
        for _ in 0..count {
            let (part, count) = (input.varint()?, input.varint()?);
            let ascending = window.parts.back().is_none_or(|(last, _)| *last < part);
            let Some(sum) = window.sum.checked_add(count).filter(|_| ascending && part < u64::MAX) else {
                return input.malformed("parts of a rate in order");
            };
            window.sum = sum;
            window.parts.push_back((part, count));
        }
        Ok(window)
    }

    pub fn heap_bytes(&self) -> usize {
        self.parts.capacity() * size_of::<(u64, u64)>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_base::Rng;

    #[test]
    fn no_span_ever_holds_more_than_the_rate() {
        for seed in 0..20 {
            let mut rng = Rng::new(seed);
            let rate = Rate { count: 1 + rng.below(50), per_ms: [7, 1_000, 60_000][seed as usize % 3] };
            let (mut window, mut now) = (Window::default(), Millis(1_000_000));
            let mut taken: Vec<Millis> = Vec::new();
            for _ in 0..3_000 {
                now = now.plus(rng.below(rate.per_ms / 20 + 2));
                let allowed = window.allowance(rate, now);
                let within = taken.iter().filter(|t| t.0 + rate.per_ms > now.0).count() as u64;
                assert!(within + allowed <= rate.count, "{within} within the span, {allowed} allowed");
                let forgotten = rate.per_ms + rate.part_ms();
                let late = taken.iter().filter(|t| t.0 + forgotten > now.0).count() as u64;
                assert!(allowed >= rate.count.saturating_sub(late), "a part more than the span at the most");
                for _ in 0..rng.below(allowed + 1) {
                    window.note(rate, now);
                    taken.push(now);
                }
                assert!(window.parts.len() as u64 <= PARTS + 2);
            }
            let mut bytes = Vec::new();
            window.encode(&mut bytes);
            assert_eq!(Window::decode(&mut Reader::new(&bytes)).unwrap(), window);
        }
    }
}
