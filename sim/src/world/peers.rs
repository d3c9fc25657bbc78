//! Connections between the nodes of the world.

use skep_base::{LinkId, LogIndex};
use skep_node::{Input, Now};

use super::{Event, World};
use crate::net::{FrameFault, Parcel, Side, StreamId};
use crate::plan::MS;
use crate::planted::Planted;
use crate::process::{Arrival, LinkOrder, machine_at, peer_address};
use crate::wire::{acknowledge_all, confirmation, deny_answers};

/// After it a dialler gives up, as `connect` does with the limit that the server sets for it.
const CONNECT_US_MAX: u64 = 2_000 * MS;

impl World {
    /// Dials and closes as the node wants.
    pub(super) fn take_link_orders(&mut self, node: usize) {
        let Some(process) = &mut self.machines[node].process else { return };
        for order in std::mem::take(&mut process.link_orders) {
            match order {
                LinkOrder::Dial { link, address } => self.dial(node, link, &address),
                LinkOrder::Close { link } => self.close_link(node, link),
            }
        }
    }

    fn dial(&mut self, node: usize, link: LinkId, address: &str) {
        let life = self.machines[node].life;
        let Some(to) = machine_at(address).filter(|to| *to < self.machines.len()) else {
            let reason = format!("no host has the address {address}");
            return self.arrive(node, Arrival::LinkClosed { link, reason });
        };
        self.count("links dialled");
        let stream = self.net.open(Side { node, life, link: Some(link), open: true }, to);
        self.send_parcel(stream, 0, Parcel::Open);
        self.at(self.now + CONNECT_US_MAX, Event::DialEnds { stream });
    }

    /// A connection attempt that nobody answered ends.
    pub(super) fn on_dial_ends(&mut self, stream: StreamId) {
        if self.net.stream(stream).is_some_and(|s| !s.opened) {
            self.end_side(stream, 0, Some("the connection attempt timed out"));
            self.net.lose_under_way(stream, None);
            self.net.tidy(stream);
        }
    }

    fn send_parcel(&mut self, stream: StreamId, side: usize, parcel: Parcel) {
        let when = (self.now, self.plan.pace());
        if let Some(at) = self.net.send(stream, side, parcel, when, &mut self.rng) {
            self.at(at, Event::Arrives { stream, side });
        }
    }

    /// Something that `side` sent may have arrived.
    pub(super) fn on_arrives(&mut self, stream: StreamId, side: usize) {
        for parcel in self.net.take_arrived(stream, side, self.now) {
            self.on_parcel(stream, side, parcel);
        }
        self.net.tidy(stream);
    }

    fn on_parcel(&mut self, stream: StreamId, side: usize, parcel: Parcel) {
        let Some(known) = self.net.stream(stream) else { return };
        let to = known.sides[1 - side].as_ref().map_or(known.to, |s| s.node);
        if self.machines[to].dark {
            return; // nobody is there to answer
        }
        let receiver = known.sides[1 - side].clone();
        let listens = receiver.is_some_and(|s| s.open && self.machines[to].runs(s.life));
        match parcel {
            Parcel::Open => self.on_open(stream, to),
            Parcel::Opened if listens => {
                if let Some(known) = self.net.stream(stream) {
                    known.opened = true;
                }
                self.arrive(to, Arrival::LinkDialed { stream });
            }
            Parcel::Bytes(bytes) if listens => {
                self.arrive(to, Arrival::LinkBytes { stream, side, bytes });
            }
            Parcel::End(why) if listens => self.end_side(stream, 1 - side, Some(why)),
            Parcel::End(_) => {}
            // The process that had the connection is gone; its kernel says so.
            Parcel::Opened | Parcel::Bytes(_) => {
                self.send_parcel(stream, 1 - side, Parcel::End("reset by the peer"));
            }
        }
    }

