//! Changes of the meta state, as the payload of the meta group's entries.

use skep_base::varint::{self, Malformed, Reader};
use skep_base::{GroupId, NodeId, NodeUuid};

use crate::gateway::{self, GatewayVersion};
use crate::record::{self, NodeRecord};
use crate::settings;

/// A change of the meta state. Carried out by [`MetaState::apply`](crate::MetaState::apply), alike on all nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MetaCommand {
    /// Makes an empty state a cluster of one node that holds `shards` shards of even slot ranges, numbered from 1.
    Found {
        cluster_id: String,
        /// Copies of each shard that the cluster aims at.
        replicas: u32,
        shards: u32,
        node: NodeId,
        uuid: NodeUuid,
        record: NodeRecord,
    },
    /// Makes a node a member under the next free id. Asked again with the same uuid it changes no more than the record;
    /// [`MetaState::node_of`](crate::MetaState::node_of) tells the id.
    Join { uuid: NodeUuid, record: NodeRecord },
    /// As `Join`, for a machine that lost what it knew as `node`: that one is taken for gone for ever, gives up its name and is
    /// removed when its copies are elsewhere.
    Replace { node: NodeId, uuid: NodeUuid, record: NodeRecord },
    /// Sets what is known of a member.
    Announce { node: NodeId, record: NodeRecord },
    /// Says which nodes shall vote in `shard` ([`GroupId::META`] too), if its epoch is still `epoch`.
    SetReplicas { shard: GroupId, epoch: u64, replicas: Vec<NodeId> },
    /// The leader of `shard` saw its voters be exactly the replicas of `epoch`. Ignored at another epoch.
    Settled { shard: GroupId, epoch: u64 },
    /// Asks for all copies to leave a node, or ends that.
    Drain { node: NodeId, on: bool },
    /// Forgets a member that is drained and holds nothing any more. Its id is never given again.
    Remove { node: NodeId },
    /// Changes a user by ACL rules, none of which holds a password; one that does not exist is first made by the rules
    /// `first`.
    SetUser { name: Vec<u8>, first: Vec<Vec<u8>>, rules: Vec<Vec<u8>> },
    /// Forgets users.
    DelUsers { names: Vec<Vec<u8>> },
    /// Makes a version of the gateway's configuration the newest, if it follows the one that is. Asked again with the same it
    /// changes nothing.
    SetGateway(GatewayVersion),
    /// Sets settings of the whole cluster.
    SetSettings { pairs: Vec<(String, String)> },
}

// 0 and 1 were commands of clusters of one node, which had no uuids.
const FOUND: u8 = 2;
const JOIN: u8 = 3;
const ANNOUNCE: u8 = 4;
const SET_REPLICAS: u8 = 5;
const SETTLED: u8 = 6;
const DRAIN: u8 = 7;
const REMOVE: u8 = 8;
const REPLACE: u8 = 9;
const SET_USER: u8 = 10;
const DEL_USERS: u8 = 11;
const SET_GATEWAY: u8 = 12;
/// As 12, with a secret in front.
const SET_GATEWAY_SECRET: u8 = 13;
const SET_SETTINGS: u8 = 14;

