//! What nodes say to each other, and its bytes: kind u8, length u32, fields. In a field: numbers are LEB128, bytes and texts
//! stand behind their length, ids of 128 bits are little-endian.
//!
//! Decoding refuses what no correct node sends. It allocates no more than a small multiple of what arrived.

use bytes::Bytes;
use skep_base::varint::{Malformed, Reader, put, put_bytes};
use skep_base::{GroupId, LogId, LogIndex, NodeId, NodeUuid, Term};
use skep_consensus::PAYLOAD_BYTES_MAX;

use crate::forward::{Forward, ForwardAnswers};
use crate::lanes::LANES;

/// Bytes of one message: a largest payload of a log entry, and room for all that stands around it or was batched
/// before it.
pub const MESSAGE_BYTES_MAX: usize = PAYLOAD_BYTES_MAX + (32 << 20);
/// Nodes in one offer; more than a list of addresses has by far.
pub const OFFER_NODES_MAX: usize = 4_096;
/// Groups that one node leads; a cluster has tens, perhaps thousands.
pub const BEAT_GROUPS_MAX: usize = 65_536;
/// Bytes of a name, a cluster's id or a reason. Longer reasons are cut.
pub const TEXT_BYTES_MAX: usize = 4_096;

/// Kind and length.
pub(crate) const MESSAGE_HEADER_BYTES: usize = 5;

/// The lane of what is small and waits for nothing.
pub(crate) const URGENT_LANE: usize = 0;
/// Lanes of one group, and how many groups have their own.
pub(crate) const APPENDS: u64 = 0;
const FORWARDS: u64 = 1;
const ANSWERS: u64 = 2;
const LONG_ANSWERS: u64 = 3;
const CHECKPOINT: u64 = 4;
const LANE_CLASSES: u64 = 5;
const LANE_GROUPS: u64 = 12;
/// Messages of clients, and who listens to them.
const PUBSUB_LANE: usize = LANES - 1;
const _: () = assert!(LANE_CLASSES * LANE_GROUPS < PUBSUB_LANE as u64);

/// Kinds below belong to the link itself: the handshake, and signs of life.
const RAFT: u8 = 16;
const FORWARD: u8 = 17;
const FORWARD_ANSWERS: u8 = 18;
const FORWARD_REJECTED: u8 = 19;
const CHECKPOINT_ASK: u8 = 20;
const CHECKPOINT_PIECE: u8 = 21;
const CHECKPOINT_GONE: u8 = 22;
const CHECKPOINT_TAKEN: u8 = 23;
const OFFER: u8 = 24;
const JOIN_ASK: u8 = 25;
const JOIN_ANSWER: u8 = 26;
const META_ASK: u8 = 27;
const META_ANSWER: u8 = 28;
const BEAT: u8 = 29;
const STATE_DIGEST: u8 = 30;
const FORWARD_FLOOR: u8 = 31;
const CHECKPOINT_WANTED: u8 = 32;
const CHECKPOINT_OFFERED: u8 = 33;
const PUBLISHED: u8 = 34;
const SUBSCRIBERS: u8 = 35;
const WITHDRAW: u8 = 36;
const KEY_EVENTS: u8 = 37;
const KEY_EVENTS_WANTED: u8 = 38;

