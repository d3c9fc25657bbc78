//! Operations on their way: proposed by the leader, forwarded by the others, answered, given up, or sent again.
//!
//! A batch is never lost and never carried out twice. What the leader proposed in a term, or what was forwarded to it in
//! that term, was carried out exactly if it is in the log; and it will never be in the log once an entry of a later term
//! is (Raft: a leader's entries are committed in order, and a later leader's first entry ends what the earlier one can
//! commit). So whoever applies such an entry sends what is left to the new leader, and no client hears of the change.

use std::collections::{BTreeMap, VecDeque};

use skep_base::args::OwnedArgs;
use skep_base::{GroupId, LogId, Millis, NodeId, Term};
use skep_consensus::ReadId;
use skep_keyspace::ReadCx;
use skep_peer::{Answer, Forward, ForwardAnswers, PeerMessage};
use skep_resp::Reply;

use crate::answer::{Desk, desk};
use crate::away::AwayKey;
use crate::batch::{InFlight, Op, Origin};
use crate::entry::Decided;
use crate::script_notes::{Ran, may_have_notes, script_note_of, script_notes_of};
use crate::shard::{Closed, Forwarded, Place, Proposed, Session, Shard};
use crate::{Node, Output};

/// Why nobody here can tell what became of a write.
const LOG_IS_GONE: &str = "a checkpoint took the place of the log that would tell";

impl Node {
    /// Sends on what was collected, for all shards.
    pub(crate) fn drive_requests(&mut self, out: &mut Vec<Output>) {
        for at in 0..self.shards.len() {
            self.drive_shard(at, out);
        }
    }

    /// Closes the shard's batch and sends on what can leave.
    pub(crate) fn drive_shard(&mut self, at: usize, out: &mut Vec<Output>) {
        let shard = &mut self.shards[at];
        if !shard.batch.is_empty() {
            shard.close_batch(self.now.mono);
        }
        while !self.shards[at].closed.is_empty() {
            let left =
                if self.shards[at].leads() { self.propose_next(at, out) } else { self.forward_next(at) };
            if !left {
                return;
            }
        }
    }

    /// Proposes the oldest closed batch. False if it has to wait.
    fn propose_next(&mut self, at: usize, out: &mut Vec<Output>) -> bool {
        let now = self.now;
        let shard = &mut self.shards[at];
        let Some(front) = shard.closed.front() else { return false };
        // What was forwarded to an earlier leader is settled by the first entry of this term.
        if !shard.forwarded.is_empty() || !shard.has_room(front.batch.bytes()) {
            return false;
        }
        let Some(replica) = &mut shard.replica else { return false };
        if replica.group.transferring().is_some() {
            return false;
        }
        let mut effects = std::mem::take(&mut self.effects);
        let term = replica.group.term();
        let place = if front.batch.needs_entry {
            let stamp = replica.time(now);
            let seed = self.rng.next_u64();
            let once_retention_seconds = self.settings.once_retention_seconds();
            let no_memory = self.memory.is_full();
            let decided = Decided { stamp, seed, once_retention_seconds, no_memory };
            let front = shard.closed.front_mut().expect("seen above");
            let payload = front.batch.payload(decided);
            match replica.group.propose([payload], &mut effects) {
                Ok(at) => Some(Place::Entry(at)),
                Err(refused) => panic!("the leader of {:?} was refused a proposal: {refused}", shard.id),
            }
        } else if replica.may_read(now.mono) {
            Some(Place::Confirmed)
        } else {
            replica.group.read_index(now.mono, &mut effects).ok().map(Place::Read)
        };
        if let Some(place) = place {
            let Closed { batch, since } = shard.closed.pop_front().expect("seen above");
            let bytes = batch.bytes();
            shard.in_flight.push_back(Proposed { place, term, bytes, since, batch: Some(batch) });
        }
        let group = shard.id;
        self.carry_out(group, &mut effects, out);
        self.effects = effects;
        self.run_confirmed_reads(at);
        place.is_some()
    }

