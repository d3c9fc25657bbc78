//! What a process and its threads do: turns of the loop, and the steps of the disk. What each turn shows is checked.

use skep_base::{GroupId, LogIndex, NodeId, Term};
use skep_node::{Input, Note, Now};

use super::{Event, Phase, Work, World};
use crate::disk_threads::Next;
use crate::plan::MS;
use crate::planted::Planted;
use crate::process::{Arrival, Conn};

/// Turns without time passing, above which the loop spins.
const TURNS_AT_ONCE_MAX: u64 = 2_000;

impl World {
    pub(super) fn on_turn_due(&mut self, node: usize, cell: usize) -> Result<(), String> {
        let Some(process) = self.machines[node].process.as_mut() else { return Ok(()) };
        let cell_of = &mut process.cells[cell];
        // Else an earlier turn was planned since, or its loop has ended.
        if cell_of.turn_at.is_none_or(|at| at > self.now) || cell_of.stopped {
            return Ok(());
        }
        cell_of.turn_at = None;
        self.on_turn(node, cell)
    }

    fn on_turn(&mut self, node: usize, cell: usize) -> Result<(), String> {
        self.watch_for_spinning(node)?;
        let now = self.machines[node].clocks.now(self.now);
        let believed = self.believed(node, now);
        self.begin_turn(node, cell, believed);
        let machine = &mut self.machines[node];
        let Some(process) = &mut machine.process else { return Ok(()) };
        let keys = process.status().keys;
        process.end_turn(cell, now, keys);
        process.issue(cell, &mut machine.shadow)?;
        self.observe(node)?;
        let Some(process) = &mut self.machines[node].process else { return Ok(()) };
        process.carry_out(cell, &self.agreed, self.planted)?;
        self.take_notes(node)?;
        self.take_link_orders(node);
        self.write_clients(node, cell);
        self.deliver_mail(node, cell);
        self.write_links(node);
        self.check_damage(node)?;
        self.drive_disk(node);
        self.schedule_wakeup(node, cell);
        self.on_stopped(node);
        Ok(())
    }

    /// Puts what a cell has written into the mailboxes of the others, at once; they look when they get to it.
    fn deliver_mail(&mut self, node: usize, cell: usize) {
        loop {
            let Some(process) = &mut self.machines[node].process else { return };
            let Some((to, mail)) = process.cells[cell].node.take_mail() else { return };
            process.cells[to].arrivals.push(Arrival::Mail(mail));
            self.count("mail between cells");
            self.soon_in(node, to);
        }
    }

    /// The time by which a turn takes what has come; for a planted bug, that of before a pause.
    fn believed(&mut self, node: usize, now: Now) -> Now {
        let paused = self.machines[node].paused_at.take();
        match paused {
            Some((before, _)) if self.planted == Some(Planted::LeaseCheckedEarly) => before,
            _ => now,
        }
    }

    /// Hands the node all that has come.
    pub(super) fn begin_turn(&mut self, node: usize, cell: usize, now: Now) {
        self.deal_out(node);
        let Some(process) = &mut self.machines[node].process else { return };
        process.take_said(cell, now);
        for arrival in std::mem::take(&mut process.cells[cell].arrivals) {
            self.take_arrival(node, cell, arrival, now);
        }
    }

    /// Gives the cells what the disk threads have to say.
    fn deal_out(&mut self, node: usize) {
        let Some(process) = &mut self.machines[node].process else { return };
        for cell in process.deal_out() {
            self.soon_in(node, cell);
        }
    }

