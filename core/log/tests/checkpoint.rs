//! Checkpoint files: whole or refused, and kept as long as the log names them.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use skep_base::{GroupId, LogId, LogIndex, NodeId, Rng, Term};
use skep_log::checkpoint::{self, CHUNK_BYTES_MAX};
use skep_log::{CheckpointFile, CheckpointHeader, CheckpointReader, CheckpointWriter};
use skep_log::{Disk, GroupLog, LogFault, MemDisk, Membership};

fn header(group: u64, index: u64) -> CheckpointHeader {
    let membership = Membership { voters: vec![NodeId(1), NodeId(2)], ..Membership::default() };
    CheckpointHeader {
        group: GroupId(group),
        at: LogId { term: Term(3), index: LogIndex(index) },
        membership,
    }
}

fn write(disk: &MemDisk, header: &CheckpointHeader, chunks: &[Vec<u8>]) -> Result<CheckpointFile, LogFault> {
    let mut writer = CheckpointWriter::create(disk.clone(), header)?;
    for chunk in chunks {
        writer.chunk(chunk)?;
    }
    writer.finish()
}

fn read(disk: &MemDisk, file: &CheckpointFile) -> Result<(CheckpointHeader, Vec<Vec<u8>>), LogFault> {
    let mut reader = CheckpointReader::open(disk.clone(), file)?;
    let mut chunks = Vec::new();
    while let Some(chunk) = reader.next_chunk()? {
        chunks.push(chunk.to_vec());
    }
    assert_eq!(reader.next_chunk(), Ok(None));
    Ok((reader.header().clone(), chunks))
}

fn chunks() -> Vec<Vec<u8>> {
    vec![vec![1; 300], vec![2], (0..=255).collect()]
}

#[test]
fn checkpoints_round_trip() {
    let disk = MemDisk::new();
    let large = vec![vec![9; CHUNK_BYTES_MAX], vec![], vec![8; 1 << 20], vec![7; 3 << 19]];
    for (index, chunks) in [(5, chunks()), (6, vec![]), (7, large)] {
        let file = write(&disk, &header(1, index), &chunks).unwrap();
        disk.crash(&mut Rng::new(index));
        let (found, read) = read(&disk, &file).unwrap();
        assert_eq!(found, header(1, index));
        let kept: Vec<_> = chunks.into_iter().filter(|c| !c.is_empty()).collect();
        assert!(read == kept, "checkpoint {index} reads otherwise");
    }
}

#[test]
fn every_flipped_byte_and_every_cut_is_refused() {
    let disk = MemDisk::new();
    let file = write(&disk, &header(1, 5), &chunks()).unwrap();
    let len = disk.content(&file.name()).unwrap().len() as u64;
    for offset in 0..len {
        for mask in [1, 0x80, 0xff] {
            let bad = disk.fork();
            bad.flip(&file.name(), offset, mask);
            let fault = read(&bad, &file).unwrap_err();
            assert!(matches!(fault, LogFault::Damaged { .. }), "flip at {offset}: {fault}");
        }
        let bad = disk.fork();
        bad.cut(&file.name(), offset);
        let fault = read(&bad, &file).unwrap_err();
        assert!(matches!(fault, LogFault::Damaged { .. }), "cut at {offset}: {fault}");
    }
    let mut longer = disk.fork();
    longer.write_at(&file.name(), len, b"x").unwrap();
    assert!(matches!(read(&longer, &file), Err(LogFault::Damaged { offset, .. }) if offset == len));
    // Another group's file under this name.
    let other = write(&disk, &header(2, 5), &chunks()).unwrap();
    disk.clone().rename(&other.name(), &file.name()).unwrap();
    assert!(matches!(read(&disk, &file), Err(LogFault::Damaged { .. })));
}

#[test]
fn a_crash_leaves_the_checkpoint_whole_or_absent() {
    for seed in 0..2000 {
        let (disk, mut rng) = (MemDisk::new(), Rng::new(seed));
        write(&disk, &header(1, 5), &chunks()).unwrap();
        disk.fail_after(rng.below(8));
        let done = write(&disk, &header(1, 9), &chunks());
        disk.crash(&mut rng);
        let found = checkpoint::list(&mut disk.clone()).unwrap();
        assert!(found.len() == 2 || done.is_err() && found.len() == 1, "seed {seed}: {found:?}");
        for file in found {
            assert_eq!(read(&disk, &file).unwrap().1, chunks(), "seed {seed}");
        }
    }
}

#[test]
fn a_full_disk_refuses_and_space_can_be_given_back() {
    let disk = MemDisk::new();
    write(&disk, &header(1, 5), &chunks()).unwrap();
    let used = disk.bytes_used();
    for extra in (0..600).step_by(7) {
        disk.set_capacity(Some(used + extra));
        let done = write(&disk, &header(1, 9), &chunks());
        assert!(matches!(done, Err(LogFault::Full { .. })), "{done:?}");
        let logs = BTreeMap::from([(GroupId(1), at(5))]);
        checkpoint::tidy(&mut disk.clone(), &logs).unwrap();
        assert_eq!(disk.bytes_used(), used);
    }
}

fn at(index: u64) -> GroupLog {
    GroupLog { checkpoint: header(1, index).at, ..GroupLog::default() }
}

#[test]
fn only_what_the_log_names_is_kept() {
    let mut disk = MemDisk::new();
    for (group, index) in [(1, 5), (1, 9), (2, 4)] {
        write(&disk, &header(group, index), &chunks()).unwrap();
    }
    drop(CheckpointWriter::create(disk.clone(), &header(1, 12)).unwrap());
    disk.create("unrelated", 10).unwrap();
    let missing = BTreeMap::from([(GroupId(1), at(9)), (GroupId(3), at(1))]);
    let before = disk.list().unwrap();
    let fault = checkpoint::tidy(&mut disk, &missing).unwrap_err();
    assert!(fault.to_string().contains("checkpoint-0000000000000003-"), "{fault}");
    assert_eq!(disk.list().unwrap(), before, "a refusal removed something");

    let logs = BTreeMap::from([(GroupId(1), at(9)), (GroupId(4), at(0))]);
    let found = checkpoint::tidy(&mut disk, &logs).unwrap();
    assert_eq!(found.keys().collect::<Vec<_>>(), [&GroupId(1)]);
    assert_eq!(disk.list().unwrap(), [found[&GroupId(1)].name(), "unrelated".to_owned()]);
    write(&disk, &header(1, 20), &chunks()).unwrap();
    checkpoint::remove_older(&mut disk, GroupId(1), header(1, 20).at).unwrap();
    assert_eq!(checkpoint::list(&mut disk).unwrap().len(), 1);
}

/// A checkpoint can be complete before the record of the one before it is durable.
#[test]
fn a_newer_checkpoint_survives_the_removal_of_older_ones() {
    let mut disk = MemDisk::new();
    for index in [5, 9, 12] {
        write(&disk, &header(1, index), &chunks()).unwrap();
    }
    checkpoint::remove_older(&mut disk, GroupId(1), header(1, 9).at).unwrap();
    let left: Vec<_> = checkpoint::list(&mut disk).unwrap().iter().map(|f| f.at).collect();
    assert_eq!(left, [header(1, 9).at, header(1, 12).at]);
}
