//! Who listens to what: the subscriptions of one cell's clients, and how many there are elsewhere; and which of them cache
//! which keys.
//!
//! Pure. It holds no message and writes none: the node asks who is to get one. See DESIGN.md.

mod batch;
mod counts;
mod table;
mod tracking;

pub use batch::{Batch, Message, messages};
pub use counts::{Counts, Source};
pub use table::{Refused, Table};
pub use tracking::{Touched, Tracking};

/// Bytes of the name of a channel or pattern that can be listened to. Names travel to all nodes.
pub const NAME_BYTES_MAX: usize = 64 << 10;

/// Bytes of all names that one client listens to, each counted with [`NAME_BYTES_EXTRA`].
pub const CLIENT_BYTES_MAX: usize = 16 << 20;

/// What a subscription takes besides its name, about.
pub const NAME_BYTES_EXTRA: usize = 64;

/// What a name stands for. The numbers are on the wire.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    Channel = 0,
    /// A glob over names of channels.
    Pattern = 1,
    /// A shard channel: a name space of its own, which patterns do not see.
    Shard = 2,
}

impl Kind {
    pub(crate) const COUNT: usize = 3;

    pub(crate) fn of(number: u8) -> Option<Kind> {
        [Kind::Channel, Kind::Pattern, Kind::Shard].into_iter().find(|kind| *kind as u8 == number)
    }
}
