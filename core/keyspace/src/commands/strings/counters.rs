//! Strings that hold numbers.

use skep_base::{Args, LongDouble, Refusal};
use skep_resp::Reply;

use crate::commands::parse;
use crate::context::WriteCx;
use crate::db::NEVER;
use crate::events::Class;
use crate::types::Str;

pub fn incr(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    add(cx, &args[1], 1, reply)
}

pub fn decr(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    add(cx, &args[1], -1, reply)
}

pub fn incrby(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    add(cx, &args[1], parse::int(&args[2])?, reply)
}

pub fn decrby(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    match parse::int(&args[2])?.checked_neg() {
        Some(amount) => add(cx, &args[1], amount, reply),
        None => Err(Refusal::text("ERR decrement would overflow")),
    }
}

fn add(cx: &mut WriteCx, key: &[u8], amount: i64, reply: &mut Reply) -> Result<(), Refusal> {
    let added = cx.update(key, |value: &mut Str| {
        let sum = parse::int(value.as_slice())?.checked_add(amount);
        let sum = sum.ok_or(Refusal::text("ERR increment or decrement would overflow"))?;
        *value = Str::from_int(sum);
        Ok(sum)
    })?;
    let sum = added.unwrap_or_else(|| {
        cx.put(key, Str::from_int(amount), NEVER);
        amount
    });
    cx.event(Class::String, "incrby", key);
    reply.int(sum);
    Ok(())
}

fn sum_of_floats(old: &[u8], amount: &[u8]) -> Result<Vec<u8>, Refusal> {
    let old = LongDouble::parse(old).ok_or(Refusal::NotFloat)?;
    let amount = LongDouble::parse(amount).ok_or(Refusal::NotFloat)?;
    let sum = old.plus(amount).ok_or(Refusal::text("ERR increment would produce NaN or Infinity"))?;
    let mut text = Vec::with_capacity(40);
    sum.write(&mut text);
    Ok(text)
}

pub fn incrbyfloat(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let key = &args[1];
    let added = cx.update(key, |value: &mut Str| {
        let text = sum_of_floats(value.as_slice(), &args[2])?;
        *value = Str::new(&text);
        Ok(text)
    })?;
    let text = match added {
        Some(text) => text,
        None => {
            let text = sum_of_floats(b"0", &args[2])?;
            cx.put(key, Str::new(&text), NEVER);
            text
        }
    };
    cx.event(Class::String, "incrbyfloat", key);
    reply.bulk(&text);
    Ok(())
}