    /// Forwards the oldest closed batch to the leader. False if it has to wait.
    fn forward_next(&mut self, at: usize) -> bool {
        let me = self.id;
        let shard = &mut self.shards[at];
        let Some((leader, term)) = shard.leader().filter(|(leader, _)| *leader != me) else { return false };
        let Some(front) = shard.closed.front() else { return false };
        if !shard.in_flight.is_empty() || !shard.has_room(front.batch.bytes()) {
            return false;
        }
        if (shard.session.leader, shard.session.term) != (leader, term) {
            if !shard.forwarded.is_empty() {
                return false;
            }
            let incarnation = self.peers.incarnation_of(leader).unwrap_or_default();
            shard.session = Session { leader, term, incarnation, next: 1, told: 1, rejected: false };
        }
        if shard.session.rejected {
            return false;
        }
        if !self.peers.is_linked(leader) {
            return false;
        }
        let Closed { batch, since } = shard.closed.pop_front().expect("seen above");
        // Evictions were the wish of a node that led.
        let number = shard.session.next;
        shard.session.next += 1;
        let forwarded = Forwarded {
            number,
            bytes: batch.bytes(),
            since,
            open: batch.ops.len(),
            batch,
            fate_unknown: false,
        };
        let floor = shard.floor().min(number);
        shard.session.told = floor;
        self.peers
            .send(leader, PeerMessage::Forward(forward_of(shard.id, term, floor, &forwarded, self.now.mono)));
        shard.forwarded.push_back(forwarded);
        true
    }

    /// Tells leaders which answers have come, if no forward told them.
    pub(crate) fn tell_floors(&mut self) {
        for shard in &mut self.shards {
            let Session { leader, term, told, .. } = shard.session;
            let floor = shard.floor();
            if floor > told {
                shard.session.told = floor;
                self.peers.send(leader, PeerMessage::ForwardFloor { group: shard.id, term, floor });
            }
        }
    }

    /// The link to a node is new: what was sent on the one before may be lost. A leader ignores what it had already. One that
    /// was started again would decline what its log may hold: the first entry of a later term tells.
    pub(crate) fn forward_again(&mut self, node: NodeId) {
        let incarnation = self.peers.incarnation_of(node);
        for shard in &mut self.shards {
            if shard.session.leader != node || Some(shard.session.incarnation) != incarnation {
                continue;
            }
            let floor = shard.floor();
            for forwarded in &shard.forwarded {
                let forward = forward_of(shard.id, shard.session.term, floor, forwarded, self.now.mono);
                self.peers.send(node, PeerMessage::Forward(forward));
            }
        }
    }

    /// The forward `number` and all behind it were declined, since that node does not lead in that term: it never will again.
    pub(crate) fn on_forward_rejected(&mut self, from: NodeId, group: GroupId, term: Term, number: u64) {
        let Some(at) = self.shard_of_group(group) else { return };
        let shard = &mut self.shards[at];
        if (shard.session.leader, shard.session.term) != (from, term) {
            return;
        }
        let keep = shard.forwarded.iter().take_while(|f| f.number < number).count();
        let rejected: Vec<Forwarded> = shard.forwarded.drain(keep..).collect();
        shard.session.rejected = true;
        self.send_again(at, rejected.into_iter().map(|f| (f.since, f.batch)).collect());
    }

