//! Changes of who votes. Every change goes through a joint membership that the leader ends by a second entry, proposed
//! here: the library's own automatic leave is lost when the leader steps down at the wrong moment (etcd issue 12136).

use crate::convert;
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2};
use skep_base::{LogIndex, NodeId};
use skep_log::Membership;
use std::collections::VecDeque;
use std::fmt;

/// Nodes in one change.
pub const CHANGES_MAX: usize = 16;
/// Memberships remembered; far more than can be applied while one checkpoint is being written.
const HISTORY_MAX: usize = 1024;

/// What a node shall be in the group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    Voter,
    /// Receives the log and does not vote.
    Learner,
    Removed,
}

/// Why [`change_membership`](crate::Group::change_membership) declined. Nothing was appended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MembershipRefusal {
    NotLeader {
        leader: Option<NodeId>,
    },
    Transferring {
        to: NodeId,
    },
    /// An earlier change, or a new leader's first entry, is not applied yet; or the group is in a joint membership.
    ChangeInFlight,
    /// The leader cannot remove or demote itself: hand leadership over first.
    WouldRemoveLeader,
    /// No node, too many, or a result without voters.
    Invalid {
        why: String,
    },
}

impl fmt::Display for MembershipRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MembershipRefusal::NotLeader { leader: Some(leader) } => {
                write!(f, "node {leader} leads this group")
            }
            MembershipRefusal::NotLeader { leader: None } => f.write_str("the group has no leader"),
            MembershipRefusal::Transferring { to } => write!(f, "leadership is moving to node {to}"),
            MembershipRefusal::ChangeInFlight => f.write_str("an earlier change is not finished"),
            MembershipRefusal::WouldRemoveLeader => {
                f.write_str("the leader cannot remove itself; hand leadership over first")
            }
            MembershipRefusal::Invalid { why } => write!(f, "the change does not fit: {why}"),
        }
    }
}

impl std::error::Error for MembershipRefusal {}

/// Why [`transfer_leadership`](crate::Group::transfer_leadership) declined.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum TransferRefusal {
    NotLeader {
        leader: Option<NodeId>,
    },
    /// A transfer is under way; it ends by itself within an election timeout.
    Transferring {
        to: NodeId,
    },
    /// The target is this node or does not vote.
    NotAVoter {
        to: NodeId,
    },
}

impl fmt::Display for TransferRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TransferRefusal::NotLeader { leader: Some(leader) } => {
                write!(f, "node {leader} leads this group")
            }
            TransferRefusal::NotLeader { leader: None } => f.write_str("the group has no leader"),
            TransferRefusal::Transferring { to } => write!(f, "leadership is moving to node {to}"),
            TransferRefusal::NotAVoter { to } => write!(f, "node {to} is not another voter of this group"),
        }
    }
}

impl std::error::Error for TransferRefusal {}

/// The change as the library wants it: joint, left explicitly.
pub(crate) fn joint_change(changes: &[(NodeId, Standing)]) -> ConfChangeV2 {
    let change = |&(node, standing): &(NodeId, Standing)| ConfChangeSingle {
        node_id: node.0,
        change_type: match standing {
            Standing::Voter => ConfChangeType::AddNode,
            Standing::Learner => ConfChangeType::AddLearnerNode,
            Standing::Removed => ConfChangeType::RemoveNode,
        },
    };
    ConfChangeV2 {
        transition: ConfChangeTransition::Explicit,
        changes: changes.iter().map(change).collect(),
        ..ConfChangeV2::default()
    }
}

/// Whether these bytes are a change that [`joint_change`] makes, or the one that ends a joint membership.
pub(crate) fn is_change(bytes: &[u8]) -> bool {
    let mut change = ConfChangeV2::default();
    change.merge_from_bytes(bytes).is_ok()
        && (bytes.is_empty()
            || change.enter_joint() == Some(false) && (1..=CHANGES_MAX).contains(&change.changes.len()))
}

/// The memberships in force since the last checkpoint, each with the index whose application brought it.
pub(crate) struct History {
    changes: VecDeque<(LogIndex, Membership)>,
}

