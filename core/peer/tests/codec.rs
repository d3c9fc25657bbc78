//! Messages and their bytes: what is sent is what is read, and nothing else is.

#![allow(clippy::unwrap_used)]

#[path = "common/raft.rs"]
mod raft;

use bytes::Bytes;
use proptest::prelude::*;
use skep_base::{Args, GroupId, LogId, LogIndex, NodeId, NodeUuid, Span, Term, args::OwnedArgs};
use skep_peer::{
    AGAIN, Answer, BEAT_GROUPS_MAX, Forward, ForwardAnswers, GroupBeat, JoinAnswer, Messages,
    OFFER_NODES_MAX, PeerMessage, TEXT_BYTES_MAX, Unblock,
};

/// One operation: flags without that it has waited, database, for how long it has, arguments.
type Op = (u8, u8, Option<u64>, Vec<Vec<u8>>);
/// One answer: forward, index, reply or what else.
type Item = (u64, u32, Result<Vec<u8>, bool>);

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let args = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..200), 1..5);
    proptest::collection::vec((0..32u8, any::<u8>(), any::<Option<u64>>(), args), 0..8)
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let reply = proptest::result::maybe_err(proptest::collection::vec(any::<u8>(), 0..200), any::<bool>());
    proptest::collection::vec((any::<u64>(), any::<u32>(), reply), 0..8)
}

fn forward(group: GroupId, term: Term, number: u64, ops: &[Op]) -> Forward {
    let mut forward = Forward::new(group, term, number);
    forward.floor = number / 2;
    for (flags, db, waited, args) in ops {
        let args = OwnedArgs::collect(args.iter().map(Vec::as_slice));
        match waited {
            Some(ms) => forward.push_again(*flags, *db, *ms, args.args()),
            None => forward.push(*flags, *db, args.args()),
        }
    }
    forward
}

fn answers(group: GroupId, term: Term, items: &[Item]) -> ForwardAnswers {
    let mut answers = ForwardAnswers::new(group, term);
    for (number, index, reply) in items {
        let answer = match reply {
            Ok(reply) => Answer::Reply(reply),
            Err(true) => Answer::Parked,
            Err(false) => Answer::NotDone,
        };
        answers.push(*number, *index, answer);
    }
    answers
}

fn any_group() -> impl Strategy<Value = GroupId> {
    prop_oneof![0..5u64, any::<u64>()].prop_map(GroupId)
}

fn any_term() -> impl Strategy<Value = Term> {
    any::<u64>().prop_map(Term)
}

fn any_position() -> impl Strategy<Value = LogId> {
    (any_term(), any::<u64>()).prop_map(|(term, index)| LogId { term, index: LogIndex(index) })
}

fn any_bytes() -> impl Strategy<Value = Bytes> {
    proptest::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from)
}

fn any_uuids() -> impl Strategy<Value = Vec<NodeUuid>> {
    proptest::collection::vec((1..=u128::MAX).prop_map(NodeUuid), 0..10)
}

fn any_join_answer() -> impl Strategy<Value = JoinAnswer> {
    prop_oneof![
        (1..u64::MAX, "[a-f0-9]{1,40}")
            .prop_map(|(node, cluster_id)| JoinAnswer::Joined { node: NodeId(node), cluster_id }),
        Just(JoinAnswer::Later),
        ".{0,80}".prop_map(|reason| JoinAnswer::Refused { reason }),
    ]
}

fn any_forwarding() -> impl Strategy<Value = PeerMessage> {
    prop_oneof![
        (any_group(), any_term(), any::<u64>(), ops())
            .prop_map(|(group, term, number, ops)| PeerMessage::Forward(forward(group, term, number, &ops))),
        (any_group(), any_term(), items())
            .prop_map(|(group, term, items)| PeerMessage::ForwardAnswers(answers(group, term, &items))),
        (any_group(), any_term(), any::<u64>(), any::<u32>(), 0..4usize).prop_map(
            |(group, term, number, index, end)| {
                let ends = [Unblock::Timeout, Unblock::Error, Unblock::Gone, Unblock::Stopping];
                PeerMessage::Withdraw { group, term, number, index, end: ends[end] }
            }
        ),
        (any_group(), any_term(), any::<u64>()).prop_map(|(group, term, floor)| PeerMessage::ForwardFloor {
            group,
            term,
            floor
        }),
        (any_group(), any_term(), any::<u64>(), proptest::option::of(1..9u64), any_term()).prop_map(
            |(group, term, number, leader, leader_term)| PeerMessage::ForwardRejected {
                group,
                term,
                number,
                leader: leader.map(NodeId),
                leader_term
            }
        ),
    ]
}

