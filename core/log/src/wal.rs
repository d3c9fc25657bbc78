//! The running log: one per node, shared by all its groups, one batch in flight.
//!
//! Owns where the next batch goes and which segments are still needed; reading back is `recovery`, work that may run on
//! another thread is `chore`. Invariants: INV-LOG-1 to INV-LOG-6 of DESIGN.md.

use std::collections::{BTreeMap, VecDeque};

use skep_base::GroupId;

use crate::block::{BLOCK_BYTES, PAYLOAD_BYTES, Seal, blocks_for};
use crate::chore::{Chore, ChoreDone, Done};
use crate::codec::{self, Encoder};
use crate::disk::{Disk, DiskError};
use crate::fault::LogFault;
use crate::index::Index;
use crate::record::{Entry, GroupLog, Record};
use crate::recovery::{self, Recovered};
use crate::segment::{self, SPARE, Segment};

/// Sizes of a [`Wal`]. A log may be reopened with other sizes.
#[derive(Clone, Copy, Debug)]
pub struct WalConfig {
    /// Identity of a log made now, random; an existing log keeps its own.
    pub salt: u64,
    /// File length of a segment, a multiple of 512.
    pub segment_bytes: u64,
    /// File length of the very first segment, which is zero-filled before the node can start; small, so that a first
    /// start is fast.
    pub first_segment_bytes: u64,
    /// Segments in use above which the few live entries of the oldest are rewritten, so that it can die.
    pub segments_kept: usize,
}

impl Default for WalConfig {
    /// 64 MiB segments: zero-filling one takes a fifth of a second of disk time and its metadata syncs are then spread
    /// over hundreds of thousands of batches. A first segment of 2 MiB is zero-filled in about 10 ms.
    fn default() -> WalConfig {
        WalConfig { salt: 0, segment_bytes: 64 << 20, first_segment_bytes: 2 << 20, segments_kept: 4 }
    }
}

/// Blocks of the smallest segment: a start record, the states of some groups and one small batch.
const SEGMENT_BLOCKS_MIN: u64 = 4;
/// Prepared segments ahead of the current one, above which dead ones are removed instead of recycled.
const PREPARED_MAX: usize = 2;

/// What [`Wal::append`] wrote.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Appended {
    /// Number of the batch, one more than that of the batch before, also over restarts.
    pub batch: u64,
    /// Bytes written to the disk: whole blocks.
    pub bytes: u64,
}

/// Counters since opening.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WalStats {
    pub batches: u64,
    pub syncs: u64,
    pub bytes_written: u64,
    /// Segments that hold batches.
    pub segments_used: usize,
    pub segments_prepared: usize,
    /// Length of all segment files.
    pub bytes_on_disk: u64,
    pub entries_rewritten: u64,
}

/// A write-ahead log of many groups in segments on one disk.
///
/// Use: [`Wal::append`] all records of a turn, [`Wal::sync`], then tell those who wait; between, run chores with
/// [`Wal::next_chore`] so that a prepared segment is always at hand.
pub struct Wal<D> {
    disk: D,
    config: WalConfig,
    seal: Seal,
    index: Index,
    /// Segments with batches, oldest first; batches go to the last.
    used: VecDeque<Segment>,
    prepared: VecDeque<Segment>,
    /// No longer needed, oldest first; taken from the front, one at a time, so that no crash leaves a gap.
    dead: VecDeque<Segment>,
    /// The name of the last used segment.
    file: String,
    /// First free block of the last used segment.
    position: u32,
    next_batch: u64,
    unsynced: bool,
    stopped: bool,
    chore_running: bool,
    /// Read back from the oldest segment, to go into the next batch.
    rewrites: BTreeMap<GroupId, Vec<Entry>>,
    /// The segment they came from, and the last one that was gathered.
    gathered: u64,
    encoder: Encoder,
    stats: WalStats,
}

