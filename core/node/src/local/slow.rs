//! `SLOWLOG` and `LATENCY`, over all cells of the node.

use std::collections::BTreeMap;

use skep_base::{Args, Refusal, number};
use skep_command::lookup_full;

use super::info;
use super::{Call, Group, Parts, too_many};
use crate::cells::{Caller, Part};
use crate::slow::{Samples, SlowEntry};
use crate::{Node, Output};

pub const COMMANDS: Group = &[
    ("latency|doctor", doctor),
    ("latency|graph", graph),
    ("latency|help", super::help),
    ("latency|histogram", histogram),
    ("latency|history", history),
    ("latency|latest", latest),
    ("latency|reset", reset),
    ("slowlog|get", get),
    ("slowlog|help", super::help),
    ("slowlog|len", len),
    ("slowlog|reset", clear),
];

pub const PARTS: Parts = &[
    ("latency|doctor", samples_part),
    ("latency|graph", samples_part),
    ("latency|histogram", info::part),
    ("latency|history", samples_part),
    ("latency|latest", samples_part),
    ("latency|reset", reset_part),
    ("slowlog|get", get_part),
    ("slowlog|len", len_part),
    ("slowlog|reset", clear_part),
];

/// Entries of `SLOWLOG GET` without a number.
const GET_COUNT: i64 = 10;

fn get(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    let mut entries: Vec<SlowEntry> = Vec::new();
    for part in node.parts(&mut call)? {
        if let Part::Slow(of) = part {
            entries.extend(of);
        }
    }
    let count = count_of(call.args)?;
    entries.sort_by_key(|entry| std::cmp::Reverse((entry.at, entry.id)));
    entries.truncate(usize::try_from(count).unwrap_or(usize::MAX));
    let reply = call.reply;
    reply.array(entries.len());
    for entry in entries {
        reply.array(6);
        reply.int(entry.id as i64);
        reply.int((entry.at.0 / 1_000) as i64);
        reply.int(entry.micros as i64);
        reply.array(entry.args.len());
        entry.args.iter().for_each(|arg| reply.bulk(arg));
        reply.bulk(entry.address.as_bytes());
        reply.bulk(&entry.name);
    }
    Ok(())
}

/// -1: all.
fn count_of(args: Args<'_>) -> Result<i64, Refusal> {
    match args.get(2) {
        _ if args.len() > 3 => Err(too_many(args)),
        None => Ok(GET_COUNT),
        Some(count) => number::parse_i64(count)
            .filter(|count| *count >= -1)
            .ok_or(Refusal::text("ERR count should be greater than or equal to -1")),
    }
}

fn get_part(node: &mut Node, _: Caller, args: Args<'_>, _: &mut Vec<Output>) -> Result<Part, Refusal> {
    count_of(args)?;
    // Each cell counts from 0.
    let (cells, me) = (node.cells.count as u64, node.cells.me as u64);
    let of_node = |entry: &SlowEntry| SlowEntry { id: entry.id * cells + me, ..entry.clone() };
    Ok(Part::Slow(node.slow.entries().map(of_node).collect()))
}

fn len(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    let of = |part: Part| if let Part::Count(entries) = part { entries } else { 0 };
    let entries: usize = node.parts(&mut call)?.into_iter().map(of).sum();
    call.reply.len(entries);
    Ok(())
}

fn len_part(node: &mut Node, _: Caller, _: Args<'_>, _: &mut Vec<Output>) -> Result<Part, Refusal> {
    Ok(Part::Count(node.slow.len()))
}

fn clear(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    node.parts(&mut call)?;
    call.reply.ok();
    Ok(())
}

fn clear_part(node: &mut Node, _: Caller, _: Args<'_>, _: &mut Vec<Output>) -> Result<Part, Refusal> {
    node.slow.clear();
    Ok(Part::Done)
}

// ---- latency -------------------------------------------------------------------------------------------------------------

/// The samples of all cells: of one second the longest.
fn samples(node: &mut Node, call: &mut Call) -> Result<BTreeMap<&'static str, Samples>, Refusal> {
    let mut all: BTreeMap<&'static str, (BTreeMap<u64, u64>, u64)> = BTreeMap::new();
    for part in node.parts(call)? {
        let Part::Samples(of) = part else { continue };
        for (event, samples) in of {
            let (seconds, longest) = all.entry(event).or_default();
            *longest = (*longest).max(samples.longest_ms);
            for (second, ms) in samples.recent {
                let known = seconds.entry(second).or_default();
                *known = (*known).max(ms);
            }
        }
    }
    let joined = |(seconds, longest_ms): (BTreeMap<u64, u64>, u64)| Samples {
        recent: seconds.into_iter().collect(),
        longest_ms,
    };
    Ok(all.into_iter().map(|(event, of)| (event, joined(of))).collect())
}

fn samples_part(node: &mut Node, _: Caller, _: Args<'_>, _: &mut Vec<Output>) -> Result<Part, Refusal> {
    Ok(Part::Samples(node.slow.samples()))
}

