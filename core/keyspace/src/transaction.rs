//! A transaction on its way: the commands between `MULTI` and `EXEC` with the versions of the watched keys, as the arguments
//! of one `exec` command. So it is logged, forwarded and answered like any other.
//!
//! The arguments are the name, the commands, and the [`Head`]. A client's own `EXEC` has none, so it cannot pass for one.

use skep_base::args::Span;
use skep_base::varint::{self, Malformed, Reader};
use skep_base::{Args, Refusal};

use crate::dispatch::Handler;
use crate::keyspace::DB_COUNT;
use crate::versions::Version;

/// `EXEC` of commands that only read: it need not be logged.
pub const EXEC_READ: Handler = Handler::Read(crate::commands::transactions::exec_read);

/// A watched key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Watched {
    pub db: u8,
    pub key: Vec<u8>,
    /// What it had when `WATCH` looked.
    pub version: Version,
}

/// What is known of a transaction beside its commands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Head<'a> {
    /// How many commands there are.
    pub commands: usize,
    /// Some of them may need memory.
    pub grows: bool,
    /// Watched keys, encoded.
    watched: &'a [u8],
}

/// Appends a command to those of a transaction.
pub fn put_queued(out: &mut Vec<u8>, db: u8, args: Args<'_>) {
    out.push(db);
    varint::put(out, args.len() as u64);
    args.iter().for_each(|arg| varint::put_bytes(out, arg));
}

impl<'a> Head<'a> {
    /// Appends the head of a transaction.
    pub fn put(out: &mut Vec<u8>, commands: usize, grows: bool, watched: &[Watched]) {
        out.push(u8::from(grows));
        varint::put(out, commands as u64);
        varint::put(out, watched.len() as u64);
        for Watched { db, key, version } in watched {
            out.push(*db);
            varint::put_bytes(out, key);
            varint::put(out, u64::from(version.0));
        }
    }

    /// The head of the transaction that is the arguments of an `exec`.
    ///
    /// # Errors
    /// If they are none.
    pub fn of(args: Args<'a>) -> Result<Head<'a>, Refusal> {
        let bytes = args.get(2).unwrap_or_default();
        Head::read(bytes).map_err(malformed)
    }

    fn read(bytes: &'a [u8]) -> Result<Head<'a>, Malformed> {
        let mut input = Reader::new(bytes);
        let grows = input.u8()? != 0;
        let Ok(commands) = usize::try_from(input.varint()?) else {
            return input.malformed("a number of commands");
        };
        Ok(Head { commands, grows, watched: &bytes[input.offset()..] })
    }

    /// Looks at the watched keys until one is not as it was.
    pub(crate) fn any_watched(
        &self,
        mut changed: impl FnMut(u8, &[u8], Version) -> bool,
    ) -> Result<bool, Refusal> {
        let mut input = Reader::new(self.watched);
        let mut read = || -> Result<bool, Malformed> {
            for _ in 0..input.count(3)? {
                let db = database(&mut input)?;
                let key = input.bytes()?;
                if changed(db, key, Version::read(&mut input)?) {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        read().map_err(malformed)
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
    fn transactions_round_trip_and_no_prefix_or_flip_panics() {
        let (mut commands, mut head) = (Vec::new(), Vec::new());
        let set = OwnedArgs::collect([&b"set"[..], b"k", b""]);
        let get = OwnedArgs::collect([&b"get"[..], b"k"]);
        put_queued(&mut commands, 3, set.args());
        put_queued(&mut commands, 0, get.args());
        let watched = [
            Watched { db: 15, key: b"k".to_vec(), version: Version(u32::MAX) },
            Watched { db: 0, key: Vec::new(), version: Version::ABSENT },
        ];
        Head::put(&mut head, 2, true, &watched);
        let whole = OwnedArgs::collect([&b"exec"[..], &commands, &head]);
        let read = Head::of(whole.args()).unwrap();
        assert_eq!((read.commands, read.grows), (2, true));
        let mut seen = Vec::new();
        let any = read.any_watched(|db, key, version| {
            seen.push(Watched { db, key: key.to_vec(), version });
            false
        });
        assert_eq!((any, &seen[..]), (Ok(false), &watched[..]));
        let (mut queued, mut spans) = (Queued::of(whole.args()), Vec::new());
        assert_eq!(queued.next(&mut spans), Ok(3));
        assert_eq!(OwnedArgs::copy(queued.args(&spans)), set);
        assert_eq!(queued.next(&mut spans), Ok(0));
        assert_eq!(OwnedArgs::copy(queued.args(&spans)), get);
        assert!(queued.next(&mut spans).is_err());

        let walk = |commands: &[u8], head: &[u8]| {
            let whole = OwnedArgs::collect([&b"exec"[..], commands, head]);
            if let Ok(head) = Head::of(whole.args()) {
                let _ = head.any_watched(|_, _, _| false);
            }
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
