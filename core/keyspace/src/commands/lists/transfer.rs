//! Moving elements between lists, and popping from the first list that has one.

use skep_base::{Args, Refusal};
use skep_resp::Reply;

use super::{pop_many, popped, pushed};
use crate::commands::parse;
use crate::context::WriteCx;
use crate::events::Class;
use crate::types::{End, List};

pub fn lmove(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let (from, to) = (end(args, 3)?, end(args, 4)?);
    if !move_one(cx, (&args[1], from), (&args[2], to), reply)? {
        reply.null();
    }
    Ok(())
}

pub fn rpoplpush(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    if !move_one(cx, (&args[1], End::Right), (&args[2], End::Left), reply)? {
        reply.null();
    }
    Ok(())
}

/// Takes an element off an end of the list `from`, adds it to an end of `to`, which is made if need be, and replies with it.
/// False, without a reply, if there is nothing to take. Both may be the same list.
///
/// # Errors
/// [`Refusal::WrongType`] if either holds something else; `to` is looked at only if there is an element.
pub fn move_one(
    cx: &mut WriteCx,
    from: (&[u8], End),
    to: (&[u8], End),
    reply: &mut Reply,
) -> Result<bool, Refusal> {
    if cx.read::<List>(from.0)?.is_none() {
        return Ok(false);
    }
    cx.read::<List>(to.0)?;
    let source = cx.modify::<List>(from.0)?.expect("a list was found above");
    let element = source.peek(from.1).expect("no list is empty").to_vec();
    source.drop(from.1, 1);
    // Before the source is removed for being empty, since it may be the target.
    cx.modify_or_create::<List>(to.0)?.push(to.1, &element);
    cx.event(Class::List, pushed(to.1), to.0);
    cx.changed(from.0, None);
    cx.event_then_del(Class::List, popped(from.1), from.0);
    reply.bulk(&element);
    Ok(true)
}

pub fn lmpop(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let (keys, end, count) = parse_mpop(args.from(1))?;
    if !pop_first(cx, keys, end, count, reply)? {
        reply.null_array();
    }
    Ok(())
}

/// Parses `numkeys key... LEFT|RIGHT [COUNT n]`: the number of keys, the end, the count.
pub fn parse_mpop(args: Args<'_>) -> Result<(impl Iterator<Item = &[u8]>, End, usize), Refusal> {
    let key_count = parse::at_least(1, &args[0], "ERR numkeys should be greater than 0")?;
    if key_count >= args.len() - 1 {
        return Err(Refusal::Syntax);
    }
    let end = end(args, key_count + 1)?;
    let options = args.from(key_count + 2);
    let count = match options.len() {
        0 => 1,
        1 => return Err(Refusal::Syntax),
        _ if !options.is(0, "count") => return Err(Refusal::Syntax),
        given => {
            let count = parse::at_least(1, &options[1], "ERR count should be greater than 0")?;
            if given > 2 {
                return Err(Refusal::Syntax);
            }
            count
        }
    };
    Ok((args.from(1).iter().take(key_count), end, count))
}

/// Pops up to `count` elements off the first of `keys` that has any, and replies with the key and them. False, without a
/// reply, if none has.
///
/// # Errors
/// [`Refusal::WrongType`] if a key before the first list holds something else.
pub fn pop_first<'k>(
    cx: &mut WriteCx,
    keys: impl IntoIterator<Item = &'k [u8]>,
    end: End,
    count: usize,
    reply: &mut Reply,
) -> Result<bool, Refusal> {
    for key in keys {
        let count = cx.update(key, |list| {
            reply.array(2);
            reply.bulk(key);
            pop_many(list, end, count, reply)
        })?;
        if count.is_some() {
            cx.event_then_del(Class::List, popped(end), key);
            return Ok(true);
        }
    }
    Ok(false)
}

/// `LEFT` or `RIGHT`.
pub fn end(args: Args, at: usize) -> Result<End, Refusal> {
    if args.is(at, "left") {
        Ok(End::Left)
    } else if args.is(at, "right") {
        Ok(End::Right)
    } else {
        Err(Refusal::Syntax)
    }
}
