//! Carrying out a committed change: it fits and is done, or is refused and changes nothing, alike on all nodes.

use std::collections::BTreeSet;

use skep_base::{GroupId, NodeId, NodeUuid, SLOT_COUNT};

use crate::command::MetaCommand;
use crate::record::{Member, NodeRecord, REPLICAS_MAX, ShardRecord};
use crate::state::{FOUNDER_MAX, MetaState, NODES_MAX, SHARDS_MAX};

/// Longest cluster id: what the identity file of a node holds.
const CLUSTER_ID_BYTES_MAX: usize = skep_log::identity::CLUSTER_ID_BYTES_MAX;

impl MetaState {
    /// Carries out a committed command. Repeating one that is done already is no refusal, but for
    /// [`MetaCommand::SetReplicas`] (the epoch moved on) and [`MetaCommand::Found`].
    ///
    /// # Errors
    /// Why the command does not fit, with what to do; nothing was changed.
    pub fn apply(&mut self, command: MetaCommand) -> Result<(), String> {
        if !self.is_founded() && !matches!(command, MetaCommand::Found { .. }) {
            return Err("there is no cluster yet".to_owned());
        }
        match command {
            MetaCommand::Found { cluster_id, replicas, shards, node, uuid, record } => {
                self.found(cluster_id, replicas, shards, node, Member { uuid, record, ..Member::default() })
            }
            MetaCommand::Join { uuid, record } => self.join(uuid, record),
            MetaCommand::Replace { node, uuid, record } => self.replace(node, uuid, record),
            MetaCommand::Announce { node, record } => self.announce(node, record),
            MetaCommand::SetReplicas { shard, epoch, replicas } => self.set_replicas(shard, epoch, replicas),
            MetaCommand::Settled { shard, epoch } => {
                self.settle(shard, epoch);
                Ok(())
            }
            MetaCommand::Drain { node, on } => self.drain(node, on),
            MetaCommand::Remove { node } => self.remove(node),
            MetaCommand::SetUser { name, first, rules } => self.set_user(name, &first, &rules),
            MetaCommand::DelUsers { names } => self.del_users(&names),
            MetaCommand::SetGateway(version) => self.set_gateway(version),
            MetaCommand::SetSettings { pairs } => self.set_settings(pairs),
        }
    }

    fn found(
        &mut self,
        cluster_id: String,
        replicas: u32,
        shards: u32,
        node: NodeId,
        member: Member,
    ) -> Result<(), String> {
        if self.is_founded() {
            return Err(format!("this is cluster {} already", self.cluster_id));
        }
        if cluster_id.is_empty() || cluster_id.len() > CLUSTER_ID_BYTES_MAX {
            let len = cluster_id.len();
            return Err(format!(
                "a cluster id of {len} bytes, between 1 and {CLUSTER_ID_BYTES_MAX} are needed"
            ));
        }
        if node == NodeId(0) || node > FOUNDER_MAX || member.uuid == NodeUuid(0) {
            return Err(format!("node {node} with uuid {} cannot found a cluster", member.uuid));
        }
        if !(1..=REPLICAS_MAX as u32).contains(&replicas) {
            return Err(format!("{replicas} replicas, between 1 and {REPLICAS_MAX} are possible"));
        }
        if !(1..=SHARDS_MAX).contains(&shards) {
            return Err(format!("{shards} shards, between 1 and {SHARDS_MAX} are possible"));
        }
        if let Some(why) = member.record.refusal() {
            return Err(why);
        }
        (self.cluster_id, self.replicas, self.next_node) = (cluster_id, replicas, NodeId(node.0 + 1));
        self.nodes.insert(node, member);
        self.meta_group = Some(ShardRecord::first(node, Vec::new()));
        let start = |shard: u32| (shard * u32::from(SLOT_COUNT) / shards) as u16;
        for shard in 0..shards {
            let slots = vec![(start(shard), start(shard + 1) - 1)];
            self.shards.insert(GroupId(u64::from(shard) + 1), ShardRecord::first(node, slots));
        }
        self.rebuild_table();
        Ok(())
    }

    fn join(&mut self, uuid: NodeUuid, record: NodeRecord) -> Result<(), String> {
        if let Some(node) = self.node_of(uuid) {
            return self.announce(node, record);
        }
        if let Some((node, _)) = self.removed.iter().find(|(_, removed)| **removed == uuid) {
            return Err(format!(
                "this node was removed as node {node}; start it with an empty data directory"
            ));
        }
        if uuid == NodeUuid(0) {
            return Err("a node without a uuid cannot join".to_owned());
        }
        if self.nodes.len() == NODES_MAX {
            return Err(format!("the cluster has {NODES_MAX} nodes, which is its limit"));
        }
        self.check_record(None, &record)?;
        let node = self.next_node;
        self.next_node = NodeId(node.0 + 1);
        self.nodes.insert(node, Member { uuid, record, ..Member::default() });
        Ok(())
    }

