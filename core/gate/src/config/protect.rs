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

/// What a provider gives to one customer at least (RFC 6177): whoever has one address there can use all of them.
pub(crate) const IPV6_PREFIX: u32 = 64;

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
    /// Of a source of IPv6, so many bits tell it from others.
    pub ipv6_prefix: u32,
    pub scope: Scope,
    /// Whether replies carry RateLimit headers.
    pub headers: bool,
}

impl Default for Limit {
    fn default() -> Limit {
        let (requests, per, burst) = (100, Micros::from_secs(1), 100);
        let (by, ipv6_prefix) = (KeyOf::Source, IPV6_PREFIX);
        Limit { requests, per, burst, by, ipv6_prefix, scope: Scope::Cluster, headers: true }
    }
}

impl Section for Limit {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.ranged("requests", &mut self.requests, 1..=10_000_000);
        f.ranged("per", &mut self.per, Micros::from_millis(100)..=Micros::from_secs(31 * 86_400));
        f.ranged("burst", &mut self.burst, 1..=10_000_000);
        f.one("by", &mut self.by);
        f.ranged("ipv6-prefix", &mut self.ipv6_prefix, 16..=128);
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
