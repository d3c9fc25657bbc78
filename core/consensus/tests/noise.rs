//! Whatever a message says, as long as it can be decoded, a replica takes it or drops it: a peer that is wrong, or has lost
//! its disk, takes nobody down with it.

use bytes::Bytes;
use skep_base::varint;
use skep_base::{GroupId, LogId, LogIndex, Millis, NodeId, Rng, Term};
use skep_consensus::{Group, GroupConfig, Input, Message, Output};
use skep_log::{Entry, EntryKind, GroupLog, HardState, Membership};

const APPEND: u8 = 1;
const READ_INDEX: u8 = 8;
const READ_INDEX_ANSWER: u8 = 9;
const CHECKPOINT: u8 = 12;
const KINDS: u64 = 12;
const HISTORIES: u64 = 5_000;
/// Events in each: enough for a few elections.
const STEPS: u64 = 60;

/// A message to node 1 whose fields are near those of a group in its first terms.
fn noise(rng: &mut Rng) -> Option<Message> {
    let kind = 1 + rng.below(KINDS) as u8;
    let mut bytes = vec![kind];
    let term = if kind == READ_INDEX { 0 } else { 1 + rng.below(6) };
    let near = |rng: &mut Rng| if rng.one_in(10) { rng.next_u64() } else { rng.below(12) };
    let (log_term, index, commit, commit_term, hint) =
        (rng.below(6), near(rng), near(rng), rng.below(6), near(rng));
    for number in [1 + rng.below(4), 1, term, log_term, index, commit, commit_term, hint] {
        varint::put(&mut bytes, number);
    }
    let stamped = [1, 2, 5, 6].contains(&kind);
    varint::put(&mut bytes, if stamped && rng.one_in(2) { near(rng) } else { 0 });
    bytes.push(rng.below(2) as u8);
    let contexts: [&[u8]; 4] = [b"", b"", b"CampaignTransfer", b"\x01\x01\x01"];
    varint::put_bytes(&mut bytes, contexts[rng.below(4) as usize]);
    let entries = match kind {
        APPEND => rng.below(4),
        READ_INDEX | READ_INDEX_ANSWER => 1,
        _ => 0,
    };
    varint::put(&mut bytes, entries);
    for number in 1..=entries {
        bytes.push(rng.one_in(4) as u8);
        varint::put(&mut bytes, log_term.max(term.saturating_sub(rng.below(2))));
        varint::put(&mut bytes, index.wrapping_add(number));
        let change = [2, 2, rng.below(3) as u8, 1 + rng.below(4) as u8, rng.below(3) as u8, 1, 0];
        let payloads: [&[u8]; 3] = [b"", b"x", &change];
        varint::put_bytes(&mut bytes, payloads[rng.below(3) as usize]);
    }
    if kind == CHECKPOINT {
        varint::put(&mut bytes, rng.below(6));
        varint::put(&mut bytes, near(rng));
        for _ in 0..4 {
            let count = rng.below(4);
            varint::put(&mut bytes, count);
            for _ in 0..count {
                varint::put(&mut bytes, 1 + rng.below(5));
            }
        }
        bytes.push(rng.below(2) as u8);
    }
    Message::decode(&bytes).ok()
}

fn replica(rng: &mut Rng) -> Group {
    let entry = |index: u64| Entry {
        id: LogId { term: Term(1 + index / 4), index: LogIndex(index) },
        kind: EntryKind::Normal,
        payload: Bytes::from_static(b"x"),
    };
    let ids = |count: u64| (1..=count).map(NodeId).collect();
    let membership = Membership { voters: ids(1 + rng.below(4)), ..Membership::default() };
    let last = rng.below(9);
    let term = Term((1 + last / 4).max(rng.below(4)));
    let hard_state = HardState { term, vote: None, commit: LogIndex(rng.below(last + 1)) };
    let log =
        GroupLog { membership, hard_state, entries: (1..=last).map(entry).collect(), ..GroupLog::default() };
    Group::new(GroupConfig::new(GroupId(1), NodeId(1), 1, 7), log)
}

#[test]
fn no_message_that_can_be_decoded_stops_a_replica() {
    let (mut taken, mut dropped, mut led) = (0, 0, 0);
    for seed in 0..HISTORIES {
        let group = history(seed);
        taken += group.stats().messages_received - group.stats().messages_dropped;
        dropped += group.stats().messages_dropped;
        led += group.stats().role_changes;
    }
    assert!(dropped > HISTORIES && taken > HISTORIES, "{taken} taken, {dropped} dropped");
    assert!(led > HISTORIES / 10, "hardly any leader: {led}");
}

fn history(seed: u64) -> Group {
    let mut rng = Rng::new(seed);
    let mut group = replica(&mut rng);
    let mut now = 0;
    for _ in 0..STEPS {
        let mut inputs = Vec::new();
        if rng.one_in(3) {
            now += 25;
            inputs.push(Input::Tick);
        } else if let Some(message) = noise(&mut rng) {
            inputs.push(Input::Receive(message));
        }
        while let Some(input) = inputs.pop() {
            let mut out = Vec::new();
            group.handle(Millis(now), input, &mut out);
            group.assert_invariants();
            for output in out {
                if let Output::Persist { ticket, .. } = output {
                    inputs.push(Input::Persisted(ticket));
                }
            }
        }
    }
    group
}
