//! Counters since the start of the process, as `INFO` shows them.

use std::collections::BTreeMap;

use skep_base::Refusal;
use skep_command::{COMMAND_COUNT, CommandSpec};

use crate::{Node, Process};

/// Different error prefixes counted; further ones are counted under no name. Redis has the same limit.
const ERROR_PREFIXES_MAX: usize = 128;

/// What became of the calls of one command.
#[derive(Clone, Copy, Default)]
pub(crate) struct CommandStats {
    pub calls: u64,
    /// Declined before they ran.
    pub rejected: u64,
    /// Ran, and answered with an error.
    pub failed: u64,
    /// See [`Node::attribute_time`].
    nanos: u64,
    /// How many of `calls` are in `nanos`.
    timed: u64,
    /// Calls by the power of two of microseconds that each took at the most.
    spread: [u32; SPREAD],
}

/// Powers of two of microseconds that are told apart: up to more than an hour.
const SPREAD: usize = 32;

impl CommandStats {
    /// Calls whose time is known.
    pub fn timed(&self) -> u64 {
        self.timed
    }

    /// Pairs of microseconds and how many calls took no longer, where that number grows.
    pub fn histogram(&self) -> impl Iterator<Item = (u64, u64)> {
        let mut total = 0;
        self.spread.into_iter().enumerate().filter(|(_, calls)| *calls > 0).map(move |(power, calls)| {
            total += u64::from(calls);
            (1 << power, total)
        })
    }

    /// Microseconds that so many of a hundred calls took at the most, to the next power of two. 0 if no call's time is known.
    pub fn micros_of_fastest(&self, percent: f64) -> u64 {
        let known: u64 = self.spread.iter().map(|calls| u64::from(*calls)).sum();
        let wanted = ((known as f64 * percent / 100.0).ceil() as u64).clamp(1, known.max(1));
        self.histogram().find(|(_, total)| *total >= wanted).map_or(0, |(micros, _)| micros)
    }

    /// Microseconds that the calls took.
    pub fn micros(&self) -> u64 {
        self.nanos / 1_000
    }

    /// Microseconds that a call took in the mean.
    pub fn micros_per_call(&self) -> f64 {
        if self.timed == 0 { 0.0 } else { self.nanos as f64 / 1e3 / self.timed as f64 }
    }
}

/// How fast something went between the last two samples.
#[derive(Clone, Copy, Default)]
pub(crate) struct Rates {
    pub commands_per_second: u64,
    pub bytes_in_per_second: u64,
    pub bytes_out_per_second: u64,
}

/// What the counters were at the last sample, and its monotonic time in ms.
#[derive(Clone, Copy, Default)]
struct Sample {
    at: u64,
    commands: u64,
    bytes_in: u64,
    bytes_out: u64,
}

/// Counters of other parts of the node that count for ever.
#[derive(Clone, Copy, Default)]
pub(crate) struct Elsewhere {
    pub connections: u64,
    pub expired_keys: u64,
    pub expired_fields: u64,
    pub evicted_keys: u64,
    pub hits: u64,
    pub misses: u64,
}

#[derive(Clone)]
pub(crate) struct Stats {
    pub commands: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub rejected_connections: u64,
    pub protocol_errors: u64,
    pub output_limit_disconnections: u64,
    pub input_limit_disconnections: u64,
    pub errors: u64,
    by_command: Vec<CommandStats>,
    /// Commands with calls whose time is not known yet, each once.
    untimed: Vec<usize>,
    by_error: BTreeMap<Vec<u8>, u64>,
    sampled: Sample,
    pub rates: Rates,
    /// What counters that live elsewhere, and are never set back, had reached at the last `CONFIG RESETSTAT`.
    pub before_reset: Elsewhere,
    /// `None` where the shell has no figures.
    pub process: Option<Process>,
    /// The last answer of `TIME`.
    pub last_time_micros: u64,
}

impl Default for Stats {
    fn default() -> Stats {
        Stats {
            commands: 0,
            bytes_in: 0,
            bytes_out: 0,
            rejected_connections: 0,
            protocol_errors: 0,
            output_limit_disconnections: 0,
            input_limit_disconnections: 0,
            errors: 0,
            by_command: vec![CommandStats::default(); COMMAND_COUNT],
            untimed: Vec::new(),
            by_error: BTreeMap::new(),
            sampled: Sample::default(),
            rates: Rates::default(),
            before_reset: Elsewhere::default(),
            process: None,
            last_time_micros: 0,
        }
    }
}

impl Elsewhere {
    /// What was counted after `before`.
    pub fn since(self, before: &Elsewhere) -> Elsewhere {
        Elsewhere {
            connections: self.connections - before.connections,
            expired_keys: self.expired_keys - before.expired_keys,
            expired_fields: self.expired_fields - before.expired_fields,
            evicted_keys: self.evicted_keys - before.evicted_keys,
            hits: self.hits - before.hits,
            misses: self.misses - before.misses,
        }
    }

    /// Adds another cell's.
    pub fn absorb(&mut self, other: &Elsewhere) {
        self.connections += other.connections;
        self.expired_keys += other.expired_keys;
        self.expired_fields += other.expired_fields;
        self.evicted_keys += other.evicted_keys;
        self.hits += other.hits;
        self.misses += other.misses;
    }
}

