//! Commands on keys of any type.

use skep_base::{Args, Refusal};
use skep_resp::Reply;

use super::Group;
use crate::context::{ReadCx, WriteCx};
use crate::dispatch::Handler::{Read, Write};

pub const COMMANDS: Group = &[("del", Write(del)), ("exists", Read(exists)), ("type", Read(kind))];

fn del(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let removed = args.from(1).iter().filter(|key| cx.remove(key)).count();
    reply.len(removed);
    Ok(())
}

fn exists(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    reply.len(args.from(1).iter().filter(|key| cx.entry(key).is_some()).count());
    Ok(())
}

fn kind(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    reply.simple(cx.entry(&args[1]).map_or("none", |e| e.value.kind().name()));
    Ok(())
}