/// What one node says to another over a link that is up.
#[derive(Clone, PartialEq, Debug)]
pub enum PeerMessage {
    /// From one replica of a group to another.
    Raft {
        group: GroupId,
        message: skep_consensus::Message,
    },
    /// Operations of the sender's clients, for the leader of a group.
    Forward(Forward),
    /// What became of forwarded operations.
    ForwardAnswers(ForwardAnswers),
    /// The forward `number` and all later ones of its session were not carried out and will not be.
    ForwardRejected {
        group: GroupId,
        term: Term,
        number: u64,
        leader: Option<NodeId>,
        leader_term: Term,
    },
    /// The sender has the answers to all that it forwarded to the leader of `group` in `term` before `floor`, or wants them no
    /// more.
    ForwardFloor {
        group: GroupId,
        term: Term,
        floor: u64,
    },
    /// A forwarded operation that waits at the leader of `group` in `term` shall wait no more. It is answered accordingly, if it
    /// is not answered already.
    Withdraw {
        group: GroupId,
        term: Term,
        number: u64,
        index: u32,
        end: Unblock,
    },
    /// Asks for a piece of a checkpoint's file; pieces count from 0.
    CheckpointAsk {
        group: GroupId,
        at: LogId,
        chunk: u64,
    },
    CheckpointPiece {
        group: GroupId,
        at: LogId,
        chunk: u64,
        bytes: Bytes,
        last: bool,
    },
    /// There is no such checkpoint any more.
    CheckpointGone {
        group: GroupId,
        at: LogId,
    },
    /// The checkpoint is durable at the receiver, or was given up.
    CheckpointTaken {
        group: GroupId,
        at: LogId,
        arrived: bool,
    },
    /// Between nodes that belong to no cluster: whom the sender has met, and whether that is all whom it was told to meet.
    Offer {
        met: Vec<NodeUuid>,
        complete: bool,
    },
    /// Asks to become a node of the receiver's cluster. The asker's uuid is known from the handshake.
    /// `replaces` is the node whose data this machine lost, if it was one; that one is gone for ever.
    JoinAsk {
        replaces: Option<NodeId>,
        record: Bytes,
    },
    JoinAnswer(JoinAnswer),
    /// A change of the meta state, for the meta group's leader.
    MetaAsk {
        number: u64,
        command: Bytes,
    },
    /// `retry`: it was not carried out, and may be asked again of whoever leads.
    MetaAnswer {
        number: u64,
        refused: Option<String>,
        retry: bool,
    },
    /// The sender lives, and has replicas of these groups.
    Beat {
        groups: Vec<GroupBeat>,
        /// Its disk takes what it is given, and it is not about to stop.
        may_lead: bool,
    },
    /// What the sender's state of a group came to at a position of its log.
    StateDigest {
        group: GroupId,
        at: LogId,
        digest: u64,
    },
    /// The sender's replica is to be rebuilt from a checkpoint of the receiver's at a position behind this one.
    CheckpointWanted {
        group: GroupId,
        behind: LogIndex,
    },
    /// The sender has this checkpoint, which can be asked for piece by piece.
    CheckpointOffered {
        group: GroupId,
        at: LogId,
    },
    /// What clients of the sender have published, as `pubsub::Batch` writes it.
    Published {
        batch: Bytes,
    },
    /// How many clients of one of the sender's cells listen to what; see `pubsub::Counts`.
    Subscribers {
        cell: u16,
        version: u64,
        is_first: bool,
        counts: Bytes,
    },
    /// What happened to keys of shards that the sender leads and the receiver has no replica of.
    KeyEvents {
        batch: Bytes,
    },
    /// Whether clients of the sender want to hear of keys.
    KeyEventsWanted {
        wanted: bool,
    },
}

/// Why an operation waits no more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unblock {
    /// As if its time were over.
    Timeout,
    /// Somebody said so: with an error.
    Error,
    /// Its client is gone: nobody wants an answer.
    Gone,
    /// Its node stops: with an error.
    Stopping,
}

/// A replica of the sender of a [`PeerMessage::Beat`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GroupBeat {
    pub group: GroupId,
    /// The term in which it leads, which is not 0.
    pub leads: Option<Term>,
    /// It leads, sends no heartbeats, and has nothing but what is applied: this beat stands for one.
    pub rests: bool,
    /// The last entry that it has applied.
    pub applied: LogIndex,
    /// Its state is known to be wrong and is being replaced: it shall not lead, nor does it serve.
    pub rebuilding: bool,
}

/// Answer to [`PeerMessage::JoinAsk`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum JoinAnswer {
    Joined {
        node: NodeId,
        cluster_id: String,
    },
    /// Ask again, this node or another.
    Later,
    Refused {
        reason: String,
    },
}

