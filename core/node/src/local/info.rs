//! `INFO`: the node's state and counters, as lines of `name:value` in sections.
//!
//! Fields of Redis keep its names and units. A field that we have no figure for is left out, never invented. The core has no
//! clock inside a command: `usec` of a command, and what its percentiles are of, is its even share of the
//! inputs in which it ran (see [`Node::attribute_time`]); programs find it by its place in the line, so it must be there.
//! `rdb_` is about checkpoints, `rdb_changes_since_last_save` counts log entries, `master_repl_offset` is the position of
//! the newest one applied.

use std::fmt::Write;

use skep_base::{Args, Refusal};
use skep_keyspace::{DB_COUNT, Keyspace};
use skep_pubsub::Kind;

use super::cluster::host_and_port;
use super::connection::REDIS_VERSION;
use super::{Call, Group, Parts};
use crate::cells::{Caller, Part};
use crate::shard::Replica;
use crate::stats::{Elsewhere, Stats};
use crate::{Node, Output};

pub const COMMANDS: Group = &[("info", info)];

/// Writes a section's lines.
type Section = fn(&Node, &Figures, &mut Lines);

/// Name, title, lines, and whether it is part of `INFO` without arguments; in the order of Redis.
const SECTIONS: &[(&str, &str, Section, bool)] = &[
    ("server", "Server", server, true),
    ("clients", "Clients", clients, true),
    ("memory", "Memory", memory, true),
    ("persistence", "Persistence", persistence, true),
    ("stats", "Stats", stats, true),
    ("replication", "Replication", replication, true),
    ("cpu", "CPU", cpu, true),
    ("modules", "Modules", nothing, true),
    ("commandstats", "Commandstats", commandstats, false),
    ("errorstats", "Errorstats", errorstats, true),
    ("latencystats", "Latencystats", latencystats, false),
    ("cluster", "Cluster", cluster, true),
    ("keyspace", "Keyspace", keyspace, true),
    ("skep", "Skep", skep, true),
];

fn info(node: &mut Node, mut call: Call) -> Result<(), Refusal> {
    let all = figures(node, &mut call)?;
    let asked = call.args.from(1);
    let mut lines = Lines(String::new());
    for (name, title, write, is_default) in SECTIONS {
        if is_asked(asked, name, *is_default) {
            if !lines.0.is_empty() {
                lines.0.push_str("\r\n");
            }
            lines.0.push_str("# ");
            lines.0.push_str(title);
            lines.0.push_str("\r\n");
            write(node, &all, &mut lines);
        }
    }
    call.reply.verbatim(&lines.0);
    Ok(())
}

pub const PARTS: Parts = &[("info", part)];

/// The figures of one cell; those of several are added up.
#[derive(Default)]
pub(crate) struct Figures {
    clients: usize,
    /// Clients that listen to channels.
    listening: usize,
    published_dropped: u64,
    blocked_clients: usize,
    /// Clients that watch keys for a transaction.
    watching: usize,
    /// Clients that are told of keys, and for them: keys, keys by clients, prefixes.
    tracking: usize,
    tracked: [usize; 3],
    longest_input: usize,
    longest_output: usize,
    pub clients_memory: usize,
    /// Bytes allocated, and the most that it ever was.
    pub memory: (u64, u64),
    /// Scripts known, bytes of all sources, libraries, functions.
    scripts: [usize; 4],
    ready: bool,
    leads: usize,
    /// Some shard has no leader.
    leaderless: bool,
    disk_full: bool,
    pub applied: u64,
    since_checkpoint: u64,
    checkpoint_active: bool,
    checkpoint_failed: bool,
    /// Wall time in ms: from then on there is a checkpoint of everything.
    pub checkpoint_saved: u64,
    checkpoint_took_ms: Option<u64>,
    checkpoint_elapsed_ms: Option<u64>,
    checkpoints: u64,
    elsewhere: Elsewhere,
    pub stats: Stats,
    pub dbs: Vec<DbFigures>,
}

/// Of a database, in the replicas of a cell.
#[derive(Clone, Copy, Default)]
pub(crate) struct DbFigures {
    pub keys: usize,
    volatile: usize,
    /// The mean times to live of the replicas, added up, and how many there are.
    ttls_ms: u64,
    ttls: u64,
}

pub(super) fn part(node: &mut Node, _: Caller, _: Args<'_>, _: &mut Vec<Output>) -> Result<Part, Refusal> {
    node.stats.sample(node.now.mono.0);
    Ok(Part::Figures(Box::new(node.figures())))
}

