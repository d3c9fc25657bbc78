//! A second attempt while the first takes long, and whose reply the client gets.

use super::*;

#[test]
fn a_hedge_goes_elsewhere_and_the_first_good_reply_wins() {
    let mut stage = stage(3, "hedge.after = '20ms'", "");
    let first = upstream_of(&stage.arrive(1, get()));
    stage.connected(1, 1);
    let start = stage.now;
    let second = upstream_of(&stage.wait_for_word());
    assert!(first != second && stage.now == start.plus(ms(20)));
    assert_eq!(stage.replied(1, 2, 200), "abandon 1.1, forward 1.2");
    assert_eq!(stage.replied(1, 1, 200), "", "too late");
    stage.done(1);

    stage.arrive(2, get());
    stage.connected(2, 1);
    assert!(stage.wait_for_word().starts_with("try 2.2"));
    assert_eq!(stage.replied(2, 1, 503), "", "the other may be well");
    assert_eq!(stage.replied(2, 2, 200), "abandon 2.1, forward 2.2");

    stage.arrive(3, post());
    stage.connected(3, 1);
    assert_eq!(stage.replied(3, 1, 200), "forward 3.1");
    assert_eq!(stage.gate.stats().hedges, 2, "a POST is not hedged");
}

/// Of request 1: attempt 1 said 503 while its hedge, attempt 2, is under way at the only other upstream.
fn hedged(route: &str) -> Stage {
    let mut stage = stage(2, &format!("hedge.after = '20ms'\nretry.budget = '100%'\n{route}"), "");
    stage.arrive(1, get());
    stage.connected(1, 1);
    assert!(stage.wait_for_word().starts_with("try 1.2"));
    stage.connected(1, 2);
    assert_eq!(stage.replied(1, 1, 503), "", "the other may be well");
    stage
}

#[test]
fn of_a_request_and_its_hedge_the_client_gets_what_an_upstream_said() {
    for (failure, name) in
        [(Failure::Reset, "reset"), (Failure::NotSent, "not sent"), (Failure::Timeout, "late")]
    {
        let mut stage = hedged("");
        assert_eq!(stage.failed(1, 2, failure), "forward 1.1", "the hedge is {name}");
        assert_eq!(stage.ran, Some(true));
        stage.done(1);
        assert!(stage.gate.is_idle());
    }
    let mut stage = hedged("");
    assert_eq!(stage.replied(1, 2, 502), "abandon 1.1, forward 1.2", "what came last says most");
    let mut stage = hedged("");
    assert_eq!(stage.failed(1, 1, Failure::Reset), "", "what was held breaks");
    assert_eq!(stage.replied(1, 2, 200), "forward 1.2");
    // The other way round: the hedge says 503 first.
    let mut stage = super::stage(2, "hedge.after = '20ms'\nretry.budget = '100%'", "");
    stage.arrive(1, get());
    stage.connected(1, 1);
    stage.wait_for_word();
    stage.connected(1, 2);
    assert_eq!(stage.replied(1, 2, 503), "");
    assert_eq!(stage.failed(1, 1, Failure::Reset), "forward 1.2");
}

#[test]
fn a_reply_beside_a_hedge_is_held_for_a_second_and_its_status_for_as_long_as_that_takes() {
    let mut stage = hedged("timeout.request = '5s'");
    let start = stage.now;
    assert_eq!(stage.wait_for_word(), "abandon 1.1", "its connection is for others");
    assert_eq!(stage.now.since(start), Micros::from_secs(1));
    let said = stage.failed(1, 2, Failure::Reset);
    assert!(said.starts_with("answer 1 503 Failed(Status"), "{said}");
    assert!(stage.gate.is_idle());

    let mut stage = hedged("timeout.total = '500ms'");
    assert_eq!(stage.wait_for_word(), "abandon 1.2, forward 1.1", "the deadline has come");

    let mut stage = hedged("timeout.request = '5s'\ntimeout.total = '2s'");
    assert_eq!(stage.wait_for_word(), "abandon 1.1");
    assert_eq!(
        stage.wait_for_word(),
        "abandon 1.2, answer 1 503 Failed(Status { status: 503, retry_after: None }, Deadline)"
    );
}