impl PeerMessage {
    /// Appends the message, kind and length included. A refusal's text is cut at [`TEXT_BYTES_MAX`].
    ///
    /// # Panics
    /// If it breaks a limit of this module: whoever builds messages keeps them smaller.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let start = begin(out, self.kind());
        self.put_fields(out, |out, payload| put_bytes(out, payload));
        end(out, start);
    }

    /// The lane of the link that it takes, if it is not sent at once: messages of one lane come in the order in which they
    /// were sent, and what is in different lanes may overtake. Which needs to come in order, and why the rest need not:
    /// DESIGN.md.
    pub(crate) fn lane(&self, piece_bytes: usize) -> usize {
        match self {
            PeerMessage::Raft { group, message } if message.is_append() => lane_of(*group, APPENDS),
            PeerMessage::Forward(forward) => lane_of(forward.group, FORWARDS),
            PeerMessage::ForwardAnswers(answers) if answers.bytes() > piece_bytes => {
                lane_of(answers.group, LONG_ANSWERS)
            }
            PeerMessage::ForwardAnswers(answers) => lane_of(answers.group, ANSWERS),
            PeerMessage::CheckpointPiece { group, .. } => lane_of(*group, CHECKPOINT),
            PeerMessage::Published { .. }
            | PeerMessage::Subscribers { .. }
            | PeerMessage::KeyEvents { .. }
            | PeerMessage::KeyEventsWanted { .. } => PUBSUB_LANE,
            _ => URGENT_LANE,
        }
    }

    /// Most of its bytes; cheap to know.
    pub(crate) fn payload_bytes(&self) -> usize {
        match self {
            PeerMessage::Raft { message, .. } => message.payload_bytes(),
            PeerMessage::Forward(forward) => forward.bytes(),
            PeerMessage::ForwardAnswers(answers) => answers.bytes(),
            PeerMessage::CheckpointPiece { bytes, .. } => bytes.len(),
            PeerMessage::Published { batch } | PeerMessage::KeyEvents { batch } => batch.len(),
            PeerMessage::Subscribers { counts, .. } => counts.len(),
            _ => 0,
        }
    }

    pub(crate) fn kind(&self) -> u8 {
        match self {
            PeerMessage::Raft { .. } => RAFT,
            PeerMessage::Forward(_) => FORWARD,
            PeerMessage::ForwardAnswers(_) => FORWARD_ANSWERS,
            PeerMessage::ForwardRejected { .. } => FORWARD_REJECTED,
            PeerMessage::ForwardFloor { .. } => FORWARD_FLOOR,
            PeerMessage::Withdraw { .. } => WITHDRAW,
            PeerMessage::CheckpointAsk { .. } => CHECKPOINT_ASK,
            PeerMessage::CheckpointPiece { .. } => CHECKPOINT_PIECE,
            PeerMessage::CheckpointGone { .. } => CHECKPOINT_GONE,
            PeerMessage::CheckpointTaken { .. } => CHECKPOINT_TAKEN,
            PeerMessage::Offer { .. } => OFFER,
            PeerMessage::JoinAsk { .. } => JOIN_ASK,
            PeerMessage::JoinAnswer(_) => JOIN_ANSWER,
            PeerMessage::MetaAsk { .. } => META_ASK,
            PeerMessage::MetaAnswer { .. } => META_ANSWER,
            PeerMessage::Beat { .. } => BEAT,
            PeerMessage::StateDigest { .. } => STATE_DIGEST,
            PeerMessage::CheckpointWanted { .. } => CHECKPOINT_WANTED,
            PeerMessage::CheckpointOffered { .. } => CHECKPOINT_OFFERED,
            PeerMessage::Published { .. } => PUBLISHED,
            PeerMessage::Subscribers { .. } => SUBSCRIBERS,
            PeerMessage::KeyEvents { .. } => KEY_EVENTS,
            PeerMessage::KeyEventsWanted { .. } => KEY_EVENTS_WANTED,
        }
    }

    /// Appends the fields; `put_payload` appends a payload behind its length, or sees to it that it comes there.
    pub(crate) fn put_fields(&self, out: &mut Vec<u8>, mut put_payload: impl FnMut(&mut Vec<u8>, &Bytes)) {
        match self {
            PeerMessage::Raft { group, message } => {
                put(out, group.0);
                message.encode_with(out, put_payload);
            }
            PeerMessage::Forward(forward) => forward.put(out),
            PeerMessage::ForwardAnswers(answers) => answers.put(out),
            PeerMessage::ForwardRejected { group, term, number, leader, leader_term } => {
                let leader = leader.unwrap_or_default();
                [group.0, term.0, *number, leader.0, leader_term.0].iter().for_each(|n| put(out, *n));
            }
            PeerMessage::ForwardFloor { group, term, floor } => {
                [group.0, term.0, *floor].iter().for_each(|n| put(out, *n));
            }
            PeerMessage::Withdraw { group, term, number, index, end } => {
                [group.0, term.0, *number, u64::from(*index)].iter().for_each(|n| put(out, *n));
                out.push(*end as u8);
            }
            PeerMessage::CheckpointAsk { group, at, chunk } => {
                put_position(out, *group, *at);
                put(out, *chunk);
            }
            PeerMessage::CheckpointPiece { group, at, chunk, bytes, last } => {
                put_position(out, *group, *at);
                put(out, *chunk);
                out.push(u8::from(*last));
                put_payload(out, bytes);
            }
            PeerMessage::CheckpointGone { group, at } => put_position(out, *group, *at),
            PeerMessage::CheckpointTaken { group, at, arrived } => {
                put_position(out, *group, *at);
                out.push(u8::from(*arrived));
            }
            PeerMessage::Offer { met, complete } => {
                assert!(
                    met.len() <= OFFER_NODES_MAX,
                    "offer of {} nodes, limit is {OFFER_NODES_MAX}",
                    met.len()
                );
                out.push(u8::from(*complete));
                put(out, met.len() as u64);
                met.iter().for_each(|uuid| put_uuid(out, *uuid));
            }
            PeerMessage::JoinAsk { replaces, record } => {
                put(out, replaces.map_or(0, |node| node.0));
                put_bytes(out, record);
            }
            PeerMessage::JoinAnswer(answer) => put_join_answer(out, answer),
            PeerMessage::MetaAsk { number, command } => {
                put(out, *number);
                put_bytes(out, command);
            }
            PeerMessage::MetaAnswer { number, refused, retry } => {
                put(out, *number);
                out.push(u8::from(*retry) | u8::from(refused.is_some()) << 1);
                put_text(out, refused.as_deref().unwrap_or_default());
            }
            PeerMessage::Beat { groups, may_lead } => {
                let count = groups.len();
                assert!(count <= BEAT_GROUPS_MAX, "beat of {count} groups, limit is {BEAT_GROUPS_MAX}");
                out.push(u8::from(*may_lead));
                put(out, count as u64);
                for GroupBeat { group, leads, rests, applied, rebuilding } in groups {
                    put(out, group.0);
                    put(out, leads.map_or(0, |term| term.0));
                    put(out, applied.0);
                    out.push(u8::from(*rebuilding) | u8::from(*rests) << 1);
                }
            }
            PeerMessage::StateDigest { group, at, digest } => {
                put_position(out, *group, *at);
                out.extend_from_slice(&digest.to_le_bytes());
            }
            PeerMessage::CheckpointWanted { group, behind } => {
                put(out, group.0);
                put(out, behind.0);
            }
            PeerMessage::CheckpointOffered { group, at } => put_position(out, *group, *at),
            PeerMessage::Published { batch } | PeerMessage::KeyEvents { batch } => put_payload(out, batch),
            PeerMessage::KeyEventsWanted { wanted } => out.push(u8::from(*wanted)),
            PeerMessage::Subscribers { cell, version, is_first, counts } => {
                put(out, u64::from(*cell));
                put(out, *version);
                out.push(u8::from(*is_first));
                put_payload(out, counts);
            }
        }
    }

    /// Reads a message of `kind` whose fields fill `fields` to the end. Payloads are copied, so that none holds the
    /// frame that brought it.
    ///
    /// # Errors
    /// [`Malformed`] if no correct node sends this. Its offset counts from the first field.
    pub fn decode(kind: u8, fields: &[u8]) -> Result<PeerMessage, Malformed> {
        PeerMessage::read(kind, fields, None)
    }

    /// The same, but a payload that makes up most of `fields` shares their memory.
    ///
    /// # Errors
    /// As [`PeerMessage::decode`].
    pub fn decode_shared(kind: u8, fields: &Bytes) -> Result<PeerMessage, Malformed> {
        PeerMessage::read(kind, fields, Some(fields))
    }

    fn read(kind: u8, fields: &[u8], whole: Option<&Bytes>) -> Result<PeerMessage, Malformed> {
        let mut reader = Reader::new(fields);
        let message = read_fields(kind, &mut reader, whole)?;
        reader.end()?;
        Ok(message)
    }
}

