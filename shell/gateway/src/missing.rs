//! What a configuration may say and this release does not carry out: it is refused, by key, rather than ignored.

use skep_gate::Config;

/// Keys with a sentence each.
pub(crate) fn missing(config: &Config) -> Vec<(String, String)> {
    let not_yet = |name: &str| {
        (format!("gateway.listener.{name}"), "is not there yet: this release opens no listener".to_owned())
    };
    config.listeners.iter().map(|listener| not_yet(&listener.name)).collect()
}
