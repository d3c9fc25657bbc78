//! Reads the segments back after a start: cuts a torn tail, refuses anything else that is not as written.
//!
//! Owns the judgement of blocks; what the batches say is `replay`. Invariants: INV-LOG-2 (a batch is recovered wholly or not
//! at all), INV-LOG-3 (what a power cut cannot have done is refused).

use std::collections::BTreeMap;

use skep_base::GroupId;

use crate::block::{self, BLOCK_BYTES, BlockHeader, FORMAT_VERSION, Found, Seal};
use crate::disk::Disk;
use crate::fault::LogFault;
use crate::index::Index;
use crate::record::GroupLog;
use crate::replay::Replay;
use crate::segment::Segment;

/// Blocks read at a time: 1 MiB, large enough for the disk's full rate.
pub(crate) const BLOCKS_PER_READ: u32 = 2048;

/// What the segments say.
pub(crate) struct Recovered {
    pub index: Index,
    pub logs: BTreeMap<GroupId, GroupLog>,
    /// Segments that hold batches, oldest first; the last one may have room.
    pub used: Vec<Segment>,
    /// The first free block of the last used segment.
    pub position: u32,
    /// Segments behind them, without a batch.
    pub unused: Vec<Segment>,
    pub next_batch: u64,
}

/// Reads `segments`, which are consecutive, and makes what was read durable.
///
/// # Errors
/// [`LogFault::Damaged`], [`LogFault::Newer`] (nothing changed); [`LogFault::Failed`] (the torn tail may or may not be
/// wiped; a later start finds the same log).
pub(crate) fn recover(
    disk: &mut impl Disk,
    seal: Seal,
    segments: Vec<Segment>,
) -> Result<Recovered, LogFault> {
    let mut replay = Replay::default();
    let mut next_batch = 1;
    let mut used: Vec<Segment> = Vec::new();
    let mut unused: Vec<Segment> = Vec::new();
    let mut position = 0;
    // The first block of the batch that the log ends before, for the message if a later batch is found.
    let mut end: Option<(String, u64)> = None;
    let mut torn: Option<(String, u32, u32)> = None;
    for segment in segments {
        let oldest = used.is_empty() && unused.is_empty();
        let mut scan = Scan::new(seal, segment, next_batch, oldest && segment.number > 1);
        let looked_at = match unused.len() {
            0 => segment.blocks,
            // At most one batch is in flight, so only the first unused segment can hold a torn one; in those behind it
            // the first block is enough to see that none was ever written.
            _ => 1,
        };
        scan.run(disk, looked_at, end.as_ref(), &mut replay)?;
        if scan.batches > 0 {
            used.push(segment);
            position = scan.tail;
        } else {
            if oldest && segment.number > 1 {
                return Err(LogFault::damaged(
                    &segment.file(),
                    0,
                    "the oldest segment of the log holds no batch",
                ));
            }
            unused.push(segment);
        }
        next_batch = scan.next_batch;
        if let Some(count) = scan.torn_blocks {
            torn = Some((segment.file(), scan.tail, count));
        }
        if scan.torn_blocks.is_some() || scan.batches == 0 {
            end.get_or_insert((segment.file(), u64::from(scan.tail) * BLOCK_BYTES as u64));
        }
    }
    let logs = replay.finish(&used)?;
    if let Some((file, first, count)) = torn {
        wipe(disk, &file, first, count)?;
    }
    // After the crash of the process alone the tail may be in the page cache only, and Raft takes for durable whatever
    // it is given at a start.
    if let Some(last) = used.last() {
        disk.sync(&last.file())?;
    }
    disk.sync_dir()?;
    Ok(Recovered { index: replay.index, logs, used, position, unused, next_batch })
}

/// Zeroes the blocks of a torn batch, so that its number can be given again (INV-LOG-4). A crash on the way leaves a
/// batch that is torn still.
fn wipe(disk: &mut impl Disk, file: &str, first: u32, count: u32) -> Result<(), LogFault> {
    let zeros = vec![0; BLOCKS_PER_READ.min(count) as usize * BLOCK_BYTES];
    let (mut at, end) = (first, first + count);
    while at < end {
        let now = (end - at).min(BLOCKS_PER_READ);
        disk.write_at(file, u64::from(at) * BLOCK_BYTES as u64, &zeros[..now as usize * BLOCK_BYTES])?;
        at += now;
    }
    disk.sync(file)?;
    Ok(())
}

