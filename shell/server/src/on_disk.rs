//! The disk threads: what the node wants of them, and what they have to say.

use std::collections::VecDeque;
use std::thread;

use skep_base::GroupId;
use skep_disk::{CheckpointEvent, Found, LogEvent, ReadChunk, Turn};
use skep_log::CheckpointHeader;
use skep_log::checkpoint::CHUNK_BYTES_MAX;
use skep_node::{CellId, Input, Output, Piece};

use crate::event_loop::EventLoop;
use crate::listening::RunFault;
use crate::mailbox::Parcel;

/// What the disk threads would not take yet.
#[derive(Default)]
pub(crate) struct Declined {
    turns: VecDeque<Turn>,
    checkpoint: VecDeque<Step>,
    /// Bytes in `checkpoint`.
    checkpoint_bytes: usize,
}

enum Step {
    Chunk(GroupId, Vec<u8>),
    Finish(GroupId),
}

impl Step {
    fn group(&self) -> GroupId {
        match self {
            Step::Chunk(group, _) | Step::Finish(group) => *group,
        }
    }
}

impl Declined {
    pub fn has_turns(&self) -> bool {
        !self.turns.is_empty()
    }
}

impl EventLoop {
    /// Bytes of checkpoints that are not written yet.
    pub(crate) fn checkpoint_bytes(&self) -> usize {
        self.shared.checkpointer.queued_bytes() + self.declined.checkpoint_bytes
    }

    pub(crate) fn carry_out_on_disk(&mut self, output: Output) {
        let checkpointer = &self.shared.checkpointer;
        match output {
            Output::Persist { number, records } => {
                self.declined.turns.push_back(Turn {
                    cell: self.mailbox.me(),
                    ticket: number,
                    records,
                    must_sync: true,
                });
            }
            Output::CheckpointBegin { group, at, membership } => {
                checkpointer.begin(CheckpointHeader { group, at, membership });
            }
            Output::CheckpointChunk { group, bytes } => {
                self.declined.checkpoint_bytes += bytes.len();
                let pieces = bytes.chunks(CHUNK_BYTES_MAX);
                self.declined.checkpoint.extend(pieces.map(|piece| Step::Chunk(group, piece.to_vec())));
            }
            Output::CheckpointFinish { group } => self.declined.checkpoint.push_back(Step::Finish(group)),
            Output::CheckpointAbandon { group } => self.abandon(group),
            Output::CheckpointRecorded { group, at } => checkpointer.remove_older(group, at),
            Output::ReadCheckpoint { group, at, chunk } => self.shared.source.ask(group, at, chunk),
            Output::SaveIdentity(identity) => {
                let saved = self.of_hub.as_mut().map(|of| of.files.save_identity(&identity));
                match saved.expect("only the hub has an identity") {
                    Ok(()) => self.input(Input::IdentitySaved),
                    Err(fault) => self.fault = Some(RunFault::Disk(fault)),
                }
            }
            Output::SavePeers(addresses) => {
                let saved = self.of_hub.as_mut().map(|of| of.files.save_peers(addresses));
                if let Some(Err(fault)) = saved {
                    tracing::warn!(
                        "the addresses of the other nodes are not kept for a start after damage: {fault}"
                    );
                }
            }
            Output::Drop(garbage) => {
                // If the system gives no thread, it is dropped here.
                let _ = thread::Builder::new().name("skep-drop".into()).spawn(move || drop(garbage));
            }
            other => unreachable!("{other:?} is not for the disk"),
        }
    }

    fn abandon(&mut self, group: GroupId) {
        self.declined.checkpoint.retain(|step| step.group() != group);
        let bytes = |step: &Step| if let Step::Chunk(_, bytes) = step { bytes.len() } else { 0 };
        self.declined.checkpoint_bytes = self.declined.checkpoint.iter().map(bytes).sum();
        self.shared.checkpointer.abandon(group);
    }

    /// Hands over what the disk threads would not take before.
    pub(crate) fn retry_declined(&mut self) {
        while let Some(turn) = self.declined.turns.pop_front() {
            if let Err(turn) = self.shared.log.submit(turn) {
                self.declined.turns.push_front(turn);
                break;
            }
        }
        while let Some(step) = self.declined.checkpoint.pop_front() {
            match step {
                Step::Finish(group) => self.shared.checkpointer.finish(group),
                Step::Chunk(group, bytes) => {
                    let len = bytes.len();
                    if let Err(bytes) = self.shared.checkpointer.chunk(group, bytes) {
                        self.declined.checkpoint.push_front(Step::Chunk(group, bytes));
                        break;
                    }
                    self.declined.checkpoint_bytes -= len;
                }
            }
        }
    }

    /// Tells the node what its disk threads have done.
    pub(crate) fn take_disk_events(&mut self) {
        for event in self.shared.log.events(self.mailbox.me()) {
            match event {
                LogEvent::Durable { ticket } => self.input(Input::Persisted { through: ticket }),
                LogEvent::Full(full) => self.input(Input::DiskFull(full)),
                LogEvent::Pinned(_) => self.input(Input::LogPinned),
                LogEvent::Failed(fault) => return self.fault = Some(RunFault::Disk(fault)),
            }
        }
        if self.of_hub.is_none() {
            return;
        }
        for event in self.shared.checkpointer.events() {
            match event {
                CheckpointEvent::Written(file) => {
                    self.tell_home(file.group, Input::CheckpointSaved { group: file.group, at: file.at });
                }
                CheckpointEvent::Refused { group, fault } => {
                    self.tell_home(group, Input::CheckpointFailed { group, reason: fault.to_string() });
                }
                CheckpointEvent::Failed(fault) => return self.fault = Some(RunFault::Disk(fault)),
                CheckpointEvent::Ready => self.mailbox.post_to_all(|| Parcel::Look),
            }
        }
        for ReadChunk { group, at, chunk, found } in self.shared.source.chunks() {
            let piece = match found {
                Found::Chunk { bytes, last } => Piece::Bytes { bytes: bytes.into(), last },
                Found::Gone => Piece::Gone,
                // This node has what is in it in memory, and goes on. A start from it would be refused.
                Found::Damaged(fault) => {
                    tracing::error!(
                        group = group.0,
                        at = at.index.0,
                        "a checkpoint that a peer asked for cannot be read, check this disk: {fault}"
                    );
                    Piece::Gone
                }
            };
            self.tell_home(group, Input::CheckpointRead { group, at, chunk, piece });
        }
    }

    /// Hands news of a group to the cell that has its replica.
    fn tell_home(&mut self, group: GroupId, input: Input<'static>) {
        let home = CellId::home(self.mailbox.count(), group);
        match home == self.mailbox.me() {
            true => self.input(input),
            false => self.mailbox.post(home, Parcel::Input(input)),
        }
    }
}
