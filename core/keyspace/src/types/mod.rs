//! The value types, without the commands on them.

mod hash;
mod list;
mod set;
mod string;
mod zset;

pub use hash::{Field, Hash};
pub use list::{End, List};
pub use set::Set;
pub use string::Str;
pub use zset::{Member, ZSet};
