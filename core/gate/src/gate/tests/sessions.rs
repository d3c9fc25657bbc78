//! Sticky sessions, and keys of the pools that they are for.

use super::*;

/// Tells that a request with these ties has come, and gives where it was tried, and what name its reply set.
fn ask_tied(stage: &mut Stage, id: u64, arrival: Arrival) -> ((PoolId, u32), Option<u64>) {
    let (mut out, request) = (Vec::new(), RequestId(id));
    let arrival = Arrival { of: stage.gate.generation(), ..arrival };
    stage.gate.handle(stage.now, Input::Arrived { request, arrival }, &mut out);
    let Some(Output::Try { pool, upstream, .. }) = out.pop() else { panic!("{out:?}") };
    let replied = Input::Replied { request, attempt: 1, status: 200, retry_after: None };
    stage.gate.handle(stage.now, replied, &mut out);
    let Some(Output::Forward { stick_to, .. }) = out.pop() else { panic!("{out:?}") };
    stage.done(id);
    ((pool, upstream.0), stick_to)
}

fn tied(sticky: Option<u64>) -> Ties {
    Ties { sticky, ..Ties::default() }
}

#[test]
fn sessions_stay_with_an_upstream_that_drains_and_leave_one_that_is_down() {
    let mut stage = stage(3, "", "sticky = true\nhealth = true");
    let name = |at: u32| upstream_name(&SECRET, &format!("10.0.0.{at}:80"));
    let mut id = 0;
    let mut ask = |stage: &mut Stage, sticky: Option<u64>| {
        id += 1;
        let ((_, at), set) = ask_tied(stage, id, Arrival { ties: tied(sticky), ..get() });
        (at, set)
    };
    let (at, cookie) = ask(&mut stage, None);
    assert_eq!(cookie, Some(name(at)));
    for _ in 0..10 {
        assert_eq!(ask(&mut stage, cookie), (at, None), "nothing to set anew");
    }
    let (other, cookie2) = ask(&mut stage, Some(12_345));
    assert_eq!(cookie2, Some(name(other)), "an upstream that is gone is replaced");

    let mut config = stage.gate.config().clone();
    config.pools[0].it.upstreams[at as usize].drain = true;
    stage.configure(config, &mut Vec::new());
    assert_eq!(ask(&mut stage, cookie), (at, None), "it drains, and keeps its sessions");
    for _ in 0..10 {
        assert_ne!(ask(&mut stage, None).0, at, "and takes no new ones");
    }
    let down = Input::Health { pool: PoolId(0), upstream: UpstreamId(at), up: false };
    stage.tell(down);
    let (new, set) = ask(&mut stage, cookie);
    assert!(new != at && set == Some(name(new)));
}

#[test]
fn a_session_waits_for_its_upstream_and_keeps_nobody_else_back() {
    let mut stage = stage(2, "", "sticky = true\nrequests = 1");
    let name = |at: u32| upstream_name(&SECRET, &format!("10.0.0.{at}:80"));
    let at = upstream_of(&stage.arrive(1, get()));
    stage.connected(1, 1);
    let session = || Arrival { ties: tied(Some(name(at))), ..get() };
    assert_eq!(stage.arrive(2, session()), "", "the other has a place, and not the session");
    assert_eq!(stage.arrive(3, get()), format!("try 3.1 @{}", 1 - at));
    assert_eq!(stage.arrive(4, get()), "");
    assert_eq!(stage.replied(3, 1, 200), "forward 3.1");
    assert_eq!(stage.done(3), format!("try 4.1 @{}", 1 - at));
    assert_eq!(stage.replied(1, 1, 200), "forward 1.1");
    assert_eq!(stage.done(1), format!("try 2.1 @{at}"));
    assert_eq!(stage.arrive(5, session()), "");
    assert_eq!(stage.wait_for_word(), "answer 5 503 QueueLate");
}

#[test]
fn any_number_of_sessions_that_wait_keep_nobody_else_back() {
    let mut stage = stage(2, "", "sticky = true\nrequests = 1");
    let at = upstream_of(&stage.arrive(1, get()));
    assert_eq!(upstream_of(&stage.arrive(2, get())), 1 - at);
    let name = |at: u32| upstream_name(&SECRET, &format!("10.0.0.{at}:80"));
    for id in 3..103 {
        assert_eq!(stage.arrive(id, Arrival { ties: tied(Some(name(at))), ..get() }), "");
    }
    assert_eq!(stage.arrive(103, Arrival { ties: tied(Some(name(1 - at))), ..get() }), "");
    assert_eq!(stage.arrive(104, get()), "");
    for id in [2, 103] {
        stage.replied(id, 1, 200);
        assert_eq!(stage.done(id), format!("try {}.1 @{}", if id == 2 { 103 } else { 104 }, 1 - at));
    }
    stage.replied(1, 1, 200);
    assert_eq!(stage.done(1), format!("try 3.1 @{at}"));
}

#[test]
fn a_session_is_set_again_when_its_ties_say_so() {
    let mut stage = stage(2, "", "sticky = true");
    let ((_, at), set) = ask_tied(&mut stage, 1, get());
    let name = upstream_name(&SECRET, &format!("10.0.0.{at}:80"));
    assert_eq!(set, Some(name));
    for (id, renew, expected) in [(2, false, None), (3, true, Some(name))] {
        let ties = Ties { renew, ..tied(Some(name)) };
        assert_eq!(ask_tied(&mut stage, id, Arrival { ties, ..get() }), ((PoolId(0), at), expected));
    }
}

