//! One node as a machine: connections, the meta group, a data shard, and what they ask of disk and network.
//!
//! A node that uses several cores is several of these, its cells (`cells.rs`).
//!
//! Pure. The shell feeds it [`Input`]s with the time, carries out its [`Output`]s, and moves the bytes of
//! [`Node::unsent`] to the clients; the simulator does the same from a seed. A turn ends with [`Input::Turn`], which
//! proposes what came in as one log entry: everything is batched by turn, nothing is delayed by a timer.

mod acl;
mod answer;
#[cfg(test)]
mod any_commands;
mod apply;
mod apply_foreign;
mod away;
mod batch;
mod blocked;
mod cells;
mod checkpoint;
mod client;
mod cluster;
mod configure;
mod copies;
mod digest;
mod entry;
mod evict;
mod fetch;
mod fresh;
mod groups;
mod join;
mod joined;
mod kept;
mod line;
mod local;
mod notify;
mod on_client;
mod on_peer;
mod operation;
mod peers;
mod persist;
mod place;
mod pubsub;
mod rebuild;
mod recover;
mod requests;
mod run;
mod script_notes;
mod script_sources;
mod scripting;
mod serving;
mod shard;
mod slow;
mod stats;
mod status;
mod stop;
#[cfg(test)]
mod testing;
mod ticks;
mod touched;
mod tracking;
mod transaction;
mod turn;
mod waiting;
mod withdraw;

use std::collections::VecDeque;

use skep_base::{ConnId, GroupId, LinkId, LogId, Millis, NodeId, Rng};
pub use skep_consensus::RestPace;
use skep_keyspace::Garbage;
use skep_log::{Membership, NodeIdentity, Record};
pub use skep_peer::LinkLimits;
use skep_peer::LinkNote;
use skep_settings::Settings;

pub use cells::{CellId, Mail};
pub use persist::log_reserve;
pub use recover::{Identity, RecoverError, Recovered, RecoveredCheckpoint, Restoring};
pub use skep_placement::{GatewayVersion, MetaState, NodeRecord, ShardRecord};
pub use status::{MetaStatus, NodeState, NodeStatus, ReplicaStatus, ShardStatus, Status};

use cells::Cells;
use client::Clients;
use shard::Shard;
use stats::Stats;

/// The time of an input. `mono` never goes backwards and goes on while the process is stopped; `wall` may jump.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Now {
    pub mono: Millis,
    /// Since the Unix epoch.
    pub wall: Millis,
}

/// What happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// A client sent bytes.
    Received { conn: ConnId, bytes: &'a [u8] },
    /// A client will send no more; it still gets the replies it is owed, then its connection is closed.
    Ended { conn: ConnId },
    /// A client's connection is gone. What it had asked for is still carried out.
    Disconnected { conn: ConnId },
    /// Every [`Output::Persist`] up to this number is durable.
    Persisted { through: u64 },
    /// The disk has no space for the log: what was given out waits. Or it has space again.
    DiskFull(bool),
    /// The log cannot get shorter without a checkpoint.
    LogPinned,
    /// The checkpoint that was finished last is durable under its final name.
    CheckpointSaved { group: GroupId, at: LogId },
    /// The checkpoint could not be written and was removed; the log stays as it is.
    CheckpointFailed { group: GroupId, reason: String },
    /// A link that [`Output::Dial`] asked for is connected.
    LinkDialed { link: LinkId },
    /// Bytes came from another node.
    LinkReceived { link: LinkId, bytes: &'a [u8] },
    /// A link is gone, or could not be made.
    LinkClosed { link: LinkId, reason: String },
    /// A chunk of a checkpoint file, as [`Output::ReadCheckpoint`] asked.
    CheckpointRead { group: GroupId, at: LogId, chunk: u64, piece: Piece },
    /// The identity given out last is durable.
    IdentitySaved,
    /// Another cell of this node has written.
    Mail(Mail),
    /// New figures of the process; once a second is enough.
    Measured(Process),
    /// The end of a loop turn, or the instant of [`Node::next_wakeup`].
    Turn(Load),
    /// Finish what is in flight, then [`Output::Stopped`]. New commands are refused.
    Stop,
}

/// What came of reading a chunk of a checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Piece {
    Bytes {
        bytes: Vec<u8>,
        /// No chunk follows.
        last: bool,
    },
    /// There is no such checkpoint any more, or no such chunk, or it cannot be read.
    Gone,
}

