//! The process of the world: starts, ends, turns, and its disk threads.

use skep_base::LogIndex;
use skep_log::{Disk, LogFault};
use skep_node::{Input, Note, Now};

use super::{End, Event, Flip, Phase, STARTS_MAX, TURNS_AT_ONCE_MAX, World};
use crate::disk_threads::Next;
use crate::plan::MS;
use crate::planted::{Planted, forge_torn_tail};
use crate::process::{Arrival, Process, StartFault, last_of, recover};

impl World {
    pub(super) fn on_start(&mut self) -> Result<(), String> {
        if self.process.is_some() {
            return Ok(());
        }
        self.life += 1;
        let mut flipped = None;
        if self.phase == Phase::Working && self.life > 1 {
            if self.plan.flip_in.is_some_and(|n| self.rng.one_in(n)) {
                flipped = self.flip_a_bit();
            }
            if self.plan.failing_start_in.is_some_and(|n| self.rng.one_in(n)) {
                self.disk.fail_after(self.rng.below(40));
            }
        }
        let found = recover(&self.disk, &self.plan);
        let (wal, recovered, log) = match found {
            Ok(found) => found,
            Err(fault) => return self.on_failed_start(fault, flipped),
        };
        if let Some(flip) = flipped {
            self.count("flip harmless");
            self.turn_back(&flip);
        }
        self.reference.recover(&log, self.durable)?;
        self.failed_starts = 0;
        self.durable = last_of(&log);
        self.count("starts");
        let text = format!(
            "start {}: log to {}, checkpoint at {}",
            self.life, self.durable.0, log.checkpoint.index.0
        );
        self.note(&text);
        let (seed, now, last) = (self.rng.next_u64(), self.time(), self.durable);
        let process = Process::start(
            &self.plan,
            &self.disk,
            (wal, recovered, last),
            self.life,
            seed,
            now,
            self.planted,
        );
        self.process = Some(process);
        self.ready = false;
        self.start_chore();
        self.schedule_turn(self.now);
        Ok(())
    }

    pub(super) fn is_planted(&self, planted: Planted) -> bool {
        self.planted == Some(planted)
    }

    pub(super) fn on_failed_start(&mut self, fault: StartFault, flipped: Option<Flip>) -> Result<(), String> {
        self.failed_starts += 1;
        if self.failed_starts > STARTS_MAX {
            return Err(format!("INV-SIM-10: {STARTS_MAX} starts in a row failed"));
        }
        let text = match &fault {
            StartFault::Log(fault) => fault.to_string(),
            StartFault::Recover(fault) => fault.to_string(),
        };
        self.note(&format!("start {} failed: {text}", self.life));
        match (fault, flipped) {
            (StartFault::Log(LogFault::Failed(_)), backup) => {
                self.count("start with failing disk");
                if let Some(Flip { backup, .. }) = backup {
                    // The flip was not seen yet; nothing may be concluded from this start.
                    self.disk = backup;
                }
                let end = if self.rng.one_in(2) { End::PowerCut } else { End::Kill };
                self.disk_after(end);
            }
            (StartFault::Log(LogFault::Full { .. }), backup) => {
                self.count("start with full disk");
                if let Some(Flip { backup, .. }) = backup {
                    self.disk = backup;
                }
            }
            (StartFault::Log(LogFault::Damaged { file, .. }), Some(Flip { file: flipped, backup, .. })) => {
                self.count("flip refused");
                if file != flipped {
                    return Err(format!(
                        "INV-SIM-11: {flipped} was damaged, the refusal blames {file}: {text}"
                    ));
                }
                if !text.contains("offset") {
                    return Err(format!("INV-SIM-11: a refusal without an offset: {text}"));
                }
                self.disk = backup;
            }
            (StartFault::Log(LogFault::Newer { .. }), Some(Flip { backup, .. })) => self.disk = backup,
            _ => return Err(format!("INV-SIM-1: a start after nothing but crashes was refused: {text}")),
        }
        let again = self.within(20 * MS);
        self.at(again, Event::Start);
        Ok(())
    }

