//! Counting different elements.
//!
//! Redis's PFCOUNT writes the count it found into the value's cache; ours is a read and leaves the value alone.

use skep_base::{Args, Refusal};
use skep_resp::Reply;

use super::Group;
use crate::context::{ReadCx, WriteCx};
use crate::db::NEVER;
use crate::dispatch::Handler::{Read, Write};
use crate::events::Class;
use crate::hyperloglog::{self as counter, Corrupted};
use crate::types::Str;

pub const COMMANDS: Group =
    &[("pfadd", Write(pfadd)), ("pfcount", Read(pfcount)), ("pfmerge", Write(pfmerge))];

fn pfadd(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let (key, elements) = (&args[1], args.from(2));
    let mut changed = false;
    if checked(cx.read::<Str>(key)?)?.is_none() {
        cx.put(key, Str::from_vec(counter::empty()), NEVER);
        changed = true;
    } else if elements.is_empty() {
        reply.int(0);
        return Ok(());
    }
    let bytes = cx.modify::<Str>(key)?.expect("found or put above").make_vec();
    counter::check(bytes).map_err(corrupted)?;
    for element in elements.iter() {
        changed |= counter::add(bytes, element);
    }
    if changed {
        counter::make_stale(bytes);
    }
    cx.event_if(changed, Class::String, "pfadd", key);
    reply.int(i64::from(changed));
    Ok(())
}

fn pfcount(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    if args.len() == 2 {
        let value = checked(cx.read::<Str>(&args[1])?)?;
        reply.int(value.map_or(Ok(0), counter::count).map_err(corrupted)? as i64);
        return Ok(());
    }
    let mut registers = counter::no_registers();
    for key in args.from(1).iter() {
        if let Some(value) = checked(cx.read::<Str>(key)?)? {
            counter::merge(&mut registers, value).map_err(corrupted)?;
        }
    }
    reply.int(counter::estimate(&registers) as i64);
    Ok(())
}

fn pfmerge(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let target = &args[1];
    let mut registers = counter::no_registers();
    let mut dense = false;
    for key in args.from(1).iter() {
        if let Some(value) = checked(cx.read_value::<Str>(key)?)? {
            dense |= counter::is_dense(value);
            counter::merge(&mut registers, value).map_err(corrupted)?;
        }
    }
    if !cx.exists(target) {
        cx.put(target, Str::from_vec(counter::empty()), NEVER);
    }
    let bytes = cx.modify::<Str>(target)?.expect("found or put above").make_vec();
    if dense {
        counter::make_dense(bytes).map_err(corrupted)?;
    }
    for (register, value) in registers.iter().enumerate().filter(|(_, value)| **value > 0) {
        counter::raise(bytes, register, *value);
    }
    counter::make_stale(bytes);
    cx.event(Class::String, "pfadd", target); // as if what the others count had been added
    reply.ok();
    Ok(())
}

/// The bytes of a counter.
fn checked(value: Option<&Str>) -> Result<Option<&[u8]>, Refusal> {
    match value.map(Str::as_slice) {
        Some(bytes) if !counter::is_counter(bytes) => {
            Err(Refusal::text("WRONGTYPE Key is not a valid HyperLogLog string value."))
        }
        value => Ok(value),
    }
}

fn corrupted(_: Corrupted) -> Refusal {
    Refusal::text("INVALIDOBJ Corrupted HLL object detected")
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::Bench;

    #[test]
    fn replies_are_those_of_redis() {
        Bench::new().script(include_str!("testdata/hyperloglog.txt"));
    }

    #[test]
    fn a_corrupted_counter_is_refused_and_stays() {
        const REFUSED: &str = "-INVALIDOBJ Corrupted HLL object detected";
        let mut bench = Bench::new();
        bench.run("PFADD h a b c");
        bench.run("PFADD good a b c");
        bench.run("APPEND h x");
        let before = bench.run("GET h");
        for command in ["PFADD h d", "PFCOUNT h", "PFCOUNT h good", "PFMERGE good h", "PFMERGE h good"] {
            assert_eq!(bench.run(command), REFUSED, "{command}");
        }
        assert_eq!(bench.run("GET h"), before);
        assert_eq!(bench.run("PFCOUNT good"), ":3");
    }
}
