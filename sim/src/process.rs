//! The simulated process: the node, its disk threads, and the loop of `shell/server` around them.

use std::collections::BTreeSet;

use skep_base::{ConnId, GroupId, LogIndex, NodeId};
use skep_log::checkpoint::{CHUNK_BYTES_MAX, tidy};
use skep_log::{CheckpointHeader, CheckpointReader, GroupLog, LogFault, MemDisk, Wal};
use skep_node::{
    Identity, Input, Load, Node, NodeRecord, Note, Now, Output, RecoverError, Recovered, Restoring,
};

use crate::disk_threads::{CheckpointEvent, LogEvent, SimCheckpointer, SimLog, Step, Turn};
use crate::plan::Plan;
use crate::planted::{DATA, Planted};
use crate::reference::Reference;

/// What arrived since the last turn.
pub enum Arrival {
    Connect {
        client: usize,
        generation: u64,
    },
    Bytes {
        client: usize,
        generation: u64,
        bytes: Vec<u8>,
    },
    Gone {
        conn: ConnId,
    },
    /// The client will send no more, but reads what it is owed.
    Ended {
        conn: ConnId,
    },
    CheckpointWanted,
    Stop,
}

pub struct Process {
    pub node: Node,
    pub log: SimLog,
    pub checkpointer: SimCheckpointer,
    pub arrivals: Vec<Arrival>,
    /// When the next turn is.
    pub turn_at: Option<u64>,
    pub log_busy: bool,
    pub chore_busy: bool,
    pub checkpoint_busy: bool,
    /// Clients whose sockets take no more for now.
    pub blocked: BTreeSet<usize>,
    pub outputs: Vec<Output>,
    pub stopped: bool,
    pub notes: Vec<Note>,
    /// Connections that the node closed.
    pub closed: Vec<ConnId>,
    /// The planted checkpoint that lacks its last entry.
    replaced: Option<Vec<u8>>,
}

/// Why a start did not work.
pub enum StartFault {
    Log(LogFault),
    Recover(RecoverError),
}

/// What a disk holds, read back as `skep serve` does.
pub fn recover(disk: &MemDisk, plan: &Plan) -> Result<(Wal<MemDisk>, Recovered, GroupLog), StartFault> {
    let (wal, logs) = Wal::open(disk.clone(), plan.wal_config()).map_err(StartFault::Log)?;
    wal.assert_invariants();
    let data = logs.get(&DATA).cloned().unwrap_or_default();
    let files = tidy(&mut disk.clone(), &logs).map_err(StartFault::Log)?;
    let mut restoring = Restoring::new(logs);
    for (group, file) in &files {
        let mut reader = CheckpointReader::open(disk.clone(), file).map_err(StartFault::Log)?;
        while let Some(chunk) = reader.next_chunk().map_err(StartFault::Log)? {
            restoring.feed(*group, &chunk).map_err(StartFault::Recover)?;
        }
    }
    let recovered = restoring.finish().map_err(StartFault::Recover)?;
    Ok((wal, recovered, data))
}

/// The last entry of a group's log.
pub fn last_of(log: &GroupLog) -> LogIndex {
    log.entries.last().map_or(log.checkpoint.index, |e| e.id.index)
}

impl Process {
    /// Starts the node from what was recovered. `life` counts the starts.
    pub fn start(
        plan: &Plan,
        disk: &MemDisk,
        found: (Wal<MemDisk>, Recovered, LogIndex),
        life: u64,
        seed: u64,
        now: Now,
        planted: Option<Planted>,
    ) -> Process {
        let (wal, recovered, last) = found;
        let identity = Identity {
            node: NodeId(1),
            record: NodeRecord {
                name: "n1".into(),
                client: "127.0.0.1:6379".into(),
                ..NodeRecord::default()
            },
            new_cluster_id: format!("{:040x}", seed),
            run_id: format!("{life:040x}"),
            process_id: life as u32,
            clients_fit: u64::MAX,
            incarnation: life,
            seed,
        };
        let mut outputs = Vec::new();
        let node = Node::start(identity, plan.settings(), recovered, now, &mut outputs);
        Process {
            node,
            log: SimLog::new(wal, disk.clone(), last, planted),
            checkpointer: SimCheckpointer::new(disk.clone()),
            arrivals: Vec::new(),
            turn_at: None,
            log_busy: false,
            chore_busy: false,
            checkpoint_busy: false,
            blocked: BTreeSet::new(),
            outputs,
            stopped: false,
            notes: Vec::new(),
            closed: Vec::new(),
            replaced: None,
        }
    }