impl<D: Disk> Wal<D> {
    /// Opens the log on `disk`, or makes a new one if there is none, and gives back what it holds of each group. All of
    /// it is durable when this returns.
    ///
    /// A `hard_state.commit` may be ahead of or behind the entries recovered; the group clamps it.
    ///
    /// # Errors
    /// [`LogFault::Damaged`], [`LogFault::Newer`]: nothing was changed. [`LogFault::Full`]: no space for the first
    /// segment. [`LogFault::Failed`]: the disk failed.
    ///
    /// # Panics
    /// If `config` has a segment shorter than 2 KiB or not a multiple of 512.
    ///
    /// Cost: reads all segments once.
    pub fn open(mut disk: D, config: WalConfig) -> Result<(Wal<D>, BTreeMap<GroupId, GroupLog>), LogFault> {
        for bytes in [config.segment_bytes, config.first_segment_bytes] {
            let blocks = bytes / BLOCK_BYTES as u64;
            assert!(
                bytes % BLOCK_BYTES as u64 == 0
                    && (SEGMENT_BLOCKS_MIN..=u64::from(u32::MAX)).contains(&blocks),
                "segment of {bytes} bytes"
            );
        }
        let segments = segment::list(&mut disk)?;
        let (salt, segments) = match segment::read_identity(&mut disk)? {
            Some(_) if segments.is_empty() => {
                return Err(LogFault::damaged(&segment::file_name(1), 0, "all segments are missing"));
            }
            Some(salt) => (salt, segments),
            None => {
                segment::remove_stillborn(&mut disk, &segments)?;
                let first =
                    Segment { number: 1, blocks: (config.first_segment_bytes / BLOCK_BYTES as u64) as u32 };
                segment::create(&mut disk, first)?;
                segment::write_identity(&mut disk, config.salt)?;
                (config.salt, vec![first])
            }
        };
        let seal = Seal::new(salt);
        let Recovered { index, logs, used, position, unused, next_batch } =
            recovery::recover(&mut disk, seal, segments)?;
        let mut wal = Wal {
            disk,
            config,
            seal,
            index,
            file: used.last().map(|s| s.file()).unwrap_or_default(),
            used: used.into(),
            prepared: unused.into(),
            dead: VecDeque::new(),
            position,
            next_batch,
            unsynced: false,
            stopped: false,
            chore_running: false,
            rewrites: BTreeMap::new(),
            gathered: 0,
            encoder: Encoder::default(),
            stats: WalStats::default(),
        };
        wal.bury();
        Ok((wal, logs))
    }

    /// Writes `records` as one batch. Not durable until [`Wal::sync`]; the batch before must have been synced.
    ///
    /// # Errors
    /// [`LogFault::Full`]: nothing was changed, the call may be repeated. Others: the process must stop.
    ///
    /// # Panics
    /// If the batch before was not synced, or a record contradicts the log: entries that leave a gap or go back behind
    /// the checkpoint, a checkpoint that goes back.
    ///
    /// Cost: one copy of the payloads, one checksum pass, one write; at the start of a segment also O(groups). Creates a
    /// segment, which takes a while, only if none is prepared.
    pub fn append(&mut self, records: &[Record]) -> Result<Appended, LogFault> {
        self.refuse_if_stopped()?;
        assert!(!self.unsynced, "batch {} is still in flight", self.next_batch - 1);
        self.drop_stale_rewrites();
        let payload_bytes = records.iter().map(codec::record_len).sum::<usize>() + self.rewrites_len();
        if payload_bytes == 0 {
            return Ok(Appended { batch: self.next_batch - 1, bytes: 0 });
        }
        self.encoder.batch.clear();
        if !self.fits(payload_bytes) {
            self.begin_segment(payload_bytes)?;
        }
        let segment = self.current();
        for (group, entries) in std::mem::take(&mut self.rewrites) {
            for entries in entries.chunk_by(|a, b| a.id.index.next() == b.id.index) {
                self.encoder.rewrite(group, entries);
                self.stats.entries_rewritten += entries.len() as u64;
                let index = self.index.groups.get_mut(&group).expect("stale rewrites were dropped above");
                index.relocate(entries, segment.number);
            }
        }
        for record in records {
            let keep = self.index.take(record, segment.number);
            self.encoder.record(record, keep);
        }
        let bytes = self.encoder.batch.finish(self.seal, segment.number, self.next_batch, self.position);
        let blocks = (bytes.len() / BLOCK_BYTES) as u32;
        assert!(
            blocks <= segment.blocks - self.position,
            "batch of {blocks} blocks at {} of {segment:?}",
            self.position
        );
        let offset = u64::from(self.position) * BLOCK_BYTES as u64;
        if let Err(error) = self.disk.write_at(&self.file, offset, bytes) {
            return Err(self.stop(error));
        }
        let appended = Appended { batch: self.next_batch, bytes: bytes.len() as u64 };
        self.position += blocks;
        self.next_batch += 1;
        self.unsynced = true;
        self.stats.batches += 1;
        self.stats.bytes_written += appended.bytes;
        Ok(appended)
    }

