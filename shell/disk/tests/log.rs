//! The log and its threads on real files.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use bytes::Bytes;
use skep_base::{GroupId, LogId, LogIndex, NodeId, Rng, Term};
use skep_disk::{CheckpointEvent, Checkpointer, DataDir, FileDisk, LogEvent, LogWriter, Turn, open_log};
use skep_log::{CheckpointHeader, CheckpointReader, Disk, DiskError, Entry, EntryKind, Membership, Record};
use skep_log::{LogFault, Wal, WalConfig};

const G: GroupId = GroupId(1);

fn config() -> WalConfig {
    WalConfig { salt: 1, segment_bytes: 64 << 10, first_segment_bytes: 16 << 10, segments_kept: 4 }
}

fn id(index: u64) -> LogId {
    LogId { term: Term(1), index: LogIndex(index) }
}

fn append(index: u64, bytes: usize) -> Record {
    let entry = Entry { id: id(index), kind: EntryKind::Normal, payload: Bytes::from(vec![5; bytes]) };
    Record::Append { group: G, entries: vec![entry] }
}

fn checkpoint(index: u64) -> Record {
    let membership = Membership { voters: vec![NodeId(1)], ..Membership::default() };
    Record::Checkpoint { group: G, at: id(index), membership }
}

/// A waker and the end that waits for it.
fn waker() -> (impl Fn() + Send + Sync + 'static, Receiver<()>) {
    let (send, receive) = mpsc::channel();
    (move || send.send(()).unwrap_or_default(), receive)
}

/// Takes events until `done` says so.
fn until(writer: &LogWriter, wake: &Receiver<()>, mut done: impl FnMut(LogEvent) -> bool) {
    loop {
        wake.recv().unwrap();
        if writer.events(0).into_iter().any(&mut done) {
            return;
        }
    }
}

#[test]
fn turns_are_durable_in_order_and_found_again() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).unwrap();
    let mut first = 1;
    for life in 1..=3u64 {
        let opened = open_log(&dir, config()).unwrap();
        let log = opened.logs.get(&G).cloned().unwrap_or_default();
        assert_eq!(log.checkpoint.index.0 + log.entries.len() as u64 + 1, first);
        let (wake, woken) = waker();
        let writer = LogWriter::start(opened.wal, dir.disk(), vec![wake], 0).unwrap();
        for ticket in 1..=600u64 {
            let index = first + ticket - 1;
            let records = vec![append(index, 700)];
            writer.submit(Turn { cell: 0, ticket, records, must_sync: true }).unwrap();
        }
        let mut durable = 0;
        until(&writer, &woken, |event| match event {
            LogEvent::Durable { ticket } => {
                assert!(ticket > durable);
                durable = ticket;
                durable == 600
            }
            LogEvent::Pinned(groups) => {
                assert_eq!(groups, [G]);
                false
            }
            other => panic!("{other:?}"),
        });
        let status = writer.status();
        assert!(status.stats.batches >= 1 && status.queued_bytes == 0, "{status:?}");
        first += 600;
        if life == 2 {
            // Nothing of a turn without `must_sync` is lost by a clean stop.
            writer
                .submit(Turn { cell: 0, ticket: 601, records: vec![append(first, 1)], must_sync: false })
                .unwrap();
            first += 1;
        }
        drop(writer.stop());
    }
}

