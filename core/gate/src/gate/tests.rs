//! The gate, one rule at a time: what goes in, and all that comes out.

mod failover;
mod hedges;
mod retries;
mod sessions;
mod waiting;

use super::*;
use crate::balance::sticky::upstream_name;

/// A gate with its clock, and what it said, in short.
struct Stage {
    gate: Gate,
    now: Micros,
    /// Of the last words: whether the request may have run.
    ran: Option<bool>,
    /// And after which time its client is to come again.
    again: Option<Micros>,
    /// Which upstream's name its cookie is set to.
    stuck: Option<u64>,
}

const SECRET: Secret = Secret([3; 32]);

fn ms(n: u64) -> Micros {
    Micros::from_millis(n)
}

fn text(count: usize, route: &str, pool: &str) -> String {
    let upstreams: Vec<String> = (0..count).map(|n| format!("'10.0.0.{n}:80'")).collect();
    format!(
        "[gateway.route.r]\npool = 'p'\n{route}\n[gateway.pool.p]\nbalance = 'round-robin'\nupstreams = [{}]\n{pool}\n\
         [gateway.pool.b]\nupstreams = ['b:1']\n",
        upstreams.join(",")
    )
}

fn stage(count: usize, route: &str, pool: &str) -> Stage {
    stage_of(&text(count, route, pool))
}

fn stage_of(text: &str) -> Stage {
    let config = Config::parse(text).unwrap_or_else(|e| panic!("{e:#?}"));
    let now = Micros::from_secs(100);
    let gate = Gate::new(now, config, Site::default(), SECRET, 1);
    Stage { gate, now, ran: None, again: None, stuck: None }
}

fn get() -> Arrival {
    Arrival {
        of: Generation::default(),
        route: Some(RouteId(0)),
        pool: PoolId(0),
        priority: Priority::Normal,
        traits: Traits { idempotent: true, keyed: false, replayable: true },
        sends_body: false,
        hedgeable: true,
        ties: Ties::default(),
        backup_ties: Ties::default(),
        deadline: None,
        nested: false,
    }
}

fn post() -> Arrival {
    Arrival { traits: Traits { idempotent: false, ..get().traits }, hedgeable: false, ..get() }
}

impl Stage {
    fn tell(&mut self, input: Input) -> String {
        let mut out = Vec::new();
        self.gate.handle(self.now, input, &mut out);
        self.gate.assert_invariants();
        self.ran = out.iter().find_map(|output| match output {
            Output::Forward { ran, .. } | Output::Answer { ran, .. } => Some(*ran),
            _ => None,
        });
        self.again = out.iter().find_map(|output| match output {
            Output::Answer { retry_after, .. } => *retry_after,
            _ => None,
        });
        self.stuck = out.iter().find_map(|output| match output {
            Output::Forward { stick_to, .. } => *stick_to,
            _ => None,
        });
        short(&out)
    }

    fn configure(&mut self, config: Config, out: &mut Vec<Output>) {
        let next = self.gate.generation().next();
        self.gate.configure(self.now, config, next, out);
    }

    /// With the numbers of the configuration in force.
    fn arrive(&mut self, id: u64, arrival: Arrival) -> String {
        let arrival = Arrival { of: self.gate.generation(), ..arrival };
        self.tell(Input::Arrived { request: RequestId(id), arrival })
    }

    fn connected(&mut self, id: u64, attempt: u32) {
        assert_eq!(self.tell(Input::Connected { request: RequestId(id), attempt }), "");
    }

    fn replied(&mut self, id: u64, attempt: u32, status: u16) -> String {
        self.tell(Input::Replied { request: RequestId(id), attempt, status, retry_after: None })
    }

    fn failed(&mut self, id: u64, attempt: u32, failure: Failure) -> String {
        self.tell(Input::Failed { request: RequestId(id), attempt, failure })
    }

    fn done(&mut self, id: u64) -> String {
        self.tell(Input::Done { request: RequestId(id) })
    }

    /// Lets time pass to the gate's next wakeup.
    fn wait(&mut self) -> String {
        self.now = self.gate.next_wakeup().expect("it waits for something").max(self.now);
        self.tell(Input::Tick)
    }

    /// Lets time pass until the gate says something.
    fn wait_for_word(&mut self) -> String {
        (0..1_000).map(|_| self.wait()).find(|said| !said.is_empty()).expect("it says something")
    }
}

