//! Consumer groups: who got which entry, and has not acknowledged it.
//!
//! An entry that waits for its acknowledgement is found by its id (which consumer has it) and, in that consumer, with what is
//! known of its delivery. INV-STREAM-1: both sides hold the same ids.

use std::sync::Arc;

use skep_base::Millis;

use super::StreamId;
use crate::sorted::Sorted;

/// A consumer's name, shared by all entries that it has.
pub type ConsumerName = Arc<[u8]>;

/// How far a group has read, its consumers and what they have not acknowledged.
#[derive(Clone, Default)]
pub struct Group {
    /// The last id that was delivered to anybody.
    pub last_id: StreamId,
    /// How many entries ever added to the stream were delivered up to `last_id`; `None` if that is not known.
    pub entries_read: Option<u64>,
    pending: Sorted<StreamId, ConsumerName>,
    consumers: Sorted<ConsumerName, Consumer>,
}

/// One consumer of a group.
#[derive(Clone, Default)]
pub struct Consumer {
    /// When it last asked for something.
    pub seen: Millis,
    /// When it last got something.
    pub active: Option<Millis>,
    pub(super) pending: Sorted<StreamId, Delivery>,
}

/// What is known of the delivery of an entry that is not acknowledged.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Delivery {
    pub time: Millis,
    /// How often it was delivered.
    pub count: u64,
}

impl Consumer {
    /// Entries that it has not acknowledged.
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// The entries from `start` on that it has not acknowledged.
    pub fn pending_from(&self, start: StreamId) -> impl Iterator<Item = (StreamId, Delivery)> {
        self.pending.from(self.pending.lower_bound(&start)).map(|(id, delivery)| (*id, *delivery))
    }
}

impl Group {
    pub fn new(last_id: StreamId, entries_read: Option<u64>) -> Group {
        Group { last_id, entries_read, ..Group::default() }
    }

    pub fn consumer(&self, name: &[u8]) -> Option<&Consumer> {
        self.consumers.get(name)
    }

    /// Consumers in the order of their names.
    pub fn consumers(&self) -> impl ExactSizeIterator<Item = (&ConsumerName, &Consumer)> {
        Counted { inner: self.consumers.iter(), left: self.consumers.len() }
    }

    pub(super) fn consumer_map(&self) -> &Sorted<ConsumerName, Consumer> {
        &self.consumers
    }

    /// Entries that nobody has acknowledged.
    pub fn pending_len(&self) -> usize {
        self.pending.len()
    }

    /// The first and the last id that is not acknowledged.
    pub fn pending_bounds(&self) -> Option<(StreamId, StreamId)> {
        Some((*self.pending.first()?.0, *self.pending.last()?.0))
    }

    /// The entries from `start` on that are not acknowledged, with who has them. Cost: O(log n) for each.
    pub fn pending_from(&self, start: StreamId) -> impl Iterator<Item = (StreamId, &ConsumerName, Delivery)> {
        self.pending
            .from(self.pending.lower_bound(&start))
            .map(|(id, name)| (*id, name, self.known(name, *id)))
    }

    /// Who has the entry `id`, and what is known of its delivery.
    pub fn delivery(&self, id: StreamId) -> Option<(&ConsumerName, Delivery)> {
        let name = self.pending.get(&id)?;
        Some((name, self.known(name, id)))
    }

    fn known(&self, name: &ConsumerName, id: StreamId) -> Delivery {
        let consumer = self.consumers.get(&name[..]).expect("whoever has an entry is a consumer");
        *consumer.pending.get(&id).expect("a consumer knows what it has")
    }

    /// Adds a consumer. False if it is there already.
    pub fn add_consumer(&mut self, name: &[u8], now: Millis) -> bool {
        let is_new = self.consumers.get(name).is_none();
        if is_new {
            self.consumers.insert(name.into(), Consumer { seen: now, ..Consumer::default() });
        }
        is_new
    }

    /// Notes that `name` asked for something; adds the consumer if there is none. True if it did.
    pub fn see(&mut self, name: &[u8], now: Millis) -> bool {
        let is_new = self.add_consumer(name, now);
        if !is_new {
            self.consumers.get_mut(name).expect("not new").seen = now;
        }
        is_new
    }

