//! What took long: the slow log, and the samples of `LATENCY`.
//!
//! The core has no clock inside a command. The shell measures each input, and the cell names the commands that ran in it: the time
//! of an input is shared by those of its commands that take longer the more they are given (`KEYS`, `SORT`, `LRANGE`, whatever
//! has long arguments), since the others cannot be the cause. A command is noted where it runs: reads where the client is if
//! that node leads the shard, writes on the shard's leader.

use std::collections::{BTreeMap, VecDeque};

use skep_acl::without_rights;
use skep_base::{Args, ConnId, Millis};
use skep_command::{COMMANDS, CommandSpec, Flags, resolve};
use skep_keyspace::{each_queued, is_transaction};

use crate::Node;

/// Below this threshold every command is noted; above, those that take constant time are not, which costs them nothing.
const NOTE_ALL_BELOW_MICROS: u64 = 1_000;
/// A command with more arguments or bytes is noted whatever it is.
const MANY_ARGUMENTS: usize = 64;
const MANY_BYTES: usize = 64 << 10;
/// Commands noted in one input; further ones are only counted.
const NOTED_MAX: usize = 1_024;
/// What an entry keeps of the arguments, as in Redis.
const ARGUMENTS_MAX: usize = 32;
const ARGUMENT_BYTES_MAX: usize = 128;
/// Samples of an event, one a second at most, as in Redis.
const SAMPLES_MAX: usize = 160;

/// One slow command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct SlowEntry {
    pub id: u64,
    /// Wall clock.
    pub at: Millis,
    pub micros: u64,
    pub args: Vec<Vec<u8>>,
    /// Empty for a command of another node's or cell's client.
    pub address: String,
    pub name: Vec<u8>,
}

/// A command that ran in the present input.
struct Ran {
    args: Vec<Vec<u8>>,
    address: String,
    name: Vec<u8>,
}

/// The samples of one event: the second, and the longest time within it in ms.
#[derive(Clone, Default, Debug, PartialEq, Eq)]
pub(crate) struct Samples {
    pub recent: VecDeque<(u64, u64)>,
    pub longest_ms: u64,
}

/// The longest times of commands that need not be short, and of those that should be.
pub(crate) const EVENTS: [&str; 2] = ["command", "fast-command"];

#[derive(Default)]
pub(crate) struct Slow {
    /// `None`: nothing is to be noted.
    threshold_micros: Option<u64>,
    entries_max: usize,
    /// 0: nothing is sampled.
    latency_ms: u64,
    /// By command: it may take long.
    grows: Vec<bool>,
    ran: Vec<Ran>,
    ran_count: u64,
    entries: VecDeque<SlowEntry>,
    next: u64,
    samples: BTreeMap<&'static str, Samples>,
}

impl Slow {
    pub fn new() -> Slow {
        let grows = |c: &CommandSpec| !c.flags.has(Flags::FAST) && !c.complexity.starts_with("O(1)");
        Slow { grows: COMMANDS.iter().map(grows).collect(), ..Slow::default() }
    }

    pub fn configure(&mut self, threshold_micros: Option<u64>, entries_max: usize, latency_ms: u64) {
        (self.threshold_micros, self.entries_max, self.latency_ms) =
            (threshold_micros, entries_max, latency_ms);
        self.entries.truncate(entries_max);
    }

    /// True if a command that runs is to be noted.
    #[inline]
    pub fn wants(&self, command: &CommandSpec, args: Args<'_>) -> bool {
        if self.threshold_micros.is_none() && self.latency_ms == 0 {
            return false;
        }
        self.grows[command.id().index()]
            || args.len() > MANY_ARGUMENTS
            || self.threshold_micros.is_some_and(|micros| micros < NOTE_ALL_BELOW_MICROS)
            || args.bytes() > MANY_BYTES
    }

