//! Machines of the world: how their processes start and end.

use skep_base::NodeUuid;
use skep_log::{Disk, LogFault, MemDisk};

use super::{End, Event, Phase, STARTS_MAX, World};
use crate::plan::MS;
use crate::planted::{Planted, forge_torn_tail};
use crate::process::{Process, Start, StartFault, recover};
use crate::shadow::last_of;

/// A bit that was turned over, and the disk as it was before.
struct Flip {
    file: String,
    offset: u64,
    mask: u8,
    flipped: u8,
    backup: MemDisk,
}

impl World {
    pub(super) fn on_start(&mut self, node: usize) -> Result<(), String> {
        let machine = &self.machines[node];
        if machine.process.is_some() || machine.removed || self.phase == Phase::Stopping {
            return Ok(());
        }
        let machine = &mut self.machines[node];
        machine.life += 1;
        machine.dark = false;
        let (disk, life) = (machine.disk.clone(), machine.life);
        let mut flipped = None;
        if self.phase == Phase::Working && life > 1 {
            if self.plan.flip_in.is_some_and(|n| self.rng.one_in(n)) {
                flipped = self.flip_a_bit(node);
            }
            if self.plan.failing_start_in.is_some_and(|n| self.rng.one_in(n)) {
                disk.fail_after(self.rng.below(40));
            }
        }
        let uuid = NodeUuid(u128::from(self.rng.next_u64()) << 64 | u128::from(self.rng.next_u64()));
        let found = match recover(&disk, &self.plan, uuid, self.planted) {
            Ok(found) => found,
            Err(fault) => return self.on_failed_start(node, fault, flipped),
        };
        if let Some(flip) = flipped {
            self.count("flip harmless");
            self.turn_back(node, &flip);
        }
        self.machines[node].shadow.recover(&found.logs)?;
        self.machines[node].failed_starts = 0;
        self.count("starts");
        for (group, log) in &found.logs {
            let text =
                format!("start {life} of {node}: {group:?} from {:?} to {:?}", log.checkpoint, last_of(log));
            self.note(&text);
            if self.plan.memory {
                self.agreed.forget_behind(*group, last_of(log));
            }
            self.agreed.on_checkpoint(*group, node, log.checkpoint)?;
        }
        let (seed, now) = (self.rng.next_u64(), self.machines[node].clocks.now(self.now));
        let machine = &mut self.machines[node];
        let (join, replaces) = (machine.join.clone(), machine.replaces);
        let cells = self.plan.cells_of(node, life);
        let start = Start { node, life, seed, now, join, replaces, planted: self.planted, cells };
        machine.applied = found.logs.iter().map(|(group, log)| (*group, log.checkpoint.index)).collect();
        machine.ready = false;
        machine.process = Some(Process::start(&self.plan, &disk, found, start));
        self.start_chore(node);
        for cell in 0..cells {
            self.schedule_turn(node, cell, self.now);
        }
        Ok(())
    }

    fn on_failed_start(
        &mut self,
        node: usize,
        fault: StartFault,
        flipped: Option<Flip>,
    ) -> Result<(), String> {
        let machine = &mut self.machines[node];
        machine.failed_starts += 1;
        if machine.failed_starts > STARTS_MAX {
            return Err(format!("INV-SIM-10: {STARTS_MAX} starts in a row failed"));
        }
        let text = match &fault {
            StartFault::Log(fault) => fault.to_string(),
            StartFault::Recover(fault) => fault.to_string(),
        };
        let life = machine.life;
        self.note(&format!("start {life} of {node} failed: {text}"));
        match (fault, flipped) {
            (StartFault::Log(LogFault::Failed(_)), backup) => {
                self.count("start with failing disk");
                if let Some(Flip { backup, .. }) = backup {
                    // The flip was not seen yet; nothing may be concluded from this start.
                    self.machines[node].disk = backup;
                }
                let end = if self.rng.one_in(2) { End::PowerCut } else { End::Kill };
                self.disk_after(node, end);
            }
            (StartFault::Log(LogFault::Full { .. }), backup) => {
                self.count("start with full disk");
                if let Some(Flip { backup, .. }) = backup {
                    self.machines[node].disk = backup;
                }
            }
            (StartFault::Log(LogFault::Damaged { file, .. }), Some(Flip { file: flipped, backup, .. })) => {
                self.count("flip refused");
                // A first start that failed leaves a segment without an identity, which is unused as long as it can be read.
                if file != flipped && !text.contains(&*flipped) {
                    return Err(format!(
                        "INV-SIM-11: {flipped} was damaged, the refusal blames {file}: {text}"
                    ));
                }
                if !text.contains("offset") {
                    return Err(format!("INV-SIM-11: a refusal without an offset: {text}"));
                }
                self.after_damage(node, backup);
            }
            (StartFault::Log(LogFault::Newer { .. }), Some(Flip { backup, .. })) => {
                self.machines[node].disk = backup;
            }
            _ => return Err(format!("INV-SIM-1: a start after nothing but crashes was refused: {text}")),
        }
        let again = self.within(20 * MS);
        self.at(again, Event::Start { node });
        Ok(())
    }

