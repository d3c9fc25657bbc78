//! Commands about the connection itself.

use skep_base::{ConnId, Refusal, number};
use skep_keyspace::parse_database;
use skep_resp::Protocol;

use super::{Call, Group};
use crate::Node;
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

/// The only user until there are ACLs.
pub(crate) const DEFAULT_USER: &[u8] = b"default";

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
    let open = node.settings.requirepass().is_empty();
    node.end_subscriptions(call.conn);
    let client = node.client(call.conn);
    client.db = 0;
    client.name.clear();
    client.protocol = Protocol::Resp2;
    client.authenticated = open;
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
        2 => node.authenticate(call.conn, None, &args[1])?,
        3 => node.authenticate(call.conn, Some(&args[1]), &args[2])?,
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
        node.authenticate(conn, Some(user), password)?;
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

impl Node {
    fn authenticate(&mut self, conn: ConnId, user: Option<&[u8]>, password: &[u8]) -> Result<(), Refusal> {
        let expected = self.settings.requirepass();
        if expected.is_empty() && user.is_none() {
            return Err(Refusal::text(
                "ERR AUTH <password> called without any password configured for the default user. Are you sure your \
                 configuration is correct?",
            ));
        }
        let known = user.is_none_or(|user| user == DEFAULT_USER);
        // Without a password the default user is let in with any, as in Redis.
        let right = expected.is_empty() || same(expected.as_bytes(), password);
        if !known || !right {
            return Err(Refusal::text("WRONGPASS invalid username-password pair or user is disabled."));
        }
        self.client(conn).authenticated = true;
        Ok(())
    }
}

/// Compares in time that does not depend on where the texts differ.
fn same(a: &[u8], b: &[u8]) -> bool {
    let mut differ = a.len() ^ b.len();
    for (i, x) in a.iter().enumerate() {
        differ |= usize::from(x ^ b.get(i).copied().unwrap_or(!x));
    }
    differ == 0
}
