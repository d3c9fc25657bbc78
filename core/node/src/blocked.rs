//! Commands that wait on the leader of their shard: taken in, tried when something comes, answered when their time is over.
//!
//! A try is the command itself in an entry, behind the write that it waited for if that is known (INV-WAIT-3: who waits is
//! served by the log, as every write, and by nothing else). One that finds nothing has changed nothing and goes back to its
//! place. Commands that only read are tried on the state as it is applied. Who waits in which order is in `waiting.rs`,
//! who gets a try when in `serving.rs`.

use skep_base::args::OwnedArgs;
use skep_base::{Args, Term, Unserved};
use skep_command::{CommandId, CommandSpec, id_of};
use skep_keyspace::{Handler, ReadCx, Wait, WaitKind};
use skep_peer::Answer;
use skep_resp::Reply;

use crate::answer::{Desk, desk};
use crate::batch::{Asker, Call, CallWait, Origin, Unblock};
use crate::cells::Message;
use crate::copies::{Target, waits_for_copies};
use crate::waiting::{Place, Try, Waiter, waited_keys};
use crate::{Node, Output};

const QGET: CommandId = id_of("qget");

impl Node {
    /// Takes a write into the batch of its shard, and behind it those who wait for what it brings. One that may wait is left
    /// waiting instead if it is certain that it would find nothing.
    #[inline]
    pub(crate) fn push_write(&mut self, at: usize, call: Call, args: Args<'_>) {
        let shard = &mut self.shards[at];
        if call.wait.is_none() && shard.waiting.is_empty() {
            return shard.batch.push_write(call, args);
        }
        if call.wait.is_some() && self.begin_waiting(at, call, args) {
            return;
        }
        self.shards[at].batch.push_write(call, args);
        self.serve_behind(at, call.db, call.command, args);
    }

    /// Takes a read that may wait: runs it, or leaves it waiting, or takes it into the batch.
    pub(crate) fn push_read(&mut self, at: usize, call: Call, args: Args<'_>) {
        let (now, wait) = (self.now, call.wait.filter(|_| call.free));
        let shard = &mut self.shards[at];
        let free_to_read = !shard.holds_reads();
        let replica = shard.replica.as_mut().filter(|r| free_to_read && r.may_read(now.mono));
        let (Some(wait), Some(replica)) = (wait, replica) else {
            return shard.batch.push_read(call, args);
        };
        let (time, term) = (replica.time(now), replica.group.term());
        let keyspace = &replica.keyspace;
        keyspace.access.set_paused(call.no_touch);
        let mut bytes = Vec::new();
        let mut cx = ReadCx { keyspace, db: call.db, now: time, rng: &mut self.rng };
        let mut reply = Reply::new(&mut bytes, call.protocol);
        let unserved = call.handler.attempt_read(&mut cx, args, &mut reply, wait.again);
        drop(reply);
        if keyspace.take_saw_due() && !self.disk_full {
            shard.batch.want_entry();
            return shard.batch.push_read(call, args);
        }
        shard.batch.pass(call.origin);
        match unserved {
            Some(unserved) => self.settle_try(at, term, &call, args, Some(unserved)),
            None => {
                let mut desk = desk!(self, self.shards[at].id, term);
                desk.answer(&call, |reply| reply.raw(&bytes));
            }
        }
    }

    /// Takes in a write that may wait, if this node leads. True if it waits; else it is to be tried, and has its place already.
    fn begin_waiting(&mut self, at: usize, call: Call, args: Args<'_>) -> bool {
        let now = self.now;
        let shard = &mut self.shards[at];
        let (Some(asker), Some(wait)) = (call.origin.asker(), Wait::of(call.command, args)) else {
            return false;
        };
        let Some(replica) = shard.replica.as_mut().filter(|replica| replica.leads()) else { return false };
        let keys = waited_keys(call.command, args, wait.first_key_only);
        // Readers of different groups, or of what they had before, do not wait for each other.
        let is_behind =
            wait.kind != WaitKind::Stream && keys.iter().any(|key| shard.waiting.holds_key(call.db, key));
        let time = replica.time(now);
        let keyspace = &replica.keyspace;
        keyspace.access.take_saw_due();
        let lacks = call.free
            && replica.may_read(now.mono)
            && keys.iter().all(|key| keyspace.lacks(wait.kind, call.db, key, time));
        let lacks = !keyspace.access.take_saw_due() && lacks;
        let waits = is_behind || lacks;
        let offered = if waits && !lacks { keys.clone() } else { Vec::new() };
        let deadline = deadline_of(&call, wait);
        let what = (wait.kind, keys);
        let trying = if waits { Try::None } else { Try::InLine(shard.batch_number()) };
        let place = shard.waiting.add(asker, call, OwnedArgs::copy(args), what, deadline, trying);
        if waits {
            // Its place in the batch is not passed: to whoever forwarded it it is a write, which the log is to have. So what
            // comes behind it gets a mark of its own.
            self.note_parked(at, place);
            offered.iter().for_each(|key| self.offer(at, call.db, key, false));
        }
        waits
    }

