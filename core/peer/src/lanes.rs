//! What waits behind more urgent messages: one queue for each lane, cut into pieces that take turns.
//!
//! A message goes straight into a frame while there is little in front of it. Else it waits in the queue of its lane, and so
//! does what follows it there: messages of one lane come in the order in which they were sent (INV-PEER-5). The lanes give
//! a piece in turn, each when nearly all in front of it has left. So whatever is sent waits behind few pieces, however large
//! the messages in the queues are.

use std::collections::VecDeque;

use bytes::Bytes;
use skep_base::varint::{Malformed, Reader, put, put_bytes};

use crate::PeerMessage;
use crate::message::{self, MESSAGE_BYTES_MAX, MESSAGE_HEADER_BYTES};

/// Kind of a piece, one of the link's own messages. Fields: lane u8, number of the piece in its lane, and to the end whole
/// messages, or a part of one that is longer.
pub(crate) const PIECE: u8 = 7;

/// Lanes of a link. Lane 0 is for what is small and urgent; [`PeerMessage::lane`] says which message goes where.
pub(crate) const LANES: usize = 64;

/// Bytes of messages in one piece: half a millisecond of a network of 1 Gbit/s. A longer message is cut, a shorter one never.
pub const PIECE_BYTES_MAX: usize = 64 << 10;

/// A piece and all around it: kind, length, lane and number.
pub(crate) const PIECE_MESSAGE_BYTES_MAX: usize = MESSAGE_HEADER_BYTES + 1 + 10 + PIECE_BYTES_MAX;

/// Bytes of messages of which some pieces have come and some not, over all lanes: one of the largest, or several that are as
/// long together. Both sides keep to it.
pub(crate) const CUT_BYTES_MAX: usize = MESSAGE_HEADER_BYTES + MESSAGE_BYTES_MAX;

/// A run of small messages ends when it has this, so that the memory of what has left is given back soon.
const RUN_BYTES_FULL: usize = 1 << 20;

/// Payloads from here on are shared with whoever else has them, in place of a copy.
const SHARED_BYTES_MIN: usize = 16 << 10;

/// Messages of one link that wait.
#[derive(Default)]
pub(crate) struct Waiting {
    /// Empty until the first message waits.
    lanes: Vec<Lane>,
    /// One bit for each lane in which something waits.
    busy: u64,
    /// The lane that gave a piece last.
    last: u32,
    bytes: usize,
    /// Bytes of the messages of which some pieces were given and some not.
    cut_bytes: usize,
}

#[derive(Default)]
struct Lane {
    queue: VecDeque<Queued>,
    /// Pieces given so far.
    pieces: u64,
}

enum Queued {
    /// Small messages in a row, and how many bytes of them were given.
    Run { bytes: Vec<u8>, given: usize },
    /// The parts of a message that is longer than a piece, less what was given of the first.
    Long { parts: VecDeque<Bytes>, left: usize, len: usize },
}

impl Waiting {
    /// Bytes of all that waits.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// True if something waits in `lane`.
    #[inline]
    pub fn holds(&self, lane: usize) -> bool {
        self.busy & 1 << lane != 0
    }

    /// Appends a message to the queue of its lane. Cost: a copy of its bytes, but for large payloads of a long message.
    pub fn push(&mut self, lane: usize, message: &PeerMessage, piece_bytes: usize) {
        if message.payload_bytes() > piece_bytes {
            return self.push_long(lane, parts_of(message));
        }
        let run = self.run(lane);
        let before = run.len();
        message.encode(run);
        let len = run.len() - before;
        if len <= piece_bytes {
            self.bytes += len;
        } else {
            let long = run.split_off(before);
            if before == 0 {
                self.lanes[lane].queue.pop_back();
            }
            self.push_long(lane, VecDeque::from([Bytes::from(long)]));
        }
    }

    /// Appends a message that is longer than a piece and encoded already.
    pub fn push_encoded(&mut self, lane: usize, message: Vec<u8>) {
        self.push_long(lane, VecDeque::from([Bytes::from(message)]));
    }

    fn push_long(&mut self, lane: usize, parts: VecDeque<Bytes>) {
        let len = parts.iter().map(Bytes::len).sum();
        self.lane(lane).queue.push_back(Queued::Long { parts, left: len, len });
        self.bytes += len;
    }

