//! Messages between nodes changed on their way, for planted bugs: what a wrong node would have said.

use skep_base::LogIndex;
use skep_base::varint::{self, Reader};
use skep_consensus::Message;
use skep_peer::{
    Answer, FRAME_BODY_BYTES_MAX, FRAME_HEADER_BYTES, ForwardAnswers, FrameReader, Messages, PeerMessage,
};

/// The kinds of a Raft message that acknowledges entries, asks whether its sender leads, and says so.
const APPEND_RESPONSE: u8 = 2;
const HEARTBEAT: u8 = 5;
const HEARTBEAT_RESPONSE: u8 = 6;

/// Reads the frames of one way of a connection and writes them again with other messages.
#[derive(Default)]
pub struct Rewriter {
    reader: FrameReader,
}

impl Rewriter {
    /// Whole frames in place of those that `bytes` completes.
    pub fn pass(&mut self, mut bytes: &[u8], mut rewrite: impl FnMut(PeerMessage) -> PeerMessage) -> Vec<u8> {
        let mut out = Vec::new();
        while let Ok(Some(body)) = self.reader.next(&mut bytes, FRAME_BODY_BYTES_MAX) {
            let mut rewritten = Vec::new();
            for message in Messages::new(body) {
                let Ok((kind, fields)) = message else { continue };
                match PeerMessage::decode(kind, fields) {
                    Ok(message) => rewrite(message).encode(&mut rewritten),
                    // Of the handshake.
                    Err(_) => {
                        rewritten.push(kind);
                        rewritten.extend_from_slice(&(fields.len() as u32).to_le_bytes());
                        rewritten.extend_from_slice(fields);
                    }
                }
            }
            put_frame(&mut out, &rewritten);
        }
        out
    }
}

fn put_frame(out: &mut Vec<u8>, body: &[u8]) {
    let mut header = (body.len() as u32).to_le_bytes().to_vec();
    header.extend_from_slice(&crc32c::crc32c(body).to_le_bytes());
    let crc = crc32c::crc32c(&header);
    header.extend_from_slice(&crc.to_le_bytes());
    assert_eq!(header.len(), FRAME_HEADER_BYTES, "the header of a frame has another form");
    out.extend_from_slice(&header);
    out.extend_from_slice(body);
}

/// A follower acknowledges all that `last` says its leader has, whatever it has itself.
pub fn acknowledge_all(message: PeerMessage, last: impl Fn(skep_base::GroupId) -> LogIndex) -> PeerMessage {
    let PeerMessage::Raft { group, message: raft } = message else { return message };
    let mut bytes = Vec::new();
    raft.encode(&mut bytes);
    let accepts = bytes[0] == APPEND_RESPONSE && format!("{raft:?}").contains("reject false");
    let changed = if accepts { with_index(&bytes, last(group)) } else { None };
    PeerMessage::Raft { group, message: changed.unwrap_or(raft) }
}

/// The frame in which the receiver of a leader's question for a read would say that it leads, if the message is that.
pub fn confirmation(message: &PeerMessage) -> Option<Vec<u8>> {
    let PeerMessage::Raft { group, message: raft } = message else { return None };
    let mut bytes = Vec::new();
    raft.encode(&mut bytes);
    let mut reader = Reader::new(&bytes[1..]);
    let numbers = (0..8).map(|_| reader.varint()).collect::<Result<Vec<u64>, _>>().ok()?;
    let (_stamp, _reject) = (reader.varint().ok()?, reader.u8().ok()?);
    let context = reader.bytes().ok()?;
    if bytes[0] != HEARTBEAT || context.is_empty() {
        return None;
    }
    let mut answer = vec![HEARTBEAT_RESPONSE];
    // Back to the leader in its term, with no position, no stamp, no refusal and no entries.
    for number in [numbers[1], numbers[0], numbers[2], 0, 0, 0, 0, 0, 0, 0] {
        varint::put(&mut answer, number);
    }
    varint::put_bytes(&mut answer, context);
    varint::put(&mut answer, 0);
    let message = Message::decode(&answer).expect("a heartbeat's answer has this form");
    let (mut body, mut frame) = (Vec::new(), Vec::new());
    PeerMessage::Raft { group: *group, message }.encode(&mut body);
    put_frame(&mut frame, &body);
    Some(frame)
}

/// The same message with another index, if that is later.
fn with_index(bytes: &[u8], index: LogIndex) -> Option<Message> {
    let mut reader = Reader::new(&bytes[1..]);
    let mut changed = vec![bytes[0]];
    for _ in 0..4 {
        varint::put(&mut changed, reader.varint().ok()?); // from, to, term, term of the entry
    }
    varint::put(&mut changed, reader.varint().ok()?.max(index.0));
    changed.extend_from_slice(&bytes[1 + reader.offset()..]);
    Message::decode(&changed).ok()
}

/// A leader says of what it has carried out that it has not.
pub fn deny_answers(message: PeerMessage) -> PeerMessage {
    let PeerMessage::ForwardAnswers(answers) = message else { return message };
    let mut denied = ForwardAnswers::new(answers.group, answers.term);
    for (number, index, _) in answers.iter() {
        denied.push(number, index, Answer::NotDone);
    }
    PeerMessage::ForwardAnswers(denied)
}
