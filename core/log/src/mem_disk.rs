//! A disk in memory that fails as real ones do: the simulator's, and that of the tests.
//!
//! Clones share one disk, as handles of a directory do. After [`MemDisk::crash`] each unsynced sector of 512 bytes is
//! either as it was at the last sync or as written, by the seed; of the unsynced changes of the directory a prefix
//! survives (journals keep their order). What was synced stays, unless a test flips it.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use skep_base::Rng;

use crate::disk::{Disk, DiskError};

const SECTOR_BYTES: usize = 512;

/// Shared handle of one disk.
#[derive(Clone, Default, Debug)]
pub struct MemDisk(Rc<RefCell<State>>);

/// A directory: which file a name stands for.
type Names = BTreeMap<String, u64>;

#[derive(Default, Debug)]
struct State {
    files: BTreeMap<u64, File>,
    names: Names,
    /// The directory after the last `sync_dir`, and after each change since.
    names_durable: Names,
    names_since: Vec<Names>,
    next_file: u64,
    capacity_bytes: Option<u64>,
    /// Operations until all fail with EIO.
    operations_left: Option<u64>,
    failed: bool,
    stats: MemDiskStats,
}

#[derive(Clone, Default, Debug)]
struct File {
    bytes: Vec<u8>,
    /// Sectors written since the last sync, with their durable content.
    unsynced: BTreeMap<usize, Vec<u8>>,
    len_durable: usize,
}

/// Operations so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct MemDiskStats {
    pub operations: u64,
    pub syncs: u64,
    pub bytes_written: u64,
}

impl MemDisk {
    pub fn new() -> MemDisk {
        MemDisk::default()
    }

    // ---- faults -----------------------------------------------------------------------------------------------------

    /// Cuts the power. Each unsynced sector is kept or lost, and the directory goes back to some point since its last
    /// sync, as `rng` says. Faults set by [`MemDisk::fail_after`] end.
    pub fn crash(&self, rng: &mut Rng) {
        let state = &mut *self.0.borrow_mut();
        let kept = rng.below(state.names_since.len() as u64 + 1) as usize;
        if kept > 0 {
            state.names_durable = state.names_since.swap_remove(kept - 1);
        }
        state.names = state.names_durable.clone();
        state.names_since.clear();
        for file in state.files.values_mut() {
            file.crash(rng);
        }
        state.forget_unnamed();
        (state.operations_left, state.failed) = (None, false);
    }

    /// Kills the process only: the page cache survives. Faults set by [`MemDisk::fail_after`] end.
    pub fn restart(&self) {
        let state = &mut *self.0.borrow_mut();
        (state.operations_left, state.failed) = (None, false);
    }

    /// Lets `operations` more calls work; the one after and all later ones fail with EIO, whatever they are, and a failed
    /// write may have written any of its sectors.
    pub fn fail_after(&self, operations: u64) {
        self.0.borrow_mut().operations_left = Some(operations);
    }

    /// The length that all files together may have; `None` is without limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.0.borrow_mut().capacity_bytes = bytes;
    }

    /// Turns bits of one durable byte over. Panics if there is no such byte.
    pub fn flip(&self, file: &str, offset: u64, mask: u8) {
        let state = &mut *self.0.borrow_mut();
        let id = state.names[file];
        state.files.get_mut(&id).expect("named files exist").bytes[offset as usize] ^= mask;
    }

    /// Cuts a file off after `len` bytes, durably.
    pub fn cut(&self, file: &str, len: u64) {
        let state = &mut *self.0.borrow_mut();
        let id = state.names[file];
        let file = state.files.get_mut(&id).expect("named files exist");
        file.bytes.truncate(len as usize);
        file.len_durable = file.len_durable.min(len as usize);
        file.unsynced.retain(|sector, _| sector * SECTOR_BYTES < len as usize);
    }

    /// A disk of its own with the same content.
    pub fn fork(&self) -> MemDisk {
        let s = self.0.borrow();
        MemDisk(Rc::new(RefCell::new(State {
            files: s.files.clone(),
            names: s.names.clone(),
            names_durable: s.names_durable.clone(),
            names_since: s.names_since.clone(),
            next_file: s.next_file,
            capacity_bytes: s.capacity_bytes,
            operations_left: s.operations_left,
            failed: s.failed,
            stats: s.stats,
        })))
    }

    /// Content of a file as processes see it.
    pub fn content(&self, file: &str) -> Option<Vec<u8>> {
        let state = self.0.borrow();
        Some(state.files[state.names.get(file)?].bytes.clone())
    }

    /// Length of all files.
    pub fn bytes_used(&self) -> u64 {
        self.0.borrow().bytes_used()
    }

    pub fn stats(&self) -> MemDiskStats {
        self.0.borrow().stats
    }
}

impl File {
    /// Keeps the durable content of the sectors from `from` to `to` (bytes) for a crash.
    fn touch(&mut self, from: usize, to: usize) {
        for sector in from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES) {
            let bytes = &self.bytes;
            self.unsynced.entry(sector).or_insert_with(|| {
                let start = (sector * SECTOR_BYTES).min(bytes.len());
                bytes[start..bytes.len().min(start + SECTOR_BYTES)].to_vec()
            });
        }
    }

    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        self.touch(offset.min(self.bytes.len()), end);
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        self.bytes[offset..end].copy_from_slice(bytes);
    }

    fn sync(&mut self) {
        self.unsynced.clear();
        self.len_durable = self.bytes.len();
    }

    fn crash(&mut self, rng: &mut Rng) {
        for (sector, old) in std::mem::take(&mut self.unsynced) {
            if rng.one_in(2) {
                continue;
            }
            let start = (sector * SECTOR_BYTES).min(self.bytes.len());
            let end = self.bytes.len().min(start + SECTOR_BYTES);
            let kept = old.len().min(end - start);
            self.bytes[start..start + kept].copy_from_slice(&old[..kept]);
            self.bytes[start + kept..end].fill(0);
        }
        let (low, high) = (self.len_durable.min(self.bytes.len()), self.bytes.len());
        let len = low + rng.below((high - low) as u64 + 1) as usize;
        self.bytes.truncate(len);
        self.len_durable = len;
    }
}

