//! The one door from the log to files. `shell/disk` implements it over a directory, [`crate::mem_disk`] over memory
//! with faults.
//!
//! Disk model, which all of recovery rests on: a sector of 512 bytes is written wholly or not at all; unsynced sectors
//! reach the disk in any order or never; what [`Disk::sync`] confirmed stays, unless the medium itself decays.

use std::fmt;

/// Files of one flat directory, addressed by name. Calls block until done.
///
/// A file name is lower-case ASCII letters, digits, `-` and `.`.
pub trait Disk {
    /// All names, sorted.
    fn list(&mut self) -> Result<Vec<String>, DiskError>;

    /// Length in bytes.
    fn len(&mut self, file: &str) -> Result<u64, DiskError>;

    /// Fills `buffer` from `offset`; a file that ends before is an `Io` error.
    fn read_at(&mut self, file: &str, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError>;

    /// Creates (or replaces) `file` with `len` zero bytes whose blocks are allocated, written and synced. Its name is
    /// durable only after [`Disk::sync_dir`]. After an error the file may be there, in any length up to `len`.
    fn create(&mut self, file: &str, len: u64) -> Result<(), DiskError>;

    /// Writes at `offset`, growing the file if it ends before. Not durable until [`Disk::sync`].
    fn write_at(&mut self, file: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// Makes the file's bytes and length durable (fdatasync).
    fn sync(&mut self, file: &str) -> Result<(), DiskError>;

    /// Gives `from` the name `to`, replacing a file of that name, atomically.
    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError>;

    fn remove(&mut self, file: &str) -> Result<(), DiskError>;

    /// Makes all creations, renames and removals so far durable.
    fn sync_dir(&mut self) -> Result<(), DiskError>;
}

impl<D: Disk + ?Sized> Disk for &mut D {
    fn list(&mut self) -> Result<Vec<String>, DiskError> {
        (**self).list()
    }

    fn len(&mut self, file: &str) -> Result<u64, DiskError> {
        (**self).len(file)
    }

    fn read_at(&mut self, file: &str, offset: u64, buffer: &mut [u8]) -> Result<(), DiskError> {
        (**self).read_at(file, offset, buffer)
    }

    fn create(&mut self, file: &str, len: u64) -> Result<(), DiskError> {
        (**self).create(file, len)
    }

    fn write_at(&mut self, file: &str, offset: u64, bytes: &[u8]) -> Result<(), DiskError> {
        (**self).write_at(file, offset, bytes)
    }

    fn sync(&mut self, file: &str) -> Result<(), DiskError> {
        (**self).sync(file)
    }

    fn rename(&mut self, from: &str, to: &str) -> Result<(), DiskError> {
        (**self).rename(from, to)
    }

    fn remove(&mut self, file: &str) -> Result<(), DiskError> {
        (**self).remove(file)
    }

    fn sync_dir(&mut self) -> Result<(), DiskError> {
        (**self).sync_dir()
    }
}

/// Why a call on a [`Disk`] did not do its work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DiskError {
    /// No space (or quota) left. Bytes written before are as they were.
    Full {
        file: String,
    },
    NotFound {
        file: String,
    },
    /// Anything else. After a failed write or sync the bytes concerned are in an unknown state.
    Io {
        file: String,
        operation: &'static str,
        message: String,
    },
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DiskError::Full { file } => write!(f, "no space left on the disk for {file}"),
            DiskError::NotFound { file } => write!(f, "{file} does not exist"),
            DiskError::Io { file, operation, message } => {
                write!(f, "{operation} of {file} failed: {message}")
            }
        }
    }
}

impl std::error::Error for DiskError {}
