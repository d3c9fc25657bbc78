//! The gateway's configuration: `[gateway]` of a TOML file, checked as a whole, shown and compared as text.
//!
//! Owns every key, default, range and form, and the sentence that an error says. Does not own where the text comes from
//! nor when it takes effect. Files that are named in it are read by the shell.
//!
//! INV-GATE-1: `Config::parse(config.text()) == Ok(config)` for every configuration that was parsed.

pub mod auth;
pub mod dns;
mod fields;
pub mod idempotency;
pub mod listener;
pub mod pool;
pub mod protect;
mod read;
pub mod resilience;
mod rewrite;
pub mod route;
pub mod scalar;
mod show;
#[cfg(test)]
mod tests;

use skep_settings::nearest_of;
use toml::de::DeTable;

use auth::Auth;
use dns::Dns;
pub use fields::Named;
pub(crate) use fields::Scalar;
use fields::{Fields, Section};
use listener::{Listener, Protocol, ProxyProtocol};
use pool::Pool;
use protect::{Limit, Net};
pub use read::ConfigError;
use read::Found;
use route::Route;
use scalar::Share;

use crate::router::Router;

/// As much text as a configuration may have; its limits on lists keep what is compiled from it bounded too.
pub const CONFIG_BYTES_MAX: usize = 8 << 20;
/// The router keeps the listeners of a route as bits of a word.
pub const LISTENERS_MAX: usize = 64;
pub const POOLS_MAX: usize = 4_096;
pub const ROUTES_MAX: usize = 65_536;
pub const LIMITS_MAX: usize = 1_024;
pub const AUTHS_MAX: usize = 256;

words! {
    /// Which headers tell an upstream whom it serves.
    ForwardedStyle {
        /// `X-Forwarded-For`, `-Proto`, `-Host`.
        #[default]
        X = "x-forwarded",
        /// `Forwarded` (RFC 7239).
        Standard = "forwarded",
        Both = "both",
    }
    /// In which headers trusted proxies tell of clients. The other kind is not believed, since a proxy that does not write it may
    /// pass on what its client wrote.
    TrustedHeader {
        /// `X-Forwarded-For`, `-Proto`, `-Host`.
        #[default]
        XForwardedFor = "x-forwarded-for",
        /// `Forwarded` (RFC 7239).
        Forwarded = "forwarded",
    }
    /// What becomes of a path with `%2F` or `%5C`.
    EscapedSlashes {
        /// It goes on as it is, if all readings of it take one route.
        #[default]
        Keep = "keep",
        /// 400.
        Refuse = "refuse",
    }
}
use scalar::words;

/// All of `[gateway]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Config {
    /// Proxies in front of this one, whose word about clients is believed.
    pub trusted_proxies: Vec<Net>,
    /// How many of them in a row at most; 0 for as many as are trusted.
    pub trusted_hops: u32,
    pub trusted_header: TrustedHeader,
    pub forwarded: ForwardedStyle,
    /// Adjacent slashes of a path are one, in what routes see and in what upstreams get.
    pub merge_slashes: bool,
    pub escaped_slashes: EscapedSlashes,
    pub dns: Dns,
    pub listeners: Vec<Named<Listener>>,
    pub routes: Vec<Named<Route>>,
    pub pools: Vec<Named<Pool>>,
    pub limits: Vec<Named<Limit>>,
    pub auths: Vec<Named<Auth>>,
    /// Lines about requests on standard output; none if absent.
    pub access_log: Option<AccessLog>,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            trusted_proxies: Vec::new(),
            trusted_hops: 0,
            trusted_header: TrustedHeader::default(),
            forwarded: ForwardedStyle::default(),
            merge_slashes: true,
            escaped_slashes: EscapedSlashes::default(),
            dns: Dns::default(),
            listeners: Vec::new(),
            routes: Vec::new(),
            pools: Vec::new(),
            limits: Vec::new(),
            auths: Vec::new(),
            access_log: None,
        }
    }
}

/// `[gateway.access-log]`.
#[derive(Clone, PartialEq, Debug)]
pub struct AccessLog {
    /// The share of requests that get a line; those answered with 500 and above always do.
    pub share: Share,
}

impl Default for AccessLog {
    fn default() -> AccessLog {
        AccessLog { share: Share::ALL }
    }
}

impl Section for AccessLog {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.ranged("share", &mut self.share, Share(1)..=Share::ALL);
    }
}

