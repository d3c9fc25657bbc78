//! The value types, without the commands on them.

mod hash;
mod list;
pub mod queue;
mod set;
pub(crate) mod stream;
mod string;
mod zset;

pub use hash::{Field, Hash};
pub use list::{End, List};
pub use queue::Queue;
pub use set::Set;
pub use stream::{Stream, StreamId};
pub use string::Str;
pub use zset::{Member, ZSet};
