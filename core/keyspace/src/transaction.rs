//! A transaction on its way: the commands between `MULTI` and `EXEC` with what was seen of the watched keys, as the arguments
//! of one `exec` command. So it is logged, forwarded and answered like any other.
//!
//! The arguments are the name, the commands, and the [`Head`]. A client's own `EXEC` has none, so it cannot pass for one.

use skep_base::args::Span;
use skep_base::varint::{self, Malformed, Reader};
use skep_base::{Args, Refusal, SLOT_COUNT, slot_of};
use skep_command::{CommandSpec, SortPattern, carried_out, sort_patterns};

use crate::dispatch::Handler;
use crate::keyspace::DB_COUNT;
use crate::versions::Seen;

/// `EXEC` of commands that only read: it need not be logged.
pub const EXEC_READ: Handler = Handler::Read(crate::commands::transactions::exec_read);

/// A watched key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Watched {
    pub db: u8,
    pub key: Vec<u8>,
    /// What `WATCH` saw of it.
    pub seen: Seen,
}

/// What scripts among the commands may do. It comes with the operation, since it rests on what the node knows that takes the
/// commands in, and all replicas must refuse the same.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Terms {
    /// The shard's slots, as inclusive ranges; none if it has all.
    pub slots: Vec<(u16, u16)>,
}

/// What is known of a transaction beside its commands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Head {
    /// How many commands there are.
    pub commands: usize,
    /// Some of them may need memory.
    pub grows: bool,
    /// It is one command, whose reply is the reply: no transaction, but a script under terms.
    pub single: bool,
    pub watched: Vec<Watched>,
    pub terms: Terms,
    /// Sources of scripts that its commands call by name, and that the shard may not know: it remembers them first.
    pub scripts: Vec<Vec<u8>>,
}

const GROWS: u8 = 1;
const SINGLE: u8 = 2;
/// Scripts follow.
const SCRIPTS: u8 = 4;

/// Appends a command to those of a transaction.
pub fn put_queued(out: &mut Vec<u8>, db: u8, args: Args<'_>) {
    out.push(db);
    varint::put(out, args.len() as u64);
    args.iter().for_each(|arg| varint::put_bytes(out, arg));
}

impl Head {
    /// Appends the head of a transaction.
    pub fn put(&self, out: &mut Vec<u8>) {
        let of = |set: bool, flag: u8| if set { flag } else { 0 };
        out.push(of(self.grows, GROWS) | of(self.single, SINGLE) | of(!self.scripts.is_empty(), SCRIPTS));
        varint::put(out, self.commands as u64);
        varint::put(out, self.watched.len() as u64);
        for Watched { db, key, seen } in &self.watched {
            out.push(*db);
            varint::put_bytes(out, key);
            varint::put(out, seen.bits());
        }
        varint::put(out, self.terms.slots.len() as u64);
        for (first, last) in &self.terms.slots {
            varint::put(out, u64::from(*first));
            varint::put(out, u64::from(*last));
        }
        if !self.scripts.is_empty() {
            varint::put(out, self.scripts.len() as u64);
            self.scripts.iter().for_each(|source| varint::put_bytes(out, source));
        }
    }

    /// The head of the transaction that is the arguments of an `exec`.
    ///
    /// # Errors
    /// If they are none.
    pub fn of(args: Args<'_>) -> Result<Head, Refusal> {
        Head::read(args.get(2).unwrap_or_default()).map_err(malformed)
    }

    fn read(bytes: &[u8]) -> Result<Head, Malformed> {
        let mut input = Reader::new(bytes);
        let flags = input.u8()?;
        let mut head = Head { grows: flags & GROWS != 0, single: flags & SINGLE != 0, ..Head::default() };
        let Ok(commands) = usize::try_from(input.varint()?) else {
            return input.malformed("a number of commands");
        };
        head.commands = commands;
        for _ in 0..input.count(3)? {
            let db = database(&mut input)?;
            let key = input.bytes()?.to_vec();
            head.watched.push(Watched { db, key, seen: Seen::from_bits(input.varint()?) });
        }
        let slot = |input: &mut Reader<'_>| match u16::try_from(input.varint()?) {
            Ok(slot) if slot < SLOT_COUNT => Ok(slot),
            _ => input.malformed("a slot below 16384"),
        };
        for _ in 0..input.count(2)? {
            head.terms.slots.push((slot(&mut input)?, slot(&mut input)?));
        }
        if flags & SCRIPTS != 0 {
            for _ in 0..input.count(1)? {
                head.scripts.push(input.bytes()?.to_vec());
            }
        }
        input.end()?;
        Ok(head)
    }
}

