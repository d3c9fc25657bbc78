//! Storms of retries, upstreams that flap, fail at once, are slow or overrun, and clocks that jump: several gates against
//! several upstreams, from one seed each. The goals are those of the project's issue on the gateway.

#[allow(dead_code, reason = "other tests use the rest")]
mod world;

use skep_base::{Micros, Rng};
use world::{HEALTHY, Load, Mode, Tally, World};

const GETS: Load = Load { per_second: 1_000.0, posts: 0.0, patience: Micros::from_secs(5), high: 0.0 };

fn secs(n: u64) -> Micros {
    Micros::from_secs(n)
}

fn ms(n: u64) -> Micros {
    Micros::from_millis(n)
}

/// One route to one pool of `count` upstreams, with more lines for both.
fn config(count: usize, route: &str, pool: &str) -> String {
    let upstreams: Vec<String> = (0..count).map(|n| format!("'10.0.0.{n}:80'")).collect();
    let upstreams = upstreams.join(", ");
    format!(
        "[gateway.route.all]\npool = 'main'\n{route}\n[gateway.pool.main]\nupstreams = [{upstreams}]\n{pool}\n\
         [gateway.pool.backup]\nupstreams = ['10.1.0.1:80', '10.1.0.2:80']\n"
    )
}

/// Attempts and arrivals within a time.
fn measure(world: &mut World, time: Micros) -> (u64, u64) {
    let (attempts, arrived) = (world.attempts(), world.tally.arrived);
    world.run_for(time);
    (world.attempts() - attempts, world.tally.arrived - arrived)
}

fn set_all(world: &mut World, mode: Mode) {
    (0..world.pools[0].len()).for_each(|at| world.set_mode(world.now, 0, at, mode));
}

#[test]
fn an_upstream_at_half_errors_sees_at_most_the_budget() {
    for (seed, pool) in [(1, "breaker = false\neject = false"), (2, "")] {
        let mut world = World::new(&config(5, "", pool), 3, 8, ms(5), GETS, seed);
        world.run_for(secs(2));
        set_all(&mut world, Mode::Works { slower: 1.0, errors: 0.5 });
        for second in 0..20 {
            let (attempts, arrived) = measure(&mut world, secs(1));
            // Within one second, what the second before saved up comes on top.
            let allowed = arrived as f64 * 1.2 + 10.0 + if second == 0 { 210.0 } else { 30.0 };
            assert!(attempts as f64 <= allowed, "seed {seed}, second {second}: {attempts} for {arrived}");
        }
        world.finish();
    }
}

#[test]
fn when_all_fail_the_load_grows_by_a_fifth_at_most() {
    for (seed, mode) in
        [(1, Mode::FailsAtOnce), (2, Mode::Refuses), (3, Mode::Resets), (4, Mode::FailsAtOnce)]
    {
        let pool = if seed < 4 { "breaker = false" } else { "" };
        let mut world = World::new(&config(5, "", pool), 3, 8, ms(5), GETS, seed);
        world.run_for(secs(2));
        set_all(&mut world, mode);
        world.run_for(secs(1));
        let (attempts, arrived) = measure(&mut world, secs(20));
        // Each of the three budgets may have saved up one.
        let allowed = arrived as f64 * 1.2 + 10.0 * 20.0 + 3.0;
        assert!(attempts as f64 <= allowed, "{mode:?}: {attempts} attempts for {arrived} requests");
        match seed {
            4 => {
                assert!((attempts as f64) < arrived as f64 * 0.05, "breakers spare the upstreams: {attempts}")
            }
            _ => assert!(
                attempts as f64 > arrived as f64 * 1.1,
                "the budget is used: {attempts} for {arrived}"
            ),
        }
        set_all(&mut world, HEALTHY);
        world.run_for(secs(40));
        let before = world.tally.good;
        let (_, arrived) = measure(&mut world, secs(5));
        let good = world.tally.good - before;
        assert!(good as f64 >= arrived as f64 * 0.99, "{mode:?}: {good} of {arrived} after it is over");
        world.finish();
    }
}

#[test]
fn an_upstream_that_fails_at_once_draws_a_thousandth_after_a_second() {
    for (seed, pool, mode) in [
        (1, "", Mode::FailsAtOnce),
        (2, "eject = false\nbreaker = false", Mode::FailsAtOnce),
        (3, "", Mode::Refuses),
        (4, "eject = false\nbreaker = false", Mode::Refuses),
        (5, "balance = 'least-requests'", Mode::FailsAtOnce),
    ] {
        let mut world = World::new(&config(10, "", pool), 3, 4, ms(10), GETS, seed);
        world.run_for(secs(5));
        world.set_mode(world.now, 0, 3, mode);
        world.run_for(secs(1));
        let before = world.pools[0][3].attempts;
        let (attempts, _) = measure(&mut world, secs(20));
        let drawn = world.pools[0][3].attempts - before;
        assert!(drawn as f64 <= attempts as f64 * 0.001, "{pool} {mode:?}: it drew {drawn} of {attempts}");
        world.finish();
        let Tally { good, arrived, .. } = world.tally;
        assert!(good as f64 >= arrived as f64 * 0.999, "{good} of {arrived}");
    }
}

