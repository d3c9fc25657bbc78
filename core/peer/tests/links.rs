//! Nodes that dial each other, in good times and bad.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod common;

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use common::{Faults, Net, me, numbered, urgent};
use skep_base::{LinkId, Millis, NodeId, NodeUuid};
use skep_peer::{
    FRAME_BODY_BYTES_MAX, FrameReader, LinkInput, LinkLimits, LinkNote, LinkOutput, Links, Me,
    PIECE_BYTES_MAX, PeerMessage,
};

fn pair(seed: u64, faults: Faults) -> Net {
    let mut net = Net::new(seed, faults);
    net.add("a:1", me(1), LinkLimits::default());
    net.add("b:1", me(2), LinkLimits::default());
    net.set_addresses(0, &["b:1"]);
    net.set_addresses(1, &["a:1"]);
    net
}

/// Node 0 dials node 1, and not the other way.
fn one_way(seed: u64, faults: Faults) -> Net {
    let mut net = Net::new(seed, faults);
    net.add("a:1", me(1), LinkLimits::default());
    net.add("b:1", me(2), LinkLimits::default());
    net.set_addresses(0, &["b:1"]);
    net
}

#[test]
fn two_nodes_that_list_each_other_have_a_dialed_link_each() {
    let mut net = pair(1, Faults::default());
    net.run(20);
    for host in 0..2 {
        let h = &net.hosts[host];
        assert_eq!(h.up().len(), 2);
        let [link] = h.dialed_up()[..] else { panic!("{} dialed links", h.dialed_up().len()) };
        assert_eq!(h.links.peer(link), Some(&me(2 - host as u64).public()));
        assert_eq!(h.ends[&link].dialed.as_deref(), Some(if host == 0 { "b:1" } else { "a:1" }));
        assert!(h.notes.is_empty(), "{:?}", h.notes);
    }
}

#[test]
fn messages_arrive_in_order_over_links_both_dialed_and_accepted() {
    let mut net = pair(2, Faults::default());
    net.run(20);
    for number in 0..500 {
        for host in 0..2 {
            for link in net.hosts[host].up() {
                let bytes = net.rng.below(3_000) as usize;
                net.send(host, link, numbered(number, bytes));
            }
        }
        net.step();
    }
    net.run(500);
    net.assert_all_arrived();
    let received: usize = net.hosts.iter().flat_map(|h| h.ends.values()).map(|end| end.received.len()).sum();
    assert_eq!(received, 2_000);
}

#[test]
fn a_turn_of_small_messages_is_one_frame() {
    let mut net = pair(3, Faults::default());
    net.run(20);
    let link = net.hosts[0].dialed_up()[0];
    let before = net.hosts[0].links.stats();
    (0..60).for_each(|number| net.send(0, link, numbered(number, 1_000)));
    net.hosts[0].links.flush();
    let after = net.hosts[0].links.stats();
    assert_eq!((after.frames_out - before.frames_out, after.pieces_out), (1, 0));
}

/// All that waits on a link is taken, as by a network without delay, `bytes` at most.
fn take(net: &mut Net, link: LinkId, bytes: usize) -> usize {
    let links = &mut net.hosts[0].links;
    let mut taken = 0;
    while taken < bytes && !links.unsent(link).is_empty() {
        let len = links.unsent(link).len().min(bytes - taken);
        links.on_sent(link, len);
        taken += len;
    }
    taken
}

#[test]
fn a_small_message_waits_behind_few_pieces_of_large_ones() {
    let mut net = pair(18, Faults::default());
    net.run(20);
    let link = net.hosts[0].dialed_up()[0];
    let large = numbered(3, 20_000_000);
    for number in 0..100 {
        if number % 10 == 0 {
            net.send(0, link, large.clone());
        }
        let links = &mut net.hosts[0].links;
        assert!(links.send(link, &urgent(number)));
        links.flush();
        let ready = links.unsent(link).len();
        assert!(ready < 4 * PIECE_BYTES_MAX, "{ready} bytes in front of a small message");
        let kinds: Vec<u8> = frames(links.unsent(link)).iter().map(|body| body[0]).collect();
        assert!(kinds.contains(&30), "it is among what leaves next: {kinds:?}");
        let taken = ready + net.rng.below(1_000_000) as usize;
        assert_eq!(take(&mut net, link, taken), taken);
    }
}

/// The bodies of whole frames, behind what is left of the first.
fn frames(mut bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut bodies = Vec::new();
    while !bytes.is_empty() {
        let mut rest = bytes;
        match FrameReader::new().next(&mut rest, FRAME_BODY_BYTES_MAX) {
            Ok(Some(body)) => {
                bodies.push(body.to_vec());
                bytes = rest;
            }
            _ => bytes = &bytes[1..],
        }
    }
    bodies
}

