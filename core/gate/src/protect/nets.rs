//! Lists of networks, compiled to ranges.

use std::net::IpAddr;

use crate::config::protect::Net;

/// A set of addresses.
#[derive(Clone, Debug, Default)]
pub struct Nets {
    /// First and last address of each range, in order and apart.
    ranges: Vec<(u128, u128)>,
}

/// IPv4 addresses as those IPv6 addresses that stand for them (RFC 4291, section 2.5.5.2): a socket that listens on both
/// shows them so.
fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

impl Nets {
    pub fn new(nets: &[Net]) -> Nets {
        let range = |net: &Net| {
            let first = number(net.address);
            let free = if net.address.is_ipv4() { 32 - net.bits } else { 128 - net.bits };
            (first, first | 1u128.checked_shl(u32::from(free)).map_or(u128::MAX, |n| n - 1))
        };
        let mut sorted: Vec<(u128, u128)> = nets.iter().map(range).collect();
        sorted.sort_unstable();
        let mut ranges: Vec<(u128, u128)> = Vec::new();
        for (first, last) in sorted {
            match ranges.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                _ => ranges.push((first, last)),
            }
        }
        Nets { ranges }
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Cost: O(log n).
    pub fn contains(&self, address: IpAddr) -> bool {
        let number = number(address);
        let at = self.ranges.partition_point(|(first, _)| *first <= number);
        at > 0 && number <= self.ranges[at - 1].1
    }
}

/// True if `address` may come in: not in `deny`, and in `allow` unless that is empty.
pub fn may_enter(allow: &Nets, deny: &Nets, address: IpAddr) -> bool {
    !deny.contains(address) && (allow.is_empty() || allow.contains(address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(of: &[(&str, u8)]) -> Nets {
        let net = |(address, bits): &(&str, u8)| Net { address: address.parse().unwrap(), bits: *bits };
        Nets::new(&of.iter().map(net).collect::<Vec<_>>())
    }

    #[test]
    fn addresses_are_in_or_out() {
        let set = nets(&[
            ("10.0.0.0", 8),
            ("10.1.0.0", 16),
            ("192.0.2.7", 32),
            ("2001:db8::", 32),
            ("11.0.0.0", 8),
        ]);
        assert_eq!(set.ranges.len(), 3, "neighbours are one range");
        for (address, is_in) in [
            ("10.0.0.0", true),
            ("11.255.255.255", true),
            ("12.0.0.0", false),
            ("9.255.255.255", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:10.2.3.4", true),
            ("2001:db8:1::1", true),
            ("2001:db9::", false),
            ("::1", false),
        ] {
            assert_eq!(set.contains(address.parse().unwrap()), is_in, "{address}");
        }
        assert!(nets(&[("0.0.0.0", 0)]).contains("255.1.2.3".parse().unwrap()));
        assert!(!nets(&[("0.0.0.0", 0)]).contains("2001::1".parse().unwrap()));
        assert!(nets(&[("::", 0)]).contains("1.2.3.4".parse().unwrap()));
        let (none, all, one) = (nets(&[]), nets(&[("::", 0)]), nets(&[("10.0.0.1", 32)]));
        let address = "10.0.0.1".parse().unwrap();
        assert!(may_enter(&none, &none, address) && may_enter(&one, &none, address));
        assert!(!may_enter(&all, &one, address) && !may_enter(&one, &none, "10.0.0.2".parse().unwrap()));
    }
}
