//! What a group is told when it is made: who it is, its pace and its limits.

use crate::RestPace;
use skep_base::{GroupId, NodeId};

/// Fixed for the life of a [`Group`](crate::Group).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupConfig {
    pub group: GroupId,
    /// This node, in every group the same. Raft never forgets a vote or an acknowledgement of an id, so a node that lost
    /// its log comes back under a new one.
    pub node: NodeId,
    /// Counts the starts of this node; a value is never used again. Part of every read's identity.
    pub incarnation: u64,
    /// Decides when a failed campaign is repeated. The same seed and the same inputs give the same outputs.
    pub seed: u64,
    /// Milliseconds between two ticks, at least, but for [`tick_slack_ms`](Self::tick_slack_ms). Ticks fall on its
    /// multiples, so that all groups of a node tick in the same turn.
    pub tick_ms: u64,
    /// Ticks for which a follower of a leader votes for nobody else. It campaigns a little later itself.
    pub election_ticks: usize,
    /// Ticks between two heartbeats of a leader.
    pub heartbeat_ticks: usize,
    /// `None`: it never rests. Else the node tells its groups [`Input::Vouched`](crate::Input::Vouched).
    pub rest: Option<RestPace>,
    pub limits: Limits,
}

/// Bounds of one group, in memory and on the network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Entry bytes in one append message; a single larger entry travels alone.
    pub message_bytes_max: u64,
    /// Append messages sent to a follower and not yet acknowledged.
    pub messages_in_flight_max: usize,
    /// Payload bytes proposed and not yet committed; past it proposals are refused. One proposal is always taken. At least
    /// `message_bytes_max`.
    pub uncommitted_bytes_max: u64,
    /// Payload bytes in one [`Output::Apply`](crate::Output::Apply); a single larger entry is applied alone.
    pub apply_bytes_max: u64,
    /// Payload bytes that stay in memory behind a checkpoint while there are followers, so that one that is a little
    /// slow needs no checkpoint.
    pub kept_bytes_max: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            // Large enough to amortise a frame, small enough that a lost one is cheap to repeat.
            message_bytes_max: 1 << 20,
            // What a fast link holds at 1 MiB each without stopping; the library's own default.
            messages_in_flight_max: 256,
            // About a quarter of a second of a fast disk: more would only lengthen the wait.
            uncommitted_bytes_max: 64 << 20,
            // A state machine's longest turn before it lets the loop breathe.
            apply_bytes_max: 1 << 20,
            kept_bytes_max: 16 << 20,
        }
    }
}

impl GroupConfig {
    /// A group at the usual pace: heartbeats each 50 ms, a first campaign after 250 to 275 ms of silence and a second one 75 ms
    /// later, so that writes resume within 300 ms of a leader's death, as a rule.
    pub fn new(group: GroupId, node: NodeId, incarnation: u64, seed: u64) -> GroupConfig {
        GroupConfig {
            group,
            node,
            incarnation,
            seed,
            tick_ms: 25,
            election_ticks: 9,
            heartbeat_ticks: 2,
            rest: None,
            limits: Limits::default(),
        }
    }

    /// The shortest silence after which a follower may vote for another leader.
    pub fn election_timeout_ms(&self) -> u64 {
        self.tick_ms * self.election_ticks as u64
    }

    /// How late a tick may come without moving the next one: a turn that takes a moment must not cost a whole tick.
    pub(crate) fn tick_slack_ms(&self) -> u64 {
        self.tick_ms / 5
    }

    /// For how long after a stamp was made the promise of whoever echoed it lasts, by the leader's clock.
    ///
    /// The promise is kept for `election_ticks` ticks of the follower. The first may come at once, one may come early by
    /// the slack, and its clock counts whole milliseconds. A tenth is left for clocks that differ in speed: each may be
    /// wrong by 5 %.
    pub fn lease_ms(&self) -> u64 {
        let kept_ms = self.tick_ms * (self.election_ticks as u64 - 1) - self.tick_slack_ms() - 1;
        kept_ms - kept_ms.div_ceil(10)
    }

    pub(crate) fn assert_sane(&self) {
        assert!(self.node != NodeId(0), "{:?} was given to node 0, which is no node", self.group);
        assert!(self.tick_ms > 0, "{:?} ticks every 0 ms", self.group);
        assert!(
            self.heartbeat_ticks > 0 && self.heartbeat_ticks < self.election_ticks,
            "{:?} beats every {} ticks and elects after {}",
            self.group,
            self.heartbeat_ticks,
            self.election_ticks
        );
        assert!(
            self.limits.message_bytes_max <= self.limits.uncommitted_bytes_max,
            "{:?} may send {} bytes at once but hold only {}",
            self.group,
            self.limits.message_bytes_max,
            self.limits.uncommitted_bytes_max
        );
        assert!(self.limits.messages_in_flight_max > 0, "{:?} may have no message in flight", self.group);
    }

    pub(crate) fn library(&self, applied: u64) -> raft::Config {
        raft::Config {
            id: self.node.0,
            election_tick: self.election_ticks,
            // Not used: `Group::tick_leader` sends the heartbeats.
            heartbeat_tick: self.heartbeat_ticks,
            min_election_tick: self.election_ticks,
            // The timeout is set before each tick, often to one that never ends.
            max_election_tick: usize::MAX,
            applied,
            max_size_per_msg: self.limits.message_bytes_max,
            max_inflight_msgs: self.limits.messages_in_flight_max,
            max_uncommitted_size: self.limits.uncommitted_bytes_max,
            max_committed_size_per_ready: self.limits.apply_bytes_max,
            check_quorum: true,
            pre_vote: true,
            // LeaseBased serves stale reads: its lease is a flag looked at once per election timeout.
            read_only_option: raft::ReadOnlyOption::Safe,
            skip_bcast_commit: false,
            // Would join appends without regard to `max_size_per_msg`, up to all that may be in flight. A turn's
            // proposals are one append already.
            batch_append: false,
            priority: 0,
        }
    }
}
