//! A configuration made ready for use: routes compiled, certificates read. Shared by all cores and never changed.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use skep_gate::Config;
use skep_gate::balance::sticky::Secret;
use skep_gate::config::listener::Protocol;
use skep_gate::config::pool::UpstreamProtocol;
use skep_gate::protect::nets::Nets;
use skep_gate::resolve::Origins;
use skep_gate::router::Router;

use crate::Applied;
use crate::auth::{AuthPlan, Sources};
use crate::names::{Directory, Lookups};
use crate::tls::{self, ListenerTls};
use crate::upstream::UpstreamTls;

/// What is in force.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) version: u64,
    /// As it was written.
    written: Arc<Config>,
    /// As it is carried out: addresses in the places of names.
    pub(crate) config: Arc<Config>,
    /// Empty if there are no names.
    origins: Origins,
    pub(crate) lookups: Lookups,
    /// What the cluster signs with.
    pub(crate) secret: Option<Secret>,
    pub(crate) router: Arc<Router>,
    pub(crate) trusted: Nets,
    /// Whether any route asks who may pass; if none does, nobody is asked.
    pub(crate) has_rules: bool,
    /// Who may call; none if no route could ask.
    pub(crate) auth: Option<Arc<AuthPlan>>,
    /// By listener.
    pub(crate) listener_tls: Vec<Option<Arc<ListenerTls>>>,
    /// By pool.
    pub(crate) upstream_tls: Vec<Option<UpstreamTls>>,
}

impl Snapshot {
    /// Compiles a configuration, reading the files that it names and following its URLs.
    ///
    /// # Errors
    /// A sentence about the first thing that is wrong.
    pub(crate) fn compile(
        applied: &Applied,
        sources: &mut Sources,
        directory: &Directory,
    ) -> Result<Snapshot, String> {
        let config = Arc::clone(&applied.config);
        let mut listener_tls = Vec::new();
        for listener in &config.listeners {
            let is_http = listener.it.protocol == Protocol::Http;
            let read = |tls| tls::listener(tls, is_http).map(Arc::new);
            let tls = listener.it.tls.as_ref().map(read).transpose();
            listener_tls.push(tls.map_err(|what| format!("gateway.listener.{}.tls: {what}", listener.name))?);
        }
        let mut upstream_tls = Vec::new();
        for pool in &config.pools {
            let http2 = pool.it.protocol == UpstreamProtocol::Http2;
            let made = pool.it.tls_name.as_ref().map(|name| upstream(name, http2)).transpose();
            upstream_tls.push(made.map_err(|what| format!("gateway.pool.{}.tls-name: {what}", pool.name))?);
        }
        let auth = AuthPlan::compile(&config, sources)?.map(Arc::new);
        let (addressed, origins) = addressed(&config, directory);
        Ok(Snapshot {
            auth,
            version: applied.version,
            secret: applied.secret.clone(),
            router: Arc::new(Router::new(&config)?),
            trusted: Nets::new(&config.trusted_proxies),
            has_rules: config.routes.iter().any(|route| {
                let route = &route.it;
                !(route.limits.is_empty() && route.allow.is_empty() && route.deny.is_empty())
            }),
            listener_tls,
            upstream_tls,
            config: addressed,
            origins,
            lookups: directory.lookups(),
            written: config,
        })
    }

    /// The same with the addresses that names have by now.
    pub(crate) fn with_addresses(&self, directory: &Directory) -> Snapshot {
        let (config, origins) = addressed(&self.written, directory);
        Snapshot { config, origins, ..self.clone() }
    }

    /// The name that an upstream's address was found by.
    pub(crate) fn origin(&self, pool: usize, upstream: usize) -> Option<&Arc<str>> {
        self.origins.get(pool)?.get(upstream)?.as_ref()
    }
}

/// A configuration as it is carried out, and where its addresses are from.
fn addressed(config: &Arc<Config>, directory: &Directory) -> (Arc<Config>, Origins) {
    match directory.expand(config) {
        None => (Arc::clone(config), Vec::new()),
        Some(expanded) => {
            let config = Config { pools: expanded.pools, ..(**config).clone() };
            (Arc::new(config), expanded.origins)
        }
    }
}

impl Snapshot {
    /// True if a file that it names is another than the one that was read.
    pub(crate) fn is_outdated(&self) -> bool {
        let tls = self.listener_tls.iter().flatten().any(|tls| tls.is_outdated());
        tls || self.auth.as_ref().is_some_and(|auth| auth.is_outdated())
    }
}

fn upstream(name: &str, http2: bool) -> Result<UpstreamTls, String> {
    let name =
        ServerName::try_from(name.to_owned()).map_err(|_| format!("`{name}` is no name of a server"))?;
    Ok(UpstreamTls { config: tls::client(http2)?, name })
}
