use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::*;
use crate::config::Config;

const SECOND: Micros = Micros::from_secs(1);

/// Names with `ttl-min` of a second and `ttl-max` of ten, driven by hand.
struct World {
    now: Micros,
    names: Names,
}

fn v4(lasts: &[u8]) -> Heard {
    Heard::Found(lasts.iter().map(|last| Ipv4Addr::new(10, 0, 0, *last).into()).collect())
}

fn v6(lasts: &[u16]) -> Heard {
    Heard::Found(lasts.iter().map(|last| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, *last).into()).collect())
}

fn answer(v4: Heard, v6: Heard, ttl_s: u64) -> Answer {
    Answer { v4, v6, ttl: Micros::from_secs(ttl_s) }
}

impl World {
    fn new(names: &[&str]) -> World {
        let mut world = World { now: Micros::from_secs(100), names: Names::new(1) };
        world.configure(names, false);
        world
    }

    fn configure(&mut self, names: &[&str], anew: bool) {
        let rule = Dns { ttl_min: SECOND, ttl_max: Micros::from_secs(10), ..Dns::default() };
        self.names.configure(self.now, &rule, names.iter().copied(), anew);
        self.names.assert_invariants();
    }

    fn tell(&mut self, input: Input<'_>) -> Vec<Output> {
        let mut out = Vec::new();
        self.names.handle(self.now, input, &mut out);
        self.names.assert_invariants();
        out
    }

    /// The names that are asked for when time has come to `s`.
    fn asked_at(&mut self, s: f64) -> Vec<String> {
        self.now = Micros((s * 1e6) as u64);
        let out = self.tell(Input::Tick);
        let ask = |output: &Output| match output {
            Output::Ask { name } => name.to_string(),
            other => panic!("{other:?} out of nothing"),
        };
        out.iter().map(ask).collect()
    }

    fn answered(&mut self, name: &str, answer: Answer) -> Vec<Output> {
        self.tell(Input::Answered { name, answer })
    }

    fn addresses(&self, name: &str) -> Vec<String> {
        self.names.addresses(name).iter().map(IpAddr::to_string).collect()
    }

    fn next_s(&self) -> f64 {
        self.names.next_wakeup().expect("a name is due").secs()
    }
}

fn has_changed(out: &[Output]) -> bool {
    out.iter().any(|output| matches!(output, Output::Changed { .. }))
}

#[test]
fn a_name_is_asked_for_again_when_its_answer_is_over_within_bounds() {
    for (ttl, next) in [(5, 105.0), (0, 101.0), (3_600, 110.0)] {
        let mut world = World::new(&["a"]);
        assert_eq!(world.asked_at(100.0), ["a"]);
        assert_eq!(world.names.next_wakeup(), None, "one question is under way at a time");
        assert!(has_changed(&world.answered("a", answer(v4(&[1]), Heard::Nothing, ttl))));
        assert_eq!(world.next_s(), next, "{ttl}");
        assert_eq!(world.asked_at(next - 0.001), [""; 0]);
        assert_eq!(world.asked_at(next), ["a"]);
    }
}

#[test]
fn the_order_of_an_answer_changes_nothing() {
    let mut world = World::new(&["a"]);
    world.asked_at(100.0);
    assert!(has_changed(&world.answered("a", answer(v4(&[2, 1, 2]), v6(&[1]), 1))));
    assert_eq!(world.addresses("a"), ["10.0.0.1", "10.0.0.2", "fd00::1"]);
    world.asked_at(101.0);
    assert_eq!(world.answered("a", answer(v4(&[1, 2]), v6(&[1]), 1)), []);
    world.asked_at(102.0);
    assert!(has_changed(&world.answered("a", answer(v4(&[1]), v6(&[1]), 1))));
    assert_eq!(world.addresses("a"), ["10.0.0.1", "fd00::1"]);
}

#[test]
fn without_an_answer_or_with_none_the_last_addresses_are_kept_and_it_is_said_once() {
    for (heard, why) in [(Heard::Nothing, Lost::Nothing), (Heard::Silence, Lost::Silence)] {
        let mut world = World::new(&["a"]);
        world.asked_at(100.0);
        world.answered("a", answer(v4(&[1, 2]), Heard::Nothing, 1));
        world.asked_at(101.0);
        let out = world.answered("a", answer(heard.clone(), Heard::Nothing, 0));
        assert_eq!(out, [Output::Note(Note::Lost { name: "a".into(), why, kept: 2 })]);
        assert_eq!(world.addresses("a"), ["10.0.0.1", "10.0.0.2"]);
        assert_eq!(world.names.stats(), Stats { names: 1, lost: 1, asked: 2, failed: 1 });
        world.asked_at(111.0);
        assert_eq!(world.answered("a", answer(heard, Heard::Nothing, 0)), []);
        world.asked_at(121.0);
        let out = world.answered("a", answer(v4(&[1, 2]), Heard::Nothing, 1));
        assert_eq!(out, [Output::Note(Note::Back { name: "a".into() })]);
        assert_eq!(world.names.stats().lost, 0);
    }
}