#[test]
fn large_messages_of_different_groups_take_turns() {
    let mut net = pair(19, Faults::default());
    net.run(20);
    let link = net.hosts[0].dialed_up()[0];
    net.send(0, link, numbered(3, 3_000_000));
    net.send(0, link, numbered(4, 300_000));
    net.send(0, link, numbered(5, 100));
    net.send(0, link, numbered(6, 100));
    (net.write_max, net.read_max) = (50_000, 50_000);
    let accepted = net.hosts[1].up().into_iter().find(|link| net.hosts[1].ends[link].dialed.is_none());
    net.run(400);
    net.assert_all_arrived();
    let numbers: Vec<u64> = net.hosts[1].ends[&accepted.unwrap()]
        .received
        .iter()
        .filter_map(|message| match message {
            PeerMessage::CheckpointPiece { chunk, .. } => Some(*chunk),
            _ => None,
        })
        .collect();
    assert_eq!(numbers, [5, 4, 3, 6], "the last is of the group of the first");
}

#[test]
fn large_messages_that_are_too_much_together_come_one_after_the_other() {
    let mut net = pair(20, Faults::default());
    net.run(20);
    let link = net.hosts[0].dialed_up()[0];
    let bytes = Bytes::from(vec![0; 600 << 20]);
    for number in [3, 4] {
        let mut message = numbered(number, 0);
        let PeerMessage::CheckpointPiece { bytes: payload, .. } = &mut message else { unreachable!() };
        *payload = bytes.clone();
        net.hosts[0].links.send(link, &message);
    }
    net.hosts[0].links.flush();
    let mut lanes = BTreeSet::new();
    for _ in 0..20 {
        let links = &mut net.hosts[0].links;
        lanes.extend(frames(links.unsent(link)).iter().filter(|body| body[0] == 7).map(|body| body[5]));
        take(&mut net, link, PIECE_BYTES_MAX);
        net.hosts[0].links.assert_invariants();
    }
    assert_eq!(lanes.len(), 1, "{lanes:?}");
}

#[test]
fn nothing_leaves_before_the_turn_ends() {
    let mut net = pair(4, Faults::default());
    net.run(20);
    let link = net.hosts[0].dialed_up()[0];
    while net.hosts[0].links.next_with_output().is_some() {}
    net.send(0, link, numbered(1, 100));
    let links = &mut net.hosts[0].links;
    assert!(links.unsent(link).is_empty() && links.next_with_output().is_none());
    assert!(links.unsent_bytes(link) > 100);
    links.flush();
    assert_eq!(links.unsent(link).len(), links.unsent_bytes(link));
    assert_eq!((links.next_with_output(), links.next_with_output()), (Some(link), None));
}

#[test]
fn messages_for_links_that_are_not_up_are_declined() {
    let mut net = pair(5, Faults::default());
    let message = numbered(1, 1);
    assert!(!net.hosts[0].links.send(LinkId(1), &message), "being dialed");
    assert!(!net.hosts[0].links.send(LinkId(77), &message), "unknown");
    net.run(20);
    let link = net.hosts[0].dialed_up()[0];
    net.set_addresses(0, &[]);
    assert!(!net.hosts[0].links.send(link, &message), "closed");
    assert_eq!(net.hosts[0].links.unsent_bytes(link), 0);
}

#[test]
fn an_address_that_leads_to_this_node_is_told_and_left_alone_for_a_while() {
    let mut net = Net::new(6, Faults::default());
    net.add("a:1", me(1), LinkLimits::default());
    net.set_addresses(0, &["a:1"]);
    net.run(29_000);
    let h = &net.hosts[0];
    assert_eq!(h.own_addresses, BTreeSet::from(["a:1".to_owned()]));
    assert_eq!(h.dialed_at.len(), 1);
    assert!(h.up().is_empty() && h.notes.is_empty(), "{:?}", h.notes);
    net.run(2_000);
    assert_eq!(net.hosts[0].dialed_at.len(), 2, "the name may mean another machine by then");
}

#[test]
fn an_idle_link_stands_for_ever() {
    let mut net = one_way(7, Faults::default());
    net.run(120_000);
    for host in &net.hosts {
        assert_eq!((host.up().len(), host.ends.len()), (1, 1));
        assert_eq!(host.links.stats().messages_in, 0, "signs of life are the link's own");
    }
}

#[test]
fn a_link_whose_other_side_is_gone_without_a_word_is_closed_by_both() {
    let mut net = one_way(8, Faults::default());
    net.run(1_000);
    let link = net.hosts[0].dialed_up()[0];
    net.cut(0, 1);
    // What is small vanishes in the kernel's buffer, which says nothing about the other side.
    net.write_max = u64::from(u32::MAX);
    for number in 0..125 {
        assert!(number > 89 || net.hosts[0].up() == [link]);
        net.send(0, link, numbered(number, 10));
        net.run(100);
    }
    for host in &net.hosts {
        let end = &host.ends[&LinkId(1)];
        assert_eq!(end.down.as_deref(), Some("nothing moved for 10000 ms"));
        assert_eq!(end.received.len(), 0);
        assert!(matches!(&host.notes[..], [LinkNote::Broken { .. }]), "{:?}", host.notes);
    }
}

