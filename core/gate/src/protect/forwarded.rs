//! Who the client is when trusted proxies stand in front, and what the upstream is told.
//!
//! INV-GATE-11: a word about the client counts only if every proxy between its writer and us is trusted; so an address that
//! an untrusted peer writes never becomes the client's.

use std::fmt::Write;
use std::net::IpAddr;

use super::nets::Nets;
use crate::config::ForwardedStyle;
use crate::router::Headers;

/// Addresses that are read from the headers of one request.
const HOPS_MAX: usize = 50;

/// The client as far as it can be known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Client {
    pub address: IpAddr,
    /// Whether the client's own connection was secure.
    pub secure: bool,
    /// The host that the client asked for, where a trusted proxy changed it.
    pub host: Option<String>,
    /// What the trusted proxies said, nearest last, without the peer.
    pub chain: Vec<IpAddr>,
}

/// What a connection says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    pub address: IpAddr,
    pub secure: bool,
}

/// Finds the client behind `peer`. `hops` is the most proxies that are believed in a row, 0 for as many as are trusted.
pub fn client(peer: Peer, trusted: &Nets, hops: u32, headers: &dyn Headers) -> Client {
    let mut client = Client { address: peer.address, secure: peer.secure, host: None, chain: Vec::new() };
    if !trusted.contains(peer.address) {
        return client;
    }
    // The nearest proxy wrote last, and the peer is the first of those that are believed.
    let mut written = read(headers);
    let mut believed = 1;
    while let Some(hop) = written.pop() {
        let Some(address) = hop else { break };
        client.chain.insert(0, client.address);
        client.address = address;
        if !trusted.contains(address) || (hops > 0 && believed >= hops) {
            break;
        }
        believed += 1;
    }
    // The peer itself is told apart; the chain holds those in between.
    client.chain.pop();
    if let Some(proto) = last(headers, "x-forwarded-proto", "proto") {
        client.secure = proto.eq_ignore_ascii_case("https") || proto.eq_ignore_ascii_case("wss");
    }
    client.host = last(headers, "x-forwarded-host", "host").filter(|host| crate::router::is_authority(host));
    client
}

/// The header lines for the upstream; those of the request with these names are to be removed:
/// `x-forwarded-for`, `-proto`, `-host`, `forwarded`.
pub fn lines(style: ForwardedStyle, client: &Client, peer: Peer, host: &str) -> Vec<(&'static str, String)> {
    // The client, those in between, and the peer unless it is the client.
    let peer = Some(peer.address).filter(|peer| client.address != *peer || !client.chain.is_empty());
    let hops = || [client.address].into_iter().chain(client.chain.iter().copied()).chain(peer);
    let host = client.host.as_deref().unwrap_or(host);
    let proto = if client.secure { "https" } else { "http" };
    let mut lines = Vec::with_capacity(4);
    if style != ForwardedStyle::Standard {
        let mut list = String::new();
        for (at, hop) in hops().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            write!(list, "{separator}{}", hop.to_canonical()).expect("writing to a String cannot fail");
        }
        lines.push(("x-forwarded-for", list));
        lines.push(("x-forwarded-proto", proto.to_owned()));
        lines.push(("x-forwarded-host", host.to_owned()));
    }
    if style != ForwardedStyle::X {
        let mut line = String::new();
        for (at, hop) in hops().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            match hop.to_canonical() {
                IpAddr::V4(v4) => write!(line, "{separator}for={v4}"),
                IpAddr::V6(v6) => write!(line, "{separator}for=\"[{v6}]\""),
            }
            .expect("writing to a String cannot fail");
            if at == 0 {
                write!(line, ";proto={proto};host=\"{host}\"").expect("writing to a String cannot fail");
            }
        }
        lines.push(("forwarded", line));
    }
    lines
}

/// The addresses in the headers, in the order in which they were written; `None` for what is no address. If there are both
/// kinds, `X-Forwarded-For` counts, which more proxies write.
fn read(headers: &dyn Headers) -> Vec<Option<IpAddr>> {
    let mut hops = Vec::new();
    headers.any("x-forwarded-for", &mut |line| {
        hops.extend(line.split(|b| *b == b',').map(|part| address(part.trim_ascii())));
        false
    });
    if hops.is_empty() {
        headers.any("forwarded", &mut |line| {
            for element in line.split(|b| *b == b',') {
                let value = parameter(element, "for");
                hops.push(value.and_then(|v| address(v.as_bytes())));
            }
            false
        });
    }
    let from = hops.len().saturating_sub(HOPS_MAX);
    hops.split_off(from)
}

/// The last value of a header, else of the parameter of the last element of `Forwarded`: what the nearest proxy wrote.
fn last(headers: &dyn Headers, name: &str, key: &str) -> Option<String> {
    let mut found = None;
    headers.any(name, &mut |line| {
        let value = line.rsplit(|b| *b == b',').next().unwrap_or(line).trim_ascii();
        found = std::str::from_utf8(value).ok().map(str::to_owned);
        false
    });
    if found.is_none() {
        headers.any("forwarded", &mut |line| {
            found = line.rsplit(|b| *b == b',').next().and_then(|element| parameter(element, key));
            false
        });
    }
    found
}

