//! Operations on one shard that were collected in a turn and must run in the log's order.
//!
//! On the leader they become one log entry; elsewhere they are forwarded to the leader, which puts them into its own batch.
//! Reads that follow an unanswered write of their own connection keep their place among the writes without being logged:
//! they run while the entry is applied, so that a pipeline of mixed commands costs one fsync and still sees its own writes
//! in order.

use bytes::Bytes;
use skep_base::args::OwnedArgs;
use skep_base::{Args, ConnId, Millis, NodeId, Span};
use skep_command::CommandSpec;
use skep_keyspace::Handler;
pub use skep_peer::Unblock;
use skep_peer::{CACHES, FREE, Forward, NO_TOUCH, READ, RESP3, SILENT};
use skep_resp::Protocol;

use crate::entry::{self, Decided, OpKind, Source};

/// Who waits for an operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// Nobody any more: it has been answered.
    Nobody,
    /// A client of this node, in one of its cells; `seq` counts its operations. `weight` is what that cell counts it for among
    /// what it has given to others.
    Client { cell: u16, weight: u32, conn: ConnId, seq: u64 },
    /// Another node, for one of its clients: the operation at place `index` of its forward `number`.
    Peer { node: NodeId, incarnation: u64, number: u64, index: u32 },
}

/// The same without what may change while the operation is on its way: whom an operation that waits belongs to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Asker {
    Client { cell: u16, conn: ConnId, seq: u64 },
    Peer { node: NodeId, incarnation: u64, number: u64, index: u32 },
}

impl Origin {
    pub fn asker(self) -> Option<Asker> {
        match self {
            Origin::Nobody => None,
            Origin::Client { cell, conn, seq, .. } => Some(Asker::Client { cell, conn, seq }),
            Origin::Peer { node, incarnation, number, index } => {
                Some(Asker::Peer { node, incarnation, number, index })
            }
        }
    }
}

/// Of a call that may wait for what it asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CallWait {
    /// Since when, by this node's monotonic clock.
    pub since: Millis,
    /// It has found nothing before, here or on another leader.
    pub again: bool,
    /// Who asked was told that it waits at this leader.
    pub parked: bool,
    /// It is to end as soon as it is certain that it has got nothing.
    pub end: Option<Unblock>,
}

/// What an operation is, but for its arguments.
#[derive(Clone, Copy)]
pub struct Call {
    pub origin: Origin,
    pub command: &'static CommandSpec,
    pub handler: Handler,
    pub db: u8,
    pub protocol: Protocol,
    /// The client wants no reply.
    pub silent: bool,
    /// The client's uses of keys do not count (`CLIENT NO-TOUCH`).
    pub no_touch: bool,
    /// The client caches what it reads.
    pub caches: bool,
    /// See [`skep_peer::FREE`].
    pub free: bool,
    /// Of a command that may wait.
    pub wait: Option<CallWait>,
}

/// One operation of a batch.
pub struct Op {
    pub call: Call,
    /// True if it is in the entry's payload; else its arguments are in [`InFlight::reads`].
    pub logged: bool,
    /// The leader said that it was not and will not be carried out.
    pub not_done: bool,
    first_span: u32,
    span_count: u32,
}

/// Operations being collected.
pub struct Batch {
    payload: Vec<u8>,
    reads: Vec<u8>,
    spans: Vec<Span>,
    ops: Vec<Op>,
    evictions: usize,
    /// Operations in the payload.
    logged: usize,
    /// An entry is wanted even if nothing is logged.
    wants_entry: bool,
    /// It has reads that need not keep a place but for want of a lease.
    pub holds_reads: bool,
    wants_digest: bool,
    /// Some of its operations may wait.
    may_wait: bool,
    serves: Vec<Serve>,
    /// The forward whose operations are being added, and the place of the next one.
    source: Option<(NodeId, u64, u64, u32)>,
}

/// Whoever stands in the line of the entry for a key is to be tried.
pub struct Serve {
    /// Behind so many operations of the batch.
    pub behind: usize,
    pub db: u8,
    pub key: Box<[u8]>,
}

/// A closed batch, until its operations are answered.
#[derive(Default)]
pub struct InFlight {
    pub ops: Vec<Op>,
    /// Grows from batch to batch of a shard in the order in which clients asked; what is taken out of one keeps it.
    pub order: u64,
    /// Evictions at the front of the payload.
    pub evictions: usize,
    /// True if it must become a log entry: it changes something, or its reads need a logged stamp.
    pub needs_entry: bool,
    /// See [`Batch::holds_reads`].
    pub holds_reads: bool,
    /// The payload ends with a mark that asks for digests.
    pub wants_digest: bool,
    /// Some of its operations may begin to wait while it is applied, and what follows in it may be what they wait for.
    pub may_wait: bool,
    /// In order.
    pub serves: Vec<Serve>,
    /// The payload while it can still be stamped.
    open: Vec<u8>,
    /// The payload once it is an entry's.
    payload: Bytes,
    spans: Vec<Span>,
    reads: Vec<u8>,
}

