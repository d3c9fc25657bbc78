//! A request's head as decisions see it, without a copy of it.

use std::borrow::Cow;
use std::net::IpAddr;

use skep_base::hash;

use crate::config::scalar::KeyOf;
use crate::names::ListenerId;

/// The header lines of a request.
pub trait Headers {
    /// Gives each value of the header `name` (in lower case) to `test`, until it says true; true if it did.
    fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool;
}

impl Headers for [(&str, &[u8])] {
    fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.iter().any(|(n, value)| n.eq_ignore_ascii_case(name) && test(value))
    }
}

/// The head of a request.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// None for one that is in the configuration no more, but whose connections still ask.
    pub listener: Option<ListenerId>,
    /// Whether it came over TLS, here or at a trusted proxy.
    pub secure: bool,
    pub method: &'a str,
    /// The `Host` header or `:authority`, as [`super::plain_authority`] makes it; empty for HTTP/1.0 without one.
    pub host: &'a str,
    /// In the form of [`super::normal_path`].
    pub path: &'a str,
    /// What stands behind `?`.
    pub query: Option<&'a str>,
    pub headers: &'a dyn Headers,
    /// The client's address, behind trusted proxies (`protect::forwarded`).
    pub source: IpAddr,
    /// What tells the caller from others, if it proved who it is (`auth::Caller::key`).
    pub caller: Option<u64>,
}

/// The seed of hashes that must be the same on all nodes and in all releases: a caller stays where it was.
const STABLE_SEED: u64 = 0x736b_6570_6761_7465;

/// A hash of `bytes` that is the same everywhere.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    hash::seeded(STABLE_SEED, bytes)
}

/// A hash of a client's address, of IPv6 of its first bits: who has one address there has a whole network of them.
pub fn source_hash(source: IpAddr, v6_bits: u32) -> u64 {
    match source {
        IpAddr::V4(v4) => stable_hash(&v4.octets()),
        IpAddr::V6(v6) => {
            let free = 128u32.saturating_sub(v6_bits);
            let network = v6.to_bits().checked_shr(free).unwrap_or(0);
            stable_hash(&network.to_be_bytes())
        }
    }
}

impl Head<'_> {
    /// The hash of what `key` names, or `None` if the request has no such header, cookie or parameter, or
    /// its caller is not known. The same on all
    /// nodes.
    pub fn key(&self, key: &KeyOf) -> Option<u64> {
        if *key == KeyOf::Caller {
            return self.caller;
        }
        let mut found = None;
        self.find(key, &mut |value| found = Some(stable_hash(value)));
        found
    }

    /// As [`Self::key`], for a limit: nobody can make a value that counts as another's, and what the client's provider gives to one
    /// customer counts as one source, `v6_bits` of an IPv6 address.
    pub fn limit_key(&self, by: &KeyOf, v6_bits: u32) -> Option<u64> {
        match by {
            KeyOf::Source => Some(source_hash(self.source, v6_bits)),
            KeyOf::Caller => self.caller,
            by => {
                let mut found = None;
                self.find(by, &mut |value| found = Some(crate::digest_hash([value])));
                found
            }
        }
    }

    /// Gives what `key` names to `take`, at most once; a caller has none.
    fn find(&self, key: &KeyOf, take: &mut dyn FnMut(&[u8])) {
        let mut take = |value: &[u8]| {
            take(value);
            true
        };
        match key {
            KeyOf::Source => match self.source {
                IpAddr::V4(v4) => take(&v4.octets()),
                IpAddr::V6(v6) => take(&v6.octets()),
            },
            KeyOf::Host => take(super::names::normal_host(self.host).as_bytes()),
            KeyOf::Path => take(self.path.as_bytes()),
            KeyOf::Caller => false,
            KeyOf::Header(name) => self.headers.any(&name.0, &mut take),
            KeyOf::Cookie(name) => self.cookie(&name.0, &mut take),
            KeyOf::Query(name) => self.parameter(&name.0, &mut take),
        };
    }

    /// Gives each value of the cookie `name` to `test` (RFC 6265, section 4.2), until it says true.
    pub fn cookie(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        self.headers.any("cookie", &mut |line| {
            line.split(|b| *b == b';').any(|pair| {
                let mut sides = pair.trim_ascii().splitn(2, |b| *b == b'=');
                let (key, value) = (sides.next().unwrap_or(b""), sides.next());
                value.is_some_and(|value| {
                    let bare = value.strip_prefix(b"\"").and_then(|v| v.strip_suffix(b"\""));
                    key == name.as_bytes() && test(bare.unwrap_or(value))
                })
            })
        })
    }

    /// Gives each value of the query parameter `name`, unescaped, to `test`, until it says true.
    pub fn parameter(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let Some(query) = self.query else { return false };
        query.split('&').any(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            *unescape(key) == *name.as_bytes() && test(&unescape(value))
        })
    }
}

/// A part of a query as a form writes it: `+` is a space, and `%` with two digits a byte; a bad escape stays.
pub(crate) fn unescape(text: &str) -> Cow<'_, [u8]> {
    if !text.bytes().any(|b| b == b'%' || b == b'+') {
        return Cow::Borrowed(text.as_bytes());
    }
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).and_then(|b| char::from(*b).to_digit(16));
    let (mut out, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        match (bytes[at], digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            (b, ..) => out.push(b),
        }
        at += 1;
    }
    Cow::Owned(out)
}
