//! When to take a checkpoint, and its way to the disk in steps that stall nobody.
//!
//! One checkpoint is written at a time. The meta group's state is one chunk; a shard's is a cut, of which each turn gives
//! out a piece while the shell has room for it. Once the file is durable the group records it, which frees the log.

use std::collections::VecDeque;

use skep_base::{ConnId, GroupId, LogId, Millis, Refusal};
use skep_consensus as consensus;
use skep_resp::Reply;

use crate::cells::{Caller, Part};
use crate::{Node, Note, Output};

/// Bytes of a cut per turn: about 100 us of work.
const STEP_BYTES: usize = 128 << 10;
/// Bytes with the shell, not written yet, above which no step is taken. Bounds the extra memory of a checkpoint.
pub(crate) const BYTES_AHEAD_MAX: u64 = 1 << 20;

/// The progress of checkpoints.
#[derive(Default)]
pub(crate) struct Checkpoints {
    /// Groups whose turn comes after the current one.
    queue: VecDeque<GroupId>,
    current: Option<Current>,
    /// Bytes of chunks with the shell, not written yet, at the last turn.
    pub bytes_ahead: u64,
    /// Bytes of entries logged since the last checkpoint was begun.
    log_bytes: u64,
    /// When the last one was saved, wall time in ms; the start of the process before the first.
    pub last_saved: u64,
    pub last_failed: bool,
    /// When the one under way was asked for, monotonic.
    asked: Millis,
    /// How long the last one took, from when it was asked for; `None` before the first.
    pub last_took_ms: Option<u64>,
    /// How many were saved since the start of the process.
    pub saved: u64,
    /// Who waits for the one under way.
    saver: Option<Saver>,
    /// Clients of any cell that wait for this cell's.
    callers: Vec<Caller>,
}

/// A client whose `SAVE` waits. It is the only one: while it waits a checkpoint is under way, and another `SAVE` is refused.
struct Saver {
    conn: ConnId,
    seq: u64,
    /// False if it wants no reply.
    heard: bool,
}

struct Current {
    group: GroupId,
    at: LogId,
    /// The whole state of the meta group at `at`.
    meta: Option<Vec<u8>>,
    /// The disk is behind.
    waits: bool,
    /// All chunks are given out.
    finished: bool,
}

impl Checkpoints {
    pub fn new(wall: Millis) -> Checkpoints {
        Checkpoints { last_saved: wall.0, ..Checkpoints::default() }
    }

    /// Takes note that the log grew.
    pub fn on_logged(&mut self, bytes: u64) {
        self.log_bytes += bytes;
    }

    /// In how many milliseconds the next turn should come.
    pub fn next_step_ms(&self) -> Option<u64> {
        match &self.current {
            Some(current) => (!current.finished).then_some(u64::from(current.waits)),
            None => (!self.queue.is_empty()).then_some(0),
        }
    }

    pub fn is_active(&self) -> bool {
        self.current.is_some() || !self.queue.is_empty()
    }

    /// How long the one under way has been.
    pub fn elapsed_ms(&self, now: Millis) -> Option<u64> {
        self.is_active().then(|| now.since(self.asked))
    }
}

impl Node {
    /// Asks for a checkpoint of all groups, if none is under way.
    pub(crate) fn request_checkpoint(&mut self) -> bool {
        if self.checkpoints.is_active() || !self.ready {
            return false;
        }
        let shards = self.shards.iter().filter(|s| s.replica.is_some()).map(|s| s.id);
        let meta = self.cells.is_hub().then_some(GroupId::META);
        self.checkpoints.queue.extend(meta.into_iter().chain(shards));
        self.checkpoints.asked = self.now.mono;
        if !self.checkpoints.is_active() {
            self.note_saved();
        }
        true
    }

    /// A follower needs a checkpoint of this group that is newer than the last.
    pub(crate) fn want_checkpoint(&mut self, group: GroupId) {
        let checkpoints = &mut self.checkpoints;
        let under_way = checkpoints.current.as_ref().is_some_and(|c| c.group == group);
        if self.ready && !under_way && !checkpoints.queue.contains(&group) {
            checkpoints.queue.push_back(group);
        }
    }