    /// Compares what the node shows with what all nodes agreed on, and its state now and then.
    fn observe(&mut self, node: usize) -> Result<(), String> {
        let machine = &mut self.machines[node];
        let Some(process) = &machine.process else { return Ok(()) };
        let status = process.status();
        if status.node != NodeId(0) {
            machine.id = Some(status.node);
        }
        let first = status.ready && !machine.ready;
        if first {
            machine.ready = true;
            if self.cluster_id.is_empty() {
                self.cluster_id.clone_from(&status.cluster_id);
            }
        }
        if !status.cluster_id.is_empty() && status.cluster_id != self.cluster_id && machine.ready {
            let id = &self.cluster_id;
            return Err(format!("INV-SIM-13: the cluster {id} became {} on {node}", status.cluster_id));
        }
        let meta = (GroupId::META, status.meta.leader, status.meta.term, status.meta.applied);
        let shards = status.shards.iter().map(|s| (s.id, s.leader, s.term, s.applied));
        for (group, leader, term, applied) in shards.chain([meta]) {
            if leader == Some(status.node) {
                self.agreed.on_leader(group, Term(term), node)?;
            }
            self.learn(node, group, LogIndex(applied))?;
        }
        self.machines[node].shadow.forget_dropped();
        if first || self.rng.one_in(200) {
            self.compare_state(node, first)?;
        }
        if first {
            self.note(&format!("{node} is ready"));
        }
        Ok(())
    }

    /// Takes note of the entries that a node has applied since it was looked at last.
    fn learn(&mut self, node: usize, group: GroupId, applied: LogIndex) -> Result<(), String> {
        let machine = &mut self.machines[node];
        let durable = machine.shadow.durable_last(group);
        if applied > durable && !self.plan.memory && self.planted.is_none() {
            return Err(format!(
                "INV-SIM-12: {group:?} of {node}: {applied:?} is applied and answered, durable is {durable:?}"
            ));
        }
        // With memory durability what is applied may not be given out yet.
        let applied = if self.plan.memory { applied.min(machine.shadow.last(group)) } else { applied };
        let seen = machine.applied.entry(group).or_default();
        if applied < *seen {
            // The replica was taken from this node, or is a new one.
            *seen = LogIndex(0);
        }
        let checkpoint = machine.shadow.checkpoint(group);
        while *seen < applied {
            *seen = seen.next();
            let Some(entry) = machine.shadow.entry(group, *seen) else {
                if *seen <= checkpoint.index {
                    // A checkpoint came from another node.
                    self.agreed.on_checkpoint(group, node, checkpoint)?;
                    *seen = checkpoint.index;
                    continue;
                }
                return Err(format!(
                    "INV-SIM-3: {node} applied {seen:?} of {group:?}, which it never gave out to be logged"
                ));
            };
            self.agreed.on_applied(group, node, entry)?;
        }
        Ok(())
    }

    fn compare_state(&mut self, node: usize, first: bool) -> Result<(), String> {
        let machine = &mut self.machines[node];
        let Some(process) = &machine.process else { return Ok(()) };
        for (group, at, live) in process.digests() {
            if at.index > self.agreed.last(group) {
                continue; // with memory durability, not given out yet
            }
            let Some(expected) = self.agreed.digest(group, at.index)? else { continue };
            self.trace.mix(live);
            if live == expected {
                machine.damaged.remove(&group);
            } else if machine.damaged.contains(&group) {
                continue;
            } else {
                return Err(format!(
                    "INV-SIM-14: the state of {node} at {at:?} of {group:?} is {live:016x}, its log leads to {expected:016x}"
                ));
            }
            *self.counts.entry("states compared").or_default() += 1;
        }
        if first || self.rng.one_in(3) {
            process.cells.iter().for_each(|cell| cell.node.assert_invariants());
        }
        Ok(())
    }

    fn watch_for_spinning(&mut self, node: usize) -> Result<(), String> {
        let ms = self.now / MS;
        let cells = self.machines[node].process.as_ref().map_or(1, |p| p.cells.len()) as u64;
        let turns = &mut self.machines[node].turns_at;
        *turns = if turns.0 == ms { (ms, turns.1 + 1) } else { (ms, 1) };
        if turns.1 > TURNS_AT_ONCE_MAX * cells {
            return Err(format!(
                "INV-SIM-10: {TURNS_AT_ONCE_MAX} turns of {node} within a millisecond: the loop spins"
            ));
        }
        Ok(())
    }