/// One pass over one segment: whole batches first, then the rest, which must be explained.
struct Scan {
    seal: Seal,
    segment: Segment,
    /// The number that a batch at `tail` must have.
    next_batch: u64,
    /// Take the number of the segment's first batch as it is: segments before are gone.
    any_first: bool,
    first_batch: u64,
    batches: u64,
    /// First block behind the last whole batch.
    tail: u32,
    /// Blocks seen of the batch at `tail`, while it may yet be whole.
    open: Option<BlockHeader>,
    payload: Vec<u8>,
    /// Whole batches are over; the rest is judged block by block.
    rest: bool,
    /// `count` of the torn batch at `tail`, if a block of it is there.
    torn_blocks: Option<u32>,
}

impl Scan {
    fn new(seal: Seal, segment: Segment, next_batch: u64, any_first: bool) -> Scan {
        Scan {
            seal,
            segment,
            next_batch,
            any_first,
            first_batch: next_batch,
            batches: 0,
            tail: 0,
            open: None,
            payload: Vec::new(),
            rest: false,
            torn_blocks: None,
        }
    }

    fn run(
        &mut self,
        disk: &mut impl Disk,
        blocks: u32,
        end: Option<&(String, u64)>,
        replay: &mut Replay,
    ) -> Result<(), LogFault> {
        let file = self.segment.file();
        let mut buffer = vec![0; BLOCKS_PER_READ.min(blocks) as usize * BLOCK_BYTES];
        let mut at = 0;
        while at < blocks {
            let now = (blocks - at).min(BLOCKS_PER_READ);
            let bytes = &mut buffer[..now as usize * BLOCK_BYTES];
            disk.read_at(&file, u64::from(at) * BLOCK_BYTES as u64, bytes)?;
            for (position, block) in (at..).zip(bytes.chunks_exact(BLOCK_BYTES)) {
                self.on_block(position, block, end, replay)?;
            }
            at += now;
        }
        if self.open.is_some() {
            self.give_up_batch();
        }
        Ok(())
    }

    fn on_block(
        &mut self,
        position: u32,
        block: &[u8],
        end: Option<&(String, u64)>,
        replay: &mut Replay,
    ) -> Result<(), LogFault> {
        let found = self.seal.inspect(position, block);
        let header = match found {
            Found::Zero => return self.on_old(),
            Found::Block(header) => header,
            Found::Newer(version) => {
                return Err(LogFault::Newer {
                    file: self.segment.file(),
                    version: u64::from(version),
                    version_max: u64::from(FORMAT_VERSION),
                });
            }
            Found::Bad => {
                return self.damaged(position, "a block is neither as written nor empty (checksum mismatch)");
            }
        };
        if header.segment > self.segment.number {
            return self.damaged(position, format!("a block of the later segment {}", header.segment));
        }
        if header.segment < self.segment.number {
            // Left from the file's earlier life as another segment.
            if !self.any_first && header.batch >= self.first_batch {
                return self.damaged(position, format!("an old block with the later batch {}", header.batch));
            }
            return self.on_old();
        }
        if let Some((file, offset)) = end {
            return Err(LogFault::damaged(
                file,
                *offset,
                format!("no whole batch here, but batch {} follows in {}", header.batch, self.segment.file()),
            ));
        }
        if self.any_first && position == 0 {
            (self.next_batch, self.first_batch, self.any_first) = (header.batch, header.batch, false);
        }
        self.on_new(position, block, header, replay)
    }

    /// A block that no batch of this segment reached.
    fn on_old(&mut self) -> Result<(), LogFault> {
        self.give_up_batch();
        Ok(())
    }

    /// The batch at `tail` is not whole, so the log ends there.
    fn give_up_batch(&mut self) {
        if let Some(open) = self.open.take() {
            self.torn_blocks = Some(open.count);
        }
        self.rest = true;
    }

