//! Streams in payloads: blocks of entries as listpacks, then what is known of the stream, then its groups.
//!
//! A listpack has a head - entries, deleted entries, number of field names, the names, 0 - and for each entry: flags, the
//! milliseconds and the number of its id after the block's, the number of its fields and their names unless it has those
//! in the head, the values, and the number of all these parts. Deleted entries are passed over, and none is written.

use std::borrow::Cow;
use std::collections::BTreeMap;

use skep_base::varint::Malformed;
use skep_base::{Millis, number};

use super::encode::{put_len, put_string};
use super::packs::{self, Item};
use super::strings::Source;
use super::{VERSION_STREAM_ACTIVE, VERSION_STREAM_COUNTS, kind};
use crate::listpack::Listpack;
use crate::types::stream::{Block, Delivery, Group};
use crate::types::{Stream, StreamId};
use crate::value::{Typed, Value};

const DELETED: i64 = 1;
const SHARES_NAMES: i64 = 2;
/// Stands for a count that is not known.
const UNKNOWN: u64 = u64::MAX;
/// The form of times that are missing.
const NEVER_ACTIVE: u64 = u64::MAX;

/// Appends the type byte and body of `stream` and gives the version of the format that has them: the older one if it tells
/// all, since Redis 7.0 does not know when a consumer last got something.
pub fn put(out: &mut Vec<u8>, stream: &Stream) -> u16 {
    let has_active = stream.groups().any(|(_, g)| g.consumers().any(|(_, c)| c.active != Some(c.seen)));
    out.push(if has_active { kind::STREAM_ACTIVE } else { kind::STREAM_COUNTS });
    put_len(out, stream.block_count() as u64);
    for block in stream.blocks() {
        put_raw(out, &block.first_id().to_be_bytes());
        put_raw(out, &packed(block));
    }
    put_len(out, stream.len() as u64);
    put_id(out, stream.last_id());
    put_id(out, stream.first_entry_id());
    put_id(out, stream.max_deleted_id());
    put_len(out, stream.entries_added());
    put_len(out, stream.group_count() as u64);
    for (name, group) in stream.groups() {
        put_string(out, name);
        put_id(out, group.last_id);
        put_len(out, group.entries_read.unwrap_or(UNKNOWN));
        put_len(out, group.pending_len() as u64);
        for (id, _, delivery) in group.pending_from(StreamId::ZERO) {
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&delivery.time.0.to_le_bytes());
            put_len(out, delivery.count);
        }
        put_len(out, group.consumers().len() as u64);
        for (name, consumer) in group.consumers() {
            put_string(out, name);
            out.extend_from_slice(&consumer.seen.0.to_le_bytes());
            if has_active {
                out.extend_from_slice(&consumer.active.map_or(NEVER_ACTIVE, |a| a.0).to_le_bytes());
            }
            put_len(out, consumer.pending_len() as u64);
            consumer
                .pending_from(StreamId::ZERO)
                .for_each(|(id, _)| out.extend_from_slice(&id.to_be_bytes()));
        }
    }
    if has_active { VERSION_STREAM_ACTIVE } else { VERSION_STREAM_COUNTS }
}

