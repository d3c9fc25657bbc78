//! One GET of a small document.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;

use crate::names::Resolver;
use crate::tls;
use crate::upstream::{Place, UpstreamTls, connect};

/// A set of keys is a few KiB.
const BYTES_MAX: usize = 1 << 20;
const TIME_MAX: Duration = Duration::from_secs(5);

/// Where a document is.
#[derive(Clone, Debug)]
pub(super) struct Url {
    uri: Uri,
    host: String,
    port: u16,
    is_secure: bool,
}

impl Url {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// Why it is none that can be fetched.
    pub(super) fn parse(text: &str) -> Result<Url, String> {
        let uri: Uri = text.parse().map_err(|e| format!("`{text}` is no URL: {e}"))?;
        let is_secure = uri.scheme_str() == Some("https");
        let authority = uri.authority().ok_or_else(|| format!("`{text}` has no host"))?;
        if authority.as_str().contains('@') {
            // Not shown: it holds a password.
            return Err("is a URL with a name or password, which the configuration would show".to_owned());
        }
        let port = authority.port_u16().unwrap_or(if is_secure { 443 } else { 80 });
        Ok(Url { host: authority.host().to_owned(), port, is_secure, uri })
    }

    /// The document, from where `resolver` says that its host is.
    ///
    /// # Errors
    /// A sentence: there is no answer in time, another than 200, or too much of it.
    pub(super) async fn get(&self, resolver: &Resolver) -> Result<Bytes, String> {
        let late = |_| format!("there was no answer within {} s", TIME_MAX.as_secs());
        tokio::time::timeout(TIME_MAX, self.get_now(resolver)).await.map_err(late)?
    }

    async fn get_now(&self, resolver: &Resolver) -> Result<Bytes, String> {
        let host = self.host.trim_matches(['[', ']']);
        let secure = match self.is_secure {
            false => None,
            true => {
                let name = ServerName::try_from(host.to_owned()).map_err(|e| e.to_string())?;
                Some(UpstreamTls { config: tls::client(false)?, name })
            }
        };
        let place = match host.parse::<IpAddr>() {
            Ok(ip) => Place::Fixed((ip, self.port).into()),
            Err(_) => {
                let (name, resolver) = (host.to_owned(), resolver.clone());
                Place::Asked { name, port: self.port, resolver }
            }
        };
        let stream = connect(&place, secure.as_ref(), || {}).await.map_err(|e| e.to_string())?;
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| e.to_string())?;
        let driver = tokio::task::spawn_local(connection);
        let path = self.uri.path_and_query().map_or("/", |path| path.as_str());
        let host = self.uri.authority().map_or(self.host.as_str(), |authority| authority.as_str());
        let request = Request::get(path)
            .header(HOST, host)
            .header(ACCEPT, "application/json, application/jwk-set+json")
            .header(USER_AGENT, "skep")
            .body(Empty::<Bytes>::new())
            .map_err(|e| e.to_string())?;
        let reply = sender.send_request(request).await.map_err(|e| e.to_string())?;
        if reply.status() != StatusCode::OK {
            return Err(format!("the answer is {}", reply.status()));
        }
        let body = Limited::new(reply.into_body(), BYTES_MAX).collect().await;
        driver.abort();
        body.map(|body| body.to_bytes()).map_err(|e| e.to_string())
    }
}
