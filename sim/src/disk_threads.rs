//! The log writer and the checkpointer of `shell/disk` as steps of the simulation: the same decisions, one at a time, with
//! delays where the threads wait for the disk.

use std::collections::{BTreeMap, VecDeque};

use skep_base::{GroupId, LogId, Rng};
use skep_log::checkpoint::remove_older;
use skep_log::{
    CheckpointFile, CheckpointHeader, CheckpointReader, CheckpointWriter, Chore, LogFault, MemDisk,
    NodeIdentity, Record, Wal, record_len,
};
use skep_node::Piece;

use crate::planted::{DATA, Planted};

/// As in the log writer, scaled to small segments.
const BATCH_BYTES_MAX: usize = 32 << 10;
const ROOM_BYTES_MIN: u64 = 2 * BATCH_BYTES_MAX as u64;
const HELD_RECORDS_MAX: usize = 64;
const PINNED_BATCHES: u64 = 32;

/// What one turn of the node wants made durable.
pub struct Turn {
    pub ticket: u64,
    pub records: Vec<Record>,
    pub must_sync: bool,
}

/// What the log tells the node.
pub enum LogEvent {
    Durable { ticket: u64 },
    Full(bool),
    Pinned,
}

/// What the log thread does next, and so how long it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    Nothing,
    Write,
    Sync,
    RetryWhenFull,
}

/// The log thread and its chore thread.
pub struct SimLog {
    pub wal: Wal<MemDisk>,
    disk: MemDisk,
    turns: VecDeque<Turn>,
    held: Vec<Record>,
    /// Written, not synced: the ticket that it answers.
    unsynced: Option<u64>,
    /// The last ticket that a sync has confirmed.
    pub durable: u64,
    /// The last entry of the data shard that was written, for a planted bug.
    pub appended: LogId,
    pub chore: Option<Chore>,
    chore_full: bool,
    append_full: bool,
    told_full: bool,
    pinned_at: usize,
    pub events: Vec<LogEvent>,
    pub merged_turns: u64,
    planted: Option<Planted>,
}

impl SimLog {
    pub fn new(wal: Wal<MemDisk>, disk: MemDisk, planted: Option<Planted>) -> SimLog {
        SimLog {
            wal,
            disk,
            turns: VecDeque::new(),
            held: Vec::new(),
            unsynced: None,
            durable: 0,
            appended: LogId::default(),
            chore: None,
            chore_full: false,
            append_full: false,
            told_full: false,
            pinned_at: 0,
            events: Vec::new(),
            merged_turns: 0,
            planted,
        }
    }

    pub fn submit(&mut self, turn: Turn) {
        self.turns.push_back(turn);
    }

    pub fn next(&self) -> Next {
        match () {
            _ if self.unsynced.is_some() => Next::Sync,
            _ if self.turns.is_empty() => Next::Nothing,
            _ if self.append_full => Next::RetryWhenFull,
            _ => Next::Write,
        }
    }

    /// Does what [`SimLog::next`] says.
    pub fn step(&mut self, rng: &mut Rng) -> Result<(), LogFault> {
        match self.next() {
            Next::Nothing => Ok(()),
            Next::Sync => self.sync(),
            Next::Write | Next::RetryWhenFull => self.commit(rng),
        }
    }