    /// Notes a command that runs in this input; of a transaction, and of what comes in the form of one, the commands in it that
    /// could be the cause, as Redis does (`SKIP_SLOWLOG`).
    #[cold]
    pub fn note(&mut self, command: &CommandSpec, args: Args<'_>, address: &str, name: &[u8]) {
        if !is_transaction(args) {
            return self.note_one(command, args, address, name);
        }
        let before = self.ran_count;
        each_queued(args, |_, args| {
            if let Ok(command) = resolve(args)
                && self.wants(command, args)
            {
                self.note_one(command, args, address, name);
            }
        });
        // It took its time whatever is in it.
        self.ran_count = self.ran_count.max(before + 1);
    }

    fn note_one(&mut self, command: &CommandSpec, args: Args<'_>, address: &str, name: &[u8]) {
        self.ran_count += 1;
        // Its arguments are nobody's business, and Redis leaves it out too.
        if command.name == "auth" || self.ran.len() == NOTED_MAX {
            return;
        }
        self.ran.push(Ran { args: clipped(command, args), address: address.to_owned(), name: name.to_vec() });
    }

    /// The input took so long.
    fn attribute(&mut self, nanos: u64, wall: Millis) {
        let micros = nanos / 1_000 / self.ran_count.max(1);
        self.ran_count = 0;
        let is_slow =
            self.threshold_micros.is_some_and(|threshold| micros >= threshold) && self.entries_max > 0;
        for Ran { args, address, name } in self.ran.drain(..) {
            if is_slow {
                self.entries.push_front(SlowEntry { id: self.next, at: wall, micros, args, address, name });
                self.next += 1;
            }
        }
        self.entries.truncate(self.entries_max);
        self.sample(EVENTS[0], micros, wall);
    }

    fn sample(&mut self, event: &'static str, micros: u64, wall: Millis) {
        let ms = micros / 1_000;
        if self.latency_ms == 0 || ms < self.latency_ms {
            return;
        }
        let samples = self.samples.entry(event).or_default();
        samples.longest_ms = samples.longest_ms.max(ms);
        let second = wall.0 / 1_000;
        match samples.recent.back_mut() {
            Some((last, longest)) if *last == second => *longest = (*longest).max(ms),
            _ => samples.recent.push_back((second, ms)),
        }
        if samples.recent.len() > SAMPLES_MAX {
            samples.recent.pop_front();
        }
    }

    /// The newest first.
    pub fn entries(&self) -> impl Iterator<Item = &SlowEntry> {
        self.entries.iter()
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }

    pub fn samples(&self) -> Vec<(&'static str, Samples)> {
        self.samples.iter().map(|(event, samples)| (*event, samples.clone())).collect()
    }

    /// Forgets the samples of an event; how many events that were, 0 or 1.
    pub fn forget(&mut self, event: &str) -> usize {
        usize::from(self.samples.remove(event).is_some())
    }
}

/// The arguments as an entry keeps them, passwords and long ones cut.
fn clipped(command: &CommandSpec, args: Args<'_>) -> Vec<Vec<u8>> {
    let hides_from = match command.name {
        "acl|setuser" => 2,
        "hello" => 2,
        "config|set" if args.iter().any(|arg| arg.eq_ignore_ascii_case(b"requirepass")) => 3,
        _ => usize::MAX,
    };
    let args = without_rights(args);
    let kept = if args.len() > ARGUMENTS_MAX { ARGUMENTS_MAX - 1 } else { args.len() };
    let mut out: Vec<Vec<u8>> = Vec::with_capacity(kept + 1);
    for (at, arg) in args.iter().take(kept).enumerate() {
        let rest = arg.len().saturating_sub(ARGUMENT_BYTES_MAX);
        out.push(match () {
            () if at >= hides_from => b"(redacted)".to_vec(),
            () if rest > 0 => {
                [&arg[..ARGUMENT_BYTES_MAX], format!("... ({rest} more bytes)").as_bytes()].concat()
            }
            () => arg.to_vec(),
        });
    }
    if kept < args.len() {
        out.push(format!("... ({} more arguments)", args.len() - kept).into_bytes());
    }
    out
}

