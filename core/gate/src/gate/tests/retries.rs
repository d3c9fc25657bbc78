//! Retries that wait for a place, replies that are held until they have one, and attempts that never ran.

use super::*;

#[test]
fn who_takes_no_such_request_is_not_to_blame_and_another_is_asked_at_once() {
    let touchy = "breaker.consecutive = 1\neject.consecutive = 1";
    let mut stage = stage(3, "retry.budget = '0%'\nretry.budget-min = 0", touchy);
    for id in 1..=5 {
        assert!(stage.arrive(id, post()).starts_with("try "));
        for attempt in 1..3 {
            stage.connected(id, attempt);
            let said = stage.failed(id, attempt, Failure::NotTaken);
            assert!(said.starts_with(&format!("try {id}.{}", attempt + 1)), "{said}");
        }
        stage.connected(id, 3);
        let last = stage.failed(id, 3, Failure::NotTaken);
        assert_eq!(last, format!("answer {id} 501 Failed(NotTaken, Attempts)"));
        assert_eq!(stage.ran, Some(false));
    }
    assert_eq!((stage.gate.stats().retries, stage.gate.stats().over_budget), (0, 0));
    for at in 0..3 {
        assert_eq!(stage.gate.upstream(PoolId(0), UpstreamId(at)), Some((0, true)), "{at}");
    }
}

#[test]
fn a_retry_waits_for_a_place_and_the_reply_before_it_is_kept_until_then() {
    let mut stage = stage(2, "", "requests = 1\neject = false\nbreaker = false");
    let fill = |stage: &mut Stage, one: u64, other: u64| {
        let at = upstream_of(&stage.arrive(one, get()));
        assert_eq!(1 - at, upstream_of(&stage.arrive(other, get())));
        (one..=other).for_each(|id| stage.connected(id, 1));
        at
    };
    let at = fill(&mut stage, 1, 2);
    assert_eq!(stage.replied(1, 1, 503), "");
    assert_eq!(stage.wait(), "", "all others are full");
    assert_eq!(stage.arrive(3, get()), format!("try 3.1 @{at}"), "it has given back its place");
    assert_eq!(stage.arrive(4, get()), "");
    stage.replied(3, 1, 200);
    assert_eq!(stage.done(3), format!("try 4.1 @{at}"), "where the retry cannot go");
    assert_eq!(stage.replied(2, 1, 200), "forward 2.1");
    assert_eq!(stage.done(2), format!("abandon 1.1, try 1.2 @{}", 1 - at));
    assert_eq!(stage.replied(1, 2, 200), "forward 1.2");
    stage.done(1);
    stage.tell(Input::Gone { request: RequestId(4) });
    assert!(stage.gate.is_idle());

    // No place comes.
    fill(&mut stage, 5, 6);
    assert_eq!(stage.replied(5, 1, 503), "");
    assert_eq!(stage.wait_for_word(), "forward 5.1", "then it is what the upstream said");
    stage.done(5);
    stage.arrive(7, get());
    stage.connected(7, 1);
    assert_eq!(stage.failed(7, 1, Failure::Reset), "");
    assert_eq!(stage.wait_for_word(), "answer 7 502 Failed(Reset, NoUpstream)");
    assert_eq!((stage.ran, stage.again), (Some(true), None));
    stage.arrive(8, get());
    assert_eq!(stage.replied(8, 1, 503), "");
    assert_eq!(stage.failed(8, 1, Failure::Broken), "", "what was held back is lost");
    let why = "Failed(Status { status: 503, retry_after: None }, NoUpstream)";
    assert_eq!(stage.wait_for_word(), format!("answer 8 503 {why}"));

    // Its client leaves, or its deadline comes, while it waits.
    stage.arrive(9, get());
    assert_eq!(stage.replied(9, 1, 503) + &stage.wait(), "");
    assert_eq!(stage.tell(Input::Gone { request: RequestId(9) }), "abandon 9.1");
    let deadline = Some(stage.now.plus(ms(500)));
    stage.arrive(10, Arrival { deadline, ..get() });
    assert_eq!(stage.replied(10, 1, 503), "");
    assert_eq!(stage.wait_for_word(), "forward 10.1");
    assert_eq!(Some(stage.now), deadline);
}

#[test]
fn who_may_have_run_is_not_told_to_come_again_for_want_of_a_place() {
    let mut stage = stage(2, "", "requests = 1\nqueue.size = 0\neject = false\nbreaker = false");
    let second = Some(Micros::from_secs(1));
    stage.arrive(1, get());
    stage.connected(1, 1);
    let fails = |stage: &mut Stage, id: u64, failure: Failure| {
        stage.arrive(id, get());
        stage.failed(id, 1, failure) + &stage.wait_for_word()
    };
    assert_eq!(fails(&mut stage, 3, Failure::NotSent), "answer 3 503 QueueFull");
    assert_eq!((stage.ran, stage.again), (Some(false), second));
    assert_eq!(fails(&mut stage, 4, Failure::Timeout), "answer 4 504 Failed(Timeout, NoUpstream)");
    assert_eq!((stage.ran, stage.again), (Some(true), None));
    assert_eq!(fails(&mut stage, 5, Failure::Reset), "answer 5 502 Failed(Reset, NoUpstream)");
    assert_eq!((stage.ran, stage.again), (Some(true), None));
    assert_eq!(stage.gate.stats().shed, 3);
    // A reply that was not kept, since its upstream asked for a long wait: its status and its word are.
    let (request, retry_after) = (RequestId(6), Some(Micros::from_secs(2)));
    stage.arrive(6, get());
    let replied = Input::Replied { request, attempt: 1, status: 504, retry_after };
    assert_eq!(stage.tell(replied), "abandon 6.1");
    assert!(stage.wait_for_word().starts_with("answer 6 504 Failed(Status"));
    assert_eq!((stage.ran, stage.again), (Some(true), retry_after));
}

