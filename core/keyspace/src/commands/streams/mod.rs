//! Commands on streams, but for waiting: see [`read`].

mod claim;
mod groups;
mod ids;
mod info;
mod pending;
mod range;
mod read;
mod trim;

use skep_base::{Args, Millis, Refusal};
use skep_resp::Reply;

use super::{Group, parse};
use crate::context::{ReadCx, WriteCx};
use crate::dispatch::Handler::{Read, Write};
use crate::events::Class;
use crate::types::{Stream, StreamId};
use ids::NewId;
use trim::{AddOptions, Trimming};

pub const COMMANDS: Group = &[
    ("xadd", Write(xadd)),
    ("xlen", Read(xlen)),
    ("xdel", Write(xdel)),
    ("xtrim", Write(xtrim)),
    ("xsetid", Write(xsetid)),
    ("xrange", Read(range::xrange)),
    ("xrevrange", Read(range::xrevrange)),
    ("xread", Read(read::xread)),
    ("xreadgroup", Write(read::xreadgroup)),
    ("xgroup|create", Write(groups::create)),
    ("xgroup|setid", Write(groups::setid)),
    ("xgroup|destroy", Write(groups::destroy)),
    ("xgroup|createconsumer", Write(groups::createconsumer)),
    ("xgroup|delconsumer", Write(groups::delconsumer)),
    ("xgroup|help", Read(groups::help)),
    ("xack", Write(groups::xack)),
    ("xpending", Read(pending::xpending)),
    ("xclaim", Write(claim::xclaim)),
    ("xautoclaim", Write(claim::xautoclaim)),
    ("xinfo|stream", Read(info::stream)),
    ("xinfo|groups", Read(info::groups)),
    ("xinfo|consumers", Read(info::consumers)),
    ("xinfo|help", Read(info::help)),
];

/// What an entry's fields and values may come to: Redis's limit on a listpack, which holds an entry.
const ENTRY_BYTES_MAX: usize = 1 << 30;

const ID_IS_ZERO: Refusal = Refusal::text("ERR The ID specified in XADD must be greater than 0-0");
const ID_TOO_SMALL: Refusal =
    Refusal::text("ERR The ID specified in XADD is equal or smaller than the target stream top item");
const NO_IDS_LEFT: Refusal =
    Refusal::text("ERR The stream has exhausted the last possible ID, unable to add more items");
const TOO_LARGE: Refusal = Refusal::text("ERR Elements are too large to be stored");

/// `XADD key [NOMKSTREAM] [MAXLEN|MINID [=|~] threshold [LIMIT count]] *|id field value [field value …]`
fn xadd(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let AddOptions { id, trimming, only_existing, fields_at } = AddOptions::parse(args)?;
    let fields = args.from(fields_at);
    if fields.len() < 2 || !fields.len().is_multiple_of(2) {
        return Err(Refusal::WrongArity("xadd".into()));
    }
    if id == NewId::Given(StreamId::ZERO) {
        return Err(ID_IS_ZERO);
    }
    let (key, now) = (&args[1], cx.now);
    if only_existing && cx.read::<Stream>(key)?.is_none() {
        reply.null();
        return Ok(());
    }
    let (added, trimmed) = cx.update_or_create(key, |stream: &mut Stream| {
        let id = choose_id(stream, id, now)?;
        if fields.bytes() > ENTRY_BYTES_MAX {
            return Err(TOO_LARGE);
        }
        let word = move |at: usize| fields.get(at).expect("fields come in pairs");
        let pairs = (0..fields.len()).step_by(2).map(move |at| (word(at), word(at + 1)));
        assert!(stream.append(id, pairs), "{id} was chosen above {}", stream.last_id());
        let trimmed = trimming.is_some_and(|trimming| trimming.apply(stream) > 0);
        Ok((id, trimmed))
    })?;
    cx.event(Class::Stream, "xadd", key);
    if trimmed {
        cx.event(Class::Stream, "xtrim", key);
    }
    ids::reply_id(reply, added);
    Ok(())
}

