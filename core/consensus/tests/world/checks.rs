//! What must hold in every history, whatever happened.

use bytes::Bytes;
use skep_base::{LogId, LogIndex, Term};
use skep_consensus::Note;
use skep_log::{Entry, EntryKind, Record};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Default)]
pub struct Checks {
    /// Raft's election safety: who led in each term. An only voter that dies before its term is durable may lead in it
    /// again: nobody has heard of the first time.
    leaders: BTreeMap<Term, usize>,
    /// Log matching: one position and term holds one entry, on all disks, for ever.
    written: BTreeMap<(LogIndex, Term), (EntryKind, Bytes)>,
    /// State machine safety: what any node applied at an index.
    applied: BTreeMap<LogIndex, (Term, Bytes)>,
    /// How far each node came in its present life.
    applied_now: BTreeMap<usize, LogIndex>,
    seen_once: BTreeSet<Bytes>,
    acknowledged: BTreeMap<LogIndex, LogId>,
    /// The last index that any node applied, and so may have told somebody of.
    told: LogIndex,
    pub reads: u64,
    pub reads_by_lease: u64,
    pub installs: u64,
    /// Words of leaders at rest.
    pub rests: u64,
    /// Milliseconds, of all followers together.
    pub followers_at_rest: u64,
    /// How often each kind of note was met, so that a run can show that it met the rare ones.
    pub notes: BTreeMap<&'static str, u64>,
}

impl Checks {
    pub fn on_start(&mut self, at: usize, applied: LogIndex) {
        self.applied_now.insert(at, applied);
    }

    pub fn on_leader(&mut self, term: Term, at: usize) {
        let leader = *self.leaders.entry(term).or_insert(at);
        assert_eq!(leader, at, "two leaders in {term:?}");
    }

    pub fn on_flush(&mut self, records: &[Record]) {
        for record in records {
            let Record::Append { entries, .. } = record else { continue };
            for entry in entries {
                let this = (entry.kind, entry.payload.clone());
                let known =
                    self.written.entry((entry.id.index, entry.id.term)).or_insert_with(|| this.clone());
                assert_eq!(*known, this, "two entries at {:?}", entry.id);
            }
        }
    }

    pub fn on_apply(&mut self, at: usize, entry: &Entry) {
        let index = entry.id.index;
        let before = self.applied_now.insert(at, index).expect("the node started");
        assert_eq!(index, before.next(), "node {} applied out of order", at + 1);
        self.told = self.told.max(index);
        let this = (entry.id.term, entry.payload.clone());
        if let Some(known) = self.applied.get(&index) {
            assert_eq!(*known, this, "node {} applied something else at {index:?}", at + 1);
            return;
        }
        if entry.kind == EntryKind::Normal && !entry.payload.is_empty() {
            assert!(self.seen_once.insert(entry.payload.clone()), "{:?} was applied twice", entry.payload);
        }
        self.applied.insert(index, this);
    }

    /// A node's state machine became the checkpoint at `place`.
    pub fn on_install(&mut self, at: usize, place: LogId) {
        let (term, _) = self.applied.get(&place.index).expect("a checkpoint holds what somebody applied");
        assert_eq!(*term, place.term, "node {} installed another history", at + 1);
        let before = self.applied_now.insert(at, place.index).expect("the node started");
        assert!(before < place.index, "node {} went back from {before:?} to {place:?}", at + 1);
        self.installs += 1;
    }

    pub fn on_acknowledged(&mut self, entry: &Entry) {
        self.acknowledged.insert(entry.id.index, entry.id);
    }

    /// A read on `at` that began when everything up to `seen` had been acknowledged.
    pub fn on_read(&mut self, at: usize, seen: u64) {
        let applied = self.applied_now[&at];
        assert!(applied.0 >= seen, "node {} read at {applied:?} what was older than {seen}", at + 1);
        self.reads += 1;
    }

    /// INV-CONSENSUS-9: `at` reads its state machine as it is.
    pub fn on_read_by_lease(&mut self, at: usize) {
        let applied = self.applied_now[&at];
        assert!(applied >= self.told, "node {} read {applied:?} by its lease after {:?}", at + 1, self.told);
        self.reads_by_lease += 1;
    }

    pub fn on_note(&mut self, note: &Note) {
        let kind = match note {
            Note::MessageDropped { .. } => "message dropped",
            Note::VoteWithheld { .. } => "vote withheld",
            Note::MembershipIgnored { .. } => "membership ignored",
            Note::LeavingJoint { .. } => "leaving joint",
            Note::SteppedDownRemoved => "stepped down removed",
        };
        *self.notes.entry(kind).or_default() += 1;
    }

    pub fn acknowledged_last(&self) -> u64 {
        self.acknowledged.last_key_value().map_or(0, |(index, _)| index.0)
    }

    pub fn acknowledged_count(&self) -> usize {
        self.acknowledged.len()
    }

    pub fn leader_count(&self) -> usize {
        self.leaders.len()
    }

    /// After healing, with all members caught up.
    pub fn at_end(&self) {
        for (index, id) in &self.acknowledged {
            let (term, _) = self.applied.get(index).expect("an acknowledged entry was applied");
            assert_eq!(*term, id.term, "the acknowledged entry {id:?} was replaced");
        }
    }
}
