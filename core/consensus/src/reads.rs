//! Linearizable reads that wait for a quorum to confirm the leader. The library drops some silently, so each has a
//! deadline, and all unconfirmed ones are given up when leadership changes.

use crate::ReadId;
use skep_base::varint::{self, Reader};
use skep_base::{LogIndex, Millis, NodeId};
use std::collections::VecDeque;

/// Reads that may wait at once; a node asks once per turn for all its readers, so this is a hundred turns.
pub(crate) const READS_MAX: usize = 128;

/// More reads than a group can be asked for in a millisecond of its life; leaves room for 500 years.
const READS_PER_MS_BITS: u32 = 20;

struct Waiting {
    read: ReadId,
    deadline: Millis,
    /// What must be applied before the read, once a quorum has confirmed it.
    index: Option<LogIndex>,
}

/// In the order they were asked for.
pub(crate) struct Reads {
    node: NodeId,
    incarnation: u64,
    next: u64,
    waiting: VecDeque<Waiting>,
}

impl Reads {
    pub fn new(node: NodeId, incarnation: u64) -> Reads {
        Reads { node, incarnation, next: 1, waiting: VecDeque::new() }
    }

    /// The first event came at `now`. A group that is removed from a node and made again within a run of it must not use its
    /// contexts again (INV-CONSENSUS-8), so that they are counted from the time it was made.
    pub fn begin(&mut self, now: Millis) {
        self.next = (now.0 << READS_PER_MS_BITS) + 1;
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// A new read, and the context that names it for ever.
    pub fn add(&mut self, deadline: Millis) -> (ReadId, Vec<u8>) {
        let read = ReadId { node: self.node, incarnation: self.incarnation, number: self.next };
        self.next += 1;
        self.waiting.push_back(Waiting { read, deadline, index: None });
        let mut context = Vec::with_capacity(12);
        for number in [read.node.0, read.incarnation, read.number] {
            varint::put(&mut context, number);
        }
        (read, context)
    }

    /// A quorum confirmed the read with this context: it may happen once `index` is applied.
    pub fn confirm(&mut self, context: &[u8], index: LogIndex) {
        let Some(read) = parse(context) else { return };
        if let Some(found) = self.waiting.iter_mut().find(|waiting| waiting.read == read) {
            found.index = Some(index);
        }
    }

    /// Takes out the reads that may happen now that `applied` is applied.
    pub fn ready(&mut self, applied: LogIndex, mut each: impl FnMut(ReadId)) {
        self.waiting.retain(|waiting| {
            let ready = waiting.index.is_some_and(|index| index <= applied);
            if ready {
                each(waiting.read);
            }
            !ready
        });
    }

    /// Takes out the reads that no quorum confirmed before their deadline.
    pub fn expire(&mut self, now: Millis, mut each: impl FnMut(ReadId)) {
        self.waiting.retain(|waiting| {
            let late = waiting.index.is_none() && waiting.deadline <= now;
            if late {
                each(waiting.read);
            }
            !late
        });
    }

    /// Takes out all reads that no quorum has confirmed.
    pub fn drop_unconfirmed(&mut self, mut each: impl FnMut(ReadId)) {
        self.waiting.retain(|waiting| {
            if waiting.index.is_none() {
                each(waiting.read);
            }
            waiting.index.is_some()
        });
    }
}

fn parse(context: &[u8]) -> Option<ReadId> {
    let mut reader = Reader::new(context);
    let read = ReadId {
        node: NodeId(reader.varint().ok()?),
        incarnation: reader.varint().ok()?,
        number: reader.varint().ok()?,
    };
    reader.end().ok().map(|()| read)
}
