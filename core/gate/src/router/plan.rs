//! One route, compiled: its conditions beyond host and path, and what it does.

use std::borrow::Cow;
use std::sync::Arc;

use regex::bytes::Regex;
use skep_base::Rng;

use super::head::{Head, Headers};
use super::names::is_normal;
use super::readings::{merged, readings};
use crate::config::Config;
use crate::config::route::{HeaderChanges, Route};
use crate::config::scalar::{HeaderName, HeaderValue, KeyOf, Test, compile_pattern};
use crate::names::PoolId;

/// What to do with a request.
#[derive(Clone, PartialEq, Debug)]
pub enum Action<'a> {
    Forward(Forward<'a>),
    /// Answer with `status` and this `Location`.
    Redirect {
        status: u16,
        location: String,
    },
    /// Answer with this.
    Answer {
        status: u16,
        headers: &'a [(HeaderName, HeaderValue)],
        body: &'a str,
    },
    /// Answer 400 with this: what the route would make of the request is none.
    Refuse(&'static str),
}

/// Where a request goes, and how it is changed.
#[derive(Clone, PartialEq, Debug)]
pub struct Forward<'a> {
    pub pool: PoolId,
    /// A copy goes there too.
    pub mirror: Option<PoolId>,
    /// The pool that stands in for the other, by the route's `failover`.
    pub backup: Option<PoolId>,
    /// The path to send, without the query, which is kept.
    pub path: Cow<'a, str>,
    /// The host to send, if it changes.
    pub host: Option<&'a str>,
}

/// A compiled route.
#[derive(Debug)]
pub struct Plan {
    /// The listeners that it is for, a bit each; none for all.
    listeners: Option<u64>,
    methods: Vec<String>,
    headers: Vec<(String, Check)>,
    query: Vec<(String, Check)>,
    cookies: Vec<(String, Check)>,
    target: Target,
    mirror: Option<(PoolId, u32)>,
    backup: Option<PoolId>,
    host: Option<String>,
    path: Option<NewPath>,
    pub(super) pattern: Option<Regex>,
    /// Changes of the request's headers.
    pub request_headers: Arc<HeaderChanges>,
    /// Changes of the reply's headers.
    pub response_headers: Arc<HeaderChanges>,
    upgrades: Vec<String>,
}

/// A [`Test`], compiled.
#[derive(Debug)]
pub(crate) enum Check {
    Present,
    Absent,
    Is(Vec<u8>),
    Matches(Regex),
}

#[derive(Debug)]
enum Target {
    Pool(PoolId),
    /// Pools with the sums of weights up to and with theirs.
    Split {
        parts: Vec<(u64, PoolId)>,
        by: Option<KeyOf>,
    },
    Redirect {
        status: u16,
        to: String,
    },
    Answer {
        status: u16,
        headers: Vec<(HeaderName, HeaderValue)>,
        body: String,
    },
}

#[derive(Debug)]
enum NewPath {
    Whole(String),
    /// With places for the groups of the pattern, and whether adjacent slashes become one.
    Groups(String, bool),
    Prefix(String),
}

/// `at` of `0..2^64` as a place in `0..total`.
fn scaled(at: u64, total: u64) -> u64 {
    ((u128::from(at) * u128::from(total)) >> 64) as u64
}

impl Check {
    pub(crate) fn new(test: &Test) -> Check {
        match test {
            Test::Present => Check::Present,
            Test::Absent => Check::Absent,
            Test::Is(text) => Check::Is(text.clone().into_bytes()),
            Test::Matches(pattern) => {
                Check::Matches(compile_pattern(&pattern.0).expect("a pattern is compiled when it is read"))
            }
        }
    }

    /// Whether what `find` goes through passes.
    pub(crate) fn passes(&self, find: impl FnOnce(&mut dyn FnMut(&[u8]) -> bool) -> bool) -> bool {
        match self {
            Check::Present => find(&mut |_| true),
            Check::Absent => !find(&mut |_| true),
            Check::Is(text) => find(&mut |value| value == text.as_slice()),
            Check::Matches(regex) => find(&mut |value| regex.is_match(value)),
        }
    }
}