    /// Makes the batch in flight durable; does nothing if there is none.
    ///
    /// # Errors
    /// [`LogFault::Failed`]: the process must stop. Pages may be marked clean after a failed fsync, so trying again
    /// would prove nothing (Rebello et al., "Can Applications Recover from fsync Failures?", 2020).
    pub fn sync(&mut self) -> Result<(), LogFault> {
        self.refuse_if_stopped()?;
        if !self.unsynced {
            return Ok(());
        }
        if let Err(error) = self.disk.sync(&self.file) {
            return Err(self.stop(error));
        }
        self.unsynced = false;
        self.stats.syncs += 1;
        self.bury();
        Ok(())
    }

    /// Payload bytes that can be appended without a new segment, so without asking the file system for space. A batch
    /// does not cross a segment's end: one of up to half of this always fits.
    pub fn room(&self) -> u64 {
        let here = self.used.back().map_or(0, |s| u64::from(s.blocks - self.position));
        let ahead: u64 = self.prepared.iter().map(|s| u64::from(s.blocks)).sum();
        let states = (self.states_len() * self.prepared.len()) as u64;
        ((here + ahead) * PAYLOAD_BYTES as u64).saturating_sub(states)
    }

    /// True if a batch of `bytes` is to wait for the chore that runs, which may bring a segment or find the disk full: it would
    /// use some of the last `reserve` bytes of room, which are for what was promised to somebody before.
    pub fn waits_for_chore(&self, bytes: u64, reserve: u64) -> bool {
        self.chore_running && reserve > 0 && self.room() < bytes + reserve
    }

    /// Groups whose entries keep the oldest segment alive, the largest share first, while the log is longer than
    /// [`WalConfig::segments_kept`] and rewriting would be too much. A checkpoint of them frees space.
    pub fn pinned_by(&self) -> Vec<GroupId> {
        let Some(oldest) = self.used.front().filter(|_| self.used.len() > self.config.segments_kept) else {
            return Vec::new();
        };
        let mut bytes: BTreeMap<GroupId, u64> = BTreeMap::new();
        for (group, run) in self.index.runs_in(oldest.number) {
            *bytes.entry(group).or_default() += run.bytes;
        }
        if bytes.values().sum::<u64>() <= self.rewrite_bytes_max() {
            return Vec::new();
        }
        let mut groups: Vec<(u64, GroupId)> = bytes.into_iter().map(|(g, b)| (b, g)).collect();
        groups.sort_by(|a, b| b.cmp(a));
        groups.into_iter().map(|(_, g)| g).collect()
    }

    pub fn stats(&self) -> WalStats {
        let files = self.used.iter().chain(&self.prepared).chain(&self.dead);
        WalStats {
            segments_used: self.used.len(),
            segments_prepared: self.prepared.len(),
            bytes_on_disk: files.map(|s| u64::from(s.blocks) * BLOCK_BYTES as u64).sum(),
            ..self.stats
        }
    }

    /// The disk, for the few things that share it.
    pub fn disk(&mut self) -> &mut D {
        &mut self.disk
    }

    /// Panics, naming the broken rule, if the state is impossible. Cost: O(groups + segments).
    pub fn assert_invariants(&self) {
        let files: Vec<u64> =
            self.dead.iter().chain(&self.used).chain(&self.prepared).map(|s| s.number).collect();
        assert!(files.windows(2).all(|w| w[0] + 1 == w[1]), "INV-LOG-6: segments have gaps: {files:?}");
        let oldest = self.used.front().map_or(u64::MAX, |s| s.number);
        for (group, index) in &self.index.groups {
            let mut next = index.state.checkpoint.index.next();
            for run in &index.runs {
                assert!(run.segment >= oldest, "INV-LOG-5: {group:?} needs {run:?}, the oldest is {oldest}");
                assert!(
                    run.first == next && run.last >= run.first,
                    "INV-LOG-5: {group:?} has a gap at {run:?}"
                );
                next = run.last.next();
            }
            assert_eq!(
                index.state.last.index.next(),
                next,
                "INV-LOG-5: {group:?} ends elsewhere than its runs"
            );
        }
    }

