use super::{Channel, Class, Event, Whole};
use crate::commands::testing::Bench;
use crate::context::WriteCx;
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
