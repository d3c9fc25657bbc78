//! A log on a disk that keeps what was flushed, and of the rest a beginning, as long as it likes.

use super::Checks;
use skep_base::Rng;
use skep_log::{GroupLog, Membership, Record};
use std::collections::VecDeque;

#[derive(Default)]
pub struct Disk {
    flushed: GroupLog,
    began: bool,
    written: VecDeque<Vec<Record>>,
}

impl Disk {
    pub fn write(&mut self, records: Vec<Record>) {
        self.written.push_back(records);
    }

    pub fn flush_one(&mut self, checks: &mut Checks) {
        let records = self.written.pop_front().expect("a write is flushed once");
        checks.on_flush(&records);
        for record in records {
            self.began = true;
            keep(&mut self.flushed, record);
        }
    }

    pub fn crash(&mut self, rng: &mut Rng, checks: &mut Checks) {
        for _ in 0..rng.below(self.written.len() as u64 + 1) {
            self.flush_one(checks);
        }
        self.written.clear();
    }

    pub fn recover(&mut self, founding: Membership) -> GroupLog {
        if self.flushed.checkpoint.index.0 == 0 {
            self.flushed.membership = founding;
        }
        self.flushed.clone()
    }
}

fn keep(log: &mut GroupLog, record: Record) {
    match record {
        Record::HardState { state, .. } => log.hard_state = state,
        Record::Append { entries, .. } => {
            let first = entries[0].id.index;
            log.entries.retain(|entry| entry.id.index < first);
            let last = log.entries.last().map_or(log.checkpoint, |entry| entry.id).index;
            assert_eq!(first, last.next(), "a gap in the log on disk");
            log.entries.extend(entries);
        }
        Record::Checkpoint { at, membership, .. } => {
            assert!(at.index > log.checkpoint.index);
            let held = log.entries.iter().any(|entry| entry.id == at);
            log.entries.retain(|entry| held && entry.id.index > at.index);
            (log.checkpoint, log.membership) = (at, membership);
        }
        Record::Removed { .. } | Record::Distrusted { .. } => {
            panic!("the group does not write {record:?}")
        }
    }
}
