//! Each way of choosing against the distribution that it is meant to have, and what a change of upstreams moves.

use super::*;
use crate::router::stable_hash;

struct Pool {
    names: Vec<String>,
    loads: Vec<Load>,
    open: Vec<u32>,
    balancer: Balancer,
    rng: Rng,
}

const NOW: Micros = Micros::from_secs(1_000);

fn pool(kind: Balance, weights: &[u32]) -> Pool {
    let names: Vec<String> = (0..weights.len()).map(|n| format!("10.0.0.{n}:80")).collect();
    named_pool(kind, &names, weights)
}

fn named_pool(kind: Balance, names: &[String], weights: &[u32]) -> Pool {
    let load = |weight: &u32| Load { weight: *weight, in_flight: 0, cost: Cost::new(NOW, None), since: None };
    let upstreams: Vec<(&str, u32)> = names.iter().zip(weights).map(|(n, w)| (n.as_str(), *w)).collect();
    Pool {
        balancer: Balancer::new(kind, &upstreams, Micros::from_secs(10), 1.5),
        names: names.to_vec(),
        loads: weights.iter().map(load).collect(),
        open: (0..weights.len() as u32).collect(),
        rng: Rng::new(42),
    }
}

impl Pool {
    fn pick_at(&mut self, now: Micros, key: Option<u64>, usable: &dyn Fn(u32) -> bool) -> Option<u32> {
        let choice = Choice { loads: &self.loads, open: &self.open, key };
        self.balancer.pick(now, choice, &mut self.rng, usable)
    }

    /// How often each is chosen of `times`, all replies coming at once.
    fn counts(&mut self, times: u32) -> Vec<u32> {
        let mut counts = vec![0; self.loads.len()];
        for n in 0..times {
            let key = stable_hash(&n.to_le_bytes());
            counts[self.pick_at(NOW, Some(key), &|_| true).unwrap() as usize] += 1;
        }
        counts
    }
}

/// Fails if counts that are drawn at random with `weights` would almost never be like these (5 standard deviations).
fn assert_drawn(counts: &[u32], weights: &[u32], what: Balance) {
    let (n, total) = (counts.iter().sum::<u32>() as f64, weights.iter().sum::<u32>() as f64);
    for (count, weight) in counts.iter().zip(weights) {
        let p = f64::from(*weight) / total;
        let (expected, deviation) = (n * p, (n * p * (1.0 - p)).sqrt());
        let off = (f64::from(*count) - expected).abs() / deviation;
        assert!(off < 5.0, "{what:?}: {counts:?} for weights {weights:?}");
    }
}

#[test]
fn random_is_as_the_weights_say() {
    for weights in [vec![1, 1, 1, 1], vec![1, 2, 3, 10], vec![256, 1], vec![1; 100]] {
        assert_drawn(&pool(Balance::Random, &weights).counts(50_000), &weights, Balance::Random);
    }
}

#[test]
fn two_choices_without_load_are_as_the_weights_say_at_most_and_never_starve() {
    for kind in [Balance::TwoChoices, Balance::Ewma] {
        assert_drawn(&pool(kind, &[1; 10]).counts(50_000), &[1; 10], kind);
    }
}

