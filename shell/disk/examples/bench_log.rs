//! Measures the log on a real disk: `cargo run --release -p skep-disk --example bench_log -- DIR [SECONDS]`.
//!
//! Prints the time of a first start, then for several batch shapes the durable commits per second, their latency and the
//! CPU time each takes, and the time to open the log again. Writes some hundred MB into DIR and leaves them there.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use skep_base::{GroupId, LogId, LogIndex, Term};
use skep_disk::{DataDir, open_log};
use skep_log::{Entry, EntryKind, Membership, Record, Wal, WalConfig};

/// User and system time of this process, by /proc (ticks of 10 ms).
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// One batch: `per_group` entries of 100 bytes for each of `groups`, every 1000th batch with checkpoints.
fn batch(groups: u64, per_group: u64, number: u64, payload: &Bytes) -> Vec<Record> {
    let id = |index| LogId { term: Term(1), index: LogIndex(index) };
    let first = number * per_group + 1;
    let mut records = Vec::new();
    for group in (1..=groups).map(GroupId) {
        let entry = |i| Entry { id: id(first + i), kind: EntryKind::Normal, payload: payload.clone() };
        records.push(Record::Append { group, entries: (0..per_group).map(entry).collect() });
        if number % 1000 == 999 {
            let at = id(first + per_group - 1);
            records.push(Record::Checkpoint { group, at, membership: Membership::default() });
        }
    }
    records
}

fn measure<D: skep_log::Disk>(wal: &mut Wal<D>, groups: u64, per_group: u64, time: Duration) {
    let payload = Bytes::from(vec![b'x'; 100]);
    wal.append(&(1..=groups).map(|g| Record::Removed { group: GroupId(g) }).collect::<Vec<_>>()).unwrap();
    wal.sync().unwrap();
    let (started, cpu_before, bytes_before) = (Instant::now(), cpu(), wal.stats().bytes_written);
    let (mut number, mut encode) = (0, Duration::ZERO);
    let mut latencies = Vec::new();
    while started.elapsed() < time {
        let records = batch(groups, per_group, number, &payload);
        let begun = Instant::now();
        wal.append(&records).unwrap();
        encode += begun.elapsed();
        wal.sync().unwrap();
        latencies.push(begun.elapsed());
        wal.do_chores().unwrap();
        number += 1;
    }
    let (wall, cpu) = (started.elapsed(), cpu() - cpu_before);
    latencies.sort();
    let at = |part: f64| latencies[(latencies.len() as f64 * part) as usize].as_micros();
    println!(
        "{groups:5} groups x {per_group:3}: {:6.0} commits/s, {:8.0} entries/s, p50 {:5} us, p99 {:6} us, CPU {:4.0} us/commit, \
         append {:4.0} us, {:3.0} MB/s",
        number as f64 / wall.as_secs_f64(),
        (number * groups * per_group) as f64 / wall.as_secs_f64(),
        at(0.5),
        at(0.99),
        cpu.as_micros() as f64 / number as f64,
        encode.as_micros() as f64 / number as f64,
        (wal.stats().bytes_written - bytes_before) as f64 / 1e6 / wall.as_secs_f64(),
    );
}

fn main() {
    let mut args = std::env::args().skip(1);
    let directory = args.next().expect("give a directory to write to");
    let seconds = args.next().map_or(4, |s| s.parse().expect("a number of seconds"));
    let dir = DataDir::open(directory).unwrap();
    let started = Instant::now();
    let mut wal = open_log(&dir, WalConfig::default()).unwrap().wal;
    println!("open (new: {}): {:?}", dir.is_new(), started.elapsed());
    let started = Instant::now();
    wal.do_chores().unwrap();
    println!("prepare a segment: {:?}", started.elapsed());
    for (groups, per_group) in [(1, 1), (1, 16), (64, 1), (64, 16), (1024, 1)] {
        measure(&mut wal, groups, per_group, Duration::from_secs(seconds));
    }
    println!("{:?}", wal.stats());
    drop(wal);
    let (started, cpu_before) = (Instant::now(), cpu());
    let opened = open_log(&dir, WalConfig::default()).unwrap();
    let entries: usize = opened.logs.values().map(|l| l.entries.len()).sum();
    println!("open again, {entries} entries: {:?}, CPU {:?}", started.elapsed(), cpu() - cpu_before);
}
