//! `SUBSCRIBE`, `PUBLISH`, `PUBSUB` and their kin.
//!
//! Who subscribes is told for each name in a push of its own, which is heard even while replies are off, as in Redis.

use skep_base::{ConnId, Refusal};
use skep_command::CommandSpec;
use skep_pubsub::{CLIENT_BYTES_MAX, Kind, Message, NAME_BYTES_MAX, Refused};
use skep_resp::{Protocol, Reply};

use super::{Call, Group, too_many};
use crate::Node;

pub const COMMANDS: Group = &[
    ("psubscribe", psubscribe),
    ("publish", publish),
    ("pubsub|channels", channels),
    ("pubsub|help", super::help),
    ("pubsub|numpat", numpat),
    ("pubsub|numsub", numsub),
    ("pubsub|shardchannels", shardchannels),
    ("pubsub|shardnumsub", shardnumsub),
    ("punsubscribe", punsubscribe),
    ("spublish", spublish),
    ("ssubscribe", ssubscribe),
    ("subscribe", subscribe),
    ("sunsubscribe", sunsubscribe),
    ("unsubscribe", unsubscribe),
];

/// What a client may run that listens and speaks RESP2, where a reply could not be told from a message.
const ALLOWED: &[&str] = &[
    "ping",
    "psubscribe",
    "punsubscribe",
    "quit",
    "reset",
    "ssubscribe",
    "subscribe",
    "sunsubscribe",
    "unsubscribe",
];

/// Why a command may not be run by a client that listens and speaks RESP2.
pub(crate) fn refused_while_listening(command: &CommandSpec) -> Option<Refusal> {
    let allowed = ALLOWED.contains(&command.name);
    (!allowed).then(|| {
        Refusal::format(format!(
            "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this \
             context",
            command.name
        ))
    })
}

fn subscribe(node: &mut Node, call: Call) -> Result<(), Refusal> {
    begin(node, call, Kind::Channel)
}

fn psubscribe(node: &mut Node, call: Call) -> Result<(), Refusal> {
    begin(node, call, Kind::Pattern)
}

fn ssubscribe(node: &mut Node, call: Call) -> Result<(), Refusal> {
    begin(node, call, Kind::Shard)
}

fn unsubscribe(node: &mut Node, call: Call) -> Result<(), Refusal> {
    end(node, call, Kind::Channel)
}

fn punsubscribe(node: &mut Node, call: Call) -> Result<(), Refusal> {
    end(node, call, Kind::Pattern)
}

fn sunsubscribe(node: &mut Node, call: Call) -> Result<(), Refusal> {
    end(node, call, Kind::Shard)
}

/// Subscribes to all names, or to none.
fn begin(node: &mut Node, call: Call, kind: Kind) -> Result<(), Refusal> {
    let Call { conn, args, reply, heard, .. } = call;
    let mark = reply.mark();
    let mut added: Vec<&[u8]> = Vec::new();
    for name in args.from(1).iter() {
        match node.pubsub.table.subscribe(conn, kind, name) {
            Ok(true) => added.push(name),
            Ok(false) => {}
            Err(refused) => {
                reply.rewind(mark);
                for name in added {
                    node.pubsub.table.unsubscribe(conn, kind, name);
                }
                return Err(refusal(refused));
            }
        }
        let word = ["subscribe", "psubscribe", "ssubscribe"][kind as usize];
        tell(node, conn, (kind, word), Some(name), reply);
    }
    *heard = true;
    node.client(conn).subscribed = true;
    Ok(())
}

fn end(node: &mut Node, call: Call, kind: Kind) -> Result<(), Refusal> {
    let Call { conn, args, reply, heard, .. } = call;
    let word = ["unsubscribe", "punsubscribe", "sunsubscribe"][kind as usize];
    if args.len() > 1 {
        for name in args.from(1).iter() {
            node.pubsub.table.unsubscribe(conn, kind, name);
            tell(node, conn, (kind, word), Some(name), reply);
        }
    } else {
        let names = node.pubsub.table.names_of(conn, kind);
        for name in &names {
            node.pubsub.table.unsubscribe(conn, kind, name);
            tell(node, conn, (kind, word), Some(name), reply);
        }
        if names.is_empty() {
            tell(node, conn, (kind, word), None, reply);
        }
    }
    *heard = true;
    node.client(conn).subscribed = node.listens(conn);
    Ok(())
}

