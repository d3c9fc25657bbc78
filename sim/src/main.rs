//! Runs seeds and says what broke.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use sim::Planted;

/// The seed that runs, for the message of a panic.
static SEED: AtomicU64 = AtomicU64::new(0);

struct Options {
    seeds: u64,
    first_seed: u64,
    trace: bool,
    planted: Option<Planted>,
    keep_going: bool,
}

const USAGE: &str = "\
Usage: sim [--seeds N] [--first-seed S] [--seed S] [--trace] [--keep-going] [--planted BUG]

  --seeds N         how many seeds to run (1000)
  --first-seed S    the first of them (0)
  --seed S          run this one
  --trace           print every event
  --keep-going      go on after a seed that fails
  --planted BUG     put a bug in on purpose: acknowledge-before-sync, torn-tail-accepted,
                    checkpoint-lacks-last-entry, log-truncated-beyond-checkpoint";

fn main() -> ExitCode {
    let options = match parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(message) => {
            eprintln!("{message}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let before = std::panic::take_hook();
    let planted = options.planted;
    std::panic::set_hook(Box::new(move |info| {
        before(info);
        report_failure(SEED.load(Ordering::Relaxed), "an assertion failed, see above", planted);
    }));
    run(&options)
}

fn run(options: &Options) -> ExitCode {
    let started = Instant::now();
    let mut totals: BTreeMap<&str, u64> = BTreeMap::new();
    let (mut done, mut failed) = (0u64, 0u64);
    for seed in options.first_seed..options.first_seed.saturating_add(options.seeds) {
        SEED.store(seed, Ordering::Relaxed);
        match sim::run(seed, options.planted, options.trace) {
            Ok(report) => {
                report.counts.iter().for_each(|(what, n)| *totals.entry(what).or_default() += n);
                if options.seeds == 1 {
                    println!("seed {seed}: {} events, trace {:016x}", report.events, report.hash);
                }
            }
            Err(broken) => {
                failed += 1;
                report_failure(seed, &broken, options.planted);
                if !options.keep_going {
                    return ExitCode::FAILURE;
                }
            }
        }
        done += 1;
    }
    let seconds = started.elapsed().as_secs_f64();
    let virtual_hours = totals.remove("virtual ms").unwrap_or(0) as f64 / 3_600_000.0;
    println!(
        "{done} seeds in {seconds:.1} s ({:.0} a second), {virtual_hours:.2} simulated hours ({:.0} times real time), {failed} failed",
        done as f64 / seconds,
        virtual_hours * 3600.0 / seconds,
    );
    for (what, n) in totals {
        println!("{n:>12} {what}");
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn report_failure(seed: u64, broken: &str, planted: Option<Planted>) {
    let planted = planted.map_or(String::new(), |p| format!(" --planted {}", p.name()));
    eprintln!("seed {seed} FAILED: {broken}");
    eprintln!("step by step: cargo run -p sim --release -- --seed {seed} --trace{planted}");
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { seeds: 1000, first_seed: 0, trace: false, planted: None, keep_going: false };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        let number = |text: String| text.parse::<u64>().map_err(|_| format!("{text:?} is not a number"));
        match arg.as_str() {
            "--seeds" => options.seeds = number(value()?)?,
            "--first-seed" => options.first_seed = number(value()?)?,
            "--seed" => (options.first_seed, options.seeds) = (number(value()?)?, 1),
            "--trace" => options.trace = true,
            "--keep-going" => options.keep_going = true,
            "--planted" => {
                let name = value()?;
                options.planted = Some(Planted::parse(&name).ok_or(format!("no bug is called {name:?}"))?);
            }
            _ => return Err(format!("unknown argument {arg:?}")),
        }
    }
    Ok(options)
}