#[test]
fn five_times_overload_keeps_nine_tenths_of_the_goodput_and_what_is_important() {
    // Four upstreams of 10 workers that take 10 ms: 4,000 a second. Clients wait for half a second.
    let load = Load { per_second: 20_000.0, posts: 0.2, patience: ms(500), high: 0.05 };
    let goodput = |pool: &str, seconds: u64| {
        let pool = format!("{pool}\nbreaker = false\neject = false\nrequests = 100000");
        let mut world = World::new(&config(4, "retry = false", &pool), 2, 10, ms(10), load, 7);
        world.check_every = 50_021;
        world.run_for(secs(seconds));
        let (good, high, arrived) = (world.tally.good, world.tally.good_high, world.tally.arrived_high);
        world.run_for(secs(seconds));
        let important = (world.tally.good_high - high) as f64 / (world.tally.arrived_high - arrived) as f64;
        let good = (world.tally.good - good) as f64 / seconds as f64;
        world.finish();
        (good, important)
    };
    let (good, important) = goodput("adaptive = true", 11);
    assert!(good >= 0.9 * 4_000.0, "goodput {good} of 4,000 a second");
    assert!(important >= 0.99, "of what is important {important} was served");
    let (collapsed, _) = goodput("", 3);
    assert!(
        collapsed < 0.3 * 4_000.0,
        "without the limit it collapses, or this test shows nothing: {collapsed}"
    );
}

fn p99(latencies: &[u64]) -> u64 {
    let mut sorted = latencies.to_vec();
    sorted.sort_unstable();
    sorted[sorted.len() * 99 / 100]
}

#[test]
fn one_slow_upstream_of_ten_hardly_shows() {
    let run = |slower: f64| {
        let load = Load { per_second: 2_400.0, ..GETS };
        let mut world = World::new(&config(10, "", ""), 1, 4, ms(10), load, 3);
        world.set_mode(world.now, 0, 3, Mode::Works { slower, errors: 0.0 });
        world.run_for(secs(10));
        world.tally.latencies.clear();
        world.run_for(secs(30));
        p99(&world.tally.latencies)
    };
    let (healthy, slow) = (run(1.0), run(10.0));
    assert!(slow as f64 <= healthy as f64 * 1.2, "p99 {slow} us, and {healthy} us when all are well");
}

#[test]
fn a_backup_takes_over_when_the_primary_refuses_and_gives_back_once() {
    let route = "failover = 'backup'\nretry.attempts = 5";
    let load = Load { posts: 0.5, ..GETS };
    let mut world = World::new(&config(3, route, ""), 2, 20, ms(5), load, 5);
    world.run_for(secs(5));
    set_all(&mut world, Mode::Refuses);
    world.run_for(secs(1));
    let on_backup = |world: &World| world.pools[1].iter().map(|u| u.attempts).sum::<u64>();
    let before = (world.tally.arrived, on_backup(&world));
    world.run_for(secs(10));
    let share = (on_backup(&world) - before.1) as f64 / (world.tally.arrived - before.0) as f64;
    assert!(share >= 0.99, "{share} went to the backup after a second");
    set_all(&mut world, HEALTHY);
    world.run_for(secs(70));
    let before = on_backup(&world);
    world.run_for(secs(5));
    assert_eq!(on_backup(&world), before, "the primary is back");
    world.finish();
    let errors = world.tally.arrived - world.tally.good;
    assert_eq!(
        errors, 0,
        "nothing ran at a primary that refuses, so all may go to the backup: {:?}",
        world.tally.answered
    );
    let changes = world.notes.iter().filter(|(_, note)| note.contains("Failover")).count();
    assert_eq!(changes, 4, "there and back once at each gate: {:#?}", world.notes);
}

#[test]
fn flapping_upstreams_cost_idempotent_requests_nothing_and_run_no_post_twice() {
    for seed in 0..4 {
        let pool = "health = { interval = '1s', timeout = '500ms' }";
        let route = "timeout.request = '1s'\ntimeout.connect = '100ms'\nretry.budget = '100%'\nhedge = true";
        let load = Load { per_second: 500.0, posts: 0.3, ..GETS };
        let mut world = World::new(&config(6, route, pool), 3, 10, ms(5), load, seed);
        let mut rng = Rng::new(seed);
        let modes = [Mode::Refuses, Mode::FailsAtOnce, Mode::Resets, Mode::Silent, Mode::Hangs];
        for second in 1..60 {
            // At most two of six are away at once.
            for at in [rng.below(3), 3 + rng.below(3)] {
                let mode = modes[rng.below(5) as usize];
                let (when, back) = (second * 1_000 + rng.below(500), second * 1_000 + 500 + rng.below(500));
                world.set_mode(world.now.plus(ms(when)), 0, at as usize, mode);
                world.set_mode(world.now.plus(ms(back)), 0, at as usize, HEALTHY);
            }
        }
        world.check_every = 13;
        world.run_for(secs(62));
        world.finish();
        let tally = &world.tally;
        let gets = tally.arrived - tally.arrived_posts;
        let lost_gets = gets - (tally.good - tally.good_posts);
        let lost_posts = tally.arrived_posts - tally.good_posts;
        let told =
            format!("seed {seed}: lost {lost_gets} of {gets} GETs, {lost_posts} POSTs: {:?}", tally.answered);
        assert!(lost_gets as f64 <= gets as f64 * 0.005, "{told}");
        // Those that may have run are not sent again; a sixth of upstreams is away, and is found out fast.
        assert!(lost_posts as f64 <= tally.arrived_posts as f64 * 0.05, "{told}");
    }
}

