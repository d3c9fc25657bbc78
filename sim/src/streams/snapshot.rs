//! What a stream says of itself, all at one instant: its entries, how far the group has read, and who has which entries.

use std::collections::{BTreeMap, BTreeSet};

use super::{GROUP, Id, Stream, parse_id, text};
use crate::model::Plain;

/// The value of a name in a map that is told as a list.
fn field<'a>(told: &'a [Plain], name: &str) -> Option<&'a Plain> {
    let at = told.iter().step_by(2).position(|n| *n == Plain::Text(text(name)))?;
    told.get(2 * at + 1)
}

fn list<'a>(told: &'a [Plain], name: &str) -> Option<&'a [Plain]> {
    if let Some(Plain::List(list)) = field(told, name) { Some(list) } else { None }
}

fn id(told: &Plain) -> Option<Id> {
    if let Plain::Text(text) = told { parse_id(text) } else { None }
}

impl Stream {
    /// Checks the reply to `XINFO STREAM … FULL`.
    pub(super) fn on_snapshot(&mut self, told: &[Plain], since: u64) -> Result<(), String> {
        self.on_entries(list(told, "entries").ok_or("no entries")?, since)?;
        let entries: Vec<Id> = list(told, "entries")
            .unwrap_or_default()
            .iter()
            .filter_map(|e| super::entry_of(e).map(|e| e.0))
            .collect();
        let group = list(told, "groups").ok_or("no groups")?.iter().find_map(|group| match group {
            Plain::List(group) if field(group, "name") == Some(&Plain::Text(text(GROUP))) => Some(group),
            _ => None,
        });
        let Some(group) = group else {
            return match self.made {
                Some(made) if made < since => Err("the group is gone".into()),
                _ => Ok(()),
            };
        };
        let last = field(group, "last-delivered-id").and_then(id).ok_or("no last-delivered-id")?;
        let pending = owners(group).ok_or("a strange list of what is pending")?;
        check_consumers(group, &pending)?;
        self.check_pending(&entries, last, &pending, since)
    }

    fn check_pending(
        &self,
        entries: &[Id],
        last: Id,
        pending: &BTreeMap<Id, Vec<u8>>,
        since: u64,
    ) -> Result<(), String> {
        let is_acked =
            |id: &Id| self.acks.get(id).is_some_and(|acks| acks.done.is_some_and(|done| done < since));
        if let Some(id) = pending.keys().find(|id| is_acked(id)) {
            return Err(format!("entry {id:?} is pending after its acknowledgement"));
        }
        if let Some((id, _)) = self.delivered.iter().find(|(id, known)| **known < since && **id > last) {
            return Err(format!("entry {id:?} was delivered, and the group is at {last:?}"));
        }
        let there: BTreeSet<&Id> = entries.iter().collect();
        if let Some(id) = pending.keys().find(|id| **id > last || !there.contains(id)) {
            return Err(format!(
                "entry {id:?} is pending and was not delivered, or is gone; the group is at {last:?}"
            ));
        }
        let may_be_acked = |id: &Id| self.acks.get(id).is_some_and(|acks| acks.sent > 0);
        match entries.iter().find(|id| **id <= last && !pending.contains_key(id) && !may_be_acked(id)) {
            Some(id) => {
                Err(format!("entry {id:?} was delivered, is not pending, and nobody acknowledged it"))
            }
            None => Ok(()),
        }
    }
}

/// Who has each entry, as the group says.
fn owners(group: &[Plain]) -> Option<BTreeMap<Id, Vec<u8>>> {
    let owner = |delivery: &Plain| match delivery {
        Plain::List(parts) => match &parts[..] {
            [entry, Plain::Text(consumer), Plain::Int(_), Plain::Int(1..)] => {
                Some((id(entry)?, consumer.clone()))
            }
            _ => None,
        },
        _ => None,
    };
    list(group, "pending")?.iter().map(owner).collect()
}

/// Compares what the consumers say they have with what the group says.
fn check_consumers(group: &[Plain], pending: &BTreeMap<Id, Vec<u8>>) -> Result<(), String> {
    let strange = "a strange list of consumers";
    let mut had: BTreeMap<Id, Vec<u8>> = BTreeMap::new();
    for consumer in list(group, "consumers").ok_or(strange)? {
        let Plain::List(consumer) = consumer else { return Err(strange.into()) };
        let Some(Plain::Text(name)) = field(consumer, "name") else { return Err(strange.into()) };
        for delivery in list(consumer, "pending").ok_or(strange)? {
            let Plain::List(parts) = delivery else { return Err(strange.into()) };
            let entry = parts.first().and_then(id).ok_or(strange)?;
            if let Some(other) = had.insert(entry, name.clone()) {
                return Err(format!("entry {entry:?} is pending for {other:?} and {name:?}"));
            }
        }
    }
    if had == *pending { Ok(()) } else { Err("the group and its consumers differ in what is pending".into()) }
}