    /// Makes one batch of turns that wait: of all, or of as many as had come when the thread looked.
    fn commit(&mut self, rng: &mut Rng) -> Result<(), LogFault> {
        let seen =
            if rng.one_in(4) { 1 + rng.below(self.turns.len() as u64) as usize } else { self.turns.len() };
        let (mut count, mut bytes, mut must_sync) = (0, 0, false);
        for turn in self.turns.iter().take(seen) {
            let turn_bytes: usize = turn.records.iter().map(record_len).sum();
            if count > 0 && bytes + turn_bytes > BATCH_BYTES_MAX {
                break;
            }
            count += 1;
            bytes += turn_bytes;
            must_sync |= turn.must_sync;
        }
        let ticket = self.turns[count - 1].ticket;
        for turn in self.turns.iter_mut().take(count) {
            self.held.append(&mut turn.records);
        }
        if !must_sync && self.held.len() <= HELD_RECORDS_MAX {
            self.turns.drain(..count);
            self.events.push(LogEvent::Durable { ticket });
            return Ok(());
        }
        let appended = self.wal.append(&self.held);
        self.append_full = appended.as_ref().is_err_and(LogFault::is_full);
        self.note_space();
        if self.append_full {
            return Ok(());
        }
        appended?;
        for record in &self.held {
            if let Record::Append { group: DATA, entries } = record {
                self.appended = entries.last().map_or(self.appended, |e| e.id);
            }
        }
        self.merged_turns += count as u64 - 1;
        self.held.clear();
        self.turns.drain(..count);
        self.unsynced = Some(ticket);
        if self.planted == Some(Planted::AcknowledgeBeforeSync) {
            self.events.push(LogEvent::Durable { ticket });
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), LogFault> {
        self.wal.sync()?;
        let ticket = self.unsynced.take().expect("the next step is a sync only after a write");
        self.durable = ticket;
        if self.planted != Some(Planted::AcknowledgeBeforeSync) {
            self.events.push(LogEvent::Durable { ticket });
        }
        self.wal.assert_invariants();
        self.note_pinned();
        Ok(())
    }

    /// A chore to be run, if there is one.
    pub fn start_chore(&mut self) -> bool {
        if self.chore.is_none() {
            self.chore = self.wal.next_chore();
            return self.chore.is_some();
        }
        false
    }

    /// Runs the chore. True if the disk was full, so that the next one is to be tried later.
    pub fn run_chore(&mut self) -> Result<bool, LogFault> {
        let Some(chore) = self.chore.take() else { return Ok(false) };
        let outcome = chore.run(&mut self.disk);
        let done = self.wal.on_chore(outcome);
        self.chore_full = done.as_ref().is_err_and(LogFault::is_full);
        if !self.chore_full {
            done?;
        }
        self.note_space();
        Ok(self.chore_full)
    }

    fn note_space(&mut self) {
        let short = self.wal.room() < ROOM_BYTES_MIN && self.wal.stats().segments_prepared == 0;
        let full = self.append_full || short && (self.chore_full || self.told_full);
        if std::mem::replace(&mut self.told_full, full) != full {
            self.events.push(LogEvent::Full(full));
        }
    }

    fn note_pinned(&mut self) {
        let stats = self.wal.stats();
        if stats.segments_used == self.pinned_at && !stats.batches.is_multiple_of(PINNED_BATCHES) {
            return;
        }
        self.pinned_at = stats.segments_used;
        if !self.wal.pinned_by().is_empty() {
            self.events.push(LogEvent::Pinned);
        }
    }
}

/// One step of a checkpoint.
pub enum Step {
    Begin(CheckpointHeader),
    Chunk(GroupId, Vec<u8>),
    Finish(GroupId),
    Abandon(GroupId),
    RemoveOlder(GroupId, LogId),
    SaveIdentity(NodeIdentity),
}

/// What became of checkpoints.
pub enum CheckpointEvent {
    Written(CheckpointFile),
    Refused { group: GroupId, fault: LogFault },
    IdentitySaved,
    Read { group: GroupId, at: LogId, chunk: u64, piece: Piece },
}

/// The checkpoint thread.
pub struct SimCheckpointer {
    disk: MemDisk,
    steps: VecDeque<Step>,
    open: BTreeMap<GroupId, Option<CheckpointWriter<MemDisk>>>,
    pub queued_bytes: u64,
    pub events: Vec<CheckpointEvent>,
    pub written: u64,
}

impl SimCheckpointer {
    pub fn new(disk: MemDisk) -> SimCheckpointer {
        SimCheckpointer {
            disk,
            steps: VecDeque::new(),
            open: BTreeMap::new(),
            queued_bytes: 0,
            events: Vec::new(),
            written: 0,
        }
    }

    pub fn push(&mut self, step: Step) {
        if let Step::Chunk(_, bytes) = &step {
            self.queued_bytes += bytes.len() as u64;
        }
        self.steps.push_back(step);
    }

    pub fn is_idle(&self) -> bool {
        self.steps.is_empty()
    }