    /// Takes note of what came of a try in an entry of `term`: it was answered, or found nothing.
    pub(crate) fn settle_try(
        &mut self,
        at: usize,
        term: Term,
        call: &Call,
        args: Args<'_>,
        unserved: Option<Unserved>,
    ) {
        let shard = &mut self.shards[at];
        let Some(asker) = call.origin.asker() else { return };
        // Forwards are counted anew in each term: a try of an earlier one is of another call than who waits here by its number.
        let is_of_term = shard.led == Some(term) || !matches!(asker, Asker::Peer { .. });
        let place = shard.waiting.place_of(asker).filter(|_| is_of_term);
        let Some(unserved) = unserved else {
            if let Some(waiter) = place.and_then(|place| shard.waiting.remove(place)) {
                let db = waiter.call.db;
                shard.served.extend(waiter.keys().map(|key| (db, Box::from(key))));
            }
            return;
        };
        let resolved = unserved.args.as_ref().map_or(args, |args| args.args());
        let leads = shard.leads() && is_of_term;
        let wait = Wait::of(call.command, resolved);
        match (place, wait) {
            (Some(place), _) if leads => {
                shard.waiting.set_trying(place, Try::None);
                self.go_on_waiting(at, place);
            }
            (None, Some(wait)) if leads => {
                let what = (wait.kind, waited_keys(call.command, resolved, wait.first_key_only));
                let deadline = deadline_of(call, wait);
                let place =
                    shard.waiting.add(asker, *call, OwnedArgs::copy(resolved), what, deadline, Try::None);
                if wait.kind == WaitKind::Copies
                    && let Some(target) = self.copies_target(at)
                {
                    self.shards[at].waiting.set_copies(place, target);
                    self.shards[at].copies_seen.1.clear();
                }
                self.go_on_waiting(at, place);
            }
            _ => {
                if let Some(place) = place {
                    shard.waiting.remove(place);
                }
                self.wait_at_next(at, term, *call, resolved);
            }
        }
    }

    /// A call has its place and no try on its way: it is told so, or ended if it should be.
    fn go_on_waiting(&mut self, at: usize, place: Place) {
        if self.end_if_copied(at, place) {
            return;
        }
        let waiting = &mut self.shards[at].waiting;
        let Some(waiter) = waiting.get(place) else { return };
        let Some(wait) = waiter.call.wait else { return };
        if waiter.kind == WaitKind::Queue {
            let db = waiter.call.db;
            let keys: Vec<Box<[u8]>> = waiter.keys().map(Box::from).collect();
            keys.iter().for_each(|key| self.note_held_back(at, db, key));
        }
        let waiting = &mut self.shards[at].waiting;
        match wait.end {
            Some(end) => {
                let waiter = waiting.remove(place).expect("found above");
                self.end_wait(at, &waiter.call, waiter.args.args(), waiter.copies, end);
            }
            None if wait.parked => {}
            None => self.note_parked(at, place),
        }
    }

    /// Tells whose call it is that it waits.
    fn note_parked(&mut self, at: usize, place: Place) {
        if let Some(mut call) = self.shards[at].waiting.set_parked(place) {
            self.tell_parked(at, &mut call);
        }
    }

    /// Tells whose call it is that it waits here or at another leader; it weighs nothing between cells from then on.
    pub(crate) fn tell_parked(&mut self, at: usize, call: &mut Call) {
        match &mut call.origin {
            Origin::Client { cell, conn, .. } if usize::from(*cell) == self.cells.me => {
                if let Some(client) = self.clients.get_mut(*conn) {
                    client.blocked = true;
                }
            }
            Origin::Client { cell, weight, .. } => {
                let (cell, parked) = (usize::from(*cell), std::mem::take(weight));
                let mut told = *call;
                if let Origin::Client { weight, .. } = &mut told.origin {
                    *weight = parked;
                }
                self.cells.send(cell, Message::Parked(told));
            }
            Origin::Peer { node, incarnation, number, index } => {
                let shard = &self.shards[at];
                let (to, op) = ((*node, *incarnation), (*number, *index));
                let session = (shard.id, shard.led.unwrap_or_default());
                self.answers.push(to, session, op, Answer::Parked);
            }
            Origin::Nobody => {}
        }
    }

    /// Answers a call that has got nothing and waits no more.
    pub(crate) fn end_wait(
        &mut self,
        at: usize,
        call: &Call,
        args: Args<'_>,
        copies: Option<Target>,
        end: Unblock,
    ) {
        if end == Unblock::Timeout && waits_for_copies(call.command) {
            return self.end_with_copies(at, call, copies);
        }
        if end == Unblock::Timeout && waits_for_a_job(call.command) {
            return self.end_with_the_job(at, call, args);
        }
        let shard = &self.shards[at];
        let mut desk = desk!(self, shard.id, shard.led.unwrap_or_default());
        match end {
            Unblock::Timeout => desk.answer(call, |reply| reply.null_array()),
            Unblock::Error => {
                desk.answer(call, |reply| reply.error("UNBLOCKED client unblocked via CLIENT UNBLOCK"));
            }
            Unblock::Stopping => {
                desk.answer(call, |reply| reply.error("UNBLOCKED the node is stopping; nothing was done"));
            }
            // A node that asked for it hears that it is so.
            Unblock::Gone => desk.answer(call, |_| {}),
        }
    }

