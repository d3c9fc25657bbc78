//! The world of one seed: virtual time, the event queue, the disk, the process, the clients and the faults.

use std::collections::BTreeMap;

use skep_base::{LogIndex, Millis, Rng};
use skep_log::{Disk, LogFault, MemDisk};
use skep_node::{Input, Note, Now};

use crate::client::{Client, State, Surroundings};
use crate::disk_threads::Next;
use crate::ledger::Ledger;
use crate::plan::{MS, Plan};
use crate::planted::{Planted, forge_torn_tail};
use crate::process::{Arrival, Process, StartFault, last_of, recover};
use crate::reference::Reference;
use crate::trace::Trace;

/// Wall time at the beginning: 2024, in ms.
const WALL_START: i64 = 1_704_067_200_000;
/// After the faults have ended everything must be well again in this time (virtual), or the node is stuck.
const HEALING_US_MAX: u64 = 60_000 * MS;
/// Turns without time passing, above which the loop spins.
const TURNS_AT_ONCE_MAX: u64 = 2_000;
/// Starts that may fail in a row, each for its own fault.
const STARTS_MAX: u64 = 300;

/// What happens at an instant.
#[derive(Debug)]
enum Event {
    Turn { life: u64 },
    LogStep { life: u64 },
    ChoreDone { life: u64 },
    ChoreStart { life: u64 },
    CheckpointStep { life: u64 },
    ToNode { client: usize, generation: u64, bytes: Vec<u8> },
    ToClient { client: usize, generation: u64, bytes: Vec<u8> },
    Connect { client: usize },
    Burst { client: usize, generation: u64 },
    Strike(Fault),
    Space,
    FastDisk,
    Start,
    Heal,
    Look,
}

/// What can go wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    PowerCut,
    Kill,
    Eio,
    Full,
    Slow,
    Jump,
    Checkpoint,
    Disconnect,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Working,
    /// No new work, no new faults.
    Draining,
    Auditing,
    Stopping,
    /// Started once more after a clean stop.
    Last,
    Over,
}

/// What became of a process when it ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    PowerCut,
    Kill,
}

/// A bit that was turned over, and the disk as it was before.
struct Flip {
    file: String,
    offset: u64,
    mask: u8,
    flipped: u8,
    backup: MemDisk,
}

pub struct World {
    plan: Plan,
    planted: Option<Planted>,
    rng: Rng,
    now: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Event>,
    wall_offset: i64,
    wall_max: u64,
    disk: MemDisk,
    process: Option<Process>,
    life: u64,
    failed_starts: u64,
    clients: Vec<Client>,
    ledger: Ledger,
    reference: Reference,
    /// The last entry that the disk must have.
    durable: LogIndex,
    cluster_id: String,
    /// Factor of all disk times.
    slowness: u64,
    phase: Phase,
    phase_until: u64,
    turns_at: (u64, u64),
    ready: bool,
    pub trace: Trace,
    pub counts: BTreeMap<&'static str, u64>,
}

impl World {
    pub fn new(seed: u64, planted: Option<Planted>, print: bool) -> World {
        let mut rng = Rng::new(seed);
        let plan = Plan::draw(&mut rng);
        let mut trace = Trace::new(print);
        trace.note(0, format_args!("{plan:?}"));
        let clients = (0..plan.clients).map(|number| Client::new(number, &plan)).collect();
        let mut world = World {
            planted,
            rng,
            now: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            wall_offset: WALL_START,
            wall_max: WALL_START as u64,
            disk: MemDisk::new(),
            process: None,
            life: 0,
            failed_starts: 0,
            clients,
            ledger: Ledger::default(),
            reference: Reference::new(planted == Some(Planted::CheckpointLacksLastEntry)),
            durable: LogIndex(0),
            cluster_id: String::new(),
            slowness: 1,
            phase: Phase::Working,
            phase_until: u64::MAX,
            turns_at: (0, 0),
            ready: false,
            trace,
            counts: BTreeMap::new(),
            plan,
        };
        world.at(0, Event::Start);
        for client in 0..world.clients.len() {
            world.at(world.now, Event::Connect { client });
        }
        for (fault, mean) in world.faults() {
            let first = world.wait(mean);
            world.at(first, Event::Strike(fault));
        }
        world.at(world.plan.work_us, Event::Heal);
        world
    }

