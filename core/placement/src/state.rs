//! The meta group's state: members, groups, and the shard of each slot. Changed by [`MetaState::apply`] only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use skep_acl::Users;
use skep_base::varint::{self, Malformed, Reader};
use skep_base::{GroupId, NodeId, NodeUuid, SLOT_COUNT};

use crate::gateway::{self, GatewayVersion};
use crate::membership::Wanted;
use crate::record::{self, Member, REPLICAS_MAX, ShardRecord};
use crate::settings::{self, ClusterSettings};
use crate::users;

/// Most members. Each follows the meta group and has a connection to each other.
pub const NODES_MAX: usize = 256;
/// Most shards at the founding, and the greatest number of one; a shard's number fits the table of slots.
pub const SHARDS_MAX: u32 = 4096;
/// Removed nodes remembered; the oldest are forgotten. In a cluster of a handful that is a removal a day for ten years.
const REMOVED_MAX: usize = 4096;
/// Greatest id of a founder: far from the end of the numbers, so that joining never gets there.
pub(crate) const FOUNDER_MAX: NodeId = NodeId(u32::MAX as u64);
const STATE_VERSION: u8 = 6;
/// The version that had no settings. Still written while none is set, so that a release that knows none reads it.
const STATE_VERSION_NO_SETTINGS: u8 = 5;
/// The version whose gateway had no secret. Still written while there is neither, as above.
const STATE_VERSION_NO_SECRET: u8 = 4;
/// The version that had no gateway.
const STATE_VERSION_NO_GATEWAY: u8 = 3;
/// The version that had no users.
const STATE_VERSION_MIN: u8 = 2;

/// Everything that all nodes agree on. Fields are for reading; [`MetaState::apply`] changes them.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MetaState {
    /// 40 hexadecimal digits; empty until the cluster is founded, and then nothing else is empty.
    pub cluster_id: String,
    /// Copies of each shard that the cluster aims at.
    pub replicas: u32,
    pub nodes: BTreeMap<NodeId, Member>,
    /// Nodes that were members and must not come back with their old data.
    pub removed: BTreeMap<NodeId, NodeUuid>,
    /// The meta group's voters; all other members learn.
    pub meta_group: Option<ShardRecord>,
    pub shards: BTreeMap<GroupId, ShardRecord>,
    /// Users that were made or changed by ACL commands; shared with whoever looks at them.
    pub users: Arc<Users>,
    /// Versions of the gateway's configuration, the newest last; shared with whoever looks at them.
    pub gateway: Arc<Vec<GatewayVersion>>,
    /// Settings of the whole cluster that somebody has set; shared with whoever looks at them.
    pub settings: Arc<ClusterSettings>,
    pub(crate) next_node: NodeId,
    table: SlotTable,
}

/// The shard of each slot, as a number; empty before the founding. Made from the shards' slots.
#[derive(Clone, PartialEq, Eq, Default)]
struct SlotTable(Vec<u16>);

impl fmt::Debug for SlotTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} slots", self.0.len())
    }
}

impl MetaState {
    /// A cluster of one node, for tests.
    #[cfg(test)]
    pub(crate) fn founded() -> MetaState {
        let mut state = MetaState::default();
        let record = crate::NodeRecord { name: "n1".into(), ..crate::NodeRecord::default() };
        let (cluster_id, node, uuid) = ("c".into(), NodeId(1), NodeUuid(1));
        let found = crate::MetaCommand::Found { cluster_id, replicas: 1, shards: 1, node, uuid, record };
        state.apply(found).expect("an empty state takes a first node");
        state
    }

    pub fn is_founded(&self) -> bool {
        !self.cluster_id.is_empty()
    }

    /// The shard of a slot; `None` before the founding. Panics if there is no such slot. Cost: O(1).
    #[inline]
    pub fn shard_of(&self, slot: u16) -> Option<GroupId> {
        assert!(slot < SLOT_COUNT, "slot {slot} of {SLOT_COUNT}");
        self.table.0.get(usize::from(slot)).map(|shard| GroupId(u64::from(*shard)))
    }

    /// The record of a shard or of the meta group.
    pub fn group(&self, group: GroupId) -> Option<&ShardRecord> {
        if group == GroupId::META { self.meta_group.as_ref() } else { self.shards.get(&group) }
    }

    /// The meta group and all shards.
    pub fn groups(&self) -> impl Iterator<Item = (GroupId, &ShardRecord)> {
        let meta = self.meta_group.iter().map(|record| (GroupId::META, record));
        meta.chain(self.shards.iter().map(|(shard, record)| (*shard, record)))
    }

