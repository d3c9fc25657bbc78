//! Who waits for a place, and for which.

use super::*;

fn session(at: u32) -> Arrival {
    let name = upstream_name(&SECRET, &format!("10.0.0.{at}:80"));
    Arrival { ties: Ties { sticky: Some(name), ..Ties::default() }, ..get() }
}

/// One request for each of two upstreams that take one: at which the first is.
fn both_full(stage: &mut Stage) -> u32 {
    let at = upstream_of(&stage.arrive(1, get()));
    assert_eq!(upstream_of(&stage.arrive(2, get())), 1 - at);
    (1..=2).for_each(|id| stage.connected(id, 1));
    at
}

fn end(stage: &mut Stage, id: u64) -> String {
    assert!(stage.replied(id, stage.gate.requests[&RequestId(id)].sent, 200).starts_with("forward "));
    stage.done(id)
}

fn pass(stage: &mut Stage, time: Micros) -> String {
    stage.now = stage.now.plus(time);
    stage.tell(Input::Tick)
}

#[test]
fn sessions_that_wait_take_no_time_from_others() {
    let mut stage = stage(2, "", "sticky = true\nrequests = 1");
    let at = both_full(&mut stage);
    end(&mut stage, 2);
    for id in 100..120 {
        stage.arrive(id, session(at));
        pass(&mut stage, ms(40));
    }
    // The other is full for a moment: for less than a second, and for more than a standing queue's time.
    assert_eq!(stage.arrive(3, get()), format!("try 3.1 @{}", 1 - at));
    assert_eq!(stage.arrive(4, get()), "");
    let said = pass(&mut stage, ms(200));
    assert!(!said.contains(" 4 "), "{said}");
    assert_eq!(end(&mut stage, 3), format!("try 4.1 @{}", 1 - at));
    // Where sessions come faster than they are served, their line stands, and the newest is served.
    for id in 120..140 {
        stage.arrive(id, session(at));
        pass(&mut stage, ms(40));
    }
    stage.arrive(140, session(at));
    assert_eq!(end(&mut stage, 1), format!("try 140.1 @{at}"));
}

#[test]
fn sessions_that_wait_take_no_room_from_others() {
    let mut stage = stage(3, "", "sticky = true\nrequests = 1\nqueue.size = 2");
    let at: Vec<u32> = (1..=3).map(|id| upstream_of(&stage.arrive(id, get()))).collect();
    assert_eq!(stage.arrive(4, session(at[0])) + &stage.arrive(5, session(at[0])), "");
    assert_eq!(stage.arrive(6, session(at[0])), "answer 6 503 QueueFull");
    assert_eq!(stage.arrive(7, get()), "");
    assert_eq!(stage.arrive(8, session(at[1])), "");
    assert_eq!(stage.arrive(9, get()), "");
    assert_eq!(stage.arrive(10, get()), "answer 10 503 QueueFull");
    // In the order of coming, each for its upstream, whoever may go anywhere where none has a session.
    assert_eq!(end(&mut stage, 2), format!("try 8.1 @{}", at[1]));
    assert_eq!(end(&mut stage, 3), format!("try 7.1 @{}", at[2]));
    assert_eq!(end(&mut stage, 8), format!("try 9.1 @{}", at[1]));
    assert_eq!(end(&mut stage, 1), format!("try 4.1 @{}", at[0]));
}

#[test]
fn who_is_more_important_and_may_go_anywhere_is_before_a_session() {
    let mut stage = stage(2, "", "sticky = true\nrequests = 1");
    let at = both_full(&mut stage);
    stage.arrive(3, session(at));
    stage.arrive(4, Arrival { priority: Priority::High, ..get() });
    stage.arrive(5, Arrival { priority: Priority::High, ..session(at) });
    assert_eq!(end(&mut stage, 1), format!("try 5.1 @{at}"));
    assert_eq!(end(&mut stage, 5), format!("try 4.1 @{at}"));
    assert_eq!(end(&mut stage, 4), format!("try 3.1 @{at}"));
}