    /// Runs until everything was checked.
    pub fn run(&mut self) -> Result<(), String> {
        while self.phase != Phase::Over {
            let Some(((at, _), event)) = self.queue.pop_first() else {
                return Err("INV-SIM-10: nothing will ever happen again".into());
            };
            self.now = at;
            self.wall_max = self.wall_max.max(self.wall());
            if self.now > self.phase_until {
                let owed: Vec<_> = self.clients.iter().flat_map(Client::owed).take(3).collect();
                return Err(format!(
                    "INV-SIM-10: not well again {} s after the faults ended, in phase {:?}; clients wait for {owed:?}",
                    HEALING_US_MAX / MS / 1_000,
                    self.phase
                ));
            }
            self.handle(at, event)?;
        }
        self.trace.mix(self.reference.keyspace.digest());
        for name in self.disk.list().map_err(|e| e.to_string())? {
            self.trace.mix(skep_base::hash::seeded(0, &self.disk.content(&name).unwrap_or_default()));
        }
        self.count_by("virtual ms", self.now / MS);
        self.count_by("replies", self.clients.iter().map(|c| c.replies).sum());
        let judged = self.clients.iter().map(|c| c.judged).sum::<u64>() + self.ledger.checked;
        self.count_by("replies judged", judged);
        self.count_by("operations logged", self.reference.ops);
        Ok(())
    }

    fn handle(&mut self, at: u64, event: Event) -> Result<(), String> {
        match event {
            Event::Turn { life } if self.lives(life) => {
                // Else an earlier turn was planned since.
                if let Some(process) = self.process.as_mut().filter(|p| p.turn_at == Some(at)) {
                    process.turn_at = None;
                    self.on_turn()?;
                }
            }
            Event::LogStep { life } if self.lives(life) => self.on_log_step()?,
            Event::ChoreStart { life } if self.lives(life) => self.start_chore(),
            Event::ChoreDone { life } if self.lives(life) => self.on_chore_done()?,
            Event::CheckpointStep { life } if self.lives(life) => self.on_checkpoint_step()?,
            Event::ToNode { client, generation, bytes } if self.clients[client].generation == generation => {
                self.arrive(Arrival::Bytes { client, generation, bytes });
            }
            Event::ToClient { client, generation, bytes }
                if self.clients[client].generation == generation =>
            {
                self.on_to_client(client, &bytes)?;
            }
            Event::Connect { client } => self.on_connect(client),
            Event::Burst { client, generation } if self.clients[client].generation == generation => {
                self.on_burst(client);
            }
            Event::Strike(fault) => self.on_strike(fault)?,
            Event::Space => self.disk.set_capacity(None),
            Event::FastDisk => self.slowness = 1,
            Event::Start => self.on_start()?,
            Event::Heal => self.on_heal(),
            Event::Look => self.on_look()?,
            _ => {} // of an earlier life or connection
        }
        Ok(())
    }

    // ---- the process ------------------------------------------------------------------------------------------------

