//! All parts together: a meta group that plans, groups whose leaders take steps by what they know of its state, nodes
//! that die, return, join, are drained and removed.

#![allow(clippy::unwrap_used)]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::states::{cluster, join};
use skep_base::{GroupId, Millis, NodeId, Rng};
use skep_consensus::Standing;
use skep_log::Membership;
use skep_placement::{MetaCommand, MetaState, Step, View, is_settled, membership_step, plan};

const ROUND_MS: u64 = 20_000;
const NODES_MAX: u64 = 12;

struct Group {
    /// As the leader has applied it.
    now: Membership,
    /// A change in the log of the leader, not applied yet.
    pending: Option<Vec<(NodeId, Standing)>>,
    leader: Option<NodeId>,
    /// Nodes that do not have all of the group's data.
    behind: BTreeSet<NodeId>,
}

struct Sim {
    rng: Rng,
    time: Millis,
    /// The meta group's states, one after each command.
    states: Vec<MetaState>,
    /// How many of them each node knows.
    known: BTreeMap<NodeId, usize>,
    groups: BTreeMap<GroupId, Group>,
    down: BTreeMap<NodeId, Millis>,
    joined: u64,
    removed: u64,
    moved: u64,
}

impl Sim {
    fn new(seed: u64) -> Sim {
        let mut rng = Rng::new(seed);
        let state = cluster(1 + rng.below(5) as u32, 1 + rng.below(4) as u32, &[""]);
        let alone = || Membership { voters: vec![NodeId(1)], ..Membership::default() };
        let behind: BTreeSet<NodeId> = (2..=NODES_MAX).map(NodeId).collect();
        let group = || Group { now: alone(), pending: None, leader: None, behind: behind.clone() };
        let groups = state.groups().map(|(id, _)| (id, group())).collect();
        let known = BTreeMap::from([(NodeId(1), 0)]);
        let mut sim = Sim {
            rng,
            time: Millis(ROUND_MS),
            states: vec![state],
            known,
            groups,
            down: BTreeMap::new(),
            joined: 1,
            removed: 0,
            moved: 0,
        };
        for _ in 0..sim.rng.below(4) {
            sim.join();
        }
        sim
    }

    fn state(&self) -> &MetaState {
        self.states.last().unwrap()
    }

    /// What a node may still be told and answer: one that was removed is refused by the others.
    fn is_alive(&self, node: &NodeId) -> bool {
        self.state().nodes.contains_key(node) && !self.down.contains_key(node)
    }

    fn has_majority(&self, voters: &[NodeId]) -> bool {
        voters.is_empty() || 2 * voters.iter().filter(|node| self.is_alive(node)).count() > voters.len()
    }

    fn has_quorum(&self, id: GroupId) -> bool {
        let now = &self.groups[&id].now;
        self.has_majority(&now.voters) && self.has_majority(&now.outgoing)
    }

    /// Commits a command, if the meta group can.
    fn command(&mut self, command: MetaCommand) -> Result<(), String> {
        if !self.has_quorum(GroupId::META) {
            return Err("no quorum".to_owned());
        }
        let mut state = self.state().clone();
        state.apply(command)?;
        state.assert_invariants();
        if state != *self.state() {
            self.states.push(state);
        }
        Ok(())
    }

    // ---- what people and machines do ---------------------------------------------------------------------------------

    fn hurt(&mut self) {
        let members: Vec<NodeId> = self.state().nodes.keys().copied().collect();
        let node = members[self.rng.below(members.len() as u64) as usize];
        match self.rng.below(14) {
            0..=2 => {
                self.down.entry(node).or_insert(self.time);
            }
            3..=6 => {
                self.down.remove(&node);
            }
            7 => self.join(),
            8 => {
                let _ = self.command(MetaCommand::Drain { node, on: true });
            }
            9 => {
                let _ = self.command(MetaCommand::Drain { node, on: false });
            }
            10 | 11 => {
                self.removed += u64::from(self.command(MetaCommand::Remove { node }).is_ok());
            }
            _ => self.groups.values_mut().for_each(|group| group.leader = None),
        }
    }

