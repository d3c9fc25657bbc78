//! Calls of this node's clients that wait at a leader elsewhere, kept until it answers, or the log does.
//!
//! The leader has said that they wait, or this node's log shows a try that found nothing. Their forward holds nothing up any
//! more. What is kept is settled like a forward (`requests.rs`): by an answer, by a try of it in the log behind a
//! [`Source`](crate::entry::Source) of this node, or by an entry of a later term, after which it is sent to the next leader
//! with the time that it has waited.

use std::collections::{BTreeMap, BTreeSet};

use skep_base::args::OwnedArgs;
use skep_base::{Args, GroupId, Millis, NodeId, Term};
use skep_keyspace::{Handler, Wait};
use skep_peer::{Answer, ForwardAnswers, PeerMessage};

use crate::answer::{Desk, desk};
use crate::batch::{Asker, Call, CallWait, Unblock};
use crate::{Node, Output};

/// The operation at a place of a forward to the leader of a term.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct AwayKey {
    pub term: Term,
    pub number: u64,
    pub index: u32,
}

/// A call that waits elsewhere.
pub(crate) struct AwayCall {
    pub call: Call,
    pub args: OwnedArgs,
    leader: NodeId,
    /// The run of the leader that knows of it.
    incarnation: u64,
    deadline: Option<Millis>,
    /// A checkpoint took the place of entries that may have held a try of it.
    fate_unknown: bool,
}

/// All of a shard.
#[derive(Default)]
pub(crate) struct Away {
    calls: BTreeMap<AwayKey, AwayCall>,
    askers: BTreeMap<Asker, AwayKey>,
    deadlines: BTreeSet<(Millis, AwayKey)>,
}

impl Away {
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    pub fn get(&self, key: AwayKey) -> Option<&AwayCall> {
        self.calls.get(&key)
    }

    /// The oldest forward to the leader of a term of which something waits there.
    pub fn oldest(&self, term: Term) -> Option<u64> {
        let from = AwayKey { term, number: 0, index: 0 };
        self.calls.range(from..).next().filter(|(key, _)| key.term == term).map(|(key, _)| key.number)
    }

    fn insert(&mut self, key: AwayKey, away: AwayCall) {
        if let Some(asker) = away.call.origin.asker() {
            let before = self.askers.insert(asker, key);
            assert!(before.is_none(), "INV-WAIT-2: {asker:?} waits twice");
        }
        self.deadlines.extend(away.deadline.map(|deadline| (deadline, key)));
        self.calls.insert(key, away);
    }

    pub fn remove(&mut self, key: AwayKey) -> Option<AwayCall> {
        let away = self.calls.remove(&key)?;
        if let Some(asker) = away.call.origin.asker() {
            self.askers.remove(&asker);
        }
        if let Some(deadline) = away.deadline {
            self.deadlines.remove(&(deadline, key));
        }
        Some(away)
    }

    /// Takes out what waits at leaders of terms before `term`, who has waited longest first.
    fn take_before(&mut self, term: Term) -> Vec<AwayCall> {
        let keys: Vec<AwayKey> = self.calls.keys().take_while(|key| key.term < term).copied().collect();
        let mut taken: Vec<AwayCall> = keys.into_iter().filter_map(|key| self.remove(key)).collect();
        taken.sort_by_key(|away| away.call.wait.map(|wait| wait.since));
        taken
    }

    /// The earliest deadline.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    fn take_overdue(&mut self, limit: Millis) -> Option<AwayCall> {
        let (deadline, key) = *self.deadlines.first()?;
        if deadline <= limit { self.remove(key) } else { None }
    }
}

impl Node {
    /// Takes note that a call of one of this node's clients waits at the leader that it was forwarded to.
    pub(crate) fn note_away(&mut self, at: usize, key: AwayKey, mut call: Call, args: Args<'_>) {
        let shard = &mut self.shards[at];
        let session = shard.session;
        let deadline = Wait::of(call.command, args)
            .zip(call.wait)
            .and_then(|(wait, since)| (wait.timeout_ms > 0).then(|| since.since.plus(wait.timeout_ms)));
        call.wait = call.wait.map(|wait| CallWait { again: true, parked: false, ..wait });
        self.tell_parked(at, &mut call);
        let away = AwayCall {
            call,
            args: OwnedArgs::copy(args),
            leader: session.leader,
            incarnation: session.incarnation,
            deadline,
            fate_unknown: false,
        };
        self.shards[at].away.insert(key, away);
        if let Some(end) = call.wait.and_then(|wait| wait.end) {
            self.send_withdrawal(at, key, end);
        }
    }

    /// Answers to calls that wait.
    pub(crate) fn answer_away(&mut self, at: usize, answers: &ForwardAnswers) {
        if self.shards[at].away.is_empty() {
            return;
        }
        for (number, index, answer) in answers.iter() {
            let key = AwayKey { term: answers.term, number, index };
            if !matches!(answer, Answer::Reply(_) | Answer::NotDone) {
                continue;
            }
            let Some(away) = self.shards[at].away.remove(key) else { continue };
            match answer {
                Answer::Reply(bytes) => {
                    let mut desk = desk!(self, answers.group, answers.term);
                    desk.answer(&away.call, |reply| reply.raw(bytes));
                }
                _ => self.wait_at_next(at, answers.term, away.call, away.args.args()),
            }
        }
    }

    /// An entry of `term` is about to be applied: what waited at earlier leaders has got nothing, and is sent to the next.
    pub(crate) fn settle_away(&mut self, at: usize, term: Term) {
        for away in self.shards[at].away.take_before(term) {
            if away.fate_unknown && matches!(away.call.handler, Handler::Write(_)) {
                self.give_up_away(at, &away.call, "a checkpoint took the place of the log that would tell");
            } else {
                self.wait_at_next(at, Term(0), away.call, away.args.args());
            }
        }
    }

