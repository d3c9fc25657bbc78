//! The loop: sockets and threads in, the node's turn, sockets and threads out.
//!
//! The parts that deal with clients, links and disk are in `on_client.rs`, `on_link.rs` and `on_disk.rs`.

use std::io;
use std::time::Duration;

use mio::{Events, Poll};
use skep_base::Millis;
use skep_disk::NodeFiles;
use skep_node::{GatewayVersion, Input, Load, Node, Now, Output, Status};

use crate::clock::{Clock, Instant};
use crate::door::Door;
use crate::inside::{Calls, Inside};
use crate::listening::{Place, RunFault, Shared, Waker};
use crate::mailbox::{Mailbox, Parcel};
use crate::note::{self, Counts};
use crate::on_client::Clients;
use crate::on_disk::Declined;
use crate::on_link::Links;
use crate::process;
use crate::tokens;

/// Read from one link before the others get their turn: what a fast network brings while a turn lasts.
const LINK_READ_BYTES: usize = 256 << 10;
/// Read from one client before the others get their turn.
const CLIENT_READ_BYTES: usize = 64 << 10;
/// How soon what the log declined is offered again: what makes room for it may be another cell's.
const DECLINED_MS: u64 = 5;
/// How often the status is published.
const PUBLISH_MS: u64 = 500;
/// How long clients and peers get to read what is left for them when the node stops.
const FAREWELL_MS: u64 = 1_000;

/// Behind all instants.
const NEVER: Millis = Millis(u64::MAX);

pub(crate) struct EventLoop {
    pub(crate) poll: Poll,
    waker: Waker,
    pub(crate) mailbox: Mailbox,
    clock: Clock,
    /// When this turn began.
    pub(crate) turn: Now,
    pub(crate) node: Node,
    pub(crate) shared: Shared,
    /// `None` but for the hub.
    pub(crate) of_hub: Option<OfHub>,
    pub(crate) clients: Clients,
    inside: Inside,
    /// Of other threads of the process.
    pub(crate) calls: Calls,
    pub(crate) links: Links,
    /// What the disk threads would not take yet.
    pub(crate) declined: Declined,
    pub(crate) outputs: Vec<Output>,
    /// Empty; kept for its memory.
    spare: Vec<Output>,
    stop_asked: bool,
    stopped: bool,
    /// When the status is published next: at once if the node begins to serve, or to stop.
    publish_at: Millis,
    was_ready: bool,
    pub(crate) fault: Option<RunFault>,
    counts: Counts,
    /// The hub: what the other cells said of themselves last.
    told: Vec<Option<(Status, Counts)>>,
}

/// What only the hub's loop uses.
pub(crate) struct OfHub {
    pub publish: Box<dyn FnMut(Status, Counts)>,
    pub gateway: Box<dyn FnMut(GatewayVersion)>,
    pub files: NodeFiles,
    pub start_patience: Duration,
}

impl EventLoop {
    pub fn new(
        place: Place,
        (node, first): (Node, Vec<Output>),
        shared: Shared,
        of_hub: Option<OfHub>,
    ) -> io::Result<EventLoop> {
        let Place { poll, waker, mailbox, inside, doors } = place;
        let wake = waker.clone();
        let turn = Clock.now();
        let patience = of_hub.as_ref().map_or(Duration::ZERO, |of| of.start_patience);
        let opens_at = turn.mono.plus(patience.as_millis() as u64);
        let (clients, peers) = doors.unzip();
        Ok(EventLoop {
            clients: Clients::new(poll.registry(), clients, opens_at)?,
            links: Links::new(poll.registry(), peers, move || wake.wake())?,
            inside,
            calls: Calls::default(),
            told: (0..mailbox.count()).map(|_| None).collect(),
            poll,
            waker,
            mailbox,
            clock: Clock,
            turn,
            node,
            shared,
            of_hub,
            declined: Declined::default(),
            outputs: first,
            spare: Vec::new(),
            stop_asked: false,
            stopped: false,
            publish_at: Millis(0),
            was_ready: false,
            fault: None,
            counts: Counts::default(),
        })
    }