    /// Does the next step.
    pub fn step(&mut self) -> Result<(), LogFault> {
        let Some(step) = self.steps.pop_front() else { return Ok(()) };
        let (group, done) = match step {
            Step::Begin(header) => (header.group, self.begin(&header)),
            Step::Chunk(group, bytes) => {
                self.queued_bytes -= bytes.len() as u64;
                (group, self.chunk(group, &bytes))
            }
            Step::Finish(group) => (group, self.finish(group)),
            Step::Abandon(group) => (group, self.abandon(group)),
            Step::RemoveOlder(group, at) => (group, remove_older(&mut self.disk, group, at)),
            Step::SaveIdentity(identity) => return self.save_identity(identity),
        };
        let Err(fault) = done else { return Ok(()) };
        if !fault.is_full() {
            return Err(fault);
        }
        self.abandon(group)?;
        self.open.insert(group, None);
        self.events.push(CheckpointEvent::Refused { group, fault });
        Ok(())
    }

    /// Tried again until there is space.
    fn save_identity(&mut self, identity: NodeIdentity) -> Result<(), LogFault> {
        match identity.write(&mut self.disk) {
            Ok(()) => self.events.push(CheckpointEvent::IdentitySaved),
            Err(fault) if fault.is_full() => self.steps.push_front(Step::SaveIdentity(identity)),
            Err(fault) => return Err(fault),
        }
        Ok(())
    }

    fn begin(&mut self, header: &CheckpointHeader) -> Result<(), LogFault> {
        self.abandon(header.group)?;
        let writer = CheckpointWriter::create(self.disk.clone(), header)?;
        self.open.insert(header.group, Some(writer));
        Ok(())
    }

    fn chunk(&mut self, group: GroupId, bytes: &[u8]) -> Result<(), LogFault> {
        match self.open.get_mut(&group) {
            Some(Some(writer)) => writer.chunk(bytes),
            _ => Ok(()),
        }
    }

    fn finish(&mut self, group: GroupId) -> Result<(), LogFault> {
        if let Some(Some(writer)) = self.open.remove(&group) {
            let file = writer.finish()?;
            self.written += 1;
            self.events.push(CheckpointEvent::Written(file));
        }
        Ok(())
    }

    fn abandon(&mut self, group: GroupId) -> Result<(), LogFault> {
        match self.open.remove(&group) {
            Some(Some(writer)) => writer.abandon(),
            _ => Ok(()),
        }
    }
}

/// The thread that reads checkpoints for other nodes.
pub struct SimSource {
    disk: MemDisk,
    asked: VecDeque<(CheckpointFile, u64)>,
    pub events: Vec<CheckpointEvent>,
}

impl SimSource {
    pub fn new(disk: MemDisk) -> SimSource {
        SimSource { disk, asked: VecDeque::new(), events: Vec::new() }
    }

    pub fn ask(&mut self, file: CheckpointFile, chunk: u64) {
        self.asked.push_back((file, chunk));
    }

    pub fn is_idle(&self) -> bool {
        self.asked.is_empty()
    }

    /// Reads the chunk that was asked for first.
    pub fn step(&mut self) -> Result<(), LogFault> {
        let Some((file, chunk)) = self.asked.pop_front() else { return Ok(()) };
        let piece = match self.read(&file, chunk) {
            Ok(piece) => piece,
            Err(LogFault::Damaged { .. }) => Piece::Gone, // removed by now
            Err(fault) => return Err(fault),
        };
        let CheckpointFile { group, at } = file;
        self.events.push(CheckpointEvent::Read { group, at, chunk, piece });
        Ok(())
    }

    fn read(&self, file: &CheckpointFile, chunk: u64) -> Result<Piece, LogFault> {
        let mut reader = CheckpointReader::open(self.disk.clone(), file)?;
        let mut found = reader.next_chunk()?;
        for _ in 0..chunk {
            found = match found {
                Some(_) => reader.next_chunk()?,
                None => None,
            };
        }
        let Some(bytes) = found else {
            // A checkpoint of nothing has no chunk, and its reader still wants to hear of its end.
            return Ok(if chunk == 0 { Piece::Bytes { bytes: Vec::new(), last: true } } else { Piece::Gone });
        };
        let last = reader.next_chunk()?.is_none();
        Ok(Piece::Bytes { bytes: bytes.to_vec(), last })
    }
}
