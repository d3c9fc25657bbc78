//! The world of one seed: virtual time, the event queue, and everything in it.

mod faults;
mod life;
mod links;

use std::collections::BTreeMap;

use skep_base::{LogIndex, Millis, Rng};
use skep_log::{Disk, MemDisk};
use skep_node::Now;

use crate::client::Client;
use crate::ledger::Ledger;
use crate::plan::{MS, Plan};
use crate::planted::Planted;
use crate::process::{Arrival, Process};
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
    wall_offset_max: i64,
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
            wall_offset_max: WALL_START,
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
            self.wall_offset_max = self.wall_offset_max.max(self.wall_offset);
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

    /// What a clock would show that was never set back: a node's may go on from any time that it saw.
    fn wall_max(&self) -> u64 {
        (self.now as i64 / MS as i64 + self.wall_offset_max) as u64
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
