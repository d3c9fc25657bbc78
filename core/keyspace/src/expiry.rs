//! When something in which slot is due: the ordered index behind active expiry.
//!
//! Holds counts of deadlines by slot, not keys, so that a volatile key costs 16 bytes here whatever its length. It is
//! derived from the entries and therefore not part of a checkpoint.

use std::collections::BTreeMap;

use skep_base::Millis;

/// Deadlines of one database: how many things in a slot are due at an instant.
#[derive(Default)]
pub struct ExpiryIndex {
    due: BTreeMap<(Millis, u16), u32>,
    /// Of all deadlines, for their mean.
    sum_ms: u128,
    deadlines: u64,
}

impl ExpiryIndex {
    pub fn add(&mut self, deadline: Millis, slot: u16) {
        *self.due.entry((deadline, slot)).or_insert(0) += 1;
        self.sum_ms += u128::from(deadline.0);
        self.deadlines += 1;
    }

    /// Takes back one [`ExpiryIndex::add`]. Panics if there was none: then an entry was changed behind the index.
    pub fn remove(&mut self, deadline: Millis, slot: u16) {
        let Some(count) = self.due.get_mut(&(deadline, slot)) else {
            panic!("deadline {deadline:?} of slot {slot} is not in the expiry index");
        };
        *count -= 1;
        if *count == 0 {
            self.due.remove(&(deadline, slot));
        }
        self.sum_ms -= u128::from(deadline.0);
        self.deadlines -= 1;
    }

    /// The mean of all deadlines.
    pub fn mean(&self) -> Option<Millis> {
        let mean = self.sum_ms.checked_div(u128::from(self.deadlines))?;
        Some(Millis(u64::try_from(mean).expect("a mean is not above what it is the mean of")))
    }

    /// The earliest deadline and its slot.
    pub fn first(&self) -> Option<(Millis, u16)> {
        self.due.first_key_value().map(|(key, _)| *key)
    }

    /// The latest deadline and its slot.
    pub fn last(&self) -> Option<(Millis, u16)> {
        self.due.last_key_value().map(|(key, _)| *key)
    }

    /// Every deadline with its slot, the earliest first; once, however many there are of the same.
    pub fn rows(&self) -> impl Iterator<Item = (Millis, u16)> {
        self.due.keys().copied()
    }

    /// The earliest deadline not before `instant`, and its slot.
    pub fn next_from(&self, instant: Millis) -> Option<(Millis, u16)> {
        self.due.range((instant, 0)..).next().map(|(key, _)| *key)
    }

    /// Sum of all counts. Cost: O(n); for tests and invariants.
    pub fn count(&self) -> u64 {
        self.due.values().map(|c| u64::from(*c)).sum()
    }
}
