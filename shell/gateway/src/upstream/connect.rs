//! Connections to an upstream: its name, TCP, TLS.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use skep_gate::config::scalar::Address;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::descriptors;
use crate::names::Lookups;
use crate::stream::Stream;

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
    /// A name or address with a port, looked up by the machine's own library each time.
    OfSystem(String),
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

    /// A TCP connection.
    ///
    /// # Errors
    /// The name means nothing, or no address of it takes a connection.
    pub(crate) async fn connect(&self) -> io::Result<TcpStream> {
        let stream = match self {
            Place::Fixed(address) => TcpStream::connect(address).await?,
            Place::Found { address, name, lookups } => {
                let mut tried = Tried { name, lookups, reached: false };
                let stream = TcpStream::connect(address).await?;
                tried.reached = true;
                stream
            }
            Place::Named { .. } | Place::OfSystem(_) => any(&self.addresses().await?).await?,
        };
        let stream = descriptors::check(stream)?;
        stream.set_nodelay(true)?;
        Ok(stream)
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
            Place::OfSystem(text) => Ok(tokio::net::lookup_host(text).await?.collect()),
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

async fn any(addresses: &[SocketAddr]) -> io::Result<TcpStream> {
    let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// A connection to `place`, with TLS if there is `tls`.
///
/// # Errors
/// There is none.
pub(crate) async fn connect(place: &Place, tls: Option<&UpstreamTls>) -> io::Result<Stream> {
    let stream = place.connect().await?;
    match tls {
        None => Ok(Stream::Tcp(stream)),
        Some(tls) => {
            let connector = TlsConnector::from(Arc::clone(&tls.config));
            Ok(Stream::Tls(Box::new(connector.connect(tls.name.clone(), stream).await?.into())))
        }
    }
}
