//! The clients of the world and the network between them and the nodes.

use skep_base::Rng;
use skep_node::{Input, Now};

use super::{Event, Phase, Probe, World};
use crate::client::{Client, State, Surroundings};
use crate::plan::MS;
use crate::planted::DATA;
use crate::process::Arrival;

/// The time between two probes of a client at the most, if it is not waiting for an answer.
const PROBE_AGAIN_US: u64 = 20 * MS;

impl World {
    pub(super) fn on_connect(&mut self, client: usize) {
        let ended = matches!(self.phase, Phase::Stopping | Phase::Last | Phase::Over);
        if self.clients[client].bound || self.clients[client].state != State::Down || ended {
            return;
        }
        let Some(node) = self.node_to_connect_to(client) else {
            let again = self.within(20 * MS) + 5 * MS;
            return self.at(again, Event::Connect { client });
        };
        let state = &mut self.clients[client];
        (state.node, state.since, state.bound) = (node, self.now, true);
        let generation = state.generation;
        self.arrive(node, Arrival::Connect { client, generation });
    }

    /// Any node that is ready; now and then one that is not. Where leases matter each node has clients of its own.
    fn node_to_connect_to(&mut self, client: usize) -> Option<usize> {
        let any_will_do = !self.plan.alone() && self.rng.one_in(8);
        let fits =
            |m: &crate::machine::Machine| m.process.as_ref().is_some_and(|p| p.is_ready() || any_will_do);
        let fitting: Vec<usize> = (0..self.machines.len()).filter(|n| fits(&self.machines[*n])).collect();
        if self.plan.focus.is_some() && self.phase == Phase::Working {
            let own = client % self.machines.len();
            return Some(own).filter(|own| fitting.contains(own));
        }
        (!fitting.is_empty()).then(|| fitting[self.rng.below(fitting.len() as u64) as usize])
    }

    pub(super) fn accept_client(&mut self, node: usize, client: usize, generation: u64) {
        let state = &mut self.clients[client];
        let Some(process) = &mut self.machines[node].process else { return };
        if state.generation != generation || state.conn.is_some() {
            return;
        }
        match process.hub().admit(0) {
            Ok((0, number)) => {
                state.conn = Some((0, process.welcome(node, 0, (client, generation), number)));
                self.begin_sync(client);
            }
            Ok((cell, number)) => {
                process.cells[cell].arrivals.push(Arrival::Welcome { client, generation, number });
                self.soon_in(node, cell);
            }
            Err(_) => {
                state.bound = false;
                let again = self.within(20 * MS);
                self.at(again, Event::Connect { client });
            }
        }
    }

    /// A client that the hub has let in comes into another cell.
    pub(super) fn welcome_client(
        &mut self,
        node: usize,
        cell: usize,
        (client, generation): (usize, u64),
        number: u64,
        now: Now,
    ) {
        let Some(process) = &mut self.machines[node].process else { return };
        let conn = process.welcome(node, cell, (client, generation), number);
        let state = &mut self.clients[client];
        if state.generation != generation || state.conn.is_some() {
            // It has left meanwhile.
            return process.handle(cell, now, Input::Disconnected { conn });
        }
        state.conn = Some((cell, conn));
        self.begin_sync(client);
    }

    fn begin_sync(&mut self, client: usize) {
        let bytes = self.with_client(client, |client, rng, around| client.begin_sync(rng, around));
        self.transmit(client, &bytes);
    }

    pub(super) fn on_burst(&mut self, client: usize) {
        if self.now < self.clients[client].quiet_until {
            let generation = self.clients[client].generation;
            let at = self.clients[client].quiet_until + self.rng.below(self.plan.think_us);
            return self.at(at, Event::Burst { client, generation });
        }
        if self.phase == Phase::Working
            && self.clients[client].state == State::Up
            && self.clients[client].is_idle()
        {
            let bytes = self.with_client(client, |client, rng, around| client.burst(rng, around));
            self.transmit(client, &bytes);
        }
    }

    pub(super) fn on_probe(&mut self, client: usize, probe: Probe) {
        if self.phase != Phase::Working || self.now > probe.until || self.plan.evicts_all() {
            return;
        }
        let again = self.within(PROBE_AGAIN_US) + 1;
        self.at(again, Event::Probe { client, probe });
        let state = &self.clients[client];
        let writes = state.node != probe.node;
        if state.state != State::Up || !state.is_idle() || !writes && self.now < probe.reads_from {
            return;
        }
        let replaced = self.agreed.leader(DATA) != Some(probe.node);
        self.count(match (writes, replaced) {
            (true, _) => "probes that write",
            (false, true) => "probes that read on a leader that was replaced",
            (false, false) => "probes that read on a leader that is cut off",
        });
        let bytes = self.with_client(client, |client, _, around| client.probe(writes, around));
        self.transmit(client, &bytes);
    }

