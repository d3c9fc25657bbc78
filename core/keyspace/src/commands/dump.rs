//! `DUMP` and `RESTORE`: values as opaque payloads, exchangeable with Redis.

use skep_base::{Args, Millis, Refusal};
use skep_resp::Reply;

use super::expire::invalid_time;
use super::keys::put_anew;
use super::{Group, parse};
use crate::context::{ReadCx, WriteCx};
use crate::db::NEVER;
use crate::dispatch::Handler::{Read, Write};
use crate::events::Class;
use crate::rdb;
use crate::value::Value;

pub const COMMANDS: Group = &[("dump", Read(dump)), ("restore", Write(restore))];

fn dump(cx: &mut ReadCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    match cx.entry(&args[1]) {
        None => reply.null(),
        Some(entry) => reply.bulk(&rdb::dump(&entry.value, cx.now)),
    }
    Ok(())
}

/// The words behind the payload.
#[derive(Clone, Copy, Default)]
struct Options {
    replace: bool,
    is_absolute: bool,
    idle_seconds: Option<u64>,
    frequency: Option<u8>,
}

impl Options {
    fn parse(args: Args) -> Result<Options, Refusal> {
        let mut given = Options::default();
        let mut at = 4;
        while at < args.len() {
            let number = args.get(at + 1);
            match number {
                _ if args.is(at, "replace") => given.replace = true,
                _ if args.is(at, "absttl") => given.is_absolute = true,
                Some(number) if args.is(at, "idletime") && given.frequency.is_none() => {
                    let idle = u64::try_from(parse::int(number)?);
                    given.idle_seconds = Some(idle.map_err(|_| INVALID_IDLETIME)?);
                    at += 1;
                }
                Some(number) if args.is(at, "freq") && given.idle_seconds.is_none() => {
                    let frequency = u8::try_from(parse::int(number)?);
                    given.frequency = Some(frequency.map_err(|_| INVALID_FREQ)?);
                    at += 1;
                }
                _ => return Err(Refusal::Syntax),
            }
            at += 1;
        }
        Ok(given)
    }
}

const INVALID_IDLETIME: Refusal = Refusal::text("ERR Invalid IDLETIME value, must be >= 0");
const INVALID_FREQ: Refusal = Refusal::text("ERR Invalid FREQ value, must be >= 0 and <= 255");
const INVALID_TTL: Refusal = Refusal::text("ERR Invalid TTL value, must be >= 0");
const BUSY_KEY: Refusal = Refusal::text("BUSYKEY Target key name already exists.");
const BAD_FOOTER: Refusal = Refusal::text("ERR DUMP payload version or checksum are wrong");
const BAD_FORMAT: Refusal = Refusal::text("ERR Bad data format");

/// `RESTORE key ttl payload [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]`
fn restore(cx: &mut WriteCx, args: Args, reply: &mut Reply) -> Result<(), Refusal> {
    let options = Options::parse(args)?;
    let key = &args[1];
    if !options.replace && cx.exists(key) {
        return Err(BUSY_KEY);
    }
    let ttl = parse::int(&args[2])?;
    if ttl < 0 {
        return Err(INVALID_TTL);
    }
    let body = rdb::verify(&args[3]).ok_or(BAD_FOOTER)?;
    let value = rdb::load(body).map_err(|_| BAD_FORMAT)?;
    let deadline = match ttl as u64 {
        0 => NEVER,
        instant if options.is_absolute => Millis(instant),
        left => Millis(
            cx.now
                .0
                .checked_add(left)
                .filter(|d| *d <= i64::MAX as u64)
                .ok_or_else(|| invalid_time("restore"))?,
        ),
    };
    if deadline <= cx.now {
        if cx.remove(key) {
            cx.event(Class::Generic, "del", key);
        }
    } else {
        if let Value::Queue(queue) = &value {
            cx.keyspace.numbers.raise(queue.newest()); // it may come from another cluster
        }
        put_anew(cx, cx.db, key, value, deadline);
        cx.event(Class::Generic, "restore", key);
        record_use(cx, key, options);
    }
    reply.ok();
    Ok(())
}

/// Gives the key the age or frequency of use that the caller knows, if the eviction policy goes by it.
fn record_use(cx: &mut WriteCx, key: &[u8], options: Options) {
    let bits = cx.keyspace.access.restored(options.idle_seconds, options.frequency);
    if let Some(bits) = bits
        && let Some(entry) = cx.keyspace.peek(cx.db, key, cx.now)
    {
        entry.access.set(bits);
    }
}

#[cfg(test)]
mod tests {
    use skep_base::args::OwnedArgs;

    use crate::access::AccessMode;
    use crate::commands::testing::Bench;

    /// A payload of the string `1`.
    fn one() -> Vec<u8> {
        let mut bench = Bench::new();
        bench.run("SET one 1");
        let reply = bench.run_args(&OwnedArgs::collect([&b"DUMP"[..], b"one"]));
        reply[reply.len() - 15..reply.len() - 2].to_vec()
    }

    fn restore(bench: &mut Bench, ttl: &str, options: &str) -> String {
        let payload = one();
        let mut args = OwnedArgs::collect([&b"RESTORE"[..], b"k", ttl.as_bytes(), &payload]);
        options.split_whitespace().for_each(|word| args.push(word.as_bytes()));
        String::from_utf8(bench.run_args(&args)).unwrap()
    }

    #[test]
    fn refusals_come_in_the_order_of_redis() {
        Bench::new().script(include_str!("../../testdata/dump.txt"));
    }

    #[test]
    fn times_are_relative_unless_told() {
        let mut bench = Bench::new();
        assert_eq!(restore(&mut bench, "500", ""), "+OK\r\n");
        assert_eq!(bench.run("PEXPIRETIME k"), ":1000500");
        assert_eq!(restore(&mut bench, "0", ""), "-BUSYKEY Target key name already exists.\r\n");
        assert_eq!(restore(&mut bench, "0", "REPLACE"), "+OK\r\n");
        assert_eq!(bench.run("TTL k"), ":-1");
        assert_eq!(restore(&mut bench, "2000000", "REPLACE ABSTTL"), "+OK\r\n");
        assert_eq!(bench.run("PEXPIRETIME k"), ":2000000");
        let too_far = restore(&mut bench, "9223372036854775807", "REPLACE");
        assert_eq!(too_far, "-ERR invalid expire time in 'restore' command\r\n");
        assert_eq!(bench.run("GET k"), "$1|1");
    }

    #[test]
    fn a_time_in_the_past_leaves_no_key() {
        let mut bench = Bench::new();
        assert_eq!(restore(&mut bench, "1000000", "ABSTTL"), "+OK\r\n");
        assert_eq!(bench.run("EXISTS k"), ":0");
        bench.run("SET k old");
        assert_eq!(restore(&mut bench, "1", "ABSTTL REPLACE"), "+OK\r\n");
        assert_eq!(bench.run("DBSIZE"), ":0");
    }

    #[test]
    fn use_is_restored_if_the_mode_records_it() {
        let mut bench = Bench::new();
        bench.keyspace.access.set_now(bench.keyspace.stamp());
        restore(&mut bench, "0", "IDLETIME 100");
        assert_eq!(bench.run("OBJECT IDLETIME k"), ":100");
        restore(&mut bench, "0", "FREQ 100 REPLACE");
        assert_eq!(bench.run("OBJECT IDLETIME k"), ":0");
        bench.keyspace.access.set_mode(AccessMode::Lfu);
        restore(&mut bench, "0", "FREQ 100 REPLACE");
        assert_eq!(bench.run("OBJECT FREQ k"), ":100");
    }
}
