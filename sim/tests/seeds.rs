//! Seeds with all checks, the same seed twice, and bugs planted on purpose.

#![allow(clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use sim::{Planted, run};

/// Seeds of a run without optimization; the binary runs thousands.
const SEEDS: u64 = if cfg!(debug_assertions) { 40 } else { 600 };
/// Seeds that run twice.
const TWICE: u64 = if cfg!(debug_assertions) { 20 } else { 100 };

/// Seeds within which each planted bug must be found, with so many nodes. Each is found well before. The two about leases are not
/// among them: they need thousands of seeds, see README.md.
const PLANTED: [(Planted, usize, u64); 9] = [
    (Planted::AcknowledgeBeforeSync, 1, 200),
    (Planted::TornTailAccepted, 1, 200),
    (Planted::CheckpointLacksLastEntry, 1, 200),
    (Planted::LogTruncatedBeyondCheckpoint, 1, 200),
    (Planted::AcknowledgeBeforeSync, 3, 1_000),
    (Planted::CheckpointLacksLastEntry, 3, 1_000),
    (Planted::AcknowledgeBeforeMajority, 3, 1_000),
    (Planted::ForwardTwice, 3, 1_000),
    (Planted::VoteForgotten, 3, 1_000),
];

#[test]
fn nothing_breaks() {
    for (nodes, first) in [(Some(1), 0), (None, 0), (Some(3), 10_000)] {
        for seed in first..first + SEEDS {
            if let Err(broken) = run(seed, nodes, None, false) {
                let nodes = nodes.map_or(String::new(), |n| format!(" --nodes {n}"));
                panic!("{broken}\nstep by step: cargo run -p sim --release -- --seed {seed} --trace{nodes}");
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for nodes in [Some(1), Some(5), None] {
        for seed in 0..TWICE {
            let (first, second) = (run(seed, nodes, None, false), run(seed, nodes, None, false));
            assert_eq!(first, second, "seed {seed} with {nodes:?} nodes");
        }
    }
}

#[test]
fn planted_bugs_are_found() {
    for (planted, nodes, seeds) in PLANTED {
        let finds = |seed: &u64| {
            let outcome = catch_unwind(AssertUnwindSafe(|| run(*seed, Some(nodes), Some(planted), false)));
            !matches!(outcome, Ok(Ok(_)))
        };
        let found = (0..seeds).find(finds);
        assert!(found.is_some(), "{} was not found in {seeds} seeds of {nodes} nodes", planted.name());
    }
}
