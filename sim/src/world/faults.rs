//! What goes wrong while clients work.

use std::collections::BTreeSet;

use super::{End, Event, Phase, Probe, World};
use crate::net::FrameFault;
use crate::plan::{Fault, MS};
use crate::planted::{DATA, Planted};
use crate::process::Arrival;

/// After it, most of the time, those who are left have another leader.
const ELECTION_US: u64 = 450 * MS;
/// The time for writes to the new leader, and again for reads on the one that led before.
const PROBE_US: u64 = 100 * MS;
/// What is asked so long before a process goes on waits in its sockets.
const ASKED_BEFORE_US: u64 = 25 * MS;
/// The shortest time after which others lead in place of a node that is cut off, and the longest after which it leads.
const REPLACED_US: u64 = 200 * MS;
const LEADS_US: u64 = 500 * MS;
/// Within it the clock of a leader that is cut off is set back: its lease holds yet.
const CLOCK_SET_US: u64 = 100 * MS;
/// Between the end of one probe and the next, all are to be well again.
const CALM_US: u64 = 300 * MS;

impl World {
    pub(super) fn on_strike(&mut self, fault: Fault) -> Result<(), String> {
        if self.phase != Phase::Working {
            return Ok(());
        }
        let mean = self.plan.faults.iter().find(|(f, _)| *f == fault).map_or(MS, |(_, mean)| *mean);
        let next = self.wait(mean);
        self.at(next, Event::Strike(fault));
        let node = self.victim();
        if self.plan.focus.is_some() && fault != Fault::Jump && self.now < self.probed_until + CALM_US {
            return Ok(());
        }
        self.note(&format!("fault: {fault:?} of {node}"));
        match fault {
            Fault::PowerCut if self.rng.one_in(2) => {
                // Between two operations of one of the threads.
                self.machines[node].disk.fail_after(self.rng.below(12));
            }
            Fault::PowerCut => self.die(node, End::PowerCut),
            Fault::Blackout => self.black_out(),
            Fault::Kill => self.die(node, End::Kill),
            Fault::Eio => {
                self.machines[node].disk.fail_after(self.rng.below(30));
                self.count("disk errors armed");
            }
            Fault::Full => self.fill_disk(node),
            Fault::Slow => {
                self.machines[node].slowness = 2 + self.rng.below(40);
                self.count("disk slow");
                let until = self.now + 20 * MS + self.rng.below(300 * MS);
                self.at(until, Event::FastDisk { node });
            }
            Fault::Hang => {
                self.machines[node].hangs = true;
                self.count("disk hangs");
                let until = self.outage();
                self.at(until, Event::DiskAnswers { node });
            }
            Fault::Jump => self.jump(node),
            Fault::Checkpoint => {
                self.count("checkpoints asked for");
                self.arrive_in_all(node, || Arrival::CheckpointWanted);
            }
            Fault::Disconnect => self.disconnect_any(),
            Fault::Pause => self.pause(node),
            Fault::Partition => self.part(node),
            Fault::Bridge => self.part_in_part(node),
            Fault::OneWay => self.part_one_way(node),
            Fault::Break => self.break_link(),
            Fault::Frame => self.spoil_frame(),
            Fault::Operate => self.operate(),
            Fault::Damage => self.damage(node),
        }
        Ok(())
    }

    /// A machine to strike: every other time the one that leads, if there is one.
    fn victim(&mut self) -> usize {
        let any = self.rng.below(self.machines.len() as u64) as usize;
        let leader = self.agreed.leader(DATA).filter(|_| self.rng.one_in(2));
        leader.unwrap_or(any)
    }

    /// When an outage that begins now ends.
    pub(super) fn outage(&mut self) -> u64 {
        self.now + 10 * MS + self.rng.below(self.plan.outage_us)
    }

    fn black_out(&mut self) {
        self.count("blackouts");
        let all = self.rng.one_in(2);
        for node in 0..self.machines.len() {
            if all || self.rng.one_in(2) {
                self.die(node, End::PowerCut);
            }
        }
    }

