//! What the cluster knows of a node and of a group, and the bytes of both.

use skep_base::varint::{self, Malformed, Reader};
use skep_base::{NodeId, NodeUuid, SLOT_COUNT};

/// Longest field of a [`NodeRecord`]: a host name has up to 253 bytes, its port six more.
pub const TEXT_BYTES_MAX: usize = 260;
/// Most copies of a group; more would slow each write down and make it no safer.
pub const REPLICAS_MAX: usize = 7;

/// A node as it describes itself.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NodeRecord {
    /// Unique in the cluster.
    pub name: String,
    /// Addresses as `host:port`, as others shall use them.
    pub client: String,
    pub peer: String,
    pub http: String,
    /// Failure domain; nodes without one share the empty one.
    pub zone: String,
    pub version: String,
}

/// A node of the cluster.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Member {
    pub uuid: NodeUuid,
    pub record: NodeRecord,
    /// Is to hold nothing, so that it can be removed.
    pub draining: bool,
    /// Its data is lost and another member runs in its place; it is removed as soon as it holds nothing.
    pub gone: bool,
}

/// A shard's slots and replicas, or the meta group's replicas.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ShardRecord {
    /// Grows with every change of slots or replicas.
    pub epoch: u64,
    /// Inclusive ranges, ascending. None for the meta group.
    pub slots: Vec<(u16, u16)>,
    /// The nodes that shall vote in the group, ascending. Which vote right now, the group's own membership says.
    pub replicas: Vec<NodeId>,
    /// All nodes that may vote in the group at this moment, ascending: `replicas`, and those that were in it since the
    /// group last had exactly them as voters.
    pub holders: Vec<NodeId>,
    /// The group's leader saw its voters be exactly `replicas` since they last changed.
    pub settled: bool,
}

impl ShardRecord {
    /// A group that has only its first replica.
    pub(crate) fn first(node: NodeId, slots: Vec<(u16, u16)>) -> ShardRecord {
        ShardRecord { epoch: 1, slots, replicas: vec![node], holders: vec![node], settled: true }
    }

    /// True if a copy is on `node`, is coming there, or has not certainly left it.
    pub fn may_be_on(&self, node: NodeId) -> bool {
        self.holders.contains(&node)
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        varint::put(out, self.epoch);
        out.push(u8::from(self.settled));
        varint::put(out, self.slots.len() as u64);
        for (first, last) in &self.slots {
            varint::put(out, u64::from(*first));
            varint::put(out, u64::from(*last));
        }
        put_nodes(out, &self.replicas);
        put_nodes(out, &self.holders);
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<ShardRecord, Malformed> {
        let epoch = input.varint()?;
        let settled = flag(input)?;
        let mut slots = Vec::new();
        for _ in 0..input.count(2)? {
            slots.push((slot(input)?, slot(input)?));
        }
        Ok(ShardRecord { epoch, slots, replicas: nodes(input)?, holders: nodes(input)?, settled })
    }
}

impl NodeRecord {
    /// Why the record cannot be taken, whatever else is in the cluster.
    pub(crate) fn refusal(&self) -> Option<String> {
        if self.name.is_empty() {
            return Some("the node has no name; give it one with --name".to_owned());
        }
        for (what, text) in self.named_fields() {
            if text.len() > TEXT_BYTES_MAX {
                return Some(format!("{what} is {} bytes, limit is {TEXT_BYTES_MAX}", text.len()));
            }
            if text.chars().any(char::is_control) {
                return Some(format!("{what} {text:?} holds a control character"));
            }
        }
        None
    }

    fn named_fields(&self) -> [(&'static str, &String); 6] {
        [
            ("the name", &self.name),
            ("the client address", &self.client),
            ("the peer address", &self.peer),
            ("the http address", &self.http),
            ("the zone", &self.zone),
            ("the version", &self.version),
        ]
    }

    /// Appends the record's bytes, as in a [`MetaCommand`](crate::MetaCommand) and in the request to join.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for (_, text) in self.named_fields() {
            varint::put_bytes(out, text.as_bytes());
        }
    }

    pub fn decode(input: &mut Reader<'_>) -> Result<NodeRecord, Malformed> {
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

impl Member {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_uuid(out, self.uuid);
        out.push(u8::from(self.draining));
        out.push(u8::from(self.gone));
        self.record.encode(out);
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<Member, Malformed> {
        let (uuid, draining, gone) = (uuid(input)?, flag(input)?, flag(input)?);
        Ok(Member { uuid, record: NodeRecord::decode(input)?, draining, gone })
    }
}

pub(crate) fn put_uuid(out: &mut Vec<u8>, uuid: NodeUuid) {
    out.extend_from_slice(&uuid.0.to_le_bytes());
}

pub(crate) fn uuid(input: &mut Reader<'_>) -> Result<NodeUuid, Malformed> {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(input.take(16)?);
    Ok(NodeUuid(u128::from_le_bytes(bytes)))
}

pub(crate) fn put_nodes(out: &mut Vec<u8>, nodes: &[NodeId]) {
    varint::put(out, nodes.len() as u64);
    for node in nodes {
        varint::put(out, node.0);
    }
}

pub(crate) fn nodes(input: &mut Reader<'_>) -> Result<Vec<NodeId>, Malformed> {
    let count = input.count(1)?;
    (0..count).map(|_| input.varint().map(NodeId)).collect()
}

pub(crate) fn put_texts(out: &mut Vec<u8>, texts: &[Vec<u8>]) {
    varint::put(out, texts.len() as u64);
    texts.iter().for_each(|text| varint::put_bytes(out, text));
}

pub(crate) fn texts(input: &mut Reader<'_>) -> Result<Vec<Vec<u8>>, Malformed> {
    let count = input.count(1)?;
    (0..count).map(|_| input.bytes().map(<[u8]>::to_vec)).collect()
}

pub(crate) fn flag(input: &mut Reader<'_>) -> Result<bool, Malformed> {
    match input.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => input.malformed("0 or 1"),
    }
}

pub(crate) fn text(input: &mut Reader<'_>) -> Result<String, Malformed> {
    match std::str::from_utf8(input.bytes()?) {
        Ok(text) => Ok(text.to_string()),
        Err(_) => input.malformed("UTF-8 text"),
    }
}

pub(crate) fn small(input: &mut Reader<'_>) -> Result<u32, Malformed> {
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
