//! A non-blocking TCP socket as the loop uses it: edge-triggered, so that reading and writing go on until the kernel says
//! stop.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::{SockRef, TcpKeepalive};

/// Taken out of a socket at once before it is closed, and how often: 8 MiB, what a kernel's buffers hold by default.
const UNREAD_BYTES: usize = 256 << 10;
const UNREAD_TIMES_MAX: usize = 32;

/// After this long without an answer the machine at the other end counts as gone. Longer than a cable takes to be put
/// back, short enough that followers that wait for its messages do not fall far behind.
const PEER_SILENCE_MAX: Duration = Duration::from_secs(3);

/// Bytes that the kernel holds for a link beyond what the network takes: what is urgent waits behind them, and a fast
/// network goes through them while the loop takes a turn. Linux only; elsewhere the kernel takes a whole buffer.
#[cfg(target_os = "linux")]
const UNSENT_BYTES_MAX: u32 = 256 << 10;

/// A socket and what the loop knows of its state.
pub(crate) struct Socket {
    stream: TcpStream,
    /// True while it is in the list of those that may have something to read.
    pub listed: bool,
    /// True once the other end's end, or an error, was announced. No event follows that one, so reading goes on until
    /// the end is met.
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
    /// The other end closed it, or it failed with this error.
    Closed(Option<io::Error>),
}

impl Socket {
    /// Watches `stream` for everything.
    pub fn new(registry: &Registry, token: Token, mut stream: TcpStream) -> io::Result<Socket> {
        // Both at once and edge-triggered: no further system call when a write has to wait.
        registry.register(&mut stream, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Socket::watched(stream))
    }

    /// Of a stream that is watched already.
    pub fn watched(stream: TcpStream) -> Socket {
        Socket { stream, listed: false, ending: false, write_blocked: false }
    }

    /// Notes what the poll told; true if it should be listed for reading, which the caller then does.
    pub fn on_event(&mut self, event: &mio::event::Event) -> bool {
        self.ending |= event.is_read_closed() || event.is_error();
        let newly = (event.is_readable() || self.ending) && !self.listed;
        self.listed |= newly;
        newly
    }

    pub fn receive(&mut self, buffer: &mut [u8]) -> Received {
        loop {
            return match self.stream.read(buffer) {
                Ok(0) => Received::Closed(None),
                // Less than was asked for: the socket is drained, and new data will be a new event.
                Ok(n) if n < buffer.len() && !self.ending => Received::Last(n),
                Ok(n) => Received::Some(n),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => Received::Nothing,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => Received::Closed(Some(e)),
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

    /// Ends the connection, such that the other end gets what was sent to it: the kernel throws that away, and tells it
    /// that its connection was reset, if a socket is closed with something in it that was not read.
    pub fn end(mut self, ignored: &mut Vec<u8>) {
        ignored.resize(UNREAD_BYTES, 0);
        // If it is gone already, so be it.
        let _ = self.stream.shutdown(Shutdown::Write);
        for _ in 0..UNREAD_TIMES_MAX {
            if matches!(self.receive(ignored), Received::Nothing | Received::Closed(_)) {
                break;
            }
        }
    }
}

/// Sets what every client socket should have: no delay of small replies, and probes that find dead clients.
pub(crate) fn prepare_client(stream: &TcpStream, keepalive: Option<Duration>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    if let Some(time) = keepalive {
        let probes = TcpKeepalive::new().with_time(time).with_interval(time / 3).with_retries(3);
        SockRef::from(stream).set_tcp_keepalive(&probes)?;
    }
    Ok(())
}

/// Sets what every link should have: no delay, a short queue in the kernel, and a machine that is cut off is noticed both
/// while it is sent something and while it is not.
pub(crate) fn prepare_link(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let third = PEER_SILENCE_MAX / 3;
    let probes = TcpKeepalive::new().with_time(third).with_interval(third).with_retries(2);
    let socket = SockRef::from(stream);
    socket.set_tcp_keepalive(&probes)?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(PEER_SILENCE_MAX))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_notsent_lowat(UNSENT_BYTES_MAX)?;
    Ok(())
}

/// An address as `CLIENT LIST` shows it.
pub(crate) fn text_of(address: io::Result<SocketAddr>) -> String {
    address.map_or_else(|_| "?:0".to_string(), |a| a.to_string())
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_link_notices_a_machine_that_is_gone() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let stream = TcpStream::from_std(stream);
        prepare_link(&stream).unwrap();
        let socket = SockRef::from(&stream);
        assert!(stream.nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(1));
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(PEER_SILENCE_MAX));
        assert_eq!(socket.tcp_notsent_lowat().unwrap(), UNSENT_BYTES_MAX);
    }
}