/// `try 1.2 @3` is attempt 2 of request 1 at upstream 3 of the first pool, `@b0` at that of the other.
fn short(out: &[Output]) -> String {
    let one = |output: &Output| match output {
        Output::Try { request, attempt, pool, upstream, .. } => {
            format!("try {}.{attempt} @{}{}", request.0, if pool.0 == 1 { "b" } else { "" }, upstream.0)
        }
        Output::Abandon { request, attempt } => format!("abandon {}.{attempt}", request.0),
        Output::Forward { request, attempt, .. } => format!("forward {}.{attempt}", request.0),
        Output::Answer { request, why, .. } => format!("answer {} {} {why:?}", request.0, why.status()),
        Output::Probe { upstream, .. } => format!("probe {}", upstream.0),
        Output::Health { upstream, up, .. } => format!("health {} {up}", upstream.0),
        Output::Note(note) => format!("{note:?}"),
    };
    out.iter().map(one).collect::<Vec<_>>().join(", ")
}

fn upstream_of(said: &str) -> u32 {
    said.rsplit('@').next().unwrap().parse().unwrap()
}

#[test]
fn a_request_is_tried_forwarded_and_done() {
    let mut stage = stage(3, "", "");
    let said = stage.arrive(1, get());
    let at = upstream_of(&said);
    assert_eq!(stage.gate.upstream(PoolId(0), UpstreamId(at)), Some((1, true)));
    stage.connected(1, 1);
    assert_eq!(stage.replied(1, 1, 200), "forward 1.1");
    assert_eq!(stage.replied(1, 1, 200), "", "a second head is none");
    assert_eq!(stage.done(1), "");
    assert_eq!(stage.gate.upstream(PoolId(0), UpstreamId(at)), Some((0, true)));
    assert!(stage.gate.is_idle() && stage.gate.next_wakeup().is_none());
    for late in [stage.done(1), stage.replied(1, 1, 200), stage.failed(1, 1, Failure::Reset)] {
        assert_eq!(late, "", "what comes after the end is nothing");
    }
}

#[test]
fn a_get_is_sent_again_elsewhere_and_a_post_that_may_have_run_is_not() {
    let mut stage = stage(3, "", "");
    let first = upstream_of(&stage.arrive(1, get()));
    assert_eq!(stage.failed(1, 1, Failure::Reset), "");
    let second = upstream_of(&stage.wait_for_word());
    assert_eq!(stage.replied(1, 2, 503), "", "it is held back");
    let said = stage.wait_for_word();
    assert!(said.starts_with("abandon 1.2, try 1.3"), "{said}");
    let third = upstream_of(&said);
    assert!(first != second && second != third && first != third, "INV-GATE-14");
    assert_eq!(stage.replied(1, 3, 503), "forward 1.3", "the last word is the upstream's");
    stage.done(1);

    stage.arrive(2, post());
    stage.connected(2, 1);
    assert_eq!(stage.failed(2, 1, Failure::Reset), "answer 2 502 Failed(Reset, MayHaveRun)");
    stage.arrive(3, post());
    assert_eq!(stage.failed(3, 1, Failure::NotSent), "");
    assert!(stage.wait_for_word().starts_with("try 3.2"));
    assert_eq!(stage.replied(3, 2, 503), "forward 3.2", "it may have run");
    stage.arrive(4, post());
    assert_eq!(stage.replied(4, 1, 404), "forward 4.1");
    stage.arrive(5, get());
    assert_eq!(stage.tell(Input::BodyGone { request: RequestId(5) }), "");
    assert_eq!(stage.failed(5, 1, Failure::Reset), "answer 5 502 Failed(Reset, BodyGone)");
    stage.arrive(6, Arrival { nested: true, ..get() });
    assert_eq!(stage.failed(6, 1, Failure::Reset), "answer 6 502 Failed(Reset, Nested)");
}

#[test]
fn what_failed_is_not_asked_again_even_if_it_is_the_only_one() {
    let mut stage = stage(1, "", "");
    stage.arrive(1, get());
    assert_eq!(stage.failed(1, 1, Failure::NotSent), "answer 1 502 Failed(NotSent, NoUpstream)");
}

