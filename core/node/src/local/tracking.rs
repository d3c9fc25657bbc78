//! `CLIENT TRACKING` and its kin: which keys a client wants to be told of.

use skep_base::{Args, Refusal, number};

use super::{Call, Group, Parts};
use crate::cells::{Caller, Part};
use crate::tracking::{ClientTracking, Mode, Target};
use crate::{Node, Output};

pub const COMMANDS: Group = &[
    ("client|caching", caching),
    ("client|getredir", getredir),
    ("client|tracking", tracking),
    ("client|trackinginfo", trackinginfo),
];

pub const PARTS: Parts = &[("client|tracking", tracking_part)];

/// Prefixes of one client at the most.
const PREFIXES_MAX: usize = 1_000;

const NO_SUCH_CLIENT: Refusal = Refusal::text("ERR The client ID you want redirect to does not exist");

/// The options of `CLIENT TRACKING`.
#[derive(Default)]
struct Asked<'a> {
    on: bool,
    redirect: Option<u64>,
    broadcast: bool,
    opt_in: bool,
    opt_out: bool,
    noloop: bool,
    prefixes: Vec<&'a [u8]>,
}

/// Finds the client that is to be told, in the cell that has it.
fn tracking_part(node: &mut Node, _: Caller, args: Args<'_>, _: &mut Vec<Output>) -> Result<Part, Refusal> {
    let redirect = parse(args)?.redirect;
    let found = redirect.and_then(|wanted| node.clients.iter().find(|client| client.number == wanted));
    let cell = node.cells.me;
    Ok(Part::Client(found.map(|client| Target { number: client.number, cell, conn: client.id })))
}

fn tracking(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    let parts = node.parts(&mut call)?;
    let found =
        parts.into_iter().find_map(|part| if let Part::Client(target) = part { target } else { None });
    let Call { conn, args, reply, .. } = call;
    let asked = parse(args)?;
    if asked.redirect.is_some() && found.is_none() {
        return Err(NO_SUCH_CLIENT);
    }
    let before = node.client(conn).tracking.take();
    if !asked.on {
        if let Some(before) = before {
            node.end_tracking(conn, &before);
        }
        reply.ok();
        return Ok(());
    }
    if let Err(refusal) = check(&asked, before.as_deref()) {
        node.client(conn).tracking = before;
        return Err(refusal);
    }
    let mode = match () {
        () if asked.broadcast => Mode::Broadcast,
        () if asked.opt_in => Mode::OptIn,
        () if asked.opt_out => Mode::OptOut,
        () => Mode::Read,
    };
    let mut tracking = before.unwrap_or_else(|| Box::new(ClientTracking::new(mode)));
    (tracking.mode, tracking.noloop) = (mode, asked.noloop);
    (tracking.redirect, tracking.broken) = (found, false);
    if asked.broadcast {
        let all: &[&[u8]] = &[b""];
        for prefix in if asked.prefixes.is_empty() { all } else { &asked.prefixes } {
            node.caching.table.add_prefix(conn, prefix);
            if !tracking.prefixes.iter().any(|known| **known == **prefix) {
                tracking.prefixes.push(Box::from(*prefix));
            }
        }
        tracking.prefixes.sort_unstable();
    }
    node.client(conn).tracking = Some(tracking);
    node.begin_tracking(conn);
    reply.ok();
    Ok(())
}

