//! Operations of clients on their way to a group's leader, and the answers on their way back.
//!
//! Both are kept as the bytes that travel: what a client sent is copied once into a [`Forward`], once into the link's
//! buffer, and once out of the frame that brought it.

use skep_base::varint::{Malformed, Reader, put, put_bytes};
use skep_base::{Args, GroupId, Span, Term};

/// Flag of an operation: changes nothing, and need not be logged.
pub const READ: u8 = 1;
/// Flag of an operation: its client wants the reply in RESP3.
pub const RESP3: u8 = 2;
/// Flag of an operation: its client wants no reply.
pub const SILENT: u8 = 4;
/// Flag of an operation: keys that it reads do not count as used.
pub const NO_TOUCH: u8 = 8;
/// Flag of a read, or of a command that may wait, that follows no unanswered write of its own connection, so that it need not
/// keep its place.
pub const FREE: u8 = 16;

/// Flag of an operation that has found nothing before and waits: for how many milliseconds stands behind its database.
pub const AGAIN: u8 = 32;

/// Flag of an operation: its client caches what it reads, and is to be told what keys its scripts read.
pub const CACHES: u8 = 64;

const FLAGS: u8 = READ | RESP3 | SILENT | NO_TOUCH | FREE | AGAIN | CACHES;

/// The smallest operation: flags, database, count, one argument without bytes.
const OP_BYTES_MIN: usize = 4;
/// What stands around the arguments of an operation, usually: two bytes, the count, the lengths of three.
const OP_BYTES_USUAL: usize = 6;
/// The smallest answer: number, index, tag.
const ANSWER_BYTES_MIN: usize = 3;

const REPLY: u8 = 0;
const NOT_DONE: u8 = 1;
const PARKED: u8 = 2;
const DENIED: u8 = 3;
const SCRIPT_READ: u8 = 4;
const SCRIPT_READ_MANY: u8 = 5;

/// A batch of operations for the leader of `group` in `term`. Numbers are consecutive from 1 in each session: a group, a
/// term, a sender and the sender's incarnation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Forward {
    pub group: GroupId,
    pub term: Term,
    pub number: u64,
    /// The oldest forward that the sender still wants: those before it are answered or given up. At most `number`.
    pub floor: u64,
    count: u32,
    /// Each: flags u8, database u8, milliseconds waited if it has, count of arguments, arguments behind their lengths.
    ops: Vec<u8>,
}

impl Forward {
    /// A forward without operations; the only one that its sender waits for until `floor` says otherwise.
    pub fn new(group: GroupId, term: Term, number: u64) -> Forward {
        Forward { group, term, number, floor: number, count: 0, ops: Vec::new() }
    }

    /// Makes room for operations with so many bytes of arguments, if those are as short as they usually are.
    pub fn reserve(&mut self, ops: usize, bytes: usize) {
        self.ops.reserve(ops * OP_BYTES_USUAL + bytes);
    }

    /// Adds an operation; its index is the length before. `flags` is a sum of [`READ`] and those that follow it, without
    /// [`AGAIN`].
    ///
    /// # Panics
    /// On other flags, or without an argument.
    pub fn push(&mut self, flags: u8, db: u8, args: Args<'_>) {
        assert!(flags & AGAIN == 0, "flags {flags:#x} of an operation that has not waited");
        self.push_op(flags, db, None, args);
    }

    /// As [`Forward::push`], for an operation that has waited so long.
    pub fn push_again(&mut self, flags: u8, db: u8, waited_ms: u64, args: Args<'_>) {
        self.push_op(flags | AGAIN, db, Some(waited_ms), args);
    }

    fn push_op(&mut self, flags: u8, db: u8, waited_ms: Option<u64>, args: Args<'_>) {
        assert!(flags & !FLAGS == 0, "flags {flags:#x} of an operation");
        assert!(!args.is_empty(), "an operation without a name");
        self.ops.extend_from_slice(&[flags, db]);
        waited_ms.into_iter().for_each(|ms| put(&mut self.ops, ms));
        put(&mut self.ops, args.len() as u64);
        args.iter().for_each(|arg| put_bytes(&mut self.ops, arg));
        self.count += 1;
    }

