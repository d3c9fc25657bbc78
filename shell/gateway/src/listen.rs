//! Listeners of one core, and the connections that come in at them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use skep_gate::ListenerId;
use skep_gate::config::listener::{Protocol, ProxyProtocol};
use skep_gate::protect::forwarded::Peer;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::spawn_local;
use tokio::time::timeout;

use crate::control::{Address, Opened, address_of, duration};
use crate::core::Core;
use crate::descriptors;
use crate::stream::{Rewound, Stream};

/// Accepting fails for want of file descriptors; trying at once again would only burn the processor.
const ACCEPT_RETRY_TIME: Duration = Duration::from_millis(100);
/// How a client of HTTP/2 begins that knows beforehand (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One listener. Its settings are those of the configuration in force; its connections outlive its closing.
pub(crate) struct Listening {
    /// None once it is no more in the configuration.
    id: Cell<Option<ListenerId>>,
    name: RefCell<String>,
    connections: Cell<u32>,
    /// True from when it is closed: its connections end with the request under way.
    pub(crate) closing: watch::Sender<bool>,
}

impl Listening {
    pub(crate) fn id(&self) -> Option<ListenerId> {
        self.id.get()
    }

    pub(crate) fn is_closing(&self) -> bool {
        *self.closing.borrow()
    }

    /// Ends when it is closed, also if that was before.
    pub(crate) async fn closed(&self) {
        // The sender lives as long as `self`.
        let _ = self.closing.subscribe().wait_for(|closing| *closing).await;
    }
}

/// A client's connection, counted while it lives.
pub(crate) struct Connection {
    pub(crate) core: Rc<Core>,
    pub(crate) listening: Rc<Listening>,
    pub(crate) peer: Peer,
    name: String,
}

impl Connection {
    fn new(core: &Rc<Core>, listening: &Rc<Listening>, peer: Peer) -> Connection {
        listening.connections.set(listening.connections.get() + 1);
        let name = listening.name.borrow().clone();
        *core.connections.borrow_mut().entry(name.clone()).or_default() += 1;
        Connection { core: Rc::clone(core), listening: Rc::clone(listening), peer, name }
    }

    /// A session of UDP counts as one.
    pub(crate) fn of_session(core: &Rc<Core>, listening: &Rc<Listening>, from: SocketAddr) -> Connection {
        Connection::new(core, listening, Peer { address: from.ip().to_canonical(), secure: false })
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.listening.connections.set(self.listening.connections.get() - 1);
        if let Some(count) = self.core.connections.borrow_mut().get_mut(&self.name) {
            *count -= 1;
        }
    }
}

/// All listeners of a core.
#[derive(Default)]
pub(crate) struct Listeners {
    open: HashMap<Address, Rc<Listening>>,
}

impl Listeners {
    /// Opens and closes by the difference to the configuration in force.
    pub(crate) fn configure(&mut self, core: &Rc<Core>, opened: Vec<(Address, Opened)>) {
        let plan = core.plan();
        let wanted: HashMap<Address, usize> = plan
            .snapshot
            .config
            .listeners
            .iter()
            .enumerate()
            .map(|(at, l)| (address_of(&l.it), at))
            .collect();
        self.open.retain(|address, listening| {
            let keeps = wanted.contains_key(address);
            if !keeps {
                listening.id.set(None);
                listening.closing.send_replace(true);
            }
            keeps
        });
        for (address, socket) in opened {
            let listening = Rc::new(Listening {
                id: Cell::new(None),
                name: RefCell::default(),
                connections: Cell::new(0),
                closing: watch::channel(false).0,
            });
            self.open.insert(address, Rc::clone(&listening));
            match socket {
                Opened::Udp(socket) => {
                    spawn_local(crate::udp::serve(Rc::clone(core), listening, socket));
                }
                Opened::Tcp(socket) => {
                    spawn_local(accept(Rc::clone(core), listening, socket));
                }
            }
        }
        for (address, at) in wanted {
            let listening = &self.open[&address];
            listening.id.set(Some(ListenerId(at as u32)));
            listening.name.borrow_mut().clone_from(&plan.snapshot.config.listeners[at].name);
        }
    }

    /// Closes all; connections end with the request under way.
    pub(crate) fn close(&mut self) {
        for listening in self.open.values() {
            listening.closing.send_replace(true);
        }
    }
}

