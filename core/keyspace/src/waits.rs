//! What commands that may wait wait for, and which writes give it to them.

use skep_base::{Args, InVain, Millis, Refusal, Unserved};
use skep_command::CommandSpec;

use crate::commands::copies::CopiesWanted;
use crate::commands::queues::Take;
use crate::commands::{lists, parse, zsets};
use crate::keyspace::Keyspace;
use crate::types::queue::State;
use crate::value::Value;

/// The type of value that a command waits for. A key of another type serves nobody.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum WaitKind {
    List,
    ZSet,
    Stream,
    Queue,
    /// No value: copies of what was written.
    Copies,
}

/// How a call waits if there is nothing for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wait {
    pub kind: WaitKind,
    /// How long, in milliseconds; 0 for no end.
    pub timeout_ms: u64,
    /// It waits for the first of its keys only; the others are targets.
    pub first_key_only: bool,
}

/// The command found nothing and may wait.
pub(crate) fn would_wait() -> Refusal {
    Refusal::WouldWait(Unserved::default())
}

/// The same for those that answer one string.
pub(crate) fn would_wait_for_bulk() -> Refusal {
    Refusal::WouldWait(Unserved { in_vain: InVain::Null, args: None })
}

/// The same for those that have written what they answer if they cannot wait.
pub(crate) fn would_wait_with_reply() -> Refusal {
    Refusal::WouldWait(Unserved { in_vain: InVain::Written, args: None })
}

impl Wait {
    /// How a call waits; `None` if it does not, or will be refused for its arguments.
    pub fn of(command: &CommandSpec, args: Args<'_>) -> Option<Wait> {
        let last = args.len() - 1;
        let (kind, timeout, first_key_only) = match command.name {
            "blpop" | "brpop" | "brpoplpush" => {
                (WaitKind::List, parse::wait_seconds(&args[last]), command.name == "brpoplpush")
            }
            "blmove" => {
                lists::end(args, 3).and(lists::end(args, 4)).ok()?;
                (WaitKind::List, parse::wait_seconds(&args[last]), true)
            }
            "blmpop" => {
                lists::parse_mpop(args.from(2)).is_ok().then_some(())?;
                (WaitKind::List, parse::wait_seconds(&args[1]), false)
            }
            "bzpopmin" | "bzpopmax" => (WaitKind::ZSet, parse::wait_seconds(&args[last]), false),
            "bzmpop" => {
                zsets::parse_mpop(args.from(2)).is_ok().then_some(())?;
                (WaitKind::ZSet, parse::wait_seconds(&args[1]), false)
            }
            "xread" | "xreadgroup" => (WaitKind::Stream, parse::wait_ms(block_of_streams(args)?), false),
            "qtake" => (WaitKind::Queue, Ok(Take::parse(args).ok()?.block_ms?), false),
            "qget" if args.is(3, "block") => (WaitKind::Queue, parse::wait_ms(args.get(4)?), false),
            "wait" | "waitaof" => (WaitKind::Copies, Ok(CopiesWanted::parse(args).ok()?.timeout_ms), false),
            _ => return None,
        };
        Some(Wait { kind, timeout_ms: timeout.ok()?, first_key_only })
    }
}

/// The value of `BLOCK` in front of the keys of `XREAD` or `XREADGROUP`.
fn block_of_streams(args: Args<'_>) -> Option<&[u8]> {
    let mut at = 1;
    while at < args.len() && !args.is(at, "streams") {
        if args.is(at, "block") {
            return args.get(at + 1);
        }
        at += match () {
            () if args.is(at, "group") => 3,
            () if args.is(at, "count") => 2,
            () => 1,
        };
    }
    None
}

/// What a write has for those who wait, by its arguments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Brings {
    Nothing,
    /// Something for so many calls that wait for `kind`, to the key at this place among the arguments.
    To {
        place: usize,
        kind: WaitKind,
        count: usize,
        /// Whatever is at a key that [`Keyspace::gives_on`].
        for_certain: bool,
    },
    /// Perhaps something to any of its keys; in another database, if that is told.
    Perhaps(Option<u8>),
    /// What a queue with limits holds back, perhaps.
    Releases,
}

