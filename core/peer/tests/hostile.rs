//! Whoever is on the other side: strangers, other clusters, other versions, and nodes that break the rules. Each may end
//! its own link, and nothing else.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
#[path = "common/mod.rs"]
mod common;
#[path = "common/wire.rs"]
mod wire;

use std::collections::{BTreeMap, BTreeSet};

use common::{me, numbered};
use skep_base::varint::put;
use skep_base::{LinkId, Millis, NodeId, NodeUuid, Rng};
use skep_peer::{
    FRAME_BODY_BYTES_MAX, HANDSHAKE_BODY_BYTES_MAX, LinkInput, LinkLimits, LinkNote, LinkOutput, Links,
    MESSAGE_BYTES_MAX, Me, PIECE_BYTES_MAX, PeerMessage, VERSION_MAX, VERSION_MIN,
};
use wire::{ACCEPTOR, DIALER, HELLO, PROOF, REFUSE, WELCOME};

const VERSIONS: (u64, u64) = (VERSION_MIN, VERSION_MAX);

/// A node under attack, and what it said so far.
struct Victim {
    links: Links,
    now: Millis,
    out: Vec<LinkOutput>,
}

impl Victim {
    fn new() -> Victim {
        Victim { links: Links::new(me(1), LinkLimits::default(), 99), now: Millis(1_000), out: Vec::new() }
    }

    fn accept(&mut self) -> LinkId {
        self.links.accept(self.now, "10.0.0.9:4711".to_owned()).unwrap()
    }

    /// Lets the node dial `x:1`, and gives what it says first.
    fn dial(&mut self) -> (LinkId, Vec<u8>) {
        self.links.set_addresses(BTreeSet::from(["x:1".to_owned()]), &mut self.out);
        let Some(LinkOutput::Dial { link, .. }) = self.out.pop() else { panic!("nothing is dialed") };
        self.handle(LinkInput::Dialed { link });
        (link, self.take_sent(link))
    }

    fn handle(&mut self, input: LinkInput<'_>) {
        self.links.handle(self.now, input, &mut self.out);
        self.links.flush();
        self.links.assert_invariants();
    }

    fn receive(&mut self, link: LinkId, bytes: &[u8]) {
        self.handle(LinkInput::Received { link, bytes });
    }

    fn take_sent(&mut self, link: LinkId) -> Vec<u8> {
        let sent = self.links.unsent(link).to_vec();
        self.links.on_sent(link, sent.len());
        sent
    }

    fn is_up(&self) -> bool {
        self.out.iter().any(|output| matches!(output, LinkOutput::Up { .. }))
    }

    fn messages(&self) -> Vec<&PeerMessage> {
        let messages = self.out.iter().filter_map(|output| match output {
            LinkOutput::Message { message, .. } => Some(message),
            _ => None,
        });
        messages.collect()
    }

    /// The reason for which the link was closed by this node.
    fn closed(&self, link: LinkId) -> Option<&str> {
        let closed = self.out.contains(&LinkOutput::Close { link });
        self.out.iter().find_map(|output| match output {
            LinkOutput::Down { link: down, reason, .. } if *down == link && closed => Some(reason.as_str()),
            _ => None,
        })
    }

    fn assert_closed(&self, link: LinkId, reason: &str) {
        let closed = self.closed(link).unwrap_or_else(|| panic!("{link:?} stands: {:?}", self.out));
        assert!(closed.contains(reason), "{closed:?} does not say {reason:?}");
        let told = |output: &LinkOutput| matches!(output, LinkOutput::Note(note) if note.reason() == closed);
        assert!(self.out.iter().any(told), "no note says {closed:?}: {:?}", self.out);
    }

