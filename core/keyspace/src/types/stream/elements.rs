//! The checkpoint form of streams: a head, the entries, and each group with its consumers and what these have not
//! acknowledged. Elements are small, so that a cut can write any stream in pieces.
//!
//! Where blocks begin is written with the entries, since it is part of the state.

use std::cell::Cell;
use std::sync::Arc;

use skep_base::Millis;
use skep_base::varint::{self, Malformed, Reader};

use super::{Block, Delivery, Group, Head, Stream, StreamId};
use crate::pieces::{Elements, Frozen, LARGE_ELEMENTS};
use crate::small::SmallBytes;
use crate::sorted::Place;
use crate::value::{Typed, Value, typed_access};

/// First bytes of elements. Part of the checkpoint format.
const HEAD: u8 = 0;
/// An entry that begins a block.
const BLOCK: u8 = 1;
const ENTRY: u8 = 2;
const GROUP: u8 = 3;
const CONSUMER: u8 = 4;
const PENDING: u8 = 5;

/// A stream that is heavier than this is written in pieces, however few its entries. Part of what digests depend on.
const LARGE_WEIGHT: usize = 256 << 10;

/// Where a walk over the elements is.
#[derive(Clone, Copy)]
enum Spot {
    Head,
    /// At an offset among the entries of a block.
    Entry(Place, usize),
    Group(Place),
    Consumer(Place, Place),
    /// The last is among the consumer's entries.
    Pending(Place, Place, Place),
    End,
}

impl Stream {
    fn element_count(&self) -> usize {
        1 + self.len + self.groups.iter().map(|(_, group)| group.element_count()).sum::<usize>()
    }

    /// The spot of the element at `position`. Cost: O(blocks + consumers).
    fn spot_of(&self, position: usize) -> Spot {
        let Some(mut left) = position.checked_sub(1) else { return Spot::Head };
        if left < self.len {
            let mut block_at = Place::default();
            loop {
                let (_, block) = self.blocks.at(block_at).expect("blocks hold as many entries as counted");
                if left < block.live() {
                    let offset = (0..left).fold(0, |at, _| block.body_at(at).expect("counted above").1);
                    return Spot::Entry(block_at, offset);
                }
                left -= block.live();
                block_at = self.blocks.after(block_at);
            }
        }
        left -= self.len;
        let mut group_at = Place::default();
        while let Some((_, group)) = self.groups.at(group_at) {
            if left < group.element_count() {
                return (0..left).fold(Spot::Group(group_at), |spot, _| self.after_spot(spot));
            }
            left -= group.element_count();
            group_at = self.groups.after(group_at);
        }
        Spot::End
    }

    /// The spot of the element behind the one at `spot`, unless that is an entry.
    fn after_spot(&self, spot: Spot) -> Spot {
        match spot {
            Spot::Head if self.len > 0 => Spot::Entry(Place::default(), 0),
            Spot::Head => self.group_spot(Place::default()),
            Spot::Entry(at, offset) => {
                let (_, block) = self.blocks.at(at).expect("a spot is at an element");
                let (_, next) = block.body_at(offset).expect("a spot is at an element");
                self.entry_spot(at, next)
            }
            Spot::Group(group) => self.consumer_spot(group, Place::default()),
            Spot::Consumer(group, consumer) => self.pending_spot(group, consumer, Place::default()),
            Spot::Pending(group, consumer, pending) => {
                let next = self.consumer_at(group, consumer).1.pending.after(pending);
                self.pending_spot(group, consumer, next)
            }
            Spot::End => Spot::End,
        }
    }

    fn entry_spot(&self, block_at: Place, offset: usize) -> Spot {
        let (_, block) = self.blocks.at(block_at).expect("a spot is at an element");
        if block.body_at(offset).is_some() {
            return Spot::Entry(block_at, offset);
        }
        let next = self.blocks.after(block_at);
        if self.blocks.at(next).is_some() { Spot::Entry(next, 0) } else { self.group_spot(Place::default()) }
    }

    fn group_spot(&self, group: Place) -> Spot {
        if self.groups.at(group).is_some() { Spot::Group(group) } else { Spot::End }
    }

    fn consumer_spot(&self, group: Place, consumer: Place) -> Spot {
        match self.group_at(group).1.consumer_map().at(consumer) {
            Some(_) => Spot::Consumer(group, consumer),
            None => self.group_spot(self.groups.after(group)),
        }
    }