impl Plan {
    pub(super) fn new(config: &Config, route: &Route) -> Plan {
        let pool = |name: &str| {
            let at = config.pools.iter().position(|p| p.name == name);
            PoolId(at.expect("names of pools are checked when they are read") as u32)
        };
        let listener = |name: &String| config.listeners.iter().position(|l| l.name == *name);
        let target = if let Some(name) = &route.pool {
            Target::Pool(pool(name))
        } else if let Some(redirect) = &route.redirect {
            Target::Redirect { status: redirect.status, to: redirect.to.clone() }
        } else if let Some(answer) = &route.answer {
            let (status, headers, body) = (answer.status, answer.headers.clone(), answer.body.clone());
            Target::Answer { status, headers, body }
        } else {
            let mut sum = 0;
            let parts = route.split.iter().map(|part| {
                sum += u64::from(part.weight);
                (sum, pool(&part.pool))
            });
            Target::Split { parts: parts.collect(), by: route.split_by.clone() }
        };
        let rewrite = route.rewrite.clone().unwrap_or_default();
        let path = match (rewrite.path, rewrite.prefix) {
            (Some(path), _) if route.path_regex.is_some() => {
                Some(NewPath::Groups(path, config.merge_slashes))
            }
            (Some(path), _) => Some(NewPath::Whole(path.replace("$$", "$"))),
            (None, prefix) => prefix.map(|p| NewPath::Prefix(p.0)),
        };
        Plan {
            listeners: (!route.listeners.is_empty())
                .then(|| route.listeners.iter().filter_map(listener).fold(0, |bits, at| bits | 1 << at)),
            methods: route.method.iter().map(|m| m.0.clone()).collect(),
            headers: route.header.iter().map(|(n, t)| (n.0.clone(), Check::new(t))).collect(),
            query: route.query.iter().map(|(n, t)| (n.0.clone(), Check::new(t))).collect(),
            cookies: route.cookie.iter().map(|(n, t)| (n.0.clone(), Check::new(t))).collect(),
            target,
            mirror: route.mirror.as_ref().map(|m| (pool(&m.pool), m.share.0)),
            backup: route.failover.as_ref().map(|f| pool(&f.pool)),
            host: rewrite.host,
            path,
            pattern: route
                .path_regex
                .as_ref()
                .map(|p| compile_pattern(&p.0).expect("a pattern is compiled when it is read")),
            request_headers: Arc::new(route.request_headers.clone()),
            response_headers: Arc::new(route.response_headers.clone()),
            upgrades: route.upgrades.iter().map(|to| to.0.clone()).collect(),
        }
    }

    /// True if the request meets the conditions beside host and path.
    pub(super) fn takes(&self, head: &Head<'_>) -> bool {
        self.listeners.is_none_or(|bits| head.listener.is_some_and(|own| bits & (1 << (own.0 % 64)) != 0))
            && (self.methods.is_empty() || self.methods.iter().any(|m| m == head.method))
            && self.headers.iter().all(|(name, check)| check.passes(|test| head.headers.any(name, test)))
            && self.query.iter().all(|(name, check)| check.passes(|test| head.parameter(name, test)))
            && self.cookies.iter().all(|(name, check)| check.passes(|test| head.cookie(name, test)))
    }

    /// The protocol to which a request of HTTP/1.1 may change its connection: of those that it asks for (RFC 9110, section 7.8) the
    /// first that the route lets through. All others are as if they were not asked for, `h2c` above all: what an upstream and a
    /// client say to each other in it passes no route.
    pub fn upgrade(&self, headers: &dyn Headers) -> Option<&str> {
        let words = |line: &[u8], test: &mut dyn FnMut(&[u8]) -> bool| {
            line.split(|b| *b == b',').any(|w| test(w.trim_ascii()))
        };
        let mut found = None;
        let mut take = |word: &[u8]| {
            found = self.upgrades.iter().find(|to| word.eq_ignore_ascii_case(to.as_bytes()));
            found.is_some()
        };
        headers.any("upgrade", &mut |line| words(line, &mut take));
        let agrees = |line: &[u8]| words(line, &mut |word| word.eq_ignore_ascii_case(b"upgrade"));
        found.filter(|_| headers.any("connection", &mut { agrees })).map(String::as_str)
    }