    /// The last entry of the data shard that the node applied.
    pub fn applied(&self) -> LogIndex {
        self.node.status().shards.first().map_or(LogIndex(0), |s| LogIndex(s.applied))
    }

    /// Hands the node what the disk threads have to say.
    pub fn take_disk_events(&mut self, now: Now) {
        for event in std::mem::take(&mut self.log.events) {
            let input = match event {
                LogEvent::Durable { ticket } => Input::Persisted { through: ticket },
                LogEvent::Full(full) => Input::DiskFull(full),
                LogEvent::Pinned => Input::LogPinned,
            };
            self.node.handle(now, input, &mut self.outputs);
        }
        for event in std::mem::take(&mut self.checkpointer.events) {
            let input = match event {
                CheckpointEvent::Written(file) => {
                    let at = if file.group == DATA { self.log.unlabel(file.at) } else { file.at };
                    Input::CheckpointSaved { group: file.group, at }
                }
                CheckpointEvent::Refused { group, fault } => {
                    Input::CheckpointFailed { group, reason: fault.to_string() }
                }
            };
            self.node.handle(now, input, &mut self.outputs);
        }
    }

    /// Ends the turn. About 100 bytes a key stand for the allocator's figure.
    pub fn end_turn(&mut self, now: Now, keys: u64) {
        let load = Load { memory_used: 500 + 100 * keys, checkpoint_bytes: self.checkpointer.queued_bytes };
        self.node.handle(now, Input::Turn(load), &mut self.outputs);
    }

    /// Carries out what the node asked for.
    pub fn carry_out(&mut self, reference: &mut Reference, planted: Option<Planted>) -> Result<(), String> {
        let outputs = std::mem::take(&mut self.outputs);
        for output in &outputs {
            if let Output::Persist { records, .. } = output {
                for record in records {
                    if let skep_log::Record::Append { group: DATA, entries } = record {
                        reference.issue(entries)?;
                    }
                }
            }
        }
        reference.advance(self.applied().min(self.log.durable))?;
        for output in outputs {
            self.carry_out_one(output, reference, planted);
        }
        Ok(())
    }

    fn carry_out_one(&mut self, output: Output, reference: &mut Reference, planted: Option<Planted>) {
        match output {
            Output::Persist { number, records } => {
                self.log.submit(Turn { ticket: number, records, must_sync: true });
            }
            Output::CheckpointBegin { group, mut at, membership } => {
                if planted == Some(Planted::LogTruncatedBeyondCheckpoint) && group == DATA {
                    at = self.log.mislabel(at);
                }
                self.checkpointer.push(Step::Begin(CheckpointHeader { group, at, membership }));
                if planted == Some(Planted::CheckpointLacksLastEntry) && group == DATA {
                    self.replaced = reference.behind.as_mut().map(|behind| whole_cut(&mut behind.keyspace));
                }
            }
            Output::CheckpointChunk { group, bytes } => {
                if group != DATA || self.replaced.is_none() {
                    self.push_chunks(group, &bytes);
                }
            }
            Output::CheckpointFinish { group } => {
                if group == DATA
                    && let Some(bytes) = self.replaced.take()
                {
                    self.push_chunks(group, &bytes);
                }
                self.checkpointer.push(Step::Finish(group));
            }
            Output::CheckpointAbandon { group } => self.checkpointer.push(Step::Abandon(group)),
            Output::CheckpointRecorded { group, at } => self.checkpointer.push(Step::RemoveOlder(group, at)),
            Output::Drop(garbage) => drop(garbage),
            Output::Close { conn } => self.closed.push(conn),
            Output::Note(note) => self.notes.push(note),
            Output::Stopped => self.stopped = true,
        }
    }

    fn push_chunks(&mut self, group: GroupId, bytes: &[u8]) {
        for piece in bytes.chunks(CHUNK_BYTES_MAX) {
            self.checkpointer.push(Step::Chunk(group, piece.to_vec()));
        }
    }
}

fn whole_cut(keyspace: &mut skep_keyspace::Keyspace) -> Vec<u8> {
    let mut bytes = Vec::new();
    keyspace.begin_cut();
    while !keyspace.cut_step(&mut bytes, 1 << 20) {}
    bytes
}
