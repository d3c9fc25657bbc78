//! Runs seeds and says what broke.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sim::{Focus, Planted, Wishes};

/// The seed that runs, for the message of a panic.
static SEED: AtomicU64 = AtomicU64::new(0);

/// How often it says how far it is.
const PROGRESS_EVERY: Duration = Duration::from_secs(10);

struct Options {
    seeds: u64,
    first_seed: u64,
    wishes: Wishes,
    trace: bool,
    keep_going: bool,
}

const USAGE: &str = "\
Usage: sim [--seeds N] [--first-seed S] [--seed S] [--nodes K] [--focus WHAT] [--trace] [--keep-going]
           [--planted BUG]

  --seeds N         how many seeds to run (1000)
  --first-seed S    the first of them (0)
  --seed S          run this one
  --nodes K         nodes of every seed, 1 to 7 (as the seed says)
  --focus WHAT      every seed is about this: leases, of clusters of three or more (as the seed says)
  --trace           print every event
  --keep-going      go on after a seed that fails
  --planted BUG     put a bug in on purpose: acknowledge-before-sync, torn-tail-accepted,
                    checkpoint-lacks-last-entry, log-truncated-beyond-checkpoint,
                    acknowledge-before-majority, lease-clock-stops, lease-checked-early,
                    lease-by-wall-clock, read-without-round, forward-twice, vote-forgotten,
                    checkpoint-lacks-tokens, retry-without-token, watch-left-out, group-rewound,
                    noted-apart, rest-unasked, limits-lifted, dead-revived, tick-put-off,
                    word-left-out, scripts-forgotten";

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let before = std::panic::take_hook();
    let again = again(&options);
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        report_failure(SEED.load(Ordering::Relaxed), "an assertion failed, see above", &again);
    }));
    run(&options)
}

fn run(options: &Options) -> ExitCode {
    let started = Instant::now();
    let mut said = started;
    let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut done, mut failed) = (0u64, 0u64);
    for seed in options.first_seed..options.first_seed.saturating_add(options.seeds) {
        SEED.store(seed, Ordering::Relaxed);
        let run = || sim::run(seed, options.wishes, options.trace);
        let outcome = catch_unwind(AssertUnwindSafe(run));
        match outcome.unwrap_or_else(|_| Err(String::new())) {
            Ok(report) => {
                report.counts.iter().for_each(|(what, n)| *totals.entry(what).or_default() += n);
                if options.seeds == 1 {
                    println!("seed {seed}: {} events, trace {:016x}", report.events, report.hash);
                }
            }
            Err(broken) => {
                failed += 1;
                // The message of a panic was printed when it happened.
                if !broken.is_empty() {
                    report_failure(seed, &broken, &again(options));
                }
                if !options.keep_going {
                    return ExitCode::FAILURE;
                }
            }
        }
        done += 1;
        if said.elapsed() >= PROGRESS_EVERY {
            said = Instant::now();
            let simulated_ms = totals.get("virtual ms").copied().unwrap_or(0);
            eprintln!("{} of {}", summary(done, failed, started.elapsed(), simulated_ms), options.seeds);
        }
    }
    let simulated_ms = totals.remove("virtual ms").unwrap_or(0);
    println!("{}", summary(done, failed, started.elapsed(), simulated_ms));
    for (what, n) in totals {
        println!("{n:>12} {what}");
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn summary(done: u64, failed: u64, took: Duration, simulated_ms: u64) -> String {
    let (seconds, hours) = (took.as_secs_f64(), simulated_ms as f64 / 3_600_000.0);
    let (pace, times) = (done as f64 / seconds, hours * 3_600.0 / seconds);
    format!(
        "{done} seeds in {seconds:.1} s ({pace:.0} a second), {hours:.2} simulated hours ({times:.0} times real time), {failed} failed"
    )
}

/// What a seed must be run with to be the same again.
fn again(options: &Options) -> String {
    let Wishes { nodes, focus, planted } = options.wishes;
    let nodes = nodes.map_or(String::new(), |n| format!(" --nodes {n}"));
    let focus = focus.map_or(String::new(), |f| format!(" --focus {}", f.name()));
    let planted = planted.map_or(String::new(), |p| format!(" --planted {}", p.name()));
    format!("{nodes}{focus}{planted}")
}

fn report_failure(seed: u64, broken: &str, again: &str) {
    eprintln!("seed {seed} FAILED: {broken}");
    eprintln!("step by step: cargo run -p sim --release -- --seed {seed} --trace{again}");
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options =
        Options { seeds: 1000, first_seed: 0, wishes: Wishes::default(), trace: false, keep_going: false };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("{text:?} is not a number"));
        match arg.as_str() {
            "--seeds" => options.seeds = number(value()?)?,
            "--first-seed" => options.first_seed = number(value()?)?,
            "--seed" => (options.first_seed, options.seeds) = (number(value()?)?, 1),
            "--nodes" => {
                options.wishes.nodes = Some(number(value()?)? as usize).filter(|n| (1..=7).contains(n))
            }
            "--trace" => options.trace = true,
            "--keep-going" => options.keep_going = true,
            "--focus" => {
                let name = value()?;
                options.wishes.focus =
                    Some(Focus::parse(&name).ok_or(format!("no focus is called {name:?}"))?);
            }
            "--planted" => {
                let name = value()?;
                options.wishes.planted =
                    Some(Planted::parse(&name).ok_or(format!("no bug is called {name:?}"))?);
            }
            _ => return Err(format!("unknown argument {arg:?}")),
        }
    }
    Ok(options)
}