impl MetaCommand {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            MetaCommand::Found { cluster_id, replicas, shards, node, uuid, record } => {
                out.push(FOUND);
                varint::put_bytes(&mut out, cluster_id.as_bytes());
                varint::put(&mut out, u64::from(*replicas));
                varint::put(&mut out, u64::from(*shards));
                varint::put(&mut out, node.0);
                record::put_uuid(&mut out, *uuid);
                record.encode(&mut out);
            }
            MetaCommand::Join { uuid, record } => {
                out.push(JOIN);
                record::put_uuid(&mut out, *uuid);
                record.encode(&mut out);
            }
            MetaCommand::Replace { node, uuid, record } => {
                out.push(REPLACE);
                varint::put(&mut out, node.0);
                record::put_uuid(&mut out, *uuid);
                record.encode(&mut out);
            }
            MetaCommand::Announce { node, record } => {
                out.push(ANNOUNCE);
                varint::put(&mut out, node.0);
                record.encode(&mut out);
            }
            MetaCommand::SetReplicas { shard, epoch, replicas } => {
                out.push(SET_REPLICAS);
                varint::put(&mut out, shard.0);
                varint::put(&mut out, *epoch);
                record::put_nodes(&mut out, replicas);
            }
            MetaCommand::Settled { shard, epoch } => {
                out.push(SETTLED);
                varint::put(&mut out, shard.0);
                varint::put(&mut out, *epoch);
            }
            MetaCommand::Drain { node, on } => {
                out.push(DRAIN);
                varint::put(&mut out, node.0);
                out.push(u8::from(*on));
            }
            MetaCommand::Remove { node } => {
                out.push(REMOVE);
                varint::put(&mut out, node.0);
            }
            MetaCommand::SetUser { name, first, rules } => {
                out.push(SET_USER);
                varint::put_bytes(&mut out, name);
                record::put_texts(&mut out, first);
                record::put_texts(&mut out, rules);
            }
            MetaCommand::DelUsers { names } => {
                out.push(DEL_USERS);
                record::put_texts(&mut out, names);
            }
            MetaCommand::SetGateway(version) => {
                // While no secret is needed, releases that know none understand all.
                match version.secret.0 {
                    None => out.push(SET_GATEWAY),
                    Some(_) => {
                        out.push(SET_GATEWAY_SECRET);
                        gateway::encode_secret(version.secret, &mut out);
                    }
                }
                gateway::encode_one(version, &mut out);
            }
            MetaCommand::SetSettings { pairs } => {
                out.push(SET_SETTINGS);
                settings::encode(pairs.iter().map(|(name, value)| (name, value)), &mut out);
            }
        }
        out
    }

    /// Reads one command. Whether it fits the state, [`MetaState::apply`](crate::MetaState::apply) says.
    ///
    /// # Errors
    /// [`Malformed`]: not the bytes of a command of this release.
    pub fn decode(bytes: &[u8]) -> Result<MetaCommand, Malformed> {
        let mut input = Reader::new(bytes);
        let command = match input.u8()? {
            FOUND => MetaCommand::Found {
                cluster_id: record::text(&mut input)?,
                replicas: record::small(&mut input)?,
                shards: record::small(&mut input)?,
                node: NodeId(input.varint()?),
                uuid: record::uuid(&mut input)?,
                record: NodeRecord::decode(&mut input)?,
            },
            JOIN => {
                MetaCommand::Join { uuid: record::uuid(&mut input)?, record: NodeRecord::decode(&mut input)? }
            }
            REPLACE => MetaCommand::Replace {
                node: NodeId(input.varint()?),
                uuid: record::uuid(&mut input)?,
                record: NodeRecord::decode(&mut input)?,
            },
            ANNOUNCE => MetaCommand::Announce {
                node: NodeId(input.varint()?),
                record: NodeRecord::decode(&mut input)?,
            },
            SET_REPLICAS => MetaCommand::SetReplicas {
                shard: GroupId(input.varint()?),
                epoch: input.varint()?,
                replicas: record::nodes(&mut input)?,
            },
            SETTLED => MetaCommand::Settled { shard: GroupId(input.varint()?), epoch: input.varint()? },
            DRAIN => MetaCommand::Drain { node: NodeId(input.varint()?), on: record::flag(&mut input)? },
            REMOVE => MetaCommand::Remove { node: NodeId(input.varint()?) },
            SET_USER => MetaCommand::SetUser {
                name: input.bytes()?.to_vec(),
                first: record::texts(&mut input)?,
                rules: record::texts(&mut input)?,
            },
            DEL_USERS => MetaCommand::DelUsers { names: record::texts(&mut input)? },
            SET_GATEWAY => MetaCommand::SetGateway(gateway::decode_one(&mut input)?),
            SET_GATEWAY_SECRET => {
                let secret = gateway::decode_secret(&mut input)?;
                MetaCommand::SetGateway(GatewayVersion { secret, ..gateway::decode_one(&mut input)? })
            }
            SET_SETTINGS => MetaCommand::SetSettings { pairs: settings::decode(&mut input)? },
            _ => return Err(Malformed { offset: 0, expected: "a meta command of kind 2 to 14" }),
        };
        input.end()?;
        Ok(command)
    }
}
