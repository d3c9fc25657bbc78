//! Steps of one group's membership: the cases, and groups at random with nodes that die and come back.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use skep_base::{NodeId, Rng};
use skep_consensus::Standing;
use skep_log::Membership;
use skep_placement::{Step, Wanted, is_settled, membership_step};

fn nodes(ids: &[u64]) -> Vec<NodeId> {
    ids.iter().map(|id| NodeId(*id)).collect()
}

fn wanted(voters: &[u64]) -> Wanted {
    Wanted { voters: nodes(voters), learners: Vec::new() }
}

fn group(voters: &[u64], learners: &[u64]) -> Membership {
    Membership { voters: nodes(voters), learners: nodes(learners), ..Membership::default() }
}

/// The step of leader 1 (the first of `voters`), where all but `down` are alive and all but `behind` have caught up.
fn step(wanted: &Wanted, now: &Membership, down: &[u64], behind: &[u64]) -> Step {
    let me = now.voters[0];
    membership_step(me, wanted, now, |node| !behind.contains(&node.0), |node| !down.contains(&node.0))
}

fn change(changes: &[(u64, Standing)]) -> Step {
    Step::Change(changes.iter().map(|(node, standing)| (NodeId(*node), *standing)).collect())
}

use Standing::{Learner, Removed, Voter};

#[test]
fn a_group_as_wanted_does_nothing() {
    let now = group(&[1, 2, 3], &[]);
    assert_eq!(step(&wanted(&[3, 1, 2]), &now, &[2, 3], &[]), Step::Nothing);
    assert!(is_settled(&wanted(&[3, 1, 2]), &now));
    assert!(!is_settled(&wanted(&[1, 2]), &now) && !is_settled(&wanted(&[1, 2, 4]), &now));
    assert!(!is_settled(&wanted(&[1, 2, 3]), &group(&[1, 2, 3], &[4])));
}

#[test]
fn a_joint_membership_ends_before_the_next_step() {
    let joint = Membership { outgoing: nodes(&[1, 2]), ..group(&[1, 3], &[]) };
    assert_eq!(step(&wanted(&[1, 3, 4]), &joint, &[], &[]), Step::Nothing);
    assert!(!is_settled(&wanted(&[1, 3]), &joint));
}

#[test]
fn copies_come_one_at_a_time_and_vote_when_they_caught_up() {
    let aim = wanted(&[1, 2, 3]);
    assert_eq!(step(&aim, &group(&[1], &[]), &[], &[2, 3]), change(&[(2, Learner)]));
    assert_eq!(step(&aim, &group(&[1], &[2]), &[], &[2, 3]), Step::Nothing);
    assert_eq!(step(&aim, &group(&[1], &[2]), &[], &[3]), change(&[(2, Voter)]));
    assert_eq!(step(&aim, &group(&[1, 2], &[]), &[], &[3]), change(&[(3, Learner)]));
    assert_eq!(step(&aim, &group(&[1, 2], &[3]), &[], &[]), change(&[(3, Voter)]));
}

#[test]
fn a_newcomer_that_is_down_keeps_no_other_waiting() {
    let aim = wanted(&[1, 2, 3]);
    assert_eq!(step(&aim, &group(&[1], &[2]), &[2], &[2, 3]), change(&[(3, Learner)]));
    assert_eq!(step(&aim, &group(&[1], &[2]), &[2], &[]), change(&[(3, Learner)]));
    assert_eq!(step(&aim, &group(&[1], &[]), &[2], &[]), change(&[(3, Learner)]));
    assert_eq!(step(&aim, &group(&[1], &[]), &[2, 3], &[]), Step::Nothing);
}

#[test]
fn a_move_swaps_the_vote_in_one_change() {
    let aim = wanted(&[1, 2, 4]);
    assert_eq!(step(&aim, &group(&[1, 2, 3], &[]), &[], &[4]), change(&[(4, Learner)]));
    assert_eq!(step(&aim, &group(&[1, 2, 3], &[4]), &[], &[4]), Step::Nothing);
    assert_eq!(step(&aim, &group(&[1, 2, 3], &[4]), &[], &[]), change(&[(4, Voter), (3, Removed)]));
    // Of two that shall go, the dead one first.
    let aim = wanted(&[1, 4, 5]);
    assert_eq!(step(&aim, &group(&[1, 2, 3], &[4]), &[3], &[]), change(&[(4, Voter), (3, Removed)]));
}

