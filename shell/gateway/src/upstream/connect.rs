//! Connections to an upstream: its name, TCP, TLS.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use skep_gate::config::scalar::Address;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::sleep;
use tokio_rustls::TlsConnector;

use crate::descriptors;
use crate::names::{Lookups, Resolver};
use crate::stream::{Beneath, Stream};

/// What was written must be acknowledged within this, or the connection ends: a machine that is cut off is noticed before requests
/// that share the connection wait for it in vain.
#[cfg(target_os = "linux")]
const UNHEARD_TIME_MAX: Duration = Duration::from_secs(20);
/// How soon who finds no descriptor free looks again.
pub(super) const FULL_PAUSE: Duration = Duration::from_millis(50);

/// Why there is no connection.
#[derive(Debug)]
pub(crate) enum NoConnection {
    /// The process may open no more of them. That is not the upstream's fault, which was not asked.
    Full,
    Fault(io::Error),
}

impl NoConnection {
    /// Why there is no socket.
    pub(crate) fn of_opening(error: io::Error) -> NoConnection {
        match descriptors::is_want(&error) {
            true => NoConnection::Full,
            false => NoConnection::Fault(error),
        }
    }
}

impl From<io::Error> for NoConnection {
    fn from(error: io::Error) -> NoConnection {
        NoConnection::Fault(error)
    }
}

impl fmt::Display for NoConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NoConnection::Full => f.write_str("the process has too many files and connections open"),
            NoConnection::Fault(error) => error.fmt(f),
        }
    }
}

/// TLS to the upstreams of a pool.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamTls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

/// Where an upstream is.
#[derive(Debug)]
pub(crate) enum Place {
    Fixed(SocketAddr),
    /// An address that a name has.
    Found {
        address: SocketAddr,
        name: Arc<str>,
        lookups: Lookups,
    },
    /// A name that has no address yet, or is this machine.
    Named {
        name: Arc<str>,
        port: u16,
        lookups: Lookups,
    },
    /// A name that is asked for each time.
    Asked {
        name: String,
        port: u16,
        resolver: Resolver,
    },
}

impl Place {
    pub(crate) fn new(address: &Address, origin: Option<&Arc<str>>, lookups: &Lookups) -> Place {
        let lookups = lookups.clone();
        match (address.name(), address.0.parse(), origin) {
            (Some((name, port)), ..) => Place::Named { name: name.into(), port, lookups },
            (None, Ok(address), Some(name)) => Place::Found { address, name: Arc::clone(name), lookups },
            (None, Ok(address), None) => Place::Fixed(address),
            (None, Err(_), _) => unreachable!("an upstream is an address, or a name with a port"),
        }
    }

    /// The name of its machine, if it has one.
    pub(crate) fn name(&self) -> Option<&str> {
        match self {
            Place::Found { name, .. } | Place::Named { name, .. } => Some(name),
            Place::Asked { name, .. } => Some(name),
            Place::Fixed(_) => None,
        }
    }

    /// A TCP connection; `begins` is called when there is a socket for it.
    ///
    /// # Errors
    /// There is none for it; the name means nothing, or no address of it takes a connection.
    async fn connect(&self, begins: &mut impl FnMut()) -> Result<TcpStream, NoConnection> {
        match self {
            Place::Fixed(address) => open(*address, begins).await,
            Place::Found { address, name, lookups } => {
                let mut tried = Tried { name, lookups, reached: false };
                let stream = open(*address, begins).await;
                tried.reached = !matches!(stream, Err(NoConnection::Fault(_)));
                stream
            }
            Place::Named { .. } | Place::Asked { .. } => any(&self.addresses().await?, begins).await,
        }
    }

    /// The addresses of an upstream, the first of which is to be tried first.
    ///
    /// # Errors
    /// The name means nothing.
    pub(crate) async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        match self {
            Place::Fixed(address) | Place::Found { address, .. } => Ok(vec![*address]),
            Place::Named { name, port, lookups } => {
                let found = lookups.addresses(name).await?;
                Ok(found.into_iter().map(|ip| (ip, *port).into()).collect())
            }
            Place::Asked { name, port, resolver } => {
                let found = resolver.addresses(name).await?;
                Ok(found.into_iter().map(|ip| (ip, *port).into()).collect())
            }
        }
    }
}

/// Dropped, it tells that an address of a name could not be reached, be it that the gate lost patience.
struct Tried<'a> {
    name: &'a Arc<str>,
    lookups: &'a Lookups,
    reached: bool,
}

impl Drop for Tried<'_> {
    fn drop(&mut self) {
        if !self.reached {
            self.lookups.is_unreachable(self.name);
        }
    }
}

async fn any(addresses: &[SocketAddr], begins: &mut impl FnMut()) -> Result<TcpStream, NoConnection> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match open(*address, begins).await {
            Err(NoConnection::Fault(error)) => last = error,
            found => return found,
        }
    }
    Err(last.into())
}

async fn open(address: SocketAddr, begins: &mut impl FnMut()) -> Result<TcpStream, NoConnection> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() };
    // Before it takes part in anything: those that are still being connected count as well.
    let socket = descriptors::check(socket.map_err(NoConnection::of_opening)?).ok_or(NoConnection::Full)?;
    begins();
    socket.set_nodelay(true)?;
    #[cfg(target_os = "linux")]
    socket2::SockRef::from(&socket).set_tcp_user_timeout(Some(UNHEARD_TIME_MAX))?;
    Ok(socket.connect(address).await?)
}

/// A connection to `place`, with TLS if there is `tls`; `begins` is called when there is a socket for it.
///
/// # Errors
/// [`NoConnection`].
pub(crate) async fn connect(
    place: &Place,
    tls: Option<&UpstreamTls>,
    mut begins: impl FnMut(),
) -> Result<Stream, NoConnection> {
    let stream = place.connect(&mut begins).await?;
    match tls {
        None => Ok(Stream::Tcp(stream)),
        Some(tls) => {
            let connector = TlsConnector::from(Arc::clone(&tls.config));
            let stream = connector.connect(tls.name.clone(), Beneath::new(stream)).await?;
            Ok(Stream::Tls(Box::new(stream.into())))
        }
    }
}

/// A connection as [`connect`] makes one, waiting while the process may open no more: `tell` hears that it waits, and that it does
/// no more.
///
/// # Errors
/// There is none to be had.
pub(crate) async fn connect_in_turn(
    place: &Place,
    tls: Option<&UpstreamTls>,
    tell: impl Fn(bool),
) -> io::Result<Stream> {
    loop {
        match connect(place, tls, || tell(false)).await {
            Ok(stream) => return Ok(stream),
            Err(NoConnection::Fault(error)) => return Err(error),
            Err(NoConnection::Full) => tell(true),
        }
        sleep(FULL_PAUSE).await;
    }
}