    fn take_arrival(&mut self, node: usize, cell: usize, arrival: Arrival, now: Now) {
        let Some(process) = &mut self.machines[node].process else { return };
        let input = match arrival {
            Arrival::Connect { client, generation } => {
                return self.accept_client(node, client, generation);
            }
            Arrival::Welcome { client, generation, number } => {
                return self.welcome_client(node, cell, (client, generation), number, now);
            }
            Arrival::Mail(mail) => Input::Mail(mail),
            Arrival::Bytes { client, generation, bytes } => {
                let state = &self.clients[client];
                let Some((_, conn)) = state.conn.filter(|_| state.generation == generation) else { return };
                return process.handle(cell, now, Input::Received { conn, bytes: &bytes });
            }
            Arrival::Gone { conn: (_, conn) } => Input::Disconnected { conn },
            Arrival::Ended { conn: (_, conn) } => Input::Ended { conn },
            Arrival::CheckpointWanted => Input::LogPinned,
            Arrival::LinkAccepted { stream } => return self.accept_link(node, stream, now),
            Arrival::LinkBytes { stream, side, bytes } => {
                return self.take_link_bytes(node, now, (stream, side), &bytes);
            }
            Arrival::Forged { link, frame } => {
                return process.handle(0, now, Input::LinkReceived { link, bytes: &frame });
            }
            Arrival::LinkDialed { stream } => match self.net.dialled_link(stream, node) {
                Some(link) => Input::LinkDialed { link },
                None => return,
            },
            Arrival::LinkClosed { link, reason } => Input::LinkClosed { link, reason },
            Arrival::Stop => Input::Stop,
        };
        process.handle(cell, now, input);
    }

    fn take_notes(&mut self, node: usize) -> Result<(), String> {
        let Some(process) = &mut self.machines[node].process else { return Ok(()) };
        let closed: Vec<Conn> = (0..process.cells.len())
            .flat_map(|cell| {
                std::mem::take(&mut process.cells[cell].closed).into_iter().map(move |c| (cell, c))
            })
            .collect();
        let notes = std::mem::take(&mut process.notes);
        for conn in closed {
            if let Some(client) = self.clients.iter().position(|c| c.node == node && c.conn == Some(conn)) {
                self.count("closed by the node");
                self.lose_connection(client, false, false);
            }
        }
        for note in notes {
            match &note {
                Note::CheckpointBegun { .. } => self.count("checkpoints begun"),
                Note::CheckpointSaved { .. } => self.count("checkpoints saved"),
                Note::CheckpointFailed { .. } => self.count("checkpoints refused"),
                Note::DiskFull => self.count("disk told full"),
                _ => {}
            }
            self.note(&format!("{node}: {note:?}"));
            self.take_damage_note(node, &note)?;
        }
        Ok(())
    }

    fn on_stopped(&mut self, node: usize) {
        if self.phase != Phase::Stopping {
            return;
        }
        let machine = &mut self.machines[node];
        let Some(process) = machine.process.as_mut().filter(|p| p.is_stopped()) else { return };
        // The threads end when what was submitted is written: nothing that anybody waits for, but a vote, say, that a cell gave
        // while another had not finished.
        while process.log.next() != Next::Nothing {
            if let Err(fault) = process.log.step(&mut self.rng) {
                return self.on_disk_fault(node, &fault);
            }
        }
        if machine.shadow.on_durable(u64::MAX).is_ok() {
            self.on_clean_stop(node);
        }
    }

