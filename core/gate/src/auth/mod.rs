//! Who calls: what a request offers as proof, what a proof is worth, and what a route asks of its caller.
//!
//! Owns every decision; hashing passwords and verifying signatures take long, and are the shell's, which asks for each step
//! and is told what follows. Nothing here keeps a key or a password: keys are known by their hash.
//!
//! INV-GATE-16: a request reaches a route with `auth` only as a caller whom one of its ways has proved and who meets all that
//! the route requires; and no client can write a header in which upstreams are told who calls, nor send on anything that a way
//! of the route could take for a proof beside the one that was verified.

mod basic;
mod claims;
mod keys;
pub mod keyset;
mod memory;
mod offered;
pub mod refresh;
#[cfg(test)]
mod tests;

use std::sync::Arc;

pub use basic::{Password, parse_users};
pub use claims::{Claims, TokenFault};
pub use memory::{Memory, Remembered, Tries};
pub use offered::{Hidden, Offered, Place, Places, without_parameter};

use crate::config::auth::{Auth, Jwt, Require};
use crate::config::scalar::HeaderName;
use crate::config::{Config, Named};
use crate::names::{AuthId, Names, RouteId};
use crate::router::Check;

/// A caller who proved who it is.
#[derive(Clone, PartialEq, Debug)]
pub struct Caller {
    /// As limits, logs and upstreams know it.
    pub name: String,
    /// A hash of the way and the name: `acme` by a key is another than `acme` by a token. The same on all nodes.
    pub key: u64,
    /// What upstreams are told: headers and their values.
    pub headers: Vec<(String, Vec<u8>)>,
    scopes: Vec<String>,
    claims: Option<Claims>,
}

/// Why a request may not pass.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// 401: it offers nothing.
    Nothing,
    /// 401: what it offers proves nothing; why, for the client.
    Bad(&'static str),
    /// 403: the caller is known, and may not.
    NotAllowed(Lacking),
}

/// What a known caller has not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Lacking {
    Name,
    Scope,
    Claim,
}

/// All ways of a configuration, and what its routes ask. Never changed, so shared by all cores.
#[derive(Debug)]
pub struct Rules {
    ways: Vec<Way>,
    /// By route.
    routes: Vec<Asked>,
    /// Headers by which upstreams are told who calls: removed from what clients send, on every route.
    own_headers: Vec<String>,
}

/// One way.
#[derive(Debug)]
struct Way {
    name: String,
    config: Auth,
    keys: keys::Keys,
    /// Hashes of passwords by user.
    users: Names<String>,
    /// A hash that is checked when there is no such user, so that the time taken does not tell.
    decoy: Option<String>,
    /// Of everything that its configuration says.
    digest: [u8; 32],
}

#[derive(Debug)]
struct Asked {
    ways: Vec<AuthId>,
    callers: Vec<String>,
    scopes: Vec<String>,
    claims: Vec<(String, Check)>,
}

impl Rules {
    /// The rules of a checked configuration; none if it has no `auth`. `users` are those of each way's file
    /// ([`parse_users`]).
    pub fn new(config: &Config, users: &[Vec<(String, String)>]) -> Option<Rules> {
        if config.auths.is_empty() {
            return None;
        }
        let mut own_headers: Vec<String> = Vec::new();
        let mut ways = Vec::new();
        for (at, Named { name, it }) in config.auths.iter().enumerate() {
            let from_claims = it.jwt.iter().flat_map(|jwt| jwt.headers.iter().map(|(header, _)| header));
            for HeaderName(header) in from_claims.chain([&it.caller_header]) {
                if !own_headers.contains(header) {
                    own_headers.push(header.clone());
                }
            }
            let mut by_user: Names<String> = Names::default();
            let inline = it.basic.iter().flat_map(|basic| basic.users.iter().map(|(n, h)| (&n.0, &h.0)));
            let from_file = users.get(at).into_iter().flatten().map(|(n, h)| (n, h));
            for (user, hash) in from_file.chain(inline) {
                hash.clone_into(by_user.entry(user));
            }
            let inline = it.basic.iter().flat_map(|b| b.users.iter().map(|(_, h)| h.0.clone()));
            let decoy = inline.chain(users.get(at).into_iter().flatten().map(|(_, h)| h.clone())).next();
            ways.push(Way {
                name: name.clone(),
                keys: keys::Keys::new(name, it),
                users: by_user,
                decoy,
                digest: crate::config::digest_of(name, it),
                config: it.clone(),
            });
        }
        let way_of = |name: &String| {
            let at = config.auths.iter().position(|a| a.name == *name);
            AuthId(at.expect("names of ways are checked when they are read") as u32)
        };
        let asked = |route: &crate::config::route::Route| {
            let Require { callers, scopes, claims } = route.require.clone().unwrap_or_default();
            Asked {
                ways: route.auth.iter().map(way_of).collect(),
                callers: callers.into_iter().map(|c| c.0).collect(),
                scopes: scopes.into_iter().map(|s| s.0).collect(),
                claims: claims.iter().map(|(name, test)| (name.0.clone(), Check::new(test))).collect(),
            }
        };
        let routes = config.routes.iter().map(|r| asked(&r.it)).collect();
        Some(Rules { ways, routes, own_headers })
    }

