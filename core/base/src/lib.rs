//! Words shared by every core crate: ids, time, a seeded generator, checksums, numbers as Redis writes them, limits.
//!
//! Owns no state and knows nothing of the other crates.

pub mod args;
pub mod decimal;
pub mod glob;
pub mod hash;
pub mod ids;
pub mod number;
pub mod refusal;
pub mod rng;
pub mod slot;
pub mod varint;

pub use args::{Args, Span};
pub use decimal::LongDouble;
pub use ids::{ConnId, GroupId, LinkId, LogId, LogIndex, Micros, Millis, NodeId, NodeUuid, Term};
pub use refusal::{InVain, Refusal, Unserved};
pub use rng::Rng;
pub use slot::{SLOT_COUNT, slot_of};
