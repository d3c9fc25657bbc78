//! The groups as the batches of the log leave them, one batch after the other.
//!
//! Owns no file. Invariants: INV-LOG-5 (no live entry is missing); records that contradict each other are refused, not
//! believed.

use std::collections::{BTreeMap, VecDeque};

use skep_base::varint::Reader;
use skep_base::{GroupId, LogIndex};

use crate::block::BLOCK_BYTES;
use crate::codec::{self, Logged};
use crate::fault::LogFault;
use crate::index::{GroupIndex, Index, MISSING};
use crate::record::{Entry, GroupLog};
use crate::segment::{self, Segment};

/// The groups as the batches so far left them.
#[derive(Default)]
pub(crate) struct Replay {
    pub index: Index,
    entries: BTreeMap<GroupId, Held>,
    started: bool,
}

/// Entries read so far of one group; `None` where only a missing segment, or a later one, can have the entry.
#[derive(Default)]
struct Held {
    /// Index of the first.
    first: u64,
    entries: VecDeque<Option<Entry>>,
}

/// Entries of a log that a state record may announce without showing them: more than any memory holds.
const HOLES_MAX: u64 = 1 << 28;

impl Held {
    fn place(&self, index: LogIndex) -> usize {
        index.0.checked_sub(self.first).expect("the index admitted it, so it is behind the checkpoint")
            as usize
    }

    fn append(&mut self, entries: Vec<Entry>) {
        let Some(first) = entries.first() else { return };
        self.entries.truncate(self.place(first.id.index));
        self.entries.extend(entries.into_iter().map(Some));
    }

    fn checkpoint(&mut self, at: LogIndex, keep: bool) {
        let dead = (at.0 + 1 - self.first).min(self.entries.len() as u64) as usize;
        self.entries.drain(..if keep { dead } else { self.entries.len() });
        self.first = at.0 + 1;
    }

    fn rewrite(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            let place = self.place(entry.id.index);
            self.entries[place] = Some(entry);
        }
    }
}

impl Replay {
    pub fn on_batch(&mut self, segment: Segment, position: u32, payload: &[u8]) -> Result<(), LogFault> {
        let fault = |found: String| {
            LogFault::damaged(&segment.file(), u64::from(position) * BLOCK_BYTES as u64, found)
        };
        let mut reader = Reader::new(payload);
        let mut states = BTreeMap::new();
        let mut is_first = true;
        let mut in_states = false;
        while reader.left() > 0 {
            let at = reader.offset();
            let logged =
                codec::decode(&mut reader).map_err(|m| fault(format!("the batch does not parse: {m}")))?;
            let is_start = matches!(logged, Logged::Start { .. });
            if is_start != (is_first && position == 0) {
                return Err(fault(format!("a segment start misplaced, at byte {at} of the batch")));
            }
            is_first = false;
            match logged {
                Logged::Start { segment: number, blocks } => {
                    if (number, blocks) != (segment.number, segment.blocks) {
                        return Err(LogFault::damaged(
                            &segment.file(),
                            u64::from(segment.blocks.min(blocks)) * BLOCK_BYTES as u64,
                            format!(
                                "the file has {} bytes, segment {number} was made with {}",
                                u64::from(segment.blocks) * BLOCK_BYTES as u64,
                                u64::from(blocks) * BLOCK_BYTES as u64
                            ),
                        ));
                    }
                    in_states = true;
                }
                Logged::State { group, state } if in_states => {
                    states.insert(group, state);
                }
                other => {
                    if std::mem::take(&mut in_states) {
                        self.on_states(std::mem::take(&mut states)).map_err(fault)?;
                    }
                    self.on_record(other, segment.number).map_err(fault)?;
                }
            }
        }
        if in_states {
            self.on_states(states).map_err(fault)?;
        }
        Ok(())
    }