/// The figures of all cells.
pub(super) fn figures(node: &mut Node, call: &mut Call) -> Result<Figures, Refusal> {
    let mut all: Option<Figures> = None;
    for part in node.parts(call)? {
        if let Part::Figures(of) = part {
            match &mut all {
                None => all = Some(*of),
                Some(all) => all.absorb(*of),
            }
        }
    }
    Ok(all.unwrap_or_default())
}

impl Figures {
    fn absorb(&mut self, other: Figures) {
        self.clients += other.clients;
        self.listening += other.listening;
        self.published_dropped += other.published_dropped;
        self.blocked_clients += other.blocked_clients;
        self.watching += other.watching;
        self.tracking += other.tracking;
        self.tracked.iter_mut().zip(other.tracked).for_each(|(sum, of)| *sum += of);
        self.longest_input = self.longest_input.max(other.longest_input);
        self.longest_output = self.longest_output.max(other.longest_output);
        self.clients_memory += other.clients_memory;
        self.memory = (self.memory.0.max(other.memory.0), self.memory.1.max(other.memory.1));
        // All shards know the same, but for what EVAL ran.
        self.scripts = std::array::from_fn(|at| self.scripts[at].max(other.scripts[at]));
        self.ready &= other.ready;
        self.leads += other.leads;
        self.leaderless |= other.leaderless;
        self.disk_full |= other.disk_full;
        self.applied += other.applied;
        self.since_checkpoint += other.since_checkpoint;
        self.checkpoint_active |= other.checkpoint_active;
        self.checkpoint_failed |= other.checkpoint_failed;
        self.checkpoint_saved = self.checkpoint_saved.min(other.checkpoint_saved);
        self.checkpoint_took_ms = self.checkpoint_took_ms.max(other.checkpoint_took_ms);
        self.checkpoint_elapsed_ms = self.checkpoint_elapsed_ms.max(other.checkpoint_elapsed_ms);
        self.checkpoints = self.checkpoints.max(other.checkpoints);
        self.elsewhere.absorb(&other.elsewhere);
        self.stats.absorb(&other.stats);
        for (db, of) in self.dbs.iter_mut().zip(other.dbs) {
            db.keys += of.keys;
            db.volatile += of.volatile;
            db.ttls_ms += of.ttls_ms;
            db.ttls += of.ttls;
        }
    }

    /// `unavailable` while shards cannot be served, `degraded` while they take no writes for lack of space.
    fn cluster_state(&self) -> &'static str {
        match () {
            () if !self.ready || self.leaderless => "unavailable",
            () if self.disk_full => "degraded",
            () => "ok",
        }
    }
}

fn is_asked(asked: Args<'_>, section: &str, is_default: bool) -> bool {
    let is_named = |arg: &[u8]| {
        arg.eq_ignore_ascii_case(section.as_bytes())
            || arg.eq_ignore_ascii_case(b"all")
            || arg.eq_ignore_ascii_case(b"everything")
            || arg.eq_ignore_ascii_case(b"default") && is_default
    };
    if asked.is_empty() { is_default } else { asked.iter().any(is_named) }
}

/// The text being written.
struct Lines(String);

impl Lines {
    fn put(&mut self, name: &str, value: impl std::fmt::Display) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{name}:{value}\r\n");
    }

    /// A size in bytes, and the same for people.
    fn put_bytes(&mut self, name: &str, bytes: u64) {
        self.put(name, bytes);
        self.put(&format!("{name}_human"), human_bytes(bytes));
    }
}

/// A size in the form of Redis: `512B`, `1.50M`.
fn human_bytes(bytes: u64) -> String {
    const UNITS: [char; 5] = ['K', 'M', 'G', 'T', 'P'];
    if bytes < 1_024 {
        return format!("{bytes}B");
    }
    let power = (bytes.ilog2() as usize / 10).min(UNITS.len());
    format!("{:.2}{}", bytes as f64 / (1u64 << (10 * power)) as f64, UNITS[power - 1])
}

fn nothing(_: &Node, _: &Figures, _: &mut Lines) {}

fn server(node: &Node, _: &Figures, lines: &mut Lines) {
    let uptime = node.now.mono.since(node.started.mono) / 1_000;
    lines.put("redis_version", REDIS_VERSION);
    lines.put("skep_version", env!("CARGO_PKG_VERSION"));
    lines.put("redis_mode", "standalone");
    lines.put("os", format_args!("{} {}", std::env::consts::OS, std::env::consts::ARCH));
    lines.put("arch_bits", usize::BITS);
    lines.put("process_id", node.process_id);
    lines.put("run_id", &node.run_id);
    lines.put("tcp_port", host_and_port(&node.announced.client).1);
    lines.put("server_time_usec", node.now.wall.0 * 1_000);
    lines.put("uptime_in_seconds", uptime);
    lines.put("uptime_in_days", uptime / 86_400);
}