#[test]
fn silence_about_one_family_keeps_that_family() {
    let mut world = World::new(&["a"]);
    world.asked_at(100.0);
    world.answered("a", answer(v4(&[1]), v6(&[1]), 1));
    world.asked_at(101.0);
    world.answered("a", answer(v4(&[2]), Heard::Silence, 1));
    assert_eq!(world.addresses("a"), ["10.0.0.2", "fd00::1"]);
    world.asked_at(102.0);
    world.answered("a", answer(v4(&[2]), Heard::Nothing, 1));
    assert_eq!(world.addresses("a"), ["10.0.0.2"]);
}

#[test]
fn failures_are_followed_by_longer_and_longer_waits_that_differ() {
    let mut waits = Vec::new();
    for seed in 0..50 {
        let mut world = World::new(&["a"]);
        world.names.rng = Rng::new(seed);
        for (failures, longest) in [(1, 2.0), (2, 4.0), (3, 8.0), (4, 10.0), (5, 10.0)] {
            let at = world.next_s();
            assert_eq!(world.asked_at(at), ["a"]);
            world.answered("a", answer(Heard::Silence, Heard::Silence, 0));
            let wait = world.next_s() - at;
            assert!((longest / 2.0..=longest).contains(&wait), "{wait} after {failures} failures");
            waits.push((wait * 1e6) as u64);
        }
    }
    waits.sort_unstable();
    waits.dedup();
    assert!(waits.len() > 200, "{} waits of 250 differ", waits.len());
}

#[test]
fn a_name_whose_address_takes_no_connection_is_asked_for_soon_but_not_more_often_than_allowed() {
    let mut world = World::new(&["a"]);
    world.asked_at(100.0);
    world.answered("a", answer(v4(&[1]), Heard::Nothing, 8));
    assert_eq!(world.tell(Input::Unreachable { name: "a" }), [], "it was asked for at this very moment");
    assert_eq!(world.next_s(), 101.0);
    assert_eq!(world.asked_at(101.0), ["a"]);
    world.answered("a", answer(v4(&[1]), Heard::Nothing, 8));
    world.now = Micros::from_secs(105);
    assert_eq!(world.tell(Input::Unreachable { name: "a" }), [Output::Ask { name: "a".into() }]);
    // Of servers that do not answer no more is asked than their back-off allows.
    world.answered("a", answer(Heard::Silence, Heard::Silence, 0));
    let next = world.next_s();
    assert_eq!(world.tell(Input::Unreachable { name: "a" }), []);
    assert_eq!(world.tell(Input::Unreachable { name: "b" }), [], "nobody knows it");
    assert_eq!(world.next_s(), next);
}

#[test]
fn so_many_questions_are_under_way_and_the_next_follows_an_answer() {
    let texts: Vec<String> = (0..ASKED_MAX + 2).map(|n| format!("name-{n}")).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    let mut world = World::new(&texts);
    let asked = world.asked_at(100.0);
    assert_eq!(asked.len(), ASKED_MAX);
    assert_eq!(world.names.next_wakeup(), None);
    let out = world.answered(&asked[0], answer(v4(&[1]), Heard::Nothing, 5));
    let asks = out.iter().filter(|output| matches!(output, Output::Ask { .. })).count();
    assert_eq!(asks, 1, "{out:?}");
}

#[test]
fn another_configuration_keeps_what_is_known_and_forgets_what_is_not_needed() {
    let mut world = World::new(&["a", "b"]);
    world.asked_at(100.0);
    world.answered("a", answer(v4(&[1]), Heard::Nothing, 8));
    world.configure(&["a", "c"], false);
    assert_eq!(world.addresses("a"), ["10.0.0.1"]);
    assert!(world.names.is_settled("a") && !world.names.is_settled("c"));
    assert_eq!(world.answered("b", answer(v4(&[2]), Heard::Nothing, 8)), [Output::Ask { name: "c".into() }]);
    assert!(world.addresses("b").is_empty());
    assert_eq!(world.asked_at(107.9), [""; 0]);
    // Other servers may know another answer.
    world.configure(&["a", "c"], true);
    assert_eq!(world.asked_at(107.9), ["a"]);
    assert_eq!(world.addresses("a"), ["10.0.0.1"], "until there is one");
}

