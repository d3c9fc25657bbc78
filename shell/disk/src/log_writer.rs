//! The thread that appends and syncs, and the one beside it that prepares segments, so that the node's loops never wait
//! for the disk. What all of them submitted is one append and one sync.
//!
//! Group commit without a timer: whatever was submitted while a sync ran goes into the next batch.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use std::{io, mem};

use skep_base::GroupId;
use skep_log::{Chore, ChoreDone, Disk, LogFault, Record, Wal, WalStats, record_len};

use crate::inbox::{Inbox, Outbox};

/// Bytes of turns submitted and not durable above which [`LogWriter::submit`] declines: about a second of a slow disk.
const QUEUED_BYTES_MAX: usize = 64 << 20;
/// Records put into one batch: what a disk takes in a few milliseconds, and well within a segment.
const BATCH_BYTES_MAX: usize = 4 << 20;
/// Room in the log below which a disk that has no space for a segment counts as full: two batches, so that what is
/// under way when the node hears of it still fits.
const ROOM_BYTES_MIN: u64 = 2 * BATCH_BYTES_MAX as u64;
/// Records that need no sync are held back for a batch that does, up to this many.
const HELD_RECORDS_MAX: usize = 1024;
/// Batches between two looks at what keeps the log long.
const PINNED_BATCHES: u64 = 256;
/// Between two attempts to get space on a full disk.
const FULL_RETRY: Duration = Duration::from_millis(100);

/// What one turn of one of the node's loops wants made durable.
#[derive(Debug)]
pub struct Turn {
    /// The loop, by its place among the wakers that [`LogWriter::start`] was given.
    pub cell: usize,
    /// Grows from turn to turn of the loop.
    pub ticket: u64,
    pub records: Vec<Record>,
    /// Without it the records wait for the next turn that has it, and may be lost by a crash before.
    pub must_sync: bool,
}

/// What the log tells the node.
#[derive(Debug)]
pub enum LogEvent {
    /// All turns of the loop up to `ticket` are durable (but records that asked for no sync).
    Durable { ticket: u64 },
    /// The disk is full and little room is left in the log, or none (`true`): refuse writes, what was submitted waits if
    /// need be; or there is space again (`false`).
    Full(bool),
    /// These groups should make a checkpoint: they keep the log from getting shorter. The first most of all.
    Pinned(Vec<GroupId>),
    /// The disk failed: stop the process. No more events come.
    Failed(LogFault),
}

/// A snapshot of the log's state, for decisions and metrics.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogStatus {
    pub stats: WalStats,
    /// See [`Wal::room`].
    pub room_bytes: u64,
    pub queued_bytes: usize,
    /// How long the write or sync that runs has been running: a disk that hangs is seen here.
    pub busy: Duration,
}

/// Handle of the two threads.
pub struct LogWriter {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

enum Command {
    Turn(Turn, usize),
    ChoreDone(Result<ChoreDone, LogFault>),
    Stop,
}

struct Shared {
    inbox: Inbox<Command>,
    /// One for each loop.
    outboxes: Vec<Outbox<LogEvent>>,
    queued_bytes: AtomicUsize,
    room_bytes: AtomicU64,
    stats: std::sync::Mutex<WalStats>,
    started: Instant,
    /// Microseconds after `started` when the operation that runs began, plus one; 0 if none runs.
    busy_since: AtomicU64,
}

impl LogWriter {
    /// Starts the threads. `beside` is a second handle of the log's disk; `wakes`, one for each loop, are called, from either
    /// thread, when there is something for it to take with [`LogWriter::events`]. While it is not known whether there is space for
    /// the next segment, the last `reserve` bytes of room are not used: what clients were told of before it was durable must fit
    /// when it turns out that there is none.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start<D: Disk + Send + 'static>(
        wal: Wal<D>,
        beside: D,
        wakes: Vec<impl Fn() + Send + Sync + 'static>,
        reserve: u64,
    ) -> io::Result<LogWriter> {
        let shared = Arc::new(Shared {
            inbox: Inbox::new(),
            outboxes: wakes.into_iter().map(Outbox::new).collect(),
            queued_bytes: AtomicUsize::new(0),
            room_bytes: AtomicU64::new(wal.room()),
            stats: std::sync::Mutex::new(wal.stats()),
            started: Instant::now(),
            busy_since: AtomicU64::new(0),
        });
        let chores = Arc::new(Inbox::new());
        let (of_chores, of_log) = ((shared.clone(), chores.clone()), shared.clone());
        let chore_thread = thread::Builder::new()
            .name("skep-log-chores".into())
            .spawn(move || run_chores(beside, &of_chores.0, &of_chores.1))?;
        let writer = Writer {
            wal,
            shared: of_log,
            chores,
            turns: VecDeque::new(),
            held: Vec::new(),
            stopping: false,
            reserve,
            chore_retry: None,
            chore_full: false,
            append_full: false,
            told_full: false,
            pinned: Vec::new(),
            pinned_at: 0,
        };
        let thread = thread::Builder::new().name("skep-log".into()).spawn(move || {
            writer.run();
            let _ = chore_thread.join();
        })?;
        Ok(LogWriter { shared, thread: Some(thread) })
    }

