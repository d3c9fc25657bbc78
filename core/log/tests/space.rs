//! A full disk, recycled segments, groups that pin the log.

#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::{Logs, apply_all, config, turn};
use skep_base::{GroupId, LogId, LogIndex, NodeId, Rng, Term};
use skep_log::{Entry, EntryKind, LogFault, MemDisk, Membership, Record, Wal, WalConfig};

fn append(group: u64, index: u64, bytes: usize) -> Record {
    let id = LogId { term: Term(1), index: LogIndex(index) };
    let entry = Entry { id, kind: EntryKind::Normal, payload: Bytes::from(vec![7; bytes]) };
    Record::Append { group: GroupId(group), entries: vec![entry] }
}

fn checkpoint(group: u64, index: u64) -> Record {
    let membership = Membership { voters: vec![NodeId(1)], ..Membership::default() };
    Record::Checkpoint {
        group: GroupId(group),
        at: LogId { term: Term(1), index: LogIndex(index) },
        membership,
    }
}

#[test]
fn a_full_disk_hurts_nothing_and_appending_goes_on_with_space() {
    for capacity in (0..40_000).step_by(512) {
        let disk = MemDisk::new();
        disk.set_capacity(Some(capacity));
        let mut logs = Logs::new();
        let opened = Wal::open(disk.clone(), config(4096));
        let (mut wal, _) = match opened {
            Ok(opened) => opened,
            Err(fault) => {
                assert!(fault.is_full(), "capacity {capacity}: {fault}");
                disk.set_capacity(None);
                Wal::open(disk.clone(), config(4096)).unwrap()
            }
        };
        disk.set_capacity(Some(capacity));
        let mut rng = Rng::new(capacity);
        let mut full_count = 0;
        for step in 0..80 {
            let records = turn(&mut rng, &logs, 3, 5000);
            let _ = wal.do_chores().inspect_err(|fault| assert!(fault.is_full(), "{fault}"));
            if let Err(fault) = wal.append(&records) {
                assert!(fault.is_full(), "capacity {capacity}, step {step}: {fault}");
                full_count += 1;
                if rng.one_in(2) {
                    drop(wal);
                    disk.crash(&mut rng);
                    let (reopened, found) = Wal::open(disk.clone(), config(4096)).unwrap();
                    assert!(found == logs, "capacity {capacity}, step {step}: the full disk lost something");
                    wal = reopened;
                }
                disk.set_capacity(None);
                wal.append(&records).unwrap();
                disk.set_capacity(Some(capacity.max(disk.bytes_used())));
            }
            wal.sync().unwrap();
            logs = apply_all(&logs, &records);
        }
        drop(wal);
        assert!(full_count > 0 || capacity > 10_000);
        disk.crash(&mut rng);
        disk.set_capacity(None);
        assert!(Wal::open(disk, config(4096)).unwrap().1 == logs, "capacity {capacity}");
    }
}

#[test]
fn room_is_what_can_be_appended_without_space() {
    let disk = MemDisk::new();
    let (mut wal, _) = Wal::open(disk.clone(), config(8192)).unwrap();
    wal.do_chores().unwrap();
    disk.set_capacity(Some(disk.bytes_used()));
    let mut index = 1;
    while wal.room() > 2 * 500 {
        wal.append(&[append(1, index, 400)]).unwrap();
        wal.sync().unwrap();
        index += 1;
    }
    assert!(index > 20);
    while wal.append(&[append(1, index, 400)]).inspect_err(|f| assert!(f.is_full())).is_ok() {
        wal.sync().unwrap();
        index += 1;
    }
    assert!(wal.do_chores().unwrap_err().is_full());
    // A checkpoint frees a segment without needing new ones.
    disk.set_capacity(None);
    wal.append(&[checkpoint(1, index - 1)]).unwrap();
    wal.sync().unwrap();
    disk.set_capacity(Some(disk.bytes_used()));
    wal.do_chores().unwrap();
    assert!(wal.room() > 4000);
}

