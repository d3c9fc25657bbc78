//! From the end of the faults to the end of the run: everything must be well again in time, clients compare all they know, the
//! nodes stop cleanly and are started once more.

use std::collections::{BTreeMap, BTreeSet};

use skep_base::{GroupId, LogId};

use super::{End, Event, World};
use crate::client::{Client, State};
use crate::plan::MS;
use crate::process::Arrival;

/// After the faults have ended everything must be well again in this time (virtual), or the cluster is stuck.
const HEALING_US_MAX: u64 = 60_000 * MS;
/// How long requests of clients that are gone may linger in a cluster that is well.
const LINGER_US: u64 = 1_000 * MS;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Phase {
    Working,
    /// No new work, no new faults.
    Draining,
    Auditing,
    /// All copies are to come to the same position.
    Converging,
    Stopping,
    /// Started once more after a clean stop.
    Last,
    Over,
}

impl World {
    pub(super) fn on_heal(&mut self) {
        self.note("faults end");
        self.phase = Phase::Draining;
        self.phase_until = self.now + HEALING_US_MAX;
        self.on_mend(None);
        for node in 0..self.machines.len() {
            let machine = &mut self.machines[node];
            machine.disk.set_capacity(None);
            machine.disk.restart(); // ends an error that has not struck yet
            machine.slowness = 1;
            self.on_disk_answers(node);
            self.on_resume(node);
            if self.machines[node].process.is_none() {
                let soon = self.within(50 * MS);
                self.at(soon, Event::Start { node });
            }
        }
    }

    /// Looks whether the phase is over, and which clients have waited too long.
    pub(super) fn on_look(&mut self) -> Result<(), String> {
        self.at(self.now + 5 * MS, Event::Look);
        self.step_operator();
        self.step_damage();
        (0..self.machines.len()).for_each(|node| self.look_after_removed(node));
        if self.phase == Phase::Working {
            self.end_patience();
            return Ok(());
        }
        match self.phase {
            Phase::Draining if self.is_quiet() && self.has_lingered() => {
                self.note("audit");
                self.phase = Phase::Auditing;
                for client in 0..self.clients.len() {
                    self.clients[client].audit_next();
                    self.disconnect(client);
                }
            }
            Phase::Auditing if self.is_quiet() => {
                let keys = self.histories.check()?;
                let (answered, uncertain) = self.histories.counts();
                self.count_by("keys with a history", keys);
                let (replaced, stopped) = self.histories.replaced();
                self.count_by("registers replaced while watched", replaced);
                self.count_by("replacements stopped", stopped);
                self.count_by("operations in histories", answered);
                self.count_by("operations in histories, uncertain", uncertain);
                self.phase = Phase::Converging;
            }
            Phase::Converging if self.is_quiet() => {
                if self.converged()? {
                    self.stop_all();
                }
            }
            Phase::Last if self.machines.iter().all(|m| m.removed || m.ready) => self.phase = Phase::Over,
            _ => self.end_patience(),
        }
        Ok(())
    }

    /// True if all nodes are ready and no client waits for anything.
    fn is_quiet(&self) -> bool {
        self.operator.is_idle()
            && self.machines.iter().all(|m| m.removed || m.process.is_some() && m.ready)
            && self.clients.iter().all(|c| c.state == State::Up && c.is_idle())
    }

    fn has_lingered(&self) -> bool {
        let since = self.phase_until - HEALING_US_MAX;
        self.plan.alone() || self.now >= since + LINGER_US
    }

    fn stop_all(&mut self) {
        self.note("stop");
        self.phase = Phase::Stopping;
        for node in 0..self.machines.len() {
            self.arrive(node, Arrival::Stop);
        }
    }

    /// True if every shard has its number of copies, all at the same position.
    ///
    /// # Errors
    /// Two copies differ there, or one from what was agreed on.
    fn converged(&mut self) -> Result<bool, String> {
        if self.has_damage() || self.is_alarmed() {
            return Ok(false);
        }
        let aim = self.plan.replicas.min(self.live() as u64) as usize;
        let mut digests: BTreeMap<GroupId, BTreeMap<LogId, BTreeSet<u64>>> = BTreeMap::new();
        let statuses = self.machines.iter().filter_map(|m| m.process.as_ref()).map(|p| p.status());
        let mut positions: BTreeMap<GroupId, Vec<u64>> = BTreeMap::new();
        for status in statuses {
            for shard in status.shards {
                if shard.replicas.iter().any(|replica| replica.node == status.node && replica.voter) {
                    positions.entry(shard.id).or_default().push(shard.applied);
                }
            }
        }
        let even = |applied: &Vec<u64>| applied.len() >= aim && applied.iter().all(|a| *a == applied[0]);
        if positions.len() < self.plan.shards as usize || !positions.values().all(even) {
            return Ok(false);
        }
        for process in self.machines.iter().filter_map(|m| m.process.as_ref()) {
            for (group, at, digest) in process.digests() {
                digests.entry(group).or_default().entry(at).or_default().insert(digest);
            }
        }
        for (group, by_position) in &digests {
            for (at, found) in by_position {
                let agreed = self.agreed.digest(*group, at.index)?;
                if found.len() > 1 || agreed.is_some_and(|agreed| !found.contains(&agreed)) {
                    return Err(format!(
                        "INV-SIM-19: at {at:?} of {group:?} the copies have the digests {found:x?}, agreed is {agreed:x?}"
                    ));
                }
            }
        }
        self.count_by("copies compared at the end", positions.values().map(|p| p.len() as u64).sum());
        Ok(true)
    }

    /// A node stopped as it was asked to.
    pub(super) fn on_clean_stop(&mut self, node: usize) {
        self.note(&format!("{node} stopped cleanly"));
        let end = if self.rng.one_in(2) { End::PowerCut } else { End::Kill };
        self.end(node, end);
        self.lose_clients_of(node, false);
        if self.machines.iter().any(|m| m.process.is_some()) {
            return;
        }
        self.phase = Phase::Last;
        for node in 0..self.machines.len() {
            let again = self.within(50 * MS);
            self.at(again, Event::Start { node });
        }
    }

    pub(super) fn explain_stuck(&self) -> String {
        let owed: Vec<_> = self.clients.iter().flat_map(Client::owed).take(3).collect();
        let mut text = format!(
            "INV-SIM-10: not well again {} s after the faults ended, in phase {:?}; clients wait for {owed:?}",
            HEALING_US_MAX / MS / 1_000,
            self.phase
        );
        for (node, machine) in self.machines.iter().enumerate() {
            text.push_str(&format!("\n  machine {node}: "));
            let Some(process) = &machine.process else {
                text.push_str("no process");
                continue;
            };
            let status = process.status();
            text.push_str(&format!("ready {}, {}, {:?}", machine.ready, status.node, status.reason));
            for shard in status.shards {
                text.push_str(&format!(
                    "\n    {:?} led by {:?} in term {}, applied {}, epoch {}, {:?}",
                    shard.id, shard.leader, shard.term, shard.applied, shard.epoch, shard.replicas
                ));
            }
        }
        text
    }
}