/// A string that is not to be taken for a number.
fn put_raw(out: &mut Vec<u8>, bytes: &[u8]) {
    put_len(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_id(out: &mut Vec<u8>, id: StreamId) {
    put_len(out, id.ms);
    put_len(out, id.seq);
}

fn packed(block: &Block) -> Vec<u8> {
    let mut pack = Listpack::new();
    let names: Vec<&[u8]> = block.shared_names().collect();
    [block.live() as i64, 0, names.len() as i64].into_iter().for_each(|n| pack.push_int(n));
    names.iter().for_each(|name| pack.push(name));
    pack.push_int(0);
    let first = block.first_id();
    for entry in block.records() {
        let count = entry.len() as i64;
        let (flags, parts) = if entry.shares_names() { (SHARES_NAMES, count) } else { (0, 2 * count + 1) };
        pack.push_int(flags);
        pack.push_int(entry.id.ms.wrapping_sub(first.ms) as i64);
        pack.push_int(entry.id.seq.wrapping_sub(first.seq) as i64);
        if !entry.shares_names() {
            pack.push_int(count);
        }
        for (name, value) in entry.fields() {
            if !entry.shares_names() {
                pack.push(name);
            }
            pack.push(value);
        }
        pack.push_int(parts + 3);
    }
    pack.finish()
}

/// Which fields a payload has.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// As in Redis 5.
    Plain,
    /// With counts of what was added, deleted and read: Redis 7.0.
    Counts,
    /// With the time when a consumer last got something: Redis 7.2.
    Active,
}

/// Reads a stream behind its type byte.
pub fn read(source: &mut Source, form: Form) -> Result<Value, Malformed> {
    let mut blocks = Vec::new();
    let mut last_entry = None;
    for _ in 0..source.len()? {
        let key = source.string()?;
        let Ok(key) = <[u8; 16]>::try_from(&key[..]) else {
            return source.bytes.malformed("an id of 16 bytes");
        };
        let pack = source.string()?;
        let Some(block) = block(StreamId::from_be_bytes(key), packs::listpack(&pack)?)? else { continue };
        if last_entry.is_some_and(|last| last >= block.first_id()) {
            return source.bytes.malformed("blocks in the order of their ids");
        }
        last_entry = Some(block.last_id());
        blocks.push(block);
    }
    let mut stream = Stream::of_blocks(blocks);
    let len = source.len()?;
    let last_id = id(source)?;
    if len != stream.len() as u64 || last_entry.is_some_and(|last| last > last_id) {
        return source.bytes.malformed("the number of entries, and a last id that is not below theirs");
    }
    let (mut max_deleted, mut added) = (StreamId::ZERO, len);
    if form >= Form::Counts {
        id(source)?; // the first entry's
        max_deleted = id(source)?;
        added = counted(source)?;
    }
    stream.set_last_id(last_id, Some(added), Some(max_deleted));
    for _ in 0..source.len()? {
        let name = source.string()?;
        let group = group(source, form, &stream)?;
        if !stream.add_group(&name, group) {
            return source.bytes.malformed("a group once");
        }
    }
    Ok(stream.into_value())
}

/// A count of entries that were added, read or delivered. Redis has 63 bits for these; more would let a payload bring one
/// to where the next entry makes it 0.
fn counted(source: &mut Source) -> Result<u64, Malformed> {
    let count = source.len()?;
    within_i64(source, count)
}

fn within_i64(source: &Source, count: u64) -> Result<u64, Malformed> {
    if count <= i64::MAX as u64 { Ok(count) } else { source.bytes.malformed("a count of 63 bits") }
}

fn id(source: &mut Source) -> Result<StreamId, Malformed> {
    Ok(StreamId::new(source.len()?, source.len()?))
}

fn raw_id(source: &mut Source) -> Result<StreamId, Malformed> {
    let bytes = source.bytes.take(16)?;
    Ok(StreamId::from_be_bytes(bytes.try_into().expect("sixteen bytes were taken")))
}

fn group(source: &mut Source, form: Form, stream: &Stream) -> Result<Group, Malformed> {
    let last_id = id(source)?;
    let read = match form {
        Form::Plain => stream.entries_up_to(last_id),
        _ => match source.len()? {
            UNKNOWN => None,
            read => Some(within_i64(source, read)?),
        },
    };
    let mut group = Group::new(last_id, read);
    let mut pending = BTreeMap::new();
    for _ in 0..source.len()? {
        let id = raw_id(source)?;
        let delivery = Delivery { time: Millis(source.bytes.u64()?), count: source.len()? };
        if pending.insert(id, delivery).is_some() {
            return source.bytes.malformed("what is not acknowledged once");
        }
    }
    for _ in 0..source.len()? {
        let name = source.string()?;
        let seen = source.bytes.u64()?;
        let active = if form == Form::Active { source.bytes.u64()? } else { seen };
        if !group.add_consumer(&name, Millis(seen)) {
            return source.bytes.malformed("a consumer once");
        }
        if active != NEVER_ACTIVE {
            group.activate(&name, Millis(active));
        }
        for _ in 0..source.len()? {
            let id = raw_id(source)?;
            let Some(delivery) = pending.remove(&id) else {
                return source.bytes.malformed("an entry that the group has and no other consumer");
            };
            group.assign(id, &name, delivery);
        }
    }
    if pending.is_empty() { Ok(group) } else { source.bytes.malformed("a consumer of each entry") }
}

/// The parts of a listpack in turn.
struct Parts<I>(I);

impl<'a, I: Iterator<Item = Item<'a>>> Parts<I> {
    fn text(&mut self) -> Item<'a> {
        self.0.next().unwrap_or_else(|| refuse("another part of an entry"))
    }

    fn int(&mut self) -> Result<i64, Malformed> {
        number::parse_i64(&self.text()?).map_or_else(|| refuse("a number"), Ok)
    }

    fn count(&mut self) -> Result<u64, Malformed> {
        u64::try_from(self.int()?).or_else(|_| refuse("a count"))
    }
}

/// The place of what is wrong is lost inside packs.
fn refuse<T>(expected: &'static str) -> Result<T, Malformed> {
    Err(Malformed { offset: 0, expected })
}

/// The block of a listpack; `None` if all its entries are deleted.
fn block<'a>(first: StreamId, items: impl Iterator<Item = Item<'a>>) -> Result<Option<Block>, Malformed> {
    let mut parts = Parts(items);
    let (live, deleted) = (parts.count()?, parts.count()?);
    let mut names = Vec::new();
    for _ in 0..parts.count()? {
        names.push(parts.text()?);
    }
    if parts.int()? != 0 {
        return refuse("the end of the names");
    }
    let mut block = Block::new(first, names.iter().map(|name| &name[..]));
    for _ in 0..live.saturating_add(deleted) {
        let flags = parts.int()?;
        let (ms, seq) = (parts.int()? as u64, parts.int()? as u64);
        let id = StreamId::new(first.ms.wrapping_add(ms), first.seq.wrapping_add(seq));
        let fields = fields(&mut parts, &names, flags)?;
        parts.count()?;
        if flags & DELETED != 0 {
            continue;
        }
        let is_behind = if block.live() == 0 { id >= first } else { id > block.last_id() };
        if !is_behind || id == StreamId::ZERO {
            return refuse("ascending ids above 0-0");
        }
        block.push(id, fields.iter().map(|(name, value)| (&name[..], &value[..])));
    }
    if parts.0.next().is_some() || block.live() as u64 != live {
        return refuse("as many entries as announced");
    }
    Ok((live > 0).then_some(block))
}

type Pairs<'a> = Vec<(Cow<'a, [u8]>, Cow<'a, [u8]>)>;

fn fields<'a>(
    parts: &mut Parts<impl Iterator<Item = Item<'a>>>,
    names: &[Cow<'a, [u8]>],
    flags: i64,
) -> Result<Pairs<'a>, Malformed> {
    let mut pairs = Vec::new();
    if flags & SHARES_NAMES != 0 {
        for name in names {
            pairs.push((name.clone(), parts.text()?));
        }
    } else {
        for _ in 0..parts.count()? {
            pairs.push((parts.text()?, parts.text()?));
        }
    }
    Ok(pairs)
}
