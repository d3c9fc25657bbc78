//! From what the disk kept to a running node.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;

use skep_base::varint::Malformed;
use skep_base::{GroupId, LogId, NodeId, Rng};
use skep_consensus::RestPace;
use skep_keyspace::{Keyspace, Restore, RestoreError};
use skep_log::{GroupLog, NodeIdentity};
use skep_peer::{LinkInput, LinkLimits, Links};
use skep_placement::{MetaState, NodeRecord};
use skep_settings::Settings;

use crate::acl::Acl;
use crate::answer::PeerAnswers;
use crate::cells::{CellId, Cells, HUB};
use crate::checkpoint::Checkpoints;
use crate::client::Clients;
use crate::cluster::Meta;
use crate::evict::Memory;
use crate::fetch::Fetches;
use crate::fresh::Freshness;
use crate::join::{FOUNDER, Joining, introduction};
use crate::local::Routes;
use crate::peers::Peers;
use crate::persist::PersistProgress;
use crate::rebuild::Rebuild;
use crate::script_sources::ScriptSources;
use crate::shard::{Replica, Shard};
use crate::slow::Slow;
use crate::stats::Stats;
use crate::{Node, Now, Output};

/// Who this node is, and what only its surroundings can choose.
#[derive(Clone, Debug)]
pub struct Identity {
    /// As the data directory has it.
    pub saved: NodeIdentity,
    /// What the node announces of itself.
    pub record: NodeRecord,
    /// 40 hexadecimal digits; the cluster's id if this start founds one.
    pub new_cluster_id: String,
    /// 40 hexadecimal digits, another in each run.
    pub run_id: String,
    pub process_id: u32,
    /// Clients that the process has descriptors for, whatever `maxclients` says.
    pub clients_fit: u64,
    /// Descriptors of all kinds that may be open when a client is let in: those above are kept for the log and the other
    /// nodes.
    pub descriptors_fit: u64,
    /// Never the same for two starts of this node.
    pub incarnation: u64,
    pub seed: u64,
    /// From a generator for secrets, another in each run.
    pub secret: [u8; 32],
    /// The node whose damaged data this one had before; it is gone, and this one takes its place.
    pub replaces: Option<NodeId>,
    pub link_limits: LinkLimits,
    /// When groups rest that nobody uses.
    pub rest: RestPace,
    /// Tests may change the state of this copy alone, by `DEBUG UNLOGGED command ..`, and have copies compared at once, by
    /// `DEBUG COMPARE` at the leader. Off wherever skep is used.
    pub may_damage: bool,
}

/// What was read back from the disk.
#[derive(Default)]
pub struct Recovered {
    logs: BTreeMap<GroupId, GroupLog>,
    meta: MetaState,
    keyspaces: BTreeMap<GroupId, Keyspace>,
    /// The log was not empty, if only for another cell.
    is_begun: bool,
}

impl Recovered {
    /// Deals out what was read back to so many cells, the hub first.
    pub fn split(self, count: usize) -> Vec<Recovered> {
        let mut cells: Vec<Recovered> =
            (0..count).map(|_| Recovered { is_begun: self.is_begun, ..Recovered::default() }).collect();
        cells[HUB].meta = self.meta;
        for (group, log) in self.logs {
            cells[CellId::home(count, group)].logs.insert(group, log);
        }
        for (group, keyspace) in self.keyspaces {
            cells[CellId::home(count, group)].keyspaces.insert(group, keyspace);
        }
        cells
    }
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
    shards: BTreeMap<GroupId, Restore>,
}

impl Restoring {
    pub fn new(logs: BTreeMap<GroupId, GroupLog>) -> Restoring {
        Restoring { logs, meta: Vec::new(), shards: BTreeMap::new() }
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
            _ => self.shards.entry(group).or_default().feed(bytes).map_err(RecoverError::Shard),
        }
    }

    /// All that was kept, ready to start from.
    pub fn finish(self) -> Result<Recovered, RecoverError> {
        for (group, log) in &self.logs {
            let fed = match *group {
                GroupId::META => !self.meta.is_empty(),
                _ => self.shards.contains_key(group),
            };
            if !fed && log.checkpoint != LogId::default() {
                return Err(RecoverError::Missing { group: *group, at: log.checkpoint });
            }
        }
        let meta = match self.meta.is_empty() {
            true => MetaState::default(),
            false => MetaState::decode(&self.meta).map_err(RecoverError::Meta)?,
        };
        let mut keyspaces = BTreeMap::new();
        for (group, restore) in self.shards {
            keyspaces.insert(group, restore.finish().map_err(RecoverError::Shard)?);
        }
        let is_begun = !self.logs.is_empty();
        Ok(Recovered { logs: self.logs, meta, keyspaces, is_begun })
    }
}