/// Reads the fields of a message of `kind`; `whole` is what the reader reads, if a payload may share it.
fn read_fields(kind: u8, r: &mut Reader<'_>, whole: Option<&Bytes>) -> Result<PeerMessage, Malformed> {
    Ok(match kind {
        RAFT => {
            let group = GroupId(r.varint()?);
            let message = r.take(r.left())?;
            let message = match whole {
                Some(whole) => skep_consensus::Message::decode_shared(&whole.slice_ref(message))?,
                None => skep_consensus::Message::decode(message)?,
            };
            PeerMessage::Raft { group, message }
        }
        FORWARD => PeerMessage::Forward(Forward::read(r)?),
        FORWARD_ANSWERS => PeerMessage::ForwardAnswers(ForwardAnswers::read(r)?),
        FORWARD_REJECTED => PeerMessage::ForwardRejected {
            group: GroupId(r.varint()?),
            term: Term(r.varint()?),
            number: r.varint()?,
            leader: Some(NodeId(r.varint()?)).filter(|node| *node != NodeId(0)),
            leader_term: Term(r.varint()?),
        },
        FORWARD_FLOOR => PeerMessage::ForwardFloor {
            group: GroupId(r.varint()?),
            term: Term(r.varint()?),
            floor: r.varint()?,
        },
        WITHDRAW => {
            let (group, term, number) = (GroupId(r.varint()?), Term(r.varint()?), r.varint()?);
            let Ok(index) = u32::try_from(r.varint()?) else {
                return r.malformed("an index of 32 bits before this");
            };
            let end = match r.u8()? {
                0 => Unblock::Timeout,
                1 => Unblock::Error,
                2 => Unblock::Gone,
                3 => Unblock::Stopping,
                _ => return r.malformed("why it waits no more before this"),
            };
            PeerMessage::Withdraw { group, term, number, index, end }
        }
        CHECKPOINT_ASK => {
            PeerMessage::CheckpointAsk { group: GroupId(r.varint()?), at: log_id(r)?, chunk: r.varint()? }
        }
        CHECKPOINT_PIECE => PeerMessage::CheckpointPiece {
            group: GroupId(r.varint()?),
            at: log_id(r)?,
            chunk: r.varint()?,
            last: flag(r)?,
            bytes: skep_consensus::payload(r.bytes()?, whole),
        },
        CHECKPOINT_GONE => PeerMessage::CheckpointGone { group: GroupId(r.varint()?), at: log_id(r)? },
        CHECKPOINT_TAKEN => {
            PeerMessage::CheckpointTaken { group: GroupId(r.varint()?), at: log_id(r)?, arrived: flag(r)? }
        }
        OFFER => PeerMessage::Offer { complete: flag(r)?, met: uuids(r)? },
        JOIN_ASK => {
            let replaces = Some(NodeId(r.varint()?)).filter(|node| *node != NodeId(0));
            PeerMessage::JoinAsk { replaces, record: Bytes::copy_from_slice(r.bytes()?) }
        }
        JOIN_ANSWER => PeerMessage::JoinAnswer(join_answer(r)?),
        META_ASK => PeerMessage::MetaAsk { number: r.varint()?, command: Bytes::copy_from_slice(r.bytes()?) },
        META_ANSWER => meta_answer(r)?,
        BEAT => PeerMessage::Beat { may_lead: flag(r)?, groups: group_beats(r)? },
        STATE_DIGEST => {
            PeerMessage::StateDigest { group: GroupId(r.varint()?), at: log_id(r)?, digest: r.u64()? }
        }
        CHECKPOINT_WANTED => {
            PeerMessage::CheckpointWanted { group: GroupId(r.varint()?), behind: LogIndex(r.varint()?) }
        }
        CHECKPOINT_OFFERED => PeerMessage::CheckpointOffered { group: GroupId(r.varint()?), at: log_id(r)? },
        PUBLISHED => PeerMessage::Published { batch: skep_consensus::payload(r.bytes()?, whole) },
        KEY_EVENTS => PeerMessage::KeyEvents { batch: skep_consensus::payload(r.bytes()?, whole) },
        KEY_EVENTS_WANTED => PeerMessage::KeyEventsWanted { wanted: flag(r)? },
        SUBSCRIBERS => PeerMessage::Subscribers {
            cell: match u16::try_from(r.varint()?) {
                Ok(cell) => cell,
                Err(_) => return r.malformed("the number of a cell before this"),
            },
            version: r.varint()?,
            is_first: flag(r)?,
            counts: skep_consensus::payload(r.bytes()?, whole),
        },
        _ => return r.malformed("a known kind of message"),
    })
}