fn any_checkpoint() -> impl Strategy<Value = PeerMessage> {
    let place = || (any_group(), any_position(), any::<u64>());
    prop_oneof![
        place().prop_map(|(group, at, chunk)| PeerMessage::CheckpointAsk { group, at, chunk }),
        (place(), any_bytes(), any::<bool>()).prop_map(|((group, at, chunk), bytes, last)| {
            PeerMessage::CheckpointPiece { group, at, chunk, bytes, last }
        }),
        place().prop_map(|(group, at, _)| PeerMessage::CheckpointGone { group, at }),
        (place(), any::<bool>()).prop_map(|((group, at, _), arrived)| PeerMessage::CheckpointTaken {
            group,
            at,
            arrived
        }),
        place().prop_map(|(group, at, digest)| PeerMessage::StateDigest { group, at, digest }),
        place().prop_map(|(group, at, _)| PeerMessage::CheckpointWanted { group, behind: at.index }),
        place().prop_map(|(group, at, _)| PeerMessage::CheckpointOffered { group, at }),
    ]
}

fn any_cluster() -> impl Strategy<Value = PeerMessage> {
    let beat = (any_group(), any_term(), any::<u64>(), any::<bool>(), any::<bool>()).prop_map(
        |(group, term, applied, rests, rebuilding)| GroupBeat {
            group,
            leads: Some(term).filter(|term| *term != Term(0)),
            rests: rests && term != Term(0),
            applied: LogIndex(applied),
            rebuilding,
        },
    );
    let groups = proptest::collection::vec(beat, 0..10);
    prop_oneof![
        (any_uuids(), any::<bool>()).prop_map(|(met, complete)| PeerMessage::Offer { met, complete }),
        (proptest::option::of(1..=u64::MAX), any_bytes())
            .prop_map(|(replaces, record)| PeerMessage::JoinAsk { replaces: replaces.map(NodeId), record }),
        any_join_answer().prop_map(PeerMessage::JoinAnswer),
        (any::<u64>(), any_bytes()).prop_map(|(number, command)| PeerMessage::MetaAsk { number, command }),
        (any::<u64>(), proptest::option::of(".{0,80}"), any::<bool>())
            .prop_map(|(number, refused, retry)| PeerMessage::MetaAnswer { number, refused, retry }),
        (groups, any::<bool>()).prop_map(|(groups, may_lead)| PeerMessage::Beat { groups, may_lead }),
    ]
}

fn any_published() -> impl Strategy<Value = PeerMessage> {
    prop_oneof![
        any_bytes().prop_map(|batch| PeerMessage::Published { batch }),
        any_bytes().prop_map(|batch| PeerMessage::KeyEvents { batch }),
        any::<bool>().prop_map(|wanted| PeerMessage::KeyEventsWanted { wanted }),
        (any::<u16>(), any::<u64>(), any::<bool>(), any_bytes()).prop_map(
            |(cell, version, is_first, counts)| {
                PeerMessage::Subscribers { cell, version, is_first, counts }
            }
        ),
    ]
}

fn any_message() -> impl Strategy<Value = PeerMessage> {
    prop_oneof![any_forwarding(), any_checkpoint(), any_cluster(), any_published()]
}

fn encoded(message: &PeerMessage) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}

/// Kind and fields of a message that stands alone.
fn split(bytes: &[u8]) -> (u8, &[u8]) {
    let [Ok(message)] = Messages::new(bytes).collect::<Vec<_>>()[..] else { panic!("not one message") };
    message
}

fn decoded(bytes: &[u8]) -> Result<PeerMessage, skep_base::varint::Malformed> {
    let (kind, fields) = split(bytes);
    let message = PeerMessage::decode(kind, fields);
    assert_eq!(PeerMessage::decode_shared(kind, &Bytes::copy_from_slice(fields)), message);
    message
}

fn check_prefixes_and_flips(message: &PeerMessage) {
    let bytes = encoded(message);
    for cut in 1..bytes.len() {
        let items: Vec<_> = Messages::new(&bytes[..cut]).collect();
        assert!(matches!(items[..], [Err(_)]), "{message:?} cut at {cut}");
    }
    let (kind, fields) = split(&bytes);
    assert_eq!(decoded(&bytes).as_ref(), Ok(message));
    for cut in 0..fields.len() {
        assert!(PeerMessage::decode(kind, &fields[..cut]).is_err(), "{message:?} with {cut} bytes of fields");
    }
    let longer = [fields, &[0]].concat();
    assert!(PeerMessage::decode(kind, &longer).is_err(), "{message:?} with a byte too many");
    for at in 0..fields.len() {
        for bit in 0..8 {
            let mut damaged = fields.to_vec();
            damaged[at] ^= 1 << bit;
            if let Ok(other) = PeerMessage::decode(kind, &damaged) {
                assert_ne!(other, *message, "bit {bit} of byte {at} means nothing");
            }
        }
    }
}

