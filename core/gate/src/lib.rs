//! The gateway's decisions: balancing, breakers, retries, budgets, routing. Moves no byte and opens no socket.
//!
//! Owns what a configuration means and every choice that a request meets on its way. The shell reads and writes
//! sockets, tells what happened, and does what it is told. See DESIGN.md beside this crate's `src`.

pub mod balance;
pub mod config;
pub mod gate;
pub mod health;
pub mod layer4;
mod names;
pub mod protect;
pub mod resilience;
pub mod router;
pub mod window;

pub use config::{Config, ConfigError};
pub use gate::{Arrival, Gate, Input, Note, Output, RequestId, Site, Stats, Why};
pub use names::{LimitId, ListenerId, PoolId, RouteId, UpstreamId};