#[test]
fn a_backup_pool_has_sessions_and_keys_of_its_own() {
    let upstreams = "upstreams = ['b:1', 'b:2', 'b:3', 'b:4']";
    let text = format!(
        "[gateway.route.r]\npool = 'p'\nfailover = 'b'\n[gateway.pool.p]\nupstreams = ['a:1']\nhealth = true\npanic = '0%'\n\
         sticky = true\n[gateway.pool.b]\n{upstreams}\n"
    );
    for more in ["sticky = true", "balance = 'maglev'\nhash-by = 'path'"] {
        let mut stage = stage_of(&format!("{text}{more}"));
        let down = Input::Health { pool: PoolId(0), upstream: UpstreamId(0), up: false };
        assert!(stage.tell(down).contains("on_backup: true"));
        let ties = Ties { key: Some(1), ..tied(Some(upstream_name(&SECRET, "a:1"))) };
        let arrival = |backup_ties| Arrival { ties, backup_ties, ..get() };
        let backup_ties = Ties { key: Some(7), ..Ties::default() };
        let (place, set) = ask_tied(&mut stage, 0, arrival(backup_ties));
        assert_eq!(set.is_some(), more == "sticky = true");
        for id in 1..20 {
            let again = ask_tied(&mut stage, id, arrival(Ties { sticky: set, ..backup_ties }));
            assert_eq!(again, (place, None), "{more}");
        }
    }
}

/// The name of an upstream in cookies, and a request of a session there.
fn of_session(at: u32) -> (u64, Arrival) {
    let name = upstream_name(&SECRET, &format!("10.0.0.{at}:80"));
    (name, Arrival { ties: tied(Some(name)), ..get() })
}

#[test]
fn a_request_of_a_session_is_not_hedged_while_its_upstream_serves_it() {
    let rule = "sticky = true\nhealth.interval = '1h'";
    let mut stage = stage(3, "hedge.after = '20ms'\nretry.budget = '100%'", rule);
    let (_, session) = of_session(0);
    assert_eq!(stage.arrive(1, session.clone()), "try 1.1 @0");
    stage.connected(1, 1);
    stage.now = stage.now.plus(ms(500));
    assert_eq!(stage.tell(Input::Tick), "", "what it is about is there and nowhere else");
    assert_eq!(stage.replied(1, 1, 200), "forward 1.1");
    // One whose upstream is down by then is hedged as any, and moves with the better reply.
    assert_eq!(stage.arrive(2, session), "try 2.1 @0");
    stage.connected(2, 1);
    stage.tell(Input::Health { pool: PoolId(0), upstream: UpstreamId(0), up: false });
    let at = upstream_of(&stage.wait_for_word());
    assert_eq!(stage.replied(2, 2, 200), "abandon 2.1, forward 2.2");
    assert_eq!(stage.stuck, Some(of_session(at).0));
    assert_eq!(stage.gate.stats().hedges, 1);
}

#[test]
fn a_retry_that_another_upstream_answers_moves_a_session_only_if_its_own_is_out() {
    for (pool, moves) in [("", false), ("breaker.consecutive = 1", true), ("eject.consecutive = 1", true)] {
        let mut stage = stage(2, "", &format!("sticky = true\n{pool}"));
        let (_, session) = of_session(0);
        assert_eq!(stage.arrive(1, session.clone()), "try 1.1 @0");
        stage.connected(1, 1);
        stage.replied(1, 1, 503);
        assert!(stage.wait_for_word().ends_with("try 1.2 @1"));
        assert_eq!(stage.replied(1, 2, 200), "forward 1.2");
        assert_eq!(stage.stuck, moves.then(|| of_session(1).0), "{pool}");
        stage.done(1);
        assert_eq!(stage.arrive(2, session), format!("try 2.1 @{}", u32::from(moves)), "{pool}");
    }
}

#[test]
fn sessions_stay_while_all_upstreams_are_used_until_one_that_is_fit_has_answered_in_their_place() {
    let route = "retry.budget-min = 1000\nretry.attempts = 5";
    let mut stage =
        stage(4, route, "sticky = true\nhealth = true\npanic = '50%'\neject = false\nbreaker = false");
    for at in [0, 1, 2] {
        stage.tell(Input::Health { pool: PoolId(0), upstream: UpstreamId(at), up: false });
    }
    for id in 1..10 {
        let (_, session) = of_session(0);
        assert_eq!(stage.arrive(id, session), format!("try {id}.1 @0"));
        assert_eq!(stage.replied(id, 1, 200), format!("forward {id}.1"));
        assert_eq!((stage.stuck, stage.done(id)), (None, String::new()));
    }
    let (_, session) = of_session(0);
    assert_eq!(stage.arrive(10, session), "try 10.1 @0");
    for attempt in 1.. {
        stage.connected(10, attempt);
        stage.failed(10, attempt, Failure::Reset);
        let said = stage.wait_for_word();
        if said.ends_with("@3") {
            assert_eq!(stage.replied(10, attempt + 1, 200), format!("forward 10.{}", attempt + 1));
            break;
        }
    }
    assert_eq!(stage.stuck, Some(of_session(3).0));
}

#[test]
fn a_session_waits_for_the_pools_limit_where_all_upstreams_drain() {
    let mut stage = stage(2, "", "sticky = true\nadaptive = { min = 1, max = 1, start = 1 }");
    let mut config = stage.gate.config().clone();
    config.pools[0].it.upstreams.iter_mut().for_each(|upstream| upstream.drain = true);
    stage.configure(config, &mut Vec::new());
    let (_, session) = of_session(0);
    assert_eq!(stage.arrive(1, session.clone()), "try 1.1 @0");
    assert_eq!(stage.arrive(2, session), "", "there is somebody to wait for");
    assert_eq!(stage.replied(1, 1, 200), "forward 1.1");
    assert_eq!(stage.done(1), "try 2.1 @0");
}
