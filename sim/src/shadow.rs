//! What one node gave out to be logged, kept beside its disk: what a start finds must be a prefix of it that holds all that
//! was durable.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write;

use skep_base::{GroupId, LogId, LogIndex};
use skep_log::{Entry, GroupLog, Record};

type Logs = BTreeMap<GroupId, GroupLog>;

/// The log of one node as it should be.
#[derive(Default)]
pub struct Shadow {
    /// After all that was given out.
    issued: Logs,
    /// After all that a sync has confirmed.
    durable: Logs,
    /// What is between the two, by the number of the output.
    pending: VecDeque<(u64, Vec<Record>)>,
    /// Entries that checkpoints have taken the place of since [`Shadow::forget_dropped`].
    dropped: BTreeMap<(GroupId, LogIndex), Entry>,
}

impl Shadow {
    /// Takes note of records given out to be logged.
    ///
    /// # Errors
    /// Entries that leave a gap.
    pub fn issue(&mut self, number: u64, records: &[Record]) -> Result<(), String> {
        for record in records {
            if let Record::Checkpoint { group, at, .. } = record
                && let Some(log) = self.issued.get(group)
            {
                let dropped = log.entries.iter().filter(|e| e.id.index <= at.index);
                self.dropped.extend(dropped.map(|e| ((*group, e.id.index), e.clone())));
            }
            apply(&mut self.issued, record)?;
        }
        self.pending.push_back((number, records.to_vec()));
        Ok(())
    }

    /// The entries that checkpoints took the place of have been looked at.
    pub fn forget_dropped(&mut self) {
        self.dropped.clear();
    }

    /// Everything up to output `number` is durable.
    pub fn on_durable(&mut self, number: u64) -> Result<(), String> {
        while self.pending.front().is_some_and(|(n, _)| *n <= number) {
            let (_, records) = self.pending.pop_front().expect("seen in the loop's condition");
            for record in &records {
                apply(&mut self.durable, record)?;
            }
        }
        Ok(())
    }

    /// Compares what a start found with what was given out, and forgets what is lost.
    ///
    /// # Errors
    /// What was found is no state that the log may be in.
    pub fn recover(&mut self, found: &Logs) -> Result<(), String> {
        while self.durable != *found {
            let Some((_, records)) = self.pending.pop_front() else {
                return Err(self.explain(found));
            };
            for record in &records {
                apply(&mut self.durable, record)?;
            }
        }
        self.pending.clear();
        self.issued.clone_from(&self.durable);
        Ok(())
    }

    /// An entry as it was given out last; `None` behind the end, and if a checkpoint took its place.
    pub fn entry(&self, group: GroupId, index: LogIndex) -> Option<&Entry> {
        let log = self.issued.get(&group)?;
        match index.0.checked_sub(log.checkpoint.index.0 + 1) {
            Some(place) => log.entries.get(place as usize),
            None => self.dropped.get(&(group, index)),
        }
    }

    pub fn checkpoint(&self, group: GroupId) -> LogId {
        self.issued.get(&group).map_or(LogId::default(), |log| log.checkpoint)
    }

    /// The last entry of a group that is durable.
    pub fn durable_last(&self, group: GroupId) -> LogIndex {
        self.durable.get(&group).map_or(LogIndex(0), last_of)
    }

    /// The last entry of a group that was given out.
    pub fn last(&self, group: GroupId) -> LogIndex {
        self.issued.get(&group).map_or(LogIndex(0), last_of)
    }

    fn explain(&self, found: &Logs) -> String {
        let mut text =
            String::from("INV-SIM-2: the log after a start is none of the states that it went through:");
        for group in found.keys().chain(self.issued.keys()) {
            let of = |logs: &Logs| {
                logs.get(group).map_or("nothing".into(), |log| {
                    format!("{:?} to {:?}, {:?}", log.checkpoint, last_of(log), log.hard_state)
                })
            };
            let (durable, issued) = (of(&self.durable), of(&self.issued));
            write!(
                text,
                " {group:?}: found {}, last given out {issued}, looked at up to {durable};",
                of(found)
            )
            .expect("writing to a string does not fail");
        }
        text
    }
}

/// The last entry of a group's log.
pub fn last_of(log: &GroupLog) -> LogIndex {
    log.entries.last().map_or(log.checkpoint.index, |e| e.id.index)
}

/// As the log itself reads its records, in code of its own.
fn apply(logs: &mut Logs, record: &Record) -> Result<(), String> {
    match record {
        Record::Append { group, entries } => {
            let log = logs.entry(*group).or_default();
            let Some(first) = entries.first() else { return Ok(()) };
            let behind = log.checkpoint.index.0 + 1;
            let place = first.id.index.0.checked_sub(behind).filter(|p| *p <= log.entries.len() as u64);
            let Some(place) = place else {
                return Err(format!(
                    "INV-SIM-3: entry {:?} of {group:?} was given out where the log goes from {behind} to {:?}",
                    first.id,
                    last_of(log)
                ));
            };
            log.entries.truncate(place as usize);
            for entry in entries {
                let next = last_of(log).next();
                if entry.id.index != next {
                    return Err(format!(
                        "INV-SIM-3: entry {:?} was given out where {next:?} comes",
                        entry.id
                    ));
                }
                log.entries.push(entry.clone());
            }
        }
        Record::HardState { group, state } => logs.entry(*group).or_default().hard_state = *state,
        Record::Checkpoint { group, at, membership } => {
            let log = logs.entry(*group).or_default();
            let holds = log.entries.iter().any(|e| e.id == *at) || log.checkpoint == *at;
            if holds {
                log.entries.retain(|e| e.id.index > at.index);
            } else {
                log.entries.clear();
            }
            log.checkpoint = *at;
            log.membership = membership.clone();
            log.distrusted = false;
        }
        Record::Removed { group } => drop(logs.remove(group)),
        Record::Distrusted { group } => logs.entry(*group).or_default().distrusted = true,
    }
    Ok(())
}
