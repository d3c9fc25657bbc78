//! Checkpoint files: the state of one group at one position, as chunks of bytes that the caller understands.
//!
//! ```text
//! header  magic 8 | version u32 | body length u32 | body: group, term, index (varints), membership | crc32c u32
//! chunk   length u32, not 0 | crc32c u32 over header crc, chunk number, length, bytes | bytes
//! footer  0 u32 | chunks u64 | chunk bytes u64 | crc32c u32 over all lengths and checksums before, and the counts
//! ```
//!
//! Invariant INV-LOG-7: a file under its final name is complete and durable. It is written under a temporary name,
//! synced, renamed, and only then recorded in the log ([`crate::Record::Checkpoint`]).

use std::collections::BTreeMap;

use bytes::Bytes;
use skep_base::varint::{Malformed, Reader, put};
use skep_base::{GroupId, LogId, LogIndex, Term};

use crate::codec;
use crate::disk::{Disk, DiskError};
use crate::fault::LogFault;
use crate::record::{GroupLog, Membership};

/// Longest chunk. Callers aim at 1 MiB or less; the slack is for one value that tips a chunk over.
pub const CHUNK_BYTES_MAX: usize = 2 << 20;
/// Longest header body: thousands of members, far beyond any group.
const BODY_BYTES_MAX: usize = 64 << 10;
/// Bytes collected before a write.
const WRITE_BYTES: usize = 256 << 10;
/// Bytes between syncs, so that a checkpoint never piles up dirty pages that stall the log's next sync.
const SYNC_BYTES: u64 = 4 << 20;

const MAGIC: &[u8; 8] = b"skep-ckp";
const VERSION: u32 = 1;
const PREFIX: &str = "checkpoint-";
const UNFINISHED: &str = ".tmp";

/// What a checkpoint is of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CheckpointHeader {
    pub group: GroupId,
    /// The last entry that is in it.
    pub at: LogId,
    /// Who votes at that position.
    pub membership: Membership,
}

/// A checkpoint by its name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct CheckpointFile {
    pub group: GroupId,
    pub at: LogId,
}

impl CheckpointFile {
    /// The name of the file.
    pub fn name(&self) -> String {
        let CheckpointFile { group, at } = self;
        format!("{PREFIX}{:016x}-{:016x}-{:016x}", group.0, at.index.0, at.term.0)
    }

    fn parse(name: &str) -> Option<CheckpointFile> {
        let mut numbers =
            name.strip_prefix(PREFIX)?.split('-').map(|digits| u64::from_str_radix(digits, 16).ok());
        let (group, index, term) = (numbers.next()??, numbers.next()??, numbers.next()??);
        let file =
            CheckpointFile { group: GroupId(group), at: LogId { term: Term(term), index: LogIndex(index) } };
        (file.name() == name).then_some(file)
    }
}

/// Writes one checkpoint. Dropped before [`CheckpointWriter::finish`], it leaves a temporary file that the next
/// [`tidy`] removes; [`CheckpointWriter::abandon`] removes it at once.
pub struct CheckpointWriter<D> {
    disk: D,
    file: CheckpointFile,
    unfinished: String,
    buffer: Vec<u8>,
    /// Bytes of the file before those in `buffer`.
    written: u64,
    unsynced: u64,
    seal: u32,
    chunks: u64,
    chunk_bytes: u64,
    whole: u32,
}

