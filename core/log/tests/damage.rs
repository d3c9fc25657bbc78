//! Every byte of a small log turned over, every file cut at every length, every file lost: recovery gives exactly what
//! was acknowledged, or refuses. Never a panic, never silent loss.

#![allow(clippy::unwrap_used)]

mod common;

use common::{Logs, apply_all, config, turn};
use skep_base::Rng;
use skep_log::{Disk, LogFault, MemDisk, Wal};

/// A log of several segments, with a recycled one among them, and what it holds.
fn small_log() -> (MemDisk, Logs) {
    let disk = MemDisk::new();
    // One that leaves no segment prepared and not begun: what lies in that is not looked at.
    let mut rng = Rng::new(8);
    let (mut wal, mut logs) = Wal::open(disk.clone(), config(2048)).unwrap();
    while wal.stats().segments_used < 3 || wal.stats().batches < 60 {
        let records = turn(&mut rng, &logs, 3, 200);
        wal.append(&records).unwrap();
        wal.sync().unwrap();
        wal.do_chores().unwrap();
        logs = apply_all(&logs, &records);
    }
    (disk, logs)
}

fn check(disk: MemDisk, expected: &Logs, what: &str) -> bool {
    match Wal::open(disk, config(2048)) {
        Ok((_, logs)) => {
            assert!(logs == *expected, "{what}: recovered other than acknowledged");
            true
        }
        Err(LogFault::Damaged { file, found, .. }) => {
            assert!(!file.is_empty() && !found.is_empty());
            false
        }
        Err(LogFault::Newer { .. }) => panic!("{what}: a flipped bit passed as a newer format"),
        Err(fault) => panic!("{what}: {fault}"),
    }
}

#[test]
fn every_flipped_byte_is_refused_or_harmless() {
    let (disk, logs) = small_log();
    let files = disk.clone().list().unwrap();
    assert!(files.len() >= 5, "{files:?}");
    for file in &files {
        for offset in 0..disk.content(file).unwrap().len() as u64 {
            let bad = disk.fork();
            bad.flip(file, offset, 1 << (offset % 8));
            let recovered = check(bad, &logs, &format!("{file} flipped at {offset}"));
            assert!(!recovered, "{file} flipped at {offset} went unseen");
        }
    }
}

#[test]
fn every_cut_of_every_file_is_refused_or_harmless() {
    let (disk, logs) = small_log();
    for file in disk.clone().list().unwrap() {
        for len in 0..disk.content(&file).unwrap().len() as u64 {
            let bad = disk.fork();
            bad.cut(&file, len);
            check(bad, &logs, &format!("{file} cut at {len}"));
        }
    }
}

#[test]
fn a_lost_file_is_refused_or_harmless() {
    let (disk, logs) = small_log();
    for file in disk.clone().list().unwrap() {
        let mut bad = disk.fork();
        bad.remove(&file).unwrap();
        check(bad, &logs, &format!("{file} lost"));
    }
}

#[test]
fn a_lost_last_batch_before_a_later_one_is_damage() {
    let (disk, _) = small_log();
    let before = disk.fork();
    let (mut wal, logs) = Wal::open(disk.clone(), config(2048)).unwrap();
    let records = turn(&mut Rng::new(1), &logs, 3, 100);
    wal.append(&records).unwrap();
    wal.sync().unwrap();
    let after_one = disk.fork();
    let more = turn(&mut Rng::new(2), &apply_all(&logs, &records), 3, 100);
    wal.append(&more).unwrap();
    wal.sync().unwrap();
    // A disk that lied about the first of two syncs: its blocks are as they were before.
    let mut holed = disk.fork();
    for file in disk.clone().list().unwrap() {
        let (old, new) = (before.content(&file), after_one.content(&file));
        let (Some(old), Some(new)) = (old, new) else { continue };
        for (i, (old, new)) in old.chunks(512).zip(new.chunks(512)).enumerate() {
            if old != new {
                holed.write_at(&file, i as u64 * 512, old).unwrap();
            }
        }
    }
    let fault = Wal::open(holed, config(2048)).err().unwrap();
    assert!(matches!(fault, LogFault::Damaged { .. }), "{fault}");
    assert!(fault.to_string().contains("rebuilt from its peers"), "{fault}");
}

#[test]
fn blocks_of_another_log_are_refused() {
    let (disk, _) = small_log();
    let other = MemDisk::new();
    drop(Wal::open(other.clone(), skep_log::WalConfig { salt: 1, ..config(2048) }).unwrap());
    let mut mixed = disk.fork();
    let identity = other.content("log-identity").unwrap();
    mixed.write_at("log-identity", 0, &identity).unwrap();
    assert!(matches!(Wal::open(mixed, config(2048)), Err(LogFault::Damaged { .. })));
}