    /// What to do with a request that this route takes. `prefix_len` is the length of the prefix that matched.
    pub(super) fn action<'a>(&'a self, head: &Head<'a>, prefix_len: usize, rng: &mut Rng) -> Action<'a> {
        let pool = match &self.target {
            Target::Pool(pool) => *pool,
            Target::Split { parts, by } => {
                let total = parts.last().map_or(0, |(sum, _)| *sum);
                let point = by.as_ref().and_then(|key| head.key(key)).unwrap_or_else(|| rng.next_u64());
                let at = scaled(point, total);
                parts.iter().find(|(sum, _)| at < *sum).expect("a split has a weight above 0").1
            }
            Target::Redirect { to, .. } if head.host.is_empty() && to.contains("{host}") => {
                return Action::Refuse("there is no host, which the location is made of");
            }
            Target::Redirect { status, to } => {
                return Action::Redirect { status: *status, location: location(to, head) };
            }
            Target::Answer { status, headers, body } => {
                return Action::Answer { status: *status, headers, body };
            }
        };
        let Some(path) = self.path(head.path, prefix_len) else {
            return Action::Refuse("the rewritten path may lead elsewhere");
        };
        let mirror =
            self.mirror.filter(|(_, share)| rng.below(1_000_000) < u64::from(*share)).map(|(pool, _)| pool);
        Action::Forward(Forward { pool, mirror, backup: self.backup, path, host: self.host.as_deref() })
    }

    /// The path to send; none if it is not in normal form, or may be read as one that leads elsewhere.
    fn path<'a>(&'a self, path: &'a str, prefix_len: usize) -> Option<Cow<'a, str>> {
        Some(match &self.path {
            None => Cow::Borrowed(path),
            Some(NewPath::Whole(new)) => Cow::Borrowed(new),
            Some(NewPath::Prefix(new)) => {
                let rest = &path[prefix_len..];
                match (new.ends_with('/'), rest.strip_prefix('/')) {
                    (true, Some(rest)) => Cow::Owned(format!("{new}{rest}")),
                    (false, None) if !rest.is_empty() => Cow::Owned(format!("{new}/{rest}")),
                    _ => Cow::Owned(format!("{new}{rest}")),
                }
            }
            Some(NewPath::Groups(new, merges)) => {
                let pattern = self.pattern.as_ref().expect("only a route with a pattern has groups");
                let groups = pattern.captures(path.as_bytes())?;
                let mut out = Vec::new();
                groups.expand(new.as_bytes(), &mut out);
                // A group that begins or ends in the middle of a segment can make `..` of what was none, and one of an escape two
                // characters: so the new path is judged as the old one was. Both are none that a normal form has.
                let text = String::from_utf8(out).ok().filter(|text| is_normal(text))?;
                let text = if *merges { merged(&text) } else { text };
                readings(&text)?;
                Cow::Owned(text)
            }
        })
    }
}

/// The location of a redirect. Host and path hold no byte that could end a header line: see [`super::is_authority`] and
/// [`super::normal_path`]; a query is escaped where it does.
fn location(to: &str, head: &Head<'_>) -> String {
    let query = match head.query {
        Some(query) => {
            let safe = |c: char| match c {
                '!'..='~' => c.to_string(),
                c => c.to_string().bytes().map(|b| format!("%{b:02X}")).collect(),
            };
            format!("?{}", query.chars().map(safe).collect::<String>())
        }
        None => String::new(),
    };
    // A path that begins with // would be read as another host behind a location without one.
    let path = head.path.trim_start_matches('/');
    to.replace("{scheme}", if head.secure { "https" } else { "http" })
        .replace("{host}", super::names::split_port(head.host).0)
        .replace("{path}", &format!("/{path}"))
        .replace("{query}", &query)
}
