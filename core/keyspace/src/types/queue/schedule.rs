//! A schedule: a job to be added at each tick of a cron expression.
//!
//! The state holds when the next tick is, never how to find it: expressions and time zones are read by the leader, which
//! logs what it found (decision 9). So replicas whose time-zone databases differ stay equal.

use std::sync::Arc;

use skep_base::Millis;
use skep_base::varint::{self, Malformed, Reader};

use super::job::{Options, number};
use crate::dense::Keyed;
use crate::small::SmallBytes;

/// Schedules of one queue: each change of one looks at all.
pub const SCHEDULES_MAX: usize = 1_000;
/// The longest expression and name of a time zone: whoever leads parses them.
pub const TEXT_BYTES_MAX: usize = 256;

/// When a schedule's next job is added.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Next {
    /// The leader is to say.
    Wanted,
    /// In the first entry behind this instant.
    At(Millis),
    /// Never, and why.
    Never(SmallBytes),
}

#[derive(Clone)]
pub struct Schedule {
    pub name: SmallBytes,
    pub cron: SmallBytes,
    /// Empty for UTC.
    pub zone: SmallBytes,
    pub payload: Arc<[u8]>,
    pub priority: u8,
    pub options: Arc<Options>,
    /// When it was set.
    pub set: Millis,
    /// The last tick that added a job; 0 for none.
    pub last: Millis,
    pub next: Next,
    /// Another after each change: what a leader found out about an earlier one is void.
    pub version: u64,
}

impl Keyed for Schedule {
    fn key(&self) -> &[u8] {
        &self.name
    }
}

impl Schedule {
    /// The instant behind which the next tick is looked for.
    pub fn since(&self) -> Millis {
        self.set.max(self.last)
    }

    /// The id of the job of a tick (INV-QUEUE-7).
    pub fn job_id(&self, tick: Millis) -> Vec<u8> {
        let mut id = self.name.to_vec();
        id.extend_from_slice(format!("@{}", tick.0).as_bytes());
        id
    }

    pub fn heap_bytes(&self) -> usize {
        let names = self.name.heap_bytes() + self.cron.heap_bytes() + self.zone.heap_bytes();
        names + self.payload.len() + size_of::<Options>()
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        for text in [&self.name, &self.cron, &self.zone] {
            varint::put_bytes(out, text);
        }
        varint::put_bytes(out, &self.payload);
        out.push(self.priority);
        self.options.encode(out);
        varint::put(out, self.set.0);
        varint::put(out, self.last.0);
        varint::put(out, self.version);
        match &self.next {
            Next::Wanted => out.push(0),
            Next::At(instant) => {
                out.push(1);
                varint::put(out, instant.0);
            }
            Next::Never(why) => {
                out.push(2);
                varint::put_bytes(out, why);
            }
        }
    }

    pub fn decode(input: &mut Reader<'_>) -> Result<Schedule, Malformed> {
        let mut text = || input.bytes().map(SmallBytes::new);
        let (name, cron, zone) = (text()?, text()?, text()?);
        if cron.len() > TEXT_BYTES_MAX || zone.len() > TEXT_BYTES_MAX {
            return input.malformed("an expression and a time zone of 256 bytes at most");
        }
        let payload = input.bytes()?.into();
        let priority = input.u8()?;
        let options = Arc::new(Options::decode(input)?);
        let (set, last) = (Millis(input.varint()?), Millis(input.varint()?));
        let version = number(input)?;
        let next = match input.u8()? {
            0 => Next::Wanted,
            1 => Next::At(Millis(input.varint()?)),
            2 => Next::Never(SmallBytes::new(input.bytes()?)),
            _ => return input.malformed("a next tick of kind 0 to 2"),
        };
        if priority > super::PRIORITY_MAX || matches!(next, Next::At(tick) if tick <= last) {
            return input.malformed("a priority of 0 to 9 and a tick behind the last");
        }
        Ok(Schedule { name, cron, zone, payload, priority, options, set, last, next, version })
    }
}
