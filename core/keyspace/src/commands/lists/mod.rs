//! Commands on lists.

mod blocking;
mod edit;
mod read;
mod transfer;

pub use transfer::{end, parse_mpop};

use skep_base::{Args, Refusal};
use skep_resp::Reply;

use super::{Group, parse};
use crate::context::WriteCx;
use crate::dispatch::Handler::{Read, Write};
use crate::events::Class;
use crate::types::{End, List};

pub const COMMANDS: Group = &[
    ("lpush", Write(lpush)),
    ("rpush", Write(rpush)),
    ("lpushx", Write(lpushx)),
    ("rpushx", Write(rpushx)),
    ("lpop", Write(lpop)),
    ("rpop", Write(rpop)),
    ("llen", Read(read::llen)),
    ("lrange", Read(read::lrange)),
    ("lindex", Read(read::lindex)),
    ("lpos", Read(read::lpos)),
    ("lset", Write(edit::lset)),
    ("linsert", Write(edit::linsert)),
    ("lrem", Write(edit::lrem)),
    ("ltrim", Write(edit::ltrim)),
    ("lmove", Write(transfer::lmove)),
    ("rpoplpush", Write(transfer::rpoplpush)),
    ("lmpop", Write(transfer::lmpop)),
    ("blpop", Write(blocking::blpop)),
    ("brpop", Write(blocking::brpop)),
    ("blmove", Write(blocking::blmove)),
    ("brpoplpush", Write(blocking::brpoplpush)),
    ("blmpop", Write(blocking::blmpop)),
];

fn lpush(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    reply.len(cx.update_or_create(&args[1], |list| push_all(list, End::Left, args.from(2)))?);
    cx.event(Class::List, pushed(End::Left), &args[1]);
    Ok(())
}

fn rpush(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    reply.len(cx.update_or_create(&args[1], |list| push_all(list, End::Right, args.from(2)))?);
    cx.event(Class::List, pushed(End::Right), &args[1]);
    Ok(())
}

fn lpushx(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    pushx(cx, End::Left, args, reply)
}

fn rpushx(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    pushx(cx, End::Right, args, reply)
}

/// Pushes only if there is such a list.
fn pushx(cx: &mut WriteCx, end: End, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let len = cx.update(&args[1], |list| push_all(list, end, args.from(2)))?;
    if len.is_some() {
        cx.event(Class::List, pushed(end), &args[1]);
    }
    reply.len(len.unwrap_or(0));
    Ok(())
}

/// The event of adding at an end.
fn pushed(end: End) -> &'static str {
    match end {
        End::Left => "lpush",
        End::Right => "rpush",
    }
}

/// The event of taking off an end.
fn popped(end: End) -> &'static str {
    match end {
        End::Left => "lpop",
        End::Right => "rpop",
    }
}

/// Pushes one after the other and gives the new length.
fn push_all(list: &mut List, end: End, elements: Args) -> Result<usize, Refusal> {
    elements.iter().for_each(|element| list.push(end, element));
    Ok(list.len())
}

fn lpop(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    pop(cx, "lpop", End::Left, args, reply)
}

fn rpop(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    pop(cx, "rpop", End::Right, args, reply)
}

fn pop(cx: &mut WriteCx, name: &'static str, end: End, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    match args.len() {
        2 => {
            if !pop_one(cx, &args[1], end, reply)? {
                reply.null();
            }
        }
        3 => {
            let count = parse::at_least(0, &args[2], "ERR value is out of range, must be positive")?;
            match cx.update(&args[1], |list| pop_many(list, end, count, reply))? {
                Some(count) => cx.event_then_del_if(count > 0, Class::List, popped(end), &args[1]),
                None => reply.null_array(),
            }
        }
        _ => return Err(Refusal::WrongArity(name.into())),
    }
    Ok(())
}

/// Pops an element and replies with it. False, without a reply, if there is no such list.
pub fn pop_one(cx: &mut WriteCx, key: &[u8], end: End, reply: &mut Reply) -> Result<bool, Refusal> {
    let found = cx.update(key, |list: &mut List| {
        reply.bulk(list.peek(end).expect("no list is empty"));
        list.drop(end, 1);
        Ok(())
    })?;
    if found.is_some() {
        cx.event_then_del(Class::List, popped(end), key);
    }
    Ok(found.is_some())
}

/// Pops up to `count` elements, replies with an array of them and gives their number.
fn pop_many(list: &mut List, end: End, count: usize, reply: &mut Reply) -> Result<usize, Refusal> {
    let count = count.min(list.len());
    reply.array(count);
    match end {
        End::Left => list.iter().take(count).for_each(|element| reply.bulk(element)),
        End::Right => list.iter().rev().take(count).for_each(|element| reply.bulk(element)),
    }
    list.drop(end, count);
    Ok(count)
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Bench;

    #[test]
    fn replies_are_those_of_redis() {
        Bench::new().script(include_str!("../testdata/lists.txt"));
    }

    #[test]
    fn a_number_that_cannot_be_negated_is_refused() {
        // 7.0.15 lets it overflow; 7.4 refuses.
        const RANGE: &str =
            "-ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807";
        let mut bench = Bench::new();
        assert_eq!(bench.run("LREM l -9223372036854775808 a"), RANGE);
        assert_eq!(bench.run("LPOS l a RANK -9223372036854775808"), RANGE);
    }
}