    /// What this node gave as its reason to refuse, to the other side and to its operator.
    fn assert_refused(&mut self, link: LinkId, reason: &str) {
        let (kind, fields) = wire::read(&self.take_sent(link));
        assert_eq!(kind, REFUSE);
        let text = String::from_utf8_lossy(&fields);
        assert!(text.contains(reason), "{text:?} does not say {reason:?}");
        let noted = self.out.iter().any(|output| {
            matches!(output, LinkOutput::Note(LinkNote::Refused { reason, .. }) if text.ends_with(reason.as_str()))
        });
        assert!(noted, "{:?}", self.out);
        assert!(!self.is_up() && self.closed(link).is_none());
    }
}

fn hello(who: &Me) -> Vec<u8> {
    wire::introduction(who, VERSIONS, &[9; 16])
}

/// A link with node 2, accepted by a new node.
fn accepted_up() -> (Victim, LinkId) {
    let mut victim = Victim::new();
    let link = victim.accept();
    let dialer = hello(&me(2));
    victim.receive(link, &wire::step(HELLO, &dialer));
    let (kind, fields) = wire::read(&victim.take_sent(link));
    assert_eq!(kind, WELCOME);
    let (version, acceptor, proof) = wire::read_welcome(&fields);
    assert_eq!(proof, wire::proof(b"secret", ACCEPTOR, version, &dialer, &acceptor));
    let answer = wire::proof(b"secret", DIALER, version, &dialer, &acceptor);
    victim.receive(link, &wire::step(PROOF, &answer));
    assert!(victim.is_up());
    (victim, link)
}

/// What an accepting node that knows `password` answers to the hello in `sent`.
fn welcome_to(sent: &[u8], who: &Me, versions: (u64, u64), version: u64) -> Vec<u8> {
    let (kind, dialer) = wire::read(sent);
    assert_eq!(kind, HELLO);
    let acceptor = wire::introduction(who, versions, &[8; 16]);
    let proof = wire::proof(&who.password, ACCEPTOR, version, &dialer, &acceptor);
    wire::welcome(version, &acceptor, &proof)
}

#[test]
fn a_handshake_by_the_book_succeeds_on_both_sides() {
    let (victim, link) = accepted_up();
    assert_eq!(victim.links.peer(link), Some(&me(2).public()));

    let mut victim = Victim::new();
    let (link, sent) = victim.dial();
    victim.receive(link, &welcome_to(&sent, &me(2), VERSIONS, 1));
    let up = LinkOutput::Up { link, peer: me(2).public(), dialed: Some("x:1".to_owned()) };
    assert_eq!(victim.out, [up]);
    assert_eq!(wire::read(&victim.take_sent(link)).0, PROOF);
}

#[test]
fn a_newer_node_that_says_more_is_understood() {
    let mut victim = Victim::new();
    let link = victim.accept();
    let newer = (VERSION_MIN, VERSION_MAX + 7);
    let dialer = [&wire::introduction(&me(2), newer, &[9; 16])[..], b"what is to come"].concat();
    victim.receive(link, &wire::step(HELLO, &dialer));
    let (version, acceptor, _) = wire::read_welcome(&wire::read(&victim.take_sent(link)).1);
    assert_eq!(version, VERSION_MAX);
    victim.receive(link, &wire::step(PROOF, &wire::proof(b"secret", DIALER, version, &dialer, &acceptor)));
    assert!(victim.is_up());
}

#[test]
fn a_node_without_a_common_version_is_refused() {
    let mut victim = Victim::new();
    let link = victim.accept();
    let versions = (VERSION_MAX + 1, VERSION_MAX + 2);
    victim.receive(link, &wire::step(HELLO, &wire::introduction(&me(2), versions, &[9; 16])));
    victim.assert_refused(link, "speaks versions 2 to 3");

    let mut victim = Victim::new();
    let (link, sent) = victim.dial();
    victim.receive(link, &welcome_to(&sent, &me(2), versions, VERSION_MAX + 1));
    victim.assert_closed(link, "version 2 was chosen of 1 to 1");
}

