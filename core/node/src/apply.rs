//! Committed entries become state, and replies to the clients whose operations they carry.

use skep_base::{GroupId, LogId, Millis, Rng};
use skep_keyspace::{Handler, WriteCx};
use skep_log::{Entry, EntryKind};
use skep_resp::{Protocol, Reply};

use crate::batch::InFlight;
use crate::entry::{EntryReader, OpKind};
use crate::local::Route;
use crate::on_log::SWEEP_LIMIT;
use crate::{Node, Output};
use skep_placement::MetaCommand;

impl Node {
    /// Applies committed entries of a group, in order.
    pub(crate) fn apply(&mut self, group: GroupId, entries: Vec<Entry>, out: &mut Vec<Output>) {
        for entry in entries {
            if group == GroupId::META {
                self.apply_meta(entry);
            } else {
                self.apply_data(entry, out);
            }
        }
    }

    fn apply_meta(&mut self, entry: Entry) {
        assert_eq!(
            entry.id.index,
            self.meta_applied.index.next(),
            "INV-APPLY-1: entries are applied in order"
        );
        if entry.kind == EntryKind::Normal && !entry.payload.is_empty() {
            match MetaCommand::decode(&entry.payload) {
                // A refusal changed nothing; whoever proposed the command looks at the state.
                Ok(command) => drop(self.meta.apply(command)),
                Err(cause) => {
                    panic!("meta entry {:?} passed its checksum but does not parse: {cause}", entry.id)
                }
            }
        }
        self.meta_applied = entry.id;
    }

    fn apply_data(&mut self, entry: Entry, out: &mut Vec<Output>) {
        assert_eq!(
            entry.id.index,
            self.shard.applied.index.next(),
            "INV-APPLY-1: entries are applied in order"
        );
        self.shard.applied = entry.id;
        if entry.kind != EntryKind::Normal || entry.payload.is_empty() {
            return;
        }
        let mut reader = match EntryReader::new(&entry.payload) {
            Ok(reader) => reader,
            Err(cause) => panic!("entry {:?} passed its checksum but does not parse: {cause}", entry.id),
        };
        self.shard.keyspace.advance(reader.stamp);
        let mut rng = Rng::new(reader.seed);
        match self.take_in_flight(entry.id) {
            Some(batch) => self.apply_own(&mut reader, &entry, batch, &mut rng, out),
            None => self.apply_foreign(&mut reader, entry.id, &mut rng),
        }
        self.shard.keyspace.sweep(SWEEP_LIMIT);
    }

    /// The batch that this node proposed at `at`, if it did.
    fn take_in_flight(&mut self, at: LogId) -> Option<InFlight> {
        if self.shard.in_flight.front()?.at != at {
            return None;
        }
        self.shard.in_flight.pop_front()?.batch
    }

    /// Applies an entry whose clients wait here: their reads run in their place among the writes, and all get replies.
    fn apply_own(
        &mut self,
        reader: &mut EntryReader<'_>,
        entry: &Entry,
        batch: InFlight,
        rng: &mut Rng,
        out: &mut Vec<Output>,
    ) {
        let now = self.shard.keyspace.stamp();
        self.apply_evictions(reader, &batch);
        let mut unheard = Vec::new();
        let mut last = None;
        let output_max = self.settings.output_limits().normal.hard_bytes;
        for op in &batch.ops {
            let args = batch.args(op, &entry.payload);
            let client = self.clients.get_mut(op.client);
            if client.is_none() && !op.logged {
                continue;
            }
            self.shard.keyspace.access.set_paused(client.as_ref().is_some_and(|c| c.no_touch));
            let (buffer, protocol) = match client {
                Some(client) => {
                    client.pending -= 1;
                    if client.pending == 0 && client.waiting {
                        self.to_resume.push(op.client);
                    }
                    (&mut client.output, client.protocol)
                }
                None => (&mut unheard, Protocol::Resp2),
            };
            let mark = buffer.len();
            let mut reply = Reply::new(buffer, protocol);
            let rng = if op.logged { &mut *rng } else { &mut self.rng };
            let mut cx = WriteCx { keyspace: &mut self.shard.keyspace, db: op.db, now, rng };
            op.handler.write(&mut cx, args, &mut reply);
            self.stats.called(op.command);
            if reply.since(mark).first() == Some(&b'-') {
                self.stats.failed_reply(op.command, reply.since(mark));
            }
            if op.silent {
                reply.rewind(mark);
            }
            // Thousands of reads of large values may be waiting behind one write: their client is cut off among them.
            if output_max > 0 && buffer.len() as u64 > output_max {
                self.list_output(op.client, out);
            }
            unheard.clear();
            if last != Some(op.client)
                && let Some(previous) = last.replace(op.client)
            {
                self.list_output(previous, out);
            }
        }
        if let Some(previous) = last {
            self.list_output(previous, out);
        }
    }