#[test]
fn a_retry_after_a_hedge_in_vain_has_the_reply_that_was_held_before_it() {
    let rule = "hedge.after = '20ms'\nretry.budget = '100%'";
    let mut stage = stage(3, rule, "");
    stage.arrive(1, get());
    stage.connected(1, 1);
    stage.wait_for_word();
    stage.connected(1, 2);
    stage.replied(1, 1, 503);
    assert_eq!(stage.failed(1, 2, Failure::Reset), "", "a third is there");
    assert!(stage.wait_for_word().starts_with("abandon 1.1, try 1.3"));
    stage.connected(1, 3);
    assert_eq!(stage.replied(1, 3, 200), "forward 1.3");

    // And where none comes to be, since the only one left is full.
    let mut stage = super::stage(3, rule, "requests = 1");
    stage.arrive(1, get());
    stage.connected(1, 1);
    stage.wait_for_word();
    stage.connected(1, 2);
    stage.arrive(2, post());
    stage.connected(2, 1);
    stage.replied(1, 1, 503);
    assert_eq!(stage.failed(1, 2, Failure::Reset), "");
    assert_eq!(stage.wait_for_word(), "forward 1.1");
}

#[test]
fn a_hedge_that_never_ran_leaves_a_failure_that_is_repeated_by_the_rules() {
    let mut stage = stage(3, "hedge.after = '20ms'\nretry.budget = '100%'", "");
    stage.arrive(1, get());
    stage.connected(1, 1);
    stage.wait_for_word();
    stage.tell(Input::Waits { request: RequestId(1), attempt: 2 });
    stage.replied(1, 1, 503);
    let retries = stage.gate.stats().retries;
    assert_eq!(stage.failed(1, 2, Failure::NotSent), "");
    let said = stage.wait_for_word();
    assert!(said.contains("try 1.3"), "{said}");
    assert_eq!(stage.gate.stats().retries, retries + 1, "the first had failed");
    assert_eq!(stage.gate.requests[&RequestId(1)].attempts.iter().filter(|a| a.is_retry).count(), 1);
}

#[test]
fn a_hedge_that_finds_no_place_takes_nothing_of_the_budget() {
    let rule = "hedge.after = '20ms'\nretry.budget = '0%'\nretry.budget-min = 1";
    let mut stage = stage(2, rule, "requests = 1\neject = false\nbreaker = false");
    for id in [1, 2] {
        stage.arrive(id, if id == 1 { get() } else { post() });
        stage.connected(id, 1);
    }
    stage.now = stage.now.plus(ms(20));
    assert_eq!(stage.tell(Input::Tick), "", "the other is full");
    assert_eq!(stage.replied(2, 1, 200) + &stage.done(2), "forward 2.1");
    assert_eq!(stage.failed(1, 1, Failure::Reset), "");
    assert!(stage.wait_for_word().starts_with("try 1.2"), "the only retry is there");
}

#[test]
fn a_hedge_that_the_breaker_of_its_route_refuses_takes_nothing_of_the_budget() {
    let rule = "hedge.after = '20ms'\nretry.budget = '0%'\nretry.budget-min = 1\n\
                breaker = { consecutive = 1, cool-down = '50ms' }";
    let mut stage = stage(3, rule, "eject = false\nbreaker = false");
    for id in [1, 2] {
        stage.arrive(id, if id == 1 { get() } else { post() });
        stage.connected(id, 1);
    }
    let said = stage.failed(2, 1, Failure::Reset);
    assert!(said.contains("answer 2 502"), "{said}");
    stage.now = stage.now.plus(ms(20));
    assert_eq!(stage.tell(Input::Tick), "", "the route is closed");
    stage.now = stage.now.plus(ms(200));
    stage.tell(Input::Tick);
    assert_eq!(stage.failed(1, 1, Failure::Reset), "");
    assert!(stage.wait_for_word().starts_with("try 1.2"), "the only retry is there");
}
