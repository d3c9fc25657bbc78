//! The next change of the meta state, asked by the meta group's leader after each change of it and each change of view.
//!
//! INV-PLACE-6: at a fixed point of [`plan`] each settled group has its number of replicas, none of them draining while
//! another node could hold it, none long dead while a live node is spare. INV-PLACE-7: plans end: each one brings the
//! state nearer to that, or lowers (unevenness over zones, unevenness of load) and neither is raised by another.

use std::collections::BTreeMap;

use skep_base::{GroupId, Millis, NodeId};

use crate::command::MetaCommand;
use crate::record::ShardRecord;
use crate::state::MetaState;

/// How long a node is down before its copies are made anew elsewhere: longer than a machine takes to start, since
/// copying everything costs more than waiting for that.
pub const DEAD_AFTER_MS: u64 = 5 * 60 * 1000;
/// Shards whose replicas may be on their way at once. More would only make each take longer.
const MOVES_MAX: usize = 4;
/// Voters of the meta group: survives one loss, from five nodes on two.
const META_VOTERS: usize = 3;
const META_VOTERS_MANY: usize = 5;

/// What the meta group's leader sees of the nodes. Not replicated.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct View {
    /// Members that are down, each since when (the clock of `now` in [`plan`]).
    pub down: BTreeMap<NodeId, Millis>,
    /// See [`DEAD_AFTER_MS`].
    pub dead_after_ms: u64,
}

impl Default for View {
    fn default() -> View {
        View { down: BTreeMap::new(), dead_after_ms: DEAD_AFTER_MS }
    }
}

/// The next change that brings copies where they belong; `None` if all is well or has to wait. To be asked again when a
/// change was applied, when the view changes, and each second or so, since nodes that are down come to count as dead.
///
/// Cost: O(shards * nodes), and O(shards * nodes * replicas) if nothing needs repair.
pub fn plan(state: &MetaState, view: &View, now: Millis) -> Option<MetaCommand> {
    if !state.is_founded() {
        return None;
    }
    let planner = Planner::new(state, view, now);
    planner.repair_first().or_else(|| planner.forget_gone()).or_else(|| planner.even_out())
}

struct Planner<'a> {
    state: &'a MetaState,
    view: &'a View,
    now: Millis,
    /// Copies of shards on each member.
    load: BTreeMap<NodeId, usize>,
    /// Shards on their way whose progress is not held up by a node that is down.
    moving: usize,
}

