//! Hash values, with a deadline per field.
//!
//! Deadlines lie beside the fields and only in hashes that have any, so that a field without one costs nothing for them.

use std::collections::BTreeSet;

use skep_base::Millis;
use skep_base::varint::{self, Malformed, Reader};

use crate::db::NEVER;
use crate::dense::{DenseMap, Keyed};
use crate::keyspace::Encodings;
use crate::pieces::{Elements, Frozen, encode_some};
use crate::segments::Segments;
use crate::small::SmallBytes;
use crate::value::{Typed, Value, sampled_heap_bytes, typed_access};

/// One field of a hash.
#[derive(Clone)]
pub struct Field {
    pub name: SmallBytes,
    pub value: SmallBytes,
}

const _: () = assert!(size_of::<Field>() == 48);

impl Keyed for Field {
    fn key(&self) -> &[u8] {
        &self.name
    }
}

/// Fields in dense order. Fields past their deadline stay until a write or a sweep removes them; every reading method
/// takes the time and passes over them.
#[derive(Clone, Default)]
pub struct Hash {
    fields: DenseMap<Field>,
    /// `None` while no field has a deadline.
    deadlines: Option<Box<Deadlines>>,
}

/// Deadlines by position and in order of time.
#[derive(Clone, Default)]
struct Deadlines {
    /// As long as the fields; [`NEVER`] for a field that stays.
    by_position: Segments<Millis>,
    /// Those of `by_position` that are not [`NEVER`], with their positions. Never empty between calls.
    order: BTreeSet<(Millis, u32)>,
}

impl Deadlines {
    #[inline]
    fn at(&self, at: usize) -> Millis {
        *self.by_position.get(at).expect("as many deadlines as fields")
    }

    fn set(&mut self, at: usize, deadline: Millis) {
        let old = self.at(at);
        if old == deadline {
            return;
        }
        *self.by_position.get_mut(at).expect("read above") = deadline;
        self.reorder(at, old, deadline);
    }

    /// Follows a removal at `at` that moved the last field there.
    fn swap_remove(&mut self, at: usize) {
        let last = self.by_position.len() - 1;
        self.reorder(at, self.at(at), NEVER);
        if at != last {
            self.reorder(last, self.at(last), NEVER);
            self.reorder(at, NEVER, self.at(last));
        }
        self.by_position.swap_remove(at);
    }

    fn reorder(&mut self, at: usize, from: Millis, to: Millis) {
        if from != NEVER {
            self.order.remove(&(from, at as u32));
        }
        if to != NEVER {
            self.order.insert((to, at as u32));
        }
    }
}

impl Hash {
    /// Fields that may be seen at `now`. Cost: O(1), and O(1) for each field that is due.
    pub fn len(&self, now: Millis) -> usize {
        self.fields.len() - self.due(now)
    }

    /// The value of `field` if it may be seen at `now`.
    #[inline]
    pub fn get(&self, field: &[u8], now: Millis) -> Option<&SmallBytes> {
        let at = self.position(field, now)?;
        self.fields.at(at).map(|f| &f.value)
    }

    /// The deadline of `field`, [`NEVER`] if it stays; `None` if it may not be seen at `now`.
    pub fn deadline(&self, field: &[u8], now: Millis) -> Option<Millis> {
        self.position(field, now).map(|at| self.deadline_at(at))
    }

    /// Fields that may be seen at `now`, in order.
    pub fn iter(&self, now: Millis) -> impl Iterator<Item = &Field> {
        let hides = self.due(now) > 0;
        self.fields
            .iter()
            .enumerate()
            .filter(move |(at, _)| !hides || self.is_visible(*at, now))
            .map(|(_, f)| f)
    }

    /// Positions in use, due fields included.
    pub fn positions(&self) -> usize {
        self.fields.len()
    }

    /// The field at `position` if it may be seen at `now`.
    pub fn at(&self, position: usize, now: Millis) -> Option<&Field> {
        self.fields.at(position).filter(|_| self.is_visible(position, now))
    }

    /// Fields past their deadline. Cost: O(1) for each.
    pub fn due(&self, now: Millis) -> usize {
        match &self.deadlines {
            None => 0,
            Some(deadlines) => deadlines.order.range(..(now, 0)).count(),
        }
    }

    /// True if no field may be seen at `now`.
    pub fn is_spent(&self, now: Millis) -> bool {
        self.deadlines.as_ref().is_some_and(|d| {
            d.order.len() == self.fields.len() && d.order.last().is_some_and(|(deadline, _)| *deadline < now)
        })
    }

    /// Sets `field`, and its deadline ([`NEVER`] for none). True if it is new. Due fields count as present: see
    /// [`Hash::expire_fields`].
    pub fn set(&mut self, field: &[u8], value: SmallBytes, deadline: Millis) -> bool {
        let empty = SmallBytes::new(b"");
        let (at, is_new) =
            self.fields.find_or_insert(field, || Field { name: SmallBytes::new(field), value: empty });
        self.fields.at_mut(at).expect("found or inserted above").value = value;
        if is_new && let Some(deadlines) = &mut self.deadlines {
            deadlines.by_position.push(NEVER);
        }
        self.set_deadline_at(at, deadline);
        is_new
    }