#[test]
fn a_node_of_another_cluster_is_refused_and_one_of_none_is_not() {
    let other = Me { cluster_id: "another".to_owned(), ..me(2) };
    let mut victim = Victim::new();
    let link = victim.accept();
    victim.receive(link, &wire::step(HELLO, &hello(&other)));
    victim.assert_refused(link, "cluster \"another\"");

    let mut victim = Victim::new();
    let (link, sent) = victim.dial();
    victim.receive(link, &welcome_to(&sent, &other, VERSIONS, 1));
    victim.assert_refused(link, "cluster \"the cluster\"");

    let none = Me { cluster_id: String::new(), node: NodeId(0), ..me(2) };
    let mut victim = Victim::new();
    let (link, sent) = victim.dial();
    victim.receive(link, &welcome_to(&sent, &none, VERSIONS, 1));
    assert!(victim.is_up());
}

#[test]
fn who_does_not_know_the_password_is_refused_by_either_side() {
    let mut victim = Victim::new();
    let (link, sent) = victim.dial();
    victim.receive(link, &welcome_to(&sent, &Me { password: b"guess".to_vec(), ..me(2) }, VERSIONS, 1));
    victim.assert_refused(link, "another password");

    let mut victim = Victim::new();
    let link = victim.accept();
    let dialer = hello(&me(2));
    victim.receive(link, &wire::step(HELLO, &dialer));
    let (version, acceptor, own) = wire::read_welcome(&wire::read(&victim.take_sent(link)).1);
    for wrong in [wire::proof(b"guess", DIALER, version, &dialer, &acceptor), own, [0; 32]] {
        let mut victim = Victim::new();
        let link = victim.accept();
        victim.receive(link, &wire::step(HELLO, &dialer));
        assert_eq!(wire::read(&victim.take_sent(link)).0, WELCOME);
        victim.receive(link, &wire::step(PROOF, &wrong));
        victim.assert_refused(link, "another password");
    }
}

#[test]
fn a_proof_serves_once() {
    let (mut victim, link) = accepted_up();
    let dialer = hello(&me(2));
    let mut answers = BTreeSet::new();
    for _ in 0..100 {
        victim.handle(LinkInput::Closed { link, reason: String::new() });
        let link = victim.accept();
        victim.receive(link, &wire::step(HELLO, &dialer));
        let (version, acceptor, _) = wire::read_welcome(&wire::read(&victim.take_sent(link)).1);
        let answer = wire::proof(b"secret", DIALER, version, &dialer, &acceptor);
        assert!(answers.insert(answer), "the same hello was answered with the same nonce");
        victim.handle(LinkInput::Closed { link, reason: String::new() });
    }
    let link = victim.accept();
    victim.out.clear();
    victim.receive(link, &wire::step(HELLO, &dialer));
    victim.take_sent(link);
    victim.receive(link, &wire::step(PROOF, answers.first().unwrap()));
    victim.assert_refused(link, "another password");
}

#[test]
fn an_introduction_altered_on_the_way_is_refused() {
    let (dialer, other) = (hello(&me(2)), hello(&me(3)));
    let mut victim = Victim::new();
    let link = victim.accept();
    victim.receive(link, &wire::step(HELLO, &other));
    let (version, acceptor, _) = wire::read_welcome(&wire::read(&victim.take_sent(link)).1);
    victim.receive(link, &wire::step(PROOF, &wire::proof(b"secret", DIALER, version, &dialer, &acceptor)));
    victim.assert_refused(link, "another password");
}

#[test]
fn nodes_with_the_id_of_another_are_refused() {
    let nodes = BTreeMap::from([(NodeId(1), me(1).uuid), (NodeId(3), me(3).uuid)]);
    let mut victim = Victim::new();
    victim.links.set_known(nodes, BTreeSet::new(), &mut victim.out);
    for claimed in [1, 3] {
        let link = victim.accept();
        victim.receive(link, &wire::step(HELLO, &hello(&Me { node: NodeId(claimed), ..me(4) })));
        victim.assert_refused(link, &format!("says that it is node {claimed}"));
    }
    let link = victim.accept();
    victim.receive(link, &wire::step(HELLO, &hello(&me(3))));
    assert_eq!(wire::read(&victim.take_sent(link)).0, WELCOME);
}