#[test]
fn a_dead_voter_stays_until_its_successor_has_caught_up() {
    let aim = wanted(&[1, 2, 4]);
    assert_eq!(step(&aim, &group(&[1, 2, 3], &[4]), &[3], &[4]), Step::Nothing);
    assert_eq!(step(&aim, &group(&[1, 2, 3], &[]), &[3, 4], &[]), Step::Nothing);
    assert_eq!(step(&aim, &group(&[1, 2, 3], &[4]), &[3], &[]), change(&[(4, Voter), (3, Removed)]));
    // No successor is wanted: it goes at once.
    assert_eq!(step(&wanted(&[1, 2]), &group(&[1, 2, 3], &[]), &[3], &[]), change(&[(3, Removed)]));
}

#[test]
fn a_leader_that_shall_go_hands_over_last() {
    let aim = wanted(&[2, 3, 4]);
    assert_eq!(step(&aim, &group(&[1, 2, 3], &[]), &[], &[4]), change(&[(4, Learner)]));
    assert_eq!(step(&aim, &group(&[1, 2, 3], &[4]), &[], &[4]), Step::Nothing);
    assert_eq!(step(&aim, &group(&[1, 2, 3], &[4]), &[], &[]), change(&[(4, Voter)]));
    assert_eq!(step(&aim, &group(&[1, 2, 3, 4], &[]), &[2], &[3]), Step::Transfer(NodeId(4)));
    assert_eq!(step(&aim, &group(&[2, 1, 3, 4], &[]), &[], &[]), change(&[(1, Removed)]));
    // The only copy, from one node to another.
    assert_eq!(step(&wanted(&[2]), &group(&[1], &[]), &[], &[2]), change(&[(2, Learner)]));
    assert_eq!(step(&wanted(&[2]), &group(&[1], &[2]), &[], &[]), change(&[(2, Voter)]));
    assert_eq!(step(&wanted(&[2]), &group(&[1, 2], &[]), &[], &[]), Step::Transfer(NodeId(2)));
    assert_eq!(step(&wanted(&[2]), &group(&[1, 2], &[]), &[], &[2]), Step::Nothing);
    assert_eq!(step(&wanted(&[2]), &group(&[1, 2], &[]), &[2], &[]), Step::Nothing);
}

#[test]
fn no_step_leaves_the_group_without_a_live_majority() {
    // 3 shall go, but without it 1 would be alone of two.
    assert_eq!(step(&wanted(&[1, 2]), &group(&[1, 2, 3], &[]), &[2], &[]), Step::Nothing);
    assert_eq!(step(&wanted(&[2, 3]), &group(&[1, 2, 3], &[]), &[2], &[]), Step::Nothing);
    // 4 has come; swapped for the live 3 it would be 1 and 4 of four, so 3 stays for now.
    let now = group(&[1, 2, 3, 5], &[4]);
    assert_eq!(step(&wanted(&[1, 2, 4, 5]), &now, &[2, 5], &[]), change(&[(4, Voter)]));
}

#[test]
fn learners_follow_and_voters_become_learners_where_that_is_wanted() {
    let aim = Wanted { voters: nodes(&[1, 2, 3]), learners: nodes(&[4, 5]) };
    let all = group(&[1, 2, 3], &[4, 5]);
    assert_eq!(step(&aim, &all, &[], &[4, 5]), Step::Nothing);
    assert!(is_settled(&aim, &all) && is_settled(&aim, &group(&[1, 2, 3], &[4])));
    assert_eq!(step(&aim, &group(&[1, 2, 3], &[4]), &[], &[]), change(&[(5, Learner)]));
    assert_eq!(step(&aim, &group(&[1, 2, 3], &[4]), &[5], &[]), Step::Nothing);
    assert_eq!(step(&aim, &group(&[1, 2, 3, 4], &[5]), &[], &[]), change(&[(4, Learner)]));
    // A voter that is awaited does not keep learners away.
    assert_eq!(step(&aim, &group(&[1, 2], &[3]), &[], &[3]), change(&[(4, Learner)]));
}

