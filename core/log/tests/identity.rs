//! The identity of a node: whole or refused, the old one or the new one.

#![allow(clippy::unwrap_used)]

use skep_base::{NodeId, NodeUuid, Rng};
use skep_log::identity::CLUSTER_ID_BYTES_MAX;
use skep_log::{Disk, LogFault, MemDisk, NodeIdentity};

const FILE: &str = "node-identity";

fn empty() -> NodeIdentity {
    NodeIdentity { uuid: NodeUuid(0x1234_5678_9abc_def0 << 64 | 42), ..NodeIdentity::default() }
}

fn member() -> NodeIdentity {
    NodeIdentity { node: NodeId(300), cluster_id: "5e".repeat(20), ..empty() }
}

fn read(disk: &MemDisk) -> Result<Option<NodeIdentity>, LogFault> {
    NodeIdentity::read(&mut disk.clone())
}

#[test]
fn identities_round_trip_and_survive_a_power_cut() {
    let disk = MemDisk::new();
    assert_eq!(read(&disk), Ok(None));
    let longest = NodeIdentity { cluster_id: "x".repeat(CLUSTER_ID_BYTES_MAX), ..member() };
    let largest = NodeIdentity { uuid: NodeUuid(u128::MAX), node: NodeId(u64::MAX), ..longest.clone() };
    for (seed, identity) in [empty(), member(), longest, largest, empty()].into_iter().enumerate() {
        identity.write(&mut disk.clone()).unwrap();
        disk.crash(&mut Rng::new(seed as u64));
        assert_eq!(read(&disk), Ok(Some(identity)));
        assert_eq!(disk.clone().list().unwrap(), [FILE], "something else was left behind");
    }
}

#[test]
fn every_flipped_bit_every_cut_and_every_addition_is_refused() {
    for identity in [empty(), member()] {
        let disk = MemDisk::new();
        identity.write(&mut disk.clone()).unwrap();
        let len = disk.content(FILE).unwrap().len() as u64;
        for offset in 0..len {
            for mask in (0..8).map(|bit| 1 << bit).chain([0xff]) {
                let bad = disk.fork();
                bad.flip(FILE, offset, mask);
                let found = read(&bad);
                assert!(matches!(found, Err(LogFault::Damaged { .. })), "flip at {offset}: {found:?}");
            }
            let bad = disk.fork();
            bad.cut(FILE, offset);
            let found = read(&bad);
            assert!(matches!(found, Err(LogFault::Damaged { .. })), "cut at {offset}: {found:?}");
        }
        for extra in [1, 7, 200, 100_000] {
            let mut bad = disk.fork();
            bad.write_at(FILE, len, &vec![0; extra]).unwrap();
            let found = read(&bad);
            assert!(matches!(found, Err(LogFault::Damaged { .. })), "{extra} more bytes: {found:?}");
        }
    }
}

#[test]
fn a_file_of_a_later_release_is_told_apart_from_damage() {
    let disk = MemDisk::new();
    member().write(&mut disk.clone()).unwrap();
    let mut bytes = disk.content(FILE).unwrap();
    bytes[8] = 2;
    let body = bytes.len() - 4;
    let crc = crc32c::crc32c(&bytes[..body]).to_le_bytes();
    bytes[body..].copy_from_slice(&crc);
    disk.clone().write_at(FILE, 0, &bytes).unwrap();
    let fault = read(&disk).unwrap_err();
    assert!(matches!(fault, LogFault::Newer { version: 2, version_max: 1, .. }), "{fault}");
}

/// The disk fails at each operation of a write in turn, and the power goes with it.
#[test]
fn a_power_cut_leaves_the_old_identity_or_the_new_one() {
    for seed in 0..500 {
        let mut rng = Rng::new(seed);
        let disk = MemDisk::new();
        let (mut durable, mut operations) = (None, 0);
        for next in [empty(), member()] {
            disk.fail_after(operations);
            let written = next.write(&mut disk.clone());
            disk.crash(&mut rng);
            let found = read(&disk).unwrap();
            let old = durable.clone();
            match written {
                Ok(()) => assert_eq!(found, Some(next.clone()), "seed {seed}"),
                Err(LogFault::Failed(_)) => {
                    assert!(found == old || found == Some(next.clone()), "seed {seed}: {found:?}");
                }
                Err(fault) => panic!("seed {seed}: {fault}"),
            }
            durable = found;
            operations = rng.below(7);
        }
        // Whatever was left in the making does not stand in the way.
        member().write(&mut disk.clone()).unwrap();
        assert_eq!(read(&disk), Ok(Some(member())), "seed {seed}");
    }
    for operations in 0.. {
        let disk = MemDisk::new();
        empty().write(&mut disk.clone()).unwrap();
        disk.fail_after(operations);
        if member().write(&mut disk.clone()).is_ok() {
            assert!(operations >= 4, "a write, a sync, a renaming and a sync of the directory");
            break;
        }
        disk.crash(&mut Rng::new(operations));
        let found = read(&disk).unwrap().unwrap();
        assert!(found == empty() || found == member(), "after {operations} operations: {found:?}");
    }
}

#[test]
fn a_full_disk_leaves_the_identity_as_it_was() {
    let disk = MemDisk::new();
    empty().write(&mut disk.clone()).unwrap();
    let used = disk.bytes_used();
    for free in [0, 1, 40, 80] {
        disk.set_capacity(Some(used + free));
        let written = member().write(&mut disk.clone());
        assert!(matches!(written, Err(LogFault::Full { .. })), "{free} bytes free: {written:?}");
        assert_eq!(read(&disk), Ok(Some(empty())));
        disk.set_capacity(None);
        disk.clone().remove("node-identity.tmp").unwrap();
    }
    member().write(&mut disk.clone()).unwrap();
    assert_eq!(read(&disk), Ok(Some(member())));
}
