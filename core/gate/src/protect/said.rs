//! Which header lines of a client go on to an upstream.
//!
//! CGI, and with it WSGI, Rack and PHP, know a header by its name in capitals with `_` for `-`, some with `_` for every byte that
//! is neither letter nor digit. So `X_Skep_Caller` reaches them as `X-Skep-Caller` does (the class of CVE-2024-45614), and what is
//! removed here is removed in all spellings.

use std::borrow::Cow;

use crate::auth::Rules;
use crate::config::TrustedHeader;
use crate::config::route::HeaderChanges;
use crate::resilience::deadline;

/// What the gateway sets itself or reads alone, whoever the client is.
const OURS: [&str; 16] = [
    "connection",
    "content-length",
    "expect",
    "forwarded",
    "host",
    "http2-settings",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-id",
    "x-skep-attempt",
];
/// What upstreams believe of a proxy in front: only a trusted one may say it, and of these only one that writes `X-Forwarded-*`,
/// since one that writes `Forwarded` may pass on what its client said.
const OF_PROXIES: [&str; 4] = ["x-original-url", "x-real-ip", "x-rewrite-url", "x-skep-caller"];
/// So does all that begins like this.
const OF_PROXIES_PREFIX: &str = "x-forwarded-";

/// Of whom the lines are, and who else has a word about them.
#[derive(Clone, Copy, Debug)]
pub struct Said<'a> {
    /// In which headers the client tells of others, if it is a trusted proxy.
    pub trusted: Option<TrustedHeader>,
    pub rules: Option<&'a Rules>,
    /// Headers that the configuration goes by ([`crate::router::Router::headers`]).
    pub named: &'a [String],
    /// The route's.
    pub changes: &'a HeaderChanges,
}

/// True for a name in lower case that can stand for another: it has a byte that is no letter, digit or `-`.
pub fn is_odd(name: &str) -> bool {
    name.bytes().any(|b| !(b.is_ascii_alphanumeric() || b == b'-'))
}

/// The plain name that a name in lower case can stand for.
pub fn dashed(name: &str) -> Cow<'_, str> {
    match is_odd(name) {
        true => {
            name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect::<String>().into()
        }
        false => name.into(),
    }
}

/// Whether two names in lower case may be one to an upstream.
pub fn is_same(a: &str, b: &str) -> bool {
    let same = |(a, b): (u8, u8)| a == b || !(a.is_ascii_alphanumeric() || b.is_ascii_alphanumeric());
    a.len() == b.len() && a.bytes().zip(b.bytes()).all(same)
}

impl Said<'_> {
    /// Whether the lines with this name, in lower case, go on in a request, `is_there` telling which other names it has: a name that
    /// can stand for another does so if both are there.
    ///
    /// Cost: as [`Said::may_pass`].
    pub fn may_pass_among(&self, name: &str, is_there: impl Fn(&str) -> bool) -> bool {
        self.may_pass(name) && !(is_odd(name) && is_there(&dashed(name)))
    }

    /// Whether a line with this name, in lower case, goes on. Names that are exactly the gateway's are left to it: it sets, or
    /// removes, them itself.
    ///
    /// Cost: O(length of the name), and O(headers that the ways of `auth` set) where there is one; for a name that can stand for
    /// another, O(headers that the configuration names).
    pub fn may_pass(&self, name: &str) -> bool {
        let is = |own: &str| is_same(own, name);
        if self.rules.is_some_and(|rules| rules.own_headers().any(is)) {
            return false;
        }
        // Most names begin with another letter.
        if self.trusted != Some(TrustedHeader::XForwardedFor) && name.starts_with('x') {
            let starts =
                name.get(..OF_PROXIES_PREFIX.len()).is_some_and(|begin| is_same(begin, OF_PROXIES_PREFIX));
            if starts || OF_PROXIES.into_iter().any(is) {
                return false;
            }
        }
        let changed = || {
            let set = self.changes.set.iter().map(|(name, _)| name);
            self.changes.remove.iter().chain(set).any(|own| is(&own.0) && own.0 != name)
        };
        // What was judged here under one name must not be another there.
        let is_ours = || {
            let named = self.named.iter().map(String::as_str);
            OURS.into_iter().chain([deadline::HEADER]).chain(named).any(|own| is(own) && own != name)
        };
        !(changed() || is_odd(name) && is_ours())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn names_are_judged_in_every_spelling() {
        let text = "[gateway.auth.a]\ncaller-header = 'x_user'\nkeys.callers = []\n[gateway.route.r]\nanswer.status = 204\n\
                    request-headers = { remove = ['x-inside'], set = { x_tenant = 'a' }, add = { x-more = '1' } }\n";
        let config = Config::parse(text).unwrap();
        let rules = Rules::new(&config, &[]).unwrap();
        let changes = &config.routes[0].it.request_headers;
        let named = ["x-level".to_owned(), "x_odd".to_owned()];
        let with = Said { trusted: None, rules: Some(&rules), named: &named, changes };
        let proxy = Said { trusted: Some(TrustedHeader::XForwardedFor), ..with };
        let standard = Said { trusted: Some(TrustedHeader::Forwarded), ..with };
        for (name, passes) in [
            ("x-forwarded-port", false),
            ("x_forwarded-port", false),
            ("x-real-ip", false),
            ("x_real_ip", false),
            ("x-original-url", false),
            ("x-rewrite-url", false),
            ("x-skep-caller", false),
            ("x-real", true),
            ("accept", true),
        ] {
            assert_eq!(standard.may_pass(name), passes, "{name} of a proxy that writes Forwarded");
        }
        let bare = Said { rules: None, ..with };
        for (name, client, from_proxy, without_auth) in [
            ("accept", true, true, true),
            ("x_free", true, true, true),
            ("x_user", false, false, true),
            ("x-user", false, false, true),
            ("x.user", false, false, true),
            ("x-users", true, true, true),
            ("x-skep-caller", false, true, false),
            ("x_skep-caller", false, true, false),
            ("x-forwarded-port", false, true, false),
            ("x_forwarded-port", false, true, false),
            ("x-forwarded", true, true, true),
            ("x-real-ip", false, true, false),
            ("x-original-url", false, true, false),
            ("x-rewrite_url", false, true, false),
            ("x_forwarded_for", false, false, false),
            ("x_request_id", false, false, false),
            ("x_skep_timeout_ms", false, false, false),
            ("content_length", false, false, false),
            ("x_inside", false, false, false),
            ("x-tenant", false, false, false),
            ("x_more", true, true, true),
            ("x-level", true, true, true),
            ("x_level", false, false, false),
            ("x_odd", true, true, true),
            ("traceparent", true, true, true),
        ] {
            let found = (with.may_pass(name), proxy.may_pass(name), bare.may_pass(name));
            assert_eq!(found, (client, from_proxy, without_auth), "{name}");
        }
    }

    #[test]
    fn an_odd_name_goes_on_unless_the_plain_one_is_there() {
        let changes = HeaderChanges::default();
        let said = Said { trusted: None, rules: None, named: &[], changes: &changes };
        for (name, there, passes) in [
            ("x_user", "x-user", false),
            ("x.user", "x-user", false),
            ("x_user", "x_user", true),
            ("x_user", "x-users", true),
            ("x-user", "x-user", true),
            ("x-real-ip", "", false),
        ] {
            assert_eq!(said.may_pass_among(name, |other| other == there), passes, "{name} beside {there}");
        }
    }
}