impl Terms {
    /// True if they forbid nothing.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Refuses what a script may not do, given the command with its arguments.
    ///
    /// # Errors
    /// With the key, or the command that is about all keys.
    pub fn check(&self, command: &'static CommandSpec, args: Args<'_>) -> Result<(), Refusal> {
        if self.slots.is_empty() {
            return Ok(());
        }
        let (command, args) = carried_out(command, args);
        let has_slot = |slot: u16| self.slots.iter().any(|(first, last)| (*first..=*last).contains(&slot));
        if let Some(other) = sort_patterns(command, args)
            .find(|pattern| pattern.names_keys() && !pattern.slot().is_some_and(has_slot))
        {
            return Err(names_other_shards(command, other));
        }
        // One that cannot tell its keys refuses its arguments.
        let Ok(keys) = command.keys(args) else { return Ok(()) };
        if keys.is_empty() {
            let text = format!(
                "ERR {} concerns all shards of this cluster, and a script runs on the one of its keys",
                command.name
            );
            return Err(Refusal::format(text));
        }
        for key in keys.iter() {
            if !has_slot(slot_of(&args[key.index])) {
                let text = format!(
                    "ERR key '{}' is in another shard than the keys of the script; commands over several shards are not \
                     available: give keys that belong together a hash tag, as in {{tag}}key",
                    String::from_utf8_lossy(&args[key.index])
                );
                return Err(Refusal::format(text));
            }
        }
        Ok(())
    }
}

/// Why a SORT is refused whose pattern may name keys of other shards than that of its list.
pub fn names_other_shards(command: &CommandSpec, pattern: SortPattern<'_>) -> Refusal {
    let SortPattern { option, pattern } = pattern;
    let (command, pattern) = (command.name, String::from_utf8_lossy(pattern));
    Refusal::format(format!(
        "ERR the keys of {option} {pattern} may be in other shards than that of {command}; commands over several shards are not \
         available: give the pattern the hash tag of the key in front of its star, as in {{tag}}*"
    ))
}

/// True for the arguments of a transaction on its way, or of a script under terms, which comes as one.
pub fn is_transaction(args: Args<'_>) -> bool {
    args.len() == 3 && args.is(0, "exec")
}

/// Calls `look` with the first command of a transaction.
///
/// # Errors
/// If there is none.
pub fn first_queued<T>(args: Args<'_>, look: impl FnOnce(Args<'_>) -> T) -> Result<T, Refusal> {
    let (mut queued, mut spans) = (Queued::of(args), Vec::new());
    queued.next(&mut spans)?;
    Ok(look(queued.args(&spans)))
}

/// Calls `look` with each command of a transaction and the database that it is for.
pub fn each_queued(args: Args<'_>, mut look: impl FnMut(u8, Args<'_>)) {
    let (mut queued, mut spans) = (Queued::of(args), Vec::new());
    while let Ok(db) = queued.next(&mut spans) {
        look(db, queued.args(&spans));
    }
}

/// The commands of a transaction, one after another.
pub(crate) struct Queued<'a> {
    bytes: &'a [u8],
    input: Reader<'a>,
}

impl<'a> Queued<'a> {
    pub fn of(args: Args<'a>) -> Queued<'a> {
        let bytes = args.get(1).unwrap_or_default();
        Queued { bytes, input: Reader::new(bytes) }
    }

    /// The database of the next command, its arguments' places in `spans`.
    pub fn next(&mut self, spans: &mut Vec<Span>) -> Result<u8, Refusal> {
        let mut read = || -> Result<u8, Malformed> {
            let db = database(&mut self.input)?;
            spans.clear();
            for _ in 0..self.input.count(1)? {
                let len = self.input.bytes()?.len();
                spans.push(Span { start: (self.input.offset() - len) as u32, len: len as u32 });
            }
            Ok(db)
        };
        read().map_err(malformed)
    }

    /// The commands as the buffer of the spans.
    pub fn args<'s>(&self, spans: &'s [Span]) -> Args<'s>
    where
        'a: 's,
    {
        Args::new(self.bytes, spans)
    }
}

