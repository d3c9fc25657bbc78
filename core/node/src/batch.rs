//! What clients have asked for in this turn and must run in the log's order.
//!
//! Writes become one log entry. Reads that follow an unanswered write of their own connection keep their place among the
//! writes without being logged: they run on the leader while it applies the entry, so that a pipeline of mixed commands
//! costs one fsync and still sees its own writes in order.

use bytes::Bytes;
use skep_base::{Args, ConnId, Millis, Span};
use skep_command::CommandSpec;
use skep_keyspace::Handler;

use crate::entry::{self, OpKind};

/// One operation and whom it is for.
pub struct Op {
    pub client: ConnId,
    pub handler: Handler,
    pub command: &'static CommandSpec,
    pub db: u8,
    /// True if it is in the entry's payload; else its arguments are in [`InFlight::reads`].
    pub logged: bool,
    /// True if the client wants no reply.
    pub silent: bool,
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
}

/// A proposed batch, until its entry is applied.
pub struct InFlight {
    pub ops: Vec<Op>,
    /// Evictions at the front of the payload.
    pub evictions: usize,
    spans: Vec<Span>,
    reads: Vec<u8>,
}

impl Default for Batch {
    fn default() -> Batch {
        let mut payload = Vec::new();
        entry::begin(&mut payload);
        Batch { payload, reads: Vec::new(), spans: Vec::new(), ops: Vec::new(), evictions: 0 }
    }
}

impl Batch {
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty() && self.evictions == 0
    }

    /// Operations collected.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Bytes of the payload so far.
    pub fn bytes(&self) -> usize {
        self.payload.len()
    }

    #[inline]
    pub fn push_write(
        &mut self,
        client: ConnId,
        command: &'static CommandSpec,
        handler: Handler,
        db: u8,
        silent: bool,
        args: Args<'_>,
    ) {
        let first_span = self.spans.len() as u32;
        entry::put_op(&mut self.payload, OpKind::Command, db, args, &mut self.spans);
        let span_count = args.len() as u32;
        self.ops.push(Op { client, handler, command, db, logged: true, silent, first_span, span_count });
    }

    pub fn push_read(
        &mut self,
        client: ConnId,
        command: &'static CommandSpec,
        handler: Handler,
        db: u8,
        silent: bool,
        args: Args<'_>,
    ) {
        let first_span = self.spans.len() as u32;
        for arg in args.iter() {
            self.spans.push(Span { start: self.reads.len() as u32, len: arg.len() as u32 });
            self.reads.extend_from_slice(arg);
        }
        let span_count = args.len() as u32;
        self.ops.push(Op { client, handler, command, db, logged: false, silent, first_span, span_count });
    }

    /// Adds keys to be evicted. Panics if there are operations already: evictions come first.
    pub fn push_evict(&mut self, db: u8, keys: Args<'_>) {
        assert!(self.ops.is_empty(), "an eviction behind {} operations", self.ops.len());
        let mut ignored = Vec::new();
        entry::put_op(&mut self.payload, OpKind::Evict, db, keys, &mut ignored);
        self.evictions += 1;
    }

    /// Closes the batch: the payload to propose, and what is to be kept until it is applied. Empty afterwards.
    pub fn seal(&mut self, stamp: Millis, seed: u64) -> (Bytes, InFlight) {
        let full = std::mem::take(self);
        let mut payload = full.payload;
        entry::seal(&mut payload, stamp, seed);
        // Roughly as much comes in the next turn.
        self.payload.reserve(payload.len().min(1 << 20));
        self.ops.reserve(full.ops.len().min(4_096));
        self.spans.reserve(full.spans.len().min(16_384));
        (
            Bytes::from(payload),
            InFlight { ops: full.ops, evictions: full.evictions, spans: full.spans, reads: full.reads },
        )
    }
}

impl InFlight {
    /// The arguments of an operation; `payload` is that of the batch's entry.
    #[inline]
    pub fn args<'a>(&'a self, op: &Op, payload: &'a [u8]) -> Args<'a> {
        let buffer = if op.logged { payload } else { &self.reads };
        let first = op.first_span as usize;
        Args::new(buffer, &self.spans[first..first + op.span_count as usize])
    }
}
