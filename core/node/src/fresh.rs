//! What this node may do about placement only by a meta state that is not old: its own copy may lag behind.
//!
//! - A leader that acted by an old state could give a vote back to a node that an earlier leader had taken it from, and that
//!   the cluster holds for free of copies (INV-PLACE-9). So it reads the meta state once in its term before its first step.
//! - A node that has started serves nobody by users of another time.
//! - A node that was told that a user was changed knows it only when it has that itself.
//! - A node that dropped its replica by an old state could drop one that was wanted again since, with acknowledgements that
//!   others count on. So when its state says that a replica is not wanted here, it takes in nothing more for it, reads the meta
//!   state, and looks again: whatever wish it acknowledged something for, that read shows.

use std::collections::{BTreeMap, BTreeSet};

use skep_base::{GroupId, Term};
use skep_consensus::ReadId;

use crate::cells::{HUB, Message};
use crate::{Node, Output};

/// Reads of the meta state for placement.
#[derive(Default)]
pub(crate) struct Freshness {
    /// The term in which this node leads each group and has read the meta state since.
    leads: BTreeMap<GroupId, Term>,
    /// Since it started this node has known a meta state that was not old.
    may_serve: bool,
    waiting: BTreeSet<Purpose>,
    /// A read under way and what it is for.
    reading: Option<(Reading, BTreeSet<Purpose>)>,
}

/// A read of the meta state.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reading {
    /// By the meta group's replica here.
    Group(ReadId),
    /// By the hub, for this cell.
    Hub(u64),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Purpose {
    Lead(GroupId, Term),
    Drop(GroupId),
    /// To serve clients by the users that the cluster has.
    Serve,
    /// A change that this node asked for was made, under its number.
    Ask(u64),
    /// Another cell's, under its number.
    Cell(usize, u64),
}

impl Node {
    /// True if this node, which leads `group`, has read the meta state in this term of the group; if not, it will.
    pub(crate) fn may_step(&mut self, group: GroupId) -> bool {
        let Some(term) = self.group(group).map(|of| of.term()) else { return false };
        // The meta group's leader changes nothing before it has applied what earlier leaders left.
        let is_fresh = group == GroupId::META || self.fresh.leads.get(&group) == Some(&term);
        if !is_fresh {
            self.fresh.waiting.insert(Purpose::Lead(group, term));
        }
        is_fresh
    }

    /// Begins to make sure of replicas that the cluster seems to have taken from this node. After a start the state goes once
    /// more through times when they were not here yet.
    pub(crate) fn doubt_replicas(&mut self) {
        let caught_up = match self.cells.is_hub() {
            true => self.meta.applied.index >= self.meta.recovered,
            false => self.cells.view.caught_up,
        };
        if !caught_up {
            return;
        }
        let held = self.shards.iter().filter(|shard| shard.replica.is_some()).map(|shard| shard.id);
        let gone: Vec<Purpose> = held.filter(|group| self.is_gone(*group)).map(Purpose::Drop).collect();
        self.fresh.waiting.extend(gone);
    }

    /// True while this node makes sure of its replica, which must not acknowledge anything then.
    pub(crate) fn is_doubted(&self, group: GroupId) -> bool {
        let drop = Purpose::Drop(group);
        let reading = self.fresh.reading.as_ref();
        self.fresh.waiting.contains(&drop) || reading.is_some_and(|(_, purposes)| purposes.contains(&drop))
    }

    /// True if no copy of the shard is on this node or may come here, by the state that it knows.
    fn is_gone(&self, group: GroupId) -> bool {
        self.meta.state.shards.get(&group).is_some_and(|record| !record.may_be_on(self.id))
    }

    /// Reads the meta state if something waits for that.
    pub(crate) fn read_meta(&mut self, out: &mut Vec<Output>) {
        if self.fresh.waiting.is_empty() || self.fresh.reading.is_some() {
            return;
        }
        if !self.cells.is_hub() {
            self.cells.meta_reads += 1;
            let number = self.cells.meta_reads;
            self.fresh.reading = Some((Reading::Hub(number), std::mem::take(&mut self.fresh.waiting)));
            return self.cells.send(HUB, Message::ReadMeta { number });
        }
        let now = self.now.mono;
        let mut effects = std::mem::take(&mut self.effects);
        if let Some(group) = &mut self.meta.group
            // A refusal is for the moment; the next tick asks again.
            && let Ok(read) = group.read_index(now, &mut effects)
        {
            self.fresh.reading = Some((Reading::Group(read), std::mem::take(&mut self.fresh.waiting)));
        }
        self.carry_out(GroupId::META, &mut effects, out);
        self.effects = effects;
    }

