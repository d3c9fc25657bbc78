//! Committed entries become state, and replies to those whose operations they carry. Those that another node proposed are in
//! `apply_foreign.rs`.

use std::sync::Arc;

use skep_base::{GroupId, LogId, Rng, Unserved};
use skep_keyspace::events::Misses;
use skep_keyspace::{Keyspace, WriteCx};
use skep_log::{Entry, EntryKind};
use skep_placement::MetaCommand;

use crate::answer::{Desk, desk};
use crate::batch::{InFlight, Op};
use crate::entry::{Decided, EntryReader, OpKind};
use crate::line::{Line, Member, Serving};
use crate::script_notes::script_notes_of;
use crate::{Node, Output};

/// Keys and fields that one entry removes because they are due: about 100 us of work.
const SWEEP_LIMIT: usize = 1_000;

impl Node {
    /// Applies committed entries of a group, in order.
    pub(crate) fn apply(&mut self, group: GroupId, entries: Vec<Entry>, out: &mut Vec<Output>) {
        if group == GroupId::META {
            return entries.into_iter().for_each(|entry| self.apply_meta(entry, out));
        }
        let at = self.shard_of_group(group).expect("a group that applies is a shard's");
        if self.shards[at].replica.as_ref().is_some_and(|replica| replica.rebuild.is_some()) {
            self.pass_over(at, &entries, out);
            return self.list_grown(out);
        }
        for entry in entries {
            self.apply_data(at, &entry, out);
        }
        self.flush_key_events(at);
        self.list_grown(out);
    }

    fn apply_meta(&mut self, entry: Entry, out: &mut Vec<Output>) {
        let index = entry.id.index;
        assert_eq!(index, self.meta.applied.index.next(), "INV-APPLY-1: entries are applied in order");
        self.meta.applied = entry.id;
        if entry.kind == EntryKind::Normal && !entry.payload.is_empty() {
            let command = match MetaCommand::decode(&entry.payload) {
                Ok(command) => command,
                Err(cause) => {
                    panic!("meta entry {:?} passed its checksum but does not parse: {cause}", entry.id)
                }
            };
            let outcome = Arc::make_mut(&mut self.meta.state).apply(command);
            self.on_meta_changed(out);
            self.answer_meta(entry.id, outcome, out);
        }
    }

    fn apply_data(&mut self, at: usize, entry: &Entry, out: &mut Vec<Output>) {
        let own = self.settle(at, entry.id, out);
        let is_own = own.is_some();
        let batch = own.and_then(|proposed| proposed.batch);
        let wants_events = batch.as_ref().is_some_and(|batch| batch.may_wait) || self.wants_events(at);
        let replica = self.shards[at].replica.as_mut().expect("what is applied has a replica");
        assert_eq!(entry.id.index, replica.applied.index.next(), "INV-APPLY-1: entries are applied in order");
        replica.applied = entry.id;
        if entry.kind != EntryKind::Normal || entry.payload.is_empty() {
            return;
        }
        let mut reader = match EntryReader::new(&entry.payload) {
            Ok(reader) => reader,
            Err(cause) => panic!("entry {:?} passed its checksum but does not parse: {cause}", entry.id),
        };
        let mut rng = begin_entry(&mut replica.keyspace, reader.decided);
        replica.keyspace.events.record(wants_events);
        self.notify.authors.clear();
        let wants_digest = match batch {
            Some(batch) => {
                self.apply_own(at, entry.id, &mut reader, &batch, &mut rng);
                batch.wants_digest
            }
            None => self.apply_foreign(at, entry.id, &mut reader, &mut rng),
        };
        if let Some(replica) = &mut self.shards[at].replica {
            replica.keyspace.sweep(SWEEP_LIMIT);
        }
        self.take_events(at, is_own, out);
        if wants_digest {
            self.begin_digest(at, entry.id);
        }
    }

    /// Applies an entry to a state that was set back. Nobody hears of it.
    pub(crate) fn apply_again(&mut self, at: usize, entry: &Entry) {
        let replica = self.shards[at].replica.as_mut().expect("what is applied has a replica");
        assert_eq!(entry.id.index, replica.applied.index.next(), "INV-APPLY-1: entries are applied in order");
        replica.applied = entry.id;
        if entry.kind != EntryKind::Normal || entry.payload.is_empty() {
            return;
        }
        let mut reader = match EntryReader::new(&entry.payload) {
            Ok(reader) => reader,
            Err(cause) => panic!("entry {:?} was applied before but does not parse: {cause}", entry.id),
        };
        let mut rng = begin_entry(&mut replica.keyspace, reader.decided);
        let shard = &mut self.shards[at];
        let (forwarded, away) = (std::mem::take(&mut shard.forwarded), std::mem::take(&mut shard.away));
        self.apply_foreign(at, entry.id, &mut reader, &mut rng);
        (self.shards[at].forwarded, self.shards[at].away) = (forwarded, away);
        if let Some(replica) = &mut self.shards[at].replica {
            replica.keyspace.sweep(SWEEP_LIMIT);
            // What was published then was sent then.
            drop(replica.keyspace.events.take());
        }
    }

