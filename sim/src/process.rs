//! The simulated process: the node's cells, its disk threads, and the loops of `shell/server` around them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use skep_base::{ConnId, GroupId, LinkId, LogId, LogIndex, NodeId, NodeUuid};
use skep_log::checkpoint::{CHUNK_BYTES_MAX, tidy};
use skep_log::{
    CheckpointFile, CheckpointHeader, CheckpointReader, GroupLog, LogFault, MemDisk, NodeIdentity, Record,
    Wal,
};
use skep_node::{
    CellId, Identity, Input, LinkLimits, Load, Mail, Node, NodeRecord, Note, Now, Output, RecoverError,
    Recovered, Restoring, Status,
};

use crate::agreed::Agreed;
use crate::disk_threads::{CheckpointEvent, LogEvent, SimCheckpointer, SimLog, SimSource, Step, Turn};
use crate::net::StreamId;
use crate::plan::Plan;
use crate::planted::{DATA, Planted, without_tokens};
use crate::shadow::Shadow;

/// A client's connection: the cell that has it, and its id there.
pub type Conn = (usize, ConnId);

/// What arrived since the last turn.
pub enum Arrival {
    Connect {
        client: usize,
        generation: u64,
    },
    /// The hub has let a client in, under this number, for another cell.
    Welcome {
        client: usize,
        generation: u64,
        number: u64,
    },
    /// Another cell has written.
    Mail(Mail),
    Bytes {
        client: usize,
        generation: u64,
        bytes: Vec<u8>,
    },
    Gone {
        conn: Conn,
    },
    /// The client will send no more, but reads what it is owed.
    Ended {
        conn: Conn,
    },
    CheckpointWanted,
    /// Another node's connection has come.
    LinkAccepted {
        stream: StreamId,
    },
    /// The connection that was dialled is there.
    LinkDialed {
        stream: StreamId,
    },
    /// Bytes that `side` of a connection sent.
    LinkBytes {
        stream: StreamId,
        side: usize,
        bytes: Vec<u8>,
    },
    LinkClosed {
        link: LinkId,
        reason: String,
    },
    /// For a planted bug: a frame that nobody sent.
    Forged {
        link: LinkId,
        frame: Vec<u8>,
    },
    Stop,
}

/// What a node wants of the network.
pub enum LinkOrder {
    Dial { link: LinkId, address: String },
    Close { link: LinkId },
}

/// Where other nodes find the node of a machine.
pub fn peer_address(node: usize) -> String {
    format!("10.0.0.{node}:7379")
}

/// The machine that has an address.
pub fn machine_at(address: &str) -> Option<usize> {
    address.strip_prefix("10.0.0.")?.strip_suffix(":7379")?.parse().ok()
}

