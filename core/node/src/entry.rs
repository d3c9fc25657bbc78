//! The payload of a data shard's log entries: a batch of commands with everything that is not a function of the state.
//!
//! Layout: version `u8`, stamp `u64`, seed `u64`, seconds for which ONCE keeps replies `u32`, flags `u8`, then operations to the
//! end: kind `u8`, database `u8`, argument count and the arguments as varint-prefixed bytes. A command carries its name, so that
//! the log does not depend on table order. Version 2 has no flags.

use skep_base::args::OwnedArgs;
use skep_base::varint::{self, Malformed, Reader};
use skep_base::{Args, Millis, NodeId, Span};

const VERSION: u8 = 3;
/// Bytes in front of the first operation.
pub const HEADER_BYTES: usize = 1 + 8 + 8 + 4 + 1;
/// Where the header has its flags.
const FLAGS_AT: usize = HEADER_BYTES - 1;

/// The flag of an entry for whose scripts there is no memory.
const NO_MEMORY: u8 = 1;

/// What an operation is. Part of the log format.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum OpKind {
    /// A client's command; its arguments start with its name.
    Command = 0,
    /// Keys to remove because memory is short; the arguments are the keys.
    Evict = 1,
    /// Whose clients sent the commands that follow: one argument, a [`Source`].
    From = 2,
    /// Replicas shall compute the digest of their state at this entry; without arguments.
    Digest = 3,
    /// A client's command that has waited, as [`OpKind::Command`].
    Again = 4,
    /// Whoever stands in the entry's line (`line.rs`) for the keys that are the arguments is tried.
    Serve = 5,
}

/// The forward that brought the commands behind it, so that the node that sent it recognises them when it applies the
/// entry, and can answer its clients even if the leader is gone. Node 0: the leader's own clients, which is what an entry
/// begins with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Source {
    pub node: NodeId,
    pub incarnation: u64,
    /// Of the forward, within its session.
    pub number: u64,
    /// The place in the forward of the first command that follows.
    pub first: u32,
}

impl Source {
    /// The leader's own clients.
    pub const LEADER: Source = Source { node: NodeId(0), incarnation: 0, number: 0, first: 0 };

    fn encode(self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(20);
        for number in [self.node.0, self.incarnation, self.number, u64::from(self.first)] {
            varint::put(&mut bytes, number);
        }
        bytes
    }

    /// Reads the arguments of a [`OpKind::From`].
    pub fn decode(args: Args<'_>) -> Result<Source, Malformed> {
        let mut input = Reader::new(args.get(0).unwrap_or_default());
        let node = NodeId(input.varint()?);
        let (incarnation, number) = (input.varint()?, input.varint()?);
        let Ok(first) = u32::try_from(input.varint()?) else { return input.malformed("a place below 2^32") };
        input.end()?;
        Ok(Source { node, incarnation, number, first })
    }
}

/// Appends a mark of whose clients sent what follows.
pub fn put_source(payload: &mut Vec<u8>, source: Source) {
    let bytes = OwnedArgs::collect([&source.encode()[..]]);
    put_op(payload, OpKind::From, 0, bytes.args(), &mut Vec::new());
}

/// What the leader decides for all replicas.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Decided {
    /// The time by which deadlines are judged.
    pub stamp: Millis,
    /// Of random choices.
    pub seed: u64,
    /// How long `ONCE` keeps replies.
    pub once_retention_seconds: u32,
    /// More memory is in use than `maxmemory` allows: scripts may do nothing that needs more.
    pub no_memory: bool,
}

/// Begins a payload. [`seal`] fills in the header when the batch is complete.
pub fn begin(out: &mut Vec<u8>) {
    out.clear();
    out.resize(HEADER_BYTES, 0);
}

/// Writes what the leader decided.
pub fn seal(payload: &mut [u8], decided: Decided) {
    let Decided { stamp, seed, once_retention_seconds, no_memory } = decided;
    payload[0] = VERSION;
    payload[1..9].copy_from_slice(&stamp.0.to_le_bytes());
    payload[9..17].copy_from_slice(&seed.to_le_bytes());
    payload[17..21].copy_from_slice(&once_retention_seconds.to_le_bytes());
    payload[FLAGS_AT] = if no_memory { NO_MEMORY } else { 0 };
}

/// Appends an operation and the places of its arguments in the payload.
pub fn put_op(payload: &mut Vec<u8>, kind: OpKind, db: u8, args: Args<'_>, spans: &mut Vec<Span>) {
    payload.push(kind as u8);
    payload.push(db);
    varint::put(payload, args.len() as u64);
    for arg in args.iter() {
        varint::put(payload, arg.len() as u64);
        spans.push(Span { start: payload.len() as u32, len: arg.len() as u32 });
        payload.extend_from_slice(arg);
    }
}

/// Reads a payload that another node, or this one before a restart, has written.
pub struct EntryReader<'a> {
    payload: &'a [u8],
    input: Reader<'a>,
    pub decided: Decided,
}