    /// Notes that `name`, which is there, got something.
    pub fn activate(&mut self, name: &[u8], now: Millis) {
        self.consumers.get_mut(name).expect("the caller has seen it").active = Some(now);
    }

    /// Removes a consumer with all that it has; gives how many entries that is.
    pub fn remove_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let consumer = self.consumers.remove(name)?;
        for (id, _) in consumer.pending.iter() {
            self.pending.remove(id);
        }
        Some(consumer.pending.len())
    }

    /// Gives the entry `id` to the consumer `name`, which is there, whoever has it.
    pub fn assign(&mut self, id: StreamId, name: &[u8], delivery: Delivery) {
        let place = self.consumers.lower_bound(name);
        let (owner, _) = self.consumers.at(place).expect("the caller has seen the consumer");
        let owner = owner.clone();
        assert_eq!(&owner[..], name, "the caller has seen the consumer");
        let before = self.pending.insert(id, owner);
        if let Some(before) = before
            && before[..] != *name
        {
            self.consumer_mut(&before).pending.remove(&id);
        }
        self.consumers.value_mut(place).pending.insert(id, delivery);
    }

    /// Forgets that the entry `id` waits for its acknowledgement. False if it does not.
    pub fn acknowledge(&mut self, id: StreamId) -> bool {
        let Some(name) = self.pending.remove(&id) else { return false };
        self.consumer_mut(&name).pending.remove(&id);
        true
    }

    fn consumer_mut(&mut self, name: &ConsumerName) -> &mut Consumer {
        self.consumers.get_mut(&name[..]).expect("whoever has an entry is a consumer")
    }

    /// Adds a consumer behind all others. False if its name is not behind theirs.
    pub(super) fn restore_consumer(&mut self, name: &[u8], seen: Millis, active: Option<Millis>) -> bool {
        if self.consumers.last().is_some_and(|(last, _)| last[..] >= *name) {
            return false;
        }
        self.consumers.insert(name.into(), Consumer { seen, active, ..Consumer::default() });
        true
    }

    /// Gives the entry `id` to the last consumer. False if somebody has it or there is no consumer.
    pub(super) fn restore_pending(&mut self, id: StreamId, delivery: Delivery) -> bool {
        let Some((name, _)) = self.consumers.last() else { return false };
        let name = name.clone();
        if self.pending.insert(id, name).is_some() {
            return false;
        }
        let consumer = self.consumers.last_mut().expect("looked at above");
        consumer.pending.insert(id, delivery).is_none()
    }

    /// Parts that a checkpoint has of it.
    pub(super) fn element_count(&self) -> usize {
        1 + self.consumers.len() + self.pending.len()
    }

    /// Bytes allocated, about: consumers' own lists are taken to be as full as others.
    pub(super) fn heap_bytes(&self) -> usize {
        const DELIVERY_BYTES: usize = size_of::<(StreamId, Delivery)>() * 4 / 3;
        const NAME_BYTES: usize = 32;
        let consumers = self.consumers.heap_bytes() + self.consumers.len() * NAME_BYTES;
        size_of::<Group>() + consumers + self.pending.heap_bytes() + self.pending.len() * DELIVERY_BYTES
    }

    /// Panics if the two sides of INV-STREAM-1 differ.
    pub(super) fn assert_invariants(&self) {
        self.pending.assert_invariants();
        self.consumers.assert_invariants();
        let mut held = 0;
        for (name, consumer) in self.consumers.iter() {
            consumer.pending.assert_invariants();
            held += consumer.pending.len();
            for (id, _) in consumer.pending.iter() {
                let owner = self.pending.get(id);
                assert_eq!(owner, Some(name), "INV-STREAM-1: {id} by id and by consumer");
            }
        }
        assert_eq!(held, self.pending.len(), "INV-STREAM-1: entries by consumer and by id");
    }
}

/// An iterator of known length.
struct Counted<I> {
    inner: I,
    left: usize,
}

impl<I: Iterator> Iterator for Counted<I> {
    type Item = I::Item;

    fn next(&mut self) -> Option<I::Item> {
        self.left = self.left.saturating_sub(1);
        self.inner.next()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<I: Iterator> ExactSizeIterator for Counted<I> {}