    // ---- chores -----------------------------------------------------------------------------------------------------

    /// The next piece of work that can be done beside the log, on another thread with another handle of the same disk.
    /// Give the outcome to [`Wal::on_chore`]. At most one is out at a time.
    pub fn next_chore(&mut self) -> Option<Chore> {
        if self.stopped || self.chore_running {
            return None;
        }
        let chore = self.plan_chore();
        self.chore_running = chore.is_some();
        chore
    }

    fn plan_chore(&mut self) -> Option<Chore> {
        let blocks = (self.config.segment_bytes / BLOCK_BYTES as u64) as u32;
        if let Some(&dead) = self.dead.front() {
            // Recycled, a file costs a rename instead of zero-filling.
            let recycle = dead.blocks == blocks && self.prepared.len() < PREPARED_MAX;
            return Some(if recycle { Chore::recycle(dead) } else { Chore::remove(dead) });
        }
        // The first of a new log's segments is the current one, though it holds no batch yet.
        let mut ahead = self.prepared.iter().skip(usize::from(self.used.is_empty()));
        if !ahead.any(|s| s.blocks >= blocks) && self.prepared.len() < PREPARED_MAX {
            return Some(Chore::create(blocks));
        }
        self.plan_gather()
    }

    /// A cold group keeps an old segment alive with a few entries: have them read, to be written again.
    fn plan_gather(&mut self) -> Option<Chore> {
        let oldest = *self.used.front().filter(|_| self.used.len() > self.config.segments_kept)?;
        if self.gathered == oldest.number || !self.rewrites.is_empty() {
            return None;
        }
        let runs: Vec<_> = self.index.runs_in(oldest.number).collect();
        let bytes: u64 = runs.iter().map(|(_, run)| run.bytes).sum();
        if runs.is_empty() || bytes > self.rewrite_bytes_max() {
            return None;
        }
        let wanted = runs.into_iter().map(|(group, run)| (group, run.first, run.last)).collect();
        self.gathered = oldest.number;
        Some(Chore::gather(self.seal, oldest, wanted))
    }

    /// Live bytes of one segment that are worth rewriting: a quarter, so that the log writes at most a third more.
    fn rewrite_bytes_max(&self) -> u64 {
        self.config.segment_bytes / 4
    }

    /// Takes in the outcome of a chore. Entries read back go out with the next batch.
    ///
    /// # Errors
    /// [`LogFault::Full`]: the log goes on; the same chore comes again from [`Wal::next_chore`], so ask not at once.
    /// Others: the process must stop.
    pub fn on_chore(&mut self, outcome: Result<ChoreDone, LogFault>) -> Result<(), LogFault> {
        self.refuse_if_stopped()?;
        assert!(std::mem::take(&mut self.chore_running), "the outcome of a chore that was not given out");
        match outcome {
            Ok(ChoreDone(Done::Spare { blocks, dead })) => {
                dead.into_iter().for_each(|dead| self.on_buried(dead));
                let last = self.prepared.back().or(self.used.back()).map_or(0, |s| s.number);
                let segment = Segment { number: last + 1, blocks };
                if let Err(error) = segment::adopt(&mut self.disk, SPARE, segment) {
                    return Err(self.stop(error));
                }
                self.prepared.push_back(segment);
            }
            Ok(ChoreDone(Done::Removed { dead })) => self.on_buried(dead),
            Ok(ChoreDone(Done::Gathered { entries })) => self.rewrites = entries,
            Err(fault) => {
                self.stopped |= !fault.is_full();
                return Err(fault);
            }
        }
        Ok(())
    }

