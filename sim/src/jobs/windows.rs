//! A queue whose jobs are added under words of `DEDUP`: within a word's window all that is added under it is the first job, whatever
//! became of that, and behind the window it is a new one. Which instants that were, by the time of the queue, is told at the end,
//! when all jobs are listed.

use std::collections::BTreeMap;

use skep_base::Rng;

use super::KEEP_MS;
use crate::model::{Plain, Words, show};

/// The queue.
pub const WINDOWED: &str = "j5";
/// Lists all of it at one instant, by state.
pub const LIST_WINDOWED: &str = "#!lua flags=no-writes\n\
     local all = {} \
     for _, state in ipairs({'READY', 'DELAYED', 'LEASED', 'DEAD', 'DONE'}) do \
     all[#all + 1] = redis.call('QLIST', KEYS[1], state, 'COUNT', '1000')[2] end return all";

/// The word whose window outlasts the run.
const FOR_EVER: &str = "ever";

/// Everything known of its words.
#[derive(Default)]
pub struct Windows {
    /// Of each job that may have been added its word, and how long nothing else is added under it.
    sent: BTreeMap<Vec<u8>, (Vec<u8>, i64)>,
    /// Jobs that were answered to be new, and when.
    new: BTreeMap<Vec<u8>, u64>,
    /// What was added and was known already: its word, the job that stands for it, and when it was sent.
    known: Vec<(Vec<u8>, Vec<u8>, u64)>,
}

impl Windows {
    /// What a job gets beside its id.
    pub fn options(rng: &mut Rng) -> Words {
        let (word, window_ms) = match rng.below(6) {
            0 => (FOR_EVER.to_owned(), KEEP_MS),
            which => (format!("w{}", which % 3), 10 + rng.below(500)),
        };
        let line = format!("TRIES 0 KEEP {KEEP_MS} DEDUP {word} {window_ms}");
        line.split(' ').map(super::text).collect()
    }

    pub fn on_sent(&mut self, words: &Words) {
        if words[0] == b"QADD"
            && let Some(at) = words.iter().position(|word| word == b"DEDUP")
        {
            let window_ms = String::from_utf8_lossy(&words[at + 2]).parse().unwrap_or(0);
            self.sent.insert(words[2].clone(), (words[at + 1].clone(), window_ms));
        }
    }

