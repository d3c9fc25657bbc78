//! What clients do with queues of leased jobs.

use std::collections::BTreeSet;

use skep_base::Rng;

use super::limits::Limits;
use super::tries::Tries;
use super::windows::Windows;
use super::{Jobs, KEEP_MS, LIMITED, TICKED, TRIED, WINDOWED, text};
use crate::model::Words;

/// All of them, as often as they are drawn.
const ALL_QUEUES: [&str; 9] = ["j0", "j1", LIMITED, LIMITED, TRIED, TRIED, TICKED, WINDOWED, WINDOWED];

impl Jobs {
    /// Something that a client does next; `wall` is what a clock shows.
    pub fn next(&mut self, rng: &mut Rng, wall: u64) -> Words {
        let name = ALL_QUEUES[rng.below(ALL_QUEUES.len() as u64) as usize];
        let queue = text(name);
        match (name, rng.below(11)) {
            (TICKED, 0..4) => self.ticks.next(rng, wall),
            (TRIED, 0) => self.tries.next(rng),
            // First of all.
            (LIMITED, of) if of == 0 || self.limited_by.is_none() && of < 7 => {
                self.limits.get_or_insert_with(|| Limits::draw(rng)).words()
            }
            (LIMITED, 1) if self.lifts_limits => Limits::lift(),
            (LIMITED, 7 | 8) | (_, 4..7) => take(queue, rng),
            (WINDOWED, 7) => self.add(name, rng),
            (_, 0..4) => self.add(name, rng),
            (_, chosen) => self.use_lease(name, chosen, rng),
        }
    }

    fn add(&mut self, name: &str, rng: &mut Rng) -> Words {
        let queue = text(name);
        let known = self.sent.get(&queue).map_or(0, BTreeSet::len) as u64;
        // One time in four a job that was sent already, as a client does that had no answer; not one that may be gone.
        let id = match known {
            1.. if name != TRIED && name != WINDOWED && rng.one_in(4) => {
                let ids = &self.sent[&queue];
                ids.iter().nth(rng.below(known) as usize).cloned().expect("below the number of ids")
            }
            _ => {
                self.next_id += 1;
                format!("x{}", self.next_id).into_bytes()
            }
        };
        let mut words = vec![text("QADD"), queue, id.clone(), text("ID"), id];
        if name == TRIED {
            words.extend(Tries::options(rng));
            return words;
        }
        if name == WINDOWED {
            words.extend(Windows::options(rng));
            return words;
        }
        words.extend([text("TRIES"), text("0"), text("KEEP"), KEEP_MS.to_string().into_bytes()]);
        if rng.one_in(3) {
            words.extend([text("DELAY"), rng.below(300).to_string().into_bytes()]);
        }
        if name != LIMITED && rng.one_in(3) {
            words.extend([text("GROUP"), rng.below(3).to_string().into_bytes()]);
        }
        if rng.one_in(3) {
            words.extend([text("PRIO"), (3 + rng.below(3)).to_string().into_bytes()]);
        }
        words
    }

    /// Something that is done with a lease, one of the youngest.
    fn use_lease(&self, name: &str, chosen: u64, rng: &mut Rng) -> Words {
        let of_queue = self.leases.iter().filter(|((of, _), _)| of == name.as_bytes());
        let back = rng.below(6) as usize;
        let lease = of_queue.rev().nth(back).map(|((_, token), lease)| (lease.id.clone(), *token));
        let (id, token) = lease.unwrap_or((text("none"), 1));
        let mut words = vec![text(name), id, token.to_string().into_bytes()];
        match chosen {
            9 => {
                words.insert(0, text("QFAIL"));
                match rng.below(4) {
                    0..2 if name == TRIED => {}
                    0 | 2 => words.push(text("FREE")),
                    _ => words.push(text("DEAD")),
                }
            }
            10 => {
                words.insert(0, text("QBEAT"));
                words.push((1 + rng.below(1_500)).to_string().into_bytes());
            }
            _ => words.insert(0, text("QACK")),
        }
        words
    }
}

fn take(queue: Vec<u8>, rng: &mut Rng) -> Words {
    let (count, lease) = (1 + rng.below(3), 20 + rng.below(1_500));
    let words = ["QTAKE", "1", "", "COUNT", &count.to_string(), "LEASE", &lease.to_string()];
    let mut words: Words = words.into_iter().map(text).collect();
    words[2] = queue;
    if rng.one_in(3) {
        words.extend([text("BLOCK"), (1 + rng.below(300)).to_string().into_bytes()]);
    }
    words
}