    /// The ways of a route, in the order in which they are tried; none if anybody may call.
    pub fn ways(&self, route: RouteId) -> &[AuthId] {
        self.routes.get(route.at()).map_or(&[], |asked| &asked.ways)
    }

    /// The configuration of a way.
    pub fn way(&self, auth: AuthId) -> &Auth {
        &self.ways[auth.at()].config
    }

    /// Headers, in lower case, that no client may send to any upstream.
    pub fn own_headers(&self) -> impl Iterator<Item = &str> {
        self.own_headers.iter().map(String::as_str)
    }

    /// Whether a known caller may use a route.
    ///
    /// # Errors
    /// [`Lacking`].
    pub fn permits(&self, route: RouteId, caller: &Caller) -> Result<(), Lacking> {
        let asked = &self.routes[route.at()];
        if !(asked.callers.is_empty() || asked.callers.contains(&caller.name)) {
            return Err(Lacking::Name);
        }
        if !asked.scopes.iter().all(|scope| caller.scopes.contains(scope)) {
            return Err(Lacking::Scope);
        }
        let passes = |(name, check): &(String, Check)| {
            check.passes(|test| caller.claims.as_ref().is_some_and(|claims| claims.any(name, test)))
        };
        asked.claims.iter().all(passes).then_some(()).ok_or(Lacking::Claim)
    }

    /// What the client is told in `WWW-Authenticate`, a line for each way of the route (RFC 9110, section 11.6.1; RFC 6750).
    pub fn challenges(&self, route: RouteId, refusal: Refusal) -> Vec<String> {
        let asked = &self.routes[route.at()];
        let one = |auth: &AuthId| {
            let config = self.way(*auth);
            let realm = &config.realm.0;
            if config.basic.is_some() {
                return format!("Basic realm=\"{realm}\", charset=\"UTF-8\"");
            }
            let mut line = match &config.keys {
                Some(keys) => format!("ApiKey realm=\"{realm}\", header=\"{}\"", keys.header.0),
                None => format!("Bearer realm=\"{realm}\""),
            };
            match refusal {
                Refusal::Bad(why) if config.jwt.is_some() => {
                    line.push_str(&format!(", error=\"invalid_token\", error_description=\"{why}\""));
                }
                Refusal::NotAllowed(Lacking::Scope) if config.jwt.is_some() => {
                    let scopes = asked.scopes.join(" ");
                    line.push_str(&format!(", error=\"insufficient_scope\", scope=\"{scopes}\""));
                }
                _ => {}
            }
            line
        };
        asked.ways.iter().map(one).collect()
    }

    /// What a token is remembered by: of it, of the way, and of the set of keys that it was checked with.
    pub fn token_digest(&self, auth: AuthId, salt: &[u8], set: &[u8; 32], token: &str) -> [u8; 32] {
        crate::digest([salt, b"jwt", &self.ways[auth.at()].digest, set, token.as_bytes()])
    }

    /// The caller of a verified token, as its claims say.
    ///
    /// # Errors
    /// [`TokenFault`]: the signature is right, and the token not for here, not from there, or not for this time.
    pub fn by_claims(
        &self,
        auth: AuthId,
        claims: serde_json::Value,
        now_secs: u64,
    ) -> Result<(Caller, u64), TokenFault> {
        let way = &self.ways[auth.at()];
        let jwt = way.jwt();
        let claims = Claims::new(claims)?;
        let until = claims.check(jwt, now_secs)?;
        let name = claims.name(jwt)?;
        let mut headers = vec![(way.config.caller_header.0.clone(), name.clone().into_bytes())];
        for (header, claim) in &jwt.headers {
            if let Some(value) = claims.header(&claim.0)? {
                headers.push((header.0.clone(), value));
            }
        }
        let scopes = claims.scopes(&jwt.scopes.0);
        Ok((Caller { key: way.key_of(&name), name, headers, scopes, claims: Some(claims) }, until))
    }
}

impl Way {
    fn jwt(&self) -> &Jwt {
        self.config.jwt.as_ref().expect("only tokens have claims, and only this kind has tokens")
    }

    fn key_of(&self, name: &str) -> u64 {
        key_of(&self.name, name)
    }
}

fn key_of(way: &str, name: &str) -> u64 {
    // Whoever may choose a name, as a subject at some issuers, must not find one that counts as another's.
    crate::digest_hash([way.as_bytes(), name.as_bytes()])
}

fn plain_caller(way: &str, config: &Auth, name: &str, scopes: Vec<String>) -> Arc<Caller> {
    let headers = vec![(config.caller_header.0.clone(), name.as_bytes().to_vec())];
    Arc::new(Caller { name: name.to_owned(), key: key_of(way, name), headers, scopes, claims: None })
}

/// Compares without telling by the time taken where the first difference is.
fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    let differ = a.iter().zip(b).fold(0, |differ, (a, b)| differ | (a ^ b));
    std::hint::black_box(differ) == 0
}