/// A parameter of an element of `Forwarded` (RFC 7239, section 4), without quotes.
fn parameter(element: &[u8], key: &str) -> Option<String> {
    element.split(|b| *b == b';').find_map(|pair| {
        let (name, value) = std::str::from_utf8(pair).ok()?.trim().split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case(key).then(|| value.to_owned())
    })
}

/// `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]`, `[::1]:80`.
fn address(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim_matches('"');
    let parsed = match text.strip_prefix('[') {
        Some(rest) => rest.split(']').next().and_then(|v6| v6.parse().ok()),
        None => text.parse().ok().or_else(|| text.split_once(':').and_then(|(v4, _)| v4.parse().ok())),
    };
    parsed.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::protect::Net;

    struct Lines(Vec<(&'static str, &'static str)>);

    impl Headers for Lines {
        fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
            self.0.iter().any(|(n, value)| *n == name && test(value.as_bytes()))
        }
    }

    fn trusted() -> Nets {
        Nets::new(&[Net { address: "10.0.0.0".parse().unwrap(), bits: 8 }])
    }

    fn peer(address: &str) -> Peer {
        Peer { address: address.parse().unwrap(), secure: false }
    }

    fn found(from: &str, hops: u32, headers: &[(&'static str, &'static str)]) -> String {
        client(peer(from), &trusted(), hops, &Lines(headers.to_vec())).address.to_string()
    }

    const XFF: &str = "x-forwarded-for";

    #[test]
    fn an_address_is_believed_only_through_trusted_proxies() {
        for (from, hops, headers, expected) in [
            ("192.0.2.1", 0, vec![(XFF, "10.9.9.9")], "192.0.2.1"),
            ("10.0.0.1", 0, vec![], "10.0.0.1"),
            ("10.0.0.1", 0, vec![(XFF, "198.51.100.7")], "198.51.100.7"),
            ("10.0.0.1", 0, vec![(XFF, "1.1.1.1, 198.51.100.7")], "198.51.100.7"),
            ("10.0.0.1", 0, vec![(XFF, "1.1.1.1, 198.51.100.7, 10.0.0.2")], "198.51.100.7"),
            ("10.0.0.1", 0, vec![(XFF, "1.1.1.1"), (XFF, "198.51.100.7,10.0.0.2")], "198.51.100.7"),
            ("10.0.0.1", 1, vec![(XFF, "198.51.100.7, 10.0.0.2")], "10.0.0.2"),
            ("10.0.0.1", 2, vec![(XFF, "198.51.100.7, 10.0.0.2")], "198.51.100.7"),
            ("10.0.0.1", 0, vec![(XFF, "198.51.100.7, unknown, 10.0.0.2")], "10.0.0.2"),
            ("10.0.0.1", 0, vec![(XFF, "10.0.0.3, 10.0.0.2")], "10.0.0.3"),
            ("10.0.0.1", 0, vec![(XFF, "[2001:db8::1]:443")], "2001:db8::1"),
            ("10.0.0.1", 0, vec![(XFF, "198.51.100.7:1234")], "198.51.100.7"),
            ("10.0.0.1", 0, vec![("forwarded", "for=\"[2001:db8::1]:4711\";proto=https")], "2001:db8::1"),
            ("10.0.0.1", 0, vec![("forwarded", "For=1.1.1.1, for=198.51.100.7;by=_x")], "198.51.100.7"),
            ("10.0.0.1", 0, vec![("forwarded", "proto=https")], "10.0.0.1"),
            ("::ffff:10.0.0.1", 0, vec![(XFF, "198.51.100.7")], "198.51.100.7"),
        ] {
            assert_eq!(found(from, hops, &headers), expected, "INV-GATE-11: {from} {hops} {headers:?}");
        }
    }

    #[test]
    fn the_upstream_is_told_the_chain_that_is_believed_and_no_more() {
        let lines_of = |from: &str, style, headers: &[(&'static str, &'static str)]| {
            let client = client(peer(from), &trusted(), 0, &Lines(headers.to_vec()));
            let lines = lines(style, &client, peer(from), "api.example.com");
            lines.into_iter().map(|(name, value)| format!("{name}: {value}")).collect::<Vec<_>>().join("\n")
        };
        let forged = [(XFF, "1.1.1.1"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "evil")];
        assert_eq!(
            lines_of("192.0.2.1", ForwardedStyle::Both, &forged),
            "x-forwarded-for: 192.0.2.1\nx-forwarded-proto: http\nx-forwarded-host: api.example.com\nforwarded: \
             for=192.0.2.1;proto=http;host=\"api.example.com\""
        );
        let real = [(XFF, "6.6.6.6, 2001:db8::1, 10.0.0.2"), ("x-forwarded-proto", "https")];
        assert_eq!(
            lines_of("10.0.0.1", ForwardedStyle::Both, &real),
            "x-forwarded-for: 2001:db8::1, 10.0.0.2, 10.0.0.1\nx-forwarded-proto: https\nx-forwarded-host: \
             api.example.com\nforwarded: for=\"[2001:db8::1]\";proto=https;host=\"api.example.com\", for=10.0.0.2, \
             for=10.0.0.1"
        );
        let evil_host = [(XFF, "2.2.2.2"), ("x-forwarded-host", "a\" b")];
        assert!(lines_of("10.0.0.1", ForwardedStyle::X, &evil_host).ends_with("api.example.com"));
    }
}