impl<D: Disk> CheckpointWriter<D> {
    /// Begins the file.
    ///
    /// # Errors
    /// [`LogFault::Full`]: drop the checkpoint and try again later. [`LogFault::Failed`]: the disk failed.
    pub fn create(mut disk: D, header: &CheckpointHeader) -> Result<CheckpointWriter<D>, LogFault> {
        let file = CheckpointFile { group: header.group, at: header.at };
        let unfinished = format!("{}{UNFINISHED}", file.name());
        disk.create(&unfinished, 0)?;
        let mut body = Vec::new();
        put(&mut body, header.group.0);
        put(&mut body, header.at.term.0);
        put(&mut body, header.at.index.0);
        codec::put_membership(&mut body, &header.membership);
        assert!(body.len() <= BODY_BYTES_MAX, "checkpoint header of {} bytes", body.len());
        let mut buffer = MAGIC.to_vec();
        buffer.extend_from_slice(&VERSION.to_le_bytes());
        buffer.extend_from_slice(&(body.len() as u32).to_le_bytes());
        buffer.extend_from_slice(&body);
        let seal = crc32c::crc32c(&buffer);
        buffer.extend_from_slice(&seal.to_le_bytes());
        Ok(CheckpointWriter {
            disk,
            file,
            unfinished,
            buffer,
            written: 0,
            unsynced: 0,
            seal,
            chunks: 0,
            chunk_bytes: 0,
            whole: seal,
        })
    }

    /// Adds a chunk; an empty one adds nothing.
    ///
    /// # Errors
    /// As [`CheckpointWriter::create`]; the writer is of no more use.
    ///
    /// # Panics
    /// If `bytes` is longer than [`CHUNK_BYTES_MAX`].
    pub fn chunk(&mut self, bytes: &[u8]) -> Result<(), LogFault> {
        assert!(bytes.len() <= CHUNK_BYTES_MAX, "checkpoint chunk of {} bytes", bytes.len());
        if bytes.is_empty() {
            return Ok(());
        }
        let len = bytes.len() as u32;
        let crc = chunk_checksum(self.seal, self.chunks, bytes);
        self.buffer.extend_from_slice(&len.to_le_bytes());
        self.buffer.extend_from_slice(&crc.to_le_bytes());
        self.buffer.extend_from_slice(bytes);
        self.whole = note_chunk(self.whole, len, crc);
        self.chunks += 1;
        self.chunk_bytes += u64::from(len);
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    /// Completes the file, makes it durable and gives it its name. It may now be recorded in the log; after that
    /// [`remove_older`].
    ///
    /// # Errors
    /// As [`CheckpointWriter::create`].
    pub fn finish(mut self) -> Result<CheckpointFile, LogFault> {
        self.buffer.extend_from_slice(&footer(self.whole, self.chunks, self.chunk_bytes));
        if let Err(fault) = self.flush() {
            if fault.is_full() {
                // Gives the space back; if that fails too, the next `tidy` does it.
                let _ = self.disk.remove(&self.unfinished);
            }
            return Err(fault);
        }
        self.disk.sync(&self.unfinished)?;
        self.disk.rename(&self.unfinished, &self.file.name())?;
        self.disk.sync_dir()?;
        Ok(self.file)
    }

    /// Removes what was written.
    ///
    /// # Errors
    /// [`LogFault::Failed`]: the disk failed.
    pub fn abandon(mut self) -> Result<(), LogFault> {
        Ok(self.disk.remove(&self.unfinished)?)
    }

    fn flush(&mut self) -> Result<(), LogFault> {
        self.disk.write_at(&self.unfinished, self.written, &self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.unsynced += self.buffer.len() as u64;
        self.buffer.clear();
        if self.unsynced >= SYNC_BYTES {
            self.disk.sync(&self.unfinished)?;
            self.unsynced = 0;
        }
        Ok(())
    }
}

fn chunk_checksum(seal: u32, number: u64, bytes: &[u8]) -> u32 {
    let mut head = [0; 12];
    head[..8].copy_from_slice(&number.to_le_bytes());
    head[8..].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(seal, &head), bytes)
}

fn note_chunk(whole: u32, len: u32, crc: u32) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c_append(whole, &len.to_le_bytes()), &crc.to_le_bytes())
}

const FOOTER_BYTES: usize = 24;

fn footer(whole: u32, chunks: u64, chunk_bytes: u64) -> [u8; FOOTER_BYTES] {
    let mut footer = [0; FOOTER_BYTES];
    footer[4..12].copy_from_slice(&chunks.to_le_bytes());
    footer[12..20].copy_from_slice(&chunk_bytes.to_le_bytes());
    let crc = crc32c::crc32c_append(whole, &footer[..20]);
    footer[20..].copy_from_slice(&crc.to_le_bytes());
    footer
}