    /// The states at the head of a segment: the start of knowledge in the oldest segment, a cross-check in the others.
    fn on_states(&mut self, states: BTreeMap<GroupId, codec::GroupState>) -> Result<(), String> {
        if std::mem::replace(&mut self.started, true) {
            let known = self.index.groups.iter().map(|(g, i)| (g, &i.state));
            if !known.eq(states.iter()) {
                return Err("the states of the groups differ from what the segments before say".into());
            }
            return Ok(());
        }
        for (group, state) in states {
            let first = state.checkpoint.index.0 + 1;
            let holes = match (state.last.index.0 + 1).checked_sub(first) {
                Some(holes) if holes <= HOLES_MAX => holes,
                _ => return Err(format!("group {group}: a log from {} to {}", first, state.last.index)),
            };
            let entries = (0..holes).map(|_| None).collect();
            self.entries.insert(group, Held { first, entries });
            self.index.groups.insert(group, GroupIndex::from_state(state));
        }
        Ok(())
    }

    fn on_record(&mut self, logged: Logged, segment: u64) -> Result<(), String> {
        match logged {
            Logged::Start { .. } | Logged::State { .. } => Err("a state of a group is misplaced".into()),
            Logged::Append { group, entries } => {
                let index = self.index.groups.entry(group).or_default();
                if let Some(why) = index.refuses(&entries) {
                    return Err(format!("group {group}: {why}"));
                }
                index.append(&entries, segment);
                self.held(group).append(entries);
                Ok(())
            }
            Logged::HardState { group, state } => {
                self.index.groups.entry(group).or_default().state.hard_state = state;
                Ok(())
            }
            Logged::Checkpoint { group, at, membership, keep } => {
                let index = self.index.groups.entry(group).or_default();
                if at.index < index.state.checkpoint.index {
                    return Err(format!("group {group}: the checkpoint goes back to {}", at.index));
                }
                index.checkpoint(at, &membership, keep);
                self.held(group).checkpoint(at.index, keep);
                Ok(())
            }
            Logged::Removed { group } => {
                self.index.groups.remove(&group);
                self.entries.remove(&group);
                Ok(())
            }
            Logged::Distrusted { group } => {
                self.index.groups.entry(group).or_default().state.distrusted = true;
                Ok(())
            }
            Logged::Rewrite { group, entries } => {
                let Some(index) = self.index.groups.get_mut(&group) else {
                    return Err(format!("group {group}: entries rewritten of an unknown group"));
                };
                if let Some(dead) = entries.iter().find(|e| index.run_of(e.id.index).is_none()) {
                    return Err(format!("group {group}: entry {} rewritten is not live", dead.id.index));
                }
                index.relocate(&entries, segment);
                self.held(group).rewrite(entries);
                Ok(())
            }
        }
    }

    fn held(&mut self, group: GroupId) -> &mut Held {
        self.entries.entry(group).or_insert(Held { first: 1, entries: VecDeque::new() })
    }

    /// What the groups have, if nothing of it is missing. `used` are the segments read.
    pub fn finish(&mut self, used: &[Segment]) -> Result<BTreeMap<GroupId, GroupLog>, LogFault> {
        let mut logs = BTreeMap::new();
        for (group, index) in &self.index.groups {
            if let Some(run) = index.runs.iter().find(|run| run.segment == MISSING) {
                let before = used.first().map_or(0, |s| s.number.saturating_sub(1));
                return Err(LogFault::damaged(
                    &segment::file_name(before),
                    0,
                    format!(
                        "the segment is missing, and with it entries {} to {} of group {group}",
                        run.first, run.last
                    ),
                ));
            }
            let held = self.entries.remove(group).unwrap_or_default();
            let entries: Vec<Entry> = held.entries.into_iter().flatten().collect();
            let state = &index.state;
            assert_eq!(
                entries.len() as u64,
                state.last.index.0 - state.checkpoint.index.0,
                "{group:?} has other entries than its index says: {state:?}"
            );
            logs.insert(
                *group,
                GroupLog {
                    checkpoint: state.checkpoint,
                    membership: state.membership.clone(),
                    hard_state: state.hard_state,
                    entries,
                    distrusted: state.distrusted,
                },
            );
        }
        Ok(logs)
    }
}