    /// Hands over a turn. Never blocks.
    ///
    /// # Errors
    /// Gives the turn back if too much waits for the disk: keep it, and refuse what would make it longer.
    pub fn submit(&self, turn: Turn) -> Result<(), Turn> {
        let bytes: usize = turn.records.iter().map(record_len).sum();
        let queued = self.shared.queued_bytes.load(Ordering::Relaxed);
        if queued > 0 && queued + bytes > QUEUED_BYTES_MAX {
            return Err(turn);
        }
        self.shared.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.shared.inbox.push(Command::Turn(turn, bytes));
        Ok(())
    }

    /// What happened since the last call, for one of the loops.
    pub fn events(&self, cell: usize) -> Vec<LogEvent> {
        self.shared.outboxes[cell].take()
    }

    /// Cheap enough for every turn.
    pub fn room_bytes(&self) -> u64 {
        self.shared.room_bytes.load(Ordering::Relaxed)
    }

    pub fn status(&self) -> LogStatus {
        let since = self.shared.busy_since.load(Ordering::Relaxed);
        let now = self.shared.started.elapsed();
        LogStatus {
            stats: *self.shared.stats.lock().expect(NO_PANIC),
            room_bytes: self.room_bytes(),
            queued_bytes: self.shared.queued_bytes.load(Ordering::Relaxed),
            busy: match since {
                0 => Duration::ZERO,
                since => now.saturating_sub(Duration::from_micros(since - 1)),
            },
        }
    }

    /// Makes durable what was submitted, then ends the threads. The last events of the first loop are returned.
    pub fn stop(mut self) -> Vec<LogEvent> {
        self.end();
        self.events(0)
    }

    fn end(&mut self) {
        if let Some(thread) = self.thread.take() {
            self.shared.inbox.push(Command::Stop);
            thread.join().expect("the log thread does not panic, or the process is lost with it");
        }
    }
}

impl Shared {
    fn tell_all(&self, event: impl Fn() -> LogEvent) {
        self.outboxes.iter().for_each(|outbox| outbox.push(event()));
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        if !thread::panicking() {
            self.end();
        }
    }
}

fn run_chores<D: Disk>(mut disk: D, shared: &Shared, chores: &Inbox<Option<Chore>>) {
    let mut queue = VecDeque::new();
    loop {
        chores.drain(None, &mut queue);
        for chore in queue.drain(..) {
            let Some(chore) = chore else { return };
            shared.inbox.push(Command::ChoreDone(chore.run(&mut disk)));
        }
    }
}

/// The state of the log thread.
struct Writer<D> {
    wal: Wal<D>,
    shared: Arc<Shared>,
    /// `None` ends the chore thread.
    chores: Arc<Inbox<Option<Chore>>>,
    turns: VecDeque<(Turn, usize)>,
    /// Records that waited for a turn with `must_sync`.
    held: Vec<Record>,
    stopping: bool,
    /// See [`LogWriter::start`].
    reserve: u64,
    /// After a chore found the disk full: when to try again.
    chore_retry: Option<Instant>,
    /// The last chore found the disk full.
    chore_full: bool,
    /// The last append did.
    append_full: bool,
    /// What the node was told.
    told_full: bool,
    pinned: Vec<GroupId>,
    /// Segments in use when `pinned` was found.
    pinned_at: usize,
}

impl<D: Disk> Writer<D> {
    fn run(mut self) {
        if let Err(fault) = self.serve() {
            self.shared.tell_all(|| LogEvent::Failed(fault.clone()));
        }
        self.chores.push(None);
    }

    fn serve(&mut self) -> Result<(), LogFault> {
        loop {
            self.start_chore();
            let wait_for_space = self.append_full.then_some(FULL_RETRY);
            let retry = self.chore_retry.map(|at| at.saturating_duration_since(Instant::now()));
            let may_write = !self.turns.is_empty() && !self.append_full && !self.holds_back();
            let patience = may_write.then_some(Duration::ZERO);
            self.receive(patience.or(wait_for_space).or(retry))?;
            self.commit()?;
            if self.stopping && (self.turns.is_empty() || self.append_full) {
                return self.flush_held();
            }
        }
    }

