//! One link: where its handshake stands, and its buffers.

use skep_base::{GroupId, LinkId, Millis};

use crate::event::Peer;
use crate::frame::{self, BUFFER_BYTES_KEPT, FRAME_BODY_BYTES_FULL, FRAME_HEADER_BYTES, FrameReader};
use crate::handshake::{Nonce, Transcript};
use crate::lanes::{Arriving, Waiting};
use crate::message::{APPENDS, URGENT_LANE, lane_of};
use crate::{FRAME_BODY_BYTES_MAX, HANDSHAKE_BODY_BYTES_MAX, PeerMessage};

/// Pieces in frames that are ready to leave, before what is not urgent waits and no more pieces are put there.
const READY_PIECES: usize = 2;

pub(crate) struct Link {
    pub id: LinkId,
    /// The address dialed, or the one it was accepted from.
    pub address: String,
    pub dialed: bool,
    pub state: State,
    /// What this node said of itself here, once it has.
    pub said: Option<Said>,
    /// When it was dialed, its connection stood, or it was up, whichever was last.
    pub since: Millis,
    /// When the other side last gave a sign of life: bytes came, or it took some of what was waiting for it.
    pub moved: Millis,
    /// When the other side was last asked for a sign of life.
    pub asked: Millis,
    pub input: FrameReader,
    pub arriving: Arriving,
    pub output: Outgoing,
}

/// What this node said of itself on a link.
pub(crate) struct Said {
    pub public: Peer,
    pub nonce: Nonce,
    pub raw: Vec<u8>,
}

pub(crate) enum State {
    /// The connection does not stand yet.
    Dialing,
    /// The dialer's hello is out.
    AwaitsWelcome,
    /// The acceptor has said nothing yet.
    AwaitsHello,
    /// The acceptor's welcome is out.
    AwaitsProof {
        peer: Peer,
        transcript: Transcript,
    },
    Up {
        peer: Peer,
    },
    /// A refusal is out; the other side closes when it has read it, or the time of the handshake is over.
    Refused {
        reason: String,
    },
    /// To be closed at the next chance to say so.
    Doomed {
        peer: Option<Peer>,
        reason: String,
    },
}

impl Link {
    pub fn is_up(&self) -> bool {
        matches!(self.state, State::Up { .. })
    }

    pub fn peer(&self) -> Option<&Peer> {
        match &self.state {
            State::Up { peer } => Some(peer),
            _ => None,
        }
    }

    /// Gives up the link, and what it was to send, at a moment when nobody can be told.
    pub fn doom(&mut self, reason: String) {
        self.output.clear();
        let peer = self.peer().cloned();
        self.state = State::Doomed { peer, reason };
    }

    /// False if nothing that the other side sends matters any more.
    pub fn listens(&self) -> bool {
        !matches!(self.state, State::Dialing | State::Refused { .. } | State::Doomed { .. })
    }

    /// The largest body of a frame that the other side may send in this state.
    pub fn body_bytes_max(&self) -> usize {
        if self.is_up() { FRAME_BODY_BYTES_MAX } else { HANDSHAKE_BODY_BYTES_MAX }
    }
}

/// Bytes on their way out: what has left, sealed frames, and a frame that is still open, in this order; and behind them the
/// lanes of what waits.
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    /// Where the open frame begins.
    open: Option<usize>,
    waiting: Waiting,
    /// See [`LinkLimits::piece_bytes`](crate::LinkLimits::piece_bytes).
    piece_bytes: usize,
    /// True while the link is in the list of those with something to send.
    pub listed: bool,
    /// True while the link is in the list of those that were given something in this turn.
    pub unflushed: bool,
}

impl Outgoing {
    pub fn new(piece_bytes: usize) -> Outgoing {
        Outgoing {
            bytes: Vec::new(),
            sent: 0,
            open: None,
            waiting: Waiting::default(),
            piece_bytes,
            listed: false,
            unflushed: false,
        }
    }

    /// Appends whole frames by `put`.
    pub fn put_frames(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        assert!(self.open.is_none(), "a frame within a frame");
        put(&mut self.bytes);
    }

