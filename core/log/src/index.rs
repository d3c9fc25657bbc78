//! Where each group stands and which segments its live entries lie in. The log and its recovery feed the same index with
//! the same records, so what is true while running is true after a restart.

use std::collections::{BTreeMap, VecDeque};

use skep_base::{GroupId, LogId, LogIndex, Term};

use crate::codec::{GroupState, entry_len};
use crate::record::{Entry, Membership, Record};

/// Stands for segments that are gone. After recovery no live entry may lie there (INV-LOG-5).
pub(crate) const MISSING: u64 = 0;

/// Live entries with consecutive indexes, one term and one segment.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Run {
    pub first: LogIndex,
    pub last: LogIndex,
    pub term: Term,
    pub segment: u64,
    /// Encoded; an estimate once the run has been split.
    pub bytes: u64,
}

impl Run {
    /// The part from `first` to `last`, both within the run.
    fn part(&self, first: LogIndex, last: LogIndex) -> Run {
        let (some, all) = (last.0 - first.0 + 1, self.last.0 - self.first.0 + 1);
        let bytes = (u128::from(self.bytes) * u128::from(some) / u128::from(all)) as u64;
        Run { first, last, bytes, ..*self }
    }
}

/// One group: its state, and the runs of the entries behind its checkpoint, consecutive up to `state.last`.
#[derive(Clone, Default, Debug)]
pub(crate) struct GroupIndex {
    pub state: GroupState,
    pub runs: VecDeque<Run>,
}

impl GroupIndex {
    /// A group known by the state that a segment began with; its entries are yet to be found.
    pub fn from_state(state: GroupState) -> GroupIndex {
        let mut runs = VecDeque::new();
        if state.last.index > state.checkpoint.index {
            let (first, last) = (state.checkpoint.index.next(), state.last.index);
            runs.push_back(Run { first, last, term: state.last.term, segment: MISSING, bytes: 0 });
        }
        GroupIndex { state, runs }
    }

    /// The term at `index`, if the log holds it or the checkpoint ends there.
    fn term_at(&self, index: LogIndex) -> Option<Term> {
        if index == self.state.checkpoint.index {
            return Some(self.state.checkpoint.term);
        }
        self.run_of(index).map(|run| run.term)
    }

    pub fn run_of(&self, index: LogIndex) -> Option<&Run> {
        let at = self.runs.partition_point(|run| run.last < index);
        self.runs.get(at).filter(|run| run.first <= index)
    }

    /// Whether entries behind `at` survive a checkpoint there (Raft, figure 13, step 6).
    pub fn keeps_behind(&self, at: LogId) -> bool {
        self.term_at(at.index) == Some(at.term)
    }

    /// Why entries cannot follow, or `None` if they can.
    pub fn refuses(&self, entries: &[Entry]) -> Option<String> {
        let Some(first) = entries.first() else { return Some("an append without entries".into()) };
        let (checkpoint, last) = (self.state.checkpoint.index, self.state.last.index);
        if first.id.index <= checkpoint || first.id.index > last.next() {
            return Some(format!(
                "entries from {} in a log from {checkpoint} (exclusive) to {last}",
                first.id.index
            ));
        }
        let step = entries.windows(2).find(|w| w[1].id.index != w[0].id.index.next());
        step.map(|w| format!("entry {} follows {}", w[1].id.index, w[0].id.index))
    }

    pub fn append(&mut self, entries: &[Entry], segment: u64) {
        let Some(first) = entries.first() else { return };
        if first.id.index <= self.state.last.index {
            self.truncate(first.id.index);
        }
        for entry in entries {
            extend(&mut self.runs, entry, segment);
            self.state.last = entry.id;
        }
    }

    /// Drops entries from `first` on. The caller sets `state.last`.
    fn truncate(&mut self, first: LogIndex) {
        while let Some(run) = self.runs.pop_back() {
            if run.last < first {
                self.runs.push_back(run);
                break;
            }
            if run.first < first {
                let last = LogIndex(first.0 - 1);
                self.runs.push_back(run.part(run.first, last));
                break;
            }
        }
    }

