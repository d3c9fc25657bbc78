//! `[gateway.route.NAME]`: which requests it takes, and what is done with them.

use super::auth::Require;
use super::fields::{Fields, Section};
use super::idempotency::Idempotency;
use super::protect::Net;
use super::resilience::{Breaker, Bulkhead, Failover, Hedge, Priority, Retry, Timeout};
use super::rewrite;
use super::scalar::{
    HeaderName, HeaderValue, HostPattern, KeyOf, Method, Parameter, PathText, Pattern, Share, Test, UpgradeTo,
};

/// A part of a weighted split.
#[derive(Clone, PartialEq, Debug)]
pub struct Part {
    pub pool: String,
    pub weight: u32,
}

/// Changes of the request on its way to the upstream.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Rewrite {
    pub host: Option<String>,
    /// The whole path; with `path-regex`, `$1` and `${name}` are its groups.
    pub path: Option<String>,
    /// What the prefix that matched is replaced with.
    pub prefix: Option<PathText>,
}

/// An answer that sends the client elsewhere.
#[derive(Clone, PartialEq, Debug)]
pub struct Redirect {
    pub status: u16,
    /// The location; `{scheme}`, `{host}`, `{path}` and `{query}` stand for those of the request.
    pub to: String,
}

/// A fixed answer.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub body: String,
}

/// A copy of a part of the requests, whose replies are thrown away.
#[derive(Clone, PartialEq, Debug)]
pub struct Mirror {
    pub pool: String,
    pub share: Share,
}

/// Changes of headers, in this order.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct HeaderChanges {
    pub remove: Vec<HeaderName>,
    pub set: Vec<(HeaderName, HeaderValue)>,
    pub add: Vec<(HeaderName, HeaderValue)>,
}

/// One route. It takes a request when each condition that it has is met.
#[derive(Clone, PartialEq, Debug)]
pub struct Route {
    /// Decides before everything else; the greater goes first.
    pub priority: i32,
    /// Names of listeners; all http listeners if empty.
    pub listeners: Vec<String>,
    pub host: Vec<HostPattern>,
    pub path: Vec<PathText>,
    pub path_prefix: Vec<PathText>,
    pub path_regex: Option<Pattern>,
    pub method: Vec<Method>,
    pub header: Vec<(HeaderName, Test)>,
    pub query: Vec<(Parameter, Test)>,
    pub cookie: Vec<(Parameter, Test)>,

    /// One of these four says what is done.
    pub pool: Option<String>,
    pub split: Vec<Part>,
    pub redirect: Option<Redirect>,
    pub answer: Option<Answer>,

    /// What a split goes by; each request for itself if absent.
    pub split_by: Option<KeyOf>,
    pub mirror: Option<Mirror>,
    pub rewrite: Option<Rewrite>,
    pub request_headers: HeaderChanges,
    pub response_headers: HeaderChanges,
    /// Protocols to which its connections may change; a request that asks for another goes on as if it did not ask.
    pub upgrades: Vec<UpgradeTo>,

    pub timeout: Timeout,
    pub retry: Option<Retry>,
    pub hedge: Option<Hedge>,
    pub breaker: Option<Breaker>,
    pub bulkhead: Option<Bulkhead>,
    pub failover: Option<Failover>,
    pub idempotency: Option<Idempotency>,
    pub importance: Priority,
    /// A header of the request whose value (critical, high, normal, low) replaces `importance`. Who may set it must be
    /// trusted.
    pub importance_header: Option<HeaderName>,

    /// Names of ways in which a caller may prove who it is; anybody may call if empty.
    pub auth: Vec<String>,
    /// What else is asked of a caller.
    pub require: Option<Require>,
    /// Names of limits that all apply.
    pub limits: Vec<String>,
    /// Clients' addresses that are let in; all if empty.
    pub allow: Vec<Net>,
    /// Clients' addresses that are not, whatever `allow` says.
    pub deny: Vec<Net>,
}