    /// The meta state is as new as it was when the read began.
    pub(crate) fn on_meta_read(&mut self, read: Reading, out: &mut Vec<Output>) {
        for purpose in self.end_meta_read(read) {
            match purpose {
                Purpose::Lead(group, term) => drop(self.fresh.leads.insert(group, term)),
                Purpose::Drop(group) if self.is_gone(group) => self.drop_replica(group, out),
                Purpose::Drop(_) => {}
                Purpose::Serve => self.fresh.may_serve = true,
                Purpose::Ask(number) => self.on_ask_known(number, out),
                Purpose::Cell(cell, number) => {
                    self.tell_view();
                    self.cells.send(cell, Message::MetaRead { number });
                }
            }
        }
    }

    /// The hub: another cell must know a state that is not old.
    pub(crate) fn read_meta_for(&mut self, cell: usize, number: u64, out: &mut Vec<Output>) {
        self.fresh.waiting.insert(Purpose::Cell(cell, number));
        self.read_meta(out);
    }

    /// True if this node, which has started, has read the meta state since; if not, it will. A user that was deleted, or given
    /// other rights, while the node was down must not come in by it.
    pub(crate) fn may_serve(&mut self) -> bool {
        if !self.fresh.may_serve {
            self.fresh.waiting.insert(Purpose::Serve);
        }
        self.fresh.may_serve
    }

    /// The hub: a change that it asked for was made, and is to be known here.
    pub(crate) fn read_meta_for_ask(&mut self, number: u64, out: &mut Vec<Output>) {
        self.fresh.waiting.insert(Purpose::Ask(number));
        self.read_meta(out);
    }

    pub(crate) fn on_meta_read_dropped(&mut self, read: Reading) {
        let again = self.end_meta_read(read);
        self.fresh.waiting.extend(again);
    }

    fn end_meta_read(&mut self, read: Reading) -> BTreeSet<Purpose> {
        match self.fresh.reading.take_if(|(known, _)| *known == read) {
            Some((_, purposes)) => purposes,
            None => BTreeSet::new(),
        }
    }

    /// Forgets a replica that the cluster has taken from this node: it is of no more use.
    fn drop_replica(&mut self, group: GroupId, out: &mut Vec<Output>) {
        let Some(at) = self.shard_of_group(group) else { return };
        if let Some(replica) = self.shards[at].replica.take() {
            self.persist.forget_group(group);
            out.extend(replica.into_garbage().map(Output::Drop));
            self.on_key_events_missed(out);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use skep_base::GroupId;

    use crate::testing::{Cluster, World};

    const SHARD: GroupId = GroupId(1);

    #[test]
    fn a_leader_reads_the_meta_state_before_its_first_step() {
        let mut world = World::new(&[]);
        let mut out = Vec::new();
        world.node.fresh.leads.clear();
        assert!(!world.node.may_step(SHARD));
        assert!(world.node.may_step(GroupId::META));
        world.node.read_meta(&mut out);
        assert!(world.node.may_step(SHARD));
        // In another term it is as before.
        world.node.fresh.leads.values_mut().for_each(|term| term.0 -= 1);
        assert!(!world.node.may_step(SHARD));
    }

    #[test]
    fn a_replica_is_dropped_only_if_a_read_shows_that_it_is_not_wanted() {
        let mut c = Cluster::of(3, &[]);
        c.run(2_000);
        let follower = if c.leader() == Some(2) { 1 } else { 2 };
        let me = c.node(follower).node.id;
        let good = c.node(follower).node.meta.state.clone();
        let mut old = good.clone();
        let record = Arc::make_mut(&mut old).shards.get_mut(&SHARD).unwrap();
        record.replicas.retain(|node| *node != me);
        record.holders = record.replicas.clone();

        let node = &mut c.node(follower).node;
        node.meta.state = old.clone();
        node.doubt_replicas();
        assert!(node.is_doubted(SHARD) && node.group(SHARD).is_some(), "it is only doubted");
        // What the read brings says otherwise.
        node.meta.state = good;
        c.run(500);
        let node = &mut c.node(follower).node;
        assert!(!node.is_doubted(SHARD) && node.group(SHARD).is_some());
        assert!(node.fresh.waiting.is_empty() && node.fresh.reading.is_none());

        node.meta.state = old;
        node.doubt_replicas();
        c.run(500);
        assert!(c.node(follower).node.group(SHARD).is_none());
    }
}