impl Section for Config {
    fn fields<F: Fields>(&mut self, f: &mut F) {
        f.list("trusted-proxies", &mut self.trusted_proxies, 10_000);
        f.ranged("trusted-hops", &mut self.trusted_hops, 0..=100);
        f.one("trusted-header", &mut self.trusted_header);
        f.one("forwarded", &mut self.forwarded);
        f.one("merge-slashes", &mut self.merge_slashes);
        f.one("escaped-slashes", &mut self.escaped_slashes);
        f.section("dns", &mut self.dns);
        f.named("listener", &mut self.listeners, LISTENERS_MAX);
        f.named("route", &mut self.routes, ROUTES_MAX);
        f.named("pool", &mut self.pools, POOLS_MAX);
        f.named("limit", &mut self.limits, LIMITS_MAX);
        f.named("auth", &mut self.auths, AUTHS_MAX);
        f.maybe_section("access-log", &mut self.access_log);
    }
}

/// A digest of all that a section says, secrets included.
pub(crate) fn digest_of<S: Section>(name: &str, section: &S) -> [u8; 32] {
    let lines = show::lines(name, section, false);
    let lines: Vec<String> = lines.iter().map(|(key, value)| format!("{key} = {}", value.text())).collect();
    crate::digest(lines.iter().map(String::as_bytes))
}

impl Config {
    /// Reads `[gateway]` of a TOML text; other tables are left to others.
    ///
    /// # Errors
    /// Every mistake found, in the order of lines; at least one. Nothing of a text with a mistake is used.
    pub fn parse(text: &str) -> Result<Config, Vec<ConfigError>> {
        let whole = |what: String| vec![ConfigError { line: 1, key: String::new(), what }];
        if text.len() > CONFIG_BYTES_MAX {
            return Err(whole(format!("the text is {} bytes, the limit is {CONFIG_BYTES_MAX}", text.len())));
        }
        let found = Found::new(text);
        let (table, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            found.wrong_at(error.span().map_or(0, |s| s.start), "", error.message().replace('\n', ", "));
        }
        let mut config = Config::default();
        if errors.is_empty() {
            match table.get_ref().get("gateway").map(|value| (value.span(), value.get_ref().as_table())) {
                Some((_, Some(gateway))) => read::section(&found, "gateway", gateway, &mut config),
                Some((span, None)) => found.wrong_at(span.start, "gateway", "must be a table".to_owned()),
                None => {
                    let mut keys = table.get_ref().keys().map(|k| &**k.get_ref());
                    let near = match keys.find(|k| nearest_of(k, ["gateway"].into_iter()).is_some()) {
                        Some(near) => format!("; is `{near}` meant to be it?"),
                        None => String::new(),
                    };
                    found.wrong_at(0, "gateway", format!("is missing{near}"));
                }
            }
        }
        if found.is_clean() {
            config.check_names(&found);
        }
        if found.is_clean()
            && let Err(what) = Router::new(&config)
        {
            found.wrong("gateway.route", what);
        }
        match found.is_clean() {
            true => Ok(config),
            false => Err(found.into_errors()),
        }
    }

    /// As [`Config::parse`], of a text that has nothing but `[gateway]`: what the cluster keeps for all nodes to see must not
    /// hold a node's own settings, its password among them.
    ///
    /// # Errors
    /// As [`Config::parse`], and each key outside `[gateway]`.
    pub fn parse_alone(text: &str) -> Result<Config, Vec<ConfigError>> {
        let config = Config::parse(text)?;
        let found = Found::new(text);
        let (table, _) = DeTable::parse_recoverable(text);
        for key in table.get_ref().keys().filter(|key| &**key.get_ref() != "gateway") {
            let what = "is no part of [gateway]; a node's own settings are for its own file".to_owned();
            found.wrong_at(key.span().start, key.get_ref(), what);
        }
        match found.is_clean() {
            true => Ok(config),
            false => Err(found.into_errors()),
        }
    }

    /// Every key with its value, defaults included, one a line, as TOML.
    pub fn text(&self) -> String {
        show::text(self)
    }

    /// What changes from `self` to `new`, a line each, in the words of `+`, `-` and `~`; empty if nothing does. A value
    /// that is left to its default is shown as well, since it is in force too.
    pub fn difference(&self, new: &Config) -> String {
        show::difference(self, new)
    }

