//! Records as bytes within a batch. Lengths are exact and known before encoding, so that room is checked before anything
//! changes. Decoding never panics and never allocates by an announced size.

use bytes::Bytes;
use skep_base::varint::{Malformed, Reader, put};
use skep_base::{GroupId, LogId, LogIndex, NodeId, Term};

use crate::block::BatchBuffer;
use crate::record::{Entry, EntryKind, HardState, Membership, Record};

const START: u8 = 1;
const STATE: u8 = 2;
const APPEND: u8 = 3;
const HARD_STATE: u8 = 4;
const CHECKPOINT: u8 = 5;
const REMOVED: u8 = 6;
const REWRITE: u8 = 7;
const STATE_DISTRUSTED: u8 = 8;
const DISTRUSTED: u8 = 9;

/// Beyond any log that can be written; leaves room for arithmetic.
const INDEX_MAX: u64 = 1 << 62;

/// One record as it lies in the log: what callers gave, and what the log notes for itself.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Logged {
    /// First in a segment: which one it is and how long.
    Start {
        segment: u64,
        blocks: u32,
    },
    /// Where a group stood when the segment began. Follows `Start`, once for each group.
    State {
        group: GroupId,
        state: GroupState,
    },
    Append {
        group: GroupId,
        entries: Vec<Entry>,
    },
    HardState {
        group: GroupId,
        state: HardState,
    },
    /// `keep`: entries behind `at` stay.
    Checkpoint {
        group: GroupId,
        at: LogId,
        membership: Membership,
        keep: bool,
    },
    Removed {
        group: GroupId,
    },
    Distrusted {
        group: GroupId,
    },
    /// Live entries copied from an old segment, so that it can die.
    Rewrite {
        group: GroupId,
        entries: Vec<Entry>,
    },
}

/// All of a group but its entries.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct GroupState {
    pub hard_state: HardState,
    pub checkpoint: LogId,
    pub membership: Membership,
    /// The last entry, or `checkpoint` if there is none.
    pub last: LogId,
    /// The checkpoint is not to be trusted.
    pub distrusted: bool,
}

/// Appends records to a batch; owns the scratch memory of record heads.
#[derive(Default, Debug)]
pub(crate) struct Encoder {
    scratch: Vec<u8>,
    pub batch: BatchBuffer,
}

impl Encoder {
    fn head(&mut self, fill: impl FnOnce(&mut Vec<u8>)) {
        self.scratch.clear();
        fill(&mut self.scratch);
        self.batch.put(&self.scratch);
    }

    pub fn start(&mut self, segment: u64, blocks: u32) {
        self.head(|out| {
            out.push(START);
            put(out, segment);
            put(out, u64::from(blocks));
        });
    }

    pub fn state(&mut self, group: GroupId, state: &GroupState) {
        self.head(|out| {
            out.push(if state.distrusted { STATE_DISTRUSTED } else { STATE });
            put(out, group.0);
            put_hard_state(out, &state.hard_state);
            put_log_id(out, state.checkpoint);
            put_membership(out, &state.membership);
            put_log_id(out, state.last);
        });
    }

    /// `keep` is read for a checkpoint only.
    pub fn record(&mut self, record: &Record, keep: bool) {
        match record {
            Record::Append { group, entries } => self.entries(APPEND, *group, entries),
            Record::HardState { group, state } => self.head(|out| {
                out.push(HARD_STATE);
                put(out, group.0);
                put_hard_state(out, state);
            }),
            Record::Checkpoint { group, at, membership } => self.head(|out| {
                out.push(CHECKPOINT);
                put(out, group.0);
                put_log_id(out, *at);
                put_membership(out, membership);
                out.push(u8::from(keep));
            }),
            Record::Removed { group } => self.head(|out| {
                out.push(REMOVED);
                put(out, group.0);
            }),
            Record::Distrusted { group } => self.head(|out| {
                out.push(DISTRUSTED);
                put(out, group.0);
            }),
        }
    }

    pub fn rewrite(&mut self, group: GroupId, entries: &[Entry]) {
        self.entries(REWRITE, group, entries);
    }

