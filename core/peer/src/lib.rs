//! Connections between nodes: frames, messages, the handshake, and which connections there should be.
//!
//! Pure. A **link** is one TCP connection between two nodes; it carries messages both ways. [`Links`] says which links
//! to dial and to close, turns their bytes into [`PeerMessage`]s and messages into bytes. What a message means is the
//! node's business. Whatever arrives on a link can close that link and nothing else. Wire format, handshake and
//! invariants: DESIGN.md beside this crate.

mod connect;
mod event;
mod forward;
mod frame;
mod handshake;
mod lanes;
mod link;
mod links;
mod message;
mod receive;

pub use event::{
    LinkInput, LinkLimits, LinkNote, LinkOutput, LinkStats, Me, OUTPUT_BYTES_MAX, PIECE_BYTES_MIN, Peer,
};
pub use forward::{
    AGAIN, Answer, CACHES, FREE, Forward, ForwardAnswers, ForwardReader, NO_TOUCH, READ, RESP3, SILENT,
};
pub use frame::{FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES, FrameReader, HANDSHAKE_BODY_BYTES_MAX, NoFrame};
pub use handshake::{VERSION_MAX, VERSION_MIN};
pub use lanes::PIECE_BYTES_MAX;
pub use links::Links;
pub use message::{
    BEAT_GROUPS_MAX, GroupBeat, JoinAnswer, MESSAGE_BYTES_MAX, Messages, OFFER_NODES_MAX, PeerMessage,
    TEXT_BYTES_MAX, Unblock,
};
