//! A message between two replicas of a group, and its bytes. Who carries it frames it, names the group and checks a
//! checksum; this refuses what no correct peer sends, since the library trusts its input and stops the process on some
//! of it.

use crate::membership::is_change;
use bytes::Bytes;
use raft::eraftpb::{self, ConfState, EntryType, MessageType, Snapshot, SnapshotMetadata};
use skep_base::varint::{self, Malformed, Reader};
use skep_base::{LogId, LogIndex, Millis, NodeId, Term};
use skep_log::Membership;
use std::fmt;

use crate::convert;

/// Entries in one message. A message of the largest usual size holds fewer even if they are empty.
pub const MESSAGE_ENTRIES_MAX: usize = 65_536;
/// Bytes of one entry's payload: twice the largest value that a client can send, with room for the rest of a batch.
pub const PAYLOAD_BYTES_MAX: usize = 1 << 30;
/// Bytes of the tag that a heartbeat carries for a read.
pub const CONTEXT_BYTES_MAX: usize = 64;
/// Nodes in one list of a membership; many times what a group has.
pub const MEMBERS_MAX: usize = 64;

/// The smallest encoded entry: kind, term, index, length.
const ENTRY_BYTES_MIN: usize = 4;

/// Opaque but for its address: what it says is between the two groups.
#[derive(Clone, PartialEq)]
pub struct Message {
    pub(crate) raft: eraftpb::Message,
    /// A leader's clock when it sent this, or the newest such stamp that the sender handled, back to the same leader; 0
    /// says nothing.
    pub(crate) echo: Millis,
}

impl Message {
    pub fn from(&self) -> NodeId {
        NodeId(self.raft.from)
    }

    pub fn to(&self) -> NodeId {
        NodeId(self.raft.to)
    }

    /// 0 for a forwarded read.
    pub fn term(&self) -> Term {
        Term(self.raft.term)
    }

    /// The checkpoint that the receiver needs before this message: it may be given to the receiver's group only when the
    /// checkpoint with this position, fetched from the sender, is complete and durable there. Whether it came to that
    /// is told to the sender's group by [`Input::CheckpointSent`](crate::Input::CheckpointSent).
    pub fn checkpoint(&self) -> Option<LogId> {
        let metadata = &self.raft.snapshot.as_ref()?.metadata;
        Some(LogId { term: Term(metadata.term), index: LogIndex(metadata.index) })
    }

    /// The membership that comes with [`Message::checkpoint`].
    pub fn checkpoint_membership(&self) -> Option<Membership> {
        let metadata = &self.raft.snapshot.as_ref()?.metadata;
        Some(convert::membership_from_library(&metadata.conf_state))
    }

    /// Bytes of payload that it carries; for flow control.
    pub fn payload_bytes(&self) -> usize {
        self.raft.entries.iter().map(|entry| entry.data.len()).sum()
    }

    /// True for what brings entries or a checkpoint: those to one follower must come in the order in which they were sent,
    /// or the follower refuses what has a gap before it, and the leader sends all of it again.
    pub fn is_append(&self) -> bool {
        matches!(self.raft.msg_type, MessageType::MsgAppend | MessageType::MsgSnapshot)
    }

