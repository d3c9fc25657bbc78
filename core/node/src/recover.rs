//! From what the disk kept to a running node.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use skep_base::varint::Malformed;
use skep_base::{GroupId, LogId, NodeId, NodeUuid, Rng, hash};
use skep_consensus::{Group, GroupConfig, Input as GroupInput};
use skep_keyspace::{Keyspace, Restore, RestoreError};
use skep_log::{GroupLog, Membership, Record};
use skep_settings::Settings;

use crate::checkpoint::Checkpoints;
use crate::client::Clients;
use crate::evict::Memory;
use crate::local::Routes;
use crate::on_log::PersistProgress;
use crate::shard::Shard;
use crate::stats::Stats;
use crate::{DATA, Node, Note, Now, Output};
use skep_placement::{MetaCommand, MetaState, NodeRecord};

/// Who this node is, and what only its surroundings can choose.
#[derive(Clone, Debug)]
pub struct Identity {
    pub node: NodeId,
    /// What the node announces of itself.
    pub record: NodeRecord,
    /// 40 hexadecimal digits; the cluster's id if this start founds one.
    pub new_cluster_id: String,
    /// 40 hexadecimal digits, another in each run.
    pub run_id: String,
    pub process_id: u32,
    /// Connections that the process has descriptors for, whatever `maxclients` says.
    pub clients_fit: u64,
    /// Never the same for two starts of this node.
    pub incarnation: u64,
    pub seed: u64,
}

/// What was read back from the disk.
#[derive(Default)]
pub struct Recovered {
    logs: BTreeMap<GroupId, GroupLog>,
    meta: MetaState,
    keyspace: Keyspace,
}

/// A checkpoint's position as its file says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RecoveredCheckpoint {
    pub group: GroupId,
    pub at: LogId,
}

/// Why what the disk kept cannot be used. Nothing was changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecoverError {
    Meta(Malformed),
    Shard(RestoreError),
    /// A group that this release does not know.
    UnknownGroup(GroupId),
    /// The log continues from a checkpoint that was not read.
    Missing {
        group: GroupId,
        at: LogId,
    },
}

impl fmt::Display for RecoverError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecoverError::Meta(cause) => write!(f, "checkpoint of the meta group: {cause}"),
            RecoverError::Shard(cause) => write!(f, "checkpoint of the shard: {cause}"),
            RecoverError::UnknownGroup(group) => {
                write!(f, "the log holds group {group}, which this version of skep does not know")
            }
            RecoverError::Missing { group, at } => {
                write!(
                    f,
                    "the log of group {group} continues from a checkpoint at {}, which is missing",
                    at.index
                )
            }
        }
    }
}

impl std::error::Error for RecoverError {}

/// Takes in the log and then the checkpoints it names, chunk by chunk.
pub struct Restoring {
    logs: BTreeMap<GroupId, GroupLog>,
    meta: Vec<u8>,
    shard: Option<Restore>,
}

impl Restoring {
    pub fn new(logs: BTreeMap<GroupId, GroupLog>) -> Restoring {
        Restoring { logs, meta: Vec::new(), shard: None }
    }

    /// The checkpoints to be read and fed.
    pub fn needed(&self) -> Vec<RecoveredCheckpoint> {
        let begun = self.logs.iter().filter(|(_, log)| log.checkpoint != LogId::default());
        begun.map(|(group, log)| RecoveredCheckpoint { group: *group, at: log.checkpoint }).collect()
    }

    /// Takes the next chunk of a group's checkpoint.
    pub fn feed(&mut self, group: GroupId, bytes: &[u8]) -> Result<(), RecoverError> {
        match group {
            GroupId::META => {
                self.meta.extend_from_slice(bytes);
                Ok(())
            }
            DATA => self.shard.get_or_insert_default().feed(bytes).map_err(RecoverError::Shard),
            _ => Err(RecoverError::UnknownGroup(group)),
        }
    }