#[test]
fn a_node_whose_id_is_given_to_another_during_its_handshake_is_refused() {
    let mut victim = Victim::new();
    let link = victim.accept();
    let dialer = hello(&me(2));
    victim.receive(link, &wire::step(HELLO, &dialer));
    let (version, acceptor, _) = wire::read_welcome(&wire::read(&victim.take_sent(link)).1);
    let nodes = BTreeMap::from([(NodeId(2), me(3).uuid)]);
    victim.links.set_known(nodes, BTreeSet::new(), &mut victim.out);
    victim.receive(link, &wire::step(PROOF, &wire::proof(b"secret", DIALER, version, &dialer, &acceptor)));
    victim.assert_refused(link, "says that it is node 2");
}

#[test]
fn a_copy_of_the_data_directory_is_not_taken_for_this_node() {
    let copy = Me { incarnation: 2, ..me(1) };
    let mut victim = Victim::new();
    let link = victim.accept();
    victim.receive(link, &wire::step(HELLO, &hello(&copy)));
    victim.assert_refused(link, "a data directory was copied");

    let mut victim = Victim::new();
    let (link, sent) = victim.dial();
    victim.receive(link, &welcome_to(&sent, &copy, VERSIONS, 1));
    victim.assert_refused(link, "a data directory was copied");
    assert!(!victim.out.iter().any(|output| matches!(output, LinkOutput::SelfFound { .. })));
}

#[test]
fn other_protocols_are_turned_away() {
    let strangers: [&[u8]; 5] = [
        b"*1\r\n$4\r\nPING\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x55",
        &wire::frame(b"\x01\x05\x00\x00\x00hello"),
        &[0; 64],
    ];
    for bytes in strangers {
        let mut victim = Victim::new();
        let link = victim.accept();
        victim.receive(link, bytes);
        victim.assert_closed(link, "");
        assert!(victim.links.unsent(link).is_empty());
    }
}

#[test]
fn steps_out_of_turn_end_the_link() {
    let (dialer, acceptor) = (hello(&me(2)), hello(&me(3)));
    let steps = [
        wire::step(HELLO, &dialer),
        wire::welcome(1, &acceptor, &[0; 32]),
        wire::step(REFUSE, b"\x02no"),
        wire::step(PROOF, &[0; 32]),
    ];
    for (number, step) in steps.iter().enumerate() {
        if number != 0 {
            let mut victim = Victim::new();
            let link = victim.accept();
            victim.receive(link, step);
            victim.assert_closed(link, "out of turn");
        }
        if number == 0 || number == 3 {
            let mut victim = Victim::new();
            let (link, _) = victim.dial();
            victim.receive(link, step);
            victim.assert_closed(link, "out of turn");
        }
        let (mut victim, link) = accepted_up();
        victim.receive(link, step);
        victim.assert_closed(link, "bad message of kind");
    }
    let mut body = Vec::new();
    numbered(1, 10).encode(&mut body);
    let mut victim = Victim::new();
    let link = victim.accept();
    victim.receive(link, &wire::frame(&body));
    victim.assert_closed(link, "expected a step of the handshake");
}

#[test]
fn a_refusal_is_told_to_the_operator_without_its_control_characters() {
    let mut victim = Victim::new();
    let (link, _) = victim.dial();
    victim.receive(link, &wire::step(REFUSE, b"\x08no\x1b[31m\n"));
    victim.assert_closed_by_refusal(link, "refused: no?[31m?");
}