    /// The leader's answers to what was forwarded.
    pub(crate) fn on_forward_answers(
        &mut self,
        from: NodeId,
        answers: &ForwardAnswers,
        out: &mut Vec<Output>,
    ) {
        let Some(at) = self.shard_of_group(answers.group) else { return };
        self.answer_away(at, answers);
        let shard = &mut self.shards[at];
        if (shard.session.leader, shard.session.term) != (from, answers.term) {
            return self.list_grown(out);
        }
        let mut forwarded = std::mem::take(&mut shard.forwarded);
        let first = forwarded.front().map_or(0, |f| f.number);
        let mut not_done = false;
        let mut parked = Vec::new();
        // What scripts did comes behind the replies, perhaps not at once.
        let (mut answered, mut noted) = (BTreeMap::new(), Vec::new());
        let mut desk = desk!(self, answers.group, answers.term);
        for (number, index, answer) in answers.iter() {
            let place = number.checked_sub(first).and_then(|n| usize::try_from(n).ok());
            let Some(of) = place.and_then(|place| forwarded.get_mut(place)) else { continue };
            let Some(op) = of.batch.ops.get_mut(index as usize) else { continue };
            if let Some(note) = script_note_of(&answer) {
                noted.push(((number, index), note));
                continue;
            }
            match answer {
                _ if op.call.origin == Origin::Nobody => {}
                Answer::Reply(bytes) => {
                    if may_have_notes(op.call.command) {
                        answered.insert((number, index), op.call);
                    }
                    desk.answer(&op.call, |reply| reply.raw(bytes));
                    op.call.origin = Origin::Nobody;
                    of.open -= 1;
                }
                Answer::NotDone => {
                    op.not_done = true;
                    not_done = true;
                }
                Answer::Parked => parked.push((number, index)),
                Answer::Denied { .. } | Answer::ScriptRead(_) | Answer::ScriptReadMany => {}
            }
        }
        // What was answered before was told before.
        for (place, note) in noted {
            if let Some(call) = answered.get(&place) {
                self.pass_script_notes(at, answers.term, (call, Ran::Elsewhere), vec![note]);
            }
        }
        for (number, index) in parked {
            let of = &mut forwarded[(number - first) as usize];
            let call = of.batch.ops[index as usize].call;
            if call.origin != Origin::Nobody {
                let args = OwnedArgs::copy(of.batch.args(&of.batch.ops[index as usize]));
                of.batch.ops[index as usize].call.origin = Origin::Nobody;
                of.open -= 1;
                self.note_away(at, AwayKey { term: answers.term, number, index }, call, args.args());
            }
        }
        if not_done {
            let again = forwarded.iter_mut().filter_map(|of| {
                let part = of.batch.take_where(|op| op.not_done);
                of.open -= part.as_ref().map_or(0, |part| part.ops.len());
                Some((of.since, part?))
            });
            let again: Vec<_> = again.collect();
            self.shards[at].forwarded = forwarded;
            self.send_again(at, again);
        } else {
            self.shards[at].forwarded = forwarded;
        }
        self.drop_answered_forwards(at);
        self.list_grown(out);
    }

    pub(crate) fn drop_answered_forwards(&mut self, at: usize) {
        let forwarded = &mut self.shards[at].forwarded;
        while forwarded.front().is_some_and(|f| f.open == 0) {
            forwarded.pop_front();
        }
    }

    /// An entry is about to be applied: settles what it decides. Gives the batch that this node proposed as this entry.
    pub(crate) fn settle(&mut self, at: usize, entry: LogId, out: &mut Vec<Output>) -> Option<Proposed> {
        let shard = &mut self.shards[at];
        let mut lost = Vec::new();
        let mut own = None;
        if let Some(place) = shard.in_flight.iter().position(|p| p.place == Place::Entry(entry)) {
            for _ in 0..place {
                let before =
                    self.shards[at].in_flight.pop_front().expect("it is in front of one that is there");
                match before.place {
                    // The entry behind them, of the same term, says that this node led when they were asked for.
                    Place::Read(_) | Place::Confirmed if before.term == entry.term => {
                        self.run_reads(at, before)
                    }
                    _ => lost.push(before),
                }
            }
            own = self.shards[at].in_flight.pop_front();
        } else {
            while shard.in_flight.front().is_some_and(|p| p.term < entry.term) {
                lost.extend(shard.in_flight.pop_front());
            }
        }
        let shard = &mut self.shards[at];
        let mut forwards = Vec::new();
        if shard.session.term < entry.term && !shard.forwarded.is_empty() {
            forwards.extend(shard.forwarded.drain(..));
        }
        if !lost.is_empty() || !forwards.is_empty() {
            self.settle_lost(at, lost, forwards, out);
        }
        if !self.shards[at].away.is_empty() {
            self.settle_away(at, entry.term);
        }
        own
    }

    fn settle_lost(
        &mut self,
        at: usize,
        proposed: Vec<Proposed>,
        forwards: Vec<Forwarded>,
        out: &mut Vec<Output>,
    ) {
        let mut again = Vec::new();
        for Proposed { since, batch, term, .. } in proposed {
            if let Some(batch) = batch {
                self.disown(at, term, &batch);
                again.push((since, batch));
            }
        }
        for forwarded in forwards {
            if forwarded.fate_unknown {
                self.give_up(at, &forwarded.batch, LOG_IS_GONE, true);
            } else {
                again.push((forwarded.since, forwarded.batch));
            }
        }
        self.send_again(at, again);
        self.list_grown(out);
    }

