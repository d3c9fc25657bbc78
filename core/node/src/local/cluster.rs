//! `CLUSTER` and the modes that cluster-aware clients ask for, answered from the meta state in Redis Cluster's forms.
//!
//! Every node serves every slot, so nothing here is needed to use skep; a client that knows the slots saves a hop.

use std::collections::BTreeMap;
use std::fmt::Write;

use skep_base::{Args, GroupId, LogIndex, NodeId, Refusal, SLOT_COUNT, hash, number, slot_of};
use skep_keyspace::Entry;
use skep_placement::{NodeRecord, ShardRecord};

use super::{Call, Group, Parts};
use crate::cells::{Caller, Part};
use crate::shard::Shard;
use crate::{Node, Output};

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

pub const PARTS: Parts = &[
    ("cluster|countkeysinslot", countkeysinslot_part),
    ("cluster|getkeysinslot", getkeysinslot_part),
    ("cluster|nodes", shards_part),
    ("cluster|shards", shards_part),
    ("cluster|slots", shards_part),
];

/// What a cell knows of a shard of which it is the home.
#[derive(Clone, Copy)]
pub(crate) struct ShardNews {
    group: GroupId,
    leader: Option<NodeId>,
    /// Of the replica here; 0 if there is none.
    applied: LogIndex,
}

type News = BTreeMap<GroupId, ShardNews>;

fn shards_part(node: &mut Node, _: Caller, _: Args<'_>, _: &mut Vec<Output>) -> Result<Part, Refusal> {
    let news = |shard: &Shard| ShardNews {
        group: shard.id,
        leader: shard.leader().map(|(leader, _)| leader),
        applied: shard.replica.as_ref().map_or(LogIndex(0), |replica| replica.applied.index),
    };
    Ok(Part::Shards(node.shards.iter().map(news).collect()))
}

fn news(node: &mut Node, call: &mut Call) -> Result<News, Refusal> {
    let of = |part| if let Part::Shards(shards) = part { shards } else { Vec::new() };
    let all = node.parts(call)?.into_iter().flat_map(of);
    Ok(all.map(|shard| (shard.group, shard)).collect())
}

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

fn countkeysinslot(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    let of = |part| if let Part::Count(count) = part { count } else { 0 };
    let count = node.parts(&mut call)?.into_iter().map(of).sum();
    call.reply.len(count);
    Ok(())
}

fn countkeysinslot_part(
    node: &mut Node,
    caller: Caller,
    args: Args<'_>,
    _: &mut Vec<Output>,
) -> Result<Part, Refusal> {
    let slot = number::parse_i64(&args[2]).ok_or(Refusal::NotInteger)?;
    let slot = valid_slot(slot).ok_or(Refusal::text("ERR Invalid slot"))?;
    match node.is_home_of(slot) {
        true => Ok(Part::Count(node.live_in_slot(caller.db, slot)?.count())),
        false => Ok(Part::Done),
    }
}

fn getkeysinslot(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    let of = |part| if let Part::Keys(keys) = part { keys } else { Vec::new() };
    let keys: Vec<Vec<u8>> = node.parts(&mut call)?.into_iter().flat_map(of).collect();
    call.reply.array(keys.len());
    keys.iter().for_each(|key| call.reply.bulk(key));
    Ok(())
}

fn getkeysinslot_part(
    node: &mut Node,
    caller: Caller,
    args: Args<'_>,
    _: &mut Vec<Output>,
) -> Result<Part, Refusal> {
    let slot = number::parse_i64(&args[2]).ok_or(Refusal::NotInteger)?;
    let count = number::parse_i64(&args[3]).ok_or(Refusal::NotInteger)?;
    let (Some(slot), Ok(count)) = (valid_slot(slot), usize::try_from(count)) else {
        return Err(Refusal::text("ERR Invalid slot or number of keys"));
    };
    if !node.is_home_of(slot) {
        return Ok(Part::Done);
    }
    let live = node.live_in_slot(caller.db, slot)?;
    Ok(Part::Keys(live.take(count).map(|e| e.key.to_vec()).collect()))
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

fn nodes(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    let news = news(node, &mut call)?;
    let mut text = String::new();
    for (id, member) in &node.meta.state.nodes {
        let record = &member.record;
        let led: Vec<&ShardRecord> = node
            .meta
            .state
            .shards
            .iter()
            .filter(|(s, r)| leader_of(&news, **s, r) == Some(*id))
            .map(|(_, r)| r)
            .collect();
        let followed = node
            .meta
            .state
            .shards
            .iter()
            .find(|(_, r)| r.replicas.contains(id))
            .and_then(|(s, r)| leader_of(&news, *s, r));
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

fn slots(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    let news = news(node, &mut call)?;
    let mut ranges: Vec<(u16, u16, GroupId)> = Vec::new();
    for (shard, record) in &node.meta.state.shards {
        ranges.extend(record.slots.iter().map(|(first, last)| (*first, *last, *shard)));
    }
    ranges.sort_unstable();
    call.reply.array(ranges.len());
    for (first, last, shard) in ranges {
        let members = node.members_of(&news, shard);
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

fn shards(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    let news = news(node, &mut call)?;
    let reply = call.reply;
    reply.array(node.meta.state.shards.len());
    for (shard, shard_record) in &node.meta.state.shards {
        let leader = leader_of(&news, *shard, shard_record);
        let members = node.members_of(&news, *shard);
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
            let own = news.get(shard).filter(|_| id == node.id);
            reply.int(own.map_or(0, |shard| shard.applied.0 as i64));
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

/// The leader of a shard as far as this node knows; the first of its replicas if it knows of none.
fn leader_of(news: &News, shard: GroupId, record: &ShardRecord) -> Option<NodeId> {
    news.get(&shard).and_then(|shard| shard.leader).or(record.replicas.first().copied())
}

impl Node {
    /// True if the shard of a slot is this cell's.
    fn is_home_of(&self, slot: u16) -> bool {
        self.meta.state.shard_of(slot).is_none_or(|shard| self.cells.is_home(shard))
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
    fn members_of(&self, news: &News, shard: GroupId) -> Vec<(NodeId, &NodeRecord)> {
        let Some(record) = self.meta.state.shards.get(&shard) else { return Vec::new() };
        let leader = leader_of(news, shard, record);
        let mut ids = record.replicas.clone();
        ids.sort_by_key(|id| (Some(*id) != leader, *id));
        ids.into_iter().filter_map(|id| Some((id, &self.meta.state.nodes.get(&id)?.record))).collect()
    }
}