    pub(crate) fn group_mut(&mut self, group: GroupId) -> Option<&mut ShardRecord> {
        if group == GroupId::META { self.meta_group.as_mut() } else { self.shards.get_mut(&group) }
    }

    /// Who shall take part in a group: its replicas vote, and all other members follow the meta group.
    pub fn wanted(&self, group: GroupId) -> Wanted {
        let Some(record) = self.group(group) else { return Wanted::default() };
        let voters = record.replicas.clone();
        let learners = match group {
            GroupId::META => self.nodes.keys().filter(|node| !voters.contains(node)).copied().collect(),
            _ => Vec::new(),
        };
        Wanted { voters, learners }
    }

    /// The member with this uuid.
    pub fn node_of(&self, uuid: NodeUuid) -> Option<NodeId> {
        self.nodes.iter().find(|(_, member)| member.uuid == uuid).map(|(node, _)| *node)
    }

    /// True if the id was given and its node is no member any more.
    pub fn was_removed(&self, node: NodeId) -> bool {
        node != NodeId(0) && node < self.next_node && !self.nodes.contains_key(&node)
    }

    pub(crate) fn remember_removed(&mut self, node: NodeId, uuid: NodeUuid) {
        if self.removed.len() == REMOVED_MAX {
            self.removed.pop_first();
        }
        self.removed.insert(node, uuid);
    }

    /// Makes the table from the shards' slots. Cost: O(slots).
    pub(crate) fn rebuild_table(&mut self) {
        let table = &mut self.table.0;
        table.clear();
        table.resize(if self.cluster_id.is_empty() { 0 } else { usize::from(SLOT_COUNT) }, 0);
        for (shard, record) in &self.shards {
            for (first, last) in &record.slots {
                table[usize::from(*first)..=usize::from(*last)].fill(shard.0 as u16);
            }
        }
    }

