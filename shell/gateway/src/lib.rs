//! The gateway of a node: carries traffic by the decisions of `skep-gate`.
//!
//! Owns sockets, connections, TLS, timers and threads; decides nothing about where a request goes, who is let in or what is
//! tried again. One thread with a runtime of its own for each core, nothing shared between them but the compiled
//! configuration; a thread of control takes configurations in and opens and closes listeners.

mod access_log;
mod auth;
mod both_ways;
mod control;
mod copy;
mod core;
mod datagrams;
mod date;
pub mod descriptors;
mod figures;
mod gather;
mod h1;
mod h2;
mod http2;
mod in_flight;
mod keyed;
mod listen;
mod mailbox;
mod names;
mod of_node;
mod pipe;
mod probe;
mod progress;
mod proxy;
mod proxy_header;
mod rates;
mod reply;
mod scratch;
mod snapshot;
mod source;
mod stream;
mod streams;
mod task;
mod tcp;
mod tls;
mod udp;
mod upstream;
mod websocket;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

pub use auth::keyset;
use bytes::Bytes;
pub use control::{InForce, Nodes, Running, StartFault, Surroundings, start};
pub use figures::{
    Board, Figures, KeyedCounts, NO_ROUTE, NameCounts, OTHERS, RouteCounts, TIME_BOUNDS, UpstreamCounts,
};
use skep_gate::balance::sticky::Secret;
use skep_gate::{Config, ConfigError};

/// A configuration to be put in force.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Grows with each change; for metrics and logs.
    pub version: u64,
    pub config: Arc<Config>,
    /// What the cluster's gateways sign with, if it has one; else [`Surroundings::secret`] does.
    pub secret: Option<Secret>,
}

/// Reads `[gateway]` of a TOML text. Nothing that is accepted is without effect.
///
/// # Errors
/// Everything that is wrong, each with its line and key.
pub fn read(text: &str) -> Result<Config, Vec<ConfigError>> {
    Config::parse(text)
}

/// The node's replicated store, as the gateway uses it: for what must be the same at all nodes.
pub trait Store: Send + Sync + 'static {
    /// Carries out one command, its name and arguments, and gives the reply in RESP3.
    ///
    /// # Errors
    /// [`StoreError`]: the command may or may not have been carried out, unless the error says otherwise.
    fn call(&self, command: Vec<Bytes>) -> StoreCall;
}

/// A call under way.
pub type StoreCall = Pin<Box<dyn Future<Output = Result<Vec<u8>, StoreError>> + Send>>;

/// Why the store gave no reply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StoreError {
    /// The node is not serving; nothing was carried out.
    Unavailable(String),
    /// No reply in time; it may have been carried out.
    Late,
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StoreError::Unavailable(why) => write!(f, "the store is not there: {why}"),
            StoreError::Late => f.write_str("the store did not answer in time; the command may have run"),
        }
    }
}

impl std::error::Error for StoreError {}