fn clients(node: &Node, all: &Figures, lines: &mut Lines) {
    lines.put("connected_clients", all.clients);
    lines.put("cluster_connections", 0);
    lines.put("maxclients", node.clients_max());
    lines.put("client_recent_max_input_buffer", all.longest_input);
    lines.put("client_recent_max_output_buffer", all.longest_output);
    lines.put("blocked_clients", all.blocked_clients);
    lines.put("tracking_clients", all.tracking);
    lines.put("pubsub_clients", all.listening);
    lines.put("watching_clients", all.watching);
}

fn memory(node: &Node, all: &Figures, lines: &mut Lines) {
    let (used, peak) = all.memory;
    let process = all.stats.process;
    lines.put_bytes("used_memory", used);
    if let Some(process) = process {
        lines.put_bytes("used_memory_rss", process.memory_resident);
    }
    lines.put_bytes("used_memory_peak", peak);
    lines.put("used_memory_peak_perc", format_args!("{:.2}%", percent(used, peak)));
    if let Some(process) = process {
        lines.put_bytes("total_system_memory", process.memory_total);
    }
    lines.put_bytes("maxmemory", node.memory.limit);
    lines.put("maxmemory_policy", node.memory.policy.name());
    if let Some(resident) = process.map(|p| p.memory_resident)
        && used > 0
    {
        lines.put("mem_fragmentation_ratio", format_args!("{:.2}", resident as f64 / used as f64));
        lines.put("mem_fragmentation_bytes", i128::from(resident) - i128::from(used));
    }
    lines.put("mem_clients_normal", all.clients_memory);
    let [scripts, script_bytes, libraries, functions] = all.scripts;
    lines.put("used_memory_scripts", script_bytes);
    lines.put("number_of_cached_scripts", scripts);
    lines.put("number_of_functions", functions);
    lines.put("number_of_libraries", libraries);
}

fn persistence(node: &Node, all: &Figures, lines: &mut Lines) {
    lines.put("loading", u8::from(!node.ready));
    lines.put("async_loading", 0);
    let seconds = |ms: Option<u64>| ms.map_or(-1, |ms| (ms / 1_000) as i64);
    lines.put("rdb_changes_since_last_save", all.since_checkpoint);
    lines.put("rdb_bgsave_in_progress", u8::from(all.checkpoint_active));
    lines.put("rdb_last_save_time", all.checkpoint_saved / 1_000);
    lines.put("rdb_last_bgsave_status", if all.checkpoint_failed { "err" } else { "ok" });
    lines.put("rdb_last_bgsave_time_sec", seconds(all.checkpoint_took_ms));
    lines.put("rdb_current_bgsave_time_sec", seconds(all.checkpoint_elapsed_ms));
    lines.put("rdb_saves", all.checkpoints);
    lines.put("aof_enabled", 0);
    lines.put("aof_rewrite_in_progress", 0);
    lines.put("aof_last_write_status", if all.disk_full { "err" } else { "ok" });
}

fn stats(node: &Node, all: &Figures, lines: &mut Lines) {
    let (now, stats) = (&all.elsewhere, &all.stats);
    lines.put("total_connections_received", now.connections);
    lines.put("total_commands_processed", stats.commands);
    lines.put("instantaneous_ops_per_sec", stats.rates.commands_per_second);
    lines.put("total_net_input_bytes", stats.bytes_in);
    lines.put("total_net_output_bytes", stats.bytes_out);
    let kib = |bytes: u64| bytes as f64 / 1_024.0;
    lines.put("instantaneous_input_kbps", format_args!("{:.2}", kib(stats.rates.bytes_in_per_second)));
    lines.put("instantaneous_output_kbps", format_args!("{:.2}", kib(stats.rates.bytes_out_per_second)));
    lines.put("rejected_connections", stats.rejected_connections);
    lines.put("expired_keys", now.expired_keys);
    lines.put("expired_subkeys", now.expired_fields);
    lines.put("evicted_keys", now.evicted_keys);
    lines.put("evicted_clients", 0);
    lines.put("keyspace_hits", now.hits);
    lines.put("keyspace_misses", now.misses);
    let table = &node.pubsub.table;
    lines.put("pubsub_channels", table.distinct(Kind::Channel));
    lines.put("pubsub_patterns", table.distinct(Kind::Pattern));
    lines.put("pubsubshard_channels", table.distinct(Kind::Shard));
    let [keys, items, prefixes] = all.tracked;
    lines.put("tracking_total_keys", keys);
    lines.put("tracking_total_items", items);
    lines.put("tracking_total_prefixes", prefixes);
    lines.put("latest_fork_usec", 0);
    lines.put("total_forks", 0);
    lines.put("total_error_replies", stats.errors);
    lines.put("total_protocol_errors", stats.protocol_errors);
    lines.put("client_query_buffer_limit_disconnections", stats.input_limit_disconnections);
    lines.put("client_output_buffer_limit_disconnections", stats.output_limit_disconnections);
}

