//! `XINFO`: what a stream, its groups and their consumers are made of.

use skep_base::{Args, Millis, Refusal};
use skep_resp::Reply;

use super::super::parse;
use super::groups::{no_group, wrong_call};
use super::ids;
use super::range::{reply_entries, reply_entry};
use crate::context::ReadCx;
use crate::types::stream::{Consumer, Group, Record};
use crate::types::{Stream, StreamId};

/// Entries and deliveries that `FULL` shows of each kind if no COUNT is given.
const FULL_COUNT: usize = 10;

fn number(reply: &mut Reply, name: &str, value: i64) {
    reply.bulk(name.as_bytes());
    reply.int(value);
}

fn optional(reply: &mut Reply, name: &str, value: Option<i64>) {
    reply.bulk(name.as_bytes());
    match value {
        Some(value) => reply.int(value),
        None => reply.null(),
    }
}

fn id(reply: &mut Reply, name: &str, value: StreamId) {
    reply.bulk(name.as_bytes());
    ids::reply_id(reply, value);
}

fn text(reply: &mut Reply, name: &str, value: &[u8]) {
    reply.bulk(name.as_bytes());
    reply.bulk(value);
}

fn found<'a>(cx: &ReadCx<'a>, key: &[u8]) -> Result<&'a Stream, Refusal> {
    cx.read::<Stream>(key)?.ok_or(Refusal::NoSuchKey)
}

/// `XINFO STREAM key [FULL [COUNT count]]`
pub fn stream(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let stream = found(cx, &args[2])?;
    let full = match args.len() {
        3 => None,
        4 if args.is(3, "full") => Some(FULL_COUNT),
        6 if args.is(3, "full") && args.is(4, "count") => Some(match parse::int(&args[5])? {
            0 => usize::MAX,
            count => usize::try_from(count).unwrap_or(FULL_COUNT),
        }),
        _ => return Err(wrong_call(args, "XINFO")),
    };
    reply.map(if full.is_some() { 9 } else { 10 });
    number(reply, "length", stream.len() as i64);
    number(reply, "radix-tree-keys", stream.block_count() as i64);
    number(reply, "radix-tree-nodes", radix_nodes(stream.block_count()));
    id(reply, "last-generated-id", stream.last_id());
    id(reply, "max-deleted-entry-id", stream.max_deleted_id());
    number(reply, "entries-added", stream.entries_added() as i64);
    id(reply, "recorded-first-entry-id", stream.first_entry_id());
    match full {
        None => {
            number(reply, "groups", stream.group_count() as i64);
            edge(reply, "first-entry", stream.range(StreamId::ZERO, StreamId::MAX).next());
            edge(reply, "last-entry", stream.range_back(StreamId::ZERO, StreamId::MAX).next());
        }
        Some(count) => {
            reply.bulk(b"entries");
            reply_entries(reply, || Box::new(stream.range(StreamId::ZERO, StreamId::MAX)), count);
            reply.bulk(b"groups");
            reply.array(stream.group_count());
            stream.groups().for_each(|(name, group)| full_group(reply, stream, name, group, count));
        }
    }
    Ok(())
}

/// There is no radix tree here; this is the least that one of so many keys has: a node for each and the root.
fn radix_nodes(keys: usize) -> i64 {
    1 + keys as i64
}

fn edge(reply: &mut Reply, name: &str, entry: Option<Record>) {
    reply.bulk(name.as_bytes());
    match entry {
        Some(entry) => reply_entry(reply, entry),
        None => reply.null(),
    }
}

fn full_group(reply: &mut Reply, stream: &Stream, name: &[u8], group: &Group, count: usize) {
    reply.map(7);
    text(reply, "name", name);
    reading(reply, stream, group);
    number(reply, "pel-count", group.pending_len() as i64);
    reply.bulk(b"pending");
    reply.array(group.pending_len().min(count));
    for (id, consumer, delivery) in group.pending_from(StreamId::ZERO).take(count) {
        reply.array(4);
        ids::reply_id(reply, id);
        reply.bulk(consumer);
        reply.int(delivery.time.0 as i64);
        reply.int(delivery.count as i64);
    }
    reply.bulk(b"consumers");
    let consumers = group.consumers();
    reply.array(consumers.len());
    consumers.for_each(|(name, consumer)| full_consumer(reply, name, consumer, count));
}

fn full_consumer(reply: &mut Reply, name: &[u8], consumer: &Consumer, count: usize) {
    reply.map(5);
    text(reply, "name", name);
    number(reply, "seen-time", consumer.seen.0 as i64);
    number(reply, "active-time", consumer.active.map_or(-1, |active| active.0 as i64));
    number(reply, "pel-count", consumer.pending_len() as i64);
    reply.bulk(b"pending");
    reply.array(consumer.pending_len().min(count));
    for (id, delivery) in consumer.pending_from(StreamId::ZERO).take(count) {
        reply.array(3);
        ids::reply_id(reply, id);
        reply.int(delivery.time.0 as i64);
        reply.int(delivery.count as i64);
    }
}

/// How far a group has read.
fn reading(reply: &mut Reply, stream: &Stream, group: &Group) {
    id(reply, "last-delivered-id", group.last_id);
    optional(reply, "entries-read", group.entries_read.map(|read| read as i64));
    optional(reply, "lag", stream.lag(group));
}

/// `XINFO GROUPS key`
pub fn groups(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let stream = found(cx, &args[2])?;
    reply.array(stream.group_count());
    for (name, group) in stream.groups() {
        reply.map(6);
        text(reply, "name", name);
        number(reply, "consumers", group.consumers().len() as i64);
        number(reply, "pending", group.pending_len() as i64);
        reading(reply, stream, group);
    }
    Ok(())
}

/// `XINFO CONSUMERS key group`
pub fn consumers(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let group = found(cx, &args[2])?.group(&args[3]).ok_or_else(|| no_group(&args[3], &args[2]))?;
    let since = |time: Millis| cx.now.0.saturating_sub(time.0) as i64;
    let consumers = group.consumers();
    reply.array(consumers.len());
    for (name, consumer) in consumers {
        reply.map(4);
        text(reply, "name", name);
        number(reply, "pending", consumer.pending_len() as i64);
        number(reply, "idle", since(consumer.seen));
        number(reply, "inactive", consumer.active.map_or(-1, since));
    }
    Ok(())
}

/// `XINFO HELP`
pub fn help(_: &mut ReadCx, _: Args, reply: &mut Reply) -> Result<(), Refusal> {
    skep_command::describe::help(skep_command::id_of("xinfo").spec(), reply);
    Ok(())
}