/// One cell of the node and the loop around it.
pub struct Cell {
    pub node: Node,
    pub arrivals: Vec<Arrival>,
    /// What the disk threads have to say: that of the log, of checkpoints written, and of those read.
    said: [Vec<Input<'static>>; 3],
    /// When the next turn is.
    pub turn_at: Option<u64>,
    pub outputs: Vec<Output>,
    pub stopped: bool,
    /// Connections that the cell closed.
    pub closed: Vec<ConnId>,
}

pub struct Process {
    /// The hub first.
    pub cells: Vec<Cell>,
    pub log: SimLog,
    /// What the log was given and has not confirmed: its own number, the cell, and the number there.
    tickets: VecDeque<(u64, usize, u64)>,
    tickets_given: u64,
    pub checkpointer: SimCheckpointer,
    pub source: SimSource,
    pub log_busy: bool,
    pub chore_busy: bool,
    pub checkpoint_busy: bool,
    pub source_busy: bool,
    /// Clients whose sockets take no more for now.
    pub blocked: BTreeSet<usize>,
    /// Links to other nodes whose windows are closed.
    pub blocked_links: BTreeSet<LinkId>,
    pub notes: Vec<Note>,
    /// What it wants of the network.
    pub link_orders: Vec<LinkOrder>,
    /// The planted checkpoint that lacks its last entry.
    replaced: Option<Vec<u8>>,
    /// The bytes of the planted checkpoint that lacks tokens, until it is whole.
    whole: Option<Vec<u8>>,
    /// The planted checkpoint that passes for a later one: where it is, and where it is said to be.
    mislabelled: Option<(LogId, LogId)>,
}

/// What one start of a node is told.
pub struct Start {
    /// The machine.
    pub node: usize,
    /// Counts the starts of the machine.
    pub life: u64,
    pub seed: u64,
    pub now: Now,
    /// Peer addresses, as `--join` has them.
    pub join: Vec<String>,
    /// The node that was on the machine before its disk lost everything.
    pub replaces: Option<NodeId>,
    pub planted: Option<Planted>,
    /// Cells of the node.
    pub cells: usize,
}

/// Why a start did not work.
pub enum StartFault {
    Log(LogFault),
    Recover(RecoverError),
}

/// What a disk holds, read back as `skep serve` does.
pub struct Found {
    pub wal: Wal<MemDisk>,
    pub recovered: Recovered,
    pub logs: BTreeMap<GroupId, GroupLog>,
    pub identity: NodeIdentity,
}

/// Reads a disk. One that has no identity yet gets one with `uuid`.
pub fn recover(
    disk: &MemDisk,
    plan: &Plan,
    uuid: NodeUuid,
    planted: Option<Planted>,
) -> Result<Found, StartFault> {
    let identity = match NodeIdentity::read(&mut disk.clone()).map_err(StartFault::Log)? {
        Some(identity) => identity,
        None => {
            let identity = NodeIdentity { uuid, ..NodeIdentity::default() };
            identity.write(&mut disk.clone()).map_err(StartFault::Log)?;
            identity
        }
    };
    let (wal, logs) = Wal::open(disk.clone(), plan.wal_config()).map_err(StartFault::Log)?;
    wal.assert_invariants();
    let files = tidy(&mut disk.clone(), &logs).map_err(StartFault::Log)?;
    let mut believed = logs.clone();
    if planted == Some(Planted::VoteForgotten) {
        believed.values_mut().for_each(forget_vote);
    }
    let mut restoring = Restoring::new(believed);
    for (group, file) in &files {
        let mut reader = CheckpointReader::open(disk.clone(), file).map_err(StartFault::Log)?;
        while let Some(chunk) = reader.next_chunk().map_err(StartFault::Log)? {
            restoring.feed(*group, &chunk).map_err(StartFault::Recover)?;
        }
    }
    let recovered = restoring.finish().map_err(StartFault::Recover)?;
    Ok(Found { wal, recovered, logs, identity })
}

impl Process {
    /// Starts the node from what was recovered.
    pub fn start(plan: &Plan, disk: &MemDisk, found: Found, start: Start) -> Process {
        let Found { wal, recovered, identity, .. } = found;
        let Start { node, life, seed, now, join, replaces, planted, cells: count } = start;
        let replaces = replaces.filter(|_| identity.node == NodeId(0));
        let identity = Identity {
            saved: identity,
            record: NodeRecord {
                name: format!("n{node}"),
                client: format!("10.0.0.{node}:6379"),
                peer: peer_address(node),
                ..NodeRecord::default()
            },
            new_cluster_id: format!("{seed:040x}"),
            run_id: format!("{life:040x}"),
            process_id: life as u32,
            clients_fit: u64::MAX,
            descriptors_fit: u64::MAX,
            incarnation: life,
            seed,
            secret: [7; 32],
            replaces,
            rest: plan.rest(planted),
            link_limits: LinkLimits { piece_bytes: plan.piece_bytes, ..LinkLimits::default() },
            may_damage: true,
        };
        let shares = recovered.split(count).into_iter().enumerate();
        let cells = shares.map(|(index, share)| {
            let mut outputs = Vec::new();
            let (id, settings) = (CellId { index, count }, plan.settings(&join));
            let node = Node::start_cell(identity.clone(), settings, share, id, now, &mut outputs);
            Cell {
                node,
                arrivals: Vec::new(),
                said: Default::default(),
                turn_at: None,
                outputs,
                stopped: false,
                closed: Vec::new(),
            }
        });
        Process {
            cells: cells.collect(),
            tickets: VecDeque::new(),
            tickets_given: 0,
            log: SimLog::new(wal, disk.clone(), planted),
            checkpointer: SimCheckpointer::new(disk.clone()),
            source: SimSource::new(disk.clone()),
            log_busy: false,
            chore_busy: false,
            checkpoint_busy: false,
            source_busy: false,
            blocked: BTreeSet::new(),
            blocked_links: BTreeSet::new(),
            notes: Vec::new(),
            link_orders: Vec::new(),
            replaced: None,
            whole: None,
            mislabelled: None,
        }
    }

    /// The cell that owns what a node has only once.
    pub fn hub(&mut self) -> &mut Node {
        &mut self.cells[0].node
    }

    pub fn is_ready(&self) -> bool {
        self.cells[0].node.is_ready()
    }

