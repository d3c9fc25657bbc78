//! Groups of one to five replicas under loss, delay, reordering, repetition, partitions, pauses, crashes that lose what
//! was not flushed, changes of membership and leadership.
//!
//! A failing history names its seed; `SEED=n cargo test -p skep-consensus --test simulation one_seed` repeats it alone,
//! without and with rests.
//! `SEEDS=n cargo test -p skep-consensus --release --test simulation` runs more of them.

mod world;

use skep_base::{NodeId, Rng};
use skep_consensus::Group;
use std::collections::{BTreeMap, BTreeSet};
use world::{Faults, World};

/// Histories in one run, unless the build says otherwise; about ten seconds.
const SEEDS: u64 = 300;
/// Leaders that die, to see how long writes pause.
const PAUSES: u64 = 500;
/// Histories of one kind of trouble alone, and their simulated milliseconds.
const CASES: u64 = 50;
const CASE_MS: u64 = 5_000;
/// Simulated milliseconds of trouble in each.
const TROUBLE_MS: u64 = 6_000;
/// In which a healthy group must be of one mind again: a few elections.
const HEALING_MS: u64 = 6_000;

fn run(seed: u64) -> World {
    run_with(seed, false)
}

fn run_with(seed: u64, rests: bool) -> World {
    let mut rng = Rng::new(seed ^ 0x5eed);
    let against_leases = seed % 2 == 1;
    let faults = if against_leases { Faults::against_leases(&mut rng) } else { Faults::draw(&mut rng) };
    let faults = if rests { faults.with_rests(&mut rng) } else { faults };
    let nodes = if faults.membership > 0 { 5 } else { 3 };
    // Some grow from one node, as a cluster does.
    let founders = if seed % 8 >= 6 { 1 } else { 3 };
    let mut world = World::new(seed, nodes, founders, faults);
    for _ in 0..TROUBLE_MS {
        world.step();
    }
    world.heal(HEALING_MS);
    world.checks.at_end();
    world
}

/// Names the seed of a history that panics.
struct Announce(u64);

impl Drop for Announce {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("SEED={} cargo test -p skep-consensus --test simulation one_seed", self.0);
        }
    }
}

fn number_from(text: Option<&str>) -> Option<u64> {
    text.map(|text| text.parse().expect("SEED and SEEDS are numbers"))
}

#[test]
fn no_history_breaks_an_invariant_and_every_group_recovers() {
    let (mut acknowledged, mut leaders, mut reads, mut reads_by_lease, mut installs) = (0, 0, 0, 0, 0);
    let mut notes: BTreeMap<&str, u64> = BTreeMap::new();
    let seeds = number_from(option_env!("SEEDS")).unwrap_or(SEEDS);
    for seed in 0..seeds {
        let announce = Announce(seed);
        let world = run(seed);
        acknowledged += world.checks.acknowledged_count();
        leaders += world.checks.leader_count();
        reads += world.checks.reads;
        reads_by_lease += world.checks.reads_by_lease;
        installs += world.checks.installs;
        for (kind, count) in &world.checks.notes {
            *notes.entry(*kind).or_default() += count;
        }
        drop(announce);
    }
    println!(
        "{seeds} histories: {acknowledged} entries acknowledged, {leaders} leaders, {reads} reads, {reads_by_lease} by lease, {installs} checkpoints installed, {notes:?}"
    );
    assert!(acknowledged as u64 > seeds * 100, "hardly anything was acknowledged: {acknowledged}");
    assert!(leaders as u64 > seeds * 2, "hardly any leader was lost: {leaders}");
    for rare in ["vote withheld", "leaving joint", "stepped down removed"] {
        assert!(notes.contains_key(rare), "no history met: {rare}");
    }
    assert!(installs > seeds / 4, "hardly any checkpoint was installed: {installs}");
    assert!(reads_by_lease > seeds * 1000, "hardly any lease was had: {reads_by_lease}");
    assert!(reads > seeds * 20, "hardly any read was answered: {reads}");
}

#[test]
fn groups_that_rest_break_no_invariant_and_wake() {
    let (mut rests, mut followers, mut leaders, mut reads, mut by_lease) = (0, 0, 0, 0, 0);
    let seeds = number_from(option_env!("SEEDS")).unwrap_or(SEEDS);
    for seed in 0..seeds {
        let announce = Announce(seed);
        let world = run_with(seed, true);
        rests += world.checks.rests;
        followers += world.checks.followers_at_rest;
        leaders += world.checks.leader_count();
        reads += world.checks.reads;
        by_lease += world.checks.reads_by_lease;
        drop(announce);
    }
    println!(
        "{seeds} histories: {rests} words of leaders at rest, {followers} ms of followers at rest, {leaders} leaders, {reads} reads, {by_lease} by lease"
    );
    assert!(rests > seeds * 5, "hardly any group rested: {rests}");
    assert!(followers > seeds * 500, "hardly any follower rested: {followers} ms");
    assert!(leaders as u64 > seeds * 2, "hardly any leader was lost: {leaders}");
    assert!(by_lease > seeds * 100, "hardly any lease was had: {by_lease}");
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in 0..20 {
        assert_eq!(run(seed).trace, run(seed).trace, "seed {seed}");
    }
    assert_ne!(run(1).trace, run(2).trace);
}