    /// Appends the message's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.encode_with(out, |out, payload| varint::put_bytes(out, payload));
    }

    /// The same, but `put_payload` appends the payload of each entry behind its length, or sees to it that it comes there.
    pub fn encode_with(&self, out: &mut Vec<u8>, mut put_payload: impl FnMut(&mut Vec<u8>, &Bytes)) {
        let m = &self.raft;
        out.push(kind_number(m.msg_type));
        for number in [m.from, m.to, m.term, m.log_term, m.index, m.commit, m.commit_term, m.reject_hint] {
            varint::put(out, number);
        }
        varint::put(out, self.echo.0);
        out.push(u8::from(m.reject));
        varint::put_bytes(out, &m.context);
        varint::put(out, m.entries.len() as u64);
        for entry in &m.entries {
            out.push(match entry.entry_type {
                EntryType::EntryNormal => 0,
                EntryType::EntryConfChangeV2 => 1,
                EntryType::EntryConfChange => panic!("entry {} holds a first-generation change", entry.index),
            });
            varint::put(out, entry.term);
            varint::put(out, entry.index);
            put_payload(out, &entry.data);
        }
        if m.msg_type == MessageType::MsgSnapshot {
            put_checkpoint(out, &m.get_snapshot().metadata);
        }
    }

    /// Reads a message that fills `bytes` to the end. Payloads are copied, so that an entry that stays in the log for long
    /// does not hold the frame that brought it.
    ///
    /// # Errors
    /// [`Malformed`] if it is cut short, breaks a limit, or says what no replica says.
    pub fn decode(bytes: &[u8]) -> Result<Message, Malformed> {
        Message::read(bytes, None)
    }

    /// The same, but a payload that makes up most of the message shares the memory of `bytes`.
    ///
    /// # Errors
    /// As [`Message::decode`].
    pub fn decode_shared(bytes: &Bytes) -> Result<Message, Malformed> {
        Message::read(bytes, Some(bytes))
    }

    fn read(bytes: &[u8], whole: Option<&Bytes>) -> Result<Message, Malformed> {
        let mut reader = Reader::new(bytes);
        let message = read(&mut reader, whole)?;
        reader.end()?;
        Ok(message)
    }
}

/// `part` of what was received as bytes of its own: shared with `whole` if it is most of that, else a copy, so that nothing
/// small holds much memory.
pub fn payload(part: &[u8], whole: Option<&Bytes>) -> Bytes {
    match whole {
        Some(whole) if part.len() > whole.len() / 2 => whole.slice_ref(part),
        _ => Bytes::copy_from_slice(part),
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let m = &self.raft;
        write!(f, "{:?} n{}>n{} t{} at t{}:i{}", m.msg_type, m.from, m.to, m.term, m.log_term, m.index)?;
        write!(f, " commit {} entries {} reject {}", m.commit, m.entries.len(), m.reject)?;
        write!(f, " echo {:?}", self.echo)
    }
}

fn read(reader: &mut Reader<'_>, whole: Option<&Bytes>) -> Result<Message, Malformed> {
    let Some(msg_type) = kind(reader.u8()?) else { return reader.malformed("a kind of message") };
    let mut m = eraftpb::Message {
        msg_type,
        from: reader.varint()?,
        to: reader.varint()?,
        term: reader.varint()?,
        log_term: reader.varint()?,
        index: reader.varint()?,
        commit: reader.varint()?,
        commit_term: reader.varint()?,
        reject_hint: reader.varint()?,
        ..eraftpb::Message::default()
    };
    let echo = Millis(reader.varint()?);
    m.reject = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return reader.malformed("a flag"),
    };
    if echo.0 != 0 && !carries_stamp(msg_type) {
        return reader.malformed("a stamp on a kind of message that has one");
    }
    if m.from == 0 || m.to == 0 {
        return reader.malformed("two nodes");
    }
    // The library takes a message of term 0 for its own; only a forwarded read has none.
    if (m.term == 0) != (msg_type == MessageType::MsgReadIndex) {
        return reader.malformed("a term");
    }
    let context = reader.bytes()?;
    if context.len() > CONTEXT_BYTES_MAX {
        return reader.malformed("a short context");
    }
    m.context = Bytes::copy_from_slice(context);
    read_entries(reader, &mut m, whole)?;
    if msg_type == MessageType::MsgSnapshot {
        let metadata = read_checkpoint(reader)?;
        if metadata.index == 0 || metadata.term == 0 || metadata.term > m.term {
            return reader.malformed("the position of a checkpoint");
        }
        m.set_snapshot(Snapshot { metadata, ..Snapshot::default() });
    }
    Ok(Message { raft: m, echo })
}

