//! Payloads that are sealed as they should be, and would bring a shard to a place it could not come to by itself.

use skep_base::Millis;
use skep_base::args::OwnedArgs;

use super::*;
use crate::commands::testing::Bench;
use crate::small::SmallBytes;
use crate::types::queue::{Next, Options, RESTORED_MAX, SCHEDULES_MAX, Schedule, Settings, TEXT_BYTES_MAX};
use crate::types::stream::Group;
use crate::types::{Queue, Stream, StreamId};
use crate::value::Typed;

/// What becomes of a value that is dumped and restored.
fn again(value: impl Typed) -> Result<Value, Malformed> {
    load(verify(&dump(&value.into_value(), Millis(0))).expect("it was sealed"))
}

fn schedule(number: usize, cron_bytes: usize, zone_bytes: usize) -> Schedule {
    Schedule {
        name: SmallBytes::new(number.to_string().as_bytes()),
        cron: SmallBytes::new(&vec![b'x'; cron_bytes]),
        zone: SmallBytes::new(&vec![b'z'; zone_bytes]),
        payload: [].into(),
        priority: 5,
        options: Options::default().into(),
        set: Millis(1),
        last: Millis(0),
        next: Next::Wanted,
        version: number as u64 + 1,
    }
}

#[test]
fn a_queue_that_would_use_up_the_numbers_of_the_shard_is_not_restored() {
    let (mut source, mut target) = (Bench::new(), Bench::new());
    for (newest, reply) in [(RESTORED_MAX - 2, "+OK"), (RESTORED_MAX - 1, "-ERR Bad data format")] {
        source.keyspace.numbers.raise(newest);
        source.run("DEL q");
        source.run("QADD q payload");
        let dumped = source.run_args(&OwnedArgs::collect([b"DUMP", &b"q"[..]]));
        let start = dumped.iter().position(|b| *b == b'\n').unwrap() + 1;
        let payload = &dumped[start..dumped.len() - 2];
        let restored =
            target.run_args(&OwnedArgs::collect([&b"RESTORE"[..], b"q", b"0", payload, b"REPLACE"]));
        assert_eq!(String::from_utf8_lossy(&restored).trim_end(), reply, "newest number {newest} and one");
    }
    assert_eq!(target.keyspace.numbers().newest(), RESTORED_MAX - 1);
}

#[test]
fn a_queue_has_no_more_schedules_than_commands_can_give_it() {
    for (count, fits) in [(SCHEDULES_MAX, true), (SCHEDULES_MAX + 1, false)] {
        let mut queue = Queue::default();
        (0..count).for_each(|number| queue.set_schedule(schedule(number, 1, 1)));
        assert_eq!(again(queue).is_ok(), fits, "{count} schedules");
    }
}

#[test]
fn a_schedule_has_no_longer_texts_than_commands_can_give_it() {
    let (max, more) = (TEXT_BYTES_MAX, TEXT_BYTES_MAX + 1);
    for (cron, zone, fits) in [(max, max, true), (more, 1, false), (1, more, false)] {
        let mut queue = Queue::default();
        queue.set_schedule(schedule(0, cron, zone));
        assert_eq!(again(queue).is_ok(), fits, "{cron} and {zone} bytes");
    }
}

#[test]
fn the_settings_of_a_queue_come_once() {
    let mut queue = Queue::default();
    queue.set_settings(Settings { group_limit: 7, ..Settings::default() });
    let payload = dump(&queue.into_value(), Millis(0));
    let body = verify(&payload).unwrap();
    let (head, settings) = body.split_at(2);
    assert_eq!(head, [kind::SKEP_QUEUE, 1], "the settings are the one element");
    assert!(load(body).is_ok());
    let twice = [&[kind::SKEP_QUEUE, 2], settings, settings].concat();
    assert!(load(&twice).is_err());
}

#[test]
fn counts_of_streams_have_63_bits() {
    let id = StreamId::new(1, 1);
    for (count, fits) in [(i64::MAX as u64, true), (1 << 63, false), (u64::MAX - 1, false)] {
        let mut stream = Stream::default();
        stream.set_last_id(id, Some(count), None);
        assert_eq!(again(stream).is_ok(), fits, "{count} entries added");
        let mut stream = Stream::default();
        stream.add_group(b"g", Group::new(id, Some(count)));
        assert_eq!(again(stream).is_ok(), fits, "{count} entries read");
    }
}