#[test]
fn segments_are_recycled_and_the_log_stays_short() {
    let disk = MemDisk::new();
    let (mut wal, _) = Wal::open(disk.clone(), config(8192)).unwrap();
    let before = disk.stats().bytes_written;
    for index in 1..2000 {
        wal.append(&[append(1, index, 300)]).unwrap();
        wal.sync().unwrap();
        if index % 10 == 0 {
            wal.append(&[checkpoint(1, index)]).unwrap();
            wal.sync().unwrap();
        }
        wal.do_chores().unwrap();
        wal.assert_invariants();
    }
    assert!(wal.stats().bytes_on_disk <= 5 * 8192, "{:?}", wal.stats());
    let zeroed = disk.stats().bytes_written - before - wal.stats().bytes_written;
    assert!(zeroed <= 5 * 8192, "{zeroed} bytes were zero-filled though segments can be recycled");
    let (_, logs) = Wal::open(disk, config(8192)).unwrap();
    assert_eq!(logs[&GroupId(1)].checkpoint.index, LogIndex(1990));
    assert_eq!(logs[&GroupId(1)].entries.len(), 9);
}

#[test]
fn a_cold_group_does_not_pin_the_log() {
    let disk = MemDisk::new();
    let (mut wal, _) = Wal::open(disk.clone(), config(8192)).unwrap();
    wal.append(&[append(1, 1, 100), append(1, 2, 100)]).unwrap();
    wal.sync().unwrap();
    for index in 1..1000 {
        wal.append(&[append(2, index, 300), checkpoint(2, index)]).unwrap();
        wal.sync().unwrap();
        wal.do_chores().unwrap();
        assert_eq!(wal.pinned_by(), []);
    }
    assert!(wal.stats().bytes_on_disk <= 8 * 8192, "{:?}", wal.stats());
    assert!(wal.stats().entries_rewritten >= 2);
    let (_, logs) = Wal::open(disk, config(8192)).unwrap();
    assert_eq!(logs[&GroupId(1)].entries.len(), 2);
    assert_eq!(logs[&GroupId(1)].entries[1].payload.len(), 100);
}

#[test]
fn a_group_that_pins_the_log_is_named() {
    let (mut wal, _) = Wal::open(MemDisk::new(), config(8192)).unwrap();
    for index in 1..200 {
        wal.append(&[append(7, index, 300)]).unwrap();
        wal.sync().unwrap();
    }
    wal.do_chores().unwrap();
    assert_eq!(wal.pinned_by(), [GroupId(7)]);
    wal.append(&[checkpoint(7, 199)]).unwrap();
    wal.sync().unwrap();
    assert_eq!(wal.pinned_by(), []);
}

#[test]
fn a_spare_finished_after_an_urgent_segment_takes_the_next_number() {
    let mut disk = MemDisk::new();
    let (mut wal, _) = Wal::open(disk.clone(), config(4096)).unwrap();
    let chore = wal.next_chore().unwrap();
    assert!(wal.next_chore().is_none(), "one chore at a time");
    for index in 1..30 {
        wal.append(&[append(1, index, 400)]).unwrap();
        wal.sync().unwrap();
    }
    let outcome = chore.run(&mut disk);
    wal.on_chore(outcome).unwrap();
    wal.assert_invariants();
    let (_, logs) = Wal::open(disk, config(4096)).unwrap();
    assert_eq!(logs[&GroupId(1)].entries.len(), 29);
}

#[test]
fn a_disk_error_stops_the_log() {
    let disk = MemDisk::new();
    let (mut wal, _) = Wal::open(disk.clone(), config(4096)).unwrap();
    wal.append(&[append(1, 1, 10)]).unwrap();
    disk.fail_after(0);
    assert!(matches!(wal.sync(), Err(LogFault::Failed(_))));
    disk.restart();
    assert_eq!(wal.sync(), Err(LogFault::Stopped));
    assert_eq!(wal.append(&[append(1, 2, 10)]), Err(LogFault::Stopped));
    assert!(wal.next_chore().is_none());
}

#[test]
fn sizes_may_change_between_lives() {
    let disk = MemDisk::new();
    let mut logs = Logs::new();
    let mut rng = Rng::new(3);
    for segment_bytes in [4096, 16_384, 2048, 8192] {
        let (mut wal, found) =
            Wal::open(disk.clone(), WalConfig { salt: rng.next_u64(), ..config(segment_bytes) }).unwrap();
        assert!(found == logs);
        for _ in 0..50 {
            let records = turn(&mut rng, &logs, 4, 500);
            wal.append(&records).unwrap();
            wal.sync().unwrap();
            wal.do_chores().unwrap();
            logs = apply_all(&logs, &records);
        }
    }
}
