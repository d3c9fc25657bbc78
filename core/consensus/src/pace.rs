//! When a replica ticks, beats and campaigns: in step with the other groups of its node, and in turn with the other nodes.
//!
//! INV-CONSENSUS-9 rests on it: a tick is never given before its time, and nobody campaigns by itself while its promise holds.

use crate::{Group, Output};
use raft::StateRole;
use raft::eraftpb::{self, MessageType};
use skep_base::rng::mix;
use skep_base::{Millis, NodeId};

/// Ticks by which the promises of others may end after one's own: their ticks fall between ours, and they may have heard
/// the leader a little later.
const PROMISES_END_TICKS: usize = 2;
/// Ticks in which a campaign is usually won, two rounds and two writes: the next candidate waits for so long.
const TURN_TICKS: usize = 3;
/// More ticks than any silence lasts: a node that may not campaign waits for them.
const NO_ELECTION_TICKS: usize = usize::MAX >> 1;

impl Group {
    /// Keeps the next tick while ticks are wanted. It is counted from the last one given, never caught up: a follower that
    /// aged faster than time would break its leader's lease.
    pub(crate) fn schedule(&mut self, now: Millis) {
        if self.is_resting() {
            return;
        }
        let alone = self.is_leader() && self.raw.raft.prs().iter().len() == 1;
        if alone {
            self.next_tick = None;
        } else if self.next_tick.is_none() {
            let earliest = now.plus(self.config.tick_ms - self.config.tick_slack_ms());
            self.next_tick = Some(Millis(earliest.0.next_multiple_of(self.config.tick_ms)));
        }
    }

    pub(crate) fn on_tick(&mut self, now: Millis, out: &mut Vec<Output>) {
        if self.next_tick.is_none_or(|due| now < due) {
            return;
        }
        self.next_tick = None;
        if self.is_resting() {
            // Its leader's word has ended.
            return self.stir();
        }
        self.stats.ticks += 1;
        self.promise.tick();
        // To campaign the library would look for entries that the checkpoint has replaced.
        if self.installing.is_some() {
            return;
        }
        self.reads.expire(now, |read| out.push(Output::ReadDropped { read }));
        if self.is_leader() {
            return self.tick_leader(now);
        }
        // The only voter campaigns as soon as its log is durable, and must not before; see `settle`. (A learner of one
        // voter ticks: it would refuse its vote for ever to a candidate whose membership has it as a voter.)
        if self.is_only_voter() {
            return;
        }
        let election_ticks = self.config.election_ticks;
        let silent = self.raw.raft.election_elapsed;
        let due = self.may_campaign && !self.promise.holds() && silent + 1 >= self.patience_ticks();
        // The library draws its own patience from the operating system at each change of role (INV-CONSENSUS-7), and none
        // shorter than an election; overruled here, before the only place that reads it.
        self.raw.raft.set_randomized_election_timeout(if due { election_ticks } else { NO_ELECTION_TICKS });
        self.raw.raft.election_elapsed = if due { silent.max(election_ticks) } else { silent };
        self.raw.tick();
        self.attempts += u64::from(due);
    }

    /// In place of the library's, whose heartbeats count from the election: these fall on the same ticks in all groups of a
    /// node, so that they share frames.
    fn tick_leader(&mut self, now: Millis) {
        let raft = &mut self.raw.raft;
        raft.election_elapsed += 1;
        if raft.election_elapsed >= raft.election_timeout() {
            raft.election_elapsed = 0;
            let (msg_type, from) = (MessageType::MsgCheckQuorum, self.config.node.0);
            raft.step(eraftpb::Message { msg_type, from, ..eraftpb::Message::default() })
                .expect("a leader without a quorum steps down, it does not fail");
            raft.abort_leader_transfer();
        }
        let interval = now.0 / (self.config.tick_ms * self.config.heartbeat_ticks as u64);
        if interval != self.beat_last {
            self.beat_last = interval;
            if !self.lies_down(now) {
                self.raw.ping();
            }
        }
    }

    /// Ticks without a leader after which this node campaigns. Those that could take over take turns, in an order that
    /// changes with the term: who comes first is nearly always alone, and the next one comes soon if it is dead too.
    fn patience_ticks(&self) -> usize {
        let raft = &self.raw.raft;
        let luck = |node: NodeId| mix(mix(mix(self.config.group.0) ^ raft.term) ^ node.0);
        let myself = self.config.node;
        let members = self.membership();
        let candidates = members.voters.iter().chain(&members.outgoing);
        let before_me = candidates
            .filter(|node| Some(**node) != self.leader() && (luck(**node), **node) < (luck(myself), myself));
        let turn = before_me.count() * TURN_TICKS;
        if raft.state == StateRole::Follower {
            return self.config.election_ticks + PROMISES_END_TICKS + turn;
        }
        // Again, since others promised something or campaigned too; perhaps they think of another term or membership.
        let words = [self.config.seed, myself.0, self.config.group.0, self.attempts];
        let drawn = words.iter().fold(0, |hash, word| mix(hash ^ word));
        TURN_TICKS + turn + (drawn % TURN_TICKS as u64) as usize
    }
}