/// Groups that share lanes wait for each other as if they were one.
pub(crate) fn lane_of(group: GroupId, class: u64) -> usize {
    ((group.0 % LANE_GROUPS) * LANE_CLASSES + class) as usize + 1
}

fn put_position(out: &mut Vec<u8>, group: GroupId, at: LogId) {
    put(out, group.0);
    put(out, at.term.0);
    put(out, at.index.0);
}

fn log_id(r: &mut Reader<'_>) -> Result<LogId, Malformed> {
    Ok(LogId { term: Term(r.varint()?), index: LogIndex(r.varint()?) })
}

pub(crate) fn flag(r: &mut Reader<'_>) -> Result<bool, Malformed> {
    match r.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => r.malformed("0 or 1 before this"),
    }
}

pub(crate) fn put_uuid(out: &mut Vec<u8>, uuid: NodeUuid) {
    out.extend_from_slice(&uuid.0.to_le_bytes());
}

/// One that names a node: not 0.
pub(crate) fn uuid(r: &mut Reader<'_>) -> Result<NodeUuid, Malformed> {
    let (low, high) = (r.u64()?, r.u64()?);
    match u128::from(high) << 64 | u128::from(low) {
        0 => r.malformed("the uuid of a node before this"),
        uuid => Ok(NodeUuid(uuid)),
    }
}

