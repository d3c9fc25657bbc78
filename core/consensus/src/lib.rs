//! Raft groups as pure state machines over the `raft` crate, which nobody but this crate meets.
//!
//! Owns one group's consensus: its log in memory, its elections, its membership, its messages and their bytes. Does not
//! own the log on disk, the state machine, the network or the clock: it says in [`Output`] what should happen to them and
//! is told in [`Input`] what did. Invariants and the driver's duties: DESIGN.md beside this crate.

mod config;
mod convert;
mod drive;
mod event;
mod group;
mod lease;
mod membership;
mod message;
mod pace;
mod reads;
mod rest;
mod store;

pub use config::{GroupConfig, Limits};
pub use event::{Input, Note, Output, ProposeRefusal, ReadId, ReadRefusal, Role, Stats};
pub use group::Group;
pub use membership::{CHANGES_MAX, MembershipRefusal, Standing, TransferRefusal};
pub use message::{CONTEXT_BYTES_MAX, MESSAGE_ENTRIES_MAX, Message, PAYLOAD_BYTES_MAX, payload};
pub use rest::RestPace;