impl<'a> Planner<'a> {
    fn new(state: &'a MetaState, view: &'a View, now: Millis) -> Planner<'a> {
        let mut load: BTreeMap<NodeId, usize> = state.nodes.keys().map(|node| (*node, 0)).collect();
        for node in state.shards.values().flat_map(|record| &record.replicas) {
            *load.get_mut(node).expect("INV-PLACE-3: replicas are members") += 1;
        }
        let is_moving = |record: &&ShardRecord| {
            !record.settled && record.replicas.iter().all(|node| !view.down.contains_key(node))
        };
        let moving = state.shards.values().filter(is_moving).count();
        Planner { state, view, now, load, moving }
    }

    // ---- repair -----------------------------------------------------------------------------------------------------

    fn repair_first(&self) -> Option<MetaCommand> {
        self.state.groups().find_map(|(group, record)| {
            let replicas = self.repair(group, record)?;
            Some(MetaCommand::SetReplicas { shard: group, epoch: record.epoch, replicas })
        })
    }

    /// A member that another has taken the place of, once nothing is on it.
    fn forget_gone(&self) -> Option<MetaCommand> {
        let holds_nothing = |node: NodeId| self.state.groups().all(|(_, record)| !record.may_be_on(node));
        let mut gone = self.state.nodes.iter().filter(|(_, member)| member.gone);
        gone.find(|(node, _)| holds_nothing(**node)).map(|(node, _)| MetaCommand::Remove { node: *node })
    }

    /// The replicas that a group should have next, if it lacks some, has too many or unfit ones.
    fn repair(&self, group: GroupId, record: &ShardRecord) -> Option<Vec<NodeId>> {
        let unfit = self.unfit(record);
        let can_act = match record.settled {
            // Without a majority the group can do nothing, and only its own nodes can help it.
            true => self.most_are_up(&record.replicas),
            // On its way it is left to arrive, unless it cannot: a replica is dead or is to go.
            false => unfit.is_some(),
        };
        if !can_act {
            return None;
        }
        let aim = self.copies_wanted(group, record);
        if record.replicas.len() > aim
            && let Some(fewer) = self.fewer(record)
        {
            return Some(fewer);
        }
        let may_move = group == GroupId::META || self.moving < MOVES_MAX || !record.settled;
        let new = self.spare(record).filter(|_| may_move)?;
        match unfit {
            Some(old) => Some(swapped(record, old, new)),
            None if record.replicas.len() < aim => {
                Some(record.replicas.iter().copied().chain([new]).collect())
            }
            None => None,
        }
    }

    /// One replica less, if that leaves a majority that is up and one that stays.
    fn fewer(&self, record: &ShardRecord) -> Option<Vec<NodeId>> {
        let rest = without(record, self.least_useful(record)?);
        let one_stays = rest.iter().any(|node| !self.is_draining(*node));
        (one_stays && self.most_are_up(&rest)).then_some(rest)
    }

    /// As many as asked for, as far as there are nodes. A dead node counts where it is a replica, so that its death alone
    /// makes no copy go away; else it counts while it may come back soon.
    fn copies_wanted(&self, group: GroupId, record: &ShardRecord) -> usize {
        let counts = |node: &&NodeId| {
            !self.is_draining(**node) && (!self.is_dead(**node) || record.replicas.contains(node))
        };
        let nodes = self.state.nodes.keys().filter(counts).count();
        match group {
            GroupId::META if nodes >= META_VOTERS_MANY => META_VOTERS_MANY,
            GroupId::META => nodes.clamp(1, META_VOTERS),
            _ => nodes.clamp(1, self.state.replicas as usize),
        }
    }

    /// A replica that should not be one: a dead one first, since it is of no use, then a draining one.
    fn unfit(&self, record: &ShardRecord) -> Option<NodeId> {
        let unfit = record.replicas.iter().copied();
        unfit
            .filter(|node| self.is_draining(*node) || self.is_dead(*node))
            .min_by_key(|node| (!self.is_dead(*node), *node))
    }

    /// The best live node that does not hold the group: in the zone with the fewest copies, with the fewest shards.
    fn spare(&self, record: &ShardRecord) -> Option<NodeId> {
        let spare = self.state.nodes.keys().copied().filter(|node| self.may_receive(record, *node));
        spare.min_by_key(|node| (self.in_zone_of(*node, &record.replicas), self.load[node], *node))
    }

    fn may_receive(&self, record: &ShardRecord, node: NodeId) -> bool {
        !record.replicas.contains(&node) && !self.is_draining(node) && !self.view.down.contains_key(&node)
    }

    /// The replica to let go when there are too many.
    fn least_useful(&self, record: &ShardRecord) -> Option<NodeId> {
        record.replicas.iter().copied().max_by_key(|node| {
            let is_down = self.view.down.contains_key(node);
            let crowd = self.in_zone_of(*node, &record.replicas);
            (self.is_draining(*node), self.is_dead(*node), is_down, crowd, self.load[node], *node)
        })
    }

    fn most_are_up(&self, replicas: &[NodeId]) -> bool {
        let up = replicas.iter().filter(|node| !self.view.down.contains_key(node)).count();
        2 * up > replicas.len()
    }

    // ---- evening out ------------------------------------------------------------------------------------------------

    /// One swap that spreads a group better over zones, or the shards better over nodes; only when nothing is on its way.
    fn even_out(&self) -> Option<MetaCommand> {
        if self.state.groups().any(|(_, record)| !record.settled) {
            return None;
        }
        self.state.groups().find_map(|(group, record)| {
            let (from, to) = self.better_place(group, record)?;
            let replicas = swapped(record, from, to);
            Some(MetaCommand::SetReplicas { shard: group, epoch: record.epoch, replicas })
        })
    }

    /// The replica to move and the node to move it to: what helps the zones most, then what helps the load most.
    fn better_place(&self, group: GroupId, record: &ShardRecord) -> Option<(NodeId, NodeId)> {
        if record.replicas.iter().any(|node| self.view.down.contains_key(node)) {
            return None;
        }
        let mut best: Option<((i64, i64), NodeId, NodeId)> = None;
        for from in &record.replicas {
            let others = without(record, *from);
            let crowd = self.in_zone_of(*from, &others);
            for to in self.state.nodes.keys().filter(|node| self.may_receive(record, **node)) {
                // The sum over zones of the copies' square falls by twice the first, the one over nodes of the load's
                // square by twice the second.
                let zones = crowd as i64 - self.in_zone_of(*to, &others) as i64;
                let load = match group {
                    GroupId::META => 0,
                    _ => self.load[from] as i64 - self.load[to] as i64 - 1,
                };
                if (zones > 0 || zones == 0 && load > 0) && best.is_none_or(|(gain, ..)| (zones, load) > gain)
                {
                    best = Some(((zones, load), *from, *to));
                }
            }
        }
        best.map(|(_, from, to)| (from, to))
    }

    // ---- nodes ------------------------------------------------------------------------------------------------------

    fn is_draining(&self, node: NodeId) -> bool {
        self.state.nodes[&node].draining
    }

    fn is_dead(&self, node: NodeId) -> bool {
        self.view.down.get(&node).is_some_and(|since| self.now.since(*since) >= self.view.dead_after_ms)
    }

    /// How many of `replicas` share the zone of `node`.
    fn in_zone_of(&self, node: NodeId, replicas: &[NodeId]) -> usize {
        let zone = |node: &NodeId| &self.state.nodes[node].record.zone;
        replicas.iter().filter(|other| zone(other) == zone(&node)).count()
    }
}

fn swapped(record: &ShardRecord, old: NodeId, new: NodeId) -> Vec<NodeId> {
    let mut replicas = without(record, old);
    replicas.push(new);
    replicas.sort_unstable();
    replicas
}

fn without(record: &ShardRecord, node: NodeId) -> Vec<NodeId> {
    record.replicas.iter().copied().filter(|other| *other != node).collect()
}
