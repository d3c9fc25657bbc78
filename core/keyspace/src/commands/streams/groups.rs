//! `XGROUP` and `XACK`.

use std::borrow::Cow;

use skep_base::{Args, Refusal};
use skep_resp::Reply;

use super::super::parse;
use super::{all_ids, ids};
use crate::context::{ReadCx, WriteCx};
use crate::events::Class;
use crate::types::stream::Group;
use crate::types::{Stream, StreamId};

const KEY_NEEDED: Refusal = Refusal::text(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM option to \
     create an empty stream automatically.",
);

/// The event of a consumer that comes, by whatever command.
pub const CONSUMER_CREATED: &str = "xgroup-createconsumer";

/// The options of `CREATE` and `SETID`.
#[derive(Default)]
struct Options {
    makes_stream: bool,
    entries_read: Option<u64>,
}

impl Options {
    fn parse(args: Args, sub: &'static str) -> Result<Options, Refusal> {
        let mut given = Options::default();
        let mut at = 5;
        while at < args.len() {
            if sub == "CREATE" && args.is(at, "mkstream") {
                given.makes_stream = true;
                at += 1;
            } else if args.is(at, "entriesread") && at + 1 < args.len() {
                given.entries_read = match parse::int(&args[at + 1])? {
                    -1 => None,
                    read => Some(
                        u64::try_from(read)
                            .map_err(|_| Refusal::text("ERR value for ENTRIESREAD must be positive or -1"))?,
                    ),
                };
                at += 2;
            } else {
                return Err(wrong_call(args, "XGROUP"));
            }
        }
        // Each option once, as in Redis.
        let words_max = if sub == "CREATE" { 8 } else { 7 };
        if args.len() > words_max { Err(wrong_call(args, "XGROUP")) } else { Ok(given) }
    }
}

/// At most so much of an argument is repeated in an error.
pub fn shown(arg: &[u8]) -> Cow<'_, str> {
    const SHOWN_BYTES_MAX: usize = 128;
    String::from_utf8_lossy(&arg[..arg.len().min(SHOWN_BYTES_MAX)])
}

/// A subcommand with words that it does not take.
pub fn wrong_call(args: Args, container: &str) -> Refusal {
    Refusal::format(format!(
        "ERR unknown subcommand or wrong number of arguments for '{}'. Try {container} HELP.",
        shown(&args[1])
    ))
}

/// A group that is not there, of a key that is.
pub fn no_group(group: &[u8], key: &[u8]) -> Refusal {
    Refusal::format(format!(
        "NOGROUP No such consumer group '{}' for key name '{}'",
        shown(group),
        shown(key)
    ))
}

/// A key or a group that is not there.
pub fn no_key_or_group(key: &[u8], group: &[u8]) -> Refusal {
    Refusal::format(format!("NOGROUP No such key '{}' or consumer group '{}'", shown(key), shown(group)))
}

/// `XGROUP CREATE key group id|$ [MKSTREAM] [ENTRIESREAD entries-read]`
pub fn create(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let options = Options::parse(args, "CREATE")?;
    let key = &args[2];
    if cx.read::<Stream>(key)?.is_none() && !options.makes_stream {
        return Err(KEY_NEEDED);
    }
    cx.update_or_create(key, |stream: &mut Stream| {
        let last_id = match &args[4] {
            b"$" => stream.last_id(),
            id => ids::strict(id, 0)?,
        };
        if stream.add_group(&args[3], Group::new(last_id, options.entries_read)) {
            Ok(())
        } else {
            Err(Refusal::text("BUSYGROUP Consumer Group name already exists"))
        }
    })?;
    spare_watchers(cx, key);
    cx.event(Class::Stream, "xgroup-create", key);
    reply.ok();
    Ok(())
}

/// `XGROUP SETID key group id|$ [ENTRIESREAD entries-read]`
pub fn setid(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let options = Options::parse(args, "SETID")?;
    update(cx, args, |stream, group| {
        let last_id = match &args[4] {
            b"$" => stream.last_id(),
            id => ids::id(id, 0)?,
        };
        let group = stream.group_mut(group).expect("found by the caller");
        (group.last_id, group.entries_read) = (last_id, options.entries_read);
        Ok(())
    })?;
    cx.event(Class::Stream, "xgroup-setid", &args[2]);
    reply.ok();
    Ok(())
}

/// `XGROUP DESTROY key group`
pub fn destroy(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let removed = cx.update(&args[2], |stream: &mut Stream| Ok(stream.remove_group(&args[3])))?;
    let removed = removed.ok_or(KEY_NEEDED)?;
    spare_watchers(cx, &args[2]);
    if removed {
        cx.event(Class::Stream, "xgroup-destroy", &args[2]);
    }
    reply.int(i64::from(removed));
    Ok(())
}

/// `XGROUP CREATECONSUMER key group consumer`
pub fn createconsumer(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let now = cx.now;
    let added = update(cx, args, |stream, group| {
        Ok(stream.group_mut(group).expect("found by the caller").add_consumer(&args[4], now))
    })?;
    if added {
        cx.event(Class::Stream, CONSUMER_CREATED, &args[2]);
    }
    reply.int(i64::from(added));
    Ok(())
}

/// `XGROUP DELCONSUMER key group consumer`
pub fn delconsumer(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let pending = update(cx, args, |stream, group| {
        Ok(stream.group_mut(group).expect("found by the caller").remove_consumer(&args[4]))
    })?;
    if pending.is_some() {
        cx.event(Class::Stream, "xgroup-delconsumer", &args[2]);
    }
    reply.len(pending.unwrap_or(0));
    Ok(())
}

/// Lets `change` edit a stream whose group `args[3]` is there.
fn update<R>(
    cx: &mut WriteCx,
    args: Args,
    change: impl FnOnce(&mut Stream, &[u8]) -> Result<R, Refusal>,
) -> Result<R, Refusal> {
    let (key, group) = (&args[2], &args[3]);
    let changed = cx.update(key, |stream: &mut Stream| {
        if stream.group(group).is_none() {
            return Err(no_group(group, key));
        }
        change(stream, group)
    })?;
    spare_watchers(cx, key);
    changed.ok_or(KEY_NEEDED)
}

/// Who watches a stream watches its entries: what becomes of its groups stops no transaction, as in Redis.
pub fn spare_watchers(cx: &mut WriteCx, key: &[u8]) {
    cx.spare_watchers(key);
}

/// `XGROUP HELP`
pub fn help(_: &mut ReadCx, _: Args, reply: &mut Reply) -> Result<(), Refusal> {
    skep_command::describe::help(skep_command::id_of("xgroup").spec(), reply);
    Ok(())
}

/// `XACK key group id [id …]`
pub fn xack(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let group = &args[2];
    if cx.read_value::<Stream>(&args[1])?.and_then(|stream| stream.group(group)).is_none() {
        reply.int(0);
        return Ok(());
    }
    let ids: Vec<StreamId> = all_ids(args, 3)?;
    let acknowledged = cx.update(&args[1], |stream: &mut Stream| {
        let group = stream.group_mut(group).expect("found above");
        Ok(ids.iter().filter(|id| group.acknowledge(**id)).count())
    })?;
    spare_watchers(cx, &args[1]);
    reply.len(acknowledged.unwrap_or(0));
    Ok(())
}