    /// The answer to a job that was sent at `since`.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn on_added(
        &mut self,
        words: &Words,
        (since, at): (u64, u64),
        answer: &[Plain],
    ) -> Result<(), &'static str> {
        let word_of = |id: &[u8]| self.sent.get(id).map(|(word, _)| word);
        match answer {
            [Plain::Text(id), Plain::Int(1)] if *id == words[2] => {
                self.new.insert(id.clone(), at);
            }
            [Plain::Text(id), Plain::Int(0)] if *id != words[2] && word_of(id) == word_of(&words[2]) => {
                let word = self.sent[id].0.clone();
                self.known.push((word, id.clone(), since));
            }
            _ => return Err("a job of another word, or none"),
        }
        Ok(())
    }

    /// Compares what was answered with what the queue holds at the end, by [`LIST_WINDOWED`].
    ///
    /// # Errors
    /// What does not fit.
    pub fn audit(&self, told: &[Plain]) -> Result<(), String> {
        let added =
            self.added(told).ok_or_else(|| format!("INV-SIM-30: {WINDOWED} says of itself {told:?}"))?;
        let named = |id: &Vec<u8>| show(std::slice::from_ref(id));
        if let Some(id) = self.new.keys().find(|id| !added.contains_key(*id)) {
            return Err(format!("INV-SIM-30: {} is missing in {WINDOWED}", named(id)));
        }
        // By word and instant: each window is over when the next begins.
        let mut begun = BTreeMap::<_, Vec<_>>::new();
        for (id, at) in &added {
            let Some((word, window_ms)) = self.sent.get(id) else {
                return Err(format!("INV-SIM-30: nobody added {} to {WINDOWED}", named(id)));
            };
            begun.entry(word).or_default().push((*at, at + window_ms, id));
        }
        for (word, windows) in &mut begun {
            windows.sort_unstable();
            if let Some(two) = windows.windows(2).find(|two| two[1].0 < two[0].1) {
                return Err(format!(
                    "INV-SIM-30: {} is new at {} in the window of {} under {}, {} to {}",
                    named(two[1].2),
                    two[1].0,
                    named(two[0].2),
                    named(word),
                    two[0].0,
                    two[0].1
                ));
            }
        }
        for (word, id, since) in &self.known {
            let of_id = begun[word].iter().find(|(.., other)| *other == id);
            let Some((_, end, _)) = of_id else {
                return Err(format!("INV-SIM-30: {} stands for its word and is missing", named(id)));
            };
            // What was answered before it was sent came before it by the time of the queue, too.
            let before = self.new.iter().filter(|(_, at)| *at < since).map(|(other, _)| added[other]).max();
            if before.is_some_and(|before| before > *end) {
                return Err(format!(
                    "INV-SIM-30: {} stands for its word after {before:?}, its window ended at {end}",
                    named(id)
                ));
            }
        }
        Ok(())
    }

    /// When each job was added, by the time of the queue.
    fn added(&self, told: &[Plain]) -> Option<BTreeMap<Vec<u8>, i64>> {
        let mut added = BTreeMap::new();
        for state in told {
            let Plain::List(jobs) = state else { return None };
            for job in jobs {
                let Plain::List(fields) = job else { return None };
                match (super::field(fields, "id"), super::field(fields, "added-ms")) {
                    (Some(Plain::Text(id)), Some(Plain::Int(at))) => added.insert(id.clone(), *at),
                    _ => return None,
                };
            }
        }
        Some(added)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Words {
        line.split(' ').map(super::super::text).collect()
    }

    fn answer(id: &str, is_new: i64) -> [Plain; 2] {
        [Plain::Text(super::super::text(id)), Plain::Int(is_new)]
    }

    /// A queue with these jobs, each with its instant.
    fn told(jobs: &[(&str, i64)]) -> Vec<Plain> {
        let text = |text: &str| Plain::Text(super::super::text(text));
        let job = |(id, at): &(&str, i64)| {
            Plain::List(vec![text("id"), text(id), text("added-ms"), Plain::Int(*at)])
        };
        vec![Plain::List(jobs.iter().map(job).collect())]
    }

    /// Under one word `a` for 100 ms and `b`, which was new as well, and `c`, for which `a` stood; the last sent at 50.
    fn three() -> Windows {
        let mut windows = Windows::default();
        let adds =
            [("a", "w", 100, ("a", 1), 10), ("b", "w", 100, ("b", 1), 30), ("c", "w", 100, ("a", 0), 50)];
        for (id, word, ms, (told, is_new), at) in adds {
            let add = words(&format!("QADD j5 {id} ID {id} DEDUP {word} {ms}"));
            windows.on_sent(&add);
            windows.on_added(&add, (at, at + 1), &answer(told, is_new)).unwrap();
        }
        windows
    }

    #[test]
    fn a_window_neither_ends_before_its_time_nor_holds_behind_it() {
        assert!(three().audit(&told(&[("a", 1_000), ("b", 1_099)])).is_err(), "b is too early");
        assert!(three().audit(&told(&[("a", 1_000), ("b", 1_100)])).is_ok());
        assert!(three().audit(&told(&[("a", 1_000), ("b", 1_101)])).is_err(), "c is behind b");
        assert!(three().audit(&told(&[("b", 1_100)])).is_err(), "a is missing");
        assert!(three().audit(&told(&[("a", 1_000), ("b", 1_100), ("x", 1)])).is_err(), "nobody added x");
    }

    #[test]
    fn a_job_of_another_word_stands_for_nothing() {
        let mut windows = three();
        let add = words("QADD j5 d ID d DEDUP v 100");
        windows.on_sent(&add);
        assert!(windows.on_added(&add, (60, 61), &answer("a", 0)).is_err());
        assert!(windows.on_added(&add, (60, 61), &answer("d", 0)).is_err());
        assert!(windows.on_added(&add, (60, 61), &answer("d", 1)).is_ok());
    }
}
