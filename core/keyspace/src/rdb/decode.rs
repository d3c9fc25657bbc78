//! From a payload's body to a value, for every encoding of strings and collections up to Redis 7.4. Streams are in
//! `streams.rs`.

use std::borrow::Cow;

use skep_base::varint::Malformed;
use skep_base::{Millis, number};

use super::packs::{self, Item};
use super::strings::Source;
use super::{FIELD_DEADLINE_MAX, kind, streams};
use crate::db::NEVER;
use crate::small::SmallBytes;
use crate::types::queue::RESTORED_MAX;
use crate::types::{End, Hash, List, Member, Queue, Set, Str, ZSet};
use crate::value::{Typed, Value};

/// The value at the front of `body`.
pub fn value(body: &[u8]) -> Result<Value, Malformed> {
    let source = &mut Source::new(body);
    let value = match source.bytes.u8()? {
        kind::STRING => string(source)?,
        kind::LIST => list(strings(source, 1)?)?,
        kind::LIST_ZIPLIST => list(packs::ziplist(&source.string()?)?)?,
        kind::LIST_ZIPLISTS => list_of_packs(source, false)?,
        kind::LIST_LISTPACKS => list_of_packs(source, true)?,
        kind::SET => set(strings(source, 1)?)?,
        kind::SET_INTSET => set(packs::intset(&source.string()?)?)?,
        kind::SET_LISTPACK => set(packs::listpack(&source.string()?)?)?,
        kind::ZSET_TEXT => zset_plain(source, score_as_text)?,
        kind::ZSET => zset_plain(source, |source| source.bytes.f64())?,
        kind::ZSET_ZIPLIST => zset_packed(packs::ziplist(&source.string()?)?)?,
        kind::ZSET_LISTPACK => zset_packed(packs::listpack(&source.string()?)?)?,
        kind::HASH => hash(strings(source, 2)?)?,
        kind::HASH_ZIPMAP => hash(packs::zipmap(&source.string()?)?)?,
        kind::HASH_ZIPLIST => hash(packs::ziplist(&source.string()?)?)?,
        kind::HASH_LISTPACK => hash(packs::listpack(&source.string()?)?)?,
        kind::STREAM => streams::read(source, streams::Form::Plain)?,
        kind::STREAM_COUNTS => streams::read(source, streams::Form::Counts)?,
        kind::STREAM_ACTIVE => streams::read(source, streams::Form::Active)?,
        kind::HASH_DEADLINES => hash_with_deadlines(source)?,
        kind::HASH_LISTPACK_DEADLINES => {
            source.bytes.u64()?; // the earliest of the deadlines
            hash_packed_with_deadlines(packs::listpack(&source.string()?)?)?
        }
        kind::SKEP_QUEUE => queue(source)?,
        _ => return source.bytes.malformed("a known type"),
    };
    if value.is_empty() { source.bytes.malformed("elements in a collection") } else { Ok(value) }
}

/// What a caller of a body knows to be wrong; the place is lost inside packs.
fn refuse<T>(expected: &'static str) -> Result<T, Malformed> {
    Err(Malformed { offset: 0, expected })
}

/// A count, and `per_entry` times as many strings.
fn strings<'s, 'a>(
    source: &'s mut Source<'a>,
    per_entry: u64,
) -> Result<impl Iterator<Item = Item<'a>> + use<'s, 'a>, Malformed> {
    // A string takes a byte at least, so that the strings end soon after the bytes whatever the count says.
    let mut left = source.len()?.saturating_mul(per_entry);
    Ok(std::iter::from_fn(move || {
        left = left.checked_sub(1)?;
        let item = source.string();
        if item.is_err() {
            left = 0;
        }
        Some(item)
    }))
}

fn queue(source: &mut Source) -> Result<Value, Malformed> {
    let queue = Queue::decode(&mut source.bytes)?;
    if queue.newest() >= RESTORED_MAX {
        return source.bytes.malformed("numbers of 52 bits");
    }
    Ok(queue.into_value())
}

fn string(source: &mut Source) -> Result<Value, Malformed> {
    Ok(match source.string()? {
        Cow::Borrowed(text) => Str::new(text),
        Cow::Owned(text) => Str::from_vec(text),
    }
    .into_value())
}

fn list<'a>(elements: impl Iterator<Item = Item<'a>>) -> Result<Value, Malformed> {
    let mut list = List::default();
    push_all(&mut list, elements)?;
    Ok(list.into_value())
}

fn push_all<'a>(list: &mut List, elements: impl Iterator<Item = Item<'a>>) -> Result<(), Malformed> {
    for element in elements {
        list.push(End::Right, &element?);
    }
    Ok(())
}

