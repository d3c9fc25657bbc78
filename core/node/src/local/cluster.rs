//! `CLUSTER` and the modes that cluster-aware clients ask for, answered from the meta state in Redis Cluster's forms.
//!
//! Every node serves every slot, so nothing here is needed to use skep; a client that knows the slots saves a hop.

use std::fmt::Write;

use skep_base::{GroupId, NodeId, Refusal, SLOT_COUNT, hash, number, slot_of};
use skep_keyspace::Entry;
use skep_placement::{NodeRecord, ShardRecord};

use super::{Call, Group};
use crate::Node;

pub const COMMANDS: Group = &[
    ("asking", accept),
    ("cluster|countkeysinslot", countkeysinslot),
    ("cluster|getkeysinslot", getkeysinslot),
    ("cluster|help", super::help),
    ("cluster|info", info),
    ("cluster|keyslot", keyslot),
    ("cluster|myid", myid),
    ("cluster|nodes", nodes),
    ("cluster|shards", shards),
    ("cluster|slots", slots),
    ("readonly", accept),
    ("readwrite", accept),
];

/// The id by which cluster-aware clients know a node: 40 hexadecimal digits made from the cluster's id and the node's
/// number, so that every node names every other the same, also after a restart or a change of address.
pub(crate) fn public_id(cluster_id: &str, node: NodeId) -> String {
    let word = |seed: u64| hash::seeded(node.0 << 8 | seed, cluster_id.as_bytes());
    format!("{:016x}{:016x}{:08x}", word(0), word(1), word(2) as u32)
}

fn accept(_: &mut Node, call: Call) -> Result<(), Refusal> {
    call.reply.ok();
    Ok(())
}

fn keyslot(_: &mut Node, call: Call) -> Result<(), Refusal> {
    call.reply.int(i64::from(slot_of(&call.args[2])));
    Ok(())
}

fn myid(node: &mut Node, call: Call) -> Result<(), Refusal> {
    call.reply.bulk(public_id(&node.meta.state.cluster_id, node.id).as_bytes());
    Ok(())
}

fn countkeysinslot(node: &mut Node, call: Call) -> Result<(), Refusal> {
    let slot = number::parse_i64(&call.args[2]).ok_or(Refusal::NotInteger)?;
    let slot = valid_slot(slot).ok_or(Refusal::text("ERR Invalid slot"))?;
    let db = node.client(call.conn).db;
    call.reply.len(node.live_in_slot(db, slot)?.count());
    Ok(())
}

fn getkeysinslot(node: &mut Node, call: Call) -> Result<(), Refusal> {
    let slot = number::parse_i64(&call.args[2]).ok_or(Refusal::NotInteger)?;
    let count = number::parse_i64(&call.args[3]).ok_or(Refusal::NotInteger)?;
    let (Some(slot), Ok(count)) = (valid_slot(slot), usize::try_from(count)) else {
        return Err(Refusal::text("ERR Invalid slot or number of keys"));
    };
    let db = node.client(call.conn).db;
    let live = node.live_in_slot(db, slot)?;
    let keys: Vec<&[u8]> = live.take(count).map(|e| &e.key[..]).collect();
    call.reply.array(keys.len());
    keys.iter().for_each(|key| call.reply.bulk(key));
    Ok(())
}

fn valid_slot(slot: i64) -> Option<u16> {
    u16::try_from(slot).ok().filter(|slot| *slot < SLOT_COUNT)
}

fn info(node: &mut Node, call: Call) -> Result<(), Refusal> {
    let shards = node.meta.state.shards.values();
    let assigned: u32 = shards.clone().flat_map(|s| &s.slots).map(|(a, b)| u32::from(b - a) + 1).sum();
    let served = if node.ready { assigned } else { 0 };
    let epoch = shards.map(|s| s.epoch).max().unwrap_or(0);
    let text = format!(
        "cluster_state:{}\r\ncluster_slots_assigned:{assigned}\r\ncluster_slots_ok:{served}\r\n\
         cluster_slots_pfail:0\r\ncluster_slots_fail:{}\r\ncluster_known_nodes:{}\r\ncluster_size:{}\r\n\
         cluster_current_epoch:{epoch}\r\ncluster_my_epoch:{epoch}\r\ncluster_stats_messages_sent:0\r\n\
         cluster_stats_messages_received:0\r\ntotal_cluster_links_buffer_limit_exceeded:0\r\n",
        if node.ready { "ok" } else { "fail" },
        assigned - served,
        node.meta.state.nodes.len(),
        node.meta.state.shards.len(),
    );
    call.reply.verbatim(&text);
    Ok(())
}

