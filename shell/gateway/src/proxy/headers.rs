//! Header lines as the gate reads them, and what is removed and changed on their way.

use http::HeaderMap;
use http::header::{
    CONNECTION, EXPECT, FORWARDED, HeaderName, HeaderValue, PROXY_AUTHORIZATION, TE, TRAILER,
    TRANSFER_ENCODING, UPGRADE,
};
use skep_gate::config::route::HeaderChanges;
use skep_gate::protect::said::Said;
use skep_gate::protect::trailers::Trailers;
use skep_gate::router::Headers;

/// The lines of a request.
pub(super) struct Lines<'a>(pub(super) &'a HeaderMap);

impl Headers for Lines<'_> {
    fn any(&self, name: &str, test: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        // Requests have few lines: to compare them all takes less than to hash a name.
        self.0.iter().any(|(own, value)| own.as_str() == name && test(value.as_bytes()))
    }
}

/// Removes what belongs to one connection (RFC 9110, section 7.6.1), and what `Connection` names. An upgrade keeps the two
/// lines by which it is agreed.
pub(super) fn strip(headers: &mut HeaderMap, upgrades: bool) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(CONNECTION)
            .iter()
            .flat_map(|value| value.as_bytes().split(|b| *b == b','))
            .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
            .collect();
        for name in named {
            if !(upgrades && name == UPGRADE) {
                headers.remove(name);
            }
        }
    }
    remove_all(headers, |name| belongs_to_connection(name) && !(upgrades && *name == UPGRADE));
    if upgrades {
        headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

fn belongs_to_connection(name: &HeaderName) -> bool {
    matches!(*name, CONNECTION | UPGRADE | TRANSFER_ENCODING)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// What a request says to the gateway, or only a gateway may say.
fn is_for_the_gateway(name: &HeaderName) -> bool {
    matches!(*name, TE | EXPECT | PROXY_AUTHORIZATION | FORWARDED)
        || matches!(
            name.as_str(),
            "http2-settings" | "x-forwarded-for" | "x-forwarded-proto" | "x-forwarded-host"
        )
}

/// Removes all lines whose names are to go. Who has few lines looks at them once faster than at what they might be.
fn remove_all(headers: &mut HeaderMap, goes: impl Fn(&HeaderName) -> bool) {
    let gone: Vec<HeaderName> = headers.keys().filter(|name| goes(name)).cloned().collect();
    for name in gone {
        headers.remove(name);
    }
}

/// Removes what a request says to the gateway only, and what its client may not say. Of the protocols that it asks for one may
/// go on. True if the client takes trailers, which is told on.
pub(super) fn strip_request(headers: &mut HeaderMap, upgrade: Option<&HeaderValue>, said: Said<'_>) -> bool {
    // Trailers are what gRPC cannot do without; other codings are between neighbours.
    let trailers = headers.get_all(TE).iter().any(|value| {
        value.as_bytes().split(|b| *b == b',').any(|word| word.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    });
    strip(headers, upgrade.is_some());
    if let Some(protocol) = upgrade {
        headers.insert(UPGRADE, protocol.clone());
    }
    let is_there = |name: &str| headers.contains_key(name);
    let refused =
        |name: &&HeaderName| is_for_the_gateway(name) || !said.may_pass_among(name.as_str(), is_there);
    let refused: Vec<HeaderName> = headers.keys().filter(refused).cloned().collect();
    for name in refused {
        headers.remove(name);
    }
    if trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
    trailers
}

/// Leaves of the trailers that a request or reply announces those that may follow.
pub(super) fn announce(headers: &mut HeaderMap, which: Option<&Trailers>) {
    if !headers.contains_key(TRAILER) {
        return;
    }
    let lines: Vec<HeaderValue> = headers.get_all(TRAILER).iter().cloned().collect();
    headers.remove(TRAILER);
    let Some(which) = which else { return };
    let names = lines.iter().filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    let names = names.map(|name| name.trim().to_ascii_lowercase());
    let names: Vec<String> = names.filter(|name| !name.is_empty() && which.may_pass(name)).collect();
    if let Ok(line) = HeaderValue::try_from(names.join(", "))
        && !names.is_empty()
    {
        headers.insert(TRAILER, line);
    }
}

/// Removes, sets and adds, in this order.
pub(super) fn apply_changes(headers: &mut HeaderMap, changes: &HeaderChanges) {
    let line =
        |(name, value): &(skep_gate::config::scalar::HeaderName, skep_gate::config::scalar::HeaderValue)| {
            let name = HeaderName::from_bytes(name.0.as_bytes()).ok()?;
            Some((name, HeaderValue::from_bytes(value.0.as_bytes()).ok()?))
        };
    for name in &changes.remove {
        headers.remove(&*name.0);
    }
    for (name, value) in changes.set.iter().filter_map(line) {
        headers.insert(name, value);
    }
    for (name, value) in changes.add.iter().filter_map(line) {
        headers.append(name, value);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn map(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect()
    }

    #[test]
    fn trailers_are_announced_as_far_as_they_may_follow() {
        let which = Trailers::of_reply(Arc::default());
        for (lines, with, expected) in [
            (&[][..], true, None),
            (
                &[("trailer", "X-Sum, Host ,content-digest"), ("trailer", ",x-more")],
                true,
                Some("x-sum, content-digest, x-more"),
            ),
            (&[("trailer", "host,content-length")], true, None),
            (&[("trailer", "x-sum")], false, None),
        ] {
            let mut headers = map(lines);
            announce(&mut headers, with.then_some(&which));
            assert_eq!(
                headers.get(TRAILER).map(HeaderValue::as_bytes),
                expected.map(str::as_bytes),
                "{lines:?}"
            );
        }
    }

    #[test]
    fn what_belongs_to_one_connection_stays_there() {
        let lines = [
            ("connection", "close, X-Hop , upgrade"),
            ("x-hop", "1"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c, websocket"),
            ("http2-settings", "AAMAAABkAAQAAP__"),
            ("te", "gzip, Trailers"),
            ("expect", "100-continue"),
            ("x-forwarded-for", "1.2.3.4"),
            ("forwarded", "for=1.2.3.4"),
            ("x-kept", "1"),
            ("x_kept", "2"),
            ("x-real-ip", "1.2.3.4"),
            ("x_forwarded_for", "1.2.3.4"),
            ("x_free", "1"),
        ];
        let changes = HeaderChanges::default();
        let said = Said { trusted: None, rules: None, named: &[], changes: &changes };
        let mut headers = map(&lines);
        assert!(strip_request(&mut headers, None, said));
        assert_eq!(headers, map(&[("te", "trailers"), ("x-kept", "1"), ("x_free", "1")]));
        let mut headers = map(&lines);
        strip_request(&mut headers, Some(&HeaderValue::from_static("websocket")), said);
        let kept = [
            ("te", "trailers"),
            ("x-kept", "1"),
            ("x_free", "1"),
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
        ];
        assert_eq!(headers, map(&kept));
    }
}