fn uuids(r: &mut Reader<'_>) -> Result<Vec<NodeUuid>, Malformed> {
    let count = r.count(16)?;
    if count > OFFER_NODES_MAX {
        return r.malformed("a shorter list of nodes");
    }
    (0..count).map(|_| uuid(r)).collect()
}

fn group_beats(r: &mut Reader<'_>) -> Result<Vec<GroupBeat>, Malformed> {
    let count = r.count(4)?;
    if count > BEAT_GROUPS_MAX {
        return r.malformed("a shorter list of groups");
    }
    let beat = |_| {
        let group = GroupId(r.varint()?);
        let leads = Some(Term(r.varint()?)).filter(|term| *term != Term(0));
        let applied = LogIndex(r.varint()?);
        let flags = r.u8()?;
        if flags > 3 || flags & 2 != 0 && leads.is_none() {
            return r.malformed("what a replica does");
        }
        Ok(GroupBeat { group, leads, rests: flags & 2 != 0, applied, rebuilding: flags & 1 != 0 })
    };
    (0..count).map(beat).collect()
}

/// Appends `text`, cut to [`TEXT_BYTES_MAX`].
pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_bytes(out, &text.as_bytes()[..text.floor_char_boundary(TEXT_BYTES_MAX)]);
}

pub(crate) fn text(r: &mut Reader<'_>) -> Result<String, Malformed> {
    let bytes = r.bytes()?;
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.len() <= TEXT_BYTES_MAX => Ok(text.to_owned()),
        Ok(_) => r.malformed("a shorter text before this"),
        Err(_) => r.malformed("a text in UTF-8 before this"),
    }
}

