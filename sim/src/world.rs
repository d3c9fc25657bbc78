//! The world of one seed: virtual time, the event queue, and everything in it.

mod clients;
mod damage;
mod faults;
mod life;
mod operator;
mod peers;
mod phases;
mod turn;

use std::collections::BTreeMap;

use skep_base::Rng;
use skep_log::Disk;

use crate::Wishes;
use crate::agreed::Agreed;
use crate::client::Client;
use crate::history::Histories;
use crate::ledger::Ledger;
use crate::machine::{Clocks, Machine};
use crate::net::{FrameFault, Network, StreamId};
use crate::plan::{Fault, MS, Plan};
use crate::planted::Planted;
use crate::process::{Arrival, peer_address};
use crate::trace::Trace;
use crate::wire::Rewriter;

use operator::Operator;
pub use phases::Phase;

/// Starts that may fail in a row, each for its own fault.
const STARTS_MAX: u64 = 300;

/// Something that a process or one of its threads does at an instant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Step {
    node: usize,
    life: u64,
    work: Work,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Work {
    /// Of a cell.
    Turn(usize),
    Log,
    ChoreStart,
    ChoreDone,
    Checkpoint,
    Source,
}

/// Clients of a node that led and is cut off read a key that those of others write.
#[derive(Clone, Copy, Debug)]
struct Probe {
    node: usize,
    reads_from: u64,
    until: u64,
}

/// What happens at an instant.
#[derive(Debug)]
enum Event {
    Step(Step),
    ToNode {
        client: usize,
        generation: u64,
        bytes: Vec<u8>,
    },
    ToClient {
        client: usize,
        generation: u64,
        bytes: Vec<u8>,
    },
    Connect {
        client: usize,
    },
    Burst {
        client: usize,
        generation: u64,
    },
    /// A client looks whether the node that was cut off answers by an old state.
    Probe {
        client: usize,
        probe: Probe,
    },
    /// Something that a side of a connection sent may have come.
    Arrives {
        stream: StreamId,
        side: usize,
    },
    Breaks {
        stream: StreamId,
    },
    DialEnds {
        stream: StreamId,
    },
    Mend {
        outage: Option<u64>,
    },
    Strike(Fault),
    Jump {
        node: usize,
        by: i64,
    },
    Space {
        node: usize,
    },
    FastDisk {
        node: usize,
    },
    DiskAnswers {
        node: usize,
    },
    Resume {
        node: usize,
        life: u64,
    },
    Start {
        node: usize,
    },
    Heal,
    Look,
}

/// What becomes of a machine when its process ends.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    PowerCut,
    Kill,
}

pub struct World {
    plan: Plan,
    planted: Option<Planted>,
    rng: Rng,
    now: u64,
    sequence: u64,
    queue: BTreeMap<(u64, u64), Event>,
    machines: Vec<Machine>,
    net: Network,
    /// Connections on which a frame was spoiled, by which side.
    spoiled: BTreeMap<StreamId, (usize, FrameFault)>,
    /// For planted bugs: what is being sent on a side of a connection.
    rewriters: BTreeMap<(StreamId, usize), Rewriter>,
    clients: Vec<Client>,
    ledger: Ledger,
    histories: Histories,
    agreed: Agreed,
    operator: Operator,
    cluster_id: String,
    phase: Phase,
    phase_until: u64,
    /// A leader is being cut off or stopped, and clients look what it answers; in a seed that is about that no other is before.
    probed_until: u64,
    /// When copies are compared next, if there is a reason to.
    compare_at: u64,
    pub trace: Trace,
    pub counts: BTreeMap<&'static str, u64>,
}

impl World {
    pub fn new(seed: u64, wishes: Wishes, print: bool) -> World {
        let planted = wishes.planted;
        let mut rng = Rng::new(seed);
        let plan = Plan::draw(&mut rng, &wishes);
        let mut trace = Trace::new(print);
        trace.note(0, format_args!("{plan:?}"));
        let clients = (0..plan.clients).map(|number| Client::new(number, &plan)).collect();
        let machines = (0..plan.nodes())
            .map(|node| {
                let join = join_list(&plan, node, &mut rng);
                Machine::new(Clocks::new(&mut rng, plan.drift_ppm, plan.skew_ms), join)
            })
            .collect();
        let mut world = World {
            planted,
            rng,
            now: 0,
            sequence: 0,
            queue: BTreeMap::new(),
            machines,
            net: Network::default(),
            spoiled: BTreeMap::new(),
            rewriters: BTreeMap::new(),
            clients,
            ledger: Ledger::new(plan.shards, planted),
            histories: Histories::new(planted),
            agreed: Agreed::default(),
            operator: Operator::default(),
            cluster_id: String::new(),
            phase: Phase::Working,
            phase_until: u64::MAX,
            probed_until: 0,
            compare_at: 0,
            trace,
            counts: BTreeMap::new(),
            plan,
        };
        world.begin();
        world
    }