    fn on_buried(&mut self, segment: Segment) {
        let front = self.dead.pop_front();
        assert_eq!(front, Some(segment), "INV-LOG-6: segments die in order");
    }

    /// Does all chores that are due, on the log's own disk. For tests, the simulator and start-up.
    ///
    /// # Errors
    /// As [`Wal::on_chore`].
    pub fn do_chores(&mut self) -> Result<(), LogFault> {
        while let Some(chore) = self.next_chore() {
            let outcome = chore.run(&mut self.disk);
            self.on_chore(outcome)?;
        }
        Ok(())
    }

    // ---- inside -----------------------------------------------------------------------------------------------------

    fn refuse_if_stopped(&self) -> Result<(), LogFault> {
        if self.stopped { Err(LogFault::Stopped) } else { Ok(()) }
    }

    fn stop(&mut self, error: DiskError) -> LogFault {
        self.stopped = true;
        LogFault::Failed(error)
    }

    fn current(&self) -> Segment {
        *self.used.back().expect("a batch was placed, so a segment is in use")
    }

    fn fits(&self, payload_bytes: usize) -> bool {
        self.used
            .back()
            .is_some_and(|s| blocks_for(payload_bytes) as u64 <= u64::from(s.blocks - self.position))
    }

    fn states_len(&self) -> usize {
        let states = self.index.groups.iter().map(|(g, i)| codec::state_len(*g, &i.state)).sum::<usize>();
        states + codec::start_len(u64::MAX, u32::MAX)
    }

    fn rewrites_len(&self) -> usize {
        let chunks = self.rewrites.iter().flat_map(|(group, entries)| {
            let runs = entries.chunk_by(|a, b| a.id.index.next() == b.id.index);
            runs.map(|entries| codec::entries_len(*group, entries))
        });
        chunks.sum()
    }

    /// Entries read back that were since overwritten, checkpointed or removed need no rewriting.
    fn drop_stale_rewrites(&mut self) {
        let (index, oldest) = (&self.index, self.gathered);
        self.rewrites.retain(|group, entries| {
            let index = index.groups.get(group);
            entries.retain(|e| {
                let run = index.and_then(|i| i.run_of(e.id.index));
                run.is_some_and(|run| run.segment == oldest && run.term == e.id.term)
            });
            !entries.is_empty()
        });
    }

    /// Moves on to the next segment and opens the batch with the states of all groups, so that the segments before are
    /// needed for their entries only.
    fn begin_segment(&mut self, payload_bytes: usize) -> Result<(), LogFault> {
        let needed = blocks_for(payload_bytes + self.states_len());
        let Ok(needed) = u32::try_from(needed) else {
            panic!("a batch of {payload_bytes} bytes is beyond any segment");
        };
        let segment = match self.prepared.front() {
            Some(segment) if segment.blocks >= needed => *segment,
            _ => self.create_now(needed)?,
        };
        // A segment made now replaced the prepared one of its number.
        self.prepared.pop_front();
        self.used.push_back(segment);
        self.file = segment.file();
        self.position = 0;
        self.encoder.start(segment.number, segment.blocks);
        for (group, index) in &self.index.groups {
            self.encoder.state(*group, &index.state);
        }
        Ok(())
    }

    /// No prepared segment will do: makes one here and now.
    fn create_now(&mut self, blocks_min: u32) -> Result<Segment, LogFault> {
        let number = self.used.back().map_or(1, |s| s.number + 1);
        let blocks = blocks_min.max((self.config.segment_bytes / BLOCK_BYTES as u64) as u32);
        let segment = Segment { number, blocks };
        match segment::create(&mut self.disk, segment) {
            Ok(()) => Ok(segment),
            Err(DiskError::Full { file }) => Err(LogFault::Full { file }),
            Err(error) => Err(self.stop(error)),
        }
    }

    /// Finds segments that no group needs any more. Called when all that the index says is durable, never before: the
    /// record that frees a segment must not be lost after the segment.
    fn bury(&mut self) {
        let Some(current) = self.used.back().map(|s| s.number) else { return };
        let needed = self.index.oldest_needed().unwrap_or(current).min(current);
        while self.used.front().is_some_and(|s| s.number < needed) {
            self.dead.extend(self.used.pop_front());
        }
    }
}
