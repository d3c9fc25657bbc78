//! Attempts against a store that obeys the scripts' rules, loses answers, declines and is asked by many at once.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use skep_base::{Micros, Rng};

use super::*;
use crate::auth::Rules;
use crate::config::Config;
use crate::config::idempotency::{Duplicate, Idempotency, Unknown};
use crate::names::AuthId;
use crate::router::Headers;

const DEADLINE: Micros = Micros::from_secs(30);

/// The store's side, as the scripts have it. `tests/gateway` runs the scripts themselves.
#[derive(Default)]
struct Store {
    record: Option<Vec<u8>>,
    now_ms: u64,
}

impl Store {
    fn tell(&mut self, ask: &Ask) -> Told {
        let known = |bytes: &Vec<u8>, now_ms| Told::Known { bytes: bytes.clone(), now_ms };
        let with_deadline =
            |begun: &[u8], lease: u64| [begun, (self.now_ms + lease).to_string().as_bytes()].concat();
        let is_own = |begun: &Vec<u8>| self.record.as_ref().is_some_and(|record| record.starts_with(begun));
        match ask {
            Ask::Claim { begun, lease_ms, .. } => match &self.record {
                Some(record) => known(record, self.now_ms),
                None => {
                    self.record = Some(with_deadline(begun, *lease_ms));
                    Told::Yes
                }
            },
            Ask::Look => self.record.as_ref().map_or(Told::Yes, |record| known(record, self.now_ms)),
            Ask::TakeOver { begun, .. } if is_own(begun) => Told::Yes,
            Ask::TakeOver { begun, lease_ms, known, .. } => match self.record.as_ref() == Some(known) {
                true => {
                    self.record = Some(with_deadline(begun, *lease_ms));
                    Told::Yes
                }
                false => Told::No,
            },
            Ask::Keep { record, .. } if self.record.as_ref() == Some(record) => Told::Yes,
            Ask::Keep { begun, record, .. } if is_own(begun) => {
                self.record = Some(record.clone());
                Told::Yes
            }
            Ask::Keep { .. } => Told::No,
            Ask::Release { begun } => {
                if is_own(begun) {
                    self.record = None;
                }
                Told::Yes
            }
        }
    }
}

fn start(number: u8, rules: &Idempotency) -> (Attempt, Output) {
    Attempt::new(Micros(0), rules.clone(), [1; 32], [number; 16], DEADLINE)
}

fn reply(status: u16) -> Ran {
    Ran::Replied(Kept { status, headers: Vec::new(), body: b"done".to_vec() })
}

/// Asks the store until something else is to be done.
fn settle(attempt: &mut Attempt, store: &mut Store, now: Micros, mut output: Output) -> Output {
    while let Output::Ask { ask, .. } = output {
        output = attempt.handle(now, Input::Stored(store.tell(&ask)));
    }
    output
}

/// Carries a first request out, and gives what its client and the next one with the same key get.
fn twice(rules: &Idempotency, ran: &Ran) -> (Output, Output, Store) {
    let mut store = Store::default();
    let (mut first, output) = start(1, rules);
    assert_eq!(settle(&mut first, &mut store, Micros(0), output), Output::Run);
    assert!(store.record.is_some(), "it is recorded before the upstream is called");
    let output = first.handle(Micros(9), Input::Ran(ran));
    assert!(matches!(output, Output::Ask { .. }), "the reply is durable before the client has it");
    let own = settle(&mut first, &mut store, Micros(9), output);
    let (mut second, output) = start(2, rules);
    let next = settle(&mut second, &mut store, Micros(10), output);
    (own, next, store)
}

#[test]
fn what_a_repeat_gets_follows_from_what_became_of_the_first() {
    let refuse = |refusal| Output::Answer(Answer::Refuse(refusal));
    let rules = Idempotency::default();
    let kept = |status| Kept { status, headers: Vec::new(), body: b"done".to_vec() };
    for (ran, next) in [
        (reply(201), Output::Answer(Answer::Replay(kept(201)))),
        (reply(404), Output::Answer(Answer::Replay(kept(404)))),
        (reply(500), Output::Answer(Answer::Replay(kept(500)))),
        (reply(429), Output::Run),
        (Ran::NotRun, Output::Run),
        (Ran::Long, refuse(Refusal::Long)),
        (Ran::Unknown, refuse(Refusal::Unknown)),
    ] {
        let (own, told, _) = twice(&rules, &ran);
        assert_eq!(own, Output::Answer(Answer::Own), "{ran:?}");
        assert_eq!(told, next, "{ran:?}");
    }
    let repeats = Idempotency { unknown: Unknown::Repeat, ..rules };
    assert_eq!(twice(&repeats, &Ran::Unknown).1, Output::Run);
}