    /// Turns over one bit of one file.
    pub(super) fn flip_a_bit(&mut self) -> Option<Flip> {
        let names = self.disk.list().ok()?;
        let name = names.get(self.rng.below(names.len().max(1) as u64) as usize)?.clone();
        let len = self.disk.len(&name).ok().filter(|len| *len > 0)?;
        let backup = self.disk.fork();
        let (offset, mask) = (self.rng.below(len), 1 << self.rng.below(8));
        self.disk.flip(&name, offset, mask);
        let flipped = self.disk.content(&name)?[offset as usize];
        self.note(&format!("bit flipped in {name} at {offset}"));
        self.count("bit flips");
        Some(Flip { file: name, offset, mask, flipped, backup })
    }

    /// A start that did not need the flipped byte leaves it where it is, to be found by a later one; that is decay like any
    /// other, but the simulation of this start is over, so the bit is turned back.
    pub(super) fn turn_back(&mut self, flip: &Flip) {
        let content = self.disk.content(&flip.file);
        if content.is_some_and(|c| c.get(flip.offset as usize) == Some(&flip.flipped)) {
            self.disk.flip(&flip.file, flip.offset, flip.mask);
        }
    }

    /// The process ends; its connections with it.
    pub(super) fn die(&mut self, end: End) -> Result<(), String> {
        let Some(process) = self.process.take() else { return Ok(()) };
        self.durable = self.durable.max(process.log.durable);
        drop(process);
        self.note(&format!("{end:?}"));
        self.count(if end == End::PowerCut { "power cuts" } else { "kills" });
        self.disk_after(end);
        let lossy = self.plan.memory && self.phase != Phase::Stopping;
        if lossy {
            self.ledger.on_lossy_crash();
        }
        for client in 0..self.clients.len() {
            self.lose_connection(client, true, lossy);
        }
        let again = self.within(50 * MS);
        self.at(again, Event::Start);
        Ok(())
    }

    pub(super) fn disk_after(&mut self, end: End) {
        match end {
            End::PowerCut => {
                self.disk.crash(&mut self.rng);
                if self.is_planted(Planted::TornTailAccepted) {
                    forge_torn_tail(&mut self.disk, self.plan.wal_config().salt);
                }
            }
            End::Kill => self.disk.restart(),
        }
    }

    /// The disk failed under the process, which stops at once; what is durable is unknown.
    pub(super) fn on_disk_fault(&mut self, fault: &LogFault) -> Result<(), String> {
        self.note(&format!("the process stops: {fault}"));
        self.count("stops by failed disk");
        let end = if self.rng.one_in(2) { End::PowerCut } else { End::Kill };
        self.die(end)
    }

    pub(super) fn on_turn(&mut self) -> Result<(), String> {
        self.watch_for_spinning()?;
        let now = self.time();
        let Some(process) = &mut self.process else { return Ok(()) };
        process.take_disk_events(now);
        for arrival in std::mem::take(&mut process.arrivals) {
            self.take_arrival(arrival, now);
        }
        let Some(process) = &mut self.process else { return Ok(()) };
        let keys = process.node.status().keys;
        process.end_turn(now, keys);
        process.carry_out(&mut self.reference, self.planted)?;
        let (applied, durable) = (process.applied(), process.log.durable);
        if applied > durable && !self.plan.memory && self.planted.is_none() {
            return Err(format!("INV-SIM-12: {applied:?} is applied and answered, durable is {durable:?}"));
        }
        self.check_state(applied)?;
        self.take_notes();
        self.write_clients();
        self.drive_disk();
        self.schedule_wakeup();
        self.on_stopped();
        Ok(())
    }