impl Stats {
    /// Adds another cell's.
    pub fn absorb(&mut self, other: &Stats) {
        self.commands += other.commands;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.rejected_connections += other.rejected_connections;
        self.protocol_errors += other.protocol_errors;
        self.output_limit_disconnections += other.output_limit_disconnections;
        self.input_limit_disconnections += other.input_limit_disconnections;
        self.errors += other.errors;
        for (own, theirs) in self.by_command.iter_mut().zip(&other.by_command) {
            own.calls += theirs.calls;
            own.rejected += theirs.rejected;
            own.failed += theirs.failed;
            own.nanos += theirs.nanos;
            own.timed += theirs.timed;
            own.spread.iter_mut().zip(theirs.spread).for_each(|(own, theirs)| *own += theirs);
        }
        for (prefix, count) in &other.by_error {
            *self.by_error.entry(prefix.clone()).or_default() += count;
        }
        self.rates.commands_per_second += other.rates.commands_per_second;
        self.rates.bytes_in_per_second += other.rates.bytes_in_per_second;
        self.rates.bytes_out_per_second += other.rates.bytes_out_per_second;
        self.process = self.process.or(other.process);
    }

    #[inline]
    pub fn called(&mut self, command: &'static CommandSpec) {
        self.commands += 1;
        let index = command.id().index();
        let of = &mut self.by_command[index];
        if of.calls == of.timed {
            self.untimed.push(index);
        }
        of.calls += 1;
    }

    /// Spreads `nanos` evenly over the calls that have no time yet.
    fn attribute(&mut self, nanos: u64) {
        let untimed = |of: &CommandStats| of.calls - of.timed;
        let calls: u64 = self.untimed.iter().map(|index| untimed(&self.by_command[*index])).sum();
        for index in self.untimed.drain(..) {
            let of = &mut self.by_command[index];
            of.nanos += nanos * untimed(of) / calls;
            let micros = (nanos / calls / 1_000).max(1);
            let power = (micros.next_power_of_two().ilog2() as usize).min(SPREAD - 1);
            of.spread[power] =
                of.spread[power].saturating_add(u32::try_from(untimed(of)).unwrap_or(u32::MAX));
            of.timed = of.calls;
        }
    }

    /// A command ran and answered `reply`, an error.
    pub fn failed_reply(&mut self, command: &'static CommandSpec, reply: &[u8]) {
        self.by_command[command.id().index()].failed += 1;
        self.count_error(reply.get(1..).unwrap_or_default());
    }

    pub fn failed(&mut self, command: &'static CommandSpec, refusal: &Refusal) {
        self.by_command[command.id().index()].failed += 1;
        self.count_error(refusal.to_string().as_bytes());
    }

    pub fn rejected(&mut self, command: Option<&'static CommandSpec>, refusal: &Refusal) {
        if let Some(command) = command {
            self.by_command[command.id().index()].rejected += 1;
        }
        self.count_error(refusal.to_string().as_bytes());
    }

    pub fn of(&self, command: &CommandSpec) -> CommandStats {
        self.by_command[command.id().index()]
    }

    /// Error replies by prefix.
    pub fn errors_by_prefix(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.by_error.iter().map(|(prefix, count)| (&prefix[..], *count))
    }

    /// Takes the rates since the last sample, if at least a second has passed.
    pub fn sample(&mut self, mono_ms: u64) {
        let last = self.sampled;
        let elapsed = mono_ms.saturating_sub(last.at);
        if elapsed >= 1_000 {
            let rate = |now: u64, then: u64| (now - then) * 1_000 / elapsed;
            self.rates = Rates {
                commands_per_second: rate(self.commands, last.commands),
                bytes_in_per_second: rate(self.bytes_in, last.bytes_in),
                bytes_out_per_second: rate(self.bytes_out, last.bytes_out),
            };
            let Stats { commands, bytes_in, bytes_out, .. } = *self;
            self.sampled = Sample { at: mono_ms, commands, bytes_in, bytes_out };
        }
    }

    /// `CONFIG RESETSTAT`.
    pub fn reset(&mut self, elsewhere: Elsewhere) {
        let sampled = Sample { at: self.sampled.at, ..Sample::default() };
        let (process, last_time_micros) = (self.process, self.last_time_micros);
        *self = Stats { sampled, before_reset: elsewhere, process, last_time_micros, ..Stats::default() };
    }

    fn count_error(&mut self, text: &[u8]) {
        self.errors += 1;
        let prefix = text.split(|b| b.is_ascii_whitespace()).next().unwrap_or_default();
        if let Some(count) = self.by_error.get_mut(prefix) {
            *count += 1;
        } else if self.by_error.len() < ERROR_PREFIXES_MAX {
            self.by_error.insert(prefix.to_vec(), 1);
        }
    }
}

impl Node {
    /// Takes note that the last input took so long. The core has no clock inside a command: the time of an input is spread
    /// evenly over the commands that ran in it, of one pipeline or one log entry, and shows in `INFO commandstats`.
    pub fn attribute_time(&mut self, nanos: u64) {
        self.attribute_slow(nanos);
        if !self.stats.untimed.is_empty() {
            self.stats.attribute(nanos);
        }
    }
}
