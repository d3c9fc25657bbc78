//! Replies on their way to whoever asked: a client of this cell or of another, or another node for one of its clients.

use skep_base::{Args, ConnId, GroupId, NodeId, Term, Unserved};
use skep_keyspace::WriteCx;
use skep_peer::{Answer, ForwardAnswers, MESSAGE_BYTES_MAX};
use skep_resp::{Protocol, REPLY_BYTES_MAX, Reply};

use crate::batch::{Call, Origin};
use crate::cells::Cells;
use crate::client::{Client, Clients};
use crate::script_sources::{ScriptSources, Told};
use crate::stats::Stats;

/// Answers that leave in one message, but for one that is longer by itself.
const TOGETHER_BYTES_MAX: usize = 16 << 20;

/// A reply has room in a message.
const _: () = assert!(REPLY_BYTES_MAX + (1 << 20) < MESSAGE_BYTES_MAX);

/// Answers for other nodes, collected in a turn.
#[derive(Default)]
pub(crate) struct PeerAnswers {
    pub of: Vec<(NodeId, u64, ForwardAnswers)>,
}

/// Everything that an answer touches, apart from the state that it is read from.
pub(crate) struct Desk<'a> {
    pub clients: &'a mut Clients,
    pub cells: &'a mut Cells,
    pub peers: &'a mut PeerAnswers,
    pub stats: &'a mut Stats,
    pub scripts: &'a mut ScriptSources,
    /// Clients that waited for their replies.
    pub to_resume: &'a mut Vec<ConnId>,
    /// Clients whose output has grown; see [`crate::Node::list_outputs`].
    pub grown: &'a mut Vec<ConnId>,
    /// For replies that do not go straight to a client's output.
    pub scratch: &'a mut Vec<u8>,
    /// For replies of calls that may turn out to have none.
    pub attempted: &'a mut Vec<u8>,
    /// Unsent bytes above which a client gets no more replies, since it is about to be dropped; 0 for no limit.
    pub output_max: u64,
    pub group: GroupId,
    /// The term of the forwards that are answered.
    pub term: Term,
}

/// The desk of a node, while its shards stay free to be borrowed.
macro_rules! desk {
    ($node:ident, $group:expr, $term:expr) => {
        Desk {
            clients: &mut $node.clients,
            cells: &mut $node.cells,
            peers: &mut $node.answers,
            stats: &mut $node.stats,
            scripts: &mut $node.script_sources,
            to_resume: &mut $node.to_resume,
            grown: &mut $node.grown,
            scratch: &mut $node.answer_scratch,
            attempted: &mut $node.attempt_scratch,
            output_max: $node.output_max,
            group: $group,
            term: $term,
        }
    };
}
pub(crate) use desk;