    /// Number of operations.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes that the operations take on the wire.
    pub fn bytes(&self) -> usize {
        self.ops.len()
    }

    /// Reads the operations in order.
    pub fn reader(&self) -> ForwardReader<'_> {
        ForwardReader { ops: &self.ops, offset: 0, waited_ms: None }
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        assert!(self.floor <= self.number, "forward {} wants an answer from {} on", self.number, self.floor);
        let behind = self.number - self.floor;
        for number in [self.group.0, self.term.0, self.number, behind, u64::from(self.count)] {
            put(out, number);
        }
        out.extend_from_slice(&self.ops);
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<Forward, Malformed> {
        let (group, term, number) = (GroupId(r.varint()?), Term(r.varint()?), r.varint()?);
        let Some(floor) = number.checked_sub(r.varint()?) else {
            return r.malformed("a forward not older than itself");
        };
        let count = r.count(OP_BYTES_MIN)?;
        let ops = r.clone();
        for _ in 0..count {
            let flags = r.u8()?;
            if flags & !FLAGS != 0 {
                return r.malformed("flags of an operation before this");
            }
            r.u8()?;
            if flags & AGAIN != 0 {
                r.varint()?;
            }
            let args = r.count(1)?;
            if args == 0 {
                return r.malformed("an operation with a name");
            }
            for _ in 0..args {
                r.bytes()?;
            }
        }
        r.end()?;
        Ok(Forward { group, term, number, floor, count: count as u32, ops: rest(ops).to_vec() })
    }
}

fn rest(mut r: Reader<'_>) -> &[u8] {
    r.take(r.left()).expect("a reader has what is left")
}

/// Reads operations whose shape is known to be sound: they were checked when they were decoded, or pushed here.
pub struct ForwardReader<'f> {
    ops: &'f [u8],
    offset: usize,
    waited_ms: Option<u64>,
}

impl<'f> ForwardReader<'f> {
    /// The flags and the database of the next operation, and where its arguments lie, for [`args`](Self::args). `None`
    /// behind the last; `spans` is emptied in any case.
    pub fn next_op(&mut self, spans: &mut Vec<Span>) -> Option<(u8, u8)> {
        spans.clear();
        if self.offset == self.ops.len() {
            return None;
        }
        Some(self.read_op(spans).expect("operations are checked when they are decoded"))
    }

    /// How long the operation read last has waited; `None` if it is new.
    pub fn waited_ms(&self) -> Option<u64> {
        self.waited_ms
    }

    fn read_op(&mut self, spans: &mut Vec<Span>) -> Result<(u8, u8), Malformed> {
        let mut r = Reader::new(&self.ops[self.offset..]);
        let (flags, db) = (r.u8()?, r.u8()?);
        self.waited_ms = if flags & AGAIN != 0 { Some(r.varint()?) } else { None };
        let count = r.count(1)?;
        for _ in 0..count {
            let len = r.bytes()?.len();
            let end = self.offset + r.offset();
            spans.push(Span { start: (end - len) as u32, len: len as u32 });
        }
        self.offset += r.offset();
        Ok((flags, db))
    }

    /// The arguments of an operation of this forward.
    pub fn args<'s>(&self, spans: &'s [Span]) -> Args<'s>
    where
        'f: 's,
    {
        Args::new(self.ops, spans)
    }
}

