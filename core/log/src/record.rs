//! What the groups of a node ask the log to keep, and what the log gives back after a restart.

use bytes::Bytes;
use skep_base::{GroupId, LogId, LogIndex, NodeId, Term};

/// One entry of a group's replicated log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    pub id: LogId,
    pub kind: EntryKind,
    /// Opaque to the log; the group's state machine reads it.
    pub payload: Bytes,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EntryKind {
    /// A batch of commands, or empty (a new leader's first entry).
    Normal,
    /// A change of the group's voters and learners.
    Membership,
}

/// The Raft state that must be durable before a message that depends on it leaves (Raft, figure 2).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HardState {
    pub term: Term,
    pub vote: Option<NodeId>,
    pub commit: LogIndex,
}

/// Who votes in a group. `outgoing` is not empty inside a joint change.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Membership {
    pub voters: Vec<NodeId>,
    pub learners: Vec<NodeId>,
    pub outgoing: Vec<NodeId>,
    pub learners_next: Vec<NodeId>,
    pub auto_leave: bool,
}

/// One fact to be made durable, in the order given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Record {
    /// Entries with consecutive indexes. One at or before the group's last index replaces that entry and all behind it.
    Append {
        group: GroupId,
        entries: Vec<Entry>,
    },
    HardState {
        group: GroupId,
        state: HardState,
    },
    /// The state machine up to `at` is in a durable checkpoint; entries up to it are not needed any more. Entries behind
    /// `at` stay if the log holds `at` itself with the same term, else the whole log of the group is dropped.
    Checkpoint {
        group: GroupId,
        at: LogId,
        membership: Membership,
    },
    /// The group has left this node; forget it.
    Removed {
        group: GroupId,
    },
    /// The group's state here differs from what most replicas have: neither the checkpoint nor what the entries make of it is
    /// to be trusted, until the next checkpoint is recorded. The entries themselves are.
    Distrusted {
        group: GroupId,
    },
}

/// All that the log knows of one group after a restart.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GroupLog {
    /// The newest checkpoint recorded, with the membership at that position.
    pub checkpoint: LogId,
    pub membership: Membership,
    pub hard_state: HardState,
    /// Entries behind `checkpoint`, consecutive.
    pub entries: Vec<Entry>,
    /// [`Record::Distrusted`] came behind the checkpoint.
    pub distrusted: bool,
}
