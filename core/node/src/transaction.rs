//! `MULTI`, `EXEC`, `DISCARD`, `WATCH`, `UNWATCH`: commands of a client are kept, and become one operation.
//!
//! What the shard does with it is in `core/keyspace` (`transaction.rs`). Commands of the node within a transaction run when its
//! reply is there, and only if it was carried out, so that a watched key that has changed stops them as well.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use skep_base::args::{OwnedArgs, Span};
use skep_base::{Args, ConnId, GroupId, Refusal};
use skep_command::{CommandId, CommandSpec, Flags, id_of};
use skep_keyspace::{
    EXEC_READ, Handler, Head, Terms, Version, Watched, first_queued, handler_of, parse_database, put_queued,
};
use skep_resp::{Protocol, Reply, Value, reply_len};

use crate::joined::Becomes;
use crate::local::{Call as LocalCall, Local, Route};
use crate::on_client::Flow;
use crate::place::Place;
use crate::run::{Asked, COMMAND_BYTES_MAX, call_of, not_ready, too_large};
use crate::scripting::runs_script;
use crate::{Node, Output};

/// Commands that steer the queueing. They answer in the order of the client's replies, and need not wait for them.
pub(crate) const COMMANDS: &[(&str, Steer)] =
    &[("discard", discard), ("exec", exec), ("multi", multi), ("unwatch", unwatch), ("watch", watch)];

