//! `[gateway.listener.NAME]`: where connections come in, and what a connection may cost before it is a request.

use std::net::SocketAddr;

use skep_base::Micros;

use super::fields::{Fields, Section};
use super::scalar::{HostPattern, ListenAddress, Size, words};

words! {
    /// What a listener speaks.
    Protocol {
        /// HTTP/1.1 and HTTP/2, with gRPC, WebSocket and server-sent events: requests are routed.
        #[default]
        Http = "http",
        /// Bytes of a connection go to one pool, or by the name in a TLS client hello.
        Tcp = "tcp",
        /// Datagrams go to one pool, those of one source to one upstream.
        Udp = "udp",
    }
    /// What a listener expects of PROXY protocol headers (versions 1 and 2).
    ProxyProtocol {
        /// No header; one that comes is a bad request.
        #[default]
        Off = "off",
        /// Each connection of a trusted proxy begins with one; other connections are refused.
        Required = "required",
    }
}

/// Names of the pools behind host names of TLS client hellos.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Tls {
    /// Certificates, the first being the default; chosen by the name that the client asks for.
    pub certificates: Vec<Certificate>,
    /// Clients must show a certificate that one of these has signed.
    pub client_ca: Option<String>,
    /// The protocols offered, in the order of preference.
    pub alpn: Vec<String>,
}

/// Two files, read again when they change.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Certificate {
    /// The chain, PEM.
    pub cert: String,
    /// The key, PEM.
    pub key: String,
}

/// One listener.
#[derive(Clone, PartialEq, Debug)]
pub struct Listener {
    pub address: ListenAddress,
    pub protocol: Protocol,
    pub tls: Option<Tls>,
    pub proxy_protocol: ProxyProtocol,
    /// Where the bytes of a tcp or udp listener go.
    pub pool: Option<String>,
    /// Pools by the name in the client hello, for TLS that is passed through.
    pub sni: Vec<(HostPattern, String)>,
    /// Connections at once, of this node; those above it are closed at once.
    pub connections: u32,
    /// All header lines of a request.
    pub header_size: Size,
    /// The body of a request; a larger one is answered 413.
    pub body_size: Size,
    /// From the first byte of a request, or of a connection, to the end of its headers.
    pub header_time: Micros,
    /// Between two pieces of a body.
    pub body_idle: Micros,
    /// Between two requests of a connection, or two datagrams of a source.
    pub idle: Micros,
}

impl Default for Listener {
    fn default() -> Listener {
        Listener {
            address: ListenAddress::default(),
            protocol: Protocol::Http,
            tls: None,
            proxy_protocol: ProxyProtocol::Off,
            pool: None,
            sni: Vec::new(),
            connections: 20_000,
            header_size: Size(32 << 10),
            body_size: Size(1 << 30),
            header_time: Micros::from_secs(10),
            body_idle: Micros::from_secs(30),
            idle: Micros::from_secs(75),
        }
    }
}

impl Section for Tls {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.sections("certificates", &mut self.certificates, 1_000);
        f.maybe("client-ca", &mut self.client_ca);
        f.list("alpn", &mut self.alpn, 8);
    }

    fn check(&self, wrong: &mut Vec<(&'static str, String)>) {
        if self.certificates.is_empty() {
            wrong.push(("certificates", "is empty; it must hold at least one { cert, key }".to_owned()));
        }
    }
}

impl Section for Certificate {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.one("cert", &mut self.cert);
        f.one("key", &mut self.key);
    }

    fn check(&self, wrong: &mut Vec<(&'static str, String)>) {
        for (key, value) in [("cert", &self.cert), ("key", &self.key)] {
            if value.is_empty() {
                wrong.push((key, "is missing; it must name a PEM file".to_owned()));
            }
        }
    }
}

impl Section for Listener {
    const SHORTHAND: Option<&'static str> = Some("address");

    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.one("address", &mut self.address);
        f.one("protocol", &mut self.protocol);
        f.maybe_section("tls", &mut self.tls);
        f.one("proxy-protocol", &mut self.proxy_protocol);
        f.maybe("pool", &mut self.pool);
        f.map("sni", &mut self.sni, 1_000);
        f.ranged("connections", &mut self.connections, 1..=10_000_000);
        f.ranged("header-size", &mut self.header_size, Size(1 << 10)..=Size(1 << 20));
        f.ranged("body-size", &mut self.body_size, Size(0)..=Size(1 << 40));
        f.ranged("header-time", &mut self.header_time, Micros::from_millis(100)..=Micros::from_secs(300));
        f.ranged("body-idle", &mut self.body_idle, Micros::from_millis(100)..=Micros::from_secs(3_600));
        f.ranged("idle", &mut self.idle, Micros::from_millis(100)..=Micros::from_secs(86_400));
    }

    fn check(&self, wrong: &mut Vec<(&'static str, String)>) {
        if self.address.0.is_empty() {
            wrong.push(("address", "is missing; it must be an address such as 0.0.0.0:8080".to_owned()));
        }
        if self.address.0.parse::<SocketAddr>().is_ok_and(|address| address.port() == 0) {
            let what = "is `{}`; its port must be 1 to 65535, for clients could not know one that the system chooses";
            wrong.push(("address", what.replace("{}", &self.address.0)));
        }
        match self.protocol {
            Protocol::Http => {
                if self.pool.is_some() || !self.sni.is_empty() {
                    let key = if self.pool.is_some() { "pool" } else { "sni" };
                    wrong.push((key, "is for tcp and udp; http listeners are served by routes".to_owned()));
                }
            }
            Protocol::Tcp => {
                if self.pool.is_none() && self.sni.is_empty() {
                    wrong.push(("pool", "is missing; a tcp listener needs pool or sni".to_owned()));
                }
                if self.tls.is_some() && !self.sni.is_empty() {
                    let what = "is set beside tls; what is passed through cannot be ended here";
                    wrong.push(("sni", what.to_owned()));
                }
            }
            Protocol::Udp => {
                if self.pool.is_none() {
                    wrong.push(("pool", "is missing; a udp listener needs one".to_owned()));
                }
                if self.proxy_protocol != ProxyProtocol::Off {
                    wrong.push(("proxy-protocol", "is not for udp".to_owned()));
                }
                if self.tls.is_some() || !self.sni.is_empty() {
                    let key = if self.tls.is_some() { "tls" } else { "sni" };
                    wrong.push((key, "is not for udp".to_owned()));
                }
            }
        }
    }
}