    /// A checkpoint took the place of entries, or they were passed over, so what became of what this node proposed when it led will not be seen, and the
    /// state may hold writes that it forwarded: reads that were sent before them can be answered by nobody but the leader.
    pub(crate) fn forget_on_the_way(&mut self, at: usize) {
        for proposed in std::mem::take(&mut self.shards[at].in_flight) {
            if let Some(batch) = proposed.batch {
                self.give_up(at, &batch, LOG_IS_GONE, true);
            }
        }
        let shard = &mut self.shards[at];
        shard.forwarded.iter_mut().for_each(|f| f.fate_unknown = true);
        let until_last_write = last_write(&shard.forwarded).map_or(0, |last| last + 1);
        let before = shard.forwarded.iter_mut().take(until_last_write);
        let reads = before.filter_map(|of| {
            let reads = of.batch.take_where(|op| !op.logged)?;
            of.open -= reads.ops.len();
            Some(reads)
        });
        for batch in reads.collect::<Vec<_>>() {
            self.give_up(at, &batch, LOG_IS_GONE, true);
        }
        self.forget_away(at);
        self.drop_answered_forwards(at);
    }

    /// Tells other nodes that operations of theirs in a batch were not carried out.
    fn disown(&mut self, at: usize, term: Term, batch: &InFlight) {
        let group = self.shards[at].id;
        for op in &batch.ops {
            if let Origin::Peer { node, incarnation, number, index } = op.call.origin {
                let (to, session) = ((node, incarnation), (group, term));
                self.answers.push(to, session, (number, index), Answer::NotDone);
            }
        }
    }

    /// Puts the operations of this node's clients back among what waits, in their order.
    fn send_again(&mut self, at: usize, batches: Vec<(Millis, InFlight)>) {
        for (since, batch) in batches {
            if batch.evictions > 0 {
                self.memory.forget_chosen();
            }
            if let Some(batch) = batch.rest() {
                self.shards[at].put_back(batch, since);
            }
        }
    }

    /// This node does not lead the shard any more: what other nodes gave it and is in no entry goes back to them.
    pub(crate) fn on_lead_lost(&mut self, at: usize) {
        let waiting = self.stop_waiting(at);
        // What came in the same turn would else be forwarded, beside what its senders do with it.
        if !self.shards[at].batch.is_empty() {
            self.shards[at].close_batch(self.now.mono);
        }
        let closed = std::mem::take(&mut self.shards[at].closed);
        for Closed { batch, .. } in &closed {
            for op in &batch.ops {
                if let Origin::Peer { node, incarnation, number, index } = op.call.origin {
                    let session = (self.shards[at].id, self.term_of_inbound(at, node));
                    self.answers.push((node, incarnation), session, (number, index), Answer::NotDone);
                }
            }
        }
        self.send_again(at, closed.into_iter().map(|c| (c.since, c.batch)).collect());
        self.wait_elsewhere(at, waiting);
    }

    pub(crate) fn term_of_inbound(&self, at: usize, node: NodeId) -> Term {
        self.shards[at].inbound.get(&node).map_or(Term(0), |inbound| inbound.term)
    }

    /// A quorum confirmed that this node led when the reads were asked for.
    pub(crate) fn on_read_ready(&mut self, at: usize, read: ReadId) {
        let mut in_flight = self.shards[at].in_flight.iter_mut();
        if let Some(found) = in_flight.find(|p| p.place == Place::Read(read)) {
            found.place = Place::Confirmed;
        }
        self.run_confirmed_reads(at);
    }

    /// Nobody will confirm these reads. If an entry follows them it will; else they are asked for again.
    pub(crate) fn on_read_dropped(&mut self, at: usize, read: ReadId) {
        let shard = &mut self.shards[at];
        if shard.in_flight.back().is_some_and(|p| p.place == Place::Read(read))
            && let Some(Proposed { since, batch: Some(batch), .. }) = shard.in_flight.pop_back()
        {
            shard.put_back(batch, since);
        }
    }

    fn run_confirmed_reads(&mut self, at: usize) {
        while self.shards[at].in_flight.front().is_some_and(|p| p.place == Place::Confirmed) {
            let Some(reads) = self.shards[at].in_flight.pop_front() else { return };
            self.run_reads(at, reads);
        }
    }

    /// Runs a batch that only reads.
    fn run_reads(&mut self, at: usize, reads: Proposed) {
        let Some(batch) = reads.batch else { return };
        for op in &batch.ops {
            self.run_read_op(at, &batch, op);
        }
    }

