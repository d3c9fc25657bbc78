//! Nodes that dial each other, in good times and bad.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Faults, Net, me, numbered};
use skep_peer::LinkLimits;

fn pair(seed: u64, faults: Faults) -> Net {
    let mut net = Net::new(seed, faults);
    net.add("a:1", me(1), LinkLimits::default());
    net.add("b:1", me(2), LinkLimits::default());
    net.set_addresses(0, &["b:1"]);
    net.set_addresses(1, &["a:1"]);
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
