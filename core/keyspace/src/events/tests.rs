use skep_resp::Protocol;

use super::{Channel, Class, Event, Misses, Whole};
use crate::commands::testing::Bench;
use crate::context::{ReadCx, WriteCx};
use crate::small::SmallBytes;

/// A bench whose keyspace records.
fn recording() -> Bench {
    let mut bench = Bench::new();
    bench.keyspace.events.record(true);
    bench
}

#[test]
fn commands_on_strings_tell_what_those_of_redis_do() {
    recording().event_script(include_str!("testdata/strings.txt"));
}

#[test]
fn commands_on_keys_of_any_type_tell_what_those_of_redis_do() {
    recording().event_script(include_str!("testdata/keys.txt"));
}

#[test]
fn commands_on_lists_tell_what_those_of_redis_do() {
    recording().event_script(include_str!("testdata/lists.txt"));
}

#[test]
fn commands_on_hashes_tell_what_those_of_redis_do() {
    recording().event_script(include_str!("testdata/hashes.txt"));
}

#[test]
fn commands_on_sets_tell_what_those_of_redis_do() {
    recording().event_script(include_str!("testdata/sets.txt"));
}

#[test]
fn commands_on_sorted_sets_tell_what_those_of_redis_do() {
    recording().event_script(include_str!("testdata/zsets.txt"));
}

#[test]
fn commands_on_bitmaps_and_counters_tell_what_those_of_redis_do() {
    recording().event_script(include_str!("testdata/bytes.txt"));
}

#[test]
fn commands_on_streams_tell_what_those_of_redis_do() {
    recording().event_script(include_str!("testdata/streams.txt"));
}

#[test]
fn commands_that_look_for_keys_in_vain_tell_what_those_of_redis_do() {
    let mut bench = recording();
    bench.keyspace.events.want_misses(true);
    bench.event_script(include_str!("testdata/misses.txt"));
}

#[test]
fn what_a_read_has_missed_is_told_by_who_runs_it_and_what_the_log_misses_by_each_replica() {
    let mut bench = recording();
    assert_eq!(bench.events_of("GET a"), "", "nobody wants to hear of it");
    bench.keyspace.events.want_misses(true);
    let missed = Event::Missed { db: 0, key: SmallBytes::new(b"a") };
    bench.run("GET a");
    bench.run("SET b 1");
    assert_eq!(bench.keyspace.events.take_missed(), std::slice::from_ref(&missed));
    assert_eq!(bench.events(), "new b, set b", "the others stay");
    bench.keyspace.events.set_misses(Misses::OfLog);
    bench.run("GETDEL a");
    assert!(bench.keyspace.events.take_missed().is_empty());
    let (class, name, key) = (Class::Miss, "keymiss", SmallBytes::new(b"a"));
    assert_eq!(bench.keyspace.events.take(), [Event::Key { db: 0, class, name, key }]);
    bench.keyspace.events.set_misses(Misses::Untold);
    assert_eq!(bench.events_of("GET a"), "");
    // Not recorded: what the log misses is nobody's affair, what a read misses waits to be taken.
    bench.keyspace.events.set_misses(Misses::OfLog);
    bench.keyspace.events.record(false);
    assert_eq!(bench.events_of("GETDEL a"), "");
    bench.keyspace.events.set_misses(Misses::OfRead);
    bench.run("GET a");
    bench.keyspace.events.record(false);
    assert_eq!(bench.keyspace.events.take(), [missed]);
}

