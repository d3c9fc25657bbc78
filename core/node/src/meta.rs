//! The meta group's state machine: who is in the cluster and which shard owns which slots.

use std::collections::BTreeMap;

use skep_base::varint::{self, Malformed, Reader};
use skep_base::{GroupId, NodeId, SLOT_COUNT};

/// A node as the cluster knows it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeRecord {
    pub name: String,
    /// Addresses as `host:port`, as others shall use them.
    pub client: String,
    pub peer: String,
    pub http: String,
    pub zone: String,
    pub version: String,
}

/// A shard's slots and replicas. The epoch grows with every change of either.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardRecord {
    pub epoch: u64,
    /// Inclusive ranges, ascending.
    pub slots: Vec<(u16, u16)>,
    pub replicas: Vec<NodeId>,
}

/// Everything that all nodes agree on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MetaState {
    /// 40 hexadecimal digits; empty until the cluster is founded.
    pub cluster_id: String,
    /// Copies of each shard that the cluster aims at.
    pub replicas: u32,
    pub nodes: BTreeMap<NodeId, NodeRecord>,
    pub shards: BTreeMap<GroupId, ShardRecord>,
}

/// A change of the meta state: the payload of the meta group's entries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MetaCommand {
    /// Makes an empty state a cluster of one node with one shard of all slots. Ignored if there is a cluster.
    Found { cluster_id: String, replicas: u32, node: NodeId, record: NodeRecord },
    /// Sets what is known of a node that is a member. Ignored for others.
    Announce { node: NodeId, record: NodeRecord },
}

const FOUND: u8 = 0;
const ANNOUNCE: u8 = 1;
const STATE_VERSION: u8 = 1;

impl MetaState {
    /// Carries out a committed command.
    pub fn apply(&mut self, command: MetaCommand) {
        match command {
            MetaCommand::Found { cluster_id, replicas, node, record } => {
                if self.cluster_id.is_empty() {
                    let shard =
                        ShardRecord { epoch: 1, slots: vec![(0, SLOT_COUNT - 1)], replicas: vec![node] };
                    self.cluster_id = cluster_id;
                    self.replicas = replicas;
                    self.nodes.insert(node, record);
                    self.shards.insert(GroupId(1), shard);
                }
            }
            MetaCommand::Announce { node, record } => {
                if let Some(known) = self.nodes.get_mut(&node) {
                    *known = record;
                }
            }
        }
    }

    /// Appends the state's checkpoint form.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(STATE_VERSION);
        varint::put_bytes(out, self.cluster_id.as_bytes());
        varint::put(out, u64::from(self.replicas));
        varint::put(out, self.nodes.len() as u64);
        for (node, record) in &self.nodes {
            varint::put(out, node.0);
            record.encode(out);
        }
        varint::put(out, self.shards.len() as u64);
        for (shard, record) in &self.shards {
            varint::put(out, shard.0);
            varint::put(out, record.epoch);
            varint::put(out, record.slots.len() as u64);
            for (first, last) in &record.slots {
                varint::put(out, u64::from(*first));
                varint::put(out, u64::from(*last));
            }
            varint::put(out, record.replicas.len() as u64);
            for node in &record.replicas {
                varint::put(out, node.0);
            }
        }
    }

    pub fn decode(bytes: &[u8]) -> Result<MetaState, Malformed> {
        let mut input = Reader::new(bytes);
        if input.u8()? != STATE_VERSION {
            return Err(Malformed { offset: 0, expected: "a meta state of version 1" });
        }
        let mut state =
            MetaState { cluster_id: text(&mut input)?, replicas: small(&mut input)?, ..MetaState::default() };
        for _ in 0..input.count(7)? {
            let node = NodeId(input.varint()?);
            state.nodes.insert(node, NodeRecord::decode(&mut input)?);
        }
        for _ in 0..input.count(4)? {
            let shard = GroupId(input.varint()?);
            let epoch = input.varint()?;
            let mut slots = Vec::new();
            for _ in 0..input.count(2)? {
                slots.push((slot(&mut input)?, slot(&mut input)?));
            }
            let mut replicas = Vec::new();
            for _ in 0..input.count(1)? {
                replicas.push(NodeId(input.varint()?));
            }
            state.shards.insert(shard, ShardRecord { epoch, slots, replicas });
        }
        input.end()?;
        Ok(state)
    }
}