impl Default for Batch {
    fn default() -> Batch {
        Batch::with_room(entry::HEADER_BYTES, 0, 0)
    }
}

impl Batch {
    /// An empty batch with room for so much before anything has to be moved.
    fn with_room(bytes: usize, ops: usize, spans: usize) -> Batch {
        let mut payload = Vec::with_capacity(bytes);
        entry::begin(&mut payload);
        Batch {
            payload,
            reads: Vec::new(),
            spans: Vec::with_capacity(spans),
            ops: Vec::with_capacity(ops),
            evictions: 0,
            logged: 0,
            wants_entry: false,
            holds_reads: false,
            wants_digest: false,
            may_wait: false,
            serves: Vec::new(),
            source: None,
        }
    }
}

impl Call {
    fn flags(&self, logged: bool) -> u8 {
        let of = |set: bool, flag: u8| if set { flag } else { 0 };
        of(!logged, READ)
            | of(self.protocol == Protocol::Resp3, RESP3)
            | of(self.silent, SILENT)
            | of(self.no_touch, NO_TOUCH)
            | of(self.caches, CACHES)
            | of(self.free, FREE)
    }
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.evictions == 0 && !self.wants_entry
    }

    /// Operations collected.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Bytes of the payload so far.
    pub fn bytes(&self) -> usize {
        self.payload.len() + self.reads.len()
    }

    #[inline]
    pub fn push_write(&mut self, call: Call, args: Args<'_>) {
        self.mark_source(&call);
        let first_span = self.spans.len() as u32;
        self.may_wait |= call.wait.is_some();
        let again = call.wait.is_some_and(|wait| wait.again);
        let kind = if again { OpKind::Again } else { OpKind::Command };
        entry::put_op(&mut self.payload, kind, call.db, args, &mut self.spans);
        self.logged += 1;
        self.ops.push(Op { call, logged: true, not_done: false, first_span, span_count: args.len() as u32 });
    }

    pub fn push_read(&mut self, call: Call, args: Args<'_>) {
        self.pass(call.origin);
        self.holds_reads |= call.free;
        self.may_wait |= call.wait.is_some();
        let first_span = self.spans.len() as u32;
        for arg in args.iter() {
            self.spans.push(Span { start: self.reads.len() as u32, len: arg.len() as u32 });
            self.reads.extend_from_slice(arg);
        }
        self.ops.push(Op { call, logged: false, not_done: false, first_span, span_count: args.len() as u32 });
    }

    /// Takes note that a read of a forward was answered without a place in the batch.
    pub fn pass(&mut self, origin: Origin) {
        if let (Origin::Peer { node, incarnation, number, index }, Some(source)) = (origin, &mut self.source)
            && *source == (node, incarnation, number, index)
        {
            source.3 = index + 1;
        }
    }

    /// See [`InFlight::end_wait`].
    pub fn end_wait(&mut self, asker: Asker, end: Unblock) {
        end_wait(&mut self.ops, asker, end);
    }

    /// See [`InFlight::end_own_waits`].
    pub fn end_own_waits(&mut self, end: Unblock) {
        end_own_waits(&mut self.ops, end);
    }

    /// Makes the batch an entry even if nothing in it is logged: its stamp is what counts.
    pub fn want_entry(&mut self) {
        self.wants_entry = true;
    }

    /// Asks for digests of the state behind this entry.
    pub fn push_digest(&mut self) {
        self.wants_digest = true;
        self.wants_entry = true;
    }

    /// Adds keys to be evicted. Panics if there are operations already: evictions come first.
    pub fn push_evict(&mut self, db: u8, keys: Args<'_>) {
        assert!(self.ops.is_empty(), "an eviction behind {} operations", self.ops.len());
        let mut ignored = Vec::new();
        entry::put_op(&mut self.payload, OpKind::Evict, db, keys, &mut ignored);
        self.evictions += 1;
    }

    /// Lets those have `key` who stand in the line of the entry for it.
    pub fn push_serve(&mut self, db: u8, key: &[u8]) {
        entry::put_op(
            &mut self.payload,
            OpKind::Serve,
            db,
            OwnedArgs::collect([key]).args(),
            &mut Vec::new(),
        );
        self.serves.push(Serve { behind: self.ops.len(), db, key: key.into() });
    }

    /// Closes the batch. Empty afterwards.
    pub fn close(&mut self) -> InFlight {
        // Roughly as much comes in the next turn.
        let next = Batch::with_room(
            self.payload.len().clamp(entry::HEADER_BYTES, 1 << 20),
            self.ops.len().min(4_096),
            self.spans.len().min(16_384),
        );
        let mut full = std::mem::replace(self, next);
        if full.wants_digest {
            let none = OwnedArgs::default();
            entry::put_op(&mut full.payload, OpKind::Digest, 0, none.args(), &mut Vec::new());
        }
        InFlight {
            ops: full.ops,
            order: 0,
            evictions: full.evictions,
            needs_entry: full.logged > 0 || full.evictions > 0 || full.wants_entry,
            holds_reads: full.holds_reads,
            wants_digest: full.wants_digest,
            may_wait: full.may_wait,
            serves: full.serves,
            open: full.payload,
            payload: Bytes::new(),
            spans: full.spans,
            reads: full.reads,
        }
    }

    /// Marks in the payload whose clients the next write comes from, if it is not the same as before.
    ///
    /// One that may wait always has a mark of its own: the forward that brought it may be settled otherwise.
    fn mark_source(&mut self, call: &Call) {
        match call.origin {
            Origin::Peer { node, incarnation, number, index } => {
                if call.wait.is_some() || self.source != Some((node, incarnation, number, index)) {
                    let source = Source { node, incarnation, number, first: index };
                    entry::put_source(&mut self.payload, source);
                }
                let next = if call.wait.is_some() { u32::MAX } else { index + 1 };
                self.source = Some((node, incarnation, number, next));
            }
            _ if self.source.is_some() => {
                entry::put_source(&mut self.payload, Source::LEADER);
                self.source = None;
            }
            _ => {}
        }
    }
}