    /// The value of `field`, to be changed; its deadline stays.
    pub fn get_mut(&mut self, field: &[u8]) -> Option<&mut SmallBytes> {
        self.fields.get_mut(field).map(|f| &mut f.value)
    }

    /// Changes the deadline of `field` ([`NEVER`] for none). False if there is no such field.
    pub fn set_deadline(&mut self, field: &[u8], deadline: Millis) -> bool {
        let Some(at) = self.fields.position(field) else { return false };
        self.set_deadline_at(at, deadline);
        true
    }

    /// True if `field` was there.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        let Some(at) = self.fields.position(field) else { return false };
        self.remove_at(at);
        true
    }

    /// Removes up to `limit` fields due before `now`, the earliest first, and gives their number.
    pub fn expire_fields(&mut self, now: Millis, limit: usize) -> usize {
        let mut removed = 0;
        while removed < limit
            && let Some(deadlines) = &self.deadlines
            && let Some((deadline, at)) = deadlines.order.first()
            && *deadline < now
        {
            self.remove_at(*at as usize);
            removed += 1;
        }
        removed
    }

    /// What `OBJECT ENCODING` answers. Cost: O(`hash_max_listpack_entries`).
    pub fn encoding(&self, limits: &Encodings) -> &'static str {
        let short = |bytes: &SmallBytes| bytes.len() <= limits.hash_max_listpack_value;
        let compact = self.fields.len() <= limits.hash_max_listpack_entries
            && self.fields.iter().all(|f| short(&f.name) && short(&f.value));
        match (compact, &self.deadlines) {
            (false, _) => "hashtable",
            (true, None) => "listpack",
            (true, Some(_)) => "listpackex",
        }
    }

    /// Panics if fields and deadlines disagree.
    pub fn assert_invariants(&self) {
        self.fields.assert_invariants();
        if let Some(deadlines) = &self.deadlines {
            assert_eq!(deadlines.by_position.len(), self.fields.len(), "deadlines by position");
            let order: BTreeSet<(Millis, u32)> = (0u32..)
                .zip(deadlines.by_position.iter())
                .filter(|(_, d)| **d != NEVER)
                .map(|(at, d)| (*d, at))
                .collect();
            assert_eq!(deadlines.order, order, "deadlines in order of time");
            assert!(!order.is_empty(), "deadlines kept without any");
        }
    }

    #[inline]
    fn position(&self, field: &[u8], now: Millis) -> Option<usize> {
        self.fields.position(field).filter(|at| self.is_visible(*at, now))
    }

    #[inline]
    fn is_visible(&self, at: usize, now: Millis) -> bool {
        now <= self.deadline_at(at)
    }

    #[inline]
    fn deadline_at(&self, at: usize) -> Millis {
        self.deadlines.as_ref().map_or(NEVER, |d| d.at(at))
    }

    fn set_deadline_at(&mut self, at: usize, deadline: Millis) {
        if self.deadlines.is_none() {
            if deadline == NEVER {
                return;
            }
            let by_position = Segments::filled(NEVER, self.fields.len());
            self.deadlines = Some(Box::new(Deadlines { by_position, order: BTreeSet::new() }));
        }
        self.deadlines.as_mut().expect("made above").set(at, deadline);
        self.drop_unused_deadlines();
    }

    fn remove_at(&mut self, at: usize) {
        self.fields.remove_at(at);
        if let Some(deadlines) = &mut self.deadlines {
            deadlines.swap_remove(at);
            self.drop_unused_deadlines();
        }
    }

    fn drop_unused_deadlines(&mut self) {
        if self.deadlines.as_ref().is_some_and(|d| d.order.is_empty()) {
            self.deadlines = None;
        }
    }
}

impl Elements for Hash {
    fn count(&self) -> usize {
        self.fields.len()
    }

    fn encode_from(&self, from: usize, bytes: usize, out: &mut Vec<u8>) -> usize {
        let deadlines = self.deadlines.as_ref().map(|d| &d.by_position);
        encode_fields(self.fields.entries(), deadlines, from, bytes, out)
    }
}

/// Fields with their deadlines as they were.
struct FrozenFields {
    fields: Segments<Field>,
    deadlines: Option<Segments<Millis>>,
}

impl Elements for FrozenFields {
    fn count(&self) -> usize {
        self.fields.len()
    }

    fn encode_from(&self, from: usize, bytes: usize, out: &mut Vec<u8>) -> usize {
        encode_fields(&self.fields, self.deadlines.as_ref(), from, bytes, out)
    }
}