    fn fill_disk(&mut self, node: usize) {
        let disk = &self.machines[node].disk;
        let free = self.rng.below(2 * self.plan.segment_bytes);
        disk.set_capacity(Some(disk.bytes_used() + free));
        self.count("disk full");
        let until = self.now + 50 * MS + self.rng.below(600 * MS);
        self.at(until, Event::Space { node });
    }

    /// Stops a process, perhaps in the middle of a turn: it has read its clock and its sockets, and has not written yet.
    fn pause(&mut self, node: usize) {
        // In half of the cases the one that leads is stopped for longer than an election takes, and wakes up cut off from the
        // others: it has not heard what they did meanwhile.
        let cut_off = self.machines.len() > 1 && (self.rng.one_in(2) || self.plan.focus.is_some());
        let node = self.agreed.leader(DATA).filter(|_| cut_off).unwrap_or(node);
        if self.machines[node].process.is_none() || self.machines[node].paused {
            return;
        }
        self.count("pauses");
        if self.rng.one_in(2) {
            let now = self.machines[node].clocks.now(self.now);
            for cell in 0..self.machines[node].process.as_ref().map_or(0, |p| p.cells.len()) {
                self.begin_turn(node, cell, now);
                self.soon_in(node, cell);
            }
        }
        let life = self.machines[node].life;
        let machine = &mut self.machines[node];
        machine.paused = true;
        machine.paused_at = Some((machine.clocks.now(self.now), self.now));
        let until = self.outage() + if cut_off { ELECTION_US + PROBE_US } else { 0 };
        self.at(until, Event::Resume { node, life });
        if cut_off {
            let longer = until + 200 * MS + self.rng.below(self.plan.outage_us);
            self.cut_until("pauses that end in a partition", longer, |from, to| {
                (from == node) != (to == node)
            });
            let reads_from = until - ASKED_BEFORE_US;
            self.probe(until - PROBE_US, Probe { node, reads_from, until: until + PROBE_US });
        }
    }

    /// From `others` on, when the others may have another leader, clients look whether the node that was cut off still answers.
    fn probe(&mut self, others: u64, probe: Probe) {
        self.probed_until = probe.until;
        for client in 0..self.clients.len() {
            self.clients[client].quiet_until = probe.until;
            self.at(others, Event::Probe { client, probe });
        }
    }

    /// Cuts the node that leads off from the others for longer than an election takes.
    fn cut_off_leader(&mut self, node: usize) {
        let others = self.now + REPLACED_US;
        let until = self.now + LEADS_US;
        let longer = until + self.rng.below(self.plan.outage_us);
        self.cut_until("leaders cut off", longer, |from, to| (from == node) != (to == node));
        if self.plan.has(Fault::Jump) {
            let (at, by) = (self.within(CLOCK_SET_US), 500 + self.rng.below(1_000));
            self.at(at, Event::Jump { node, by: -(by as i64) });
        }
        self.probe(others, Probe { node, reads_from: others, until });
    }

    /// Parts the nodes: one from all others, or any two sides.
    fn part(&mut self, node: usize) {
        let alone = self.rng.one_in(2);
        let directed = alone && self.rng.one_in(2) || self.plan.focus.is_some();
        if let Some(leader) = self.agreed.leader(DATA).filter(|_| directed) {
            return self.cut_off_leader(leader);
        }
        let sides: Vec<bool> =
            (0..self.machines.len()).map(|n| if alone { n == node } else { self.rng.one_in(2) }).collect();
        self.cut("partitions", |from, to| sides[from] != sides[to]);
    }

