//! The PROXY protocol (HAProxy's proxy-protocol.txt), versions 1 and 2: for whom a proxy opened a connection.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::pool::SendProxy;

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// The longest header of version 1, by the specification.
const V1_BYTES_MAX: usize = 107;
/// Longer lists of extras than anybody sends.
pub const HEADER_BYTES_MAX: usize = 4 << 10;

/// Source and destination of a connection.
pub type Ends = (SocketAddr, SocketAddr);

/// What a connection begins with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Found {
    NeedMore,
    /// A header of `len` bytes; `ends` are absent if the proxy speaks for itself (its own health checks).
    Header {
        len: usize,
        ends: Option<Ends>,
    },
    /// No header.
    Bad,
}

/// Reads what has come so far.
pub fn read(bytes: &[u8]) -> Found {
    let common = bytes.len().min(SIGNATURE.len());
    if bytes[..common] == SIGNATURE[..common] {
        return if common == SIGNATURE.len() { v2(bytes) } else { Found::NeedMore };
    }
    let common = bytes.len().min(6);
    if bytes[..common] != b"PROXY "[..common] {
        return Found::Bad;
    }
    match bytes.iter().take(V1_BYTES_MAX).position(|b| *b == b'\n') {
        Some(at) => v1(&bytes[..=at]).map_or(Found::Bad, |ends| Found::Header { len: at + 1, ends }),
        None if bytes.len() >= V1_BYTES_MAX => Found::Bad,
        None => Found::NeedMore,
    }
}

fn v1(line: &[u8]) -> Option<Option<Ends>> {
    let text = std::str::from_utf8(line).ok()?.strip_suffix("\r\n")?;
    let words: Vec<&str> = text.split(' ').collect();
    match words[..] {
        ["PROXY", "UNKNOWN", ..] => Some(None),
        ["PROXY", family, from, to, from_port, to_port] => {
            let (from, to): (IpAddr, IpAddr) = (from.parse().ok()?, to.parse().ok()?);
            let good =
                from.is_ipv4() == to.is_ipv4() && family == if from.is_ipv4() { "TCP4" } else { "TCP6" };
            let ends =
                (SocketAddr::new(from, from_port.parse().ok()?), SocketAddr::new(to, to_port.parse().ok()?));
            good.then_some(Some(ends))
        }
        _ => None,
    }
}

fn v2(bytes: &[u8]) -> Found {
    let [version, family, high, low] = match bytes.get(12..16) {
        Some(head) => [head[0], head[1], head[2], head[3]],
        None => return Found::NeedMore,
    };
    let len = 16 + usize::from(u16::from_be_bytes([high, low]));
    if version >> 4 != 2 || len > HEADER_BYTES_MAX {
        return Found::Bad;
    }
    let Some(body) = bytes.get(16..len) else { return Found::NeedMore };
    let ends = match (version & 15, family >> 4) {
        // LOCAL: the proxy speaks for itself. 0: it does not tell.
        (0, _) | (1, 0) => None,
        (1, 1) => match addresses::<4>(body) {
            Some((from, to, ports)) => {
                Some(ends(Ipv4Addr::from(from).into(), Ipv4Addr::from(to).into(), ports))
            }
            None => return Found::Bad,
        },
        (1, 2) => match addresses::<16>(body) {
            Some((from, to, ports)) => {
                Some(ends(Ipv6Addr::from(from).into(), Ipv6Addr::from(to).into(), ports))
            }
            None => return Found::Bad,
        },
        // Sockets of one machine have no address that means something elsewhere.
        (1, 3) => None,
        _ => return Found::Bad,
    };
    Found::Header { len, ends }
}

fn addresses<const N: usize>(body: &[u8]) -> Option<([u8; N], [u8; N], [u16; 2])> {
    let from = body.get(..N)?.try_into().ok()?;
    let to = body.get(N..2 * N)?.try_into().ok()?;
    let ports = body.get(2 * N..2 * N + 4)?;
    Some((from, to, [u16::from_be_bytes([ports[0], ports[1]]), u16::from_be_bytes([ports[2], ports[3]])]))
}

fn ends(from: IpAddr, to: IpAddr, ports: [u16; 2]) -> Ends {
    (SocketAddr::new(from, ports[0]), SocketAddr::new(to, ports[1]))
}

/// The header that tells an upstream about these ends; empty for [`SendProxy::Off`].
pub fn write(form: SendProxy, ends: Ends) -> Vec<u8> {
    let (from, to) = (ends.0.ip().to_canonical(), ends.1.ip().to_canonical());
    let (from_port, to_port) = (ends.0.port(), ends.1.port());
    let v6 = |ip: IpAddr| match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    };
    match form {
        SendProxy::Off => Vec::new(),
        SendProxy::V1 => match (from, to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => format!("PROXY TCP4 {from} {to} {from_port} {to_port}\r\n"),
            _ => format!("PROXY TCP6 {} {} {from_port} {to_port}\r\n", v6(from), v6(to)),
        }
        .into_bytes(),
        SendProxy::V2 => {
            let mut out = SIGNATURE.to_vec();
            match (from, to) {
                (IpAddr::V4(from), IpAddr::V4(to)) => {
                    out.extend([0x21, 0x11, 0, 12]);
                    out.extend(from.octets());
                    out.extend(to.octets());
                }
                _ => {
                    out.extend([0x21, 0x21, 0, 36]);
                    out.extend(v6(from).octets());
                    out.extend(v6(to).octets());
                }
            }
            out.extend(from_port.to_be_bytes());
            out.extend(to_port.to_be_bytes());
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_of_both_versions_read_back_and_every_prefix_needs_more() {
        for (from, to) in [("192.0.2.1:1234", "10.0.0.1:80"), ("[2001:db8::1]:5", "[::1]:65535")] {
            let ends: Ends = (from.parse().unwrap(), to.parse().unwrap());
            for form in [SendProxy::V1, SendProxy::V2] {
                let mut bytes = write(form, ends);
                let len = bytes.len();
                for cut in 0..len {
                    assert_eq!(read(&bytes[..cut]), Found::NeedMore, "{form:?} {cut}");
                }
                bytes.extend(b"GET /");
                assert_eq!(read(&bytes), Found::Header { len, ends: Some(ends) });
                for at in 0..len {
                    let mut changed = bytes.clone();
                    changed[at] ^= 0x40;
                    let _ = read(&changed);
                }
            }
        }
        assert_eq!(write(SendProxy::Off, ("[::1]:1".parse().unwrap(), "[::1]:2".parse().unwrap())), b"");
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for bad in [
            "GET / HTTP/1.1\r\n",
            "PROXY TCP4 1.2.3.4 ::1 1 2\r\n",
            "PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 99999\r\n",
            "PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n",
            "PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n",
        ] {
            assert_eq!(read(bad.as_bytes()), Found::Bad, "{bad}");
        }
        assert_eq!(read(b"PROXY UNKNOWN whatever\r\nx"), Found::Header { len: 24, ends: None });
        assert_eq!(read(&[b"PROXY ", &[b'x'; 200][..]].concat()), Found::Bad);
        let local = [&SIGNATURE[..], &[0x20, 0, 0, 0]].concat();
        assert_eq!(read(&local), Found::Header { len: 16, ends: None });
        for bad in [[0x31, 0x11, 0, 12], [0x21, 0x11, 0xff, 0xff], [0x22, 0x11, 0, 0], [0x21, 0x11, 0, 0]] {
            assert_eq!(read(&[&SIGNATURE[..], &bad].concat()), Found::Bad, "{bad:?}");
        }
    }
}