/// Reads one checkpoint, checking as it goes, with one chunk in memory.
#[derive(Debug)]
pub struct CheckpointReader<D> {
    disk: D,
    file: String,
    header: CheckpointHeader,
    len: u64,
    offset: u64,
    seal: u32,
    chunks: u64,
    chunk_bytes: u64,
    whole: u32,
    ended: bool,
}

impl<D: Disk> CheckpointReader<D> {
    /// Opens `file` and checks its header.
    ///
    /// # Errors
    /// [`LogFault::Damaged`] (also if it is missing), [`LogFault::Newer`], [`LogFault::Failed`].
    pub fn open(mut disk: D, file: &CheckpointFile) -> Result<CheckpointReader<D>, LogFault> {
        let (wanted, file) = (file, file.name());
        let len = match disk.len(&file) {
            Ok(len) => len,
            Err(DiskError::NotFound { .. }) => {
                return Err(LogFault::damaged(&file, 0, "the checkpoint is missing"));
            }
            Err(error) => return Err(error.into()),
        };
        let cut =
            || LogFault::damaged(&file, len, format!("the file ends after {len} bytes, within the header"));
        let mut head = vec![0; 16];
        if len < head.len() as u64 {
            return Err(cut());
        }
        disk.read_at(&file, 0, &mut head)?;
        let (version, body_len) = (u32_at(&head, 8), u32_at(&head, 12) as usize);
        if &head[..8] != MAGIC || body_len > BODY_BYTES_MAX {
            return Err(LogFault::damaged(&file, 0, "it does not begin as a checkpoint does"));
        }
        if len < (head.len() + body_len + 4) as u64 {
            return Err(cut());
        }
        head.resize(16 + body_len + 4, 0);
        disk.read_at(&file, 16, &mut head[16..])?;
        let (covered, crc) = head.split_at(16 + body_len);
        let seal = crc32c::crc32c(covered);
        if crc != seal.to_le_bytes() {
            return Err(LogFault::damaged(&file, 0, "the header is not as written (checksum mismatch)"));
        }
        if version != VERSION {
            let (version, version_max) = (u64::from(version), u64::from(VERSION));
            return Err(LogFault::Newer { file, version, version_max });
        }
        let header = parse_header(&covered[16..])
            .map_err(|m| LogFault::damaged(&file, 16, format!("the header does not parse: {m}")))?;
        if (header.group, header.at) != (wanted.group, wanted.at) {
            return Err(LogFault::damaged(
                &file,
                16,
                format!("it is of group {} at {:?}, not what its name says", header.group, header.at),
            ));
        }
        let offset = head.len() as u64;
        Ok(CheckpointReader {
            disk,
            file,
            header,
            len,
            offset,
            seal,
            chunks: 0,
            chunk_bytes: 0,
            whole: seal,
            ended: false,
        })
    }

    pub fn header(&self) -> &CheckpointHeader {
        &self.header
    }