    /// All that was kept, ready to start from.
    pub fn finish(self) -> Result<Recovered, RecoverError> {
        for (group, log) in &self.logs {
            let fed = match *group {
                GroupId::META => !self.meta.is_empty(),
                DATA => self.shard.is_some(),
                _ => return Err(RecoverError::UnknownGroup(*group)),
            };
            if !fed && log.checkpoint != LogId::default() {
                return Err(RecoverError::Missing { group: *group, at: log.checkpoint });
            }
        }
        let meta = match self.meta.is_empty() {
            true => MetaState::default(),
            false => MetaState::decode(&self.meta).map_err(RecoverError::Meta)?,
        };
        let keyspace = match self.shard {
            None => Keyspace::default(),
            Some(restore) => restore.finish().map_err(RecoverError::Shard)?,
        };
        Ok(Recovered { logs: self.logs, meta, keyspace })
    }
}

impl Node {
    /// Starts the node; what it asks for at once goes to `out`. It is ready when [`Node::is_ready`] says so, after its
    /// first outputs have been carried out and answered.
    ///
    /// Everything in `recovered` must be durable.
    pub fn start(
        identity: Identity,
        settings: Settings,
        mut recovered: Recovered,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Node {
        let mut persist = PersistProgress::default();
        let mut group = |id: GroupId| {
            let alone = Membership { voters: vec![identity.node], ..Membership::default() };
            let log = recovered.logs.remove(&id).unwrap_or_else(|| {
                let at = LogId::default();
                persist.begin(Record::Checkpoint { group: id, at, membership: alone.clone() });
                GroupLog { membership: alone.clone(), ..GroupLog::default() }
            });
            let at = log.checkpoint;
            (Group::new(GroupConfig::new(id, identity.node, identity.incarnation, identity.seed), log), at)
        };
        let (meta_group, meta_applied) = group(GroupId::META);
        let (shard_group, applied) = group(DATA);
        let shard = Shard::new(shard_group, recovered.keyspace, applied);
        let mut node = Node {
            id: identity.node,
            run_id: identity.run_id,
            process_id: identity.process_id,
            clients_fit: identity.clients_fit,
            settings,
            started: now,
            now,
            rng: Rng::new(identity.seed),
            routes: Routes::new(),
            clients: Clients::default(),
            with_output: VecDeque::new(),
            to_resume: Vec::new(),
            effects: Vec::new(),
            meta: recovered.meta,
            meta_group,
            meta_applied,
            meta_saved: meta_applied,
            shard,
            announced: identity.record,
            new_cluster_id: identity.new_cluster_id,
            persist,
            checkpoints: Checkpoints::new(now.wall),
            memory: Memory::default(),
            decoder_limits: Default::default(),
            disk_full: false,
            active_expire: true,
            idle_checked: now.mono,
            paused: None,
            ready: false,
            stopping: false,
            stop_by: None,
            stopped: false,
            stats: Stats::default(),
        };
        node.configure();
        node.group_input(GroupId::META, GroupInput::Tick, out);
        node.group_input(DATA, GroupInput::Tick, out);
        node.go_on_starting(out);
        node
    }

    /// Founds the cluster or announces this node's addresses, and says when the node is ready.
    pub(crate) fn go_on_starting(&mut self, out: &mut Vec<Output>) {
        if self.ready || !self.meta_group.leads_with_all_applied() {
            return;
        }
        let (node, record) = (self.id, self.announced.clone());
        if self.meta.cluster_id.is_empty() {
            let cluster_id = self.new_cluster_id.clone();
            let replicas = self.settings.replicas() as u32;
            let founder = hash::seeded(1, cluster_id.as_bytes()).max(1);
            let uuid = NodeUuid(u128::from(founder));
            let found = MetaCommand::Found { cluster_id, replicas, shards: 1, node, uuid, record };
            return self.propose_meta(found, out);
        }
        if self.meta.nodes.get(&node).is_none_or(|member| member.record != record) {
            return self.propose_meta(MetaCommand::Announce { node, record }, out);
        }
        if self.shard.group.leads_with_all_applied() {
            self.ready = true;
            let keys = self.shard.keyspace.total_len() as u64;
            let cluster_id = self.meta.cluster_id.clone();
            out.push(Output::Note(Note::Ready { cluster_id, keys, applied: self.shard.applied }));
        }
    }
}
