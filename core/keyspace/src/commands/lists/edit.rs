//! Changing lists in the middle.

use skep_base::{Args, Refusal};
use skep_resp::Reply;

use crate::commands::parse;
use crate::context::WriteCx;
use crate::events::Class;
use crate::types::{End, List};

pub fn lset(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let set = cx.update(&args[1], |list: &mut List| {
        let at = parse::position(parse::int(&args[2])?, list.len()).ok_or(Refusal::IndexOutOfRange)?;
        list.set(at, &args[3]);
        Ok(())
    })?;
    set.ok_or(Refusal::NoSuchKey)?;
    cx.event(Class::List, "lset", &args[1]);
    reply.ok();
    Ok(())
}

pub fn linsert(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let behind = if args.is(2, "after") {
        1
    } else if args.is(2, "before") {
        0
    } else {
        return Err(Refusal::Syntax);
    };
    let inserted = cx.update(&args[1], |list: &mut List| {
        let pivot = list.iter().position(|element| *element == args[3]);
        pivot.iter().for_each(|pivot| list.insert(pivot + behind, &args[4]));
        Ok((pivot.is_some(), list.len()))
    })?;
    let Some((inserted, len)) = inserted else {
        reply.int(0);
        return Ok(());
    };
    cx.event_if(inserted, Class::List, "linsert", &args[1]);
    if inserted {
        reply.len(len);
    } else {
        reply.int(-1);
    }
    Ok(())
}

pub fn lrem(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let count = parse::int_between(&args[2], -i64::MAX, i64::MAX)?;
    let limit = if count == 0 { usize::MAX } else { count.unsigned_abs() as usize };
    let end = if count < 0 { End::Right } else { End::Left };
    let removed = cx.update(&args[1], |list: &mut List| Ok(list.remove(&args[3], limit, end)))?.unwrap_or(0);
    cx.event_then_del_if(removed > 0, Class::List, "lrem", &args[1]);
    reply.len(removed);
    Ok(())
}

pub fn ltrim(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let (start, end) = (parse::int(&args[2])?, parse::int(&args[3])?);
    let trimmed = cx.update(&args[1], |list: &mut List| {
        let kept = parse::positions(start, end, list.len());
        list.drop(End::Right, list.len() - kept.end);
        list.drop(End::Left, kept.start);
        Ok(())
    })?;
    if trimmed.is_some() {
        cx.event_then_del(Class::List, "ltrim", &args[1]); // even if nothing was cut off, as in Redis
    }
    reply.ok();
    Ok(())
}