#[test]
fn learners_that_nobody_wants_go_first() {
    assert_eq!(step(&wanted(&[1, 2]), &group(&[1], &[9]), &[], &[]), change(&[(9, Removed)]));
    assert_eq!(step(&wanted(&[1, 2]), &group(&[1], &[2, 9]), &[9], &[]), change(&[(9, Removed)]));
}

// ---- groups at random ---------------------------------------------------------------------------------------------------

/// A group whose changes take effect when its majorities say so. Data reaches learners in time.
struct Sim {
    rng: Rng,
    now: Membership,
    leader: Option<NodeId>,
    down: BTreeSet<NodeId>,
    behind: BTreeSet<NodeId>,
}

const NODES: u64 = 8;

impl Sim {
    fn new(seed: u64) -> Sim {
        let mut rng = Rng::new(seed);
        let voters = random_set(&mut rng, 1, 5);
        let behind = (1..=NODES).map(NodeId).filter(|node| !voters.contains(node)).collect();
        let now = Membership { voters, ..Membership::default() };
        Sim { rng, now, leader: None, down: BTreeSet::new(), behind }
    }

    fn is_alive(&self, node: &NodeId) -> bool {
        !self.down.contains(node)
    }

    fn has_majority(&self, voters: &[NodeId]) -> bool {
        voters.is_empty() || 2 * voters.iter().filter(|node| self.is_alive(node)).count() > voters.len()
    }

    fn has_quorum(&self) -> bool {
        self.has_majority(&self.now.voters) && self.has_majority(&self.now.outgoing)
    }

    /// One round: somebody leads, and does what is next. True if there was something to do.
    fn round(&mut self, wanted: &Wanted) -> bool {
        if !self.has_quorum() {
            self.leader = None;
            return false;
        }
        if self.leader.is_none_or(|leader| !self.is_alive(&leader) || !self.now.voters.contains(&leader)) {
            let able: Vec<NodeId> = self
                .now
                .voters
                .iter()
                .copied()
                .filter(|n| self.is_alive(n) && !self.behind.contains(n))
                .collect();
            if able.is_empty() {
                return false;
            }
            self.leader = Some(able[self.rng.below(able.len() as u64) as usize]);
        }
        let me = self.leader.unwrap();
        if !self.now.outgoing.is_empty() {
            self.leave_joint();
            return true;
        }
        let caught_up = |node| !self.behind.contains(&node);
        let step = membership_step(me, wanted, &self.now, caught_up, |node| self.is_alive(&node));
        match step {
            Step::Nothing => return false,
            Step::Transfer(to) => {
                assert!(self.now.voters.contains(&to) && wanted.voters.contains(&to) && to != me);
                assert!(self.is_alive(&to) && caught_up(to));
                self.leader = Some(to);
            }
            Step::Change(changes) => self.enter_joint(me, &changes),
        }
        true
    }

    fn enter_joint(&mut self, me: NodeId, changes: &[(NodeId, Standing)]) {
        let before = self.now.clone();
        assert!(!changes.is_empty() && changes.len() <= 2, "{changes:?}");
        for (node, standing) in changes {
            assert!(*node != me || *standing == Voter, "INV-PLACE-4: {me} shall make itself {standing:?}");
            self.now.learners.retain(|other| other != node);
            self.now.voters.retain(|other| other != node);
            match standing {
                Voter => {
                    assert!(
                        before.learners.contains(node),
                        "INV-PLACE-5: {node} votes without having learned"
                    );
                    assert!(
                        !self.behind.contains(node) && self.is_alive(node),
                        "INV-PLACE-5: {node} is behind"
                    );
                    self.now.voters.push(*node);
                }
                Learner if before.voters.contains(node) => self.now.learners_next.push(*node),
                Learner => self.now.learners.push(*node),
                Removed => {}
            }
        }
        assert_ne!(self.now, before, "a change that changes nothing: {changes:?}");
        let kept = self.has_majority(&self.now.voters);
        assert!(kept, "INV-PLACE-4: {changes:?} of {before:?} with {:?} down", self.down);
        if self.now.voters != before.voters {
            self.now.outgoing = before.voters;
        }
    }

