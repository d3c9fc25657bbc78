//! `CLIENT` for all connections: `LIST` and `INFO` describe them, `KILL` closes them.
//!
//! A line has the fields of Redis 7.4 in its order. What this process has no figure for is `fd` (-1: the core knows no
//! descriptors).

use std::fmt::Write;

use skep_base::{Args, ConnId, Refusal, number};
use skep_pubsub::Kind as Listens;
use skep_resp::Protocol;

use super::{Call, Group, Parts};
use crate::cells::{Caller, Part};
use crate::client::Client;
use crate::tracking::Mode;
use crate::{Node, Output};

pub const COMMANDS: Group = &[("client|info", info), ("client|kill", kill), ("client|list", list)];

pub const PARTS: Parts = &[("client|kill", kill_part), ("client|list", list_part)];

fn info(node: &mut Node, call: Call) -> Result<(), Refusal> {
    let mut lines = String::new();
    node.write_line(
        node.clients.get(call.conn).expect("a client stays while its command runs"),
        (call.conn, call.args),
        &mut lines,
    );
    call.reply.verbatim(&lines);
    Ok(())
}

fn list(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    let mut lines = Vec::new();
    for part in node.parts(&mut call)? {
        if let Part::Lines(of) = part {
            lines.extend(of);
        }
    }
    lines.sort_unstable();
    call.reply.verbatim(&lines.into_iter().map(|(_, line)| line).collect::<String>());
    Ok(())
}

fn list_part(node: &mut Node, caller: Caller, args: Args<'_>, _: &mut Vec<Output>) -> Result<Part, Refusal> {
    let mut wanted = Filter::default();
    if args.len() == 4 && args.is(2, "type") {
        wanted.kind = Some(kind(&args[3])?);
    } else if args.len() > 3 && args.is(2, "id") {
        let bad_id = Refusal::text("ERR Invalid client ID");
        let numbers: Option<Vec<i64>> = args.from(3).iter().map(number::parse_i64).collect();
        wanted.numbers = Some(numbers.ok_or(bad_id)?);
    } else if args.len() != 2 {
        return Err(Refusal::Syntax);
    }
    // Elsewhere the caller is none of the clients.
    let conn = if caller.cell == node.cells.me { caller.conn } else { NOBODY };
    let mut lines = Vec::new();
    for client in node.clients.iter().filter(|client| wanted.takes(client, node)) {
        let mut line = String::new();
        node.write_line(client, (conn, args), &mut line);
        lines.push((client.number, line));
    }
    Ok(Part::Lines(lines))
}

fn kill(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    let of = |part: Part| if let Part::Count(killed) = part { killed } else { 0 };
    let killed: usize = node.parts(&mut call)?.into_iter().map(of).sum();
    match call.args.len() == 3 {
        true if killed == 0 => return Err(Refusal::text("ERR No such client")),
        true => call.reply.ok(),
        false => call.reply.len(killed),
    }
    Ok(())
}

fn kill_part(
    node: &mut Node,
    caller: Caller,
    args: Args<'_>,
    out: &mut Vec<Output>,
) -> Result<Part, Refusal> {
    let conn = if caller.cell == node.cells.me { caller.conn } else { NOBODY };
    let old_form = args.len() == 3;
    let mut wanted = match old_form {
        true => Filter { address: Some(lossy(&args[2])), ..Filter::default() },
        false => Filter::parse(args.from(2))?,
    };
    if let Some(user) = wanted.user.as_deref().filter(|user| node.acl.user(user).is_none()) {
        return Err(Refusal::format(format!("ERR No such user '{}'", lossy(user))));
    }
    if !wanted.with_caller.unwrap_or(old_form) {
        wanted.not = Some(conn);
    }
    let killed: Vec<ConnId> =
        node.clients_by_number().into_iter().filter(|c| wanted.takes(c, node)).map(|c| c.id).collect();
    for killed in &killed {
        if *killed == conn {
            node.client(conn).closing = true; // its reply goes out first
        } else {
            node.drop_client(*killed, "killed by CLIENT KILL".into(), out);
        }
    }
    Ok(Part::Count(killed.len()))
}

/// The id of no connection: they count from 1.
const NOBODY: ConnId = ConnId(0);

/// What a connection is used for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Master,
    Replica,
    PubSub,
}

fn kind(name: &[u8]) -> Result<Kind, Refusal> {
    match name.to_ascii_lowercase().as_slice() {
        b"normal" => Ok(Kind::Normal),
        b"master" => Ok(Kind::Master),
        b"replica" | b"slave" => Ok(Kind::Replica),
        b"pubsub" => Ok(Kind::PubSub),
        _ => Err(Refusal::format(format!("ERR Unknown client type '{}'", lossy(name)))),
    }
}

fn kind_of(client: &Client) -> Kind {
    if client.subscribed { Kind::PubSub } else { Kind::Normal }
}

/// Conditions, all of which a connection has to meet.
#[derive(Default)]
struct Filter {
    numbers: Option<Vec<i64>>,
    address: Option<String>,
    local_address: Option<String>,
    kind: Option<Kind>,
    user: Option<Vec<u8>>,
    /// At least as old as this.
    age_seconds: Option<u64>,
    with_caller: Option<bool>,
    not: Option<ConnId>,
}