#[test]
fn time_limits_of_connecting_replying_and_all_are_kept() {
    let mut stage = stage(3, "timeout = { connect = '10ms', request = '100ms', total = '250ms' }", "");
    let start = stage.now;
    stage.arrive(1, post());
    assert_eq!(stage.wait(), "abandon 1.1", "no connection, so it did not run");
    assert_eq!(stage.now, start.plus(ms(10)));
    assert!(stage.wait_for_word().starts_with("try 1.2"));
    stage.connected(1, 2);
    let said = stage.wait_for_word();
    assert_eq!(said, "abandon 1.2, answer 1 504 Failed(Timeout, MayHaveRun)");

    let start = stage.now;
    stage.arrive(2, get());
    stage.connected(2, 1);
    assert_eq!(stage.wait_for_word(), "abandon 2.1");
    assert!(stage.wait_for_word().starts_with("try 2.2"));
    stage.connected(2, 2);
    assert_eq!(stage.wait_for_word(), "abandon 2.2");
    assert!(stage.wait_for_word().starts_with("try 2.3"));
    stage.connected(2, 3);
    assert_eq!(stage.wait_for_word(), "abandon 2.3, answer 2 504 Deadline");
    assert_eq!(stage.now, start.plus(ms(250)));

    let soon = Some(stage.now.plus(ms(5)));
    stage.arrive(3, Arrival { deadline: soon, ..get() });
    assert_eq!(stage.wait(), "abandon 3.1, answer 3 504 Deadline", "a deadline that came with it holds");
    let past = Some(stage.now);
    assert_eq!(stage.arrive(4, Arrival { deadline: past, ..get() }), "answer 4 504 Deadline");
}

#[test]
fn a_full_bulkhead_lets_wait_and_turns_away_the_least_important() {
    let route = "bulkhead = { requests = 1, queue = { size = 1, time = '50ms' } }";
    let mut stage = stage(3, route, "");
    stage.arrive(1, get());
    assert_eq!(stage.arrive(2, get()), "");
    assert_eq!(stage.arrive(3, get()), "answer 3 503 QueueFull");
    let high = Arrival { priority: Priority::High, ..get() };
    assert_eq!(stage.arrive(4, high), "answer 2 503 QueueFull");
    assert_eq!(stage.replied(1, 1, 200), "forward 1.1");
    assert!(stage.done(1).starts_with("try 4.1"));
    stage.arrive(5, get());
    assert_eq!(stage.wait_for_word(), "answer 5 503 QueueLate");
    stage.arrive(6, get());
    assert_eq!(stage.tell(Input::Gone { request: RequestId(6) }), "");
    assert_eq!(stage.tell(Input::Gone { request: RequestId(4) }), "abandon 4.1");
    assert!(stage.gate.is_idle());
}

#[test]
fn a_full_pool_lets_wait_in_order() {
    let mut stage = stage(2, "", "requests = 1");
    stage.arrive(1, get());
    stage.arrive(2, get());
    assert_eq!(stage.arrive(3, get()) + &stage.arrive(4, get()), "");
    stage.replied(2, 1, 200);
    assert!(stage.done(2).starts_with("try 3.1"));
    assert!(stage.tell(Input::Gone { request: RequestId(1) }).starts_with("abandon 1.1, try 4.1"));
}

#[test]
fn probes_are_asked_for_and_other_gates_told() {
    let mut stage = stage(2, "", "health = { interval = '1s', timeout = '100ms', fall = 1 }\npanic = '0%'");
    let said = stage.wait_for_word();
    let at: u32 = said.strip_prefix("probe ").unwrap().parse().unwrap();
    let (pool, upstream) = (PoolId(0), UpstreamId(at));
    assert_eq!(
        stage.tell(Input::Probed { pool, upstream, probe: 0, well: false }),
        format!("health {at} false")
    );
    assert_eq!(stage.gate.upstream(pool, upstream), Some((0, false)));
    for id in 0..5 {
        assert_ne!(upstream_of(&stage.arrive(id, get())), at);
    }
    let other = UpstreamId(1 - at);
    stage.tell(Input::Health { pool, upstream: other, up: false });
    assert_eq!(stage.arrive(9, get()), "answer 9 503 NoUpstream");
    let mut deaf = self::stage(2, "", "health = true");
    deaf.tell(Input::Site(Site { probes: false, ..Site::default() }));
    assert!((0..10).all(|_| deaf.gate.next_wakeup().is_none() || deaf.wait().is_empty()));
}