#[test]
fn who_waits_for_a_session_goes_elsewhere_when_its_upstream_goes() {
    let pool = "sticky = true\nrequests = 1\nhealth = true\npanic = '0%'";
    let mut stage = stage(2, "", pool);
    let at = both_full(&mut stage);
    end(&mut stage, 2);
    assert_eq!(stage.arrive(3, session(at)), "");
    let upstream = UpstreamId(at);
    let said = stage.tell(Input::Health { pool: PoolId(0), upstream, up: false });
    assert_eq!(said, format!("try 3.1 @{}", 1 - at));
    end(&mut stage, 3);
    stage.tell(Input::Health { pool: PoolId(0), upstream, up: true });

    // Another configuration: it stays in line where its upstream stays, whatever its number, and starts anew where it does not.
    for (left, said) in [(at, ""), (1 - at, "try 4.1 @0")] {
        if stage.gate.requests.contains_key(&RequestId(4)) {
            stage.tell(Input::Gone { request: RequestId(4) });
        }
        stage.configure(Config::parse(&text(2, "", pool)).unwrap(), &mut Vec::new());
        assert_eq!(stage.arrive(4, session(at)), "");
        let dropped = format!("'10.0.0.{}:80'", 1 - left);
        let fewer = text(2, "", pool).replace(&format!("{dropped},"), "").replace(&format!(",{dropped}"), "");
        let mut out = Vec::new();
        stage.configure(Config::parse(&fewer).unwrap(), &mut out);
        stage.gate.assert_invariants();
        assert_eq!(short(&out), said, "{left} of {at} is left");
    }
}

#[test]
fn a_retry_that_waits_for_the_one_that_is_left_makes_no_queue_stand() {
    let mut stage = stage(2, "", "requests = 1\neject = false\nbreaker = false");
    both_full(&mut stage);
    assert_eq!(stage.failed(2, 1, Failure::Reset), "");
    let start = stage.now;
    assert_eq!(stage.wait_for_word(), "answer 2 502 Failed(Reset, NoUpstream)");
    let waited = stage.now.since(start);
    assert!(waited >= Micros::from_secs(1), "{waited:?} of `queue.time`");
}

#[test]
fn a_session_waits_for_a_connection_as_for_a_place() {
    let mut stage = stage(2, "", "sticky = true\nhealth = true\npanic = '0%'");
    assert_eq!(stage.arrive(1, session(1)), "try 1.1 @1");
    stage.tell(Input::Waits { request: RequestId(1), attempt: 1 });
    assert_eq!(stage.wait_for_word(), "abandon 1.1, answer 1 503 QueueLate");
    // Unless its upstream went meanwhile.
    assert_eq!(stage.arrive(2, session(1)), "try 2.1 @1");
    stage.tell(Input::Waits { request: RequestId(2), attempt: 1 });
    stage.tell(Input::Health { pool: PoolId(0), upstream: UpstreamId(1), up: false });
    assert_eq!(stage.wait_for_word(), "abandon 2.1, try 2.2 @0");
}

#[test]
fn a_retry_that_waited_for_a_connection_in_vain_is_one_still() {
    let mut stage = stage(3, "", "");
    stage.arrive(1, post());
    assert_eq!(stage.failed(1, 1, Failure::NotSent), "");
    assert!(stage.wait_for_word().starts_with("try 1.2 "));
    stage.tell(Input::Waits { request: RequestId(1), attempt: 2 });
    assert!(stage.wait_for_word().starts_with("abandon 1.2, try 1.3 "));
    assert_eq!((stage.gate.pools[0].retries, stage.gate.stats().retries), (1, 1));
}

#[test]
fn a_retry_waits_for_a_primary_that_is_full_and_goes_to_the_backup_if_that_has_nobody() {
    let mut stage = stage(2, "failover = 'b'", "requests = 1\nhealth = true\npanic = '0%'\neject = false");
    for down in [false, true] {
        let at = both_full(&mut stage);
        assert_eq!(stage.failed(1, 1, Failure::NotSent), "");
        while stage.gate.pools[0].queue.is_empty() {
            assert_eq!(stage.wait(), "", "the other is full");
        }
        if down {
            let upstream = UpstreamId(1 - at);
            let said = stage.tell(Input::Health { pool: PoolId(0), upstream, up: false });
            assert_eq!(said, "try 1.2 @b0");
        } else {
            assert_eq!(end(&mut stage, 2), format!("try 1.2 @{}", 1 - at));
            end(&mut stage, 1);
        }
    }
}