fn put_checkpoint(out: &mut Vec<u8>, metadata: &SnapshotMetadata) {
    varint::put(out, metadata.term);
    varint::put(out, metadata.index);
    let members = &metadata.conf_state;
    for list in [&members.voters, &members.learners, &members.voters_outgoing, &members.learners_next] {
        varint::put(out, list.len() as u64);
        for node in list {
            varint::put(out, *node);
        }
    }
    out.push(u8::from(members.auto_leave));
}

fn read_checkpoint(reader: &mut Reader<'_>) -> Result<SnapshotMetadata, Malformed> {
    let mut metadata =
        SnapshotMetadata { term: reader.varint()?, index: reader.varint()?, ..SnapshotMetadata::default() };
    let members = &mut metadata.conf_state;
    members.voters = read_nodes(reader)?;
    members.learners = read_nodes(reader)?;
    members.voters_outgoing = read_nodes(reader)?;
    members.learners_next = read_nodes(reader)?;
    members.auto_leave = match reader.u8()? {
        0 => false,
        1 => true,
        _ => return reader.malformed("a flag"),
    };
    if !is_membership(members) {
        return reader.malformed("a membership that can be");
    }
    Ok(metadata)
}

/// Whether these lists fit each other. Else the library stops the process.
fn is_membership(members: &ConfState) -> bool {
    let ConfState { voters, learners, voters_outgoing: outgoing, learners_next, auto_leave } = members;
    let distinct = |list: &[u64]| (1..list.len()).all(|at| !list[..at].contains(&list[at]));
    let apart = |list: &[u64], other: &[u64]| !list.iter().any(|node| other.contains(node));
    !voters.is_empty()
        && [voters, learners, outgoing, learners_next].into_iter().all(|list| distinct(list))
        && apart(learners, voters)
        && apart(learners, outgoing)
        && apart(learners_next, voters)
        && learners_next.iter().all(|node| outgoing.contains(node))
        && (!auto_leave || !outgoing.is_empty())
}

fn read_nodes(reader: &mut Reader<'_>) -> Result<Vec<u64>, Malformed> {
    let count = reader.count(1)?;
    if count > MEMBERS_MAX {
        return reader.malformed("a short list of nodes");
    }
    let nodes = (0..count).map(|_| reader.varint()).collect::<Result<Vec<_>, _>>()?;
    if nodes.contains(&0) {
        return reader.malformed("a node");
    }
    Ok(nodes)
}

fn read_entries(
    reader: &mut Reader<'_>,
    m: &mut eraftpb::Message,
    whole: Option<&Bytes>,
) -> Result<(), Malformed> {
    let count = reader.count(ENTRY_BYTES_MIN)?;
    let count_fits = match m.msg_type {
        MessageType::MsgAppend => count <= MESSAGE_ENTRIES_MAX,
        MessageType::MsgReadIndex | MessageType::MsgReadIndexResp => count == 1,
        _ => count == 0,
    };
    if !count_fits {
        return reader.malformed("a count of entries that fits the kind of message");
    }
    // The library takes any position that it does not know for one of term 0.
    if m.msg_type == MessageType::MsgAppend && (m.log_term == 0) != (m.index == 0) {
        return reader.malformed("the position of an entry");
    }
    m.entries.reserve_exact(count);
    let (mut index, mut term) = (m.index, m.log_term);
    for _ in 0..count {
        let entry_type = match reader.u8()? {
            0 => EntryType::EntryNormal,
            1 => EntryType::EntryConfChangeV2,
            _ => return reader.malformed("a kind of entry"),
        };
        let entry = eraftpb::Entry {
            entry_type,
            term: reader.varint()?,
            index: reader.varint()?,
            ..eraftpb::Entry::default()
        };
        if m.msg_type == MessageType::MsgAppend {
            let fits = entry.term >= term.max(1) && entry.term <= m.term;
            if index.checked_add(1) != Some(entry.index) || !fits {
                return reader.malformed("an entry that follows the one before");
            }
            (index, term) = (entry.index, entry.term);
        }
        let data = reader.bytes()?;
        if data.len() > PAYLOAD_BYTES_MAX {
            return reader.malformed("a payload within its limit");
        }
        if entry_type == EntryType::EntryConfChangeV2 && !is_change(data) {
            return reader.malformed("a change of the membership");
        }
        m.entries.push(eraftpb::Entry { data: payload(data, whole), ..entry });
    }
    Ok(())
}

