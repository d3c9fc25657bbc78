//! The thread that writes checkpoints, so that the node's loop hands over chunks and never waits for the disk.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use skep_base::{GroupId, LogId};
use skep_log::checkpoint::remove_older;
use skep_log::{CheckpointFile, CheckpointHeader, CheckpointWriter, Disk, LogFault};

use crate::inbox::{Inbox, Outbox};

/// Chunk bytes handed over and not written above which [`Checkpointer::chunk`] declines.
const QUEUED_BYTES_MAX: usize = 4 << 20;

/// What became of checkpoints.
#[derive(Debug)]
pub enum CheckpointEvent {
    /// Complete and durable; record it in the log, then [`Checkpointer::remove_older`].
    Written(CheckpointFile),
    /// Given up. If the disk is full, try again later; what was written of it is removed.
    Refused { group: GroupId, fault: LogFault },
    /// The disk failed: stop the process.
    Failed(LogFault),
    /// There is room for chunks again, after [`Checkpointer::chunk`] declined one.
    Ready,
}

/// Handle of the thread. One checkpoint per group at a time.
pub struct Checkpointer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

enum Command {
    Begin(CheckpointHeader),
    Chunk(GroupId, Vec<u8>),
    Finish(GroupId),
    Abandon(GroupId),
    RemoveOlder(GroupId, LogId),
    Stop,
}

struct Shared {
    inbox: Inbox<Command>,
    outbox: Outbox<CheckpointEvent>,
    queued_bytes: AtomicUsize,
}

impl Checkpointer {
    /// Starts the thread; `wake` is called from it when there is something to take with [`Checkpointer::events`].
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start<D: Disk + Clone + Send + 'static>(
        disk: D,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Checkpointer> {
        let shared = Arc::new(Shared {
            inbox: Inbox::new(),
            outbox: Outbox::new(wake),
            queued_bytes: AtomicUsize::new(0),
        });
        let writer = Writer { disk, shared: shared.clone(), open: BTreeMap::new() };
        let thread = thread::Builder::new().name("skep-checkpoint".into()).spawn(move || writer.run())?;
        Ok(Checkpointer { shared, thread: Some(thread) })
    }

    /// Begins the checkpoint of a group; one of the same group that is not finished is abandoned.
    pub fn begin(&self, header: CheckpointHeader) {
        self.shared.inbox.push(Command::Begin(header));
    }

    /// Hands over the next chunk of the group's checkpoint. Never blocks.
    ///
    /// # Errors
    /// Gives the chunk back if too much waits for the disk; [`CheckpointEvent::Ready`] says when to try again.
    pub fn chunk(&self, group: GroupId, bytes: Vec<u8>) -> Result<(), Vec<u8>> {
        let queued = self.shared.queued_bytes.load(Ordering::Acquire);
        if queued >= QUEUED_BYTES_MAX {
            return Err(bytes);
        }
        self.shared.queued_bytes.fetch_add(bytes.len(), Ordering::AcqRel);
        self.shared.inbox.push(Command::Chunk(group, bytes));
        Ok(())
    }

    /// Completes the group's checkpoint; [`CheckpointEvent::Written`] follows.
    pub fn finish(&self, group: GroupId) {
        self.shared.inbox.push(Command::Finish(group));
    }

    /// Drops the group's unfinished checkpoint, if there is one.
    pub fn abandon(&self, group: GroupId) {
        self.shared.inbox.push(Command::Abandon(group));
    }

    /// Removes the group's checkpoints but the one at `at`, which the log must name durably.
    pub fn remove_older(&self, group: GroupId, at: LogId) {
        self.shared.inbox.push(Command::RemoveOlder(group, at));
    }

    /// What happened since the last call.
    pub fn events(&self) -> Vec<CheckpointEvent> {
        self.shared.outbox.take()
    }

    /// Chunk bytes that wait for the disk.
    pub fn queued_bytes(&self) -> usize {
        self.shared.queued_bytes.load(Ordering::Relaxed)
    }
}

impl Drop for Checkpointer {
    /// Ends the thread when it has done what was asked for; unfinished checkpoints are left to the next start.
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take()
            && !thread::panicking()
        {
            self.shared.inbox.push(Command::Stop);
            thread.join().expect("the checkpoint thread does not panic, or the process is lost with it");
        }
    }
}

struct Writer<D> {
    disk: D,
    shared: Arc<Shared>,
    /// `None` once the group's checkpoint was refused; chunks that still come are dropped.
    open: BTreeMap<GroupId, Option<CheckpointWriter<D>>>,
}

impl<D: Disk + Clone> Writer<D> {
    fn run(mut self) {
        let mut commands = VecDeque::new();
        loop {
            self.shared.inbox.drain(None, &mut commands);
            for command in commands.drain(..) {
                if let Command::Stop = command {
                    return;
                }
                self.on_command(command);
            }
        }
    }

    fn on_command(&mut self, command: Command) {
        let (group, done) = match command {
            Command::Begin(header) => (header.group, self.begin(&header)),
            Command::Chunk(group, bytes) => (group, self.chunk(group, &bytes)),
            Command::Finish(group) => (group, self.finish(group)),
            Command::Abandon(group) => (group, self.abandon(group)),
            Command::RemoveOlder(group, at) => (group, remove_older(&mut self.disk, group, at)),
            Command::Stop => return,
        };
        let Err(fault) = done else { return };
        if !fault.is_full() {
            return self.shared.outbox.push(CheckpointEvent::Failed(fault));
        }
        if let Err(fault) = self.abandon(group) {
            return self.shared.outbox.push(CheckpointEvent::Failed(fault));
        }
        self.open.insert(group, None);
        self.shared.outbox.push(CheckpointEvent::Refused { group, fault });
    }

    fn begin(&mut self, header: &CheckpointHeader) -> Result<(), LogFault> {
        self.abandon(header.group)?;
        let writer = CheckpointWriter::create(self.disk.clone(), header)?;
        self.open.insert(header.group, Some(writer));
        Ok(())
    }

    fn chunk(&mut self, group: GroupId, bytes: &[u8]) -> Result<(), LogFault> {
        let done = match self.open.get_mut(&group) {
            Some(Some(writer)) => writer.chunk(bytes),
            _ => Ok(()),
        };
        let before = self.shared.queued_bytes.fetch_sub(bytes.len(), Ordering::AcqRel);
        if before >= QUEUED_BYTES_MAX && before - bytes.len() < QUEUED_BYTES_MAX {
            self.shared.outbox.push(CheckpointEvent::Ready);
        }
        done
    }

    fn finish(&mut self, group: GroupId) -> Result<(), LogFault> {
        if let Some(Some(writer)) = self.open.remove(&group) {
            let file = writer.finish()?;
            self.shared.outbox.push(CheckpointEvent::Written(file));
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