#[test]
fn a_checkpoint_is_written_beside_the_log_and_frees_it() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).unwrap();
    let opened = open_log(&dir, config()).unwrap();
    let (wake, woken) = waker();
    let writer = LogWriter::start(opened.wal, dir.disk(), vec![wake], 0).unwrap();
    let (wake, checkpoint_woken) = waker();
    let checkpointer = Checkpointer::start(dir.disk(), wake).unwrap();
    let mut rng = Rng::new(1);
    let chunks: Vec<Vec<u8>> =
        (0..40).map(|_| (0..1 << 18).map(|_| rng.next_u64() as u8).collect()).collect();

    let records = (1..=100).map(|i| append(i, 1000)).collect();
    writer.submit(Turn { cell: 0, ticket: 1, records, must_sync: true }).unwrap();
    let membership = Membership { voters: vec![NodeId(1)], ..Membership::default() };
    checkpointer.begin(CheckpointHeader { group: G, at: id(90), membership });
    let mut events = Vec::new();
    for chunk in &chunks {
        let mut chunk = chunk.clone();
        while let Err(back) = checkpointer.chunk(G, chunk) {
            chunk = back;
            checkpoint_woken.recv().unwrap();
            events.extend(checkpointer.events());
        }
    }
    checkpointer.finish(G);
    while !events.iter().any(|e| matches!(e, CheckpointEvent::Written(_))) {
        checkpoint_woken.recv().unwrap();
        events.extend(checkpointer.events());
    }
    writer.submit(Turn { cell: 0, ticket: 2, records: vec![checkpoint(90)], must_sync: true }).unwrap();
    until(&writer, &woken, |event| matches!(event, LogEvent::Durable { ticket: 2 }));
    checkpointer.remove_older(G, id(90));
    drop(checkpointer);
    drop(writer);
    drop(dir);

    let dir = DataDir::open(temp.path()).unwrap();
    let opened = open_log(&dir, config()).unwrap();
    assert_eq!(opened.logs[&G].entries.len(), 10);
    let mut reader = CheckpointReader::open(dir.disk(), &opened.checkpoints[&G]).unwrap();
    for chunk in &chunks {
        assert!(reader.next_chunk().unwrap().unwrap() == *chunk);
    }
    assert_eq!(reader.next_chunk().unwrap(), None);
    drop(opened);
    std::fs::remove_file(dir.path().join(checkpoint_name(90))).unwrap();
    let text = open_log(&dir, config()).err().unwrap().to_string();
    assert!(text.contains(&dir.path().join(checkpoint_name(90)).display().to_string()), "{text}");
}

fn checkpoint_name(index: u64) -> String {
    skep_log::CheckpointFile { group: G, at: id(index) }.name()
}

/// A disk that refuses new files while `full`, takes its time for them while `slow`, and fails syncs while `broken`.
#[derive(Clone)]
struct Scarce {
    inner: FileDisk,
    slow: Arc<AtomicBool>,
    full: Arc<AtomicBool>,
    broken: Arc<AtomicBool>,
}

impl Disk for Scarce {
    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        self.inner.list()
    }
    fn len(&mut self, file: &str) -> Result<u64, DiskError> {
        self.inner.len(file)
    }
    fn read_at(&mut self, file: &str, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        self.inner.read_at(file, offset, buffer)
    }
    fn create(&mut self, file: &str, len: u64) -> Result<(), DiskError> {
        while self.slow.load(Ordering::SeqCst) {
            std::thread::yield_now();
        }
        match self.full.load(Ordering::SeqCst) {
            true => Err(DiskError::Full { file: file.to_owned() }),
            false => self.inner.create(file, len),
        }
    }
    fn write_at(&mut self, file: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        self.inner.write_at(file, offset, bytes)
    }
    fn sync(&mut self, file: &str) -> Result<(), DiskError> {
        match self.broken.load(Ordering::SeqCst) {
            true => {
                Err(DiskError::Io { file: file.to_owned(), operation: "sync", message: "EIO".to_owned() })
            }
            false => self.inner.sync(file),
        }
    }
    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        self.inner.rename(from, to)
    }
    fn remove(&mut self, file: &str) -> Result<(), DiskError> {
        self.inner.remove(file)
    }
    fn sync_dir(&mut self) -> Result<(), DiskError> {
        self.inner.sync_dir()
    }
}

fn scarce(dir: &DataDir) -> Scarce {
    Scarce { inner: dir.disk(), slow: Arc::default(), full: Arc::default(), broken: Arc::default() }
}

