//! Drives [`skep_node::Node`] over real sockets and files. Moves bytes and time; decides nothing.
//!
//! A thread with a loop for each cell of the node: read what peers and clients sent and what other loops have put into the
//! mailbox, end the cell's turn, hand its records to the log's thread, write what peers and clients are owed. The hub's loop
//! has the listening sockets and the links. See `docs/decisions/0003-event-loop.md` for why this is a plain readiness loop.

mod clock;
mod connections;
mod dialer;
mod door;
mod event_loop;
mod inside;
mod listening;
mod mailbox;
mod note;
mod on_client;
mod on_disk;
mod on_link;
mod process;
mod resolver;
mod socket;
mod tokens;

pub use clock::Clock;
pub use inside::{Busy, CALL_BYTES_MAX, CALLS_MAX, Inside};
pub use listening::{Listening, RunFault, Shared, Surroundings, Waker};
pub use note::Counts;
