//! The node's write-ahead log and its checkpoint files. See DESIGN.md beside this crate.
//!
//! Pure: all file I/O goes through [`Disk`].

mod block;
pub mod checkpoint;
mod chore;
mod codec;
mod disk;
mod fault;
mod gather;
pub mod identity;
mod index;
pub mod mem_disk;
pub mod record;
mod recovery;
mod replay;
mod segment;
mod wal;

pub use checkpoint::{CheckpointFile, CheckpointHeader, CheckpointReader, CheckpointWriter};
pub use chore::{Chore, ChoreDone};
pub use codec::record_len;
pub use disk::{Disk, DiskError};
pub use fault::LogFault;
pub use identity::NodeIdentity;
pub use mem_disk::MemDisk;
pub use record::{Entry, EntryKind, GroupLog, HardState, Membership, Record};
pub use wal::{Appended, Wal, WalConfig, WalStats};
