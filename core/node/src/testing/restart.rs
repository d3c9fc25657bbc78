//! A node of a test that dies and starts again from what its disk was given.

use std::collections::BTreeMap;

use skep_base::{GroupId, LogId, Millis};
use skep_log::{GroupLog, Record};
use skep_settings::Settings;

use super::World;
use crate::{Identity, Node, Restoring};

impl World {
    /// Starts again, from the log and the checkpoints that it names. What was asked of the network before is forgotten.
    pub fn start_again(&mut self) {
        let mut restoring = Restoring::new(logs(&self.log));
        for needed in restoring.needed() {
            for chunk in &self.chunks[&(needed.group, needed.at)] {
                restoring.feed(needed.group, chunk).unwrap();
            }
        }
        let identity = Identity {
            saved: self.node.identity.clone(),
            record: self.node.announced.clone(),
            new_cluster_id: "0".repeat(40),
            run_id: "e".repeat(40),
            process_id: 4712,
            clients_fit: u64::MAX,
            descriptors_fit: u64::MAX,
            incarnation: self.node.incarnation + 1,
            seed: self.node.seed,
            secret: [7; 32],
            replaces: None,
            link_limits: skep_peer::LinkLimits::default(),
            rest: crate::RestPace::default(),
            may_damage: self.node.may_damage,
        };
        self.now.mono = Millis(self.now.mono.0 + 1_000);
        (self.finished, self.begun, self.persist_through) = (Vec::new(), None, 0);
        (self.asked, self.notes) = (Vec::new(), Vec::new());
        let mut out = Vec::new();
        let recovered = restoring.finish().unwrap();
        self.node = Node::start(identity, Settings::default(), recovered, self.now, &mut out);
        self.take(out);
    }
}

/// What the log gives back of records, as `skep_log::Record` words it.
fn logs(records: &[Record]) -> BTreeMap<GroupId, GroupLog> {
    let mut logs: BTreeMap<GroupId, GroupLog> = BTreeMap::new();
    for record in records {
        match record {
            Record::Append { group, entries } => {
                let log = logs.entry(*group).or_default();
                log.entries.retain(|entry| entry.id.index < entries[0].id.index);
                log.entries.extend(entries.iter().cloned());
            }
            Record::HardState { group, state } => logs.entry(*group).or_default().hard_state = *state,
            Record::Checkpoint { group, at, membership } => {
                let log = logs.entry(*group).or_default();
                let holds = |id: LogId| id == *at;
                let keep = holds(log.checkpoint) || log.entries.iter().any(|entry| holds(entry.id));
                log.entries.retain(|entry| keep && entry.id.index > at.index);
                (log.checkpoint, log.membership, log.distrusted) = (*at, membership.clone(), false);
            }
            Record::Removed { group } => drop(logs.remove(group)),
            Record::Distrusted { group } => logs.entry(*group).or_default().distrusted = true,
        }
    }
    logs
}