    /// A request for a connection comes to a machine: its kernel takes it if a process listens, even one that is paused.
    fn on_open(&mut self, stream: StreamId, to: usize) {
        let life = self.machines[to].life;
        let listens = self.machines[to].process.is_some();
        if let Some(known) = self.net.stream(stream) {
            known.sides[1] = Some(Side { node: to, life, link: None, open: listens });
        }
        if listens {
            self.send_parcel(stream, 1, Parcel::Opened);
            self.arrive(to, Arrival::LinkAccepted { stream });
        } else {
            self.send_parcel(stream, 1, Parcel::End("connection refused"));
        }
    }

    /// One side of a connection ends; its process is told if there is a reason.
    fn end_side(&mut self, stream: StreamId, side: usize, told: Option<&str>) {
        let Some(known) = self.net.stream(stream) else { return };
        let Some(ended) = known.sides[side].as_mut().filter(|s| s.open) else { return };
        ended.open = false;
        let (node, life, link) = (ended.node, ended.life, ended.link);
        if let (Some(reason), Some(link)) = (told, link)
            && self.machines[node].runs(life)
        {
            self.arrive(node, Arrival::LinkClosed { link, reason: reason.to_owned() });
        }
    }

    /// A node closes a connection.
    fn close_link(&mut self, node: usize, link: LinkId) {
        let life = self.machines[node].life;
        if let Some((stream, side)) = self.net.find(node, life, link) {
            self.note_closed(stream, side);
            self.end_side(stream, side, None);
            self.send_parcel(stream, side, Parcel::End("closed by the peer"));
        }
    }

    /// A process is gone. Its kernel ends its connections, unless the power is gone too.
    pub(super) fn end_links(&mut self, node: usize, powered: bool) {
        let life = self.machines[node].life;
        for (stream, side) in self.net.sides_of(node, life) {
            self.end_side(stream, side, None);
            if self.rng.one_in(2) {
                self.net.lose_under_way(stream, Some(side));
            }
            if powered {
                self.send_parcel(stream, side, Parcel::End("the process ended"));
            }
            self.net.tidy(stream);
        }
    }

    /// A connection comes into the loop of a process.
    pub(super) fn accept_link(&mut self, node: usize, stream: StreamId, now: Now) {
        let Some(process) = &mut self.machines[node].process else { return };
        let Some(known) = self.net.stream(stream) else { return };
        let from = known.sides[0].as_ref().map_or(0, |s| s.node);
        let link = process.hub().accept_link(now, peer_address(from));
        let Some(side) = known.sides[1].as_mut().filter(|s| s.open) else { return };
        match link {
            Some(_) => side.link = link,
            None => {
                self.end_side(stream, 1, None);
                self.send_parcel(stream, 1, Parcel::End("too many connections"));
            }
        }
    }

    /// Hands a process what came on a connection.
    pub(super) fn take_link_bytes(
        &mut self,
        node: usize,
        now: Now,
        (stream, side): (StreamId, usize),
        bytes: &[u8],
    ) {
        self.net.on_read(stream, side, bytes.len());
        let Some(known) = self.net.stream(stream) else { return };
        let sender = known.sides[side].as_ref().map(|s| s.node);
        let receiver = known.sides[1 - side].as_ref().filter(|s| s.open);
        let link = receiver.and_then(|s| s.link);
        if let (Some(link), Some(process)) = (link, &mut self.machines[node].process) {
            process.handle(0, now, Input::LinkReceived { link, bytes });
        }
        // The window is open again, so the sender goes on.
        if let Some(sender) = sender {
            self.soon(sender);
        }
    }

    /// Sends what the node has for other nodes, as far as the windows allow.
    pub(super) fn write_links(&mut self, node: usize) {
        let life = self.machines[node].life;
        let Some(process) = &mut self.machines[node].process else { return };
        let mut ready = std::mem::take(&mut process.blocked_links);
        while let Some(link) = process.hub().next_link_with_output() {
            ready.insert(link);
        }
        for link in ready {
            while self.write_link(node, life, link) {}
        }
    }