/// What became of one operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Answer<'a> {
    /// It was carried out, or declined for good; these bytes are for the client.
    Reply(&'a [u8]),
    /// It was not carried out and will not be; it may be sent again.
    NotDone,
    /// It found nothing and waits. Another answer follows, on its own: the operation holds up nothing behind it.
    Parked,
    /// A script of it was denied something: 0 a command, 1 a key, 2 a channel. The operation's own answer comes beside it.
    Denied { forbidden: u8, object: &'a [u8], user: &'a [u8] },
    /// A script of it has read a key that its call did not name. The operation's own answer comes beside it.
    ScriptRead(&'a [u8]),
    /// The same of more keys than are told.
    ScriptReadMany,
}

/// Answers to forwarded operations of one group and term.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ForwardAnswers {
    pub group: GroupId,
    pub term: Term,
    count: u32,
    /// The newest forward that is answered.
    last_number: u64,
    /// Each: number, index, tag u8, and the reply behind its length.
    items: Vec<u8>,
}

impl ForwardAnswers {
    pub fn new(group: GroupId, term: Term) -> ForwardAnswers {
        ForwardAnswers { group, term, count: 0, last_number: 0, items: Vec::new() }
    }

    /// Adds the answer to operation `index` of the forward `number`.
    pub fn push(&mut self, number: u64, index: u32, answer: Answer<'_>) {
        put(&mut self.items, number);
        put(&mut self.items, u64::from(index));
        match answer {
            Answer::Reply(reply) => {
                self.items.push(REPLY);
                put_bytes(&mut self.items, reply);
            }
            Answer::NotDone => self.items.push(NOT_DONE),
            Answer::Parked => self.items.push(PARKED),
            Answer::Denied { forbidden, object, user } => {
                self.items.extend([DENIED, forbidden]);
                put_bytes(&mut self.items, object);
                put_bytes(&mut self.items, user);
            }
            Answer::ScriptRead(key) => {
                self.items.push(SCRIPT_READ);
                put_bytes(&mut self.items, key);
            }
            Answer::ScriptReadMany => self.items.push(SCRIPT_READ_MANY),
        }
        self.count += 1;
        self.last_number = self.last_number.max(number);
    }

    /// The newest forward of which an operation is answered; 0 if none is.
    pub fn last_number(&self) -> u64 {
        self.last_number
    }

    /// Number of answers.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes that the answers take on the wire.
    pub fn bytes(&self) -> usize {
        self.items.len()
    }

    /// Number of the forward, index in it, and answer; in the order in which they were pushed.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u32, Answer<'_>)> {
        let mut r = Reader::new(&self.items);
        (0..self.count).map(move |_| answer(&mut r).expect("answers are checked when they are decoded"))
    }

    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        for number in [self.group.0, self.term.0, u64::from(self.count)] {
            put(out, number);
        }
        out.extend_from_slice(&self.items);
    }

    pub(crate) fn read(r: &mut Reader<'_>) -> Result<ForwardAnswers, Malformed> {
        let (group, term) = (GroupId(r.varint()?), Term(r.varint()?));
        let count = r.count(ANSWER_BYTES_MIN)?;
        let items = r.clone();
        let mut last_number = 0;
        for _ in 0..count {
            last_number = last_number.max(answer(r)?.0);
        }
        r.end()?;
        Ok(ForwardAnswers { group, term, count: count as u32, last_number, items: rest(items).to_vec() })
    }
}

fn answer<'a>(r: &mut Reader<'a>) -> Result<(u64, u32, Answer<'a>), Malformed> {
    let number = r.varint()?;
    let Ok(index) = u32::try_from(r.varint()?) else { return r.malformed("an index of 32 bits before this") };
    match r.u8()? {
        REPLY => Ok((number, index, Answer::Reply(r.bytes()?))),
        NOT_DONE => Ok((number, index, Answer::NotDone)),
        PARKED => Ok((number, index, Answer::Parked)),
        DENIED => {
            let forbidden = r.u8()?;
            if forbidden > 2 {
                return r.malformed("0 to 2 for what is denied");
            }
            Ok((number, index, Answer::Denied { forbidden, object: r.bytes()?, user: r.bytes()? }))
        }
        SCRIPT_READ => Ok((number, index, Answer::ScriptRead(r.bytes()?))),
        SCRIPT_READ_MANY => Ok((number, index, Answer::ScriptReadMany)),
        _ => r.malformed("a kind of answer before this"),
    }
}