#[test]
fn a_read_that_will_run_again_since_it_met_what_is_due_has_missed_nothing_yet() {
    let mut bench = recording();
    bench.keyspace.events.want_misses(true);
    bench.run("SET due 1 PX 10");
    bench.events();
    let handlers: std::collections::BTreeMap<_, _> = crate::dispatch::handlers().collect();
    let read = |keys: &[&str], ms: u64| {
        let args =
            skep_base::args::OwnedArgs::collect(["MGET"].iter().chain(keys).map(|word| word.as_bytes()));
        let (keyspace, mut rng, mut out) = (&bench.keyspace, skep_base::Rng::new(1), Vec::new());
        let mut cx = ReadCx { keyspace, db: 0, now: keyspace.stamp().plus(ms), rng: &mut rng };
        handlers["mget"].read(&mut cx, args.args(), &mut skep_resp::Reply::new(&mut out, Protocol::Resp2));
        keyspace.take_saw_due()
    };
    assert!(!read(&["a", "due"], 5));
    assert!(read(&["b", "due", "c"], 20));
    assert!(!read(&["d"], 20));
    assert_eq!(bench.events(), "keymiss a, keymiss d");
}

#[test]
fn only_reads_count_hits_and_misses() {
    let mut bench = Bench::new();
    for line in
        ["SET a 1", "INCR a", "INCR b", "APPEND c x", "LPOP none", "GET a", "GETDEL none", "EXISTS a none"]
    {
        bench.run(line);
    }
    let access = &bench.keyspace.access;
    assert_eq!((access.hits(), access.misses()), (2, 2));
}

#[test]
fn queues_tell_what_workers_do_and_what_happens_by_itself() {
    recording().event_script(include_str!("testdata/queues.txt"));
}

#[test]
fn a_key_past_its_deadline_expires_once_whoever_meets_it_first() {
    recording().event_script(include_str!("testdata/expired.txt"));
}

#[test]
fn an_eviction_is_told_as_such() {
    let mut bench = recording();
    bench.run("SET a 1");
    bench.run("SET b 1 PX 10");
    bench.events();
    bench.pass(11);
    assert!(bench.keyspace.evict(0, b"a"));
    assert!(!bench.keyspace.evict(0, b"a"));
    assert!(!bench.keyspace.evict(0, b"b"));
    assert_eq!(bench.events(), "evicted a, expired b");
}

#[test]
fn an_event_has_its_database_and_class() {
    let mut bench = recording();
    bench.db = 3;
    bench.run("SETEX k 10 v");
    let event = |class, name| Event::Key { db: 3, class, name, key: SmallBytes::new(b"k") };
    let expected = [event(Class::New, "new"), event(Class::String, "set"), event(Class::Generic, "expire")];
    assert_eq!(bench.keyspace.events.take(), expected);
    bench.run("FLUSHDB");
    bench.run("SWAPDB 1 2");
    let database = |db, why| Event::Database { db, why };
    let expected = [database(3, Whole::Flushed), database(1, Whole::Swapped), database(2, Whole::Swapped)];
    assert_eq!(bench.keyspace.events.take(), expected);
}

#[test]
fn nothing_is_recorded_unless_wanted_but_messages() {
    let mut bench = Bench::new();
    assert_eq!(bench.events_of("SET a 1"), "");
    bench.keyspace.events.record(true);
    bench.run("SET b 1");
    let publish = |bench: &mut Bench| {
        let (now, mut rng) = (bench.keyspace.stamp(), skep_base::Rng::new(1));
        let mut cx = WriteCx { keyspace: &mut bench.keyspace, db: 0, now, rng: &mut rng };
        cx.publish(Channel::Plain, b"c", b"m");
    };
    publish(&mut bench);
    bench.keyspace.events.record(false);
    publish(&mut bench);
    bench.run("SET c 1");
    let message = Event::Published { kind: Channel::Plain, channel: (*b"c").into(), message: (*b"m").into() };
    assert_eq!(bench.keyspace.events.take(), [message.clone(), message]);
    assert!(!bench.keyspace.events.has_any());
}

#[test]
fn recording_changes_no_state() {
    let mut benches = [Bench::new(), recording()];
    for bench in &mut benches {
        for line in ["SET a 1 PX 5", "RPUSH l a b", "LMOVE l m LEFT RIGHT", "RENAME m l", "INCR a"] {
            bench.run(line);
        }
        bench.pass(10);
        bench.keyspace.sweep(1_000);
    }
    assert_eq!(benches[0].keyspace.digest(), benches[1].keyspace.digest());
}