proptest! {
    #[test]
    fn messages_round_trip(messages in proptest::collection::vec(any_message(), 1..6)) {
        let mut body = Vec::new();
        messages.iter().for_each(|message| message.encode(&mut body));
        let read: Vec<PeerMessage> = Messages::new(&body)
            .map(|item| item.unwrap())
            .map(|(kind, fields)| PeerMessage::decode(kind, fields).unwrap())
            .collect();
        prop_assert_eq!(read, messages);
    }

    #[test]
    fn every_kind_is_in_the_table_of_the_design(message in any_message()) {
        let bytes = encoded(&message);
        let debug = format!("{message:?}");
        let name = debug.split(|c: char| !c.is_alphanumeric()).next().unwrap();
        let row = format!("| {} | {name} |", split(&bytes).0);
        prop_assert!(include_str!("../DESIGN.md").contains(&row), "DESIGN.md lacks {row}");
    }

    #[test]
    fn every_prefix_is_refused_and_every_bit_means_something(message in any_message()) {
        check_prefixes_and_flips(&message);
    }

    #[test]
    fn forwarded_operations_come_out_as_they_went_in(ops in ops()) {
        let message = PeerMessage::Forward(forward(GroupId(1), Term(2), 3, &ops));
        let PeerMessage::Forward(forward) = decoded(&encoded(&message)).unwrap() else { panic!("another kind") };
        prop_assert_eq!(forward.len(), ops.len());
        prop_assert_eq!(forward.is_empty(), ops.is_empty());
        let (mut reader, mut spans, mut read) = (forward.reader(), vec![Span::default(); 3], Vec::new());
        while let Some((flags, db)) = reader.next_op(&mut spans) {
            let args: Args<'_> = reader.args(&spans);
            let args = args.iter().map(<[u8]>::to_vec).collect::<Vec<_>>();
            read.push((flags & !AGAIN, db, reader.waited_ms(), args));
        }
        prop_assert_eq!(read, ops);
        prop_assert!(spans.is_empty() && reader.next_op(&mut spans).is_none());
    }

    #[test]
    fn answers_come_out_as_they_went_in(items in items()) {
        let message = PeerMessage::ForwardAnswers(answers(GroupId(1), Term(2), &items));
        let PeerMessage::ForwardAnswers(answers) = decoded(&encoded(&message)).unwrap() else { panic!("another kind") };
        prop_assert_eq!(answers.len(), items.len());
        let read: Vec<Item> = answers
            .iter()
            .map(|(number, index, answer)| match answer {
                Answer::Reply(reply) => (number, index, Ok(reply.to_vec())),
                Answer::Parked => (number, index, Err(true)),
                Answer::NotDone => (number, index, Err(false)),
                Answer::Denied { .. } | Answer::ScriptRead(_) | Answer::ScriptReadMany => {
                    panic!("no script was run")
                }
            })
            .collect();
        prop_assert_eq!(read, items);
    }

    #[test]
    fn whatever_decodes_is_encoded_to_what_decodes_to_the_same(
        kind in 0..40u8, noise in proptest::collection::vec(prop_oneof![0..6u8, any::<u8>()], 0..60),
    ) {
        if let Ok(message) = PeerMessage::decode(kind, &noise) {
            prop_assert_eq!(decoded(&encoded(&message)).unwrap(), message);
        }
        for item in Messages::new(&noise) {
            drop(item);
        }
    }
}

#[test]
fn what_a_script_was_denied_and_has_read_comes_out_beside_its_reply() {
    let mut answers = ForwardAnswers::new(GroupId(1), Term(2));
    let denied = |forbidden| Answer::Denied { forbidden, object: b"k", user: b"bob" };
    let read = Answer::ScriptRead(b"key");
    let all = [denied(0), Answer::Reply(b":1"), denied(2), read, Answer::ScriptReadMany];
    all.iter().for_each(|answer| answers.push(7, 3, *answer));
    let bytes = encoded(&PeerMessage::ForwardAnswers(answers));
    let PeerMessage::ForwardAnswers(answers) = decoded(&bytes).unwrap() else { panic!("another kind") };
    assert!(answers.iter().eq(all.iter().map(|answer| (7, 3, *answer))));
    let mut answers = ForwardAnswers::new(GroupId(1), Term(2));
    answers.push(7, 3, denied(3));
    assert!(
        decoded(&encoded(&PeerMessage::ForwardAnswers(answers))).is_err(),
        "it says nothing that is denied"
    );
}

