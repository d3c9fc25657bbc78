//! Links to other nodes: accepted, dialed, read, written to. What they carry is the node's business.

use std::collections::{BTreeMap, VecDeque};
use std::io;

use mio::Registry;
use mio::net::{TcpListener, TcpStream};
use skep_base::{LinkId, Millis};
use skep_node::Input;

use crate::dialer::Dialer;
use crate::door::Door;
use crate::event_loop::EventLoop;
use crate::socket::{self, Received, Socket};
use crate::tokens;

/// Links accepted in one turn: more than there are nodes.
const ACCEPTS_PER_TURN_MAX: usize = 64;
/// Written to one link before the others, and the clients, get their turn.
const WRITE_BYTES: usize = 4 << 20;

pub(crate) struct Links {
    /// With the hub only.
    pub door: Option<Door>,
    pub dialer: Dialer,
    sockets: BTreeMap<LinkId, Socket>,
    /// Those that may have something to read.
    readable: VecDeque<LinkId>,
    /// Those that would take more than they were given.
    writable: Vec<LinkId>,
}

impl Links {
    /// `wake` is for threads that work for the loop.
    pub fn new(
        registry: &Registry,
        listener: Option<TcpListener>,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> io::Result<Links> {
        let open = |listener| Door::open(registry, tokens::PEER_DOOR, listener, "peers");
        Ok(Links {
            door: listener.map(open).transpose()?,
            dialer: Dialer::new(wake),
            sockets: BTreeMap::new(),
            readable: VecDeque::new(),
            writable: Vec::new(),
        })
    }

    /// True if there is something to do without any event.
    pub fn has_work(&self) -> bool {
        self.door.as_ref().is_some_and(Door::is_ready)
            || self.dialer.has_ended()
            || !self.readable.is_empty()
            || !self.writable.is_empty()
    }

    pub fn next_wakeup(&self) -> Option<Millis> {
        [self.door.as_ref().and_then(Door::retry_at), self.dialer.next_deadline()].into_iter().flatten().min()
    }

    /// True if some peer has not taken all that is there for it.
    pub fn any_unsent(&self) -> bool {
        !self.writable.is_empty() || self.sockets.values().any(|socket| socket.write_blocked)
    }

    /// Ends all links, such that peers get what was sent to them.
    pub fn end_all(&mut self) {
        let mut ignored = Vec::new();
        for socket in std::mem::take(&mut self.sockets).into_values() {
            socket.end(&mut ignored);
        }
    }

    fn add(&mut self, link: LinkId, mut socket: Socket) {
        // Bytes may have come with the connection, and their event with its own.
        socket.listed = true;
        self.readable.push_back(link);
        self.sockets.insert(link, socket);
    }
}

impl EventLoop {
    pub(crate) fn on_link_event(&mut self, link: LinkId, event: &mio::event::Event) {
        let Some(socket) = self.links.sockets.get_mut(&link) else {
            self.links.dialer.on_event(self.poll.registry(), self.turn.mono, link);
            return;
        };
        if socket.on_event(event) {
            self.links.readable.push_back(link);
        }
        if event.is_writable() && socket.write_blocked {
            socket.write_blocked = false;
            self.write_link(link);
        }
    }

    pub(crate) fn accept_links(&mut self) {
        for _ in 0..ACCEPTS_PER_TURN_MAX {
            let door = self.links.door.as_mut();
            let Some((stream, address)) = door.and_then(|door| door.next(self.turn.mono)) else { return };
            if let Err(e) = socket::prepare_link(&stream) {
                tracing::debug!("peer {address} is gone: {e}");
                continue;
            }
            // Too many: closed unanswered.
            let Some(link) = self.node.accept_link(self.turn, address.to_string()) else { continue };
            match Socket::new(self.poll.registry(), tokens::of_link(link), stream) {
                Ok(socket) => self.links.add(link, socket),
                Err(e) => {
                    self.input(Input::LinkClosed { link, reason: format!("cannot watch its socket: {e}") });
                }
            }
        }
    }

    /// Tells the node which of the links that it dials are up and which are not.
    pub(crate) fn take_dialed(&mut self) {
        for (link, dialed) in self.links.dialer.ended(self.poll.registry(), self.turn.mono) {
            match dialed.and_then(prepared) {
                Ok(stream) => {
                    self.links.add(link, Socket::watched(stream));
                    self.input(Input::LinkDialed { link });
                }
                Err(reason) => self.input(Input::LinkClosed { link, reason }),
            }
        }
    }

    /// Links are read whatever waits for the disk: what frees the node of it, acknowledgements of followers, comes in
    /// here.
    pub(crate) fn read_links(&mut self, buffer: &mut [u8]) {
        for _ in 0..self.links.readable.len() {
            let Some(link) = self.links.readable.pop_front() else { return };
            let Some(socket) = self.links.sockets.get_mut(&link) else { continue };
            let (bytes, more) = match socket.receive(buffer) {
                Received::Some(n) => (n, true),
                Received::Last(n) => (n, false),
                Received::Nothing => (0, false),
                Received::Closed(error) => {
                    let reason =
                        error.map_or("closed by the other side".to_owned(), |error| error.to_string());
                    self.lose_link(link, reason);
                    continue;
                }
            };
            socket.listed = more;
            if more {
                self.links.readable.push_back(link);
            }
            if bytes > 0 {
                self.input(Input::LinkReceived { link, bytes: &buffer[..bytes] });
            }
        }
    }

    pub(crate) fn write_links(&mut self) {
        let mut ready = std::mem::take(&mut self.links.writable);
        while let Some(link) = self.node.next_link_with_output() {
            if !ready.contains(&link) {
                ready.push(link);
            }
        }
        for link in ready {
            // Of one that has no room an event tells when it has.
            if !self.links.sockets.get(&link).is_some_and(|socket| socket.write_blocked) {
                self.write_link(link);
            }
        }
    }

    /// Writes what waits on a link, a share of it if it is much. More becomes ready as some leaves.
    fn write_link(&mut self, link: LinkId) {
        let Some(socket) = self.links.sockets.get_mut(&link) else { return };
        let mut written = 0;
        loop {
            let unsent = self.node.unsent_on(link);
            if unsent.is_empty() {
                return;
            }
            if written >= WRITE_BYTES {
                self.links.writable.push(link);
                return;
            }
            match socket.send(unsent) {
                Ok(sent) => {
                    self.node.on_link_sent(link, sent);
                    written += sent;
                }
                Err(e) => return self.lose_link(link, e.to_string()),
            }
            if socket.write_blocked {
                return;
            }
        }
    }

    /// Closes a link that the node is done with. The peer still gets what the kernel takes at once, such as the reason.
    pub(crate) fn close_link(&mut self, link: LinkId) {
        self.links.dialer.cancel(link);
        if let Some(mut socket) = self.links.sockets.remove(&link) {
            let _ = socket.send(self.node.unsent_on(link));
            socket.end(&mut Vec::new());
        }
    }

    fn lose_link(&mut self, link: LinkId, reason: String) {
        self.links.sockets.remove(&link);
        self.input(Input::LinkClosed { link, reason });
    }
}

fn prepared(stream: TcpStream) -> Result<TcpStream, String> {
    match socket::prepare_link(&stream) {
        Ok(()) => Ok(stream),
        Err(e) => Err(format!("connected, and lost at once: {e}")),
    }
}