impl Victim {
    fn assert_closed_by_refusal(&self, link: LinkId, reason: &str) {
        assert_eq!(self.closed(link), Some(reason));
        let note =
            LinkNote::RefusedBy { address: "x:1".to_owned(), reason: reason["refused: ".len()..].to_owned() };
        assert!(self.out.contains(&LinkOutput::Note(note)), "{:?}", self.out);
    }
}

#[test]
fn a_frame_too_large_for_a_handshake_ends_it_before_it_comes() {
    let announce = |len: usize| wire::header(len, 0);
    let mut victim = Victim::new();
    let link = victim.accept();
    victim.receive(link, &announce(HANDSHAKE_BODY_BYTES_MAX + 1));
    victim.assert_closed(link, "65537 bytes announced");

    let mut victim = Victim::new();
    let (link, _) = victim.dial();
    victim.receive(link, &announce(HANDSHAKE_BODY_BYTES_MAX + 1));
    victim.assert_closed(link, "65537 bytes announced");

    let (mut victim, link) = accepted_up();
    victim.receive(link, &announce(FRAME_BODY_BYTES_MAX));
    assert_eq!(victim.closed(link), None);

    let (mut victim, link) = accepted_up();
    victim.receive(link, &announce(FRAME_BODY_BYTES_MAX + 1));
    victim.assert_closed(link, "bytes announced");
}

#[test]
fn frames_behind_the_last_step_may_come_with_it() {
    let mut victim = Victim::new();
    let link = victim.accept();
    let dialer = hello(&me(2));
    victim.receive(link, &wire::step(HELLO, &dialer));
    let (version, acceptor, _) = wire::read_welcome(&wire::read(&victim.take_sent(link)).1);
    let mut body = Vec::new();
    numbered(1, HANDSHAKE_BODY_BYTES_MAX + 30_000).encode(&mut body);
    let proof = wire::step(PROOF, &wire::proof(b"secret", DIALER, version, &dialer, &acceptor));
    victim.receive(link, &[proof, wire::frame(&body)].concat());
    assert_eq!(victim.messages(), [&numbered(1, HANDSHAKE_BODY_BYTES_MAX + 30_000)]);
}

#[test]
fn what_came_before_garbage_counts_and_nothing_behind_it() {
    let mut body = Vec::new();
    numbered(1, 10).encode(&mut body);
    let sound = wire::frame(&body);
    body.extend_from_slice(&wire::message(200, b"?"));
    let garbage = wire::frame(&body);
    let (mut victim, link) = accepted_up();
    victim.receive(link, &[&sound[..], &garbage, &sound].concat());
    victim.assert_closed(link, "bad message of kind 200");
    assert_eq!(victim.messages().len(), 2);
    victim.receive(link, &sound);
    assert_eq!(victim.messages().len(), 2);
}

/// A piece of a lane, in a frame of its own.
fn piece(lane: u8, number: u64, bytes: &[u8]) -> Vec<u8> {
    let mut fields = vec![lane];
    put(&mut fields, number);
    fields.extend_from_slice(bytes);
    wire::frame(&wire::message(7, &fields))
}

fn encoded(message: &PeerMessage) -> Vec<u8> {
    let mut bytes = Vec::new();
    message.encode(&mut bytes);
    bytes
}

#[test]
fn messages_come_out_of_pieces_of_any_size_and_lanes_in_any_order() {
    let (short, long) = (numbered(1, 40), numbered(2, 900));
    for cut in 5..900 {
        let (mut victim, link) = accepted_up();
        let bytes = encoded(&long);
        let pieces: Vec<&[u8]> = bytes.chunks(cut).collect();
        for (number, bytes) in pieces.iter().enumerate() {
            victim.receive(link, &piece(9, number as u64, bytes));
            if number == 0 {
                let whole = [encoded(&short), encoded(&short)].concat();
                victim.receive(link, &piece(63, 0, &whole));
            }
        }
        assert_eq!(victim.closed(link), None);
        let expected: Vec<&PeerMessage> =
            if pieces.len() == 1 { vec![&long, &short, &short] } else { vec![&short, &short, &long] };
        assert_eq!(victim.messages(), expected, "cut at {cut}");
    }
}

