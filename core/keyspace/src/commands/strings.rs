//! Commands on string values.

use skep_base::{Args, Refusal};
use skep_resp::Reply;

use super::Group;
use crate::context::{ReadCx, WriteCx};
use crate::db::NEVER;
use crate::dispatch::Handler::{Read, Write};
use crate::types::Str;

pub const COMMANDS: Group = &[("get", Read(get)), ("set", Write(set))];

fn get(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    reply.bulk_or_null(cx.read::<Str>(&args[1])?.map(Str::as_slice));
    Ok(())
}

fn set(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    if args.len() > 3 {
        return Err(Refusal::Syntax);
    }
    cx.put(&args[1], Str::new(&args[2]), NEVER);
    reply.ok();
    Ok(())
}