    pub fn is_stopped(&self) -> bool {
        self.cells.iter().all(|cell| cell.stopped)
    }

    /// Lets a client into a cell.
    pub fn welcome(
        &mut self,
        machine: usize,
        cell: usize,
        (client, generation): (usize, u64),
        number: u64,
    ) -> ConnId {
        let (address, local) = (format!("10.0.1.{client}:{generation}"), format!("10.0.0.{machine}:6379"));
        self.cells[cell].node.welcome(number, address, local)
    }

    /// Of all cells together.
    pub fn status(&self) -> Status {
        let mut status = self.cells[0].node.status();
        self.cells[1..].iter().for_each(|cell| status.absorb(cell.node.status()));
        status
    }

    pub fn digests(&self) -> Vec<(GroupId, LogId, u64)> {
        self.cells.iter().flat_map(|cell| cell.node.digests()).collect()
    }

    /// Gives each cell what the disk threads have to say to it, and says which cells that are.
    pub fn deal_out(&mut self) -> BTreeSet<usize> {
        let mut told = BTreeSet::new();
        for event in std::mem::take(&mut self.log.events) {
            match event {
                LogEvent::Durable { ticket } => self.on_durable(ticket, &mut told),
                LogEvent::Full(full) => self.say_to_all(|| Input::DiskFull(full), &mut told),
                LogEvent::Pinned => self.say_to_all(|| Input::LogPinned, &mut told),
            }
        }
        for event in std::mem::take(&mut self.checkpointer.events) {
            self.say(1, event, &mut told);
        }
        for event in std::mem::take(&mut self.source.events) {
            self.say(2, event, &mut told);
        }
        told
    }

    fn on_durable(&mut self, ticket: u64, told: &mut BTreeSet<usize>) {
        let mut through = BTreeMap::new();
        while self.tickets.front().is_some_and(|(given, ..)| *given <= ticket) {
            let (_, cell, number) = self.tickets.pop_front().expect("seen in the loop's condition");
            through.insert(cell, number);
        }
        for (cell, through) in through {
            self.cells[cell].said[0].push(Input::Persisted { through });
            told.insert(cell);
        }
    }

    fn say_to_all(&mut self, input: impl Fn() -> Input<'static>, told: &mut BTreeSet<usize>) {
        for (number, cell) in self.cells.iter_mut().enumerate() {
            cell.said[0].push(input());
            told.insert(number);
        }
    }

    fn say(&mut self, queue: usize, event: CheckpointEvent, told: &mut BTreeSet<usize>) {
        let (group, input) = {
            let input = match event {
                CheckpointEvent::Written(file) => {
                    let label = self.mislabelled.filter(|(_, to)| file.group == DATA && *to == file.at);
                    let at = label.map_or(file.at, |(from, _)| from);
                    Input::CheckpointSaved { group: file.group, at }
                }
                CheckpointEvent::Refused { group, fault } => {
                    Input::CheckpointFailed { group, reason: fault.to_string() }
                }
                CheckpointEvent::IdentitySaved => Input::IdentitySaved,
                CheckpointEvent::Read { group, at, chunk, piece } => {
                    Input::CheckpointRead { group, at, chunk, piece }
                }
            };
            let group = match &input {
                Input::CheckpointSaved { group, .. }
                | Input::CheckpointFailed { group, .. }
                | Input::CheckpointRead { group, .. } => *group,
                _ => GroupId::META,
            };
            (group, input)
        };
        let cell = CellId::home(self.cells.len(), group);
        self.cells[cell].said[queue].push(input);
        told.insert(cell);
    }

    /// Hands a cell what the disk threads have said to it.
    pub fn take_said(&mut self, cell: usize, now: Now) {
        let Cell { node, said, outputs, .. } = &mut self.cells[cell];
        for input in said.iter_mut().flat_map(std::mem::take) {
            node.handle(now, input, outputs);
        }
    }

    pub fn handle(&mut self, cell: usize, now: Now, input: Input<'_>) {
        let Cell { node, outputs, .. } = &mut self.cells[cell];
        node.handle(now, input, outputs);
    }

    /// Ends a cell's turn. About 100 bytes a key stand for the allocator's figure.
    pub fn end_turn(&mut self, cell: usize, now: Now, keys: u64) {
        let load = Load { memory_used: 500 + 100 * keys, checkpoint_bytes: self.checkpointer.queued_bytes };
        self.handle(cell, now, Input::Turn(load));
    }

