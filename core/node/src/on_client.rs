//! Input from clients: bytes become commands, and each command is run, put in the batch, or left to wait its turn.

use skep_base::{Args, ConnId, Refusal};
use skep_command::{CommandSpec, Flags};
use skep_resp::{Limits, Protocol, Reply, Step};
use skep_settings::{ClassLimit, Settings};

use crate::batch::Unblock;
use crate::client::{Client, Listed};
use crate::local::{Call as LocalCall, Route, refused_while_listening};
use crate::run::Asked;
use crate::{Node, Note, Output};

/// One entry holds at most this much, so that no batch delays the others for long; what comes on top waits for the next
/// turn. A single larger command (up to the bulk limit) is an entry of its own.
pub(crate) const BATCH_BYTES_MAX: usize = 16 << 20;

/// What became of a command.
pub(crate) enum Flow {
    Done,
    /// It stays in the input until the replies before it have come (or the pause is over).
    Wait,
}

impl Node {
    /// Connections at once: as many as were asked for, and never so many that the log lacks descriptors.
    pub(crate) fn clients_max(&self) -> u64 {
        self.settings.maxclients().min(self.clients_fit)
    }

    /// The next client that has something to send or is to be closed; each is named once until it has more. Who was answered
    /// comes before who was only pushed something: publishers go on while their messages leave, so that more of these leave
    /// together.
    pub fn next_with_output(&mut self) -> Option<ConnId> {
        if let Some(conn) = self.with_output.pop_front() {
            if let Some(client) = self.clients.get_mut(conn) {
                client.listed = Listed::No;
            }
            return Some(conn);
        }
        while let Some(conn) = self.with_pushes.pop_front() {
            // Who was answered later has been named for that.
            if let Some(client) = self.clients.get_mut(conn).filter(|client| client.listed == Listed::Pushed)
            {
                client.listed = Listed::No;
                return Some(conn);
            }
        }
        None
    }

    /// The bytes that wait to be sent to a client.
    pub fn unsent(&self, conn: ConnId) -> &[u8] {
        self.clients.get(conn).map_or(&[], |c| &c.output[c.sent..])
    }

    /// Takes note that the first `bytes` of [`Node::unsent`] have left. True if the connection is to be closed now.
    pub fn on_sent(&mut self, conn: ConnId, bytes: usize) -> bool {
        let Some(client) = self.clients.get_mut(conn) else { return true };
        client.on_sent(bytes);
        if client.unsent() as u64 <= class_limit(client, &self.settings).soft_bytes {
            client.above_soft_limit = None;
        }
        self.stats.bytes_out += bytes as u64;
        let done = client.closing || client.ended && !client.waiting;
        done && client.unsent() == 0 && client.pending() == 0
    }

    pub(crate) fn on_received(&mut self, conn: ConnId, bytes: &[u8], out: &mut Vec<Output>) {
        let mono = self.now.mono;
        self.stats.bytes_in += bytes.len() as u64;
        let limit = u64::from(self.settings.client_query_buffer_bytes_max());
        let Some(client) = self.clients.get_mut(conn) else { return };
        if client.closing {
            return;
        }
        client.last_active = mono;
        if client.waiting {
            client.input.extend_from_slice(bytes);
            let size = client.unread();
            if size as u64 > limit {
                self.stats.input_limit_disconnections += 1;
                self.drop_client(conn, format!("query buffer is {size} bytes, limit is {limit}"), out);
            }
        } else if client.input.is_empty() {
            let used = self.run_input(conn, bytes, out);
            if let Some(client) = self.clients.get_mut(conn) {
                client.input.extend_from_slice(&bytes[used..]);
            }
        } else {
            client.input.extend_from_slice(bytes);
            self.run_kept_input(conn, out);
        }
    }

    pub(crate) fn on_ended(&mut self, conn: ConnId, out: &mut Vec<Output>) {
        let Some(client) = self.clients.get_mut(conn) else { return };
        if !client.waits_on.is_nowhere() {
            // As a rule it is gone, and nothing shall be taken for it.
            self.forget_client(conn);
            return out.push(Output::Close { conn });
        }
        client.ended = true;
        if client.listed != Listed::Answered {
            client.listed = Listed::Answered;
            self.with_output.push_back(conn);
        }
    }

    pub(crate) fn on_disconnected(&mut self, conn: ConnId) {
        self.forget_client(conn);
    }