    /// Runs one read of a batch on the present state.
    fn run_read_op(&mut self, at: usize, batch: &InFlight, op: &Op) {
        let now = self.now;
        let args = batch.args(op);
        let mut bytes = std::mem::take(&mut self.reply_scratch);
        bytes.clear();
        let shard = &mut self.shards[at];
        let Some(replica) = &mut shard.replica else { return };
        let time = replica.time(now);
        let mut desk = desk!(self, shard.id, replica.group.term());
        let mut saw_due = false;
        let mut unserved = None;
        let mut notes = Vec::new();
        if !desk.is_unheard(&op.call) {
            let keyspace = &replica.keyspace;
            keyspace.access.set_paused(op.call.no_touch);
            let mut cx = ReadCx { keyspace, db: op.call.db, now: time, rng: &mut self.rng };
            let mut reply = Reply::new(&mut bytes, op.call.protocol);
            match op.call.wait {
                Some(wait) => {
                    unserved = op.call.handler.attempt_read(&mut cx, args, &mut reply, wait.again);
                }
                None => op.call.handler.read(&mut cx, args, &mut reply),
            }
            notes = script_notes_of(keyspace, op.call.command);
            saw_due = keyspace.take_saw_due() && !self.disk_full;
        }
        if let Some(unserved) = unserved.filter(|_| !saw_due) {
            let term = replica.group.term();
            self.settle_try(at, term, &op.call, args, Some(unserved));
        } else if saw_due {
            shard.batch.push_read(op.call, args);
            shard.batch.want_entry();
        } else {
            desk.answer(&op.call, |reply| reply.raw(&bytes));
            let term = replica.group.term();
            self.tell_script_notes(at, term, &op.call, notes);
        }
        self.reply_scratch = bytes;
    }

    /// When the oldest operation waits for longer than it may.
    pub(crate) fn next_overdue(&self) -> Option<Millis> {
        let timeout = self.settings.request_timeout_ms();
        let since = self.shards.iter().filter_map(Shard::waits_since).min()?;
        Some(since.plus(timeout + 1))
    }

    /// Tells clients whose operations wait for longer than `request-timeout`. What is on its way may still be carried out,
    /// what is not will not be.
    pub(crate) fn answer_overdue(&mut self, out: &mut Vec<Output>) {
        let timeout = self.settings.request_timeout_ms();
        let Some(limit) = self.now.mono.0.checked_sub(timeout).map(Millis) else { return };
        for at in 0..self.shards.len() {
            if self.shards[at].waits_since().is_some_and(|since| since < limit) {
                self.give_up_before(at, limit);
            }
        }
        self.list_grown(out);
    }

    fn give_up_before(&mut self, at: usize, limit: Millis) {
        let (late, now) = (|since: Millis| since < limit, self.now.mono);
        let shard = &mut self.shards[at];
        let mut sent = Vec::new();
        let mut unsent = Vec::new();
        for proposed in shard.in_flight.iter_mut().filter(|p| late(p.since)) {
            match &mut proposed.batch {
                // Other nodes' clients wait on: what comes of their tries is told when it is known; not by a node that stops, which
                // would wait for ever where too few others are left.
                Some(batch) if batch.has_waits_of_others() && !self.stopping => {
                    sent.extend(batch.take_where(|_| true));
                    proposed.since = now;
                }
                batch => sent.extend(batch.take()),
            }
        }
        // Reads wait for nothing but their answer.
        shard.in_flight.retain(|p| p.batch.is_some() || matches!(p.place, Place::Entry(_)));
        for forwarded in shard.forwarded.iter_mut().take_while(|f| late(f.since)) {
            forwarded.fate_unknown = true;
            forwarded.open = 0;
            sent.push(std::mem::take(&mut forwarded.batch));
        }
        // Nobody waits for evictions, and the node counts on them.
        while shard.closed.front().is_some_and(|c| late(c.since) && c.batch.evictions == 0) {
            unsent.extend(shard.closed.pop_front().map(|c| c.batch));
        }
        let hint = self.why_late(at);
        sent.iter().for_each(|batch| self.give_up(at, batch, &hint, true));
        unsent.iter().for_each(|batch| self.give_up(at, batch, &hint, false));
        self.drop_answered_forwards(at);
    }

    /// What holds a shard up, for whoever reads the error.
    fn why_late(&self, at: usize) -> String {
        let timeout = self.settings.request_timeout_ms();
        match self.shards[at].leader() {
            None => format!("no leader was found within {timeout} ms"),
            Some((leader, _)) if leader == self.id => format!("the disk took longer than {timeout} ms"),
            Some((leader, _)) => format!("node {leader}, which leads, did not answer within {timeout} ms"),
        }
    }

