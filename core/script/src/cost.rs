//! What a command costs a script, beside its reply: without it a loop of heavy commands would be a few steps each.
//!
//! It follows from the keyspace as it is before the command, and so is the same on every replica. Commands whose work their reply
//! shows (`HGETALL`, `LRANGE`) or that do little are not here: for these a fixed number is counted.

use skep_base::{Args, Millis, number};
use skep_command::CommandSpec;
use skep_keyspace::{Keyspace, Typed, Value};

/// Steps for an element that a command looks at.
const ELEMENT_WORK: usize = 4;
/// Bytes of a string that a command looks at in one step.
const BYTES_IN_A_STEP: usize = 64;

/// How a command's work grows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Growth {
    /// With its reply, or hardly.
    Little,
    /// With the values of its keys.
    Values,
    /// With the values of its keys, if it is told to do something to all of them.
    All,
    /// With the product of the lengths of its two strings.
    Product,
    /// With the keys of the database.
    Database,
    /// With `COUNT`.
    Count,
}

const VALUES: &[&str] = &[
    "bitcount",
    "bitop",
    "bitpos",
    "copy",
    "dump",
    "georadius",
    "georadius_ro",
    "georadiusbymember",
    "georadiusbymember_ro",
    "geosearch",
    "geosearchstore",
    "linsert",
    "lpos",
    "lrem",
    "pfcount",
    "pfmerge",
    "sdiff",
    "sdiffstore",
    "sinter",
    "sintercard",
    "sinterstore",
    "sort",
    "sort_ro",
    "sunion",
    "sunionstore",
    "zdiff",
    "zdiffstore",
    "zinter",
    "zintercard",
    "zinterstore",
    "zrangestore",
    "zremrangebylex",
    "zremrangebyrank",
    "zremrangebyscore",
    "zunion",
    "zunionstore",
];

impl Growth {
    pub fn of(name: &str) -> Growth {
        match name {
            "lcs" => Growth::Product,
            "qdrop" | "qredo" => Growth::All,
            "keys" | "flushdb" | "flushall" => Growth::Database,
            "scan" | "hscan" | "sscan" | "zscan" => Growth::Count,
            name if VALUES.contains(&name) => Growth::Values,
            _ => Growth::Little,
        }
    }

    /// Steps of the command about to run.
    pub fn work(self, command: &CommandSpec, args: Args, keyspace: &Keyspace, db: u8, now: Millis) -> usize {
        let sizes = || {
            let keys = command.keys(args).ok();
            let keys: Vec<usize> =
                keys.map(|keys| keys.iter().map(|key| key.index).collect()).unwrap_or_default();
            keys.into_iter()
                .map(|key| keyspace.peek(db, &args[key], now).map_or(0, |entry| size(&entry.value, now)))
        };
        match self {
            Growth::All if (2..args.len()).any(|at| args.is(at, "all")) => {
                sizes().fold(0, usize::saturating_add)
            }
            Growth::Little | Growth::All => 0,
            Growth::Values => sizes().fold(0, usize::saturating_add),
            Growth::Product => {
                sizes().map(|size| size.saturating_mul(BYTES_IN_A_STEP)).fold(1, usize::saturating_mul) / 4
            }
            Growth::Database => keyspace.len(db).saturating_mul(ELEMENT_WORK),
            Growth::Count => {
                let at = (0..args.len()).rev().find(|at| args.is(*at, "count"));
                let count = at.and_then(|at| args.get(at + 1)).and_then(number::parse_i64).unwrap_or(10);
                let most = keyspace.len(db).saturating_add(sizes().fold(0, usize::saturating_add));
                usize::try_from(count)
                    .unwrap_or(0)
                    .saturating_mul(ELEMENT_WORK)
                    .min(most.saturating_mul(ELEMENT_WORK))
            }
        }
    }
}

/// Steps to look at all of a value.
fn size(value: &Value, now: Millis) -> usize {
    let elements = match value {
        Value::Str(text) => return text.len() / BYTES_IN_A_STEP,
        Value::List(list) => list.len(),
        Value::Hash(hash) => hash.len(now),
        Value::Set(set) => set.len(),
        Value::ZSet(zset) => zset.len(),
        Value::Queue(queue) => queue.elements().count(),
        Value::Stream(stream) => stream.elements().count(),
    };
    elements.saturating_mul(ELEMENT_WORK)
}