    /// Another node's checkpoint of the group takes the place of the one that is being written.
    pub(crate) fn abandon_own_checkpoint(&mut self, group: GroupId, out: &mut Vec<Output>) {
        self.checkpoints.queue.retain(|queued| *queued != group);
        if self.checkpoints.current.take_if(|current| current.group == group).is_some() {
            self.abandon_cut(group);
            out.push(Output::CheckpointAbandon { group });
        }
    }

    fn abandon_cut(&mut self, group: GroupId) {
        let at = self.shard_of_group(group);
        if let Some(replica) = at.and_then(|at| self.shards[at].replica.as_mut()) {
            replica.keyspace.abandon_cut();
        }
    }

    /// Lets a client wait until the checkpoint under way is durable; nothing it sends runs before that. `heard` is false if
    /// it wants no reply.
    pub(crate) fn await_checkpoint(&mut self, conn: ConnId, heard: bool) {
        let client = self.client(conn);
        let seq = client.begin_op(false);
        client.waiting = true;
        self.checkpoints.saver = Some(Saver { conn, seq, heard });
    }

    /// Goes on with the checkpoint of this turn, or begins one when the log has grown enough.
    pub(crate) fn step_checkpoint(&mut self, bytes_ahead: u64, out: &mut Vec<Output>) {
        let log_bytes_max = self.settings.checkpoint_log_bytes() / self.active_cells() as u64;
        if self.checkpoints.log_bytes >= log_bytes_max && !self.stopping {
            self.request_checkpoint();
        }
        self.write_checkpoint(bytes_ahead, out);
        if !self.checkpoints.is_active() {
            self.answer_saver(out);
            self.answer_savers_elsewhere(out);
        }
    }

    fn write_checkpoint(&mut self, bytes_ahead: u64, out: &mut Vec<Output>) {
        if self.checkpoints.current.is_none()
            && let Some(group) = self.checkpoints.queue.pop_front()
        {
            self.begin_checkpoint(group, out);
        }
        let Some(current) = &mut self.checkpoints.current else { return };
        current.waits = bytes_ahead > BYTES_AHEAD_MAX;
        if current.finished || current.waits {
            return;
        }
        let group = current.group;
        let mut bytes = current.meta.take().unwrap_or_default();
        let place = self.shard_of_group(group);
        let done = match place.and_then(|at| self.shards[at].replica.as_mut()) {
            None => true,
            Some(replica) => {
                bytes.reserve(STEP_BYTES + STEP_BYTES / 8);
                replica.keyspace.cut_step(&mut bytes, STEP_BYTES)
            }
        };
        out.push(Output::CheckpointChunk { group, bytes });
        if done {
            out.push(Output::CheckpointFinish { group });
            if let Some(current) = &mut self.checkpoints.current {
                current.finished = true;
            }
        }
    }

    pub(crate) fn on_checkpoint_saved(&mut self, group: GroupId, at: LogId, out: &mut Vec<Output>) {
        if self.on_fetched(group, at, out) {
            return;
        }
        let current = self.checkpoints.current.take_if(|c| c.group == group && c.at == at && c.finished);
        if current.is_none() {
            // It was given up when its last bytes were on their way already.
            return;
        }
        if group == GroupId::META {
            self.meta.saved = at;
        } else if let Some(place) = self.shard_of_group(group)
            && let Some(replica) = &mut self.shards[place].replica
        {
            replica.saved = at;
        }
        self.note_saved();
        out.push(Output::Note(Note::CheckpointSaved { group, at }));
        self.group_input(group, consensus::Input::Checkpointed { at }, out);
    }

    /// The log is kept, so nothing is lost; the next one is tried when as much log again has been written.
    pub(crate) fn on_checkpoint_failed(&mut self, group: GroupId, reason: String, out: &mut Vec<Output>) {
        if !self.on_fetch_failed(group, out) {
            self.checkpoints.current = None;
            self.checkpoints.queue.clear();
            self.checkpoints.log_bytes = 0;
            self.checkpoints.last_failed = true;
            self.abandon_cut(group);
            out.push(Output::CheckpointAbandon { group });
        }
        out.push(Output::Note(Note::CheckpointFailed { group, reason }));
    }