    /// Parts some of the nodes from some: two sides that `node` reaches both of, or any pairs.
    fn part_in_part(&mut self, node: usize) {
        let count = self.machines.len();
        if self.rng.one_in(2) {
            let sides: Vec<bool> = (0..count).map(|_| self.rng.one_in(2)).collect();
            return self.cut("bridges", |from, to| from != node && to != node && sides[from] != sides[to]);
        }
        let pairs: Vec<bool> = (0..count * count).map(|_| self.rng.one_in(3)).collect();
        self.cut("partial partitions", |from, to| pairs[from.min(to) * count + from.max(to)]);
    }

    /// Nothing that a node sends arrives, or nothing reaches it, or nothing gets from one to another.
    fn part_one_way(&mut self, node: usize) {
        let other = self.rng.below(self.machines.len() as u64) as usize;
        match self.rng.below(3) {
            0 => self.cut("mute nodes", |from, _| from == node),
            1 => self.cut("deaf nodes", |_, to| to == node),
            _ => self.cut("one-way cuts", |from, to| (from, to) == (node, other)),
        }
    }

    fn cut(&mut self, what: &'static str, is_cut: impl Fn(usize, usize) -> bool) {
        let until = self.outage();
        self.cut_until(what, until, is_cut);
    }

    fn cut_until(&mut self, what: &'static str, until: u64, is_cut: impl Fn(usize, usize) -> bool) {
        let all = (0..self.machines.len()).flat_map(|a| (0..self.machines.len()).map(move |b| (a, b)));
        let pairs: BTreeSet<_> = all.filter(|(from, to)| from != to && is_cut(*from, *to)).collect();
        if pairs.is_empty() {
            return;
        }
        self.count(what);
        self.note(&format!("{what}: {pairs:?}"));
        self.sequence += 1;
        let outage = self.sequence;
        self.net.cut(outage, pairs);
        self.at(until, Event::Mend { outage: Some(outage) });
    }

    /// An outage is over. What waited arrives, or its connection is found to be broken.
    pub(super) fn on_mend(&mut self, outage: Option<u64>) {
        self.note("the network is mended");
        let breaks = self.rng.one_in(2);
        for (stream, side, at) in self.net.mend(outage) {
            if breaks && self.rng.one_in(3) {
                self.at(self.now + MS, Event::Breaks { stream });
            }
            self.at(at, Event::Arrives { stream, side });
        }
    }

    fn break_link(&mut self) {
        if let Some(stream) = self.any_stream() {
            self.count("links broken");
            self.on_breaks(stream);
        }
    }

    fn spoil_frame(&mut self) {
        let Some(stream) = self.any_stream() else { return };
        let faults = [
            (FrameFault::Lost, "frames lost"),
            (FrameFault::Doubled, "frames doubled"),
            (FrameFault::Damaged, "frames damaged"),
        ];
        let (fault, what) = faults[self.rng.below(3) as usize];
        self.count(what);
        let side = self.rng.below(2) as usize;
        self.net.spoil(stream, side, fault);
    }

    fn jump(&mut self, node: usize) {
        let far = [100, 3_000, 4_000_000][self.rng.below(3) as usize];
        let by = self.rng.below(far) as i64;
        let by = if self.rng.one_in(2) { by } else { -by };
        self.on_jump(node, by);
    }

    /// The wall clock of a machine is set forward or back.
    pub(super) fn on_jump(&mut self, node: usize, by: i64) {
        self.machines[node].clocks.jump(by);
        if self.planted == Some(Planted::LeaseByWallClock) {
            self.machines[node].clocks.step_with_wall(by);
        }
        if by < 0 {
            let wall = self.wall_min();
            self.clients.iter_mut().for_each(|c| c.on_wall_back(wall));
        }
        self.count("clock jumps");
    }

    fn disconnect_any(&mut self) {
        let client = self.rng.below(self.clients.len() as u64) as usize;
        let node = self.clients[client].node;
        match self.clients[client].conn {
            Some(conn) if self.rng.one_in(3) => {
                self.count("half-closed connections");
                self.arrive_in(node, conn.0, Arrival::Ended { conn });
            }
            Some(_) => {
                self.count("disconnects");
                self.disconnect(client);
            }
            None => {}
        }
    }
}