#[test]
fn another_request_with_the_key_is_refused() {
    let rules = Idempotency::default();
    let (_, _, mut store) = twice(&rules, &reply(200));
    let (mut other, output) = Attempt::new(Micros(0), rules, [2; 32], [3; 16], DEADLINE);
    let output = settle(&mut other, &mut store, Micros(0), output);
    assert_eq!(output, Output::Answer(Answer::Refuse(Refusal::OtherRequest)));
    assert_eq!(Refusal::OtherRequest.status(), 422);
}

#[test]
fn a_duplicate_waits_for_the_first_or_is_refused_at_once() {
    let mut store = Store::default();
    let rules = Idempotency::default();
    let (mut first, output) = start(1, &rules);
    settle(&mut first, &mut store, Micros(0), output);
    let (mut second, output) = start(2, &rules);
    let Output::Wait(at) = settle(&mut second, &mut store, Micros(0), output) else { panic!("it waits") };
    let output = first.handle(Micros(1), Input::Ran(&reply(200)));
    settle(&mut first, &mut store, Micros(1), output);
    let output = second.handle(at, Input::Tick);
    assert!(matches!(settle(&mut second, &mut store, at, output), Output::Answer(Answer::Replay(_))));

    let mut store = Store::default();
    let hasty = Idempotency { duplicate: Duplicate::Conflict, ..rules };
    let (mut first, output) = start(1, &hasty);
    settle(&mut first, &mut store, Micros(0), output);
    let (mut second, output) = start(2, &hasty);
    let output = settle(&mut second, &mut store, Micros(0), output);
    assert_eq!(output, Output::Answer(Answer::Refuse(Refusal::UnderWay)));
}

#[test]
fn a_duplicate_waits_no_longer_than_its_client() {
    let (mut store, rules) = (Store::default(), Idempotency::default());
    let (mut first, output) = start(1, &rules);
    settle(&mut first, &mut store, Micros(0), output);
    let (mut second, output) = start(2, &rules);
    let mut output = settle(&mut second, &mut store, Micros(0), output);
    let mut looks = 0;
    let refused = loop {
        match output {
            Output::Wait(at) => {
                assert!(at <= DEADLINE);
                looks += 1;
                output = second.handle(at, Input::Tick);
                output = settle(&mut second, &mut store, at, output);
            }
            other => break other,
        }
    };
    assert_eq!(refused, Output::Answer(Answer::Refuse(Refusal::UnderWay)));
    assert!((50..100).contains(&looks), "{looks} looks in 30 s");
}

#[test]
fn an_attempt_whose_gateway_died_is_told_or_taken_over_by_one() {
    for unknown in [Unknown::Refuse, Unknown::Repeat] {
        let rules = Idempotency { unknown, ..Idempotency::default() };
        let mut store = Store::default();
        let (mut dead, output) = start(1, &rules);
        assert_eq!(settle(&mut dead, &mut store, Micros(0), output), Output::Run);
        store.now_ms = DEADLINE.0 / 1_000 + 14_999;
        let (mut second, output) = start(2, &rules);
        assert!(
            matches!(settle(&mut second, &mut store, Micros(0), output), Output::Wait(_)),
            "its lease holds"
        );
        store.now_ms += 1;
        let (mut third, mut fourth) = (start(3, &rules), start(4, &rules));
        let told = [&mut third, &mut fourth].map(|(attempt, output)| {
            // Both have seen the old record before either takes it over.
            let Output::Ask { ask, .. } = output else { panic!("it asks") };
            attempt.handle(Micros(0), Input::Stored(store.tell(ask)))
        });
        match unknown {
            Unknown::Refuse => {
                assert!(told.iter().all(|told| *told == Output::Answer(Answer::Refuse(Refusal::Unknown))));
            }
            Unknown::Repeat => {
                let [first, second] = told;
                assert_eq!(settle(&mut third.0, &mut store, Micros(0), first), Output::Run);
                assert!(matches!(settle(&mut fourth.0, &mut store, Micros(0), second), Output::Wait(_)));
                // Should the dead one be only slow, its reply is not kept beside the other's.
                let output = dead.handle(Micros(9), Input::Ran(&reply(200)));
                let output = settle(&mut dead, &mut store, Micros(9), output);
                assert_eq!(output, Output::Answer(Answer::Refuse(Refusal::NotKept)));
            }
        }
    }
}