#[test]
fn a_reply_is_held_for_a_second_and_the_wait_before_a_retry_at_most() {
    let mut stage = stage(2, "", "requests = 1\nqueue = { time = '10s', standing = '10s' }");
    stage.arrive(1, get());
    stage.arrive(2, get());
    stage.connected(2, 1);
    let start = stage.now;
    assert_eq!(stage.replied(1, 1, 503), "");
    assert_eq!(stage.wait_for_word(), "forward 1.1");
    let held = stage.now.since(start);
    assert!(held >= ms(1_000) && held <= ms(1_025), "{held:?}");
}

#[test]
fn retries_that_waited_for_a_place_are_as_few_as_others() {
    let pool = "requests = 5\nretries-max = '1%'\neject = false\nbreaker = false";
    let mut stage = stage(2, "retry.budget-min = 1000", pool);
    let at: Vec<u32> = (0..10).map(|id| upstream_of(&stage.arrive(id, get()))).collect();
    (0..10).for_each(|id| stage.connected(id, 1));
    let (first, others): (Vec<u64>, Vec<u64>) = (0..10).partition(|id| at[*id as usize] == at[0]);
    assert_eq!((first.len(), others.len()), (5, 5));
    first.iter().for_each(|id| assert_eq!(stage.failed(*id, 1, Failure::Reset), ""));
    while stage.gate.pools[0].queue.len() < 5 {
        assert_eq!(stage.wait(), "");
    }
    let end = |stage: &mut Stage, id: u64, attempt: u32| {
        stage.replied(id, attempt, 200);
        (stage.done(id).matches("try").count(), stage.gate.pools[0].retries)
    };
    let ended: Vec<_> = others.iter().map(|id| end(&mut stage, *id, 1)).collect();
    assert_eq!(ended, [(1, 1), (1, 2), (1, 3), (0, 3), (0, 3)], "three always");
    for expected in [(1, 3), (1, 3), (0, 2), (0, 1), (0, 0)] {
        let running = stage.gate.requests.iter().find(|(_, request)| !request.attempts.is_empty());
        let id = running.expect("one has a place").0.0;
        assert_eq!(end(&mut stage, id, 2), expected);
    }
    assert!(stage.gate.is_idle());
}

#[test]
fn a_reply_that_was_to_be_followed_is_given_on_if_nobody_is_left() {
    let mut stage = stage(2, "", "health = true\npanic = '0%'");
    let at = upstream_of(&stage.arrive(1, get()));
    assert_eq!(stage.replied(1, 1, 503), "");
    let upstream = UpstreamId(1 - at);
    stage.tell(Input::Health { pool: PoolId(0), upstream, up: false });
    assert_eq!(stage.wait_for_word(), "forward 1.1");
    assert_eq!(stage.gate.upstream(PoolId(0), UpstreamId(at)), Some((1, true)));
    stage.done(1);
    assert_eq!(stage.gate.upstream(PoolId(0), UpstreamId(at)), Some((0, true)));
    // Its upstream has answered early and reads on, until the body is more than is kept.
    stage.tell(Input::Health { pool: PoolId(0), upstream, up: true });
    stage.arrive(3, Arrival { sends_body: true, ..get() });
    stage.connected(3, 1);
    assert_eq!(stage.replied(3, 1, 503), "");
    assert_eq!(stage.tell(Input::BodyGone { request: RequestId(3) }), "forward 3.1");
    stage.done(3);
    // One that is to wait long keeps no connection.
    stage.arrive(2, get());
    let (request, retry_after) = (RequestId(2), Some(Micros::from_secs(5)));
    assert_eq!(stage.tell(Input::Replied { request, attempt: 1, status: 503, retry_after }), "abandon 2.1");
}

#[test]
fn what_never_had_a_connection_did_not_run_however_short_its_times_are() {
    let mut stage = stage(2, "timeout = { connect = '1s', request = '100ms' }", "");
    let start = stage.now;
    stage.arrive(1, post());
    assert_eq!(stage.wait_for_word(), "abandon 1.1");
    assert_eq!(stage.now, start.plus(ms(100)));
    assert!(stage.wait_for_word().starts_with("try 1.2"));
    assert_eq!(stage.wait_for_word(), "abandon 1.2, answer 1 502 Failed(NotSent, NoUpstream)");
    assert_eq!(stage.ran, Some(false));
}

#[test]
fn who_waited_for_a_connection_in_vain_goes_elsewhere_without_a_retry_of_the_budget() {
    let mut stage = stage(2, "retry.budget = '0%'\nretry.budget-min = 0", "");
    let at = upstream_of(&stage.arrive(1, post()));
    stage.tell(Input::Waits { request: RequestId(1), attempt: 1 });
    assert_eq!(stage.wait_for_word(), format!("abandon 1.1, try 1.2 @{}", 1 - at));
    assert_eq!((stage.gate.stats().retries, stage.gate.stats().over_budget), (0, 0));
}
