//! Sessions with signed cookies at several gates, while upstreams flap, drain, go and come back, and requests are hedged and repeated:
//! what [`world::sessions`] says of them holds, and all have their part. From one seed each.

#[allow(dead_code, reason = "other tests use the rest")]
mod world;

use std::collections::BTreeMap;

use skep_base::{Micros, Rng};
use world::sessions::Sessions;
use world::{HEALTHY, Load, Mode, World};

fn secs(n: u64) -> Micros {
    Micros::from_secs(n)
}

fn ms(n: u64) -> Micros {
    Micros::from_millis(n)
}

/// One route to a pool of those of `count` upstreams that `state` takes, true being one that drains.
fn config(count: usize, state: impl Fn(usize) -> Option<bool>, route: &str, pool: &str) -> String {
    let one = |n| Some(format!("{{ address = '10.0.0.{n}:80', drain = {} }}", state(n)?));
    let upstreams: Vec<String> = (0..count).filter_map(one).collect();
    format!(
        "[gateway.route.all]\npool = 'main'\n{route}\n[gateway.pool.main]\nupstreams = [{}]\n\
         sticky.max-age = '60s'\n{pool}\n",
        upstreams.join(", ")
    )
}

#[test]
fn sessions_stay_while_their_upstream_is_in_and_move_when_it_is_not_whatever_happens() {
    let routes = [
        "retry.budget = '100%'",
        "hedge.after = '2ms'\nretry.budget = '100%'",
        "hedge.after = '1ms'\nretry.attempts = 4",
        "timeout = { connect = '5ms', request = '20ms', total = '50ms' }\nretry.repeat = 'never'",
        "bulkhead = { requests = 20, queue = { size = 10, time = '100ms', target = '20ms' } }\nhedge.after = '1ms'",
    ];
    let balances = ["ewma", "least-requests", "round-robin", "maglev"];
    let modes = [
        HEALTHY,
        Mode::Refuses,
        Mode::FailsAtOnce,
        Mode::Resets,
        Mode::Silent,
        Mode::Hangs,
        Mode::Works { slower: 9.0, errors: 0.3 },
    ];
    let mut moved = 0;
    for seed in 0..24 {
        let mut rng = Rng::new(seed);
        let pool = format!(
            "balance = '{}'\nhealth.interval = '{}ms'\nhealth.timeout = '50ms'\nadaptive = {}\nrequests = {}\npanic = '{}%'\n\
             eject = {{ consecutive = 3, time = '200ms' }}\nbreaker = {{ requests = 5, cool-down = '50ms' }}\n\
             queue = {{ size = {}, time = '200ms', target = '10ms', standing = '100ms' }}",
            balances[rng.below(4) as usize],
            100 + rng.below(400),
            rng.one_in(2),
            1 + rng.below(8),
            rng.below(70),
            1 + rng.below(50),
        );
        let route = routes[rng.below(5) as usize];
        let count = 2 + rng.below(5) as usize;
        let load = Load { per_second: 400.0, posts: 0.4, patience: ms(20 + rng.below(2_000)), high: 0.3 };
        let mut world = World::new(&config(count, |_| Some(false), route, &pool), 3, 3, ms(5), load, seed);
        world.sessions = Some(Sessions::new(100));
        world.check_every = 1;
        for _ in 0..40 {
            let (at, mode) = (rng.below(count as u64) as usize, modes[rng.below(7) as usize]);
            world.set_mode(world.now.plus(ms(rng.below(4_000))), 0, at, mode);
        }
        for _ in 0..10 {
            let states: Vec<Option<bool>> = (0..count)
                .map(|_| [Some(false), Some(false), Some(true), None][rng.below(4) as usize])
                .collect();
            let text = config(count, |at| if at == 0 { Some(false) } else { states[at] }, route, &pool);
            let when = world.now.plus(ms(rng.below(4_000)));
            for gate in 0..3 {
                world.configure(when.plus(ms(rng.below(100))), gate, &text);
            }
        }
        world.run_for(secs(4));
        (0..count).for_each(|at| world.set_mode(world.now, 0, at, HEALTHY));
        let end = config(count, |_| Some(false), route, &pool);
        (0..3).for_each(|gate| world.configure(world.now, gate, &end));
        world.run_for(secs(6));
        // By now all is well, and each session has found an upstream.
        let before = world.sessions.as_ref().unwrap();
        let (moved_before, good_before) = (before.moved, before.good(world.now));
        let notes = world.notes.len();
        world.run_for(secs(5));
        let sessions = world.sessions.as_ref().unwrap();
        let is_calm = world.notes.len() == notes;
        assert!(!is_calm || sessions.moved == moved_before, "seed {seed}: sessions move while all are in");
        for (at, (before, after)) in good_before.iter().zip(sessions.good(world.now)).enumerate() {
            assert!(after.1 > before.1, "seed {seed}: session {at} got nothing for five seconds");
        }
        moved += sessions.moved;
        world.finish();
    }
    assert!(moved > 1_000, "{moved}");
}

#[test]
fn sessions_of_all_upstreams_have_their_part_of_what_the_pools_limit_leaves() {
    // More come than the limit lets in, so that lines and the queue of the pool stand.
    let pool = "requests = 4\nadaptive = { min = 8, max = 8, start = 8 }\nbreaker = false\neject = false\n\
                queue = { time = '500ms' }";
    let load = Load { per_second: 4_000.0, posts: 0.0, patience: secs(2), high: 0.0 };
    let mut world = World::new(&config(4, |_| Some(false), "", pool), 1, 8, ms(5), load, 3);
    world.sessions = Some(Sessions::new(400));
    world.run_for(secs(20));
    let mut by_upstream: BTreeMap<Option<u64>, (u64, u64)> = BTreeMap::new();
    for (name, good) in world.sessions.as_ref().unwrap().good(world.now) {
        let sums = by_upstream.entry(name).or_default();
        *sums = (sums.0 + 1, sums.1 + good);
    }
    let each: Vec<f64> =
        by_upstream.values().map(|(sessions, good)| *good as f64 / *sessions as f64).collect();
    let (least, most) =
        (each.iter().copied().fold(f64::MAX, f64::min), each.iter().copied().fold(0.0, f64::max));
    assert!(by_upstream.len() == 4 && least >= 0.6 * most, "good replies by upstream: {by_upstream:?}");
    world.finish();
}
