//! The library's words and ours for the same things.

use raft::eraftpb;
use skep_base::{LogId, LogIndex, NodeId, Term};
use skep_log::{Entry, EntryKind, HardState, Membership};

pub(crate) fn node(id: u64) -> Option<NodeId> {
    (id != raft::INVALID_ID).then_some(NodeId(id))
}

pub(crate) fn entry_from_library(entry: eraftpb::Entry) -> Entry {
    Entry {
        id: LogId { term: Term(entry.term), index: LogIndex(entry.index) },
        kind: match entry.entry_type {
            eraftpb::EntryType::EntryNormal => EntryKind::Normal,
            eraftpb::EntryType::EntryConfChangeV2 => EntryKind::Membership,
            eraftpb::EntryType::EntryConfChange => {
                panic!("entry {} holds a first-generation change, which nobody proposes", entry.index)
            }
        },
        payload: entry.data,
    }
}

pub(crate) fn entry_to_library(entry: Entry) -> eraftpb::Entry {
    eraftpb::Entry {
        entry_type: match entry.kind {
            EntryKind::Normal => eraftpb::EntryType::EntryNormal,
            EntryKind::Membership => eraftpb::EntryType::EntryConfChangeV2,
        },
        term: entry.id.term.0,
        index: entry.id.index.0,
        data: entry.payload,
        ..eraftpb::Entry::default()
    }
}

pub(crate) fn hard_state_from_library(state: &eraftpb::HardState) -> HardState {
    HardState { term: Term(state.term), vote: node(state.vote), commit: LogIndex(state.commit) }
}

pub(crate) fn hard_state_to_library(state: &HardState) -> eraftpb::HardState {
    eraftpb::HardState {
        term: state.term.0,
        vote: state.vote.map_or(raft::INVALID_ID, |node| node.0),
        commit: state.commit.0,
    }
}

/// Sorted, since the library's order is that of its hash tables.
pub(crate) fn membership_from_library(state: &eraftpb::ConfState) -> Membership {
    let nodes = |ids: &[u64]| {
        let mut nodes: Vec<NodeId> = ids.iter().copied().map(NodeId).collect();
        nodes.sort_unstable();
        nodes
    };
    Membership {
        voters: nodes(&state.voters),
        learners: nodes(&state.learners),
        outgoing: nodes(&state.voters_outgoing),
        learners_next: nodes(&state.learners_next),
        auto_leave: state.auto_leave,
    }
}

pub(crate) fn membership_to_library(membership: &Membership) -> eraftpb::ConfState {
    let ids = |nodes: &[NodeId]| nodes.iter().map(|node| node.0).collect();
    eraftpb::ConfState {
        voters: ids(&membership.voters),
        learners: ids(&membership.learners),
        voters_outgoing: ids(&membership.outgoing),
        learners_next: ids(&membership.learners_next),
        auto_leave: membership.auto_leave,
    }
}
