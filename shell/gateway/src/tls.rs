//! TLS: certificates out of files, chosen by the name that a client asks for; and what upstreams must prove.

use std::future::{Future, poll_fn};
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::SystemTime;

use rustls::client::verify_server_name;
use rustls::crypto::ring::{self, Ticketer};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, ProtocolVersion, RootCertStore, ServerConfig};
use skep_gate::config::listener::Tls;
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsStream};

use crate::stream::Beneath;

/// Tickets for one client that asks for more than one.
const TICKETS_MAX: usize = 4;

/// What a listener offers.
#[derive(Debug)]
pub(crate) struct ListenerTls {
    pub(crate) config: Arc<ServerConfig>,
    /// The files, with when they were changed, to see when they change again.
    files: Vec<(String, Option<SystemTime>)>,
}

impl ListenerTls {
    /// True if a file is another than the one that was read.
    pub(crate) fn is_outdated(&self) -> bool {
        self.files.iter().any(|(file, at)| changed(file) != *at)
    }
}

/// When a file was changed, if it is there.
pub(crate) fn changed(file: &str) -> Option<SystemTime> {
    std::fs::metadata(file).and_then(|m| m.modified()).ok()
}

/// The certificates of a listener; the first is given to who asks for no name, or one that none is for.
#[derive(Debug)]
struct ByName(Vec<Arc<CertifiedKey>>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let is_for = |key: &&Arc<CertifiedKey>| {
            let name = name.as_ref()?;
            let certificate = ParsedCertificate::try_from(key.cert.first()?).ok()?;
            verify_server_name(&certificate, name).ok()
        };
        let found = self.0.iter().find(|key| is_for(key).is_some());
        found.or(self.0.first()).cloned()
    }
}

/// Reads the files of a listener.
///
/// # Errors
/// A sentence with the file's name.
pub(crate) fn listener(tls: &Tls, is_http: bool) -> Result<ListenerTls, String> {
    let provider = Arc::new(ring::default_provider());
    // Before reading, so that a change in between is seen.
    let names =
        tls.certificates.iter().flat_map(|c| [c.cert.clone(), c.key.clone()]).chain(tls.client_ca.clone());
    let files = names.map(|file| (file.clone(), changed(&file))).collect();
    let mut keys = Vec::new();
    for pair in &tls.certificates {
        let chain = certificates(&pair.cert)?;
        let key = PrivateKeyDer::from_pem_file(&pair.key).map_err(|e| format!("{}: {e}", pair.key))?;
        let key = CertifiedKey::from_der(chain, key, &provider)
            .map_err(|e| format!("{} and {}: {e}", pair.cert, pair.key))?;
        keys.push(Arc::new(key));
    }
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(file) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(file)? {
                roots.add(certificate).map_err(|e| format!("{file}: {e}"))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().map_err(|e| format!("{file}: {e}"))?)
        }
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName(keys)));
    // Sealed by keys of this listener's own, so that a client may come back however many others came meanwhile. One is enough for who
    // opens one connection after the other; who wants more may ask (RFC 9149).
    config.ticketer = Ticketer::new().map_err(|e| e.to_string())?;
    (config.send_tls13_tickets, config.max_tls13_tickets) = (1, TICKETS_MAX);
    config.alpn_protocols = match tls.alpn.is_empty() && is_http {
        true => vec![b"h2".to_vec(), b"http/1.1".to_vec()],
        false => tls.alpn.iter().map(|protocol| protocol.clone().into_bytes()).collect(),
    };
    Ok(ListenerTls { config: Arc::new(config), files })
}

fn certificates(file: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let read = CertificateDer::pem_file_iter(Path::new(file)).map_err(|e| format!("{file}: {e}"))?;
    let all: Result<Vec<_>, _> = read.collect();
    let all = all.map_err(|e| format!("{file}: {e}"))?;
    if all.is_empty() { Err(format!("{file}: holds no certificate")) } else { Ok(all) }
}

/// Does the server's side of a handshake. In TLS 1.3 it ends with tickets, which nobody waits for: they leave with the first bytes
/// that follow, as one write.
///
/// # Errors
/// It failed, of which the client was told.
pub(crate) async fn accept(
    config: Arc<ServerConfig>,
    stream: TcpStream,
) -> io::Result<Box<TlsStream<Beneath>>> {
    let mut beneath = Beneath::new(stream);
    beneath.hold(true);
    let mut accepting = TlsAcceptor::from(config).accept(beneath);
    let mut accepted = poll_fn(|cx| {
        let polled = Pin::new(&mut accepting).poll(cx);
        if polled.is_pending()
            && let Some(beneath) = accepting.get_mut()
        {
            // Its turn is over, and the client is waited for.
            if let Poll::Ready(Err(error)) = beneath.poll_held(cx) {
                return Poll::Ready(Err(error));
            }
        }
        polled
    })
    .await?;
    let (beneath, session) = accepted.get_mut();
    beneath.hold(false);
    // Before, the last word is the server's, and the client waits for it.
    if session.protocol_version() != Some(ProtocolVersion::TLSv1_3) {
        poll_fn(|cx| beneath.poll_held(cx)).await?;
    }
    Ok(Box::new(accepted.into()))
}

/// TLS to upstreams, checked against the certificates that the machine trusts.
///
/// # Errors
/// The machine trusts none.
pub(crate) fn client(http2: bool) -> Result<Arc<ClientConfig>, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let why: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
        return Err(format!(
            "this machine has no certificates of authorities to check upstreams with ({}); install ca-certificates, or \
             name a file in the variable SSL_CERT_FILE",
            why.join("; ")
        ));
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| e.to_string())?;
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![if http2 { b"h2".to_vec() } else { b"http/1.1".to_vec() }];
    Ok(Arc::new(config))
}
