//! Groups that nobody uses rest: no heartbeats and no ticks, on none of their nodes.
//!
//! A leader rests when it was asked for nothing for a while and every member has, and knows to be committed, all that it has.
//! It has no lease then, and needs no quorum. That its node lives is what the nodes tell each other anyway, and with it which
//! groups rest; a follower rests no longer than it is told so (INV-CONSENSUS-10), and goes on from there as if the last word
//! had been a heartbeat. Whatever else happens in the group wakes whom it meets. So a word that is lost, late or repeated
//! costs an election at the worst. Prior art: CockroachDB's quiescent ranges over store liveness, TiKV's hibernating regions.

use std::cell::Cell;

use raft::ProgressState;
use raft::eraftpb::{self, MessageType};
use skep_base::{LogIndex, Millis, NodeId, Term};

use crate::{Group, Message, Output, Role};

/// In the context of an answer to a heartbeat that was not sent: the sender cannot rest, so its leader must not.
pub(crate) const AWAKE: &[u8] = b"awake";

/// When a group rests.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RestPace {
    /// Milliseconds after which a leader that was asked for nothing rests.
    pub after_ms: u64,
    /// For how long a follower rests after each [`Input::Vouched`](crate::Input::Vouched). It campaigns when it heard nothing
    /// for as long as it always waits, so this is shorter; and several times as long as the nodes' exchange takes.
    pub vouch_ms: u64,
}

impl Default for RestPace {
    /// A first read after two seconds costs a round more than one under a lease; followers wake up 50 ms before the first of
    /// them campaigns, if nodes tell each other each 100 ms that they are there.
    fn default() -> RestPace {
        RestPace { after_ms: 2_000, vouch_ms: 200 }
    }
}

/// What a replica knows of its being used.
#[derive(Default)]
pub(crate) struct Rest {
    /// Something happened since the last look.
    stirred: bool,
    used: Cell<bool>,
    /// The last look at which something had happened.
    busy_at: Millis,
    resting: Option<Resting>,
}

#[derive(Clone, Copy)]
struct Resting {
    /// A follower's last news of its leader.
    vouched: Millis,
}

impl Group {
    /// Whether this node leads and rests: its node is to tell the others, with the term and [`applied`](Self::applied).
    pub fn leads_at_rest(&self) -> bool {
        self.is_resting() && self.is_leader()
    }

    /// Whether this replica neither ticks nor wants to be told of time, but for the end of its leader's word.
    pub fn is_resting(&self) -> bool {
        self.rest.resting.is_some()
    }

    /// The state machine was read under the lease: whoever does so does not want the group to rest.
    #[inline]
    pub fn note_used(&self) {
        self.rest.used.set(true);
    }

    /// Something happens in the group, or it is asked for something: it does not rest.
    pub(crate) fn stir(&mut self) {
        self.rest.stirred = true;
        let Some(Resting { vouched }) = self.rest.resting.take() else { return };
        if self.is_leader() {
            // Nobody was to answer while it rested: a whole election passes before it looks who does.
            self.raw.raft.election_elapsed = 0;
            self.next_tick = Some(self.now);
            return;
        }
        // After a stop there is time to hear what has come meanwhile.
        let vouch_ms = self.config.rest.map_or(0, |pace| pace.vouch_ms);
        let silent_ms = self.now.since(vouched).min(vouch_ms);
        self.raw.raft.election_elapsed = (silent_ms / self.config.tick_ms) as usize;
        self.next_tick = None;
    }

    /// For a leader, in place of a heartbeat: whether it rests from here on.
    pub(crate) fn lies_down(&mut self, now: Millis) -> bool {
        let Some(pace) = self.config.rest else { return false };
        if std::mem::take(&mut self.rest.stirred) | self.rest.used.take() {
            self.rest.busy_at = now;
        }
        let rests = now.since(self.rest.busy_at) >= pace.after_ms && self.all_is_done(now);
        if rests {
            self.rest.resting = Some(Resting { vouched: now });
            self.stats.rests += 1;
        }
        rests
    }