    /// Answers the operations of this node's clients in a batch with an error.
    fn give_up(&mut self, at: usize, batch: &InFlight, why: &str, sent: bool) {
        let uncertain =
            format!("UNCERTAIN {why}; the write may or may not be carried out, read before you repeat it");
        let not_done = format!("TRYAGAIN {why}; nothing was done");
        let mut desk = desk!(self, self.shards[at].id, Term(0));
        for op in batch.ops.iter().filter(|op| matches!(op.call.origin, Origin::Client { .. })) {
            desk.refuse(&op.call, if op.logged && sent { &uncertain } else { &not_done });
            let waiting = &mut self.shards[at].waiting;
            let asker = op.call.origin.asker().filter(|_| op.call.wait.is_some());
            asker.and_then(|asker| waiting.place_of(asker)).map(|place| waiting.remove(place));
        }
    }

    /// Nobody here can tell any more what became of what was forwarded to `node`, which cannot be asked.
    pub(crate) fn on_leader_unreachable(&mut self, node: NodeId, out: &mut Vec<Output>) {
        for at in 0..self.shards.len() {
            let shard = &mut self.shards[at];
            // A replica will see it in its log.
            if shard.session.leader != node || shard.replica.is_some() {
                continue;
            }
            let forwarded = std::mem::take(&mut shard.forwarded);
            let why = format!("node {node}, which led, is gone");
            // A read that is asked for once more must not see a write that was sent behind it.
            let last_write = last_write(&forwarded);
            let mut again = Vec::new();
            for (place, mut forwarded) in forwarded.into_iter().enumerate() {
                if last_write.is_none_or(|last| place > last) {
                    again.extend(forwarded.batch.take_where(|_| true).map(|reads| (forwarded.since, reads)));
                }
                self.give_up(at, &forwarded.batch, &why, true);
            }
            self.send_again(at, again);
        }
        self.list_grown(out);
    }
}

/// The last forward that has a write in it. One that was answered counts, since the answer to a read before it may be lost.
fn last_write(forwarded: &VecDeque<Forwarded>) -> Option<usize> {
    forwarded.iter().rposition(|f| f.batch.ops.iter().any(|op| op.logged))
}

fn forward_of(group: GroupId, term: Term, floor: u64, forwarded: &Forwarded, now: Millis) -> Forward {
    let mut forward = Forward::new(group, term, forwarded.number);
    forward.floor = floor;
    forwarded.batch.forward(&mut forward, now);
    forward
}

#[cfg(test)]
mod tests {
    use skep_base::ConnId;

    use crate::testing::World;
    use crate::{Input, Load};

    fn turn(world: &mut World) {
        world.input(Input::Turn(Load::default()));
    }

    fn set(world: &mut World, conn: ConnId, key: &str, bytes: usize) {
        world.receive(conn, format!("*3\r\n$3\r\nSET\r\n${}\r\n{key}\r\n${bytes}\r\n", key.len()));
        world.receive(conn, vec![b'x'; bytes]);
        world.receive(conn, "\r\n");
    }

    #[test]
    fn with_memory_durability_a_mixed_pipeline_is_answered_in_its_turn() {
        let mut world = World::new(&[("durability", "memory")]);
        let conn = world.connect();
        world.receive(conn, "SET a 1\r\nPING\r\nGET a\r\nSELECT 1\r\nSET a 2\r\nGET a\r\n");
        turn(&mut world);
        assert_eq!(world.replies(conn), "+OK +PONG $1 1 +OK +OK $1 2");
    }

    #[test]
    fn a_client_that_waits_does_not_wait_for_other_events() {
        let mut world = World::new(&[("durability", "memory")]);
        let conn = world.connect();
        world.receive(conn, "SET a 1\r\nPING\r\n".repeat(20));
        turn(&mut world);
        assert_eq!(world.node.next_wakeup(), Some(world.now.mono), "the node wants its next turn at once");
        world.settle();
        assert_eq!(world.replies(conn), vec!["+OK +PONG"; 20].join(" "));
    }