impl History {
    pub fn new(at: LogIndex, membership: Membership) -> History {
        // Through the library's form, so that order never tells two equal memberships apart.
        let membership = convert::membership_from_library(&convert::membership_to_library(&membership));
        History { changes: VecDeque::from([(at, membership)]) }
    }

    pub fn current(&self) -> &Membership {
        &self.changes.back().expect("the first membership is never dropped without a successor").1
    }

    /// Forgets all for the membership that came with a checkpoint.
    pub fn install(&mut self, at: LogIndex, membership: Membership) {
        self.changes.clear();
        self.changes.push_back((at, membership));
    }

    pub fn push(&mut self, at: LogIndex, membership: Membership) {
        if self.changes.len() == HISTORY_MAX {
            self.changes.pop_front();
        }
        self.changes.push_back((at, membership));
    }

    /// The membership in force after `index` was applied, if it is kept.
    pub fn at(&self, index: LogIndex) -> Option<&Membership> {
        self.changes.iter().rev().find(|(from, _)| *from <= index).map(|(_, membership)| membership)
    }

    /// The membership in force after `at` was applied, which becomes the oldest one kept.
    pub fn checkpoint(&mut self, at: LogIndex) -> Membership {
        while self.changes.get(1).is_some_and(|(next, _)| *next <= at) {
            self.changes.pop_front();
        }
        let (from, membership) = &self.changes[0];
        assert!(*from <= at, "the membership at {at:?} is forgotten, the oldest known is from {from:?}");
        membership.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_survives_its_bytes_and_refuses_every_prefix() {
        let change = joint_change(&[(NodeId(1), Standing::Voter), (NodeId(900), Standing::Removed)]);
        let bytes = change.write_to_bytes().unwrap();
        let mut back = ConfChangeV2::default();
        back.merge_from_bytes(&bytes).unwrap();
        assert_eq!(back, change);
        assert!(back.enter_joint() == Some(false) && !back.leave_joint());
        for cut in 1..bytes.len() {
            assert!(!is_change(&bytes[..cut]), "cut at {cut}");
        }
        assert!(is_change(&bytes) && is_change(&[]));
        assert!(!is_change(&[2, 255, 255, 255, 255, 15]), "more changes than bytes");
        assert!(!is_change(&[0, 1, 0, 2, 0]) && !is_change(&[1, 1, 0, 2, 0]), "left by itself");
    }

    #[test]
    fn no_bytes_are_the_change_that_leaves_a_joint_membership() {
        assert_eq!(ConfChangeV2::default().write_to_bytes(), Ok(Vec::new()));
        let mut change = joint_change(&[(NodeId(1), Standing::Voter)]);
        change.merge_from_bytes(&[]).unwrap();
        assert!(change.leave_joint() && change.enter_joint().is_none());
    }

    #[test]
    fn the_size_of_an_entry_counts_its_payload() {
        let entry = |len| raft::eraftpb::Entry { data: vec![0; len].into(), ..Default::default() };
        assert_eq!(entry(1000).compute_size() - entry(0).compute_size(), 1000);
    }

    #[test]
    fn a_checkpoint_gets_the_membership_of_its_place() {
        let of = |id| Membership { voters: vec![NodeId(id)], ..Membership::default() };
        let mut history = History::new(LogIndex(0), of(1));
        history.push(LogIndex(5), of(2));
        history.push(LogIndex(9), of(3));
        assert_eq!(history.checkpoint(LogIndex(4)), of(1));
        assert_eq!(history.checkpoint(LogIndex(8)), of(2));
        assert_eq!(history.checkpoint(LogIndex(8)), of(2));
        assert_eq!(*history.current(), of(3));
        assert_eq!(history.checkpoint(LogIndex(9)), of(3));
        for index in 10..10_000 {
            history.push(LogIndex(index), of(index));
        }
        assert_eq!(history.changes.len(), HISTORY_MAX);
        assert_eq!(history.checkpoint(LogIndex(9_500)), of(9_500));
    }
}
