//! What [`Links`](crate::Links) is told, what it answers, and the limits it keeps.

use std::fmt;

use skep_base::{LinkId, NodeId, NodeUuid};

use crate::{PIECE_BYTES_MAX, PeerMessage};

/// What this node says of itself to every other, and the password that both must know.
#[derive(Clone, PartialEq, Eq)]
pub struct Me {
    pub uuid: NodeUuid,
    /// 0 if no cluster has given it one yet.
    pub node: NodeId,
    /// Empty if it belongs to no cluster. At most [`TEXT_BYTES_MAX`](crate::TEXT_BYTES_MAX), as is `name`.
    pub cluster_id: String,
    /// Another in each run of the node.
    pub incarnation: u64,
    pub name: String,
    /// May be empty, if it is on all nodes.
    pub password: Vec<u8>,
}

impl Me {
    /// What the other side gets to know.
    pub fn public(&self) -> Peer {
        Peer {
            uuid: self.uuid,
            node: self.node,
            cluster_id: self.cluster_id.clone(),
            incarnation: self.incarnation,
            name: self.name.clone(),
        }
    }
}

impl fmt::Debug for Me {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.public().fmt(f)
    }
}

/// Who is on the other side of a link. Proved to know the password; the rest is its word.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Peer {
    pub uuid: NodeUuid,
    /// 0 if no cluster has given it one yet.
    pub node: NodeId,
    /// Empty if it belongs to no cluster.
    pub cluster_id: String,
    pub incarnation: u64,
    pub name: String,
}

/// What happened to a connection.
#[derive(Debug)]
pub enum LinkInput<'a> {
    /// The connection asked for by [`LinkOutput::Dial`] stands.
    Dialed { link: LinkId },
    /// The other side sent bytes.
    Received { link: LinkId, bytes: &'a [u8] },
    /// The connection is gone, or could not be made.
    Closed { link: LinkId, reason: String },
    /// The instant of [`Links::next_wakeup`](crate::Links::next_wakeup), or any other. Given after the bytes that have
    /// arrived, so that a node that was stopped for a while does not take its peers for silent.
    Tick,
}

/// What should happen, in this order.
#[derive(Debug, PartialEq)]
pub enum LinkOutput {
    /// Connect to `address`, then answer `Dialed` or `Closed`.
    Dial { link: LinkId, address: String },
    /// Close the connection, or give up making it. Nothing more is said of this link, and nothing more need be told.
    Close { link: LinkId },
    /// The handshake is over: messages may be sent.
    Up {
        link: LinkId,
        peer: Peer,
        /// The address, if this node dialed it.
        dialed: Option<String>,
    },
    /// The peer said something.
    Message { link: LinkId, message: PeerMessage },
    /// The link is gone; what was not received by now is lost. Comes once for each link that was dialed or accepted;
    /// `peer` is there if it was up.
    Down { link: LinkId, peer: Option<Peer>, reason: String },
    /// The address leads to this node.
    SelfFound { address: String },
    /// For the node's operator.
    Note(LinkNote),
}

/// Something an operator may want to read in the node's log. The same reason is given at most once in a minute.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum LinkNote {
    /// The node at `address` wants no link with this one.
    RefusedBy { address: String, reason: String },
    /// This node wants no link with the one at `address`.
    Refused { address: String, reason: String },
    /// A link was closed since it broke the protocol, was silent or did not take what it was sent.
    Broken { address: String, reason: String },
}

impl LinkNote {
    pub fn reason(&self) -> &str {
        let (LinkNote::RefusedBy { reason, .. }
        | LinkNote::Refused { reason, .. }
        | LinkNote::Broken { reason, .. }) = self;
        reason
    }
}

impl fmt::Display for LinkNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkNote::RefusedBy { address, reason } => {
                write!(f, "refused by the node at {address}: {reason}")
            }
            LinkNote::Refused { address, reason } => write!(f, "refused the node at {address}: {reason}"),
            LinkNote::Broken { address, reason } => write!(f, "closed the link with {address}: {reason}"),
        }
    }
}

/// What [`Links`](crate::Links) allows. The defaults are for production; tests make some smaller.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LinkLimits {
    /// Accepted links at once: many times what the peers of a cluster need, few enough to look at each in a tick.
    pub accepted_max: usize,
    /// For connecting, and again for the handshake. Longer than any round trip; the other side holds a place meanwhile.
    pub handshake_ms_max: u64,
    /// A link on which nothing moved for so long is dead. A dialed link is asked for a sign of life five times as often.
    pub silent_ms_max: u64,
    /// Before a lost link is dialed again; doubles with each failure.
    pub back_off_ms_min: u64,
    pub back_off_ms_max: u64,
    /// Before an address that led to this node itself is tried again: names may come to mean another machine.
    pub self_retry_ms: u64,
    /// Unsent bytes of one link. The node's flow control keeps them far below; past it the peer has stopped reading, and
    /// its link is closed rather than this node's memory filled. One largest message and half as much again.
    pub output_bytes_max: usize,
    /// Longer messages are cut into pieces of so many bytes, between which others leave. From [`PIECE_BYTES_MIN`] to
    /// [`PIECE_BYTES_MAX`](crate::PIECE_BYTES_MAX).
    pub piece_bytes: usize,
}

impl Default for LinkLimits {
    fn default() -> LinkLimits {
        LinkLimits {
            accepted_max: 64,
            handshake_ms_max: 2_000,
            silent_ms_max: 10_000,
            back_off_ms_min: 50,
            back_off_ms_max: 2_000,
            self_retry_ms: 30_000,
            output_bytes_max: OUTPUT_BYTES_MAX,
            piece_bytes: PIECE_BYTES_MAX,
        }
    }
}

/// See [`LinkLimits::output_bytes_max`].
pub const OUTPUT_BYTES_MAX: usize = 3 << 29;

/// See [`LinkLimits::piece_bytes`]; so few that only simulations choose them.
pub const PIECE_BYTES_MIN: usize = 64;

/// Counters since creation, and what there is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct LinkStats {
    pub up: usize,
    pub accepted: u64,
    pub dialed: u64,
    /// Connections not accepted since there were too many.
    pub turned_away: u64,
    /// Handshakes that either side declined.
    pub refused: u64,
    /// Links closed since they broke the protocol, were silent or did not take what they were sent.
    pub broken: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub frames_in: u64,
    pub frames_out: u64,
    pub messages_in: u64,
    pub messages_out: u64,
    /// Parts of messages that were long, or that waited behind others.
    pub pieces_in: u64,
    pub pieces_out: u64,
}