/// The kinds that travel. Proposals are never forwarded and leadership is only moved by the leader's own node, so neither
/// has a number.
const KINDS: [(u8, MessageType); 12] = [
    (1, MessageType::MsgAppend),
    (2, MessageType::MsgAppendResponse),
    (3, MessageType::MsgRequestVote),
    (4, MessageType::MsgRequestVoteResponse),
    (5, MessageType::MsgHeartbeat),
    (6, MessageType::MsgHeartbeatResponse),
    (7, MessageType::MsgTimeoutNow),
    (8, MessageType::MsgReadIndex),
    (9, MessageType::MsgReadIndexResp),
    (10, MessageType::MsgRequestPreVote),
    (11, MessageType::MsgRequestPreVoteResponse),
    (12, MessageType::MsgSnapshot),
];

/// What a leader sends to its followers, and their answers.
fn carries_stamp(kind: MessageType) -> bool {
    use MessageType::{MsgAppend, MsgAppendResponse, MsgHeartbeat, MsgHeartbeatResponse};
    matches!(kind, MsgAppend | MsgHeartbeat | MsgAppendResponse | MsgHeartbeatResponse)
}

pub(crate) fn travels(kind: MessageType) -> bool {
    KINDS.iter().any(|(_, known)| *known == kind)
}

fn kind_number(kind: MessageType) -> u8 {
    let found = KINDS.iter().find(|(_, known)| *known == kind);
    found.unwrap_or_else(|| panic!("{kind:?} does not travel between nodes")).0
}