    fn on_new(
        &mut self,
        position: u32,
        block: &[u8],
        header: BlockHeader,
        replay: &mut Replay,
    ) -> Result<(), LogFault> {
        let fits = header.batch == self.next_batch
            && position.checked_sub(self.tail) == Some(header.index)
            && u64::from(self.tail) + u64::from(header.count) <= u64::from(self.segment.blocks)
            && self.open.map_or(self.torn_blocks, |open| Some(open.count)).is_none_or(|c| c == header.count);
        if !fits {
            return self.damaged(
                position,
                format!(
                    "block {} of {} of batch {} where batch {} was expected from offset {}",
                    header.index + 1,
                    header.count,
                    header.batch,
                    self.next_batch,
                    u64::from(self.tail) * BLOCK_BYTES as u64,
                ),
            );
        }
        if self.rest {
            self.torn_blocks = Some(header.count);
            return Ok(());
        }
        if header.index == 0 {
            self.payload.clear();
        }
        self.payload.extend_from_slice(block::payload(block, header.used));
        self.open = Some(header);
        if header.index + 1 == header.count {
            self.open = None;
            replay.on_batch(self.segment, self.tail, &self.payload)?;
            self.tail += header.count;
            self.next_batch += 1;
            self.batches += 1;
        }
        Ok(())
    }

    fn damaged(&self, position: u32, found: impl Into<String>) -> Result<(), LogFault> {
        Err(LogFault::damaged(&self.segment.file(), u64::from(position) * BLOCK_BYTES as u64, found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Encoder, GroupState};
    use crate::mem_disk::MemDisk;
    use crate::record::{Entry, EntryKind, Membership, Record};
    use crate::segment::{create, write_identity};
    use crate::{Wal, WalConfig};
    use bytes::Bytes;
    use skep_base::{LogId, LogIndex, Rng, Term};

    fn id(rng: &mut Rng) -> LogId {
        let index = if rng.one_in(20) { 1 << 62 } else { rng.below(12) };
        LogId { term: Term(rng.below(3)), index: LogIndex(index) }
    }

    fn entries(rng: &mut Rng) -> Vec<Entry> {
        let first = id(rng).index.0.max(1);
        let entry = |i| Entry {
            id: LogId { term: Term(1), index: LogIndex(first + i) },
            kind: EntryKind::Normal,
            payload: Bytes::from_static(b"x"),
        };
        (0..=rng.below(3)).map(entry).collect()
    }

    /// Sound blocks, sound records, no sense.
    fn write_nonsense(encoder: &mut Encoder, rng: &mut Rng) {
        let group = GroupId(rng.below(2));
        match rng.below(7) {
            6 => encoder.record(&Record::Distrusted { group }, false),
            0 => encoder.rewrite(group, &entries(rng)),
            1 => {
                let (checkpoint, last) = (id(rng), id(rng));
                encoder.state(group, &GroupState { checkpoint, last, ..GroupState::default() });
            }
            2 => {
                let (at, keep) = (id(rng), rng.one_in(2));
                encoder.record(&Record::Checkpoint { group, at, membership: Membership::default() }, keep);
            }
            3 => encoder.record(&Record::Removed { group }, false),
            _ => encoder.record(&Record::Append { group, entries: entries(rng) }, false),
        }
    }

    #[test]
    fn sound_blocks_with_contradicting_records_are_refused_without_a_panic() {
        let (mut recovered, mut refused) = (0, 0);
        for seed in 0..3000 {
            let (mut disk, mut rng, mut encoder) = (MemDisk::new(), Rng::new(seed), Encoder::default());
            let segment = Segment { number: 1 + rng.below(2), blocks: 8 };
            create(&mut disk, segment).unwrap();
            write_identity(&mut disk, 5).unwrap();
            let (mut position, blocks) = (0, 1 + rng.below(4) as u32);
            while position < blocks {
                encoder.batch.clear();
                if position == 0 && !rng.one_in(50) {
                    encoder.start(segment.number, segment.blocks);
                }
                (0..=rng.below(2)).for_each(|_| write_nonsense(&mut encoder, &mut rng));
                let bytes =
                    encoder.batch.finish(Seal::new(5), segment.number, 1 + u64::from(position), position);
                disk.write_at(&segment.file(), u64::from(position) * BLOCK_BYTES as u64, bytes).unwrap();
                position += (bytes.len() / BLOCK_BYTES) as u32;
            }
            match Wal::open(disk, WalConfig { segment_bytes: 4096, ..WalConfig::default() }) {
                Ok((wal, _)) => {
                    wal.assert_invariants();
                    recovered += 1;
                }
                Err(LogFault::Damaged { .. }) => refused += 1,
                Err(fault) => panic!("seed {seed}: {fault}"),
            }
        }
        assert!(recovered > 20 && refused > 1000, "{recovered} recovered, {refused} refused");
    }
}