    fn entries(&mut self, tag: u8, group: GroupId, entries: &[Entry]) {
        let first = entries.first().expect("an append holds an entry");
        self.head(|out| {
            out.push(tag);
            put(out, group.0);
            put(out, first.id.index.0);
            put(out, entries.len() as u64);
        });
        for entry in entries {
            self.head(|out| {
                put(out, entry.id.term.0);
                out.push(match entry.kind {
                    EntryKind::Normal => 0,
                    EntryKind::Membership => 1,
                });
                put(out, entry.payload.len() as u64);
            });
            self.batch.put(&entry.payload);
        }
    }
}

fn put_log_id(out: &mut Vec<u8>, id: LogId) {
    put(out, id.term.0);
    put(out, id.index.0);
}

fn put_hard_state(out: &mut Vec<u8>, state: &HardState) {
    put(out, state.term.0);
    out.push(u8::from(state.vote.is_some()));
    put(out, state.vote.unwrap_or_default().0);
    put(out, state.commit.0);
}

pub(crate) fn put_membership(out: &mut Vec<u8>, membership: &Membership) {
    let Membership { voters, learners, outgoing, learners_next, auto_leave } = membership;
    for nodes in [voters, learners, outgoing, learners_next] {
        put(out, nodes.len() as u64);
        nodes.iter().for_each(|n| put(out, n.0));
    }
    out.push(u8::from(*auto_leave));
}

fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

fn log_id_len(id: LogId) -> usize {
    varint_len(id.term.0) + varint_len(id.index.0)
}

fn hard_state_len(state: &HardState) -> usize {
    varint_len(state.term.0) + 1 + varint_len(state.vote.unwrap_or_default().0) + varint_len(state.commit.0)
}

fn membership_len(membership: &Membership) -> usize {
    let Membership { voters, learners, outgoing, learners_next, auto_leave: _ } = membership;
    let nodes_len =
        |n: &Vec<NodeId>| varint_len(n.len() as u64) + n.iter().map(|n| varint_len(n.0)).sum::<usize>();
    1 + [voters, learners, outgoing, learners_next].into_iter().map(nodes_len).sum::<usize>()
}

/// Bytes that [`Encoder::start`] writes.
pub(crate) fn start_len(segment: u64, blocks: u32) -> usize {
    1 + varint_len(segment) + varint_len(u64::from(blocks))
}

/// Bytes that [`Encoder::state`] writes.
pub(crate) fn state_len(group: GroupId, state: &GroupState) -> usize {
    1 + varint_len(group.0)
        + hard_state_len(&state.hard_state)
        + log_id_len(state.checkpoint)
        + membership_len(&state.membership)
        + log_id_len(state.last)
}

/// Bytes that one entry takes within an append.
pub(crate) fn entry_len(entry: &Entry) -> usize {
    varint_len(entry.id.term.0) + 1 + varint_len(entry.payload.len() as u64) + entry.payload.len()
}

/// Bytes that [`Encoder::rewrite`] writes.
pub(crate) fn entries_len(group: GroupId, entries: &[Entry]) -> usize {
    let first = entries.first().map_or(0, |e| e.id.index.0);
    1 + varint_len(group.0)
        + varint_len(first)
        + varint_len(entries.len() as u64)
        + entries.iter().map(entry_len).sum::<usize>()
}

/// Bytes that `record` takes in a batch, block headers not counted.
pub fn record_len(record: &Record) -> usize {
    match record {
        Record::Append { group, entries } => entries_len(*group, entries),
        Record::HardState { group, state } => 1 + varint_len(group.0) + hard_state_len(state),
        Record::Checkpoint { group, at, membership } => {
            1 + varint_len(group.0) + log_id_len(*at) + membership_len(membership) + 1
        }
        Record::Removed { group } | Record::Distrusted { group } => 1 + varint_len(group.0),
    }
}

