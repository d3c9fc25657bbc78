//! `MEMORY`, but for `USAGE`, which looks at keys and is a command of the keyspace.

use skep_base::Refusal;

use super::info::{self, percent};
use super::{Call, Group, Parts};
use crate::Node;

pub const COMMANDS: Group = &[
    ("memory|doctor", doctor),
    ("memory|help", super::help),
    ("memory|malloc-stats", malloc_stats),
    ("memory|purge", purge),
    ("memory|stats", stats),
];

pub const PARTS: Parts = &[("memory|stats", info::part)];

/// From this share of the limit on the doctor has something to say.
const NEARLY_FULL_PERCENT: f64 = 90.0;

fn doctor(node: &mut Node, call: Call) -> Result<(), Refusal> {
    let (used, peak) = node.memory_used_and_peak();
    let limit = node.memory.limit;
    let mut advice = Vec::new();
    if limit == 0 {
        advice.push("maxmemory is not set: the node grows until the system stops it.".to_string());
    } else if percent(used, limit) >= NEARLY_FULL_PERCENT {
        let policy = node.memory.policy.name();
        advice.push(format!("{used} of maxmemory {limit} bytes are in use; what follows is up to {policy}."));
    }
    if peak > used.saturating_mul(2) {
        advice
            .push(format!("The peak was {peak} bytes, {used} are in use: the allocator may hold the rest."));
    }
    if advice.is_empty() {
        advice.push("Nothing to remark.".to_string());
    }
    call.reply.verbatim(&advice.join("\n"));
    Ok(())
}

fn malloc_stats(_: &mut Node, call: Call) -> Result<(), Refusal> {
    call.reply.verbatim("The allocator has no statistics beyond those of MEMORY STATS.");
    Ok(())
}

/// The allocator returns memory by itself and takes no requests.
fn purge(_: &mut Node, call: Call) -> Result<(), Refusal> {
    call.reply.ok();
    Ok(())
}

/// The names are Redis's; those that we have no figure for are left out.
fn stats(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    let all = info::figures(node, &mut call)?;
    let (used, peak) = all.memory;
    let keys = all.dbs.iter().map(|db| db.keys as u64).sum::<u64>();
    let clients = all.clients_memory;
    let used_dbs = all.dbs.iter().filter(|db| db.keys > 0).count();
    let figures = [
        ("peak.allocated", peak),
        ("total.allocated", used),
        ("clients.normal", clients as u64),
        ("databases.used", used_dbs as u64),
        ("keys.count", keys),
        ("keys.bytes-per-key", used.checked_div(keys).unwrap_or(0)),
    ];
    call.reply.map(figures.len() + 1);
    for (name, value) in figures {
        call.reply.bulk(name.as_bytes());
        call.reply.int(i64::try_from(value).unwrap_or(i64::MAX));
    }
    call.reply.bulk(b"peak.percentage");
    call.reply.double(percent(used, peak));
    Ok(())
}