    /// Appends the state's checkpoint form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let version = match () {
            () if !self.settings.is_empty() => STATE_VERSION,
            () if gateway::have_secret(&self.gateway) => STATE_VERSION_NO_SETTINGS,
            () => STATE_VERSION_NO_SECRET,
        };
        out.push(version);
        varint::put_bytes(out, self.cluster_id.as_bytes());
        varint::put(out, u64::from(self.replicas));
        varint::put(out, self.next_node.0);
        varint::put(out, self.nodes.len() as u64);
        for (node, member) in &self.nodes {
            varint::put(out, node.0);
            member.encode(out);
        }
        varint::put(out, self.removed.len() as u64);
        for (node, uuid) in &self.removed {
            varint::put(out, node.0);
            record::put_uuid(out, *uuid);
        }
        out.push(u8::from(self.meta_group.is_some()));
        if let Some(record) = &self.meta_group {
            record.encode(out);
        }
        varint::put(out, self.shards.len() as u64);
        for (shard, record) in &self.shards {
            varint::put(out, shard.0);
            record.encode(out);
        }
        users::encode(&self.users, out);
        gateway::encode(&self.gateway, version > STATE_VERSION_NO_SECRET, out);
        if version > STATE_VERSION_NO_SETTINGS {
            settings::encode(self.settings.iter(), out);
        }
    }

    /// Reads what [`MetaState::encode`] wrote.
    ///
    /// # Errors
    /// [`Malformed`]: not those bytes, or a state that breaks an invariant.
    pub fn decode(bytes: &[u8]) -> Result<MetaState, Malformed> {
        let mut input = Reader::new(bytes);
        let version = input.u8()?;
        if !(STATE_VERSION_MIN..=STATE_VERSION).contains(&version) {
            return Err(Malformed { offset: 0, expected: "a meta state of version 2 to 6" });
        }
        let mut state = MetaState { cluster_id: record::text(&mut input)?, ..MetaState::default() };
        state.replicas = record::small(&mut input)?;
        state.next_node = NodeId(input.varint()?);
        for _ in 0..input.count(25)? {
            let node = NodeId(input.varint()?);
            state.nodes.insert(node, Member::decode(&mut input)?);
        }
        for _ in 0..input.count(17)? {
            let node = NodeId(input.varint()?);
            state.removed.insert(node, record::uuid(&mut input)?);
        }
        if record::flag(&mut input)? {
            state.meta_group = Some(ShardRecord::decode(&mut input)?);
        }
        for _ in 0..input.count(6)? {
            let shard = GroupId(input.varint()?);
            state.shards.insert(shard, ShardRecord::decode(&mut input)?);
        }
        if version > STATE_VERSION_MIN {
            state.users = Arc::new(users::decode(&mut input)?);
        }
        if version > STATE_VERSION_NO_GATEWAY {
            state.gateway = Arc::new(gateway::decode(&mut input, version > STATE_VERSION_NO_SECRET)?);
        }
        if version > STATE_VERSION_NO_SETTINGS {
            state.settings = Arc::new(settings::decode(&mut input)?.into_iter().collect());
        }
        input.end()?;
        match state.broken_rule_of_shape() {
            Some(expected) => input.malformed(expected),
            None => {
                state.rebuild_table();
                Ok(state)
            }
        }
    }

    /// Panics, naming the broken rule, if the state is impossible. Cost: O(slots + nodes + groups * replicas).
    pub fn assert_invariants(&self) {
        if let Some(rule) = self.broken_rule_of_shape() {
            panic!("the meta state does not have {rule}: {self:?}");
        }
        for (shard, record) in &self.shards {
            for slot in record.slots.iter().flat_map(|(first, last)| *first..=*last) {
                let said = self.shard_of(slot);
                assert_eq!(said, Some(*shard), "INV-PLACE-1: the table says otherwise of slot {slot}");
            }
        }
    }

    /// The first rule that the state breaks, apart from the table.
    fn broken_rule_of_shape(&self) -> Option<&'static str> {
        if !self.is_founded() {
            let is_empty = *self == MetaState::default();
            return (!is_empty).then_some("INV-PLACE-1: nothing before the founding");
        }
        let rules = [
            (self.has_each_slot_once(), "INV-PLACE-1: each slot in exactly one shard"),
            (self.has_each_node_once(), "INV-PLACE-2: ids, uuids and names of one node each"),
            (self.has_sound_groups(), "INV-PLACE-3: replicas that are members and among the holders"),
        ];
        let broken = rules.into_iter().find(|(holds, _)| !holds).map(|(_, rule)| rule);
        broken
            .or_else(|| gateway::broken_rule(&self.gateway))
            .or_else(|| settings::broken_rule(&self.settings))
    }

    fn has_each_slot_once(&self) -> bool {
        let mut ranges: Vec<(u16, u16)> =
            self.shards.values().flat_map(|record| record.slots.iter().copied()).collect();
        ranges.sort_unstable();
        let mut next = 0;
        for (first, last) in ranges {
            if first != next || last < first || last >= SLOT_COUNT {
                return false;
            }
            next = last + 1;
        }
        let ordered = |record: &ShardRecord| record.slots.is_sorted();
        next == SLOT_COUNT && self.shards.values().all(ordered)
    }

    fn has_each_node_once(&self) -> bool {
        let ids = || self.nodes.keys().chain(self.removed.keys());
        let uuids: BTreeSet<NodeUuid> =
            self.nodes.values().map(|member| member.uuid).chain(self.removed.values().copied()).collect();
        let names: BTreeSet<&str> = self.nodes.values().map(|m| m.record.name.as_str()).collect();
        (1..=NODES_MAX).contains(&self.nodes.len())
            && self.removed.len() <= REMOVED_MAX
            && self.nodes.keys().all(|node| !self.removed.contains_key(node))
            && self.next_node.0 < 1 << 62
            && ids().all(|node| *node != NodeId(0) && *node < self.next_node)
            && uuids.len() == self.nodes.len() + self.removed.len()
            && names.len() == self.nodes.len()
    }

    fn has_sound_groups(&self) -> bool {
        let meta = self.meta_group.as_ref().is_some_and(|record| record.slots.is_empty());
        let ids = self.shards.keys().all(|shard| (1..=u64::from(SHARDS_MAX)).contains(&shard.0));
        meta && ids && self.groups().all(|(_, record)| self.is_sound(record))
    }

    fn is_sound(&self, record: &ShardRecord) -> bool {
        let ascending = |nodes: &[NodeId]| nodes.is_sorted_by(|a, b| a < b);
        (1..=REPLICAS_MAX).contains(&record.replicas.len())
            && record.epoch > 0
            && ascending(&record.replicas)
            && ascending(&record.holders)
            && record.holders.iter().all(|node| self.nodes.contains_key(node))
            && record.replicas.iter().all(|node| record.holders.contains(node))
            && (!record.settled || record.replicas == record.holders)
    }
}