#[test]
fn too_few_fit_upstreams_are_panic_and_all_are_used() {
    let mut stage = stage(4, "", "health = true\npanic = '50%'");
    let down = |at| Input::Health { pool: PoolId(0), upstream: UpstreamId(at), up: false };
    assert_eq!(stage.tell(down(0)) + &stage.tell(down(1)), "");
    assert_eq!(stage.tell(down(2)), "Panic { pool: PoolId(0), on: true }");
    let used: BTreeSet<u32> = (0..8).map(|id| upstream_of(&stage.arrive(id, get()))).collect();
    assert_eq!(used.len(), 4);
    let up = Input::Health { pool: PoolId(0), upstream: UpstreamId(0), up: true };
    assert_eq!(stage.tell(up), "Panic { pool: PoolId(0), on: false }");
}

#[test]
fn another_configuration_that_ejects_nobody_or_for_less_time_lets_back_in() {
    let rule = |eject: &str| format!("eject = {eject}\nbreaker = false");
    for (eject, said, time) in [
        ("false", "Readmitted { pool: PoolId(0), upstream: UpstreamId(0) }", Micros(0)),
        ("{ consecutive = 1, time = '1s', time-max = '2s' }", "", Micros::from_secs(1)),
        ("{ consecutive = 1, time = '10s', time-max = '1h' }", "", Micros::from_secs(10)),
    ] {
        let mut stage = stage(3, "", &rule("{ consecutive = 1, time = '1h', time-max = '1h' }"));
        while stage.gate.upstream(PoolId(0), UpstreamId(0)) != Some((0, false)) {
            let id = stage.gate.stats().arrived;
            let at = upstream_of(&stage.arrive(id, post()));
            stage.connected(id, 1);
            stage.replied(id, 1, if at == 0 { 500 } else { 200 });
            stage.done(id);
        }
        let (mut out, began) = (Vec::new(), stage.now);
        stage.configure(Config::parse(&text(3, "", &rule(eject))).unwrap(), &mut out);
        assert_eq!(short(&out), said);
        while stage.gate.upstream(PoolId(0), UpstreamId(0)) != Some((0, true)) {
            stage.wait();
        }
        assert_eq!(stage.now.since(began), time, "{eject}");
    }
}

#[test]
fn panic_that_another_configuration_begins_or_ends_is_told() {
    let mut stage = stage(4, "", "health = true\npanic = '50%'");
    for at in [0, 1] {
        stage.tell(Input::Health { pool: PoolId(0), upstream: UpstreamId(at), up: false });
    }
    for (panic, said) in [
        ("60%", "Panic { pool: PoolId(0), on: true }"),
        ("70%", ""),
        ("50%", "Panic { pool: PoolId(0), on: false }"),
    ] {
        let mut out = Vec::new();
        let rule = format!("health = true\npanic = '{panic}'");
        stage.configure(Config::parse(&text(4, "", &rule)).unwrap(), &mut out);
        assert_eq!(short(&out), said, "{panic}");
    }
}

#[test]
fn another_configuration_keeps_what_is_known_and_lets_requests_end() {
    let mut stage =
        stage(3, "", "eject = { consecutive = 1, time = '1h', time-max = '1h' }\nbreaker = false");
    let out_at = upstream_of(&stage.arrive(1, post()));
    stage.connected(1, 1);
    assert!(stage.failed(1, 1, Failure::Reset).contains("Ejected"));
    let gone_at = upstream_of(&stage.arrive(2, get()));
    let kept_at = upstream_of(&stage.arrive(3, get()));

    let mut config = stage.gate.config().clone();
    config.pools[0].it.upstreams.remove(gone_at as usize);
    config.pools.insert(0, crate::config::Named { name: "first".to_owned(), it: config.pools[1].it.clone() });
    config.routes[0].it.timeout.total = ms(1);
    let mut out = Vec::new();
    stage.configure(config, &mut out);
    stage.gate.assert_invariants();
    assert_eq!(short(&out), "");
    let shifted = |at: u32| UpstreamId(at - u32::from(at > gone_at));
    assert_eq!(stage.gate.upstream(PoolId(1), shifted(out_at)), Some((0, false)), "it stays ejected");
    assert_eq!(stage.gate.upstream(PoolId(1), shifted(kept_at)), Some((1, true)));
    assert_eq!(
        stage.replied(2, 1, 200),
        "forward 2.1",
        "its upstream is gone from the list, and still answers"
    );
    assert_eq!(stage.replied(3, 1, 200), "forward 3.1");
    assert_eq!(stage.done(2) + &stage.done(3), "");

    stage.arrive(4, Arrival { pool: PoolId(1), ..get() });
    let empty = Config::parse("[gateway]").unwrap();
    stage.configure(empty, &mut out);
    assert_eq!(stage.failed(4, 1, Failure::Reset), "answer 4 502 Failed(Reset, Off)", "its route is gone");
    assert!(stage.gate.is_idle());
}