/// A list of ziplists; or one of listpacks, between which large elements stand by themselves.
fn list_of_packs(source: &mut Source, of_listpacks: bool) -> Result<Value, Malformed> {
    const PLAIN: u64 = 1;
    const PACKED: u64 = 2;
    let mut list = List::default();
    for _ in 0..source.len()? {
        if !of_listpacks {
            push_all(&mut list, packs::ziplist(&source.string()?)?)?;
            continue;
        }
        match source.len()? {
            PLAIN => list.push(End::Right, &source.string()?),
            PACKED => push_all(&mut list, packs::listpack(&source.string()?)?)?,
            _ => return source.bytes.malformed("a node of a list"),
        }
    }
    Ok(list.into_value())
}

fn set<'a>(members: impl Iterator<Item = Item<'a>>) -> Result<Value, Malformed> {
    let mut set = Set::default();
    for member in members {
        if !set.add(&member?) {
            return refuse("a member once");
        }
    }
    Ok(set.into_value())
}

/// A count, then members, each with a score that `score` reads.
fn zset_plain(
    source: &mut Source,
    score: fn(&mut Source) -> Result<f64, Malformed>,
) -> Result<Value, Malformed> {
    let mut members = Vec::new();
    for _ in 0..source.len()? {
        let name = SmallBytes::new(&source.string()?);
        members.push(Member { name, score: score(source)? });
    }
    zset(members)
}

fn zset_packed<'a>(mut items: impl Iterator<Item = Item<'a>>) -> Result<Value, Malformed> {
    let mut members = Vec::new();
    while let Some(name) = items.next() {
        let name = SmallBytes::new(&name?);
        let Some(score) = number::parse_f64(&next_of(&mut items)?) else { return refuse("a score") };
        members.push(Member { name, score });
    }
    zset(members)
}

fn zset(members: Vec<Member>) -> Result<Value, Malformed> {
    if members.iter().any(|m| m.score.is_nan()) {
        return refuse("a score that is a number");
    }
    let count = members.len();
    let zset: ZSet = members.into_iter().collect();
    if zset.len() == count { Ok(zset.into_value()) } else { refuse("a member once") }
}

/// A score as text behind its length; lengths from 253 on stand for what is not finite.
fn score_as_text(source: &mut Source) -> Result<f64, Malformed> {
    match source.bytes.u8()? {
        253 => Ok(f64::NAN),
        254 => Ok(f64::INFINITY),
        255 => Ok(f64::NEG_INFINITY),
        len => {
            let text = source.bytes.take(usize::from(len))?;
            number::parse_f64(text).map_or_else(|| source.bytes.malformed("a score"), Ok)
        }
    }
}

/// Fields and values in turn.
fn hash<'a>(mut items: impl Iterator<Item = Item<'a>>) -> Result<Value, Malformed> {
    let mut hash = Hash::default();
    while let Some(field) = items.next() {
        add_field(&mut hash, &field?, &next_of(&mut items)?, NEVER)?;
    }
    Ok(hash.into_value())
}

/// The earliest deadline, a count, then of each field: its deadline after the earliest, from 1 on (0 for none), its name and
/// its value.
fn hash_with_deadlines(source: &mut Source) -> Result<Value, Malformed> {
    let earliest = source.bytes.u64()?;
    let mut hash = Hash::default();
    for _ in 0..source.len()? {
        let deadline = match source.len()? {
            0 => NEVER,
            after => field_deadline(earliest.saturating_add(after - 1))?,
        };
        let field = source.string()?;
        add_field(&mut hash, &field, &source.string()?, deadline)?;
    }
    Ok(hash.into_value())
}

/// Fields, values and deadlines (0 for none) in turn.
fn hash_packed_with_deadlines<'a>(mut items: impl Iterator<Item = Item<'a>>) -> Result<Value, Malformed> {
    let mut hash = Hash::default();
    while let Some(field) = items.next() {
        let (field, value) = (field?, next_of(&mut items)?);
        let deadline = match number::parse_u64(&next_of(&mut items)?) {
            Some(0) => NEVER,
            Some(deadline) => field_deadline(deadline)?,
            None => return refuse("a deadline"),
        };
        add_field(&mut hash, &field, &value, deadline)?;
    }
    Ok(hash.into_value())
}

fn field_deadline(deadline: u64) -> Result<Millis, Malformed> {
    if deadline <= FIELD_DEADLINE_MAX { Ok(Millis(deadline)) } else { refuse("a deadline of 48 bits") }
}

fn add_field(hash: &mut Hash, field: &[u8], value: &[u8], deadline: Millis) -> Result<(), Malformed> {
    if hash.set(field, SmallBytes::new(value), deadline) { Ok(()) } else { refuse("a field once") }
}

/// The item that belongs to the one before.
fn next_of<'a>(items: &mut impl Iterator<Item = Item<'a>>) -> Item<'a> {
    items.next().unwrap_or_else(|| refuse("an element that belongs to the last"))
}