/// What the node should know of the process it runs in, at the end of a turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Load {
    /// Bytes allocated.
    pub memory_used: u64,
    /// Bytes of [`Output::CheckpointChunk`]s not written yet.
    pub checkpoint_bytes: u64,
}

/// What the operating system says about the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Process {
    /// Bytes of memory that the process has in use, the allocator's reserves included.
    pub memory_resident: u64,
    /// Bytes of memory that the machine has.
    pub memory_total: u64,
    pub cpu: CpuTime,
    /// Of the thread that runs the node.
    pub cpu_main_thread: CpuTime,
}

/// Time on a processor since the start of the process.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CpuTime {
    pub user_ms: u64,
    pub system_ms: u64,
}

/// What should happen, in this order.
#[derive(Debug)]
pub enum Output {
    /// Make the records durable, then answer [`Input::Persisted`] with `number`. Numbers are consecutive; records of
    /// several outputs may be written and synced together.
    Persist { number: u64, records: Vec<Record> },
    /// Begin a checkpoint file of `group`.
    CheckpointBegin { group: GroupId, at: LogId, membership: Membership },
    /// Append to the checkpoint begun.
    CheckpointChunk { group: GroupId, bytes: Vec<u8> },
    /// Complete the checkpoint begun: sync, rename, sync the directory, answer [`Input::CheckpointSaved`].
    CheckpointFinish { group: GroupId },
    /// Give up the checkpoint begun.
    CheckpointAbandon { group: GroupId },
    /// The log durably names the checkpoint at `at`: remove older ones of the group.
    CheckpointRecorded { group: GroupId, at: LogId },
    /// Read a chunk (they count from 0) of a finished checkpoint, then answer [`Input::CheckpointRead`].
    ReadCheckpoint { group: GroupId, at: LogId, chunk: u64 },
    /// Connect to a node's peer address (`host:port`; names are allowed), then answer [`Input::LinkDialed`] or
    /// [`Input::LinkClosed`].
    Dial { link: LinkId, address: String },
    /// Close a link at once; what is unsent is lost. No [`Input::LinkClosed`] follows.
    CloseLink { link: LinkId },
    /// Make this the node's identity, durably, then answer [`Input::IdentitySaved`].
    SaveIdentity(NodeIdentity),
    /// The peer addresses of the other members have changed: keep them for a start that cannot read the log.
    SavePeers(Vec<String>),
    /// This is the gateway's configuration that the cluster wants in force; each version once, and the newest only. Given by
    /// the hub.
    Gateway(GatewayVersion),
    /// Drop this where it stalls nobody.
    Drop(Garbage),
    /// Close a connection; what it is owed has been sent or given up.
    Close { conn: ConnId },
    /// For the node's operator.
    Note(Note),
    /// The process may end.
    Stopped,
}

/// Something an operator may want to read in the node's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Note {
    Ready {
        cluster_id: String,
        keys: u64,
        applied: LogId,
    },
    CheckpointBegun {
        group: GroupId,
        at: LogId,
        log_bytes: u64,
    },
    CheckpointSaved {
        group: GroupId,
        at: LogId,
    },
    CheckpointFailed {
        group: GroupId,
        reason: String,
    },
    /// A connection was closed because of what it sent or did not read.
    ClientDropped {
        address: String,
        reason: String,
    },
    /// Writes are refused until there is room again.
    DiskFull,
    /// Writes are accepted again.
    DiskHasSpace,
    /// This node belongs to no cluster yet, and why.
    Waits {
        why: String,
    },
    /// This node founded a cluster, or was taken into one.
    Joined {
        node: NodeId,
        cluster_id: String,
    },
    /// Another node is connected.
    PeerUp {
        node: NodeId,
        name: String,
    },
    /// A connection to or from another node ended.
    PeerDown {
        peer: String,
        reason: String,
    },
    /// A connection to or from another node was refused, or broke a rule.
    Link(LinkNote),
    /// A group has another leader.
    Leader {
        group: GroupId,
        leader: NodeId,
        term: skep_base::Term,
    },
    /// Who belongs to a group has changed, or the leader has begun to change it.
    Members {
        group: GroupId,
        what: String,
    },
    /// A replica's state is being replaced by a checkpoint of another node.
    Fetching {
        group: GroupId,
        at: LogId,
        from: NodeId,
    },
    /// It has been replaced.
    Fetched {
        group: GroupId,
        at: LogId,
    },
    /// Leadership was given away since the disk does not answer.
    DiskSlow {
        ms: u64,
    },
    /// The cluster has removed this node.
    Removed,
    /// The state of another node's replica differs from what most have, or, if there is no majority, from the one here.
    Diverged {
        group: GroupId,
        at: LogId,
        node: NodeId,
    },
    /// The state of the replica here differs from what most have: it does not serve until it is rebuilt.
    Distrusted {
        group: GroupId,
        at: LogId,
    },
    /// A script said so with `redis.log`, at a level that Redis numbers so: 0 debug, 1 verbose, 2 notice, 3 warning.
    Script {
        level: u8,
        text: String,
    },
    /// The state was replaced by one that most have, and is at this position.
    Rebuilt {
        group: GroupId,
        at: LogId,
    },
}

