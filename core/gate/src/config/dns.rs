//! `[gateway.dns]`: how names of upstreams are looked up.

use std::net::{IpAddr, SocketAddr};

use skep_base::Micros;
use toml::de::DeValue;

use super::fields::{Fields, Scalar, Section};
use super::scalar::{quoted, text_forms, words};

/// As many as anybody has; a resolver asks one after the other.
const SERVERS_MAX: usize = 16;
/// The port of name servers (RFC 1035, section 4.2).
const PORT: u16 = 53;

words! {
    /// Which addresses of a name are used.
    Family {
        #[default]
        All = "all",
        Ipv4 = "ipv4",
        Ipv6 = "ipv6",
    }
}

text_forms! {
    /// Where a name server is.
    NameServer, "the address of a name server, such as 10.0.0.53 or 10.0.0.53:5353", |text| {
        place_of(text).map(|place| match place.port() {
            PORT => place.ip().to_string(),
            _ => place.to_string(),
        })
    };
}

fn place_of(text: &str) -> Option<SocketAddr> {
    let alone = text.parse::<IpAddr>().ok().map(|ip| SocketAddr::new(ip, PORT));
    alone.or_else(|| text.parse().ok()).filter(|place| place.port() > 0)
}

impl NameServer {
    /// Its address with its port.
    ///
    /// # Panics
    /// If it was not read from a text.
    pub fn place(&self) -> SocketAddr {
        place_of(&self.0).expect("the text of a name server is checked when it is read")
    }
}

/// How names are looked up.
#[derive(Clone, PartialEq, Debug)]
pub struct Dns {
    /// Who is asked; the servers of the machine if empty.
    pub servers: Vec<NameServer>,
    /// An answer is used for at least so long, and
    pub ttl_min: Micros,
    /// at most so long, whatever it says.
    pub ttl_max: Micros,
    pub family: Family,
}

impl Default for Dns {
    fn default() -> Dns {
        let (ttl_min, ttl_max) = (Micros::from_secs(1), Micros::from_secs(30));
        Dns { servers: Vec::new(), ttl_min, ttl_max, family: Family::All }
    }
}

impl Section for Dns {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.list("servers", &mut self.servers, SERVERS_MAX);
        f.ranged("ttl-min", &mut self.ttl_min, Micros::from_millis(100)..=Micros::from_secs(3_600));
        f.ranged("ttl-max", &mut self.ttl_max, Micros::from_millis(100)..=Micros::from_secs(86_400));
        f.one("family", &mut self.family);
    }

    fn check(&self, wrong: &mut Vec<(&'static str, String)>) {
        if self.ttl_max < self.ttl_min {
            wrong.push(("ttl-max", "is shorter than ttl-min".to_owned()));
        }
    }
}