/// Writes the push for a name: what was done, to which, and how many of its kind the client listens to. Channels and patterns
/// count as one kind.
fn tell(node: &Node, conn: ConnId, (kind, word): (Kind, &str), name: Option<&[u8]>, reply: &mut Reply<'_>) {
    let count = |kind| node.pubsub.table.count_of(conn, kind);
    reply.push(3);
    reply.bulk(word.as_bytes());
    reply.bulk_or_null(name);
    reply.len(match kind {
        Kind::Shard => count(Kind::Shard),
        Kind::Channel | Kind::Pattern => count(Kind::Channel) + count(Kind::Pattern),
    });
}

fn refusal(refused: Refused) -> Refusal {
    Refusal::format(match refused {
        Refused::Long(bytes) => format!("ERR name is {bytes} bytes, limit is {NAME_BYTES_MAX}"),
        Refused::Many(bytes) => {
            format!(
                "ERR subscriptions of this connection would take {bytes} bytes, limit is {CLIENT_BYTES_MAX}"
            )
        }
    })
}

fn publish(node: &mut Node, call: Call) -> Result<(), Refusal> {
    send(node, call, Kind::Channel)
}

fn spublish(node: &mut Node, call: Call) -> Result<(), Refusal> {
    send(node, call, Kind::Shard)
}

fn send(node: &mut Node, call: Call, kind: Kind) -> Result<(), Refusal> {
    let Call { conn, args, reply, out, .. } = call;
    let message = Message { kind, channel: &args[1], payload: &args[2] };
    reply.int(node.publish(message, Some(conn), out) as i64);
    Ok(())
}

fn channels(node: &mut Node, call: Call) -> Result<(), Refusal> {
    list(node, call, Kind::Channel)
}

fn shardchannels(node: &mut Node, call: Call) -> Result<(), Refusal> {
    list(node, call, Kind::Shard)
}

fn list(node: &mut Node, call: Call, kind: Kind) -> Result<(), Refusal> {
    if call.args.len() > 3 {
        return Err(too_many(call.args));
    }
    let names = node.pubsub.table.names(kind, call.args.get(2));
    call.reply.array(names.len());
    names.iter().for_each(|name| call.reply.bulk(name));
    Ok(())
}

fn numsub(node: &mut Node, call: Call) -> Result<(), Refusal> {
    count(node, call, Kind::Channel)
}

fn shardnumsub(node: &mut Node, call: Call) -> Result<(), Refusal> {
    count(node, call, Kind::Shard)
}

fn count(node: &mut Node, call: Call, kind: Kind) -> Result<(), Refusal> {
    let names = call.args.from(2);
    call.reply.array(2 * names.len());
    for name in names.iter() {
        call.reply.bulk(name);
        call.reply.int(node.pubsub.table.count(kind, name) as i64);
    }
    Ok(())
}

fn numpat(node: &mut Node, call: Call) -> Result<(), Refusal> {
    call.reply.len(node.pubsub.table.distinct(Kind::Pattern));
    Ok(())
}

/// `PING` of a client that listens and speaks RESP2: in the shape of a message.
pub(super) fn ping(call: Call) {
    call.reply.array(2);
    call.reply.bulk(b"pong");
    call.reply.bulk(call.args.get(1).unwrap_or_default());
}

impl Node {
    /// True if a client listens to something.
    fn listens(&self, conn: ConnId) -> bool {
        [Kind::Channel, Kind::Pattern, Kind::Shard]
            .iter()
            .any(|kind| self.pubsub.table.count_of(conn, *kind) > 0)
    }

    /// Ends all that a client listens to, untold: `RESET`, or it is gone.
    pub(crate) fn end_subscriptions(&mut self, conn: ConnId) {
        self.pubsub.table.forget(conn);
        if let Some(client) = self.clients.get_mut(conn) {
            client.subscribed = false;
        }
    }

    /// True if a client gets messages in the place of replies.
    pub(crate) fn is_listening(&self, conn: ConnId) -> bool {
        self.clients.get(conn).is_some_and(|client| client.subscribed && client.protocol == Protocol::Resp2)
    }
}