impl InFlight {
    /// The arguments of an operation.
    #[inline]
    pub fn args(&self, op: &Op) -> Args<'_> {
        let buffer: &[u8] = match op.logged {
            false => &self.reads,
            true if self.payload.is_empty() => &self.open,
            true => &self.payload,
        };
        let first = op.first_span as usize;
        Args::new(buffer, &self.spans[first..first + op.span_count as usize])
    }

    /// Bytes that it takes up while it waits.
    pub fn bytes(&self) -> usize {
        self.open.len() + self.payload.len() + self.reads.len()
    }

    /// The payload of the entry that this batch becomes. Panics if it was asked for before.
    pub fn payload(&mut self, decided: Decided) -> Bytes {
        assert!(self.payload.is_empty(), "a batch becomes an entry once");
        let mut open = std::mem::take(&mut self.open);
        entry::seal(&mut open, decided);
        self.payload = Bytes::from(open);
        self.payload.clone()
    }

    /// Adds all operations to a forward, each at the place that it has here.
    pub fn forward(&self, forward: &mut Forward, now: Millis) {
        forward.reserve(self.ops.len(), self.bytes());
        for op in &self.ops {
            let (flags, db, args) = (op.call.flags(op.logged), op.call.db, self.args(op));
            match op.call.wait.filter(|wait| wait.again) {
                Some(wait) => forward.push_again(flags, db, now.since(wait.since), args),
                None => forward.push(flags, db, args),
            }
        }
    }

    /// True if calls of other nodes' clients are in it that may wait.
    pub fn has_waits_of_others(&self) -> bool {
        self.ops.iter().any(|op| op.call.wait.is_some() && matches!(op.call.origin, Origin::Peer { .. }))
    }

    /// An operation that may wait shall not begin to.
    pub fn end_wait(&mut self, asker: Asker, end: Unblock) {
        end_wait(&mut self.ops, asker, end);
    }

    /// Nothing of this node's clients that may wait shall begin to.
    pub fn end_own_waits(&mut self, end: Unblock) {
        end_own_waits(&mut self.ops, end);
    }

    /// A batch of those operations that a client of this node still waits for; `None` if there are none.
    pub fn rest(mut self) -> Option<InFlight> {
        self.take_where(|_| true)
    }

    /// Takes out those of this node's clients' open operations that `pick` names, as a batch of their own; `None` if there are
    /// none. Their places stay, with nobody to be answered.
    pub fn take_where(&mut self, pick: impl Fn(&Op) -> bool) -> Option<InFlight> {
        let mut batch = Batch::default();
        for at in 0..self.ops.len() {
            let op = &self.ops[at];
            if matches!(op.call.origin, Origin::Client { .. }) && pick(op) {
                match op.logged {
                    true => batch.push_write(op.call, self.args(op)),
                    false => batch.push_read(op.call, self.args(op)),
                }
                self.ops[at].call.origin = Origin::Nobody;
            }
        }
        (!batch.is_empty()).then(|| InFlight { order: self.order, ..batch.close() })
    }
}

fn end_wait(ops: &mut [Op], asker: Asker, end: Unblock) {
    let of = |op: &&mut Op| op.call.wait.is_some() && op.call.origin.asker() == Some(asker);
    if let Some(wait) = ops.iter_mut().find(of).and_then(|op| op.call.wait.as_mut()) {
        wait.end = Some(end);
    }
}

fn end_own_waits(ops: &mut [Op], end: Unblock) {
    let own = ops.iter_mut().filter(|op| matches!(op.call.origin, Origin::Client { .. }));
    own.filter_map(|op| op.call.wait.as_mut()).for_each(|wait| wait.end = Some(end));
}