#[test]
fn who_is_more_important_and_has_no_use_for_a_place_lets_nobody_less_important_pass_a_session() {
    let mut stage = stage(2, "", "sticky = true\nrequests = 1\neject = false\nbreaker = false");
    let at = upstream_of(&stage.arrive(1, Arrival { priority: Priority::High, ..get() }));
    assert_eq!(stage.arrive(2, session(1 - at)), format!("try 2.1 @{}", 1 - at));
    assert_eq!(stage.failed(1, 1, Failure::NotSent), "");
    assert_eq!(stage.wait(), "", "it wants the other, which is full");
    assert_eq!(stage.arrive(3, session(at)), format!("try 3.1 @{at}"));
    stage.connected(3, 1);
    assert_eq!(stage.arrive(4, Arrival { priority: Priority::Low, ..get() }), "");
    assert_eq!(stage.arrive(5, session(at)), "");
    assert_eq!(end(&mut stage, 3), format!("try 5.1 @{at}"));
    stage.connected(5, 1);
    assert_eq!(end(&mut stage, 5), format!("try 4.1 @{at}"));
}

#[test]
fn who_waits_for_a_connection_goes_elsewhere_when_the_breaker_of_its_upstream_has_opened() {
    let mut stage = stage(2, "", "sticky = true\neject = false\nbreaker.consecutive = 1");
    let at = upstream_of(&stage.arrive(1, get()));
    stage.arrive(2, session(at));
    stage.tell(Input::Waits { request: RequestId(2), attempt: 1 });
    stage.connected(1, 1);
    assert!(stage.failed(1, 1, Failure::Reset).contains("UpstreamBreaker"));
    let said = stage.failed(2, 1, Failure::NotSent);
    let said = if said.is_empty() { stage.wait_for_word() } else { said };
    assert!(said.contains(&format!("try 2.2 @{}", 1 - at)), "{said}");
}

#[test]
fn what_the_limit_of_a_pool_leaves_goes_to_who_waits_longest_in_whichever_line() {
    let pool = "sticky = true\nrequests = 2\nqueue.standing = '10s'";
    let mut stage = stage(2, "", pool);
    for id in 1..=4 {
        stage.arrive(id, session(id as u32 % 2));
        stage.connected(id, 1);
    }
    for (id, at) in
        [(5, Some(1)), (6, Some(0)), (7, None), (8, Some(1)), (9, Some(0)), (10, None), (11, Some(1))]
    {
        assert_eq!(stage.arrive(id, at.map_or_else(get, session)), "", "both are full");
        pass(&mut stage, ms(1));
    }
    let limited = format!("{pool}\nadaptive = {{ min = 2, max = 2, start = 2 }}");
    stage.configure(Config::parse(&text(2, "", &limited)).unwrap(), &mut Vec::new());
    assert_eq!(end(&mut stage, 1) + &end(&mut stage, 2), "", "two are under way");
    let mut served = Vec::new();
    for id in 3..=9 {
        let said = end(&mut stage, id);
        served.push(said.split(['.', ' ']).nth(1).unwrap().parse::<u64>().unwrap());
    }
    assert_eq!(served, (5..=11).collect::<Vec<_>>(), "in the order of coming");
}

#[test]
fn who_waits_for_what_is_full_gives_those_behind_him_no_turn_before_a_line() {
    let pool =
        "sticky = true\nrequests = 2\nqueue.standing = '10s'\nadaptive = { min = 3, max = 3, start = 3 }";
    let mut stage = stage(2, "", pool);
    // One at one, and two at the other: all that the pool takes.
    for (id, at) in [(1, 0), (2, 1), (3, 1)] {
        stage.arrive(id, session(at));
        stage.connected(id, 1);
    }
    // Two sessions of the one that has a place itself, one of the other, and somebody who may go anywhere.
    for (id, at) in [(4, Some(0)), (5, Some(0)), (6, Some(1)), (7, None)] {
        assert_eq!(stage.arrive(id, at.map_or_else(get, session)), "", "three are under way");
        pass(&mut stage, ms(1));
    }
    assert_eq!(end(&mut stage, 2), "try 4.1 @0");
    assert_eq!(
        end(&mut stage, 3),
        "try 6.1 @1",
        "who came last has not the turn of who waits for the full one"
    );
}
