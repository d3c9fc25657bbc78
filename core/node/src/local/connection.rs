//! Commands about the connection itself.

use skep_base::{Refusal, number};
use skep_keyspace::parse_database;
use skep_resp::Protocol;

use super::{Call, Group};
use crate::Node;
use crate::acl::log_out;
use crate::client::ReplyMode;

pub const COMMANDS: Group = &[
    ("auth", auth),
    ("echo", echo),
    ("hello", hello),
    ("ping", ping),
    ("quit", quit),
    ("reset", reset),
    ("select", select),
];

/// The version of Redis whose behaviour we follow; clients decide by it what they may use.
pub(crate) const REDIS_VERSION: &str = "7.4.2";

fn ping(node: &mut Node, call: Call) -> Result<(), Refusal> {
    match call.args.len() {
        1 | 2 if node.is_listening(call.conn) => super::pubsub::ping(call),
        1 => call.reply.simple("PONG"),
        2 => call.reply.bulk(&call.args[1]),
        _ => return Err(Refusal::WrongArity("ping".into())),
    }
    Ok(())
}

fn echo(_: &mut Node, call: Call) -> Result<(), Refusal> {
    call.reply.bulk(&call.args[1]);
    Ok(())
}

fn quit(node: &mut Node, call: Call) -> Result<(), Refusal> {
    node.client(call.conn).closing = true;
    call.reply.ok();
    Ok(())
}

fn select(node: &mut Node, call: Call) -> Result<(), Refusal> {
    node.client(call.conn).db = parse_database(&call.args[1])?;
    call.reply.ok();
    Ok(())
}

fn reset(node: &mut Node, call: Call) -> Result<(), Refusal> {
    node.end_subscriptions(call.conn);
    node.end_monitor(call.conn);
    let login = node.acl.first_login();
    if let Some(tracking) = node.client(call.conn).tracking.take() {
        node.end_tracking(call.conn, &tracking);
    }
    let client = node.client(call.conn);
    log_out(client, login);
    client.db = 0;
    client.name.clear();
    client.protocol = Protocol::Resp2;
    client.reply_mode = ReplyMode::On;
    client.no_touch = false;
    client.no_evict = false;
    client.transaction = None;
    *call.heard = true;
    call.reply.set_protocol(Protocol::Resp2);
    call.reply.simple("RESET");
    Ok(())
}

fn auth(node: &mut Node, call: Call) -> Result<(), Refusal> {
    let args = call.args;
    match args.len() {
        2 => node.authenticate(call.conn, None, &args[1], args)?,
        3 => node.authenticate(call.conn, Some(&args[1]), &args[2], args)?,
        _ => return Err(Refusal::Syntax),
    }
    call.reply.ok();
    Ok(())
}

fn hello(node: &mut Node, call: Call) -> Result<(), Refusal> {
    let Call { conn, args, reply, .. } = call;
    let mut protocol = None;
    if let Some(version) = args.get(1) {
        let version = number::parse_i64(version)
            .ok_or(Refusal::text("ERR Protocol version is not an integer or out of range"))?;
        protocol = Some(match version {
            2 => Protocol::Resp2,
            3 => Protocol::Resp3,
            _ => return Err(Refusal::text("NOPROTO unsupported protocol version")),
        });
    }
    let (mut credentials, mut name) = (None, None);
    let mut at = 2;
    while at < args.len() {
        let left = args.len() - at;
        if args.is(at, "auth") && left > 2 {
            credentials = Some((&args[at + 1], &args[at + 2]));
            at += 3;
        } else if args.is(at, "setname") && left > 1 {
            check_name(&args[at + 1])?;
            name = Some(&args[at + 1]);
            at += 2;
        } else {
            let option = String::from_utf8_lossy(&args[at]);
            return Err(Refusal::format(format!("ERR Syntax error in HELLO option '{option}'")));
        }
    }
    if let Some((user, password)) = credentials {
        node.authenticate(conn, Some(user), password, args)?;
    }
    let client = node.client(conn);
    if !client.authenticated {
        return Err(Refusal::text(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH \
             <user> <pass> option can be used to authenticate the client and select the RESP protocol version at the \
             same time",
        ));
    }
    if let Some(name) = name {
        client.name = name.to_vec();
    }
    if let Some(protocol) = protocol {
        client.protocol = protocol;
        reply.set_protocol(protocol);
    }
    reply.map(7);
    for (name, value) in [("server", "redis"), ("version", REDIS_VERSION)] {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"proto");
    reply.int(if client.protocol == Protocol::Resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.int(client.number as i64);
    for (name, value) in [("mode", "standalone"), ("role", "master")] {
        reply.bulk(name.as_bytes());
        reply.bulk(value.as_bytes());
    }
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}

/// Refuses names that would break the lines of `CLIENT LIST`.
pub(crate) fn check_name(name: &[u8]) -> Result<(), Refusal> {
    if name.iter().all(|b| (b'!'..=b'~').contains(b)) {
        return Ok(());
    }
    Err(Refusal::text("ERR Client names cannot contain spaces, newlines or special characters."))
}