    pub fn run(mut self) -> Result<(), RunFault> {
        let mut events = Events::with_capacity(1024);
        let mut buffer = vec![0; LINK_READ_BYTES];
        while !self.stopped {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Ok(()) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return self.end(RunFault::Poll(e)),
            }
            self.turn = self.clock.now();
            for event in &events {
                self.on_event(event);
            }
            self.take_parcels();
            self.take_disk_events();
            self.accept_links();
            self.take_dialed();
            self.read_links(&mut buffer);
            self.accept_clients();
            self.read_clients(&mut buffer[..CLIENT_READ_BYTES]);
            self.begin_calls();
            self.end_turn();
            if let Some(fault) = self.fault.take() {
                return self.end(fault);
            }
            self.post_mail();
            // Followers first: their disks work while this one does.
            self.write_links();
            self.write_clients();
            self.publish();
        }
        self.say_farewell();
        Ok(())
    }

    /// The hub ends the other loops with its own; another cell's is for the hub to know.
    fn end(&self, fault: RunFault) -> Result<(), RunFault> {
        if self.of_hub.is_some() {
            self.mailbox.post_to_all(|| Parcel::End);
        }
        Err(fault)
    }

    fn timeout(&self) -> Option<Duration> {
        let accepts_input = self.node.accepts_input();
        let at_work = self.clients.has_work(accepts_input) || self.calls.has_work(accepts_input);
        if !self.outputs.is_empty() || self.links.has_work() || at_work {
            return Some(Duration::ZERO);
        }
        let now = Instant::now().millis();
        let next = [self.node.next_wakeup(), self.clients.next_wakeup(), self.links.next_wakeup()]
            .into_iter()
            .flatten()
            .fold(self.publish_at_or_never(), Millis::min);
        let patience = if self.declined.has_turns() { DECLINED_MS } else { u64::MAX };
        let sleeps = next == NEVER && patience == u64::MAX;
        (!sleeps).then(|| Duration::from_millis(next.since(now).min(patience)))
    }

    /// A cell that has nothing to do has nothing to tell.
    fn publish_at_or_never(&self) -> Millis {
        if self.of_hub.is_some() || self.node.is_active() { self.publish_at } else { NEVER }
    }

    fn on_event(&mut self, event: &mio::event::Event) {
        match event.token() {
            tokens::CLIENT_DOOR => self.clients.door.iter_mut().for_each(Door::on_event),
            tokens::PEER_DOOR => self.links.door.iter_mut().for_each(Door::on_event),
            tokens::WAKER => {}
            token => match tokens::link(token) {
                Some(link) => self.on_link_event(link, event),
                None => self.on_client_event(event),
            },
        }
    }

    /// Gives the node something that arrived in this turn. A lease must be judged by an instant that was read after the
    /// request arrived, since the process may have been stopped in between; a deadline need not, and so one clock is read,
    /// which takes about 40 ns.
    pub(crate) fn input(&mut self, input: Input<'_>) {
        let begun = Instant::now();
        let now = Now { mono: begun.millis(), wall: self.turn.wall };
        self.node.handle(now, input, &mut self.outputs);
        self.node.attribute_time(Instant::now().nanos_since(begun));
    }

    fn end_turn(&mut self) {
        let now = self.clock.now();
        self.turn = now;
        if self.of_hub.is_some() && self.waker.is_stop_asked() && !self.stop_asked {
            self.stop_asked = true;
            self.publish_at = now.mono;
            self.node.handle(now, Input::Stop, &mut self.outputs);
        }
        let load = Load {
            memory_used: (self.shared.memory_used)(),
            checkpoint_bytes: self.checkpoint_bytes() as u64,
        };
        let begun = Instant::now();
        self.node.handle(now, Input::Turn(load), &mut self.outputs);
        self.node.attribute_time(Instant::now().nanos_since(begun));
        // What carrying them out leads to is carried out in the next turn.
        let mut outputs = std::mem::replace(&mut self.outputs, std::mem::take(&mut self.spare));
        for output in outputs.drain(..) {
            self.carry_out(output);
        }
        self.spare = outputs;
        self.node.set_memory_used((self.shared.memory_used)());
        if self.of_hub.is_some() {
            self.inside.set_active(self.node.active_cells());
        }
        self.retry_declined();
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Close { conn } => {
                if !self.calls.close(conn) {
                    self.clients.connections.remove(conn);
                }
            }
            Output::Dial { link, address } => {
                self.links.dialer.dial(self.poll.registry(), self.turn.mono, link, address);
            }
            Output::CloseLink { link } => self.close_link(link),
            Output::Gateway(version) => {
                let of_hub = self.of_hub.as_mut().expect("only the hub knows what the cluster wants");
                (of_hub.gateway)(version);
                // That it is known here is told at once.
                self.publish_at = self.turn.mono;
            }
            Output::Note(note) => {
                note::log(&note);
                self.counts.take(&note);
            }
            Output::Stopped => self.stopped = true,
            other => self.carry_out_on_disk(other),
        }
    }

    fn publish(&mut self) {
        let now = self.turn.mono;
        let turned_ready = self.node.is_ready() != self.was_ready;
        if now >= self.publish_at_or_never() || turned_ready && self.publish_at_or_never() != NEVER {
            self.was_ready = self.node.is_ready();
            self.publish_at = now.plus(PUBLISH_MS);
            let (mut status, mut counts) = (self.node.status(), self.counts);
            let Some(of_hub) = &mut self.of_hub else {
                let parcel = Parcel::Status { cell: self.mailbox.me(), status: Box::new(status), counts };
                return self.mailbox.post(0, parcel);
            };
            for (other, its_counts) in self.told.iter().flatten() {
                status.absorb(other.clone());
                counts.absorb(its_counts);
            }
            (of_hub.publish)(status, counts);
            if let Some(process) = process::measure() {
                self.input(Input::Measured(process));
            }
        }
    }

    /// Hands over what the cell has written to others.
    fn post_mail(&mut self) {
        while let Some((to, mail)) = self.node.take_mail() {
            self.mailbox.post(to, Parcel::Mail(mail));
        }
    }

    fn take_parcels(&mut self) {
        self.mailbox.look();
        while let Some(parcel) = self.mailbox.next() {
            match parcel {
                Parcel::Mail(mail) => self.input(Input::Mail(mail)),
                Parcel::Client { stream, address, number } => self.welcome_client(stream, address, number),
                Parcel::Input(input) => self.input(input),
                Parcel::Call(call) => self.calls.push(call),
                Parcel::Look => {}
                Parcel::Status { cell, status, counts } => {
                    let before = self.told[cell].replace((*status, counts));
                    let is_ready = |of: Option<&(Status, Counts)>| of.is_some_and(|(status, _)| status.ready);
                    if is_ready(before.as_ref()) != is_ready(self.told[cell].as_ref()) {
                        self.publish_at = self.turn.mono;
                    }
                }
                Parcel::Fault(fault) => self.fault = Some(fault),
                Parcel::End => self.stopped = true,
            }
        }
    }

    /// Lets clients and peers read what is left for them, for a moment.
    fn say_farewell(&mut self) {
        self.send_the_rest();
        self.clients.connections.end_all();
        self.links.end_all();
    }

    fn send_the_rest(&mut self) {
        let mut events = Events::with_capacity(1024);
        let until = Instant::now().millis().plus(FAREWELL_MS);
        self.write_links();
        self.write_clients();
        while self.clients.connections.any_blocked() || self.links.any_unsent() {
            let left = until.since(Instant::now().millis());
            if left == 0 {
                return;
            }
            match self.poll.poll(&mut events, Some(Duration::from_millis(left))) {
                Err(e) if e.kind() != io::ErrorKind::Interrupted => return,
                _ => {}
            }
            for event in &events {
                self.on_event(event);
            }
            self.write_links();
        }
    }
}
