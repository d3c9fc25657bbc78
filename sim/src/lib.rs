//! The deterministic simulator: one node with its disk, its clock and its clients, in one process, from one seed.
//!
//! The node, the log and the checkpoints are the production code of `core/`. Simulated are the threads of `shell/disk`, the loop
//! of `shell/server`, the disk ([`skep_log::MemDisk`]), time, the network to the clients, and the clients. See README.md.

mod client;
mod disk_threads;
mod ledger;
mod model;
mod plan;
mod planted;
mod process;
mod reference;
mod trace;
mod workload;
mod world;

use std::collections::BTreeMap;

pub use planted::Planted;

/// What one seed did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Report {
    /// A hash of every event. The same seed and commit give the same hash.
    pub hash: u64,
    pub events: u64,
    /// How often each thing happened.
    pub counts: BTreeMap<&'static str, u64>,
}

/// Runs one seed; prints every event if `print`.
///
/// # Errors
/// The rule that was broken, with values.
///
/// # Panics
/// If an assertion of the code under test fails.
pub fn run(seed: u64, planted: Option<Planted>, print: bool) -> Result<Report, String> {
    let mut world = world::World::new(seed, planted, print);
    world.run()?;
    Ok(Report { hash: world.trace.hash(), events: world.trace.events(), counts: world.counts })
}