    /// Entries that may have held tries were not seen: if their leader answers no more, nobody can tell.
    pub(crate) fn forget_away(&mut self, at: usize) {
        self.shards[at].away.calls.values_mut().for_each(|away| away.fate_unknown = true);
    }

    /// Somebody leads in `term`, and this node has no log of the shard: of writes that waited at an earlier leader nobody here
    /// can tell whether they have got something.
    pub(crate) fn settle_away_without_log(&mut self, at: usize, term: Term) {
        for away in self.shards[at].away.take_before(term) {
            match away.call.handler {
                Handler::Write(_) => {
                    let why = format!("node {}, where it waited, does not lead any more", away.leader);
                    self.give_up_away(at, &away.call, &why);
                }
                Handler::Read(_) => self.wait_at_next(at, Term(0), away.call, away.args.args()),
            }
        }
    }

    /// Gives up what should have been answered for as long as a request may take.
    pub(crate) fn end_overdue_away(&mut self, at: usize) {
        let timeout = self.settings.request_timeout_ms();
        let Some(limit) = self.now.mono.0.checked_sub(timeout).map(Millis) else { return };
        while let Some(away) = self.shards[at].away.take_overdue(limit) {
            let why = format!("node {}, where it waited, did not answer", away.leader);
            self.give_up_away(at, &away.call, &why);
        }
    }

    fn give_up_away(&mut self, at: usize, call: &Call, why: &str) {
        let text = match call.handler {
            Handler::Write(_) => {
                format!("UNCERTAIN {why}; it may or may not have got something, look before you repeat it")
            }
            Handler::Read(_) => format!("TRYAGAIN {why}; nothing was done"),
        };
        let mut desk = desk!(self, self.shards[at].id, Term(0));
        desk.refuse(call, &text);
    }

    /// A call that waits elsewhere shall not any more. False if none does for this asker.
    pub(crate) fn withdraw_away(&mut self, at: usize, asker: Asker, end: Unblock) -> bool {
        let away = &mut self.shards[at].away;
        let Some(key) = away.askers.get(&asker).copied() else { return false };
        if let Some(wait) = away.calls.get_mut(&key).and_then(|away| away.call.wait.as_mut()) {
            wait.end = Some(end);
        }
        self.send_withdrawal(at, key, end);
        true
    }

    /// All of this node's calls that wait elsewhere shall not any more.
    pub(crate) fn withdraw_all_away(&mut self, at: usize, end: Unblock) {
        let askers: Vec<Asker> = self.shards[at].away.askers.keys().copied().collect();
        for asker in askers {
            self.withdraw_away(at, asker, end);
        }
    }

    fn send_withdrawal(&mut self, at: usize, key: AwayKey, end: Unblock) {
        let shard = &self.shards[at];
        let Some(away) = shard.away.get(key) else { return };
        if self.reaches(away.leader, away.incarnation) {
            let AwayKey { term, number, index } = key;
            let message = PeerMessage::Withdraw { group: shard.id, term, number, index, end };
            self.peers.send(away.leader, message);
        }
    }

    /// A new link to a node: withdrawals on the one before may be lost, and answers to reads, of which no log tells. They are
    /// asked for again.
    pub(crate) fn withdraw_again(&mut self, node: NodeId) {
        for at in 0..self.shards.len() {
            let calls = self.shards[at].away.calls.iter();
            let reads = calls
                .filter(|(_, away)| away.leader == node && matches!(away.call.handler, Handler::Read(_)));
            for key in reads.map(|(key, _)| *key).collect::<Vec<_>>() {
                self.send_withdrawal(at, key, Unblock::Gone);
                if let Some(away) = self.shards[at].away.remove(key) {
                    self.wait_at_next(at, Term(0), away.call, away.args.args());
                }
            }
            let calls = self.shards[at].away.calls.iter();
            let ended = calls.filter(|(_, away)| away.leader == node);
            let ended: Vec<(AwayKey, Unblock)> =
                ended.filter_map(|(key, away)| Some((*key, away.call.wait?.end?))).collect();
            ended.into_iter().for_each(|(key, end)| self.send_withdrawal(at, key, end));
        }
    }

    /// A call of another node's client shall not wait any more.
    pub(crate) fn on_withdraw(
        &mut self,
        (node, incarnation): (NodeId, u64),
        (group, term): (GroupId, Term),
        (number, index): (u64, u32),
        end: Unblock,
    ) {
        let Some(at) = self.shard_of_group(group) else { return };
        if self.shards[at].led == Some(term) {
            self.withdraw_here(at, Asker::Peer { node, incarnation, number, index }, end);
        }
    }

    /// A node is heard: its clients have their turn if they were passed over.
    pub(crate) fn offer_if_passed_over(&mut self, node: NodeId, out: &mut Vec<Output>) {
        let passed_over = self.shards.iter().filter(|shard| shard.waiting.take_passed_over(node)).count();
        if passed_over > 0 {
            self.offer_to_node(node, out);
        }
    }

    /// A link to a node is new: its clients are there again, or others are.
    pub(crate) fn offer_to_node(&mut self, node: NodeId, _: &mut Vec<Output>) {
        let run = self.peers.incarnation_of(node);
        for at in 0..self.shards.len() {
            for (db, key) in self.shards[at].waiting.forget_runs(node, run) {
                self.offer(at, db, &key, false);
            }
        }
    }
}