/// The id of the next entry: above the last one.
fn choose_id(stream: &Stream, wanted: NewId, now: Millis) -> Result<StreamId, Refusal> {
    let last = stream.last_id();
    if last == StreamId::MAX {
        return Err(NO_IDS_LEFT);
    }
    let id = match wanted {
        NewId::Auto => stream.next_id(now).ok_or(NO_IDS_LEFT)?,
        NewId::AutoSeq(ms) if ms == last.ms => {
            StreamId::new(ms, last.seq.checked_add(1).ok_or(ID_TOO_SMALL)?)
        }
        NewId::AutoSeq(ms) => StreamId::new(ms, 0),
        NewId::Given(id) => id,
    };
    if id > last { Ok(id) } else { Err(ID_TOO_SMALL) }
}

fn xlen(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    reply.len(cx.read::<Stream>(&args[1])?.map_or(0, Stream::len));
    Ok(())
}

/// Ids of all arguments from `at` on.
fn all_ids(args: Args, at: usize) -> Result<Vec<StreamId>, Refusal> {
    args.from(at).iter().map(|id| ids::strict(id, 0)).collect()
}

/// `XDEL key id [id …]`
fn xdel(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    if cx.read::<Stream>(&args[1])?.is_none() {
        reply.int(0);
        return Ok(());
    }
    let ids = all_ids(args, 2)?;
    let deleted =
        cx.update(&args[1], |stream: &mut Stream| Ok(ids.iter().filter(|id| stream.delete(**id)).count()))?;
    let deleted = deleted.unwrap_or(0);
    cx.event_if(deleted > 0, Class::Stream, "xdel", &args[1]);
    reply.len(deleted);
    Ok(())
}

/// `XTRIM key MAXLEN|MINID [=|~] threshold [LIMIT count]`
fn xtrim(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let trimming = Trimming::parse(args)?;
    let deleted = cx.update(&args[1], |stream: &mut Stream| Ok(trimming.apply(stream)))?.unwrap_or(0);
    cx.event_if(deleted > 0, Class::Stream, "xtrim", &args[1]);
    reply.len(deleted);
    Ok(())
}

/// `XSETID key last-id [ENTRIESADDED entries-added] [MAXDELETEDID max-deleted-id]`
fn xsetid(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let id = ids::strict(&args[2], 0)?;
    let (mut entries_added, mut max_deleted) = (None, None);
    let mut at = 3;
    while at < args.len() {
        let Some(value) = args.get(at + 1) else { return Err(Refusal::Syntax) };
        if args.is(at, "entriesadded") {
            let added = u64::try_from(parse::int(value)?);
            entries_added = Some(added.map_err(|_| Refusal::text("ERR entries_added must be positive"))?);
        } else if args.is(at, "maxdeletedid") {
            let deleted = ids::strict(value, 0)?;
            if id < deleted {
                return Err(Refusal::text(
                    "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                ));
            }
            max_deleted = Some(deleted);
        } else {
            return Err(Refusal::Syntax);
        }
        at += 2;
    }
    let set = cx.update(&args[1], |stream: &mut Stream| {
        if id < stream.max_deleted_id() {
            return Err(Refusal::text(
                "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id",
            ));
        }
        if stream.last_entry_id().is_some_and(|last| id < last) {
            return Err(Refusal::text(
                "ERR The ID specified in XSETID is smaller than the target stream top item",
            ));
        }
        if entries_added.is_some_and(|added| added < stream.len() as u64) {
            return Err(Refusal::text(
                "ERR The entries_added specified in XSETID is smaller than the target stream length",
            ));
        }
        stream.set_last_id(id, entries_added, max_deleted.filter(|id| *id != StreamId::ZERO));
        Ok(())
    })?;
    set.ok_or(Refusal::NoSuchKey)?;
    cx.spare_watchers(&args[1]); // its entries are the same
    cx.event(Class::Stream, "xsetid", &args[1]);
    reply.ok();
    Ok(())
}

#[cfg(test)]
mod tests;