#[test]
fn clock_jumps_do_no_lasting_harm() {
    for (seed, jump) in [(1, 3_600_000_000i64), (2, -900_000_000), (3, 200_000), (4, i64::MAX / 4)] {
        let pool = "health = true\nadaptive = true";
        let mut world = World::new(&config(5, "hedge = true", pool), 2, 10, ms(5), GETS, seed);
        world.check_every = 11;
        world.run_for(secs(5));
        world.clock_offset[0] = jump;
        world.run_for(secs(5));
        world.set_mode(world.now, 0, 1, Mode::FailsAtOnce);
        world.run_for(secs(5));
        let before = (world.tally.arrived, world.tally.good);
        world.run_for(secs(10));
        let (arrived, good) = (world.tally.arrived - before.0, world.tally.good - before.1);
        assert!(good as f64 >= arrived as f64 * 0.99, "jump of {jump} us: {good} of {arrived}");
    }
}

#[test]
fn the_same_seed_gives_the_same_world() {
    let run = |seed| {
        let mut world = World::new(&config(5, "hedge = true", ""), 3, 10, ms(5), GETS, seed);
        world.set_mode(world.now.plus(secs(2)), 0, 1, Mode::Resets);
        world.run_for(secs(5));
        (world.tally.clone(), world.notes.clone(), world.attempts())
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn anything_may_happen_and_the_rules_hold() {
    let routes = [
        "",
        "retry = false",
        "hedge.after = '2ms'\nretry.repeat = 'never'",
        "bulkhead = { requests = 20, queue = { size = 10, time = '100ms', target = '20ms' } }\nhedge.after = '1ms'",
        "breaker = { requests = 5, cool-down = '100ms' }\nfailover = { pool = 'backup', back-after = '1s' }",
        "timeout = { connect = '5ms', request = '20ms', total = '50ms' }\nbreaker.slow = '10ms'",
    ];
    let balances = [
        "ewma",
        "two-choices",
        "least-requests",
        "round-robin",
        "smooth-round-robin",
        "random",
        "ring",
        "maglev",
    ];
    let modes = [
        HEALTHY,
        Mode::Refuses,
        Mode::FailsAtOnce,
        Mode::Resets,
        Mode::Silent,
        Mode::Hangs,
        Mode::Works { slower: 9.0, errors: 0.3 },
    ];
    for seed in 0..48 {
        let mut rng = Rng::new(seed);
        let balance = balances[(seed % 8) as usize];
        let pool = format!(
            "balance = '{balance}'\nhealth.interval = '{}ms'\nhealth.timeout = '50ms'\nadaptive = {}\nrequests = {}\n\
             eject = {{ consecutive = 3, time = '200ms' }}\nbreaker = {{ requests = 5, cool-down = '50ms' }}\n\
             queue = {{ size = {}, time = '200ms', target = '10ms', standing = '100ms' }}",
            100 + rng.below(400),
            rng.one_in(2),
            1 + rng.below(20),
            rng.below(50),
        );
        let route = routes[rng.below(6) as usize];
        let load = Load { per_second: 600.0, posts: 0.5, patience: ms(20 + rng.below(2_000)), high: 0.3 };
        let mut world = World::new(&config(1 + (seed % 7) as usize, route, &pool), 2, 3, ms(5), load, seed);
        world.check_every = 1;
        for _ in 0..40 {
            let (pool, mode) = (rng.below(2) as usize, modes[rng.below(7) as usize]);
            let at = rng.below(world.pools[pool].len() as u64) as usize;
            world.set_mode(world.now.plus(ms(rng.below(4_000))), pool, at, mode);
        }
        world.run_for(secs(2));
        if rng.one_in(3) {
            world.clock_offset[1] = rng.below(10_000_000) as i64 - 5_000_000;
        }
        world.run_for(secs(2));
        (0..world.pools[1].len()).for_each(|at| world.set_mode(world.now, 1, at, HEALTHY));
        set_all(&mut world, HEALTHY);
        world.finish();
    }
}