    /// Sends what is ready on a link, as far as its window allows. True if something was: more may be ready then.
    fn write_link(&mut self, node: usize, life: u64, link: LinkId) -> bool {
        let Some((stream, side)) = self.net.find(node, life, link) else { return false };
        let room = self.net.room(stream, side, self.plan.pace());
        let Some(process) = &mut self.machines[node].process else { return false };
        let unsent = process.hub().unsent_on(link);
        let bytes = unsent[..unsent.len().min(room)].to_vec();
        if bytes.len() < unsent.len() {
            process.blocked_links.insert(link);
        }
        if bytes.is_empty() {
            return false;
        }
        process.hub().on_link_sent(link, bytes.len());
        let bytes = self.lie((stream, side), node, link, bytes);
        if !bytes.is_empty() {
            self.send_parcel(stream, side, Parcel::Bytes(bytes));
            self.note_spoiled(stream, side);
        }
        true
    }

    /// For planted bugs: what a wrong node would have sent.
    fn lie(
        &mut self,
        (stream, side): (StreamId, usize),
        node: usize,
        link: LinkId,
        bytes: Vec<u8>,
    ) -> Vec<u8> {
        let Some(planted) = self.planted.filter(|planted| planted.is_on_the_wire()) else { return bytes };
        let to = self.net.stream(stream).and_then(|s| s.sides[1 - side].as_ref().map(|side| side.node));
        let rewriter = self.rewriters.entry((stream, side)).or_default();
        let machines = &self.machines;
        let mut confirmed = Vec::new();
        let told = rewriter.pass(&bytes, |message| match planted {
            Planted::ForwardTwice => deny_answers(message),
            Planted::ReadWithoutRound => {
                confirmed.extend(confirmation(&message));
                message
            }
            _ => {
                acknowledge_all(message, |group| to.map_or(LogIndex(0), |to| machines[to].shadow.last(group)))
            }
        });
        for frame in confirmed {
            self.arrive(node, Arrival::Forged { link, frame });
        }
        told
    }

    /// A connection on which a frame was spoiled breaks soon: no TCP would have let it through.
    fn note_spoiled(&mut self, stream: StreamId, side: usize) {
        let Some(fault) = self.net.spoiled(stream, side) else { return };
        if self.spoiled.insert(stream, (side, fault)).is_none() {
            self.note(&format!("a frame of link {stream} is {fault:?}"));
            let soon = self.now + MS + self.rng.below(300 * MS);
            self.at(soon, Event::Breaks { stream });
        }
    }

    /// A process must have closed a connection on which it read a damaged frame.
    pub(super) fn check_damage(&mut self, node: usize) -> Result<(), String> {
        for (stream, (side, fault)) in &self.spoiled {
            if *fault != FrameFault::Damaged || !self.net.damage_was_read(*stream, *side) {
                continue;
            }
            let reader = self.net.stream(*stream).and_then(|s| s.sides[1 - side].as_ref());
            if reader.is_some_and(|s| s.node == node) {
                return Err(format!(
                    "INV-SIM-18: {node} read a damaged frame on link {stream} and did not close it"
                ));
            }
        }
        Ok(())
    }

    fn note_closed(&mut self, stream: StreamId, side: usize) {
        let damaged = |(from, fault): &(usize, FrameFault)| *fault == FrameFault::Damaged && *from != side;
        if self.spoiled.get(&stream).is_some_and(damaged) {
            self.count("damaged frames that closed their link");
        }
    }

    /// A connection breaks with all that is under way.
    pub(super) fn on_breaks(&mut self, stream: StreamId) {
        self.net.lose_under_way(stream, None);
        for side in 0..2 {
            if self.net.stream(stream).is_some_and(|s| s.sides[side].is_some()) {
                // Each side hears of it when its kernel does, which nothing under way comes after.
                self.send_parcel(stream, side, Parcel::End("the connection broke"));
            }
        }
    }

    /// A connection between two nodes to do something to.
    pub(super) fn any_stream(&mut self) -> Option<StreamId> {
        let streams = self.net.established();
        (!streams.is_empty()).then(|| streams[self.rng.below(streams.len() as u64) as usize])
    }
}