#[test]
fn pieces_that_no_node_sends_end_the_link() {
    let message = encoded(&numbered(1, 900));
    let small = encoded(&numbered(1, 10));
    let (front, rest) = message.split_at(500);
    let cases: [(&str, &[Vec<u8>]); 10] = [
        ("lane 64", &[piece(64, 0, &small)]),
        ("0 bytes of lane 1", &[piece(1, 0, b"")]),
        ("65537 bytes of lane 1", &[piece(1, 0, &[0; PIECE_BYTES_MAX + 1])]),
        ("expected", &[wire::frame(&wire::message(7, b""))]),
        ("piece 1 of lane 1 came in place of 0", &[piece(1, 1, &small)]),
        ("piece 0 of lane 1 came in place of 1", &[piece(1, 0, front), piece(1, 0, front)]),
        ("piece 2 of lane 1 came in place of 1", &[piece(1, 0, front), piece(1, 2, rest)]),
        ("behind the end of a message", &[piece(1, 0, front), piece(1, 1, &[rest, &small].concat())]),
        ("begin no message", &[piece(1, 0, &small[..4])]),
        ("a known kind of message", &[piece(1, 0, &wire::message(5, b""))]),
    ];
    for (reason, frames) in cases {
        let (mut victim, link) = accepted_up();
        for frame in frames {
            assert_eq!(victim.closed(link), None, "{reason}");
            victim.receive(link, frame);
        }
        victim.assert_closed(link, reason);
        assert!(victim.messages().is_empty());
    }
    // One that has not proved that it knows the password has no lanes.
    let mut victim = Victim::new();
    let link = victim.accept();
    victim.receive(link, &piece(1, 0, &small));
    victim.assert_closed(link, "expected a step of the handshake");
}

#[test]
fn what_is_announced_in_pieces_takes_no_memory_and_has_a_limit() {
    let announce = |len: u32| [&[21][..], &len.to_le_bytes(), &[0; 100]].concat();
    let (mut victim, link) = accepted_up();
    victim.receive(link, &piece(1, 0, &announce((MESSAGE_BYTES_MAX + 1) as u32)));
    victim.assert_closed(link, "begin no message");

    let (mut victim, link) = accepted_up();
    victim.receive(link, &piece(1, 0, &announce((MESSAGE_BYTES_MAX - 1_000) as u32)));
    victim.receive(link, &piece(2, 0, &announce(200)));
    assert_eq!(victim.closed(link), None);
    victim.receive(link, &piece(3, 0, &announce(800)));
    victim.assert_closed(link, "bytes of messages in pieces, limit is");
}

#[test]
fn every_flipped_bit_of_a_piece_is_found_out() {
    let message = numbered(1, 60);
    let bytes = encoded(&message);
    let pieces = [piece(1, 0, &bytes[..40]), piece(1, 1, &bytes[40..])];
    for (number, good) in pieces.iter().enumerate() {
        for at in 0..good.len() {
            for bit in 0..8 {
                let (mut victim, link) = accepted_up();
                for (place, good) in pieces.iter().enumerate() {
                    let mut damaged = good.clone();
                    damaged[at.min(good.len() - 1)] ^= u8::from(place == number) << bit;
                    victim.receive(link, &damaged);
                }
                assert!(victim.messages().is_empty(), "bit {bit} of byte {at} of piece {number}");
            }
        }
        for cut in 0..good.len() {
            let (mut victim, link) = accepted_up();
            pieces[..number].iter().for_each(|piece| victim.receive(link, piece));
            victim.receive(link, &good[..cut]);
            assert!(victim.messages().is_empty() && victim.closed(link).is_none(), "cut at {cut}");
            victim.receive(link, &good[cut..]);
            pieces[number + 1..].iter().for_each(|piece| victim.receive(link, piece));
            assert_eq!(victim.messages(), [&message]);
        }
    }
}

