//! Checkpoints read for other nodes, from real files.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use skep_base::{GroupId, LogId, LogIndex, NodeId, Term};
use skep_disk::{CheckpointSource, FileDisk, Found, ReadChunk};
use skep_log::{CheckpointFile, CheckpointHeader, CheckpointWriter, Membership};

const G: GroupId = GroupId(1);
/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(3_600);

fn at(index: u64) -> LogId {
    LogId { term: Term(1), index: LogIndex(index) }
}

struct World {
    directory: tempfile::TempDir,
    source: CheckpointSource,
    woken: Receiver<()>,
}

impl World {
    fn new(idle: Duration) -> World {
        let directory = tempfile::tempdir().unwrap();
        let (wake, woken) = mpsc::channel();
        let disk = FileDisk::new(directory.path());
        let source = CheckpointSource::start(disk, idle, move || wake.send(()).unwrap_or_default()).unwrap();
        World { directory, source, woken }
    }

    fn write(&self, index: u64, chunks: &[&str]) -> PathBuf {
        let membership = Membership { voters: vec![NodeId(1)], ..Membership::default() };
        let header = CheckpointHeader { group: G, at: at(index), membership };
        let mut writer = CheckpointWriter::create(FileDisk::new(self.directory.path()), &header).unwrap();
        for chunk in chunks {
            writer.chunk(chunk.as_bytes()).unwrap();
        }
        writer.finish().unwrap();
        self.directory.path().join(CheckpointFile { group: G, at: at(index) }.name())
    }

    /// Asks, and gives what came as text: the chunk, with a full stop if it is the last.
    fn ask(&self, index: u64, chunk: u64) -> String {
        self.source.ask(G, at(index), chunk);
        self.woken.recv().unwrap();
        let mut chunks = self.source.chunks();
        let ReadChunk { group, at: found_at, chunk: number, found } = chunks.pop().unwrap();
        assert!(chunks.is_empty() && (group, found_at, number) == (G, at(index), chunk));
        match found {
            Found::Chunk { bytes, last } => {
                format!("{}{}", str::from_utf8(&bytes).unwrap(), if last { "." } else { "" })
            }
            Found::Gone => "gone".to_owned(),
            Found::Damaged(fault) => format!("damaged: {fault}"),
        }
    }
}

#[test]
fn chunks_come_in_any_order_that_followers_ask_for() {
    let world = World::new(LONG);
    world.write(7, &["zero", "one", "two"]);
    world.write(9, &["other"]);
    for (index, chunk, expected) in [
        (7, 0, "zero"),
        (7, 1, "one"),
        (7, 0, "zero"), // a second follower begins
        (7, 2, "two."),
        (7, 1, "one"),
        (7, 1, "one"), // an answer was lost with its link
        (9, 0, "other."),
        (7, 2, "two."),
        (7, 2, "two."),
        (7, 3, "gone"),
        (9, u64::MAX, "gone"),
        (8, 0, "gone"),
    ] {
        assert_eq!(world.ask(index, chunk), expected, "chunk {chunk} of {index}");
    }
}

#[test]
fn a_checkpoint_of_nothing_has_an_end() {
    let world = World::new(LONG);
    world.write(1, &[]);
    assert_eq!(world.ask(1, 0), ".");
    assert_eq!(world.ask(1, 1), "gone");
}

#[test]
fn more_followers_than_open_files_are_all_served() {
    let world = World::new(LONG);
    let chunks: Vec<String> = (0..40).map(|n| format!("chunk {n}")).collect();
    world.write(1, &chunks.iter().map(String::as_str).collect::<Vec<_>>());
    for round in 0..20 {
        for follower in 0..20 {
            let chunk = round + follower;
            let end = if chunk == 39 { "." } else { "" };
            assert_eq!(world.ask(1, chunk), format!("chunk {chunk}{end}"));
        }
    }
}

#[test]
fn a_file_that_is_removed_while_it_is_read_is_read_to_its_end() {
    let world = World::new(LONG);
    let path = world.write(1, &["a", "b", "c"]);
    assert_eq!(world.ask(1, 0), "a");
    fs::remove_file(path).unwrap();
    assert_eq!(world.ask(1, 1), "b");
    assert_eq!(world.ask(1, 2), "c.");
    assert_eq!(world.ask(1, 2), "gone");
}

#[test]
fn a_file_that_nobody_asks_for_is_closed() {
    let world = World::new(Duration::ZERO);
    let path = world.write(1, &["a", "b"]);
    assert_eq!(world.ask(1, 0), "a");
    fs::remove_file(path).unwrap();
    assert_eq!(world.ask(1, 1), "gone");
}

#[test]
fn damage_is_told_and_no_damaged_chunk_is_given() {
    let world = World::new(LONG);
    let path = world.write(1, &["first", "second", "third"]);
    let bytes = fs::read(&path).unwrap();
    let offset = bytes.windows(5).position(|w| w == b"third").unwrap();
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(b"tHird", offset as u64).unwrap();
    assert_eq!(world.ask(1, 0), "first");
    let told = world.ask(1, 1);
    assert!(told.starts_with("damaged: checkpoint-") && told.contains("checksum mismatch"), "{told}");
    assert_eq!(world.ask(1, 0), "first", "the thread goes on");
    file.set_len(10).unwrap();
    assert!(world.ask(1, 0).starts_with("damaged: "));
}