/// Goes on with a store that says nothing but this, until the attempt has an answer.
fn starve(attempt: &mut Attempt, mut output: Output, mut now: Micros, told: &Told) -> (Answer, Micros) {
    loop {
        output = match output {
            Output::Ask { until, .. } => {
                // Of an answer that does not come it knows when it has waited for it.
                now = if *told == Told::Unsure { now.max(until) } else { now };
                attempt.handle(now, Input::Stored(told.clone()))
            }
            Output::Wait(at) => {
                now = at;
                attempt.handle(now, Input::Tick)
            }
            Output::Answer(answer) => return (answer, now),
            other => panic!("{other:?}"),
        };
    }
}

#[test]
fn without_the_store_nothing_is_carried_out_and_the_client_learns_it_soon() {
    for told in [Told::NotDone, Told::Unsure] {
        let (mut attempt, output) = start(1, &Idempotency::default());
        let (answer, at) = starve(&mut attempt, output, Micros(0), &told);
        assert_eq!(answer, Answer::Refuse(Refusal::NoStore));
        assert_eq!(at, STORE_TIME);
        let after = attempt.handle(at, Input::Answered);
        match told {
            Told::NotDone => assert_eq!(after, Output::End),
            // Should the claim be made after all, it is taken back, and the key is free.
            _ => {
                let mut store = Store::default();
                let (mut twin, claim) = start(1, &Idempotency::default());
                assert_eq!(settle(&mut twin, &mut store, Micros(0), claim), Output::Run);
                assert_eq!(settle(&mut attempt, &mut store, at, after), Output::End);
                assert_eq!(store.record, None);
            }
        }
    }
}

#[test]
fn a_duplicate_that_waits_is_refused_soon_if_the_store_goes_away() {
    let (mut store, rules) = (Store::default(), Idempotency::default());
    let (mut first, output) = start(1, &rules);
    settle(&mut first, &mut store, Micros(0), output);
    let (mut second, output) = start(2, &rules);
    let output = settle(&mut second, &mut store, Micros(0), output);
    let Output::Wait(at) = output else { panic!("it waits") };
    let (answer, end) = starve(&mut second, output, Micros(0), &Told::NotDone);
    assert_eq!(answer, Answer::Refuse(Refusal::NoStore));
    assert_eq!(end, at.plus(STORE_TIME));
    assert_eq!(second.handle(end, Input::Answered), Output::End);
}

#[test]
fn a_reply_that_the_store_takes_late_is_kept_behind_the_answer() {
    let (mut store, rules) = (Store::default(), Idempotency::default());
    let (mut first, output) = start(1, &rules);
    assert_eq!(settle(&mut first, &mut store, Micros(0), output), Output::Run);
    let output = first.handle(Micros(9), Input::Ran(&reply(201)));
    let (answer, at) = starve(&mut first, output, Micros(9), &Told::NotDone);
    assert_eq!(answer, Answer::Refuse(Refusal::NotKept));
    let after = first.handle(at, Input::Answered);
    let Output::Ask { .. } = after else { panic!("{after:?}") };
    let Output::Wait(at) = first.handle(at, Input::Stored(Told::NotDone)) else { panic!("it tries again") };
    let output = first.handle(at, Input::Tick);
    assert_eq!(settle(&mut first, &mut store, at, output), Output::End);
    let (mut second, output) = start(2, &rules);
    let output = settle(&mut second, &mut store, at, output);
    assert!(matches!(output, Output::Answer(Answer::Replay(Kept { status: 201, .. }))), "{output:?}");
}

