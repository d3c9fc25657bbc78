//! Clients: accepted, read, written to.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use mio::Registry;
use mio::net::{TcpListener, TcpStream};
use skep_base::{ConnId, Millis};
use skep_node::Input;

use crate::connections::Connections;
use crate::door::Door;
use crate::event_loop::EventLoop;
use crate::mailbox::Parcel;
use crate::socket::{self, Received};
use crate::tokens;

/// Connections accepted in one turn, so that a storm of new ones does not starve those that are served.
const ACCEPTS_PER_TURN_MAX: usize = 64;

pub(crate) struct Clients {
    /// With the hub only.
    pub door: Option<Door>,
    /// When clients are let in although the node is not ready; `None` once they are.
    opens_at: Option<Millis>,
    pub connections: Connections,
    /// Those that may have something to read.
    readable: VecDeque<ConnId>,
}

impl Clients {
    /// Clients are let in when the node is ready, and from `opens_at` on in any case.
    pub fn new(registry: &Registry, listener: Option<TcpListener>, opens_at: Millis) -> io::Result<Clients> {
        let open = |listener| Door::open(registry, tokens::CLIENT_DOOR, listener, "clients");
        let door = listener.map(open).transpose()?;
        let opens_at = door.as_ref().map(|_| opens_at);
        let connections = Connections::default();
        Ok(Clients { door, opens_at, connections, readable: VecDeque::new() })
    }

    /// True if there is something to do without any event.
    pub fn has_work(&self, accepts_input: bool) -> bool {
        self.opens_at.is_none() && self.door.as_ref().is_some_and(Door::is_ready)
            || accepts_input && !self.readable.is_empty()
    }

    pub fn next_wakeup(&self) -> Option<Millis> {
        self.opens_at.or(self.door.as_ref().and_then(Door::retry_at))
    }
}

impl EventLoop {
    pub(crate) fn on_client_event(&mut self, event: &mio::event::Event) {
        let Some(connection) = self.clients.connections.by_token(event.token()) else { return };
        let id = connection.id;
        if connection.socket.on_event(event) {
            self.clients.readable.push_back(id);
        }
        if event.is_writable() && connection.socket.write_blocked {
            self.write_client(id);
        }
    }

    /// Who connects while the node starts waits in the kernel's queue, as requests wait during an election, and no longer
    /// than they do. From then on the node says itself what it cannot do.
    pub(crate) fn accept_clients(&mut self) {
        if self.clients.opens_at.is_some_and(|at| at > self.turn.mono) && !self.node.is_ready() {
            return;
        }
        self.clients.opens_at = None;
        for _ in 0..ACCEPTS_PER_TURN_MAX {
            let door = self.clients.door.as_mut();
            let Some((stream, address)) = door.and_then(|door| door.next(self.turn.mono)) else { return };
            self.let_in(stream, address);
        }
    }

    /// Gives a new client to the cell that is to have it.
    fn let_in(&mut self, mut stream: TcpStream, address: SocketAddr) {
        if let Err(e) = socket::prepare_client(&stream, self.shared.keepalive) {
            return tracing::debug!("client {address} is gone: {e}");
        }
        // The lowest number that was free: as many are open, whosever they are (POSIX, file descriptor allocation).
        let descriptors_open = u64::try_from(stream.as_raw_fd()).unwrap_or(0);
        match self.node.admit(descriptors_open) {
            Ok((cell, number)) if cell == self.mailbox.me() => self.welcome_client(stream, address, number),
            Ok((cell, number)) => self.mailbox.post(cell, Parcel::Client { stream, address, number }),
            Err(refusal) => {
                // It fits the socket's empty buffer; a client that is gone does not matter.
                let _ = io::Write::write(&mut stream, refusal);
            }
        }
    }

    pub(crate) fn welcome_client(&mut self, stream: TcpStream, address: SocketAddr, number: u64) {
        let local = socket::text_of(stream.local_addr());
        let id = self.node.welcome(number, address.to_string(), local);
        if let Err(e) = self.clients.connections.add(self.poll.registry(), id, stream) {
            tracing::warn!("cannot watch client {address}: {e}");
            self.input(Input::Disconnected { conn: id });
        }
    }

    /// Reads clients once each, as long as the node accepts what they say: it is asked before the first, and again when as
    /// much as one of them may say at once has been read.
    pub(crate) fn read_clients(&mut self, buffer: &mut [u8]) {
        let mut unasked = buffer.len();
        for _ in 0..self.clients.readable.len() {
            if unasked >= buffer.len() {
                if !self.node.accepts_input() {
                    return;
                }
                unasked = 0;
            }
            let Some(id) = self.clients.readable.pop_front() else { return };
            let Some(socket) = self.clients.connections.get(id) else { continue };
            let (bytes, more) = match socket.receive(buffer) {
                Received::Some(n) => (n, true),
                Received::Last(n) => (n, false),
                Received::Nothing => (0, false),
                Received::Closed(_) => {
                    socket.listed = true; // never to be read again
                    self.input(Input::Ended { conn: id });
                    continue;
                }
            };
            socket.listed = more;
            if more {
                self.clients.readable.push_back(id);
            }
            unasked += bytes;
            if bytes > 0 {
                self.input(Input::Received { conn: id, bytes: &buffer[..bytes] });
            }
        }
    }

    pub(crate) fn write_clients(&mut self) {
        while let Some(id) = self.node.next_with_output() {
            self.write_client(id);
        }
    }

    fn write_client(&mut self, id: ConnId) {
        if self.answer_call(id) {
            return;
        }
        let Some(socket) = self.clients.connections.get(id) else { return };
        let close = match socket.send(self.node.unsent(id)) {
            Ok(sent) => self.node.on_sent(id, sent),
            Err(_) => true,
        };
        if close {
            self.clients.connections.remove(id);
            self.input(Input::Disconnected { conn: id });
        }
    }
}
