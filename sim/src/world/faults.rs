//! What goes wrong, and the end of it.

use super::{End, Event, Fault, HEALING_US_MAX, Phase, World};
use crate::client::State;
use crate::plan::MS;
use crate::process::Arrival;

impl World {
    pub(super) fn faults(&self) -> Vec<(Fault, u64)> {
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

    pub(super) fn on_strike(&mut self, fault: Fault) -> Result<(), String> {
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
                match self.clients[client].conn {
                    Some(conn) if self.rng.one_in(3) => {
                        self.count("half-closed connections");
                        self.arrive(Arrival::Ended { conn });
                    }
                    Some(_) => {
                        self.count("disconnects");
                        self.disconnect(client);
                    }
                    None => {}
                }
            }
        }
        Ok(())
    }

    pub(super) fn jump(&mut self) {
        let far = [100, 3_000, 4_000_000][self.rng.below(3) as usize];
        let by = self.rng.below(far) as i64;
        if self.rng.one_in(2) {
            self.wall_offset += by;
        } else {
            self.wall_offset -= by;
            let wall = self.wall();
            self.clients.iter_mut().for_each(|c| c.on_wall_back(wall));
        }
        self.wall_offset_max = self.wall_offset_max.max(self.wall_offset);
        self.count("clock jumps");
    }

    pub(super) fn on_heal(&mut self) {
        self.note("faults end");
        self.phase = Phase::Draining;
        self.phase_until = self.now + HEALING_US_MAX;
        self.disk.set_capacity(None);
        self.disk.restart(); // ends an error that has not struck yet
        self.slowness = 1;
        self.at(self.now, Event::Look);
    }

    /// Looks whether the phase is over.
    pub(super) fn on_look(&mut self) -> Result<(), String> {
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
}