/// The state of one node.
pub struct Node {
    /// 0 until the cluster has given it one.
    id: NodeId,
    identity: NodeIdentity,
    /// See [`Identity::replaces`].
    replaces: Option<NodeId>,
    /// See [`Identity::may_damage`].
    may_damage: bool,
    rest: RestPace,
    /// Another in each run.
    incarnation: u64,
    seed: u64,
    /// 40 hexadecimal digits, another in each run.
    run_id: String,
    process_id: u32,
    /// See [`Identity::clients_fit`].
    clients_fit: u64,
    /// See [`Identity::descriptors_fit`].
    descriptors_fit: u64,
    settings: Settings,
    started: Now,
    now: Now,
    /// For reads' random choices and the seeds of entries.
    rng: Rng,
    cells: Cells,
    routes: local::Routes,
    clients: Clients,
    /// Clients with something to send: first those that were answered, then those that were only pushed something. Who was
    /// answered after a push is in both, and named once ([`client::Listed`]).
    with_output: VecDeque<ConnId>,
    with_pushes: VecDeque<ConnId>,
    /// Clients whose input waits for replies that have come.
    to_resume: Vec<ConnId>,
    /// Empty; kept for its memory, as `carried` is.
    resuming: Vec<ConnId>,
    /// Clients whose output has grown and was not looked at.
    grown: Vec<ConnId>,
    /// The hard limit on unsent replies; 0 for none.
    output_max: u64,
    /// Kept for their memory.
    answer_scratch: Vec<u8>,
    attempt_scratch: Vec<u8>,
    reply_scratch: Vec<u8>,
    meta: cluster::Meta,
    shards: Vec<Shard>,
    peers: peers::Peers,
    /// Answers to what other nodes forwarded, until the end of the turn.
    answers: answer::PeerAnswers,
    join: join::Joining,
    fetch: fetch::Fetches,
    fresh: fresh::Freshness,
    /// The record this node announces for itself.
    announced: NodeRecord,
    new_cluster_id: String,
    /// Effects of a group being carried out; kept for its memory.
    effects: Vec<skep_consensus::Output>,
    carried: Vec<skep_consensus::Output>,
    /// Checkpoints that a group sent and for which there is no link.
    undelivered: Vec<(GroupId, NodeId)>,
    persist: persist::PersistProgress,
    checkpoints: checkpoint::Checkpoints,
    memory: evict::Memory,
    disk_full: bool,
    /// The disk has not answered for too long.
    disk_slow: bool,
    decoder_limits: skep_resp::Limits,
    /// Off by `DEBUG SET-ACTIVE-EXPIRE 0`: due keys stay until they are touched.
    active_expire: bool,
    acl: acl::Acl,
    slow: slow::Slow,
    monitors: local::Monitors,
    /// The second of the wall clock that the states know; `None` if one of them is new.
    second_told: Option<u64>,
    /// When connections were last looked at for having been silent too long.
    idle_checked: Millis,
    pubsub: pubsub::PubSub,
    notify: notify::Notify,
    caching: tracking::Caching,
    paused: Option<local::Pause>,
    script_sources: script_sources::ScriptSources,
    ready: bool,
    /// Told to stop, and giving away what it leads since then.
    handing_over: Option<Millis>,
    /// Told to stop, and refusing new commands.
    stopping: bool,
    /// When to stop in any case, if the disk is full.
    stop_by: Option<Millis>,
    stopped: bool,
    stats: Stats,
}

