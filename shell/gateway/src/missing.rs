//! What a configuration may say and this release does not carry out: it is refused, by key, rather than ignored.

use skep_gate::Config;
use skep_gate::config::listener::{Protocol, ProxyProtocol};
use skep_gate::config::protect::Scope;

/// Keys with a sentence each.
pub(crate) fn missing(config: &Config) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut say = |key: String, what: &str| found.push((key, format!("is not there yet: {what}")));
    for listener in &config.listeners {
        let key = |key: &str| format!("gateway.listener.{}.{key}", listener.name);
        if listener.it.protocol != Protocol::Http {
            say(key("protocol"), "this release serves http only");
        }
        if listener.it.proxy_protocol != ProxyProtocol::Off {
            say(key("proxy-protocol"), "this release reads no PROXY header");
        }
    }
    for route in &config.routes {
        if route.it.mirror.is_some() {
            say(format!("gateway.route.{}.mirror", route.name), "this release copies no requests");
        }
    }
    for limit in &config.limits {
        if limit.it.scope == Scope::Cluster {
            say(
                format!("gateway.limit.{}.scope", limit.name),
                "this release limits each node for itself; set scope = \"node\"",
            );
        }
    }
    found
}