fn replication(node: &Node, all: &Figures, lines: &mut Lines) {
    lines.put("role", "master");
    lines.put("connected_slaves", 0);
    lines.put("master_failover_state", "no-failover");
    lines.put("master_replid", &node.meta.state.cluster_id);
    lines.put("master_replid2", "0".repeat(40));
    lines.put("master_repl_offset", all.applied);
    lines.put("second_repl_offset", -1);
    lines.put("repl_backlog_active", 0);
}

/// No child processes are made, so theirs is nothing.
fn cpu(_: &Node, all: &Figures, lines: &mut Lines) {
    let Some(process) = all.stats.process else { return };
    let seconds = |ms: u64| format!("{}.{:03}000", ms / 1_000, ms % 1_000);
    lines.put("used_cpu_sys", seconds(process.cpu.system_ms));
    lines.put("used_cpu_user", seconds(process.cpu.user_ms));
    lines.put("used_cpu_sys_children", seconds(0));
    lines.put("used_cpu_user_children", seconds(0));
    lines.put("used_cpu_sys_main_thread", seconds(process.cpu_main_thread.system_ms));
    lines.put("used_cpu_user_main_thread", seconds(process.cpu_main_thread.user_ms));
}

fn commandstats(_: &Node, all: &Figures, lines: &mut Lines) {
    let commands = skep_command::commands().flat_map(|c| std::iter::once(c).chain(c.subcommands()));
    for command in commands {
        let of = all.stats.of(command);
        if of.calls + of.rejected + of.failed > 0 {
            lines.put(
                &format!("cmdstat_{}", command.name),
                format_args!(
                    "calls={},usec={},usec_per_call={:.2},rejected_calls={},failed_calls={}",
                    of.calls,
                    of.micros(),
                    of.micros_per_call(),
                    of.rejected,
                    of.failed
                ),
            );
        }
    }
}

/// Percentiles by command, in microseconds: upper bounds, which are powers of two.
fn latencystats(node: &Node, all: &Figures, lines: &mut Lines) {
    let commands = skep_command::commands().flat_map(|c| std::iter::once(c).chain(c.subcommands()));
    for command in commands {
        let of = all.stats.of(command);
        if of.timed() > 0 {
            let wanted = node.settings.latency_percentiles();
            let shown =
                wanted.map(|(text, percent)| format!("p{text}={}.000", of.micros_of_fastest(percent)));
            let name = format!("latency_percentiles_usec_{}", command.name);
            lines.put(&name, shown.collect::<Vec<_>>().join(","));
        }
    }
}

fn errorstats(_: &Node, all: &Figures, lines: &mut Lines) {
    for (prefix, count) in all.stats.errors_by_prefix() {
        let name = format!("errorstat_{}", String::from_utf8_lossy(prefix));
        lines.put(&name, format_args!("count={count}"));
    }
}

/// 0, so that plain clients are not turned into cluster clients.
fn cluster(_: &Node, _: &Figures, lines: &mut Lines) {
    lines.put("cluster_enabled", 0);
}

/// Of the replicas on this node.
fn keyspace(_: &Node, all: &Figures, lines: &mut Lines) {
    for (db, of) in all.dbs.iter().enumerate().filter(|(_, of)| of.keys > 0) {
        let (keys, volatile) = (of.keys, of.volatile);
        let ttl_ms = of.ttls_ms / of.ttls.max(1);
        lines.put(&format!("db{db}"), format_args!("keys={keys},expires={volatile},avg_ttl={ttl_ms}"));
    }
}

fn skep(node: &Node, all: &Figures, lines: &mut Lines) {
    lines.put("node_id", node.id);
    lines.put("node_name", &node.announced.name);
    lines.put("cluster_id", &node.meta.state.cluster_id);
    lines.put("leading_shards", all.leads);
    lines.put("shards", node.meta.state.shards.len());
    lines.put("cluster_state", all.cluster_state());
    lines.put("durability", node.settings.get("durability").unwrap_or_default());
    lines.put("published_dropped", all.published_dropped);
    lines.put("entries_applied", all.applied);
    lines.put("entries_since_checkpoint", all.since_checkpoint);
}