fn kind(number: u8) -> Option<MessageType> {
    KINDS.iter().find(|(known, _)| *known == number).map(|(_, kind)| *kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append() -> Message {
        let entry = |index, term, data: &'static [u8]| eraftpb::Entry {
            index,
            term,
            data: Bytes::from_static(data),
            ..eraftpb::Entry::default()
        };
        let raft = eraftpb::Message {
            msg_type: MessageType::MsgAppend,
            from: 1,
            to: 300,
            term: 7,
            log_term: 5,
            index: 1000,
            commit: 990,
            entries: vec![entry(1001, 5, b""), entry(1002, 7, b"payload")],
            ..eraftpb::Message::default()
        };
        Message { raft, echo: Millis(123_456) }
    }

    fn checkpoint() -> Snapshot {
        let conf_state = eraftpb::ConfState {
            voters: vec![1, 2, 300],
            voters_outgoing: vec![1, 4],
            learners: vec![5],
            learners_next: vec![4],
            ..eraftpb::ConfState::default()
        };
        Snapshot { metadata: SnapshotMetadata { conf_state, index: 70_000, term: 8 }, ..Snapshot::default() }
    }

    fn all_kinds() -> Vec<Message> {
        let mut messages = vec![append()];
        for (_, msg_type) in KINDS {
            let read = matches!(msg_type, MessageType::MsgReadIndex | MessageType::MsgReadIndexResp);
            let raft = eraftpb::Message {
                msg_type,
                from: 2,
                to: 3,
                term: if msg_type == MessageType::MsgReadIndex { 0 } else { 9 },
                commit_term: 8,
                snapshot: (msg_type == MessageType::MsgSnapshot).then(|| Box::new(checkpoint())),
                reject_hint: 77,
                reject: true,
                context: Bytes::from_static(b"CampaignTransfer"),
                entries: if read { vec![eraftpb::Entry::default()] } else { Vec::new() },
                ..eraftpb::Message::default()
            };
            let echo = Millis(if carries_stamp(msg_type) { 700 } else { 0 });
            messages.push(Message { raft, echo });
        }
        messages
    }

    #[test]
    fn every_kind_round_trips_and_refuses_every_prefix() {
        for message in all_kinds() {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            assert_eq!(Message::decode(&bytes).unwrap(), message);
            for cut in 0..bytes.len() {
                assert!(Message::decode(&bytes[..cut]).is_err(), "{message:?} cut at {cut}");
            }
            bytes.push(0);
            assert!(Message::decode(&bytes).is_err(), "{message:?} with a byte too many");
        }
    }

    #[test]
    fn flipped_bytes_never_panic_nor_decode_to_the_same() {
        for message in all_kinds() {
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut damaged = bytes.clone();
                    damaged[at] ^= 1 << bit;
                    if let Ok(other) = Message::decode(&damaged) {
                        assert_ne!(other, message, "bit {bit} of byte {at} means nothing");
                    }
                }
            }
        }
    }

    #[test]
    fn noise_never_panics() {
        let mut rng = skep_base::Rng::new(1);
        for _ in 0..20_000 {
            let mut noise: Vec<u8> = (0..rng.below(60)).map(|_| rng.below(16) as u8).collect();
            if let Some(first) = noise.first_mut() {
                *first = 1 + *first % 12;
            }
            if let Ok(message) = Message::decode(&noise) {
                let mut bytes = Vec::new();
                message.encode(&mut bytes);
                assert_eq!(Message::decode(&bytes), Ok(message));
            }
        }
    }

    #[test]
    fn what_no_replica_says_is_refused() {
        fn refused_with(change: impl Fn(&mut eraftpb::Message)) {
            let mut message = append();
            change(&mut message.raft);
            let mut bytes = Vec::new();
            message.encode(&mut bytes);
            assert!(Message::decode(&bytes).is_err(), "{message:?}");
        }
        let refused = |change: fn(&mut eraftpb::Message)| refused_with(change);
        refused(|m| m.term = 0);
        refused(|m| m.from = 0);
        refused(|m| m.to = 0);
        refused(|m| m.index = 1);
        refused(|m| m.index = u64::MAX);
        refused(|m| m.log_term = 6);
        refused(|m| m.log_term = 0);
        refused(|m| {
            (m.log_term, m.index) = (0, 0);
            (m.entries[0].term, m.entries[0].index, m.entries[1].index) = (0, 1, 2);
        });
        refused(|m| m.entries[1].entry_type = EntryType::EntryConfChangeV2);
        refused(|m| m.term = 6);
        refused(|m| m.msg_type = MessageType::MsgHeartbeat);
        refused(|m| m.context = Bytes::from_static(&[0; CONTEXT_BYTES_MAX + 1]));
        let refused_checkpoint = |change: fn(&mut SnapshotMetadata)| {
            refused_with(|m| {
                m.msg_type = MessageType::MsgSnapshot;
                m.entries.clear();
                let mut snapshot = checkpoint();
                change(&mut snapshot.metadata);
                m.set_snapshot(snapshot);
            })
        };
        refused_checkpoint(|metadata| metadata.index = 0);
        refused_checkpoint(|metadata| metadata.term = 0);
        refused_checkpoint(|metadata| metadata.term = 8);
        refused_checkpoint(|metadata| metadata.conf_state.voters.clear());
        refused_checkpoint(|metadata| metadata.conf_state.voters.push(300));
        refused_checkpoint(|metadata| metadata.conf_state.learners = vec![2]);
        refused_checkpoint(|metadata| metadata.conf_state.learners = vec![4]);
        refused_checkpoint(|metadata| metadata.conf_state.learners_next = vec![2]);
        refused_checkpoint(|metadata| metadata.conf_state.learners_next = vec![5]);
        refused_checkpoint(|metadata| {
            let members = &mut metadata.conf_state;
            (members.voters_outgoing, members.learners_next) = (Vec::new(), Vec::new());
            members.auto_leave = true;
        });
        refused_checkpoint(|metadata| metadata.conf_state.learners = vec![0]);
        refused_checkpoint(|metadata| metadata.conf_state.learners = vec![9; MEMBERS_MAX + 1]);
    }
}