    fn join(&mut self) {
        let zone = ["", "", "a", "b"][self.rng.below(4) as usize];
        if self.joined < NODES_MAX && self.command(join(self.joined + 1, zone)).is_ok() {
            self.joined += 1;
            self.known.insert(NodeId(self.joined), self.states.len() - 1);
        }
    }

    // ---- the system --------------------------------------------------------------------------------------------------

    /// Everybody does one thing. True if something changed.
    fn round(&mut self) -> bool {
        self.time = self.time.plus(ROUND_MS);
        let before = self.states.len();
        for (node, known) in &mut self.known {
            if !self.down.contains_key(node) && *known + 1 < self.states.len() && self.rng.one_in(2) {
                *known += 1;
            }
        }
        if self.groups[&GroupId::META].leader.is_some() {
            let view = View { down: self.down.clone(), ..View::default() };
            if let Some(command) = plan(self.state(), &view, self.time) {
                self.moved += u64::from(self.command(command).is_ok());
            }
        }
        let ids: Vec<GroupId> = self.groups.keys().copied().collect();
        let mut changed = self.states.len() > before;
        for id in ids {
            changed |= self.lead(id);
            self.replicate(id);
            self.check(id);
        }
        changed
    }

    fn lead(&mut self, id: GroupId) -> bool {
        if !self.has_quorum(id) {
            self.groups.get_mut(&id).unwrap().leader = None;
            return false;
        }
        if self.groups[&id].pending.is_some() && self.rng.one_in(2) {
            let group = self.groups.get_mut(&id).unwrap();
            let changes = group.pending.take().expect("it is there");
            enter_joint(&mut group.now, &changes);
            return true;
        }
        let Some(me) = self.leader_or_elected(id) else { return false };
        let known = self.known[&me];
        let state = &self.states[known];
        let group = &self.groups[&id];
        let wanted = state.wanted(id);
        let caught_up = |node| !group.behind.contains(&node);
        let alive = |node| self.is_alive(&node);
        if !group.now.outgoing.is_empty() || !group.now.learners_next.is_empty() {
            let now = &mut self.groups.get_mut(&id).unwrap().now;
            now.outgoing.clear();
            let next = std::mem::take(&mut now.learners_next);
            now.learners.extend(next);
            return true;
        }
        let record = state.group(id).unwrap();
        // A change that is on its way, perhaps by an earlier leader, may make it otherwise.
        let is_changing = group.pending.is_some();
        if !record.settled && !is_changing && is_settled(&wanted, &group.now) {
            let epoch = record.epoch;
            return self.command(MetaCommand::Settled { shard: id, epoch }).is_ok();
        }
        match membership_step(me, &wanted, &group.now, caught_up, alive) {
            Step::Nothing => return false,
            Step::Transfer(to) => {
                assert!(group.now.voters.contains(&to) && !group.behind.contains(&to));
                self.elect(id, to);
            }
            Step::Change(changes) => {
                let ours = changes.iter().find(|(node, _)| *node == me);
                assert!(ours.is_none(), "{me} changes its own vote in {id:?}: {ours:?}");
                if is_changing {
                    return false;
                }
                self.groups.get_mut(&id).unwrap().pending = Some(changes);
            }
        }
        true
    }

    fn leader_or_elected(&mut self, id: GroupId) -> Option<NodeId> {
        let group = &self.groups[&id];
        let fits = |node: &NodeId| {
            self.is_alive(node) && group.now.voters.contains(node) && !group.behind.contains(node)
        };
        if group.leader.is_none_or(|leader| !fits(&leader)) {
            let able: Vec<NodeId> = group.now.voters.iter().copied().filter(fits).collect();
            if able.is_empty() {
                return None;
            }
            let next = able[self.rng.below(able.len() as u64) as usize];
            self.elect(id, next);
        }
        self.groups[&id].leader
    }