    fn leave_joint(&mut self) {
        self.now.outgoing.clear();
        let next = std::mem::take(&mut self.now.learners_next);
        self.now.learners.extend(next);
    }

    /// Some data arrives at those that take part and are up; those that left forget theirs.
    fn replicate(&mut self) {
        let is_in = |node: &NodeId| self.now.voters.contains(node) || self.now.learners.contains(node);
        for node in (1..=NODES).map(NodeId) {
            if !is_in(&node) {
                self.behind.insert(node);
            } else if self.leader.is_some() && self.is_alive(&node) && self.rng.one_in(3) {
                self.behind.remove(&node);
            }
        }
    }

    fn describe(&self, wanted: &Wanted) -> String {
        format!("{:?} wanted {wanted:?} leader {:?} down {:?}", self.now, self.leader, self.down)
    }
}

fn random_set(rng: &mut Rng, least: u64, most: u64) -> Vec<NodeId> {
    let count = least + rng.below(most - least + 1);
    let mut set = BTreeSet::new();
    while (set.len() as u64) < count {
        set.insert(NodeId(1 + rng.below(NODES)));
    }
    set.into_iter().collect()
}

fn random_wanted(rng: &mut Rng) -> Wanted {
    let voters = random_set(rng, 1, 5);
    let learners = match rng.one_in(2) {
        true => (1..=NODES).map(NodeId).filter(|node| !voters.contains(node)).collect(),
        false => Vec::new(),
    };
    Wanted { voters, learners }
}

/// INV-PLACE-4 and INV-PLACE-5, and that every group gets where it shall when all nodes are up.
#[test]
fn groups_get_where_they_shall_through_deaths_and_changes_of_mind() {
    let mut rounds = 0;
    for seed in 0..4000 {
        let mut sim = Sim::new(seed);
        let mut wanted = random_wanted(&mut sim.rng);
        for _ in 0..sim.rng.below(60) {
            match sim.rng.below(6) {
                0 => drop(sim.down.insert(NodeId(1 + sim.rng.below(NODES)))),
                1 | 2 => drop(sim.down.pop_first()),
                3 if sim.rng.one_in(4) => wanted = random_wanted(&mut sim.rng),
                4 => sim.leader = None,
                _ => {}
            }
            sim.round(&wanted);
            sim.replicate();
        }
        sim.down.clear();
        let done = |sim: &Sim| {
            let members = sim.now.learners.len() + sim.now.voters.len();
            is_settled(&wanted, &sim.now) && members == wanted.learners.len() + wanted.voters.len()
        };
        let mut left = 300;
        while !done(&sim) {
            assert!(left > 0, "seed {seed}: {}", sim.describe(&wanted));
            left -= 1;
            rounds += 1;
            sim.round(&wanted);
            sim.replicate();
        }
        for _ in 0..20 {
            assert!(!sim.round(&wanted), "seed {seed}: there is more to do: {}", sim.describe(&wanted));
            sim.replicate();
        }
    }
    assert!(rounds > 10_000, "only {rounds} rounds");
}

/// While nothing fails there are never fewer voters than before or than wanted, whichever is less, and never more than
/// one above what is wanted or was there.
#[test]
fn a_move_without_deaths_never_thins_the_group_out() {
    for seed in 0..2000 {
        let mut sim = Sim::new(seed);
        let wanted = random_wanted(&mut sim.rng);
        let (before, aim) = (sim.now.voters.len(), wanted.voters.len());
        for _ in 0..200 {
            sim.round(&wanted);
            sim.replicate();
            let voters = sim.now.voters.len();
            assert!(voters >= before.min(aim), "seed {seed}: {}", sim.describe(&wanted));
            assert!(voters <= before.max(aim) + 1, "seed {seed}: {}", sim.describe(&wanted));
        }
        assert!(is_settled(&wanted, &sim.now), "seed {seed}: {}", sim.describe(&wanted));
    }
}