#[test]
fn who_waits_at_a_pool_that_goes_is_answered() {
    let mut stage = stage(1, "", "requests = 1");
    stage.arrive(1, get());
    stage.arrive(2, get());
    let mut out = Vec::new();
    stage.configure(Config::parse("[gateway]").unwrap(), &mut out);
    stage.gate.assert_invariants();
    assert_eq!(short(&out), "answer 2 503 NoUpstream");
}

#[test]
fn the_last_upstream_that_is_well_by_probes_is_not_ejected() {
    let rule =
        "health.kind = 'tcp'\neject.failure-rate = false\nbreaker.consecutive = 0\nbreaker.failures = '0%'\n";
    let mut stage = stage(3, "", rule);
    let health = |up: bool, at: u32| Input::Health { pool: PoolId(0), upstream: UpstreamId(at), up };
    stage.tell(health(true, 2));
    stage.tell(health(false, 0));
    stage.tell(health(false, 1));
    let fail = |stage: &mut Stage, from: u64| {
        let mut said = String::new();
        for id in from..from + 30 {
            stage.arrive(id, get());
            stage.connected(id, 1);
            said += &stage.replied(id, 1, 500);
            stage.done(id);
        }
        said
    };
    let said = fail(&mut stage, 1);
    assert!(!said.contains("Ejected"), "two are away already, and nobody is left: {said}");
    assert_eq!(stage.gate.upstream(PoolId(0), UpstreamId(2)), Some((0, true)));
    stage.tell(health(true, 0));
    stage.tell(health(true, 1));
    let said = fail(&mut stage, 100);
    assert!(said.contains("Ejected"), "{said}");
}

#[test]
fn an_upstream_that_refuses_a_client_which_asks_too_much_is_not_ejected() {
    let mut stage = stage(2, "", "");
    for id in 1..100 {
        stage.arrive(id, get());
        stage.connected(id, 1);
        let said = stage.replied(id, 1, 429);
        assert_eq!(said, format!("forward {id}.1"));
        stage.done(id);
    }
    assert_eq!(stage.gate.stats().ejected, 0);
}

#[test]
fn a_body_that_its_client_sends_slowly_says_nothing_of_the_upstream() {
    let mut stage = stage(2, "timeout.request = '1s'\ntimeout.total = '10s'", "breaker.consecutive = 1");
    let upload = || Arrival { sends_body: true, ..post() };
    stage.arrive(1, upload());
    stage.connected(1, 1);
    let began = stage.now;
    assert_eq!(stage.wait_for_word(), "abandon 1.1, answer 1 408 BodyLate");
    assert_eq!((stage.now.since(began), stage.ran), (Micros::from_secs(10), Some(true)));
    assert_eq!(stage.gate.stats().breakers_opened, 0);
    stage.arrive(2, upload());
    stage.connected(2, 1);
    stage.now = stage.now.plus(Micros::from_secs(5));
    assert_eq!(stage.tell(Input::Sent { request: RequestId(2), attempt: 1 }), "");
    let sent = stage.now;
    let said = stage.wait_for_word();
    assert!(said.ends_with("answer 2 504 Failed(Timeout, MayHaveRun)"), "{said}");
    assert_eq!(
        stage.now.since(sent),
        Micros::from_secs(1),
        "the upstream's time begins at the end of the body"
    );
    assert_eq!(stage.gate.stats().breakers_opened, 1);
    stage.arrive(3, upload());
    stage.connected(3, 1);
    stage.now = stage.now.plus(Micros::from_secs(5));
    assert_eq!(stage.replied(3, 1, 413), "forward 3.1", "it need not have read all");
    assert_eq!(stage.tell(Input::Sent { request: RequestId(3), attempt: 1 }), "");
    assert_eq!(stage.done(3), "");
    assert!(stage.gate.is_idle());
}