    /// What was damaged is replaced by the cluster if it can, or the undamaged files are put back.
    fn after_damage(&mut self, node: usize, backup: MemDisk) {
        if self.rng.one_in(2) && self.may_lose_disk(node) && self.operator.is_idle() {
            self.empty_disk(node);
        } else {
            self.machines[node].disk = backup;
        }
    }

    /// Turns over one bit of one file.
    fn flip_a_bit(&mut self, node: usize) -> Option<Flip> {
        let mut disk = self.machines[node].disk.clone();
        let names = disk.list().ok()?;
        let name = names.get(self.rng.below(names.len().max(1) as u64) as usize)?.clone();
        let len = disk.len(&name).ok().filter(|len| *len > 0)?;
        let backup = disk.fork();
        let (offset, mask) = (self.rng.below(len), 1 << self.rng.below(8));
        disk.flip(&name, offset, mask);
        let flipped = disk.content(&name)?[offset as usize];
        self.note(&format!("bit flipped in {name} of {node} at {offset}"));
        self.count("bit flips");
        Some(Flip { file: name, offset, mask, flipped, backup })
    }

    /// A start that did not need the flipped byte leaves it where it is, to be found by a later one; that is decay like any
    /// other, but the simulation of this start is over, so the bit is turned back.
    fn turn_back(&mut self, node: usize, flip: &Flip) {
        let disk = &self.machines[node].disk;
        let content = disk.content(&flip.file);
        if content.is_some_and(|c| c.get(flip.offset as usize) == Some(&flip.flipped)) {
            disk.flip(&flip.file, flip.offset, flip.mask);
        }
    }

    /// The process ends, its connections with it, and starts again in a while.
    pub(super) fn die(&mut self, node: usize, end: End) {
        if !self.end(node, end) {
            return;
        }
        let lossy = self.plan.memory;
        if lossy {
            self.ledger.on_lossy_crash();
            self.histories.on_lossy_crash();
        }
        self.lose_clients_of(node, lossy);
        let long = !self.plan.alone() && self.phase == Phase::Working && self.rng.one_in(3);
        let again = self.within(if long { self.plan.outage_us } else { 50 * MS });
        self.at(again, Event::Start { node });
    }

    /// The connections to a process end with it.
    pub(super) fn lose_clients_of(&mut self, node: usize, lossy: bool) {
        for client in 0..self.clients.len() {
            if self.clients[client].node == node {
                self.lose_connection(client, true, lossy);
            }
        }
    }

    /// The process ends. False if there was none.
    pub(super) fn end(&mut self, node: usize, end: End) -> bool {
        let Some(process) = self.machines[node].process.take() else { return false };
        let status = process.status();
        let links = status.links;
        self.count_by("answers given again", status.said_again);
        self.count_by("messages between nodes", links.messages_in);
        self.count_by("pieces of messages between nodes", links.pieces_in);
        self.end_links(node, end == End::Kill);
        let machine = &mut self.machines[node];
        machine.waiting.clear();
        (machine.paused, machine.ready, machine.dark) = (false, false, end == End::PowerCut);
        self.note(&format!("{end:?} of {node}"));
        self.count(if end == End::PowerCut { "power cuts" } else { "kills" });
        self.disk_after(node, end);
        true
    }

    fn disk_after(&mut self, node: usize, end: End) {
        let machine = &mut self.machines[node];
        match end {
            End::PowerCut => {
                machine.disk.crash(&mut self.rng);
                machine.clocks.reboot(self.now, &mut self.rng);
                if self.planted == Some(Planted::TornTailAccepted) {
                    forge_torn_tail(&mut machine.disk, self.plan.wal_config().salt);
                }
            }
            End::Kill => machine.disk.restart(),
        }
    }

    /// The disk failed under the process, which stops at once; what is durable is unknown.
    pub(super) fn on_disk_fault(&mut self, node: usize, fault: &LogFault) {
        self.note(&format!("the process of {node} stops: {fault}"));
        self.count("stops by failed disk");
        let end = if self.rng.one_in(2) { End::PowerCut } else { End::Kill };
        self.die(node, end);
    }
}