    /// Compares the node with the reference, now and then.
    pub(super) fn check_state(&mut self, applied: LogIndex) -> Result<(), String> {
        let Some(process) = &self.process else { return Ok(()) };
        let status = process.node.status();
        let first = status.ready && !self.ready;
        if first {
            self.ready = true;
            if self.cluster_id.is_empty() {
                self.cluster_id = status.cluster_id.clone();
            }
            if self.cluster_id != status.cluster_id {
                return Err(format!(
                    "INV-SIM-13: the cluster {} became {}",
                    self.cluster_id, status.cluster_id
                ));
            }
        }
        if applied == self.reference.at && (first || self.rng.one_in(200)) {
            let (live, reference) = (process.node.digest(), self.reference.keyspace.digest());
            self.trace.mix(live);
            if live != reference {
                return Err(format!(
                    "INV-SIM-14: the node's state at {applied:?} is {live:016x}, its log leads to {reference:016x}"
                ));
            }
            if first || self.rng.one_in(3) {
                process.node.assert_invariants();
            }
            self.count("states compared");
        }
        if first && self.phase == Phase::Last {
            self.phase = Phase::Over;
        }
        Ok(())
    }

    pub(super) fn watch_for_spinning(&mut self) -> Result<(), String> {
        let ms = self.now / MS;
        self.turns_at = if self.turns_at.0 == ms { (ms, self.turns_at.1 + 1) } else { (ms, 1) };
        if self.turns_at.1 > TURNS_AT_ONCE_MAX {
            return Err(format!(
                "INV-SIM-10: {TURNS_AT_ONCE_MAX} turns within a millisecond: the loop spins"
            ));
        }
        Ok(())
    }

    pub(super) fn take_arrival(&mut self, arrival: Arrival, now: Now) {
        let Some(process) = &mut self.process else { return };
        let input = match arrival {
            Arrival::Connect { client, generation } => {
                let state = &mut self.clients[client];
                if state.generation == generation && state.conn.is_none() {
                    match process
                        .node
                        .connect(format!("10.0.0.{client}:{generation}"), "10.0.0.9:6379".into())
                    {
                        Ok(conn) => state.conn = Some(conn),
                        Err(_) => {
                            let again = self.within(20 * MS);
                            return self.at(again, Event::Connect { client });
                        }
                    }
                    self.begin_sync(client);
                }
                return;
            }
            Arrival::Bytes { client, generation, bytes } => {
                let state = &self.clients[client];
                let Some(conn) = state.conn.filter(|_| state.generation == generation) else { return };
                return process.node.handle(
                    now,
                    Input::Received { conn, bytes: &bytes },
                    &mut process.outputs,
                );
            }
            Arrival::Gone { conn } => Input::Disconnected { conn },
            Arrival::Ended { conn } => Input::Ended { conn },
            Arrival::CheckpointWanted => Input::LogPinned,
            Arrival::Stop => Input::Stop,
        };
        process.node.handle(now, input, &mut process.outputs);
    }

    pub(super) fn take_notes(&mut self) {
        let Some(process) = &mut self.process else { return };
        for conn in std::mem::take(&mut process.closed) {
            if let Some(client) = self.clients.iter().position(|c| c.conn == Some(conn)) {
                self.count("closed by the node");
                self.lose_connection(client, false, false);
            }
        }
        let Some(process) = &mut self.process else { return };
        for note in std::mem::take(&mut process.notes) {
            match &note {
                Note::CheckpointBegun { .. } => self.count("checkpoints begun"),
                Note::CheckpointSaved { .. } => self.count("checkpoints saved"),
                Note::CheckpointFailed { .. } => self.count("checkpoints refused"),
                Note::DiskFull => self.count("disk told full"),
                _ => {}
            }
            self.note(&format!("{note:?}"));
        }
    }

    /// Sends what the node has for its clients; slow readers take a part of it.
    pub(super) fn write_clients(&mut self) {
        let mut ready: Vec<usize> = Vec::new();
        if let Some(process) = &mut self.process {
            ready.extend(std::mem::take(&mut process.blocked));
            while let Some(conn) = process.node.next_with_output() {
                ready.extend(self.clients.iter().position(|c| c.conn == Some(conn)));
            }
        }
        ready.sort_unstable();
        ready.dedup();
        for client in ready {
            self.write_client(client);
        }
    }