#[test]
fn what_a_client_takes_for_its_body_is_no_latency() {
    let mut stage = stage(2, "", "eject.latency-factor = 3\neject.requests = 5");
    for id in 1..=200 {
        let sends_body = id % 2 == 0;
        let at = upstream_of(&stage.arrive(id, Arrival { sends_body, ..post() }));
        stage.connected(id, 1);
        if sends_body {
            stage.now = stage.now.plus(Micros::from_millis(u64::from(at) * 40));
            stage.tell(Input::Sent { request: RequestId(id), attempt: 1 });
        }
        stage.now = stage.now.plus(Micros::from_millis(1));
        assert_eq!(stage.replied(id, 1, 200), format!("forward {id}.1"));
        stage.done(id);
    }
    assert_eq!(stage.gate.stats().ejected, 0);
}

#[test]
fn more_requests_than_connections_wait_and_say_nothing_of_the_upstream() {
    let mut stage = stage(1, "", "connections = 2\nbreaker.consecutive = 1");
    for id in 1..=2 {
        assert_eq!(stage.arrive(id, get()), format!("try {id}.1 @0"));
        stage.connected(id, 1);
    }
    assert_eq!(stage.arrive(3, get()), "", "it waits in the queue");
    assert_eq!(stage.wait_for_word(), "answer 3 503 QueueLate");
    assert_eq!(stage.arrive(4, get()), "");
    assert_eq!(stage.replied(1, 1, 200) + &stage.done(1), "forward 1.1try 4.1 @0");
    // The upstream's connections are fewer than they seem, for one still ends.
    let waits = |attempt| Input::Waits { request: RequestId(4), attempt };
    assert_eq!(stage.tell(waits(1)), "");
    let began = stage.now;
    assert_eq!(stage.wait_for_word(), "abandon 4.1, answer 4 503 QueueLate");
    assert_eq!((stage.now.since(began), stage.ran), (Micros::from_secs(1), Some(false)));
    assert_eq!(stage.gate.stats().breakers_opened, 0);
    assert_eq!(stage.arrive(5, get()), "try 5.1 @0");
    let (request, attempt) = (RequestId(5), 1);
    stage.tell(Input::Waits { request, attempt });
    stage.now = stage.now.plus(Micros::from_millis(900));
    stage.tell(Input::Connects { request, attempt });
    let began = stage.now;
    let said = stage.wait_for_word();
    assert!(said.starts_with("abandon 5.1") && said.contains("UpstreamBreaker"), "{said}");
    assert_eq!(stage.now.since(began), Micros::from_secs(1), "then it was the upstream");
}

#[test]
fn replies_that_break_off_count_as_failures_in_a_row() {
    let breaking = "breaker.consecutive = 3\nbreaker.requests = 1000\neject = false";
    let ejecting = "eject.consecutive = 3\neject.failure-rate = false\nbreaker = false";
    for (route, pool, word) in [
        ("", breaking, "UpstreamBreaker"),
        ("", ejecting, "Ejected"),
        ("breaker.consecutive = 3", "eject = false\nbreaker = false", "RouteBreaker"),
    ] {
        // Two, of which the second is always well, and asked in turn.
        let mut stage = stage(2, route, pool);
        let (mut said, mut broken) = (String::new(), 0);
        for id in 1.. {
            let tried = stage.arrive(id, get());
            stage.connected(id, 1);
            assert!(stage.replied(id, 1, 200).ends_with(&format!("forward {id}.1")));
            if upstream_of(&tried) == 1 && word != "RouteBreaker" {
                stage.done(id);
                continue;
            }
            broken += 1;
            said += &stage.failed(id, 1, Failure::Reset);
            if said.contains(word) {
                break;
            }
            assert!(broken < 3, "{word}");
        }
        assert_eq!(broken, 3, "{said}");
    }
}

#[test]
fn who_arrives_with_numbers_of_another_configuration_comes_again() {
    let mut stage = stage(1, "", "");
    let of = stage.gate.generation();
    stage.configure(Config::parse("[gateway]").unwrap(), &mut Vec::new());
    let (request, arrival) = (RequestId(1), Arrival { of, ..get() });
    assert_eq!(stage.tell(Input::Arrived { request, arrival }), "answer 1 503 Changed");
    assert!(stage.gate.is_idle());
    assert_eq!((stage.gate.stats().arrived, stage.gate.stats().answered), (1, 1));
}

