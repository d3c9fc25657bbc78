//! Client sockets by the place that their connection has in the node.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use skep_base::ConnId;
use socket2::{SockRef, TcpKeepalive};

/// Tokens below this are the loop's own.
const FIRST_TOKEN: usize = 2;

/// Taken out of a socket at once before it is closed, and how often: 8 MiB, what a kernel's buffers hold by default.
const UNREAD_BYTES: usize = 256 << 10;
const UNREAD_TIMES_MAX: usize = 32;

/// One client's socket.
pub(crate) struct Connection {
    pub id: ConnId,
    stream: TcpStream,
    /// True while it is in the list of those that may have something to read.
    pub listed: bool,
    /// True once the client's end, or an error, was announced. No event follows that one, so reading goes on until the
    /// end is met.
    pub ending: bool,
    /// True after a write that the kernel did not take whole.
    pub write_blocked: bool,
}

/// What one read gave.
pub(crate) enum Received {
    /// That many bytes; there may be more.
    Some(usize),
    /// That many bytes, and no more for now.
    Last(usize),
    Nothing,
    Closed,
}

/// All client sockets.
#[derive(Default)]
pub(crate) struct Connections {
    places: Vec<Option<Connection>>,
}

impl Connections {
    /// Takes in a socket under the id that the node gave it.
    pub fn add(&mut self, registry: &Registry, id: ConnId, mut stream: TcpStream) -> io::Result<()> {
        let place = place_of(id);
        // Both at once and edge-triggered: no further system call when a write has to wait.
        registry.register(
            &mut stream,
            Token(place + FIRST_TOKEN),
            Interest::READABLE | Interest::WRITABLE,
        )?;
        if place >= self.places.len() {
            self.places.resize_with(place + 1, || None);
        }
        self.places[place] =
            Some(Connection { id, stream, listed: false, ending: false, write_blocked: false });
        Ok(())
    }

    pub fn by_token(&mut self, token: Token) -> Option<&mut Connection> {
        self.places.get_mut(token.0.checked_sub(FIRST_TOKEN)?)?.as_mut()
    }

    pub fn get(&mut self, id: ConnId) -> Option<&mut Connection> {
        self.places.get_mut(place_of(id))?.as_mut().filter(|c| c.id == id)
    }

    /// True if some client has not taken all that was written to it.
    pub fn any_blocked(&self) -> bool {
        self.places.iter().flatten().any(|c| c.write_blocked)
    }

    /// Ends all connections, such that clients get what was sent to them: the kernel throws that away, and tells a client
    /// that its connection was reset, if a socket is closed with something in it that was not read.
    pub fn end_all(&mut self) {
        let mut ignored = vec![0; UNREAD_BYTES];
        for connection in self.places.iter_mut().flatten() {
            // If it is gone already, so be it.
            let _ = connection.stream.shutdown(Shutdown::Write);
            for _ in 0..UNREAD_TIMES_MAX {
                if matches!(connection.receive(&mut ignored), Received::Nothing | Received::Closed) {
                    break;
                }
            }
        }
        self.places.clear();
    }

    /// Closes a socket.
    pub fn remove(&mut self, id: ConnId) {
        if self.get(id).is_some() {
            self.places[place_of(id)] = None;
        }
    }
}

impl Connection {
    pub fn receive(&mut self, buffer: &mut [u8]) -> Received {
        loop {
            return match self.stream.read(buffer) {
                Ok(0) => Received::Closed,
                // Less than was asked for: the socket is drained, and new data will be a new event.
                Ok(n) if n < buffer.len() && !self.ending => Received::Last(n),
                Ok(n) => Received::Some(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => Received::Nothing,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => Received::Closed,
            };
        }
    }

    /// Writes what the kernel takes. An error means that the connection is gone.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut sent = 0;
        self.write_blocked = false;
        while sent < bytes.len() {
            match self.stream.write(&bytes[sent..]) {
                Ok(n) => sent += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.write_blocked = true;
                    break;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(sent)
    }
}

/// Sets what every client socket should have: no delay of small replies, and probes that find dead peers.
pub(crate) fn prepare(stream: &TcpStream, keepalive: Option<Duration>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if let Some(time) = keepalive {
        let probes = TcpKeepalive::new().with_time(time).with_interval(time / 3).with_retries(3);
        SockRef::from(stream).set_tcp_keepalive(&probes)?;
    }
    Ok(())
}

/// An address as `CLIENT LIST` shows it.
pub(crate) fn text_of(address: io::Result<SocketAddr>) -> String {
    address.map_or_else(|_| "?:0".to_string(), |a| a.to_string())
}

fn place_of(id: ConnId) -> usize {
    id.0 as u32 as usize
}