#[test]
fn a_duplicate_whose_client_went_away_ends() {
    let (mut store, rules) = (Store::default(), Idempotency::default());
    let (mut first, output) = start(1, &rules);
    settle(&mut first, &mut store, Micros(0), output);
    assert!(!first.ends_with_client(), "what may run is carried to its end");
    let (mut second, output) = start(2, &rules);
    settle(&mut second, &mut store, Micros(0), output);
    assert!(second.ends_with_client());
    assert_eq!(second.handle(Micros(5), Input::Gone), Output::End);
}

/// Many requests with one key at gateways that die, against a store whose answers are lost or late. What the upstream saw is
/// counted: never two at a time, never one after a kept reply, and all replies are the same.
#[test]
fn whatever_is_lost_a_key_is_carried_out_once() {
    for seed in 0..2_000 {
        let mut rng = Rng::new(seed);
        let rules = Idempotency::default();
        let mut store = Store::default();
        let mut attempts: BTreeMap<u8, (Attempt, Output, Micros)> = BTreeMap::new();
        let (mut ran, mut kept, mut bodies) = (0, false, BTreeSet::new());
        let mut now = Micros(0);
        for number in 0..20 {
            let (attempt, output) = start(number, &rules);
            attempts.insert(number, (attempt, output, Micros(rng.below(50_000))));
        }
        while let Some((number, at)) = attempts
            .iter()
            .map(|(number, (_, _, at))| (*number, *at))
            .min_by_key(|(number, at)| (*at, *number))
        {
            now = now.max(at);
            store.now_ms = now.0 / 1_000;
            let (mut attempt, output, _) = attempts.remove(&number).expect("it was found");
            // A gateway dies; its request with it.
            if rng.below(60) == 0 {
                continue;
            }
            let next = match output {
                Output::Ask { ask, .. } => {
                    let told = match rng.below(10) {
                        0 => Told::NotDone,
                        1 => {
                            store.tell(&ask);
                            Told::Unsure
                        }
                        _ => store.tell(&ask),
                    };
                    attempt.handle(now, Input::Stored(told))
                }
                Output::Run => {
                    assert!(!kept, "seed {seed}: it ran after a reply was kept");
                    ran += 1;
                    let body = format!("{ran}").into_bytes();
                    kept = true;
                    let reply = Kept { status: 200, headers: Vec::new(), body };
                    attempt.handle(now, Input::Ran(&Ran::Replied(reply)))
                }
                // A client goes away.
                Output::Wait(_) if attempt.ends_with_client() && rng.below(20) == 0 => {
                    attempt.handle(now, Input::Gone)
                }
                Output::Wait(_) => attempt.handle(now, Input::Tick),
                Output::Answer(answer) => {
                    match answer {
                        Answer::Own => drop(bodies.insert(b"1".to_vec())),
                        Answer::Replay(kept) => drop(bodies.insert(kept.body)),
                        Answer::Refuse(_) => {}
                    }
                    attempt.handle(now, Input::Answered)
                }
                Output::End => continue,
            };
            let at = if let Output::Wait(at) = next { at } else { now.plus(Micros(rng.below(5_000))) };
            attempts.insert(number, (attempt, next, at));
        }
        assert!(ran <= 1, "seed {seed}: it ran {ran} times");
        assert!(bodies.len() <= 1, "seed {seed}: {bodies:?}");
    }
}