impl Filter {
    /// The filters of `CLIENT KILL`, each a name and a value.
    fn parse(args: Args<'_>) -> Result<Filter, Refusal> {
        let mut filter = Filter::default();
        for at in (0..args.len()).step_by(2) {
            let Some(value) = args.get(at + 1) else { return Err(Refusal::Syntax) };
            match args[at].to_ascii_lowercase().as_slice() {
                b"id" => {
                    let number = number::parse_i64(value).filter(|n| *n > 0);
                    let number = number.ok_or(Refusal::text("ERR client-id should be greater than 0"))?;
                    filter.numbers = Some(vec![number]);
                }
                b"addr" => filter.address = Some(lossy(value)),
                b"laddr" => filter.local_address = Some(lossy(value)),
                b"type" => filter.kind = Some(kind(value)?),
                b"user" => filter.user = Some(value.to_vec()),
                b"skipme" if value.eq_ignore_ascii_case(b"yes") => filter.with_caller = Some(false),
                b"skipme" if value.eq_ignore_ascii_case(b"no") => filter.with_caller = Some(true),
                b"maxage" => {
                    let age = number::parse_i64(value)
                        .ok_or(Refusal::text("ERR maxage is not an integer or out of range"))?;
                    let positive = u64::try_from(age).ok().filter(|age| *age > 0);
                    let bad_age = Refusal::text("ERR maxage should be greater than 0");
                    filter.age_seconds = Some(positive.ok_or(bad_age)?);
                }
                _ => return Err(Refusal::Syntax),
            }
        }
        Ok(filter)
    }

    fn takes(&self, client: &Client, node: &Node) -> bool {
        !client.inside
            && self.numbers.as_ref().is_none_or(|numbers| numbers.contains(&(client.number as i64)))
            && self.address.as_ref().is_none_or(|address| *address == client.address)
            && self.local_address.as_ref().is_none_or(|address| *address == client.local_address)
            && self.kind.is_none_or(|kind| kind == kind_of(client))
            && self.user.as_ref().is_none_or(|user| *user == client.user[..])
            && self.age_seconds.is_none_or(|age| node.now.mono.since(client.created) / 1_000 >= age)
            && self.not != Some(client.id)
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

impl Node {
    /// All connections, the oldest first.
    fn clients_by_number(&self) -> Vec<&Client> {
        let mut clients: Vec<&Client> = self.clients.iter().collect();
        clients.sort_unstable_by_key(|c| c.number);
        clients
    }

    /// The line of a client, without its end.
    pub(crate) fn line_of(&self, client: &Client) -> String {
        let mut line = String::new();
        self.write_line(client, (NOBODY, Args::new(&[], &[])), &mut line);
        line.truncate(line.trim_end().len());
        line
    }

    /// Appends the line of `client`. The caller's own buffers are with its command while that runs.
    fn write_line(&self, client: &Client, (caller, args): (ConnId, Args<'_>), lines: &mut String) {
        let argument_bytes = if client.id == caller { args.bytes() } else { 0 };
        let mut flags = String::new();
        let open = client.transaction.as_ref().filter(|transaction| transaction.is_open());
        for (flag, is_set) in [
            ('O', client.monitors),
            ('P', client.subscribed),
            ('x', open.is_some()),
            ('t', client.tracking.is_some()),
            ('R', client.tracking.as_ref().is_some_and(|tracking| tracking.broken)),
            ('B', client.tracking.as_ref().is_some_and(|tracking| tracking.mode == Mode::Broadcast)),
            ('b', client.blocked || client.waiting && client.waits_on.is_nowhere() && client.id != caller),
            ('c', client.closing),
            ('e', client.no_evict),
            ('T', client.no_touch),
        ] {
            if is_set {
                flags.push(flag);
            }
        }
        if flags.is_empty() {
            flags.push('N');
        }
        let table = &self.pubsub.table;
        let listens_to = |kind| table.count_of(client.id, kind);
        // Writing to a String cannot fail.
        let _ = writeln!(
            lines,
            "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={} db={} sub={} psub={} ssub={} multi={} watch={} \
             qbuf={} qbuf-free={} argv-mem={} multi-mem={} rbs={} rbp={} obl={} oll=0 omem=0 tot-mem={} events={} \
             cmd={} user={} redir={} resp={} lib-name={} lib-ver={}",
            client.number,
            client.address,
            client.local_address,
            lossy(&client.name),
            self.now.mono.since(client.created) / 1_000,
            self.now.mono.since(client.last_active) / 1_000,
            flags,
            client.db,
            listens_to(Listens::Channel),
            listens_to(Listens::Pattern),
            listens_to(Listens::Shard),
            open.map_or(-1, |transaction| transaction.len() as i64),
            client.transaction.as_ref().map_or(0, |transaction| transaction.watched_len()),
            client.unread(),
            client.input.capacity() - client.unread(),
            argument_bytes,
            open.map_or(0, |transaction| transaction.memory_bytes()),
            client.output.capacity(),
            client.output.len(),
            client.unsent(),
            client.memory_bytes() + table.bytes_of(client.id) + argument_bytes,
            if client.unsent() > 0 { "rw" } else { "r" },
            client.last_command,
            lossy(&client.user),
            client.redirects_to(),
            if client.protocol == Protocol::Resp3 { 3 } else { 2 },
            lossy(&client.library_name),
            lossy(&client.library_version),
        );
    }
}
