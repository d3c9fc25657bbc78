//! The Redis serialization protocol, versions 2 and 3: [`Reply`] writes replies, [`Decoder`] reads requests.
//!
//! Pure: bytes in, bytes out. Knows nothing of commands.

mod reply;

pub use reply::{Protocol, Reply};