    /// Whatever the machine held as the old node is lost, so that one will never be back.
    fn replace(&mut self, old: NodeId, uuid: NodeUuid, record: NodeRecord) -> Result<(), String> {
        if self.node_of(uuid).is_some() || self.was_removed(old) {
            return self.join(uuid, record);
        }
        let member = self.member_mut(old)?;
        if member.gone || member.record.name != record.name {
            return Err(format!(
                "node {old} is called {}, and {} wants to take its place",
                member.record.name, record.name
            ));
        }
        let before = member.clone();
        member.record.name = format!("{}-gone-{old}", record.name);
        (member.draining, member.gone) = (true, true);
        let joined = self.join(uuid, record);
        if joined.is_err() {
            self.nodes.insert(old, before);
        }
        joined
    }

    fn announce(&mut self, node: NodeId, record: NodeRecord) -> Result<(), String> {
        self.check_record(Some(node), &record)?;
        self.member_mut(node)?.record = record;
        Ok(())
    }

    fn check_record(&self, node: Option<NodeId>, record: &NodeRecord) -> Result<(), String> {
        if let Some(why) = record.refusal() {
            return Err(why);
        }
        let namesake = self.nodes.iter().find(|(id, m)| Some(**id) != node && m.record.name == record.name);
        match namesake {
            Some((other, _)) => Err(format!(
                "the name {} is that of node {other}; give this node another --name, or, if node {other} is gone for \
                 ever, run 'skep node drain {other}' and 'skep node remove {other}'",
                record.name
            )),
            None => Ok(()),
        }
    }

    fn set_replicas(&mut self, shard: GroupId, epoch: u64, mut replicas: Vec<NodeId>) -> Result<(), String> {
        let Some(known) = self.group(shard) else { return Err(format!("there is no shard {shard}")) };
        if known.epoch != epoch {
            return Err(format!(
                "shard {shard} is at epoch {}, the change was made for {epoch}",
                known.epoch
            ));
        }
        if replicas.is_empty() || replicas.len() > REPLICAS_MAX {
            let count = replicas.len();
            return Err(format!(
                "{count} replicas for shard {shard}, between 1 and {REPLICAS_MAX} are possible"
            ));
        }
        replicas.sort_unstable();
        if let Some(pair) = replicas.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(format!("node {} is named twice for shard {shard}", pair[0]));
        }
        if let Some(stranger) = replicas.iter().find(|node| !self.nodes.contains_key(node)) {
            return Err(format!("node {stranger} is not a member"));
        }
        let record = self.group_mut(shard).expect("it was found above");
        if record.replicas == replicas {
            return Ok(());
        }
        let holders: BTreeSet<NodeId> = record.holders.iter().chain(&replicas).copied().collect();
        record.holders = holders.into_iter().collect();
        record.replicas = replicas;
        record.settled = false;
        record.epoch += 1;
        Ok(())
    }

    /// An older epoch's news is no mistake of anybody's: the replicas changed while it was on its way.
    fn settle(&mut self, shard: GroupId, epoch: u64) {
        if let Some(record) = self.group_mut(shard).filter(|record| record.epoch == epoch) {
            record.holders.clone_from(&record.replicas);
            record.settled = true;
        }
    }

    fn drain(&mut self, node: NodeId, on: bool) -> Result<(), String> {
        let others_stay = self.nodes.iter().any(|(other, member)| *other != node && !member.draining);
        let member = self.member_mut(node)?;
        if !on && member.gone {
            return Err(format!("node {node} is gone for ever, another has taken its place"));
        }
        if on && !member.draining && !others_stay {
            return Err(format!(
                "node {node} is the only one that is not draining; let another node join first"
            ));
        }
        member.draining = on;
        Ok(())
    }

    fn remove(&mut self, node: NodeId) -> Result<(), String> {
        if self.was_removed(node) {
            return Ok(());
        }
        if !self.member_mut(node)?.draining {
            return Err(format!("node {node} is not drained; run 'skep node drain {node}' first"));
        }
        let held: Vec<String> = self
            .groups()
            .filter(|(_, record)| record.may_be_on(node))
            .map(|(group, _)| match group {
                GroupId::META => "the meta group".to_owned(),
                shard => format!("shard {shard}"),
            })
            .collect();
        if !held.is_empty() {
            let held = held.join(", ");
            return Err(format!(
                "node {node} is not drained yet, it may still hold copies of: {held}; try again later"
            ));
        }
        let member = self.nodes.remove(&node).expect("it was found above");
        self.remember_removed(node, member.uuid);
        Ok(())
    }

    fn member_mut(&mut self, node: NodeId) -> Result<&mut Member, String> {
        self.nodes.get_mut(&node).ok_or_else(|| format!("node {node} is not a member"))
    }
}
