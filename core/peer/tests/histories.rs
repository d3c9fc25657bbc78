//! Three nodes that talk over pipes which cut bytes anywhere, stall, flip bits and break, in pieces of any size; the world
//! itself checks that what comes out of a link is what went in (INV-PEER-5), and the links' invariants after each step.
//!
//! A failing history names its seed; `SEED=n cargo test -p skep-peer --test histories one_seed` repeats it alone.
//! `SEEDS=n cargo test -p skep-peer --test histories` runs more of them.

#![allow(clippy::unwrap_used)]

#[allow(dead_code)]
mod common;

use std::collections::BTreeSet;

use common::{Faults, Net, me, numbered, urgent};
use skep_base::{LinkId, NodeId, Rng};
use skep_peer::{LinkLimits, PIECE_BYTES_MIN};

/// Histories in one run, unless the build says otherwise; a few seconds.
const SEEDS: u64 = 24;
/// Milliseconds of trouble in each.
const TROUBLE_MS: u64 = 4_000;
/// In which all must be well again: the longest stall or silence, and the longest wait before a dial.
const HEALING_MS: u64 = 28_000;

const ADDRESSES: [&str; 3] = ["a:1", "b:1", "c:1"];

struct Announce(u64);

impl Drop for Announce {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SEED={} cargo test -p skep-peer --test histories one_seed", self.0);
        }
    }
}

fn number_from(text: Option<&str>) -> Option<u64> {
    text.map(|text| text.parse().expect("SEED and SEEDS are numbers"))
}

/// Each trouble is missing in some histories, so that the others are also seen without it.
fn faults(seed: u64) -> Faults {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let mut one_in = |n: u64| if rng.one_in(3) { 0 } else { n / 2 + rng.below(n) };
    Faults {
        breaks: one_in(150),
        flips: one_in(400),
        stalls: one_in(3_000),
        refused_dials: one_in(4),
        lost_dials: one_in(20),
    }
}

fn run(seed: u64) -> Net {
    let mut net = Net::new(seed, faults(seed));
    for (number, address) in ADDRESSES.iter().enumerate() {
        let piece_bytes = PIECE_BYTES_MIN << net.rng.below(11);
        net.add(address, me(number as u64 + 1), LinkLimits { piece_bytes, ..LinkLimits::default() });
    }
    (0..3).for_each(|host| net.set_addresses(host, &ADDRESSES));
    net.read_max = 1 + net.rng.below(3_000);
    for number in 0..TROUBLE_MS {
        let host = net.rng.below(3) as usize;
        let up = net.hosts[host].up();
        if !up.is_empty() {
            let link = up[net.rng.below(up.len() as u64) as usize];
            let bytes = if net.rng.one_in(50) { 60_000 } else { 300 };
            let bytes = net.rng.below(bytes) as usize;
            let message = if net.rng.one_in(4) { urgent(number) } else { numbered(number, bytes) };
            net.send(host, link, message);
        }
        net.step();
    }
    net.faults = Faults::default();
    net.read_max = 1_000_000;
    net.run(HEALING_MS);
    net.assert_all_arrived();
    net
}

fn check_recovered(net: &Net) {
    for h in &net.hosts {
        let met: BTreeSet<NodeId> =
            h.dialed_up().iter().map(|link| h.links.peer(*link).unwrap().node).collect();
        assert_eq!(met.len(), 2, "{} is back with all others", h.address);
        assert_eq!(h.own_addresses, BTreeSet::from([h.address.clone()]));
    }
}

#[test]
fn what_comes_out_of_a_link_is_what_went_in_and_all_recover() {
    let (mut links, mut messages, mut pieces, mut broken) = (0, 0, 0, 0);
    let seeds = number_from(option_env!("SEEDS")).unwrap_or(SEEDS);
    for seed in 0..seeds {
        let announce = Announce(seed);
        let net = run(seed);
        check_recovered(&net);
        for h in &net.hosts {
            links += h.ends.len();
            messages += h.ends.values().map(|end| end.received.len()).sum::<usize>();
            pieces += h.links.stats().pieces_in;
            broken += h.links.stats().broken;
        }
        drop(announce);
    }
    println!(
        "{seeds} histories: {links} ends of links, {messages} messages and {pieces} pieces arrived, {broken} links broken"
    );
    let seeds = seeds as usize;
    assert!(
        links > 50 * seeds
            && messages > 1_000 * seeds
            && pieces > 1_000 * seeds as u64
            && broken > seeds as u64,
        "the troubles did not come"
    );
}

#[test]
fn one_seed() {
    check_recovered(&run(number_from(option_env!("SEED")).unwrap_or(0)));
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = |seed| {
        let net = run(seed);
        let host = |h: &common::Host| {
            let end = |(link, end): (&LinkId, &common::End)| (*link, end.received.len(), end.down.clone());
            (
                h.dialed_at.clone(),
                h.ends.iter().map(end).collect::<Vec<_>>(),
                h.notes.clone(),
                h.links.stats(),
            )
        };
        net.hosts.iter().map(host).collect::<Vec<_>>()
    };
    assert_eq!(history(11), history(11));
    assert_ne!(history(11), history(12));
}