    fn begin(&mut self) {
        for node in 0..self.plan.founders {
            let at = if node == 0 { 0 } else { self.within(200 * MS) };
            self.at(at, Event::Start { node });
        }
        for node in self.plan.founders..self.plan.nodes() {
            let at = self.within(self.plan.work_us);
            self.at(at, Event::Start { node });
        }
        for client in 0..self.clients.len() {
            self.at(self.now, Event::Connect { client });
        }
        for (fault, mean) in self.plan.faults.clone() {
            let first = self.wait(mean);
            self.at(first + self.plan.quiet_us, Event::Strike(fault));
        }
        self.at(self.plan.work_us, Event::Heal);
        self.at(self.now, Event::Look);
    }

    /// Runs until everything was checked.
    pub fn run(&mut self) -> Result<(), String> {
        while self.phase != Phase::Over {
            let Some(((at, _), event)) = self.queue.pop_first() else {
                return Err("INV-SIM-10: nothing will ever happen again".into());
            };
            self.now = at;
            if self.now > self.phase_until {
                return Err(self.explain_stuck());
            }
            self.handle(event)?;
        }
        self.finish()
    }

    /// Hashes what is left, and sums up.
    fn finish(&mut self) -> Result<(), String> {
        for machine in &mut self.machines {
            for name in machine.disk.list().map_err(|e| e.to_string())? {
                self.trace.mix(skep_base::hash::seeded(0, &machine.disk.content(&name).unwrap_or_default()));
            }
        }
        self.count_by("virtual ms", self.now / MS);
        self.count_by("replies", self.clients.iter().map(|c| c.replies).sum());
        let judged = self.clients.iter().map(|c| c.judged).sum::<u64>() + self.ledger.checked;
        self.count_by("replies judged", judged);
        self.count_by("operations logged", self.agreed.ops);
        self.count_by("terms led", self.agreed.terms());
        Ok(())
    }

