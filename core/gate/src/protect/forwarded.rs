//! Who the client is when trusted proxies stand in front, and what the upstream is told.
//!
//! INV-GATE-11: a word about the client counts only if every proxy between its writer and us is trusted, and stands in the kind of
//! header that the configuration says these proxies write; so what an untrusted client writes never becomes the client's.

use std::fmt::Write;
use std::net::IpAddr;

use http::header::{FORWARDED, HeaderName};

use super::nets::Nets;
use crate::config::{ForwardedStyle, TrustedHeader};
use crate::router::Headers;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");

/// Addresses that are read from the headers of one request.
const HOPS_MAX: usize = 50;

/// The client as far as it can be known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Client {
    pub address: IpAddr,
    /// Whether the client's own connection was secure.
    pub secure: bool,
    /// The host that the client asked for, where a trusted proxy changed it, as [`crate::router::plain_authority`] makes it.
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

/// Who is believed about clients.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    pub proxies: &'a Nets,
    /// The most proxies that are believed in a row, 0 for as many as are trusted.
    pub hops: u32,
    /// Where they write.
    pub header: TrustedHeader,
}

/// Finds the client behind `peer`.
pub fn client(peer: Peer, trust: Trust<'_>, headers: &dyn Headers) -> Client {
    let Trust { proxies: trusted, hops, header } = trust;
    let mut client = Client { address: peer.address, secure: peer.secure, host: None, chain: Vec::new() };
    if !trusted.contains(peer.address) {
        return client;
    }
    // The nearest proxy wrote last, and the peer is the first of those that are believed.
    let mut written = read(header, headers);
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
    if let Some(proto) = last(header, headers, ("x-forwarded-proto", "proto")) {
        client.secure = proto.eq_ignore_ascii_case("https") || proto.eq_ignore_ascii_case("wss");
    }
    let host = last(header, headers, ("x-forwarded-host", "host"));
    client.host = host.and_then(|host| Some(crate::router::plain_authority(&host)?.into_owned()));
    client
}

/// The header lines for the upstream; those of the request with these names are to be removed:
/// `x-forwarded-for`, `-proto`, `-host`, `forwarded`. An empty host is not told.
pub fn lines(style: ForwardedStyle, client: &Client, peer: Peer, host: &str) -> Vec<(HeaderName, String)> {
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
            list.push_str(separator);
            put(&mut list, hop.to_canonical());
        }
        lines.push((X_FORWARDED_FOR, list));
        lines.push((X_FORWARDED_PROTO, proto.to_owned()));
        if !host.is_empty() {
            lines.push((X_FORWARDED_HOST, host.to_owned()));
        }
    }
    if style != ForwardedStyle::X {
        let mut line = String::new();
        for (at, hop) in hops().enumerate() {
            let hop = hop.to_canonical();
            let (begin, end) = if hop.is_ipv6() { ("for=\"[", "]\"") } else { ("for=", "") };
            line.push_str(if at == 0 { "" } else { ", " });
            line.push_str(begin);
            put(&mut line, hop);
            line.push_str(end);
            if at == 0 {
                write!(line, ";proto={proto}").expect("writing to a String cannot fail");
            }
            if at == 0 && !host.is_empty() {
                write!(line, ";host=\"{host}\"").expect("writing to a String cannot fail");
            }
        }
        lines.push((FORWARDED, line));
    }
    lines
}

/// Writes an address; one of IPv4, as most are, without the machinery of formats, which takes a thousand instructions.
fn put(text: &mut String, address: IpAddr) {
    match address {
        IpAddr::V4(v4) => {
            for (at, octet) in v4.octets().into_iter().enumerate() {
                if at > 0 {
                    text.push('.');
                }
                let digits = [octet / 100, octet / 10 % 10, octet % 10];
                let skipped = if octet < 10 { 2 } else { usize::from(octet < 100) };
                digits[skipped..].iter().for_each(|digit| text.push(char::from(b'0' + digit)));
            }
        }
        IpAddr::V6(v6) => write!(text, "{v6}").expect("writing to a String cannot fail"),
    }
}

/// The addresses in the headers, in the order in which they were written; `None` for what is no address.
fn read(kind: TrustedHeader, headers: &dyn Headers) -> Vec<Option<IpAddr>> {
    let mut hops = Vec::new();
    match kind {
        TrustedHeader::XForwardedFor => headers.any("x-forwarded-for", &mut |line| {
            hops.extend(line.split(|b| *b == b',').map(|part| address(part.trim_ascii())));
            false
        }),
        TrustedHeader::Forwarded => headers.any("forwarded", &mut |line| {
            for element in line.split(|b| *b == b',') {
                let value = parameter(element, "for");
                hops.push(value.and_then(|v| address(v.as_bytes())));
            }
            false
        }),
    };
    let from = hops.len().saturating_sub(HOPS_MAX);
    hops.split_off(from)
}

