//! What happened, as a hash over every event and, if asked for, as lines to read.

use std::fmt::{self, Write};

use skep_base::hash;

/// The trace of one run. Two runs of the same seed have the same hash.
#[derive(Default)]
pub struct Trace {
    hash: u64,
    events: u64,
    print: bool,
    line: String,
}

impl Trace {
    pub fn new(print: bool) -> Trace {
        Trace { print, ..Trace::default() }
    }

    /// Takes note of an event at `at`, in microseconds of virtual time.
    pub fn note(&mut self, at: u64, event: fmt::Arguments<'_>) {
        self.line.clear();
        self.line.write_fmt(event).expect("writing to a string does not fail");
        self.hash = hash::seeded(self.hash ^ at, self.line.as_bytes());
        self.events += 1;
        if self.print {
            println!("{:>6}.{:06} {}", at / 1_000_000, at % 1_000_000, self.line);
        }
    }

    /// Makes `value` part of the hash without a line of its own.
    pub fn mix(&mut self, value: u64) {
        self.hash = hash::seeded(self.hash, &value.to_le_bytes());
    }

    pub fn hash(&self) -> u64 {
        self.hash
    }

    pub fn events(&self) -> u64 {
        self.events
    }
}
