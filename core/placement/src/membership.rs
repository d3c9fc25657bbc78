//! The next change of one group's membership towards the wanted one, asked by the group's leader after each change.
//!
//! INV-PLACE-4: a step never removes or demotes the leader, and never turns a group whose live voters are a majority into
//! one where they are not. INV-PLACE-5: a node becomes a voter only while it is alive and has caught up, and no voter goes
//! before all wanted ones that are missing have come, but in the very change that brings one.

use skep_base::NodeId;
use skep_consensus::Standing;
use skep_log::Membership;

/// Who shall take part in a group.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Wanted {
    pub voters: Vec<NodeId>,
    /// Follow the group without voting.
    pub learners: Vec<NodeId>,
}

/// What a group's leader shall do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Step {
    /// All is as wanted, or must wait for a node that is down or has not caught up.
    Nothing,
    /// Give this to `Group::change_membership`.
    Change(Vec<(NodeId, Standing)>),
    /// Hand leadership to this voter, so that it can remove or demote the present leader.
    Transfer(NodeId),
}

/// True if exactly the wanted nodes vote and nobody else takes part that should not: the leader may propose
/// [`MetaCommand::Settled`](crate::MetaCommand::Settled). Learners that are still missing do not count.
pub fn is_settled(wanted: &Wanted, membership: &Membership) -> bool {
    let same = membership.voters.len() == wanted.voters.len()
        && membership.voters.iter().all(|node| wanted.voters.contains(node));
    let no_stray = membership.learners.iter().all(|node| wanted.learners.contains(node));
    same && no_stray && membership.outgoing.is_empty() && membership.learners_next.is_empty()
}

/// The next step of the leader `me`. `caught_up` and `alive` tell of other nodes; the leader is both.
///
/// Cost: O(n^2) in the nodes of the group.
pub fn membership_step(
    me: NodeId,
    wanted: &Wanted,
    membership: &Membership,
    caught_up: impl Fn(NodeId) -> bool,
    alive: impl Fn(NodeId) -> bool,
) -> Step {
    let alive = |node| node == me || alive(node);
    let group = GroupNow { me, wanted, membership, alive: &alive };
    if !membership.outgoing.is_empty() || !membership.learners_next.is_empty() {
        return Step::Nothing;
    }
    let missing: Vec<NodeId> =
        wanted.voters.iter().copied().filter(|node| !membership.voters.contains(node)).collect();
    None.or_else(|| group.drop_learner())
        .or_else(|| group.promote(&missing, &caught_up))
        .or_else(|| group.begin_catching_up(&missing))
        .or_else(|| if missing.is_empty() { group.shed_voter() } else { None })
        .or_else(|| if missing.is_empty() { group.step_aside(&caught_up) } else { None })
        .or_else(|| group.add_learner())
        .unwrap_or(Step::Nothing)
}

struct GroupNow<'a> {
    me: NodeId,
    wanted: &'a Wanted,
    membership: &'a Membership,
    alive: &'a dyn Fn(NodeId) -> bool,
}

impl GroupNow<'_> {
    /// A learner that nobody wants costs the leader a stream of entries.
    fn drop_learner(&self) -> Option<Step> {
        let is_wanted =
            |node: &&NodeId| self.wanted.voters.contains(node) || self.wanted.learners.contains(node);
        let stray = self.membership.learners.iter().find(|node| !is_wanted(node))?;
        Some(Step::Change(vec![(*stray, Standing::Removed)]))
    }

    /// Lets a wanted voter that caught up vote, and in the same change takes the vote from one that shall not.
    fn promote(&self, missing: &[NodeId], caught_up: &impl Fn(NodeId) -> bool) -> Option<Step> {
        let ready = |node: &&NodeId| {
            self.membership.learners.contains(node) && (self.alive)(**node) && caught_up(**node)
        };
        let new = *missing.iter().find(ready)?;
        let promotion = (new, Standing::Voter);
        let swap = self.excess().map(|old| vec![promotion, (old, self.demoted(old))]);
        swap.into_iter().chain([vec![promotion]]).find(|change| self.keeps_majority(change)).map(Step::Change)
    }

    /// One node at a time, since each may need all of the data. One that is down must not keep others waiting.
    fn begin_catching_up(&self, missing: &[NodeId]) -> Option<Step> {
        let under_way = |node: &NodeId| self.membership.learners.contains(node) && (self.alive)(*node);
        if missing.iter().any(under_way) {
            return None;
        }
        let new =
            missing.iter().find(|node| !self.membership.learners.contains(node) && (self.alive)(**node))?;
        Some(Step::Change(vec![(*new, Standing::Learner)]))
    }

    fn shed_voter(&self) -> Option<Step> {
        let old = self.excess()?;
        let change = vec![(old, self.demoted(old))];
        self.keeps_majority(&change).then_some(Step::Change(change))
    }

    /// The last step of a move away from the leader: the next leader removes this one.
    fn step_aside(&self, caught_up: &impl Fn(NodeId) -> bool) -> Option<Step> {
        if self.wanted.voters.contains(&self.me) || !self.keeps_majority(&[(self.me, Standing::Removed)]) {
            return None;
        }
        let heir = self.wanted.voters.iter().find(|node| (self.alive)(**node) && caught_up(**node))?;
        Some(Step::Transfer(*heir))
    }

    fn add_learner(&self) -> Option<Step> {
        let is_in =
            |node: &NodeId| self.membership.learners.contains(node) || self.membership.voters.contains(node);
        let new = self.wanted.learners.iter().find(|node| !is_in(node) && (self.alive)(**node))?;
        Some(Step::Change(vec![(*new, Standing::Learner)]))
    }

    /// A voter that shall not vote: a dead one first.
    fn excess(&self) -> Option<NodeId> {
        let excess = self.membership.voters.iter().copied();
        excess
            .filter(|node| *node != self.me && !self.wanted.voters.contains(node))
            .min_by_key(|node| ((self.alive)(*node), *node))
    }

    fn demoted(&self, node: NodeId) -> Standing {
        match self.wanted.learners.contains(&node) {
            true => Standing::Learner,
            false => Standing::Removed,
        }
    }

    /// True if the live voters are a majority of all after `change`.
    fn keeps_majority(&self, change: &[(NodeId, Standing)]) -> bool {
        let leaves = |node: &NodeId| change.iter().any(|(other, s)| other == node && *s != Standing::Voter);
        let come = change.iter().filter(|(_, s)| *s == Standing::Voter).map(|(node, _)| *node);
        let stay = self.membership.voters.iter().copied().filter(|node| !leaves(node));
        let after: Vec<NodeId> = stay.chain(come).collect();
        let live = after.iter().filter(|node| (self.alive)(**node)).count();
        2 * live > after.len()
    }
}
