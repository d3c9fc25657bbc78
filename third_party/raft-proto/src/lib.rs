//! The message types of `raft` 0.7.0 as plain structs: no generated code, no protoc, payloads as refcounted `Bytes`.
//!
//! Owns the encoding of a membership change inside a log entry ([`codec`]); the encoding of messages between nodes is
//! `skep-consensus`'s. Field and method names are those `raft` 0.7.0 calls.

mod codec;
mod confchange;
pub mod eraftpb;

pub use confchange::{ConfChangeI, conf_state_eq, new_conf_change_single};

/// The names that `raft::prelude` passes on.
pub mod prelude {
    pub use crate::eraftpb::{
        ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Entry,
        EntryType, HardState, Message, MessageType, Snapshot, SnapshotMetadata,
    };
}

/// Conversions that `raft` expects under this path.
pub mod util {
    use crate::eraftpb::ConfState;

    impl<V, L> From<(V, L)> for ConfState
    where
        V: IntoIterator<Item = u64>,
        L: IntoIterator<Item = u64>,
    {
        fn from((voters, learners): (V, L)) -> ConfState {
            ConfState {
                voters: voters.into_iter().collect(),
                learners: learners.into_iter().collect(),
                ..ConfState::default()
            }
        }
    }
}