fn parse(args: Args<'_>) -> Result<Asked<'_>, Refusal> {
    let mut asked = Asked::default();
    let mut at = 3;
    while at < args.len() {
        let value = args.get(at + 1);
        if args.is(at, "redirect")
            && let Some(value) = value
        {
            if asked.redirect.is_some() {
                return Err(Refusal::text("ERR A client can only redirect to a single other client"));
            }
            let number = number::parse_i64(value).ok_or(Refusal::NotInteger)?;
            asked.redirect = Some(u64::try_from(number).map_err(|_| NO_SUCH_CLIENT)?);
            at += 1;
        } else if args.is(at, "prefix")
            && let Some(value) = value
        {
            asked.prefixes.push(value);
            at += 1;
        } else if args.is(at, "bcast") {
            asked.broadcast = true;
        } else if args.is(at, "optin") {
            asked.opt_in = true;
        } else if args.is(at, "optout") {
            asked.opt_out = true;
        } else if args.is(at, "noloop") {
            asked.noloop = true;
        } else {
            return Err(Refusal::Syntax);
        }
        at += 1;
    }
    asked.on = args.is(2, "on");
    if !asked.on && !args.is(2, "off") {
        return Err(Refusal::Syntax);
    }
    Ok(asked)
}

/// Refuses options that do not go together, or with what is on already.
fn check(asked: &Asked<'_>, before: Option<&ClientTracking>) -> Result<(), Refusal> {
    if !asked.broadcast && !asked.prefixes.is_empty() {
        return Err(Refusal::text("ERR PREFIX option requires BCAST mode to be enabled"));
    }
    if before.is_some_and(|before| (before.mode == Mode::Broadcast) != asked.broadcast) {
        return Err(Refusal::text(
            "ERR You can't switch BCAST mode on/off before disabling tracking for this client, and then re-enabling it with \
             a different mode.",
        ));
    }
    if asked.broadcast && (asked.opt_in || asked.opt_out) {
        return Err(Refusal::text("ERR OPTIN and OPTOUT are not compatible with BCAST"));
    }
    if asked.opt_in && asked.opt_out {
        return Err(Refusal::text("ERR You can't specify both OPTIN mode and OPTOUT mode"));
    }
    let was = before.map(|before| before.mode);
    if asked.opt_in && was == Some(Mode::OptOut) || asked.opt_out && was == Some(Mode::OptIn) {
        return Err(Refusal::text(
            "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, and then re-enabling it with \
             a different mode.",
        ));
    }
    let known = before.map_or(&[][..], |before| &before.prefixes);
    let count = known.len() + asked.prefixes.len();
    if count > PREFIXES_MAX {
        let text = format!("ERR connection would have {count} prefixes, limit is {PREFIXES_MAX}");
        return Err(Refusal::format(text));
    }
    for (at, prefix) in asked.prefixes.iter().enumerate() {
        if let Some(other) = known.iter().find(|known| overlap(known, prefix)) {
            return Err(overlaps(prefix, "an existing prefix", other));
        }
        if let Some(other) = asked.prefixes[at + 1..].iter().find(|other| overlap(other, prefix)) {
            return Err(overlaps(prefix, "another provided prefix", other));
        }
    }
    Ok(())
}

fn overlap(one: &[u8], other: &[u8]) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

fn overlaps(prefix: &[u8], what: &str, other: &[u8]) -> Refusal {
    Refusal::format(format!(
        "ERR Prefix '{}' overlaps with {what} '{}'. Prefixes for a single client must not overlap.",
        String::from_utf8_lossy(prefix),
        String::from_utf8_lossy(other)
    ))
}

fn caching(node: &mut Node, call: Call) -> Result<(), Refusal> {
    let Some(tracking) = node.client(call.conn).tracking.as_deref_mut() else {
        return Err(Refusal::text(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled",
        ));
    };
    match () {
        () if call.args.is(2, "yes") && tracking.mode == Mode::OptIn => {}
        () if call.args.is(2, "yes") => {
            return Err(Refusal::text(
                "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
            ));
        }
        () if call.args.is(2, "no") && tracking.mode == Mode::OptOut => {}
        () if call.args.is(2, "no") => {
            return Err(Refusal::text(
                "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
            ));
        }
        () => return Err(Refusal::Syntax),
    }
    tracking.caching = true;
    call.reply.ok();
    Ok(())
}

fn getredir(node: &mut Node, call: Call) -> Result<(), Refusal> {
    call.reply.int(node.client(call.conn).redirects_to());
    Ok(())
}

fn trackinginfo(node: &mut Node, call: Call) -> Result<(), Refusal> {
    let client = node.client(call.conn);
    let mut flags = Vec::new();
    let mut prefixes: &[Box<[u8]>] = &[];
    match client.tracking.as_deref() {
        None => flags.push("off"),
        Some(tracking) => {
            flags.push("on");
            let (mode, next) = match tracking.mode {
                Mode::Read => (None, None),
                Mode::Broadcast => (Some("bcast"), None),
                Mode::OptIn => (Some("optin"), Some("caching-yes")),
                Mode::OptOut => (Some("optout"), Some("caching-no")),
            };
            flags.extend(mode);
            flags.extend(next.filter(|_| tracking.caching));
            flags.extend(tracking.noloop.then_some("noloop"));
            flags.extend(tracking.broken.then_some("broken_redirect"));
            prefixes = &tracking.prefixes;
        }
    }
    call.reply.map(3);
    call.reply.bulk(b"flags");
    call.reply.set(flags.len());
    flags.iter().for_each(|flag| call.reply.bulk(flag.as_bytes()));
    call.reply.bulk(b"redirect");
    call.reply.int(client.redirects_to());
    call.reply.bulk(b"prefixes");
    call.reply.array(prefixes.len());
    prefixes.iter().for_each(|prefix| call.reply.bulk(prefix));
    Ok(())
}
