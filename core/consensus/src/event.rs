//! What goes into a group and what comes out, as values.

use crate::Message;
use skep_base::{LogId, LogIndex, NodeId, Term};
use skep_log::{Entry, Membership, Record};
use std::fmt;

/// One event from outside. Requests that can be refused are methods of [`Group`](crate::Group) instead.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passed. Counts at most one tick however long it was, and none before
    /// [`next_wakeup`](crate::Group::next_wakeup).
    Tick,
    /// A message came from another node.
    Receive(Message),
    /// The same, and appends to its sender wait to leave this node: they will come, unless the connection breaks, so its
    /// answer to a heartbeat, which may overtake them, does not ask for them again.
    ReceiveAhead(Message),
    /// All [`Output::Persist`] up to this ticket are durable.
    Persisted(u64),
    /// The state machine up to `at` is in a durable checkpoint. The log up to it is not needed to restart.
    Checkpointed { at: LogId },
    /// A message with a [`checkpoint`](Message::checkpoint) was given to the group of `to`, or it was given up. Nothing
    /// else is sent to `to` until this is told.
    CheckpointSent { to: NodeId, arrived: bool },
    /// The node of `leader` said, a moment ago at the most, that it leads in `term` and rests, with the log up to `last`; see
    /// [`leads_at_rest`](crate::Group::leads_at_rest). A follower rests while it is told so again and again.
    Vouched { leader: NodeId, term: Term, last: LogIndex },
    /// The connection to a node broke: what was sent may be lost, checkpoints too.
    Unreachable(NodeId),
}

/// One effect. They are to be carried out in the order given.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    /// May leave at once, before any earlier or later `Persist` is durable.
    Send { to: NodeId, message: Message },
    /// Write `records`, make them durable together with all earlier ones, answer [`Input::Persisted`], and only then
    /// send `then_send`. Without `must_sync` no flush of its own is asked for: the answer may come as soon as all
    /// earlier tickets are durable and these records are on their way.
    Persist { ticket: u64, records: Vec<Record>, must_sync: bool, then_send: Vec<(NodeId, Message)> },
    /// Committed and locally durable entries: give them to the state machine. Starts where the last one ended.
    Apply { entries: Vec<Entry> },
    /// Replace the state machine by the checkpoint at `at`, which came before the message that caused this. It is recorded
    /// in the log by now. The next `Apply` starts behind it.
    Install { at: LogId, membership: Membership },
    /// A follower needs a checkpoint that was taken after it joined: take one now, if none is being taken. Repeated until
    /// [`Input::Checkpointed`] tells of it.
    CheckpointWanted,
    /// The entry at `at`, part of the `Apply` just before, changed who votes.
    MembershipChanged { at: LogIndex, membership: Membership },
    /// Whoever waits for a proposal of an earlier term of ours cannot be told its outcome by this group any more, unless
    /// the entry itself is still applied: an entry at its index with another term means that it was dropped.
    RoleChanged { role: Role, term: Term, leader: Option<NodeId> },
    /// All that was acknowledged before the read was asked for has been handed out by `Apply`: read now.
    ReadReady { read: ReadId },
    /// The read will not be answered (leadership changed, or no quorum in time). Ask again, with a new one.
    ReadDropped { read: ReadId },
    /// For the log and the simulator.
    Note(Note),
}

/// The part that this node plays in the group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Also a learner, and a node that the group has removed.
    Follower,
    Candidate,
    Leader,
}

/// One read, unique for ever: a repeated context would let a delayed acknowledgement release a stale read
/// (etcd issue 20418).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ReadId {
    pub node: NodeId,
    pub incarnation: u64,
    pub number: u64,
}

/// Something that a reader of logs may want to know.
#[derive(Clone, PartialEq, Debug)]
pub enum Note {
    /// A message was ignored; the sender will repeat what matters.
    MessageDropped { from: NodeId, why: &'static str },
    /// A vote was not granted since this node promised to follow a leader, or restarted too recently to know whether it did.
    VoteWithheld { to: NodeId },
    /// A committed change of membership does not fit the membership it met; every replica ignores it alike.
    MembershipIgnored { at: LogIndex, why: String },
    /// The leader proposed to end the joint membership.
    LeavingJoint { at: LogIndex },
    /// This node led the group and is no voter any more.
    SteppedDownRemoved,
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Note::MessageDropped { from, why } => write!(f, "dropped a message from node {from}: {why}"),
            Note::VoteWithheld { to } => {
                write!(f, "withheld a vote from node {to}, having promised to follow a leader")
            }
            Note::MembershipIgnored { at, why } => write!(f, "ignored membership change at {at}: {why}"),
            Note::LeavingJoint { at } => write!(f, "proposed at {at} to leave the joint membership"),
            Note::SteppedDownRemoved => f.write_str("stepped down: the group removed this node"),
        }
    }
}

/// Why [`propose`](crate::Group::propose) declined. Nothing was appended; the proposal will not take effect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ProposeRefusal {
    NotLeader {
        leader: Option<NodeId>,
    },
    /// Leadership is being handed over.
    Transferring {
        to: NodeId,
    },
    /// Too much is waiting to be committed. Try again after the next `Apply`.
    Full {
        bytes_max: u64,
    },
    /// One payload is larger than a message may be.
    TooLarge {
        bytes: usize,
        bytes_max: usize,
    },
}

impl fmt::Display for ProposeRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ProposeRefusal::NotLeader { leader: Some(leader) } => write!(f, "node {leader} leads this group"),
            ProposeRefusal::NotLeader { leader: None } => f.write_str("the group has no leader"),
            ProposeRefusal::Transferring { to } => write!(f, "leadership is moving to node {to}"),
            ProposeRefusal::Full { bytes_max } => {
                write!(f, "more than {bytes_max} bytes wait to be committed")
            }
            ProposeRefusal::TooLarge { bytes, bytes_max } => {
                write!(f, "entry is {bytes} bytes, limit is {bytes_max}")
            }
        }
    }
}

impl std::error::Error for ProposeRefusal {}

/// Why [`read_index`](crate::Group::read_index) declined. Try again after the next `RoleChanged` or `Apply`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReadRefusal {
    NoLeader,
    /// The leader has not committed an entry of its own term yet, so it does not know what is committed.
    LeaderTooNew,
    /// Too many reads are waiting; they should share one.
    TooManyReads {
        reads_max: usize,
    },
}

impl fmt::Display for ReadRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadRefusal::NoLeader => f.write_str("the group has no leader"),
            ReadRefusal::LeaderTooNew => f.write_str("the leader has not committed in its term yet"),
            ReadRefusal::TooManyReads { reads_max } => write!(f, "{reads_max} reads are waiting"),
        }
    }
}

impl std::error::Error for ReadRefusal {}

/// Counters since creation, and the present size of the log in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Stats {
    pub entries_proposed: u64,
    pub proposals_refused: u64,
    pub entries_applied: u64,
    pub messages_received: u64,
    pub messages_sent: u64,
    pub messages_dropped: u64,
    pub persists: u64,
    pub ticks: u64,
    pub role_changes: u64,
    pub reads: u64,
    /// How often it began to rest as leader.
    pub rests: u64,
    pub log_entries: u64,
    /// Payload bytes of the entries in memory.
    pub log_bytes: u64,
}
