//! Reads the segments back after a start: cuts a torn tail, refuses anything else that is not as written.
//!
//! Owns the judgement of blocks, not the running log. Invariants: INV-LOG-2 (a batch is recovered wholly or not at all),
//! INV-LOG-3 (what a power cut cannot have done is refused), INV-LOG-5 (no live entry is missing).

use std::collections::{BTreeMap, VecDeque};

use skep_base::varint::Reader;
use skep_base::{GroupId, LogIndex};

use crate::block::{self, BLOCK_BYTES, BlockHeader, FORMAT_VERSION, Found, Seal};
use crate::codec::{self, Logged};
use crate::disk::Disk;
use crate::fault::LogFault;
use crate::index::{GroupIndex, Index, MISSING};
use crate::record::{Entry, GroupLog};
use crate::segment::{self, Segment};

/// Blocks read at a time: 1 MiB, large enough for the disk's full rate.
const BLOCKS_PER_READ: u32 = 2048;

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

/// The groups as the batches so far left them.
#[derive(Default)]
struct Replay {
    index: Index,
    entries: BTreeMap<GroupId, Held>,
    started: bool,
}

/// Entries read so far of one group; `None` where only a missing segment, or a later one, can have the entry.
#[derive(Default)]
struct Held {
    /// Index of the first.
    first: u64,
    entries: VecDeque<Option<Entry>>,
}

/// Entries of a log that a state record may announce without showing them: more than any memory holds.
const HOLES_MAX: u64 = 1 << 28;

impl Held {
    fn place(&self, index: LogIndex) -> usize {
        index.0.checked_sub(self.first).expect("the index admitted it, so it is behind the checkpoint")
            as usize
    }

    fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first() else { return };
        self.entries.truncate(self.place(first.id.index));
        self.entries.extend(entries.into_iter().map(Some));
    }

    fn checkpoint(&mut self, at: LogIndex, keep: bool) {
        let dead = (at.0 + 1 - self.first).min(self.entries.len() as u64) as usize;
        self.entries.drain(..if keep { dead } else { self.entries.len() });
        self.first = at.0 + 1;
    }

    fn rewrite(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            let place = self.place(entry.id.index);
            self.entries[place] = Some(entry);
        }
    }
}

impl Replay {
    fn on_batch(&mut self, segment: Segment, position: u32, payload: &[u8]) -> Result<(), LogFault> {
        let fault = |found: String| {
            LogFault::damaged(&segment.file(), u64::from(position) * BLOCK_BYTES as u64, found)
        };
        let mut reader = Reader::new(payload);
        let mut states = BTreeMap::new();
        let mut is_first = true;
        let mut in_states = false;
        while reader.left() > 0 {
            let at = reader.offset();
            let logged =
                codec::decode(&mut reader).map_err(|m| fault(format!("the batch does not parse: {m}")))?;
            let is_start = matches!(logged, Logged::Start { .. });
            if is_start != (is_first && position == 0) {
                return Err(fault(format!("a segment start misplaced, at byte {at} of the batch")));
            }
            is_first = false;
            match logged {
                Logged::Start { segment: number, blocks } => {
                    if (number, blocks) != (segment.number, segment.blocks) {
                        return Err(LogFault::damaged(
                            &segment.file(),
                            u64::from(segment.blocks.min(blocks)) * BLOCK_BYTES as u64,
                            format!(
                                "the file has {} bytes, segment {number} was made with {}",
                                u64::from(segment.blocks) * BLOCK_BYTES as u64,
                                u64::from(blocks) * BLOCK_BYTES as u64
                            ),
                        ));
                    }
                    in_states = true;
                }
                Logged::State { group, state } if in_states => {
                    states.insert(group, state);
                }
                other => {
                    if std::mem::take(&mut in_states) {
                        self.on_states(std::mem::take(&mut states)).map_err(fault)?;
                    }
                    self.on_record(other, segment.number).map_err(fault)?;
                }
            }
        }
        if in_states {
            self.on_states(states).map_err(fault)?;
        }
        Ok(())
    }

    /// The states at the head of a segment: the start of knowledge in the oldest segment, a cross-check in the others.
    fn on_states(&mut self, states: BTreeMap<GroupId, codec::GroupState>) -> Result<(), String> {
        if std::mem::replace(&mut self.started, true) {
            let known = self.index.groups.iter().map(|(g, i)| (g, &i.state));
            if !known.eq(states.iter()) {
                return Err("the states of the groups differ from what the segments before say".into());
            }
            return Ok(());
        }
        for (group, state) in states {
            let first = state.checkpoint.index.0 + 1;
            let holes = match (state.last.index.0 + 1).checked_sub(first) {
                Some(holes) if holes <= HOLES_MAX => holes,
                _ => return Err(format!("group {group}: a log from {} to {}", first, state.last.index)),
            };
            let entries = (0..holes).map(|_| None).collect();
            self.entries.insert(group, Held { first, entries });
            self.index.groups.insert(group, GroupIndex::from_state(state));
        }
        Ok(())
    }