impl MetaCommand {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            MetaCommand::Found { cluster_id, replicas, node, record } => {
                out.push(FOUND);
                varint::put_bytes(&mut out, cluster_id.as_bytes());
                varint::put(&mut out, u64::from(*replicas));
                varint::put(&mut out, node.0);
                record.encode(&mut out);
            }
            MetaCommand::Announce { node, record } => {
                out.push(ANNOUNCE);
                varint::put(&mut out, node.0);
                record.encode(&mut out);
            }
        }
        out
    }

    pub fn decode(bytes: &[u8]) -> Result<MetaCommand, Malformed> {
        let mut input = Reader::new(bytes);
        let command = match input.u8()? {
            FOUND => MetaCommand::Found {
                cluster_id: text(&mut input)?,
                replicas: small(&mut input)?,
                node: NodeId(input.varint()?),
                record: NodeRecord::decode(&mut input)?,
            },
            ANNOUNCE => MetaCommand::Announce {
                node: NodeId(input.varint()?),
                record: NodeRecord::decode(&mut input)?,
            },
            _ => return Err(Malformed { offset: 0, expected: "a meta command of kind 0 or 1" }),
        };
        input.end()?;
        Ok(command)
    }
}

impl NodeRecord {
    fn encode(&self, out: &mut Vec<u8>) {
        for field in [&self.name, &self.client, &self.peer, &self.http, &self.zone, &self.version] {
            varint::put_bytes(out, field.as_bytes());
        }
    }

    fn decode(input: &mut Reader<'_>) -> Result<NodeRecord, Malformed> {
        Ok(NodeRecord {
            name: text(input)?,
            client: text(input)?,
            peer: text(input)?,
            http: text(input)?,
            zone: text(input)?,
            version: text(input)?,
        })
    }
}

fn text(input: &mut Reader<'_>) -> Result<String, Malformed> {
    match std::str::from_utf8(input.bytes()?) {
        Ok(text) => Ok(text.to_string()),
        Err(_) => input.malformed("UTF-8 text"),
    }
}

fn small(input: &mut Reader<'_>) -> Result<u32, Malformed> {
    match u32::try_from(input.varint()?) {
        Ok(number) => Ok(number),
        Err(_) => input.malformed("a number below 2^32"),
    }
}

fn slot(input: &mut Reader<'_>) -> Result<u16, Malformed> {
    match u16::try_from(input.varint()?) {
        Ok(slot) if slot < SLOT_COUNT => Ok(slot),
        _ => input.malformed("a slot below 16384"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(name: &str) -> NodeRecord {
        NodeRecord { name: name.into(), client: "127.0.0.1:6379".into(), ..NodeRecord::default() }
    }

    #[test]
    fn commands_and_state_round_trip() {
        let found = MetaCommand::Found {
            cluster_id: "ab".repeat(20),
            replicas: 3,
            node: NodeId(1),
            record: record("n1"),
        };
        let announce = MetaCommand::Announce { node: NodeId(1), record: record("renamed") };
        let mut state = MetaState::default();
        for command in [found, announce] {
            let bytes = command.encode();
            assert_eq!(MetaCommand::decode(&bytes), Ok(command.clone()));
            for cut in 0..bytes.len() {
                assert!(MetaCommand::decode(&bytes[..cut]).is_err());
            }
            state.apply(command);
        }
        assert_eq!(state.nodes[&NodeId(1)].name, "renamed");
        assert_eq!(state.shards[&GroupId(1)].slots, [(0, 16_383)]);
        let mut bytes = Vec::new();
        state.encode(&mut bytes);
        assert_eq!(MetaState::decode(&bytes), Ok(state));
        for cut in 0..bytes.len() {
            assert!(MetaState::decode(&bytes[..cut]).is_err());
        }
    }

    #[test]
    fn a_cluster_is_founded_once() {
        let mut state = MetaState::default();
        let found = |id: &str| MetaCommand::Found {
            cluster_id: id.into(),
            replicas: 1,
            node: NodeId(1),
            record: record("n1"),
        };
        state.apply(found("first"));
        state.apply(found("second"));
        assert_eq!(state.cluster_id, "first");
        state.apply(MetaCommand::Announce { node: NodeId(9), record: record("stranger") });
        assert_eq!(state.nodes.len(), 1);
    }
}