#[test]
fn a_full_disk_makes_turns_wait_until_there_is_space() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).unwrap();
    let disk = scarce(&dir);
    let (wal, _) = Wal::open(disk.clone(), config()).unwrap();
    disk.full.store(true, Ordering::SeqCst);
    let (wake, woken) = waker();
    let writer = LogWriter::start(wal, disk.clone(), vec![wake], 0).unwrap();
    for ticket in 1..=100 {
        writer
            .submit(Turn { cell: 0, ticket, records: vec![append(ticket, 1000)], must_sync: true })
            .unwrap();
    }
    until(&writer, &woken, |event| matches!(event, LogEvent::Full(true)));
    disk.full.store(false, Ordering::SeqCst);
    let (mut saw_space, mut durable) = (false, 0);
    until(&writer, &woken, |event| {
        match event {
            LogEvent::Full(full) => saw_space = !full,
            LogEvent::Durable { ticket } => durable = ticket,
            _ => {}
        }
        saw_space && durable == 100
    });
    drop(writer);
    assert_eq!(open_log(&dir, config()).unwrap().logs[&G].entries.len(), 100);
}

#[test]
fn the_reserve_is_not_used_before_it_is_known_that_the_disk_is_full() {
    const TURN: usize = 1_000;
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).unwrap();
    let disk = scarce(&dir);
    let config = WalConfig { first_segment_bytes: 1 << 20, segment_bytes: 1 << 20, ..config() };
    let (wal, _) = Wal::open(disk.clone(), config).unwrap();
    disk.slow.store(true, Ordering::SeqCst);
    disk.full.store(true, Ordering::SeqCst);
    let (wake, woken) = waker();
    let reserve = 512 << 10;
    let writer = LogWriter::start(wal, disk.clone(), vec![wake], reserve).unwrap();
    let (mut submitted, mut durable, mut full) = (0, 0, false);
    // As a node that is at most half of the reserve ahead of the log.
    while !full {
        while (submitted - durable) * (TURN as u64) < reserve / 2 {
            submitted += 1;
            let records = vec![append(submitted, TURN)];
            writer.submit(Turn { cell: 0, ticket: submitted, records, must_sync: true }).unwrap();
        }
        if woken.recv_timeout(Duration::from_millis(200)).is_err() {
            // It waits for the chore.
            disk.slow.store(false, Ordering::SeqCst);
        }
        for event in writer.events(0) {
            match event {
                LogEvent::Durable { ticket } => durable = ticket,
                LogEvent::Full(is) => full = is,
                _ => {}
            }
        }
    }
    assert!(durable > 0);
    assert!(writer.status().room_bytes >= reserve / 2, "{} bytes are left", writer.status().room_bytes);
    until(&writer, &woken, |event| matches!(event, LogEvent::Durable { ticket } if ticket == submitted));
    drop(writer);
    assert_eq!(open_log(&dir, config).unwrap().logs[&G].entries.len() as u64, submitted);
}

#[test]
fn a_failed_sync_is_reported_and_nothing_after_it_is_durable() {
    let temp = tempfile::tempdir().unwrap();
    let dir = DataDir::open(temp.path()).unwrap();
    let disk = scarce(&dir);
    let (wal, _) = Wal::open(disk.clone(), config()).unwrap();
    let (wake, woken) = waker();
    let writer = LogWriter::start(wal, disk.clone(), vec![wake], 0).unwrap();
    disk.broken.store(true, Ordering::SeqCst);
    writer.submit(Turn { cell: 0, ticket: 1, records: vec![append(1, 10)], must_sync: true }).unwrap();
    until(&writer, &woken, |event| match event {
        LogEvent::Failed(fault) => {
            assert!(matches!(fault, LogFault::Failed(_)));
            true
        }
        other => panic!("{other:?}"),
    });
    disk.broken.store(false, Ordering::SeqCst);
    let _ = writer.submit(Turn { cell: 0, ticket: 2, records: vec![append(2, 10)], must_sync: true });
    assert!(writer.stop().is_empty());
}
