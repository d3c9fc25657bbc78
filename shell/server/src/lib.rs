//! Drives [`skep_node::Node`] over real sockets and files. Moves bytes and time; decides nothing.
//!
//! One thread, one loop: read what peers and clients sent, end the node's turn, hand its records to the log's thread,
//! write what peers and clients are owed. See `docs/decisions/0003-event-loop.md` for why this is a plain readiness loop.

mod clock;
mod connections;
mod dialer;
mod door;
mod event_loop;
mod listening;
mod note;
mod on_client;
mod on_disk;
mod on_link;
mod process;
mod resolver;
mod socket;
mod tokens;

pub use clock::Clock;
pub use listening::{Listening, RunFault, Surroundings, Waker};
pub use note::Counts;
