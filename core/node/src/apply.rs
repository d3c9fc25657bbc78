//! Committed entries become state, and replies to those whose operations they carry.

use std::collections::VecDeque;
use std::sync::Arc;

use skep_base::{Args, GroupId, LogId, Rng, Term};
use skep_keyspace::events::Misses;
use skep_keyspace::{Handler, Keyspace, WriteCx};
use skep_log::{Entry, EntryKind};
use skep_placement::MetaCommand;
use skep_resp::{Protocol, Reply};

use crate::answer::{Desk, desk};
use crate::away::AwayKey;
use crate::batch::{Call, InFlight, Op, Origin};
use crate::entry::{Decided, EntryReader, OpKind, Source};
use crate::operation::operation;
use crate::shard::Forwarded;
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
        let mut tries = Vec::new();
        for (place, op) in batch.ops.iter().enumerate() {
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
                tries.push((place, desk.attempt(&op.call, wait.again, &mut cx, batch.args(op))));
            } else {
                desk.answer(&op.call, |reply| op.call.handler.write(&mut cx, batch.args(op), reply));
            }
            let (command, args) = (op.call.command, batch.args(op));
            if self.slow.wants(command, args) {
                let (address, name) = desk.whose(&op.call);
                self.slow.note(command, args, address, name);
            }
        }
        replica.keyspace.events.set_misses(Misses::OfRead);
        for (place, unserved) in tries {
            let op = &batch.ops[place];
            self.settle_try(at, id.term, &op.call, batch.args(op), unserved);
        }
    }

    /// Applies an entry that another node proposed, or this one in an earlier life. Where it carries what this node forwarded,
    /// its clients get their replies from here, so that they need not know whether the leader is still there. True if the
    /// entry asks for digests.
    fn apply_foreign(&mut self, at: usize, id: LogId, reader: &mut EntryReader<'_>, rng: &mut Rng) -> bool {
        let mut forwarded = std::mem::take(&mut self.shards[at].forwarded);
        let mut part: Option<Part> = None;
        let (mut mark, mut ends_part) = (None, false);
        let mut wants_digest = false;
        let mut spans = Vec::new();
        loop {
            let (kind, db) = match reader.next_op(&mut spans) {
                Ok(Some(op)) => op,
                Ok(None) => break,
                Err(cause) => panic!("entry {id:?} passed its checksum but does not parse: {cause}"),
            };
            let args = reader.args(&spans);
            match kind {
                OpKind::Evict => self.evict(at, db, args),
                OpKind::Digest => wants_digest = true,
                OpKind::From => {
                    let source = Source::decode(args)
                        .unwrap_or_else(|cause| panic!("entry {id:?} does not parse: {cause}"));
                    mark = Some(source);
                }
                // Served by the write before it: the reads behind that come after both.
                OpKind::Again => {
                    let source = mark.take();
                    ends_part |= source.is_some();
                    let call = self.take_call(at, id.term, source, args, &mut forwarded);
                    self.run_logged(at, id, (db, true), args, rng, call);
                }
                OpKind::Command => {
                    part = self.run_reads_of(at, id.term, part, &mut forwarded);
                    let source = mark.take();
                    if source.is_some() || std::mem::take(&mut ends_part) {
                        (part, ends_part) = (self.begin_part(at, id.term, source, &mut forwarded), false);
                        part = self.run_reads_of(at, id.term, part, &mut forwarded);
                    }
                    let call = part.as_mut().and_then(|part| part.take_write(args, &mut forwarded));
                    let key = source.and_then(|source| self.key_of(id.term, source));
                    self.run_logged(at, id, (db, false), args, rng, call.map(|call| (call, key)));
                }
            }
        }
        self.run_reads_of(at, id.term, part, &mut forwarded);
        self.shards[at].forwarded = forwarded;
        self.drop_answered_forwards(at);
        if let Some(replica) = &self.shards[at].replica {
            replica.keyspace.events.set_misses(Misses::OfRead);
            // What scripts said is told by the leader.
            drop(replica.keyspace.take_script_log());
        }
        wants_digest
    }

    /// The operation of a forward of this node that a mark names.
    fn key_of(&self, term: Term, source: Source) -> Option<AwayKey> {
        let mine = (source.node, source.incarnation) == (self.id, self.incarnation);
        mine.then_some(AwayKey { term, number: source.number, index: source.first })
    }

    /// The part of this node's forwards that begins at a mark. What was read before it is read.
    fn begin_part(
        &mut self,
        at: usize,
        term: Term,
        source: Option<Source>,
        forwarded: &mut VecDeque<Forwarded>,
    ) -> Option<Part> {
        let part = self.part_of(at, term, source?, forwarded)?;
        self.run_reads_before(at, term, (part.place, part.next), forwarded);
        Some(part)
    }

    /// The call of this node that a try behind a mark is of, if its forward is not settled or it waits elsewhere.
    fn take_call(
        &mut self,
        at: usize,
        term: Term,
        source: Option<Source>,
        args: Args<'_>,
        forwarded: &mut VecDeque<Forwarded>,
    ) -> Option<(Call, Option<AwayKey>)> {
        let key = self.key_of(term, source?)?;
        if let Some(away) = self.shards[at].away.get(key) {
            return Some((away.call, Some(key)));
        }
        let mut part = self.begin_part(at, term, source, forwarded)?;
        part.take_write(args, forwarded).map(|call| (call, Some(key)))
    }

    /// The part of this node's forwards that an entry goes on with, if it is one.
    fn part_of(
        &self,
        at: usize,
        term: Term,
        source: Source,
        forwarded: &VecDeque<Forwarded>,
    ) -> Option<Part> {
        let mine = (source.node, source.incarnation) == (self.id, self.incarnation);
        if !mine || self.shards[at].session.term != term {
            return None;
        }
        let first = forwarded.front()?.number;
        let place = usize::try_from(source.number.checked_sub(first)?).ok()?;
        (place < forwarded.len()).then_some(Part { place, next: source.first as usize })
    }

    /// Runs the reads that were forwarded before a write, which is about to be carried out: asked for again, they would see it.
    fn run_reads_before(
        &mut self,
        at: usize,
        term: Term,
        (place, index): (usize, usize),
        forwarded: &mut VecDeque<Forwarded>,
    ) {
        for (number, of) in forwarded.iter_mut().enumerate().take(place + 1) {
            let count = if number == place { index.min(of.batch.ops.len()) } else { of.batch.ops.len() };
            (0..count).for_each(|op| self.run_forwarded_read(at, term, of, op));
        }
    }

    /// Runs the reads of a part up to its next write, and answers them. Gives the part from there on.
    fn run_reads_of(
        &mut self,
        at: usize,
        term: Term,
        part: Option<Part>,
        forwarded: &mut VecDeque<Forwarded>,
    ) -> Option<Part> {
        let mut part = part?;
        let of = forwarded.get_mut(part.place)?;
        while of.batch.ops.get(part.next).is_some_and(|op| !op.logged) {
            self.run_forwarded_read(at, term, of, part.next);
            part.next += 1;
        }
        Some(part)
    }

    /// Runs a forwarded read on the state here and answers it, if it is one that waits for its answer.
    fn run_forwarded_read(&mut self, at: usize, term: Term, of: &mut Forwarded, op: usize) {
        let Op { call, logged, .. } = of.batch.ops[op];
        let shard = &mut self.shards[at];
        let Some(replica) = shard.replica.as_mut().filter(|_| !logged && call.origin != Origin::Nobody)
        else {
            return;
        };
        let now = replica.keyspace.stamp();
        let mut desk = desk!(self, shard.id, term);
        if desk.is_unheard(&call) {
            desk.answer(&call, |_| {});
        } else {
            let args = of.batch.args(&of.batch.ops[op]);
            replica.keyspace.events.set_misses(Misses::Untold); // the leader runs it too
            let mut cx = WriteCx { keyspace: &mut replica.keyspace, db: call.db, now, rng: &mut self.rng };
            match call.wait {
                // It waits, and the leader will say so: asked for again it waits there.
                Some(wait) if desk.attempt(&call, wait.again, &mut cx, args).is_some() => return,
                Some(_) => {}
                None => desk.answer(&call, |reply| call.handler.write(&mut cx, args, reply)),
            }
        }
        of.batch.ops[op].call.origin = Origin::Nobody;
        of.open -= 1;
    }

    /// Runs a logged command; `call` tells who waits for it here.
    fn run_logged(
        &mut self,
        at: usize,
        id: LogId,
        (db, again): (u8, bool),
        args: Args<'_>,
        rng: &mut Rng,
        call: Option<(Call, Option<AwayKey>)>,
    ) {
        let handler = match operation(args, true).map(|(_, handler)| handler) {
            Ok(handler @ Handler::Write(_)) => handler,
            _ => panic!("entry {id:?} holds {:?}, which is no write", args.get(0)),
        };
        let shard = &mut self.shards[at];
        let Some(replica) = &mut shard.replica else { return };
        let now = replica.keyspace.stamp();
        replica.keyspace.access.set_paused(call.is_some_and(|(call, _)| call.no_touch));
        let origin = call.map_or(Origin::Nobody, |(call, _)| call.origin);
        Node::note_author(&mut self.notify.authors, &replica.keyspace, origin);
        replica.keyspace.events.set_misses(Misses::OfLog);
        let mut cx = WriteCx { keyspace: &mut replica.keyspace, db, now, rng };
        match call {
            Some((call, Some(key))) if call.wait.is_some() => {
                let mut desk = desk!(self, shard.id, id.term);
                let waits = desk.attempt(&call, again, &mut cx, args).is_some();
                match (waits, shard.away.get(key).is_some()) {
                    // The leader has it wait, whether its word of that has come or not.
                    (true, false) => self.note_away(at, key, call, args),
                    (false, true) => drop(shard.away.remove(key)),
                    _ => {}
                }
            }
            Some((call, _)) => {
                let mut desk = desk!(self, shard.id, id.term);
                desk.answer(&call, |reply| handler.write(&mut cx, args, reply));
            }
            None => {
                self.reply_scratch.clear();
                let mut reply = Reply::new(&mut self.reply_scratch, Protocol::Resp2);
                handler.attempt(&mut cx, args, &mut reply, again);
            }
        }
    }
}