    /// Tells clients whose operations wait for longer than `request-timeout`. What is in the log may still be carried out,
    /// what is not in it will not be.
    pub(crate) fn answer_overdue(&mut self, out: &mut Vec<Output>) {
        let timeout = self.settings.request_timeout_ms();
        let Some(limit) = self.now.mono.0.checked_sub(timeout).map(Millis) else { return };
        if self.shard.waits_since().is_none_or(|since| since >= limit) {
            return;
        }
        let (proposed, dropped) = self.shard.take_overdue(limit);
        let uncertain = format!(
            "UNCERTAIN the disk took longer than {timeout} ms; the write may or may not be carried out, read before you \
             repeat it"
        );
        let not_done = format!("TRYAGAIN the disk took longer than {timeout} ms; nothing was done");
        for (batches, of_writes) in [(proposed, &uncertain), (dropped, &not_done)] {
            for op in batches.iter().flat_map(|batch| &batch.ops) {
                let Some(client) = self.clients.get_mut(op.client) else { continue };
                client.pending -= 1;
                if client.pending == 0 && client.waiting {
                    self.to_resume.push(op.client);
                }
                if !op.silent {
                    let text = if op.logged { of_writes } else { &not_done };
                    Reply::new(&mut client.output, client.protocol).error(text);
                }
                self.list_output(op.client, out);
            }
        }
    }

    /// Evictions stand in front of the operations they make room for; the batch does not repeat them.
    fn apply_evictions(&mut self, reader: &mut EntryReader<'_>, batch: &InFlight) {
        if batch.evictions == 0 {
            return;
        }
        let mut spans = Vec::new();
        for _ in 0..batch.evictions {
            match reader.next_op(&mut spans) {
                Ok(Some((OpKind::Evict, db))) => self.evict(db, reader.args(&spans)),
                other => panic!("an eviction of the batch is missing from its entry: {other:?}"),
            }
        }
    }

    /// Applies an entry that nobody here waits for: after a restart, or proposed by another node.
    fn apply_foreign(&mut self, reader: &mut EntryReader<'_>, at: LogId, rng: &mut Rng) {
        let now = self.shard.keyspace.stamp();
        self.shard.keyspace.access.set_paused(false);
        let mut spans = Vec::new();
        let mut unheard = Vec::new();
        loop {
            let (kind, db) = match reader.next_op(&mut spans) {
                Ok(Some(op)) => op,
                Ok(None) => return,
                Err(cause) => panic!("entry {at:?} passed its checksum but does not parse: {cause}"),
            };
            let args = reader.args(&spans);
            if kind == OpKind::Evict {
                self.evict(db, args);
                continue;
            }
            let handler = match skep_command::resolve(args).map(|command| self.routes.of(command)) {
                Ok(Route::Keyspace(handler @ Handler::Write(_))) => handler,
                _ => panic!("entry {at:?} holds {:?}, which is no write", args.get(0)),
            };
            unheard.clear();
            let mut cx = WriteCx { keyspace: &mut self.shard.keyspace, db, now, rng };
            handler.write(&mut cx, args, &mut Reply::new(&mut unheard, Protocol::Resp2));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Note;
    use crate::testing::{World, pipeline};

    #[test]
    fn a_client_is_cut_off_among_the_replies_that_are_too_much() {
        let mut world = World::new(&[("client-output-buffer-limit", "normal 10000 0 0")]);
        let (greedy, other) = (world.connect(), world.connect());
        let value = "x".repeat(1_000);
        world.ask(other, &format!("SET a {value}"));
        let before = world.node.shard.keyspace.access.hits();
        let reads = "GET a\n".repeat(1_000);
        world.receive(greedy, pipeline(&format!("SET b 1\n{reads}SET c 1")));
        world.receive(other, pipeline("SET d 1\nGET a"));
        world.settle();
        assert_eq!(world.closed, [greedy]);
        let run = world.node.shard.keyspace.access.hits() - before;
        assert_eq!(run, 11, "the tenth reply was too much; the last is the other client's");
        assert_eq!(world.replies(other), format!("+OK $1000 {value}"));
        assert_eq!(world.ask(other, "GET c"), "$1 1", "a write that is in the log is carried out");
    }

    #[test]
    fn a_write_that_answers_with_much_counts_too() {
        let mut world = World::new(&[("client-output-buffer-limit", "normal 10000 0 0")]);
        let (greedy, other) = (world.connect(), world.connect());
        world.ask(other, &format!("SET a {}", "x".repeat(1_000)));
        world.receive(greedy, pipeline(&"GETEX a EX 100\n".repeat(1_000)));
        world.settle();
        let dropped = world.notes.iter().find_map(|note| match note {
            Note::ClientDropped { reason, .. } => Some(reason.as_str()),
            _ => None,
        });
        assert_eq!(dropped, Some("10090 bytes of replies are unread"), "ten replies of 1,009 bytes");
        assert_eq!(world.closed, [greedy]);
        assert_eq!(world.ask(other, "TTL a"), ":100");
    }
}