#[test]
fn every_flipped_bit_of_a_handshake_keeps_the_link_from_standing() {
    let dialer = hello(&me(2));
    let good = wire::step(HELLO, &dialer);
    for at in 0..good.len() {
        for bit in 0..8 {
            let mut damaged = good.clone();
            damaged[at] ^= 1 << bit;
            let mut victim = Victim::new();
            let link = victim.accept();
            victim.receive(link, &damaged);
            assert!(victim.take_sent(link).is_empty(), "bit {bit} of byte {at} of the hello was answered");
        }
    }
    let (_, sent) = Victim::new().dial();
    let good = welcome_to(&sent, &me(2), VERSIONS, 1);
    for at in 0..good.len() {
        let mut damaged = good.clone();
        damaged[at] ^= 1 << (at % 8);
        // Once as it is, once by somebody who can do checksums.
        let body = damaged[12..].to_vec();
        for bytes in [damaged, wire::frame(&body)] {
            let mut victim = Victim::new();
            let (link, again) = victim.dial();
            assert_eq!(again, sent, "the same seed gives the same hello");
            victim.receive(link, &bytes);
            assert!(at < 12 && bytes == good || !victim.is_up(), "byte {at} of the welcome means nothing");
        }
    }
}

#[test]
fn bytes_that_come_one_by_one_make_the_same_link() {
    let mut victim = Victim::new();
    let (link, sent) = victim.dial();
    for byte in welcome_to(&sent, &me(2), VERSIONS, 1) {
        victim.receive(link, &[byte]);
    }
    assert!(victim.is_up());
    let mut body = Vec::new();
    (0..20).for_each(|number| numbered(number, 30).encode(&mut body));
    for byte in wire::frame(&body) {
        victim.receive(link, &[byte]);
    }
    assert_eq!(victim.messages().len(), 20);
}

#[test]
fn every_prefix_of_a_handshake_waits_until_its_time_is_over() {
    let good = wire::step(HELLO, &hello(&me(2)));
    for cut in 0..good.len() {
        let mut victim = Victim::new();
        let link = victim.accept();
        victim.receive(link, &good[..cut]);
        assert!(victim.out.is_empty());
        assert_eq!(victim.links.next_wakeup(), Some(Millis(3_000)));
        victim.now = Millis(2_999);
        victim.handle(LinkInput::Tick);
        assert!(victim.out.is_empty());
        victim.now = Millis(3_000);
        victim.handle(LinkInput::Tick);
        victim.assert_closed(link, "the handshake was not over after 2000 ms");
        assert_eq!(victim.links.next_wakeup(), None);
    }
}

#[test]
fn a_byte_now_and_then_does_not_prolong_a_handshake() {
    let mut victim = Victim::new();
    let link = victim.accept();
    let good = wire::step(HELLO, &hello(&me(2)));
    for byte in &good[..19] {
        victim.now = victim.now.plus(100);
        victim.receive(link, &[*byte]);
        victim.handle(LinkInput::Tick);
    }
    assert_eq!(victim.closed(link), None);
    victim.now = victim.now.plus(100);
    victim.handle(LinkInput::Tick);
    victim.assert_closed(link, "the handshake was not over");
}

#[test]
fn the_time_of_a_handshake_begins_when_the_connection_stands() {
    let mut victim = Victim::new();
    victim.links.set_addresses(BTreeSet::from(["x:1".to_owned()]), &mut victim.out);
    victim.handle(LinkInput::Tick);
    victim.out.clear();
    let link = LinkId(1);
    victim.now = victim.now.plus(1_900);
    victim.handle(LinkInput::Dialed { link });
    victim.now = victim.now.plus(1_900);
    victim.handle(LinkInput::Tick);
    assert_eq!(victim.closed(link), None);
    victim.now = victim.now.plus(100);
    victim.handle(LinkInput::Tick);
    victim.assert_closed(link, "the handshake was not over after 2000 ms");
}

