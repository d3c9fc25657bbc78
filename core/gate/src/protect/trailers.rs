//! Which fields behind a body go on.
//!
//! A receiver may take trailers for headers (CGI, and frameworks that merge the two). By then whoever stands in between has judged
//! the headers, so what a client or an upstream may not say before its body it may not say behind it.

use std::sync::Arc;

use http::{HeaderMap, HeaderName};

use super::said::{Said, dashed};
use crate::auth::Rules;
use crate::config::route::HeaderChanges;

/// Fields that are read before the body (RFC 9110, section 6.5.1): how it is framed, where it goes, who asks, on which
/// conditions, what it is, and how a reply may be used; and what the gateway says of both itself.
const NEVER: [&str; 47] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "accept-ranges",
    "age",
    "authorization",
    "cache-control",
    "clear-site-data",
    "connection",
    "cookie",
    "date",
    "expect",
    "expires",
    "forwarded",
    "grpc-timeout",
    "host",
    "http2-settings",
    "idempotency-key",
    "idempotency-status",
    "idempotent-replayed",
    "keep-alive",
    "location",
    "max-forwards",
    "pragma",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "ratelimit",
    "ratelimit-policy",
    "referer",
    "retry-after",
    "set-cookie",
    "strict-transport-security",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "user-agent",
    "vary",
    "via",
    "warning",
    "www-authenticate",
    "x-forwarded",
    "x-http-method-override",
    "x-request-id",
];
/// All that begin like this: conditions, what the content is, whom a browser lets see it, WebSockets, and what proxies tell.
const NEVER_PREFIXES: [&str; 6] = ["if-", "content-", "access-control-", "sec-", "x-forwarded-", "x-skep-"];
/// But a digest of what was sent, which is what trailers are for (RFC 9530, section 2).
const DIGEST: &str = "content-digest";

/// Whether a field, its name in lower case, may stand behind a body at all, in whatever spelling.
pub fn may_follow(name: &str) -> bool {
    let plain = dashed(name);
    let begins = NEVER_PREFIXES.into_iter().any(|prefix| plain.starts_with(prefix));
    !(begins && plain != DIGEST || NEVER.binary_search(&&*plain).is_ok())
}

/// What becomes of the trailers of a request or a reply.
#[derive(Clone, Debug)]
pub struct Trailers {
    rules: Option<Arc<Rules>>,
    /// None for a reply.
    named: Option<Arc<[String]>>,
    changes: Arc<HeaderChanges>,
}

impl Trailers {
    /// Those of requests: without the headers by which the configuration decides (`named`, [`crate::router::Router::headers`]),
    /// those by which callers are told and those that the route changes. Trusted proxies are no exception: what they tell is
    /// needed before the body.
    pub fn of_request(
        rules: Option<Arc<Rules>>,
        named: Arc<[String]>,
        changes: Arc<HeaderChanges>,
    ) -> Trailers {
        Trailers { rules, named: Some(named), changes }
    }

    /// Those of replies: without the headers that the route changes.
    pub fn of_reply(changes: Arc<HeaderChanges>) -> Trailers {
        Trailers { rules: None, named: None, changes }
    }

    /// Whether a trailer with this name, in lower case, goes on.
    pub fn may_pass(&self, name: &str) -> bool {
        let set = self.changes.set.iter().map(|(name, _)| name);
        let is_changed = self.changes.remove.iter().chain(set).any(|own| *own.0 == *name);
        let named = self.named.as_deref().unwrap_or_default();
        let is_named = named.iter().any(|own| own == name);
        let said = Said { trusted: None, rules: self.rules.as_deref(), named, changes: &self.changes };
        may_follow(name) && !is_changed && !is_named && said.may_pass(name)
    }

    /// Those of them that go on; none if none does.
    pub fn pass(&self, mut trailers: HeaderMap) -> Option<HeaderMap> {
        let others: Vec<HeaderName> =
            trailers.keys().filter(|name| !self.may_pass(name.as_str())).cloned().collect();
        for name in others {
            trailers.remove(name);
        }
        (!trailers.is_empty()).then_some(trailers)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::config::Config;

    #[test]
    fn what_is_read_before_the_body_cannot_follow_it_in_any_spelling() {
        assert!(NEVER.is_sorted(), "it is searched by halves");
        let more = [
            "content-length",
            "content-type",
            "if-match",
            "x-forwarded-for",
            "x-skep-caller",
            "sec-fetch-site",
        ];
        for name in NEVER.into_iter().chain(more) {
            assert!(!may_follow(name), "{name}");
            assert!(!may_follow(&name.replace('-', "_")), "{name}");
        }
        let good = [
            "content-digest",
            "repr-digest",
            "etag",
            "grpc-status",
            "server-timing",
            "x-checksum",
            "authentication-info",
        ];
        for name in good {
            assert!(may_follow(name), "{name}");
        }
    }

    #[test]
    fn nobody_says_behind_a_body_what_they_may_not_say_before_it() {
        let text = "[gateway.auth.a]\ncaller-header = 'x_user'\nkeys.callers = []\nkeys.header = 'x-key'\n\
                    [gateway.route.r]\nanswer.status = 204\nheader = { x-level = '1' }\n\
                    request-headers = { remove = ['x-inside'], set = { x-tenant = 'a' }, add = { x-more = '1' } }\n\
                    response-headers = { remove = ['x-private'] }\n";
        let config = Config::parse(text).unwrap();
        let rules = Rules::new(&config, &[]).map(Arc::new);
        let named: Arc<[String]> = Arc::new(["x-key".to_owned(), "x-level".to_owned()]);
        let route = &config.routes[0].it;
        let of_request = Trailers::of_request(rules, named, Arc::new(route.request_headers.clone()));
        let of_reply = Trailers::of_reply(Arc::new(route.response_headers.clone()));
        for (name, request, reply) in [
            ("x-sum", true, true),
            ("grpc-status", true, true),
            ("x_free", true, true),
            ("x-user", false, true),
            ("x_user", false, true),
            ("x-key", false, true),
            ("x-level", false, true),
            ("x_level", false, true),
            ("x-inside", false, true),
            ("x_inside", false, true),
            ("x-tenant", false, true),
            ("x-more", true, true),
            ("x-private", true, false),
            ("x_private", true, false),
            ("x-real-ip", false, false),
            ("x_original_url", false, false),
            ("content-length", false, false),
            ("transfer_encoding", false, false),
        ] {
            assert_eq!((of_request.may_pass(name), of_reply.may_pass(name)), (request, reply), "{name}");
        }
        let map = |names: &[&'static str]| -> HeaderMap {
            names.iter().map(|n| (HeaderName::from_static(n), HeaderValue::from_static("1"))).collect()
        };
        let mut many = map(&["x-sum", "host"]);
        many.append("x-sum", HeaderValue::from_static("2"));
        let passed = of_request.pass(many).unwrap();
        assert_eq!((passed.len(), passed.get_all("x-sum").iter().count()), (2, 2));
        assert_eq!(of_request.pass(map(&["host", "x-inside"])), None);
    }
}