impl Desk<'_> {
    /// Writes the reply to an operation whose place in its client's order has come, or parks it.
    #[inline]
    pub fn answer(&mut self, call: &Call, write: impl FnOnce(&mut Reply<'_>)) {
        match call.origin {
            Origin::Client { cell, conn, seq, .. } if usize::from(cell) == self.cells.me => {
                self.answer_client(call, conn, seq, write)
            }
            Origin::Client { cell, .. } => self.cells.reply(usize::from(cell), call, write),
            Origin::Peer { node, incarnation, number, index } => {
                self.scratch.clear();
                write(&mut Reply::new(self.scratch, call.protocol));
                if call.silent {
                    self.scratch.clear();
                }
                let answer = Answer::Reply(self.scratch);
                self.peers.push((node, incarnation), (self.group, self.term), (number, index), answer);
            }
            Origin::Nobody => self.run_unheard(write),
        }
    }

    /// Runs a call that may wait, `again` as its entry says, and answers it unless it found nothing: then gives what is to
    /// wait.
    pub fn attempt(
        &mut self,
        call: &Call,
        again: bool,
        cx: &mut WriteCx<'_>,
        args: Args<'_>,
    ) -> Option<Unserved> {
        let mut bytes = std::mem::take(self.attempted);
        bytes.clear();
        let unserved = call.handler.attempt(cx, args, &mut Reply::new(&mut bytes, call.protocol), again);
        if unserved.is_none() {
            self.answer(call, |reply| reply.raw(&bytes));
        }
        *self.attempted = bytes;
        unserved
    }

    /// True if nobody would hear the answer, so that what only reads need not run.
    pub fn is_unheard(&self, call: &Call) -> bool {
        match call.origin {
            Origin::Nobody => true,
            Origin::Peer { .. } => false,
            // Another cell knows.
            Origin::Client { cell, .. } if usize::from(cell) != self.cells.me => false,
            Origin::Client { conn, .. } => {
                let cut_off = |unsent: usize| self.output_max > 0 && unsent as u64 > self.output_max;
                self.clients.get(conn).is_none_or(|client| cut_off(client.owed_bytes()))
            }
        }
    }

    /// The address and the name of the client that an operation is of, if this cell has it.
    pub fn whose(&self, call: &Call) -> (&str, &[u8]) {
        match call.origin {
            Origin::Client { cell, conn, .. } if usize::from(cell) == self.cells.me => {
                self.clients.get(conn).map_or(("", &[]), |client| (&client.address, &client.name))
            }
            _ => ("", &[]),
        }
    }

    /// The reply is an error.
    pub fn refuse(&mut self, call: &Call, text: &str) {
        self.answer(call, |reply| reply.error(text));
    }

    #[inline]
    fn answer_client(&mut self, call: &Call, conn: ConnId, seq: u64, write: impl FnOnce(&mut Reply<'_>)) {
        let Some(client) = self.clients.get_mut(conn) else { return self.run_unheard(write) };
        if let Some(joined) = &mut client.joined {
            self.scratch.clear();
            write(&mut Reply::new(self.scratch, call.protocol));
            if joined.take(seq, self.scratch) {
                if joined.is_asked_for() {
                    self.stats.called(call.command);
                }
                if client.answered() {
                    self.to_resume.push(conn);
                }
            }
            return;
        }
        self.stats.called(call.command);
        let mut told = None;
        if client.is_next(seq) && !(self.output_max > 0 && client.owed_bytes() as u64 > self.output_max) {
            let mark = client.output.len();
            write(&mut Reply::new(&mut client.output, call.protocol));
            if client.output.get(mark) == Some(&b'-') {
                self.stats.failed_reply(call.command, &client.output[mark..]);
            }
            if let Some(by_name) = &mut client.by_name {
                told = by_name.on_reply(seq, &client.output[mark..]);
            }
            if call.silent {
                client.output.truncate(mark);
            }
        } else {
            self.scratch.clear();
            write(&mut Reply::new(self.scratch, call.protocol));
            if self.scratch.first() == Some(&b'-') {
                self.stats.failed_reply(call.command, self.scratch);
            }
            if let Some(by_name) = &mut client.by_name {
                told = by_name.on_reply(seq, self.scratch);
            }
            if call.silent || client.is_next(seq) {
                self.scratch.clear();
            }
            if !client.is_next(seq) {
                client.park(seq, std::mem::take(self.scratch));
                return self.end_answer(conn, told);
            }
        }
        if client.answered() {
            self.to_resume.push(conn);
        }
        forget_calls(client);
        self.end_answer(conn, told);
    }

    #[inline]
    fn end_answer(&mut self, conn: ConnId, told: Option<Told>) {
        self.note_grown(conn);
        if let Some(told) = told {
            self.scripts.on_told(&told, self.clients, self.to_resume);
        }
    }

    fn note_grown(&mut self, conn: ConnId) {
        if self.grown.last() != Some(&conn) {
            self.grown.push(conn);
        }
    }

    fn run_unheard(&mut self, write: impl FnOnce(&mut Reply<'_>)) {
        self.scratch.clear();
        write(&mut Reply::new(self.scratch, Protocol::Resp2));
    }
}

/// Forgets what is answered of a client's calls of scripts.
#[inline]
fn forget_calls(client: &mut Client) {
    let answered = client.answered_before();
    if let Some(by_name) = &mut client.by_name {
        by_name.forget_before(answered);
    }
}

impl PeerAnswers {
    pub fn push(&mut self, to: (NodeId, u64), session: (GroupId, Term), op: (u64, u32), answer: Answer<'_>) {
        let known = self.of.iter_mut().rev().find(|(node, incarnation, answers)| {
            (*node, *incarnation) == to && (answers.group, answers.term) == session
        });
        // What is long goes alone: a message has an end, and a reply may come near to it.
        let bytes = if let Answer::Reply(reply) = &answer { reply.len() } else { 0 };
        let known = known.filter(|(_, _, answers)| answers.bytes() + bytes <= TOGETHER_BYTES_MAX);
        match known {
            Some((_, _, answers)) => answers.push(op.0, op.1, answer),
            None => {
                let mut answers = ForwardAnswers::new(session.0, session.1);
                answers.push(op.0, op.1, answer);
                self.of.push((to.0, to.1, answers));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_answers_of_a_turn_leave_in_messages_of_their_own() {
        let mut answers = PeerAnswers::default();
        let (to, session, long) = ((NodeId(2), 7), (GroupId(1), Term(3)), vec![b'+'; TOGETHER_BYTES_MAX / 2]);
        for (number, reply) in [&b"+OK"[..], &long, &long, &long, b"+OK"].into_iter().enumerate() {
            answers.push(to, session, (number as u64, 0), Answer::Reply(reply));
        }
        let numbers =
            |answers: &ForwardAnswers| answers.iter().map(|(number, ..)| number).collect::<Vec<_>>();
        let found: Vec<Vec<u64>> = answers.of.iter().map(|(.., answers)| numbers(answers)).collect();
        assert_eq!(found, [vec![0, 1], vec![2], vec![3, 4]]);
    }
}