    /// The next chunk, or `None` when the file ended as it should. Only then is the checkpoint whole: act on its chunks
    /// only in a way that can be undone until then.
    ///
    /// # Errors
    /// As [`CheckpointReader::open`]; the reader is of no more use.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, LogFault> {
        if self.ended {
            return Ok(None);
        }
        let mut head = [0; 8];
        self.read(&mut head)?;
        let (len, crc) = (u32_at(&head, 0), u32_at(&head, 4));
        if len == 0 {
            return self.end();
        }
        let (start, size) = (self.offset, len as usize);
        if size > CHUNK_BYTES_MAX {
            return Err(
                self.damaged(start, format!("a chunk of {size} bytes, the limit is {CHUNK_BYTES_MAX}"))
            );
        }
        self.offset += head.len() as u64;
        if self.len - self.offset < u64::from(len) {
            return Err(self.damaged(self.len, format!("the file ends within the chunk at {start}")));
        }
        let mut bytes = vec![0; size];
        self.read(&mut bytes)?;
        if crc != chunk_checksum(self.seal, self.chunks, &bytes) {
            return Err(self.damaged(start, "a chunk is not as written (checksum mismatch)"));
        }
        self.offset += u64::from(len);
        self.whole = note_chunk(self.whole, len, crc);
        self.chunks += 1;
        self.chunk_bytes += u64::from(len);
        Ok(Some(bytes.into()))
    }

    fn end(&mut self) -> Result<Option<Bytes>, LogFault> {
        let mut found = [0; FOOTER_BYTES];
        self.read(&mut found)?;
        if found != footer(self.whole, self.chunks, self.chunk_bytes) {
            return Err(self.damaged(self.offset, "the footer is not as written"));
        }
        let end = self.offset + FOOTER_BYTES as u64;
        if end != self.len {
            return Err(self.damaged(end, format!("{} bytes follow the footer", self.len - end)));
        }
        self.ended = true;
        Ok(None)
    }

    /// Fills `buffer` from where the reader stands, without moving on.
    fn read(&mut self, buffer: &mut [u8]) -> Result<(), LogFault> {
        if self.len - self.offset < buffer.len() as u64 {
            return Err(self.damaged(self.len, "the file ends before its footer"));
        }
        Ok(self.disk.read_at(&self.file, self.offset, buffer)?)
    }

    fn damaged(&self, offset: u64, found: impl Into<String>) -> LogFault {
        LogFault::damaged(&self.file, offset, found)
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn parse_header(body: &[u8]) -> Result<CheckpointHeader, Malformed> {
    let mut reader = Reader::new(body);
    let group = GroupId(reader.varint()?);
    let at = LogId { term: Term(reader.varint()?), index: LogIndex(reader.varint()?) };
    let membership = codec::membership(&mut reader)?;
    reader.end()?;
    Ok(CheckpointHeader { group, at, membership })
}

/// All finished checkpoints in the directory, by group and age.
///
/// # Errors
/// [`LogFault::Failed`].
pub fn list(disk: &mut impl Disk) -> Result<Vec<CheckpointFile>, LogFault> {
    let mut files: Vec<_> = disk.list()?.iter().filter_map(|name| CheckpointFile::parse(name)).collect();
    files.sort();
    Ok(files)
}

/// Removes the checkpoints of `group` that are older than the one at `at`. Call it when the log durably names that one; until
/// then the older is the one that counts. A newer one may be complete already, and the log about to name it.
///
/// # Errors
/// [`LogFault::Failed`].
pub fn remove_older(disk: &mut impl Disk, group: GroupId, at: LogId) -> Result<(), LogFault> {
    for file in list(disk)? {
        if file.group == group && file.at.index < at.index {
            disk.remove(&file.name())?;
        }
    }
    Ok(())
}

/// After a start: finds the checkpoint of each group of the log, and removes unfinished ones and those that the log does
/// not name (finished, but not recorded before the crash; or replaced, but not removed before it).
///
/// A group whose checkpoint is at index 0 has none. The chunks are checked when they are read.
///
/// # Errors
/// [`LogFault::Damaged`] if a checkpoint that the log names is missing; nothing is removed then. [`LogFault::Failed`].
pub fn tidy(
    disk: &mut impl Disk,
    logs: &BTreeMap<GroupId, GroupLog>,
) -> Result<BTreeMap<GroupId, CheckpointFile>, LogFault> {
    let names = disk.list()?;
    let mut needed = BTreeMap::new();
    for (group, log) in logs.iter().filter(|(_, log)| log.checkpoint.index > LogIndex(0)) {
        let file = CheckpointFile { group: *group, at: log.checkpoint };
        let name = file.name();
        if names.binary_search(&name).is_err() {
            let found = "the checkpoint is missing, and the log behind it is gone";
            return Err(LogFault::damaged(&name, 0, found));
        }
        needed.insert(*group, file);
    }
    for name in names.iter().filter(|name| name.starts_with(PREFIX)) {
        let file = CheckpointFile::parse(name);
        let is_needed = file.as_ref().is_some_and(|f| needed.get(&f.group) == Some(f));
        if !is_needed && (file.is_some() || name.ends_with(UNFINISHED)) {
            disk.remove(name)?;
        }
    }
    Ok(needed)
}