    /// The run at the end of a lane's queue.
    fn run(&mut self, lane: usize) -> &mut Vec<u8> {
        let queue = &mut self.lane(lane).queue;
        let goes_on = matches!(queue.back(), Some(Queued::Run { bytes, .. }) if bytes.len() < RUN_BYTES_FULL);
        if !goes_on {
            queue.push_back(Queued::Run { bytes: Vec::new(), given: 0 });
        }
        match queue.back_mut() {
            Some(Queued::Run { bytes, .. }) => bytes,
            _ => unreachable!("a run was put there"),
        }
    }

    fn lane(&mut self, lane: usize) -> &mut Lane {
        if self.lanes.is_empty() {
            self.lanes.resize_with(LANES, Lane::default);
        }
        self.busy |= 1 << lane;
        &mut self.lanes[lane]
    }

    /// Appends the next piece to `out`, as a message of the link. False if nothing waits.
    pub fn give_piece(&mut self, out: &mut Vec<u8>, piece_bytes: usize) -> bool {
        let Some(number) = self.next_lane() else { return false };
        self.last = number;
        let lane = &mut self.lanes[number as usize];
        let start = message::begin(out, PIECE);
        out.push(number as u8);
        put(out, lane.pieces);
        lane.pieces += 1;
        let before = out.len();
        let front = lane.queue.front_mut().expect("a busy lane has something");
        let is_over = match front {
            Queued::Run { bytes, given } => {
                *given += give_whole(&bytes[*given..], piece_bytes, out);
                *given == bytes.len()
            }
            Queued::Long { parts, left, len } => {
                let was_whole = left == len;
                give_part(parts, piece_bytes, out);
                *left -= out.len() - before;
                match (was_whole, *left == 0) {
                    (true, false) => self.cut_bytes += *len,
                    (false, true) => self.cut_bytes -= *len,
                    _ => {}
                }
                *left == 0
            }
        };
        if is_over {
            lane.queue.pop_front();
        }
        if lane.queue.is_empty() {
            self.busy &= !(1 << number);
        }
        self.bytes -= out.len() - before;
        message::end(out, start);
        true
    }

    /// The lane whose turn it is. One whose message would be too much beside those that are under way waits until one of
    /// these is over.
    fn next_lane(&self) -> Option<u32> {
        let from = (self.last + 1) % LANES as u32;
        let mut busy = self.busy.rotate_right(from);
        while busy != 0 {
            let lane = (busy.trailing_zeros() + from) % LANES as u32;
            match self.lanes[lane as usize].queue.front() {
                Some(Queued::Long { left, len, .. })
                    if left == len && self.cut_bytes > 0 && self.cut_bytes + len > CUT_BYTES_MAX => {}
                _ => return Some(lane),
            }
            busy &= busy - 1;
        }
        None
    }

    /// INV-PEER-4.
    pub fn assert_invariants(&self) {
        let (mut bytes, mut cut) = (0, 0);
        for (number, lane) in self.lanes.iter().enumerate() {
            assert!(lane.queue.is_empty() != self.holds(number), "INV-PEER-4: lane {number} is busy or not");
            for queued in &lane.queue {
                match queued {
                    Queued::Run { bytes: run, given } => bytes += run.len() - given,
                    Queued::Long { left, len, .. } => {
                        bytes += left;
                        cut += if left == len { 0 } else { *len };
                    }
                }
            }
        }
        assert_eq!((bytes, cut), (self.bytes, self.cut_bytes), "INV-PEER-4: bytes that wait, bytes cut");
        assert!(cut <= CUT_BYTES_MAX, "INV-PEER-4: {cut} bytes of messages are cut");
    }
}

/// Appends the whole messages at the front of `run` that fit into a piece, one at least. Gives their bytes.
fn give_whole(run: &[u8], piece_bytes: usize, out: &mut Vec<u8>) -> usize {
    let mut given = 0;
    while given < run.len() {
        let len = message::encoded_len(&run[given..]).expect("a run holds whole messages");
        if given > 0 && given + len > piece_bytes {
            break;
        }
        given += len;
    }
    out.extend_from_slice(&run[..given]);
    given
}

fn give_part(parts: &mut VecDeque<Bytes>, piece_bytes: usize, out: &mut Vec<u8>) {
    let mut room = piece_bytes;
    while room > 0
        && let Some(part) = parts.front_mut()
    {
        let piece = part.split_to(part.len().min(room));
        out.extend_from_slice(&piece);
        room -= piece.len();
        if part.is_empty() {
            parts.pop_front();
        }
    }
}