#[test]
fn round_robin_is_exactly_even_or_as_weighted_and_so_is_smooth_round_robin() {
    assert_eq!(pool(Balance::RoundRobin, &[5; 3]).counts(3_000), [1_000; 3]);
    assert_eq!(pool(Balance::RoundRobin, &[1, 5, 9]).counts(3_000), [200, 1_000, 1_800]);
    assert_eq!(pool(Balance::SmoothRoundRobin, &[1, 2, 7]).counts(1_000), [100, 200, 700]);
    // nginx's example: a is never chosen five times in a row.
    let mut smooth = pool(Balance::SmoothRoundRobin, &[5, 1, 1]);
    let order: Vec<u32> = (0..7).map(|_| smooth.pick_at(NOW, None, &|_| true).unwrap()).collect();
    assert_eq!(order, [0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn least_requests_keeps_loads_level_and_as_weighted() {
    let mut pool = pool(Balance::LeastRequests, &[1, 1, 2]);
    for _ in 0..400 {
        let at = pool.pick_at(NOW, None, &|_| true).unwrap();
        pool.loads[at as usize].in_flight += 1;
    }
    let held: Vec<u32> = pool.loads.iter().map(|l| l.in_flight).collect();
    assert!(held.iter().zip([100u32, 100, 200]).all(|(a, b)| a.abs_diff(b) <= 1), "{held:?}");
    assert_drawn(
        &super::tests::pool(Balance::LeastRequests, &[1; 5]).counts(20_000),
        &[1; 5],
        Balance::LeastRequests,
    );
}

#[test]
fn two_choices_are_far_more_even_than_one() {
    // Balls into bins: the fullest of n bins is at ln n / ln ln n above the mean with one choice, ln ln n with two
    // (Azar and others, 1994).
    let fullest = |kind| {
        let mut pool = pool(kind, &[1; 100]);
        for _ in 0..10_000 {
            let at = pool.pick_at(NOW, None, &|_| true).unwrap();
            pool.loads[at as usize].in_flight += 1;
        }
        pool.loads.iter().map(|l| l.in_flight).max().unwrap()
    };
    assert!(fullest(Balance::TwoChoices) <= 104, "{}", fullest(Balance::TwoChoices));
    assert!(fullest(Balance::Ewma) <= 104, "{}", fullest(Balance::Ewma));
    assert!(fullest(Balance::Random) >= 115, "{}", fullest(Balance::Random));
}

#[test]
fn peak_ewma_avoids_slow_and_failing_upstreams() {
    let mut slow = pool(Balance::Ewma, &[1; 10]);
    slow.loads[3].cost.observe(NOW, Micros::from_millis(50));
    assert_eq!(slow.counts(10_000)[3], 0);
    let mut failing = pool(Balance::Ewma, &[1; 10]);
    failing.loads[3].cost.fail(NOW, Micros(100));
    assert_eq!(failing.counts(10_000)[3], 0);
    let later = Micros::from_secs(2_000);
    let tried = (0..1_000).filter(|_| failing.pick_at(later, None, &|_| true) == Some(3)).count();
    assert!(tried > 0, "what failed long ago is tried again");
}

#[test]
fn slow_start_comes_from_a_tenth_to_all() {
    for kind in [
        Balance::Random,
        Balance::RoundRobin,
        Balance::SmoothRoundRobin,
        Balance::Ewma,
        Balance::TwoChoices,
        Balance::LeastRequests,
        Balance::Ring,
        Balance::Maglev,
    ] {
        let share = |ms: u64| {
            let mut pool = pool(kind, &[1; 5]);
            pool.loads[2].since = Some(NOW);
            let now = NOW.plus(Micros::from_millis(ms));
            let mut count = 0;
            for n in 0..20_000u32 {
                let key = Some(stable_hash(&n.to_le_bytes()));
                count += u32::from(pool.pick_at(now, key, &|_| true) == Some(2));
            }
            f64::from(count) / 20_000.0
        };
        let (early, half, full) = (share(0), share(5_000), share(10_000));
        // Least requests and the two-choice kinds compare by weight on top, and so are more careful still.
        assert!(
            early <= 0.03 && half <= 0.13 && (0.17..=0.23).contains(&full),
            "{kind:?}: {early} {half} {full}"
        );
    }
}

#[test]
fn keys_come_back_one_by_one_in_a_slow_start_and_no_others_move() {
    for kind in [Balance::Ring, Balance::Maglev] {
        let keys = |ms: u64| -> Vec<Option<u32>> {
            let mut pool = pool(kind, &[1, 2, 4]);
            pool.loads[2].since = Some(NOW);
            let now = NOW.plus(Micros::from_millis(ms));
            (0..5_000u32).map(|n| pool.pick_at(now, Some(stable_hash(&n.to_le_bytes())), &|_| true)).collect()
        };
        let times = [0, 2_000, 5_000, 9_000, 10_000].map(keys);
        for step in times.windows(2) {
            for (before, after) in step[0].iter().zip(&step[1]) {
                assert!(before == after || *after == Some(2), "{kind:?}: from {before:?} to {after:?}");
            }
            assert!(step[0] != step[1], "{kind:?}: some come in each");
        }
    }
}

#[test]
fn a_refused_or_closed_upstream_is_never_chosen_and_others_are_found() {
    for kind in [
        Balance::Ewma,
        Balance::TwoChoices,
        Balance::LeastRequests,
        Balance::RoundRobin,
        Balance::SmoothRoundRobin,
        Balance::Random,
        Balance::Ring,
        Balance::Maglev,
    ] {
        let mut pool = pool(kind, &[1; 20]);
        pool.open = vec![1, 4, 7, 9];
        let mut seen = [0; 20];
        for n in 0..2_000u32 {
            let key = Some(stable_hash(&n.to_le_bytes()));
            seen[pool.pick_at(NOW, key, &|at| at != 4).unwrap() as usize] += 1;
        }
        assert!([1, 7, 9].iter().all(|at| seen[*at] > 100), "{kind:?} {seen:?}");
        assert_eq!(seen.iter().sum::<i32>(), seen[1] + seen[7] + seen[9], "{kind:?}");
        assert_eq!(pool.pick_at(NOW, None, &|_| false), None, "{kind:?}");
        assert_eq!(
            pool.pick_at(NOW, Some(1), &|at| at == 9),
            Some(9),
            "{kind:?}: the only one left is found"
        );
    }
}

#[test]
fn hashing_spreads_keys_as_weighted() {
    for (kind, bound) in [(Balance::Ring, 0.30), (Balance::Maglev, 0.03)] {
        for weights in [vec![1; 10], vec![1, 2, 3, 4], vec![10; 50]] {
            let counts = pool(kind, &weights).counts(100_000);
            let total: u32 = weights.iter().sum();
            for (count, weight) in counts.iter().zip(&weights) {
                let expected = 100_000.0 * f64::from(*weight) / f64::from(total);
                // The table's own unevenness, and the randomness of keys.
                let allowed = expected * bound + 5.0 * expected.sqrt();
                let off = (f64::from(*count) - expected).abs();
                assert!(off <= allowed, "{kind:?} {weights:?}: {counts:?}, {off} off {expected}");
            }
        }
    }
}

fn owners(pool: &mut Pool) -> Vec<String> {
    let own = |n: u32| pool.pick_at(NOW, Some(stable_hash(&n.to_le_bytes())), &|_| true).unwrap();
    let at: Vec<u32> = (0..20_000).map(own).collect();
    at.into_iter().map(|at| pool.names[at as usize].clone()).collect()
}

#[test]
fn an_upstream_that_is_away_moves_its_own_keys_and_no_others() {
    for kind in [Balance::Ring, Balance::Maglev] {
        let mut pool = pool(kind, &[1; 10]);
        let before = owners(&mut pool);
        pool.open.remove(3);
        let after = owners(&mut pool);
        let mut heirs = std::collections::BTreeMap::new();
        for (was, is) in before.iter().zip(&after) {
            if *was == pool.names[3] {
                *heirs.entry(is.clone()).or_insert(0) += 1;
            } else {
                assert_eq!(was, is, "{kind:?}: INV-GATE-4");
            }
        }
        assert_eq!(heirs.len(), 9, "{kind:?}: all share what it had: {heirs:?}");
        pool.open = (0..10).collect();
        assert_eq!(owners(&mut pool), before, "{kind:?}: and it gets them back");
    }
}

#[test]
fn adding_or_removing_one_of_ten_moves_little_more_than_a_tenth() {
    let names = |range: std::ops::Range<u32>| range.map(|n| format!("10.0.0.{n}:80")).collect::<Vec<_>>();
    for (kind, bound) in [(Balance::Ring, 0.13), (Balance::Maglev, 0.14)] {
        let mut ten = named_pool(kind, &names(0..10), &[1; 10]);
        let before = owners(&mut ten);
        for (range, count) in [(0..9, 9), (1..10, 9), (0..11, 11)] {
            let mut other = named_pool(kind, &names(range.clone()), &vec![1; count]);
            let moved = before.iter().zip(owners(&mut other)).filter(|(was, is)| *was != is).count();
            assert!((moved as f64) < 20_000.0 * bound, "{kind:?} {range:?}: {moved} of 20,000 moved");
            assert!(
                moved > 20_000 / 14,
                "{kind:?}: only {moved} moved, so the newcomer has less than its part"
            );
        }
    }
}

#[test]
fn a_hot_key_does_not_sink_its_upstream() {
    let all_start = [None, Some(NOW)];
    for (kind, since) in [Balance::Ring, Balance::Maglev].iter().flat_map(|k| all_start.map(|s| (*k, s))) {
        let mut pool = pool(kind, &[1; 10]);
        pool.loads.iter_mut().for_each(|load| load.since = since);
        for _ in 0..1_000 {
            let at = pool.pick_at(NOW, Some(17), &|_| true).unwrap();
            pool.loads[at as usize].in_flight += 1;
        }
        let most = pool.loads.iter().map(|l| l.in_flight).max().unwrap();
        assert!(
            most <= 151,
            "{kind:?}, started {since:?}: one has {most} of 1,000, and the limit is 150 % of the average"
        );
    }
}