/// A command of [`COMMANDS`].
pub(crate) type Steer = fn(&mut Node, ConnId, Args<'_>, &mut Vec<Output>) -> Flow;

pub(crate) const EXEC: CommandId = id_of("exec");
/// Commands that have no reply, or several, where a transaction's has one for each.
const NOT_INSIDE: [&str; 8] = [
    "client|reply",
    "monitor",
    "psubscribe",
    "punsubscribe",
    "ssubscribe",
    "subscribe",
    "sunsubscribe",
    "unsubscribe",
];
const QUIT: CommandId = id_of("quit");
const RESET: CommandId = id_of("reset");
const SELECT: CommandId = id_of("select");

/// The name in front of the arguments of an `exec`.
const NAME: &[u8] = b"exec";

/// What a client keeps until `EXEC`. Kept for its memory afterwards.
#[derive(Default)]
pub(crate) struct Transaction {
    /// Between `MULTI` and `EXEC`.
    open: bool,
    /// A command was refused: `EXEC` will be, too.
    failed: bool,
    /// By database and key.
    watched: BTreeMap<(u8, Vec<u8>), Version>,
    watched_bytes: usize,
    /// The shard of its keys.
    shard: Option<GroupId>,
    /// The name and the commands on keys, encoded.
    keyed: Vec<u8>,
    keyed_count: usize,
    /// All commands on keys, for the counters.
    commands: Vec<&'static CommandSpec>,
    /// What is to be done, in order, if there is more than commands on keys.
    steps: Vec<Step>,
    writes: bool,
    grows: bool,
    runs_scripts: bool,
    /// The database that the next command uses.
    db: u8,
    /// Bytes of the commands of the node.
    own_bytes: usize,
}

/// A queued command, by who runs it.
pub(crate) enum Step {
    Keyed,
    Own { command: &'static CommandSpec, run: Local, args: OwnedArgs },
}

impl Transaction {
    /// True between `MULTI` and `EXEC`.
    #[inline]
    pub fn is_open(&self) -> bool {
        self.open
    }

    pub fn watched_len(&self) -> usize {
        self.watched.len()
    }

    /// Commands queued.
    pub fn len(&self) -> usize {
        if self.steps.is_empty() { self.keyed_count } else { self.steps.len() }
    }

    /// Takes note that a command was refused. What was queued is of no use any more.
    pub fn fail(&mut self) {
        if self.open {
            self.clear_queue();
            self.failed = true;
        }
    }

    pub fn memory_bytes(&self) -> usize {
        size_of::<Transaction>()
            + self.keyed.capacity()
            + self.own_bytes
            + self.watched_bytes
            + self.commands.capacity() * size_of::<usize>()
            + self.steps.capacity() * size_of::<Step>()
    }

    fn bytes(&self) -> usize {
        self.keyed.len() + self.own_bytes
    }

    fn clear_queue(&mut self) {
        const KEPT_BYTES_MAX: usize = 64 * 1024;
        if self.keyed.capacity() > KEPT_BYTES_MAX {
            self.keyed = Vec::new();
            self.commands = Vec::new();
        }
        self.keyed.clear();
        self.commands.clear();
        self.steps = Vec::new();
        (self.keyed_count, self.own_bytes) = (0, 0);
        (self.writes, self.grows, self.runs_scripts) = (false, false, false);
    }

    /// Ends the transaction and forgets the watched keys.
    fn end(&mut self) {
        self.clear_queue();
        self.watched = BTreeMap::new();
        self.watched_bytes = 0;
        (self.open, self.failed, self.shard) = (false, false, None);
    }
}

impl Node {
    /// A command of a client that is between `MULTI` and `EXEC`: queues it. `None` if it is to run at once all the same.
    pub(crate) fn queue(
        &mut self,
        conn: ConnId,
        command: &'static CommandSpec,
        route: Route,
        args: Args<'_>,
    ) -> Option<Flow> {
        if matches!(route, Route::Steer(_)) || [QUIT, RESET].contains(&command.id()) {
            return None;
        }
        Some(match self.try_queue(conn, command, route, args) {
            Ok(()) => self.answer_in_order(conn, None, |reply| reply.simple("QUEUED")),
            Err(refusal) => self.refuse(conn, Some(command), &refusal),
        })
    }

    fn try_queue(
        &mut self,
        conn: ConnId,
        command: &'static CommandSpec,
        route: Route,
        args: Args<'_>,
    ) -> Result<(), Refusal> {
        let bytes_max = self.settings.client_query_buffer_bytes_max() as usize;
        let has_no_place = !matches!(route, Route::Keyspace(_)) && NOT_INSIDE.contains(&command.name);
        if command.flags.has(Flags::NO_MULTI) || has_no_place {
            return Err(Refusal::text("ERR Command not allowed inside a transaction"));
        }
        let client = self.client(conn);
        let tx = client.transaction.as_deref_mut().expect("the caller has seen it");
        let bytes = tx.bytes() + args.bytes();
        if bytes > bytes_max {
            let text = format!("ERR commands of the transaction are {bytes} bytes, limit is {bytes_max}");
            return Err(Refusal::format(text));
        }
        match route {
            Route::Keyspace(handler) => self.queue_keyed(conn, command, handler, args),
            Route::Local(_) if self.asks_cells() && self.routes.part_of(command).is_some() => {
                let text = format!(
                    "ERR {} asks all cells of this node, which a transaction cannot wait for; send it before MULTI or \
                     after EXEC",
                    command.name
                );
                Err(Refusal::format(text))
            }
            Route::Local(_) if matches!(command.name, "acl|setuser" | "acl|deluser") => {
                let text = format!(
                    "ERR {} changes the cluster, which a transaction cannot wait for; send it before MULTI or after EXEC",
                    command.name
                );
                Err(Refusal::format(text))
            }
            Route::Local(run) => {
                self.queue_own(conn, command, run, args);
                Ok(())
            }
            Route::Steer(_) | Route::None => Err(command.wrong_arity()),
        }
    }

    fn queue_keyed(
        &mut self,
        conn: ConnId,
        command: &'static CommandSpec,
        handler: Handler,
        args: Args<'_>,
    ) -> Result<(), Refusal> {
        if !self.ready || self.stopping {
            return Err(not_ready());
        }
        self.check_schedule(command, args)?;
        let group = self.group_for(command, args)?;
        let writes = matches!(handler, Handler::Write(_));
        if writes
            && let Some(at) = self.shard_of_group(group)
            && self.shards[at].leads()
        {
            self.admit_write(at, command, args)?;
        }
        let tx = self.client(conn).transaction.as_deref_mut().expect("the caller has seen it");
        tx.check_shard(group, command)?;
        if tx.failed {
            return Ok(());
        }
        if tx.keyed.is_empty() {
            tx.keyed.extend_from_slice(NAME);
        }
        put_queued(&mut tx.keyed, tx.db, args);
        tx.keyed_count += 1;
        tx.commands.push(command);
        tx.writes |= writes;
        tx.grows |= command.flags.has(Flags::DENYOOM);
        tx.runs_scripts |= runs_script(command, args);
        if !tx.steps.is_empty() {
            tx.steps.push(Step::Keyed);
        }
        Ok(())
    }

    fn queue_own(&mut self, conn: ConnId, command: &'static CommandSpec, run: Local, args: Args<'_>) {
        let tx = self.client(conn).transaction.as_deref_mut().expect("the caller has seen it");
        if tx.failed {
            return;
        }
        if command.id() == SELECT
            && let Ok(db) = parse_database(&args[1])
        {
            tx.db = db;
        }
        if tx.steps.is_empty() {
            tx.steps.extend((0..tx.keyed_count).map(|_| Step::Keyed));
        }
        tx.steps.push(Step::Own { command, run, args: OwnedArgs::copy(args) });
        tx.own_bytes += args.bytes() + size_of::<Step>();
    }

    /// The shard that a command's keys belong to.
    fn group_for(&self, command: &'static CommandSpec, args: Args<'_>) -> Result<GroupId, Refusal> {
        Ok(match self.shard_for(command, args)? {
            Place::Here(at) => self.shards[at].id,
            Place::Elsewhere(group) => group,
            Place::All => {
                let text = format!(
                    "ERR {} concerns all shards of this cluster; transactions over several shards are not available",
                    command.name
                );
                return Err(Refusal::format(text));
            }
        })
    }

    /// Answers a command that need not wait for those before it, in its place in the order of replies.
    pub(crate) fn answer_in_order(
        &mut self,
        conn: ConnId,
        command: Option<&'static CommandSpec>,
        write: impl FnOnce(&mut Reply),
    ) -> Flow {
        let Some(client) = self.clients.get_mut(conn) else { return Flow::Done };
        if let Some(command) = command {
            self.stats.called(command);
            client.last_command = command.name;
            client.commands += 1;
        }
        if client.begin_silence() {
            return Flow::Done;
        }
        if client.pending() == 0 {
            write(&mut Reply::new(&mut client.output, client.protocol));
        } else {
            let mut bytes = Vec::new();
            write(&mut Reply::new(&mut bytes, client.protocol));
            let op = client.begin_op(false);
            client.park(op, bytes);
        }
        Flow::Done
    }

    /// As [`Node::answer_in_order`], with an error.
    fn answer_error(&mut self, conn: ConnId, command: CommandId, refusal: &Refusal) -> Flow {
        self.stats.failed(command.spec(), refusal);
        self.answer_in_order(conn, Some(command.spec()), |reply| reply.refusal(refusal))
    }

    /// An `EXEC` with arguments: the transaction is over.
    pub(crate) fn refuse_exec(&mut self, conn: ConnId, refusal: &Refusal) -> Flow {
        if let Some(tx) = &mut self.client(conn).transaction {
            tx.end();
        }
        let text = refusal.to_string();
        let reason = text.strip_prefix("ERR ").unwrap_or(&text);
        let refusal = Refusal::format(format!("EXECABORT Transaction discarded because of: {reason}"));
        self.answer_error(conn, EXEC, &refusal)
    }

    /// Says no to a transaction for which there is no memory.
    #[cold]
    pub(crate) fn admit_transaction(&mut self, at: usize, args: Args<'_>) -> Result<(), Refusal> {
        let head = Head::of(args)?;
        if head.single {
            return first_queued(args, |args| match skep_command::resolve(args) {
                Ok(command) => self.admit_write(at, command, args),
                Err(refusal) => Err(refusal),
            })?;
        }
        if head.grows && !self.memory.admits_growth(args.bytes()) {
            return Err(Refusal::text(
                "EXECABORT Transaction discarded because of: OOM command not allowed when used memory > 'maxmemory'.",
            ));
        }
        Ok(())
    }

    /// Gives a transaction to its shard.
    fn give_transaction(
        &mut self,
        conn: ConnId,
        group: GroupId,
        mut tx: Box<Transaction>,
        out: &mut Vec<Output>,
    ) -> Flow {
        if tx.keyed.is_empty() {
            tx.keyed.extend_from_slice(NAME);
        }
        let end_of_commands = tx.keyed.len();
        let watched = std::mem::take(&mut tx.watched).into_iter();
        let head = Head {
            commands: tx.keyed_count,
            grows: tx.grows,
            single: false,
            watched: watched.map(|((db, key), version)| Watched { db, key, version }).collect(),
            terms: if tx.runs_scripts { self.terms_of(group) } else { Terms::default() },
        };
        head.put(&mut tx.keyed);
        let span = |start: usize, end: usize| Span { start: start as u32, len: (end - start) as u32 };
        let spans =
            [span(0, NAME.len()), span(NAME.len(), end_of_commands), span(end_of_commands, tx.keyed.len())];
        let args = Args::new(&tx.keyed, &spans);
        let command = EXEC.spec();
        if tx.writes {
            let led = self.shard_of_group(group).filter(|at| self.shards[*at].leads());
            let admitted = led.map_or(Ok(()), |at| self.admit_write(at, command, args));
            let fits = if args.bytes() > COMMAND_BYTES_MAX { Err(too_large(args)) } else { Ok(()) };
            if let Err(refusal) = admitted.and(fits) {
                tx.end();
                self.client(conn).transaction = Some(tx);
                return self.answer_error(conn, EXEC, &refusal);
            }
        }
        let handler = match handler_of(command) {
            Some(handler) if tx.writes => handler,
            _ => EXEC_READ,
        };
        let asked = Asked { conn, command, handler, args };
        for queued in &tx.commands {
            self.stats.called(queued);
        }
        if tx.steps.is_empty()
            && !tx.writes
            && let Some(at) = self.shard_of_group(group)
        {
            let flow = self.run_read(asked, at);
            if let Some(client) = self.clients.get_mut(conn) {
                tx.end();
                client.transaction = Some(tx);
            }
            return flow;
        }
        if tx.steps.is_empty() {
            let me = self.cells.me;
            let client = self.client(conn);
            let silent = client.begin_command(command.name);
            let call = call_of(client, me, asked, silent);
            self.give(group, call, args, out);
        } else {
            let steps = std::mem::take(&mut tx.steps);
            self.join(asked, &[group], Becomes::Transaction(steps), out);
        }
        if let Some(client) = self.clients.get_mut(conn) {
            tx.end();
            client.transaction = Some(tx);
        }
        Flow::Done
    }

    /// The versions of keys that a client wanted to watch are here, or an error.
    pub(crate) fn begin_watching(
        &mut self,
        conn: ConnId,
        db: u8,
        keys: Vec<Vec<u8>>,
        reply: &[u8],
        output: &mut Vec<u8>,
    ) {
        let parsed = Value::parse(reply).ok().flatten();
        let versions = parsed.as_ref().and_then(|(value, _)| value.as_elements());
        let Some(versions) = versions.filter(|versions| versions.len() == keys.len()) else {
            return output.extend_from_slice(reply);
        };
        let client = self.client(conn);
        let protocol = client.protocol;
        let tx = client.transaction.get_or_insert_default();
        for (key, version) in keys.into_iter().zip(versions) {
            let version = Version(version.as_int().unwrap_or_default() as u32);
            // What it had when it was watched first is what counts.
            let bytes = size_of::<Watched>() + key.len();
            if let Entry::Vacant(place) = tx.watched.entry((db, key)) {
                place.insert(version);
                tx.watched_bytes += bytes;
            }
        }
        Reply::new(output, protocol).ok();
    }

    /// Writes the reply to a transaction with commands of the node in it, and runs these if it was carried out.
    pub(crate) fn finish_transaction(
        &mut self,
        conn: ConnId,
        steps: Vec<Step>,
        keyed: &[u8],
        output: &mut Vec<u8>,
        out: &mut Vec<Output>,
    ) {
        // An array's head and the elements; or null, or an error.
        let is_array = keyed.first() == Some(&b'*') && !keyed.starts_with(b"*-");
        let head = keyed.windows(2).position(|two| two == b"\r\n").map_or(keyed.len(), |end| end + 2);
        if !is_array {
            return output.extend_from_slice(keyed);
        }
        let mut rest = &keyed[head..];
        let protocol = self.clients.get(conn).map_or(Protocol::Resp2, |client| client.protocol);
        Reply::new(output, protocol).array(steps.len());
        for step in steps {
            match step {
                Step::Keyed => {
                    let len = reply_len(rest).expect("each command of a transaction has its reply");
                    output.extend_from_slice(&rest[..len]);
                    rest = &rest[len..];
                }
                Step::Own { command, run, args } => {
                    let Some(client) = self.clients.get(conn) else { return };
                    self.stats.called(command);
                    let mark = output.len();
                    let mut reply = Reply::new(output, client.protocol);
                    let mut heard = true;
                    let call =
                        LocalCall { conn, args: args.args(), reply: &mut reply, out, heard: &mut heard };
                    if let Err(refusal) = run(self, call) {
                        reply.rewind(mark);
                        reply.refusal(&refusal);
                        self.stats.failed(command, &refusal);
                    }
                }
            }
        }
    }
}

impl Transaction {
    /// Takes note of the shard of a key. All keys of a transaction are of one.
    fn check_shard(&mut self, group: GroupId, command: &'static CommandSpec) -> Result<(), Refusal> {
        let known = *self.shard.get_or_insert(group);
        if known == group {
            return Ok(());
        }
        let text = format!(
            "ERR the keys of {} are in shard {group}, those of the transaction before in {known}; transactions over \
             several shards are not available: give keys that belong together a hash tag, as in {{tag}}key",
            command.name
        );
        Err(Refusal::format(text))
    }
}

fn multi(node: &mut Node, conn: ConnId, _: Args<'_>, _: &mut Vec<Output>) -> Flow {
    const MULTI: CommandId = id_of("multi");
    let client = node.client(conn);
    let db = client.db;
    let tx = client.transaction.get_or_insert_default();
    if tx.open {
        return node.answer_error(conn, MULTI, &Refusal::text("ERR MULTI calls can not be nested"));
    }
    (tx.open, tx.db) = (true, db);
    node.answer_in_order(conn, Some(MULTI.spec()), |reply| reply.ok())
}

fn discard(node: &mut Node, conn: ConnId, _: Args<'_>, _: &mut Vec<Output>) -> Flow {
    const DISCARD: CommandId = id_of("discard");
    match &mut node.client(conn).transaction {
        Some(tx) if tx.open => tx.end(),
        _ => return node.answer_error(conn, DISCARD, &Refusal::text("ERR DISCARD without MULTI")),
    }
    node.answer_in_order(conn, Some(DISCARD.spec()), |reply| reply.ok())
}

fn unwatch(node: &mut Node, conn: ConnId, args: Args<'_>, _: &mut Vec<Output>) -> Flow {
    const UNWATCH: CommandId = id_of("unwatch");
    if let Some(tx) = &mut node.client(conn).transaction {
        if tx.open {
            // When it runs, EXEC has forgotten them.
            node.queue_own(conn, UNWATCH.spec(), unwatched, args);
            return node.answer_in_order(conn, None, |reply| reply.simple("QUEUED"));
        }
        tx.end();
    }
    node.answer_in_order(conn, Some(UNWATCH.spec()), |reply| reply.ok())
}

fn unwatched(_: &mut Node, call: LocalCall) -> Result<(), Refusal> {
    call.reply.ok();
    Ok(())
}

/// `WATCH key ...`: asks the shard for the keys' versions. The client waits for them: `EXEC` needs them.
fn watch(node: &mut Node, conn: ConnId, args: Args<'_>, out: &mut Vec<Output>) -> Flow {
    const WATCH: CommandId = id_of("watch");
    let client = node.client(conn);
    if client.transaction.as_ref().is_some_and(|tx| tx.open) {
        return node.answer_error(conn, WATCH, &Refusal::text("ERR WATCH inside MULTI is not allowed"));
    }
    if client.pending() > 0 {
        client.waiting = true;
        return Flow::Wait;
    }
    let command = WATCH.spec();
    let found = match !node.ready || node.stopping {
        true => Err(not_ready()),
        false => node.group_for(command, args),
    };
    let group = found.and_then(|group| {
        let tx = node.client(conn).transaction.get_or_insert_default();
        if tx.watched.is_empty() {
            tx.shard = None;
        }
        tx.check_shard(group, command).map(|()| group)
    });
    let group = match group {
        Ok(group) => group,
        Err(refusal) => return node.refuse(conn, Some(command), &refusal),
    };
    let bytes_max = node.settings.client_query_buffer_bytes_max() as usize;
    let client = node.client(conn);
    let watched = client.transaction.as_ref().map_or(0, |tx| tx.watched_bytes);
    let bytes = watched + args.bytes() + args.len() * size_of::<Watched>();
    if bytes > bytes_max {
        let text = format!("ERR watched keys are {bytes} bytes, limit is {bytes_max}");
        return node.refuse(conn, Some(command), &Refusal::format(text));
    }
    let keys = args.from(1).iter().map(<[u8]>::to_vec).collect();
    let becomes = Becomes::Watched { db: client.db, keys };
    let handler = handler_of(command).expect("WATCH is carried out by shards");
    node.join(Asked { conn, command, handler, args }, &[group], becomes, out);
    Flow::Done
}

fn exec(node: &mut Node, conn: ConnId, _: Args<'_>, out: &mut Vec<Output>) -> Flow {
    let paused = node.paused.is_some();
    let no_keys = |tx: &Transaction| tx.keyed_count == 0 && tx.watched.is_empty();
    let client = node.client(conn);
    let pending = client.pending() > 0;
    match &client.transaction {
        Some(tx) if tx.open => {
            if paused && tx.writes || pending && !tx.steps.is_empty() {
                client.waiting = true;
                return Flow::Wait;
            }
        }
        _ => return node.answer_error(conn, EXEC, &Refusal::text("ERR EXEC without MULTI")),
    }
    let mut tx = client.transaction.take().expect("it is open");
    if tx.failed {
        tx.end();
        client.transaction = Some(tx);
        let text = "EXECABORT Transaction discarded because of previous errors.";
        return node.answer_error(conn, EXEC, &Refusal::text(text));
    }
    if no_keys(&tx) {
        let steps = std::mem::take(&mut tx.steps);
        tx.end();
        client.transaction = Some(tx);
        if steps.is_empty() {
            return node.answer_in_order(conn, Some(EXEC.spec()), |reply| reply.array(0));
        }
        return node.run_own_steps(conn, steps, out);
    }
    let refused = match tx.shard {
        Some(group) if node.ready && !node.stopping => {
            return node.give_transaction(conn, group, tx, out);
        }
        _ => not_ready(),
    };
    tx.end();
    node.client(conn).transaction = Some(tx);
    node.answer_error(conn, EXEC, &refused)
}

impl Node {
    /// A transaction of commands of the node alone.
    fn run_own_steps(&mut self, conn: ConnId, steps: Vec<Step>, out: &mut Vec<Output>) -> Flow {
        self.stats.called(EXEC.spec());
        let client = self.client(conn);
        let silent = client.begin_command(EXEC.spec().name);
        let mut output = std::mem::take(&mut client.output);
        let mark = output.len();
        self.finish_transaction(conn, steps, b"*0\r\n", &mut output, out);
        if silent {
            output.truncate(mark);
        }
        if let Some(client) = self.clients.get_mut(conn) {
            client.output = output;
        }
        self.push_own(conn);
        Flow::Done
    }
}

#[cfg(test)]
mod tests;