/// Takes over what the leader decided for the entry. Gives its random choices.
fn begin_entry(keyspace: &mut Keyspace, decided: Decided) -> Rng {
    keyspace.advance(decided.stamp);
    keyspace.set_once_retention(1_000 * u64::from(decided.once_retention_seconds));
    Rng::new(decided.seed)
}

/// Where an entry goes on with the operations of one of this node's forwards.
#[derive(Clone, Copy)]
struct Part {
    /// The forward's place among those not answered.
    place: usize,
    /// The place of the next operation in the forward.
    next: usize,
}

impl Part {
    /// Who waits for the next write of the part, which is taken for answered. Panics if the log has another command there than
    /// was forwarded: its reply would go to somebody else's client.
    fn take_write(&mut self, args: Args<'_>, forwarded: &mut VecDeque<Forwarded>) -> Option<Call> {
        let of = forwarded.get_mut(self.place)?;
        let asked = of.batch.args(of.batch.ops.get(self.next)?);
        assert!(
            (asked.len(), asked.get(0)) == (args.len(), args.get(0)),
            "INV-NODE-4: operation {} of forward {} is {:?} with {} arguments, in the log it is {:?} with {}",
            self.next,
            of.number,
            asked.get(0).map(String::from_utf8_lossy),
            asked.len(),
            args.get(0).map(String::from_utf8_lossy),
            args.len(),
        );
        let op = &mut of.batch.ops[self.next];
        self.next += 1;
        let call = op.call;
        if call.origin == Origin::Nobody {
            return None;
        }
        op.call.origin = Origin::Nobody;
        of.open -= 1;
        Some(call)
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