fn put_join_answer(out: &mut Vec<u8>, answer: &JoinAnswer) {
    match answer {
        JoinAnswer::Joined { node, cluster_id } => {
            assert!(cluster_id.len() <= TEXT_BYTES_MAX, "cluster id of {} bytes", cluster_id.len());
            out.push(0);
            put(out, node.0);
            put_text(out, cluster_id);
        }
        JoinAnswer::Later => out.push(1),
        JoinAnswer::Refused { reason } => {
            out.push(2);
            put_text(out, reason);
        }
    }
}

fn join_answer(r: &mut Reader<'_>) -> Result<JoinAnswer, Malformed> {
    match r.u8()? {
        0 => match (NodeId(r.varint()?), text(r)?) {
            (NodeId(0), _) => r.malformed("the id of a node before this"),
            (_, id) if id.is_empty() => r.malformed("the id of a cluster before this"),
            (node, cluster_id) => Ok(JoinAnswer::Joined { node, cluster_id }),
        },
        1 => Ok(JoinAnswer::Later),
        2 => Ok(JoinAnswer::Refused { reason: text(r)? }),
        _ => r.malformed("an answer to a node that asks to join"),
    }
}

fn meta_answer(r: &mut Reader<'_>) -> Result<PeerMessage, Malformed> {
    let (number, flags, refused) = (r.varint()?, r.u8()?, text(r)?);
    if flags > 3 || flags & 2 == 0 && !refused.is_empty() {
        return r.malformed("flags that fit the text");
    }
    Ok(PeerMessage::MetaAnswer {
        number,
        refused: (flags & 2 != 0).then_some(refused),
        retry: flags & 1 != 0,
    })
}

/// Begins a message of `kind`. Returns where its fields start, for [`end`].
pub(crate) fn begin(out: &mut Vec<u8>, kind: u8) -> usize {
    out.extend_from_slice(&[kind, 0, 0, 0, 0]);
    out.len()
}

/// Completes the message whose fields start at `start` and reach to the end of `out`.
pub(crate) fn end(out: &mut [u8], start: usize) {
    let len = out.len() - start;
    let kind = out[start - MESSAGE_HEADER_BYTES];
    assert!(len <= MESSAGE_BYTES_MAX, "message of kind {kind} and {len} bytes, limit is {MESSAGE_BYTES_MAX}");
    out[start - 4..start].copy_from_slice(&(len as u32).to_le_bytes());
}

/// Completes a message of `len` bytes, header included, of which `front` is the beginning.
pub(crate) fn set_len(front: &mut [u8], len: usize) {
    let (kind, len) = (front[0], len - MESSAGE_HEADER_BYTES);
    assert!(len <= MESSAGE_BYTES_MAX, "message of kind {kind} and {len} bytes, limit is {MESSAGE_BYTES_MAX}");
    front[1..MESSAGE_HEADER_BYTES].copy_from_slice(&(len as u32).to_le_bytes());
}

/// The bytes of the message that `bytes` begin with, header included, by its header. `None` if that is not there, or says
/// more than any message has.
pub(crate) fn encoded_len(bytes: &[u8]) -> Option<usize> {
    let len: [u8; 4] = bytes.get(1..MESSAGE_HEADER_BYTES)?.try_into().ok()?;
    let len = u32::from_le_bytes(len) as usize;
    (len <= MESSAGE_BYTES_MAX).then_some(len + MESSAGE_HEADER_BYTES)
}

/// The messages in the body of a frame: kind and fields of each.
pub struct Messages<'a> {
    reader: Reader<'a>,
}

impl<'a> Messages<'a> {
    pub fn new(body: &'a [u8]) -> Messages<'a> {
        Messages { reader: Reader::new(body) }
    }
}

impl<'a> Iterator for Messages<'a> {
    type Item = Result<(u8, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.reader.left() == 0 {
            return None;
        }
        let message = self.one();
        if message.is_err() {
            self.reader = Reader::new(&[]);
        }
        Some(message)
    }
}

impl<'a> Messages<'a> {
    fn one(&mut self) -> Result<(u8, &'a [u8]), Malformed> {
        let kind = self.reader.u8()?;
        let len = self.reader.u32()? as usize;
        Ok((kind, self.reader.take(len)?))
    }
}