/// `part` in percent of `whole`; 100 of nothing.
pub(crate) fn percent(part: u64, whole: u64) -> f64 {
    if whole == 0 { 100.0 } else { part as f64 * 100.0 / whole as f64 }
}

impl Node {
    /// This cell's.
    fn figures(&self) -> Figures {
        let longest =
            |bytes: fn(&crate::client::Client) -> usize| self.clients.iter().map(bytes).max().unwrap_or(0);
        let checkpoints = &self.checkpoints;
        Figures {
            clients: self.clients.len(),
            listening: self.pubsub.table.clients(),
            published_dropped: self.pubsub.dropped,
            blocked_clients: self.blocked_clients(),
            watching: self.clients.iter().filter(|client| client.watches()).count(),
            tracking: self.caching.clients.len(),
            tracked: [self.caching.table.keys(), self.caching.table.items(), self.caching.table.prefixes()],
            longest_input: longest(|c| c.unread()),
            longest_output: longest(|c| c.unsent()),
            clients_memory: self.clients.iter().map(|c| c.memory_bytes()).sum(),
            memory: self.memory_used_and_peak(),
            scripts: self.script_figures(),
            ready: self.ready,
            leads: self.shards.iter().filter(|shard| shard.leads()).count(),
            leaderless: self.shards.iter().any(|shard| shard.leader().is_none()),
            disk_full: self.disk_full,
            applied: self.applied_index(),
            since_checkpoint: self.entries_since_checkpoint(),
            checkpoint_active: checkpoints.is_active(),
            checkpoint_failed: checkpoints.last_failed,
            checkpoint_saved: checkpoints.last_saved,
            checkpoint_took_ms: checkpoints.last_took_ms,
            checkpoint_elapsed_ms: checkpoints.elapsed_ms(self.now.mono),
            checkpoints: checkpoints.saved,
            elsewhere: self.counters_elsewhere().since(&self.stats.before_reset),
            stats: self.stats.clone(),
            dbs: (0..DB_COUNT).map(|db| self.db_figures(db)).collect(),
        }
    }

    fn db_figures(&self, db: u8) -> DbFigures {
        let sum = |of: fn(&Keyspace, u8) -> usize| -> usize {
            self.replicas().map(|replica| of(&replica.keyspace, db)).sum()
        };
        let ttl_ms = |r: &Replica| Some(r.keyspace.mean_deadline(db)?.since(r.time_shown(self.now)));
        let ttls: Vec<u64> = self.replicas().filter_map(ttl_ms).collect();
        DbFigures {
            keys: sum(Keyspace::len),
            volatile: sum(Keyspace::volatile_len),
            ttls_ms: ttls.iter().sum(),
            ttls: ttls.len() as u64,
        }
    }

    /// The positions of this node's replicas of shards, added up: what grows with every write.
    pub(crate) fn applied_index(&self) -> u64 {
        self.replicas().map(|replica| replica.applied.index.0).sum()
    }

    fn entries_since_checkpoint(&self) -> u64 {
        self.replicas().map(|r| r.applied.index.0 - r.saved.index.0).sum()
    }

    /// Bytes allocated at the end of the last turn, and the most at the end of any.
    pub(crate) fn memory_used_and_peak(&self) -> (u64, u64) {
        (self.memory.used, self.memory.peak.max(self.memory.used))
    }

    /// `CONFIG RESETSTAT`: what `INFO` counts starts at 0 again; metrics go on.
    pub(crate) fn reset_stats(&mut self) {
        let elsewhere = self.counters_elsewhere();
        self.stats.reset(elsewhere);
    }

    fn counters_elsewhere(&self) -> Elsewhere {
        let sum = |of: fn(&Keyspace) -> u64| self.replicas().map(|r| of(&r.keyspace)).sum::<u64>();
        Elsewhere {
            connections: self.clients.accepted(),
            expired_keys: sum(|k| k.stats().expired_keys),
            expired_fields: sum(|k| k.stats().expired_fields),
            evicted_keys: self.memory.evicted_keys,
            hits: sum(|k| k.access.hits()),
            misses: sum(|k| k.access.misses()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_written_as_redis_writes_them() {
        for (bytes, expected) in [
            (0, "0B"),
            (1_023, "1023B"),
            (1_024, "1.00K"),
            (1_536, "1.50K"),
            (1 << 20, "1.00M"),
            (2_331_320, "2.22M"),
            (25_276_514_304, "23.54G"),
            (3 << 40, "3.00T"),
            (u64::MAX, "16384.00P"),
        ] {
            assert_eq!(human_bytes(bytes), expected);
        }
    }
}
