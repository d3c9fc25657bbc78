//! One link: where its handshake stands, and its buffers.

use skep_base::{LinkId, Millis};

use crate::event::Peer;
use crate::frame::{self, BUFFER_BYTES_KEPT, FRAME_BODY_BYTES_FULL, FRAME_HEADER_BYTES, FrameReader};
use crate::handshake::{Nonce, Transcript};
use crate::{FRAME_BODY_BYTES_MAX, HANDSHAKE_BODY_BYTES_MAX};

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

/// Bytes on their way out: what has left, sealed frames, and a frame that is still open, in this order.
#[derive(Default)]
pub(crate) struct Outgoing {
    bytes: Vec<u8>,
    sent: usize,
    /// Where the open frame begins.
    open: Option<usize>,
    /// True while the link is in the list of those with something to send.
    pub listed: bool,
}

impl Outgoing {
    /// Appends whole frames by `put`.
    pub fn put_frames(&mut self, put: impl FnOnce(&mut Vec<u8>)) {
        assert!(self.open.is_none(), "a frame within a frame");
        put(&mut self.bytes);
    }

    /// Appends a message by `put`. Returns whether that completed a frame.
    pub fn put_message(&mut self, put: impl FnOnce(&mut Vec<u8>)) -> bool {
        let open = *self.open.get_or_insert_with(|| frame::begin(&mut self.bytes));
        put(&mut self.bytes);
        let full = self.bytes.len() - open - FRAME_HEADER_BYTES >= FRAME_BODY_BYTES_FULL;
        full && self.seal()
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
        self.bytes.len() - self.sent
    }

    /// Takes note that the first `bytes` of [`unsent`](Self::unsent) have left.
    pub fn on_sent(&mut self, bytes: usize) {
        let unsent = self.unsent().len();
        assert!(bytes <= unsent, "{bytes} bytes were sent of {unsent}");
        self.sent += bytes;
        if self.waiting() == 0 {
            self.clear();
        } else if self.sent > BUFFER_BYTES_KEPT && self.sent > self.waiting() {
            // Moves less than has left since the last time.
            self.bytes.drain(..self.sent);
            self.open = self.open.map(|open| open - self.sent);
            self.sent = 0;
        }
    }

    /// Drops everything that waits.
    pub fn clear(&mut self) {
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_base::Rng;

    #[test]
    fn what_is_sent_in_any_portions_is_every_frame_in_order() {
        for seed in 0..4 {
            let mut rng = Rng::new(seed);
            let (mut out, mut written, mut sent) = (Outgoing::default(), Vec::new(), Vec::new());
            for number in 0..200u32 {
                let bound = if rng.one_in(20) { 1_500_000 } else { 50_000 };
                let len = rng.below(bound) as usize + 4;
                let message: Vec<u8> = number.to_le_bytes().into_iter().cycle().take(len).collect();
                out.put_message(|out| out.extend_from_slice(&message));
                written.extend_from_slice(&message);
                if rng.one_in(3) {
                    out.seal();
                }
                let portion = rng.below(out.unsent().len().min(120_000) as u64 + 1) as usize;
                sent.extend_from_slice(&out.unsent()[..portion]);
                out.on_sent(portion);
                out.assert_invariants();
                assert!(out.bytes.len() <= 2 * out.waiting() + BUFFER_BYTES_KEPT, "what has left is kept");
            }
            out.seal();
            sent.extend_from_slice(out.unsent());
            out.on_sent(out.unsent().len());
            assert_eq!(out.waiting(), 0);
            let (mut reader, mut rest, mut read) = (FrameReader::new(), &sent[..], Vec::new());
            while let Some(body) = reader.next(&mut rest, FRAME_BODY_BYTES_MAX).unwrap() {
                read.extend_from_slice(body);
            }
            assert!(read == written, "seed {seed}: {} bytes were read of {}", read.len(), written.len());
        }
    }
}
