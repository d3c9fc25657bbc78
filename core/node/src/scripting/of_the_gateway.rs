//! The scripts by which the gateway keeps idempotency keys and rates, run by the node itself, over a connection from inside.

use skep_base::{ConnId, Micros};
use skep_gate::config::idempotency::{Idempotency, Unknown};
use skep_gate::config::protect::Limit;
use skep_gate::idempotency::{Answer, Attempt, Input, Kept, Output, Owner, Ran, Refusal, Told, record_key};
use skep_gate::protect::bucket;
use skep_gate::protect::share::{Ask, Bucket, Grant};

use crate::testing::World;

/// The whole reply to a command, in RESP3.
fn call(world: &mut World, conn: ConnId, words: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    skep_resp::write_command(&mut bytes, words.iter().map(Vec::as_slice));
    world.receive(conn, bytes);
    world.settle();
    let reply = world.node.unsent(conn).to_vec();
    assert!(!world.node.on_sent(conn, reply.len()));
    reply
}

/// Goes on with an attempt until it needs something else than the store.
fn settle(world: &mut World, conn: ConnId, attempt: &mut Attempt, mut output: Output) -> Output {
    let key = record_key("pay", &Owner { parts: vec![b"ann".to_vec()], is_known: true }, b"key 1");
    while let Output::Ask { ask, .. } = &output {
        let reply = call(world, conn, &ask.words(&key));
        let told = Told::of(&reply);
        assert_ne!(told, Told::NotDone, "{}", String::from_utf8_lossy(&reply));
        output = attempt.handle(Micros(0), Input::Stored(told));
    }
    output
}

fn begin(world: &mut World, conn: ConnId, number: u8, rules: &Idempotency) -> (Attempt, Output) {
    let deadline = Micros::from_secs(30);
    let (mut attempt, output) = Attempt::new(Micros(0), rules.clone(), [1; 32], [number; 16], deadline);
    let output = settle(world, conn, &mut attempt, output);
    (attempt, output)
}

fn reply() -> Kept {
    Kept { status: 201, headers: vec![(b"location".to_vec(), b"/1".to_vec())], body: b"\r\n\0made".to_vec() }
}

#[test]
fn a_key_is_claimed_once_and_its_reply_is_given_again() {
    let mut world = World::new(&[]);
    let conn = world.node.welcome_inside();
    let rules = Idempotency::default();
    let (mut first, output) = begin(&mut world, conn, 1, &rules);
    assert_eq!(output, Output::Run);
    let (mut second, output) = begin(&mut world, conn, 2, &rules);
    assert!(matches!(output, Output::Wait(_)), "{output:?}");
    // A claim whose answer was lost finds itself.
    assert_eq!(begin(&mut world, conn, 1, &rules).1, Output::Run);

    let output = first.handle(Micros(1), Input::Ran(&Ran::Replied(reply())));
    assert_eq!(settle(&mut world, conn, &mut first, output), Output::Answer(Answer::Own));
    let output = second.handle(Micros(2), Input::Tick);
    let output = settle(&mut world, conn, &mut second, output);
    assert_eq!(output, Output::Answer(Answer::Replay(reply())));
    assert_eq!(begin(&mut world, conn, 3, &rules).1, Output::Answer(Answer::Replay(reply())));
    // After its retention the key is free.
    world.advance(rules.retention.0 / 1_000 + 1);
    assert_eq!(begin(&mut world, conn, 4, &rules).1, Output::Run);
}

#[test]
fn a_key_that_did_nothing_is_free_and_one_of_a_dead_gateway_is_unknown_or_taken_over() {
    let mut world = World::new(&[]);
    let conn = world.node.welcome_inside();
    let rules = Idempotency::default();
    let (mut first, _) = begin(&mut world, conn, 1, &rules);
    let output = first.handle(Micros(1), Input::Ran(&Ran::NotRun));
    assert_eq!(settle(&mut world, conn, &mut first, output), Output::Answer(Answer::Own));
    let (mut dead, output) = begin(&mut world, conn, 2, &rules);
    assert_eq!(output, Output::Run);
    world.advance(45_001);
    let (_, output) = begin(&mut world, conn, 3, &rules);
    assert_eq!(output, Output::Answer(Answer::Refuse(Refusal::Unknown)));
    let repeats = Idempotency { unknown: Unknown::Repeat, ..rules };
    let (mut fourth, output) = begin(&mut world, conn, 4, &repeats);
    assert_eq!(output, Output::Run);
    let late = dead.handle(Micros(1), Input::Ran(&Ran::Replied(reply())));
    let late = settle(&mut world, conn, &mut dead, late);
    assert_eq!(late, Output::Answer(Answer::Refuse(Refusal::NotKept)));
    let output = fourth.handle(Micros(1), Input::Ran(&Ran::Long));
    assert_eq!(settle(&mut world, conn, &mut fourth, output), Output::Answer(Answer::Own));
    let (_, output) = begin(&mut world, conn, 5, &repeats);
    assert_eq!(output, Output::Answer(Answer::Refuse(Refusal::Long)));
}

#[test]
fn the_stores_bucket_grants_what_the_model_does() {
    let mut world = World::new(&[]);
    let conn = world.node.welcome_inside();
    for (at, (requests, per_ms, burst)) in
        [(100, 1_000, 100), (7, 60_000, 3), (1_000, 100, 5_000)].into_iter().enumerate()
    {
        let limit = Limit { requests, per: Micros::from_millis(per_ms), burst, ..Limit::default() };
        let key = bucket::key(&format!("limit {at}"), b"10.0.0.1");
        let per_second = f64::from(requests) / limit.per.secs();
        let mut model = Bucket::new(Micros::from_millis(world.now.wall.0), burst);
        let mut granted = [0, 0];
        for turn in 0..60_u32 {
            let ask = Ask { want: 1 + turn * 7 % 23, back: turn % 3 };
            let reply = call(&mut world, conn, &bucket::words(&key, &limit, ask));
            let Some(grant) = bucket::grant(&reply) else { panic!("{}", String::from_utf8_lossy(&reply)) };
            let wanted: Grant = model.grant(Micros::from_millis(world.now.wall.0), per_second, burst, ask);
            granted = [granted[0] + grant.granted, granted[1] + wanted.granted];
            // The script cuts millionths, the model rounds them.
            assert!(granted[0].abs_diff(granted[1]) <= 1, "{turn}: {grant:?}, {wanted:?}");
            world.advance(u64::from(turn * 13 % 190));
        }
        assert!(granted[0] > 0);
    }
}
