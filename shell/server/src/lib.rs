//! Drives [`skep_node::Node`] over real sockets and files. Moves bytes and time; decides nothing.
//!
//! One thread, one loop: read what clients sent, end the node's turn, hand its records to the log's thread, write what
//! clients are owed. See `docs/decisions/0003-event-loop.md` for why this is a plain readiness loop.

mod clock;
mod connections;
mod event_loop;
mod process;

pub use clock::Clock;
pub use event_loop::{Listening, RunFault, Surroundings, Waker};