    /// Whether nothing is under way and every member has told this leader lately that it has all.
    fn all_is_done(&self, now: Millis) -> bool {
        let raft = &self.raw.raft;
        let last = raft.raft_log.last_index();
        let mine = [raft.raft_log.committed, raft.raft_log.persisted, self.applied.0];
        let members = self.membership();
        let quiet = self.unpersisted.is_empty()
            && self.reads.len() == 0
            && self.transferring().is_none()
            && !self.may_be_changing()
            && members.learners_next.is_empty();
        let heard_lately = |node: u64| {
            let stamp = self.lease.stamp_of(NodeId(node));
            now.since(stamp) < self.config.election_timeout_ms()
        };
        quiet
            && mine == [last; 3]
            && raft.commit_to_current_term()
            && raft.prs().iter().filter(|(node, _)| **node != raft.id).all(|(node, progress)| {
                (progress.matched, progress.committed_index) == (last, last)
                    && progress.state != ProgressState::Snapshot
                    && heard_lately(*node)
            })
    }

    /// The node of `leader` said that it leads in `term`, rests, and has the log up to `last`.
    pub(crate) fn on_vouched(&mut self, leader: NodeId, term: Term, last: LogIndex, out: &mut Vec<Output>) {
        let follows = self.role() == Role::Follower && (self.leader(), self.term()) == (Some(leader), term);
        let has_all = (self.last_index(), self.commit_index()) == (last, last);
        let quiet = self.reads.len() == 0 && self.installing.is_none();
        let Some(pace) = self.config.rest.filter(|_| follows && has_all && quiet) else {
            self.stir();
            return self.say_awake(leader, out);
        };
        self.raw.raft.election_elapsed = 0;
        // A promise ends by ticks, so those go on until then: its length does not depend on this (INV-CONSENSUS-9).
        if !self.promise.holds() {
            self.rest.resting = Some(Resting { vouched: self.now });
            self.next_tick = Some(self.now.plus(pace.vouch_ms));
        }
    }

    /// Wakes a leader that this replica cannot rest under: it lacks something, or knows another leader or term.
    fn say_awake(&mut self, leader: NodeId, out: &mut Vec<Output>) {
        let term_is_durable = self.ticket_of_term <= self.ticket_persisted;
        if self.term() == Term(0) || leader == self.config.node || !term_is_durable {
            return;
        }
        let raft = eraftpb::Message {
            msg_type: MessageType::MsgHeartbeatResponse,
            from: self.config.node.0,
            to: leader.0,
            term: self.term().0,
            commit: self.commit_index().0,
            context: bytes::Bytes::from_static(AWAKE),
            ..eraftpb::Message::default()
        };
        let echo = self.promise.echo(self.term(), leader);
        out.push(Output::Send { to: leader, message: Message { echo, raft } });
    }

    /// INV-CONSENSUS-10, as far as one replica knows.
    pub(crate) fn assert_rest(&self) {
        let Some(Resting { vouched }) = self.rest.resting else { return };
        assert!(self.reads.len() == 0, "INV-CONSENSUS-10: {:?} rests while reads wait", self.config.node);
        assert!(
            self.role() != Role::Candidate && self.leader().is_some() && vouched <= self.now,
            "INV-CONSENSUS-10: {:?} rests as {:?}, vouched for at {vouched:?}",
            self.config.node,
            self.role()
        );
        assert!(
            self.is_leader() || !self.promise.holds(),
            "INV-CONSENSUS-10: {:?} rests and its promise does not end",
            self.config.node
        );
        assert!(
            !self.is_leader() || self.applied == self.last_index(),
            "INV-CONSENSUS-10: {:?} leads at rest with {} applied of {}",
            self.config.node,
            self.applied,
            self.last_index()
        );
    }
}