    fn on_record(&mut self, logged: Logged, segment: u64) -> Result<(), String> {
        match logged {
            Logged::Start { .. } | Logged::State { .. } => Err("a state of a group is misplaced".into()),
            Logged::Append { group, entries } => {
                let index = self.index.groups.entry(group).or_default();
                if let Some(why) = index.refuses(&entries) {
                    return Err(format!("group {group}: {why}"));
                }
                index.append(&entries, segment);
                self.held(group).append(entries);
                Ok(())
            }
            Logged::HardState { group, state } => {
                self.index.groups.entry(group).or_default().state.hard_state = state;
                Ok(())
            }
            Logged::Checkpoint { group, at, membership, keep } => {
                let index = self.index.groups.entry(group).or_default();
                if at.index < index.state.checkpoint.index {
                    return Err(format!("group {group}: the checkpoint goes back to {}", at.index));
                }
                index.checkpoint(at, &membership, keep);
                self.held(group).checkpoint(at.index, keep);
                Ok(())
            }
            Logged::Removed { group } => {
                self.index.groups.remove(&group);
                self.entries.remove(&group);
                Ok(())
            }
            Logged::Rewrite { group, entries } => {
                let Some(index) = self.index.groups.get_mut(&group) else {
                    return Err(format!("group {group}: entries rewritten of an unknown group"));
                };
                if let Some(dead) = entries.iter().find(|e| index.run_of(e.id.index).is_none()) {
                    return Err(format!("group {group}: entry {} rewritten is not live", dead.id.index));
                }
                index.relocate(&entries, segment);
                self.held(group).rewrite(entries);
                Ok(())
            }
        }
    }

    fn held(&mut self, group: GroupId) -> &mut Held {
        self.entries.entry(group).or_insert(Held { first: 1, entries: VecDeque::new() })
    }

    fn finish(&mut self, used: &[Segment]) -> Result<BTreeMap<GroupId, GroupLog>, LogFault> {
        let mut logs = BTreeMap::new();
        for (group, index) in &self.index.groups {
            if let Some(run) = index.runs.iter().find(|run| run.segment == MISSING) {
                let before = used.first().map_or(0, |s| s.number.saturating_sub(1));
                return Err(LogFault::damaged(
                    &segment::file_name(before),
                    0,
                    format!(
                        "the segment is missing, and with it entries {} to {} of group {group}",
                        run.first, run.last
                    ),
                ));
            }
            let held = self.entries.remove(group).unwrap_or_default();
            let entries: Vec<Entry> = held.entries.into_iter().flatten().collect();
            let state = &index.state;
            assert_eq!(
                entries.len() as u64,
                state.last.index.0 - state.checkpoint.index.0,
                "{group:?} has other entries than its index says: {state:?}"
            );
            logs.insert(
                *group,
                GroupLog {
                    checkpoint: state.checkpoint,
                    membership: state.membership.clone(),
                    hard_state: state.hard_state,
                    entries,
                },
            );
        }
        Ok(logs)
    }
}

/// Collects the newest copy of each entry that `wanted` asks for from one old segment, so that it can be written again.
///
/// # Errors
/// As [`recover`]; a batch that is not whole is damage, since the segment was completed long ago.
pub(crate) fn gather(
    disk: &mut impl Disk,
    seal: Seal,
    segment: Segment,
    wanted: &[(GroupId, LogIndex, LogIndex)],
) -> Result<BTreeMap<GroupId, Vec<Entry>>, LogFault> {
    let mut found: BTreeMap<GroupId, BTreeMap<LogIndex, Entry>> = BTreeMap::new();
    let mut buffer = vec![0; BLOCK_BYTES * segment.blocks.min(BLOCKS_PER_READ) as usize];
    let mut payload = Vec::new();
    let file = segment.file();
    let mut at = 0;
    'segment: while at < segment.blocks {
        let now = (segment.blocks - at).min(BLOCKS_PER_READ);
        let bytes = &mut buffer[..now as usize * BLOCK_BYTES];
        disk.read_at(&file, u64::from(at) * BLOCK_BYTES as u64, bytes)?;
        for (position, block) in (at..).zip(bytes.chunks_exact(BLOCK_BYTES)) {
            let offset = u64::from(position) * BLOCK_BYTES as u64;
            let header = match seal.inspect(position, block) {
                Found::Block(header) if header.segment == segment.number => header,
                Found::Block(_) | Found::Zero => break 'segment,
                Found::Bad | Found::Newer(_) => {
                    return Err(LogFault::damaged(
                        &file,
                        offset,
                        "a block is not as written (checksum mismatch)",
                    ));
                }
            };
            if header.index == 0 {
                payload.clear();
            }
            payload.extend_from_slice(block::payload(block, header.used));
            if header.index + 1 < header.count {
                continue;
            }
            let mut reader = Reader::new(&payload);
            while reader.left() > 0 {
                let logged = codec::decode(&mut reader)
                    .map_err(|m| LogFault::damaged(&file, offset, format!("a batch does not parse: {m}")))?;
                let (Logged::Append { group, entries } | Logged::Rewrite { group, entries }) = logged else {
                    continue;
                };
                let is_wanted = |index: LogIndex| {
                    wanted.iter().any(|(g, first, last)| *g == group && (*first..=*last).contains(&index))
                };
                found
                    .entry(group)
                    .or_default()
                    .extend(entries.into_iter().filter(|e| is_wanted(e.id.index)).map(|e| (e.id.index, e)));
            }
        }
        at += now;
    }
    Ok(found.into_iter().map(|(g, entries)| (g, entries.into_values().collect())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{Encoder, GroupState};
    use crate::mem_disk::MemDisk;
    use crate::record::{EntryKind, Membership, Record};
    use crate::segment::{create, write_identity};
    use crate::{Wal, WalConfig};
    use bytes::Bytes;
    use skep_base::{LogId, Rng, Term};

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
        match rng.below(6) {
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
