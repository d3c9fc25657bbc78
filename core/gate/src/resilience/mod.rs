//! What is done about upstreams that fail, hang or are slow.

mod adaptive;
mod breaker;
mod budget;
pub mod deadline;
mod failover;
mod latency;
mod queue;
pub mod retry;

pub use adaptive::Adaptive;
pub use breaker::{Breaker, Counted, Outcome, Pass, State};
pub use budget::Budget;
pub use failover::Failover;
pub use latency::Latencies;
pub(crate) use queue::CLASSES;
pub use queue::{Queue, Shed};