    pub fn checkpoint(&mut self, at: LogId, membership: &Membership, keep: bool) {
        self.state.checkpoint = at;
        self.state.membership = membership.clone();
        self.state.distrusted = false;
        if !keep {
            self.runs.clear();
        }
        while let Some(run) = self.runs.pop_front() {
            if run.last <= at.index {
                continue;
            }
            let first = run.first.max(at.index.next());
            self.runs.push_front(run.part(first, run.last));
            break;
        }
        if self.runs.is_empty() {
            self.state.last = at;
        }
    }

    /// Notes that `entries`, which the group holds already, lie in `segment` too.
    pub fn relocate(&mut self, entries: &[Entry], segment: u64) {
        let (Some(first), Some(last)) = (entries.first(), entries.last()) else { return };
        let (first, last) = (first.id.index, last.id.index);
        let mut runs = VecDeque::with_capacity(self.runs.len() + 2);
        let mut moved = false;
        for run in &self.runs {
            if run.first < first {
                runs.push_back(run.part(run.first, run.last.min(LogIndex(first.0 - 1))));
            }
            if run.last >= first && !moved {
                entries.iter().for_each(|entry| extend(&mut runs, entry, segment));
                moved = true;
            }
            if run.last > last {
                runs.push_back(run.part(run.first.max(last.next()), run.last));
            }
        }
        self.runs = runs;
    }
}

fn extend(runs: &mut VecDeque<Run>, entry: &Entry, segment: u64) {
    let bytes = entry_len(entry) as u64;
    match runs.back_mut() {
        Some(run)
            if run.segment == segment && run.term == entry.id.term && run.last.next() == entry.id.index =>
        {
            run.last = entry.id.index;
            run.bytes += bytes;
        }
        _ => runs.push_back(Run {
            first: entry.id.index,
            last: entry.id.index,
            term: entry.id.term,
            segment,
            bytes,
        }),
    }
}

/// All groups of the node.
#[derive(Clone, Default, Debug)]
pub(crate) struct Index {
    pub groups: BTreeMap<GroupId, GroupIndex>,
}

impl Index {
    /// Takes in a caller's record, which is about to lie in `segment`. Gives `keep` of a checkpoint.
    ///
    /// # Panics
    /// If the record contradicts what the log holds: the caller has a bug, and writing it would make the log unreadable.
    pub fn take(&mut self, record: &Record, segment: u64) -> bool {
        match record {
            Record::Append { group, entries } => {
                let index = self.groups.entry(*group).or_default();
                if let Some(why) = index.refuses(entries) {
                    panic!("append to {group:?}: {why}");
                }
                index.append(entries, segment);
                false
            }
            Record::HardState { group, state } => {
                self.groups.entry(*group).or_default().state.hard_state = *state;
                false
            }
            Record::Checkpoint { group, at, membership } => {
                let index = self.groups.entry(*group).or_default();
                let before = index.state.checkpoint;
                assert!(
                    at.index >= before.index,
                    "checkpoint of {group:?} goes back from {before:?} to {at:?}"
                );
                let keep = index.keeps_behind(*at);
                index.checkpoint(*at, membership, keep);
                keep
            }
            Record::Removed { group } => {
                self.groups.remove(group);
                false
            }
            Record::Distrusted { group } => {
                self.groups.entry(*group).or_default().state.distrusted = true;
                false
            }
        }
    }

    /// The oldest segment that holds a live entry.
    pub fn oldest_needed(&self) -> Option<u64> {
        self.groups.values().flat_map(|g| g.runs.iter().map(|run| run.segment)).min()
    }

    /// Live runs in `segment`, by group.
    pub fn runs_in(&self, segment: u64) -> impl Iterator<Item = (GroupId, &Run)> {
        self.groups
            .iter()
            .flat_map(move |(g, i)| i.runs.iter().filter(move |r| r.segment == segment).map(move |r| (*g, r)))
    }
}