fn nodes(node: &mut Node, call: Call) -> Result<(), Refusal> {
    let mut text = String::new();
    for (id, member) in &node.meta.state.nodes {
        let record = &member.record;
        let led: Vec<&ShardRecord> = node
            .meta
            .state
            .shards
            .iter()
            .filter(|(s, r)| node.leader_of(**s, r) == Some(*id))
            .map(|(_, r)| r)
            .collect();
        let followed = node
            .meta
            .state
            .shards
            .iter()
            .find(|(_, r)| r.replicas.contains(id))
            .and_then(|(s, r)| node.leader_of(*s, r));
        let is_master = !led.is_empty() || followed.is_none();
        let master = match followed.filter(|_| !is_master) {
            Some(leader) => public_id(&node.meta.state.cluster_id, leader),
            None => "-".into(),
        };
        let (host, port) = host_and_port(&record.client);
        let (_, peer_port) = host_and_port(&record.peer);
        let epoch = led.iter().map(|r| r.epoch).max().unwrap_or(0);
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "{} {host}:{port}@{peer_port} {}{} {master} 0 0 {epoch} connected",
            public_id(&node.meta.state.cluster_id, *id),
            if *id == node.id { "myself," } else { "" },
            if is_master { "master" } else { "slave" },
        );
        for (first, last) in led.iter().flat_map(|r| &r.slots) {
            let _ = if first == last { write!(text, " {first}") } else { write!(text, " {first}-{last}") };
        }
        text.push('\n');
    }
    call.reply.verbatim(&text);
    Ok(())
}

fn slots(node: &mut Node, call: Call) -> Result<(), Refusal> {
    let mut ranges: Vec<(u16, u16, GroupId)> = Vec::new();
    for (shard, record) in &node.meta.state.shards {
        ranges.extend(record.slots.iter().map(|(first, last)| (*first, *last, *shard)));
    }
    ranges.sort_unstable();
    call.reply.array(ranges.len());
    for (first, last, shard) in ranges {
        let members = node.members_of(shard);
        call.reply.array(2 + members.len());
        call.reply.int(i64::from(first));
        call.reply.int(i64::from(last));
        for (id, record) in members {
            let (host, port) = host_and_port(&record.client);
            call.reply.array(4);
            call.reply.bulk(host.as_bytes());
            call.reply.int(i64::from(port));
            call.reply.bulk(public_id(&node.meta.state.cluster_id, id).as_bytes());
            call.reply.map(0);
        }
    }
    Ok(())
}

fn shards(node: &mut Node, call: Call) -> Result<(), Refusal> {
    let reply = call.reply;
    reply.array(node.meta.state.shards.len());
    for (shard, shard_record) in &node.meta.state.shards {
        let leader = node.leader_of(*shard, shard_record);
        let members = node.members_of(*shard);
        reply.map(2);
        reply.bulk(b"slots");
        reply.array(2 * shard_record.slots.len());
        for (first, last) in &shard_record.slots {
            reply.int(i64::from(*first));
            reply.int(i64::from(*last));
        }
        reply.bulk(b"nodes");
        reply.array(members.len());
        for (id, record) in members {
            let (host, port) = host_and_port(&record.client);
            let role = if leader == Some(id) { "master" } else { "replica" };
            reply.map(7);
            reply.bulk(b"id");
            reply.bulk(public_id(&node.meta.state.cluster_id, id).as_bytes());
            reply.bulk(b"port");
            reply.int(i64::from(port));
            for (name, value) in [("ip", host), ("endpoint", host), ("role", role)] {
                reply.bulk(name.as_bytes());
                reply.bulk(value.as_bytes());
            }
            reply.bulk(b"replication-offset");
            let place = node.shard_of_group(*shard);
            let replica = place.and_then(|at| node.shards[at].replica.as_ref());
            reply.int(replica.filter(|_| id == node.id).map_or(0, |r| r.applied.index.0 as i64));
            reply.bulk(b"health");
            reply.bulk(if node.ready { b"online" } else { b"loading" });
        }
    }
    Ok(())
}

/// Splits `host:port`; an IPv6 host loses its brackets, as clients expect it.
pub(crate) fn host_and_port(address: &str) -> (&str, u16) {
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "0"));
    (host.trim_start_matches('[').trim_end_matches(']'), port.parse().unwrap_or(0))
}

impl Node {
    /// The leader of a shard as far as this node knows; the first of its replicas if it knows of none.
    fn leader_of(&self, shard: GroupId, record: &ShardRecord) -> Option<NodeId> {
        let known = self.shard_of_group(shard).and_then(|at| self.shards[at].leader());
        known.map(|(leader, _)| leader).or(record.replicas.first().copied())
    }

    /// The keys of a slot that are not due, as this node's replica has them.
    fn live_in_slot(&mut self, db: u8, slot: u16) -> Result<impl Iterator<Item = &Entry>, Refusal> {
        let now = self.now;
        let place = self.meta.state.shard_of(slot).and_then(|shard| self.shard_of_group(shard));
        let elsewhere =
            "ERR this node has no copy of the slot; ask one of the nodes that CLUSTER SHARDS names";
        let replica = place.and_then(|at| self.shards[at].replica.as_mut());
        let replica = replica.ok_or(Refusal::text(elsewhere))?;
        let time = replica.time(now);
        Ok(replica.keyspace.slot_entries(db, slot).filter(move |e| e.is_live(time)))
    }

    /// The nodes of a shard, its leader first.
    fn members_of(&self, shard: GroupId) -> Vec<(NodeId, &NodeRecord)> {
        let Some(record) = self.meta.state.shards.get(&shard) else { return Vec::new() };
        let leader = self.leader_of(shard, record);
        let mut ids = record.replicas.clone();
        ids.sort_by_key(|id| (Some(*id) != leader, *id));
        ids.into_iter().filter_map(|id| Some((id, &self.meta.state.nodes.get(&id)?.record))).collect()
    }
}
