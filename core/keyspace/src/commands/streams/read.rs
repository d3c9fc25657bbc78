//! `XREAD` and `XREADGROUP`.
//!
//! With `BLOCK` a call that finds nothing says that it would wait. What waits are ids: `$` and `+` are resolved at the first look.

use skep_base::args::OwnedArgs;
use skep_base::{Args, InVain, Millis, Refusal, Unserved};
use skep_resp::{Protocol, Reply};

use super::super::parse;
use super::groups::{CONSUMER_CREATED, shown, spare_watchers};
use super::ids;
use super::range::{reply_entries, reply_entry};
use crate::context::{ReadCx, WriteCx};
use crate::events::Class;
use crate::types::stream::{Delivery, Group};
use crate::types::{Stream, StreamId};
use crate::waits::would_wait;

/// What a call asks for.
struct Request<'a> {
    args: Args<'a>,
    /// Group and consumer of `XREADGROUP`.
    reader: Option<(&'a [u8], &'a [u8])>,
    count: usize,
    /// Milliseconds to wait for something if there is nothing; 0 for ever.
    block_ms: Option<u64>,
    keeps_pending: bool,
    /// The argument at which the keys begin.
    keys_at: usize,
    streams: usize,
}

/// What `XREADGROUP` is to read of one stream.
#[derive(Clone, Copy)]
enum From {
    /// The group's next entries (`>`).
    New,
    /// What the consumer has not acknowledged after this id.
    History(StreamId),
}

impl<'a> Request<'a> {
    fn parse(args: Args<'a>, command: &'static str) -> Result<Request<'a>, Refusal> {
        let is_group = command == "xreadgroup";
        let mut request = Request {
            args,
            reader: None,
            count: usize::MAX,
            block_ms: None,
            keeps_pending: true,
            keys_at: 0,
            streams: 0,
        };
        let mut at = 1;
        while at < args.len() && request.keys_at == 0 {
            let more = args.len() - at - 1;
            if args.is(at, "block") && more > 0 {
                request.block_ms = Some(parse::wait_ms(&args[at + 1])?);
                at += 1;
            } else if args.is(at, "count") && more > 0 {
                let count = usize::try_from(parse::int(&args[at + 1])?).unwrap_or(0);
                request.count = if count == 0 { usize::MAX } else { count };
                at += 1;
            } else if args.is(at, "streams") && more > 0 {
                if !more.is_multiple_of(2) {
                    let id = if is_group { '>' } else { '$' };
                    return Err(Refusal::format(format!(
                        "ERR Unbalanced '{command}' list of streams: for each stream key an ID or '{id}' must be specified."
                    )));
                }
                (request.keys_at, request.streams) = (at + 1, more / 2);
            } else if args.is(at, "group") && more >= 2 {
                only_for_groups(is_group, "GROUP")?;
                request.reader = args.get(at + 1).zip(args.get(at + 2));
                at += 2;
            } else if args.is(at, "noack") {
                only_for_groups(is_group, "NOACK")?;
                request.keeps_pending = false;
            } else {
                return Err(Refusal::Syntax);
            }
            at += 1;
        }
        if request.keys_at == 0 {
            return Err(Refusal::Syntax);
        }
        if is_group && request.reader.is_none() {
            return Err(Refusal::text("ERR Missing GROUP option for XREADGROUP"));
        }
        Ok(request)
    }

    fn key(&self, stream: usize) -> &'a [u8] {
        self.args.get(self.keys_at + stream).expect("counted when it was parsed")
    }

    fn id(&self, stream: usize) -> &'a [u8] {
        self.args.get(self.keys_at + self.streams + stream).expect("counted when it was parsed")
    }
}

fn only_for_groups(is_group: bool, option: &str) -> Result<(), Refusal> {
    if is_group {
        return Ok(());
    }
    Err(Refusal::format(format!(
        "ERR The {option} option is only supported by XREADGROUP. You called XREAD instead."
    )))
}

/// The arguments of a call that waits, with the ids behind which it reads in place of words.
fn resolved(request: &Request, after: &[StreamId]) -> Unserved {
    let mut args = OwnedArgs::collect(request.args.iter().take(request.keys_at + request.streams));
    after.iter().for_each(|id| args.push(id.to_string().as_bytes()));
    Unserved { in_vain: InVain::NullArray, args: Some(Box::new(args)) }
}

/// Begins a reply of `streams` pairs of a key and entries.
fn begin(reply: &mut Reply, streams: usize) {
    match reply.protocol() {
        Protocol::Resp2 => reply.array(streams),
        Protocol::Resp3 => reply.map(streams),
    }
}

fn begin_stream(reply: &mut Reply, key: &[u8]) {
    if reply.protocol() == Protocol::Resp2 {
        reply.array(2);
    }
    reply.bulk(key);
}