impl Default for Route {
    fn default() -> Route {
        Route {
            priority: 0,
            listeners: Vec::new(),
            host: Vec::new(),
            path: Vec::new(),
            path_prefix: Vec::new(),
            path_regex: None,
            method: Vec::new(),
            header: Vec::new(),
            query: Vec::new(),
            cookie: Vec::new(),
            pool: None,
            split: Vec::new(),
            redirect: None,
            answer: None,
            split_by: None,
            mirror: None,
            rewrite: None,
            request_headers: HeaderChanges::default(),
            response_headers: HeaderChanges::default(),
            upgrades: vec![UpgradeTo("websocket".to_owned())],
            timeout: Timeout::default(),
            retry: Some(Retry::default()),
            hedge: None,
            breaker: None,
            bulkhead: None,
            failover: None,
            idempotency: None,
            importance: Priority::Normal,
            importance_header: None,
            auth: Vec::new(),
            require: None,
            limits: Vec::new(),
            allow: Vec::new(),
            deny: Vec::new(),
        }
    }
}

impl Default for Part {
    fn default() -> Part {
        Part { pool: String::new(), weight: 1 }
    }
}

impl Default for Redirect {
    fn default() -> Redirect {
        Redirect { status: 308, to: String::new() }
    }
}

impl Default for Answer {
    fn default() -> Answer {
        Answer { status: 200, headers: Vec::new(), body: String::new() }
    }
}

impl Default for Mirror {
    fn default() -> Mirror {
        Mirror { pool: String::new(), share: Share::ALL }
    }
}

impl Section for Part {
    const SHORTHAND: Option<&'static str> = Some("pool");

    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.one("pool", &mut self.pool);
        f.ranged("weight", &mut self.weight, 0..=1_000_000);
    }
}

impl Section for Rewrite {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.maybe("host", &mut self.host);
        f.maybe("path", &mut self.path);
        f.maybe("prefix", &mut self.prefix);
    }

    fn check(&self, wrong: &mut Vec<(&'static str, String)>) {
        if self.path.is_some() && self.prefix.is_some() {
            wrong
                .push(("prefix", "is set beside path; one of the two says what the path becomes".to_owned()));
        }
        if let Some(path) = &self.path
            && let Err(what) = rewrite::check(path)
        {
            wrong.push(("path", what));
        }
        match self.host.as_deref().map(|host| (host, crate::router::plain_authority(host))) {
            Some((_, None)) => wrong.push(("host", "must be a host name, with or without a port".to_owned())),
            Some((host, Some(plain))) if plain != host => wrong.push((
                "host",
                format!("is `{host}`; a host is sent without a final dot and an empty port: write `{plain}`"),
            )),
            _ => {}
        }
    }
}

impl Section for Redirect {
    const SHORTHAND: Option<&'static str> = Some("to");

    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.one("status", &mut self.status);
        f.one("to", &mut self.to);
    }

    fn check(&self, wrong: &mut Vec<(&'static str, String)>) {
        if ![301, 302, 303, 307, 308].contains(&self.status) {
            wrong.push(("status", format!("is {}; it must be 301, 302, 303, 307 or 308", self.status)));
        }
        if let Err(what) = crate::router::check_location(&self.to) {
            wrong.push(("to", what));
        }
    }
}

impl Section for Answer {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.ranged("status", &mut self.status, 200..=599);
        f.map("headers", &mut self.headers, 100);
        f.one("body", &mut self.body);
    }

    fn check(&self, wrong: &mut Vec<(&'static str, String)>) {
        for (name, _) in self.headers.iter().filter(|(name, _)| is_framing(name)) {
            wrong.push(("headers", format!("holds {}, which the gateway sets itself; leave it out", name.0)));
        }
    }
}

impl Section for Mirror {
    const SHORTHAND: Option<&'static str> = Some("pool");

    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.one("pool", &mut self.pool);
        f.ranged("share", &mut self.share, Share(0)..=Share::ALL);
    }
}

/// Whether a header frames a message or belongs to one connection: changing it desynchronises both sides, and HTTP/2 forbids most of
/// them (RFC 9113, section 8.2.2).
fn is_framing(name: &HeaderName) -> bool {
    const FRAMING: [&str; 7] = [
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "keep-alive",
        "proxy-connection",
        "te",
    ];
    FRAMING.contains(&name.0.as_str())
}

impl Section for HeaderChanges {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.list("remove", &mut self.remove, 100);
        f.map("set", &mut self.set, 100);
        f.map("add", &mut self.add, 100);
    }

    fn check(&self, wrong: &mut Vec<(&'static str, String)>) {
        let names = self.remove.iter().map(|n| ("remove", n));
        let names = names.chain(self.set.iter().map(|(n, _)| ("set", n)));
        for (key, name) in names.chain(self.add.iter().map(|(n, _)| ("add", n))) {
            if is_framing(name) || name.0 == "host" {
                wrong.push((key, format!("holds {}, which the gateway sets itself; leave it out", name.0)));
            }
        }
    }
}