    pub(super) fn on_to_client(&mut self, client: usize, bytes: &[u8]) -> Result<(), String> {
        let node = self.clients[client].node;
        let text = String::from_utf8_lossy(bytes);
        self.trace.note(self.now, format_args!("client {client} hears {text:?} from {node}"));
        let answer = self.with_client(client, |client, _, around| client.receive(bytes, around))?;
        if self.clients[client].gives_up {
            self.disconnect(client);
            return Ok(());
        }
        self.transmit(client, &answer);
        if self.clients[client].state == State::Up && self.clients[client].is_idle() && answer.is_empty() {
            let at = self.within(self.plan.think_us);
            let generation = self.clients[client].generation;
            self.at(at, Event::Burst { client, generation });
        }
        Ok(())
    }

    /// Clients of a cluster that have waited too long for an answer, or for being let in, go to another node.
    pub(super) fn end_patience(&mut self) {
        if self.plan.alone() {
            return;
        }
        for client in 0..self.clients.len() {
            let state = &self.clients[client];
            let waits = state.state != State::Up || !state.is_idle();
            if waits && state.bound && self.now - state.since > self.plan.patience_us {
                self.count("clients out of patience");
                self.disconnect(client);
            }
        }
    }

    fn with_client<R>(
        &mut self,
        client: usize,
        run: impl FnOnce(&mut Client, &mut Rng, &mut Surroundings<'_>) -> R,
    ) -> R {
        let (wall_min, wall_max) = (self.wall_min(), self.wall_max());
        let wall = self.machines[self.clients[client].node].clocks.wall(self.now);
        self.ledger.wall_max = wall_max;
        let mut around = Surroundings {
            plan: &self.plan,
            ledger: &mut self.ledger,
            histories: &mut self.histories,
            at: self.now,
            wall,
            wall_min,
            wall_max,
        };
        run(&mut self.clients[client], &mut self.rng, &mut around)
    }

    /// Sends bytes to the node in pieces that have nothing to do with commands.
    fn transmit(&mut self, client: usize, bytes: &[u8]) {
        let (node, generation) = (self.clients[client].node, self.clients[client].generation);
        if !bytes.is_empty() {
            self.clients[client].since = self.now;
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let len =
                if self.rng.one_in(3) { 1 + self.rng.below(rest.len() as u64) as usize } else { rest.len() };
            let (piece, behind) = rest.split_at(len);
            rest = behind;
            let at = self.clients[client].to_node_at.max(self.within(self.plan.network_us)) + 1;
            self.clients[client].to_node_at = at;
            self.trace.note(
                at,
                format_args!("client {client} sends {:?} to {node}", String::from_utf8_lossy(piece)),
            );
            self.at(at, Event::ToNode { client, generation, bytes: piece.to_vec() });
        }
    }

    /// Sends what the node has for its clients; slow readers take a part of it.
    pub(super) fn write_clients(&mut self, node: usize, cell: usize) {
        let Some(process) = &mut self.machines[node].process else { return };
        let mut ready: Vec<usize> = Vec::new();
        let here = |client: &usize| self.clients[*client].conn.is_none_or(|conn| conn.0 == cell);
        ready.extend(process.blocked.extract_if(.., here));
        while let Some(conn) = process.cells[cell].node.next_with_output() {
            let conn = Some((cell, conn));
            ready.extend(self.clients.iter().position(|c| c.node == node && c.conn == conn));
        }
        ready.sort_unstable();
        ready.dedup();
        for client in ready {
            self.write_client(node, client);
        }
    }

    fn write_client(&mut self, node: usize, client: usize) {
        let Some((cell, conn)) = self.clients[client].conn.filter(|_| self.clients[client].node == node)
        else {
            return;
        };
        let Some(process) = &mut self.machines[node].process else { return };
        let unsent = process.cells[cell].node.unsent(conn);
        let mut take = unsent.len();
        if self.plan.slow_readers && take > 1 && self.rng.one_in(3) {
            take = 1 + self.rng.below(take as u64) as usize;
            process.blocked.insert(client);
        }
        let bytes = unsent[..take].to_vec();
        let close = process.cells[cell].node.on_sent(conn, take);
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

    /// Ends a client's connection, or its attempt to make one.
    pub(super) fn disconnect(&mut self, client: usize) {
        let node = self.clients[client].node;
        if let Some(conn) = self.clients[client].conn {
            self.arrive_in(node, conn.0, Arrival::Gone { conn });
        }
        self.lose_connection(client, false, false);
    }

    pub(super) fn lose_connection(&mut self, client: usize, crashed: bool, lossy: bool) {
        self.with_client(client, |client, _, around| client.on_lost(crashed, lossy, around));
        let at = self.within(30 * MS) + MS;
        self.at(at, Event::Connect { client });
    }
}