    fn forget_client(&mut self, conn: ConnId) -> Option<Box<Client>> {
        let client = self.clients.remove(conn)?;
        if client.subscribed {
            self.end_subscriptions(conn);
        }
        if client.monitors {
            self.end_monitor(conn);
        }
        if let Some(tracking) = &client.tracking {
            self.end_tracking(conn, tracking);
        }
        self.end_searches_of(conn);
        self.cells.clients_gone += u64::from(!client.inside);
        if let Some((groups, asker)) = client.wait(self.cells.me) {
            groups.into_iter().for_each(|group| self.withdraw(group, asker, Unblock::Gone));
        }
        Some(client)
    }

    /// Goes on with clients whose wait is over.
    pub(crate) fn resume_clients(&mut self, out: &mut Vec<Output>) {
        if self.to_resume.is_empty() {
            return;
        }
        let mut conns = std::mem::replace(&mut self.to_resume, std::mem::take(&mut self.resuming));
        for conn in conns.drain(..) {
            if let Some(client) = self.clients.get_mut(conn)
                && client.waiting
                && client.pending() == 0
            {
                client.waiting = false;
                self.answer_joined(conn, out);
                self.run_kept_input(conn, out);
            }
        }
        self.resuming = conns;
    }

    /// Closes a connection that broke a rule, with what it is owed left unsent.
    pub(crate) fn drop_client(&mut self, conn: ConnId, reason: String, out: &mut Vec<Output>) {
        if let Some(client) = self.forget_client(conn) {
            out.push(Output::Note(Note::ClientDropped { address: client.address, reason }));
            out.push(Output::Close { conn });
        }
    }

    /// Notes that a client's output has grown, and enforces the limit on it.
    pub(crate) fn list_output(&mut self, conn: ConnId, out: &mut Vec<Output>) {
        let now = self.now.mono;
        let Some(client) = self.clients.get_mut(conn) else { return };
        let limits = class_limit(client, &self.settings);
        client.compact_output();
        let unsent = client.owed_bytes() as u64;
        if client.listed != Listed::Answered && (unsent > 0 || client.closing || client.ended) {
            client.listed = Listed::Answered;
            self.with_output.push_back(conn);
        }
        let above_hard = limits.hard_bytes > 0 && unsent > limits.hard_bytes;
        let since = match limits.soft_bytes > 0 && unsent > limits.soft_bytes {
            true => *client.above_soft_limit.get_or_insert(now),
            false => {
                client.above_soft_limit = None;
                now
            }
        };
        if above_hard || now.since(since) > limits.soft_seconds * 1_000 {
            self.stats.output_limit_disconnections += 1;
            self.drop_client(conn, format!("{unsent} bytes of replies are unread"), out);
        }
    }

    /// Looks at the clients whose output has grown.
    pub(crate) fn list_grown(&mut self, out: &mut Vec<Output>) {
        if self.grown.is_empty() {
            return;
        }
        let mut grown = std::mem::take(&mut self.grown);
        grown.drain(..).for_each(|conn| self.list_output(conn, out));
        self.grown = grown;
    }

    fn run_kept_input(&mut self, conn: ConnId, out: &mut Vec<Output>) {
        let Some(client) = self.clients.get_mut(conn) else { return };
        let (input, consumed) = (std::mem::take(&mut client.input), std::mem::take(&mut client.consumed));
        let used = self.run_input(conn, &input[consumed..], out);
        if let Some(client) = self.clients.get_mut(conn) {
            (client.input, client.consumed) = (input, consumed);
            client.consume(used);
        }
    }

    /// Runs the commands at the front of `input` and gives the number of bytes consumed.
    fn run_input(&mut self, conn: ConnId, input: &[u8], out: &mut Vec<Output>) -> usize {
        let Some(client) = self.clients.get_mut(conn) else { return input.len() };
        let mut decoder = std::mem::take(&mut client.decoder);
        let mut used = 0;
        let output_max = self.settings.output_limits().normal.hard_bytes;
        while used < input.len() {
            let Some(client) = self.clients.get(conn) else { return input.len() };
            if client.closing {
                used = input.len();
                break;
            }
            if client.waiting {
                break;
            }
            // One read may hold thousands of commands with large replies; `list_output` cuts the client off below.
            if output_max > 0 && client.unsent() as u64 > output_max {
                break;
            }
            let limits = self.limits(client.authenticated);
            let rest = &input[used..];
            match decoder.next(rest, &limits) {
                Ok(Step::Command { consumed }) => match self.run_command(conn, decoder.args(rest), out) {
                    Flow::Done => used += consumed,
                    Flow::Wait => break,
                },
                Ok(Step::Skip { consumed }) => used += consumed,
                Ok(Step::Incomplete { .. }) => break,
                Err(error) => {
                    let Some(client) = self.clients.get_mut(conn) else { return input.len() };
                    if client.pending() > 0 {
                        client.waiting = true;
                        // The decoder says the same again when it is asked again.
                        break;
                    }
                    client.closing = true;
                    if let Some(text) = error.reply() {
                        Reply::new(&mut client.output, client.protocol).error(&text);
                    }
                    self.stats.protocol_errors += 1;
                    used = input.len();
                    break;
                }
            }
        }
        if let Some(client) = self.clients.get_mut(conn) {
            client.decoder = decoder;
        }
        self.list_output(conn, out);
        used
    }