#[test]
fn messages_of_replicas_round_trip_and_refuse_every_prefix() {
    let messages = raft::raft_messages();
    for (number, message) in messages.into_iter().enumerate() {
        let message = PeerMessage::Raft { group: GroupId(number as u64), message };
        let bytes = encoded(&message);
        assert_eq!(decoded(&bytes).unwrap(), message);
        if bytes.len() < 100 {
            check_prefixes_and_flips(&message);
        }
    }
}

#[test]
fn reasons_are_cut_at_the_bound_between_characters() {
    let reason = "é".repeat(TEXT_BYTES_MAX);
    let message = PeerMessage::MetaAnswer { number: 1, refused: Some(format!("x{reason}")), retry: false };
    let PeerMessage::MetaAnswer { refused: Some(cut), .. } = decoded(&encoded(&message)).unwrap() else {
        panic!("another message")
    };
    assert_eq!(cut.len(), TEXT_BYTES_MAX - 1);
    assert!(format!("x{reason}").starts_with(&cut));
}

#[test]
fn what_no_node_says_is_refused() {
    use skep_base::varint::{put, put_bytes};
    let refused = |kind: u8, build: &dyn Fn(&mut Vec<u8>)| {
        let mut fields = Vec::new();
        build(&mut fields);
        assert!(PeerMessage::decode(kind, &fields).is_err(), "kind {kind}: {fields:?}");
    };
    for kind in (0..16).chain(32..=255) {
        refused(kind, &|_| {});
    }
    // A forward: group, term, number, how much older the oldest wanted is, count, then flags, database, arguments.
    let op = |flags: u8, args: &'static [&'static [u8]]| {
        move |out: &mut Vec<u8>| {
            out.extend_from_slice(&[1, 1, 1, 0, 1, flags, 0, args.len() as u8]);
            args.iter().for_each(|arg| put_bytes(out, arg));
        }
    };
    let mut sound = Vec::new();
    op(0, &[b"PING"])(&mut sound);
    assert!(PeerMessage::decode(17, &sound).is_ok());
    refused(17, &op(128, &[b"PING"]));
    refused(17, &op(0, &[]));
    refused(17, &|out| out.extend_from_slice(&[1, 1, 1, 2, 0]));
    // Counts that the rest cannot hold, or that break the limit.
    refused(17, &|out| out.extend_from_slice(&[1, 1, 1, 9, 0, 0, 1, 0]));
    refused(18, &|out| out.extend_from_slice(&[1, 1, 2, 1, 0, 1]));
    refused(18, &|out| out.extend_from_slice(&[1, 1, 1, 1, 0, 3]));
    refused(18, &|out| {
        out.extend_from_slice(&[1, 1, 1, 1]);
        put(out, 1 << 32);
        out.push(1);
    });
    refused(24, &|out| {
        out.push(0);
        put(out, OFFER_NODES_MAX as u64 + 1);
        out.extend(std::iter::repeat_n(1, 16 * (OFFER_NODES_MAX + 1)));
    });
    refused(24, &|out| {
        out.extend_from_slice(&[1, 1]);
        out.extend_from_slice(&[0; 16]);
    });
    refused(29, &|out| {
        put(out, 0);
        put(out, BEAT_GROUPS_MAX as u64 + 1);
        out.extend(std::iter::repeat_n(1, 4 * (BEAT_GROUPS_MAX + 1)));
    });
    // Joined as no node, or to no cluster; texts that are too long, or none.
    refused(26, &|out| out.extend_from_slice(&[0, 0, 1, b'c']));
    refused(26, &|out| out.extend_from_slice(&[0, 1, 0]));
    refused(26, &|out| out.extend_from_slice(&[2, 1, 0xff]));
    refused(26, &|out| {
        out.push(2);
        put_bytes(out, &[b'x'; TEXT_BYTES_MAX + 1]);
    });
    refused(28, &|out| out.extend_from_slice(&[1, 0, 1, b'x']));
    refused(28, &|out| out.extend_from_slice(&[1, 4, 0]));
}
