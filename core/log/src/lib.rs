//! The node's write-ahead log and its checkpoint files. See DESIGN.md beside this crate.

pub mod record;

pub use record::{Entry, EntryKind, GroupLog, HardState, Membership, Record};