    fn on_start(&mut self) -> Result<(), String> {
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

    fn is_planted(&self, planted: Planted) -> bool {
        self.planted == Some(planted)
    }

    fn on_failed_start(&mut self, fault: StartFault, flipped: Option<Flip>) -> Result<(), String> {
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
    fn flip_a_bit(&mut self) -> Option<Flip> {
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
    fn turn_back(&mut self, flip: &Flip) {
        let content = self.disk.content(&flip.file);
        if content.is_some_and(|c| c.get(flip.offset as usize) == Some(&flip.flipped)) {
            self.disk.flip(&flip.file, flip.offset, flip.mask);
        }
    }

    /// The process ends; its connections with it.
    fn die(&mut self, end: End) -> Result<(), String> {
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

    fn disk_after(&mut self, end: End) {
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
    fn on_disk_fault(&mut self, fault: &LogFault) -> Result<(), String> {
        self.note(&format!("the process stops: {fault}"));
        self.count("stops by failed disk");
        let end = if self.rng.one_in(2) { End::PowerCut } else { End::Kill };
        self.die(end)
    }

    fn on_turn(&mut self) -> Result<(), String> {
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
    fn check_state(&mut self, applied: LogIndex) -> Result<(), String> {
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
        if applied == self.reference.at && (first || self.rng.one_in(100)) {
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

    fn watch_for_spinning(&mut self) -> Result<(), String> {
        let ms = self.now / MS;
        self.turns_at = if self.turns_at.0 == ms { (ms, self.turns_at.1 + 1) } else { (ms, 1) };
        if self.turns_at.1 > TURNS_AT_ONCE_MAX {
            return Err(format!(
                "INV-SIM-10: {TURNS_AT_ONCE_MAX} turns within a millisecond: the loop spins"
            ));
        }
        Ok(())
    }

    fn take_arrival(&mut self, arrival: Arrival, now: Now) {
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
            Arrival::CheckpointWanted => Input::LogPinned,
            Arrival::Stop => Input::Stop,
        };
        process.node.handle(now, input, &mut process.outputs);
    }

    fn take_notes(&mut self) {
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
    fn write_clients(&mut self) {
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

    fn write_client(&mut self, client: usize) {
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

    fn on_stopped(&mut self) {
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

    // ---- the disk threads -------------------------------------------------------------------------------------------

    fn drive_disk(&mut self) {
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

    fn on_log_step(&mut self) -> Result<(), String> {
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

    fn start_chore(&mut self) {
        let life = self.life;
        let Some(process) = &mut self.process else { return };
        if !process.chore_busy && process.log.start_chore() {
            process.chore_busy = true;
            let delay = (1 + self.rng.below(5 * MS)) * self.slowness;
            self.at(self.now + delay, Event::ChoreDone { life });
        }
    }

    fn on_chore_done(&mut self) -> Result<(), String> {
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

    fn on_checkpoint_step(&mut self) -> Result<(), String> {
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

    // ---- the clients ------------------------------------------------------------------------------------------------

    fn on_connect(&mut self, client: usize) {
        if self.clients[client].conn.is_some() || self.clients[client].state != State::Down {
            return;
        }
        let ready = self.process.as_ref().is_some_and(|p| p.node.is_ready());
        if !ready || self.phase == Phase::Stopping {
            if self.phase != Phase::Stopping && self.phase != Phase::Last {
                let again = self.now + 5 * MS + self.within(20 * MS) - self.now;
                self.at(again, Event::Connect { client });
            }
            return;
        }
        let generation = self.clients[client].generation;
        self.arrive(Arrival::Connect { client, generation });
    }

    fn begin_sync(&mut self, client: usize) {
        let bytes = self.with_client(client, |client, rng, around| client.begin_sync(rng, around));
        self.transmit(client, &bytes);
    }

    fn on_burst(&mut self, client: usize) {
        if self.phase == Phase::Working
            && self.clients[client].state == State::Up
            && self.clients[client].is_idle()
        {
            let bytes = self.with_client(client, |client, rng, around| client.burst(rng, around));
            self.transmit(client, &bytes);
        }
    }

    fn on_to_client(&mut self, client: usize, bytes: &[u8]) -> Result<(), String> {
        let answer = self.with_client(client, |client, rng, around| client.receive(bytes, rng, around))?;
        self.transmit(client, &answer);
        if self.clients[client].state == State::Up && self.clients[client].is_idle() && answer.is_empty() {
            let at = self.within(self.plan.think_us);
            let generation = self.clients[client].generation;
            self.at(at, Event::Burst { client, generation });
        }
        Ok(())
    }

    fn with_client<R>(
        &mut self,
        client: usize,
        run: impl FnOnce(&mut Client, &mut Rng, &mut Surroundings<'_>) -> R,
    ) -> R {
        let mut around = Surroundings {
            plan: &self.plan,
            ledger: &mut self.ledger,
            at: self.now,
            wall: (self.now as i64 / MS as i64 + self.wall_offset) as u64,
            wall_max: self.wall_max,
        };
        run(&mut self.clients[client], &mut self.rng, &mut around)
    }

    /// Sends bytes to the node in pieces that have nothing to do with commands.
    fn transmit(&mut self, client: usize, bytes: &[u8]) {
        let generation = self.clients[client].generation;
        let mut rest = bytes;
        while !rest.is_empty() {
            let len =
                if self.rng.one_in(3) { 1 + self.rng.below(rest.len() as u64) as usize } else { rest.len() };
            let (piece, behind) = rest.split_at(len);
            rest = behind;
            let at = self.clients[client].to_node_at.max(self.within(self.plan.network_us)) + 1;
            self.clients[client].to_node_at = at;
            self.trace.note(at, format_args!("client {client} sends {:?}", String::from_utf8_lossy(piece)));
            self.at(at, Event::ToNode { client, generation, bytes: piece.to_vec() });
        }
    }

    fn disconnect(&mut self, client: usize) {
        if let Some(conn) = self.clients[client].conn {
            self.arrive(Arrival::Gone { conn });
        }
        self.lose_connection(client, false, false);
    }

    fn lose_connection(&mut self, client: usize, crashed: bool, lossy: bool) {
        self.with_client(client, |client, _, around| client.on_lost(crashed, lossy, around));
        let at = self.within(30 * MS) + MS;
        self.at(at, Event::Connect { client });
    }

    // ---- faults -----------------------------------------------------------------------------------------------------

    fn faults(&self) -> Vec<(Fault, u64)> {
        let f = &self.plan.faults;
        let all = [
            (Fault::PowerCut, f.power_cut),
            (Fault::Kill, f.kill),
            (Fault::Eio, f.eio),
            (Fault::Full, f.full),
            (Fault::Slow, f.slow),
            (Fault::Jump, f.jump),
            (Fault::Checkpoint, f.checkpoint),
            (Fault::Disconnect, f.disconnect),
        ];
        all.into_iter().filter_map(|(fault, mean)| mean.map(|mean| (fault, mean))).collect()
    }

    fn on_strike(&mut self, fault: Fault) -> Result<(), String> {
        if self.phase != Phase::Working {
            return Ok(());
        }
        self.note(&format!("fault: {fault:?}"));
        let mean = self.faults().iter().find(|(f, _)| *f == fault).map_or(MS, |(_, mean)| *mean);
        let next = self.wait(mean);
        self.at(next, Event::Strike(fault));
        match fault {
            Fault::PowerCut if self.rng.one_in(2) => {
                // Between two operations of one of the threads.
                self.disk.fail_after(self.rng.below(12));
            }
            Fault::PowerCut => self.die(End::PowerCut)?,
            Fault::Kill => self.die(End::Kill)?,
            Fault::Eio => {
                self.disk.fail_after(self.rng.below(30));
                self.count("disk errors armed");
            }
            Fault::Full => {
                let free = self.rng.below(2 * self.plan.segment_bytes);
                self.disk.set_capacity(Some(self.disk.bytes_used() + free));
                self.count("disk full");
                let until = self.now + 50 * MS + self.rng.below(600 * MS);
                self.at(until, Event::Space);
            }
            Fault::Slow => {
                self.slowness = 2 + self.rng.below(40);
                self.count("disk slow");
                let until = self.now + 20 * MS + self.rng.below(300 * MS);
                self.at(until, Event::FastDisk);
            }
            Fault::Jump => self.jump(),
            Fault::Checkpoint => {
                self.count("checkpoints asked for");
                self.arrive(Arrival::CheckpointWanted);
            }
            Fault::Disconnect => {
                let client = self.rng.below(self.clients.len() as u64) as usize;
                if self.clients[client].conn.is_some() {
                    self.count("disconnects");
                    self.disconnect(client);
                }
            }
        }
        Ok(())
    }

    fn jump(&mut self) {
        let far = [100, 3_000, 4_000_000][self.rng.below(3) as usize];
        let by = self.rng.below(far) as i64;
        if self.rng.one_in(2) {
            self.wall_offset += by;
        } else {
            self.wall_offset -= by;
            let wall = self.wall();
            self.clients.iter_mut().for_each(|c| c.on_wall_back(wall));
        }
        self.wall_max = self.wall_max.max(self.wall());
        self.count("clock jumps");
    }

    // ---- the end ----------------------------------------------------------------------------------------------------

    fn on_heal(&mut self) {
        self.note("faults end");
        self.phase = Phase::Draining;
        self.phase_until = self.now + HEALING_US_MAX;
        self.disk.set_capacity(None);
        self.disk.restart(); // ends an error that has not struck yet
        self.slowness = 1;
        self.at(self.now, Event::Look);
    }

    /// Looks whether the phase is over.
    fn on_look(&mut self) -> Result<(), String> {
        self.at(self.now + 5 * MS, Event::Look);
        let quiet =
            self.process.is_some() && self.clients.iter().all(|c| c.state == State::Up && c.is_idle());
        if !quiet {
            return Ok(());
        }
        match self.phase {
            Phase::Draining => {
                self.note("audit");
                self.phase = Phase::Auditing;
                for client in 0..self.clients.len() {
                    self.clients[client].audit_next();
                    self.disconnect(client);
                }
            }
            Phase::Auditing => {
                self.note("stop");
                self.phase = Phase::Stopping;
                self.arrive(Arrival::Stop);
            }
            _ => {}
        }
        Ok(())
    }

    // ---- time and chance --------------------------------------------------------------------------------------------

    fn lives(&self, life: u64) -> bool {
        self.life == life && self.process.is_some()
    }

    fn at(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), event);
    }

    /// An instant within the next `us` microseconds.
    fn within(&mut self, us: u64) -> u64 {
        self.now + self.rng.below(us.max(1))
    }

    /// When an event of this mean interval happens next.
    fn wait(&mut self, mean: u64) -> u64 {
        self.now + mean / 4 + self.rng.below(mean * 3 / 2)
    }

    fn wall(&self) -> u64 {
        (self.now as i64 / MS as i64 + self.wall_offset) as u64
    }

    fn time(&self) -> Now {
        Now { mono: Millis(self.now / MS), wall: Millis(self.wall()) }
    }

    fn arrive(&mut self, arrival: Arrival) {
        if let Some(process) = &mut self.process {
            process.arrivals.push(arrival);
            self.soon();
        }
    }

    /// A turn comes as soon as the loop gets to it.
    fn soon(&mut self) {
        let at = self.within(60) + 1;
        self.schedule_turn(at);
    }

    fn schedule_turn(&mut self, at: u64) {
        let life = self.life;
        let Some(process) = &mut self.process else { return };
        if process.turn_at.is_none_or(|planned| planned > at) {
            process.turn_at = Some(at);
            self.at(at, Event::Turn { life });
        }
    }

    fn schedule_wakeup(&mut self) {
        let Some(process) = &self.process else { return };
        let blocked = !process.blocked.is_empty();
        if let Some(instant) = process.node.next_wakeup() {
            self.schedule_turn((instant.0 * MS).max(self.now + 1));
        }
        if blocked {
            self.schedule_turn(self.now + MS / 2);
        }
    }

    fn note(&mut self, text: &str) {
        self.trace.note(self.now, format_args!("{text}"));
    }

    fn count(&mut self, what: &'static str) {
        self.count_by(what, 1);
    }

    fn count_by(&mut self, what: &'static str, n: u64) {
        *self.counts.entry(what).or_default() += n;
    }
}
