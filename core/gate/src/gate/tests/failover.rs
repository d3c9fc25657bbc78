//! Primary and backup pools, and who waits when one takes over.

use super::*;

#[test]
fn a_route_breaker_answers_or_leads_to_the_backup() {
    for (failover, expected) in [("", "answer 9 503 BreakerOpen"), ("failover = 'b'", "try 9.1 @b0")] {
        let route = format!("retry = false\nbreaker = {{ consecutive = 3 }}\n{failover}");
        let mut stage = stage(3, &route, "breaker = false\neject = false");
        for id in 0..3 {
            stage.arrive(id, get());
            let said = stage.failed(id, 1, Failure::Reset);
            assert_eq!(said.contains("RouteBreaker { route: RouteId(0), open: true }"), id == 2, "{said}");
        }
        assert_eq!(stage.arrive(9, get()), expected);
    }
}

#[test]
fn on_the_backup_the_primary_is_asked_where_the_backup_did_nothing() {
    let mut stage = stage(2, "failover = 'b'\nretry.budget-min = 100", "health = true\npanic = '0%'");
    let health = |at, up| Input::Health { pool: PoolId(0), upstream: UpstreamId(at), up };
    stage.tell(health(0, false));
    assert!(stage.tell(health(1, false)).contains("on_backup: true"));
    assert_eq!(stage.arrive(1, get()), "try 1.1 @b0");
    assert_eq!(stage.tell(health(1, true)), "", "it must be well for longer");
    assert_eq!(stage.failed(1, 1, Failure::NotSent), "");
    assert_eq!(stage.wait_for_word(), "try 1.2 @1");
    assert_eq!(stage.arrive(2, get()), "try 2.1 @b0");
    stage.connected(2, 1);
    assert_eq!(stage.failed(2, 1, Failure::Reset), "answer 2 502 Failed(Reset, NoUpstream)");
    // Until the breaker of the backup is open.
    let mut opens = |id| {
        assert_eq!(stage.arrive(id, get()), format!("try {id}.1 @b0"));
        stage.failed(id, 1, Failure::NotSent).contains("UpstreamBreaker")
    };
    let last = (3..20).find(|id| opens(*id)).expect("it opens");
    assert_eq!(stage.arrive(last + 1, get()), format!("try {}.1 @1", last + 1));
}

#[test]
fn a_status_that_says_that_nothing_ran_leads_from_the_backup_to_the_primary() {
    let mut stage = stage(2, "failover = 'b'\nretry.not-run = [425]", "health = true\npanic = '0%'");
    let health = |at, up| Input::Health { pool: PoolId(0), upstream: UpstreamId(at), up };
    stage.tell(health(0, false));
    stage.tell(health(1, false));
    stage.tell(health(1, true));
    for (id, status, said) in [(1, 425, "abandon 1.1, try 1.2 @1"), (2, 503, "forward 2.1")] {
        assert_eq!(stage.arrive(id, get()), format!("try {id}.1 @b0"));
        stage.connected(id, 1);
        let now = stage.replied(id, 1, status);
        assert_eq!(if now.is_empty() { stage.wait_for_word() } else { now }, said);
    }
}

#[test]
fn all_routes_that_a_pool_moves_are_moved_with_it() {
    let mut text = text(1, "failover = 'b'", "requests = 1\nhealth = true\npanic = '0%'");
    text.push_str("[gateway.route.s]\npool = 'p'\nfailover = 'b'\n");
    let mut stage = stage_of(&text);
    for id in 1..=5 {
        stage.arrive(id, Arrival { route: Some(RouteId(id as u32 % 2)), ..get() });
    }
    let said = stage.tell(Input::Health { pool: PoolId(0), upstream: UpstreamId(0), up: false });
    assert_eq!(said.matches("on_backup: true").count(), 2);
    assert!(said.ends_with("try 2.1 @b0, try 3.1 @b0, try 4.1 @b0, try 5.1 @b0"), "{said}");
}

#[test]
fn a_failover_looks_at_what_another_configuration_makes_of_the_primary() {
    let route = "failover = 'b'";
    let on_backup = || {
        let mut stage = stage(2, route, "health = true\npanic = '0%'");
        let down = |at| Input::Health { pool: PoolId(0), upstream: UpstreamId(at), up: false };
        assert!((stage.tell(down(0)) + &stage.tell(down(1))).contains("on_backup: true"));
        stage
    };
    let back = "Failover { route: RouteId(0), on_backup: false }";
    let mut stage = on_backup();
    let start = stage.now;
    let mut out = Vec::new();
    stage.configure(Config::parse(&text(2, route, "")).unwrap(), &mut out);
    assert_eq!(short(&out), "", "it is well, and must be for longer");
    assert_eq!(stage.wait_for_word(), back);
    assert_eq!(stage.now.since(start), Micros::from_secs(30));
    assert!(stage.arrive(1, get()).starts_with("try 1.1 @"));

    let mut stage = on_backup();
    let mut config = stage.gate.config().clone();
    let it = config.pools[1].it.clone();
    config.pools.push(crate::config::Named { name: "c".to_owned(), it });
    config.routes[0].it.pool = Some("c".to_owned());
    stage.configure(config, &mut out);
    assert_eq!(short(&out), back, "what the other pool did says nothing of this one");
    assert_eq!(stage.arrive(1, Arrival { pool: PoolId(2), ..get() }), "try 1.1 @0");
}

#[test]
fn who_waits_goes_where_an_upstream_comes_up_or_a_backup_takes_over() {
    let pool = "requests = 1\nhealth = true\npanic = '0%'";
    let health = |at, up| Input::Health { pool: PoolId(0), upstream: UpstreamId(at), up };
    let mut two = stage(2, "", pool);
    assert_eq!(two.tell(health(1, false)), "");
    assert_eq!(two.arrive(1, get()) + &two.arrive(2, get()), "try 1.1 @0");
    assert_eq!(two.tell(health(1, true)), "try 2.1 @1");

    let mut one = stage(1, "failover = { pool = 'b', back-after = '0s' }", pool);
    assert_eq!(one.arrive(1, get()) + &one.arrive(2, get()), "try 1.1 @0");
    assert_eq!(one.tell(health(0, false)), "Failover { route: RouteId(0), on_backup: true }, try 2.1 @b0");
}