/// The message's bytes, with its large payloads shared.
fn parts_of(message: &PeerMessage) -> VecDeque<Bytes> {
    // Parts that are written here in front of one that is shared.
    let mut parts: Vec<(Vec<u8>, Bytes)> = Vec::new();
    let mut own = Vec::new();
    message::begin(&mut own, message.kind());
    message.put_fields(&mut own, |own, payload| {
        if payload.len() < SHARED_BYTES_MIN {
            return put_bytes(own, payload);
        }
        put(own, payload.len() as u64);
        parts.push((std::mem::take(own), payload.clone()));
    });
    parts.push((own, Bytes::new()));
    let len = parts.iter().map(|(own, shared)| own.len() + shared.len()).sum();
    message::set_len(&mut parts[0].0, len);
    let parts = parts.into_iter().flat_map(|(own, shared)| [Bytes::from(own), shared]);
    parts.filter(|part| !part.is_empty()).collect()
}

/// What came of each lane of one link.
#[derive(Default)]
pub(crate) struct Arriving {
    lanes: Vec<ArrivingLane>,
    /// Bytes of the messages that have come in part.
    cut_bytes: usize,
}

#[derive(Default)]
struct ArrivingLane {
    /// Of the next piece.
    number: u64,
    /// What has come of a message that is to have `wanted` bytes.
    buffer: Vec<u8>,
    wanted: usize,
}

/// A message that came in a lane: in one piece, or in several and then alone in its memory.
pub(crate) enum Arrived<'a> {
    Within(&'a [u8]),
    Alone(Bytes),
}