    fn pending_spot(&self, group: Place, consumer: Place, pending: Place) -> Spot {
        match self.consumer_at(group, consumer).1.pending.at(pending) {
            Some(_) => Spot::Pending(group, consumer, pending),
            None => self.consumer_spot(group, self.group_at(group).1.consumer_map().after(consumer)),
        }
    }

    fn group_at(&self, place: Place) -> (&SmallBytes, &Group) {
        let (name, group) = self.groups.at(place).expect("a spot is at an element");
        (name, group)
    }

    fn consumer_at(&self, group: Place, consumer: Place) -> (&super::ConsumerName, &super::Consumer) {
        self.group_at(group).1.consumer_map().at(consumer).expect("a spot is at an element")
    }

    fn encode_spot(&self, spot: Spot, out: &mut Vec<u8>) {
        match spot {
            Spot::Head => {
                out.push(HEAD);
                self.last_id.encode(out);
                self.max_deleted_id.encode(out);
                varint::put(out, self.entries_added);
            }
            Spot::Entry(at, offset) => {
                let (_, block) = self.blocks.at(at).expect("a spot is at an element");
                let (body, _) = block.body_at(offset).expect("a spot is at an element");
                if offset == 0 {
                    out.push(BLOCK);
                    let Head { first, last, deleted, weight } = block.head();
                    first.encode(out);
                    last.encode(out);
                    varint::put(out, u64::from(deleted));
                    varint::put(out, u64::from(weight));
                    varint::put_bytes(out, block.names());
                } else {
                    out.push(ENTRY);
                }
                varint::put_bytes(out, body);
            }
            Spot::Group(at) => {
                let (name, group) = self.group_at(at);
                out.push(GROUP);
                varint::put_bytes(out, name);
                group.last_id.encode(out);
                put_option(out, group.entries_read);
            }
            Spot::Consumer(group, at) => {
                let (name, consumer) = self.consumer_at(group, at);
                out.push(CONSUMER);
                varint::put_bytes(out, name);
                varint::put(out, consumer.seen.0);
                put_option(out, consumer.active.map(|active| active.0));
            }
            Spot::Pending(group, consumer, at) => {
                let (id, delivery) =
                    self.consumer_at(group, consumer).1.pending.at(at).expect("a spot is at an element");
                out.push(PENDING);
                id.encode(out);
                varint::put(out, delivery.time.0);
                varint::put(out, delivery.count);
            }
            Spot::End => panic!("no element behind the last"),
        }
    }

    /// Encodes from `spot` until `bytes` are written; gives the number of elements and the next spot.
    fn encode_some(&self, mut spot: Spot, bytes: usize, out: &mut Vec<u8>) -> (usize, Spot) {
        let (start, mut count) = (out.len(), 0);
        while !matches!(spot, Spot::End) {
            self.encode_spot(spot, out);
            count += 1;
            spot = self.after_spot(spot);
            if out.len() - start >= bytes {
                break;
            }
        }
        (count, spot)
    }