    /// The client whose command is being run.
    pub(crate) fn client(&mut self, conn: ConnId) -> &mut Client {
        self.clients.get_mut(conn).expect("a client stays while its command runs")
    }

    #[inline]
    fn limits(&self, authenticated: bool) -> Limits {
        Limits { authenticated, ..self.decoder_limits }
    }

    fn run_command(&mut self, conn: ConnId, args: Args<'_>, out: &mut Vec<Output>) -> Flow {
        let resolved = skep_command::resolve(args);
        let (command, route) = match resolved {
            Ok(command) => (command, self.routes.of(command)),
            Err(refusal) => return self.refuse_unresolved(conn, args, &refusal),
        };
        let Some(client) = self.clients.get(conn) else { return Flow::Done };
        if !client.authenticated && !command.flags.has(Flags::NO_AUTH) {
            return self.refuse(conn, Some(command), &Refusal::text("NOAUTH Authentication required."));
        }
        let (is_limited, listens, queues, caches) = (
            client.rights.is_some(),
            client.subscribed && client.protocol == Protocol::Resp2,
            client.transaction.as_ref().is_some_and(|transaction| transaction.is_open()),
            client.tracking.is_some(),
        );
        if is_limited && let Some(flow) = self.deny(conn, command, args) {
            return flow;
        }
        let carrying = if is_limited { self.with_rights(conn, command, args) } else { None };
        let args = carrying.as_ref().map_or(args, |carrying| carrying.args());
        if listens && let Some(refusal) = refused_while_listening(command) {
            return self.refuse(conn, Some(command), &refusal);
        }
        let before = if caches { self.track_reads(conn, (command, route), args, out) } else { None };
        let flow = self.run_resolved(conn, (command, route), args, queues, out);
        if let Some(before) = before
            && matches!(flow, Flow::Wait)
        {
            self.track_again(conn, before);
        }
        flow
    }

    /// Runs a command that its client may run.
    #[inline]
    fn run_resolved(
        &mut self,
        conn: ConnId,
        (command, route): (&'static CommandSpec, Route),
        args: Args<'_>,
        queues: bool,
        out: &mut Vec<Output>,
    ) -> Flow {
        if queues && let Some(flow) = self.queue(conn, command, route, args, out) {
            if self.monitors.is_on && matches!(flow, Flow::Done) {
                self.show_command(conn, command, args);
            }
            return flow;
        }
        if self.is_paused(command) {
            self.client(conn).waiting = true;
            return Flow::Wait;
        }
        // What waits for the replies before it comes by here again.
        let flow = match route {
            Route::Keyspace(handler) => self.run_on_shard(Asked { conn, command, handler, args }, out),
            Route::Local(run) => {
                let client = self.client(conn);
                if client.pending() > 0 {
                    client.waiting = true;
                    return Flow::Wait;
                }
                if self.monitors.is_on {
                    self.show_command(conn, command, args);
                }
                self.stats.called(command);
                self.note_slow(conn, command, args);
                let client = self.client(conn);
                let mut heard = !client.begin_command(command.name);
                if self.asks_cells() && self.routes.part_of(command).is_some() {
                    self.ask_all(conn, command, run, args, heard, out);
                    return Flow::Done;
                }
                let client = self.client(conn);
                let mut output = std::mem::take(&mut client.output);
                let mark = output.len();
                let mut reply = Reply::new(&mut output, client.protocol);
                if let Err(refusal) =
                    run(self, LocalCall { conn, args, reply: &mut reply, out, heard: &mut heard })
                {
                    reply.rewind(mark);
                    reply.refusal(&refusal);
                    self.stats.failed(command, &refusal);
                }
                drop(reply);
                if let Some(client) = self.clients.get_mut(conn) {
                    if !heard {
                        output.truncate(mark);
                    }
                    client.output = output;
                }
                self.push_own(conn);
                return Flow::Done;
            }
            Route::Steer(run) => run(self, conn, args, out),
            Route::None => self.refuse(conn, Some(command), &command.wrong_arity()),
        };
        if self.monitors.is_on && matches!(flow, Flow::Done) {
            self.show_command(conn, command, args);
        }
        flow
    }

    /// A command that does not exist, or has not as many arguments.
    #[cold]
    fn refuse_unresolved(&mut self, conn: ConnId, args: Args<'_>, refusal: &Refusal) -> Flow {
        let client = self.client(conn);
        if client.authenticated && args.is(0, "exec") {
            return self.refuse_exec(conn, refusal);
        }
        self.refuse(conn, None, refusal)
    }

    /// Answers with an error, or waits if replies before it are still to come.
    pub(crate) fn refuse(
        &mut self,
        conn: ConnId,
        command: Option<&'static CommandSpec>,
        refusal: &Refusal,
    ) -> Flow {
        let Some(client) = self.clients.get_mut(conn) else { return Flow::Done };
        if client.pending() > 0 {
            client.waiting = true;
            return Flow::Wait;
        }
        client.seeks = None;
        if let Some(transaction) = &mut client.transaction {
            transaction.fail();
        }
        if !client.begin_silence() {
            Reply::new(&mut client.output, client.protocol).refusal(refusal);
        }
        self.stats.rejected(command, refusal);
        Flow::Done
    }
}

/// How much a client may leave unread.
pub(crate) fn class_limit(client: &Client, settings: &Settings) -> ClassLimit {
    let limits = settings.output_limits();
    if client.subscribed { limits.pubsub } else { limits.normal }
}

#[cfg(test)]
mod tests {
    use crate::testing::World;