fn latest(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    let all = samples(node, &mut call)?;
    call.reply.array(all.len());
    for (event, samples) in all {
        let (second, ms) = samples.recent.back().copied().unwrap_or_default();
        call.reply.array(4);
        call.reply.bulk(event.as_bytes());
        [second, ms, samples.longest_ms].into_iter().for_each(|value| call.reply.int(value as i64));
    }
    Ok(())
}

fn history(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    let all = samples(node, &mut call)?;
    let recent = named(&all, &call.args[2]).map(|samples| samples.recent.clone()).unwrap_or_default();
    call.reply.array(recent.len());
    for (second, ms) in recent {
        call.reply.array(2);
        call.reply.int(second as i64);
        call.reply.int(ms as i64);
    }
    Ok(())
}

fn named<'a>(all: &'a BTreeMap<&'static str, Samples>, event: &[u8]) -> Option<&'a Samples> {
    all.iter().find(|(name, _)| name.as_bytes() == event).map(|(_, samples)| samples)
}

/// One bar a sample, the newest to the right.
fn graph(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    const ROWS: u64 = 8;
    const COLUMNS: usize = 80;
    let all = samples(node, &mut call)?;
    let event = String::from_utf8_lossy(&call.args[2]).into_owned();
    let Some(samples) = named(&all, event.as_bytes()) else {
        return Err(Refusal::format(format!("ERR No samples available for event '{event}'")));
    };
    let shown: Vec<u64> = samples.recent.iter().rev().take(COLUMNS).rev().map(|(_, ms)| *ms).collect();
    let high = shown.iter().copied().max().unwrap_or_default();
    let low = shown.iter().copied().min().unwrap_or_default();
    let mut text =
        format!("{event} - high {high} ms, low {low} ms (all time high {} ms)\n", samples.longest_ms);
    text.push_str(&"-".repeat(COLUMNS));
    text.push('\n');
    for row in (1..=ROWS).rev() {
        let line: String = shown.iter().map(|ms| if ms * ROWS >= high * row { '#' } else { ' ' }).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    call.reply.verbatim(&text);
    Ok(())
}

fn doctor(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    let all = samples(node, &mut call)?;
    let threshold = node.settings.latency_monitor_threshold_ms();
    let mut lines = Vec::new();
    if threshold == 0 {
        lines.push(
            "Nothing is sampled: set latency-monitor-threshold to a number of milliseconds.".to_owned(),
        );
    } else if all.is_empty() {
        lines.push(format!("No command took {threshold} ms or more."));
    }
    for (event, samples) in &all {
        let count = samples.recent.len();
        lines.push(format!(
            "{event}: {count} seconds with commands of {threshold} ms or more, the longest {} ms. SLOWLOG GET names them.",
            samples.longest_ms
        ));
    }
    call.reply.verbatim(&lines.join("\n"));
    Ok(())
}

fn reset(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    let mut forgotten: Vec<Vec<u8>> = Vec::new();
    for part in node.parts(&mut call)? {
        if let Part::Keys(events) = part {
            forgotten.extend(events);
        }
    }
    forgotten.sort_unstable();
    forgotten.dedup();
    call.reply.len(forgotten.len());
    Ok(())
}

fn reset_part(node: &mut Node, _: Caller, args: Args<'_>, _: &mut Vec<Output>) -> Result<Part, Refusal> {
    let wanted = |event: &str| args.len() == 2 || args.from(2).iter().any(|name| name == event.as_bytes());
    let known: Vec<&str> =
        node.slow.samples().into_iter().map(|(event, _)| event).filter(|e| wanted(e)).collect();
    let forget = |event: &&str| node.slow.forget(event) > 0;
    Ok(Part::Keys(known.into_iter().filter(forget).map(|event| event.as_bytes().to_vec()).collect()))
}

/// Calls by how long they took, cumulative, in powers of two of microseconds; a call's time is its share of its input.
fn histogram(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    let all = info::figures(node, &mut call)?;
    let asked = call.args.from(2);
    let commands = skep_command::commands().flat_map(|c| std::iter::once(c).chain(c.subcommands()));
    let is_asked = |name: &str| {
        let matches = |arg: &[u8]| {
            lookup_full(arg)
                .is_some_and(|c| c.name == name || c.subcommands().iter().any(|sub| sub.name == name))
        };
        asked.is_empty() || asked.iter().any(matches)
    };
    let found: Vec<_> = commands
        .map(|c| (c.name, all.stats.of(c)))
        .filter(|(name, of)| of.timed() > 0 && is_asked(name))
        .collect();
    call.reply.map(found.len());
    for (name, of) in found {
        let buckets: Vec<(u64, u64)> = of.histogram().collect();
        call.reply.bulk(name.as_bytes());
        call.reply.map(2);
        call.reply.bulk(b"calls");
        call.reply.int(of.timed() as i64);
        call.reply.bulk(b"histogram_usec");
        call.reply.map(buckets.len());
        for (micros, calls) in buckets {
            call.reply.int(micros as i64);
            call.reply.int(calls as i64);
        }
    }
    Ok(())
}
