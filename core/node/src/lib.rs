//! One node as a machine: connections, the meta group, a data shard, and what they ask of disk and network.
//!
//! Pure. The shell feeds it [`Input`]s with the time, carries out its [`Output`]s, and moves the bytes of
//! [`Node::unsent`] to the clients; the simulator does the same from a seed. A turn ends with [`Input::Turn`], which
//! proposes what came in as one log entry: everything is batched by turn, nothing is delayed by a timer.

mod apply;
mod batch;
mod checkpoint;
mod client;
mod configure;
mod entry;
mod evict;
mod local;
mod on_client;
mod on_log;
mod recover;
mod shard;
mod stats;
mod status;
#[cfg(test)]
mod testing;

use std::collections::VecDeque;

use skep_base::{ConnId, GroupId, LogId, Millis, NodeId, Rng};
use skep_consensus::Group;
use skep_keyspace::Garbage;
use skep_log::{Membership, Record};
use skep_settings::Settings;

pub use recover::{Identity, RecoverError, Recovered, RecoveredCheckpoint, Restoring};
pub use skep_placement::{MetaState, NodeRecord, ShardRecord};
pub use status::{ShardStatus, Status};

use client::Clients;
use shard::Shard;
use stats::Stats;

/// The group of the one data shard.
pub const DATA: GroupId = GroupId(1);

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
    /// New figures of the process; once a second is enough.
    Measured(Process),
    /// The end of a loop turn, or the instant of [`Node::next_wakeup`].
    Turn(Load),
    /// Finish what is in flight, then [`Output::Stopped`]. New commands are refused.
    Stop,
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
}

/// The state of one node.
pub struct Node {
    id: NodeId,
    /// 40 hexadecimal digits, another in each run.
    run_id: String,
    process_id: u32,
    /// See [`Identity::clients_fit`].
    clients_fit: u64,
    settings: Settings,
    started: Now,
    now: Now,
    /// For reads' random choices and the seeds of entries.
    rng: Rng,
    routes: local::Routes,
    clients: Clients,
    /// Clients with something to send, each once.
    with_output: VecDeque<ConnId>,
    /// Clients whose input waits for replies that have come.
    to_resume: Vec<ConnId>,
    meta: MetaState,
    meta_group: Group,
    meta_applied: LogId,
    /// The position of the meta group's newest checkpoint.
    meta_saved: LogId,
    shard: Shard,
    /// The record this node announces for itself.
    announced: NodeRecord,
    new_cluster_id: String,
    /// Effects of a group being carried out; kept for its memory.
    effects: Vec<skep_consensus::Output>,
    /// Persist outputs given out, and those durable.
    persist: on_log::PersistProgress,
    checkpoints: checkpoint::Checkpoints,
    memory: evict::Memory,
    disk_full: bool,
    decoder_limits: skep_resp::Limits,
    /// Off by `DEBUG SET-ACTIVE-EXPIRE 0`: due keys stay until they are touched.
    active_expire: bool,
    /// When connections were last looked at for having been silent too long.
    idle_checked: Millis,
    paused: Option<local::Pause>,
    ready: bool,
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
            Input::Ended { conn } => self.on_ended(conn),
            Input::Disconnected { conn } => self.on_disconnected(conn),
            Input::Persisted { through } => self.on_persisted(through, out),
            Input::DiskFull(full) => self.on_disk_full(full, out),
            Input::LogPinned => drop(self.request_checkpoint()),
            Input::CheckpointSaved { group, at } => self.on_checkpoint_saved(group, at, out),
            Input::CheckpointFailed { group, reason } => self.on_checkpoint_failed(group, reason, out),
            Input::Measured(process) => self.stats.process = Some(process),
            Input::Turn(load) => self.on_turn(load, out),
            Input::Stop => self.stopping = true,
        }
    }

    /// The next monotonic instant at which the node wants [`Input::Turn`] if nothing else arrives.
    pub fn next_wakeup(&self) -> Option<Millis> {
        let mut next = self.next_timer();
        let mut at_most = |instant: Millis| next = Some(next.map_or(instant, |n| n.min(instant)));
        if let Some(ms) = self.checkpoints.next_step_ms() {
            at_most(self.now.mono.plus(ms));
        }
        if !self.to_resume.is_empty() || self.may_stop() {
            at_most(self.now.mono);
        }
        if self.may_sweep()
            && self.shard.group.is_leader()
            && self.shard.is_idle()
            && let Some(deadline) = self.shard.keyspace.next_deadline()
        {
            at_most(self.shard.instant_after(deadline, self.now));
        }
        for group in [&self.meta_group, &self.shard.group] {
            if let Some(instant) = group.next_wakeup() {
                at_most(instant);
            }
        }
        next
    }

    /// True once the node serves clients: its groups have leaders and everything recovered is applied.
    pub fn is_ready(&self) -> bool {
        self.ready
    }

    /// False while so much waits for the disk that clients should not be read. They are not told; TCP slows them down.
    pub fn accepts_input(&self) -> bool {
        let waiting = self.shard.bytes_waiting() as u64 + self.persist.bytes_waiting;
        waiting < self.memory.in_flight_bytes_max()
    }

    /// Panics, naming the broken rule, if the state is impossible. Cost: O(keys).
    pub fn assert_invariants(&self) {
        self.shard.keyspace.assert_invariants();
        self.shard.group.assert_invariants();
        self.meta_group.assert_invariants();
        let pending: u64 = self.clients.iter().map(|c| u64::from(c.pending)).sum();
        let waited_for = self.shard.ops_waiting() + usize::from(self.checkpoints.is_awaited());
        assert!(pending <= waited_for as u64, "INV-NODE-1: clients wait for {pending} operations");
    }

    /// A digest of the shard's replicated state. Cost: O(state).
    pub fn digest(&self) -> u64 {
        self.shard.keyspace.digest()
    }
}
