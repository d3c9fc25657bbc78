//! The Redis serialization protocol, versions 2 and 3: [`Reply`] writes replies, [`Decoder`] reads requests, and for
//! the other end of the connection (simulator, bench tool, tests) [`Value`] reads replies and [`write_command`] writes
//! requests.
//!
//! Pure: bytes in, bytes out. Knows nothing of commands.

mod decoder;
mod inline;
mod length;
mod reply;
mod stored;
mod value;

pub use decoder::{Decoder, Limits, ProtocolError, Step};
pub use length::reply_len;
pub use reply::{Protocol, REPLY_BYTES_MAX, Reply};
pub use stored::NotStored;
pub use value::{Value, ValueError, write_command};