/// Does this to nodes of which three founded a group, with a leader at each millisecond. All that may read by a lease do, and are checked.
fn against_leases(nodes: usize, faults: Faults, act: impl Fn(&mut World, usize)) {
    let mut reads_by_lease = 0;
    for seed in 0..CASES {
        let announce = Announce(seed);
        let mut world = World::new(seed, nodes, 3, faults.clone());
        for _ in 0..CASE_MS {
            world.step();
            if let Some(leader) = world.leader_that_reads() {
                act(&mut world, leader);
            }
        }
        reads_by_lease += world.checks.reads_by_lease;
        drop(announce);
    }
    assert!(reads_by_lease > CASES * CASE_MS / 4, "hardly any lease was had: {reads_by_lease}");
}

/// The one voter that both a leader and somebody who has lost the leader hear restarts again and again.
#[test]
fn a_voter_that_forgets_at_each_restart_what_it_promised_breaks_no_lease() {
    let faults = Faults { delay_ms_max: 3, propose: 2_000, ..Faults::default() };
    against_leases(3, faults, |world, leader| {
        let (voter, cut_off) = ((leader + 1) % 3, (leader + 2) % 3);
        world.cut = BTreeSet::from([(leader, cut_off), (cut_off, leader)]);
        if world.rng.one_in(100) {
            world.crash(voter, 1);
        }
    });
}

/// Leadership is handed to a node that its leader does not hear, by an order that may come long after the leader gave up.
#[test]
fn an_order_to_campaign_that_comes_at_any_time_meets_no_lease() {
    let faults = Faults { delay_ms_max: 3, late_percent: 1, propose: 2_000, ..Faults::default() };
    against_leases(3, faults, |world, leader| {
        if world.rng.one_in(500) {
            let to = (leader + 1) % 3;
            world.cut = BTreeSet::from([(to, leader)]);
            world.transfer(NodeId(to as u64 + 1));
        }
    });
}

/// Voters come and go, while nodes lose each other for about as long as an election takes.
#[test]
fn a_membership_that_changes_all_the_time_breaks_no_lease() {
    let faults = Faults {
        delay_ms_max: 3,
        flush_ms_max: 5,
        membership: 30,
        partition: 400,
        hang: 500,
        propose: 200,
        ..Faults::default()
    };
    against_leases(5, faults, |_, _| {});
}

/// From the death of a leader to the first entry that its successor committed, in milliseconds, sorted.
fn pauses(same_clock: bool, rest_after_ms: Option<u64>) -> Vec<u64> {
    let mut pauses: Vec<u64> = (0..PAUSES)
        .map(|seed| {
            let quiet = rest_after_ms.map_or(1, |_| 1_000_000);
            let (propose, read) = (10 * quiet, 20 * quiet);
            let faults = Faults { delay_ms_max: 1, propose, read, rest_after_ms, ..Faults::default() };
            let mut world = World::new(seed, 3, 3, faults);
            if same_clock {
                world.nodes.iter_mut().for_each(|node| node.clock_ms = seed);
            }
            let lived = 2_000 + seed % 97;
            while world.now < lived || world.leader_that_reads().is_none() {
                world.step();
            }
            let leader = world.leader_that_reads().expect("just seen");
            let rests = world.nodes.iter().all(|node| node.group.as_ref().is_some_and(Group::is_resting));
            assert_eq!(rests, rest_after_ms.is_some(), "seed {seed} at {} ms", world.now);
            world.crash(leader, u64::MAX / 2);
            let died = world.now;
            while world.leader_that_reads().is_none() {
                world.step();
                assert!(world.now < died + 10_000, "no leader in seed {seed}");
            }
            world.now - died
        })
        .collect();
    pauses.sort_unstable();
    pauses
}

#[test]
fn writes_resume_soon_after_a_leader_dies() {
    for (same_clock, rest_after_ms) in [(false, None), (true, None), (false, Some(200)), (true, Some(200))] {
        let pauses = pauses(same_clock, rest_after_ms);
        let of = |percent: usize| pauses[(pauses.len() * percent / 100).min(pauses.len() - 1)];
        println!(
            "same clock {same_clock}, at rest {}: p50 {} p99 {} most {} ms",
            rest_after_ms.is_some(),
            of(50),
            of(99),
            of(100)
        );
        assert!(of(99) < 400, "{pauses:?}");
    }
}

#[test]
fn one_seed() {
    let seed = number_from(option_env!("SEED")).unwrap_or(1);
    let announce = Announce(seed);
    run(seed);
    run_with(seed, true);
    drop(announce);
}
