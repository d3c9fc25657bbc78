//! Memory that is damaged while a node runs: the state of one copy changes, and nothing in the log says so.
//!
//! INV-SIM-20: such a copy is found by its digest and rebuilt, unless a start forgets the damage; no other is. The key that is
//! damaged is in a database that no client uses, since an odd leader answers wrongly until it is found. One copy is damaged at
//! a time, of shards with three voters or more: with two of three, nobody can tell which are right.

use skep_base::args::OwnedArgs;
use skep_base::{GroupId, NodeId, slot_of};
use skep_node::{CellId, Note};

use super::{Phase, World};
use crate::plan::{Fault, MS};

/// While a copy is damaged, or is said to be, copies are compared this often; a cluster does it once a minute.
const COMPARE_US: u64 = 200 * MS;
/// No client selects it.
const DATABASE: u8 = 15;

impl World {
    /// Damages a copy on a machine, if that leaves a majority of right ones.
    pub(super) fn damage(&mut self, node: usize) {
        // Evictions and plans of an operator may take the damage, or the right copies, away.
        // So does a move where there are two copies but while it lasts.
        let moves = self.plan.replicas < 3;
        let spreads = moves || self.plan.has(Fault::Operate) || self.plan.maxmemory.is_some();
        if spreads || self.plan.alone() || self.machines.iter().any(|m| !m.damaged.is_empty()) {
            return;
        }
        let key = format!("damaged-{}", self.rng.below(1_000));
        let slot = slot_of(key.as_bytes());
        let Some(process) = &self.machines[node].process else { return };
        let status = process.status();
        let owns =
            |shard: &&skep_node::ShardStatus| shard.slots.iter().any(|(a, b)| (*a..=*b).contains(&slot));
        let Some(shard) = status.shards.iter().find(owns) else { return };
        let voters: Vec<NodeId> = shard.replicas.iter().filter(|r| r.voter).map(|r| r.node).collect();
        if voters.len() < 3 || !voters.contains(&status.node) {
            return;
        }
        let group = shard.id;
        let machine = &mut self.machines[node];
        let Some(process) = machine.process.as_mut().filter(|_| !machine.paused) else { return };
        let home = CellId::home(process.cells.len(), group);
        let command = OwnedArgs::collect(["SET", &key, "1"].map(str::as_bytes));
        if process.cells[home].node.damage(DATABASE, command.args()) {
            self.soon_in(node, home);
            self.note(&format!("{group:?} of {node} is damaged"));
            self.count("copies damaged");
            self.machines[node].damaged.insert(group);
            self.compare_at = self.now;
        }
    }

    /// Has copies compared while there is a reason to.
    pub(super) fn step_damage(&mut self) {
        if self.now < self.compare_at {
            return;
        }
        self.compare_at = self.now + COMPARE_US;
        for machine in self.machines.iter_mut().filter(|machine| machine.ready && !machine.damaged.is_empty())
        {
            let Some(process) = &machine.process else { continue };
            let held: Vec<GroupId> = process.digests().into_iter().map(|(group, ..)| group).collect();
            // Else the copy was taken from the node.
            machine.damaged.retain(|group| held.contains(group));
        }
        if self.has_damage() || self.is_alarmed() {
            for node in 0..self.machines.len() {
                let machine = &mut self.machines[node];
                let Some(process) = machine.process.as_mut().filter(|_| !machine.paused) else { continue };
                let cells = process.cells.len();
                process.cells.iter_mut().for_each(|cell| cell.node.compare_copies());
                (0..cells).for_each(|cell| self.soon_in(node, cell));
            }
        }
    }

    pub(super) fn has_damage(&self) -> bool {
        self.machines.iter().any(|machine| !machine.damaged.is_empty())
    }

    /// True if some node says that a copy differs, or is being rebuilt.
    pub(super) fn is_alarmed(&self) -> bool {
        let statuses = self.machines.iter().filter_map(|m| m.process.as_ref()).map(|p| p.status());
        let replicas = statuses.flat_map(|status| status.shards).flat_map(|shard| shard.replicas);
        replicas.into_iter().any(|replica| replica.differs || replica.rebuilding)
    }

    /// Looks at what a node says of copies.
    ///
    /// # Errors
    /// It takes a right copy for a wrong one.
    pub(super) fn take_damage_note(&mut self, node: usize, note: &Note) -> Result<(), String> {
        match note {
            Note::Distrusted { group, at } => {
                self.count("odd copies found");
                if !self.machines[node].damaged.contains(group) {
                    return Err(format!("INV-SIM-20: {node} distrusts its copy of {group:?} at {at:?}"));
                }
            }
            Note::Diverged { .. } => self.count("alarms about copies"),
            Note::Rebuilt { .. } => self.count("copies rebuilt"),
            Note::Fetched { group, .. } => drop(self.machines[node].damaged.remove(group)),
            Note::Fetching { group, from, .. } => {
                let source = self.machines.iter().find(|m| m.id == Some(*from));
                if source.is_some_and(|source| source.damaged.contains(group)) {
                    // Nobody can tell any more which copies are right.
                    self.count("damage spread before it was found");
                    self.phase = Phase::Over;
                }
            }
            _ => {}
        }
        Ok(())
    }
}
