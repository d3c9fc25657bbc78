//! What cells write to each other.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use skep_base::{Args, ConnId, GroupId, NodeId, Span};
use skep_keyspace::scripts::ScriptNote;
use skep_peer::PeerMessage;
use skep_placement::{MetaCommand, MetaState};
use skep_pubsub::{Counts, Source};
use skep_resp::Reply;

use super::{Cells, Part, Report, WideAsk};
use crate::batch::{Asker, Call, Origin, Unblock};

/// Mail of a turn from one cell to another, in order.
pub struct Mail {
    pub(crate) from: usize,
    pub(crate) messages: Vec<Message>,
}

impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} messages from cell {}", self.messages.len(), self.from)
    }
}

pub(crate) enum Message {
    // ---- between any two ---------------------------------------------------------------------------------------------
    /// Operations of the sender's clients on shards whose home the receiver is.
    Ops(Ops),
    Replies(Replies),
    /// Operations of the receiver's clients that wait at the sender, and are not counted as on their way.
    Parked(Call),
    /// What a script of one of the receiver's clients did here.
    OfScript {
        conn: ConnId,
        notes: Vec<ScriptNote>,
    },
    /// A client of the sender told all shards to forget what scripts they know.
    ScriptsFlushed,
    /// An operation of one of the sender's clients shall wait no more.
    Withdraw {
        group: GroupId,
        asker: Asker,
        end: Unblock,
    },
    /// What a cell has to say to a command about the whole node.
    Part {
        number: u64,
        part: Box<Result<Part, skep_base::Refusal>>,
    },

    /// Messages that were published here, for the receiver's clients; the hub sends them to all nodes.
    Published {
        batch: Bytes,
    },
    /// The sender has taken so many bytes of [`Message::Published`].
    PublishedTaken {
        bytes: u64,
    },
    /// How many clients of the source listen to what; the hub tells the nodes what its own cells say.
    Subscribers {
        source: Source,
        run: u64,
        counts: Counts,
    },

    /// One of the sender's clients watches no longer what is sent to this node.
    MonitorLeft,
    /// Lines for the monitors.
    Shown(Vec<u8>),
    /// What happened to keys, as `notify::codec` writes it.
    KeyEvents {
        batch: Bytes,
    },

    /// Whether the sender has clients that are told of keys.
    Tracks {
        is_on: bool,
    },
    /// For a client of the receiver that is told in the place of the sender's; without keys, that all have changed.
    Redirected {
        from: ConnId,
        to: ConnId,
        keys: Option<Vec<Vec<u8>>>,
    },
    /// Whoever was told in the place of this client is gone.
    RedirectBroken {
        conn: ConnId,
    },

    // ---- to the hub --------------------------------------------------------------------------------------------------
    Report(Box<Report>),
    /// For another node, if it still is in the run that the sender means.
    Send {
        node: NodeId,
        incarnation: u64,
        message: PeerMessage,
    },
    /// The sender must know a meta state that is not old.
    ReadMeta {
        number: u64,
    },
    /// A change that the sender wants made; it asks again until the state has it.
    Wish(MetaCommand),
    /// A client asked the node to stop.
    Stop,
    /// A command about the whole node, to be passed to all cells.
    Ask(WideAsk),

    // ---- from the hub ------------------------------------------------------------------------------------------------
    View(Box<View>),
    /// Whether the clients of a node want to hear of keys.
    KeyEventsWanted {
        node: NodeId,
        wanted: bool,
    },
    /// The founding is durable, the first record of this shard with it.
    Founded(GroupId),
    /// A link to a node is up; what is sent there takes another way than before.
    PeerUp {
        node: NodeId,
        incarnation: u64,
        another_way: bool,
    },
    /// A link to or from a node is gone; if what was sent took this way, whether there is another.
    PeerDown {
        node: NodeId,
        lost_way: Option<bool>,
    },
    /// What a node said; `ahead` of appends that wait with the hub on their way to it.
    Received {
        node: NodeId,
        incarnation: u64,
        message: PeerMessage,
        ahead: bool,
    },
    /// A checkpoint's message could not be sent.
    Undelivered {
        group: GroupId,
        to: NodeId,
    },
    /// The state of the last view is as new as the read of this number asks for.
    MetaRead {
        number: u64,
    },
    /// A shard should rather be led by another node.
    Lead {
        group: GroupId,
        to: NodeId,
    },
    Asked(WideAsk),
}