async fn accept(core: Rc<Core>, listening: Rc<Listening>, socket: std::net::TcpListener) {
    let listener = match TcpListener::from_std(socket) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "gateway: a listener cannot be used"),
    };
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = listening.closed() => return,
        };
        let (stream, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "gateway: cannot accept a connection");
                tokio::time::sleep(ACCEPT_RETRY_TIME).await;
                continue;
            }
        };
        let plan = core.plan();
        let Some(id) = listening.id() else { return };
        let limit = plan.snapshot.config.listeners[id.at()].it.connections.div_ceil(core.cores as u32);
        if listening.connections.get() >= limit || !descriptors::has_room_for_client(&stream) {
            core.turned_away.set(core.turned_away.get() + 1);
            continue;
        }
        let peer = Peer { address: from.ip().to_canonical(), secure: false };
        let connection = Connection::new(&core, &listening, peer);
        // Begun inside: a future that is handed in is there twice, as what the task was given and as what it waits for.
        spawn_local(async move {
            if let Err(error) = converse(connection, stream, from).await {
                tracing::debug!(%error, %from, "gateway: a connection ended");
            }
        });
    }
}

async fn converse(mut connection: Connection, mut stream: TcpStream, from: SocketAddr) -> io::Result<()> {
    let core = Rc::clone(&connection.core);
    let plan = core.plan();
    let Some(id) = connection.listening.id() else { return Ok(()) };
    let listener = &plan.snapshot.config.listeners[id.at()].it;
    let patience = duration(listener.header_time);
    let mut ends = None;
    if listener.proxy_protocol == ProxyProtocol::Required {
        if !plan.snapshot.trusted.contains(connection.peer.address) {
            return Err(io::Error::other("a PROXY header from who is no trusted proxy"));
        }
        ends = Box::pin(timeout(patience, crate::proxy_header::read(&mut stream))).await??;
        if let Some((from, _)) = ends {
            connection.peer.address = from.ip().to_canonical();
        }
    }
    let is_tcp = listener.protocol == Protocol::Tcp;
    if is_tcp && ends.is_none() {
        ends = Some((from, stream.local_addr()?));
    }
    let stream = match &plan.snapshot.listener_tls[id.at()] {
        None => Stream::Tcp(stream),
        Some(tls) => {
            let accepting = Box::pin(crate::tls::accept(Arc::clone(&tls.config), stream));
            Stream::Tls(timeout(patience, accepting).await??)
        }
    };
    connection.peer.secure = stream.is_secure();
    let idle = duration(listener.idle);
    drop(plan);
    if let Some(ends) = ends.filter(|_| is_tcp) {
        return Box::pin(crate::tcp::serve(connection, stream, ends)).await;
    }
    match stream {
        Stream::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
            let stream = Rewound::new(BytesMut::new(), Stream::Tls(stream));
            Box::pin(crate::h2::serve(connection, stream)).await
        }
        Stream::Tls(stream) => {
            Box::pin(crate::h1::serve(connection, Stream::Tls(stream), BytesMut::new())).await
        }
        mut stream @ Stream::Tcp(_) => {
            let mut first = BytesMut::new();
            let listening = Rc::clone(&connection.listening);
            let read = read_first(&mut stream, &mut first, idle, patience);
            let is_http2 = tokio::select! {
                read = read => read?,
                () = listening.closed() => return Ok(()),
            };
            match is_http2 {
                true => Box::pin(crate::h2::serve(connection, Rewound::new(first, stream))).await,
                false => Box::pin(crate::h1::serve(connection, stream, first)).await,
            }
        }
    }
}

/// Reads as much as it takes to tell HTTP/2 from HTTP/1: begun within `idle`, and told within `patience` from then.
///
/// # Errors
/// It was not, or the connection broke.
async fn read_first(
    stream: &mut Stream,
    first: &mut BytesMut,
    idle: Duration,
    patience: Duration,
) -> io::Result<bool> {
    first.reserve(1024);
    if timeout(idle, stream.read_buf(first)).await?? == 0 {
        return Ok(false);
    }
    match tell(first) {
        Some(is_http2) => Ok(is_http2),
        None => timeout(patience, read_preface(stream, first)).await?,
    }
}

async fn read_preface(stream: &mut Stream, first: &mut BytesMut) -> io::Result<bool> {
    loop {
        if stream.read_buf(first).await? == 0 {
            return Ok(false);
        }
        if let Some(is_http2) = tell(first) {
            return Ok(is_http2);
        }
    }
}

/// Whether these are the first bytes of HTTP/2; none if more of them tell.
fn tell(first: &[u8]) -> Option<bool> {
    let len = first.len().min(PREFACE.len());
    match first[..len] == PREFACE[..len] {
        true if len < PREFACE.len() => None,
        is_http2 => Some(is_http2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of<A, B, C, F: Future>(_begin: impl Fn(A, B, C) -> F) -> usize {
        size_of::<F>()
    }

    /// A connection holds all of its time what it could ever need: what is rare, or is served for long by itself, goes on the heap.
    #[test]
    fn a_connection_at_rest_is_small() {
        assert!(bytes_of(converse) <= 1024, "{} bytes", bytes_of(converse));
        assert!(bytes_of(crate::h1::serve) <= 1280, "{} bytes", bytes_of(crate::h1::serve));
    }
}