/// Reads the next record of a batch.
///
/// Cost: copies the payloads, so that no entry keeps a whole batch in memory.
pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Logged, Malformed> {
    let tag = reader.u8()?;
    if tag == START {
        let segment = reader.varint()?;
        let Ok(blocks) = u32::try_from(reader.varint()?) else { return reader.malformed("a segment length") };
        return Ok(Logged::Start { segment, blocks });
    }
    let group = GroupId(reader.varint()?);
    Ok(match tag {
        STATE | STATE_DISTRUSTED => Logged::State {
            group,
            state: GroupState {
                hard_state: hard_state(reader)?,
                checkpoint: log_id(reader)?,
                membership: membership(reader)?,
                last: log_id(reader)?,
                distrusted: tag == STATE_DISTRUSTED,
            },
        },
        APPEND => Logged::Append { group, entries: entries(reader)? },
        HARD_STATE => Logged::HardState { group, state: hard_state(reader)? },
        CHECKPOINT => Logged::Checkpoint {
            group,
            at: log_id(reader)?,
            membership: membership(reader)?,
            keep: flag(reader)?,
        },
        REMOVED => Logged::Removed { group },
        DISTRUSTED => Logged::Distrusted { group },
        REWRITE => Logged::Rewrite { group, entries: entries(reader)? },
        _ => return reader.malformed("a known kind of record before this"),
    })
}

fn entries(reader: &mut Reader<'_>) -> Result<Vec<Entry>, Malformed> {
    let first = reader.varint()?;
    let count = reader.count(3)?;
    if count == 0 || first == 0 || first > INDEX_MAX {
        return reader.malformed("entries with indexes from 1");
    }
    let mut entries = Vec::with_capacity(count);
    for index in first..first + count as u64 {
        let term = Term(reader.varint()?);
        let kind = if flag(reader)? { EntryKind::Membership } else { EntryKind::Normal };
        let payload = Bytes::copy_from_slice(reader.bytes()?);
        entries.push(Entry { id: LogId { term, index: LogIndex(index) }, kind, payload });
    }
    Ok(entries)
}

fn flag(reader: &mut Reader<'_>) -> Result<bool, Malformed> {
    match reader.u8()? {
        0 => Ok(false),
        1 => Ok(true),
        _ => reader.malformed("0 or 1 before this"),
    }
}

fn log_id(reader: &mut Reader<'_>) -> Result<LogId, Malformed> {
    let id = LogId { term: Term(reader.varint()?), index: LogIndex(reader.varint()?) };
    if id.index.0 > INDEX_MAX { reader.malformed("an index below 2^62 before this") } else { Ok(id) }
}

fn hard_state(reader: &mut Reader<'_>) -> Result<HardState, Malformed> {
    let term = Term(reader.varint()?);
    let voted = flag(reader)?;
    let vote = NodeId(reader.varint()?);
    Ok(HardState { term, vote: voted.then_some(vote), commit: LogIndex(reader.varint()?) })
}

