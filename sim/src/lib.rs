//! The deterministic simulator: a whole cluster - nodes with their disks and clocks, the network, the clients - in one process,
//! from one seed.
//!
//! The nodes, the log and the checkpoints are the production code of `core/`. Simulated are the threads of `shell/disk`, the loop
//! of `shell/server`, the disks ([`skep_log::MemDisk`]), time, the network, and the clients. See README.md.

mod agreed;
mod bank;
mod carried;
mod client;
mod disk_threads;
mod history;
mod in_line;
mod jobs;
mod ledger;
mod linear;
mod machine;
mod model;
mod net;
mod order;
mod plan;
mod planted;
mod process;
mod scripts;
mod shadow;
mod streams;
mod trace;
mod wire;
mod workload;
mod world;

use std::collections::BTreeMap;

pub use agreed::Agreed;
pub use plan::Focus;
pub use planted::Planted;

/// What is asked of a seed; the rest is as the seed says.
#[derive(Clone, Copy, Default, Debug)]
pub struct Wishes {
    /// Nodes at the beginning and in all, 1 to 7.
    pub nodes: Option<usize>,
    pub focus: Option<Focus>,
    pub planted: Option<Planted>,
}

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
pub fn run(seed: u64, wishes: Wishes, print: bool) -> Result<Report, String> {
    let mut world = world::World::new(seed, wishes, print);
    world.run()?;
    Ok(Report { hash: world.trace.hash(), events: world.trace.events(), counts: world.counts })
}