impl Node {
    /// Advances the node by one input. Never blocks; appends what should happen to `out`, in order.
    pub fn handle(&mut self, now: Now, input: Input<'_>, out: &mut Vec<Output>) {
        self.now = Now { mono: self.now.mono.max(now.mono), wall: now.wall };
        match input {
            Input::Received { conn, bytes } => self.on_received(conn, bytes, out),
            Input::Ended { conn } => self.on_ended(conn, out),
            Input::Disconnected { conn } => self.on_disconnected(conn),
            Input::LinkDialed { link } => self.on_link(skep_peer::LinkInput::Dialed { link }, out),
            Input::LinkReceived { link, bytes } => {
                self.on_link(skep_peer::LinkInput::Received { link, bytes }, out);
            }
            Input::LinkClosed { link, reason } => {
                self.on_link(skep_peer::LinkInput::Closed { link, reason }, out);
            }
            Input::CheckpointRead { group, at, chunk, piece } => {
                self.on_checkpoint_read(group, at, chunk, piece);
            }
            Input::IdentitySaved => self.on_identity_saved(out),
            Input::Persisted { through } => self.on_persisted(through, out),
            Input::DiskFull(full) => self.on_disk_full(full, out),
            Input::LogPinned => drop(self.request_checkpoint()),
            Input::CheckpointSaved { group, at } => self.on_checkpoint_saved(group, at, out),
            Input::CheckpointFailed { group, reason } => self.on_checkpoint_failed(group, reason, out),
            Input::Mail(mail) => self.on_mail(mail, out),
            Input::Measured(process) => self.stats.process = Some(process),
            Input::Turn(load) => self.on_turn(load, out),
            Input::Stop => self.begin_stop(),
        }
    }

    /// The next monotonic instant at which the node wants [`Input::Turn`] if nothing else arrives.
    pub fn next_wakeup(&self) -> Option<Millis> {
        let mut next = self.next_timer();
        let mut at_most = |instant: Millis| next = Some(next.map_or(instant, |n| n.min(instant)));
        if let Some(ms) = self.checkpoints.next_step_ms() {
            at_most(self.now.mono.plus(ms));
        }
        if self.fetch.waits_for_disk() {
            at_most(self.now.mono.plus(1));
        }
        if self.makes_room() {
            at_most(self.now.mono.plus(2));
        }
        // Those who wait may have been given their turn as the turn ended.
        let collected = self.shards.iter().any(|shard| !shard.batch.is_empty());
        let told = self.pubsub.has_news() || self.caching.has_news();
        if !self.to_resume.is_empty() || collected || self.may_stop() || told {
            at_most(self.now.mono);
        }
        for shard in &self.shards {
            let Some(replica) = &shard.replica else { continue };
            if shard.digests.is_computing() || replica.rebuild.as_ref().is_some_and(|r| r.catches_up) {
                at_most(self.now.mono);
            }
            if self.may_sweep()
                && replica.leads()
                && shard.is_idle()
                && let Some(deadline) = replica.keyspace.next_deadline()
            {
                at_most(replica.instant_after(deadline, self.now));
            }
            self.next_tick_wanted(shard).into_iter().for_each(&mut at_most);
            replica.group.next_wakeup().into_iter().for_each(&mut at_most);
        }
        if let Some(instant) = self.meta.group.as_ref().and_then(|group| group.next_wakeup()) {
            at_most(instant);
        }
        next
    }

    /// True once the node serves clients: it belongs to a cluster, and every shard had a leader.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// False while so much waits for the disk or for other nodes that clients should not be read. They are not told; TCP
    /// slows them down.
    pub fn accepts_input(&self) -> bool {
        let waiting: usize = self.shards.iter().map(Shard::bytes_waiting).sum();
        let published = self.pubsub.bytes_ahead();
        let waiting = waiting as u64 + self.cells.bytes_elsewhere + self.persist.bytes_waiting + published;
        let cells = self.active_cells() as u64;
        waiting < self.memory.in_flight_bytes_max(cells)
            && self.acknowledged_ahead() < persist::AHEAD_BYTES_MAX / cells
    }

    /// Panics, naming the broken rule, if the state is impossible. Cost: O(keys).
    pub fn assert_invariants(&self) {
        self.shards.iter().for_each(|shard| shard.waiting.assert_invariants());
        for replica in self.shards.iter().filter_map(|s| s.replica.as_ref()) {
            replica.keyspace.assert_invariants();
            replica.group.assert_invariants();
        }
        if let Some(group) = &self.meta.group {
            group.assert_invariants();
        }
        self.peers.links.assert_invariants();
        self.pubsub.table.assert_invariants();
        self.caching.table.assert_invariants(self.caching.keys_max);
    }

    /// The positions up to which this node's replicas of shards have applied the log, and digests of their states there. Cost:
    /// O(state).
    pub fn digests(&self) -> Vec<(GroupId, LogId, u64)> {
        let of = |s: &Shard| s.replica.as_ref().map(|r| (s.id, r.applied, r.keyspace.digest()));
        self.shards.iter().filter_map(of).collect()
    }
}