impl Section for Route {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.one("priority", &mut self.priority);
        f.list("listeners", &mut self.listeners, 64);
        f.list("host", &mut self.host, 1_000);
        f.list("path", &mut self.path, 1_000);
        f.list("path-prefix", &mut self.path_prefix, 1_000);
        f.maybe("path-regex", &mut self.path_regex);
        f.list("method", &mut self.method, 50);
        f.map("header", &mut self.header, 20);
        f.map("query", &mut self.query, 20);
        f.map("cookie", &mut self.cookie, 20);
        f.maybe("pool", &mut self.pool);
        f.sections("split", &mut self.split, 100);
        f.maybe_section("redirect", &mut self.redirect);
        f.maybe_section("answer", &mut self.answer);
        f.maybe("split-by", &mut self.split_by);
        f.maybe_section("mirror", &mut self.mirror);
        f.maybe_section("rewrite", &mut self.rewrite);
        f.section("request-headers", &mut self.request_headers);
        f.section("response-headers", &mut self.response_headers);
        f.list("upgrades", &mut self.upgrades, 10);
        f.section("timeout", &mut self.timeout);
        f.maybe_section("retry", &mut self.retry);
        f.maybe_section("hedge", &mut self.hedge);
        f.maybe_section("breaker", &mut self.breaker);
        f.maybe_section("bulkhead", &mut self.bulkhead);
        f.maybe_section("failover", &mut self.failover);
        f.maybe_section("idempotency", &mut self.idempotency);
        f.one("importance", &mut self.importance);
        f.maybe("importance-header", &mut self.importance_header);
        f.list("auth", &mut self.auth, 10);
        f.maybe_section("require", &mut self.require);
        f.list("limits", &mut self.limits, 10);
        f.list("allow", &mut self.allow, 10_000);
        f.list("deny", &mut self.deny, 10_000);
    }

    fn check(&self, wrong: &mut Vec<(&'static str, String)>) {
        let actions =
            [self.pool.is_some(), !self.split.is_empty(), self.redirect.is_some(), self.answer.is_some()];
        match actions.iter().filter(|is| **is).count() {
            1 => {}
            0 => wrong
                .push(("pool", "is missing; a route has one of pool, split, redirect, answer".to_owned())),
            _ => wrong.push((
                "pool",
                "is one of several; a route has one of pool, split, redirect, answer".to_owned(),
            )),
        }
        let paths = [!self.path.is_empty(), !self.path_prefix.is_empty(), self.path_regex.is_some()];
        if paths.iter().filter(|is| **is).count() > 1 {
            let what = "is one of several; a route has one of path, path-prefix, path-regex";
            wrong.push((if paths[2] { "path-regex" } else { "path-prefix" }, what.to_owned()));
        }
        if !self.split.is_empty() && self.split.iter().all(|part| part.weight == 0) {
            wrong.push(("split", "has no part with a weight above 0".to_owned()));
        }
        if self.rewrite.as_ref().is_some_and(|r| r.prefix.is_some()) && self.path_prefix.is_empty() {
            wrong.push(("rewrite", "replaces a prefix; that needs path-prefix".to_owned()));
        }
        if let Some(path) = self.rewrite.as_ref().and_then(|r| r.path.as_ref())
            && let Err(what) = rewrite::check_groups(path, self.path_regex.as_ref())
        {
            wrong.push(("rewrite.path", what));
        }
        if self.hedge.is_some() && self.retry.is_none() {
            wrong.push(("hedge", "needs retry, whose budget and attempts it shares".to_owned()));
        }
        if self.failover.is_some() && self.pool.is_none() {
            wrong.push(("failover", "needs pool, the primary that it stands in for".to_owned()));
        }
        if self.require.is_some() && self.auth.is_empty() {
            wrong.push(("require", "needs auth, since nobody is known without".to_owned()));
        }
        if self.idempotency.is_some() && self.pool.is_none() && self.split.is_empty() {
            wrong.push(("idempotency", "needs pool or split, since nothing else is carried out".to_owned()));
        }
        if let Some(failover) = &self.failover
            && self.pool.as_ref() == Some(&failover.pool)
        {
            wrong.push(("failover", "goes to the pool of the route itself".to_owned()));
        }
    }
}