    fn decode_element(&mut self, input: &mut Reader<'_>) -> Result<(), Malformed> {
        match input.u8()? {
            HEAD => {
                self.last_id = StreamId::decode(input)?;
                self.max_deleted_id = StreamId::decode(input)?;
                self.entries_added = input.varint()?;
            }
            BLOCK => {
                let (first, last) = (StreamId::decode(input)?, StreamId::decode(input)?);
                let (deleted, weight) = (input.varint()?, input.varint()?);
                let (Ok(deleted), Ok(weight)) = (u32::try_from(deleted), u32::try_from(weight)) else {
                    return input.malformed("counts of 32 bits");
                };
                let mut block = Block::restore(Head { first, last, deleted, weight }, input.bytes()?)?;
                let id = block.push_body(input.bytes()?)?;
                let is_behind = self.last_entry_id().is_none_or(|before| before < first);
                if !is_behind || id > self.last_id {
                    return input.malformed("a block behind the others and within the last id");
                }
                self.add_block(block);
                self.len += 1;
            }
            ENTRY => {
                let body = input.bytes()?;
                let mut pushed = None;
                self.change_last_block(|block| pushed = Some(block.push_body(body)));
                match pushed {
                    None => return input.malformed("a block in front of its entries"),
                    Some(Err(cause)) => return Err(cause),
                    Some(Ok(id)) if id > self.last_id => {
                        return input.malformed("an entry within the last id");
                    }
                    Some(Ok(_)) => self.len += 1,
                }
            }
            GROUP => {
                let name = input.bytes()?;
                let last_id = StreamId::decode(input)?;
                let group = Group::new(last_id, option(input.varint()?));
                if self.groups.last().is_some_and(|(last, _)| last.as_slice() >= name) {
                    return input.malformed("groups in the order of their names");
                }
                self.add_group(name, group);
            }
            CONSUMER => {
                let name = input.bytes()?;
                let (seen, active) = (Millis(input.varint()?), option(input.varint()?).map(Millis));
                if !self.last_group().is_some_and(|group| group.restore_consumer(name, seen, active)) {
                    return input.malformed("consumers of a group in the order of their names");
                }
            }
            PENDING => {
                let id = StreamId::decode(input)?;
                let delivery = Delivery { time: Millis(input.varint()?), count: input.varint()? };
                if !self.last_group().is_some_and(|group| group.restore_pending(id, delivery)) {
                    return input.malformed("a consumer of an entry that nobody else has");
                }
            }
            _ => return input.malformed("an element of a stream of kind 0 to 5"),
        }
        Ok(())
    }

    fn last_group(&mut self) -> Option<&mut Group> {
        self.groups.last_mut().map(Arc::make_mut)
    }
}

/// A number that may be missing; the highest is not used.
fn put_option(out: &mut Vec<u8>, value: Option<u64>) {
    varint::put(out, value.map_or(0, |v| v.wrapping_add(1)));
}

fn option(encoded: u64) -> Option<u64> {
    encoded.checked_sub(1)
}

/// Goes to `from`, which is the position of `memo` where it is one, and encodes from there; gives position and spot behind.
fn encode_from(
    stream: &Stream,
    from: usize,
    memo: (usize, Spot),
    bytes: usize,
    out: &mut Vec<u8>,
) -> (usize, Spot) {
    let spot = if memo.0 == from { memo.1 } else { stream.spot_of(from) };
    let (count, next) = stream.encode_some(spot, bytes, out);
    (from + count, next)
}

impl Elements for Stream {
    fn count(&self) -> usize {
        self.element_count()
    }

    fn encode_from(&self, from: usize, bytes: usize, out: &mut Vec<u8>) -> usize {
        encode_from(self, from, (0, Spot::Head), bytes, out).0
    }
}

/// A stream as it was, with the place up to which it is written.
struct FrozenStream {
    stream: Stream,
    count: usize,
    next: Cell<(usize, Spot)>,
}

impl Elements for FrozenStream {
    fn count(&self) -> usize {
        self.count
    }

    fn encode_from(&self, from: usize, bytes: usize, out: &mut Vec<u8>) -> usize {
        self.next.set(encode_from(&self.stream, from, self.next.get(), bytes, out));
        self.next.get().0
    }
}

impl Typed for Stream {
    typed_access!(Stream, boxed);

    /// A stream without entries keeps its key.
    fn is_empty(&self) -> bool {
        false
    }

    fn elements(&self) -> &dyn Elements {
        self
    }

    fn decode_elements(&mut self, count: usize, input: &mut Reader<'_>) -> Result<(), Malformed> {
        for _ in 0..count {
            self.decode_element(input)?;
        }
        Ok(())
    }

    fn is_large(&self) -> bool {
        self.weight > LARGE_WEIGHT || self.element_count() > LARGE_ELEMENTS
    }

    fn freeze(&mut self) -> Frozen {
        let next = Cell::new((0, Spot::Head));
        Box::new(FrozenStream { stream: self.clone(), count: self.element_count(), next })
    }

    /// Cost: O(groups).
    fn heap_bytes(&self) -> usize {
        /// An `Arc`'s counts.
        const COUNTS: usize = 2 * size_of::<usize>();
        let heads = self.blocks.heap_bytes() + self.blocks.len() * (size_of::<Block>() + COUNTS);
        let groups: usize =
            self.groups.iter().map(|(name, g)| name.heap_bytes() + COUNTS + g.heap_bytes()).sum();
        size_of::<Stream>() + heads + self.block_bytes + self.groups.heap_bytes() + groups
    }
}