    /// The last of the groups stands for the whole.
    fn note_saved(&mut self) {
        let checkpoints = &mut self.checkpoints;
        if checkpoints.queue.is_empty() {
            checkpoints.last_saved = self.now.wall.0;
            checkpoints.last_took_ms = Some(self.now.mono.since(checkpoints.asked));
            checkpoints.last_failed = false;
            checkpoints.saved += 1;
        }
    }

    fn answer_saver(&mut self, out: &mut Vec<Output>) {
        let Some(Saver { conn, seq, heard }) = self.checkpoints.saver.take() else { return };
        let Some(client) = self.clients.get_mut(conn) else { return };
        assert!(client.is_next(seq), "INV-NODE-1: SAVE waits behind other commands");
        let mut reply = Reply::new(&mut client.output, client.protocol);
        if self.checkpoints.last_failed {
            let refusal = checkpoint_failed();
            let save = skep_command::lookup_full(b"save").expect("it is a row of the table of commands");
            self.stats.failed(save, &refusal);
            if heard {
                reply.refusal(&refusal);
            }
        } else if heard {
            reply.ok();
        }
        drop(reply);
        if client.answered() {
            self.to_resume.push(conn);
        }
        self.list_output(conn, out);
    }

    /// Lets a client of any cell wait for this cell's checkpoints; one that is under way goes on with all groups.
    pub(crate) fn save_for(&mut self, caller: Caller) {
        if !self.request_checkpoint() {
            let groups: Vec<GroupId> = self.replicas().map(|replica| replica.group.id()).collect();
            let meta = self.meta.group.as_ref().map(|group| group.id());
            for group in meta.into_iter().chain(groups) {
                self.want_checkpoint(group);
            }
        }
        self.checkpoints.callers.push(caller);
    }

    fn answer_savers_elsewhere(&mut self, out: &mut Vec<Output>) {
        for caller in std::mem::take(&mut self.checkpoints.callers) {
            let part = match self.checkpoints.last_failed {
                true => Err(checkpoint_failed()),
                false => Ok(Part::Done),
            };
            self.answer_part(caller, part, out);
        }
    }

    fn begin_checkpoint(&mut self, group: GroupId, out: &mut Vec<Output>) {
        if self.fetch.is_writing(group) {
            return;
        }
        if self.is_digesting(group) {
            // In a moment.
            self.checkpoints.queue.push_front(group);
            return;
        }
        let place = self.shard_of_group(group);
        if place.and_then(|at| self.shards[at].replica.as_ref()).is_some_and(|r| r.rebuild.is_some()) {
            return;
        }
        let Some(of) = self.group(group) else { return };
        let membership = of.membership().clone();
        let mut meta = None;
        let at = if group == GroupId::META {
            let mut bytes = Vec::new();
            self.meta.state.encode(&mut bytes);
            meta = Some(bytes);
            (self.meta.applied != self.meta.saved).then_some(self.meta.applied)
        } else {
            let place = self.shard_of_group(group).expect("its group was found");
            let replica = self.shards[place].replica.as_mut().expect("its group was found");
            (replica.applied != replica.saved)
                .then_some(replica.applied)
                .inspect(|_| replica.keyspace.begin_cut())
        };
        let Some(at) = at else {
            // Nothing was applied since the last one, so that one holds the present state.
            return self.note_saved();
        };
        if group != GroupId::META {
            let log_bytes = std::mem::take(&mut self.checkpoints.log_bytes);
            out.push(Output::Note(Note::CheckpointBegun { group, at, log_bytes }));
        }
        self.checkpoints.current = Some(Current { group, at, meta, waits: false, finished: false });
        out.push(Output::CheckpointBegin { group, at, membership });
    }
}

fn checkpoint_failed() -> Refusal {
    Refusal::text("ERR the checkpoint could not be written; the log is kept, nothing is lost")
}
