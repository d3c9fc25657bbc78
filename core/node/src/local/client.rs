//! `CLIENT` for the connection itself: its name, how it is answered, and the commands of others held back.

use skep_base::{Args, Refusal, number};

use super::connection::check_name;
use super::{Call, Group, Parts, Pause, too_many};
use crate::batch::Unblock;
use crate::cells::{Caller, Part};
use crate::client::ReplyMode;
use crate::{Node, Output};

pub const COMMANDS: Group = &[
    ("client|getname", getname),
    ("client|help", super::help),
    ("client|id", id),
    ("client|no-evict", no_evict),
    ("client|no-touch", no_touch),
    ("client|pause", pause),
    ("client|reply", reply_mode),
    ("client|setinfo", setinfo),
    ("client|setname", setname),
    ("client|unblock", unblock),
    ("client|unpause", unpause),
];

pub const PARTS: Parts =
    &[("client|pause", pause_part), ("client|unblock", unblock_part), ("client|unpause", unpause_part)];

fn id(node: &mut Node, call: Call) -> Result<(), Refusal> {
    call.reply.int(node.client(call.conn).number as i64);
    Ok(())
}

fn getname(node: &mut Node, call: Call) -> Result<(), Refusal> {
    let name = &node.client(call.conn).name;
    call.reply.bulk_or_null((!name.is_empty()).then_some(name));
    Ok(())
}

fn setname(node: &mut Node, call: Call) -> Result<(), Refusal> {
    check_name(&call.args[2])?;
    node.client(call.conn).name = call.args[2].to_vec();
    call.reply.ok();
    Ok(())
}

fn setinfo(node: &mut Node, call: Call) -> Result<(), Refusal> {
    let (option, value) = (&call.args[2], &call.args[3]);
    let option_text = || String::from_utf8_lossy(option).into_owned();
    let client = node.client(call.conn);
    let field = if option.eq_ignore_ascii_case(b"lib-name") {
        &mut client.library_name
    } else if option.eq_ignore_ascii_case(b"lib-ver") {
        &mut client.library_version
    } else {
        return Err(Refusal::format(format!("ERR Unrecognized option '{}'", option_text())));
    };
    if check_name(value).is_err() {
        return Err(Refusal::format(format!(
            "ERR {} cannot contain spaces, newlines or special characters.",
            option_text()
        )));
    }
    *field = value.to_vec();
    call.reply.ok();
    Ok(())
}

fn no_evict(node: &mut Node, call: Call) -> Result<(), Refusal> {
    node.client(call.conn).no_evict = on_or_off(&call)?;
    call.reply.ok();
    Ok(())
}

fn no_touch(node: &mut Node, call: Call) -> Result<(), Refusal> {
    node.client(call.conn).no_touch = on_or_off(&call)?;
    call.reply.ok();
    Ok(())
}

fn on_or_off(call: &Call) -> Result<bool, Refusal> {
    match () {
        () if call.args.is(2, "on") => Ok(true),
        () if call.args.is(2, "off") => Ok(false),
        () => Err(Refusal::Syntax),
    }
}

fn reply_mode(node: &mut Node, call: Call) -> Result<(), Refusal> {
    let client = node.client(call.conn);
    if call.args.is(2, "on") {
        client.reply_mode = ReplyMode::On;
        *call.heard = true;
        call.reply.ok();
    } else if call.args.is(2, "off") {
        client.reply_mode = ReplyMode::Off;
    } else if !call.args.is(2, "skip") {
        return Err(Refusal::Syntax);
    } else if client.reply_mode == ReplyMode::On {
        client.reply_mode = ReplyMode::SkipNext;
    }
    Ok(())
}

fn pause(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    node.parts(&mut call)?;
    call.reply.ok();
    Ok(())
}

fn pause_part(node: &mut Node, _: Caller, args: Args<'_>, _: &mut Vec<Output>) -> Result<Part, Refusal> {
    let ms =
        number::parse_i64(&args[2]).ok_or(Refusal::text("ERR timeout is not an integer or out of range"))?;
    let ms = u64::try_from(ms).map_err(|_| Refusal::text("ERR timeout is negative"))?;
    let writes_only = match args.len() {
        3 => false,
        4 if args.is(3, "write") => true,
        4 if args.is(3, "all") => false,
        4 => return Err(Refusal::text("ERR CLIENT PAUSE mode must be WRITE or ALL")),
        _ => return Err(too_many(args)),
    };
    node.pause(Pause { until: node.now.mono.plus(ms), writes_only });
    Ok(Part::Done)
}

fn unpause(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    node.parts(&mut call)?;
    call.reply.ok();
    Ok(())
}

fn unpause_part(node: &mut Node, _: Caller, _: Args<'_>, _: &mut Vec<Output>) -> Result<Part, Refusal> {
    node.unpause();
    Ok(Part::Done)
}

fn unblock(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    let of = |part: Part| if let Part::Count(ended) = part { ended } else { 0 };
    let ended: usize = node.parts(&mut call)?.into_iter().map(of).sum();
    call.reply.len(ended);
    Ok(())
}

fn unblock_part(node: &mut Node, _: Caller, args: Args<'_>, out: &mut Vec<Output>) -> Result<Part, Refusal> {
    let end = match args.len() {
        3 => Unblock::Timeout,
        4 if args.is(3, "timeout") => Unblock::Timeout,
        4 if args.is(3, "error") => Unblock::Error,
        4 => return Err(Refusal::text("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")),
        _ => return Err(too_many(args)),
    };
    let number = number::parse_i64(&args[2]).ok_or(Refusal::NotInteger)?;
    let wanted = node.clients.iter().find(|client| client.number as i64 == number).map(|client| client.id);
    let ended = wanted.is_some_and(|conn| node.unblock(conn, end));
    node.list_grown(out);
    Ok(Part::Count(usize::from(ended)))
}
