//! What a configuration may say and this release does not carry out: it is refused, by key, rather than ignored.

use skep_gate::Config;
use skep_gate::config::protect::Scope;

/// Keys with a sentence each.
pub(crate) fn missing(config: &Config) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut say = |key: String, what: &str| found.push((key, format!("is not there yet: {what}")));
    for route in &config.routes {
        if route.it.idempotency.is_some() {
            say(format!("gateway.route.{}.idempotency", route.name), "this release keeps no replies");
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