    /// Whoever begins to lead reads the meta state before its first step, or it could undo what an earlier leader settled.
    fn elect(&mut self, id: GroupId, leader: NodeId) {
        self.groups.get_mut(&id).unwrap().leader = Some(leader);
        self.known.insert(leader, self.states.len() - 1);
    }

    fn replicate(&mut self, id: GroupId) {
        let ids: Vec<NodeId> = self.known.keys().copied().collect();
        for node in ids {
            let alive = self.is_alive(&node);
            let group = self.groups.get_mut(&id).unwrap();
            if !group.now.voters.contains(&node) && !group.now.learners.contains(&node) {
                group.behind.insert(node);
            } else if alive && group.leader.is_some() && self.rng.one_in(3) {
                group.behind.remove(&node);
            }
        }
    }

    fn check(&self, id: GroupId) {
        let (now, record) = (&self.groups[&id].now, self.state().group(id).unwrap());
        for node in now.voters.iter().chain(&now.outgoing) {
            assert!(record.may_be_on(*node), "INV-PLACE-9: {node} votes in {id:?}: {now:?} {record:?}");
        }
    }

    // ---- what came of it ---------------------------------------------------------------------------------------------

    fn assert_all_is_well(&self, seed: u64) {
        let state = self.state();
        let usable = state.nodes.values().filter(|member| !member.draining).count();
        for (id, record) in state.groups() {
            let expected = match id {
                GroupId::META if usable >= 5 => 5,
                GroupId::META => usable.min(3),
                _ => usable.min(state.replicas as usize),
            };
            let found = format!("seed {seed}: {id:?} {record:?} {:?}", self.groups[&id].now);
            assert_eq!(record.replicas.len(), expected, "{found}");
            assert!(record.settled && is_settled(&state.wanted(id), &self.groups[&id].now), "{found}");
            assert!(record.replicas.iter().all(|node| !state.nodes[node].draining), "{found}");
        }
        let meta = &self.groups[&GroupId::META].now;
        let mut followers: Vec<NodeId> = meta.voters.iter().chain(&meta.learners).copied().collect();
        followers.sort_unstable();
        assert!(followers.iter().eq(state.nodes.keys()), "seed {seed}: {followers:?} follow the meta group");
    }
}

fn enter_joint(now: &mut Membership, changes: &[(NodeId, Standing)]) {
    let before = now.voters.clone();
    for (node, standing) in changes {
        now.learners.retain(|other| other != node);
        now.voters.retain(|other| other != node);
        match standing {
            Standing::Voter => now.voters.push(*node),
            Standing::Learner if before.contains(node) => now.learners_next.push(*node),
            Standing::Learner => now.learners.push(*node),
            Standing::Removed => {}
        }
    }
    if now.voters != before {
        now.outgoing = before;
    }
}

/// No voter is ever forgotten by the meta state, and so none is removed; and when all members are up again, everything is
/// where it belongs within a bounded time and stays there.
#[test]
fn a_cluster_comes_to_rest_where_it_should_whatever_happened() {
    let (mut removed, mut moved, mut largest) = (0, 0, 0);
    for seed in common::seeds(400) {
        let mut sim = Sim::new(seed);
        for _ in 0..150 {
            if sim.rng.one_in(3) {
                sim.hurt();
            }
            sim.round();
        }
        sim.down.clear();
        let mut quiet = 0;
        for round in 0.. {
            assert!(round < 3000, "seed {seed}: no rest: {:?}", sim.state());
            quiet = if sim.round() { 0 } else { quiet + 1 };
            if quiet == 60 {
                break;
            }
        }
        sim.assert_all_is_well(seed);
        removed += sim.removed;
        moved += sim.moved;
        largest = largest.max(sim.state().nodes.len());
    }
    assert!(removed > 60 && moved > 3000 && largest > 8, "{removed} removed, {moved} moved, {largest} nodes");
}
