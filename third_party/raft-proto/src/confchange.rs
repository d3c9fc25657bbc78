//! Both generations of membership change seen as one, and equality of configurations.

use crate::eraftpb::{ConfChange, ConfChangeSingle, ConfChangeType, ConfChangeV2, ConfState};
use std::borrow::Cow;

pub fn new_conf_change_single(node_id: u64, change_type: ConfChangeType) -> ConfChangeSingle {
    ConfChangeSingle { change_type, node_id }
}

/// A membership change of either generation.
pub trait ConfChangeI {
    fn into_v2(self) -> ConfChangeV2;
    fn as_v2(&self) -> Cow<'_, ConfChangeV2>;
    fn as_v1(&self) -> Option<&ConfChange>;
}

impl ConfChangeI for ConfChange {
    fn into_v2(self) -> ConfChangeV2 {
        ConfChangeV2 {
            changes: vec![new_conf_change_single(self.node_id, self.change_type)],
            context: self.context,
            ..ConfChangeV2::default()
        }
    }

    fn as_v2(&self) -> Cow<'_, ConfChangeV2> {
        Cow::Owned(self.clone().into_v2())
    }

    fn as_v1(&self) -> Option<&ConfChange> {
        Some(self)
    }
}

impl ConfChangeI for ConfChangeV2 {
    fn into_v2(self) -> ConfChangeV2 {
        self
    }

    fn as_v2(&self) -> Cow<'_, ConfChangeV2> {
        Cow::Borrowed(self)
    }

    fn as_v1(&self) -> Option<&ConfChange> {
        None
    }
}

/// Whether both describe the same configuration; the order of ids says nothing.
#[must_use]
pub fn conf_state_eq(a: &ConfState, b: &ConfState) -> bool {
    same_ids(&a.voters, &b.voters)
        && same_ids(&a.learners, &b.learners)
        && same_ids(&a.voters_outgoing, &b.voters_outgoing)
        && same_ids(&a.learners_next, &b.learners_next)
        && a.auto_leave == b.auto_leave
}

fn same_ids(a: &[u64], b: &[u64]) -> bool {
    a == b || (a.iter().all(|id| b.contains(id)) && b.iter().all(|id| a.contains(id)))
}
