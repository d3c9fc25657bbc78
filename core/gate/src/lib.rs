//! The gateway's decisions: balancing, breakers, retries, budgets, routing. Moves no byte and opens no socket.
//!
//! Owns what a configuration means and every choice that a request meets on its way. The shell reads and writes
//! sockets, tells what happened, and does what it is told. See DESIGN.md beside this crate's `src`.

pub mod auth;
pub mod balance;
pub mod config;
pub mod gate;
pub mod health;
pub mod http1;
pub mod http2;
pub mod idempotency;
pub mod layer4;
mod names;
pub mod protect;
pub mod resilience;
pub mod resolve;
pub mod router;
mod timers;
pub mod window;

use sha2::{Digest, Sha256};

pub use config::{Config, ConfigError};
pub use gate::{Arrival, Gate, Input, Note, Output, RequestId, Site, Stats, Why};
pub use names::{AuthId, Generation, LimitId, ListenerId, PoolId, RouteId, UpstreamId};

/// SHA-256 of parts that cannot run into each other.
fn digest<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// A hash that nobody can choose: the beginning of [`digest`].
fn digest_hash<'p>(parts: impl IntoIterator<Item = &'p [u8]>) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = digest(parts);
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// In hexadecimal digits.
fn hex(bytes: &[u8]) -> impl Iterator<Item = u8> {
    let halves = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    halves.map(|half| b"0123456789abcdef"[usize::from(half)])
}