#[test]
fn what_no_route_is_for_is_tried_elsewhere_only_if_it_was_not_sent() {
    let mut stage = stage(3, "retry.budget = '0%'\nretry.budget-min = 0", "");
    let stream = || Arrival { route: None, ..post() };
    assert_eq!(stage.arrive(1, stream()), "try 1.1 @0");
    assert_eq!(stage.failed(1, 1, Failure::NotSent), "");
    assert_eq!(stage.wait_for_word(), "try 1.2 @1", "without a budget");
    stage.connected(1, 2);
    assert_eq!(stage.replied(1, 2, 200), "forward 1.2");
    assert_eq!(stage.done(1), "");
    assert_eq!(stage.arrive(2, stream()), "try 2.1 @2");
    stage.connected(2, 1);
    assert_eq!(stage.failed(2, 1, Failure::Reset), "answer 2 502 Failed(Reset, MayHaveRun)");
    stage.configure(Config::parse(&text(3, "", "")).unwrap(), &mut Vec::new());
    assert!(stage.gate.is_idle());
}

#[test]
fn whether_a_request_may_have_run_is_told_with_its_end() {
    let mut stage = stage(3, "retry.not-run = 429", "");
    // No upstream took it.
    stage.arrive(1, post());
    for attempt in 1..=3 {
        let mut said = stage.failed(1, attempt, Failure::NotSent);
        while said.is_empty() {
            said = stage.wait();
        }
    }
    assert_eq!(stage.ran, Some(false));
    // It was sent, and the connection broke.
    stage.arrive(2, post());
    stage.connected(2, 1);
    assert_eq!(stage.failed(2, 1, Failure::Reset), "answer 2 502 Failed(Reset, MayHaveRun)");
    assert_eq!(stage.ran, Some(true));
    // It was sent, and no answer came in time.
    stage.arrive(3, post());
    stage.connected(3, 1);
    stage.wait_for_word();
    assert_eq!(stage.ran, Some(true));
    // The upstream answered, and did not say that it did nothing; or did.
    for (id, status, ran) in [(4, 200, true), (5, 503, true), (6, 429, false)] {
        stage.arrive(id, Arrival { nested: true, ..post() });
        stage.connected(id, 1);
        assert_eq!(stage.replied(id, 1, status), format!("forward {id}.1"));
        assert_eq!(stage.ran, Some(ran), "{status}");
    }
}

#[test]
fn who_waits_at_a_bulkhead_that_is_taken_away_is_let_in() {
    let queue = "queue = { time = '10s', standing = '10s' }";
    let mut stage = stage(3, &format!("bulkhead = {{ requests = 1, {queue} }}"), "");
    assert_eq!(stage.arrive(1, get()).len(), "try 1.1 @0".len());
    assert_eq!(stage.arrive(2, get()) + &stage.arrive(3, get()), "");
    stage.now = stage.now.plus(Micros::from_secs(5));
    let mut out = Vec::new();
    stage.configure(Config::parse(&text(3, "", "")).unwrap(), &mut out);
    stage.gate.assert_invariants();
    let said = short(&out);
    assert!(said.starts_with("try 2.1 @") && said.contains(", try 3.1 @"), "{said}");
}

#[test]
fn streams_that_break_when_their_heads_are_forgotten_do_no_harm() {
    let rule = "eject = { consecutive = 0, failure-rate = false, latency-factor = 3, requests = 20 }\nbreaker = false";
    let mut stage = stage(2, "", rule);
    let forward = |stage: &mut Stage, ids: std::ops::Range<u64>| {
        let of = |id| {
            let at = upstream_of(&stage.arrive(id, get()));
            stage.connected(id, 1);
            stage.replied(id, 1, 200);
            (id, at)
        };
        ids.map(of).collect::<Vec<_>>()
    };
    let old = forward(&mut stage, 0..200);
    stage.now = stage.now.plus(Micros::from_secs(30));
    forward(&mut stage, 200..280);
    for (id, _) in old.into_iter().filter(|(_, at)| *at == 0) {
        stage.now = stage.now.plus(ms(20));
        assert_eq!(stage.failed(id, 1, Failure::Reset), "");
    }
}
