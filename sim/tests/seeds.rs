//! Seeds with all checks, the same seed twice, and bugs planted on purpose.

#![allow(clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use sim::{Planted, run};

/// Seeds of a run without optimization; the binary runs thousands.
const SEEDS: u64 = if cfg!(debug_assertions) { 150 } else { 600 };
/// Seeds within which each planted bug must be found.
const PLANTED_SEEDS: u64 = 200;

#[test]
fn nothing_breaks() {
    for seed in 0..SEEDS {
        if let Err(broken) = run(seed, Some(1), None, false) {
            panic!("{broken}\nstep by step: cargo run -p sim --release -- --seed {seed} --trace");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    for seed in 0..100 {
        let (first, second) = (run(seed, Some(1), None, false), run(seed, Some(1), None, false));
        assert_eq!(first, second, "seed {seed}");
    }
}

#[test]
fn planted_bugs_are_found() {
    for planted in Planted::ALL {
        let found = (0..PLANTED_SEEDS).find(|seed| {
            !matches!(catch_unwind(AssertUnwindSafe(|| run(*seed, Some(1), Some(planted), false))), Ok(Ok(_)))
        });
        assert!(found.is_some(), "{} was not found in {PLANTED_SEEDS} seeds", planted.name());
    }
}