    fn receive(&mut self, patience: Option<Duration>) -> Result<(), LogFault> {
        let mut commands = VecDeque::new();
        self.shared.inbox.drain(patience, &mut commands);
        for command in commands {
            match command {
                Command::Turn(turn, bytes) => self.turns.push_back((turn, bytes)),
                Command::ChoreDone(outcome) => {
                    let done = self.wal.on_chore(outcome);
                    self.chore_full = done.as_ref().is_err_and(LogFault::is_full);
                    if self.chore_full {
                        self.chore_retry = Some(Instant::now() + FULL_RETRY);
                    } else {
                        done?;
                    }
                    self.note_space();
                }
                Command::Stop => self.stopping = true,
            }
        }
        Ok(())
    }

    fn start_chore(&mut self) {
        if self.stopping || self.chore_retry.is_some_and(|at| at > Instant::now()) {
            return;
        }
        self.chore_retry = None;
        if let Some(chore) = self.wal.next_chore() {
            self.chores.push(Some(chore));
        }
    }

    /// True if the next batch is to wait for the chore that runs.
    fn holds_back(&self) -> bool {
        let (_, bytes, _) = self.next_batch();
        self.wal.waits_for_chore(bytes as u64, self.reserve)
    }

    /// Of the turns that wait, how many are in the next batch, their bytes, and whether it is to be synced.
    fn next_batch(&self) -> (usize, usize, bool) {
        let (mut count, mut bytes, mut must_sync) = (0usize, 0, false);
        for (turn, turn_bytes) in &self.turns {
            if count > 0 && bytes + turn_bytes > BATCH_BYTES_MAX {
                break;
            }
            count += 1;
            bytes += turn_bytes;
            must_sync |= turn.must_sync;
        }
        (count, bytes, must_sync)
    }

    /// Makes one batch of the turns that wait, as far as it may be long.
    fn commit(&mut self) -> Result<(), LogFault> {
        let (count, bytes, must_sync) = self.next_batch();
        if count == 0 || self.holds_back() {
            return Ok(());
        }
        for (turn, _) in self.turns.iter_mut().take(count) {
            self.held.append(&mut turn.records);
        }
        if must_sync || self.held.len() > HELD_RECORDS_MAX {
            let committed = self.write();
            self.append_full = committed.as_ref().is_err_and(LogFault::is_full);
            self.note_space();
            if self.append_full {
                // Not written. The records stay in `held`; the turns stay too, empty, so that they are answered later.
                return Ok(());
            }
            committed?;
        }
        let mut durable: Vec<Option<u64>> = vec![None; self.shared.outboxes.len()];
        for (turn, _) in self.turns.drain(..count) {
            durable[turn.cell] = Some(turn.ticket);
        }
        self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        for (outbox, ticket) in self.shared.outboxes.iter().zip(durable) {
            if let Some(ticket) = ticket {
                outbox.push(LogEvent::Durable { ticket });
            }
        }
        Ok(())
    }

    /// Appends and syncs what is held.
    fn write(&mut self) -> Result<(), LogFault> {
        let since = self.shared.started.elapsed().as_micros() as u64 + 1;
        self.shared.busy_since.store(since, Ordering::Relaxed);
        let done = self.wal.append(&self.held).and_then(|_| self.wal.sync());
        self.shared.busy_since.store(0, Ordering::Relaxed);
        done?;
        self.held.clear();
        *self.shared.stats.lock().expect(NO_PANIC) = self.wal.stats();
        self.note_pinned();
        Ok(())
    }

    /// Tells the node when the disk becomes full and when it is no longer.
    fn note_space(&mut self) {
        let room = self.wal.room();
        self.shared.room_bytes.store(room, Ordering::Relaxed);
        let short = room < ROOM_BYTES_MIN && self.wal.stats().segments_prepared == 0;
        // Once told, a chore that succeeded without making a segment changes nothing.
        let full = self.append_full || short && (self.chore_full || self.told_full);
        if mem::replace(&mut self.told_full, full) != full {
            self.shared.tell_all(|| LogEvent::Full(full));
        }
    }

    /// Looks when the log grew by a segment, and now and then while it stays long.
    fn note_pinned(&mut self) {
        let stats = self.wal.stats();
        if stats.segments_used == self.pinned_at && !stats.batches.is_multiple_of(PINNED_BATCHES) {
            return;
        }
        self.pinned_at = stats.segments_used;
        let pinned = self.wal.pinned_by();
        if pinned != self.pinned && !pinned.is_empty() {
            self.shared.tell_all(|| LogEvent::Pinned(pinned.clone()));
        }
        self.pinned = pinned;
    }

    fn flush_held(&mut self) -> Result<(), LogFault> {
        match self.write() {
            Err(fault) if fault.is_full() => Ok(()),
            done => done,
        }
    }
}

const NO_PANIC: &str = "no thread panics while it holds the statistics";