    fn handle(&mut self, event: Event) -> Result<(), String> {
        match event {
            Event::Step(step) => self.on_step(step)?,
            Event::ToNode { client, generation, bytes } if self.clients[client].generation == generation => {
                let node = self.clients[client].node;
                let cell = self.clients[client].conn.map_or(0, |conn| conn.0);
                self.arrive_in(node, cell, Arrival::Bytes { client, generation, bytes });
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
            Event::Probe { client, probe } => self.on_probe(client, probe),
            Event::Arrives { stream, side } => self.on_arrives(stream, side),
            Event::Breaks { stream } => self.on_breaks(stream),
            Event::DialEnds { stream } => self.on_dial_ends(stream),
            Event::Mend { outage } => self.on_mend(outage),
            Event::Strike(fault) => self.on_strike(fault)?,
            Event::Jump { node, by } => self.on_jump(node, by),
            Event::Space { node } => self.machines[node].disk.set_capacity(None),
            Event::FastDisk { node } => self.machines[node].slowness = 1,
            Event::DiskAnswers { node } => self.on_disk_answers(node),
            Event::Resume { node, life } if self.machines[node].life == life => self.on_resume(node),
            Event::Start { node } => self.on_start(node)?,
            Event::Heal => self.on_heal(),
            Event::Look => self.on_look()?,
            _ => {} // of an earlier life or connection
        }
        Ok(())
    }

    fn on_step(&mut self, step: Step) -> Result<(), String> {
        let machine = &mut self.machines[step.node];
        if !machine.runs(step.life) {
            return Ok(());
        }
        if machine.paused || machine.hangs && !matches!(step.work, Work::Turn(_)) {
            machine.waiting.push(step);
            return Ok(());
        }
        match step.work {
            Work::Turn(cell) => self.on_turn_due(step.node, cell),
            Work::Log => self.on_log_step(step.node),
            Work::ChoreStart => {
                self.start_chore(step.node);
                Ok(())
            }
            Work::ChoreDone => self.on_chore_done(step.node),
            Work::Checkpoint => self.on_checkpoint_step(step.node),
            Work::Source => self.on_source_step(step.node),
        }
    }

    fn at(&mut self, at: u64, event: Event) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), event);
    }

    fn step_at(&mut self, at: u64, node: usize, work: Work) {
        let life = self.machines[node].life;
        self.at(at, Event::Step(Step { node, life, work }));
    }

    /// An instant within the next `us` microseconds.
    fn within(&mut self, us: u64) -> u64 {
        self.now + self.rng.below(us.max(1))
    }

    /// When an event of this mean interval happens next.
    fn wait(&mut self, mean: u64) -> u64 {
        self.now + mean / 4 + self.rng.below(mean * 3 / 2)
    }

    /// The earliest time that any wall clock shows.
    fn wall_min(&self) -> u64 {
        self.machines.iter().map(|m| m.clocks.wall(self.now)).min().unwrap_or(0)
    }

    /// What a clock would show that was never set back: a node's time may go on from any that was seen.
    fn wall_max(&self) -> u64 {
        self.machines.iter().map(|m| m.clocks.wall_max(self.now)).max().unwrap_or(0)
    }

    fn arrive(&mut self, node: usize, arrival: Arrival) {
        self.arrive_in(node, 0, arrival);
    }

    fn arrive_in(&mut self, node: usize, cell: usize, arrival: Arrival) {
        // A connection belongs to one life of a process, and so does its cell.
        if let Some(process) = self.machines[node].process.as_mut().filter(|p| cell < p.cells.len()) {
            process.cells[cell].arrivals.push(arrival);
            self.soon_in(node, cell);
        }
    }

    fn arrive_in_all(&mut self, node: usize, arrival: impl Fn() -> Arrival) {
        for cell in 0..self.machines[node].process.as_ref().map_or(0, |p| p.cells.len()) {
            self.arrive_in(node, cell, arrival());
        }
    }

    fn soon(&mut self, node: usize) {
        self.soon_in(node, 0);
    }

    /// A turn comes as soon as the cell's loop gets to it. Where there are several, one may have to wait for a processor.
    fn soon_in(&mut self, node: usize, cell: usize) {
        let several = self.machines[node].process.as_ref().is_some_and(|p| p.cells.len() > 1);
        let waits = several && self.rng.one_in(30);
        let at = self.within(if waits { 4 * MS } else { 60 }) + 1;
        self.schedule_turn(node, cell, at);
    }

    fn schedule_turn(&mut self, node: usize, cell: usize, at: u64) {
        let Some(process) = &mut self.machines[node].process else { return };
        let turn_at = &mut process.cells[cell].turn_at;
        if turn_at.is_none_or(|planned| planned > at) {
            *turn_at = Some(at);
            self.step_at(at, node, Work::Turn(cell));
        }
    }

    fn schedule_wakeup(&mut self, node: usize, cell: usize) {
        let machine = &self.machines[node];
        let Some(process) = &machine.process else { return };
        let here = |client: &usize| self.clients[*client].conn.is_none_or(|conn| conn.0 == cell);
        let blocked = process.blocked.iter().any(here);
        if let Some(instant) = process.cells[cell].node.next_wakeup() {
            let at = machine.clocks.instant(instant).max(self.now + 1);
            self.schedule_turn(node, cell, at);
        }
        if blocked {
            self.schedule_turn(node, cell, self.now + MS / 2);
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

/// Whom a node is told to join: founders list all founders, perhaps themselves too; a later node lists any of them.
fn join_list(plan: &Plan, node: usize, rng: &mut Rng) -> Vec<String> {
    let founds = node < plan.founders;
    if founds && plan.founders == 1 {
        return Vec::new();
    }
    let (lists_itself, first) = (rng.one_in(2), rng.below(plan.founders as u64) as usize);
    let listed = |other: &usize| match founds {
        true => *other != node || lists_itself,
        false => *other >= first,
    };
    let mut list: Vec<String> = (0..plan.founders).filter(listed).map(peer_address).collect();
    let len = list.len();
    list.rotate_left(rng.below(len as u64) as usize);
    list
}