    /// Answers a `QGET` that has waited in vain as one that does not wait, so that nil says that there is no such job.
    fn end_with_the_job(&mut self, at: usize, call: &Call, args: Args<'_>) {
        let (call, plain) = (Call { wait: None, ..*call }, OwnedArgs::collect(args.iter().take(3)));
        let term = self.shards[at].led.unwrap_or_default();
        if !self.read_at_once(at, term, &call, plain.args()) {
            self.shards[at].batch.push_read(call, plain.args());
        }
    }

    /// Answers those whose time is over.
    pub(crate) fn end_waits(&mut self, out: &mut Vec<Output>) {
        for at in 0..self.shards.len() {
            self.end_overdue_away(at);
            if self.shards[at].waiting.is_empty() {
                self.shards[at].held_back.clear();
                continue;
            }
            if !self.shards[at].leads() {
                // Its state is not to be trusted; another is to lead.
                let waiting = self.stop_waiting(at);
                self.wait_elsewhere(at, waiting);
                continue;
            }
            // Who waits uses the shard: that there was nothing in the end is told under a lease, which a group at rest has not.
            self.shards[at].leading().into_iter().for_each(|replica| replica.group.note_used());
            while let Some((_, db, key)) = self.shards[at].take_held_back(self.now.mono) {
                self.offer(at, db, &key, false);
            }
            // "There was nothing" is a read: another leader may have been given something meanwhile.
            let mono = self.now.mono;
            self.end_copied(at);
            while let Some(waiter) = self.shards[at].waiting.take_overdue_for_copies(mono) {
                self.end_wait(at, &waiter.call, waiter.args.args(), waiter.copies, Unblock::Timeout);
            }
            while self.shards[at].leading().is_some_and(|replica| replica.may_read(mono))
                && let Some(waiter) = self.shards[at].waiting.take_overdue(mono)
            {
                self.end_wait(at, &waiter.call, waiter.args.args(), waiter.copies, Unblock::Timeout);
            }
        }
        self.list_grown(out);
    }

    /// Takes out all who wait here, but for those whose tries are on their way, which tell of themselves.
    pub(crate) fn stop_waiting(&mut self, at: usize) -> Vec<Waiter> {
        self.shards[at].waiting.take_all().filter(|waiter| waiter.trying == Try::None).collect()
    }

    /// Lets those who waited here wait at the next leader.
    pub(crate) fn wait_elsewhere(&mut self, at: usize, waiting: Vec<Waiter>) {
        for waiter in waiting {
            let term = match waiter.call.origin {
                Origin::Peer { node, .. } => self.term_of_inbound(at, node),
                _ => Term(0),
            };
            self.wait_at_next(at, term, waiter.call, waiter.args.args());
        }
    }

    /// Sends a call that has got nothing to whoever leads next, or gives it back to the node that it came from.
    pub(crate) fn wait_at_next(&mut self, at: usize, term: Term, mut call: Call, args: Args<'_>) {
        let reads_elsewhere = matches!(call.origin, Origin::Peer { .. }) && waits_for_a_job(call.command);
        match call.wait.and_then(|wait| wait.end) {
            // The node that it came from sends it on, and not to wait.
            Some(Unblock::Timeout) if reads_elsewhere => {}
            Some(end) => return self.end_wait(at, &call, args, None, end),
            None => {}
        }
        call.wait = call.wait.map(|wait| CallWait { again: true, parked: false, ..wait });
        match (call.origin, call.handler) {
            (Origin::Peer { node, incarnation, number, index }, _) => {
                let session = (self.shards[at].id, term);
                self.answers.push((node, incarnation), session, (number, index), Answer::NotDone);
            }
            (_, Handler::Write(_)) => self.shards[at].batch.push_write(call, args),
            (_, Handler::Read(_)) => self.shards[at].batch.push_read(call, args),
        }
    }

    /// Clients of this cell that wait.
    pub(crate) fn blocked_clients(&self) -> usize {
        self.clients.iter().filter(|client| client.blocked).count()
    }
}

/// True for `QGET`.
fn waits_for_a_job(command: &CommandSpec) -> bool {
    command.id() == QGET
}

fn deadline_of(call: &Call, wait: Wait) -> Option<skep_base::Millis> {
    let since = call.wait?.since;
    (wait.timeout_ms > 0).then(|| since.plus(wait.timeout_ms))
}

#[cfg(test)]
mod cluster_tests;
#[cfg(test)]
mod tests;
