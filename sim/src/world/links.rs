//! The clients of the world and the network between them and the node.

use skep_base::Rng;

use super::{Event, Phase, World};
use crate::client::{Client, State, Surroundings};
use crate::plan::MS;
use crate::process::Arrival;

impl World {
    pub(super) fn on_connect(&mut self, client: usize) {
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

    pub(super) fn begin_sync(&mut self, client: usize) {
        let bytes = self.with_client(client, |client, rng, around| client.begin_sync(rng, around));
        self.transmit(client, &bytes);
    }

    pub(super) fn on_burst(&mut self, client: usize) {
        if self.phase == Phase::Working
            && self.clients[client].state == State::Up
            && self.clients[client].is_idle()
        {
            let bytes = self.with_client(client, |client, rng, around| client.burst(rng, around));
            self.transmit(client, &bytes);
        }
    }

    pub(super) fn on_to_client(&mut self, client: usize, bytes: &[u8]) -> Result<(), String> {
        let answer = self.with_client(client, |client, rng, around| client.receive(bytes, rng, around))?;
        self.transmit(client, &answer);
        if self.clients[client].state == State::Up && self.clients[client].is_idle() && answer.is_empty() {
            let at = self.within(self.plan.think_us);
            let generation = self.clients[client].generation;
            self.at(at, Event::Burst { client, generation });
        }
        Ok(())
    }

    pub(super) fn with_client<R>(
        &mut self,
        client: usize,
        run: impl FnOnce(&mut Client, &mut Rng, &mut Surroundings<'_>) -> R,
    ) -> R {
        let wall_max = self.wall_max();
        let mut around = Surroundings {
            plan: &self.plan,
            ledger: &mut self.ledger,
            at: self.now,
            wall: (self.now as i64 / MS as i64 + self.wall_offset) as u64,
            wall_max,
        };
        run(&mut self.clients[client], &mut self.rng, &mut around)
    }

    /// Sends bytes to the node in pieces that have nothing to do with commands.
    pub(super) fn transmit(&mut self, client: usize, bytes: &[u8]) {
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

    pub(super) fn disconnect(&mut self, client: usize) {
        if let Some(conn) = self.clients[client].conn {
            self.arrive(Arrival::Gone { conn });
        }
        self.lose_connection(client, false, false);
    }

    pub(super) fn lose_connection(&mut self, client: usize, crashed: bool, lossy: bool) {
        self.with_client(client, |client, _, around| client.on_lost(crashed, lossy, around));
        let at = self.within(30 * MS) + MS;
        self.at(at, Event::Connect { client });
    }
}