    pub(super) fn drive_disk(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        let slowness = machine.slowness;
        let Some(process) = &mut machine.process else { return };
        let delay = match process.log.next() {
            Next::Nothing => None,
            Next::Write => Some(1 + self.rng.below(100)),
            Next::Sync => Some((1 + self.rng.below(self.plan.sync_us)) * slowness),
            Next::RetryWhenFull => Some(100 * MS),
        };
        let log = delay.filter(|_| !process.log_busy);
        process.log_busy |= log.is_some();
        let steps = !process.checkpoint_busy && !process.checkpointer.is_idle();
        process.checkpoint_busy |= steps;
        let reads = !process.source_busy && !process.source.is_idle();
        process.source_busy |= reads;
        if let Some(delay) = log {
            self.step_at(self.now + delay, node, Work::Log);
        }
        if steps {
            let delay = (1 + self.rng.below(self.plan.sync_us)) * slowness;
            self.step_at(self.now + delay, node, Work::Checkpoint);
        }
        if reads {
            let delay = (1 + self.rng.below(self.plan.sync_us)) * slowness;
            self.step_at(self.now + delay, node, Work::Source);
        }
    }

    pub(super) fn on_log_step(&mut self, node: usize) -> Result<(), String> {
        let machine = &mut self.machines[node];
        let Some(process) = &mut machine.process else { return Ok(()) };
        process.log_busy = false;
        let step = process.log.next();
        if let Err(fault) = process.log.step(&mut self.rng) {
            self.on_disk_fault(node, &fault);
            return Ok(());
        }
        let durable = process.log.durable;
        machine.shadow.on_durable(durable)?;
        self.note(&format!("log of {node}: {step:?}, durable {durable}"));
        self.deal_out(node);
        self.start_chore(node);
        self.drive_disk(node);
        Ok(())
    }

    pub(super) fn start_chore(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        let slowness = machine.slowness;
        let Some(process) = &mut machine.process else { return };
        if !process.chore_busy && process.log.start_chore() {
            process.chore_busy = true;
            let delay = (1 + self.rng.below(5 * MS)) * slowness;
            self.step_at(self.now + delay, node, Work::ChoreDone);
        }
    }

    pub(super) fn on_chore_done(&mut self, node: usize) -> Result<(), String> {
        let Some(process) = &mut self.machines[node].process else { return Ok(()) };
        process.chore_busy = false;
        let outcome = process.log.run_chore();
        match outcome {
            Err(fault) => {
                self.on_disk_fault(node, &fault);
                return Ok(());
            }
            Ok(true) => self.step_at(self.now + 100 * MS, node, Work::ChoreStart),
            Ok(false) => self.start_chore(node),
        }
        self.deal_out(node);
        Ok(())
    }

    pub(super) fn on_checkpoint_step(&mut self, node: usize) -> Result<(), String> {
        let Some(process) = &mut self.machines[node].process else { return Ok(()) };
        process.checkpoint_busy = false;
        if let Err(fault) = process.checkpointer.step() {
            self.on_disk_fault(node, &fault);
            return Ok(());
        }
        self.deal_out(node);
        self.drive_disk(node);
        Ok(())
    }

    pub(super) fn on_source_step(&mut self, node: usize) -> Result<(), String> {
        let Some(process) = &mut self.machines[node].process else { return Ok(()) };
        process.source_busy = false;
        if let Err(fault) = process.source.step() {
            self.on_disk_fault(node, &fault);
            return Ok(());
        }
        self.deal_out(node);
        self.drive_disk(node);
        Ok(())
    }

    /// A process goes on after a pause, with all that came meanwhile.
    pub(super) fn on_resume(&mut self, node: usize) {
        if std::mem::take(&mut self.machines[node].paused) {
            self.note(&format!("{node} goes on"));
            let machine = &mut self.machines[node];
            if let (Some(Planted::LeaseClockStops), Some((_, since))) = (self.planted, machine.paused_at) {
                machine.clocks.stand_still(self.now - since);
            }
            self.go_on(node);
        }
    }

    pub(super) fn on_disk_answers(&mut self, node: usize) {
        if std::mem::take(&mut self.machines[node].hangs) {
            self.note(&format!("the disk of {node} answers"));
            self.go_on(node);
        }
    }

    /// What waited is done in the order in which it came.
    fn go_on(&mut self, node: usize) {
        for step in std::mem::take(&mut self.machines[node].waiting) {
            self.at(self.now + 1, Event::Step(step));
        }
    }
}