#[test]
fn a_large_transfer_on_a_slow_line_is_not_taken_for_silence() {
    let mut net = pair(9, Faults::default());
    net.run(20);
    let link = net.hosts[0].dialed_up()[0];
    // A hundred bytes at most in a millisecond: half a minute.
    (net.write_max, net.read_max) = (100, 1_000);
    net.send(0, link, numbered(1, 1_500_000));
    net.run(40_000);
    assert!(net.hosts.iter().flat_map(|h| h.ends.values()).all(|end| end.down.is_none()));
    net.assert_all_arrived();
}

#[test]
fn a_dial_that_is_not_answered_is_given_up_and_tried_again() {
    let mut net = one_way(10, Faults { lost_dials: 1, ..Faults::default() });
    net.run(10_000);
    let h = &net.hosts[0];
    let ended: Vec<_> = h.ends.values().filter_map(|end| end.down.as_deref()).collect();
    assert!(ended.len() >= 3 && ended.iter().all(|why| *why == "no connection within 2000 ms"), "{ended:?}");
    assert!(h.notes.is_empty(), "{:?}", h.notes);
}

#[test]
fn failures_in_a_row_are_retried_less_and_less_often() {
    let mut net = Net::new(11, Faults::default());
    net.add("a:1", me(1), LinkLimits::default());
    net.set_addresses(0, &["nobody:1", "not here:1"]);
    net.run(60_000);
    for address in ["nobody:1", "not here:1"] {
        let times: Vec<u64> =
            net.hosts[0].dialed_at.iter().filter(|(_, a)| a == address).map(|(at, _)| *at).collect();
        let gaps: Vec<u64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!((50..=101).contains(&gaps[0]), "{gaps:?}");
        assert!((100..=201).contains(&gaps[1]), "{gaps:?}");
        assert!(gaps[6..].iter().all(|gap| (1_000..=2_001).contains(gap)), "{gaps:?}");
        let distinct: BTreeSet<&u64> = gaps[6..].iter().collect();
        assert!(distinct.len() > 10, "no jitter in {gaps:?}");
    }
}

#[test]
fn a_link_that_lasted_is_dialed_again_at_once() {
    let mut net = one_way(12, Faults::default());
    net.set_addresses(0, &["nobody:1", "b:1"]);
    net.run(10_000);
    let lost = net.hosts[1].up()[0];
    let now = Millis(net.now);
    net.call(1, |links, out| {
        links.handle(now, LinkInput::Closed { link: lost, reason: "unplugged".to_owned() }, out);
        out.push(LinkOutput::Close { link: lost });
    });
    net.run(110);
    assert_eq!(net.hosts[0].dialed_up().len(), 1);
}

#[test]
fn a_node_that_has_become_another_dials_again_at_once() {
    let mut net = Net::new(17, Faults::default());
    net.add("a:1", me(1), LinkLimits::default());
    net.set_addresses(0, &["nobody:1"]);
    for (cluster_id, dials) in [("the cluster", 0), ("another", 1)] {
        net.run(60_000);
        // Just behind a dial that failed, so that the next one is a second away.
        let before = net.hosts[0].dialed_at.len();
        while net.hosts[0].dialed_at.len() == before {
            net.step();
        }
        net.step();
        net.call(0, |links, out| links.set_me(Me { cluster_id: cluster_id.to_owned(), ..me(1) }, out));
        net.run(10);
        assert_eq!(net.hosts[0].dialed_at.len() - before, 1 + dials, "{cluster_id}");
    }
}

#[test]
fn addresses_no_longer_wanted_are_let_go() {
    let mut net = pair(13, Faults::default());
    net.run(20);
    net.set_addresses(0, &["nobody:1"]);
    assert!(net.hosts[0].dialed_up().is_empty());
    net.run(5_000);
    assert!(net.hosts[0].dialed_at.iter().filter(|(_, address)| address == "b:1").count() == 1);
    net.set_addresses(0, &["b:1"]);
    net.run(20);
    assert_eq!(net.hosts[0].dialed_up().len(), 1);
}

