//! `EXEC`: what is queued becomes one operation of its shard, and its reply the client's.

use skep_base::args::Span;
use skep_base::{Args, ConnId, GroupId, Refusal};
use skep_keyspace::{EXEC_READ, Head, Terms, Watched, first_queued, handler_of};
use skep_resp::{Protocol, Reply, reply_len};

use super::{EXEC, NAME, Step, Transaction};
use crate::joined::Becomes;
use crate::local::Call as LocalCall;
use crate::on_client::Flow;
use crate::run::{Asked, COMMAND_BYTES_MAX, call_of, not_ready, too_large};
use crate::{Node, Output};

pub(super) fn exec(node: &mut Node, conn: ConnId, _: Args<'_>, out: &mut Vec<Output>) -> Flow {
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
            watched: watched.map(|((db, key), seen)| Watched { db, key, seen }).collect(),
            terms: if tx.runs_scripts { self.terms_of(group) } else { Terms::default() },
            scripts: std::mem::take(&mut tx.sought).into_values().flatten().map(Vec::from).collect(),
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
            let (me, one_shard) = (self.cells.me, self.cells.one_shard);
            let client = self.client(conn);
            let silent = client.begin_command(command.name);
            let call = call_of(client, me, asked, silent);
            if tx.writes && !one_shard {
                client.written.add(group);
            }
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