impl Node {
    /// A command of a client is about to run.
    #[inline]
    pub(crate) fn note_slow(&mut self, conn: ConnId, command: &CommandSpec, args: Args<'_>) {
        if self.slow.wants(command, args)
            && let Some(client) = self.clients.get(conn)
        {
            self.slow.note(command, args, &client.address, &client.name);
        }
    }

    /// The time of the last input is known.
    #[inline]
    pub(crate) fn attribute_slow(&mut self, nanos: u64) {
        if self.slow.ran_count > 0 {
            self.slow.attribute(nanos, self.now.wall);
        }
    }
}

#[cfg(test)]
mod tests {
    use skep_base::args::OwnedArgs;
    use skep_command::resolve;

    use super::*;

    fn run(slow: &mut Slow, command: &str) {
        let args = OwnedArgs::collect(command.split(' ').map(str::as_bytes));
        let command = resolve(args.args()).unwrap();
        if slow.wants(command, args.args()) {
            slow.note(command, args.args(), "a:1", b"me");
        }
    }

    fn shown(slow: &Slow) -> Vec<(u64, String)> {
        slow.entries()
            .map(|e| (e.micros, String::from_utf8_lossy(&e.args.join(&b' ')).into_owned()))
            .collect()
    }

    #[test]
    fn the_time_of_an_input_is_that_of_the_commands_that_can_have_taken_it() {
        let mut slow = Slow::new();
        slow.configure(Some(10_000), 3, 5);
        ["GET a", "KEYS *", "SET a 1", "SMEMBERS s"].into_iter().for_each(|command| run(&mut slow, command));
        slow.attribute(40_000_000, Millis(7_000));
        assert_eq!(shown(&slow), [(20_000, "SMEMBERS s".into()), (20_000, "KEYS *".into())]);
        run(&mut slow, "KEYS a");
        slow.attribute(8_000_000, Millis(7_500));
        assert_eq!(slow.len(), 2, "below the threshold");
        let samples = slow.samples();
        assert_eq!((samples[0].0, samples[0].1.longest_ms), ("command", 20));
        assert_eq!(samples[0].1.recent, [(7, 20)]);
        run(&mut slow, "KEYS a");
        slow.attribute(12_000_000, Millis(9_500));
        run(&mut slow, "KEYS b");
        slow.attribute(12_000_000, Millis(9_900));
        assert_eq!(slow.entries().map(|e| e.id).collect::<Vec<_>>(), [3, 2, 1], "the oldest goes");
        assert_eq!(slow.samples()[0].1.recent, [(7, 20), (9, 12)]);
        assert_eq!((slow.forget("command"), slow.forget("command")), (1, 0));
    }

    #[test]
    fn with_a_low_threshold_all_are_noted_and_with_none_nothing() {
        let mut slow = Slow::new();
        slow.configure(Some(0), 128, 0);
        ["GET a", "AUTH secret", "ACL SETUSER u >secret", "PING"]
            .into_iter()
            .for_each(|command| run(&mut slow, command));
        slow.attribute(4_000, Millis(1_000));
        let names: Vec<String> = shown(&slow).into_iter().map(|(_, text)| text).collect();
        assert_eq!(names, ["PING", "ACL SETUSER (redacted) (redacted)", "GET a"]);
        slow.configure(None, 128, 0);
        run(&mut slow, "KEYS *");
        assert_eq!(slow.ran_count, 0);
    }

    #[test]
    fn long_arguments_are_cut_as_in_redis() {
        let words: Vec<String> = (0..40).map(|n| n.to_string()).collect();
        let mut slow = Slow::new();
        slow.configure(Some(0), 128, 0);
        run(&mut slow, &format!("DEL {}", words.join(" ")));
        run(&mut slow, &format!("GET {}", "x".repeat(200)));
        slow.attribute(4_000, Millis(1_000));
        let entries: Vec<&SlowEntry> = slow.entries().collect();
        assert_eq!(entries[1].args.len(), 32);
        assert_eq!(entries[1].args[31], b"... (10 more arguments)");
        assert_eq!(entries[0].args[1], format!("{}... (72 more bytes)", "x".repeat(128)).into_bytes());
    }
}
