//! Leader leases by echoed stamps: for how long no other node can lead, so that reads need no round.
//!
//! A leader stamps what it sends with its own clock. A follower that handled a stamp has promised, from then on and for as
//! many ticks as an election takes, to vote for nobody else ([`Promise`]), and echoes the stamp with its next answers. From
//! the newest stamps of a quorum the leader knows until when those promises last at least ([`Lease`]). No clock is compared
//! with another; only their speeds may not differ by more than a tenth. INV-CONSENSUS-9 and why it holds: DESIGN.md.

use crate::GroupConfig;
use skep_base::{Millis, NodeId, Term};
use skep_log::Membership;

/// A stamp that says nothing: the message carries none.
pub(crate) const NO_STAMP: Millis = Millis(0);
/// No lease is over, or none was had.
pub(crate) const NEVER: Millis = Millis(0);
/// The lease of a leader that no quorum could replace without itself.
const FOR_EVER: Millis = Millis(u64::MAX);

/// A follower's side: to whom it promised what, and until when.
pub(crate) struct Promise {
    ticks_left: usize,
    /// The newest stamp handled, of which leader in which term.
    heard: Option<(Term, NodeId, Millis)>,
}

impl Promise {
    /// A replica that may have promised something before it restarted has promised it once more.
    pub fn new(ticks_left: usize) -> Promise {
        Promise { ticks_left, heard: None }
    }

    /// The leader's message was handled, as one of the present term.
    pub fn make(&mut self, ticks: usize, term: Term, leader: NodeId, stamp: Millis) {
        self.ticks_left = ticks;
        let newest = self.echo(term, leader).max(stamp);
        self.heard = Some((term, leader, newest));
    }

    pub fn tick(&mut self) {
        self.ticks_left = self.ticks_left.saturating_sub(1);
    }

    /// Whether no other leader may be helped.
    pub fn holds(&self) -> bool {
        self.ticks_left > 0
    }

    /// What an answer in `term` to `leader` carries.
    pub fn echo(&self, term: Term, leader: NodeId) -> Millis {
        match self.heard {
            Some((heard_in, from, stamp)) if (heard_in, from) == (term, leader) => stamp,
            _ => NO_STAMP,
        }
    }
}

/// A leader's side, of one term.
pub(crate) struct Lease {
    term: Term,
    /// The newest stamp that each node echoed, sorted by node.
    stamps: Vec<(NodeId, Millis)>,
    /// Another node was ordered to campaign in this term.
    forgone: bool,
    until: Millis,
    stale: bool,
}

impl Lease {
    pub fn new() -> Lease {
        Lease { term: Term(0), stamps: Vec::new(), forgone: false, until: NEVER, stale: false }
    }

    /// Begins a term of leadership, if `term` is another one.
    pub fn lead(&mut self, term: Term) {
        if term != self.term {
            *self = Lease { term, stale: true, ..Lease::new() };
        }
    }

    /// `node` echoed `stamp` in the present term.
    pub fn echoed(&mut self, node: NodeId, stamp: Millis) {
        match self.stamps.binary_search_by_key(&node, |(node, _)| *node) {
            Ok(found) if self.stamps[found].1 >= stamp => return,
            Ok(found) => self.stamps[found].1 = stamp,
            Err(place) => self.stamps.insert(place, (node, stamp)),
        }
        self.stale = true;
    }

    /// The newest stamp that `node` echoed in this term.
    pub fn stamp_of(&self, node: NodeId) -> Millis {
        let found = self.stamps.binary_search_by_key(&node, |(node, _)| *node);
        found.map_or(NO_STAMP, |found| self.stamps[found].1)
    }

    /// The membership changed: other nodes' promises count.
    pub fn reconsider(&mut self) {
        self.stale = true;
    }

    /// No lease any more in this term: the campaign that is ordered ignores promises, and the order may be under way for ever.
    pub fn forgo(&mut self, term: Term) {
        self.lead(term);
        self.forgone = true;
        self.stale = true;
    }

    /// The first instant at which another node may lead.
    pub fn until(&mut self, config: &GroupConfig, members: &Membership) -> Millis {
        if std::mem::take(&mut self.stale) {
            self.until = if self.forgone { NEVER } else { self.computed(config, members) };
        }
        self.until
    }

    fn computed(&self, config: &GroupConfig, members: &Membership) -> Millis {
        // A joint membership elects nobody without a majority of both.
        let mut quorum = self.quorum_stamp(config.node, &members.voters);
        if !members.outgoing.is_empty() {
            quorum = quorum.min(self.quorum_stamp(config.node, &members.outgoing));
        }
        match quorum {
            NO_STAMP => NEVER,
            FOR_EVER => FOR_EVER,
            stamp => stamp.plus(config.lease_ms()),
        }
    }

