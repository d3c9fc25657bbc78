//! A plain model of what the log must hold, and a seeded writer of sensible records.

use std::collections::BTreeMap;

use bytes::Bytes;
use skep_base::{GroupId, LogId, LogIndex, NodeId, Rng, Term};
use skep_log::{Entry, EntryKind, GroupLog, HardState, Membership, Record, WalConfig};

pub type Logs = BTreeMap<GroupId, GroupLog>;

pub fn config(segment_bytes: u64) -> WalConfig {
    WalConfig { salt: 0x5eed, segment_bytes, first_segment_bytes: segment_bytes, segments_kept: 3 }
}

/// Applies a record the way record.rs words it.
pub fn apply(logs: &mut Logs, record: &Record) {
    match record {
        Record::Append { group, entries } => {
            let log = logs.entry(*group).or_default();
            log.entries.retain(|e| e.id.index < entries[0].id.index);
            log.entries.extend(entries.iter().cloned());
        }
        Record::HardState { group, state } => logs.entry(*group).or_default().hard_state = *state,
        Record::Checkpoint { group, at, membership } => {
            let log = logs.entry(*group).or_default();
            if log.checkpoint == *at || log.entries.iter().any(|e| e.id == *at) {
                log.entries.retain(|e| e.id.index > at.index);
            } else {
                log.entries.clear();
            }
            (log.checkpoint, log.membership) = (*at, membership.clone());
            log.distrusted = false;
        }
        Record::Removed { group } => {
            logs.remove(group);
        }
        Record::Distrusted { group } => logs.entry(*group).or_default().distrusted = true,
    }
}

pub fn apply_all(logs: &Logs, records: &[Record]) -> Logs {
    let mut logs = logs.clone();
    records.iter().for_each(|r| apply(&mut logs, r));
    logs
}

/// Records of one turn for up to `groups` groups. Group 1 is cold: it rarely writes and rarely checkpoints.
pub fn turn(rng: &mut Rng, logs: &Logs, groups: u64, payload_max: u64) -> Vec<Record> {
    let mut records = Vec::new();
    let mut after = logs.clone();
    for g in 1..=groups {
        if if g == 1 { !rng.one_in(40) } else { rng.one_in(2) } {
            continue;
        }
        let group = GroupId(g);
        let log = after.entry(group).or_default().clone();
        for record in group_turn(rng, group, &log, payload_max) {
            apply(&mut after, &record);
            records.push(record);
        }
    }
    records
}

fn group_turn(rng: &mut Rng, group: GroupId, log: &GroupLog, payload_max: u64) -> Vec<Record> {
    let last = log.entries.last().map_or(log.checkpoint, |e| e.id);
    let term = log.hard_state.term;
    if rng.one_in(150) {
        return vec![Record::Removed { group }];
    }
    if rng.one_in(50) {
        return vec![Record::Distrusted { group }];
    }
    let mut records = Vec::new();
    if rng.one_in(4) {
        let state = HardState {
            term: Term(term.0 + rng.below(2)),
            vote: (!rng.one_in(3)).then_some(NodeId(rng.below(3) + 1)),
            commit: LogIndex(rng.below(last.index.0 + 1)),
        };
        records.push(Record::HardState { group, state });
    }
    let checkpoint_in = if group.0 == 1 { 30 } else { 6 };
    if rng.one_in(checkpoint_in) {
        let membership = Membership { voters: vec![NodeId(1), NodeId(2)], ..Membership::default() };
        let at = match log.entries.len() as u64 {
            _ if rng.one_in(10) => {
                LogId { term: Term(term.0 + 1), index: LogIndex(last.index.0 + rng.below(5)) }
            }
            0 => log.checkpoint,
            n => log.entries[rng.below(n) as usize].id,
        };
        records.push(Record::Checkpoint { group, at, membership });
        return records;
    }
    let back = if rng.one_in(10) { rng.below(3).min(log.entries.len() as u64) } else { 0 };
    let first = last.index.0 + 1 - back;
    let entries = (0..rng.below(4) + 1).map(|i| Entry {
        id: LogId { term, index: LogIndex(first + i) },
        kind: if rng.one_in(20) { EntryKind::Membership } else { EntryKind::Normal },
        payload: payload(rng, payload_max),
    });
    records.push(Record::Append { group, entries: entries.collect() });
    records
}

fn payload(rng: &mut Rng, max: u64) -> Bytes {
    let len = if rng.one_in(15) { rng.below(max) } else { rng.below(60) };
    (0..len).map(|_| rng.next_u64() as u8).collect::<Vec<u8>>().into()
}