impl Node {
    /// Starts the only cell of a node; else as [`Node::start_cell`].
    pub fn start(
        identity: Identity,
        settings: Settings,
        recovered: Recovered,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Node {
        Node::start_cell(identity, settings, recovered, CellId::ONLY, now, out)
    }

    /// Starts a cell of the node with its share of what was recovered; what it asks for at once goes to `out`. It is ready when [`Node::is_ready`] says so, after its
    /// first outputs have been carried out and answered.
    ///
    /// Everything in `recovered` must be durable.
    pub fn start_cell(
        identity: Identity,
        settings: Settings,
        recovered: Recovered,
        cell: CellId,
        now: Now,
        out: &mut Vec<Output>,
    ) -> Node {
        let me = introduction(
            &identity.saved,
            identity.incarnation,
            &identity.record.name,
            settings.requirepass(),
        );
        let links = Links::new(me, identity.link_limits, identity.seed);
        let seed = identity.seed.wrapping_add(cell.index as u64);
        // Only a founder writes to its log before its identity is durable.
        let id = match identity.saved.node {
            NodeId(0) if recovered.is_begun => FOUNDER,
            id => id,
        };
        let mut node = Node {
            id,
            identity: identity.saved,
            replaces: identity.replaces,
            may_damage: identity.may_damage,
            rest: identity.rest,
            incarnation: identity.incarnation,
            seed,
            run_id: identity.run_id,
            process_id: identity.process_id,
            clients_fit: identity.clients_fit,
            descriptors_fit: identity.descriptors_fit,
            settings,
            started: now,
            now,
            rng: Rng::new(seed),
            cells: Cells::new(cell),
            routes: Routes::new(),
            clients: Clients::default(),
            acl: Acl::new(identity.secret, cell.index),
            slow: Slow::new(),
            monitors: Default::default(),
            with_output: VecDeque::new(),
            with_pushes: VecDeque::new(),
            to_resume: Vec::new(),
            resuming: Vec::new(),
            grown: Vec::new(),
            output_max: 0,
            answer_scratch: Vec::new(),
            attempt_scratch: Vec::new(),
            reply_scratch: Vec::new(),
            meta: Meta::new(recovered.meta),
            shards: Vec::new(),
            peers: Peers::new(links, cell.index == HUB),
            answers: PeerAnswers::default(),
            join: Joining::default(),
            fetch: Fetches::default(),
            fresh: Freshness::default(),
            announced: identity.record,
            new_cluster_id: identity.new_cluster_id,
            effects: Vec::new(),
            carried: Vec::new(),
            undelivered: Vec::new(),
            persist: PersistProgress::default(),
            checkpoints: Checkpoints::new(now.wall),
            memory: Memory::default(),
            disk_full: false,
            disk_slow: false,
            decoder_limits: Default::default(),
            active_expire: true,
            second_told: None,
            idle_checked: now.mono,
            caching: crate::tracking::Caching::default(),
            notify: crate::notify::Notify::default(),
            pubsub: crate::pubsub::PubSub::new(cell.count),
            paused: None,
            script_sources: ScriptSources::default(),
            ready: false,
            handing_over: None,
            stopping: false,
            stop_by: None,
            stopped: false,
            stats: Stats::default(),
        };
        node.take_over(recovered.logs, recovered.keyspaces);
        node.configure();
        // The links know the time from their inputs.
        node.on_link(LinkInput::Tick, out);
        if cell.index != HUB {
            node.start_groups(out);
        } else if node.id == NodeId(0) {
            node.begin_joining(out);
        } else {
            node.on_meta_changed(out);
            node.start_groups(out);
            node.go_on_starting(out);
        }
        node
    }

    /// Makes groups of the logs that were recovered.
    fn take_over(&mut self, logs: BTreeMap<GroupId, GroupLog>, mut keyspaces: BTreeMap<GroupId, Keyspace>) {
        for (group, log) in logs {
            let at = log.checkpoint;
            let last = log.entries.last().map_or(at.index, |entry| entry.id.index);
            let distrusted = log.distrusted;
            let mut made = self.new_group(group, log);
            if group == GroupId::META {
                self.meta.recovered = last;
                self.meta.group = Some(made);
                (self.meta.applied, self.meta.saved) = (at, at);
            } else {
                let keyspace = keyspaces.remove(&group).unwrap_or_default();
                made.set_may_campaign(!distrusted);
                let mut replica = Replica::new(made, keyspace, at);
                replica.rebuild = distrusted.then(Rebuild::default);
                self.add_shard(Shard::new(group, Some(replica)));
            }
        }
        if self.cells.is_hub() && self.id != NodeId(0) && self.meta.group.is_none() {
            self.meta.group = Some(self.first_replica(GroupId::META));
        }
    }
}
