//! Counters since the start of the process, as `INFO` shows them.

use std::collections::BTreeMap;

use skep_base::Refusal;
use skep_command::{COMMAND_COUNT, CommandSpec};

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
    by_error: BTreeMap<Vec<u8>, u64>,
    /// Commands at the last sample, and its monotonic time in ms.
    sampled: (u64, u64),
    /// What counters that live elsewhere, and are never set back, had reached at the last `CONFIG RESETSTAT`.
    pub before_reset: Elsewhere,
    pub commands_per_second: u64,
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
            by_error: BTreeMap::new(),
            sampled: (0, 0),
            before_reset: Elsewhere::default(),
            commands_per_second: 0,
        }
    }
}

impl Stats {
    #[inline]
    pub fn called(&mut self, command: &'static CommandSpec) {
        self.commands += 1;
        self.by_command[command.id().index()].calls += 1;
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

    /// Takes the rate of commands since the last sample, if at least a second has passed.
    pub fn sample(&mut self, mono_ms: u64) {
        let (commands, at) = self.sampled;
        let elapsed = mono_ms.saturating_sub(at);
        if elapsed >= 1_000 {
            self.commands_per_second = (self.commands - commands) * 1_000 / elapsed;
            self.sampled = (self.commands, mono_ms);
        }
    }

    /// `CONFIG RESETSTAT`.
    pub fn reset(&mut self, elsewhere: Elsewhere) {
        let sampled = (0, self.sampled.1);
        *self = Stats { sampled, before_reset: elsewhere, ..Stats::default() };
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
