//! Entries that another node proposed become state. Where they carry what this node forwarded, its clients get their replies
//! from here, so that they need not know whether the leader is still there.

use std::collections::VecDeque;

use skep_base::{Args, LogId, Rng, Term, Unserved};
use skep_keyspace::events::Misses;
use skep_keyspace::{Handler, WriteCx};
use skep_resp::{Protocol, Reply};

use crate::Node;
use crate::answer::{Desk, desk};
use crate::away::AwayKey;
use crate::batch::{Call, Op, Origin};
use crate::entry::{EntryReader, OpKind, Source};
use crate::line::{Line, Member, Serving};
use crate::operation::operation;
use crate::script_notes::script_notes_of;
use crate::shard::Forwarded;

impl Node {
    /// Applies an entry that another node proposed, or this one in an earlier life. True if the entry asks for digests.
    pub(crate) fn apply_foreign(
        &mut self,
        at: usize,
        id: LogId,
        reader: &mut EntryReader<'_>,
        rng: &mut Rng,
    ) -> bool {
        let mut forwarded = std::mem::take(&mut self.shards[at].forwarded);
        let mut part: Option<Part> = None;
        let (mut mark, mut ends_part) = (None, false);
        let mut wants_digest = false;
        let mut spans = Vec::new();
        let mut line = Line::new();
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
                    let unserved = self.run_logged(at, id, (db, true), args, rng, call);
                    line.join(call, db, args, unserved);
                }
                OpKind::Serve => {
                    args.iter().for_each(|key| self.serve_line(at, id, (db, key), rng, &mut line))
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
                    let call = call.map(|call| (call, key));
                    let unserved = self.run_logged(at, id, (db, false), args, rng, call);
                    line.join(call, db, args, unserved);
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
    ) -> Option<Caller> {
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
                None => {
                    desk.answer(&call, |reply| call.handler.write(&mut cx, args, reply));
                    let notes = script_notes_of(&replica.keyspace, call.command);
                    self.tell_script_notes(at, term, &call, notes);
                }
            }
        }
        of.batch.ops[op].call.origin = Origin::Nobody;
        of.open -= 1;
    }

    /// Tries those again who stand in the entry's line for a key.
    fn serve_line(
        &mut self,
        at: usize,
        id: LogId,
        (db, key): (u8, &[u8]),
        rng: &mut Rng,
        line: &mut Line<Option<Caller>>,
    ) {
        let mut serving = Serving::of(db, key);
        while let Some(replica) = &self.shards[at].replica
            && let Some(place) = line.next(&mut serving, &replica.keyspace)
        {
            let Member { who, db, args, .. } = line.get(place);
            if self.run_logged(at, id, (*db, true), args.args(), rng, *who).is_none() {
                line.served(place, &mut serving);
            }
        }
    }

    /// Runs a logged command; `call` tells who waits for it here. `Some` if it found nothing, and waits.
    fn run_logged(
        &mut self,
        at: usize,
        id: LogId,
        (db, again): (u8, bool),
        args: Args<'_>,
        rng: &mut Rng,
        call: Option<Caller>,
    ) -> Option<Unserved> {
        let (command, handler) = match operation(args, true) {
            Ok((command, handler @ Handler::Write(_))) => (command, handler),
            _ => panic!("entry {id:?} holds {:?}, which is no write", args.get(0)),
        };
        let shard = &mut self.shards[at];
        let replica = shard.replica.as_mut()?;
        let now = replica.keyspace.stamp();
        replica.keyspace.access.set_paused(call.is_some_and(|(call, _)| call.no_touch));
        let origin = call.map_or(Origin::Nobody, |(call, _)| call.origin);
        Node::note_author(&mut self.notify.authors, &replica.keyspace, origin);
        replica.keyspace.events.set_misses(Misses::OfLog);
        let mut cx = WriteCx { keyspace: &mut replica.keyspace, db, now, rng };
        match call {
            Some((call, Some(key))) if call.wait.is_some() => {
                let mut desk = desk!(self, shard.id, id.term);
                let unserved = desk.attempt(&call, again, &mut cx, args);
                match (&unserved, shard.away.get(key).is_some()) {
                    // The leader has it wait, whether its word of that has come or not.
                    (Some(_), false) => self.note_away(at, key, call, args),
                    (None, true) => drop(shard.away.remove(key)),
                    _ => {}
                }
                unserved
            }
            Some((call, _)) => {
                let mut desk = desk!(self, shard.id, id.term);
                desk.answer(&call, |reply| handler.write(&mut cx, args, reply));
                let notes = script_notes_of(&replica.keyspace, command);
                self.tell_script_notes(at, id.term, &call, notes);
                None
            }
            None => {
                self.reply_scratch.clear();
                let mut reply = Reply::new(&mut self.reply_scratch, Protocol::Resp2);
                let unserved = handler.attempt(&mut cx, args, &mut reply, again);
                // Who answers tells.
                drop(script_notes_of(&replica.keyspace, command));
                unserved
            }
        }
    }
}

/// Who waits here for a command in the log: the call, and where it was forwarded.
type Caller = (Call, Option<AwayKey>);

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
