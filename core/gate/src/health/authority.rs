//! As whom the gateway addresses an upstream in what it asks by itself, which is no client's request: its probes.

/// What an upstream is known by.
#[derive(Clone, Copy, Debug)]
pub struct KnownBy<'a> {
    /// As the configuration says it is to be addressed (`health.host`).
    pub told: Option<&'a str>,
    /// The name that its certificate is for (`tls-name`).
    pub certificate: Option<&'a str>,
    /// The name by which its address is found.
    pub name: Option<&'a str>,
    /// Its address, or a name that is looked up elsewhere, with the port.
    pub address: &'a str,
    /// By TLS.
    pub is_secure: bool,
}

/// Whom a request of the gateway's own is to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Authority {
    /// As `Host` and `:authority` have it.
    pub host: String,
    is_secure: bool,
}

impl Authority {
    /// As it is told to be addressed, else by the name that its certificate is for, or by its own, with a port that is not the usual
    /// one of its scheme; else by its address.
    pub fn of(known: KnownBy<'_>) -> Authority {
        let usual = if known.is_secure { "443" } else { "80" };
        let by_name = || {
            let name = known.certificate.or(known.name)?;
            let port = known.address.rsplit_once(':')?.1;
            let name = if name.contains(':') { format!("[{name}]") } else { name.to_owned() };
            Some(if port == usual { name } else { format!("{name}:{port}") })
        };
        let host = known.told.map(str::to_owned).or_else(by_name);
        Authority { host: host.unwrap_or_else(|| known.address.to_owned()), is_secure: known.is_secure }
    }

    /// What is asked for with `path`, as HTTP/2 names it.
    pub fn uri(&self, path: &str) -> String {
        format!("{}://{}{path}", if self.is_secure { "https" } else { "http" }, self.host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_gateway_asks_by_itself_is_asked_by_name_and_scheme() {
        for (told, certificate, name, address, expected) in [
            (None, None, None, "10.0.0.1:80", "http://10.0.0.1:80/x"),
            (None, None, Some("app.test"), "10.0.0.1:8080", "http://app.test:8080/x"),
            (None, None, Some("app.test"), "10.0.0.1:80", "http://app.test/x"),
            (None, None, Some("app.test"), "10.0.0.1:443", "http://app.test:443/x"),
            (None, Some("a.test"), Some("app.test"), "10.0.0.1:443", "https://a.test/x"),
            (None, Some("a.test"), None, "10.0.0.1:80", "https://a.test:80/x"),
            (None, Some("a.test"), None, "[::1]:8443", "https://a.test:8443/x"),
            (None, Some("::1"), None, "[::1]:8443", "https://[::1]:8443/x"),
            (None, None, None, "[::1]:80", "http://[::1]:80/x"),
            (Some("b:2"), None, Some("app.test"), "10.0.0.1:80", "http://b:2/x"),
            (Some("b"), Some("a.test"), None, "10.0.0.1:443", "https://b/x"),
        ] {
            let is_secure = certificate.is_some();
            let authority = Authority::of(KnownBy { told, certificate, name, address, is_secure });
            assert_eq!(authority.uri("/x"), expected);
        }
    }
}
