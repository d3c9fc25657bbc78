//! Power cuts, kills and disk errors at random moments: what was acknowledged is there, what was not is there wholly or
//! not at all.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Logs, apply_all, config, turn};
use skep_base::{GroupId, LogId, LogIndex, Rng, Term};
use skep_log::{CheckpointHeader, CheckpointReader, CheckpointWriter, checkpoint};
use skep_log::{Entry, EntryKind, GroupLog, LogFault, MemDisk, Membership, Record, Wal};

/// Runs one life of a log after another on one disk.
fn lives(seed: u64, segment_bytes: u64, payload_max: u64) -> (u64, u64) {
    let mut rng = Rng::new(seed);
    let disk = MemDisk::new();
    let mut acknowledged = Logs::new();
    let mut in_flight: Option<Logs> = None;
    let (mut segments, mut rewritten) = (0, 0);
    for life in 0..8 {
        let opened = Wal::open(disk.clone(), config(segment_bytes));
        let (mut wal, logs) = match opened {
            Ok(opened) => opened,
            Err(LogFault::Failed(_)) => {
                disk.crash(&mut rng);
                continue;
            }
            Err(fault) => panic!("seed {seed}, life {life}: {fault}"),
        };
        match in_flight.take() {
            Some(maybe) if logs == maybe => acknowledged = maybe,
            _ => assert!(logs == acknowledged, "seed {seed}, life {life}: recovered other than acknowledged"),
        }
        if rng.one_in(3) {
            disk.fail_after(rng.below(60));
        }
        let end = rng.below(60);
        for step in 0..end {
            let records = turn(&mut rng, &acknowledged, 4, payload_max);
            let after = apply_all(&acknowledged, &records);
            if wal.append(&records).is_err() {
                in_flight = Some(after);
                break;
            }
            // Chores run while a batch is in flight; they must not take its word for anything.
            if rng.one_in(3) && wal.do_chores().is_err() {
                in_flight = Some(after);
                break;
            }
            if step + 1 == end && rng.one_in(2) {
                in_flight = Some(after);
                break;
            }
            if wal.sync().is_err() {
                in_flight = Some(after);
                break;
            }
            acknowledged = after;
            wal.assert_invariants();
            if rng.one_in(3) && wal.do_chores().is_err() {
                break;
            }
        }
        let stats = wal.stats();
        segments = segments.max(stats.segments_used as u64);
        rewritten += stats.entries_rewritten;
        if rng.one_in(4) {
            disk.restart();
        } else {
            disk.crash(&mut rng);
        }
        // Disk errors while recovering, a torn tail half wiped: the next start finds the same log.
        if rng.one_in(3) {
            disk.fail_after(rng.below(25));
        }
    }
    (segments, rewritten)
}

#[test]
fn acknowledged_records_survive_any_crash() {
    let mut rewritten = 0;
    for seed in 0..1000 {
        let (_, entries) = lives(seed, 4096, 3000);
        rewritten += entries;
    }
    assert!(
        rewritten > 100,
        "cold entries were rewritten {rewritten} times only, so that path was not tested"
    );
}

#[test]
fn batches_larger_than_a_segment_survive_any_crash() {
    for seed in 10_000..10_300 {
        lives(seed, 2048, 12_000);
    }
}

#[test]
fn same_seed_gives_the_same_bytes() {
    let run = || {
        let disk = MemDisk::new();
        let mut rng = Rng::new(5);
        let (mut wal, mut logs) = Wal::open(disk.clone(), config(4096)).unwrap();
        for _ in 0..200 {
            let records = turn(&mut rng, &logs, 4, 300);
            wal.append(&records).unwrap();
            wal.sync().unwrap();
            wal.do_chores().unwrap();
            logs = apply_all(&logs, &records);
        }
        disk
    };
    let (a, b) = (run(), run());
    let files = skep_log::Disk::list(&mut a.clone()).unwrap();
    assert!(files.len() > 3);
    for file in files {
        assert_eq!(a.content(&file), b.content(&file), "{file}");
    }
}

/// Writes a checkpoint and has the log name it, the way a node does.
fn checkpoint_group(disk: &MemDisk, wal: &mut Wal<MemDisk>, log: &GroupLog) -> Result<(), LogFault> {
    let (group, membership) = (GroupId(1), Membership::default());
    let at = log.entries[log.entries.len() / 2].id;
    let header = CheckpointHeader { group, at, membership: membership.clone() };
    let mut writer = CheckpointWriter::create(disk.clone(), &header)?;
    writer.chunk(&at.index.0.to_le_bytes())?;
    writer.finish()?;
    wal.append(&[Record::Checkpoint { group, at, membership }])?;
    wal.sync()?;
    checkpoint::remove_older(&mut disk.clone(), group, at)
}

#[test]
fn log_and_checkpoint_together_lose_nothing_in_any_crash() {
    let group = GroupId(1);
    let mut checkpoints = 0;
    for seed in 0..1500 {
        let (disk, mut rng) = (MemDisk::new(), Rng::new(seed));
        let mut acknowledged = 0;
        for life in 0..6 {
            let (mut wal, mut logs) = match Wal::open(disk.clone(), config(4096)) {
                Ok(opened) => opened,
                Err(LogFault::Failed(_)) => {
                    disk.crash(&mut rng);
                    continue;
                }
                Err(fault) => panic!("seed {seed}, life {life}: {fault}"),
            };
            disk.restart();
            let log = logs.entry(group).or_default();
            let last = log.entries.last().map_or(log.checkpoint, |e| e.id).index.0;
            assert!((acknowledged..=acknowledged + 1).contains(&last), "seed {seed}, life {life}: {last}");
            let found = checkpoint::tidy(&mut disk.clone(), &logs).unwrap();
            let log = logs.remove(&group).unwrap_or_default();
            if let Some(file) = found.get(&group) {
                let mut reader = CheckpointReader::open(disk.clone(), file).unwrap();
                assert_eq!(*reader.next_chunk().unwrap().unwrap(), log.checkpoint.index.0.to_le_bytes());
                assert_eq!(reader.next_chunk(), Ok(None));
                checkpoints += 1;
            }
            disk.fail_after(rng.below(150));
            let (mut log, mut next) = (log, last + 1);
            acknowledged = last;
            loop {
                let id = LogId { term: Term(1), index: LogIndex(next) };
                let entry = Entry { id, kind: EntryKind::Normal, payload: vec![1; 100].into() };
                log.entries.push(entry.clone());
                let written = wal.append(&[Record::Append { group, entries: vec![entry] }]);
                if written.is_err() || wal.sync().is_err() {
                    break;
                }
                (acknowledged, next) = (next, next + 1);
                if rng.one_in(8) && checkpoint_group(&disk, &mut wal, &log).is_err()
                    || rng.one_in(3) && wal.do_chores().is_err()
                {
                    break;
                }
            }
            disk.crash(&mut rng);
            disk.fail_after(rng.below(60) + 5);
        }
    }
    assert!(checkpoints > 1000, "{checkpoints} checkpoints were found only");
}