/// What the hub tells all cells, when it changes.
#[derive(Clone, Default)]
pub(crate) struct View {
    pub id: NodeId,
    pub meta: Arc<MetaState>,
    /// The state has all that the log held at the start.
    pub caught_up: bool,
    pub ready: bool,
    /// The disk does not answer, some cell says.
    pub slow: bool,
    /// Some cell has keys to evict.
    pub evicts: bool,
    /// Memory is short, some cell says: a cell that has no turns of its own is to look.
    pub short: bool,
    pub handing_over: bool,
    /// New commands are refused.
    pub stopping: bool,
    /// No operation is between cells any more.
    pub finishing: bool,
    pub stopped: bool,
}

impl View {
    pub fn is_same(&self, other: &View) -> bool {
        let flags = |v: &View| {
            [
                v.caught_up,
                v.ready,
                v.slow,
                v.evicts,
                v.short,
                v.handing_over,
                v.stopping,
                v.finishing,
                v.stopped,
            ]
        };
        self.id == other.id && Arc::ptr_eq(&self.meta, &other.meta) && flags(self) == flags(other)
    }
}

/// Operations on their way to the home of their shards.
#[derive(Default)]
pub(crate) struct Ops {
    ops: Vec<CarriedOp>,
    spans: Vec<Span>,
    bytes: Vec<u8>,
}

struct CarriedOp {
    group: GroupId,
    call: Call,
    first_span: u32,
    span_count: u32,
}

impl Ops {
    fn push(&mut self, group: GroupId, call: Call, args: Args<'_>) {
        let first_span = self.spans.len() as u32;
        for arg in args.iter() {
            self.spans.push(Span { start: self.bytes.len() as u32, len: arg.len() as u32 });
            self.bytes.extend_from_slice(arg);
        }
        self.ops.push(CarriedOp { group, call, first_span, span_count: args.len() as u32 });
    }

    pub fn iter(&self) -> impl Iterator<Item = (GroupId, Call, Args<'_>)> {
        self.ops.iter().map(|op| {
            let first = op.first_span as usize;
            let spans = &self.spans[first..first + op.span_count as usize];
            (op.group, op.call, Args::new(&self.bytes, spans))
        })
    }
}

/// Replies on their way to the cell whose clients wait for them.
#[derive(Default)]
pub(crate) struct Replies {
    /// Each with the end of its bytes.
    calls: Vec<(Call, usize)>,
    bytes: Vec<u8>,
}

impl Replies {
    pub fn iter(&self) -> impl Iterator<Item = (Call, &[u8])> {
        let mut start = 0;
        self.calls.iter().map(move |(call, end)| {
            let bytes = &self.bytes[start..*end];
            start = *end;
            (*call, bytes)
        })
    }
}

/// Bytes of operations or replies after which another message is begun, so that no buffer of theirs grows to be moved again
/// and again, and spans stay within 32 bits: one operation is 1 GiB at the most.
const CARRIED_BYTES_MAX: usize = 1 << 20;

impl Cells {
    /// Gives an operation of an own client to the home of its shard. It is counted as on its way until its reply comes or word that
    /// it waits there.
    pub fn give(&mut self, to: usize, group: GroupId, mut call: Call, args: Args<'_>) {
        if let Origin::Client { weight, .. } = &mut call.origin {
            *weight = weight_of(args);
            self.open_elsewhere += 1;
            self.bytes_elsewhere += u64::from(*weight);
        }
        let outbox = &mut self.outbox[to];
        if !matches!(outbox.last(), Some(Message::Ops(ops)) if ops.bytes.len() < CARRIED_BYTES_MAX) {
            outbox.push(Message::Ops(Ops::default()));
        }
        let Some(Message::Ops(ops)) = outbox.last_mut() else { return };
        ops.push(group, call, args);
    }

    /// Writes the reply to another cell's operation.
    pub fn reply(&mut self, to: usize, call: &Call, write: impl FnOnce(&mut Reply<'_>)) {
        let outbox = &mut self.outbox[to];
        if !matches!(outbox.last(), Some(Message::Replies(r)) if r.bytes.len() < CARRIED_BYTES_MAX) {
            outbox.push(Message::Replies(Replies::default()));
        }
        let Some(Message::Replies(replies)) = outbox.last_mut() else { return };
        write(&mut Reply::new(&mut replies.bytes, call.protocol));
        replies.calls.push((*call, replies.bytes.len()));
    }
}

/// What an operation is counted for among those given to other cells: its message and its reply take about that much more.
fn weight_of(args: Args<'_>) -> u32 {
    u32::try_from(args.bytes() + 128).unwrap_or(u32::MAX)
}