fn expanded(upstreams: &str, answers: &[(&str, Answer)]) -> Expanded {
    let text =
        format!("gateway.pool.p.upstreams=[{upstreams}]\n[gateway.pool.q]\nupstreams=[\"10.9.9.9:9\"]");
    let config = Config::parse(&text).unwrap_or_else(|e| panic!("{e:?}"));
    let needed: Vec<&str> = names_of(&config).collect();
    let mut world = World::new(&needed);
    world.asked_at(100.0);
    for (name, answer) in answers {
        world.answered(name, answer.clone());
    }
    expand(&config, &world.names).expect("it has names")
}

fn upstreams(expanded: &Expanded) -> Vec<(String, u32, Option<String>)> {
    let (pool, origins) = (&expanded.pools[0].it.upstreams, &expanded.origins[0]);
    assert_eq!(pool.len(), origins.len());
    let both = pool.iter().zip(origins);
    both.map(|(u, o)| (u.address.0.clone(), u.weight, o.as_ref().map(|o| o.to_string()))).collect()
}

#[test]
fn each_address_of_a_name_is_an_upstream_as_the_name_is() {
    let found = expanded(
        r#"{ address = "a:80", weight = 3, zone = "z" }, "10.0.0.7:80", "b:81""#,
        &[("a", answer(v4(&[2, 1]), v6(&[5]), 5)), ("b", answer(Heard::Nothing, Heard::Nothing, 0))],
    );
    let a = |address: &str| (address.to_owned(), 3, Some("a".to_owned()));
    let alone = |address: &str| (address.to_owned(), 1, None);
    assert_eq!(
        upstreams(&found),
        [a("10.0.0.1:80"), a("10.0.0.2:80"), a("[fd00::5]:80"), alone("10.0.0.7:80"), alone("b:81")]
    );
    assert_eq!(found.pools[0].it.upstreams[1].zone.as_deref(), Some("z"));
    assert_eq!(found.origins[1], [None]);
}

#[test]
fn an_address_that_two_have_is_one_upstream() {
    let found = expanded(
        r#""10.0.0.1:80", "a:80", "b:80", "b:81""#,
        &[("a", answer(v4(&[1, 2]), Heard::Nothing, 5)), ("b", answer(v4(&[2]), Heard::Nothing, 5))],
    );
    let found: Vec<String> = upstreams(&found).into_iter().map(|(address, ..)| address).collect();
    assert_eq!(found, ["10.0.0.1:80", "10.0.0.2:80", "10.0.0.2:81"]);
}

#[test]
fn this_machine_by_both_families_is_one_upstream_and_two_addresses_of_one_family_are_two() {
    let of = |lasts: &[u8]| Heard::Found(lasts.iter().map(|l| Ipv4Addr::new(127, 0, 0, *l).into()).collect());
    let here = Heard::Found(vec![Ipv6Addr::LOCALHOST.into()]);
    let found = expanded(r#""localhost:80""#, &[("localhost", answer(of(&[1]), here, 5))]);
    assert_eq!(upstreams(&found), [("localhost:80".to_owned(), 1, None)]);
    let found = expanded(r#""a:80""#, &[("a", answer(of(&[1, 2]), Heard::Nothing, 5))]);
    assert_eq!(upstreams(&found).len(), 2);
}

#[test]
fn a_pool_has_no_more_upstreams_than_may_be_written() {
    let many = Heard::Found((0..2_000u32).map(|n| Ipv4Addr::from(0x0a00_0000 + n).into()).collect());
    let found = expanded(
        r#""a:80", "b:80""#,
        &[("a", answer(many.clone(), Heard::Nothing, 5)), ("b", answer(many, Heard::Nothing, 5))],
    );
    assert_eq!(upstreams(&found).len(), UPSTREAMS_MAX);
}

#[test]
fn a_configuration_of_addresses_alone_is_not_touched() {
    let config = Config::parse("gateway.pool.p.upstreams=[\"10.0.0.1:80\", \"[::1]:80\"]").unwrap();
    assert_eq!(names_of(&config).count(), 0);
    assert_eq!(expand(&config, &Names::new(1)), None);
}