    #[test]
    fn more_than_the_group_takes_at_once_waits_in_order() {
        let mut world = World::new(&[]);
        world.holds_disk = true;
        let conns = [world.connect(), world.connect()];
        for round in 0..4 {
            for conn in conns {
                set(&mut world, conn, &format!("k{round}"), 15 << 20);
                turn(&mut world);
            }
        }
        assert!(!world.node.accepts_input(), "120 MB wait for the disk");
        world.receive(conns[0], "SET last 1\r\nSTRLEN k3\r\n");
        world.holds_disk = false;
        world.settle();
        assert_eq!(world.replies(conns[0]), "+OK +OK +OK +OK +OK :15728640");
        assert_eq!(world.replies(conns[1]), "+OK +OK +OK +OK");
        assert!(world.node.accepts_input());
    }

    #[test]
    fn a_stopping_node_waits_for_its_disk_without_asking_for_turns() {
        let mut w = World::new(&[("durability", "memory")]);
        let c = w.connect();
        assert_eq!(w.ask(c, "SET k v"), "+OK");
        w.holds_disk = true;
        w.input(Input::Stop);
        w.settle();
        assert!(!w.stopped && w.node.next_wakeup().is_none_or(|at| at > w.now.mono));
        w.persist();
        w.settle();
        assert!(w.stopped);
    }

    #[test]
    fn a_disk_that_hangs_is_told_to_those_who_wait() {
        let mut world = World::new(&[("request-timeout", "3000")]);
        world.holds_disk = true;
        let (first, second) = (world.connect(), world.connect());
        world.receive(first, "SET a 1\r\nGET a\r\n");
        turn(&mut world);
        set(&mut world, second, "big", 60 << 20);
        turn(&mut world);
        assert!(world.node.next_wakeup().is_some_and(|at| at <= world.now.mono.plus(3_001)));
        world.advance(3_001);
        turn(&mut world);
        let told = world.replies(first);
        assert!(told.starts_with("-UNCERTAIN the disk took longer than 3000 ms"), "{told}");
        assert!(told.contains("-TRYAGAIN"), "the read was not done: {told}");
        assert!(world.replies(second).starts_with("-TRYAGAIN"), "what was not proposed is dropped");
        world.holds_disk = false;
        world.settle();
        assert_eq!(world.ask(first, "GET a\nEXISTS big"), "$1 1 :0");
    }

    #[test]
    fn no_reply_to_a_write_is_given_before_it_is_durable() {
        let mut world = World::new(&[]);
        world.holds_disk = true;
        let (one, other) = (world.connect(), world.connect());
        assert_eq!(world.ask(one, "SET a 1\nGET a"), "", "INV-NODE-2");
        assert_eq!(world.ask(other, "GET a"), "$-1", "INV-NODE-2: nobody sees what may still be lost");
        world.persist();
        assert_eq!(world.replies(one), "+OK $1 1");
        assert_eq!(world.ask(other, "GET a"), "$1 1");
    }

    #[test]
    fn a_node_that_is_told_to_stop_on_a_full_disk_does_not_wait_for_ever() {
        let mut world = World::new(&[]);
        world.holds_disk = true;
        let conn = world.connect();
        assert_eq!(world.ask(conn, "SET a 1"), "");
        world.input(Input::DiskFull(true));
        world.input(Input::Stop);
        world.settle();
        assert!(!world.stopped, "there may be space in a moment");
        let at = world.node.next_wakeup().expect("it gives up at some time");
        assert!(at > world.now.mono, "it does not burn the processor until then");
        world.advance(crate::stop::STOP_FULL_MS);
        world.settle();
        assert!(world.stopped);
        assert_eq!(world.replies(conn), "", "what was not durable is not acknowledged");
    }

    #[test]
    fn a_node_that_is_told_to_stop_waits_for_what_is_under_way() {
        let mut world = World::new(&[]);
        world.holds_disk = true;
        let conn = world.connect();
        assert_eq!(world.ask(conn, "SET a 1"), "");
        world.input(Input::Stop);
        world.advance(2_000);
        world.settle();
        assert!(!world.stopped);
        world.holds_disk = false;
        world.settle();
        assert!(world.stopped);
        assert_eq!(world.replies(conn), "+OK");
    }

    #[test]
    fn on_a_full_disk_reads_of_what_is_due_are_answered_too() {
        let mut world = World::new(&[]);
        let conn = world.connect();
        assert_eq!(world.ask(conn, "SET gone 1 PX 100\nSET stays 1"), "+OK +OK");
        world.holds_disk = true;
        world.input(Input::DiskFull(true));
        world.advance(200);
        assert_eq!(world.ask(conn, "GET gone\nGET stays"), "$-1 $1 1");
    }
}