fn encode_fields(
    fields: &Segments<Field>,
    deadlines: Option<&Segments<Millis>>,
    from: usize,
    bytes: usize,
    out: &mut Vec<u8>,
) -> usize {
    let deadline_at = |at| deadlines.and_then(|d| d.get(at)).map_or(NEVER, |deadline| *deadline);
    let from_there = (from..).zip(fields.range(from..fields.len()));
    from + encode_some(from_there, bytes, out, |(at, field), out| {
        varint::put_bytes(out, &field.name);
        varint::put_bytes(out, &field.value);
        varint::put(out, deadline_at(at).0.wrapping_add(1)); // never is one byte
    })
}

impl Typed for Hash {
    typed_access!(Hash, boxed);

    fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    fn elements(&self) -> &dyn Elements {
        self
    }

    fn decode_elements(&mut self, count: usize, input: &mut Reader<'_>) -> Result<(), Malformed> {
        for _ in 0..count {
            let name = input.bytes()?;
            let value = SmallBytes::new(input.bytes()?);
            let deadline = Millis(input.varint()?.wrapping_sub(1));
            if !self.set(name, value, deadline) {
                return input.malformed("a field that is not in the hash yet");
            }
        }
        Ok(())
    }

    fn freeze(&mut self) -> Frozen {
        let deadlines = self.deadlines.as_ref().map(|d| d.by_position.clone());
        Box::new(FrozenFields { fields: self.fields.entries().clone(), deadlines })
    }

    fn heap_bytes(&self) -> usize {
        /// A B-tree's node overhead and slack, by a third of its entries.
        const ORDER_BYTES_EACH: usize = size_of::<(Millis, u32)>() * 4 / 3;
        let deadlines = self.deadlines.as_ref().map_or(0, |d| {
            size_of::<Deadlines>() + d.by_position.heap_bytes() + d.order.len() * ORDER_BYTES_EACH
        });
        let contents = sampled_heap_bytes(&self.fields, |f| f.name.heap_bytes() + f.value.heap_bytes());
        size_of::<Hash>() + self.fields.heap_bytes() + contents + deadlines
    }

    fn next_deadline(&self) -> Option<Millis> {
        let first = self.deadlines.as_ref()?.order.first()?;
        Some(first.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_base::Rng;
    use std::collections::BTreeMap;

    #[test]
    fn fields_and_deadlines_agree_with_a_model() {
        for seed in 0..40 {
            let mut rng = Rng::new(seed);
            let mut hash = Hash::default();
            let mut model: BTreeMap<Vec<u8>, (u64, Millis)> = BTreeMap::new();
            let names = 1 + rng.below(60);
            for step in 0..1_000u64 {
                let now = Millis(step);
                let name = format!("f{}", rng.below(names)).into_bytes();
                let deadline = if rng.one_in(2) { NEVER } else { Millis(step + rng.below(100)) };
                match rng.below(6) {
                    0 => assert_eq!(hash.remove(&name), model.remove(&name).is_some()),
                    1 => {
                        let known = model.get_mut(&name).map(|m| m.1 = deadline).is_some();
                        assert_eq!(hash.set_deadline(&name, deadline), known);
                    }
                    2 => {
                        let due = model.values().filter(|m| m.1 < now).count();
                        assert_eq!(hash.due(now), due);
                        assert_eq!(hash.len(now), model.len() - due);
                        assert_eq!(hash.iter(now).count(), model.len() - due);
                        assert_eq!(hash.is_spent(now), due == model.len() && due > 0);
                        model.retain(|_, m| m.1 >= now);
                        assert_eq!(hash.expire_fields(now, usize::MAX), due);
                    }
                    _ => {
                        let value = SmallBytes::new(&step.to_le_bytes());
                        let new = model.insert(name.clone(), (step, deadline)).is_none();
                        assert_eq!(hash.set(&name, value, deadline), new);
                    }
                }
                hash.assert_invariants();
                assert_eq!(hash.next_deadline(), model.values().map(|m| m.1).min().filter(|d| *d != NEVER));
                for (name, (value, deadline)) in &model {
                    let seen = hash.get(name, Millis(0)).expect("in the model");
                    assert_eq!(seen.as_slice(), value.to_le_bytes());
                    assert_eq!(hash.deadline(name, Millis(0)), Some(*deadline));
                }
            }
            let mut bytes = Vec::new();
            hash.encode(&mut bytes);
            let decoded = Hash::decode(&mut Reader::new(&bytes)).unwrap();
            decoded.assert_invariants();
            let mut again = Vec::new();
            decoded.encode(&mut again);
            assert_eq!(bytes, again);
        }
    }

    #[test]
    fn the_earliest_fields_expire_first() {
        let mut hash = Hash::default();
        for (name, deadline) in [("a", 30), ("b", 10), ("c", 20)] {
            hash.set(name.as_bytes(), SmallBytes::new(b"v"), Millis(deadline));
        }
        assert_eq!(hash.expire_fields(Millis(40), 2), 2);
        assert_eq!(hash.get(b"a", Millis(0)).unwrap().as_slice(), b"v");
        assert_eq!(hash.positions(), 1);
    }
}
