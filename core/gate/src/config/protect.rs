//! `[gateway.limit.NAME]`: rates; and networks of addresses.

use std::net::IpAddr;

use skep_base::Micros;
use toml::de::DeValue;

use super::fields::{Fields, Scalar, Section};
use super::scalar::{KeyOf, quoted, words};

words! {
    /// Who shares a rate.
    Scope {
        /// All nodes: tokens are taken from the store in small lots.
        #[default]
        Cluster = "cluster",
        /// Each node for itself.
        Node = "node",
    }
}

/// A rate for each caller.
#[derive(Clone, PartialEq, Debug)]
pub struct Limit {
    /// So many requests,
    pub requests: u32,
    /// in this time,
    pub per: Micros,
    /// and at once, after a pause.
    pub burst: u32,
    pub by: KeyOf,
    pub scope: Scope,
    /// Whether replies carry RateLimit headers.
    pub headers: bool,
}

impl Default for Limit {
    fn default() -> Limit {
        let (requests, per, burst) = (100, Micros::from_secs(1), 100);
        Limit { requests, per, burst, by: KeyOf::Source, scope: Scope::Cluster, headers: true }
    }
}

impl Section for Limit {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.ranged("requests", &mut self.requests, 1..=10_000_000);
        f.ranged("per", &mut self.per, Micros::from_millis(100)..=Micros::from_secs(31 * 86_400));
        f.ranged("burst", &mut self.burst, 1..=10_000_000);
        f.one("by", &mut self.by);
        f.one("scope", &mut self.scope);
        f.one("headers", &mut self.headers);
    }
}

/// A network: all addresses that begin with the same bits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Net {
    /// With all bits behind `bits` cleared.
    pub address: IpAddr,
    pub bits: u8,
}

impl Scalar for Net {
    fn form() -> String {
        "an address or a network such as 10.0.0.0/8, with no bits set behind its length".to_owned()
    }

    fn read(value: &DeValue<'_>) -> Option<Net> {
        let text = value.as_str()?;
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address.parse::<IpAddr>().ok()?, bits.parse().ok()?),
            None => {
                let address: IpAddr = text.parse().ok()?;
                (address, if address.is_ipv4() { 32 } else { 128 })
            }
        };
        let (value, width) = match address {
            IpAddr::V4(v4) => (u128::from(v4.to_bits()) << 96, 32),
            IpAddr::V6(v6) => (v6.to_bits(), 128),
        };
        // A bit behind the length means that somebody meant another network.
        (bits <= width && value.checked_shl(u32::from(bits)).unwrap_or(0) == 0)
            .then_some(Net { address, bits })
    }

    fn show(&self) -> String {
        quoted(&format!("{}/{}", self.address, self.bits))
    }
}