fn database(input: &mut Reader<'_>) -> Result<u8, Malformed> {
    match input.u8()? {
        db if db < DB_COUNT => Ok(db),
        _ => input.malformed("a database below 16"),
    }
}

fn malformed(cause: Malformed) -> Refusal {
    Refusal::format(format!("ERR a transaction of another version of skep: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_base::args::OwnedArgs;

    #[test]
    fn a_script_may_sort_by_keys_of_its_own_shard_alone() {
        let slot = slot_of(b"{t}");
        let terms = Terms { slots: vec![(slot, slot)] };
        for (call, is_refused) in [
            ("SORT {t}list", false),
            ("SORT {t}list BY nosort GET # GET nostar", false),
            ("SORT {t}list BY {t}w_* GET x{t}*->field", false),
            ("SORT {t}list LIMIT 0 5 BY w_*", true),
            ("SORT_RO {t}list BY nosort GET #  GET {u}*", true),
            ("SORT {t}list GET *{t}", true),
            ("SORT {t}list GET {t*}", true),
            ("SORT {t}list GET {}{t}*", true),
            ("SORT {t}list GET * STORE {t}other", true),
            ("ONCE token SORT {t}list GET * STORE {t}other", true),
            ("ONCE token SORT {t}list GET {t}* STORE {t}other", false),
        ] {
            let args = OwnedArgs::collect(call.split_whitespace().map(str::as_bytes));
            let checked = terms.check(skep_command::resolve(args.args()).unwrap(), args.args());
            assert_eq!(checked.is_err(), is_refused, "{call}: {checked:?}");
            assert_eq!(
                Terms::default().check(skep_command::resolve(args.args()).unwrap(), args.args()),
                Ok(())
            );
        }
    }

    #[test]
    fn transactions_round_trip_and_no_prefix_or_flip_panics() {
        let (mut commands, mut head) = (Vec::new(), Vec::new());
        let set = OwnedArgs::collect([&b"set"[..], b"k", b""]);
        let get = OwnedArgs::collect([&b"get"[..], b"k"]);
        put_queued(&mut commands, 3, set.args());
        put_queued(&mut commands, 0, get.args());
        let watched = [
            Watched { db: 15, key: b"k".to_vec(), seen: Seen::from_bits(u64::MAX) },
            Watched { db: 0, key: Vec::new(), seen: Seen::from_bits(0) },
        ];
        let terms = Terms { slots: vec![(0, 99), (16_000, 16_383)] };
        let scripts = vec![b"return 1".to_vec(), Vec::new()];
        let written =
            Head { commands: 2, grows: true, single: true, watched: watched.to_vec(), terms, scripts };
        written.put(&mut head);
        let whole = OwnedArgs::collect([&b"exec"[..], &commands, &head]);
        assert_eq!(Head::of(whole.args()), Ok(written));
        let (mut queued, mut spans) = (Queued::of(whole.args()), Vec::new());
        assert_eq!(queued.next(&mut spans), Ok(3));
        assert_eq!(OwnedArgs::copy(queued.args(&spans)), set);
        assert_eq!(queued.next(&mut spans), Ok(0));
        assert_eq!(OwnedArgs::copy(queued.args(&spans)), get);
        assert!(queued.next(&mut spans).is_err());

        let walk = |commands: &[u8], head: &[u8]| {
            let whole = OwnedArgs::collect([&b"exec"[..], commands, head]);
            let _ = Head::of(whole.args());
            let (mut queued, mut spans) = (Queued::of(whole.args()), Vec::new());
            while queued.next(&mut spans).is_ok() {}
        };
        for cut in 0..commands.len() {
            walk(&commands[..cut], &head[..cut.min(head.len())]);
        }
        for at in 0..commands.len().max(head.len()) {
            let flip = |bytes: &[u8]| {
                let mut bytes = bytes.to_vec();
                bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 0xff);
                bytes
            };
            walk(&flip(&commands), &flip(&head));
        }
    }
}
