//! What other nodes and clients are told of where this one is.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use skep_settings::Settings;

/// `host:port` for what listens at `listen`: the host of `advertise`, else the address listened on, else, if that is any
/// address of the machine, the one for peers.
pub fn advertised(settings: &Settings, listen: SocketAddr) -> String {
    let ip = match listen.ip() {
        ip if ip.is_unspecified() => settings.peer_listen().ip(),
        ip => ip,
    };
    match (settings.advertise(), settings.advertise().parse::<Ipv6Addr>()) {
        ("", _) => SocketAddr::new(ip, listen.port()).to_string(),
        (_, Ok(ip)) => SocketAddr::new(IpAddr::V6(ip), listen.port()).to_string(),
        (host, _) => format!("{host}:{}", listen.port()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_told_an_address_that_means_this_machine() {
        for (advertise, peer, listen, expected) in [
            ("", "127.0.0.1:7379", "127.0.0.1:6379", "127.0.0.1:6379"),
            ("", "10.0.0.1:7379", "10.0.0.2:6379", "10.0.0.2:6379"),
            ("", "10.0.0.1:7379", "0.0.0.0:6379", "10.0.0.1:6379"),
            ("", "[fd00::1]:7379", "[::]:6379", "[fd00::1]:6379"),
            ("db1.example", "0.0.0.0:7379", "0.0.0.0:7379", "db1.example:7379"),
            ("10.0.0.9", "10.0.0.1:7379", "10.0.0.1:7379", "10.0.0.9:7379"),
            ("fd00::9", "0.0.0.0:7379", "0.0.0.0:7379", "[fd00::9]:7379"),
        ] {
            let mut settings = Settings::default();
            for (name, value) in [("advertise", advertise), ("peer-listen", peer)] {
                settings.set(name, value).unwrap();
            }
            assert_eq!(advertised(&settings, listen.parse().unwrap()), expected);
        }
    }
}