pub(crate) fn membership(reader: &mut Reader<'_>) -> Result<Membership, Malformed> {
    let mut lists: [Vec<NodeId>; 4] = Default::default();
    for list in &mut lists {
        let count = reader.count(1)?;
        list.reserve(count);
        for _ in 0..count {
            list.push(NodeId(reader.varint()?));
        }
    }
    let [voters, learners, outgoing, learners_next] = lists;
    Ok(Membership { voters, learners, outgoing, learners_next, auto_leave: flag(reader)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{self, BLOCK_BYTES, Found, Seal};
    use proptest::prelude::*;

    fn payload_of(batch: &mut BatchBuffer) -> Vec<u8> {
        let seal = Seal::new(0);
        let mut payload = Vec::new();
        for (i, b) in batch.finish(seal, 1, 1, 0).chunks(BLOCK_BYTES).enumerate() {
            let Found::Block(header) = seal.inspect(i as u32, b) else { panic!("unsound block") };
            payload.extend_from_slice(block::payload(b, header.used));
        }
        payload
    }

    fn nodes() -> impl Strategy<Value = Vec<NodeId>> {
        proptest::collection::vec(any::<u64>().prop_map(NodeId), 0..4)
    }

    fn any_membership() -> impl Strategy<Value = Membership> {
        (nodes(), nodes(), nodes(), nodes(), any::<bool>()).prop_map(
            |(voters, learners, outgoing, learners_next, auto_leave)| Membership {
                voters,
                learners,
                outgoing,
                learners_next,
                auto_leave,
            },
        )
    }

    fn any_log_id() -> impl Strategy<Value = LogId> {
        (any::<u64>(), 0..=INDEX_MAX).prop_map(|(t, i)| LogId { term: Term(t), index: LogIndex(i) })
    }

    fn any_hard_state() -> impl Strategy<Value = HardState> {
        (any::<u64>(), proptest::option::of(any::<u64>()), any::<u64>()).prop_map(|(t, v, c)| HardState {
            term: Term(t),
            vote: v.map(NodeId),
            commit: LogIndex(c),
        })
    }

    fn any_entries() -> impl Strategy<Value = Vec<Entry>> {
        let body = (any::<u64>(), any::<bool>(), proptest::collection::vec(any::<u8>(), 0..700));
        (1..INDEX_MAX, proptest::collection::vec(body, 1..5)).prop_map(|(first, bodies)| {
            let entry = |(i, (term, membership, payload)): (usize, (u64, bool, Vec<u8>))| Entry {
                id: LogId { term: Term(term), index: LogIndex(first + i as u64) },
                kind: if membership { EntryKind::Membership } else { EntryKind::Normal },
                payload: payload.into(),
            };
            bodies.into_iter().enumerate().map(entry).collect()
        })
    }

    fn any_record() -> impl Strategy<Value = Record> {
        prop_oneof![
            (any::<u64>(), any_entries())
                .prop_map(|(g, entries)| Record::Append { group: GroupId(g), entries }),
            (any::<u64>(), any_hard_state())
                .prop_map(|(g, state)| Record::HardState { group: GroupId(g), state }),
            (any::<u64>(), any_log_id(), any_membership())
                .prop_map(|(g, at, membership)| Record::Checkpoint { group: GroupId(g), at, membership }),
            any::<u64>().prop_map(|g| Record::Removed { group: GroupId(g) }),
            any::<u64>().prop_map(|g| Record::Distrusted { group: GroupId(g) }),
        ]
    }

    fn as_logged(record: Record, keep: bool) -> Logged {
        match record {
            Record::Append { group, entries } => Logged::Append { group, entries },
            Record::HardState { group, state } => Logged::HardState { group, state },
            Record::Checkpoint { group, at, membership } => {
                Logged::Checkpoint { group, at, membership, keep }
            }
            Record::Removed { group } => Logged::Removed { group },
            Record::Distrusted { group } => Logged::Distrusted { group },
        }
    }

    proptest! {
        #[test]
        fn records_round_trip_with_the_length_announced(
            records in proptest::collection::vec((any_record(), any::<bool>()), 1..6),
        ) {
            let mut encoder = Encoder::default();
            for (record, keep) in &records {
                encoder.record(record, *keep);
            }
            let payload = payload_of(&mut encoder.batch);
            prop_assert_eq!(payload.len(), records.iter().map(|(r, _)| record_len(r)).sum::<usize>());
            let mut reader = Reader::new(&payload);
            for (record, keep) in records {
                prop_assert_eq!(decode(&mut reader).unwrap(), as_logged(record, keep));
            }
            reader.end().unwrap();
            for cut in 0..payload.len().min(200) {
                let mut reader = Reader::new(&payload[..cut]);
                while decode(&mut reader).is_ok() {}
            }
        }

        #[test]
        fn states_round_trip_with_the_length_announced(
            g in any::<u64>(), hard_state in any_hard_state(), checkpoint in any_log_id(),
            membership in any_membership(), last in any_log_id(), segment in any::<u64>(), blocks in any::<u32>(),
            distrusted in any::<bool>(),
        ) {
            let (group, state) = (GroupId(g), GroupState { hard_state, checkpoint, membership, last, distrusted });
            let mut encoder = Encoder::default();
            encoder.start(segment, blocks);
            encoder.state(group, &state);
            let payload = payload_of(&mut encoder.batch);
            prop_assert_eq!(payload.len(), start_len(segment, blocks) + state_len(group, &state));
            let mut reader = Reader::new(&payload);
            prop_assert_eq!(decode(&mut reader).unwrap(), Logged::Start { segment, blocks });
            prop_assert_eq!(decode(&mut reader).unwrap(), Logged::State { group, state });
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut reader = Reader::new(&bytes);
            while decode(&mut reader).is_ok() {}
        }
    }
}