#[test]
fn links_on_which_a_node_said_otherwise_are_made_anew() {
    let newcomer = Me { node: NodeId(0), cluster_id: String::new(), ..me(2) };
    let mut net = Net::new(14, Faults::default());
    net.add("a:1", me(1), LinkLimits::default());
    net.add("b:1", newcomer.clone(), LinkLimits::default());
    net.set_addresses(0, &["b:1"]);
    net.set_addresses(1, &["a:1"]);
    net.run(20);
    let said = |net: &Net| -> BTreeSet<NodeId> {
        let h = &net.hosts[0];
        h.up().iter().map(|link| h.links.peer(*link).unwrap().node).collect()
    };
    assert_eq!(said(&net), BTreeSet::from([NodeId(0)]));
    net.call(1, |links, out| links.set_me(newcomer, out));
    assert_eq!(net.hosts[1].up().len(), 2, "nothing changed");
    net.call(1, |links, out| links.set_me(me(2), out));
    assert!(net.hosts[1].up().is_empty());
    net.run(200);
    assert_eq!(said(&net), BTreeSet::from([NodeId(2)]));
    assert_eq!((net.hosts[0].up().len(), net.hosts[1].up().len()), (2, 2));
    net.call(1, |links, out| links.set_me(Me { password: b"another".to_vec(), ..me(2) }, out));
    assert_eq!(net.hosts[1].up().len(), 2, "a new password is for new links");
}

#[test]
fn links_with_removed_nodes_are_closed_and_come_up_again_until_the_next_time() {
    let mut net = pair(15, Faults::default());
    net.run(20);
    let nodes: BTreeMap<NodeId, NodeUuid> = [(NodeId(1), me(1).uuid), (NodeId(2), me(2).uuid)].into();
    net.call(0, |links, out| links.set_known(nodes, BTreeSet::new(), out));
    assert_eq!(net.hosts[0].up().len(), 2);
    net.call(0, |links, out| links.set_known(BTreeMap::new(), BTreeSet::from([NodeId(2)]), out));
    assert!(net.hosts[0].up().is_empty());
    net.run(20_000);
    assert!(net.hosts[0].up().len() == 2 && net.hosts[0].notes.is_empty(), "to be told over them");
    net.call(0, |links, out| links.set_known(BTreeMap::new(), BTreeSet::from([NodeId(2)]), out));
    assert!(net.hosts[0].up().is_empty());
}

#[test]
fn more_connections_than_the_limit_are_turned_away() {
    let mut links = Links::new(me(1), LinkLimits::default(), 1);
    let accepted: Vec<LinkId> =
        (0..64).map(|n| links.accept(Millis(5), format!("10.0.0.{n}:1")).unwrap()).collect();
    assert_eq!(links.accept(Millis(5), "10.0.0.99:1".to_owned()), None);
    assert_eq!(links.stats().turned_away, 1);
    let mut out = Vec::new();
    links.handle(Millis(6), LinkInput::Closed { link: accepted[3], reason: "gone".to_owned() }, &mut out);
    assert_eq!(out, [LinkOutput::Down { link: accepted[3], peer: None, reason: "gone".to_owned() }]);
    assert!(links.accept(Millis(7), "10.0.0.99:1".to_owned()).is_some());
    links.assert_invariants();
}

#[test]
fn a_peer_that_takes_nothing_is_closed_before_memory_is_full() {
    let mut net = Net::new(16, Faults::default());
    let limits = LinkLimits { output_bytes_max: 3_000_000, ..LinkLimits::default() };
    net.add("a:1", me(1), limits);
    net.add("b:1", me(2), LinkLimits::default());
    net.set_addresses(0, &["b:1"]);
    net.run(20);
    let link = net.hosts[0].dialed_up()[0];
    let links = &mut net.hosts[0].links;
    let taken = (0..1_000).take_while(|number| links.send(link, &numbered(*number, 9_990))).count();
    assert_eq!(taken, 300, "the one that goes over the limit counts as sent");
    links.flush();
    links.assert_invariants();
    assert_eq!((links.unsent(link), links.unsent_bytes(link)), (&[][..], 0));
    assert!(links.next_wakeup().is_some_and(|at| at.0 <= net.now), "it wants to say so");
    net.step();
    let down = net.hosts[0].ends[&link].down.as_deref().unwrap();
    assert!(down.contains("wait to be sent, limit is 3000000"), "{down}");
    net.run(200);
    assert_eq!(net.hosts[0].dialed_up().len(), 1, "and is dialed again");
}

#[test]
fn inputs_about_links_that_are_gone_change_nothing() {
    let mut links = Links::new(me(1), LinkLimits::default(), 1);
    let mut out = Vec::new();
    for input in [
        LinkInput::Dialed { link: LinkId(9) },
        LinkInput::Received { link: LinkId(9), bytes: b"late" },
        LinkInput::Closed { link: LinkId(9), reason: "late".to_owned() },
        LinkInput::Tick,
    ] {
        links.handle(Millis(1), input, &mut out);
        links.on_sent(LinkId(9), 5);
        links.assert_invariants();
    }
    assert!(out.is_empty() && links.next_wakeup().is_none());
}