#[test]
fn a_node_that_closes_each_link_as_soon_as_it_is_up_is_not_dialed_in_a_loop() {
    let mut victim = Victim::new();
    let (mut link, mut hello) = victim.dial();
    for round in 0..20 {
        victim.receive(link, &welcome_to(&hello, &me(2), VERSIONS, 1));
        assert!(victim.links.peer(link).is_some());
        victim.handle(LinkInput::Closed { link, reason: "rude".to_owned() });
        let wait = victim.links.next_wakeup().unwrap().since(victim.now);
        assert!(round < 6 || (1_000..=2_000).contains(&wait), "{wait} ms in round {round}");
        victim.now = victim.now.plus(wait);
        victim.handle(LinkInput::Tick);
        let Some(LinkOutput::Dial { link: next, .. }) = victim.out.pop() else { panic!("nothing is dialed") };
        link = next;
        victim.handle(LinkInput::Dialed { link });
        hello = victim.take_sent(link);
    }
}

#[test]
fn a_refused_node_that_does_not_leave_is_closed() {
    let mut victim = Victim::new();
    let link = victim.accept();
    victim.receive(link, &wire::step(HELLO, &hello(&Me { cluster_id: "another".to_owned(), ..me(2) })));
    victim.receive(link, &wire::step(HELLO, &hello(&me(2))));
    assert_eq!(wire::read(&victim.take_sent(link)).0, REFUSE);
    victim.now = Millis(3_000);
    victim.handle(LinkInput::Tick);
    assert!(victim.closed(link).unwrap().contains("another"));
}

#[test]
fn garbage_does_not_fill_the_log() {
    let noted =
        |victim: &Victim| victim.out.iter().filter(|output| matches!(output, LinkOutput::Note(_))).count();
    let mut victim = Victim::new();
    for number in 0..1_000u32 {
        let link = victim.accept();
        victim.receive(link, &wire::frame(&[b"\x01\x00\x00\x00\x00", &number.to_le_bytes()[..]].concat()));
        assert!(victim.closed(link).is_some());
    }
    assert_eq!(noted(&victim), 1, "the same reason is told once");
    let stats = victim.links.stats();
    assert_eq!((stats.broken, stats.accepted, stats.up), (1_000, 1_000, 0));

    let mut victim = Victim::new();
    for number in 0..1_000 {
        let link = victim.accept();
        victim.receive(link, &wire::header(HANDSHAKE_BODY_BYTES_MAX + 1 + number, 0));
    }
    assert_eq!(noted(&victim), 64, "and not more than so many different ones");
    victim.now = victim.now.plus(60_000);
    let link = victim.accept();
    victim.receive(link, &[0; 12]);
    assert_eq!(noted(&victim), 65, "within a minute");
}

#[test]
fn noise_ends_links_and_nothing_else() {
    let mut rng = Rng::new(7);
    for _ in 0..3_000 {
        let (mut victim, up) = accepted_up();
        let shaking = victim.accept();
        let mut noise: Vec<u8> = (0..1 + rng.below(80)).map(|_| rng.next_u64() as u8).collect();
        if rng.one_in(2) {
            noise[0] = rng.below(40) as u8;
            noise = wire::frame(&noise);
        }
        victim.receive(up, &noise);
        victim.receive(shaking, &noise);
        assert!(victim.messages().is_empty());
        assert!(victim.links.peer(shaking).is_none());
    }
}

#[test]
fn a_node_without_a_uuid_is_no_node() {
    let mut victim = Victim::new();
    let link = victim.accept();
    victim.receive(link, &wire::step(HELLO, &hello(&Me { uuid: NodeUuid(0), ..me(2) })));
    victim.assert_closed(link, "expected the uuid of a node");
}