    #[test]
    fn a_long_pipeline_is_consumed_bit_by_bit_and_its_memory_given_back() {
        let mut world = World::new(&[("durability", "memory")]);
        let conn = world.connect();
        let rounds = 3_000;
        world.receive(conn, "SET a 1\r\nPING\r\n".repeat(rounds));
        assert!(world.node.client(conn).input.capacity() > 10_000);
        for _ in 0..rounds {
            world.turn();
        }
        assert_eq!(world.replies(conn), vec!["+OK +PONG"; rounds].join(" "));
        let client = world.node.client(conn);
        assert_eq!((client.unread(), client.consumed), (0, 0));
        assert!(client.input.capacity() < 70_000, "{}", client.input.capacity());
    }

    #[test]
    fn bytes_consumed_are_removed_when_they_are_half_of_the_input() {
        let mut world = World::new(&[]);
        let conn = world.connect();
        let client = world.node.client(conn);
        client.input = (0..100).collect();
        client.consume(30);
        assert_eq!((client.unread(), client.input.len()), (70, 100));
        client.consume(20);
        assert_eq!((client.unread(), client.input[0]), (50, 50));
        client.consume(50);
        assert_eq!((client.unread(), client.input.len()), (0, 0));
    }

    #[test]
    fn output_that_is_never_read_to_the_end_does_not_grow_for_ever() {
        let mut world = World::new(&[]);
        let conn = world.connect();
        let value = "x".repeat(100_000);
        world.ask(conn, &format!("SET a {value}"));
        for _ in 0..50 {
            world.receive(conn, "GET a\r\n");
            let left = world.node.unsent(conn).len() - 1_000;
            assert!(!world.node.on_sent(conn, left));
        }
        assert!(world.node.client(conn).output.len() < 1_000_000);
        world.receive(conn, "PING\r\n");
        assert!(world.replies(conn).ends_with("xxx +PONG"));
    }

    #[test]
    fn the_soft_limit_counts_from_when_it_was_passed_without_a_break() {
        let mut world = World::new(&[("client-output-buffer-limit", "normal 0 1000 10")]);
        let conn = world.connect();
        let value = "x".repeat(2_000);
        world.ask(conn, &format!("SET a {value}"));
        world.receive(conn, "GET a\r\n");
        world.replies(conn);
        world.advance(60_000);
        world.receive(conn, "GET a\r\n");
        assert!(world.closed.is_empty(), "it had read everything");
        world.advance(10_001);
        world.receive(conn, "GET a\r\n");
        assert_eq!(world.closed, [conn]);
    }

    #[test]
    fn no_more_clients_are_taken_than_have_descriptors() {
        let mut world = World::new(&[("maxclients", "100")]);
        (world.node.clients_fit, world.node.descriptors_fit) = (3, 50);
        assert!(world.node.admit(50).is_err(), "what is left is for others");
        assert!(world.node.admit(49).is_ok(), "what others have open leaves as many for clients");
        let (first, _) = (world.connect(), world.connect());
        let refused = world.node.admit(0);
        assert_eq!(refused, Err(&b"-ERR max number of clients reached\r\n"[..]));
        assert!(world.ask(first, "INFO clients").contains("maxclients:3 "));
    }
}