    /// Names that other tables use must exist; two listeners cannot have one address.
    fn check_names(&self, found: &Found) {
        let exists = |kind: &str, names: &[&str], key: &str, name: &str| {
            if names.contains(&name) {
                return;
            }
            let near = match nearest_of(name, names.iter().copied()) {
                Some(near) => format!("; did you mean `{near}`?"),
                None => String::new(),
            };
            found.wrong(key, format!("is `{name}`; there is no gateway.{kind} of this name{near}"));
        };
        let pools: Vec<&str> = self.pools.iter().map(|p| p.name.as_str()).collect();
        let limits: Vec<&str> = self.limits.iter().map(|l| l.name.as_str()).collect();
        let auths: Vec<&str> = self.auths.iter().map(|a| a.name.as_str()).collect();
        let http = |l: &&Named<Listener>| l.it.protocol == Protocol::Http;
        let http: Vec<&str> = self.listeners.iter().filter(http).map(|l| l.name.as_str()).collect();
        for Named { name, it: route } in &self.routes {
            let key = |key: &str| format!("gateway.route.{name}.{key}");
            if let Some(pool) = &route.pool {
                exists("pool", &pools, &key("pool"), pool);
            }
            for (at, part) in route.split.iter().enumerate() {
                exists("pool", &pools, &key(&format!("split.{at}.pool")), &part.pool);
            }
            if let Some(mirror) = &route.mirror {
                exists("pool", &pools, &key("mirror.pool"), &mirror.pool);
            }
            if let Some(failover) = &route.failover {
                exists("pool", &pools, &key("failover.pool"), &failover.pool);
            }
            if self.merge_slashes {
                let never = route
                    .path
                    .iter()
                    .map(|p| ("path", p))
                    .chain(route.path_prefix.iter().map(|p| ("path-prefix", p)));
                for (which, path) in never.filter(|(_, path)| path.0.contains("//")) {
                    found.wrong(
                        &key(which),
                        format!(
                            "is `{}`; no path has adjacent slashes while gateway.merge-slashes is true",
                            path.0
                        ),
                    );
                }
            }
            route.auth.iter().for_each(|auth| exists("auth", &auths, &key("auth"), auth));
            route.limits.iter().for_each(|limit| exists("limit", &limits, &key("limits"), limit));
            route.listeners.iter().for_each(|l| exists("listener", &http, &key("listeners"), l));
        }
        // Connections of HTTP serve many clients one after the other; none of them could be told.
        let told = |pool: &&Named<Pool>| pool.it.send_proxy != pool::SendProxy::Off;
        for pool in self.pools.iter().filter(told) {
            let uses = |route: &&Named<Route>| {
                let own = [&route.it.pool, &route.it.mirror.as_ref().map(|m| m.pool.clone())];
                let own = own.into_iter().flatten().chain(route.it.failover.as_ref().map(|f| &f.pool));
                own.chain(route.it.split.iter().map(|part| &part.pool)).any(|name| *name == pool.name)
            };
            if let Some(route) = self.routes.iter().find(uses) {
                let key = format!("gateway.pool.{}.send-proxy", pool.name);
                found.wrong(
                    &key,
                    format!("is for pools of tcp listeners; route `{}` uses it for http", route.name),
                );
            }
        }
        // Datagrams have no beginning at which anybody could be told, and no TLS.
        for Named { name, it: listener } in self.listeners.iter().filter(|l| l.it.protocol == Protocol::Udp) {
            let Some(pool) = self.pools.iter().find(|pool| listener.pool.as_ref() == Some(&pool.name)) else {
                continue;
            };
            let wrong = |key: &str, what: &str| {
                let what = format!("{what}; listener `{name}` uses it for udp");
                found.wrong(&format!("gateway.pool.{}.{key}", pool.name), what);
            };
            if told(&pool) {
                wrong("send-proxy", "is for pools of tcp listeners");
            }
            // Probes may still go by TLS.
            if pool.it.tls_name.is_some() && pool.it.health.is_none() {
                wrong("tls-name", "is for upstreams that connections are made to");
            }
        }
        for (at, Named { name, it: listener }) in self.listeners.iter().enumerate() {
            let key = |key: &str| format!("gateway.listener.{name}.{key}");
            if let Some(pool) = &listener.pool {
                exists("pool", &pools, &key("pool"), pool);
            }
            listener
                .sni
                .iter()
                .for_each(|(host, pool)| exists("pool", &pools, &key(&format!("sni.{}", host.0)), pool));
            if listener.proxy_protocol == ProxyProtocol::Required && self.trusted_proxies.is_empty() {
                let what = "is `required`, and gateway.trusted-proxies is empty, so every connection would be refused; name \
                            there the proxies that write the header";
                found.wrong(&key("proxy-protocol"), what.to_owned());
            }
            let udp = |l: &Listener| l.protocol == Protocol::Udp;
            let same = |l: &&Named<Listener>| l.it.address == listener.address && udp(&l.it) == udp(listener);
            if let Some(other) = self.listeners[..at].iter().find(same) {
                found.wrong(
                    &key("address"),
                    format!("is {}, as is that of `{}`", listener.address.0, other.name),
                );
            }
        }
    }
}