/// What a write brings to those who wait. Not told for what comes when its time has come, nor for commands about a whole database.
pub fn brings(command: &CommandSpec, args: Args<'_>) -> Brings {
    let values = args.len().saturating_sub(2);
    let has = |from: usize, to: usize, words: &[&str]| {
        (from..to.min(args.len())).any(|at| words.iter().any(|word| args.is(at, word)))
    };
    let to = |place, kind, count, for_certain| Brings::To { place, kind, count, for_certain };
    match command.name {
        "lpush" | "rpush" => to(1, WaitKind::List, values, true),
        "lpushx" | "rpushx" => to(1, WaitKind::List, values, false),
        "lmove" | "rpoplpush" | "blmove" | "brpoplpush" => to(2, WaitKind::List, 1, false),
        // One that is refused brings nothing.
        "zadd" => to(1, WaitKind::ZSet, (values / 2).max(1), args.len() == 4 && is_score(args, 2)),
        "zincrby" => to(1, WaitKind::ZSet, 1, is_score(args, 2)),
        "xadd" => to(1, WaitKind::Stream, 1, args.is(2, "*") && args.len() > 4 && args.len() % 2 == 1),
        // What is delayed comes when its time has come.
        "qadd" if has(3, args.len(), &["delay", "at"]) => Brings::Nothing,
        // A job of that id or word may be there, and others of its group may be in work.
        "qadd" => to(1, WaitKind::Queue, 1, args.len() == 3),
        "qack" | "qdrop" | "qset" => Brings::Releases,
        "move" => Brings::Perhaps(args.get(2).and_then(|arg| parse::database(arg).ok())),
        "copy" => {
            let db = (3..args.len()).find(|at| args.is(*at, "db")).and_then(|at| args.get(at + 1));
            Brings::Perhaps(db.and_then(|arg| parse::database(arg).ok()))
        }
        "rename" | "renamenx" | "restore" | "restore-asking" | "sort" | "zunionstore" | "zinterstore"
        | "zdiffstore" | "zrangestore" | "geoadd" | "geosearchstore" | "georadius" | "georadiusbymember"
        | "xgroup|create" | "xgroup|setid" | "qfail" | "qredo" | "eval" | "evalsha" | "fcall" | "once" => {
            Brings::Perhaps(None)
        }
        _ => Brings::Nothing,
    }
}

/// Infinities too are none: two of them may be no number together.
fn is_score(args: Args<'_>, at: usize) -> bool {
    args.get(at).is_some_and(|arg| zsets::score(arg).is_ok_and(f64::is_finite))
}

impl Keyspace {
    /// What `key` has for those who wait: of which type, and for how many calls it may be enough. `None` if it has nothing.
    pub fn supply(&self, db: u8, key: &[u8], now: Millis) -> Option<(WaitKind, usize)> {
        match &self.peek(db, key, now)?.value {
            Value::List(list) => Some((WaitKind::List, list.len())),
            Value::ZSet(zset) => Some((WaitKind::ZSet, zset.len())),
            // By group, or job by job: after each that is served one looks again.
            Value::Stream(_) => Some((WaitKind::Stream, 1)),
            Value::Queue(queue) => {
                queue.takes_from().is_some_and(|from| from <= now).then_some((WaitKind::Queue, 1))
            }
            _ => None,
        }
    }

    /// From when on `key` has something for those who wait for jobs, if time alone brings it: its rate holds back what is
    /// ready.
    pub fn supplies_from(&self, db: u8, key: &[u8], now: Millis) -> Option<Millis> {
        match &self.peek(db, key, now)?.value {
            Value::Queue(queue) => queue.takes_from().filter(|from| *from > now),
            _ => None,
        }
    }

    /// True if what is added to `key` goes on to those who wait there for `kind`: there is nothing yet, or a value of that type,
    /// and of queues one that takes everything and holds nothing back.
    pub fn gives_on(&self, kind: WaitKind, db: u8, key: &[u8], now: Millis) -> bool {
        let Some(entry) = self.peek(db, key, now) else { return true };
        match (kind, &entry.value) {
            (WaitKind::List, Value::List(_))
            | (WaitKind::ZSet, Value::ZSet(_))
            | (WaitKind::Stream, Value::Stream(_)) => true,
            (WaitKind::Queue, Value::Queue(queue)) => queue.is_unlimited(),
            _ => false,
        }
    }

    /// True if it is certain, without a try, that a call that waits for `kind` finds nothing at `key`.
    pub fn lacks(&self, kind: WaitKind, db: u8, key: &[u8], now: Millis) -> bool {
        match self.peek(db, key, now).map(|entry| &entry.value) {
            // A group is looked for in a stream that must be there.
            None => kind != WaitKind::Stream,
            Some(Value::Queue(queue)) => {
                kind == WaitKind::Queue
                    && queue.count(State::Ready) == 0
                    && queue.next_deadline().is_none_or(|deadline| deadline > now)
            }
            Some(_) => false,
        }
    }
}
