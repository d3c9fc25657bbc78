//! Seeds with all checks, the same seed twice, and bugs planted on purpose.

#![allow(clippy::unwrap_used)]

use std::panic::{AssertUnwindSafe, catch_unwind};

use sim::{Focus, Planted, Report, Wishes};

/// Seeds of a run without optimization; the binary runs thousands.
const SEEDS: u64 = if cfg!(debug_assertions) { 40 } else { 600 };
/// Seeds that run twice.
const TWICE: u64 = if cfg!(debug_assertions) { 20 } else { 100 };

/// Seeds within which each planted bug must be found, with so many nodes, and the rule that is then broken, if it is always that
/// one: a lease that is too long must be seen by what clients read.
const PLANTED: [(Planted, usize, u64, &str); 24] = [
    (Planted::AcknowledgeBeforeSync, 1, 200, ""),
    (Planted::TornTailAccepted, 1, 200, ""),
    (Planted::CheckpointLacksLastEntry, 1, 200, ""),
    (Planted::LogTruncatedBeyondCheckpoint, 1, 200, ""),
    (Planted::CheckpointLacksTokens, 1, 200, ""),
    (Planted::AcknowledgeBeforeSync, 3, 200, ""),
    (Planted::CheckpointLacksLastEntry, 3, 200, ""),
    (Planted::AcknowledgeBeforeMajority, 3, 200, ""),
    (Planted::ForwardTwice, 3, 200, ""),
    (Planted::RetryWithoutToken, 3, 200, "INV-SIM-15"),
    (Planted::WatchLeftOut, 3, 100, "INV-SIM-15"),
    (Planted::GroupRewound, 3, 100, "INV-SIM-24"),
    (Planted::NotedApart, 3, 100, "INV-SIM-21"),
    (Planted::LimitsLifted, 3, 100, "INV-SIM-26"),
    (Planted::DeadRevived, 3, 100, "INV-SIM-27"),
    (Planted::TickPutOff, 3, 100, "INV-SIM-28"),
    (Planted::WordLeftOut, 3, 100, "INV-SIM-15"),
    (Planted::ScriptsForgotten, 3, 100, "INV-SIM-29"),
    (Planted::VoteForgotten, 3, 400, ""),
    (Planted::RestUnasked, 3, 400, ""),
    (Planted::LeaseClockStops, 3, 40, "INV-SIM-15"),
    (Planted::LeaseCheckedEarly, 3, 40, "INV-SIM-15"),
    (Planted::LeaseByWallClock, 3, 40, "INV-SIM-15"),
    (Planted::ReadWithoutRound, 3, 40, "INV-SIM-15"),
];

fn run(seed: u64, nodes: Option<usize>, focus: Option<Focus>) -> Result<Report, String> {
    sim::run(seed, Wishes { nodes, focus, planted: None }, false)
}

#[test]
fn nothing_breaks() {
    for (nodes, first) in [(Some(1), 0), (None, 0), (Some(3), 10_000)] {
        for seed in first..first + SEEDS {
            if let Err(broken) = run(seed, nodes, None) {
                let nodes = nodes.map_or(String::new(), |n| format!(" --nodes {n}"));
                panic!("{broken}\nstep by step: cargo run -p sim --release -- --seed {seed} --trace{nodes}");
            }
        }
    }
}

#[test]
fn leaders_that_were_replaced_answer_no_reads() {
    let mut asked = 0;
    for seed in 0..SEEDS / 4 {
        let report = run(seed, None, Some(Focus::Leases)).unwrap_or_else(|broken| {
            panic!(
                "{broken}\nstep by step: cargo run -p sim --release -- --seed {seed} --trace --focus leases"
            )
        });
        asked += report.counts.get("probes that read on a leader that was replaced").copied().unwrap_or(0);
    }
    assert!(asked > SEEDS / 4, "only {asked} reads were asked of a leader that others had replaced");
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let focused = (None, Some(Focus::Leases), TWICE / 5);
    for (nodes, focus, seeds) in
        [(Some(1), None, TWICE), (Some(5), None, TWICE), (None, None, TWICE), focused]
    {
        for seed in 0..seeds {
            let (first, second) = (run(seed, nodes, focus), run(seed, nodes, focus));
            assert_eq!(first, second, "seed {seed} with {nodes:?} nodes and {focus:?}");
        }
    }
}

#[test]
fn planted_bugs_are_found() {
    for (planted, nodes, seeds, rule) in PLANTED {
        let wishes = Wishes { nodes: Some(nodes), planted: Some(planted), focus: None };
        let finds = |seed: &u64| {
            let outcome = catch_unwind(AssertUnwindSafe(|| sim::run(*seed, wishes, false)));
            match outcome {
                Ok(Ok(_)) => false,
                Ok(Err(broken)) => broken.starts_with(rule),
                Err(_) => rule.is_empty(),
            }
        };
        let found = (0..seeds).find(finds);
        assert!(found.is_some(), "{} was not found in {seeds} seeds of {nodes} nodes", planted.name());
        println!("{} of {nodes} nodes: seed {}", planted.name(), found.unwrap_or_default());
    }
}