/// The last value of a header, or of the parameter of the last element of `Forwarded`: what the nearest proxy wrote.
fn last(kind: TrustedHeader, headers: &dyn Headers, (name, key): (&str, &str)) -> Option<String> {
    let mut found = None;
    match kind {
        TrustedHeader::XForwardedFor => headers.any(name, &mut |line| {
            let value = line.rsplit(|b| *b == b',').next().unwrap_or(line).trim_ascii();
            found = std::str::from_utf8(value).ok().map(str::to_owned);
            false
        }),
        TrustedHeader::Forwarded => headers.any("forwarded", &mut |line| {
            found = line.rsplit(|b| *b == b',').next().and_then(|element| parameter(element, key));
            false
        }),
    };
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

    fn found(from: &str, hops: u32, headers: &[(&'static str, &'static str)]) -> Client {
        let standard = headers.iter().any(|(name, _)| *name == FWD);
        found_by(
            if standard { TrustedHeader::Forwarded } else { TrustedHeader::XForwardedFor },
            from,
            hops,
            headers,
        )
    }

    fn found_by(
        header: TrustedHeader,
        from: &str,
        hops: u32,
        headers: &[(&'static str, &'static str)],
    ) -> Client {
        let proxies = &trusted();
        client(peer(from), Trust { proxies, hops, header }, &Lines(headers.to_vec()))
    }

    const XFF: &str = "x-forwarded-for";
    const FWD: &str = "forwarded";

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
            let found = found(from, hops, &headers).address.to_string();
            assert_eq!(found, expected, "INV-GATE-11: {from} {hops} {headers:?}");
        }
    }

    #[test]
    fn of_the_two_kinds_of_headers_only_the_one_that_proxies_write_is_believed() {
        let mine = [(FWD, "for=198.51.100.7;proto=https;host=good")];
        let forged = [(XFF, "10.6.6.6"), ("x-forwarded-proto", "https"), ("x-forwarded-host", "evil")];
        let said = |kind, headers: &[(&'static str, &'static str)]| {
            let client = found_by(kind, "10.0.0.1", 0, headers);
            (client.address.to_string(), client.secure, client.host)
        };
        let (standard, x) = (TrustedHeader::Forwarded, TrustedHeader::XForwardedFor);
        let good = ("198.51.100.7".to_owned(), true, Some("good".to_owned()));
        let peer = ("10.0.0.1".to_owned(), false, None);
        assert_eq!(said(standard, &[&forged[..], &mine].concat()), good, "INV-GATE-11");
        assert_eq!(
            said(standard, &forged),
            peer,
            "INV-GATE-11: what its proxy did not write is nobody's word"
        );
        assert_eq!(said(x, &mine), peer, "INV-GATE-11");
        assert_eq!(said(x, &forged), ("10.6.6.6".to_owned(), true, Some("evil".to_owned())));
        // Of its kind, but not of this one of its headers.
        let half = [(XFF, "198.51.100.7"), (FWD, "for=1.1.1.1;proto=https;host=evil")];
        assert_eq!(said(x, &half), ("198.51.100.7".to_owned(), false, None), "INV-GATE-11");
    }

    #[test]
    fn addresses_are_written_as_all_others_write_them() {
        for octet in 0..=255u8 {
            for address in [IpAddr::from([octet, 7, octet, 255 - octet]), IpAddr::from([u16::from(octet); 8])]
            {
                let mut text = String::new();
                put(&mut text, address);
                assert_eq!(text, address.to_string());
            }
        }
    }

    #[test]
    fn the_upstream_is_told_the_chain_that_is_believed_and_no_more() {
        let lines_of = |from: &str, style, headers: &[(&'static str, &'static str)]| {
            let client = found(from, 0, headers);
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
        let client = found("192.0.2.1", 0, &[]);
        let told = lines(ForwardedStyle::Both, &client, peer("192.0.2.1"), "");
        assert!(
            told.iter().all(|(name, value)| *name != X_FORWARDED_HOST && !value.contains("host")),
            "{told:?}"
        );
        let dotted = [(XFF, "2.2.2.2"), ("x-forwarded-host", "shop.example.:")];
        assert!(
            lines_of("10.0.0.1", ForwardedStyle::Both, &dotted).contains("x-forwarded-host: shop.example\n")
        );
        let dotted = [(FWD, "for=2.2.2.2;host=\"shop.example.:8080\"")];
        assert!(
            lines_of("10.0.0.1", ForwardedStyle::Standard, &dotted).contains(";host=\"shop.example:8080\"")
        );
        let evil_host = [(XFF, "2.2.2.2"), ("x-forwarded-host", "a\" b")];
        assert!(lines_of("10.0.0.1", ForwardedStyle::X, &evil_host).ends_with("api.example.com"));
    }
}