    /// Takes note of what a cell gave out to be logged in this turn.
    pub fn issue(&mut self, cell: usize, shadow: &mut Shadow) -> Result<(), String> {
        for output in &mut self.cells[cell].outputs {
            if let Output::Persist { number, records } = output {
                if let Some((from, to)) = self.mislabelled {
                    relabel(records, from, to);
                }
                self.tickets_given += 1;
                self.tickets.push_back((self.tickets_given, cell, *number));
                *number = self.tickets_given;
                shadow.issue(*number, records)?;
            }
        }
        Ok(())
    }

    /// Carries out what a cell asked for.
    pub fn carry_out(
        &mut self,
        cell: usize,
        agreed: &Agreed,
        planted: Option<Planted>,
    ) -> Result<(), String> {
        for output in std::mem::take(&mut self.cells[cell].outputs) {
            self.carry_out_one(cell, output, agreed, planted)?;
        }
        Ok(())
    }

    fn carry_out_one(
        &mut self,
        cell: usize,
        output: Output,
        agreed: &Agreed,
        planted: Option<Planted>,
    ) -> Result<(), String> {
        match output {
            Output::Persist { number, records } => {
                self.log.submit(Turn { ticket: number, records, must_sync: true });
            }
            Output::CheckpointBegin { group, mut at, membership } => {
                if planted == Some(Planted::CheckpointLacksLastEntry) && group == DATA {
                    let before = LogIndex(at.index.0 - 1);
                    self.replaced = Some(agreed.checkpoint_bytes(group, before)?);
                }
                if planted == Some(Planted::CheckpointLacksTokens) && group == DATA {
                    self.whole = Some(Vec::new());
                }
                let written = self.log.appended;
                if planted == Some(Planted::LogTruncatedBeyondCheckpoint)
                    && group == DATA
                    && written.index > at.index
                {
                    self.mislabelled = Some((at, written));
                    at = written;
                }
                self.checkpointer.push(Step::Begin(CheckpointHeader { group, at, membership }));
            }
            Output::CheckpointChunk { group, bytes } => {
                if let Some(whole) = self.whole.as_mut().filter(|_| group == DATA) {
                    whole.extend_from_slice(&bytes);
                } else if group != DATA || self.replaced.is_none() {
                    self.push_chunks(group, &bytes);
                }
            }
            Output::CheckpointFinish { group } => {
                if group == DATA
                    && let Some(bytes) = self.replaced.take()
                {
                    self.push_chunks(group, &bytes);
                }
                if group == DATA
                    && let Some(whole) = self.whole.take()
                {
                    self.push_chunks(group, &without_tokens(&whole));
                }
                self.checkpointer.push(Step::Finish(group));
            }
            Output::CheckpointAbandon { group } => self.checkpointer.push(Step::Abandon(group)),
            Output::CheckpointRecorded { group, at } => self.checkpointer.push(Step::RemoveOlder(group, at)),
            Output::ReadCheckpoint { group, at, chunk } => {
                self.source.ask(CheckpointFile { group, at }, chunk);
            }
            Output::SaveIdentity(identity) => self.checkpointer.push(Step::SaveIdentity(identity)),
            Output::Gateway(_) => {}   // no gateway runs in this simulation
            Output::SavePeers(_) => {} // read by starts that this simulation does not have
            Output::Dial { link, address } => self.link_orders.push(LinkOrder::Dial { link, address }),
            Output::CloseLink { link } => self.link_orders.push(LinkOrder::Close { link }),
            Output::Drop(garbage) => drop(garbage),
            Output::Close { conn } => self.cells[cell].closed.push(conn),
            Output::Note(note) => self.notes.push(note),
            Output::Stopped => self.cells[cell].stopped = true,
        }
        Ok(())
    }

    fn push_chunks(&mut self, group: GroupId, bytes: &[u8]) {
        for piece in bytes.chunks(CHUNK_BYTES_MAX) {
            self.checkpointer.push(Step::Chunk(group, piece.to_vec()));
        }
    }
}

/// For the planted bug that frees entries which are not in the checkpoint: the checkpoint passes for a later one.
fn relabel(records: &mut [Record], from: LogId, to: LogId) {
    for record in records {
        if let Record::Checkpoint { group: DATA, at, .. } = record
            && *at == from
        {
            *at = to;
        }
    }
}

/// For the planted bug: the term is the last entry's, and nobody was voted for in it.
fn forget_vote(log: &mut GroupLog) {
    log.hard_state.term = log.entries.last().map_or(log.checkpoint.term, |entry| entry.id.term);
    log.hard_state.vote = None;
}
