//! From the head of a request to the route that takes it, and what the route makes of it.
//!
//! Owns the order of routes, which docs/gateway.md states. Compiled: one table of hosts for each value of `priority`, and
//! for each host tables of exact paths and of prefixes. A look-up hashes the host, the path, and each beginning of the path
//! that ends at a slash and is not longer than the longest prefix there is, so it costs the length of the path and not the
//! number of routes. `matchit` was considered: it finds the most specific path only, while a route whose header does not
//! fit must leave the request to the next one.

mod head;
mod names;
mod plan;
mod readings;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::sync::Arc;

use regex::bytes::{RegexSet, RegexSetBuilder};
use skep_base::Rng;

pub(crate) use head::unescape;
pub use head::{Head, Headers, source_hash, stable_hash};
pub use names::{
    BadPath, check_location, is_authority, is_host, is_normal, normal_host, normal_path, plain_authority,
    request_path, split_port,
};
pub(crate) use plan::Check;
pub use plan::{Action, Forward, Plan};

use crate::config::Config;
use crate::config::idempotency::Teller;
use crate::config::route::Route;
use crate::config::scalar::{HeaderName, HostPattern, KeyOf, anchored};
use crate::names::{Names, RouteId};

/// All patterns of one host together may take this much memory.
const PATTERNS_BYTES_MAX: usize = 16 << 20;

/// The routes of a configuration.
#[derive(Debug)]
pub struct Router {
    plans: Vec<Plan>,
    /// By priority, the greatest first.
    tiers: Vec<Tier>,
    /// Headers that the configuration goes by, in order.
    headers: Arc<[String]>,
}

/// The route that takes a request.
#[derive(Clone, Copy, Debug)]
pub struct Match<'r> {
    pub route: RouteId,
    pub plan: &'r Plan,
    prefix_len: usize,
}

impl<'r> Match<'r> {
    /// What the route does with the request. `rng` decides splits and mirrors that go by no key.
    pub fn action<'a>(&self, head: &Head<'a>, rng: &mut Rng) -> Action<'a>
    where
        'r: 'a,
    {
        self.plan.action(head, self.prefix_len, rng)
    }
}

#[derive(Debug, Default)]
struct Tier {
    priority: i32,
    exact: Names<Paths>,
    /// By what stands behind `*.`.
    wildcard: Names<Paths>,
    any: Paths,
}

/// The routes of one host. Each list is in the order in which its routes are tried.
#[derive(Debug, Default)]
struct Paths {
    exact: Names<Vec<RouteId>>,
    patterns: Vec<(String, RouteId)>,
    set: Option<RegexSet>,
    prefix: Names<Vec<RouteId>>,
    prefix_len_max: usize,
    any: Vec<RouteId>,
}

impl Router {
    /// Compiles the routes of a checked configuration.
    ///
    /// # Errors
    /// A sentence, if the patterns of a host are too large together.
    pub fn new(config: &Config) -> Result<Router, String> {
        let mut order: Vec<(RouteId, &Route)> =
            config.routes.iter().enumerate().map(|(at, r)| (RouteId(at as u32), &r.it)).collect();
        // What does not depend on host and path; a stable sort keeps the order of the file.
        order.sort_by_key(|(_, r)| {
            (
                Reverse(r.priority),
                r.method.is_empty(),
                Reverse((r.header.len(), r.query.len(), r.cookie.len())),
            )
        });
        let mut tiers: Vec<Tier> = Vec::new();
        for (id, route) in order {
            if tiers.last().is_none_or(|t| t.priority != route.priority) {
                tiers.push(Tier { priority: route.priority, ..Tier::default() });
            }
            let tier = tiers.last_mut().expect("one was pushed");
            if route.host.is_empty() {
                tier.any.add(id, route);
            }
            for HostPattern(host) in &route.host {
                match host.strip_prefix("*.") {
                    Some(below) => tier.wildcard.entry(below).add(id, route),
                    None => tier.exact.entry(host).add(id, route),
                }
            }
        }
        for tier in &mut tiers {
            let hosts = tier.exact.values_mut().chain(tier.wildcard.values_mut()).chain([&mut tier.any]);
            hosts.map(Paths::compile).collect::<Result<Vec<()>, String>>()?;
        }
        let plans = config.routes.iter().map(|r| Plan::new(config, &r.it)).collect();
        Ok(Router { plans, tiers, headers: headers(config).into() })
    }

    /// Names, in lower case, of the headers of requests by which the configuration decides anything.
    pub fn headers(&self) -> &Arc<[String]> {
        &self.headers
    }