    /// Appends a message to the open frame, or to its lane if it is long or something must leave before it. Returns
    /// whether that completed a frame.
    pub fn put_message(&mut self, message: &PeerMessage) -> bool {
        let lane = message.lane(self.piece_bytes);
        let waits = self.waiting.holds(lane)
            || lane != URGENT_LANE && !self.has_room()
            || message.payload_bytes() > self.piece_bytes;
        if waits {
            self.waiting.push(lane, message, self.piece_bytes);
            return false;
        }
        let was_open = self.open.is_some();
        let open = self.open();
        let before = self.bytes.len();
        message.encode(&mut self.bytes);
        if self.bytes.len() - before > self.piece_bytes {
            self.waiting.push_encoded(lane, self.bytes.split_off(before));
            if !was_open {
                self.bytes.truncate(open);
                self.open = None;
            }
            return false;
        }
        self.seal_if_full()
    }

    /// Appends a message of the link itself by `put`. Returns whether that completed a frame.
    pub fn put_small(&mut self, put: impl FnOnce(&mut Vec<u8>)) -> bool {
        self.open();
        put(&mut self.bytes);
        self.seal_if_full()
    }

    fn open(&mut self) -> usize {
        *self.open.get_or_insert_with(|| frame::begin(&mut self.bytes))
    }

    fn seal_if_full(&mut self) -> bool {
        let full = self
            .open
            .is_some_and(|open| self.bytes.len() - open - FRAME_HEADER_BYTES >= FRAME_BODY_BYTES_FULL);
        full && self.seal()
    }

    /// True while what is not urgent may be put into frames.
    fn has_room(&self) -> bool {
        self.bytes.len() - self.sent < READY_PIECES * self.piece_bytes
    }

    /// Makes frames of what waits, as many as should be ready. Returns their number.
    pub fn refill(&mut self) -> u64 {
        let mut frames = 0;
        while self.open.is_none() && self.waiting.bytes() > 0 && self.has_room() {
            self.open();
            self.waiting.give_piece(&mut self.bytes, self.piece_bytes);
            self.seal();
            frames += 1;
        }
        frames
    }

    /// True if something waits in a lane.
    pub fn holds_any(&self) -> bool {
        self.waiting.bytes() > 0
    }

    /// True if appends of a group wait.
    pub fn holds_appends(&self, group: GroupId) -> bool {
        self.waiting.holds(lane_of(group, APPENDS))
    }

    /// Closes the open frame. False if there is none.
    pub fn seal(&mut self) -> bool {
        let Some(open) = self.open.take() else { return false };
        frame::seal(&mut self.bytes, open);
        true
    }

    pub fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Whole frames that wait to be sent.
    pub fn unsent(&self) -> &[u8] {
        &self.bytes[self.sent..self.open.unwrap_or(self.bytes.len())]
    }

    /// Bytes that wait, those of the open frame included.
    pub fn waiting(&self) -> usize {
        self.bytes.len() - self.sent + self.waiting.bytes()
    }

    /// Takes note that the first `bytes` of [`unsent`](Self::unsent) have left.
    pub fn on_sent(&mut self, bytes: usize) {
        let unsent = self.unsent().len();
        assert!(bytes <= unsent, "{bytes} bytes were sent of {unsent}");
        self.sent += bytes;
        if self.sent == self.bytes.len() {
            self.empty();
        } else if self.sent > BUFFER_BYTES_KEPT && self.sent > self.bytes.len() - self.sent {
            // Moves less than has left since the last time.
            self.bytes.drain(..self.sent);
            self.open = self.open.map(|open| open - self.sent);
            self.sent = 0;
        }
    }

    /// Drops everything that waits.
    pub fn clear(&mut self) {
        self.empty();
        self.waiting = Waiting::default();
    }

    fn empty(&mut self) {
        if self.bytes.capacity() > BUFFER_BYTES_KEPT {
            self.bytes = Vec::new();
        } else {
            self.bytes.clear();
        }
        (self.sent, self.open) = (0, None);
    }

    /// INV-PEER-4.
    pub fn assert_invariants(&self) {
        let sealed = self.open.unwrap_or(self.bytes.len());
        assert!(
            self.sent <= sealed && sealed <= self.bytes.len(),
            "INV-PEER-4: {} sent and {sealed} sealed of {} bytes",
            self.sent,
            self.bytes.len()
        );
        assert!(self.open.is_none() || self.unflushed, "INV-PEER-4: a frame is open that nobody will close");
        if let Some(open) = self.open {
            assert!(
                self.bytes.len() > open + FRAME_HEADER_BYTES,
                "INV-PEER-4: an open frame without a message"
            );
            assert!(
                self.bytes.len() - open - FRAME_HEADER_BYTES < FRAME_BODY_BYTES_FULL,
                "INV-PEER-4: a full frame is open"
            );
        }
        self.waiting.assert_invariants();
    }
}