    /// Applies an entry that this node proposed: reads run in their place among the writes, and all get replies.
    fn apply_own(
        &mut self,
        at: usize,
        id: LogId,
        reader: &mut EntryReader<'_>,
        batch: &InFlight,
        rng: &mut Rng,
    ) {
        let mut spans = Vec::new();
        for _ in 0..batch.evictions {
            match reader.next_op(&mut spans) {
                Ok(Some((OpKind::Evict, db))) => self.evict(at, db, reader.args(&spans)),
                other => panic!("an eviction of the batch is missing from its entry: {other:?}"),
            }
        }
        let shard = &mut self.shards[at];
        let Some(replica) = &mut shard.replica else { return };
        let now = replica.keyspace.stamp();
        let mut desk = desk!(self, shard.id, id.term);
        let (mut tries, mut noted): (Vec<(usize, Option<Unserved>)>, _) = (Vec::new(), Vec::new());
        let (mut line, mut serves) = (Line::<usize>::new(), batch.serves.iter().peekable());
        for place in 0..=batch.ops.len() {
            while let Some(serve) = serves.next_if(|serve| serve.behind == place) {
                let mut serving = Serving::of(serve.db, &serve.key);
                while let Some(member) = line.next(&mut serving, &replica.keyspace) {
                    let Member { who, db, args, .. } = line.get(member);
                    let op: &Op = &batch.ops[tries[*who].0];
                    replica.keyspace.access.set_paused(op.call.no_touch);
                    replica.keyspace.events.set_misses(Misses::OfLog);
                    Node::note_author(&mut self.notify.authors, &replica.keyspace, op.call.origin);
                    let mut cx = WriteCx { keyspace: &mut replica.keyspace, db: *db, now, rng };
                    if desk.attempt(&op.call, true, &mut cx, args.args()).is_none() {
                        tries[*who].1 = None;
                        line.served(member, &mut serving);
                    }
                }
            }
            let Some(op) = batch.ops.get(place) else { break };
            if !op.logged && desk.is_unheard(&op.call) {
                desk.answer(&op.call, |_| {});
                continue;
            }
            replica.keyspace.access.set_paused(op.call.no_touch);
            let (misses, rng) = match op.logged {
                true => (Misses::OfLog, &mut *rng),
                false => (Misses::OfRead, &mut self.rng),
            };
            replica.keyspace.events.set_misses(misses);
            Node::note_author(&mut self.notify.authors, &replica.keyspace, op.call.origin);
            let mut cx = WriteCx { keyspace: &mut replica.keyspace, db: op.call.db, now, rng };
            if let Some(wait) = op.call.wait {
                let unserved = desk.attempt(&op.call, wait.again, &mut cx, batch.args(op));
                if op.logged && !batch.serves.is_empty() {
                    line.join(tries.len(), op.call.db, batch.args(op), unserved.clone());
                }
                tries.push((place, unserved));
            } else {
                desk.answer(&op.call, |reply| op.call.handler.write(&mut cx, batch.args(op), reply));
            }
            let (command, args) = (op.call.command, batch.args(op));
            let notes = script_notes_of(&replica.keyspace, command);
            if !notes.is_empty() {
                noted.push((op, notes));
            }
            if self.slow.wants(command, args) {
                let (address, name) = desk.whose(&op.call);
                self.slow.note(command, args, address, name);
            }
        }
        replica.keyspace.events.set_misses(Misses::OfRead);
        for (op, notes) in noted {
            self.tell_script_notes(at, id.term, &op.call, notes);
        }
        for (place, unserved) in tries {
            let op = &batch.ops[place];
            self.settle_try(at, id.term, &op.call, batch.args(op), unserved);
        }
    }
}

/// Takes over what the leader decided for the entry. Gives its random choices.
fn begin_entry(keyspace: &mut Keyspace, decided: Decided) -> Rng {
    keyspace.advance(decided.stamp);
    keyspace.set_once_retention(1_000 * u64::from(decided.once_retention_seconds));
    keyspace.set_no_memory(decided.no_memory);
    Rng::new(decided.seed)
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
        let before = world.node.shards[0].replica.as_ref().unwrap().keyspace.access.hits();
        let reads = "GET a\n".repeat(1_000);
        world.receive(greedy, pipeline(&format!("SET b 1\n{reads}SET c 1")));
        world.receive(other, pipeline("SET d 1\nGET a"));
        world.settle();
        assert_eq!(world.closed, [greedy]);
        let run = world.node.shards[0].replica.as_ref().unwrap().keyspace.access.hits() - before;
        assert_eq!(run, 11, "the tenth reply was too much; the last is the other client's");
        assert_eq!(world.replies(other), format!("+OK $1000 {value}"));
        assert_eq!(world.ask(other, "GET c"), "$1 1", "a write that is in the log is carried out");
    }

    #[test]
    fn a_token_is_kept_as_long_as_the_setting_of_the_leader_says() {
        let mut world = World::new(&[("once-retention", "2")]);
        let conn = world.connect();
        assert_eq!(world.ask(conn, "ONCE t INCR n"), ":1");
        world.advance(1_900);
        assert_eq!(world.ask(conn, "ONCE t INCR n"), ":1");
        world.advance(200);
        assert_eq!(world.ask(conn, "ONCE t INCR n"), ":2");
        assert_eq!(world.ask(conn, "CONFIG SET once-retention 10\nONCE u INCR n"), "+OK :3");
        world.advance(9_900);
        assert_eq!(
            world.ask(conn, "ONCE u INCR n\nONCE t INCR n"),
            ":3 :4",
            "what was kept before keeps its time"
        );
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