    /// The route that takes a request, if one does.
    pub fn find(&self, head: &Head<'_>) -> Option<Match<'_>> {
        let host = normal_host(head.host);
        self.tiers.iter().find_map(|tier| {
            let exact = tier.exact.get(&host);
            let exact = exact.and_then(|paths| paths.find(&self.plans, head));
            exact.or_else(|| self.find_below(tier, &host, head)).or_else(|| tier.any.find(&self.plans, head))
        })
    }

    /// Whether this route takes the request in every way in which a server may read its path (INV-GATE-2). If not, the request is to
    /// be answered 400: a server could take it for one of another route, whose rules were not asked.
    ///
    /// Cost: a pass over the path; up to 23 look-ups if it has adjacent slashes, `;` or an escape, a few for real ones.
    pub fn reads_alike(&self, head: &Head<'_>, route: RouteId) -> bool {
        let is_same =
            |path: &String| self.find(&Head { path, ..*head }).is_some_and(|found| found.route == route);
        readings::readings(head.path).is_some_and(|readings| readings.iter().all(is_same))
    }

    /// By wildcards, the longest first.
    fn find_below(&self, tier: &Tier, host: &str, head: &Head<'_>) -> Option<Match<'_>> {
        if tier.wildcard.is_empty() {
            return None;
        }
        let dots = host.bytes().enumerate().filter(|(_, b)| *b == b'.');
        dots.filter_map(|(at, _)| tier.wildcard.get(&host[at + 1..])).find_map(|p| p.find(&self.plans, head))
    }

    /// The compiled route `id`.
    pub fn plan(&self, id: RouteId) -> &Plan {
        &self.plans[id.at()]
    }
}

/// The headers that conditions, keys of callers and proofs name.
fn headers(config: &Config) -> Vec<String> {
    let mut names: Vec<&HeaderName> = Vec::new();
    let mut keys: Vec<&KeyOf> = config.limits.iter().map(|limit| &limit.it.by).collect();
    keys.extend(config.pools.iter().map(|pool| &pool.it.hash_by));
    for route in config.routes.iter().map(|route| &route.it) {
        names.extend(route.header.iter().map(|(name, _)| name));
        names.extend(&route.importance_header);
        let tellers = route.idempotency.iter().flat_map(|rules| &rules.by);
        names.extend(tellers.filter_map(|teller| match teller {
            Teller::Header(name) => Some(name),
            Teller::Cookie(_) => None,
        }));
        keys.extend(&route.split_by);
    }
    names.extend(config.auths.iter().filter_map(|auth| auth.it.keys.as_ref().map(|keys| &keys.header)));
    names.extend(keys.into_iter().filter_map(|key| match key {
        KeyOf::Header(name) => Some(name),
        _ => None,
    }));
    let mut names: Vec<String> = names.into_iter().map(|name| name.0.clone()).collect();
    names.sort_unstable();
    names.dedup();
    names
}

impl Paths {
    fn add(&mut self, id: RouteId, route: &Route) {
        if let Some(pattern) = &route.path_regex {
            self.patterns.push((pattern.0.clone(), id));
        } else if !route.path.is_empty() {
            route.path.iter().for_each(|path| self.exact.entry(&path.0).push(id));
        } else if !route.path_prefix.is_empty() {
            for prefix in &route.path_prefix {
                let bare = prefix.0.trim_end_matches('/');
                self.prefix.entry(bare).push(id);
                self.prefix_len_max = self.prefix_len_max.max(bare.len());
            }
        } else {
            self.any.push(id);
        }
    }

    fn compile(&mut self) -> Result<(), String> {
        if self.patterns.is_empty() {
            return Ok(());
        }
        self.patterns.sort_by_key(|(pattern, _)| Reverse(pattern.len()));
        let set = RegexSetBuilder::new(self.patterns.iter().map(|(p, _)| anchored(p)));
        let set = { set }.unicode(false).size_limit(PATTERNS_BYTES_MAX).build();
        self.set = Some(set.map_err(|_| {
            format!("has {} patterns for one host, which take more than 16mb together", self.patterns.len())
        })?);
        Ok(())
    }

    fn find<'r>(&self, plans: &'r [Plan], head: &Head<'_>) -> Option<Match<'r>> {
        let taking = |ids: &[RouteId], prefix_len: usize| {
            let route = *ids.iter().find(|id| plans[id.at()].takes(head))?;
            Some(Match { route, plan: &plans[route.at()], prefix_len })
        };
        let path = head.path;
        if let Some(found) = self.exact.get(path).and_then(|ids| taking(ids, path.len())) {
            return Some(found);
        }
        if let Some(set) = &self.set {
            let matching = set.matches(path.as_bytes());
            if let Some(found) = matching.into_iter().find_map(|at| taking(&[self.patterns[at].1], 0)) {
                return Some(found);
            }
        }
        if !self.prefix.is_empty() {
            // Each end of a segment is an end of a prefix: /a/b/c, /a/b, /a and nothing, which is the prefix /.
            let mut end = path.len();
            loop {
                if end <= self.prefix_len_max
                    && let Some(found) = self.prefix.get(&path[..end]).and_then(|ids| taking(ids, end))
                {
                    return Some(found);
                }
                match path[..end].rfind('/') {
                    Some(slash) => end = slash,
                    None => break,
                }
            }
        }
        taking(&self.any, 0)
    }
}