#[test]
fn a_key_is_one_header_of_printable_characters() {
    let values = |values: &[&'static str]| values.iter().map(|value| value.as_bytes()).collect::<Vec<_>>();
    assert_eq!(key(values(&[])), Ok(None));
    assert_eq!(key(values(&["8e03978e"])), Ok(Some(&b"8e03978e"[..])));
    assert_eq!(key(values(&[" \"8e03978e\" "])), Ok(Some(&b"8e03978e"[..])));
    assert_eq!(key(values(&["a", "a"])), Err(KeyError::Several));
    assert_eq!(key(values(&["\"\""])), Err(KeyError::Empty));
    assert_eq!(key(values(&["ä"])), Err(KeyError::Characters));
    let long = vec![b'a'; KEY_BYTES_MAX + 1];
    assert_eq!(key([&long[..]]), Err(KeyError::TooLong));
    assert_eq!(key([&long[1..]]), Ok(Some(&long[1..])));
}

#[test]
fn records_of_different_callers_routes_and_keys_do_not_meet() {
    let of =
        |parts: &[&[u8]]| Owner { parts: parts.iter().map(|part| part.to_vec()).collect(), is_known: true };
    let names = [
        record_key("a", &of(&[b"x"]), b"k"),
        record_key("b", &of(&[b"x"]), b"k"),
        record_key("a", &of(&[b"y"]), b"k"),
        record_key("a", &of(&[]), b"k"),
        record_key("a", &of(&[b"x"]), b"kx"),
        record_key("a", &of(&[b"", b"x"]), b"k"),
    ];
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
}

/// A request for `host` with header lines.
fn asking<'a>(host: &'a str, headers: &'a Lines) -> Head<'a> {
    let (source, caller) = ("10.0.0.1".parse().unwrap(), None);
    let (listener, secure, method, path, query) = (None, false, "POST", "/", None);
    Head { listener, secure, method, host, path, query, headers, source, caller }
}

#[test]
fn a_repeat_has_the_same_body_of_the_same_kind_and_the_cookies_of_who_is_not_known() {
    let known = |is_known| Owner { parts: Vec::new(), is_known };
    let print = |is_known, lines: &Lines, target: &[u8], body: &[u8]| {
        fingerprint(&known(is_known), &asking("h", lines), target, body)
    };
    let none = Lines(&[]);
    assert_ne!(print(true, &none, b"/a", b"b"), print(true, &none, b"/ab", b""));
    let (json, xml) = (Lines(&[("content-type", "a/json")]), Lines(&[("content-type", "a/xml")]));
    assert_ne!(print(true, &json, b"/", b"b"), print(true, &xml, b"/", b"b"));
    let packed = Lines(&[("content-encoding", "gzip")]);
    assert_ne!(print(true, &packed, b"/", b"b"), print(true, &none, b"/", b"b"));
    let (ann, bob) = (Lines(&[("cookie", "user=ann")]), Lines(&[("cookie", "user=bob")]));
    assert_ne!(print(false, &ann, b"/", b"b"), print(false, &bob, b"/", b"b"));
    assert_ne!(print(false, &ann, b"/", b"b"), print(false, &none, b"/", b"b"));
    assert_eq!(print(false, &ann, b"/", b"b"), print(false, &ann, b"/", b"b"));
    assert_eq!(
        print(true, &ann, b"/", b"b"),
        print(true, &bob, b"/", b"b"),
        "who is known may have new ones"
    );
    let one_line = Lines(&[("cookie", "a=1; user=ann")]);
    let lines = Lines(&[("cookie", "a=1"), ("cookie", "user=ann")]);
    assert_eq!(print(false, &one_line, b"/", b"b"), print(false, &lines, b"/", b"b"), "as HTTP/2 sends them");
}

#[test]
fn keys_are_of_one_host_and_of_what_tells_callers_apart() {
    let text = "[gateway.route.r]\npool = 'p'\nidempotency.by = ['X-Account', 'cookie:sid']\n[gateway.pool.p]\n\
                upstreams = ['a:1']\n";
    let config = crate::Config::parse(text).unwrap_or_else(|e| panic!("{e:#?}"));
    assert!(config.text().contains("by = [\"x-account\", \"cookie:sid\"]"), "{}", config.text());
    let rules = config.routes[0].it.idempotency.clone().unwrap();
    let of = |host: &str, lines| owner(&rules, true, None, &asking(host, &Lines(lines)));
    let ann = of("a.example", &[("x-account", "ann")]);
    assert!(ann.is_known);
    assert_eq!(
        of("A.example:8080", &[("x-account", "ann"), ("cookie", "ad=2")]),
        ann,
        "other cookies do not count"
    );
    assert_ne!(of("b.example", &[("x-account", "ann")]), ann, "another tenant");
    let anywhere = |host: &str| owner(&rules, false, None, &asking(host, &Lines(&[("x-account", "ann")])));
    assert_eq!(anywhere("10.0.0.1:8080"), anywhere("10.0.0.2:8080"), "one service at several nodes");
    assert_ne!(of("a.example", &[("x-account", "bob")]), ann);
    let sid = of("a.example", &[("cookie", "ad=1; sid=7")]);
    assert!(sid.is_known && sid != ann);
    assert_eq!(of("a.example", &[("cookie", "sid=7; ad=2")]), sid);
    assert_ne!(of("a.example", &[("cookie", "sid=8")]), sid);
    assert!(!of("a.example", &[("authorization", "x"), ("cookie", "ad=1")]).is_known);
    for nothing in [
        &[("x-account", "")][..],
        &[("x-account", ""), ("x-account", "")],
        &[("cookie", "sid="), ("cookie", "sid=\"\"")],
    ] {
        assert!(!of("a.example", nothing).is_known, "{nothing:?} tells nobody from others");
    }
    assert_eq!(of("a.example", &[("x-account", ""), ("x-account", "ann")]), ann);
    let by_all = crate::Config::parse(&text.replace("'cookie:sid'", "'cookie'")).unwrap();
    let by_all = by_all.routes[0].it.idempotency.clone().unwrap();
    let of_all = |lines| owner(&by_all, true, None, &asking("a.example", &Lines(lines)));
    let sid = of_all(&[("cookie", "ad=1; sid=7")]);
    assert_eq!(of_all(&[("cookie", "ad=1"), ("cookie", "sid=7")]), sid, "lines of HTTP/2 are one header");
    let wrong = crate::Config::parse(&text.replace("cookie:sid", "query:a")).unwrap_err();
    assert!(wrong[0].to_string().contains("cookie:NAME"), "{}", wrong[0]);
}

#[test]
fn a_key_belongs_to_the_caller_who_was_proved_and_to_no_header() {
    let jwt = "jwt = { jwks = 'http://a/keys', issuer = '*', audience = '*' }";
    let text = format!("[gateway.auth.app]\n{jwt}\n[gateway.auth.other]\n{jwt}\n");
    let rules = Rules::new(&Config::parse(&text).unwrap(), &[]).unwrap();
    let caller = |way, name: &str, until: u64| {
        rules.by_claims(AuthId(way), json!({ "sub": name, "exp": until }), 1).unwrap().0
    };
    let by_headers = Idempotency::default();
    let (none, ann) = (Lines(&[]), Lines(&[("authorization", "Bearer ann")]));
    let of = |caller: &Caller, headers: &Lines| owner(&by_headers, true, Some(caller), &asking("h", headers));
    let first = of(&caller(0, "ann", 100), &ann);
    assert_eq!(first, of(&caller(0, "ann", 200), &none), "a renewed token, shown elsewhere");
    assert_ne!(first, of(&caller(0, "bob", 100), &ann), "another caller with the same headers");
    assert_ne!(first, of(&caller(1, "ann", 100), &ann), "another way that knows the same name");
    // Where nobody is proved, the headers tell.
    let by = |headers: &Lines| owner(&by_headers, true, None, &asking("h", headers));
    assert_eq!(by(&ann).parts, [&b"h"[..], b"Bearer ann"]);
    assert!(first.is_known && by(&ann).is_known && !by(&none).is_known);
    let two = Lines(&[("authorization", "Bearer"), ("authorization", "ann")]);
    assert_ne!(by(&two), by(&Lines(&[("authorization", "Bearerann")])));
}

/// Header lines.
struct Lines(&'static [(&'static str, &'static str)]);

impl Headers for Lines {
    fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.0.iter().any(|(own, value)| *own == name && test(value.as_bytes()))
    }
}

#[test]
fn a_proof_in_the_query_is_no_part_of_what_a_repeat_must_have() {
    assert_eq!(target("/a", None, ["token"]), "/a?");
    assert_eq!(target("/a", Some("x=1&token=t&y=2&key=k"), ["token", "key"]), "/a?x=1&y=2");
    assert_eq!(target("/a", Some("token=t"), ["token"]), target("/a", None, []));
    assert_eq!(target("/a", Some("token=t"), []), "/a?token=t", "where it is no proof it counts");
}