    /// The newest stamp that a majority of `voters` echoed; the leader itself votes for nobody while it leads.
    fn quorum_stamp(&self, myself: NodeId, voters: &[NodeId]) -> Millis {
        let of = |node: NodeId| if node == myself { FOR_EVER } else { self.stamp_of(node) };
        // The newest one that enough others are not older than: a handful of voters needs no sorting.
        let majority = voters.len() / 2 + 1;
        let enough = |stamp: &Millis| voters.iter().filter(|node| of(**node) >= *stamp).count() >= majority;
        voters.iter().map(|node| of(*node)).filter(enough).max().unwrap_or(NO_STAMP)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_base::GroupId;

    fn nodes(ids: &[u64]) -> Vec<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    /// For how long the lease of node 1 goes on after time 0, with these voters, outgoing voters and stamps.
    fn stamp_of(voters: &[u64], outgoing: &[u64], stamps: &[(u64, u64)]) -> Option<u64> {
        let config = GroupConfig::new(GroupId(1), NodeId(1), 1, 1);
        let members =
            Membership { voters: nodes(voters), outgoing: nodes(outgoing), ..Membership::default() };
        let mut lease = Lease::new();
        lease.lead(Term(3));
        for (node, stamp) in stamps {
            lease.echoed(NodeId(*node), Millis(*stamp));
        }
        let until = lease.until(&config, &members);
        (until != NEVER).then(|| if until == FOR_EVER { u64::MAX } else { until.0 - config.lease_ms() })
    }

    /// Voters, outgoing voters, who echoed what; the stamp that counts.
    type Case = (&'static [u64], &'static [u64], &'static [(u64, u64)], Option<u64>);

    #[test]
    fn a_majority_of_each_half_counts() {
        let table: [Case; _] = [
            (&[1], &[], &[], Some(u64::MAX)),
            (&[1, 2], &[], &[], None),
            (&[1, 2], &[], &[(2, 70)], Some(70)),
            (&[1, 2, 3], &[], &[(2, 70), (3, 90)], Some(90)),
            (&[1, 2, 3], &[], &[(2, 70), (4, 90)], Some(70)),
            (&[1, 2, 3, 4], &[], &[(2, 70), (3, 90)], Some(70)),
            (&[1, 2, 3, 4, 5], &[], &[(2, 70), (3, 90), (5, 80)], Some(80)),
            (&[1, 2, 3, 4, 5], &[], &[(2, 70)], None),
            (&[1, 2, 3], &[1], &[(2, 70)], Some(70)),
            (&[1], &[1, 2, 3], &[(2, 70)], Some(70)),
            (&[1, 4, 5], &[1, 2, 3], &[(2, 70), (3, 90)], None),
            (&[1, 4, 5], &[1, 2, 3], &[(2, 70), (3, 90), (4, 60)], Some(60)),
            (&[2, 3], &[1, 2, 3], &[(2, 70), (3, 90)], Some(70)),
            (&[2, 3], &[1, 2], &[(2, 70)], None),
        ];
        for (voters, outgoing, stamps, expected) in table {
            assert_eq!(stamp_of(voters, outgoing, stamps), expected, "{voters:?} {outgoing:?} {stamps:?}");
        }
    }

    #[test]
    fn stamps_never_go_back_and_end_with_the_term() {
        let config = GroupConfig::new(GroupId(1), NodeId(1), 1, 1);
        let members = Membership { voters: nodes(&[1, 2]), ..Membership::default() };
        let mut lease = Lease::new();
        lease.lead(Term(3));
        lease.echoed(NodeId(2), Millis(50));
        lease.echoed(NodeId(2), Millis(40));
        assert_eq!(lease.until(&config, &members), Millis(50).plus(config.lease_ms()));
        lease.lead(Term(3));
        assert_eq!(lease.until(&config, &members), Millis(50).plus(config.lease_ms()));
        lease.forgo(Term(3));
        lease.echoed(NodeId(2), Millis(60));
        assert_eq!(lease.until(&config, &members), NEVER);
        lease.lead(Term(4));
        assert_eq!(lease.until(&config, &members), NEVER);
        lease.echoed(NodeId(2), Millis(70));
        assert_eq!(lease.until(&config, &members), Millis(70).plus(config.lease_ms()));
    }

    #[test]
    fn answers_echo_the_newest_stamp_of_the_leader_they_go_to() {
        let mut promise = Promise::new(0);
        assert!(!promise.holds());
        promise.make(2, Term(3), NodeId(1), Millis(50));
        promise.make(2, Term(3), NodeId(1), Millis(40));
        assert_eq!(promise.echo(Term(3), NodeId(1)), Millis(50));
        assert_eq!(promise.echo(Term(3), NodeId(2)), NO_STAMP);
        assert_eq!(promise.echo(Term(4), NodeId(1)), NO_STAMP);
        promise.make(2, Term(4), NodeId(2), Millis(10));
        assert_eq!(promise.echo(Term(4), NodeId(2)), Millis(10));
        promise.tick();
        assert!(promise.holds());
        promise.tick();
        promise.tick();
        assert!(!promise.holds());
    }
}