impl State {
    fn operate(&mut self, file: &str, operation: &'static str) -> Result<(), DiskError> {
        self.stats.operations += 1;
        if let Some(left) = &mut self.operations_left {
            match left.checked_sub(1) {
                Some(fewer) => *left = fewer,
                None => self.failed = true,
            }
        }
        if self.failed {
            let message = "input/output error (simulated)".to_owned();
            return Err(DiskError::Io { file: file.to_owned(), operation, message });
        }
        Ok(())
    }

    fn id(&self, file: &str) -> Result<u64, DiskError> {
        self.names.get(file).copied().ok_or_else(|| DiskError::NotFound { file: file.to_owned() })
    }

    fn file(&mut self, file: &str) -> Result<&mut File, DiskError> {
        let id = self.id(file)?;
        Ok(self.files.get_mut(&id).expect("named files exist"))
    }

    fn bytes_used(&self) -> u64 {
        let named: BTreeSet<u64> = self.names.values().copied().collect();
        named.iter().map(|id| self.files[id].bytes.len() as u64).sum()
    }

    /// Bytes that may still be allocated.
    fn bytes_free(&self) -> u64 {
        self.capacity_bytes.map_or(u64::MAX, |c| c.saturating_sub(self.bytes_used()))
    }

    fn names_changed(&mut self) {
        self.names_since.push(self.names.clone());
    }

    fn forget_unnamed(&mut self) {
        let mut named: BTreeSet<u64> =
            self.names.values().chain(self.names_durable.values()).copied().collect();
        named.extend(self.names_since.iter().flat_map(|names| names.values().copied()));
        self.files.retain(|id, _| named.contains(id));
    }
}

impl Disk for MemDisk {
    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        let mut state = self.0.borrow_mut();
        state.operate("the directory", "listing")?;
        Ok(state.names.keys().cloned().collect())
    }

    fn len(&mut self, file: &str) -> Result<u64, DiskError> {
        let mut state = self.0.borrow_mut();
        state.operate(file, "stat")?;
        Ok(state.file(file)?.bytes.len() as u64)
    }

    fn read_at(&mut self, file: &str, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        let mut state = self.0.borrow_mut();
        state.operate(file, "read")?;
        let bytes = &state.file(file)?.bytes;
        let range = offset as usize..offset as usize + buffer.len();
        match bytes.get(range) {
            Some(part) => buffer.copy_from_slice(part),
            None => {
                let message = format!("the file ends at {}", bytes.len());
                return Err(DiskError::Io { file: file.to_owned(), operation: "read", message });
            }
        }
        Ok(())
    }

    fn create(&mut self, file: &str, len: u64) -> Result<(), DiskError> {
        let mut state = self.0.borrow_mut();
        state.operate(file, "creation")?;
        let id = state.next_file;
        state.next_file += 1;
        // As with truncation, the space of the file replaced counts until the end.
        let got = len.min(state.bytes_free()) as usize;
        state.files.insert(id, File { bytes: vec![0; got], unsynced: BTreeMap::new(), len_durable: got });
        state.names.insert(file.to_owned(), id);
        state.stats.bytes_written += got as u64;
        state.names_changed();
        if (got as u64) < len { Err(DiskError::Full { file: file.to_owned() }) } else { Ok(()) }
    }

    fn write_at(&mut self, file: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let mut state = self.0.borrow_mut();
        if let Err(error) = state.operate(file, "write") {
            // A part of it may be in the cache, and so may reach the disk.
            let part = &bytes[..bytes.len() / 2 / SECTOR_BYTES * SECTOR_BYTES];
            if let Ok(file) = state.file(file)
                && offset as usize + part.len() <= file.bytes.len()
            {
                file.write(offset as usize, part);
            }
            return Err(error);
        }
        let growth = (offset + bytes.len() as u64).saturating_sub(state.file(file)?.bytes.len() as u64);
        if growth > state.bytes_free() {
            return Err(DiskError::Full { file: file.to_owned() });
        }
        state.file(file)?.write(offset as usize, bytes);
        state.stats.bytes_written += bytes.len() as u64;
        Ok(())
    }

    fn sync(&mut self, file: &str) -> Result<(), DiskError> {
        let mut state = self.0.borrow_mut();
        state.operate(file, "sync")?;
        state.stats.syncs += 1;
        state.file(file)?.sync();
        Ok(())
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        let mut state = self.0.borrow_mut();
        state.operate(from, "rename")?;
        let id = state.id(from)?;
        state.names.remove(from);
        state.names.insert(to.to_owned(), id);
        state.names_changed();
        Ok(())
    }

    fn remove(&mut self, file: &str) -> Result<(), DiskError> {
        let mut state = self.0.borrow_mut();
        state.operate(file, "removal")?;
        state.id(file)?;
        state.names.remove(file);
        state.names_changed();
        Ok(())
    }

    fn sync_dir(&mut self) -> Result<(), DiskError> {
        let mut state = self.0.borrow_mut();
        state.operate("the directory", "sync")?;
        state.names_durable = state.names.clone();
        state.names_since.clear();
        state.forget_unnamed();
        Ok(())
    }
}