impl Arriving {
    /// Takes a piece, and gives each message that it completes, kind and fields, to `each`.
    ///
    /// # Errors
    /// Why no correct node sends this; the link cannot go on.
    ///
    /// Cost: a copy of what does not end in this piece; all copies of a message together are less than three times its bytes.
    pub fn take(
        &mut self,
        fields: &[u8],
        mut each: impl FnMut(u8, Arrived<'_>) -> Result<(), Malformed>,
    ) -> Result<(), String> {
        let bad = |error: Malformed| format!("bad piece: {error}");
        let mut reader = Reader::new(fields);
        let (at, number) = (usize::from(reader.u8().map_err(bad)?), reader.varint().map_err(bad)?);
        let mut piece = reader.take(reader.left()).map_err(bad)?;
        if at >= LANES || piece.is_empty() || piece.len() > PIECE_BYTES_MAX {
            return Err(format!("piece of {} bytes of lane {at}", piece.len()));
        }
        if self.lanes.len() <= at {
            self.lanes.resize_with(at + 1, ArrivingLane::default);
        }
        let lane = &mut self.lanes[at];
        if lane.number != number {
            return Err(format!("piece {number} of lane {at} came in place of {}", lane.number));
        }
        lane.number += 1;
        if lane.wanted > 0 {
            if !lane.collect(&mut piece) {
                return Ok(());
            }
            if !piece.is_empty() {
                return Err(format!("{} bytes behind the end of a message in pieces", piece.len()));
            }
            self.cut_bytes -= std::mem::take(&mut lane.wanted);
            let message = Bytes::from(std::mem::take(&mut lane.buffer));
            return each(message[0], Arrived::Alone(message.slice(MESSAGE_HEADER_BYTES..))).map_err(bad);
        }
        while !piece.is_empty() {
            let Some(len) = message::encoded_len(piece) else {
                return Err(format!("{} bytes that begin no message", piece.len()));
            };
            if let Some((message, after)) = piece.split_at_checked(len) {
                each(message[0], Arrived::Within(&message[MESSAGE_HEADER_BYTES..])).map_err(bad)?;
                piece = after;
                continue;
            }
            self.cut_bytes += len;
            if self.cut_bytes > CUT_BYTES_MAX {
                return Err(format!(
                    "{} bytes of messages in pieces, limit is {CUT_BYTES_MAX}",
                    self.cut_bytes
                ));
            }
            lane.wanted = len;
            lane.collect(&mut piece);
        }
        Ok(())
    }

    /// INV-PEER-3.
    pub fn assert_invariants(&self) {
        let wanted: usize = self.lanes.iter().map(|lane| lane.wanted).sum();
        assert_eq!(wanted, self.cut_bytes, "INV-PEER-3: bytes of messages in pieces");
        assert!(wanted <= CUT_BYTES_MAX, "INV-PEER-3: {wanted} bytes of messages in pieces");
        for lane in &self.lanes {
            let (held, came) = (lane.buffer.capacity(), lane.buffer.len());
            assert!(held <= 2 * came, "INV-PEER-3: {held} bytes are allocated for {came} that came");
        }
    }
}

impl ArrivingLane {
    /// Moves bytes from `piece` until the message is whole. True if it is.
    fn collect(&mut self, piece: &mut &[u8]) -> bool {
        let have = self.buffer.len();
        let (taken, after) = piece.split_at(piece.len().min(self.wanted - have));
        if self.buffer.capacity() < have + taken.len() {
            // Doubles, so that all moves together are linear, but never past the end: what is announced and does not come
            // takes no memory, and the last one leaves no slack.
            let target = (2 * have).clamp(have + taken.len(), self.wanted);
            self.buffer.reserve_exact(target - have);
        }
        self.buffer.extend_from_slice(taken);
        *piece = after;
        self.buffer.len() == self.wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use skep_base::{GroupId, LogId, Term};

    use crate::{Answer, ForwardAnswers};

    fn message(kind: u8, number: u64, len: usize) -> PeerMessage {
        let bytes = Bytes::from(vec![number as u8; len]);
        match kind {
            0 => PeerMessage::MetaAsk { number, command: bytes },
            1 => {
                let mut answers = ForwardAnswers::new(GroupId(number % 2), Term(1));
                answers.push(number, 0, Answer::Reply(&bytes));
                PeerMessage::ForwardAnswers(answers)
            }
            _ => PeerMessage::CheckpointPiece {
                group: GroupId(number % 3),
                at: LogId::default(),
                chunk: number,
                bytes,
                last: false,
            },
        }
    }

    /// Takes a piece as it was given, and notes the messages that it completes.
    fn deliver(arriving: &mut Arriving, given: &[u8], came: &mut [Vec<PeerMessage>]) {
        let fields = &given[MESSAGE_HEADER_BYTES..];
        let lane = &mut came[usize::from(fields[0])];
        let taken = arriving.take(fields, |kind, arrived| {
            lane.push(match arrived {
                Arrived::Within(fields) => PeerMessage::decode(kind, fields)?,
                Arrived::Alone(fields) => PeerMessage::decode_shared(kind, &fields)?,
            });
            Ok(())
        });
        taken.expect("pieces are as they should be");
        arriving.assert_invariants();
    }

    proptest! {
        #[test]
        fn each_lane_gives_what_was_put_into_it_in_order(
            piece_bytes in 64..3_000usize,
            steps in proptest::collection::vec((0..4u8, 0..20_000usize, any::<bool>()), 1..60),
        ) {
            let (mut waiting, mut arriving) = (Waiting::default(), Arriving::default());
            let mut put = vec![Vec::new(); LANES];
            let mut came = vec![Vec::new(); LANES];
            let mut out = Vec::new();
            for (number, (kind, len, long)) in steps.into_iter().enumerate() {
                if kind == 3 {
                    if waiting.give_piece(&mut out, piece_bytes) {
                        deliver(&mut arriving, &out, &mut came);
                    }
                } else {
                    let message = message(kind, number as u64, if long { len } else { len % 50 });
                    let lane = message.lane(piece_bytes);
                    waiting.push(lane, &message, piece_bytes);
                    prop_assert!(waiting.holds(lane));
                    put[lane].push(message);
                }
                waiting.assert_invariants();
                out.clear();
            }
            while waiting.give_piece(&mut out, piece_bytes) {
                prop_assert!(out.len() <= PIECE_MESSAGE_BYTES_MAX - PIECE_BYTES_MAX + piece_bytes);
                deliver(&mut arriving, &out, &mut came);
                waiting.assert_invariants();
                out.clear();
            }
            prop_assert_eq!(waiting.bytes(), 0);
            prop_assert!(came == put);
        }
    }

    #[test]
    fn a_payload_that_is_most_of_its_message_is_copied_once_on_each_way() {
        let payload = Bytes::from(vec![7; 1 << 20]);
        let mut sent = message(2, 3, 0);
        if let PeerMessage::CheckpointPiece { bytes, .. } = &mut sent {
            *bytes = payload.clone();
        }
        let parts = parts_of(&sent);
        assert!(parts.iter().any(|part| part.as_ptr() == payload.as_ptr()), "it is shared while it waits");
        let whole: Vec<u8> = parts.iter().flatten().copied().collect();
        let fields = Bytes::from(whole).slice(MESSAGE_HEADER_BYTES..);
        let Ok(PeerMessage::CheckpointPiece { bytes, .. }) = PeerMessage::decode_shared(21, &fields) else {
            panic!("another message")
        };
        assert!(bytes == payload && fields.as_ptr_range().contains(&bytes.as_ptr()), "it keeps what came");
        let Ok(PeerMessage::CheckpointPiece { bytes, .. }) = PeerMessage::decode(21, &fields) else {
            panic!("another message")
        };
        assert!(!fields.as_ptr_range().contains(&bytes.as_ptr()));
    }
}
