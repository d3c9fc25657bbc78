//! The thread that reads checkpoints for other nodes, chunk by chunk, so that neither the node's loop nor the writing of
//! checkpoints waits for it.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use skep_base::{GroupId, LogId};
use skep_log::{CheckpointFile, CheckpointReader, Disk, DiskError, LogFault};

use crate::inbox::{Inbox, Outbox};

/// Files kept open, each at the chunk that is asked for next: as many followers of one checkpoint are read for without
/// going through the file again for each chunk. One more closes the file that was not read from for longest.
const STREAMS_MAX: usize = 8;

/// A chunk of a checkpoint, or why there is none.
#[derive(Debug)]
pub struct ReadChunk {
    pub group: GroupId,
    pub at: LogId,
    /// Which chunk of the file, from 0.
    pub chunk: u64,
    pub found: Found,
}

/// What [`CheckpointSource::ask`] found.
#[derive(Debug)]
pub enum Found {
    /// `last`: the file ends with this chunk, and its end was checked. An empty file has one empty chunk.
    Chunk { bytes: Bytes, last: bool },
    /// There is no such chunk, mostly because a newer checkpoint has replaced the file.
    Gone,
    /// The file is not as written, or the disk did not read it. Nobody gets any more of it.
    Damaged(LogFault),
}

/// Handle of the thread.
pub struct CheckpointSource {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    /// `None` ends the thread. Bounded by the node: it asks for one chunk at a time for each follower.
    inbox: Inbox<Option<Ask>>,
    outbox: Outbox<ReadChunk>,
}

struct Ask {
    file: CheckpointFile,
    chunk: u64,
}

impl CheckpointSource {
    /// How long a file stays open that nobody asks for: a follower that is away for longer is read for from the start of
    /// the file. Meanwhile a file that was removed keeps its space.
    pub const IDLE: Duration = Duration::from_secs(30);

    /// Starts the thread; `wake` is called from it when there is something to take with [`CheckpointSource::chunks`].
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start<D: Disk + Clone + Send + 'static>(
        disk: D,
        idle: Duration,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<CheckpointSource> {
        let shared = Arc::new(Shared { inbox: Inbox::new(), outbox: Outbox::new(wake) });
        let source = Source { disk, idle, shared: shared.clone(), streams: Vec::new() };
        let thread = thread::Builder::new().name("skep-ckp-read".into()).spawn(move || source.run())?;
        Ok(CheckpointSource { shared, thread: Some(thread) })
    }

    /// Asks for a chunk of the checkpoint of `group` at `at`. Cheap if the chunk before it was asked for last; else the
    /// file is read up to it.
    pub fn ask(&self, group: GroupId, at: LogId, chunk: u64) {
        self.shared.inbox.push(Some(Ask { file: CheckpointFile { group, at }, chunk }));
    }

    /// What was read since the last call, in the order of asking.
    pub fn chunks(&self) -> Vec<ReadChunk> {
        self.shared.outbox.take()
    }
}

impl Drop for CheckpointSource {
    fn drop(&mut self) {
        if let Some(thread) = self.thread.take()
            && !thread::panicking()
        {
            self.shared.inbox.push(None);
            thread.join().expect("the thread does not panic, or the process is lost with it");
        }
    }
}

struct Source<D> {
    disk: D,
    idle: Duration,
    shared: Arc<Shared>,
    streams: Vec<Stream<D>>,
}

/// A file being read, one chunk ahead, so that the last chunk is known for it and the next is ready.
struct Stream<D> {
    file: CheckpointFile,
    reader: CheckpointReader<D>,
    /// The number of `ahead`.
    next: u64,
    /// `None` behind the last chunk.
    ahead: Option<Bytes>,
    used: Instant,
}

impl<D: Disk + Clone> Source<D> {
    fn run(mut self) {
        let mut asks = VecDeque::new();
        loop {
            self.streams.retain(|stream| stream.used.elapsed() < self.idle);
            let patience = (!self.streams.is_empty()).then_some(self.idle);
            self.shared.inbox.drain(patience, &mut asks);
            for ask in asks.drain(..) {
                let Some(Ask { file, chunk }) = ask else { return };
                let found = self.find(&file, chunk);
                let CheckpointFile { group, at } = file;
                self.shared.outbox.push(ReadChunk { group, at, chunk, found });
            }
        }
    }

    fn find(&mut self, file: &CheckpointFile, chunk: u64) -> Found {
        match self.read(file, chunk) {
            Ok(Some((bytes, last))) => Found::Chunk { bytes, last },
            Ok(None) => Found::Gone,
            Err(_) if self.is_removed(file) => Found::Gone,
            Err(fault) => Found::Damaged(fault),
        }
    }

    fn read(&mut self, file: &CheckpointFile, chunk: u64) -> Result<Option<(Bytes, bool)>, LogFault> {
        let open = self.streams.iter().position(|stream| stream.file == *file && stream.next == chunk);
        let mut stream = match open {
            Some(at) => self.streams.remove(at),
            None => Stream::open(self.disk.clone(), file)?,
        };
        stream.skip_to(chunk)?;
        let Some(bytes) = stream.take()? else {
            // A checkpoint of nothing has no chunk, and its reader still wants to hear of its end.
            return Ok((chunk == 0).then(|| (Bytes::new(), true)));
        };
        let last = stream.ahead.is_none();
        if !last {
            if self.streams.len() >= STREAMS_MAX {
                self.streams.remove(0); // those used later are behind it
            }
            self.streams.push(stream);
        }
        Ok(Some((bytes, last)))
    }

    fn is_removed(&mut self, file: &CheckpointFile) -> bool {
        matches!(self.disk.len(&file.name()), Err(DiskError::NotFound { .. }))
    }
}

impl<D: Disk> Stream<D> {
    fn open(disk: D, file: &CheckpointFile) -> Result<Stream<D>, LogFault> {
        let mut reader = CheckpointReader::open(disk, file)?;
        let ahead = reader.next_chunk()?;
        Ok(Stream { file: file.clone(), reader, next: 0, ahead, used: Instant::now() })
    }

    fn skip_to(&mut self, chunk: u64) -> Result<(), LogFault> {
        while self.next < chunk && self.take()?.is_some() {}
        Ok(())
    }

    /// The chunk ahead, or `None` at the end of the file.
    fn take(&mut self) -> Result<Option<Bytes>, LogFault> {
        let Some(bytes) = self.ahead.take() else { return Ok(None) };
        self.ahead = self.reader.next_chunk()?;
        self.next += 1;
        self.used = Instant::now();
        Ok(Some(bytes))
    }
}