    pub(super) fn write_client(&mut self, client: usize) {
        let Some(conn) = self.clients[client].conn else { return };
        let Some(process) = &mut self.process else { return };
        let unsent = process.node.unsent(conn);
        let mut take = unsent.len();
        if self.plan.slow_readers && take > 1 && self.rng.one_in(3) {
            take = 1 + self.rng.below(take as u64) as usize;
            process.blocked.insert(client);
        }
        let bytes = unsent[..take].to_vec();
        let close = process.node.on_sent(conn, take);
        if !bytes.is_empty() {
            let at = self.clients[client].to_client_at.max(self.within(self.plan.network_us)) + 1;
            self.clients[client].to_client_at = at;
            let generation = self.clients[client].generation;
            self.at(at, Event::ToClient { client, generation, bytes });
        }
        if close {
            self.disconnect(client);
        }
    }

    pub(super) fn on_stopped(&mut self) {
        if self.phase == Phase::Stopping && self.process.as_ref().is_some_and(|p| p.stopped) {
            self.note("stopped cleanly");
            // The threads end when what was submitted is written; nothing was left, since the node waited for it.
            self.durable = self.reference.last();
            let end = if self.rng.one_in(2) { End::PowerCut } else { End::Kill };
            // Nothing is left to be lost, so the process ends like any other.
            if self.die(end).is_ok() {
                self.phase = Phase::Last;
            }
        }
    }

    pub(super) fn drive_disk(&mut self) {
        let (life, slowness) = (self.life, self.slowness);
        let Some(process) = &mut self.process else { return };
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
        if let Some(delay) = log {
            self.at(self.now + delay, Event::LogStep { life });
        }
        if steps {
            let delay = (1 + self.rng.below(self.plan.sync_us)) * slowness;
            self.at(self.now + delay, Event::CheckpointStep { life });
        }
    }

    pub(super) fn on_log_step(&mut self) -> Result<(), String> {
        let Some(process) = &mut self.process else { return Ok(()) };
        process.log_busy = false;
        let step = process.log.next();
        if let Err(fault) = process.log.step(&mut self.rng) {
            return self.on_disk_fault(&fault);
        }
        let (durable, events) = (process.log.durable, !process.log.events.is_empty());
        self.note(&format!("log: {step:?}, durable {}", durable.0));
        if events {
            self.soon();
        }
        self.start_chore();
        self.drive_disk();
        Ok(())
    }

    pub(super) fn start_chore(&mut self) {
        let life = self.life;
        let Some(process) = &mut self.process else { return };
        if !process.chore_busy && process.log.start_chore() {
            process.chore_busy = true;
            let delay = (1 + self.rng.below(5 * MS)) * self.slowness;
            self.at(self.now + delay, Event::ChoreDone { life });
        }
    }

    pub(super) fn on_chore_done(&mut self) -> Result<(), String> {
        let life = self.life;
        let Some(process) = &mut self.process else { return Ok(()) };
        process.chore_busy = false;
        match process.log.run_chore() {
            Err(fault) => return self.on_disk_fault(&fault),
            Ok(true) => self.at(self.now + 100 * MS, Event::ChoreStart { life }),
            Ok(false) => self.start_chore(),
        }
        if self.process.as_ref().is_some_and(|p| !p.log.events.is_empty()) {
            self.soon();
        }
        Ok(())
    }

    pub(super) fn on_checkpoint_step(&mut self) -> Result<(), String> {
        let Some(process) = &mut self.process else { return Ok(()) };
        process.checkpoint_busy = false;
        if let Err(fault) = process.checkpointer.step() {
            return self.on_disk_fault(&fault);
        }
        if !process.checkpointer.events.is_empty() {
            self.soon();
        }
        self.drive_disk();
        Ok(())
    }
}