impl<'a> EntryReader<'a> {
    pub fn new(payload: &'a [u8]) -> Result<EntryReader<'a>, Malformed> {
        let mut input = Reader::new(payload);
        let version = input.u8()?;
        if !(2..=VERSION).contains(&version) {
            return Err(Malformed { offset: 0, expected: "an entry of version 2 or 3" });
        }
        let stamp = Millis(input.u64()?);
        let seed = input.u64()?;
        let once_retention_seconds = input.u32()?;
        let flags = if version > 2 { input.u8()? } else { 0 };
        if flags & !NO_MEMORY != 0 {
            return input.malformed("flags of version 3");
        }
        let decided = Decided { stamp, seed, once_retention_seconds, no_memory: flags & NO_MEMORY != 0 };
        Ok(EntryReader { payload, input, decided })
    }

    /// The next operation, its arguments' places in `spans`; `None` at the end.
    pub fn next_op(&mut self, spans: &mut Vec<Span>) -> Result<Option<(OpKind, u8)>, Malformed> {
        if self.input.left() == 0 {
            return Ok(None);
        }
        let kind = match self.input.u8()? {
            0 => OpKind::Command,
            1 => OpKind::Evict,
            2 => OpKind::From,
            3 => OpKind::Digest,
            4 => OpKind::Again,
            5 => OpKind::Serve,
            _ => return self.input.malformed("an operation of kind 0 to 5"),
        };
        let db = self.input.u8()?;
        spans.clear();
        for _ in 0..self.input.count(1)? {
            let len = self.input.bytes()?.len();
            spans.push(Span { start: (self.input.offset() - len) as u32, len: len as u32 });
        }
        Ok(Some((kind, db)))
    }

    /// The payload as the buffer of the spans.
    pub fn args<'s>(&self, spans: &'s [Span]) -> Args<'s>
    where
        'a: 's,
    {
        Args::new(self.payload, spans)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_round_trip_and_no_prefix_panics() {
        let set = OwnedArgs::collect([&b"set"[..], b"k", b"v"]);
        let del = OwnedArgs::collect([&b"k"[..]]);
        let mut payload = Vec::new();
        let mut spans = Vec::new();
        begin(&mut payload);
        put_op(&mut payload, OpKind::Command, 3, set.args(), &mut spans);
        put_op(&mut payload, OpKind::Evict, 0, del.args(), &mut spans);
        let source = Source { node: NodeId(3), incarnation: u64::MAX, number: 7, first: 12 };
        put_source(&mut payload, source);
        let decided =
            Decided { stamp: Millis(17), seed: 99, once_retention_seconds: 86_400, no_memory: true };
        seal(&mut payload, decided);

        let mut reader = EntryReader::new(&payload).unwrap();
        assert_eq!(reader.decided, decided);
        let mut read = Vec::new();
        assert_eq!(reader.next_op(&mut read).unwrap(), Some((OpKind::Command, 3)));
        assert_eq!(read, spans[..3]);
        assert_eq!(OwnedArgs::copy(reader.args(&read)), set);
        assert_eq!(reader.next_op(&mut read).unwrap(), Some((OpKind::Evict, 0)));
        assert_eq!(OwnedArgs::copy(reader.args(&read)), del);
        assert_eq!(reader.next_op(&mut read).unwrap(), Some((OpKind::From, 0)));
        assert_eq!(Source::decode(reader.args(&read)), Ok(source));
        assert_eq!(reader.next_op(&mut read).unwrap(), None);

        for cut in 0..payload.len() {
            if let Ok(mut reader) = EntryReader::new(&payload[..cut]) {
                while let Ok(Some(_)) = reader.next_op(&mut read) {}
            }
        }
    }

    #[test]
    fn entries_of_the_version_before_are_read() {
        let mut payload = vec![2];
        payload.extend_from_slice(&17u64.to_le_bytes());
        payload.extend_from_slice(&99u64.to_le_bytes());
        payload.extend_from_slice(&60u32.to_le_bytes());
        payload.extend_from_slice(b"\x00\x03\x02\x03get\x01k");
        let mut reader = EntryReader::new(&payload).unwrap();
        let decided = Decided { stamp: Millis(17), seed: 99, once_retention_seconds: 60, no_memory: false };
        assert_eq!(reader.decided, decided);
        let mut read = Vec::new();
        assert_eq!(reader.next_op(&mut read), Ok(Some((OpKind::Command, 3))));
        assert_eq!(OwnedArgs::copy(reader.args(&read)), OwnedArgs::collect([&b"get"[..], b"k"]));
        assert_eq!(reader.next_op(&mut read), Ok(None));
    }

    #[test]
    fn flags_and_versions_that_are_not_known_are_refused() {
        let mut payload = Vec::new();
        begin(&mut payload);
        seal(
            &mut payload,
            Decided { stamp: Millis(1), seed: 2, once_retention_seconds: 3, no_memory: false },
        );
        assert!(!EntryReader::new(&payload).unwrap().decided.no_memory);
        for (at, byte) in [(0, 1), (0, 4), (FLAGS_AT, 2), (FLAGS_AT, 0x81)] {
            let mut other = payload.clone();
            other[at] = byte;
            assert!(EntryReader::new(&other).is_err(), "{byte} at {at}");
        }
    }
}
