//! Connections to an upstream: its name, TCP, TLS.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::stream::Stream;

/// The system's resolver does not tell how long an answer holds; a name that moves is found again after this.
const NAME_LIFE: Duration = Duration::from_secs(5);

/// TLS to the upstreams of a pool.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamTls {
    pub(crate) config: Arc<ClientConfig>,
    pub(crate) name: ServerName<'static>,
}

/// Where an upstream is.
#[derive(Debug)]
pub(crate) struct Place {
    text: String,
    fixed: Option<SocketAddr>,
    found: RefCell<Option<(Instant, Vec<SocketAddr>)>>,
}

impl Place {
    pub(crate) fn new(text: &str) -> Place {
        Place { text: text.to_owned(), fixed: text.parse().ok(), found: RefCell::new(None) }
    }

    /// A TCP connection.
    ///
    /// # Errors
    /// The name means nothing, or no address of it takes a connection.
    pub(crate) async fn connect(&self) -> io::Result<TcpStream> {
        let stream = match self.fixed {
            Some(address) => TcpStream::connect(address).await?,
            None => self.connect_by_name().await?,
        };
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// The addresses of an upstream, the first of which is to be tried first.
    ///
    /// # Errors
    /// The name means nothing.
    pub(crate) async fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        if let Some(address) = self.fixed {
            return Ok(vec![address]);
        }
        if let Some((at, addresses)) = &*self.found.borrow()
            && at.elapsed() < NAME_LIFE
        {
            return Ok(addresses.clone());
        }
        let addresses: Vec<SocketAddr> = tokio::net::lookup_host(&self.text).await?.collect();
        *self.found.borrow_mut() = Some((Instant::now(), addresses.clone()));
        Ok(addresses)
    }

    async fn connect_by_name(&self) -> io::Result<TcpStream> {
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for address in self.addresses().await? {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        // What was found does not work: it is looked up again next time.
        *self.found.borrow_mut() = None;
        Err(last)
    }
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