/// `XREAD [COUNT count] [BLOCK milliseconds] STREAMS key [key …] id [id …]`
pub fn xread(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let request = Request::parse(args, "xread")?;
    let mut found: Vec<(&[u8], &Stream, StreamId)> = Vec::new();
    let mut all_after = Vec::with_capacity(request.streams);
    for at in 0..request.streams {
        let stream = cx.read_waited::<Stream>(request.key(at))?;
        let after = match request.id(at) {
            b"$" => stream.map_or(StreamId::ZERO, Stream::last_id),
            b"+" => {
                let last = stream.and_then(Stream::last_entry_id);
                last.and_then(StreamId::previous).unwrap_or(StreamId::ZERO)
            }
            b">" => {
                return Err(Refusal::text(
                    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.",
                ));
            }
            id => ids::strict(id, 0)?,
        };
        all_after.push(after);
        if let Some(stream) = stream
            && stream.last_entry_id().is_some_and(|last| last > after)
        {
            found.push((request.key(at), stream, after));
        }
    }
    if found.is_empty() {
        if request.block_ms.is_some() {
            return Err(Refusal::WouldWait(resolved(&request, &all_after)));
        }
        reply.null_array();
        return Ok(());
    }
    begin(reply, found.len());
    for (key, stream, after) in found {
        begin_stream(reply, key);
        let start = after.next().expect("an entry is above it");
        reply_entries(reply, || Box::new(stream.range(start, StreamId::MAX)), request.count);
    }
    Ok(())
}

/// `XREADGROUP GROUP group consumer [COUNT count] [BLOCK milliseconds] [NOACK] STREAMS key [key …] id [id …]`
pub fn xreadgroup(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let request = Request::parse(args, "xreadgroup")?;
    let (group, consumer) = request.reader.expect("checked when it was parsed");
    let mut wanted = Vec::with_capacity(request.streams);
    let mut finds_something = false;
    for at in 0..request.streams {
        let stream = cx.read_value::<Stream>(request.key(at))?;
        let Some((stream, reading)) = stream.and_then(|s| Some((s, s.group(group)?))) else {
            return Err(Refusal::format(format!(
                "NOGROUP No such key '{}' or consumer group '{}' in XREADGROUP with GROUP option",
                shown(request.key(at)),
                shown(group)
            )));
        };
        let from = from(request.id(at))?;
        finds_something |= matches!(from, From::History(_)) || has_new(stream, reading);
        wanted.push(from);
    }
    if !finds_something && request.block_ms.is_some() {
        return Err(would_wait());
    }
    let now = cx.now;
    let mut found = Vec::new();
    for (at, from) in wanted.into_iter().enumerate() {
        let (comes, ids) = cx
            .update(request.key(at), |stream: &mut Stream| {
                let comes = stream.group_mut(group).expect("found above").see(consumer, now);
                Ok((comes, take(stream, group, consumer, from, &request, now)))
            })?
            .expect("found above");
        spare_watchers(cx, request.key(at));
        if comes {
            cx.event(Class::Stream, CONSUMER_CREATED, request.key(at));
        }
        if let Some(ids) = ids {
            found.push((request.key(at), from, ids));
        }
    }
    if found.is_empty() {
        reply.null_array();
        return Ok(());
    }
    begin(reply, found.len());
    for (key, from, ids) in found {
        begin_stream(reply, key);
        let stream = cx.read::<Stream>(key)?.expect("updated above");
        match (from, ids.first()) {
            (From::New, Some(first)) => {
                reply_entries(reply, || Box::new(stream.range(*first, StreamId::MAX)), ids.len());
            }
            _ => reply_history(reply, stream, &ids),
        }
    }
    Ok(())
}

/// Reads the id of a stream of `XREADGROUP`.
fn from(arg: &[u8]) -> Result<From, Refusal> {
    match arg {
        b">" => Ok(From::New),
        b"$" | b"+" => {
            let id = shown(arg);
            Err(Refusal::format(format!(
                "ERR The {id} ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer \
                 by specifying a proper ID, or use the > ID to get new messages. The {id} ID would just return an empty \
                 result set."
            )))
        }
        // The highest id is what Redis has for `>` inside.
        id => match ids::strict(id, 0)? {
            StreamId::MAX => Ok(From::New),
            id => Ok(From::History(id)),
        },
    }
}

/// True if `stream` has something that `group` has not got yet.
fn has_new(stream: &Stream, group: &Group) -> bool {
    stream.last_entry_id().is_some_and(|last| last > group.last_id)
}

/// The ids that the consumer gets of one stream, noted as delivered; `None` if there is nothing new.
fn take(
    stream: &mut Stream,
    group: &[u8],
    consumer: &[u8],
    from: From,
    request: &Request,
    now: Millis,
) -> Option<Vec<StreamId>> {
    let reading = stream.group(group).expect("the caller has found it");
    match from {
        From::History(after) => {
            let start = after.next()?;
            let held = reading.consumer(consumer).expect("the caller has seen it").pending_from(start);
            let held: Vec<(StreamId, Delivery)> = held.take(request.count).collect();
            for (id, delivery) in &held {
                if stream.get(*id).is_some() {
                    let again = Delivery { time: now, count: delivery.count.wrapping_add(1) };
                    stream.group_mut(group).expect("found above").assign(*id, consumer, again);
                }
            }
            Some(held.into_iter().map(|(id, _)| id).collect())
        }
        From::New => {
            if !has_new(stream, reading) {
                return None;
            }
            let start = reading.last_id.next()?;
            let ids: Vec<StreamId> =
                stream.range(start, StreamId::MAX).take(request.count).map(|entry| entry.id).collect();
            stream.mark_delivered(group, consumer, &ids, request.keeps_pending, now);
            Some(ids)
        }
    }
}

/// Replies with entries that were delivered before; of one that was deleted since, the id is left.
fn reply_history(reply: &mut Reply, stream: &Stream, ids: &[StreamId]) {
    reply.array(ids.len());
    for id in ids {
        match stream.get(*id) {
            Some(entry) => reply_entry(reply, entry),
            None => {
                reply.array(2);
                ids::reply_id(reply, *id);
                reply.null_array();
            }
        }
    }
}
