//! When to take a checkpoint, and its way to the disk in steps that stall nobody.
//!
//! One checkpoint is written at a time. The meta group's state is one chunk; the shard's is a cut, of which each turn gives
//! out a piece while the shell has room for it. Once the file is durable the group records it, which frees the log.

use std::collections::VecDeque;

use skep_base::{ConnId, GroupId, LogId, Millis, Refusal};
use skep_consensus as consensus;
use skep_resp::Reply;

use crate::{DATA, Node, Note, Output};

/// Bytes of a cut per turn: about 100 us of work.
const STEP_BYTES: usize = 128 << 10;
/// Bytes with the shell, not written yet, above which no step is taken. Bounds the extra memory of a checkpoint.
const BYTES_AHEAD_MAX: u64 = 1 << 20;

/// The progress of checkpoints.
#[derive(Default)]
pub(crate) struct Checkpoints {
    /// Groups whose turn comes after the current one.
    queue: VecDeque<GroupId>,
    current: Option<Current>,
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
}

/// A client whose `SAVE` waits. It is the only one: while it waits a checkpoint is under way, and another `SAVE` is refused.
struct Saver {
    conn: ConnId,
    /// False if it wants no reply.
    heard: bool,
}

struct Current {
    group: GroupId,
    at: LogId,
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

    /// True if a client waits for the one under way.
    pub fn is_awaited(&self) -> bool {
        self.saver.is_some()
    }

    /// How long the one under way has been.
    pub fn elapsed_ms(&self, now: Millis) -> Option<u64> {
        self.is_active().then(|| now.since(self.asked))
    }
}

impl Node {
    /// Asks for a checkpoint of both groups, if none is under way.
    pub(crate) fn request_checkpoint(&mut self) -> bool {
        if self.checkpoints.is_active() || !self.ready {
            return false;
        }
        self.checkpoints.queue.extend([GroupId::META, DATA]);
        self.checkpoints.asked = self.now.mono;
        true
    }

    /// Lets a client wait until the checkpoint under way is durable; nothing it sends runs before that. `heard` is false if
    /// it wants no reply.
    pub(crate) fn await_checkpoint(&mut self, conn: ConnId, heard: bool) {
        self.checkpoints.saver = Some(Saver { conn, heard });
        let client = self.client(conn);
        client.pending += 1;
        client.waiting = true;
    }

    /// Goes on with the checkpoint of this turn, or begins one when the log has grown enough.
    pub(crate) fn step_checkpoint(&mut self, bytes_ahead: u64, out: &mut Vec<Output>) {
        if self.checkpoints.log_bytes >= self.settings.checkpoint_log_bytes() && !self.stopping {
            self.request_checkpoint();
        }
        self.write_checkpoint(bytes_ahead, out);
        if !self.checkpoints.is_active() {
            self.answer_saver(out);
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
        let mut bytes = Vec::new();
        let done = if group == GroupId::META {
            self.meta.encode(&mut bytes);
            true
        } else {
            bytes.reserve(STEP_BYTES + STEP_BYTES / 8);
            self.shard.keyspace.cut_step(&mut bytes, STEP_BYTES)
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
        let current = self.checkpoints.current.take();
        assert!(
            current.is_some_and(|c| c.group == group && c.at == at && c.finished),
            "checkpoint of {group:?} at {at:?} was saved, but it is not the one under way"
        );
        if group == GroupId::META {
            self.meta_saved = at;
        } else {
            self.shard.saved = at;
        }
        self.note_saved(group);
        out.push(Output::Note(Note::CheckpointSaved { group, at }));
        self.group_input(group, consensus::Input::Checkpointed { at }, out);
    }

    /// The log is kept, so nothing is lost; the next one is tried when as much log again has been written.
    pub(crate) fn on_checkpoint_failed(&mut self, group: GroupId, reason: String, out: &mut Vec<Output>) {
        self.checkpoints.current = None;
        self.checkpoints.queue.clear();
        self.checkpoints.log_bytes = 0;
        self.checkpoints.last_failed = true;
        self.shard.keyspace.abandon_cut();
        out.push(Output::CheckpointAbandon { group });
        out.push(Output::Note(Note::CheckpointFailed { group, reason }));
    }

    /// The data's part is the last and stands for the whole.
    fn note_saved(&mut self, group: GroupId) {
        if group == DATA {
            let checkpoints = &mut self.checkpoints;
            checkpoints.last_saved = self.now.wall.0;
            checkpoints.last_took_ms = Some(self.now.mono.since(checkpoints.asked));
            checkpoints.last_failed = false;
            checkpoints.saved += 1;
        }
    }

    fn answer_saver(&mut self, out: &mut Vec<Output>) {
        let Some(Saver { conn, heard }) = self.checkpoints.saver.take() else { return };
        let Some(client) = self.clients.get_mut(conn) else { return };
        client.pending -= 1;
        self.to_resume.push(conn);
        let mut reply = Reply::new(&mut client.output, client.protocol);
        if self.checkpoints.last_failed {
            let refusal =
                Refusal::text("ERR the checkpoint could not be written; the log is kept, nothing is lost");
            let save = skep_command::lookup_full(b"save").expect("it is a row of the table of commands");
            self.stats.failed(save, &refusal);
            if heard {
                reply.refusal(&refusal);
            }
        } else if heard {
            reply.ok();
        }
        self.list_output(conn, out);
    }

    fn begin_checkpoint(&mut self, group: GroupId, out: &mut Vec<Output>) {
        let (at, saved) = if group == GroupId::META {
            (self.meta_applied, self.meta_saved)
        } else {
            (self.shard.applied, self.shard.saved)
        };
        if at == saved {
            // Nothing was applied since the last one, so that one holds the present state.
            self.note_saved(group);
            return;
        }
        let membership = self.group_mut(group).membership().clone();
        if group == DATA {
            self.shard.keyspace.begin_cut();
            let log_bytes = std::mem::take(&mut self.checkpoints.log_bytes);
            out.push(Output::Note(Note::CheckpointBegun { group, at, log_bytes }));
        }
        self.checkpoints.current = Some(Current { group, at, waits: false, finished: false });
        out.push(Output::CheckpointBegin { group, at, membership });
    }
}
